//! Changes of the map, in detail: `cargo bench -p flatview-bench --bench commit`.
#![expect(clippy::unwrap_used, reason = "a map that cannot be built ends the bench")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use flatview::{Endianness, Memory, MemoryError, Ops, Region, RegionId};

const STRIDE: u64 = 0x2000;

/// So many devices in `system`, with gaps.
fn map(count: u64) -> (Memory, Vec<RegionId>) {
    let memory = Memory::new(Endianness::Little);
    let add = |i: u64| {
        memory.update(|t| {
            let region = t.add(Region::io(format!("device-{i}"), 0x1000, Ops::new()))?;
            t.map(memory.system(), i * STRIDE, region)?;
            Ok::<_, MemoryError>(region)
        })
    };
    let regions = (0..count).map(|i| add(i).unwrap()).collect();
    (memory, regions)
}

fn one(c: &mut Criterion) {
    let mut group = c.benchmark_group("one change");
    for count in [100, 10_000] {
        let (memory, regions) = map(count);
        let middle = regions.get(regions.len() / 2).copied().unwrap();
        group.bench_function(format!("disable and enable, of {count}"), |b| {
            b.iter(|| {
                memory.update(|t| t.set_enabled(middle, false)).unwrap();
                memory.update(|t| t.set_enabled(middle, true)).unwrap();
            });
        });
        group.bench_function(format!("move there and back, of {count}"), |b| {
            let home = count / 2 * STRIDE;
            b.iter(|| {
                memory.update(|t| t.set_address(middle, 1 << 40)).unwrap();
                memory.update(|t| t.set_address(middle, home)).unwrap();
            });
        });
        group.bench_function(format!("find, of {count}"), |b| {
            b.iter(|| memory.find(memory.system(), count / 2 * STRIDE + 8, 4).unwrap());
        });
    }
    group.finish();
}

fn many(c: &mut Criterion) {
    let mut group = c.benchmark_group("many");
    group.sample_size(10);
    group.bench_function("map 1000 in 1000 transactions", |b| {
        b.iter_batched(|| (), |()| map(1000), BatchSize::PerIteration);
    });
    group.bench_function("map 1000 in one transaction", |b| {
        let build = || {
            let memory = Memory::new(Endianness::Little);
            let system = memory.system();
            memory
                .update(|t| {
                    for i in 0..1000 {
                        let region = t.add(Region::io(format!("device-{i}"), 0x1000, Ops::new()))?;
                        t.map(system, i * STRIDE, region)?;
                    }
                    Ok::<_, MemoryError>(())
                })
                .unwrap();
            memory
        };
        b.iter_batched(|| (), |()| build(), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, one, many);
criterion_main!(benches);
