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
