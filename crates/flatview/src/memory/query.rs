//! Questions about the map.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AddressSpace, Memory};
use crate::ram::{RamBlock, RamBlockInfo};
use crate::span::Span;
use crate::topology::NONE;
use crate::view::FlatView;
use crate::{MemoryError, RegionId, RegionInfo, Section, SpaceId};

impl Memory {
    /// All address spaces, in the order they were made.
    #[must_use]
    pub fn spaces(&self) -> Vec<AddressSpace> {
        let inner: Vec<_> = self.read_state(|s| s.spaces.iter().map(|s| Arc::clone(&s.inner)).collect());
        inner.into_iter().map(|inner| AddressSpace { memory: self.clone(), inner }).collect()
    }

    /// The space of that number.
    ///
    /// # Errors
    /// [`MemoryError::StaleSpace`] if it was removed, [`MemoryError::ForeignSpace`] if it is another memory's.
    pub fn space(&self, id: SpaceId) -> Result<AddressSpace, MemoryError> {
        let inner = self.read_state(|s| s.space(id).map(|s| Arc::clone(&s.inner)))?;
        Ok(AddressSpace { memory: self.clone(), inner })
    }

    /// A region's attributes now.
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn region(&self, id: RegionId) -> Result<RegionInfo, MemoryError> {
        self.read_state(|s| {
            let index = s.topology.resolve(id)?;
            s.topology.info(index).ok_or(MemoryError::StaleRegion { id })
        })
    }

    /// All regions, mapped or not, in no order that means anything.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionId> {
        self.read_state(|s| s.topology.records().map(|(_, r)| r.body.id).collect())
    }

    /// The attributes of all regions, at one moment.
    pub(crate) fn all_regions(&self) -> Vec<RegionInfo> {
        self.read_state(|s| s.topology.records().filter_map(|(i, _)| s.topology.info(i)).collect())
    }

    /// The regions mapped in a region, disabled ones included: by priority, the highest first, and among equals the
    /// one mapped last first.
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn children(&self, id: RegionId) -> Result<Vec<RegionId>, MemoryError> {
        self.read_state(|s| {
            let index = s.topology.resolve(id)?;
            Ok(s.topology.children(index).into_iter().filter_map(|i| s.topology.id_of(i)).collect())
        })
    }

    /// The first part of `size` bytes at offset `addr` of `container` that is visible in the address space whose
    /// root contains it; `None` if nothing is, or no space has that root (QEMU: `memory_region_find`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn find(&self, container: RegionId, addr: u64, size: u128) -> Result<Option<Section>, MemoryError> {
        let found = self.read_state(|s| {
            let mut at = s.topology.resolve(container)?;
            let mut addr = i128::from(addr);
            // Up to the root, adding the places on the way; the root's own address counts too, as when rendering.
            let root = loop {
                let Some(record) = s.topology.get(at) else { return Ok(None) };
                addr += i128::from(record.attrs.addr);
                if record.attrs.container == NONE {
                    break record.body.id;
                }
                at = record.attrs.container;
            };
            let space = s.spaces.iter().find(|s| s.root == root).map(|s| s.inner.id);
            Ok(space.map(|id| (addr, id, s.view(id))))
        })?;
        let Some((addr, id, view)) = found else {
            return Ok(None);
        };
        let view: Arc<FlatView> = view?;
        let last = addr + i128::try_from(size).unwrap_or(i128::MAX / 2) - 1;
        let section = Span::clipped(addr, last).and_then(|w| {
            view.ranges_from(w.start).next().and_then(|range| Section::of(id, &view, range, w))
        });
        Ok(section)
    }

    /// Whether something other than `container` itself is visible at offset `addr` of it
    /// (QEMU: `memory_region_present`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn contains(&self, container: RegionId, addr: u64) -> Result<bool, MemoryError> {
        Ok(self.find(container, addr, 1)?.is_some_and(|s| s.region != container))
    }

    /// Whether a region stands in a container, itself or through an alias (QEMU: `memory_region_is_mapped`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn is_mapped(&self, id: RegionId) -> Result<bool, MemoryError> {
        self.read_state(|s| s.topology.resolve(id).map(|index| s.topology.is_mapped(index)))
    }

    /// The RAM blocks that regions use, each once, by name.
    #[must_use]
    pub fn ram_blocks(&self) -> Vec<RamBlockInfo> {
        let blocks: BTreeMap<_, Arc<RamBlock>> = self.read_state(|s| {
            let of = |r: &crate::topology::Record| r.body.block().map(|(b, _)| Arc::clone(b));
            let keyed = |b: Arc<RamBlock>| ((b.shared_name(), Arc::as_ptr(&b) as usize), b);
            s.topology.records().filter_map(|(_, r)| of(r)).map(keyed).collect()
        });
        blocks.values().map(|b| b.info()).collect()
    }

    /// The RAM block, of those that regions use, that holds the byte at a host address, and where in the block it is (QEMU:
    /// `memory_region_from_host`, `qemu_ram_block_from_host`): for a fault or a hardware error that the host reports.
    #[must_use]
    pub fn block_at_host(&self, address: *const u8) -> Option<(Arc<RamBlock>, u64)> {
        let inside = |block: &Arc<RamBlock>| {
            let offset = address.addr().checked_sub(block.host().as_ptr().addr())? as u64;
            (offset < block.size()).then_some(offset)
        };
        self.read_state(|s| {
            s.topology.records().find_map(|(_, record)| {
                let (block, _) = record.body.block()?;
                inside(block).map(|offset| (Arc::clone(block), offset))
            })
        })
    }

    /// How many replaced views are kept alive by readers that have not moved on, or are being freed just now.
    #[must_use]
    pub fn views_in_use(&self) -> usize {
        self.0.domain.waiting(u64::MAX)
    }

    /// Compares every space's view with one rendered from nothing, from the effective root looked for anew, and gives
    /// the name of a space whose view differs. For tests of the incremental rendering; takes time in proportion to
    /// the whole map.
    ///
    /// # Errors
    /// [`MemoryError`] if the map cannot be rendered.
    #[doc(hidden)]
    pub fn stale_view(&self) -> Result<Option<String>, MemoryError> {
        self.read_state(|s| {
            let mut compared = Vec::new();
            for space in &s.spaces {
                let view = s.view(space.inner.id)?;
                let root = s.effective_root(space.root)?;
                let mut same = view.root() == root;
                if let Some(root) = root.filter(|root| same && !compared.contains(root)) {
                    let mut budget = crate::render::Budget::new(s.limits);
                    let whole = crate::commit::rendered_whole(&s.topology, root.index, &mut budget)?;
                    same =
                        whole.len() == view.len() && whole.iter().zip(view.ranges()).all(|(a, b)| a.same(b));
                    compared.push(root);
                } else if root.is_none() {
                    same = same && view.is_empty();
                }
                if !same {
                    return Ok(Some(space.inner.name.to_string()));
                }
            }
            Ok(None)
        })
    }
}
