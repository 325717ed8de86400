//! Region caches: memory that was looked up once.
//!
//! | rule | test |
//! |---|---|
//! | pins RAM; addresses are relative | `a_cache_of_ram_is_accessed_at_offsets` |
//! | may be shorter than asked | `a_cache_may_be_shorter_than_asked` |
//! | accesses past its end (QEMU asserts) | `what_is_not_inside_is_refused_and_nothing_else_happens` |
//! | a cache that was made for reading (QEMU asserts) | `a_cache_for_reading_is_not_written` |
//! | MMIO and the like: the slow path | `a_cache_of_a_device_calls_it`, `a_cache_of_rom_for_writing_reads_it_and_refuses_writes` |
//! | in the view of then | `a_cache_stays_with_the_map_it_was_made_from` |
//! | whether that is still so (ours) | `a_cache_knows_whether_a_new_one_would_be_the_same` |
//! | `invalidate` marks dirty; here stores do too | `what_is_written_through_a_cache_is_marked` |
//! | a device in the slow path sees the map of now | `a_device_that_is_called_through_an_old_view_accesses_the_new_map` |
//! | keeps the memory, not the machine | `a_cache_of_ram_keeps_the_ram_and_nothing_else` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use flatview::Direction::{Read, ReadWrite, Write};
use flatview::*;

const PAGE: u64 = DIRTY_PAGE_SIZE;

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

fn block(size: u64) -> Arc<RamBlock> {
    RamBlock::anonymous("ram", size).unwrap()
}

/// A register file of eight bytes, of any access.
fn register(value: &Arc<AtomicU64>) -> Ops {
    let (r, w) = (Arc::clone(value), Arc::clone(value));
    let rules = AccessRules::new().endian(DeviceEndian::Little).valid(1, 8).implemented(8, 8);
    Ops::new().rules(rules).read(move |_| Ok(r.load(SeqCst))).write(move |_, v| {
        w.store(v, SeqCst);
        Ok(())
    })
}

#[test]
fn a_cache_of_ram_is_accessed_at_offsets() {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1000);
    map(&memory, 0x8000, Region::ram("ram", Arc::clone(&ram)));
    let cache = memory.memory_space().cache(0x8100, 0x80, ReadWrite).unwrap();
    assert!(cache.is_ram() && !cache.is_empty() && cache.is_current());
    assert_eq!((cache.address(), cache.len(), cache.direction()), (0x8100, 0x80, ReadWrite));
    cache.store::<Be, u32>(4, 0x0102_0304).unwrap();
    cache.store::<Le, u64>(0x71, 0x1122_3344_5566_7788).unwrap();
    cache.write(0x10, b"ring").unwrap();
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0x8104), Ok(0x0403_0201));
    assert_eq!(reader.load::<Be, u64>(0x8171), Ok(0x8877_6655_4433_2211));
    assert_eq!(cache.load::<Be, u64>(0x71), Ok(0x8877_6655_4433_2211));
    let mut out = [0; 4];
    cache.read(0x10, &mut out).unwrap();
    assert_eq!(&out, b"ring");
    reader.store::<Le, u8>(0x817f, 0xee).unwrap();
    assert_eq!(cache.load::<Le, u8>(0x7f), Ok(0xee));
    assert_eq!(cache.host_ptr().unwrap().as_ptr() as u64, ram.host().as_ptr() as u64 + 0x100);
}

#[test]
fn a_cache_may_be_shorter_than_asked() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0, Region::ram("ram", block(0x1000)));
    map(&memory, 0x1000, Region::rom("rom", block(0x1000)));
    map(&memory, 0x2000, Region::io("device", 0x10, Ops::new()));
    let kept = memory.add(Region::alias("kept", ram, 0, 0x800).nonvolatile(true)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0, kept, 1)).unwrap();
    let space = memory.memory_space();
    assert_eq!(space.view().unwrap().ranges().filter(|r| r.is_ram()).count(), 3);
    let len = |addr, direction| space.cache(addr, 0x10000, direction).unwrap().len();
    assert_eq!(len(0x700, Write), 0x900, "over neighbours that are one run");
    assert_eq!(len(0x1700, Read), 0x900);
    assert_eq!(len(0x1700, Write), 0x900, "RAM that is not written directly ends there too");
    assert_eq!(len(0x2000, Write), 0x10000, "but not devices");
    assert_eq!(len(0x4000, Read), 0x10000);
    assert_eq!(space.cache(u64::MAX - 3, u64::MAX, Read).unwrap().len(), 4);
    assert_eq!(space.cache(0, u64::MAX, Read).unwrap().len(), 0x1000);
}

