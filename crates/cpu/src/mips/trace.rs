//! What is logged of exceptions and of the address map, in QEMU's form (`-d int,mmu`).

use flatview_device::LogMask;

use super::{Exception, Fault, Mips};
use crate::core::Core;
use crate::isa::Place;
use crate::tlb::Mapping;

impl Exception {
    /// QEMU's number and name of it, which its log tells.
    fn in_log(self) -> (u32, &'static str) {
        match self {
            Exception::MachineCheck => (7, "machine check"),
            Exception::Interrupt => (8, "interrupt"),
            Exception::AddressLoad => (12, "address error load"),
            Exception::AddressStore => (13, "address error store"),
            Exception::BusErrorFetch => (15, "instruction bus error"),
            Exception::Debug => (16, "debug breakpoint"),
            Exception::Syscall => (17, "syscall"),
            Exception::Breakpoint => (18, "break"),
            Exception::Coprocessor => (19, "coprocessor unusable"),
            Exception::Reserved => (20, "reserved instruction"),
            Exception::Overflow => (21, "arithmetic overflow"),
            Exception::Trap => (22, "trap"),
            Exception::FloatingPoint => (23, "floating point"),
            Exception::Modified => (25, "TLB modify"),
            Exception::TlbLoad => (26, "TLB load"),
            Exception::TlbStore => (27, "TLB store"),
            Exception::BusErrorData => (28, "data bus error"),
        }
    }
}

/// An exception is about to be taken.
#[cold]
pub(super) fn raised(core: &Core<Mips>, fault: &Fault, place: Place) {
    let (number, name) = fault.exception.in_log();
    let (pc, epc) = (place.pc as u32, core.isa.cp0.epc);
    if fault.exception != Exception::Interrupt {
        let of_fetch = fault.address == Some(pc);
        let code = u32::from(fault.coprocessor) | u32::from(fault.refill) | u32::from(of_fetch) << 1;
        core.tell(LogMask::INT, format_args!("do_raise_exception_err: {number} ({name}) {code}"));
    }
    core.tell(
        LogMask::INT,
        format_args!("mips_cpu_do_interrupt enter: PC {pc:08x} EPC {epc:08x} {name} exception"),
    );
}

/// An exception was taken: the state is that before the handler's first instruction.
#[cold]
pub(super) fn taken(core: &Core<Mips>, fault: &Fault) {
    let cp0 = &core.isa.cp0;
    let cause = if fault.exception == Exception::Debug { -1 } else { fault.exception as i32 };
    core.tell(
        LogMask::INT,
        format_args!(
            "mips_cpu_do_interrupt: PC {:08x} EPC {:08x} cause {cause}\n    S {:08x} C {:08x} A {:08x} D {:08x}",
            core.get32(super::PC),
            cp0.epc,
            cp0.status(),
            cp0.cause(),
            cp0.bad_vaddr,
            cp0.debug_epc,
        ),
    );
}

/// What the address map said.
#[cold]
pub(super) fn mapped(core: &Core<Mips>, va: u32, result: &Result<Mapping, Fault>) {
    match result {
        Ok(m) => {
            let allowed = u32::from(m.read) | u32::from(m.write) << 1 | u32::from(m.fetch) << 2;
            core.tell(
                LogMask::MMU,
                format_args!("mips_cpu_tlb_fill address={va:x} physical {:016x} prot {allowed}", m.phys),
            );
        }
        Err(fault) => {
            let why = match fault.exception {
                Exception::TlbLoad | Exception::TlbStore if fault.refill => -2,
                Exception::TlbLoad | Exception::TlbStore => -3,
                Exception::Modified => -4,
                _ => -1,
            };
            core.tell(LogMask::MMU, format_args!("mips_cpu_tlb_fill address={va:x} ret {why}"));
        }
    }
}
