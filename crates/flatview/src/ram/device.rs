//! RAM that is a device's: the memory behind a mapped PCI BAR, say (QEMU: a RAM device).
//!
//! What it is: the callbacks of such a region, which access the bytes with exactly the size of the guest's access, once.
//! What it is not: RAM to the rest of the library: no pointer to it is given to a reader, copies are made access by
//! access, and looking without side effects is refused, because nobody knows what a read does.
//!
//! What must hold: an access of 1, 2, 4 or 8 bytes at an address that is aligned to it is one access of the host.

use std::sync::Arc;

use super::RamBlock;
use crate::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps};

/// A window of a block, accessed as a device is.
#[derive(Debug, Clone)]
pub(crate) struct RamDeviceOps {
    pub block: Arc<RamBlock>,
    /// Where the region begins in the block.
    pub offset: u64,
}

/// The order in which the host has its bytes: values pass unchanged.
const HOST: DeviceEndian =
    if cfg!(target_endian = "little") { DeviceEndian::Little } else { DeviceEndian::Big };

impl MmioOps for RamDeviceOps {
    fn rules(&self) -> AccessRules {
        let rules = AccessRules::new().endian(HOST).valid(1, 8).valid_unaligned();
        rules.implemented(1, 8).implemented_unaligned()
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let at = self.offset.checked_add(access.offset()).ok_or(MemTxError::error())?;
        let span = self.block.span(at, u64::from(access.size())).ok_or(MemTxError::error())?;
        span.load_device(access.size()).ok_or(MemTxError::error())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        if !self.block.is_writable() {
            return Err(MemTxError::decode());
        }
        let at = self.offset.checked_add(access.offset()).ok_or(MemTxError::error())?;
        let span = self.block.span(at, u64::from(access.size())).ok_or(MemTxError::error())?;
        span.store_device(access.size(), value).ok_or(MemTxError::error())?;
        self.block.dirty().mark_for_all(at, u64::from(access.size()));
        Ok(())
    }
}
