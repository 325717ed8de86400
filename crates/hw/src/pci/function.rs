//! PCI functions: configuration space, base addresses, bus mastering.
//!
//! A [`PciFunction`] has the 256 bytes of configuration space with their write masks, maps its regions where the guest
//! puts its base address registers, and lets its bus-master space see memory while the command register allows it. It
//! does not know what its regions do. A [`PciBus`] finds functions by number. What must always hold: what is mapped is
//! a function of the command and base address registers, read inside the transaction that maps. (PCI Local Bus
//! Specification 2.2, chapter 6.)

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use flatview::RegionId;
use flatview_device::{DeviceCell, MapHandle, QtreeDevice, Reset};
use parking_lot::Mutex;

/// Bytes of configuration space.
const CONFIG: usize = 256;
const COMMAND: usize = 0x04;
const CACHE_LINE: usize = 0x0c;
const BAR0: usize = 0x10;
const ROM: usize = 0x30;
const INTERRUPT_LINE: usize = 0x3c;
/// Writable bits of the command register: i/o, memory, bus master, SERR#, interrupt disable.
const COMMAND_MASK: u16 = 0x0507;
const COMMAND_IO: u16 = 1;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
/// What stands for "nowhere" in `info qtree`.
const UNMAPPED: u64 = u64::MAX;
/// Priority of a mapped region in the bus's containers.
const PRIORITY: i32 = 1;

/// What kind of addresses a region takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// Ports.
    Io,
    /// Memory; `prefetchable` is told to the guest.
    Memory {
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
    /// The expansion ROM, which has its own register and enable bit.
    Rom,
}

/// A base address register: 0 to 5, or 6 for the expansion ROM.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// Its number.
    pub number: u8,
    /// What it takes.
    pub kind: BarKind,
    /// Size in bytes, a power of two.
    pub size: u32,
    /// The region it maps.
    pub region: RegionId,
}

impl Bar {
    fn register(&self) -> usize {
        if self.kind == BarKind::Rom { ROM } else { BAR0 + 4 * usize::from(self.number) }
    }

    fn type_bits(&self) -> u32 {
        match self.kind {
            BarKind::Io => 1,
            BarKind::Memory { prefetchable: true } => 8,
            BarKind::Memory { prefetchable: false } | BarKind::Rom => 0,
        }
    }

    fn write_mask(&self) -> u32 {
        !(self.size - 1) | u32::from(self.kind == BarKind::Rom)
    }
}

/// What a function says about itself; bits that a class does not use are 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class and subclass.
    pub class: u16,
    /// Subsystem vendor and subsystem.
    pub subsystem: (u16, u16),
    /// Status register at reset.
    pub status: u16,
    /// Latency timer at reset.
    pub latency: u8,
    /// Interrupt pin: 0 none, 1 INTA#.
    pub pin: u8,
    /// Minimum grant and maximum latency.
    pub timing: (u8, u8),
}

/// The containers of a bus into which base addresses map.
#[derive(Debug, Clone, Copy)]
pub struct BusSpaces {
    /// Memory.
    pub memory: RegionId,
    /// Ports.
    pub io: RegionId,
}

/// One function of a device on a bus.
pub struct PciFunction {
    kind: &'static str,
    /// Device number times 8 plus function.
    devfn: u8,
    identity: Identity,
    bars: Vec<Bar>,
    spaces: BusSpaces,
    map: MapHandle,
    /// The alias that shows memory to the function's bus-master space.
    master: OnceLock<RegionId>,
    cell: DeviceCell<Config>,
    /// Where each region is mapped, by the bar's number.
    mapped: Mutex<BTreeMap<u8, u64>>,
    describe: Box<dyn Fn(QtreeDevice) -> QtreeDevice + Send + Sync>,
    this: Weak<PciFunction>,
}

struct Config {
    bytes: [u8; CONFIG],
    mask: [u8; CONFIG],
}

impl Config {
    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.byte(at), self.byte(at + 1)])
    }

    fn long(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | u32::from(self.word(at + 2)) << 16
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0xff)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(slot) = self.bytes.get_mut(at..at + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        if let Some(slot) = self.mask.get_mut(at..at + mask.len()) {
            slot.copy_from_slice(mask);
        }
    }

    /// Where a base address register maps its region, if it does.
    fn address(&self, bar: &Bar) -> Option<u64> {
        let command = self.word(COMMAND);
        let value = self.long(bar.register());
        let enabled = match bar.kind {
            BarKind::Io => command & COMMAND_IO != 0,
            BarKind::Memory { .. } => command & COMMAND_MEMORY != 0,
            BarKind::Rom => command & COMMAND_MEMORY != 0 && value & 1 != 0,
        };
        let start = value & !(bar.size - 1);
        let last = start.checked_add(bar.size - 1)?;
        // Address 0 means "not placed yet", and the last address of 32 bits is never reached.
        (enabled && start != 0 && last != u32::MAX).then_some(start.into())
    }
}

