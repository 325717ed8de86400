//! IOMMU regions, and who hears of their tables.

use std::sync::Arc;

use super::Memory;
use crate::iommu::IommuRegion;
use crate::thread::InCallback;
use crate::topology::NONE;
use crate::{Iommu, IommuNotifier, IommuNotifierId, IommuReplay, MemoryError, RegionId};

impl Memory {
    /// The IOMMU that a region is, or, through aliases, shows; and the region's size.
    fn iommu_region(&self, id: RegionId) -> Result<(Arc<IommuRegion>, RegionId, u128), MemoryError> {
        self.read_state(|s| {
            let mut record = s.topology.record(id)?;
            let name = Arc::clone(&record.body.name);
            // Ends: aliases of aliases do.
            while record.attrs.target != NONE
                && let Some(target) = s.topology.get(record.attrs.target)
            {
                record = target;
            }
            let iommu = record.body.iommu().ok_or(MemoryError::NotIommu { name })?;
            Ok((Arc::clone(iommu), record.body.id, record.attrs.size()))
        })
    }

    /// What the device of an IOMMU region (or of an alias of one) says by that its table has changed.
    ///
    /// # Errors
    /// [`MemoryError::NotIommu`], or a stale id.
    pub fn iommu(&self, region: RegionId) -> Result<Iommu, MemoryError> {
        self.iommu_region(region).map(|(iommu, _, _)| iommu.handle.clone())
    }

    /// Lets somebody hear of what changes in an IOMMU's table (QEMU: `memory_region_register_iommu_notifier`). Of an alias
    /// the target is meant, with the target's offsets. It hears of changes from now on, and with
    /// [`replay_iommu`](Self::replay_iommu) of what is mapped.
    ///
    /// May be called in a listener, as soon as that is told of the region.
    ///
    /// # Errors
    /// [`MemoryError::NotIommu`], [`MemoryError::BadIommuNotifier`]; [`MemoryError::IommuRefused`] if the device cannot
    /// tell of what it wants to hear of; [`MemoryError::IommuBusy`]; or a stale id. It is not added then.
    pub fn add_iommu_notifier(
        &self,
        region: RegionId,
        notifier: IommuNotifier,
    ) -> Result<IommuNotifierId, MemoryError> {
        let (iommu, region, _) = self.iommu_region(region)?;
        iommu.add(notifier).map(|number| IommuNotifierId { region, number })
    }

    /// Takes a notifier back (QEMU: `memory_region_unregister_iommu_notifier`). Another thread that is calling it may still
    /// be in it when this returns. The notifiers of a region that is removed go with it.
    ///
    /// # Errors
    /// [`MemoryError::StaleIommuNotifier`], [`MemoryError::IommuBusy`], or a stale id if the region was removed.
    pub fn remove_iommu_notifier(&self, id: IommuNotifierId) -> Result<(), MemoryError> {
        self.iommu_region(id.region)?.0.remove(id.number)
    }

    /// Tells a notifier of all that is mapped in its range (QEMU: `memory_region_iommu_replay`), by
    /// [`MAP`](crate::IommuEvents::MAP) events, if it wants to hear of those.
    ///
    /// # Errors
    /// [`MemoryError::StaleIommuNotifier`], or a stale id if the region was removed.
    pub fn replay_iommu(&self, id: IommuNotifierId) -> Result<(), MemoryError> {
        let (iommu, _, size) = self.iommu_region(id.region)?;
        let notifier = iommu.find(id.number)?;
        if let Some(replay) = IommuReplay::new(&notifier, size) {
            let _running = InCallback::enter();
            iommu.ops.replay(&replay);
        }
        Ok(())
    }
}
