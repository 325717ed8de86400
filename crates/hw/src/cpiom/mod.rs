//! Devices of the CPIOM avionics board. Their registers are 32 bits wide, big-endian, and taken as aligned words only:
//! any other access is a decode error. Bit 0 is the least significant.

pub mod sdram;

use flatview::{AccessRules, DeviceEndian};

/// How every register region of a `cpiom-*` device is accessed.
pub const RULES: AccessRules = AccessRules::new().endian(DeviceEndian::Big).valid(4, 4).implemented(4, 4);
