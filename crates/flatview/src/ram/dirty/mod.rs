//! Which pages of a block were written since somebody last looked.
//!
//! What it is: the one place where writes to guest RAM are noted, whoever writes: a byte for each page of
//! [`DIRTY_PAGE_SIZE`] bytes, in which each client has a bit. So a store tests once for all its clients, and a block
//! that nobody logs has no bytes at all. What it is not: who logs what; a [`FlatRange`](crate::FlatRange) knows the
//! clients of its region, and the memory's writer side hands clients out.
//!
//! What must hold:
//! - **D1** *no write is lost.* A writer stores its data, then marks. A client clears, then reads the data. After that
//!   either the client read what the writer wrote, or the page is dirty again.
//! - **D2** clearing a client's bits of some pages changes no other client's bit and no other page's.
//! - **D3** bits of pages that the block does not have are never set.
//! - **D4** marking takes no lock, and writes nothing if the bits are set already.
//!
//! D1 needs an order between a store and a *later load* of the same thread: a marker that finds the bit set does not
//! write, and the processor may do its load before the store of the data is visible. Then a client could clear the bit,
//! read the old data, and never hear of the new. A fence in every store would cost several times the store. So the two
//! sides have the two ends of an asymmetric [`fence`]: the marker does *data, light, test*; the client does
//! *clear, heavy, read the data*. Either the test comes after the clearing, and sets the bit again; or the data
//! came before the reading.
//!
//! The same pair lets a log be turned on while others store ([`Memory::set_log`](crate::Memory::set_log)): a writer
//! does *data, light, is my view still the newest?* and, if not, marks for every client of the block; who turns a log
//! on does *use the bits, publish the view, heavy*.

mod fence;
mod newly;
mod notes;
mod snapshot;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

#[cfg(loom)]
use loom::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use newly::NewPages;
pub use newly::NewlyDirtyWatch;

use crate::DirtyClient;

pub use snapshot::DirtySnapshot;

pub(crate) use fence::{NoBarrier, heavy, light, prepare};
pub(crate) use notes::Notes;

/// The unit of dirty tracking, in bytes (QEMU: `TARGET_PAGE_SIZE`). A block's last page may be shorter.
pub const DIRTY_PAGE_SIZE: u64 = 4096;

/// Clients at most: bits of a page's byte.
pub(crate) const MOST_CLIENTS: u32 = 8;

/// Pages in a word.
const TOGETHER: u64 = 8;
/// One bit of each page's byte.
const EACH: u64 = 0x0101_0101_0101_0101;

/// The pages that some bytes touch.
fn pages(offset: u64, len: u64) -> Range<u64> {
    match len.checked_sub(1) {
        None => 0..0,
        Some(more) => offset / DIRTY_PAGE_SIZE..offset.saturating_add(more) / DIRTY_PAGE_SIZE + 1,
    }
}

