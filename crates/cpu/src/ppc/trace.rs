//! What is logged of exceptions and of the MMU, in QEMU's form (`-d int,mmu`).

use flatview_device::LogMask;

use super::except::srr1;
use super::mmu::Looked;
use super::spr::number;
use super::{Exception, Fault, Ppc, gpr};
use crate::core::Core;
use crate::isa::Place;

impl Exception {
    /// QEMU's number and name of it, which its log tells.
    fn in_log(self) -> (u32, &'static str) {
        match self {
            Exception::MachineCheck => (1, "MCHECK"),
            Exception::Dsi => (2, "DSI"),
            Exception::Isi => (3, "ISI"),
            Exception::External => (4, "EXTERNAL"),
            Exception::Alignment => (5, "ALIGN"),
            Exception::Program => (6, "PROGRAM"),
            Exception::FpUnavailable => (7, "FPU"),
            Exception::SystemCall => (8, "SYSCALL"),
            Exception::Decrementer => (10, "DECR"),
            Exception::SystemReset => (64, "RESET"),
            Exception::Trace => (68, "TRACE"),
            Exception::FetchMiss => (78, "IFTLB"),
            Exception::LoadMiss => (79, "DLTLB"),
            Exception::StoreMiss => (80, "DSTLB"),
            Exception::InstructionBreakpoint => (83, "IABR"),
            Exception::SystemManagement => (84, "SMI"),
        }
    }
}

/// An exception is about to be taken.
#[cold]
pub(super) fn raised(core: &Core<Ppc>, fault: &Fault, place: Place) {
    let mut told = fault.exception.in_log();
    let error = match fault.exception {
        Exception::Isi => fault.srr1,
        Exception::Program if fault.srr1 & srr1::FP != 0 => 0x10,
        // An instruction that there is not: QEMU raises an exception of its own, which becomes a program exception.
        Exception::Program if fault.srr1 & srr1::ILLEGAL != 0 => {
            told = (96, "HV_EMU");
            0x21
        }
        Exception::Program if fault.srr1 & srr1::PRIVILEGED != 0 => 0x31,
        Exception::Program => 0x40,
        _ => 0,
    };
    let ((number, name), pc) = (told, place.pc);
    core.tell(
        LogMask::INT,
        format_args!("Raise exception at {pc:08x} => {name} ({number}) error={error:02x}"),
    );
    if fault.exception == Exception::SystemCall {
        let r = |n| core.get(gpr(n));
        core.tell(
            LogMask::INT,
            format_args!(
                "syscall r0={:016x} r3={:016x} r4={:016x} r5={:016x} r6={:016x} r7={:016x} r8={:016x} nip={pc:08x}",
                r(0), r(3), r(4), r(5), r(6), r(7), r(8),
            ),
        );
    }
}

/// How the page table was searched, if it was.
#[cold]
pub(super) fn searched(core: &Core<Ppc>, looked: &Looked) {
    let Looked { va, segment, found, granted } = *looked;
    let (table, vsid) = (core.isa.spr(number::SDR1), segment & 0x00ff_ffff);
    let (base, mask) = (u64::from(table & 0xffff_0000), u64::from(table & 0x1ff) << 16 | 0xffff);
    let hash = u64::from(vsid ^ va >> 12 & 0xffff);
    let index = vsid << 7 | va >> 22 & 0x3f;
    let mut text = format!(
        "htab_base {base:016x} htab_mask {mask:016x} hash {hash:016x}\n\
         0 htab={base:016x}/{mask:016x} vsid={vsid:x} ptem={index:x} hash={hash:016x}"
    );
    if found.is_none_or(|(_, secondary)| secondary) {
        let other = !hash;
        text.push_str(&format!(
            "\n1 htab={base:016x}/{mask:016x} vsid={vsid:x} api={index:x} hash={other:016x}"
        ));
    }
    if let Some((at, _)) = found {
        let verdict = if granted { "granted !" } else { "rejected" };
        text.push_str(&format!("\nfound PTE at offset {:08x}\nPTE access {verdict}", at.wrapping_sub(base)));
    }
    core.tell(LogMask::MMU, format_args!("{text}"));
}

/// A segment register is written.
#[cold]
pub(super) fn segment_written(core: &Core<Ppc>, n: usize, old: u32, new: u32) {
    core.tell(LogMask::MMU, format_args!("helper_store_sr: reg={n} {new:08x} {old:08x}"));
}

/// A register that the MMU looks at is written.
#[cold]
pub(super) fn register_written(core: &Core<Ppc>, n: u32, value: u32) {
    let (first, kind) = match n {
        number::SDR1 => return core.tell(LogMask::MMU, format_args!("ppc_store_sdr1: {value:08x}")),
        number::IBAT0U..number::DBAT0U => (number::IBAT0U, 'I'),
        number::DBAT0U..=543 => (number::DBAT0U, 'D'),
        number::IBAT4U..number::DBAT4U => (number::IBAT4U - 8, 'I'),
        number::DBAT4U..=575 => (number::DBAT4U - 8, 'D'),
        _ => return,
    };
    let (which, half) = ((n - first) / 2, if n & 1 == 0 { 'u' } else { 'l' });
    core.tell(LogMask::MMU, format_args!("Set {kind}BAT{which}{half} to {value:08x} ({:08x})", core.at));
}
