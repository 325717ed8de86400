//! Mappings: what a device works on, directly or in a bounce buffer.
//!
//! | rule | test |
//! |---|---|
//! | direct RAM pointer | `ram_is_mapped_itself_and_not_a_copy` |
//! | extended over contiguous sections of the same region | `a_mapping_goes_on_over_neighbours_that_are_one_run_of_one_region` |
//! | and only of the same region, contiguous, and direct | `a_mapping_ends_where_the_region_the_run_or_the_right_to_write_ends` |
//! | else a bounce buffer, read at once for reading | `a_device_is_mapped_as_a_copy_that_is_read_at_once` |
//! | `unmap` writes `access_len` bytes back | `a_bounce_buffer_is_written_back_as_far_as_it_was_accessed` |
//! | to whatever answers there then | `a_bounce_buffer_is_written_back_to_the_map_of_that_time` |
//! | ROM, ROM devices and RAM devices | `what_kind_of_memory_is_direct_in_which_direction` |
//! | a byte budget for each space, 4,096 at first | `bounce_buffers_share_a_budget_for_each_space` |
//! | no room: an error, and a call when there is some | `who_found_no_room_is_called_once_when_some_returns` |
//! | `unregister_map_client` | `a_call_that_was_taken_back_is_not_made` |
//! | room that came back before the registration | `who_asks_for_room_that_is_there_is_called_at_once` |
//! | marks dirty what was accessed | `unmapping_marks_what_was_accessed_and_nothing_else` |
//! | dropped without a length (ours) | `a_dropped_mapping_marks_all_if_its_pointer_was_asked_for`, `a_dropped_bounce_buffer_is_not_written_back` |
//! | a log that is turned on while mapped | `a_log_that_begins_while_memory_is_mapped_learns_of_the_writes` |
//! | … and to one that begins at any moment | `no_write_through_a_mapping_or_a_cache_is_lost_to_a_log_that_begins_meanwhile` |
//! | the memory stays while it is mapped | `ram_is_unmapped_only_after_its_mapping_is_gone` |
//! | the end of the space, no bytes, very many | `mappings_end_at_the_last_address`, `no_bytes_cannot_be_mapped`, `a_mapping_of_everything_is_as_long_as_it_can_be` |
//! | `attrs.memory` | `who_asks_for_ram_only_gets_nothing_else` |
//! | in a device callback | `a_device_maps_and_unmaps_in_its_callback`, `a_device_does_not_enter_itself_by_unmapping` |
//! | `address_space_access_valid` | `whether_an_access_is_valid_is_known_before`, `asking_is_silent_and_calls_no_device`, `validity_goes_by_offsets_in_the_region` |
//! | `cpu_physical_memory_is_io` | `what_is_io` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]
#![expect(unsafe_code, reason = "a pointer that was asked for is written through")]

#[path = "support/noting.rs"]
mod noting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::thread;

use flatview::Direction::{Read, ReadWrite, Write};
use flatview::*;
use noting::{noting, taken};
use parking_lot::Mutex;

const PAGE: u64 = DIRTY_PAGE_SIZE;

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

fn alias(memory: &Memory, at: u64, target: RegionId, offset: u64, size: u128) -> RegionId {
    map(memory, at, Region::alias("alias", target, offset, size))
}

fn block(size: u64) -> Arc<RamBlock> {
    RamBlock::anonymous("ram", size).unwrap()
}

/// The pages that are dirty, which are clean then.
fn dirty(memory: &Memory, region: RegionId, size: u64) -> Vec<u64> {
    let taken = memory.snapshot_and_clear_dirty(region, 0, size, DirtyClient::MIGRATION).unwrap();
    taken.runs().flat_map(|run| run.start / PAGE..run.end / PAGE).collect()
}

/// RAM of some pages that is logged and clean.
fn logged(memory: &Memory, at: u64, pages: u64) -> RegionId {
    let ram = map(memory, at, Region::ram("ram", block(pages * PAGE)));
    memory.set_log(ram, DirtyClient::MIGRATION, true).unwrap();
    dirty(memory, ram, pages * PAGE);
    ram
}

#[test]
fn ram_is_mapped_itself_and_not_a_copy() {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x2000);
    map(&memory, 0x8000, Region::ram("ram", Arc::clone(&ram)));
    let reader = memory.memory_space().reader();
    let mapped = reader.map(0x8100, 0x1000, ReadWrite).unwrap();
    assert!(mapped.is_direct() && !mapped.is_empty());
    assert_eq!((mapped.address(), mapped.len(), mapped.direction()), (0x8100, 0x1000, ReadWrite));
    let (behind, offset) = mapped.block().unwrap();
    assert!(Arc::ptr_eq(behind, &ram) && offset == 0x100);
    reader.store::<Be, u32>(0x8104, 0x0102_0304).unwrap();
    assert_eq!(mapped.load::<Be, u32>(4), Ok(0x0102_0304), "what others write is seen");
    mapped.store::<Le, u64>(0xff8, 0x1122_3344_5566_7788).unwrap();
    mapped.write(0x10, b"abc").unwrap();
    let mut out = [0; 3];
    reader.read(0x8110, &mut out).unwrap();
    assert_eq!((reader.load::<Le, u64>(0x90f8), &out), (Ok(0x1122_3344_5566_7788), b"abc"));
    // SAFETY: the guard lives; the byte is inside the mapping, which is for writing.
    unsafe { mapped.as_ptr().add(0x20).write_volatile(0x7f) };
    assert_eq!(reader.load::<Le, u8>(0x8120), Ok(0x7f));
    assert_eq!(mapped.host_ptr().unwrap().as_ptr(), mapped.as_ptr());
    assert_eq!((mapped.contents(), mapped.unmap(0x1000)), (Ok(()), Ok(())));
    assert_eq!(memory.memory_space().bounce_in_use(), 0);
}

