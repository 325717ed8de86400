//! Timing: contenders in short batches, in turn.
//!
//! What it is: [`race`] and what comes out of it. What it is not: knowledge of what is measured.
//!
//! What must hold: in each round every contender runs one batch, the first one being another each time, so that all meet the same
//! weather; rounds take turns at places in memory, and a [`ratio`] counts each place once, by its quieter rounds. Batches are short
//! against the scheduler's slices; a round counts only if [`calm`](crate::calm) before and after it, as long as there are enough such
//! rounds, and if there are not, the race says so.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::calm::{is_cache_calm, is_calm};

/// One of those who are compared: runs a number of operations and gives their results, added up.
///
/// The second argument is a seed: the same seed makes the same accesses, whoever makes them.
pub struct Contender<'a> {
    /// How it is called in the report.
    pub name: &'static str,
    /// Operations, seed; gives the checksum.
    pub batch: Box<dyn FnMut(u64, u64) -> u64 + 'a>,
    /// Whether its checksum must be that of the others that say so.
    pub agrees: bool,
}

impl std::fmt::Debug for Contender<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contender({})", self.name)
    }
}

impl<'a> Contender<'a> {
    /// One whose checksum must be that of the others.
    pub fn new(name: &'static str, batch: impl FnMut(u64, u64) -> u64 + 'a) -> Self {
        Self { name, batch: Box::new(batch), agrees: true }
    }

    /// One that does something else than the others, such as the raw pointer beside a device.
    pub fn apart(name: &'static str, batch: impl FnMut(u64, u64) -> u64 + 'a) -> Self {
        Self { agrees: false, ..Self::new(name, batch) }
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Length of a batch.
    pub batch: Duration,
    /// Rounds, of one batch of each contender.
    pub rounds: usize,
    /// Batches before each that do not count, and in which the caches are filled again.
    pub warm: usize,
}

impl Plan {
    /// For what takes nanoseconds.
    pub const QUICK: Self = Self { batch: Duration::from_micros(150), rounds: 41, warm: 0 };
    /// For what takes micro- to milliseconds.
    pub const LONG: Self = Self { batch: Duration::from_micros(500), rounds: 41, warm: 0 };
    /// For accesses all over memory: the host's page tables for it fill a part of the second-level cache.
    pub const WIDE: Self = Self { batch: Duration::from_micros(500), rounds: 41, warm: 1 };
    /// For what has a large working set, which the others push out of the caches: they do not count while it is
    /// fetched again.
    pub const WARM: Self = Self { batch: Duration::from_micros(300), rounds: 17, warm: 11 };
}

/// What was measured of one contender: nanoseconds for each operation, by round.
#[derive(Debug, Clone)]
pub struct Track {
    /// The contender.
    pub name: &'static str,
    /// By round.
    pub ns: Vec<f64>,
    /// By round too: a number of the place in memory at which it ran.
    pub places: Vec<usize>,
}

impl Track {
    /// The median, in nanoseconds.
    #[must_use]
    pub fn median(&self) -> f64 {
        quantile(&self.ns, 0.5)
    }

    /// The mean of all places, each with the lower quartile of its rounds: others make rounds longer and not shorter, and where things
    /// are in memory makes some places slower for one and some for another.
    #[must_use]
    pub fn undisturbed(&self) -> f64 {
        let mut by_place: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (place, ns) in self.places.iter().zip(&self.ns) {
            by_place.entry(*place).or_default().push(*ns);
        }
        by_place.values().map(|ns| quantile(ns, 0.25)).sum::<f64>() / by_place.len() as f64
    }

    /// The distance of the quartiles, as a part of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (quantile(&self.ns, 0.75) - quantile(&self.ns, 0.25)) / self.median()
    }
}

/// The ratio of two tracks of one race, by what each takes undisturbed.
#[must_use]
pub fn ratio(ours: &Track, base: &Track) -> f64 {
    ours.undisturbed() / base.undisturbed()
}

/// The median of the rounds' ratios of two tracks, whose values are not times: nobody knows which of them are the quieter ones.
#[must_use]
pub fn median_of_ratios(ours: &[f64], base: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(base).map(|(a, b)| a / b).collect();
    quantile(&ratios, 0.5)
}

/// The value below which a part of the values lies; between two values, in proportion. NaN of none.
#[must_use]
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = part * (sorted.len().saturating_sub(1)) as f64;
    let low = sorted.get(at.floor() as usize).copied().unwrap_or(f64::NAN);
    let high = sorted.get(at.ceil() as usize).copied().unwrap_or(f64::NAN);
    low + (high - low) * at.fract()
}

/// Nanoseconds for each of `ops` operations of one batch.
pub fn timed(ops: u64, seed: u64, batch: &mut (impl FnMut(u64, u64) -> u64 + ?Sized)) -> f64 {
    let start = Instant::now();
    black_box(batch(black_box(ops), black_box(seed)));
    start.elapsed().as_nanos() as f64 / ops as f64
}

