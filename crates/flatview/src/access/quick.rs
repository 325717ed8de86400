//! The short way of loads that do not hit the memory hit last.
//!
//! UNSAFE: this module promises the reader's table that what it keeps was found in the view that is held, devices that are
//! known that the view has them, and the reader's lane that what copies bytes leaves it alone.
//!
//! What it is: the lookup, and then either the memory or the one callback that most accesses are, in one small function
//! that answers in registers. What it is not: complete; what it does not take goes the long way, from the start, and
//! nothing has happened then.

#![expect(unsafe_code, reason = "what a lookup found is kept without a lifetime")]

use super::call::Way;
use super::direct::fails_in;
use super::port::from_memory;
use super::{Access, MemTxAttrs, Reader};
use crate::order::{low_mask, reorder};
use crate::thread::{Here, InCallback};
use crate::view::FlatRange;
use crate::{ByteOrder, MemTxError, Value};

impl Reader {
    /// One load of a value in order `O`; `None` if it [was not done](Self::load_not_done). Of the value more than `V` has may be
    /// anything.
    // No more than looks and jumps: what it calls answers in its place.
    #[inline(never)]
    pub(super) fn load_elsewhere<O: ByteOrder, V: Value>(&self, addr: u64, here: &Here) -> Option<u64> {
        match self.known_device::<V>(addr) {
            // SAFETY: the own lane is current, and the table, by T1, has what it looks at.
            Some(device) => unsafe { device.read::<O, V>(self, addr, here) },
            None => self.load_from_view::<O, V>(addr),
        }
    }

    /// Copies bytes out, if they are all in the memory hit last.
    #[inline(always)]
    pub(super) fn read_quick(&self, addr: u64, out: &mut [u8]) -> Option<()> {
        // SAFETY: what copies bytes knows no lanes.
        unsafe { self.own_lane().on_reads_alone(|memory| memory.read(addr, out)) }
    }

    /// After a load gave nothing: its error or, if the thread was in the middle of something, the load.
    #[cold]
    #[inline(never)]
    pub(super) fn load_not_done<O: ByteOrder, V: Value>(&self, addr: u64) -> Result<V, MemTxError> {
        if let Some(e) = self.failure.get() {
            return Err(e);
        }
        self.port(MemTxAttrs::UNSPECIFIED).load::<O, V>(addr)
    }

    /// The load of what is not known, but may be afterwards.
    // Not that cold, but nothing of it may stand in the way of what is known.
    #[cold]
    #[inline(never)]
    fn load_from_view<O: ByteOrder, V: Value>(&self, addr: u64) -> Option<u64> {
        self.grows_next();
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
        // SAFETY: the own lane is held at the view, in which the range was just found.
        unsafe { self.keep(&view, addr, range) };
        let Some(ops) = range.direct(addr, V::SIZE) else {
            return match range.readable_ram().and_then(|ram| ram.load::<V>(addr - range.start())) {
                Some(native) => Some(from_memory::<O, V>(native).widen()),
                None => self.load_long_way::<O, V>(addr),
            };
        };
        let Some(_running) = InCallback::enter_below(Access::MAX_DEPTH) else {
            return self.load_long_way::<O, V>(addr);
        };
        let way = Way { space: &self.space, outer: None, range };
        let access = Access {
            reader: self,
            way: Some(&way),
            address: addr,
            offset: range.offset_of(addr),
            attrs: MemTxAttrs::UNSPECIFIED,
            size: V::SIZE as u8,
            write: false,
        };
        match ops.read(&access) {
            Ok(value) => Some(reorder(value & low_mask(V::SIZE), V::SIZE, range.order(), O::ORDER)),
            Err(e) => {
                fails_in(&access, &e);
                None
            }
        }
    }

    /// One store of a value in order `O` to a device that is known; `None` if none is, or the thread is in the middle of something:
    /// then nothing has happened.
    #[inline(always)]
    pub(super) fn store_to_known_device<O: ByteOrder, V: Value>(
        &self,
        addr: u64,
        value: V,
    ) -> Option<Result<(), MemTxError>> {
        let device = self.known_device::<V>(addr)?;
        // SAFETY: as in `load_elsewhere`.
        if unsafe { device.write::<O, V>(self, addr, value) } {
            return Some(Ok(()));
        }
        self.failure.get().map(Err)
    }

    /// Keeps the error for the caller.
    #[cold]
    fn fails(&self, error: MemTxError) -> Option<u64> {
        self.failure.set(Some(error));
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
