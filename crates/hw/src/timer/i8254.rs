//! `isa-pit`: Intel's 8254 interval timer: three 16-bit counters at 1.193182 MHz.
//!
//! Counters never tick here: a count is the number of clock pulses since it was loaded, so counts, outputs and edges are
//! exact functions of the [`Clock`]. A timer waits for the next rising edge of counter 0 alone, and only once its output
//! is wired ([`I8254::connect`]). What must always hold: pulse *n* of the input clock is at *n* ÷ 1193182 seconds of machine
//! time, for all counters. (8254 data sheet, "Operational description"; names of modes, words and bits are the data sheet's.)
//!
//! | port | write | read |
//! |---|---|---|
//! | +0, +1, +2 | count of counter 0, 1, 2 | its status if latched, else its latched count, else its count |
//! | +3 | control word, counter latch command, read-back command | 0 |
//!
//! A count is loaded by the write that completes it, and not by the pulse that follows: outputs come one pulse
//! earlier than in the data sheet's diagrams, and the null count flag stands only for a count that awaits a trigger or the end of a period. The
//! edges of a period shorter than 20 µs are told together. The input pin of the region's owner switches interrupts
//! off and on (a HPET in legacy mode would); nothing on these boards drives it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::clock::NANOSECONDS;
use flatview_device::{Clock, DeviceCell, Effects, IrqLine, QtreeDevice, Reset, Timer};
use parking_lot::Mutex;

use counter::Counter;

mod counter;

/// First port.
pub const BASE: u16 = 0x40;
/// Input clock of the counters.
pub const HZ: i64 = 1_193_182;
/// Periods shorter than this many pulses do not get a timer each.
const SHORT: i64 = 24;
/// How many nanoseconds apart timers for those are.
const APART: i64 = 20_000;

/// The timer.
pub struct I8254 {
    clock: Clock,
    irq: IrqLine,
    cell: DeviceCell<State>,
    timer: OnceLock<Timer>,
    wired: AtomicBool,
    /// Held while the timer is armed, so that the latest deadline stays.
    arming: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    counters: [Counter; 3],
    /// Interrupts are switched off by the input pin.
    disabled: bool,
    /// The pulse up to which the output's edges have been told.
    told: i64,
}

/// Pulses of the input clock up to a time in nanoseconds.
fn pulse_at(ns: i64) -> i64 {
    i64::try_from(i128::from(ns) * i128::from(HZ) / i128::from(NANOSECONDS)).unwrap_or(i64::MAX)
}

/// The first nanosecond at which this many pulses have come.
fn time_of(pulse: i64) -> i64 {
    let hz = i128::from(HZ);
    i64::try_from((i128::from(pulse) * i128::from(NANOSECONDS) + hz - 1) / hz).unwrap_or(i64::MAX)
}

impl State {
    fn at_power_on(now: i64) -> State {
        let mut state = State { told: now, ..State::default() };
        for (n, counter) in state.counters.iter_mut().enumerate() {
            // Counter 2 is for the speaker, which opens its gate.
            counter.gate = n != 2;
            counter.load(now);
        }
        state
    }

    /// The counter at a port; the control port has none.
    fn counter(&mut self, port: u64) -> Option<&mut Counter> {
        self.counters.get_mut(usize::try_from(port & 3).ok()?)
    }

    fn irq(&self, now: i64) -> bool {
        !self.disabled && self.counters.first().is_some_and(|counter| counter.out(now))
    }

    /// The pulse of the next rising edge of the interrupt.
    fn next_rise(&self) -> Option<i64> {
        let counter = self.counters.first().filter(|_| !self.disabled)?;
        let rise = counter.next_rise(self.told)?;
        let short = counter.is_shorter_than(SHORT);
        Some(if short { rise.max(self.told + pulse_at(APART)) } else { rise })
    }

    /// The control port.
    fn control(&mut self, word: u8, now: i64) {
        if word >> 6 == 3 {
            let chosen = |n: usize| word >> (n + 1) & 1 != 0;
            for (_, counter) in self.counters.iter_mut().enumerate().filter(|(n, _)| chosen(*n)) {
                if word & 0x20 == 0 {
                    counter.latch_count(now);
                }
                if word & 0x10 == 0 {
                    counter.latch_status(now);
                }
            }
        } else if let Some(counter) = self.counters.get_mut(usize::from(word >> 6)) {
            if word & 0x30 == 0 {
                counter.latch_count(now);
            } else {
                counter.program(word, now);
            }
        }
    }
}

impl fmt::Debug for I8254 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I8254").field("irq", &self.irq).finish_non_exhaustive()
    }
}

