//! How fast memory is written (`calc-dirty-rate`): a measurement of some seconds, in a thread of its own.
//!
//! What it is: the two ways to measure that need no accelerator. *Page sampling* looks at some pages, and again when the time is
//! over; it costs the machine nothing, and it sees what is written past the library too. *Dirty bitmap* counts
//! every page by the library's log ([`flatview::DirtyRateMeter`]). What it is not: a limit; nothing is slowed down.
//!
//! What must hold: one measurement at a time; none outlives its machine.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use flatview::{DIRTY_PAGE_SIZE, DirtyRateMeter, Memory, MemoryError, RamBlock};
use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};

use crate::dump::guest_phys_blocks;

/// How long a measurement may take, in seconds.
const SECONDS: std::ops::RangeInclusive<i64> = 1..=60;
/// How many pages of a GiB may be sampled.
const SAMPLES: std::ops::RangeInclusive<i64> = 128..=16384;
/// How many are, if nobody says.
const DEFAULT_SAMPLES: u64 = 512;

/// How it is measured (QMP: `DirtyRateMeasureMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DirtyRateMode {
    /// Pages chosen at random are looked at twice.
    #[default]
    PageSampling,
    /// By the dirty rings of KVM's CPUs.
    DirtyRing,
    /// All written pages are counted.
    DirtyBitmap,
}

impl DirtyRateMode {
    /// All there are.
    pub const ALL: [DirtyRateMode; 3] = [Self::PageSampling, Self::DirtyRing, Self::DirtyBitmap];

    /// QMP's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PageSampling => "page-sampling",
            Self::DirtyRing => "dirty-ring",
            Self::DirtyBitmap => "dirty-bitmap",
        }
    }
}

/// What is asked for (QMP: the arguments of `calc-dirty-rate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirtyRateSpec {
    /// Seconds.
    pub calc_time: i64,
    /// Pages of each GiB that are looked at.
    pub sample_pages: Option<i64>,
    /// How.
    pub mode: DirtyRateMode,
}

/// How far a measurement is (QMP: `DirtyRateStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DirtyRateStatus {
    /// There was none.
    #[default]
    Unstarted,
    /// It runs.
    Measuring,
    /// It is done.
    Measured,
}

impl DirtyRateStatus {
    /// QMP's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unstarted => "unstarted",
            Self::Measuring => "measuring",
            Self::Measured => "measured",
        }
    }
}

/// The last measurement (QMP: `DirtyRateInfo`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirtyRateInfo {
    /// How far it is.
    pub status: DirtyRateStatus,
    /// How it is done.
    pub mode: DirtyRateMode,
    /// Pages of each GiB that are looked at; 0 in the mode that counts all.
    pub sample_pages: u64,
    /// When it began, by the host's monotonic clock.
    pub start: Duration,
    /// Seconds it takes.
    pub calc_time: i64,
    /// MiB a second; a page that is written several times counts once. `None` until it is measured.
    pub rate: Option<u64>,
    /// Why it came to nothing.
    pub failed: Option<Arc<str>>,
}

/// Why nothing is measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirtyRateError {
    /// One at a time.
    #[error("the dirty rate is already being measured.")]
    Measuring,
    /// Too short or too long.
    #[error("calc-time is out of range[{}, {}].", SECONDS.start(), SECONDS.end())]
    CalcTime,
    /// A number of samples for a mode without samples.
    #[error("either sample-pages or dirty-ring can be specified.")]
    SamplesOfRing,
    /// Too few or too many.
    #[error("sample-pages is out of range[{}, {}].", SAMPLES.start(), SAMPLES.end())]
    SamplePages,
    /// A mode that needs KVM.
    #[error("mode {} is not enabled, use other method instead.", .0.as_str())]
    NotEnabled(DirtyRateMode),
    /// The log cannot be started.
    #[error("{0}; use mode page-sampling instead")]
    Log(#[from] MemoryError),
    /// The host has no thread left.
    #[error("Cannot start a thread to measure in: {0}")]
    Thread(io::Error),
}

/// The measurements of one machine.
#[derive(Default)]
pub(crate) struct DirtyRates(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    cancelled: Condvar,
}

