//! The FPU: its registers, and what its instructions do in Rust (volume I, chapter 5; 24K manual, chapter 4).
//!
//! What it is: coprocessor 1, from the instruction word to the register and FCSR. What it is not: the arithmetic, which is
//! [`float`](crate::float)'s, or which encodings there are, which `translate` knows. What must always hold: an instruction that
//! takes a floating-point exception has written FCSR's causes and nothing else.

use std::cmp::Ordering;

use super::helpers::Cpu;
use super::{Exception, Fault};
use crate::float::{self, Double, Env, Flags, Format, Out, Rounding, Rules, Single, Tiny};
use crate::ir::Var;

/// FCSR: rounding mode, enables, flags, causes, condition codes.
pub const FCSR: Var = Var::slot(72);

/// The floating-point register `n` of 32. Where Status.FR is 0 a double is in the low halves of two of them, its low half in the
/// even one.
#[must_use]
pub const fn fpr(n: u32) -> Var {
    Var::slot(40 + (n & 31) as u8)
}

/// FCSR.
pub(super) mod fcsr {
    pub const ROUNDING: u32 = 3;
    pub const FLAGS_SHIFT: u32 = 2;
    pub const ENABLES_SHIFT: u32 = 7;
    pub const CAUSES_SHIFT: u32 = 12;
    pub const FLAGS: u32 = 31 << FLAGS_SHIFT;
    pub const ENABLES: u32 = 31 << ENABLES_SHIFT;
    /// With E, unimplemented, which cannot be disabled.
    pub const CAUSES: u32 = 63 << CAUSES_SHIFT;
    pub const UNIMPLEMENTED: u32 = 32;
    /// Denormal results become zero.
    pub const FS: u32 = 1 << 24;
    /// Condition code 0, and 1 to 7.
    pub const CODES: u32 = 0xfe80_0000;
    pub const WRITABLE: u32 = CODES | FS | CAUSES | ENABLES | FLAGS | ROUNDING;
}

/// The control registers, by number.
pub(super) mod control {
    pub const FIR: u32 = 0;
    pub const FCCR: u32 = 25;
    pub const FEXR: u32 = 26;
    pub const FENR: u32 = 28;
    pub const FCSR: u32 = 31;
    /// What each shows of FCSR.
    pub const FEXR_MASK: u32 = 0x0003_f07c;
    pub const FENR_MASK: u32 = 0x0000_0f83;
}

/// The bit of FCSR of a condition code.
pub(super) const fn code_bit(code: u32) -> u32 {
    if code & 7 == 0 { 23 } else { 24 + (code & 7) }
}

/// Formats of operands, as instructions name them.
pub(super) mod fmt {
    pub const S: u32 = 16;
    pub const D: u32 = 17;
    pub const W: u32 = 20;
    pub const L: u32 = 21;
}

type Done = Result<u64, Fault>;

/// Fields of the instruction word.
#[derive(Clone, Copy)]
struct Fields {
    fmt: u32,
    ft: u32,
    fs: u32,
    fd: u32,
    function: u32,
}

impl Fields {
    fn of(word: u64) -> Self {
        let word = word as u32;
        Self {
            fmt: word >> 21 & 31,
            ft: word >> 16 & 31,
            fs: word >> 11 & 31,
            fd: word >> 6 & 31,
            function: word & 63,
        }
    }
}

fn whole(core: &Cpu) -> bool {
    core.isa.cp0.has_whole_fprs()
}

fn read32(core: &Cpu, n: u32) -> u64 {
    core.get(fpr(n)) & 0xffff_ffff
}

fn read64(core: &Cpu, n: u32) -> u64 {
    match whole(core) {
        true => core.get(fpr(n)),
        false => read32(core, n | 1) << 32 | read32(core, n & !1),
    }
}

/// The upper half of a register of 64 bits stays.
fn write32(core: &mut Cpu, n: u32, value: u64) {
    let upper = core.get(fpr(n)) & !0xffff_ffff;
    core.set(fpr(n), upper | value & 0xffff_ffff);
}

fn write64(core: &mut Cpu, n: u32, value: u64) {
    if whole(core) {
        return core.set(fpr(n), value);
    }
    write32(core, n & !1, value);
    write32(core, n | 1, value >> 32);
}

fn is_wide(fmt: u32) -> bool {
    matches!(fmt, fmt::D | fmt::L)
}

fn read(core: &Cpu, fmt: u32, n: u32) -> u64 {
    if is_wide(fmt) { read64(core, n) } else { read32(core, n) }
}

fn write(core: &mut Cpu, fmt: u32, n: u32, value: u64) {
    if is_wide(fmt) { write64(core, n, value) } else { write32(core, n, value) }
}

fn rounding(mode: u32) -> Rounding {
    match mode & 3 {
        0 => Rounding::Nearest,
        1 => Rounding::Zero,
        2 => Rounding::Up,
        _ => Rounding::Down,
    }
}

/// Where denormal results become zero, that is told by the exact ones.
const FLUSHING: Rules = Rules { tiny: Tiny::BeforeRounding, ..Rules::MIPS };

