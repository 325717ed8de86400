//! The tree itself: records, the one way to change them, and undo.

use std::sync::Arc;

use smallvec::SmallVec;

use super::logging::Logs;
use super::{Arena, Attrs, Body, Kind, NONE, Record, RegionInfo};
use crate::listen::RegionIo;
use crate::span::Span;
use crate::{GlobalLog, MemoryError, RegionId};

pub(super) enum Undo {
    Set { index: u32, old: Attrs },
    Added { index: u32 },
    Removed { index: u32, record: Box<Record> },
    Spaces { index: u32, by: i32 },
    Body { index: u32, old: Arc<Body> },
    Log { index: u32, client: u8, old: u32 },
    LogEverywhere { counts: [u32; 8], global: GlobalLog },
    Traced { old: bool },
}

/// How far the logs went when a transaction began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Savepoint {
    undo: usize,
    touched: usize,
    rechecks: usize,
    moved: usize,
    relisted: usize,
    sequence: u64,
}

/// All regions of a memory, mapped or not.
pub(crate) struct Topology {
    pub(super) arena: Arena<Record>,
    tag: u32,
    sequence: u64,
    pub(super) undo: Vec<Undo>,
    pub(super) logs: Logs,
    /// Whether somebody is told of each callback.
    pub(super) traced: bool,
    /// Places whose content changed: a region and a span of its own offsets.
    pub(super) touched: Vec<(u32, Span)>,
    /// Regions of which it may have changed where a view's effective root lies; `true`: their aliases too.
    rechecks: Vec<(u32, bool)>,
    /// Regions whose address changed: a view rooted at one moves as a whole.
    moved: Vec<u32>,
    /// Regions whose ioeventfds or coalesced ranges changed.
    relisted: Vec<u32>,
}

/// Regions that were found, mostly few.
pub(crate) type Found = SmallVec<[u32; 16]>;

/// What a transaction changed.
#[derive(Clone, Copy)]
pub(crate) struct Changes<'a> {
    /// Places whose content changed: a region and a span of its own offsets.
    pub touched: &'a [(u32, Span)],
    /// Regions of which it may have changed where a view's effective root lies; `true`: their aliases too.
    pub rechecks: &'a [(u32, bool)],
    /// Regions whose address changed.
    pub moved: &'a [u32],
    /// Regions whose ioeventfds or coalesced ranges changed, and nothing else by that.
    pub relisted: &'a [u32],
}

impl Changes<'_> {
    /// Whether nothing was touched that a view could show, apart from ioeventfds and coalesced ranges. (A root that moved
    /// takes its view along without touching anything: what was rendered tells.)
    pub fn is_same_tree(&self) -> bool {
        self.touched.is_empty()
    }

    /// Whether nothing was touched that a view could show.
    pub fn is_empty(&self) -> bool {
        self.is_same_tree() && self.relisted.is_empty()
    }
}

impl Topology {
    pub fn new(tag: u32) -> Self {
        Self {
            arena: Arena::new(),
            tag,
            sequence: 0,
            undo: Vec::new(),
            logs: Logs::default(),
            traced: false,
            touched: Vec::new(),
            rechecks: Vec::new(),
            moved: Vec::new(),
            relisted: Vec::new(),
        }
    }

    // Looking.

    /// The number of the memory that this is the tree of.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    #[inline]
    pub fn get(&self, index: u32) -> Option<&Record> {
        self.arena.get(index)
    }

    /// The index of a live region of this memory.
    pub fn resolve(&self, id: RegionId) -> Result<u32, MemoryError> {
        if id.memory != self.tag {
            return Err(MemoryError::ForeignRegion { id });
        }
        let live = self.arena.generation(id.index) == Some(id.generation) && self.get(id.index).is_some();
        live.then_some(id.index).ok_or(MemoryError::StaleRegion { id })
    }

    /// The record of a live region of this memory.
    pub fn record(&self, id: RegionId) -> Result<&Record, MemoryError> {
        let index = self.resolve(id)?;
        self.get(index).ok_or(MemoryError::StaleRegion { id })
    }

