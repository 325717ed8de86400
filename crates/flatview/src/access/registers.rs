//! What a reader knows of devices' registers: the lines of its table of them.
//!
//! UNSAFE: this module keeps pointers to callbacks of a view without a lifetime and without their type.
//!
//! What it is: a line of 16 bytes for each 32 bytes of registers, so that the lines of 10,000 devices leave room beside them in the second-level cache, and
//! the *kinds* that lines share: how callbacks of one type, of one byte order, are called. What it is not: the table, which finds
//! the lines and empties them.
//!
//! What must hold, beside the table's **T1** to **T3**:
//! - **K1** the kind that a line names was there when the line was filled, and is there as it was while the line is not empty.
//!   Kinds come one by one and go all together, when all lines are empty.
//! - **K2** the callbacks that a line points to are of the type that its kind was made for.
#![expect(unsafe_code, reason = "what is kept of a view is kept without a lifetime")]

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use super::Reader;
use super::direct::{DirectCalls, ReadCall, WriteCall};
use crate::view::FlatRange;
use crate::{ByteOrder, Endianness, MmioOps};

/// A power of two: the registers that have a line together.
pub(super) const GRANULE: u32 = 5;
/// Kinds of one reader at most; what would need more is found in the view each time.
const KINDS: usize = 1 << KIND_BITS;

/// The callbacks that answer in a granule.
#[repr(C, align(16))]
pub(super) struct Registers {
    /// The address of the granule, with the sizes of which an access is one callback as it is, or-ed, in the lowest four bits;
    /// 0 if the line is empty.
    tag: Cell<u64>,
    /// See [`Packed`].
    device: Cell<Packed>,
}

const SIZES: u64 = 0xf;

/// From the highest bit on: the pointer to the callbacks without what all of them have in common, the granule's number in its part of the region, the kind.
#[derive(Clone, Copy)]
struct Packed(*const ());

const KIND_BITS: u32 = 7;
const NUMBER_BITS: u32 = 13;
/// Of a pointer: what is given by an `Arc` is aligned to its counts, and a process has the lower half of 48 bits, if it did not ask
/// for more.
const ALIGNED: u32 = 3;
const POINTER_BITS: u32 = 47;
const _: () = assert!(KIND_BITS + NUMBER_BITS + POINTER_BITS - ALIGNED == 64);

/// A part of a region whose granules one kind can number.
const PART: u64 = 1 << (NUMBER_BITS + GRANULE);

impl Packed {
    fn new(ops: NonNull<()>, number: u64, kind: usize) -> Option<Self> {
        let at = ops.addr().get();
        let fits = at & ((1 << ALIGNED) - 1) == 0 && at >> POINTER_BITS == 0;
        let rest = (number as usize) << KIND_BITS | kind;
        let packed = ops.as_ptr().cast_const().map_addr(|at| at << (64 - POINTER_BITS) | rest);
        (fits && number < 1 << NUMBER_BITS && kind < KINDS).then_some(Self(packed))
    }

    /// The callbacks.
    #[inline(always)]
    fn ops(self) -> NonNull<()> {
        let at = self.0.map_addr(|at| at >> (64 - POINTER_BITS) & !((1 << ALIGNED) - 1));
        // SAFETY: it was made of a pointer that is not null and has no other bits.
        unsafe { NonNull::new_unchecked(at.cast_mut()) }
    }

    /// The offset of the granule in its part of the region.
    #[inline(always)]
    fn offset(self) -> u64 {
        const SHIFT: u32 = KIND_BITS - GRANULE;
        (self.0.addr() as u64) >> SHIFT & (PART - (1 << GRANULE))
    }

    #[inline(always)]
    fn kind(self) -> usize {
        self.0.addr() & (KINDS - 1)
    }
}

/// How callbacks of one type, of one byte order, in one part of their regions are called.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Kind {
    /// By the order of the value: little-endian, big-endian.
    read: [ReadCall; 2],
    write: [WriteCall; 2],
    /// The offset of the part.
    part: u64,
    /// What it was made of.
    calls: &'static DirectCalls,
    order: Endianness,
}

/// The kinds of one reader.
pub(super) struct Kinds {
    /// There is room for all of them once there is one, so that they stay where they are.
    owned: RefCell<Vec<Kind>>,
    first: Cell<NonNull<Kind>>,
}

impl Kinds {
    pub fn new() -> Self {
        Self { owned: RefCell::new(Vec::new()), first: Cell::new(NonNull::dangling()) }
    }

    /// Makes room, which is kept.
    pub fn make_room(&self) {
        let mut owned = self.owned.borrow_mut();
        let more = KINDS - owned.len();
        owned.reserve_exact(more);
        self.first.set(NonNull::new(owned.as_mut_ptr()).unwrap_or(NonNull::dangling()));
    }

