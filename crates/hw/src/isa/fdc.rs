//! `isa-fdc`: Intel's 82077AA floppy disk controller with two drives.
//!
//! Registers and commands are the data sheet's (82077AA, "Register set", "Command set/descriptions"), in the arrangement
//! of a PC/AT: status register A is not there. Commands are over at once, but for READ ID; heads are where they are sent when
//! the command ends. Where the data sheet leaves room it is as on QEMU: reading the main status register ends a reset,
//! the digital output register shows the drive number of the last command too, transfers move the heads even if CONFIGURE
//! forbids it, an empty drive moves its heads and ends a transfer abnormally, and no reset undoes CONFIGURE. Sectors have 512 bytes. Sectors marked as deleted are on no disk; FORMAT
//! TRACK leaves a disk as it was. What must always hold: an image changes by whole sectors that a guest wrote; those that
//! terminal count breaks off are filled with zeros.
//!
//! | port | write | read |
//! |---|---|---|
//! | +1 | — | status register B: bits 0, 1 motors, 5 drive |
//! | +2 | digital output: bits 0 drive, 2 not reset, 3 interrupts and DMA, 4, 5 motors | the same |
//! | +3 | tape drive: bit 2 swaps the drives | the same |
//! | +4 | data rate select: bits 1–0 rate, 7 reset | main status: 7 ready, 6 to the host, 5 not by DMA, 4 busy |
//! | +5 | command, parameters, data | data, results |
//! | +7 | configuration control: bits 1–0 rate | digital input: bit 7 disk changed |

use std::fmt;
use std::sync::{Arc, OnceLock};

use flatview::{Owner, Region};
use flatview_device::portio::{BytePorts, PortRange};
use flatview_device::{Clock, DeviceCell, Effects, IrqLine, Log, LogMask, QtreeDevice, Reset, Timer};

use crate::dma::{DmaChannel, DmaCycles, DmaDevice, DmaKind};
use commands::Command;
use drive::{Drive, SECTOR, Seek};

mod commands;
pub mod drive;

/// First port of the device; its first register is behind it.
pub const BASE: u16 = 0x3f0;
/// The ports, as (first, number).
const PORTS: [(u16, u16); 2] = [(1, 5), (7, 1)];

const DOR_DRIVE: u8 = 1;
const DOR_NOT_RESET: u8 = 1 << 2;
const DOR_DMA: u8 = 1 << 3;
const DSR_RATE: u8 = 3;
const DSR_POWER_DOWN: u8 = 1 << 6;
const DSR_RESET: u8 = 1 << 7;
/// Both motors off, drive 0, and the bits that are always 1.
const SRB_IDLE: u8 = 0xc0;
/// Swaps the drives.
const TDR_BOOT_SELECT: u8 = 1 << 2;
const SR0_ABNORMAL: u8 = 1 << 6;
const SR0_SEEK: u8 = 1 << 5;
const SR0_READY_CHANGED: u8 = 0xc0;
const SR1_END_OF_CYLINDER: u8 = 1 << 7;
const SR1_NO_DATA: u8 = 1 << 2;
const SR1_NOT_WRITABLE: u8 = 1 << 1;
const SR1_MISSING_MARK: u8 = 1;
const SR2_SCAN_EQUAL: u8 = 1 << 3;
const SR2_SCAN_FAILED: u8 = 1 << 2;
/// CONFIGURE after power on: implied seeks, and the FIFO is off.
const CONFIG: u8 = 0x60;
/// The code of 512 bytes in sector headers.
const SIZE_CODE: u8 = 2;
/// How long it takes until a sector's header comes by.
const ID_MS: i64 = 20;

/// What a transfer does with sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
    Verify,
    ScanEqual,
    ScanLow,
    ScanHigh,
}

impl Direction {
    /// Whether the controller reads from the host.
    fn takes(self) -> bool {
        !matches!(self, Direction::Read | Direction::Verify)
    }
}

