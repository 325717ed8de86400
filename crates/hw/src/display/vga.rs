//! The registers by which a VGA card shows its memory to the CPU.
//!
//! In chain-4 mode, and in the linear modes of the Bochs display interface ("VBE"), the card's memory stands in the old VGA
//! window in place of the planes: a guest moves regions with the sequencer (ports 0x3c4 and 0x3c5), the graphics
//! controller (0x3ce and 0x3cf) and VBE (0x1ce and 0x1d0). These are here. It is not a display: there is no picture, and every
//! other register reads 0 and ignores writes, which is logged. What must always hold: what is mapped is a function of the
//! registers as they were when one of those that place the window was last written. (IBM VGA technical reference, "Sequencer"
//! and "Graphics controller"; Bochs' VBE display extensions.)

use std::sync::{Arc, Weak};

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region, RegionId};
use flatview_device::portio::{BytePorts, PortRange};
use flatview_device::{DeviceCell, Effects, Log, LogMask, MapHandle, Reset};
use parking_lot::Mutex;

/// The first of the sixteen ports, and how many there are.
pub const PORTS: (u16, u16) = (0x3c0, 16);
/// The first of VBE's ports.
pub const VBE_PORT: u16 = 0x1ce;
const SEQUENCER_INDEX: u16 = 0x3c4;
const SEQUENCER_DATA: u16 = 0x3c5;
const GRAPHICS_INDEX: u16 = 0x3ce;
const GRAPHICS_DATA: u16 = 0x3cf;

/// Bits that can be written.
const SEQUENCER: [u8; 8] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0xff];
const GRAPHICS: [u8; 16] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0];
/// Sequencer, registers 2 and 4: a write reaches all planes, and the address chooses its plane.
const ALL_PLANES: u8 = 0x0f;
const CHAIN_4: u8 = 0x08;
/// Graphics controller: 256 colours, and where the window stands.
const MODE: usize = 5;
const MISCELLANEOUS: usize = 6;

const VBE_ID: usize = 0;
const VBE_BITS: usize = 3;
const VBE_ENABLE: usize = 4;
const VBE_BANK: usize = 5;
/// In units of 64 KiB.
const VBE_MEMORY: usize = 10;
const IDENTIFICATIONS: std::ops::RangeInclusive<u16> = 0xb0c0..=0xb0c5;
const ENABLED: u16 = 1;
const BANK: u64 = 0x1_0000;

/// Where the window onto the memory stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// In the bus's memory.
    base: u64,
    size: u64,
    /// Of the card's memory.
    offset: u64,
}

#[derive(Debug)]
struct State {
    sequencer_index: u8,
    sequencer: [u8; 8],
    graphics_index: u8,
    graphics: [u8; 16],
    vbe_index: u16,
    vbe: [u16; 11],
    /// VBE was in a mode with a byte for a pixel or more.
    linear: bool,
    /// The first byte of the bank that is shown.
    bank: u64,
    shown: Option<Window>,
    this: Weak<VgaRegisters>,
}

impl State {
    /// For a card with so many bytes.
    fn at_reset(memory: u64, this: Weak<VgaRegisters>) -> State {
        let mut vbe = [0; 11];
        for (register, value) in vbe.iter_mut().enumerate() {
            *value = match register {
                VBE_ID => *IDENTIFICATIONS.end(),
                VBE_MEMORY => (memory / BANK) as u16,
                _ => 0,
            };
        }
        State {
            sequencer_index: 0,
            sequencer: [0; 8],
            graphics_index: 0,
            graphics: [0; 16],
            vbe_index: 0,
            vbe,
            linear: false,
            bank: 0,
            shown: None,
            this,
        }
    }

    fn vbe(&self, register: usize) -> u16 {
        self.vbe.get(register).copied().unwrap_or(0)
    }

    fn is_on(&self) -> bool {
        self.vbe(VBE_ENABLE) & ENABLED != 0
    }

    fn window(&self) -> Option<Window> {
        let [_, _, map_mask, _, memory_mode, ..] = self.sequencer;
        let chained = map_mask & ALL_PLANES == ALL_PLANES && memory_mode & CHAIN_4 != 0;
        if !(if self.is_on() { self.linear } else { chained }) {
            return None;
        }
        let place = self.graphics.get(MISCELLANEOUS).map_or(0, |misc| misc >> 2 & 3);
        let (base, size, offset) = match place {
            0 => (0xa_0000, 0x2_0000, 0),
            // The only one with banks.
            1 => (0xa_0000, BANK, self.bank),
            2 => (0xb_0000, 0x8000, 0),
            _ => (0xb_8000, 0x8000, 0),
        };
        Some(Window { base, size, offset })
    }

    /// The window follows the registers.
    fn place(&mut self, effects: &mut Effects) {
        let window = self.window();
        if window != self.shown {
            self.shown = window;
            let this = self.this.clone();
            effects.call(move || {
                if let Some(device) = this.upgrade() {
                    device.remap();
                }
            });
        }
    }