#[test]
fn what_is_not_inside_is_refused_and_nothing_else_happens() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(0x1000)));
    let value = Arc::new(AtomicU64::new(5));
    map(&memory, 0x1000, Region::io("device", 8, register(&value)));
    for base in [0, 0x1000] {
        let cache = memory.memory_space().cache(base, 8, ReadWrite).unwrap();
        let refused = |e: MemTxError| {
            assert_eq!((e.reason(), e.result()), (Reason::OutsideMapping, MemTxResult::ACCESS_ERROR));
        };
        for offset in [1, 8, 9, u64::MAX - 7, u64::MAX] {
            refused(cache.load::<Le, u64>(offset).unwrap_err());
            refused(cache.store::<Le, u64>(offset, 1).unwrap_err());
            refused(cache.read(offset, &mut [0; 8]).unwrap_err());
            refused(cache.write(offset, &[0; 8]).unwrap_err());
            refused(cache.invalidate(offset, 8).unwrap_err());
        }
        refused(cache.invalidate(0, u64::MAX).unwrap_err());
        assert_eq!(
            (cache.read(8, &mut []), cache.write(8, &[]), cache.invalidate(8, 0)),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!(
            cache.load::<Le, u8>(9).unwrap_err().address(),
            base + 9,
            "the place is told as an address"
        );
    }
    assert_eq!((memory.memory_space().reader().load::<Le, u64>(8), value.load(SeqCst)), (Ok(0), 5));
}

#[test]
fn a_cache_for_reading_is_not_written() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(0x1000)));
    map(&memory, 0x1000, Region::rom("rom", block(0x1000)));
    map(&memory, 0x2000, Region::io("device", 8, register(&Arc::default())));
    for base in [0, 0x1000, 0x2000] {
        let cache = memory.memory_space().cache(base, 8, Read).unwrap();
        assert_eq!(cache.is_ram(), base < 0x2000);
        assert_eq!(cache.load::<Le, u64>(0), Ok(0));
        for refused in [cache.store::<Le, u8>(0, 1), cache.write(0, &[1]), cache.invalidate(0, 1)] {
            assert_eq!(refused.unwrap_err().reason(), Reason::MappedForReading);
        }
        assert_eq!(cache.load::<Le, u64>(0), Ok(0));
    }
}

