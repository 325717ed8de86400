//! One range of a view.

use std::fmt;
use std::sync::Arc;

use crate::listen::RegionIo;
use crate::ram::{Anchored, Answer, HostPtr, RamBlock, RamPlace, RamSpan, RamWindow, Stores};
use crate::span::Span;
use crate::topology::{Attrs, Body, Kind};
use crate::{Endianness, MmioOps, RegionId, RegionType, Value};

/// What the renderer says of a run of addresses, before it becomes part of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub span: Span,
    /// Index of the region that answers.
    pub region: u32,
    /// The offset in it of the first byte.
    pub offset: u64,
    pub readonly: bool,
    pub nonvolatile: bool,
}

impl Piece {
    /// Whether `next` continues this piece so that the two are one (QEMU: `can_merge`).
    pub fn continued_by(&self, next: &Self) -> bool {
        self.span.last.checked_add(1) == Some(next.span.start)
            && self.region == next.region
            && u128::from(self.offset) + self.span.size() == u128::from(next.offset)
            && self.readonly == next.readonly
            && self.nonvolatile == next.nonvolatile
    }
}

/// A run of addresses that one region answers (QEMU: `FlatRange`).
#[derive(Clone)]
pub struct FlatRange {
    /// Where it stands, the memory behind it (for RAM, ROM and ROM devices), and what answers.
    at: Anchored<Body>,
    offset: u64,
    flags: Flags,
}

/// What is decided once, when the range is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flags {
    /// Of the constants below.
    bits: u8,
    /// The sizes, or-ed, of which an aligned access is one callback as it is, and always taken.
    direct: u8,
    /// The order of a device.
    order: Endianness,
    /// The dirty clients for which writes are logged.
    log: u8,
}

impl Flags {
    /// Reads go to the memory and not to callbacks.
    const READS_RAM: u8 = 1;
    /// So do writes.
    const WRITES_RAM: u8 = 2;
    const READONLY: u8 = 4;
    const NONVOLATILE: u8 = 8;
    const ROMD: u8 = 16;
    /// Something is asked before the callbacks.
    const ATTENDED: u8 = 32;
    /// Accesses go on where an IOMMU says; there is neither memory nor a callback.
    const IOMMU: u8 = 64;
    /// Somebody is told of each callback.
    const TRACED: u8 = 128;

    #[inline(always)]
    fn has(self, bit: u8) -> bool {
        self.bits & bit != 0
    }
}

// A range of a dense map may cost 64 bytes, its share of the tree included.
const _: () = assert!(size_of::<FlatRange>() == 56);

impl fmt::Debug for FlatRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlatRange({:#x}..={:#x} {:?} @{:#x})", self.start(), self.last(), self.body(), self.offset)
    }
}

