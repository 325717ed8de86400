//! Preallocation: all pages of a block now, by several threads, with word of how far it is.
//!
//! What it is not: locking pages into memory; what was allocated can be swapped out or discarded again.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use rustix::io::Errno;

use super::mapping::{Advice, Mapping};

/// More of them only wait for each other in the kernel.
const MOST_THREADS: usize = 256;

/// How far preallocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreallocProgress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

type Tell = Arc<dyn Fn(PreallocProgress) + Send + Sync>;

/// How a block's pages are had in advance (QEMU: `prealloc=on`).
#[derive(Clone)]
#[must_use]
pub struct Prealloc {
    threads: NonZeroUsize,
    progress: Option<Tell>,
}

impl fmt::Debug for Prealloc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prealloc").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Default for Prealloc {
    fn default() -> Self {
        Self::new()
    }
}

impl Prealloc {
    /// By one thread.
    pub fn new() -> Self {
        Self { threads: NonZeroUsize::MIN, progress: None }
    }

    /// By that many threads (QEMU: `prealloc-threads`); more than 256, or than there are pieces of work, are not started.
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Calls `tell` on the thread that makes the block: at the beginning, now and then, and at the end.
    pub fn progress(mut self, tell: impl Fn(PreallocProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(tell));
        self
    }

    /// Populates a mapping whose pages have the given size.
    pub(super) fn run(&self, mapping: &Mapping, page: usize, writable: bool) -> Result<(), Errno> {
        let total = mapping.len();
        let work = Work { mapping, page, writable, chunk: chunk(total, page), next: AtomicUsize::new(0) };
        let tell = |done: usize| {
            if let Some(tell) = &self.progress {
                tell(PreallocProgress { done: done as u64, total: total as u64 });
            }
        };
        tell(0);
        let chunks = total.div_ceil(work.chunk);
        let (sender, done) = channel();
        std::thread::scope(|scope| {
            let started = (0..self.threads.get().min(chunks).min(MOST_THREADS))
                .filter(|n| {
                    let (sender, work) = (sender.clone(), &work);
                    let thread = std::thread::Builder::new().name(format!("prealloc {n}"));
                    thread.spawn_scoped(scope, move || work.run(&sender)).is_ok()
                })
                .count();
            if started == 0 {
                // A host without room for a thread: then here, and the word comes at the end.
                work.run(&sender);
            }
            drop(sender);
            let mut result = Ok(());
            let mut bytes = 0;
            for piece in done {
                match piece {
                    Ok(len) => {
                        bytes += len;
                        tell(bytes);
                    }
                    Err(errno) => result = result.and(Err(errno)),
                }
            }
            result
        })
    }
}

/// Pieces small enough to tell of, and large enough to be worth a call; whole pages.
fn chunk(total: usize, page: usize) -> usize {
    (total / 256).clamp(1 << 20, 64 << 20).next_multiple_of(page).min(total.max(1))
}

struct Work<'m> {
    mapping: &'m Mapping,
    page: usize,
    writable: bool,
    chunk: usize,
    next: AtomicUsize,
}

impl Work<'_> {
    /// Takes pieces until there are none, or one fails: then the others take none either.
    fn run(&self, done: &Sender<Result<usize, Errno>>) {
        loop {
            let at = self.next.fetch_add(self.chunk, Ordering::Relaxed);
            if at >= self.mapping.len() {
                return;
            }
            let len = self.chunk.min(self.mapping.len() - at);
            let result = self.populate(at, len);
            if result.is_err() {
                self.next.store(self.mapping.len(), Ordering::Relaxed);
            }
            // The receiver is there until all workers have gone.
            let _ = done.send(result.map(|()| len));
            if result.is_err() {
                return;
            }
        }
    }

    fn populate(&self, at: usize, len: usize) -> Result<(), Errno> {
        let advice = if self.writable { Advice::PopulateWrite } else { Advice::PopulateRead };
        loop {
            match self.mapping.advise(at, len, advice) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Before Linux 5.14. A page that cannot be had is then a SIGBUS, as it was for everybody.
                Err(Errno::INVAL) if self.writable => return self.mapping.touch(at, len, self.page),
                Err(Errno::INVAL) => return Ok(()),
                other => return other,
            }
        }
    }
}
