//! RAM blocks and what they are made of: anonymous memory, files, descriptors, a caller's buffer.
//!
//! UNSAFE: this module maps and unmaps memory.
//!
//! What must hold is B1 of [`ram`](super): from the return of a constructor to the drop of the `RamBlock`,
//! `base..base + mapped_len` is one mapping (or one buffer that its owner keeps) that nothing moves. Mappings of
//! ours stand between two guard pages that fault, so that a bug in code that was given a
//! [`HostPtr`](super::HostPtr) is found and not silent.
#![expect(unsafe_code, reason = "mmap and munmap of guest RAM")]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::{BlockDirty, HostPtr, RamSpan};

/// Why a block could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RamError {
    /// The host refused the mapping.
    #[error(
        "Cannot map {size:#x} bytes for RAM block '{name}': {source}; ask for less, or raise the limits of this process (ulimit -v) or host"
    )]
    Map {
        /// The block.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// What the host said.
        source: std::io::Error,
    },
    /// The file could not be opened.
    #[error("Cannot open '{}' for RAM block '{name}': {source}", path.display())]
    Open {
        /// The block.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// The file is too short.
    #[error(
        "The file behind RAM block '{name}' has {have:#x} bytes, but {need:#x} are needed (offset {offset:#x} + size {size:#x}); make it larger (truncate -s) or ask for less"
    )]
    FileTooSmall {
        /// The block.
        name: String,
        /// The file's size in bytes.
        have: u64,
        /// The size needed in bytes.
        need: u64,
        /// Offset of the block in the file, in bytes.
        offset: u64,
        /// Size of the block in bytes.
        size: u64,
    },
    /// The offset must be a multiple of the page size.
    #[error("Offset {offset:#x} of RAM block '{name}' is not a multiple of the host's page size {page:#x}")]
    Misaligned {
        /// The block.
        name: String,
        /// The offset asked for.
        offset: u64,
        /// The host's page size.
        page: u64,
    },
    /// A block of no bytes.
    #[error("RAM block '{name}' has size 0; give it at least one byte")]
    Empty {
        /// The block.
        name: String,
    },
    /// The name does not fit on a line.
    #[error("The name {name:?} has a control character; a name is one line of printable text")]
    BadName {
        /// The name as given.
        name: String,
    },
    /// An access outside of the block, or a write to a read-only one.
    #[error(
        "{size:#x} bytes at offset {offset:#x} are not all inside RAM block '{name}' of {have:#x} bytes, or it is read-only on the host"
    )]
    OutOfRange {
        /// The block.
        name: String,
        /// Where.
        offset: u64,
        /// How many bytes.
        size: u64,
        /// The block's size in bytes.
        have: u64,
    },
}

/// Whether writes to a mapped file reach the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// They reach the file and everybody who maps it (QEMU: `share=on`).
    Shared,
    /// They stay in this process (QEMU: `share=off`).
    Private,
}

/// A buffer of the caller's that can be guest RAM.
///
/// # Safety
/// While the value lives, `ptr()..ptr() + len()` is one run of readable and writable bytes that does not move,
/// also when the value itself is moved, and to which nobody has a plain reference.
pub unsafe trait HostBuffer: Send + Sync + 'static {
    /// The first byte.
    fn ptr(&self) -> NonNull<u8>;
    /// The number of bytes.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! atomic_buffers {
    ($($t:ty),*) => {$(
        // SAFETY: a heap slice of atomics does not move with its owner, and shared atomics may be written through.
        unsafe impl HostBuffer for $t {
            fn ptr(&self) -> NonNull<u8> {
                NonNull::from(&**self).cast()
            }
            fn len(&self) -> usize {
                <[AtomicU8]>::len(self)
            }
        }
    )*};
}

atomic_buffers!(Box<[AtomicU8]>, Arc<[AtomicU8]>);

enum Backing {
    /// A mapping of ours: where it starts (with its first guard page) and how long it is in all.
    Mapped { start: NonNull<u8>, total: usize },
    /// A buffer that stays as long as the owner.
    Owned { _owner: Box<dyn HostBuffer> },
    /// A buffer the caller vouches for.
    Raw,
}

/// A block of guest RAM in host memory (QEMU: `RAMBlock`).
///
/// Blocks are made first and then mapped by regions: one region for the whole block, or several with windows of
/// it. Memory is given back when the last region, view and guard that uses the block is gone.
pub struct RamBlock {
    name: Arc<str>,
    size: u64,
    base: NonNull<u8>,
    writable: bool,
    backing: Backing,
    dirty: BlockDirty,
}

