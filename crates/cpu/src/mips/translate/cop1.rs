//! Coprocessor 1, the FPU: which encodings there are, and what of them needs no helper.

use super::{CONDITION, Flow, NOBODY, T0, T1, T2, Translator, Word, branch_target};
use crate::ir::{Alu, Cond, Op, Ty, Unary, Var};
use crate::mips::fpu::{FCSR, code_bit, fmt, fpr};
use crate::mips::gpr;
use crate::mips::helpers::id;

impl Translator {
    /// Whether a register can hold a double: where doubles are pairs, an even one.
    fn holds_double(&self, number: u32) -> bool {
        self.whole_fprs || number & 1 == 0
    }

    fn can_hold(&self, format: u32, number: u32) -> bool {
        match format {
            fmt::D => self.holds_double(number),
            // 64-bit integers want 64-bit registers.
            fmt::L => self.whole_fprs,
            _ => true,
        }
    }

    fn reserved(&mut self) -> Flow {
        self.raise(id::RESERVED, 0)
    }

    fn unless_unusable(&mut self, then: impl FnOnce(&mut Self) -> Flow) -> Flow {
        if self.cp1 { then(self) } else { self.raise(id::UNUSABLE, 1) }
    }

    fn call_word(&mut self, helper: u16, w: Word, b: Var) -> Flow {
        self.ops.push(Op::Const { d: T0, value: w.0.into() });
        self.call(helper, NOBODY, T0, b)
    }

    /// `d = 1` if the condition code is as wanted, else 0.
    fn code(&mut self, d: Var, number: u32, wanted: bool) {
        let ty = Ty::I32;
        self.ops.extend([
            Op::AluImm { op: Alu::ShrU, ty, d, a: FCSR, imm: code_bit(number) as i32 },
            Op::AluImm { op: Alu::And, ty, d, a: d, imm: 1 },
        ]);
        if !wanted {
            self.ops.push(Op::AluImm { op: Alu::Xor, ty, d, a: d, imm: 1 });
        }
    }

    /// The low half of a register; the upper one stays.
    fn set_low(&mut self, number: u32, value: Var) {
        let (ty, d) = (Ty::I64, fpr(number));
        self.ops.extend([
            Op::Unary { op: Unary::High, ty, d: T0, a: d },
            Op::AluImm { op: Alu::Shl, ty, d: T0, a: T0, imm: 32 },
            Op::Unary { op: Unary::Zext32, ty, d: T1, a: value },
            Op::Alu { op: Alu::Or, ty, d, a: T0, b: T1 },
        ]);
    }

    fn low(&mut self, d: Var, number: u32) -> Flow {
        self.ops.push(Op::Unary { op: Unary::Zext32, ty: Ty::I64, d, a: fpr(number) });
        Flow::On
    }

    /// The upper half of what is 64 bits.
    fn high(&mut self, d: Var, number: u32) -> Flow {
        if !self.whole_fprs {
            return self.low(d, number | 1);
        }
        self.ops.push(Op::Unary { op: Unary::High, ty: Ty::I64, d, a: fpr(number) });
        Flow::On
    }

    fn set_high(&mut self, number: u32, value: Var) {
        if !self.whole_fprs {
            return self.set_low(number | 1, value);
        }
        let (ty, d) = (Ty::I64, fpr(number));
        self.ops.extend([
            Op::Unary { op: Unary::Zext32, ty, d: T0, a: d },
            Op::AluImm { op: Alu::Shl, ty, d: T1, a: value, imm: 32 },
            Op::Alu { op: Alu::Or, ty, d, a: T0, b: T1 },
        ]);
    }

    /// `d` = 64 bits of registers.
    fn double(&mut self, d: Var, number: u32) {
        if self.whole_fprs {
            self.ops.push(Op::Copy { d, a: fpr(number) });
            return;
        }
        let ty = Ty::I64;
        self.ops.extend([
            Op::AluImm { op: Alu::Shl, ty, d: T1, a: fpr(number | 1), imm: 32 },
            Op::Unary { op: Unary::Zext32, ty, d, a: fpr(number) },
            Op::Alu { op: Alu::Or, ty, d, a: d, b: T1 },
        ]);
    }

    fn set_double(&mut self, number: u32, value: Var) {
        if self.whole_fprs {
            self.ops.push(Op::Copy { d: fpr(number), a: value });
            return;
        }
        self.set_low(number, value);
        self.ops.push(Op::Unary { op: Unary::High, ty: Ty::I64, d: T2, a: value });
        self.set_low(number | 1, T2);
    }

    /// Moves between memory, at `base` and a displacement, and a register.
    fn transfer(&mut self, base: Var, disp: i32, number: u32, size: u8, is_store: bool) -> Flow {
        let mem = self.mem(size, false);
        match (is_store, size) {
            (false, 4) => {
                self.ops.push(Op::Load { d: T2, base, disp, mem });
                self.set_low(number, T2);
            }
            (false, _) => {
                self.ops.push(Op::Load { d: T2, base, disp, mem });
                self.set_double(number, T2);
            }
            (true, 4) => {
                self.low(T2, number);
                self.ops.push(Op::Store { s: T2, base, disp, mem });
            }
            (true, _) => {
                self.double(T2, number);
                self.ops.push(Op::Store { s: T2, base, disp, mem });
            }
        }
        Flow::On
    }

    /// LWC1, LDC1, SWC1, SDC1.
    pub(super) fn fpu_memory(&mut self, w: Word) -> Flow {
        let (size, is_store) = (if w.op() & 4 != 0 { 8 } else { 4 }, w.op() & 8 != 0);
        self.unless_unusable(|t| match size == 4 || t.holds_double(w.rt_number()) {
            true => t.transfer(w.rs(), w.signed(), w.rt_number(), size, is_store),
            false => t.reserved(),
        })
    }

