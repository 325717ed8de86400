//! `raven-pcihost`: Motorola's PReP host bridge ("Raven"), as the RS/6000 40p has it.
//!
//! The bridge shows the PCI bus's ports and memory to the CPU, and memory to bus masters. Ports stand at 0x80000000 and
//! are reached through `pci-io-non-contiguous`, which either passes the low 16 bits of an address on or, when its input
//! line is low-to-high switched, takes 32 ports from each 4 KiB page. Configuration space is reached through ports
//! 0xcf8 and 0xcfc or directly through `pciio`, in which the lowest set address bit from bit 11 on chooses the slot.
//! Reading `pci-intack` acknowledges an interrupt. (PReP specification, §5; Motorola MPC105 manual for the map.)

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use flatview::{
    Access, AccessRules, AddressSpace, DeviceEndian, MemTxError, MmioOps, Owner, Region, WeakSpace,
};
use flatview_device::{IrqLine, QtreeDevice, Reset};

use super::function::PciBus;

/// Where the ports stand in the CPU's and in the bridge's own address space.
pub const IO_BASE: u64 = 0x8000_0000;
/// Bytes that the container of the ports has.
pub const IO_SIZE: u64 = 0x3f80_0000;
/// Bytes of the window that forwards to ports.
const WINDOW: u128 = 0x80_0000;
/// Where `pciio` stands, and its bytes.
pub const CONFIG_BASE: u64 = 0x8080_0000;
const CONFIG_SIZE: u128 = 0x40_0000;
/// Where PCI memory stands, and its bytes.
pub const MEMORY_BASE: u64 = 0xc000_0000;
/// Bytes of PCI memory.
pub const MEMORY_SIZE: u64 = 0x3f00_0000;
/// The byte whose reading acknowledges an interrupt.
pub const INTACK: u64 = 0xbfff_fff0;
/// Bit 31 of the configuration address: the data port is on.
const CONFIG_ENABLE: u32 = 1 << 31;

/// The bridge.
pub struct Raven {
    bus: PciBus,
    /// What port 0xcf8 holds.
    config_address: AtomicU32,
    contiguous: AtomicBool,
    map_input: IrqLine,
    /// The ports, held weakly: the memory holds this bridge.
    ports: OnceLock<WeakSpace>,
    acknowledge: Box<dyn Fn() -> u8 + Send + Sync>,
}

impl fmt::Debug for Raven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raven").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl Raven {
    /// A bridge; `acknowledge` takes the interrupt controller's vector.
    pub fn new(acknowledge: impl Fn() -> u8 + Send + Sync + 'static) -> Arc<Raven> {
        let raven = Arc::new(Raven {
            bus: PciBus::default(),
            config_address: AtomicU32::new(0),
            contiguous: AtomicBool::new(false),
            map_input: IrqLine::new("raven-pcihost.contiguous-map"),
            ports: OnceLock::new(),
            acknowledge: Box::new(acknowledge),
        });
        let weak = Arc::downgrade(&raven);
        raven.map_input.connect(move |level| {
            if let Some(raven) = weak.upgrade() {
                raven.contiguous.store(level, Ordering::Relaxed);
            }
        });
        raven
    }

    /// The bus behind the bridge.
    pub fn bus(&self) -> &PciBus {
        &self.bus
    }

    /// The line that chooses between the two i/o maps. QEMU 7.2's board leaves it unconnected.
    pub fn map_input(&self) -> &IrqLine {
        &self.map_input
    }

    /// Tells the bridge through which space ports are reached; later calls do nothing.
    pub fn set_ports(&self, ports: &AddressSpace) {
        let _ = self.ports.set(ports.downgrade());
    }

    /// The window that forwards to ports.
    pub fn window_region(self: &Arc<Self>, owner: &Owner) -> Region {
        // Ports of the bridge itself lie behind the window, so it may enter itself.
        Region::io("pci-io-non-contiguous", WINDOW, Window(self.clone())).owner(owner).allow_reentry()
    }

    /// Configuration space by address.
    pub fn config_region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("pciio", CONFIG_SIZE, DirectConfig(self.clone())).owner(owner)
    }

    /// The interrupt acknowledge byte.
    pub fn intack_region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("pci-intack", 1, Acknowledge(self.clone())).owner(owner)
    }

    /// Port 0xcf8: the configuration address.
    pub fn index_region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("pci-conf-idx", 4, Index(self.clone())).owner(owner)
    }

    /// Port 0xcfc: configuration data.
    pub fn data_region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("pci-conf-data", 4, Data(self.clone())).owner(owner)
    }

    /// The entry in `info qtree`, without the bus below.
    pub fn qtree(&self, bios: &str) -> QtreeDevice {
        QtreeDevice::new("raven-pcihost")
            .gpio_in("", 1)
            .gpio_out("sysbus-irq", 1)
            .number("elf-machine", 20)
            .text("bios-name", bios)
            .flag("is-legacy-prep", false)
            .flag("x-config-reg-migration-enabled", true)
            .flag("bypass-iommu", false)
    }

    /// The port that an offset of the window means.
    fn port(&self, offset: u64) -> u64 {
        if self.contiguous.load(Ordering::Relaxed) {
            offset & 0x1f | (offset & 0x7f_f000) >> 7
        } else {
            offset & 0xffff
        }
    }

    fn ports(&self) -> Option<AddressSpace> {
        self.ports.get()?.upgrade()
    }
}

