//! `cpiom-timers`: the module's tick and the windows of its frames.
//!
//! A counter steps down every PRESCALE cycles of 16.6 MHz from PERIOD; after PERIOD steps there is a tick and it begins
//! anew. FRAME ticks make a frame, in which the ticks WIN_BEGIN and WIN_END are told: an executive gives its partitions
//! their time by them. Nothing counts here while nobody looks: counter, status and frames are functions of the clock,
//! and a host timer waits only for the next moment at which a line will change.
//!
//! It is not the CPU's time base or decrementer, and it is no watchdog. What must always hold: tick *n* after a start
//! comes exactly *n* × PRESCALE × PERIOD cycles after it, whenever anybody looks and for however long; PERIOD and PRESCALE
//! written while it runs take effect at the next tick, all else at once.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use flatview::{Owner, Region};
use flatview_device::bank::{Banked, Written};
use flatview_device::{
    Bank, Clock, DeviceCell, Effects, IrqLine, Log, QtreeDevice, Register, RegisterInfo, Registers, Reset,
    Timer,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{HZ, RULES, cycle_at, plausible, time_of};

/// Bytes of the register region.
const REGION: u128 = 0x1000;
const WORD: u64 = 0xffff_ffff;

const CTRL: usize = 0;
const PRESCALE: usize = 1;
const PERIOD: usize = 2;
const STATUS: usize = 4;
const WIN_BEGIN: usize = 5;
const WIN_END: usize = 6;
const FRAME: usize = 7;
const FRAME_COUNT: usize = 8;

const CTRL_RUN: u64 = 1;
const CTRL_TICK_IRQ: u64 = 1 << 1;
const CTRL_WINDOW_IRQ: u64 = 1 << 2;
const STATUS_TICK: u64 = 1;
const STATUS_BEGIN: u64 = 1 << 1;
const STATUS_END: u64 = 1 << 2;
const STATUS_OVERRUN: u64 = 1 << 3;

/// The registers of `cpiom-timers-reg`.
static REGISTERS: &[Register<State>] = &[
    Register::new("CTRL", 0x00)
        .writable(CTRL_RUN | CTRL_TICK_IRQ | CTRL_WINDOW_IRQ)
        .on_write(State::control_written),
    Register::new("PRESCALE", 0x04).writable(WORD).on_write(State::rate_written),
    Register::new("PERIOD", 0x08).writable(WORD).on_write(State::rate_written),
    Register::new("COUNTER", 0x0c).shown(State::counter),
    Register::new("STATUS", 0x10)
        .write_1_clears(STATUS_TICK | STATUS_BEGIN | STATUS_END | STATUS_OVERRUN)
        .shown(State::status)
        .on_write(State::written),
    Register::new("WIN_BEGIN", 0x14).writable(WORD).on_write(State::written),
    Register::new("WIN_END", 0x18).writable(WORD).on_write(State::written),
    Register::new("FRAME", 0x1c).writable(WORD).on_write(State::frame_written),
    Register::new("FRAME_COUNT", 0x20).shown(State::frames),
];

/// Its registers, by region.
pub(super) fn register_tables() -> Vec<(&'static str, Vec<RegisterInfo>)> {
    vec![("cpiom-timers-reg", REGISTERS.iter().map(Register::info).collect())]
}

/// Where the counter is in the time from one tick to the next, in cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// It stands, after this many cycles of that time.
    Stands { passed: i128 },
    /// It runs, and that time began at this cycle.
    Runs { since: i128 },
}

/// What is saved of the device. Times are cycles of the 16.6 MHz clock since the machine was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimersState {
    registers: Registers,
    phase: Phase,
    /// Cycles of a step, and steps of a tick, that are in effect; 0 steps: there are no ticks.
    step: u32,
    steps: u32,
    /// Ticks since the frame began.
    position: u32,
}

impl TimersState {
    fn at_reset() -> TimersState {
        TimersState {
            registers: Registers::at_reset(REGISTERS),
            phase: Phase::Stands { passed: 0 },
            step: 1,
            steps: 0,
            position: 0,
        }
    }

