//! Floating point as guests' FPUs do it: to the last bit, with every flag, whatever the host.
//!
//! What it is: the operations of IEEE 754 on single and double numbers as bits, in all rounding modes, each with the
//! exceptions it signals; what differs between architectures (how NaNs look and which one is passed on, when a result is
//! tiny) is a parameter, [`Rules`]. What it is not: an FPU's registers, or what it does when an exception is enabled. What
//! must always hold: nothing depends on the host's floating-point unit, which the tests compare with.
//!
//! The arithmetic is that of `rustc_apfloat`, LLVM's; it has no square root, which is [`sqrt`](Env::sqrt)'s own, and does not
//! tell when a result is tiny as exactly as needed.

mod convert;
mod nan;
mod sqrt;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ops::{BitOr, BitOrAssign};

use rustc_apfloat::ieee::{self, Quad};
use rustc_apfloat::{Float, FloatConvert, Round, Status, StatusAnd};

pub use nan::{Pick, QuietBit, Rules, Tiny};

/// Where a result goes that is between two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearer one, of two that are as near to the even one.
    Nearest,
    /// To the one nearer to zero.
    Zero,
    /// To the upper one.
    Up,
    /// To the lower one.
    Down,
}

impl Rounding {
    fn soft(self) -> Round {
        match self {
            Self::Nearest => Round::NearestTiesToEven,
            Self::Zero => Round::TowardZero,
            Self::Up => Round::TowardPositive,
            Self::Down => Round::TowardNegative,
        }
    }
}

/// The exceptions that an operation signals, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

impl Flags {
    /// The exact result is another one.
    pub const INEXACT: Self = Self(1);
    /// The result is tiny and inexact.
    pub const UNDERFLOW: Self = Self(2);
    /// The result is too large.
    pub const OVERFLOW: Self = Self(4);
    /// A finite number was divided by zero.
    pub const DIV_BY_ZERO: Self = Self(8);
    /// There is no such result; one of those below says why.
    pub const INVALID: Self = Self(16);
    /// Invalid: an operand is a signalling NaN.
    pub const SIGNALLING: Self = Self(1 << 8);
    /// Invalid: an infinity less an infinity.
    pub const INF_MINUS_INF: Self = Self(1 << 9);
    /// Invalid: an infinity by an infinity.
    pub const INF_BY_INF: Self = Self(1 << 10);
    /// Invalid: zero by zero.
    pub const ZERO_BY_ZERO: Self = Self(1 << 11);
    /// Invalid: an infinity times zero.
    pub const INF_TIMES_ZERO: Self = Self(1 << 12);
    /// Invalid: the square root of a negative number.
    pub const NEGATIVE_ROOT: Self = Self(1 << 13);
    /// Invalid: an integer that is not in range, or none.
    pub const NO_INTEGER: Self = Self(1 << 14);
    /// Invalid: a comparison of a quiet NaN that must not be one.
    pub const UNORDERED: Self = Self(1 << 15);

    /// The five of IEEE 754: inexact is bit 0, then underflow, overflow, division by zero, and invalid in bit 4.
    #[must_use]
    pub const fn ieee(self) -> u8 {
        (self.0 & 31) as u8
    }