/// Eight bits, one from each byte of a word of zeros and ones.
const fn gathered(word: u64) -> u8 {
    // Each byte's bit is shifted by another multiple of seven, and they meet in the top byte.
    (word.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// The opposite: each bit in a byte of its own.
const fn spread(bits: u8) -> u64 {
    // Byte i keeps bit i, and has its top bit after the addition if that was set: none carries into the next.
    let kept = (bits as u64).wrapping_mul(EACH) & 0x8040_2010_0804_0201;
    (kept.wrapping_add(0x7f7f_7f7f_7f7f_7f7f) >> 7) & EACH
}

/// A byte for each page, a bit for each client.
#[derive(Debug)]
struct DirtyMap {
    pages: u64,
    /// Eight pages each, the first in the lowest byte.
    words: Box<[AtomicU64]>,
    /// The pages that became dirty, for clients that want a list of them.
    new_pages: NewPages,
}

impl DirtyMap {
    /// For `size` bytes, all clean.
    fn new(size: u64) -> Self {
        let pages = size.div_ceil(DIRTY_PAGE_SIZE);
        Self {
            pages,
            words: (0..pages.div_ceil(TOGETHER)).map(|_| AtomicU64::new(0)).collect(),
            new_pages: NewPages::default(),
        }
    }

    /// The first page's byte; those of the others follow, where a word's lowest byte is its first.
    fn bytes(&self) -> *mut u8 {
        self.words.as_ptr().cast_mut().cast()
    }

    /// The bits of a page.
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri, flatview_tsan)))))]
    fn bits(&self, page: u64) -> u8 {
        let word = self.words.get((page / TOGETHER) as usize).map_or(0, |w| w.load(Ordering::Relaxed));
        (word >> (page % TOGETHER * 8)) as u8
    }

    /// Notes for the clients of `mask` that `len` bytes at `offset` were just written (D1).
    #[inline(always)]
    fn mark(&self, mask: u8, offset: u64, len: u64) {
        light();
        let page = offset / DIRTY_PAGE_SIZE;
        let in_one = len > 0 && (offset % DIRTY_PAGE_SIZE).saturating_add(len) <= DIRTY_PAGE_SIZE;
        match self.words.get((page / TOGETHER) as usize) {
            Some(word) if in_one => self.set(page / TOGETHER, word, u64::from(mask) << (page % TOGETHER * 8)),
            _ => self.mark_pages(mask, pages(offset, len)),
        }
    }

    #[cold]
    fn mark_pages(&self, mask: u8, pages: Range<u64>) {
        self.for_words(pages, |number, word, each| self.set(number, word, each * u64::from(mask)));
    }

    /// Sets bits of a word that are not set yet (D4).
    #[inline]
    fn set(&self, number: u64, word: &AtomicU64, bits: u64) {
        if word.load(Ordering::Relaxed) & bits != bits {
            self.set_new(number, word, bits);
        }
    }

    #[cold]
    fn set_new(&self, number: u64, word: &AtomicU64, bits: u64) {
        // Release: who takes the bit sees the data.
        let old = word.fetch_or(bits, Ordering::Release);
        for client in self.new_pages.clients() {
            let new = gathered(((bits & !old) >> client) & EACH);
            self.new_pages.add(client, number * TOGETHER, new);
        }
    }

    /// Calls `f` with the number of each word of these pages, the word, and, of the bytes of the pages in it, the
    /// lowest bits.
    #[inline]
    fn for_words(&self, pages: Range<u64>, mut f: impl FnMut(u64, &AtomicU64, u64)) {
        let (start, end) = (pages.start, pages.end.min(self.pages)); // D3
        if start >= end {
            return;
        }
        let (first, last) = (start / TOGETHER, (end - 1) / TOGETHER);
        let head = EACH << (start % TOGETHER * 8);
        let tail = EACH >> ((TOGETHER - 1 - (end - 1) % TOGETHER) * 8);
        let words = self.words.get(first as usize..=last as usize).unwrap_or_default();
        for (number, word) in (first..).zip(words) {
            let from = if number == first { head } else { EACH };
            let to = if number == last { tail } else { EACH };
            f(number, word, from & to);
        }
    }

    /// Takes a client's bits of these pages, which are clear then (D2): calls `f` with the number of each word that had
    /// some, and a bit for each of its eight pages. To read the data next, the caller needs a heavy fence first (D1).
    fn take(&self, client: u32, pages: Range<u64>, mut f: impl FnMut(u64, u8)) {
        self.for_words(pages, |number, word, each| {
            let bits = each << client;
            if word.load(Ordering::Relaxed) & bits != 0 {
                let old = word.fetch_and(!bits, Ordering::AcqRel);
                f(number, gathered((old & bits) >> client));
            }
        });
    }

    /// As [`take`](Self::take), and leaves them.
    fn look(&self, client: u32, pages: Range<u64>, mut f: impl FnMut(u64, u8)) {
        self.for_words(pages, |number, word, each| {
            let bits = word.load(Ordering::Acquire) & (each << client);
            if bits != 0 {
                f(number, gathered(bits >> client));
            }
        });
    }
}

/// The bits of a block are kept for another memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claimed;

/// What a block knows of being written.
#[derive(Debug, Default)]
pub(crate) struct BlockDirty {
    map: OnceLock<DirtyMap>,
    /// The clients whose bits are kept.
    used: AtomicU8,
    claim: Mutex<Claim>,
}

