//! Which slots KVM gets, one rule a test; on a VM that is only imagined.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use flatview::{
    DirtyClient, Endianness, EventNotifier, HostBuffer, IoEventFd, ListenerError, Memory, MemoryError,
    MemoryListener, Ops, RamBlock, Region, RegionId, mtree,
};
use flatview_kvm::testing::{Call, FakeVm, Picture};
use flatview_kvm::{Capability, KvmError, KvmMemory, VcpuGate};

const PAGE: u64 = 4096;

struct Machine {
    memory: Memory,
    vm: Arc<FakeVm>,
    kvm: KvmMemory,
}

fn machine(vm: FakeVm) -> Machine {
    let memory = Memory::new(Endianness::Little);
    let vm = Arc::new(vm);
    let kvm = KvmMemory::new(Arc::clone(&vm), &memory).unwrap();
    Machine { memory, vm, kvm }
}

impl Machine {
    fn ram(&self, name: &str, pages: u64, at: u64) -> RegionId {
        self.region(Region::ram(name, RamBlock::anonymous(name, pages * PAGE).unwrap()), at, 0)
    }
    fn region(&self, region: Region, at: u64, priority: i32) -> RegionId {
        let add = |t: &mut flatview::Transaction<'_>| {
            let id = t.add(region)?;
            t.map_overlap(self.memory.system(), at, id, priority)?;
            Ok::<_, MemoryError>(id)
        };
        self.memory.update(add).unwrap()
    }
    /// Address and size of each slot, in pages, and `r` for read-only ones, `l` for logged ones.
    fn slots(&self) -> Vec<String> {
        let slots = self.kvm.slots();
        let picture = self.vm.picture();
        assert_eq!(slots.len(), picture.slots.len());
        let text = |s: &flatview_kvm::SlotInfo| {
            let told = picture.slots.iter().find(|t| t.slot == s.number).unwrap();
            assert_eq!(
                (told.guest_addr, told.size, told.readonly, told.log),
                (s.addr, s.size, s.readonly, s.log)
            );
            assert_eq!(told.host_addr, s.block.host().as_ptr() as u64 + s.offset);
            let (mark_r, mark_l) = (if s.readonly { " r" } else { "" }, if s.log { " l" } else { "" });
            format!("{}+{}{mark_r}{mark_l}", s.addr / PAGE, s.size / PAGE)
        };
        slots.iter().map(text).collect()
    }
}

#[test]
fn ram_rom_and_rom_devices_are_slots_and_devices_are_not() {
    let m = machine(FakeVm::new());
    m.ram("ram", 16, 0);
    let block = |name: &str| RamBlock::anonymous(name, 4 * PAGE).unwrap();
    m.region(Region::rom("rom", block("rom")), 0x2_0000, 0);
    let flash = m.region(Region::rom_device("flash", block("flash"), Ops::new()), 0x3_0000, 0);
    m.region(Region::ram_device("bar", block("bar")), 0x4_0000, 0);
    m.region(Region::io("io", 0x1000, Ops::new()), 0x5_0000, 0);
    m.region(Region::reservation("hole", 0x1000), 0x6_0000, 0);
    assert_eq!(m.slots(), ["0+16", "32+4 r", "48+4 r", "64+4"]);
    // In command mode a ROM device answers reads itself.
    m.memory.update(|t| t.set_romd(flash, false)).unwrap();
    assert_eq!(m.slots(), ["0+16", "32+4 r", "64+4"]);
}

#[test]
fn a_read_only_alias_is_a_read_only_slot_of_the_same_memory() {
    let m = machine(FakeVm::new());
    let ram = m.ram("ram", 16, 0);
    let alias = m.region(Region::alias("alias", ram, 4 * PAGE, (4 * PAGE).into()), 0x10_0000, 0);
    assert_eq!(m.slots(), ["0+16", "256+4"]);
    m.vm.take_calls();
    m.memory.update(|t| t.set_readonly(alias, true)).unwrap();
    assert_eq!(m.slots(), ["0+16", "256+4 r"]);
    let calls = m.vm.take_calls();
    assert!(matches!(calls[..], [Call::Delete(a), Call::Create(b)] if a == b.slot), "{calls:?}");
    let slots = m.kvm.slots();
    assert!(Arc::ptr_eq(&slots[0].block, &slots[1].block));
    assert_eq!(slots[1].offset, 4 * PAGE);
}

