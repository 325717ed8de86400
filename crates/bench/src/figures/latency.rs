//! What a reader notices of a writer that commits without pause, and the writer of readers.
//!
//! Quiet and busy windows follow each other. In a quiet one the writer's thread waits without sleeping, so that the
//! second processor is as awake as in a busy one and only the commits make the difference.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flatview::Le;

use crate::error::BenchError;
use crate::limits::Unit;
use crate::maps::Siblings;
use crate::measure::{Dice, quantile};
use crate::run::Run;

/// Accesses of one batch.
const BATCH: usize = 64;
/// Regions of the map.
const REGIONS: u64 = 10_000;
/// Pairs of windows that count, how many are tried for each, and the length of one.
const PAIRS: usize = 15;
const PATIENCE: usize = 3;
const WINDOW: Duration = Duration::from_millis(60);
/// In nanoseconds. The timer interrupts a batch in a thousand or so, for some microseconds. A quiet window with a higher p99.9 was not
/// quiet: others took the processor for a millisecond at a time, which hides whatever the writer does.
const DISTURBED: f64 = 10_000.0;

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let figures = ["latency/p99.9", "latency/p50", "latency/commits"];
    let wanted = figures.map(|f| run.wants(f));
    if !wanted.contains(&true) {
        return Ok(());
    }
    let map = &Siblings::new(REGIONS)?;
    let (busy, stop, commits) = (&AtomicBool::new(false), &AtomicBool::new(false), &AtomicU64::new(0));
    let mut windows: Vec<[f64; 4]> = Vec::new();
    let mut rates = Vec::new();
    let mut unread = Vec::new();
    let mut calm = false;
    let died = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut seed = 0;
            while !stop.load(Ordering::Acquire) {
                if busy.load(Ordering::Acquire) {
                    commits.fetch_add(map.toggle(16, seed), Ordering::AcqRel);
                    seed += 1;
                } else {
                    std::hint::spin_loop();
                }
            }
        });
        let mut reader = map.memory.memory_space().reader();
        let mut dice = Dice::new(7);
        let mut window = |on: bool| {
            busy.store(on, Ordering::Release);
            let mut ns = Vec::with_capacity(200_000);
            let end = Instant::now() + WINDOW;
            let mut from = Instant::now();
            while from < end {
                // What was off at the moment reads as an error: an answer like any other.
                let mut sum = 0_u64;
                for _ in 0..BATCH {
                    let addr = dice.below(REGIONS) * Siblings::STRIDE + 8;
                    sum += u64::from(reader.load::<Le, u32>(addr).unwrap_or(1));
                }
                std::hint::black_box(sum);
                let to = Instant::now();
                ns.push((to - from).as_nanos() as f64);
                from = to;
            }
            (quantile(&ns, 0.5), quantile(&ns, 0.999))
        };
        window(true);
        let mut disturbed = Vec::new();
        for _ in 0..PAIRS * PATIENCE {
            if windows.len() == PAIRS {
                break;
            }
            let (quiet_50, quiet_999) = window(false);
            let (before, start) = (commits.load(Ordering::Acquire), Instant::now());
            let (busy_50, busy_999) = window(true);
            let done = commits.load(Ordering::Acquire) - before;
            rates.push(done as f64 / start.elapsed().as_secs_f64());
            let row = [quiet_50, quiet_999, busy_50, busy_999];
            if quiet_999 <= DISTURBED { windows.push(row) } else { disturbed.push(row) }
        }
        calm = windows.len() * 2 >= PAIRS;
        if !calm {
            windows.append(&mut disturbed);
        }
        // The writer without a reader, to see what readers cost it.
        reader.park();
        for _ in 0..5 {
            let (before, start) = (commits.load(Ordering::Acquire), Instant::now());
            std::thread::sleep(WINDOW);
            unread.push((commits.load(Ordering::Acquire) - before) as f64 / start.elapsed().as_secs_f64());
        }
        stop.store(true, Ordering::Release);
        writer.join().is_err()
    });
    if died {
        return Err(BenchError::Thread { figure: "latency".into() });
    }
    let column = |i: usize| windows.iter().filter_map(|w| w.get(i).copied()).collect::<Vec<_>>();
    let ratios = |a: usize, b: usize| {
        let pairs: Vec<f64> = column(a).iter().zip(column(b)).map(|(a, b)| a / b).collect();
        quantile(&pairs, 0.5)
    };
    // The median of the windows' ratios: a window that the host disturbed does not decide.
    for (wanted, figure, quiet, busy) in
        [(wanted.first(), "latency/p99.9", 1, 3), (wanted.get(1), "latency/p50", 0, 2)]
    {
        if wanted == Some(&true) {
            let value = quantile(&column(busy), 0.5);
            let base = Some(("quiet", value / ratios(busy, quiet)));
            run.value(figure, value, Unit::Ns, base, calm);
        }
    }
    if wanted.get(2) == Some(&true) {
        let (rate, unread) = (quantile(&rates, 0.5), quantile(&unread, 0.5));
        run.value("latency/commits", rate, Unit::PerSecond, Some(("without a reader", unread)), calm);
    }
    Ok(())
}
