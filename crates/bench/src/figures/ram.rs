//! Exact loads and stores of RAM.
//!
//! UNSAFE: instructions that do nothing, to place loops.
#![expect(unsafe_code, reason = "loops are placed by instructions that do nothing")]

use ::vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use flatview::{Be, Le, Reader};

use crate::error::BenchError;
use crate::limits::{OURS, RAW};
use crate::maps::{Ram, Readers};
use crate::measure::{Contender, Dice, Plan};
use crate::peers::{raw::RawRam, vm_memory};
use crate::run::Run;
use crate::{at_four_places, place};

/// Loads from eight places of one cache line, in turn.
pub(super) fn load_same(reader: &Reader, ops: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(reader: &Reader, ops: u64) -> u64 {
        place!(PLACE);
        (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(reader.load::<Le, u64>((i & 7) * 8).unwrap_or(0)))
    }
    at_four_places!(ops, at, reader)
}

fn load_same_be(reader: &Reader, ops: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(reader: &Reader, ops: u64) -> u64 {
        let swapped = |i: u64| reader.load::<Be, u64>((i & 7) * 8).unwrap_or(0).swap_bytes();
        place!(PLACE);
        (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(swapped(i)))
    }
    at_four_places!(ops, at, reader)
}

#[inline(never)]
fn load_same_byte(reader: &Reader, ops: u64) -> u64 {
    (0..ops).fold(0, |sum, i| sum + u64::from(reader.load::<Le, u8>(i & 63).unwrap_or(0)))
}

#[inline(never)]
fn load_same_unaligned(reader: &Reader, ops: u64) -> u64 {
    (0..ops).fold(0, |sum, i| sum + u64::from(reader.load::<Le, u32>((i & 31) | 1).unwrap_or(0)))
}

fn cpu_load_same(reader: &Reader, ops: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(reader: &Reader, ops: u64) -> u64 {
        place!(PLACE);
        (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(reader.cpu_load::<Le, u64>((i & 7) * 8).unwrap_or(0)))
    }
    at_four_places!(ops, at, reader)
}

/// Stores to eight places of one cache line, in turn; gives how many went well.
pub(super) fn store_same(reader: &Reader, ops: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(reader: &Reader, ops: u64) -> u64 {
        place!(PLACE);
        for i in 0..ops {
            if reader.store::<Le, u64>((i & 7) * 8, i).is_err() {
                return i;
            }
        }
        ops
    }
    at_four_places!(ops, at, reader)
}

pub(super) fn load_random(reader: &Reader, ops: u64, seed: u64, words: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(reader: &Reader, seed: u64, words: u64, ops: u64) -> u64 {
        let mut dice = Dice::new(seed ^ u64::from(PLACE));
        let mut sum = 0_u64;
        place!(PLACE);
        for _ in 0..ops {
            sum = sum.wrapping_add(reader.load::<Le, u64>(dice.below(words) * 8).unwrap_or(0));
        }
        sum
    }
    at_four_places!(ops, at, reader, seed, words)
}

#[inline(never)]
fn store_random(reader: &Reader, ops: u64, seed: u64, words: u64) -> u64 {
    let mut dice = Dice::new(seed);
    for i in 0..ops {
        if reader.store::<Le, u64>(dice.below(words) * 8, i).is_err() {
            return i;
        }
    }
    ops
}

const RELAXED: std::sync::atomic::Ordering = std::sync::atomic::Ordering::Relaxed;

fn vm_load_same(vm: &GuestMemoryMmap<()>, ops: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(vm: &GuestMemoryMmap<()>, ops: u64) -> u64 {
        let load = |i: u64| vm.load::<u64>(GuestAddress((i & 7) * 8), RELAXED).unwrap_or(0);
        place!(PLACE);
        (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(load(i)))
    }
    at_four_places!(ops, at, vm)
}

fn vm_read_obj_same(vm: &GuestMemoryMmap<()>, ops: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(vm: &GuestMemoryMmap<()>, ops: u64) -> u64 {
        let load = |i: u64| vm.read_obj::<u64>(GuestAddress((i & 7) * 8)).unwrap_or(0);
        place!(PLACE);
        (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(load(i)))
    }
    at_four_places!(ops, at, vm)
}

