//! The registers as gdb numbers them.
//!
//! What it is: the list, and how its values are read and set. The numbers up to 70 are gdb's for PowerPC and QEMU's; from
//! 100 on the system's registers follow, in a feature of our own. What must always hold: reading changes nothing.

use super::spr::number;
use super::{CTR, DAR, DSISR, FPSCR, LR, PC, Ppc, SPRG, SRR0, SRR1, cr, fpr, gpr, set_cr, set_xer, spr, xer};
use crate::core::Core;
use crate::debug::{DebugRegister, DebugType};
use crate::isa::Isa;

const FLOAT: u32 = 32;
const COUNTER: u32 = 64;
const STATE: u32 = 65;
const CONDITION: u32 = 66;
const LINK: u32 = 67;
const COUNT: u32 = 68;
const EXCEPTION: u32 = 69;
const FLOAT_STATE: u32 = 70;
/// The first of those that gdb does not know: special-purpose registers, then segments.
const SYSTEM: u32 = 100;
const SEGMENTS: u32 = 130;

const fn core_register(name: &'static str, number: u32) -> DebugRegister {
    let feature = "org.gnu.gdb.power.core";
    DebugRegister { name, bits: 32, number, feature, kind: DebugType::Int, group: None }
}

const fn float(name: &'static str, number: u32) -> DebugRegister {
    let feature = "org.gnu.gdb.power.fpu";
    DebugRegister { name, bits: 64, number, feature, kind: DebugType::Float, group: Some("float") }
}

const fn system(name: &'static str, number: u32) -> DebugRegister {
    DebugRegister {
        feature: "org.flatview.power.system",
        group: Some("system"),
        ..core_register(name, number)
    }
}

/// All of them.
pub(super) static REGISTERS: [DebugRegister; 101] = [
    core_register("r0", 0),
    core_register("r1", 1),
    core_register("r2", 2),
    core_register("r3", 3),
    core_register("r4", 4),
    core_register("r5", 5),
    core_register("r6", 6),
    core_register("r7", 7),
    core_register("r8", 8),
    core_register("r9", 9),
    core_register("r10", 10),
    core_register("r11", 11),
    core_register("r12", 12),
    core_register("r13", 13),
    core_register("r14", 14),
    core_register("r15", 15),
    core_register("r16", 16),
    core_register("r17", 17),
    core_register("r18", 18),
    core_register("r19", 19),
    core_register("r20", 20),
    core_register("r21", 21),
    core_register("r22", 22),
    core_register("r23", 23),
    core_register("r24", 24),
    core_register("r25", 25),
    core_register("r26", 26),
    core_register("r27", 27),
    core_register("r28", 28),
    core_register("r29", 29),
    core_register("r30", 30),
    core_register("r31", 31),
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
    DebugRegister { kind: DebugType::CodePointer, ..core_register("pc", COUNTER) },
    core_register("msr", STATE),
    core_register("cr", CONDITION),
    DebugRegister { kind: DebugType::CodePointer, ..core_register("lr", LINK) },
    core_register("ctr", COUNT),
    core_register("xer", EXCEPTION),
    DebugRegister { bits: 32, kind: DebugType::Int, ..float("fpscr", FLOAT_STATE) },
    system("srr0", SYSTEM),
    system("srr1", SYSTEM + 1),
    system("dar", SYSTEM + 2),
    system("dsisr", SYSTEM + 3),
    system("sprg0", SYSTEM + 4),
    system("sprg1", SYSTEM + 5),
    system("sprg2", SYSTEM + 6),
    system("sprg3", SYSTEM + 7),
    system("dec", SYSTEM + 8),
    system("tbl", SYSTEM + 9),
    system("tbu", SYSTEM + 10),
    system("sdr1", SYSTEM + 11),
    system("pvr", SYSTEM + 12),
    system("hid0", SYSTEM + 13),
    system("sr0", SEGMENTS),
    system("sr1", SEGMENTS + 1),
    system("sr2", SEGMENTS + 2),
    system("sr3", SEGMENTS + 3),
    system("sr4", SEGMENTS + 4),
    system("sr5", SEGMENTS + 5),
    system("sr6", SEGMENTS + 6),
    system("sr7", SEGMENTS + 7),
    system("sr8", SEGMENTS + 8),
    system("sr9", SEGMENTS + 9),
    system("sr10", SEGMENTS + 10),
    system("sr11", SEGMENTS + 11),
    system("sr12", SEGMENTS + 12),
    system("sr13", SEGMENTS + 13),
    system("sr14", SEGMENTS + 14),
    system("sr15", SEGMENTS + 15),
];