/// How many operations fill a batch of that length; also warms up.
pub fn calibrated(length: Duration, batch: &mut (impl FnMut(u64, u64) -> u64 + ?Sized)) -> u64 {
    let length = length.as_nanos() as f64;
    let mut ops = 1;
    loop {
        // The best of three: an interruption must not make the batch too short.
        let ns = (0..3).map(|seed| timed(ops, seed, batch)).fold(f64::INFINITY, f64::min);
        if ns * ops as f64 > length / 4.0 || ops > 1 << 40 {
            return ((length / ns) as u64).max(1);
        }
        ops *= 4;
    }
}

/// How many operations fill a batch of a plan. Where batches run before that do not count, it is found out after so many: as long as
/// its working set is still to be fetched an operation takes several times as long, and by that measure batches would be so short that
/// all of them together would not fetch it.
fn operations(plan: Plan, batch: &mut (impl FnMut(u64, u64) -> u64 + ?Sized)) -> u64 {
    let cold = calibrated(plan.batch, batch);
    if plan.warm == 0 {
        return cold;
    }
    let (start, enough) = (Instant::now(), plan.batch * plan.warm as u32);
    for number in 0.. {
        black_box(batch(cold, seed(number, usize::MAX)));
        if start.elapsed() > enough {
            break;
        }
    }
    calibrated(plan.batch, batch)
}

