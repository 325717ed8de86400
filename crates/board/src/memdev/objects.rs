//! The objects there are: memory back ends, who uses them, and the memory devices made of them.
//!
//! What it is: the machine's account of `/objects` and of its device memory, with what `object-add`, `object-del`,
//! `device_add pc-dimm` and `device_del` do to it. What it is not: a monitor; texts are made elsewhere.
//!
//! What must hold: a back end has one user at most, and one that has a user stays; no lock is held while memory is allocated or
//! the map changed, so a slot, an address and a back end are taken first and given back if that fails.

use std::fmt;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flatview::{Memory, MemoryError, Owner, RamBlock, Region, RegionId};
use parking_lot::Mutex;

use super::dimm::{DimmInfo, DimmSpec, Room};
use super::error::ObjectError;
use super::spec::{MemdevSpec, PreallocWatch};
use crate::ram_blocks::{RamBlockRow, RamBlocks};

/// Who uses a back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Nobody,
    /// The machine: it is its RAM.
    Machine,
    /// The DIMM of this number.
    Dimm(u64),
}

struct Memdev {
    spec: MemdevSpec,
    block: Arc<RamBlock>,
    user: User,
}

struct Dimm {
    number: u64,
    info: DimmInfo,
    memdev: String,
    /// `None` while it is being plugged or pulled.
    region: Option<RegionId>,
}

/// Where memory devices go.
#[derive(Debug, Clone, Copy)]
struct DeviceMemory {
    region: RegionId,
    room: Room,
}

#[derive(Default)]
struct State {
    memdevs: Vec<Memdev>,
    dimms: Vec<Dimm>,
    blocks: RamBlocks,
    /// The board's own name for its RAM, which no user's object may have.
    reserved: Option<String>,
    device_memory: Option<DeviceMemory>,
}

/// A memory back end, as `info memdev` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemdevInfo {
    /// What it is.
    pub spec: MemdevSpec,
    /// Whether it is the machine's RAM or a DIMM's.
    pub in_use: bool,
}

/// The block for a machine's RAM.
#[derive(Debug, Clone)]
pub struct MachineRam {
    /// The name for its region.
    pub name: String,
    /// The memory.
    pub block: Arc<RamBlock>,
    /// The back end as an owner, if the user made it; else the board chooses.
    pub owner: Option<Owner>,
    /// Whether the guest finds it read-only.
    pub rom: bool,
}

/// The machine's objects.
pub struct MemoryObjects {
    memory: Memory,
    board: String,
    watch: Option<PreallocWatch>,
    state: Mutex<State>,
    next: AtomicU64,
}

impl fmt::Debug for MemoryObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryObjects").field("board", &self.board).finish_non_exhaustive()
    }
}

fn path_of(id: &str) -> String {
    format!("/objects/{id}")
}

