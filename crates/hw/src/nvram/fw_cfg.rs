//! `fw_cfg_mem`: QEMU's way of telling firmware about its machine.
//!
//! A 16-bit selector and a data register that gives the selected item's bytes one after the other, then zeros. No DMA
//! interface and no writing of items. (QEMU's `docs/specs/fw_cfg.rst`.)

use std::collections::BTreeMap;
use std::sync::Arc;

use flatview::{Access, AccessFilter, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::{DeviceCell, QtreeDevice, Reset};

/// The numbers of items, as the specification has them.
pub mod key {
    /// The four letters `QEMU`.
    pub const SIGNATURE: u16 = 0x00;
    /// Which interfaces there are: bit 0 the selector and data registers.
    pub const ID: u16 = 0x01;
    /// The machine's UUID, 16 bytes.
    pub const UUID: u16 = 0x02;
    /// RAM size in bytes, 8 bytes little-endian.
    pub const RAM_SIZE: u16 = 0x03;
    /// 1 if there is no graphical screen.
    pub const NOGRAPHIC: u16 = 0x04;
    /// Number of CPUs, 2 bytes.
    pub const NB_CPUS: u16 = 0x05;
    /// The machine's number.
    pub const MACHINE_ID: u16 = 0x06;
    /// Greatest number of CPUs, 2 bytes.
    pub const MAX_CPUS: u16 = 0x0f;
    /// Device letter to boot from.
    pub const BOOT_DEVICE: u16 = 0x0c;
    /// The directory of named files.
    pub const FILE_DIR: u16 = 0x19;
    /// First of the architecture's own items.
    pub const ARCH_LOCAL: u16 = 0x8000;
}

/// The number of the first named file.
const FIRST_FILE: u16 = 0x20;
/// Beyond the last number of an item.
const KEYS: u16 = FIRST_FILE + 0x20;
/// Bytes of a file's name in the directory, the zero at its end included.
const NAME: usize = 56;
/// What a selector that is out of range selects.
const INVALID: u16 = 0xffff;

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    items: BTreeMap<u16, Vec<u8>>,
    cell: DeviceCell<State>,
}

#[derive(Debug, Default)]
struct State {
    selected: u16,
    position: usize,
}

impl FwCfg {
    /// A device that offers these items, and these named files (at most 32, in the order of their names; a name has at
    /// most 55 bytes), beside the signature, the interface identification and the directory of the files.
    pub fn new(items: impl IntoIterator<Item = (u16, Vec<u8>)>, files: &[(&str, &[u8])]) -> Arc<FwCfg> {
        let mut all =
            BTreeMap::from([(key::SIGNATURE, b"QEMU".to_vec()), (key::ID, 1_u32.to_le_bytes().to_vec())]);
        all.extend(items);
        let files: BTreeMap<_, _> = files.iter().copied().collect();
        let mut directory = (files.len() as u32).to_be_bytes().to_vec();
        for (key, (name, content)) in (FIRST_FILE..KEYS).zip(files) {
            directory.extend((content.len() as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            // Reserved.
            directory.extend([0; 2]);
            directory.extend(name.bytes().chain(std::iter::repeat(0)).take(NAME - 1).chain([0]));
            all.insert(key, content.to_vec());
        }
        all.insert(key::FILE_DIR, directory);
        Arc::new(FwCfg { items: all, cell: DeviceCell::new(State::default()) })
    }

    /// The selector register: 2 bytes, written whole.
    pub fn control_region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("fwcfg.ctl", 2, Control(self.clone())).owner(owner)
    }

    /// The data register: 1 byte.
    pub fn data_region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("fwcfg.data", 1, Data(self.clone())).owner(owner)
    }

    /// The entry in `info qtree`, with the addresses of the two registers.
    pub fn qtree(&self, control: u64, data: u64) -> QtreeDevice {
        QtreeDevice::new("fw_cfg_mem")
            .number("data_width", 1)
            .flag("dma_enabled", false)
            .number("x-file-slots", 32)
            .flag("acpi-mr-restore", true)
            .line(format!("mmio {control:016x}/{:016x}", 2))
            .line(format!("mmio {data:016x}/{:016x}", 1))
    }

    fn select(&self, key: u16) {
        let (key, known) = (key & !0x4000, key & 0x3fff < KEYS);
        self.cell
            .with(|state, _| *state = State { selected: if known { key } else { INVALID }, position: 0 });
    }

    fn item(&self, state: &State) -> Option<u8> {
        self.items.get(&state.selected)?.get(state.position).copied()
    }
}

impl Reset for FwCfg {
    fn reset(&self) {
        self.select(0);
    }
}

struct Control(Arc<FwCfg>);

impl MmioOps for Control {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Big)
    }

    fn filter(&self) -> Option<&dyn AccessFilter> {
        Some(self)
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(0)
    }

    fn write(&self, _access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.select(value as u16);
        Ok(())
    }
}

impl AccessFilter for Control {
    fn accepts(&self, access: &Access<'_>) -> bool {
        access.is_write() && access.size() == 2
    }
}

struct Data(Arc<FwCfg>);

impl MmioOps for Data {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Big).valid(1, 1)
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.cell.with(|state, _| {
            let byte = self.0.item(state);
            state.position = state.position.saturating_add(usize::from(byte.is_some()));
            byte.unwrap_or(0).into()
        }))
    }

    fn write(&self, _access: &Access<'_>, _value: u64) -> Result<(), MemTxError> {
        Ok(())
    }

    fn peek(&self, _offset: u64, _size: u32) -> Option<u64> {
        Some(self.0.cell.peek(|state| self.0.item(state)).unwrap_or(0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_lists_the_files_by_name_and_their_keys_give_their_content() {
        let device = FwCfg::new([], &[("etc/b", &[1, 2]), ("a", &[])]);
        let bytes = |key: u16| device.items.get(&key).cloned().unwrap();
        let directory = bytes(key::FILE_DIR);
        assert_eq!(directory.len(), 4 + 2 * 64);
        assert_eq!(directory[..12], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0x20, 0, 0]);
        assert_eq!(&directory[12..15], b"a\0\0");
        assert_eq!(directory[68..76], [0, 0, 0, 2, 0, 0x21, 0, 0]);
        assert_eq!(&directory[76..82], b"etc/b\0");
        assert_eq!((bytes(0x20), bytes(0x21)), (vec![], vec![1, 2]));
    }
}
