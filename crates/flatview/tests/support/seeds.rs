//! Many seeds, tried on all processors; a seed that fails is printed with the command that tries it again.
//!
//! `FLATVIEW_SEED=n` tries that one seed and prints what it does. `FLATVIEW_TREES=n` tries so many; `FLATVIEW_FIRST=n`
//! begins with another seed than 0.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A number from the environment.
pub fn env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name}={text:?}: a decimal number is wanted")))
}

/// A generator for a seed. Seeds that follow each other give unrelated streams.
pub fn rng(seed: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed((seed ^ 0x6a09_e667_f3bc_c909).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// What is counted over all seeds.
pub trait Tally: Default + Send {
    fn add(&mut self, other: Self);
}

/// Tries `count` seeds (or what the environment says) with `run(seed, verbose)` and gives the sum of what it counts;
/// `None` if only one seed was tried, of which no sums can be expected.
pub fn try_seeds<T: Tally>(
    test: &str,
    function: &str,
    count: u64,
    run: impl Fn(u64, bool) -> T + Sync,
) -> (u64, T, bool) {
    let rerun = |seed: u64| {
        eprintln!(
            "\nseed {seed} failed; to try it again:\n    FLATVIEW_SEED={seed} cargo test -p flatview --test {test} \
             -- --nocapture {function}\n"
        );
    };
    if let Some(seed) = env("FLATVIEW_SEED") {
        let tally = catch_unwind(AssertUnwindSafe(|| run(seed, true))).unwrap_or_else(|panic| {
            rerun(seed);
            resume_unwind(panic)
        });
        return (1, tally, false);
    }
    let (first, count) = (env("FLATVIEW_FIRST").unwrap_or(0), env("FLATVIEW_TREES").unwrap_or(count));
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let sum = Mutex::new(T::default());
    let worker = || {
        let mut mine = T::default();
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            match catch_unwind(AssertUnwindSafe(|| run(first.wrapping_add(at), false))) {
                Ok(tally) => mine.add(tally),
                Err(panic) => {
                    failed.store(true, Ordering::Relaxed);
                    rerun(first.wrapping_add(at));
                    resume_unwind(panic);
                }
            }
        }
        sum.lock().expect("no worker panics with the lock").add(mine);
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                resume_unwind(panic);
            }
        }
    });
    (count, sum.into_inner().expect("no worker panicked"), count >= 1000)
}
