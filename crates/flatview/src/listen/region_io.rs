//! What few regions have: ioeventfds and coalesced ranges.
//!
//! What it is: a region's lists, and the table of those that have any, as the writer sees it, with undo. What it is
//! not: what spaces show of them; that is [`flat`](super::flat).
//!
//! What must hold: the lists of a region are never changed, only replaced. Who accesses memory finds the lists in
//! force in the region's body; they are replaced there when a commit is published.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use super::EventNotifier;
use crate::RegionId;

/// An ioeventfd of a region: a write to it signals, instead of reaching the device.
#[derive(Debug, Clone)]
pub(crate) struct RegionEventFd {
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// 1, 2, 4 or 8 bytes; 0 for a write of any size.
    pub size: u32,
    /// What must be written, in the device's byte order; `None` for anything.
    pub data: Option<u64>,
    pub notifier: Arc<EventNotifier>,
}

impl RegionEventFd {
    /// QEMU's order, which puts those that compare nothing first.
    pub fn key(&self) -> (u64, u32, Option<u64>, RawFd) {
        (self.offset, self.size, self.data, self.notifier.key())
    }
}

/// The lists of one region.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegionIo {
    /// Sorted by [`RegionEventFd::key`].
    pub eventfds: Vec<RegionEventFd>,
    /// Offset and size in bytes, in the order in which they were added.
    pub coalesced: Vec<(u64, u128)>,
    /// Whether what was coalesced is to be carried out before an access.
    pub flush: bool,
}

impl RegionIo {
    pub fn is_empty(&self) -> bool {
        self.eventfds.is_empty() && self.coalesced.is_empty() && !self.flush
    }

    /// Who is signalled by a write of `value` (in the device's byte order).
    pub fn signalled_by(&self, offset: u64, size: u32, value: u64) -> Option<&Arc<EventNotifier>> {
        let from = self.eventfds.partition_point(|e| e.offset < offset);
        let there = self.eventfds.iter().skip(from).take_while(|e| e.offset == offset);
        let mut takes =
            there.filter(|e| e.size == 0 || (e.size == size && e.data.is_none_or(|d| d == value)));
        takes.next().map(|e| &e.notifier)
    }
}

/// Where those who access a region find its lists, without a lock.
#[derive(Default)]
pub(crate) struct ShownIo(ArcSwapOption<RegionIo>);

impl ShownIo {
    /// Replaces the lists. Only with the turn.
    pub fn show(&self, io: Option<&Arc<RegionIo>>) {
        self.0.store(io.cloned());
    }

    /// The lists, if there are any.
    pub fn get(&self) -> Guard<Option<Arc<RegionIo>>> {
        self.0.load()
    }
}

/// The regions that have any lists.
#[derive(Debug, Default, Clone)]
pub(crate) struct IoTable {
    now: HashMap<RegionId, Arc<RegionIo>>,
    /// What was replaced since the last commit.
    undo: Vec<(RegionId, Option<Arc<RegionIo>>)>,
}

impl IoTable {
    pub fn get(&self, id: RegionId) -> Option<&Arc<RegionIo>> {
        self.now.get(&id)
    }

    /// Replaces the lists of a region.
    pub fn set(&mut self, id: RegionId, io: RegionIo) {
        let old = if io.is_empty() { self.now.remove(&id) } else { self.now.insert(id, Arc::new(io)) };
        self.undo.push((id, old));
    }

    /// The region goes, and its lists with it.
    pub fn remove(&mut self, id: RegionId) {
        if let Some(old) = self.now.remove(&id) {
            self.undo.push((id, Some(old)));
        }
    }

    pub fn savepoint(&self) -> usize {
        self.undo.len()
    }

    pub fn rollback(&mut self, to: usize) {
        for (id, old) in self.undo.drain(to.min(self.undo.len())..).rev() {
            match old {
                Some(old) => self.now.insert(id, old),
                None => self.now.remove(&id),
            };
        }
    }

    pub fn accept(&mut self) {
        self.undo.clear();
    }

    /// What was there at the last commit, of the regions that changed since.
    pub fn before(&self) -> HashMap<RegionId, Option<Arc<RegionIo>>> {
        self.undo.iter().rev().map(|(id, old)| (*id, old.clone())).collect()
    }

    /// The regions that changed since the last commit.
    pub fn changed(&self) -> Vec<RegionId> {
        let mut ids: Vec<_> = self.undo.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether nothing changed since the last commit.
    pub fn is_unchanged(&self) -> bool {
        self.undo.is_empty()
    }

    /// Whether no region has any lists, or had some at the last commit.
    pub fn is_unused(&self) -> bool {
        self.now.is_empty() && self.undo.is_empty()
    }
}
