//! A board with RAM and a MIPS CPU, and the few instructions that tests are written in.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

pub mod asm;

use flatview::{Endianness, Memory, RamBlock, Region};
use flatview_cpu::Cpu;
use flatview_cpu::mips::{Mips, MipsModel, PC, gpr};
use flatview_device::Clock;

pub const CODE: u64 = 0x1000;

pub struct Board {
    pub memory: Memory,
    pub clock: Clock,
    pub cpu: Cpu<Mips>,
}

impl Board {
    pub fn new() -> Self {
        Self::with_model("24Kf")
    }

    pub fn with_model(name: &str) -> Self {
        let memory = Memory::new(Endianness::Big);
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20).unwrap())).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let clock = Clock::stepped();
        let cpu = Cpu::new(
            Mips::with_model(MipsModel::find(name).unwrap(), Endianness::Big, &clock),
            &memory,
            &memory.memory_space(),
        )
        .unwrap();
        Self { memory, clock, cpu }
    }

    pub fn memory(&self, at: u64, bytes: &[u8]) {
        self.memory.memory_space().reader().poke(at, bytes).unwrap();
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.memory_space().reader().peek(at, &mut bytes).unwrap();
        bytes
    }

    pub fn program_at(&mut self, at: u64, code: &[u32]) {
        let bytes: Vec<u8> = code.iter().flat_map(|w| w.to_be_bytes()).collect();
        self.memory(at, &bytes);
    }

    /// Puts a program at 0x80001000, to begin with next, in kernel mode and with handlers in RAM.
    pub fn program(&mut self, code: &[u32]) {
        self.program_at(CODE, code);
        let core = self.cpu.core_mut();
        core.set(PC, 0x8000_0000 + CODE);
        core.isa.cp0.set_all_status(0);
    }

    pub fn set_status_exl(&mut self) {
        self.cpu.core_mut().isa.cp0.set_all_status(2);
    }

    /// Handlers that stay where they are.
    pub fn handler(&mut self) {
        for at in [0, 0x180, 0x200] {
            self.program_at(at, &[asm::b(-1), asm::nop()]);
        }
    }

    pub fn run(&mut self, instructions: u64) {
        self.cpu.run(instructions);
    }

    pub fn reg(&self, n: u32) -> u32 {
        self.cpu.core().get(gpr(n)) as u32
    }

    pub fn pc(&self) -> u32 {
        self.cpu.core().get(PC) as u32
    }

    pub fn exception(&self) -> u32 {
        self.cpu.core().isa.cp0.cause() >> 2 & 31
    }
}
