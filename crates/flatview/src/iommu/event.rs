//! What others hear of an IOMMU's table.

use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;

use super::{IommuEntry, IommuPerm};
use crate::{RegionId, WeakSpace};

/// What happened to a part of an IOMMU's table (QEMU: `IOMMUTLBEvent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IommuEventKind {
    /// It is mapped now (QEMU: `IOMMU_NOTIFIER_MAP`).
    Map,
    /// It is mapped no more, or elsewhere (QEMU: `IOMMU_NOTIFIER_UNMAP`).
    Unmap,
    /// A device that caches translations itself must forget it (QEMU: `IOMMU_NOTIFIER_DEVIOTLB_UNMAP`).
    DeviceIotlbUnmap,
}

/// A set of kinds of events (QEMU: `IOMMUNotifierFlag`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct IommuEvents(u8);

impl IommuEvents {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// [`IommuEventKind::Map`].
    pub const MAP: Self = Self::of(IommuEventKind::Map);
    /// [`IommuEventKind::Unmap`].
    pub const UNMAP: Self = Self::of(IommuEventKind::Unmap);
    /// [`IommuEventKind::DeviceIotlbUnmap`].
    pub const DEVICE_IOTLB_UNMAP: Self = Self::of(IommuEventKind::DeviceIotlbUnmap);

    /// The set of one kind.
    #[must_use]
    pub const fn of(kind: IommuEventKind) -> Self {
        Self(1 << kind as u8)
    }

    /// Whether all kinds of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for IommuEvents {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for IommuEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use IommuEventKind::{DeviceIotlbUnmap, Map, Unmap};
        let kinds = [Map, Unmap, DeviceIotlbUnmap];
        f.debug_set().entries(kinds.iter().filter(|kind| self.contains(Self::of(**kind)))).finish()
    }
}

/// A change of an IOMMU's table.
#[derive(Debug, Clone)]
pub struct IommuEvent {
    /// What happened.
    pub kind: IommuEventKind,
    /// The first offset in the region that is meant.
    pub iova: u64,
    /// The number of bytes less 1.
    pub mask: u64,
    /// For [`Map`](IommuEventKind::Map): the space it is mapped to.
    pub target: WeakSpace,
    /// For [`Map`](IommuEventKind::Map): the address there.
    pub address: u64,
    /// For [`Map`](IommuEventKind::Map): what is allowed; for the others nothing.
    pub perm: IommuPerm,
}

impl IommuEvent {
    /// `mask + 1` bytes from `iova` on are mapped no more, or elsewhere.
    #[must_use]
    pub fn unmap(iova: u64, mask: u64) -> Self {
        let (target, address, perm) = (WeakSpace::default(), 0, IommuPerm::NONE);
        Self { kind: IommuEventKind::Unmap, iova, mask, target, address, perm }
    }

    /// Devices must forget `mask + 1` bytes from `iova` on.
    #[must_use]
    pub fn device_iotlb_unmap(iova: u64, mask: u64) -> Self {
        Self { kind: IommuEventKind::DeviceIotlbUnmap, ..Self::unmap(iova, mask) }
    }

    /// The page around `iova` is mapped as `entry` says.
    #[must_use]
    pub fn map(iova: u64, entry: &IommuEntry) -> Self {
        let mask = entry.page();
        Self {
            kind: IommuEventKind::Map,
            iova: iova & !mask,
            mask,
            target: entry.target.clone(),
            address: entry.address & !mask,
            perm: entry.perm,
        }
    }

    /// The last offset that is meant; `None` if there is none because the numbers wrap.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.iova.checked_add(self.mask)
    }

    /// The part in `start..=last`, which it overlaps.
    pub(super) fn cropped(&self, start: u64, last: u64) -> Self {
        let iova = self.iova.max(start);
        let mask = self.last().unwrap_or(u64::MAX).min(last).saturating_sub(iova);
        let moved = if self.kind == IommuEventKind::Map { iova - self.iova } else { 0 };
        let address = self.address.wrapping_add(moved);
        Self { iova, mask, address, ..self.clone() }
    }
}

type Tell = dyn Fn(&IommuEvent) + Send + Sync;

/// Who wants to hear what changes in an IOMMU's table (QEMU: `IOMMUNotifier`).
///
/// It is called on the thread that changed the table, with no lock of this crate held, and may access memory. Several
/// threads may call it at once. It holds no [`Memory`](crate::Memory), which would keep itself.
#[derive(Clone)]
pub struct IommuNotifier {
    pub(super) events: IommuEvents,
    pub(super) start: u64,
    pub(super) last: u64,
    pub(super) index: u32,
    pub(super) tell: Arc<Tell>,
}

impl fmt::Debug for IommuNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, start, last, index, .. } = self;
        write!(f, "IommuNotifier({events:?} in {start:#x}..={last:#x}, index {index})")
    }
}

impl IommuNotifier {
    /// For the whole region and the first table. Of [`DEVICE_IOTLB_UNMAP`](IommuEvents::DEVICE_IOTLB_UNMAP) a notifier is
    /// told the part in its range; other events must not reach over an end of the range (that is an error for who tells
    /// of them), unless it wants device IOTLB events too.
    #[must_use]
    pub fn new(events: IommuEvents, tell: impl Fn(&IommuEvent) + Send + Sync + 'static) -> Self {
        Self { events, start: 0, last: u64::MAX, index: 0, tell: Arc::new(tell) }
    }

    /// Only for offsets from `start` to `last`.
    #[must_use]
    pub fn range(mut self, start: u64, last: u64) -> Self {
        (self.start, self.last) = (start, last);
        self
    }

    /// For another table.
    #[must_use]
    pub fn index(mut self, index: u32) -> Self {
        self.index = index;
        self
    }

    pub(super) fn wants(&self, kind: IommuEventKind) -> bool {
        self.events.contains(IommuEvents::of(kind))
    }

    /// Whether it gets the part of an event that is in its range.
    pub(super) fn crops(&self) -> bool {
        self.wants(IommuEventKind::DeviceIotlbUnmap)
    }
}

/// Names a notifier; keeps nothing alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IommuNotifierId {
    pub(crate) region: RegionId,
    pub(crate) number: u64,
}
