//! MIPS instructions as text, as GNU's tools write them: `addiu<TAB>sp,sp,-24`.
//!
//! What it is: `rabbitizer`, which knows MIPS I to IV as compilers used them, and a table of what it does not know: the
//! rest of MIPS IV, and MIPS32. What it is not: a second opinion on which instructions there are; `translate` says that.
//! What must always hold: whatever `translate` accepts has a text.

use std::fmt::Write as _;

use rabbitizer::Vram;
use rabbitizer::instr::{Instruction, InstructionFlags};
use rabbitizer::isa::IsaVersion;
use rabbitizer::opcodes::Opcode;
use rabbitizer::operands::Operand;

use super::MipsModel;
use super::translate::knows;

/// An encoding: those bits of a word that are looked at, what they are, the name, and the operands, one character each.
struct Row(u32, u32, &'static str, &'static str);

const FUNCTION: u32 = 0xfc00_003f;
const RS: u32 = 0xffe0_0000;
const REGIMM: u32 = 0xfc1f_0000;
const COP0: u32 = 0x10 << 26;
const COP1: u32 = 0x11 << 26;
const COP1X: u32 = 0x13 << 26;
const SPECIAL2: u32 = 0x1c << 26;
const SPECIAL3: u32 = 0x1f << 26;
const S: u32 = COP1 | 16 << 21;
const D: u32 = COP1 | 17 << 21;
/// A system instruction: bit 25 of a COP0 word is set.
const CO: u32 = FUNCTION | 1 << 25;

