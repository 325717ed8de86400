//! Memory given back: ranges of blocks, the account of what is populated, and who may do it when.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail loudly")]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use proptest::prelude::*;

use flatview::{
    DiscardBusy, DiscardError, DiscardListener, DiscardManager, DiscardRules, Endianness, Memory, RamBlock,
    RamError, Refusal, Region, RegionId, Share,
};

const PAGE: u64 = 4096;
const GRAIN: u64 = 4 * PAGE;

fn byte(block: &Arc<RamBlock>, offset: u64) -> u8 {
    let mut out = [0];
    block.read(offset, &mut out).unwrap();
    out[0]
}

#[test]
fn discarded_memory_reads_as_zeros_or_as_its_private_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, vec![9; 5 * PAGE as usize]).unwrap();
    for (builder, left) in [
        (RamBlock::builder("anonymous", 4 * PAGE), 0),
        (RamBlock::builder("shared", 4 * PAGE).share(Share::Shared), 0),
        (RamBlock::builder("memfd", 4 * PAGE).memfd().share(Share::Shared), 0),
        (RamBlock::builder("private memfd", 4 * PAGE).memfd(), 0),
        (RamBlock::builder("private file", 4 * PAGE).file(&path).offset(PAGE), 9),
        (RamBlock::builder("shared file", 4 * PAGE).file(&path).offset(PAGE).share(Share::Shared), 0),
    ] {
        let block = builder.build().unwrap();
        block.write(0, &vec![1; 4 * PAGE as usize]).unwrap();
        block.discard(PAGE..3 * PAGE).unwrap();
        for (page, value) in [(0, 1), (1, left), (2, left), (3, 1)] {
            assert_eq!(byte(&block, page * PAGE + 17), value, "{} page {page}", block.name());
        }
        block.discard(PAGE..PAGE).unwrap();
        block.write(PAGE, &[5]).unwrap();
        assert_eq!(byte(&block, PAGE), 5, "it can be used again");
    }
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file.len() as u64, 5 * PAGE, "a file keeps its length");
    assert_eq!(file[0], 9, "what lies before the block is not touched");
}

#[test]
fn what_cannot_be_discarded_is_refused_with_the_reason() {
    let block = RamBlock::anonymous("a", 4 * PAGE).unwrap();
    assert!(matches!(block.discard(1..PAGE), Err(RamError::Misaligned { offset: 1, .. })));
    assert!(matches!(block.discard(0..PAGE + 1), Err(RamError::Misaligned { .. })));
    assert!(matches!(block.discard(0..5 * PAGE), Err(RamError::OutOfRange { .. })));
    assert!(matches!(block.discard(4 * PAGE..u64::MAX - PAGE + 1), Err(RamError::OutOfRange { .. })));
    let buffer: Box<[std::sync::atomic::AtomicU8]> =
        (0..2 * PAGE).map(|_| std::sync::atomic::AtomicU8::new(0)).collect();
    let mine = RamBlock::from_buffer("mine", buffer).unwrap();
    let e = mine.discard(0..PAGE).unwrap_err();
    assert!(e.to_string().contains("a buffer of the program's own"), "{e}");
}

/// Notes what it is told, and refuses what begins at `refuse`.
#[derive(Default)]
struct Notes {
    name: &'static str,
    refuse: Mutex<Option<u64>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Notes {
    fn new(name: &'static str, log: &Arc<Mutex<Vec<String>>>) -> Arc<Self> {
        Arc::new(Self { name, refuse: Mutex::default(), log: log.clone() })
    }

    fn note(&self, sign: char, range: &Range<u64>) {
        let line = format!("{} {sign}{}..{}", self.name, range.start / GRAIN, range.end / GRAIN);
        self.log.lock().unwrap().push(line);
    }
}

impl DiscardListener for Notes {
    fn populate(&self, _: &Arc<RamBlock>, range: Range<u64>) -> Result<(), Refusal> {
        if *self.refuse.lock().unwrap() == Some(range.start / GRAIN) {
            return Err("too much is pinned".into());
        }
        self.note('+', &range);
        Ok(())
    }

