//! A drive of the floppy controller: where its heads are, and the disk in it.
//!
//! It knows nothing of commands. What must always hold: the image file keeps its size, and nothing is written to a disk
//! that is protected.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a sector; all disks here have this size.
pub const SECTOR: usize = 512;

/// How a disk is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Sectors of a track.
    pub sectors: u8,
    /// Tracks of a side.
    pub tracks: u8,
    /// Sides, 1 or 2.
    pub sides: u8,
    /// What the data rate register (bits 1–0) must say: 0 is 500, 1 is 300, 2 is 250 and 3 is 1000 kb/s.
    pub rate: u8,
}

const fn geometry(sectors: u8, tracks: u8, sides: u8, rate: u8) -> Geometry {
    Geometry { sectors, tracks, sides, rate }
}

/// The disks that there are, as a 2.88 MB drive reads them.
const GEOMETRIES: [Geometry; 9] = [
    geometry(36, 80, 2, 3),
    geometry(18, 80, 2, 0),
    geometry(15, 80, 2, 0),
    geometry(9, 80, 2, 2),
    geometry(9, 40, 2, 1),
    geometry(9, 40, 1, 1),
    geometry(8, 40, 2, 1),
    geometry(8, 40, 1, 1),
    geometry(10, 80, 2, 2),
];

impl Geometry {
    /// Bytes of a disk.
    pub fn bytes(&self) -> u64 {
        u64::from(self.sectors) * u64::from(self.tracks) * u64::from(self.sides) * SECTOR as u64
    }

    /// The layout of a disk with so many bytes.
    pub fn of(bytes: u64) -> Option<Geometry> {
        GEOMETRIES.into_iter().find(|geometry| geometry.bytes() == bytes)
    }

    /// The sizes that disks can have, in KiB, largest first.
    pub fn sizes() -> Vec<u64> {
        let mut sizes: Vec<u64> = GEOMETRIES.iter().map(|geometry| geometry.bytes() >> 10).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes
    }
}

/// A disk: an image file with sectors in the order track, side, sector.
#[derive(Debug)]
pub struct Disk {
    file: File,
    geometry: Geometry,
    protected: bool,
}

impl Disk {
    /// A disk of this layout; a protected one is never written.
    pub fn new(file: File, geometry: Geometry, protected: bool) -> Disk {
        Disk { file, geometry, protected }
    }

    fn offset(&self, track: u8, head: u8, sector: u8) -> Option<u64> {
        let Geometry { sectors, tracks, sides, .. } = self.geometry;
        let there = track < tracks && head < sides && (1..=sectors).contains(&sector);
        let index = (u64::from(track) * u64::from(sides) + u64::from(head)) * u64::from(sectors)
            + u64::from(sector.saturating_sub(1));
        there.then_some(index * SECTOR as u64)
    }

    fn read(&self, track: u8, head: u8, sector: u8, into: &mut [u8; SECTOR]) -> bool {
        self.offset(track, head, sector).is_some_and(|at| self.file.read_exact_at(into, at).is_ok())
    }

    fn write(&self, track: u8, head: u8, sector: u8, from: &[u8; SECTOR]) -> bool {
        !self.protected
            && self.offset(track, head, sector).is_some_and(|at| self.file.write_all_at(from, at).is_ok())
    }
}

/// What a seek came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The heads are there, and there is a disk.
    There,
    /// There is no such track or side, or no disk.
    NoTrack,
    /// There is no such sector.
    NoSector,
}

/// A drive.
#[derive(Debug)]
pub struct Drive {
    /// The cylinder at which the heads are.
    pub track: u8,
    /// The head used last.
    pub head: u8,
    /// The sector used last.
    pub sector: u8,
    /// The last sector of a track, which FORMAT and RESTORE set.
    pub last_sector: u8,
    /// The last cylinder.
    max_track: u8,
    sides: u8,
    disk: Option<Disk>,
    /// The disk was changed since the heads last moved.
    pub changed: bool,
    /// What PERPENDICULAR MODE said, which no disk here depends on.
    pub perpendicular: u8,
}

impl Drive {
    /// No drive at all.
    pub fn absent() -> Drive {
        Drive {
            track: 0,
            head: 0,
            sector: 0,
            last_sector: 0,
            max_track: 0,
            sides: 1,
            disk: None,
            changed: true,
            perpendicular: 0,
        }
    }

    /// A drive, with a disk or empty. The heads of an empty one go wherever they are sent.
    pub fn new(disk: Option<Disk>) -> Drive {
        let (last_sector, max_track, sides) = match &disk {
            Some(disk) => (disk.geometry.sectors, disk.geometry.tracks, disk.geometry.sides),
            None => (0xff, 0xff, 1),
        };
        Drive { sector: 1, last_sector, max_track, sides, disk, ..Drive::absent() }
    }

    /// Whether there is a disk.
    pub fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// The last cylinder there is.
    pub fn max_track(&self) -> u8 {
        self.max_track
    }

    /// Whether it cannot be written: an empty drive says so too.
    pub fn is_protected(&self) -> bool {
        self.disk.as_ref().is_none_or(|disk| disk.protected)
    }

    /// The data rate of the disk.
    pub fn rate(&self) -> Option<u8> {
        self.disk.as_ref().map(|disk| disk.geometry.rate)
    }

    fn index(&self, track: u8, head: u8, sector: u8) -> i32 {
        (i32::from(track) * i32::from(self.sides) + i32::from(head)) * i32::from(self.last_sector)
            + i32::from(sector)
    }

    /// Moves the heads to a sector.
    pub fn seek(&mut self, track: u8, head: u8, sector: u8) -> Seek {
        if track > self.max_track || head != 0 && self.sides < 2 {
            return Seek::NoTrack;
        }
        if sector > self.last_sector {
            return Seek::NoSector;
        }
        if self.index(track, head, sector) != self.index(self.track, self.head, self.sector) {
            if track != self.track && self.has_disk() {
                self.changed = false;
            }
            (self.track, self.head, self.sector) = (track, head, sector);
        }
        if self.has_disk() { Seek::There } else { Seek::NoTrack }
    }

    /// To cylinder 0.
    pub fn recalibrate(&mut self) {
        self.seek(0, 0, 1);
    }

    /// Reads the sector under the heads; whether that went well.
    pub fn read(&self, into: &mut [u8; SECTOR]) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.read(self.track, self.head, self.sector, into))
    }

    /// Writes the sector under the heads; whether that went well.
    pub fn write(&self, from: &[u8; SECTOR]) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.write(self.track, self.head, self.sector, from))
    }

    /// The next sector of an operation that ends behind sector `end`, on both sides if `both`; whether there is one.
    /// Behind the last one the heads stand before the first of the next cylinder, as the result tells it.
    pub fn next(&mut self, end: u8, both: bool) -> bool {
        if self.sector < end.min(self.last_sector) {
            self.sector += 1;
            return true;
        }
        self.sector = 1;
        if both && self.head == 0 && self.sides == 2 {
            self.head = 1;
            return true;
        }
        if both {
            self.head = 0;
        }
        self.track = self.track.saturating_add(1);
        false
    }
}
