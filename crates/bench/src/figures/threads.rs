//! Two threads at a time.
//!
//! Of every contender a batch runs alone, and then two run at a time, on two threads that begin together. What counts
//! is how much slower the two are, against how much slower two raw pointers are.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use flatview::Le;

use super::devices::{Which, ours, table, via_ch, via_crosvm, via_openvmm};
use crate::error::BenchError;
use crate::limits::{OURS, RAW, TABLE};
use crate::maps::{Devices, Ram};
use crate::measure::{Plan, Race, Track, calibrated, collect, seed, timed};
use crate::peers::raw::RawRam;
use crate::run::Run;

type Batch<'a> = Box<dyn FnMut(u64, u64) -> u64 + 'a>;

/// One who can run on two threads: makes a batch for each.
struct Twofold<'a> {
    name: &'static str,
    make: Box<dyn Fn() -> Batch<'a> + Sync + 'a>,
    /// If two of them have nothing in common: how many times slower two may be than one, each on a core of its own.
    alone: Option<f64>,
}

impl<'a> Twofold<'a> {
    fn new<B: FnMut(u64, u64) -> u64 + 'a>(name: &'static str, make: impl Fn() -> B + Sync + 'a) -> Self {
        Self { name, make: Box::new(move || Box::new(make())), alone: None }
    }

    fn alone<B: FnMut(u64, u64) -> u64 + 'a>(
        name: &'static str,
        most: f64,
        make: impl Fn() -> B + Sync + 'a,
    ) -> Self {
        Self { alone: Some(most), ..Self::new(name, make) }
    }
}

/// What the other thread is told, and what it tells.
struct Task {
    contender: AtomicUsize,
    ops: AtomicU64,
    seed: AtomicU64,
    /// Nanoseconds since the start of all: when its batch began and ended.
    began: AtomicU64,
    ended: AtomicU64,
    stop: AtomicBool,
    ready: AtomicU64,
    begin: Barrier,
    end: Barrier,
    start: Instant,
}

impl Task {
    fn new() -> Self {
        Self {
            contender: AtomicUsize::new(0),
            ops: AtomicU64::new(0),
            seed: AtomicU64::new(0),
            began: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            ready: AtomicU64::new(0),
            begin: Barrier::new(2),
            end: Barrier::new(2),
            start: Instant::now(),
        }
    }

    /// Both threads leave this at the same time.
    fn together(&self, meeting: u64) {
        self.ready.fetch_add(1, Ordering::AcqRel);
        while self.ready.load(Ordering::Acquire) < 2 * meeting {
            std::hint::spin_loop();
        }
    }

    /// Runs a batch and tells when it began and ended.
    fn span(&self, ops: u64, seed: u64, batch: &mut Batch<'_>) -> (u64, u64) {
        let now = || self.start.elapsed().as_nanos() as u64;
        let began = now();
        black_box(batch(black_box(ops), black_box(seed)));
        (began, now())
    }