    pub fn id_of(&self, index: u32) -> Option<RegionId> {
        // Not from its body, which is somewhere else.
        let generation = self.arena.generation(index)?;
        self.get(index).map(|_| RegionId { index, generation, memory: self.tag })
    }

    pub fn name_of(&self, index: u32) -> Arc<str> {
        self.get(index).map_or_else(|| "?".into(), |r| Arc::clone(&r.body.name))
    }

    pub fn records(&self) -> impl Iterator<Item = (u32, &Record)> {
        self.arena.iter()
    }

    /// The children of a region, the winners first: by priority, later-added first among equals.
    pub fn children(&self, index: u32) -> Vec<u32> {
        let mut all: Vec<u32> =
            self.get(index).and_then(Record::children).map_or_else(Vec::new, |c| c.all().collect());
        self.sort_winners_first(&mut all);
        all
    }

    fn sort_winners_first(&self, indexes: &mut [u32]) {
        indexes.sort_by_cached_key(|i| {
            self.get(*i).map(|r| std::cmp::Reverse((r.attrs.priority, r.attrs.sequence)))
        });
    }

    /// Adds to `out` the visible children of `record` that overlap `window` (in its offsets), losers first.
    pub fn overlapping_losers_first(&self, record: &Record, window: Span, out: &mut Found) {
        let Some(children) = record.children() else {
            return;
        };
        let from = out.len();
        children.overlapping(window, |i| Some(self.get(i)?.attrs.extent()?.last), out);
        if let Some(new) = out.get_mut(from..).filter(|n| n.len() > 1) {
            new.sort_by_cached_key(|i| self.get(*i).map(|r| (r.attrs.priority, r.attrs.sequence)));
        }
    }

    pub fn info(&self, index: u32) -> Option<RegionInfo> {
        let record = self.get(index)?;
        let (attrs, body) = (&record.attrs, &record.body);
        Some(RegionInfo {
            id: body.id,
            name: Arc::clone(&body.name),
            addr: attrs.addr,
            size: attrs.size(),
            priority: attrs.priority,
            sequence: attrs.sequence,
            enabled: attrs.enabled(),
            readonly: attrs.readonly(),
            nonvolatile: attrs.nonvolatile(),
            romd: body.kind == Kind::RomDevice && attrs.romd(),
            container: self.id_of(attrs.container),
            alias: self.id_of(attrs.target).map(|t| (t, attrs.alias_offset)),
            terminates: body.kind.terminates(),
            kind: record.kind(),
            owner: body.owner.clone(),
            parent: body.parent().cloned(),
            ram: body.block().map(|(b, o)| (Arc::clone(b), o)),
            rules: body.rules,
            iommu: body.iommu().is_some(),
        })
    }

    /// Whether it stands in a container, or an alias chain that shows it does (QEMU: `memory_region_is_mapped`).
    pub fn is_mapped(&self, index: u32) -> bool {
        let mut work = vec![index];
        // Ends: T3.
        while let Some(record) = work.pop().and_then(|i| self.get(i)) {
            if record.attrs.container != NONE {
                return true;
            }
            work.extend(record.aliases());
        }
        false
    }

    // Changing.

    pub fn next_id(&self) -> Result<RegionId, MemoryError> {
        let (index, generation) = self.arena.next().ok_or(MemoryError::Full)?;
        Ok(RegionId { index, generation, memory: self.tag })
    }

    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Adds a region under the id that [`next_id`](Self::next_id) gave. It is not mapped and shows in no view, so
    /// nothing is touched.
    pub fn add(&mut self, attrs: Attrs, body: Body) {
        let index = body.id.index;
        self.arena.insert(Record::new(attrs, Arc::new(body)));
        self.link_alias(attrs.target, index);
        self.undo.push(Undo::Added { index });
    }

    /// Removes a region that nothing refers to.
    pub fn remove(&mut self, index: u32) {
        self.forget_logs(index);
        self.unlink_target(index);
        if let Some(record) = self.arena.remove(index) {
            self.undo.push(Undo::Removed { index, record: Box::new(record) });
        }
    }