#[test]
fn a_mapping_goes_on_over_neighbours_that_are_one_run_of_one_region() {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("ram", block(0x4000))).unwrap();
    // The same offsets side by side, of which one is marked, so that the view has three ranges.
    alias(&memory, 0x1000, ram, 0, 0x1000);
    let marked = memory.add(Region::alias("kept", ram, 0x1000, 0x1000).nonvolatile(true)).unwrap();
    memory.map(memory.system(), 0x2000, marked).unwrap();
    alias(&memory, 0x3000, ram, 0x2000, 0x800);
    let space = memory.memory_space();
    assert_eq!(space.view().unwrap().len(), 3);
    for direction in [Read, Write, ReadWrite] {
        let mapped = space.map(0x1800, 0x10000, direction).unwrap();
        assert_eq!((mapped.is_direct(), mapped.len()), (true, 0x2000));
        assert_eq!(space.map(0x1800, 0x900, direction).unwrap().len(), 0x900);
        assert_eq!(space.map(0x1800, 0x800, direction).unwrap().len(), 0x800);
        assert_eq!(space.map(0x1800, 0x1801, direction).unwrap().len(), 0x1801);
    }
    let mapped = space.map(0x1ff8, 16, Write).unwrap();
    mapped.write(0, &[9; 16]).unwrap();
    mapped.unmap(16).unwrap();
    assert_eq!(
        (space.reader().load::<Le, u8>(0x1ff8), space.reader().load::<Le, u8>(0x2007)),
        (Ok(9), Ok(9))
    );
}

#[test]
fn a_mapping_ends_where_the_region_the_run_or_the_right_to_write_ends() {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("ram", block(0x4000))).unwrap();
    alias(&memory, 0x1000, ram, 0, 0x1000);
    // Another region whose block goes on where the first one's part ends is another region.
    map(&memory, 0x2000, Region::ram("other", block(0x1000)));
    // The same region, from elsewhere.
    alias(&memory, 0x3000, ram, 0x2000, 0x1000);
    alias(&memory, 0x4000, ram, 0x1000, 0x1000);
    // The same run, but read-only.
    let readonly = memory.add(Region::alias("readonly", ram, 0x2000, 0x1000).readonly(true)).unwrap();
    memory.map(memory.system(), 0x5000, readonly).unwrap();
    let space = memory.memory_space();
    let len = |addr, direction| space.map(addr, 0x10000, direction).unwrap().len();
    assert_eq!(len(0x1400, ReadWrite), 0xc00);
    assert_eq!(len(0x2400, ReadWrite), 0xc00);
    assert_eq!(len(0x3400, Read), 0xc00);
    assert_eq!(len(0x4400, Write), 0xc00);
    assert_eq!(len(0x4400, ReadWrite), 0xc00);
    assert_eq!(len(0x4400, Read), 0x1c00);
}

#[test]
fn a_device_is_mapped_as_a_copy_that_is_read_at_once() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(AccessRules::new().implemented(1, 8));
    map(&memory, 0x1000, Region::io("device", 0x20, ops));
    let space = memory.memory_space();
    let mapped = space.map(0x1004, 12, Read).unwrap();
    assert_eq!(taken(&calls), [('r', 4, 4, 0), ('r', 8, 4, 0), ('r', 12, 4, 0)]);
    assert!(!mapped.is_direct() && mapped.block().is_none() && mapped.host_ptr().is_none());
    assert_eq!((mapped.len(), mapped.contents(), space.bounce_in_use()), (12, Ok(()), 12));
    assert_eq!(mapped.load::<Be, u64>(2), Ok(0x0607_0809_0a0b_0c0d));
    // SAFETY: the guard lives, and the byte is inside.
    assert_eq!(unsafe { mapped.as_ptr().add(5).read() }, 9);
    assert_eq!(mapped.write(0, &[1]).unwrap_err().reason(), Reason::MappedForReading);
    assert_eq!(mapped.unmap(12), Ok(()));
    assert!(taken(&calls).is_empty(), "what was mapped for reading is not written back");
    assert_eq!(space.bounce_in_use(), 0);
    // Reading over the end of the device, into nothing: zeros, and an error that is told and not lost.
    let mapped = space.map(0x101c, 8, Read).unwrap();
    let error = mapped.contents().unwrap_err();
    assert_eq!((error.address(), error.result()), (0x1020, MemTxResult::DECODE_ERROR));
    assert_eq!(mapped.load::<Le, u64>(0), Ok(0x1f1e_1d1c));
    assert_eq!(mapped.unmap(8), Err(error));
}

#[test]
fn a_bounce_buffer_is_written_back_as_far_as_it_was_accessed() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(AccessRules::new().valid(1, 8).implemented(1, 8));
    map(&memory, 0x1000, Region::io("device", 0x20, ops));
    let space = memory.memory_space();
    let mapped = space.map(0x1000, 0x20, Write).unwrap();
    assert!(taken(&calls).is_empty(), "what is only written is not read");
    assert_eq!(mapped.load::<Le, u64>(0), Ok(0));
    mapped.write(0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
    assert_eq!(mapped.unmap(10), Ok(()));
    assert_eq!(taken(&calls), [('w', 0, 8, 0x0807_0605_0403_0201), ('w', 8, 2, 0x0a09)]);

    let mapped = space.map(0x1000, 8, ReadWrite).unwrap();
    mapped.store::<Le, u8>(1, 0xff).unwrap();
    assert_eq!(mapped.unmap(u64::MAX), Ok(()), "more than the length is the length");
    assert_eq!(taken(&calls), [('r', 0, 8, 0), ('w', 0, 8, 0x0706_0504_0302_ff00)]);
    assert_eq!(space.map(0x1000, 8, Write).unwrap().unmap(0), Ok(()));
    assert!(taken(&calls).is_empty());
}

