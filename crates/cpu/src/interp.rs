//! The interpreter: one block's operations, one after the other.
//!
//! What it is: the reference for what the intermediate representation means when it runs. What it is not: the choice of
//! the next block ([`Cpu`](crate::Cpu)). What must always hold: it ends at a boundary of guest instructions, with the
//! program counter set.

use crate::core::{Core, Trouble};
use crate::ir::{Code, End, Op};
use crate::isa::{Isa, Place};
use crate::values::{alu, holds, order, unary};

/// How a block's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// At one of its two known ends.
    Linked(usize),
    /// Anywhere else; the program counter says where.
    Elsewhere,
    /// What decides how code is translated may have changed.
    Stopped,
    /// Before its end, because there is something to look at. So many instructions were done.
    Early(usize),
    /// In an exception, which was taken. So many instructions were done.
    Faulted(usize),
    /// Before an instruction that a watcher stopped, or the branch in whose delay slot it is. So many instructions were done.
    Broken {
        /// How many.
        done: usize,
        /// Whether it is the branch.
        at_branch: bool,
    },
}

/// Runs a block from its first operation on.
#[inline]
pub(crate) fn run<I: Isa>(core: &mut Core<I>, code: &Code) -> Ran {
    let ran = match core.executed {
        None => run_ops::<I, false>(core, code, 0, code.ops.len(), true),
        Some(_) => run_counted(core, code),
    };
    match ran {
        Ok(None) => finish(core, code),
        Ok(Some(op)) => leave_after(core, code, op),
        Err((op, trouble)) => trouble_at(core, code, op, trouble),
    }
}

/// Runs all operations for somebody who wants to know how far the block is.
#[inline(never)]
fn run_counted<I: Isa>(core: &mut Core<I>, code: &Code) -> Result<Option<usize>, (usize, Trouble<I::Fault>)> {
    run_ops::<I, true>(core, code, 0, code.ops.len(), true)
}

/// Says how many instructions were done before the one that an operation is part of.
#[inline(always)]
fn tell_executed<I: Isa>(core: &Core<I>, code: &Code, op: usize) {
    if let Some(executed) = &core.executed {
        executed.set(core.before + code.insn_of(op).map_or(0, |(done, _)| done as u64));
    }
}

/// Goes where the block goes.
#[inline(always)]
fn finish<I: Isa>(core: &mut Core<I>, code: &Code) -> Ran {
    match code.end {
        End::Goto(target) => {
            I::go_to(core, target);
            Ran::Linked(0)
        }
        End::Branch { c, then, other } => {
            let taken = core.get(c) != 0;
            I::go_to(core, if taken { then } else { other });
            Ran::Linked(usize::from(taken))
        }
        End::GotoVar(a) => {
            let target = core.get(a);
            I::go_to(core, target);
            Ran::Elsewhere
        }
        End::Here => Ran::Elsewhere,
        End::Stop => Ran::Stopped,
    }
}

/// Ends the instruction that an operation is part of, and leaves the block behind it.
#[cold]
fn leave_after<I: Isa>(core: &mut Core<I>, code: &Code, op: usize) -> Ran {
    let next = code.insn_of(op).map_or(0, |(n, _)| n + 1);
    // A branch and its delay slot are left together: what follows is the end.
    let next = if code.insns.get(next).is_some_and(|i| i.delayed) { next + 1 } else { next };
    let until = code.insns.get(next).map_or(code.ops.len(), |i| i.op as usize);
    match run_ops::<I, true>(core, code, op + 1, until, false) {
        Ok(_) => match code.insns.get(next) {
            Some(insn) => {
                I::go_to(core, insn.pc);
                Ran::Early(next)
            }
            None => match finish(core, code) {
                Ran::Stopped => Ran::Stopped,
                _ => Ran::Elsewhere,
            },
        },
        Err((op, trouble)) => trouble_at(core, code, op, trouble),
    }
}

