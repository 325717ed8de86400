//! Changes of the map.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::Memory;
use super::state::State;
use crate::error::InUse;
use crate::ram::RamBlock;
use crate::topology::{Attrs, Body, Flag, Kind, NONE, Topology};
use crate::{MemoryError, Region, RegionId, RegionInfo, WHOLE};

/// An open change of the map; given to the closure of [`Memory::update`].
///
/// Each method gives a typed error for bad use and then has changed nothing.
pub struct Transaction<'a> {
    pub(super) memory: &'a Memory,
    pub(super) state: &'a RefCell<State>,
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction({:?})", self.memory)
    }
}

pub(super) fn checked_name(name: Arc<str>) -> Result<Arc<str>, MemoryError> {
    if name.chars().any(char::is_control) { Err(MemoryError::BadName { name }) } else { Ok(name) }
}

fn checked_size(name: &Arc<str>, size: u128) -> Result<u128, MemoryError> {
    if size > WHOLE { Err(MemoryError::TooLarge { name: Arc::clone(name), size }) } else { Ok(size) }
}

/// A RAM region must not reach past its block, `offset` bytes into which it begins.
fn checked_block(
    name: &Arc<str>,
    block: Option<(&Arc<RamBlock>, u64)>,
    size: u128,
) -> Result<(), MemoryError> {
    let Some((block, offset)) = block else {
        return Ok(());
    };
    let room = block.size().saturating_sub(offset);
    if size <= u128::from(room) {
        return Ok(());
    }
    Err(MemoryError::BlockTooSmall { name: Arc::clone(name), block: block.shared_name(), size, room })
}