#[test]
fn a_bounce_buffer_is_written_back_to_the_map_of_that_time() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(AccessRules::new());
    let device = map(&memory, 0x1000, Region::io("device", 4, ops));
    let space = memory.memory_space();
    let mapped = space.map(0x1000, 4, Write).unwrap();
    mapped.store::<Le, u32>(0, 5).unwrap();
    let ram = memory.add(Region::ram("ram", block(0x1000))).unwrap();
    memory
        .update(|t| {
            t.unmap(memory.system(), device)?;
            t.map(memory.system(), 0x1000, ram)
        })
        .unwrap();
    mapped.unmap(4).unwrap();
    assert_eq!((space.reader().load::<Le, u32>(0x1000), taken(&calls)), (Ok(5), vec![]));
    // Nobody is there any more: told.
    memory.update(|t| t.unmap(memory.system(), ram)).unwrap();
    let mapped = space.map(0x1000, 4, Write).unwrap();
    assert_eq!(mapped.contents(), Ok(()));
    assert_eq!(mapped.unmap(4).unwrap_err().address(), 0x1000);
    // Nor is the memory itself.
    let mapped = space.map(0x1000, 4, Write).unwrap();
    drop((space, memory));
    assert_eq!(mapped.unmap(4).unwrap_err().reason(), Reason::SpaceGone);
}

#[test]
fn what_kind_of_memory_is_direct_in_which_direction() {
    let memory = Memory::new(Endianness::Little);
    let nothing = || Ops::new().read(|_| Ok(0x77)).write(|_, _| Ok(()));
    map(&memory, 0, Region::ram("ram", block(PAGE)));
    map(&memory, 0x1000, Region::rom("rom", block(PAGE)));
    let flash = map(&memory, 0x2000, Region::rom_device("flash", block(PAGE), nothing()));
    map(&memory, 0x3000, Region::ram_device("bar", block(PAGE)));
    map(&memory, 0x4000, Region::io("device", 0x1000, nothing()));
    map(&memory, 0x5000, Region::reservation("reserved", 0x1000));
    let space = memory.memory_space();
    let direct = |addr| [Read, Write, ReadWrite].map(|d| space.map(addr, 8, d).unwrap().is_direct());
    assert_eq!(direct(0), [true; 3]);
    assert_eq!(direct(0x1000), [true, false, false]);
    assert_eq!(direct(0x2000), [true, false, false]);
    assert_eq!(direct(0x3000), [false; 3]);
    assert_eq!(direct(0x4000), [false; 3]);
    assert_eq!(direct(0x5000), [false; 3]);
    assert_eq!(direct(0x6000), [false; 3]);
    memory.update(|t| t.set_romd(flash, false)).unwrap();
    assert_eq!(direct(0x2000), [false; 3]);
    assert_eq!(space.map(0x2000, 2, Read).unwrap().load::<Le, u8>(0), Ok(0x77));
    // A write to ROM is as wrong as on the bus.
    let mapped = space.map(0x1000, 8, ReadWrite).unwrap();
    assert_eq!(
        (mapped.contents(), mapped.unmap(8).unwrap_err().result()),
        (Ok(()), MemTxResult::DECODE_ERROR)
    );
}

#[test]
fn bounce_buffers_share_a_budget_for_each_space() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::io("device", 0x1_0000, noting(AccessRules::new()).0));
    let (space, other) = (memory.memory_space(), memory.address_space("other", memory.system()).unwrap());
    assert_eq!((space.bounce_budget(), space.bounce_in_use()), (4096, 0));
    let first = space.map(0, 0x8000, Write).unwrap();
    assert_eq!((first.len(), space.bounce_in_use()), (4096, 4096));
    let refused = space.map(0x100, 1, Write).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Address 0x100 of address space 'memory' is not RAM, and its 4096 bytes of bounce buffers are in use; wait for \
         room with on_room(), or raise set_bounce_budget()"
    );
    assert_eq!(other.map(0, 0x8000, Write).unwrap().len(), 4096, "each has its own");
    drop(first);
    let small = space.map(0, 4000, Write).unwrap();
    assert_eq!(space.map(0, 4000, Write).unwrap().len(), 96, "what is left");
    space.set_bounce_budget(3000);
    assert!(matches!(space.map(0, 1, Write), Err(MapError::NoRoom { budget: 3000, .. })));
    assert_eq!((small.len(), space.bounce_in_use()), (4000, 4000), "what is mapped stays");
    drop(small);
    space.set_bounce_budget(0x3000);
    assert_eq!(space.map(0, 0x8000, Write).unwrap().len(), 0x3000);
    space.set_bounce_budget(0);
    assert!(matches!(space.map(0, 1, Write), Err(MapError::NoRoom { budget: 0, .. })));
    // RAM needs none.
    map(&memory, 0x2_0000, Region::ram("ram", block(PAGE)));
    assert_eq!(space.map(0x2_0000, 0x8000, Write).unwrap().len(), PAGE);
}

