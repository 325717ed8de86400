//! From PowerPC instructions to blocks.
//!
//! A block ends behind a branch, before the end of its page, or behind an instruction that may change how code is
//! translated. What must always hold: an instruction's slots are written after everything in it that may fault.
//!
//! Instructions are described in chapter 8 of the PEM, in alphabetical order.

mod branch;
mod float;
mod integer;
mod memory;
mod system;

use super::except::srr1;
use super::float::is_operation as is_float_operation;
use super::helpers::id;
use super::state::mode;
use super::{CR, Fault, Ppc, PpcModel, SO, gpr};
use crate::core::Core;
use crate::ir::{Alu, Code, Cond, End, Insn, Op, Ty, Unary, Var};
use crate::isa::Fetch;
use crate::tlb::PAGE_SIZE;

/// Where results go that nobody wants.
const NOBODY: Var = Var::temp(63);
/// What a branch depends on, and where it goes.
const CONDITION: Var = Var::temp(60);
const GOAL: Var = Var::temp(61);
/// Temporaries of one instruction.
const T0: Var = Var::temp(0);
const T1: Var = Var::temp(1);
const T2: Var = Var::temp(2);
const T3: Var = Var::temp(3);

/// SRR1 of an instruction that users may not use.
const SRR_PRIVILEGED: u32 = srr1::PRIVILEGED;

/// Fields of an instruction word; bit 0 is the most significant in the manual.
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    fn opcode(self) -> u32 {
        self.0 >> 26
    }
    /// The extended opcode of most forms.
    fn extended(self) -> u32 {
        self.0 >> 1 & 0x3ff
    }
    /// rD, rS, BO, TO, crbD.
    fn d(self) -> u32 {
        self.0 >> 21 & 31
    }
    /// rA, BI, crbA.
    fn a(self) -> u32 {
        self.0 >> 16 & 31
    }
    /// rB, SH, NB, crbB.
    fn b(self) -> u32 {
        self.0 >> 11 & 31
    }
    /// frC, MB.
    fn c(self) -> u32 {
        self.0 >> 6 & 31
    }
    /// ME
    fn me(self) -> u32 {
        self.0 >> 1 & 31
    }
    fn rd(self) -> Var {
        gpr(self.d())
    }
    fn ra(self) -> Var {
        gpr(self.a())
    }
    fn rb(self) -> Var {
        gpr(self.b())
    }
    fn signed(self) -> i32 {
        i32::from(self.0 as i16)
    }
    fn unsigned(self) -> u32 {
        self.0 & 0xffff
    }
    /// Rc, and LK.
    fn rc(self) -> bool {
        self.0 & 1 != 0
    }
    fn oe(self) -> bool {
        self.0 & 0x400 != 0
    }
    /// The register number of `mfspr`, whose halves are swapped.
    fn spr(self) -> u32 {
        self.a() | self.b() << 5
    }
    fn crf_d(self) -> Var {
        cr_field(self.0 >> 23)
    }
}

/// A field of the condition register.
fn cr_field(n: u32) -> Var {
    Var::slot(CR[0].index() as u8 + (n & 7) as u8)
}

/// What an instruction comes to.
#[derive(Clone, Copy)]
enum Flow {
    /// The next one.
    On,
    /// To an address that is always the same.
    Goto(u64),
    /// There if `CONDITION` is not 0.
    Branch(u64),
    /// To the address in `GOAL`.
    GotoVar,
    /// The next one, in a block of its own.
    Stop,
    /// The program counter is set, or it never gets here.
    Gone,
}

struct Translator {
    ops: Vec<Op>,
    insns: Vec<Insn>,
    /// For data.
    mmu: u8,
    mode: u32,
    /// The 755 has `tlbld` and `tlbli`.
    loads_tlbs: bool,
}

pub(super) fn block(
    core: &Core<Ppc>,
    pc: u64,
    most: usize,
    fetch: &mut Fetch<'_, Fault>,
) -> Result<Code, Fault> {
    let now = core.isa.mode();
    let mut t = Translator {
        ops: Vec::new(),
        insns: Vec::new(),
        mmu: core.isa.mmu_of(crate::tlb::Kind::Read),
        mode: now,
        loads_tlbs: core.isa.model.family == super::Family::Ppc755,
    };
    let alone = now & (mode::STEP | mode::BRANCHES | mode::BREAKPOINT) != 0;
    let room = (PAGE_SIZE - pc % PAGE_SIZE) / 4;
    let most = if alone { 1 } else { (most as u64).min(room).max(1) };
    let mut n = 0;
    let end = loop {
        let here = pc + n * 4;
        let word = match fetch(n * 4) {
            Ok(word) => Word(word),
            Err(fault) if n == 0 => return Err(fault),
            // It is fetched again, and faults, when the guest gets there.
            Err(_) => break End::Goto(here),
        };
        t.insns.push(Insn { op: t.ops.len() as u32, pc: here, delayed: false });
        n += 1;
        if now & mode::BREAKPOINT != 0 {
            t.constant(T0, here as u32);
            t.call(id::BREAKPOINT, NOBODY, T0, T0);
        }
        let next = u64::from((here as u32).wrapping_add(4));
        let flow = t.instruction(word, here as u32);
        if alone {
            break t.end_alone(flow, next);
        }
        match flow {
            Flow::On if n < most => {}
            Flow::On => break End::Goto(next),
            Flow::Goto(target) => break End::Goto(target),
            Flow::Branch(target) => break End::Branch { c: CONDITION, then: target, other: next },
            Flow::GotoVar => break End::GotoVar(GOAL),
            Flow::Stop => {
                t.constant(super::PC, next as u32);
                break End::Stop;
            }
            Flow::Gone => break End::Stop,
        }
    };
    Ok(Code { ops: t.ops, insns: t.insns, end, len: n * 4 })
}

