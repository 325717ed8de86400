//! The chip's registers: what they show and what writing them asks for. Nothing here touches memory or the bus.

use super::connection::{Connection, Disconnected, Phase};

/// Bytes of registers; beyond them nothing answers.
pub(super) const REGISTERS: usize = 0x60;
/// Bytes of `lsi-ram`, which QEMU gives to this chip too.
pub(super) const RAM: usize = 0x2000;

/// Offsets of registers.
pub(super) mod reg {
    pub const SCNTL0: usize = 0x00;
    pub const SCNTL1: usize = 0x01;
    pub const SCID: usize = 0x04;
    pub const SDID: usize = 0x06;
    pub const SFBR: usize = 0x08;
    pub const SOCL: usize = 0x09;
    pub const SSID: usize = 0x0a;
    pub const SBCL: usize = 0x0b;
    pub const DSTAT: usize = 0x0c;
    pub const SSTAT0: usize = 0x0d;
    pub const SSTAT1: usize = 0x0e;
    pub const SSTAT2: usize = 0x0f;
    pub const DSA: usize = 0x10;
    pub const ISTAT: usize = 0x14;
    pub const CTEST1: usize = 0x19;
    pub const CTEST2: usize = 0x1a;
    pub const TEMP: usize = 0x1c;
    pub const DFIFO: usize = 0x20;
    pub const DBC: usize = 0x24;
    pub const DNAD: usize = 0x28;
    pub const DSP: usize = 0x2c;
    pub const DSPS: usize = 0x30;
    pub const DMODE: usize = 0x38;
    pub const DIEN: usize = 0x39;
    pub const DCNTL: usize = 0x3b;
    pub const ADDER: usize = 0x3c;
    pub const SIEN0: usize = 0x40;
    pub const SIEN1: usize = 0x41;
    pub const SIST0: usize = 0x42;
    pub const SIST1: usize = 0x43;
    pub const MACNTL: usize = 0x46;
    pub const GPCNTL: usize = 0x47;
    pub const STIME1: usize = 0x49;
    pub const SIDL: usize = 0x50;
    pub const SBDL: usize = 0x58;
}

pub(super) const DSTAT_ILLEGAL: u8 = 1;
pub(super) const DSTAT_SCRIPT: u8 = 1 << 2;
pub(super) const DSTAT_STEP: u8 = 1 << 3;
pub(super) const DSTAT_ABORT: u8 = 1 << 4;
pub(super) const DSTAT_BUS_FAULT: u8 = 1 << 5;
pub(super) const DSTAT_FIFO_EMPTY: u8 = 1 << 7;
pub(super) const ISTAT_DMA: u8 = 1;
pub(super) const ISTAT_SCSI: u8 = 1 << 1;
pub(super) const ISTAT_ON_THE_FLY: u8 = 1 << 2;
pub(super) const ISTAT_SEMAPHORE: u8 = 1 << 4;
pub(super) const ISTAT_SIGNAL: u8 = 1 << 5;
pub(super) const ISTAT_SOFT_RESET: u8 = 1 << 6;
pub(super) const ISTAT_ABORT: u8 = 1 << 7;
pub(super) const SIST0_RESET: u8 = 1 << 1;
pub(super) const SIST0_UNEXPECTED_DISCONNECT: u8 = 1 << 2;
pub(super) const SIST0_RESELECTED: u8 = 1 << 4;
pub(super) const SIST0_PHASE_MISMATCH: u8 = 1 << 7;
pub(super) const SIST1_GENERAL_TIMER: u8 = 1 << 1;
pub(super) const SIST1_SELECTION_TIMEOUT: u8 = 1 << 2;
pub(super) const SCNTL1_RESET: u8 = 1 << 3;
pub(super) const SCNTL1_CONNECTED: u8 = 1 << 4;
pub(super) const SCID_RESPOND_RESELECT: u8 = 1 << 6;
pub(super) const SOCL_ATN: u8 = 1 << 3;
pub(super) const SBCL_REQUEST_BUSY: u8 = 1 << 7 | 1 << 5;
pub(super) const SSTAT0_RESET: u8 = 1 << 1;
pub(super) const SSTAT0_WON_ARBITRATION: u8 = 1 << 2;
pub(super) const SSTAT2_LAST_DISCONNECT: u8 = 1 << 1;
pub(super) const DMODE_MANUAL: u8 = 1;
pub(super) const DCNTL_START: u8 = 1 << 2;
pub(super) const DCNTL_STEP: u8 = 1 << 4;

/// What SCRIPTS are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Stopped,
    Running,
    /// For somebody to reselect the chip; SIGP goes on at this address.
    Reselect(u32),
}

/// What a change of the registers asks for, once the lock is let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// SCRIPTS are to be run.
    pub start: bool,
    /// Everybody on the bus is to be reset.
    pub bus_reset: bool,
    /// The general purpose timer is to be set: STIME1's value.
    pub timer: Option<u8>,
}

