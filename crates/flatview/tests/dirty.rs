//! Dirty tracking: what marks a page, for whom, and who takes the mark.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::Duration;

use flatview::*;
use parking_lot::Mutex;
use proptest::prelude::*;

const PAGE: u64 = DIRTY_PAGE_SIZE;
const VGA: DirtyClient = DirtyClient::VGA;
const CODE: DirtyClient = DirtyClient::CODE;
const MIGRATION: DirtyClient = DirtyClient::MIGRATION;

/// A memory with a RAM region of so many pages at 0.
fn with_ram(pages: u64) -> (Memory, RegionId, Arc<RamBlock>) {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("ram", pages * PAGE).unwrap();
    let ram = memory.add(Region::ram("ram", Arc::clone(&block))).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    (memory, ram, block)
}

/// Logs a region, with all pages clean.
fn log(memory: &Memory, region: RegionId, client: DirtyClient) {
    memory.set_log(region, client, true).unwrap();
    let size = u64::try_from(memory.region(region).unwrap().size).unwrap();
    memory.reset_dirty(region, 0, size, client).unwrap();
}

/// The pages of a region that a client has not seen; they are clean then.
fn take(memory: &Memory, region: RegionId, client: DirtyClient) -> Vec<u64> {
    let size = u64::try_from(memory.region(region).unwrap().size).unwrap();
    let snapshot = memory.snapshot_and_clear_dirty(region, 0, size, client).unwrap();
    let pages: Vec<u64> = (0..size.div_ceil(PAGE)).filter(|p| snapshot.is_dirty(p * PAGE, 1)).collect();
    assert_eq!(pages.len() as u64, snapshot.count());
    pages
}

#[test]
fn every_way_to_write_ram_marks_the_pages_it_wrote() {
    let (memory, ram, block) = with_ram(16);
    log(&memory, ram, VGA);
    let space = memory.memory_space();
    let reader = space.reader();
    let took = |what: &str, pages: &[u64]| assert_eq!(take(&memory, ram, VGA), pages, "{what}");

    // Twice each: what finds the place the first time may be remembered for the second.
    for _ in 0..2 {
        reader.store::<Le, u32>(3 * PAGE + 4, 1).unwrap();
        took("store", &[3]);
        reader.store::<Be, u64>(5 * PAGE - 4, 1).unwrap();
        took("store over a page boundary", &[4, 5]);
        reader.cpu_store::<Le, u16>(7 * PAGE, 1).unwrap();
        took("cpu_store", &[7]);
        reader.cpu_store::<Le, u32>(8 * PAGE - 1, 1).unwrap();
        took("misaligned cpu_store", &[7, 8]);
        reader.write(9 * PAGE - 1, &[1; PAGE as usize + 2]).unwrap();
        took("bus write", &[8, 9, 10]);
        reader.write(PAGE, &[1]).unwrap();
        took("bus write of a byte", &[1]);
        reader.poke(2 * PAGE, &[1; 8]).unwrap();
        took("poke", &[2]);
    }
    space.fill(11 * PAGE, 0xee, PAGE + 1).unwrap();
    took("fill", &[11, 12]);
    space.write(13 * PAGE, &[1]).unwrap();
    took("a reader for the occasion", &[13]);
    block.write(14 * PAGE, &[1]).unwrap();
    took("a loader", &[14]);
    reader.host_ptr(2 * PAGE, 4 * PAGE).unwrap().mark_dirty(PAGE, 1).unwrap();
    took("a host pointer", &[3]);
    memory.set_dirty(ram, 15 * PAGE - 1, 2).unwrap();
    took("set_dirty", &[14, 15]);
    reader.port(MemTxAttrs::UNSPECIFIED.with_memory(true)).write(6 * PAGE, &[1, 2]).unwrap();
    took("a port", &[6]);

    // Looking and failing mark nothing.
    reader.load::<Le, u64>(0).unwrap();
    reader.read(0, &mut [0; 9000]).unwrap();
    reader.peek(0, &mut [0; 9000]).unwrap();
    reader.store::<Le, u64>(16 * PAGE - 4, 1).unwrap_err();
    reader.write(16 * PAGE, &[1]).unwrap_err();
    took("nothing", &[]);
}

#[test]
fn a_device_that_writes_memory_while_it_is_accessed_marks_it() {
    let (memory, ram, _) = with_ram(16);
    let space = memory.memory_space().downgrade();
    let dma = Ops::new().write(move |access, value| {
        let space = space.upgrade().ok_or(MemTxError::error())?;
        access.port(&space).write(value, &[1, 2, 3])?;
        access.port(&space).store::<Le, u8>(value + PAGE, 1)
    });
    let device = memory.add(Region::io("dma", 8, dma)).unwrap();
    memory.map(memory.system(), 0x100_0000, device).unwrap();
    log(&memory, ram, MIGRATION);
    let reader = memory.memory_space().reader();
    reader.store::<Le, u32>(0x100_0000, 3 * PAGE as u32).unwrap();
    assert_eq!(take(&memory, ram, MIGRATION), [3, 4]);
}

