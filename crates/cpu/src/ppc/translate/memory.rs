//! Loads and stores of integers (PEM, sections 4.2.3.1 to 4.2.3.6). They need no alignment but where it is said.

use super::super::helpers::id;
use super::{CR, Flow, NOBODY, T0, T1, Translator, Word};
use crate::ir::{Alu, MemOp, Op, Var};

impl Translator {
    fn mem(&self, size: u8, signed: bool) -> MemOp {
        MemOp { size, signed, big: true, aligned: false, mmu: self.mmu }
    }

    /// Where a form with a displacement goes: a register, and what is added to it.
    pub(super) fn displaced(&mut self, w: Word) -> (Var, i32) {
        if w.a() == 0 {
            self.constant(T0, 0);
            return (T0, w.signed());
        }
        (w.ra(), w.signed())
    }

    /// Where an indexed form goes, in a variable.
    pub(super) fn indexed(&mut self, w: Word) -> Var {
        if w.a() == 0 {
            return w.rb();
        }
        self.alu(Alu::Add, T0, w.ra(), w.rb());
        T0
    }

    /// The same for helpers that get an address without a displacement.
    pub(super) fn address(&mut self, w: Word) -> Var {
        if w.a() == 0 {
            self.constant(T0, w.signed() as u32);
        } else {
            self.alu_imm(Alu::Add, T0, w.ra(), w.signed());
        }
        T0
    }

    pub(super) fn load_store(&mut self, w: Word) -> Flow {
        let opcode = w.opcode();
        if opcode >= 46 {
            let address = self.address(w);
            self.constant(T1, w.d());
            self.call(if opcode == 46 { id::LMW } else { id::STMW }, NOBODY, address, T1);
            return Flow::On;
        }
        let (update, store) = (opcode & 1 != 0, matches!(opcode, 36..=39 | 44 | 45));
        if !self.update_is_valid(w, update, store) {
            return self.illegal();
        }
        let (base, disp) = self.displaced(w);
        let mem = match opcode & !1 {
            32 | 36 => self.mem(4, false),
            34 | 38 => self.mem(1, false),
            42 => self.mem(2, true),
            _ => self.mem(2, false),
        };
        self.ops.push(match store {
            true => Op::Store { s: w.rd(), base, disp, mem },
            false => Op::Load { d: w.rd(), base, disp, mem },
        });
        if update {
            self.alu_imm(Alu::Add, w.ra(), w.ra(), disp);
        }
        Flow::On
    }

    /// An update needs a register, and one that is not loaded.
    pub(super) fn update_is_valid(&self, w: Word, update: bool, store: bool) -> bool {
        !update || (w.a() != 0 && (store || w.a() != w.d()))
    }

    pub(super) fn load_store_indexed(&mut self, w: Word) -> Flow {
        let n = w.extended();
        let (update, store) = (n & 32 != 0, matches!(n, 151 | 183 | 215 | 247 | 407 | 439));
        if !self.update_is_valid(w, update, store) {
            return self.illegal();
        }
        let base = self.indexed(w);
        let mem = match n & !32 {
            23 | 151 => self.mem(4, false),
            87 | 215 => self.mem(1, false),
            343 => self.mem(2, true),
            _ => self.mem(2, false),
        };
        self.ops.push(match store {
            true => Op::Store { s: w.rd(), base, disp: 0, mem },
            false => Op::Load { d: w.rd(), base, disp: 0, mem },
        });
        if update {
            self.ops.push(Op::Copy { d: w.ra(), a: base });
        }
        Flow::On
    }

    /// Byte-reversed, strings, reservations.
    pub(super) fn load_store_special(&mut self, w: Word) -> Flow {
        let n = w.extended();
        if matches!(n, 597 | 725) {
            return self.string_imm(w);
        }
        let base = self.indexed(w);
        let reversed = |size| MemOp { big: false, ..self.mem(size, false) };
        match n {
            534 => self.ops.push(Op::Load { d: w.rd(), base, disp: 0, mem: reversed(4) }),
            790 => self.ops.push(Op::Load { d: w.rd(), base, disp: 0, mem: reversed(2) }),
            662 => self.ops.push(Op::Store { s: w.rd(), base, disp: 0, mem: reversed(4) }),
            918 => self.ops.push(Op::Store { s: w.rd(), base, disp: 0, mem: reversed(2) }),
            20 => self.call(id::LWARX, w.rd(), base, base),
            150 if !w.rc() => return self.illegal(),
            150 => self.call(id::STWCX, CR[0], base, w.rd()),
            _ => {
                self.constant(T1, w.d() | w.a() << 8 | w.b() << 16);
                self.call(if n == 533 { id::LSWX } else { id::STSWX }, NOBODY, base, T1);
            }
        }
        Flow::On
    }

    fn string_imm(&mut self, w: Word) -> Flow {
        let bytes = if w.b() == 0 { 32 } else { w.b() };
        let load = w.extended() == 597;
        // The address must not be in a register that is loaded.
        if load && w.a() != 0 && (w.a().wrapping_sub(w.d()) & 31) < bytes.div_ceil(4) {
            return self.illegal();
        }
        let mut base = w.ra();
        if w.a() == 0 {
            self.constant(T0, 0);
            base = T0;
        }
        self.constant(T1, w.d() | bytes << 8);
        self.call(if load { id::LSWI } else { id::STSWI }, NOBODY, base, T1);
        Flow::On
    }
}