#[derive(Default)]
struct State {
    info: DirtyRateInfo,
    cancelled: bool,
}

impl DirtyRates {
    pub fn info(&self) -> DirtyRateInfo {
        self.0.state.lock().info.clone()
    }

    /// The machine quits: a measurement ends without a result.
    pub fn cancel(&self) {
        self.0.state.lock().cancelled = true;
        self.0.cancelled.notify_all();
    }

    /// Begins to measure. The checks are in QEMU's order.
    pub fn start(&self, memory: &Memory, spec: &DirtyRateSpec) -> Result<(), DirtyRateError> {
        let before = {
            let mut state = self.0.state.lock();
            if state.info.status == DirtyRateStatus::Measuring {
                return Err(DirtyRateError::Measuring);
            }
            std::mem::replace(&mut state.info, check(spec)?)
        };
        let begun = self.begin(memory, spec);
        if begun.is_err() {
            self.0.state.lock().info = before;
        }
        begun
    }

    fn begin(&self, memory: &Memory, spec: &DirtyRateSpec) -> Result<(), DirtyRateError> {
        let shared = Arc::clone(&self.0);
        let time = Duration::from_secs(spec.calc_time.unsigned_abs());
        let per_gib = self.info().sample_pages;
        let memory = memory.clone();
        let measure: Box<dyn FnOnce() + Send> = match spec.mode {
            DirtyRateMode::DirtyBitmap => {
                let meter = DirtyRateMeter::start(&memory)?;
                let begin = Instant::now();
                Box::new(move || {
                    if shared.wait(time) {
                        let rate = meter.finish(begin.elapsed());
                        shared.done(rate.map(|rate| rate.mib_per_second()).map_err(|e| e.to_string()));
                    }
                })
            }
            DirtyRateMode::PageSampling | DirtyRateMode::DirtyRing => Box::new(move || {
                let samples = Samples::take(&memory, per_gib);
                let begin = Instant::now();
                if shared.wait(time) {
                    shared.done(Ok(samples.rate(begin.elapsed())));
                }
            }),
        };
        let thread = thread::Builder::new().name("dirty rate".to_owned()).spawn(measure);
        thread.map(drop).map_err(DirtyRateError::Thread)
    }
}

impl Shared {
    /// Waits; `false` if the machine quits before the time is over.
    fn wait(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.cancelled && !self.cancelled.wait_until(&mut state, deadline).timed_out() {}
        !state.cancelled
    }

    fn done(&self, rate: Result<u64, String>) {
        let info = &mut self.state.lock().info;
        match rate {
            Ok(rate) => (info.status, info.rate) = (DirtyRateStatus::Measured, Some(rate)),
            Err(text) => (info.status, info.failed) = (DirtyRateStatus::Unstarted, Some(text.into())),
        }
    }
}

/// Checks what is asked for; gives what is told while it is measured.
fn check(spec: &DirtyRateSpec) -> Result<DirtyRateInfo, DirtyRateError> {
    if !SECONDS.contains(&spec.calc_time) {
        return Err(DirtyRateError::CalcTime);
    }
    match spec.sample_pages {
        Some(_) if spec.mode == DirtyRateMode::DirtyRing => return Err(DirtyRateError::SamplesOfRing),
        Some(pages) if !SAMPLES.contains(&pages) => return Err(DirtyRateError::SamplePages),
        _ => {}
    }
    let sample_pages = match spec.mode {
        DirtyRateMode::DirtyRing => return Err(DirtyRateError::NotEnabled(spec.mode)),
        DirtyRateMode::DirtyBitmap => 0,
        DirtyRateMode::PageSampling => spec.sample_pages.map_or(DEFAULT_SAMPLES, i64::unsigned_abs),
    };
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    let start = Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos);
    let (status, mode, calc_time) = (DirtyRateStatus::Measuring, spec.mode, spec.calc_time);
    Ok(DirtyRateInfo { status, mode, sample_pages, start, calc_time, rate: None, failed: None })
}

/// Some pages of all memory, and what they held.
struct Samples(Vec<SampledBlock>);

