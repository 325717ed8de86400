//! The RAM of an address space as rust-vmm's crates want it: the traits of [`vm-memory`](::vm_memory) 0.18.
//!
//! What it is: [`RamView`], an immutable table of the writable RAM of one flat view, which is a
//! [`GuestMemoryBackend`](::vm_memory::GuestMemoryBackend); and `GuestAddressSpace` for
//! [`AddressSpace`](crate::AddressSpace), which gives the newest one. So virtio-queue, linux-loader, vhost and vfio-ioctls
//! run on memory that Flatview maps. What it is not: a way to devices, or a second notion of dirty pages.
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
pub(crate) use table::is_same_ram;
