//! `mc146818rtc`: Motorola's MC146818 real-time clock with 128 bytes of battery-backed RAM, as PCs have it.
//!
//! Port 0x70 takes the index (its top bit, the PC's NMI mask, is ignored) and reads all ones; port 0x71 is the byte at the
//! index. Nothing ticks: what the registers show, and which flags have come up, is computed from the [`WallClock`] when
//! somebody looks, and a timer is armed only for an interrupt that is enabled. What must always hold: while it runs, the
//! time is a base plus the seconds of the wall clock since then, so that no second is lost or counted twice. A system
//! reset keeps time and RAM. (MC146818A data sheet; names of registers and bits are the data sheet's.)
//!
//! | index | register |
//! |---|---|
//! | 0, 2, 4 | seconds, minutes, hours (bit 7 is PM in 12-hour mode) |
//! | 1, 3, 5 | alarm; a byte with both upper bits set matches anything |
//! | 6, 7, 8, 9 | day of the week (Sunday is 1), date, month, year |
//! | a | UIP (7), divider (6–4), rate of the periodic interrupt (3–0) |
//! | b | SET, PIE, AIE, UIE, SQWE, DM (binary), 24/12, DSE |
//! | c | IRQF, PF, AF, UF; reading clears it |
//! | d | VRT (7): the battery is good |
//! | 32, and 37 for PS/2's sake | century, counted from the board's base year |
//!
//! Not modelled: the square-wave output, summer time (DSE is kept and has no effect), the time bases other than 32768 Hz,
//! and a day of the week that disagrees with the date: it is computed, and what a guest writes to it does not stay.

use std::fmt;
use std::sync::{Arc, OnceLock};

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::calendar::{self, DAY};
use flatview_device::clock::NANOSECONDS;
use flatview_device::{DeviceCell, Effects, IrqLine, QtreeDevice, Reset, Timer, WallClock};
use parking_lot::Mutex;

/// First port.
pub const BASE: u16 = 0x70;

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const WEEKDAY: u8 = 6;
const DATE: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const A: u8 = 10;
const B: u8 = 11;
const C: u8 = 12;
const D: u8 = 13;
const CENTURY: u8 = 0x32;
/// Where a PS/2 has the century.
const PS2_CENTURY: u8 = 0x37;
/// The bytes that make the time.
const TIME: [u8; 8] = [SECONDS, MINUTES, HOURS, WEEKDAY, DATE, MONTH, YEAR, CENTURY];

const A_UIP: u8 = 1 << 7;
/// 32768 Hz, the divider running; the rate of 1024 Hz. As PC firmware leaves it.
const A_AT_POWER_ON: u8 = 0x26;
const B_SET: u8 = 1 << 7;
const B_PIE: u8 = 1 << 6;
const B_AIE: u8 = 1 << 5;
const B_UIE: u8 = 1 << 4;
const B_SQWE: u8 = 1 << 3;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;
const C_IRQF: u8 = 1 << 7;
const C_PF: u8 = 1 << 6;
const C_AF: u8 = 1 << 5;
const C_UF: u8 = 1 << 4;
const D_VRT: u8 = 1 << 7;
const PM: u8 = 1 << 7;

/// Ticks of the time base in a second.
const TICKS: i128 = 32_768;
/// How long UIP is high before the time changes: t_BUC (244 µs) and the update itself (1984 µs).
const UPDATE: i64 = 2_228_000;

/// The chip.
pub struct Mc146818 {
    wall: WallClock,
    base_year: i64,
    irq: IrqLine,
    cell: DeviceCell<State>,
    timer: OnceLock<Timer>,
    /// Held while the timer is armed, so that the latest deadline stays.
    arming: Mutex<()>,
}

#[derive(Debug)]
struct State {
    base_year: i64,
    index: u8,
    /// RAM, alarm and control registers; the time as well while it stands.
    bytes: [u8; 128],
    /// Seconds since 1970 that the clock shows at `anchor`.
    base: i64,
    /// When, by the wall clock in nanoseconds, that second began.
    anchor: i64,
    /// Up to when flags have been raised.
    seen: i64,
}

impl State {
    fn at(&self, index: u8) -> u8 {
        self.bytes.get(usize::from(index)).copied().unwrap_or(0)
    }

    fn put(&mut self, index: u8, value: u8) {
        if let Some(byte) = self.bytes.get_mut(usize::from(index)) {
            *byte = value;
        }
    }

