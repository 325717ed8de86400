//! One run of RAM, by the rules of who may access it directly.
//!
//! What it is: the RAM behind some addresses, as far as it is one run of the same region, held with its block. What it
//! is not: the addresses; the map may change, and the run stays what it was. So may what IOMMUs say on the way.

use std::sync::Arc;

use super::Direction;
use crate::access::{Purpose, Wanted};
use crate::ram::{Anchored, Answer, HostPtr, RamBlock, RamSpan};
use crate::span::Span;
use crate::view::{FlatRange, FlatView};
use crate::{Port, RegionId};

/// A run of a block.
#[derive(Clone)]
pub(super) struct DirectRam {
    /// Counted from the first byte.
    memory: Anchored<RamBlock>,
    /// Of the first byte in the block.
    base: u64,
    /// Whose memory it is.
    region: Option<RegionId>,
}

/// Whether loads, or stores, or both go to the memory of the range (QEMU: `memory_access_is_direct`).
fn is_direct(range: &FlatRange, direction: Direction) -> bool {
    match direction {
        Direction::Read => range.readable_ram().is_some(),
        Direction::Write => range.writable_ram().is_some(),
        Direction::ReadWrite => range.readable_ram().is_some() && range.writable_ram().is_some(),
    }
}

impl DirectRam {
    /// What stands at `addr` and, of the `len` bytes there, as many after it as are the same region's, one run, and
    /// direct too (QEMU: `flatview_extend_translation`). `None` if `addr` itself is not direct.
    pub fn find(view: &FlatView, addr: u64, len: u64, direction: Direction) -> Option<Self> {
        let first = view.lookup(addr).filter(|range| is_direct(range, direction))?;
        let offset = first.offset_of(addr);
        let mut found = first.room(addr).min(len);
        if found < len
            && let Some(behind) = first.last().checked_add(1)
        {
            // Neighbours that are one run and differ in nothing are one range: these differ in a mark.
            let continues = |range: &FlatRange, found: u64| {
                addr.checked_add(found) == Some(range.start())
                    && Arc::ptr_eq(range.body(), first.body())
                    && offset.checked_add(found) == Some(range.offset())
                    && is_direct(range, direction)
            };
            for range in view.ranges_from(behind) {
                if found == len || !continues(range, found) {
                    break;
                }
                found += range.room(range.start()).min(len - found);
            }
        }
        let (block, base) = first.body().direct_block()?;
        let ram = Self::of_block(block, base.checked_add(offset)?, found)?;
        Some(Self { region: Some(first.region()), ..ram })
    }

    /// This and `next` as one, if they are one run of the same region.
    fn followed_by(&self, next: &Self) -> Option<Self> {
        let follows = self.region == next.region && self.base.checked_add(self.len()) == Some(next.base);
        let one = follows && Arc::ptr_eq(self.block(), next.block());
        let ram = Self::of_block(self.block(), self.base, self.len().checked_add(next.len())?);
        Some(Self { region: self.region, ..ram.filter(|_| one)? })
    }

    /// `len` bytes of a block from `base` on, if they are inside; at least one.
    pub fn of_block(block: &Arc<RamBlock>, base: u64, len: u64) -> Option<Self> {
        let span = Span { start: 0, last: len.checked_sub(1)? };
        let memory =
            Anchored::new(span, block, |b| b.span(base, len).map_or(Answer::Nothing, Answer::Memory));
        memory.memory()?;
        Some(Self { memory, base, region: None })
    }

    pub fn len(&self) -> u64 {
        self.memory.span().last.saturating_add(1)
    }

    /// The bytes. Always there; the type does not know.
    #[inline]
    pub fn memory(&self) -> Option<RamSpan<'_>> {
        self.memory.memory()
    }

    pub fn block(&self) -> &Arc<RamBlock> {
        self.memory.anchor()
    }

    /// Of the first byte in the block.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Whether it is the same run of the same block.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.block(), other.block()) && (self.base, self.len()) == (other.base, other.len())
    }

    /// Notes for all clients of the block that `len` bytes at `offset` were just written (G2): those of the view it was
    /// found in may not be all any more.
    #[inline]
    pub fn mark(&self, offset: u64, len: u64) {
        self.block().dirty().mark_for_all(self.base.saturating_add(offset), len);
    }

    /// A guarded pointer to the bytes.
    pub fn host(&self) -> Option<HostPtr> {
        HostPtr::of(self.block(), self.base, self.len())
    }
}

impl Port<'_> {
    /// The RAM at `addr` as [`DirectRam::find`] finds it, through IOMMUs too, if the attributes allow it.
    pub(super) fn find_ram(
        &self,
        view: &FlatView,
        addr: u64,
        len: u64,
        direction: Direction,
    ) -> Option<DirectRam> {
        let ram = DirectRam::find(view, addr, len, direction);
        match &ram {
            // Who asks for RAM only gets no ROM device.
            Some(_) if self.attrs().memory => ram.filter(|_| self.is_allowed(view.lookup(addr))),
            Some(_) => ram,
            None => self.find_ram_through(view, addr, len, direction),
        }
    }

    /// The RAM behind IOMMUs: page by page, as long as it is one run.
    #[cold]
    #[inline(never)]
    fn find_ram_through(
        &self,
        view: &FlatView,
        addr: u64,
        len: u64,
        direction: Direction,
    ) -> Option<DirectRam> {
        let mut found: Option<DirectRam> = None;
        loop {
            let done = found.as_ref().map_or(0, DirectRam::len);
            let at = addr.checked_add(done).filter(|_| done < len);
            let range = at.and_then(|at| view.lookup(at)).filter(|range| range.is_iommu());
            let (Some(at), Some(range)) = (at, range.filter(|r| !(direction.writes() && r.readonly())))
            else {
                return found;
            };
            let wanted = Wanted::UpTo(usize::try_from(len - done).unwrap_or(usize::MAX));
            let there = |write| {
                let part = self.at_end(range, at, wanted, Purpose::of_mapping(write), |end| {
                    let ram = DirectRam::find(end.view, end.address, end.room.min(len - done), direction);
                    Ok(ram.filter(|_| end.port.is_allowed(end.range)))
                });
                part.ok().flatten()
            };
            // A device may allow the one and not the other, or lead them to different places.
            let part = match direction {
                Direction::Read => there(false),
                Direction::Write => there(true),
                Direction::ReadWrite => {
                    there(false).zip(there(true)).and_then(|(a, b)| a.is_same(&b).then_some(a))
                }
            };
            let more = match &found {
                None => part,
                Some(found) => part.and_then(|part| found.followed_by(&part)),
            };
            if more.is_none() {
                return found;
            }
            found = more;
        }
    }
}
