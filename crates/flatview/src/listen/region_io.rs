//! What few regions have: ioeventfds and coalesced ranges.
//!
//! What it is: a region's lists. What it is not: what spaces show of them; that is [`flat`](super::flat).
//!
//! What must hold: the lists of a region are never changed, only replaced, together with the body that holds them. So
//! each view has those that were in force when it was made, and who accesses memory finds them there without a lock.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::EventNotifier;

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
