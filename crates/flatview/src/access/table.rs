//! What a reader knows of the places that it hit, found again by one look.
//!
//! UNSAFE: this module keeps pointers to memory of a view without a lifetime, and finds lines by address.
//!
//! What it is: two tables of the reader's own: one of [registers](super::registers), by 32 bytes, with the callbacks that answer
//! there, and one of pages of memory, by 4 KiB, with the way from addresses to host memory. A line is found by a shift and, for
//! registers, a multiplication; there is one for each place, and what is pushed out of it is found in the view again. What it is
//! not: complete, or shared. Both begin with no lines, get some when lookups miss often, and more while places fight for them.
//!
//! What must hold:
//! - **T1** a line tells what the view that the reader's own lane looks at has in all of the line's place: lines are filled
//!   from that view, and before the lane goes on to another the lines of all places in which the two may differ are emptied
//!   ([`forget`](Table::forget)), or all lines. So whatever a line points to is kept by that view. While the lane looks at
//!   none, no line is used.
//! - **T2** lines come and go ([`grow`](Table::grow)) only while the lane goes on to another view, so that an access to a view
//!   that is current allocates nothing.
//! - **T3** no reference to a line or a table outlives the function that makes it; what callbacks do meanwhile is theirs.
#![expect(unsafe_code, reason = "what is kept of a view is kept without a lifetime")]

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::Arc;

use super::reader::ViewLane;
use super::registers::{GRANULE, Kinds, KnownDevice, Registers};
use super::{Access, Reader};
use crate::publish::Slot;
use crate::ram::RamPlace;
use crate::span::Span;
use crate::view::{FlatRange, FlatView};
use crate::{MmioOps, Value};

/// A power of two.
const PAGE: u32 = 12;
/// Registers of one page that have a line.
const TOGETHER: usize = 1 << (PAGE - GRANULE);
/// Lines of a table at first, and at most (256 KiB each: a quarter of a second-level cache).
const FIRST: usize = 64;
const MOST: usize = 1 << 14;
/// So often a lookup misses before there are any lines: a reader that is made for a few accesses allocates nothing.
const PATIENCE: u32 = 48;
/// More pages than this in one change empty everything.
const FEW_PAGES: u64 = 64;
/// So many ranges of one page may be one run of memory.
const PIECES: usize = 8;

/// Adds the number of a granule to itself, 14, 28 and 42 bits farther up, so that the highest 14 bits are the sum of its digits in
/// the base 16,384. So of 16,384 places that are any power of two apart no two find the same line of as many, neighbours find
/// neighbours, and what is regular stands close together: a cache has to hold no more than it must.
const SPREAD: u64 = 1 << 50 | 1 << 36 | 1 << 22 | 1 << 8;
const _: () = assert!(MOST == 1 << 14);

/// What a table is made of.
trait Line: Sized + 'static {
    const EMPTY: Self;
    /// Lines for who has none, which are never written.
    fn none() -> NonNull<Self>;
    fn empty(&self);
    /// Whether it is of the page with this number.
    fn is_of(&self, page: u64) -> bool;
}

/// Where memory at the addresses of a page is.
#[repr(C, align(16))]
struct Page {
    /// The address of the page, or `NOWHERE`.
    tag: Cell<u64>,
    place: Cell<RamPlace>,
}

/// Not what any aligned address has left of it without its place in the page.
const NOWHERE: u64 = 1 << (PAGE - 1);

/// Lines that nobody ever writes.
struct Fixed<T>(T);
// SAFETY: nobody writes them (T1: what is written is in lines that `grow` made), and their pointers are none.
unsafe impl<T> Sync for Fixed<T> {}

static NO_REGISTERS: Fixed<[Registers; 1]> = Fixed([Registers::EMPTY]);
static NO_PAGES: Fixed<[Page; 1]> = Fixed([Page::EMPTY]);

impl Line for Registers {
    const EMPTY: Self = Self::EMPTY;

    fn none() -> NonNull<Self> {
        NonNull::from(&NO_REGISTERS.0).cast()
    }

    fn empty(&self) {
        Self::empty(self);
    }

    fn is_of(&self, page: u64) -> bool {
        self.granule() >> PAGE == page
    }
}