// Operands: `d` `s` `t` the general registers of the fields rd, rs, rt; `D` `S` `T` `R` the floating-point registers of the
// fields fd, fs, ft, fr (which stands where rs does); `c` a condition code in bits 18 to 20, `C` in bits 8 to 10, left out if
// it is 0; `o` a displacement and its base, `x` an index and its base; `p` the target of a branch; `h` a hint in the
// field rt, `H` in rd; `<` a shift; `e` `i` position and size of `ext` and `ins`; `0` a register of CP0 and its
// selection; `k` a hardware register; `b` a code of 20 bits, left out if it is 0.
static LATER: &[Row] = &[
    // How assemblers write what other instructions do.
    Row(u32::MAX, 0, "nop", ""),
    Row(u32::MAX, 0x40, "ssnop", ""),
    Row(u32::MAX, 0xc0, "ehb", ""),
    Row(0xffe0_0000, 0x2400_0000, "li", "tj"),
    Row(0xffe0_0000, 0x3400_0000, "li", "tu"),
    Row(0xfc1f_07ff, 0x21, "move", "ds"),
    Row(0xfc1f_07ff, 0x25, "move", "ds"),
    // MIPS IV.
    Row(0xfc03_003f, 0x01, "movf", "dsc"),
    Row(0xfc03_003f, 0x1_0001, "movt", "dsc"),
    Row(0xffe3_0000, COP1 | 8 << 21, "bc1f", "cp"),
    Row(0xffe3_0000, COP1 | 8 << 21 | 1 << 16, "bc1t", "cp"),
    Row(0xffe3_0000, COP1 | 8 << 21 | 2 << 16, "bc1fl", "cp"),
    Row(0xffe3_0000, COP1 | 8 << 21 | 3 << 16, "bc1tl", "cp"),
    Row(0xffe1_003f, S | 0x11, "movf.s", "DSc"),
    Row(0xffe1_003f, S | 0x11 | 1 << 16, "movt.s", "DSc"),
    Row(0xffe1_003f, D | 0x11, "movf.d", "DSc"),
    Row(0xffe1_003f, D | 0x11 | 1 << 16, "movt.d", "DSc"),
    Row(0xffe0_003f, S | 0x12, "movz.s", "DSt"),
    Row(0xffe0_003f, D | 0x12, "movz.d", "DSt"),
    Row(0xffe0_003f, S | 0x13, "movn.s", "DSt"),
    Row(0xffe0_003f, D | 0x13, "movn.d", "DSt"),
    Row(0xffe0_003f, S | 0x15, "recip.s", "DS"),
    Row(0xffe0_003f, D | 0x15, "recip.d", "DS"),
    Row(0xffe0_003f, S | 0x16, "rsqrt.s", "DS"),
    Row(0xffe0_003f, D | 0x16, "rsqrt.d", "DS"),
    Row(FUNCTION, COP1X, "lwxc1", "Dx"),
    Row(FUNCTION, COP1X | 0x01, "ldxc1", "Dx"),
    Row(FUNCTION, COP1X | 0x05, "luxc1", "Dx"),
    Row(FUNCTION, COP1X | 0x08, "swxc1", "Sx"),
    Row(FUNCTION, COP1X | 0x09, "sdxc1", "Sx"),
    Row(FUNCTION, COP1X | 0x0d, "suxc1", "Sx"),
    Row(FUNCTION, COP1X | 0x0f, "prefx", "Hx"),
    Row(FUNCTION, COP1X | 0x20, "madd.s", "DRST"),
    Row(FUNCTION, COP1X | 0x21, "madd.d", "DRST"),
    Row(FUNCTION, COP1X | 0x28, "msub.s", "DRST"),
    Row(FUNCTION, COP1X | 0x29, "msub.d", "DRST"),
    Row(FUNCTION, COP1X | 0x30, "nmadd.s", "DRST"),
    Row(FUNCTION, COP1X | 0x31, "nmadd.d", "DRST"),
    Row(FUNCTION, COP1X | 0x38, "nmsub.s", "DRST"),
    Row(FUNCTION, COP1X | 0x39, "nmsub.d", "DRST"),
    Row(0xfc00_0000, 0x33 << 26, "pref", "ho"),
    // MIPS32.
    Row(FUNCTION, SPECIAL2, "madd", "st"),
    Row(FUNCTION, SPECIAL2 | 0x01, "maddu", "st"),
    Row(FUNCTION, SPECIAL2 | 0x02, "mul", "dst"),
    Row(FUNCTION, SPECIAL2 | 0x04, "msub", "st"),
    Row(FUNCTION, SPECIAL2 | 0x05, "msubu", "st"),
    Row(FUNCTION, SPECIAL2 | 0x20, "clz", "ds"),
    Row(FUNCTION, SPECIAL2 | 0x21, "clo", "ds"),
    Row(FUNCTION, SPECIAL2 | 0x3f, "sdbbp", "b"),
    Row(RS, COP0, "mfc0", "t0"),
    Row(RS, COP0 | 4 << 21, "mtc0", "t0"),
    Row(CO, COP0 | 1 << 25 | 0x01, "tlbr", ""),
    Row(CO, COP0 | 1 << 25 | 0x02, "tlbwi", ""),
    Row(CO, COP0 | 1 << 25 | 0x06, "tlbwr", ""),
    Row(CO, COP0 | 1 << 25 | 0x08, "tlbp", ""),
    Row(CO, COP0 | 1 << 25 | 0x18, "eret", ""),
    Row(CO, COP0 | 1 << 25 | 0x1f, "deret", ""),
    Row(CO, COP0 | 1 << 25 | 0x20, "wait", ""),
    // MIPS32 release 2.
    Row(0xffe0_003f, 1 << 21 | 0x02, "ror", "dt<"),
    Row(0xfc00_07ff, 1 << 6 | 0x06, "rorv", "dts"),
    Row(FUNCTION, SPECIAL3, "ext", "tse"),
    Row(FUNCTION, SPECIAL3 | 0x04, "ins", "tsi"),
    Row(0xfc00_07ff, SPECIAL3 | 0x02 << 6 | 0x20, "wsbh", "dt"),
    Row(0xfc00_07ff, SPECIAL3 | 0x10 << 6 | 0x20, "seb", "dt"),
    Row(0xfc00_07ff, SPECIAL3 | 0x18 << 6 | 0x20, "seh", "dt"),
    Row(FUNCTION, SPECIAL3 | 0x3b, "rdhwr", "tk"),
    Row(REGIMM, 1 << 26 | 0x1f << 16, "synci", "o"),
    Row(RS, COP0 | 0x0a << 21, "rdpgpr", "dt"),
    Row(RS, COP0 | 0x0e << 21, "wrpgpr", "dt"),
    Row(0xffff_ffff, COP0 | 0x0b << 21 | 12 << 11, "di", ""),
    Row(0xffff_ffff, COP0 | 0x0b << 21 | 12 << 11 | 0x20, "ei", ""),
    Row(0xffe0_f820, COP0 | 0x0b << 21 | 12 << 11, "di", "t"),
    Row(0xffe0_f820, COP0 | 0x0b << 21 | 12 << 11 | 0x20, "ei", "t"),
    Row(RS, COP1 | 3 << 21, "mfhc1", "tS"),
    Row(RS, COP1 | 7 << 21, "mthc1", "tS"),
];

/// The names of the conditions of `c.cond.fmt`.
const CONDITIONS: [&str; 16] = [
    "f", "un", "eq", "ueq", "olt", "ult", "ole", "ule", "sf", "ngle", "seq", "ngl", "lt", "nge", "le", "ngt",
];

const REGISTERS: [&str; 32] = [
    "zero", "at", "v0", "v1", "a0", "a1", "a2", "a3", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "s0",
    "s1", "s2", "s3", "s4", "s5", "s6", "s7", "t8", "t9", "k0", "k1", "gp", "sp", "s8", "ra",
];

fn register(n: u32) -> &'static str {
    REGISTERS.get((n & 31) as usize).copied().unwrap_or_default()
}