#[test]
fn a_slot_has_the_whole_pages_and_the_rest_is_left_to_exits() {
    let m = machine(FakeVm::new());
    let ram = m.ram("ram", 16, 0);
    // A register in the middle of a page: the page is nobody's slot.
    let uart = m.region(Region::io("uart", 8, Ops::new()), 5 * PAGE + 0x3f8, 1);
    assert_eq!(m.slots(), ["0+5", "6+10"]);
    m.memory.update(|t| t.set_address(uart, 5 * PAGE)).unwrap();
    assert_eq!(m.slots(), ["0+5", "6+10"]);
    // Less than a page, and a page that is not whole anywhere.
    m.region(Region::alias("small", ram, 0, 0xfff), 0x10_0000, 0);
    m.region(Region::alias("across", ram, 0x800, 0x1000), 0x10_1800, 0);
    assert_eq!(m.slots(), ["0+5", "6+10"]);
    m.region(Region::alias("inner", ram, 0x800, 0x2000), 0x20_0800, 0);
    assert_eq!(m.slots(), ["0+5", "6+10", "513+1"]);
    assert_eq!(m.kvm.slots()[2].offset, PAGE);
}

#[test]
fn memory_that_is_aligned_otherwise_than_the_guest_sees_it_is_left_to_exits() {
    let m = machine(FakeVm::new());
    let ram = m.ram("ram", 16, 0);
    let alias = m.region(Region::alias("askew", ram, 0x800, 0x4000), 0x10_0000, 0);
    assert_eq!(m.slots(), ["0+16"]);
    let reader = m.memory.memory_space().reader();
    reader.store::<flatview::Le, u32>(0x800, 7).unwrap();
    assert_eq!(reader.load::<flatview::Le, u32>(0x10_0000).unwrap(), 7);
    m.memory.update(|t| t.set_alias_offset(alias, 0x1000)).unwrap();
    assert_eq!(m.slots(), ["0+16", "256+4"]);
}

/// A buffer that does not begin at a page.
struct Askew(Box<[u64]>, usize);

// It is what HostBuffer asks for: the boxed words stay where they are.
#[expect(unsafe_code, reason = "the trait is unsafe")]
// SAFETY: the box is never moved out of nor handed out while the block has it.
unsafe impl HostBuffer for Askew {
    fn ptr(&self) -> std::ptr::NonNull<u8> {
        // SAFETY: inside the box: `new` leaves a page at the end.
        unsafe { std::ptr::NonNull::from(&*self.0).cast::<u8>().add(self.1) }
    }
    fn len(&self) -> usize {
        8 * PAGE as usize
    }
}

#[test]
fn a_callers_buffer_is_a_slot_where_its_pages_are_the_guests() {
    let words = vec![0_u64; 10 * PAGE as usize / 8].into_boxed_slice();
    let to_page = (words.as_ptr() as usize).wrapping_neg() % PAGE as usize;
    let block = RamBlock::from_buffer("buffer", Askew(words, to_page + 0x200)).unwrap();
    let m = machine(FakeVm::new());
    m.region(Region::ram("askew", Arc::clone(&block)), 0x10_0000, 0);
    assert!(m.slots().is_empty());
    m.region(Region::ram("even", block), 0x20_0200, 0);
    assert_eq!(m.slots(), ["513+7"]);
    assert_eq!(m.kvm.slots()[0].offset, 0xe00);
}

#[test]
fn a_kernel_without_read_only_slots_serves_rom_through_exits() {
    let m = machine(FakeVm::new().without(Capability::ReadonlyMem));
    m.ram("ram", 4, 0);
    let block = RamBlock::anonymous("rom", 4 * PAGE).unwrap();
    m.region(Region::rom("rom", block), 0x2_0000, 0);
    assert_eq!(m.slots(), ["0+4"]);
}

