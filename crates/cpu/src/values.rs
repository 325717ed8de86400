//! What operations give: the meaning of the intermediate representation, one value at a time.

use crate::ir::{Alu, Cond, Ty, Unary};

/// The operations on one width: its unsigned and its signed integer, and the bits of an amount to shift by.
macro_rules! alu_of {
    ($name:ident, $unsigned:ty, $signed:ty, $amount:literal) => {
        #[inline(always)]
        fn $name(op: Alu, a: $unsigned, b: $unsigned) -> $unsigned {
            let (signed, by) = (a as $signed, (b & $amount) as u32);
            match op {
                Alu::Add => a.wrapping_add(b),
                Alu::Sub => a.wrapping_sub(b),
                Alu::Mul => a.wrapping_mul(b),
                Alu::DivS => signed.checked_div(b as $signed).unwrap_or(signed) as $unsigned,
                Alu::DivU => a.checked_div(b).unwrap_or(a),
                Alu::RemS => signed.checked_rem(b as $signed).unwrap_or(0) as $unsigned,
                Alu::RemU => a.checked_rem(b).unwrap_or(0),
                Alu::And => a & b,
                Alu::Or => a | b,
                Alu::Xor => a ^ b,
                Alu::Nor => !(a | b),
                Alu::Shl => a.wrapping_shl(by),
                Alu::ShrU => a.wrapping_shr(by),
                Alu::ShrS => signed.wrapping_shr(by) as $unsigned,
                Alu::RotR => a.rotate_right(by),
            }
        }
    };
}

alu_of!(alu32, u32, i32, 31);
alu_of!(alu64, u64, i64, 63);

/// `a op b` in a type.
#[inline(always)]
pub(crate) fn alu(op: Alu, ty: Ty, a: u64, b: u64) -> u64 {
    match ty {
        Ty::I32 => u64::from(alu32(op, a as u32, b as u32)),
        Ty::I64 => alu64(op, a, b),
    }
}

/// `op a` in a type.
#[inline(always)]
pub(crate) fn unary(op: Unary, ty: Ty, a: u64) -> u64 {
    let narrow = |v: u64| if ty == Ty::I32 { v & 0xffff_ffff } else { v };
    let unused = if ty == Ty::I32 { 32 } else { 0 };
    match op {
        Unary::Not => narrow(!a),
        Unary::Neg => narrow(a.wrapping_neg()),
        Unary::Clz => u64::from((a << unused).leading_zeros()).min(64 - unused),
        Unary::Clo => u64::from((a << unused).leading_ones()),
        Unary::Sext8 => narrow(a as i8 as u64),
        Unary::Sext16 => narrow(a as i16 as u64),
        Unary::Sext32 => narrow(a as i32 as u64),
        Unary::Zext8 => a & 0xff,
        Unary::Zext16 => a & 0xffff,
        Unary::Zext32 => a & 0xffff_ffff,
        Unary::Swap => a.swap_bytes() >> unused,
        Unary::SwapHalves => narrow((a & 0x00ff_00ff_00ff_00ff) << 8 | (a >> 8) & 0x00ff_00ff_00ff_00ff),
        Unary::High => a >> 32,
    }
}

/// Whether `a cond b`.
#[inline(always)]
pub(crate) fn holds(cond: Cond, ty: Ty, a: u64, b: u64) -> bool {
    let (sa, sb) = match ty {
        Ty::I32 => (i64::from(a as i32), i64::from(b as i32)),
        Ty::I64 => (a as i64, b as i64),
    };
    let (ua, ub) = match ty {
        Ty::I32 => (a & 0xffff_ffff, b & 0xffff_ffff),
        Ty::I64 => (a, b),
    };
    match cond {
        Cond::Eq => ua == ub,
        Cond::Ne => ua != ub,
        Cond::LtS => sa < sb,
        Cond::LeS => sa <= sb,
        Cond::LtU => ua < ub,
        Cond::LeU => ua <= ub,
    }
}

