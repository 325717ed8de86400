//! The intermediate representation that guest code becomes.
//!
//! What it is: straight runs of typed operations on variables, without control flow inside; an [`End`] says where a run
//! goes. What it is not: how it is executed (the interpreter is one way, `docs/cpu.md` tells how a translator to
//! host code would do it). What must always hold: a variable below [`Var::FIRST_TEMP`] is a slot of the guest's state and
//! has its value after each guest instruction; temporaries live within one block. Values of type [`Ty::I32`] are kept
//! with their upper half zero.

use std::fmt;

/// A variable: a slot of the guest's state, which outlives the block, or a temporary.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Var(u8);

impl Var {
    /// Variables from here on are temporaries.
    pub const FIRST_TEMP: u8 = 192;
    /// How many there are, slots and temporaries.
    pub const COUNT: usize = 256;

    /// A slot of the guest's state; beyond the last one, the last one.
    #[must_use]
    pub const fn slot(n: u8) -> Self {
        Self(if n < Self::FIRST_TEMP { n } else { Self::FIRST_TEMP - 1 })
    }

    /// A temporary, of 64.
    #[must_use]
    pub const fn temp(n: u8) -> Self {
        Self(Self::FIRST_TEMP | (n & 63))
    }

    /// Whether it is one.
    #[must_use]
    pub const fn is_temp(self) -> bool {
        self.0 >= Self::FIRST_TEMP
    }

    /// Where it stands among all variables.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_temp() { write!(f, "t{}", self.0 - Self::FIRST_TEMP) } else { write!(f, "s{}", self.0) }
    }
}

/// The type an operation works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ty {
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
}

/// Operations of two values. Results wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alu {
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Low half of the product.
    Mul,
    /// Signed quotient, rounded to 0; by 0, or where it overflows, the dividend.
    DivS,
    /// Unsigned quotient; by 0 the dividend.
    DivU,
    /// Signed remainder; by 0, or where the quotient overflows, 0.
    RemS,
    /// Unsigned remainder; by 0, 0.
    RemU,
    /// Bits of both.
    And,
    /// Bits of either.
    Or,
    /// Bits of one of them.
    Xor,
    /// Bits of neither.
    Nor,
    /// Shift left by the low bits of the second value (5 of them, or 6).
    Shl,
    /// Logical shift right, likewise.
    ShrU,
    /// Arithmetic shift right, likewise.
    ShrS,
    /// Rotation right, likewise.
    RotR,
}

/// Operations of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unary {
    /// The other bits.
    Not,
    /// The negative.
    Neg,
    /// Leading zeros.
    Clz,
    /// Leading ones.
    Clo,
    /// The low 8 bits, sign-extended.
    Sext8,
    /// The low 16 bits, sign-extended.
    Sext16,
    /// The low 32 bits, sign-extended.
    Sext32,
    /// The low 8 bits.
    Zext8,
    /// The low 16 bits.
    Zext16,
    /// The low 32 bits.
    Zext32,
    /// Bytes in the opposite order.
    Swap,
    /// The two bytes of each half-word in the opposite order.
    SwapHalves,
    /// The upper 32 of 64 bits.
    High,
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cond {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less, signed.
    LtS,
    /// Less or equal, signed.
    LeS,
    /// Less, unsigned.
    LtU,
    /// Less or equal, unsigned.
    LeU,
}

/// A guest's memory access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemOp {
    /// In bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Whether a load extends the sign, to 32 bits.
    pub signed: bool,
    /// Whether the lowest address has the most significant byte.
    pub big: bool,
    /// Whether the guest faults where the address is not a multiple of the size; else it is allowed.
    pub aligned: bool,
    /// Which MMU of the guest translates: user, kernel, …
    pub mmu: u8,
}

