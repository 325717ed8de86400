//! The instructions of the hottest paths, counted by callgrind.
//!
//! What it is: one function for each path, which takes it [`TIMES`] times; `flatview-instructions` runs this and
//! compares with `instructions.txt`. What it is not: a measure of time; a count does not know of caches or of
//! mispredicted branches, but neither does it know of noise.
#![expect(missing_docs, unused_qualifications, reason = "what gungraun's macros make has both")]
#![expect(clippy::expect_used, reason = "a map that cannot be built ends the bench")]

use std::hint::black_box;

use flatview::{Be, Le, Reader};
use flatview_bench::maps::{Devices, Ram, Siblings};
use gungraun::{library_benchmark, library_benchmark_group, main};

/// How often each path is taken.
const TIMES: u64 = 1000;

/// A map, and a reader that has seen it.
struct Setup<T> {
    map: T,
    reader: Reader,
}

fn ram(ranges: u64) -> Setup<Ram> {
    let map = Ram::new(ranges).expect("RAM for the benchmark");
    let reader = map.reader();
    assert!(reader.load::<Le, u64>(0).is_ok());
    Setup { map, reader }
}

fn devices(count: u64) -> Setup<Devices> {
    let map = Devices::new(count, 12, false).expect("a map for the benchmark");
    let reader = map.reader();
    assert!(reader.load::<Le, u32>(map.address(0)).is_ok());
    Setup { map, reader }
}

fn siblings(count: u64) -> Siblings {
    let map = Siblings::new(count).expect("a map for the benchmark");
    assert_eq!(map.toggle(64, 1), 64);
    map
}

#[library_benchmark]
#[bench::one(setup = ram, args = (1))]
fn load(s: Setup<Ram>) -> (u64, Setup<Ram>) {
    let sum = (0..TIMES).fold(0, |sum: u64, i| {
        sum.wrapping_add(s.reader.load::<Le, u64>(black_box((i & 7) * 8)).unwrap_or(0))
    });
    (sum, s)
}

#[library_benchmark]
#[bench::one(setup = ram, args = (1))]
fn load_big_endian(s: Setup<Ram>) -> (u64, Setup<Ram>) {
    let sum = (0..TIMES).fold(0, |sum: u64, i| {
        sum.wrapping_add(u64::from(s.reader.load::<Be, u32>(black_box((i & 7) * 4)).unwrap_or(0)))
    });
    (sum, s)
}

// Another range at each access: the way through the view.
#[library_benchmark]
#[bench::ranges(setup = ram, args = (10_000))]
fn load_elsewhere(s: Setup<Ram>) -> (u64, Setup<Ram>) {
    let words = s.map.words;
    let sum = (0..TIMES).fold(0, |sum: u64, i| {
        let addr = i.wrapping_mul(7_919_003) % words * 8;
        sum.wrapping_add(s.reader.load::<Le, u64>(black_box(addr)).unwrap_or(0))
    });
    (sum, s)
}

#[library_benchmark]
#[bench::one(setup = ram, args = (1))]
fn store(s: Setup<Ram>) -> (usize, Setup<Ram>) {
    let done = (0..TIMES).filter(|i| s.reader.store::<Le, u64>(black_box((i & 7) * 8), *i).is_ok()).count();
    (done, s)
}

#[library_benchmark]
#[bench::one(setup = ram, args = (1))]
fn cpu_load(s: Setup<Ram>) -> (u64, Setup<Ram>) {
    let sum = (0..TIMES).fold(0, |sum: u64, i| {
        sum.wrapping_add(s.reader.cpu_load::<Le, u64>(black_box((i & 7) * 8)).unwrap_or(0))
    });
    (sum, s)
}

// The bus's own instructions: the copy itself is sixteen bytes.
#[library_benchmark]
#[bench::one(setup = ram, args = (1))]
fn bus_read(s: Setup<Ram>) -> (usize, Setup<Ram>) {
    let mut out = [0; 16];
    let done =
        (0..TIMES).filter(|i| s.reader.read(black_box((i & 7) * 8), black_box(&mut out)).is_ok()).count();
    (done, s)
}

#[library_benchmark]
#[bench::one(setup = ram, args = (1))]
fn bus_write(s: Setup<Ram>) -> (usize, Setup<Ram>) {
    let bytes = [1; 16];
    let done =
        (0..TIMES).filter(|i| s.reader.write(black_box((i & 7) * 8), black_box(&bytes)).is_ok()).count();
    (done, s)
}

#[library_benchmark]
#[bench::same(setup = devices, args = (8))]
fn mmio_read(s: Setup<Devices>) -> (u64, Setup<Devices>) {
    let addr = s.map.address(3);
    let sum = (0..TIMES).fold(0, |sum: u64, _| {
        sum.wrapping_add(u64::from(s.reader.load::<Le, u32>(black_box(addr)).unwrap_or(0)))
    });
    (sum, s)
}

#[library_benchmark]
#[bench::same(setup = devices, args = (8))]
fn mmio_write(s: Setup<Devices>) -> (usize, Setup<Devices>) {
    let addr = s.map.address(3);
    let done = (0..TIMES).filter(|i| s.reader.store::<Le, u32>(black_box(addr), *i as u32).is_ok()).count();
    (done, s)
}

// Another device at each access.
#[library_benchmark]
#[bench::devices(setup = devices, args = (10_000))]
fn mmio_elsewhere(s: Setup<Devices>) -> (u64, Setup<Devices>) {
    let sum = (0..TIMES).fold(0, |sum: u64, i| {
        let addr = s.map.address(i.wrapping_mul(7_919) % 10_000);
        sum.wrapping_add(u64::from(s.reader.load::<Le, u32>(black_box(addr)).unwrap_or(0)))
    });
    (sum, s)
}

#[library_benchmark]
#[bench::siblings(setup = siblings, args = (10_000))]
fn commit(map: Siblings) -> (u64, Siblings) {
    (map.toggle(TIMES, 42), map)
}

library_benchmark_group!(
    name = paths,
    benchmarks = [
        load,
        load_big_endian,
        load_elsewhere,
        store,
        cpu_load,
        bus_read,
        bus_write,
        mmio_read,
        mmio_write,
        mmio_elsewhere,
        commit
    ]
);

main!(library_benchmark_groups = paths);
