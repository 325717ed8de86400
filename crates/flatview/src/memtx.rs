//! What can go wrong when memory is accessed.
//!
//! [`MemTxError`] is what an access gives; guests make these by the million, so it is a small `Copy` value that
//! allocates and formats nothing until it is printed. What a change of the map gives is another thing
//! ([`error`](crate::error)).

use std::fmt;

use crate::RegionId;

/// The result of a transaction on the bus, as bits that are OR-ed over the parts of a split access
/// (QEMU: `MemTxResult`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MemTxResult(u8);

impl MemTxResult {
    /// Everything went well (`MEMTX_OK`).
    pub const OK: Self = Self(0);
    /// The device returned an error (`MEMTX_ERROR`).
    pub const ERROR: Self = Self(1);
    /// Nothing answers at that address, or not that way (`MEMTX_DECODE_ERROR`).
    pub const DECODE_ERROR: Self = Self(2);
    /// The access was not allowed (`MEMTX_ACCESS_ERROR`).
    pub const ACCESS_ERROR: Self = Self(4);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The raw bits, with QEMU's values.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl std::ops::BitOr for MemTxResult {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for MemTxResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(1, "ERROR"), (2, "DECODE_ERROR"), (4, "ACCESS_ERROR")];
        let mut set = names.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name);
        write!(f, "{}", set.next().unwrap_or("OK"))?;
        set.try_for_each(|name| write!(f, "|{name}"))
    }
}

/// Why an access failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing is mapped there, or what is there takes no such access (QEMU: "rejected").
    Rejected,
    /// The device takes aligned accesses only (QEMU: "unaligned"); atomic accesses always are, in the guest and in the host.
    Unaligned,
    /// The device does not take this size.
    InvalidSize {
        /// Smallest size it takes, in bytes.
        min: u32,
        /// Largest size it takes, in bytes.
        max: u32,
    },
    /// The device itself returned the error.
    Device,
    /// The attributes ask for RAM only, and this is not RAM.
    NotRam,
    /// The device is already in a callback of this access chain.
    Reentry,
    /// More accesses nested in callbacks than [`Access::MAX_DEPTH`](crate::Access::MAX_DEPTH).
    TooDeep,
    /// MMIO, or an access through an IOMMU, from inside an `update` closure, where device code must not run.
    InsideUpdate,
    /// An IOMMU does not allow the access, or leads to a space that is gone.
    IommuDenied,
    /// More IOMMUs stand one behind the other than [`Port::MAX_IOMMUS`](crate::Port::MAX_IOMMUS): most likely one leads
    /// to itself.
    IommuLoop,
    /// The address space belongs to another [`Memory`](crate::Memory) than the reader.
    ForeignSpace,
    /// A look without side effects is not possible there.
    Unknown,
    /// An atomic access to memory that may only be read there. (The bus calls a write there [rejected](Self::Rejected).)
    ReadOnly,
    /// An atomic access to what is not RAM. A CPU does it in two steps then, with the other CPUs stopped.
    NotAtomic,
    /// It is not all inside the mapping or the region cache.
    OutsideMapping,
    /// A write to a mapping or a region cache that was made for reading.
    MappedForReading,
    /// The address space, or its memory, is gone.
    SpaceGone,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected => f.write_str("rejected"),
            Self::Unaligned => f.write_str("unaligned"),
            Self::InvalidSize { min, max } => write!(f, "invalid size (min:{min} max:{max})"),
            Self::Device => f.write_str("the device returned an error"),
            Self::NotRam => f.write_str("the access is for RAM only"),
            Self::Reentry => f.write_str("the device is already being accessed in this chain"),
            Self::TooDeep => f.write_str("too many accesses nested in device callbacks"),
            Self::InsideUpdate => f.write_str("device code must not run inside an update of the map"),
            Self::IommuDenied => f.write_str("the IOMMU does not allow it"),
            Self::IommuLoop => f.write_str("too many IOMMUs stand one behind the other"),
            Self::ForeignSpace => f.write_str("the address space belongs to another memory than the reader"),
            Self::Unknown => f.write_str("it cannot be read without side effects"),
            Self::ReadOnly => f.write_str("the memory is read-only there"),
            Self::NotAtomic => f.write_str("atomic accesses are for RAM only"),
            Self::OutsideMapping => f.write_str("it reaches past the end of the mapping"),
            Self::MappedForReading => f.write_str("it was mapped for reading only"),
            Self::SpaceGone => f.write_str("the address space no longer exists"),
        }
    }
}