/// A transfer that goes on.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    direction: Direction,
    dma: bool,
    /// Bytes of the sector in the buffer that are done.
    at: usize,
    /// The last sector of a track.
    end: u8,
    /// On both sides.
    both: bool,
    /// All sectors are done, and terminal count may still come.
    over: bool,
    /// What a scan found in this sector: all bytes equal, and all as they should be.
    equal: bool,
    holds: bool,
}

#[derive(Debug)]
enum Phase {
    /// Waits for a command or its parameters.
    Command,
    /// Busy until the timer, or for ever.
    Waiting,
    Transfer(Transfer),
    Result,
}

#[derive(Debug)]
struct State {
    dor: u8,
    dsr: u8,
    tdr: u8,
    srb: u8,
    phase: Phase,
    /// The command so far, or the result.
    fifo: Vec<u8>,
    /// How many bytes the command has, or how many of the result were read.
    count: usize,
    sector: Box<[u8; SECTOR]>,
    status0: u8,
    /// The interrupt is pending.
    interrupted: bool,
    /// It ended since the line was last driven, so that a new one is an edge.
    acknowledged: bool,
    /// How many drives SENSE INTERRUPT has to tell of since a reset.
    to_sense: u8,
    current: u8,
    drives: [Drive; 2],
    timers: [u8; 2],
    config: u8,
    precompensation: u8,
    lock: bool,
    power_down: u8,
    /// A timer is to be started for so long.
    wait_ms: Option<i64>,
}

impl State {
    fn new(drives: [Drive; 2]) -> State {
        State {
            dor: DOR_NOT_RESET | DOR_DMA,
            dsr: 0,
            tdr: 0,
            srb: SRB_IDLE,
            phase: Phase::Command,
            fifo: Vec::with_capacity(18),
            count: 0,
            sector: Box::new([0; SECTOR]),
            status0: 0,
            interrupted: false,
            acknowledged: false,
            to_sense: 0,
            current: 0,
            drives,
            timers: [0; 2],
            config: CONFIG,
            precompensation: 0,
            lock: false,
            power_down: 0,
            wait_ms: None,
        }
    }

    fn drive(&self) -> &Drive {
        let [a, b] = &self.drives;
        if self.is_second() { b } else { a }
    }

    /// Whether the second drive is the current one.
    fn is_second(&self) -> bool {
        (self.current != 0) != (self.tdr & TDR_BOOT_SELECT != 0)
    }

    /// The current drive, and the buffer for a sector of it.
    fn drive_and_sector(&mut self) -> (&mut Drive, &mut [u8; SECTOR]) {
        let second = self.is_second();
        let [a, b] = &mut self.drives;
        (if second { b } else { a }, &mut self.sector)
    }

    fn drive_mut(&mut self) -> &mut Drive {
        self.drive_and_sector().0
    }

    fn parameter(&self, n: usize) -> u8 {
        self.fifo.get(n).copied().unwrap_or(0)
    }

    /// Chooses the drive that the command's first parameter names.
    fn select(&mut self) {
        self.current = self.parameter(1) & 1;
    }

    fn idle(&mut self) {
        self.phase = Phase::Command;
        self.fifo.clear();
        self.count = 0;
    }

    fn result(&mut self, bytes: &[u8]) {
        self.idle();
        self.phase = Phase::Result;
        self.fifo.extend_from_slice(bytes);
    }

    fn invalid(&mut self) {
        self.result(&[0x80]);
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.to_sense = 0;
    }

    fn acknowledge(&mut self) {
        self.interrupted = false;
        self.acknowledged = true;
        self.status0 = 0;
    }

    /// As by the reset bits. `ask` is whether an interrupt asks the guest to sense what became of the drives.
    fn reset(&mut self, ask: bool) {
        self.acknowledge();
        self.srb = SRB_IDLE;
        self.current = 0;
        self.dor = DOR_NOT_RESET | DOR_DMA;
        self.idle();
        self.drives.iter_mut().for_each(Drive::recalibrate);
        if ask {
            self.interrupt();
            self.status0 = SR0_READY_CHANGED;
            self.to_sense = 4;
        }
    }

