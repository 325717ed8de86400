//! A hard disk (`scsi-hd`) or a CD-ROM drive (`scsi-cd`): a SCSI unit over an image.
//!
//! A [`Disk`] decodes commands into plans for the bus and keeps what a drive knows: its medium and tray, whether removal is
//! prevented, sense data, a unit attention that waits, the write cache's switch. `mode` has the mode pages, `inquiry` who the
//! drive says it is, `cdrom` the commands of multimedia drives. A hard disk has blocks of 512 bytes, a CD of 2048. What must
//! always hold: a guest's addresses and lengths are checked against the medium before anything is read or written, and the state's
//! lock is never held while the host's disk works. (SPC-3, SBC-2, MMC-5. QEMU's drives answer zeros up to the
//! allocation length, and so do these.)

mod cdrom;
mod inquiry;
mod mode;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use flatview_device::{QtreeDevice, Reset};
use parking_lot::Mutex;
use thiserror::Error;

use super::bus::{Cdb, Plan, Unit};
use super::medium::Medium;
use super::sense::Sense;

/// What kind of drive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A hard disk, whose medium stays.
    HardDisk,
    /// A CD-ROM drive.
    CdRom,
}

/// A drive.
#[derive(Debug)]
pub struct Disk {
    kind: Kind,
    /// What it is called by users, and tells as its device identification: `scsi0-cd2`.
    name: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    medium: Option<Arc<Medium>>,
    /// What REQUEST SENSE tells.
    sense: Sense,
    /// What the next command ends with instead of being done, and the one after that.
    attention: Sense,
    next_attention: Sense,
    tray_open: bool,
    /// Whether the guest prevents that the medium is removed.
    locked: bool,
    write_cache: bool,
    /// The user wants the medium, which the guest holds.
    eject_asked: bool,
    /// What GET EVENT STATUS NOTIFICATION tells once.
    event: cdrom::Event,
}

impl State {
    /// The medium, if it can be read.
    fn ready(&self) -> Result<&Arc<Medium>, Sense> {
        self.medium.as_ref().filter(|_| !self.tray_open).ok_or(Sense::NO_MEDIUM)
    }
}

/// Why a medium cannot be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EjectError {
    /// A hard disk.
    #[error("is not removable")]
    NotRemovable,
    /// The guest prevents it, and was asked for it.
    #[error("is locked and force was not specified, wait for tray to open and try again")]
    Locked,
}

/// What users are told about a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveState {
    /// The image and whether it is read-only.
    pub image: Option<(PathBuf, bool)>,
    /// Whether media can be changed, and then whether the guest prevents it and whether the tray is open.
    pub removable: Option<(bool, bool)>,
}

/// Operation codes.
mod op {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const FORMAT_UNIT: u8 = 0x04;
    pub const READ_6: u8 = 0x08;
    pub const WRITE_6: u8 = 0x0a;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SELECT_6: u8 = 0x15;
    pub const RESERVE_6: u8 = 0x16;
    pub const RELEASE_6: u8 = 0x17;
    pub const MODE_SENSE_6: u8 = 0x1a;
    pub const START_STOP_UNIT: u8 = 0x1b;
    pub const PREVENT_ALLOW: u8 = 0x1e;
    pub const READ_CAPACITY_10: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const WRITE_10: u8 = 0x2a;
    pub const SEEK_10: u8 = 0x2b;
    pub const WRITE_AND_VERIFY_10: u8 = 0x2e;
    pub const VERIFY_10: u8 = 0x2f;
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub const READ_TOC: u8 = 0x43;
    pub const GET_CONFIGURATION: u8 = 0x46;
    pub const GET_EVENT_STATUS: u8 = 0x4a;
    pub const READ_DISC_INFORMATION: u8 = 0x51;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const RESERVE_10: u8 = 0x56;
    pub const RELEASE_10: u8 = 0x57;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const READ_16: u8 = 0x88;
    pub const WRITE_16: u8 = 0x8a;
    pub const WRITE_AND_VERIFY_16: u8 = 0x8e;
    pub const VERIFY_16: u8 = 0x8f;
    pub const SERVICE_ACTION_IN: u8 = 0x9e;
    pub const REPORT_LUNS: u8 = 0xa0;
    pub const READ_12: u8 = 0xa8;
    pub const WRITE_12: u8 = 0xaa;
    pub const READ_DVD_STRUCTURE: u8 = 0xad;
    pub const WRITE_AND_VERIFY_12: u8 = 0xae;
    pub const VERIFY_12: u8 = 0xaf;
    pub const MECHANISM_STATUS: u8 = 0xbd;
}

