//! The same access on different ways in: bus, exact, CPU, debug.
//!
//! | rule | test |
//! |---|---|
//! | bus: pieces are min(left, `valid.max` or 4, alignment unless `impl.unaligned`), a power of two | `the_bus_cuts_an_access_into_what_the_device_takes` |
//! | bus: too large is split, too small is refused | `the_bus_splits_what_is_too_large_and_refuses_what_is_too_small` |
//! | bus: alignment is that of the offset in the region | `the_bus_aligns_to_the_regions_own_offsets` |
//! | bus: RAM is clipped to its range, then it goes on | `the_bus_crosses_from_ram_to_device_to_hole_to_ram` |
//! | bus: continues after errors, results OR-ed | `the_bus_goes_on_after_errors_and_joins_them` |
//! | bus: one flat view for the whole access | `a_bus_access_sees_one_map_from_its_first_byte_to_its_last` |
//! | bus: length 0 | `an_access_of_no_bytes_succeeds_anywhere` |
//! | bus: the end of the space | `a_bus_access_past_the_last_address_goes_on_at_the_first` |
//! | bus: `address_space_set` | `filling_writes_every_byte_and_goes_on_after_errors` |
//! | bus: `attrs.memory` | `an_access_for_ram_only_is_refused_by_all_else`, `an_access_for_ram_only_counts_rom_as_ram_and_a_rom_device_not` |
//! | exact: one access or none | `an_exact_access_is_never_split_by_the_bus_rules` |
//! | exact: straddling the end of RAM | `an_exact_access_past_the_end_of_ram_is_refused_whole` |
//! | exact: the last byte of a device | `an_access_to_the_last_byte_of_a_device_reaches_it_whole` |
//! | exact and bus: devices overlap (0xcf8 and 0xcf9) | `a_wide_access_is_the_first_devices_even_where_another_begins` |
//! | CPU: misaligned load of a device | `a_cpus_misaligned_load_of_a_device_is_two_aligned_loads` |
//! | CPU: misaligned store to a device | `a_cpus_misaligned_store_to_a_device_is_stores_of_bytes` |
//! | CPU: RAM at any alignment | `a_cpus_misaligned_access_to_ram_is_one_access` |
//! | CPU: from RAM into a device | `a_cpus_misaligned_access_may_leave_ram` |
//! | CPU: ROM | `a_cpus_store_to_rom_is_dropped_without_an_error_or_a_log_line` |
//! | CPU: unassigned | `a_cpus_failed_access_is_told_for_the_board_to_judge` |
//! | TCG's subpages | `devices_smaller_than_a_page_share_it` |
//! | debug: reads | `peek_runs_no_read_callback` |
//! | debug: writes ROM, skips devices | `poke_writes_rom_and_rom_devices_and_no_device` |
//! | read-only aliases (ours: on every path) | `a_read_only_alias_is_read_only_on_every_path` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

#[path = "support/noting.rs"]
mod noting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flatview::*;
use noting::{noting, taken};
use parking_lot::Mutex;

fn lines(memory: &Memory) -> Arc<Mutex<Vec<String>>> {
    struct Lines(Arc<Mutex<Vec<String>>>);
    impl AccessLog for Lines {
        fn invalid(&self, access: &InvalidAccess<'_>) {
            self.0.lock().push(access.to_string());
        }
    }
    let log = Arc::default();
    memory.set_access_log(Lines(Arc::clone(&log)));
    log
}

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

fn block(size: u64) -> Arc<RamBlock> {
    let block = RamBlock::anonymous("ram", size).unwrap();
    block.write(0, &(0..size).map(|i| i as u8).collect::<Vec<_>>()).unwrap();
    block
}

const ALL: AccessRules = AccessRules::new().implemented(1, 8);

