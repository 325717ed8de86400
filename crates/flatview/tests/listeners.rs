//! Listeners: who is called, in which order, with what, and what happens when one of them fails.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use flatview::{
    Be, Delta, Endianness, ListenerError, ListenerPriority, Memory, MemoryError, MemoryListener, Ops,
    RamBlock, Reason, Region, RegionId, Section, SpaceId, WeakMemory,
};

/// Where several listeners write, so that the order between them is seen.
type Log = Arc<Mutex<Vec<String>>>;

/// Writes down every call; fails the `n`-th from now on if told so.
struct Recorder {
    name: &'static str,
    priority: u32,
    space: Option<SpaceId>,
    nop: bool,
    log: Log,
    /// Calls until one fails; negative: none does.
    fails_in: AtomicI64,
    /// How many calls fail from then on.
    times: AtomicI64,
    refuses: AtomicBool,
}

impl Recorder {
    fn named(name: &'static str, priority: u32, log: &Log) -> Self {
        Self {
            name,
            priority,
            space: None,
            nop: false,
            log: Arc::clone(log),
            fails_in: AtomicI64::new(-1),
            times: AtomicI64::new(0),
            refuses: AtomicBool::new(false),
        }
    }

    fn told(&self, what: &str) -> Result<(), ListenerError> {
        if self.fails_in.load(Ordering::SeqCst) >= 0 && self.fails_in.fetch_sub(1, Ordering::SeqCst) == 0 {
            if self.times.fetch_sub(1, Ordering::SeqCst) > 1 {
                self.fails_in.store(0, Ordering::SeqCst);
            }
            return Err(ListenerError::new("no room in the hardware"));
        }
        self.log.lock().unwrap().push(format!("{} {what}", self.name));
        Ok(())
    }

    fn section(&self, what: &str, s: &Section) -> Result<(), ListenerError> {
        let marks = if s.readonly { " ro" } else { "" };
        self.told(&format!(
            "{what} {:x}-{:x} {}@{:x}{marks}",
            s.offset_in_space,
            s.last(),
            s.name(),
            s.offset_in_region
        ))
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
        self.space
    }
    fn wants_nop(&self) -> bool {
        self.nop
    }
    fn prepare(&self, _: &Delta) -> Result<(), ListenerError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(ListenerError::new("slots are short"));
        }
        self.log.lock().unwrap().push(format!("{} prepare", self.name));
        Ok(())
    }
    fn cancel(&self, _: &Delta) {
        self.log.lock().unwrap().push(format!("{} cancel", self.name));
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
}

fn take(log: &Log) -> Vec<String> {
    let mut calls = std::mem::take(&mut *log.lock().unwrap());
    calls.retain(|c| !c.ends_with("prepare"));
    calls
}

/// 64 KiB of RAM at 0, and a port region that is mapped nowhere.
fn machine() -> (Memory, RegionId, RegionId) {
    let memory = Memory::new(Endianness::Big);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 0x10000).unwrap())).unwrap();
    let port = memory.add(Region::io("port", 0x100, Ops::new().read(|_| Ok(7)))).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    (memory, ram, port)
}

fn recorded(memory: &Memory, name: &'static str, priority: u32, log: &Log) -> Arc<Recorder> {
    let mut recorder = Recorder::named(name, priority, log);
    recorder.space = Some(memory.memory_space().id());
    let recorder = Arc::new(recorder);
    memory.add_listener(recorder.clone()).unwrap();
    recorder
}

#[test]
fn a_new_listener_is_told_what_is_there_and_a_leaving_one_that_it_goes() {
    let (memory, _, port) = machine();
    memory.update(|t| t.map_overlap(memory.system(), 0x8000, port, 1)).unwrap();
    let log = Log::default();
    let mut a = Recorder::named("a", 0, &log);
    a.space = Some(memory.memory_space().id());
    let id = memory.add_listener(Arc::new(a)).unwrap();
    let there = ["0-7fff ram@0", "8000-80ff port@0", "8100-ffff ram@8100"];
    let calls = |what: &str| {
        let mut all = vec!["a begin".to_owned()];
        all.extend(there.map(|s| format!("a {what} {s}")));
        all.push("a commit".to_owned());
        all
    };
    assert_eq!(take(&log), calls("add"));
    memory.remove_listener(id).unwrap();
    assert_eq!(take(&log), calls("del"));
    memory.map(memory.system(), 0x20000, port).unwrap_err();
    assert!(take(&log).is_empty() && memory.listeners().is_empty());
    assert_eq!(memory.remove_listener(id), Err(MemoryError::StaleListener));
}

