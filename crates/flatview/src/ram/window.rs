//! The memory an access hit last, for the next one.
//!
//! UNSAFE: this module dereferences pointers into RAM blocks.
//!
//! What it is: a run of guest addresses with the bytes behind it, small enough for a cell, and tested with one
//! comparison. What it is not: a right to access; whoever makes a window has looked whether loads or stores go to that
//! memory. What must hold is B2: the window borrows its block, and a window that holds no address has no pointer.
#![expect(unsafe_code, reason = "guest RAM is reached through raw pointers")]

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::RamSpan;
use super::bytes::{ANY_ALIGNMENT, copy_in, copy_out, load_raw, store_raw};
use crate::Value;
use crate::unlikely::unlikely;

/// The most bytes of one value.
const MOST: u64 = 8;

/// Bytes at guest addresses. The default holds no address.
#[derive(Clone, Copy)]
pub(crate) struct RamWindow<'a> {
    start: u64,
    /// Offsets below this have at least [`MOST`] bytes behind them.
    limit: u64,
    ptr: NonNull<u8>,
    block: PhantomData<RamSpan<'a>>,
}

// SAFETY: B2 does not depend on the thread, and access to the bytes is by atomics and raw copies (B1).
unsafe impl Send for RamWindow<'_> {}

impl Default for RamWindow<'_> {
    #[inline(always)]
    fn default() -> Self {
        Self { start: 0, limit: 0, ptr: NonNull::dangling(), block: PhantomData }
    }
}

impl<'a> RamWindow<'a> {
    /// The memory `span`, which stands at `start`.
    #[inline(always)]
    pub fn new(start: u64, span: RamSpan<'a>) -> Self {
        let limit = span.len().saturating_sub(MOST - 1);
        Self { start, limit, ptr: span.ptr(), block: PhantomData }
    }

    /// The pointer to what stands at `addr`, with [`MOST`] bytes behind it.
    #[inline]
    fn at(&self, addr: u64) -> Option<*mut u8> {
        let offset = addr.wrapping_sub(self.start);
        if offset >= self.limit {
            return None;
        }
        // SAFETY: B2: offset < limit = length - 7, so this and seven bytes behind it are in the block.
        Some(unsafe { self.ptr.as_ptr().add(offset as usize) })
    }

    /// The same, if a value of `size` bytes there moves by one instruction.
    #[inline]
    fn at_one(&self, addr: u64, size: u32, any_alignment: bool) -> Option<*mut u8> {
        self.at(addr).filter(|p| any_alignment || (*p as usize).is_multiple_of(size as usize))
    }

    /// The value at `addr` in host order, if it is in the window, at least seven bytes before its end, and moves by one
    /// instruction: naturally aligned values do everywhere.
    #[inline]
    pub fn load<V: Value>(&self, addr: u64) -> Option<V> {
        let Some(p) = self.at_one(addr, V::SIZE, ANY_ALIGNMENT) else {
            unlikely();
            return None;
        };
        // SAFETY: `at` gives a pointer with eight bytes behind it that are mapped (B1) as long as the block (B2).
        Some(V::narrow(unsafe { load_raw(p, V::SIZE) }))
    }

    /// Stores a value in host order, under the same conditions.
    #[inline]
    pub fn store<V: Value>(&self, addr: u64, value: V) -> Option<()> {
        let p = self.at_one(addr, V::SIZE, ANY_ALIGNMENT)?;
        // SAFETY: as for `load`; windows for stores are made of writable memory.
        unsafe { store_raw(p, V::SIZE, value.widen()) };
        Some(())
    }

    /// Stores a naturally aligned value in host order, under the same conditions.
    #[inline]
    pub fn store_aligned<V: Value>(&self, addr: u64, value: V) -> Option<()> {
        let p = self.at_one(addr, V::SIZE, false)?;
        // SAFETY: as for `store`.
        unsafe { store_raw(p, V::SIZE, value.widen()) };
        Some(())
    }

    /// The pointer to `len` bytes at `addr`, if they are all in the window.
    #[inline]
    fn run(&self, addr: u64, len: usize) -> Option<*mut u8> {
        let p = self.at(addr)?;
        let behind = self.limit - addr.wrapping_sub(self.start) + (MOST - 1);
        (len as u64 <= behind).then_some(p)
    }

    /// Copies bytes out, if all of them are in the window.
    #[inline]
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Option<()> {
        // SAFETY: `run` has checked the length; `out` cannot overlap guest RAM, of which no reference is made (B1).
        self.run(addr, out.len()).map(|p| unsafe { copy_out(p, out) })
    }

    /// Copies bytes in, if all of them are in the window.
    #[inline]
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Option<()> {
        // SAFETY: as for `read`; windows for stores are made of writable memory.
        self.run(addr, bytes.len()).map(|p| unsafe { copy_in(bytes, p) })
    }
}
