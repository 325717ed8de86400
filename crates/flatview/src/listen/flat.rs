//! What spaces show of regions' ioeventfds and coalesced ranges.
//!
//! What it is: the lists of a region moved to where ranges of it stand, and the difference between before and after a
//! commit. What must hold: it is looked at only where ranges or lists changed.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::EventNotifier;
use crate::span::Span;
use crate::view::{FlatRange, FlatView};
use crate::{Endianness, RegionId, SpaceId};

/// An ioeventfd as it is seen in a space: a write there signals, instead of reaching a device.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IoEventFd {
    /// The space.
    pub space: SpaceId,
    /// Whose write it is.
    pub region: RegionId,
    /// The address in the space.
    pub addr: u64,
    /// The size of the write, 1, 2, 4 or 8 bytes; 0 for any.
    pub size: u32,
    /// What must be written, in the byte order of the device; `None` for anything (QEMU: `match_data`).
    pub data: Option<u64>,
    /// The byte order of the device: the bytes of the write in ascending address order, read in this order, are `data`.
    pub order: Endianness,
    /// What is signalled.
    pub notifier: Arc<EventNotifier>,
}

impl PartialEq for IoEventFd {
    fn eq(&self, other: &Self) -> bool {
        self.space == other.space && self.region == other.region && self.key() == other.key()
    }
}

impl Eq for IoEventFd {}

impl IoEventFd {
    /// Whether it comes before another one in QEMU's order.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.key() < other.key()
    }

    fn key(&self) -> (u64, u32, Option<u64>, RawFd) {
        (self.addr, self.size, self.data, self.notifier.key())
    }
}

/// How far offsets of the range's region are from addresses.
fn shift(range: &FlatRange) -> i128 {
    i128::from(range.start()) - i128::from(range.offset())
}

/// The coalesced ranges that are seen in `range`: first address and size.
pub(super) fn coalesced_in(range: &FlatRange) -> Vec<(u64, u128)> {
    let Some(io) = range.io() else { return Vec::new() };
    let part = |(offset, size): &(u64, u128)| {
        let span = Span::sized(*offset, *size)?.moved_into(shift(range), crate::WHOLE)?;
        span.intersection(range.span()).map(|s| (s.start, s.size()))
    };
    io.coalesced.iter().filter_map(part).collect()
}

/// Adds the ioeventfds that are seen in `range`: those that touch it (QEMU), even if they reach out of it.
pub(super) fn eventfds_in(range: &FlatRange, space: SpaceId, out: &mut Vec<IoEventFd>) {
    let Some(io) = range.io() else { return };
    let seen = io.eventfds.iter().filter_map(|e| {
        // No write begins where there is no address.
        let addr = u64::try_from(i128::from(e.offset) + shift(range)).ok()?;
        let span = Span::sized(addr, u128::from(e.size.max(1)))?;
        span.intersection(range.span())?;
        let (region, notifier) = (range.region(), Arc::clone(&e.notifier));
        Some(IoEventFd { space, region, addr, size: e.size, data: e.data, order: range.order(), notifier })
    });
    out.extend(seen);
}

/// Puts them in QEMU's order, each once: one that touches several ranges of its region is one.
pub(super) fn sort(eventfds: &mut Vec<IoEventFd>) {
    eventfds.sort_by_key(IoEventFd::key);
    eventfds.dedup();
}

/// Whether a space that shows `view` has this ioeventfd.
pub(super) fn shows(view: &FlatView, eventfd: &IoEventFd) -> bool {
    let last = eventfd.addr.saturating_add(u64::from(eventfd.size.max(1)) - 1);
    let mut found = Vec::new();
    for range in view.ranges_from(eventfd.addr).take_while(|r| r.start() <= last) {
        eventfds_in(range, eventfd.space, &mut found);
    }
    found.contains(eventfd)
}

/// All ioeventfds of a view.
pub(super) fn all_eventfds(view: &FlatView, space: SpaceId) -> Vec<IoEventFd> {
    let mut all = Vec::new();
    view.ranges().for_each(|range| eventfds_in(range, space, &mut all));
    sort(&mut all);
    all
}
