//! Whether the machine leaves us alone.
//!
//! What it is: a probe of pure arithmetic that keeps every unit of a processor busy for some microseconds. Run by
//! itself it always takes the same time; it takes longer if something else has the processor, or has the other half
//! of the same core, which a raw pointer's loop, waiting for its own additions, does not notice.
//!
//! What must hold: the probe touches no memory, so that a measurement does not disturb it.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// How much longer than at best the probe may take. On a core whose other half is busy it takes a good deal longer,
/// but windows of both kinds mix, and what loads and stores suffers more than arithmetic does.
pub const SLACK: f64 = 1.05;

/// Steps of one probe: some 5 µs.
const STEPS: u64 = 4_000;

/// The least nanoseconds a probe took so far, as bits.
static BEST: AtomicU64 = AtomicU64::new(u64::MAX);

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

/// The middle one of three probes, in nanoseconds: a single interruption is not what this is about.
#[must_use]
pub fn probe() -> f64 {
    let mut ns = [0.0; 3].map(|_: f64| {
        let start = Instant::now();
        black_box(arithmetic(black_box(STEPS)));
        start.elapsed().as_nanos() as f64
    });
    ns.sort_by(f64::total_cmp);
    let [_, middle, _] = ns;
    // Of positive numbers the bits have the numbers' order.
    BEST.fetch_min(middle.to_bits(), Relaxed);
    middle
}

/// Whether the machine is calm now: a probe takes hardly longer than at best.
#[must_use]
pub fn is_calm() -> bool {
    probe() <= f64::from_bits(BEST.load(Relaxed)) * SLACK
}

/// Finds out what a probe takes at best; to be called before the first measurement.
pub fn learn() {
    for _ in 0..2_000 {
        let _ = probe();
    }
}

/// Whether most of a number of probes find the machine calm.
#[must_use]
pub fn is_mostly_calm() -> bool {
    (0..20).filter(|_| is_calm()).count() > 10
}
