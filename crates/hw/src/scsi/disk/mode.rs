//! Mode pages: MODE SENSE and MODE SELECT.

use super::{Disk, Kind, State, answer, be, op};
use crate::scsi::bus::{Cdb, Plan};
use crate::scsi::medium::SECTOR;
use crate::scsi::sense::Sense;

/// Pages.
mod page {
    pub const ERROR_RECOVERY: u8 = 0x01;
    pub const RIGID_GEOMETRY: u8 = 0x04;
    pub const FLEXIBLE_GEOMETRY: u8 = 0x05;
    pub const CACHING: u8 = 0x08;
    pub const CD_AUDIO: u8 = 0x0e;
    pub const CD_CAPABILITIES: u8 = 0x2a;
    pub const ALL: u8 = 0x3f;
}

/// What MODE SENSE asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Current,
    Changeable,
}

/// Byte 2 of the caching page: writes are done before they are on the disk.
const WRITE_CACHE: u8 = 1 << 2;
/// The geometry that a hard disk tells of itself.
pub(super) const HEADS: u64 = 16;
pub(super) const SECTORS: u64 = 63;

/// A page with its code and length in front.
fn framed(code: u8, body: &[u8], length: u8) -> Vec<u8> {
    let mut page = [&[code, length], body].concat();
    page.resize(usize::from(length) + 2, 0);
    page
}

/// How many bytes of parameters MODE SELECT takes: pages in the standard's format, none of them to be saved.
pub(super) fn wanted(cdb: &Cdb) -> Result<Plan, Sense> {
    let length = if be(cdb, 0, 1) == u64::from(op::MODE_SELECT_6) { be(cdb, 4, 1) } else { be(cdb, 7, 2) };
    match length {
        0 => Ok(Plan::Done),
        _ if be(cdb, 1, 1) & 0x11 != 0x10 => Err(Sense::INVALID_FIELD),
        length => Ok(Plan::Parameters(length as usize)),
    }
}

impl State {
    /// Cylinders of a hard disk.
    pub(super) fn cylinders(&self) -> u64 {
        let sectors = self.medium.as_ref().map_or(0, |medium| medium.bytes() / SECTOR);
        (sectors / (HEADS * SECTORS)).clamp(2, 16_383)
    }
}

impl Disk {
    /// A page, if the drive has it.
    fn page(&self, state: &State, code: u8, values: Values) -> Option<Vec<u8>> {
        let current = values == Values::Current;
        let shown = |body: &[u8], length| framed(code, if current { body } else { &[] }, length);
        Some(match (self.kind, code) {
            (kind, page::ERROR_RECOVERY) => {
                // Automatic reallocation on writing; a CD-ROM drive tries so often.
                let cd = kind == Kind::CdRom;
                match current {
                    true => framed(code, &[0x80, if cd { 0x20 } else { 0 }], 10),
                    false => framed(code, &[if cd { 0x80 } else { 0 }], 10),
                }
            }
            (_, page::CACHING) => {
                let on = !current || state.write_cache;
                framed(code, &[if on { WRITE_CACHE } else { 0 }], 18)
            }
            (Kind::HardDisk, page::RIGID_GEOMETRY) => {
                let [.., high, mid, low] = state.cylinders().to_be_bytes();
                #[rustfmt::skip]
                let body = [
                    high, mid, low, HEADS as u8, high, mid, low, high, mid, low,
                    0, 200, 0xff, 0xff, 0xff, 0, 0, 0,
                    // 5,400 turns a minute.
                    0x15, 0x18, 0, 0,
                ];
                shown(&body, 22)
            }
            (Kind::HardDisk, page::FLEXIBLE_GEOMETRY) => {
                let [.., high, low] = state.cylinders().to_be_bytes();
                #[rustfmt::skip]
                let body = [
                    // 5,000 kbit/s.
                    0x13, 0x88, HEADS as u8, SECTORS as u8, 2, 0, high, low, high, low, high, low,
                    0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0x15, 0x18, 0, 0,
                ];
                shown(&body, 30)
            }
            (Kind::CdRom, page::CD_AUDIO) => shown(&[], 14),
            (Kind::CdRom, page::CD_CAPABILITIES) => {
                // Reads CDs and DVDs; a tray that can be locked; speeds of 50 and 16 times 176 kB/s and a buffer of 2 MiB.
                let locked = u8::from(state.locked) << 1;
                let body = [
                    0x3b,
                    0,
                    0x7f,
                    0xff,
                    0x2d | locked,
                    0,
                    0x22,
                    0x60,
                    0,
                    2,
                    8,
                    0,
                    0x0b,
                    0,
                    0,
                    0,
                    0x0b,
                    0,
                    0x0b,
                    0,
                ];
                shown(&body, 20)
            }
            _ => return None,
        })
    }

