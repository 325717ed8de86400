//! `lsi53c810`: the registers of NCR's 53C810 SCSI controller and the processor in it that runs SCRIPTS, on a bus without
//! any device.
//!
//! SCRIPTS are little-endian programs in memory, read through the function's bus-master space from the moment in which
//! the last byte of DSP is written. As nobody answers on the bus, a selection ends at once with a selection time-out, a wait for
//! reselection lasts until ISTAT's SIGP, and data phases do not come; jumps, calls, interrupts, memory moves, loads and
//! stores, and register arithmetic are what they are on the chip. Not modelled: devices on the bus, the general purpose
//! and handshake timers, low-level and target mode. What must always hold: SCRIPTS run without the device's lock, at most
//! one program at a time, and a program without an end leaves the guest's CPUs running. (Symbios Logic, *SYM53C810A PCI-SCSI
//! I/O Processor Data Manual*, chapters 4 and 5; QEMU has the same device and calls it the same.)
//!
//! | offset | register | |
//! |---|---|---|
//! | 0c | DSTAT | reading clears; bits 0 illegal instruction, 2 interrupt by SCRIPTS, 3 single step, 4 abort, 5 bus fault, 7 FIFO empty |
//! | 14 | ISTAT | bits 0 DMA interrupt, 1 SCSI interrupt, 2 interrupt on the fly (1 clears), 4 semaphore, 5 signal process, 6 soft reset, 7 abort |
//! | 2c | DSP | where SCRIPTS are; the last byte starts them, unless DMODE bit 0 is set |
//! | 39, 40, 41 | DIEN, SIEN0, SIEN1 | which bits of DSTAT, SIST0 and SIST1 reach the interrupt line |
//! | 42, 43 | SIST0, SIST1 | reading clears; SIST0 bit 1 SCSI reset, SIST1 bit 2 selection time-out |

use std::fmt;
use std::sync::{Arc, OnceLock};

use flatview::{
    Access, AccessRules, AddressSpace, DeviceEndian, MemTxError, MmioOps, Owner, Region, WeakSpace,
};
use flatview_device::{Clock, DeviceCell, Effects, IrqLine, Log, LogMask, Reset, Timer};

/// Bytes of registers; beyond them nothing answers.
const REGISTERS: usize = 0x60;
/// Bytes of `lsi-ram`, which QEMU gives to this chip too.
const RAM: usize = 0x2000;
/// Instructions that are run in one go, and how long others have the machine before the next go, in nanoseconds.
const SLICE: u32 = 1_000;
const PAUSE_NS: i64 = 100_000;

/// Offsets of registers.
mod reg {
    pub const SCNTL0: usize = 0x00;
    pub const SCNTL1: usize = 0x01;
    pub const SDID: usize = 0x06;
    pub const SFBR: usize = 0x08;
    pub const SSID: usize = 0x0a;
    pub const SBCL: usize = 0x0b;
    pub const DSTAT: usize = 0x0c;
    pub const SSTAT0: usize = 0x0d;
    pub const SSTAT2: usize = 0x0f;
    pub const DSA: usize = 0x10;
    pub const ISTAT: usize = 0x14;
    pub const CTEST1: usize = 0x19;
    pub const CTEST2: usize = 0x1a;
    pub const TEMP: usize = 0x1c;
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
    pub const SIDL: usize = 0x50;
    pub const SBDL: usize = 0x58;
}

const DSTAT_ILLEGAL: u8 = 1;
const DSTAT_SCRIPT: u8 = 1 << 2;
const DSTAT_STEP: u8 = 1 << 3;
const DSTAT_ABORT: u8 = 1 << 4;
const DSTAT_BUS_FAULT: u8 = 1 << 5;
const DSTAT_FIFO_EMPTY: u8 = 1 << 7;
const ISTAT_DMA: u8 = 1;
const ISTAT_SCSI: u8 = 1 << 1;
const ISTAT_ON_THE_FLY: u8 = 1 << 2;
const ISTAT_SEMAPHORE: u8 = 1 << 4;
const ISTAT_SIGNAL: u8 = 1 << 5;
const ISTAT_SOFT_RESET: u8 = 1 << 6;
const ISTAT_ABORT: u8 = 1 << 7;
const SIST0_RESET: u8 = 1 << 1;
const SIST1_SELECTION_TIMEOUT: u8 = 1 << 2;
const SCNTL1_RESET: u8 = 1 << 3;
const SSTAT0_RESET: u8 = 1 << 1;
const DMODE_MANUAL: u8 = 1;
const DCNTL_START: u8 = 1 << 2;
const DCNTL_STEP: u8 = 1 << 4;

