//! The way to a device in cloud-hypervisor's bus, from its description.
//!
//! A reader-writer lock around a map from ranges to weak references. An access takes the lock for reading, finds
//! the last range that begins at or before the address, upgrades the reference, lets the lock go, and calls the
//! device, which for most is a mutex around one that is not safe to share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// A device that is not safe to share.
pub trait BusDevice: Send {
    /// Reads as many bytes as there are in `data`.
    fn read(&mut self, base: u64, offset: u64, data: &mut [u8]);
}

/// A device that is safe to share.
pub trait BusDeviceSync: Send + Sync {
    /// Reads as many bytes as there are in `data`.
    fn read(&self, base: u64, offset: u64, data: &mut [u8]);
}

impl<T: BusDevice> BusDeviceSync for Mutex<T> {
    fn read(&self, base: u64, offset: u64, data: &mut [u8]) {
        self.lock().unwrap_or_else(PoisonError::into_inner).read(base, offset, data);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Base(u64);

/// The length of a range, and who answers.
type Entry = (u64, Weak<dyn BusDeviceSync>);

/// The bus.
#[derive(Default)]
pub struct Bus {
    devices: RwLock<BTreeMap<Base, Entry>>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cloud_hypervisor::Bus")
    }
}

impl Bus {
    /// Puts a device on the bus, which does not keep it.
    pub fn insert(&self, base: u64, len: u64, device: Weak<dyn BusDeviceSync>) {
        self.devices.write().unwrap_or_else(PoisonError::into_inner).insert(Base(base), (len, device));
    }

    fn resolve(&self, addr: u64) -> Option<(u64, u64, Arc<dyn BusDeviceSync>)> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let (base, (len, device)) = devices.range(..=Base(addr)).next_back()?;
        let offset = addr - base.0;
        if offset >= *len {
            return None;
        }
        Some((base.0, offset, device.upgrade()?))
    }

    /// Reads; `false` where no device is.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        match self.resolve(addr) {
            Some((base, offset, device)) => {
                device.read(base, offset, data);
                true
            }
            None => false,
        }
    }
}
