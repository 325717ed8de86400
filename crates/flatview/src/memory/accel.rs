//! What an accelerator tells a memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, Memory};

/// Carries out what was coalesced.
pub(crate) type FlushHook = Arc<dyn Fn() + Send + Sync>;

impl Inner {
    /// Carries out what was coalesced, if there is an accelerator that coalesces.
    pub fn flush_coalesced(&self) {
        if let Some(hook) = &*self.flush.load() {
            crate::access::flush(&***hook);
        }
    }

    pub fn kernel_eventfds(&self) -> bool {
        self.kernel_eventfds.load(Ordering::Relaxed)
    }
}

impl Memory {
    /// What carries out the writes that an accelerator collected for [coalesced
    /// ranges](crate::Transaction::add_coalescing) (QEMU: `qemu_flush_coalesced_mmio_buffer`). It runs before each
    /// access to a region that wants it ([`set_flush_coalesced`](crate::Transaction::set_flush_coalesced)), and at the
    /// beginning of each outermost [`update`](Self::update) outside of listeners; on the thread that accesses or
    /// changes, with no lock held. The accesses which it makes do not run it again.
    pub fn set_coalesced_flush(&self, hook: Option<Arc<dyn Fn() + Send + Sync>>) {
        self.0.flush.store(hook.map(Arc::new));
    }

    /// Whether device code runs on the calling thread: a callback of this or another memory. A hook that may come from
    /// inside one must not wait there for what another thread does in a device: that thread may wait for the first device.
    #[must_use]
    pub fn in_device_callback() -> bool {
        crate::thread::in_callback()
    }

    /// Says whether the kernel signals ioeventfds (QEMU: `kvm_eventfds_enabled()`). A write that comes to this process
    /// then goes to the device, because the kernel has not matched it. At first it does not: writes here signal.
    pub fn set_kernel_eventfds(&self, kernel: bool) {
        self.0.kernel_eventfds.store(kernel, Ordering::Relaxed);
    }
}
