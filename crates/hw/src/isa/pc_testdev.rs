//! `pc-testdev`: a device without any use of its own, for testing how accesses are split and composed.
//!
//! QEMU has it for its own tests; with it a test can put the same accesses to QEMU and to Flatview. Four ports that
//! remember what is written, once taken in any size and once byte by byte; a port that maps the page whose address is
//! written for a moment, which reads the page if it is i/o; 24 bytes of ports
//! of which each raises or lowers one ISA interrupt; and 64 KiB of i/o memory that remembers. Nothing of it is reset.

use std::sync::Arc;

use flatview::{
    Access, AccessRules, AddressSpace, DeviceEndian, MemTxError, MmioOps, Owner, Region, WeakSpace,
};
use flatview_device::{IrqLine, QtreeDevice};
use parking_lot::Mutex;

/// Where its memory-mapped region stands in the PCI host's or system's memory.
pub const IOMEM_ADDRESS: u64 = 0xff00_0000;
const IOMEM_SIZE: usize = 0x1_0000;
/// Ports 0x2000 to 0x2017, one for each of the first interrupts.
const IRQ_PORTS: u16 = 24;

/// The device.
#[derive(Debug)]
pub struct PcTestdev {
    port: Arc<Mutex<Vec<u8>>>,
    memory: Arc<Mutex<Vec<u8>>>,
    irqs: Vec<IrqLine>,
    space: WeakSpace,
}

/// Bytes that remember what is written.
#[derive(Debug)]
struct Store {
    bytes: Arc<Mutex<Vec<u8>>>,
    rules: AccessRules,
}

impl Store {
    fn get(&self, offset: u64, size: u32) -> u64 {
        let bytes = self.bytes.lock();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        (0..size as usize).rev().fold(0, |value, n| {
            let byte = at.checked_add(n).and_then(|at| bytes.get(at)).copied().unwrap_or(0);
            value << 8 | u64::from(byte)
        })
    }
}

impl MmioOps for Store {
    fn rules(&self) -> AccessRules {
        self.rules
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.get(access.offset(), access.size()))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let mut bytes = self.bytes.lock();
        let at = usize::try_from(access.offset()).unwrap_or(usize::MAX);
        for (n, byte) in value.to_le_bytes().into_iter().take(access.size() as usize).enumerate() {
            if let Some(slot) = at.checked_add(n).and_then(|at| bytes.get_mut(at)) {
                *slot = byte;
            }
        }
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        Some(self.get(offset, size))
    }
}

struct IrqPorts(Vec<IrqLine>);

impl MmioOps for IrqPorts {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid(1, 1)
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(0)
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        // A port beyond the interrupts there are does nothing.
        if let Some(line) = usize::try_from(access.offset()).ok().and_then(|n| self.0.get(n)) {
            line.drive(value != 0);
        }
        Ok(())
    }
}

/// Maps a page and lets it go; the memory it is in is held weakly, for it holds this device.
struct Flush(WeakSpace);

/// Bytes that the flush port maps.
const PAGE: u64 = 4096;

impl MmioOps for Flush {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little)
    }
    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(0)
    }
    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let page = value & !(PAGE - 1);
        if let Some(space) = self.0.upgrade() {
            // Mapping RAM touches nothing; what is no RAM is copied, and so read.
            let ram = space.view().is_ok_and(|view| {
                let range = view.lookup(page);
                let block = range.and_then(|range| space.memory().region(range.region()).ok()?.ram);
                block.is_some()
            });
            if !ram {
                let mut bytes = [0; PAGE as usize];
                let _ = access.port(&space).read(page, &mut bytes);
            }
        }
        Ok(())
    }
    fn peek(&self, _offset: u64, _size: u32) -> Option<u64> {
        Some(0)
    }
}

impl PcTestdev {
    /// A device that raises these ISA interrupts and maps pages of this memory.
    pub fn new(irqs: &[IrqLine], space: &AddressSpace) -> PcTestdev {
        PcTestdev {
            space: space.downgrade(),
            port: Arc::new(Mutex::new(vec![0; 4])),
            memory: Arc::new(Mutex::new(vec![0; IOMEM_SIZE])),
            irqs: irqs.iter().take(usize::from(IRQ_PORTS)).cloned().collect(),
        }
    }

    /// The regions on ISA ports, with their first port.
    pub fn port_regions(&self, owner: &Owner) -> Vec<(u16, Region)> {
        let little = AccessRules::new().endian(DeviceEndian::Little);
        let any = Store { bytes: self.port.clone(), rules: little };
        let bytewise = Store { bytes: self.port.clone(), rules: little.valid(1, 4).implemented(1, 1) };
        vec![
            (0xe0, Region::io("pc-testdev-ioport", 4, any).owner(owner)),
            (0xe8, Region::io("pc-testdev-ioport-byte", 4, bytewise).owner(owner)),
            (0xe4, Region::io("pc-testdev-flush-page", 4, Flush(self.space.clone())).owner(owner)),
            (
                0x2000,
                Region::io("pc-testdev-irq-line", IRQ_PORTS.into(), IrqPorts(self.irqs.clone())).owner(owner),
            ),
        ]
    }

    /// The memory-mapped region, which stands at [`IOMEM_ADDRESS`].
    pub fn memory_region(&self, owner: &Owner) -> Region {
        let rules = AccessRules::new().endian(DeviceEndian::Little);
        let store = Store { bytes: self.memory.clone(), rules };
        Region::io("pc-testdev-iomem", IOMEM_SIZE as u128, store).owner(owner)
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("pc-testdev")
    }
}