#[test]
fn the_bus_cuts_an_access_into_what_the_device_takes() {
    for max in [0, 1, 2, 4, 8] {
        for unaligned in [false, true] {
            let mut rules = ALL.valid(1, max).valid_unaligned();
            if unaligned {
                rules = rules.implemented_unaligned();
            }
            let memory = Memory::new(Endianness::Little);
            let (ops, calls) = noting(rules);
            map(&memory, 0x1001, Region::io("device", 64, ops));
            let reader = memory.memory_space().reader();
            for from in 0..16_u64 {
                for len in 1..=19_u64 {
                    let mut expect = Vec::new();
                    let mut at = from;
                    while at < from + len {
                        let mut size = 8;
                        let limit = if max == 0 { 4 } else { u64::from(max) };
                        while size > limit || size > from + len - at || (!unaligned && at % size != 0) {
                            size /= 2;
                        }
                        expect.push((at, size as u32));
                        at += size;
                    }
                    let mut out = vec![0; len as usize];
                    reader.read(0x1001 + from, &mut out).unwrap();
                    assert!((from..).zip(&out).all(|(i, b)| i as u8 == *b));
                    let seen: Vec<_> = taken(&calls).iter().map(|c| (c.1, c.2)).collect();
                    assert_eq!(seen, expect, "read max {max} unaligned {unaligned} at {from} len {len}");
                    reader.write(0x1001 + from, &out).unwrap();
                    let written = taken(&calls);
                    assert_eq!(written.iter().map(|c| (c.1, c.2)).collect::<Vec<_>>(), expect);
                    let bytes: Vec<u8> =
                        written.iter().flat_map(|c| c.3.to_le_bytes()[..c.2 as usize].to_vec()).collect();
                    assert_eq!(bytes, out);
                }
            }
        }
    }
}

#[test]
fn the_bus_splits_what_is_too_large_and_refuses_what_is_too_small() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(AccessRules::new().valid(2, 2));
    map(&memory, 0, Region::io("halfwords", 16, ops));
    let reader = memory.memory_space().reader();
    reader.write(0, &[1, 2, 3, 4]).unwrap();
    assert_eq!(taken(&calls), [('w', 0, 2, 0x0201), ('w', 2, 2, 0x0403)]);
    assert!(reader.store::<Le, u32>(0, 0).is_err(), "refused when exact");
    let mut out = [0xee; 3];
    let error = reader.read(0, &mut out).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidSize { min: 2, max: 2 });
    assert_eq!((error.address(), error.size()), (2, 1));
    assert_eq!(out, [0, 1, 0]);
}

#[test]
fn the_bus_aligns_to_the_regions_own_offsets() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(ALL);
    map(&memory, 0x1003, Region::io("odd place", 16, ops));
    let reader = memory.memory_space().reader();
    reader.write(0x1003, &[0; 4]).unwrap();
    reader.write(0x1004, &[0; 4]).unwrap();
    let calls: Vec<_> = taken(&calls).iter().map(|c| (c.1, c.2)).collect();
    assert_eq!(calls, [(0, 4), (1, 1), (2, 2), (4, 1)]);
}

#[test]
fn the_bus_crosses_from_ram_to_device_to_hole_to_ram() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(ALL);
    let (low, high) = (block(0x100), block(0x100));
    map(&memory, 0x0, Region::ram("low", low.clone()));
    map(&memory, 0x100, Region::io("device", 4, ops));
    map(&memory, 0x106, Region::ram("high", high.clone()));
    let reader = memory.memory_space().reader();
    let mut out = [0xee; 12];
    let error = reader.read(0xfe, &mut out).unwrap_err();
    // Only RAM is clipped: the piece that begins in the hole is four bytes and takes two of the RAM's along.
    assert_eq!(out, [0xfe, 0xff, 0, 1, 2, 3, 0, 0, 0, 0, 2, 3]);
    assert_eq!((error.address(), error.size(), error.region()), (0x104, 4, None));
    assert_eq!(taken(&calls), [('r', 0, 4, 0)]);
    reader.write(0xfe, &[0xa0; 12]).unwrap_err();
    assert_eq!(taken(&calls), [('w', 0, 4, 0xa0a0_a0a0)]);
    let mut ends = [0; 2];
    low.read(0xfe, &mut ends).unwrap();
    assert_eq!(ends, [0xa0; 2]);
    let mut begins = [0; 5];
    high.read(0, &mut begins).unwrap();
    assert_eq!(begins, [0, 1, 0xa0, 0xa0, 4]);
}