#[test]
fn what_comes_is_told_by_ascending_priority_and_what_goes_by_descending() {
    let (memory, _, port) = machine();
    let log = Log::default();
    // Ties in the order in which they were added.
    for (name, priority) in [("late", 10), ("first", 0), ("later", 10), ("mid", 5)] {
        recorded(&memory, name, priority, &log);
    }
    take(&log);
    let names: Vec<_> = memory.listeners().iter().map(|l| l.name.to_string()).collect();
    assert_eq!(names, ["first", "mid", "late", "later"]);
    memory.map(memory.system(), 0x20000, port).unwrap();
    let forward = |what: &str| ["first", "mid", "late", "later"].map(|n| format!("{n} {what}"));
    let reverse = |what: &str| ["later", "late", "mid", "first"].map(|n| format!("{n} {what}"));
    let add = forward("add 20000-200ff port@0");
    assert_eq!(take(&log), [forward("begin"), add, forward("commit")].concat());
    memory.update(|t| t.unmap(memory.system(), port)).unwrap();
    let del = reverse("del 20000-200ff port@0");
    assert_eq!(take(&log), [forward("begin"), del, forward("commit")].concat());
}

#[test]
fn a_region_in_the_middle_of_ram_is_del_of_the_old_and_add_of_the_pieces() {
    let (memory, _, port) = machine();
    let log = Log::default();
    recorded(&memory, "a", 0, &log);
    take(&log);
    memory.update(|t| t.map_overlap(memory.system(), 0x8000, port, 1)).unwrap();
    let expect = [
        "begin",
        "del 0-ffff ram@0",
        "add 0-7fff ram@0",
        "add 8000-80ff port@0",
        "add 8100-ffff ram@8100",
        "commit",
    ];
    assert_eq!(take(&log), expect.map(|c| format!("a {c}")));
    // All deletions come before all additions.
    memory.update(|t| t.set_address(port, 0x4000)).unwrap();
    let expect = [
        "begin",
        "del 0-7fff ram@0",
        "del 8000-80ff port@0",
        "del 8100-ffff ram@8100",
        "add 0-3fff ram@0",
        "add 4000-40ff port@0",
        "add 4100-ffff ram@4100",
        "commit",
    ];
    assert_eq!(take(&log), expect.map(|c| format!("a {c}")));
}

#[test]
fn a_changed_attribute_at_the_same_place_is_del_then_add() {
    let (memory, ram, _) = machine();
    let log = Log::default();
    recorded(&memory, "a", 0, &log);
    take(&log);
    memory.update(|t| t.set_readonly(ram, true)).unwrap();
    assert_eq!(take(&log), ["a begin", "a del 0-ffff ram@0", "a add 0-ffff ram@0 ro", "a commit"]);
}

#[test]
fn a_changed_size_is_del_and_add_and_nop_for_all_others() {
    let (memory, ram, port) = machine();
    memory.map(memory.system(), 0x20000, port).unwrap();
    let (log, plain) = (Log::default(), Log::default());
    let mut nop = Recorder::named("n", 0, &log);
    nop.nop = true;
    nop.space = Some(memory.memory_space().id());
    memory.add_listener(Arc::new(nop)).unwrap();
    recorded(&memory, "p", 0, &plain);
    take(&log);
    take(&plain);
    memory.update(|t| t.set_size(ram, 0x8000)).unwrap();
    assert_eq!(
        take(&log),
        ["n begin", "n del 0-ffff ram@0", "n add 0-7fff ram@0", "n nop 20000-200ff port@0", "n commit"]
    );
    assert_eq!(take(&plain), ["p begin", "p del 0-ffff ram@0", "p add 0-7fff ram@0", "p commit"]);
    // One who asks for nops hears of a space in which nothing changed, too.
    memory.update(|t| t.set_size(memory.io(), 0x8000)).unwrap();
    assert_eq!(take(&log), ["n begin", "n nop 0-7fff ram@0", "n nop 20000-200ff port@0", "n commit"]);
    assert_eq!(take(&plain), ["p begin", "p commit"]);
}

