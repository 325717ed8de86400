//! The limit: a pointer into the same memory.
//!
//! UNSAFE: this module dereferences pointers into RAM blocks.
//!
//! What must hold: a [`RawRam`] has the guard that keeps its bytes mapped, and checks nothing else; callers stay
//! inside, as a program would that knows its memory.
#![expect(unsafe_code, reason = "the raw pointer is what Flatview is measured against")]

use flatview::HostPtr;

use crate::{at_four_places, place};

/// Bytes of a RAM block, accessed without any check.
#[derive(Debug, Clone)]
pub struct RawRam {
    guard: HostPtr,
    base: *mut u8,
}

// SAFETY: the bytes are shared memory that the guard keeps; all access is volatile or a raw copy.
unsafe impl Send for RawRam {}
// SAFETY: as for Send.
unsafe impl Sync for RawRam {}

/// An offset as a program has it that is given one: in a register. How it was made is no part of a load, but the compiler would
/// leave the last step of that, a multiplication by eight, to the load of a pointer, which Flatview is given the result of.
#[inline(always)]
fn as_given(offset: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut same = offset;
        // SAFETY: no instruction at all, so nothing is touched and `same` stays what it is.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) same, options(pure, nomem, nostack, preserves_flags));
        }
        same
    }
    #[cfg(not(target_arch = "x86_64"))]
    offset
}

impl RawRam {
    /// The bytes behind a guard.
    #[must_use]
    pub fn new(guard: HostPtr) -> Self {
        Self { base: guard.as_ptr(), guard }
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.guard.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guard.is_empty()
    }

    /// The first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.base
    }

    /// A volatile load of eight bytes.
    ///
    /// # Safety
    /// `offset + 8` is at most [`len`](Self::len); `offset` is a multiple of 8.
    #[inline]
    #[must_use]
    pub unsafe fn load(&self, offset: u64) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { self.base.add(offset as usize).cast::<u64>().read_volatile() }
    }

    /// A volatile store of eight bytes.
    ///
    /// # Safety
    /// As for [`load`](Self::load).
    #[inline]
    pub unsafe fn store(&self, offset: u64, value: u64) {
        // SAFETY: the caller's promise.
        unsafe { self.base.add(offset as usize).cast::<u64>().write_volatile(value) }
    }

    /// `memcpy` out of the memory.
    ///
    /// # Safety
    /// `offset + out.len()` is at most [`len`](Self::len).
    #[inline]
    pub unsafe fn read(&self, offset: u64, out: &mut [u8]) {
        // SAFETY: the caller's promise; nobody has a reference to guest RAM, so `out` does not overlap it.
        unsafe { std::ptr::copy_nonoverlapping(self.base.add(offset as usize), out.as_mut_ptr(), out.len()) };
    }

    /// `memcpy` into the memory.
    ///
    /// # Safety
    /// `offset + bytes.len()` is at most [`len`](Self::len).
    #[inline]
    pub unsafe fn write(&self, offset: u64, bytes: &[u8]) {
        // SAFETY: as for `read`.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(offset as usize), bytes.len());
        };
    }

    // Loops. They stand here so that the promises above are kept in one place: every offset is taken below `span`.

    /// Loads from eight places of one cache line, in turn.
    pub fn load_same(&self, ops: u64) -> u64 {
        #[inline(never)]
        fn at<const PLACE: u32>(raw: &RawRam, ops: u64) -> u64 {
            let mut sum = 0_u64;
            place!(PLACE);
            for i in 0..ops {
                // SAFETY: below 64 bytes, and every block has a page.
                sum = sum.wrapping_add(unsafe { raw.load((i & 7) * 8) });
            }
            sum
        }
        at_four_places!(ops, at, self)
    }

    /// Stores to eight places of one cache line, in turn.
    pub fn store_same(&self, ops: u64) -> u64 {
        #[inline(never)]
        fn at<const PLACE: u32>(raw: &RawRam, ops: u64) -> u64 {
            place!(PLACE);
            for i in 0..ops {
                // SAFETY: below 64 bytes, and every block has a page.
                unsafe { raw.store((i & 7) * 8, i) };
            }
            ops
        }
        at_four_places!(ops, at, self)
    }

    /// Loads from random places of the first `words` words.
    pub fn load_random(&self, ops: u64, seed: u64, words: u64) -> u64 {
        #[inline(never)]
        fn at<const PLACE: u32>(raw: &RawRam, seed: u64, words: u64, ops: u64) -> u64 {
            let mut dice = crate::measure::Dice::new(seed ^ u64::from(PLACE));
            let mut sum = 0_u64;
            place!(PLACE);
            for _ in 0..ops {
                let offset = as_given(dice.below(words) * 8);
                // SAFETY: `as_given` gives what it gets: a word below `words`, which are inside.
                sum = sum.wrapping_add(unsafe { raw.load(offset) });
            }
            sum
        }
        let words = words.min(self.len() / 8);
        at_four_places!(ops, at, self, seed, words)
    }

    /// Stores to random places of the first `words` words.
    #[inline(never)]
    pub fn store_random(&self, ops: u64, seed: u64, words: u64) -> u64 {
        let words = words.min(self.len() / 8);
        let mut dice = crate::measure::Dice::new(seed);
        for i in 0..ops {
            // SAFETY: below `words`, which are inside.
            unsafe { self.store(dice.below(words) * 8, i) };
        }
        ops
    }

    /// Copies out `ops` times from `offset`; nothing if that is not inside.
    #[inline(never)]
    pub fn copy_out(&self, ops: u64, offset: u64, out: &mut [u8]) -> u64 {
        if offset + out.len() as u64 > self.len() {
            return 0;
        }
        let mut sum = 0;
        for _ in 0..ops {
            let offset = std::hint::black_box(offset);
            // SAFETY: checked above.
            unsafe { self.read(offset, out) };
            sum += u64::from(std::hint::black_box(&*out).last().copied().unwrap_or(0));
        }
        sum
    }

    /// Copies in `ops` times to `offset`; nothing if that is not inside.
    #[inline(never)]
    pub fn copy_in(&self, ops: u64, offset: u64, bytes: &[u8]) -> u64 {
        if offset + bytes.len() as u64 > self.len() {
            return 0;
        }
        for _ in 0..ops {
            let offset = std::hint::black_box(offset);
            // SAFETY: checked above.
            unsafe { self.write(offset, std::hint::black_box(bytes)) };
        }
        ops
    }
}
