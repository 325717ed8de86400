//! Virtual time and timers.
//!
//! A [`Clock`] counts nanoseconds of machine time: either along with the host's monotonic clock, standing still while
//! the machine is stopped, or only when it is stepped (qtest's `clock_step` and `clock_set`; then a whole run is
//! deterministic), or with the instructions that the CPU does (`-icount`: deterministic too). It is not the wall clock of a real-time-clock chip, which is the host's date plus an offset. What
//! must always hold: time never runs backwards, timers run in the order of their deadlines (ties: the one armed
//! first), each sees a clock that has reached its deadline, and none runs under a lock of ours.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

type Callback = Arc<dyn Fn() + Send + Sync>;

/// Nanoseconds in a second.
pub const NANOSECONDS: i64 = 1_000_000_000;

/// A clock command that the clock cannot carry out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// Stepping a clock that runs by itself.
    #[error("The clock runs by itself; only a stepped clock (-qtest) can be stepped or set")]
    NotStepped,
    /// A step or time below zero.
    #[error("{0} ns is negative; clocks only run forwards")]
    Negative(i64),
}

/// How many instructions were done, as a [counted](Clock::counted) clock sees it. Cloning shares it. The CPU keeps it right
/// wherever a device or an instruction may ask for the time.
#[derive(Debug, Clone, Default)]
pub struct Executed(Arc<AtomicU64>);

impl Executed {
    /// Sets it; it never becomes less.
    #[inline]
    pub fn set(&self, instructions: u64) {
        self.0.store(instructions, Ordering::Relaxed);
    }

    /// What it is.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Virtual time in nanoseconds since the machine was made. Cloning shares the clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

/// What a clock goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Realtime,
    Stepped,
    Counted,
}

struct Inner {
    kind: Kind,
    /// What a counted clock goes by.
    executed: Executed,
    state: Mutex<State>,
}

struct State {
    /// Time that has passed up to `since`, or up to now when the clock stands; of a counted clock, up to `counted`.
    passed: i64,
    /// When the clock was started, if it runs.
    since: Option<Instant>,
    /// A counted clock: nanoseconds of the host's time for which it ran, up to `since`.
    host_passed: i64,
    /// The number of instructions up to which `passed` counts.
    counted: u64,
    /// An instruction takes two to the power of this many nanoseconds.
    shift: u32,
    armed: Vec<Armed>,
    sequence: u64,
    next_timer: u64,
    waker: Option<Callback>,
}

#[derive(Clone)]
struct Armed {
    deadline: i64,
    sequence: u64,
    timer: u64,
    callback: Callback,
}

impl Inner {
    fn now(&self, state: &State) -> i64 {
        match self.kind {
            Kind::Stepped => state.passed,
            Kind::Realtime => state.passed.saturating_add(state.running()),
            Kind::Counted => {
                let done = u128::from(self.executed.get().saturating_sub(state.counted)) << state.shift;
                state.passed.saturating_add(i64::try_from(done).unwrap_or(i64::MAX))
            }
        }
    }
}

impl State {
    /// For how long it has been running, in the host's time.
    fn running(&self) -> i64 {
        self.since.map_or(0, |since| i64::try_from(since.elapsed().as_nanos()).unwrap_or(i64::MAX))
    }

    fn first(&self) -> Option<&Armed> {
        self.armed.iter().min_by_key(|armed| (armed.deadline, armed.sequence))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("kind", &self.0.kind).field("now", &self.now()).finish()
    }
}

impl Clock {
    fn with(kind: Kind, shift: u32) -> Clock {
        let state = State {
            passed: 0,
            since: None,
            host_passed: 0,
            counted: 0,
            shift: shift.min(Clock::MAX_SHIFT),
            armed: Vec::new(),
            sequence: 0,
            next_timer: 0,
            waker: None,
        };
        Clock(Arc::new(Inner { kind, executed: Executed::default(), state: Mutex::new(state) }))
    }

    /// The greatest shift of a counted clock.
    pub const MAX_SHIFT: u32 = 10;

    /// A clock that runs with the host's monotonic clock once it is started.
    pub fn realtime() -> Clock {
        Clock::with(Kind::Realtime, 0)
    }

    /// A clock that moves only when stepped or set.
    pub fn stepped() -> Clock {
        Clock::with(Kind::Stepped, 0)
    }