// SAFETY: B1: the bytes are reached by atomics and raw copies only, from any thread; the rest is immutable.
unsafe impl Send for RamBlock {}
// SAFETY: as for Send.
unsafe impl Sync for RamBlock {}

impl std::fmt::Debug for RamBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RamBlock").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

/// One line of `info ramblock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamBlockInfo {
    /// The block's name.
    pub name: Arc<str>,
    /// The host's page size behind it, in bytes.
    pub page_size: u64,
    /// Size in bytes.
    pub size: u64,
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

fn checked_name(name: &str, size: u64) -> Result<Arc<str>, RamError> {
    if name.chars().any(char::is_control) {
        return Err(RamError::BadName { name: name.to_owned() });
    }
    if size == 0 {
        return Err(RamError::Empty { name: name.to_owned() });
    }
    Ok(name.into())
}

impl RamBlock {
    /// `size` bytes of zeroed anonymous memory; pages cost nothing until touched.
    ///
    /// # Errors
    /// [`RamError`] if the size is 0, the name unprintable or the host has no room.
    pub fn anonymous(name: &str, size: u64) -> Result<Arc<Self>, RamError> {
        Self::map(name, size, true, None, Share::Private)
    }

    /// `size` bytes of the file at `path`, from `offset` (a multiple of the page size) on.
    ///
    /// The file is opened, not created, and must be large enough. With `readonly` it is opened and mapped so that
    /// even loaders cannot write it.
    ///
    /// # Errors
    /// [`RamError`] tells the file and what to do.
    pub fn from_file(
        name: &str,
        path: &Path,
        offset: u64,
        size: u64,
        share: Share,
        readonly: bool,
    ) -> Result<Arc<Self>, RamError> {
        let need_write = !readonly && share == Share::Shared;
        let file = File::options()
            .read(true)
            .write(need_write)
            .open(path)
            .map_err(|source| RamError::Open { name: name.to_owned(), path: path.to_owned(), source })?;
        Self::map_file(name, file.as_fd(), offset, size, share, !readonly)
    }

    /// `size` bytes of an open file or memfd, from `offset` (a multiple of the page size) on.
    ///
    /// # Errors
    /// As for [`from_file`](Self::from_file).
    pub fn from_fd(
        name: &str,
        fd: &OwnedFd,
        offset: u64,
        size: u64,
        share: Share,
    ) -> Result<Arc<Self>, RamError> {
        Self::map_file(name, fd.as_fd(), offset, size, share, true)
    }

    /// A caller's buffer, kept alive by the block.
    ///
    /// # Errors
    /// [`RamError`] if it is empty or the name unprintable.
    pub fn from_buffer(name: &str, buffer: impl HostBuffer) -> Result<Arc<Self>, RamError> {
        let owner: Box<dyn HostBuffer> = Box::new(buffer);
        let (base, len) = (owner.ptr(), owner.len());
        Ok(Arc::new(Self {
            name: checked_name(name, len as u64)?,
            size: len as u64,
            base,
            writable: true,
            backing: Backing::Owned { _owner: owner },
            dirty: BlockDirty::default(),
        }))
    }

    /// A caller's buffer for whose life the caller vouches (QEMU: `memory_region_init_ram_ptr`).
    ///
    /// # Safety
    /// `ptr..ptr + size` stays readable and writable, and no plain reference to it exists, until the last region,
    /// view and guard that uses the block is gone ([`Memory::synchronize`](crate::Memory::synchronize) helps).
    ///
    /// # Errors
    /// [`RamError`] if it is empty or the name unprintable.
    pub unsafe fn from_raw(name: &str, ptr: NonNull<u8>, size: usize) -> Result<Arc<Self>, RamError> {
        Ok(Arc::new(Self {
            name: checked_name(name, size as u64)?,
            size: size as u64,
            base: ptr,
            writable: true,
            backing: Backing::Raw,
            dirty: BlockDirty::default(),
        }))
    }

    fn map_file(
        name: &str,
        fd: BorrowedFd<'_>,
        offset: u64,
        size: u64,
        share: Share,
        writable: bool,
    ) -> Result<Arc<Self>, RamError> {
        let page = page_size();
        if !offset.is_multiple_of(page) {
            return Err(RamError::Misaligned { name: name.to_owned(), offset, page });
        }
        let stat = rustix::fs::fstat(fd).map_err(|e| Self::map_error(name, size, e))?;
        let have = u64::try_from(stat.st_size).unwrap_or(0);
        let need = offset.saturating_add(size);
        // A device such as /dev/mem has no size to compare with; the host checks it when it maps.
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() && have < need {
            return Err(RamError::FileTooSmall { name: name.to_owned(), have, need, offset, size });
        }
        Self::map(name, size, writable, Some((fd, offset)), share)
    }

