//! What a reader knows of devices' registers: the lines of its table of them.
//!
//! UNSAFE: this module keeps pointers to callbacks of a view without a lifetime and without their type.
//!
//! What it is: a line of 16 bytes for each 32 bytes of registers, so that the lines of 10,000 devices leave room beside them in
//! the second-level cache, and the *kinds* that lines share: how callbacks of one type and one byte order are called, and how
//! addresses become offsets. What it is not: the table, which finds the lines and empties them.
//!
//! What must hold, beside the table's **T1** to **T3**:
//! - **K1** the kind that a line names was there when the line was filled, and is there as it was while the line is not empty.
//!   Kinds come one by one and go all together, when all lines are empty.
//! - **K2** the callbacks that a line points to are of the type that its kind was made for.
#![expect(unsafe_code, reason = "what is kept of a view is kept without a lifetime")]

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use super::Reader;
use super::direct::{self, DirectCalls, ReadCall, WriteCall};
use crate::thread::Here;
use crate::view::FlatRange;
use crate::{ByteOrder, Endianness, MmioOps, Value};

/// A power of two: the registers that have a line together.
pub(super) const GRANULE: u32 = 5;
/// Kinds of one reader at most; what would need more is found in the view each time.
const KINDS: usize = 128;

/// The callbacks that answer in a granule.
#[repr(C, align(16))]
pub(super) struct Registers {
    /// The address of the granule, or `NOWHERE`.
    tag: Cell<u64>,
    /// Means nothing if the line is empty.
    device: Cell<Packed>,
}

/// Not what any address has left of it without its place in the granule, but for what aligned ones do not have.
const NOWHERE: u64 = 1 << (GRANULE - 1);

/// A pointer to callbacks in the lower 48 bits, where a process has its memory if it did not ask for more; above it where the kind
/// is, in words.
#[cfg(target_pointer_width = "64")]
#[derive(Clone, Copy)]
struct Packed(*const ());

#[cfg(target_pointer_width = "64")]
impl Packed {
    const POINTER_BITS: u32 = 48;
    const NONE: Self = Self(std::ptr::null());

    fn new(ops: NonNull<()>, words: usize) -> Option<Self> {
        let fits = ops.addr().get() >> Self::POINTER_BITS == 0 && words < 1 << (64 - Self::POINTER_BITS);
        fits.then(|| Self(ops.as_ptr().cast_const().map_addr(|at| at | words << Self::POINTER_BITS)))
    }

    /// The callbacks.
    #[inline(always)]
    fn ops(self) -> NonNull<()> {
        let at = self.0.map_addr(|at| at & ((1 << Self::POINTER_BITS) - 1));
        // SAFETY: it was made of a pointer that is not null and has no other bits.
        unsafe { NonNull::new_unchecked(at.cast_mut()) }
    }

    /// Where the kind is, in words.
    #[inline(always)]
    fn kind(self) -> usize {
        self.0.addr() >> Self::POINTER_BITS
    }
}

/// The same where both have room beside each other.
#[cfg(not(target_pointer_width = "64"))]
#[derive(Clone, Copy)]
struct Packed(NonNull<()>, usize);

#[cfg(not(target_pointer_width = "64"))]
impl Packed {
    const NONE: Self = Self(NonNull::dangling(), 0);

    fn new(ops: NonNull<()>, words: usize) -> Option<Self> {
        Some(Self(ops, words))
    }

    fn ops(self) -> NonNull<()> {
        self.0
    }

    fn kind(self) -> usize {
        self.1
    }
}

/// How callbacks of one type and one byte order are called, and where in their regions addresses are.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Kind {
    /// The bits of an address that are in the offset as they are, and what is added to them.
    mask: u64,
    part: u64,
    /// By the order of the value (little-endian, big-endian) and its size (1, 2, 4, 8).
    read: [[ReadCall; 4]; 2],
    write: [[WriteCall; 4]; 2],
    /// What it was made of.
    calls: &'static DirectCalls,
    order: Endianness,
    sizes: u8,
}

impl Kind {
    const WORDS: usize = size_of::<Self>() / size_of::<usize>();
}

/// What a line is filled from.
struct Wanted {
    mask: u64,
    part: u64,
    calls: &'static DirectCalls,
    order: Endianness,
    sizes: u8,
}

