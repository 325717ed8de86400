//! IOMMUs: regions that send accesses on to where a table says.
//!
//! What it is: what an IOMMU's device gives ([`IommuOps`]), the events by which others hear that its table changed
//! ([`IommuEvent`], [`IommuNotifier`]), and the translations that a reader remembers ([`Iotlb`]). What it is not: the
//! way of an access through an IOMMU; that is in [`access`](crate::Port).
//!
//! What must hold:
//! - **I1** a translation is remembered under the generation that its IOMMU had *before* the device was asked, and used
//!   only while the IOMMU has that generation. Whoever changes a table calls [`Iommu::notify`] afterwards, which first
//!   of all makes the generation another one: no access that begins after that uses what was looked up before it.
//! - **I2** no lock is held while the device translates, is told of notifiers or replays, nor while a notifier runs.
//! - **I3** what an IOMMU keeps of others keeps nothing alive: targets are weak, and the handle has no device.

mod cache;
mod event;
mod handle;
mod ops;
mod replay;

pub use event::{IommuEvent, IommuEventKind, IommuEvents, IommuNotifier, IommuNotifierId};
pub use handle::Iommu;
pub use ops::{
    IntoIommuOps, IommuAccess, IommuEntry, IommuError, IommuOps, IommuPerm, IommuRequest, IotlbEntry,
};
pub use replay::IommuReplay;

pub(crate) use cache::{Iotlb, Key};
pub(crate) use handle::IommuRegion;
