//! Keeping vCPUs out of the guest while slots are replaced.

use std::fmt;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Keeps vCPUs out of the guest while memory slots are replaced (QEMU: what `accel_ioctl_inhibit_begin` does for
/// `KVM_RUN`).
///
/// KVM cannot shorten, split or move a slot: it is deleted, and others are made. A vCPU that runs in between finds a hole
/// where RAM was: its loads and stores become MMIO exits, which a [`KvmBus`](crate::KvmBus) answers rightly out of the flat
/// view, but it cannot fetch instructions there, nor can the processor walk page tables, and it ends with
/// `KVM_EXIT_INTERNAL_ERROR`. And what it writes to a logged slot between the last look at its log and its end is noted by
/// nobody. With a gate neither can happen. Without one, nobody may be in the guest while the map of its RAM changes.
///
/// [`RunGate`] is one for most. Only commits that need it pause: those that delete a slot whose addresses are given a new one
/// at once, or whose writes are logged. [`pause`](Self::pause) and [`resume`](Self::resume) are called on the thread that
/// changes the map, in turns, and never by two threads at a time.
pub trait VcpuGate: Send + Sync {
    /// Has every vCPU leave `KVM_RUN`, waits until all are out, and keeps them out.
    ///
    /// It must wait for nothing else than that: a vCPU's thread that is not in `KVM_RUN` may itself be waiting to change
    /// the map, until this change is done. The thread that calls this may be a vCPU's, which handles an exit.
    fn pause(&self);

    /// Lets them run again.
    fn resume(&self);

    /// A vCPU is about to go into the guest: waits while they are to be out. [`KvmBus::run`](crate::KvmBus) calls it.
    fn enter(&self) {}

    /// It is out again, and has not handled its exit yet.
    fn leave(&self) {}
}

/// How long a vCPU may take to notice a kick.
const PATIENCE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
struct Counts {
    /// Who wants all to be out.
    pausing: u32,
    /// Who is in.
    inside: u32,
}

/// A gate that counts who is in the guest. vCPUs that run by [`KvmBus::run`](crate::KvmBus) go through it by themselves.
pub struct RunGate {
    counts: Mutex<Counts>,
    changed: Condvar,
    kick: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for RunGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunGate").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl RunGate {
    /// A gate. `kick` has all vCPUs leave `KVM_RUN` soon: it sends their threads a signal whose handler does nothing. It is
    /// called again and again until they are out, so it does not matter if a signal comes just before a vCPU goes in.
    pub fn new(kick: impl Fn() + Send + Sync + 'static) -> Self {
        Self { counts: Mutex::default(), changed: Condvar::new(), kick: Box::new(kick) }
    }
}

impl VcpuGate for RunGate {
    fn pause(&self) {
        self.counts.lock().pausing += 1;
        loop {
            if self.counts.lock().inside == 0 {
                return;
            }
            (self.kick)();
            let mut counts = self.counts.lock();
            if counts.inside > 0 {
                self.changed.wait_for(&mut counts, PATIENCE);
            }
        }
    }

    fn resume(&self) {
        let mut counts = self.counts.lock();
        counts.pausing = counts.pausing.saturating_sub(1);
        self.changed.notify_all();
    }

    fn enter(&self) {
        let mut counts = self.counts.lock();
        while counts.pausing > 0 {
            self.changed.wait(&mut counts);
        }
        counts.inside += 1;
    }

    fn leave(&self) {
        let mut counts = self.counts.lock();
        counts.inside = counts.inside.saturating_sub(1);
        self.changed.notify_all();
    }
}

/// The vCPUs are out of the guest while this lives.
pub(crate) struct Paused<'a>(Option<&'a dyn VcpuGate>);

impl<'a> Paused<'a> {
    /// Pauses, if there is a gate.
    pub fn new(gate: Option<&'a dyn VcpuGate>) -> Self {
        if let Some(gate) = gate {
            gate.pause();
        }
        Self(gate)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.0 {
            gate.resume();
        }
    }
}
