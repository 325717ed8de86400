//! The handle that owns a machine's memory.
//!
//! What it is: [`Memory`] with its writer side (the tree, the spaces, the published views), the ways to change it
//! and to ask about it. What it is not: the way to access memory; that is a [`Reader`](crate::Reader).
//!
//! What must hold:
//! - **M1** a change is all or nothing: views are rendered before anything is published, and an error undoes the tree.
//! - **M2** there is one writer at a time, until the listeners were told of its change; readers never wait for it.
//!   Nothing of the caller's is run or dropped while the state is borrowed, and what a commit frees is dropped after the
//!   lock is released.

mod accel;
mod clients;
mod dirty;
mod handle;
mod iommu;
mod listeners;
mod query;
mod ram;
mod region_io;
mod spaces;
mod state;
mod trace;
mod transaction;
mod turn;

pub use dirty::NewlyDirty;
pub use handle::{AccessLog, InvalidAccess, Limits, Memory, MemoryBuilder, WeakMemory};
pub use spaces::{AddressSpace, WeakSpace};
pub use transaction::Transaction;

pub(crate) use handle::Inner;
pub(crate) use spaces::SpaceInner;
use state::State;
