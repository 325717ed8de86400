//! One range of a view.

use std::sync::Arc;

use crate::ram::RamSpan;
use crate::span::Span;
use crate::topology::{Attrs, Body, Kind};
use crate::{RegionId, RegionType};

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
#[derive(Debug, Clone)]
pub struct FlatRange {
    pub(crate) start: u64,
    pub(crate) last: u64,
    pub(crate) offset: u64,
    /// The memory behind it, for RAM, ROM and ROM devices.
    pub(crate) ram: Option<RamSpan>,
    /// Whether reads and writes go to that memory and not to callbacks.
    reads_ram: bool,
    writes_ram: bool,
    pub(crate) body: Arc<Body>,
    readonly: bool,
    nonvolatile: bool,
    romd: bool,
}

impl FlatRange {
    pub(crate) fn new(piece: &Piece, body: &Arc<Body>, attrs: &Attrs) -> Self {
        let romd = matches!(body.kind, Kind::RomDevice { .. }) && attrs.romd;
        let ram = body.kind.direct().and_then(|(block, base)| {
            let len = u64::try_from(piece.span.size()).ok()?;
            block.span(base.checked_add(piece.offset)?, len)
        });
        let is_ram = matches!(body.kind, Kind::Ram { .. });
        let writable = ram.as_ref().is_some_and(|r| r.block().is_writable());
        Self {
            start: piece.span.start,
            last: piece.span.last,
            offset: piece.offset,
            reads_ram: ram.is_some() && (is_ram || romd),
            writes_ram: is_ram && writable && !piece.readonly,
            ram,
            body: Arc::clone(body),
            readonly: piece.readonly,
            nonvolatile: piece.nonvolatile,
            romd,
        }
    }

    pub(crate) fn span(&self) -> Span {
        Span { start: self.start, last: self.last }
    }

    /// The same answer, so that a view with the one is a view with the other.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (self.start, self.last, self.offset) == (other.start, other.last, other.offset)
            && Arc::ptr_eq(&self.body, &other.body)
            && (self.readonly, self.nonvolatile, self.romd) == (other.readonly, other.nonvolatile, other.romd)
    }

    /// Whether `next` continues this range so that the two are one.
    pub(crate) fn continued_by(&self, next: &Self) -> bool {
        self.last.checked_add(1) == Some(next.start)
            && Arc::ptr_eq(&self.body, &next.body)
            && u128::from(self.offset) + self.span().size() == u128::from(next.offset)
            && (self.readonly, self.nonvolatile, self.romd) == (next.readonly, next.nonvolatile, next.romd)
    }

    /// The part of this range in `span`.
    pub(crate) fn cut(&self, span: Span) -> Option<Self> {
        let part = self.span().intersection(span)?;
        let skipped = part.start - self.start;
        let ram = self.ram.as_ref().and_then(|r| r.sub(skipped, u64::try_from(part.size()).ok()?));
        Some(Self { start: part.start, last: part.last, offset: self.offset + skipped, ram, ..self.clone() })
    }

    /// This range and `next`, which continues it, as one.
    pub(crate) fn joined(&self, next: &Self) -> Self {
        let ram = self.ram.as_ref().zip(next.ram.as_ref()).and_then(|(a, b)| a.join(b));
        Self { last: next.last, ram, ..self.clone() }
    }

    /// The first address.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The offset in the region of the first address, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The region that answers.
    #[must_use]
    pub fn region(&self) -> RegionId {
        self.body.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.body.name
    }

    /// Whether it is read-only, by itself or because it is seen through something read-only.
    #[must_use]
    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// Whether it is marked as surviving a power cycle.
    #[must_use]
    pub fn nonvolatile(&self) -> bool {
        self.nonvolatile
    }

    /// For a ROM device: whether reads come from its memory.
    #[must_use]
    pub fn romd(&self) -> bool {
        self.romd
    }

    /// Whether it is RAM or ROM, whoever may write it, or a RAM device (QEMU: `memory_region_is_ram`). A ROM device is not.
    #[must_use]
    pub fn is_ram(&self) -> bool {
        matches!(self.body.kind, Kind::Ram { .. } | Kind::RamDevice(_))
    }

    /// Whether reads come from memory.
    #[must_use]
    pub fn is_ram_backed(&self) -> bool {
        self.reads_ram
    }

    /// The type `info mtree -f` prints: everything read-only is `rom` there.
    #[must_use]
    pub fn kind(&self) -> RegionType {
        match self.body.kind {
            _ if self.readonly => RegionType::Rom,
            Kind::Ram { .. } => RegionType::Ram,
            Kind::RamDevice(_) => RegionType::Ramd,
            Kind::RomDevice { .. } if self.romd => RegionType::Romd,
            Kind::Sketch(kind) => kind,
            _ => RegionType::Io,
        }
    }

    /// The offset in the region of an address in this range.
    #[inline]
    pub(crate) fn offset_of(&self, addr: u64) -> u64 {
        addr.wrapping_sub(self.start).wrapping_add(self.offset)
    }

    /// How many bytes there are from `addr` (in this range) to the end of it, cut at 2^64 - 1.
    #[inline]
    pub(crate) fn room(&self, addr: u64) -> u64 {
        (self.last - addr).saturating_add(1)
    }

    /// The memory, if loads go to it.
    #[inline]
    pub(crate) fn readable_ram(&self) -> Option<&RamSpan> {
        if self.reads_ram { self.ram.as_ref() } else { None }
    }

    /// The memory, if stores go to it.
    #[inline]
    pub(crate) fn writable_ram(&self) -> Option<&RamSpan> {
        if self.writes_ram { self.ram.as_ref() } else { None }
    }
}
