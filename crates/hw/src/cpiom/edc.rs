//! `cpiom-edc`: error detection and correction of the SDRAM, with a scrubber.
//!
//! Errors come from software alone: a word written to the window `cpiom-edc-err` is an error. It is detected at once,
//! or, with bit 1 set, waits in memory until the scrubber has gone once through it. A detected error is counted, sets a
//! STATUS bit and is remembered with the seven before it; the line is high while a STATUS bit is set whose count has
//! reached its threshold, and CTRL bit 1 is set. The scrubber makes a pass every SCRUB_PERIOD cycles of 16.6 MHz: passes
//! are counted from the clock, so that no timer runs but for a pass that will find something.
//!
//! It does not change what memory holds, and accesses of the CPU do not meet its errors: an error that an access meets
//! is armed in the SDRAM controller (INJECT). What must always hold: pass *n* ends exactly *n* × SCRUB_PERIOD cycles after
//! the scrubber was switched on or its period written; at most [`HISTORY`] errors are remembered and [`WAITING`] wait.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use flatview::{Access, AccessRules, MemTxError, MmioOps, Owner, Region};
use flatview_device::bank::{Banked, Written};
use flatview_device::{
    Bank, Clock, DeviceCell, Effects, IrqLine, Log, LogMask, QtreeDevice, Register, RegisterInfo, Registers,
    Reset, Timer,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{RULES, cycle_at, plausible, row, sdram, time_of};

/// How many errors are remembered.
pub const HISTORY: usize = 8;
/// How many errors can wait for the scrubber; one more is detected at once.
pub const WAITING: usize = 16;
/// What the window reads where there was no error.
pub const NO_ERROR: u64 = 0xffff_ffff;
/// Bytes of the regions.
const REG1: u128 = 0x1000;
const REG2: u128 = 24;
const WINDOW: u64 = 0x2000;

const CTRL: usize = 0;
const STATUS: usize = 1;
const COUNT: usize = 2;
const ADDR: usize = 3;
const SECOND: usize = 4;
const CE_THRESHOLD: usize = SECOND;
const UE_THRESHOLD: usize = SECOND + 1;
const SCRUB_PERIOD: usize = SECOND + 2;
const SCRUB_PASSES: usize = SECOND + 3;
const SCRUB_FOUND: usize = SECOND + 5;

const CTRL_ENABLE: u64 = 1;
const CTRL_IRQ: u64 = 1 << 1;
const STATUS_CE: u64 = 1;
const STATUS_UE: u64 = 1 << 1;
const INJECT_UE: u64 = 1;
const INJECT_WAITS: u64 = 1 << 1;
const HALF: u64 = 0xffff;

/// The registers of `cpiom-edc-reg1`.
static FIRST_TABLE: &[Register<State>] = &[
    Register::new("CTRL", 0x00).writable(CTRL_ENABLE | CTRL_IRQ).on_write(State::control_written),
    Register::new("STATUS", 0x04)
        .write_1_clears(STATUS_CE | STATUS_UE)
        .shown(State::status)
        .on_write(State::written),
    Register::new("COUNT", 0x08).writable(0xffff_ffff).shown(State::count).on_write(State::written),
    Register::new("ADDR", 0x0c).shown(State::address),
];

/// The registers of `cpiom-edc-reg2`.
static SECOND_TABLE: &[Register<State>] = &[
    Register::new("CE_THRESHOLD", 0x00).writable(HALF).on_write(State::written),
    Register::new("UE_THRESHOLD", 0x04).writable(HALF).on_write(State::written),
    Register::new("SCRUB_PERIOD", 0x08).writable(0xffff_ffff).on_write(State::period_written),
    Register::new("SCRUB_PASSES", 0x0c).shown(State::passes),
    Register::new("SCRUB_NEXT", 0x10).shown(State::to_next_pass),
    Register::new("SCRUB_FOUND", 0x14).shown(State::found),
];

/// Its registers, by region.
pub(super) fn register_tables() -> Vec<(&'static str, Vec<RegisterInfo>)> {
    vec![
        ("cpiom-edc-reg2", SECOND_TABLE.iter().map(Register::info).collect()),
        ("cpiom-edc-reg1", FIRST_TABLE.iter().map(Register::info).collect()),
        ("cpiom-edc-err", vec![row("ERROR", WINDOW / 4, NO_ERROR, 0)]),
    ]
}

/// An error in a word of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Fault {
    /// Address of the word.
    word: u32,
    /// It cannot be corrected.
    uncorrectable: bool,
}