#[cold]
fn trouble_at<I: Isa>(core: &mut Core<I>, code: &Code, op: usize, trouble: Trouble<I::Fault>) -> Ran {
    let (done, insn) =
        code.insn_of(op).unwrap_or((0, crate::ir::Insn { op: 0, pc: I::pc(core), delayed: false }));
    let was_delayed = I::place(core).delayed;
    match trouble {
        Trouble::Fault(fault) => {
            // A block that begins in a delay slot has that instruction as its first one.
            let delayed = insn.delayed || (done == 0 && was_delayed);
            I::enter(core, fault, Place { pc: insn.pc, delayed });
            Ran::Faulted(done)
        }
        Trouble::Break => {
            // The branch is done again: a delay slot cannot be entered from the middle of a block.
            let (done, pc, at_branch) =
                match (insn.delayed, done.checked_sub(1).and_then(|n| Some((n, code.insns.get(n)?)))) {
                    (true, Some((n, branch))) => (n, branch.pc, true),
                    _ => (done, insn.pc, false),
                };
            if done > 0 {
                I::go_to(core, pc);
            }
            Ran::Broken { done, at_branch }
        }
    }
}

/// Runs operations; where the CPU should look up, the index of the one it got to. `COUNTED`: it is told before each that
/// may lead out how many instructions were done.
#[inline(always)]
fn run_ops<I: Isa, const COUNTED: bool>(
    core: &mut Core<I>,
    code: &Code,
    from: usize,
    until: usize,
    look_up: bool,
) -> Result<Option<usize>, (usize, Trouble<I::Fault>)> {
    let ops = code.ops.get(from..until).unwrap_or_default();
    for (i, op) in ops.iter().enumerate() {
        match *op {
            Op::Const { d, value } => core.set(d, value),
            Op::Copy { d, a } => core.set(d, core.get(a)),
            Op::Alu { op, ty, d, a, b } => core.set(d, alu(op, ty, core.get(a), core.get(b))),
            Op::AluImm { op, ty, d, a, imm } => core.set(d, alu(op, ty, core.get(a), i64::from(imm) as u64)),
            Op::Unary { op, ty, d, a } => core.set(d, unary(op, ty, core.get(a))),
            Op::Set { cond, ty, d, a, b } => {
                core.set(d, u64::from(holds(cond, ty, core.get(a), core.get(b))));
            }
            Op::SetImm { cond, ty, d, a, imm } => {
                core.set(d, u64::from(holds(cond, ty, core.get(a), i64::from(imm) as u64)));
            }
            Op::Order { signed, ty, d, a, b, low } => {
                core.set(d, order(signed, ty, core.get(a), core.get(b)) | core.get(low));
            }
            Op::OrderImm { signed, ty, d, a, imm, low } => {
                core.set(d, order(signed, ty, core.get(a), i64::from(imm) as u64) | core.get(low));
            }
            Op::Select { d, c, a, b } => {
                let from = if core.get(c) != 0 { a } else { b };
                core.set(d, core.get(from));
            }
            Op::Load { d, base, disp, mem } => {
                if COUNTED {
                    tell_executed(core, code, from + i);
                }
                let va = u64::from(core.get32(base).wrapping_add_signed(disp));
                let value = core.load(va, mem).map_err(|t| (from + i, t))?;
                core.set(d, value);
                if look_up && core.leaves() {
                    return Ok(Some(from + i));
                }
            }
            Op::Store { s, base, disp, mem } => {
                if COUNTED {
                    tell_executed(core, code, from + i);
                }
                let va = u64::from(core.get32(base).wrapping_add_signed(disp));
                core.store(va, core.get(s), mem).map_err(|t| (from + i, t))?;
                if look_up && core.leaves() {
                    return Ok(Some(from + i));
                }
            }
            Op::Call { helper, d, a, b } => {
                if COUNTED {
                    tell_executed(core, code, from + i);
                }
                let (a, b) = (core.get(a), core.get(b));
                if let Some(call) = I::helpers().get(usize::from(helper)) {
                    let value = call(core, a, b).map_err(|fault| (from + i, Trouble::Fault(fault)))?;
                    core.set(d, value);
                    // It may have stored.
                    if look_up && core.leaves() {
                        return Ok(Some(from + i));
                    }
                }
            }
        }
    }
    Ok(None)
}