impl fmt::Debug for PciFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PciFunction({} at {:02x}.{})", self.kind, self.devfn >> 3, self.devfn & 7)
    }
}

impl PciFunction {
    /// A function of this type at a device number of the bus. `describe` adds the device's own properties to its entry
    /// in `info qtree`, before those that every function has.
    pub fn new(
        kind: &'static str,
        slot: u8,
        identity: Identity,
        bars: Vec<Bar>,
        spaces: BusSpaces,
        map: &MapHandle,
        describe: impl Fn(QtreeDevice) -> QtreeDevice + Send + Sync + 'static,
    ) -> Arc<PciFunction> {
        let mut config = Config { bytes: [0; CONFIG], mask: [0; CONFIG] };
        config.put(0x00, &identity.vendor.to_le_bytes());
        config.put(0x02, &identity.device.to_le_bytes());
        config.put(0x06, &identity.status.to_le_bytes());
        config.put(0x08, &[identity.revision]);
        config.put(0x0a, &identity.class.to_le_bytes());
        config.put(0x0d, &[identity.latency]);
        config.put(0x2c, &identity.subsystem.0.to_le_bytes());
        config.put(0x2e, &identity.subsystem.1.to_le_bytes());
        config.put(0x3d, &[identity.pin, identity.timing.0, identity.timing.1]);
        config.allow(COMMAND, &COMMAND_MASK.to_le_bytes());
        config.allow(CACHE_LINE, &[0xff]);
        config.allow(INTERRUPT_LINE, &[0xff]);
        config.allow(0x40, &[0xff; CONFIG - 0x40]);
        for bar in &bars {
            config.put(bar.register(), &bar.type_bits().to_le_bytes());
            config.allow(bar.register(), &bar.write_mask().to_le_bytes());
        }
        Arc::new_cyclic(|this: &Weak<PciFunction>| PciFunction {
            kind,
            devfn: slot << 3,
            identity,
            bars,
            spaces,
            map: map.clone(),
            master: OnceLock::new(),
            cell: DeviceCell::new(config),
            mapped: Mutex::default(),
            describe: Box::new(describe),
            this: this.clone(),
        })
    }

    /// Tells the function which alias shows memory to its bus-master space; it is enabled while bus mastering is.
    pub fn set_master(&self, alias: RegionId) {
        let _ = self.master.set(alias);
    }

    /// Device number times 8 plus function number.
    pub fn devfn(&self) -> u8 {
        self.devfn
    }

    /// Reads configuration space, little-endian; beyond its end all ones.
    pub fn config_read(&self, register: u8, size: u32) -> u32 {
        self.cell.peek(|config| {
            (0..size.min(4) as usize)
                .fold(0, |value, n| value | u32::from(config.byte(usize::from(register) + n)) << (8 * n))
        })
    }

    /// Writes configuration space: only what can be written changes.
    pub fn config_write(&self, register: u8, size: u32, value: u32) {
        let first = usize::from(register);
        self.cell.with(|config, effects| {
            for (n, byte) in value.to_le_bytes().into_iter().take(size as usize).enumerate() {
                let mask = config.mask.get(first + n).copied().unwrap_or(0);
                if let Some(slot) = config.bytes.get_mut(first + n) {
                    *slot = *slot & !mask | byte & mask;
                }
            }
            let end = first + size as usize;
            let touches = |at: usize, len: usize| first < at + len && at < end;
            if touches(COMMAND, 2) || touches(BAR0, 24) || touches(ROM, 4) {
                let this = self.this.clone();
                effects.call(move || {
                    if let Some(function) = this.upgrade() {
                        function.remap();
                    }
                });
            }
        });
    }