/// The chip.
pub struct Lsi53c810 {
    cell: DeviceCell<State>,
    irq: IrqLine,
    /// What the chip sees as bus master, held weakly: the memory holds the chip.
    space: OnceLock<WeakSpace>,
    timer: OnceLock<Timer>,
    clock: Clock,
    log: Log,
}

impl fmt::Debug for Lsi53c810 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lsi53c810").finish_non_exhaustive()
    }
}

/// What SCRIPTS are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Stopped,
    Running,
    /// For somebody to reselect the chip; SIGP goes on at this address.
    Reselect(u32),
}

struct State {
    bytes: [u8; REGISTERS],
    ram: Box<[u8; RAM]>,
    script: Script,
    /// Which start of SCRIPTS it was: whoever runs an earlier one stops.
    start: u64,
    carry: bool,
}

impl State {
    fn new() -> State {
        let mut state = State {
            bytes: [0; REGISTERS],
            ram: Box::new([0; RAM]),
            script: Script::Stopped,
            start: 0,
            carry: false,
        };
        state.reset();
        state
    }

    /// As by the chip's reset; what is in its RAM stays.
    fn reset(&mut self) {
        self.bytes = [0; REGISTERS];
        self.put(reg::SCNTL0, 0xc0);
        self.put(reg::DSTAT, DSTAT_FIFO_EMPTY);
        self.put(reg::CTEST1, 0xf0);
        self.put(reg::CTEST2, 1);
        self.put(reg::DMODE + 1, 0);
        self.put(reg::MACNTL, 0x60);
        self.put(reg::GPCNTL, 0x0f);
        self.script = Script::Stopped;
        self.carry = false;
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn put(&mut self, at: usize, value: u8) {
        if let Some(slot) = self.bytes.get_mut(at) {
            *slot = value;
        }
    }

    fn long(&self, at: usize) -> u32 {
        (0..4).fold(0, |word, n| word | u32::from(self.byte(at + n)) << (8 * n))
    }

    fn put_long(&mut self, at: usize, value: u32) {
        for (n, byte) in value.to_le_bytes().into_iter().enumerate() {
            self.put(at + n, byte);
        }
    }

    /// What a register shows, without what reading it does.
    fn look(&self, at: usize) -> u8 {
        match at {
            reg::ISTAT => {
                let dma = if self.byte(reg::DSTAT) & !DSTAT_FIFO_EMPTY != 0 { ISTAT_DMA } else { 0 };
                let scsi = self.byte(reg::SIST0) | self.byte(reg::SIST1) != 0;
                self.byte(at) | dma | if scsi { ISTAT_SCSI } else { 0 }
            }
            reg::CTEST2 => self.byte(at) | if self.byte(reg::ISTAT) & ISTAT_SIGNAL != 0 { 1 << 6 } else { 0 },
            _ => self.byte(at),
        }
    }

    fn read(&mut self, at: usize) -> u8 {
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

    /// Writes a register; whether SCRIPTS are to be run.
    fn write(&mut self, at: usize, value: u8) -> bool {
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
                if value & !self.byte(at) & SCNTL1_RESET != 0 {
                    self.put(reg::SSTAT0, self.byte(reg::SSTAT0) | SSTAT0_RESET);
                    self.put(reg::SIST0, self.byte(reg::SIST0) | SIST0_RESET);
                } else if value & SCNTL1_RESET == 0 {
                    self.put(reg::SSTAT0, self.byte(reg::SSTAT0) & !SSTAT0_RESET);
                }
                self.put(at, value);
            }
            reg::ISTAT => return self.write_istat(value),
            reg::CTEST2 => self.put(at, self.byte(at) & 1 | value & 0x0a),
            reg::MACNTL => self.put(at, self.byte(at) & 0xf0 | value & 0x0f),
            reg::DSP..=0x2f => {
                self.put(at, value);
                if at == reg::DSP + 3 && self.byte(reg::DMODE) & DMODE_MANUAL == 0 {
                    return self.begin();
                }
            }
            reg::DCNTL => {
                self.put(at, value & !DCNTL_START);
                if value & DCNTL_START != 0 {
                    return self.begin();
                }
            }
            _ => self.put(at, value),
        }
        false
    }

    fn write_istat(&mut self, value: u8) -> bool {
        if value & ISTAT_SOFT_RESET != 0 {
            self.reset();
            return false;
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
            return self.begin();
        }
        false
    }

