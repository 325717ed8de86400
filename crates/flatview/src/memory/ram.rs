//! The RAM behind the regions: resizing it, following the blocks that come and go, who may discard.

use std::sync::Arc;

use super::Memory;
use crate::ram::{DiscardRules, NotifierId, RamBlockNotifier};
use crate::thread::writing;
use crate::{MemoryError, RegionId, RegionType};

impl Memory {
    /// Gives a region and the resizeable block it shows another size, in bytes (QEMU: `memory_region_ram_resize`). The
    /// region follows in an update of its own; when this returns, the map, the block's
    /// [callback](crate::RamBuilder::on_resize) and the [notifiers](Self::add_block_notifier) have been told.
    ///
    /// What the block held in the part that it loses stays there until it is written or discarded. All its pages are dirty
    /// afterwards, for every client that logs it.
    ///
    /// # Errors
    /// [`MemoryError`]: the region does not show a resizeable block from its start; the size is 0 or over the block's maximum;
    /// somebody is resizing it; this is inside an [`update`](Self::update); or the map cannot be rendered. Nothing has
    /// changed then.
    pub fn resize_ram(&self, region: RegionId, size: u64) -> Result<(), MemoryError> {
        let info = self.region(region)?;
        let name = || Arc::clone(&info.name);
        let Some((block, offset)) = &info.ram else {
            return Err(MemoryError::NoBlock { name: name() });
        };
        let shared = || block.shared_name();
        let is_ram = matches!(info.kind, RegionType::Ram | RegionType::Rom);
        if !block.is_resizeable() || *offset != 0 || !is_ram {
            return Err(MemoryError::NotResizeable { name: name(), block: shared() });
        }
        let max = block.max_size();
        if size == 0 || size > max {
            return Err(MemoryError::ResizeOutOfRange { name: name(), block: shared(), size, min: 1, max });
        }
        if writing() {
            return Err(MemoryError::ResizeInsideUpdate { block: shared() });
        }
        let Some(resize) = block.begin_resize() else {
            return Err(MemoryError::ResizeRunning { block: shared() });
        };
        let (old, used) = (block.size(), block.info().used);
        // The block is never smaller than the region.
        resize.set(size.max(old));
        if let Err(e) = self.update(|t| t.set_size(region, size.into())) {
            resize.set(old);
            return Err(e);
        }
        resize.set(size);
        // As for a new block: nothing is known of its pages.
        if size != old {
            block.dirty().mark_for_all(0, size);
        }
        // Another number of bytes in the same pages is the region's business only.
        if block.info().used != used {
            self.0.notifiers.resized(block, old);
        }
        if size != old {
            resize.tell();
        }
        drop(resize);
        self.0.notifiers.tell();
        Ok(())
    }

    /// Tells somebody of the RAM blocks that regions are made of: at once of those that there are, and from then on of each
    /// that comes, goes or is resized (QEMU: `ram_block_notifier_add`).
    pub fn add_block_notifier(&self, notifier: Arc<dyn RamBlockNotifier>) -> NotifierId {
        let id = self.0.notifiers.add(notifier);
        if !writing() {
            self.0.notifiers.tell();
        }
        id
    }

    /// Tells a notifier that all blocks are gone, and then no more; false if it was removed before
    /// (QEMU: `ram_block_notifier_remove`). If another thread is telling just now, it tells this too.
    pub fn remove_block_notifier(&self, id: NotifierId) -> bool {
        let removed = self.0.notifiers.remove(id);
        if !writing() {
            self.0.notifiers.tell();
        }
        removed
    }

    /// Who may discard RAM, and who forbids it.
    #[must_use]
    pub fn discard_rules(&self) -> &DiscardRules {
        &self.0.discards
    }
}
