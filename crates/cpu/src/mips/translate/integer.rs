//! Instructions on general registers: arithmetic, HI and LO, traps, bit fields.

use super::{Flow, GOAL, NOBODY, T0, T1, Translator, Word};
use crate::ir::{Alu, Cond, Op, Ty, Unary, Var};
use crate::mips::helpers::id;
use crate::mips::{HI, LO, gpr};

impl Translator {
    pub(super) fn alu(&mut self, op: Alu, d: u32, a: Var, b: Var) -> Flow {
        self.ops.push(Op::Alu { op, ty: Ty::I32, d: Word::to(d), a, b });
        Flow::On
    }

    pub(super) fn alu_imm(&mut self, op: Alu, d: u32, a: Var, imm: i32) -> Flow {
        self.ops.push(Op::AluImm { op, ty: Ty::I32, d: Word::to(d), a, imm });
        Flow::On
    }

    pub(super) fn set(&mut self, cond: Cond, d: Var, a: Var, b: Var) {
        self.ops.push(Op::Set { cond, ty: Ty::I32, d, a, b });
    }

    pub(super) fn unary(&mut self, op: Unary, d: u32, a: Var) -> Flow {
        self.ops.push(Op::Unary { op, ty: Ty::I32, d: Word::to(d), a });
        Flow::On
    }

    pub(super) fn trap(&mut self, cond: Cond, negated: bool, w: Word, imm: Option<i32>) -> Flow {
        let (ty, d, a) = (Ty::I32, T0, w.rs());
        self.ops.push(match imm {
            Some(imm) => Op::SetImm { cond, ty, d, a, imm },
            None => Op::Set { cond, ty, d, a, b: w.rt() },
        });
        if negated {
            self.ops.push(Op::AluImm { op: Alu::Xor, ty, d, a: d, imm: 1 });
        }
        self.call(id::TRAP_IF, NOBODY, T0, T0)
    }

    pub(super) fn special(&mut self, w: Word, pc: u64) -> Flow {
        let (d, rs, rt) = (w.rd_number(), w.rs(), w.rt());
        let shift = w.sa() as i32;
        match w.function() {
            0x00 => self.alu_imm(Alu::Shl, d, rt, shift),
            0x02 if w.rs_number() == 0 => self.alu_imm(Alu::ShrU, d, rt, shift),
            0x02 if w.rs_number() == 1 => self.alu_imm(Alu::RotR, d, rt, shift),
            0x03 => self.alu_imm(Alu::ShrS, d, rt, shift),
            0x04 => self.alu(Alu::Shl, d, rt, rs),
            0x06 if w.sa() == 0 => self.alu(Alu::ShrU, d, rt, rs),
            0x06 if w.sa() == 1 => self.alu(Alu::RotR, d, rt, rs),
            0x07 => self.alu(Alu::ShrS, d, rt, rs),
            0x08 => {
                self.ops.push(Op::Copy { d: GOAL, a: rs });
                Flow::JumpVar
            }
            0x09 => {
                self.ops.push(Op::Copy { d: GOAL, a: rs });
                self.link(d, pc);
                Flow::JumpVar
            }
            0x0a | 0x0b => {
                let old = gpr(d);
                let (a, b) = if w.function() == 0x0b { (rs, old) } else { (old, rs) };
                self.ops.push(Op::Select { d: Word::to(d), c: rt, a, b });
                Flow::On
            }
            0x0c => self.raise(id::SYSCALL, 0),
            0x0d => self.raise(id::BREAK, 0),
            // sync: one CPU, in order.
            0x0f => Flow::On,
            0x10 => self.copy(Word::to(d), HI),
            0x11 => self.copy(HI, rs),
            0x12 => self.copy(Word::to(d), LO),
            0x13 => self.copy(LO, rs),
            0x18 => self.multiply(w, Unary::Sext32, None),
            0x19 => self.multiply(w, Unary::Zext32, None),
            0x1a => self.divide(w, Alu::DivS, Alu::RemS),
            0x1b => self.divide(w, Alu::DivU, Alu::RemU),
            0x20 => self.call(id::ADD, Word::to(d), rs, rt),
            0x21 => self.alu(Alu::Add, d, rs, rt),
            0x22 => self.call(id::SUB, Word::to(d), rs, rt),
            0x23 => self.alu(Alu::Sub, d, rs, rt),
            0x24 => self.alu(Alu::And, d, rs, rt),
            0x25 => self.alu(Alu::Or, d, rs, rt),
            0x26 => self.alu(Alu::Xor, d, rs, rt),
            0x27 => self.alu(Alu::Nor, d, rs, rt),
            0x2a | 0x2b => {
                let cond = if w.function() == 0x2a { Cond::LtS } else { Cond::LtU };
                self.set(cond, Word::to(d), rs, rt);
                Flow::On
            }
            0x30 => self.trap(Cond::LtS, true, w, None),
            0x31 => self.trap(Cond::LtU, true, w, None),
            0x32 => self.trap(Cond::LtS, false, w, None),
            0x33 => self.trap(Cond::LtU, false, w, None),
            0x34 => self.trap(Cond::Eq, false, w, None),
            0x36 => self.trap(Cond::Ne, false, w, None),
            0x01 if w.0 >> 17 & 1 == 0 => self.move_on_code(w),
            _ => self.raise(id::RESERVED, 0),
        }
    }