    /// Counts the address spaces that have a region as root.
    pub fn count_space(&mut self, index: u32, by: i32) {
        if let Some(record) = self.arena.get_mut(index) {
            record.change_family(|f| f.spaces = f.spaces.saturating_add_signed(by));
            self.undo.push(Undo::Spaces { index, by });
        }
    }

    /// Gives a region other ioeventfds and coalesced ranges.
    pub fn set_io(&mut self, index: u32, io: Option<Arc<RegionIo>>) {
        if let Some(record) = self.arena.get_mut(index) {
            let new = Arc::new(record.body.with_io(io));
            let old = std::mem::replace(&mut record.body, new);
            self.undo.push(Undo::Body { index, old });
            self.relisted.push(index);
        }
    }

    /// The one way to change attributes (T1).
    pub fn set(&mut self, index: u32, new: Attrs) {
        let Some(old) = self.put(index, new) else {
            return;
        };
        self.undo.push(Undo::Set { index, old });
        if !old.same_place(&new) {
            self.touch_child(old.container, &old);
            self.touch_child(new.container, &new);
            if old.addr != new.addr {
                self.moved.push(index);
            }
        }
        if !old.same_content(&new) {
            self.touch_content(index, &old, &new);
        }
        // Whether an alias of it shows all of it depends on its extent.
        let reshaped = old.addr != new.addr || old.size() != new.size();
        self.rechecks.push((index, reshaped));
        for container in [Some(old.container), Some(new.container).filter(|c| *c != old.container)] {
            if let Some(container) = container.filter(|c| *c != NONE) {
                self.rechecks.push((container, false));
            }
        }
    }

    /// Whether what is disabled now was so when the transaction began: nothing was touched yet, and who enables or
    /// disables touches.
    fn was_hidden_before(&self) -> bool {
        self.touched.is_empty()
    }

    /// What other regions show of this one changed: nothing, where it is disabled all the time.
    fn touch_content(&mut self, index: u32, old: &Attrs, new: &Attrs) {
        if !old.enabled() && !new.enabled() && self.was_hidden_before() {
            return;
        }
        let (was, is) = (old.size(), new.size());
        let only_size = new.with_size(was).same_content(old);
        let (small, large) = (was.min(is), was.max(is));
        let from = if only_size { small } else { 0 };
        // Offsets of a region stop at 2^64 - 1.
        if let Some(span) =
            u64::try_from(from).ok().and_then(|from| Span::sized(from, large - u128::from(from)))
        {
            self.touched.push((index, span));
            // It may be moved or unmapped in the same transaction, with its new size: where the rest of it stood
            // is known only now.
            if was != is
                && old.container != NONE
                && let Some(span) = span.moved_into(i128::from(old.addr), crate::WHOLE)
            {
                self.touched.push((old.container, span));
            }
        }
    }

    /// What a container shows changed where a child stands, or stood: nothing, where one of the two is disabled all the
    /// time. (Who enables it later in the transaction touches all of it.)
    fn touch_child(&mut self, container: u32, child: &Attrs) {
        let Some(record) = self.get(container) else { return };
        let hidden = !child.enabled() || !record.attrs.enabled();
        if let Some(span) = child.extent()
            && !(hidden && self.was_hidden_before())
        {
            self.touched.push((container, span));
        }
    }