#[test]
fn a_cache_of_a_device_calls_it() {
    let memory = Memory::new(Endianness::Little);
    let value = Arc::new(AtomicU64::new(0x0102_0304_0506_0708));
    let device = map(&memory, 0x1000, Region::io("device", 8, register(&value)));
    map(&memory, 0x1008, Region::ram("ram", block(0x1000)));
    let space = memory.memory_space();
    let cache = space.cache(0x1000, 0x20, Write).unwrap();
    assert!(!cache.is_ram() && cache.host_ptr().is_none() && cache.is_current());
    assert_eq!(cache.load::<Be, u64>(0), Ok(0x0807_0605_0403_0201));
    cache.store::<Le, u64>(0, 9).unwrap();
    assert_eq!(value.load(SeqCst), 9);
    // It goes on over whatever stands behind it, at the right addresses.
    cache.write(0, &[1, 0, 0, 0, 0, 0, 0, 0, 0xaa, 0xbb]).unwrap();
    assert_eq!((value.load(SeqCst), space.reader().load::<Le, u16>(0x1008)), (1, Ok(0xbbaa)));
    let mut out = [0; 10];
    cache.read(0, &mut out).unwrap();
    assert_eq!(out, [1, 0, 0, 0, 0, 0, 0, 0, 0xaa, 0xbb]);
    assert_eq!(cache.invalidate(0, 0x20), Ok(()));
    // Errors tell the place.
    let nothing = space.cache(0x8000, 0x20, Write).unwrap();
    assert_eq!(nothing.load::<Le, u16>(4).unwrap_err().address(), 0x8004);
    assert_eq!(nothing.store::<Le, u16>(4, 1).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    let seen = Arc::new(AtomicU64::new(0));
    let (tell, id) = (Arc::clone(&seen), space.id());
    let who = Ops::new().read(move |a| {
        assert!(a.space() == id);
        tell.store(a.address(), SeqCst);
        Ok(7)
    });
    let over = memory.add(Region::io("over", 4, who)).unwrap();
    memory.update(|t| t.map_overlap(device, 4, over, 1)).unwrap();
    let cache = space.cache(0x1000, 8, Read).unwrap();
    assert_eq!((cache.load::<Le, u32>(4), seen.load(SeqCst)), (Ok(7), 0x1004));
}

#[test]
fn a_cache_of_rom_for_writing_reads_it_and_refuses_writes() {
    let memory = Memory::new(Endianness::Little);
    let rom = block(0x1000);
    rom.write(0, &[1, 2, 3, 4]).unwrap();
    map(&memory, 0, Region::rom("rom", rom));
    let cache = memory.memory_space().cache(0, 8, Write).unwrap();
    assert!(!cache.is_ram());
    assert_eq!(cache.load::<Be, u32>(0), Ok(0x0102_0304));
    assert_eq!(cache.store::<Be, u32>(0, 5).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(cache.write(0, &[5]).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(cache.load::<Be, u32>(0), Ok(0x0102_0304));
}

#[test]
fn a_cache_stays_with_the_map_it_was_made_from() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0, Region::ram("ram", block(0x1000)));
    let value = Arc::new(AtomicU64::new(1));
    let device = map(&memory, 0x1000, Region::io("device", 8, register(&value)));
    let space = memory.memory_space();
    let (of_ram, of_device) = (space.cache(0, 8, Write).unwrap(), space.cache(0x1000, 8, Write).unwrap());
    memory
        .update(|t| {
            t.unmap(memory.system(), ram)?;
            t.unmap(memory.system(), device)?;
            t.remove(ram)?;
            t.remove(device)
        })
        .unwrap();
    memory.synchronize().unwrap();
    assert!(space.reader().load::<Le, u8>(0).is_err() && space.reader().load::<Le, u8>(0x1000).is_err());
    of_ram.store::<Le, u32>(0, 77).unwrap();
    of_device.store::<Le, u64>(0, 78).unwrap();
    assert_eq!((of_ram.load::<Le, u32>(0), of_device.load::<Le, u64>(0)), (Ok(77), Ok(78)));
    assert_eq!(value.load(SeqCst), 78);
    assert!(!of_ram.is_current() && !of_device.is_current());
}

#[test]
fn a_cache_knows_whether_a_new_one_would_be_the_same() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0, Region::ram("ram", block(0x1000)));
    let device = map(&memory, 0x1000, Region::io("device", 0x100, Ops::new()));
    let space = memory.memory_space();
    let caches = [
        space.cache(0, 0x10000, Write).unwrap(),
        space.cache(0x800, 8, Read).unwrap(),
        space.cache(0x1000, 0x100, Write).unwrap(),
        space.cache(0x2000, 0x100, Write).unwrap(),
    ];
    let current = || [0, 1, 2, 3].map(|i: usize| caches.get(i).unwrap().is_current());
    assert_eq!(current(), [true; 4]);
    // A change somewhere else.
    map(&memory, 0x8000, Region::io("elsewhere", 8, Ops::new()));
    memory.set_log(ram, DirtyClient::VGA, true).unwrap();
    assert_eq!(current(), [true; 4]);
    let over = memory.add(Region::io("over", 8, Ops::new())).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x900, over, 1)).unwrap();
    assert_eq!(current(), [false, true, true, true]);
    memory.update(|t| t.set_address(over, 0x1010)).unwrap();
    assert_eq!(current(), [true, true, false, true]);
    memory.update(|t| t.set_address(over, 0x20f8)).unwrap();
    assert_eq!(current(), [true, true, true, false]);
    memory.update(|t| t.set_enabled(over, false)).unwrap();
    memory.update(|t| t.set_readonly(ram, true)).unwrap();
    assert_eq!(current(), [false, true, true, true], "it could not be written now");
    memory.update(|t| t.set_readonly(ram, false)).unwrap();
    memory.update(|t| t.set_address(device, 0x1001)).unwrap();
    assert_eq!(current(), [true, true, false, true]);
    drop((space, memory));
    assert_eq!(current(), [false; 4]);
}

