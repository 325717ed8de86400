//! Listeners: who is told what a commit changed.
//!
//! What it is: the [`Delta`] of a commit, the [`MemoryListener`]s that are told of it, in QEMU's order, and what
//! happens when one of them cannot follow. What it is not: how views are made, or when a commit takes place; see
//! [`Memory::update`](crate::Memory::update).
//!
//! A commit with listeners goes like this:
//! 1. the views are rendered, and the [`Delta`] is made of the windows that were rendered anew;
//! 2. [`prepare`](MemoryListener::prepare) of every listener: any of them may refuse, and then the change is undone
//!    before anybody saw it ([`cancel`](MemoryListener::cancel) for those that had agreed);
//! 3. the views are published;
//! 4. the callbacks, in QEMU's order, and then [`Memory::update`](crate::Memory::update) returns.
//!
//! The callbacks come *after* the views are published (QEMU: before) because whoever caches translations must drop
//! them when no new ones can be made from the old map; and before `update` returns, because its caller may rely on
//! them: when it returns, the map, the listeners and the hardware behind them agree.
//!
//! What must hold:
//! - **L1** no lock that readers or questions about the map need is held while a callback of step 4 runs. Other
//!   threads' changes wait for their turn until the callbacks are done. Step 2 is part of the transaction, as the
//!   closure of `update` is: questions from other threads wait for it, readers never.
//! - **L2** each listener has been told exactly what makes its picture equal to the published views, whether commits
//!   succeed or fail. One for which this could not be brought about is marked as failed and is called no more.
//! - **L3** without listeners a commit computes none of this.

mod apply;
mod delta;
mod error;
mod flat;
mod listener;
mod notifier;
mod region_io;
mod registry;

pub use delta::{Cause, Delta, SpaceDelta};
pub use error::ListenerError;
pub use flat::IoEventFd;
pub use listener::{ListenerPriority, MemoryListener};
pub use notifier::EventNotifier;
pub use registry::{ListenerId, ListenerInfo};

pub(crate) use apply::{Failure, Plan, log_clear, log_sync, prepare};
pub(crate) use delta::SpaceChange;
pub(crate) use region_io::{RegionEventFd, RegionIo};
pub(crate) use registry::{Entry, Registry};
