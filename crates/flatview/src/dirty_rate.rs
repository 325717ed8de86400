//! How fast a guest writes new pages.
//!
//! What it is: the arithmetic of `calc-dirty-rate` in its dirty-bitmap mode. What it is not: a timer; the caller waits
//! as it likes, and says how long it was.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::{DIRTY_PAGE_SIZE, DirtyClient, Memory, MemoryError, RamBlock};

/// A measurement that runs: since it began, the pages that are written are noted for a [`DirtyClient`] of its own, so
/// that it disturbs no migration.
#[derive(Debug)]
pub struct DirtyRateMeter {
    memory: Memory,
    client: Option<DirtyClient>,
    /// The blocks there were; those that come later are all dirty at first, and say nothing.
    blocks: Vec<Weak<RamBlock>>,
}

/// The result of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirtyRate {
    /// Pages of [`DIRTY_PAGE_SIZE`] bytes that were written, each counted once.
    pub pages: u64,
    /// How long that took.
    pub period: Duration,
}

impl DirtyRateMeter {
    /// Begins to measure all RAM.
    ///
    /// # Errors
    /// [`MemoryError::NoDirtyClient`] if all are given out, or what
    /// [`set_log_all`](crate::Transaction::set_log_all) gives.
    pub fn start(memory: &Memory) -> Result<Self, MemoryError> {
        let client = memory.allocate_dirty_client("calc-dirty-rate")?;
        // From here on the client is freed by Drop.
        let mut meter = Self { memory: memory.clone(), client: Some(client), blocks: Vec::new() };
        memory.set_log_all(client, true)?;
        memory.sync_dirty_log(None)?;
        for block in memory.blocks() {
            memory.clear_block(&block, client)?;
            meter.blocks.push(Arc::downgrade(&block));
        }
        Ok(meter)
    }

    /// Ends the measurement, `period` after it began.
    ///
    /// # Errors
    /// What a listener gives that is asked for what it noted.
    pub fn finish(self, period: Duration) -> Result<DirtyRate, MemoryError> {
        self.memory.sync_dirty_log(None)?;
        let count = |block: Arc<RamBlock>| {
            self.client.map_or(0, |client| block.dirty().count(u32::from(client.index), 0, block.size()))
        };
        let pages = self.blocks.iter().filter_map(Weak::upgrade).map(count).sum();
        Ok(DirtyRate { pages, period })
    }
}

impl Drop for DirtyRateMeter {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // It was allocated by this value and is freed here only; inside an update it stays until the memory goes.
            let _ = self.memory.free_dirty_client(client);
        }
    }
}

impl DirtyRate {
    /// Whole MiB a second (QEMU: `dirty-rate`, which cuts the MiB to whole ones before it divides by the time).
    /// 0 if no time passed.
    #[must_use]
    pub fn mib_per_second(&self) -> u64 {
        let bytes = u128::from(self.pages) * u128::from(DIRTY_PAGE_SIZE);
        let per_second = (bytes * 1_000_000_000).checked_div(self.period.as_nanos()).unwrap_or(0);
        u64::try_from(per_second >> 20).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_in_whole_mib_a_second() {
        let rate = |pages, ms| DirtyRate { pages, period: Duration::from_millis(ms) }.mib_per_second();
        assert_eq!(rate(256, 1000), 1);
        assert_eq!(rate(255, 1000), 0);
        assert_eq!(rate(128, 100), 5);
        assert_eq!(rate(262_144, 1), 1_024_000);
        assert_eq!(rate(5, 0), 0);
        assert_eq!(rate(u64::MAX, 1), u64::MAX);
    }
}