#[test]
fn memory_larger_than_a_slot_can_be_is_cut() {
    let m = machine(FakeVm::new().with_max_slot_pages(10));
    m.ram("ram", 32, 0x1000);
    assert_eq!(m.slots(), ["1+10", "11+10", "21+10", "31+2"]);
    let offsets: Vec<_> = m.kvm.slots().iter().map(|s| s.offset / PAGE).collect();
    assert_eq!(offsets, [0, 10, 20, 30]);
    // KVM's own limit is cut at whole gigabytes, so that huge pages stay whole.
    let m = machine(FakeVm::new());
    let block = RamBlock::builder("huge", 9 << 40).reserve(false).build();
    // A host may have less room for addresses; then there is nothing to see.
    if let Ok(block) = block {
        m.region(Region::ram("huge", block), 0, 0);
        assert_eq!(m.slots(), ["0+2147221504", "2147221504+268697600"]);
        assert_eq!(m.kvm.slots()[1].addr % (1 << 30), 0);
    }
}

#[test]
fn only_what_differs_is_touched() {
    let m = machine(FakeVm::new());
    for n in 0..20 {
        m.ram(&format!("ram{n}"), 4, n << 20);
    }
    m.vm.take_calls();
    let device = m.region(Region::io("device", 0x1000, Ops::new()), 0x30_1000, 1);
    let calls = m.vm.take_calls();
    let made = |c: &Call| matches!(c, Call::Create(s) if s.guest_addr >> 20 == 3);
    assert!(matches!(calls[0], Call::Delete(_)));
    assert!(calls.len() == 3 && calls[1..].iter().all(made), "{calls:?}");
    // A change where there is no memory, or that shows the same memory in another way, touches nothing.
    m.region(Region::io("other", 0x1000, Ops::new()), 0x38_0000, 1);
    m.memory.update(|t| t.set_address(device, 0x30_1000)).unwrap();
    m.memory.update(|t| t.set_priority(device, 3)).unwrap();
    assert_eq!(m.vm.take_calls(), []);
    m.memory.update(|t| t.set_enabled(device, false)).unwrap();
    assert_eq!(m.vm.take_calls().len(), 3, "two go, one comes");
}

#[test]
fn the_same_memory_through_another_region_keeps_its_slot() {
    let m = machine(FakeVm::new());
    let block = RamBlock::anonymous("block", 4 * PAGE).unwrap();
    let first = m.region(Region::ram("first", Arc::clone(&block)), 0, 0);
    m.vm.take_calls();
    m.region(Region::ram("second", block), 0, 1);
    m.memory.update(|t| t.set_nonvolatile(first, true)).unwrap();
    m.memory.update(|t| t.unmap(m.memory.system(), first)).unwrap();
    assert_eq!(m.vm.take_calls(), []);
}

#[test]
fn starting_and_stopping_a_log_changes_the_slot_where_it_is() {
    let m = machine(FakeVm::new());
    let ram = m.ram("ram", 8, 0);
    m.region(Region::rom("rom", RamBlock::anonymous("rom", PAGE).unwrap()), 0x10_0000, 0);
    m.vm.take_calls();
    m.memory.set_log(ram, DirtyClient::VGA, true).unwrap();
    assert_eq!(m.slots(), ["0+8 l", "256+1 r"]);
    m.memory.start_global_log(flatview::GlobalLog::MIGRATION).unwrap();
    m.memory.set_log(ram, DirtyClient::VGA, false).unwrap();
    assert_eq!(m.slots(), ["0+8 l", "256+1 r"], "one client still logs it");
    m.memory.stop_global_log(flatview::GlobalLog::MIGRATION).unwrap();
    assert_eq!(m.slots(), ["0+8", "256+1 r"]);
    let calls: Vec<_> =
        m.vm.take_calls().into_iter().filter(|c| !matches!(c, Call::GetDirtyLog(_))).collect();
    assert!(matches!(calls[..], [Call::SetLog(on), Call::SetLog(off)] if on.log && !off.log), "{calls:?}");
}

#[test]
fn numbers_of_slots_are_used_again() {
    let m = machine(FakeVm::new().with_slots(3));
    for _ in 0..10 {
        let a = m.ram("a", 1, 0);
        m.ram("b", 1, 0x10_0000);
        m.ram("c", 1, 0x20_0000);
        assert_eq!(m.slots().len(), 3);
        for id in [a, m.memory.find(m.memory.system(), 0x10_0000, 1).unwrap().unwrap().region] {
            m.memory.update(|t| t.unmap(m.memory.system(), id)).unwrap();
        }
        let c = m.memory.find(m.memory.system(), 0x20_0000, 1).unwrap().unwrap().region;
        m.memory.update(|t| t.unmap(m.memory.system(), c)).unwrap();
        assert!(m.slots().is_empty());
    }
}