impl Transaction<'_> {
    /// The memory that is being changed.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        self.memory
    }

    /// Says what the change is for, for those who are told of it ([`Cause::reason`](crate::Cause::reason)). Of several
    /// the last one counts.
    pub fn because(&mut self, reason: impl Into<Arc<str>>) {
        self.state.borrow_mut().reason = Some(reason.into());
    }

    fn topology<R>(
        &mut self,
        f: impl FnOnce(&mut Topology) -> Result<R, MemoryError>,
    ) -> Result<R, MemoryError> {
        f(&mut self.state.borrow_mut().topology)
    }

    /// Adds a region, mapped nowhere.
    ///
    /// # Errors
    /// [`MemoryError`] for an unprintable name, a size over 2^64 or over the RAM block's, a window without a block,
    /// or an alias of a region that does not exist.
    pub fn add(&mut self, mut region: Region) -> Result<RegionId, MemoryError> {
        // The device's own code: asked before anything is borrowed.
        let rules = region
            .ops
            .as_deref()
            .map_or(crate::topology::NO_RULES, |ops| ops.rules().filtered(ops.filter().is_some()));
        let target_order = self.memory.target();
        if let Some(block) = &region.block {
            self.state.borrow().keep_bits_of_new(&region.name, block)?;
        }
        let made_of = region.block.clone();
        let id = self.topology(|topology| {
            region.name = checked_name(region.name)?;
            if let Some((from, _)) = region.window {
                if !region.kind.has_block() {
                    return Err(MemoryError::NoBlock { name: region.name });
                }
                region.offset = from;
                region.place_device();
            }
            let name = &region.name;
            let block = region.block.as_ref().map(|block| (block, region.offset));
            let block_size = block.map(|(b, o)| u128::from(b.size().saturating_sub(o)));
            let size = region.size.or(region.window.map(|w| u128::from(w.1))).or(block_size).unwrap_or(0);
            let size = checked_size(name, size)?;
            checked_block(name, block, size)?;
            let (target, alias_offset) = match region.alias {
                Some((target, offset)) => (topology.resolve(target)?, offset),
                None => (NONE, 0),
            };
            let id = topology.next_id()?;
            let attrs = Attrs { target, alias_offset, ..Attrs::new(size) }
                .with(Flag::Enabled, region.enabled)
                .with(Flag::Readonly, region.readonly)
                .with(Flag::Nonvolatile, region.nonvolatile);
            topology.add(attrs, Body::new(id, region, rules, target_order));
            Ok(id)
        })?;
        if let Some(block) = made_of {
            self.state.borrow_mut().block_changes.push((block, true));
        }
        Ok(id)
    }

    /// Removes a region. What views still show of it stays alive until they are gone.
    ///
    /// # Errors
    /// [`MemoryError::InUse`] while it is mapped, has children, is shown by an alias or is a space's root.
    pub fn remove(&mut self, id: RegionId) -> Result<(), MemoryError> {
        let made_of = self.topology(|topology| {
            let record = topology.record(id)?;
            let made_of = record.body.block().map(|(block, _)| Arc::clone(block));
            let why = if record.attrs.container != NONE {
                Some(InUse::Mapped)
            } else if record.children().is_some() {
                Some(InUse::HasChildren)
            } else if !record.aliases().is_empty() {
                Some(InUse::Aliased)
            } else if record.spaces() > 0 {
                Some(InUse::RootOfSpace)
            } else {
                None
            };
            if let Some(why) = why {
                return Err(MemoryError::InUse { name: Arc::clone(&record.body.name), why });
            }
            topology.remove(id.index);
            Ok(made_of)
        })?;
        if let Some(block) = made_of {
            self.state.borrow_mut().block_changes.push((block, false));
        }
        Ok(())
    }

    /// Maps `child` at offset `addr` of `container`, with priority 0
    /// (QEMU: `memory_region_add_subregion`).
    ///
    /// # Errors
    /// [`MemoryError`] if it is mapped already or would contain itself.
    pub fn map(&mut self, container: RegionId, addr: u64, child: RegionId) -> Result<(), MemoryError> {
        self.map_overlap(container, addr, child, 0)
    }

    /// Maps `child` with a priority: where siblings overlap, the higher priority wins, and among equals the one
    /// mapped later (QEMU: `memory_region_add_subregion_overlap`).
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn map_overlap(
        &mut self,
        container: RegionId,
        addr: u64,
        child: RegionId,
        priority: i32,
    ) -> Result<(), MemoryError> {
        self.topology(|topology| {
            let into = topology.resolve(container)?;
            let record = topology.record(child)?;
            let name = Arc::clone(&record.body.name);
            if record.attrs.container != NONE {
                return Err(MemoryError::AlreadyMapped {
                    name,
                    container: topology.name_of(record.attrs.container),
                });
            }
            let attrs = record.attrs;
            // Containers are a forest, so the way up ends. It may be long: it is not gone for what contains nothing.
            let mut above = if record.children().is_some() || into == child.index { into } else { NONE };
            while above != NONE {
                if above == child.index {
                    return Err(MemoryError::ContainerCycle { name, container: topology.name_of(into) });
                }
                above = topology.get(above).map_or(NONE, |r| r.attrs.container);
            }
            let sequence = topology.next_sequence();
            topology.set(child.index, Attrs { container: into, addr, priority, sequence, ..attrs });
            Ok(())
        })
    }

    /// Takes `child` out of `container` (QEMU: `memory_region_del_subregion`).
    ///
    /// # Errors
    /// [`MemoryError::NotMapped`] if it is not there.
    pub fn unmap(&mut self, container: RegionId, child: RegionId) -> Result<(), MemoryError> {
        self.topology(|topology| {
            let from = topology.resolve(container)?;
            let record = topology.record(child)?;
            if record.attrs.container != from {
                let name = Arc::clone(&record.body.name);
                return Err(MemoryError::NotMapped { name, container: topology.name_of(from) });
            }
            let attrs = record.attrs;
            topology.set(child.index, Attrs { container: NONE, ..attrs });
            Ok(())
        })
    }

    /// Changes attributes after a check.
    fn change(
        &mut self,
        id: RegionId,
        f: impl FnOnce(&mut Topology, Attrs) -> Result<Attrs, MemoryError>,
    ) -> Result<(), MemoryError> {
        self.topology(|topology| {
            let old = topology.record(id)?.attrs;
            let new = f(topology, old)?;
            topology.set(id.index, new);
            Ok(())
        })
    }

    /// Shows or hides a region (QEMU: `memory_region_set_enabled`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn set_enabled(&mut self, id: RegionId, enabled: bool) -> Result<(), MemoryError> {
        self.change(id, |_, old| Ok(old.with(Flag::Enabled, enabled)))
    }

    /// Moves a region in its container; it then counts as mapped last (QEMU: `memory_region_set_address`). Moving it
    /// to where it is changes nothing.
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn set_address(&mut self, id: RegionId, addr: u64) -> Result<(), MemoryError> {
        self.change(id, |topology, old| {
            let sequence = if addr == old.addr || old.container == NONE {
                old.sequence
            } else {
                topology.next_sequence()
            };
            Ok(Attrs { addr, sequence, ..old })
        })
    }

    /// Changes a region's size in bytes (QEMU: `memory_region_set_size`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale or the size over 2^64 or over the RAM block's.
    pub fn set_size(&mut self, id: RegionId, size: u128) -> Result<(), MemoryError> {
        self.change(id, |topology, old| {
            let body = &topology.record(id)?.body;
            checked_block(&body.name, body.block(), checked_size(&body.name, size)?)?;
            Ok(old.with_size(size))
        })
    }

    /// Changes a region's priority; among equals it then counts as mapped last.
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn set_priority(&mut self, id: RegionId, priority: i32) -> Result<(), MemoryError> {
        self.change(id, |topology, old| {
            let sequence = if priority == old.priority { old.sequence } else { topology.next_sequence() };
            Ok(Attrs { priority, sequence, ..old })
        })
    }

    fn checked_alias(topology: &Topology, id: RegionId, attrs: &Attrs) -> Result<(), MemoryError> {
        if attrs.target == NONE {
            return Err(MemoryError::NotAlias { name: topology.name_of(id.index) });
        }
        Ok(())
    }

    /// Changes the offset at which an alias looks at its target, in bytes
    /// (QEMU: `memory_region_set_alias_offset`).
    ///
    /// # Errors
    /// [`MemoryError::NotAlias`].
    pub fn set_alias_offset(&mut self, id: RegionId, alias_offset: u64) -> Result<(), MemoryError> {
        self.change(id, |topology, old| {
            Self::checked_alias(topology, id, &old)?;
            Ok(Attrs { alias_offset, ..old })
        })
    }

    /// Lets an alias look at another region.
    ///
    /// # Errors
    /// [`MemoryError::NotAlias`]; [`MemoryError::AliasCycle`] if the target is, through aliases, the alias itself.
    /// A target that *contains* the alias is fine.
    pub fn set_alias_target(&mut self, id: RegionId, target: RegionId) -> Result<(), MemoryError> {
        self.change(id, |topology, old| {
            Self::checked_alias(topology, id, &old)?;
            let new = topology.resolve(target)?;
            // Alias chains end as long as every change is checked here; new aliases have no one looking at them.
            let mut at = new;
            while at != NONE {
                if at == id.index {
                    let (name, target) = (topology.name_of(id.index), topology.name_of(new));
                    return Err(MemoryError::AliasCycle { name, target });
                }
                at = topology.get(at).map_or(NONE, |r| r.attrs.target);
            }
            Ok(Attrs { target: new, ..old })
        })
    }

    /// Makes a region, and everything seen through it, read-only or not (QEMU: `memory_region_set_readonly`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn set_readonly(&mut self, id: RegionId, readonly: bool) -> Result<(), MemoryError> {
        self.change(id, |_, old| Ok(old.with(Flag::Readonly, readonly)))
    }

    /// Marks a region, and everything seen through it, as surviving a power cycle or not
    /// (QEMU: `memory_region_set_nonvolatile`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn set_nonvolatile(&mut self, id: RegionId, nonvolatile: bool) -> Result<(), MemoryError> {
        self.change(id, |_, old| Ok(old.with(Flag::Nonvolatile, nonvolatile)))
    }

    /// Switches a ROM device between answering reads from its memory and through its callbacks
    /// (QEMU: `memory_region_rom_device_set_romd`).
    ///
    /// # Errors
    /// [`MemoryError::NotRomDevice`].
    pub fn set_romd(&mut self, id: RegionId, romd: bool) -> Result<(), MemoryError> {
        self.change(id, |topology, old| {
            let body = &topology.record(id)?.body;
            if body.kind != Kind::RomDevice {
                return Err(MemoryError::NotRomDevice { name: Arc::clone(&body.name) });
            }
            Ok(old.with(Flag::Romd, romd))
        })
    }

    /// A region's attributes, as this transaction left them.
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn region(&self, id: RegionId) -> Result<RegionInfo, MemoryError> {
        let state = self.state.borrow();
        let index = state.topology.resolve(id)?;
        state.topology.info(index).ok_or(MemoryError::StaleRegion { id })
    }
}
