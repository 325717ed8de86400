//! What was dirty at one moment.

use std::ops::Range;

use super::{DIRTY_PAGE_SIZE, TOGETHER, pages};

/// Which pages of a part of a region were dirty when it was taken (QEMU: `DirtyBitmapSnapshot`).
///
/// Offsets are those of the region, in bytes. Pages are the RAM block's, of [`DIRTY_PAGE_SIZE`] bytes: where the region
/// begins inside of a page, its first page is shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtySnapshot {
    /// Where the region begins in its block.
    base: u64,
    /// The part of the region.
    part: Range<u64>,
    /// A bit for each page of the block, from the eight pages that hold the first one on.
    bits: Box<[u64]>,
}

impl DirtySnapshot {
    /// Of `len` bytes at `offset` of a region that begins at `base` of its block; all clean.
    pub(super) fn new(base: u64, offset: u64, len: u64) -> Self {
        let part = offset..offset.saturating_add(len);
        let pages = pages(base.saturating_add(offset), len);
        let first = pages.start - pages.start % TOGETHER;
        let words = if pages.is_empty() { 0 } else { (pages.end - first).div_ceil(64) };
        Self { base, part, bits: vec![0; words as usize].into() }
    }

    /// The pages, numbered in the block.
    fn pages(&self) -> Range<u64> {
        pages(self.base.saturating_add(self.part.start), self.part.end - self.part.start)
    }

    /// The page of the block that the first bit is of.
    fn first(&self) -> u64 {
        let first = self.pages().start;
        first - first % TOGETHER
    }

    /// Sets bits of eight pages, numbered in the block.
    pub(super) fn put(&mut self, number: u64, bits: u8) {
        let at = (number * TOGETHER).wrapping_sub(self.first());
        if let Some(word) = self.bits.get_mut((at / 64) as usize) {
            *word |= u64::from(bits) << (at % 64);
        }
    }

    /// Makes every page dirty.
    pub(super) fn put_all(&mut self) {
        for page in self.pages() {
            self.put(page / TOGETHER, 1 << (page % TOGETHER));
        }
    }

    /// The part of the region it is of, in bytes.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.part.clone()
    }

    /// Whether any page of `len` bytes at `offset` of the region was dirty
    /// (QEMU: `memory_region_snapshot_get_dirty`). What lies outside of the snapshot counts as dirty: nothing is
    /// known of it.
    #[must_use]
    pub fn is_dirty(&self, offset: u64, len: u64) -> bool {
        if len == 0 {
            return false;
        }
        let inside = offset >= self.part.start && offset.saturating_add(len) <= self.part.end;
        !inside || {
            let asked = pages(self.base.saturating_add(offset), len);
            self.next(asked.start, asked.end, true) < asked.end
        }
    }

    /// How many pages were dirty.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The dirty parts of the region in order, in bytes: runs of dirty pages, cut to the part that was asked for.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let end = self.pages().end;
        let mut at = self.pages().start;
        std::iter::from_fn(move || {
            at = self.next(at, end, true);
            let from = at;
            at = self.next(at, end, false);
            let offset = |page: u64| (page * DIRTY_PAGE_SIZE).saturating_sub(self.base);
            (from < at).then(|| offset(from).max(self.part.start)..offset(at).min(self.part.end))
        })
    }

    /// The first page from `at` on that is dirty, or that is not; `end` if there is none before it.
    fn next(&self, at: u64, end: u64, dirty: bool) -> u64 {
        let first = self.first();
        let from = at.wrapping_sub(first);
        for (number, word) in (from / 64..).zip(self.bits.iter().skip((from / 64) as usize)) {
            let wanted = if dirty { *word } else { !*word };
            let wanted = if number == from / 64 { wanted & (u64::MAX << (from % 64)) } else { wanted };
            if wanted != 0 {
                return (first + number * 64 + u64::from(wanted.trailing_zeros())).min(end);
            }
        }
        end
    }
}