/// One operation. Loads, stores and calls may fault; the guest's state is then that before the instruction they are part
/// of, if the front end writes slots after them only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `d = value`
    Const {
        /// Result.
        d: Var,
        /// The value.
        value: u64,
    },
    /// `d = a`
    Copy {
        /// Result.
        d: Var,
        /// Operand.
        a: Var,
    },
    /// `d = a op b`
    Alu {
        /// What.
        op: Alu,
        /// In.
        ty: Ty,
        /// Result.
        d: Var,
        /// First operand.
        a: Var,
        /// Second operand.
        b: Var,
    },
    /// `d = a op imm`, the immediate sign-extended to the type.
    AluImm {
        /// What.
        op: Alu,
        /// In.
        ty: Ty,
        /// Result.
        d: Var,
        /// First operand.
        a: Var,
        /// Second operand.
        imm: i32,
    },
    /// `d = op a`
    Unary {
        /// What.
        op: Unary,
        /// In.
        ty: Ty,
        /// Result.
        d: Var,
        /// Operand.
        a: Var,
    },
    /// `d = 1` if `a cond b`, else 0.
    Set {
        /// What is asked.
        cond: Cond,
        /// In.
        ty: Ty,
        /// Result.
        d: Var,
        /// First operand.
        a: Var,
        /// Second operand.
        b: Var,
    },
    /// `d = 1` if `a cond imm`, else 0, the immediate sign-extended to the type.
    SetImm {
        /// What is asked.
        cond: Cond,
        /// In.
        ty: Ty,
        /// Result.
        d: Var,
        /// First operand.
        a: Var,
        /// Second operand.
        imm: i32,
    },
    /// `d = low | 8` if `a` is less than `b`, `low | 4` if it is greater, else `low | 2`: a field of a condition register.
    Order {
        /// Whether the values are signed.
        signed: bool,
        /// In.
        ty: Ty,
        /// Result.
        d: Var,
        /// First operand.
        a: Var,
        /// Second operand.
        b: Var,
        /// What the result has beside, below 2.
        low: Var,
    },
    /// The same for an immediate, which is sign-extended to the type.
    OrderImm {
        /// Whether the values are signed.
        signed: bool,
        /// In.
        ty: Ty,
        /// Result.
        d: Var,
        /// First operand.
        a: Var,
        /// Second operand.
        imm: i32,
        /// What the result has beside, below 2.
        low: Var,
    },
    /// `d = a` if `c` is not 0, else `b`.
    Select {
        /// Result.
        d: Var,
        /// What decides.
        c: Var,
        /// If not 0.
        a: Var,
        /// If 0.
        b: Var,
    },
    /// `d = memory[base + disp]`, the address in 32 bits.
    Load {
        /// Result.
        d: Var,
        /// Address.
        base: Var,
        /// Added to it.
        disp: i32,
        /// How.
        mem: MemOp,
    },
    /// `memory[base + disp] = s`
    Store {
        /// Value.
        s: Var,
        /// Address.
        base: Var,
        /// Added to it.
        disp: i32,
        /// How.
        mem: MemOp,
    },
    /// `d = helper(a, b)`: what the front end does in Rust.
    Call {
        /// Which of the front end's helpers.
        helper: u16,
        /// Result.
        d: Var,
        /// First argument.
        a: Var,
        /// Second argument.
        b: Var,
    },
}

/// Where a block goes. The guest's program counter is set from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// To a known address.
    Goto(u64),
    /// To `then` if the variable is not 0, else to `other`.
    Branch {
        /// What decides.
        c: Var,
        /// If not 0.
        then: u64,
        /// If 0.
        other: u64,
    },
    /// To the address in a variable.
    GotoVar(Var),
    /// The program counter is set already.
    Here,
    /// The program counter is set already, and what decides how code is translated may have changed.
    Stop,
}

/// Where a guest instruction begins in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// The index of its first operation.
    pub op: u32,
    /// Its address.
    pub pc: u64,
    /// Whether it stands in the delay slot of a branch that is in this block.
    pub delayed: bool,
}

/// A run of guest instructions, all from one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// What to do.
    pub ops: Vec<Op>,
    /// Its instructions, in order.
    pub insns: Vec<Insn>,
    /// Where it goes.
    pub end: End,
    /// Bytes of guest code that it was made from.
    pub len: u64,
}

impl Code {
    /// The instruction that an operation is part of; an operation before all of them counts to the first.
    #[must_use]
    pub fn insn_of(&self, op: usize) -> Option<(usize, Insn)> {
        let after = self.insns.partition_point(|i| i.op as usize <= op);
        let at = after.saturating_sub(1);
        self.insns.get(at).map(|i| (at, *i))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut insns = self.insns.iter().peekable();
        for (i, op) in self.ops.iter().enumerate() {
            while let Some(insn) = insns.next_if(|n| n.op as usize <= i) {
                writeln!(f, "{:#010x}{}", insn.pc, if insn.delayed { " (delay slot)" } else { "" })?;
            }
            writeln!(f, "    {op:?}")?;
        }
        for insn in insns {
            writeln!(f, "{:#010x}", insn.pc)?;
        }
        writeln!(f, "    {:?}", self.end)
    }
}
