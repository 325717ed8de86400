//! What an IOMMU's device gives: translations.

use std::cell::OnceCell;
use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;

use super::{IommuEvents, IommuReplay};
use crate::{Access, AddressSpace, MemTxAttrs, Port, Reader, SpaceId, WeakSpace};

/// What a translation is for (QEMU: the `flag` of `translate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IommuAccess {
    /// A read (QEMU: `IOMMU_RO`).
    Read,
    /// A write (QEMU: `IOMMU_WO`).
    Write,
    /// Nobody accesses: somebody wants to know what is mapped (QEMU: `IOMMU_NONE`). The device notes no fault and no
    /// access, and gives all permissions that there are.
    Look,
}

/// What is allowed (QEMU: `IOMMUAccessFlags`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct IommuPerm(u8);

impl IommuPerm {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Reads.
    pub const READ: Self = Self(1);
    /// Writes.
    pub const WRITE: Self = Self(2);
    /// Both.
    pub const READ_WRITE: Self = Self(3);

    /// Whether all of `other` is allowed.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for IommuPerm {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for IommuPerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |perm, letter| if self.contains(perm) { letter } else { '-' };
        write!(f, "{}{}", letter(Self::READ, 'r'), letter(Self::WRITE, 'w'))
    }
}

/// Where accesses to a page of an IOMMU go (QEMU: `IOMMUTLBEntry`).
#[derive(Debug, Clone)]
pub struct IommuEntry {
    /// The space they go on in, which may lead to another IOMMU.
    pub target: WeakSpace,
    /// The address there of the page; bits of the mask do not count.
    pub address: u64,
    /// The size of the page less 1: 0 for one byte, `u64::MAX` for everything. Of a mask that is not a power of two less
    /// 1 only the ones at the low end count.
    pub mask: u64,
    /// What is allowed. Accesses that are not go nowhere: they are decode errors, as where nothing is mapped.
    pub perm: IommuPerm,
}

impl IommuEntry {
    /// A page of `mask + 1` bytes, at `address` of `target`.
    #[must_use]
    pub fn new(target: &WeakSpace, address: u64, mask: u64, perm: IommuPerm) -> Self {
        Self { target: target.clone(), address, mask, perm }
    }

    /// Nothing is allowed, in the `mask + 1` bytes around the address that was asked for. The mask may be 0; a larger one
    /// lets a [replay](IommuOps::replay) pass over what is not mapped.
    #[must_use]
    pub fn denied(mask: u64) -> Self {
        Self { target: WeakSpace::default(), address: 0, mask, perm: IommuPerm::NONE }
    }

    /// The mask with what counts of it.
    pub(crate) fn page(&self) -> u64 {
        low_ones(self.mask)
    }
}

/// The ones at the low end of a mask.
pub(super) fn low_ones(mask: u64) -> u64 {
    1_u64.checked_shl(mask.trailing_ones()).map_or(u64::MAX, |size| size - 1)
}

/// A question to an IOMMU's device: where does this go?
pub struct IommuRequest<'a> {
    pub(super) offset: u64,
    pub(super) access: IommuAccess,
    pub(super) index: u32,
    pub(super) attrs: MemTxAttrs,
    /// The access that asks; nobody's for a replay.
    pub(super) asks: Option<&'a Access<'a>>,
    /// For the device's own accesses, where nobody's asks.
    pub(super) own: OnceCell<Box<Reader>>,
}

impl fmt::Debug for IommuRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IommuRequest({:?} of {:#x}, index {})", self.access, self.offset, self.index)
    }
}

impl<'a> IommuRequest<'a> {
    pub(crate) fn new(offset: u64, access: IommuAccess, index: u32, asks: &'a Access<'a>) -> Self {
        Self { offset, access, index, attrs: asks.attrs(), asks: Some(asks), own: OnceCell::new() }
    }

    /// A look that is part of no access.
    pub(super) fn look(offset: u64, index: u32) -> Self {
        let (access, attrs) = (IommuAccess::Look, MemTxAttrs::UNSPECIFIED);
        Self { offset, access, index, attrs, asks: None, own: OnceCell::new() }
    }

    /// The offset in the region, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What the translation is for.
    #[must_use]
    pub fn access(&self) -> IommuAccess {
        self.access
    }

    /// Which of the device's tables is meant: what [`IommuOps::index`] said, or a notifier's.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Who asks. Readers remember translations for an index, not for attributes: a device whose answer depends on these
    /// has an index for each that makes a difference.
    #[must_use]
    pub fn attrs(&self) -> MemTxAttrs {
        self.attrs
    }

