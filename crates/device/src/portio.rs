//! ISA ports made of byte registers.
//!
//! A port range whose device only has byte registers answers wider accesses as QEMU's port lists do: two bytes are
//! composed of two registers, a register that is not there gives all ones, and anything wider than two bytes reads all
//! ones and writes nothing. The bus is little-endian. It is not a device: the registers are the [`BytePorts`] it asks.

use std::fmt;
use std::sync::Arc;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps};

/// A device's byte registers, addressed by absolute port number.
pub trait BytePorts: Send + Sync + 'static {
    /// Reads the register at a port.
    fn read(&self, port: u16) -> u8;
    /// Writes the register at a port.
    fn write(&self, port: u16, value: u8);
    /// What a read would give, if looking has no side effect.
    fn peek(&self, port: u16) -> Option<u8> {
        let _ = port;
        None
    }
}

/// The operations of a region that covers `length` ports from `base`.
pub struct PortRange<D> {
    device: Arc<D>,
    base: u16,
    length: u16,
}

impl<D> fmt::Debug for PortRange<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortRange({:#x}, {} ports)", self.base, self.length)
    }
}

impl<D: BytePorts> PortRange<D> {
    /// Ports `base..base + length` of `device`.
    pub fn new(device: &Arc<D>, base: u16, length: u16) -> PortRange<D> {
        PortRange { device: device.clone(), base, length }
    }

    /// The port at an offset into the range, if it is one of the range's.
    fn port(&self, offset: u64) -> Option<u16> {
        let offset = u16::try_from(offset).ok().filter(|offset| *offset < self.length)?;
        self.base.checked_add(offset)
    }

    fn compose(&self, offset: u64, size: u32, byte: impl Fn(u16) -> Option<u8>) -> Option<u64> {
        match (size, self.port(offset)) {
            (1, Some(port)) => byte(port).map(u64::from),
            (2, Some(port)) => {
                let low = u64::from(byte(port)?);
                let high = match self.port(offset + 1) {
                    Some(port) => u64::from(byte(port)?),
                    None => 0xff,
                };
                Some(high << 8 | low)
            }
            (4.., _) => Some(u64::from(u32::MAX)),
            (1, None) => Some(0xff),
            _ => Some(0xffff),
        }
    }
}

impl<D: BytePorts> MmioOps for PortRange<D> {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid_unaligned().implemented_unaligned()
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.compose(access.offset(), access.size(), |port| Some(self.device.read(port))).unwrap_or(0))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        if access.size() > 2 {
            return Ok(());
        }
        for (n, byte) in value.to_le_bytes().into_iter().take(access.size() as usize).enumerate() {
            if let Some(port) = self.port(access.offset() + n as u64) {
                self.device.write(port, byte);
            }
        }
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        self.compose(offset, size, |port| self.device.peek(port))
    }
}