    /// A clock that moves with instructions, each of which takes 2<sup>`shift`</sup> ns (a shift of at most
    /// [`MAX_SHIFT`](Self::MAX_SHIFT)), and by [`pass`](Self::pass). QEMU: `-icount`.
    pub fn counted(shift: u32) -> Clock {
        Clock::with(Kind::Counted, shift)
    }

    /// Whether this is a stepped clock.
    pub fn is_stepped(&self) -> bool {
        self.0.kind == Kind::Stepped
    }

    /// Whether this is a counted clock.
    pub fn is_counted(&self) -> bool {
        self.0.kind == Kind::Counted
    }

    /// What a counted clock goes by.
    pub fn executed(&self) -> Option<Executed> {
        self.is_counted().then(|| self.0.executed.clone())
    }

    /// The shift of a counted clock.
    pub fn shift(&self) -> u32 {
        self.0.state.lock().shift
    }

    /// Changes the shift of a counted clock from now on.
    pub fn set_shift(&self, shift: u32) {
        let mut state = self.0.state.lock();
        state.passed = self.0.now(&state);
        state.counted = self.0.executed.get();
        state.shift = shift.min(Clock::MAX_SHIFT);
    }

    /// How many instructions there may be until the next deadline of a counted clock, which is reached by then: none if it
    /// is now.
    pub fn instructions_to_next(&self) -> Option<u64> {
        let state = self.0.state.lock();
        let left = state.first()?.deadline.saturating_sub(self.0.now(&state));
        Some(u64::try_from(left).unwrap_or(0).div_ceil(1 << state.shift))
    }

    /// Nanoseconds until the next deadline, whether the clock runs or not.
    pub fn nanoseconds_to_deadline(&self) -> Option<u64> {
        let state = self.0.state.lock();
        let left = state.first()?.deadline.saturating_sub(self.0.now(&state));
        Some(u64::try_from(left).unwrap_or(0))
    }

    /// Moves a counted clock by `ns` without an instruction, but not past a deadline: the CPU waits.
    pub fn pass(&self, ns: u64) {
        if self.is_counted() {
            let mut state = self.0.state.lock();
            let now = self.0.now(&state);
            let target = now.saturating_add(i64::try_from(ns).unwrap_or(i64::MAX));
            let first = state.first().map_or(i64::MAX, |armed| armed.deadline.max(now));
            let by = target.min(first).saturating_sub(now);
            state.passed = state.passed.saturating_add(by);
        }
    }

    /// Nanoseconds of the host's time for which a counted clock ran: that the machine was not stopped.
    pub fn host_passed(&self) -> i64 {
        let state = self.0.state.lock();
        state.host_passed.saturating_add(state.running())
    }

    /// The time now, in nanoseconds.
    pub fn now(&self) -> i64 {
        self.0.now(&self.0.state.lock())
    }

    /// Lets a real-time clock run (the machine continues). A stepped clock does not care.
    pub fn start(&self) {
        let mut state = self.0.state.lock();
        if !self.is_stepped() && state.since.is_none() {
            state.since = Some(Instant::now());
        }
        drop(state);
        self.wake();
    }

    /// Makes a real-time clock stand (the machine stops).
    pub fn stop(&self) {
        let mut state = self.0.state.lock();
        match self.0.kind {
            Kind::Stepped => {}
            Kind::Realtime => state.passed = self.0.now(&state),
            Kind::Counted => state.host_passed = state.host_passed.saturating_add(state.running()),
        }
        state.since = None;
    }

    /// Advances a stepped clock by `ns`, or to the next deadline if none is given, running the timers that fall due on
    /// the way. Without a pending timer and without `ns` nothing moves. Returns the new time.
    ///
    /// # Errors
    /// [`ClockError`] for a real-time clock or a negative step.
    pub fn step(&self, ns: Option<i64>) -> Result<i64, ClockError> {
        let now = self.now();
        let target = match ns {
            Some(ns) if ns < 0 => return Err(ClockError::Negative(ns)),
            Some(ns) => now.saturating_add(ns),
            None => self.next_deadline().unwrap_or(now),
        };
        self.set(target)
    }

    /// Advances a stepped clock to `target`, running timers on the way; an earlier time than now changes nothing.
    /// Returns the new time.
    ///
    /// # Errors
    /// [`ClockError`] for a real-time clock or a negative time.
    pub fn set(&self, target: i64) -> Result<i64, ClockError> {
        if !self.is_stepped() {
            return Err(ClockError::NotStepped);
        }
        if target < 0 {
            return Err(ClockError::Negative(target));
        }
        loop {
            let mut state = self.0.state.lock();
            let due = state.first().filter(|armed| armed.deadline <= target).cloned();
            let reached = due.as_ref().map_or(target, |armed| armed.deadline);
            state.passed = state.passed.max(reached);
            let now = state.passed;
            match due {
                None => return Ok(now),
                Some(armed) => {
                    state.armed.retain(|other| other.sequence != armed.sequence);
                    drop(state);
                    (armed.callback)();
                }
            }
        }
    }

