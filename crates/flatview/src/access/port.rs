//! The four entry points.

use std::fmt;

use super::call::Way;
use super::reader::PinnedView;
use super::{Access, MemTxAttrs, Reader};
use crate::memory::{InvalidAccess, SpaceInner};
use crate::memtx::join;
use crate::order::{low_mask, put_value, reorder, value_of};
use crate::thread::InCallback;
use crate::view::FlatRange;
use crate::{AddressSpace, ByteOrder, Endianness, HostPtr, MemTxError, Reason, Value, WeakSpace};

/// Memory as one initiator sees it: a space, through a [`Reader`], with attributes.
///
/// Errors carry the address, the size and the region of the first part that failed, and the result bits of all.
#[derive(Clone, Copy)]
pub struct Port<'a> {
    pub(super) reader: &'a Reader,
    pub(super) space: &'a SpaceInner,
    pub(super) attrs: MemTxAttrs,
    /// How many IOMMUs are between the initiator and the space.
    pub(super) iommus: u8,
    /// The access in whose callback this is used.
    pub(super) outer: Option<&'a Access<'a>>,
}

impl fmt::Debug for Port<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({:?}, {:?})", self.space.name, self.attrs)
    }
}

/// A native value of `V::SIZE` bytes as it stands in memory, read in order `O`.
#[inline]
pub(crate) fn from_memory<O: ByteOrder, V: Value>(v: V) -> V {
    let native = if cfg!(target_endian = "little") { Endianness::Little } else { Endianness::Big };
    V::narrow(reorder(v.widen(), V::SIZE, native, O::ORDER))
}

impl<'a> Port<'a> {
    #[inline]
    pub(super) fn outermost(reader: &'a Reader, attrs: MemTxAttrs) -> Self {
        Self { reader, space: &reader.space, attrs, iommus: 0, outer: None }
    }

    pub(super) fn nested(space: &'a AddressSpace, outer: &'a Access<'a>) -> Self {
        let Access { reader, attrs, .. } = *outer;
        Self { reader, space: &space.inner, attrs, iommus: 0, outer: Some(outer) }
    }

    /// The same with other attributes.
    #[must_use]
    pub fn with_attrs(self, attrs: MemTxAttrs) -> Self {
        Self { attrs, ..self }
    }

