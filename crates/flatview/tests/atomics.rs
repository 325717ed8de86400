//! Atomic accesses to RAM, as CPUs with load-linked and store-conditional need them.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::thread;

use flatview::*;

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

fn block(size: u64) -> Arc<RamBlock> {
    RamBlock::anonymous("ram", size).unwrap()
}

fn all_operations<O: ByteOrder, V: Value>(reader: &Reader, at: u64) {
    let v = |n: u64| V::narrow(n);
    let now = || reader.load::<O, V>(at).unwrap();
    reader.store::<O, V>(at, v(5)).unwrap();
    assert_eq!(reader.compare_exchange::<O, V>(at, v(4), v(9)), Ok(Err(v(5))));
    assert_eq!(now(), v(5));
    assert_eq!(reader.compare_exchange::<O, V>(at, v(5), v(0x0102_0304_0506_0708)), Ok(Ok(v(5))));
    assert_eq!(reader.swap::<O, V>(at, v(0xf0)), Ok(v(0x0102_0304_0506_0708)));
    assert_eq!(reader.fetch_add::<O, V>(at, v(0x2f)), Ok(v(0xf0)));
    assert_eq!(now(), v(0x11f));
    assert_eq!(reader.fetch_or::<O, V>(at, v(0x60)), Ok(v(0x11f)));
    assert_eq!(reader.fetch_and::<O, V>(at, v(0x7c)), Ok(v(0x17f)));
    assert_eq!(reader.fetch_xor::<O, V>(at, v(0xff)), Ok(v(0x7c)));
    assert_eq!(now(), v(0x83));
    assert_eq!(reader.fetch_add::<O, V>(at, v(u64::MAX)), Ok(v(0x83)), "it wraps");
    assert_eq!(now(), v(0x82));
}

#[test]
fn every_operation_in_every_size_and_order() {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1000);
    map(&memory, 0x1000, Region::ram("ram", Arc::clone(&ram)));
    let reader = memory.memory_space().reader();
    ram.write(0, &[0x55; 64]).unwrap();
    all_operations::<Le, u8>(&reader, 0x1011);
    all_operations::<Be, u8>(&reader, 0x1011);
    all_operations::<Le, u16>(&reader, 0x1012);
    all_operations::<Be, u16>(&reader, 0x1012);
    all_operations::<Le, u32>(&reader, 0x1014);
    all_operations::<Be, u32>(&reader, 0x1014);
    all_operations::<Le, u64>(&reader, 0x1018);
    all_operations::<Be, u64>(&reader, 0x1018);
    let mut out = [0; 64];
    ram.read(0, &mut out).unwrap();
    let changed = 0x11..0x20;
    assert!(out.iter().enumerate().all(|(i, b)| changed.contains(&i) || *b == 0x55), "{out:x?}");
    // A carry goes to lower addresses in a big-endian value.
    reader.store::<Be, u32>(0x1000, 0x00ff_ffff).unwrap();
    reader.fetch_add::<Be, u32>(0x1000, 1).unwrap();
    assert_eq!(reader.load::<Le, u32>(0x1000), Ok(1));
}

#[test]
fn what_cannot_be_done_in_one_step_is_refused_with_the_reason() {
    let memory = Memory::new(Endianness::Little);
    let nothing = || Ops::new().read(|_| Ok(0)).write(|_, _| Ok(()));
    let ram = map(&memory, 0, Region::ram("ram", block(0x1000)));
    let readonly = memory.add(Region::alias("readonly", ram, 0, 0x1000).readonly(true)).unwrap();
    memory.map(memory.system(), 0x1000, readonly).unwrap();
    map(&memory, 0x2000, Region::rom("rom", block(0x1000)));
    map(&memory, 0x3000, Region::rom_device("flash", block(0x1000), nothing()));
    map(&memory, 0x4000, Region::ram_device("bar", block(0x1000)));
    map(&memory, 0x5000, Region::io("device", 0x1000, nothing()));
    // Ends inside a word; stands at an odd address; lies at one.
    map(&memory, 0x7000, Region::ram("short", block(0x1000)).size(6));
    map(&memory, 0x8001, Region::ram("odd", block(0x1000)));
    let bytes: Box<[AtomicU8]> = (0..64).map(AtomicU8::new).collect();
    map(&memory, 0xa000, Region::ram("lent", RamBlock::from_buffer("lent", bytes).unwrap()).window(1, 32));
    let reader = memory.memory_space().reader();
    let refused = |at| {
        let why = |e: MemTxError| (e.reason(), e.result(), e.address());
        let exchange = why(reader.compare_exchange::<Le, u32>(at, 0, 1).unwrap_err());
        let others = [
            reader.swap::<Le, u32>(at, 1),
            reader.fetch_add::<Le, u32>(at, 1),
            reader.fetch_add::<Be, u32>(at, 1),
            reader.fetch_and::<Le, u32>(at, 1),
            reader.fetch_or::<Be, u32>(at, 1),
            reader.fetch_xor::<Le, u32>(at, 1),
        ];
        assert!(others.into_iter().all(|e| why(e.unwrap_err()) == exchange));
        assert_eq!(exchange.2, at);
        (exchange.0, exchange.1)
    };
    let (decode, access) = (MemTxResult::DECODE_ERROR, MemTxResult::ACCESS_ERROR);
    for at in [1, 2, 3, 0x5001, 0x9003, u64::MAX] {
        assert_eq!(refused(at), (Reason::Unaligned, decode));
    }
    assert_eq!(refused(0x1000), (Reason::ReadOnly, decode));
    assert_eq!(refused(0x2000), (Reason::ReadOnly, decode));
    assert_eq!(refused(0x3000), (Reason::NotAtomic, access));
    assert_eq!(refused(0x4000), (Reason::NotAtomic, access));
    assert_eq!(refused(0x5000), (Reason::NotAtomic, access));
    assert_eq!(refused(0x6000), (Reason::Rejected, decode));
    assert_eq!(refused(u64::MAX - 3), (Reason::Rejected, decode));
    assert_eq!(refused(0x7004), (Reason::Rejected, decode));
    assert_eq!(refused(0x8004), (Reason::Unaligned, decode));
    assert_eq!(refused(0xa004), (Reason::Unaligned, decode));
    assert_eq!(reader.swap::<Le, u32>(0x7000, 3), Ok(0));
    assert_eq!(reader.swap::<Le, u8>(0x8004, 3), Ok(0));
    assert_eq!(reader.fetch_add::<Le, u16>(0x7004, 3), Ok(0));
    let mut out = [1; 16];
    reader.read(0, &mut out).unwrap();
    assert_eq!(out, [0; 16], "what was refused changed nothing");
}