    /// What the other thread does until it is stopped.
    fn serve(&self, contenders: &[Twofold<'_>]) {
        let mut batches: Vec<_> = contenders.iter().map(|c| (c.make)()).collect();
        let mut meeting = 0;
        loop {
            self.begin.wait();
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            meeting += 1;
            let (ops, seed) = (self.ops.load(Ordering::Acquire), self.seed.load(Ordering::Acquire));
            let batch = batches.get_mut(self.contender.load(Ordering::Acquire));
            self.together(meeting);
            let (began, ended) = batch.map_or((0, 0), |b| self.span(ops, seed, b));
            self.began.store(began, Ordering::Release);
            self.ended.store(ended, Ordering::Release);
            self.end.wait();
        }
    }
}

/// The part of the shorter of two spans during which both ran: when one thread had to wait for a processor, they ran
/// after each other and tell nothing.
fn overlap(a: (u64, u64), b: (u64, u64)) -> f64 {
    let both = a.1.min(b.1).saturating_sub(a.0.max(b.0));
    both as f64 / (a.1 - a.0).min(b.1 - b.0).max(1) as f64
}

/// Times with two threads, by contender, and these as ratios to the times alone.
fn duel(figure: &str, contenders: &[Twofold<'_>], plan: Plan) -> Result<(Race, Vec<Track>), BenchError> {
    let task = &Task::new();
    let mut names: Vec<&'static str> = contenders.iter().map(|c| c.name).collect();
    // Each row has the times with two threads, and then the slow-downs.
    names.extend_from_within(..);
    let (mut both, died) = std::thread::scope(|scope| {
        let other = scope.spawn(move || task.serve(contenders));
        let mut batches: Vec<_> = contenders.iter().map(|c| (c.make)()).collect();
        let ops: Vec<u64> = batches.iter_mut().map(|b| calibrated(plan.batch, &mut **b)).collect();
        let mut meetings = 0;
        let race = collect(&names, plan.rounds, 1, |round| {
            let (mut times, mut slower, mut together) = (Vec::new(), Vec::new(), true);
            for (i, (batch, ops)) in batches.iter_mut().zip(&ops).enumerate() {
                let alone = timed(*ops, seed(round, i), &mut **batch);
                meetings += 1;
                task.contender.store(i, Ordering::Release);
                task.ops.store(*ops, Ordering::Release);
                task.seed.store(seed(round, i + 64), Ordering::Release);
                task.begin.wait();
                task.together(meetings);
                let mine = task.span(*ops, seed(round, i + 32), batch);
                task.end.wait();
                let theirs = (task.began.load(Ordering::Acquire), task.ended.load(Ordering::Acquire));
                together &= overlap(mine, theirs) > 0.8;
                let two = (mine.1 - mine.0).midpoint(theirs.1 - theirs.0) as f64 / *ops as f64;
                times.push(two);
                slower.push(two / alone);
            }
            // Where two processors are halves of one core, or others have the other halves, what is slower there is slower because
            // of the host, and not because threads meet in memory.
            let own_cores = contenders.iter().zip(&slower).all(|(c, s)| c.alone.is_none_or(|most| *s < most));
            times.append(&mut slower);
            (times, together && own_cores)
        });
        task.stop.store(true, Ordering::Release);
        task.begin.wait();
        (race, other.join().is_err())
    });
    if died {
        return Err(BenchError::Thread { figure: figure.into() });
    }
    let slower = both.tracks.split_off(contenders.len());
    Ok((both, slower))
}

/// Pure arithmetic, which two threads on two cores do as fast as one.
fn arithmetic<'a>() -> Twofold<'a> {
    Twofold::alone("arithmetic", 1.03, || {
        |ops, _| {
            for _ in 0..ops {
                crate::calm::exercise();
            }
            ops
        }
    })
}

/// A few words, and between which addresses they are.
#[repr(align(64))]
struct Checked {
    start: AtomicU64,
    last: AtomicU64,
    words: [AtomicU64; 8],
}

/// Loads with checks from words that each thread has of its own. As much as ours it is bound by how fast instructions come in, which
/// arithmetic is not: two halves of a core have that in turns, and then these take half as long again.
fn checked<'a>() -> Twofold<'a> {
    #[inline(never)]
    fn loads(own: &Checked, ops: u64) -> u64 {
        let load = |address: u64| {
            let (start, last) = (own.start.load(Ordering::Relaxed), own.last.load(Ordering::Relaxed));
            if address < start || address > last {
                return None;
            }
            own.words.get((address / 8) as usize).map(|word| word.load(Ordering::Relaxed))
        };
        (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(load((i & 7) * 8).unwrap_or(0)))
    }
    Twofold::alone("checked words", 1.1, || {
        let words = std::array::from_fn(|i| AtomicU64::new(i as u64));
        let own = Box::new(Checked { start: AtomicU64::new(0), last: AtomicU64::new(56), words });
        move |ops, _| loads(&own, ops)
    })
}

/// Measures, and reports the slow-downs.
fn report(run: &mut Run, figure: &str, contenders: &[Twofold<'_>]) -> Result<(), BenchError> {
    if !run.wants(figure) {
        return Ok(());
    }
    let (both, slower) = duel(figure, contenders, Plan::LONG)?;
    run.slowdowns(figure, &both, &slower)
}

fn raw_pointer(raw: &RawRam) -> Twofold<'_> {
    Twofold::new(RAW, move || move |ops, _| raw.load_same(ops))
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let ram = &Ram::new(1)?;
    let raw = &ram.raw;
    let load = [
        arithmetic(),
        raw_pointer(raw),
        Twofold::new(OURS, move || {
            let reader = ram.reader();
            move |ops, _| {
                let load = |i: u64| reader.load::<Le, u64>((i & 7) * 8).unwrap_or(0);
                (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(load(i)))
            }
        }),
        checked(),
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
            arithmetic(),
            raw_pointer(raw),
            Twofold::new(TABLE, move || move |ops, seed| table(devices, among, ops, seed)),
            Twofold::new(OURS, move || {
                let reader = devices.reader();
                move |ops, seed| ours(devices, &reader, among, ops, seed)
            }),
            Twofold::new("crosvm", move || move |ops, seed| via_crosvm(cv, devices, among, ops, seed)),
            checked(),
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
