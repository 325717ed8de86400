//! The short way of loads that do not hit the memory hit last.
//!
//! What it is: the lookup, and then either the memory or the one callback that most accesses are, in one small function
//! that answers in registers. What it is not: complete; what it does not take goes the long way, from the start, and
//! nothing has happened then.

use super::port::from_memory;
use super::{Access, MemTxAttrs, Reader};
use crate::order::{low_mask, reorder};
use crate::thread::InCallback;
use crate::view::FlatRange;
use crate::{ByteOrder, MemTxError, Value};

/// How a load ended.
pub(super) enum Quick {
    Done(u64),
    /// It goes the long way.
    NotTaken,
    /// The callback failed; the reader has the error.
    Failed,
}

impl Reader {
    /// One load of a value in order `O`.
    #[inline(never)]
    pub(super) fn load_quick<O: ByteOrder, V: Value>(&self, addr: u64) -> Quick {
        let Some(view) = self.own_lane().pin_current() else {
            return Quick::NotTaken;
        };
        let found = view.remember_reads(
            #[inline(always)]
            |view| {
                let range = view.lookup(addr);
                (range, range.and_then(FlatRange::load_window))
            },
        );
        let Some(range) = found else {
            return Quick::NotTaken;
        };
        let Some(ops) = range.direct(addr, V::SIZE) else {
            let value = range.readable_ram().and_then(|ram| ram.load::<V>(addr - range.start()));
            return value.map_or(Quick::NotTaken, |v| Quick::Done(from_memory::<O, V>(v).widen()));
        };
        let Some(_running) = InCallback::enter_below(Access::MAX_DEPTH) else {
            return Quick::NotTaken;
        };
        let access = Access {
            reader: self,
            space: &self.space,
            outer: None,
            range,
            address: addr,
            attrs: MemTxAttrs::UNSPECIFIED,
            size: V::SIZE as u8,
            write: false,
        };
        match ops.read(&access) {
            Ok(value) => Quick::Done(reorder(value & low_mask(V::SIZE), V::SIZE, range.order(), O::ORDER)),
            Err(e) => {
                self.failure.set(access.failed(&e));
                Quick::Failed
            }
        }
    }

    /// What a load gives that was not done quickly.
    #[cold]
    #[inline(never)]
    pub(super) fn load_otherwise<O: ByteOrder, V: Value>(
        &self,
        addr: u64,
        failed: bool,
    ) -> Result<V, MemTxError> {
        if failed {
            return Err(self.failure.get());
        }
        let port = self.port(MemTxAttrs::UNSPECIFIED);
        let view = self.pin(&self.space)?;
        port.load_in::<O, V>(&view, addr)
    }
}
