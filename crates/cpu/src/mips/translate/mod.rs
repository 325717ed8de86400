//! From MIPS instructions to blocks.
//!
//! A block ends behind a branch and its delay slot, before the end of its page, or behind an instruction that may change
//! how code is translated. A branch whose delay slot is not in the same block leaves [`TARGET`] and [`DELAYED`] behind, and
//! the block that begins in the delay slot goes there. What must always hold: an instruction's slots are written after
//! everything in it that may fault.
//!
//! Here are the blocks, branches, and which instruction is whose: `integer`, `memory`, `cop0` and `cop1` have them. Section
//! numbers are of volume II of the manual.

mod cop0;
mod cop1;
mod integer;
mod memory;

use super::helpers::id;
use super::level::Level;
use super::{DELAYED, Fault, Mips, MipsModel, PC, TARGET, gpr, mode};
use crate::core::Core;
use crate::ir::{Alu, Code, Cond, End, Insn, Op, Ty, Var};
use crate::isa::{Fetch, Isa};
use crate::tlb::PAGE_SIZE;

/// What a branch waits for while its delay slot is done.
const CONDITION: Var = Var::temp(60);
const GOAL: Var = Var::temp(61);
/// Where results go that nobody wants.
const NOBODY: Var = Var::temp(63);
/// Temporaries of one instruction.
const T0: Var = Var::temp(0);
const T1: Var = Var::temp(1);
const T2: Var = Var::temp(2);

/// Fields of an instruction word.
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    fn op(self) -> u32 {
        self.0 >> 26
    }
    fn rs(self) -> Var {
        gpr(self.0 >> 21)
    }
    fn rt(self) -> Var {
        gpr(self.0 >> 16)
    }
    fn rs_number(self) -> u32 {
        self.0 >> 21 & 31
    }
    fn rt_number(self) -> u32 {
        self.0 >> 16 & 31
    }
    fn rd_number(self) -> u32 {
        self.0 >> 11 & 31
    }
    fn sa(self) -> u32 {
        self.0 >> 6 & 31
    }
    fn function(self) -> u32 {
        self.0 & 63
    }
    fn signed(self) -> i32 {
        i32::from(self.0 as i16)
    }
    fn unsigned(self) -> i32 {
        (self.0 & 0xffff) as i32
    }
    /// The register that a result goes to.
    fn to(number: u32) -> Var {
        if number & 31 == 0 { NOBODY } else { gpr(number) }
    }
}

/// What an instruction comes to.
enum Flow {
    /// The next one.
    On,
    /// A branch: to `target` if the condition is not 0.
    Branch { target: u64, likely: bool },
    /// To an address that is always the same.
    Jump { target: u64 },
    /// To the address in `GOAL`.
    JumpVar,
    /// The next one, in a block of its own.
    Stop,
    /// The program counter is set, or it never gets here.
    Gone,
}

struct Translator {
    ops: Vec<Op>,
    insns: Vec<Insn>,
    big: bool,
    mmu: u8,
    cp0: bool,
    cp1: bool,
    /// Whether floating-point registers have 64 bits each (Status.FR).
    whole_fprs: bool,
    level: Level,
}

/// Whether an instruction, in a delay slot, needs a block of its own: it sets what decides how code is translated, or is
/// a branch, which must not be there.
fn stands_alone(w: Word) -> bool {
    match w.op() {
        0 => matches!(w.function(), 0x08 | 0x09 | 0x0c | 0x0d),
        1 => !matches!(w.rt_number(), 0x08..=0x0e | 0x1f),
        2..=7 | 0x10 | 0x14..=0x17 | 0x1d => true,
        0x11 => w.rs_number() == 8,
        _ => false,
    }
}