#[test]
fn the_bus_goes_on_after_errors_and_joins_them() {
    let memory = Memory::new(Endianness::Little);
    let of = |e: MemTxError| Ops::new().read(move |_| Err(e)).write(move |_, _| Err(e));
    map(&memory, 0, Region::io("fails", 4, of(MemTxError::error())));
    map(&memory, 4, Region::io("refuses", 4, of(MemTxError::access())));
    let ram = block(4);
    map(&memory, 8, Region::ram("ram", ram.clone()));
    let reader = memory.memory_space().reader();
    let mut out = [0xee; 16];
    let all = MemTxResult::ERROR | MemTxResult::ACCESS_ERROR | MemTxResult::DECODE_ERROR;
    let error = reader.read(0, &mut out).unwrap_err();
    assert_eq!((error.result(), error.address(), error.reason()), (all, 0, Reason::Device));
    assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0]);
    assert_eq!(reader.write(0, &[7; 16]).unwrap_err().result(), all);
    ram.read(0, &mut out[..4]).unwrap();
    assert_eq!(out[..4], [7; 4]);
}

#[test]
fn a_bus_access_sees_one_map_from_its_first_byte_to_its_last() {
    let memory = Memory::new(Endianness::Little);
    let behind = Arc::new(Mutex::new(None));
    let ops = {
        let (memory, behind) = (memory.downgrade(), Arc::clone(&behind));
        Ops::new().rules(AccessRules::new().valid(1, 1)).read(move |a| {
            let Some((ram, over)) = *behind.lock() else { return Ok(0x11) };
            let memory = memory.upgrade().unwrap();
            let flipped = memory.region(over).unwrap().enabled;
            memory
                .update(|t| {
                    t.set_enabled(over, !flipped)?;
                    t.set_enabled(ram, flipped)
                })
                .map_err(|_| MemTxError::error())?;
            // A nested access sees the newest map, whatever its chain began in.
            let space = memory.memory_space();
            let now = a.port(&space).load::<Le, u8>(4)?;
            assert_eq!(now, if flipped { 0xa4 } else { 0xb4 });
            Ok(0x11)
        })
    };
    map(&memory, 0, Region::io("flips", 4, ops));
    let fill = |name: &str, base: u8| {
        let block = RamBlock::anonymous(name, 0x100).unwrap();
        block.write(0, &(0..8).map(|i| base + i).collect::<Vec<_>>()).unwrap();
        Region::ram(name, block)
    };
    let a = map(&memory, 0, fill("a", 0xa0));
    let b = map(&memory, 0, fill("b", 0xb0).enabled(false));
    let flips = memory.children(memory.system()).unwrap().pop().unwrap();
    memory.update(|t| t.set_priority(flips, 1)).unwrap();
    *behind.lock() = Some((a, b));
    let reader = memory.memory_space().reader();
    let mut out = [0; 8];
    // Four calls that flip the map each time, then RAM of the map in which the access began.
    reader.read(0, &mut out).unwrap();
    assert_eq!(out, [0x11, 0x11, 0x11, 0x11, 0xa4, 0xa5, 0xa6, 0xa7]);
    reader.read(1, &mut out).unwrap();
    assert_eq!(out, [0x11, 0x11, 0x11, 0xa4, 0xa5, 0xa6, 0xa7, 0]);
    assert_eq!(reader.load::<Le, u8>(4), Ok(0xb4), "three flips");
}

