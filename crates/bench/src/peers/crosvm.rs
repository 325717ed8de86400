//! The way to a device in crosvm's bus, from its description.
//!
//! One mutex around a map from ranges to devices; ranges are ordered by their base. An access zeroes its data, takes
//! the mutex, finds the last range that begins at or before the address, clones the entry's `Arc`, lets the mutex go,
//! and takes the device's own mutex, unless the device says that it is safe to share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where an access goes and who makes it.
#[derive(Debug, Clone, Copy)]
pub struct BusAccessInfo {
    /// In the device's range.
    pub offset: u64,
    /// On the bus.
    pub address: u64,
    /// Of the virtual CPU.
    pub id: usize,
}

/// A device that is not safe to share.
pub trait BusDevice: Send {
    /// Reads as many bytes as there are in `data`.
    fn read(&mut self, info: BusAccessInfo, data: &mut [u8]);
}

/// A device that is safe to share.
pub trait BusDeviceSync: Send + Sync {
    /// Reads as many bytes as there are in `data`.
    fn read(&self, info: BusAccessInfo, data: &mut [u8]);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Base(u64);

/// A device on the bus.
#[derive(Clone)]
pub enum Entry {
    /// Behind a mutex of its own.
    Outer(Arc<Mutex<dyn BusDevice>>),
    /// Safe to share.
    Inner(Arc<dyn BusDeviceSync>),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Outer(_)) { "Outer" } else { "Inner" })
    }
}

/// The bus.
#[derive(Clone, Default)]
pub struct Bus {
    devices: Arc<Mutex<BTreeMap<Base, (u64, Entry)>>>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("crosvm::Bus")
    }
}

impl Bus {
    /// Puts a device on the bus.
    pub fn insert(&self, base: u64, len: u64, device: Entry) {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner).insert(Base(base), (len, device));
    }

    fn get(&self, addr: u64) -> Option<(u64, Entry)> {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let (base, (len, entry)) = devices.range(..=Base(addr)).next_back()?;
        let offset = addr - base.0;
        (offset < *len).then(|| (offset, entry.clone()))
    }

    /// Reads; `false` where no device is.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        data.fill(0);
        let Some((offset, entry)) = self.get(addr) else {
            return false;
        };
        let info = BusAccessInfo { offset, address: addr, id: 0 };
        match &entry {
            Entry::Outer(device) => device.lock().unwrap_or_else(PoisonError::into_inner).read(info, data),
            Entry::Inner(device) => device.read(info, data),
        }
        true
    }
}