    /// The divider runs from one of the time bases.
    fn divider_runs(&self) -> bool {
        self.at(A) & 0x70 <= 0x20
    }

    /// The time goes on.
    fn runs(&self) -> bool {
        self.divider_runs() && self.at(B) & B_SET == 0
    }

    /// Whole seconds from the anchor to a wall-clock time.
    fn seconds_at(&self, wall: i64) -> i64 {
        wall.saturating_sub(self.anchor).div_euclid(NANOSECONDS)
    }

    /// The time that the clock shows at a wall-clock time, in seconds since 1970.
    fn time_at(&self, wall: i64) -> i64 {
        self.base.saturating_add(self.seconds_at(wall))
    }

    /// When the second that is `n` after the anchor begins.
    fn second(&self, n: i64) -> i64 {
        self.anchor.saturating_add(n.saturating_mul(NANOSECONDS))
    }

    fn coded(&self, value: i64) -> u8 {
        if self.at(B) & B_BINARY != 0 { value as u8 } else { calendar::to_bcd(value) }
    }

    fn decoded(&self, value: u8) -> i64 {
        if self.at(B) & B_BINARY != 0 { value.into() } else { calendar::from_bcd(value) }
    }

    fn coded_hour(&self, hour: i64) -> u8 {
        if self.at(B) & B_24_HOURS != 0 {
            return self.coded(hour);
        }
        let pm = if hour >= 12 { PM } else { 0 };
        pm | self.coded(if hour % 12 == 0 { 12 } else { hour % 12 })
    }

    fn decoded_hour(&self, value: u8) -> i64 {
        if self.at(B) & B_24_HOURS != 0 {
            return self.decoded(value);
        }
        self.decoded(value & !PM) % 12 + if value & PM != 0 { 12 } else { 0 }
    }

    /// A byte of the time as it stands in its register.
    fn register(&self, index: u8, time: i64) -> u8 {
        let (day, second) = (time.div_euclid(DAY), time.rem_euclid(DAY));
        let (year, month, date) = calendar::civil(day);
        match index {
            SECONDS => self.coded(second % 60),
            MINUTES => self.coded(second / 60 % 60),
            HOURS => self.coded_hour(second / 3600),
            WEEKDAY => self.coded(calendar::weekday(day) + 1),
            DATE => self.coded(date),
            MONTH => self.coded(month),
            YEAR => self.coded((year - self.base_year).rem_euclid(100)),
            _ => self.coded((year - self.base_year).div_euclid(100)),
        }
    }

    /// Puts a time into its registers.
    fn store(&mut self, time: i64) {
        for index in TIME {
            self.put(index, self.register(index, time));
        }
    }

    /// The time that the registers say; values out of range carry.
    fn stored(&self) -> i64 {
        let year = self.base_year + self.decoded(self.at(CENTURY)) * 100 + self.decoded(self.at(YEAR));
        let day = calendar::days(year, self.decoded(self.at(MONTH)), self.decoded(self.at(DATE)));
        day * DAY
            + self.decoded_hour(self.at(HOURS)) * 3600
            + self.decoded(self.at(MINUTES)) * 60
            + self.decoded(self.at(SECONDS))
    }

    /// Lets the time go on from what the registers say, within the second that the divider is in.
    fn resume(&mut self, wall: i64) {
        self.base = self.stored();
        self.anchor = self.second(self.seconds_at(wall));
    }

    /// Seconds from `time` until the alarm goes off: at least one, at most a day.
    fn to_alarm(&self, time: i64) -> Option<i64> {
        let matches = |alarm: u8, value: u8| alarm & 0xc0 == 0xc0 || alarm == value;
        let second = |n: i64| matches(self.at(SECONDS + 1), self.coded(n));
        let minute = |n: i64| matches(self.at(MINUTES + 1), self.coded(n));
        let hour = |n: i64| matches(self.at(HOURS + 1), self.coded_hour(n));
        let start = time.rem_euclid(DAY) + 1;
        // The first second after `start` within the minute, else the first one of a later minute, and so on.
        let first = |from: i64, end: i64, test: &dyn Fn(i64) -> bool| (from..end).find(|n| test(*n));
        let (first_second, first_minute) = (first(0, 60, &second)?, first(0, 60, &minute)?);
        for day in 0..2 {
            let start = if day == 0 { start } else { 0 };
            for h in (start / 3600..24).filter(|h| hour(*h)) {
                let from = (start - h * 3600).max(0);
                if from == 0 {
                    return Some(day * DAY + h * 3600 + first_minute * 60 + first_second - (start_of(time)));
                }
                for m in (from / 60..60).filter(|m| minute(*m)) {
                    let from = (from - m * 60).max(0);
                    if let Some(s) = first(from, 60, &second) {
                        return Some(day * DAY + h * 3600 + m * 60 + s - start_of(time));
                    }
                }
            }
        }
        None
    }