pub(super) fn block(
    core: &Core<Mips>,
    pc: u64,
    most: usize,
    fetch: &mut Fetch<'_, Fault>,
) -> Result<Code, Fault> {
    let now = Mips::mode(core);
    let mut t = Translator {
        ops: Vec::new(),
        insns: Vec::new(),
        big: core.isa.big,
        mmu: (now >> mode::MMU_SHIFT) as u8 & 3,
        cp0: now & mode::CP0_USABLE != 0,
        cp1: now & mode::CP1_USABLE != 0,
        whole_fprs: now & mode::WHOLE_FPRS != 0,
        level: core.isa.model.level,
    };
    let begins_delayed = now & mode::DELAYED != 0;
    let big = t.big;
    let mut word_at = |offset: u64| fetch(offset).map(|w| Word(if big { w } else { w.swap_bytes() }));
    let room = (PAGE_SIZE - pc % PAGE_SIZE) / 4;
    let most = (most as u64).min(room).max(1);
    let mut n = 0;
    let end = loop {
        let here = pc + n * 4;
        let word = match word_at(n * 4) {
            Ok(word) => word,
            Err(fault) if n == 0 => return Err(fault),
            // It is fetched again, and faults, when the guest gets there.
            Err(_) => break End::Goto(here),
        };
        t.begin(here, false);
        n += 1;
        if begins_delayed {
            break t.delayed_alone(word, here);
        }
        let flow = t.instruction(word, here);
        let next = here + 4;
        let slot = (n < most).then(|| word_at(n * 4).ok()).flatten().filter(|w| !stands_alone(*w));
        match flow {
            Flow::On if n < most => {}
            Flow::On => break End::Goto(next),
            Flow::Stop => {
                t.ops.push(Op::Const { d: PC, value: next });
                break End::Stop;
            }
            Flow::Gone => break End::Stop,
            Flow::Branch { target, likely: true } => {
                // Not taken, the delay slot is skipped.
                let (at_slot, behind) = (T0, T1);
                t.ops.extend([
                    Op::Const { d: TARGET, value: target },
                    Op::Const { d: at_slot, value: next },
                    Op::Const { d: behind, value: next + 4 },
                    Op::Select { d: PC, c: CONDITION, a: at_slot, b: behind },
                    Op::Copy { d: DELAYED, a: CONDITION },
                ]);
                break End::Here;
            }
            Flow::Branch { target, .. } => match slot {
                Some(word) => {
                    n += 1;
                    t.delayed(word, next);
                    break End::Branch { c: CONDITION, then: target, other: next + 4 };
                }
                None => {
                    t.ops.extend([
                        Op::Const { d: T0, value: target },
                        Op::Const { d: T1, value: next + 4 },
                        Op::Select { d: GOAL, c: CONDITION, a: T0, b: T1 },
                    ]);
                    break t.leave_to_slot(next);
                }
            },
            Flow::Jump { target } => match slot {
                Some(word) => {
                    n += 1;
                    t.delayed(word, next);
                    break End::Goto(target);
                }
                None => {
                    t.ops.push(Op::Const { d: GOAL, value: target });
                    break t.leave_to_slot(next);
                }
            },
            Flow::JumpVar => match slot {
                Some(word) => {
                    n += 1;
                    t.delayed(word, next);
                    break End::GotoVar(GOAL);
                }
                None => break t.leave_to_slot(next),
            },
        }
    };
    Ok(Code { ops: t.ops, insns: t.insns, end, len: n * 4 })
}

/// Whether a CPU of a model has an instruction; those of an FPU count, which kernels emulate where there is none.
pub(crate) fn knows(model: &MipsModel, word: u32) -> bool {
    let mut t = Translator {
        ops: Vec::new(),
        insns: Vec::new(),
        big: true,
        mmu: 0,
        cp0: true,
        cp1: true,
        whole_fprs: true,
        level: model.level,
    };
    let _ = t.instruction(Word(word), 0);
    !t.ops.iter().any(|op| matches!(op, Op::Call { helper: id::RESERVED | id::UNUSABLE, .. }))
}

