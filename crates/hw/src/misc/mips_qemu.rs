//! `mips-qemu`: the register by which a guest resets or powers off QEMU's MIPS board.
//!
//! 64 KiB of i/o that read as 0. Writing the value 42 at offset 0 asks for a system reset, at offset 4 for a power-off;
//! every other write does nothing. It has no state.

use std::fmt;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};

/// The value that makes a write a request.
const MAGIC: u64 = 42;

/// What a guest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerRequest {
    /// Start again.
    Reset,
    /// End.
    PowerOff,
}

/// The device.
pub struct MipsQemu {
    request: Box<dyn Fn(PowerRequest) + Send + Sync>,
}

impl fmt::Debug for MipsQemu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MipsQemu")
    }
}

impl MipsQemu {
    /// Size of the region in bytes.
    pub const SIZE: u128 = 0x1_0000;

    /// The device's region; `request` is called from inside the write and must only note what is asked.
    pub fn region(owner: &Owner, request: impl Fn(PowerRequest) + Send + Sync + 'static) -> Region {
        Region::io("mips-qemu", Self::SIZE, MipsQemu { request: Box::new(request) }).owner(owner)
    }
}

impl MmioOps for MipsQemu {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Native)
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(0)
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        match (access.offset(), value) {
            (0, MAGIC) => (self.request)(PowerRequest::Reset),
            (4, MAGIC) => (self.request)(PowerRequest::PowerOff),
            _ => {}
        }
        Ok(())
    }

    fn peek(&self, _offset: u64, _size: u32) -> Option<u64> {
        Some(0)
    }
}
