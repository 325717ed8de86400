//! What a callback gets to know about the access it serves.

use std::fmt;

use super::{MemTxAttrs, Port, Reader};
use crate::memory::SpaceInner;
use crate::topology::Owner;
use crate::view::FlatRange;
use crate::{AddressSpace, MemTxError, Reason, RegionId, SpaceId};

/// What an access came through, if not through a reader itself, with what the reader knows of a device.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub space: &'a SpaceInner,
    /// The access in whose callback this one was made.
    pub outer: Option<&'a Access<'a>>,
    pub range: &'a FlatRange,
}

/// One access to a device, as its callback sees it: what is asked for, who asks, and the chain it is part of.
///
/// Little is written down for most accesses: what their callbacks seldom ask for is found when they do.
pub struct Access<'a> {
    pub(super) reader: &'a Reader,
    /// `None`: through the reader itself, outside of any other access.
    pub(super) way: Option<&'a Way<'a>>,
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) attrs: MemTxAttrs,
    pub(super) size: u8,
    pub(super) write: bool,
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.write { "write" } else { "read" };
        write!(f, "Access({what} {} of {:?} at {:#x})", self.size, self.range().name(), self.offset())
    }
}

impl<'a> Access<'a> {
    /// How deep accesses may nest through callbacks that access memory, whether through [`port`](Self::port) or
    /// through readers of their own. One chain also looks at no more than eight maps at once: a ninth space (or the
    /// same one after eight changes) is refused as too deep.
    pub const MAX_DEPTH: u32 = 32;

    /// Offset in the region, in bytes.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Size in bytes: 1, 2, 4 or 8.
    #[inline]
    #[must_use]
    pub fn size(&self) -> u32 {
        u32::from(self.size)
    }

    /// Whether it is a write.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.write
    }

    /// Who asks, and how.
    #[must_use]
    pub fn attrs(&self) -> MemTxAttrs {
        self.attrs
    }

    /// The address in the space the access came through. For a piece of a split access, the piece's.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The space the access came through.
    #[must_use]
    pub fn space(&self) -> SpaceId {
        self.way.map_or(&*self.reader.space, |way| way.space).id
    }

    /// The region that is accessed.
    #[must_use]
    pub fn region(&self) -> RegionId {
        self.range().region()
    }

    /// Its name.
    #[must_use]
    pub fn region_name(&self) -> &'a str {
        self.range().name()
    }

    /// How many accesses this one is nested in.
    #[must_use]
    pub fn depth(&self) -> u32 {
        std::iter::successors(self.outer(), |a| a.outer()).count() as u32
    }

    /// The access in whose callback this one was made.
    #[inline]
    pub(super) fn outer(&self) -> Option<&'a Access<'a>> {
        self.way.and_then(|way| way.outer)
    }

    /// The range that is accessed.
    #[inline]
    pub(super) fn range(&self) -> &'a FlatRange {
        match self.way {
            Some(way) => way.range,
            None => self.range_of_reader(),
        }
    }

    /// The same access, at other offsets of the region: a piece of it.
    pub(super) fn piece(&self, offset: u64, size: u32) -> Self {
        let address = self.address.wrapping_add(offset.wrapping_sub(self.offset()));
        Access { size: size as u8, address, offset, ..*self }
    }

    /// Memory as seen in a space, for a device that accesses memory while it is accessed: DMA, bridges, forwarding.
    /// A device holds its space by a [`WeakSpace`](crate::WeakSpace), or it and the memory keep each other for ever.
    ///
    /// The view the device is accessed in stays as it is; what it accesses through the port is the newest map. The
    /// accesses are part of this chain: a device that is already in it is not entered again. A space of another
    /// [`Memory`](crate::Memory) is refused with every access: make a reader of that memory's own.
    #[must_use]
    pub fn port<'b>(&'b self, space: &'b AddressSpace) -> Port<'b> {
        Port::nested(space, self)
    }

    /// Refuses an access that enters a device again. Regions without a device as owner, and those that opted out, are
    /// not guarded.
    pub(super) fn admitted(&self) -> Result<(), MemTxError> {
        let Some(owner) = self.range().body().guarded_by() else {
            return Ok(());
        };
        let mut at = self.outer();
        while let Some(access) = at {
            if access.range().body().guarded_by() == Some(owner) {
                return Err(MemTxError::refused(Reason::Reentry));
            }
            at = access.outer();
        }
        Ok(())
    }

    /// The device whose callback this is.
    #[must_use]
    pub fn owner(&self) -> Option<&'a Owner> {
        self.range().body().owner.as_ref()
    }
}