/// A seed that no other batch has, and whose stream does not run into another's.
pub(crate) fn seed(round: usize, contender: usize) -> u64 {
    // The last steps of splitmix64: neighbours in, strangers out. Were the seeds at the distance that `Dice` steps
    // by, every round would go to the places of the round before, and find them in the caches.
    let mut x = ((round as u64) << 16) ^ contender as u64 ^ 0x5851_f42d_4c95_7f2d;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What came out of a race.
#[derive(Debug, Clone)]
pub struct Race {
    /// One track for each contender.
    pub tracks: Vec<Track>,
    /// Whether enough rounds were undisturbed; if not, the tracks have the disturbed ones too.
    pub calm: bool,
}

/// For each round wanted, so many may be run to get it undisturbed, while there is time.
const PATIENCE: usize = 3;

/// After so long the rounds that are wanted must do: the whole program is to take less than 90 seconds.
const HURRY: Duration = Duration::from_secs(50);

/// Whether the program has run for long.
fn in_a_hurry() -> bool {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed() > HURRY
}

/// Runs `round` until enough rounds were undisturbed; each gives a value for each of `names`, and whether it
/// was undisturbed as far as it can tell. Rounds are at so many places in turn.
pub(crate) fn collect(
    names: &[&'static str],
    rounds: usize,
    places: usize,
    mut round: impl FnMut(usize) -> (Vec<f64>, bool),
) -> Race {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    // Starts the clock in the first race.
    in_a_hurry();
    for number in 0..rounds * PATIENCE {
        if good.len() == rounds || (number >= rounds && in_a_hurry()) {
            break;
        }
        let before = is_calm();
        let (row, undisturbed) = round(number);
        let row = (number % places, row);
        if before && undisturbed && is_calm() { good.push(row) } else { bad.push(row) }
    }
    let calm = good.len() * 2 >= rounds;
    if !calm {
        good.append(&mut bad);
    }
    let track = |(i, name): (usize, &&'static str)| {
        let column = good.iter().filter_map(|(place, row)| Some((*place, row.get(i).copied()?)));
        let (places, ns) = column.unzip();
        Track { name, ns, places }
    };
    Race { tracks: names.iter().enumerate().map(track).collect(), calm }
}

/// The depths of the stack at which rounds are run in turn, which together are a page apart.
const DEPTHS: usize = 8;

/// Runs something so many eighths of a page deeper in the stack: what a loop keeps there stands at another place of its page then, and
/// where that is decides up to a sixth of a copy of a page. A load from the place in its page that something was just written to in
/// another waits until the processor knows that they are not the same; and where the stack begins is another in each run.
#[inline(never)]
fn at_depth(depth: usize, run: &mut dyn FnMut()) {
    if depth == 0 {
        return run();
    }
    let room = black_box([0_u8; 4096 / DEPTHS - 64]);
    at_depth(depth - 1, run);
    black_box(&room);
}

/// Runs the contenders in turn.
pub fn race(contenders: &mut [Contender<'_>], plan: Plan) -> Race {
    let ops: Vec<u64> = contenders.iter_mut().map(|c| operations(plan, &mut *c.batch)).collect();
    let names: Vec<&'static str> = contenders.iter().map(|c| c.name).collect();
    let count = contenders.len();
    // A place is to have several rounds; of fewer the quieter ones count wherever they were.
    let places = if plan.rounds < 4 * DEPTHS { 1 } else { DEPTHS };
    collect(&names, plan.rounds, places, |round| {
        let mut row = vec![f64::NAN; count];
        // Of what fills the second-level cache.
        let cache_counts = plan.warm > 0;
        let mut undisturbed = !cache_counts || is_cache_calm();
        for turn in 0..count {
            let at = (round + turn) % count;
            if let Some(((c, ops), ns)) = contenders.get_mut(at).zip(ops.get(at)).zip(row.get_mut(at)) {
                at_depth(round % DEPTHS, &mut || {
                    for warm in 1..=plan.warm {
                        black_box((c.batch)(*ops, seed(round, at + (warm << 8))));
                    }
                    *ns = timed(*ops, seed(round, at), &mut *c.batch);
                });
            }
        }
        undisturbed &= !cache_counts || is_cache_calm();
        (row, undisturbed)
    })
}

/// Puts what follows so many bytes after the beginning of a cache line, give or take what the compiler puts in between. Where the
/// linker happens to put a loop of few instructions decides up to a factor of two: in some places the processor takes one jump in each
/// cycle, in others two or three.
#[macro_export]
macro_rules! place {
    ($bytes:expr) => {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: instructions that do nothing.
        unsafe {
            std::arch::asm!(
                ".p2align 6",
                ".skip {bytes}, 0x90",
                bytes = const $bytes,
                options(nomem, nostack, preserves_flags)
            );
        }
    };
}

/// Runs a loop at each of four places in a cache line, about a quarter of the operations at each, and all but the last a multiple of
/// eight.
#[macro_export]
macro_rules! at_four_places {
    ($ops:expr, $run:ident, $($argument:expr),*) => {{
        let quarter = $ops / 32 * 8;
        $run::<0>($($argument,)* quarter)
            .wrapping_add($run::<16>($($argument,)* quarter))
            .wrapping_add($run::<32>($($argument,)* quarter))
            .wrapping_add($run::<48>($($argument,)* $ops - 3 * quarter))
    }};
}

/// A stream of numbers that neither the compiler nor the processor foresees, at the cost of a few instructions that
/// do not wait for each other.
#[derive(Debug, Clone, Copy)]
pub struct Dice(u64);

impl Dice {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, which is below 2^32.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((mixed >> 32) * limit) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&values, 0.5), 3.0);
        assert_eq!(quantile(&values, 0.25), 2.0);
        assert_eq!(quantile(&values, 0.999), 4.996);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_ratio_does_not_see_rounds_that_were_disturbed_on_either_side() {
        let track = |ns: [f64; 5]| Track { name: "", ns: ns.to_vec(), places: vec![0; 5] };
        assert_eq!(ratio(&track([2.0, 20.0, 2.0, 200.0, 2.0]), &track([1.0, 10.0, 1.0, 1.0, 100.0])), 2.0);
    }

    #[test]
    fn a_ratio_counts_every_place_once() {
        // At one place of two one of them takes half as long; there were more rounds at the other.
        let track = |ns: [f64; 5]| Track { name: "", ns: ns.to_vec(), places: vec![0, 1, 0, 0, 0] };
        assert_eq!(ratio(&track([2.0; 5]), &track([2.0, 1.0, 2.0, 2.0, 2.0])), 4.0 / 3.0);
    }

    #[test]
    fn batches_are_as_long_as_they_are_once_their_working_set_is_there() {
        fn steps(count: u64) -> u64 {
            (0..count).fold(0, |a, b| black_box(a ^ b))
        }
        let plan = Plan { batch: Duration::from_micros(100), rounds: 1, warm: 5 };
        // For a while operations take a hundred times as long.
        let start = Instant::now();
        let mut warms_up =
            |ops: u64, _| steps(if start.elapsed() < plan.batch * 4 { ops * 100 } else { ops });
        let ops = operations(plan, &mut warms_up);
        let cold = calibrated(plan.batch, &mut |ops: u64, _| steps(ops * 100));
        assert!(ops > 10 * cold, "{ops} operations, {cold} where all is cold");
        assert!(calibrated(plan.batch, &mut |ops: u64, _| steps(ops)) < 10 * ops);
    }

    #[test]
    fn every_contender_runs_once_in_each_round() {
        let plan = Plan { batch: Duration::from_micros(5), rounds: 7, warm: 1 };
        let spin = |ops: u64, seed: u64| (0..ops).fold(seed, |a, b| black_box(a ^ b));
        let Race { tracks, .. } = race(&mut [Contender::new("one", spin), Contender::new("two", spin)], plan);
        let (one, two) = (&tracks[0], &tracks[1]);
        assert!(one.ns.len() >= 4 && one.ns.len() == two.ns.len());
        assert!(one.ns.iter().chain(&two.ns).all(|ns| *ns > 0.0));
    }

    #[test]
    fn no_round_goes_where_another_went() {
        let throws = |round, who| {
            let mut dice = Dice::new(seed(round, who));
            (0..1000).map(|_| dice.below(1 << 32)).collect::<std::collections::HashSet<_>>()
        };
        let first = throws(0, 0);
        for (round, who) in [(1, 0), (2, 0), (0, 1), (40, 5)] {
            assert!(throws(round, who).intersection(&first).count() < 5);
        }
    }

    #[test]
    fn dice_reach_everything_below_the_limit_and_nothing_else() {
        let mut dice = Dice::new(1);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[dice.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
