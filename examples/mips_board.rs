//! QEMU's old MIPS board, in miniature and from scratch: RAM, and a register that resets the machine.
//!
//! Run it with `cargo run -p flatview-board --example mips_board`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flatview::{Be, Endianness, Memory, Ops, Owner, RamBlock, Region};

fn main() -> Result<(), Box<dyn Error>> {
    let memory = Memory::new(Endianness::Big);
    let system = memory.system();
    let ram = RamBlock::anonymous("mips_r4k.ram", 128 << 20)?;

    // A store of 42 to the register asks for a reset; reads give 0.
    let reset_asked = Arc::new(AtomicBool::new(false));
    let asked = reset_asked.clone();
    let control = Ops::new().read(|_| Ok(0)).write(move |access, value| {
        if (access.offset(), value) == (0, 42) {
            asked.store(true, Ordering::Release);
        }
        Ok(())
    });

    let board = Owner::object("/machine");
    memory.update::<_, flatview::MemoryError>(|t| {
        let ram = t.add(Region::ram("mips_r4k.ram", ram).owner(&board))?;
        t.map(system, 0, ram)?;
        let control = t.add(Region::io("mips-qemu", 0x1_0000, control).owner(&board))?;
        t.map(system, 0x1fbf_0000, control)
    })?;

    let cpu = memory.memory_space().reader();
    cpu.store::<Be, u32>(0x1000, 0x1234_5678)?;
    println!("RAM at 0x1000 holds {:#x}", cpu.load::<Be, u32>(0x1000)?);
    cpu.store::<Be, u32>(0x1fbf_0000, 42)?;
    println!("reset asked for: {}", reset_asked.load(Ordering::Acquire));
    println!("\n{}", flatview::mtree::write(&memory, flatview::mtree::Options::default())?);
    Ok(())
}