#[test]
fn a_write_through_an_alias_or_another_space_marks_the_target() {
    let (memory, ram, _) = with_ram(16);
    let alias = memory.add(Region::alias("alias", ram, 4 * PAGE, 0x4000)).unwrap();
    memory.map(memory.system(), 0x100_0800, alias).unwrap();
    let bus = memory.add(Region::container("bus", WHOLE)).unwrap();
    let window = memory.add(Region::alias("window", ram, 2 * PAGE, WHOLE)).unwrap();
    memory.map(bus, 0, window).unwrap();
    let dma = memory.address_space("dma", bus).unwrap();
    log(&memory, ram, VGA);
    memory.memory_space().reader().store::<Le, u8>(0x100_0800 + PAGE, 1).unwrap();
    dma.reader().store::<Le, u8>(PAGE - 1, 1).unwrap();
    assert_eq!(take(&memory, ram, VGA), [2, 5]);
    assert!(matches!(memory.set_log(alias, VGA, true), Err(MemoryError::NoRam { .. })));
}

#[test]
fn rom_is_marked_by_what_may_write_it_and_by_nothing_else() {
    let memory = Memory::new(Endianness::Little);
    let rom = memory.add(Region::rom("rom", RamBlock::anonymous("rom", 4 * PAGE).unwrap())).unwrap();
    let ops = Ops::new().write(|_, _| Ok(()));
    let flash = Region::rom_device("flash", RamBlock::anonymous("flash", 4 * PAGE).unwrap(), ops);
    let flash = memory.add(flash).unwrap();
    memory.map(memory.system(), 0, rom).unwrap();
    memory.map(memory.system(), 4 * PAGE, flash).unwrap();
    log(&memory, rom, VGA);
    log(&memory, flash, VGA);
    let reader = memory.memory_space().reader();
    reader.store::<Le, u8>(0, 1).unwrap_err();
    reader.write(PAGE, &[1]).unwrap_err();
    reader.cpu_store::<Le, u8>(0, 1).unwrap();
    reader.store::<Le, u8>(4 * PAGE, 1).unwrap();
    assert_eq!((take(&memory, rom, VGA), take(&memory, flash, VGA)), (vec![], vec![]));
    reader.poke(4 * PAGE - 1, &[1, 1]).unwrap();
    assert_eq!((take(&memory, rom, VGA), take(&memory, flash, VGA)), (vec![3], vec![0]));
}

#[test]
fn a_rom_device_tells_what_it_wrote_itself_in_rom_mode_only() {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("flash", 4 * PAGE).unwrap();
    let flash = memory.add(Region::rom_device("flash", block, Ops::new())).unwrap();
    log(&memory, flash, CODE);
    memory.flush_rom_device(flash, PAGE, 1).unwrap();
    assert_eq!(take(&memory, flash, CODE), [1]);
    assert!(matches!(memory.flush_rom_device(flash, 4 * PAGE, 1), Err(MemoryError::OutsideRegion { .. })));
    memory.update(|t| t.set_romd(flash, false)).unwrap();
    assert!(matches!(memory.flush_rom_device(flash, 0, 1), Err(MemoryError::RomModeOff { .. })));
    let (other, ram, _) = with_ram(1);
    assert!(matches!(other.flush_rom_device(ram, 0, 1), Err(MemoryError::NotRomDevice { .. })));
}

#[test]
fn a_ram_device_is_marked_as_ram_is() {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("bar", 4 * PAGE).unwrap();
    let bar = memory.add(Region::ram_device("bar", block)).unwrap();
    memory.map(memory.system(), 0, bar).unwrap();
    log(&memory, bar, MIGRATION);
    let reader = memory.memory_space().reader();
    reader.store::<Le, u32>(2 * PAGE - 2, 1).unwrap();
    reader.write(3 * PAGE, &[1; 100]).unwrap();
    assert_eq!(take(&memory, bar, MIGRATION), [1, 2, 3]);
}

#[test]
fn a_resized_block_is_dirty_for_all_clients() {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::builder("ram", 4 * PAGE).max_size(16 * PAGE).build().unwrap();
    let ram = memory.add(Region::ram("ram", block)).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    log(&memory, ram, VGA);
    memory.resize_ram(ram, 6 * PAGE).unwrap();
    assert_eq!(take(&memory, ram, VGA), [0, 1, 2, 3, 4, 5]);
    memory.memory_space().reader().store::<Le, u8>(5 * PAGE, 1).unwrap();
    assert_eq!(take(&memory, ram, VGA), [5]);
}

#[test]
fn memory_that_is_aligned_otherwise_than_the_host_is_marked_too() {
    /// One byte past where the allocator put it.
    struct Odd(Box<[std::sync::atomic::AtomicU8]>);
    #[expect(unsafe_code, reason = "a caller's buffer is given by unsafe means")]
    // SAFETY: a heap slice of atomics does not move with its owner and may be written through shared references.
    unsafe impl HostBuffer for Odd {
        fn ptr(&self) -> std::ptr::NonNull<u8> {
            std::ptr::NonNull::from(&self.0[1]).cast()
        }
        fn len(&self) -> usize {
            self.0.len() - 1
        }
    }
    let bytes = (0..=4 * PAGE as usize).map(|_| std::sync::atomic::AtomicU8::new(0)).collect();
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("odd", RamBlock::from_buffer("odd", Odd(bytes)).unwrap())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    log(&memory, ram, VGA);
    let reader = memory.memory_space().reader();
    for _ in 0..2 {
        // Whichever of these the host finds aligned, it is over a page boundary of the block.
        for back in 1..8 {
            reader.store::<Le, u64>(2 * PAGE - back, 1).unwrap();
            assert_eq!(take(&memory, ram, VGA), [1, 2]);
        }
    }
}

