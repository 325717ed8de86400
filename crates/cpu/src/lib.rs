//! Guest CPUs over Flatview's memory.
//!
//! Guest code becomes blocks of one [intermediate representation](ir), which an interpreter runs; loads and stores go
//! through a soft TLB and then through a [`Reader`](flatview::Reader), so that whatever the memory map says holds for the
//! next instruction. [`Isa`] is what an instruction set brings along, [`Cpu`] runs it, [`mips`] and [`ppc`] are two.
//!
//! Where things are: [`ir`] what blocks are made of, `interp` how they run, `cache` where they are kept, `tlb` and
//! [`core`](Core) the way to memory, [`float`] the arithmetic of FPUs, [`Inputs`] what reaches a CPU from outside,
//! [`Watches`] who looks at its accesses, [`Disassembler`] instructions as text.

mod cache;
mod core;
mod cpu;
mod debug;
mod disassemble;
pub mod float;
mod foreign;
mod guest;
mod inputs;
mod interp;
pub mod ir;
mod isa;
mod map_changes;
mod mappings;
pub mod mips;
pub mod ppc;
mod tlb;
mod trace;
mod values;
mod watch;

pub use self::core::Core;
pub use cpu::{Cpu, Exit};
pub use debug::{DebugRegister, DebugType};
pub use disassemble::Disassembler;
pub use guest::GuestCpu;
pub use inputs::Inputs;
pub use isa::{BusError, Fetch, Helper, Isa, Place};
pub use tlb::{Kind, MMUS, Mapping, PAGE_BITS, PAGE_SIZE};
pub use watch::{Verdict, Watch, WatchId, WatchedAccess, Watcher, Watches};
