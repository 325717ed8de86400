//! The floppy controller's commands: which there are, how many bytes they take, and what those do that move no data.
//!
//! (82077AA data sheet, "Command set/descriptions"; the numbers of parameters and of result bytes are in its tables.)

use super::{DOR_DMA, Direction, ID_MS, Phase, SR0_ABNORMAL, SR0_SEEK, State, TDR_BOOT_SELECT};

/// A command by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Transfer(Direction),
    /// Reads or writes sectors marked as deleted, of which there are none.
    Deleted,
    Format,
    Specify,
    SenseDrive,
    Recalibrate,
    SenseInterrupt,
    DumpRegisters,
    Seek,
    Version,
    Perpendicular,
    Configure,
    Lock,
    PowerDown,
    PartId,
    ReadId,
    Option,
    Save,
    Restore,
    DriveSpecification,
    RelativeSeek,
    Invalid,
}

impl Command {
    /// The command of a first byte, and how many parameters follow.
    pub(super) fn decode(byte: u8) -> (Command, usize) {
        use Command::*;
        match byte {
            0x03 => (Specify, 2),
            0x04 => (SenseDrive, 1),
            0x07 => (Recalibrate, 1),
            0x08 => (SenseInterrupt, 0),
            0x0e => (DumpRegisters, 0),
            0x0f => (Seek, 2),
            0x10 => (Version, 0),
            0x12 => (Perpendicular, 1),
            0x13 => (Configure, 3),
            0x14 | 0x94 => (Lock, 0),
            0x17 => (PowerDown, 2),
            0x18 => (PartId, 0),
            0x2e => (Save, 0),
            0x33 => (Option, 1),
            0x4e => (Restore, 17),
            0x8e => (DriveSpecification, 5),
            0x8f | 0xcf => (RelativeSeek, 2),
            // FORMAT AND WRITE is taken whole, and refused.
            0xcd => (Invalid, 10),
            _ => match (byte & 0x1f, byte & 0x3f) {
                (0x06, _) => (Transfer(Direction::Read), 8),
                (0x05, _) => (Transfer(Direction::Write), 8),
                (0x16, _) => (Transfer(Direction::Verify), 8),
                (0x11, _) => (Transfer(Direction::ScanEqual), 8),
                (0x19, _) => (Transfer(Direction::ScanLow), 8),
                (0x1d, _) => (Transfer(Direction::ScanHigh), 8),
                (0x0c, _) | (_, 0x09) => (Deleted, 8),
                _ => match byte & 0xbf {
                    0x02 => (Transfer(Direction::Read), 8),
                    0x0a => (ReadId, 1),
                    0x0d => (Format, 5),
                    _ => (Invalid, 0),
                },
            },
        }
    }
}

