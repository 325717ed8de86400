//! Accesses through IOMMUs.
//!
//! What it is: the steps from a range that is an IOMMU to the space, and the address there, where an access goes on
//! (QEMU: `address_space_translate_iommu`), for each entry point. What it is not: the translation itself; that is the
//! device's ([`IommuOps`](crate::IommuOps)).
//!
//! The rules:
//! - A *bus* access is cut at the ends of pages, and of the IOMMU's range; each part goes where its page is mapped, by the
//!   rules of what is there. What is not allowed is an error of pieces as where nothing is mapped, and is asked for anew
//!   for each.
//! - An *exact* access is translated by its first byte. If it reaches past the end of the page (or range), memory refuses
//!   it, as it refuses what reaches past its own end; a device gets it whole, as what reaches past its region's end.
//! - A *CPU* access that is not aligned is one access of memory if all of it is in one page of one RAM; else it is cut as
//!   anywhere. A store to ROM behind an IOMMU is dropped.
//! - *Looks and pokes* ask the device without an access, so that it notes none, and respect its permissions.
//! - The attributes, the chain and its bounds are those of the access. Errors have the initiator's address.
//!
//! What must hold: one access goes through at most [`Port::MAX_IOMMUS`]; all of it is off the way of accesses that meet
//! no IOMMU.

use std::ops::Deref;
use std::sync::Arc;

use super::reader::PinnedView;
use super::{Access, Port};
use crate::iommu::{Iotlb, Key};
use crate::memory::{InvalidAccess, SpaceInner};
use crate::memtx::join;
use crate::order::{put_value, reorder, value_of};
use crate::thread::{InCallback, nesting, writing};
use crate::topology::Kind;
use crate::view::FlatRange;
use crate::{
    AddressSpace, IommuAccess, IommuPerm, IommuRequest, IotlbEntry, MemTxError, Reader, Reason, Value,
};

/// The space an access goes on in.
enum Held<'a> {
    /// The reader keeps it, and remembers the translation.
    Kept(&'a SpaceInner),
    Own(Arc<SpaceInner>),
}

impl Deref for Held<'_> {
    type Target = SpaceInner;
    fn deref(&self) -> &SpaceInner {
        match self {
            Held::Kept(space) => space,
            Held::Own(space) => space,
        }
    }
}

/// Where an access goes on.
struct Onward<'a> {
    space: Held<'a>,
    address: u64,
    /// The page's mask: ones at the low end.
    page: u64,
}

impl<'a> Onward<'a> {
    /// Where the page around an offset leads.
    fn of(space: Held<'a>, offset: u64, address: u64, page: u64) -> Self {
        Self { space, address: (address & !page) | (offset & page), page }
    }

    /// How many bytes there are to the end of the page, cut at 2^64 - 1.
    fn room(&self) -> u64 {
        (self.page - (self.address & self.page)).saturating_add(1)
    }
}

/// What an access is for: what the device is asked, what must be allowed, and whether it is told when it is refused.
#[derive(Clone, Copy)]
pub(crate) struct Purpose {
    asks: IommuAccess,
    needs: IommuPerm,
    /// What is refused is not told in the log: an access follows that will be.
    silent: bool,
}

impl Purpose {
    const READ: Self = Self { asks: IommuAccess::Read, needs: IommuPerm::READ, silent: false };
    const WRITE: Self = Self { asks: IommuAccess::Write, needs: IommuPerm::WRITE, silent: false };
    const PEEK: Self = Self { asks: IommuAccess::Look, needs: IommuPerm::READ, silent: true };
    const POKE: Self = Self { asks: IommuAccess::Look, needs: IommuPerm::WRITE, silent: true };

    pub fn of(write: bool) -> Self {
        if write { Self::WRITE } else { Self::READ }
    }

    /// To ask what an access would meet.
    pub fn question(write: bool) -> Self {
        if write { Self::POKE } else { Self::PEEK }
    }

    /// To hold memory for a while.
    pub fn of_mapping(write: bool) -> Self {
        Self { silent: true, ..Self::of(write) }
    }

    fn writes(self) -> bool {
        self.needs.contains(IommuPerm::WRITE)
    }

    fn only_looks(self) -> bool {
        matches!(self.asks, IommuAccess::Look)
    }
}