    /// Whether all of `others` are in it.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    fn of(status: Status) -> Self {
        let pairs = [
            (Status::INEXACT, Self::INEXACT),
            (Status::UNDERFLOW, Self::UNDERFLOW),
            (Status::OVERFLOW, Self::OVERFLOW),
            (Status::DIV_BY_ZERO, Self::DIV_BY_ZERO),
            (Status::INVALID_OP, Self::INVALID),
        ];
        pairs.into_iter().filter(|(s, _)| status.contains(*s)).fold(Self::default(), |all, (_, f)| all | f)
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A result with what it signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Out<T = u64> {
    /// The result; a number's bits, in the low half for single.
    pub value: T,
    /// What the operation signals.
    pub flags: Flags,
}

impl<T> Out<T> {
    fn invalid(value: T, why: Flags) -> Self {
        Self { value, flags: Flags::INVALID | why }
    }
}

/// A format of numbers: [`Single`] or [`Double`].
pub trait Format: Copy + 'static {
    /// How the arithmetic calls it.
    #[doc(hidden)]
    type Soft: Float + FloatConvert<Quad> + FloatConvert<ieee::Single> + FloatConvert<ieee::Double>;
    /// Bits of a number.
    const BITS: u32;
    /// Bits of the fraction that are stored.
    const FRACTION: u32;
    /// By how much the exponent of a result is adjusted where overflow or underflow is enabled (IEEE 754-1985, sections 7.3 and
    /// 7.4): three quarters of the exponents there are.
    const ADJUSTMENT: i32 = 3 << (Self::BITS - Self::FRACTION - 3);

    /// A number with more bits, rounded.
    #[doc(hidden)]
    fn narrowed(wide: Quad, round: Round) -> StatusAnd<Self::Soft>;
}

/// 32 bits, 23 of them fraction.
#[derive(Debug, Clone, Copy)]
pub struct Single;
/// 64 bits, 52 of them fraction.
#[derive(Debug, Clone, Copy)]
pub struct Double;

impl Format for Single {
    type Soft = ieee::Single;
    const BITS: u32 = 32;
    const FRACTION: u32 = 23;

    fn narrowed(wide: Quad, round: Round) -> StatusAnd<Self::Soft> {
        wide.convert_r(round, &mut false)
    }
}

impl Format for Double {
    type Soft = ieee::Double;
    const BITS: u32 = 64;
    const FRACTION: u32 = 52;

    fn narrowed(wide: Quad, round: Round) -> StatusAnd<Self::Soft> {
        wide.convert_r(round, &mut false)
    }
}

/// Constants of a format.
const fn all<F: Format>() -> u64 {
    u64::MAX >> (64 - F::BITS)
}
const fn sign<F: Format>() -> u64 {
    1 << (F::BITS - 1)
}
const fn fraction<F: Format>() -> u64 {
    (1 << F::FRACTION) - 1
}
const fn infinity<F: Format>() -> u64 {
    all::<F>() & !sign::<F>() & !fraction::<F>()
}
const fn least_normal<F: Format>() -> u64 {
    1 << F::FRACTION
}

/// Whether bits are a NaN's.
#[must_use]
pub const fn is_nan<F: Format>(bits: u64) -> bool {
    bits & (all::<F>() & !sign::<F>()) > infinity::<F>()
}

/// Whether bits are an infinity's.
#[must_use]
pub const fn is_infinite<F: Format>(bits: u64) -> bool {
    bits & (all::<F>() & !sign::<F>()) == infinity::<F>()
}

/// Whether bits are a zero's.
#[must_use]
pub const fn is_zero<F: Format>(bits: u64) -> bool {
    bits & (all::<F>() & !sign::<F>()) == 0
}

/// Whether bits are a denormal number's: below the normal ones, and not zero.
#[must_use]
pub const fn is_denormal<F: Format>(bits: u64) -> bool {
    let magnitude = bits & (all::<F>() & !sign::<F>());
    magnitude != 0 && magnitude < least_normal::<F>()
}

/// Whether the sign bit is set.
#[must_use]
pub const fn is_negative<F: Format>(bits: u64) -> bool {
    bits & sign::<F>() != 0
}

/// The same number with the other sign.
#[must_use]
pub const fn negated<F: Format>(bits: u64) -> u64 {
    bits ^ sign::<F>()
}

/// The same number without its sign.
#[must_use]
pub const fn magnitude<F: Format>(bits: u64) -> u64 {
    bits & !sign::<F>()
}

