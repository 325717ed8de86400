//! Copying and filling runs of memory.
//!
//! What it is: bus transactions longer than any buffer: from one place, in one space, to another, maybe in another; and
//! of one byte over and over. What it is not: DMA by a device's rules; it has its own widths and orders.
//!
//! What must hold: where both ends are RAM the bytes move once, without a buffer between; a length that a guest chose
//! costs time for what is mapped and not for what is not.

use crate::access::{PinnedView, wrote};
use crate::memtx::join;
use crate::view::FlatView;
use crate::{AddressSpace, MemTxAttrs, MemTxError, Port, Reader};

/// What is not RAM at both ends goes through a buffer of so many bytes.
const CHUNK: u64 = 4096;

/// A filled run is written so many bytes at a time (QEMU: `FILLBUF_SIZE`).
const FILL: u64 = 512;

/// How many bytes from `addr` on nothing answers.
fn gap(view: &FlatView, addr: u64) -> u64 {
    match view.ranges_from(addr).next() {
        Some(range) => range.start().saturating_sub(addr),
        None => (u64::MAX - addr).saturating_add(1),
    }
}

impl Port<'_> {
    /// Copies `len` bytes from `from`, as seen through this port, to `dest`, as seen through another port, which may be of
    /// another space, another reader, or this one.
    ///
    /// It goes from low addresses to high ones, in pieces. Where both ends are RAM a piece is as long as both are one range,
    /// and moves as if it was read before it is written: within one range overlaps are harmless. Everything else is read and
    /// written over the bus, by up to 4 KiB. Addresses go on at 0 after the last one. Each port sees one map throughout, the
    /// one at the beginning.
    ///
    /// # Errors
    /// [`MemTxError`] of the first piece that could not be read or written, with the result bits of all; its address is in
    /// the space where it failed. All pieces are tried; what cannot be read is written as zeros.
    pub fn copy_to(&self, from: u64, to: &Port<'_>, dest: u64, len: u64) -> Result<(), MemTxError> {
        let (from_view, to_view) = (self.pin()?, to.pin()?);
        let mut buffer = [0; CHUNK as usize];
        let mut result = Ok(());
        let mut done = 0;
        while done < len {
            let (src, dst, left) = (from.wrapping_add(done), dest.wrapping_add(done), len - done);
            if let Some(n) = self.copy_ram(&from_view, src, to, &to_view, dst, left) {
                done += n;
                continue;
            }
            if let Some(n) = self.nowhere(&from_view, src, &to_view, dst, left) {
                // Neither end notices anything; each is told of once.
                if gap(&from_view, src) > 0 {
                    result = join(result, Err(self.unassigned(src, 1, false)));
                }
                result = join(result, Err(to.unassigned(dst, 1, true)));
                done += n;
                continue;
            }
            // Cut where addresses are aligned, so that a device sees the accesses of one long read; and where holes end, so
            // that what begins there is all there.
            let holes = [gap(&from_view, src), gap(&to_view, dst)];
            let n = (CHUNK - src % CHUNK).min(left);
            let n = holes.into_iter().filter(|hole| *hole > 0).fold(n, u64::min);
            let bytes = buffer.get_mut(..n as usize).unwrap_or_default();
            result = join(result, self.read_in(&from_view, src, bytes));
            result = join(result, to.write_in(&to_view, dst, bytes));
            done += n;
        }
        result
    }

    /// Copies what is RAM at both ends: how many bytes, if any.
    fn copy_ram(
        &self,
        from_view: &PinnedView<'_>,
        from: u64,
        to: &Port<'_>,
        to_view: &PinnedView<'_>,
        dest: u64,
        len: u64,
    ) -> Option<u64> {
        let source = from_view.lookup(from).filter(|range| self.is_allowed(Some(range)))?;
        let target = to_view.lookup(dest).filter(|range| to.is_allowed(Some(range)))?;
        let (ram, target_ram) = (source.readable_ram()?, target.writable_ram()?);
        let n = len.min(source.room(from)).min(target.room(dest));
        ram.copy_to(from - source.start(), target_ram, dest - target.start(), n)?;
        wrote(to_view, target, dest, n);
        Some(n)
    }

    /// How many bytes need not be copied, because nothing is where they go to and nobody notices that they are read.
    fn nowhere(
        &self,
        from_view: &FlatView,
        from: u64,
        to_view: &FlatView,
        dest: u64,
        len: u64,
    ) -> Option<u64> {
        let quiet = match from_view.lookup(from) {
            None => gap(from_view, from),
            Some(range) => {
                let plain = range.readable_ram().is_some() && self.is_allowed(Some(range));
                if plain { range.room(from) } else { 0 }
            }
        };
        let n = gap(to_view, dest).min(quiet).min(len);
        (n > 0).then_some(n)
    }

    /// Writes one byte over and over, to `len` bytes from `addr` on (QEMU: `address_space_set`): bus writes of 512 bytes
    /// each. Addresses go on at 0 after the last one.
    ///
    /// # Errors
    /// As [`write`](Self::write); all pieces are tried.
    pub fn fill(&self, addr: u64, byte: u8, len: u64) -> Result<(), MemTxError> {
        let chunk = [byte; FILL as usize];
        let mut result = Ok(());
        let mut done = 0;
        while done < len {
            let (at, left) = (addr.wrapping_add(done), len - done);
            let view = self.pin()?;
            let nothing = gap(&view, at).min(left);
            if nothing > FILL {
                result = join(result, Err(self.unassigned(at, 1, true)));
                // Whole writes, so that those that follow begin where they would have.
                done += nothing - nothing % FILL;
                continue;
            }
            let n = (FILL - done % FILL).min(left);
            let part = chunk.get(..n as usize).unwrap_or(&chunk);
            result = join(result, self.write_in(&view, at, part));
            done += n;
        }
        result
    }
}

impl Reader {
    /// See [`Port::copy_to`]; both ends with [`MemTxAttrs::UNSPECIFIED`].
    ///
    /// # Errors
    /// See there.
    pub fn copy_to(&self, from: u64, to: &Self, dest: u64, len: u64) -> Result<(), MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).copy_to(from, &to.port(MemTxAttrs::UNSPECIFIED), dest, len)
    }

    /// See [`Port::fill`].
    ///
    /// # Errors
    /// See there.
    pub fn fill(&self, addr: u64, byte: u8, len: u64) -> Result<(), MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).fill(addr, byte, len)
    }
}

impl AddressSpace {
    /// Copies bytes from this space to another one, or within it; see [`Port::copy_to`].
    ///
    /// # Errors
    /// See there.
    pub fn copy_to(&self, from: u64, to: &Self, dest: u64, len: u64) -> Result<(), MemTxError> {
        self.reader().copy_to(from, &to.reader(), dest, len)
    }
}
