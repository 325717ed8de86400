//! Drives: what the user puts into them, and what can be asked of them while the machine runs.
//!
//! [`DriveConfig`] is the command line's part, [`DriveInfo`] what `info block` shows. The drives themselves are
//! devices (`flatview_hw::scsi`); empty ones that no model stands behind are listed too, as QEMU lists them. What must always hold: a
//! name means one drive.

use std::path::PathBuf;
use std::sync::Arc;

use flatview_hw::scsi::disk::{Disk, EjectError, Kind};
use flatview_hw::scsi::medium::{ImageSpec, Medium, MediumError};
use thiserror::Error;

use crate::{BoardBuilder, BoardError};

pub use flatview_hw::scsi::medium::ImageSpec as DriveImage;

/// What kind of medium a drive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriveMedia {
    /// A hard disk.
    Disk,
    /// A CD or DVD, to be read only.
    Cdrom,
}

/// A drive that the user asks for (`-drive if=scsi`, `-cdrom`, `-hda`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveConfig {
    /// The option as given, for errors: `-cdrom a.iso`.
    pub option: String,
    /// What users call it; `None` is a name by its place, such as `scsi0-cd2`.
    pub id: Option<String>,
    /// Its number on the bus, 0 to 6; `None` is the first that is free.
    pub unit: Option<u8>,
    /// What is in it.
    pub media: DriveMedia,
    /// The image; only a CD-ROM drive can be without one.
    pub image: Option<ImageSpec>,
}

/// Units that a SCSI bus has beside the host adapter, which is 7.
pub const SCSI_UNITS: u8 = 7;

/// Why a drive cannot be, or not do what is asked.
#[derive(Debug, Error)]
pub enum DriveError {
    /// No drive of this name.
    #[error("Device '{0}' not found; 'info block' lists the drives")]
    NotFound(String),
    /// Its medium stays.
    #[error("Device '{name}' {error}")]
    Eject {
        /// The drive.
        name: String,
        /// Why.
        error: EjectError,
    },
    /// No device model stands behind it.
    #[error("Device '{0}' is not modelled: nothing reads what is put into it")]
    NotModelled(String),
    /// Two drives at one place.
    #[error("drive with bus=0, unit={unit} (index={unit}) exists; give one of them another unit=")]
    Taken {
        /// The place.
        unit: u8,
    },
    /// Two drives of one name.
    #[error("Duplicate ID '{0}' for drive; give each its own")]
    DuplicateId(String),
    /// Nowhere left.
    #[error("all {SCSI_UNITS} units of the SCSI bus are taken")]
    BusFull,
    /// A place that there is not.
    #[error("machine type does not support if=scsi,bus={bus},unit={unit}; units are 0 to {}", SCSI_UNITS - 1)]
    NoSuchUnit {
        /// The bus.
        bus: u8,
        /// The unit.
        unit: u8,
    },
    /// A hard disk without a medium.
    #[error("Device needs media, but drive is empty; say file=path, or media=cdrom")]
    NoMedia,
    /// The image.
    #[error(transparent)]
    Medium(#[from] MediumError),
}

/// What `info block` shows of a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveInfo {
    /// What users call it.
    pub name: String,
    /// The device's place in the object tree; `None` if it has no device.
    pub attached: Option<String>,
    /// The image, and whether it is read-only.
    pub image: Option<(PathBuf, bool)>,
    /// Whether media can be changed, and then whether the guest prevents it and whether the tray is open.
    pub removable: Option<(bool, bool)>,
}

struct Drive {
    name: String,
    attached: Option<String>,
    disk: Option<Arc<Disk>>,
}

/// The drives of a machine.
#[derive(Default)]
pub(crate) struct Drives {
    drives: Vec<Drive>,
    /// Drives that nothing is behind.
    empty: Vec<Drive>,
}

impl Drives {
    pub(crate) fn infos(&self) -> Vec<DriveInfo> {
        let info = |drive: &Drive| {
            let state = drive.disk.as_ref().map(|disk| disk.drive_state());
            let (image, removable) =
                state.map_or((None, Some((false, false))), |state| (state.image, state.removable));
            DriveInfo { name: drive.name.clone(), attached: drive.attached.clone(), image, removable }
        };
        self.drives.iter().chain(&self.empty).map(info).collect()
    }

