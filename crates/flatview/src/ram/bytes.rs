//! Loads, stores and copies on guest RAM.
//!
//! UNSAFE: this module dereferences pointers into RAM blocks.
//!
//! What must hold is B1 and B2 of [`ram`](super). Host code never holds a reference to guest bytes; a value of up
//! to eight naturally aligned bytes moves as one instruction or relaxed atomic, everything else in one instruction
//! where the host has it, byte by byte, or by a raw copy, so that a racing guest can produce torn data but never
//! undefined behaviour of ours to reason about.
#![expect(unsafe_code, reason = "guest RAM is reached through raw pointers, here only")]

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
#[cfg(not(all(target_arch = "x86_64", not(miri), not(flatview_tsan))))]
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use super::RamBlock;
use crate::Value;

/// A run of bytes of a block that is borrowed as long (B2).
#[derive(Clone, Copy)]
pub(crate) struct RamSpan<'a> {
    ptr: NonNull<u8>,
    len: u64,
    block: PhantomData<&'a RamBlock>,
}

// SAFETY: B2: the pointer is into the block that the span borrows, and B1: all access to it is atomic or a raw copy
// that tolerates concurrent writers.
unsafe impl Send for RamSpan<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for RamSpan<'_> {}

impl std::fmt::Debug for RamSpan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RamSpan({:#x} bytes)", self.len)
    }
}

impl<'a> RamSpan<'a> {
    /// `len` bytes of `block` from `offset` on; `None` if they are not all inside it.
    pub(super) fn new(block: &'a RamBlock, offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len)?;
        if end > block.mapped_len() {
            return None;
        }
        // SAFETY: B1: offset <= end <= the length of the block's mapping, so the result is inside it (or one past).
        let ptr = unsafe { block.base().add(usize::try_from(offset).ok()?) };
        Some(Self { ptr, len, block: PhantomData })
    }

    /// The span at `ptr`.
    ///
    /// # Safety
    /// `ptr` and the `len` bytes behind it are in a block that lives as long as `'a` (B2).
    pub(super) const unsafe fn at_pointer(ptr: NonNull<u8>, len: u64) -> Self {
        Self { ptr, len, block: PhantomData }
    }

    #[inline]
    pub fn ptr(self) -> NonNull<u8> {
        self.ptr
    }

    #[inline]
    pub fn len(self) -> u64 {
        self.len
    }

    /// `len` of these bytes, from `offset` on.
    #[inline]
    pub fn sub(&self, offset: u64, len: u64) -> Option<Self> {
        Some(Self { ptr: NonNull::new(self.at(offset, len)?)?, len, block: PhantomData })
    }

    /// The pointer to `size` bytes at `offset`, if they are inside.
    #[inline]
    pub(super) fn at(&self, offset: u64, size: u64) -> Option<*mut u8> {
        if offset > self.len || self.len - offset < size {
            return None;
        }
        // SAFETY: B2: offset <= len, and the span lies inside its block's mapping.
        Some(unsafe { self.ptr.as_ptr().add(offset as usize) })
    }

    /// The value at `offset` in host order, or `None` if it is not wholly inside.
    #[inline]
    pub fn load<V: Value>(&self, offset: u64) -> Option<V> {
        let p = self.at(offset, u64::from(V::SIZE))?;
        // SAFETY: `at` checked that V::SIZE bytes from `p` are inside the mapping (B1, B2).
        Some(V::narrow(unsafe { load_raw(p, V::SIZE) }))
    }

    /// Stores `v` in host order; `None` if it is not wholly inside.
    #[inline]
    pub fn store<V: Value>(&self, offset: u64, v: V) -> Option<()> {
        let p = self.at(offset, u64::from(V::SIZE))?;
        // SAFETY: as for `load`; a span is only stored to when its block is writable, which callers check.
        unsafe { store_raw(p, V::SIZE, v.widen()) };
        Some(())
    }

