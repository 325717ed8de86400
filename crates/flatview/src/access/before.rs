//! What happens before an access reaches its device: what was coalesced is carried out, and an ioeventfd is signalled.
//!
//! What must hold: a region that has neither does not come here but for other reasons; no lock is taken.

use std::cell::Cell;

use super::Access;

thread_local! {
    /// Whether this thread is carrying out what was coalesced: the accesses which that makes must not begin it again.
    static FLUSHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a hook that carries out what was coalesced, unless this thread is in it already.
pub(crate) fn flush(hook: &(dyn Fn() + Send + Sync)) {
    /// Also when the hook panics.
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            FLUSHING.set(false);
        }
    }
    if !FLUSHING.replace(true) {
        let _done = Done;
        hook();
    }
}

impl Access<'_> {
    /// Carries out what was coalesced, if the region wants that (QEMU: `prepare_mmio_access`).
    #[inline]
    pub(super) fn flush_coalesced(&self) {
        if self.range().io().is_some_and(|io| io.flush) {
            self.reader.memory.flush_coalesced();
        }
    }

    /// Whether a write of `value` (in the device's order) was taken by an ioeventfd, which it signalled (QEMU:
    /// `memory_region_dispatch_write_eventfds`).
    #[inline]
    pub(super) fn signals(&self, value: u64) -> bool {
        let taken = self.range().io().and_then(|io| io.signalled_by(self.offset(), self.size(), value));
        // Where the kernel matches them it has not matched this one, or the write would not be here.
        taken.filter(|_| !self.reader.memory.kernel_eventfds()).is_some_and(|n| n.signal().is_ok())
    }
}
