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

impl Reader {
    /// One load of a value in order `O`; `None` if it failed, and the reader has the error.
    #[inline(never)]
    pub(super) fn load_elsewhere<O: ByteOrder, V: Value>(&self, addr: u64) -> Option<u64> {
        let Some(view) = self.own_lane().pin_current() else {
            return self.load_long_way::<O, V>(addr);
        };
        let found = view.remember_reads(
            #[inline(always)]
            |view| {
                let range = view.lookup(addr);
                (range, range.and_then(FlatRange::load_window))
            },
        );
        let Some(range) = found else {
            return self.load_long_way::<O, V>(addr);
        };
        let Some(ops) = range.direct(addr, V::SIZE) else {
            return match range.readable_ram().and_then(|ram| ram.load::<V>(addr - range.start())) {
                Some(native) => Some(from_memory::<O, V>(native).widen()),
                None => self.load_long_way::<O, V>(addr),
            };
        };
        let Some(_running) = InCallback::enter_below(Access::MAX_DEPTH) else {
            return self.load_long_way::<O, V>(addr);
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
            Ok(value) => Some(reorder(value & low_mask(V::SIZE), V::SIZE, range.order(), O::ORDER)),
            Err(e) => self.fails(access.failed(&e)),
        }
    }

    /// Keeps the error for the caller.
    #[cold]
    fn fails(&self, error: MemTxError) -> Option<u64> {
        self.failure.set(error);
        None
    }

    /// The load, whatever it takes.
    #[cold]
    #[inline(never)]
    fn load_long_way<O: ByteOrder, V: Value>(&self, addr: u64) -> Option<u64> {
        let port = self.port(MemTxAttrs::UNSPECIFIED);
        match self.pin(&self.space).and_then(|view| port.load_in::<O, V>(&view, addr)) {
            Ok(value) => Some(value.widen()),
            Err(e) => self.fails(e),
        }
    }
}