    /// MODE SENSE(6) and (10).
    pub(super) fn mode_sense(&self, state: &State, cdb: &Cdb) -> Result<Plan, Sense> {
        let short = be(cdb, 0, 1) == u64::from(op::MODE_SENSE_6);
        let allocation = if short { be(cdb, 4, 1) } else { be(cdb, 7, 2) };
        let code = be(cdb, 2, 1) as u8 & 0x3f;
        let values = match be(cdb, 2, 1) >> 6 {
            1 => Values::Changeable,
            3 => return Err(Sense::NO_SAVED_PARAMETERS),
            _ => Values::Current,
        };
        let mut body = Vec::new();
        let mut descriptor = 0;
        let mut protected = 0;
        if self.kind == Kind::HardDisk {
            let medium = state.medium.as_ref();
            protected = if medium.is_some_and(|medium| medium.readonly()) { 0x80 } else { 0 };
            if be(cdb, 1, 1) & 8 == 0 {
                let blocks = medium.map_or(0, |medium| medium.bytes() / self.block());
                let told = u32::try_from(blocks).ok().filter(|blocks| *blocks <= 0xff_ffff).unwrap_or(0);
                body.extend(told.to_be_bytes());
                body.extend((self.block() as u32).to_be_bytes());
                descriptor = 8;
            }
        }
        let wanted = match code {
            page::ALL => 0..page::ALL,
            one => one..one + 1,
        };
        let before = body.len();
        for code in wanted {
            body.extend(self.page(state, code, values).unwrap_or_default());
        }
        if body.len() == before {
            return Err(Sense::INVALID_FIELD);
        }
        let data = if short {
            [&[(body.len() + 3) as u8, 0, protected, descriptor], &body[..]].concat()
        } else {
            let [high, low] = ((body.len() + 6) as u16).to_be_bytes();
            [&[high, low, 0, protected, 0, 0, 0, descriptor], &body[..]].concat()
        };
        answer(data, allocation)
    }

    /// MODE SELECT(6) and (10): all pages are checked before one counts.
    pub(super) fn mode_select(&self, cdb: &Cdb, bytes: &[u8]) -> Result<(), Sense> {
        let short = be(cdb, 0, 1) == u64::from(op::MODE_SELECT_6);
        let (header, descriptor) = if short { (4, be(bytes, 3, 1)) } else { (8, be(bytes, 6, 2)) };
        if bytes.len() < header {
            return Err(Sense::PARAMETER_LENGTH);
        }
        if descriptor != 0 && descriptor != 8 {
            return Err(Sense::INVALID_PARAMETER);
        }
        let mut rest = bytes.get(header + descriptor as usize..).ok_or(Sense::PARAMETER_LENGTH)?;
        let mut state = self.state.lock();
        let mut cache = state.write_cache;
        while !rest.is_empty() {
            let &[code, length, ..] = rest else { return Err(Sense::PARAMETER_LENGTH) };
            // Pages with subpages have another format, and none of these has any.
            if code & 0x40 != 0 {
                return Err(Sense::INVALID_PARAMETER);
            }
            let code = code & 0x3f;
            let current = self.page(&state, code, Values::Current).ok_or(Sense::INVALID_PARAMETER)?;
            let changeable = self.page(&state, code, Values::Changeable).ok_or(Sense::INVALID_PARAMETER)?;
            let size = usize::from(length) + 2;
            if size != current.len() {
                return Err(Sense::INVALID_PARAMETER);
            }
            let page = rest.get(..size).ok_or(Sense::PARAMETER_LENGTH)?;
            let allowed = page.iter().zip(current.iter().zip(&changeable)).skip(2);
            if allowed.clone().any(|(new, (old, mask))| (new ^ old) & !mask != 0) {
                return Err(Sense::INVALID_PARAMETER);
            }
            if code == page::CACHING {
                cache = be(page, 2, 1) as u8 & WRITE_CACHE != 0;
            }
            rest = rest.get(size..).unwrap_or_default();
        }
        state.write_cache = cache;
        Ok(())
    }
}