fn env(core: &Cpu) -> Env {
    let fcsr = core.get32(FCSR);
    let rules = if fcsr & fcsr::FS == 0 { &Rules::MIPS } else { &FLUSHING };
    Env::new(rounding(fcsr), rules)
}

fn exception() -> Fault {
    Fault::of(Exception::FloatingPoint)
}

/// FCSR after an operation, and its exception if one is enabled.
fn signal(core: &mut Cpu, flags: Flags) -> Result<(), Fault> {
    let (signalled, now) = (u32::from(flags.ieee()), core.get32(FCSR));
    let causes = now & !fcsr::CAUSES | signalled << fcsr::CAUSES_SHIFT;
    if now >> fcsr::ENABLES_SHIFT & signalled != 0 {
        core.set(FCSR, causes.into());
        return Err(exception());
    }
    core.set(FCSR, u64::from(causes | signalled << fcsr::FLAGS_SHIFT));
    Ok(())
}

/// A tiny result becomes zero where FCSR.FS says so, and signals nothing, as in QEMU.
fn flushed<F: Format>(env: &Env, out: Out) -> Out {
    let tiny = float::is_denormal::<F>(out.value) || out.flags.has(Flags::UNDERFLOW);
    if env.rules.tiny != Tiny::BeforeRounding || !tiny {
        return out;
    }
    Out { value: out.value & float::negated::<F>(0), flags: Flags::default() }
}

const ONE_S: u64 = 0x3f80_0000;
const ONE_D: u64 = 0x3ff0_0000_0000_0000;

fn one<F: Format>() -> u64 {
    if F::BITS == Single::BITS { ONE_S } else { ONE_D }
}

/// An instruction of COP1 that computes: `a` is the word.
pub(super) fn arithmetic(core: &mut Cpu, a: u64, _: u64) -> Done {
    let f = Fields::of(a);
    let env = env(core);
    let s = read(core, f.fmt, f.fs);
    let (to, out) = match (f.fmt, f.function) {
        (fmt::S, 0..=7 | 0x15 | 0x16) => (fmt::S, compute::<Single>(core, &env, f)),
        (fmt::D, 0..=7 | 0x15 | 0x16) => (fmt::D, compute::<Double>(core, &env, f)),
        (fmt::S | fmt::D, 0x08..=0x0b) => (fmt::L, to_int(&env, f.fmt, s, 64, rounding_of(f.function))),
        (fmt::S | fmt::D, 0x0c..=0x0f) => (fmt::W, to_int(&env, f.fmt, s, 32, rounding_of(f.function))),
        (fmt::S | fmt::D, 0x24) => (fmt::W, to_int(&env, f.fmt, s, 32, env.rounding)),
        (fmt::S | fmt::D, 0x25) => (fmt::L, to_int(&env, f.fmt, s, 64, env.rounding)),
        (fmt::D, 0x20) => (fmt::S, flushed::<Single>(&env, env.narrow(s))),
        (fmt::S, 0x21) => (fmt::D, env.widen(s)),
        (fmt::W, 0x20) => (fmt::S, env.from_int::<Single>(i64::from(s as i32))),
        (fmt::W, 0x21) => (fmt::D, env.from_int::<Double>(i64::from(s as i32))),
        (fmt::L, 0x20) => (fmt::S, env.from_int::<Single>(s.cast_signed())),
        (fmt::L, 0x21) => (fmt::D, env.from_int::<Double>(s.cast_signed())),
        // The translator lets nothing else through.
        _ => return Err(Fault::of(Exception::Reserved)),
    };
    signal(core, out.flags)?;
    write(core, to, f.fd, out.value);
    Ok(0)
}

/// In the order of the instructions ROUND, TRUNC, CEIL, FLOOR, which is that of FCSR too.
fn rounding_of(function: u32) -> Rounding {
    rounding(function)
}

fn compute<F: Format>(core: &Cpu, env: &Env, f: Fields) -> Out {
    let (s, t) = (read(core, f.fmt, f.fs), read(core, f.fmt, f.ft));
    let out = match f.function {
        0 => env.add::<F>(s, t),
        1 => env.sub::<F>(s, t),
        2 => env.mul::<F>(s, t),
        3 => env.div::<F>(s, t),
        4 => env.sqrt::<F>(s),
        0x15 => env.div::<F>(one::<F>(), s),
        _ => {
            let root = env.sqrt::<F>(s);
            let out = env.div::<F>(one::<F>(), root.value);
            Out { flags: root.flags | out.flags, ..out }
        }
    };
    flushed::<F>(env, out)
}

fn to_int(env: &Env, from: u32, value: u64, bits: u32, rounding: Rounding) -> Out {
    let out = match from {
        fmt::S => env.to_int::<Single>(value, bits, rounding),
        _ => env.to_int::<Double>(value, bits, rounding),
    };
    // Where there is no such integer it is the largest one, whatever the sign.
    let value = match out.flags.has(Flags::INVALID) {
        true => i64::MAX >> (64 - bits),
        false => out.value,
    };
    Out { value: value.cast_unsigned(), flags: out.flags }
}

