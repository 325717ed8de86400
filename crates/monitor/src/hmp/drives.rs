//! Drives and what is in them: `info block`, `eject`, `change`.

use std::io::Write;
use std::path::{Path, PathBuf};

use flatview_board::{DriveImage, DriveInfo};

use super::args::Args;
use super::{Hmp, HmpError};

type Done = Result<(), HmpError>;

/// `info block [-v] [device]`: an empty line between two drives; nothing for a name that there is not.
pub(super) fn info(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let verbose = !args.options("v")?.is_empty();
    let name = args.optional_word();
    args.end()?;
    let drives = hmp.machine.drives();
    let chosen =
        drives.iter().zip(0..).filter(|(drive, _)| name.as_ref().is_none_or(|name| *name == drive.name));
    for (n, (drive, number)) in chosen.enumerate() {
        if n != 0 {
            writeln!(out)?;
        }
        show(drive, number, verbose, out)?;
    }
    Ok(())
}

fn show(drive: &DriveInfo, number: u32, verbose: bool, out: &mut dyn Write) -> Done {
    match &drive.image {
        // Nodes are numbered so that none is called as a drive may be.
        Some((path, readonly)) => {
            let readonly = if *readonly { ", read-only" } else { "" };
            writeln!(out, "{} (#block{number}): {} (raw{readonly})", drive.name, path.display())?;
        }
        None => writeln!(out, "{}: [not inserted]", drive.name)?,
    }
    if let Some(path) = &drive.attached {
        writeln!(out, "    Attached to:      {path}")?;
    }
    if let Some((locked, open)) = drive.removable {
        let locked = if locked { "locked" } else { "not locked" };
        let tray = if open { "open" } else { "closed" };
        writeln!(out, "    Removable device: {locked}, tray {tray}")?;
    }
    let Some((path, _)) = &drive.image else { return Ok(()) };
    writeln!(out, "    Cache mode:       writeback")?;
    if verbose {
        let (virtual_size, disk_size) = sizes(path);
        writeln!(out, "\nImages:\nimage: {}\nfile format: raw", path.display())?;
        writeln!(out, "virtual size: {} ({virtual_size} bytes)", human(virtual_size))?;
        writeln!(out, "disk size: {}", human(disk_size))?;
    }
    Ok(())
}

/// Bytes of an image, and what it takes of the host's disk; 0 if the file is gone meanwhile.
fn sizes(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = path.metadata() else { return (0, 0) };
    (metadata.len().next_multiple_of(512), metadata.blocks() * 512)
}

/// A size with three digits that count, below 1000 of its unit: `1.5 MiB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1000.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024.0, Some(next));
    }
    let digits = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = if digits == 0 { &text } else { text.trim_end_matches('0').trim_end_matches('.') };
    format!("{text} {}B", unit.unwrap_or(&""))
}

/// `eject [-f] device`
pub(super) fn eject(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    let force = !args.options("f")?.is_empty();
    let name = args.device()?;
    args.end()?;
    Ok(hmp.machine.eject(&name, force)?)
}

/// `change device [-f] filename [format [read-only-mode]]`
pub(super) fn change(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    let name = args.device()?;
    let force = !args.options("f")?.is_empty();
    let path = PathBuf::from(args.file()?);
    let (format, mode) = (args.optional_word(), args.optional_word());
    args.end()?;
    let raw = match format.as_deref() {
        None | Some("auto") => false,
        Some("raw") => true,
        Some(other) => {
            return Err(HmpError::Failed(format!(
                "Format '{other}' is not read, only raw is; 'qemu-img convert -O raw' makes a raw image"
            )));
        }
    };
    match mode.as_deref() {
        None | Some("retain" | "read-only" | "read-write") => {}
        Some(other) => {
            return Err(HmpError::Failed(format!(
                "invalid read-only-mode '{other}'; there are retain, read-only and read-write"
            )));
        }
    }
    // Media that can be changed are CDs, which are read only in any mode.
    let image = DriveImage { path, readonly: true, raw };
    Ok(hmp.machine.change_medium(&name, &image, force)?)
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_have_three_digits_that_count() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.977 KiB"),
            (980 << 10, "980 KiB"),
            (3 << 20, "3 MiB"),
            (3 << 19, "1.5 MiB"),
            (100 << 20, "100 MiB"),
            (12_345_678, "11.8 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