#[test]
fn a_new_block_is_dirty_for_all_clients() {
    let (memory, ram, _) = with_ram(3);
    for client in [VGA, CODE, MIGRATION, memory.allocate_dirty_client("mine").unwrap()] {
        memory.set_log(ram, client, true).unwrap();
        assert_eq!(take(&memory, ram, client), [0, 1, 2], "{client}");
        assert!(take(&memory, ram, client).is_empty());
    }
}

#[test]
fn only_writes_while_the_log_runs_count_and_marks_outlive_it() {
    let (memory, ram, _) = with_ram(8);
    log(&memory, ram, VGA);
    let reader = memory.memory_space().reader();
    reader.store::<Le, u8>(0, 1).unwrap();
    memory.set_log(ram, VGA, false).unwrap();
    reader.store::<Le, u8>(PAGE, 1).unwrap();
    memory.set_log(ram, VGA, true).unwrap();
    reader.store::<Le, u8>(2 * PAGE, 1).unwrap();
    assert_eq!(take(&memory, ram, VGA), [0, 2]);
}

#[test]
fn starts_are_counted_and_as_many_stops_end_the_log() {
    let (memory, ram, _) = with_ram(1);
    memory.update(|t| t.set_log(ram, VGA, true).and_then(|()| t.set_log(ram, VGA, true))).unwrap();
    memory.set_log(ram, CODE, true).unwrap();
    assert_eq!(memory.log_mask(ram).unwrap(), VGA.mask() | CODE.mask());
    memory.set_log(ram, VGA, false).unwrap();
    assert!(memory.is_logging(ram, VGA).unwrap());
    memory.set_log(ram, VGA, false).unwrap();
    assert!(!memory.is_logging(ram, VGA).unwrap() && memory.is_logging(ram, CODE).unwrap());
    let error = memory.set_log(ram, VGA, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Region 'ram' is not logged for VGA; each stop of a log needs a start of its own"
    );
    memory.set_log_all(VGA, true).unwrap();
    memory.set_log_all(VGA, true).unwrap();
    memory.set_log_all(VGA, false).unwrap();
    assert!(memory.is_logging(ram, VGA).unwrap());
    memory.set_log_all(VGA, false).unwrap();
    assert!(!memory.is_logging(ram, VGA).unwrap());
    assert_eq!(memory.set_log_all(VGA, false), Err(MemoryError::NotLoggedEverywhere { client: VGA }));
}

#[test]
fn a_range_carries_the_mask_and_nothing_else_of_the_view_changes() {
    let (memory, ram, _) = with_ram(8);
    let io = memory.add(Region::io("io", 0x1000, Ops::new())).unwrap();
    memory.map(memory.system(), 8 * PAGE, io).unwrap();
    let shape = || {
        let view = memory.memory_space().view().unwrap();
        view.ranges().map(|r| (r.start(), r.last(), r.region(), r.log_mask())).collect::<Vec<_>>()
    };
    memory.set_log(ram, VGA, true).unwrap();
    assert_eq!(shape(), [(0, 8 * PAGE - 1, ram, VGA.mask()), (8 * PAGE, 9 * PAGE - 1, io, 0)]);
    memory.start_global_log(GlobalLog::MIGRATION).unwrap();
    assert_eq!(shape()[0].3, VGA.mask() | MIGRATION.mask());
    assert_eq!(shape()[1].3, 0, "what has no RAM is not logged");
    memory.set_log(ram, VGA, false).unwrap();
    memory.stop_global_log(GlobalLog::MIGRATION).unwrap();
    assert_eq!(shape(), [(0, 8 * PAGE - 1, ram, 0), (8 * PAGE, 9 * PAGE - 1, io, 0)]);
    assert_eq!(memory.stale_view().unwrap(), None);
}

#[test]
fn the_global_log_runs_until_each_flag_was_stopped_and_covers_what_comes_later() {
    let (memory, ram, _) = with_ram(4);
    memory.start_global_log(GlobalLog::MIGRATION | GlobalLog::DIRTY_RATE).unwrap();
    memory.start_global_log(GlobalLog::MIGRATION).unwrap();
    let block = RamBlock::anonymous("late", 2 * PAGE).unwrap();
    let late = memory.add(Region::ram("late", block)).unwrap();
    memory.map(memory.system(), 0x10_0000, late).unwrap();
    assert_eq!(
        (take(&memory, ram, MIGRATION), take(&memory, late, MIGRATION)),
        (vec![0, 1, 2, 3], vec![0, 1])
    );
    let reader = memory.memory_space().reader();
    reader.store::<Le, u8>(0x10_1000, 1).unwrap();
    memory.stop_global_log(GlobalLog::MIGRATION).unwrap();
    reader.store::<Le, u8>(PAGE, 1).unwrap();
    assert_eq!((take(&memory, ram, MIGRATION), take(&memory, late, MIGRATION)), (vec![1], vec![1]));
    let error = memory.stop_global_log(GlobalLog::MIGRATION | GlobalLog::DIRTY_RATE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "No global dirty log runs for MIGRATION|DIRTY_RATE; it runs for DIRTY_RATE"
    );
    memory.stop_global_log(GlobalLog::DIRTY_RATE).unwrap();
    reader.store::<Le, u8>(PAGE, 1).unwrap();
    assert!(take(&memory, ram, MIGRATION).is_empty());
    assert!(memory.global_log().is_empty());
}

