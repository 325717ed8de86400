//! What goes wrong.

use std::io;
use std::sync::Arc;

use flatview::{ListenerError, MemoryError};

use crate::part::Part;

/// Why a memory cannot be given to KVM, or be taken from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvmError {
    /// KVM does not know the address space that slots were to be in.
    #[error(
        "KVM has {have} address space(s) for memory slots and no number {wanted}; leave out `address_space`"
    )]
    NoAddressSpace {
        /// The number asked for.
        wanted: u16,
        /// How many this kernel has.
        have: u32,
    },
    /// Not enough slot numbers.
    #[error(
        "KVM's memory slots are numbered 0 to {last}, and {first} is beyond them; give `slots` numbers that KVM has"
    )]
    NoSlots {
        /// The first number asked for.
        first: u32,
        /// The last that KVM has.
        last: u32,
    },
    /// The kernel cannot collect writes.
    #[error(
        "This kernel's KVM cannot collect writes (no KVM_CAP_COALESCED_MMIO); leave out the ring: they exit one by one"
    )]
    NoCoalescing,
    /// The ring of collected writes cannot be mapped.
    #[error("KVM's ring of collected writes cannot be mapped from the vCPU: {0}; give a vCPU of the same VM")]
    Ring(io::Error),
    /// A slot, or something else, stays in the kernel.
    #[error("KVM gives back {what}: {error}; close the VM, which ends it")]
    Leftover {
        /// What.
        what: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The memory refuses the listener.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Why a change of the map cannot be followed; becomes the reason of a [`MemoryError`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "No KVM memory slot is left for '{name}' at {addr:#x}: the map needs {need}, and there are {have}. Map RAM in \
         fewer and larger pieces: each overlay, alias or read-only window in the middle of RAM makes three slots of one"
    )]
    NoSlotLeft { name: Arc<str>, addr: u64, need: usize, have: usize },
    #[error(
        "KVM does not take the memory slot of {part:?} (host address {host:#x}): {error}. {}",
        slot_cure(error)
    )]
    Slot { part: Part, host: u64, error: io::Error },
    #[error("KVM does not delete the memory slot of {part:?}: {error}. {}", slot_cure(error))]
    Delete { part: Part, error: io::Error },
    #[error("KVM does not {} the dirty log of {part:?}: {error}. {}", if *on { "start" } else { "stop" }, slot_cure(error))]
    Log { part: Part, on: bool, error: io::Error },
    #[error("KVM does not tell which pages of {part:?} were written: {error}. {}", slot_cure(error))]
    Sync { part: Part, error: io::Error },
    #[error(
        "This kernel's KVM has no ioeventfds for writes of any size, as the one at {addr:#x} is; give it a size, or one \
         for each size (or use Linux 4.3 or later)"
    )]
    AnyLength { addr: u64 },
    #[error(
        "KVM cannot tell two ioeventfds at {addr:#x} apart: the same write would signal both. Take one back, or give them \
         different values to match"
    )]
    Collision { addr: u64 },
    #[error("KVM does not {} the ioeventfd at {addr:#x}: {error}. {}", if *assign { "take" } else { "give back" }, bus_cure(error))]
    EventFd { addr: u64, assign: bool, error: io::Error },
    #[error("KVM does not {} writes to {size:#x} bytes at {addr:#x}: {error}. {}", if *register { "collect" } else { "stop collecting" }, bus_cure(error))]
    Zone { addr: u64, size: u32, register: bool, error: io::Error },
}

impl From<Refused> for ListenerError {
    fn from(refused: Refused) -> Self {
        Self::new(refused)
    }
}

fn slot_cure(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::EXIST) => {
            "Somebody else has a slot there: leave all slots of the VM to this listener"
        }
        Some(rustix::io::Errno::INVAL) => {
            "Is it above the highest address that this host gives to guests, or has somebody else used the slot's number?"
        }
        Some(rustix::io::Errno::NOMEM) => "The host is short of memory for KVM's tables",
        _ => "Is it still the VM that it was?",
    }
}

fn bus_cure(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::EXIST) => "Somebody else has an ioeventfd there: leave them to this listener",
        Some(rustix::io::Errno::NOSPC) => {
            "KVM has room for 1000 of them and of collected ranges together: use fewer"
        }
        _ => "Is it still the VM that it was?",
    }
}
