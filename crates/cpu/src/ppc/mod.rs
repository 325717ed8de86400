//! PowerPC in 32 bits, as the 604 and the MPC755 have it, big-endian.
//!
//! Where things are: `model` names the processors, `state` has what they keep besides their general registers and how time
//! passes, `spr` the special-purpose registers, `mmu` segments, page tables and BATs, `except` how exceptions are taken,
//! `translate` turns code into blocks, by subjects, `float` is the floating-point unit, `helpers` does in Rust what other single instructions want, `gdb` is
//! what debuggers see, `look` and `disassemble` what monitors show, `trace` what is logged. Words and section
//! numbers are those of *Programming Environments Manual for 32-Bit Microprocessors* (MPCFPE32B, here: PEM), of the *PowerPC
//! 604 User's Manual* (MPC604UM) and of the *MPC750 Family User's Manual* with its appendix on the MPC755 (MPC750UM).
//!
//! Not modelled: little-endian mode (MSR\[LE\] and MSR\[ILE\] stay 0, which the log tells once), caches (their
//! instructions check the address and do what memory would show), performance counters and thermal sensors (their
//! registers keep what is written), power states (MSR\[POW\] waits for an interrupt).

mod disassemble;
mod except;
mod float;
mod gdb;
mod helpers;
mod look;
mod mmu;
mod model;
mod spr;
mod state;
mod trace;
mod translate;

use std::sync::Arc;

use flatview::Endianness;
use flatview_device::LogMask;

use crate::core::Core;
use crate::debug::DebugRegister;
use crate::disassemble::Disassembler;
use crate::ir::{Code, Var};
use crate::isa::{BusError, Fetch, Helper, Isa, Place};
use crate::tlb::{Kind, Mapping};

pub(crate) use disassemble::disassemble;
pub(crate) use translate::knows;

pub use except::{Exception, Fault};
pub use model::{Family, PpcModel};
pub use state::{BusErrors, Ppc};

/// The fields of the condition register, each with LT as bit 3 and SO as bit 0.
pub const CR: [Var; 8] = [
    Var::slot(64),
    Var::slot(65),
    Var::slot(66),
    Var::slot(67),
    Var::slot(68),
    Var::slot(69),
    Var::slot(70),
    Var::slot(71),
];
/// The address of the next instruction.
pub const PC: Var = Var::slot(72);
/// The link register.
pub const LR: Var = Var::slot(73);
/// The count register.
pub const CTR: Var = Var::slot(74);
/// XER's summary overflow, overflow and carry bits, each 0 or 1.
const SO: Var = Var::slot(75);
const OV: Var = Var::slot(76);
const CA: Var = Var::slot(77);
/// The rest of XER: the byte count.
const COUNT: Var = Var::slot(78);
/// The general special-purpose registers 0 to 3.
const SPRG: [Var; 4] = [Var::slot(80), Var::slot(81), Var::slot(82), Var::slot(83)];
/// Where the last exception returns to, and with which MSR.
pub const SRR0: Var = Var::slot(84);
/// See [`SRR0`].
pub const SRR1: Var = Var::slot(85);
/// The address of the last data storage or alignment exception.
pub const DAR: Var = Var::slot(86);
/// What it was.
pub const DSISR: Var = Var::slot(87);
/// The floating-point status and control register.
pub const FPSCR: Var = Var::slot(88);

/// The general register `n` of 32.
#[must_use]
pub const fn gpr(n: u32) -> Var {
    Var::slot((n & 31) as u8)
}

/// The floating-point register `n` of 32, as the bits of a double.
#[must_use]
pub const fn fpr(n: u32) -> Var {
    Var::slot(32 + (n & 31) as u8)
}

/// The line on which the decrementer interrupts, beside those from outside.
const DEC_LINE: u32 = 16;

/// The condition register as one word.
#[must_use]
pub fn cr(core: &Core<Ppc>) -> u32 {
    CR.iter().fold(0, |word, field| word << 4 | core.get32(*field) & 15)
}

/// Sets the condition register.
pub fn set_cr(core: &mut Core<Ppc>, value: u32) {
    for (n, field) in (0..).zip(CR) {
        core.set(field, u64::from(value >> (28 - 4 * n) & 15));
    }
}

