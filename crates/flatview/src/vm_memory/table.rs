//! All writable RAM of a view.
//!
//! What it is: the regions in order, and the lookup. What it is not: something that follows the map. What must hold is V2
//! of [the module](super).

use vm_memory::{GuestAddress, GuestMemoryBackend, MemoryRegionAddress};

use super::RamRegion;
use crate::{DirtyClient, FlatRange, FlatView};

/// The writable RAM of one flat view, in address order (rust-vmm: `GuestMemoryMmap`).
///
/// Only with the feature `vm-memory`. [`AddressSpace::ram_view`](crate::AddressSpace::ram_view) and, in generic code,
/// `GuestAddressSpace::memory` give the newest of a space, [`FlatView::ram`] that of any view, such as the new one of a
/// [`Delta`](crate::Delta). It has holes where anything but writable RAM answers; accesses that are to reach a device go
/// through a [`Reader`](crate::Reader). An access that goes past the last address, 2^64 - 1, goes on at 0, as on our bus.
///
/// | in the view | in its `RamView` |
/// |---|---|
/// | RAM, writable there | a region; two aliases of one block are two regions over the same bytes |
/// | ROM, RAM seen through a read-only alias, RAM whose host mapping is read-only | a hole: `vm-memory` cannot say read-only |
/// | a ROM device, in ROM mode too | a hole |
/// | a RAM device | a hole: it wants accesses of exact size |
/// | MMIO, reservations | a hole |
/// | an IOMMU | a hole: what lies behind it depends on each access |
///
/// ```
/// use flatview::{Endianness, Le, Memory, Ops, RamBlock, Region};
/// use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend};
///
/// // As a device of rust-vmm's world would have it.
/// fn copy_word<S: GuestAddressSpace>(space: &S, from: u64, to: u64) -> Result<(), vm_memory::GuestMemoryError> {
///     let memory = space.memory();
///     let word: u32 = memory.read_obj(GuestAddress(from))?;
///     memory.write_obj(word, GuestAddress(to))
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = Memory::new(Endianness::Little);
/// let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20)?))?;
/// let uart = memory.add(Region::io("uart", 8, Ops::new()))?;
/// memory.update(|t| {
///     t.map(memory.system(), 0, ram)?;
///     t.map_overlap(memory.system(), 0x8000, uart, 1) // over the RAM
/// })?;
/// let space = memory.memory_space();
/// space.reader().store::<Le, u32>(0x100, 0x1122_3344)?;
/// copy_word(&space, 0x100, 0x8008)?;
/// assert_eq!(space.reader().load::<Le, u32>(0x8008)?, 0x1122_3344);
///
/// // The UART cuts the RAM in two, and is a hole.
/// let ram = space.ram_view();
/// assert_eq!(ram.num_regions(), 2);
/// assert!(copy_word(&space, 0x100, 0x8000).is_err());
/// # Ok(())
/// # }
/// ```
///
/// **When the map changes** while a `RamView` is held, nothing happens to it: it goes on showing the map that it was made of,
/// and keeps that map's RAM (not its devices) mapped, also if the RAM was unplugged. Who is to follow the map asks for
/// memory anew for each request, as devices on `GuestMemoryAtomic` do. When an [`update`](crate::Memory::update) has
/// returned, whoever asks gets the new map.
///
/// **Cost.** Asking is one atomic load of a pointer and a comparison as long as the view has not changed, without a
/// lock. After a change of the RAM the first who asks walks the ranges of the new view, once for all spaces that share it; a
/// change of anything else leaves the `RamView` as it is. Nobody who does not ask pays for it.
///
/// **Dirty tracking** is the library's own, whose bits are the RAM block's: see [`DirtySlice`](super::DirtySlice).
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

/// Whether two runs of ranges show the same writable RAM at the same places, whatever else they show.
pub(crate) fn is_same_ram<'a>(
    old: impl Iterator<Item = &'a FlatRange>,
    new: impl Iterator<Item = &'a FlatRange>,
) -> bool {
    let is_ram = |range: &&FlatRange| range.writable_ram().is_some();
    let (mut old, mut new) = (old.filter(is_ram), new.filter(is_ram));
    loop {
        match (old.next(), new.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.same(b) => (),
            _ => return false,
        }
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

    // A call: with the search inside, `vm-memory`'s iterators grow too large to be inlined, and `read_obj` takes 40 ns in place
    // of 8.
    #[inline(never)]
    fn to_region_addr(&self, addr: GuestAddress) -> Option<(&RamRegion, MemoryRegionAddress)> {
        let region = self.find_region(addr)?;
        Some((region, MemoryRegionAddress(addr.0 - region.start())))
    }

    fn iter(&self) -> impl Iterator<Item = &RamRegion> {
        self.regions.iter()
    }

    fn last_addr(&self) -> GuestAddress {
        GuestAddress(self.regions.last().map_or(0, RamRegion::last))
    }
}
