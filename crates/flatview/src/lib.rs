//! The memory system of a machine, as QEMU's memory regions mean it.
//!
//! A machine's memory is a tree of *regions*: RAM, ROM, MMIO with read and write callbacks, containers, aliases;
//! they overlap, with priorities. *Address spaces* look at the tree through *flat views*: disjoint ranges, each with
//! the one region that answers there. Flat views are immutable and are replaced when the tree changes, so accesses
//! take no lock.
//!
//! ```
//! use flatview::{Be, Endianness, Memory, Ops, RamBlock, Region};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = Memory::new(Endianness::Big);
//! let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 64 << 10)?))?;
//! let uart = memory.add(Region::io("uart", 8, Ops::new().read(|_| Ok(0x60)).write(|_, _| Ok(()))))?;
//! memory.update(|t| {
//!     t.map(memory.system(), 0, ram)?;
//!     t.map_overlap(memory.system(), 0x3f8, uart, 1) // over the RAM
//! })?;
//!
//! let reader = memory.memory_space().reader();
//! reader.store::<Be, u32>(0x100, 0x1234_5678)?;
//! assert_eq!(reader.load::<Be, u16>(0x100)?, 0x1234);
//! assert_eq!(reader.load::<Be, u8>(0x3fd)?, 0x60);
//! assert!(reader.load::<Be, u32>(0x10_0000).is_err()); // nothing answers there
//! # Ok(())
//! # }
//! ```
//!
//! Where things are:
//! - [`Memory`], [`Transaction`], [`Region`]: building and changing the map; [`RamBlock`], [`RamBuilder`]: the host memory
//!   of RAM; [`DiscardManager`], [`RamBlockNotifier`]: giving it back in parts, following what comes and goes;
//! - [`AddressSpace`], [`Reader`], [`Port`]: accessing it; [`MmioOps`], [`Ops`], [`Access`]: being accessed;
//! - [`Mapped`], [`RegionCache`]: accessing it directly, for a while; [`MapError`], [`Direction`];
//! - [`IommuOps`], [`Iommu`], [`IommuNotifier`]: translating accesses, and hearing of what changes in that;
//! - [`MemoryListener`], [`Delta`]: being told what changed;
//! - [`DirtyClient`], [`Memory::set_log`], [`DirtySnapshot`]: which pages were written;
//! - [`FlatView`], [`FlatRange`], [`visibility`]: seeing what it is; [`mtree`]: as QEMU's `info mtree` prints it, and
//!   from what it printed;
//! - `RamView` (with the feature `vm-memory`): the RAM as rust-vmm's crates want it.

mod access;
mod commit;
mod dirty;
mod dirty_rate;
mod error;
mod id;
mod iommu;
mod listen;
mod mapping;
mod memory;
mod memtx;
mod mmio;
pub mod mtree;
mod order;
mod publish;
mod ram;
mod render;
mod section;
mod span;
mod thread;
mod topology;
mod unlikely;
mod view;
pub mod visibility;
#[cfg(feature = "vm-memory")]
mod vm_memory;

#[cfg(feature = "vm-memory")]
pub use crate::vm_memory::{DirtyPages, DirtySlice, RamGuard, RamRegion, RamView};
pub use access::{Access, AccessTrace, MemTxAttrs, Port, Reader};
pub use dirty::{DirtyClient, GlobalLog};
pub use dirty_rate::{DirtyRate, DirtyRateMeter};
pub use error::{InUse, MemoryError};
pub use id::{RegionId, SpaceId};
pub use iommu::{
    IntoIommuOps, Iommu, IommuAccess, IommuEntry, IommuError, IommuEvent, IommuEventKind, IommuEvents,
    IommuNotifier, IommuNotifierId, IommuOps, IommuPerm, IommuReplay, IommuRequest, IotlbEntry,
};
pub use listen::{
    Cause, Delta, EventNotifier, IoEventFd, ListenerError, ListenerId, ListenerInfo, ListenerPriority,
    MemoryListener, SpaceDelta,
};
pub use mapping::{Direction, MapError, Mapped, RegionCache, RoomWaiter};
pub use memory::{
    AccessLog, AddressSpace, InvalidAccess, Limits, Memory, MemoryBuilder, NewlyDirty, Transaction,
    WeakMemory, WeakSpace,
};
pub use memtx::{MemTxError, MemTxResult, Reason};
pub use mmio::{AccessFilter, AccessRules, MmioOps, Ops};
pub use order::{Be, ByteOrder, DeviceEndian, Endianness, Le, Value};
pub use ram::{
    DIRTY_PAGE_SIZE, DirtySnapshot, DiscardBusy, DiscardError, DiscardGuard, DiscardListener,
    DiscardListenerId, DiscardManager, DiscardRules, HostBuffer, HostPolicy, HostPtr, HugePages,
    NewlyDirtyWatch, NotifierId, Prealloc, PreallocProgress, RamBlock, RamBlockInfo, RamBlockNotifier,
    RamBuilder, RamError, Refusal, Share,
};
pub use section::Section;
pub use span::WHOLE;
pub use topology::{IntoOps, Owner, Region, RegionInfo, RegionType};
pub use view::{FlatRange, FlatView, ViewShape};
