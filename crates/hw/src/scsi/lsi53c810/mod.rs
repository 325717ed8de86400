//! `lsi53c810`: NCR's 53C810 SCSI controller and the processor in it that runs SCRIPTS.
//!
//! SCRIPTS are little-endian programs in memory, read through the function's bus-master space from the moment in which
//! the last byte of DSP is written. They select targets of a [`ScsiBus`] and move messages, commands, data and status between memory
//! and the target. A target that has to read its medium lets go of the bus (SAVE DATA POINTER, DISCONNECT) and comes back
//! once it has data; everything else goes at once. Not modelled: wide and synchronous transfers (a target rejects
//! the messages), parity, low-level and target mode, the handshake timer (nobody is ever slow within a phase). `registers` has
//! the registers, `scripts` the instructions, `connection` the target's side, `transfer` the block moves.
//!
//! What must always hold: SCRIPTS run without the device's lock, at most one program at a time, and a program without an end leaves
//! the guest's CPUs running. (Symbios Logic, *SYM53C810A PCI-SCSI I/O Processor Data Manual*, chapters 4 and 5; QEMU has
//! the same device and calls it the same.)
//!
//! | offset | register | |
//! |---|---|---|
//! | 01 | SCNTL1 | bits 3 SCSI reset, 4 connected |
//! | 04 | SCID | bit 6 responds to reselection |
//! | 08 | SFBR | the first byte that came in the last message, data or status phase |
//! | 0a | SSID | who reselected, with bit 7 |
//! | 0c | DSTAT | reading clears; bits 0 illegal instruction, 2 interrupt by SCRIPTS, 3 single step, 4 abort, 5 bus fault, 7 FIFO empty |
//! | 0e | SSTAT1 | bits 0–2 the phase |
//! | 14 | ISTAT | bits 0 DMA interrupt, 1 SCSI interrupt, 2 interrupt on the fly (1 clears), 4 semaphore, 5 signal process, 6 soft reset, 7 abort |
//! | 24, 28 | DBC, DNAD | what a block move has left, and where |
//! | 2c | DSP | where SCRIPTS are; the last byte starts them, unless DMODE bit 0 is set |
//! | 39, 40, 41 | DIEN, SIEN0, SIEN1 | which bits of DSTAT, SIST0 and SIST1 reach the interrupt line |
//! | 42, 43 | SIST0, SIST1 | reading clears; SIST0 bits 1 SCSI reset, 2 unexpected disconnect, 4 reselected, 7 phase mismatch; SIST1 bits 1 general purpose timer, 2 selection time-out |
//! | 49 | STIME1 | bits 0–3: the general purpose timer, 125 µs doubled so often less one; 0 stops it |

mod connection;
mod registers;
mod scripts;
mod transfer;

use std::fmt;
use std::sync::{Arc, OnceLock};

use flatview::{
    Access, AccessRules, AddressSpace, DeviceEndian, MemTxError, MmioOps, Owner, Region, WeakSpace,
};
use flatview_device::{Clock, DeviceCell, Effects, IrqLine, Log, Reset, Timer};

use super::bus::ScsiBus;
use registers::{
    Asked, DCNTL_STEP, DSTAT_BUS_FAULT, DSTAT_STEP, RAM, SIST1_GENERAL_TIMER, Script, State, reg,
};
use scripts::{Place, Then};

/// What is run in one go, in instructions, and how long others have the machine before the next go, in nanoseconds.
const SLICE: u32 = 1_000;
const PAUSE_NS: i64 = 100_000;
/// So many bytes that are moved count as an instruction.
const BYTES_PER_STEP: u32 = 256;
/// How long a medium takes to read, in nanoseconds.
const MEDIUM_NS: i64 = 100_000;
/// The general purpose timer's shortest time, in nanoseconds.
const GENERAL_NS: i64 = 125_000;

/// The chip.
pub struct Lsi53c810 {
    cell: DeviceCell<State>,
    bus: ScsiBus,
    irq: IrqLine,
    /// What the chip sees as bus master, held weakly: the memory holds the chip.
    space: OnceLock<WeakSpace>,
    timers: OnceLock<Timers>,
    clock: Clock,
    log: Log,
}