/// Service action of [`op::SERVICE_ACTION_IN`].
const READ_CAPACITY_16: u8 = 0x10;
/// Byte 1 of a command that writes: the data is on the disk before the status.
const FORCE_UNIT_ACCESS: u8 = 1 << 3;

/// Big-endian numbers out of a block; bytes that are not there are 0.
fn be(bytes: &[u8], at: usize, count: usize) -> u64 {
    (at..at + count).fold(0, |value, n| value << 8 | u64::from(bytes.get(n).copied().unwrap_or(0)))
}

/// Data for the initiator, zeros up to the allocation length.
fn answer(mut data: Vec<u8>, allocation: u64) -> Result<Plan, Sense> {
    data.resize(allocation.min(0x1_0000) as usize, 0);
    exactly(data)
}

/// Data for the initiator, as long as it is.
fn exactly(data: Vec<u8>) -> Result<Plan, Sense> {
    Ok(if data.is_empty() { Plan::Done } else { Plan::Answer(data) })
}

/// The first block and the number of blocks of a command that reads, writes or verifies.
fn extent(cdb: &Cdb) -> (u64, u64) {
    match cdb.first().copied().unwrap_or(0) >> 5 {
        0 => {
            let count = be(cdb, 4, 1);
            (be(cdb, 1, 3) & 0x1f_ffff, if count == 0 { 256 } else { count })
        }
        4 => (be(cdb, 2, 8), be(cdb, 10, 4)),
        5 => (be(cdb, 2, 4), be(cdb, 6, 4)),
        _ => (be(cdb, 2, 4), be(cdb, 7, 2)),
    }
}

impl Disk {
    /// A drive; `name` is what users call it.
    pub fn new(kind: Kind, name: &str, medium: Option<Medium>) -> Arc<Disk> {
        Arc::new(Disk {
            kind,
            name: name.to_owned(),
            state: Mutex::new(State {
                medium: medium.map(Arc::new),
                sense: Sense::NONE,
                attention: Sense::RESET,
                next_attention: Sense::NONE,
                tray_open: false,
                locked: false,
                write_cache: true,
                eject_asked: false,
                event: cdrom::Event::None,
            }),
        })
    }

    /// What kind of drive it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What users call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is, for users.
    pub fn drive_state(&self) -> DriveState {
        let state = self.state.lock();
        DriveState {
            image: state.medium.as_ref().map(|medium| (medium.path().to_owned(), medium.readonly())),
            removable: (self.kind == Kind::CdRom).then_some((state.locked, state.tray_open)),
        }
    }

    /// Opens the tray, if the guest does not prevent it or `force` is set, and takes the medium out.
    ///
    /// # Errors
    /// [`EjectError`]; one that the guest prevents it asks the guest for the medium.
    pub fn eject(&self, force: bool) -> Result<(), EjectError> {
        self.open_tray(force)?;
        let taken = self.state.lock().medium.take();
        // The file is closed without the lock.
        drop(taken);
        Ok(())
    }

    fn open_tray(&self, force: bool) -> Result<(), EjectError> {
        if self.kind != Kind::CdRom {
            return Err(EjectError::NotRemovable);
        }
        let mut state = self.state.lock();
        if state.tray_open {
            return Ok(());
        }
        if state.locked {
            state.eject_asked = true;
            if !force {
                return Err(EjectError::Locked);
            }
        }
        state.tray_open = true;
        state.eject_asked = false;
        state.media_changed();
        Ok(())
    }

    /// Opens the tray, puts a medium in place of what is there, and closes it.
    ///
    /// # Errors
    /// As [`Self::eject`]; the medium is not taken then.
    pub fn change(&self, medium: Medium, force: bool) -> Result<(), EjectError> {
        self.open_tray(force)?;
        let mut state = self.state.lock();
        let old = state.medium.replace(Arc::new(medium));
        state.tray_open = false;
        state.media_changed();
        drop(state);
        drop(old);
        Ok(())
    }

    /// Bytes of a block.
    fn block(&self) -> u64 {
        if self.kind == Kind::CdRom { 2048 } else { 512 }
    }

    /// Blocks of the medium.
    fn blocks(&self, state: &State) -> Result<u64, Sense> {
        Ok(state.ready()?.bytes() / self.block())
    }