/// An instruction as text; `None` for a word that the CPU does not know.
pub(crate) fn disassemble(model: &MipsModel, word: u32, pc: u32) -> Option<String> {
    if !knows(model, word) {
        return None;
    }
    if let Some(Row(.., name, operands)) = LATER.iter().find(|row| word & row.0 == row.1) {
        return Some(written(name, operands.chars().filter_map(|kind| operand(kind, word, pc))));
    }
    let condition = word >> 26 == 0x11 && matches!(word >> 21 & 31, 16 | 17) && word & 0xf0 == 0x30;
    if condition {
        let name = CONDITIONS.get((word & 15) as usize)?;
        let format = if word >> 21 & 1 == 0 { "s" } else { "d" };
        let operands = ['C', 'S', 'T'].into_iter().filter_map(|kind| operand(kind, word, pc));
        return Some(written(&format!("c.{name}.{format}"), operands));
    }
    // What assemblers call by other names is one of these where GNU's tools do so too.
    let flags = InstructionFlags::new(IsaVersion::MIPS_IV).with_pseudo_neg(false);
    let read = Instruction::new(word, Vram::new(pc), flags);
    if read.opcode() == Opcode::ALL_INVALID {
        return None;
    }
    let operands = read.operands_iter().filter_map(|kind| of_rabbitizer(kind, word, pc));
    Some(written(read.opcode().name(), operands))
}

fn written(name: &str, operands: impl Iterator<Item = String>) -> String {
    let mut text = name.to_owned();
    for (n, operand) in operands.enumerate() {
        let _ = write!(text, "{}{operand}", if n == 0 { '\t' } else { ',' });
    }
    text
}

fn branch(word: u32, pc: u32) -> String {
    let target = pc.wrapping_add(4).wrapping_add_signed(i32::from(word as i16) << 2);
    format!("{target:#x}")
}

fn operand(kind: char, word: u32, pc: u32) -> Option<String> {
    let field = |shift: u32| word >> shift & 31;
    let signed = word as i16;
    Some(match kind {
        's' => register(field(21)).to_owned(),
        't' => register(field(16)).to_owned(),
        'd' => register(field(11)).to_owned(),
        'R' => format!("$f{}", field(21)),
        'T' => format!("$f{}", field(16)),
        'S' => format!("$f{}", field(11)),
        'D' => format!("$f{}", field(6)),
        'c' if word >> 18 & 7 == 0 => return None,
        'c' => format!("$fcc{}", word >> 18 & 7),
        'C' if word >> 8 & 7 == 0 => return None,
        'C' => format!("$fcc{}", word >> 8 & 7),
        'o' => format!("{signed}({})", register(field(21))),
        'x' => format!("{}({})", register(field(16)), register(field(21))),
        'p' => branch(word, pc),
        'j' => signed.to_string(),
        'u' => format!("{:#x}", word & 0xffff),
        'h' => format!("{:#x}", field(16)),
        'H' => format!("{:#x}", field(11)),
        '<' => format!("{:#x}", field(6)),
        'e' => format!("{:#x},{:#x}", field(6), field(11) + 1),
        'i' => format!("{:#x},{:#x}", field(6), field(11).wrapping_sub(field(6)).wrapping_add(1)),
        '0' if word & 7 == 0 => format!("${}", field(11)),
        '0' => format!("${},{}", field(11), word & 7),
        'k' => format!("${}", field(11)),
        'b' if word >> 6 & 0xf_ffff == 0 => return None,
        _ => format!("{:#x}", word >> 6 & 0xf_ffff),
    })
}

/// An operand of an instruction that `rabbitizer` has read; `None` for one that is not written.
fn of_rabbitizer(kind: Operand, word: u32, pc: u32) -> Option<String> {
    let letter = match kind {
        Operand::core_rs => 's',
        Operand::core_rt => 't',
        Operand::core_rd => 'd',
        Operand::core_fs => 'S',
        Operand::core_ft => 'T',
        Operand::core_fd => 'D',
        Operand::core_sa => '<',
        Operand::core_imm_i16 => 'j',
        Operand::core_imm_u16 => 'u',
        Operand::core_imm_rs => 'o',
        Operand::core_branch_target_label => 'p',
        Operand::core_op => 'h',
        Operand::core_cop1cs => return Some(format!("${}", word >> 11 & 31)),
        Operand::core_zero => return Some("zero".to_owned()),
        Operand::core_maybe_zero_rs => return Some(format!("zero,{}", register(word >> 21))),
        Operand::core_maybe_rd_rs if word >> 11 & 31 == 31 => 's',
        Operand::core_maybe_rd_rs => {
            return Some(format!("{},{}", register(word >> 11), register(word >> 21)));
        }
        Operand::core_label => {
            let target = pc.wrapping_add(4) & 0xf000_0000 | (word & 0x03ff_ffff) << 2;
            return Some(format!("{target:#x}"));
        }
        Operand::core_code_lower => return code(word >> 6 & 0x3ff),
        Operand::core_code => {
            let (upper, lower) = (word >> 16 & 0x3ff, word >> 6 & 0x3ff);
            return match (upper, lower) {
                (_, 0) => code(upper),
                _ => Some(format!("{upper:#x},{lower:#x}")),
            };
        }
        _ => return None,
    };
    operand(letter, word, pc)
}

fn code(value: u32) -> Option<String> {
    (value != 0).then(|| format!("{value:#x}"))
}
