//! Floating point (PEM, sections 4.2.2 and 4.2.3.7): loads and stores, and the rest as one helper.

use super::super::float::is_operation;
use super::super::helpers::id;
use super::super::state::mode;
use super::{Flow, NOBODY, T0, T1, Translator, Word};
use crate::ir::{Alu, Op, Var};

impl Translator {
    fn is_unavailable(&self) -> bool {
        self.mode & mode::FP == 0
    }

    fn unavailable(&mut self) -> Flow {
        self.call(id::FP_UNAVAILABLE, NOBODY, T0, T0);
        Flow::Gone
    }

    pub(super) fn float(&mut self, w: Word) -> Flow {
        // What is no instruction is illegal, whether or not the unit is available.
        if w.opcode() >= 56 && !is_operation(w.0) {
            return self.illegal();
        }
        if self.is_unavailable() {
            return self.unavailable();
        }
        let opcode = w.opcode();
        if opcode >= 56 {
            self.constant(T0, w.0);
            self.call(id::FLOAT, NOBODY, T0, T0);
            return Flow::On;
        }
        // lfs, lfsu, lfd, lfdu and the stores.
        let (update, size, store) = (opcode & 1 != 0, if opcode & 2 != 0 { 8 } else { 4 }, opcode >= 52);
        if update && w.a() == 0 {
            return self.illegal();
        }
        let address = self.address(w);
        self.float_access(w, address, size, store, 0);
        if update {
            self.alu_imm(Alu::Add, w.ra(), w.ra(), w.signed());
        }
        Flow::On
    }

    /// The same, indexed.
    pub(super) fn float_indexed(&mut self, w: Word) -> Flow {
        if self.is_unavailable() {
            return self.unavailable();
        }
        let n = w.extended();
        let integer = n == 983;
        let (update, size) = (n & 32 != 0 && !integer, if n & 64 != 0 && !integer { 8 } else { 4 });
        if update && w.a() == 0 {
            return self.illegal();
        }
        let address = self.indexed(w);
        self.float_access(w, address, size, n >= 663, u32::from(integer));
        if update {
            self.ops.push(Op::Copy { d: w.ra(), a: address });
        }
        Flow::On
    }

    fn float_access(&mut self, w: Word, address: Var, size: u32, store: bool, integer: u32) {
        self.constant(T1, w.d() | size << 8 | integer << 12);
        self.call(if store { id::FLOAT_STORE } else { id::FLOAT_LOAD }, NOBODY, address, T1);
    }
}
