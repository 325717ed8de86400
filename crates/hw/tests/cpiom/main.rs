//! The devices of the CPIOM board, each by itself on an otherwise empty memory, sentence by sentence of their data sheet
//! (`docs/boards/cpiom-registers.md`). The SDRAM controller's tests are the board's.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use flatview::{AddressSpace, Be, Endianness, Memory, Region};
use flatview_device::Clock;

mod edc;
mod intc;
mod timers;

/// A memory with regions in it, and a clock that is stepped.
struct Bench {
    memory: Memory,
    space: AddressSpace,
    clock: Clock,
}

impl Bench {
    fn new() -> Bench {
        let memory = Memory::new(Endianness::Big);
        let space = memory.memory_space();
        Bench { memory, space, clock: Clock::stepped() }
    }

    fn map(&self, address: u64, region: Region) {
        let region = self.memory.add(region).unwrap();
        self.memory.map(self.memory.system(), address, region).unwrap();
    }

    fn get(&self, address: u64) -> u32 {
        self.space.reader().load::<Be, u32>(address).unwrap()
    }

    fn set(&self, address: u64, value: u32) {
        self.space.reader().store::<Be, u32>(address, value).unwrap();
    }

    /// What a monitor sees, which changes nothing.
    fn peek(&self, address: u64) -> u32 {
        let mut bytes = [0; 4];
        self.space.reader().peek(address, &mut bytes).unwrap();
        u32::from_be_bytes(bytes)
    }

    /// Sets the clock to the moment at which this many cycles of 16.6 MHz have passed.
    fn at_cycle(&self, cycle: u64) {
        let ns = (u128::from(cycle) * 5000).div_ceil(83);
        self.clock.set(i64::try_from(ns).unwrap()).unwrap();
    }
}
