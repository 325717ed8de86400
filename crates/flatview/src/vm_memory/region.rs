//! One run of writable RAM.
//!
//! UNSAFE: this module hands out `VolatileSlice`s of RAM blocks.
//!
//! What it is: a flat range as `vm-memory` sees guest memory, with its host address, its file and its dirty pages. What it is
//! not: a region of Flatview; one of those may show in several runs, or in none. What must hold is V1 of [the
//! module](super).
#![expect(unsafe_code, reason = "VolatileSlice is made from raw pointers")]

use std::fmt;
use std::sync::Arc;

use vm_memory::bitmap::BS;
use vm_memory::guest_memory::Result;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress, VolatileSlice,
};

use super::DirtyPages;
use crate::ram::{Anchored, Answer};
use crate::span::Span;
use crate::{DirtyClient, FlatRange, HostPtr, RamBlock, Share};

/// Writable RAM at a run of addresses: one range of a flat view (rust-vmm: `GuestRegionMmap`).
///
/// It keeps its block mapped. Its length is in bytes and never 0; it may end at the last address of all, 2^64 - 1.
pub struct RamRegion {
    at: Anchored<RamBlock>,
    dirty: DirtyPages,
    file: Option<FileOffset>,
}

impl fmt::Debug for RamRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (block, offset) = self.block();
        write!(f, "RamRegion({:#x}..={:#x} {:?} @{offset:#x})", self.start(), self.last(), block.name())
    }
}

impl RamRegion {
    /// The range, if it is writable RAM.
    pub(super) fn of(range: &FlatRange) -> Option<Self> {
        let writable = range.writable_ram()?;
        let (block, offset) = range.block()?;
        // A private mapping may differ from its file: who maps the file would not see this memory.
        let file = block.shared_file().filter(|_| block.share() == Share::Shared);
        let file = file.and_then(|(file, start)| {
            Some(FileOffset::from_arc(Arc::clone(file), start.checked_add(offset)?))
        });
        let at = Anchored::new(range.span(), block, |block| {
            block.span(offset, writable.len()).map_or(Answer::Nothing, Answer::Memory)
        });
        let (block, client) = (Arc::clone(block), DirtyClient::MIGRATION);
        at.memory()?;
        Some(Self { at, dirty: DirtyPages { block, base: offset, client }, file })
    }

    /// The same, asking for another client's dirty pages.
    pub(super) fn with_dirty_client(&self, client: DirtyClient) -> Self {
        let dirty = DirtyPages { client, ..self.dirty.clone() };
        Self { at: self.at.clone(), dirty, file: self.file.clone() }
    }

    #[inline]
    fn span(&self) -> Span {
        self.at.span()
    }

    /// The first address.
    #[must_use]
    #[inline]
    pub fn start(&self) -> u64 {
        self.span().start
    }

    /// The last address.
    #[must_use]
    #[inline]
    pub fn last(&self) -> u64 {
        self.span().last
    }

    /// The block behind it, and the offset in the block of the first byte.
    #[must_use]
    pub fn block(&self) -> (&Arc<RamBlock>, u64) {
        (self.at.anchor(), self.dirty.base)
    }

    /// A pointer to all of it, which keeps the block mapped.
    #[must_use]
    pub fn host(&self) -> Option<HostPtr> {
        HostPtr::of(self.at.anchor(), self.dirty.base, self.len())
    }
}

impl GuestMemoryRegion for RamRegion {
    type B = DirtyPages;

    #[inline]
    fn len(&self) -> GuestUsize {
        // A block is shorter than 2^64 bytes, so this cannot wrap around (V1).
        (self.span().last - self.span().start).wrapping_add(1)
    }

    #[inline]
    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.start())
    }

    #[inline]
    fn last_addr(&self) -> GuestAddress {
        GuestAddress(self.last())
    }

    #[inline]
    fn bitmap(&self) -> BS<'_, DirtyPages> {
        self.dirty.from(0)
    }

    fn get_host_address(&self, addr: MemoryRegionAddress) -> Result<*mut u8> {
        let byte = self.at.memory().and_then(|m| m.sub(addr.0, 1));
        byte.map(|m| m.ptr().as_ptr()).ok_or(GuestMemoryError::InvalidBackendAddress)
    }

    /// The file or memfd behind it and where in that it begins, if the mapping is shared. (A private mapping
    /// of a file gives none: another process that maps the file would see other bytes.)
    fn file_offset(&self) -> Option<&FileOffset> {
        self.file.as_ref()
    }

    #[inline]
    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, DirtyPages>>> {
        let part = self.at.memory().and_then(|m| m.sub(offset.0, count as u64));
        let ptr = part.ok_or(GuestMemoryError::InvalidBackendAddress)?.ptr().as_ptr();
        // SAFETY: V1: `sub` has checked that `count` bytes from `ptr` on are in the block, which `self` keeps and the slice
        // borrows; nobody makes references of guest RAM, all else who access it use atomics and raw copies (B1).
        Ok(unsafe { VolatileSlice::with_bitmap(ptr, count, self.dirty.from(offset.0), None) })
    }

    #[cfg(target_os = "linux")]
    fn is_hugetlbfs(&self) -> Option<bool> {
        Some(self.at.anchor().page_size() > rustix::param::page_size() as u64)
    }
}

impl GuestMemoryRegionBytes for RamRegion {}
