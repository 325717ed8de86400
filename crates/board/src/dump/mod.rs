//! A dump of the guest's memory: an ELF core file, as QEMU's `dump-guest-memory` writes it.
//!
//! What it is: which memory there is to dump (`blocks`), the file's headers (`elf`), and the work itself with its
//! progress (`job`). What it is not: a monitor; and it knows no CPU's registers: there are no notes in the file until there
//! are CPUs.
//!
//! What must hold: the machine stands still while its memory is read; there is one dump at a time; a file is emptied only when
//! it is certain that there is something to write, and never if it is the memory of the machine itself.

mod blocks;
mod elf;
mod error;
mod job;

pub use blocks::{GuestPhysBlock, guest_phys_blocks};
pub use elf::{ElfTarget, core_header};
pub use error::DumpError;
pub use job::{DumpInfo, DumpStatus};
pub(crate) use job::{Dumps, dump};

/// What a dump can look like (QMP: `DumpGuestMemoryFormat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DumpFormat {
    /// An ELF core file: the one that there is.
    #[default]
    Elf,
    /// Compressed by zlib, for the Linux crash tools.
    KdumpZlib,
    /// Compressed by lzo.
    KdumpLzo,
    /// Compressed by snappy.
    KdumpSnappy,
    /// Windows's own format.
    WinDmp,
}

impl DumpFormat {
    /// All names that there are, whether or not it can be written.
    pub const ALL: [DumpFormat; 5] =
        [Self::Elf, Self::KdumpZlib, Self::KdumpLzo, Self::KdumpSnappy, Self::WinDmp];

    /// QMP's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Elf => "elf",
            Self::KdumpZlib => "kdump-zlib",
            Self::KdumpLzo => "kdump-lzo",
            Self::KdumpSnappy => "kdump-snappy",
            Self::WinDmp => "win-dmp",
        }
    }

    /// Those that can be written (`query-dump-guest-memory-capability`).
    pub fn available() -> impl Iterator<Item = DumpFormat> {
        Self::ALL.into_iter().filter(|format| *format == Self::Elf)
    }

    fn is_kdump(self) -> bool {
        matches!(self, Self::KdumpZlib | Self::KdumpLzo | Self::KdumpSnappy)
    }
}

/// What is asked for (QMP: the arguments of `dump-guest-memory`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DumpSpec {
    /// Ask the CPUs' page tables for the virtual addresses. Without a CPU that translates they are the physical ones, as
    /// they are without this.
    pub paging: bool,
    /// Where to: `file:PATH`.
    pub protocol: String,
    /// Return at once, and go on writing in a thread.
    pub detach: bool,
    /// The first physical address; all memory without it.
    pub begin: Option<i64>,
    /// How many bytes from there on.
    pub length: Option<i64>,
    /// What it should look like.
    pub format: DumpFormat,
}

impl DumpSpec {
    /// Checks what can be checked before anything is touched, in QEMU's order; gives the path of the file.
    pub(crate) fn check(&self) -> Result<&str, DumpError> {
        let filtered = self.begin.is_some() || self.length.is_some();
        if self.format.is_kdump() && (self.paging || filtered) {
            return Err(DumpError::NoFilter);
        }
        match (self.begin, self.length) {
            (Some(_), None) => return Err(DumpError::Missing("length")),
            (None, Some(_)) => return Err(DumpError::Missing("begin")),
            _ => {}
        }
        match self.format {
            DumpFormat::Elf => {}
            DumpFormat::WinDmp => return Err(DumpError::Windows),
            other => return Err(DumpError::NotAvailable(other.as_str())),
        }
        if let Some(name) = self.protocol.strip_prefix("fd:") {
            return Err(DumpError::NoDescriptor(name.to_owned()));
        }
        let path = self.protocol.strip_prefix("file:").ok_or(DumpError::Invalid("protocol"))?;
        self.part().map(|_| path)
    }

    /// First address and length of the part that is wanted; `None` for all.
    pub(crate) fn part(&self) -> Result<Option<(u64, u64)>, DumpError> {
        let Some((begin, length)) = self.begin.zip(self.length) else { return Ok(None) };
        let length = u64::try_from(length).ok().filter(|length| *length > 0);
        let begin = u64::try_from(begin).ok();
        Ok(Some((begin.ok_or(DumpError::Invalid("begin"))?, length.ok_or(DumpError::Invalid("length"))?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(protocol: &str) -> DumpSpec {
        DumpSpec { protocol: protocol.to_owned(), ..DumpSpec::default() }
    }

    #[test]
    fn what_is_asked_for_is_checked_in_the_order_of_qemu() {
        let says = |spec: DumpSpec| spec.check().unwrap_err().to_string();
        assert_eq!(spec("file:/a b").check().unwrap(), "/a b");
        assert_eq!(spec("file:/a b").part().unwrap(), None);
        assert_eq!(says(spec("/a")), "Invalid parameter 'protocol'");
        assert_eq!(says(spec("http:foo")), "Invalid parameter 'protocol'");
        assert!(says(spec("fd:foo")).starts_with("File descriptor named 'foo' has not been found"));
        let bad = spec("bad");
        assert_eq!(says(DumpSpec { begin: Some(0), ..bad.clone() }), "Parameter 'length' is missing");
        assert_eq!(says(DumpSpec { length: Some(0), ..bad.clone() }), "Parameter 'begin' is missing");
        for format in [DumpFormat::KdumpZlib, DumpFormat::KdumpLzo, DumpFormat::KdumpSnappy] {
            let text = "kdump-compressed format doesn't support paging or filter";
            assert_eq!(says(DumpSpec { format, paging: true, ..bad.clone() }), text);
            assert_eq!(says(DumpSpec { format, length: Some(4), ..bad.clone() }), text);
            let text = says(DumpSpec { format, ..bad.clone() });
            assert_eq!(text, format!("{} is not available now; the formats are: elf", format.as_str()));
        }
        let windows = DumpSpec { format: DumpFormat::WinDmp, ..bad };
        assert_eq!(says(windows), "Windows dump is only available for x86-64");
        let part = |begin, length| DumpSpec { begin: Some(begin), length: Some(length), ..spec("file:a") };
        assert_eq!(part(4, 8).part().unwrap(), Some((4, 8)));
        assert_eq!(says(part(0, 0)), "Invalid parameter 'length'");
        assert_eq!(says(part(0, -4)), "Invalid parameter 'length'");
        assert_eq!(says(part(-4, 4)), "Invalid parameter 'begin'");
    }
}
