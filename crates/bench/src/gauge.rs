//! The heap, counted.
//!
//! UNSAFE: a global allocator that passes everything on to the system's.
//!
//! What must hold: it changes nothing but its count, and costs one predicted test while nobody counts.
#![expect(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// The system's allocator, with a count of the bytes that are allocated while counting is on.
#[derive(Debug)]
pub struct CountingHeap;

static ON: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);
/// What was asked for, whether or not it was freed.
static ASKED: AtomicU64 = AtomicU64::new(0);
static REQUESTS: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize, sign: i64) {
    if ON.load(Relaxed) {
        BYTES.fetch_add(sign * bytes as i64, Relaxed);
        if sign > 0 {
            ASKED.fetch_add(bytes as u64, Relaxed);
            REQUESTS.fetch_add(1, Relaxed);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator as it is, so its guarantees are those of the system's.
unsafe impl GlobalAlloc for CountingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(new_size, 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

/// A count of what is on the heap, from its beginning on. One at a time, in a process where only the counted code
/// allocates.
#[derive(Debug)]
pub struct HeapCount {
    bytes: i64,
    asked: u64,
    requests: u64,
}

impl HeapCount {
    /// Begins to count.
    #[must_use]
    pub fn begin() -> Self {
        ON.store(true, Relaxed);
        Self { bytes: BYTES.load(Relaxed), asked: ASKED.load(Relaxed), requests: REQUESTS.load(Relaxed) }
    }

    /// Bytes allocated since the beginning and not freed, as they were asked for (without the allocator's own).
    #[must_use]
    pub fn bytes(&self) -> i64 {
        BYTES.load(Relaxed) - self.bytes
    }

    /// Bytes asked for since the beginning, freed or not: how much was made, or made anew in a larger place.
    #[must_use]
    pub fn asked(&self) -> u64 {
        ASKED.load(Relaxed) - self.asked
    }

    /// How often memory was asked for since the beginning.
    #[must_use]
    pub fn requests(&self) -> u64 {
        REQUESTS.load(Relaxed) - self.requests
    }
}

impl Drop for HeapCount {
    fn drop(&mut self) {
        ON.store(false, Relaxed);
    }
}