    /// The first `size` (1, 2, 4 or 8) bytes as a value in host order, by one volatile access where they are aligned:
    /// for memory whose accesses a device sees.
    pub fn load_device(&self, size: u32) -> Option<u64> {
        let p = self.at(0, u64::from(size))?;
        // SAFETY: `at` checked that the bytes are inside the mapping (B1, B2), and each arm that the pointer is aligned.
        unsafe {
            Some(match size {
                1 => u64::from(p.read_volatile()),
                2 if p.cast::<u16>().is_aligned() => u64::from(p.cast::<u16>().read_volatile()),
                4 if p.cast::<u32>().is_aligned() => u64::from(p.cast::<u32>().read_volatile()),
                8 if p.cast::<u64>().is_aligned() => p.cast::<u64>().read_volatile(),
                2 | 4 | 8 => load_raw(p, size),
                _ => return None,
            })
        }
    }

    /// Stores the low `size` (1, 2, 4 or 8) bytes of `v` in host order, as [`load_device`](Self::load_device) loads them.
    /// To be called for writable blocks only.
    pub fn store_device(&self, size: u32, v: u64) -> Option<()> {
        let p = self.at(0, u64::from(size))?;
        // SAFETY: as for `load_device`; the caller knows that the block is writable.
        unsafe {
            match size {
                1 => p.write_volatile(v as u8),
                2 if p.cast::<u16>().is_aligned() => p.cast::<u16>().write_volatile(v as u16),
                4 if p.cast::<u32>().is_aligned() => p.cast::<u32>().write_volatile(v as u32),
                8 if p.cast::<u64>().is_aligned() => p.cast::<u64>().write_volatile(v),
                2 | 4 | 8 => store_raw(p, size, v),
                _ => return None,
            }
        }
        Some(())
    }

    /// Copies `out.len()` bytes from `offset`; `None` if they are not all inside.
    #[inline]
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Option<()> {
        let p = self.at(offset, out.len() as u64)?;
        // SAFETY: `at` checked the length; `out` is ours alone and cannot overlap guest RAM, of which no reference is
        // ever made (B1).
        unsafe { copy_out(p, out) };
        Some(())
    }

    /// Copies `bytes` to `offset`; `None` if they are not all inside.
    #[inline]
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Option<()> {
        let p = self.at(offset, bytes.len() as u64)?;
        // SAFETY: as for `read`.
        unsafe { copy_in(bytes, p) };
        Some(())
    }
}

impl RamSpan<'_> {
    /// Copies `len` bytes from `offset` to `to_offset` of another span, or of this one: where the two overlap, as if all
    /// were read before any is written. `None` if they are not all inside. One naturally aligned value of up to eight
    /// bytes moves in one piece.
    ///
    /// To be called for writable targets only.
    pub fn copy_to(&self, offset: u64, to: RamSpan<'_>, to_offset: u64, len: u64) -> Option<()> {
        let (from, to) = (self.at(offset, len)?, to.at(to_offset, len)?);
        match len {
            1 | 2 | 4 | 8 if (from as u64 | to as u64).is_multiple_of(len) => {
                // SAFETY: `at` checked the lengths (B1, B2), and the caller knows that the target is writable.
                unsafe { store_raw(to, len as u32, load_raw(from, len as u32)) };
            }
            // SAFETY: as above.
            _ => unsafe { move_raw(from, to, usize::try_from(len).ok()?) },
        }
        Some(())
    }
}

/// Copies guest bytes out; one naturally aligned value of up to eight bytes in one piece.
///
/// # Safety
/// As for [`copy_raw`], with `from` in guest RAM.
#[inline]
pub(super) unsafe fn copy_out(from: *mut u8, out: &mut [u8]) {
    match out.len() {
        // Asked first: what is long need not be told from four sizes.
        // SAFETY: the caller's.
        n if n > 8 => unsafe { copy_raw(from, out.as_mut_ptr(), n) },
        n @ (1 | 2 | 4 | 8) if (from as usize).is_multiple_of(n) => {
            // SAFETY: the caller's.
            let v = unsafe { load_raw(from, n as u32) };
            if let Some(bytes) = v.to_ne_bytes().get(host_low(n)) {
                out.copy_from_slice(bytes);
            }
        }
        // SAFETY: the caller's.
        n => unsafe { copy_raw(from, out.as_mut_ptr(), n) },
    }
}

