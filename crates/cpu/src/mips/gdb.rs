//! The registers as gdb numbers them.
//!
//! What it is: the list, and how its values are read and set. The numbers up to 71 are gdb's for 32-bit MIPS and QEMU's; 72, a
//! frame pointer that always reads 0 there, is left out; from 73 on the other registers of CP0 follow, in a feature of our
//! own. What must always hold: reading changes nothing.

use super::fpu::{self, fpr};
use super::{Cp0, HI, LO, Mips, PC, gpr, helpers};
use crate::core::Core;
use crate::debug::{DebugRegister, DebugType};
use crate::isa::Isa;

const STATUS: u32 = 32;
const LOW: u32 = 33;
const HIGH: u32 = 34;
const BAD_VADDR: u32 = 35;
const CAUSE: u32 = 36;
const COUNTER: u32 = 37;
const FLOAT: u32 = 38;
const FCSR: u32 = 70;
const FIR: u32 = 71;
/// The first of those that gdb does not know.
const SYSTEM: u32 = 73;

const fn cpu(name: &'static str, number: u32) -> DebugRegister {
    let feature = "org.gnu.gdb.mips.cpu";
    DebugRegister { name, bits: 32, number, feature, kind: DebugType::Int, group: None }
}

const fn cp0(name: &'static str, number: u32) -> DebugRegister {
    DebugRegister { feature: "org.gnu.gdb.mips.cp0", ..cpu(name, number) }
}

/// The low half of each. gdb takes no MIPS without these, so that a CPU without FPU has them too; they read 0.
const fn float(name: &'static str, number: u32) -> DebugRegister {
    let feature = "org.gnu.gdb.mips.fpu";
    DebugRegister { name, bits: 32, number, feature, kind: DebugType::Float, group: Some("float") }
}

const fn float_control(name: &'static str, number: u32) -> DebugRegister {
    DebugRegister { kind: DebugType::Int, ..float(name, number) }
}

const fn system(name: &'static str, number: u32) -> DebugRegister {
    DebugRegister { feature: "org.flatview.mips.cp0", group: Some("system"), ..cpu(name, number) }
}

/// All of them.
pub(super) static REGISTERS: [DebugRegister; 100] = [
    cpu("r0", 0),
    cpu("r1", 1),
    cpu("r2", 2),
    cpu("r3", 3),
    cpu("r4", 4),
    cpu("r5", 5),
    cpu("r6", 6),
    cpu("r7", 7),
    cpu("r8", 8),
    cpu("r9", 9),
    cpu("r10", 10),
    cpu("r11", 11),
    cpu("r12", 12),
    cpu("r13", 13),
    cpu("r14", 14),
    cpu("r15", 15),
    cpu("r16", 16),
    cpu("r17", 17),
    cpu("r18", 18),
    cpu("r19", 19),
    cpu("r20", 20),
    cpu("r21", 21),
    cpu("r22", 22),
    cpu("r23", 23),
    cpu("r24", 24),
    cpu("r25", 25),
    cpu("r26", 26),
    cpu("r27", 27),
    cpu("r28", 28),
    cpu("r29", 29),
    cpu("r30", 30),
    cpu("r31", 31),
    cp0("status", STATUS),
    cpu("lo", LOW),
    cpu("hi", HIGH),
    cp0("badvaddr", BAD_VADDR),
    cp0("cause", CAUSE),
    DebugRegister { kind: DebugType::CodePointer, ..cpu("pc", COUNTER) },
    float("f0", FLOAT),
    float("f1", FLOAT + 1),
    float("f2", FLOAT + 2),
    float("f3", FLOAT + 3),
    float("f4", FLOAT + 4),
    float("f5", FLOAT + 5),
    float("f6", FLOAT + 6),
    float("f7", FLOAT + 7),
    float("f8", FLOAT + 8),
    float("f9", FLOAT + 9),
    float("f10", FLOAT + 10),
    float("f11", FLOAT + 11),
    float("f12", FLOAT + 12),
    float("f13", FLOAT + 13),
    float("f14", FLOAT + 14),
    float("f15", FLOAT + 15),
    float("f16", FLOAT + 16),
    float("f17", FLOAT + 17),
    float("f18", FLOAT + 18),
    float("f19", FLOAT + 19),
    float("f20", FLOAT + 20),
    float("f21", FLOAT + 21),
    float("f22", FLOAT + 22),
    float("f23", FLOAT + 23),
    float("f24", FLOAT + 24),
    float("f25", FLOAT + 25),
    float("f26", FLOAT + 26),
    float("f27", FLOAT + 27),
    float("f28", FLOAT + 28),
    float("f29", FLOAT + 29),
    float("f30", FLOAT + 30),
    float("f31", FLOAT + 31),
    float_control("fcsr", FCSR),
    float_control("fir", FIR),
    system("index", SYSTEM),
    system("random", SYSTEM + 1),
    system("entrylo0", SYSTEM + 2),
    system("entrylo1", SYSTEM + 3),
    system("context", SYSTEM + 4),
    system("pagemask", SYSTEM + 5),
    system("wired", SYSTEM + 6),
    system("hwrena", SYSTEM + 7),
    system("count", SYSTEM + 8),
    system("entryhi", SYSTEM + 9),
    system("compare", SYSTEM + 10),
    system("intctl", SYSTEM + 11),
    system("srsctl", SYSTEM + 12),
    system("epc", SYSTEM + 13),
    system("prid", SYSTEM + 14),
    system("ebase", SYSTEM + 15),
    system("config", SYSTEM + 16),
    system("config1", SYSTEM + 17),
    system("config2", SYSTEM + 18),
    system("config3", SYSTEM + 19),
    system("lladdr", SYSTEM + 20),
    system("debug", SYSTEM + 21),
    system("depc", SYSTEM + 22),
    system("errctl", SYSTEM + 23),
    system("taglo", SYSTEM + 24),
    system("datalo", SYSTEM + 25),
    system("errorepc", SYSTEM + 26),
    system("desave", SYSTEM + 27),
];