impl Translator {
    fn begin(&mut self, pc: u64, delayed: bool) {
        self.insns.push(Insn { op: self.ops.len() as u32, pc, delayed });
    }

    /// The delay slot of a branch of this block.
    fn delayed(&mut self, word: Word, pc: u64) {
        self.begin(pc, true);
        // Only what stands in no block of its own comes here.
        let _ = self.instruction(word, pc);
    }

    /// The delay slot that is in a block of its own.
    fn delayed_alone(&mut self, word: Word, pc: u64) -> End {
        let usable = word.op() != 0x11 || self.cp1;
        let flow = match stands_alone(word) && is_branch(word) && usable {
            // Unpredictable in the manual (volume II, section 3.1.1); refused, so that no guest depends on it.
            true => self.raise(id::RESERVED, 0),
            false => self.instruction(word, pc),
        };
        match flow {
            Flow::Stop => {
                self.ops.push(Op::Copy { d: PC, a: TARGET });
                self.ops.push(Op::Const { d: DELAYED, value: 0 });
                End::Stop
            }
            Flow::Gone => End::Stop,
            _ => End::GotoVar(TARGET),
        }
    }

    /// Leaves a branch to the block with its delay slot.
    fn leave_to_slot(&mut self, slot: u64) -> End {
        self.ops.extend([
            Op::Copy { d: TARGET, a: GOAL },
            Op::Const { d: PC, value: slot },
            Op::Const { d: DELAYED, value: 1 },
        ]);
        End::Here
    }

    fn call(&mut self, helper: u16, d: Var, a: Var, b: Var) -> Flow {
        self.ops.push(Op::Call { helper, d, a, b });
        Flow::On
    }

    fn raise(&mut self, helper: u16, a: u64) -> Flow {
        self.ops.push(Op::Const { d: T0, value: a });
        self.call(helper, NOBODY, T0, T0);
        Flow::Gone
    }

    fn branch_if(&mut self, cond: Cond, w: Word, b: Var, pc: u64, likely: bool) -> Flow {
        self.set(cond, CONDITION, w.rs(), b);
        Flow::Branch { target: branch_target(w, pc), likely }
    }

    /// A branch on the sign of `rs`; `negated` for the opposite condition.
    fn branch_sign(&mut self, cond: Cond, negated: bool, w: Word, pc: u64, likely: bool) -> Flow {
        self.ops.push(Op::SetImm { cond, ty: Ty::I32, d: CONDITION, a: w.rs(), imm: 0 });
        if negated {
            self.ops.push(Op::AluImm { op: Alu::Xor, ty: Ty::I32, d: CONDITION, a: CONDITION, imm: 1 });
        }
        Flow::Branch { target: branch_target(w, pc), likely }
    }

    fn link(&mut self, number: u32, pc: u64) {
        self.ops.push(Op::Const { d: Word::to(number), value: pc.wrapping_add(8) & 0xffff_ffff });
    }

