//! Copies from one space to another, and within one.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

#[path = "support/noting.rs"]
mod noting;

use std::sync::Arc;

use flatview::*;
use noting::{noting, taken};

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

fn block(size: u64) -> Arc<RamBlock> {
    let block = RamBlock::anonymous("ram", size).unwrap();
    block.write(0, &(0..size).map(|i| (i ^ (i >> 8)) as u8).collect::<Vec<_>>()).unwrap();
    block
}

fn bytes(block: &RamBlock) -> Vec<u8> {
    let mut out = vec![0; block.size() as usize];
    block.read(0, &mut out).unwrap();
    out
}

#[test]
fn ram_is_copied_from_space_to_space_of_different_memories_too() {
    let (one, two) = (Memory::new(Endianness::Little), Memory::new(Endianness::Big));
    let (from, to) = (block(0x4000), RamBlock::anonymous("to", 0x4000).unwrap());
    map(&one, 0x1000, Region::ram("from", Arc::clone(&from)));
    let target = map(&two, 0x8000, Region::ram("to", Arc::clone(&to)));
    two.set_log(target, DirtyClient::VGA, true).unwrap();
    two.reset_dirty(target, 0, 0x4000, DirtyClient::VGA).unwrap();
    one.memory_space().copy_to(0x1801, &two.memory_space(), 0x9003, 0x1400).unwrap();
    assert_eq!(bytes(&to)[0x1003..0x2403], bytes(&from)[0x801..0x1c01]);
    assert!(bytes(&to)[..0x1003].iter().chain(&bytes(&to)[0x2403..]).all(|b| *b == 0));
    let marked = two.snapshot_and_clear_dirty(target, 0, 0x4000, DirtyClient::VGA).unwrap();
    assert_eq!(marked.runs().map(|run| (run.start, run.end)).collect::<Vec<_>>(), [(0x1000, 0x3000)]);
    // ROM can be copied from and not to.
    map(&two, 0x2_0000, Region::rom("rom", block(0x1000)));
    two.memory_space().copy_to(0x2_0000, &two.memory_space(), 0x8000, 0x100).unwrap();
    assert_eq!(bytes(&to)[..0x100], bytes(&from)[..0x100]);
    let error = two.memory_space().copy_to(0x8000, &two.memory_space(), 0x2_0000, 0x100).unwrap_err();
    assert_eq!((error.address(), error.result()), (0x2_0000, MemTxResult::DECODE_ERROR));
}

#[test]
fn overlaps_in_one_range_are_as_if_all_was_read_first() {
    for (from, to, len) in
        [(0, 3, 0x1800), (3, 0, 0x1800), (0x100, 0x100, 0x800), (0x10, 0x18, 8), (7, 6, 0x1000)]
    {
        let memory = Memory::new(Endianness::Little);
        let ram = block(0x2000);
        map(&memory, 0x1000, Region::ram("ram", Arc::clone(&ram)));
        let mut model = bytes(&ram);
        model.copy_within(from as usize..(from + len) as usize, to as usize);
        let reader = memory.memory_space().reader();
        reader.copy_to(0x1000 + from, &reader, 0x1000 + to, len).unwrap();
        assert_eq!(bytes(&ram), model, "{from} to {to}, {len}");
    }
}

#[test]
fn overlaps_over_several_ranges_go_from_low_addresses_to_high_ones() {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x2000);
    let region = memory.add(Region::ram("ram", Arc::clone(&ram))).unwrap();
    // One block in ranges of 0x100 bytes.
    for i in 0..0x20_u64 {
        let part = Region::alias("part", region, i * 0x100, 0x100).nonvolatile(i % 2 == 0);
        let part = memory.add(part).unwrap();
        memory.map(memory.system(), i * 0x100, part).unwrap();
    }
    for (from, to, len) in [(0_usize, 0x30_usize, 0x800_usize), (0x30, 0, 0x800), (0x100, 0x280, 0x900)] {
        let mut model = bytes(&ram);
        let mut done = 0;
        while done < len {
            let (a, b) = (from + done, to + done);
            let n = (len - done).min(0x100 - a % 0x100).min(0x100 - b % 0x100);
            model.copy_within(a..a + n, b);
            done += n;
        }
        memory.memory_space().copy_to(from as u64, &memory.memory_space(), to as u64, len as u64).unwrap();
        assert_eq!(bytes(&ram), model);
    }
}

