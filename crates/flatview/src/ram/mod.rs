//! Guest RAM: blocks of host memory and the only code that touches their bytes.
//!
//! What it is: [`RamBlock`]s with their back ends, [`RamSpan`]s (a run of bytes of a block), and the loads, stores and
//! copies on them; [`Anchored`] spans and [`RamWindow`]s, which stand at guest addresses; the notes of which pages were
//! written ([`dirty`]). What it is not: regions; a block does not know where, or
//! whether, it is mapped.
//!
//! What must hold:
//! - **B1** a block's bytes stay mapped, readable and (unless the host mapping is read-only) writable at one
//!   address while the `RamBlock` lives, and nobody in this crate makes a `&[u8]` of them: guest RAM changes under
//!   our feet, so every access is an atomic of up to eight bytes or a raw copy.
//! - **B2** a `RamSpan` lies inside its block and borrows it, by itself or through what keeps it (an `Anchored` span's
//!   anchor, the view that a `RamWindow` was taken from).

mod anchored;
mod block;
mod bytes;
mod dirty;
mod host;
mod window;

pub use block::{HostBuffer, RamBlock, RamBlockInfo, RamError, Share};
pub use dirty::{DIRTY_PAGE_SIZE, DirtySnapshot};
pub use host::HostPtr;

pub(crate) use anchored::{Anchored, Answer};
pub(crate) use bytes::RamSpan;
pub(crate) use dirty::{BlockDirty, Claimed, MOST_CLIENTS, NoBarrier, heavy, light, prepare};
pub(crate) use window::RamWindow;