/// A failed access: `Copy`, small, and made without allocating.
///
/// For an access that was split, the result bits of all parts are OR-ed; the place and the reason are those of
/// the first part that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MemTxError {
    result: MemTxResult,
    reason: Reason,
    size: u32,
    address: u64,
    region: Option<RegionId>,
}

impl MemTxError {
    const fn made(result: MemTxResult, reason: Reason) -> Self {
        Self { result, reason, size: 0, address: 0, region: None }
    }

    /// For a device: the access failed (`MEMTX_ERROR`).
    #[must_use]
    pub const fn error() -> Self {
        Self::made(MemTxResult::ERROR, Reason::Device)
    }

    /// For a device: nothing of the device answers there (`MEMTX_DECODE_ERROR`).
    #[must_use]
    pub const fn decode() -> Self {
        Self::made(MemTxResult::DECODE_ERROR, Reason::Device)
    }

    /// For a device: the access is not allowed (`MEMTX_ACCESS_ERROR`).
    #[must_use]
    pub const fn access() -> Self {
        Self::made(MemTxResult::ACCESS_ERROR, Reason::Device)
    }

    pub(crate) const fn refused(reason: Reason) -> Self {
        let result = match reason {
            Reason::Reentry
            | Reason::TooDeep
            | Reason::NotRam
            | Reason::InsideUpdate
            | Reason::IommuLoop
            | Reason::NotAtomic
            | Reason::OutsideMapping
            | Reason::MappedForReading
            | Reason::ForeignSpace => MemTxResult::ACCESS_ERROR,
            _ => MemTxResult::DECODE_ERROR,
        };
        Self::made(result, reason)
    }

    pub(crate) const fn at(mut self, address: u64, size: u32, region: Option<RegionId>) -> Self {
        if self.size == 0 {
            self.address = address;
            self.size = size;
            self.region = region;
        }
        self
    }

    /// The same at another address: that in the space which the initiator looks at.
    pub(crate) const fn moved_to(self, address: u64) -> Self {
        Self { address, ..self }
    }

    pub(crate) fn and(mut self, later: Self) -> Self {
        self.result = self.result | later.result;
        self
    }

    /// The result bits.
    #[must_use]
    pub const fn result(&self) -> MemTxResult {
        self.result
    }

    /// Why (for a split access: why the first part failed).
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The address in the space that was accessed.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// The size in bytes of the part that failed.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Who answered, if anybody. [`Memory::region`](crate::Memory::region) tells the name.
    #[must_use]
    pub const fn region(&self) -> Option<RegionId> {
        self.region
    }
}

impl fmt::Display for MemTxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:#x}, size {}: {}", self.result, self.address, self.size, self.reason)
    }
}

impl fmt::Debug for MemTxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemTxError({self}, region {:?})", self.region)
    }
}

impl std::error::Error for MemTxError {}

/// Joins the results of the parts of a split access: the first error keeps its place, all keep their bits.
#[inline]
pub(crate) fn join(a: Result<(), MemTxError>, b: Result<(), MemTxError>) -> Result<(), MemTxError> {
    match (a, b) {
        (Err(a), Err(b)) => Err(a.and(b)),
        (Err(e), Ok(())) | (Ok(()), Err(e)) => Err(e),
        (Ok(()), Ok(())) => Ok(()),
    }
}
