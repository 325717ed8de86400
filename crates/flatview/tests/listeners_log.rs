//! What listeners are told of the dirty log: starts and stops by range and for all RAM, in QEMU's order, and when they
//! are asked for what they noted.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use flatview::{
    Delta, DirtyClient, Endianness, GlobalLog, ListenerError, ListenerPriority, Memory, MemoryError,
    MemoryListener, RamBlock, Region, RegionId, Section, SpaceId,
};

type Log = Arc<Mutex<Vec<String>>>;

struct Recorder {
    name: &'static str,
    priority: u32,
    space: SpaceId,
    nop: bool,
    global_sync: bool,
    log: Log,
    fails_start: AtomicBool,
}

impl Recorder {
    fn told(&self, what: &str) -> Result<(), ListenerError> {
        self.log.lock().unwrap().push(format!("{} {what}", self.name));
        Ok(())
    }
    fn section(&self, what: &str, s: &Section) -> Result<(), ListenerError> {
        self.told(&format!("{what} {:x}-{:x}", s.offset_in_space, s.last()))
    }
}

impl MemoryListener for Recorder {
    fn name(&self) -> &str {
        self.name
    }
    fn priority(&self) -> ListenerPriority {
        ListenerPriority(self.priority)
    }
    fn space(&self) -> Option<SpaceId> {
        Some(self.space)
    }
    fn wants_nop(&self) -> bool {
        self.nop
    }
    fn syncs_globally(&self) -> bool {
        self.global_sync
    }
    fn begin(&self) -> Result<(), ListenerError> {
        self.told("begin")
    }
    fn commit(&self) -> Result<(), ListenerError> {
        self.told("commit")
    }
    fn region_add(&self, s: &Section) -> Result<(), ListenerError> {
        self.section("add", s)
    }
    fn region_del(&self, s: &Section) -> Result<(), ListenerError> {
        self.section("del", s)
    }
    fn region_nop(&self, s: &Section) -> Result<(), ListenerError> {
        self.section("nop", s)
    }
    fn log_start(&self, s: &Section, old: u8, new: u8) -> Result<(), ListenerError> {
        assert_eq!(s.range().unwrap().log_mask(), new, "the section says what is logged now");
        self.section(&format!("log_start {old}->{new}"), s)
    }
    fn log_stop(&self, s: &Section, old: u8, new: u8) -> Result<(), ListenerError> {
        self.section(&format!("log_stop {old}->{new}"), s)
    }
    fn log_sync(&self, s: &Section) {
        self.section("sync", s).unwrap();
    }
    fn log_sync_global(&self) {
        self.told("sync all").unwrap();
    }
    fn log_clear(&self, s: &Section) {
        self.section(&format!("clear @{:x}", s.offset_in_region), s).unwrap();
    }
    fn log_global_start(&self) -> Result<(), ListenerError> {
        if self.fails_start.load(Ordering::Relaxed) {
            return Err(ListenerError::new("no dirty log here"));
        }
        self.told("global start")
    }
    fn log_global_stop(&self) {
        self.told("global stop").unwrap();
    }
}

struct Machine {
    memory: Memory,
    ram: RegionId,
    vram: RegionId,
    log: Log,
}

/// 64 KiB of RAM at 0, and 16 KiB of VRAM at 0x20000.
fn machine() -> Machine {
    let memory = Memory::new(Endianness::Little);
    let block = |name, size| RamBlock::anonymous(name, size).unwrap();
    let ram = memory.add(Region::ram("ram", block("ram", 0x10000))).unwrap();
    let vram = memory.add(Region::ram("vram", block("vram", 0x4000))).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    memory.map(memory.system(), 0x20000, vram).unwrap();
    Machine { memory, ram, vram, log: Log::default() }
}

impl Machine {
    fn recorder(&self, name: &'static str, priority: u32) -> Recorder {
        let (space, log) = (self.memory.memory_space().id(), Arc::clone(&self.log));
        let fails_start = AtomicBool::new(false);
        Recorder { name, priority, space, nop: false, global_sync: false, log, fails_start }
    }

