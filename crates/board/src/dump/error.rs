//! What can go wrong with a dump: QEMU's words first, then what happened to the file and what to do.

use std::io;
use std::path::PathBuf;

use flatview::RamError;

use crate::RequestError;
use crate::error::os_error;

/// Why there is no dump, or only a part of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// One at a time.
    #[error("There is a dump in process, please wait.")]
    InProcess,
    /// A part, or virtual addresses, in a format that has neither.
    #[error("kdump-compressed format doesn't support paging or filter")]
    NoFilter,
    /// One of `begin` and `length` without the other.
    #[error("Parameter '{0}' is missing")]
    Missing(&'static str),
    /// A value that cannot be.
    #[error("Invalid parameter '{0}'")]
    Invalid(&'static str),
    /// A format that is not modelled.
    #[error("{0} is not available now; the formats are: elf")]
    NotAvailable(&'static str),
    /// Windows's format.
    #[error("Windows dump is only available for x86-64")]
    Windows,
    /// `fd:NAME`.
    #[error("File descriptor named '{0}' has not been found; there is no 'getfd' here, use file:PATH")]
    NoDescriptor(String),
    /// The file cannot be opened or emptied.
    #[error("Could not open '{}': {}", path.display(), os_error(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The file is memory of the machine: emptying it would take the memory away.
    #[error(
        "'{}' is the file behind RAM block '{block}' of this machine; dump to another file",
        path.display()
    )]
    IsMemory {
        /// The file.
        path: PathBuf,
        /// The block.
        block: String,
    },
    /// There is no RAM, or none in the part that was asked for.
    #[error("dump: no guest memory to dump")]
    NoMemory,
    /// The headers cannot be made.
    #[error("dump: failed to make the ELF headers: {0}")]
    Header(String),
    /// The file cannot be written.
    #[error(
        "dump: failed to {what}: {}; '{}' has {done} of {total} bytes of memory: make room, or dump to another place",
        os_error(source),
        path.display()
    )]
    Write {
        /// `write elf header` or `save memory`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Bytes of memory that are in it.
        done: u64,
        /// Bytes of memory that should be.
        total: u64,
        /// The host's reason.
        source: io::Error,
    },
    /// Memory went while it was read: a block was made smaller.
    #[error(
        "dump: failed to save memory: {source}; '{}' has {done} of {total} bytes of memory: dump again",
        path.display()
    )]
    Memory {
        /// The file.
        path: PathBuf,
        /// Bytes of memory that are in it.
        done: u64,
        /// Bytes of memory that should be.
        total: u64,
        /// What the block says.
        source: RamError,
    },
    /// The machine quit.
    #[error(
        "dump: the machine has quit; '{}' has {done} of {total} bytes of memory and is of no use",
        path.display()
    )]
    Cancelled {
        /// The file.
        path: PathBuf,
        /// Bytes of memory that are in it.
        done: u64,
        /// Bytes of memory that should be.
        total: u64,
    },
    /// The host has no thread left.
    #[error("dump: cannot start a thread: {0}; dump without detaching")]
    Thread(io::Error),
    /// The machine cannot be stopped.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl DumpError {
    /// What would be right, where QEMU's words leave that open; to be printed on a line of its own.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open { source, .. } => match source.kind() {
                io::ErrorKind::IsADirectory => Some("Name a file in it."),
                io::ErrorKind::NotFound => Some("Make the folder first, or correct the path."),
                io::ErrorKind::PermissionDenied => Some("Name a file that this user may write."),
                io::ErrorKind::ReadOnlyFilesystem => {
                    Some("Name a file on a file system that can be written.")
                }
                _ => None,
            },
            Self::NoMemory => Some("'info mtree -f' shows where RAM and ROM are."),
            Self::Invalid("length") => Some("It is a number of bytes, at least 1."),
            Self::Invalid("begin") => Some("It is an address below 0x8000000000000000."),
            Self::Invalid("protocol") => Some("It is file:PATH."),
            _ => None,
        }
    }
}
