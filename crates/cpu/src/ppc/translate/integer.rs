//! Arithmetic, logic, comparison, rotation, shifts, traps (PEM, sections 4.2.1 and 4.2.4.6).

use super::super::helpers::id;
use super::super::{CA, OV, SO};
use super::{Flow, NOBODY, T0, T1, T2, T3, Translator, Word};
use crate::ir::{Alu, Cond, Op, Ty, Unary, Var};

/// The bits `begin` to `end`, counted from the most significant; they may wrap.
fn mask(begin: u32, end: u32) -> u32 {
    let (from, to) = (u32::MAX >> begin, !((u32::MAX >> end) >> 1));
    if begin <= end { from & to } else { from | to }
}

impl Translator {
    pub(super) fn integer_imm(&mut self, w: Word) -> Flow {
        let (d, a) = (w.rd(), w.ra());
        match w.opcode() {
            7 => self.alu_imm(Alu::Mul, d, a, w.signed()),
            // subfic: the immediate less rA.
            8 => {
                self.constant(T0, w.signed() as u32);
                self.ops.push(Op::Set { cond: Cond::LeU, ty: Ty::I32, d: CA, a, b: T0 });
                self.alu(Alu::Sub, d, T0, a);
            }
            // addic, addic.
            12 | 13 => {
                self.constant(T0, w.signed() as u32);
                self.ops.push(Op::Alu { op: Alu::Add, ty: Ty::I64, d: T0, a, b: T0 });
                self.carry_and_sum(d);
                if w.opcode() == 13 {
                    return self.record(Word(1), d);
                }
            }
            14 if w.a() == 0 => self.constant(d, w.signed() as u32),
            14 => self.alu_imm(Alu::Add, d, a, w.signed()),
            15 if w.a() == 0 => self.constant(d, w.unsigned() << 16),
            15 => self.alu_imm(Alu::Add, d, a, (w.unsigned() << 16) as i32),
            20 | 21 | 23 => return self.rotate(w),
            // ori with nothing is the usual nop, and a move where the registers differ.
            24 if w.unsigned() == 0 => self.copy(a, d),
            24 => self.alu_imm(Alu::Or, a, d, w.unsigned() as i32),
            25 => self.alu_imm(Alu::Or, a, d, (w.unsigned() << 16) as i32),
            26 => self.alu_imm(Alu::Xor, a, d, w.unsigned() as i32),
            27 => self.alu_imm(Alu::Xor, a, d, (w.unsigned() << 16) as i32),
            28 => {
                self.alu_imm(Alu::And, a, d, w.unsigned() as i32);
                return self.record(Word(1), a);
            }
            29 => {
                self.alu_imm(Alu::And, a, d, (w.unsigned() << 16) as i32);
                return self.record(Word(1), a);
            }
            _ => return self.illegal(),
        }
        Flow::On
    }

    fn copy(&mut self, d: Var, a: Var) {
        if d != a {
            self.ops.push(Op::Copy { d, a });
        }
    }

    /// From a sum of 64 bits in `T0`: its low half, and what is carried.
    fn carry_and_sum(&mut self, d: Var) {
        self.ops.push(Op::Unary { op: Unary::High, ty: Ty::I64, d: CA, a: T0 });
        self.unary(Unary::Zext32, d, T0);
    }

    /// `rlwimi`, `rlwinm`, `rlwnm`.
    fn rotate(&mut self, w: Word) -> Flow {
        let (d, a, bits) = (w.ra(), w.rd(), mask(w.c(), w.me()));
        let left = w.b();
        match w.opcode() {
            20 => {
                self.alu_imm(Alu::RotR, T0, a, (32 - left as i32) & 31);
                self.alu_imm(Alu::And, T0, T0, bits as i32);
                self.alu_imm(Alu::And, T1, d, !bits as i32);
                self.alu(Alu::Or, d, T0, T1);
            }
            // The shifts that this is used for most.
            21 if bits == u32::MAX << left => self.alu_imm(Alu::Shl, d, a, left as i32),
            21 if left != 0 && bits == u32::MAX >> (32 - left) => {
                self.alu_imm(Alu::ShrU, d, a, 32 - left as i32);
            }
            21 if left == 0 => self.alu_imm(Alu::And, d, a, bits as i32),
            21 => {
                self.alu_imm(Alu::RotR, T0, a, (32 - left as i32) & 31);
                self.alu_imm(Alu::And, d, T0, bits as i32);
            }
            _ => {
                self.unary(Unary::Neg, T0, w.rb());
                self.alu(Alu::RotR, T0, a, T0);
                self.alu_imm(Alu::And, d, T0, bits as i32);
            }
        }
        self.record(w, d)
    }

