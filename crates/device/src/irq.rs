//! Interrupt lines: one bit of wire between a device and what listens to it.
//!
//! An [`IrqLine`] is not an interrupt controller and knows no numbers or priorities: it has a level, handlers that are
//! wired to it and observers that only watch (qtest's `irq_intercept_in` and `irq_intercept_out`; QEMU calls the line a
//! `qemu_irq`). What must always hold: handlers see every change and in the order in which the line
//! changed, whichever threads set it, and none of them runs under a lock of ours, so a handler may set lines, this one
//! included.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

type Handler = Arc<dyn Fn(bool) + Send + Sync>;

/// One interrupt line. Cloning gives another end of the same wire.
#[derive(Clone)]
pub struct IrqLine(Arc<Inner>);

struct Inner {
    name: String,
    state: Mutex<State>,
    next_observer: AtomicU64,
}

#[derive(Default)]
struct State {
    level: bool,
    /// The ticket of the last ordered change; see [`IrqLine::set_ordered`].
    ticket: u64,
    /// The level that was told last.
    told: bool,
    /// Changes that have not been told yet, oldest first.
    pending: VecDeque<bool>,
    /// Whether a thread is telling the pending changes now.
    telling: bool,
    handlers: Vec<Handler>,
    observers: Vec<(u64, Handler)>,
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqLine").field("name", &self.0.name).field("level", &self.level()).finish()
    }
}

impl IrqLine {
    /// A line that nobody listens to, at low level.
    pub fn new(name: impl Into<String>) -> IrqLine {
        IrqLine(Arc::new(Inner {
            name: name.into(),
            state: Mutex::new(State::default()),
            next_observer: AtomicU64::new(0),
        }))
    }

    /// The line's name, for messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The level now.
    pub fn level(&self) -> bool {
        self.0.state.lock().level
    }

    /// Sets the level; a set to the level it has is no change.
    pub fn set(&self, level: bool) {
        let mut state = self.0.state.lock();
        if state.level == level {
            return;
        }
        state.level = level;
        state.pending.push_back(level);
        self.tell(state);
    }

    /// Sets the level unless a change with a later ticket has been made already. A device draws tickets under its state
    /// lock and sets the line after letting go of it, so two threads cannot leave the line at the older of two levels.
    pub fn set_ordered(&self, ticket: u64, level: bool) {
        let mut state = self.0.state.lock();
        if ticket < state.ticket {
            return;
        }
        state.ticket = ticket;
        if state.level == level {
            return;
        }
        state.level = level;
        state.pending.push_back(level);
        self.tell(state);
    }

    /// Sets the level and tells the handlers even if it is the level it has: some interrupt controllers take a line
    /// that is driven high once more for a new edge after they were initialised. Ordered as
    /// [`IrqLine::set_ordered`]; observers only hear changes.
    pub fn drive_ordered(&self, ticket: u64, level: bool) {
        let mut state = self.0.state.lock();
        if ticket < state.ticket {
            return;
        }
        state.ticket = ticket;
        state.level = level;
        state.pending.push_back(level);
        self.tell(state);
    }

    /// As [`IrqLine::drive_ordered`], for a line that only one thread drives at a time.
    pub fn drive(&self, level: bool) {
        let ticket = self.0.state.lock().ticket;
        self.drive_ordered(ticket, level);
    }

    /// Sets the line high.
    pub fn raise(&self) {
        self.set(true);
    }

    /// Sets the line low.
    pub fn lower(&self) {
        self.set(false);
    }

    /// High, then low: an edge.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// Wires a handler to the line; it is told every change from now on. If the line is high already, the handler is
    /// told so at once.
    pub fn connect(&self, handler: impl Fn(bool) + Send + Sync + 'static) {
        let handler: Handler = Arc::new(handler);
        let high = {
            let mut state = self.0.state.lock();
            state.handlers.push(handler.clone());
            state.level && !state.telling
        };
        if high {
            handler(true);
        }
    }

    /// Wires the line to another one: that one follows this one.
    pub fn connect_to(&self, other: &IrqLine) {
        let other = other.clone();
        self.connect(move |level| other.drive(level));
    }

    /// Watches the line until the guard is dropped. Observers are told after the handlers.
    pub fn observe(&self, observer: impl Fn(bool) + Send + Sync + 'static) -> IrqObserver {
        let id = self.0.next_observer.fetch_add(1, Ordering::Relaxed);
        self.0.state.lock().observers.push((id, Arc::new(observer)));
        IrqObserver { line: self.clone(), id }
    }