    /// While VBE is on, registers of the VGA are what its mode wants.
    fn follow_mode(&mut self) {
        if !self.is_on() {
            return;
        }
        if let Some(bits) =
            self.vbe.get_mut(VBE_BITS).filter(|bits| !matches!(bits, 4 | 8 | 15 | 16 | 24 | 32))
        {
            *bits = 8;
        }
        let planar = self.vbe(VBE_BITS) == 4;
        self.linear |= !planar;
        if let Some(mode) = self.graphics.get_mut(MODE) {
            *mode = *mode & !0x60 | if planar { 0 } else { 0x40 };
        }
        if let Some(misc) = self.graphics.get_mut(MISCELLANEOUS) {
            // 64 KiB at a0000, no text.
            *misc = *misc & !0x0c | 0x05;
        }
    }

    fn vbe_written(&mut self, effects: &mut Effects, register: usize, value: u16, banks: u64) {
        let before = self.vbe(register);
        let kept = match register {
            VBE_ID if !IDENTIFICATIONS.contains(&value) => before,
            VBE_BANK => (u64::from(value) & (banks - 1)) as u16,
            // The height of the whole picture follows from its width, and the memory is what it is.
            7 | VBE_MEMORY => before,
            _ => value,
        };
        let Some(slot) = self.vbe.get_mut(register) else { return };
        *slot = kept;
        match register {
            VBE_ENABLE => {
                if !(kept & ENABLED != 0 && before & ENABLED == 0) {
                    self.bank = 0;
                }
                self.follow_mode();
                self.place(effects);
            }
            VBE_BANK => {
                self.bank = u64::from(kept) * BANK;
                self.place(effects);
            }
            _ => self.follow_mode(),
        }
    }

    fn byte(&self, port: u16) -> Option<u8> {
        let at = |registers: &[u8], index: u8| registers.get(usize::from(index)).copied().unwrap_or(0);
        match port {
            SEQUENCER_INDEX => Some(self.sequencer_index),
            SEQUENCER_DATA => Some(at(&self.sequencer, self.sequencer_index)),
            GRAPHICS_INDEX => Some(self.graphics_index),
            GRAPHICS_DATA => Some(at(&self.graphics, self.graphics_index)),
            _ => None,
        }
    }
}

/// The registers.
#[derive(Debug)]
pub struct VgaRegisters {
    /// The card's memory as a region, and its size in bytes.
    memory: (RegionId, u64),
    /// The container of the bus's memory.
    bus: RegionId,
    map: MapHandle,
    owner: Owner,
    log: Log,
    cell: DeviceCell<State>,
    /// What is mapped.
    mapped: Mutex<Option<(Window, RegionId)>>,
}

impl VgaRegisters {
    /// Registers of a card with this memory, a region of so many bytes (a power of two, 64 KiB at least), which it shows
    /// in the bus's memory.
    pub fn new(
        memory: (RegionId, u64),
        bus: RegionId,
        map: &MapHandle,
        owner: &Owner,
        log: &Log,
    ) -> Arc<VgaRegisters> {
        Arc::new_cyclic(|this: &Weak<VgaRegisters>| VgaRegisters {
            memory,
            bus,
            map: map.clone(),
            owner: owner.clone(),
            log: log.clone(),
            cell: DeviceCell::new(State::at_reset(memory.1, this.clone())),
            mapped: Mutex::default(),
        })
    }

    /// The sixteen ports from 0x3c0 on.
    pub fn port_region(self: &Arc<Self>) -> Region {
        let (base, length) = PORTS;
        Region::io("vga", length.into(), PortRange::new(self, base, length)).owner(&self.owner)
    }

    /// VBE's ports from 0x1ce on.
    pub fn vbe_region(self: &Arc<Self>) -> Region {
        Region::io("vbe", 4, VbePorts(self.clone())).owner(&self.owner)
    }

    /// The ports in memory: 32 bytes, of which the first is port 0x3c0.
    pub fn remapped_region(self: &Arc<Self>) -> Region {
        Region::io("vga ioports remapped", 0x20, Remapped(self.clone())).owner(&self.owner)
    }

    /// VBE's registers in memory, one behind the other.
    pub fn dispi_region(self: &Arc<Self>) -> Region {
        Region::io("bochs dispi interface", 0x16, Dispi(self.clone())).owner(&self.owner)
    }

    /// Makes the map what the registers say.
    fn remap(&self) {
        let mut before = None;
        let changed = self.map.update(|t| {
            let wanted = self.cell.peek(|state| state.shown);
            let mut mapped = self.mapped.lock();
            before = Some(*mapped);
            if mapped.map(|(window, _)| window) == wanted {
                return Ok(());
            }
            if let Some((_, region)) = mapped.take() {
                t.unmap(self.bus, region)?;
                t.remove(region)?;
            }
            if let Some(window) = wanted {
                let alias = Region::alias("vga.chain4", self.memory.0, window.offset, window.size.into());
                let region = t.add(alias.owner(&self.owner))?;
                // Over the window onto the planes.
                t.map_overlap(self.bus, window.base, region, 2)?;
                *mapped = Some((window, region));
            }
            Ok(())
        });
        if let (false, Some(before)) = (changed, before) {
            *self.mapped.lock() = before;
        }
    }

