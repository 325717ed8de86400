//! A caller's own memory as guest RAM.
//!
//! UNSAFE: this module promises, for two types of the standard library, what a buffer must promise.
#![expect(unsafe_code, reason = "the promise of HostBuffer is an unsafe trait")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

/// A buffer of the caller's that can be guest RAM.
///
/// # Safety
/// While the value lives, `ptr()..ptr() + len()` is one run of readable and writable bytes that does not move,
/// also when the value itself is moved, and to which nobody has a plain reference.
pub unsafe trait HostBuffer: Send + Sync + 'static {
    /// The first byte.
    fn ptr(&self) -> NonNull<u8>;
    /// The number of bytes.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! atomic_buffers {
    ($($t:ty),*) => {$(
        // SAFETY: a heap slice of atomics does not move with its owner, and shared atomics may be written through.
        unsafe impl HostBuffer for $t {
            fn ptr(&self) -> NonNull<u8> {
                NonNull::from(&**self).cast()
            }
            fn len(&self) -> usize {
                <[AtomicU8]>::len(self)
            }
        }
    )*};
}

atomic_buffers!(Box<[AtomicU8]>, Arc<[AtomicU8]>);