#[test]
fn devices_see_bus_accesses() {
    let memory = Memory::new(Endianness::Little);
    let (source, reads) = noting(AccessRules::new().valid(1, 8).implemented(1, 8));
    let (target, writes) = noting(AccessRules::new().valid(1, 4));
    map(&memory, 0x1000, Region::io("source", 0x100, source));
    map(&memory, 0x2000, Region::io("target", 0x100, target));
    let ram = block(0x1000);
    map(&memory, 0x4000, Region::ram("ram", Arc::clone(&ram)));
    let space = memory.memory_space();
    space.copy_to(0x1004, &space, 0x2000, 14).unwrap();
    assert_eq!(taken(&reads), [('r', 4, 4, 0), ('r', 8, 8, 0), ('r', 16, 2, 0)]);
    assert_eq!(
        taken(&writes),
        [('w', 0, 4, 0x0706_0504), ('w', 4, 4, 0x0b0a_0908), ('w', 8, 4, 0x0f0e_0d0c), ('w', 12, 2, 0x1110)]
    );
    space.copy_to(0x1000, &space, 0x4001, 3).unwrap();
    assert_eq!(taken(&reads), [('r', 0, 2, 0), ('r', 2, 1, 0)]);
    assert_eq!(bytes(&ram)[..5], [0, 0, 1, 2, 4]);
    space.copy_to(0x4000, &space, 0x2000, 2).unwrap();
    assert_eq!(taken(&writes), [('w', 0, 2, 0)]);
}

#[test]
fn copies_go_on_after_errors_and_join_them() {
    let memory = Memory::new(Endianness::Little);
    let (a, b) = (block(0x1000), block(0x1000));
    map(&memory, 0, Region::ram("a", Arc::clone(&a)));
    map(&memory, 0x2000, Region::ram("b", Arc::clone(&b)));
    map(&memory, 0x4000, Region::io("fails", 0x10, Ops::new().read(|_| Err(MemTxError::error()))));
    let to = RamBlock::anonymous("to", 0x4000).unwrap();
    map(&memory, 0x8000, Region::ram("to", Arc::clone(&to)));
    to.write(0, &[0xee; 0x4000]).unwrap();
    let space = memory.memory_space();
    // From RAM over a hole into RAM: the hole is zeros.
    let error = space.copy_to(0x800, &space, 0x8000, 0x2000).unwrap_err();
    assert_eq!((error.address(), error.result()), (0x1000, MemTxResult::DECODE_ERROR));
    let copied = bytes(&to);
    assert_eq!(copied[..0x800], bytes(&a)[0x800..]);
    assert_eq!(copied[0x800..0x1800], [0; 0x1000]);
    assert_eq!(copied[0x1800..0x2000], bytes(&b)[..0x800]);
    assert_eq!(copied[0x2000..], [0xee; 0x2000]);
    // Two kinds of errors.
    let error = space.copy_to(0x3ffc, &space, 0x8000, 8).unwrap_err();
    assert!(error.result().contains(MemTxResult::ERROR | MemTxResult::DECODE_ERROR));
    // A hole that ends at an odd address, where a bus access of 4 bytes would take along what begins there.
    map(&memory, 0x6003, Region::ram("odd", block(0x10)));
    assert!(space.copy_to(0x6000, &space, 0x8000, 4).is_err());
    assert_eq!(bytes(&to)[..4], [0, 0, 0, 0]);
    assert!(space.copy_to(0x6000, &space, 0x8000, 5).is_err());
    assert_eq!(bytes(&to)[..5], [0, 0, 0, 0, 1]);
    assert!(space.copy_to(0x2010, &space, 0x6000, 5).is_err());
    space.copy_to(0x6003, &space, 0x8000, 3).unwrap();
    assert_eq!(bytes(&to)[..3], [0x13, 0x14, 2]);
    // Into a hole and out of it again.
    let error = space.copy_to(0, &space, 0xb800, 0x1000).unwrap_err();
    assert_eq!(error.address(), 0xc000);
    assert_eq!(bytes(&to)[0x3800..], bytes(&a)[..0x800]);
}

