//! A run of memory that a device works on.
//!
//! What it is: [`Mapped`] (QEMU: what `address_space_map` gives), a guard over RAM, or over a copy of what is not RAM. What
//! it is not: a view of the map; the map may change while it lives, and it does not.
//!
//! What must hold, besides G1 to G3 of [`mapping`](super): what the guard's own methods write to RAM is marked at once;
//! what was written through its pointer is marked when it is unmapped, or, if nobody said how much, all of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::bounce::Room;
use super::direct::DirectRam;
use super::{Direction, MapError};
use crate::access::from_memory;
use crate::memtx::join;
use crate::ram::RamSpan;
use crate::{
    AddressSpace, ByteOrder, HostPtr, MemTxAttrs, MemTxError, Port, RamBlock, Reader, Reason, Value,
    WeakSpace,
};

/// A bounce buffer is written back so many bytes at a time.
const CHUNK: u64 = 4096;

/// A run of guest memory, mapped for a device (QEMU: `address_space_map`).
///
/// If it is RAM that may be accessed that way it *is* the RAM, whatever becomes of the map, until the guard is gone:
/// as much of it as is one run of the same region. If not (a device, ROM that is to be written, nothing) it is a *bounce
/// buffer*: a copy that was read over the bus when it was mapped (unless it is for [writing](Direction::Write) only: then it
/// is zeros), and that [`unmap`](Self::unmap) writes back over the bus, to whatever answers there then.
///
/// **Unmap it** and say how much was accessed. A guard that is dropped writes no bounce buffer back, and, if its
/// [pointer](Self::as_ptr) was asked for, makes all RAM that it was mapped to write dirty: nobody knows what was written.
///
/// The guest may change RAM at any time, so it is never lent as a slice.
///
/// ```
/// use flatview::{Direction, Endianness, Le, Memory, RamBlock, Region};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = Memory::new(Endianness::Little);
/// let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 0x1_0000)?))?;
/// memory.map(memory.system(), 0, ram)?;
/// let reader = memory.memory_space().reader();
///
/// let sector = reader.map(0x8000, 512, Direction::Write)?;
/// assert!(sector.is_direct() && sector.len() == 512);
/// sector.write(0, &[0xaa; 512])?;
/// sector.store::<Le, u16>(510, 0xaa55)?;
/// sector.unmap(512)?;
/// assert_eq!(reader.load::<Le, u32>(0x81fc)?, 0xaa55_aaaa);
/// # Ok(())
/// # }
/// ```
#[must_use = "a mapping that is dropped writes no bounce buffer back"]
pub struct Mapped {
    /// The RAM, or the bounce buffer.
    ram: DirectRam,
    addr: u64,
    direction: Direction,
    /// Somebody may have written through the pointer.
    lent: AtomicBool,
    bounce: Option<Box<Bounce>>,
}

/// What a bounce buffer knows besides its bytes.
struct Bounce {
    /// Kept weakly: a device may keep its mappings.
    space: WeakSpace,
    attrs: MemTxAttrs,
    /// How reading the contents went.
    contents: Result<(), MemTxError>,
    #[expect(dead_code, reason = "returns the bytes when it goes")]
    room: Room,
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_direct() { "RAM" } else { "bounce buffer" };
        write!(f, "Mapped({:#x} bytes at {:#x}, {what}, {:?})", self.len(), self.addr, self.direction)
    }
}

impl Port<'_> {
    /// Maps memory for a device to work on: `len` bytes at `addr`, or as many of them as can be had (QEMU:
    /// `address_space_map`); see [`Mapped`]. Never past the last address.
    ///
    /// RAM is mapped as far as it is one run of the same region, in the view and in the host. An IOMMU is asked for each page
    /// when memory behind it is mapped, and not again: what it says later does not end the mapping. A bounce buffer has as many
    /// bytes as the space's [budget](AddressSpace::set_bounce_budget) has left, and reaches over whatever stands there. That
    /// reading it failed is no error here; what could not be read is zeros, and [`Mapped::contents`] and
    /// [`Mapped::unmap`] tell.
    ///
    /// # Errors
    /// [`MapError::NoRoom`] if it must bounce and the budget is used up ([`AddressSpace::on_room`] tells when there is
    /// room); [`MapError::Empty`], [`MapError::NoMemory`], [`MapError::Access`].
    pub fn map(&self, addr: u64, len: u64, direction: Direction) -> Result<Mapped, MapError> {
        if len == 0 {
            return Err(MapError::Empty { address: addr });
        }
        let direct = {
            let view = self.pin()?;
            self.find_ram(&view, addr, len, direction)
        };
        match direct {
            Some(ram) => Ok(Mapped { ram, addr, direction, lent: AtomicBool::new(false), bounce: None }),
            None => self.map_bounced(addr, len, direction),
        }
    }

    #[cold]
    #[inline(never)]
    fn map_bounced(&self, addr: u64, len: u64, direction: Direction) -> Result<Mapped, MapError> {
        let to_the_end = (u64::MAX - addr).saturating_add(1);
        let space = self.space();
        let refused = || MapError::NoRoom {
            space: Arc::clone(&space.name),
            address: addr,
            budget: space.bounce.budget(),
        };
        let room = Room::take(space, len.min(to_the_end)).ok_or_else(refused)?;
        let no_memory =
            || MapError::NoMemory { space: Arc::clone(&space.name), address: addr, len: room.bytes() };
        let size = usize::try_from(room.bytes()).map_err(|_| no_memory())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| no_memory())?;
        bytes.resize(size, 0);
        let contents = if direction.reads() { self.read(addr, &mut bytes) } else { Ok(()) };
        let bytes: Box<[AtomicU8]> = bytes.into_iter().map(AtomicU8::new).collect();
        let block = RamBlock::from_buffer("bounce", bytes).map_err(|_| no_memory())?;
        let ram = DirectRam::of_block(&block, 0, block.size()).ok_or_else(no_memory)?;
        let bounce = Bounce { space: self.weak_space(), attrs: self.attrs(), contents, room };
        Ok(Mapped { ram, addr, direction, lent: AtomicBool::new(false), bounce: Some(Box::new(bounce)) })
    }
}