    fn has(&self, register: usize, bit: u64) -> bool {
        self.registers.get(register) & bit != 0
    }

    /// Cycles from tick to tick that are in effect; 0 without ticks.
    fn length(&self) -> i128 {
        i128::from(self.step.max(1)) * i128::from(self.steps)
    }

    /// Cycles from tick to tick that will be in effect after the next tick.
    fn next_length(&self) -> i128 {
        i128::from(self.registers.get(PRESCALE).max(1)) * i128::from(self.registers.get(PERIOD))
    }

    /// PRESCALE and PERIOD take effect.
    fn reload(&mut self) {
        self.step = self.registers.get(PRESCALE).max(1) as u32;
        self.steps = self.registers.get(PERIOD) as u32;
    }

    /// Whether there has been a tick by `now` that is not accounted for.
    fn is_behind(&self, now: i128) -> bool {
        match self.phase {
            Phase::Runs { since } => self.steps != 0 && now - since >= self.length(),
            Phase::Stands { .. } => false,
        }
    }

    /// The ticks up to `now`. Returns whether there were any.
    fn advance(&mut self, now: i128) -> bool {
        let Phase::Runs { since } = self.phase else { return false };
        if !self.is_behind(now) {
            return false;
        }
        let mut since = since + self.length();
        let mut ticks = 1;
        self.reload();
        let length = self.length();
        if length != 0 {
            let more = (now - since) / length;
            ticks += more;
            since += more * length;
        }
        self.phase = Phase::Runs { since };
        self.tick(ticks);
        true
    }

    /// So many ticks happen, at least one.
    fn tick(&mut self, ticks: i128) {
        let frame = i128::from(self.registers.get(FRAME));
        let at = |register| i128::from(self.registers.get(register));
        let windows = [at(WIN_BEGIN), at(WIN_END)];
        let mut hits = [0_i128; 2];
        let mut frames = 0;
        let mut position = i128::from(self.position);
        let mut left = ticks;
        if frame == 0 {
            position = 0;
        } else {
            if position >= frame {
                // The frame was made shorter than what has passed of it.
                (position, left, frames) = (0, left - 1, 1);
                hits = windows.map(|window| i128::from(window == 0));
            }
            let last = position + left;
            for (hits, window) in hits.iter_mut().zip(windows).filter(|(_, window)| *window < frame) {
                // The numbers in position+1..=last that are `window` modulo `frame`.
                *hits += (last - window).div_euclid(frame) - (position - window).div_euclid(frame);
            }
            frames += last / frame;
            position = last % frame;
        }
        self.position = u32::try_from(position).unwrap_or(0);
        let count = i128::from(self.registers.get(FRAME_COUNT));
        self.registers.set(FRAME_COUNT, ((count + frames) & i128::from(WORD)) as u64);
        let [begins, ends] = hits;
        let mut status = self.registers.get(STATUS);
        for (bit, times) in [(STATUS_TICK, ticks), (STATUS_BEGIN, begins), (STATUS_END, ends)] {
            if times > 1 || times == 1 && status & bit != 0 {
                status |= STATUS_OVERRUN;
            }
            if times > 0 {
                status |= bit;
            }
        }
        self.registers.set(STATUS, status);
    }

    /// What COUNTER reads, all ticks up to `now` being accounted for.
    fn counter(&self, now: i128) -> u64 {
        let passed = match self.phase {
            Phase::Stands { passed } => passed,
            Phase::Runs { since } => now - since,
        };
        let steps = u64::from(self.steps);
        let stepped = u64::try_from(passed / i128::from(self.step.max(1))).unwrap_or(0);
        steps.saturating_sub(stepped)
    }

    fn start(&mut self, now: i128) {
        let Phase::Stands { passed } = self.phase else { return };
        self.phase = Phase::Runs { since: now - passed };
    }

    fn stop(&mut self, now: i128) {
        let Phase::Runs { since } = self.phase else { return };
        let passed = if self.steps == 0 { 0 } else { now - since };
        self.phase = Phase::Stands { passed };
    }

