//! What a device gives: callbacks, and the rules for calling them.
//!
//! What it is: [`MmioOps`] (QEMU: `MemoryRegionOps`), [`AccessRules`] and the closure builder [`Ops`]. What it is
//! not: the rules' execution; that is [`access`](crate::Access).
//!
//! One sentence says everything about byte order: *the value a callback sees is the bytes in ascending address
//! order, read in the device's endianness.*

use std::fmt;

use crate::access::DirectOps;
use crate::{Access, DeviceEndian, MemTxError};

/// How a device wants to be accessed (QEMU: the `valid`, `impl` and `endianness` fields of `MemoryRegionOps`).
///
/// Without further words a device takes every size, aligned only, and its callbacks are called with 1 to 4 bytes
/// in the target's order, as in QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessRules {
    endian: DeviceEndian,
    valid_min: u8,
    valid_max: u8,
    valid_unaligned: bool,
    impl_min: u8,
    impl_max: u8,
    impl_unaligned: bool,
    /// Whether there is a filter; known when the region is added.
    filtered: bool,
    /// The sizes, or-ed, of which an aligned access is one callback as it is, and always taken.
    direct: u8,
}

impl Default for AccessRules {
    fn default() -> Self {
        Self::new()
    }
}

/// A size of an access, made sane: 1, 2, 4 or 8.
const fn size(bytes: u32) -> u8 {
    match bytes {
        0 | 1 => 1,
        2 | 3 => 2,
        4..=7 => 4,
        _ => 8,
    }
}

impl AccessRules {
    /// QEMU's defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            endian: DeviceEndian::Native,
            valid_min: 0,
            valid_max: 0,
            valid_unaligned: false,
            impl_min: 1,
            impl_max: 4,
            impl_unaligned: false,
            filtered: false,
            direct: 0,
        }
        .with_direct()
    }

    const fn with_direct(mut self) -> Self {
        let mut direct = 0;
        let mut bytes = 1;
        while bytes <= 8 {
            let taken = self.valid_max == 0 || (self.valid_min <= bytes && bytes <= self.valid_max);
            if taken && self.impl_min <= bytes && bytes <= self.impl_max && !self.filtered {
                direct |= bytes;
            }
            bytes *= 2;
        }
        self.direct = direct;
        self
    }

    /// The same for a device that has, or has not, a filter.
    pub(crate) const fn filtered(mut self, filtered: bool) -> Self {
        self.filtered = filtered;
        self.with_direct()
    }

    /// Whether the device has a filter.
    #[inline]
    pub(crate) const fn is_filtered(&self) -> bool {
        self.filtered
    }

    /// The sizes, or-ed, of which an aligned access is taken and is one callback as it is, with no filter to ask.
    #[inline]
    pub(crate) const fn direct(&self) -> u8 {
        self.direct
    }

    /// The device's byte order.
    #[must_use]
    pub const fn endian(mut self, endian: DeviceEndian) -> Self {
        self.endian = endian;
        self
    }

    /// The sizes the device takes; others are a decode error on an exact access, larger ones are split on the bus.
    /// 1, 2, 4 or 8 bytes; anything else is rounded down to these. As in QEMU a `max` of 0 takes everything, whatever
    /// `min` says.
    #[must_use]
    pub const fn valid(mut self, min: u32, max: u32) -> Self {
        self.valid_min = size(min);
        self.valid_max = if max == 0 { 0 } else { size(max) };
        self.with_direct()
    }

    /// The device takes accesses at every offset, not only at multiples of their size.
    #[must_use]
    pub const fn valid_unaligned(mut self) -> Self {
        self.valid_unaligned = true;
        self
    }

    /// The sizes the callbacks are called with; accesses are split or widened to fit (QEMU: `impl`). 1, 2, 4 or 8;
    /// as in QEMU a `min` of 0 is 1 and a `max` of 0 is 4.
    #[must_use]
    pub const fn implemented(mut self, min: u32, max: u32) -> Self {
        self.impl_min = size(min);
        self.impl_max = if max == 0 { 4 } else { size(max) };
        self.with_direct()
    }

    /// The callbacks can be called at every offset; else an unaligned access reaches them in aligned pieces.
    #[must_use]
    pub const fn implemented_unaligned(mut self) -> Self {
        self.impl_unaligned = true;
        self
    }

    /// The device's byte order as declared.
    #[must_use]
    pub const fn device_endian(&self) -> DeviceEndian {
        self.endian
    }

    /// Smallest and largest size the device takes, in bytes; `None` if it takes all.
    #[must_use]
    pub const fn valid_sizes(&self) -> Option<(u32, u32)> {
        // QEMU: without a maximum everything is taken, whatever the minimum says.
        if self.valid_max == 0 { None } else { Some((self.valid_min as u32, self.valid_max as u32)) }
    }

    pub(crate) const fn takes_unaligned(&self) -> bool {
        self.valid_unaligned
    }

    pub(crate) const fn calls_unaligned(&self) -> bool {
        self.impl_unaligned
    }

    /// The size the callbacks are called with for an access of `size` bytes.
    #[inline]
    pub(crate) fn call_size(&self, size: u32) -> u32 {
        size.min(u32::from(self.impl_max)).max(u32::from(self.impl_min))
    }

    /// The largest size the bus uses in one access.
    pub(crate) fn bus_max(&self) -> u32 {
        // QEMU: 4, if the device says nothing.
        if self.valid_max == 0 { 4 } else { u32::from(self.valid_max) }
    }
}

