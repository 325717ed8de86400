//! A region where a device is that is not modelled yet.
//!
//! Reads give 0, writes do nothing, and each access is one line in the log category `unimp`, in the form that QEMU's
//! `unimplemented-device` has. It swallows what would be bus errors, so it stands only where there is something in the
//! real machine; and it stands behind all that is modelled ([`Unmodelled::PRIORITY`]), so that it hides nothing. A slot
//! that is really empty, on a bus that never gives an error, is [`EmptySlot`]: it logs nothing.

use std::fmt;

use flatview::{
    Access, AccessRules, DeviceEndian, MemTxError, MemoryError, MmioOps, Region, RegionId, Transaction,
};

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
    /// The priority of a region that stands behind what is modelled, as in QEMU.
    pub const PRIORITY: i32 = -1000;

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

    /// Maps such a region behind everything that has a higher priority than [`PRIORITY`](Self::PRIORITY) (QEMU:
    /// `create_unimplemented_device`).
    ///
    /// # Errors
    /// Those of [`Transaction::map_overlap`].
    pub fn map(
        t: &mut Transaction<'_>,
        container: RegionId,
        address: u64,
        name: impl Into<String>,
        size: u128,
        log: &Log,
    ) -> Result<RegionId, MemoryError> {
        let region = t.add(Unmodelled::region(name, size, log))?;
        t.map_overlap(container, address, region, Self::PRIORITY)?;
        Ok(region)
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

/// A slot of a bus with nothing in it, where the bus gives no error: reads are 0, writes are lost (QEMU: `empty-slot`).
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptySlot;

impl EmptySlot {
    /// The priority of a slot, behind all else, as in QEMU.
    pub const PRIORITY: i32 = -10_000;

    /// Maps an empty slot behind everything (QEMU: `empty_slot_init`).
    ///
    /// # Errors
    /// Those of [`Transaction::map_overlap`].
    pub fn map(
        t: &mut Transaction<'_>,
        container: RegionId,
        address: u64,
        name: impl Into<String>,
        size: u128,
    ) -> Result<RegionId, MemoryError> {
        let region = t.add(Region::io(name.into(), size, EmptySlot))?;
        t.map_overlap(container, address, region, Self::PRIORITY)?;
        Ok(region)
    }
}

impl MmioOps for EmptySlot {
    fn rules(&self) -> AccessRules {
        AccessRules::new().valid_unaligned().implemented(1, 8).implemented_unaligned()
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(0)
    }

    fn write(&self, _access: &Access<'_>, _value: u64) -> Result<(), MemTxError> {
        Ok(())
    }

    fn peek(&self, _offset: u64, _size: u32) -> Option<u64> {
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview::{Endianness, Le, Memory, Ops, Reason};
    use parking_lot::Mutex;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn taken(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    #[test]
    fn each_access_is_one_line_whose_offset_is_as_wide_as_the_last_one() {
        for (size, first, last) in [
            (1, "0x0", "0x0"),
            (0x10, "0x0", "0xf"),
            (0x11, "0x00", "0x10"),
            (0x1000, "0x000", "0xfff"),
            (1 << 32, "0x00000000", "0xffffffff"),
        ] {
            let memory = Memory::new(Endianness::Little);
            let lines = Lines::default();
            let log = Log::to(LogMask::UNIMP, lines.clone());
            memory.update(|t| Unmodelled::map(t, t.memory().system(), 0, "can0", size, &log)).unwrap();
            let reader = memory.memory_space().reader();
            assert_eq!(reader.load::<Le, u8>(0), Ok(0));
            assert_eq!(lines.taken(), format!("can0: unimplemented device read (size 1, offset {first})\n"));
            reader.store::<Le, u8>(size as u64 - 1, 0x2a).unwrap();
            let write = format!("can0: unimplemented device write (size 1, offset {last}, value 0x2a)\n");
            assert_eq!(lines.taken(), write);
        }
    }

    #[test]
    fn what_is_not_modelled_takes_1_to_8_bytes_reads_0_and_gives_no_bus_error() {
        let memory = Memory::new(Endianness::Big);
        let lines = Lines::default();
        let log = Log::to(LogMask::UNIMP, lines.clone());
        let reader = memory.memory_space().reader();
        assert_eq!(reader.load::<Le, u32>(0x1000).unwrap_err().reason(), Reason::Rejected);
        memory.update(|t| Unmodelled::map(t, t.memory().system(), 0x1000, "can0", 0x100, &log)).unwrap();
        assert_eq!(reader.load::<Le, u8>(0x1001), Ok(0));
        assert_eq!(reader.load::<Le, u16>(0x1002), Ok(0));
        assert_eq!(reader.load::<Le, u32>(0x1004), Ok(0));
        assert_eq!(reader.load::<Le, u64>(0x1008), Ok(0));
        assert_eq!(reader.store::<Le, u64>(0x1008, u64::MAX), Ok(()));
        let text = lines.taken();
        let sizes: Vec<_> =
            text.lines().filter_map(|l| l.split("(size ").nth(1)?.split(',').next()).collect();
        assert_eq!(sizes, ["1", "2", "4", "8", "8"], "{text}");
    }

    #[test]
    fn what_is_modelled_stands_before_what_is_not_and_an_empty_slot_behind_both() {
        let memory = Memory::new(Endianness::Little);
        let system = memory.system();
        memory
            .update(|t| {
                let uart = t.add(Region::io("uart", 0x10, Ops::new().read(|_| Ok(0x60))))?;
                t.map_overlap(system, 0x1010, uart, -999)?;
                Unmodelled::map(t, system, 0x1000, "block", 0x100, &Log::none())?;
                EmptySlot::map(t, system, 0, "isa slots", 0x2000)?;
                Ok::<_, MemoryError>(())
            })
            .unwrap();
        let view = memory.memory_space().view().unwrap();
        let seen: Vec<_> = view.ranges().map(|r| (r.start(), r.last(), r.name())).collect();
        let expect = [
            (0, 0xfff, "isa slots"),
            (0x1000, 0x100f, "block"),
            (0x1010, 0x101f, "uart"),
            (0x1020, 0x10ff, "block"),
            (0x1100, 0x1fff, "isa slots"),
        ];
        assert_eq!(seen, expect);
    }

    #[test]
    fn an_empty_slot_reads_0_loses_writes_and_hides_errors_of_any_size_and_alignment() {
        let memory = Memory::new(Endianness::Little);
        memory.update(|t| EmptySlot::map(t, t.memory().system(), 0, "slot", 0x100)).unwrap();
        let reader = memory.memory_space().reader();
        assert_eq!(reader.load::<Le, u64>(3), Ok(0));
        assert_eq!(reader.load::<Le, u16>(1), Ok(0));
        assert_eq!(reader.store::<Le, u32>(5, u32::MAX), Ok(()));
        let mut bytes = [0xee; 9];
        reader.read(7, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 9]);
        reader.peek(7, &mut bytes).unwrap();
    }
}