#[test]
fn a_change_that_needs_too_many_slots_names_the_region_the_numbers_and_the_cure() {
    let m = machine(FakeVm::new().with_slots(2));
    m.ram("low", 4, 0);
    let device = m.memory.add(Region::io("device", 0x1000, Ops::new())).unwrap();
    let high = RamBlock::anonymous("high", PAGE).unwrap();
    m.region(Region::ram("high", high), 0x10_0000, 0);
    let before = m.vm.picture();
    m.vm.take_calls();
    let error = m.memory.update(|t| t.map_overlap(m.memory.system(), 0x1000, device, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Listener 'kvm-memory' cannot follow the change: No KVM memory slot is left for 'low' at 0x2000: the map needs \
         3, and there are 2. Map RAM in fewer and larger pieces: each overlay, alias or read-only window in the middle of \
         RAM makes three slots of one"
    );
    assert_eq!((m.vm.picture(), m.vm.take_calls()), (before, vec![]));
    // As many as there are, though more while they change: those that go go first.
    m.memory.update(|t| t.map_overlap(m.memory.system(), 0x3000, device, 1)).unwrap();
    assert_eq!(m.slots(), ["0+3", "256+1"]);
}

#[test]
fn memory_above_what_the_host_maps_is_refused_with_its_name_and_nothing_is_changed() {
    let m = machine(FakeVm::new().with_address_bits(40));
    m.ram("low", 4, 0);
    let before = m.vm.picture();
    let block = RamBlock::anonymous("high", PAGE).unwrap();
    let add = |t: &mut flatview::Transaction<'_>| {
        let high = t.add(Region::ram("high", block))?;
        t.map(m.memory.system(), 1 << 40, high)
    };
    let text = m.memory.update(add).unwrap_err().to_string();
    assert!(text.contains("'high' at 0x10000000000") && text.contains("highest address"), "{text}");
    assert_eq!(m.vm.picture(), before);
}

#[test]
fn a_slot_that_somebody_else_made_is_not_touched() {
    let memory = Memory::new(Endianness::Little);
    let vm = Arc::new(FakeVm::new().with_slots(8));
    let other = Memory::new(Endianness::Little);
    let their =
        KvmMemory::builder(Arc::clone(&vm), &other, other.memory_space().id()).slots(4..8).build().unwrap();
    let ram = other.add(Region::ram("theirs", RamBlock::anonymous("theirs", PAGE).unwrap())).unwrap();
    other.map(other.system(), 0x1000, ram).unwrap();
    let ours =
        KvmMemory::builder(Arc::clone(&vm), &memory, memory.memory_space().id()).slots(0..4).build().unwrap();
    let ram = memory.add(Region::ram("ours", RamBlock::anonymous("ours", 4 * PAGE).unwrap())).unwrap();
    let text = memory.map(memory.system(), 0, ram).unwrap_err().to_string();
    assert!(text.contains("Somebody else has a slot there"), "{text}");
    memory.map(memory.system(), 0x10_0000, ram).unwrap();
    assert_eq!((ours.slots()[0].number, their.slots()[0].number), (0, 4));
    drop(ours);
    assert_eq!(vm.picture().slots.len(), 1);
}

#[test]
fn a_space_or_a_slot_number_that_is_not_there_is_a_typed_error() {
    let bare = Memory::builder(Endianness::Little).bare().build();
    let vm = Arc::new(FakeVm::new().with_slots(8));
    let none = KvmMemory::new(Arc::clone(&vm), &bare);
    assert!(matches!(none, Err(KvmError::Memory(MemoryError::StaleSpace))), "{none:?}");
    let memory = Memory::new(Endianness::Little);
    let high = KvmMemory::builder(Arc::clone(&vm), &memory, memory.memory_space().id()).slots(8..16).build();
    assert!(matches!(high, Err(KvmError::NoSlots { first: 8, last: 7 })), "{high:?}");
    assert!(memory.listeners().is_empty() && vm.picture() == Picture::default());
}

