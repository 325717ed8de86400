//! Writes of rust-vmm's crates, noted where all writes are.
//!
//! What it is: the `Bitmap` of a region, which has no bits of its own: it marks pages of the region's RAM block for every
//! client that logs the block. What it is not: a log to start, stop or take; that is done by region
//! ([`Memory::set_log`](crate::Memory::set_log), [`Memory::snapshot_and_clear_dirty`](crate::Memory::snapshot_and_clear_dirty)).
//!
//! What must hold: a mark comes after the bytes are written. `vm-memory` does so in all of its accesses.

use std::sync::Arc;

use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};

use crate::{DirtyClient, RamBlock};

/// The dirty pages of a [`RamRegion`](super::RamRegion): `GuestMemoryRegion::B`.
#[derive(Debug, Clone)]
pub struct DirtyPages {
    pub(super) block: Arc<RamBlock>,
    /// The offset in the block of the first byte.
    pub(super) base: u64,
    pub(super) client: DirtyClient,
}

/// The dirty pages of the RAM block from some byte on.
///
/// `mark_dirty` marks the pages that the bytes touch for **every** [dirty client](DirtyClient) that logs the block, whichever
/// view the caller looks through: a log that was started a moment ago misses nothing. Where nobody logs it costs two loads.
///
/// `dirty_at` asks for **one** client, [`DirtyClient::MIGRATION`] unless
/// [`RamView::with_dirty_client`](super::RamView::with_dirty_client) says another. A page of a block whose log that client
/// has never started is dirty: nothing is known of it.
#[derive(Debug, Clone, Copy)]
pub struct DirtySlice<'a> {
    // Two words: `vm-memory` moves it about in every access.
    pages: &'a DirtyPages,
    /// The offset in the block of the first byte.
    base: u64,
}

impl DirtyPages {
    #[inline]
    pub(super) fn from(&self, offset: u64) -> DirtySlice<'_> {
        DirtySlice { pages: self, base: self.base.saturating_add(offset) }
    }
}

impl<'a> WithBitmapSlice<'a> for DirtyPages {
    type S = DirtySlice<'a>;
}

impl Bitmap for DirtyPages {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.from(0).mark_dirty(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.from(0).dirty_at(offset)
    }

    fn slice_at(&self, offset: usize) -> DirtySlice<'_> {
        self.from(offset as u64)
    }
}

impl<'b> WithBitmapSlice<'_> for DirtySlice<'b> {
    type S = DirtySlice<'b>;
}

impl BitmapSlice for DirtySlice<'_> {}

impl<'b> Bitmap for DirtySlice<'b> {
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.pages.block.dirty().mark_for_all(self.base.saturating_add(offset as u64), len as u64);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let (at, client) = (self.base.saturating_add(offset as u64), self.pages.client);
        self.pages.block.dirty().count(u32::from(client.index), at, 1) > 0
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> DirtySlice<'b> {
        Self { base: self.base.saturating_add(offset as u64), ..*self }
    }
}