    /// Whether the request line is high.
    fn wants_dma(&self) -> bool {
        matches!(&self.phase, Phase::Transfer(transfer) if transfer.dma)
    }

    fn is_reset(&self) -> bool {
        self.dor & DOR_NOT_RESET == 0
    }

    fn main_status(&self) -> u8 {
        match &self.phase {
            Phase::Command if self.fifo.is_empty() => 0x80,
            Phase::Command => 0x90,
            Phase::Result => 0xd0,
            Phase::Waiting => 0x10,
            Phase::Transfer(transfer) if transfer.dma => 0x10,
            Phase::Transfer(transfer) => 0xb0 | if transfer.direction.takes() { 0 } else { 0x40 },
        }
    }

    fn look(&self, register: u16) -> Option<u8> {
        Some(match register {
            1 => self.srb,
            2 => self.dor | self.current,
            3 => self.tdr,
            4 => self.main_status(),
            7 if self.drive().changed => 0x80,
            7 => 0,
            _ => return None,
        })
    }

    fn write_dor(&mut self, value: u8) {
        self.srb = self.srb & !0x23 | value >> 4 & 3 | (value & DOR_DRIVE) << 5;
        if value & DOR_NOT_RESET != 0 && self.is_reset() {
            self.reset(true);
        }
        self.current = value & DOR_DRIVE;
        self.dor = value;
    }

    fn write_dsr(&mut self, value: u8) {
        if self.is_reset() {
            return;
        }
        if value & (DSR_RESET | DSR_POWER_DOWN) != 0 {
            self.reset(true);
        }
        self.dsr = value;
    }

    /// Whether the byte belonged to a command that there is.
    fn write_data(&mut self, value: u8) -> bool {
        if self.is_reset() {
            return true;
        }
        self.dsr &= !DSR_POWER_DOWN;
        match &self.phase {
            Phase::Command => {}
            Phase::Transfer(transfer) if !transfer.dma && transfer.direction.takes() => {
                self.take(&[value]);
                return true;
            }
            _ => return true,
        }
        let mut known = true;
        if self.fifo.is_empty() {
            let (command, parameters) = Command::decode(value);
            known = command != Command::Invalid;
            self.count = 1 + parameters;
        }
        self.fifo.push(value);
        if self.fifo.len() >= self.count {
            self.execute();
        }
        known
    }

    fn read_data(&mut self) -> u8 {
        self.dsr &= !DSR_POWER_DOWN;
        match &self.phase {
            Phase::Transfer(transfer) if !transfer.dma && !transfer.direction.takes() => {
                let mut byte = [0];
                self.give(&mut byte);
                let [byte] = byte;
                byte
            }
            Phase::Result => {
                let value = self.parameter(self.count);
                self.count += 1;
                if self.count >= self.fifo.len() {
                    self.idle();
                    self.acknowledge();
                }
                value
            }
            _ => 0,
        }
    }

    /// Ends a command that has the usual seven bytes of result.
    fn end(&mut self, status0: u8, status1: u8, status2: u8) {
        let (track, head, sector) = (self.drive().track, self.drive().head, self.drive().sector);
        self.end_at(status0, status1, status2, [track, head, sector]);
    }

    fn end_at(&mut self, status0: u8, status1: u8, status2: u8, [track, head, sector]: [u8; 3]) {
        self.status0 = self.status0 & !7 | self.current | self.drive().head << 2 | status0;
        self.result(&[self.status0, status1, status2, track, head, sector, SIZE_CODE]);
        self.interrupt();
    }

