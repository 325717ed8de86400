//! RAM blocks: one run of host memory with a name, from which guest RAM is made.
//!
//! UNSAFE: this module says that blocks may be shared between threads, and computes pointers into them.
//!
//! What must hold is B1 of [`ram`](super): from the return of a constructor to the drop of the `RamBlock`,
//! `base..base + mapped_len` is one mapping (or one buffer that its owner keeps) that nothing moves. A block that can be
//! resized has all bytes of its maximum mapped from the start, so resizing changes numbers only.
#![expect(unsafe_code, reason = "blocks are shared between threads")]

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::backend::RamBuilder;
use super::buffer::HostBuffer;
use super::error::RamError;
use super::manager::DiscardManager;
use super::mapping::{Advice, Mapping, host_page};
use super::{BlockDirty, HostPtr, RamSpan};

/// Whether writes to a mapped file reach the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// They reach the file and everybody who maps it (QEMU: `share=on`).
    Shared,
    /// They stay in this process (QEMU: `share=off`).
    Private,
}

pub(super) enum Backing {
    /// A mapping of ours, and the file behind it with the block's offset in it.
    Mapped { mapping: Mapping, file: Option<(Arc<File>, u64)>, discard_data: bool },
    /// A buffer that stays as long as the owner.
    Owned { _owner: Box<dyn HostBuffer> },
    /// A buffer the caller vouches for.
    Raw,
}

/// What never changes about a block's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Its size at first, in bytes.
    pub size: u64,
    /// Bytes it can grow to; all of them are mapped.
    pub max: u64,
    pub writable: bool,
    pub share: Share,
    /// The size of the pages behind it, in bytes.
    pub page: u64,
}

type Resized = Box<dyn Fn(&Arc<RamBlock>, u64) + Send + Sync>;

/// What a block that can be resized has beside its maximum.
#[derive(Default)]
pub(super) struct Resizing {
    pub told: Option<Resized>,
    /// Somebody is at it.
    running: AtomicBool,
}

/// A block of guest RAM in host memory (QEMU: `RAMBlock`).
///
/// Blocks are made first and then mapped by regions: one region for the whole block, or several with windows of
/// it. Memory is given back when the last region, view and guard that uses the block is gone.
pub struct RamBlock {
    name: Arc<str>,
    /// Bytes in use: never more than the maximum.
    size: AtomicU64,
    shape: Shape,
    base: NonNull<u8>,
    backing: Backing,
    resizing: Option<Resizing>,
    manager: Mutex<Weak<DiscardManager>>,
    dirty: BlockDirty,
}

// SAFETY: B1: the bytes are reached by atomics and raw copies only, from any thread; the rest is immutable or has its
// own lock.
unsafe impl Send for RamBlock {}
// SAFETY: as for Send.
unsafe impl Sync for RamBlock {}

impl fmt::Debug for RamBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RamBlock")
            .field("name", &self.name)
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

/// One line of `info ramblock`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RamBlockInfo {
    /// The block's name.
    pub name: Arc<str>,
    /// The size of the pages behind it, in bytes: the host's, or that of huge pages.
    pub page_size: u64,
    /// Size in bytes, as asked for.
    pub size: u64,
    /// Bytes in use: the size in whole host pages (QEMU: `used_length`).
    pub used: u64,
    /// Bytes it can grow to, in whole host pages (QEMU: `max_length`).
    pub total: u64,
    /// Whether writes reach others who map the same memory.
    pub share: Share,
    /// Whether the host lets anybody write it.
    pub writable: bool,
}

pub(super) fn checked_name(name: &str, size: u64) -> Result<Arc<str>, RamError> {
    if name.chars().any(char::is_control) {
        return Err(RamError::BadName { name: name.to_owned() });
    }
    if size == 0 {
        return Err(RamError::Empty { name: name.to_owned() });
    }
    Ok(name.into())
}

impl RamBlock {
    /// A builder, for all that the short constructors below do not say: memfds, huge pages, preallocation, host nodes …
    pub fn builder(name: &str, size: u64) -> RamBuilder {
        RamBuilder::new(name, size)
    }

    /// `size` bytes of zeroed anonymous memory; pages cost nothing until touched.
    ///
    /// # Errors
    /// [`RamError`] if the size is 0, the name unprintable or the host has no room.
    pub fn anonymous(name: &str, size: u64) -> Result<Arc<Self>, RamError> {
        Self::builder(name, size).reserve(false).build()
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
        let block = Self::builder(name, size).file(path).offset(offset).share(share);
        block.readonly(readonly).reserve(false).build()
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
        Self::builder(name, size).share(share).reserve(false).build_fd(fd.as_fd(), offset)
    }

    /// A caller's buffer, kept alive by the block.
    ///
    /// # Errors
    /// [`RamError`] if it is empty or the name unprintable.
    pub fn from_buffer(name: &str, buffer: impl HostBuffer) -> Result<Arc<Self>, RamError> {
        let owner: Box<dyn HostBuffer> = Box::new(buffer);
        let (base, size) = (owner.ptr(), owner.len() as u64);
        let name = checked_name(name, size)?;
        Ok(Self::lent(name, size, base, Backing::Owned { _owner: owner }))
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
        Ok(Self::lent(checked_name(name, size as u64)?, size as u64, ptr, Backing::Raw))
    }

    /// A block of memory that is not ours.
    fn lent(name: Arc<str>, size: u64, base: NonNull<u8>, backing: Backing) -> Arc<Self> {
        let shape = Shape { size, max: size, writable: true, share: Share::Private, page: host_page() };
        Self::made(name, shape, base, backing, None)
    }

