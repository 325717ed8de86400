//! Byte order, as types and as values.
//!
//! What it is: the two orders, the order a *device* declares, and the integer types an exact access moves.
//! What it is not: a conversion layer for buffers; the bus moves bytes and has no order.
//! What must hold: no access in this crate has an implicit order. `load::<Be, u32>` says it, a device's
//! [`AccessRules`](crate::AccessRules) says it, and [`DeviceEndian::Native`] means what the board set on its
//! [`Memory`](crate::Memory) once.

use std::fmt;

/// The order in which the bytes of an integer stand in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endianness {
    /// Least significant byte at the lowest address.
    Little,
    /// Most significant byte at the lowest address.
    Big,
}

/// The order a device reads its bytes in (QEMU: `DEVICE_NATIVE_ENDIAN`, `…_LITTLE_…`, `…_BIG_…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceEndian {
    /// The order of the target, given to [`Memory::new`](crate::Memory::new).
    #[default]
    Native,
    /// Little-endian whatever the target is.
    Little,
    /// Big-endian whatever the target is.
    Big,
}

impl DeviceEndian {
    /// The order this resolves to on a target of order `target`.
    #[must_use]
    pub const fn resolve(self, target: Endianness) -> Endianness {
        match self {
            Self::Native => target,
            Self::Little => Endianness::Little,
            Self::Big => Endianness::Big,
        }
    }
}

impl fmt::Display for Endianness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Little => "little",
            Self::Big => "big",
        })
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A byte order as a type: [`Le`] or [`Be`].
pub trait ByteOrder: sealed::Sealed {
    /// The same as a value.
    const ORDER: Endianness;
}

/// Little-endian, as a type.
#[derive(Debug, Clone, Copy)]
pub enum Le {}

/// Big-endian, as a type.
#[derive(Debug, Clone, Copy)]
pub enum Be {}

impl sealed::Sealed for Le {}
impl sealed::Sealed for Be {}

impl ByteOrder for Le {
    const ORDER: Endianness = Endianness::Little;
}

impl ByteOrder for Be {
    const ORDER: Endianness = Endianness::Big;
}

/// An integer that one exact access moves: `u8`, `u16`, `u32` or `u64`.
pub trait Value: sealed::Sealed + Copy + Send + Sync + fmt::Debug + PartialEq + 'static {
    /// Its size in bytes: 1, 2, 4 or 8.
    const SIZE: u32;
    /// The value, zero-extended.
    fn widen(self) -> u64;
    /// The low [`SIZE`](Self::SIZE) bytes of `v`.
    fn narrow(v: u64) -> Self;
}

macro_rules! values {
    ($($t:ty),*) => {$(
        impl sealed::Sealed for $t {}
        impl Value for $t {
            const SIZE: u32 = size_of::<$t>() as u32;
            #[inline]
            fn widen(self) -> u64 {
                u64::from(self)
            }
            #[inline]
            fn narrow(v: u64) -> Self {
                v as Self
            }
        }
    )*};
}

values!(u8, u16, u32, u64);

/// The low `size` bytes of `v` in the opposite order; `size` is 1, 2, 4 or 8.
#[inline]
pub(crate) const fn swap_bytes(v: u64, size: u32) -> u64 {
    v.swap_bytes() >> (64 - 8 * (size & 15))
}

/// Converts a value of `size` bytes between `from` and `to`.
#[inline]
pub(crate) fn reorder(v: u64, size: u32, from: Endianness, to: Endianness) -> u64 {
    if from == to { v } else { swap_bytes(v, size) }
}

/// The mask of the low `size` bytes (`size` 1 to 8).
#[inline]
pub(crate) const fn low_mask(size: u32) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 }
}

/// Reads up to eight bytes in `order`.
#[inline]
pub(crate) fn value_of(bytes: &[u8], order: Endianness) -> u64 {
    let fold = |acc: u64, byte: &u8| (acc << 8) | u64::from(*byte);
    match order {
        Endianness::Little => bytes.iter().rev().fold(0, fold),
        Endianness::Big => bytes.iter().fold(0, fold),
    }
}

/// Writes the low `out.len()` bytes of `v` in `order`.
#[inline]
pub(crate) fn put_value(mut v: u64, order: Endianness, out: &mut [u8]) {
    let mut put = |byte: &mut u8| {
        *byte = v as u8;
        v >>= 8;
    };
    match order {
        Endianness::Little => out.iter_mut().for_each(&mut put),
        Endianness::Big => out.iter_mut().rev().for_each(&mut put),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapping_touches_only_the_bytes_of_the_size() {
        assert_eq!(swap_bytes(0x12, 1), 0x12);
        assert_eq!(swap_bytes(0x1234, 2), 0x3412);
        assert_eq!(swap_bytes(0x1234_5678, 4), 0x7856_3412);
        assert_eq!(swap_bytes(0x0102_0304_0506_0708, 8), 0x0807_0605_0403_0201);
    }

    #[test]
    fn bytes_and_values_agree_in_both_orders() {
        let bytes = [1, 2, 3, 4];
        assert_eq!(value_of(&bytes, Endianness::Little), 0x0403_0201);
        assert_eq!(value_of(&bytes, Endianness::Big), 0x0102_0304);
        for order in [Endianness::Little, Endianness::Big] {
            let mut out = [0; 4];
            put_value(value_of(&bytes, order), order, &mut out);
            assert_eq!(out, bytes);
        }
    }
}
