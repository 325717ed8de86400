//! Square roots, by integers.

use super::{Env, Flags, Format, Out, Rounding, fraction, is_denormal, is_infinite, is_negative, is_zero};

impl Env {
    /// The square root of `a`.
    #[must_use]
    pub fn sqrt<F: Format>(&self, a: u64) -> Out {
        if let Some(out) = self.nan_of::<F>(&[a]) {
            return out;
        }
        if is_zero::<F>(a) {
            return Out { value: a, flags: Flags::default() };
        }
        if is_negative::<F>(a) {
            return self.no_number::<F>(Flags::NEGATIVE_ROOT);
        }
        if is_infinite::<F>(a) {
            return Out { value: a, flags: Flags::default() };
        }
        // a = m × 2^e, m having all bits of the precision.
        let (precision, bias) = (F::FRACTION as i32 + 1, (1 << (F::BITS - F::FRACTION - 2)) - 1);
        let least = 1 - bias - (precision - 1);
        let (mut m, mut e) = (a & fraction::<F>(), least);
        if is_denormal::<F>(a) {
            let up = m.leading_zeros() as i32 - (64 - precision);
            m <<= up;
            e -= up;
        } else {
            m |= 1 << F::FRACTION;
            e += (a >> F::FRACTION) as i32 - 1;
        }
        // The root of m × 2^k has one bit more than is kept; e - k is even. At most 108 bits.
        let k = precision + 1 + ((e - precision - 1) & 1);
        let square = u128::from(m) << k;
        let root = square.isqrt();
        let (kept, half, more) = ((root >> 1) as u64, root & 1 != 0, root * root != square);
        let up = match self.rounding {
            Rounding::Nearest => half && (more || kept & 1 != 0),
            Rounding::Up => half || more,
            Rounding::Zero | Rounding::Down => false,
        };
        // The exponent of the root is never at an end of the range. The bit that is not stored counts one there.
        let exponent = (e - k) / 2 + 1 - least;
        let value = ((exponent as u64) << F::FRACTION) + kept + u64::from(up);
        Out { value, flags: if half || more { Flags::INEXACT } else { Flags::default() } }
    }
}
