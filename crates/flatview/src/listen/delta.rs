//! What a commit changed.
//!
//! What it is: the difference of the views before and after a commit, for each space whose view changed, and why the
//! commit took place. What it is not: the calls to listeners that follow from it.
//!
//! What must hold: the difference is that of the whole views, but it is found by looking at the windows that were
//! rendered anew (and their neighbours, with which what is in them may have joined). Only a space that went over to
//! another effective root has its views compared as a whole.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use super::flat::{IoEventFd, coalesced_in, eventfds_in, shows, sort};
use crate::span::SpanSet;
use crate::view::{FlatRange, FlatView};
use crate::{Section, SpaceId};

/// Why a commit took place: who called, and what for.
#[derive(Debug, Clone)]
pub struct Cause {
    location: &'static Location<'static>,
    reason: Option<Arc<str>>,
}

impl Cause {
    pub(crate) fn new(location: &'static Location<'static>, reason: Option<Arc<str>>) -> Self {
        Self { location, reason }
    }

    /// Where the change was asked for: the caller of [`Memory::update`](crate::Memory::update) and the like.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// What for, if the transaction said so ([`Transaction::because`](crate::Transaction::because)).
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{reason} ({})", self.location),
            None => write!(f, "{}", self.location),
        }
    }
}

/// A space before and after a commit, and where to look for the difference; everywhere if there are no windows.
pub(crate) struct SpaceChange<'a> {
    pub space: SpaceId,
    pub name: Arc<str>,
    pub old: Arc<FlatView>,
    pub new: Arc<FlatView>,
    pub windows: Option<&'a SpanSet>,
}

/// What became of a range of the new view that is not simply as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// It was not there before.
    New,
    /// It was there, and its writes were logged for these dirty clients.
    Logged { old: u8 },
    /// It was there just so.
    Nop,
}

/// The difference of two views, by the first addresses of the ranges.
#[derive(Debug, Default)]
struct Diff {
    removed: Vec<u64>,
    became: Vec<(u64, Became)>,
    /// Those that stayed, of regions whose ioeventfds or coalesced ranges did not.
    relisted: Vec<u64>,
}

/// What a commit changed, in all spaces that anybody listens to, and why.
#[derive(Debug)]
pub struct Delta {
    cause: Cause,
    /// Whether the tree changed, and not only regions' ioeventfds and coalesced ranges.
    touched: bool,
    global_log: Option<bool>,
    spaces: Vec<SpaceDelta>,
    /// Spaces in which nothing changed, of which somebody wants to hear so.
    quiet: Vec<SpaceDelta>,
}

impl Delta {
    pub(crate) fn new(
        cause: Cause,
        touched: bool,
        global_log: Option<bool>,
        changes: Vec<SpaceChange<'_>>,
    ) -> Self {
        // Spaces share views, and so their differences.
        let mut known: HashMap<_, Arc<Diff>> = HashMap::new();
        let spaces = changes.into_iter().map(|change| {
            let key = (Arc::as_ptr(&change.old), Arc::as_ptr(&change.new));
            let diff = known.entry(key).or_insert_with(|| Arc::new(Diff::of(&change)));
            let io = IoDiff::of(&change, diff);
            SpaceDelta {
                io,
                space: change.space,
                name: change.name,
                diff: Arc::clone(diff),
                old: change.old,
                new: change.new,
            }
        });
        let (quiet, spaces) = spaces.partition(|s| s.diff.is_empty() && s.io.is_empty());
        Self { cause, touched, global_log, spaces, quiet }
    }

    /// Whether there is a `begin` and a `commit`.
    pub(super) fn is_touched(&self) -> bool {
        self.touched
    }

    /// The spaces to be told of, in the order in which they were made, those in which nothing changed included.
    pub(super) fn told(&self) -> Vec<&SpaceDelta> {
        let mut all: Vec<_> = self.spaces.iter().chain(&self.quiet).collect();
        all.sort_by_key(|s| s.space);
        all
    }

    /// Why.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether writes to all RAM are logged from now on (`true`), or no more (`false`); `None` if that stays as it is.
    #[must_use]
    pub fn global_log(&self) -> Option<bool> {
        self.global_log
    }

    /// The spaces in which anything changed, in the order in which they were made.
    #[must_use]
    pub fn spaces(&self) -> &[SpaceDelta] {
        &self.spaces
    }

    /// What changed in one space; `None` if nothing did.
    #[must_use]
    pub fn space(&self, id: SpaceId) -> Option<&SpaceDelta> {
        self.spaces.iter().find(|s| s.space == id)
    }
}