#[test]
fn who_found_no_room_is_called_once_when_some_returns() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::io("device", 0x1_0000, noting(AccessRules::new()).0));
    let space = memory.memory_space();
    let full = space.map(0, 4096, Write).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::new(Mutex::new(None));
    for n in 0..3 {
        let (order, taken, space) = (Arc::clone(&order), Arc::clone(&taken), space.clone());
        space.clone().on_room(move || {
            order.lock().push(n);
            // The second one takes all there is.
            if n == 1 {
                *taken.lock() = Some(space.map(0, 4096, Write).unwrap());
            }
        });
    }
    assert!(order.lock().is_empty());
    full.unmap(0).unwrap();
    assert_eq!(*order.lock(), [0, 1], "in order, while there is room");
    let second = taken.lock().take();
    drop(second);
    assert_eq!(*order.lock(), [0, 1, 2]);
    drop(space.map(0, 4096, Write).unwrap());
    assert_eq!(*order.lock(), [0, 1, 2], "once each");
}

#[test]
fn a_call_that_was_taken_back_is_not_made() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::io("device", 0x1_0000, noting(AccessRules::new()).0));
    let space = memory.memory_space();
    let full = space.map(0, 4096, Write).unwrap();
    let called = Arc::new(AtomicUsize::new(0));
    let call = |n| {
        let called = Arc::clone(&called);
        move || {
            called.fetch_add(n, SeqCst);
        }
    };
    let (first, second) = (space.on_room(call(1)), space.on_room(call(10)));
    assert!(space.cancel_on_room(first));
    assert!(!space.cancel_on_room(first));
    assert_eq!(Arc::strong_count(&called), 2, "what the call held is gone");
    drop(full);
    assert_eq!(called.load(SeqCst), 10);
    assert!(!space.cancel_on_room(second), "it was made");
}

#[test]
fn who_asks_for_room_that_is_there_is_called_at_once() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::io("device", 0x1_0000, noting(AccessRules::new()).0));
    let space = memory.memory_space();
    let called = Arc::new(AtomicUsize::new(0));
    /// Asks again as long as it is asked, without ever taking anything: the calls must not nest.
    fn again(space: &AddressSpace, called: &Arc<AtomicUsize>) {
        let (next, count) = (space.downgrade(), Arc::clone(called));
        space.on_room(move || {
            if count.fetch_add(1, SeqCst) < 100_000
                && let Some(space) = next.upgrade()
            {
                again(&space, &count);
            }
        });
    }
    again(&space, &called);
    assert_eq!(called.load(SeqCst), 100_001);
    // More budget is room as well.
    let full = space.map(0, 4096, Write).unwrap();
    let count = Arc::clone(&called);
    space.on_room(move || {
        count.fetch_add(1, SeqCst);
    });
    assert_eq!(called.load(SeqCst), 100_001);
    space.set_bounce_budget(4097);
    assert_eq!(called.load(SeqCst), 100_002);
    // One that panics leaves the others to be called the next time.
    drop(full);
    let full = space.map(0, 4097, Write).unwrap();
    let count = Arc::clone(&called);
    space.on_room(|| std::panic::resume_unwind(Box::new(())));
    space.on_room(move || {
        count.fetch_add(1, SeqCst);
    });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(full))).is_err());
    drop(space.map(0, 1, Write).unwrap());
    assert_eq!((called.load(SeqCst), space.bounce_in_use()), (100_003, 0));
}

#[test]
fn two_threads_never_use_more_than_the_budget_and_both_get_on() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::io("device", 0x1_0000, noting(AccessRules::new()).0));
    let space = memory.memory_space();
    space.set_bounce_budget(1024);
    let (most, waits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        for t in 0..3_u64 {
            let (space, most, waits) = (&space, &most, &waits);
            s.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(t);
                let mut done = 0;
                while done < 2_000 {
                    match space.map(0x100 * t, rng.u64(1..=700), Write) {
                        Ok(mapped) => {
                            most.fetch_max(space.bounce_in_use() as usize, SeqCst);
                            mapped.write(0, &vec![t as u8; mapped.len() as usize]).unwrap();
                            if rng.bool() {
                                thread::yield_now();
                            }
                            mapped.unmap(1).unwrap();
                            done += 1;
                        }
                        Err(MapError::NoRoom { .. }) => {
                            waits.fetch_add(1, SeqCst);
                            let (tell, told) = std::sync::mpsc::channel();
                            space.on_room(move || tell.send(()).unwrap());
                            told.recv().unwrap();
                        }
                        Err(other) => assert_eq!(other.to_string(), ""),
                    }
                }
            });
        }
    });
    assert!(most.load(SeqCst) <= 1024);
    assert_eq!(space.bounce_in_use(), 0);
}

#[test]
fn unmapping_marks_what_was_accessed_and_nothing_else() {
    let memory = Memory::new(Endianness::Little);
    let ram = logged(&memory, 0x1_0000, 8);
    let space = memory.memory_space();
    let page = |n: u64| 0x1_0000 + n * PAGE;
    space.map(page(0), 8 * PAGE, Read).unwrap().unmap(8 * PAGE).unwrap();
    assert_eq!(dirty(&memory, ram, 8 * PAGE), [0_u64; 0], "who reads writes nothing");
    let mapped = space.map(page(1) + 8, 4 * PAGE, Write).unwrap();
    assert_eq!(dirty(&memory, ram, 8 * PAGE), [0_u64; 0]);
    mapped.unmap(PAGE).unwrap();
    assert_eq!(dirty(&memory, ram, 8 * PAGE), [1, 2], "from 8 bytes into page 1 into page 2");
    space.map(page(1), 4 * PAGE, Write).unwrap().unmap(0).unwrap();
    assert_eq!(dirty(&memory, ram, 8 * PAGE), [0_u64; 0]);
    // What goes through the guard is marked at once, and what is told by `mark_dirty`.
    let mapped = space.map(page(0), 8 * PAGE, ReadWrite).unwrap();
    mapped.store::<Le, u8>(5 * PAGE, 1).unwrap();
    mapped.mark_dirty(7 * PAGE, 1).unwrap();
    assert_eq!(dirty(&memory, ram, 8 * PAGE), [5, 7]);
    mapped.unmap(1).unwrap();
    assert_eq!(dirty(&memory, ram, 8 * PAGE), [0]);
}