impl Line for Page {
    const EMPTY: Self = Self { tag: Cell::new(NOWHERE), place: Cell::new(RamPlace::NOWHERE) };

    fn none() -> NonNull<Self> {
        NonNull::from(&NO_PAGES.0).cast()
    }

    fn empty(&self) {
        self.tag.set(NOWHERE);
    }

    fn is_of(&self, page: u64) -> bool {
        self.tag.get() >> PAGE == page
    }
}

/// The lines of a table.
struct Lines<L: Line> {
    /// Of `count` lines, or of the fixed ones.
    first: Cell<NonNull<L>>,
    /// Of the bytes from the first line to the one that a hash finds, which is in the lines.
    mask: Cell<usize>,
    /// 0 if there are only the fixed ones.
    count: Cell<usize>,
    owned: RefCell<Box<[L]>>,
    /// A bit for each line that may not be empty.
    used: RefCell<Vec<u64>>,
    /// Lookups that missed while there were no lines, or places that were pushed out.
    missed: Cell<u32>,
}

impl<L: Line> Lines<L> {
    fn new() -> Self {
        Self {
            first: Cell::new(L::none()),
            mask: Cell::new(0),
            count: Cell::new(0),
            owned: RefCell::new(Box::default()),
            used: RefCell::new(Vec::new()),
            missed: Cell::new(0),
        }
    }

    /// The line at so many bytes after the first.
    ///
    /// # Safety
    /// `at` is a multiple of a line's size, and at most `mask`.
    #[inline(always)]
    unsafe fn at(&self, at: usize) -> &L {
        // SAFETY: the caller's promise; the lines are there until `grow`, for which no reference stays (T3).
        unsafe { self.first.get().byte_add(at).as_ref() }
    }

    fn misses(&self) {
        self.missed.set(self.missed.get().saturating_add(1));
    }

    /// Notes that a line is filled; whether there is one to fill.
    fn fills(&self, at: usize) -> bool {
        let number = at / size_of::<L>();
        match self.used.borrow_mut().get_mut(number / 64) {
            Some(word) => {
                *word |= 1 << (number % 64);
                true
            }
            None => {
                self.misses();
                false
            }
        }
    }

    /// Empties those of `count` lines from one on that are of this page, or all of them.
    fn empty(&self, from: usize, count: usize, page: Option<u64>) {
        let (lines, mut used) = (self.owned.borrow(), self.used.borrow_mut());
        let end = from.saturating_add(count).min(lines.len());
        let mut at = from;
        while at < end {
            let Some(word) = used.get_mut(at / 64) else { return };
            let here = (64 - at % 64).min(end - at);
            let mut bits = *word & (u64::MAX >> (64 - here)) << (at % 64);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                // Lines of other pages stand among those of this one.
                if let Some(line) = lines.get(at / 64 * 64 + bit as usize)
                    && page.is_none_or(|page| line.is_of(page))
                {
                    line.empty();
                    *word &= !(1 << bit);
                }
                bits &= bits - 1;
            }
            at += here;
        }
    }

    fn empty_all(&self) {
        self.empty(0, self.count.get(), None);
    }

    /// Whether lookups miss so often that there should be (more) lines.
    fn wants_more(&self) -> bool {
        let found = (self.mask.get() / size_of::<L>() + 1) as u32;
        match self.count.get() {
            0 => self.missed.get() > PATIENCE,
            _ => found < MOST as u32 && self.missed.get() > found / 2,
        }
    }

    /// Makes them, all empty.
    fn grow(&self) {
        let found = match self.count.get() {
            0 => FIRST,
            _ => (self.mask.get() / size_of::<L>() + 1).saturating_mul(4).min(MOST),
        };
        let lines: Box<[L]> = std::iter::repeat_with(|| L::EMPTY).take(found).collect();
        *self.used.borrow_mut() = vec![0; found.div_ceil(64)];
        self.mask.set((found - 1) * size_of::<L>());
        self.count.set(found);
        self.missed.set(0);
        *self.owned.borrow_mut() = lines;
        self.first.set(NonNull::from(&**self.owned.borrow()).cast());
    }
}

/// What a reader knows.
pub(super) struct Table {
    registers: Lines<Registers>,
    kinds: Kinds,
    pages: Lines<Page>,
}