    /// The way to a range that an access through this takes.
    #[inline(always)]
    pub(crate) fn way<'b>(&self, range: &'b FlatRange) -> Way<'b>
    where
        'a: 'b,
    {
        Way { space: self.space, outer: self.outer, range }
    }

    /// An access of `size` bytes at an address in the range it is on the way to.
    #[inline(always)]
    pub(crate) fn access<'b>(&self, way: &'b Way<'b>, address: u64, size: u32, write: bool) -> Access<'b>
    where
        'a: 'b,
    {
        let offset = way.range.offset_of(address);
        let Self { reader, attrs, .. } = *self;
        Access { reader, way: Some(way), address, offset, attrs, size: size as u8, write }
    }

    /// What nothing answers, told in the log.
    #[cold]
    pub(crate) fn unassigned(&self, addr: u64, size: u32, write: bool) -> MemTxError {
        let reason = Reason::Rejected;
        self.reader.memory.tell(&InvalidAccess { write, addr, size, region: None, reason });
        MemTxError::refused(reason).at(addr, size, None)
    }

    /// The view that accesses go to now, held while the guard lives.
    #[inline]
    pub(crate) fn pin(&self) -> Result<PinnedView<'a>, MemTxError> {
        self.reader.pin(self.space)
    }

    pub(crate) fn attrs(&self) -> MemTxAttrs {
        self.attrs
    }

    pub(crate) fn space(&self) -> &'a SpaceInner {
        self.space
    }

    /// A handle of the space, for what outlives the port.
    pub(crate) fn weak_space(&self) -> WeakSpace {
        WeakSpace::of(self.space, &self.reader.memory)
    }

    // Exact.

    /// One read of `V`, as it is or not at all (QEMU: `address_space_ldl_le` and its kin). RAM at any alignment;
    /// a device if its rules take the access. A value that reaches past the end of its RAM is a decode error.
    ///
    /// # Errors
    /// [`MemTxError`]: nothing answers there, the device refuses the size or alignment, or fails.
    #[inline]
    pub fn load<O: ByteOrder, V: Value>(&self, addr: u64) -> Result<V, MemTxError> {
        let view = self.reader.pin(self.space)?;
        if let Some(v) = view.reads().load::<V>(addr) {
            return Ok(from_memory::<O, V>(v));
        }
        self.load_in::<O, V>(&view, addr)
    }

    #[inline(never)]
    pub(super) fn load_in<O: ByteOrder, V: Value>(
        &self,
        view: &PinnedView<'_>,
        addr: u64,
    ) -> Result<V, MemTxError> {
        let Some(range) = self.range_to_read(view, addr) else {
            return Err(self.unassigned(addr, V::SIZE, false));
        };
        if let Some(v) = range.readable_ram().and_then(|ram| ram.load::<V>(addr - range.start())) {
            return Ok(from_memory::<O, V>(v));
        }
        let value = self.call_read(range, addr, V::SIZE)?;
        Ok(V::narrow(reorder(value, V::SIZE, range.order(), O::ORDER)))
    }

    /// One write of `V`, as it is or not at all (QEMU: `address_space_stl_le` and its kin).
    ///
    /// # Errors
    /// As [`load`](Self::load); ROM is a decode error.
    #[inline]
    pub fn store<O: ByteOrder, V: Value>(&self, addr: u64, value: V) -> Result<(), MemTxError> {
        let view = self.reader.pin(self.space)?;
        let (writes, native) = (view.writes(), from_memory::<O, V>(value));
        let plain = writes.store(addr, native).map(|()| true);
        if let Some(noted) = plain.or_else(|| writes.store_logged(addr, native)) {
            if !noted && let Some(range) = view.lookup(addr) {
                range.mark(addr, V::SIZE.into());
            }
            late(&view, addr, V::SIZE.into());
            return Ok(());
        }
        self.store_in::<O, V>(&view, addr, value)
    }

    #[inline(always)]
    pub(super) fn store_in<O: ByteOrder, V: Value>(
        &self,
        view: &PinnedView<'_>,
        addr: u64,
        value: V,
    ) -> Result<(), MemTxError> {
        let Some(range) = self.range_to_write(view, addr) else {
            return Err(self.unassigned(addr, V::SIZE, true));
        };
        if range.store(addr, from_memory::<O, V>(value)).is_some() {
            late(view, addr, V::SIZE.into());
            return Ok(());
        }
        self.call_write(range, addr, V::SIZE, reorder(value.widen(), V::SIZE, O::ORDER, range.order()))
    }

    /// A read through callbacks, in the device's order.
    #[inline(always)]
    pub(super) fn call_read(&self, range: &FlatRange, addr: u64, size: u32) -> Result<u64, MemTxError> {
        let way = self.way(range);
        let access = self.access(&way, addr, size, false);
        let Some((ops, _running)) = access.direct() else {
            return access.dispatch_read_exact();
        };
        match ops.read(&access) {
            Ok(value) => Ok(value & low_mask(size)),
            Err(e) => Err(access.failed(&e)),
        }
    }

    /// The same, also with what could be read where a part failed; that part reads as 0.
    fn call_read_all(&self, range: &FlatRange, addr: u64, size: u32) -> (u64, Result<(), MemTxError>) {
        let way = self.way(range);
        let access = self.access(&way, addr, size, false);
        match access.direct() {
            Some((ops, _running)) => match ops.read(&access) {
                Ok(value) => (value & low_mask(size), Ok(())),
                Err(e) => (0, Err(access.failed(&e))),
            },
            None => access.dispatch_read(),
        }
    }

    /// A write through callbacks of a value in the device's order.
    #[inline(always)]
    pub(super) fn call_write(
        &self,
        range: &FlatRange,
        addr: u64,
        size: u32,
        value: u64,
    ) -> Result<(), MemTxError> {
        let way = self.way(range);
        let access = self.access(&way, addr, size, true);
        // A read-only view of a device keeps writes from it.
        if range.readonly() {
            return Err(access.failed(&access.refused(Reason::Rejected)));
        }
        let Some((ops, _running)) = access.direct() else {
            return access.dispatch_write(value);
        };
        match ops.write(&access, value & low_mask(size)) {
            Ok(()) => Ok(()),
            Err(e) => Err(access.failed(&e)),
        }
    }

    // Bus.

    /// Reads any number of bytes, in as many pieces as those who answer need (QEMU: `address_space_read`).
    ///
    /// All pieces are tried; what fails reads as 0, so that after an error `out` still has what could be read. All
    /// see the same map, the one at the beginning of the access.
    ///
    /// # Errors
    /// [`MemTxError`] of the first piece that failed, with the result bits of all.
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        // One view for all pieces, whatever the map or the devices do meanwhile.
        let view = self.reader.pin(self.space)?;
        if !self.attrs.memory && view.reads().read(addr, out).is_some() {
            return Ok(());
        }
        self.read_in(&view, addr, out)
    }

    pub(crate) fn read_in(&self, view: &PinnedView<'_>, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        let mut result = Ok(());
        let mut addr = addr;
        let mut rest = out;
        while !rest.is_empty() {
            let range = self.range_to_read(view, addr);
            let readable = |r: &FlatRange| r.readable_ram().is_some() && self.is_allowed(Some(r));
            let (piece, memory) = self.bus_piece(range, addr, rest.len(), readable);
            let (now, later) = std::mem::take(&mut rest).split_at_mut(piece);
            let done = match range {
                _ if !self.is_allowed(range) => {
                    now.fill(0);
                    Err(self.not_ram(range, addr, piece, false))
                }
                Some(range) if memory => {
                    let copied = range.readable_ram().and_then(|ram| ram.read(addr - range.start(), now));
                    copied.ok_or(MemTxError::decode().at(addr, piece as u32, Some(range.region())))
                }
                Some(range) if range.is_iommu() => self.read_through(range, addr, now),
                Some(range) => {
                    let (value, result) = self.call_read_all(range, addr, piece as u32);
                    put_value(value, range.order(), now);
                    result
                }
                None => {
                    now.fill(0);
                    Err(self.unassigned(addr, piece as u32, false))
                }
            };
            result = join(result, done);
            addr = addr.wrapping_add(piece as u64);
            rest = later;
        }
        result
    }

    /// Writes any number of bytes, in as many pieces as those who answer need (QEMU: `address_space_write`). All
    /// pieces are tried, and all see the same map.
    ///
    /// # Errors
    /// As [`read`](Self::read); ROM is a decode error.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        let view = self.reader.pin(self.space)?;
        if !self.attrs.memory && view.writes().write(addr, bytes).is_some() {
            late(&view, addr, bytes.len() as u64);
            return Ok(());
        }
        self.write_in(&view, addr, bytes)
    }

    pub(crate) fn write_in(&self, view: &PinnedView<'_>, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        let mut result = Ok(());
        let mut addr = addr;
        let mut rest = bytes;
        while !rest.is_empty() {
            let range = self.range_to_write(view, addr);
            let (piece, memory) = self.bus_piece(range, addr, rest.len(), |r| r.writable_ram().is_some());
            let (now, later) = rest.split_at(piece);
            let done = match range {
                _ if !self.is_allowed(range) => Err(self.not_ram(range, addr, piece, true)),
                Some(range) if memory => {
                    let copied = range.writable_ram().and_then(|ram| ram.write(addr - range.start(), now));
                    wrote(view, range, addr, piece as u64);
                    copied.ok_or(MemTxError::decode().at(addr, piece as u32, Some(range.region())))
                }
                Some(range) if range.is_iommu() => self.write_through(range, addr, now),
                Some(range) => self.call_write(range, addr, piece as u32, value_of(now, range.order())),
                None => Err(self.unassigned(addr, piece as u32, true)),
            };
            result = join(result, done);
            addr = addr.wrapping_add(piece as u64);
            rest = later;
        }
        result
    }

    /// Whether the attributes allow an access of what is there at all (QEMU: `flatview_access_allowed`).
    #[inline]
    pub(crate) fn is_allowed(&self, range: Option<&FlatRange>) -> bool {
        // Of what is behind an IOMMU it is asked there.
        !self.attrs.memory || range.is_some_and(|r| r.is_ram() || r.is_iommu())
    }

    /// The range at an address, for a read. If it is memory it is remembered.
    #[inline(always)]
    fn range_to_read<'v>(&self, view: &'v PinnedView<'_>, addr: u64) -> Option<&'v FlatRange> {
        view.remember_reads(
            #[inline(always)]
            |v| {
                let range = v.lookup(addr);
                (range, range.and_then(FlatRange::load_window))
            },
        )
    }

    /// The same for a write.
    #[inline(always)]
    pub(crate) fn range_to_write<'v>(&self, view: &'v PinnedView<'_>, addr: u64) -> Option<&'v FlatRange> {
        view.remember_writes(
            #[inline(always)]
            |v| {
                let range = v.lookup(addr);
                (range, range.and_then(FlatRange::stores))
            },
        )
    }

    /// How much of `left` bytes the one who answers takes in one piece, and whether it is memory.
    pub(crate) fn bus_piece(
        &self,
        range: Option<&FlatRange>,
        addr: u64,
        left: usize,
        memory: impl Fn(&FlatRange) -> bool,
    ) -> (usize, bool) {
        if let Some(range) = range.filter(|r| memory(r)) {
            return (usize::try_from(range.room(addr)).map_or(left, |room| room.min(left)), true);
        }
        // A piece may reach past the end of a device's range: QEMU gives it to the device whole.
        let (offset, max, unaligned) = match range {
            // An IOMMU cuts it further.
            Some(r) if r.is_iommu() => {
                return (usize::try_from(r.room(addr)).map_or(left, |room| room.min(left)), false);
            }
            Some(r) => (r.offset_of(addr), r.body().rules.bus_max(), r.body().rules.calls_unaligned()),
            None => (addr, 4, false),
        };
        let aligned = if unaligned || offset == 0 { u64::MAX } else { offset & offset.wrapping_neg() };
        let most = u64::from(max).min(aligned).min(left as u64).max(1);
        (1 << most.ilog2(), false)
    }

    #[cold]
    fn not_ram(&self, range: Option<&FlatRange>, addr: u64, size: usize, write: bool) -> MemTxError {
        let (reason, size) = (Reason::NotRam, size as u32);
        self.reader.memory.tell(&InvalidAccess {
            write,
            addr: range.map_or(addr, |r| r.offset_of(addr)),
            size,
            region: range.map(FlatRange::name),
            reason,
        });
        MemTxError::refused(reason).at(addr, size, range.map(FlatRange::region))
    }

    // CPU.

    /// A CPU's load: as [`load`](Self::load), but what is not aligned and not wholly in one RAM becomes two aligned
    /// loads of the same size, as in QEMU 7.2's TCG.
    ///
    /// # Errors
    /// As [`load`](Self::load). What a CPU makes of it (nothing, an exception) is the board's choice.
    pub fn cpu_load<O: ByteOrder, V: Value>(&self, addr: u64) -> Result<V, MemTxError> {
        let size = u64::from(V::SIZE);
        let past = addr & (size - 1);
        if past == 0 {
            return self.load::<O, V>(addr);
        }
        {
            let view = self.reader.pin(self.space)?;
            let in_ram = match self.range_to_read(&view, addr) {
                Some(range) if range.is_iommu() => self.cpu_load_through::<V>(range, addr)?,
                range => range.and_then(|r| r.readable_ram()?.load::<V>(addr - r.start())),
            };
            if let Some(v) = in_ram {
                return Ok(from_memory::<O, V>(v));
            }
        }
        let first = self.load::<O, V>(addr - past)?.widen();
        let second = self.load::<O, V>((addr - past).wrapping_add(size))?.widen();
        let (by, rest) = (8 * past as u32, 8 * (size - past) as u32);
        let value = match O::ORDER {
            Endianness::Little => (first >> by) | (second << rest),
            Endianness::Big => (first << by) | (second >> rest),
        };
        Ok(V::narrow(value))
    }

    /// A CPU's store: as [`store`](Self::store), but what is not aligned and not wholly in one RAM becomes stores of
    /// bytes, as in QEMU 7.2's TCG, and a store to ROM is dropped.
    ///
    /// # Errors
    /// As [`store`](Self::store), apart from ROM.
    pub fn cpu_store<O: ByteOrder, V: Value>(&self, addr: u64, value: V) -> Result<(), MemTxError> {
        let past = addr & (u64::from(V::SIZE) - 1);
        {
            let view = self.reader.pin(self.space)?;
            if let Some(range) = self.range_to_write(&view, addr) {
                if range.store(addr, from_memory::<O, V>(value)).is_some() {
                    late(&view, addr, V::SIZE.into());
                    return Ok(());
                }
                if range.drops_stores() && range.room(addr) >= u64::from(V::SIZE) {
                    return Ok(());
                }
                if range.is_iommu() && self.cpu_store_through(range, addr, from_memory::<O, V>(value))? {
                    return Ok(());
                }
            }
        }
        if past == 0 {
            return self.store::<O, V>(addr, value);
        }
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..V::SIZE as usize).unwrap_or_default();
        put_value(value.widen(), O::ORDER, bytes);
        let mut result = Ok(());
        for (i, byte) in (0_u64..).zip(bytes.iter()) {
            result = join(result, self.cpu_store::<O, u8>(addr.wrapping_add(i), *byte));
        }
        result
    }

    /// The host memory behind an address and as many of the `len` bytes after it as are one run of RAM or ROM; `None`
    /// if the address is not memory (QEMU: `memory_region_get_ram_ptr`, the monitor's `gpa2hva`).
    ///
    /// The guard keeps the memory, not the mapping: it does not notice when the map changes.
    #[must_use]
    pub fn host_ptr(&self, addr: u64, len: u64) -> Option<HostPtr> {
        let view = self.reader.pin(self.space).ok()?;
        let range = view.lookup(addr)?;
        range.host(addr, range.room(addr).min(len))
    }

    // Debug.

    /// Reads without side effects: RAM and ROM, and of devices what they can tell by
    /// [`MmioOps::peek`](crate::MmioOps::peek). What cannot be told reads as 0.
    ///
    /// # Errors
    /// [`MemTxError`] of the first piece that could not be read; its [`region`](MemTxError::region) names who
    /// would have answered.
    pub fn peek(&self, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        let view = self.reader.pin(self.space)?;
        self.peek_in(&view, addr, out)
    }

    pub(super) fn peek_in(&self, view: &PinnedView<'_>, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        let mut result = Ok(());
        let mut addr = addr;
        let mut rest = out;
        while !rest.is_empty() {
            let range = view.lookup(addr);
            let (piece, _) = self.bus_piece(range, addr, rest.len(), |r| r.memory().is_some());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(piece);
            if let Some(range) = range.filter(|r| r.is_iommu()) {
                result = join(result, self.peek_through(range, addr, now));
                addr = addr.wrapping_add(piece as u64);
                rest = later;
                continue;
            }
            let known = range.and_then(|range| {
                let from_ram = |now: &mut [u8]| range.memory()?.read(addr - range.start(), now);
                if range.is_ram_backed() {
                    return from_ram(now);
                }
                // A ROM device that answers through callbacks says what it would answer, or else what it stores.
                let size = u32::try_from(piece).ok().filter(|n| matches!(n, 1 | 2 | 4 | 8));
                let ops = range.body().ops();
                let peeked = ops.zip(size).and_then(|(ops, n)| {
                    let _running = InCallback::enter();
                    ops.peek(range.offset_of(addr), n)
                });
                match peeked {
                    Some(value) => {
                        put_value(value, range.order(), now);
                        Some(())
                    }
                    None => from_ram(now),
                }
            });
            if known.is_none() {
                now.fill(0);
                let reason = if range.is_some() { Reason::Unknown } else { Reason::Rejected };
                let region = range.map(FlatRange::region);
                result = join(result, Err(MemTxError::refused(reason).at(addr, piece as u32, region)));
            }
            addr = addr.wrapping_add(piece as u64);
            rest = later;
        }
        result
    }

    /// Writes RAM and ROM, as loaders and debuggers do (QEMU: `address_space_write_rom`); devices are not touched.
    ///
    /// # Errors
    /// [`MemTxError`] of the first piece that is not memory; the others are written.
    pub fn poke(&self, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        let view = self.reader.pin(self.space)?;
        self.poke_in(&view, addr, bytes)
    }

    pub(super) fn poke_in(&self, view: &PinnedView<'_>, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        let mut result = Ok(());
        let mut addr = addr;
        let mut rest = bytes;
        while !rest.is_empty() {
            let range = view.lookup(addr);
            let (piece, memory) = self.bus_piece(range, addr, rest.len(), FlatRange::is_loadable);
            let (now, later) = rest.split_at(piece);
            let ram = range.filter(|_| memory).and_then(|r| Some((r, r.memory()?)));
            if let Some((range, ())) = ram.and_then(|(r, ram)| Some((r, ram.write(addr - r.start(), now)?))) {
                wrote(view, range, addr, piece as u64);
            } else if let Some(range) = range.filter(|r| r.is_iommu()) {
                result = join(result, self.poke_through(range, addr, now));
            } else {
                let region = range.map(FlatRange::region);
                result =
                    join(result, Err(MemTxError::refused(Reason::Rejected).at(addr, piece as u32, region)));
            }
            addr = addr.wrapping_add(piece as u64);
            rest = later;
        }
        result
    }
}

/// Notes that memory of `range` was just written.
#[inline]
pub(crate) fn wrote(view: &PinnedView<'_>, range: &FlatRange, addr: u64, len: u64) {
    range.mark(addr, len);
    late(view, addr, len);
}

/// After memory was written under a view that is old by now: it may be logged meanwhile, for whomever.
#[inline(always)]
pub(super) fn late(view: &PinnedView<'_>, addr: u64, len: u64) {
    if !view.is_still_current() {
        mark_late(view, addr, len);
    }
}

#[cold]
#[inline(never)]
pub(super) fn mark_late(view: &PinnedView<'_>, addr: u64, len: u64) {
    if let Some(range) = view.lookup(addr) {
        range.mark_for_all(addr, len);
    }
}
