//! How a new view reaches the readers, and who frees the old one.
//!
//! What it is: [`Slot`]s that hold a published value, [`Lane`]s through which one reader looks at slots, and the
//! [`Domain`] that frees what no lane looks at any more (hazard pointers). What it is not: anything about memory;
//! the published type is a parameter, so that loom can check this module with small values.
//!
//! What must hold:
//! - **P1** a value that a slot has published is freed only by [`Domain::reclaim`] (or when the slot itself goes,
//!   which its owner does after the last lane), and only if no lane's hazard names it.
//! - **P2** a lane dereferences only the pointer in its hazard, and only after it has seen that the slot still
//!   published that pointer *after* the hazard was set; while it is pinned the hazard does not change.
//! - **P3** reading takes no lock, clones no `Arc` and writes nothing while nobody told the lane to look again; a refresh takes
//!   a reference and never a lock.
//! - **P4** a lane that goes on to another value says where the two may differ: everywhere, unless both are of one slot
//!   and every publication between them was [noted](told).
//! - **P5** a lane that looks at a value which is not the one it would find now has been told so when whoever changed that is
//!   done: it marks itself as fresh before it names the value, and whoever replaces a value then tells all lanes that name it.
//!
//! The order that matters: a reader sets its hazard, then looks at the slot again; a writer replaces the value in
//! the slot, then looks at the hazards. The `SeqCst` fence between the two steps on either side makes sure that at
//! least one of them sees the other. Everything else is acquire and release on the atomics themselves.

mod domain;
mod lane;
mod told;

pub(crate) use domain::{Domain, Hazards, Reclaimed, Slot};
pub(crate) use lane::{Lane, Memo, Pinned};

#[cfg(not(loom))]
use parking_lot::Mutex;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(loom)]
use {
    loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence},
    loom_tests::Mutex,
};

/// The lanes of one reader: its own space and those that device callbacks reach through it. One is enough for the
/// models, which try every interleaving of what happens.
pub(crate) const LANES: usize = if cfg!(loom) { 1 } else { 8 };

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
