//! What is asked of KVM.
//!
//! What it is: the few system calls on a VM that this crate needs, as a trait, so that everything above it can be
//! tested without a `/dev/kvm`. What it is not: how they are made; that is [`sys`](crate::sys).
//!
//! UNSAFE: declares the call that gives the kernel host memory as unsafe.
#![expect(unsafe_code, reason = "declares an unsafe method")]

use std::io;
use std::os::fd::BorrowedFd;

/// What a kernel may be able to do (`KVM_CAP_…`), by its number in the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Capability {
    /// The number of memory slots.
    NrMemslots = 10,
    /// Writes to MMIO can be collected; the answer is the page of the vCPU's mapping in which the ring is.
    CoalescedMmio = 15,
    /// Writes can signal eventfds.
    Ioeventfd = 36,
    /// Memory slots that the guest cannot write.
    ReadonlyMem = 81,
    /// The number of address spaces (x86: a second one for system management mode).
    MultiAddressSpace = 118,
    /// Ioeventfds that do not look at the size of the write.
    IoeventfdAnyLength = 122,
    /// Writes to ports can be collected.
    CoalescedPio = 162,
    /// The dirty log is read and cleared in two steps.
    ManualDirtyLogProtect2 = 168,
}

/// A memory slot as KVM is told of it (`kvm_userspace_memory_region`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRequest {
    /// Its number; the address space is in the upper 16 bits.
    pub slot: u32,
    /// The first guest physical address, a multiple of the page size.
    pub guest_addr: u64,
    /// Its size in bytes, a multiple of the page size; 0 deletes the slot.
    pub size: u64,
    /// The host address of the first byte, a multiple of the page size.
    pub host_addr: u64,
    /// Whether writes by the guest become MMIO exits (`KVM_MEM_READONLY`).
    pub readonly: bool,
    /// Whether writes by the guest are logged (`KVM_MEM_LOG_DIRTY_PAGES`).
    pub log: bool,
}

/// An ioeventfd as KVM is told of it (`kvm_ioeventfd`).
#[derive(Debug, Clone, Copy)]
pub struct IoEventFdRequest<'a> {
    /// Whether it is a port and not a memory address.
    pub pio: bool,
    /// Where the write must begin.
    pub addr: u64,
    /// Its size in bytes: 1, 2, 4 or 8; 0 for any.
    pub size: u32,
    /// What must be written, as a number in the host's byte order; `None` for anything.
    pub data: Option<u64>,
    /// What is signalled.
    pub fd: BorrowedFd<'a>,
}

/// A run of addresses, writes to which are collected (`kvm_coalesced_mmio_zone`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone {
    /// Whether these are ports and not memory addresses.
    pub pio: bool,
    /// The first address.
    pub addr: u64,
    /// The number of bytes.
    pub size: u32,
}

/// A VM, as far as its memory goes: `kvm_ioctls::VmFd`, or something that stands for one in tests.
///
/// Errors are the kernel's own, by their number. A call that gives an error has changed nothing.
pub trait VmIoctls: Send + Sync {
    /// What the kernel says of a capability: 0 if it does not have it (`KVM_CHECK_EXTENSION`).
    fn check_extension(&self, capability: Capability) -> u32;

    /// The size of the host's pages, in bytes.
    fn page_size(&self) -> u64;

    /// The most pages that a slot can have (`KVM_MEM_MAX_NR_PAGES`).
    fn max_slot_pages(&self) -> u64 {
        (1 << 31) - 1
    }

    /// Makes, changes or deletes a memory slot (`KVM_SET_USER_MEMORY_REGION`).
    ///
    /// # Safety
    /// Until the slot is deleted, `host_addr..host_addr + size` stays mapped and is memory that may change at any time:
    /// nobody holds a plain reference to it.
    ///
    /// # Errors
    /// The kernel's.
    unsafe fn set_user_memory_region(&self, request: &SlotRequest) -> io::Result<()>;

    /// The pages of a slot that were written: a bit for each, the first in the lowest bit of the first word
    /// (`KVM_GET_DIRTY_LOG`). Unless [the log is cleared by hand](Self::enable_manual_dirty_log) this clears it.
    ///
    /// # Errors
    /// The kernel's. `pages` must be the number of pages of the slot.
    fn get_dirty_log(&self, slot: u32, pages: u64) -> io::Result<Vec<u64>>;

    /// Clears the bits of a slot's log that are set in `bits`, of which the first is `first_page`, a multiple of 64
    /// (`KVM_CLEAR_DIRTY_LOG`). `pages` is a multiple of 64 or reaches to the end of the slot.
    ///
    /// # Errors
    /// The kernel's.
    fn clear_dirty_log(&self, slot: u32, first_page: u64, pages: u32, bits: &[u64]) -> io::Result<()>;

    /// From now on reading the log does not clear it (`KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`).
    ///
    /// # Errors
    /// The kernel's.
    fn enable_manual_dirty_log(&self) -> io::Result<()>;

    /// Has a write signal an eventfd, or no more (`KVM_IOEVENTFD`).
    ///
    /// # Errors
    /// The kernel's.
    fn ioeventfd(&self, request: &IoEventFdRequest<'_>, assign: bool) -> io::Result<()>;

    /// Has writes collected (`KVM_REGISTER_COALESCED_MMIO`), or no more (`KVM_UNREGISTER_COALESCED_MMIO`). Taking a
    /// zone back takes back every one that it lies in.
    ///
    /// # Errors
    /// The kernel's.
    fn coalesced(&self, zone: Zone, register: bool) -> io::Result<()>;
}
