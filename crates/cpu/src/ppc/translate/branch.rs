//! Branches, the condition register's logic, `sc`, `rfi` (PEM, section 4.2.4).

use super::super::helpers::id;
use super::super::{CTR, LR};
use super::{CONDITION, Flow, GOAL, NOBODY, SRR_PRIVILEGED, T0, T1, Translator, Word, cr_field};
use crate::ir::{Alu, Cond, Op, Var};

impl Translator {
    pub(super) fn branches(&mut self, w: Word, pc: u32) -> Flow {
        match w.opcode() {
            16 => {
                let from = if w.0 & 2 != 0 { 0 } else { pc };
                let target = from.wrapping_add_signed(i32::from(w.0 as i16 & !3));
                let flow = match self.condition(w) {
                    true => Flow::Branch(target.into()),
                    false => Flow::Goto(target.into()),
                };
                self.link(w, pc);
                flow
            }
            17 => {
                self.call(id::SYSTEM_CALL, NOBODY, T0, T0);
                Flow::Gone
            }
            18 => {
                let from = if w.0 & 2 != 0 { 0 } else { pc };
                // 24 bits and two zeros, signed.
                let offset = (w.0 << 6) as i32 >> 6 & !3;
                self.link(w, pc);
                Flow::Goto(from.wrapping_add_signed(offset).into())
            }
            _ => match w.extended() {
                0 => {
                    let (d, a) = (w.crf_d(), cr_field(w.0 >> 18));
                    self.ops.push(Op::Copy { d, a });
                    Flow::On
                }
                16 => self.branch_to(w, pc, LR),
                // Counting down what it branches to is an invalid form.
                528 if w.d() & 4 == 0 => self.illegal(),
                528 => self.branch_to(w, pc, CTR),
                33 | 129 | 193 | 225 | 257 | 289 | 417 | 449 => self.cr_logical(w),
                50 if self.is_user() => self.program(SRR_PRIVILEGED),
                50 => {
                    self.call(id::RFI, NOBODY, T0, T0);
                    Flow::Gone
                }
                // isync: what was written is seen at once.
                150 => Flow::Stop,
                _ => self.illegal(),
            },
        }
    }

    fn link(&mut self, w: Word, pc: u32) {
        if w.rc() {
            self.constant(LR, pc.wrapping_add(4));
        }
    }

    /// To the address in a register, on a condition.
    fn branch_to(&mut self, w: Word, pc: u32, register: Var) -> Flow {
        self.alu_imm(Alu::And, GOAL, register, !3);
        if self.condition(w) {
            self.constant(T1, pc.wrapping_add(4));
            self.ops.push(Op::Select { d: GOAL, c: CONDITION, a: GOAL, b: T1 });
        }
        self.link(w, pc);
        Flow::GotoVar
    }

    /// What BO and BI ask for, to `CONDITION`; whether there is a condition (table 4-20). CTR is counted down if BO says so.
    fn condition(&mut self, w: Word) -> bool {
        let (bo, bi) = (w.d(), w.a());
        let counts = bo & 4 == 0;
        let asks = bo & 16 == 0;
        let count_cond = if bo & 2 != 0 { Cond::Eq } else { Cond::Ne };
        let bit = 8 >> (bi & 3);
        if counts {
            self.alu_imm(Alu::Add, CTR, CTR, -1);
        }
        match (counts, asks) {
            (false, false) => return false,
            (true, false) => self.set_imm(count_cond, CONDITION, CTR, 0),
            (false, true) => {
                self.alu_imm(Alu::And, CONDITION, cr_field(bi >> 2), bit);
                if bo & 8 == 0 {
                    self.set_imm(Cond::Eq, CONDITION, CONDITION, 0);
                }
            }
            (true, true) => {
                self.set_imm(count_cond, T0, CTR, 0);
                self.alu_imm(Alu::And, CONDITION, cr_field(bi >> 2), bit);
                let cond = if bo & 8 != 0 { Cond::Ne } else { Cond::Eq };
                self.set_imm(cond, CONDITION, CONDITION, 0);
                self.alu(Alu::And, CONDITION, CONDITION, T0);
            }
        }
        true
    }
}
