//! Exceptions: what they are, and what taking one does to the CPU.

use super::{Mips, mmu};
use crate::core::Core;
use crate::isa::{Isa, Place};
use crate::tlb::Kind;

/// Where the CPU begins.
pub(super) const RESET: u32 = 0xbfc0_0000;
/// Where debug mode begins.
const DEBUG: u32 = 0xbfc0_0480;

/// The causes that the CPU tells apart, with the codes of Cause.ExcCode (volume III, section 9.26).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exception {
    /// An interrupt.
    Interrupt = 0,
    /// A store to a page that is not marked dirty.
    Modified = 1,
    /// No valid translation, for a load or an instruction.
    TlbLoad = 2,
    /// No valid translation, for a store.
    TlbStore = 3,
    /// A load or fetch from an address that is misaligned or not for this mode.
    AddressLoad = 4,
    /// The same for a store.
    AddressStore = 5,
    /// A fetch that the bus refused.
    BusErrorFetch = 6,
    /// A load or store that the bus refused.
    BusErrorData = 7,
    /// `syscall`
    Syscall = 8,
    /// `break`
    Breakpoint = 9,
    /// An instruction that does not exist.
    Reserved = 10,
    /// A coprocessor that may not be used.
    Coprocessor = 11,
    /// An overflow.
    Overflow = 12,
    /// A trap instruction.
    Trap = 13,
    /// A floating-point exception that FCSR enables.
    FloatingPoint = 15,
    /// Two TLB entries for one address.
    MachineCheck = 24,
    /// `sdbbp`, which enters debug mode; it has no code in Cause.
    Debug = 32,
}

/// An exception with what the handler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub exception: Exception,
    /// For BadVAddr.
    pub address: Option<u32>,
    /// Whether it is one of the TLB, which fills in Context and EntryHi.
    pub tlb: bool,
    /// Whether no entry matched, which has a handler of its own.
    pub refill: bool,
    /// Which coprocessor is not usable.
    pub coprocessor: u8,
}

impl Fault {
    /// One without an address.
    #[must_use]
    pub const fn of(exception: Exception) -> Self {
        Self { exception, address: None, tlb: false, refill: false, coprocessor: 0 }
    }

    /// A coprocessor that may not be used.
    #[must_use]
    pub const fn unusable(coprocessor: u8) -> Self {
        Self { coprocessor, ..Self::of(Exception::Coprocessor) }
    }

    /// An address that is misaligned or not for this mode.
    #[must_use]
    pub const fn address(address: u32, kind: Kind) -> Self {
        let exception = match kind {
            Kind::Write => Exception::AddressStore,
            Kind::Read | Kind::Fetch => Exception::AddressLoad,
        };
        Self { address: Some(address), ..Self::of(exception) }
    }

    /// No translation: `refill` if there is no entry at all.
    #[must_use]
    pub const fn untranslated(address: u32, kind: Kind, refill: bool) -> Self {
        let exception = match kind {
            Kind::Write => Exception::TlbStore,
            Kind::Read | Kind::Fetch => Exception::TlbLoad,
        };
        Self { address: Some(address), tlb: true, refill, ..Self::of(exception) }
    }

    /// A store to a clean page.
    #[must_use]
    pub const fn modified(address: u32) -> Self {
        Self { address: Some(address), tlb: true, ..Self::of(Exception::Modified) }
    }
}

/// Takes an exception (volume III, section 6.2.3).
pub(super) fn enter(core: &mut Core<Mips>, fault: Fault, place: Place) {
    let cp0 = &mut core.isa.cp0;
    // In a delay slot the branch is done again.
    let again = if place.delayed { (place.pc as u32).wrapping_sub(4) } else { place.pc as u32 };
    if fault.exception == Exception::Debug || cp0.is_debug_mode() {
        let breakpoint = fault.exception == Exception::Debug;
        let code = if breakpoint { Exception::Breakpoint } else { fault.exception };
        cp0.enter_debug_mode(again, place.delayed, code as u8, breakpoint);
        core.isa.waiting = false;
        return Mips::go_to(core, DEBUG.into());
    }
    if let Some(address) = fault.address {
        cp0.bad_vaddr = address;
    }
    if fault.tlb
        && let Some(address) = fault.address
    {
        let page = address & mmu::VPN2;
        cp0.context = cp0.context & 0xff80_0000 | page >> 9 & 0x007f_fff0;
        cp0.entry_hi = page | cp0.entry_hi & mmu::ASID;
    }
    let nested = cp0.is_exception_level();
    if !nested {
        cp0.epc = again;
        cp0.set_branch_delay(place.delayed);
    }
    cp0.set_cause(fault.exception as u8, fault.coprocessor);
    let offset = match fault.exception {
        Exception::TlbLoad | Exception::TlbStore if fault.refill && !nested => 0,
        Exception::Interrupt => cp0.interrupt_offset(),
        _ => 0x180,
    };
    cp0.enter_exception_level();
    let target = cp0.vector_base().wrapping_add(offset);
    core.isa.waiting = false;
    Mips::go_to(core, target.into());
}