    pub(super) fn compare_imm(&mut self, w: Word) -> Flow {
        let signed = w.opcode() == 11;
        let imm = if signed { w.signed() } else { w.unsigned() as i32 };
        self.ops.push(Op::OrderImm { signed, ty: Ty::I32, d: w.crf_d(), a: w.ra(), imm, low: SO });
        Flow::On
    }

    pub(super) fn compare(&mut self, w: Word) -> Flow {
        let signed = w.extended() == 0;
        self.ops.push(Op::Order { signed, ty: Ty::I32, d: w.crf_d(), a: w.ra(), b: w.rb(), low: SO });
        Flow::On
    }

    /// `tw` and `twi`: TO chooses among less, greater and equal as signed numbers, less and greater as unsigned ones.
    pub(super) fn trap(&mut self, w: Word, imm: Option<i32>) -> Flow {
        let to = w.d();
        if to == 31 {
            self.constant(T0, 1);
            self.call(id::TRAP_IF, NOBODY, T0, T0);
            return Flow::Gone;
        }
        self.constant(T2, imm.unwrap_or(0) as u32);
        self.constant(T3, 0);
        let b = if imm.is_some() { T2 } else { w.rb() };
        self.ops.push(Op::Order { signed: true, ty: Ty::I32, d: T0, a: w.ra(), b, low: T3 });
        self.ops.push(Op::Order { signed: false, ty: Ty::I32, d: T1, a: w.ra(), b, low: T3 });
        self.alu_imm(Alu::And, T0, T0, (to >> 1 & 14) as i32);
        self.alu_imm(Alu::And, T1, T1, (to << 2 & 12) as i32);
        self.alu(Alu::Or, T0, T0, T1);
        self.call(id::TRAP_IF, NOBODY, T0, T0);
        Flow::On
    }

    /// Overflow, and its summary, from `T3`, which is 0 or 1.
    fn overflow(&mut self) {
        self.ops.push(Op::Copy { d: OV, a: T3 });
        self.alu(Alu::Or, SO, SO, T3);
    }

    /// `x + y`, plus CA if `carry_in`, to rD; CA if `carry_out`, OV if the instruction says so. `x` and `y` are no register of
    /// the result if they are needed after it.
    fn sum(&mut self, w: Word, x: Var, y: Var, carry_in: bool, carry_out: bool) -> Flow {
        let d = w.rd();
        if w.oe() {
            self.ops.push(Op::Copy { d: T1, a: x });
            self.ops.push(Op::Copy { d: T2, a: y });
        }
        let ty = if carry_out { Ty::I64 } else { Ty::I32 };
        let first = if carry_out || carry_in { T0 } else { d };
        self.ops.push(Op::Alu { op: Alu::Add, ty, d: first, a: x, b: y });
        if carry_in {
            self.ops.push(Op::Alu { op: Alu::Add, ty, d: T0, a: T0, b: CA });
        }
        if carry_out {
            self.carry_and_sum(d);
        } else if carry_in {
            self.copy(d, T0);
        }
        if w.oe() {
            // The result's sign differs from that of both.
            self.alu(Alu::Xor, T1, T1, d);
            self.alu(Alu::Xor, T2, T2, d);
            self.alu(Alu::And, T3, T1, T2);
            self.alu_imm(Alu::ShrU, T3, T3, 31);
            self.overflow();
        }
        self.record(w, d)
    }

