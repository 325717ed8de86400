//! `-drive`, `-cdrom` and `-hda` to `-hdd`, read.
//!
//! What an option means follows from its text alone; files are opened by the machine. A comma in a path is written twice.

use std::path::PathBuf;

use flatview_board::{DriveConfig, DriveImage, DriveMedia};

/// What `-drive` gives the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drive {
    /// `if=pflash`
    Flash(PathBuf),
    /// `if=mtd`
    Nvram(PathBuf),
    /// `if=scsi`, which is what a board with such a bus takes by default.
    Scsi(DriveConfig),
}

const PARAMETERS: &str = "if, file, format, media, unit, index, bus, readonly, id, cache, werror and rerror";
/// Units of a bus: an index counts through the buses.
const UNITS: u64 = 7;

fn on_or_off(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("Parameter '{name}' expects 'on' or 'off'")),
    }
}

/// `-drive [if=]…`: the drive, or what is wrong.
pub fn drive(text: &str) -> Result<Drive, String> {
    let (mut file, mut interface, mut id) = (None, None, None);
    let (mut media, mut raw, mut readonly) = (DriveMedia::Disk, false, false);
    let (mut bus, mut unit, mut index) = (None, None, None);
    let number = |name: &str, value: &str| {
        value.parse::<u64>().map_err(|_| format!("Parameter '{name}' expects a number"))
    };
    for part in text.replace(",,", "\0").split(',') {
        let part = part.replace('\0', ",");
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!("Invalid parameter '{part}'; there are {PARAMETERS}"));
        };
        match (name, value) {
            ("file", path) => file = Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty()),
            ("if", value) => interface = Some(value.to_owned()),
            ("id", value) => id = Some(value.to_owned()),
            ("format", "raw") => raw = true,
            ("format", other) => {
                return Err(format!(
                    "format '{other}' is not read, only raw is; 'qemu-img convert -O raw' makes a raw image"
                ));
            }
            ("media", "disk") => media = DriveMedia::Disk,
            ("media", "cdrom") => media = DriveMedia::Cdrom,
            ("media", other) => return Err(format!("'{other}' invalid media; there are disk and cdrom")),
            ("readonly" | "read-only", value) => readonly = on_or_off(name, value)?,
            ("bus", value) => bus = Some(number(name, value)?),
            ("unit", value) => unit = Some(number(name, value)?),
            ("index", value) => index = Some(number(name, value)?),
            // What is written is with the host at once, and on its disk when the guest asks for that.
            ("cache", "writeback" | "none" | "directsync" | "writethrough" | "unsafe") => {}
            // An error is the guest's matter.
            ("werror" | "rerror", "report" | "auto") => {}
            ("werror" | "rerror" | "cache", other) => {
                return Err(format!("'{other}' is not a value for {name} here"));
            }
            _ => return Err(format!("Invalid parameter '{name}'; there are {PARAMETERS}")),
        }
    }
    if index.is_some() && (bus.is_some() || unit.is_some()) {
        return Err("index cannot be used with bus and unit".to_owned());
    }
    let image = file.clone().map(|path| DriveImage { path, readonly, raw });
    match interface.as_deref() {
        Some("pflash" | "mtd") => {
            if let Some(other) = unit.or(index).filter(|unit| *unit != 0) {
                return Err(format!("there is no unit {other}; boards with flash have unit 0"));
            }
            let file = file.ok_or("file=path is missing")?;
            Ok(if interface.as_deref() == Some("mtd") { Drive::Nvram(file) } else { Drive::Flash(file) })
        }
        None | Some("scsi") => {
            let place = index.or(unit);
            let bus = bus.unwrap_or(0) + place.map_or(0, |place| place / UNITS);
            let unit = place.map(|place| (place % UNITS) as u8);
            if bus != 0 {
                let unit = unit.unwrap_or(0);
                return Err(format!(
                    "machine type does not support if=scsi,bus={bus},unit={unit}; there is bus 0 with units 0 to 6"
                ));
            }
            Ok(Drive::Scsi(DriveConfig { option: format!("-drive {text}"), id, unit, media, image }))
        }
        Some(other) => Err(format!(
            "machine type does not support if={other}; there are scsi, pflash (flash) and mtd (NVRAM)"
        )),
    }
}

/// `-cdrom FILE`
pub fn cdrom(path: &str) -> DriveConfig {
    shorthand("-cdrom", path, 2, DriveMedia::Cdrom)
}

/// `-hda FILE` and so on, and a file without an option, which is the first of them.
pub fn disk(option: &str, path: &str, unit: u8) -> DriveConfig {
    shorthand(option, path, unit, DriveMedia::Disk)
}

fn shorthand(option: &str, path: &str, unit: u8, media: DriveMedia) -> DriveConfig {
    let image = DriveImage { path: path.into(), readonly: false, raw: false };
    let option = format!("{option} {path}").trim_start().to_owned();
    DriveConfig { option, id: None, unit: Some(unit), media, image: Some(image) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scsi(text: &str) -> DriveConfig {
        match drive(text) {
            Ok(Drive::Scsi(config)) => config,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_drive_has_a_place_a_kind_and_an_image() {
        let config = scsi("if=scsi,media=cdrom,file=a,,b.iso,format=raw,unit=3,id=x");
        assert_eq!(
            (config.unit, config.media, config.id.as_deref()),
            (Some(3), DriveMedia::Cdrom, Some("x"))
        );
        assert_eq!(config.image, Some(DriveImage { path: "a,b.iso".into(), readonly: false, raw: true }));
        let config = scsi("file=d,readonly=on,index=6");
        assert_eq!((config.unit, config.media), (Some(6), DriveMedia::Disk));
        assert!(config.image.is_some_and(|image| image.readonly && !image.raw));
        let config = scsi("media=cdrom");
        assert_eq!((config.unit, config.image), (None, None));
    }

    #[test]
    fn flash_and_nvram_are_drives_too() {
        assert_eq!(drive("if=pflash,format=raw,unit=0,file=a,,b"), Ok(Drive::Flash("a,b".into())));
        assert_eq!(drive("if=mtd,format=raw,file=a"), Ok(Drive::Nvram("a".into())));
    }

    #[test]
    fn what_is_wrong_is_named_with_the_cure() {
        for (text, wanted) in [
            ("if=pflash", "file=path is missing"),
            ("if=pflash,file=f,unit=1", "there is no unit 1; boards with flash have unit 0"),
            ("file=f,format=qcow2", "format 'qcow2' is not read, only raw is"),
            ("file=f,snapshot=on", "Invalid parameter 'snapshot'; there are if, file,"),
            ("file=f,media=tape", "'tape' invalid media; there are disk and cdrom"),
            ("file=f,readonly=yes", "Parameter 'readonly' expects 'on' or 'off'"),
            ("file=f,unit=x", "Parameter 'unit' expects a number"),
            ("file=f,unit=1,index=1", "index cannot be used with bus and unit"),
            ("if=ide,file=f", "machine type does not support if=ide; there are scsi, pflash"),
            ("file=f,index=9", "machine type does not support if=scsi,bus=1,unit=2; there is bus 0"),
            ("file=f,bus=1", "machine type does not support if=scsi,bus=1,unit=0;"),
            ("disk.img", "Invalid parameter 'disk.img'"),
        ] {
            let error = drive(text).unwrap_err();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
    }
}
