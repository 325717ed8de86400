//! A CPU whatever its instruction set: what a machine needs to run one.

use std::sync::Arc;

use flatview::Endianness;
use flatview_device::{Executed, Log};

use crate::cpu::{Cpu, Exit};
use crate::debug::DebugRegister;
use crate::disassemble::Disassembler;
use crate::inputs::Inputs;
use crate::isa::Isa;
use crate::mips::Mips;
use crate::ppc::Ppc;
use crate::tlb::Kind;
use crate::watch::Watches;

/// A CPU that a machine runs on a thread of its own.
pub trait GuestCpu: Send {
    /// See [`Cpu::run`].
    fn run(&mut self, budget: u64) -> Exit;
    /// See [`Cpu::count_for`].
    fn count_for(&mut self, executed: Executed);
    /// See [`Cpu::set_log`].
    fn set_log(&mut self, log: &Log, number: usize);
    /// See [`Cpu::step`].
    fn step(&mut self) -> Exit;
    /// As by its reset line, to begin at `entry` if a loaded program says so.
    fn reset(&mut self, entry: Option<u64>);
    /// See [`Cpu::park`].
    fn park(&mut self);
    /// See [`Cpu::inputs`].
    fn inputs(&self) -> Arc<Inputs>;
    /// The address of the next instruction.
    fn pc(&self) -> u64;
    /// See [`Cpu::instructions`].
    fn instructions(&self) -> u64;
    /// What `info registers` prints.
    fn registers(&self) -> String;
    /// See [`Isa::disassembler`].
    fn disassembler(&self) -> Disassembler;
    /// See [`Isa::tlb`].
    fn tlb(&self) -> String;
    /// See [`Isa::mappings`].
    fn mappings(&self) -> String;
    /// The physical address of a virtual one, as the CPU's data loads see it now, or else its instruction fetches; nothing is
    /// changed by asking.
    fn physical(&self, va: u64) -> Option<u64>;
    /// The same, as its instruction fetches see it, or else its loads.
    fn physical_code(&self, va: u64) -> Option<u64>;
    /// See [`Isa::is_waiting`].
    fn is_waiting(&self) -> bool;
    /// See [`Cpu::step_masked`].
    fn step_masked(&mut self) -> Exit;
    /// See [`Isa::debug_architecture`].
    fn debug_architecture(&self) -> &'static str;
    /// See [`Isa::debug_registers`].
    fn debug_registers(&self) -> &'static [DebugRegister];
    /// See [`Isa::debug_register`].
    fn debug_register(&self, n: usize) -> u64;
    /// See [`Cpu::set_debug_register`].
    fn set_debug_register(&mut self, n: usize, value: u64);
    /// See [`Isa::debug_order`].
    fn debug_order(&self) -> Endianness;
    /// See [`Isa::debug_watches_before`].
    fn debug_watches_before(&self) -> bool;
    /// See [`Cpu::add_breakpoint`].
    fn add_breakpoint(&mut self, pc: u64) -> bool;
    /// See [`Cpu::remove_breakpoint`].
    fn remove_breakpoint(&mut self, pc: u64) -> bool;
    /// See [`Cpu::has_breakpoint`].
    fn has_breakpoint(&self, pc: u64) -> bool;
    /// See [`Cpu::finish_watched`].
    fn finish_watched(&mut self);
    /// See [`Cpu::pass_breakpoint`].
    fn pass_breakpoint(&mut self);
    /// See [`Cpu::forget_code`].
    fn forget_code(&mut self);
    /// See [`Cpu::watches`].
    fn watches(&self) -> Arc<Watches>;
}

// These are no generic functions, so the engine for each instruction set is compiled once, here: a debug build
// optimises this crate, and not the ones that would compile it for themselves.

impl From<Cpu<Mips>> for Box<dyn GuestCpu> {
    fn from(cpu: Cpu<Mips>) -> Self {
        Box::new(cpu)
    }
}

impl From<Cpu<Ppc>> for Box<dyn GuestCpu> {
    fn from(cpu: Cpu<Ppc>) -> Self {
        Box::new(cpu)
    }
}

impl<I: Isa> GuestCpu for Cpu<I> {
    fn run(&mut self, budget: u64) -> Exit {
        Cpu::run(self, budget)
    }

    fn count_for(&mut self, executed: Executed) {
        Cpu::count_for(self, executed);
    }

    fn set_log(&mut self, log: &Log, number: usize) {
        Cpu::set_log(self, log, number);
    }

    fn step(&mut self) -> Exit {
        Cpu::step(self)
    }

    fn reset(&mut self, entry: Option<u64>) {
        Cpu::reset(self);
        self.forget_code();
        if let Some(entry) = entry {
            I::go_to(self.core_mut(), entry);
        }
    }

    fn park(&mut self) {
        Cpu::park(self);
    }

    fn inputs(&self) -> Arc<Inputs> {
        Arc::clone(Cpu::inputs(self))
    }

    fn pc(&self) -> u64 {
        I::pc(self.core())
    }

    fn instructions(&self) -> u64 {
        Cpu::instructions(self)
    }

    fn registers(&self) -> String {
        I::registers(self.core())
    }

    fn disassembler(&self) -> Disassembler {
        I::disassembler(self.core())
    }

    fn physical(&self, va: u64) -> Option<u64> {
        I::physical(self.core(), va, Kind::Read).or_else(|| I::physical(self.core(), va, Kind::Fetch))
    }

    fn physical_code(&self, va: u64) -> Option<u64> {
        // Wherever in an instruction the address is.
        let fetched = I::physical(self.core(), va & !3, Kind::Fetch).map(|phys| phys | va & 3);
        fetched.or_else(|| I::physical(self.core(), va, Kind::Read))
    }

    fn tlb(&self) -> String {
        I::tlb(self.core())
    }

    fn mappings(&self) -> String {
        I::mappings(self.core())
    }

    fn is_waiting(&self) -> bool {
        I::is_waiting(self.core())
    }

    fn step_masked(&mut self) -> Exit {
        Cpu::step_masked(self)
    }

    fn debug_architecture(&self) -> &'static str {
        I::debug_architecture()
    }

    fn debug_registers(&self) -> &'static [DebugRegister] {
        I::debug_registers()
    }

    fn debug_register(&self, n: usize) -> u64 {
        I::debug_register(self.core(), n)
    }

    fn set_debug_register(&mut self, n: usize, value: u64) {
        Cpu::set_debug_register(self, n, value);
    }

    fn debug_order(&self) -> Endianness {
        I::debug_order(self.core())
    }

    fn debug_watches_before(&self) -> bool {
        I::debug_watches_before()
    }

    fn add_breakpoint(&mut self, pc: u64) -> bool {
        Cpu::add_breakpoint(self, pc)
    }

    fn remove_breakpoint(&mut self, pc: u64) -> bool {
        Cpu::remove_breakpoint(self, pc)
    }

    fn has_breakpoint(&self, pc: u64) -> bool {
        Cpu::has_breakpoint(self, pc)
    }

    fn finish_watched(&mut self) {
        Cpu::finish_watched(self);
    }

    fn pass_breakpoint(&mut self) {
        Cpu::pass_breakpoint(self);
    }

    fn forget_code(&mut self) {
        Cpu::forget_code(self);
    }

    fn watches(&self) -> Arc<Watches> {
        Arc::clone(Cpu::watches(self))
    }
}
