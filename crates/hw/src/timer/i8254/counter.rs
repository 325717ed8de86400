//! One counter of the 8254: its counting element, its registers, its output.
//!
//! Pure state, asked with the number of the clock pulse that it is now; nothing here knows time or interrupts. What must
//! always hold: `now` never goes backwards, and [`Counter::settle`] has been called for it before anything else is asked.
//! (8254 data sheet, "Operational description" and "Mode definitions".)

/// Which of a count's bytes are accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Bytes {
    /// Before the first control word: as `Low`, and 0 in the status.
    #[default]
    Unset,
    Low,
    High,
    Both,
}

/// A latched count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Latched {
    count: u16,
    /// Its lower byte has been read.
    upper: bool,
}

/// The counting element, counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// The initial count: 1 to 65536, or to 10000 in BCD.
    count: i64,
    /// Pulses counted before `since`.
    counted: i64,
    /// From which pulse on it counts; `None` while the gate forbids it.
    since: Option<i64>,
    /// In mode 3: it began with the low half.
    low_first: bool,
}

#[derive(Debug)]
pub(super) struct Counter {
    /// 0 to 7 as programmed; 6 and 7 are 2 and 3.
    mode: u8,
    bcd: bool,
    bytes: Bytes,
    pub(super) gate: bool,
    /// The first byte of a count of two.
    first: Option<u8>,
    /// The count register as written.
    register: u16,
    /// What the counting element shows while it does not count.
    held: u16,
    run: Option<Run>,
    /// A count that replaces the one in `run` at the end of its period, at this pulse.
    next: Option<(i64, Run)>,
    /// The null count flag: what was programmed last is not being counted yet.
    null: bool,
    /// A count has been written since the control word, so that a trigger can load it.
    armed: bool,
    status: Option<u8>,
    latched: Option<Latched>,
    /// The next byte read of a count that is not latched is the upper one.
    upper: bool,
}

impl Default for Counter {
    fn default() -> Counter {
        Counter {
            mode: 3,
            bcd: false,
            bytes: Bytes::Unset,
            gate: true,
            first: None,
            register: 0,
            held: 0,
            run: None,
            next: None,
            null: false,
            armed: true,
            status: None,
            latched: None,
            upper: false,
        }
    }
}

impl Run {
    fn elapsed(&self, now: i64) -> i64 {
        self.counted + self.since.map_or(0, |since| (now - since).max(0))
    }

    /// In mode 3: how long the output is high, of a period.
    fn high_half(&self) -> i64 {
        (self.count + 1) / 2
    }

    /// Where in its period it is, counted from the beginning of the high half in mode 3.
    fn position(&self, now: i64) -> i64 {
        let shift = if self.low_first { self.high_half() } else { 0 };
        (self.elapsed(now) + shift) % self.count
    }
}

impl Counter {
    fn kind(&self) -> u8 {
        if self.mode > 5 { self.mode - 4 } else { self.mode }
    }

    fn modulus(&self) -> i64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    /// The count that a register's value means; 0 is the largest.
    fn decode(&self, value: u16) -> i64 {
        let value = i64::from(value);
        let count = if self.bcd {
            (value >> 12) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 + (value & 15)
        } else {
            value
        };
        if count == 0 { self.modulus() } else { count }
    }

    fn encode(&self, count: i64) -> u16 {
        let count = count.rem_euclid(self.modulus());
        if self.bcd {
            [1, 10, 100, 1000]
                .into_iter()
                .rev()
                .fold(0, |coded, unit| coded << 4 | (count / unit % 10) as u16)
        } else {
            count as u16
        }
    }

    /// Lets a count whose time has come replace the one before.
    pub(super) fn settle(&mut self, now: i64) {
        if let Some((pulse, run)) = self.next.filter(|(pulse, _)| *pulse <= now) {
            debug_assert!(run.since == Some(pulse), "it begins at its pulse");
            self.run = Some(run);
            self.null = false;
            self.next = None;
        }
    }

    /// What the counting element shows.
    fn count(&self, now: i64) -> u16 {
        let Some(run) = &self.run else { return self.held };
        let elapsed = run.elapsed(now);
        if elapsed == 0 && !(self.kind() == 3 && run.count % 2 != 0) {
            // Also for digits that BCD does not have: what was written is what is read.
            return self.register_of(run);
        }
        match self.kind() {
            2 => self.encode(run.count - elapsed % run.count),
            3 => {
                let position = run.position(now);
                let half = if position < run.high_half() { position } else { position - run.high_half() };
                self.encode((run.count & !1) - 2 * half)
            }
            _ => self.encode(run.count - elapsed),
        }
    }

    fn register_of(&self, run: &Run) -> u16 {
        if self.next.is_none() && self.decode(self.register) == run.count {
            self.register
        } else {
            self.encode(run.count)
        }
    }

    /// The output pin.
    pub(super) fn out(&self, now: i64) -> bool {
        let Some(run) = &self.run else { return self.kind() != 0 };
        let elapsed = run.elapsed(now);
        match self.kind() {
            0 => elapsed >= run.count && self.first.is_none(),
            1 => elapsed >= run.count,
            2 => !self.gate || elapsed % run.count != run.count - 1,
            3 => !self.gate || run.position(now) < run.high_half(),
            _ => elapsed != run.count,
        }
    }

