//! The memory an access hit last, for the next one.
//!
//! UNSAFE: this module dereferences pointers into RAM blocks.
//!
//! What it is: a run of guest addresses with the bytes behind it, small enough for a cell, and tested with one or two
//! comparisons: [`RamWindow`] for loads, [`Stores`] for stores, noted or not. What it is not: a right to access; whoever makes
//! one has looked whether loads or stores go to that memory. What must hold is B2: each borrows its block, and one that holds
//! no address has no pointer.
#![expect(unsafe_code, reason = "guest RAM is reached through raw pointers")]

use std::marker::PhantomData;

use super::RamSpan;
use super::bytes::{ANY_ALIGNMENT, apart, copy_in, copy_out, load_at, store_at};
use super::dirty::{BlockDirty, Notes};
use crate::Value;
use crate::unlikely::unlikely;

/// The most bytes of one value.
const MOST: u64 = 8;

/// Bytes at guest addresses. The default holds no address.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RamWindow<'a> {
    start: u64,
    /// The last address that has [`MOST`] bytes from it on.
    last: u64,
    /// Where the byte at address 0 would be, so that the processor adds the address itself to it.
    zero: *mut u8,
    block: PhantomData<RamSpan<'a>>,
}

// SAFETY: B2 does not depend on the thread, and access to the bytes is by atomics and raw copies (B1).
unsafe impl Send for RamWindow<'_> {}

impl Default for RamWindow<'_> {
    #[inline(always)]
    fn default() -> Self {
        Self { start: u64::MAX, last: 0, zero: std::ptr::null_mut(), block: PhantomData }
    }
}

impl<'a> RamWindow<'a> {
    /// The memory `span`, which stands at `start`.
    #[inline(always)]
    pub fn new(start: u64, span: RamSpan<'a>) -> Self {
        let Some(room) = span.len().checked_sub(MOST) else { return Self::default() };
        let zero = span.ptr().as_ptr().wrapping_sub(start as usize);
        // Guest RAM of 2^64 bytes there is not: a block is in the host's memory.
        Self { start, last: start.wrapping_add(room), zero, block: PhantomData }
    }

    /// Whether the window has the address, with [`MOST`] bytes from it on.
    // Two comparisons, each with its jump: they write no register, and how many registers are written decides how many loads the
    // processor has under way. The compiler would make a subtraction and one comparison of them.
    #[inline(always)]
    fn has(&self, addr: u64) -> bool {
        if addr < self.start {
            unlikely();
            return false;
        }
        apart(addr);
        if addr > self.last {
            unlikely();
            return false;
        }
        true
    }

    /// The value at `addr` in host order, if it is in the window, at least seven bytes before its end, and moves by one
    /// instruction: naturally aligned values do everywhere.
    #[inline]
    pub fn load<V: Value>(&self, addr: u64) -> Option<V> {
        if !self.has(addr) || !is_one(self.zero, addr, V::SIZE) {
            unlikely();
            return None;
        }
        // SAFETY: B2: what `has` holds has eight bytes from there on that are mapped (B1) as long as the block (B2).
        Some(V::narrow(unsafe { load_at(self.zero, addr, V::SIZE) }))
    }

    /// The pointer to `len` bytes at `addr`, if they are all in the window.
    #[inline]
    fn run(&self, addr: u64, len: usize) -> Option<*mut u8> {
        if !self.has(addr) {
            return None;
        }
        let behind = self.last - addr + MOST;
        // What `has` holds is in the block (B2), and so is its pointer.
        (len as u64 <= behind).then(|| self.zero.wrapping_add(addr as usize))
    }

    /// Copies bytes out, if all of them are in the window.
    #[inline]
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Option<()> {
        // SAFETY: `run` has checked the length; `out` cannot overlap guest RAM, of which no reference is made (B1).
        self.run(addr, out.len()).map(|p| unsafe { copy_out(p, out) })
    }
}