#[test]
fn a_transaction_that_does_nothing_calls_nobody() {
    let (memory, ram, _) = machine();
    let log = Log::default();
    recorded(&memory, "a", 0, &log);
    take(&log);
    memory.update(|_| Ok::<_, MemoryError>(())).unwrap();
    memory.update(|t| t.set_enabled(ram, true)).unwrap();
    memory.add(Region::container("free", 16)).unwrap();
    memory.update(|t| t.set_readonly(ram, true).and(Err::<(), _>(MemoryError::Full))).unwrap_err();
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn nested_updates_are_told_once() {
    let (memory, ram, port) = machine();
    let log = Log::default();
    recorded(&memory, "a", 0, &log);
    take(&log);
    memory
        .update(|t| {
            t.set_readonly(ram, true)?;
            memory.update(|t| t.map(memory.system(), 0x20000, port))?;
            assert!(log.lock().unwrap().is_empty());
            t.set_readonly(ram, false)
        })
        .unwrap();
    assert_eq!(take(&log), ["a begin", "a add 20000-200ff port@0", "a commit"]);
}

#[test]
fn spaces_are_told_in_the_order_in_which_they_were_made_and_share_what_they_share() {
    let (memory, _, port) = machine();
    let bus = memory.add(Region::container("bus", 1 << 32)).unwrap();
    let alias = memory.add(Region::alias("all", memory.system(), 0, 1 << 32)).unwrap();
    memory.map(bus, 0, alias).unwrap();
    let second = memory.address_space("second", memory.system()).unwrap();
    let third = memory.address_space("third", bus).unwrap();
    let log = Log::default();
    struct Spaces(Log, Mutex<Vec<SpaceId>>);
    impl MemoryListener for Spaces {
        fn name(&self) -> &str {
            "s"
        }
        fn region_add(&self, s: &Section) -> Result<(), ListenerError> {
            self.1.lock().unwrap().push(s.space);
            self.0.lock().unwrap().push(format!("s {:x}", s.offset_in_space));
            Ok(())
        }
        fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
            self.0.lock().unwrap().push(format!("{} spaces", delta.spaces().len()));
            Ok(())
        }
    }
    let spaces = Arc::new(Spaces(Arc::clone(&log), Mutex::default()));
    memory.add_listener(spaces.clone()).unwrap();
    log.lock().unwrap().clear();
    spaces.1.lock().unwrap().clear();
    memory.map(memory.system(), 0x20000, port).unwrap();
    assert_eq!(take(&log), ["3 spaces", "s 20000", "s 20000", "s 20000"]);
    assert_eq!(*spaces.1.lock().unwrap(), [memory.memory_space().id(), second.id(), third.id()]);
}

#[test]
fn a_space_that_comes_or_goes_is_told_to_those_who_hear_of_all() {
    let (memory, _, _) = machine();
    let log = Log::default();
    recorded(&memory, "one", 0, &log);
    let all = Arc::new(Recorder::named("all", 0, &log));
    memory.add_listener(all.clone()).unwrap();
    take(&log);
    let space = memory.address_space("dma", memory.system()).unwrap();
    let calls = |what: &str| ["one begin", "all begin", what, "one commit", "all commit"].map(str::to_owned);
    assert_eq!(take(&log), calls("all add 0-ffff ram@0"));
    memory.remove_space(space.id()).unwrap();
    assert_eq!(take(&log), calls("all del 0-ffff ram@0"));
    // Refused: the space is not there, and not gone, respectively.
    let kept = memory.address_space("kept", memory.system()).unwrap();
    take(&log);
    all.fails_in.store(1, Ordering::SeqCst);
    let error = memory.address_space("no", memory.system()).unwrap_err();
    assert!(matches!(&error, MemoryError::ListenerFailed { callback: "region_add", .. }), "{error}");
    all.fails_in.store(1, Ordering::SeqCst);
    memory.remove_space(kept.id()).unwrap_err();
    let names: Vec<_> = memory.spaces().iter().map(|s| s.name().to_owned()).collect();
    assert_eq!(names, ["memory", "I/O", "kept"]);
    kept.write(0x10, &[1]).unwrap();
    assert_eq!(memory.stale_view().unwrap(), None);
    memory.remove_space(kept.id()).unwrap();
}

#[test]
fn a_section_keeps_what_is_gone() {
    let (memory, ram, _) = machine();
    struct Gone(Mutex<Option<Section>>);
    impl MemoryListener for Gone {
        fn name(&self) -> &str {
            "gone"
        }
        fn region_del(&self, s: &Section) -> Result<(), ListenerError> {
            *self.0.lock().unwrap() = Some(s.clone());
            Ok(())
        }
    }
    let gone = Arc::new(Gone(Mutex::default()));
    memory.add_listener(gone.clone()).unwrap();
    memory.memory_space().write(0x1234, &[42]).unwrap();
    memory
        .update(|t| {
            t.unmap(memory.system(), ram)?;
            t.remove(ram)
        })
        .unwrap();
    memory.synchronize().unwrap();
    let section = gone.0.lock().unwrap().take().unwrap();
    assert_eq!((section.name(), section.size, section.is_ram()), ("ram", 0x10000, true));
    assert!(memory.region(section.region).is_err());
    let (block, offset) = section.ram().unwrap();
    let mut out = [0];
    block.read(offset + 0x1234, &mut out).unwrap();
    assert_eq!(out, [42]);
}

#[test]
fn the_cause_names_the_caller_and_the_reason() {
    let (memory, ram, port) = machine();
    struct Causes(Mutex<Vec<String>>);
    impl MemoryListener for Causes {
        fn name(&self) -> &str {
            "causes"
        }
        fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
            let cause = delta.cause();
            assert!(cause.location().file().ends_with("listeners.rs"), "{cause}");
            self.0.lock().unwrap().push(format!("{}: {:?}", cause.location().line(), cause.reason()));
            Ok(())
        }
    }
    let causes = Arc::new(Causes(Mutex::default()));
    memory.add_listener(causes.clone()).unwrap();
    causes.0.lock().unwrap().clear();
    let line = line!();
    memory.map(memory.system(), 0x20000, port).unwrap();
    let changed = memory.update(|t| {
        t.because("the BAR moved");
        t.set_address(port, 0x30000)
    });
    changed.unwrap();
    memory.update(|t| t.set_readonly(ram, true)).unwrap();
    let expect = [
        format!("{}: None", line + 1),
        format!("{}: Some(\"the BAR moved\")", line + 2),
        format!("{}: None", line + 7),
    ];
    assert_eq!(*causes.0.lock().unwrap(), expect);
}