#[test]
fn an_access_of_no_bytes_succeeds_anywhere() {
    let memory = Memory::new(Endianness::Little);
    let reader = memory.memory_space().reader();
    for at in [0, 0x1234, u64::MAX] {
        assert_eq!(reader.read(at, &mut []), Ok(()));
        assert_eq!(reader.write(at, &[]), Ok(()));
        assert_eq!(reader.peek(at, &mut []), Ok(()));
        assert_eq!(reader.poke(at, &[]), Ok(()));
        assert_eq!(memory.memory_space().fill(at, 1, 0), Ok(()));
    }
}

#[test]
fn a_bus_access_past_the_last_address_goes_on_at_the_first() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, u64::MAX - 3, Region::ram("last", block(4)));
    map(&memory, 0, Region::ram("first", block(4)));
    let reader = memory.memory_space().reader();
    let mut out = [0; 6];
    reader.read(u64::MAX - 1, &mut out).unwrap();
    assert_eq!(out, [2, 3, 0, 1, 2, 3]);
    reader.write(u64::MAX, &[9, 8]).unwrap();
    assert_eq!((reader.load::<Le, u8>(u64::MAX), reader.load::<Le, u8>(0)), (Ok(9), Ok(8)));
    assert_eq!(reader.load::<Le, u16>(u64::MAX).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert!(reader.cpu_load::<Le, u32>(u64::MAX).is_ok(), "two aligned loads, the second at 0");
    reader.peek(u64::MAX, &mut out[..2]).unwrap();
    assert_eq!(out[..2], [9, 8]);
}

#[test]
fn filling_writes_every_byte_and_goes_on_after_errors() {
    let memory = Memory::new(Endianness::Little);
    let (low, high) = (block(0x400), block(0x400));
    map(&memory, 0, Region::ram("low", low.clone()));
    map(&memory, 0x500, Region::ram("high", high.clone()));
    let error = memory.memory_space().fill(0x3f0, 0x5a, 0x210).unwrap_err();
    assert_eq!((error.address(), error.result()), (0x400, MemTxResult::DECODE_ERROR));
    let mut out = [0; 0x400];
    low.read(0, &mut out).unwrap();
    assert!(out[..0x3f0].iter().enumerate().all(|(i, b)| i as u8 == *b));
    assert_eq!(out[0x3f0..], [0x5a; 0x10]);
    high.read(0, &mut out).unwrap();
    assert_eq!(out[..0x100], [0x5a; 0x100]);
    assert_eq!(out[0x100..0x104], [0, 1, 2, 3]);
    memory.memory_space().fill(0x500, 1, 0x400).unwrap();
}

#[test]
fn an_access_for_ram_only_is_refused_by_all_else() {
    let memory = Memory::new(Endianness::Little);
    let log = lines(&memory);
    let (ops, calls) = noting(ALL);
    let device = map(&memory, 0x100, Region::io("device", 0x10, ops));
    map(&memory, 0, Region::ram("ram", block(0x100)));
    let reader = memory.memory_space().reader();
    let port = reader.port(MemTxAttrs::new().with_memory(true));
    let mut out = [0xee; 4];
    port.read(0x10, &mut out).unwrap();
    port.write(0x10, &out).unwrap();
    assert_eq!(out, [0x10, 0x11, 0x12, 0x13]);
    let error = port.read(0x104, &mut out).unwrap_err();
    assert_eq!((error.result(), error.region()), (MemTxResult::ACCESS_ERROR, Some(device)));
    assert_eq!((error.reason(), out), (Reason::NotRam, [0; 4]));
    assert_eq!(port.write(0x104, &out).unwrap_err().result(), MemTxResult::ACCESS_ERROR);
    assert_eq!(port.read(0x1000, &mut out).unwrap_err().result(), MemTxResult::ACCESS_ERROR);
    assert!(calls.lock().is_empty());
    assert_eq!(
        *log.lock(),
        [
            "Invalid access to non-RAM device at addr 0x4, size 4, region 'device'",
            "Invalid access to non-RAM device at addr 0x4, size 4, region 'device'",
            "Invalid access to non-RAM device at addr 0x1000, size 4, region '(null)'",
        ]
    );
}