/// What is saved of the device. Times are cycles of the 16.6 MHz clock since the machine was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdcState {
    registers: Registers,
    /// The last errors, newest first.
    history: Vec<Fault>,
    /// Errors in memory that nobody has met, oldest first.
    waiting: Vec<Fault>,
    /// When the present pass began, while the scrubber is on.
    pass_since: Option<i128>,
}

impl EdcState {
    fn at_reset() -> EdcState {
        EdcState {
            registers: Registers::of(&[FIRST_TABLE, SECOND_TABLE]),
            history: Vec::new(),
            waiting: Vec::new(),
            pass_since: None,
        }
    }

    fn has(&self, register: usize, bit: u64) -> bool {
        self.registers.get(register) & bit != 0
    }

    /// Cycles of a pass and when the present one began, while the scrubber is on.
    fn scrubbing(&self) -> Option<(i128, i128)> {
        let period = i128::from(self.registers.get(SCRUB_PERIOD));
        let since = self.pass_since?;
        (period != 0).then_some((period, since))
    }

    /// The passes that have ended by `now`. Returns whether there were any.
    fn advance(&mut self, now: i128) -> bool {
        let Some((period, since)) = self.scrubbing() else { return false };
        let passes = (now - since) / period;
        if passes <= 0 {
            return false;
        }
        self.pass_since = Some(since + passes * period);
        let before = i128::from(self.registers.get(SCRUB_PASSES));
        self.registers.set(SCRUB_PASSES, ((before + passes) & 0xffff_ffff) as u64);
        for fault in std::mem::take(&mut self.waiting) {
            let found = self.registers.get(SCRUB_FOUND).saturating_add(1).min(0xffff_ffff);
            self.registers.set(SCRUB_FOUND, found);
            self.detect(fault);
        }
        true
    }

    fn detect(&mut self, fault: Fault) {
        let Fault { word, uncorrectable } = fault;
        let (shift, bit) = if uncorrectable { (16, STATUS_UE) } else { (0, STATUS_CE) };
        let count = self.registers.get(COUNT);
        if count >> shift & HALF != HALF {
            self.registers.set(COUNT, count + (1 << shift));
        }
        let status = self.registers.get(STATUS);
        if status == 0 || uncorrectable && status & STATUS_UE == 0 {
            self.registers.set(ADDR, word.into());
        }
        self.registers.set(STATUS, status | bit);
        self.history.insert(0, fault);
        self.history.truncate(HISTORY);
    }

    fn inject(&mut self, fault: Fault, waits: bool) {
        if waits && self.waiting.len() < WAITING {
            self.waiting.push(fault);
        } else if self.has(CTRL, CTRL_ENABLE) {
            self.detect(fault);
        }
    }

    /// Whether the line is high.
    fn interrupts(&self) -> bool {
        let count = self.registers.get(COUNT);
        let reached = |bit, count, threshold| self.has(STATUS, bit) && count >= self.registers.get(threshold);
        self.has(CTRL, CTRL_IRQ)
            && (reached(STATUS_CE, count & HALF, CE_THRESHOLD)
                || reached(STATUS_UE, count >> 16, UE_THRESHOLD))
    }

    fn remembered(&self, word: usize) -> u64 {
        self.history
            .get(word)
            .map_or(NO_ERROR, |fault| u64::from(fault.word) | u64::from(fault.uncorrectable))
    }