    fn discard(&self, _: &Arc<RamBlock>, range: Range<u64>) {
        self.note('-', &range);
    }
}

fn machine(pieces: u64) -> (Memory, RegionId, Arc<RamBlock>) {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("vmem", pieces * GRAIN).unwrap();
    let region = memory.add(Region::ram("vmem", block.clone())).unwrap();
    (memory, region, block)
}

fn pieces(range: Range<u64>) -> Range<u64> {
    range.start * GRAIN..range.end * GRAIN
}

fn taken(log: &Arc<Mutex<Vec<String>>>) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn listeners_are_told_of_the_parts_that_change_and_nothing_else() {
    let (memory, region, block) = machine(10);
    let manager = DiscardManager::new(&memory, region, GRAIN).unwrap();
    assert!(Arc::ptr_eq(&block.discard_manager().unwrap(), &manager));
    let log = Arc::default();
    manager.listen(Notes::new("a", &log)).unwrap();
    manager.populate(pieces(2..4)).unwrap();
    manager.populate(pieces(6..7)).unwrap();
    assert_eq!(taken(&log), ["a +2..4", "a +6..7"]);
    manager.populate(pieces(1..8)).unwrap();
    assert_eq!(taken(&log), ["a +1..2", "a +4..6", "a +7..8"]);
    assert!(manager.is_populated(pieces(1..8)).unwrap());
    assert!(!manager.is_populated(pieces(0..2)).unwrap());
    block.write(5 * GRAIN, &[1]).unwrap();
    block.write(6 * GRAIN, &[2]).unwrap();
    manager.discard(pieces(0..6)).unwrap();
    assert_eq!(taken(&log), ["a -1..6"]);
    assert_eq!((byte(&block, 5 * GRAIN), byte(&block, 6 * GRAIN)), (0, 2), "the memory is given back too");
    assert_eq!(manager.populated(pieces(0..10)).unwrap(), [pieces(6..8)]);
    assert_eq!(manager.discarded(pieces(5..10)).unwrap(), [pieces(5..6), pieces(8..10)]);
}

#[test]
fn a_refusal_takes_back_what_the_others_agreed_to_in_reverse_order() {
    let (memory, region, _) = machine(10);
    let manager = DiscardManager::new(&memory, region, GRAIN).unwrap();
    let log = Arc::default();
    let (first, second) = (Notes::new("a", &log), Notes::new("b", &log));
    manager.listen(first).unwrap();
    manager.listen(second.clone()).unwrap();
    manager.populate(pieces(3..4)).unwrap();
    taken(&log);
    *second.refuse.lock().unwrap() = Some(4);
    let e = manager.populate(pieces(2..6)).unwrap_err();
    assert!(matches!(e, DiscardError::Refused { .. }));
    assert!(e.to_string().contains("0x10000..0x18000 of RAM block 'vmem': too much is pinned"), "{e}");
    assert_eq!(taken(&log), ["a +2..3", "b +2..3", "a +4..6", "a -4..6", "b -2..3", "a -2..3"]);
    assert_eq!(manager.populated(pieces(0..10)).unwrap(), [pieces(3..4)], "as before");
}

#[test]
fn who_comes_later_is_told_of_what_is_there_and_may_refuse_it() {
    let (memory, region, _) = machine(10);
    let manager = DiscardManager::new(&memory, region, GRAIN).unwrap();
    manager.populate(pieces(0..2)).unwrap();
    manager.populate(pieces(5..6)).unwrap();
    let log = Arc::default();
    let late = Notes::new("late", &log);
    *late.refuse.lock().unwrap() = Some(5);
    assert!(matches!(manager.listen(late.clone()), Err(DiscardError::Refused { .. })));
    assert_eq!(taken(&log), ["late +0..2", "late -0..2"]);
    *late.refuse.lock().unwrap() = None;
    let id = manager.listen(late).unwrap();
    assert_eq!(taken(&log), ["late +0..2", "late +5..6"]);
    manager.unlisten(id).unwrap();
    assert_eq!(taken(&log), ["late -0..2", "late -5..6"]);
    assert!(matches!(manager.unlisten(id), Err(DiscardError::NoListener { .. })));
    manager.populate(pieces(7..8)).unwrap();
    assert!(taken(&log).is_empty());
}

#[test]
fn replay_goes_over_both_kinds_of_parts_until_it_is_stopped() {
    let (memory, region, _) = machine(8);
    let manager = DiscardManager::new(&memory, region, GRAIN).unwrap();
    manager.populate(pieces(1..2)).unwrap();
    manager.populate(pieces(3..5)).unwrap();
    let mut seen = Vec::new();
    manager
        .replay_populated(pieces(0..8), |range| {
            seen.push(range);
            Ok::<_, DiscardError>(())
        })
        .unwrap();
    assert_eq!(seen, [pieces(1..2), pieces(3..5)]);
    let mut first = None;
    let stopped = manager.replay_discarded(pieces(0..8), |range| {
        first = Some(range);
        Err(DiscardError::NoListener { block: "stop".into() })
    });
    assert!(stopped.is_err());
    assert_eq!(first, Some(pieces(0..1)));
}

#[test]
fn a_manager_is_made_once_for_ram_that_is_not_mapped_yet() {
    let (memory, region, block) = machine(4);
    for (granularity, good) in [(PAGE / 2, false), (3 * PAGE, false), (0, false), (PAGE, true)] {
        assert_eq!(DiscardManager::new(&memory, region, granularity).is_ok(), good, "{granularity:#x}");
    }
    assert!(block.discard_manager().is_none(), "it went with its owner");
    let manager = DiscardManager::new(&memory, region, GRAIN).unwrap();
    assert!(matches!(DiscardManager::new(&memory, region, GRAIN), Err(DiscardError::AlreadyManaged { .. })));
    for bad in [0..GRAIN + 1, 1..GRAIN, GRAIN..5 * GRAIN, u64::MAX - 1..u64::MAX] {
        assert!(matches!(manager.populate(bad.clone()), Err(DiscardError::BadRange { .. })), "{bad:?}");
    }
    drop(manager);
    memory.map(memory.system(), 0, region).unwrap();
    assert!(matches!(DiscardManager::new(&memory, region, GRAIN), Err(DiscardError::Mapped { .. })));
    let container = memory.add(Region::container("c", 1)).unwrap();
    assert!(matches!(DiscardManager::new(&memory, container, GRAIN), Err(DiscardError::NotRam { .. })));
}

#[test]
fn a_listener_that_changes_what_it_is_told_of_gets_an_error_and_no_deadlock() {
    struct Meddler(Mutex<Weak<DiscardManager>>, AtomicBool);
    impl DiscardListener for Meddler {
        fn populate(&self, _: &Arc<RamBlock>, _: Range<u64>) -> Result<(), Refusal> {
            let manager = self.0.lock().unwrap().upgrade().unwrap();
            let e = manager.discard(0..GRAIN).unwrap_err();
            self.1.store(matches!(e, DiscardError::Reentered { .. }), Ordering::Relaxed);
            assert!(!manager.is_populated(0..GRAIN).unwrap(), "looking is allowed");
            Ok(())
        }
        fn discard(&self, _: &Arc<RamBlock>, _: Range<u64>) {}
    }
    let (memory, region, _) = machine(2);
    let manager = DiscardManager::new(&memory, region, GRAIN).unwrap();
    let meddler = Arc::new(Meddler(Mutex::new(Arc::downgrade(&manager)), AtomicBool::new(false)));
    manager.listen(meddler.clone()).unwrap();
    manager.populate(0..GRAIN).unwrap();
    assert!(meddler.1.load(Ordering::Relaxed));
}

#[test]
fn listeners_see_each_part_come_and_go_in_turn_whatever_the_threads_do() {
    /// Every part is populated when it is discarded, and discarded when it is populated.
    struct Strict(Mutex<[bool; 16]>);
    impl DiscardListener for Strict {
        fn populate(&self, _: &Arc<RamBlock>, range: Range<u64>) -> Result<(), Refusal> {
            for piece in range.start / GRAIN..range.end / GRAIN {
                assert!(!std::mem::replace(&mut self.0.lock().unwrap()[piece as usize], true));
            }
            Ok(())
        }
        fn discard(&self, _: &Arc<RamBlock>, range: Range<u64>) {
            for piece in range.start / GRAIN..range.end / GRAIN {
                assert!(std::mem::replace(&mut self.0.lock().unwrap()[piece as usize], false));
            }
        }
    }
    let (memory, region, block) = machine(16);
    let manager = DiscardManager::new(&memory, region, GRAIN).unwrap();
    memory.map(memory.system(), 0, region).unwrap();
    let strict = Arc::new(Strict(Mutex::default()));
    manager.listen(strict.clone()).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let manager = &manager;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..500 {
                    let start = random.u64(0..16);
                    let range = pieces(start..random.u64(start..=16));
                    if random.bool() { manager.populate(range) } else { manager.discard(range) }.unwrap();
                }
            });
        }
        scope.spawn(|| {
            let reader = memory.memory_space().reader();
            for i in 0..20_000_u64 {
                let at = i.wrapping_mul(977) % (16 * GRAIN - 8);
                reader.store::<flatview::Le, u64>(at, i).unwrap();
                reader.load::<flatview::Le, u64>(at).unwrap();
            }
        });
    });
    let listed = manager.populated(0..block.size()).unwrap();
    let flags = *strict.0.lock().unwrap();
    for (piece, populated) in flags.iter().enumerate() {
        let at = piece as u64 * GRAIN;
        assert_eq!(listed.iter().any(|range| range.contains(&at)), *populated, "{piece}");
    }
}

