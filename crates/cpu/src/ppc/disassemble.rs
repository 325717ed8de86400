//! PowerPC instructions as text, in the columns that QEMU has: `stw      r1, -0x88(r1)`.
//!
//! What it is: `powerpc`, with its simplified mnemonics, and numbers as QEMU's disassembler writes them. What it is not: a
//! second opinion on which instructions there are; `translate` says that. What must always hold: whatever `translate` accepts has a
//! text.

use std::fmt::Write as _;

use powerpc::{Argument, Extensions, Ins, OpaqueU, Opcode};

use super::PpcModel;
use super::translate::knows;

/// An instruction as text; `None` for a word that the CPU does not know.
pub(crate) fn disassemble(model: &PpcModel, word: u32, pc: u32) -> Option<String> {
    if !knows(model, word) {
        return None;
    }
    // Those of the 603 and its kind that the crate does not have.
    match (word >> 26, word >> 1 & 0x3ff) {
        (31, 978) => return Some(format!("{:<8} r{}", "tlbld", word >> 11 & 31)),
        (31, 1010) => return Some(format!("{:<8} r{}", "tlbli", word >> 11 & 31)),
        _ => {}
    }
    let read = read(model, word)?;
    let mut parsed = read.simplified();
    // The time base has two halves; assemblers write their names.
    if let Some(part) = time_base(word) {
        return Some(format!("{part:<8} r{}", word >> 21 & 31));
    }
    // Register 0 as a base is the number 0.
    let base = base_argument(word).filter(|_| word >> 16 & 31 == 0);
    if let Some(base) = base.and_then(|at| parsed.args.get_mut(at)) {
        *base = Argument::OpaqueU(OpaqueU(0));
    }
    let mut text = format!("{:<8} ", parsed.mnemonic);
    let mut in_parentheses = false;
    for (n, argument) in parsed.args_iter().enumerate() {
        if n > 0 && !in_parentheses {
            text.push_str(", ");
        }
        let _ = match argument {
            Argument::Simm(value) => number(&mut text, value.0.into()),
            Argument::Offset(value) => number(&mut text, value.0.into()),
            Argument::Uimm(value) => number(&mut text, value.0.into()),
            Argument::OpaqueU(value) => number(&mut text, value.0.into()),
            Argument::BranchDest(value) => {
                let from = if word & 2 != 0 { 0 } else { pc };
                write!(text, "{:#x}", from.wrapping_add_signed(value.0))
            }
            Argument::SPR(_) => write!(text, "{}", argument.to_string().to_lowercase()),
            other => write!(text, "{other}"),
        };
        if in_parentheses {
            text.push(')');
            in_parentheses = false;
        } else if matches!(argument, Argument::Offset(_)) {
            text.push('(');
            in_parentheses = true;
        }
    }
    Some(text)
}

/// Fields, and parts of fields, of which instructions leave bits unused: Rc, frC, rB, rA, rD, and around fields of the condition
/// register and in the masks of `mtcrf` and `mtfsf`.
const UNUSED: [u32; 10] =
    [1, 0x7c0, 0xf800, 0x1f_0000, 0x60_0000, 0x3_0000, 0x10_0000, 0x800, 0x201_0000, 0x3e0_0000];

/// Reads a word. The crate wants unused bits to be 0, which the CPU does not: the fewest of these are cleared that make it an
/// instruction.
fn read(model: &PpcModel, word: u32) -> Option<Ins> {
    if word >> 26 == 17 {
        return Some(Ins::new(0x4400_0002, Extensions::none()));
    }
    let of =
        |chosen: u32| (0..).zip(UNUSED).filter(|(n, _)| chosen >> n & 1 != 0).fold(0, |all, (_, m)| all | m);
    (0..=UNUSED.len() as u32).find_map(|count| {
        (0..1_u32 << UNUSED.len()).filter(|chosen| chosen.count_ones() == count).find_map(|chosen| {
            let plain = word & !of(chosen);
            let read = Ins::new(plain, Extensions::none());
            (read.op != Opcode::Illegal && knows(model, plain)).then_some(read)
        })
    })
}

/// The name of `mftb` for one of the time base's halves.
fn time_base(word: u32) -> Option<&'static str> {
    match (word >> 26, word >> 1 & 0x3ff, word >> 16 & 31 | word >> 6 & 0x3e0) {
        (31, 371, 268) => Some("mftb"),
        (31, 371, 269) => Some("mftbu"),
        _ => None,
    }
}

/// Which argument is the base of an address that may do without one.
fn base_argument(word: u32) -> Option<usize> {
    match (word >> 26, word >> 1 & 0x3ff) {
        // Those with an odd number set their base.
        (32 | 34 | 36 | 38 | 40 | 42 | 44 | 46 | 47 | 48 | 50 | 52 | 54, _) => Some(2),
        // dcbst, dcbf, dcbtst, dcbt, dcbi, icbi, dcbz.
        (31, 54 | 86 | 246 | 278 | 470 | 982 | 1014) => Some(0),
        (31, 20 | 23 | 87 | 150 | 151 | 215 | 279 | 310 | 343 | 407 | 438 | 533 | 534 | 535 | 597) => Some(1),
        (31, 599 | 661 | 662 | 663 | 725 | 727 | 790 | 918 | 983) => Some(1),
        _ => None,
    }
}

/// A number: decimal up to nine.
fn number(text: &mut String, value: i32) -> std::fmt::Result {
    match value {
        -9..=9 => write!(text, "{value}"),
        ..-9 => write!(text, "-{:#x}", value.unsigned_abs()),
        _ => write!(text, "{value:#x}"),
    }
}
