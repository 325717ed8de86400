//! The way to a device in openvmm's chipset, from its description.
//!
//! parking_lot's reader-writer lock around a sorted array of ranges. An access takes the lock for reading, counts
//! itself in a shared counter, searches the array, upgrades a weak reference, clones the name for tracing, lets the
//! lock go, and takes the device's own mutex.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

/// What a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoResult {
    /// Done.
    Ok,
    /// Refused.
    Err,
}

/// A device.
pub trait MmioDevice: Send {
    /// Reads as many bytes as there are in `data`, at an address of the bus.
    fn read(&mut self, addr: u64, data: &mut [u8]) -> IoResult;
}

/// A device behind its own mutex.
pub type SharedDevice = Arc<Mutex<dyn MmioDevice>>;

struct Range {
    start: u64,
    last: u64,
    name: Arc<str>,
    device: Weak<Mutex<dyn MmioDevice>>,
}

#[derive(Default)]
struct Inner {
    ranges: Vec<Range>,
    trace: Option<Arc<str>>,
}

/// The bus.
#[derive(Default)]
pub struct Bus {
    inner: RwLock<Inner>,
    accesses: AtomicU64,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("openvmm::Bus")
    }
}

impl Bus {
    /// Puts a device on the bus, which does not keep it.
    pub fn insert(&self, start: u64, len: u64, name: &str, device: Weak<Mutex<dyn MmioDevice>>) {
        let mut inner = self.inner.write();
        let at = inner.ranges.partition_point(|r| r.start < start);
        inner.ranges.insert(at, Range { start, last: start + (len - 1), name: name.into(), device });
    }

    fn lookup(&self, addr: u64) -> Option<(SharedDevice, Arc<str>)> {
        let inner = self.inner.read();
        self.accesses.fetch_add(1, Ordering::Relaxed);
        let at = inner.ranges.partition_point(|r| r.start <= addr).checked_sub(1)?;
        let range = inner.ranges.get(at).filter(|r| addr <= r.last)?;
        if inner.trace.is_some() {
            return None;
        }
        Some((range.device.upgrade()?, Arc::clone(&range.name)))
    }

    /// Reads; `false` where no device is.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        let Some((device, name)) = self.lookup(addr) else {
            return false;
        };
        let result = device.lock().read(addr, data);
        drop(name);
        result == IoResult::Ok
    }
}
