//! Memory of a file written to where the file is kept.
//!
//! What it is: [`RamBlock::sync`], for who must know that what the guest wrote survives the host (a non-volatile memory).
//! What it is not: needed for others to see a write; who maps the same file sees it at once.
//!
//! What must hold: nothing but the host's copy of the file changes, so that any thread may use the memory meanwhile.

use std::ops::Range;

use super::block::{Backing, RamBlock, Share};
use super::error::RamError;
use super::mapping::host_page;

impl RamBlock {
    /// Waits until the host has written a range of offsets to the file behind the block, in whole pages (QEMU:
    /// `memory_region_msync`, `memory_region_writeback`). Memory that is no file's, or a private copy, has nowhere to be
    /// written to: then nothing is to be done. Blocks for as long as the disk takes, so not for a vCPU's thread.
    ///
    /// # Errors
    /// [`RamError::OutOfRange`], and [`RamError::Sync`] if the host could not write.
    pub fn sync(&self, range: Range<u64>) -> Result<(), RamError> {
        let (offset, size) = (range.start, range.end.saturating_sub(range.start));
        let failed =
            || RamError::OutOfRange { name: self.name().to_owned(), offset, size, have: self.size() };
        if range.start > range.end || range.end > self.size() {
            return Err(failed());
        }
        let Backing::Mapped { mapping, file: Some(_), .. } = self.backing() else { return Ok(()) };
        if self.share() == Share::Private || size == 0 {
            return Ok(());
        }
        let start = offset - offset % host_page();
        let end = range.end.checked_next_multiple_of(host_page()).ok_or_else(failed)?;
        let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(end - start)) else {
            return Err(failed());
        };
        let sync = |source: rustix::io::Errno| RamError::Sync {
            name: self.name().to_owned(),
            offset,
            size,
            source: source.into(),
        };
        mapping.sync(start, len).map_err(sync)
    }
}