/// An operation on numbers of any format, for a second look with more precision.
enum Op<T> {
    Add(T, T),
    Mul(T, T),
    Div(T, T),
    MulAdd(T, T, T),
}

impl<T: Float> Op<T> {
    fn run(&self, round: Round) -> StatusAnd<T> {
        match *self {
            Self::Add(a, b) => a.add_r(b, round),
            Self::Mul(a, b) => a.mul_r(b, round),
            Self::Div(a, b) => a.div_r(b, round),
            Self::MulAdd(a, b, c) => a.mul_add_r(b, c, round),
        }
    }
}

impl<T: Float + FloatConvert<Quad>> Op<T> {
    /// The result with 113 bits, of which more were cut off if it is not exact.
    fn cut(&self) -> StatusAnd<Quad> {
        let wide = |v: T| v.convert(&mut false).value;
        let round = Round::TowardZero;
        match *self {
            Self::Add(a, b) => wide(a).add_r(wide(b), round),
            Self::Mul(a, b) => wide(a).mul_r(wide(b), round),
            Self::Div(a, b) => wide(a).div_r(wide(b), round),
            // The product is exact.
            Self::MulAdd(a, b, c) => wide(a).mul_r(wide(b), round).value.add_r(wide(c), round),
        }
    }
}

/// Which results have their exponent adjusted, by [`Format::ADJUSTMENT`], so that a handler of the exception can still tell what they
/// were (PEM, sections 3.3.6.2.1 and 3.3.6.2.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adjusted {
    /// Those that are too large.
    pub overflows: bool,
    /// Those that are tiny, exact ones too.
    pub underflows: bool,
}

/// How operations are done: everything besides the operands that a result depends on.
#[derive(Debug, Clone, Copy)]
pub struct Env {
    /// How results are rounded.
    pub rounding: Rounding,
    /// What the architecture says.
    pub rules: &'static Rules,
    /// Where exponents are adjusted.
    pub adjusted: Adjusted,
}

impl Env {
    /// Without any exception enabled.
    #[must_use]
    pub const fn new(rounding: Rounding, rules: &'static Rules) -> Self {
        Self { rounding, rules, adjusted: Adjusted { overflows: false, underflows: false } }
    }

    /// `a + b`
    #[must_use]
    pub fn add<F: Format>(&self, a: u64, b: u64) -> Out {
        if let Some(out) = self.nan_of::<F>(&[a, b]) {
            return out;
        }
        if is_infinite::<F>(a) && is_infinite::<F>(b) && (a ^ b) & sign::<F>() != 0 {
            return self.no_number::<F>(Flags::INF_MINUS_INF);
        }
        self.round::<F>(&Op::Add(soft::<F>(a), soft::<F>(b)))
    }

    /// `a - b`
    #[must_use]
    pub fn sub<F: Format>(&self, a: u64, b: u64) -> Out {
        // A NaN is passed on with its sign.
        self.add::<F>(a, if is_nan::<F>(b) { b } else { negated::<F>(b) })
    }

    /// `a × b`
    #[must_use]
    pub fn mul<F: Format>(&self, a: u64, b: u64) -> Out {
        if let Some(out) = self.nan_of::<F>(&[a, b]) {
            return out;
        }
        if is_infinite::<F>(a) && is_zero::<F>(b) || is_zero::<F>(a) && is_infinite::<F>(b) {
            return self.no_number::<F>(Flags::INF_TIMES_ZERO);
        }
        self.round::<F>(&Op::Mul(soft::<F>(a), soft::<F>(b)))
    }

