//! The floating-point unit: what its instructions do to registers, FPSCR and CR (PEM, sections 2.1.4, 3.3 and 4.2.2).
//!
//! What it is: instructions in terms of the operations of [`crate::float`]. What it is not: those operations, or who may use
//! the unit, which `translate` asks. What must always hold: FPSCR\[VX\] and FPSCR\[FEX\] are what the other bits say, and an
//! instruction that an enabled exception keeps from its result has changed nothing but FPSCR.

use super::except::srr1;
use super::state::msr;
use super::{CR, FPSCR, Fault, Ppc, cr, fpr, set_cr};
use crate::core::Core;
use crate::float::{
    Double, Env, Flags, Format, Out, Rounding, Rules, Single, is_denormal, is_infinite, is_nan, is_negative,
    is_zero, magnitude, negated,
};
use crate::ir::MemOp;
use crate::tlb::Kind;

/// Bits of FPSCR.
mod bit {
    pub const FX: u32 = 1 << 31;
    pub const FEX: u32 = 1 << 30;
    pub const VX: u32 = 1 << 29;
    pub const OX: u32 = 1 << 28;
    pub const UX: u32 = 1 << 27;
    pub const ZX: u32 = 1 << 26;
    pub const XX: u32 = 1 << 25;
    pub const VXSNAN: u32 = 1 << 24;
    pub const VXISI: u32 = 1 << 23;
    pub const VXIDI: u32 = 1 << 22;
    pub const VXZDZ: u32 = 1 << 21;
    pub const VXIMZ: u32 = 1 << 20;
    pub const VXVC: u32 = 1 << 19;
    pub const FR: u32 = 1 << 18;
    pub const FI: u32 = 1 << 17;
    pub const FPRF: u32 = 0x1f << 12;
    pub const FPCC: u32 = 0xf << 12;
    pub const VXSOFT: u32 = 1 << 10;
    pub const VXSQRT: u32 = 1 << 9;
    pub const VXCVI: u32 = 1 << 8;
    pub const VE: u32 = 1 << 7;
    pub const OE: u32 = 1 << 6;
    pub const UE: u32 = 1 << 5;
    pub const ZE: u32 = 1 << 4;
    pub const XE: u32 = 1 << 3;
    /// The causes of VX.
    pub const INVALID: u32 = VXSNAN | VXISI | VXIDI | VXZDZ | VXIMZ | VXVC | VXSOFT | VXSQRT | VXCVI;
    /// What makes FX 1.
    pub const EXCEPTIONS: u32 = OX | UX | ZX | XX | INVALID;
    /// Bit 20 does not exist.
    pub const EXISTS: u32 = !(1 << 11);
}

type Cpu = Core<Ppc>;
type Done = Result<(), Fault>;

/// A double from the bits of a single, as loads make it: nothing is signalled.
pub(super) fn double_of(single: u32) -> u64 {
    let (sign, exponent, fraction) = (u64::from(single >> 31) << 63, single >> 23 & 0xff, single & 0x7f_ffff);
    let put = |exponent: u32, fraction: u32| {
        sign | u64::from(exponent) << 52 | u64::from(fraction & 0x7f_ffff) << 29
    };
    match exponent {
        0xff => put(0x7ff, fraction),
        0 if fraction == 0 => sign,
        0 => {
            // The first 1 becomes the one that is not stored.
            let up = fraction.leading_zeros() - 8;
            put(897 - up, fraction << up)
        }
        _ => put(exponent + 896, fraction),
    }
}

/// The bits of a single from a double, as stores make it: nothing is rounded or signalled.
pub(super) fn single_of(double: u64) -> u32 {
    let exponent = (double >> 52 & 0x7ff) as u32;
    if exponent > 896 || double << 1 == 0 {
        return (double >> 32) as u32 & 0xc000_0000 | (double >> 29) as u32 & 0x3fff_ffff;
    }
    // Denormal in single; below that the manual leaves open what is stored, and this has it 0.
    let fraction = 1 << 23 | (double >> 29 & 0x7f_ffff) as u32;
    let fraction = fraction.checked_shr(897 - exponent).unwrap_or(0);
    ((double >> 63) as u32 * (1 << 31)) | fraction
}

/// A load, `size` 4 or 8, to floating-point register `d`.
pub(super) fn load(core: &mut Cpu, va: u64, size: u8, d: u32) -> Done {
    let value = core.helper_load(va, access(core, va, size)?)?;
    core.set(fpr(d), if size == 4 { double_of(value as u32) } else { value });
    Ok(())
}