    /// The periodic interrupt's period in ticks of the time base, if a rate is chosen.
    fn period(&self) -> Option<i128> {
        let rate = self.at(A) & 15;
        match rate {
            _ if !self.divider_runs() => None,
            0 => None,
            // The two slowest codes of the faster time bases mean 256 and 128 Hz here.
            1 | 2 => Some(1 << (rate + 6)),
            _ => Some(1 << (rate - 1)),
        }
    }

    /// How many periods have passed between the anchor and a wall-clock time.
    fn periods_at(&self, wall: i64, period: i128) -> i128 {
        let passed = i128::from(wall) - i128::from(self.anchor);
        (passed * TICKS).div_euclid(i128::from(NANOSECONDS) * period)
    }

    /// Raises the flags of what has happened up to now.
    fn advance(&mut self, wall: i64) {
        if wall <= self.seen {
            // A host's clock may be set back; nothing happens twice.
            self.seen = wall;
            return;
        }
        let mut flags = 0;
        if self
            .period()
            .is_some_and(|period| self.periods_at(wall, period) > self.periods_at(self.seen, period))
        {
            flags |= C_PF;
        }
        let seconds = self.seconds_at(wall) - self.seconds_at(self.seen);
        if self.runs() && seconds > 0 {
            flags |= C_UF;
            if self.to_alarm(self.time_at(self.seen)).is_some_and(|until| until <= seconds) {
                flags |= C_AF;
            }
        }
        self.put(C, self.at(C) | flags);
        self.seen = wall;
    }

    /// Whether the interrupt output is active: a flag is up whose interrupt is enabled.
    fn interrupts(&self) -> bool {
        self.at(C) & self.at(B) & (C_PF | C_AF | C_UF) != 0
    }

    /// The wall-clock time of the next enabled interrupt, unless one is pending already.
    fn next(&self) -> Option<i64> {
        if self.interrupts() {
            return None;
        }
        let enabled = self.at(B);
        let wall = self.seen;
        let periodic = self.period().filter(|_| enabled & B_PIE != 0).map(|period| {
            let ticks = (self.periods_at(wall, period) + 1) * period;
            let after = (ticks * i128::from(NANOSECONDS) + TICKS - 1).div_euclid(TICKS);
            self.anchor.saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
        });
        let now = self.seconds_at(wall);
        let update = (self.runs() && enabled & B_UIE != 0).then(|| self.second(now + 1));
        let alarm = (self.runs() && enabled & B_AIE != 0)
            .then(|| self.to_alarm(self.time_at(wall)))
            .flatten()
            .map(|until| self.second(now + until));
        [periodic, update, alarm].into_iter().flatten().min()
    }

    fn read(&mut self, wall: i64) -> u8 {
        match self.index {
            index if TIME.contains(&index) && self.runs() => self.register(index, self.time_at(wall)),
            A => {
                let phase = wall.saturating_sub(self.anchor).rem_euclid(NANOSECONDS);
                let updating = self.runs() && NANOSECONDS - phase <= UPDATE;
                self.at(A) | if updating { A_UIP } else { 0 }
            }
            C => {
                let irqf = if self.interrupts() { C_IRQF } else { 0 };
                let flags = self.at(C) | irqf;
                self.put(C, 0);
                flags
            }
            index => self.at(index),
        }
    }

    fn write(&mut self, value: u8, wall: i64) {
        let ran = self.runs();
        match self.index {
            index if TIME.contains(&index) => {
                if ran {
                    self.store(self.time_at(wall));
                }
                self.put(index, value);
                if ran {
                    self.resume(wall);
                }
            }
            A => {
                if ran {
                    self.store(self.time_at(wall));
                }
                let divided = self.divider_runs();
                self.put(A, value & !A_UIP);
                if !divided && self.divider_runs() {
                    // The first update comes half a second after the divider is let go.
                    self.anchor = wall.saturating_sub(NANOSECONDS / 2);
                    self.seen = wall;
                }
                if self.runs() {
                    self.resume(wall);
                }
            }
            B => {
                if ran {
                    self.store(self.time_at(wall));
                }
                // SET ends the update interrupt.
                let value = if value & B_SET != 0 { value & !B_UIE } else { value };
                let format = (value ^ self.at(B)) & (B_BINARY | B_24_HOURS);
                let shown = self.stored();
                self.put(B, value);
                if ran && format != 0 {
                    self.store(shown);
                }
                if self.runs() {
                    self.resume(wall);
                }
            }
            C | D => {}
            index => self.put(index, value),
        }
    }
}