    /// PRESCALE or PERIOD was written.
    fn rate_written(&mut self, now: i128) {
        match self.phase {
            Phase::Stands { .. } => self.phase = Phase::Stands { passed: 0 },
            Phase::Runs { .. } if self.steps == 0 => self.phase = Phase::Runs { since: now },
            Phase::Runs { .. } => return,
        }
        self.reload();
    }

    fn tick_line(&self) -> bool {
        self.has(STATUS, STATUS_TICK) && self.has(CTRL, CTRL_TICK_IRQ)
    }

    fn window_line(&self) -> bool {
        self.has(STATUS, STATUS_BEGIN | STATUS_END) && self.has(CTRL, CTRL_WINDOW_IRQ)
    }

    /// Ticks until the frame comes to this place; `None` if it never does.
    fn ticks_until(&self, window: u64) -> Option<i128> {
        let (frame, window) = (i128::from(self.registers.get(FRAME)), i128::from(window));
        let position = i128::from(self.position);
        if window >= frame {
            None
        } else if position >= frame {
            Some(1 + window)
        } else {
            Some((window - position - 1).rem_euclid(frame) + 1)
        }
    }

    /// The cycle at which a line will rise by itself.
    fn next_rise(&self) -> Option<i128> {
        let Phase::Runs { since } = self.phase else { return None };
        if self.steps == 0 {
            return None;
        }
        let tick = (self.has(CTRL, CTRL_TICK_IRQ) && !self.tick_line()).then_some(1);
        let waits = self.has(CTRL, CTRL_WINDOW_IRQ) && !self.window_line();
        let windows = [WIN_BEGIN, WIN_END].into_iter().filter(|_| waits);
        let window = windows.filter_map(|register| self.ticks_until(self.registers.get(register))).min();
        let ticks = tick.into_iter().chain(window).min()?;
        match (ticks - 1, self.next_length()) {
            (0, _) => Some(since + self.length()),
            (_, 0) => None,
            (more, length) => Some(since + self.length() + more * length),
        }
    }
}

struct State {
    saved: TimersState,
    clock: Clock,
    /// The cycle up to which `saved` was brought last: the one at which an access happens.
    now: i128,
    tick: IrqLine,
    window: IrqLine,
    this: Weak<Timers>,
}

impl Banked for State {
    fn registers(&self) -> &Registers {
        &self.saved.registers
    }
    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.saved.registers
    }
    fn catch_up(&mut self, effects: &mut Effects) {
        self.now = cycle_at(self.clock.now());
        if self.saved.advance(self.now) {
            self.drive(effects);
        }
    }
}

impl State {
    /// What `look` sees when all ticks up to now are accounted for.
    fn as_of_now<R>(&self, look: impl FnOnce(&TimersState, i128) -> R) -> R {
        let now = cycle_at(self.clock.now());
        if self.saved.is_behind(now) {
            let mut saved = self.saved.clone();
            saved.advance(now);
            look(&saved, now)
        } else {
            look(&self.saved, now)
        }
    }

    fn counter(&self, _stored: u64) -> u64 {
        self.as_of_now(TimersState::counter)
    }

    fn status(&self, _stored: u64) -> u64 {
        self.as_of_now(|saved, _| saved.registers.get(STATUS))
    }

    fn frames(&self, _stored: u64) -> u64 {
        self.as_of_now(|saved, _| saved.registers.get(FRAME_COUNT))
    }

    fn drive(&self, effects: &mut Effects) {
        effects.line(&self.tick, self.saved.tick_line());
        effects.line(&self.window, self.saved.window_line());
    }

    /// Lines and timer follow; called after every change.
    fn follow(&self, effects: &mut Effects) {
        self.drive(effects);
        let this = self.this.clone();
        effects.call(move || {
            if let Some(device) = this.upgrade() {
                device.arm();
            }
        });
    }

    fn written(&mut self, effects: &mut Effects, _written: Written) {
        self.follow(effects);
    }

