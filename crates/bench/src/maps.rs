//! The memory maps of the measurements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use flatview::{
    Access, AddressSpace, Be, Endianness, MemTxError, Memory, MemoryError, MmioOps, RamBlock, Reader, Region,
    RegionId,
};
use flatview_board::{Machine, MachineConfig};
use parking_lot::Mutex;

use crate::error::BenchError;
use crate::peers::raw::RawRam;
use crate::peers::table::{Device, Table};
use crate::peers::{cloud_hypervisor, crosvm, openvmm};

/// The RAM that random accesses go to.
pub const RAM: u64 = 64 << 20;

/// One device for all buses, with a register that tells which device it is.
#[derive(Debug)]
pub struct Plain(AtomicU64);

/// The same behind a mutex of its own.
#[derive(Debug)]
pub struct Locked(Mutex<u64>);

/// What the register of a device holds: different for each.
fn register(index: u64) -> u64 {
    index.wrapping_mul(0x9e37_79b9)
}

fn answer(register: u64, offset: u64) -> u64 {
    (register.wrapping_add(offset)) & 0xffff_ffff
}

impl Plain {
    fn value(&self, offset: u64) -> u64 {
        answer(self.0.load(Relaxed), offset)
    }
}

impl Locked {
    fn value(&self, offset: u64) -> u64 {
        answer(*self.0.lock(), offset)
    }
}

impl Device for Plain {
    fn read(&self, offset: u64, _: u32) -> u64 {
        self.value(offset)
    }
}

impl Device for Locked {
    fn read(&self, offset: u64, _: u32) -> u64 {
        self.value(offset)
    }
}

impl MmioOps for Plain {
    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.value(access.offset()))
    }

    fn write(&self, _: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.store(value, Relaxed);
        Ok(())
    }
}

impl MmioOps for Locked {
    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.value(access.offset()))
    }

    fn write(&self, _: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        *self.0.lock() = value;
        Ok(())
    }
}

/// The register as a device of the peers holds it, which their own mutex guards.
struct Exclusive(u64);

fn fill(data: &mut [u8], value: u64) {
    if let Some(bytes) = value.to_le_bytes().get(..data.len()) {
        data.copy_from_slice(bytes);
    }
}

impl crosvm::BusDevice for Exclusive {
    fn read(&mut self, info: crosvm::BusAccessInfo, data: &mut [u8]) {
        fill(data, answer(self.0, info.offset));
    }
}

impl crosvm::BusDeviceSync for Plain {
    fn read(&self, info: crosvm::BusAccessInfo, data: &mut [u8]) {
        fill(data, self.value(info.offset));
    }
}

impl cloud_hypervisor::BusDevice for Exclusive {
    fn read(&mut self, _: u64, offset: u64, data: &mut [u8]) {
        fill(data, answer(self.0, offset));
    }
}

/// openvmm's devices get the address and know where they are.
struct Placed(u64, u64);

impl openvmm::MmioDevice for Placed {
    fn read(&mut self, addr: u64, data: &mut [u8]) -> openvmm::IoResult {
        fill(data, answer(self.0, addr - self.1));
        openvmm::IoResult::Ok
    }
}

/// Many devices at a stride, on Flatview and in a table; where asked for, on the buses of the peers too.
pub struct Devices {
    /// Keeps the map.
    pub memory: Memory,
    /// How many.
    pub count: u64,
    /// Where the first one is.
    pub base: u64,
    /// Bytes from one to the next.
    pub stride: u64,
    /// Equal devices in a table.
    pub table: Table,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Devices({} at {:#x} + n * {:#x})", self.count, self.base, self.stride)
    }
}

impl Devices {
    /// Above all RAM, and with room for 10,000 GiB.
    const BASE: u64 = 1 << 44;

