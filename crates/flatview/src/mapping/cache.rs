//! A run of memory that is accessed over and over.
//!
//! What it is: [`RegionCache`] (QEMU: `MemoryRegionCache`), which has looked up once what a device accesses all the time: a
//! ring of descriptors, say. What it is not: up to date; whoever uses one makes a new one when the map changes.
//!
//! What must hold, besides G1 to G3 of [`mapping`](super): an access to RAM is a check of bounds and the access itself; a
//! cache of RAM keeps the RAM and nothing else. Only a cache of what is not RAM keeps its view, and with it the devices in
//! it.

use std::fmt;
use std::sync::{Arc, Weak};

use super::direct::DirectRam;
use super::{Direction, MapError};
use crate::access::from_memory;
use crate::span::Span;
use crate::view::{FlatRange, FlatView};
use crate::{
    AddressSpace, ByteOrder, HostPtr, MemTxAttrs, MemTxError, Port, RamBlock, Reader, Reason, RegionId,
    Value, WeakSpace,
};

/// A run of memory, looked up once and accessed over and over at offsets from its start (QEMU: `MemoryRegionCache`).
///
/// It shows the map as it was when it was made, for ever: of RAM it keeps the RAM, of all else the view it was in.
/// [`is_current`](Self::is_current) tells whether a new one would be the same; a [listener](crate::MemoryListener) is told
/// when to look. A device that keeps one of what is not RAM keeps the devices of its view alive, maybe itself: drop it with
/// the machine.
///
/// ```
/// use flatview::{Direction, Endianness, Le, Memory, RamBlock, Region};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = Memory::new(Endianness::Little);
/// let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 0x1_0000)?))?;
/// memory.map(memory.system(), 0x1000, ram)?;
///
/// let ring = memory.memory_space().cache(0x2000, 0x100, Direction::Write)?;
/// ring.store::<Le, u16>(2, 0x1234)?; // at 0x2002
/// assert_eq!(ring.load::<Le, u16>(2)?, 0x1234);
/// assert!(ring.load::<Le, u32>(0xfe).is_err()); // two bytes too far
///
/// memory.update(|t| t.set_address(ram, 0))?;
/// assert!(!ring.is_current());
/// assert_eq!(ring.load::<Le, u16>(2)?, 0x1234); // the same RAM as before
/// # Ok(())
/// # }
/// ```
pub struct RegionCache {
    target: Target,
    addr: u64,
    len: u64,
    direction: Direction,
    attrs: MemTxAttrs,
    space: WeakSpace,
    /// The view it was made from: only its place in memory, which nobody else gets while this lives.
    view: Weak<FlatView>,
}

enum Target {
    Ram(DirectRam),
    /// Accesses go the long way, through the view.
    Other(Arc<FlatView>),
}

impl fmt::Debug for RegionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_ram() { "RAM" } else { "not RAM" };
        write!(f, "RegionCache({:#x} bytes at {:#x}, {what}, {:?})", self.len, self.addr, self.direction)
    }
}

impl Port<'_> {
    /// Looks up `len` bytes at `addr`, or as many of them as one cache can have, to be accessed over and over (QEMU:
    /// `address_space_cache_init`). See [`RegionCache`]. Other than a [mapping](Self::map), it may be read in any case.
    ///
    /// RAM is cached as far as it is one run of the same region. What is not RAM that can be accessed that way, and what is
    /// behind an IOMMU, is accessed as through this port, in the view of now.
    ///
    /// # Errors
    /// [`MapError::Empty`], [`MapError::Access`].
    pub fn cache(&self, addr: u64, len: u64, direction: Direction) -> Result<RegionCache, MapError> {
        if len == 0 {
            return Err(MapError::Empty { address: addr });
        }
        let view = self.pin()?;
        let range = view.lookup(addr);
        let allowed = self.is_allowed(range);
        let shared = view.share();
        let weak = Arc::downgrade(&shared);
        let (target, len) = match DirectRam::find(&view, addr, len, direction).filter(|_| allowed) {
            Some(ram) => {
                let len = ram.len();
                (Target::Ram(ram), len)
            }
            None => {
                // QEMU: only RAM ends a run; what devices take reaches over their ends.
                let room = range.filter(|range| range.is_ram()).map(|range| range.room(addr));
                let room = room.unwrap_or_else(|| (u64::MAX - addr).saturating_add(1));
                (Target::Other(shared), len.min(room))
            }
        };
        let (attrs, space) = (self.attrs(), self.weak_space());
        Ok(RegionCache { target, addr, len, direction, attrs, space, view: weak })
    }
}

