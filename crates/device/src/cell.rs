//! A device's state behind one lock, and effects that happen after it is let go.
//!
//! Register hooks run with the state locked and only *record* what should happen outside: line levels, memory
//! accesses, changes of the map. [`DeviceCell::with`] carries those out after unlocking and before it returns, so two
//! devices that write into each other's registers cannot deadlock. What must always hold: nothing foreign runs under
//! the lock, and of two threads that change a line, the later change under the lock is the one that stays.

use std::fmt;

use parking_lot::Mutex;

use crate::irq::IrqLine;

/// State `S` of a device. Its lock is held only inside [`DeviceCell::with`] and [`DeviceCell::peek`].
pub struct DeviceCell<S> {
    state: Mutex<Ticketed<S>>,
}

struct Ticketed<S> {
    state: S,
    ticket: u64,
}

/// What a device wants done once its state is unlocked, in the order recorded.
#[derive(Default)]
pub struct Effects {
    list: Vec<Effect>,
}

enum Effect {
    Line(IrqLine, bool),
    Drive(IrqLine, bool),
    Call(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects").field("recorded", &self.list.len()).finish()
    }
}

impl<S> fmt::Debug for DeviceCell<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCell").finish_non_exhaustive()
    }
}

impl Effects {
    /// Sets a line of the device.
    pub fn line(&mut self, line: &IrqLine, level: bool) {
        self.list.push(Effect::Line(line.clone(), level));
    }

    /// Drives a line of the device, telling its handlers even if it has that level; see [`IrqLine::drive_ordered`].
    pub fn drive(&mut self, line: &IrqLine, level: bool) {
        self.list.push(Effect::Drive(line.clone(), level));
    }

    /// Runs anything else: a memory access, a transaction, a timer, a machine request. Work that must agree with the
    /// device's newest state should look at the state again when it runs, since another thread may have come between.
    pub fn call(&mut self, call: impl FnOnce() + Send + 'static) {
        self.list.push(Effect::Call(Box::new(call)));
    }
}

impl<S> DeviceCell<S> {
    /// Holds the first state.
    pub fn new(state: S) -> DeviceCell<S> {
        DeviceCell { state: Mutex::new(Ticketed { state, ticket: 0 }) }
    }

    /// Runs `f` on the locked state, unlocks, and carries out the effects that `f` recorded.
    pub fn with<R>(&self, f: impl FnOnce(&mut S, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let (result, ticket) = {
            let mut guard = self.state.lock();
            let result = f(&mut guard.state, &mut effects);
            guard.ticket += 1;
            (result, guard.ticket)
        };
        for effect in effects.list {
            match effect {
                Effect::Line(line, level) => line.set_ordered(ticket, level),
                Effect::Drive(line, level) => line.drive_ordered(ticket, level),
                Effect::Call(call) => call(),
            }
        }
        result
    }

    /// Looks at the locked state.
    pub fn peek<R>(&self, f: impl FnOnce(&S) -> R) -> R {
        f(&self.state.lock().state)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn effects_run_after_the_state_is_unlocked_and_in_order() {
        let cell = Arc::new(DeviceCell::new(0_u32));
        let line = IrqLine::new("x");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (inner, heard) = (cell.clone(), seen.clone());
        line.connect(move |level| heard.lock().push((level, inner.peek(|n| *n))));
        let (again, order) = (cell.clone(), seen.clone());
        let returned = cell.with(|n, effects| {
            *n = 7;
            effects.line(&line, true);
            effects.call(move || {
                again.with(|n, _| *n += 1);
                order.lock().push((false, again.peek(|n| *n)));
            });
            "done"
        });
        assert_eq!(returned, "done");
        assert_eq!(*seen.lock(), [(true, 7), (false, 8)]);
    }

    #[test]
    fn two_devices_that_set_each_other_from_two_threads_do_not_deadlock() {
        let cells = [Arc::new(DeviceCell::new(0_u64)), Arc::new(DeviceCell::new(0_u64))];
        std::thread::scope(|scope| {
            for (mine, other) in [(0, 1), (1, 0)] {
                let (mine, other) = (cells[mine].clone(), cells[other].clone());
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let target = other.clone();
                        mine.with(|_, effects| effects.call(move || target.with(|n, _| *n += 1)));
                    }
                });
            }
        });
        assert_eq!(cells.map(|cell| cell.peek(|n| *n)), [10_000, 10_000]);
    }
}