#[test]
fn a_dropped_mapping_marks_all_if_its_pointer_was_asked_for() {
    let memory = Memory::new(Endianness::Little);
    let ram = logged(&memory, 0, 4);
    let space = memory.memory_space();
    drop(space.map(PAGE, 2 * PAGE, Write).unwrap());
    assert_eq!(dirty(&memory, ram, 4 * PAGE), [0_u64; 0], "nobody can have written");
    let mapped = space.map(PAGE, 2 * PAGE, Write).unwrap();
    let _ = mapped.as_ptr();
    drop(mapped);
    assert_eq!(dirty(&memory, ram, 4 * PAGE), [1, 2]);
    let mapped = space.map(PAGE, 2 * PAGE, Read).unwrap();
    let _ = mapped.as_ptr();
    drop(mapped);
    let mapped = space.map(PAGE, 2 * PAGE, Write).unwrap();
    let _ = mapped.as_ptr();
    mapped.unmap(0).unwrap();
    assert_eq!(dirty(&memory, ram, 4 * PAGE), [0_u64; 0], "who says how much was written is believed");
}

#[test]
fn a_dropped_bounce_buffer_is_not_written_back() {
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(AccessRules::new());
    map(&memory, 0, Region::io("device", 0x1000, ops));
    let space = memory.memory_space();
    let mapped = space.map(0, 4, Write).unwrap();
    mapped.store::<Le, u32>(0, 1).unwrap();
    let _ = mapped.as_ptr();
    drop(mapped);
    assert_eq!((taken(&calls), space.bounce_in_use()), (vec![], 0));
}

#[test]
fn a_log_that_begins_while_memory_is_mapped_learns_of_the_writes() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0, Region::ram("ram", block(4 * PAGE)));
    let space = memory.memory_space();
    let mapped = space.map(0, 4 * PAGE, Write).unwrap();
    memory.set_log(ram, DirtyClient::MIGRATION, true).unwrap();
    assert_eq!(dirty(&memory, ram, 4 * PAGE), [0, 1, 2, 3], "nothing is known of a block at first");
    mapped.store::<Le, u8>(PAGE, 1).unwrap();
    assert_eq!(dirty(&memory, ram, 4 * PAGE), [1]);
    // SAFETY: the guard lives; the byte is inside the mapping, which is for writing.
    unsafe { mapped.as_ptr().add(2 * PAGE as usize).write_volatile(1) };
    assert_eq!(dirty(&memory, ram, 4 * PAGE), [0_u64; 0]);
    mapped.unmap(2 * PAGE + 1).unwrap();
    assert_eq!(dirty(&memory, ram, 4 * PAGE), [0, 1, 2]);
}

/// One thread writes through mappings and a cache, by their methods and by the pointer; the other one begins to log in
/// the middle and keeps a copy by the pages that it is told of, which must be equal in the end.
#[test]
fn no_write_through_a_mapping_or_a_cache_is_lost_to_a_log_that_begins_meanwhile() {
    const PAGES: u64 = 16;
    for round in 0..60_u64 {
        let memory = Memory::new(Endianness::Little);
        let block = block(PAGES * PAGE);
        let ram = map(&memory, 0, Region::ram("ram", Arc::clone(&block)));
        let space = memory.memory_space();
        let stop = AtomicBool::new(false);
        let mut copy = vec![0; (PAGES * PAGE) as usize];
        let mut take = || {
            for page in dirty(&memory, ram, PAGES * PAGE) {
                let at = (page * PAGE) as usize;
                let part = copy.get_mut(at..at + PAGE as usize).unwrap();
                block.read(page * PAGE, part).unwrap();
            }
        };
        thread::scope(|s| {
            let writer = s.spawn(|| {
                let mut rng = fastrand::Rng::with_seed(round);
                let cache = space.cache(0, PAGES * PAGE, Write).unwrap();
                while !stop.load(SeqCst) {
                    let mapped = space.map(0, PAGES * PAGE, Write).unwrap();
                    let mut last = 0;
                    for _ in 0..rng.u64(1..200) {
                        let at = rng.u64(..PAGES * PAGE - 8);
                        match rng.u8(..4) {
                            0 => mapped.store::<Le, u64>(at, rng.u64(..)).unwrap(),
                            1 => mapped.write(at, &[rng.u8(..); 7]).unwrap(),
                            2 => cache.store::<Le, u32>(at, rng.u32(..)).unwrap(),
                            _ => {
                                last = last.max(at + 1);
                                // SAFETY: the guard lives; the byte is inside the mapping, which is for writing.
                                unsafe { mapped.as_ptr().add(at as usize).write_volatile(rng.u8(..)) };
                            }
                        }
                    }
                    if rng.bool() {
                        mapped.unmap(last).unwrap();
                    }
                }
            });
            for _ in 0..round * 20 {
                std::hint::spin_loop();
            }
            memory.set_log(ram, DirtyClient::MIGRATION, true).unwrap();
            for _ in 0..20 {
                take();
            }
            // What is logged again after a pause is told from then on.
            memory.set_log(ram, DirtyClient::MIGRATION, false).unwrap();
            memory.set_log(ram, DirtyClient::MIGRATION, true).unwrap();
            for _ in 0..20 {
                take();
            }
            stop.store(true, SeqCst);
            writer.join().unwrap();
        });
        take();
        let mut now = vec![0; copy.len()];
        block.read(0, &mut now).unwrap();
        assert!(now == copy, "a write was lost in round {round}");
    }
}