#[test]
fn who_needs_discarding_and_who_cannot_bear_it_keep_each_other_out() {
    type Ask = fn(&DiscardRules) -> Result<flatview::DiscardGuard, DiscardBusy>;
    let asks: [(&str, Ask); 4] = [
        ("disable", DiscardRules::disable),
        ("disable uncoordinated", DiscardRules::disable_uncoordinated),
        ("require", DiscardRules::require),
        ("require coordinated", DiscardRules::require_coordinated),
    ];
    // First what is held, then what is asked.
    let forbidden = [
        ("disable", "require"),
        ("disable", "require coordinated"),
        ("disable uncoordinated", "require"),
        ("require", "disable"),
        ("require", "disable uncoordinated"),
        ("require coordinated", "disable"),
    ];
    for (held, hold) in asks {
        for (asked, ask) in asks {
            let memory = Memory::new(Endianness::Little);
            let rules = memory.discard_rules();
            let guard = hold(rules).unwrap();
            let again = hold(rules).unwrap();
            assert_eq!(ask(rules).is_err(), forbidden.contains(&(held, asked)), "{held}, then {asked}");
            drop(again);
            assert_eq!(ask(rules).is_err(), forbidden.contains(&(held, asked)), "one is still held");
            assert_eq!(rules.is_disabled(), held.starts_with("disable"));
            assert_eq!(rules.is_required(), held.starts_with("require"));
            drop(guard);
            drop(ask(rules).unwrap());
            assert!(!rules.is_disabled() && !rules.is_required());
        }
    }
    let rules = DiscardRules::default();
    let _held = rules.require().unwrap();
    assert_eq!(rules.disable().unwrap_err(), DiscardBusy::Required);
}