#[test]
fn what_was_changed_is_marked_and_what_was_not_is_not() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0, Region::ram("ram", block(4 * DIRTY_PAGE_SIZE)));
    memory.set_log(ram, DirtyClient::CODE, true).unwrap();
    let dirty = || {
        let taken = memory.snapshot_and_clear_dirty(ram, 0, 4 * DIRTY_PAGE_SIZE, DirtyClient::CODE).unwrap();
        taken.runs().map(|run| run.start / DIRTY_PAGE_SIZE).collect::<Vec<_>>()
    };
    dirty();
    let reader = memory.memory_space().reader();
    assert_eq!(reader.compare_exchange::<Le, u32>(0, 1, 2), Ok(Err(0)));
    assert_eq!(dirty(), [0_u64; 0]);
    assert_eq!(reader.compare_exchange::<Le, u32>(0x1000, 0, 2), Ok(Ok(0)));
    assert_eq!(dirty(), [1]);
    reader.fetch_add::<Le, u8>(0x2fff, 0).unwrap();
    assert_eq!(dirty(), [2]);
    reader.fetch_add::<Be, u64>(0x3ff8, 1).unwrap();
    assert_eq!(dirty(), [3]);
}

/// Threads that count through different aliases, in different ways, with readers of their own, while the map changes.
#[test]
fn threads_lose_no_increment_through_any_alias() {
    const EACH: u64 = 20_000;
    let memory = Memory::new(Endianness::Big);
    let ram = map(&memory, 0, Region::ram("ram", block(0x1000)));
    for at in [0x1_0000, 0x2_0000, 0x3_0000] {
        map(&memory, at, Region::alias("alias", ram, 0x100, 0x100));
    }
    let space = memory.memory_space();
    thread::scope(|s| {
        for t in 0..4_u64 {
            let space = &space;
            s.spawn(move || {
                let cpu = space.reader();
                let at = [0x108, 0x1_0008, 0x2_0008, 0x3_0008].get(t as usize).copied().unwrap();
                for i in 0..EACH {
                    match (t + i) % 3 {
                        0 => drop(cpu.fetch_add::<Be, u32>(at, 1).unwrap()),
                        // The same word, of which another order's add would carry the wrong way.
                        1 => loop {
                            let linked = cpu.load::<Be, u32>(at).unwrap();
                            if cpu.compare_exchange::<Be, u32>(at, linked, linked + 1).unwrap().is_ok() {
                                break;
                            }
                        },
                        _ => {
                            let mut expected = cpu.load::<Be, u32>(at).unwrap();
                            while let Err(now) =
                                cpu.compare_exchange::<Be, u32>(at, expected, expected + 1).unwrap()
                            {
                                expected = now;
                            }
                        }
                    }
                    cpu.fetch_add::<Le, u64>(at + 8, 1).unwrap();
                    cpu.fetch_xor::<Be, u8>(at + 16 + t, 0xff).unwrap();
                    cpu.fetch_or::<Be, u32>(at + 20, 1 << t).unwrap();
                }
            });
        }
        for i in 0..200 {
            let over = memory.add(Region::reservation("over", 0x10)).unwrap();
            memory.map(memory.system(), 0x4_0000 + i * 0x10, over).unwrap();
            memory.set_log(ram, DirtyClient::VGA, i % 2 == 0).unwrap();
        }
    });
    let reader = space.reader();
    assert_eq!(reader.load::<Be, u32>(0x108), Ok(4 * EACH as u32));
    assert_eq!(reader.load::<Le, u64>(0x110), Ok(4 * EACH));
    assert_eq!(reader.load::<Be, u32>(0x118), Ok(0), "flipped an even number of times");
    assert_eq!(reader.load::<Be, u32>(0x11c), Ok(0xf));
}