    /// READ, WRITE, VERIFY and SCAN: seeks, and begins with the first sector.
    fn start_transfer(&mut self, direction: Direction) {
        self.select();
        let [track, head, sector, size, end] = [2, 3, 4, 5, 6].map(|n| self.parameter(n));
        let asked = [track, head, sector];
        let (before, after) = {
            let drive = self.drive_mut();
            let before = drive.track;
            (before, drive.seek(track, head, sector))
        };
        match after {
            Seek::There => {}
            Seek::NoTrack => return self.end_at(SR0_ABNORMAL, 0, 0, asked),
            Seek::NoSector => return self.end_at(SR0_ABNORMAL, SR1_END_OF_CYLINDER, 0, asked),
        }
        let seek = if before == track { 0 } else { SR0_SEEK };
        if self.drive().rate() != Some(self.dsr & DSR_RATE) {
            return self.end_at(SR0_ABNORMAL, SR1_MISSING_MARK, 0, asked);
        }
        if size != SIZE_CODE {
            return self.end_at(SR0_ABNORMAL | seek, SR1_NO_DATA, 0, asked);
        }
        if direction == Direction::Write && self.drive().is_protected() {
            return self.end_at(SR0_ABNORMAL | seek, SR1_NOT_WRITABLE, 0, asked);
        }
        self.status0 |= seek;
        let both = self.parameter(0) & 0x80 != 0;
        // A verification moves nothing; with its bit EC it counts sectors in the place of DTL, which comes to the same.
        let dma = self.dor & DOR_DMA != 0;
        self.phase = Phase::Transfer(Transfer {
            direction,
            dma,
            at: 0,
            end,
            both,
            over: false,
            equal: true,
            holds: true,
        });
        if direction == Direction::Verify {
            self.verify();
        } else {
            self.load();
            if !dma && matches!(self.phase, Phase::Transfer(_)) {
                self.interrupt();
            }
        }
    }

    fn verify(&mut self) {
        loop {
            self.load();
            let Phase::Transfer(transfer) = self.phase else { return };
            if !self.drive_mut().next(transfer.end, transfer.both) {
                return self.end(0, 0, 0);
            }
        }
    }

    /// Reads the sector under the heads, unless it is about to be written.
    fn load(&mut self) {
        let written = matches!(&self.phase, Phase::Transfer(t) if t.direction == Direction::Write);
        let (drive, sector) = self.drive_and_sector();
        if !written && !drive.read(sector) {
            self.end(SR0_ABNORMAL, SR1_NO_DATA, 0);
        }
    }

    /// Bytes left of the sector in the buffer, if a transfer by DMA goes on in this direction. Being asked behind the last
    /// sector means that terminal count did not come, which is an error.
    fn ready(&mut self, kind: DmaKind) -> usize {
        let Phase::Transfer(transfer) = &self.phase else { return 0 };
        let takes = transfer.direction.takes();
        if !transfer.dma || kind != DmaKind::Verify && takes != (kind == DmaKind::Read) {
            return 0;
        }
        if transfer.over {
            self.end(SR0_ABNORMAL, SR1_END_OF_CYLINDER, 0);
            return 0;
        }
        SECTOR - transfer.at
    }

    fn give(&mut self, into: &mut [u8]) {
        let Phase::Transfer(transfer) = &mut self.phase else { return };
        let from = self.sector.get(transfer.at..).unwrap_or_default();
        into.iter_mut().zip(from).for_each(|(into, from)| *into = *from);
        self.moved(into.len());
    }

    fn take(&mut self, from: &[u8]) {
        let Phase::Transfer(transfer) = &mut self.phase else { return };
        let on_disk = self.sector.get_mut(transfer.at..).unwrap_or_default();
        for (disk, host) in on_disk.iter_mut().zip(from) {
            match transfer.direction {
                Direction::Write => *disk = *host,
                // Such bytes are equal to any.
                _ if *host == 0xff || *disk == 0xff => {}
                direction => {
                    transfer.equal &= disk == host;
                    transfer.holds &= match direction {
                        Direction::ScanLow => *disk <= *host,
                        Direction::ScanHigh => *disk >= *host,
                        _ => disk == host,
                    };
                }
            }
        }
        self.moved(from.len());
    }