/// How much is accessed, and so what an error is about.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// One access, as it is.
    Exactly(u32),
    /// As much as goes together.
    UpTo(usize),
}

impl Wanted {
    fn bytes(self) -> u32 {
        match self {
            Self::Exactly(size) => size,
            Self::UpTo(left) => u32::try_from(left).unwrap_or(u32::MAX),
        }
    }

    /// What goes together may be only so much.
    fn at_most(self, room: u64) -> Self {
        match self {
            Self::UpTo(left) => Self::UpTo(usize::try_from(room).map_or(left, |room| room.min(left))),
            exactly @ Self::Exactly(_) => exactly,
        }
    }
}

/// What stands behind all IOMMUs.
pub(crate) struct End<'e> {
    pub port: Port<'e>,
    pub view: &'e PinnedView<'e>,
    /// Not an IOMMU's; `None`: nothing is there.
    pub range: Option<&'e FlatRange>,
    pub address: u64,
    /// How many bytes go there together: up to the first end of a page or an IOMMU's range on the way.
    pub room: u64,
    /// The smallest mask on the way.
    page: u64,
}

impl End<'_> {
    /// What is there, if all of an access of `size` bytes goes there.
    fn whole(&self, size: u32) -> Option<&FlatRange> {
        self.range.filter(|_| self.room >= u64::from(size))
    }
}

/// How many of the bytes that are left an error is about that came before any was accessed.
fn lost_bytes(done: &Result<(), MemTxError>, left: usize) -> usize {
    done.as_ref().err().map_or(left, |e| e.size() as usize).clamp(1, left)
}

impl<'a> Port<'a> {
    /// How many IOMMUs may stand one behind the other on the way of one access. QEMU follows them for ever.
    pub const MAX_IOMMUS: u32 = 16;

    /// A space through a reader, outside of any access.
    pub(crate) fn of(reader: &'a Reader, space: &'a AddressSpace) -> Self {
        Self { space: &space.inner, ..Self::outermost(reader, crate::MemTxAttrs::UNSPECIFIED) }
    }

    /// An access that an IOMMU does not let through, told in the log as QEMU does: as one where nothing is mapped.
    fn lost(
        &self,
        range: &FlatRange,
        addr: u64,
        wanted: Wanted,
        purpose: Purpose,
        reason: Reason,
    ) -> MemTxError {
        let denied = reason == Reason::IommuDenied;
        let offset = range.offset_of(addr);
        let size = match wanted {
            // QEMU: what goes nowhere goes there in pieces as where nothing is mapped, of which each is translated. (QEMU
            // has no pages smaller than these.)
            Wanted::UpTo(_) if denied => {
                let page = range.body().iommu().map_or(1, |iommu| iommu.room_in_smallest_page(offset));
                self.bus_piece(None, offset, wanted.at_most(page).bytes() as usize, |_| false).0 as u32
            }
            // Everything else would be the same for each piece.
            all => all.bytes(),
        };
        if !purpose.silent {
            self.reader.memory.tell(&InvalidAccess {
                write: purpose.writes(),
                addr: offset,
                size,
                region: if denied { None } else { Some(range.name()) },
                reason: if denied { Reason::Rejected } else { reason },
            });
        }
        MemTxError::refused(reason).at(addr, size, Some(range.region()))
    }