#[test]
fn system_management_mode_has_slots_of_its_own() {
    let memory = Memory::new(Endianness::Little);
    let vm = Arc::new(FakeVm::new());
    let kvm = KvmMemory::new(Arc::clone(&vm), &memory).unwrap();
    let root = memory.add(Region::container("smm", 1 << 32)).unwrap();
    let smm = memory.address_space("smm", root).unwrap();
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 4 * PAGE).unwrap())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    let alias = memory.add(Region::alias("ram in smm", ram, 0, (4 * PAGE).into())).unwrap();
    memory.map(root, 0, alias).unwrap();
    let second = KvmMemory::builder(Arc::clone(&vm), &memory, smm.id()).address_space(1).build().unwrap();
    assert_eq!((kvm.slots()[0].number, second.slots()[0].number), (0, 1 << 16));
    assert_eq!(vm.picture().slots.len(), 2);
    let third = KvmMemory::builder(vm, &memory, smm.id()).address_space(2).build();
    assert!(matches!(third, Err(KvmError::NoAddressSpace { wanted: 2, have: 2 })));
}

#[test]
fn dropping_it_takes_everything_back() {
    let notifier = Arc::new(EventNotifier::new().unwrap());
    let Machine { memory, vm, kvm } = machine(FakeVm::new());
    let ring = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&ring, 4096).unwrap();
    kvm.collect_writes_in(ring.as_fd()).unwrap();
    let build = |t: &mut flatview::Transaction<'_>| {
        let ram = t.add(Region::ram("ram", RamBlock::anonymous("ram", 4 * PAGE).unwrap()))?;
        let io = t.add(Region::io("io", 0x100, Ops::new()))?;
        let port = t.add(Region::io("port", 8, Ops::new()))?;
        t.map(memory.system(), 0, ram)?;
        t.map(memory.system(), 0x10_0000, io)?;
        t.map(memory.io(), 0x70, port)?;
        t.add_eventfd(io, 0, 4, None, &notifier)?;
        t.add_coalescing(io, 0x10, 8)?;
        t.add_eventfd(port, 1, 1, Some(3), &notifier)?;
        t.add_coalescing(port, 4, 4)
    };
    memory.update(build).unwrap();
    assert_eq!(kvm.eventfds(), [(false, 0x10_0000, 4, None), (true, 0x71, 1, Some(3))]);
    assert_eq!(kvm.collected(), [(false, 0x10_0010, 8), (true, 0x74, 4)]);
    let picture = vm.picture();
    assert_eq!((picture.slots.len(), picture.eventfds.len(), picture.zones.len()), (1, 2, 2));
    drop(kvm);
    assert_eq!(vm.picture(), Picture::default());
    assert!(memory.listeners().is_empty());
    // Inside a change it cannot leave the listeners, and takes everything back all the same.
    let kvm = KvmMemory::new(Arc::clone(&vm), &memory).unwrap();
    assert_eq!(vm.picture().slots.len(), 1);
    let detached = memory.update(|_| Ok::<_, MemoryError>(kvm.detach())).unwrap();
    assert!(matches!(detached, Err(KvmError::Memory(MemoryError::ListenerInsideUpdate))));
    assert_eq!(vm.picture(), Picture::default());
    let more = memory.add(Region::ram("more", RamBlock::anonymous("more", PAGE).unwrap())).unwrap();
    memory.map(memory.system(), 0x20_0000, more).unwrap();
    assert_eq!(vm.picture(), Picture::default(), "it follows no more");
}

#[test]
fn a_memory_that_kvm_does_not_take_leaves_nothing_in_it() {
    let memory = Memory::new(Endianness::Little);
    for n in 0..5 {
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", PAGE).unwrap())).unwrap();
        memory.map(memory.system(), n << 20, ram).unwrap();
    }
    for n in 1..=5 {
        let vm = Arc::new(FakeVm::new());
        vm.fail_at(n);
        let kvm = KvmMemory::new(Arc::clone(&vm), &memory);
        assert!(matches!(kvm, Err(KvmError::Memory(MemoryError::ListenerFailed { .. }))));
        assert_eq!(vm.picture(), Picture::default());
        assert!(memory.listeners().is_empty());
    }
    let few = KvmMemory::new(Arc::new(FakeVm::new().with_slots(4)), &memory);
    assert!(few.unwrap_err().to_string().contains("needs 5, and there are 4"));
}