#[test]
fn when_a_listener_is_called_the_new_map_is_there_and_questions_are_answered() {
    let (memory, _, port) = machine();
    struct Asks(WeakMemory, RegionId, OnceLock<()>);
    impl MemoryListener for Asks {
        fn name(&self) -> &str {
            "asks"
        }
        fn region_add(&self, s: &Section) -> Result<(), ListenerError> {
            let memory = self.0.upgrade().unwrap();
            if s.region != self.1 {
                return Ok(());
            }
            let space = memory.memory_space();
            assert_eq!(space.view().unwrap().lookup(0x20000).unwrap().region(), self.1);
            // From another thread too: no lock is held.
            std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    assert_eq!(space.reader().load::<Be, u8>(0x20000), Ok(7));
                    assert_eq!(memory.region(self.1).unwrap().addr, 0x20000);
                    memory.find(memory.system(), 0x20000, 1).unwrap().unwrap().region
                });
                assert_eq!(other.join().unwrap(), self.1);
            });
            // RAM can be accessed, devices cannot.
            space.write(0, &[1]).unwrap();
            let refused = space.reader().load::<Be, u8>(0x20000).unwrap_err();
            assert_eq!(refused.reason(), Reason::InsideUpdate);
            assert_eq!(memory.synchronize(), Err(MemoryError::WouldWaitForItself));
            self.2.set(()).unwrap();
            Ok(())
        }
    }
    let asks = Arc::new(Asks(memory.downgrade(), port, OnceLock::new()));
    memory.add_listener(asks.clone()).unwrap();
    memory.map(memory.system(), 0x20000, port).unwrap();
    assert!(asks.2.get().is_some());
}

#[test]
fn changing_the_map_inside_a_listener_is_an_error_and_deferred_work_comes_after_the_commit() {
    let (memory, ram, port) = machine();
    struct Changes(WeakMemory, RegionId, Log);
    impl MemoryListener for Changes {
        fn name(&self) -> &str {
            "changes"
        }
        fn prepare(&self, _: &Delta) -> Result<(), ListenerError> {
            self.tries();
            Ok(())
        }
        fn region_add(&self, s: &Section) -> Result<(), ListenerError> {
            let memory = self.tries();
            if s.name() == "port" && s.offset_in_space == 0x20000 {
                let (port, log) = (self.1, Arc::clone(&self.2));
                memory.defer(move |memory| {
                    log.lock().unwrap().push("deferred".to_owned());
                    memory.update(|t| t.set_address(port, 0x30000)).unwrap();
                });
            }
            self.2.lock().unwrap().push(format!("add {:x}", s.offset_in_space));
            Ok(())
        }
        fn commit(&self) -> Result<(), ListenerError> {
            self.2.lock().unwrap().push("commit".to_owned());
            Ok(())
        }
    }
    impl Changes {
        fn tries(&self) -> Memory {
            let memory = self.0.upgrade().unwrap();
            let inside = || Err(MemoryError::InsideListener);
            assert_eq!(memory.update(|t| t.set_readonly(self.1, true)), inside());
            assert_eq!(memory.address_space("x", memory.system()).map(|_| ()), inside());
            assert_eq!(memory.remove_space(memory.memory_space().id()), inside());
            let other = Arc::new(Recorder::named("x", 0, &self.2));
            assert_eq!(memory.add_listener(other).map(|_| ()), inside());
            for listener in memory.listeners() {
                assert_eq!(memory.remove_listener(listener.id), inside());
            }
            memory
        }
    }
    let log = Log::default();
    memory.add_listener(Arc::new(Changes(memory.downgrade(), port, Arc::clone(&log)))).unwrap();
    assert!(MemoryError::InsideListener.to_string().contains("Memory::defer()"));
    log.lock().unwrap().clear();
    memory.map(memory.system(), 0x20000, port).unwrap();
    // When the outer update returns, the deferred one is done.
    assert_eq!(memory.region(port).unwrap().addr, 0x30000);
    assert_eq!(*log.lock().unwrap(), ["add 20000", "commit", "deferred", "add 30000", "commit"]);
    // Outside of listeners it is done at once, inside of updates as a part of them.
    memory.defer(move |m| m.update(|t| t.set_readonly(ram, true)).unwrap());
    assert!(memory.region(ram).unwrap().readonly);
}