/// Whose bits they are.
#[derive(Debug, Default)]
struct Claim {
    /// The memory whose clients they are.
    memory: Weak<()>,
    /// Which of those that had the number, one after the other.
    generations: [u32; MOST_CLIENTS as usize],
}

impl Claim {
    fn is_of(&self, memory: &Arc<()>) -> bool {
        std::ptr::eq(self.memory.as_ptr(), Arc::as_ptr(memory))
    }
}

impl BlockDirty {
    /// Keeps the bits of a client of `memory` from now on. At first every page is dirty: nothing is known of it (QEMU: a
    /// new block is dirty for all clients). `size` is the most bytes that the block will ever have.
    pub fn start(&self, memory: &Arc<()>, client: DirtyClient, size: u64) -> Result<(), Claimed> {
        let mut claim = self.claim.lock();
        if !claim.is_of(memory) {
            if claim.memory.strong_count() > 0 && self.used() != 0 {
                return Err(Claimed);
            }
            // Whoever it was is gone, or keeps nothing.
            self.used.store(0, Ordering::Relaxed);
            if let Some(map) = self.map.get() {
                (0..MOST_CLIENTS).for_each(|client| map.new_pages.stop(client));
            }
            *claim = Claim { memory: Arc::downgrade(memory), ..Claim::default() };
        }
        let (index, bit) = (u32::from(client.index), client.mask());
        let Some(generation) = claim.generations.get_mut(index as usize) else {
            return Ok(());
        };
        if self.used() & bit == 0 || *generation != client.generation {
            *generation = client.generation;
            let map = self.map.get_or_init(|| DirtyMap::new(size));
            map.new_pages.stop(index);
            map.mark_pages(bit, 0..map.pages);
            self.used.fetch_or(bit, Ordering::Release);
        }
        Ok(())
    }

    /// Keeps the bits of a client of `memory` no longer.
    pub fn stop(&self, memory: &Arc<()>, client: DirtyClient) {
        let claim = self.claim.lock();
        let index = u32::from(client.index);
        let known = claim.is_of(memory) && claim.generations.get(index as usize) == Some(&client.generation);
        if let Some(map) = self.map.get().filter(|_| known) {
            self.used.fetch_and(!client.mask(), Ordering::Relaxed);
            map.new_pages.stop(index);
            map.take(index, 0..map.pages, |_, _| ());
        }
    }

    /// The clients whose bits are kept.
    #[inline]
    fn used(&self) -> u8 {
        self.used.load(Ordering::Acquire)
    }

    /// The bits, if those of the client are kept.
    fn of(&self, client: u32) -> Option<&DirtyMap> {
        self.map.get().filter(|_| self.used() & (1 << client) != 0)
    }

    /// Notes for the clients of `mask` that `len` bytes at `offset` were just written.
    #[inline]
    pub fn mark(&self, mask: u8, offset: u64, len: u64) {
        if let Some(map) = self.map.get() {
            map.mark(mask, offset, len);
        }
    }

