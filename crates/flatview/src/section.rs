//! A part of a region as it is seen in a space.
//!
//! What it is: one value that says who answers where (QEMU: `MemoryRegionSection`), for listeners and for
//! [`Memory::find`](crate::Memory::find). What it is not: a mapping; to access what it names, go through a
//! [`Reader`](crate::Reader).
//!
//! What must hold: a section holds the view it is from, and with it the region's callbacks and RAM. The region may be
//! long removed: its id is then stale, but the name and the memory are still here.

use std::fmt;
use std::sync::Arc;

use crate::ram::RamBlock;
use crate::span::Span;
use crate::view::{FlatRange, FlatView};
use crate::{RegionId, SpaceId};

/// A part of a region as it is seen in a space (QEMU: `MemoryRegionSection`).
///
/// It keeps alive what it points to: the view it is from, the region's callbacks and its RAM. Two sections are equal
/// if they say the same of the same space, whichever views they are from.
#[derive(Clone)]
#[non_exhaustive]
pub struct Section {
    /// The space it is seen in.
    pub space: SpaceId,
    /// Who answers.
    pub region: RegionId,
    /// Offset in the region of the first byte (QEMU: `offset_within_region`).
    pub offset_in_region: u64,
    /// Address of the first byte in the space (QEMU: `offset_within_address_space`).
    pub offset_in_space: u64,
    /// Size in bytes, from 1 to 2^64.
    pub size: u128,
    /// Whether it is read-only there.
    pub readonly: bool,
    /// Whether it is marked as surviving a power cycle there.
    pub nonvolatile: bool,
    /// For a ROM device: whether reads come from its memory.
    pub romd: bool,
    view: Arc<FlatView>,
}

impl Section {
    /// The part of `range`, which is one of `view`, in `window`.
    pub(crate) fn of(space: SpaceId, view: &Arc<FlatView>, range: &FlatRange, window: Span) -> Option<Self> {
        let part = range.span().intersection(window)?;
        Some(Self {
            space,
            region: range.region(),
            offset_in_region: range.offset_of(part.start),
            offset_in_space: part.start,
            size: part.size(),
            readonly: range.readonly(),
            nonvolatile: range.nonvolatile(),
            romd: range.romd(),
            view: Arc::clone(view),
        })
    }

    /// The whole of the range that begins at `start`.
    pub(crate) fn at(space: SpaceId, view: &Arc<FlatView>, start: u64) -> Option<Self> {
        Self::of(space, view, view.lookup(start)?, Span::ALL)
    }

    /// The last address of it in the space.
    #[must_use]
    pub fn last(&self) -> u64 {
        u64::try_from(u128::from(self.offset_in_space) + self.size - 1).unwrap_or(u64::MAX)
    }

    /// The view it is from: what is gone is from the view before the change, all else from the one after it.
    #[must_use]
    pub fn view(&self) -> &Arc<FlatView> {
        &self.view
    }

    /// The range of the view that it is (a part of).
    #[must_use]
    pub fn range(&self) -> Option<&FlatRange> {
        self.view.lookup(self.offset_in_space)
    }

    /// The region's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.range().map_or("", FlatRange::name)
    }

    /// Whether it is RAM or ROM (QEMU: `memory_region_is_ram`); a ROM device is not.
    #[must_use]
    pub fn is_ram(&self) -> bool {
        self.range().is_some_and(FlatRange::is_ram)
    }

    /// Whether it is an IOMMU (QEMU: `memory_region_is_iommu`): who passes devices through adds a
    /// [notifier](crate::Memory::add_iommu_notifier) for the part of the region that this is.
    #[must_use]
    pub fn is_iommu(&self) -> bool {
        self.range().is_some_and(FlatRange::is_iommu)
    }

    /// The memory behind it, for RAM, ROM and ROM devices: the block, and the offset in it of the first byte.
    #[must_use]
    pub fn ram(&self) -> Option<(Arc<RamBlock>, u64)> {
        let range = self.range()?;
        let (block, offset) = range.block()?;
        Some((Arc::clone(block), offset + (self.offset_in_space - range.start())))
    }
}

impl PartialEq for Section {
    fn eq(&self, other: &Self) -> bool {
        let place = |s: &Self| (s.space, s.region, s.offset_in_region, s.offset_in_space, s.size);
        let attrs = |s: &Self| (s.readonly, s.nonvolatile, s.romd);
        place(self) == place(other) && attrs(self) == attrs(other)
    }
}

impl Eq for Section {}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks = [(self.readonly, " readonly"), (self.nonvolatile, " nonvolatile"), (self.romd, " romd")];
        write!(f, "Section({:#x}-{:#x} {:?}", self.offset_in_space, self.last(), self.name())?;
        write!(f, " @{:#x}", self.offset_in_region)?;
        marks.iter().filter(|(set, _)| *set).try_for_each(|(_, text)| f.write_str(text))?;
        f.write_str(")")
    }
}