/// What a commit changed in one space.
pub struct SpaceDelta {
    space: SpaceId,
    name: Arc<str>,
    old: Arc<FlatView>,
    new: Arc<FlatView>,
    diff: Arc<Diff>,
    io: IoDiff,
}

impl fmt::Debug for SpaceDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("SpaceDelta");
        s.field("space", &self.name);
        s.field("removed", &self.removed().collect::<Vec<_>>());
        s.field("added", &self.added().collect::<Vec<_>>());
        s.finish_non_exhaustive()
    }
}

impl SpaceDelta {
    /// The space.
    #[must_use]
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it showed before.
    #[must_use]
    pub fn old_view(&self) -> &Arc<FlatView> {
        &self.old
    }

    /// What it shows from now on.
    #[must_use]
    pub fn new_view(&self) -> &Arc<FlatView> {
        &self.new
    }

    /// The ranges that are gone, in ascending order. One that is there still, but with other attributes or at another
    /// offset of its region, is gone and new.
    pub fn removed(&self) -> impl Iterator<Item = Section> {
        self.diff.removed.iter().filter_map(|at| Section::at(self.space, &self.old, *at))
    }

    /// The ranges that are new, in ascending order.
    pub fn added(&self) -> impl Iterator<Item = Section> {
        let new = self.diff.became.iter().filter(|(_, became)| *became == Became::New);
        new.filter_map(|(at, _)| Section::at(self.space, &self.new, *at))
    }

    /// The ranges that stayed, but are logged for other dirty clients than before: with the masks before and now, in
    /// ascending order.
    pub fn log_changed(&self) -> impl Iterator<Item = (Section, u8, u8)> {
        self.diff.became.iter().filter_map(|(at, became)| {
            let Became::Logged { old } = became else { return None };
            let section = Section::at(self.space, &self.new, *at)?;
            let now = section.range()?.log_mask();
            Some((section, *old, now))
        })
    }

    /// The ranges that are as they were, apart from what is logged, in ascending order (QEMU: `region_nop`). Walks the
    /// whole view.
    pub fn kept(&self) -> impl Iterator<Item = Section> {
        let kept = self.new.ranges().filter(|r| Became::of(&self.old, r) != Became::New);
        kept.filter_map(|r| Section::at(self.space, &self.new, r.start()))
    }

    /// The ioeventfds that are gone, in ascending order.
    #[must_use]
    pub fn eventfds_removed(&self) -> &[IoEventFd] {
        &self.io.eventfds_gone
    }

    /// The ioeventfds that are new, in ascending order.
    #[must_use]
    pub fn eventfds_added(&self) -> &[IoEventFd] {
        &self.io.eventfds_new
    }

    /// The coalesced ranges that are gone: with the range of the old view in which they were seen, the first address
    /// and the size in bytes.
    pub fn coalesced_removed(&self) -> impl Iterator<Item = (Section, u64, u128)> {
        let gone = self.io.coalesced_gone.iter();
        gone.filter_map(|c| Some((Section::at(self.space, &self.old, c.range)?, c.addr, c.size)))
    }

    /// The coalesced ranges that are new: with the range of the new view in which they are seen, the first address and
    /// the size in bytes.
    pub fn coalesced_added(&self) -> impl Iterator<Item = (Section, u64, u128)> {
        let new = self.io.coalesced_new.iter();
        new.filter_map(|c| Some((Section::at(self.space, &self.new, c.range)?, c.addr, c.size)))
    }

    /// The ranges of the new view and what became of them, in ascending order; with `nop` also those that are as they
    /// were.
    pub(super) fn present(&self, nop: bool) -> Vec<(u64, Became)> {
        if nop {
            return self.new.ranges().map(|r| (r.start(), Became::of(&self.old, r))).collect();
        }
        self.diff.became.clone()
    }
}

/// Whether two ranges are the same to listeners: whatever is logged (QEMU: `flatrange_equal`).
fn same(a: &FlatRange, b: &FlatRange) -> bool {
    let place = |r: &FlatRange| (r.start(), r.last(), r.offset(), r.region());
    let attrs = |r: &FlatRange| (r.readonly(), r.nonvolatile(), r.romd());
    place(a) == place(b) && attrs(a) == attrs(b)
}