#[test]
fn an_access_for_ram_only_counts_rom_as_ram_and_a_rom_device_not() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::rom("rom", block(0x100)));
    map(&memory, 0x100, Region::rom_device("flash", block(0x100), Ops::new().write(|_, _| Ok(()))));
    let reader = memory.memory_space().reader();
    let port = reader.port(MemTxAttrs::new().with_memory(true));
    let mut out = [0xee; 2];
    assert_eq!(port.read(0x20, &mut out), Ok(()));
    assert_eq!(out, [0x20, 0x21]);
    let error = port.write(0x20, &out).unwrap_err();
    assert_eq!((error.result(), error.reason()), (MemTxResult::DECODE_ERROR, Reason::Rejected));
    assert_eq!(port.read(0x120, &mut out).unwrap_err().reason(), Reason::NotRam);
    assert_eq!(port.write(0x120, &out).unwrap_err().reason(), Reason::NotRam);
    assert_eq!(reader.read(0x120, &mut out), Ok(()));
    assert_eq!(reader.write(0x120, &out), Ok(()));
}

#[test]
fn an_exact_access_is_never_split_by_the_bus_rules() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(AccessRules::new().valid(1, 2));
    map(&memory, 0, Region::io("device", 16, ops));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0).unwrap_err().reason(), Reason::InvalidSize { min: 1, max: 2 });
    assert_eq!(reader.load::<Le, u16>(1).unwrap_err().reason(), Reason::Unaligned);
    assert!(calls.lock().is_empty());
    let mut out = [0; 4];
    reader.read(0, &mut out).unwrap();
    reader.read(1, &mut out[..2]).unwrap();
    assert_eq!(calls.lock().len(), 4);
}

#[test]
fn an_exact_access_past_the_end_of_ram_is_refused_whole() {
    let memory = Memory::new(Endianness::Little);
    let log = lines(&memory);
    let ram = block(0x100);
    let id = map(&memory, 0, Region::ram("ram", ram.clone()));
    let (ops, calls) = noting(ALL.valid_unaligned());
    map(&memory, 0x100, Region::io("next", 0x10, ops));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0xfc), Ok(0xfffe_fdfc));
    let error = reader.load::<Le, u32>(0xfe).unwrap_err();
    assert_eq!((error.result(), error.region()), (MemTxResult::DECODE_ERROR, Some(id)));
    assert_eq!(reader.store::<Be, u64>(0xff, 0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    let mut last = [0];
    ram.read(0xff, &mut last).unwrap();
    assert_eq!((last[0], calls.lock().len()), (0xff, 0));
    assert_eq!(log.lock()[0], "Invalid read at addr 0xFE, size 4, region 'ram', reason: rejected");
    assert_eq!(log.lock()[1], "Invalid write at addr 0xFF, size 8, region 'ram', reason: rejected");
    // The bus clips and goes on.
    let mut out = [0; 4];
    reader.read(0xfe, &mut out).unwrap();
    assert_eq!(out, [0xfe, 0xff, 0, 1]);
}

#[test]
fn an_access_to_the_last_byte_of_a_device_reaches_it_whole() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(ALL.valid(1, 4).valid_unaligned().implemented_unaligned());
    map(&memory, 0x1000, Region::io("device", 9, ops));
    map(&memory, 0x1009, Region::ram("next", block(0x100)));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0x1008), Ok(0x0b0a_0908));
    reader.store::<Le, u32>(0x1008, 0x1122_3344).unwrap();
    assert_eq!(taken(&calls), [('r', 8, 4, 0), ('w', 8, 4, 0x1122_3344)]);
    // On the bus too: devices are not clipped.
    reader.write(0x1008, &[1, 2, 3, 4, 5]).unwrap();
    assert_eq!(taken(&calls), [('w', 8, 4, 0x0403_0201)]);
    assert_eq!(reader.load::<Le, u8>(0x100c), Ok(5));
    assert_eq!(reader.load::<Le, u8>(0x1009), Ok(0), "the neighbour was not touched");
}

