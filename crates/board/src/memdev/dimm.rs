//! `pc-dimm`: a memory back end plugged into the machine's device memory, and where it goes there.
//!
//! Only the wish and the placement; plugging is done by [`objects`](super::objects). The order of the checks is QEMU's.

use super::error::ObjectError;
use super::properties::Properties;

/// The driver's name.
pub const DRIVER: &str = "pc-dimm";

/// What it takes, with one line each, as `device_add pc-dimm,help` shows it.
pub const PROPERTIES: [(&str, &str, &str); 4] = [
    ("addr", "uint64", "guest address, 0: the first that is free (default: 0)"),
    ("memdev", "link<memory-backend>", "the memory back end"),
    ("node", "uint32", "NUMA node of the guest (default: 0)"),
    ("slot", "int32", "slot, -1: the first that is free (default: -1)"),
];

/// A DIMM, as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DimmSpec {
    /// Its name, if the user gave one.
    pub id: Option<String>,
    /// The back end.
    pub memdev: Option<String>,
    /// The guest address; 0: the first that is free.
    pub addr: u64,
    /// The slot; −1: the first that is free.
    pub slot: i64,
    /// The guest's NUMA node.
    pub node: u64,
}

impl DimmSpec {
    /// Reads properties, `driver` and `id` among them.
    ///
    /// # Errors
    /// [`ObjectError`] in QEMU's words.
    pub fn of(mut given: Properties) -> Result<DimmSpec, ObjectError> {
        given.string("driver")?;
        let spec = DimmSpec {
            id: given.identifier("id")?,
            memdev: given.string("memdev")?,
            addr: given.unsigned("addr")?.unwrap_or(0),
            slot: given.signed("slot")?.unwrap_or(-1),
            node: given.unsigned("node")?.unwrap_or(0),
        };
        match given.left() {
            None => Ok(spec),
            Some(name) => Err(ObjectError::NoProperty {
                device: DRIVER,
                name: name.to_owned(),
                known: PROPERTIES.map(|(name, _, _)| name).join(", "),
            }),
        }
    }
}

/// A DIMM that is plugged, as `info memory-devices` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimmInfo {
    /// Its name, if the user gave one.
    pub id: Option<String>,
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// Slot.
    pub slot: u64,
    /// NUMA node of the guest.
    pub node: u64,
    /// The back end's path in the object tree.
    pub memdev: String,
    /// Whether it came while the machine ran.
    pub hotplugged: bool,
}

/// The addresses for memory devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub base: u64,
    pub size: u64,
    pub slots: u64,
}

impl Room {
    /// The slot: that asked for, or the first that is free.
    pub fn slot(&self, asked: i64, taken: &[DimmInfo]) -> Result<u64, ObjectError> {
        let busy = |slot: u64| taken.iter().any(|dimm| dimm.slot == slot);
        if self.slots == 0 {
            return Err(ObjectError::NoSlots);
        }
        if asked == -1 {
            return (0..self.slots).find(|slot| !busy(*slot)).ok_or(ObjectError::SlotsFull);
        }
        let last = self.slots - 1;
        match u64::try_from(asked).ok().filter(|slot| *slot <= last) {
            None => Err(ObjectError::NoSuchSlot { slot: asked, last }),
            Some(slot) if busy(slot) => Err(ObjectError::SlotBusy(slot)),
            Some(slot) => Ok(slot),
        }
    }