    /// Counts bytes of the sector, and goes on to the next one where it is done.
    fn moved(&mut self, bytes: usize) {
        let Phase::Transfer(transfer) = &mut self.phase else { return };
        transfer.at = (transfer.at + bytes).min(SECTOR);
        let Transfer { direction, end, both, dma, equal, holds, at, .. } = *transfer;
        if at < SECTOR {
            return;
        }
        match direction {
            Direction::Write if !self.write_sector() => return,
            Direction::ScanEqual | Direction::ScanLow | Direction::ScanHigh if holds => {
                return self.end(0, 0, if equal { SR2_SCAN_EQUAL } else { 0 });
            }
            _ => {}
        }
        let more = self.drive_mut().next(end, both);
        if let Phase::Transfer(transfer) = &mut self.phase {
            if more {
                *transfer = Transfer { at: 0, equal: true, holds: true, ..*transfer };
                return self.load();
            }
            transfer.over = true;
        }
        match direction {
            Direction::Read | Direction::Write if dma => {}
            Direction::Read | Direction::Write | Direction::Verify => self.end(0, 0, 0),
            _ => self.end(0, 0, SR2_SCAN_FAILED),
        }
    }

    /// Whether the sector could be written; if not the command has ended.
    fn write_sector(&mut self) -> bool {
        let (drive, sector) = self.drive_and_sector();
        let written = drive.write(sector);
        if !written {
            self.end(SR0_ABNORMAL, SR1_NO_DATA, 0);
        }
        written
    }

    fn terminal_count(&mut self) {
        let Phase::Transfer(transfer) = &self.phase else { return };
        let Transfer { direction, at, end, both, over, .. } = *transfer;
        if at > 0 && !over {
            // In the middle of a sector.
            if direction == Direction::Write {
                self.sector.get_mut(at..).unwrap_or_default().fill(0);
                if !self.write_sector() {
                    return;
                }
            }
            self.drive_mut().next(end, both);
        }
        let scan = !matches!(direction, Direction::Read | Direction::Write | Direction::Verify);
        self.end(0, 0, if scan { SR2_SCAN_FAILED } else { 0 });
    }

    /// What READ ID finds when the time is over: the next sector of the track.
    fn found_id(&mut self) {
        if !matches!(self.phase, Phase::Waiting) || Command::decode(self.parameter(0)).0 != Command::ReadId {
            return;
        }
        let rate = self.dsr & DSR_RATE;
        let drive = self.drive_mut();
        if drive.last_sector != 0 {
            drive.sector = drive.sector % drive.last_sector + 1;
        }
        if drive.rate() == Some(rate) {
            self.end(0, 0, 0);
        } else {
            self.end(SR0_ABNORMAL, SR1_MISSING_MARK, 0);
        }
    }
}

/// The controller.
pub struct Fdc {
    cell: DeviceCell<State>,
    irq: IrqLine,
    dma: Option<DmaChannel>,
    clock: Clock,
    timer: OnceLock<Timer>,
    log: Log,
}

impl fmt::Debug for Fdc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fdc").finish_non_exhaustive()
    }
}

impl Fdc {
    /// A controller with these drives, that moves data through a DMA channel.
    pub fn new(drives: [Drive; 2], dma: Option<DmaChannel>, clock: &Clock, log: &Log) -> Arc<Fdc> {
        let fdc = Arc::new(Fdc {
            cell: DeviceCell::new(State::new(drives)),
            irq: IrqLine::new("fdc.irq"),
            dma,
            clock: clock.clone(),
            timer: OnceLock::new(),
            log: log.clone(),
        });
        let weak = Arc::downgrade(&fdc);
        let timer = clock.timer(move || {
            if let Some(fdc) = weak.upgrade() {
                fdc.change(State::found_id);
            }
        });
        let _ = fdc.timer.set(timer);
        if let Some(channel) = &fdc.dma {
            let end: Arc<dyn DmaDevice> = fdc.clone();
            channel.attach(&end);
        }
        fdc
    }