/// A store of floating-point register `s`; of its low half as it is if `integer`.
pub(super) fn store(core: &mut Cpu, va: u64, size: u8, s: u32, integer: bool) -> Done {
    let value = core.get(fpr(s));
    let value = if size == 4 && !integer { single_of(value).into() } else { value };
    let mem = access(core, va, size)?;
    core.helper_store(va, value, mem)
}

/// Words must be aligned, and doubles as words.
fn access(core: &Cpu, va: u64, size: u8) -> Result<MemOp, Fault> {
    if va & 3 != 0 {
        return Err(Fault::alignment(va as u32));
    }
    Ok(MemOp { size, signed: false, big: true, aligned: false, mmu: core.isa.mmu_of(Kind::Read) })
}

/// How FPSCR\[RN\] has results rounded.
fn env(fpscr: u32) -> Env {
    let rounding = match fpscr & 3 {
        0 => Rounding::Nearest,
        1 => Rounding::Zero,
        2 => Rounding::Up,
        _ => Rounding::Down,
    };
    Env { rounding, rules: &Rules::POWERPC }
}

/// The exception bits for what an operation signals.
fn exceptions(flags: Flags) -> u32 {
    let pairs = [
        (Flags::OVERFLOW, bit::OX),
        (Flags::UNDERFLOW, bit::UX),
        (Flags::DIV_BY_ZERO, bit::ZX),
        (Flags::INEXACT, bit::XX),
        (Flags::SIGNALLING, bit::VXSNAN),
        (Flags::INF_MINUS_INF, bit::VXISI),
        (Flags::INF_BY_INF, bit::VXIDI),
        (Flags::ZERO_BY_ZERO, bit::VXZDZ),
        (Flags::INF_TIMES_ZERO, bit::VXIMZ),
        (Flags::UNORDERED, bit::VXVC),
        (Flags::NEGATIVE_ROOT, bit::VXSQRT),
        (Flags::NO_INTEGER, bit::VXCVI),
    ];
    pairs.into_iter().filter(|(flag, _)| flags.has(*flag)).fold(0, |all, (_, bit)| all | bit)
}

/// FPSCR with its summaries, VX and FEX, as the other bits say.
fn summed(fpscr: u32) -> u32 {
    let fpscr = fpscr & bit::EXISTS & !(bit::VX | bit::FEX);
    let fpscr = if fpscr & bit::INVALID != 0 { fpscr | bit::VX } else { fpscr };
    let enabled =
        [(bit::VX, bit::VE), (bit::OX, bit::OE), (bit::UX, bit::UE), (bit::ZX, bit::ZE), (bit::XX, bit::XE)]
            .into_iter()
            .any(|(exception, enable)| fpscr & exception != 0 && fpscr & enable != 0);
    if enabled { fpscr | bit::FEX } else { fpscr }
}

/// FPSCR with more exceptions; FX is set if one of them is new.
fn raised(fpscr: u32, exceptions: u32) -> u32 {
    let new = exceptions & bit::EXCEPTIONS & !fpscr != 0;
    summed(fpscr | exceptions | if new { bit::FX } else { 0 })
}

/// What FPSCR\[FPRF\] says of a result (table 3-8).
fn class<F: Format>(bits: u64) -> u32 {
    let negative = is_negative::<F>(bits);
    let code = match () {
        () if is_nan::<F>(bits) => 0b10001,
        () if is_infinite::<F>(bits) => {
            if negative {
                0b01001
            } else {
                0b00101
            }
        }
        () if is_zero::<F>(bits) => {
            if negative {
                0b10010
            } else {
                0b00010
            }
        }
        () if is_denormal::<F>(bits) => {
            if negative {
                0b11000
            } else {
                0b10100
            }
        }
        () => {
            if negative {
                0b01000
            } else {
                0b00100
            }
        }
    };
    code << 12
}

/// A result with the bits FR and FI, and its class.
struct Computed {
    value: u64,
    exceptions: u32,
    /// FR, FI and FPRF.
    about: u32,
}

/// Done in double precision.
fn in_double(env: Env, op: &dyn Fn(&Env) -> Out) -> Computed {
    let out = op(&env);
    let mut about = class::<Double>(out.value);
    if out.flags.has(Flags::INEXACT) {
        let cut = op(&Env { rounding: Rounding::Zero, ..env }).value;
        about |=
            bit::FI | if magnitude::<Double>(out.value) > magnitude::<Double>(cut) { bit::FR } else { 0 };
    }
    Computed { value: out.value, exceptions: exceptions(out.flags), about }
}

