//! Registers as debuggers see them: gdb's numbers, names and features.
//!
//! Only the words; values come from [`Isa::debug_register`](crate::Isa::debug_register), and the gdb server makes target
//! descriptions of them.

/// How a debugger shows a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugType {
    /// A number.
    Int,
    /// An address of code.
    CodePointer,
    /// An address of data.
    DataPointer,
    /// A binary floating-point number of IEEE 754, in single or double precision by its size.
    Float,
}

impl DebugType {
    /// The type's name in a target description, for a register of so many bits.
    #[must_use]
    pub fn name(self, bits: u32) -> &'static str {
        match self {
            DebugType::Int => "int",
            DebugType::CodePointer => "code_ptr",
            DebugType::DataPointer => "data_ptr",
            DebugType::Float if bits == 32 => "ieee_single",
            DebugType::Float => "ieee_double",
        }
    }
}

/// A register that a debugger sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugRegister {
    /// gdb's name for it.
    pub name: &'static str,
    /// Its size in bits: a multiple of 8, 64 at most.
    pub bits: u32,
    /// gdb's number for it, which its packets use; not its place in the list.
    pub number: u32,
    /// The feature of the target description that it is part of, such as `org.gnu.gdb.mips.cpu`.
    pub feature: &'static str,
    /// How it is shown.
    pub kind: DebugType,
    /// The group that a debugger lists it in (`general`, `float`, `system`); `None` leaves that to the debugger. Those of
    /// the group `system` are not saved around calls that a debugger makes.
    pub group: Option<&'static str>,
}

impl DebugRegister {
    /// Its size in bytes, in gdb's packets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bits as usize / 8
    }
}
