//! A CPU whatever its instruction set: what a machine needs to run one.

use std::sync::Arc;

use crate::cpu::{Cpu, Exit};
use crate::inputs::Inputs;
use crate::isa::Isa;

/// A CPU that a machine runs on a thread of its own.
pub trait GuestCpu: Send {
    /// See [`Cpu::run`].
    fn run(&mut self, budget: u64) -> Exit;
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
    /// The physical address of a virtual one, as the CPU's data loads see it now; nothing is changed by asking.
    fn physical(&self, va: u64) -> Option<u64>;
}

impl<I: Isa> GuestCpu for Cpu<I> {
    fn run(&mut self, budget: u64) -> Exit {
        Cpu::run(self, budget)
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

    fn physical(&self, va: u64) -> Option<u64> {
        I::physical(self.core(), va)
    }
}