/// Done in single precision, on whatever doubles: rounded once. The double result is cut off, its last bit telling what was, and that is rounded.
fn in_single(env: Env, op: &dyn Fn(&Env) -> Out) -> Computed {
    let cut = op(&Env { rounding: Rounding::Zero, ..env });
    let inexact = cut.flags.has(Flags::INEXACT);
    let exact_or_odd = cut.value | u64::from(inexact);
    // Range and rounding are those of single; what is invalid, or divided by zero, the operation says.
    let of_operation = exceptions(cut.flags) & (bit::INVALID | bit::ZX);
    let mut result = narrowed(env, exact_or_odd);
    result.exceptions |= of_operation;
    result
}

/// A double rounded to single.
fn narrowed(env: Env, double: u64) -> Computed {
    let out = env.narrow(double);
    let mut about = class::<Single>(out.value);
    if out.flags.has(Flags::INEXACT) {
        let cut = Env { rounding: Rounding::Zero, ..env }.narrow(double).value;
        about |=
            bit::FI | if magnitude::<Single>(out.value) > magnitude::<Single>(cut) { bit::FR } else { 0 };
    }
    Computed { value: double_of(out.value as u32), exceptions: exceptions(out.flags), about }
}

/// `a × c + b` with PowerPC's choice among NaNs: A, B, C.
fn mul_add(env: &Env, a: u64, c: u64, b: u64) -> Out {
    let mut out = env.mul_add::<Double>(a, c, b);
    if !is_nan::<Double>(a) && is_nan::<Double>(b) && is_nan::<Double>(c) {
        out.value = env.rules.quieted::<Double>(b);
    }
    out
}

/// With the other sign, unless it is a NaN.
fn other_sign(value: u64) -> u64 {
    if is_nan::<Double>(value) { value } else { negated::<Double>(value) }
}

/// Raises the exception that FPSCR\[FEX\] and MSR ask for.
fn check(core: &Cpu) -> Done {
    let wanted = core.isa.msr() & (msr::FE0 | msr::FE1) != 0;
    match wanted && core.get32(FPSCR) & bit::FEX != 0 {
        true => Err(Fault::program(srr1::FP)),
        false => Ok(()),
    }
}

fn record(core: &mut Cpu, word: u32) {
    if word & 1 != 0 {
        core.set(CR[1], u64::from(core.get32(FPSCR) >> 28));
    }
}

/// Writes a result and what FPSCR says of it, unless an enabled exception keeps it away.
fn finish(core: &mut Cpu, word: u32, result: &Computed) -> Done {
    let before = core.get32(FPSCR);
    let exceptions = result.exceptions;
    let kept_away = (exceptions & bit::INVALID != 0 && before & bit::VE != 0)
        || (exceptions & bit::ZX != 0 && before & bit::ZE != 0);
    let about = bit::FR | bit::FI | if kept_away { 0 } else { bit::FPRF };
    let shown = if kept_away { 0 } else { result.about };
    core.set(FPSCR, raised(before & !about | shown, exceptions).into());
    if !kept_away {
        core.set(fpr(word >> 21), result.value);
    }
    record(core, word);
    check(core)
}

/// An instruction of opcode 59 or 63 that has a result to round, or another one; `None` if there is no such instruction.
pub(super) fn execute(core: &mut Cpu, word: u32) -> Option<Done> {
    let single = word >> 26 == 59;
    let (a, b, c) = (core.get(fpr(word >> 16)), core.get(fpr(word >> 11)), core.get(fpr(word >> 6)));
    let env = env(core.get32(FPSCR));
    let round = |op: &dyn Fn(&Env) -> Out| if single { in_single(env, op) } else { in_double(env, op) };
    let minus_b = other_sign(b);
    let result = match word >> 1 & 31 {
        18 => round(&|env| env.div::<Double>(a, b)),
        20 => round(&|env| env.sub::<Double>(a, b)),
        21 => round(&|env| env.add::<Double>(a, b)),
        25 => round(&|env| env.mul::<Double>(a, c)),
        28 => round(&|env| mul_add(env, a, c, minus_b)),
        29 => round(&|env| mul_add(env, a, c, b)),
        30 | 31 => {
            let addend = if word >> 1 & 31 == 30 { minus_b } else { b };
            let mut result = round(&|env| mul_add(env, a, c, addend));
            result.value = other_sign(result.value);
            if !is_nan::<Double>(result.value) {
                result.about = result.about & !bit::FPRF | flipped(result.about);
            }
            result
        }
        24 if single => reciprocal(env, b),
        26 if !single => root(env, b),
        23 if !single => {
            let chosen = if !is_nan::<Double>(a) && (!is_negative::<Double>(a) || is_zero::<Double>(a)) {
                c
            } else {
                b
            };
            return Some(moved(core, word, chosen));
        }
        _ if single => return None,
        _ => return other(core, word, a, b, env),
    };
    Some(finish(core, word, &result))
}

