//! Two threads at a time.
//!
//! Of every contender a batch runs alone, and then two run at a time, on two threads that begin together. What counts
//! is how much slower the two are, against how much slower two raw pointers are.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use flatview::Le;

use super::devices::{Which, ours, table, via_ch, via_crosvm, via_openvmm};
use crate::error::BenchError;
use crate::limits::{OURS, RAW, TABLE};
use crate::maps::{Devices, Ram};
use crate::measure::{Plan, Track, calibrated, seed, timed};
use crate::peers::raw::RawRam;
use crate::run::Run;

type Batch<'a> = Box<dyn FnMut(u64, u64) -> u64 + 'a>;

/// One who can run on two threads: makes a batch for each.
struct Twofold<'a> {
    name: &'static str,
    make: Box<dyn Fn() -> Batch<'a> + Sync + 'a>,
}

impl<'a> Twofold<'a> {
    fn new<B: FnMut(u64, u64) -> u64 + 'a>(name: &'static str, make: impl Fn() -> B + Sync + 'a) -> Self {
        Self { name, make: Box::new(move || Box::new(make())) }
    }
}

/// What the other thread is told.
struct Task {
    contender: AtomicUsize,
    ops: AtomicU64,
    seed: AtomicU64,
    /// Nanoseconds for each operation, as bits.
    took: AtomicU64,
    stop: AtomicBool,
    ready: AtomicU64,
    begin: Barrier,
    end: Barrier,
}

impl Task {
    /// Both threads leave this at the same time.
    fn together(&self, round: u64) {
        self.ready.fetch_add(1, Ordering::AcqRel);
        while self.ready.load(Ordering::Acquire) < 2 * round {
            std::hint::spin_loop();
        }
    }
}

/// Times alone and times with two threads, by contender; the second as the ratio to the first.
fn duel(
    figure: &str,
    contenders: &[Twofold<'_>],
    plan: Plan,
) -> Result<(Vec<Track>, Vec<Track>), BenchError> {
    let task = Task {
        contender: AtomicUsize::new(0),
        ops: AtomicU64::new(0),
        seed: AtomicU64::new(0),
        took: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        ready: AtomicU64::new(0),
        begin: Barrier::new(2),
        end: Barrier::new(2),
    };
    let task = &task;
    let track = |name| Track { name, ns: Vec::with_capacity(plan.rounds) };
    let mut both: Vec<Track> = contenders.iter().map(|c| track(c.name)).collect();
    let mut slower = both.clone();
    let died = std::thread::scope(|scope| {
        let other = scope.spawn(move || {
            let mut batches: Vec<_> = contenders.iter().map(|c| (c.make)()).collect();
            let mut round = 0;
            loop {
                task.begin.wait();
                if task.stop.load(Ordering::Acquire) {
                    return;
                }
                round += 1;
                let (ops, seed) = (task.ops.load(Ordering::Acquire), task.seed.load(Ordering::Acquire));
                let batch = batches.get_mut(task.contender.load(Ordering::Acquire));
                task.together(round);
                let ns = batch.map_or(f64::NAN, |b| timed(ops, seed, &mut **b));
                task.took.store(ns.to_bits(), Ordering::Release);
                task.end.wait();
            }
        });
        let mut batches: Vec<_> = contenders.iter().map(|c| (c.make)()).collect();
        let ops: Vec<u64> = batches.iter_mut().map(|b| calibrated(plan.batch, &mut **b)).collect();
        let mut meetings = 0;
        for round in 0..plan.rounds {
            for (i, batch) in batches.iter_mut().enumerate() {
                let ops = ops.get(i).copied().unwrap_or(1);
                let alone = timed(ops, seed(round, i), &mut **batch);
                meetings += 1;
                task.contender.store(i, Ordering::Release);
                task.ops.store(ops, Ordering::Release);
                task.seed.store(seed(round, i + 64), Ordering::Release);
                task.begin.wait();
                task.together(meetings);
                let mine = timed(ops, seed(round, i + 32), &mut **batch);
                task.end.wait();
                let theirs = f64::from_bits(task.took.load(Ordering::Acquire));
                let two = mine.midpoint(theirs);
                if let Some((both, slower)) = both.get_mut(i).zip(slower.get_mut(i)) {
                    both.ns.push(two);
                    slower.ns.push(two / alone);
                }
            }
        }
        task.stop.store(true, Ordering::Release);
        task.begin.wait();
        other.join().is_err()
    });
    if died { Err(BenchError::Thread { figure: figure.into() }) } else { Ok((both, slower)) }
}

/// Measures, and reports the slow-downs; the times with two threads under a name of their own.
fn report(run: &mut Run, figure: &str, contenders: &[Twofold<'_>]) -> Result<(), BenchError> {
    if !run.wants(figure) {
        return Ok(());
    }
    let mut measured = duel(figure, contenders, Plan::LONG)?;
    for _ in 0..2 {
        if measured.0.iter().all(|t| t.name != RAW || t.spread() <= crate::limits::NOISY) {
            break;
        }
        measured = duel(figure, contenders, Plan::LONG)?;
    }
    let (both, slower) = measured;
    run.slowdowns(figure, &both, &slower)
}

fn raw_pointer(raw: &RawRam) -> Twofold<'_> {
    Twofold::new(RAW, move || move |ops, _| raw.load_same(ops))
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let ram = &Ram::new(1)?;
    let raw = &ram.raw;
    let load = [
        raw_pointer(raw),
        Twofold::new(OURS, move || {
            let reader = ram.reader();
            move |ops, _| {
                let load = |i: u64| reader.load::<Le, u64>((i & 7) * 8).unwrap_or(0);
                (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(load(i)))
            }
        }),
    ];
    report(run, "threads/load", &load)?;
    for (figure, locked) in [("threads/mmio", false), ("threads/mmio, own mutex", true)] {
        if !run.wants_any(&[figure.to_owned()]) {
            continue;
        }
        let devices = Devices::new(128, 12, locked)?;
        let devices = &devices;
        let among = Which::Random.among(devices);
        let buses = (devices.crosvm(locked), devices.cloud_hypervisor(), devices.openvmm());
        let (cv, ch, ov) = (&buses.0, &buses.1, &buses.2);
        let mut contenders = vec![
            raw_pointer(raw),
            Twofold::new(TABLE, move || move |ops, seed| table(devices, among, ops, seed)),
            Twofold::new(OURS, move || {
                let reader = devices.reader();
                move |ops, seed| ours(devices, &reader, among, ops, seed)
            }),
            Twofold::new("crosvm", move || move |ops, seed| via_crosvm(cv, devices, among, ops, seed)),
        ];
        if locked {
            let more = [
                Twofold::new("cloud-hypervisor", move || {
                    move |ops, seed| via_ch(&ch.0, devices, among, ops, seed)
                }),
                Twofold::new("openvmm", move || {
                    move |ops, seed| via_openvmm(&ov.0, devices, among, ops, seed)
                }),
            ];
            contenders.extend(more);
        }
        report(run, figure, &contenders)?;
    }
    Ok(())
}
