//! The RAM of a space as vhost's memory table.
//!
//! What it is: the entries for `VhostBackend::set_mem_table`, made of a [`RamView`], and a listener that sets them anew when the
//! map changes. What it is not: a vhost device; rings and features are its own business.
//!
//! What must hold: the addresses and descriptors in the entries are good as long as the table lives, which keeps the RAM; the
//! listener keeps the table that the back end has.

use std::fmt;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use flatview::{
    AddressSpace, ListenerError, ListenerPriority, MemoryListener, RamRegion, RamView, SpaceId, WeakSpace,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo};
use vm_memory::{FileOffset, GuestMemoryRegion};

/// Why a table cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableError {
    /// Another process cannot map it.
    #[error(
        "RAM block '{block}', which shows at {addr:#x}, is no shared memory, so a vhost-user back end cannot map it: build it \
         with memfd() or file() and share(Share::Shared)"
    )]
    NotShared {
        /// The block's name.
        block: String,
        /// Where the RAM begins.
        addr: u64,
    },
}

/// A vhost memory table, and the RAM it is of (QEMU: what `vhost_commit` makes).
pub struct MemoryTable {
    regions: Vec<VhostUserMemoryRegionInfo>,
    ram: Arc<RamView>,
}

impl fmt::Debug for MemoryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTable({} of {:?})", self.regions.len(), self.ram)
    }
}

/// What the protocol can say of a region: the end of it must be a number of 64 bits, so the last byte of all is left out.
fn sayable(addr: u64, len: u64, unit: u64) -> u64 {
    if addr.checked_add(len).is_none() { len.saturating_sub(unit) } else { len }
}

fn entry(region: &RamRegion, file: Option<&FileOffset>, before: u64, len: u64) -> VhostUserMemoryRegionInfo {
    let host = region.host().map_or(0, |host| host.as_ptr() as u64);
    VhostUserMemoryRegionInfo {
        guest_phys_addr: region.start() + before,
        memory_size: len,
        userspace_addr: host + before,
        mmap_offset: file.map_or(0, |f| f.start() + before),
        mmap_handle: file.map_or(-1, |f| f.file().as_raw_fd()),
    }
}

impl MemoryTable {
    /// For a back end in the kernel, which uses this process's addresses. It has no descriptors.
    #[must_use]
    pub fn kernel(ram: Arc<RamView>) -> Self {
        let entry = |region: &RamRegion| {
            let len = sayable(region.start(), region.len(), 1);
            (len > 0).then(|| entry(region, None, 0, len))
        };
        let regions = ram.regions().iter().filter_map(entry).collect();
        Self { regions, ram }
    }

    /// For a vhost-user back end, which maps the files. It can map whole pages of them: parts of a page at either end of a run
    /// of RAM are left out.
    ///
    /// # Errors
    /// [`TableError::NotShared`].
    pub fn user(ram: Arc<RamView>) -> Result<Self, TableError> {
        let entry = |region: &RamRegion| {
            let (block, addr) = (region.block().0, region.start());
            let Some(file) = region.file_offset() else {
                return Some(Err(TableError::NotShared { block: block.name().to_owned(), addr }));
            };
            let page = block.page_size();
            let before = file.start().checked_next_multiple_of(page)?.checked_sub(file.start())?;
            let len = region.len().checked_sub(before)?;
            let len = sayable(addr.checked_add(before)?, len - len % page, page);
            (len > 0).then(|| Ok(entry(region, Some(file), before, len)))
        };
        let regions = ram.regions().iter().filter_map(entry).collect::<Result<_, _>>()?;
        Ok(Self { regions, ram })
    }

    /// The entries in address order, for `VhostBackend::set_mem_table`.
    #[must_use]
    pub fn regions(&self) -> &[VhostUserMemoryRegionInfo] {
        &self.regions
    }

    /// The RAM, which the table keeps mapped.
    #[must_use]
    pub fn ram(&self) -> &Arc<RamView> {
        &self.ram
    }
}

impl PartialEq for MemoryTable {
    /// Whether a back end would see no difference.
    fn eq(&self, other: &Self) -> bool {
        let entry = |r: &VhostUserMemoryRegionInfo| {
            (r.guest_phys_addr, r.memory_size, r.userspace_addr, r.mmap_offset, r.mmap_handle)
        };
        self.regions.iter().map(entry).eq(other.regions.iter().map(entry))
    }
}

type Make = fn(Arc<RamView>) -> Result<MemoryTable, TableError>;

/// Keeps a back end's memory table equal to the RAM of a space (QEMU: `vhost_memory_listener`).
///
/// The table is set when a commit has changed it, and not otherwise. RAM that a back end cannot have, or a table that it
/// refuses, fails the change of the map, which is then taken back. While there is no RAM at all, the back end keeps the
/// table it has.
pub struct TableListener<B> {
    backend: B,
    make: Make,
    id: SpaceId,
    /// Not to keep the memory, which keeps its listeners.
    space: WeakSpace,
    /// What the back end has.
    set: Mutex<Option<MemoryTable>>,
}

impl<B> fmt::Debug for TableListener<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableListener").field("set", &self.set).finish_non_exhaustive()
    }
}

impl<B: VhostBackend> TableListener<B> {
    /// For a vhost-user back end: see [`MemoryTable::user`].
    pub fn user(backend: B, space: &AddressSpace) -> Self {
        Self::new(backend, space, MemoryTable::user)
    }

    /// For a back end in the kernel: see [`MemoryTable::kernel`].
    pub fn kernel(backend: B, space: &AddressSpace) -> Self {
        Self::new(backend, space, |ram| Ok(MemoryTable::kernel(ram)))
    }

    fn new(backend: B, space: &AddressSpace, make: Make) -> Self {
        Self { backend, make, id: space.id(), space: space.downgrade(), set: Mutex::default() }
    }
}

impl<B: VhostBackend + Send + Sync> MemoryListener for TableListener<B> {
    fn name(&self) -> &str {
        "vhost"
    }

    fn priority(&self) -> ListenerPriority {
        ListenerPriority::DEV_BACKEND
    }

    fn space(&self) -> Option<SpaceId> {
        Some(self.id)
    }

    fn commit(&self) -> Result<(), ListenerError> {
        let Some(space) = self.space.upgrade() else { return Ok(()) };
        let table = (self.make)(space.ram_view()).map_err(ListenerError::new)?;
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.regions.is_empty() && set.as_ref() != Some(&table) {
            self.backend.set_mem_table(&table.regions).map_err(ListenerError::new)?;
            *set = Some(table);
        }
        Ok(())
    }
}