/// Whether a word of opcode 59 or 63 is an instruction that [`execute`] knows.
pub(super) fn is_operation(word: u32) -> bool {
    match (word >> 26, word >> 1 & 31) {
        (59 | 63, 18 | 20 | 21 | 25 | 28..=31) | (59, 24) | (63, 23 | 26) => true,
        (63, _) => {
            matches!(
                word >> 1 & 0x3ff,
                0 | 12 | 14 | 15 | 32 | 38 | 40 | 64 | 70 | 72 | 134 | 136 | 264 | 583 | 711
            )
        }
        _ => false,
    }
}

/// FPRF for the number with the other sign.
fn flipped(about: u32) -> u32 {
    match about >> 12 & 31 {
        0b01001 => 0b00101 << 12,
        0b00101 => 0b01001 << 12,
        0b10010 => 0b00010 << 12,
        0b00010 => 0b10010 << 12,
        0b11000 => 0b10100 << 12,
        0b10100 => 0b11000 << 12,
        0b01000 => 0b00100 << 12,
        0b00100 => 0b01000 << 12,
        other => other << 12,
    }
}

/// `fres`: the quotient itself is a good estimate. Inexactness is not told.
fn reciprocal(env: Env, b: u64) -> Computed {
    let one = 1023 << 52;
    let mut result = in_single(env, &|env| env.div::<Double>(one, b));
    result.exceptions &= !bit::XX;
    result.about &= bit::FPRF;
    result
}

/// `frsqrte`, likewise.
fn root(env: Env, b: u64) -> Computed {
    let one = 1023 << 52;
    let root = env.sqrt::<Double>(b);
    let out = match () {
        () if root.flags.has(Flags::INVALID) => root,
        () => {
            let mut out = env.div::<Double>(one, root.value);
            out.flags = if out.flags.has(Flags::DIV_BY_ZERO) { Flags::DIV_BY_ZERO } else { Flags::default() };
            out
        }
    };
    Computed { value: out.value, exceptions: exceptions(out.flags), about: class::<Double>(out.value) }
}

/// An instruction that moves a value and leaves FPSCR alone.
fn moved(core: &mut Cpu, word: u32, value: u64) -> Done {
    core.set(fpr(word >> 21), value);
    record(core, word);
    Ok(())
}

/// Opcode 63 with ten bits of extended opcode.
fn other(core: &mut Cpu, word: u32, a: u64, b: u64, env: Env) -> Option<Done> {
    const SIGN: u64 = 1 << 63;
    Some(match word >> 1 & 0x3ff {
        0 | 32 => compare(core, word, a, b, env),
        12 => finish(core, word, &narrowed(env, b)),
        14 | 15 => {
            let rounding = if word >> 1 & 1 != 0 { Rounding::Zero } else { env.rounding };
            to_int(core, word, b, Env { rounding, ..env })
        }
        40 => moved(core, word, b ^ SIGN),
        72 => moved(core, word, b),
        136 => moved(core, word, b | SIGN),
        264 => moved(core, word, b & !SIGN),
        583 => {
            let fpscr = core.get(FPSCR);
            moved(core, word, fpscr)
        }
        38 => set_fpscr(core, word, |fpscr| raised(fpscr, settable(0x8000_0000 >> (word >> 21 & 31)))),
        70 => set_fpscr(core, word, |fpscr| fpscr & !settable(0x8000_0000 >> (word >> 21 & 31))),
        134 => {
            let shift = 28 - 4 * (word >> 23 & 7);
            let (mask, value) = (15 << shift, (word >> 12 & 15) << shift);
            set_fpscr(core, word, |fpscr| fpscr & !settable(mask) | value & settable(mask))
        }
        711 => {
            let fields = word >> 17 & 0xff;
            let mask = (0..8).filter(|n| fields >> n & 1 != 0).fold(0, |mask, n| mask | 15 << (4 * n));
            set_fpscr(core, word, |fpscr| fpscr & !settable(mask) | b as u32 & settable(mask))
        }
        64 => {
            let shift = 28 - 4 * (word >> 18 & 7);
            let fpscr = core.get32(FPSCR);
            let place = 28 - 4 * (word >> 23 & 7);
            let new = cr(core) & !(15 << place) | (fpscr >> shift & 15) << place;
            set_cr(core, new);
            let cleared = 15 << shift & (bit::FX | bit::EXCEPTIONS);
            core.set(FPSCR, summed(fpscr & !cleared).into());
            Ok(())
        }
        _ => return None,
    })
}