#[test]
fn a_wide_access_is_the_first_devices_even_where_another_begins() {
    // As PCs have it: 0xcf8 takes four bytes, and 0xcf9 is another device's.
    let memory = Memory::new(Endianness::Little);
    let (config, config_calls) = noting(AccessRules::new().valid(1, 4));
    let (reset, reset_calls) = noting(AccessRules::new());
    let config = memory.add(Region::io("config", 4, config)).unwrap();
    let reset = memory.add(Region::io("reset", 1, reset)).unwrap();
    memory.map(memory.io(), 0xcf8, config).unwrap();
    memory.update(|t| t.map_overlap(memory.io(), 0xcf9, reset, 1)).unwrap();
    let ports = memory.io_space().reader();
    ports.store::<Le, u32>(0xcf8, 0x8000_0000).unwrap();
    ports.write(0xcf8, &[0, 0, 0, 0x80]).unwrap();
    assert_eq!(taken(&config_calls), [('w', 0, 4, 0x8000_0000); 2]);
    ports.store::<Le, u8>(0xcf9, 6).unwrap();
    assert_eq!((taken(&config_calls).len(), taken(&reset_calls)), (0, vec![('w', 0, 1, 6)]));
}

#[test]
fn a_cpus_misaligned_load_of_a_device_is_two_aligned_loads() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(ALL);
    map(&memory, 0x1000, Region::io("device", 0x20, ops));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.cpu_load::<Le, u32>(0x1005), Ok(0x0807_0605));
    assert_eq!(taken(&calls), [('r', 4, 4, 0), ('r', 8, 4, 0)]);
    assert_eq!(reader.cpu_load::<Be, u32>(0x1005), Ok(0x0506_0708));
    taken(&calls);
    assert_eq!(reader.cpu_load::<Be, u16>(0x1007), Ok(0x0708));
    assert_eq!(taken(&calls), [('r', 6, 2, 0), ('r', 8, 2, 0)]);
    for past in 0..8 {
        let expect = (0..8).fold(0, |v, i| v | (past + i) << (8 * i));
        assert_eq!(reader.cpu_load::<Le, u64>(0x1000 + past), Ok(expect));
        assert_eq!(reader.cpu_load::<Be, u64>(0x1000 + past), Ok(expect.swap_bytes()));
    }
    assert_eq!(reader.cpu_load::<Le, u8>(0x1003), Ok(3));
    // Aligned: one load.
    taken(&calls);
    assert_eq!(reader.cpu_load::<Le, u32>(0x1004), Ok(0x0706_0504));
    assert_eq!(taken(&calls), [('r', 4, 4, 0)]);
}

#[test]
fn a_cpus_misaligned_store_to_a_device_is_stores_of_bytes() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(ALL);
    map(&memory, 0x1000, Region::io("device", 0x20, ops));
    let reader = memory.memory_space().reader();
    reader.cpu_store::<Be, u32>(0x1005, 0x1122_3344).unwrap();
    assert_eq!(taken(&calls), [('w', 5, 1, 0x11), ('w', 6, 1, 0x22), ('w', 7, 1, 0x33), ('w', 8, 1, 0x44)]);
    reader.cpu_store::<Le, u16>(0x1003, 0x1122).unwrap();
    assert_eq!(taken(&calls), [('w', 3, 1, 0x22), ('w', 4, 1, 0x11)]);
    reader.cpu_store::<Le, u32>(0x1004, 0x1122_3344).unwrap();
    assert_eq!(taken(&calls), [('w', 4, 4, 0x1122_3344)]);
}

#[test]
fn a_cpus_misaligned_access_to_ram_is_one_access() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0x1003, Region::ram("ram", block(0x100)));
    let reader = memory.memory_space().reader();
    for past in 0..8 {
        let expect = (0..8).fold(0, |v, i| v | (past + i) << (8 * i));
        assert_eq!(reader.cpu_load::<Le, u64>(0x1003 + past), Ok(expect));
        reader.cpu_store::<Be, u64>(0x1053 + past, expect).unwrap();
        assert_eq!(reader.load::<Be, u64>(0x1053 + past), Ok(expect));
    }
}