#[test]
fn listeners_are_not_added_or_removed_inside_an_update() {
    let (memory, _, _) = machine();
    let log = Log::default();
    let id = memory.add_listener(Arc::new(Recorder::named("a", 0, &log))).unwrap();
    memory
        .update(|_| {
            let b = Arc::new(Recorder::named("b", 0, &log));
            assert_eq!(memory.add_listener(b).map(|_| ()), Err(MemoryError::ListenerInsideUpdate));
            assert_eq!(memory.remove_listener(id), Err(MemoryError::ListenerInsideUpdate));
            Ok::<_, MemoryError>(())
        })
        .unwrap();
}

#[test]
fn another_threads_update_waits_until_the_listeners_were_told() {
    let (memory, ram, port) = machine();
    let log = Log::default();
    struct Slow(Log, std::sync::Barrier);
    impl MemoryListener for Slow {
        fn name(&self) -> &str {
            "slow"
        }
        fn region_add(&self, s: &Section) -> Result<(), ListenerError> {
            if s.name() == "port" {
                self.1.wait();
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            self.0.lock().unwrap().push(format!("add {}", s.name()));
            Ok(())
        }
    }
    let slow = Arc::new(Slow(Arc::clone(&log), std::sync::Barrier::new(2)));
    memory.add_listener(slow.clone()).unwrap();
    log.lock().unwrap().clear();
    std::thread::scope(|scope| {
        scope.spawn(|| memory.map(memory.system(), 0x20000, port).unwrap());
        slow.1.wait();
        memory.update(|t| t.set_readonly(ram, true)).unwrap();
    });
    assert_eq!(*log.lock().unwrap(), ["add port", "add ram"]);
}

#[test]
fn a_listener_that_refuses_beforehand_fails_the_change_and_nobody_saw_it() {
    let (memory, ram, port) = machine();
    let log = Log::default();
    let recorders = [("a", 0), ("b", 1), ("c", 2)].map(|(name, p)| recorded(&memory, name, p, &log));
    let before = memory.memory_space().view().unwrap();
    recorders[1].refuses.store(true, Ordering::SeqCst);
    log.lock().unwrap().clear();
    let error = memory
        .update(|t| {
            t.set_readonly(ram, true)?;
            t.map(memory.system(), 0x20000, port)
        })
        .unwrap_err();
    assert_eq!(error, MemoryError::ListenerRefused { name: "b".into(), reason: "slots are short".into() });
    assert_eq!(*log.lock().unwrap(), ["a prepare", "a cancel"]);
    assert!(Arc::ptr_eq(&before, &memory.memory_space().view().unwrap()));
    assert_eq!(memory.region(port).unwrap().container, None);
    assert!(!memory.region(ram).unwrap().readonly);
    // A new listener that refuses is not added.
    let d = Recorder::named("d", 0, &log);
    d.refuses.store(true, Ordering::SeqCst);
    assert!(matches!(memory.add_listener(Arc::new(d)), Err(MemoryError::ListenerRefused { .. })));
    assert_eq!(memory.listeners().len(), 3);
}

/// The n-th call of each listener fails, for every n there is.
#[test]
fn whichever_call_fails_the_map_and_all_listeners_are_as_before() {
    let (memory, ram, port) = machine();
    let bus = memory.add(Region::container("bus", 1 << 32)).unwrap();
    let alias = memory.add(Region::alias("all", memory.system(), 0, 1 << 32)).unwrap();
    memory.map(bus, 0, alias).unwrap();
    let dma = memory.address_space("dma", bus).unwrap();
    let log = Log::default();
    let recorders = [("a", 0), ("b", 1), ("c", 2)].map(|(name, p)| {
        let recorder = Arc::new(Recorder::named(name, p, &log));
        memory.add_listener(recorder.clone()).unwrap();
        recorder
    });
    let mut held = Held::default();
    held.follow(&take(&log));
    let views = || [memory.memory_space(), dma.clone()].map(|s| s.view().unwrap());
    let mut failures = 0;
    for recorder in &recorders {
        for n in 0.. {
            let before = views();
            let held_before = held.clone();
            recorder.fails_in.store(n, Ordering::SeqCst);
            let result = memory.update(|t| {
                t.map_overlap(memory.system(), 0x8000, port, 1)?;
                t.set_readonly(ram, true)?;
                // The space looks elsewhere from now on.
                t.set_size(alias, 0x9000)
            });
            held.follow(&take(&log));
            if let Err(error) = result {
                failures += 1;
                let MemoryError::ListenerFailed { name, reason, .. } = &error else { panic!("{error}") };
                assert_eq!((&**name, &**reason), (recorder.name, "no room in the hardware"));
                let after = views();
                for (a, b) in before.iter().zip(&after) {
                    assert!(Arc::ptr_eq(a, b), "the very view is there again");
                }
                assert_eq!(held, held_before, "call {n} of {}", recorder.name);
                assert_eq!(memory.region(port).unwrap().container, None);
                assert!(!memory.region(ram).unwrap().readonly);
                assert_eq!(memory.region(alias).unwrap().size, 1 << 32);
                assert_eq!(memory.stale_view().unwrap(), None);
                memory.memory_space().write(0x8000, &[3]).unwrap();
                continue;
            }
            // It made fewer than n calls: the change is in force; back.
            recorder.fails_in.store(-1, Ordering::SeqCst);
            memory
                .update(|t| {
                    t.set_size(alias, 1 << 32)?;
                    t.set_readonly(ram, false)?;
                    t.unmap(memory.system(), port)
                })
                .unwrap();
            held.follow(&take(&log));
            assert_eq!(held, held_before);
            break;
        }
    }
    assert_eq!(
        failures,
        3 * (2 + 2 * (1 + 3)),
        "begin, commit, and in each of two spaces 1 range gone and 3 new"
    );
    assert!(memory.listeners().iter().all(|l| l.failed.is_none()));
}

#[test]
fn what_was_told_is_taken_back_in_reverse_order() {
    let (memory, _, port) = machine();
    let log = Log::default();
    recorded(&memory, "a", 0, &log);
    let b = recorded(&memory, "b", 1, &log);
    take(&log);
    // Its commit: after begin, one range that goes and three that come.
    b.fails_in.store(5, Ordering::SeqCst);
    memory.update(|t| t.map_overlap(memory.system(), 0x8000, port, 1)).unwrap_err();
    let expect = [
        "a begin",
        "b begin",
        "b del 0-ffff ram@0",
        "a del 0-ffff ram@0",
        "a add 0-7fff ram@0",
        "b add 0-7fff ram@0",
        "a add 8000-80ff port@0",
        "b add 8000-80ff port@0",
        "a add 8100-ffff ram@8100",
        "b add 8100-ffff ram@8100",
        "a commit",
        // For a this was over: it begins anew.
        "a begin",
        "b del 8100-ffff ram@8100",
        "a del 8100-ffff ram@8100",
        "b del 8000-80ff port@0",
        "a del 8000-80ff port@0",
        "b del 0-7fff ram@0",
        "a del 0-7fff ram@0",
        "a add 0-ffff ram@0",
        "b add 0-ffff ram@0",
        "a commit",
        "b commit",
    ];
    assert_eq!(take(&log), expect);
}

#[test]
fn a_listener_of_a_space_that_is_not_there_is_refused() {
    let (memory, ..) = machine();
    let other = Memory::new(Endianness::Little);
    let gone = memory.address_space("gone", memory.system()).unwrap().id();
    memory.remove_space(gone).unwrap();
    for (space, error) in
        [(gone, MemoryError::StaleSpace), (other.memory_space().id(), MemoryError::ForeignSpace)]
    {
        let mut a = Recorder::named("a", 0, &Log::default());
        a.space = Some(space);
        assert_eq!(memory.add_listener(Arc::new(a)).map(|_| ()), Err(error));
    }
    assert!(memory.listeners().is_empty());
}

/// What each listener believes to be there, from the calls it got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held(BTreeMap<String, Vec<String>>);

impl Held {
    fn follow(&mut self, calls: &[String]) {
        let mut open = BTreeSet::new();
        for call in calls {
            let (who, what) = call.split_once(' ').unwrap();
            let there = self.0.entry(who.to_owned()).or_default();
            match what.split_once(' ') {
                None if what == "begin" => assert!(open.insert(who), "begin within begin: {calls:#?}"),
                None => assert!(what == "commit" && open.remove(who), "{calls:#?}"),
                Some(("add", s)) => there.push(s.to_owned()),
                Some((_, s)) => {
                    let at = there.iter().position(|t| t == s).expect("only what is there goes");
                    there.remove(at);
                }
            }
            there.sort();
        }
        assert!(open.is_empty(), "a begin without a commit: {calls:#?}");
    }
}

#[test]
fn a_listener_that_cannot_go_back_either_is_marked_as_failed_and_named() {
    let (memory, _, port) = machine();
    let log = Log::default();
    let recorders = [("a", 0), ("b", 1)].map(|(name, p)| recorded(&memory, name, p, &log));
    take(&log);
    // b fails in region_add; a then fails in the opposite of what it was told.
    recorders[1].fails_in.store(1, Ordering::SeqCst);
    recorders[0].fails_in.store(2, Ordering::SeqCst);
    let error = memory.map(memory.system(), 0x20000, port).unwrap_err();
    let MemoryError::ListenerBroken { name, callback, cause, .. } = &error else { panic!("{error}") };
    assert_eq!((&**name, *callback), ("a", "region_del"));
    assert!(matches!(&**cause, MemoryError::ListenerFailed { name, .. } if &**name == "b"));
    assert_eq!(memory.region(port).unwrap().container, None);
    let failed: Vec<_> = memory.listeners().into_iter().filter(|l| l.failed.is_some()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(&*failed[0].name, "a");
    assert_eq!(failed[0].failed.as_ref().unwrap().reason(), "no room in the hardware");
    // It is called no more, the other one is, and it can be removed.
    take(&log);
    memory.map(memory.system(), 0x20000, port).unwrap();
    assert_eq!(take(&log), ["b begin", "b add 20000-200ff port@0", "b commit"]);
    memory.remove_listener(failed[0].id).unwrap();
    assert!(take(&log).is_empty());
}

#[test]
fn a_new_listener_that_fails_on_the_way_is_taken_back_and_not_added() {
    let (memory, _, port) = machine();
    memory.map(memory.system(), 0x20000, port).unwrap();
    for n in 0..4 {
        let log = Log::default();
        let mut a = Recorder::named("a", 0, &log);
        a.space = Some(memory.memory_space().id());
        a.fails_in.store(n, Ordering::SeqCst);
        assert!(matches!(memory.add_listener(Arc::new(a)), Err(MemoryError::ListenerFailed { .. })));
        let mut held = Held::default();
        held.follow(&take(&log));
        assert!(held.0.values().all(Vec::is_empty));
        assert!(memory.listeners().is_empty());
    }
}

#[test]
fn a_leaving_listener_that_fails_is_told_the_rest_and_leaves() {
    let (memory, _, port) = machine();
    memory.map(memory.system(), 0x20000, port).unwrap();
    let log = Log::default();
    let a = recorded(&memory, "a", 0, &log);
    take(&log);
    a.fails_in.store(1, Ordering::SeqCst);
    let id = memory.listeners()[0].id;
    assert!(matches!(
        memory.remove_listener(id),
        Err(MemoryError::ListenerFailed { callback: "region_del", .. })
    ));
    assert_eq!(take(&log), ["a begin", "a del 20000-200ff port@0", "a commit"]);
    assert!(memory.listeners().is_empty());
}

#[test]
fn a_panic_in_a_listener_goes_on_after_everything_was_put_back() {
    let (memory, _, port) = machine();
    struct Panics(AtomicBool);
    impl MemoryListener for Panics {
        fn name(&self) -> &str {
            "panics"
        }
        fn priority(&self) -> ListenerPriority {
            ListenerPriority::ACCEL
        }
        fn region_add(&self, _: &Section) -> Result<(), ListenerError> {
            assert!(!self.0.load(Ordering::SeqCst), "a bug in the listener");
            Ok(())
        }
    }
    let log = Log::default();
    recorded(&memory, "a", 0, &log);
    let panics = Arc::new(Panics(AtomicBool::new(false)));
    memory.add_listener(panics.clone()).unwrap();
    take(&log);
    panics.0.store(true, Ordering::SeqCst);
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| memory.map(memory.system(), 0x20000, port)));
    assert!(caught.is_err());
    assert_eq!(memory.region(port).unwrap().container, None);
    let calls = ["begin", "add 20000-200ff port@0", "del 20000-200ff port@0", "commit"];
    assert_eq!(take(&log), calls.map(|c| format!("a {c}")));
    assert_eq!(memory.listeners().iter().filter(|l| l.failed.is_some()).count(), 1);
    memory.map(memory.system(), 0x20000, port).unwrap();
    assert_eq!(take(&log).len(), 3);
}

