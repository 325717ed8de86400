//! What a region weighs: what is asked of the allocator for a map of 10,000 MMIO regions, as `memory/region` of
//! `flatview-bench` weighs it.
//!
//! UNSAFE: a global allocator that passes everything on to the system's and counts what one thread asks for.
#![expect(unsafe_code, reason = "a global allocator cannot be written without")]
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use flatview::{Access, Endianness, MemTxError, Memory, MemoryError, MmioOps, Region, RegionId, WHOLE};

/// The system's allocator, with a count of the bytes that are allocated on this thread.
struct CountingHeap;

thread_local! {
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: i64) {
    // While a thread ends, its count is gone.
    let _ = BYTES.try_with(|count| count.set(count.get() + sign * bytes as i64));
}

// SAFETY: every call is passed on to the system's allocator as it is, so its guarantees are those of the system's.
// Counting allocates nothing: the count is a thread-local constant without a destructor.
unsafe impl GlobalAlloc for CountingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(new_size, 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

fn heap() -> i64 {
    BYTES.with(Cell::get)
}

/// A device without state, so that only what the library keeps is weighed.
struct Stateless;

impl MmioOps for Stateless {
    fn read(&self, _: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(0)
    }

    fn write(&self, _: &Access<'_>, _: u64) -> Result<(), MemTxError> {
        Ok(())
    }
}

const COUNT: u64 = 10_000;
/// The design's limit for a region beyond its name and its device, in bytes.
const LIMIT: i64 = 200;
/// The counts of an `Arc`: what a name and a device have besides their own bytes.
const COUNTS: usize = 2 * size_of::<usize>();

fn name(i: u64) -> String {
    format!("device-{i:05}")
}

/// Maps `COUNT` regions of 4 KiB, the `i`th at page `place(i)`.
fn mapped(memory: &Memory, place: impl Fn(u64) -> u64) -> (RegionId, Vec<RegionId>) {
    let mut regions = Vec::with_capacity(COUNT as usize);
    let root = memory.update(|t| {
        let root = t.add(Region::container("root", WHOLE))?;
        for i in 0..COUNT {
            let region = t.add(Region::io(name(i), 4096, Stateless))?;
            t.map(root, place(i) << 12, region)?;
            regions.push(region);
        }
        Ok::<_, MemoryError>(root)
    });
    (root.unwrap(), regions)
}

fn bare() -> Memory {
    Memory::builder(Endianness::Little).bare().build()
}

/// What one of them weighs beyond what the caller gave it.
fn weighed(memory: &Memory, place: impl Fn(u64) -> u64) -> i64 {
    let before = heap();
    let (_, ids) = mapped(memory, place);
    let bytes = heap() - before - (ids.capacity() * size_of::<RegionId>()) as i64;
    let callers = (name(0).len() + COUNTS).next_multiple_of(8) + COUNTS;
    bytes / COUNT as i64 - callers as i64
}

#[test]
fn a_region_weighs_no_more_than_the_limit() {
    let upwards = weighed(&bare(), |i| i);
    let downwards = weighed(&bare(), |i| COUNT - i);
    // Every place once, in an order that jumps about.
    let mixed = weighed(&bare(), |i| i * 7919 % COUNT);
    println!("bytes of an MMIO region: {upwards} added upwards, {downwards} downwards, {mixed} mixed");
    assert!(upwards <= LIMIT && downwards <= LIMIT && mixed <= LIMIT);
    // It does weigh something: the count counts.
    assert!(upwards > 100);
}

#[test]
fn what_a_transaction_noted_is_given_back_when_it_ends() {
    let memory = bare();
    let (root, regions) = mapped(&memory, |i| i);
    memory.address_space("space", root).unwrap();
    let toggle = |keep: bool| {
        let done = memory.update(|t| {
            for at in [false, true] {
                regions.iter().try_for_each(|r| t.set_enabled(*r, at))?;
            }
            if keep { Ok(()) } else { Err(MemoryError::SpaceInsideUpdate) }
        });
        assert_eq!(done.is_ok(), keep);
    };
    // What is kept for the next transaction, and how the view and the index are cut into chunks, is settled.
    toggle(true);
    for keep in [true, false] {
        let before = heap();
        toggle(keep);
        assert!(heap() - before < 1024, "{} bytes more, done: {keep}", heap() - before);
    }
    let before = heap();
    let removed = memory.update(|t| {
        for region in &regions {
            t.unmap(root, *region)?;
            t.remove(*region)?;
        }
        Ok::<_, MemoryError>(())
    });
    removed.unwrap();
    // Left are the numbered places, which the next regions take, and the list of them.
    let left = 128 * COUNT as i64;
    assert!(heap() - before < -left, "{} bytes", heap() - before);
}
