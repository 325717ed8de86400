//! Whether the machine leaves us alone.
//!
//! What it is: a probe of pure arithmetic that keeps every unit of a processor busy for some microseconds, measured
//! in the time of a chain of additions that wait for each other, so that the processor's clock, which rises and falls,
//! does not count. By itself that always takes the same; it takes longer if something else has the other half of the
//! same core, which a raw pointer's loop, waiting for its own additions, does not notice.
//!
//! What must hold: the probe touches no memory, so that a measurement does not disturb it, or it the measurement.

use std::hint::black_box;
use std::time::Instant;

use parking_lot::Mutex;

/// How much more than in calm the probe may take. On a core whose other half is busy it takes a good deal longer,
/// but windows of both kinds mix, and what loads and stores suffers more than arithmetic does.
pub const SLACK: f64 = 1.05;

/// Steps of one probe, and of the chain beside it: some microseconds.
const STEPS: u64 = 4_000;

/// What probes gave, and what they give in calm.
struct Seen {
    probes: Vec<f64>,
    calm: f64,
}

static SEEN: Mutex<Seen> = Mutex::new(Seen { probes: Vec::new(), calm: f64::INFINITY });

impl Seen {
    /// As many probes as are looked at anew at a time.
    const SOME: usize = 500;

    fn add(&mut self, probe: f64) {
        self.probes.push(probe);
        if self.probes.len().is_multiple_of(Self::SOME) {
            // Not the least: a chain that was interrupted makes the arithmetic beside it look quick. And with a
            // twentieth of all probes in calm it is still calm that this finds.
            self.calm = crate::measure::quantile(&self.probes, 0.05);
        }
    }
}

/// Eight chains that do not wait for each other, each of its own shape, so that they stay scalar.
#[inline(never)]
fn arithmetic(steps: u64) -> u64 {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = black_box([1_u64, 2, 3, 4, 5, 6, 7, 8]);
    for i in 0..steps {
        a = a.rotate_left(3).wrapping_add(i);
        b = b.rotate_left(5) ^ i;
        c = c.rotate_left(7).wrapping_sub(i);
        d = d.rotate_left(11).wrapping_add(i);
        e = e.rotate_left(13) ^ i;
        f = f.rotate_left(17).wrapping_sub(i);
        g = g.rotate_left(19).wrapping_add(i);
        h = h.rotate_left(23) ^ i;
    }
    a ^ b ^ c ^ d ^ e ^ f ^ g ^ h
}

/// Additions that wait for each other.
#[inline(never)]
fn chain(steps: u64) -> u64 {
    (0..steps).fold(black_box(1_u64), |x, i| x.rotate_left(1).wrapping_add(i))
}

/// The middle one of three times of some steps, in nanoseconds: a single interruption is not what this is about.
fn middle_of_three(what: fn(u64) -> u64) -> f64 {
    let mut ns = [0.0; 3].map(|_: f64| {
        let start = Instant::now();
        black_box(what(black_box(STEPS)));
        start.elapsed().as_nanos() as f64
    });
    ns.sort_by(f64::total_cmp);
    let [_, middle, _] = ns;
    middle
}

/// How long the arithmetic takes, in chains.
#[must_use]
pub fn probe() -> f64 {
    let probe = middle_of_three(arithmetic) / middle_of_three(chain);
    SEEN.lock().add(probe);
    probe
}

/// Runs the arithmetic of one probe; for a look at what two threads do to each other.
pub fn exercise() {
    black_box(arithmetic(black_box(STEPS)));
}

/// Whether the machine is calm now: a probe takes hardly more than in calm.
#[must_use]
pub fn is_calm() -> bool {
    let probe = probe();
    probe <= SEEN.lock().calm * SLACK
}

/// Finds out what a probe takes in calm; to be called before the first measurement.
pub fn learn() {
    for _ in 0..2 * Seen::SOME {
        let _ = probe();
    }
    for _ in 0..2 * Cache::SOME {
        let _ = is_cache_calm();
    }
}

/// Loads from random places of two thirds of a second-level cache, in the time of a chain of additions: of those who have the
/// other half of the core, some need that cache and not its units, which the probe of arithmetic does not notice.
struct Cache {
    memory: Vec<u64>,
    probes: Vec<f64>,
    calm: f64,
}

static CACHE: Mutex<Cache> =
    Mutex::new(Cache { memory: Vec::new(), probes: Vec::new(), calm: f64::INFINITY });

/// How much more than in calm these loads may take. It is either a few hundredths or more than a half.
pub const CACHE_SLACK: f64 = 1.15;

impl Cache {
    /// As many probes as are looked at anew at a time.
    const SOME: usize = 50;
    /// Cache lines of 64 bytes, and loads of one probe.
    const LINES: usize = 704 << 10 >> 6;
    const LOADS: usize = 20_000;

    fn probe(&mut self) -> f64 {
        self.memory.resize(Self::LINES * 8, 1);
        let once = |memory: &[u64]| {
            let line = |i: usize| memory.get(i * 8).copied().unwrap_or(0);
            let all = || (0..Self::LINES).fold(0_u64, |sum, i| sum.wrapping_add(line(i)));
            for _ in 0..3 {
                black_box(all());
            }
            let mut dice = crate::measure::Dice::new(black_box(1));
            let start = Instant::now();
            let sum = (0..Self::LOADS)
                .fold(0_u64, |s, _| s.wrapping_add(line(dice.below(Self::LINES as u64) as usize)));
            black_box(sum);
            let loads = start.elapsed().as_nanos() as f64;
            let start = Instant::now();
            black_box(chain(black_box(Self::LOADS as u64)));
            loads / start.elapsed().as_nanos() as f64
        };
        let mut all = [0.0; 5].map(|_: f64| once(&self.memory));
        all.sort_by(f64::total_cmp);
        let [_, _, middle, ..] = all;
        self.probes.push(middle);
        if self.probes.len().is_multiple_of(Self::SOME) {
            self.calm = crate::measure::quantile(&self.probes, 0.05);
        }
        middle
    }
}

/// Whether nobody else uses the second-level cache now. It fills that cache: what is measured must be warmed up after it.
#[must_use]
pub fn is_cache_calm() -> bool {
    let mut cache = CACHE.lock();
    let probe = cache.probe();
    probe <= cache.calm * CACHE_SLACK
}

/// Whether most of a number of probes find the machine calm.
#[must_use]
pub fn is_mostly_calm() -> bool {
    (0..20).filter(|_| is_calm()).count() > 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_is_what_the_quicker_probes_say_and_not_the_quickest() {
        let mut seen = Seen { probes: Vec::new(), calm: f64::INFINITY };
        for i in 0..Seen::SOME {
            seen.add(if i == 0 {
                0.1
            } else if i % 3 == 0 {
                1.0
            } else {
                1.5
            });
        }
        assert_eq!(seen.calm, 1.0);
    }
}