    /// When the pass ends that will find something.
    fn next_find(&self) -> Option<i128> {
        let (period, since) = self.scrubbing()?;
        (!self.waiting.is_empty()).then_some(since + period)
    }
}

struct State {
    saved: EdcState,
    clock: Clock,
    /// The cycle up to which `saved` was brought last: the one at which an access happens.
    now: i128,
    line: IrqLine,
    this: Weak<Edc>,
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
            effects.line(&self.line, self.saved.interrupts());
        }
    }
}

impl State {
    /// What `look` sees when all passes up to now are counted.
    fn as_of_now<R>(&self, look: impl FnOnce(&EdcState, i128) -> R) -> R {
        let now = cycle_at(self.clock.now());
        match self.saved.scrubbing() {
            Some((period, since)) if now - since >= period => {
                let mut saved = self.saved.clone();
                saved.advance(now);
                look(&saved, now)
            }
            _ => look(&self.saved, now),
        }
    }

    fn status(&self, _stored: u64) -> u64 {
        self.as_of_now(|saved, _| saved.registers.get(STATUS))
    }

    fn count(&self, _stored: u64) -> u64 {
        self.as_of_now(|saved, _| saved.registers.get(COUNT))
    }

    fn address(&self, _stored: u64) -> u64 {
        self.as_of_now(|saved, _| saved.registers.get(ADDR))
    }

    fn passes(&self, _stored: u64) -> u64 {
        self.as_of_now(|saved, _| saved.registers.get(SCRUB_PASSES))
    }

    fn found(&self, _stored: u64) -> u64 {
        self.as_of_now(|saved, _| saved.registers.get(SCRUB_FOUND))
    }

    fn to_next_pass(&self, _stored: u64) -> u64 {
        self.as_of_now(|saved, now| saved.scrubbing().map_or(0, |(period, since)| since + period - now))
            .clamp(0, 0xffff_ffff) as u64
    }

    /// Line and timer follow; called after every change.
    fn follow(&self, effects: &mut Effects) {
        effects.line(&self.line, self.saved.interrupts());
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
        if (written.old ^ written.new) & CTRL_ENABLE != 0 {
            self.begin_pass();
        }
        self.follow(effects);
    }

    fn period_written(&mut self, effects: &mut Effects, _written: Written) {
        self.begin_pass();
        self.follow(effects);
    }

    /// The scrubber goes on from the first word, if it is on.
    fn begin_pass(&mut self) {
        let on = self.saved.has(CTRL, CTRL_ENABLE) && self.saved.registers.get(SCRUB_PERIOD) != 0;
        self.saved.pass_since = on.then_some(self.now);
    }
}

/// The device.
pub struct Edc {
    cell: Arc<DeviceCell<State>>,
    irq: IrqLine,
    log: Log,
    timer: OnceLock<Timer>,
    /// Held while the timer is armed, so that the latest deadline stays.
    arming: Mutex<()>,
}

impl fmt::Debug for Edc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edc").field("state", &self.save()).finish_non_exhaustive()
    }
}

impl Edc {
    /// The unit at power on: off.
    pub fn new(clock: &Clock, log: &Log) -> Arc<Edc> {
        let irq = IrqLine::new("cpiom-edc.irq");
        let edc = Arc::new_cyclic(|this: &Weak<Edc>| Edc {
            cell: Arc::new(DeviceCell::new(State {
                saved: EdcState::at_reset(),
                clock: clock.clone(),
                now: cycle_at(clock.now()),
                line: irq.clone(),
                this: this.clone(),
            })),
            irq,
            log: log.clone(),
            timer: OnceLock::new(),
            arming: Mutex::new(()),
        });
        let weak = Arc::downgrade(&edc);
        let timer = clock.timer(move || {
            if let Some(edc) = weak.upgrade() {
                edc.cell.with(|state, effects| state.catch_up(effects));
                edc.arm();
            }
        });
        let _ = edc.timer.set(timer);
        edc
    }

