//! All writable RAM of a view.
//!
//! What it is: the regions in order, and the lookup. What it is not: something that follows the map. What must hold is V2
//! of [the module](super).

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::RamRegion;
use crate::{DirtyClient, FlatView};

/// The writable RAM of one flat view, in address order (rust-vmm: `GuestMemoryMmap`).
///
/// What is in it and what is not stands in [the module's table](super). It is immutable and keeps the RAM mapped;
/// [`AddressSpace::ram_view`](crate::AddressSpace::ram_view) gives the newest of a space, [`FlatView::ram`] that of any view,
/// such as the new one of a [`Delta`](crate::Delta).
///
/// An access that goes past the last address, 2^64 - 1, goes on at 0, as on our bus.
#[derive(Default)]
pub struct RamView {
    /// Where the regions begin: apart from them, so that a search touches few cache lines.
    starts: Box<[u64]>,
    regions: Box<[RamRegion]>,
}

impl std::fmt::Debug for RamView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.regions).finish()
    }
}

impl FromIterator<RamRegion> for RamView {
    /// Of regions that are disjoint and in order.
    fn from_iter<I: IntoIterator<Item = RamRegion>>(regions: I) -> Self {
        let regions: Box<[RamRegion]> = regions.into_iter().collect();
        Self { starts: regions.iter().map(RamRegion::start).collect(), regions }
    }
}

impl RamView {
    pub(crate) fn of(view: &FlatView) -> Self {
        view.ranges().filter_map(RamRegion::of).collect()
    }

    /// The regions in address order.
    #[must_use]
    pub fn regions(&self) -> &[RamRegion] {
        &self.regions
    }

    /// The same RAM, whose bitmaps answer `dirty_at` for another client. What is written is marked for all clients either way.
    #[must_use]
    pub fn with_dirty_client(&self, client: DirtyClient) -> Self {
        self.regions.iter().map(|region| region.with_dirty_client(client)).collect()
    }
}

impl GuestMemoryBackend for RamView {
    type R = RamRegion;

    fn num_regions(&self) -> usize {
        self.regions.len()
    }

    #[inline]
    fn find_region(&self, addr: GuestAddress) -> Option<&RamRegion> {
        let before = self.starts.partition_point(|start| *start <= addr.0);
        let region = self.regions.get(before.checked_sub(1)?)?;
        (addr.0 <= region.last()).then_some(region)
    }

    fn iter(&self) -> impl Iterator<Item = &RamRegion> {
        self.regions.iter()
    }

    fn last_addr(&self) -> GuestAddress {
        GuestAddress(self.regions.last().map_or(0, RamRegion::last))
    }
}