impl I8254 {
    /// A timer at power on: all counters count 65536 down in mode 3.
    pub fn new(clock: &Clock) -> Arc<I8254> {
        let pit = Arc::new(I8254 {
            clock: clock.clone(),
            irq: IrqLine::new("isa-pit.irq"),
            cell: DeviceCell::new(State::at_power_on(pulse_at(clock.now()))),
            timer: OnceLock::new(),
            wired: AtomicBool::new(false),
            arming: Mutex::new(()),
        });
        let weak = Arc::downgrade(&pit);
        let timer = clock.timer(move || {
            if let Some(pit) = weak.upgrade() {
                pit.change(|_, _| ());
            }
        });
        let _ = pit.timer.set(timer);
        pit
    }

    /// The output of counter 0. It has edges at their times once it is wired by [`I8254::connect`]. After power on and
    /// reset the output is high and the line low until the first edge, so that a reset does not interrupt.
    pub fn irq(&self) -> &IrqLine {
        &self.irq
    }

    /// Wires the output of counter 0; from now on a timer waits for its edges.
    pub fn connect(&self, line: &IrqLine) {
        self.irq.connect_to(line);
        self.wired.store(true, Ordering::Relaxed);
        self.arm();
    }

    /// The input that switches the interrupt off while it is low, once it has been driven.
    pub fn connect_enable(self: &Arc<Self>, line: &IrqLine) {
        let weak = Arc::downgrade(self);
        line.connect(move |level| {
            if let Some(pit) = weak.upgrade() {
                pit.change(|state, _| state.disabled = !level);
            }
        });
    }

    /// Sets the gate input of a counter, 0 to 2; other numbers have none.
    pub fn set_gate(&self, counter: usize, gate: bool) {
        self.change(|state, now| {
            if let Some(counter) = state.counters.get_mut(counter) {
                counter.set_gate(gate, now);
            }
        });
    }

    /// The output of a counter now.
    pub fn out(&self, counter: usize) -> bool {
        self.cell.with(|state, effects| {
            let now = self.tell(state, effects);
            state.counters.get(counter).is_some_and(|counter| counter.out(now))
        })
    }

    /// The four ports.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("pit", 4, Ports(self.clone())).owner(owner)
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("isa-pit").gpio_in("", 1).gpio_out("", 1).number("iobase", BASE.into())
    }

    /// Brings counters and interrupt line up to now; returns now, in pulses.
    fn tell(&self, state: &mut State, effects: &mut Effects) -> i64 {
        let now = pulse_at(self.clock.now());
        let before = state.irq(state.told);
        if state.next_rise().is_some_and(|pulse| pulse <= now) {
            // However many periods have passed: an edge is an edge.
            effects.line(&self.irq, false);
            effects.line(&self.irq, true);
        }
        state.counters.iter_mut().for_each(|counter| counter.settle(now));
        let level = state.irq(now);
        if level != before || !level {
            effects.line(&self.irq, level);
        }
        state.told = now;
        now
    }

    /// Changes the state as of now, tells what comes of it, and arms the timer.
    fn change(&self, f: impl FnOnce(&mut State, i64)) {
        self.cell.with(|state, effects| {
            let now = self.tell(state, effects);
            let before = state.irq(now);
            f(state, now);
            if state.irq(now) != before {
                effects.line(&self.irq, !before);
            }
        });
        self.arm();
    }

    fn arm(&self) {
        if !self.wired.load(Ordering::Relaxed) {
            return;
        }
        let _guard = self.arming.lock();
        let rise = self.cell.peek(State::next_rise);
        let Some(timer) = self.timer.get() else { return };
        match rise {
            Some(pulse) => timer.arm(time_of(pulse)),
            None => timer.cancel(),
        }
    }

    fn read(&self, port: u64) -> u8 {
        self.cell.with(|state, effects| {
            let now = self.tell(state, effects);
            state.counter(port).map_or(0, |counter| counter.read(now))
        })
    }

    fn write(&self, port: u64, value: u8) {
        self.change(|state, now| match state.counter(port) {
            Some(counter) => counter.write(value, now),
            None => state.control(value, now),
        });
    }
}

impl Reset for I8254 {
    fn reset(&self) {
        self.cell.with(|state, effects| {
            let now = self.tell(state, effects);
            *state = State { disabled: state.disabled, ..State::at_power_on(now) };
            effects.line(&self.irq, false);
        });
        self.arm();
    }
}

struct Ports(Arc<I8254>);

impl MmioOps for Ports {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.read(access.offset()).into())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.write(access.offset(), value as u8);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