/// One step of a random history of a manager.
#[derive(Debug, Clone)]
enum Step {
    Populate(u64, u64),
    Discard(u64, u64),
    Listen,
    Unlisten(usize),
    /// From now on this listener refuses what begins at that piece; a second time it no longer does.
    Refuse(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..PIECES).prop_flat_map(|start| (Just(start), start..=PIECES));
    prop_oneof![
        4 => range().prop_map(|(start, end)| Step::Populate(start, end)),
        3 => range().prop_map(|(start, end)| Step::Discard(start, end)),
        1 => Just(Step::Listen),
        1 => (0..4_usize).prop_map(Step::Unlisten),
        1 => (0..4_usize, 0..PIECES).prop_map(|(who, at)| Step::Refuse(who, at)),
    ]
}

const PIECES: u64 = 12;

/// Keeps its own account by what it is told.
#[derive(Default)]
struct Accountant {
    account: Mutex<[bool; PIECES as usize]>,
    refuse: Mutex<Option<u64>>,
}

impl DiscardListener for Accountant {
    fn populate(&self, _: &Arc<RamBlock>, range: Range<u64>) -> Result<(), Refusal> {
        if *self.refuse.lock().unwrap() == Some(range.start / GRAIN) {
            return Err("no".into());
        }
        for piece in range.start / GRAIN..range.end / GRAIN {
            assert!(!std::mem::replace(&mut self.account.lock().unwrap()[piece as usize], true));
        }
        Ok(())
    }