    fn decode(&self, state: &mut State, cdb: &Cdb) -> Result<Plan, Sense> {
        let cd = self.kind == Kind::CdRom;
        let byte = |at: usize| cdb.get(at).copied().unwrap_or(0);
        let opcode = byte(0);
        // Commands of other groups have no defined length.
        if matches!(opcode >> 5, 3 | 6 | 7) {
            return Err(Sense::INVALID_OPCODE);
        }
        match opcode {
            op::REQUEST_SENSE => return self.request_sense(state, cdb),
            op::INQUIRY => return self.inquiry(cdb),
            op::MODE_SENSE_6 | op::MODE_SENSE_10 => return self.mode_sense(state, cdb),
            op::START_STOP_UNIT => return self.start_stop(state, byte(4)),
            op::PREVENT_ALLOW => {
                state.locked = cd && byte(4) & 1 != 0;
                return Ok(Plan::Done);
            }
            op::RESERVE_6 | op::RESERVE_10 | op::RELEASE_6 | op::RELEASE_10 => return Ok(Plan::Done),
            op::REPORT_LUNS => return report_luns(cdb),
            op::GET_CONFIGURATION if cd => return answer(cdrom::configuration(state), be(cdb, 7, 2)),
            op::GET_EVENT_STATUS if cd => return cdrom::event_status(state, cdb),
            op::MECHANISM_STATUS if cd => return answer(cdrom::mechanism_status(), be(cdb, 8, 2)),
            op::GET_CONFIGURATION | op::GET_EVENT_STATUS | op::MECHANISM_STATUS => {
                return Err(Sense::INVALID_FIELD);
            }
            _ => {}
        }
        // Everything else needs the medium, whatever it is.
        let blocks = self.blocks(state)?;
        match opcode {
            op::TEST_UNIT_READY | op::FORMAT_UNIT => Ok(Plan::Done),
            op::MODE_SELECT_6 | op::MODE_SELECT_10 => mode::wanted(cdb),
            op::READ_CAPACITY_10 => {
                if byte(8) & 1 == 0 && be(cdb, 2, 4) != 0 {
                    return Err(Sense::INVALID_FIELD);
                }
                let last = u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX);
                exactly([last.to_be_bytes(), (self.block() as u32).to_be_bytes()].concat())
            }
            op::SERVICE_ACTION_IN if byte(1) & 0x1f == READ_CAPACITY_16 => {
                let last = blocks.saturating_sub(1).to_be_bytes();
                let mut data = [&last[..], &(self.block() as u32).to_be_bytes()].concat();
                data.resize(be(cdb, 10, 4).min(32) as usize, 0);
                exactly(data)
            }
            op::SERVICE_ACTION_IN => Err(Sense::INVALID_FIELD),
            op::SEEK_10 if be(cdb, 2, 4) > blocks => Err(Sense::OUT_OF_RANGE),
            op::SEEK_10 => Ok(Plan::Done),
            op::SYNCHRONIZE_CACHE_10 => Ok(Plan::Flush),
            op::READ_TOC => cdrom::table_of_contents(cdb, blocks),
            op::READ_DISC_INFORMATION if cd && byte(1) & 7 == 0 => {
                answer(cdrom::disc_information(), be(cdb, 7, 2))
            }
            op::READ_DVD_STRUCTURE if cd && !cdrom::is_dvd(blocks) => Err(Sense::INCOMPATIBLE_FORMAT),
            op::READ_DISC_INFORMATION | op::READ_DVD_STRUCTURE => Err(Sense::INVALID_FIELD),
            op::VERIFY_10 | op::VERIFY_12 | op::VERIFY_16 => {
                // The data is not compared with anything.
                if byte(1) & 6 != 0 {
                    return Err(Sense::INVALID_FIELD);
                }
                self.inside(blocks, cdb).map(|_| Plan::Done)
            }
            op::READ_6 | op::READ_10 | op::READ_12 | op::READ_16 => {
                let (offset, length) = self.inside(blocks, cdb)?;
                Ok(if length == 0 { Plan::Done } else { Plan::Read { offset, length } })
            }
            op::WRITE_6
            | op::WRITE_10
            | op::WRITE_12
            | op::WRITE_16
            | op::WRITE_AND_VERIFY_10
            | op::WRITE_AND_VERIFY_12
            | op::WRITE_AND_VERIFY_16 => {
                if cd || state.ready()?.readonly() {
                    return Err(Sense::WRITE_PROTECTED);
                }
                let (offset, length) = self.inside(blocks, cdb)?;
                let through = !state.write_cache || opcode != op::WRITE_6 && byte(1) & FORCE_UNIT_ACCESS != 0;
                Ok(if length == 0 { Plan::Done } else { Plan::Write { offset, length, through } })
            }
            _ => Err(Sense::INVALID_OPCODE),
        }
    }

    /// First byte and number of bytes of a command's blocks, all of which are on the medium.
    fn inside(&self, blocks: u64, cdb: &Cdb) -> Result<(u64, u64), Sense> {
        let (first, count) = extent(cdb);
        // Protection information is not kept.
        if cdb.first().is_some_and(|opcode| opcode >> 5 != 0) && be(cdb, 1, 1) & 0xe0 != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        if first.checked_add(count).is_none_or(|end| end > blocks) {
            return Err(Sense::OUT_OF_RANGE);
        }
        Ok((first * self.block(), count * self.block()))
    }

    fn request_sense(&self, state: &mut State, cdb: &Cdb) -> Result<Plan, Sense> {
        let mut sense = std::mem::take(&mut state.sense);
        if sense == Sense::NONE {
            sense = state.take_attention();
        }
        let data = if be(cdb, 1, 1) & 1 != 0 { sense.descriptor() } else { sense.fixed() };
        answer(data, be(cdb, 4, 1))
    }

    fn start_stop(&self, state: &mut State, flags: u8) -> Result<Plan, Sense> {
        let (start, tray, power) = (flags & 1 != 0, flags & 2 != 0, flags & 0xf0 != 0);
        if self.kind == Kind::CdRom && tray && !power {
            if !start && !state.tray_open && state.locked {
                let empty = state.medium.is_none();
                return Err(if empty { Sense::REMOVAL_PREVENTED_EMPTY } else { Sense::REMOVAL_PREVENTED });
            }
            state.tray_open = !start;
            state.eject_asked = false;
        }
        Ok(Plan::Done)
    }

    fn medium(&self) -> Result<Arc<Medium>, Sense> {
        self.state.lock().ready().cloned()
    }

    /// The properties in `info qtree`, with the place on the bus.
    pub fn qtree(&self, id: u8, lun: u8) -> QtreeDevice {
        inquiry::qtree(self, id, lun)
    }
}