    pub(super) fn copy(&mut self, d: Var, a: Var) -> Flow {
        self.ops.push(Op::Copy { d, a });
        Flow::On
    }

    /// HI and LO become the product, or with `onto` what is there with the product added or subtracted.
    pub(super) fn multiply(&mut self, w: Word, extend: Unary, onto: Option<Alu>) -> Flow {
        let ty = Ty::I64;
        self.ops.extend([
            Op::Unary { op: extend, ty, d: T0, a: w.rs() },
            Op::Unary { op: extend, ty, d: T1, a: w.rt() },
            Op::Alu { op: Alu::Mul, ty, d: T0, a: T0, b: T1 },
        ]);
        if let Some(op) = onto {
            self.ops.extend([
                Op::AluImm { op: Alu::Shl, ty, d: T1, a: HI, imm: 32 },
                Op::Alu { op: Alu::Or, ty, d: T1, a: T1, b: LO },
                Op::Alu { op, ty, d: T0, a: T1, b: T0 },
            ]);
        }
        self.ops.extend([
            Op::Unary { op: Unary::Zext32, ty, d: LO, a: T0 },
            Op::Unary { op: Unary::High, ty, d: HI, a: T0 },
        ]);
        Flow::On
    }

    pub(super) fn divide(&mut self, w: Word, quotient: Alu, remainder: Alu) -> Flow {
        let (ty, a, b) = (Ty::I32, w.rs(), w.rt());
        self.ops
            .extend([Op::Alu { op: quotient, ty, d: LO, a, b }, Op::Alu { op: remainder, ty, d: HI, a, b }]);
        Flow::On
    }

    pub(super) fn special2(&mut self, w: Word) -> Flow {
        match w.function() {
            0x00 => self.multiply(w, Unary::Sext32, Some(Alu::Add)),
            0x01 => self.multiply(w, Unary::Zext32, Some(Alu::Add)),
            0x02 => self.alu(Alu::Mul, w.rd_number(), w.rs(), w.rt()),
            0x04 => self.multiply(w, Unary::Sext32, Some(Alu::Sub)),
            0x05 => self.multiply(w, Unary::Zext32, Some(Alu::Sub)),
            0x20 => self.unary(Unary::Clz, w.rd_number(), w.rs()),
            0x21 => self.unary(Unary::Clo, w.rd_number(), w.rs()),
            0x3f => self.raise(id::SDBBP, 0),
            _ => self.raise(id::RESERVED, 0),
        }
    }

    pub(super) fn special3(&mut self, w: Word) -> Flow {
        let (low, msb) = (w.sa(), w.rd_number());
        match w.function() {
            // ext: rt = the msb + 1 bits of rs from `low` on.
            0x00 if low + msb < 32 => {
                let ty = Ty::I32;
                self.ops.push(Op::AluImm {
                    op: Alu::Shl,
                    ty,
                    d: T0,
                    a: w.rs(),
                    imm: (31 - msb - low) as i32,
                });
                self.alu_imm(Alu::ShrU, w.rt_number(), T0, (31 - msb) as i32)
            }
            // ins: bits `low` to `msb` of rt = the low bits of rs.
            0x04 if low <= msb => {
                let (ty, mask) = (Ty::I32, (u32::MAX >> (31 - (msb - low))) << low);
                self.ops.extend([
                    Op::AluImm { op: Alu::Shl, ty, d: T0, a: w.rs(), imm: low as i32 },
                    Op::AluImm { op: Alu::And, ty, d: T0, a: T0, imm: mask as i32 },
                    Op::AluImm { op: Alu::And, ty, d: T1, a: w.rt(), imm: !mask as i32 },
                ]);
                self.alu(Alu::Or, w.rt_number(), T0, T1)
            }
            0x20 => match w.sa() {
                0x02 => self.unary(Unary::SwapHalves, w.rd_number(), w.rt()),
                0x10 => self.unary(Unary::Sext8, w.rd_number(), w.rt()),
                0x18 => self.unary(Unary::Sext16, w.rd_number(), w.rt()),
                _ => self.raise(id::RESERVED, 0),
            },
            0x3b => {
                self.ops.push(Op::Const { d: T0, value: w.rd_number().into() });
                self.call(id::RDHWR, Word::to(w.rt_number()), T0, T0)
            }
            _ => self.raise(id::RESERVED, 0),
        }
    }

    pub(super) fn regimm(&mut self, w: Word, pc: u64) -> Flow {
        let number = w.rt_number();
        match number {
            0x00..=0x03 => self.branch_sign(Cond::LtS, number & 1 != 0, w, pc, number & 2 != 0),
            0x10..=0x13 => {
                // The condition is that of before the link, should `rs` be register 31.
                let flow = self.branch_sign(Cond::LtS, number & 1 != 0, w, pc, number & 2 != 0);
                self.link(31, pc);
                flow
            }
            0x08 => self.trap(Cond::LtS, true, w, Some(w.signed())),
            0x09 => self.trap(Cond::LtU, true, w, Some(w.signed())),
            0x0a => self.trap(Cond::LtS, false, w, Some(w.signed())),
            0x0b => self.trap(Cond::LtU, false, w, Some(w.signed())),
            0x0c => self.trap(Cond::Eq, false, w, Some(w.signed())),
            0x0e => self.trap(Cond::Ne, false, w, Some(w.signed())),
            // synci: code that was written is seen at once.
            0x1f => Flow::On,
            _ => self.raise(id::RESERVED, 0),
        }
    }
}
