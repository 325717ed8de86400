//! Time that goes with instructions (`-icount`): how far a CPU may run, what happens while it waits, and how the machine's
//! time is kept near the host's where that is wished.
//!
//! It is called by the CPU's thread, which also runs the timers. What must always hold: a timer runs before the first
//! instruction that begins at its deadline or later; with a fixed shift nothing here depends on how quick the host is,
//! but for how long it takes.

use std::time::{Duration, Instant};

use flatview_cpu::Inputs;
use flatview_device::{Clock, Executed};
use parking_lot::Mutex;

use crate::{IcountConfig, IcountShift};

/// The shift with which `auto` begins: 125 million instructions a second.
pub(crate) const FIRST_SHIFT: u32 = 3;
/// How long `auto` measures, in nanoseconds.
const MEASURE: i64 = 50_000_000;
/// How far the machine's time may be from the host's, in nanoseconds.
const NEAR: i64 = 3_000_000;

/// The pace of a CPU.
#[derive(Debug)]
pub(crate) struct Pace {
    config: IcountConfig,
    clock: Clock,
    executed: Executed,
    /// Where the last measurement ended: the host's time, and instructions.
    measured: Mutex<(i64, u64)>,
}

impl Pace {
    /// For the CPU that a counted clock goes by.
    pub fn new(config: IcountConfig, clock: &Clock) -> Self {
        let executed = clock.executed().unwrap_or_default();
        Self { config, clock: clock.clone(), executed, measured: Mutex::default() }
    }

    /// Runs what is due; gives how many instructions there may be before the next timer, at most `most`.
    pub fn budget(&self, most: u64) -> u64 {
        self.clock.run_due();
        // One that is armed for the past waits for an instruction: it must not hold the CPU for ever.
        self.clock.instructions_to_next().map_or(most, |next| next.clamp(1, most))
    }

    /// The CPU waits for an interrupt: time goes on to the next timer, at once or as the host's does.
    pub fn wait(&self, inputs: &Inputs) {
        let left = self.clock.nanoseconds_to_deadline();
        match left {
            Some(left) if !self.config.sleep => self.clock.pass(left),
            // Without a timer something from outside must come, and until then no time passes.
            None if !self.config.sleep => drop(inputs.wait(None)),
            _ => {
                let began = Instant::now();
                let disturbed = inputs.wait(left.map(Duration::from_nanos));
                let slept = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.clock.pass(match left {
                    // Slept through: exactly to the timer, however late the host woke.
                    Some(left) if !disturbed => left,
                    _ => slept,
                });
            }
        }
    }

    /// After a slice: keeps the machine's time near the host's.
    pub fn keep(&self, inputs: &Inputs) {
        if self.config.shift == IcountShift::Auto {
            self.adjust();
        }
        if self.config.align {
            let ahead = self.clock.now().saturating_sub(self.clock.host_passed());
            if ahead > NEAR {
                inputs.wait(u64::try_from(ahead).ok().map(Duration::from_nanos));
            }
        }
    }

    /// Chooses the shift by the speed of the last instructions, and so that a difference to the host's time becomes less.
    fn adjust(&self) {
        let (host, done) = (self.clock.host_passed(), self.executed.get());
        let mut measured = self.measured.lock();
        let (nanoseconds, instructions) = (host - measured.0, done.saturating_sub(measured.1));
        if nanoseconds < MEASURE || instructions == 0 {
            return;
        }
        *measured = (host, done);
        let ahead = self.clock.now().saturating_sub(host);
        let shift = shift_for(u64::try_from(nanoseconds).unwrap_or(1), instructions, ahead);
        if shift != self.clock.shift() {
            self.clock.set_shift(shift);
        }
    }
}

/// The shift with which instructions take as long as they took, or less if time is ahead, or more if it is behind.
fn shift_for(nanoseconds: u64, instructions: u64, ahead: i64) -> u32 {
    let each = nanoseconds / instructions.max(1);
    let below = each.checked_ilog2().unwrap_or(0);
    let shift = if ahead > 0 { below } else { below + 1 };
    shift.min(Clock::MAX_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(config: IcountConfig) -> (Pace, Clock) {
        let clock = Clock::counted(3);
        (Pace::new(config, &clock), clock)
    }

    const FIXED: IcountConfig = IcountConfig { shift: IcountShift::Fixed(3), sleep: false, align: false };

    #[test]
    fn the_budget_ends_at_the_next_timer_and_is_never_nothing() {
        let (pace, clock) = pace(FIXED);
        assert_eq!(pace.budget(1000), 1000);
        let timer = clock.timer(|| ());
        timer.arm(81);
        assert_eq!(pace.budget(1000), 11);
        timer.arm(1 << 40);
        assert_eq!(pace.budget(1000), 1000);
        let slot: std::sync::Arc<Mutex<Option<flatview_device::Timer>>> = Default::default();
        let (again, at) = (slot.clone(), clock.clone());
        *slot.lock() = Some(clock.timer(move || {
            if let Some(timer) = again.lock().as_ref() {
                timer.arm(at.now());
            }
        }));
        slot.lock().as_ref().unwrap().arm(0);
        assert_eq!(pace.budget(1000), 1);
        let timer = slot.lock().take();
        drop(timer);
    }

    #[test]
    fn a_cpu_that_waits_leaps_or_sleeps_to_the_timer() {
        let inputs = Inputs::default();
        for sleep in [false, true] {
            let (pace, clock) = pace(IcountConfig { sleep, ..FIXED });
            let timer = clock.timer(|| ());
            timer.arm(20_000_000);
            let began = Instant::now();
            pace.wait(&inputs);
            assert_eq!(clock.now(), 20_000_000);
            assert_eq!(began.elapsed() >= Duration::from_millis(20), sleep);
        }
        // Something comes before: no more time has passed than the host's.
        let (pace, clock) = pace(IcountConfig { sleep: true, ..FIXED });
        let timer = clock.timer(|| ());
        timer.arm(i64::MAX);
        inputs.attend();
        pace.wait(&inputs);
        assert!(clock.now() < 1_000_000_000);
    }

    #[test]
    fn a_machine_that_is_ahead_sleeps() {
        let (pace, clock) = pace(IcountConfig { align: true, ..FIXED });
        let inputs = Inputs::default();
        clock.executed().unwrap().set(2_500_000);
        let began = Instant::now();
        pace.keep(&inputs);
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!(clock.now(), 20_000_000);
    }

    #[test]
    fn the_shift_follows_the_speed() {
        // 100 million a second, ahead and behind; one that is too slow; one that is too quick.
        for (nanoseconds, instructions, ahead, shift) in [
            (50_000_000, 5_000_000, 1, 3),
            (50_000_000, 5_000_000, -1, 4),
            (1 << 40, 1, -1, 10),
            (1, 100, 1, 0),
        ] {
            assert_eq!(shift_for(nanoseconds, instructions, ahead), shift);
        }
    }
}