fn vm_store_same(vm: &GuestMemoryMmap<()>, ops: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(vm: &GuestMemoryMmap<()>, ops: u64) -> u64 {
        place!(PLACE);
        for i in 0..ops {
            if vm.store(i, GuestAddress((i & 7) * 8), RELAXED).is_err() {
                return i;
            }
        }
        ops
    }
    at_four_places!(ops, at, vm)
}

fn vm_load_random(vm: &GuestMemoryMmap<()>, ops: u64, seed: u64, words: u64) -> u64 {
    #[inline(never)]
    fn at<const PLACE: u32>(vm: &GuestMemoryMmap<()>, seed: u64, words: u64, ops: u64) -> u64 {
        let mut dice = Dice::new(seed ^ u64::from(PLACE));
        let mut sum = 0_u64;
        place!(PLACE);
        for _ in 0..ops {
            let address = GuestAddress(dice.below(words) * 8);
            sum = sum.wrapping_add(vm.load::<u64>(address, RELAXED).unwrap_or(0));
        }
        sum
    }
    at_four_places!(ops, at, vm, seed, words)
}

/// The raw pointer's loads from one place: in every race that has no other raw pointer.
pub(super) fn raw_same(raw: &RawRam) -> Contender<'_> {
    Contender::apart(RAW, |ops, _| raw.load_same(ops))
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let ram = Ram::new(1)?;
    let raw = &ram.raw;
    let readers = &Readers::new(|| ram.reader());
    let vm = &vm_memory::over(raw)?;

    if run.wants("load/same/8") {
        let contenders = vec![
            Contender::new(RAW, |ops, _| raw.load_same(ops)),
            Contender::new(OURS, |ops, _| load_same(readers.next(), ops)),
            Contender::new("flatview big-endian", |ops, _| load_same_be(readers.next(), ops)),
            Contender::new("flatview cpu_load", |ops, _| cpu_load_same(readers.next(), ops)),
            Contender::new("vm-memory load", |ops, _| vm_load_same(vm, ops)),
            Contender::new("vm-memory read_obj", |ops, _| vm_read_obj_same(vm, ops)),
        ];
        run.race("load/same/8", contenders, &[], Plan::QUICK)?;
    }
    if run.wants("load/same/1") {
        let ours = Contender::apart(OURS, |ops, _| load_same_byte(readers.next(), ops));
        run.race("load/same/1", vec![raw_same(raw), ours], &[], Plan::QUICK)?;
    }
    if run.wants("load/same/4 unaligned") {
        let ours = Contender::apart(OURS, |ops, _| load_same_unaligned(readers.next(), ops));
        run.race("load/same/4 unaligned", vec![raw_same(raw), ours], &[], Plan::QUICK)?;
    }
    if run.wants("store/same/8") {
        let contenders = vec![
            Contender::new(RAW, |ops, _| raw.store_same(ops)),
            Contender::new(OURS, |ops, _| store_same(readers.next(), ops)),
            Contender::apart("flatview load", |ops, _| load_same(readers.next(), ops)),
            Contender::new("vm-memory store", |ops, _| vm_store_same(vm, ops)),
        ];
        run.race("store/same/8", contenders, &[], Plan::QUICK)?;
    }
    let words = ram.words;
    if run.wants("load/random/1") {
        let contenders = vec![
            Contender::new(RAW, |ops, seed| raw.load_random(ops, seed, words)),
            Contender::new(OURS, |ops, seed| load_random(readers.next(), ops, seed, words)),
            Contender::new("vm-memory load", |ops, seed| vm_load_random(vm, ops, seed, words)),
        ];
        run.race("load/random/1", contenders, &[], Plan::WIDE)?;
    }
    if run.wants("store/random/1") {
        let contenders = vec![
            Contender::new(RAW, |ops, seed| raw.store_random(ops, seed, words)),
            Contender::new(OURS, |ops, seed| store_random(readers.next(), ops, seed, words)),
        ];
        run.race("store/random/1", contenders, &[], Plan::LONG)?;
    }
    for ranges in [100, 10_000] {
        let figure = format!("load/random/{ranges}");
        if run.wants(&figure) {
            let many = Ram::new(ranges)?;
            // One: each would have to get to know all pages.
            let (raw, reader, words) = (&many.raw, &many.reader(), many.words);
            let contenders = vec![
                Contender::new(RAW, |ops, seed| raw.load_random(ops, seed, words)),
                Contender::new(OURS, |ops, seed| load_random(reader, ops, seed, words)),
            ];
            run.race(&figure, contenders, &[], Plan::WIDE)?;
        }
    }
    Ok(())
}