// SAFETY: by T1 whatever a line points to is kept by the view that the lane looks at, whichever thread owns the reader, and it
// is memory and callbacks that may be used by any.
unsafe impl Send for Table {}

/// Where the line of an address's registers is, in bytes.
#[inline(always)]
fn registers_at(addr: u64, mask: usize) -> usize {
    const LINE: u32 = size_of::<Registers>().ilog2();
    // The mask has no bits of places in a line.
    ((addr >> GRANULE).wrapping_mul(SPREAD) >> (64 - MOST.ilog2() - LINE)) as usize & mask
}

/// The same of a page.
#[inline(always)]
fn page_at(addr: u64, mask: usize) -> usize {
    const LINE: u32 = size_of::<Page>().ilog2();
    (addr >> (PAGE - LINE)) as usize & mask
}

impl Table {
    pub fn new() -> Self {
        Self { registers: Lines::new(), kinds: Kinds::new(), pages: Lines::new() }
    }

    fn has_lines(&self) -> bool {
        self.registers.count.get() + self.pages.count.get() > 0
    }

    /// The line of an address's registers.
    #[inline(always)]
    fn registers(&self, addr: u64) -> &Registers {
        // SAFETY: what `registers_at` gives is the mask's part.
        unsafe { self.registers.at(registers_at(addr, self.registers.mask.get())) }
    }

    /// The value at an address in memory that is known, in host order, if it is naturally aligned.
    ///
    /// # Safety
    /// The reader's own lane is current.
    #[inline(always)]
    unsafe fn load<V: Value>(&self, addr: u64) -> Option<V> {
        // SAFETY: what `page_at` gives is the mask's part.
        let line = unsafe { self.pages.at(page_at(addr, self.pages.mask.get())) };
        // Without its place in the page, but with what a naturally aligned address does not have.
        let page = addr & (!((1 << PAGE) - 1) | (u64::from(V::SIZE) - 1));
        if line.tag.get() != page {
            return None;
        }
        // SAFETY: T1: all of the page is memory that loads go to, so far from the line's place, and the view keeps it.
        Some(unsafe { line.place.get().load::<V>(addr) })
    }

    /// Keeps what the view has at an address, where an access just found this range.
    ///
    /// # Safety
    /// The view is the one that the reader's own lane looks at, and the range is the one at the address in it.
    #[inline(always)]
    unsafe fn keep(&self, view: &FlatView, addr: u64, range: &FlatRange) {
        if let Some((sizes, ops)) = range.kept_callbacks() {
            self.keep_registers(addr, range, sizes, ops);
        } else if range.is_ram_backed() {
            self.keep_page(view, addr, range);
        }
    }