impl Reader {
    /// See [`Port::map`].
    ///
    /// # Errors
    /// See there.
    pub fn map(&self, addr: u64, len: u64, direction: Direction) -> Result<Mapped, MapError> {
        self.port(MemTxAttrs::UNSPECIFIED).map(addr, len, direction)
    }
}

impl AddressSpace {
    /// See [`Port::map`].
    ///
    /// # Errors
    /// See there.
    pub fn map(&self, addr: u64, len: u64, direction: Direction) -> Result<Mapped, MapError> {
        self.reader().map(addr, len, direction)
    }
}

impl Mapped {
    /// The address that was mapped.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.addr
    }

    /// How many bytes are mapped, at least one; maybe fewer than were asked for.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ram.len()
    }

    /// Never: a mapping has a byte at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What it was mapped for.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether it is the memory itself and not a bounce buffer.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.bounce.is_none()
    }

    /// How reading the contents of a bounce buffer went; what could not be read is zeros.
    ///
    /// # Errors
    /// [`MemTxError`] as from [`Port::read`].
    pub fn contents(&self) -> Result<(), MemTxError> {
        self.bounce.as_ref().map_or(Ok(()), |bounce| bounce.contents)
    }

    #[cold]
    fn refused(&self, reason: Reason, offset: u64, size: u64) -> MemTxError {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        MemTxError::refused(reason).at(self.addr.wrapping_add(offset), size, None)
    }

    #[inline]
    fn span(&self, offset: u64, size: u64) -> Result<RamSpan<'_>, MemTxError> {
        self.ram.memory().ok_or_else(|| self.refused(Reason::OutsideMapping, offset, size))
    }

    #[inline]
    fn span_to_write(&self, offset: u64, size: u64) -> Result<RamSpan<'_>, MemTxError> {
        if !self.direction.writes() {
            return Err(self.refused(Reason::MappedForReading, offset, size));
        }
        self.span(offset, size)
    }

    /// Copies bytes out, from `offset` of the mapping on.
    ///
    /// # Errors
    /// [`Reason::OutsideMapping`] if they are not all inside.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        let size = out.len() as u64;
        let outside = || self.refused(Reason::OutsideMapping, offset, size);
        self.span(offset, size)?.read(offset, out).ok_or_else(outside)
    }

    /// Copies bytes in, from `offset` of the mapping on.
    ///
    /// # Errors
    /// [`Reason::OutsideMapping`] if they are not all inside, [`Reason::MappedForReading`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        let size = bytes.len() as u64;
        let outside = || self.refused(Reason::OutsideMapping, offset, size);
        self.span_to_write(offset, size)?.write(offset, bytes).ok_or_else(outside)?;
        self.ram.mark(offset, size);
        Ok(())
    }

    /// The value at `offset` of the mapping, at any alignment; in one piece if it is naturally aligned in the host.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn load<O: ByteOrder, V: Value>(&self, offset: u64) -> Result<V, MemTxError> {
        let size = V::SIZE.into();
        let value = self.span(offset, size)?.load::<V>(offset);
        Ok(from_memory::<O, V>(value.ok_or_else(|| self.refused(Reason::OutsideMapping, offset, size))?))
    }

    /// Stores a value at `offset` of the mapping, as [`load`](Self::load) loads it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn store<O: ByteOrder, V: Value>(&self, offset: u64, value: V) -> Result<(), MemTxError> {
        let size = V::SIZE.into();
        let done = self.span_to_write(offset, size)?.store(offset, from_memory::<O, V>(value));
        done.ok_or_else(|| self.refused(Reason::OutsideMapping, offset, size))?;
        self.ram.mark(offset, size);
        Ok(())
    }

    /// The first byte, for a kernel, a library or a device in C; good as long as the guard lives. Bytes of RAM may change at
    /// any time: read and write them volatile or atomically, and never make a reference of them. Writing what was mapped for
    /// [reading](Direction::Read) is not allowed; it may be ROM.
    ///
    /// Who is written by through it learns of it when the mapping is [unmapped](Self::unmap), or by
    /// [`mark_dirty`](Self::mark_dirty).
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        // Relaxed: only `drop` looks, which nobody calls at the same time.
        self.lent.store(true, Ordering::Relaxed);
        self.ram.host().map_or(std::ptr::null_mut(), |host| host.as_ptr())
    }

    /// The RAM itself as a guarded pointer that outlives the mapping; `None` for a bounce buffer. Whoever writes through it
    /// says so by [`HostPtr::mark_dirty`].
    #[must_use]
    pub fn host_ptr(&self) -> Option<HostPtr> {
        if self.is_direct() { self.ram.host() } else { None }
    }

    /// The block that is mapped, and the offset in it of the first byte; `None` for a bounce buffer.
    #[must_use]
    pub fn block(&self) -> Option<(&Arc<RamBlock>, u64)> {
        self.is_direct().then(|| (self.ram.block(), self.ram.base()))
    }

    /// Notes that `len` bytes at `offset` were written through the pointer, before the mapping is unmapped. What is in a
    /// bounce buffer is written when that is unmapped.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn mark_dirty(&self, offset: u64, len: u64) -> Result<(), MemTxError> {
        if offset > self.len() || self.len() - offset < len {
            return Err(self.refused(Reason::OutsideMapping, offset, len));
        }
        self.span_to_write(offset, len)?;
        self.ram.mark(offset, len);
        Ok(())
    }

    /// Ends the mapping, of which the first `accessed` bytes were accessed (QEMU: `address_space_unmap`). If it was mapped
    /// to be written, these are now dirty in RAM, or are written back from a bounce buffer, with the attributes it was
    /// mapped with, to whatever answers there by now. More than the length is the length.
    ///
    /// # Errors
    /// [`MemTxError`] of what failed first of reading a bounce buffer's contents and writing it back, with the result bits
    /// of both. RAM does not fail.
    pub fn unmap(mut self, accessed: u64) -> Result<(), MemTxError> {
        let Some(bounce) = &self.bounce else {
            self.wrote(accessed);
            return Ok(());
        };
        let Some(space) = bounce.space.upgrade().filter(|_| self.direction.writes()) else {
            let gone = self.direction.writes() && accessed > 0;
            let lost = || Err(self.refused(Reason::SpaceGone, 0, accessed));
            return join(bounce.contents, if gone { lost() } else { Ok(()) });
        };
        let reader = space.reader();
        self.write_back(&reader.port(bounce.attrs), accessed)
    }

    /// The same from inside a device callback: a bounce buffer is written back through the access's own
    /// [port](crate::Access::port), as a part of its chain, in which no device is entered again. A port of another space
    /// than the one that was mapped is not used.
    ///
    /// # Errors
    /// As [`unmap`](Self::unmap).
    pub fn unmap_through(self, port: &Port<'_>, accessed: u64) -> Result<(), MemTxError> {
        match &self.bounce {
            Some(bounce) if bounce.space.is(port.space()) => {
                self.write_back(&port.with_attrs(bounce.attrs), accessed)
            }
            _ => self.unmap(accessed),
        }
    }

    /// The first bytes of the RAM were written.
    fn wrote(&mut self, accessed: u64) {
        if self.direction.writes() {
            self.ram.mark(0, accessed.min(self.len()));
        }
        *self.lent.get_mut() = false;
    }

    fn write_back(&self, port: &Port<'_>, accessed: u64) -> Result<(), MemTxError> {
        let contents = self.contents();
        if !self.direction.writes() {
            return contents;
        }
        let Some(ram) = self.ram.memory() else {
            return contents;
        };
        let accessed = accessed.min(self.len());
        let view = port.pin()?;
        let mut written = Ok(());
        let mut done = 0;
        let mut chunk = [0; CHUNK as usize];
        while done < accessed {
            // Cut where addresses are aligned, so that a device sees the accesses of one long write.
            let addr = self.addr.wrapping_add(done);
            let n = (CHUNK - addr % CHUNK).min(accessed - done);
            let bytes = chunk.get_mut(..n as usize).unwrap_or_default();
            if ram.read(done, bytes).is_some() {
                written = join(written, port.write_in(&view, addr, bytes));
            }
            done += n;
        }
        join(contents, written)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if *self.lent.get_mut() && self.direction.writes() && self.is_direct() {
            self.ram.mark(0, self.len());
        }
    }
}