#[test]
fn a_cpus_misaligned_access_may_leave_ram() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(ALL);
    map(&memory, 0, Region::ram("ram", block(0x100)));
    map(&memory, 0x100, Region::io("device", 0x20, ops));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.cpu_load::<Le, u32>(0xfe), Ok(0x0100_fffe));
    assert_eq!(taken(&calls), [('r', 0, 4, 0)]);
    reader.cpu_store::<Le, u32>(0xfe, 0x4433_2211).unwrap();
    assert_eq!(taken(&calls), [('w', 0, 1, 0x33), ('w', 1, 1, 0x44)]);
    assert_eq!(reader.load::<Le, u16>(0xfe), Ok(0x2211));
}

#[test]
fn a_cpus_store_to_rom_is_dropped_without_an_error_or_a_log_line() {
    let memory = Memory::new(Endianness::Little);
    let log = lines(&memory);
    map(&memory, 0x1000, Region::rom("rom", block(0x100)));
    map(&memory, 0x1100, Region::ram("ram", block(0x100)));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.cpu_store::<Le, u32>(0x1010, 0), Ok(()));
    assert_eq!(reader.cpu_store::<Le, u64>(0x1013, 0), Ok(()));
    assert_eq!(reader.cpu_load::<Le, u32>(0x1010), Ok(0x1312_1110));
    // Across its end only the RAM's bytes change.
    assert_eq!(reader.cpu_store::<Le, u32>(0x10fe, 0x4433_2211), Ok(()));
    assert_eq!(reader.load::<Le, u32>(0x1100), Ok(0x0302_4433));
    assert_eq!(reader.load::<Le, u16>(0x10fe), Ok(0xfffe));
    assert!(log.lock().is_empty());
    // On the bus the same store is a decode error.
    assert_eq!(reader.store::<Le, u32>(0x1010, 0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(reader.write(0x1010, &[0]).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(log.lock().len(), 2);
}

#[test]
fn a_cpus_failed_access_is_told_for_the_board_to_judge() {
    let memory = Memory::new(Endianness::Little);
    let (ops, _) = noting(AccessRules::new().valid(4, 4));
    map(&memory, 0x1000, Region::io("words", 0x20, ops));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.cpu_load::<Le, u32>(0x8000).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(reader.cpu_store::<Le, u32>(0x8000, 0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert!(reader.cpu_load::<Le, u8>(0x1000).is_err());
    assert!(reader.cpu_store::<Le, u32>(0x1001, 0).is_err(), "bytes, which this device refuses");
}

#[test]
fn devices_smaller_than_a_page_share_it() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0x1000, Region::ram("ram", block(0x100)));
    for i in 0..64_u64 {
        let ops = Ops::new().read(move |_| Ok(0xa0 + i));
        map(&memory, 0x1100 + 3 * i, Region::io(format!("device {i}"), 1, ops));
    }
    let reader = memory.memory_space().reader();
    for i in 0..64 {
        assert_eq!(reader.cpu_load::<Le, u8>(0x1100 + 3 * i), Ok(0xa0 + i as u8));
        assert!(reader.cpu_load::<Le, u8>(0x1101 + 3 * i).is_err());
    }
    assert_eq!(reader.cpu_load::<Le, u32>(0x10fc), Ok(0xfffe_fdfc));
}

#[test]
fn peek_runs_no_read_callback() {
    let memory = Memory::new(Endianness::Little);
    let reads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reads);
    let ops = Ops::new()
        .rules(AccessRules::new().endian(DeviceEndian::Big))
        .read(move |_| Ok(count.fetch_add(1, Ordering::Relaxed)))
        .peek(|offset, size| (offset < 4 && size == 4).then_some(0x1122_3344));
    let device = map(&memory, 0x100, Region::io("device", 8, ops));
    map(&memory, 0, Region::rom("rom", block(0x100)));
    let reader = memory.memory_space().reader();
    let mut out = [0xee; 6];
    reader.peek(0xfe, &mut out).unwrap();
    assert_eq!(out, [0xfe, 0xff, 0x11, 0x22, 0x33, 0x44]);
    let error = reader.peek(0x104, &mut out).unwrap_err();
    assert_eq!((error.reason(), error.region()), (Reason::Unknown, Some(device)));
    assert_eq!(out, [0; 6]);
    assert_eq!(reader.peek(0x5000, &mut out).unwrap_err().region(), None);
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    // Unassigned ports are known to read as ones.
    memory.io_space().peek(0x80, &mut out).unwrap();
    assert_eq!(out, [0xff; 6]);
}

#[test]
fn poke_writes_rom_and_rom_devices_and_no_device() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(ALL);
    let (flash_ops, flash_calls) = noting(ALL);
    map(&memory, 0, Region::rom("rom", block(0x10)));
    let device = map(&memory, 0x10, Region::io("device", 4, ops));
    map(&memory, 0x14, Region::rom_device("flash", block(0xc), flash_ops));
    map(&memory, 0x20, Region::ram("ram", block(0x10)));
    let reader = memory.memory_space().reader();
    let error = reader.poke(0xe, &[0x77; 0x14]).unwrap_err();
    assert_eq!((error.address(), error.size(), error.region()), (0x10, 4, Some(device)));
    let mut out = [0; 2];
    for (at, expect) in [(0xd, [0xd, 0x77]), (0x13, [0, 0x77]), (0x1f, [0x77; 2]), (0x21, [0x77, 2])] {
        let _ = reader.peek(at, &mut out);
        assert_eq!(out, expect, "{at:#x}");
    }
    assert!(calls.lock().is_empty() && flash_calls.lock().is_empty());
    assert!(reader.poke(0x8000, &[1]).is_err());
}