/// Whether a value of `size` bytes at an address moves by one instruction, where the byte of address 0 would be at `zero`.
#[inline(always)]
fn is_one(zero: *mut u8, addr: u64, size: u32) -> bool {
    ANY_ALIGNMENT || (zero as u64).wrapping_add(addr).is_multiple_of(size.into())
}

/// The memory that stores went to last, for the next one. The default holds no address.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Stores<'a> {
    start: u64,
    /// So many addresses from `start` on have [`MOST`] bytes from them on, and stores there are not noted: 0 if they are.
    plain: u64,
    /// The same, and stores there are noted; one of the two is 0.
    logged: u64,
    /// Where the byte at address 0 would be.
    zero: *mut u8,
    /// Made for these addresses, if stores are noted.
    notes: Notes<'a>,
    block: PhantomData<RamSpan<'a>>,
}

// SAFETY: as for `RamWindow`.
unsafe impl Send for Stores<'_> {}

impl Default for Stores<'_> {
    #[inline(always)]
    fn default() -> Self {
        let (zero, notes) = (std::ptr::null_mut(), Notes::default());
        Self { start: 0, plain: 0, logged: 0, zero, notes, block: PhantomData }
    }
}

impl<'a> Stores<'a> {
    /// The writable memory `span`, which stands at `start`.
    #[inline(always)]
    pub fn plain(start: u64, span: RamSpan<'a>) -> Self {
        let zero = span.ptr().as_ptr().wrapping_sub(start as usize);
        let plain = span.len().saturating_sub(MOST - 1);
        Self { start, plain, logged: 0, zero, notes: Notes::default(), block: PhantomData }
    }

    /// The same at `offset` of its block, writes to which are noted in `dirty` for the clients of `mask`; `None` if that is not as
    /// simple as a reader would have it.
    pub fn logged(
        start: u64,
        span: RamSpan<'a>,
        dirty: &'a BlockDirty,
        mask: u8,
        offset: u64,
    ) -> Option<Self> {
        let notes = dirty.notes(mask, offset, start, span.len())?;
        let Self { plain, .. } = Self::plain(start, span);
        Some(Self { plain: 0, logged: plain, notes, ..Self::plain(start, span) })
    }

    /// Stores a value in host order where that is not noted, under the conditions of [`RamWindow::load`].
    #[inline(always)]
    pub fn store<V: Value>(&self, addr: u64, value: V) -> Option<()> {
        if addr.wrapping_sub(self.start) >= self.plain || !is_one(self.zero, addr, V::SIZE) {
            unlikely();
            return None;
        }
        // SAFETY: as for `RamWindow::load`; the memory is writable.
        unsafe { store_at(self.zero, addr, V::SIZE, value.widen()) };
        Some(())
    }

    /// Stores a naturally aligned value in host order where that is noted, and says whether it is noted already, as it is most of
    /// the time. If not, the caller notes it.
    #[inline(always)]
    pub fn store_logged<V: Value>(&self, addr: u64, value: V) -> Option<bool> {
        // Pages of addresses are pages of memory, and so what is aligned here is so there.
        if addr.wrapping_sub(self.start) >= self.logged || !addr.is_multiple_of(V::SIZE.into()) {
            unlikely();
            return None;
        }
        // SAFETY: as for `store`; the notes are of the same addresses.
        unsafe {
            store_at(self.zero, addr, V::SIZE, value.widen());
            Some(self.notes.has(addr))
        }
    }

    /// Copies bytes in, and notes it where that is done, if all of them are in the memory.
    #[inline]
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Option<()> {
        let (count, offset) = (self.plain.max(self.logged), addr.wrapping_sub(self.start));
        if offset >= count || bytes.len() as u64 > count - offset + (MOST - 1) {
            return None;
        }
        // SAFETY: the length is checked; nobody has a reference to guest RAM (B1), and the memory is writable.
        unsafe { copy_in(bytes, self.zero.wrapping_add(addr as usize)) };
        if self.logged != 0 {
            self.notes.mark(addr, bytes.len() as u64);
        }
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