/// Memory whose end somebody notices.
struct Kept {
    bytes: Box<[AtomicU8]>,
    gone: Arc<AtomicBool>,
}

// SAFETY: a heap slice of atomics does not move with its owner and may be written through shared references.
unsafe impl HostBuffer for Kept {
    fn ptr(&self) -> std::ptr::NonNull<u8> {
        std::ptr::NonNull::from(&*self.bytes).cast()
    }
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        assert!(!self.gone.swap(true, SeqCst));
    }
}

fn kept(len: u64) -> (Arc<RamBlock>, Arc<AtomicBool>) {
    let gone = Arc::new(AtomicBool::new(false));
    let bytes = (0..len).map(|_| AtomicU8::new(0)).collect();
    (RamBlock::from_buffer("kept", Kept { bytes, gone: Arc::clone(&gone) }).unwrap(), gone)
}

#[test]
fn ram_is_unmapped_only_after_its_mapping_is_gone() {
    let memory = Memory::new(Endianness::Little);
    let space = memory.memory_space();
    // Maps of which each has RAM of its own; the mapper's thread holds on to what it got while they come and go.
    const ROUNDS: usize = 300;
    let (to_mapper, rounds) = std::sync::mpsc::sync_channel::<(u8, Arc<AtomicBool>)>(0);
    let (done, next) = std::sync::mpsc::channel();
    thread::scope(|s| {
        let space = &space;
        s.spawn(move || {
            let reader = space.reader();
            for (round, gone) in rounds {
                let mapped = reader.map(0x1000, 64, ReadWrite).unwrap();
                let cache = reader.cache(0x1000, 64, Write).unwrap();
                // Now the map may change.
                done.send(()).unwrap();
                for i in 0..200_u64 {
                    assert_eq!(mapped.load::<Le, u8>(i % 64), Ok(round));
                    mapped.store::<Le, u8>(i % 64, round).unwrap();
                    assert_eq!(cache.load::<Le, u8>(i % 64), Ok(round));
                    cache.write(i % 60, &[round; 4]).unwrap();
                }
                assert!(!gone.load(SeqCst), "it is mapped");
                drop(cache);
                assert!(!gone.load(SeqCst), "it is mapped");
                mapped.unmap(64).unwrap();
                done.send(()).unwrap();
            }
        });
        for round in 0..ROUNDS {
            let (ram, gone) = kept(64);
            ram.write(0, &[round as u8; 64]).unwrap();
            let region = map(&memory, 0x1000, Region::ram("ram", ram));
            to_mapper.send((round as u8, Arc::clone(&gone))).unwrap();
            next.recv().unwrap();
            memory
                .update(|t| {
                    t.unmap(memory.system(), region)?;
                    t.remove(region)
                })
                .unwrap();
            next.recv().unwrap();
            // The mapper's reader may still look at the old view, and the next change frees it.
            space.reader().load::<Le, u8>(0).unwrap_err();
            if round == ROUNDS - 1 {
                drop(next);
                drop(to_mapper);
                break;
            }
        }
    });
    memory.synchronize().unwrap();
    let (ram, gone) = kept(64);
    let region = map(&memory, 0x1000, Region::ram("ram", ram));
    let mapped = space.map(0x1000, 64, ReadWrite).unwrap();
    memory
        .update(|t| {
            t.unmap(memory.system(), region)?;
            t.remove(region)
        })
        .unwrap();
    memory.synchronize().unwrap();
    assert!(!gone.load(SeqCst));
    mapped.store::<Le, u32>(0, 7).unwrap();
    assert_eq!(mapped.load::<Le, u32>(0), Ok(7));
    drop(mapped);
    assert!(gone.load(SeqCst));
}

#[test]
fn mappings_end_at_the_last_address() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, u64::MAX - 0xfff, Region::ram("last", block(PAGE)));
    map(&memory, 0, Region::ram("first", block(PAGE)));
    let space = memory.memory_space();
    for direction in [Read, Write] {
        let mapped = space.map(u64::MAX - 0xff, u64::MAX, direction).unwrap();
        assert_eq!((mapped.is_direct(), mapped.len()), (true, 0x100));
        assert_eq!(space.map(u64::MAX, u64::MAX, direction).unwrap().len(), 1);
    }
    let (ops, calls) = noting(AccessRules::new());
    let device = memory.add(Region::io("device", 0x10, ops)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), u64::MAX - 0xf, device, 1)).unwrap();
    let mapped = space.map(u64::MAX - 3, 0x1000, ReadWrite).unwrap();
    assert_eq!((mapped.is_direct(), mapped.len()), (false, 4));
    mapped.unmap(4).unwrap();
    assert_eq!(taken(&calls), [('r', 12, 4, 0), ('w', 12, 4, 0x0f0e_0d0c)]);
}

#[test]
fn no_bytes_cannot_be_mapped() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(PAGE)));
    let space = memory.memory_space();
    for at in [0, 0x8000, u64::MAX] {
        assert!(matches!(space.map(at, 0, Read), Err(MapError::Empty { address }) if address == at));
        assert!(matches!(space.cache(at, 0, Read), Err(MapError::Empty { address }) if address == at));
    }
    assert_eq!(
        MapError::Empty { address: 16 }.to_string(),
        "No bytes were to be mapped at address 0x10; ask for one at least"
    );
}

