//! Virtual time and timers.
//!
//! A [`Clock`] counts nanoseconds of machine time: either along with the host's monotonic clock, standing still while
//! the machine is stopped, or only when it is stepped (qtest's `clock_step` and `clock_set`; then a whole run is
//! deterministic). It is not the wall clock of a real-time-clock chip, which is the host's date plus an offset. What
//! must always hold: time never runs backwards, timers run in the order of their deadlines (ties: the one armed
//! first), each sees a clock that has reached its deadline, and none runs under a lock of ours.

use std::fmt;
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
    #[error("The clock runs with the host's time; only a stepped clock (-qtest) can be stepped or set")]
    NotStepped,
    /// A step or time below zero.
    #[error("{0} ns is negative; clocks only run forwards")]
    Negative(i64),
}

/// Virtual time in nanoseconds since the machine was made. Cloning shares the clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    stepped: bool,
    state: Mutex<State>,
}

struct State {
    /// Time that has passed up to `since`, or up to now when the clock stands.
    passed: i64,
    /// When a running real-time clock was started.
    since: Option<Instant>,
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

impl State {
    fn now(&self) -> i64 {
        let running =
            self.since.map_or(0, |since| i64::try_from(since.elapsed().as_nanos()).unwrap_or(i64::MAX));
        self.passed.saturating_add(running)
    }

    fn first(&self) -> Option<&Armed> {
        self.armed.iter().min_by_key(|armed| (armed.deadline, armed.sequence))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("stepped", &self.0.stepped).field("now", &self.now()).finish()
    }
}

impl Clock {
    fn with(stepped: bool) -> Clock {
        let state =
            State { passed: 0, since: None, armed: Vec::new(), sequence: 0, next_timer: 0, waker: None };
        Clock(Arc::new(Inner { stepped, state: Mutex::new(state) }))
    }

    /// A clock that runs with the host's monotonic clock once it is started.
    pub fn realtime() -> Clock {
        Clock::with(false)
    }

    /// A clock that moves only when stepped or set.
    pub fn stepped() -> Clock {
        Clock::with(true)
    }

    /// Whether this is a stepped clock.
    pub fn is_stepped(&self) -> bool {
        self.0.stepped
    }

    /// The time now, in nanoseconds.
    pub fn now(&self) -> i64 {
        self.0.state.lock().now()
    }

    /// Lets a real-time clock run (the machine continues). A stepped clock does not care.
    pub fn start(&self) {
        let mut state = self.0.state.lock();
        if !self.0.stepped && state.since.is_none() {
            state.since = Some(Instant::now());
        }
        drop(state);
        self.wake();
    }

    /// Makes a real-time clock stand (the machine stops).
    pub fn stop(&self) {
        let mut state = self.0.state.lock();
        state.passed = state.now();
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
        if !self.0.stepped {
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
            let now = state.now();
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
        state.since?;
        let deadline = state.first()?.deadline;
        Some(u64::try_from(deadline.saturating_sub(state.now())).unwrap_or(0))
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
        state.sequence += 1;
        let sequence = state.sequence;
        state.armed.push(Armed { deadline, sequence, timer: self.id, callback: self.callback.clone() });
        drop(state);
        Clock(inner).wake();
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
