//! Random maps under random changes: what listeners are told, held against a difference that is computed from nothing,
//! from the ranges of whole views and the lists of all regions; and listeners that fail at random calls, after which
//! everything must be as it was.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

#[expect(dead_code, reason = "what other tests use")]
mod support;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use flatview::{
    AddressSpace, Delta, DirtyClient, Endianness, EventNotifier, GlobalLog, IoEventFd, ListenerError,
    ListenerPriority, Memory, MemoryError, MemoryListener, Ops, RamBlock, Region, RegionId, Section, SpaceId,
    Transaction, WHOLE,
};
use support::model::Sort;
use support::seeds::{Tally, try_seeds};
use support::world::{Leaves, Outcome, World, budget};

fn notifiers() -> &'static [Arc<EventNotifier>; 3] {
    static ALL: OnceLock<[Arc<EventNotifier>; 3]> = OnceLock::new();
    ALL.get_or_init(|| std::array::from_fn(|_| Arc::new(EventNotifier::new().expect("an eventfd"))))
}

/// Leaves over one block, which is this map's own: another memory's log of it would be refused.
struct Kinds(Arc<RamBlock>);

impl Kinds {
    fn new() -> Self {
        Self(RamBlock::anonymous("block", 64 << 10).expect("64 KiB"))
    }
}

impl Leaves for Kinds {
    fn leaf(&mut self, rng: &mut fastrand::Rng, name: String, size: u128) -> (Region, Sort, u128) {
        let room = self.0.size().into();
        match rng.u32(..4) {
            0 if size <= room => (Region::ram(name, Arc::clone(&self.0)).size(size), Sort::Leaf, room),
            1 if size <= room => {
                let device = Region::rom_device(name, Arc::clone(&self.0), Ops::new()).size(size);
                (device, Sort::RomDevice, room)
            }
            _ => (Region::io(name, size, Ops::new()), Sort::Leaf, WHOLE),
        }
    }
    fn added(&mut self, _: RegionId) {}
}

/// A range of a view, as plain values. Equal ranges may be logged for different clients.
#[derive(Debug, Clone)]
struct Range {
    start: u64,
    last: u64,
    region: RegionId,
    offset: u64,
    marks: (bool, bool, bool),
    log: u8,
}

impl PartialEq for Range {
    fn eq(&self, o: &Self) -> bool {
        (self.start, self.last, self.region, self.offset, self.marks)
            == (o.start, o.last, o.region, o.offset, o.marks)
    }
}

impl Range {
    fn text(&self) -> String {
        format!("{:x}-{:x} {}@{:x} {:?}", self.start, self.last, self.region, self.offset, self.marks)
    }
}

fn ranges(space: &AddressSpace) -> Vec<Range> {
    let view = space.view().unwrap();
    let plain = view.ranges().map(|r| Range {
        start: r.start(),
        last: r.last(),
        region: r.region(),
        offset: r.offset(),
        marks: (r.readonly(), r.nonvolatile(), r.romd()),
        log: r.log_mask(),
    });
    plain.collect()
}

/// What the test knows of a region's lists.
#[derive(Debug, Clone, Default)]
struct Lists {
    /// Offset, size, data, notifier.
    eventfds: Vec<(u64, u32, Option<u64>, usize)>,
    coalesced: Vec<(u64, u128)>,
}

type AllLists = HashMap<RegionId, Lists>;

fn text_of_section(s: &Section) -> String {
    Range {
        start: s.offset_in_space,
        last: s.last(),
        region: s.region,
        offset: s.offset_in_region,
        marks: (s.readonly, s.nonvolatile, s.romd),
        log: 0,
    }
    .text()
}