impl Reader {
    /// See [`Port::cache`].
    ///
    /// # Errors
    /// See there.
    pub fn cache(&self, addr: u64, len: u64, direction: Direction) -> Result<RegionCache, MapError> {
        self.port(MemTxAttrs::UNSPECIFIED).cache(addr, len, direction)
    }
}

impl AddressSpace {
    /// See [`Port::cache`].
    ///
    /// # Errors
    /// See there.
    pub fn cache(&self, addr: u64, len: u64, direction: Direction) -> Result<RegionCache, MapError> {
        self.reader().cache(addr, len, direction)
    }
}

impl RegionCache {
    /// The address that was cached, at offset 0.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.addr
    }

    /// How many bytes can be accessed, at least one; maybe fewer than were asked for.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a cache has a byte at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What it was made for. A cache for [reading](Direction::Read) cannot be written; any can be read.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether accesses go to RAM without a detour.
    #[must_use]
    pub fn is_ram(&self) -> bool {
        matches!(self.target, Target::Ram(_))
    }

    /// The RAM as a guarded pointer that outlives the cache; `None` if it is not RAM. Whoever writes through it says so, by
    /// [`invalidate`](Self::invalidate) or [`HostPtr::mark_dirty`].
    #[must_use]
    pub fn host_ptr(&self) -> Option<HostPtr> {
        match &self.target {
            Target::Ram(ram) => ram.host(),
            Target::Other(_) => None,
        }
    }

    /// Whether a cache made now would be of the same. Quick while the map has not changed at all.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let Some(space) = self.space.upgrade() else {
            return false;
        };
        if space.inner.slot.load().publishes(self.view.as_ptr()) {
            return true;
        }
        let reader = space.reader();
        let port = reader.port(self.attrs);
        let Ok(now) = port.pin() else {
            return false;
        };
        match &self.target {
            Target::Ram(ram) => DirectRam::find(&now, self.addr, self.len, self.direction)
                .is_some_and(|new| new.is_same(ram) && port.is_allowed(now.lookup(self.addr))),
            Target::Other(view) => {
                let last = self.addr.saturating_add(self.len - 1);
                let window = Span { start: self.addr, last };
                parts(view, window) == parts(&now, window)
            }
        }
    }

    #[cold]
    fn refused(&self, reason: Reason, offset: u64, size: u64) -> MemTxError {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        MemTxError::refused(reason).at(self.addr.wrapping_add(offset), size, None)
    }

    /// The RAM, if it may be written.
    #[inline]
    fn ram_to_write(&self) -> Option<&DirectRam> {
        match &self.target {
            Target::Ram(ram) if self.direction.writes() => Some(ram),
            _ => None,
        }
    }

    /// The value at an offset (QEMU: `address_space_ldl_le_cached` and its kin): from RAM at any alignment; all else is
    /// accessed as by [`Port::load`].
    ///
    /// # Errors
    /// [`Reason::OutsideMapping`] if it is not all inside, or as [`Port::load`].
    #[inline]
    pub fn load<O: ByteOrder, V: Value>(&self, offset: u64) -> Result<V, MemTxError> {
        if let Target::Ram(ram) = &self.target
            && let Some(native) = ram.memory().and_then(|ram| ram.load::<V>(offset))
        {
            return Ok(from_memory::<O, V>(native));
        }
        self.load_slow::<O, V>(offset)
    }

    #[cold]
    #[inline(never)]
    fn load_slow<O: ByteOrder, V: Value>(&self, offset: u64) -> Result<V, MemTxError> {
        self.slow(offset, V::SIZE.into(), |port, addr| port.load::<O, V>(addr))
    }

    /// Stores a value at an offset (QEMU: `address_space_stl_le_cached` and its kin), and marks it.
    ///
    /// # Errors
    /// [`Reason::OutsideMapping`] if it is not all inside, [`Reason::MappedForReading`], or as [`Port::store`].
    #[inline]
    pub fn store<O: ByteOrder, V: Value>(&self, offset: u64, value: V) -> Result<(), MemTxError> {
        if let Some(ram) = self.ram_to_write()
            && let Some(()) = ram.memory().and_then(|m| m.store(offset, from_memory::<O, V>(value)))
        {
            ram.mark(offset, V::SIZE.into());
            return Ok(());
        }
        self.store_slow::<O, V>(offset, value)
    }

    #[cold]
    #[inline(never)]
    fn store_slow<O: ByteOrder, V: Value>(&self, offset: u64, value: V) -> Result<(), MemTxError> {
        self.slow_write(offset, V::SIZE.into(), |port, addr| port.store::<O, V>(addr, value))
    }

    /// Reads bytes from an offset on (QEMU: `address_space_read_cached`); from what is not RAM as by [`Port::read`].
    ///
    /// # Errors
    /// [`Reason::OutsideMapping`] if they are not all inside (none is read then), or as [`Port::read`].
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        if let Target::Ram(ram) = &self.target
            && ram.memory().and_then(|m| m.read(offset, out)).is_some()
        {
            return Ok(());
        }
        self.slow(offset, out.len() as u64, |port, addr| port.read(addr, out))
    }

    /// Writes bytes from an offset on (QEMU: `address_space_write_cached`), and marks them; to what is not RAM as by
    /// [`Port::write`].
    ///
    /// # Errors
    /// [`Reason::OutsideMapping`] if they are not all inside (none is written then), [`Reason::MappedForReading`], or as
    /// [`Port::write`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        let size = bytes.len() as u64;
        if let Some(ram) = self.ram_to_write()
            && ram.memory().and_then(|m| m.write(offset, bytes)).is_some()
        {
            ram.mark(offset, size);
            return Ok(());
        }
        self.slow_write(offset, size, |port, addr| port.write(addr, bytes))
    }

    /// Notes that `len` bytes at `offset` were written through the [pointer](Self::host_ptr) (QEMU:
    /// `address_space_cache_invalidate`). The methods here do that themselves.
    ///
    /// # Errors
    /// [`Reason::OutsideMapping`] if they are not all inside, [`Reason::MappedForReading`].
    pub fn invalidate(&self, offset: u64, len: u64) -> Result<(), MemTxError> {
        self.check(offset, len)?;
        if !self.direction.writes() {
            return Err(self.refused(Reason::MappedForReading, offset, len));
        }
        if let Some(ram) = self.ram_to_write() {
            ram.mark(offset, len);
        }
        Ok(())
    }

    fn check(&self, offset: u64, size: u64) -> Result<(), MemTxError> {
        if offset > self.len || self.len - offset < size {
            return Err(self.refused(Reason::OutsideMapping, offset, size));
        }
        Ok(())
    }

    /// An access through the view of what is not RAM.
    fn slow<R>(
        &self,
        offset: u64,
        size: u64,
        access: impl FnOnce(Port<'_>, u64) -> Result<R, MemTxError>,
    ) -> Result<R, MemTxError> {
        self.check(offset, size)?;
        let Target::Other(view) = &self.target else {
            // RAM takes all that is inside.
            return Err(self.refused(Reason::OutsideMapping, offset, size));
        };
        let space = self.space.upgrade().ok_or_else(|| self.refused(Reason::SpaceGone, offset, size))?;
        let reader = space.frozen(view).reader();
        access(reader.port(self.attrs), self.addr.wrapping_add(offset))
    }

    fn slow_write(
        &self,
        offset: u64,
        size: u64,
        access: impl FnOnce(Port<'_>, u64) -> Result<(), MemTxError>,
    ) -> Result<(), MemTxError> {
        if !self.direction.writes() {
            return Err(self.refused(Reason::MappedForReading, offset, size));
        }
        self.check(offset, size)?;
        let done = self.slow(offset, size, access);
        if let (Target::Other(view), Some(more)) = (&self.target, size.checked_sub(1)) {
            // RAM among it: the view may be old, and others may log it now (G2).
            let start = self.addr.wrapping_add(offset);
            let window = Span { start, last: start.saturating_add(more) };
            for range in view.ranges_from(start).take_while(|range| range.start() <= window.last) {
                if let Some(part) =
                    range.span().intersection(window).filter(|_| range.writable_ram().is_some())
                {
                    range.mark_for_all(part.start, u64::try_from(part.size()).unwrap_or(u64::MAX));
                }
            }
        }
        done
    }
}

/// What an access can tell of a range.
#[derive(PartialEq, Eq)]
struct Part {
    span: Span,
    region: RegionId,
    offset: u64,
    readonly: bool,
    romd: bool,
    block: Option<*const RamBlock>,
}

/// What a view shows in a window.
fn parts(view: &FlatView, window: Span) -> Vec<Part> {
    let ranges = view.ranges_from(window.start).take_while(|range| range.start() <= window.last);
    let part = |range: &FlatRange| {
        let span = range.span().intersection(window)?;
        Some(Part {
            span,
            region: range.region(),
            offset: range.offset_of(span.start),
            readonly: range.readonly(),
            romd: range.romd(),
            block: range.block().map(|(block, _)| Arc::as_ptr(block)),
        })
    };
    ranges.filter_map(part).collect()
}
