//! A region where a device is that is not modelled yet.
//!
//! Reads give 0, writes do nothing, and each access is one line in the log category `unimp`, in the form that QEMU's
//! `unimplemented-device` has. It swallows what would be bus errors, so it stands only where there is something in the
//! real machine.

use std::fmt;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Region};

use crate::log::{Log, LogMask};

/// The operations of such a region.
#[derive(Debug)]
pub struct Unmodelled {
    name: String,
    /// Hexadecimal digits of the last offset.
    digits: usize,
    rules: AccessRules,
    log: Log,
}

impl Unmodelled {
    /// Operations for a region of this name and size.
    pub fn new(name: impl Into<String>, size: u128, log: &Log) -> Unmodelled {
        let last = u64::try_from(size.saturating_sub(1)).unwrap_or(u64::MAX);
        let digits = (64 - last.leading_zeros()).div_ceil(4).max(1) as usize;
        let rules = AccessRules::new().endian(DeviceEndian::Little).valid(1, 8).implemented(1, 8);
        Unmodelled { name: name.into(), digits, rules, log: log.clone() }
    }

    /// With the access rules of the device that is to come; other accesses are refused.
    pub fn with_rules(mut self, rules: AccessRules) -> Unmodelled {
        self.rules = rules;
        self
    }

    /// A region of this name and size whose accesses are logged.
    pub fn region(name: impl Into<String>, size: u128, log: &Log) -> Region {
        let name = name.into();
        Region::io(name.clone(), size, Unmodelled::new(name, size, log))
    }

    fn note(&self, access: &Access<'_>, what: &str, value: fmt::Arguments<'_>) {
        let (size, offset, digits) = (access.size(), access.offset(), self.digits);
        self.log.line(
            LogMask::UNIMP,
            format_args!(
                "{}: unimplemented device {what} (size {size}, offset 0x{offset:0digits$x}{value})",
                self.name
            ),
        );
    }
}

impl MmioOps for Unmodelled {
    fn rules(&self) -> AccessRules {
        self.rules
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        self.note(access, "read", format_args!(""));
        Ok(0)
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let digits = access.size() as usize * 2;
        self.note(access, "write", format_args!(", value 0x{value:0digits$x}"));
        Ok(())
    }

    fn peek(&self, _offset: u64, _size: u32) -> Option<u64> {
        Some(0)
    }
}