    pub(super) fn arithmetic(&mut self, w: Word) -> Flow {
        let (d, a, b) = (w.rd(), w.ra(), w.rb());
        match w.extended() & 0x1ff {
            266 => self.sum(w, a, b, false, false),
            10 => self.sum(w, a, b, false, true),
            138 => self.sum(w, a, b, true, true),
            // subf: b - a. The carry of b + ~a + 1 is that there is no borrow.
            40 if !w.oe() => {
                self.alu(Alu::Sub, d, b, a);
                self.record(w, d)
            }
            40 | 8 => {
                let carry_out = w.extended() & 0x1ff == 8;
                if w.oe() {
                    self.ops.push(Op::Copy { d: T1, a });
                    self.ops.push(Op::Copy { d: T2, a: b });
                }
                if carry_out {
                    self.ops.push(Op::Set { cond: Cond::LeU, ty: Ty::I32, d: T0, a, b });
                }
                self.alu(Alu::Sub, d, b, a);
                if carry_out {
                    self.ops.push(Op::Copy { d: CA, a: T0 });
                }
                if w.oe() {
                    // The operands' signs differ, and the result's from the minuend's.
                    self.alu(Alu::Xor, T1, T1, T2);
                    self.alu(Alu::Xor, T2, T2, d);
                    self.alu(Alu::And, T3, T1, T2);
                    self.alu_imm(Alu::ShrU, T3, T3, 31);
                    self.overflow();
                }
                self.record(w, d)
            }
            // subfe: ~a + b + CA.
            136 => {
                self.unary(Unary::Not, T3, a);
                self.sum(w, T3, b, true, true)
            }
            // subfze, addze, subfme, addme: with 0 or -1.
            200 | 232 => {
                self.unary(Unary::Not, T3, a);
                self.constant(T2, if w.extended() & 0x1ff == 200 { 0 } else { u32::MAX });
                self.sum(w, T3, T2, true, true)
            }
            202 | 234 => {
                self.constant(T2, if w.extended() & 0x1ff == 202 { 0 } else { u32::MAX });
                self.sum(w, a, T2, true, true)
            }
            104 => {
                if w.oe() {
                    self.constant(T0, 1 << 31);
                    self.ops.push(Op::Set { cond: Cond::Eq, ty: Ty::I32, d: T3, a, b: T0 });
                    self.overflow();
                }
                self.unary(Unary::Neg, d, a);
                self.record(w, d)
            }
            235 if !w.oe() => {
                self.alu(Alu::Mul, d, a, b);
                self.record(w, d)
            }
            235 => {
                self.product(true, a, b);
                self.unary(Unary::Zext32, d, T0);
                self.ops.push(Op::Unary { op: Unary::Sext32, ty: Ty::I64, d: T1, a: T0 });
                self.ops.push(Op::Set { cond: Cond::Ne, ty: Ty::I64, d: T3, a: T0, b: T1 });
                self.overflow();
                self.record(w, d)
            }
            75 | 11 if !w.oe() => {
                self.product(w.extended() == 75, a, b);
                self.ops.push(Op::Unary { op: Unary::High, ty: Ty::I64, d, a: T0 });
                self.record(w, d)
            }
            491 | 459 => {
                let signed = w.extended() & 0x1ff == 491;
                if w.oe() {
                    self.set_imm(Cond::Eq, T3, b, 0);
                    if signed {
                        self.constant(T0, 1 << 31);
                        self.ops.push(Op::Set { cond: Cond::Eq, ty: Ty::I32, d: T0, a, b: T0 });
                        self.set_imm(Cond::Eq, T1, b, -1);
                        self.alu(Alu::And, T0, T0, T1);
                        self.alu(Alu::Or, T3, T3, T0);
                    }
                    self.overflow();
                }
                self.alu(if signed { Alu::DivS } else { Alu::DivU }, d, a, b);
                self.record(w, d)
            }
            _ => self.illegal(),
        }
    }

    /// The product in 64 bits, to `T0`.
    fn product(&mut self, signed: bool, a: Var, b: Var) {
        let ty = Ty::I64;
        if signed {
            self.ops.push(Op::Unary { op: Unary::Sext32, ty, d: T0, a });
            self.ops.push(Op::Unary { op: Unary::Sext32, ty, d: T1, a: b });
            self.ops.push(Op::Alu { op: Alu::Mul, ty, d: T0, a: T0, b: T1 });
        } else {
            self.ops.push(Op::Alu { op: Alu::Mul, ty, d: T0, a, b });
        }
    }