    /// The address: that asked for, or the first at which the device fits.
    pub fn address(&self, asked: u64, size: u64, align: u64, taken: &[DimmInfo]) -> Result<u64, ObjectError> {
        let used: u64 = taken.iter().map(|dimm| dimm.size).sum();
        if used.checked_add(size).is_none_or(|sum| sum > self.size) {
            return Err(ObjectError::NoSpace { used, total: self.size });
        }
        if asked != 0 && !asked.is_multiple_of(align) {
            return Err(ObjectError::AddressAlignment(align));
        }
        if !size.is_multiple_of(align) {
            return Err(ObjectError::SizeAlignment(align));
        }
        let fits = |addr: u64| {
            addr >= self.base && addr.checked_add(size).is_some_and(|end| end <= self.base + self.size)
        };
        let overlaps = |addr: u64, dimm: &DimmInfo| addr < dimm.addr + dimm.size && dimm.addr < addr + size;
        if asked != 0 {
            if !fits(asked) {
                return Err(ObjectError::OutOfRange { addr: asked, size, base: self.base, total: self.size });
            }
            return match taken.iter().find(|dimm| overlaps(asked, dimm)) {
                Some(dimm) => {
                    Err(ObjectError::Conflicts(dimm.id.clone().unwrap_or_else(|| "(unnamed)".to_owned())))
                }
                None => Ok(asked),
            };
        }
        // A device fits first either at the beginning or right behind another one.
        let starts = taken.iter().map(|dimm| dimm.addr + dimm.size).chain([self.base]);
        let starts = starts.filter_map(|start| start.checked_next_multiple_of(align));
        let free = starts.filter(|start| fits(*start) && !taken.iter().any(|dimm| overlaps(*start, dimm)));
        free.min().ok_or(ObjectError::Fragmented)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { base: 0x4000_0000, size: 0x6000_0000, slots: 4 };
    const MIB: u64 = 1 << 20;

    fn dimm(slot: u64, addr: u64, size: u64) -> DimmInfo {
        let id = Some(format!("d{slot}"));
        DimmInfo { id, addr, size, slot, node: 0, memdev: String::new(), hotplugged: true }
    }

    #[test]
    fn the_first_gap_that_fits_is_taken() {
        let taken = [dimm(0, 0x4000_0000, 256 * MIB), dimm(1, 0x6000_0000, 256 * MIB)];
        let at = |size, align| ROOM.address(0, size, align, &taken).unwrap();
        assert_eq!(at(128 * MIB, 2 * MIB), 0x5000_0000);
        assert_eq!(at(256 * MIB, 2 * MIB), 0x5000_0000);
        assert_eq!(at(512 * MIB, 2 * MIB), 0x7000_0000);
        assert_eq!(at(512 * MIB, 512 * MIB), 0x8000_0000);
        assert_eq!(ROOM.address(0, 4096, 4096, &[]).unwrap(), 0x4000_0000);
        let split = [dimm(0, 0x5000_0000, 0x1000_0000), dimm(1, 0x8000_0000, 0x1000_0000)];
        let e = ROOM.address(0, 0x2000_0000 + 2 * MIB, 2 * MIB, &split).unwrap_err();
        assert!(matches!(e, ObjectError::Fragmented), "{e}");
    }

    #[test]
    fn what_does_not_fit_gets_the_words_of_qemu() {
        let taken = [dimm(0, 0x4000_0000, 256 * MIB)];
        for (asked, size, text) in [
            (0x4000_0004, 256 * MIB, "address must be aligned to 0x200000 bytes"),
            (0x4000_0000, 256 * MIB, "address range conflicts with memory device id='d0'"),
            (
                0xa000_0000,
                256 * MIB,
                "can't add memory device [0xa0000000:0x10000000], usable range for memory devices [0x40000000:0x60000000]",
            ),
            (
                0,
                5 << 30,
                "not enough space, currently 0x10000000 in use of total space for memory devices 0x60000000",
            ),
            (0, MIB, "backend memory size must be multiple of 0x200000"),
        ] {
            let e = ROOM.address(asked, size, 2 * MIB, &taken).unwrap_err();
            assert_eq!(e.to_string(), text);
        }
        assert!(ROOM.address(u64::MAX - 0x1f_ffff, 2 * MIB, 2 * MIB, &[]).is_err());
        let slots: Vec<_> = (0..4).map(|n| dimm(n, 0, 0)).collect();
        assert_eq!(ROOM.slot(-1, &slots).unwrap_err().to_string(), "no free slots available");
        assert_eq!(ROOM.slot(1, &slots).unwrap_err().to_string(), "slot 1 is busy");
        assert_eq!(ROOM.slot(4, &[]).unwrap_err().to_string(), "invalid slot number 4, valid range is [0-3]");
        assert_eq!(ROOM.slot(-1, &slots[..2]).unwrap(), 2);
        assert_eq!(ROOM.slot(3, &[]).unwrap(), 3);
        let none = Room { slots: 0, ..ROOM };
        assert_eq!(
            none.slot(-1, &[]).unwrap_err().to_string(),
            "no slots where allocated, please specify the 'slots' option"
        );
    }
}