impl Wanted {
    fn of(range: &FlatRange, sizes: u8, ops: &(dyn MmioOps + 'static)) -> Self {
        let (start, last) = (range.start(), range.last());
        // All addresses of the range have the bits in common that its ends have.
        let mask = u64::MAX.checked_shr((start ^ last).leading_zeros()).unwrap_or(0);
        let part = range.offset().wrapping_sub(start & mask);
        Self { mask, part, calls: ops.direct_calls(), order: range.order(), sizes }
    }

    fn is(&self, kind: &Kind) -> bool {
        std::ptr::eq(self.calls, kind.calls)
            && (self.mask, self.part, self.order, self.sizes)
                == (kind.mask, kind.part, kind.order, kind.sizes)
    }

    fn kind(&self) -> Kind {
        let Self { mask, part, calls, order, sizes } = *self;
        let takes = |log: usize| sizes & 1 << log != 0;
        let orders = [Endianness::Little, Endianness::Big];
        let [read, read_swapped] = calls.read;
        let [write, write_swapped] = calls.write;
        let read = orders.map(|o| {
            let call = if o == order { read } else { read_swapped };
            std::array::from_fn(|log| if takes(log) { call } else { direct::no_read })
        });
        let write = orders.map(|o| {
            let call = if o == order { write } else { write_swapped };
            std::array::from_fn(|log| if takes(log) { call } else { direct::no_write })
        });
        Kind { mask, part, read, write, calls, order, sizes }
    }
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
    fn number(&self, wanted: &Wanted) -> Option<usize> {
        let mut owned = self.owned.borrow_mut();
        if let Some(at) = owned.iter().position(|kind| wanted.is(kind)) {
            return Some(at);
        }
        if owned.len() >= KINDS.min(owned.capacity()) {
            return None;
        }
        owned.push(wanted.kind());
        Some(owned.len() - 1)
    }

    /// # Safety
    /// A kind is so many words after the first.
    #[inline(always)]
    unsafe fn get(&self, words: usize) -> &Kind {
        // SAFETY: the caller's promise; while there is one `first` is where the vector has them, which never grows beyond its room.
        unsafe { self.first.get().cast::<usize>().add(words).cast::<Kind>().as_ref() }
    }
}

/// A device that answers at an address.
pub(super) struct KnownDevice<'a> {
    ops: NonNull<()>,
    kind: &'a Kind,
}

/// Where a kind has the calls for values of an order.
const fn by_order<O: ByteOrder>() -> usize {
    matches!(O::ORDER, Endianness::Big) as usize
}

impl KnownDevice<'_> {
    #[inline(always)]
    fn offset(&self, addr: u64) -> u64 {
        (addr & self.kind.mask).wrapping_add(self.kind.part)
    }

    /// Reads a value in order `O`; as a [`ReadCall`] does.
    ///
    /// # Safety
    /// The device is what the reader's own lane has at the address, and the lane is current.
    #[inline(always)]
    pub unsafe fn read<O: ByteOrder, V: Value>(self, reader: &Reader, addr: u64, here: &Here) -> Option<u64> {
        let call = self.kind.read[const { by_order::<O>() }][const { V::SIZE.ilog2() as usize }];
        // SAFETY: K2, and the caller's promise: T1, the view keeps the callbacks.
        unsafe { call(reader, addr, self.ops, self.offset(addr), V::SIZE, here) }
    }

    /// Writes a value in order `O`; as a [`WriteCall`] does.
    ///
    /// # Safety
    /// As for [`read`](Self::read).
    #[inline(always)]
    pub unsafe fn write<O: ByteOrder, V: Value>(self, reader: &Reader, addr: u64, value: V) -> bool {
        let call = self.kind.write[const { by_order::<O>() }][const { V::SIZE.ilog2() as usize }];
        // SAFETY: as for `read`.
        unsafe { call(reader, addr, self.ops, self.offset(addr), V::SIZE, value.widen()) }
    }
}

impl Registers {
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "each use is a line of its own, which is what is wanted"
    )]
    pub const EMPTY: Self = Self { tag: Cell::new(NOWHERE), device: Cell::new(Packed::NONE) };

    pub fn empty(&self) {
        self.tag.set(NOWHERE);
    }

    /// The address of the granule, if the line is not empty.
    pub fn granule(&self) -> u64 {
        self.tag.get()
    }

    /// Whether it is another granule's.
    pub fn is_of_another(&self, addr: u64) -> bool {
        let tag = self.tag.get();
        tag != NOWHERE && (tag ^ addr) >> GRANULE != 0
    }

    /// What answers an aligned value, if the line is of its granule.
    #[inline(always)]
    pub fn find<'k, V: Value>(&self, kinds: &'k Kinds, addr: u64) -> Option<KnownDevice<'k>> {
        // Without its place in the granule, but with what a naturally aligned address does not have.
        if self.tag.get() != addr & (!((1 << GRANULE) - 1) | (u64::from(V::SIZE) - 1)) {
            return None;
        }
        let device = self.device.get();
        // SAFETY: K1: a line with a tag was filled.
        Some(KnownDevice { ops: device.ops(), kind: unsafe { kinds.get(device.kind()) } })
    }

    /// Takes what answers in the granule of an address, which is all in the range.
    pub fn fill(
        &self,
        kinds: &Kinds,
        addr: u64,
        range: &FlatRange,
        sizes: u8,
        ops: &(dyn MmioOps + 'static),
    ) {
        let packed = kinds
            .number(&Wanted::of(range, sizes, ops))
            .and_then(|kind| Packed::new(NonNull::from(ops).cast(), kind * Kind::WORDS));
        if let Some(packed) = packed {
            self.tag.set(addr & !((1 << GRANULE) - 1));
            self.device.set(packed);
        }
    }
}