#[test]
fn a_kernel_that_fails_from_now_on_marks_the_listener_and_keeps_the_memory() {
    let m = machine(FakeVm::new());
    let block = RamBlock::anonymous("ram", 4 * PAGE).unwrap();
    let ram = m.region(Region::ram("ram", Arc::clone(&block)), 0, 0);
    m.ram("other", 4, 0x10_0000);
    m.vm.fail_from(2);
    let device = m.memory.add(Region::io("device", 0x1000, Ops::new())).unwrap();
    let error = m.memory.update(|t| t.map_overlap(m.memory.system(), 0x1000, device, 1)).unwrap_err();
    assert!(matches!(error, MemoryError::ListenerBroken { .. }), "{error}");
    assert!(m.memory.listeners().iter().any(|l| l.failed.is_some()));
    m.memory.update(|t| t.unmap(m.memory.system(), ram)).unwrap();
    m.memory.update(|t| t.remove(ram)).unwrap();
    let keepers = Arc::strong_count(&block);
    // The slot of the other memory cannot be deleted, so its memory is never given back.
    let kept = m.kvm.slots();
    assert_eq!(kept.len(), 1);
    let weak = Arc::downgrade(&kept[0].block);
    drop(kept);
    let error = m.kvm.detach().unwrap_err();
    assert!(error.to_string().contains("'other'"), "{error}");
    drop(m.memory);
    assert!(weak.upgrade().is_some());
    assert!(keepers >= 1);
}

#[derive(Default)]
struct Gate(Mutex<Vec<&'static str>>);

impl VcpuGate for Gate {
    fn pause(&self) {
        self.0.lock().unwrap().push("pause");
    }
    fn resume(&self) {
        self.0.lock().unwrap().push("resume");
    }
}

impl Gate {
    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn vcpus_are_kept_out_only_while_memory_they_may_be_in_is_replaced() {
    let memory = Memory::new(Endianness::Little);
    let (vm, gate) = (Arc::new(FakeVm::new()), Arc::new(Gate::default()));
    let builder = KvmMemory::builder(Arc::clone(&vm), &memory, memory.memory_space().id());
    let _kvm = builder.gate(gate.clone()).build().unwrap();
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 8 * PAGE).unwrap())).unwrap();
    let device = memory.add(Region::io("device", 0x1000, Ops::new())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    memory.update(|t| t.set_address(ram, 0x10_0000)).unwrap();
    assert!(gate.take().is_empty(), "memory that comes or goes is not replaced");
    memory.update(|t| t.map_overlap(memory.system(), 0x10_2000, device, 1)).unwrap();
    assert_eq!(gate.take(), ["pause", "resume"]);
    memory.set_log(ram, DirtyClient::VGA, true).unwrap();
    assert!(gate.take().is_empty(), "the slots stay");
    memory.update(|t| t.unmap(memory.system(), ram)).unwrap();
    assert_eq!(gate.take(), ["pause", "resume"], "what is written in the last moment is noted");
    memory.map(memory.system(), 0, ram).unwrap();
    vm.fail_at(3);
    memory.update(|t| t.set_address(device, 0x1000)).unwrap_err();
    assert_eq!(
        gate.take(),
        ["pause", "resume"],
        "also when it fails; that nothing is left to take back is noticed"
    );
}

#[test]
fn info_mtree_marks_the_ranges_that_kvm_has() {
    let m = machine(FakeVm::new());
    let ram = m.ram("ram", 16, 0);
    m.region(Region::io("uart", 8, Ops::new()), 5 * PAGE + 0x3f8, 1);
    m.region(Region::alias("mirror", ram, 0, (2 * PAGE).into()), 0x10_0000, 0);
    let other = m.memory.address_space("other", m.memory.system()).unwrap();
    let has = |space, range: &flatview::FlatRange| {
        m.kvm.has_memory(space, range.start(), u128::from(range.last()) - u128::from(range.start()) + 1)
    };
    let options = mtree::Options { flat: true, ..mtree::Options::default() };
    let document = mtree::write_accelerated(&m.memory, options, &has).unwrap().to_string();
    let marked: Vec<_> = document.lines().filter(|l| l.ends_with(" KVM")).collect();
    assert_eq!(marked, ["  0000000000100000-0000000000101fff (prio 0, ram): ram KVM"]);
    assert!(!m.kvm.has_memory(other.id(), 0x10_0000, 0x2000), "that space is not KVM's");
    let read = mtree::Document::parse("text", document.as_bytes()).unwrap();
    assert_eq!(read.to_string(), document);
}

