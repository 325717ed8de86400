//! How callbacks are called with what is in registers.
//!
//! UNSAFE: this module calls callbacks through pointers without a type or a lifetime.
//!
//! What it is: for each type of callbacks functions that take apart what an access is, put it together for the type's own
//! callback, and answer in registers. They are made with the type, so that a small callback becomes part of them and nothing of the
//! access is ever written down. What it is not: a way around the rules: whoever calls these has seen that the access is one
//! callback as it is.
#![expect(
    unsafe_code,
    reason = "callbacks are kept without their type, in less room than a trait object takes"
)]

use std::ptr::NonNull;

use super::call::Way;
use super::{Access, MemTxAttrs, Reader};
use crate::thread::Here;
use crate::{MemTxError, MmioOps};

/// Reads at an address, of callbacks, at the offset in their region, so many bytes, on this thread; `None` if it failed, and the reader has the error, or if the
/// thread is in a callback or in an `update`: then nothing has happened, and the reader has no error. Bits above the size are
/// anything.
///
/// # Safety
/// The callbacks are of the type that this was made for, and there as long as the reader's own lane is held.
// What the first two are stays where it is from the caller of a reader on. To find out what the thread is in the middle of may be a
// call, before which all else would be put away: so it is found first.
pub type ReadCall = unsafe fn(&Reader, u64, NonNull<()>, u64, u32, &Here) -> Option<u64>;

/// Writes the lowest so many bytes of a value, which is the last; `false` where a [`ReadCall`] gives `None`.
///
/// # Safety
/// As for [`ReadCall`].
pub type WriteCall = unsafe fn(&Reader, u64, NonNull<()>, u64, u32, u64) -> bool;

/// The functions of one type of callbacks.
#[derive(Debug, Clone, Copy)]
pub struct DirectCalls {
    /// The value is in the device's order, and in the other.
    pub(super) read: [ReadCall; 2],
    pub(super) write: [WriteCall; 2],
}

/// What all callbacks have, whatever their type.
pub trait DirectOps {
    /// How they are called with what is in registers.
    #[doc(hidden)]
    fn direct_calls(&self) -> &'static DirectCalls;
}

impl<T: MmioOps> DirectOps for T {
    #[inline]
    fn direct_calls(&self) -> &'static DirectCalls {
        const {
            &DirectCalls {
                read: [read::<T, false>, read::<T, true>],
                write: [write::<T, false>, write::<T, true>],
            }
        }
    }
}

/// The lowest `size` bytes of a value, the other way round.
#[inline(always)]
fn swapped(value: u64, size: u32) -> u64 {
    value.swap_bytes() >> (64 - 8 * size)
}

/// Keeps the error of a callback for the caller of its reader.
#[cold]
#[inline(never)]
pub(super) fn fails_in(access: &Access<'_>, e: &MemTxError) {
    access.reader.failure.set(Some(access.failed(e)));
}

#[inline(always)]
fn access(reader: &Reader, address: u64, offset: u64, size: u32, write: bool) -> Access<'_> {
    let way: Option<&Way<'_>> = None;
    Access { reader, way, address, offset, attrs: MemTxAttrs::UNSPECIFIED, size: size as u8, write }
}

/// # Safety
/// See [`ReadCall`].
unsafe fn read<T: MmioOps, const SWAPPED: bool>(
    reader: &Reader,
    address: u64,
    ops: NonNull<()>,
    offset: u64,
    size: u32,
    here: &Here,
) -> Option<u64> {
    let Some(_running) = here.only_callback(reader.own_lane().as_held()) else {
        reader.failure.set(None);
        return None;
    };
    // SAFETY: the caller's promise; the lane is held from here on.
    let ops = unsafe { ops.cast::<T>().as_ref() };
    let access = access(reader, address, offset, size, false);
    match ops.read(&access) {
        Ok(value) => Some(if SWAPPED { swapped(value, size) } else { value }),
        Err(e) => {
            fails_in(&access, &e);
            None
        }
    }
}

/// The same of what is not one callback as it is: nothing has happened.
pub(super) fn no_read(reader: &Reader, _: u64, _: NonNull<()>, _: u64, _: u32, _: &Here) -> Option<u64> {
    reader.failure.set(None);
    None
}

/// # Safety
/// See [`WriteCall`].
unsafe fn write<T: MmioOps, const SWAPPED: bool>(
    reader: &Reader,
    address: u64,
    ops: NonNull<()>,
    offset: u64,
    size: u32,
    value: u64,
) -> bool {
    Here::with(
        #[inline(always)]
        |here| {
            let Some(_running) = here.only_callback(reader.own_lane().as_held()) else {
                reader.failure.set(None);
                return false;
            };
            // SAFETY: the caller's promise; the lane is held from here on.
            let ops = unsafe { ops.cast::<T>().as_ref() };
            let access = access(reader, address, offset, size, true);
            match ops.write(&access, if SWAPPED { swapped(value, size) } else { value }) {
                Ok(()) => true,
                Err(e) => {
                    fails_in(&access, &e);
                    false
                }
            }
        },
    )
}

/// As [`no_read`].
pub(super) fn no_write(reader: &Reader, _: u64, _: NonNull<()>, _: u64, _: u32, _: u64) -> bool {
    reader.failure.set(None);
    false
}
