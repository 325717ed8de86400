//! The ISA tests of `guests/` on this engine, without a board: RAM at 0 and a clock that the instructions move on.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail loudly")]

#[path = "support/image.rs"]
mod image;

use std::path::Path;

use flatview::{Endianness, Memory, RamBlock, Region};
use flatview_cpu::mips::{Mips, PC};
use flatview_cpu::{Cpu, Exit};
use flatview_device::Clock;
use image::Image;

const RAM: u64 = 16 << 20;
/// The word of each image that says which console there is; 1: none but a log in memory.
const CONSOLE: u64 = 0x10_0008;
const MOST: u64 = 400_000_000;
/// Instructions at a time, and how far the clock goes meanwhile: Count counts once in two instructions.
const SLICE: u64 = 10_000;
const SLICE_NS: i64 = 50_000;

/// What the program printed until it was done.
fn run(path: &Path, order: Endianness) -> String {
    let image = Image::read(path, order);
    let memory = Memory::new(order);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", RAM).unwrap())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    let (clock, reader) = (Clock::stepped(), memory.memory_space().reader());
    let mut cpu = Cpu::new(Mips::new(order, &clock), &memory, &memory.memory_space()).unwrap();
    let (at, piece) = image.piece();
    reader.poke(u64::from(at) & 0x1fff_ffff, piece).unwrap();
    let one = if order == Endianness::Big { 1_u32.to_be_bytes() } else { 1_u32.to_le_bytes() };
    reader.poke(CONSOLE, &one).unwrap();
    cpu.core_mut().set(PC, u64::from(image.entry()));
    cpu.core_mut().isa.cp0.set_all_status(0x0040_0004);
    let peek = |at: u64, len: usize| {
        let mut bytes = vec![0; len];
        reader.peek(at, &mut bytes).unwrap();
        bytes
    };
    let symbol = |name: &str| u64::from(image.symbol(name) & 0x1fff_ffff);
    let done = symbol("guest_done") | 0x8000_0000;
    let mut budget = 0;
    while budget < MOST && cpu.core().get(PC) & 0xffff_fffc != done & 0xffff_fffc {
        let exit = cpu.run(SLICE);
        clock.step(Some(SLICE_NS)).unwrap();
        budget += SLICE;
        if !matches!(exit, Exit::Done | Exit::Waiting) {
            break;
        }
    }
    let used: [u8; 4] = peek(symbol("guest_log_used"), 4).try_into().unwrap();
    let used = if order == Endianness::Big { u32::from_be_bytes(used) } else { u32::from_le_bytes(used) };
    let log = peek(symbol("guest_log"), (used as usize).min(4096));
    let mut text = String::from_utf8_lossy(&log).into_owned();
    if !text.contains("end ") {
        text +=
            &format!("not done: pc {:08x} after {} instructions\n", cpu.core().get(PC), cpu.instructions());
    }
    text
}

#[test]
fn every_group_of_isa_tests_passes() {
    let (mut failed, mut groups) = (String::new(), 0);
    for (folder, order) in [("mips", Endianness::Big), ("mipsel", Endianness::Little)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/images").join(folder);
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let Some(group) = name.strip_prefix("isa-") else { continue };
            let text = run(&path, order);
            if !text.lines().any(|line| line == format!("ok {group}")) {
                failed += &format!("--- {order:?} {group}\n{text}");
            }
            println!("{order:?}: {}", text.trim_end());
            groups += 1;
        }
    }
    assert!(groups >= 40, "{groups} images");
    assert!(failed.is_empty(), "{failed}");
}