impl State {
    fn take_attention(&mut self) -> Sense {
        std::mem::replace(&mut self.attention, std::mem::take(&mut self.next_attention))
    }

    /// Notes that a medium came or went while the guest did nothing.
    fn media_changed(&mut self) {
        self.attention = Sense::MEDIUM_GONE;
        self.next_attention = if self.tray_open { Sense::NONE } else { Sense::MEDIUM_CHANGED };
        self.event = if self.tray_open { cdrom::Event::MediaRemoval } else { cdrom::Event::NewMedia };
    }
}

/// The one unit that a target has: number 0.
fn report_luns(cdb: &Cdb) -> Result<Plan, Sense> {
    let (select, allocation) = (be(cdb, 2, 1), be(cdb, 6, 4));
    if allocation < 16 || select > 2 {
        return Err(Sense::INVALID_FIELD);
    }
    let mut data = vec![0; 16];
    if let Some(length) = data.get_mut(3) {
        *length = 8;
    }
    exactly(data)
}

impl Unit for Disk {
    fn accept(&self, cdb: &Cdb) -> Result<Plan, Sense> {
        let mut state = self.state.lock();
        let [opcode, ..] = *cdb;
        // These do not end with a unit attention, nor clear it (SAM-3, §5.8.5; MMC-5, §4.1.6.1).
        let exempt = matches!(
            opcode,
            op::INQUIRY | op::REPORT_LUNS | op::REQUEST_SENSE | op::GET_CONFIGURATION | op::GET_EVENT_STATUS
        );
        if opcode != op::REQUEST_SENSE {
            state.sense = Sense::NONE;
        }
        if !exempt && state.attention != Sense::NONE {
            return Err(state.take_attention());
        }
        self.decode(&mut state, cdb)
    }

    fn parameters(&self, cdb: &Cdb, bytes: &[u8]) -> Result<(), Sense> {
        self.mode_select(cdb, bytes)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Sense> {
        self.medium()?.read_at(offset, bytes).map_err(|_: io::Error| Sense::READ_ERROR)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Sense> {
        self.medium()?.write_at(offset, bytes).map_err(|_: io::Error| Sense::WRITE_ERROR)
    }

    fn flush(&self) -> Result<(), Sense> {
        self.medium()?.flush().map_err(|_: io::Error| Sense::WRITE_ERROR)
    }

    fn set_sense(&self, sense: Sense) {
        self.state.lock().sense = sense;
    }

    fn reset(&self) {
        let mut state = self.state.lock();
        state.sense = Sense::NONE;
        state.attention = Sense::RESET;
        state.locked = false;
        state.tray_open = false;
    }
}

impl Reset for Disk {
    fn reset(&self) {
        Unit::reset(self);
    }
}
