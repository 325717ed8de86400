//! A scoped direct pointer to the host memory behind RAM.
//!
//! What it is: the way out for code that must hand an address to the kernel, a library or a device model in C.
//! What it is not: the way to access RAM; use a [`Reader`](crate::Reader), which honours the map.

use std::ptr::NonNull;
use std::sync::Arc;

use super::{RamBlock, RamError};

/// A pointer to host memory behind RAM, and the block that keeps it mapped.
///
/// The pointer is good as long as this guard lives. The bytes may change at any time under a running guest: read
/// and write them volatile or atomically, and never make a reference of them.
#[derive(Debug, Clone)]
pub struct HostPtr {
    block: Arc<RamBlock>,
    ptr: NonNull<u8>,
    len: u64,
}

impl HostPtr {
    /// `len` bytes of the block from `offset` on, if they are all inside it.
    pub(crate) fn of(block: &Arc<RamBlock>, offset: u64, len: u64) -> Option<Self> {
        Some(Self::new(block, block.span(offset, len)?.ptr(), len))
    }

    pub(super) fn new(block: &Arc<RamBlock>, ptr: NonNull<u8>, len: u64) -> Self {
        Self { block: Arc::clone(block), ptr, len }
    }

    /// The first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The number of bytes behind the pointer.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing behind it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Notes that `len` of the bytes from `offset` on were written through the pointer, for every
    /// [dirty client](crate::DirtyClient) that logs the block (QEMU: what `address_space_unmap` and
    /// `memory_region_set_dirty` do). To be called after they are written: a write that is not told is lost to them.
    ///
    /// # Errors
    /// [`RamError::OutOfRange`](crate::RamError::OutOfRange) if they are not all behind the pointer.
    pub fn mark_dirty(&self, offset: u64, len: u64) -> Result<(), RamError> {
        let start = (self.ptr.as_ptr() as usize).wrapping_sub(self.block.base().as_ptr() as usize) as u64;
        if offset > self.len || self.len - offset < len {
            return Err(RamError::OutOfRange {
                name: self.block.name().to_owned(),
                offset: start.saturating_add(offset),
                size: len,
                have: self.block.size(),
            });
        }
        self.block.mark_dirty(start + offset, len)
    }

    /// The block that keeps the bytes mapped.
    #[must_use]
    pub fn block(&self) -> &Arc<RamBlock> {
        &self.block
    }
}