impl State {
    /// Carries out the command whose bytes are all there.
    pub(super) fn execute(&mut self) {
        let (command, _) = Command::decode(self.parameter(0));
        match command {
            Command::Transfer(direction) => self.start_transfer(direction),
            // On the drive that the digital output register says.
            Command::Deleted => self.end(SR0_ABNORMAL | SR0_SEEK, 0, 0),
            Command::Format => self.format(),
            Command::Specify => {
                self.timers = [self.parameter(1) >> 4, self.parameter(2) >> 1];
                let no_dma = self.parameter(2) & 1 != 0;
                self.dor = if no_dma { self.dor & !DOR_DMA } else { self.dor | DOR_DMA };
                self.idle();
            }
            Command::SenseDrive => {
                self.select();
                let head = self.parameter(1) >> 2 & 1;
                let drive = self.drive_mut();
                drive.head = head;
                let at_0 = if drive.track == 0 { 0x10 } else { 0 };
                let protected = if drive.is_protected() { 0x40 } else { 0 };
                // Ready and two-sided, whatever there is.
                self.result(&[0x28 | protected | at_0 | head << 2 | self.current]);
            }
            Command::Recalibrate => {
                self.select();
                self.drive_mut().recalibrate();
                self.sought();
            }
            Command::SenseInterrupt => self.sense_interrupt(),
            Command::DumpRegisters => {
                let [first, second] = self.tracks();
                let [step, load] = self.timers;
                let dma = u8::from(self.dor & DOR_DMA != 0);
                let last = self.drive().last_sector;
                let modes = self.modes();
                self.result(&[
                    first,
                    second,
                    0,
                    0,
                    step,
                    load << 1 | dma,
                    last,
                    modes,
                    self.config,
                    self.precompensation,
                ]);
            }
            Command::Seek => {
                self.select();
                let track = self.parameter(2);
                self.seek_to(track);
            }
            Command::RelativeSeek => {
                self.select();
                let (by, drive) = (self.parameter(2), self.drive());
                let track = if self.parameter(0) & 0x40 == 0 {
                    drive.track.saturating_sub(by)
                } else if u16::from(by) + u16::from(drive.track) >= u16::from(drive.max_track()) {
                    drive.max_track().wrapping_sub(1)
                } else {
                    by + drive.track
                };
                self.seek_to(track);
            }
            Command::Version => self.result(&[0x90]),
            Command::PartId => self.result(&[0x41]),
            Command::Perpendicular => {
                let value = self.parameter(1);
                if value & 0x80 != 0 {
                    self.drive_mut().perpendicular = value & 7;
                }
                self.idle();
            }
            Command::Configure => {
                self.config = self.parameter(2);
                self.precompensation = self.parameter(3);
                self.idle();
            }
            Command::Lock => {
                self.lock = self.parameter(0) & 0x80 != 0;
                self.result(&[u8::from(self.lock) << 4]);
            }
            Command::PowerDown => {
                self.power_down = self.parameter(1);
                self.result(&[self.power_down]);
            }
            Command::Option => self.idle(),
            Command::ReadId => {
                // On the drive that the digital output register says.
                let head = self.parameter(1) >> 2 & 1;
                self.drive_mut().head = head;
                self.phase = Phase::Waiting;
                self.wait_ms = Some(ID_MS);
            }
            Command::Save => {
                let [first, second] = self.tracks();
                let [step, load] = self.timers;
                let last = self.drive().last_sector;
                let modes = self.modes();
                self.result(&[
                    0,
                    0,
                    first,
                    second,
                    0,
                    0,
                    step,
                    load,
                    last,
                    modes,
                    self.config,
                    self.precompensation,
                    self.power_down,
                    0,
                    0,
                ]);
            }
            Command::Restore => self.restore(),
            Command::DriveSpecification => {
                // The list ends with bit 7; without, the controller waits for more for ever. Bit 6 asks for no result.
                let last = self.parameter(5);
                match (last & 0x80 != 0, last & 0x40 != 0) {
                    (true, false) => self.idle(),
                    (true, true) => self.result(&[self.parameter(1), self.parameter(1), 0, 0]),
                    (false, _) => self.phase = Phase::Waiting,
                }
            }
            Command::Invalid => self.invalid(),
        }
    }

    fn tracks(&self) -> [u8; 2] {
        let [a, b] = &self.drives;
        if self.tdr & TDR_BOOT_SELECT == 0 { [a.track, b.track] } else { [b.track, a.track] }
    }

    /// LOCK, and what PERPENDICULAR MODE said of the drive.
    fn modes(&self) -> u8 {
        u8::from(self.lock) << 7 | self.drive().perpendicular << 2
    }

    fn sense_interrupt(&mut self) {
        let status = if let Some(left) = self.to_sense.checked_sub(1) {
            let drive = 3 - left;
            self.to_sense = left;
            0xc0 | drive
        } else if self.interrupted {
            self.status0 & !7 | self.current
        } else {
            return self.invalid();
        };
        let track = self.drive().track;
        self.result(&[status, track]);
        self.acknowledge();
    }

    fn seek_to(&mut self, track: u8) {
        let (head, sector) = (self.drive().head, self.drive().sector);
        self.drive_mut().seek(track, head, sector);
        self.sought();
    }

    /// A seek has ended, wherever.
    fn sought(&mut self) {
        self.idle();
        self.status0 |= SR0_SEEK;
        self.interrupt();
    }

    fn restore(&mut self) {
        let bytes: [u8; 18] = std::array::from_fn(|n| self.parameter(n));
        let [_, _, _, first, second, _, _, step, load, last, modes, config, precompensation, power, ..] =
            bytes;
        let [a, b] = &mut self.drives;
        [a.track, b.track] = if self.tdr & TDR_BOOT_SELECT == 0 { [first, second] } else { [second, first] };
        self.timers = [step, load];
        self.drive_mut().last_sector = last;
        self.lock = modes & 0x80 != 0;
        self.drive_mut().perpendicular = modes >> 2 & 0xf;
        self.config = config;
        self.precompensation = precompensation;
        self.power_down = power;
        self.idle();
    }

    /// FORMAT TRACK. The disks here have one format each, so it only says that it is done.
    fn format(&mut self) {
        self.select();
        let last = self.parameter(3);
        self.drive_mut().last_sector = last;
        self.end(0, 0, 0);
    }
}