impl MemoryObjects {
    pub(crate) fn new(memory: &Memory, board: &str, watch: Option<PreallocWatch>) -> MemoryObjects {
        MemoryObjects {
            memory: memory.clone(),
            board: board.to_owned(),
            watch,
            state: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Makes a back end (QEMU: `object-add`). Its memory is allocated here, which may take its time with preallocation.
    ///
    /// # Errors
    /// [`ObjectError`]: the id is taken, or what the host says.
    pub fn add(&self, spec: MemdevSpec) -> Result<(), ObjectError> {
        let taken = |state: &State| {
            let reserved = state.reserved.as_deref() == Some(spec.id.as_str());
            let duplicate = || Err(ObjectError::DuplicateObject(spec.id.clone()));
            if reserved || state.memdevs.iter().any(|m| m.spec.id == spec.id) { duplicate() } else { Ok(()) }
        };
        taken(&self.state.lock())?;
        let block = spec.build(self.watch.as_ref())?;
        let mut state = self.state.lock();
        // Somebody may have been faster; then the memory goes again.
        taken(&state)?;
        state.blocks.add(&block);
        state.memdevs.push(Memdev { spec, block, user: User::Nobody });
        Ok(())
    }

    /// Removes a back end that nobody uses (QEMU: `object-del`).
    ///
    /// # Errors
    /// [`ObjectError::NoObject`], [`ObjectError::InUse`].
    pub fn remove(&self, id: &str) -> Result<(), ObjectError> {
        let removed = {
            let mut state = self.state.lock();
            let at = state.memdevs.iter().position(|m| m.spec.id == id);
            let at = at.ok_or_else(|| ObjectError::NoObject(id.to_owned()))?;
            if state.memdevs.get(at).is_some_and(|m| m.user != User::Nobody) {
                return Err(ObjectError::InUse(id.to_owned()));
            }
            let memdev = state.memdevs.remove(at);
            state.blocks.remove(&memdev.block);
            memdev
        };
        // Unmapping may take its time.
        drop(removed);
        Ok(())
    }

    /// The back ends, in the order in which they were made.
    pub fn memdevs(&self) -> Vec<MemdevInfo> {
        let state = self.state.lock();
        let info = |m: &Memdev| MemdevInfo { spec: m.spec.clone(), in_use: m.user != User::Nobody };
        state.memdevs.iter().map(info).collect()
    }

    /// The machine's RAM: the user's back end of that name.
    pub(crate) fn claim_for_machine(&self, id: &str) -> Result<MachineRam, ObjectError> {
        let mut state = self.state.lock();
        let memdev = state.memdevs.iter_mut().find(|m| m.spec.id == id);
        let memdev = memdev.ok_or_else(|| ObjectError::NoMemdev(id.to_owned()))?;
        if memdev.user != User::Nobody {
            return Err(ObjectError::Busy(id.to_owned()));
        }
        memdev.user = User::Machine;
        Ok(MachineRam {
            name: id.to_owned(),
            block: memdev.block.clone(),
            owner: Some(Owner::object(path_of(id))),
            rom: memdev.spec.is_rom(),
        })
    }

    /// The machine's RAM: a back end that the board names.
    pub(crate) fn make_for_machine(&self, spec: MemdevSpec) -> Result<MachineRam, ObjectError> {
        if self.state.lock().memdevs.iter().any(|m| m.spec.id == spec.id) {
            return Err(ObjectError::Reserved(spec.id));
        }
        let block = spec.build(self.watch.as_ref())?;
        let mut state = self.state.lock();
        state.reserved = Some(spec.id.clone());
        state.blocks.add(&block);
        let name = spec.id.clone();
        state.memdevs.push(Memdev { spec, block: block.clone(), user: User::Machine });
        // As in QEMU the region is the back end's, whoever named it.
        let owner = Some(Owner::object(path_of(&name)));
        Ok(MachineRam { name, block, owner, rom: false })
    }

    /// Notes a block for `info ramblock`; one that is there already stays where it is.
    pub(crate) fn note_block(&self, block: &Arc<RamBlock>) {
        self.state.lock().blocks.add(block);
    }

    /// The lines of `info ramblock`, in its order.
    pub fn ram_blocks(&self) -> Vec<RamBlockRow> {
        self.state.lock().blocks.rows()
    }

    /// The block whose memory an open file is, if it is one's.
    pub(crate) fn block_of_file(&self, file: &File) -> Option<String> {
        let identity = |m: &Metadata| (m.dev(), m.ino());
        let wanted = identity(&file.metadata().ok()?);
        let is_it = |block: &Arc<RamBlock>| {
            let own = block.file().and_then(|(fd, _)| fd.try_clone_to_owned().ok());
            own.and_then(|fd| File::from(fd).metadata().ok()).is_some_and(|m| identity(&m) == wanted)
        };
        let blocks = self.state.lock().blocks.all();
        blocks.iter().find(|block| is_it(block)).map(|block| block.name().to_owned())
    }

    /// The board has addresses for memory devices, and the user asked for none.
    pub(crate) fn allow_device_memory(&self, parent: RegionId) {
        let room = Room { base: 0, size: 0, slots: 0 };
        self.state.lock().device_memory = Some(DeviceMemory { region: parent, room });
    }

    /// Gives memory devices the addresses from `base` on: a container of `size` bytes in `parent`.
    pub(crate) fn set_device_memory(
        &self,
        parent: RegionId,
        base: u64,
        size: u64,
        slots: u64,
    ) -> Result<(), MemoryError> {
        let owner = Owner::object("/machine");
        let region = self.memory.update(|t| {
            let region = t.add(Region::container("device-memory", size.into()).parent(&owner))?;
            t.map(parent, base, region)?;
            Ok::<_, MemoryError>(region)
        })?;
        self.state.lock().device_memory = Some(DeviceMemory { region, room: Room { base, size, slots } });
        Ok(())
    }

    /// Plugs a DIMM (QEMU: `device_add pc-dimm`): the guest finds the back end's memory at its address when this returns.
    ///
    /// # Errors
    /// [`ObjectError`]: the machine has no device memory, the back end is unknown or in use, there is no slot or no room.
    /// Nothing has changed then.
    pub fn plug(&self, spec: &DimmSpec, hotplugged: bool) -> Result<(), ObjectError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (memory, region, at) = self.reserve(spec, hotplugged, number)?;
        let plugged = self.memory.update(|t| {
            let region = t.add(region)?;
            t.map(memory.region, at - memory.room.base, region)?;
            Ok::<_, MemoryError>(region)
        });
        let mut state = self.state.lock();
        match plugged {
            Ok(region) => {
                if let Some(dimm) = state.dimms.iter_mut().find(|d| d.number == number) {
                    dimm.region = Some(region);
                }
                Ok(())
            }
            Err(e) => {
                state.release(number);
                Err(e.into())
            }
        }
    }

    /// Takes slot, address and back end; gives the region to be mapped and where.
    fn reserve(
        &self,
        spec: &DimmSpec,
        hotplugged: bool,
        number: u64,
    ) -> Result<(DeviceMemory, Region, u64), ObjectError> {
        let mut state = self.state.lock();
        if let Some(id) = &spec.id
            && state.dimms.iter().any(|d| d.info.id.as_ref() == Some(id))
        {
            return Err(ObjectError::DuplicateDevice(id.clone()));
        }
        let id = spec.memdev.as_ref();
        let memdev = |state: &State| {
            id.map(|id| state.memdevs.iter().position(|m| m.spec.id == *id).ok_or(id)).transpose()
        };
        let at = memdev(&state).map_err(|id| ObjectError::NoDevice(id.clone()))?;
        let memdev = at.and_then(|at| state.memdevs.get(at)).ok_or(ObjectError::NoMemory)?;
        if memdev.user != User::Nobody {
            return Err(ObjectError::Busy(memdev.spec.id.clone()));
        }
        if spec.node != 0 {
            return Err(ObjectError::NoNode(spec.node));
        }
        let Some(memory) = state.device_memory else {
            let board = self.board.clone();
            return Err(ObjectError::NotSupported { board });
        };
        if memory.room.size == 0 {
            return Err(ObjectError::NotEnabled);
        }
        let taken: Vec<DimmInfo> = state.dimms.iter().map(|d| d.info.clone()).collect();
        let slot = memory.room.slot(spec.slot, &taken)?;
        let (block, name) = (memdev.block.clone(), memdev.spec.id.clone());
        let (size, align) = (block.size(), memdev.spec.guest_alignment(&block));
        let addr = memory.room.address(spec.addr, size, align, &taken)?;
        let owner = Owner::object(path_of(&name));
        let region = Region::ram(&*name, block).owner(&owner).readonly(memdev.spec.is_rom());
        let (id, node) = (spec.id.clone(), spec.node);
        let info = DimmInfo { id, addr, size, slot, node, memdev: path_of(&name), hotplugged };
        if let Some(memdev) = at.and_then(|at| state.memdevs.get_mut(at)) {
            memdev.user = User::Dimm(number);
        }
        state.dimms.push(Dimm { number, info, memdev: name, region: None });
        Ok((memory, region, addr))
    }

    /// Pulls a DIMM (QEMU: `device_del`). Accesses that began before this returns may still reach its memory, which stays as
    /// long as anybody uses it; the back end is free for another DIMM at once.
    ///
    /// # Errors
    /// [`ObjectError::NoDevice`]; what the map says.
    pub fn unplug(&self, id: &str) -> Result<(), ObjectError> {
        let unknown = || ObjectError::NoDevice(id.to_owned());
        let (number, region, container) = {
            let mut state = self.state.lock();
            let container = state.device_memory.ok_or_else(unknown)?.region;
            let dimm = state.dimms.iter_mut().find(|d| d.info.id.as_deref() == Some(id));
            let dimm = dimm.ok_or_else(unknown)?;
            // One that is on its way, in or out, is not there for anybody else.
            (dimm.number, dimm.region.take().ok_or_else(unknown)?, container)
        };
        let pulled = self.memory.update(|t| {
            t.unmap(container, region)?;
            t.remove(region)
        });
        let mut state = self.state.lock();
        match pulled {
            Ok(()) => {
                state.release(number);
                Ok(())
            }
            Err(e) => {
                if let Some(dimm) = state.dimms.iter_mut().find(|d| d.number == number) {
                    dimm.region = Some(region);
                }
                Err(e.into())
            }
        }
    }

    /// The DIMMs that are plugged, by slot.
    pub fn devices(&self) -> Vec<DimmInfo> {
        let state = self.state.lock();
        let mut all: Vec<_> =
            state.dimms.iter().filter(|d| d.region.is_some()).map(|d| d.info.clone()).collect();
        all.sort_by_key(|dimm| dimm.slot);
        all
    }

    /// Bytes of memory that are plugged.
    pub fn plugged(&self) -> u64 {
        self.devices().iter().map(|dimm| dimm.size).sum()
    }
}

impl State {
    /// Gives back what a DIMM had.
    fn release(&mut self, number: u64) {
        if let Some(at) = self.dimms.iter().position(|d| d.number == number) {
            let dimm = self.dimms.remove(at);
            let user = User::Dimm(number);
            let memdev = self.memdevs.iter_mut().find(|m| m.spec.id == dimm.memdev && m.user == user);
            if let Some(memdev) = memdev {
                memdev.user = User::Nobody;
            }
        }
    }
}