    fn control_written(&mut self, effects: &mut Effects, written: Written) {
        if written.new & CTRL_RUN != 0 {
            self.saved.start(self.now);
        } else {
            self.saved.stop(self.now);
        }
        self.follow(effects);
    }

    fn rate_written(&mut self, effects: &mut Effects, _written: Written) {
        self.saved.rate_written(self.now);
        self.follow(effects);
    }

    /// No frame has no position: the next one begins at its first tick.
    fn frame_written(&mut self, effects: &mut Effects, written: Written) {
        if written.new == 0 {
            self.saved.position = 0;
        }
        self.follow(effects);
    }
}

/// The device.
pub struct Timers {
    cell: Arc<DeviceCell<State>>,
    tick: IrqLine,
    window: IrqLine,
    log: Log,
    timer: OnceLock<Timer>,
    /// Held while the timer is armed, so that the latest deadline stays.
    arming: Mutex<()>,
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("state", &self.save()).finish_non_exhaustive()
    }
}

impl Timers {
    /// The timers at power on: they stand.
    pub fn new(clock: &Clock, log: &Log) -> Arc<Timers> {
        let (tick, window) = (IrqLine::new("cpiom-timers.tick"), IrqLine::new("cpiom-timers.window"));
        let timers = Arc::new_cyclic(|this: &Weak<Timers>| Timers {
            cell: Arc::new(DeviceCell::new(State {
                saved: TimersState::at_reset(),
                clock: clock.clone(),
                now: cycle_at(clock.now()),
                tick: tick.clone(),
                window: window.clone(),
                this: this.clone(),
            })),
            tick,
            window,
            log: log.clone(),
            timer: OnceLock::new(),
            arming: Mutex::new(()),
        });
        let weak = Arc::downgrade(&timers);
        let timer = clock.timer(move || {
            if let Some(timers) = weak.upgrade() {
                timers.cell.with(|state, effects| state.catch_up(effects));
                timers.arm();
            }
        });
        let _ = timers.timer.set(timer);
        timers
    }

    fn arm(&self) {
        let _guard = self.arming.lock();
        let Some(timer) = self.timer.get() else { return };
        match self.cell.peek(|state| state.saved.next_rise()).and_then(time_of) {
            Some(deadline) => timer.arm(deadline),
            None => timer.cancel(),
        }
    }

    /// High while a tick is latched and its interrupt enabled.
    pub fn tick(&self) -> &IrqLine {
        &self.tick
    }

    /// High while the begin or end of a window is latched and their interrupt enabled.
    pub fn window(&self) -> &IrqLine {
        &self.window
    }

    /// The registers.
    pub fn region(&self, owner: &Owner) -> Region {
        let bank = Bank::new("cpiom-timers", &self.cell, REGISTERS, RULES, &self.log);
        Region::io("cpiom-timers-reg", REGION, bank).owner(owner)
    }

    /// What has to be kept to go on later as now.
    pub fn save(&self) -> TimersState {
        self.cell.peek(|state| state.saved.clone())
    }

    /// Goes on from what was saved.
    pub fn restore(&self, mut saved: TimersState) {
        let (Phase::Stands { passed: cycles } | Phase::Runs { since: cycles }) = &mut saved.phase;
        *cycles = plausible(*cycles);
        self.cell.with(|state, effects| {
            state.saved = saved;
            state.catch_up(effects);
            state.follow(effects);
        });
    }

    /// The entry in `info qtree`; the board adds where the registers stand.
    pub fn qtree(&self) -> QtreeDevice {
        let running = self.cell.peek(|state| state.saved.has(CTRL, CTRL_RUN));
        QtreeDevice::new("cpiom-timers")
            .gpio_out("tick", 1)
            .gpio_out("window", 1)
            .number("frequency", HZ)
            .flag("running", running)
    }
}

impl Reset for Timers {
    /// Registers to 0, timers standing, lines low.
    fn reset(&self) {
        self.restore(TimersState::at_reset());
    }
}