/// Which registers of CP0 those from [`SYSTEM`] on are: number and selector.
const SYSTEM_REGISTERS: [(u32, u32); 28] = [
    (0, 0),  // index
    (1, 0),  // random
    (2, 0),  // entrylo0
    (3, 0),  // entrylo1
    (4, 0),  // context
    (5, 0),  // pagemask
    (6, 0),  // wired
    (7, 0),  // hwrena
    (9, 0),  // count
    (10, 0), // entryhi
    (11, 0), // compare
    (12, 1), // intctl
    (12, 2), // srsctl
    (14, 0), // epc
    (15, 0), // prid
    (15, 1), // ebase
    (16, 0), // config
    (16, 1), // config1
    (16, 2), // config2
    (16, 3), // config3
    (17, 0), // lladdr
    (23, 0), // debug
    (24, 0), // depc
    (26, 0), // errctl
    (28, 0), // taglo
    (28, 1), // datalo
    (30, 0), // errorepc
    (31, 0), // desave
];

fn system_register(number: u32) -> Option<(u32, u32)> {
    SYSTEM_REGISTERS.get(number.checked_sub(SYSTEM)? as usize).copied()
}

/// A register's value.
pub(super) fn register(core: &Core<Mips>, n: usize) -> u64 {
    let Some(register) = REGISTERS.get(n) else { return 0 };
    let value = match register.number {
        n @ 0..32 => core.get32(gpr(n)),
        STATUS => core.isa.cp0.status(),
        LOW => core.get32(LO),
        HIGH => core.get32(HI),
        BAD_VADDR => core.isa.cp0.bad_vaddr(),
        CAUSE => cause(core),
        COUNTER => core.get32(PC),
        n @ FLOAT..FCSR => core.get32(fpr(n - FLOAT)),
        FCSR => core.get32(fpu::FCSR),
        FIR => core.isa.model.fir,
        number => match system_register(number) {
            Some((1, 0)) => core.isa.last_random(),
            Some((number, select)) => helpers::cp0_register(core, number, select),
            None => 0,
        },
    };
    value.into()
}

/// Cause with the lines as they are now.
fn cause(core: &Core<Mips>) -> u32 {
    let mut cp0: Cp0 = core.isa.cp0.clone();
    cp0.set_lines(core.inputs().levels());
    cp0.cause()
}

/// Sets a register's value.
pub(super) fn set_register(core: &mut Core<Mips>, n: usize, value: u64) {
    let Some(register) = REGISTERS.get(n) else { return };
    let value = u64::from(value as u32);
    let system = |core: &mut Core<Mips>, number, select| {
        // Moves to CP0 never fail.
        let _ = helpers::mtc0(core, helpers::reg(number, select).into(), value);
    };
    match register.number {
        0 => {}
        n @ 1..32 => core.set(gpr(n), value),
        STATUS => system(core, 12, 0),
        LOW => core.set(LO, value),
        HIGH => core.set(HI, value),
        BAD_VADDR => core.isa.cp0.bad_vaddr = value as u32,
        CAUSE => system(core, 13, 0),
        // The same address again leaves it in a delay slot.
        COUNTER if value == core.get(PC) => {}
        COUNTER => Mips::go_to(core, value),
        FLOAT..=FIR if core.isa.model.fir == 0 => {}
        n @ FLOAT..FCSR => {
            let upper = core.get(fpr(n - FLOAT)) & !0xffff_ffff;
            core.set(fpr(n - FLOAT), upper | value);
        }
        FCSR => core.set(fpu::FCSR, value & u64::from(core.isa.model.fcsr_writable)),
        FIR => {}
        number => {
            if let Some((number, select)) = system_register(number) {
                system(core, number, select);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_are_those_of_gdb() {
        assert!(REGISTERS.windows(2).all(|pair| pair[0].number < pair[1].number));
        for (name, number) in [("r29", 29), ("pc", 37), ("f0", 38), ("f31", 69), ("fcsr", 70), ("fir", 71)] {
            assert_eq!(REGISTERS.iter().find(|r| r.name == name).map(|r| r.number), Some(number), "{name}");
        }
        let systems = REGISTERS.iter().filter(|r| r.number >= SYSTEM).count();
        assert_eq!(systems, SYSTEM_REGISTERS.len());
    }
}