    fn listen(&self, names: &[(&'static str, u32)]) {
        for (name, priority) in names {
            self.memory.add_listener(Arc::new(self.recorder(name, *priority))).unwrap();
        }
        self.take();
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

const VGA: DirtyClient = DirtyClient::VGA;
const CODE: DirtyClient = DirtyClient::CODE;

#[test]
fn a_log_starts_forward_and_stops_in_reverse_and_the_range_stays() {
    let m = machine();
    m.listen(&[("b", 10), ("a", 0)]);
    m.memory.set_log(m.vram, VGA, true).unwrap();
    let frame = |calls: &[&str]| {
        let mut all = vec!["a begin".to_owned(), "b begin".into()];
        all.extend(calls.iter().map(|c| (*c).to_owned()));
        all.extend(["a commit".to_owned(), "b commit".into()]);
        all
    };
    assert_eq!(m.take(), frame(&["a log_start 0->1 20000-23fff", "b log_start 0->1 20000-23fff"]));
    // A second client; a second start of the same one changes nothing.
    m.memory.set_log(m.vram, CODE, true).unwrap();
    assert_eq!(m.take(), frame(&["a log_start 1->3 20000-23fff", "b log_start 1->3 20000-23fff"]));
    m.memory.set_log(m.vram, VGA, true).unwrap();
    m.memory.set_log(m.vram, VGA, false).unwrap();
    assert!(m.take().iter().all(|c| !c.contains("log")));
    m.memory.set_log(m.vram, VGA, false).unwrap();
    assert_eq!(m.take(), frame(&["b log_stop 3->2 20000-23fff", "a log_stop 3->2 20000-23fff"]));
    // Gained and lost at once: starts come first.
    m.memory
        .update(|t| {
            t.set_log(m.vram, CODE, false)?;
            t.set_log(m.vram, VGA, true)
        })
        .unwrap();
    let both = [
        "a log_start 2->1 20000-23fff",
        "b log_start 2->1 20000-23fff",
        "b log_stop 2->1 20000-23fff",
        "a log_stop 2->1 20000-23fff",
    ];
    assert_eq!(m.take(), frame(&both));
}

#[test]
fn a_new_range_that_is_logged_is_added_and_no_more() {
    let m = machine();
    m.listen(&[("a", 0)]);
    // Another attribute and a log at once: the range is gone and new.
    m.memory
        .update(|t| {
            t.set_log(m.vram, VGA, true)?;
            t.set_nonvolatile(m.vram, true)
        })
        .unwrap();
    assert_eq!(m.take(), ["a begin", "a del 20000-23fff", "a add 20000-23fff", "a commit"]);
    m.memory.update(|t| t.set_address(m.vram, 0x30000)).unwrap();
    assert_eq!(m.take(), ["a begin", "a del 20000-23fff", "a add 30000-33fff", "a commit"]);
}

#[test]
fn a_range_that_stays_is_nop_before_its_log_starts() {
    let m = machine();
    let nop = Recorder { nop: true, ..m.recorder("n", 0) };
    m.memory.add_listener(Arc::new(nop)).unwrap();
    m.take();
    m.memory.set_log(m.ram, VGA, true).unwrap();
    let expect = ["n begin", "n nop 0-ffff", "n log_start 0->1 0-ffff", "n nop 20000-23fff", "n commit"];
    assert_eq!(m.take(), expect);
}

#[test]
fn a_new_listener_is_told_of_logs_that_run_and_a_leaving_one_that_they_end() {
    let m = machine();
    m.memory.set_log(m.vram, VGA, true).unwrap();
    m.memory.start_global_log(GlobalLog::MIGRATION).unwrap();
    let id = m.memory.add_listener(Arc::new(m.recorder("a", 0))).unwrap();
    let there = [
        "a begin",
        "a global start",
        "a add 0-ffff",
        "a log_start 0->4 0-ffff",
        "a add 20000-23fff",
        "a log_start 0->5 20000-23fff",
        "a commit",
    ];
    assert_eq!(m.take(), there);
    m.memory.remove_listener(id).unwrap();
    let gone = [
        "a begin",
        "a log_stop 4->0 0-ffff",
        "a del 0-ffff",
        "a log_stop 5->0 20000-23fff",
        "a del 20000-23fff",
        "a global stop",
        "a commit",
    ];
    assert_eq!(m.take(), gone);
}

#[test]
fn the_global_log_starts_forward_before_the_commit_and_stops_in_reverse_after_it() {
    let m = machine();
    m.listen(&[("b", 10), ("a", 0)]);
    m.memory.start_global_log(GlobalLog::MIGRATION).unwrap();
    let started = [
        "a global start",
        "b global start",
        "a begin",
        "b begin",
        "a log_start 0->4 0-ffff",
        "b log_start 0->4 0-ffff",
        "a log_start 0->4 20000-23fff",
        "b log_start 0->4 20000-23fff",
        "a commit",
        "b commit",
    ];
    assert_eq!(m.take(), started);
    // On behalf of somebody else: it runs already.
    m.memory.start_global_log(GlobalLog::DIRTY_RATE).unwrap();
    m.memory.stop_global_log(GlobalLog::MIGRATION).unwrap();
    assert!(m.take().iter().all(|c| !c.contains("global")));
    m.memory.stop_global_log(GlobalLog::DIRTY_RATE).unwrap();
    let stopped = [
        "a begin",
        "b begin",
        "b log_stop 4->0 0-ffff",
        "a log_stop 4->0 0-ffff",
        "b log_stop 4->0 20000-23fff",
        "a log_stop 4->0 20000-23fff",
        "a commit",
        "b commit",
        "b global stop",
        "a global stop",
    ];
    assert_eq!(m.take(), stopped);
}

#[test]
fn the_global_log_starts_without_any_ram_too() {
    let memory = Memory::new(Endianness::Little);
    let log = Log::default();
    let recorder = Recorder {
        name: "a",
        priority: 0,
        space: memory.memory_space().id(),
        nop: false,
        global_sync: false,
        log: Arc::clone(&log),
        fails_start: AtomicBool::new(false),
    };
    memory.add_listener(Arc::new(recorder)).unwrap();
    log.lock().unwrap().clear();
    memory.start_global_log(GlobalLog::MIGRATION).unwrap();
    assert_eq!(*log.lock().unwrap(), ["a global start"]);
}

#[test]
fn a_listener_that_cannot_log_keeps_the_global_log_from_starting() {
    let m = machine();
    m.listen(&[("a", 0)]);
    let b = m.recorder("b", 10);
    b.fails_start.store(true, Ordering::Relaxed);
    m.memory.add_listener(Arc::new(b)).unwrap();
    m.take();
    let error = m.memory.start_global_log(GlobalLog::MIGRATION).unwrap_err();
    assert!(matches!(&error, MemoryError::ListenerFailed { callback: "log_global_start", .. }), "{error}");
    assert_eq!(m.take(), ["a global start", "a global stop"]);
    assert!(m.memory.global_log().is_empty());
    assert_eq!(m.memory.log_mask(m.ram).unwrap(), 0);
    let view = m.memory.memory_space().view().unwrap();
    assert!(view.ranges().all(|r| r.log_mask() == 0));
    // Nothing to be told of afterwards.
    m.memory.update(|_| Ok::<_, MemoryError>(())).unwrap();
    assert!(m.take().is_empty());
}

#[test]
fn who_takes_dirty_bits_has_listeners_sync_first_and_clear_after() {
    let m = machine();
    m.memory.set_log(m.vram, VGA, true).unwrap();
    m.memory.set_log(m.ram, CODE, true).unwrap();
    // The VRAM is seen twice, once in part.
    let alias = m.memory.add(Region::alias("window", m.vram, 0x1000, 0x2000)).unwrap();
    m.memory.map(m.memory.system(), 0x80000, alias).unwrap();
    m.listen(&[("b", 10), ("a", 0)]);
    let all = Recorder { global_sync: true, ..m.recorder("all", 5) };
    m.memory.add_listener(Arc::new(all)).unwrap();
    m.take();
    m.memory.snapshot_and_clear_dirty(m.vram, 0x2000, 0x2000, VGA).unwrap();
    let expect = [
        // Of the block only; once for the one who syncs as a whole.
        "a sync 20000-23fff",
        "a sync 80000-81fff",
        "all sync all",
        "b sync 20000-23fff",
        "b sync 80000-81fff",
        // Cut to what was cleared, wherever it is seen.
        "a clear @2000 22000-23fff",
        "a clear @2000 81000-81fff",
        "all clear @2000 22000-23fff",
        "all clear @2000 81000-81fff",
        "b clear @2000 22000-23fff",
        "b clear @2000 81000-81fff",
    ];
    assert_eq!(m.take(), expect);
    m.memory.sync_dirty_log(None).unwrap();
    let every = ["0-ffff", "20000-23fff", "80000-81fff"];
    let of = |name: &str| every.map(|s| format!("{name} sync {s}")).to_vec();
    assert_eq!(m.take(), [of("a"), vec!["all sync all".into()], of("b")].concat());
    // What is not logged is not asked for.
    m.memory.set_log(m.ram, CODE, false).unwrap();
    m.take();
    m.memory.sync_dirty_log(Some(m.ram)).unwrap();
    assert_eq!(m.take(), ["all sync all"]);
}

#[test]
fn a_block_is_synced_and_cleared_through_every_region_that_shows_it() {
    let m = machine();
    let view = m.memory.memory_space().view().unwrap();
    let block = Arc::clone(view.lookup(0x2_0000).unwrap().block().unwrap().0);
    let window = m.memory.add(Region::ram("window", block).window(0x1000, 0x2000)).unwrap();
    m.memory.map(m.memory.system(), 0x8_0000, window).unwrap();
    m.memory.set_log(m.vram, VGA, true).unwrap();
    m.memory.set_log(window, CODE, true).unwrap();
    m.listen(&[("a", 0)]);
    m.take();
    m.memory.snapshot_and_clear_dirty(m.vram, 0x2000, 0x2000, VGA).unwrap();
    let expect = [
        "a sync 20000-23fff",
        "a sync 80000-81fff",
        "a clear @2000 22000-23fff",
        "a clear @1000 81000-81fff",
    ];
    assert_eq!(m.take(), expect);
}

#[test]
fn whatever_clears_dirty_bits_tells_listeners_what_it_cleared() {
    let m = machine();
    m.memory.set_log(m.vram, VGA, true).unwrap();
    m.memory.reset_dirty(m.vram, 0, 0x4000, VGA).unwrap();
    m.memory.list_newly_dirty(m.vram, VGA, 8).unwrap();
    m.memory.set_dirty(m.vram, 0x3000, 1).unwrap();
    m.memory.set_dirty(m.vram, 0, 0x1001).unwrap();
    m.listen(&[("a", 0)]);
    m.take();
    // A list of pages is cleared in runs.
    assert_eq!(m.memory.take_newly_dirty(m.vram, VGA).unwrap().offsets.len(), 3);
    assert_eq!(m.take(), ["a sync 20000-23fff", "a clear @0 20000-21fff", "a clear @3000 23000-23fff"]);
    m.memory.take_newly_dirty(m.vram, VGA).unwrap();
    assert_eq!(m.take(), ["a sync 20000-23fff"]);
    // What was written before a reset is forgotten, also if nobody had asked for it.
    m.memory.reset_dirty(m.vram, 0x1000, 0x1000, VGA).unwrap();
    assert_eq!(m.take(), ["a sync 20000-23fff", "a clear @1000 21000-21fff"]);
    let meter = flatview::DirtyRateMeter::start(&m.memory).unwrap();
    let mut cleared: Vec<_> = m.take().into_iter().filter(|call| call.contains("clear")).collect();
    cleared.sort();
    assert_eq!(cleared, ["a clear @0 0-ffff", "a clear @0 20000-23fff"]);
    drop(meter);
}

#[test]
fn what_a_listener_marks_when_it_is_asked_is_in_the_snapshot() {
    let m = machine();
    m.memory.set_log(m.vram, VGA, true).unwrap();
    m.memory.reset_dirty(m.vram, 0, 0x4000, VGA).unwrap();
    struct Accelerator(flatview::WeakMemory, RegionId);
    impl MemoryListener for Accelerator {
        fn name(&self) -> &str {
            "accelerator"
        }
        fn log_sync(&self, s: &Section) {
            let memory = self.0.upgrade().unwrap();
            memory.set_dirty(self.1, s.offset_in_region + 0x1000, 1).unwrap();
        }
        fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
            assert_eq!(delta.spaces().iter().map(|s| s.log_changed().count()).sum::<usize>(), 0);
            Ok(())
        }
    }
    m.memory.add_listener(Arc::new(Accelerator(m.memory.downgrade(), m.vram))).unwrap();
    let taken = m.memory.snapshot_and_clear_dirty(m.vram, 0, 0x4000, VGA).unwrap();
    assert!(taken.is_dirty(0x1000, 1) && !taken.is_dirty(0, 0x1000) && !taken.is_dirty(0x2000, 0x2000));
}

#[test]
fn a_delta_says_whose_log_changed() {
    let m = machine();
    struct Deltas(Mutex<Vec<(String, Option<bool>)>>);
    impl MemoryListener for Deltas {
        fn name(&self) -> &str {
            "deltas"
        }
        fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
            let logged = delta.spaces().iter().flat_map(|s| {
                let old = s.log_changed().map(|(s, old, new)| format!("{} {old}->{new}", s.name()));
                old.collect::<Vec<_>>()
            });
            let text = logged.collect::<Vec<_>>().join(", ");
            self.0.lock().unwrap().push((text, delta.global_log()));
            Ok(())
        }
    }
    let deltas = Arc::new(Deltas(Mutex::default()));
    m.memory.add_listener(deltas.clone()).unwrap();
    m.memory.set_log(m.vram, VGA, true).unwrap();
    m.memory.start_global_log(GlobalLog::MIGRATION).unwrap();
    m.memory.stop_global_log(GlobalLog::MIGRATION).unwrap();
    let seen = deltas.0.lock().unwrap().split_off(1);
    let expect =
        [("vram 0->1", None), ("ram 0->4, vram 1->5", Some(true)), ("ram 4->0, vram 5->1", Some(false))];
    assert_eq!(seen, expect.map(|(text, global)| (text.to_owned(), global)));
}