    /// The earliest deadline of a pending timer.
    pub fn next_deadline(&self) -> Option<i64> {
        self.0.state.lock().first().map(|armed| armed.deadline)
    }

    /// Runs the timers that are due now; the machine's run loop calls this. A timer that re-arms itself for a time
    /// that has passed already runs again at the next call, so that one timer cannot hold the loop.
    pub fn run_due(&self) {
        let due = {
            let mut state = self.0.state.lock();
            let now = self.0.now(&state);
            let mut due: Vec<Armed> =
                state.armed.iter().filter(|armed| armed.deadline <= now).cloned().collect();
            due.sort_by_key(|armed| (armed.deadline, armed.sequence));
            state.armed.retain(|armed| armed.deadline > now);
            due
        };
        for armed in due {
            (armed.callback)();
        }
    }

    /// Nanoseconds until the next deadline of a running clock; `None` when nothing will fall due by itself.
    pub fn nanoseconds_to_next(&self) -> Option<u64> {
        let state = self.0.state.lock();
        state.since.filter(|_| self.0.kind == Kind::Realtime)?;
        let deadline = state.first()?.deadline;
        Some(u64::try_from(deadline.saturating_sub(self.0.now(&state))).unwrap_or(0))
    }

    /// Sets what is called when the next deadline may have come nearer, so that a waiting run loop looks again.
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        self.0.state.lock().waker = Some(Arc::new(waker));
    }

    fn wake(&self) {
        let waker = self.0.state.lock().waker.clone();
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Makes a timer that calls back when its deadline comes. It is not armed yet.
    pub fn timer(&self, callback: impl Fn() + Send + Sync + 'static) -> Timer {
        let mut state = self.0.state.lock();
        state.next_timer += 1;
        let id = state.next_timer;
        drop(state);
        Timer { clock: Arc::downgrade(&self.0), id, callback: Arc::new(callback) }
    }
}

/// A one-shot timer of a [`Clock`]. Dropping it disarms it.
pub struct Timer {
    clock: Weak<Inner>,
    id: u64,
    callback: Callback,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("id", &self.id).field("deadline", &self.deadline()).finish()
    }
}

impl Timer {
    /// Arms the timer for `deadline`, in place of an earlier arming.
    pub fn arm(&self, deadline: i64) {
        let Some(inner) = self.clock.upgrade() else { return };
        let mut state = inner.state.lock();
        state.armed.retain(|armed| armed.timer != self.id);
        let nearer = state.first().is_none_or(|first| deadline < first.deadline);
        state.sequence += 1;
        let sequence = state.sequence;
        state.armed.push(Armed { deadline, sequence, timer: self.id, callback: self.callback.clone() });
        drop(state);
        // Who waits for another deadline that comes first looks again then.
        if nearer {
            Clock(inner).wake();
        }
    }

    /// Disarms the timer.
    pub fn cancel(&self) {
        if let Some(inner) = self.clock.upgrade() {
            inner.state.lock().armed.retain(|armed| armed.timer != self.id);
        }
    }

