//! A CPU that a clock goes by: it stops exactly where it should, and everybody finds the right time.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

#[path = "support/asm.rs"]
mod asm;

use std::sync::{Arc, Mutex};

use flatview::{Endianness, Memory, Ops, RamBlock, Region};
use flatview_cpu::mips::{Mips, PC, gpr};
use flatview_cpu::{Cpu, Exit};
use flatview_device::Clock;

use asm::*;

const DEVICE: u64 = 0x1000_0000;

/// A board whose clock goes by its CPU (8 ns for each instruction), with a device that notes when it is accessed.
struct Counted {
    cpu: Cpu<Mips>,
    clock: Clock,
    seen: Arc<Mutex<Vec<i64>>>,
}

impl Counted {
    fn new(code: &[u32]) -> Self {
        let memory = Memory::new(Endianness::Big);
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20).unwrap())).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let (clock, seen) = (Clock::counted(3), Arc::new(Mutex::new(Vec::new())));
        let (at, times) = (clock.clone(), seen.clone());
        let device = Ops::new().read(move |_| {
            times.lock().unwrap().push(at.now());
            Ok(0)
        });
        let device = memory.add(Region::io("device", 8, device)).unwrap();
        memory.map(memory.system(), DEVICE, device).unwrap();
        let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_be_bytes()).collect();
        memory.memory_space().poke(0x1000, &bytes).unwrap();
        let space = memory.memory_space();
        let mut cpu = Cpu::new(Mips::new(Endianness::Big, &clock), &memory, &space).unwrap();
        let core = cpu.core_mut();
        core.set(PC, 0x8000_1000);
        core.isa.cp0.set_all_status(0);
        cpu.count_for(clock.executed().unwrap());
        Self { cpu, clock, seen }
    }
}

/// Twenty additions and a branch back to them: a round is 22 instructions.
fn rounds() -> Vec<u32> {
    let mut code = vec![addiu(8, 8, 1); 20];
    code.extend([b(-21), nop()]);
    code
}

#[test]
fn it_does_exactly_as_many_instructions_as_it_is_asked_for() {
    let mut board = Counted::new(&rounds());
    let mut done = 0;
    for budget in [1, 2, 3, 19, 20, 21, 22, 23, 44, 100, 1, 21, 5000, 7, 64, 65] {
        assert_eq!(board.cpu.run(budget), Exit::Done);
        done += budget;
        assert_eq!((board.cpu.instructions(), board.clock.now()), (done, 8 * done as i64));
        let (whole, part) = (done / 22, done % 22);
        assert_eq!(board.cpu.core().get(gpr(8)), whole * 20 + part.min(20), "{done}");
    }
    assert_eq!(board.cpu.run(0), Exit::Done);
    assert_eq!(board.cpu.instructions(), done);
}

#[test]
fn a_breakpoint_near_the_end_of_the_budget_is_not_missed() {
    let mut board = Counted::new(&rounds());
    board.cpu.add_breakpoint(0x8000_1000 + 4 * 10);
    assert_eq!(board.cpu.run(15), Exit::Breakpoint);
    assert_eq!(board.cpu.instructions(), 10);
    assert_eq!(board.cpu.run(5), Exit::Done);
    assert_eq!(board.cpu.run(30), Exit::Breakpoint);
    assert_eq!(board.cpu.instructions(), 32);
}

#[test]
fn devices_and_count_find_the_time_of_the_instruction_whatever_the_slices() {
    // The device is read by the third, sixth and eighth instruction (in a delay slot), Count by the fourth.
    let code = [
        lui(9, 0xb000),
        addiu(8, 0, 1),
        lw(8, 9, 0),
        mfc0(10, 9),
        nop(),
        lw(8, 9, 4),
        b(1),
        lw(8, 9, 0),
        b(-1),
        nop(),
    ];
    for slice in [1, 2, 3, 4, 5, 7, 20] {
        let mut board = Counted::new(&code);
        while board.cpu.instructions() < 20 {
            assert_eq!(board.cpu.run(slice), Exit::Done);
        }
        assert_eq!(*board.seen.lock().unwrap(), [16, 40, 56], "{slice}");
        // Three instructions of 8 ns before it, at 10 ns for each count.
        assert_eq!(board.cpu.core().get(gpr(10)), 2);
    }
}