#[test]
fn a_mapping_of_everything_is_as_long_as_it_can_be() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(PAGE)));
    map(&memory, 0x1_0000, Region::io("endless", 1 << 63, noting(AccessRules::new()).0));
    let space = memory.memory_space();
    assert_eq!(space.map(0x10, u64::MAX, Write).unwrap().len(), PAGE - 0x10);
    assert_eq!(space.map(0x1_0000, u64::MAX, Write).unwrap().len(), 4096);
    // A budget without end is the host's end, and no crash.
    space.set_bounce_budget(u64::MAX);
    let refused = space.map(0x1_0000, u64::MAX - 0x1_0000, Write).unwrap_err();
    assert!(matches!(refused, MapError::NoMemory { .. }), "{refused}");
    assert_eq!(space.bounce_in_use(), 0);
    let mapped = space.map(0, u64::MAX, ReadWrite).unwrap();
    let mut none = [0; 2];
    for (offset, size) in [(PAGE - 1, 2), (PAGE, 1), (u64::MAX, 1), (u64::MAX, 2)] {
        assert_eq!(mapped.read(offset, &mut none[..size]).unwrap_err().reason(), Reason::OutsideMapping);
        assert_eq!(mapped.write(offset, &none[..size]).unwrap_err().reason(), Reason::OutsideMapping);
        assert_eq!(mapped.mark_dirty(offset, size as u64).unwrap_err().reason(), Reason::OutsideMapping);
    }
    assert_eq!(mapped.load::<Le, u64>(PAGE - 7).unwrap_err().result(), MemTxResult::ACCESS_ERROR);
    assert_eq!(mapped.store::<Le, u64>(u64::MAX - 6, 1).unwrap_err().reason(), Reason::OutsideMapping);
    assert_eq!(
        (mapped.read(PAGE, &mut []), mapped.write(PAGE, &[]), mapped.mark_dirty(PAGE, 0)),
        (Ok(()), Ok(()), Ok(()))
    );
}

#[test]
fn who_asks_for_ram_only_gets_nothing_else() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(PAGE)));
    map(&memory, 0x1000, Region::rom("rom", block(PAGE)));
    let (ops, calls) = noting(AccessRules::new());
    map(&memory, 0x2000, Region::rom_device("flash", block(PAGE), ops));
    let reader = memory.memory_space().reader();
    let port = reader.port(MemTxAttrs::new().with_memory(true));
    assert!(port.map(0, 8, Write).unwrap().is_direct());
    assert!(port.map(0x1000, 8, Read).unwrap().is_direct());
    for at in [0x2000, 0x3000] {
        let mapped = port.map(at, 8, ReadWrite).unwrap();
        assert_eq!(mapped.contents().unwrap_err().reason(), Reason::NotRam);
        assert_eq!(
            mapped.unmap(8).unwrap_err().result(),
            MemTxResult::ACCESS_ERROR,
            "written back with its attributes"
        );
        assert!(!port.access_valid(at, 1, false));
        assert!(!port.cache(at, 8, Read).unwrap().is_ram());
    }
    assert_eq!(taken(&calls), []);
}

#[test]
fn a_device_maps_and_unmaps_in_its_callback() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(PAGE)));
    let (ops, calls) = noting(AccessRules::new());
    map(&memory, 0x2000, Region::io("other", 4, ops));
    let space = memory.memory_space().downgrade();
    let dma = Ops::new().write(move |access, value| {
        let space = space.upgrade().ok_or(MemTxError::error())?;
        let port = access.port(&space);
        let (source, target) = (port.map(0, 4, Read), port.map(0x2000, 4, Write));
        let (source, target) =
            (source.map_err(|_| MemTxError::error())?, target.map_err(|_| MemTxError::error())?);
        target.store::<Le, u32>(0, source.load::<Le, u32>(0)? + value as u32)?;
        source.unmap(4)?;
        target.unmap_through(&port, 4)
    });
    map(&memory, 0x1000, Region::io("dma", 4, dma).owner(&Owner::device("dma")));
    let reader = memory.memory_space().reader();
    reader.store::<Le, u32>(0, 40).unwrap();
    reader.store::<Le, u32>(0x1000, 2).unwrap();
    assert_eq!(taken(&calls), [('w', 0, 4, 42)]);
}

#[test]
fn a_device_does_not_enter_itself_by_unmapping() {
    for through in [true, false] {
        let memory = Memory::new(Endianness::Little);
        let space = memory.memory_space().downgrade();
        let depth = Arc::new(AtomicUsize::new(0));
        let entered = Arc::clone(&depth);
        let dma = Ops::new().write(move |access, value| {
            entered.fetch_add(1, SeqCst);
            let space = space.upgrade().ok_or(MemTxError::error())?;
            let port = access.port(&space);
            let own = port.map(0x1000, 4, Write).map_err(|_| MemTxError::error())?;
            own.store::<Le, u32>(0, value as u32)?;
            if through { own.unmap_through(&port, 4) } else { own.unmap(4) }
        });
        map(&memory, 0x1000, Region::io("dma", 4, dma).owner(&Owner::device("dma")));
        memory.memory_space().set_bounce_budget(1 << 20);
        let error = memory.memory_space().reader().store::<Le, u32>(0x1000, 1).unwrap_err();
        assert_eq!(error.result(), MemTxResult::ACCESS_ERROR);
        let entered = depth.load(SeqCst);
        assert_eq!(entered, if through { 1 } else { Access::MAX_DEPTH as usize }, "it ends in any case");
    }
}