#[test]
fn what_is_written_through_a_cache_is_marked() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0, Region::ram("ram", block(8 * PAGE)));
    let dirty = || {
        let taken = memory.snapshot_and_clear_dirty(ram, 0, 8 * PAGE, DirtyClient::MIGRATION).unwrap();
        taken.runs().flat_map(|run| run.start / PAGE..run.end / PAGE).collect::<Vec<_>>()
    };
    // Made before the log begins: its view knows of none.
    let cache = memory.memory_space().cache(PAGE, 7 * PAGE, Write).unwrap();
    let value = Arc::default();
    let device = memory.add(Region::io("device", 8, register(&value))).unwrap();
    memory.map(memory.system(), 8 * PAGE, device).unwrap();
    memory
        .update(|t| {
            t.map_overlap(memory.system(), 6 * PAGE - 8, device, 1)
                .or_else(|_| t.set_address(device, 6 * PAGE - 8))
        })
        .unwrap();
    memory.update(|t| t.set_priority(device, 1)).unwrap();
    let slow = memory.memory_space().cache(6 * PAGE - 8, PAGE, Write).unwrap();
    assert!(cache.is_ram() && !slow.is_ram());
    memory.set_log(ram, DirtyClient::MIGRATION, true).unwrap();
    assert_eq!(dirty(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((cache.load::<Le, u8>(0), dirty()), (Ok(0), vec![]));
    cache.store::<Le, u32>(PAGE - 2, 1).unwrap();
    assert_eq!(dirty(), [1, 2]);
    cache.write(3 * PAGE, &[1; 2]).unwrap();
    assert_eq!(dirty(), [4]);
    cache.invalidate(PAGE + 7, PAGE).unwrap();
    assert_eq!(dirty(), [2, 3]);
    // RAM behind a device, in a view that is old.
    slow.write(0, &[1; 9]).unwrap();
    assert_eq!(dirty(), [6]);
    slow.store::<Le, u64>(0, 1).unwrap();
    assert!(dirty().is_empty());
}

#[test]
fn a_device_that_is_called_through_an_old_view_accesses_the_new_map() {
    let memory = Memory::new(Endianness::Little);
    let old = block(0x1000);
    let ram = map(&memory, 0, Region::ram("ram", Arc::clone(&old)));
    let space = memory.memory_space().downgrade();
    let forward = Ops::new().read(move |access| {
        let space = space.upgrade().ok_or(MemTxError::error())?;
        access.port(&space).load::<Le, u32>(0).map(u64::from)
    });
    map(&memory, 0x1000, Region::io("forward", 4, forward));
    let cache = memory.memory_space().cache(0x1000, 4, Read).unwrap();
    let new = block(0x1000);
    new.write(0, &[2]).unwrap();
    let other = memory.add(Region::ram("other", new)).unwrap();
    memory
        .update(|t| {
            t.unmap(memory.system(), ram)?;
            t.map(memory.system(), 0, other)
        })
        .unwrap();
    assert_eq!(cache.load::<Le, u32>(0), Ok(2));
}

#[test]
fn a_cache_of_ram_keeps_the_ram_and_nothing_else() {
    let alive = Arc::new(AtomicU64::new(0));
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1000);
    map(&memory, 0, Region::ram("ram", Arc::clone(&ram)));
    map(&memory, 0x1000, Region::io("device", 8, register(&alive)));
    let cache = memory.memory_space().cache(0, 8, Write).unwrap();
    let mapped = memory.memory_space().map(0x1000, 8, Write).unwrap();
    drop(memory);
    assert_eq!(Arc::strong_count(&alive), 1, "the device is gone");
    cache.store::<Le, u8>(0, 3).unwrap();
    let mut out = [0];
    ram.read(0, &mut out).unwrap();
    assert_eq!(out, [3]);
    assert_eq!(mapped.len(), 8);
    drop(cache);
    assert_eq!(Arc::strong_count(&ram), 1);
}

#[test]
fn caches_are_shared_by_threads() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(0x1000)));
    let value = Arc::default();
    map(&memory, 0x1000, Region::io("device", 8, register(&value)));
    let caches = [
        memory.memory_space().cache(0, 64, Write).unwrap(),
        memory.memory_space().cache(0x1000, 8, Write).unwrap(),
    ];
    std::thread::scope(|s| {
        for t in 0..4_u64 {
            let caches = &caches;
            s.spawn(move || {
                for i in 0..500 {
                    for cache in caches {
                        cache.store::<Le, u64>(0, t << 32 | i).unwrap();
                        assert!(cache.load::<Le, u64>(0).unwrap() >> 32 < 4);
                    }
                }
            });
        }
    });
}