impl Reset for Raven {
    fn reset(&self) {
        self.config_address.store(0, Ordering::Relaxed);
    }
}

struct Window(Arc<Raven>);

impl MmioOps for Window {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid_unaligned().implemented(1, 4)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let mut bytes = [0_u8; 8];
        if let (Some(space), Some(bytes)) = (self.0.ports(), bytes.get_mut(..access.size() as usize)) {
            // Where no port is, zeros are read; the bridge does not pass errors on.
            let _ = access.port(&space).read(IO_BASE + self.0.port(access.offset()), bytes);
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let bytes = value.to_le_bytes();
        if let (Some(space), Some(bytes)) = (self.0.ports(), bytes.get(..access.size() as usize)) {
            let _ = access.port(&space).write(IO_BASE + self.0.port(access.offset()), bytes);
        }
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        let mut bytes = [0_u8; 8];
        let (space, read) = (self.0.ports()?, bytes.get_mut(..size as usize)?);
        space.peek(IO_BASE + self.0.port(offset), read).ok()?;
        Some(u64::from_le_bytes(bytes))
    }
}

/// Slot and register of an offset into `pciio`.
fn direct(offset: u64) -> (u8, u8) {
    let slot = (0..11).find(|bit| offset >> (11 + bit) & 1 != 0).unwrap_or(11);
    let devfn = slot << 3 | (offset >> 8 & 7) as u8;
    (devfn, offset as u8)
}

struct DirectConfig(Arc<Raven>);

impl MmioOps for DirectConfig {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let (devfn, register) = direct(access.offset());
        Ok(self.0.bus.config_read(0, devfn, register, access.size()).into())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let (devfn, register) = direct(access.offset());
        self.0.bus.config_write(0, devfn, register, access.size(), value as u32);
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        let (devfn, register) = direct(offset);
        Some(self.0.bus.config_read(0, devfn, register, size).into())
    }
}

struct Acknowledge(Arc<Raven>);

impl MmioOps for Acknowledge {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Native).valid(1, 1)
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok((self.0.acknowledge)().into())
    }

    fn write(&self, _access: &Access<'_>, _value: u64) -> Result<(), MemTxError> {
        Ok(())
    }
}

struct Index(Arc<Raven>);

impl MmioOps for Index {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little)
    }

    /// The whole register answers at each of its bytes; an access takes its low part.
    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.config_address.load(Ordering::Relaxed).into())
    }

    /// Only written whole.
    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        if access.offset() == 0 && access.size() == 4 {
            self.0.config_address.store(value as u32, Ordering::Relaxed);
        }
        Ok(())
    }

    fn peek(&self, _offset: u64, _size: u32) -> Option<u64> {
        Some(self.0.config_address.load(Ordering::Relaxed).into())
    }
}

struct Data(Arc<Raven>);

impl Data {
    /// Bus, function and register that an offset of the data port means, if the port is on.
    fn target(&self, offset: u64) -> Option<(u8, u8, u8)> {
        let address = self.0.config_address.load(Ordering::Relaxed);
        let register = address as u8 | (offset & 3) as u8;
        (address & CONFIG_ENABLE != 0).then_some(((address >> 16) as u8, (address >> 8) as u8, register))
    }

    fn get(&self, offset: u64, size: u32) -> u64 {
        let read = |(bus, devfn, register)| self.0.bus.config_read(bus, devfn, register, size);
        self.target(offset).map_or(u32::MAX, read).into()
    }
}

impl MmioOps for Data {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.get(access.offset(), access.size()))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        if let Some((bus, devfn, register)) = self.target(access.offset()) {
            self.0.bus.config_write(bus, devfn, register, access.size(), value as u32);
        }
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        Some(self.get(offset, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_address_bit_from_bit_11_on_chooses_the_slot() {
        assert_eq!(direct(0x800), (0, 0));
        assert_eq!(direct(0x1804), (0, 4));
        assert_eq!(direct(0x2010), (2 << 3, 0x10));
        assert_eq!(direct(0x2310), (2 << 3 | 3, 0x10));
        assert_eq!(direct(0), (11 << 3, 0), "no bit at all is slot 11");
    }

    #[test]
    fn the_window_folds_addresses_by_the_map_line() {
        let raven = Raven::new(|| 0);
        assert_eq!(raven.port(0x7f_0092), 0x92);
        raven.map_input().raise();
        assert_eq!(raven.port(0x4012), 0x92);
        assert_eq!(raven.port(0x4032), 0x92, "only the first 32 bytes of a page are ports");
    }
}