#[test]
fn an_ioeventfd_is_matched_as_the_host_reads_what_a_cpu_of_the_target_stores() {
    use flatview::{AccessRules, DeviceEndian};
    let m = machine(FakeVm::new());
    let notifier = Arc::new(EventNotifier::new().unwrap());
    for (at, endian) in [(0x1000, DeviceEndian::Little), (0x2000, DeviceEndian::Big)] {
        let io =
            m.region(Region::io("io", 0x100, Ops::new().rules(AccessRules::new().endian(endian))), at, 0);
        m.memory.update(|t| t.add_eventfd(io, 0, 2, Some(0x1122), &notifier)).unwrap();
    }
    // A little-endian CPU's store of 0x1122 is the same bytes, whatever the device makes of them.
    let as_read = if cfg!(target_endian = "little") { 0x1122 } else { 0x2211 };
    assert_eq!(m.kvm.eventfds(), [(false, 0x1000, 2, Some(as_read)), (false, 0x2000, 2, Some(as_read))]);
}

#[test]
fn an_ioeventfd_that_another_region_shows_from_now_on_stays() {
    let m = machine(FakeVm::new());
    let notifier = Arc::new(EventNotifier::new().unwrap());
    let first = m.region(Region::io("first", 8, Ops::new()), 0x1000, 0);
    let second = m.memory.add(Region::io("second", 8, Ops::new())).unwrap();
    for id in [first, second] {
        m.memory.update(|t| t.add_eventfd(id, 0, 4, None, &notifier)).unwrap();
    }
    m.vm.take_calls();
    let over = |t: &mut flatview::Transaction<'_>| t.map_overlap(m.memory.system(), 0x1000, second, 1);
    m.memory.update(over).unwrap();
    m.memory.update(|t| t.unmap(m.memory.system(), second)).unwrap();
    assert_eq!(m.vm.take_calls(), []);
    assert_eq!(m.kvm.eventfds(), [(false, 0x1000, 4, None)]);
    m.memory.update(|t| t.unmap(m.memory.system(), first)).unwrap();
    assert_eq!(m.kvm.eventfds(), []);
}

#[test]
fn a_write_that_begins_in_another_device_does_not_signal() {
    let m = machine(FakeVm::new());
    let notifier = Arc::new(EventNotifier::new().unwrap());
    let io = m.region(Region::io("io", 0x100, Ops::new()), 0x1000, 0);
    m.memory.update(|t| t.add_eventfd(io, 0x10, 4, None, &notifier)).unwrap();
    assert_eq!(m.kvm.eventfds(), [(false, 0x1010, 4, None)]);
    // Its last two bytes are still seen.
    let over = m.region(Region::io("over", 2, Ops::new()), 0x1010, 1);
    assert_eq!(m.kvm.eventfds(), []);
    m.memory.update(|t| t.add_eventfd(io, 0x10, 4, Some(3), &notifier)).unwrap_err();
    m.memory.update(|t| t.add_eventfd(io, 0x10, 2, None, &notifier)).unwrap();
    assert_eq!(m.kvm.eventfds(), [], "nothing of it is seen");
    let before = m.vm.picture();
    for n in 1..=2 {
        m.vm.fail_at(n);
        m.memory.update(|t| t.unmap(m.memory.system(), over)).unwrap_err();
        assert_eq!(m.vm.picture(), before);
    }
    m.memory.update(|t| t.set_address(over, 0x1012)).unwrap();
    assert_eq!(m.kvm.eventfds(), [(false, 0x1010, 2, None), (false, 0x1010, 4, None)]);
}

/// Cannot follow an ioeventfd that compares nothing.
struct Deaf;

impl MemoryListener for Deaf {
    fn name(&self) -> &str {
        "deaf"
    }
    fn eventfd_add(&self, eventfd: &IoEventFd) -> Result<(), ListenerError> {
        eventfd.data.map(drop).ok_or_else(|| ListenerError::new("it compares nothing"))
    }
}