    /// Makes the map what the registers say.
    fn remap(&self) {
        let mut before = None;
        let changed = self.map.update(|t| {
            let (wanted, master) = self.cell.peek(|config| {
                let wanted: BTreeMap<u8, u64> = self
                    .bars
                    .iter()
                    .filter_map(|bar| config.address(bar).map(|address| (bar.number, address)))
                    .collect();
                (wanted, config.word(COMMAND) & COMMAND_MASTER != 0)
            });
            let now = self.mapped.lock().clone();
            for bar in &self.bars {
                let (old, new) = (now.get(&bar.number), wanted.get(&bar.number));
                let container = if bar.kind == BarKind::Io { self.spaces.io } else { self.spaces.memory };
                if old == new {
                    continue;
                }
                if old.is_some() {
                    t.unmap(container, bar.region)?;
                }
                if let Some(address) = new {
                    t.map_overlap(container, *address, bar.region, PRIORITY)?;
                }
            }
            if let Some(alias) = self.master.get() {
                t.set_enabled(*alias, master)?;
            }
            // Written inside the transaction: the next one must find what this one left.
            *self.mapped.lock() = wanted;
            before = Some(now);
            Ok(())
        });
        if let (false, Some(before)) = (changed, before) {
            *self.mapped.lock() = before;
        }
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        let (slot, number) = (self.devfn >> 3, self.devfn & 7);
        let id = &self.identity;
        let mut entry = (self.describe)(QtreeDevice::new(self.kind)).line(format!(
            "class {}, addr 00:{slot:02x}.{number}, pci id {:04x}:{:04x} (sub {:04x}:{:04x})",
            class_name(id.class),
            id.vendor,
            id.device,
            id.subsystem.0,
            id.subsystem.1
        ));
        let mapped = self.mapped.lock().clone();
        for bar in &self.bars {
            let kind = if bar.kind == BarKind::Io { "i/o" } else { "mem" };
            let address = mapped.get(&bar.number).copied().unwrap_or(UNMAPPED);
            let last = address.wrapping_add(u64::from(bar.size)).wrapping_sub(1);
            entry = entry.line(format!("bar {}: {kind} at {address:#x} [{last:#x}]", bar.number));
        }
        entry
    }
}

/// The properties that every PCI device has, as `info qtree` prints them.
pub fn common_properties(device: QtreeDevice, slot: u8, romfile: &str, romsize: u64) -> QtreeDevice {
    device
        .bare("addr", &format!("{slot:02x}.0"))
        .text("romfile", romfile)
        .number("romsize", romsize)
        .number("rombar", 1)
        .flag("multifunction", false)
        .flag("x-pcie-lnksta-dllla", true)
        .flag("x-pcie-extcap-init", true)
        .text("failover_pair_id", "")
        .number("acpi-index", 0)
}

/// The class's name where PCI gives one to class and subclass that we have.
fn class_name(class: u16) -> String {
    match class {
        0x0100 => "SCSI controller".to_owned(),
        0x0200 => "Ethernet controller".to_owned(),
        0x0300 => "VGA controller".to_owned(),
        0x0600 => "Host bridge".to_owned(),
        0x0601 => "ISA bridge".to_owned(),
        other => format!("Class {other:04x}"),
    }
}

impl Reset for PciFunction {
    /// Command, base addresses, cache line size and interrupt line go to what they are at power on; the device's own
    /// registers from 0x40 on stay.
    fn reset(&self) {
        self.cell.with(|config, effects| {
            for at in [COMMAND, COMMAND + 1, CACHE_LINE, INTERRUPT_LINE] {
                config.put(at, &[0]);
            }
            for bar in &self.bars {
                config.put(bar.register(), &bar.type_bits().to_le_bytes());
            }
            let this = self.this.clone();
            effects.call(move || {
                if let Some(function) = this.upgrade() {
                    function.remap();
                }
            });
        });
    }
}

/// A bus: functions by number.
#[derive(Debug, Default)]
pub struct PciBus {
    functions: OnceLock<Vec<Arc<PciFunction>>>,
}

impl PciBus {
    /// Puts the functions on the bus; later calls do nothing.
    pub fn populate(&self, functions: Vec<Arc<PciFunction>>) {
        let _ = self.functions.set(functions);
    }

    fn function(&self, devfn: u8) -> Option<&Arc<PciFunction>> {
        self.functions.get()?.iter().find(|function| function.devfn == devfn)
    }

    /// Reads a function's configuration space; all ones where there is no function.
    pub fn config_read(&self, bus: u8, devfn: u8, register: u8, size: u32) -> u32 {
        let function = if bus == 0 { self.function(devfn) } else { None };
        function.map_or(u32::MAX, |function| function.config_read(register, size))
    }

    /// Writes a function's configuration space, if there is such a function.
    pub fn config_write(&self, bus: u8, devfn: u8, register: u8, size: u32, value: u32) {
        if let Some(function) = self.function(devfn).filter(|_| bus == 0) {
            function.config_write(register, size, value);
        }
    }
}