/// The fixed-point exception register as one word.
#[must_use]
pub fn xer(core: &Core<Ppc>) -> u32 {
    core.get32(SO) << 31 | core.get32(OV) << 30 | core.get32(CA) << 29 | core.get32(COUNT)
}

/// Sets the fixed-point exception register; reserved bits stay 0.
pub fn set_xer(core: &mut Core<Ppc>, value: u32) {
    core.set(SO, u64::from(value >> 31));
    core.set(OV, u64::from(value >> 30 & 1));
    core.set(CA, u64::from(value >> 29 & 1));
    core.set(COUNT, u64::from(value & 0x7f));
}

impl Isa for Ppc {
    type Fault = Fault;

    fn helpers() -> &'static [Helper<Self>] {
        helpers::ALL
    }

    #[inline(always)]
    fn place(core: &Core<Self>) -> Place {
        Place { pc: core.get(PC), delayed: false }
    }

    #[inline(always)]
    fn go_to(core: &mut Core<Self>, pc: u64) {
        core.set(PC, pc & 0xffff_fffc);
    }

    fn mode(core: &Core<Self>) -> u32 {
        core.isa.mode()
    }

    fn fetch_mmu(core: &Core<Self>) -> u8 {
        core.isa.mmu_of(Kind::Fetch)
    }

    fn translate(
        core: &Core<Self>,
        pc: u64,
        most: usize,
        fetch: &mut Fetch<'_, Fault>,
    ) -> Result<Code, Fault> {
        translate::block(core, pc, most, fetch)
    }

    fn map(core: &mut Core<Self>, va: u64, kind: Kind, mmu: u8) -> Result<Mapping, Fault> {
        mmu::map(core, va as u32, kind, mmu).map(|found| found.mapping)
    }

    fn misaligned(_: &Core<Self>, va: u64, _: Kind) -> Fault {
        Fault::alignment(va as u32)
    }

    fn bus_error(core: &Core<Self>, _: &BusError) -> Option<Fault> {
        (core.isa.bus_errors == BusErrors::MachineCheck).then(Fault::transfer_error)
    }

    fn enter(core: &mut Core<Self>, fault: Fault, place: Place) {
        if core.logs(LogMask::INT) {
            trace::raised(core, &fault, place);
        }
        except::enter(core, fault, place);
    }

    fn interrupt(core: &mut Core<Self>) -> Option<Fault> {
        except::pending(core)
    }

    fn is_waiting(core: &Core<Self>) -> bool {
        core.isa.waiting || core.isa.checkstop
    }

    fn wakes(core: &mut Core<Self>) -> bool {
        except::wakes(core)
    }

    fn registers(core: &Core<Self>) -> String {
        state::registers(core)
    }

    fn disassembler(core: &Core<Self>) -> Disassembler {
        Disassembler::Ppc(core.isa.model)
    }

    fn tlb(core: &Core<Self>) -> String {
        core.isa.tlb_text()
    }

    fn mappings(core: &Core<Self>) -> String {
        core.isa.mappings_text(&core.reader)
    }

    fn physical(core: &Core<Self>, va: u64, kind: Kind) -> Option<u64> {
        core.isa.look(&core.reader, va as u32, kind, core.isa.mmu_of(kind)).ok()
    }

    fn debug_architecture() -> &'static str {
        "powerpc:common"
    }

    fn debug_registers() -> &'static [DebugRegister] {
        &gdb::REGISTERS
    }

    fn debug_register(core: &Core<Self>, n: usize) -> u64 {
        gdb::register(core, n)
    }

    fn set_debug_register(core: &mut Core<Self>, n: usize, value: u64) {
        gdb::set_register(core, n, value);
    }

    fn debug_order(_: &Core<Self>) -> Endianness {
        Endianness::Big
    }

    fn reset(core: &mut Core<Self>) {
        let inputs = Arc::clone(core.inputs());
        core.isa.connect_timer(&inputs);
        core.clear();
        core.isa.reset();
        let _ = inputs.take_raised(u32::MAX);
        inputs.set_level(DEC_LINE, false);
        core.set(PC, 0xfff0_0100);
    }
}