/// 8, 4 or 2: whether `a` is less than `b`, greater, or equal.
#[inline(always)]
pub(crate) fn order(signed: bool, ty: Ty, a: u64, b: u64) -> u64 {
    let ordering = match (signed, ty) {
        (true, Ty::I32) => (a as i32).cmp(&(b as i32)),
        (true, Ty::I64) => (a as i64).cmp(&(b as i64)),
        (false, Ty::I32) => (a as u32).cmp(&(b as u32)),
        (false, Ty::I64) => a.cmp(&b),
    };
    match ordering {
        std::cmp::Ordering::Less => 8,
        std::cmp::Ordering::Greater => 4,
        std::cmp::Ordering::Equal => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_never_traps() {
        assert_eq!(alu(Alu::DivS, Ty::I32, 0x8000_0000, 0xffff_ffff), 0x8000_0000);
        assert_eq!(alu(Alu::RemS, Ty::I32, 0x8000_0000, 0xffff_ffff), 0);
        assert_eq!(alu(Alu::DivU, Ty::I32, 7, 0), 7);
        assert_eq!(alu(Alu::DivS, Ty::I32, 0xffff_fff9, 2), 0xffff_fffd);
        assert_eq!(alu(Alu::RemS, Ty::I32, 0xffff_fff9, 2), 0xffff_ffff);
        assert_eq!(alu(Alu::DivS, Ty::I64, 1 << 63, u64::MAX), 1 << 63);
    }

    #[test]
    fn shifts_take_the_low_bits_of_the_amount() {
        assert_eq!(alu(Alu::Shl, Ty::I32, 1, 33), 2);
        assert_eq!(alu(Alu::ShrS, Ty::I32, 0x8000_0000, 31), 0xffff_ffff);
        assert_eq!(alu(Alu::RotR, Ty::I32, 1, 1), 0x8000_0000);
        assert_eq!(alu(Alu::Shl, Ty::I64, 1, 65), 2);
    }

    #[test]
    fn results_in_32_bits_have_no_upper_half() {
        for op in [Unary::Not, Unary::Neg, Unary::Sext8, Unary::Sext16, Unary::Sext32, Unary::SwapHalves] {
            assert_eq!(unary(op, Ty::I32, 0xffff_8080) >> 32, 0, "{op:?}");
        }
        assert_eq!(unary(Unary::Swap, Ty::I32, 0x1122_3344), 0x4433_2211);
        assert_eq!(unary(Unary::SwapHalves, Ty::I32, 0x1122_3344), 0x2211_4433);
        assert_eq!(unary(Unary::Clz, Ty::I32, 0), 32);
        assert_eq!(unary(Unary::Clz, Ty::I32, 1), 31);
        assert_eq!(unary(Unary::Clo, Ty::I32, 0xffff_ffff), 32);
        assert_eq!(unary(Unary::Clz, Ty::I64, 0), 64);
    }

    #[test]
    fn an_order_is_one_bit_of_three() {
        assert_eq!(order(true, Ty::I32, 0xffff_ffff, 0), 8);
        assert_eq!(order(false, Ty::I32, 0xffff_ffff, 0), 4);
        assert_eq!(order(true, Ty::I64, 0xffff_ffff, 0), 4);
        assert_eq!(order(false, Ty::I64, 7, 7), 2);
    }

    #[test]
    fn comparisons_know_the_sign_of_their_type() {
        assert!(holds(Cond::LtS, Ty::I32, 0xffff_ffff, 0));
        assert!(!holds(Cond::LtU, Ty::I32, 0xffff_ffff, 0));
        assert!(!holds(Cond::LtS, Ty::I64, 0xffff_ffff, 0));
        assert!(holds(Cond::LeS, Ty::I32, 5, 5) && holds(Cond::LeU, Ty::I32, 5, 5));
        assert!(holds(Cond::Eq, Ty::I32, 1, 1) && holds(Cond::Ne, Ty::I32, 1, 2));
    }
}
