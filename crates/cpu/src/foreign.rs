//! Code that somebody else writes: device DMA, the monitor, another thread.
//!
//! What it is: the pages that code was translated from, watched through the dirty client CODE; the CPU asks between blocks,
//! at the latest after each access to a device, which of them were written. What it is not: about the CPU's own
//! stores, which it notices itself, at once and to the byte. What must always hold: a page is clean for CODE before its
//! code is read, so that a write after that is listed; all others are not, so that writes to them are not.

use std::collections::HashMap;

use flatview::{DirtyClient, Memory, MemoryError, NewlyDirtyWatch, RegionId};

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

    /// Watches a physical page, the code of which is read after this.
    pub fn watch(&mut self, page: u64) {
        // What cannot be watched is not RAM, or is just being taken out of the map, which the CPU is told of.
        let Ok(Some(section)) = self.memory.find(self.root, page, PAGE_SIZE.into()) else { return };
        let Some((_, in_block)) = section.ram() else { return };
        let at = match self.regions.iter().position(|watched| watched.region == section.region) {
            Some(at) => at,
            None => {
                // Only pages that are watched are to be listed, not every page that is written first.
                let Ok(info) = self.memory.region(section.region) else { return };
                let size = u64::try_from(info.size).unwrap_or(u64::MAX);
                if self.memory.set_dirty_for(section.region, 0, size, DirtyClient::CODE).is_err() {
                    return;
                }
                let newly = self.memory.list_newly_dirty(section.region, DirtyClient::CODE, MOST);
                let Ok(Some(newly)) = newly else { return };
                self.regions.push(Watched { region: section.region, pages: HashMap::new(), newly });
                self.regions.len() - 1
            }
        };
        let Some(Watched { pages, .. }) = self.regions.get_mut(at) else { return };
        let offset = in_block.wrapping_add(page.wrapping_sub(section.offset_in_space));
        let seen_at = pages.entry(offset & !(PAGE_SIZE - 1)).or_default();
        if !seen_at.contains(&page) {
            seen_at.push(page);
        }
        let within = section.offset_in_region.wrapping_add(page.wrapping_sub(section.offset_in_space));
        let _ = self.memory.reset_dirty(section.region, within, PAGE_SIZE, DirtyClient::CODE);
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