#[test]
fn what_was_unmapped_and_removed_comes_back_when_a_listener_fails() {
    // The root of the space's view itself goes, and the space looks at another one meanwhile.
    let memory = Memory::builder(Endianness::Little).bare().build();
    let root = memory.add(Region::container("root", 0x1000)).unwrap();
    let inner = memory.add(Region::container("inner", 0x1000)).unwrap();
    let port = memory.add(Region::io("port", 0x10, Ops::new())).unwrap();
    memory
        .update(|t| {
            t.map(root, 0, inner)?;
            t.map(inner, 0x100, port)
        })
        .unwrap();
    let space = memory.address_space("space", root).unwrap();
    assert_eq!(space.view().unwrap().root(), Some(inner));
    let log = Log::default();
    let a = Arc::new(Recorder::named("a", 0, &log));
    memory.add_listener(a.clone()).unwrap();
    for n in 0..4 {
        a.fails_in.store(n, Ordering::SeqCst);
        let before = space.view().unwrap();
        let result = memory.update(|t| {
            t.unmap(inner, port)?;
            t.unmap(root, inner)?;
            t.remove(inner)?;
            let other = t.add(Region::container("other", 0x1000))?;
            t.map(other, 0x200, port)?;
            t.map(root, 0, other)
        });
        assert!(matches!(result, Err(MemoryError::ListenerFailed { .. })), "call {n}: {result:?}");
        assert!(Arc::ptr_eq(&before, &space.view().unwrap()));
        assert_eq!(memory.region(port).unwrap().addr, 0x100);
        assert_eq!(memory.region(inner).unwrap().container, Some(root));
        assert_eq!(memory.stale_view().unwrap(), None);
        // The tree's own accounts are in order: later changes are seen.
        a.fails_in.store(-1, Ordering::SeqCst);
        memory.update(|t| t.set_address(port, 0x180)).unwrap();
        assert!(space.view().unwrap().lookup(0x180).is_some());
        memory.update(|t| t.set_address(port, 0x100)).unwrap();
    }
}