/// Copies bytes into guest RAM; one naturally aligned value of up to eight bytes in one piece.
///
/// # Safety
/// As for [`copy_raw`], with `to` in guest RAM that is writable.
#[inline]
pub(super) unsafe fn copy_in(bytes: &[u8], to: *mut u8) {
    match bytes.len() {
        n @ (1 | 2 | 4 | 8) if (to as usize).is_multiple_of(n) => {
            let mut v = [0; 8];
            if let Some(low) = v.get_mut(host_low(n)) {
                low.copy_from_slice(bytes);
            }
            // SAFETY: the caller's.
            unsafe { store_raw(to, n as u32, u64::from_ne_bytes(v)) };
        }
        // SAFETY: the caller's.
        n => unsafe { copy_raw(bytes.as_ptr(), to, n) },
    }
}

/// Where the low `n` bytes of a native `u64` stand.
const fn host_low(n: usize) -> std::ops::Range<usize> {
    if cfg!(target_endian = "little") { 0..n } else { 8 - n..8 }
}

/// Whether a value that is not naturally aligned moves by one instruction too. Rust's atomics are for aligned values only,
/// and its plain accesses not for memory that a guest changes meanwhile, so that takes the instruction itself. Miri and
/// ThreadSanitizer look into atomics and not into instructions.
pub(super) const ANY_ALIGNMENT: bool = cfg!(all(target_arch = "x86_64", not(miri), not(flatview_tsan)));

/// The value in host order; a naturally aligned one is never torn.
///
/// # Safety
/// `p` points to `size` (1, 2, 4 or 8) bytes that stay mapped; nobody has a reference to them.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri), not(flatview_tsan)))]
pub(super) unsafe fn load_raw(p: *mut u8, size: u32) -> u64 {
    use std::arch::asm;
    let v: u64;
    macro_rules! load {
        ($how:literal) => {
            asm!($how, p = in(reg) p, v = lateout(reg) v, options(nostack, preserves_flags, readonly))
        };
    }
    // SAFETY: each is one load of `size` bytes at `p`, which the caller promises; x86 loads at any alignment.
    unsafe {
        match size {
            1 => load!("movzx {v:e}, byte ptr [{p}]"),
            2 => load!("movzx {v:e}, word ptr [{p}]"),
            4 => load!("mov {v:e}, dword ptr [{p}]"),
            8 => load!("mov {v}, qword ptr [{p}]"),
            _ => v = load_bytes(p, size),
        };
    }
    v
}

/// The value in host order; a naturally aligned one is never torn.
///
/// # Safety
/// `p` points to `size` (1, 2, 4 or 8) bytes that stay mapped; nobody has a reference to them.
#[inline]
#[cfg(not(all(target_arch = "x86_64", not(miri), not(flatview_tsan))))]
pub(super) unsafe fn load_raw(p: *mut u8, size: u32) -> u64 {
    let aligned = (p as usize) & (size as usize - 1) == 0;
    // SAFETY: the caller promises the bytes; the atomics are aligned where used and shared access is theirs to have.
    unsafe {
        match size {
            1 => u64::from(AtomicU8::from_ptr(p).load(Relaxed)),
            2 if aligned => u64::from(AtomicU16::from_ptr(p.cast()).load(Relaxed)),
            4 if aligned => u64::from(AtomicU32::from_ptr(p.cast()).load(Relaxed)),
            8 if aligned => AtomicU64::from_ptr(p.cast()).load(Relaxed),
            _ => load_bytes(p, size),
        }
    }
}

/// # Safety
/// As for [`load_raw`].
#[cold]
unsafe fn load_bytes(p: *mut u8, size: u32) -> u64 {
    let mut v = [0; 8];
    let low = host_low(size as usize);
    for (i, byte) in v.iter_mut().skip(low.start).take(size as usize).enumerate() {
        // SAFETY: i < size; the caller promises the bytes.
        *byte = unsafe { AtomicU8::from_ptr(p.add(i)).load(Relaxed) };
    }
    u64::from_ne_bytes(v)
}

/// # Safety
/// As for [`load_raw`], and the bytes are writable.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri), not(flatview_tsan)))]
pub(super) unsafe fn store_raw(p: *mut u8, size: u32, v: u64) {
    use std::arch::asm;
    macro_rules! store {
        ($how:literal) => {
            asm!($how, p = in(reg) p, v = in(reg) v, options(nostack, preserves_flags))
        };
    }
    // SAFETY: each is one store of `size` bytes at `p`, which the caller promises; x86 stores at any alignment.
    unsafe {
        match size {
            1 => store!("mov byte ptr [{p}], {v:l}"),
            2 => store!("mov word ptr [{p}], {v:x}"),
            4 => store!("mov dword ptr [{p}], {v:e}"),
            8 => store!("mov qword ptr [{p}], {v}"),
            _ => store_bytes(p, size, v),
        };
    }
}