    fn disk(&self, name: &str) -> Result<&Arc<Disk>, DriveError> {
        let mut all = self.drives.iter().chain(&self.empty);
        let drive =
            all.find(|drive| drive.name == name).ok_or_else(|| DriveError::NotFound(name.to_owned()))?;
        drive.disk.as_ref().ok_or_else(|| DriveError::NotModelled(name.to_owned()))
    }

    pub(crate) fn eject(&self, name: &str, force: bool) -> Result<(), DriveError> {
        if self.empty.iter().any(|drive| drive.name == name) {
            return Ok(());
        }
        let failed = |error| DriveError::Eject { name: name.to_owned(), error };
        self.disk(name)?.eject(force).map_err(failed)
    }

    pub(crate) fn change(&self, name: &str, image: &ImageSpec, force: bool) -> Result<(), DriveError> {
        let disk = self.disk(name)?;
        let failed = |error| DriveError::Eject { name: name.to_owned(), error };
        if disk.kind() != Kind::CdRom {
            return Err(failed(EjectError::NotRemovable));
        }
        let medium = Medium::open(image)?;
        disk.change(medium, force).map_err(failed)
    }

    /// A drive that nothing is behind.
    pub(crate) fn add_empty(&mut self, name: &str, attached: Option<&str>) {
        let attached = attached.map(str::to_owned);
        self.empty.push(Drive { name: name.to_owned(), attached, disk: None });
    }

    /// Notes a drive by its place in the object tree.
    pub(crate) fn add(&mut self, disk: &Arc<Disk>, attached: &str) {
        let (name, attached) = (disk.name().to_owned(), Some(attached.to_owned()));
        self.drives.push(Drive { name, attached, disk: Some(disk.clone()) });
    }
}

/// The drives of a SCSI bus by unit: those that the user asks for and an empty CD-ROM drive at `cdrom` unless that place is taken.
pub(crate) fn scsi(b: &mut BoardBuilder<'_>, cdrom: u8) -> Result<Vec<(u8, Arc<Disk>)>, BoardError> {
    let mut drives: Vec<(u8, Arc<Disk>)> = Vec::new();
    let configs = b.scsi_drives();
    let taken: Vec<Option<u8>> = configs.iter().map(|config| config.unit).collect();
    for config in configs {
        let fail = |error: DriveError| BoardError::Drive { option: config.option.clone(), error };
        let free = (0..SCSI_UNITS)
            .find(|unit| !taken.contains(&Some(*unit)) && drives.iter().all(|drive| drive.0 != *unit));
        let unit = config.unit.or(free).ok_or_else(|| fail(DriveError::BusFull))?;
        if unit >= SCSI_UNITS {
            return Err(fail(DriveError::NoSuchUnit { bus: unit / SCSI_UNITS, unit: unit % SCSI_UNITS }));
        }
        if drives.iter().any(|drive| drive.0 == unit) {
            return Err(fail(DriveError::Taken { unit }));
        }
        let (kind, letters) = match config.media {
            DriveMedia::Disk => (Kind::HardDisk, "hd"),
            DriveMedia::Cdrom => (Kind::CdRom, "cd"),
        };
        let name = config.id.clone().unwrap_or_else(|| format!("scsi0-{letters}{unit}"));
        if drives.iter().any(|drive| drive.1.name() == name) {
            return Err(fail(DriveError::DuplicateId(name)));
        }
        let readonly = config.media == DriveMedia::Cdrom;
        let open = |image: &ImageSpec| {
            Medium::open(&ImageSpec { readonly: image.readonly || readonly, ..image.clone() })
        };
        let medium = config.image.as_ref().map(open).transpose().map_err(|error| fail(error.into()))?;
        if medium.is_none() && kind == Kind::HardDisk {
            return Err(fail(DriveError::NoMedia));
        }
        drives.push((unit, Disk::new(kind, &name, medium)));
    }
    if drives.iter().all(|drive| drive.0 != cdrom) {
        drives.push((cdrom, Disk::new(Kind::CdRom, &format!("scsi0-cd{cdrom}"), None)));
    }
    Ok(drives)
}
