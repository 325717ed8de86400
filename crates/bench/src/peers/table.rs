//! The limit for devices: a table of trait objects and a call.

use std::sync::Arc;

/// What every device of these measurements is, apart from being a Flatview device: something with registers.
pub trait Device: Send + Sync {
    /// Reads `size` bytes at an offset.
    fn read(&self, offset: u64, size: u32) -> u64;
}

/// Devices at a stride from a base, found by their index.
pub struct Table {
    base: u64,
    shift: u32,
    devices: Vec<Arc<dyn Device>>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} devices)", self.devices.len())
    }
}

impl Table {
    /// Devices `1 << shift` bytes apart.
    #[must_use]
    pub fn new(base: u64, shift: u32, devices: Vec<Arc<dyn Device>>) -> Self {
        Self { base, shift, devices }
    }

    /// Reads; 0 where no device is.
    #[inline]
    #[must_use]
    pub fn read(&self, addr: u64, size: u32) -> u64 {
        let at = addr.wrapping_sub(self.base);
        let index = (at >> self.shift) as usize;
        self.devices.get(index).map_or(0, |d| d.read(at & ((1 << self.shift) - 1), size))
    }
}
