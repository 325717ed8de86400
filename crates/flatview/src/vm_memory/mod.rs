//! The RAM of an address space as rust-vmm's crates want it: the traits of [`vm-memory`](::vm_memory) 0.18.
//!
//! What it is: [`RamView`], an immutable table of the writable RAM of one flat view, which is a
//! [`GuestMemoryBackend`](::vm_memory::GuestMemoryBackend); and `GuestAddressSpace` for
//! [`AddressSpace`](crate::AddressSpace), which gives the newest one. So virtio-queue, linux-loader, vhost and vfio-ioctls
//! run on memory that Flatview maps. What it is not: a way to devices. A `RamView` has holes where anything but
//! writable RAM answers; accesses that are to reach a device go through a [`Reader`](crate::Reader).
//!
//! | in the view | in its `RamView` |
//! |---|---|
//! | RAM, writable there | a region; two aliases of one block are two regions over the same bytes |
//! | ROM, RAM seen through a read-only alias, RAM whose host mapping is read-only | a hole: `vm-memory` cannot say read-only |
//! | a ROM device, in ROM mode too | a hole |
//! | a RAM device | a hole: it wants accesses of exact size |
//! | MMIO, reservations | a hole |
//! | an IOMMU | a hole: what lies behind it depends on each access |
//!
//! ```
//! use flatview::{Endianness, Le, Memory, Ops, RamBlock, Region};
//! use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend};
//!
//! // As a device of rust-vmm's world would have it.
//! fn copy_word<S: GuestAddressSpace>(space: &S, from: u64, to: u64) -> Result<(), vm_memory::GuestMemoryError> {
//!     let memory = space.memory();
//!     let word: u32 = memory.read_obj(GuestAddress(from))?;
//!     memory.write_obj(word, GuestAddress(to))
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = Memory::new(Endianness::Little);
//! let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20)?))?;
//! let uart = memory.add(Region::io("uart", 8, Ops::new()))?;
//! memory.update(|t| {
//!     t.map(memory.system(), 0, ram)?;
//!     t.map_overlap(memory.system(), 0x8000, uart, 1) // over the RAM
//! })?;
//! let space = memory.memory_space();
//! space.reader().store::<Le, u32>(0x100, 0x1122_3344)?;
//! copy_word(&space, 0x100, 0x8008)?;
//! assert_eq!(space.reader().load::<Le, u32>(0x8008)?, 0x1122_3344);
//!
//! // The UART cuts the RAM in two, and is a hole.
//! let ram = space.ram_view();
//! assert_eq!(ram.num_regions(), 2);
//! assert!(copy_word(&space, 0x100, 0x8000).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! **When the map changes** while a `RamView` is held, nothing happens to it: it goes on showing the map that it was made of,
//! and keeps that map's RAM (not its devices) mapped, also if the RAM was unplugged. Who is to follow the map asks for
//! memory anew for each request, as devices on `GuestMemoryAtomic` do. When an [`update`](crate::Memory::update) has
//! returned, whoever asks gets the new map.
//!
//! **Cost.** Asking is one atomic load of a pointer and a comparison as long as the view has not changed, without a
//! lock. After a change the first who asks walks the ranges of the new view, once for all spaces that share it. Nobody who does
//! not ask pays for it.
//!
//! **Dirty tracking** is the library's own, whose bits are the RAM block's: see [`DirtySlice`].
//!
//! What must hold:
//! - **V1** a region lies in its block, which it keeps: its host memory stays mapped while the view lives.
//! - **V2** regions are disjoint and in order, and each holds a byte at least.
//! - **V3** what a space keeps for the next who asks is let go of by the commit that makes it old: an idle device keeps no RAM
//!   of a map that is gone.

mod dirty;
mod region;
mod space;
mod table;

pub use dirty::{DirtyPages, DirtySlice};
pub use region::RamRegion;
pub use space::RamGuard;
pub use table::RamView;

pub(crate) use space::{LastRam, RamUsers};