    /// A block of a mapping of ours, and of the file behind it with the block's offset in it.
    pub(super) fn of_mapping(
        name: Arc<str>,
        shape: Shape,
        mapping: Mapping,
        file: Option<(OwnedFd, u64)>,
        discard_data: bool,
        resizing: Option<Resizing>,
    ) -> Arc<Self> {
        let base = mapping.base();
        let file = file.map(|(fd, offset)| (Arc::new(File::from(fd)), offset));
        Self::made(name, shape, base, Backing::Mapped { mapping, file, discard_data }, resizing)
    }

    /// The one place where a block comes to be.
    fn made(
        name: Arc<str>,
        shape: Shape,
        base: NonNull<u8>,
        backing: Backing,
        resizing: Option<Resizing>,
    ) -> Arc<Self> {
        let size = AtomicU64::new(shape.size);
        let (manager, dirty) = (Mutex::new(Weak::new()), BlockDirty::default());
        Arc::new(Self { name, size, shape, base, backing, resizing, manager, dirty })
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
        // Relaxed: a number that a region is checked against; the bytes are mapped up to `max` whatever it says.
        self.size.load(Ordering::Relaxed)
    }

    /// The size in bytes that it can be given; its size, for a block that cannot be resized.
    #[must_use]
    pub fn max_size(&self) -> u64 {
        self.shape.max
    }

    /// Whether it can be resized.
    #[must_use]
    pub fn is_resizeable(&self) -> bool {
        self.resizing.is_some()
    }

    /// The size of the pages behind it, in bytes: the host's, or that of huge pages.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        self.shape.page
    }

    /// Whether the host lets anybody write it.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.shape.writable
    }

    /// Whether writes reach others who map the same memory.
    #[must_use]
    pub fn share(&self) -> Share {
        self.shape.share
    }

    /// The file or memfd behind it, and where in it the block begins, in bytes: for a vhost memory table, say.
    #[must_use]
    pub fn file(&self) -> Option<(BorrowedFd<'_>, u64)> {
        match &self.backing {
            Backing::Mapped { file: Some((file, offset)), .. } => Some((file.as_fd(), *offset)),
            _ => None,
        }
    }

    /// The same, for those who keep the file open themselves.
    #[cfg(feature = "vm-memory")]
    pub(crate) fn shared_file(&self) -> Option<(&Arc<File>, u64)> {
        match &self.backing {
            Backing::Mapped { file: Some((file, offset)), .. } => Some((file, *offset)),
            _ => None,
        }
    }

    /// A pointer to the whole block, good as long as the guard lives.
    #[must_use]
    pub fn host(self: &Arc<Self>) -> HostPtr {
        HostPtr::new(self, self.base, self.size())
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn backing(&self) -> &Backing {
        &self.backing
    }

    pub(super) fn manager_slot(&self) -> &Mutex<Weak<DiscardManager>> {
        &self.manager
    }

    /// The bytes that may be touched: a region is never larger than this.
    pub(super) fn mapped_len(&self) -> u64 {
        self.shape.max
    }

    /// `len` bytes from `offset` on, if they are inside.
    pub(crate) fn span(&self, offset: u64, len: u64) -> Option<RamSpan<'_>> {
        RamSpan::new(self, offset, len)
    }

    fn range(&self, offset: u64, size: usize) -> Result<RamSpan<'_>, RamError> {
        let inside = offset.checked_add(size as u64).is_some_and(|end| end <= self.size());
        let span = if inside { self.span(offset, size as u64) } else { None };
        span.ok_or_else(|| self.out_of_range(offset, size))
    }

    fn out_of_range(&self, offset: u64, size: usize) -> RamError {
        RamError::OutOfRange { name: self.name.to_string(), offset, size: size as u64, have: self.size() }
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
        if !self.shape.writable {
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
        if offset > self.size() || self.size() - offset < len {
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
        let whole = |bytes: u64| bytes.checked_next_multiple_of(host_page()).unwrap_or(bytes);
        RamBlockInfo {
            name: Arc::clone(&self.name),
            page_size: self.shape.page,
            size: self.size(),
            used: whole(self.size()),
            total: whole(self.shape.max),
            share: self.shape.share,
            writable: self.shape.writable,
        }
    }

    /// The right to change the size; `None` if the block cannot be resized, or somebody is at it.
    pub(crate) fn begin_resize(self: &Arc<Self>) -> Option<Resize> {
        let resizing = self.resizing.as_ref()?;
        // Acquire and Release (in Drop): whoever resizes next sees the size that this one left.
        let free = resizing.running.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        free.is_ok().then(|| Resize { block: Arc::clone(self) })
    }
}

/// The right to change a block's size, for one at a time.
pub(crate) struct Resize {
    block: Arc<RamBlock>,
}

impl Resize {
    /// Sets the size; more than the maximum is cut.
    pub fn set(&self, size: u64) {
        self.block.size.store(size.min(self.block.shape.max), Ordering::Relaxed);
    }

    /// Calls whoever wanted to be told.
    pub fn tell(&self) {
        if let Some(told) = self.block.resizing.as_ref().and_then(|r| r.told.as_ref()) {
            told(&self.block, self.block.size());
        }
    }
}

impl Drop for Resize {
    fn drop(&mut self) {
        if let Some(resizing) = &self.block.resizing {
            resizing.running.store(false, Ordering::Release);
        }
    }
}

impl Drop for RamBlock {
    fn drop(&mut self) {
        if let Backing::Mapped { mapping, discard_data: true, .. } = &self.backing {
            // Pages that need not be written back; where the file system cannot, they are.
            let _ = mapping.advise(0, mapping.len(), Advice::Remove);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::sync::atomic::AtomicU8;

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
        assert_eq!(buffer[3].load(Ordering::Relaxed), 99);
        drop(block);
        assert_eq!(Arc::strong_count(&buffer), 1);
    }
}
