//! What is in a drive: a raw image in a file, block by block.
//!
//! A [`Medium`] is locked while it is open, for one writer or for any number of readers, by the host's advisory locks; other
//! programs that ask for those are kept out, others are not. Reading beyond the file's end gives zeros up to the last sector;
//! nothing here makes a file longer or shorter. It knows nothing of SCSI. What must always hold: what `write_at` was given is in the
//! file when it returns.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Bytes of the smallest block there is; a file's length is rounded up to it.
pub const SECTOR: u64 = 512;

/// Why an image cannot be used.
#[derive(Debug, Error)]
pub enum MediumError {
    /// The host's reason.
    #[error("Could not open '{path}': {}", reason(.source))]
    Open {
        /// The image.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error(
        "Failed to get \"{access}\" lock on '{path}': another process or drive uses the image; end that one, or open both with readonly=on"
    )]
    Locked {
        /// `write`, or `shared` for reading only.
        access: &'static str,
        /// The image.
        path: PathBuf,
    },
    /// Not a raw image.
    #[error(
        "'{path}' is an image of format {format}, and only raw ones are read; convert it ('qemu-img convert -O raw'), or say format=raw if it is a raw image after all"
    )]
    Format {
        /// The image.
        path: PathBuf,
        /// What it looks like.
        format: &'static str,
    },
    /// Nothing in it.
    #[error("'{path}' is empty: an image has {SECTOR} bytes at least")]
    Empty {
        /// The image.
        path: PathBuf,
    },
}

/// How to open an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// The file.
    pub path: PathBuf,
    /// Whether nothing may be written.
    pub readonly: bool,
    /// Whether the user said that it is raw, whatever it looks like.
    pub raw: bool,
}

/// An image that is open.
#[derive(Debug)]
pub struct Medium {
    file: File,
    path: PathBuf,
    readonly: bool,
    bytes: u64,
}

/// What formats that are not raw begin with.
const FORMATS: [(&[u8], &str); 6] = [
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"QED\0", "qed"),
];

/// The host's reason without the number that Rust adds.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

impl Medium {
    /// Opens an image.
    ///
    /// # Errors
    /// [`MediumError`] names the file and what would help.
    pub fn open(spec: &ImageSpec) -> Result<Medium, MediumError> {
        let path = spec.path.clone();
        let fail = |source| MediumError::Open { path: spec.path.clone(), source };
        let mut file = OpenOptions::new().read(true).write(!spec.readonly).open(&path).map_err(fail)?;
        if file.metadata().map_err(fail)?.is_dir() {
            return Err(fail(io::Error::from(ErrorKind::IsADirectory)));
        }
        let (access, locked) = match spec.readonly {
            true => ("shared", file.try_lock_shared()),
            false => ("write", file.try_lock()),
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(MediumError::Locked { access, path }),
            // A file system without locks has none to respect.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        // A device has a length too, but not in its metadata.
        let bytes = file.seek(SeekFrom::End(0)).map_err(fail)?;
        if bytes == 0 {
            return Err(MediumError::Empty { path });
        }
        if !spec.raw {
            let mut start = [0; 32];
            let length = read_up_to(&file, 0, &mut start).map_err(fail)?;
            let start = start.get(..length).unwrap_or_default();
            if let Some((_, format)) = FORMATS.iter().find(|(magic, _)| start.starts_with(magic)) {
                return Err(MediumError::Format { path, format });
            }
        }
        Ok(Medium { file, path, readonly: spec.readonly, bytes })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing may be written.
    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// Bytes, in whole sectors of [`SECTOR`].
    pub fn bytes(&self) -> u64 {
        self.bytes.checked_next_multiple_of(SECTOR).unwrap_or(self.bytes)
    }

    /// Reads; what lies beyond the file's end reads as zeros.
    ///
    /// # Errors
    /// The host's.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let length = read_up_to(&self.file, offset, bytes)?;
        if let Some(rest) = bytes.get_mut(length..) {
            rest.fill(0);
        }
        Ok(())
    }

    /// Writes; a last sector that is not whole in the file makes the file that much longer.
    ///
    /// # Errors
    /// The host's, and that the image is read-only.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.readonly {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        self.file.write_all_at(bytes, offset)
    }

    /// Waits until everything that was written is on the host's disk.
    ///
    /// # Errors
    /// The host's.
    pub fn flush(&self) -> io::Result<()> {
        if self.readonly { Ok(()) } else { self.file.sync_data() }
    }
}

/// Reads until the buffer is full or the file ends; how much there was.
fn read_up_to(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(path: &Path) -> ImageSpec {
        ImageSpec { path: path.into(), readonly: false, raw: false }
    }

    #[test]
    fn what_is_written_is_in_the_file_and_beyond_its_end_are_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        std::fs::write(&path, vec![7; 700]).unwrap();
        let medium = Medium::open(&spec(&path)).unwrap();
        assert_eq!(medium.bytes(), 1024);
        let mut block = [1; 512];
        medium.read_at(512, &mut block).unwrap();
        assert_eq!((block[187], block[188], block[511]), (7, 0, 0));
        medium.write_at(0, &[9; 512]).unwrap();
        medium.flush().unwrap();
        let file = std::fs::read(&path).unwrap();
        assert_eq!((file.len(), file[511], file[512]), (700, 9, 7));
    }

    #[test]
    fn two_writers_are_refused_and_two_readers_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        std::fs::write(&path, vec![0; 512]).unwrap();
        let writer = Medium::open(&spec(&path)).unwrap();
        let reading = ImageSpec { readonly: true, ..spec(&path) };
        for (other, access) in [(&spec(&path), "\"write\""), (&reading, "\"shared\"")] {
            let text = Medium::open(other).unwrap_err().to_string();
            assert!(text.contains(access) && text.contains("disk.img"), "{text}");
        }
        drop(writer);
        let readers = [Medium::open(&reading).unwrap(), Medium::open(&reading).unwrap()];
        assert!(readers[0].write_at(0, &[0]).is_err());
        assert!(Medium::open(&spec(&path)).is_err());
    }

    #[test]
    fn what_is_no_raw_image_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        std::fs::write(&path, b"QFI\xfb\0\0\0\x03").unwrap();
        let text = Medium::open(&spec(&path)).unwrap_err().to_string();
        assert!(text.contains("qcow2") && text.contains("-O raw"), "{text}");
        assert!(Medium::open(&ImageSpec { raw: true, ..spec(&path) }).is_ok());
        std::fs::write(&path, b"").unwrap();
        assert!(Medium::open(&spec(&path)).unwrap_err().to_string().contains("is empty"));
        assert!(Medium::open(&spec(folder.path())).is_err());
        let missing = Medium::open(&spec(&folder.path().join("none"))).unwrap_err().to_string();
        assert!(missing.contains("none'"), "{missing}");
    }
}