/// The bits that instructions may set: not the summaries.
fn settable(mask: u32) -> u32 {
    mask & bit::EXISTS & !(bit::FEX | bit::VX)
}

fn set_fpscr(core: &mut Cpu, word: u32, change: impl FnOnce(u32) -> u32) -> Done {
    let new = summed(change(core.get32(FPSCR)));
    core.set(FPSCR, new.into());
    record(core, word);
    check(core)
}

/// `fcmpu` and `fcmpo`.
fn compare(core: &mut Cpu, word: u32, a: u64, b: u64, env: Env) -> Done {
    let ordered = word >> 1 & 32 != 0;
    let before = core.get32(FPSCR);
    let out = env.compare::<Double>(a, b, ordered);
    let code = match out.value {
        Some(std::cmp::Ordering::Less) => 8,
        Some(std::cmp::Ordering::Greater) => 4,
        Some(std::cmp::Ordering::Equal) => 2,
        None => 1,
    };
    let mut exceptions = exceptions(out.flags);
    // With the exception enabled a signalling NaN is that alone.
    if exceptions & bit::VXSNAN != 0 && before & bit::VE != 0 {
        exceptions &= !bit::VXVC;
    }
    core.set(FPSCR, raised(before & !bit::FPCC | code << 12, exceptions).into());
    core.set(Word::field(word), code.into());
    check(core)
}

/// `fctiw` and `fctiwz`.
fn to_int(core: &mut Cpu, word: u32, b: u64, env: Env) -> Done {
    let out = env.to_int::<Double>(b, 32, env.rounding);
    let value = if is_nan::<Double>(b) { i32::MIN } else { out.value as i32 };
    let mut about = core.get32(FPSCR) & bit::FPRF;
    if out.flags.has(Flags::INEXACT) {
        let cut = env.to_int::<Double>(b, 32, Rounding::Zero).value;
        about |= bit::FI | if out.value.unsigned_abs() > cut.unsigned_abs() { bit::FR } else { 0 };
    }
    // The manual leaves the upper half open; the processors have this there.
    let value = 0xfff8_0000_0000_0000 | u64::from(value as u32);
    finish(core, word, &Computed { value, exceptions: exceptions(out.flags), about })
}

/// Fields of the word that this module needs beside registers.
struct Word;

impl Word {
    /// crfD
    fn field(word: u32) -> crate::ir::Var {
        crate::ir::Var::slot(CR[0].index() as u8 + (word >> 23 & 7) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_and_stores_of_singles_are_each_others_inverse() {
        for single in [
            0,
            1,
            0x0040_0000,
            0x007f_ffff,
            0x0080_0000,
            0x3f80_0000,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7f80_0001,
            0x7fc0_0000,
        ] {
            for sign in [0, 1 << 31] {
                assert_eq!(single_of(double_of(single | sign)), single | sign, "{single:08x}");
            }
        }
        assert_eq!(double_of(0x3fc0_0000), 1.5_f64.to_bits());
        assert_eq!(double_of(1), f64::from(f32::from_bits(1)).to_bits());
    }

    #[test]
    fn single_results_are_rounded_once() {
        // 1 + 2^-24 + 2^-60: to double it is a tie for single, which is none.
        let env = Env { rounding: Rounding::Nearest, rules: &Rules::POWERPC };
        let (a, b) = ((1.0 + 2_f64.powi(-24)).to_bits(), 2_f64.powi(-60).to_bits());
        let result = in_single(env, &|env| env.add::<Double>(a, b));
        assert_eq!(result.value, f64::from(f32::from_bits(0x3f80_0001)).to_bits());
        assert_eq!(result.about & (bit::FI | bit::FR), bit::FI | bit::FR);
        assert_eq!(result.exceptions, bit::XX);
    }
}