    /// `a ÷ b`
    #[must_use]
    pub fn div<F: Format>(&self, a: u64, b: u64) -> Out {
        if let Some(out) = self.nan_of::<F>(&[a, b]) {
            return out;
        }
        if is_infinite::<F>(a) && is_infinite::<F>(b) {
            return self.no_number::<F>(Flags::INF_BY_INF);
        }
        if is_zero::<F>(b) {
            return match () {
                () if is_zero::<F>(a) => self.no_number::<F>(Flags::ZERO_BY_ZERO),
                () => Out {
                    value: infinity::<F>() | (a ^ b) & sign::<F>(),
                    flags: if is_infinite::<F>(a) { Flags::default() } else { Flags::DIV_BY_ZERO },
                },
            };
        }
        self.round::<F>(&Op::Div(soft::<F>(a), soft::<F>(b)))
    }

    /// `a × b + c`, rounded once.
    #[must_use]
    pub fn mul_add<F: Format>(&self, a: u64, b: u64, c: u64) -> Out {
        let no_product = is_infinite::<F>(a) && is_zero::<F>(b) || is_zero::<F>(a) && is_infinite::<F>(b);
        if let Some(mut out) = self.nan_of::<F>(&[a, b, c]) {
            if no_product {
                out.flags |= Flags::INVALID | Flags::INF_TIMES_ZERO;
            }
            return out;
        }
        if no_product {
            return self.no_number::<F>(Flags::INF_TIMES_ZERO);
        }
        let infinite_product = is_infinite::<F>(a) || is_infinite::<F>(b);
        if infinite_product && is_infinite::<F>(c) && (a ^ b ^ c) & sign::<F>() != 0 {
            return self.no_number::<F>(Flags::INF_MINUS_INF);
        }
        self.round::<F>(&Op::MulAdd(soft::<F>(a), soft::<F>(b), soft::<F>(c)))
    }

    /// How `a` is to `b`; `None` if one is a NaN. A signalling one is invalid, and a quiet one too if `quiet_is_invalid`.
    #[must_use]
    pub fn compare<F: Format>(&self, a: u64, b: u64, quiet_is_invalid: bool) -> Out<Option<Ordering>> {
        let nan = is_nan::<F>(a) || is_nan::<F>(b);
        let mut flags = Flags::default();
        if self.rules.is_signalling::<F>(a) || self.rules.is_signalling::<F>(b) {
            flags |= Flags::INVALID | Flags::SIGNALLING;
        }
        if nan && quiet_is_invalid {
            flags |= Flags::INVALID | Flags::UNORDERED;
        }
        // As sign and magnitude; both zeros are one.
        let place = |bits: u64| {
            let magnitude = magnitude::<F>(bits).cast_signed();
            if is_negative::<F>(bits) { -magnitude } else { magnitude }
        };
        Out { value: (!nan).then(|| place(a).cmp(&place(b))), flags }
    }

    /// Rounds.
    fn round<F: Format>(&self, op: &Op<F::Soft>) -> Out {
        self.judge::<F>(done(op.run(self.rounding.soft())), || op.cut())
    }

    /// Whether a rounded result is an overflow or an underflow, which the crate does not tell exactly; `cut` has more bits of it. If
    /// that is to be so, the exponent is adjusted then.
    fn judge<F: Format>(&self, out: Out, cut: impl Fn() -> StatusAnd<Quad>) -> Out {
        let out = self.ranged::<F>(out, &cut);
        let (adjusted, exact) = (self.adjusted, !out.flags.has(Flags::INEXACT));
        match () {
            () if adjusted.overflows && out.flags.has(Flags::OVERFLOW) => {
                self.adjust::<F>(out, &cut(), Flags::OVERFLOW, -F::ADJUSTMENT)
            }
            () if adjusted.underflows
                && (out.flags.has(Flags::UNDERFLOW) || exact && is_denormal::<F>(out.value)) =>
            {
                self.adjust::<F>(out, &cut(), Flags::UNDERFLOW, F::ADJUSTMENT)
            }
            () => out,
        }
    }

