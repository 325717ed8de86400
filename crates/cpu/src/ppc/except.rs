//! Exceptions: what they are, and what taking one does to the CPU (*Programming Environments Manual*, chapter 6).
//!
//! What it is: vectors, SRR0, SRR1, DSISR and DAR, and the state in a handler. What it is not: who finds out that there is
//! one. What must always hold: taking one leaves no reservation, and translates nothing.

use flatview_device::LogMask;

use super::state::msr;
use super::{CR, DAR, DEC_LINE, DSISR, PC, Ppc, SRR0, SRR1};
use crate::core::Core;
use crate::isa::{Isa, Place};
use crate::tlb::Kind;

/// The causes that the CPU tells apart; the number is the vector's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Exception {
    /// Soft reset.
    SystemReset = 0x100,
    /// The machine check pin, or an access that the bus refused.
    MachineCheck = 0x200,
    /// A load or store without a translation or not allowed.
    Dsi = 0x300,
    /// A fetch without a translation or not allowed.
    Isi = 0x400,
    /// The external interrupt.
    External = 0x500,
    /// An access that must be aligned, or must be to cached memory.
    Alignment = 0x600,
    /// Illegal, privileged, trap or enabled floating-point exception: SRR1 says which.
    Program = 0x700,
    /// A floating-point instruction while `MSR[FP]` is 0.
    FpUnavailable = 0x800,
    /// The decrementer went below 0.
    Decrementer = 0x900,
    /// `sc`
    SystemCall = 0xc00,
    /// `MSR[SE]` or `MSR[BE]`.
    Trace = 0xd00,
    /// 755 with HID2\[SWT_EN\]: a fetch that no TLB entry translates.
    FetchMiss = 0x1000,
    /// The same for a load.
    LoadMiss = 0x1100,
    /// The same for a store, or the first one to a page.
    StoreMiss = 0x1200,
    /// IABR.
    InstructionBreakpoint = 0x1300,
    /// The system management pin.
    SystemManagement = 0x1400,
}

/// An exception with what the handler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub exception: Exception,
    /// What SRR1 gets beside bits of MSR.
    pub srr1: u32,
    /// The address, for DAR (data storage and alignment) or DMISS and IMISS.
    pub address: u32,
    /// For DSISR, with data storage exceptions.
    pub dsisr: u32,
}

/// Bits of SRR1.
pub(super) mod srr1 {
    pub const NOT_FOUND: u32 = 1 << 30;
    pub const NO_EXECUTE: u32 = 1 << 28;
    pub const PROTECTED: u32 = 1 << 27;
    pub const FP: u32 = 1 << 20;
    pub const ILLEGAL: u32 = 1 << 19;
    pub const PRIVILEGED: u32 = 1 << 18;
    pub const TRAP: u32 = 1 << 17;
    /// Machine check: the pin, and a transfer error.
    pub const MCP: u32 = 1 << 19;
    pub const TEA: u32 = 1 << 18;
    /// Table search by software: the segment's key, instruction or data, which way, store or load.
    pub const KEY: u32 = 1 << 19;
    pub const INSTRUCTION: u32 = 1 << 18;
    pub const WAY: u32 = 1 << 17;
    pub const STORE: u32 = 1 << 16;
    /// What is MSR's.
    pub const OF_MSR: u32 = 0x87c0_ffff;
}

/// Bits of DSISR.
pub(super) mod dsisr {
    pub const DIRECT_STORE: u32 = 1 << 31;
    pub const NOT_FOUND: u32 = 1 << 30;
    pub const PROTECTED: u32 = 1 << 27;
    pub const REFUSED: u32 = 1 << 26;
    pub const STORE: u32 = 1 << 25;
    pub const BREAKPOINT: u32 = 1 << 22;
    pub const EXTERNAL_ACCESS: u32 = 1 << 20;
}

impl Fault {
    /// One that SRR1 says nothing of.
    #[must_use]
    pub const fn of(exception: Exception) -> Self {
        Self { exception, srr1: 0, address: 0, dsisr: 0 }
    }

    /// A program exception.
    #[must_use]
    pub(super) const fn program(srr1: u32) -> Self {
        Self { srr1, ..Self::of(Exception::Program) }
    }

    /// An access to an address that must be a multiple of something.
    #[must_use]
    pub const fn alignment(address: u32) -> Self {
        Self { address, ..Self::of(Exception::Alignment) }
    }

    /// Data storage.
    pub(super) const fn dsi(address: u32, kind: Kind, dsisr: u32) -> Self {
        let store = if matches!(kind, Kind::Write) { dsisr::STORE } else { 0 };
        Self { address, dsisr: dsisr | store, ..Self::of(Exception::Dsi) }
    }

    /// Instruction storage.
    pub(super) const fn isi(srr1: u32) -> Self {
        Self { srr1, ..Self::of(Exception::Isi) }
    }

    /// The access that the bus refused.
    pub(super) const fn transfer_error() -> Self {
        Self { srr1: srr1::TEA, ..Self::of(Exception::MachineCheck) }
    }
}