struct Timers {
    /// Goes on with SCRIPTS.
    scripts: Timer,
    /// When media have been read.
    medium: Timer,
    /// The general purpose timer.
    general: Timer,
}

impl fmt::Debug for Lsi53c810 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lsi53c810").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl Lsi53c810 {
    /// A chip with this bus.
    pub fn new(bus: ScsiBus, clock: &Clock, log: &Log) -> Arc<Lsi53c810> {
        let chip = Arc::new(Lsi53c810 {
            cell: DeviceCell::new(State::new()),
            bus,
            irq: IrqLine::new("lsi53c810.irq"),
            space: OnceLock::new(),
            timers: OnceLock::new(),
            clock: clock.clone(),
            log: log.clone(),
        });
        let timer = |f: fn(&Arc<Lsi53c810>)| {
            let weak = Arc::downgrade(&chip);
            clock.timer(move || {
                if let Some(chip) = weak.upgrade() {
                    f(&chip);
                }
            })
        };
        let timers = Timers {
            scripts: timer(|chip| {
                chip.change_asking(|state| {
                    ((), Asked { start: state.script == Script::Running, ..Asked::NOTHING })
                });
            }),
            medium: timer(Lsi53c810::media_ready),
            general: timer(|chip| {
                chip.change(|state| state.put(reg::SIST1, state.byte(reg::SIST1) | SIST1_GENERAL_TIMER));
            }),
        };
        let _ = chip.timers.set(timers);
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

    fn change<R>(self: &Arc<Self>, f: impl FnOnce(&mut State) -> R) -> R {
        self.change_asking(|state| (f(state), Asked::NOTHING))
    }

    fn change_asking<R>(self: &Arc<Self>, f: impl FnOnce(&mut State) -> (R, Asked)) -> R {
        self.cell.with(|state, effects| {
            let (result, asked) = f(state);
            let starts = state.reselect() | asked.start;
            self.after(state, effects);
            if asked.bus_reset {
                let chip = self.clone();
                effects.call(move || chip.bus.reset());
            }
            if let Some(stime) = asked.timer {
                let chip = self.clone();
                effects.call(move || chip.set_general_timer(stime));
            }
            // Whoever runs SCRIPTS already goes on with the new ones.
            if starts && !state.runner {
                state.runner = true;
                let chip = self.clone();
                effects.call(move || chip.run());
            }
            result
        })
    }

    fn after(&self, state: &State, effects: &mut Effects) {
        effects.line(&self.irq, state.interrupts());
    }

    fn set_general_timer(&self, stime: u8) {
        let Some(timers) = self.timers.get() else { return };
        match stime & 0xf {
            0 => timers.general.cancel(),
            n => timers.general.arm(self.clock.now().saturating_add(GENERAL_NS << (n - 1))),
        }
    }

    /// Media have been read in a while, those that are read already no later.
    fn arm_medium(&self) {
        if let Some(timers) = self.timers.get().filter(|timers| timers.medium.deadline().is_none()) {
            timers.medium.arm(self.clock.now().saturating_add(MEDIUM_NS));
        }
    }

    /// Runs SCRIPTS for a while, as the one who does.
    fn run(self: &Arc<Self>) {
        let space = self.space.get().and_then(WeakSpace::upgrade);
        let mut left = SLICE;
        loop {
            let here = self.change(|state| {
                let runs = state.script == Script::Running && left != 0 && space.is_some();
                state.runner = runs;
                let paused = state.script == Script::Running && !runs;
                (runs.then(|| (state.start, state.long(reg::DSP))), paused)
            });
            let (Some((start, dsp)), Some(space)) = (here.0, &space) else {
                if let (true, Some(timers)) = (here.1, self.timers.get()) {
                    timers.scripts.arm(self.clock.now().saturating_add(PAUSE_NS));
                }
                return;
            };
            match self.step(space, start, dsp) {
                Some(cost) => left = left.saturating_sub(cost),
                None => self.change(|state| state.stop(DSTAT_BUS_FAULT)),
            }
        }
    }

    /// One instruction; how long it took, or nothing if memory refused an access.
    fn step(self: &Arc<Self>, space: &AddressSpace, start: u64, dsp: u32) -> Option<u32> {
        let mut bytes = [0; 12];
        let (first, third) = bytes.split_at_mut(8);
        space.read(dsp.into(), first).ok()?;
        let moves = first.get(3).is_some_and(|dcmd| dcmd & 0xe0 == 0xc0);
        if moves {
            space.read(u64::from(dsp.wrapping_add(8)), third).ok()?;
        }
        let word = |n: usize| {
            bytes.get(4 * n..).and_then(|b| b.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let (op, arg, to) = (word(0), word(1), word(2));
        let length = if moves { 12 } else { 8 };
        let then = self.change_asking(|state| {
            // Somebody else may have stopped SCRIPTS, or started others, since.
            if state.start != start || state.script != Script::Running {
                return (Then::Next, Asked::NOTHING);
            }
            state.put_long(reg::DBC, op);
            state.put_long(reg::DSPS, arg);
            state.put_long(reg::DSP, dsp.wrapping_add(length));
            let then = scripts::execute(state, op, arg, to, &self.log);
            if state.byte(reg::DCNTL) & DCNTL_STEP != 0 && state.script == Script::Running {
                state.stop(DSTAT_STEP);
            }
            then
        });
        match then {
            Then::Next => Some(1),
            Then::Move { from, to, count } => {
                let done = copy(space, from, to, count);
                self.change(|state| state.put_long(reg::DNAD, to.wrapping_add(count)));
                done.then_some(1 + count / BYTES_PER_STEP)
            }
            Then::Load { register, from, count } => {
                let mut bytes = [0; 4];
                let bytes = bytes.get_mut(..count)?;
                space.read(from.into(), bytes).ok()?;
                for (n, byte) in bytes.iter().enumerate() {
                    self.change_asking(|state| ((), state.write(register + n, *byte)));
                }
                Some(1)
            }
            Then::Store { register, to, count } => {
                let bytes: Vec<u8> =
                    (0..count).map(|n| self.change(|state| state.read(register + n))).collect();
                space.write(to.into(), &bytes).ok()?;
                Some(1)
            }
            Then::Select { table, target, attention, other } => {
                let mut entry = [0, 0, target, 0];
                if let Some(table) = table {
                    space.read(table.into(), &mut entry).ok()?;
                }
                let target = entry[2] & 7;
                let present = self.bus.has(target);
                self.change(|state| scripts::select(state, target, attention, present, other));
                Some(1)
            }
            Then::Block { phase, count, place } => {
                let (count, address) = match place {
                    Place::Direct(address) => (count, address),
                    Place::Indirect(at) => (count, read_long(space, at)?),
                    Place::Table(at) => {
                        (read_long(space, at)? & 0xff_ffff, read_long(space, at.wrapping_add(4))?)
                    }
                };
                self.transfer(space, phase, count, address).then_some(1 + count / BYTES_PER_STEP)
            }
        }
    }
}

fn read_long(space: &AddressSpace, at: u32) -> Option<u32> {
    let mut bytes = [0; 4];
    space.read(at.into(), &mut bytes).ok()?;
    Some(u32::from_le_bytes(bytes))
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

impl Reset for Lsi53c810 {
    fn reset(&self) {
        if let Some(timers) = self.timers.get() {
            for timer in [&timers.scripts, &timers.medium, &timers.general] {
                timer.cancel();
            }
        }
        self.cell.with(|state, effects| {
            state.reset();
            self.after(state, effects);
        });
        self.bus.reset();
    }
}

struct Registers(Arc<Lsi53c810>);

impl MmioOps for Registers {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.change(|state| state.read(access.offset() as usize & 0xff)).into())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.change_asking(|state| ((), state.write(access.offset() as usize & 0xff, value as u8)));
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
mod tests;
