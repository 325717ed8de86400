//! The page in which the kernel puts collected writes.
//!
//! UNSAFE: maps the page and reads it.
//!
//! What it is: a ring that the kernel fills and we empty: two indexes, then entries of 24 bytes. What it is not: who
//! empties it when. What must hold is K2; besides, only one thread at a time empties it.
#![expect(unsafe_code, reason = "the kernel writes the page")]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of the two indexes, and of an entry: the address, the number of bytes and whether it is a port, and the bytes.
const HEAD: usize = 8;
const ENTRY: usize = 24;

/// A write that was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collected {
    pub pio: bool,
    pub addr: u64,
    bytes: [u8; 8],
    len: usize,
}

impl Collected {
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The ring (`kvm_coalesced_mmio_ring`).
pub(crate) struct Ring {
    page: NonNull<u8>,
    size: usize,
}

// SAFETY: K2: the page is reached by atomics only, from whichever thread.
unsafe impl Send for Ring {}
// SAFETY: as for Send.
unsafe impl Sync for Ring {}

impl Ring {
    /// Maps the page at `offset` of a vCPU.
    pub fn map(vcpu: BorrowedFd<'_>, offset: u64) -> io::Result<Self> {
        let size = rustix::param::page_size();
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let page = unsafe { mmap(std::ptr::null_mut(), size, prot, flags, vcpu, offset)? };
        let page = NonNull::new(page.cast()).ok_or(rustix::io::Errno::FAULT)?;
        Ok(Self { page, size })
    }

    /// The entries that fit.
    fn room(&self) -> u32 {
        ((self.size - HEAD) / ENTRY) as u32
    }

    fn u32_at(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= self.size);
        // SAFETY: K2: inside the page, which is mapped while `self` is borrowed, and aligned as callers see to.
        unsafe { AtomicU32::from_ptr(self.page.add(at).cast().as_ptr()) }
    }

    fn u64_at(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && at + 8 <= self.size);
        // SAFETY: as in `u32_at`.
        unsafe { AtomicU64::from_ptr(self.page.add(at).cast().as_ptr()) }
    }

    /// How many entries there are now.
    pub fn len(&self) -> u32 {
        let (first, last) = (self.first(), self.u32_at(4).load(Ordering::Acquire) % self.room());
        (last + self.room() - first) % self.room()
    }

    fn first(&self) -> u32 {
        // Ours to write; a number that is none of ours is brought back into the page.
        self.u32_at(0).load(Ordering::Relaxed) % self.room()
    }

    /// Takes the oldest entry.
    pub fn pop(&self) -> Option<Collected> {
        let first = self.first();
        // Acquire: the kernel wrote the entry before it counted it.
        if self.u32_at(4).load(Ordering::Acquire) % self.room() == first {
            return None;
        }
        let at = HEAD + first as usize * ENTRY;
        let taken = Collected {
            addr: self.u64_at(at).load(Ordering::Relaxed),
            len: (self.u32_at(at + 8).load(Ordering::Relaxed) as usize).min(8),
            pio: self.u32_at(at + 12).load(Ordering::Relaxed) != 0,
            bytes: self.u64_at(at + 16).load(Ordering::Relaxed).to_ne_bytes(),
        };
        // Release: the kernel may write over the entry once it is counted as taken.
        self.u32_at(0).store((first + 1) % self.room(), Ordering::Release);
        Some(taken)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: K2: our own mapping, to which nobody has a reference any more.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::io::{pread, pwrite};

    use super::*;

    /// The kernel's side of a ring.
    pub(crate) struct Kernel(pub OwnedFd);

    impl Kernel {
        pub(crate) fn new() -> Self {
            let fd = memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&fd, rustix::param::page_size() as u64).unwrap();
            Self(fd)
        }
        pub(crate) fn ring(&self) -> Ring {
            Ring::map(self.0.as_fd(), 0).unwrap()
        }
        fn index(&self, at: u64) -> u32 {
            let mut bytes = [0; 4];
            pread(&self.0, &mut bytes, at).unwrap();
            u32::from_ne_bytes(bytes)
        }
        pub(crate) fn set_index(&self, at: u64, value: u32) {
            pwrite(&self.0, &value.to_ne_bytes(), at).unwrap();
        }
        /// Adds an entry; whether there was room, as the kernel counts it.
        pub(crate) fn push(&self, pio: bool, addr: u64, len: u32, data: u64) -> bool {
            let room = ((rustix::param::page_size() - HEAD) / ENTRY) as u32;
            let (first, last) = (self.index(0), self.index(4));
            if (first + room - last - 1).is_multiple_of(room) {
                return false;
            }
            let mut entry = addr.to_ne_bytes().to_vec();
            entry.extend(len.to_ne_bytes());
            entry.extend(u32::from(pio).to_ne_bytes());
            entry.extend(data.to_ne_bytes());
            pwrite(&self.0, &entry, (HEAD + last as usize * ENTRY) as u64).unwrap();
            self.set_index(4, (last + 1) % room);
            true
        }
    }

    #[test]
    fn entries_come_out_in_the_order_in_which_they_went_in_however_often_the_ring_goes_round() {
        let kernel = Kernel::new();
        let ring = kernel.ring();
        assert_eq!(ring.pop(), None);
        let mut sent = 0_u64;
        let mut taken = 0_u64;
        for round in 0..50 {
            for _ in 0..round * 7 % 180 {
                sent += u64::from(kernel.push(sent.is_multiple_of(3), 0x1000 + sent, 4, sent));
            }
            assert_eq!(u64::from(ring.len()), sent - taken);
            while let Some(write) = ring.pop() {
                let want = (taken.is_multiple_of(3), 0x1000 + taken, &(taken as u32).to_ne_bytes()[..]);
                assert_eq!((write.pio, write.addr, write.bytes()), want);
                taken += 1;
            }
            assert_eq!(taken, sent);
        }
        assert!(sent > 1000);
    }

    #[test]
    fn what_no_kernel_writes_does_no_harm() {
        let kernel = Kernel::new();
        let ring = kernel.ring();
        kernel.set_index(4, u32::MAX);
        kernel.set_index(0, 0x8000_0001);
        let mut taken = 0;
        while let Some(write) = ring.pop() {
            assert!(write.bytes().len() <= 8);
            taken += 1;
            assert!(taken < 1000, "it ends");
        }
        let kernel = Kernel::new();
        let ring = kernel.ring();
        assert!(kernel.push(false, 8, 4_000_000_000, 1));
        assert_eq!(ring.pop().unwrap().bytes().len(), 8);
    }
}
