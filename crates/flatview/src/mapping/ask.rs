//! Questions that a device asks before it accesses memory.
//!
//! What it is: would an access be taken, is it a device that answers, which sections are there. What it is not: an access;
//! nothing is read, written or told in the log. The map may change before the access that follows.

use crate::access::{Purpose, Wanted};
use crate::view::{FlatRange, FlatView};
use crate::{
    AddressSpace, MemTxAttrs, MemoryError, Port, Reader, Section,
    span::{Span, WHOLE},
};

impl Port<'_> {
    /// Whether a [`read`](Self::read) or [`write`](Self::write) of `len` bytes would be taken by all who answer there (QEMU:
    /// `address_space_access_valid`). Their callbacks are not called; their [filters](crate::AccessFilter) are. An access
    /// that is taken may still fail. Nothing is told in the log.
    #[must_use]
    pub fn access_valid(&self, addr: u64, len: u64, write: bool) -> bool {
        self.pin().is_ok_and(|view| self.access_valid_in(&view, addr, len, write))
    }

    fn access_valid_in(&self, view: &FlatView, addr: u64, len: u64, write: bool) -> bool {
        let direct =
            |r: &FlatRange| if write { r.writable_ram().is_some() } else { r.readable_ram().is_some() };
        let mut done = 0;
        while done < len {
            let (at, left) = (addr.wrapping_add(done), len - done);
            let range = view.lookup(at);
            let Some(range) = range.filter(|range| self.is_allowed(Some(range))) else {
                return false;
            };
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            if range.is_iommu() {
                let purpose = Purpose::question(write);
                let valid = self.at_end(range, at, Wanted::UpTo(left), purpose, |end| {
                    let together = end.room.min(left as u64);
                    let valid = end.port.access_valid_in(end.view, end.address, together, write);
                    Ok(together * u64::from(valid))
                });
                let valid = valid.ok().filter(|n| *n > 0 && !(write && range.readonly()));
                let Some(together) = valid else {
                    return false;
                };
                done += together;
                continue;
            }
            let (piece, memory) = self.bus_piece(Some(range), at, left, direct);
            if !memory && !self.access(&self.way(range), at, piece as u32, write).would_be_taken() {
                return false;
            }
            let (piece, inside) = (piece as u64, range.room(at).min(left as u64));
            // A device without a filter takes what it took once, at all offsets that are as aligned.
            let rules = &range.body().rules;
            let settled = !memory && !rules.is_filtered() && piece == u64::from(rules.bus_max());
            done += if settled { (inside - inside % piece).max(piece) } else { piece };
        }
        true
    }

    /// Whether it is a device that answers, or nobody (QEMU: `cpu_physical_memory_is_io`): neither RAM nor ROM, nor a ROM
    /// device that reads as memory. The memory of a RAM device is RAM here.
    #[must_use]
    pub fn is_io(&self, addr: u64) -> bool {
        let memory = |range: Option<&FlatRange>| range.is_some_and(|range| range.is_ram() || range.romd());
        let Ok(view) = self.pin() else {
            return true;
        };
        !match view.lookup(addr) {
            Some(range) if range.is_iommu() => {
                let (one, purpose) = (Wanted::Exactly(1), Purpose::question(false));
                self.at_end(range, addr, one, purpose, |end| Ok(memory(end.range))) == Ok(true)
            }
            range => memory(range),
        }
    }
}

impl Reader {
    /// See [`Port::access_valid`].
    #[must_use]
    pub fn access_valid(&self, addr: u64, len: u64, write: bool) -> bool {
        self.port(MemTxAttrs::UNSPECIFIED).access_valid(addr, len, write)
    }

    /// See [`Port::is_io`].
    #[must_use]
    pub fn is_io(&self, addr: u64) -> bool {
        self.port(MemTxAttrs::UNSPECIFIED).is_io(addr)
    }
}

impl AddressSpace {
    /// The first part of `size` bytes at `addr` that is visible here, clipped to them; `None` if nothing is. The section keeps
    /// what it shows (QEMU: `memory_region_find`, which takes a region; that is [`Memory::find`](crate::Memory::find)).
    ///
    /// # Errors
    /// [`MemoryError::StaleSpace`] if the space was removed.
    pub fn find(&self, addr: u64, size: u128) -> Result<Option<Section>, MemoryError> {
        let view = self.view()?;
        Ok(Span::sized(addr, size.min(WHOLE)).and_then(|window| {
            let range = view.ranges_from(addr).next()?;
            Section::of(self.id(), &view, range, window)
        }))
    }

    /// All that is visible here now, in address order: each section keeps what it shows, so that the map may change while
    /// they are looked at (QEMU: `flatview_for_each_range`).
    ///
    /// # Errors
    /// [`MemoryError::StaleSpace`] if the space was removed.
    pub fn sections(&self) -> Result<impl Iterator<Item = Section> + use<>, MemoryError> {
        let (view, space) = (self.view()?, self.id());
        let mut next = Some(0);
        Ok(std::iter::from_fn(move || {
            let section = Section::of(space, &view, view.ranges_from(next?).next()?, Span::ALL)?;
            next = section.last().checked_add(1);
            Some(section)
        }))
    }
}
