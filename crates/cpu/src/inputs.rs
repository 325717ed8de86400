//! What reaches a CPU from outside: interrupt lines, and requests to look up from its work.
//!
//! Shared with devices, the machine and other threads; every word is an atomic. What must always hold: who changes
//! something that a running CPU must notice sets it first and asks for [attention](Inputs::attend) then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use flatview_device::IrqLine;
use parking_lot::{Condvar, Mutex};

/// The outside of a CPU.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The level of each line, a bit for each.
    levels: AtomicU32,
    /// Lines that went up since the CPU last asked.
    raised: AtomicU32,
    /// Something changed that the CPU has not looked at.
    attention: AtomicBool,
    /// The CPU shall leave [`run`](crate::Cpu::run).
    stop: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Inputs {
    /// The levels of all lines, a bit for each.
    #[must_use]
    pub fn levels(&self) -> u32 {
        self.levels.load(Ordering::Acquire)
    }

    /// Sets the level of a line below 32.
    pub fn set_level(&self, line: u32, high: bool) {
        let bit = 1_u32.checked_shl(line).unwrap_or(0);
        let before = match high {
            true => self.levels.fetch_or(bit, Ordering::AcqRel),
            false => self.levels.fetch_and(!bit, Ordering::AcqRel),
        };
        if (before & bit != 0) != high {
            if high {
                self.raised.fetch_or(bit, Ordering::AcqRel);
            }
            self.attend();
        }
    }

    /// Those of `lines` that went up since they were last asked for, a bit for each; a pulse that is over counts.
    pub(crate) fn take_raised(&self, lines: u32) -> u32 {
        match self.raised.load(Ordering::Acquire) & lines {
            0 => 0,
            _ => self.raised.fetch_and(!lines, Ordering::AcqRel) & lines,
        }
    }

    /// Makes a line of the machine drive one of the CPU's.
    pub fn connect(self: &Arc<Self>, line: &IrqLine, number: u32) {
        let inputs = Arc::clone(self);
        line.connect(move |high| inputs.set_level(number, high));
    }

    /// Asks the CPU to look at its inputs before its next block, and wakes it if it waits.
    pub fn attend(&self) {
        self.attention.store(true, Ordering::Release);
        // The lock makes sure that a CPU that is about to sleep sees it.
        drop(self.sleep.lock());
        self.wake.notify_all();
    }

    /// Asks the CPU to leave [`run`](crate::Cpu::run).
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.attend();
    }

    /// Whether there is something to look at.
    #[inline(always)]
    pub(crate) fn is_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed)
    }

    /// The same, which is done with then.
    pub(crate) fn take_attention(&self) -> bool {
        self.attention.swap(false, Ordering::AcqRel)
    }

    /// Whether it shall stop, which is done with then.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop.swap(false, Ordering::AcqRel)
    }

    /// Waits until there is something to look at, for `limit` at most; whether there is.
    pub fn wait(&self, limit: Option<std::time::Duration>) -> bool {
        let mut guard = self.sleep.lock();
        if self.attention.load(Ordering::Acquire) {
            return true;
        }
        match limit {
            Some(limit) => drop(self.wake.wait_for(&mut guard, limit)),
            None => self.wake.wait(&mut guard),
        }
        self.attention.load(Ordering::Acquire)
    }
}