/// The second of its day.
fn start_of(time: i64) -> i64 {
    time.rem_euclid(DAY)
}

impl fmt::Debug for Mc146818 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mc146818").field("base_year", &self.base_year).finish_non_exhaustive()
    }
}

impl Mc146818 {
    /// A chip that shows this wall clock's date; its century byte counts from `base_year`.
    pub fn new(wall: &WallClock, base_year: u16) -> Arc<Mc146818> {
        let now = wall.now();
        let base_year = i64::from(base_year);
        let mut state = State {
            base_year,
            index: 0,
            bytes: [0; 128],
            base: now.div_euclid(NANOSECONDS),
            anchor: now - now.rem_euclid(NANOSECONDS),
            seen: now,
        };
        for (index, value) in [(A, A_AT_POWER_ON), (B, B_24_HOURS), (D, D_VRT)] {
            state.put(index, value);
        }
        let chip = Arc::new(Mc146818 {
            wall: wall.clone(),
            base_year,
            irq: IrqLine::new("mc146818rtc.irq"),
            cell: DeviceCell::new(state),
            timer: OnceLock::new(),
            arming: Mutex::new(()),
        });
        let weak = Arc::downgrade(&chip);
        let timer = wall.clock().timer(move || {
            if let Some(chip) = weak.upgrade() {
                chip.with(|_, _| ());
            }
        });
        let _ = chip.timer.set(timer);
        chip
    }

    /// Puts a byte into the RAM, as a board's firmware or battery does.
    pub fn set_byte(&self, index: u8, value: u8) {
        self.cell.with(|state, _| state.put(index & 0x7f, value));
    }

    /// High while an enabled interrupt is pending (the chip's IRQ pin is active low).
    pub fn irq(&self) -> &IrqLine {
        &self.irq
    }

    /// The two ports, with the window on the first one that is a region of its own in QEMU: (both, the window).
    pub fn regions(self: &Arc<Self>, owner: &Owner) -> (Region, Region) {
        (
            Region::io("rtc", 2, Ports(self.clone())).owner(owner),
            Region::io("rtc-index", 1, Ports(self.clone())).owner(owner),
        )
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("mc146818rtc")
            .gpio_out("", 1)
            .number("base_year", self.base_year.unsigned_abs())
            .number("iobase", BASE.into())
            .number("irq", 8)
            .text("lost_tick_policy", "discard")
    }

    /// Brings the flags up to now, changes the state, drives the line and arms the timer.
    fn with<R>(&self, f: impl FnOnce(&mut State, i64) -> R) -> R {
        let (result, next_changed) = self.cell.with(|state, effects: &mut Effects| {
            let wall = self.wall.now();
            let before = (state.seen, state.next());
            state.advance(wall);
            let result = f(state, wall);
            effects.line(&self.irq, state.interrupts());
            (result, before.1 != state.next() || before.1.is_some_and(|next| next <= wall))
        });
        if next_changed {
            self.arm();
        }
        result
    }

    fn arm(&self) {
        let _guard = self.arming.lock();
        let next = self.cell.peek(State::next);
        let Some(timer) = self.timer.get() else { return };
        match next {
            Some(next) => timer.arm(self.wall.deadline(next)),
            None => timer.cancel(),
        }
    }

    fn read(&self, offset: u64) -> u8 {
        if offset & 1 == 0 { 0xff } else { self.with(State::read) }
    }

    fn write(&self, offset: u64, value: u8) {
        if offset & 1 == 0 {
            let index = value & 0x7f;
            self.cell.with(|state, _| state.index = if index == PS2_CENTURY { CENTURY } else { index });
        } else {
            self.with(|state, wall| state.write(value, wall));
        }
    }
}

impl Reset for Mc146818 {
    fn reset(&self) {
        self.with(|state, _| {
            state.put(B, state.at(B) & !(B_PIE | B_AIE | B_UIE | B_SQWE));
            state.put(C, 0);
            state.index = 0;
        });
    }
}

struct Ports(Arc<Mc146818>);

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
