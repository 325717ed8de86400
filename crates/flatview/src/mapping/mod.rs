//! Memory that is held for a while: mappings, region caches, copies, atomic accesses, and questions beforehand.
//!
//! What it is: the ways to a guest's memory besides single accesses: [`Mapped`], a run of RAM (or a copy of what is not
//! RAM, a bounce buffer) that a device works on; [`RegionCache`], a run that is accessed over and over; copying from one
//! space to another; read-modify-write in one step; asking whether an access would be taken. What it is not: a way to
//! borrow guest RAM as a slice; there is none.
//!
//! | question | module |
//! |---|---|
//! | Which RAM is one run, and may be accessed that way? | [`direct`] |
//! | What is a mapping? | [`guard`] |
//! | How many bytes may bounce, and who waits for them? | [`bounce`] |
//! | What is a region cache? | [`cache`] |
//! | How are bytes copied and filled? | [`copy`] |
//! | How is RAM changed in one step? | [`atomic`] |
//! | What would an access do? Which sections are there? | [`ask`] |
//!
//! What must hold:
//! - **G1** what was mapped stays mapped in the host until the guard or cache is gone, whatever becomes of the map; it
//!   keeps the RAM block, and not the view, so that a device may keep it without keeping itself.
//! - **G2** no write through it is lost to a [dirty client](crate::DirtyClient), one that began to log meanwhile
//!   included: whatever was written is marked for every client of the block, after it was written.
//! - **G3** no lock is held while a device, or who waits for room, is called.

mod ask;
mod atomic;
mod bounce;
mod cache;
mod copy;
mod direct;
mod guard;

use std::sync::Arc;

use crate::MemTxError;

pub use bounce::RoomWaiter;
pub use cache::RegionCache;
pub use guard::Mapped;

pub(crate) use bounce::BounceBudget;

/// What a mapping or a region cache is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Its bytes are read: they are what memory holds.
    Read,
    /// Its bytes are written: those of what is not RAM are zeros at first (QEMU: `is_write`).
    Write,
    /// Both.
    ReadWrite,
}

impl Direction {
    /// Whether the bytes are wanted as memory holds them.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether memory is written.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// Why memory could not be mapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// It is not RAM, and all bytes that may bounce are in use. [`AddressSpace::on_room`](crate::AddressSpace::on_room)
    /// tells when that changes.
    #[error(
        "Address {address:#x} of address space '{space}' is not RAM, and its {budget} bytes of bounce buffers are in use; wait for room with on_room(), or raise set_bounce_budget()"
    )]
    NoRoom {
        /// The space's name.
        space: Arc<str>,
        /// The first address.
        address: u64,
        /// What may be in use at once, in bytes.
        budget: u64,
    },
    /// The host has no memory for a bounce buffer.
    #[error(
        "The host has no {len} bytes for a bounce buffer of address space '{space}' (address {address:#x}); lower set_bounce_budget()"
    )]
    NoMemory {
        /// The space's name.
        space: Arc<str>,
        /// The first address.
        address: u64,
        /// How many bytes.
        len: u64,
    },
    /// No bytes were asked for.
    #[error("No bytes were to be mapped at address {address:#x}; ask for one at least")]
    Empty {
        /// The address.
        address: u64,
    },
    /// The space cannot be accessed from here at all.
    #[error(transparent)]
    Access(#[from] MemTxError),
}