/// Whether two ranges have the very same ioeventfds and coalesced ranges.
fn same_lists(a: &FlatRange, b: &FlatRange) -> bool {
    match (a.io(), b.io()) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

impl Became {
    /// What became of `range`, which is of the new view.
    fn of(old: &FlatView, range: &FlatRange) -> Self {
        match old.lookup(range.start()) {
            Some(was) if !same(was, range) => Self::New,
            Some(was) if was.log_mask() == range.log_mask() => Self::Nop,
            Some(was) => Self::Logged { old: was.log_mask() },
            None => Self::New,
        }
    }
}

impl Diff {
    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.became.is_empty()
    }

    fn of(change: &SpaceChange<'_>) -> Self {
        let mut diff = Self::default();
        let (old, new) = (&*change.old, &*change.new);
        for_each_range(old, change.windows, |was| {
            if !new.lookup(was.start()).is_some_and(|range| same(was, range)) {
                diff.removed.push(was.start());
            }
        });
        for_each_range(new, change.windows, |range| {
            let became = Became::of(old, range);
            if became != Became::Nop {
                diff.became.push((range.start(), became));
            }
            if became != Became::New && !old.lookup(range.start()).is_some_and(|was| same_lists(was, range)) {
                diff.relisted.push(range.start());
            }
        });
        diff
    }
}

/// Calls `f` for each range that lies in a window or beside one, once and in ascending order; without windows for all.
fn for_each_range<'v>(view: &'v FlatView, windows: Option<&SpanSet>, mut f: impl FnMut(&'v FlatRange)) {
    let Some(windows) = windows else {
        return view.ranges().for_each(f);
    };
    let mut done = None;
    for window in windows.iter() {
        // What is new may have joined with its neighbours, and a neighbour may have lost a part of itself.
        let (from, to) = (window.start.saturating_sub(1), window.last.saturating_add(1));
        for range in view.ranges_from(from).take_while(|r| r.start() <= to) {
            // A range that lies in several windows, or between two of them.
            if done < Some(range.start()) {
                done = Some(range.start());
                f(range);
            }
        }
    }
}

/// A coalesced range, and the first address of the range of the view in which it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Coalesced {
    range: u64,
    addr: u64,
    size: u128,
}

/// `all` without `others`, each as often as it is there: a region may have the same coalesced range twice.
fn without(all: &[Coalesced], others: &[Coalesced]) -> Vec<Coalesced> {
    let mut others = others.to_vec();
    let mut kept = all.to_vec();
    kept.retain(|c| match others.iter().position(|o| o == c) {
        Some(at) => {
            others.swap_remove(at);
            false
        }
        None => true,
    });
    kept
}

/// The difference of what is seen of ioeventfds and coalesced ranges.
#[derive(Debug, Default)]
struct IoDiff {
    eventfds_gone: Vec<IoEventFd>,
    eventfds_new: Vec<IoEventFd>,
    coalesced_gone: Vec<Coalesced>,
    coalesced_new: Vec<Coalesced>,
}

impl IoDiff {
    fn is_empty(&self) -> bool {
        self.eventfds_gone.is_empty()
            && self.eventfds_new.is_empty()
            && self.coalesced_gone.is_empty()
            && self.coalesced_new.is_empty()
    }

    fn of(change: &SpaceChange<'_>, diff: &Diff) -> Self {
        let (old, new) = (&*change.old, &*change.new);
        let mut this = Self::default();
        let mut candidates = Vec::new();
        let coalesced = |range: &FlatRange| {
            let at = range.start();
            coalesced_in(range).into_iter().map(move |(addr, size)| Coalesced { range: at, addr, size })
        };
        for range in diff.removed.iter().filter_map(|at| old.lookup(*at)) {
            eventfds_in(range, change.space, &mut candidates);
            this.coalesced_gone.extend(coalesced(range));
        }
        let added = diff.became.iter().filter(|(_, became)| *became == Became::New);
        for range in added.filter_map(|(at, _)| new.lookup(*at)) {
            eventfds_in(range, change.space, &mut candidates);
            this.coalesced_new.extend(coalesced(range));
        }
        for (was, is) in diff.relisted.iter().filter_map(|at| old.lookup(*at).zip(new.lookup(*at))) {
            eventfds_in(was, change.space, &mut candidates);
            eventfds_in(is, change.space, &mut candidates);
            let (was, is): (Vec<_>, Vec<_>) = (coalesced(was).collect(), coalesced(is).collect());
            this.coalesced_gone.extend(without(&was, &is));
            this.coalesced_new.extend(without(&is, &was));
        }
        this.coalesced_gone.sort_by_key(|c| c.range);
        this.coalesced_new.sort_by_key(|c| c.range);
        // One may be seen through several ranges, of which only some changed.
        sort(&mut candidates);
        for eventfd in candidates {
            match (shows(old, &eventfd), shows(new, &eventfd)) {
                (true, false) => this.eventfds_gone.push(eventfd),
                (false, true) => this.eventfds_new.push(eventfd),
                _ => {}
            }
        }
        this
    }
}