#[test]
fn absurd_lengths_end_and_addresses_go_on_at_zero() {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1000);
    map(&memory, 0, Region::ram("ram", Arc::clone(&ram)));
    let space = memory.memory_space();
    let before = bytes(&ram);
    // All of the space onto itself: nothing changes, and the holes take no time.
    let error = space.copy_to(0, &space, 0, u64::MAX).unwrap_err();
    assert_eq!((error.address(), error.result()), (0x1000, MemTxResult::DECODE_ERROR));
    assert_eq!(bytes(&ram), before);
    assert!(space.copy_to(0x1000, &space, 0x2000, u64::MAX - 0x4000).is_err());
    assert_eq!(bytes(&ram), before);
    for at in [0, 0x5000, u64::MAX] {
        assert_eq!(space.copy_to(at, &space, at, 0), Ok(()));
    }
    map(&memory, u64::MAX - 7, Region::ram("last", block(0x1000)).size(8));
    space.copy_to(u64::MAX - 1, &space, 0x100, 4).unwrap();
    assert_eq!(bytes(&ram)[0x100..0x104], [6, 7, 0, 1]);
    space.copy_to(0x200, &space, u64::MAX, 2).unwrap();
    assert_eq!(bytes(&ram)[0], bytes(&ram)[0x201]);
    // The same for filling.
    assert!(space.fill(0x2000, 7, u64::MAX - 0x4000).is_err());
    assert!(space.fill(0xf80, 7, 1 << 60).is_err());
    assert_eq!(bytes(&ram)[0xf80..], [7; 0x80]);
    let reader = space.reader();
    reader.fill(u64::MAX - 3, 9, 6).unwrap();
    assert_eq!(reader.load::<Le, u32>(u64::MAX - 3), Ok(0x0909_0909));
    assert_eq!(bytes(&ram)[..2], [9, 9]);
}

#[test]
fn filling_a_device_writes_it_as_512_byte_writes_do() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(AccessRules::new().valid(1, 8).implemented(1, 8));
    map(&memory, 0x1000, Region::io("device", 0x1000, ops));
    memory.memory_space().reader().fill(0x1001, 0xa5, 520).unwrap();
    let sizes: Vec<_> = taken(&calls).iter().map(|c| (c.1, c.2)).collect();
    let mut model = vec![(1, 1), (2, 2), (4, 4)];
    model.extend((8..512).step_by(8).map(|at| (at, 8)));
    model.extend([(512, 1), (513, 1), (514, 2), (516, 4), (520, 1)]);
    assert_eq!(sizes, model);
}

#[test]
fn ports_of_one_callback_copy_between_spaces() {
    let memory = Memory::new(Endianness::Little);
    let (from, to) = (block(0x1000), RamBlock::anonymous("to", 0x1000).unwrap());
    map(&memory, 0, Region::ram("from", Arc::clone(&from)));
    let bus = memory.add(Region::container("bus", WHOLE)).unwrap();
    let ram = memory.add(Region::ram("to", Arc::clone(&to))).unwrap();
    memory.map(bus, 0x100, ram).unwrap();
    let target = memory.address_space("bus", bus).unwrap();
    let (here, there) = (memory.memory_space().downgrade(), target.downgrade());
    let dma = Ops::new().write(move |access, len| {
        let (here, there) = (here.upgrade().unwrap(), there.upgrade().unwrap());
        access.port(&here).copy_to(0x10, &access.port(&there), 0x120, len)
    });
    map(&memory, 0x8000, Region::io("dma", 4, dma));
    memory.memory_space().reader().store::<Le, u32>(0x8000, 0x40).unwrap();
    assert_eq!(bytes(&to)[0x20..0x60], bytes(&from)[0x10..0x50]);
    // A port for RAM only.
    let reader = memory.memory_space().reader();
    let strict = reader.port(MemTxAttrs::new().with_memory(true));
    assert_eq!(strict.copy_to(0, &strict, 0x100, 0x10), Ok(()));
    assert_eq!(strict.copy_to(0x8000, &strict, 0x100, 4).unwrap_err().reason(), Reason::NotRam);
}