    /// Tells pending changes, one after the other, with the lock let go while handlers run. A thread that finds another
    /// one (or itself, further up its stack) telling leaves its change to that one.
    fn tell<'a>(&'a self, mut state: parking_lot::MutexGuard<'a, State>) {
        if state.telling {
            return;
        }
        state.telling = true;
        while let Some(level) = state.pending.pop_front() {
            let changed = state.told != level;
            state.told = level;
            let observers = state.observers.iter().filter(|_| changed).map(|(_, observer)| observer);
            let handlers: Vec<Handler> = state.handlers.iter().chain(observers).cloned().collect();
            drop(state);
            for handler in handlers {
                handler(level);
            }
            state = self.0.state.lock();
        }
        state.telling = false;
    }
}

/// Keeps an observer on its line; dropping it takes the observer away.
#[derive(Debug)]
#[must_use = "the observer is removed when this is dropped"]
pub struct IrqObserver {
    line: IrqLine,
    id: u64,
}

impl Drop for IrqObserver {
    fn drop(&mut self) {
        self.line.0.state.lock().observers.retain(|(id, _)| *id != self.id);
    }
}

/// A gate whose output is high while at least one of its inputs is (QEMU's `or-irq`).
#[derive(Debug, Clone)]
pub struct OrGate {
    inputs: Vec<IrqLine>,
    output: IrqLine,
}

impl OrGate {
    /// A gate with `inputs` input lines.
    pub fn new(name: &str, inputs: usize) -> OrGate {
        let output = IrqLine::new(format!("{name}.out"));
        let inputs: Vec<IrqLine> = (0..inputs).map(|n| IrqLine::new(format!("{name}.in[{n}]"))).collect();
        let levels = Arc::new(Mutex::new((0_u64, vec![false; inputs.len()])));
        for (n, input) in inputs.iter().enumerate() {
            let (levels, output) = (levels.clone(), output.clone());
            input.connect(move |level| {
                let (ticket, any) = {
                    let mut levels = levels.lock();
                    levels.0 += 1;
                    if let Some(slot) = levels.1.get_mut(n) {
                        *slot = level;
                    }
                    (levels.0, levels.1.contains(&true))
                };
                output.set_ordered(ticket, any);
            });
        }
        OrGate { inputs, output }
    }

    /// The input lines, in order.
    pub fn inputs(&self) -> &[IrqLine] {
        &self.inputs
    }

    /// The output line.
    pub fn output(&self) -> &IrqLine {
        &self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> (Arc<Mutex<Vec<bool>>>, impl Fn(bool) + Send + Sync + 'static) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let clone = seen.clone();
        (seen, move |level| clone.lock().push(level))
    }

    #[test]
    fn handlers_hear_changes_only_and_an_edge_is_two_of_them() {
        let line = IrqLine::new("x");
        let (seen, handler) = recorder();
        line.connect(handler);
        line.lower();
        line.raise();
        line.raise();
        line.lower();
        line.pulse();
        assert_eq!(*seen.lock(), [true, false, true, false]);
    }

    #[test]
    fn driving_a_line_again_is_told_to_handlers_and_not_to_observers() {
        let line = IrqLine::new("x");
        let ((seen, handler), (watched, observer)) = (recorder(), recorder());
        line.connect(handler);
        let _guard = line.observe(observer);
        line.drive(true);
        line.drive(true);
        line.drive(false);
        assert_eq!(
            (seen.lock().as_slice(), watched.lock().as_slice()),
            ([true, true, false].as_slice(), [true, false].as_slice())
        );
    }

    #[test]
    fn a_handler_may_set_its_own_line() {
        let line = IrqLine::new("x");
        let (seen, handler) = recorder();
        line.connect(handler);
        let own = line.clone();
        line.connect(move |level| {
            if level {
                own.lower();
            }
        });
        line.raise();
        assert_eq!(*seen.lock(), [true, false]);
        assert!(!line.level());
    }

    #[test]
    fn an_observer_hears_until_its_guard_is_dropped() {
        let line = IrqLine::new("x");
        let (seen, handler) = recorder();
        let guard = line.observe(handler);
        line.raise();
        drop(guard);
        line.lower();
        assert_eq!(*seen.lock(), [true]);
    }

    #[test]
    fn a_late_handler_hears_that_the_line_is_high() {
        let line = IrqLine::new("x");
        line.raise();
        let (seen, handler) = recorder();
        line.connect(handler);
        assert_eq!(*seen.lock(), [true]);
    }

    #[test]
    fn an_older_ticket_does_not_undo_a_newer_level() {
        let line = IrqLine::new("x");
        line.set_ordered(2, true);
        line.set_ordered(1, false);
        assert!(line.level());
        line.set_ordered(3, false);
        assert!(!line.level());
    }

    #[test]
    fn an_or_gate_is_high_while_any_input_is() {
        let gate = OrGate::new("or", 3);
        let (seen, handler) = recorder();
        gate.output().connect(handler);
        gate.inputs()[0].raise();
        gate.inputs()[2].raise();
        gate.inputs()[0].lower();
        assert!(gate.output().level());
        gate.inputs()[2].lower();
        assert_eq!(*seen.lock(), [true, false]);
    }
}