    fn map_error(name: &str, size: u64, errno: Errno) -> RamError {
        RamError::Map { name: name.to_owned(), size, source: errno.into() }
    }

    fn map(
        name: &str,
        size: u64,
        writable: bool,
        file: Option<(BorrowedFd<'_>, u64)>,
        share: Share,
    ) -> Result<Arc<Self>, RamError> {
        let name_arc = checked_name(name, size)?;
        let too_large = || Self::map_error(name, size, Errno::NOMEM);
        let page = usize::try_from(page_size()).map_err(|_| too_large())?;
        let len = usize::try_from(size)
            .ok()
            .and_then(|s| s.checked_next_multiple_of(page))
            .ok_or_else(too_large)?;
        let total =
            len.checked_add(2 * page).filter(|t| isize::try_from(*t).is_ok()).ok_or_else(too_large)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                total,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(|e| Self::map_error(name, size, e))?;
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(too_large)?;
        // From here on the reservation is given back by Drop.
        // SAFETY: page < total, so this is inside the reservation.
        let base = unsafe { start.add(page) };
        let backing = Backing::Mapped { start, total };
        let block = Self { name: name_arc, size, base, writable, backing, dirty: BlockDirty::default() };
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = MapFlags::FIXED
            | MapFlags::NORESERVE
            | if share == Share::Shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
        let at = base.as_ptr().cast();
        // SAFETY: base..base + len lies inside the reservation made above, which nobody else knows; mapping over
        // it with FIXED replaces only our own pages.
        let mapped = unsafe {
            match file {
                Some((fd, offset)) => rustix::mm::mmap(at, len, prot, flags, fd, offset),
                None => rustix::mm::mmap_anonymous(at, len, prot, flags),
            }
        };
        mapped.map_err(|e| Self::map_error(name, size, e))?;
        Ok(Arc::new(block))
    }

    /// The name given when it was made.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Its size in bytes, as asked for (the mapping is rounded up to pages).
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the host lets anybody write it.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// A pointer to the whole block, good as long as the guard lives.
    #[must_use]
    pub fn host(self: &Arc<Self>) -> HostPtr {
        HostPtr::new(self, self.base, self.size)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The bytes that may be touched: a region is never larger than the block's size.
    pub(super) fn mapped_len(&self) -> u64 {
        self.size
    }

    /// `len` bytes from `offset` on, if they are inside.
    pub(crate) fn span(&self, offset: u64, len: u64) -> Option<RamSpan<'_>> {
        RamSpan::new(self, offset, len)
    }

    fn range(&self, offset: u64, size: usize) -> Result<RamSpan<'_>, RamError> {
        self.span(offset, size as u64).ok_or_else(|| self.out_of_range(offset, size))
    }

    fn out_of_range(&self, offset: u64, size: usize) -> RamError {
        RamError::OutOfRange { name: self.name.to_string(), offset, size: size as u64, have: self.size }
    }

    /// Copies bytes out of the block, wherever it is mapped.
    ///
    /// # Errors
    /// [`RamError::OutOfRange`].
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), RamError> {
        self.range(offset, out.len())?.read(0, out).ok_or_else(|| self.out_of_range(offset, 0))
    }

    /// Copies bytes into the block, wherever it is mapped and whether or not a region shows it as ROM.
    ///
    /// # Errors
    /// [`RamError::OutOfRange`], also when the host mapping is read-only.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), RamError> {
        if !self.writable {
            return Err(self.out_of_range(offset, bytes.len()));
        }
        self.range(offset, bytes.len())?.write(0, bytes).ok_or_else(|| self.out_of_range(offset, 0))?;
        self.dirty.mark_for_all(offset, bytes.len() as u64);
        Ok(())
    }

    /// Whether values that are aligned in host memory are aligned in the block: always, but in a caller's buffer.
    pub(crate) fn is_aligned(&self) -> bool {
        self.base.as_ptr().addr().is_multiple_of(8)
    }

    /// Which of its pages were written.
    #[inline]
    pub(crate) fn dirty(&self) -> &BlockDirty {
        &self.dirty
    }

    /// Notes, for every [dirty client](crate::DirtyClient) that logs the block, that `len` bytes at `offset` were written by
    /// somebody who wrote past this library: through a [`HostPtr`], in another process, in a kernel. To be called after
    /// the bytes are written.
    ///
    /// # Errors
    /// [`RamError::OutOfRange`].
    pub fn mark_dirty(&self, offset: u64, len: u64) -> Result<(), RamError> {
        if offset > self.size || self.size - offset < len {
            return Err(self.out_of_range(offset, usize::try_from(len).unwrap_or(usize::MAX)));
        }
        self.dirty.mark_for_all(offset, len);
        Ok(())
    }

    /// The same by a bitmap, as a kernel's dirty log gives it: bit `i`, counted from the lowest of the first word, is
    /// the page of [`DIRTY_PAGE_SIZE`](crate::DIRTY_PAGE_SIZE) bytes `i` pages after the one that holds `offset`. Bits
    /// past the end of the block mean nothing (QEMU: `cpu_physical_memory_set_dirty_lebitmap`).
    pub fn mark_dirty_bitmap(&self, offset: u64, bits: &[u64]) {
        self.dirty.mark_bitmap(offset, bits);
    }

    /// The line of `info ramblock`.
    #[must_use]
    pub fn info(&self) -> RamBlockInfo {
        RamBlockInfo { name: Arc::clone(&self.name), page_size: page_size(), size: self.size }
    }
}