#[test]
fn clearing_one_clients_pages_takes_no_neighbours_and_nobody_elses() {
    let (memory, ram, _) = with_ram(256);
    log(&memory, ram, VGA);
    log(&memory, ram, MIGRATION);
    memory.memory_space().fill(0, 1, 256 * PAGE).unwrap();
    // QEMU 7.2 clears pages 64 to 127.
    let snapshot = memory.snapshot_and_clear_dirty(ram, 100 * PAGE, 2 * PAGE, VGA).unwrap();
    let (run, more) = (snapshot.runs().next(), snapshot.runs().nth(1));
    assert_eq!((run, more), (Some(100 * PAGE..102 * PAGE), None));
    assert!(memory.test_and_clear_dirty(ram, 99 * PAGE, 1, VGA).unwrap());
    assert!(!memory.test_and_clear_dirty(ram, 99 * PAGE, PAGE, VGA).unwrap());
    memory.reset_dirty(ram, 98 * PAGE, 1, VGA).unwrap();
    assert_eq!(memory.count_dirty(ram, 0, 256 * PAGE, VGA).unwrap(), 252);
    assert!(memory.is_dirty(ram, 97 * PAGE, PAGE + 1, VGA).unwrap());
    assert!(!memory.is_dirty(ram, 98 * PAGE, 4 * PAGE, VGA).unwrap());
    assert_eq!(memory.count_dirty(ram, 0, 256 * PAGE, MIGRATION).unwrap(), 256);
    assert_eq!(memory.dirty_snapshot(ram, 90 * PAGE, 20 * PAGE, MIGRATION).unwrap().count(), 20);
    assert_eq!(memory.count_dirty(ram, 0, 256 * PAGE, MIGRATION).unwrap(), 256, "looking clears nothing");
}

#[test]
fn a_region_that_begins_inside_a_page_counts_in_its_own_offsets() {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("ram", 8 * PAGE).unwrap();
    let ram = memory.add(Region::ram("part", block).window(PAGE + 0x800, 3 * PAGE)).unwrap();
    memory.map(memory.system(), 0x10_0000, ram).unwrap();
    memory.set_log(ram, VGA, true).unwrap();
    memory.reset_dirty(ram, 0, 3 * PAGE, VGA).unwrap();
    let reader = memory.memory_space().reader();
    reader.store::<Le, u8>(0x10_07ff, 1).unwrap();
    reader.store::<Le, u8>(0x10_2fff, 1).unwrap();
    let snapshot = memory.snapshot_and_clear_dirty(ram, 0, 3 * PAGE, VGA).unwrap();
    assert_eq!(snapshot.runs().collect::<Vec<_>>(), [0..0x800, 0x2800..0x3000]);
    assert!(snapshot.is_dirty(0x700, 4) && !snapshot.is_dirty(0x800, 0x2000));
}

#[test]
fn bad_requests_are_typed_errors_and_change_nothing() {
    let (memory, ram, _) = with_ram(2);
    let io = memory.add(Region::io("io", 8, Ops::new())).unwrap();
    let sketch = memory.add(Region::sketch("sketch", 8, RegionType::Ram)).unwrap();
    for region in [io, sketch, memory.system()] {
        assert!(matches!(memory.set_log(region, VGA, true), Err(MemoryError::NoRam { .. })));
        assert!(matches!(memory.is_dirty(region, 0, 1, VGA), Err(MemoryError::NoRam { .. })));
        assert!(matches!(memory.set_dirty(region, 0, 1), Err(MemoryError::NoRam { .. })));
        assert_eq!(memory.log_mask(region).unwrap(), 0);
    }
    for (offset, len) in [(0, 2 * PAGE + 1), (2 * PAGE, 1), (u64::MAX, u64::MAX)] {
        let error = memory.snapshot_and_clear_dirty(ram, offset, len, VGA).unwrap_err();
        assert!(matches!(error, MemoryError::OutsideRegion { .. }), "{error}");
        assert!(memory.set_dirty(ram, offset, len).is_err());
    }
    let mine: Vec<_> = (0..5).map(|i| memory.allocate_dirty_client(&format!("c{i}")).unwrap()).collect();
    let error = memory.allocate_dirty_client("one more").unwrap_err();
    assert!(error.to_string().ends_with("free one first (c0, c1, c2, c3, c4)"), "{error}");
    assert_eq!(&*memory.dirty_client_name(mine[1]).unwrap(), "c1");
    memory.free_dirty_client(mine[1]).unwrap();
    let again = memory.allocate_dirty_client("again").unwrap();
    assert_eq!(again.index(), mine[1].index());
    let stale = Err(MemoryError::StaleClient { client: mine[1] });
    assert_eq!(memory.set_log(ram, mine[1], true), stale);
    assert_eq!(memory.set_log_all(mine[1], true), stale);
    assert_eq!(memory.free_dirty_client(mine[1]), stale);
    assert_eq!(memory.reset_dirty(ram, 0, 1, mine[1]), stale);
    assert!(memory.free_dirty_client(VGA).is_err(), "QEMU's stay");
    let other = Memory::new(Endianness::Little);
    assert!(matches!(other.free_dirty_client(again), Err(MemoryError::StaleClient { .. })));
    assert!(matches!(memory.allocate_dirty_client("a\nb"), Err(MemoryError::BadName { .. })));
    assert_eq!(memory.log_mask(ram).unwrap(), 0);
}

