//! Reading and writing guest RAM in one step.
//!
//! UNSAFE: this module dereferences pointers into RAM blocks.
//!
//! What it is: the atomic read-modify-write accesses of the host on naturally aligned values of a [`RamSpan`], all
//! sequentially consistent. What it is not: the guest's byte order, or who may write; callers know both. What must hold
//! is B1 and B2 of [`ram`](super), and that every other access to such a value is an atomic of the same bytes or a copy
//! that may tear.
#![expect(unsafe_code, reason = "guest RAM is reached through raw pointers")]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use super::RamSpan;
use crate::Value;

/// What becomes of a value, given the operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rmw {
    Swap,
    Add,
    And,
    Or,
    Xor,
}

/// Runs `$body` with `$atomic` as the atomic of `$size` bytes at `$p`, and `$int` as its integer, if `$p` is aligned to it.
macro_rules! on_atomic {
    ($size:expr, $p:expr, |$atomic:ident: $int:ident| $body:expr) => {
        match $size {
            1 => on_atomic!(@ AtomicU8, u8, $p, $atomic, $int, $body),
            2 => on_atomic!(@ AtomicU16, u16, $p, $atomic, $int, $body),
            4 => on_atomic!(@ AtomicU32, u32, $p, $atomic, $int, $body),
            8 => on_atomic!(@ AtomicU64, u64, $p, $atomic, $int, $body),
            _ => None,
        }
    };
    (@ $type:ty, $t:ident, $p:expr, $atomic:ident, $int:ident, $body:expr) => {{
        type $int = $t;
        let p: *mut $int = $p.cast();
        if p.is_aligned() {
            // SAFETY: `at` has checked that the bytes are inside the span, so they are mapped (B1, B2); the pointer is
            // aligned, and nobody has a plain reference to guest RAM (B1).
            let $atomic = unsafe { <$type>::from_ptr(p) };
            Some($body)
        } else {
            None
        }
    }};
}

impl RamSpan<'_> {
    /// Writes `new` at `offset` if `expected` stands there, all in host order and `size` (1, 2, 4 or 8) bytes: gives what
    /// stood there, as `Err` if nothing was written. `None` if it is not inside or not aligned in host memory.
    ///
    /// To be called for writable memory only.
    pub fn compare_exchange(
        &self,
        offset: u64,
        size: u32,
        expected: u64,
        new: u64,
    ) -> Option<Result<u64, u64>> {
        let p = self.at(offset, size.into())?;
        on_atomic!(size, p, |value: Int| {
            let done = value.compare_exchange(expected as Int, new as Int, SeqCst, SeqCst);
            done.map(Value::widen).map_err(Value::widen)
        })
    }

    /// Changes the value at `offset` by `operand` and gives what stood there, under the same conditions.
    pub fn fetch(&self, offset: u64, size: u32, change: Rmw, operand: u64) -> Option<u64> {
        let p = self.at(offset, size.into())?;
        on_atomic!(size, p, |value: Int| {
            let operand = operand as Int;
            let found = match change {
                Rmw::Swap => value.swap(operand, SeqCst),
                Rmw::Add => value.fetch_add(operand, SeqCst),
                Rmw::And => value.fetch_and(operand, SeqCst),
                Rmw::Or => value.fetch_or(operand, SeqCst),
                Rmw::Xor => value.fetch_xor(operand, SeqCst),
            };
            Value::widen(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RamBlock;

    #[test]
    fn every_size_changes_its_own_bytes_only() {
        let block = RamBlock::anonymous("t", 64).unwrap();
        let s = block.span(0, 64).unwrap();
        for size in [1_u32, 2, 4, 8] {
            let at = u64::from(size) * 2;
            let mask = if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
            s.write(0, &[0xff; 64]).unwrap();
            assert_eq!(s.fetch(at, size, Rmw::Add, 2), Some(mask));
            assert_eq!(s.fetch(at, size, Rmw::Or, 0x70), Some(1));
            assert_eq!(s.fetch(at, size, Rmw::Xor, 0x11), Some(0x71));
            assert_eq!(s.fetch(at, size, Rmw::And, 0x40), Some(0x60));
            assert_eq!(s.fetch(at, size, Rmw::Swap, 7), Some(0x40));
            assert_eq!(s.compare_exchange(at, size, 8, 9), Some(Err(7)));
            assert_eq!(s.compare_exchange(at, size, 7, u64::MAX), Some(Ok(7)));
            let mut out = [0; 64];
            s.read(0, &mut out).unwrap();
            assert_eq!(out, [0xff; 64]);
        }
    }

    #[test]
    fn what_is_unaligned_or_outside_or_of_an_odd_size_is_refused() {
        let block = RamBlock::anonymous("t", 64).unwrap();
        let s = block.span(0, 64).unwrap();
        assert_eq!(s.fetch(1, 2, Rmw::Add, 1), None);
        assert_eq!(s.fetch(4, 8, Rmw::Add, 1), None);
        assert_eq!(s.fetch(64, 1, Rmw::Add, 1), None);
        assert_eq!(s.fetch(u64::MAX - 7, 8, Rmw::Add, 1), None);
        assert_eq!(s.fetch(0, 3, Rmw::Add, 1), None);
        assert_eq!(s.compare_exchange(2, 4, 0, 1), None);
    }
}