#[test]
fn an_ioeventfd_that_takes_anothers_place_may_come_before_it_goes() {
    let m = machine(FakeVm::new());
    let old = Arc::new(EventNotifier::new().unwrap());
    let new = Arc::new(EventNotifier::new().unwrap());
    let io = m.region(Region::io("io", 0x100, Ops::new()), 0x1000, 0);
    m.memory.update(|t| t.add_eventfd(io, 0, 4, Some(5), &new)).unwrap();
    let replace = |from: &Arc<EventNotifier>, to: &Arc<EventNotifier>, data: (Option<u64>, Option<u64>)| {
        m.memory.update(|t| {
            t.del_eventfd(io, 0, 4, data.0, from)?;
            t.add_eventfd(io, 0, 4, data.1, to)
        })
    };
    for round in 0..2 {
        // Whichever of the two has the lower descriptor, and so comes first.
        replace(&new, &old, (Some(5), Some(5))).unwrap();
        replace(&old, &new, (Some(5), None)).unwrap();
        assert_eq!(m.kvm.eventfds(), [(false, 0x1000, 4, None)], "{round}");
        let before = m.vm.picture();
        for n in 1..=2 {
            m.vm.fail_at(n);
            assert!(replace(&new, &old, (None, Some(5))).is_err());
            assert_eq!(m.vm.picture(), before);
        }
        m.vm.fail_at(0);
        replace(&new, &new, (None, Some(5))).unwrap();
        assert_eq!(m.kvm.eventfds(), [(false, 0x1000, 4, Some(5))]);
    }
    // Somebody else cannot follow when KVM has the new one already, and the old one has not been told to go.
    m.memory.add_listener(Arc::new(Deaf)).unwrap();
    let before = m.vm.picture();
    replace(&new, &old, (Some(5), None)).unwrap_err();
    assert_eq!(m.vm.picture(), before);
    let both = m.memory.update(|t| t.add_eventfd(io, 0, 4, None, &old)).unwrap_err();
    assert!(both.to_string().contains("cannot tell two ioeventfds at 0x1000 apart"), "{both}");
}

#[test]
fn what_the_kernel_cannot_match_is_refused_beforehand_and_without_ioeventfds_writes_signal_here() {
    let notifier = Arc::new(EventNotifier::new().unwrap());
    let m = machine(FakeVm::new().without(Capability::IoeventfdAnyLength));
    let io = m.region(Region::io("io", 0x100, Ops::new()), 0x1000, 0);
    let error = m.memory.update(|t| t.add_eventfd(io, 0, 0, None, &notifier)).unwrap_err();
    assert!(error.to_string().contains("writes of any size, as the one at 0x1000 is"), "{error}");
    let reader = m.memory.memory_space().reader();
    m.memory.update(|t| t.add_eventfd(io, 0, 4, None, &notifier)).unwrap();
    let _ = reader.store::<flatview::Le, u32>(0x1000, 1);
    assert!(!notifier.test_and_clear().unwrap(), "the kernel would have matched it");

    let m = machine(FakeVm::new().without(Capability::Ioeventfd));
    let io = m.region(Region::io("io", 0x100, Ops::new()), 0x1000, 0);
    m.memory.update(|t| t.add_eventfd(io, 0, 0, None, &notifier)).unwrap();
    assert!(m.kvm.eventfds().is_empty());
    let reader = m.memory.memory_space().reader();
    reader.store::<flatview::Le, u32>(0x1000, 1).unwrap();
    assert!(notifier.test_and_clear().unwrap());
}

#[test]
fn taking_back_a_collected_range_leaves_those_around_it() {
    let m = machine(FakeVm::new());
    let ring = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&ring, 4096).unwrap();
    let outer = m.region(Region::io("outer", 0x1000, Ops::new()), 0x1000, 0);
    let collect = |offset, size| m.memory.update(|t| t.add_coalescing(outer, offset, size)).unwrap();
    collect(0, 0x100);
    assert!(m.kvm.collected().is_empty(), "nobody empties the ring");
    m.kvm.collect_writes_in(ring.as_fd()).unwrap();
    assert_eq!(m.kvm.collected(), [(false, 0x1000, 0x100)]);
    collect(0x10, 4);
    collect(0x10, 4);
    let before = m.vm.picture();
    assert_eq!(m.kvm.collected(), [(false, 0x1000, 0x100), (false, 0x1010, 4)]);
    // An overlay takes the inner one away; the outer one is cut.
    let over = m.region(Region::io("over", 4, Ops::new()), 0x1010, 1);
    assert_eq!(m.kvm.collected(), [(false, 0x1000, 0x10), (false, 0x1014, 0xec)]);
    m.memory.update(|t| t.unmap(m.memory.system(), over)).unwrap();
    assert_eq!(m.vm.picture(), before);
}