/// # Safety
/// As for [`load_raw`], and the bytes are writable.
#[inline]
#[cfg(not(all(target_arch = "x86_64", not(miri), not(flatview_tsan))))]
pub(super) unsafe fn store_raw(p: *mut u8, size: u32, v: u64) {
    let aligned = (p as usize) & (size as usize - 1) == 0;
    // SAFETY: as for `load_raw`.
    unsafe {
        match size {
            1 => AtomicU8::from_ptr(p).store(v as u8, Relaxed),
            2 if aligned => AtomicU16::from_ptr(p.cast()).store(v as u16, Relaxed),
            4 if aligned => AtomicU32::from_ptr(p.cast()).store(v as u32, Relaxed),
            8 if aligned => AtomicU64::from_ptr(p.cast()).store(v, Relaxed),
            _ => store_bytes(p, size, v),
        }
    }
}

/// # Safety
/// As for [`store_raw`].
#[cold]
unsafe fn store_bytes(p: *mut u8, size: u32, v: u64) {
    let bytes = v.to_ne_bytes();
    for (i, byte) in bytes.iter().skip(host_low(size as usize).start).take(size as usize).enumerate() {
        // SAFETY: i < size; the caller promises the bytes.
        unsafe { AtomicU8::from_ptr(p.add(i)).store(*byte, Relaxed) };
    }
}

/// As [`load_raw`], `index` bytes from `base` on: where the host can, its one instruction adds them too.
///
/// # Safety
/// As for [`load_raw`], of that place; `base` is of the same memory, wherever it points.
#[inline(always)]
pub(super) unsafe fn load_at(base: *mut u8, index: u64, size: u32) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri), not(flatview_tsan)))]
    {
        use std::arch::asm;
        let v: u64;
        macro_rules! load {
            ($how:literal) => {
                asm!($how, p = in(reg) base, i = in(reg) index, v = lateout(reg) v, options(nostack, preserves_flags, readonly))
            };
        }
        // SAFETY: each is one load of `size` bytes there, which the caller promises; x86 loads at any alignment.
        unsafe {
            match size {
                1 => load!("movzx {v:e}, byte ptr [{p} + {i}]"),
                2 => load!("movzx {v:e}, word ptr [{p} + {i}]"),
                4 => load!("mov {v:e}, dword ptr [{p} + {i}]"),
                8 => load!("mov {v}, qword ptr [{p} + {i}]"),
                _ => v = load_bytes(base.wrapping_add(index as usize), size),
            };
        }
        v
    }
    // SAFETY: the caller's.
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(flatview_tsan))))]
    unsafe {
        load_raw(base.wrapping_add(index as usize), size)
    }
}

/// As [`store_raw`], in the same way.
///
/// # Safety
/// As for [`load_at`], and the bytes are writable.
#[inline(always)]
pub(super) unsafe fn store_at(base: *mut u8, index: u64, size: u32, v: u64) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(flatview_tsan)))]
    {
        use std::arch::asm;
        macro_rules! store {
            ($how:literal) => {
                asm!($how, p = in(reg) base, i = in(reg) index, v = in(reg) v, options(nostack, preserves_flags))
            };
        }
        // SAFETY: each is one store of `size` bytes there, which the caller promises; x86 stores at any alignment.
        unsafe {
            match size {
                1 => store!("mov byte ptr [{p} + {i}], {v:l}"),
                2 => store!("mov word ptr [{p} + {i}], {v:x}"),
                4 => store!("mov dword ptr [{p} + {i}], {v:e}"),
                8 => store!("mov qword ptr [{p} + {i}], {v}"),
                _ => store_bytes(base.wrapping_add(index as usize), size, v),
            };
        }
    }
    // SAFETY: the caller's.
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(flatview_tsan))))]
    unsafe {
        store_raw(base.wrapping_add(index as usize), size, v);
    }
}

/// The same address, of which the compiler does not know how it was computed.
#[inline(always)]
pub(crate) fn opaque(addr: u64) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut same = addr;
        // SAFETY: no instruction at all.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) same, options(pure, nomem, nostack, preserves_flags));
        }
        same
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    addr
}