#[test]
fn a_freed_clients_logs_end_and_its_successor_begins_anew() {
    let (memory, ram, _) = with_ram(4);
    let first = memory.allocate_dirty_client("first").unwrap();
    log(&memory, ram, first);
    memory.set_log_all(first, true).unwrap();
    assert_eq!(memory.update(|_| memory.free_dirty_client(first)), Err(MemoryError::ClientInsideUpdate));
    memory.free_dirty_client(first).unwrap();
    assert_eq!(memory.log_mask(ram).unwrap(), 0);
    let second = memory.allocate_dirty_client("second").unwrap();
    assert!(!memory.is_logging(ram, second).unwrap());
    assert_eq!(take(&memory, ram, second), [0, 1, 2, 3]);
}

#[test]
fn a_block_is_logged_by_one_memory_at_a_time() {
    let (memory, ram, block) = with_ram(4);
    let other = Memory::new(Endianness::Little);
    let same = other.add(Region::ram("same", block)).unwrap();
    log(&memory, ram, VGA);
    let error = other.set_log(same, MIGRATION, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "RAM block 'ram' of region 'same' is logged by another Memory; its dirty bits belong to one at a time"
    );
    assert!(matches!(other.start_global_log(GlobalLog::MIGRATION), Err(MemoryError::LoggedElsewhere { .. })));
    assert!(other.global_log().is_empty());
    assert!(matches!(other.is_dirty(same, 0, 1, VGA), Err(MemoryError::LoggedElsewhere { .. })));
    drop(memory);
    other.start_global_log(GlobalLog::MIGRATION).unwrap();
    assert_eq!(take(&other, same, MIGRATION), [0, 1, 2, 3]);
}

#[test]
fn a_change_that_fails_leaves_every_log_as_it_was() {
    let (memory, ram, _) = with_ram(4);
    log(&memory, ram, VGA);
    memory.start_global_log(GlobalLog::DIRTY_LIMIT).unwrap();
    let result: Result<(), MemoryError> = memory.update(|t| {
        t.set_log(ram, VGA, true)?;
        t.set_log(ram, CODE, true)?;
        t.set_log_all(CODE, true)?;
        t.stop_global_log(GlobalLog::DIRTY_LIMIT)?;
        t.unmap(t.memory().system(), ram)?;
        t.remove(ram)?;
        Err(MemoryError::Full)
    });
    assert_eq!(result, Err(MemoryError::Full));
    assert_eq!(memory.log_mask(ram).unwrap(), VGA.mask() | MIGRATION.mask());
    assert_eq!(memory.global_log(), GlobalLog::DIRTY_LIMIT);
    memory.set_log(ram, VGA, false).unwrap();
    assert_eq!(memory.log_mask(ram).unwrap(), MIGRATION.mask(), "one start, one stop");
    assert_eq!(memory.stale_view().unwrap(), None);
}

/// Refuses when a commit ends, and while it was on its way writes a page.
struct LateRefusal(Mutex<Option<Reader>>);

impl MemoryListener for LateRefusal {
    fn name(&self) -> &str {
        "late"
    }

    fn commit(&self) -> Result<(), ListenerError> {
        let Some(reader) = self.0.lock().take() else { return Ok(()) };
        reader.store::<Le, u8>(2 * PAGE, 1).map_err(|e| ListenerError::new(e.to_string()))?;
        Err(ListenerError::new("no"))
    }
}

#[test]
fn a_stop_that_is_taken_back_loses_no_write() {
    let (memory, ram, _) = with_ram(4);
    log(&memory, ram, VGA);
    let late = Arc::new(LateRefusal(Mutex::new(None)));
    memory.add_listener(late.clone()).unwrap();
    *late.0.lock() = Some(memory.memory_space().reader());
    assert!(matches!(memory.set_log(ram, VGA, false), Err(MemoryError::ListenerFailed { .. })));
    assert!(memory.is_logging(ram, VGA).unwrap());
    assert!(take(&memory, ram, VGA).contains(&2), "it was written while the stop was seen");
    memory.memory_space().reader().store::<Le, u8>(PAGE, 1).unwrap();
    assert_eq!(take(&memory, ram, VGA), [1]);
}

#[test]
fn a_region_that_takes_a_removed_ones_place_is_not_logged() {
    let (memory, ram, block) = with_ram(1);
    memory.set_log(ram, VGA, true).unwrap();
    memory.update(|t| t.unmap(memory.system(), ram).and_then(|()| t.remove(ram))).unwrap();
    let next = memory.add(Region::ram("next", block)).unwrap();
    assert_eq!(memory.log_mask(next).unwrap(), 0);
    assert!(memory.set_log(next, VGA, false).is_err());
}