struct SampledBlock {
    /// The block may go meanwhile; then nothing is known of it.
    memory: Weak<RamBlock>,
    size: u64,
    /// Offset and hash of each page.
    pages: Vec<(u64, u64)>,
}

/// What tells the contents of a page apart; `None` where there is no memory any more.
fn hash(memory: &RamBlock, offset: u64) -> Option<u64> {
    let mut page = [0; DIRTY_PAGE_SIZE as usize];
    let size = memory.size().checked_sub(offset).filter(|left| *left > 0)?.min(DIRTY_PAGE_SIZE);
    let bytes = page.get_mut(..usize::try_from(size).ok()?)?;
    memory.read(offset, bytes).ok()?;
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    Some(hasher.finish())
}

impl Samples {
    /// Looks at `per_gib` pages of each GiB of RAM, at one of each block at least, spread evenly and at random.
    fn take(memory: &Memory, per_gib: u64) -> Self {
        let mut sampled: Vec<SampledBlock> = Vec::new();
        // A space that is gone shows nothing.
        let blocks = memory.memory_space().view().map(|view| guest_phys_blocks(&view)).unwrap_or_default();
        for block in blocks.into_iter().map(|block| block.memory) {
            if sampled.iter().any(|known| known.memory.ptr_eq(&Arc::downgrade(&block))) {
                continue;
            }
            let (size, pages) = (block.size(), block.size().div_ceil(DIRTY_PAGE_SIZE));
            let wanted = (u128::from(size) * u128::from(per_gib)).div_ceil(1 << 30);
            let wanted = u64::try_from(wanted).unwrap_or(pages).min(pages);
            let page = |n: u64| {
                let part = |n: u64| (u128::from(pages) * u128::from(n) / u128::from(wanted)) as u64;
                fastrand::u64(part(n)..part(n + 1)) * DIRTY_PAGE_SIZE
            };
            let look = |offset| Some((offset, hash(&block, offset)?));
            let pages = (0..wanted).map(page).filter_map(look).collect();
            sampled.push(SampledBlock { memory: Arc::downgrade(&block), size, pages });
        }
        Self(sampled)
    }

