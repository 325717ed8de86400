//! The memory an access hit last, for the next one.
//!
//! UNSAFE: this module dereferences pointers into RAM blocks.
//!
//! What it is: a run of guest addresses with the bytes behind it, small enough for a cell, and tested with one
//! comparison. What it is not: a right to access; whoever makes a window has looked whether loads or stores go to that
//! memory. What must hold is B2: the window borrows its block, and a window that holds no address has no pointer.
#![expect(unsafe_code, reason = "guest RAM is reached through raw pointers")]

use std::marker::PhantomData;

use super::RamSpan;
use super::bytes::{ANY_ALIGNMENT, copy_in, copy_out, load_at, store_at};
use super::dirty::{BlockDirty, Notes};
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
    /// Where the byte at address 0 would be, so that the processor adds the address itself to it.
    zero: *mut u8,
    block: PhantomData<RamSpan<'a>>,
}

// SAFETY: B2 does not depend on the thread, and access to the bytes is by atomics and raw copies (B1).
unsafe impl Send for RamWindow<'_> {}

impl Default for RamWindow<'_> {
    #[inline(always)]
    fn default() -> Self {
        Self { start: 0, limit: 0, zero: std::ptr::null_mut(), block: PhantomData }
    }
}

impl<'a> RamWindow<'a> {
    /// The memory `span`, which stands at `start`.
    #[inline(always)]
    pub fn new(start: u64, span: RamSpan<'a>) -> Self {
        let limit = span.len().saturating_sub(MOST - 1);
        let zero = span.ptr().as_ptr().wrapping_sub(start as usize);
        Self { start, limit, zero, block: PhantomData }
    }

    /// Whether the window has the address, with [`MOST`] bytes behind it, and a value of `size` bytes there moves by one
    /// instruction.
    #[inline(always)]
    fn has(&self, addr: u64, size: u32, any_alignment: bool) -> bool {
        addr.wrapping_sub(self.start) < self.limit
            && (any_alignment || (self.zero as u64).wrapping_add(addr).is_multiple_of(size.into()))
    }

    /// The value at `addr` in host order, if it is in the window, at least seven bytes before its end, and moves by one
    /// instruction: naturally aligned values do everywhere.
    #[inline]
    pub fn load<V: Value>(&self, addr: u64) -> Option<V> {
        if !self.has(addr, V::SIZE, ANY_ALIGNMENT) {
            unlikely();
            return None;
        }
        // SAFETY: B2: what `has` holds has eight bytes from there on that are mapped (B1) as long as the block (B2).
        Some(V::narrow(unsafe { load_at(self.zero, addr, V::SIZE) }))
    }

    /// Stores a value in host order, under the same conditions.
    #[inline]
    pub fn store<V: Value>(&self, addr: u64, value: V) -> Option<()> {
        if !self.has(addr, V::SIZE, ANY_ALIGNMENT) {
            unlikely();
            return None;
        }
        // SAFETY: as for `load`; windows for stores are made of writable memory.
        unsafe { store_at(self.zero, addr, V::SIZE, value.widen()) };
        Some(())
    }

    /// The pointer to `len` bytes at `addr`, if they are all in the window.
    #[inline]
    fn run(&self, addr: u64, len: usize) -> Option<*mut u8> {
        if !self.has(addr, 1, true) {
            return None;
        }
        let behind = self.limit - addr.wrapping_sub(self.start) + (MOST - 1);
        // What `has` holds is in the block (B2), and so is its pointer.
        (len as u64 <= behind).then(|| self.zero.wrapping_add(addr as usize))
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

/// The same for stores that are noted.
#[derive(Clone, Copy, Default)]
pub(crate) struct LoggedWindow<'a> {
    memory: RamWindow<'a>,
    /// Made for the addresses of `memory`.
    notes: Notes<'a>,
}

impl<'a> LoggedWindow<'a> {
    /// The memory `span`, which stands at `start` and at `offset` of its block, writes to which are noted in `dirty` for the
    /// clients of `mask`; `None` if that is not as simple as a reader would have it.
    pub fn new(start: u64, span: RamSpan<'a>, dirty: &'a BlockDirty, mask: u8, offset: u64) -> Option<Self> {
        let notes = dirty.notes(mask, offset, start, span.len())?;
        Some(Self { memory: RamWindow::new(start, span), notes })
    }

    /// Stores a naturally aligned value in host order, under the conditions of [`RamWindow::load`]; and whether that is noted
    /// already, as it is most of the time. If not, the caller notes it.
    #[inline(always)]
    pub fn store<V: Value>(&self, addr: u64, value: V) -> Option<bool> {
        // Pages of addresses are pages of memory, and so what is aligned here is so there.
        if !self.memory.has(addr, V::SIZE, true) || !addr.is_multiple_of(V::SIZE.into()) {
            unlikely();
            return None;
        }
        // SAFETY: as for `RamWindow::store`; the notes are of the same addresses.
        unsafe {
            store_at(self.memory.zero, addr, V::SIZE, value.widen());
            Some(self.notes.has(addr))
        }
    }

    /// Copies bytes in, if all of them are in the window, and notes it.
    #[inline]
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Option<()> {
        self.memory.write(addr, bytes)?;
        self.notes.mark(addr, bytes.len() as u64);
        Some(())
    }
}

/// Where memory is, as seen from guest addresses, for who keeps apart what addresses it is at, and what keeps it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RamPlace {
    /// Where the byte at address 0 would be.
    zero: *mut u8,
}

impl RamPlace {
    pub const NOWHERE: Self = Self { zero: std::ptr::null_mut() };

    /// Of the memory `span`, which stands at `start`.
    pub fn new(start: u64, span: RamSpan<'_>) -> Self {
        Self { zero: span.ptr().as_ptr().wrapping_sub(start as usize) }
    }

    /// The value at `addr` in host order.
    ///
    /// # Safety
    /// All bytes of the value are in the span that the place is of, or in one of the same place, and that is kept (B2).
    #[inline(always)]
    pub unsafe fn load<V: Value>(self, addr: u64) -> V {
        // SAFETY: the caller's promise.
        V::narrow(unsafe { load_at(self.zero, addr, V::SIZE) })
    }
}