/// The one copy between guest and host memory.
///
/// # Safety
/// Both runs of `len` bytes are mapped and do not overlap; one of them is guest RAM, to which nobody has a reference.
unsafe fn copy_raw(from: *const u8, to: *mut u8, len: usize) {
    if cfg!(flatview_tsan) {
        // ThreadSanitizer knows nothing of guests that race with themselves: show it atomics.
        for i in 0..len {
            // SAFETY: i < len; see the function's contract.
            unsafe {
                let byte = AtomicU8::from_ptr(from.add(i).cast_mut()).load(Relaxed);
                AtomicU8::from_ptr(to.add(i)).store(byte, Relaxed);
            }
        }
    } else {
        // SAFETY: the function's contract.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
    }
}

/// The one copy from guest to guest memory.
///
/// # Safety
/// Both runs of `len` bytes are guest RAM that is mapped and to which nobody has a reference; they may overlap.
unsafe fn move_raw(from: *const u8, to: *mut u8, len: usize) {
    if cfg!(flatview_tsan) {
        let one = |i: usize| {
            // SAFETY: i < len; see the function's contract.
            unsafe {
                let byte = AtomicU8::from_ptr(from.add(i).cast_mut()).load(Relaxed);
                AtomicU8::from_ptr(to.add(i)).store(byte, Relaxed);
            }
        };
        // What is read last must not be written first.
        if (to.cast_const()) <= from { (0..len).for_each(one) } else { (0..len).rev().for_each(one) }
    } else {
        // SAFETY: the function's contract.
        unsafe { std::ptr::copy(from, to, len) };
    }
}

/// Keeps the compiler from making one of what is asked of a value before and after.
#[inline(always)]
pub(super) fn apart(value: u64) {
    // SAFETY: no instruction at all.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) value, options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_copies_read_everything_first() {
        let block = RamBlock::anonymous("t", 4096).unwrap();
        let s = block.span(0, 4096).unwrap();
        for (from, to, len) in
            [(0, 3, 40), (3, 0, 40), (8, 8, 8), (8, 12, 8), (1, 2, 1), (16, 20, 4), (0, 0, 0)]
        {
            let mut model: Vec<u8> = (0..100).collect();
            s.write(0, &model).unwrap();
            s.copy_to(from, s, to, len).unwrap();
            model.copy_within(from as usize..(from + len) as usize, to as usize);
            let mut out = [0; 100];
            s.read(0, &mut out).unwrap();
            assert_eq!(out[..], model, "{from} to {to}, {len}");
        }
        assert_eq!(s.copy_to(4000, s, 0, 97), None);
        assert_eq!(s.copy_to(0, s, 4000, 97), None);
        assert_eq!(s.copy_to(u64::MAX, s, 0, 2), None);
    }

    #[test]
    fn values_move_at_every_alignment_and_never_past_the_end() {
        let block = RamBlock::anonymous("t", 64).unwrap();
        let s = block.span(0, 64).unwrap();
        for offset in 0..56 {
            s.store(offset, 0x0102_0304_0506_0708_u64).unwrap();
            assert_eq!(s.load::<u64>(offset), Some(0x0102_0304_0506_0708));
            assert_eq!(
                s.load::<u32>(offset),
                Some(if cfg!(target_endian = "little") { 0x0506_0708 } else { 0x0102_0304 })
            );
        }
        assert_eq!(s.load::<u64>(57), None);
        assert_eq!(s.load::<u8>(63), Some(0));
        assert_eq!(s.load::<u8>(64), None);
        assert_eq!(s.load::<u8>(u64::MAX), None);
        assert_eq!(s.store(63, 1_u16), None);
    }

    #[test]
    fn copies_of_every_length_match() {
        let block = RamBlock::anonymous("t", 4096).unwrap();
        let s = block.span(0, 4096).unwrap();
        let data: Vec<u8> = (0..300).map(|i| i as u8).collect();
        for len in [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 255, 300] {
            for offset in [0, 1, 2, 3, 4, 9] {
                s.write(offset, &data[..len]).unwrap();
                let mut out = vec![0xee; len];
                s.read(offset, &mut out).unwrap();
                assert_eq!(out, data[..len]);
            }
        }
        assert_eq!(s.read(4000, &mut [0; 97]), None);
    }
}