    /// High from the end of a command, or of a reset, until the result is read or SENSE INTERRUPT asks.
    pub fn irq(&self) -> &IrqLine {
        &self.irq
    }

    /// The regions, each with its first port.
    pub fn regions(self: &Arc<Self>, owner: &Owner) -> Vec<(u16, Region)> {
        let region = |(offset, count): (u16, u16)| {
            let ops = PortRange::new(self, BASE + offset, count);
            (BASE + offset, Region::io("fdc", count.into(), ops).owner(owner))
        };
        PORTS.into_iter().map(region).collect()
    }

    /// The entry in `info qtree`.
    pub fn qtree(irq: usize, dma: usize) -> QtreeDevice {
        QtreeDevice::new("isa-fdc")
            .number("iobase", BASE.into())
            .number("irq", irq as u64)
            .number("dma", dma as u64)
            .text("fdtypeA", "auto")
            .text("fdtypeB", "auto")
            .text("fallback", "288")
    }

    /// Changes the state, and then the lines and the timer as they follow from it.
    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let (result, dreq, wait) = self.cell.with(|state, effects| {
            let result = f(state);
            self.drive_line(state, effects);
            (result, state.wants_dma(), state.wait_ms.take())
        });
        if let (Some(ms), Some(timer)) = (wait, self.timer.get()) {
            timer.arm(self.clock.now().saturating_add(ms * 1_000_000));
        }
        if let Some(channel) = &self.dma {
            channel.request(dreq);
        }
        result
    }

    fn drive_line(&self, state: &mut State, effects: &mut Effects) {
        if std::mem::take(&mut state.acknowledged) {
            effects.line(&self.irq, false);
        }
        effects.line(&self.irq, state.interrupted);
    }
}

impl DmaDevice for Fdc {
    fn ready(&self, kind: DmaKind) -> usize {
        self.cell.with(|state, effects| {
            let ready = state.ready(kind);
            self.drive_line(state, effects);
            ready
        })
    }

    fn cycles(&self, cycles: DmaCycles<'_>) {
        self.cell.with(|state, effects| {
            match cycles {
                DmaCycles::Write(bytes) => state.give(bytes),
                DmaCycles::Read(bytes) => state.take(bytes),
                DmaCycles::Verify(count) => state.moved(count),
            }
            self.drive_line(state, effects);
        });
    }

    fn terminal_count(&self) {
        self.change(State::terminal_count);
    }
}

impl BytePorts for Fdc {
    fn read(&self, port: u16) -> u8 {
        match port.wrapping_sub(BASE) {
            4 => self.cell.with(|state, _| {
                state.dsr &= !DSR_POWER_DOWN;
                state.dor |= DOR_NOT_RESET;
                state.main_status()
            }),
            5 => self.change(State::read_data),
            register => self.cell.peek(|state| state.look(register)).unwrap_or(0),
        }
    }

    fn write(&self, port: u16, value: u8) {
        let known = self.change(|state| {
            match port.wrapping_sub(BASE) {
                2 => state.write_dor(value),
                3 if !state.is_reset() => state.tdr = value & TDR_BOOT_SELECT,
                4 => state.write_dsr(value),
                5 => return state.write_data(value),
                7 if !state.is_reset() => state.dsr = state.dsr & !DSR_RATE | value & DSR_RATE,
                _ => {}
            }
            true
        });
        if !known {
            self.log.line(LogMask::UNIMP, format_args!("fdc: there is no command {value:#04x}"));
        }
    }

    fn peek(&self, port: u16) -> Option<u8> {
        self.cell.peek(|state| state.look(port.wrapping_sub(BASE)))
    }
}

impl Reset for Fdc {
    fn reset(&self) {
        if let Some(timer) = self.timer.get() {
            timer.cancel();
        }
        self.change(|state| state.reset(false));
    }
}

#[cfg(test)]
#[path = "fdc/tests.rs"]
mod tests;