    fn missing(&self, what: &str, port: u16) {
        self.log
            .line(LogMask::UNIMP, format_args!("vga: {what} port {port:#x}, whose register is not modelled"));
    }

    fn vbe_read(&self, register: u16) -> u16 {
        self.cell.peek(|state| state.vbe(register.into()))
    }

    fn vbe_write(&self, register: Option<u16>, value: u16) {
        let banks = self.memory.1 / BANK;
        self.cell.with(|state, effects| {
            let register = register.unwrap_or(state.vbe_index);
            state.vbe_written(effects, register.into(), value, banks);
        });
    }
}

impl Reset for VgaRegisters {
    fn reset(&self) {
        let memory = self.memory.1;
        self.cell.with(|state, effects| {
            let shown = state.shown;
            *state = State { shown, ..State::at_reset(memory, state.this.clone()) };
            state.place(effects);
        });
    }
}

impl BytePorts for VgaRegisters {
    fn read(&self, port: u16) -> u8 {
        self.cell.peek(|state| state.byte(port)).unwrap_or_else(|| {
            self.missing("read of", port);
            0
        })
    }

    fn write(&self, port: u16, value: u8) {
        let known = self.cell.with(|state, effects| {
            match port {
                SEQUENCER_INDEX => state.sequencer_index = value & 7,
                GRAPHICS_INDEX => state.graphics_index = value & 15,
                SEQUENCER_DATA => {
                    let at = usize::from(state.sequencer_index);
                    if let (Some(slot), Some(mask)) = (state.sequencer.get_mut(at), SEQUENCER.get(at)) {
                        *slot = value & mask;
                    }
                    state.follow_mode();
                    state.place(effects);
                }
                GRAPHICS_DATA => {
                    let at = usize::from(state.graphics_index);
                    if let (Some(slot), Some(mask)) = (state.graphics.get_mut(at), GRAPHICS.get(at)) {
                        *slot = value & mask;
                    }
                    state.follow_mode();
                    state.place(effects);
                }
                _ => return false,
            }
            true
        });
        if !known {
            self.missing("write to", port);
        }
    }

    fn peek(&self, port: u16) -> Option<u8> {
        self.cell.peek(|state| state.byte(port))
    }
}

/// VBE's ports: words, the index at the first one, the data at the third one, and for PCs at the second one.
struct VbePorts(Arc<VgaRegisters>);

impl VbePorts {
    fn word(&self, offset: u64) -> u16 {
        match offset {
            0 => self.0.cell.peek(|state| state.vbe_index),
            1 | 2 => self.0.cell.peek(|state| state.vbe(state.vbe_index.into())),
            _ => u16::MAX,
        }
    }

    fn value(&self, offset: u64, size: u32) -> u64 {
        match size {
            1 => 0xff,
            2 => self.word(offset).into(),
            _ => u64::from(self.word(offset)) | u64::from(self.word(offset + 2)) << 16,
        }
    }

    fn put(&self, offset: u64, value: u16) {
        match offset {
            0 => self.0.cell.with(|state, _| state.vbe_index = value),
            1 | 2 => self.0.vbe_write(None, value),
            _ => {}
        }
    }
}

impl MmioOps for VbePorts {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid_unaligned().implemented_unaligned()
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.value(access.offset(), access.size()))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        if access.size() > 1 {
            self.put(access.offset(), value as u16);
        }
        if access.size() > 2 {
            self.put(access.offset() + 2, (value >> 16) as u16);
        }
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        Some(self.value(offset, size))
    }
}

/// The ports in memory, a byte each.
struct Remapped(Arc<VgaRegisters>);

impl Remapped {
    fn port(offset: u64) -> u16 {
        PORTS.0 + (offset & 0x1f) as u16
    }
}

impl MmioOps for Remapped {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid(1, 4).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(BytePorts::read(&*self.0, Self::port(access.offset())).into())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        BytePorts::write(&*self.0, Self::port(access.offset()), value as u8);
        Ok(())
    }

    fn peek(&self, offset: u64, _size: u32) -> Option<u64> {
        BytePorts::peek(&*self.0, Self::port(offset)).map(u64::from)
    }
}

/// VBE's registers in memory, a word each.
struct Dispi(Arc<VgaRegisters>);

impl MmioOps for Dispi {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid(1, 4).implemented(2, 2)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.vbe_read((access.offset() >> 1) as u16).into())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.vbe_write(Some((access.offset() >> 1) as u16), value as u16);
        Ok(())
    }

    fn peek(&self, offset: u64, _size: u32) -> Option<u64> {
        Some(self.0.vbe_read((offset >> 1) as u16).into())
    }
}
