//! Code that somebody else writes: device DMA, the monitor, another thread.
//!
//! What it is: the pages that code was translated from, watched through the dirty client CODE; the CPU asks between blocks,
//! at the latest after each access to a device, which of them were written. What it is not: about the CPU's own
//! stores, which it notices itself, at once and to the byte. What must always hold: a page is clean for CODE before its
//! code is read, so that a write after that is listed; all others are not, so that writes to them are not.

use std::collections::HashMap;

use flatview::{DIRTY_PAGE_SIZE, DirtyClient, Memory, MemoryError, NewlyDirtyWatch, RegionId, Section};

use crate::tlb::PAGE_SIZE;

/// Written pages that are listed one by one.
const MOST: usize = 256;

/// A region with pages that are watched.
struct Watched {
    region: RegionId,
    /// By offset in the region's block, where the CPU sees them.
    pages: HashMap<u64, Vec<u64>>,
    /// What is asked after every access to a device.
    newly: NewlyDirtyWatch,
}

pub(crate) struct ForeignWrites {
    memory: Memory,
    root: RegionId,
    regions: Vec<Watched>,
}

impl Drop for ForeignWrites {
    fn drop(&mut self) {
        // It fails only inside an update of this thread; then the log goes on, and costs a little.
        let _ = self.memory.set_log_all(DirtyClient::CODE, false);
    }
}

impl ForeignWrites {
    pub fn new(memory: &Memory, root: RegionId) -> Result<Self, MemoryError> {
        memory.set_log_all(DirtyClient::CODE, true)?;
        Ok(Self { memory: memory.clone(), root, regions: Vec::new() })
    }

    /// Watches a physical page, the code of which is read after this: all parts of it that are memory.
    pub fn watch(&mut self, page: u64) {
        let end = page | (PAGE_SIZE - 1);
        let mut at = page;
        // What cannot be watched is not RAM, or is just being taken out of the map, which the CPU is told of.
        while let Ok(Some(part)) = self.memory.find(self.root, at, u128::from(end - at) + 1) {
            self.watch_part(page, &part);
            if part.last() >= end {
                break;
            }
            at = part.last() + 1;
        }
    }

    fn watch_part(&mut self, page: u64, part: &Section) {
        let Some((_, first)) = part.ram() else { return };
        let at = match self.regions.iter().position(|watched| watched.region == part.region) {
            Some(at) => at,
            None => {
                // Only pages that are watched are to be listed, not every page that is written first.
                let Ok(info) = self.memory.region(part.region) else { return };
                let size = u64::try_from(info.size).unwrap_or(u64::MAX);
                if self.memory.set_dirty_for(part.region, 0, size, DirtyClient::CODE).is_err() {
                    return;
                }
                let newly = self.memory.list_newly_dirty(part.region, DirtyClient::CODE, MOST);
                let Ok(Some(newly)) = newly else { return };
                self.regions.push(Watched { region: part.region, pages: HashMap::new(), newly });
                self.regions.len() - 1
            }
        };
        let Some(Watched { pages, .. }) = self.regions.get_mut(at) else { return };
        let len = part.last() - part.offset_in_space + 1;
        // Where it is mapped need not be at the beginning of one of the block's pages.
        let mask = !(DIRTY_PAGE_SIZE - 1);
        for offset in ((first & mask)..=((first + (len - 1)) & mask)).step_by(DIRTY_PAGE_SIZE as usize) {
            let seen_at = pages.entry(offset).or_default();
            if !seen_at.contains(&page) {
                seen_at.push(page);
            }
        }
        let _ = self.memory.reset_dirty(part.region, part.offset_in_region, len, DirtyClient::CODE);
    }

    /// Whether there is something to take, as far as this thread can know.
    #[inline]
    pub fn is_any(&self) -> bool {
        self.regions.iter().any(|watched| !watched.newly.is_empty())
    }

    /// The physical pages that were written; they are not watched any more.
    pub fn written(&mut self) -> Vec<u64> {
        let mut written = Vec::new();
        let memory = &self.memory;
        self.regions.retain_mut(|Watched { region, pages, .. }| {
            let Ok(newly) = memory.drain_newly_dirty(*region, DirtyClient::CODE) else {
                // It is gone, or its log is: nothing is known of its pages.
                written.extend(pages.values().flatten());
                return false;
            };
            if newly.complete {
                written.extend(newly.offsets.iter().filter_map(|offset| pages.remove(offset)).flatten());
            } else {
                written.extend(std::mem::take(pages).into_values().flatten());
            }
            true
        });
        written
    }
}
