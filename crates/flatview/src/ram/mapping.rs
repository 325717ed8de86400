//! Host memory between two guard pages: the one place that maps, unmaps, advises and binds.
//!
//! UNSAFE: this module calls mmap, munmap, madvise and mbind.
//!
//! What it is: a reservation of addresses of its own, with memory of some kind laid over its middle. What it is not: a
//! choice of that kind ([`backend`](super::backend) makes it) or an access to the bytes ([`bytes`](super::bytes)).
//!
//! What must hold: from [`Mapping::new`] to the drop, `base..base + len` is one mapping that nothing moves or unmaps,
//! and the pages before and behind it fault, so that a bug in code that was given a pointer is found and not silent.
#![expect(unsafe_code, reason = "mmap and its kin on guest RAM")]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// What is laid over the reservation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'f> {
    /// The file and the offset in it; `None`: anonymous memory.
    pub file: Option<(BorrowedFd<'f>, u64)>,
    pub shared: bool,
    pub writable: bool,
    /// Whether the host sets swap space (or huge pages) aside now.
    pub reserve: bool,
}

/// What the host is told about the use of a run of bytes. None of these moves or unmaps anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// Same pages may be shared (KSM).
    Mergeable,
    NotMergeable,
    /// Left out of core dumps.
    NotDumped,
    /// Not there in a child after `fork`.
    NotForked,
    /// Transparent huge pages.
    Huge,
    NotHuge,
    /// The pages' contents are not needed: private memory reads as zeros, or as its file, again.
    Drop,
    /// A hole in what is behind a shared mapping.
    Remove,
    /// All pages now, ready to be read.
    PopulateRead,
    /// All pages now, ready to be written.
    PopulateWrite,
}

/// Memory of ours between guard pages.
pub(super) struct Mapping {
    /// With the first guard page.
    start: NonNull<u8>,
    /// With both guard pages.
    total: usize,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the fields never change, and the methods only pass addresses to the kernel.
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

/// The host's page size in bytes.
pub(super) fn host_page() -> u64 {
    rustix::param::page_size() as u64
}

fn unmap(at: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: callers pass pages of a reservation of theirs that nobody else knows, or (in Drop) of a mapping that
        // nobody uses any more.
        let _ = unsafe { rustix::mm::munmap(at.as_ptr().cast(), len) };
    }
}