    /// Where writes to `len` bytes at `offset`, which stand at the address `start`, are noted for the clients of `mask`, if
    /// anywhere, and if pages of addresses are pages of the block.
    pub fn notes(&self, mask: u8, offset: u64, start: u64, len: u64) -> Option<Notes<'_>> {
        Notes::new(self.map.get()?, mask, offset, start, len)
    }

    /// The same for every client: for writers that know no view, or whose view may be old.
    #[inline]
    pub fn mark_for_all(&self, offset: u64, len: u64) {
        // The data is written: before the look at who wants to know, as before the look at the bits. Who has seen that a view
        // is old sees the clients that were there before it was.
        light();
        fence(Ordering::Acquire);
        let used = self.used();
        if used != 0 {
            self.mark(used, offset, len);
        }
    }

    /// The same for pages after the one at `offset`: bit `i` of `bits`, counted from the lowest of the first word,
    /// is the page `i` after it.
    pub fn mark_bitmap(&self, offset: u64, bits: &[u64]) {
        light();
        let used = u64::from(self.used());
        let Some(map) = self.map.get().filter(|_| used != 0) else {
            return;
        };
        let first = offset / DIRTY_PAGE_SIZE;
        for (i, word) in (0_u64..).zip(bits).filter(|(_, word)| **word != 0) {
            let at = first.saturating_add(i.saturating_mul(64));
            // Where the bitmap begins inside of one of our words, it reaches into one more.
            let eights = (u128::from(*word) << (at % TOGETHER)).to_le_bytes();
            let all = at - at % TOGETHER..at.saturating_add(64);
            map.for_words(all.clone(), |number, ours, each| {
                let eight = eights.get((number - all.start / TOGETHER) as usize).copied().unwrap_or(0);
                map.set(number, ours, (spread(eight) & each) * used);
            });
        }
    }

    /// Takes the bits of `len` bytes at `offset`: they are clear then. What the client reads of them from now on
    /// is what was written before, or is dirty again. Offsets that the snapshot is asked for begin at `base`.
    pub fn snapshot_and_clear(
        &self,
        client: u32,
        base: u64,
        offset: u64,
        len: u64,
    ) -> Result<DirtySnapshot, NoBarrier> {
        let at = base.saturating_add(offset);
        let mut snapshot = DirtySnapshot::new(base, offset, len);
        match self.of(client) {
            Some(map) => {
                map.take(client, pages(at, len), |number, bits| snapshot.put(number, bits));
                heavy()?;
            }
            None => snapshot.put_all(),
        }
        Ok(snapshot)
    }

    /// The same without clearing.
    pub fn snapshot(&self, client: u32, base: u64, offset: u64, len: u64) -> DirtySnapshot {
        let at = base.saturating_add(offset);
        let mut snapshot = DirtySnapshot::new(base, offset, len);
        match self.of(client) {
            Some(map) => map.look(client, pages(at, len), |number, bits| snapshot.put(number, bits)),
            None => snapshot.put_all(),
        }
        snapshot
    }

    /// A list of the pages that become dirty from now on, `most` at a time, for a client whose bits are kept.
    pub fn list_new(&self, client: u32, most: usize) {
        if let Some(map) = self.of(client) {
            map.new_pages.start(client, most);
        }
    }

    /// A look at whether the client's list is empty.
    pub fn watch_new(&self, client: u32) -> Option<NewlyDirtyWatch> {
        self.of(client)?.new_pages.watch(client)
    }

    /// No list for a client any more.
    pub fn unlist_new(&self, client: u32) {
        if let Some(map) = self.of(client) {
            map.new_pages.stop(client);
        }
    }

    /// Takes the pages on the client's list, whose bits are clear then; and whether the list, which may not even be there,
    /// held all pages that became dirty. The client may read their data next.
    pub fn take_new(&self, client: u32) -> Result<(Vec<u64>, bool), NoBarrier> {
        let Some(map) = self.of(client) else {
            return Ok((Vec::new(), false));
        };
        let mut taken = Vec::new();
        // A page may stand there twice, or not be dirty any more, if its bit was cleared otherwise.
        let take = |page| map.take(client, page..page + 1, |_, _| taken.push(page));
        let complete = map.new_pages.take(client, take).is_some();
        heavy()?;
        Ok((taken, complete))
    }

    /// The pages on the client's list, which is empty then; and whether it held all. The bits stay.
    pub fn drain_new(&self, client: u32) -> (Vec<u64>, bool) {
        let mut drained = Vec::new();
        let complete =
            self.of(client).and_then(|map| map.new_pages.take(client, |page| drained.push(page))).is_some();
        (drained, complete)
    }

    /// Clears the bits of `len` bytes at `offset`; tells how many pages were dirty.
    pub fn clear(&self, client: u32, offset: u64, len: u64) -> Result<u64, NoBarrier> {
        let Some(map) = self.of(client) else {
            return Ok(pages(offset, len).count() as u64);
        };
        let mut count = 0;
        map.take(client, pages(offset, len), |_, bits| count += u64::from(bits.count_ones()));
        heavy()?;
        Ok(count)
    }

    /// How many of the pages of `len` bytes at `offset` are dirty.
    pub fn count(&self, client: u32, offset: u64, len: u64) -> u64 {
        let Some(map) = self.of(client) else {
            return pages(offset, len).count() as u64;
        };
        let mut count = 0;
        map.look(client, pages(offset, len), |_, bits| count += u64::from(bits.count_ones()));
        count
    }
}