/// Whether a CPU of a model has an instruction.
pub(crate) fn knows(model: &PpcModel, word: u32) -> bool {
    let mut t = Translator {
        ops: Vec::new(),
        insns: Vec::new(),
        mmu: 0,
        mode: mode::FP,
        loads_tlbs: model.family == super::Family::Ppc755,
    };
    let _ = t.instruction(Word(word), 0);
    t.ops.iter().all(|op| match op {
        Op::Call { helper: id::PROGRAM, .. } => false,
        Op::Call { helper: id::FLOAT, .. } => is_float_operation(word),
        _ => true,
    })
}

impl Translator {
    /// The end of the only instruction of a block, which may be traced.
    fn end_alone(&mut self, flow: Flow, next: u64) -> End {
        let is_branch = matches!(flow, Flow::Goto(_) | Flow::Branch(_) | Flow::GotoVar);
        match flow {
            Flow::On | Flow::Stop => self.constant(super::PC, next as u32),
            Flow::Goto(target) => self.constant(super::PC, target as u32),
            Flow::Branch(target) => {
                self.constant(T0, target as u32);
                self.constant(T1, next as u32);
                self.ops.push(Op::Select { d: super::PC, c: CONDITION, a: T0, b: T1 });
            }
            Flow::GotoVar => self.ops.push(Op::Copy { d: super::PC, a: GOAL }),
            Flow::Gone => return End::Stop,
        }
        if self.mode & mode::STEP != 0 || (is_branch && self.mode & mode::BRANCHES != 0) {
            self.call(id::TRACED, NOBODY, NOBODY, NOBODY);
        }
        End::Stop
    }

    fn constant(&mut self, d: Var, value: u32) {
        self.ops.push(Op::Const { d, value: value.into() });
    }

    fn call(&mut self, helper: u16, d: Var, a: Var, b: Var) {
        self.ops.push(Op::Call { helper, d, a, b });
    }

    fn alu(&mut self, op: Alu, d: Var, a: Var, b: Var) {
        self.ops.push(Op::Alu { op, ty: Ty::I32, d, a, b });
    }

    fn alu_imm(&mut self, op: Alu, d: Var, a: Var, imm: i32) {
        self.ops.push(Op::AluImm { op, ty: Ty::I32, d, a, imm });
    }

    fn unary(&mut self, op: Unary, d: Var, a: Var) {
        self.ops.push(Op::Unary { op, ty: Ty::I32, d, a });
    }

    fn set_imm(&mut self, cond: Cond, d: Var, a: Var, imm: i32) {
        self.ops.push(Op::SetImm { cond, ty: Ty::I32, d, a, imm });
    }

    /// CR0 from a result, where the instruction says so.
    fn record(&mut self, w: Word, result: Var) -> Flow {
        if w.rc() {
            self.ops.push(Op::OrderImm { signed: true, ty: Ty::I32, d: CR[0], a: result, imm: 0, low: SO });
        }
        Flow::On
    }

    /// A program exception.
    fn program(&mut self, srr1: u32) -> Flow {
        self.constant(T0, srr1);
        self.call(id::PROGRAM, NOBODY, T0, T0);
        Flow::Gone
    }

    fn illegal(&mut self) -> Flow {
        self.program(srr1::ILLEGAL)
    }

    fn is_user(&self) -> bool {
        self.mode & mode::USER != 0
    }

    fn instruction(&mut self, w: Word, pc: u32) -> Flow {
        match w.opcode() {
            3 => self.trap(w, Some(w.signed())),
            7 | 8 | 12..=15 | 20 | 21 | 23..=29 => self.integer_imm(w),
            10 | 11 => self.compare_imm(w),
            16..=19 => self.branches(w, pc),
            31 => self.opcode_31(w),
            32..=47 => self.load_store(w),
            48..=55 | 59 | 63 => self.float(w),
            _ => self.illegal(),
        }
    }

    fn opcode_31(&mut self, w: Word) -> Flow {
        match w.extended() {
            // OE doubles the numbers of these.
            8 | 10 | 11 | 40 | 75 | 104 | 136 | 138 | 200 | 202 | 232 | 234 | 235 | 266 | 459 | 491 | 520
            | 522 | 552 | 616 | 648 | 650 | 712 | 714 | 744 | 746 | 747 | 778 | 971 | 1003 => {
                self.arithmetic(w)
            }
            0 | 32 => self.compare(w),
            24 | 26 | 28 | 60 | 124 | 284 | 316 | 412 | 444 | 476 | 536 | 792 | 824 | 922 | 954 => {
                self.logical(w)
            }
            4 => self.trap(w, None),
            20 | 150 | 533 | 534 | 597 | 661 | 662 | 725 | 790 | 918 => self.load_store_special(w),
            23 | 55 | 87 | 119 | 151 | 183 | 215 | 247 | 279 | 311 | 343 | 375 | 407 | 439 => {
                self.load_store_indexed(w)
            }
            535 | 567 | 599 | 631 | 663 | 695 | 727 | 759 | 983 => self.float_indexed(w),
            _ => self.system(w),
        }
    }
}