/// The coalesced ranges that a range of a view shows.
fn coalesced(range: &Range, lists: &AllLists) -> Vec<(i128, i128)> {
    let shift = i128::from(range.start) - i128::from(range.offset);
    let list = lists.get(&range.region).map_or(&[][..], |l| &l.coalesced);
    let clipped = list.iter().map(|(offset, size)| {
        let from = (i128::from(*offset) + shift).max(range.start.into());
        (from, (i128::from(*offset) + *size as i128 + shift).min(i128::from(range.last) + 1) - from)
    });
    clipped.filter(|(_, size)| *size > 0).collect()
}

/// The ioeventfds that a view shows, in the order in which they are told.
fn eventfds(view: &[Range], lists: &AllLists) -> Vec<(u64, u32, Option<u64>, i32, RegionId)> {
    let mut all = Vec::new();
    for range in view {
        let shift = i128::from(range.start) - i128::from(range.offset);
        for (offset, size, data, notifier) in lists.get(&range.region).map_or(&[][..], |l| &l.eventfds) {
            let from = i128::from(*offset) + shift;
            let last = from + i128::from((*size).max(1)) - 1;
            let touches = from <= range.last.into() && last >= range.start.into();
            if let Some(addr) = u64::try_from(from).ok().filter(|_| touches) {
                all.push((addr, *size, *data, notifiers()[*notifier].as_fd().as_raw_fd(), range.region));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

fn text_of_eventfd((addr, size, data, fd, region): &(u64, u32, Option<u64>, i32, RegionId)) -> String {
    format!("{addr:x} {size} {data:?} {fd} {region}")
}

/// What must be told of one space.
fn expected(
    nop: bool,
    (old, old_lists): (&[Range], &AllLists),
    (new, new_lists): (&[Range], &AllLists),
    out: &mut Vec<String>,
) {
    // Each as often as it is there.
    let minus = |mut a: Vec<(i128, i128)>, b: &[(i128, i128)]| {
        let count = |list: &[(i128, i128)], c| list.iter().filter(|x| **x == c).count();
        let (mut i, all) = (0, a.clone());
        a.retain(|c| {
            i += 1;
            count(&all[..i], *c) > count(b, *c)
        });
        a
    };
    for range in old {
        let kept = new.contains(range);
        let staying = if kept { coalesced(range, new_lists) } else { Vec::new() };
        for (addr, size) in minus(coalesced(range, old_lists), &staying) {
            out.push(format!("coalesced_del {addr:x}+{size:x}"));
        }
        if !kept {
            out.push(format!("del {}", range.text()));
        }
    }
    for range in new {
        let kept = old.contains(range);
        match (kept, nop) {
            (false, _) => out.push(format!("add {} log {}", range.text(), range.log)),
            (true, true) => out.push(format!("nop {}", range.text())),
            (true, false) => {}
        }
        if let Some(was) = old.iter().find(|r| *r == range) {
            if range.log & !was.log != 0 {
                out.push(format!("log_start {} log {} {}", range.text(), was.log, range.log));
            }
            if was.log & !range.log != 0 {
                out.push(format!("log_stop {} log {} {}", range.text(), was.log, range.log));
            }
        }
        let already = if kept { coalesced(range, old_lists) } else { Vec::new() };
        for (addr, size) in minus(coalesced(range, new_lists), &already) {
            out.push(format!("coalesced_add {addr:x}+{size:x}"));
        }
    }
    let (gone, new) = (eventfds(old, old_lists), eventfds(new, new_lists));
    let mut both: Vec<_> = gone.iter().chain(&new).collect();
    both.sort();
    both.dedup();
    for eventfd in both {
        match (gone.contains(eventfd), new.contains(eventfd)) {
            (true, false) => out.push(format!("eventfd_del {}", text_of_eventfd(eventfd))),
            (false, true) => out.push(format!("eventfd_add {}", text_of_eventfd(eventfd))),
            _ => {}
        }
    }
}

/// Writes down what it is told, and fails at a call if told so.
struct Recorder {
    name: String,
    priority: u32,
    space: Option<SpaceId>,
    nop: bool,
    calls: Mutex<Vec<(Option<SpaceId>, String)>>,
    /// From the deltas: what was removed and added.
    deltas: Mutex<Vec<(SpaceId, String)>>,
    fails_in: AtomicI64,
}

impl Recorder {
    fn told(&self, space: Option<SpaceId>, what: String) -> Result<(), ListenerError> {
        if self.fails_in.load(Ordering::Relaxed) >= 0 && self.fails_in.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(ListenerError::new(format!("fails in {what}")));
        }
        self.calls.lock().unwrap().push((space, what));
        Ok(())
    }

    fn section(&self, what: &str, s: &Section) -> Result<(), ListenerError> {
        self.told(Some(s.space), format!("{what} {}", text_of_section(s)))
    }

    fn eventfd(&self, what: &str, e: &IoEventFd) -> Result<(), ListenerError> {
        let plain = (e.addr, e.size, e.data, e.notifier.as_fd().as_raw_fd(), e.region);
        self.told(Some(e.space), format!("{what} {}", text_of_eventfd(&plain)))
    }

    fn take(&self) -> Vec<(Option<SpaceId>, String)> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl MemoryListener for Recorder {
    fn name(&self) -> &str {
        &self.name
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
    fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
        let mut seen = self.deltas.lock().unwrap();
        seen.clear();
        for space in delta.spaces().iter().filter(|s| self.space.is_none_or(|only| only == s.space())) {
            seen.extend(space.removed().map(|s| (space.space(), format!("del {}", text_of_section(&s)))));
            let log = |s: &Section| s.range().expect("a section is of a range").log_mask();
            let added = space.added().map(|s| format!("add {} log {}", text_of_section(&s), log(&s)));
            seen.extend(added.map(|text| (space.space(), text)));
            assert_eq!(space.kept().count() + space.added().count(), space.new_view().len());
        }
        Ok(())
    }
    fn begin(&self) -> Result<(), ListenerError> {
        self.told(None, "begin".into())
    }
    fn commit(&self) -> Result<(), ListenerError> {
        self.told(None, "commit".into())
    }
    fn region_add(&self, s: &Section) -> Result<(), ListenerError> {
        let log = s.range().expect("a section is of a range").log_mask();
        self.told(Some(s.space), format!("add {} log {log}", text_of_section(s)))
    }
    fn log_start(&self, s: &Section, old: u8, new: u8) -> Result<(), ListenerError> {
        assert_ne!(new & !old, 0);
        self.told(Some(s.space), format!("log_start {} log {old} {new}", text_of_section(s)))
    }
    fn log_stop(&self, s: &Section, old: u8, new: u8) -> Result<(), ListenerError> {
        assert_ne!(old & !new, 0);
        self.told(Some(s.space), format!("log_stop {} log {old} {new}", text_of_section(s)))
    }
    fn log_global_start(&self) -> Result<(), ListenerError> {
        self.told(None, "global_add all".into())
    }
    fn log_global_stop(&self) {
        self.calls.lock().unwrap().push((None, "global_del all".into()));
    }
    fn region_del(&self, s: &Section) -> Result<(), ListenerError> {
        self.section("del", s)
    }
    fn region_nop(&self, s: &Section) -> Result<(), ListenerError> {
        self.section("nop", s)
    }
    fn eventfd_add(&self, e: &IoEventFd) -> Result<(), ListenerError> {
        self.eventfd("eventfd_add", e)
    }
    fn eventfd_del(&self, e: &IoEventFd) -> Result<(), ListenerError> {
        self.eventfd("eventfd_del", e)
    }
    fn coalesced_io_add(&self, s: &Section, addr: u64, size: u128) -> Result<(), ListenerError> {
        assert!(s.offset_in_space <= addr && size > 0);
        self.told(Some(s.space), format!("coalesced_add {addr:x}+{size:x}"))
    }
    fn coalesced_io_del(&self, s: &Section, addr: u64, size: u128) -> Result<(), ListenerError> {
        assert!(s.offset_in_space <= addr && size > 0);
        self.told(Some(s.space), format!("coalesced_del {addr:x}+{size:x}"))
    }
}

/// What a listener has there, from what it was told: how often, and for which clients it is logged.
type Held = BTreeMap<(Option<SpaceId>, String), (u32, u8)>;

fn follow(held: &mut Held, calls: &[(Option<SpaceId>, String)]) {
    let mut open = false;
    for (space, call) in calls {
        let Some((what, thing)) = call.split_once(' ') else {
            assert_eq!(open, call == "commit", "{calls:#?}");
            open = !open;
            continue;
        };
        let kind = match what {
            "eventfd_add" | "eventfd_del" => "eventfd",
            "coalesced_add" | "coalesced_del" => "coalesced",
            _ => "region",
        };
        let (thing, log) = thing.split_once(" log ").unwrap_or((thing, "0"));
        let log = log.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<u8>>();
        let key = (*space, format!("{kind} {thing}"));
        if what.ends_with("add") {
            let (count, logged) = held.entry(key).or_default();
            (*count, *logged) = (*count + 1, log[0]);
            continue;
        }
        let (count, logged) = held.get_mut(&key).unwrap_or_else(|| panic!("{call}: it is not there"));
        if what.starts_with("log_") {
            // Started and stopped for different clients at once: two calls with the same masks.
            assert!(log.contains(logged), "{call}: it was logged for {logged}");
            *logged = log[1];
        } else if what.ends_with("del") {
            *count -= 1;
            if *count == 0 {
                held.remove(&key);
            }
        }
    }
    assert!(!open, "a begin without a commit: {calls:#?}");
}

#[derive(Default)]
struct Seenings {
    commits: u64,
    given_up: u64,
    refused: u64,
    calls: u64,
    eventfds: u64,
    coalesced: u64,
    logs: u64,
    failed: u64,
}

impl Tally for Seenings {
    fn add(&mut self, o: Self) {
        self.commits += o.commits;
        self.given_up += o.given_up;
        self.refused += o.refused;
        self.calls += o.calls;
        self.eventfds += o.eventfds;
        self.coalesced += o.coalesced;
        self.logs += o.logs;
        self.failed += o.failed;
    }
}

/// Random changes of regions' lists.
fn change_lists(t: &mut Transaction<'_>, ids: &[RegionId], lists: &mut AllLists, rng: &mut fastrand::Rng) {
    for _ in 0..rng.u32(..4) {
        let id = ids[rng.usize(..ids.len())];
        if t.region(id).is_err() {
            lists.remove(&id);
            continue;
        }
        let list = lists.entry(id).or_default();
        let offset = if rng.bool() { rng.u64(..24) } else { rng.u64(..24) * 0x400 };
        match rng.u32(..8) {
            0..4 => {
                let size = [0, 1, 2, 4, 8][rng.usize(..5)];
                let data = (size > 0 && rng.bool()).then(|| rng.u64(..2));
                let notifier = rng.usize(..3);
                let new = (offset, size, data, notifier);
                let result = t.add_eventfd(id, offset, size, data, &notifiers()[notifier]);
                assert_eq!(result.is_ok(), !list.eventfds.contains(&new), "{result:?}");
                if result.is_ok() {
                    list.eventfds.push(new);
                }
            }
            4..6 if !list.eventfds.is_empty() => {
                let (offset, size, data, notifier) =
                    list.eventfds.swap_remove(rng.usize(..list.eventfds.len()));
                t.del_eventfd(id, offset, size, data, &notifiers()[notifier]).unwrap();
                t.del_eventfd(id, offset, size, data, &notifiers()[notifier]).unwrap_err();
            }
            6 => {
                let size = rng.u64(..12);
                t.add_coalescing(id, offset, size).unwrap();
                list.coalesced.push((offset, size.into()));
            }
            7 => {
                t.clear_coalescing(id).unwrap();
                list.coalesced.clear();
            }
            _ => {
                t.set_coalescing(id).unwrap();
                list.coalesced = vec![(0, t.region(id).unwrap().size)];
            }
        }
    }
}

/// Random starts and stops of logs; those that cannot be are refused.
fn change_logs(t: &mut Transaction<'_>, ids: &[RegionId], rng: &mut fastrand::Rng) {
    for _ in 0..rng.u32(..4) {
        let client = [DirtyClient::VGA, DirtyClient::CODE][rng.usize(..2)];
        let on = rng.u32(..3) > 0;
        let result = match rng.u32(..8) {
            0 => t.set_log_all(client, on),
            1 if on => t.start_global_log(GlobalLog::MIGRATION),
            1 => t.stop_global_log(GlobalLog::MIGRATION),
            _ => t.set_log(ids[rng.usize(..ids.len())], client, on),
        };
        let refused = matches!(
            result,
            Ok(())
                | Err(MemoryError::NoRam { .. }
                    | MemoryError::NotLogged { .. }
                    | MemoryError::NotLoggedEverywhere { .. }
                    | MemoryError::NoGlobalLog { .. })
        );
        assert!(refused, "{result:?}");
    }
}

/// A transaction of the world and of the lists.
fn transaction(world: &mut World<Kinds>, lists: &mut AllLists, rng: &mut fastrand::Rng) -> Outcome {
    let memory = world.memory.clone();
    let (model, old_lists) = (world.model.clone(), lists.clone());
    let result = memory.update(|t| {
        let outcome = if rng.u32(..8) == 0 { Outcome::Done } else { world.transaction() };
        let ids: Vec<_> = world.model.nodes.iter().filter(|n| n.alive).map(|n| n.id).collect();
        if rng.bool() {
            change_lists(t, &ids, lists, rng);
        }
        if rng.bool() {
            change_logs(t, &ids, rng);
        }
        // What was removed has no lists.
        lists.retain(|id, _| t.region(*id).is_ok());
        match outcome {
            Outcome::Done if rng.u32(..16) == 0 => Err(None),
            // An inner update that failed undid itself; the rest may stay.
            Outcome::Done | Outcome::GivenUp => Ok(()),
            Outcome::Refused(e) => Err(Some(e)),
        }
        .map_err(Stop)
    });
    match result {
        Ok(()) => Outcome::Done,
        Err(Stop(error)) => {
            world.model = model;
            *lists = old_lists;
            error.map_or(Outcome::GivenUp, Outcome::Refused)
        }
    }
}

struct Stop(Option<MemoryError>);

impl From<MemoryError> for Stop {
    fn from(error: MemoryError) -> Self {
        Self(Some(error))
    }
}

fn listen(memory: &Memory, name: &str, priority: u32, space: Option<SpaceId>, nop: bool) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder {
        name: name.into(),
        priority,
        space,
        nop,
        calls: Mutex::default(),
        deltas: Mutex::default(),
        fails_in: AtomicI64::new(-1),
    });
    memory.add_listener(Arc::<Recorder>::clone(&recorder)).unwrap();
    recorder
}

/// What a new listener would be told is there; of a space that went, nothing of it.
fn told_anew(memory: &Memory, space: Option<SpaceId>) -> Held {
    let mut held = Held::default();
    if space.is_none_or(|id| memory.space(id).is_ok()) {
        follow(&mut held, &listen(memory, "again", 0, space, false).take());
    } else if !memory.global_log().is_empty() {
        held.insert((None, "region all".into()), (1, 0));
    }
    held
}

type Picture = Vec<(SpaceId, Vec<Range>)>;

fn picture(memory: &Memory) -> Picture {
    memory.spaces().iter().map(|s| (s.id(), ranges(s))).collect()
}

fn one_map(seed: u64, verbose: bool, most: u64) -> Seenings {
    let mut seen = Seenings::default();
    let mut world = World::new(seed, verbose, Kinds::new(), Endianness::Little);
    let mut rng = support::seeds::rng(seed ^ 0x5eed);
    let mut lists = AllLists::default();
    let memory = world.memory.clone();
    let spaces: Vec<_> = memory.spaces().iter().map(AddressSpace::id).collect();
    let one = (!spaces.is_empty()).then(|| spaces[rng.usize(..spaces.len().max(1))]);
    let recorders = [
        listen(&memory, "all", 10, None, false),
        listen(&memory, "one", 0, one, false),
        listen(&memory, "nop", 5, if rng.bool() { one } else { None }, true),
    ];
    let mut helds: Vec<Held> = vec![Held::default(); recorders.len()];
    for (recorder, held) in recorders.iter().zip(&mut helds) {
        follow(held, &recorder.take());
    }
    for _ in 0..rng.u64(1..most) {
        if rng.u32(..8) == 0 {
            world.change_spaces();
            for (recorder, held) in recorders.iter().zip(&mut helds) {
                follow(held, &recorder.take());
            }
        }
        let (before, lists_before) = (picture(&memory), lists.clone());
        let global_before = !memory.global_log().is_empty();
        let outcome = transaction(&mut world, &mut lists, &mut rng);
        match outcome {
            Outcome::Done => seen.commits += 1,
            Outcome::GivenUp => seen.given_up += 1,
            Outcome::Refused(e) => {
                assert!(budget(&e), "{e}");
                seen.refused += 1;
            }
        }
        let after = picture(&memory);
        for (recorder, held) in recorders.iter().zip(&mut helds) {
            let calls = recorder.take();
            follow(held, &calls);
            let touched = calls.iter().any(|(_, c)| c == "begin");
            let mut expect = Vec::new();
            for ((space, old), (_, new)) in before.iter().zip(&after) {
                let mut told = Vec::new();
                if recorder.space.is_none_or(|only| only == *space) {
                    expected(recorder.nop && touched, (old, &lists_before), (new, &lists), &mut told);
                }
                expect.extend(told.into_iter().map(|what| (Some(*space), what)));
            }
            let frame = |what: &str| (None, what.to_owned());
            if touched {
                expect.insert(0, frame("begin"));
                expect.push(frame("commit"));
            }
            match (global_before, !memory.global_log().is_empty()) {
                (false, true) => expect.insert(0, frame("global_add all")),
                (true, false) => expect.push(frame("global_del all")),
                _ => {}
            }
            assert_eq!(calls, expect, "{}", recorder.name);
            let count = |kind: &str| calls.iter().filter(|(_, c)| c.starts_with(kind)).count() as u64;
            seen.calls += calls.len() as u64;
            seen.eventfds += count("eventfd");
            seen.coalesced += count("coalesced");
            seen.logs += count("log_st");
            // The delta says the same as the calls.
            if !calls.is_empty() {
                let regions =
                    |c: &&(Option<SpaceId>, String)| c.1.starts_with("add ") || c.1.starts_with("del ");
                let told: Vec<_> =
                    calls.iter().filter(regions).map(|(s, c)| (s.unwrap(), c.clone())).collect();
                assert_eq!(*recorder.deltas.lock().unwrap(), told);
            }
            // No begin and commit means that nothing of the tree changed.
            assert!(touched || before == after);
        }
    }
    // What is held is what a new listener is told, and a leaving one that it goes.
    for (recorder, held) in recorders.iter().zip(&mut helds) {
        assert_eq!(*held, told_anew(&memory, recorder.space));
        let infos = memory.listeners();
        let info = infos.iter().find(|i| *i.name == *recorder.name).expect("it was added");
        memory.remove_listener(info.id).unwrap();
        follow(held, &recorder.take());
        assert!(held.is_empty(), "after removal: {held:#?}");
    }
    seen
}

#[test]
fn what_listeners_are_told_is_the_difference_of_the_whole_views() {
    let (_, seen, whole) = try_seeds(
        "listeners_random",
        "what_listeners_are_told_is_the_difference_of_the_whole_views",
        3_000,
        |seed, verbose| one_map(seed, verbose, 14),
    );
    if whole {
        assert!(seen.commits > 8_000 && seen.calls > 60_000, "{} {}", seen.commits, seen.calls);
        assert!(seen.given_up > 500 && seen.refused > 5, "{} {}", seen.given_up, seen.refused);
        assert!(seen.eventfds > 2_000 && seen.coalesced > 1_000, "{} {}", seen.eventfds, seen.coalesced);
        assert!(seen.logs > 2_000, "{}", seen.logs);
    }
}

/// In each of some transactions a call of a random listener fails.
fn one_failing_map(seed: u64, verbose: bool) -> Seenings {
    let mut seen = Seenings::default();
    let mut world = World::new(seed, verbose, Kinds::new(), Endianness::Big);
    let mut rng = support::seeds::rng(seed ^ 0xfa11);
    let mut lists = AllLists::default();
    let memory = world.memory.clone();
    let spaces: Vec<_> = memory.spaces().iter().map(AddressSpace::id).collect();
    let recorders = [
        listen(&memory, "a", 0, None, false),
        listen(&memory, "b", 5, spaces.first().copied(), rng.bool()),
        listen(&memory, "c", 10, None, false),
    ];
    let mut helds: Vec<Held> = vec![Held::default(); recorders.len()];
    for (recorder, held) in recorders.iter().zip(&mut helds) {
        follow(held, &recorder.take());
    }
    for _ in 0..12 {
        let before = picture(&memory);
        let views: Vec<_> = memory.spaces().iter().map(|s| s.view().unwrap()).collect();
        let failing = &recorders[rng.usize(..3)];
        failing.fails_in.store(rng.i64(0..12), Ordering::Relaxed);
        let helds_before = helds.clone();
        let outcome = transaction(&mut world, &mut lists, &mut rng);
        failing.fails_in.store(-1, Ordering::Relaxed);
        for (recorder, held) in recorders.iter().zip(&mut helds) {
            follow(held, &recorder.take());
        }
        match outcome {
            Outcome::Done => seen.commits += 1,
            Outcome::GivenUp => seen.given_up += 1,
            Outcome::Refused(MemoryError::ListenerFailed { name, reason, .. }) => {
                assert_eq!(*name, *failing.name, "{reason}");
                seen.failed += 1;
                assert_eq!(before, picture(&memory));
                let now: Vec<_> = memory.spaces().iter().map(|s| s.view().unwrap()).collect();
                assert!(views.iter().zip(&now).all(|(a, b)| Arc::ptr_eq(a, b)));
                assert_eq!(helds, helds_before);
                for node in world.model.nodes.iter().filter(|n| n.alive) {
                    let info = memory.region(node.id).expect("it is there again");
                    let attrs = (info.addr, info.size, info.priority, info.enabled, info.readonly);
                    assert_eq!(attrs, (node.addr, node.size, node.priority, node.enabled, node.readonly));
                    assert_eq!(info.container, node.container.map(|c| world.model.nodes[c].id));
                }
            }
            Outcome::Refused(e) => assert!(budget(&e), "{e}"),
        }
        assert_eq!(memory.stale_view().unwrap_or_else(|e| panic!("{e}")), None);
    }
    assert!(memory.listeners().iter().all(|l| l.failed.is_none()));
    // All that was taken back left nothing behind in the lists.
    for (recorder, held) in recorders.iter().zip(&helds) {
        assert_eq!(*held, told_anew(&memory, recorder.space));
    }
    seen
}

#[test]
fn after_a_listener_failed_at_any_call_everything_is_as_before() {
    let (_, seen, whole) = try_seeds(
        "listeners_random",
        "after_a_listener_failed_at_any_call_everything_is_as_before",
        2_000,
        one_failing_map,
    );
    if whole {
        assert!(seen.failed > 2_000 && seen.commits > 5_000, "{} {}", seen.failed, seen.commits);
    }
}
