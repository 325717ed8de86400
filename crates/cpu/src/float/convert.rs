//! Between formats, and from and to integers.

use rustc_apfloat::{Float, FloatConvert, Status};

use super::{Double, Env, Flags, Format, Out, Rounding, Single, done, is_nan, soft};

impl Env {
    /// Double from single, which is exact.
    #[must_use]
    pub fn widen(&self, a: u64) -> Out {
        if is_nan::<Single>(a) {
            return self.convert_nan::<Single, Double>(a);
        }
        let wide: rustc_apfloat::StatusAnd<<Double as Format>::Soft> =
            soft::<Single>(a).convert_r(self.rounding.soft(), &mut false);
        done(wide)
    }

    /// Single from double.
    #[must_use]
    pub fn narrow(&self, a: u64) -> Out {
        if is_nan::<Double>(a) {
            return self.convert_nan::<Double, Single>(a);
        }
        let narrow: rustc_apfloat::StatusAnd<<Single as Format>::Soft> =
            soft::<Double>(a).convert_r(self.rounding.soft(), &mut false);
        self.judge::<Single>(done(narrow), || Status::OK.and(soft::<Double>(a).convert(&mut false).value))
    }

    fn convert_nan<From: Format, To: Format>(&self, a: u64) -> Out {
        let value = self.rules.converted::<From, To>(a);
        match self.rules.is_signalling::<From>(a) {
            true => Out::invalid(value, Flags::SIGNALLING),
            false => Out { value, flags: Flags::default() },
        }
    }

    /// A signed integer of `bits` bits, 64 at most, rounded as `rounding` says. Where there is none, invalid, it is the nearest
    /// one that there is, and 0 for a NaN; an architecture may put another one in its place.
    #[must_use]
    pub fn to_int<F: Format>(&self, a: u64, bits: u32, rounding: Rounding) -> Out<i64> {
        if is_nan::<F>(a) {
            let signalling = self.rules.is_signalling::<F>(a);
            let why = if signalling { Flags::SIGNALLING } else { Flags::default() };
            return Out::invalid(0, Flags::NO_INTEGER | why);
        }
        let result = soft::<F>(a).to_i128_r(bits.clamp(1, 64) as usize, rounding.soft(), &mut false);
        let value = result.value as i64;
        if result.status.contains(Status::INVALID_OP) {
            return Out::invalid(value, Flags::NO_INTEGER);
        }
        Out { value, flags: Flags::of(result.status) }
    }

    /// A number from a signed integer.
    #[must_use]
    pub fn from_int<F: Format>(&self, value: i64) -> Out {
        done(F::Soft::from_i128_r(value.into(), self.rounding.soft()))
    }
}