    /// The result times two to the power of `by`. Where that has no number either, as of an operand that was none of the format's,
    /// it stays.
    fn adjust<F: Format>(&self, out: Out, cut: &StatusAnd<Quad>, why: Flags, by: i32) -> Out {
        // Cut off, with the last bit telling what was: rounded once.
        let odd = cut.value.to_bits() | u128::from(cut.status.contains(Status::INEXACT));
        let result = F::narrowed(Quad::from_bits(odd).scalbn(by), self.rounding.soft());
        let found = done(result);
        let magnitude = magnitude::<F>(found.value);
        if magnitude < least_normal::<F>() || magnitude >= infinity::<F>() {
            return out;
        }
        let inexact = found.flags.has(Flags::INEXACT);
        Out { value: found.value, flags: why | if inexact { Flags::INEXACT } else { Flags::default() } }
    }

    /// With the flags of overflow and underflow as they are.
    fn ranged<F: Format>(&self, mut out: Out, cut: &impl Fn() -> StatusAnd<Quad>) -> Out {
        if !out.flags.has(Flags::INEXACT) {
            return out;
        }
        let magnitude = magnitude::<F>(out.value);
        if magnitude <= least_normal::<F>() {
            let tiny = magnitude < least_normal::<F>() || self.is_tiny::<F>(&cut());
            out.flags = Flags::INEXACT | if tiny { Flags::UNDERFLOW } else { Flags::default() };
        } else if magnitude == infinity::<F>() - 1 && self.rounding != Rounding::Nearest {
            // The largest number was rounded to, from below or from beyond it.
            let largest: Quad = F::Soft::largest().convert(&mut false).value;
            let ulp: Quad = F::Soft::from_u128(1)
                .value
                .scalbn(F::Soft::MAX_EXP - F::FRACTION as i32)
                .convert(&mut false)
                .value;
            if cut().value.abs() >= largest.add_r(ulp, Round::TowardZero).value {
                out.flags |= Flags::OVERFLOW;
            }
        }
        out
    }

    /// Whether an inexact result is tiny that was rounded to the least normal number; it comes here with 113 bits.
    fn is_tiny<F: Format>(&self, cut: &StatusAnd<Quad>) -> bool {
        let least = F::Soft::smallest_normalized();
        let wide = |v: F::Soft| -> Quad { v.convert(&mut false).value };
        let (least, result) = (wide(least), cut.value.abs());
        if result >= least {
            return false;
        }
        if self.rules.tiny == Tiny::BeforeRounding {
            return true;
        }
        // With all bits of the fraction, and no end of the exponents, the next number below is half as far away as the
        // denormal one.
        let below = wide(F::Soft::SMALLEST);
        let half = Quad::from_u128(1).value.scalbn(-1);
        let distance = below.mul_r(half, Round::TowardZero).value;
        let next = least.sub_r(distance, Round::TowardZero).value;
        let middle = least.sub_r(distance.mul_r(half, Round::TowardZero).value, Round::TowardZero).value;
        let up = match self.rounding {
            // Of two as near the even one is the least normal number.
            Rounding::Nearest => result >= middle,
            _ => result > next || result == next && cut.status.contains(Status::INEXACT),
        };
        !up
    }

    fn no_number<F: Format>(&self, why: Flags) -> Out {
        Out::invalid(self.rules.default_nan::<F>(), why)
    }

    /// The result if there is a NaN among the operands.
    fn nan_of<F: Format>(&self, operands: &[u64]) -> Option<Out> {
        let nan = self.rules.pick::<F>(operands)?;
        let signalling = operands.iter().any(|v| self.rules.is_signalling::<F>(*v));
        Some(match signalling {
            true => Out::invalid(nan, Flags::SIGNALLING),
            false => Out { value: nan, flags: Flags::default() },
        })
    }
}

fn soft<F: Format>(bits: u64) -> F::Soft {
    F::Soft::from_bits((bits & all::<F>()).into())
}

fn done<S: Float>(result: StatusAnd<S>) -> Out {
    Out { value: result.value.to_bits() as u64, flags: Flags::of(result.status) }
}
