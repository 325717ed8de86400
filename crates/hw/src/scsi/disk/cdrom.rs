//! What a CD-ROM drive answers beyond what every disk does (MMC-5).

use super::{State, answer, be};
use crate::scsi::bus::{Cdb, Plan};
use crate::scsi::sense::Sense;

/// What happened to the medium since the guest asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    None = 0,
    EjectRequest = 1,
    NewMedia = 2,
    MediaRemoval = 3,
}

/// Blocks of a CD of 80 minutes, beyond which a disc is a DVD.
const CD_BLOCKS: u64 = 80 * 60 * 75;
/// Blocks before the first one of track 1, in addresses by minute, second and frame.
const LEAD_IN: u64 = 150;
const FRAMES: u64 = 75;
/// Profiles.
const CD_ROM: u8 = 0x08;
const DVD_ROM: u8 = 0x10;
/// The number of the lead-out as a track.
const LEAD_OUT: u8 = 0xaa;

/// Whether a disc of so many blocks is a DVD.
pub(super) fn is_dvd(blocks: u64) -> bool {
    blocks > CD_BLOCKS
}

/// GET CONFIGURATION: the profiles, the core feature and that the medium can be taken out.
pub(super) fn configuration(state: &State) -> Vec<u8> {
    let profile = match state.ready() {
        Ok(medium) if is_dvd(medium.bytes() / 2048) => DVD_ROM,
        Ok(_) => CD_ROM,
        Err(_) => 0,
    };
    let current = |wanted: u8| u8::from(profile == wanted);
    #[rustfmt::skip]
    let data = vec![
        0, 0, 0, 36, 0, 0, 0, profile,
        // Profile list.
        0, 0, 3, 8, 0, DVD_ROM, current(DVD_ROM), 0, 0, CD_ROM, current(CD_ROM), 0,
        // Core: SCSI, with device busy events.
        0, 1, 0x0b, 8, 0, 0, 0, 1, 1, 0, 0, 0,
        // Removable medium: a tray that can be locked and ejected.
        0, 3, 0x0b, 4, 0x39, 0, 0, 0,
    ];
    data
}

/// GET EVENT STATUS NOTIFICATION: events of the medium, if asked for; polled only.
pub(super) fn event_status(state: &mut State, cdb: &Cdb) -> Result<Plan, Sense> {
    let allocation = be(cdb, 7, 2);
    if be(cdb, 1, 1) & 1 == 0 {
        return Err(Sense::INVALID_FIELD);
    }
    const MEDIA: u8 = 4;
    if be(cdb, 4, 1) & 1 << MEDIA == 0 {
        return answer(vec![0, 0, 0x80, 1 << MEDIA], allocation);
    }
    let event = match std::mem::replace(&mut state.event, Event::None) {
        Event::None if std::mem::take(&mut state.eject_asked) => Event::EjectRequest,
        event => event,
    };
    let status = u8::from(state.tray_open) | if state.ready().is_ok() { 2 } else { 0 };
    answer(vec![0, 4, MEDIA, 1 << MEDIA, event as u8, status, 0, 0], allocation)
}

/// MECHANISM STATUS: one disc, no changer.
pub(super) fn mechanism_status() -> Vec<u8> {
    vec![0, 0, 0, 0, 0, 1, 0, 0]
}

/// READ DISC INFORMATION: one complete session with one track.
pub(super) fn disc_information() -> Vec<u8> {
    let mut data = vec![0, 32, 0x0e, 1, 1, 1, 1, 0x20];
    data.resize(34, 0);
    data
}

/// Four bytes for a block: its number, or minute, second and frame.
fn address(block: u64, by_time: bool) -> [u8; 4] {
    if !by_time {
        return u32::try_from(block).unwrap_or(u32::MAX).to_be_bytes();
    }
    let frames = block.saturating_add(LEAD_IN);
    let minute = frames / FRAMES / 60;
    [0, u8::try_from(minute).unwrap_or(u8::MAX), (frames / FRAMES % 60) as u8, (frames % FRAMES) as u8]
}

/// READ TOC: one data track from block 0 to the lead-out.
pub(super) fn table_of_contents(cdb: &Cdb, blocks: u64) -> Result<Plan, Sense> {
    let by_time = be(cdb, 1, 1) & 2 != 0;
    let start = be(cdb, 6, 1) as u8;
    let mut data = vec![0, 0, 1, 1];
    match be(cdb, 2, 1) & 0xf {
        0 => {
            if start > 1 && start != LEAD_OUT {
                return Err(Sense::INVALID_FIELD);
            }
            if start <= 1 {
                data.extend([0, 0x14, 1, 0]);
                data.extend(address(0, by_time));
            }
            data.extend([0, 0x16, LEAD_OUT, 0]);
            data.extend(address(blocks, by_time));
        }
        // The only session, without the track that it would begin with.
        1 => data.resize(12, 0),
        // All entries of the lead-in: first and last track, lead-out, track 1.
        2 => {
            for (point, value) in [
                (0xa0, [0, 1, 0, 0]),
                (0xa1, [0, 1, 0, 0]),
                (0xa2, address(blocks, by_time)),
                (1, address(0, by_time)),
            ] {
                data.extend([1, 0x14, 0, point, 0, 0, 0]);
                data.extend(value);
            }
        }
        _ => return Err(Sense::INVALID_FIELD),
    }
    let length = u16::try_from(data.len().saturating_sub(2)).unwrap_or(u16::MAX).to_be_bytes();
    for (slot, byte) in data.iter_mut().zip(length) {
        *slot = byte;
    }
    answer(data, be(cdb, 7, 2))
}
