//! Where a reader notes its stores to the memory that it hit last, and for whom.
//!
//! UNSAFE: this module reads a page's byte past the bounds check that was made for the whole run of addresses.
//!
//! What it is: the test of the bits that a logged store makes, which find it all set most of the time. What it is not: the
//! setting of them; that is the map's.
//!
//! What must hold: **L1** notes are made for a run of addresses whose pages the map has, all of them, and are asked about
//! no other.
#![expect(unsafe_code, reason = "the byte of a page is read without asking again whether the map has it")]

use std::marker::PhantomData;

use super::{DIRTY_PAGE_SIZE, DirtyMap, light};

/// Notes of one run of addresses. The default notes nothing, and has no address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notes<'a> {
    /// Where the byte of the page of addresses 0 would be.
    zero: *mut u8,
    mask: u8,
    /// From an address to its offset in the block.
    ahead: u64,
    map: Option<&'a DirtyMap>,
    lifetime: PhantomData<&'a DirtyMap>,
}

// SAFETY: a pointer into a map that is borrowed and may be shared, as the reference beside it.
unsafe impl Send for Notes<'_> {}

impl Default for Notes<'_> {
    #[inline(always)]
    fn default() -> Self {
        Self { zero: std::ptr::null_mut(), mask: 0, ahead: 0, map: None, lifetime: PhantomData }
    }
}

impl<'a> Notes<'a> {
    /// For `len` bytes at `offset` of the block, which stand at the address `start`; `None` if the map does not have all of
    /// their pages, or an address is at another place in its page than the byte in the block's.
    pub(super) fn new(map: &'a DirtyMap, mask: u8, offset: u64, start: u64, len: u64) -> Option<Self> {
        let last = offset.checked_add(len.checked_sub(1)?)?;
        if last / DIRTY_PAGE_SIZE >= map.pages || !(offset ^ start).is_multiple_of(DIRTY_PAGE_SIZE) {
            return None;
        }
        let pages = (offset / DIRTY_PAGE_SIZE).wrapping_sub(start / DIRTY_PAGE_SIZE);
        let zero = map.bytes().wrapping_add(pages as usize);
        Some(Self { zero, mask, ahead: offset.wrapping_sub(start), map: Some(map), lifetime: PhantomData })
    }

    /// Whether it is noted already that an aligned value of up to eight bytes at `addr`, which was just written, was written.
    ///
    /// # Safety
    /// The notes were made for a run of addresses in which `addr` is (L1).
    #[inline(always)]
    pub unsafe fn has(&self, addr: u64) -> bool {
        // D1: the data is written before the bits are looked at.
        light();
        // SAFETY: the caller's promise.
        self.mask & !unsafe { self.bits(addr) } == 0
    }

    /// The bits of the page at `addr`, as they are now.
    ///
    /// # Safety
    /// As for [`has`](Self::has).
    #[inline(always)]
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri, flatview_tsan))))]
    unsafe fn bits(&self, addr: u64) -> u8 {
        // SAFETY: L1: the map, which is borrowed, has the page, and its words a byte for it. One byte of a word that others
        // change in one piece is, on this processor, as it was before or after.
        unsafe { crate::ram::bytes::load_at(self.zero, addr / DIRTY_PAGE_SIZE, 1) as u8 }
    }

    /// The same for whoever does not know what the processor knows.
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri, flatview_tsan)))))]
    unsafe fn bits(&self, addr: u64) -> u8 {
        self.map.map_or(0, |map| map.bits(addr.wrapping_add(self.ahead) / DIRTY_PAGE_SIZE))
    }

    /// Notes that `len` bytes at `addr` were just written.
    pub fn mark(&self, addr: u64, len: u64) {
        if let Some(map) = self.map {
            map.mark(self.mask, addr.wrapping_add(self.ahead), len);
        }
    }
}