    /// `count` devices `1 << shift` bytes apart; each is 32 bytes large if they are packed so, else 4 KiB.
    ///
    /// # Errors
    /// [`BenchError::Memory`]
    pub fn new(count: u64, shift: u32, locked: bool) -> Result<Self, BenchError> {
        let memory = Memory::new(Endianness::Little);
        let stride = 1 << shift;
        let mut table: Vec<Arc<dyn Device>> = Vec::new();
        memory.update(|t| {
            for i in 0..count {
                // Equal devices on both sides; each side has its own.
                let (name, size) = (format!("device-{i}"), u128::from(stride.min(4096)));
                let region = if locked {
                    table.push(Arc::new(Locked(Mutex::new(register(i)))));
                    Region::io(name, size, Locked(Mutex::new(register(i))))
                } else {
                    table.push(Arc::new(Plain(AtomicU64::new(register(i)))));
                    Region::io(name, size, Plain(AtomicU64::new(register(i))))
                };
                let region = t.add(region)?;
                t.map(memory.system(), Self::BASE + i * stride, region)?;
            }
            Ok::<_, MemoryError>(())
        })?;
        Ok(Self { memory, count, base: Self::BASE, stride, table: Table::new(Self::BASE, shift, table) })
    }

    /// Where the register of a device is.
    #[inline]
    #[must_use]
    pub fn address(&self, index: u64) -> u64 {
        self.base + index * self.stride + 8
    }

    /// A reader for a thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.memory.memory_space().reader()
    }

    fn places(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let (base, stride, len) = (self.base, self.stride, self.stride.min(4096));
        (0..self.count).map(move |i| (i, base + i * stride, len))
    }

    /// The same on crosvm's bus; behind mutexes or safe to share.
    #[must_use]
    pub fn crosvm(&self, locked: bool) -> crosvm::Bus {
        let bus = crosvm::Bus::default();
        for (i, at, len) in self.places() {
            let entry = if locked {
                crosvm::Entry::Outer(Arc::new(std::sync::Mutex::new(Exclusive(register(i)))))
            } else {
                crosvm::Entry::Inner(Arc::new(Plain(AtomicU64::new(register(i)))))
            };
            bus.insert(at, len, entry);
        }
        bus
    }

    /// The same on cloud-hypervisor's bus, and the devices, which the bus does not keep.
    #[must_use]
    pub fn cloud_hypervisor(&self) -> (cloud_hypervisor::Bus, Vec<Arc<dyn cloud_hypervisor::BusDeviceSync>>) {
        let bus = cloud_hypervisor::Bus::default();
        let devices = self.places().map(|(i, at, len)| {
            let device: Arc<dyn cloud_hypervisor::BusDeviceSync> =
                Arc::new(std::sync::Mutex::new(Exclusive(register(i))));
            bus.insert(at, len, Arc::downgrade(&device));
            device
        });
        let devices = devices.collect();
        (bus, devices)
    }

    /// The same on openvmm's bus, and the devices, which the bus does not keep.
    #[must_use]
    pub fn openvmm(&self) -> (openvmm::Bus, Vec<openvmm::SharedDevice>) {
        let bus = openvmm::Bus::default();
        let devices = self.places().map(|(i, at, len)| {
            let device: openvmm::SharedDevice = Arc::new(Mutex::new(Placed(register(i), at)));
            bus.insert(at, len, &format!("device-{i}"), Arc::downgrade(&device));
            device
        });
        let devices = devices.collect();
        (bus, devices)
    }
}

/// RAM from address 0 on, in one range or in many.
pub struct Ram {
    /// Keeps the map.
    pub memory: Memory,
    /// The bytes.
    pub raw: RawRam,
    /// How many of the bytes are mapped, in words of eight.
    pub words: u64,
}

impl std::fmt::Debug for Ram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ram({} words)", self.words)
    }
}