#[test]
fn a_log_is_started_anywhere_and_waits_for_nobody() {
    let (memory, ram, _) = with_ram(4);
    // A reader that looks at the map, is not parked and does nothing; one in another thread too.
    let idle = memory.memory_space().reader();
    idle.store::<Le, u8>(0, 1).unwrap();
    let there = memory.memory_space().reader();
    let other = std::thread::spawn(move || {
        there.store::<Le, u8>(0, 1).unwrap();
        there
    });
    let there = other.join().unwrap();
    log(&memory, ram, MIGRATION);
    drop(there);

    let weak = memory.downgrade();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let ops = Ops::new().write(move |_, _| {
        let memory = weak.upgrade().ok_or(MemTxError::error())?;
        memory.set_log(ram, VGA, true).map_err(|_| MemTxError::error())?;
        let snapshot = memory.snapshot_and_clear_dirty(ram, 0, 4 * PAGE, VGA);
        told.lock().push(snapshot.map_err(|_| MemTxError::error())?.count());
        Ok(())
    });
    let device = memory.add(Region::io("device", 4, ops)).unwrap();
    memory.map(memory.system(), 4 * PAGE, device).unwrap();
    // One bus write that begins in the device and, under the view it began with, ends in RAM behind it.
    let alias = memory.add(Region::alias("behind", ram, 2 * PAGE, PAGE.into())).unwrap();
    memory.map(memory.system(), 4 * PAGE + 4, alias).unwrap();
    idle.write(4 * PAGE, &[0; 8]).unwrap();
    assert_eq!(*seen.lock(), [4]);
    assert_eq!(take(&memory, ram, VGA), [2], "the rest of the write came after the log began");
}

#[test]
fn new_pages_are_listed_once_each() {
    let (memory, ram, block) = with_ram(64);
    log(&memory, ram, MIGRATION);
    memory.list_newly_dirty(ram, MIGRATION, 3).unwrap();
    let reader = memory.memory_space().reader();
    for page in [7, 7, 40, 7] {
        reader.store::<Le, u8>(page * PAGE + 5, 1).unwrap();
    }
    let new = memory.take_newly_dirty(ram, MIGRATION).unwrap();
    assert_eq!((new.offsets, new.complete), (vec![7 * PAGE, 40 * PAGE], true));
    assert!(Arc::ptr_eq(&new.block, &block));
    reader.write(0, &[0; 5 * PAGE as usize]).unwrap();
    let new = memory.take_newly_dirty(ram, MIGRATION).unwrap();
    assert_eq!((new.offsets.len(), new.complete), (3, false));
    assert_eq!(take(&memory, ram, MIGRATION), [3, 4], "the others");
    memory.list_newly_dirty(ram, MIGRATION, 0).unwrap();
    assert!(!memory.take_newly_dirty(ram, MIGRATION).unwrap().complete);
}

#[test]
fn a_drained_list_has_pages_again_only_after_their_bits_were_cleared() {
    let (memory, ram, _) = with_ram(64);
    log(&memory, ram, CODE);
    memory.set_dirty_for(ram, 0, 64 * PAGE, CODE).unwrap();
    let list = memory.list_newly_dirty(ram, CODE, 8).unwrap().unwrap();
    memory.reset_dirty(ram, 3 * PAGE, PAGE, CODE).unwrap();
    let reader = memory.memory_space().reader();
    let drained = || {
        reader.write(0, &[0; 6 * PAGE as usize]).unwrap();
        memory.drain_newly_dirty(ram, CODE).unwrap().offsets
    };
    assert!(list.is_empty());
    reader.store::<Le, u8>(5 * PAGE, 1).unwrap();
    assert!(list.is_empty(), "it was dirty");
    reader.store::<Le, u8>(3 * PAGE, 1).unwrap();
    assert!(!list.is_empty());
    assert_eq!(drained(), [3 * PAGE]);
    assert!(list.is_empty());
    assert_eq!(drained(), [0_u64; 0], "its bit is still set");
    memory.reset_dirty(ram, 3 * PAGE, PAGE, CODE).unwrap();
    assert_eq!(drained(), [3 * PAGE]);
    assert!(memory.is_dirty(ram, 3 * PAGE, PAGE, CODE).unwrap());
    assert_eq!(memory.log_mask(ram).unwrap(), 1 << 1, "no other client's");
    // A second region of the block that asks for the same list does not lose what stands in it.
    memory.reset_dirty(ram, 0, PAGE, CODE).unwrap();
    reader.store::<Le, u8>(0, 1).unwrap();
    memory.list_newly_dirty(ram, CODE, 8).unwrap();
    assert!(!list.is_empty());
    assert_eq!(drained(), [0]);
}

#[test]
fn the_dirty_rate_counts_pages_of_all_ram_once_and_disturbs_no_client() {
    let (memory, ram, _) = with_ram(1024);
    log(&memory, ram, MIGRATION);
    let meter = DirtyRateMeter::start(&memory).unwrap();
    let late = memory.add(Region::ram("late", RamBlock::anonymous("late", PAGE).unwrap())).unwrap();
    memory.map(memory.system(), 0x1000_0000, late).unwrap();
    let reader = memory.memory_space().reader();
    for _ in 0..3 {
        reader.write(0, &vec![1; 512 * PAGE as usize]).unwrap();
    }
    let rate = meter.finish(Duration::from_millis(500)).unwrap();
    assert_eq!((rate.pages, rate.mib_per_second()), (512, 4));
    assert_eq!(memory.count_dirty(ram, 0, 1024 * PAGE, MIGRATION).unwrap(), 512);
    assert_eq!(memory.log_mask(ram).unwrap(), MIGRATION.mask());
    for _ in 0..10 {
        // Also one that is given up gives its client back.
        drop(DirtyRateMeter::start(&memory).unwrap());
    }
}