impl Mapping {
    /// `len` bytes (whole pages of what is mapped) at an address that is a multiple of `align`, a power of two.
    pub fn new(len: usize, align: usize, layer: Layer<'_>) -> Result<Self, Errno> {
        let page = rustix::param::page_size();
        let slack = if align > page { align } else { 0 };
        let total = len
            .checked_add(2 * page)
            .and_then(|t| t.checked_add(slack))
            .filter(|t| isize::try_from(*t).is_ok())
            .ok_or(Errno::NOMEM)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                total,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(Errno::NOMEM)?;
        // What alignment needs no more is given back: before the first guard page and behind the last.
        let first = start.as_ptr().addr() + page;
        let skipped = first.next_multiple_of(align.max(page)) - first;
        unmap(start, skipped);
        // SAFETY: skipped < align <= slack (or 0), so this and what is computed from it is inside the reservation.
        let start = unsafe { start.add(skipped) };
        let kept = len + 2 * page;
        // SAFETY: skipped + kept <= total.
        unmap(unsafe { start.add(kept) }, total - skipped - kept);
        // SAFETY: page < kept.
        let base = unsafe { start.add(page) };
        // From here on Drop gives the reservation back.
        let mapping = Self { start, total: kept, base, len };
        let prot = if layer.writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = MapFlags::FIXED
            | if layer.shared { MapFlags::SHARED } else { MapFlags::PRIVATE }
            | if layer.reserve { MapFlags::empty() } else { MapFlags::NORESERVE };
        let at = base.as_ptr().cast();
        // SAFETY: base..base + len lies inside the reservation made above, which nobody else knows; mapping over it
        // with FIXED replaces only our own pages.
        let mapped = unsafe {
            match layer.file {
                Some((fd, offset)) => rustix::mm::mmap(at, len, prot, flags, fd, offset),
                None => rustix::mm::mmap_anonymous(at, len, prot, flags),
            }
        };
        mapped.map(|_| mapping)
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes in all: whole pages.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The pages from `offset` on, if they are inside.
    fn pages(&self, offset: usize, len: usize) -> Result<*mut u8, Errno> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Errno::INVAL);
        }
        // SAFETY: offset <= len of the mapping.
        Ok(unsafe { self.base.as_ptr().add(offset) })
    }

    /// Tells the host about the use of some pages.
    pub fn advise(&self, offset: usize, len: usize, advice: Advice) -> Result<(), Errno> {
        use rustix::mm::Advice as A;
        let at = self.pages(offset, len)?;
        let advice = match advice {
            Advice::Mergeable => A::LinuxMergeable,
            Advice::NotMergeable => A::LinuxUnmergeable,
            Advice::NotDumped => A::LinuxDontDump,
            Advice::NotForked => A::LinuxDontFork,
            Advice::Huge => A::LinuxHugepage,
            Advice::NotHuge => A::LinuxNoHugepage,
            Advice::Drop => A::LinuxDontNeed,
            Advice::Remove => A::LinuxRemove,
            Advice::PopulateRead => A::LinuxPopulateRead,
            Advice::PopulateWrite => A::LinuxPopulateWrite,
        };
        // SAFETY: the pages are ours and stay mapped at their addresses whatever of the above is advised; that their
        // contents may change is what B1 says of all guest RAM, of which nobody has a reference.
        unsafe { rustix::mm::madvise(at.cast(), len, advice) }
    }

    /// Waits until the host has written some pages to their file.
    pub fn sync(&self, offset: usize, len: usize) -> Result<(), Errno> {
        let at = self.pages(offset, len)?;
        // SAFETY: the pages are ours and stay mapped; writing them to their file changes nothing here.
        unsafe { rustix::mm::msync(at.cast(), len, rustix::mm::MsyncFlags::SYNC) }
    }

    /// Touches each page of the given size for writing without changing it, where the kernel cannot populate.
    pub fn touch(&self, offset: usize, len: usize, page: usize) -> Result<(), Errno> {
        let at = self.pages(offset, len)?;
        for page_at in (0..len).step_by(page.max(1)) {
            // SAFETY: inside the pages checked above, which are mapped and, as the caller of `touch` knows, writable;
            // an atomic update that changes nothing loses no other thread's write.
            let byte = unsafe { std::sync::atomic::AtomicU8::from_ptr(at.add(page_at)) };
            byte.fetch_or(0, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sets the NUMA policy (`MPOL_…`) of all pages for a mask of nodes, and moves those that are elsewhere.
    pub fn bind(&self, mode: i32, mask: &[u64]) -> Result<(), Errno> {
        const STRICT_AND_MOVE: u32 = 1 | 2;
        // The kernel counts one bit less than it is told.
        let bits = mask.len() * 64 + 1;
        // SAFETY: mbind reads `bits` bits of the mask and changes where our pages live, not what they hold.
        let failed = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.base.as_ptr(),
                self.len,
                libc::c_long::from(mode),
                mask.as_ptr(),
                bits,
                libc::c_long::from(STRICT_AND_MOVE),
            )
        };
        if failed == 0 {
            return Ok(());
        }
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOSYS))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Whoever uses the bytes holds the block that holds this (B1, B2), so nobody does any more.
        unmap(self.start, self.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: Layer<'_> = Layer { file: None, shared: false, writable: true, reserve: false };

    /// The lines of this process's map between two addresses, as (start, end, permissions).
    fn mapped(from: usize, to: usize) -> Vec<(usize, usize, String)> {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (start, end) = words.next()?.split_once('-')?;
                let start = usize::from_str_radix(start, 16).ok()?;
                let end = usize::from_str_radix(end, 16).ok()?;
                let inside = start < to && end > from;
                inside.then(|| (start.max(from), end.min(to), words.next().unwrap_or_default().to_owned()))
            })
            .collect()
    }

    #[test]
    fn guard_pages_stand_around_memory_at_every_alignment() {
        let page = rustix::param::page_size();
        for align in [1, page, 4 * page, 2 << 20] {
            let m = Mapping::new(3 * page, align, LAYER).unwrap();
            let base = m.base().as_ptr().addr();
            assert!(base.is_multiple_of(align.max(page)));
            let lines = mapped(base - page, base + 4 * page);
            let of = |from: usize| {
                let line = lines.iter().find(|(start, end, _)| (*start..*end).contains(&from));
                line.map(|(_, _, permissions)| permissions.as_str())
            };
            assert_eq!(of(base - page), Some("---p"), "{lines:?}");
            assert_eq!(of(base), Some("rw-p"));
            assert_eq!(of(base + 3 * page - 1), Some("rw-p"));
            assert_eq!(of(base + 3 * page), Some("---p"));
        }
    }

    #[test]
    fn everything_is_given_back() {
        let m = Mapping::new(8 << 20, 2 << 20, LAYER).unwrap();
        let base = m.base().as_ptr().addr();
        assert!(!mapped(base, base + m.len()).is_empty());
        drop(m);
        // Somebody else may have been given the addresses meanwhile, but not as guard pages of that size.
        assert!(mapped(base, base + (8 << 20)).iter().all(|(start, end, _)| end - start < 8 << 20));
    }

    #[test]
    fn advice_outside_of_the_mapping_is_refused() {
        let m = Mapping::new(4096, 1, LAYER).unwrap();
        assert_eq!(m.advise(4096, 1, Advice::Drop), Err(Errno::INVAL));
        assert_eq!(m.advise(usize::MAX, 2, Advice::Drop), Err(Errno::INVAL));
        assert_eq!(m.advise(0, 4096, Advice::Drop), Ok(()));
    }
}