    fn discard(&self, _: &Arc<RamBlock>, range: Range<u64>) {
        for piece in range.start / GRAIN..range.end / GRAIN {
            assert!(std::mem::replace(&mut self.account.lock().unwrap()[piece as usize], false));
        }
    }
}

proptest! {
    /// After every step each listener's account is the manager's, the manager's is that of a plain list of flags, and
    /// what is discarded reads as zeros; a step that is refused has changed nothing.
    #[test]
    fn every_listener_knows_what_is_populated_after_any_history(steps in proptest::collection::vec(step(), 1..60)) {
        let (memory, region, block) = machine(PIECES);
        let manager = DiscardManager::new(&memory, region, GRAIN).unwrap();
        let mut model = [false; PIECES as usize];
        let mut listeners: Vec<(flatview::DiscardListenerId, Arc<Accountant>)> = Vec::new();
        for step in steps {
            match step {
                Step::Populate(start, end) => {
                    if manager.populate(pieces(start..end)).is_ok() {
                        for piece in start..end {
                            model[piece as usize] = true;
                            block.write(piece * GRAIN, &[1]).unwrap();
                        }
                    }
                }
                Step::Discard(start, end) => {
                    manager.discard(pieces(start..end)).unwrap();
                    model[start as usize..end as usize].fill(false);
                }
                Step::Listen => {
                    let new = Arc::new(Accountant::default());
                    listeners.push((manager.listen(new.clone()).unwrap(), new));
                }
                Step::Unlisten(who) if who < listeners.len() => {
                    let (id, old) = listeners.remove(who);
                    manager.unlisten(id).unwrap();
                    prop_assert_eq!(*old.account.lock().unwrap(), [false; PIECES as usize]);
                }
                Step::Refuse(who, at) if who < listeners.len() => {
                    let mut refuse = listeners[who].1.refuse.lock().unwrap();
                    *refuse = if refuse.is_some() { None } else { Some(at) };
                }
                Step::Unlisten(_) | Step::Refuse(..) => {}
            }
            for (_, listener) in &listeners {
                prop_assert_eq!(*listener.account.lock().unwrap(), model);
            }
            for piece in 0..PIECES {
                let populated = model[piece as usize];
                prop_assert_eq!(manager.is_populated(pieces(piece..piece + 1)).unwrap(), populated);
                prop_assert_eq!(byte(&block, piece * GRAIN), u8::from(populated));
            }
        }
    }
}