    /// The pulse of the output's next rising edge after `now`, if one is to come by itself.
    pub(super) fn next_rise(&self, now: i64) -> Option<i64> {
        let run = self.run.as_ref()?;
        run.since?;
        let elapsed = run.elapsed(now);
        match (self.kind(), &self.next) {
            // The output falls when the new count comes, and rises after its low half.
            (3, Some((pulse, next))) if next.low_first => {
                return Some(pulse.saturating_add(next.count - next.high_half()));
            }
            (_, Some((pulse, _))) => return Some(*pulse),
            // A period of one is not allowed, and has no edges.
            (2 | 3, None) if run.count < 2 => return None,
            _ => {}
        }
        let left = match self.kind() {
            2 => run.count - elapsed % run.count,
            3 => run.count - run.position(now),
            0 | 1 => run.count - elapsed,
            _ => run.count - elapsed + 1,
        };
        (left > 0).then(|| now.saturating_add(left))
    }

    /// Whether it counts, in pulses fewer than these.
    pub(super) fn is_shorter_than(&self, pulses: i64) -> bool {
        self.run.as_ref().is_some_and(|run| run.count < pulses)
    }

    /// Begins counting from the count register at this pulse.
    pub(super) fn load(&mut self, now: i64) {
        let counts = match self.kind() {
            1 | 5 => true,
            _ => self.gate,
        };
        self.next = None;
        self.null = false;
        self.run = Some(Run {
            count: self.decode(self.register),
            counted: 0,
            since: counts.then_some(now),
            low_first: false,
        });
    }

    /// A count is complete in the count register.
    fn written(&mut self, now: i64) {
        self.armed = true;
        self.null = true;
        match (self.kind(), &self.run) {
            // These wait for their trigger. Until then the counting element holds anything.
            (1 | 5, None) => self.held = self.register,
            // No pulse has come since the trigger, so the count before was never loaded.
            (1 | 5, Some(run)) if run.elapsed(now) == 0 => self.load(now),
            (1 | 5, Some(_)) => {}
            (kind @ (2 | 3), Some(run)) if run.elapsed(now) > 0 && run.since.is_some() => {
                let (position, half) = (run.position(now), run.high_half());
                let low_next = kind == 3 && position < half && run.count > 1;
                let left = if low_next { half - position } else { run.count - position };
                let pulse = now.saturating_add(left);
                let count = self.decode(self.register);
                let run = Run { count, counted: 0, since: Some(pulse), low_first: low_next && count > 1 };
                self.next = Some((pulse, run));
            }
            _ => self.load(now),
        }
    }

    pub(super) fn write(&mut self, value: u8, now: i64) {
        self.register = match (self.bytes, self.first) {
            (Bytes::Unset | Bytes::Low, _) => value.into(),
            (Bytes::High, _) => u16::from(value) << 8,
            (Bytes::Both, Some(low)) => u16::from(value) << 8 | u16::from(low),
            (Bytes::Both, None) => {
                self.first = Some(value);
                if self.kind() == 0 {
                    // Counting stops until the second byte comes.
                    self.stop(now);
                }
                return;
            }
        };
        self.first = None;
        self.written(now);
    }

    fn stop(&mut self, now: i64) {
        if let Some(run) = &mut self.run {
            run.counted = run.elapsed(now);
            run.since = None;
        }
    }

    pub(super) fn set_gate(&mut self, gate: bool, now: i64) {
        let rises = gate && !self.gate;
        let falls = !gate && self.gate;
        self.gate = gate;
        match self.kind() {
            0 | 4 => {
                if falls {
                    self.stop(now);
                } else if let (true, None, Some(run)) = (rises, self.first, &mut self.run) {
                    run.since = Some(now);
                }
            }
            1 | 5 => {
                // A trigger before the first count has nothing to start.
                if rises && self.armed {
                    self.load(now);
                }
            }
            _ => {
                if falls {
                    self.stop(now);
                    self.next = None;
                } else if rises && self.run.is_some() {
                    self.load(now);
                }
            }
        }
    }

    /// A control word.
    pub(super) fn program(&mut self, word: u8, now: i64) {
        self.held = self.count(now);
        self.run = None;
        self.next = None;
        self.first = None;
        self.upper = false;
        self.status = None;
        self.latched = None;
        self.null = true;
        self.armed = false;
        self.bytes = match word >> 4 & 3 {
            1 => Bytes::Low,
            2 => Bytes::High,
            _ => Bytes::Both,
        };
        self.mode = word >> 1 & 7;
        self.bcd = word & 1 != 0;
    }

    pub(super) fn latch_status(&mut self, now: i64) {
        let bytes = match self.bytes {
            Bytes::Unset => 0,
            Bytes::Low => 1,
            Bytes::High => 2,
            Bytes::Both => 3,
        };
        let status = u8::from(self.out(now)) << 7
            | u8::from(self.null) << 6
            | bytes << 4
            | self.mode << 1
            | u8::from(self.bcd);
        self.status.get_or_insert(status);
    }

    pub(super) fn latch_count(&mut self, now: i64) {
        let count = self.count(now);
        self.latched.get_or_insert(Latched { count, upper: false });
    }

    pub(super) fn read(&mut self, now: i64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let count = self.latched.map_or_else(|| self.count(now), |latched| latched.count);
        let upper = match self.bytes {
            Bytes::Unset | Bytes::Low => false,
            Bytes::High => true,
            Bytes::Both => {
                let phase = self.latched.as_mut().map_or(&mut self.upper, |latched| &mut latched.upper);
                *phase = !*phase;
                !*phase
            }
        };
        if upper || self.bytes != Bytes::Both {
            self.latched = None;
        }
        if upper { (count >> 8) as u8 } else { count as u8 }
    }
}