    /// Forgets all; no line names one any more.
    pub fn clear(&self) {
        self.owned.borrow_mut().clear();
    }

    /// The number of the kind, if there is one or there is room.
    fn number(&self, calls: &'static DirectCalls, order: Endianness, part: u64) -> Option<usize> {
        let mut owned = self.owned.borrow_mut();
        let same = |k: &Kind| std::ptr::eq(k.calls, calls) && k.order == order && k.part == part;
        if let Some(at) = owned.iter().position(same) {
            return Some(at);
        }
        if owned.len() >= KINDS.min(owned.capacity()) {
            return None;
        }
        let by_order = |wanted| usize::from(order != wanted);
        let orders = [Endianness::Little, Endianness::Big].map(by_order);
        let (read, write) = (orders.map(|o| calls.read[o & 1]), orders.map(|o| calls.write[o & 1]));
        owned.push(Kind { read, write, part, calls, order });
        Some(owned.len() - 1)
    }

    /// # Safety
    /// There is a kind with this number.
    #[inline(always)]
    unsafe fn get(&self, number: usize) -> &Kind {
        // SAFETY: the caller's promise; while there is one `first` is where the vector has them, which never grows beyond its room.
        unsafe { self.first.get().add(number).as_ref() }
    }
}

/// A device that answers at an address.
pub(super) struct KnownDevice<'a> {
    ops: NonNull<()>,
    offset: u64,
    kind: &'a Kind,
}

impl KnownDevice<'_> {
    /// Reads a value in order `O`; as a [`ReadCall`] does.
    ///
    /// # Safety
    /// The device is what the reader's own lane has at the address, and the lane is current.
    #[inline(always)]
    pub unsafe fn read<O: ByteOrder>(self, reader: &Reader, addr: u64, size: u32) -> Option<u64> {
        let [little, big] = self.kind.read;
        let call = if matches!(O::ORDER, Endianness::Little) { little } else { big };
        // SAFETY: K2, and the caller's promise: T1, the view keeps the callbacks.
        unsafe { call(self.ops, reader, addr, self.offset, size) }
    }

    /// Writes a value in order `O`; as a [`WriteCall`] does.
    ///
    /// # Safety
    /// As for [`read`](Self::read).
    #[inline(always)]
    pub unsafe fn write<O: ByteOrder>(self, reader: &Reader, addr: u64, size: u32, value: u64) -> bool {
        let [little, big] = self.kind.write;
        let call = if matches!(O::ORDER, Endianness::Little) { little } else { big };
        // SAFETY: as for `read`.
        unsafe { call(self.ops, reader, addr, self.offset, size, value) }
    }
}

impl Registers {
    pub const EMPTY: Self = Self { tag: Cell::new(0), device: Cell::new(Packed(std::ptr::null())) };

    pub fn empty(&self) {
        self.tag.set(0);
    }

    pub fn is_empty(&self) -> bool {
        self.tag.get() == 0
    }

    /// Whether it is another granule's.
    pub fn is_of_another(&self, addr: u64) -> bool {
        !self.is_empty() && (self.tag.get() ^ addr) >> GRANULE != 0
    }

    /// What answers an access as it is, if the line is of its granule.
    #[inline(always)]
    pub fn find<'k>(&self, kinds: &'k Kinds, addr: u64, size: u32) -> Option<KnownDevice<'k>> {
        let tag = self.tag.get();
        if (tag ^ addr) >> GRANULE != 0 || tag as u32 & size == 0 || addr & u64::from(size - 1) != 0 {
            return None;
        }
        let device = self.device.get();
        // SAFETY: K1: a line with a tag was filled.
        let kind = unsafe { kinds.get(device.kind()) };
        let offset = (device.offset() | addr & ((1 << GRANULE) - 1)).wrapping_add(kind.part);
        Some(KnownDevice { ops: device.ops(), offset, kind })
    }

    /// Takes what answers in the granule of an address, which is all in the range.
    pub fn fill(&self, kinds: &Kinds, addr: u64, range: &FlatRange, sizes: u8, ops: &(dyn MmioOps + 'static)) {
        let granule = addr & !((1 << GRANULE) - 1);
        let offset = range.offset_of(granule);
        let part = offset & !(PART - 1);
        // Its bits are put together with those of the address.
        let aligned = offset & ((1 << GRANULE) - 1) == 0;
        let kind = kinds.number(ops.direct_calls(), range.order(), part).filter(|_| aligned);
        let packed = kind.and_then(|kind| {
            Packed::new(NonNull::from(ops).cast(), (offset - part) >> GRANULE, kind)
        });
        if let Some(packed) = packed {
            self.tag.set(granule | u64::from(sizes) & SIZES);
            self.device.set(packed);
        }
    }
}