/// A device's callbacks (QEMU: `MemoryRegionOps`).
///
/// No lock of this crate is held during a callback. It may access memory through
/// [`Access::port`](crate::Access::port), change the map, or remove its own region: the view it runs in keeps
/// everything alive until it returns.
pub trait MmioOps: DirectOps + Send + Sync {
    /// How the device wants to be accessed. Asked once, when the region is added.
    fn rules(&self) -> AccessRules {
        AccessRules::default()
    }

    /// Reads [`access.size()`](Access::size) bytes at [`access.offset()`](Access::offset) of the region. Bits
    /// above the size are cut off.
    ///
    /// # Errors
    /// What the device says: [`MemTxError::error`], [`MemTxError::decode`] or [`MemTxError::access`].
    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError>;

    /// Writes `value` at [`access.offset()`](Access::offset).
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError>;

    /// Who says whether an access is taken at all, if anybody does (QEMU: `valid.accepts`). Whether there is a filter is
    /// asked once, when the region is added; devices without one pay nothing.
    fn filter(&self) -> Option<&dyn AccessFilter> {
        None
    }

    /// What a read of `size` bytes would give, if that can be told without side effects. Monitors, debuggers and
    /// pictures look with this and never with [`read`](Self::read).
    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        let _ = (offset, size);
        None
    }
}

/// Refuses accesses by more than their size and alignment (QEMU: `valid.accepts`).
pub trait AccessFilter {
    /// Whether the device takes this access; asked before everything else, and about the whole access.
    fn accepts(&self, access: &Access<'_>) -> bool;
}

type Read = dyn Fn(&Access<'_>) -> Result<u64, MemTxError> + Send + Sync;
type Write = dyn Fn(&Access<'_>, u64) -> Result<(), MemTxError> + Send + Sync;
type Accepts = dyn Fn(&Access<'_>) -> bool + Send + Sync;
type Peek = dyn Fn(u64, u32) -> Option<u64> + Send + Sync;

/// Callbacks made of closures. What is not given is a decode error.
///
/// ```
/// use flatview::{AccessRules, DeviceEndian, Ops};
///
/// let ops = Ops::new()
///     .rules(AccessRules::new().endian(DeviceEndian::Big).valid(4, 4))
///     .read(|access| Ok(access.offset()))
///     .write(|_, value| {
///         println!("{value:#x}");
///         Ok(())
///     });
/// ```
#[derive(Default)]
#[must_use]
pub struct Ops {
    rules: AccessRules,
    read: Option<Box<Read>>,
    write: Option<Box<Write>>,
    accepts: Option<Box<Accepts>>,
    peek: Option<Box<Peek>>,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Ops {
    /// Nothing given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the device wants to be accessed.
    pub fn rules(mut self, rules: AccessRules) -> Self {
        self.rules = rules;
        self
    }

    /// What reads give.
    pub fn read(
        mut self,
        f: impl Fn(&Access<'_>) -> Result<u64, MemTxError> + Send + Sync + 'static,
    ) -> Self {
        self.read = Some(Box::new(f));
        self
    }

    /// What writes do.
    pub fn write(
        mut self,
        f: impl Fn(&Access<'_>, u64) -> Result<(), MemTxError> + Send + Sync + 'static,
    ) -> Self {
        self.write = Some(Box::new(f));
        self
    }

    /// Which accesses are taken at all.
    pub fn accepts(mut self, f: impl Fn(&Access<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.accepts = Some(Box::new(f));
        self
    }

    /// What a read at an offset, of a size in bytes, would give.
    pub fn peek(mut self, f: impl Fn(u64, u32) -> Option<u64> + Send + Sync + 'static) -> Self {
        self.peek = Some(Box::new(f));
        self
    }
}

impl MmioOps for Ops {
    fn rules(&self) -> AccessRules {
        self.rules
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        self.read.as_ref().ok_or(MemTxError::decode()).and_then(|f| f(access))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.write.as_ref().ok_or(MemTxError::decode()).and_then(|f| f(access, value))
    }

    fn filter(&self) -> Option<&dyn AccessFilter> {
        self.accepts.as_ref().map(|_| self as &dyn AccessFilter)
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        self.peek.as_ref().and_then(|f| f(offset, size))
    }
}

impl AccessFilter for Ops {
    fn accepts(&self, access: &Access<'_>) -> bool {
        self.accepts.as_ref().is_none_or(|f| f(access))
    }
}

/// Port I/O where nothing is: reads give ones, writes vanish, and both succeed (QEMU: `unassigned_io_ops`).
pub(crate) struct UnassignedIo;

impl MmioOps for UnassignedIo {
    fn read(&self, _: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(u64::MAX)
    }

    fn write(&self, _: &Access<'_>, _: u64) -> Result<(), MemTxError> {
        Ok(())
    }

    fn peek(&self, _: u64, _: u32) -> Option<u64> {
        Some(u64::MAX)
    }
}