/// `abs.fmt`, `mov.fmt`, `neg.fmt`: the word `a`; no NaN is looked at, and FCSR stays.
pub(super) fn sign(core: &mut Cpu, a: u64, _: u64) -> Done {
    let f = Fields::of(a);
    let value = read(core, f.fmt, f.fs);
    let wide = is_wide(f.fmt);
    let value = match (f.function, wide) {
        (5, false) => float::magnitude::<Single>(value),
        (5, true) => float::magnitude::<Double>(value),
        (7, false) => float::negated::<Single>(value),
        (7, true) => float::negated::<Double>(value),
        _ => value,
    };
    write(core, f.fmt, f.fd, value);
    Ok(0)
}

/// `movz.fmt`, `movn.fmt`, `movf.fmt`, `movt.fmt`: the word `a`, moved if `b` is not 0.
pub(super) fn move_if(core: &mut Cpu, a: u64, b: u64) -> Done {
    let f = Fields::of(a);
    if b != 0 {
        let value = read(core, f.fmt, f.fs);
        write(core, f.fmt, f.fd, value);
    }
    Ok(0)
}

/// `c.cond.fmt`: the word `a`.
pub(super) fn compare(core: &mut Cpu, a: u64, _: u64) -> Done {
    let f = Fields::of(a);
    let env = env(core);
    let (s, t) = (read(core, f.fmt, f.fs), read(core, f.fmt, f.ft));
    let quiet_is_invalid = f.function & 8 != 0;
    let out = match f.fmt {
        fmt::S => env.compare::<Single>(s, t, quiet_is_invalid),
        _ => env.compare::<Double>(s, t, quiet_is_invalid),
    };
    signal(core, out.flags)?;
    let bit = match out.value {
        None => 1,
        Some(Ordering::Equal) => 2,
        Some(Ordering::Less) => 4,
        Some(Ordering::Greater) => 0,
    };
    let code = 1 << code_bit(a as u32 >> 8);
    let others = core.get32(FCSR) & !code;
    core.set(FCSR, u64::from(others | if f.function & bit != 0 { code } else { 0 }));
    Ok(0)
}

/// `madd.fmt` and its kind of COP1X: the word `a`. The product is rounded before the sum, as before release 6.
pub(super) fn multiply_add(core: &mut Cpu, a: u64, _: u64) -> Done {
    let (word, f, env) = (a as u32, Fields::of(a), env(core));
    let wide = word & 7 == 1;
    let fmt = if wide { fmt::D } else { fmt::S };
    let operands = [f.fs, f.ft, f.fmt].map(|n| read(core, fmt, n));
    let out = match wide {
        true => product_and::<Double>(&env, operands, word),
        false => product_and::<Single>(&env, operands, word),
    };
    signal(core, out.flags)?;
    write(core, fmt, f.fd, out.value);
    Ok(0)
}

fn product_and<F: Format>(env: &Env, [a, b, c]: [u64; 3], word: u32) -> Out {
    let product = flushed::<F>(env, env.mul::<F>(a, b));
    let sum = match word & 8 {
        0 => env.add::<F>(product.value, c),
        _ => env.sub::<F>(product.value, c),
    };
    let sum = flushed::<F>(env, sum);
    let negate = word & 16 != 0;
    Out {
        value: if negate { float::negated::<F>(sum.value) } else { sum.value },
        flags: product.flags | sum.flags,
    }
}

/// Whether there is a control register; before MIPS32 there were two.
fn is_control(core: &Cpu, n: u32) -> bool {
    core.isa.model.is_mips32() || matches!(n, control::FIR | control::FCSR)
}

/// `cfc1`: the register of number `a`.
pub(super) fn control_from(core: &mut Cpu, a: u64, _: u64) -> Done {
    let value = core.get32(FCSR);
    Ok(u64::from(match a as u32 {
        n if !is_control(core, n) => 0,
        control::FIR => core.isa.model.fir,
        control::FCCR => value >> 24 & 0xfe | value >> 23 & 1,
        control::FEXR => value & control::FEXR_MASK,
        control::FENR => value & control::FENR_MASK | (value & fcsr::FS) >> 22,
        _ => value,
    }))
}

/// `ctc1`: the register of number `a` becomes `b`. A cause that is enabled then is an exception.
pub(super) fn control_to(core: &mut Cpu, a: u64, b: u64) -> Done {
    let (old, new) = (core.get32(FCSR), b as u32);
    let under = |mask: u32, value: u32| old & !mask | value & mask;
    let value = match a as u32 {
        n if !is_control(core, n) => old,
        control::FCCR => under(fcsr::CODES, (new & 0xfe) << 24 | (new & 1) << 23),
        control::FEXR => under(control::FEXR_MASK, new),
        control::FENR => under(control::FENR_MASK | fcsr::FS, new & control::FENR_MASK | (new & 4) << 22),
        control::FCSR => under(core.isa.model.fcsr_writable, new),
        _ => old,
    };
    core.set(FCSR, value.into());
    let enabled = value >> fcsr::ENABLES_SHIFT & 31 | fcsr::UNIMPLEMENTED;
    match value >> fcsr::CAUSES_SHIFT & enabled {
        0 => Ok(0),
        _ => Err(exception()),
    }
}
