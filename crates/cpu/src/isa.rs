//! What an instruction set brings along: how its code becomes the intermediate representation, what its MMU says, and
//! how it takes exceptions.

use std::fmt::Debug;

use flatview::{Endianness, MemTxError};

use crate::core::Core;
use crate::debug::DebugRegister;
use crate::disassemble::Disassembler;
use crate::ir::Code;
use crate::tlb::{Kind, Mapping};

/// Where in the guest's code something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The address of the instruction.
    pub pc: u64,
    /// Whether it stands in the delay slot of a branch.
    pub delayed: bool,
}

/// A memory access that failed below the MMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusError {
    /// The guest's address.
    pub va: u64,
    /// The physical address.
    pub phys: u64,
    /// What it was for.
    pub kind: Kind,
    /// Why.
    pub error: MemTxError,
}

/// A helper: what an instruction does that is written in Rust. `a` and `b` are the arguments; the result goes to `d`.
pub type Helper<I> = fn(core: &mut Core<I>, a: u64, b: u64) -> Result<u64, <I as Isa>::Fault>;

/// Asks for the instruction word at an offset from where translation began.
pub type Fetch<'a, F> = dyn FnMut(u64) -> Result<u32, F> + 'a;

/// An instruction set.
pub trait Isa: Send + Sized + 'static {
    /// An exception before it is taken.
    type Fault: Copy + Debug + Send;

    /// What code helpers are called by.
    fn helpers() -> &'static [Helper<Self>];

    /// The address of the next instruction.
    fn pc(core: &Core<Self>) -> u64 {
        Self::place(core).pc
    }

    /// Where the next instruction stands.
    fn place(core: &Core<Self>) -> Place;

    /// Sets the program counter; the next instruction is in no delay slot.
    fn go_to(core: &mut Core<Self>, pc: u64);

    /// All that decides, besides its address, how code is translated.
    fn mode(core: &Core<Self>) -> u32;

    /// Which MMU translates instruction fetches now.
    fn fetch_mmu(core: &Core<Self>) -> u8;

    /// Translates the instructions at `pc`, `most` at most, without leaving the page.
    ///
    /// # Errors
    /// What fetching the first instruction gives.
    fn translate(
        core: &Core<Self>,
        pc: u64,
        most: usize,
        fetch: &mut Fetch<'_, Self::Fault>,
    ) -> Result<Code, Self::Fault>;

    /// What the MMU says of an address.
    ///
    /// # Errors
    /// The exception it takes.
    fn map(core: &mut Core<Self>, va: u64, kind: Kind, mmu: u8) -> Result<Mapping, Self::Fault>;

    /// An access that must be aligned and is not.
    fn misaligned(core: &Core<Self>, va: u64, kind: Kind) -> Self::Fault;

    /// An access that failed below the MMU: an exception, or `None` if the CPU goes on and a load gives 0.
    fn bus_error(core: &Core<Self>, error: &BusError) -> Option<Self::Fault>;

    /// Takes an exception: the state before the instruction at `place` becomes that of the handler's first instruction.
    fn enter(core: &mut Core<Self>, fault: Self::Fault, place: Place);

    /// An interrupt that can be taken now.
    fn interrupt(core: &mut Core<Self>) -> Option<Self::Fault>;

    /// Whether the CPU waits for an interrupt (that need not be one that it takes).
    fn is_waiting(core: &Core<Self>) -> bool;

    /// Whether what it waits for is there; it goes on then.
    fn wakes(core: &mut Core<Self>) -> bool;

    /// The registers as text, in the form of QEMU's `info registers`.
    fn registers(core: &Core<Self>) -> String;

    /// The TLB as text: what `info tlb` prints.
    fn tlb(core: &Core<Self>) -> String;

    /// Which virtual addresses lead where, and who may do what there: what `info mem` prints.
    fn mappings(core: &Core<Self>) -> String;

    /// What shows its code as text.
    fn disassembler(core: &Core<Self>) -> Disassembler;

    /// Where the MMU leads an access to `va`, without an effect on the guest.
    fn physical(core: &Core<Self>, va: u64, kind: Kind) -> Option<u64>;

    /// The architecture in gdb's target descriptions: `mips`, `powerpc:common`.
    fn debug_architecture() -> &'static str;

    /// The registers that a debugger sees, by ascending number.
    fn debug_registers() -> &'static [DebugRegister];

    /// The value of register `n` of [`debug_registers`](Self::debug_registers), without an effect on the guest; 0 if there
    /// are not so many, or this CPU lacks what it is part of.
    fn debug_register(core: &Core<Self>, n: usize) -> u64;

    /// Sets register `n` of [`debug_registers`](Self::debug_registers), as far as a program could; what cannot be set is
    /// left. Who calls it has what the MMU said forgotten ([`Core::flush`]), as
    /// [`Cpu::core_mut`](crate::Cpu::core_mut) does.
    fn set_debug_register(core: &mut Core<Self>, n: usize, value: u64);

    /// The byte order of data, in which debuggers are shown registers too.
    fn debug_order(core: &Core<Self>) -> Endianness;

    /// Whether a debugger that is stopped by a watchpoint is to find the state before the access, as gdb believes of MIPS
    /// (`have_nonsteppable_watchpoint`); else it is that after the instruction.
    fn debug_watches_before() -> bool {
        true
    }

    /// As at power on, or after a reset line: registers, MMU, and where it begins.
    fn reset(core: &mut Core<Self>);
}
