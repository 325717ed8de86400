//! Memory: of a region, of a range, and of a map that only changes.
//!
//! What is counted is what was asked of the allocator.

use flatview::{Access, Endianness, Le, MemTxError, Memory, MemoryError, MmioOps, RamBlock, Region, WHOLE};

use crate::error::BenchError;
use crate::gauge::HeapCount;
use crate::limits::Unit;
use crate::maps::Siblings;
use crate::run::Run;

/// Devices of the maps that are weighed.
const COUNT: u64 = 10_000;

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

/// The counts of an `Arc`: what a name and a device have besides their own bytes.
const COUNTS: usize = 2 * size_of::<usize>();

/// Bytes of a region beyond its name and device, and of a range, for devices of `size` bytes at a stride.
fn weighed(size: u64, stride: u64) -> Result<(f64, f64), BenchError> {
    let memory = Memory::builder(Endianness::Little).bare().build();
    let name = |i: u64| format!("device-{i:05}");
    let heap = HeapCount::begin();
    // No space shows it yet.
    let root = memory.update(|t| {
        let root = t.add(Region::container("root", WHOLE))?;
        for i in 0..COUNT {
            let region = t.add(Region::io(name(i), u128::from(size), Stateless))?;
            t.map(root, i * stride, region)?;
        }
        Ok::<_, MemoryError>(root)
    })?;
    let regions = heap.bytes() as f64;
    let space = memory.address_space("space", root)?;
    let ranges = heap.bytes() as f64 - regions;
    drop(heap);
    let callers = (name(0).len() + COUNTS).next_multiple_of(8) + COUNTS;
    let shown = space.view()?.len() as f64;
    Ok((regions / COUNT as f64 - callers as f64, ranges / shown))
}

/// By how many bytes the heap has grown after `commits` changes of a map with `regions` regions, with one reader
/// that reads now and then and one that idles, parked.
///
/// # Errors
/// [`BenchError`]: the map could not be built, or an access failed.
pub fn grown_after(regions: u64, commits: u64) -> Result<i64, BenchError> {
    let map = Siblings::new(regions)?;
    let ram = map.memory.add(Region::ram("ram", RamBlock::anonymous("ram", 4096)?))?;
    map.memory.map(map.memory.system(), 1 << 40, ram)?;
    let space = map.memory.memory_space();
    let mut reader = space.reader();
    let mut idle = space.reader();
    idle.load::<Le, u32>(1 << 40)?;
    idle.park();
    let mut run = |commits: u64, seed: u64| {
        let mut done = 0;
        while done < commits {
            done += map.toggle(64, seed ^ done);
            reader.load::<Le, u32>(1 << 40)?;
        }
        reader.park();
        map.memory.synchronize().map_err(BenchError::from)
    };
    // What grows to its working size does so before the counting.
    run(10_000, 1)?;
    let heap = HeapCount::begin();
    run(commits, 2)?;
    Ok(heap.bytes())
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let (region, dense, packed, sparse) =
        ("memory/region", "memory/range/dense", "memory/range/32B apart", "memory/range/1GiB");
    let maps = [(region, 4096, 4096), (dense, 4096, 4096), (packed, 32, 32), (sparse, 4096, 1 << 30)];
    for (figure, size, stride) in maps {
        if run.wants(figure) {
            let (a_region, a_range) = weighed(size, stride)?;
            let value = if figure == region { a_region } else { a_range };
            run.value(figure, value, Unit::Bytes, None, true);
        }
    }
    if run.wants("memory/growth") {
        let grown = grown_after(100, 1_000_000)?;
        run.value("memory/growth", grown as f64, Unit::Bytes, None, true);
    }
    Ok(())
}
