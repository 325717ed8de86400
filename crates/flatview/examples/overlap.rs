//! Overlapping regions: priorities, an alias, and one change that is seen all at once.
//!
//! `cargo run -p flatview --example overlap` prints
//!
//! ```text
//! At first:
//!   00000000-0009ffff ram  ram  @00000000
//!   000a0000-000bffff i/o  vga  @00000000
//!   000c0000-000fffff ram  ram  @000c0000
//!   fffc0000-ffffffff rom  bios @00000000
//! With the BIOS's last 64 KiB below 1 MiB, and the VGA off:
//!   00000000-000effff ram  ram  @00000000
//!   000f0000-000fffff rom  bios @00030000
//!   fffc0000-ffffffff rom  bios @00000000
//! The CPU finds the BIOS at 0xffff0: 0xea
//! ```
use std::io::Write;

use flatview::{AddressSpace, Be, Endianness, Memory, MemoryError, Ops, RamBlock, Region};

fn print(out: &mut impl Write, title: &str, space: &AddressSpace) -> Result<(), Box<dyn std::error::Error>> {
    writeln!(out, "{title}:")?;
    for r in space.view()?.ranges() {
        let (start, last, offset) = (r.start(), r.last(), r.offset());
        writeln!(out, "  {start:08x}-{last:08x} {:4} {:4} @{offset:08x}", r.kind(), r.name())?;
    }
    Ok(())
}

/// Builds the map, changes it, and prints both.
pub fn run(out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let memory = Memory::new(Endianness::Little);
    let (system, space) = (memory.system(), memory.memory_space());
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20)?))?;
    let bios = memory.add(Region::rom("bios", RamBlock::anonymous("bios", 256 << 10)?))?;
    let vga = memory.add(Region::io("vga", 0x2_0000, Ops::new().read(|_| Ok(0)).write(|_, _| Ok(()))))?;
    memory.update(|t| {
        t.map(system, 0, ram)?;
        t.map(system, 0xfffc_0000, bios)?;
        t.map_overlap(system, 0xa_0000, vga, 1) // over the RAM: the higher priority wins
    })?;
    print(out, "At first", &space)?;

    // Both at once, or, if one of them fails, neither.
    memory.update(|t| {
        let low = t.add(Region::alias("low bios", bios, 192 << 10, 64 << 10))?;
        t.map_overlap(system, 0xf_0000, low, 1)?;
        t.set_enabled(vga, false)?;
        Ok::<_, MemoryError>(())
    })?;
    print(out, "With the BIOS's last 64 KiB below 1 MiB, and the VGA off", &space)?;

    // A loader writes ROM; the reset vector is seen at both places.
    let cpu = space.reader();
    cpu.poke(0xffff_fff0, &[0xea])?;
    writeln!(out, "The CPU finds the BIOS at 0xffff0: {:#x}", cpu.load::<Be, u8>(0xf_fff0)?)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(&mut std::io::stdout())
}