impl Drop for RamBlock {
    fn drop(&mut self) {
        if let Backing::Mapped { start, total } = self.backing {
            // SAFETY: the reservation was made in `map` and given to nobody else; whoever uses its bytes holds the
            // block (B1, B2), so nobody does any more.
            let _ = unsafe { rustix::mm::munmap(start.as_ptr().cast(), total) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn anonymous_memory_is_zero_and_sized_to_the_byte() {
        let b = RamBlock::anonymous("a", 5000).unwrap();
        let mut out = [1; 16];
        b.read(4984, &mut out).unwrap();
        assert_eq!(out, [0; 16]);
        assert!(b.read(4985, &mut out).is_err());
        assert!(b.write(u64::MAX, &[1]).is_err());
        assert!(matches!(RamBlock::anonymous("z", 0), Err(RamError::Empty { .. })));
        assert!(matches!(RamBlock::anonymous("a\nb", 1), Err(RamError::BadName { .. })));
        assert!(matches!(RamBlock::anonymous("huge", u64::MAX), Err(RamError::Map { .. })));
    }

    #[test]
    fn a_shared_file_is_written_through_and_a_private_one_is_not() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 8192]).unwrap();
        let shared = RamBlock::from_file("s", file.path(), 4096, 4096, Share::Shared, false).unwrap();
        shared.write(1, &[9]).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap()[4097], 9);
        let private = RamBlock::from_file("p", file.path(), 0, 8192, Share::Private, false).unwrap();
        private.write(4097, &[1]).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap()[4097], 9);
        let ro = RamBlock::from_file("r", file.path(), 0, 8192, Share::Shared, true).unwrap();
        assert!(ro.write(0, &[1]).is_err());
    }

    #[test]
    fn a_file_that_does_not_fit_says_so() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 100]).unwrap();
        let e = RamBlock::from_file("s", file.path(), 0, 4096, Share::Private, false).unwrap_err();
        assert!(e.to_string().contains("has 0x64 bytes, but 0x1000 are needed"), "{e}");
        let e = RamBlock::from_file("s", file.path(), 5, 4096, Share::Private, false).unwrap_err();
        assert!(matches!(e, RamError::Misaligned { .. }));
        let e = RamBlock::from_file("s", Path::new("/nonexistent/x"), 0, 4096, Share::Private, false)
            .unwrap_err();
        assert!(e.to_string().contains("/nonexistent/x"));
    }

    #[test]
    fn a_memfd_and_a_callers_buffer_are_ram_too() {
        let fd = rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, 4096).unwrap();
        let a = RamBlock::from_fd("a", &fd, 0, 4096, Share::Shared).unwrap();
        let b = RamBlock::from_fd("b", &fd, 0, 4096, Share::Shared).unwrap();
        a.write(10, &[42]).unwrap();
        let mut out = [0];
        b.read(10, &mut out).unwrap();
        assert_eq!(out, [42]);

        let buffer: Arc<[AtomicU8]> = (0..16).map(AtomicU8::new).collect();
        let block = RamBlock::from_buffer("mine", Arc::clone(&buffer)).unwrap();
        block.write(3, &[99]).unwrap();
        assert_eq!(buffer[3].load(std::sync::atomic::Ordering::Relaxed), 99);
        drop(block);
        assert_eq!(Arc::strong_count(&buffer), 1);
    }
}