    /// One step: where the byte at `addr`, which is in the IOMMU's `range`, goes. `reader` is the port's, which lives
    /// longer than the port may.
    fn onward<'r>(
        &self,
        reader: &'r Reader,
        range: &FlatRange,
        addr: u64,
        wanted: Wanted,
        purpose: Purpose,
    ) -> Result<Onward<'r>, MemTxError> {
        let lost = |reason| self.lost(range, addr, wanted, purpose, reason);
        let Some(iommu) = range.body().iommu() else {
            return Err(lost(Reason::Rejected));
        };
        if u32::from(self.iommus) >= Self::MAX_IOMMUS {
            return Err(lost(Reason::IommuLoop));
        }
        if !purpose.only_looks() && writing() {
            return Err(lost(Reason::InsideUpdate));
        }
        let offset = range.offset_of(addr);
        let index = iommu.index(self.attrs);
        // I1: before the device is asked.
        let generation = iommu.handle.generation();
        let key = Key { region: range.region(), index, write: purpose.writes() };
        if !purpose.only_looks()
            && let Some(iotlb) = reader.iotlb.get()
            && let Some((space, address, page)) = iotlb.find(&key, offset, generation)
        {
            return Ok(Onward::of(Held::Kept(space), offset, address, page));
        }
        if nesting() >= Access::MAX_DEPTH {
            return Err(lost(Reason::TooDeep));
        }
        let _running = InCallback::enter();
        let way = self.way(range);
        let access = self.access(&way, addr, 1, purpose.writes());
        if access.is_translated_already() {
            return Err(lost(Reason::Reentry));
        }
        let entry = iommu.ops.translate(&IommuRequest::new(offset, purpose.asks, index, &access));
        let target = entry.target.shared().filter(|_| entry.perm.contains(purpose.needs));
        let Some(target) = target else {
            return Err(lost(Reason::IommuDenied));
        };
        let (address, page) = (entry.address, entry.page());
        if !purpose.only_looks() {
            let iotlb = reader.iotlb.get_or_init(|| Box::new(Iotlb::new()));
            if let Some(kept) = iotlb.keep(&key, offset, generation, &target, (address, page)) {
                return Ok(Onward::of(Held::Kept(kept), offset, address, page));
            }
        }
        Ok(Onward::of(Held::Own(target), offset, address, page))
    }

    /// Follows an access at `addr`, which is in the IOMMU's `range`, to the end, and does `f` there. Of the views on the
    /// way only the last one is held. Errors get their place as the initiator sees it.
    pub(crate) fn at_end<R>(
        &self,
        range: &FlatRange,
        addr: u64,
        wanted: Wanted,
        purpose: Purpose,
        f: impl FnOnce(&End<'_>) -> Result<R, MemTxError>,
    ) -> Result<R, MemTxError> {
        let here = |e: MemTxError| e.moved_to(addr);
        let mut onward = self.onward(self.reader, range, addr, wanted, purpose).map_err(here)?;
        let (mut room, mut page) = (range.room(addr).min(onward.room()), onward.page);
        let mut wanted = wanted.at_most(room);
        let mut iommus = self.iommus;
        loop {
            iommus += 1;
            let port = Port { space: &onward.space, iommus, ..*self };
            let unseen = |e: MemTxError| e.at(addr, wanted.bytes(), Some(range.region()));
            let view = self.reader.pin(port.space).map_err(unseen)?;
            let address = onward.address;
            match view.lookup(address) {
                Some(range) if range.is_iommu() => {
                    room = room.min(range.room(address));
                    wanted = wanted.at_most(room);
                    let next = port.onward(self.reader, range, address, wanted, purpose).map_err(here)?;
                    room = room.min(next.room());
                    wanted = wanted.at_most(room);
                    page &= next.page;
                    drop(view);
                    onward = next;
                }
                range => {
                    let there =
                        |e: MemTxError| e.moved_to(addr.wrapping_add(e.address().wrapping_sub(address)));
                    return f(&End { port, view: &view, range, address, room, page }).map_err(there);
                }
            }
        }
    }

    // Bus.

    /// The part of a bus read in an IOMMU's range.
    #[cold]
    #[inline(never)]
    pub(super) fn read_through(
        &self,
        range: &FlatRange,
        addr: u64,
        out: &mut [u8],
    ) -> Result<(), MemTxError> {
        self.read_pages(range, addr, out, Purpose::READ, |end, now| {
            end.port.read_in(end.view, end.address, now)
        })
    }

    /// The part of a look in an IOMMU's range.
    #[cold]
    #[inline(never)]
    pub(super) fn peek_through(
        &self,
        range: &FlatRange,
        addr: u64,
        out: &mut [u8],
    ) -> Result<(), MemTxError> {
        self.read_pages(range, addr, out, Purpose::PEEK, |end, now| {
            end.port.peek_in(end.view, end.address, now)
        })
    }

    fn read_pages(
        &self,
        range: &FlatRange,
        addr: u64,
        out: &mut [u8],
        purpose: Purpose,
        read: impl Fn(&End<'_>, &mut [u8]) -> Result<(), MemTxError>,
    ) -> Result<(), MemTxError> {
        let mut result = Ok(());
        let (mut addr, mut rest) = (addr, out);
        while !rest.is_empty() {
            let mut piece = None;
            let done = self.at_end(range, addr, Wanted::UpTo(rest.len()), purpose, |end| {
                let together = usize::try_from(end.room).map_or(rest.len(), |room| room.min(rest.len()));
                piece = Some(together);
                rest.get_mut(..together).map_or(Ok(()), |now| read(end, now))
            });
            let reached = piece.is_some();
            let piece = piece.unwrap_or_else(|| lost_bytes(&done, rest.len()));
            let (now, later) = std::mem::take(&mut rest).split_at_mut(piece);
            if !reached {
                now.fill(0);
            }
            result = join(result, done);
            addr = addr.wrapping_add(piece as u64);
            rest = later;
        }
        result
    }

    /// The part of a bus write in an IOMMU's range.
    #[cold]
    #[inline(never)]
    pub(super) fn write_through(&self, range: &FlatRange, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        // As for a device that is seen through something read-only.
        if range.readonly() {
            return Err(self.lost(range, addr, Wanted::UpTo(bytes.len()), Purpose::WRITE, Reason::Rejected));
        }
        self.write_pages(range, addr, bytes, Purpose::WRITE, |end, now| {
            end.port.write_in(end.view, end.address, now)
        })
    }

    /// The part of a debug write in an IOMMU's range.
    #[cold]
    #[inline(never)]
    pub(super) fn poke_through(&self, range: &FlatRange, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        self.write_pages(range, addr, bytes, Purpose::POKE, |end, now| {
            end.port.poke_in(end.view, end.address, now)
        })
    }

    fn write_pages(
        &self,
        range: &FlatRange,
        addr: u64,
        bytes: &[u8],
        purpose: Purpose,
        write: impl Fn(&End<'_>, &[u8]) -> Result<(), MemTxError>,
    ) -> Result<(), MemTxError> {
        let mut result = Ok(());
        let (mut addr, mut rest) = (addr, bytes);
        while !rest.is_empty() {
            let mut piece = None;
            let done = self.at_end(range, addr, Wanted::UpTo(rest.len()), purpose, |end| {
                let together = usize::try_from(end.room).map_or(rest.len(), |room| room.min(rest.len()));
                piece = Some(together);
                rest.get(..together).map_or(Ok(()), |now| write(end, now))
            });
            let piece = piece.unwrap_or_else(|| lost_bytes(&done, rest.len()));
            result = join(result, done);
            addr = addr.wrapping_add(piece as u64);
            rest = rest.get(piece..).unwrap_or_default();
        }
        result
    }

    // CPU.

    /// A CPU's load in an IOMMU's range, if it is wholly in one page of one RAM; in host order.
    #[cold]
    #[inline(never)]
    pub(super) fn cpu_load_through<V: Value>(
        &self,
        range: &FlatRange,
        addr: u64,
    ) -> Result<Option<V>, MemTxError> {
        self.at_end(range, addr, Wanted::Exactly(V::SIZE), Purpose::READ, |end| {
            let ram = end.whole(V::SIZE).and_then(|r| Some((r.readable_ram()?, end.address - r.start())));
            Ok(ram.and_then(|(ram, offset)| ram.load::<V>(offset)))
        })
    }

    /// A CPU's store in an IOMMU's range, in host order: whether it was done, or is to be dropped.
    #[cold]
    #[inline(never)]
    pub(super) fn cpu_store_through<V: Value>(
        &self,
        range: &FlatRange,
        addr: u64,
        native: V,
    ) -> Result<bool, MemTxError> {
        if range.readonly() {
            return Ok(false);
        }
        self.at_end(range, addr, Wanted::Exactly(V::SIZE), Purpose::WRITE, |end| {
            let Some(range) = end.whole(V::SIZE) else {
                return Ok(false);
            };
            if range.store(end.address, native).is_some() {
                super::port::late(end.view, end.address, V::SIZE.into());
                return Ok(true);
            }
            Ok(range.drops_stores() && range.room(end.address) >= u64::from(V::SIZE))
        })
    }

    /// Where an address leads, through all IOMMUs, for a read or a write, as who caches translations wants to know (QEMU:
    /// `address_space_get_iotlb_entry`). The device is asked as for an access.
    ///
    /// # Errors
    /// [`MemTxError`] if an IOMMU does not allow it, or nothing is there.
    pub fn iotlb_entry(&self, addr: u64, write: bool) -> Result<IotlbEntry, MemTxError> {
        /// QEMU: of a target's page.
        const PAGE: u64 = 0xfff;
        let view = self.reader.pin(self.space)?;
        let nothing = |addr| MemTxError::refused(Reason::Rejected).at(addr, 1, None);
        match view.lookup(addr) {
            None => Err(nothing(addr)),
            Some(range) if range.is_iommu() => {
                self.at_end(range, addr, Wanted::Exactly(1), Purpose::of(write), |end| {
                    end.range.ok_or(nothing(end.address))?;
                    let (space, mask) = (end.port.space.id, end.page);
                    Ok(IotlbEntry { space, iova: addr & !mask, address: end.address & !mask, mask })
                })
            }
            Some(_) => {
                let page = addr & !PAGE;
                Ok(IotlbEntry { space: self.space.id, iova: page, address: page, mask: PAGE })
            }
        }
    }
}

impl Access<'_> {
    fn as_port(&self) -> Port<'_> {
        let Self { reader, attrs, .. } = *self;
        let space = self.way.map_or(&*reader.space, |way| way.space);
        Port { reader, space, attrs, iommus: 0, outer: self.outer() }
    }

    /// Whether the device is in the middle of translating the same for an access that this one is part of: it keeps its
    /// tables where only itself leads to.
    fn is_translated_already(&self) -> bool {
        let what = |a: &Access<'_>| (a.range().region(), a.offset(), a.write);
        let same = |outer: &Access<'_>| outer.range().is_iommu() && what(outer) == what(self);
        std::iter::successors(self.outer(), |a| a.outer()).any(same)
    }

    /// An exact read of an IOMMU's range; the value is in the range's order.
    #[cold]
    #[inline(never)]
    pub(super) fn read_exact_through(&self) -> Result<u64, MemTxError> {
        let (size, order) = (self.size(), self.range().order());
        self.as_port().at_end(self.range(), self.address, Wanted::Exactly(size), Purpose::READ, |end| {
            let mut bytes = [0; 8];
            let bytes = bytes.get_mut(..size as usize).unwrap_or_default();
            let ram = end.whole(size).and_then(|r| Some((r.readable_ram()?, end.address - r.start())));
            if ram.and_then(|(ram, offset)| ram.read(offset, bytes)).is_some() {
                return Ok(value_of(bytes, order));
            }
            let Some(range) = end.range else {
                return Err(end.port.unassigned(end.address, size, false));
            };
            let value = end.port.call_read(range, end.address, size)?;
            Ok(reorder(value, size, range.order(), order))
        })
    }

    /// An exact write to an IOMMU's range of a value in the range's order.
    #[cold]
    #[inline(never)]
    pub(super) fn write_exact_through(&self, value: u64) -> Result<(), MemTxError> {
        let (size, order) = (self.size(), self.range().order());
        self.as_port().at_end(self.range(), self.address, Wanted::Exactly(size), Purpose::WRITE, |end| {
            let mut bytes = [0; 8];
            let bytes = bytes.get_mut(..size as usize).unwrap_or_default();
            put_value(value, order, bytes);
            let ram = end.whole(size).and_then(|r| Some((r, r.writable_ram()?)));
            if let Some((range, ())) =
                ram.and_then(|(r, ram)| Some((r, ram.write(end.address - r.start(), bytes)?)))
            {
                super::port::wrote(end.view, range, end.address, size.into());
                return Ok(());
            }
            let Some(range) = end.range else {
                return Err(end.port.unassigned(end.address, size, true));
            };
            end.port.call_write(range, end.address, size, reorder(value, size, order, range.order()))
        })
    }
}

impl FlatRange {
    /// Whether a CPU's store to it is dropped: it is ROM.
    pub(super) fn drops_stores(&self) -> bool {
        self.memory().is_some() && (self.readonly() || matches!(self.body().kind, Kind::Ram))
    }
}
