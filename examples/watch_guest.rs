//! Watches what translated guest code does to a part of its memory: sees each load and store, changes what a load gives,
//! refuses a store, and stops the CPU. RAM is watched as well as devices, and what nobody watches costs nothing.
//!
//! Run it with `cargo run -p flatview-cpu --example watch_guest`.

use std::error::Error;
use std::sync::Arc;

use flatview::{Endianness, Memory, RamBlock, Region};
use flatview_cpu::mips::{Mips, PC, gpr};
use flatview_cpu::{Cpu, Exit, Kind, Verdict, Watch, WatchedAccess, Watcher};
use flatview_device::Clock;

/// Where the program stands, in physical memory; kseg0 shows it at 0x80000000 more.
const CODE: u64 = 0x1000;
/// What is watched: one page, of which the program uses four words.
const SHARED: u64 = 0x4000;

/// `t0` points to the shared page. The program counts a word up for ever, reads a password, and tries to change it.
#[rustfmt::skip]
const PROGRAM: [u32; 9] = [
    0x3c08_8000, // lui   t0, 0x8000
    0x3508_4000, // ori   t0, t0, 0x4000
    0x8d09_0000, // lw    t1, 0(t0)        the counter
    0x2529_0001, // addiu t1, t1, 1
    0xad09_0000, // sw    t1, 0(t0)
    0x8d0a_0004, // lw    t2, 4(t0)        the password
    0xad00_0004, // sw    zero, 4(t0)      which it may not change
    0x1000_fffa, // b     -6               to the counter
    0x0000_0000, // nop
];

/// Reads of the password give another word, stores to it are refused, and the third count stops the CPU.
struct Guard;

impl Watcher for Guard {
    fn before(&self, access: &WatchedAccess) -> Verdict {
        let verdict = match (access.phys - SHARED, access.kind) {
            (4, Kind::Read) => Verdict::Instead(0xdead_beef),
            (4, Kind::Write) => Verdict::Refuse,
            (0, Kind::Write) if access.value == 3 => Verdict::Break,
            _ => Verdict::Proceed,
        };
        let what =
            if access.kind == Kind::Write { format!("store of {}", access.value) } else { "load".into() };
        println!("  {what} at {:#010x} (physical {:#x}): {verdict:x?}", access.va, access.phys);
        verdict
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let memory = Memory::new(Endianness::Big);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20)?))?;
    memory.map(memory.system(), 0, ram)?;
    let loader = memory.memory_space().reader();
    let code: Vec<u8> = PROGRAM.iter().flat_map(|word| word.to_be_bytes()).collect();
    loader.poke(CODE, &code)?;
    loader.poke(SHARED + 4, &0x1234_5678_u32.to_be_bytes())?;

    let mut cpu = Cpu::new(Mips::new(Endianness::Big, &Clock::realtime()), &memory, &memory.memory_space())?;
    let core = cpu.core_mut();
    // Kernel mode, with the handlers of exceptions in RAM.
    core.isa.cp0.set_all_status(0);
    core.set(PC, 0x8000_0000 + CODE);

    let page = Watch { first: SHARED, last: SHARED + 0xfff, reads: true, writes: true };
    let watch = cpu.watches().add(page, Arc::new(Guard));
    // A refused store is a bus error. The handler of all exceptions skips the instruction: mfc0 k0, EPC; addiu k0, k0, 4; mtc0 k0, EPC; eret.
    let skip = [0x401a_7000_u32, 0x275a_0004, 0x409a_7000, 0x4200_0018];
    loader.poke(0x180, &skip.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>())?;

    println!("the CPU runs:");
    let exit = cpu.run(1000);
    assert_eq!(exit, Exit::Watched);
    println!("it stopped before the instruction that stores {}", cpu.core().get(gpr(9)));
    println!("it believes that the password is {:#x}", cpu.core().get(gpr(10)));
    let mut password = [0; 4];
    loader.peek(SHARED + 4, &mut password)?;
    println!("it is {:#x} still", u32::from_be_bytes(password));

    assert!(cpu.watches().remove(watch));
    assert_eq!(cpu.run(1_000_000), Exit::Done);
    let mut count = [0; 4];
    loader.peek(SHARED, &mut count)?;
    println!("unwatched, it counts to {}", u32::from_be_bytes(count));
    Ok(())
}