    fn keep_registers(&self, addr: u64, range: &FlatRange, sizes: u8, ops: &(dyn MmioOps + 'static)) {
        let granule = addr & !((1 << GRANULE) - 1);
        let at = registers_at(addr, self.registers.mask.get());
        let all = range.start() <= granule && granule | ((1 << GRANULE) - 1) <= range.last();
        if !all || !self.registers.fills(at) {
            return;
        }
        let line = self.registers(addr);
        if line.is_of_another(addr) {
            self.registers.misses();
        }
        line.fill(&self.kinds, addr, range, sizes, ops);
    }

    fn keep_page(&self, view: &FlatView, addr: u64, range: &FlatRange) {
        let page = addr & !((1 << PAGE) - 1);
        let at = page_at(addr, self.pages.mask.get());
        if self.pages.count.get() == 0 {
            return self.pages.misses();
        }
        let Some(place) = run_of_memory(view, page, range) else { return };
        if !self.pages.fills(at) {
            return;
        }
        // SAFETY: `page_at` gives the mask's part.
        let line = unsafe { self.pages.at(at) };
        if line.tag.get() != NOWHERE && line.tag.get() != page {
            self.pages.misses();
        }
        line.tag.set(page);
        line.place.set(place);
    }

    /// Empties the lines of a place that is not what it was, or all.
    fn forget(&self, place: Option<Span>) {
        let pages = |s: &Span| (s.last >> PAGE) - (s.start >> PAGE);
        let Some(span) = place.filter(|s| pages(s) < FEW_PAGES) else {
            self.registers.empty_all();
            self.kinds.clear();
            self.pages.empty_all();
            return;
        };
        for page in span.start >> PAGE..=span.last >> PAGE {
            let addr = page << PAGE;
            let registers = registers_at(addr, self.registers.mask.get()) / size_of::<Registers>();
            // One after the other, one place left out at most, and the first after the last.
            let (count, behind) = (TOGETHER + 1, self.registers.count.get().saturating_sub(registers));
            self.registers.empty(registers, count, Some(page));
            self.registers.empty(0, count - count.min(behind), Some(page));
            self.pages.empty(page_at(addr, self.pages.mask.get()) / size_of::<Page>(), 1, Some(page));
        }
    }

    /// Makes (more) lines where they are wanted.
    fn grow(&self) {
        if self.registers.wants_more() {
            self.registers.grow();
            self.kinds.make_room();
        }
        if self.pages.wants_more() {
            self.pages.grow();
        }
    }
}

/// Where all memory of a page is, in which `range` is, if it is one run to which loads go, and no aligned value is in two ranges.
fn run_of_memory(view: &FlatView, page: u64, range: &FlatRange) -> Option<RamPlace> {
    let last = page | ((1 << PAGE) - 1);
    let place = range.load_place()?;
    let continues = |r: &&FlatRange| r.load_place() == Some(place);
    let (mut from, mut to) = (range, range);
    for _ in 0..PIECES {
        if from.start() > page {
            let start = from.start();
            from = view.lookup(start - 1).filter(continues).filter(|_| start.is_multiple_of(8))?;
        } else if to.last() < last {
            let next = to.last() + 1;
            to = view.lookup(next).filter(continues).filter(|_| next.is_multiple_of(8))?;
        } else {
            return Some(place);
        }
    }
    None
}

impl Reader {
    /// The value at an address, in host order, if it is in the memory hit last or in a page that is known.
    #[inline(always)]
    pub(super) fn load_quick<V: Value>(&self, addr: u64) -> Option<V> {
        self.own_lane().on_reads(
            #[inline(always)]
            move |memory| memory.load::<V>(addr),
            // SAFETY: the own lane is current, or this would not be run.
            #[inline(always)]
            || unsafe { self.table.load::<V>(addr) },
        )
    }

    /// The device that is known at an address that is aligned for a value, if the own lane is current.
    #[inline(always)]
    pub(super) fn known_device<V: Value>(&self, addr: u64) -> Option<KnownDevice<'_>> {
        self.own_lane().if_current()?;
        self.table.registers(addr).find::<V>(&self.table.kinds, addr)
    }

    /// Keeps what a lookup found.
    ///
    /// # Safety
    /// The range is the one at the address in the view that the own lane is held at.
    #[inline(always)]
    pub(super) unsafe fn keep(&self, view: &FlatView, addr: u64, range: &FlatRange) {
        // SAFETY: the caller's promise.
        unsafe { self.table.keep(view, addr, range) };
    }

    /// Lets go of the view if lookups miss so often that the table should grow, so that it does at the next access.
    #[inline(always)]
    pub(super) fn grows_next(&self) {
        if self.table.registers.wants_more() || self.table.pages.wants_more() {
            self.own_lane().park();
        }
    }

    /// Makes a lane look at what is published now; `false` if it is held.
    pub(super) fn refresh(&self, lane: &ViewLane, slot_now: impl Fn() -> Arc<Slot<FlatView>>) -> bool {
        let own = std::ptr::eq(lane, self.own_lane());
        let done = lane.refresh_telling(slot_now, own && self.table.has_lines(), |place| {
            if own {
                self.table.forget(place);
            }
        });
        if own && done {
            self.table.grow();
        }
        done
    }
}

impl<'a> Access<'a> {
    /// The range that an access through the reader itself is to.
    #[cold]
    #[inline(never)]
    pub(super) fn range_of_reader(&self) -> &'a FlatRange {
        // SAFETY: an access without a way is made by a `KnownDevice` only, which holds the lane while it is there, and no
        // callback can keep what it gets from it for longer: it is called with an access of any lifetime.
        let view = unsafe { self.reader.own_lane().held() };
        match view.lookup(self.address) {
            Some(range) => range,
            // T1: there was a line for it.
            None => std::process::abort(),
        }
    }
}
