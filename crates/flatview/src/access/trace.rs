//! Telling somebody of each call of a device (QEMU: the trace events `memory_region_ops_read` and its kin).
//!
//! What it is: what is told, and when. What it is not: text, or a choice of regions; that is who is told's. What must hold:
//! ranges that are not traced pay nothing, because those that are never take the short way; no lock is held while it is told.

use super::Access;
use crate::order::reorder;
use crate::thread::{InCallback, nesting};

/// The pages of guests' CPUs, in bytes.
const PAGE: u64 = 4096;

/// Who is told of each call of a device: [`Memory::set_access_trace`](crate::Memory::set_access_trace).
///
/// It is told on the accessing thread, with no lock held, and as part of the access: as in a device callback. What it
/// accesses itself is told too.
pub trait AccessTrace: Send + Sync {
    /// One callback (QEMU: `memory_region_ops_read`, `memory_region_ops_write`): of an access that is split, or widened, one
    /// of several. A read is told after it, with the value as the device gave it, which may have more bits than were asked
    /// for (0 if it failed); a write before it. [`Access::is_write`] tells which; the value is in the device's byte order.
    fn called(&self, call: &Access<'_>, value: u64);

    /// An access that is made from outside of any callback, of a range that does not fill the page of 4 KiB it is in, or in
    /// which it is (QEMU's CPUs go through a region of its own there: `memory_region_subpage_read`,
    /// `memory_region_subpage_write`). A read is told after its callbacks, a write before; the value is in the target's byte
    /// order.
    fn in_part_of_page(&self, access: &Access<'_>, value: u64) {
        let _ = (access, value);
    }
}

impl Access<'_> {
    /// Tells of a callback, if anybody is told.
    #[inline]
    pub(super) fn tell_called(&self, value: u64) {
        if self.range().is_traced() {
            self.tell(|trace| trace.called(self, value));
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, f: impl FnOnce(&dyn AccessTrace)) {
        if let Some(trace) = &*self.reader.memory.trace.load() {
            let _running = InCallback::enter();
            f(&***trace);
        }
    }

    /// Tells of the whole access, which the device has been entered for, if anybody is told, its range does not fill its page
    /// and no other callback is open. `value` is in the device's order.
    #[inline]
    pub(super) fn tell_in_part_of_page(&self, value: u64) {
        if self.range().is_traced() && nesting() == 1 && self.is_in_part_of_page() {
            let target = self.reader.memory.target;
            let value = reorder(value, self.size(), self.range().order(), target);
            self.tell(|trace| trace.in_part_of_page(self, value));
        }
    }

    fn is_in_part_of_page(&self) -> bool {
        let page = self.address & !(PAGE - 1);
        self.range().start() > page || self.range().last() < (page | (PAGE - 1))
    }
}