    /// COP1X: indexed loads and stores, products with sums.
    pub(super) fn cop1x(&mut self, w: Word) -> Flow {
        self.unless_unusable(|t| t.cop1x_usable(w))
    }

    fn cop1x_usable(&mut self, w: Word) -> Flow {
        let (is_store, size) = match w.function() {
            0x00 => (false, 4),
            0x01 | 0x05 => (false, 8),
            0x08 => (true, 4),
            0x09 | 0x0d => (true, 8),
            // PREFX: a hint.
            0x0f => return Flow::On,
            0x20 | 0x28 | 0x30 | 0x38 => return self.call_word(id::FPU_MULTIPLY_ADD, w, NOBODY),
            0x21 | 0x29 | 0x31 | 0x39 => {
                let registers = [w.rs_number(), w.rt_number(), w.rd_number(), w.sa()];
                return match registers.into_iter().all(|n| self.holds_double(n)) {
                    true => self.call_word(id::FPU_MULTIPLY_ADD, w, NOBODY),
                    false => self.reserved(),
                };
            }
            _ => return self.reserved(),
        };
        let number = if is_store { w.rd_number() } else { w.sa() };
        let unaligned = matches!(w.function(), 0x05 | 0x0d);
        if unaligned && !self.whole_fprs || size == 8 && !self.holds_double(number) {
            return self.reserved();
        }
        // Its own temporary: transfers use the others.
        let base = Var::temp(3);
        self.ops.push(Op::Alu { op: Alu::Add, ty: Ty::I32, d: base, a: w.rs(), b: w.rt() });
        if unaligned {
            self.ops.push(Op::AluImm { op: Alu::And, ty: Ty::I32, d: base, a: base, imm: !7 });
        }
        self.transfer(base, 0, number, size, is_store)
    }

    /// MOVF and MOVT of general registers.
    pub(super) fn move_on_code(&mut self, w: Word) -> Flow {
        self.unless_unusable(|t| {
            let d = w.rd_number();
            t.code(T0, w.0 >> 18, w.0 >> 16 & 1 != 0);
            t.ops.push(Op::Select { d: Word::to(d), c: T0, a: w.rs(), b: gpr(d) });
            Flow::On
        })
    }

    pub(super) fn cop1(&mut self, w: Word, pc: u64) -> Flow {
        self.unless_unusable(|t| t.cop1_usable(w, pc))
    }

    fn cop1_usable(&mut self, w: Word, pc: u64) -> Flow {
        let number = w.rd_number();
        match w.rs_number() {
            0x00 => self.low(Word::to(w.rt_number()), number),
            0x02 => {
                self.ops.push(Op::Const { d: T0, value: number.into() });
                self.call(id::CFC1, Word::to(w.rt_number()), T0, T0)
            }
            0x03 => self.high(Word::to(w.rt_number()), number),
            0x04 => {
                self.set_low(number, w.rt());
                Flow::On
            }
            0x06 => {
                self.ops.push(Op::Const { d: T0, value: number.into() });
                self.call(id::CTC1, NOBODY, T0, w.rt())
            }
            0x07 => {
                self.set_high(number, w.rt());
                Flow::On
            }
            0x08 => {
                self.code(CONDITION, w.0 >> 18, w.0 >> 16 & 1 != 0);
                Flow::Branch { target: branch_target(w, pc), likely: w.0 >> 17 & 1 != 0 }
            }
            fmt::S | fmt::D | fmt::W | fmt::L => self.computes(w),
            _ => self.reserved(),
        }
    }

    fn computes(&mut self, w: Word) -> Flow {
        let (from, function) = (w.rs_number(), w.function());
        let number = from == fmt::S || from == fmt::D;
        // The format of the result, and how many operands there are beside the first.
        let (to, binary, helper) = match function {
            0x00..=0x03 if number => (from, true, id::FPU_ARITHMETIC),
            0x04 | 0x15 | 0x16 if number => (from, false, id::FPU_ARITHMETIC),
            0x05..=0x07 if number => (from, false, id::FPU_SIGN),
            0x08..=0x0b | 0x25 if number => (fmt::L, false, id::FPU_ARITHMETIC),
            0x0c..=0x0f | 0x24 if number => (fmt::W, false, id::FPU_ARITHMETIC),
            0x11..=0x13 if number => (from, false, id::FPU_MOVE_IF),
            0x20 if from != fmt::S => (fmt::S, false, id::FPU_ARITHMETIC),
            0x21 if from != fmt::D => (fmt::D, false, id::FPU_ARITHMETIC),
            // Bits 6 and 7 are another extension's.
            0x30..=0x3f if number && w.0 & 0xc0 == 0 => (fmt::S, true, id::FPU_COMPARE),
            _ => return self.reserved(),
        };
        let is_compare = helper == id::FPU_COMPARE;
        if !self.can_hold(from, w.rd_number())
            || binary && !self.can_hold(from, w.rt_number())
            || !is_compare && !self.can_hold(to, w.sa())
        {
            return self.reserved();
        }
        match function {
            0x11 => {
                self.code(T1, w.0 >> 18, w.0 >> 16 & 1 != 0);
                self.call_word(helper, w, T1)
            }
            0x12 => {
                let (ty, d, a) = (Ty::I32, T1, w.rt());
                self.ops.push(Op::SetImm { cond: Cond::Eq, ty, d, a, imm: 0 });
                self.call_word(helper, w, T1)
            }
            0x13 => self.call_word(helper, w, w.rt()),
            _ => self.call_word(helper, w, NOBODY),
        }
    }
}
