//! Loads and stores of general registers.

use super::{Flow, NOBODY, T0, Translator, Word};
use crate::ir::{Alu, MemOp, Op, Ty};

impl Translator {
    pub(super) fn mem(&self, size: u8, signed: bool) -> MemOp {
        MemOp { size, signed, big: self.big, aligned: true, mmu: self.mmu }
    }

    pub(super) fn load(&mut self, w: Word, size: u8, signed: bool) -> Flow {
        let mem = self.mem(size, signed);
        self.ops.push(Op::Load { d: Word::to(w.rt_number()), base: w.rs(), disp: w.signed(), mem });
        Flow::On
    }

    pub(super) fn store(&mut self, w: Word, size: u8) -> Flow {
        let mem = self.mem(size, false);
        self.ops.push(Op::Store { s: w.rt(), base: w.rs(), disp: w.signed(), mem });
        Flow::On
    }

    /// A load or store by a helper, which gets the address and the register.
    pub(super) fn by_helper(&mut self, w: Word, helper: u16, result: bool) -> Flow {
        self.ops.push(Op::AluImm { op: Alu::Add, ty: Ty::I32, d: T0, a: w.rs(), imm: w.signed() });
        let d = if result { Word::to(w.rt_number()) } else { NOBODY };
        self.call(helper, d, T0, w.rt())
    }
}