/// A write that began under a view without the log may end after the log was started: then it marks all the same. Long
/// writes, so that a log is often started in the middle of one.
#[test]
fn no_write_is_lost_while_a_log_is_started() {
    const ROUNDS: u64 = 300;
    const SIZE: usize = 256 * PAGE as usize;
    let (memory, ram, block) = with_ram(256);
    let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    // Told at the end: a panic would leave the other thread waiting.
    let mut lost = Vec::new();
    memory.set_log(ram, VGA, true).unwrap();
    memory.set_log(ram, VGA, false).unwrap();
    let reader = memory.memory_space().reader();
    std::thread::scope(|s| {
        let (begun, ended) = (&begun, &ended);
        s.spawn(move || {
            let mut bytes = vec![0; SIZE];
            for round in 1..=ROUNDS {
                bytes.fill(round as u8);
                while begun.load(Acquire) < round {
                    std::hint::spin_loop();
                }
                let _ = reader.write(0, &bytes);
                let _ = reader.store::<Le, u64>(0, round);
                ended.store(round, Release);
            }
        });
        let round_of = |round: u64, copy: &mut [u8]| -> Result<(), Box<dyn std::error::Error>> {
            memory.set_log(ram, VGA, true)?;
            memory.reset_dirty(ram, 0, SIZE as u64, VGA)?;
            block.read(0, copy)?;
            while ended.load(Acquire) < round {
                std::thread::yield_now();
            }
            for run in memory.snapshot_and_clear_dirty(ram, 0, SIZE as u64, VGA)?.runs() {
                block.read(run.start, &mut copy[run.start as usize..run.end as usize])?;
            }
            Ok(memory.set_log(ram, VGA, false)?)
        };
        let mut copy = vec![0; SIZE];
        for round in 1..=ROUNDS {
            begun.store(round, Release);
            for _ in 0..round % 97 {
                std::hint::spin_loop();
            }
            let done = round_of(round, &mut copy);
            let right = copy[..8] == round.to_le_bytes() && copy[8..].iter().all(|byte| *byte == round as u8);
            if !right || done.is_err() {
                lost.push(round);
            }
        }
    });
    assert!(lost.is_empty(), "writes of these rounds were lost: {lost:?}");
}

