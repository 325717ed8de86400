//! What architectures do differently: NaNs, and when a result is tiny.

use super::{Format, Single, fraction, infinity, is_nan, sign};

/// What the first bit of a NaN's fraction says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuietBit {
    /// It is set in quiet ones, as IEEE 754-2008 recommends.
    Set,
    /// It is clear in quiet ones, as MIPS had it.
    Clear,
}

/// Which of several NaNs is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The first one.
    First,
    /// None: it is the NaN of an invalid operation.
    Default,
}

/// When a result is tiny, which is half of an underflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiny {
    /// If the exact result is.
    BeforeRounding,
    /// If the result would be, rounded as if exponents had no end.
    AfterRounding,
}

/// What an architecture says where IEEE 754 leaves it open.
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which NaNs are quiet.
    pub quiet: QuietBit,
    /// Which one is passed on.
    pub pick: Pick,
    /// When a result is tiny.
    pub tiny: Tiny,
    /// The NaN of an invalid operation, single.
    pub default_single: u32,
    /// The same, double.
    pub default_double: u64,
}

impl Rules {
    /// MIPS up to release 5 (volume I, section 5.3): a NaN is signalling if the first bit of its fraction is set. Every NaN
    /// that comes out is the same one, as QEMU has it; the manual leaves open which.
    pub const MIPS: Self = Self {
        quiet: QuietBit::Clear,
        pick: Pick::Default,
        tiny: Tiny::AfterRounding,
        default_single: 0x7fbf_ffff,
        default_double: 0x7ff7_ffff_ffff_ffff,
    };
    /// PowerPC: the first operand that is one, made quiet; tiny before rounding.
    pub const POWERPC: Self = Self {
        quiet: QuietBit::Set,
        pick: Pick::First,
        tiny: Tiny::BeforeRounding,
        default_single: 0x7fc0_0000,
        default_double: 0x7ff8_0000_0000_0000,
    };

    /// The NaN of an operation without a result.
    #[must_use]
    pub fn default_nan<F: Format>(&self) -> u64 {
        if F::BITS == Single::BITS { self.default_single.into() } else { self.default_double }
    }

    /// Whether bits are a signalling NaN's.
    #[must_use]
    pub fn is_signalling<F: Format>(&self, bits: u64) -> bool {
        let first = bits >> (F::FRACTION - 1) & 1 != 0;
        is_nan::<F>(bits) && first == (self.quiet == QuietBit::Clear)
    }

    /// A NaN, made quiet if it is not.
    #[must_use]
    pub fn quieted<F: Format>(&self, bits: u64) -> u64 {
        match self.quiet {
            _ if !self.is_signalling::<F>(bits) => bits,
            QuietBit::Set => bits | 1 << (F::FRACTION - 1),
            // Clearing the bit might leave an infinity.
            QuietBit::Clear => self.default_nan::<F>(),
        }
    }

    /// The NaN that is passed on, quiet; `None` if no operand is one.
    pub(super) fn pick<F: Format>(&self, operands: &[u64]) -> Option<u64> {
        let first = operands.iter().copied().find(|v| is_nan::<F>(*v))?;
        Some(match self.pick {
            Pick::First => self.quieted::<F>(first),
            Pick::Default => self.default_nan::<F>(),
        })
    }

    /// A NaN in another format: sign and the fraction's first bits stay.
    pub(super) fn converted<From: Format, To: Format>(&self, bits: u64) -> u64 {
        if self.pick == Pick::Default {
            return self.default_nan::<To>();
        }
        let bits = self.quieted::<From>(bits);
        let negative = bits & sign::<From>() != 0;
        let payload = bits & fraction::<From>();
        let payload = match To::FRACTION.checked_sub(From::FRACTION) {
            Some(more) => payload << more,
            None => payload >> (From::FRACTION - To::FRACTION),
        };
        match payload {
            // All that said that it is a NaN is cut off.
            0 => self.default_nan::<To>(),
            _ => infinity::<To>() | payload | if negative { sign::<To>() } else { 0 },
        }
    }
}
