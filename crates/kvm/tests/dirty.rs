//! The dirty log: what the guest writes is in the dirty bitmaps of whoever asks, once, and nothing else is; on a VM that is
//! only imagined, by a kernel whose log is cleared by hand and by one that clears it when it is read.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flatview::{
    DirtyClient, DirtyRateMeter, Endianness, ListenerPriority, Memory, MemoryError, MemoryListener, Ops,
    RamBlock, Region, RegionId, Section,
};
use flatview_kvm::testing::{Call, FakeVm};
use flatview_kvm::{Capability, KvmMemory};

const PAGE: u64 = 4096;
const ALIAS: u64 = 0x100_0000;

struct Machine {
    memory: Memory,
    vm: Arc<FakeVm>,
    _kvm: KvmMemory,
    ram: RegionId,
    block: Arc<RamBlock>,
}

/// 300 pages of RAM at 0, logged for the display, all clean; pages 100 to 299 again at `ALIAS`.
fn machine(vm: FakeVm) -> Machine {
    let memory = Memory::new(Endianness::Little);
    let vm = Arc::new(vm);
    let block = RamBlock::anonymous("ram", 300 * PAGE).unwrap();
    let ram = memory.add(Region::ram("ram", Arc::clone(&block))).unwrap();
    let alias = memory.add(Region::alias("alias", ram, 100 * PAGE, (200 * PAGE).into())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    memory.map(memory.system(), ALIAS, alias).unwrap();
    let kvm = KvmMemory::new(Arc::clone(&vm), &memory).unwrap();
    memory.set_log(ram, DirtyClient::VGA, true).unwrap();
    memory.reset_dirty(ram, 0, 300 * PAGE, DirtyClient::VGA).unwrap();
    Machine { memory, vm, _kvm: kvm, ram, block }
}

/// A kernel of each kind.
fn machines() -> [Machine; 2] {
    [machine(FakeVm::new()), machine(FakeVm::new().without(Capability::ManualDirtyLogProtect2))]
}

impl Machine {
    /// Pages that are dirty for a client, of these; they are clean then.
    fn take_for(&self, client: DirtyClient, first: u64, pages: u64) -> Vec<u64> {
        let snapshot =
            self.memory.snapshot_and_clear_dirty(self.ram, first * PAGE, pages * PAGE, client).unwrap();
        snapshot.runs().flat_map(|run| run.start / PAGE..run.end / PAGE).collect()
    }
    fn take(&self, first: u64, pages: u64) -> Vec<u64> {
        self.take_for(DirtyClient::VGA, first, pages)
    }
    fn writes(&self, pages: impl IntoIterator<Item = u64>) {
        pages.into_iter().for_each(|page| assert!(self.vm.guest_writes(page * PAGE + 8)));
    }
}

#[test]
fn what_the_guest_writes_is_told_once() {
    for m in machines() {
        assert_eq!(m.take(0, 300), []);
        m.writes([0, 1, 63, 64, 130, 299]);
        assert_eq!(m.take(0, 300), [0, 1, 63, 64, 130, 299]);
        assert_eq!(m.take(0, 300), []);
        m.writes([64]);
        assert_eq!(m.take(0, 300), [64]);
        assert_eq!(m.take(0, 300), []);
    }
}

#[test]
fn writes_through_either_alias_are_writes_to_the_same_page() {
    for m in machines() {
        assert!(m.vm.guest_writes(ALIAS + 5 * PAGE));
        m.writes([7]);
        assert_eq!(m.take(0, 300), [7, 105]);
        assert_eq!(m.take(0, 300), []);
        // Also where another region shows the same block: it is the block that is dirty.
        let window = m.memory.add(Region::ram("window", Arc::clone(&m.block)).window(0, 4 * PAGE)).unwrap();
        m.memory.map(m.memory.system(), 0x200_0000, window).unwrap();
        m.memory.set_log(window, DirtyClient::VGA, true).unwrap();
        assert!(m.vm.guest_writes(0x200_0000 + 2 * PAGE));
        assert_eq!(m.take(0, 300), [2]);
        assert_eq!(m.take(0, 300), []);
    }
}

#[test]
fn taking_a_part_leaves_the_neighbours() {
    for m in machines() {
        m.writes([10, 11, 12, 13, 14, 200]);
        m.vm.take_calls();
        assert_eq!(m.take(11, 2), [11, 12]);
        let cleared = m.vm.take_calls().into_iter().filter_map(|call| match call {
            Call::ClearDirtyLog(_, bits) => Some(bits),
            _ => None,
        });
        assert!(matches!(cleared.collect::<Vec<_>>()[..], [] | [2]), "exactly the two");
        assert_eq!(m.take(11, 2), [], "they were taken, though KVM clears in runs of 64");
        m.writes([12]);
        assert_eq!(m.take(10, 5), [10, 12, 13, 14]);
        assert_eq!(m.take(0, 300), [200]);
        assert_eq!(m.take(0, 300), []);
    }
}

#[test]
fn what_one_client_takes_the_other_still_has() {
    for m in machines() {
        let client = m.memory.allocate_dirty_client("second").unwrap();
        m.memory.set_log(m.ram, client, true).unwrap();
        m.memory.reset_dirty(m.ram, 0, 300 * PAGE, client).unwrap();
        m.writes([3, 70]);
        assert_eq!(m.take(0, 300), [3, 70]);
        m.writes([4]);
        assert_eq!(m.take_for(client, 0, 300), [3, 4, 70]);
        assert_eq!(m.take(0, 300), [4]);
        assert_eq!(m.take_for(client, 0, 300), []);
    }
}

#[test]
fn a_reset_forgets_what_was_written_before_and_nobody_had_asked_for() {
    for m in machines() {
        m.writes([1, 2, 3]);
        m.memory.reset_dirty(m.ram, 0, 300 * PAGE, DirtyClient::VGA).unwrap();
        assert_eq!(m.take(0, 300), []);
        m.writes([2]);
        assert!(m.memory.test_and_clear_dirty(m.ram, 0, 300 * PAGE, DirtyClient::VGA).unwrap());
        assert!(!m.memory.test_and_clear_dirty(m.ram, 0, 300 * PAGE, DirtyClient::VGA).unwrap());
    }
}

#[test]
fn a_list_of_new_pages_has_each_once() {
    for m in machines() {
        m.memory.list_newly_dirty(m.ram, DirtyClient::VGA, 100).unwrap();
        for page in [5, 66, 67, 250] {
            m.writes([page]);
            let taken = m.memory.take_newly_dirty(m.ram, DirtyClient::VGA).unwrap();
            assert_eq!((taken.offsets, taken.complete), (vec![page * PAGE], true));
        }
        assert!(m.memory.take_newly_dirty(m.ram, DirtyClient::VGA).unwrap().offsets.is_empty());
    }
}

#[test]
fn the_dirty_rate_counts_what_is_written_while_it_is_measured() {
    for m in machines() {
        m.writes(0..100);
        let meter = DirtyRateMeter::start(&m.memory).unwrap();
        m.writes([3, 4, 4, 299]);
        assert_eq!(meter.finish(Duration::from_secs(1)).unwrap().pages, 3);
    }
}

/// The guest writes a page between a client's question and its answer.
struct Meanwhile {
    vm: Arc<FakeVm>,
    writes: Mutex<Vec<u64>>,
}

impl MemoryListener for Meanwhile {
    fn name(&self) -> &str {
        "meanwhile"
    }
    fn priority(&self) -> ListenerPriority {
        ListenerPriority(ListenerPriority::ACCEL.0 + 1)
    }
    fn log_sync(&self, _: &Section) {
        for page in std::mem::take(&mut *self.writes.lock().unwrap()) {
            assert!(self.vm.guest_writes(page * PAGE));
        }
    }
}

#[test]
fn a_page_written_between_the_question_and_the_clearing_is_not_lost() {
    for m in machines() {
        let meanwhile = Arc::new(Meanwhile { vm: Arc::clone(&m.vm), writes: Mutex::default() });
        m.memory.add_listener(meanwhile.clone()).unwrap();
        m.writes([5]);
        meanwhile.writes.lock().unwrap().extend([5, 6, 70]);
        // Page 5 was known, so whoever takes it reads what was written meanwhile. The others were not.
        let taken = m.take(0, 300);
        assert!(taken == [5], "{taken:?}");
        let later = m.take(0, 300);
        assert!(later == [6, 70] || later == [5, 6, 70], "{later:?}");
        assert_eq!(m.take(0, 300), []);
    }
}

#[test]
fn what_a_slot_knows_is_noted_before_it_goes() {
    for m in machines() {
        let device = m.memory.add(Region::io("device", PAGE.into(), Ops::new())).unwrap();
        m.writes([1, 50, 299]);
        assert!(m.vm.guest_writes(ALIAS));
        m.memory.update(|t| t.map_overlap(m.memory.system(), 20 * PAGE, device, 1)).unwrap();
        m.writes([2]);
        m.memory.update(|t| t.unmap(m.memory.system(), m.ram)).unwrap();
        assert_eq!(m.take(0, 300), [1, 2, 50, 100, 299]);
        assert_eq!(m.take(0, 300), []);
    }
}

#[test]
fn what_a_log_knows_is_noted_before_it_ends_and_the_next_one_begins_with_nothing() {
    for m in machines() {
        m.writes([1, 2]);
        m.memory.set_log(m.ram, DirtyClient::VGA, false).unwrap();
        m.writes([3]);
        m.memory.set_log(m.ram, DirtyClient::VGA, true).unwrap();
        m.writes([4]);
        assert_eq!(m.take(0, 300), [1, 2, 4]);
    }
}

#[test]
fn a_change_that_fails_loses_no_write() {
    for m in machines() {
        let device = m.memory.add(Region::io("device", PAGE.into(), Ops::new())).unwrap();
        let change = |on: bool| {
            m.memory.update(|t| match on {
                true => t.map_overlap(m.memory.system(), 20 * PAGE, device, 1),
                false => t.unmap(m.memory.system(), device),
            })
        };
        for n in 1.. {
            m.writes([n, 40]);
            m.vm.fail_at(n);
            let changed = change(true);
            let came = !m.vm.is_failing();
            m.vm.fail_at(0);
            assert_eq!(m.take(0, 300), [n, 40]);
            if !came {
                changed.unwrap();
                assert!(n > 3, "it was never in the middle");
                break;
            }
            assert!(matches!(changed, Err(MemoryError::ListenerFailed { .. })));
        }
    }
}

#[test]
fn a_slot_that_was_there_for_a_moment_is_asked_what_it_knows() {
    for m in machines() {
        let device = m.memory.add(Region::io("device", PAGE.into(), Ops::new())).unwrap();
        m.vm.guest_waits_at(Some(5 * PAGE));
        // The old slot's log is read, it is deleted, the first of the new ones is made, and the second is not.
        m.vm.fail_at(4);
        let change =
            |t: &mut flatview::Transaction<'_>| t.map_overlap(m.memory.system(), 20 * PAGE, device, 1);
        m.memory.update(change).unwrap_err();
        assert!(!m.vm.is_failing());
        let shown = m.memory.memory_space().view().unwrap();
        assert_eq!(shown.lookup(5 * PAGE).unwrap().last(), 300 * PAGE - 1);
        assert_eq!(m.take(0, 300), [5]);
    }
}

#[test]
fn where_the_kernel_does_not_answer_everything_may_have_been_written() {
    for m in machines() {
        m.vm.fail_at(1);
        assert_eq!(m.take(0, 300).len(), 300);
        assert_eq!(m.take(0, 300), []);
        // Where it does not forget, a page is dirty once too often, and none is missed.
        m.writes([9]);
        m.vm.fail_at(3);
        assert_eq!(m.take(0, 300), [9]);
        m.vm.fail_at(0);
        let again = m.take(0, 300);
        assert!(again == [9] || again.is_empty(), "{again:?}");
        assert_eq!(m.take(0, 300), []);
    }
}