#[test]
fn a_delta_has_the_spaces_that_somebody_listens_to() {
    let (memory, _, port) = machine();
    memory.address_space("second", memory.system()).unwrap();
    struct Counts(SpaceId, Mutex<Vec<Vec<SpaceId>>>);
    impl MemoryListener for Counts {
        fn name(&self) -> &str {
            "counts"
        }
        fn space(&self) -> Option<SpaceId> {
            Some(self.0)
        }
        fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
            self.1.lock().unwrap().push(delta.spaces().iter().map(|s| s.space()).collect());
            Ok(())
        }
    }
    let first = memory.memory_space().id();
    let counts = Arc::new(Counts(first, Mutex::default()));
    memory.add_listener(counts.clone()).unwrap();
    memory.map(memory.system(), 0x20000, port).unwrap();
    // Nothing of what is listened to.
    memory.update(|t| t.set_size(memory.io(), 0x8000)).unwrap();
    assert_eq!(*counts.1.lock().unwrap(), [vec![first], vec![first], vec![]]);
}

/// Keeps what is there, checks that commits do not mix, and refuses now and then to let something go.
#[derive(Default)]
struct Follows {
    /// In a commit, and whether something was refused in it.
    open: Mutex<(bool, bool)>,
    there: Mutex<BTreeMap<u64, String>>,
    dels: AtomicI64,
    space: OnceLock<SpaceId>,
}