/// Writers on several threads, one client that copies what is dirty: in the end its copy is the memory.
#[test]
fn a_copy_that_follows_the_marks_is_equal_in_the_end() {
    const PAGES: u64 = 64;
    const WRITERS: u64 = 3;
    let (memory, ram, block) = with_ram(PAGES);
    log(&memory, ram, MIGRATION);
    let running = AtomicU64::new(WRITERS);
    let mut copy = vec![0_u8; (PAGES * PAGE) as usize];
    let mut problem = None;
    let follow = |copy: &mut Vec<u8>| -> Result<(), Box<dyn std::error::Error>> {
        for run in memory.snapshot_and_clear_dirty(ram, 0, PAGES * PAGE, MIGRATION)?.runs() {
            block.read(run.start, &mut copy[run.start as usize..run.end as usize])?;
        }
        Ok(())
    };
    std::thread::scope(|s| {
        for writer in 0..WRITERS {
            let reader = memory.memory_space().reader();
            let running = &running;
            s.spawn(move || {
                let mut dice = fastrand::Rng::with_seed(writer);
                for i in 0..40_000_u64 {
                    let at = dice.u64(0..PAGES * PAGE - 64);
                    let _ = match dice.u8(0..4) {
                        0 => reader.store::<Le, u64>(at & !7, i),
                        1 => reader.cpu_store::<Be, u32>(at, i as u32),
                        2 => reader.write(at, &i.to_le_bytes()),
                        _ => reader.poke(at, &[i as u8; 33]),
                    };
                }
                running.fetch_sub(1, Release);
            });
        }
        while running.load(Acquire) > 0 {
            if let Err(e) = follow(&mut copy) {
                problem.get_or_insert(e.to_string());
            }
        }
    });
    assert_eq!(problem, None);
    follow(&mut copy).unwrap();
    let mut now = vec![0; copy.len()];
    block.read(0, &mut now).unwrap();
    assert!(copy == now, "the copy missed a write");
    assert_eq!(running.load(Relaxed), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Log(usize, usize, bool),
    LogAll(usize, bool),
    Global(bool),
    Store(u64),
    Write(u64, usize),
    Poke(u64, usize),
    Take(usize, u64, u64),
    Move(u64),
    Enable(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..24 * PAGE;
    let len = prop_oneof![1..9_usize, 1..3 * PAGE as usize];
    prop_oneof![
        (0..2_usize, 0..4_usize, any::<bool>()).prop_map(|(r, c, on)| Step::Log(r, c, on)),
        (0..4_usize, any::<bool>()).prop_map(|(c, on)| Step::LogAll(c, on)),
        any::<bool>().prop_map(Step::Global),
        at.clone().prop_map(Step::Store),
        at.clone().prop_map(Step::Store),
        (at.clone(), len.clone()).prop_map(|(a, l)| Step::Write(a, l)),
        (at.clone(), len).prop_map(|(a, l)| Step::Poke(a, l)),
        (0..4_usize, at.clone(), 0..9 * PAGE).prop_map(|(c, a, l)| Step::Take(c, a, l)),
        at.prop_map(Step::Move),
        (0..3_usize, any::<bool>()).prop_map(|(r, on)| Step::Enable(r, on)),
    ]
}

proptest! {
    /// Two RAM regions (the second over the first, 8 pages each) and an alias over both, in every state; the model asks
    /// the view who answers, and keeps a set of pages for each region and client.
    #[test]
    fn the_marks_are_those_of_a_plain_model(steps in proptest::collection::vec(step(), 1..60)) {
        let (memory, low, _) = with_ram(8);
        let high = memory.add(Region::ram("high", RamBlock::anonymous("high", 8 * PAGE).unwrap())).unwrap();
        let alias = memory.add(Region::alias("alias", high, 0x1800, 0x3000)).unwrap();
        memory.update(|t| {
            t.map_overlap(memory.system(), 6 * PAGE + 0x123, high, 1)?;
            t.map_overlap(memory.system(), 18 * PAGE, alias, 2)
        }).unwrap();
        let regions = [low, high, alias];
        let clients = [VGA, CODE, MIGRATION, memory.allocate_dirty_client("mine").unwrap()];
        let reader = memory.memory_space().reader();
        let mut logs = [[0_u32; 4]; 2];
        let (mut all, mut global) = ([0_u32; 4], false);
        let mut dirty: [[HashSet<u64>; 4]; 2] = Default::default();
        for (region, sets) in [low, high].iter().zip(&mut dirty) {
            for (client, set) in clients.iter().zip(sets) {
                prop_assert_eq!(take(&memory, *region, *client).len(), 8);
                set.clear();
            }
        }
        for step in steps {
            let mut written = |at: u64, len: u64, logs: &[[u32; 4]; 2], all: &[u32; 4], global: bool| {
                let view = memory.memory_space().view().unwrap();
                for addr in at..at + len {
                    let Some(range) = view.lookup(addr) else { continue };
                    let which = usize::from(range.region() == high);
                    let page = (addr - range.start() + range.offset()) / PAGE;
                    for client in 0..4 {
                        if logs[which][client] + all[client] > 0 || (client == 2 && global) {
                            dirty[which][client].insert(page);
                        }
                    }
                }
            };
            match step {
                Step::Log(region, client, on) => {
                    let count = &mut logs[region][client];
                    let fits = on || *count > 0;
                    prop_assert_eq!(memory.set_log(regions[region], clients[client], on).is_ok(), fits);
                    if fits { *count = if on { *count + 1 } else { *count - 1 } }
                }
                Step::LogAll(client, on) => {
                    let fits = on || all[client] > 0;
                    prop_assert_eq!(memory.set_log_all(clients[client], on).is_ok(), fits);
                    if fits { all[client] = if on { all[client] + 1 } else { all[client] - 1 } }
                }
                Step::Global(true) => {
                    memory.start_global_log(GlobalLog::MIGRATION).unwrap();
                    global = true;
                }
                Step::Global(false) => {
                    prop_assert_eq!(memory.stop_global_log(GlobalLog::MIGRATION).is_ok(), global);
                    global = false;
                }
                Step::Store(at) => {
                    if reader.store::<Le, u32>(at, 1).is_ok() { written(at, 4, &logs, &all, global) }
                }
                Step::Write(at, len) => {
                    let _ = reader.write(at, &vec![1; len]);
                    written(at, len as u64, &logs, &all, global);
                }
                Step::Poke(at, len) => {
                    let _ = reader.poke(at, &vec![1; len]);
                    written(at, len as u64, &logs, &all, global);
                }
                Step::Take(client, at, len) => {
                    for (which, region) in [low, high].into_iter().enumerate() {
                        let (at, len) = (at % (8 * PAGE), len.min(8 * PAGE - at % (8 * PAGE)));
                        let taken = memory.snapshot_and_clear_dirty(region, at, len, clients[client]).unwrap();
                        let set = &mut dirty[which][client];
                        let touched = (0..8).filter(|p| len > 0 && p * PAGE < at + len && at < (p + 1) * PAGE);
                        for page in touched {
                            prop_assert_eq!(taken.is_dirty(at.max(page * PAGE), 1), set.remove(&page));
                        }
                    }
                }
                Step::Move(at) => memory.update(|t| t.set_address(high, at)).unwrap(),
                Step::Enable(region, on) => memory.update(|t| t.set_enabled(regions[region], on)).unwrap(),
            }
            prop_assert_eq!(memory.stale_view().unwrap(), None);
            for (which, region) in [low, high].into_iter().enumerate() {
                for (client, set) in dirty[which].iter().enumerate() {
                    let count = memory.count_dirty(region, 0, 8 * PAGE, clients[client]).unwrap();
                    prop_assert_eq!(count, set.len() as u64, "{:?} {}", region, clients[client]);
                }
            }
        }
    }
}