    fn instruction(&mut self, w: Word, pc: u64) -> Flow {
        // That a coprocessor may not be used comes first.
        let usable = match w.op() {
            0x10 => self.cp0,
            0x11 => self.cp1,
            _ => true,
        };
        if usable && !self.level.has(w.0) {
            return self.raise(id::RESERVED, 0);
        }
        match w.op() {
            0x00 => self.special(w, pc),
            0x01 => self.regimm(w, pc),
            0x02 => Flow::Jump { target: jump_target(w, pc) },
            0x03 => {
                self.link(31, pc);
                Flow::Jump { target: jump_target(w, pc) }
            }
            0x04 | 0x14 => self.branch_if(Cond::Eq, w, w.rt(), pc, w.op() == 0x14),
            0x05 | 0x15 => self.branch_if(Cond::Ne, w, w.rt(), pc, w.op() == 0x15),
            0x06 | 0x16 if w.rt_number() == 0 => self.branch_sign(Cond::LeS, false, w, pc, w.op() == 0x16),
            0x07 | 0x17 if w.rt_number() == 0 => self.branch_sign(Cond::LeS, true, w, pc, w.op() == 0x17),
            0x08 => {
                self.ops.push(Op::Const { d: T0, value: u64::from(w.signed() as u32) });
                self.call(id::ADD, Word::to(w.rt_number()), w.rs(), T0)
            }
            0x09 => self.alu_imm(Alu::Add, w.rt_number(), w.rs(), w.signed()),
            0x0a | 0x0b => {
                let cond = if w.op() == 0x0a { Cond::LtS } else { Cond::LtU };
                let d = Word::to(w.rt_number());
                self.ops.push(Op::SetImm { cond, ty: Ty::I32, d, a: w.rs(), imm: w.signed() });
                Flow::On
            }
            0x0c => self.alu_imm(Alu::And, w.rt_number(), w.rs(), w.unsigned()),
            0x0d => self.alu_imm(Alu::Or, w.rt_number(), w.rs(), w.unsigned()),
            0x0e => self.alu_imm(Alu::Xor, w.rt_number(), w.rs(), w.unsigned()),
            0x0f if w.rs_number() == 0 => {
                let value = u64::from((w.unsigned() as u32) << 16);
                self.ops.push(Op::Const { d: Word::to(w.rt_number()), value });
                Flow::On
            }
            0x10 => self.cop0(w),
            0x11 => self.cop1(w, pc),
            0x13 => self.cop1x(w),
            0x31 | 0x35 | 0x39 | 0x3d => self.fpu_memory(w),
            0x12 | 0x32 | 0x36 | 0x3a | 0x3e => self.raise(id::UNUSABLE, 2),
            0x1c => self.special2(w),
            0x1f => self.special3(w),
            0x20 => self.load(w, 1, true),
            0x21 => self.load(w, 2, true),
            0x22 => self.by_helper(w, id::LWL, true),
            0x23 => self.load(w, 4, false),
            0x24 => self.load(w, 1, false),
            0x25 => self.load(w, 2, false),
            0x26 => self.by_helper(w, id::LWR, true),
            0x28 => self.store(w, 1),
            0x29 => self.store(w, 2),
            0x2a => self.by_helper(w, id::SWL, false),
            0x2b => self.store(w, 4),
            0x2e => self.by_helper(w, id::SWR, false),
            0x2f if self.cp0 => {
                self.ops.extend([
                    Op::AluImm { op: Alu::Add, ty: Ty::I32, d: T0, a: w.rs(), imm: w.signed() },
                    Op::Const { d: T1, value: w.rt_number().into() },
                ]);
                self.call(id::CACHE, NOBODY, T0, T1)
            }
            0x2f => self.raise(id::UNUSABLE, 0),
            0x30 => self.by_helper(w, id::LL, true),
            // A hint.
            0x33 => Flow::On,
            0x38 => self.by_helper(w, id::SC, true),
            _ => self.raise(id::RESERVED, 0),
        }
    }
}

fn is_branch(w: Word) -> bool {
    match w.op() {
        0 => matches!(w.function(), 0x08 | 0x09),
        1 => !matches!(w.rt_number(), 0x08..=0x0e | 0x1f),
        2..=7 | 0x14..=0x17 => true,
        0x10 => w.rs_number() >= 0x10 && matches!(w.function(), 0x18 | 0x1f),
        0x11 => w.rs_number() == 8,
        _ => false,
    }
}

fn branch_target(w: Word, pc: u64) -> u64 {
    u64::from((pc as u32).wrapping_add(4).wrapping_add_signed(w.signed() << 2))
}

fn jump_target(w: Word, pc: u64) -> u64 {
    u64::from((pc as u32).wrapping_add(4) & 0xf000_0000 | (w.0 & 0x03ff_ffff) << 2)
}