impl Ram {
    /// [`RAM`] bytes in so many ranges, all touched once.
    ///
    /// # Errors
    /// [`BenchError`]: no RAM, or no map.
    pub fn new(ranges: u64) -> Result<Self, BenchError> {
        let memory = Memory::new(Endianness::Little);
        let block = RamBlock::anonymous("ram", RAM)?;
        // A multiple of eight, so that no value lies in two ranges.
        let each = (RAM / ranges) & !7;
        memory.update(|t| {
            for i in 0..ranges {
                let region = Region::ram(format!("ram-{i}"), Arc::clone(&block)).window(i * each, each);
                let region = t.add(region)?;
                t.map(memory.system(), i * each, region)?;
            }
            Ok::<_, MemoryError>(())
        })?;
        let page: Vec<u8> = (0..4096_u32).map(|i| (i * 31) as u8).collect();
        for at in (0..RAM).step_by(4096) {
            block.write(at, &page)?;
        }
        let reader = memory.memory_space().reader();
        let mapped = each * ranges;
        // The first range's guard reaches as far as the first range; the bytes of the others follow in the block.
        let whole = memory.add(Region::ram("whole", Arc::clone(&block)))?;
        let raw = {
            let aside = memory.address_space("aside", whole)?;
            let guard = aside.reader().host_ptr(0, RAM).ok_or(MemTxError::decode())?;
            memory.remove_space(aside.id())?;
            RawRam::new(guard)
        };
        reader.load::<flatview::Le, u64>(mapped - 8)?;
        Ok(Self { memory, raw, words: mapped / 8 })
    }

    /// The space.
    #[must_use]
    pub fn space(&self) -> AddressSpace {
        self.memory.memory_space()
    }

    /// A reader for a thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.space().reader()
    }
}

/// Regions 4 KiB each, 8 KiB apart, in `system`: what commits change one of.
#[derive(Debug)]
pub struct Siblings {
    /// The map.
    pub memory: Memory,
    /// The regions.
    pub regions: Vec<RegionId>,
}

impl Siblings {
    /// The distance of two regions in bytes.
    pub const STRIDE: u64 = 8192;

    /// So many regions.
    ///
    /// # Errors
    /// [`BenchError::Memory`]
    pub fn new(count: u64) -> Result<Self, BenchError> {
        let memory = Memory::new(Endianness::Little);
        let regions = Self::add(&memory, count)?;
        Ok(Self { memory, regions })
    }

    /// Adds and maps so many regions in one transaction.
    ///
    /// # Errors
    /// [`BenchError::Memory`]
    pub fn add(memory: &Memory, count: u64) -> Result<Vec<RegionId>, BenchError> {
        Ok(memory.update(|t| {
            let mut regions = Vec::with_capacity(count as usize);
            for i in 0..count {
                let region = t.add(Region::io(format!("device-{i}"), 4096, Plain(AtomicU64::new(0))))?;
                t.map(memory.system(), i * Self::STRIDE, region)?;
                regions.push(region);
            }
            Ok::<_, MemoryError>(regions)
        })?)
    }

    /// Turns random regions off and on again, `ops` commits in all; gives how many of them did something.
    pub fn toggle(&self, ops: u64, seed: u64) -> u64 {
        let mut dice = crate::measure::Dice::new(seed);
        let mut done = 0;
        let mut off = None;
        for _ in 0..ops {
            let (id, enabled) = match off.take() {
                Some(id) => (id, true),
                None => {
                    let at = dice.below(self.regions.len() as u64) as usize;
                    let Some(id) = self.regions.get(at).copied() else {
                        return done;
                    };
                    off = Some(id);
                    (id, false)
                }
            };
            done += u64::from(self.memory.update(|t| t.set_enabled(id, enabled)).is_ok());
        }
        if let Some(id) = off {
            // Not counted: the next batch must begin as this one did.
            done += u64::from(self.memory.update(|t| t.set_enabled(id, true)).is_err());
        }
        done
    }
}

/// The `cpiom` board, whose SDRAM controller protects pages of 8 KiB from writes.
#[derive(Debug)]
pub struct Protected {
    machine: Arc<Machine>,
    space: AddressSpace,
    words: Vec<u32>,
    pages: u64,
}

impl Protected {
    /// All pages that the RAM has.
    pub const PAGES: u64 = 8192;
    const CONTROL: u64 = 0x2000_a000;
    const TABLE: u64 = 0x2000_c000;