    fn arm(&self) {
        let _guard = self.arming.lock();
        let Some(timer) = self.timer.get() else { return };
        match self.cell.peek(|state| state.saved.next_find()).and_then(time_of) {
            Some(deadline) => timer.arm(deadline),
            None => timer.cancel(),
        }
    }

    /// High while an error is latched whose count has reached its threshold, and interrupts are enabled.
    pub fn irq(&self) -> &IrqLine {
        &self.irq
    }

    /// Control, status, counts.
    pub fn register_region(&self, owner: &Owner) -> Region {
        let bank = Bank::new("cpiom-edc-reg1", &self.cell, FIRST_TABLE, RULES, &self.log);
        Region::io("cpiom-edc-reg1", REG1, bank).owner(owner)
    }

    /// Thresholds and scrubber.
    pub fn scrub_region(&self, owner: &Owner) -> Region {
        let bank =
            Bank::new("cpiom-edc-reg2", &self.cell, SECOND_TABLE, RULES, &self.log).starting_at(SECOND);
        Region::io("cpiom-edc-reg2", REG2, bank).owner(owner)
    }

    /// The window of errors.
    pub fn error_region(&self, owner: &Owner) -> Region {
        let window = Window { cell: self.cell.clone(), log: self.log.clone() };
        Region::io("cpiom-edc-err", WINDOW.into(), window).owner(owner)
    }

    /// What has to be kept to go on later as now.
    pub fn save(&self) -> EdcState {
        self.cell.peek(|state| state.saved.clone())
    }

    /// Goes on from what was saved.
    pub fn restore(&self, mut saved: EdcState) {
        saved.pass_since = saved.pass_since.map(plausible);
        saved.history.truncate(HISTORY);
        saved.waiting.truncate(WAITING);
        self.cell.with(|state, effects| {
            state.saved = saved;
            state.catch_up(effects);
            state.follow(effects);
        });
    }

    /// The entry in `info qtree`; the board adds where the regions stand.
    pub fn qtree(&self) -> QtreeDevice {
        let (period, waiting) =
            self.cell.peek(|state| (state.saved.registers.get(SCRUB_PERIOD), state.saved.waiting.len()));
        QtreeDevice::new("cpiom-edc")
            .gpio_out("irq", 1)
            .number("scrub-period", period)
            .number("waiting-errors", waiting as u64)
    }
}

impl Reset for Edc {
    /// Registers to 0, errors forgotten, line low.
    fn reset(&self) {
        self.restore(EdcState::at_reset());
    }
}

/// Word *n* tells the *n*th last error; a write injects one.
struct Window {
    cell: Arc<DeviceCell<State>>,
    log: Log,
}

impl MmioOps for Window {
    fn rules(&self) -> AccessRules {
        RULES
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let word = usize::try_from(access.offset() / 4).unwrap_or(usize::MAX);
        Ok(self.cell.with(|state, effects| {
            state.catch_up(effects);
            state.saved.remembered(word)
        }))
    }

    fn write(&self, _access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let word = value & 0xffff_fffc;
        if word >= sdram::RAM_SIZE {
            self.log.line(
                LogMask::GUEST_ERRORS,
                format_args!(
                    "cpiom-edc: error injected at {word:#x}, beyond the {:#x} bytes of RAM",
                    sdram::RAM_SIZE
                ),
            );
            return Ok(());
        }
        let fault = Fault { word: word as u32, uncorrectable: value & INJECT_UE != 0 };
        self.cell.with(|state, effects| {
            state.catch_up(effects);
            state.saved.inject(fault, value & INJECT_WAITS != 0);
            state.follow(effects);
        });
        Ok(())
    }

    fn peek(&self, offset: u64, _size: u32) -> Option<u64> {
        let word = usize::try_from(offset / 4).unwrap_or(usize::MAX);
        Some(self.cell.peek(|state| state.as_of_now(|saved, _| saved.remembered(word))))
    }
}
