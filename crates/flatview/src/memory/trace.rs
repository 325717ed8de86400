//! Who is told of each call of a device, and where a region is.

use std::sync::Arc;

use super::{Memory, Transaction};
use crate::topology::NONE;
use crate::{AccessTrace, MemoryError, RegionId};

impl Transaction<'_> {
    /// Whether calls of devices are told from now on.
    fn set_traced(&mut self, on: bool) {
        self.state.borrow_mut().topology.set_traced(on);
    }
}

impl Memory {
    /// Who is told of each call of a device from now on; nobody with `None`. While somebody is, accesses to devices take a
    /// longer way; before and after they cost nothing more. It is an [`update`](Self::update) that changes nothing of what
    /// is visible; other threads notice it at their next access.
    ///
    /// # Errors
    /// As an update's: in a listener it cannot be told whether it worked, and so it is refused.
    #[track_caller]
    pub fn set_access_trace(&self, trace: Option<Arc<dyn AccessTrace>>) -> Result<(), MemoryError> {
        match trace {
            Some(trace) => {
                self.0.trace.store(Some(Arc::new(trace)));
                self.update(|t| {
                    t.set_traced(true);
                    Ok(())
                })
            }
            None => {
                let done = self.update(|t| {
                    t.set_traced(false);
                    Ok(())
                });
                self.0.trace.store(None);
                done
            }
        }
    }

    /// Where an offset of a region is, by the places of its containers up to the outermost one; not through aliases (QEMU:
    /// `memory_region_to_absolute_addr`). Sums wrap at 2^64.
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn absolute_address(&self, region: RegionId, offset: u64) -> Result<u64, MemoryError> {
        self.read_state(|s| {
            let mut at = s.topology.resolve(region)?;
            let mut address = offset;
            while let Some(record) = s.topology.get(at) {
                address = address.wrapping_add(record.attrs.addr);
                at = record.attrs.container;
                if at == NONE {
                    break;
                }
            }
            Ok(address)
        })
    }
}
