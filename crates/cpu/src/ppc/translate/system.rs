//! System registers, segments, TLBs, caches, synchronisation (PEM, sections 4.2.2, 4.2.5, 4.2.6, 4.3 and 4.4).

use super::super::helpers::id;
use super::super::spr::{number, variable};
use super::super::{CA, COUNT, CR, OV, SO};
use super::{Flow, NOBODY, SRR_PRIVILEGED, T0, T1, Translator, Word};
use crate::ir::{Alu, Op};

impl Translator {
    pub(super) fn system(&mut self, w: Word) -> Flow {
        let n = w.extended();
        // mtmsr, mtsr, mtsrin, mfmsr, mfsr, mfsrin, tlbie, dcbi, tlbsync, tlbld, tlbli
        let privileged = matches!(n, 83 | 146 | 210 | 242 | 306 | 470 | 566 | 595 | 659)
            || (self.loads_tlbs && matches!(n, 978 | 1010));
        if privileged && self.is_user() {
            return self.program(SRR_PRIVILEGED);
        }
        match n {
            19 => self.call(id::MFCR, w.rd(), T0, T0),
            83 => self.call(id::MFMSR, w.rd(), T0, T0),
            144 => self.move_to_cr(w),
            146 => {
                self.call(id::MTMSR, NOBODY, w.rd(), w.rd());
                return Flow::Stop;
            }
            210 => {
                self.constant(T0, w.a() & 15);
                self.call(id::MTSR, NOBODY, T0, w.rd());
                return Flow::Stop;
            }
            242 => {
                self.alu_imm(Alu::ShrU, T0, w.rb(), 28);
                self.call(id::MTSR, NOBODY, T0, w.rd());
                return Flow::Stop;
            }
            595 => {
                self.constant(T0, w.a() & 15);
                self.call(id::MFSR, w.rd(), T0, T0);
            }
            659 => {
                self.alu_imm(Alu::ShrU, T0, w.rb(), 28);
                self.call(id::MFSR, w.rd(), T0, T0);
            }
            306 => {
                self.call(id::TLBIE, NOBODY, w.rb(), w.rb());
                return Flow::Stop;
            }
            978 | 1010 if self.loads_tlbs => {
                self.constant(T0, u32::from(n == 1010));
                self.call(id::TLB_LOAD, NOBODY, w.rb(), T0);
                return Flow::Stop;
            }
            339 => return self.move_from_spr(w),
            467 => return self.move_to_spr(w),
            371 if matches!(w.spr(), number::TBL_READ | number::TBU_READ) => {
                self.constant(T0, w.spr());
                self.call(id::MFSPR, w.rd(), T0, w.rd());
            }
            512 => {
                let d = w.crf_d();
                self.alu_imm(Alu::Shl, T0, SO, 3);
                self.alu_imm(Alu::Shl, T1, OV, 2);
                self.alu(Alu::Or, T0, T0, T1);
                self.alu_imm(Alu::Shl, T1, CA, 1);
                self.alu(Alu::Or, d, T0, T1);
                for bit in [SO, OV, CA] {
                    self.constant(bit, 0);
                }
            }
            // dcbst, dcbf, icbi count as loads, dcbi as a store; hints do nothing, and nothing is out of order here.
            54 | 86 => {
                let address = self.indexed(w);
                self.call(id::TOUCH, NOBODY, address, address);
            }
            982 => {
                let address = self.indexed(w);
                self.call(id::TOUCH_BLOCK, NOBODY, address, address);
            }
            470 => {
                let address = self.indexed(w);
                self.call(id::TOUCH_STORE, NOBODY, address, address);
            }
            1014 => {
                let address = self.indexed(w);
                self.call(id::DCBZ, NOBODY, address, address);
            }
            // dcbtst, dcbt, tlbsync, sync, eieio
            246 | 278 | 566 | 598 | 854 => {}
            310 => {
                let address = self.indexed(w);
                self.call(id::ECIWX, w.rd(), address, address);
            }
            438 => {
                let address = self.indexed(w);
                self.call(id::ECOWX, NOBODY, address, w.rd());
            }
            // tlbia and dcba are optional, and neither processor has them.
            _ => return self.illegal(),
        }
        Flow::On
    }

    fn move_to_cr(&mut self, w: Word) {
        let fields = w.0 >> 12 & 0xff;
        for (n, field) in (0..8).zip(CR).filter(|(n, _)| fields >> (7 - n) & 1 != 0) {
            self.alu_imm(Alu::ShrU, T0, w.rd(), 28 - 4 * n);
            self.alu_imm(Alu::And, field, T0, 15);
        }
    }

    fn move_from_spr(&mut self, w: Word) -> Flow {
        match variable(w.spr()) {
            Some((_, false)) if self.is_user() => return self.program(SRR_PRIVILEGED),
            Some((var, _)) => self.ops.push(Op::Copy { d: w.rd(), a: var }),
            None => {
                self.constant(T0, w.spr());
                self.call(id::MFSPR, w.rd(), T0, w.rd());
            }
        }
        Flow::On
    }

    fn move_to_spr(&mut self, w: Word) -> Flow {
        match (variable(w.spr()), w.spr()) {
            (Some((_, false)), _) if self.is_user() => self.program(SRR_PRIVILEGED),
            (Some((var, _)), _) => {
                self.ops.push(Op::Copy { d: var, a: w.rd() });
                Flow::On
            }
            (None, number::XER) => {
                let s = w.rd();
                self.alu_imm(Alu::ShrU, T0, s, 31);
                self.alu_imm(Alu::ShrU, T1, s, 30);
                self.alu_imm(Alu::And, OV, T1, 1);
                self.alu_imm(Alu::ShrU, T1, s, 29);
                self.alu_imm(Alu::And, CA, T1, 1);
                self.alu_imm(Alu::And, COUNT, s, 0x7f);
                self.ops.push(Op::Copy { d: SO, a: T0 });
                Flow::On
            }
            (None, number) => {
                self.constant(T0, number);
                self.call(id::MTSPR, NOBODY, T0, w.rd());
                Flow::Stop
            }
        }
    }
}
