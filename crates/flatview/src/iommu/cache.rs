//! Translations that a reader remembers.
//!
//! What it is: a direct-mapped table of pages, and the spaces that they lead to. What it is not: shared; each reader has
//! its own, as soon as it meets an IOMMU.
//!
//! What must hold is I1: who finds a translation here gives the generation that the IOMMU has now.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use crate::RegionId;
use crate::memory::SpaceInner;

/// Pages that are remembered.
const LINES: usize = 256;
/// Spaces that they lead to. More than these are not remembered.
const TARGETS: usize = 8;
/// Pages are told apart by the address bits above these; of smaller ones that lie closer one is remembered.
const GRANULE: u32 = 12;

/// What a translation was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub region: RegionId,
    pub index: u32,
    pub write: bool,
}

/// Where the page around an offset leads.
#[derive(Clone, Copy)]
struct Line {
    key: Key,
    generation: u64,
    epoch: u64,
    /// Of the spaces.
    target: u8,
    /// The first offset in the region.
    first: u64,
    mask: u64,
    /// The first address in the target.
    address: u64,
}

/// The translations that a reader remembers.
pub(crate) struct Iotlb {
    lines: Box<[Cell<Option<Line>>]>,
    /// Filled from the first on, and emptied only when nobody borrows them, so that accesses can.
    targets: [OnceCell<Arc<SpaceInner>>; TARGETS],
    /// Goes up when the spaces are let go of.
    epoch: u64,
}

impl Iotlb {
    pub fn new() -> Self {
        let lines = (0..LINES).map(|_| Cell::new(None)).collect();
        Self { lines, targets: std::array::from_fn(|_| OnceCell::new()), epoch: 0 }
    }

    fn line(&self, key: &Key, offset: u64) -> Option<&Cell<Option<Line>>> {
        let granule = (offset >> GRANULE) as usize;
        let other = (key.region.index as usize).wrapping_mul(37).wrapping_add(key.index as usize * 5);
        let at = granule ^ (granule >> 8) ^ other ^ (usize::from(key.write) * (LINES / 2));
        self.lines.get(at % LINES)
    }

    /// The space, the page's first address there, and the page's mask, if an IOMMU of this generation was asked the same
    /// before.
    pub fn find(&self, key: &Key, offset: u64, generation: u64) -> Option<(&SpaceInner, u64, u64)> {
        let line = self.line(key, offset)?.get()?;
        let same = line.key == *key
            && line.generation == generation
            && line.epoch == self.epoch
            && offset & !line.mask == line.first;
        let target = self.targets.get(usize::from(line.target)).filter(|_| same)?.get()?;
        Some((target, line.address, line.mask))
    }

    /// Remembers where the page around an offset leads, if there is room for its space, which is then given back.
    pub fn keep(
        &self,
        key: &Key,
        offset: u64,
        generation: u64,
        target: &Arc<SpaceInner>,
        (address, mask): (u64, u64),
    ) -> Option<&SpaceInner> {
        let place = self.targets.iter().position(|t| t.get().is_none_or(|t| Arc::ptr_eq(t, target)))?;
        let kept = self.targets.get(place)?.get_or_init(|| Arc::clone(target));
        let (first, epoch) = (offset & !mask, self.epoch);
        let line = Line { key: *key, generation, epoch, target: place as u8, first, mask, address };
        if let Some(cell) = self.line(key, offset) {
            cell.set(Some(line));
        }
        Some(kept)
    }

    /// Forgets everything, and lets go of the spaces.
    pub fn let_go(&mut self) {
        for target in &mut self.targets {
            target.take();
        }
        self.epoch += 1;
    }
}
