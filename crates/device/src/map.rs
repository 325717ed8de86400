//! A device's way to change the map.
//!
//! Devices that move their regions keep a [`MapHandle`] and region ids. The handle does not keep the memory alive, so
//! that a machine and its devices can be dropped. A change that a guest causes cannot be returned to anybody as an
//! error: it is logged, and the map stays as it was.

use flatview::{Memory, MemoryError, Transaction, WeakMemory};

use crate::log::{Log, LogMask};

/// A weak handle to the machine's memory, with a log for changes that fail.
#[derive(Debug, Clone)]
pub struct MapHandle {
    memory: WeakMemory,
    log: Log,
}

impl MapHandle {
    /// A handle to this memory.
    pub fn new(memory: &Memory, log: &Log) -> MapHandle {
        MapHandle { memory: memory.downgrade(), log: log.clone() }
    }

    /// The memory, while the machine exists.
    pub fn memory(&self) -> Option<Memory> {
        self.memory.upgrade()
    }

    /// Changes the map in one transaction; an error changes nothing and is logged. Returns whether it was changed.
    pub fn update(&self, change: impl FnOnce(&mut Transaction<'_>) -> Result<(), MemoryError>) -> bool {
        let Some(memory) = self.memory.upgrade() else { return false };
        match memory.update(change) {
            Ok(()) => true,
            Err(error) => {
                self.log.line(
                    LogMask::GUEST_ERRORS,
                    format_args!("A device's change of the map failed: {error}"),
                );
                false
            }
        }
    }
}
