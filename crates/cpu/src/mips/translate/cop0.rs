//! Coprocessor 0: system registers, the TLB, returns from exceptions.

use super::{Flow, NOBODY, T0, T2, Translator, Word};
use crate::ir::Op;
use crate::mips::helpers::id;

impl Translator {
    pub(super) fn cop0(&mut self, w: Word) -> Flow {
        if !self.cp0 {
            return self.raise(id::UNUSABLE, 0);
        }
        let number = w.rd_number() << 3 | w.0 & 7;
        match w.rs_number() {
            0x00 => {
                self.ops.push(Op::Const { d: T2, value: number.into() });
                self.call(id::MFC0, Word::to(w.rt_number()), T2, T2)
            }
            0x04 => {
                self.ops.push(Op::Const { d: T2, value: number.into() });
                self.call(id::MTC0, NOBODY, T2, w.rt());
                Flow::Stop
            }
            // rdpgpr, wrpgpr: there is one register set.
            0x0a | 0x0e => self.copy(Word::to(w.rd_number()), w.rt()),
            0x0b if w.rd_number() == 12 => {
                let helper = if w.0 & 0x20 != 0 { id::EI } else { id::DI };
                self.call(helper, Word::to(w.rt_number()), T0, T0);
                Flow::Stop
            }
            0x10..=0x1f => match w.function() {
                0x01 => self.call_and_stop(id::TLBR),
                0x02 => self.call_and_stop(id::TLBWI),
                0x06 => self.call_and_stop(id::TLBWR),
                0x08 => self.call_and_stop(id::TLBP),
                0x18 => {
                    self.call(id::ERET, NOBODY, T0, T0);
                    Flow::Gone
                }
                0x1f => {
                    self.call(id::DERET, NOBODY, T0, T0);
                    Flow::Gone
                }
                0x20 => self.call_and_stop(id::WAIT),
                _ => self.raise(id::RESERVED, 0),
            },
            _ => self.raise(id::RESERVED, 0),
        }
    }

    pub(super) fn call_and_stop(&mut self, helper: u16) -> Flow {
        self.call(helper, NOBODY, T0, T0);
        Flow::Stop
    }
}