    /// Writes attributes and keeps the indexes (T1); gives the old ones if they differ.
    fn put(&mut self, index: u32, new: Attrs) -> Option<Attrs> {
        let old = self.get(index)?.attrs;
        if old == new {
            return None;
        }
        // What shows what is taken apart before it is put together again: at each step the counts of live regions
        // are those of the links that there are.
        if let Some(container) = self.arena.get_mut(old.container) {
            container.change_family(|family| {
                if old.container == new.container {
                    family.children.change(index, &old, &new);
                } else {
                    family.children.remove(index, &old);
                }
            });
        }
        let (moved, retargeted) = (old.container != new.container, old.target != new.target);
        let container = if moved { NONE } else { new.container };
        let target = if retargeted { NONE } else { new.target };
        if let Some(record) = self.arena.get_mut(index) {
            record.attrs = Attrs { container, target, ..new };
        }
        if moved && self.get(old.container).is_some_and(Record::is_live) {
            self.count_live(index, false);
        }
        if retargeted {
            self.unlink_alias(old.target, index);
        }
        if let Some(record) = self.arena.get_mut(index) {
            record.attrs = Attrs { target, ..new };
        }
        if moved && let Some(container) = self.arena.get_mut(new.container) {
            container.change_family(|family| family.children.insert(index, &new));
        }
        if moved && self.get(new.container).is_some_and(Record::is_live) {
            self.count_live(index, true);
        }
        if let Some(record) = self.arena.get_mut(index) {
            record.attrs = new;
        }
        if retargeted {
            self.link_alias(new.target, index);
        }
        Some(old)
    }

    // Transactions.

    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            undo: self.undo.len(),
            touched: self.touched.len(),
            rechecks: self.rechecks.len(),
            moved: self.moved.len(),
            relisted: self.relisted.len(),
            sequence: self.sequence,
        }
    }

    /// Undoes everything since `to` (T2). What was added meanwhile is handed back, to be dropped without locks.
    pub fn rollback(&mut self, to: Savepoint) -> Vec<Arc<Body>> {
        let mut dropped = Vec::new();
        while self.undo.len() > to.undo {
            match self.undo.pop() {
                Some(Undo::Set { index, old }) => {
                    self.put(index, old);
                }
                Some(Undo::Added { index }) => {
                    self.unlink_target(index);
                    dropped.extend(self.arena.remove(index).map(|record| record.body));
                }
                Some(Undo::Log { index, client, old }) => self.put_log_count(index, client, old),
                Some(Undo::LogEverywhere { counts, global }) => self.put_everywhere(counts, global),
                Some(Undo::Traced { old }) => self.traced = old,
                Some(Undo::Removed { index, record }) => {
                    let target = record.attrs.target;
                    self.arena.undo_remove(index, record.body.id.generation, *record);
                    self.link_alias(target, index);
                }
                Some(Undo::Body { index, old }) => {
                    if let Some(record) = self.arena.get_mut(index) {
                        dropped.push(std::mem::replace(&mut record.body, old));
                    }
                }
                Some(Undo::Spaces { index, by }) => {
                    if let Some(record) = self.arena.get_mut(index) {
                        record.change_family(|f| f.spaces = f.spaces.saturating_add_signed(-by));
                    }
                }
                None => break,
            }
        }
        self.touched.truncate(to.touched);
        self.rechecks.truncate(to.rechecks);
        self.moved.truncate(to.moved);
        self.relisted.truncate(to.relisted);
        self.sequence = to.sequence;
        self.forget();
        dropped
    }

    /// What the transaction changed so far.
    pub fn changes(&self) -> Changes<'_> {
        let (touched, rechecks, moved) = (&self.touched, &self.rechecks, &self.moved);
        Changes { touched, rechecks, moved, relisted: &self.relisted }
    }

    /// The transaction is over: forgets how to undo it. What was removed is handed back, to be dropped without
    /// locks.
    pub fn accept(&mut self) -> Vec<Arc<Body>> {
        self.touched.clear();
        self.rechecks.clear();
        self.moved.clear();
        self.relisted.clear();
        let removed = |u| match u {
            Undo::Removed { record, .. } => Some(record.body),
            Undo::Body { old, .. } => Some(old),
            _ => None,
        };
        let removed = self.undo.drain(..).filter_map(removed).collect();
        self.forget();
        removed
    }

    /// Gives back the memory of what large transactions noted; that of small ones is kept for the next.
    fn forget(&mut self) {
        const SMALL: usize = 64;
        self.undo.shrink_to(SMALL);
        self.touched.shrink_to(SMALL);
        self.rechecks.shrink_to(SMALL);
        self.moved.shrink_to(SMALL);
        self.relisted.shrink_to(SMALL);
    }
}