#[test]
fn a_read_only_alias_is_read_only_on_every_path() {
    let memory = Memory::new(Endianness::Little);
    let log = lines(&memory);
    let ram = map(&memory, 0, Region::ram("ram", block(0x100)));
    let (ops, calls) = noting(ALL);
    let device = map(&memory, 0x100, Region::io("device", 0x10, ops));
    map(&memory, 0x1000, Region::alias("ro ram", ram, 0, 0x100).readonly(true));
    map(&memory, 0x1100, Region::alias("ro device", device, 0, 0x10).readonly(true));
    let reader = memory.memory_space().reader();
    let decode = MemTxResult::DECODE_ERROR;
    assert_eq!(reader.write(0x1010, &[0]).unwrap_err().result(), decode);
    assert_eq!(reader.store::<Le, u32>(0x1010, 0).unwrap_err().result(), decode);
    assert_eq!(reader.cpu_store::<Le, u32>(0x1010, 0), Ok(()), "a CPU's is dropped");
    assert_eq!(reader.load::<Le, u32>(0x1010), Ok(0x1312_1110));
    assert_eq!(log.lock()[1], "Invalid write at addr 0x10, size 4, region 'ram', reason: rejected");
    assert_eq!(reader.write(0x1100, &[0; 4]).unwrap_err().result(), decode);
    assert_eq!(reader.cpu_store::<Le, u32>(0x1100, 0).unwrap_err().result(), decode);
    assert_eq!(reader.load::<Le, u32>(0x1104), Ok(0x0706_0504));
    assert_eq!(taken(&calls), [('r', 4, 4, 0)]);
    // A debugger may write, and the RAM itself stays writable.
    reader.poke(0x1010, &[0xaa]).unwrap();
    reader.store::<Le, u8>(0x11, 0xbb).unwrap();
    assert_eq!(reader.load::<Le, u16>(0x1010), Ok(0xbbaa));
}
