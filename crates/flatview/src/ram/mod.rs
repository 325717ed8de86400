//! Guest RAM: blocks of host memory and the only code that touches their bytes.
//!
//! What it is: [`RamBlock`]s with their back ends, [`RamSpan`]s (a run of bytes of a block), and the loads, stores and
//! copies on them; [`Anchored`] spans and [`RamWindow`]s, which stand at guest addresses; the notes of which pages were
//! written ([`dirty`]). What it is not: regions; a block does not know where, or
//! whether, it is mapped.
//!
//! | question | module |
//! |---|---|
//! | What is a block? | [`block`] |
//! | What can it be made of, with which options? | [`backend`], [`buffer`] |
//! | Which file is behind it? | [`file`] |
//! | How is it mapped, between guard pages? | [`mapping`] |
//! | On which nodes of the host? | [`policy`] |
//! | How are all its pages had in advance? | [`prealloc`] |
//! | How is memory given back, and who must agree? | [`discard`], [`manager`] |
//! | When is it in its file? | [`sync`] |
//! | Who is told of blocks that come and go? | [`notify`] |
//! | Which pages were written? | [`dirty`] |
//! | How are the bytes reached? | [`bytes`], [`host`]; [`atomic`] in one step, [`device`] for RAM that is a device's |
//!
//! What must hold:
//! - **B1** a block's bytes stay mapped, readable and (unless the host mapping is read-only) writable at one
//!   address while the `RamBlock` lives, and nobody in this crate makes a `&[u8]` of them: guest RAM changes under
//!   our feet, so every access is an atomic of up to eight bytes or a raw copy.
//! - **B2** a `RamSpan` lies inside its block and borrows it, by itself or through what keeps it (an `Anchored` span's
//!   anchor, the view that a `RamWindow` was taken from).

mod anchored;
mod atomic;
mod backend;
mod block;
mod buffer;
mod bytes;
mod device;
mod dirty;
mod discard;
mod error;
mod file;
mod host;
mod manager;
mod mapping;
mod notify;
mod policy;
mod prealloc;
mod sync;
mod window;

pub use backend::{HugePages, RamBuilder};
pub use block::{RamBlock, RamBlockInfo, Share};
pub use buffer::HostBuffer;
pub use dirty::{DIRTY_PAGE_SIZE, DirtySnapshot, NewlyDirtyWatch};
pub use discard::{DiscardBusy, DiscardGuard, DiscardRules};
pub use error::RamError;
pub use host::HostPtr;
pub use manager::{DiscardError, DiscardListener, DiscardListenerId, DiscardManager, Refusal};
pub use notify::{NotifierId, RamBlockNotifier};
pub use policy::HostPolicy;
pub use prealloc::{Prealloc, PreallocProgress};

pub(crate) use anchored::{Anchored, Answer};
pub(crate) use atomic::Rmw;
pub(crate) use bytes::{RamSpan, opaque};
pub(crate) use device::RamDeviceOps;
pub(crate) use dirty::{BlockDirty, Claimed, MOST_CLIENTS, NoBarrier, heavy, light, prepare};
pub(crate) use notify::Notifiers;
pub(crate) use window::{RamPlace, RamWindow, Stores};