    /// Memory as seen in a space, for a device that keeps its tables in memory. The accesses are part of the chain of the
    /// one that is translated, which bounds them, should the tables be found through the IOMMU itself.
    #[must_use]
    pub fn port<'b>(&'b self, space: &'b AddressSpace) -> Port<'b> {
        match self.asks {
            Some(asks) => asks.port(space),
            None => Port::of(self.own.get_or_init(|| Box::new(space.reader())), space),
        }
    }
}

/// Why an IOMMU's device cannot serve a notifier: one line for people, with the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IommuError(Arc<str>);

impl IommuError {
    /// A reason.
    #[must_use]
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().into())
    }

    pub(crate) fn shared(self) -> Arc<str> {
        self.0
    }
}

impl fmt::Display for IommuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IommuError {}

/// An IOMMU's device (QEMU: `IOMMUMemoryRegionClass`).
///
/// No lock of this crate is held while a method runs, and `translate` may be called while the device is in an MMIO
/// callback, on any thread: a device that keeps its own lock while it accesses memory would wait for itself.
pub trait IommuOps: Send + Sync {
    /// Where the byte at an offset of the region goes, with all of the page around it.
    ///
    /// A device that changes what it would answer calls [`Iommu::notify`](crate::Iommu::notify) afterwards; what was given
    /// before may be used until then. What is not allowed is asked anew each time.
    fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry;

    /// How many tables there are (QEMU: `num_indexes`). Asked once, when the region is added.
    fn indexes(&self) -> u32 {
        1
    }

    /// Which table accesses with these attributes use (QEMU: `attrs_to_index`). Not asked where there is only one.
    fn index(&self, attrs: MemTxAttrs) -> u32 {
        let _ = attrs;
        0
    }

    /// The size of the smallest page in bytes: the step of a replay (QEMU: `get_min_page_size`).
    fn min_page_size(&self) -> u64 {
        4096
    }

    /// What the region's notifiers want to hear of, all together, is about to change (QEMU: `notify_flag_changed`).
    ///
    /// # Errors
    /// The device cannot tell of that: the notifier is not added.
    fn events_changed(&self, old: IommuEvents, new: IommuEvents) -> Result<(), IommuError> {
        let _ = (old, new);
        Ok(())
    }

    /// Tells a notifier of all that is mapped. The default looks at every page of the smallest size in the notifier's
    /// range, passing over the larger ones that it finds; a device with a large and sparse table does better itself.
    fn replay(&self, replay: &IommuReplay<'_>) {
        replay.walk(self.min_page_size(), |request| self.translate(request));
    }
}

/// An IOMMU's device, given by value, in an `Arc`, or as a trait object.
pub trait IntoIommuOps {
    /// The same, shared.
    fn into_iommu_ops(self) -> Arc<dyn IommuOps>;
}

impl<T: IommuOps + 'static> IntoIommuOps for T {
    fn into_iommu_ops(self) -> Arc<dyn IommuOps> {
        Arc::new(self)
    }
}

impl<T: IommuOps + 'static> IntoIommuOps for Arc<T> {
    fn into_iommu_ops(self) -> Arc<dyn IommuOps> {
        self
    }
}

impl IntoIommuOps for Arc<dyn IommuOps> {
    fn into_iommu_ops(self) -> Arc<dyn IommuOps> {
        self
    }
}

/// Where an address of a space leads, through all IOMMUs (QEMU: the result of `address_space_get_iotlb_entry`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IotlbEntry {
    /// The space it leads to.
    pub space: SpaceId,
    /// The first address of the page in the space that was asked about.
    pub iova: u64,
    /// The first address of the page in `space`.
    pub address: u64,
    /// The size of the page less 1: of the smallest page on the way; 4,095 if no IOMMU is.
    pub mask: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ones_at_the_low_end_of_a_mask_count() {
        for (mask, page) in [
            (0, 0),
            (0xfff, 0xfff),
            (0xf0f, 0xf),
            (0xff0, 0),
            (u64::MAX, u64::MAX),
            (u64::MAX - 1, 0),
            (1 << 63, 0),
            (u64::MAX >> 1, u64::MAX >> 1),
        ] {
            assert_eq!(low_ones(mask), page, "{mask:#x}");
        }
    }

    #[test]
    fn permissions_print_as_letters() {
        assert_eq!(format!("{:?} {:?}", IommuPerm::READ | IommuPerm::WRITE, IommuPerm::WRITE), "rw -w");
        assert!(
            IommuPerm::READ_WRITE.contains(IommuPerm::READ) && !IommuPerm::READ.contains(IommuPerm::WRITE)
        );
        assert!(IommuPerm::default().is_none() && IommuPerm::READ.contains(IommuPerm::NONE));
    }
}