impl MemoryListener for Follows {
    fn name(&self) -> &str {
        "follows"
    }
    fn space(&self) -> Option<SpaceId> {
        self.space.get().copied()
    }
    fn begin(&self) -> Result<(), ListenerError> {
        let old = std::mem::replace(&mut *self.open.lock().unwrap(), (true, false));
        assert!(!old.0, "two commits at once");
        Ok(())
    }
    fn commit(&self) -> Result<(), ListenerError> {
        assert!(std::mem::take(&mut *self.open.lock().unwrap()).0);
        Ok(())
    }
    fn region_add(&self, s: &Section) -> Result<(), ListenerError> {
        let old = self.there.lock().unwrap().insert(s.offset_in_space, s.name().to_owned());
        assert_eq!(old, None, "added over what is there");
        Ok(())
    }
    fn region_del(&self, s: &Section) -> Result<(), ListenerError> {
        let refused = &mut self.open.lock().unwrap().1;
        if self.dels.fetch_add(1, Ordering::Relaxed) % 7 == 6 && !std::mem::replace(refused, true) {
            return Err(ListenerError::new("busy"));
        }
        let old = self.there.lock().unwrap().remove(&s.offset_in_space);
        assert_eq!(old.as_deref(), Some(s.name()));
        Ok(())
    }
}

#[test]
fn commits_of_several_threads_are_told_one_after_the_other_and_readers_go_on() {
    let (memory, ..) = machine();
    let follows = Arc::new(Follows::default());
    follows.space.set(memory.memory_space().id()).unwrap();
    memory.add_listener(follows.clone()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = || {
            let reader = memory.memory_space().reader();
            let mut count = 0_u64;
            // At least once: the writers may be done before this thread runs.
            loop {
                assert_eq!(reader.load::<Be, u32>(0x10), Ok(0));
                count += 1;
                if stop.load(Ordering::Relaxed) {
                    return count;
                }
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let writer = |i: u64| {
            let port = memory.add(Region::io(format!("port {i}"), 0x100, Ops::new())).unwrap();
            memory.map(memory.system(), 0x10_0000 * i, port).unwrap();
            let mut refused = 0;
            for n in 0..500 {
                let before = memory.region(port).unwrap().addr;
                match memory.update(|t| t.set_address(port, 0x10_0000 * i + n % 16 * 0x1000)) {
                    Ok(()) => {}
                    Err(MemoryError::ListenerFailed { reason, .. }) => {
                        assert_eq!(&*reason, "busy");
                        assert_eq!(memory.region(port).unwrap().addr, before);
                        refused += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            refused
        };
        let writers = [1, 2, 3].map(|i| scope.spawn(move || writer(i)));
        let refused: u32 = writers.into_iter().map(|w| w.join().unwrap()).sum();
        assert!(refused > 50, "moves were refused, and taken back");
        stop.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().all(|r| r.join().unwrap() > 0));
    });
    let view = memory.memory_space().view().unwrap();
    let shown: BTreeMap<_, _> = view.ranges().map(|r| (r.start(), r.name().to_owned())).collect();
    assert_eq!(*follows.there.lock().unwrap(), shown);
}