impl Asked {
    pub(super) const NOTHING: Asked = Asked { start: false, bus_reset: false, timer: None };

    fn start(start: bool) -> Asked {
        Asked { start, ..Asked::NOTHING }
    }
}

pub(super) struct State {
    bytes: [u8; REGISTERS],
    pub ram: Box<[u8; RAM]>,
    pub script: Script,
    /// Which start of SCRIPTS it was: whoever runs an earlier one stops.
    pub start: u64,
    pub carry: bool,
    /// Somebody runs SCRIPTS now.
    pub runner: bool,
    /// The target that has the bus.
    pub connection: Option<Connection>,
    /// Targets that let go of the bus and will come back, the oldest first.
    pub disconnected: Vec<Disconnected>,
    /// Numbers connections.
    pub connections: u64,
}

impl State {
    pub(super) fn new() -> State {
        let mut state = State {
            bytes: [0; REGISTERS],
            ram: Box::new([0; RAM]),
            script: Script::Stopped,
            start: 0,
            carry: false,
            runner: false,
            connection: None,
            disconnected: Vec::new(),
            connections: 0,
        };
        state.reset();
        state
    }

    /// As by the chip's reset; what is in its RAM stays. Targets find their commands gone.
    pub(super) fn reset(&mut self) {
        self.bytes = [0; REGISTERS];
        self.put(reg::SCNTL0, 0xc0);
        self.put(reg::DSTAT, DSTAT_FIFO_EMPTY);
        self.put(reg::CTEST1, 0xf0);
        self.put(reg::CTEST2, 1);
        self.put(reg::MACNTL, 0x60);
        self.put(reg::GPCNTL, 0x0f);
        self.script = Script::Stopped;
        self.carry = false;
        self.connection = None;
        self.disconnected.clear();
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    pub(super) fn put(&mut self, at: usize, value: u8) {
        if let Some(slot) = self.bytes.get_mut(at) {
            *slot = value;
        }
    }

    pub(super) fn long(&self, at: usize) -> u32 {
        (0..4).fold(0, |word, n| word | u32::from(self.byte(at + n)) << (8 * n))
    }

    pub(super) fn put_long(&mut self, at: usize, value: u32) {
        for (n, byte) in value.to_le_bytes().into_iter().enumerate() {
            self.put(at + n, byte);
        }
    }

    /// How many bytes a block move has left; nothing of them is in the FIFO.
    pub(super) fn put_count(&mut self, count: u32) {
        let [low, mid, high, _] = count.to_le_bytes();
        for (at, byte) in [(0, low), (1, mid), (2, high)] {
            self.put(reg::DBC + at, byte);
        }
        self.put(reg::DFIFO, low & 0x7f);
    }

    /// The phase that the bus shows; a free bus shows 0.
    pub(super) fn phase(&self) -> u8 {
        self.connection.as_ref().map_or(Phase::DataOut as u8, |connection| connection.phase as u8)
    }

    /// What a register shows, without what reading it does.
    pub(super) fn look(&self, at: usize) -> u8 {
        let connected = self.connection.is_some();
        match at {
            reg::ISTAT => {
                let dma = if self.byte(reg::DSTAT) & !DSTAT_FIFO_EMPTY != 0 { ISTAT_DMA } else { 0 };
                let scsi = self.byte(reg::SIST0) | self.byte(reg::SIST1) != 0;
                self.byte(at) | dma | if scsi { ISTAT_SCSI } else { 0 }
            }
            reg::CTEST2 => self.byte(at) | if self.byte(reg::ISTAT) & ISTAT_SIGNAL != 0 { 1 << 6 } else { 0 },
            reg::SCNTL1 => self.byte(at) & !SCNTL1_CONNECTED | if connected { SCNTL1_CONNECTED } else { 0 },
            reg::SBCL if connected => SBCL_REQUEST_BUSY | self.byte(reg::SOCL) & SOCL_ATN | self.phase(),
            reg::SSTAT1 => self.phase(),
            reg::SSTAT2 => {
                if connected {
                    0
                } else {
                    SSTAT2_LAST_DISCONNECT
                }
            }
            _ => self.byte(at),
        }
    }

    pub(super) fn read(&mut self, at: usize) -> u8 {
        let value = self.look(at);
        match at {
            reg::DSTAT => self.put(at, DSTAT_FIFO_EMPTY),
            reg::SIST0 | reg::SIST1 => self.put(at, 0),
            reg::CTEST2 => {
                let istat = self.byte(reg::ISTAT);
                self.put(reg::ISTAT, istat & !ISTAT_SIGNAL);
            }
            _ => {}
        }
        value
    }

    /// Writes a register; what that asks for.
    pub(super) fn write(&mut self, at: usize, value: u8) -> Asked {
        match at {
            reg::SSID
            | reg::SBCL
            | reg::DSTAT..=reg::SSTAT2
            | reg::CTEST1
            | reg::ADDER..=0x3f
            | reg::SIST0
            | reg::SIST1
            | reg::SIDL
            | reg::SBDL => {}
            reg::SCNTL1 => {
                let rises = value & !self.byte(at) & SCNTL1_RESET != 0;
                self.put(at, value);
                if rises {
                    self.put(reg::SSTAT0, self.byte(reg::SSTAT0) | SSTAT0_RESET);
                    self.put(reg::SIST0, self.byte(reg::SIST0) | SIST0_RESET);
                    self.connection = None;
                    self.disconnected.clear();
                    return Asked { bus_reset: true, ..Asked::NOTHING };
                }
                if value & SCNTL1_RESET == 0 {
                    self.put(reg::SSTAT0, self.byte(reg::SSTAT0) & !SSTAT0_RESET);
                }
            }
            reg::ISTAT => return self.write_istat(value),
            reg::CTEST2 => self.put(at, self.byte(at) & 1 | value & 0x0a),
            reg::MACNTL => self.put(at, self.byte(at) & 0xf0 | value & 0x0f),
            reg::STIME1 => {
                self.put(at, value);
                return Asked { timer: Some(value), ..Asked::NOTHING };
            }
            reg::DSP..=0x2f => {
                self.put(at, value);
                if at == reg::DSP + 3 && self.byte(reg::DMODE) & DMODE_MANUAL == 0 {
                    return Asked::start(self.begin());
                }
            }
            reg::DCNTL => {
                self.put(at, value & !DCNTL_START);
                if value & DCNTL_START != 0 {
                    return Asked::start(self.begin());
                }
            }
            _ => self.put(at, value),
        }
        Asked::NOTHING
    }

    fn write_istat(&mut self, value: u8) -> Asked {
        if value & ISTAT_SOFT_RESET != 0 {
            self.reset();
            return Asked::NOTHING;
        }
        let kept = self.byte(reg::ISTAT) & ISTAT_ON_THE_FLY & !value;
        let settable = ISTAT_SEMAPHORE | ISTAT_SIGNAL | ISTAT_ABORT;
        self.put(reg::ISTAT, kept | value & settable);
        if value & ISTAT_ABORT != 0 {
            self.stop(DSTAT_ABORT);
        } else if value & ISTAT_SIGNAL != 0
            && let Script::Reselect(other) = self.script
        {
            self.put_long(reg::DSP, other);
            return Asked::start(self.begin());
        }
        Asked::NOTHING
    }

    /// Starts SCRIPTS; a program that runs already goes on at the new place.
    pub(super) fn begin(&mut self) -> bool {
        let starts = self.script != Script::Running;
        self.script = Script::Running;
        self.start += u64::from(starts);
        starts
    }

    /// Stops SCRIPTS with these bits of DSTAT.
    pub(super) fn stop(&mut self, why: u8) {
        self.script = Script::Stopped;
        self.put(reg::DSTAT, self.byte(reg::DSTAT) | why);
    }

    /// Stops SCRIPTS with this bit of SIST0.
    pub(super) fn stop_scsi(&mut self, why: u8) {
        self.script = Script::Stopped;
        self.put(reg::SIST0, self.byte(reg::SIST0) | why);
    }

    pub(super) fn interrupts(&self) -> bool {
        let pending = |status: usize, enable: usize| self.byte(status) & self.byte(enable) & 0x7f != 0;
        self.byte(reg::ISTAT) & ISTAT_ON_THE_FLY != 0
            || pending(reg::DSTAT, reg::DIEN)
            || self.byte(reg::SIST0) & self.byte(reg::SIEN0) != 0
            || pending(reg::SIST1, reg::SIEN1)
    }

    /// Whether a target that comes back may interrupt for it.
    fn listens(&self) -> bool {
        self.byte(reg::SCID) & SCID_RESPOND_RESELECT != 0 && self.byte(reg::SIEN0) & SIST0_RESELECTED != 0
    }

    /// Gives the bus to a target that comes back with something, if there is one.
    pub(super) fn let_back(&mut self) -> bool {
        let Some(at) = self.disconnected.iter().position(|one| one.ready) else { return false };
        let connection = self.disconnected.remove(at).connection;
        self.put(reg::SSID, 0x80 | connection.target);
        self.connection = Some(connection.back());
        true
    }

    /// Lets a target come back if the chip waits for one, or hears one; whether SCRIPTS go on by that.
    pub(super) fn reselect(&mut self) -> bool {
        let waits = matches!(self.script, Script::Reselect(_));
        let interrupted = self.look(reg::ISTAT) & (ISTAT_DMA | ISTAT_SCSI) != 0;
        let hears = self.script == Script::Stopped && self.listens() && !interrupted;
        if self.connection.is_some() || !(waits || hears) || !self.let_back() {
            return false;
        }
        if hears {
            self.put(reg::SIST0, self.byte(reg::SIST0) | SIST0_RESELECTED);
            return false;
        }
        self.begin()
    }
}