impl FlatRange {
    /// With `traced` somebody is told of its callbacks, if it has any.
    pub(crate) fn new(piece: &Piece, body: &Arc<Body>, attrs: &Attrs, log: u8, traced: bool) -> Self {
        let romd = matches!(body.kind, Kind::RomDevice) && attrs.romd();
        let at = Self::anchored(piece.span, piece.offset, body);
        let is_ram = matches!(body.kind, Kind::Ram);
        let writable = body.block().is_some_and(|(block, _)| block.is_writable());
        let backed = at.memory().is_some();
        let attended = body.io().is_some();
        // Where addresses and offsets are aligned alike, the address alone tells whether an access is aligned.
        let alike = (piece.span.start ^ piece.offset) & 7 == 0;
        let traced = traced && body.ops().is_some();
        let direct =
            if at.callbacks().is_some() && !attended && alike && !traced { body.rules.direct() } else { 0 };
        let bits = [
            (backed && (is_ram || romd), Flags::READS_RAM),
            (backed && is_ram && writable && !piece.readonly, Flags::WRITES_RAM),
            (piece.readonly, Flags::READONLY),
            (piece.nonvolatile, Flags::NONVOLATILE),
            (romd, Flags::ROMD),
            (attended, Flags::ATTENDED),
            (body.iommu().is_some(), Flags::IOMMU),
            (traced, Flags::TRACED),
        ];
        let bits = bits.iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit);
        let flags = Flags { bits, direct, order: body.order, log };
        Self { at, offset: piece.offset, flags }
    }

    fn anchored(span: Span, offset: u64, body: &Arc<Body>) -> Anchored<Body> {
        Anchored::new(span, body, |body| {
            if let Some((block, base)) = body.direct_block() {
                let len = u64::try_from(span.size()).ok();
                let memory = base.checked_add(offset).and_then(|at| block.span(at, len?));
                return memory.map_or(Answer::Nothing, Answer::Memory);
            }
            body.ops().map_or(Answer::Nothing, Answer::Callbacks)
        })
    }

    #[inline]
    pub(crate) fn body(&self) -> &Arc<Body> {
        self.at.anchor()
    }

    pub(crate) fn span(&self) -> Span {
        self.at.span()
    }

    /// The same, so that a view with the one is a view with the other.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (self.span(), self.offset, self.flags) == (other.span(), other.offset, other.flags)
            && Arc::ptr_eq(self.body(), other.body())
    }

    /// Whether `next` continues this range so that the two are one.
    pub(crate) fn continued_by(&self, next: &Self) -> bool {
        self.last().checked_add(1) == Some(next.start())
            && Arc::ptr_eq(self.body(), next.body())
            && u128::from(self.offset) + self.span().size() == u128::from(next.offset)
            && self.flags == next.flags
    }

    /// The part of this range in `span`.
    pub(crate) fn cut(&self, span: Span) -> Option<Self> {
        let at = self.at.part(span)?;
        let offset = self.offset + (at.span().start - self.start());
        Some(Self { at, offset, flags: self.flags })
    }

    /// This range and `next`, which continues it, as one.
    pub(crate) fn joined(&self, next: &Self) -> Self {
        let span = Span { start: self.start(), last: next.last() };
        Self { at: Self::anchored(span, self.offset, self.body()), offset: self.offset, flags: self.flags }
    }

    /// The first address.
    #[must_use]
    #[inline]
    pub fn start(&self) -> u64 {
        self.at.span().start
    }

    /// The last address.
    #[must_use]
    #[inline]
    pub fn last(&self) -> u64 {
        self.at.span().last
    }

    /// The offset in the region of the first address, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The region that answers.
    #[must_use]
    pub fn region(&self) -> RegionId {
        self.body().id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.body().name
    }

    /// Whether it is read-only, by itself or because it is seen through something read-only.
    #[must_use]
    #[inline]
    pub fn readonly(&self) -> bool {
        self.flags.has(Flags::READONLY)
    }

    /// Whether it is marked as surviving a power cycle.
    #[must_use]
    pub fn nonvolatile(&self) -> bool {
        self.flags.has(Flags::NONVOLATILE)
    }

    /// For a ROM device: whether reads come from its memory.
    #[must_use]
    pub fn romd(&self) -> bool {
        self.flags.has(Flags::ROMD)
    }

    /// Whether it is RAM or ROM, whoever may write it, or a RAM device (QEMU: `memory_region_is_ram`). A ROM device is not.
    #[must_use]
    pub fn is_ram(&self) -> bool {
        matches!(self.body().kind, Kind::Ram | Kind::RamDevice)
    }

    /// Whether it is a RAM device, however it is seen (QEMU: `memory_region_is_ram_device`).
    #[must_use]
    pub fn is_ram_device(&self) -> bool {
        matches!(self.body().kind, Kind::RamDevice)
    }

    /// Whether reads come from memory.
    #[must_use]
    #[inline]
    pub fn is_ram_backed(&self) -> bool {
        self.flags.has(Flags::READS_RAM)
    }

    /// Whether it is an IOMMU's: what is there is found in another space (QEMU: `memory_region_is_iommu`).
    #[must_use]
    #[inline]
    pub fn is_iommu(&self) -> bool {
        self.flags.has(Flags::IOMMU)
    }

    /// The type `info mtree -f` prints: everything read-only is `rom` there.
    #[must_use]
    pub fn kind(&self) -> RegionType {
        match self.body().kind {
            _ if self.flags.has(Flags::READONLY) => RegionType::Rom,
            Kind::Ram => RegionType::Ram,
            Kind::RamDevice => RegionType::Ramd,
            Kind::RomDevice if self.flags.has(Flags::ROMD) => RegionType::Romd,
            Kind::Sketch(kind) => kind,
            _ => RegionType::Io,
        }
    }

    /// The memory behind it, for RAM, ROM and ROM devices: the block, and the offset in it of the first address.
    #[must_use]
    pub fn block(&self) -> Option<(&Arc<RamBlock>, u64)> {
        let (block, base) = self.body().block()?;
        Some((block, base.checked_add(self.offset)?))
    }

    /// The dirty clients for which writes are logged, a bit for each (QEMU: `dirty_log_mask`).
    #[must_use]
    pub fn log_mask(&self) -> u8 {
        self.flags.log
    }

    /// The offset in the region of an address in this range.
    #[inline]
    pub(crate) fn offset_of(&self, addr: u64) -> u64 {
        addr.wrapping_sub(self.start()).wrapping_add(self.offset)
    }

    /// How many bytes there are from `addr` (in this range) to the end of it, cut at 2^64 - 1.
    #[inline]
    pub(crate) fn room(&self, addr: u64) -> u64 {
        (self.last() - addr).saturating_add(1)
    }

    /// The memory behind it, whoever may access it.
    #[inline]
    pub(crate) fn memory(&self) -> Option<RamSpan<'_>> {
        self.at.memory()
    }

    /// Notes, for the clients that log it, that `len` bytes at `addr` of its memory were just written.
    #[inline]
    pub(crate) fn mark(&self, addr: u64, len: u64) {
        if self.flags.log != 0
            && let Some((block, base)) = self.body().block()
        {
            block.dirty().mark(self.flags.log, base.wrapping_add(self.offset_of(addr)), len);
        }
    }

    /// Stores a value in host order and notes it, if it is in the writable memory of the range.
    #[inline]
    pub(crate) fn store<V: Value>(&self, addr: u64, native: V) -> Option<()> {
        self.writable_ram()?.store(addr.checked_sub(self.start())?, native)?;
        self.mark(addr, V::SIZE.into());
        Some(())
    }

    /// As [`mark`](Self::mark), for all clients of the block, because the view is old and others may log it now.
    #[cold]
    pub(crate) fn mark_for_all(&self, addr: u64, len: u64) {
        if let Some((block, base)) = self.body().block() {
            block.dirty().mark_for_all(base.wrapping_add(self.offset_of(addr)), len);
        }
    }

    /// The callbacks, if an access of `size` bytes at an address in the range is one call as it is.
    #[inline(always)]
    pub(crate) fn direct(&self, addr: u64, size: u32) -> Option<&dyn MmioOps> {
        let simple = u32::from(self.flags.direct) & size != 0 && addr & u64::from(size - 1) == 0;
        if simple { self.at.callbacks() } else { None }
    }

    /// The sizes, or-ed, of which an aligned access is one callback as it is, and the callbacks, if reads and writes are.
    #[inline]
    pub(crate) fn kept_callbacks(&self) -> Option<(u8, &(dyn MmioOps + 'static))> {
        if self.flags.direct == 0 || self.readonly() {
            None
        } else {
            Some((self.flags.direct, self.at.callbacks()?))
        }
    }

    /// What accesses ask before they reach the device: the region's ioeventfds and coalesced ranges.
    #[inline]
    pub(crate) fn io(&self) -> Option<&Arc<RegionIo>> {
        if self.flags.has(Flags::ATTENDED) { self.body().io() } else { None }
    }

    /// Whether somebody is told of each callback.
    #[inline]
    pub(crate) fn is_traced(&self) -> bool {
        self.flags.has(Flags::TRACED)
    }

    /// The order in which the device reads its bytes.
    #[inline]
    pub(crate) fn order(&self) -> Endianness {
        self.flags.order
    }

    /// The memory, if loads go to it.
    #[inline]
    pub(crate) fn readable_ram(&self) -> Option<RamSpan<'_>> {
        if self.flags.has(Flags::READS_RAM) { self.at.memory() } else { None }
    }

    /// The memory, if stores go to it.
    #[inline]
    pub(crate) fn writable_ram(&self) -> Option<RamSpan<'_>> {
        if self.flags.has(Flags::WRITES_RAM) { self.at.memory() } else { None }
    }

    /// Whether there is memory that loaders may write.
    pub(crate) fn is_loadable(&self) -> bool {
        let block = self.body().block();
        self.memory().is_some() && block.is_some_and(|(block, _)| block.is_writable())
    }

    /// A guarded pointer to `len` bytes of the memory at `addr`, which are in the range.
    pub(crate) fn host(&self, addr: u64, len: u64) -> Option<HostPtr> {
        self.memory()?;
        let (block, base) = self.body().block()?;
        HostPtr::of(block, base + self.offset_of(addr), len)
    }

    /// The memory at its addresses, if loads go to it.
    #[inline(always)]
    pub(crate) fn load_window(&self) -> Option<RamWindow<'_>> {
        self.readable_ram().map(|span| RamWindow::new(self.start(), span))
    }

    /// Where that memory is, for who knows that an address is in it.
    #[inline]
    pub(crate) fn load_place(&self) -> Option<RamPlace> {
        self.readable_ram().map(|span| RamPlace::new(self.start(), span))
    }

    /// The memory at its addresses, if stores go to it.
    #[inline(always)]
    pub(crate) fn stores(&self) -> Option<Stores<'_>> {
        let span = self.writable_ram()?;
        match self.flags.log {
            0 => Some(Stores::plain(self.start(), span)),
            _ => self.logged(span),
        }
    }

    /// The same where writes are noted, if what is aligned in it is aligned in the block.
    #[cold]
    fn logged<'a>(&'a self, span: RamSpan<'a>) -> Option<Stores<'a>> {
        let (block, base) = self.body().block().filter(|(block, _)| block.is_aligned())?;
        Stores::logged(self.start(), span, block.dirty(), self.flags.log, base.wrapping_add(self.offset))
    }
}