    /// A board of whose first `pages` pages each is protected, which is one range of the view; or, `alternating`, every
    /// second one, which is a range for each page.
    ///
    /// # Errors
    /// [`BenchError::Machine`], [`BenchError::Access`]
    pub fn new(pages: u64, alternating: bool) -> Result<Self, BenchError> {
        let config = MachineConfig { start_stopped: true, ..MachineConfig::new("cpiom") };
        let machine = Machine::new(config).map_err(|e| BenchError::Machine { text: e.to_string() })?;
        let space = machine.cpu_space();
        let pattern = if alternating { 0xaaaa_aaaa } else { u32::MAX };
        let words: Vec<u32> = (0..pages.div_ceil(32))
            .map(|word| {
                let used = (pages - word * 32).min(32) as u32;
                pattern & !u32::MAX.checked_shr(used).unwrap_or(0)
            })
            .collect();
        let reader = space.reader();
        for (word, value) in (0..).zip(&words) {
            reader.store::<Be, u32>(Self::TABLE + 4 * word, *value)?;
        }
        reader.store::<Be, u32>(Self::CONTROL, 1)?;
        Ok(Self { machine, space, words, pages })
    }

    /// Switches protection as a whole off and on again.
    ///
    /// # Errors
    /// [`BenchError::Access`]
    pub fn off_and_on(&self) -> Result<(), BenchError> {
        let reader = self.space.reader();
        reader.store::<Be, u32>(Self::CONTROL, 0)?;
        Ok(reader.store::<Be, u32>(Self::CONTROL, 1)?)
    }

    /// How many ranges the RAM has in the CPU's view.
    ///
    /// # Errors
    /// [`BenchError::Memory`]
    pub fn ranges(&self) -> Result<usize, BenchError> {
        let end = Self::PAGES << 13;
        Ok(self.space.view()?.ranges().filter(|range| range.start() < end).count())
    }

    /// The machine's memory.
    pub fn memory(&self) -> &Memory {
        self.machine.memory()
    }

    /// Changes the protection of random pages by writes to the table, and back again, `ops` writes in all; gives how
    /// many of them did something.
    pub fn toggle(&self, ops: u64, seed: u64) -> u64 {
        let mut dice = crate::measure::Dice::new(seed);
        let reader = self.space.reader();
        let set = |at: u64, value: u32| reader.store::<Be, u32>(Self::TABLE + 4 * at, value).is_ok();
        let mut changed = None;
        let mut done = 0;
        for _ in 0..ops {
            let (at, value) = match changed.take() {
                Some(back) => back,
                None => {
                    let page = dice.below(self.pages);
                    let Some(before) = self.words.get((page / 32) as usize).copied() else { return done };
                    changed = Some((page / 32, before));
                    (page / 32, before ^ 1 << (31 - page % 32))
                }
            };
            done += u64::from(set(at, value));
        }
        if let Some((at, value)) = changed {
            // Not counted: the next batch must begin as this one did.
            done += u64::from(!set(at, value));
        }
        done
    }
}

/// A reader in memory of its own.
struct Apart(Box<Reader>);

/// Readers that stand at different places of their pages and take turns. Where a reader (or anything else that a loop looks at) stands
/// decides a good deal where much is written: a load from the place in its page that something was just written to in another waits
/// until the processor knows that they are not the same.
pub struct Readers {
    readers: Vec<Apart>,
    turn: std::cell::Cell<usize>,
    /// Keeps them apart.
    _between: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Readers({})", self.readers.len())
    }
}

impl Readers {
    /// Eight of them.
    #[must_use]
    pub fn new(make: impl Fn() -> Reader) -> Self {
        let (mut readers, mut between) = (Vec::new(), Vec::new());
        for i in 0..8 {
            readers.push(Apart(Box::new(make())));
            between.push(vec![0; 300 + 100 * i]);
        }
        Self { readers, turn: std::cell::Cell::new(0), _between: between }
    }

    /// The one whose turn it is.
    #[must_use]
    pub fn next(&self) -> &Reader {
        let turn = self.turn.replace(self.turn.get() + 1);
        let mut readers = self.readers.iter().cycle().skip(turn % self.readers.len().max(1));
        match readers.next() {
            Some(Apart(reader)) => reader,
            None => unreachable!("there are eight"),
        }
    }
}
