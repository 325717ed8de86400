//! What differs between the instruction sets that are compared.
//!
//! What it is: all that the driver asks of one: its registers in gdb's order, what it must know of an instruction word, how its
//! two machines are started, what is peculiar to stepping it on QEMU. What it is not: what is run (`random`, `isa_tests`).

use std::path::Path;
use std::process::Command;

use flatview::{AddressSpace, Endianness, Memory};
use flatview_cpu::{Cpu, Isa};

use crate::lockstep::Lockstep;
use crate::masks::Masks;
use crate::state::State;
use crate::target::ByGdb;

/// An instruction set with the two machines that it is compared on.
pub trait Guest: Sized + 'static {
    /// Ours, as a CPU.
    type Cpu: Isa;

    /// What its table in `docs/lockstep.md` is called, and the program of ours that a failure names.
    const NAME: &'static str;
    /// The byte orders there are.
    const ORDERS: &'static [Endianness];
    /// How many words gdb's registers are, those of 64 bits being two.
    const WORDS: usize;
    /// Which one of them is the program counter.
    const PC: usize;
    /// Those that are not set with the others.
    const KEPT: &'static [usize];
    /// Those that a failure shows.
    const SHOWN: &'static [usize];
    /// Whether an instruction behind a branch belongs to it.
    const DELAY_SLOTS: bool;
    /// Whether what is stored is compared behind the store, and not behind the next branch: where the next instruction may
    /// change what an address means.
    const STORES_AT_ONCE: bool;

    /// What gdb calls a register.
    fn register_name(n: usize) -> String;

    /// Which instruction a word is; nothing for those that there are not.
    fn mnemonic(word: u32) -> Option<&'static str>;

    fn is_branch(word: u32) -> bool;

    /// Whether exceptions go to an address.
    fn is_vector(pc: u32) -> bool;

    /// Whether an exception's handler is at an address.
    fn in_handler(pc: u32) -> bool {
        Self::is_vector(pc)
    }

    /// The name of the register that a line of the table means behind an instruction.
    fn register_behind(name: &str, _: u32) -> String {
        name.to_owned()
    }

    /// The address and the number of words that a store may touch.
    fn stored(word: u32, before: &State) -> Option<(u32, u32)>;

    /// Bits that are not compared of what an instruction reads, and the general register it goes to.
    fn read_by(word: u32, masks: &Masks) -> Option<(usize, u32)>;

    /// By which address the driver can read the instruction at an address, and whether that is memory which only stores
    /// change; nothing where no instruction is.
    fn code_at(at: u32) -> Option<(u32, bool)>;

    /// Before an instruction is stepped.
    fn prepare(_: &mut Lockstep<Self>, _: u32, _: Option<u32>) {}

    /// Behind it: what must be done to see both at the same place.
    fn settle(_: &mut Lockstep<Self>, _: u32, _: Option<u32>, _: &mut State, _: &mut State) {}

    /// QEMU's program for a byte order, and Debian's package.
    fn qemu_program(order: Endianness) -> (&'static str, &'static str);

    /// What QEMU and ours are started with besides what all guests have; a file may be made in the folder.
    fn arguments(command: &mut Command, ours: bool, order: Endianness, folder: &Path);

    /// Has no device of a board interrupt.
    fn silence(target: &mut ByGdb<Self>, ours: bool);

    /// Ours without a board.
    fn cpu(order: Endianness) -> (Cpu<Self::Cpu>, Memory, AddressSpace);

    /// Where a debugger's store to a virtual address goes.
    fn physical(at: u32) -> u32;
}
