//! Single accesses, in detail: `cargo bench -p flatview-bench --bench access`. Side by side with others: `flatview-bench`.
#![expect(clippy::unwrap_used, reason = "a map that cannot be built ends the bench")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use flatview::{
    AccessRules, Be, DeviceEndian, Endianness, Le, Memory, MemoryError, Ops, RamBlock, Reader, Region,
};

const DEVICES: u64 = 0x1000_0000;

/// 16 MiB of RAM, and devices that are called as they are, in bytes, in words, and swapped.
fn map() -> (Memory, Reader) {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 16 << 20).unwrap())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    let rules = AccessRules::new().valid(1, 8);
    let devices = [
        ("plain", rules.implemented(1, 8)),
        ("bytes", rules.implemented(1, 1)),
        ("words", rules.implemented(4, 4)),
        ("big", rules.implemented(1, 8).endian(DeviceEndian::Big)),
    ];
    memory
        .update(|t| {
            for (i, (name, rules)) in (0..).zip(devices) {
                let ops = Ops::new().rules(rules).read(|a| Ok(a.offset())).write(|_, _| Ok(()));
                let region = t.add(Region::io(name, 4096, ops))?;
                t.map(memory.system(), DEVICES + i * 4096, region)?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    let reader = memory.memory_space().reader();
    (memory, reader)
}

fn ram(c: &mut Criterion) {
    let (_memory, reader) = map();
    let mut group = c.benchmark_group("ram");
    group.bench_function("load u8", |b| b.iter(|| reader.load::<Le, u8>(black_box(0x100))));
    group.bench_function("load u32", |b| b.iter(|| reader.load::<Le, u32>(black_box(0x100))));
    group.bench_function("load u32 big-endian", |b| b.iter(|| reader.load::<Be, u32>(black_box(0x100))));
    group.bench_function("load u64", |b| b.iter(|| reader.load::<Le, u64>(black_box(0x100))));
    group.bench_function("load u64 unaligned", |b| b.iter(|| reader.load::<Le, u64>(black_box(0x103))));
    group.bench_function("cpu_load u32", |b| b.iter(|| reader.cpu_load::<Le, u32>(black_box(0x100))));
    group.bench_function("store u64", |b| b.iter(|| reader.store::<Le, u64>(black_box(0x100), 7)));
    for len in [1, 8, 64, 512, 4096] {
        let mut out = vec![0; len];
        group.bench_function(format!("read {len}"), |b| {
            b.iter(|| reader.read(black_box(0x1000), black_box(&mut out)));
        });
        group.bench_function(format!("write {len}"), |b| {
            b.iter(|| reader.write(black_box(0x1000), black_box(&out)));
        });
    }
    group.finish();
}

fn mmio(c: &mut Criterion) {
    let (_memory, reader) = map();
    let mut group = c.benchmark_group("mmio");
    let at = |i: u64| DEVICES + i * 4096;
    group.bench_function("load u32", |b| b.iter(|| reader.load::<Le, u32>(black_box(at(0)))));
    group.bench_function("store u32", |b| b.iter(|| reader.store::<Le, u32>(black_box(at(0)), 7)));
    group.bench_function("u64 split in eight", |b| b.iter(|| reader.load::<Le, u64>(black_box(at(1)))));
    group.bench_function("u64 split in two", |b| b.iter(|| reader.load::<Le, u64>(black_box(at(2)))));
    group.bench_function("u8 widened to four", |b| b.iter(|| reader.load::<Le, u8>(black_box(at(2)))));
    group.bench_function("u32 swapped", |b| b.iter(|| reader.load::<Le, u32>(black_box(at(3)))));
    group.bench_function("nothing there", |b| b.iter(|| reader.load::<Le, u32>(black_box(at(9)))));
    group.finish();
}

criterion_group!(benches, ram, mmio);
criterion_main!(benches);