    /// When the timer will fire, if it is armed: an absolute clock value.
    pub fn deadline(&self) -> Option<i64> {
        let inner = self.clock.upgrade()?;
        let state = inner.state.lock();
        state.armed.iter().find(|armed| armed.timer == self.id).map(|armed| armed.deadline)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stepped_clock_runs_timers_in_order_and_at_their_time() {
        let clock = Clock::stepped();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let timers: Vec<Timer> = (0..3)
            .map(|n| {
                let (seen, at) = (seen.clone(), clock.clone());
                clock.timer(move || seen.lock().push((n, at.now())))
            })
            .collect();
        timers[0].arm(300);
        timers[1].arm(100);
        timers[2].arm(100);
        assert_eq!(clock.step(None), Ok(100));
        assert_eq!(clock.step(Some(50)), Ok(150));
        assert_eq!(*seen.lock(), [(1, 100), (2, 100)]);
        assert_eq!(clock.set(1000), Ok(1000));
        assert_eq!(clock.set(10), Ok(1000));
        assert_eq!(clock.step(None), Ok(1000));
        assert_eq!(*seen.lock(), [(1, 100), (2, 100), (0, 300)]);
    }

    #[test]
    fn a_timer_that_rearms_itself_runs_for_every_period_of_a_step() {
        let clock = Clock::stepped();
        let count = Arc::new(Mutex::new(0));
        let slot: Arc<Mutex<Option<Timer>>> = Arc::default();
        let timer = {
            let (count, slot, clock) = (count.clone(), slot.clone(), clock.clone());
            clock.clone().timer(move || {
                *count.lock() += 1;
                if let Some(timer) = slot.lock().as_ref() {
                    timer.arm(clock.now() + 10);
                }
            })
        };
        timer.arm(10);
        *slot.lock() = Some(timer);
        assert_eq!(clock.step(Some(95)), Ok(95));
        assert_eq!(*count.lock(), 9);
    }

    #[test]
    fn cancelled_and_dropped_timers_do_not_run() {
        let clock = Clock::stepped();
        let timer = clock.timer(|| panic!("ran"));
        timer.arm(5);
        timer.cancel();
        assert_eq!(timer.deadline(), None);
        timer.arm(5);
        drop(timer);
        assert_eq!(clock.step(Some(10)), Ok(10));
    }

    #[test]
    fn bad_steps_are_errors() {
        assert_eq!(Clock::realtime().step(Some(1)), Err(ClockError::NotStepped));
        assert_eq!(Clock::stepped().step(Some(-1)), Err(ClockError::Negative(-1)));
        assert_eq!(Clock::stepped().set(i64::MAX), Ok(i64::MAX));
    }

    #[test]
    fn a_counted_clock_goes_with_instructions_and_waits_no_longer_than_to_a_deadline() {
        let clock = Clock::counted(3);
        let executed = clock.executed().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let timer = {
            let (seen, at) = (seen.clone(), clock.clone());
            clock.timer(move || seen.lock().push(at.now()))
        };
        assert_eq!((clock.now(), clock.instructions_to_next()), (0, None));
        timer.arm(1001);
        assert_eq!(clock.instructions_to_next(), Some(126));
        executed.set(125);
        clock.run_due();
        assert_eq!((clock.now(), clock.instructions_to_next(), seen.lock().len()), (1000, Some(1), 0));
        executed.set(126);
        assert_eq!(clock.instructions_to_next(), Some(0));
        clock.run_due();
        assert_eq!(*seen.lock(), [1008]);
        // It waits.
        timer.arm(5000);
        clock.pass(1000);
        assert_eq!((clock.now(), clock.nanoseconds_to_deadline()), (2008, Some(2992)));
        clock.pass(u64::MAX);
        assert_eq!(clock.now(), 5000);
        clock.pass(10);
        assert_eq!(clock.now(), 5000, "first what is due");
        clock.run_due();
        // Another pace from here on.
        clock.set_shift(0);
        executed.set(130);
        assert_eq!((clock.now(), clock.shift()), (5004, 0));
        clock.start();
        assert_eq!(clock.nanoseconds_to_next(), None);
        assert_eq!(clock.step(Some(1)), Err(ClockError::NotStepped));
        executed.set(u64::MAX);
        clock.set_shift(99);
        assert_eq!((clock.now(), clock.shift()), (i64::MAX, Clock::MAX_SHIFT));
    }

    #[test]
    fn the_waker_is_called_for_what_comes_first() {
        let clock = Clock::counted(0);
        let woken = Arc::new(Mutex::new(0));
        let count = woken.clone();
        clock.set_waker(move || *count.lock() += 1);
        let (first, second) = (clock.timer(|| ()), clock.timer(|| ()));
        first.arm(100);
        second.arm(200);
        assert_eq!(*woken.lock(), 1);
        second.arm(50);
        assert_eq!(*woken.lock(), 2);
        second.arm(70);
        assert_eq!(*woken.lock(), 3, "it still comes before the other");
        second.arm(300);
        assert_eq!(*woken.lock(), 3);
    }

    #[test]
    fn a_realtime_clock_stands_until_started_and_after_stop() {
        let clock = Clock::realtime();
        assert_eq!(clock.now(), 0);
        clock.start();
        while clock.now() == 0 {
            std::thread::yield_now();
        }
        clock.stop();
        let stopped = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert_eq!(clock.now(), stopped);
        assert_eq!(clock.nanoseconds_to_next(), None);
    }
}