    /// Starts SCRIPTS; a program that runs already goes on at the new place.
    fn begin(&mut self) -> bool {
        let starts = self.script != Script::Running;
        self.script = Script::Running;
        self.start += u64::from(starts);
        starts
    }

    /// Stops SCRIPTS with these bits of DSTAT.
    fn stop(&mut self, why: u8) {
        self.script = Script::Stopped;
        self.put(reg::DSTAT, self.byte(reg::DSTAT) | why);
    }

    fn interrupts(&self) -> bool {
        let pending = |status: usize, enable: usize| self.byte(status) & self.byte(enable) & 0x7f != 0;
        self.byte(reg::ISTAT) & ISTAT_ON_THE_FLY != 0
            || pending(reg::DSTAT, reg::DIEN)
            || self.byte(reg::SIST0) & self.byte(reg::SIEN0) != 0
            || pending(reg::SIST1, reg::SIEN1)
    }
}

/// What an instruction wants of memory, once the lock is let go.
enum Then {
    /// The next instruction, or what the state says.
    Next,
    /// Bytes from one place to another.
    Move { from: u32, to: u32, count: u32 },
    /// Registers from memory.
    Load { register: usize, from: u32, count: usize },
    /// Memory from registers.
    Store { register: usize, to: u32, count: usize },
    /// A selection, with the entry of the table that says of whom.
    Select { table: Option<u32>, target: u8 },
}

/// An offset of 24 bits, with its sign.
fn signed24(value: u32) -> u32 {
    ((value << 8) as i32 >> 8) as u32
}

impl Lsi53c810 {
    /// A chip with nobody on its bus.
    pub fn new(clock: &Clock, log: &Log) -> Arc<Lsi53c810> {
        let chip = Arc::new(Lsi53c810 {
            cell: DeviceCell::new(State::new()),
            irq: IrqLine::new("lsi53c810.irq"),
            space: OnceLock::new(),
            timer: OnceLock::new(),
            clock: clock.clone(),
            log: log.clone(),
        });
        let weak = Arc::downgrade(&chip);
        let timer = clock.timer(move || {
            if let Some(chip) = weak.upgrade() {
                let start = chip.cell.peek(|state| state.start);
                chip.run(start);
            }
        });
        let _ = chip.timer.set(timer);
        chip
    }

    /// Tells the chip what it sees as bus master; later calls do nothing.
    pub fn set_space(&self, space: &AddressSpace) {
        let _ = self.space.set(space.downgrade());
    }

    /// The interrupt.
    pub fn irq(&self) -> &IrqLine {
        &self.irq
    }

    /// The registers as `lsi-io` (0x100 bytes) or `lsi-mmio` (0x400 bytes), which both have all of them.
    pub fn registers_region(self: &Arc<Self>, name: &'static str, size: u32, owner: &Owner) -> Region {
        // SCRIPTS may reach the chip's own registers.
        Region::io(name, size.into(), Registers(self.clone())).owner(owner).allow_reentry()
    }