    pub(super) fn logical(&mut self, w: Word) -> Flow {
        // The source is where other instructions have their result.
        let (s, d, b) = (w.rd(), w.ra(), w.rb());
        let not_and = |t: &mut Self, op, invert_b, invert| {
            let mut second = b;
            if invert_b {
                t.unary(Unary::Not, T0, b);
                second = T0;
            }
            t.alu(op, d, s, second);
            if invert {
                t.unary(Unary::Not, d, d);
            }
        };
        match w.extended() {
            28 if s == b => self.copy(d, s),
            28 => self.alu(Alu::And, d, s, b),
            60 => not_and(self, Alu::And, true, false),
            124 => self.alu(Alu::Nor, d, s, b),
            284 => not_and(self, Alu::Xor, false, true),
            316 => self.alu(Alu::Xor, d, s, b),
            412 => not_and(self, Alu::Or, true, false),
            444 if s == b => self.copy(d, s),
            444 => self.alu(Alu::Or, d, s, b),
            476 => not_and(self, Alu::And, false, true),
            26 => self.unary(Unary::Clz, d, s),
            922 => self.unary(Unary::Sext16, d, s),
            954 => self.unary(Unary::Sext8, d, s),
            // Shifts take six bits of the amount, and in 64 bits what is shifted out stays visible.
            24 => {
                self.ops.push(Op::Alu { op: Alu::Shl, ty: Ty::I64, d: T0, a: s, b });
                self.unary(Unary::Zext32, d, T0);
            }
            536 => self.ops.push(Op::Alu { op: Alu::ShrU, ty: Ty::I64, d, a: s, b }),
            792 => {
                let ty = Ty::I64;
                self.ops.extend([
                    Op::Unary { op: Unary::Sext32, ty, d: T0, a: s },
                    Op::Alu { op: Alu::ShrS, ty, d: T1, a: T0, b },
                    Op::Alu { op: Alu::Shl, ty, d: T2, a: T1, b },
                    // Ones were lost if shifting back gives something else.
                    Op::Set { cond: Cond::Ne, ty, d: T2, a: T2, b: T0 },
                    Op::AluImm { op: Alu::ShrU, ty: Ty::I32, d: T3, a: s, imm: 31 },
                    Op::Alu { op: Alu::And, ty, d: CA, a: T2, b: T3 },
                    Op::Unary { op: Unary::Zext32, ty, d, a: T1 },
                ]);
            }
            824 => {
                let by = w.b();
                self.alu_imm(Alu::And, T0, s, ((1_u32 << by) - 1) as i32);
                self.set_imm(Cond::Ne, T0, T0, 0);
                self.alu_imm(Alu::ShrU, T1, s, 31);
                self.alu(Alu::And, CA, T0, T1);
                self.alu_imm(Alu::ShrS, d, s, by as i32);
            }
            _ => return self.illegal(),
        }
        self.record(w, d)
    }

    /// The operations on bits of the condition register.
    pub(super) fn cr_logical(&mut self, w: Word) -> Flow {
        let bit = |t: &mut Self, d: Var, n: u32| {
            t.alu_imm(Alu::ShrU, d, super::cr_field(n >> 2), (3 - (n & 3)) as i32);
        };
        bit(self, T0, w.a());
        bit(self, T1, w.b());
        let (op, invert_b, invert) = match w.extended() {
            257 => (Alu::And, false, false),
            129 => (Alu::And, true, false),
            225 => (Alu::And, false, true),
            449 => (Alu::Or, false, false),
            417 => (Alu::Or, true, false),
            33 => (Alu::Or, false, true),
            193 => (Alu::Xor, false, false),
            _ => (Alu::Xor, false, true),
        };
        if invert_b {
            self.unary(Unary::Not, T1, T1);
        }
        self.alu(op, T0, T0, T1);
        if invert {
            self.unary(Unary::Not, T0, T0);
        }
        let (field, place) = (super::cr_field(w.d() >> 2), 3 - (w.d() & 3) as i32);
        self.alu_imm(Alu::And, T0, T0, 1);
        self.alu_imm(Alu::Shl, T0, T0, place);
        self.alu_imm(Alu::And, field, field, !(1 << place));
        self.alu(Alu::Or, field, field, T0);
        Flow::On
    }
}
