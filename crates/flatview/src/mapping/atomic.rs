//! Reading and writing RAM in one step, for CPUs.
//!
//! What it is: compare-and-exchange and the fetching operations on naturally aligned values of RAM, in a guest's byte order.
//! What it is not: a way to do so with a device. There it is refused with a reason, and what a CPU does then (it stops the
//! others and does it in two steps, or raises an exception) is its own matter.
//!
//! What must hold: all are sequentially consistent with each other and with the host's; a change is marked after it was
//! made, and what failed to change anything is not.

use crate::access::{PinnedView, Purpose, Wanted, from_memory, wrote};
use crate::ram::{RamSpan, Rmw};
use crate::view::FlatRange;
use crate::{ByteOrder, MemTxAttrs, MemTxError, Port, Reader, Reason, Value};

impl Port<'_> {
    /// Does something in one step to the RAM of `V` at `addr`; it gives what it found, and whether it wrote.
    #[inline]
    fn in_one_step<V: Value, R>(
        &self,
        addr: u64,
        step: impl FnOnce(RamSpan<'_>, u64) -> Option<(R, bool)>,
    ) -> Result<R, MemTxError> {
        let size = V::SIZE;
        if !addr.is_multiple_of(size.into()) {
            return Err(MemTxError::refused(Reason::Unaligned).at(addr, size, None));
        }
        let view = self.pin()?;
        match self.range_to_write(&view, addr) {
            Some(range) if range.is_iommu() => self.in_one_step_through::<V, R>(range, addr, step),
            range => self.in_one_step_at::<V, R>(&view, range, addr, step),
        }
    }

    #[cold]
    #[inline(never)]
    fn in_one_step_through<V: Value, R>(
        &self,
        range: &FlatRange,
        addr: u64,
        step: impl FnOnce(RamSpan<'_>, u64) -> Option<(R, bool)>,
    ) -> Result<R, MemTxError> {
        let refused = |reason, addr| Err(MemTxError::refused(reason).at(addr, V::SIZE, Some(range.region())));
        if range.readonly() {
            return refused(Reason::ReadOnly, addr);
        }
        // It must be allowed to be read as well; what is written is what counts.
        let size = Wanted::Exactly(V::SIZE);
        self.at_end(range, addr, size, Purpose::of(false), |_| Ok(()))?;
        self.at_end(range, addr, size, Purpose::of(true), |end| {
            if end.room < V::SIZE.into() {
                return refused(Reason::Rejected, end.address);
            }
            end.port.in_one_step_at::<V, R>(end.view, end.range, end.address, step)
        })
    }

    #[inline]
    fn in_one_step_at<V: Value, R>(
        &self,
        view: &PinnedView<'_>,
        range: Option<&FlatRange>,
        addr: u64,
        step: impl FnOnce(RamSpan<'_>, u64) -> Option<(R, bool)>,
    ) -> Result<R, MemTxError> {
        let size = V::SIZE;
        let Some(range) = range else {
            return Err(self.unassigned(addr, size, true));
        };
        let refused = |reason| Err(MemTxError::refused(reason).at(addr, size, Some(range.region())));
        let Some(ram) = range.writable_ram() else {
            let rom = range.is_ram() && range.readable_ram().is_some();
            return refused(if rom { Reason::ReadOnly } else { Reason::NotAtomic });
        };
        if range.room(addr) < size.into() {
            return refused(Reason::Rejected);
        }
        match step(ram, addr - range.start()) {
            Some((found, wrote_it)) => {
                if wrote_it {
                    wrote(view, range, addr, size.into());
                }
                Ok(found)
            }
            // All of it is there, so the host has it unaligned.
            None => refused(Reason::Unaligned),
        }
    }

    /// Writes `new` at `addr` if `expected` stands there, in one step: `Ok` with what stood there, or `Err` with what stands
    /// there instead. A CPU with load-linked and store-conditional keeps what it loaded and stores by this.
    ///
    /// 1, 2, 4 or 8 bytes of RAM, naturally aligned; sequentially consistent with all other atomic accesses, and with the
    /// host's own. What was written is noted for those who log it.
    ///
    /// ```
    /// use flatview::{Be, Endianness, Memory, RamBlock, Region};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let memory = Memory::new(Endianness::Big);
    /// let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 4096)?))?;
    /// memory.map(memory.system(), 0, ram)?;
    /// let cpu = memory.memory_space().reader();
    ///
    /// let linked = cpu.load::<Be, u32>(0x10)?; // lwarx
    /// assert_eq!(cpu.compare_exchange::<Be, u32>(0x10, linked, linked + 1)?, Ok(0)); // stwcx.
    /// assert_eq!(cpu.compare_exchange::<Be, u32>(0x10, linked, linked + 1)?, Err(1));
    /// assert_eq!(cpu.fetch_add::<Be, u32>(0x10, 5)?, 1);
    /// assert_eq!(cpu.load::<Be, u32>(0x10)?, 6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MemTxError`] with the reason [`Unaligned`](Reason::Unaligned) (also if only the host has it so: in a caller's buffer,
    /// or a region at an odd address), [`NotAtomic`](Reason::NotAtomic) if it is not RAM, [`ReadOnly`](Reason::ReadOnly), or
    /// [`Rejected`](Reason::Rejected) if nothing is there or the RAM ends inside the value.
    pub fn compare_exchange<O: ByteOrder, V: Value>(
        &self,
        addr: u64,
        expected: V,
        new: V,
    ) -> Result<Result<V, V>, MemTxError> {
        let (expected, new) = (from_memory::<O, V>(expected).widen(), from_memory::<O, V>(new).widen());
        let found = |v: u64| from_memory::<O, V>(V::narrow(v));
        self.in_one_step::<V, _>(addr, |ram, offset| {
            let result = ram.compare_exchange(offset, V::SIZE, expected, new)?;
            Some((result.map(found).map_err(found), result.is_ok()))
        })
    }

    fn fetch<O: ByteOrder, V: Value>(&self, addr: u64, change: Rmw, operand: V) -> Result<V, MemTxError> {
        let native = from_memory::<O, V>(operand).widen();
        let found = self.in_one_step::<V, _>(addr, |ram, offset| {
            Some((ram.fetch(offset, V::SIZE, change, native)?, true))
        })?;
        Ok(from_memory::<O, V>(V::narrow(found)))
    }

    /// Writes `new` at `addr` and gives what stood there, in one step; see [`compare_exchange`](Self::compare_exchange).
    ///
    /// # Errors
    /// See there.
    pub fn swap<O: ByteOrder, V: Value>(&self, addr: u64, new: V) -> Result<V, MemTxError> {
        self.fetch::<O, V>(addr, Rmw::Swap, new)
    }

    /// Adds to what stands at `addr`, wrapping, and gives what stood there, in one step; see
    /// [`compare_exchange`](Self::compare_exchange).
    ///
    /// # Errors
    /// See there.
    pub fn fetch_add<O: ByteOrder, V: Value>(&self, addr: u64, more: V) -> Result<V, MemTxError> {
        // The host adds in its own order. In the other one the sum must be made outside of memory.
        if from_memory::<O, u16>(1) == 1 {
            return self.fetch::<O, V>(addr, Rmw::Add, more);
        }
        let mask = crate::order::low_mask(V::SIZE);
        self.in_one_step::<V, _>(addr, |ram, offset| {
            let mut found = ram.load::<V>(offset)?.widen();
            loop {
                let old = from_memory::<O, V>(V::narrow(found));
                let sum = V::narrow(old.widen().wrapping_add(more.widen()) & mask);
                match ram.compare_exchange(offset, V::SIZE, found, from_memory::<O, V>(sum).widen())? {
                    Ok(_) => return Some((old, true)),
                    Err(now) => found = now,
                }
            }
        })
    }

    /// Clears the bits at `addr` that are not in `mask` and gives what stood there, in one step; see
    /// [`compare_exchange`](Self::compare_exchange).
    ///
    /// # Errors
    /// See there.
    pub fn fetch_and<O: ByteOrder, V: Value>(&self, addr: u64, mask: V) -> Result<V, MemTxError> {
        self.fetch::<O, V>(addr, Rmw::And, mask)
    }

    /// Sets the bits at `addr` that are in `bits` and gives what stood there, in one step; see
    /// [`compare_exchange`](Self::compare_exchange).
    ///
    /// # Errors
    /// See there.
    pub fn fetch_or<O: ByteOrder, V: Value>(&self, addr: u64, bits: V) -> Result<V, MemTxError> {
        self.fetch::<O, V>(addr, Rmw::Or, bits)
    }

    /// Flips the bits at `addr` that are in `bits` and gives what stood there, in one step; see
    /// [`compare_exchange`](Self::compare_exchange).
    ///
    /// # Errors
    /// See there.
    pub fn fetch_xor<O: ByteOrder, V: Value>(&self, addr: u64, bits: V) -> Result<V, MemTxError> {
        self.fetch::<O, V>(addr, Rmw::Xor, bits)
    }
}

impl Reader {
    /// See [`Port::compare_exchange`].
    ///
    /// # Errors
    /// See there.
    pub fn compare_exchange<O: ByteOrder, V: Value>(
        &self,
        addr: u64,
        expected: V,
        new: V,
    ) -> Result<Result<V, V>, MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).compare_exchange::<O, V>(addr, expected, new)
    }

    /// See [`Port::swap`].
    ///
    /// # Errors
    /// See there.
    pub fn swap<O: ByteOrder, V: Value>(&self, addr: u64, new: V) -> Result<V, MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).swap::<O, V>(addr, new)
    }

    /// See [`Port::fetch_add`].
    ///
    /// # Errors
    /// See there.
    pub fn fetch_add<O: ByteOrder, V: Value>(&self, addr: u64, more: V) -> Result<V, MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).fetch_add::<O, V>(addr, more)
    }

    /// See [`Port::fetch_and`].
    ///
    /// # Errors
    /// See there.
    pub fn fetch_and<O: ByteOrder, V: Value>(&self, addr: u64, mask: V) -> Result<V, MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).fetch_and::<O, V>(addr, mask)
    }

    /// See [`Port::fetch_or`].
    ///
    /// # Errors
    /// See there.
    pub fn fetch_or<O: ByteOrder, V: Value>(&self, addr: u64, bits: V) -> Result<V, MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).fetch_or::<O, V>(addr, bits)
    }

    /// See [`Port::fetch_xor`].
    ///
    /// # Errors
    /// See there.
    pub fn fetch_xor<O: ByteOrder, V: Value>(&self, addr: u64, bits: V) -> Result<V, MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).fetch_xor::<O, V>(addr, bits)
    }
}