/// Which special-purpose registers those from [`SYSTEM`] on are.
const SYSTEM_REGISTERS: [u32; 14] = [26, 27, 19, 18, 272, 273, 274, 275, 22, 268, 269, 25, 287, 1008];

fn system_register(number: u32) -> Option<u32> {
    SYSTEM_REGISTERS.get(number.checked_sub(SYSTEM)? as usize).copied()
}

/// A register's value.
pub(super) fn register(core: &Core<Ppc>, n: usize) -> u64 {
    let Some(register) = REGISTERS.get(n) else { return 0 };
    let value = match register.number {
        n @ 0..FLOAT => core.get32(gpr(n)),
        n @ FLOAT..COUNTER => return core.get(fpr(n - FLOAT)),
        COUNTER => core.get32(PC),
        STATE => core.isa.msr(),
        CONDITION => cr(core),
        LINK => core.get32(LR),
        COUNT => core.get32(CTR),
        EXCEPTION => xer(core),
        FLOAT_STATE => core.get32(FPSCR),
        n @ SEGMENTS.. => core.isa.segments.get((n - SEGMENTS) as usize).copied().unwrap_or(0),
        number => match system_register(number) {
            Some(26) => core.get32(SRR0),
            Some(27) => core.get32(SRR1),
            Some(19) => core.get32(DAR),
            Some(18) => core.get32(DSISR),
            Some(n @ 272..=275) => SPRG.get(n as usize - 272).map_or(0, |var| core.get32(*var)),
            Some(number::DEC) => core.isa.decrementer(),
            Some(number::TBL_READ) => core.isa.time_base() as u32,
            Some(number::TBU_READ) => (core.isa.time_base() >> 32) as u32,
            Some(n) => core.isa.spr(n),
            None => 0,
        },
    };
    value.into()
}

/// Sets a register's value.
pub(super) fn set_register(core: &mut Core<Ppc>, n: usize, value: u64) {
    let Some(register) = REGISTERS.get(n) else { return };
    let word = value as u32;
    match register.number {
        n @ 0..FLOAT => core.set(gpr(n), word.into()),
        n @ FLOAT..COUNTER => core.set(fpr(n - FLOAT), value),
        COUNTER => Ppc::go_to(core, word.into()),
        STATE => core.isa.set_msr(word),
        CONDITION => set_cr(core, word),
        LINK => core.set(LR, word.into()),
        COUNT => core.set(CTR, word.into()),
        EXCEPTION => set_xer(core, word),
        FLOAT_STATE => core.set(FPSCR, word.into()),
        n @ SEGMENTS.. => {
            if let Some(segment) = core.isa.segments.get_mut((n - SEGMENTS) as usize) {
                *segment = word;
            }
        }
        number => match system_register(number) {
            Some(26) => core.set(SRR0, word.into()),
            Some(27) => core.set(SRR1, word.into()),
            Some(19) => core.set(DAR, word.into()),
            Some(18) => core.set(DSISR, word.into()),
            Some(n @ 272..=275) => {
                if let Some(var) = SPRG.get(n as usize - 272) {
                    core.set(*var, word.into());
                }
            }
            // The time base is set by other numbers than it is read by.
            Some(number::TBL_READ) => spr::set(core, number::TBL, word),
            Some(number::TBU_READ) => spr::set(core, number::TBU, word),
            Some(n) => spr::set(core, n, word),
            None => {}
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_are_those_of_gdb() {
        assert!(REGISTERS.windows(2).all(|pair| pair[0].number < pair[1].number));
        for (name, number) in [
            ("r31", 31),
            ("f0", 32),
            ("pc", 64),
            ("msr", 65),
            ("cr", 66),
            ("lr", 67),
            ("xer", 69),
            ("fpscr", 70),
        ] {
            assert_eq!(REGISTERS.iter().find(|r| r.name == name).map(|r| r.number), Some(number), "{name}");
        }
        let systems = REGISTERS.iter().filter(|r| (SYSTEM..SEGMENTS).contains(&r.number)).count();
        assert_eq!(systems, SYSTEM_REGISTERS.len());
    }
}