    /// MiB a second, if in the blocks as many pages were written as of those that were looked at.
    fn rate(&self, period: Duration) -> u64 {
        let mut bytes: u128 = 0;
        for block in &self.0 {
            let Some(memory) = block.memory.upgrade() else { continue };
            let dirty = block.pages.iter().filter(|(offset, before)| hash(&memory, *offset) != Some(*before));
            let dirty = u128::from(block.size) * dirty.count() as u128;
            bytes += dirty.checked_div(block.pages.len() as u128).unwrap_or(0);
        }
        let per_second = (bytes * 1_000_000_000).checked_div(period.as_nanos()).unwrap_or(0);
        u64::try_from(per_second >> 20).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview::{Endianness, Region};

    fn spec(calc_time: i64, sample_pages: Option<i64>, mode: DirtyRateMode) -> DirtyRateSpec {
        DirtyRateSpec { calc_time, sample_pages, mode }
    }

    fn memory(sizes: &[u64]) -> (Memory, Vec<Arc<RamBlock>>) {
        let memory = Memory::new(Endianness::Big);
        let blocks: Vec<_> = sizes.iter().map(|size| RamBlock::anonymous("ram", *size).unwrap()).collect();
        for (n, block) in (0_u64..).zip(&blocks) {
            let ram = memory.add(Region::ram("ram", Arc::clone(block))).unwrap();
            memory.map(memory.system(), n << 32, ram).unwrap();
        }
        (memory, blocks)
    }

    #[test]
    fn what_is_asked_for_is_checked_in_the_order_and_words_of_qemu() {
        use DirtyRateMode::{DirtyBitmap, DirtyRing, PageSampling};
        let says = |seconds, samples, mode| check(&spec(seconds, samples, mode)).unwrap_err().to_string();
        for seconds in [-1, 0, 61, i64::MAX] {
            assert_eq!(says(seconds, Some(5), DirtyRing), "calc-time is out of range[1, 60].");
        }
        let both = "either sample-pages or dirty-ring can be specified.";
        assert_eq!(says(1, Some(5), DirtyRing), both);
        for (samples, mode) in [(127, PageSampling), (16385, PageSampling), (-1, DirtyBitmap)] {
            assert_eq!(says(1, Some(samples), mode), "sample-pages is out of range[128, 16384].");
        }
        assert_eq!(says(1, None, DirtyRing), "mode dirty-ring is not enabled, use other method instead.");
        assert_eq!(check(&spec(60, Some(128), PageSampling)).unwrap().sample_pages, 128);
        assert_eq!(check(&spec(1, None, PageSampling)).unwrap().sample_pages, 512);
        assert_eq!(check(&spec(1, Some(512), DirtyBitmap)).unwrap().sample_pages, 0);
    }

    #[test]
    fn samples_tell_how_much_of_each_block_was_written() {
        let (memory, blocks) = memory(&[32 << 20, 32 << 20, 5000]);
        let samples = Samples::take(&memory, 16384);
        assert_eq!(samples.0.iter().map(|b| b.pages.len()).collect::<Vec<_>>(), [512, 512, 1]);
        assert_eq!(samples.rate(Duration::from_secs(1)), 0);
        blocks[0].write(0, &vec![1; 32 << 20]).unwrap();
        blocks[1].write(8 << 20, &vec![1; 16 << 20]).unwrap();
        assert_eq!(samples.rate(Duration::from_secs(1)), 48);
        assert_eq!(samples.rate(Duration::from_millis(500)), 96);
        assert_eq!(samples.rate(Duration::ZERO), 0);
    }

    #[test]
    fn a_block_that_is_seen_twice_is_sampled_once_and_one_that_goes_says_nothing() {
        let (memory, mut blocks) = memory(&[1 << 20]);
        let region =
            memory.regions().into_iter().find(|id| memory.region(*id).unwrap().ram.is_some()).unwrap();
        let alias = memory.add(Region::alias("again", region, 0, 1 << 20)).unwrap();
        memory.map(memory.system(), 8 << 20, alias).unwrap();
        let samples = Samples::take(&memory, 16384);
        assert_eq!(samples.0.len(), 1);
        blocks[0].write(0, &vec![1; 1 << 20]).unwrap();
        drop((blocks.pop(), memory));
        assert_eq!(samples.rate(Duration::from_secs(1)), 0);
    }

    #[test]
    fn a_measurement_counts_what_is_written_meanwhile_and_nothing_else() {
        let (memory, blocks) = memory(&[32 << 20]);
        blocks[0].write(0, &vec![7; 32 << 20]).unwrap();
        for mode in [DirtyRateMode::DirtyBitmap, DirtyRateMode::PageSampling] {
            let rates = DirtyRates::default();
            assert_eq!(rates.info(), DirtyRateInfo::default());
            rates.start(&memory, &spec(1, None, mode)).unwrap();
            let again = rates.start(&memory, &spec(0, None, mode)).unwrap_err();
            assert_eq!(again.to_string(), "the dirty rate is already being measured.");
            let info = rates.info();
            assert_eq!((info.status, info.rate, info.calc_time), (DirtyRateStatus::Measuring, None, 1));
            // Samples are taken in the thread, soon after it began.
            thread::sleep(Duration::from_millis(300));
            blocks[0].write(0, &vec![mode as u8; 16 << 20]).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while rates.info().status == DirtyRateStatus::Measuring && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            let info = rates.info();
            assert_eq!((info.status, info.mode), (DirtyRateStatus::Measured, mode));
            // It takes a second and a little more.
            let rate = info.rate.unwrap();
            assert!((1..=16).contains(&rate), "{mode:?}: {rate}");
        }
    }

    #[test]
    fn a_machine_that_quits_does_not_wait_for_a_measurement() {
        let (memory, _blocks) = memory(&[1 << 20]);
        let rates = DirtyRates::default();
        rates.start(&memory, &spec(60, None, DirtyRateMode::DirtyBitmap)).unwrap();
        rates.cancel();
        // The thread goes, and with it the client that the log was for.
        let deadline = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(&rates.0) > 1 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(Arc::strong_count(&rates.0), 1);
        assert_eq!(rates.info().rate, None);
    }
}