    /// The RAM for SCRIPTS.
    pub fn ram_region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("lsi-ram", RAM as u128, ScriptsRam(self.clone())).owner(owner).allow_reentry()
    }

    fn change<R>(self: &Arc<Self>, f: impl FnOnce(&mut State) -> (R, bool)) -> R {
        self.cell.with(|state, effects| {
            let (result, starts) = f(state);
            self.after(state, effects);
            if starts {
                let (chip, start) = (self.clone(), state.start);
                effects.call(move || chip.run(start));
            }
            result
        })
    }

    fn after(&self, state: &State, effects: &mut Effects) {
        effects.line(&self.irq, state.interrupts());
    }

    /// Runs the program that was started as the `start`-th for a while.
    fn run(self: &Arc<Self>, start: u64) {
        let Some(space) = self.space.get().and_then(WeakSpace::upgrade) else { return };
        for _ in 0..SLICE {
            let here = self.cell.peek(|state| {
                (state.start == start && state.script == Script::Running).then(|| state.long(reg::DSP))
            });
            let Some(dsp) = here else { return };
            if !self.step(&space, dsp) {
                self.change(|state| (state.stop(DSTAT_BUS_FAULT), false));
                return;
            }
        }
        if let Some(timer) = self.timer.get() {
            timer.arm(self.clock.now().saturating_add(PAUSE_NS));
        }
    }

    /// One instruction; whether memory took all accesses.
    fn step(self: &Arc<Self>, space: &AddressSpace, dsp: u32) -> bool {
        let mut bytes = [0; 12];
        let (first, third) = bytes.split_at_mut(8);
        if space.read(dsp.into(), first).is_err() {
            return false;
        }
        let moves = first.get(3).is_some_and(|dcmd| dcmd & 0xe0 == 0xc0);
        if moves && space.read(u64::from(dsp.wrapping_add(8)), third).is_err() {
            return false;
        }
        let word = |n: usize| {
            bytes.get(4 * n..).and_then(|b| b.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let (op, arg, to) = (word(0), word(1), word(2));
        let length = if moves { 12 } else { 8 };
        let then = self.change(|state| {
            state.put_long(reg::DBC, op);
            state.put_long(reg::DSPS, arg);
            state.put_long(reg::DSP, dsp.wrapping_add(length));
            let then = execute(state, op, arg, to, &self.log);
            if state.byte(reg::DCNTL) & DCNTL_STEP != 0 && state.script == Script::Running {
                state.stop(DSTAT_STEP);
            }
            (then, false)
        });
        match then {
            Then::Next => true,
            Then::Move { from, to, count } => {
                let done = copy(space, from, to, count);
                self.change(|state| (state.put_long(reg::DNAD, to.wrapping_add(count)), false));
                done
            }
            Then::Load { register, from, count } => {
                let mut bytes = [0; 4];
                let Some(bytes) = bytes.get_mut(..count) else { return true };
                if space.read(from.into(), bytes).is_err() {
                    return false;
                }
                for (n, byte) in bytes.iter().enumerate() {
                    self.change(|state| ((), state.write(register + n, *byte)));
                }
                true
            }
            Then::Store { register, to, count } => {
                let bytes: Vec<u8> =
                    (0..count).map(|n| self.change(|state| (state.read(register + n), false))).collect();
                space.write(to.into(), &bytes).is_ok()
            }
            Then::Select { table, target } => {
                let mut entry = [0, 0, target, 0];
                if let Some(table) = table
                    && space.read(table.into(), &mut entry).is_err()
                {
                    return false;
                }
                self.change(|state| {
                    state.put(reg::SDID, entry[2] & 7);
                    // Nobody is there to answer.
                    state.stop(0);
                    state.put(reg::SIST1, state.byte(reg::SIST1) | SIST1_SELECTION_TIMEOUT);
                    ((), false)
                });
                true
            }
        }
    }
}

/// Copies through the bus-master space.
fn copy(space: &AddressSpace, from: u32, to: u32, count: u32) -> bool {
    let mut buffer = [0; 4096];
    let mut done = 0;
    while done < count {
        let length = (count - done).min(4096);
        let Some(part) = buffer.get_mut(..length as usize) else { return false };
        let (source, target) = (from.wrapping_add(done), to.wrapping_add(done));
        if space.read(source.into(), part).is_err() || space.write(target.into(), part).is_err() {
            return false;
        }
        done += length;
    }
    true
}

/// What an instruction does to the chip (data manual, chapter 5).
fn execute(state: &mut State, op: u32, arg: u32, to: u32, log: &Log) -> Then {
    let dcmd = op >> 24;
    let relative = |state: &State, offset: u32| state.long(reg::DSP).wrapping_add(signed24(offset));
    match dcmd >> 6 {
        0 => {
            // The bus never gets into a data phase.
            log.line(
                LogMask::GUEST_ERRORS,
                format_args!("lsi53c810: block move {op:#010x} without a connection: SCRIPTS wait for ever"),
            );
            state.script = Script::Stopped;
            Then::Next
        }
        1 if dcmd >> 3 & 7 < 5 => {
            let other = if dcmd & 4 != 0 { relative(state, arg) } else { arg };
            match dcmd >> 3 & 7 {
                0 => {
                    let table = state.long(reg::DSA).wrapping_add(signed24(op));
                    return Then::Select {
                        table: (dcmd & 2 != 0).then_some(table),
                        target: (op >> 16) as u8,
                    };
                }
                // Nobody is connected, so everybody has disconnected.
                1 => {}
                2 if state.byte(reg::ISTAT) & ISTAT_SIGNAL != 0 => state.put_long(reg::DSP, other),
                2 => state.script = Script::Reselect(other),
                set => {
                    if op & 1 << 10 != 0 {
                        state.carry = set == 3;
                    }
                }
            }
            Then::Next
        }
        1 => {
            compute(state, op);
            Then::Next
        }
        2 => {
            let holds = condition(state, op);
            if op & 1 << 16 != 0 && op & 1 << 17 != 0 {
                log.line(
                    LogMask::GUEST_ERRORS,
                    format_args!("lsi53c810: {op:#010x} waits for a phase without a connection, for ever"),
                );
                state.script = Script::Stopped;
                return Then::Next;
            }
            let address = if op & 1 << 23 != 0 { relative(state, arg) } else { arg };
            match dcmd >> 3 & 7 {
                _ if !holds => {}
                0 => state.put_long(reg::DSP, address),
                1 => {
                    state.put_long(reg::TEMP, state.long(reg::DSP));
                    state.put_long(reg::DSP, address);
                }
                2 => state.put_long(reg::DSP, state.long(reg::TEMP)),
                3 if op & 1 << 20 != 0 => {
                    state.put(reg::ISTAT, state.byte(reg::ISTAT) | ISTAT_ON_THE_FLY);
                }
                3 => state.stop(DSTAT_SCRIPT),
                _ => state.stop(DSTAT_ILLEGAL),
            }
            Then::Next
        }
        _ if dcmd & 0x20 == 0 => {
            state.put_long(reg::TEMP, to);
            Then::Move { from: arg, to, count: op & 0xff_ffff }
        }
        _ => {
            let address =
                if dcmd & 0x10 != 0 { state.long(reg::DSA).wrapping_add(signed24(arg)) } else { arg };
            let (register, count) = ((op >> 16 & 0x7f) as usize, (op & 7) as usize);
            if count == 0 || count > 4 {
                state.stop(DSTAT_ILLEGAL);
                return Then::Next;
            }
            match dcmd & 1 {
                0 => Then::Store { register, to: address, count },
                _ => Then::Load { register, from: address, count },
            }
        }
    }
}

/// Whether a transfer of control happens.
fn condition(state: &State, op: u32) -> bool {
    let wanted = op & 1 << 19 != 0;
    if op & 1 << 21 != 0 {
        return state.carry == wanted;
    }
    let phase = op & 1 << 17 != 0;
    let data = op & 1 << 18 != 0;
    let mask = !(op >> 8) as u8;
    // A free bus shows the phase "data out", 0.
    let same_phase = op >> 24 & 7 == 0;
    let same_data = (state.byte(reg::SFBR) ^ op as u8) & mask == 0;
    ((!phase || same_phase) && (!data || same_data)) == wanted
}

/// Arithmetic between a register, SFBR and a byte.
fn compute(state: &mut State, op: u32) {
    let register = (op >> 16 & 0x7f) as usize;
    let data = (op >> 8) as u8;
    let kind = op >> 27 & 7;
    let value = if kind == 5 { state.byte(reg::SFBR) } else { state.read(register) };
    let carry = state.carry;
    let result = match op >> 24 & 7 {
        0 => data,
        1 => {
            state.carry = value >> 7 != 0;
            value << 1 | u8::from(carry)
        }
        2 => value | data,
        3 => value ^ data,
        4 => value & data,
        5 => {
            state.carry = value & 1 != 0;
            value >> 1 | u8::from(carry) << 7
        }
        with_carry => {
            let sum = u16::from(value) + u16::from(data) + u16::from(with_carry == 7 && carry);
            state.carry = sum > 0xff;
            sum as u8
        }
    };
    let target = if kind == 6 { reg::SFBR } else { register };
    // A write that starts SCRIPTS starts what runs already.
    let _ = state.write(target, result);
}

impl Reset for Lsi53c810 {
    fn reset(&self) {
        if let Some(timer) = self.timer.get() {
            timer.cancel();
        }
        self.cell.with(|state, effects| {
            state.reset();
            self.after(state, effects);
        });
    }
}

struct Registers(Arc<Lsi53c810>);

impl MmioOps for Registers {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.change(|state| (state.read(access.offset() as usize & 0xff), false)).into())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.change(|state| ((), state.write(access.offset() as usize & 0xff, value as u8)));
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        (size == 1).then(|| self.0.cell.peek(|state| state.look(offset as usize & 0xff)).into())
    }
}

struct ScriptsRam(Arc<Lsi53c810>);

impl MmioOps for ScriptsRam {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.peek(access.offset(), 1).unwrap_or(0))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.cell.with(|state, _| {
            if let Some(slot) = state.ram.get_mut(access.offset() as usize) {
                *slot = value as u8;
            }
        });
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        let byte = self.0.cell.peek(|state| state.ram.get(offset as usize).copied())?;
        (size == 1).then_some(byte.into())
    }
}

#[cfg(test)]
#[path = "lsi53c810_tests.rs"]
mod tests;