#[test]
fn a_mapping_goes_to_another_thread() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(PAGE)));
    let (ops, calls) = noting(AccessRules::new());
    map(&memory, 0x1000, Region::io("device", 4, ops));
    let reader = memory.memory_space().reader();
    let (direct, bounce) = (reader.map(0, 8, Write).unwrap(), reader.map(0x1000, 4, Write).unwrap());
    let worker = thread::spawn(move || {
        direct.store::<Le, u32>(4, 9).unwrap();
        bounce.store::<Le, u32>(0, 8).unwrap();
        (direct.unmap(8), bounce.unmap(4))
    });
    assert_eq!(worker.join().unwrap(), (Ok(()), Ok(())));
    assert_eq!((reader.load::<Le, u32>(4), taken(&calls)), (Ok(9), vec![('w', 0, 4, 8)]));
}

#[test]
fn whether_an_access_is_valid_is_known_before() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0, Region::ram("ram", block(PAGE)));
    map(&memory, 0x1000, Region::rom("rom", block(PAGE)));
    map(&memory, 0x2000, Region::io("words", 0x1000, noting(AccessRules::new().valid(4, 4)).0));
    let picky = Ops::new().read(|_| Ok(0)).write(|_, _| Ok(())).accepts(|a| a.offset() < 8 && !a.is_write());
    map(&memory, 0x3000, Region::io("picky", 0x10, picky));
    let readonly = memory.add(Region::alias("readonly", ram, 0, 0x100).readonly(true)).unwrap();
    memory.map(memory.system(), 0x4000, readonly).unwrap();
    map(&memory, 0x1_0000, Region::io("endless", 1 << 62, noting(AccessRules::new().valid(1, 8)).0));
    let space = memory.memory_space();
    let reader = space.reader();
    let both = |addr, len| [reader.access_valid(addr, len, false), reader.access_valid(addr, len, true)];
    assert_eq!(both(0, PAGE), [true, true]);
    assert_eq!(both(0xff0, 0x20), [true, false], "RAM and then ROM");
    assert_eq!(both(0xff0, 0x1000 + 0x20), [true, false], "and then words");
    assert_eq!(both(0x2000, 8), [true, true]);
    assert_eq!(both(0x2000, 6), [false, false], "the last two bytes are too few");
    assert_eq!(both(0x2002, 4), [false, false]);
    assert_eq!(both(0x2000, 0x1000), [true, true]);
    assert_eq!(both(0x2000, 0x1004), [true, false], "the filter takes no writes");
    assert_eq!(both(0x3000, 8), [true, false]);
    assert_eq!(both(0x3000, 12), [false, false]);
    assert_eq!(both(0x4000, 0x100), [true, false], "read-only is read-only");
    assert_eq!(both(0x4000, 0x101), [false, false], "nothing is there");
    assert_eq!(both(0x1_0000, 1 << 62), [true, true], "long, and soon done");
    assert_eq!(both(0x1_0001, (1 << 62) - 1), [true, true]);
    assert_eq!(both(0x1_0000, (1 << 62) + 1), [false, false]);
    assert_eq!(both(0, u64::MAX), [false, false]);
    assert_eq!(both(u64::MAX, 2), [false, false]);
    for at in [0, 0x8000, u64::MAX] {
        assert_eq!(both(at, 0), [true, true]);
    }
}

#[test]
fn validity_goes_by_offsets_in_the_region() {
    // QEMU cuts by the address when it is asked and by the offset when it accesses. Here both go by the offset.
    let memory = Memory::new(Endianness::Little);
    let (ops, calls) = noting(AccessRules::new().valid(2, 2));
    map(&memory, 0x1001, Region::io("odd", 0x10, ops));
    let reader = memory.memory_space().reader();
    for (addr, len) in [(0x1001, 8), (0x1002, 2), (0x1003, 2), (0x1003, 14), (0x1003, 3), (0x1002, 1)] {
        let mut out = vec![0; len as usize];
        assert_eq!(
            reader.access_valid(addr, len, false),
            reader.read(addr, &mut out).is_ok(),
            "{addr:#x} {len}"
        );
    }
    assert!(!taken(&calls).is_empty());
}

#[test]
fn asking_is_silent_and_calls_no_device() {
    struct Silent;
    impl AccessLog for Silent {
        fn invalid(&self, access: &InvalidAccess<'_>) {
            std::panic::resume_unwind(Box::new(access.to_string()));
        }
    }
    let memory = Memory::new(Endianness::Little);
    memory.set_access_log(Silent);
    let (ops, calls) = noting(AccessRules::new().valid(4, 4));
    map(&memory, 0, Region::io("words", 0x100, ops));
    let reader = memory.memory_space().reader();
    assert!(reader.access_valid(0, 0x100, true) && !reader.access_valid(1, 4, true));
    assert!(!reader.access_valid(0x200, 4, false) && reader.is_io(0x200));
    assert_eq!(taken(&calls), []);
}

#[test]
fn what_is_io() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(PAGE)));
    map(&memory, 0x1000, Region::rom("rom", block(PAGE)));
    let flash = map(&memory, 0x2000, Region::rom_device("flash", block(PAGE), Ops::new().read(|_| Ok(0))));
    map(&memory, 0x3000, Region::ram_device("bar", block(PAGE)));
    map(&memory, 0x4000, Region::io("device", 0x1000, Ops::new()));
    map(&memory, 0x5000, Region::reservation("reserved", 0x1000));
    let reader = memory.memory_space().reader();
    let io = || [0, 0x1fff, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, u64::MAX].map(|at| reader.is_io(at));
    assert_eq!(io(), [false, false, false, false, true, true, true, true]);
    memory.update(|t| t.set_romd(flash, false)).unwrap();
    assert_eq!(io(), [false, false, true, false, true, true, true, true]);
}