/// Takes an exception (section 6.4).
pub(super) fn enter(core: &mut Core<Ppc>, fault: Fault, place: Place) {
    let old = core.isa.msr();
    let mut told = fault.srr1;
    match fault.exception {
        Exception::MachineCheck if old & msr::ME == 0 => {
            core.isa.checkstop = true;
            Ppc::go_to(core, place.pc);
            core.isa.log.line(
                LogMask::GUEST_ERRORS,
                format_args!(
                    "{}: machine check at {:#010x} with MSR[ME] = 0: checkstop",
                    core.isa.model.name, place.pc
                ),
            );
            return;
        }
        Exception::Dsi => {
            core.set(DAR, fault.address.into());
            core.set(DSISR, fault.dsisr.into());
        }
        Exception::Alignment => {
            core.set(DAR, fault.address.into());
            let word = word_at(core, place.pc);
            core.set(DSISR, alignment_dsisr(word).into());
        }
        Exception::Decrementer => {
            core.inputs().set_level(DEC_LINE, false);
            core.isa.arm();
        }
        Exception::FetchMiss | Exception::LoadMiss | Exception::StoreMiss => {
            told |= core.get32(CR[0]) << 28;
            core.isa.tell_miss(fault);
        }
        _ => {}
    }
    let after = u32::from(fault.exception == Exception::SystemCall) * 4;
    core.set(SRR0, u64::from((place.pc as u32).wrapping_add(after)));
    core.set(SRR1, u64::from(old & srr1::OF_MSR | told));
    let mut keep = msr::ILE | msr::ME | msr::IP;
    if fault.exception == Exception::MachineCheck {
        keep &= !msr::ME;
    }
    core.isa.set_msr(old & keep);
    core.isa.reservation = None;
    core.isa.waiting = false;
    let base = if old & msr::IP != 0 { 0xfff0_0000_u32 } else { 0 };
    core.set(PC, u64::from(base | fault.exception as u32));
}

/// The instruction at an address, without an effect; 0 if it cannot be read.
fn word_at(core: &Core<Ppc>, pc: u64) -> u32 {
    let mut bytes = [0; 4];
    match core.isa.look(&core.reader, pc as u32, Kind::Fetch, core.isa.mmu_of(Kind::Fetch)) {
        Ok(phys) if core.reader.peek(phys, &mut bytes).is_ok() => u32::from_be_bytes(bytes),
        _ => 0,
    }
}

/// What DSISR says of the instruction (section 6.4.6.1).
fn alignment_dsisr(word: u32) -> u32 {
    let registers = word >> 16 & 0x3ff;
    let opcode = word >> 26;
    if opcode == 31 {
        // Bits 29 and 30, 25, and 21 to 24 of the instruction.
        return (word >> 1 & 3) << 15 | (word >> 6 & 1) << 14 | (word >> 7 & 15) << 10 | registers;
    }
    (opcode & 1) << 14 | (opcode >> 1 & 15) << 10 | registers
}

/// An interrupt that can be taken now (section 6.2.3: in the order of their priorities).
pub(super) fn pending(core: &mut Core<Ppc>) -> Option<Fault> {
    let raised = core.inputs().take_raised(Ppc::RESET_LINE | Ppc::MCP_LINE | Ppc::SMI_LINE);
    core.isa.edges |= raised;
    if core.isa.edges & Ppc::RESET_LINE != 0 {
        core.isa.edges &= !Ppc::RESET_LINE;
        return Some(Fault::of(Exception::SystemReset));
    }
    if core.isa.edges & Ppc::MCP_LINE != 0 {
        core.isa.edges &= !Ppc::MCP_LINE;
        if core.isa.takes_machine_checks() {
            return Some(Fault { srr1: srr1::MCP, ..Fault::of(Exception::MachineCheck) });
        }
    }
    if std::mem::take(&mut core.isa.traced) {
        return Some(Fault::of(Exception::Trace));
    }
    if core.isa.msr() & msr::EE == 0 {
        return None;
    }
    if core.isa.edges & Ppc::SMI_LINE != 0 {
        core.isa.edges &= !Ppc::SMI_LINE;
        return Some(Fault::of(Exception::SystemManagement));
    }
    let levels = core.inputs().levels();
    if levels & 1 << Ppc::EXTERNAL != 0 {
        return Some(Fault::of(Exception::External));
    }
    (levels & 1 << DEC_LINE != 0).then(|| Fault::of(Exception::Decrementer))
}

/// Whether something is there that a CPU that waits goes on for.
pub(super) fn wakes(core: &mut Core<Ppc>) -> bool {
    let raised = core.inputs().take_raised(Ppc::RESET_LINE | Ppc::MCP_LINE | Ppc::SMI_LINE);
    core.isa.edges |= raised;
    let levels = core.inputs().levels();
    if core.isa.checkstop {
        return false;
    }
    let wakes = core.isa.edges != 0 || levels & (1 << Ppc::EXTERNAL | 1 << DEC_LINE) != 0;
    if wakes {
        core.isa.waiting = false;
        let now = core.isa.msr();
        core.isa.set_msr(now & !msr::POW);
    }
    wakes
}

impl Ppc {
    /// Whether the machine check pin is looked at: HID0\[EMCP\].
    fn takes_machine_checks(&self) -> bool {
        self.hid0() >> 31 != 0
    }
}

/// Goes on where an exception came from: `rfi`.
pub(super) fn leave(core: &mut Core<Ppc>) {
    let (to, with) = (core.get32(SRR0), core.get32(SRR1));
    core.isa.write_msr(with & srr1::OF_MSR & !msr::ILE | core.isa.msr() & msr::ILE);
    Ppc::go_to(core, u64::from(to & !3));
}
