//! `cpiom-sdram`: the SDRAM controller, with write protection by page and error injection.
//!
//! 64 MiB of RAM and four register regions: `reg`, `raf` and the tables `pcode` and `pdata`, which hold one protection
//! bit for each 8 KiB page (bit 31 of word 0 is page 0). While CTRL0 is set, a write to a page with a bit in either
//! table changes nothing, is an access error to the writer and latches a violation.
//!
//! Protection is not a check on every store: a ROM device over the RAM's own block stands nowhere itself, and each run of
//! protected pages is a window onto it at the same offset, mapped *in* the RAM region and so above it. Reads keep RAM speed,
//! writes reach `Overlay`, and what is not protected is untouched RAM. When a run becomes longer, shorter or two, who
//! answers changes only in the pages that were written about: CPUs keep what they know of the others. An armed INJECT word is likewise an overlay, of the eight aligned bytes around it,
//! with reads going to callbacks, above the protection. Overlays come and go in transactions that look at the
//! registers *inside* the transaction, so the last one to commit always shows the newest state.
//!
//! What must always hold: the overlays are a function of CTRL0, the tables and the armed word; the two lines are
//! `viol` = STATUS0 & CTRL1 and `err` = STATUS1 & CTRL2; a debugger's writes and loaders see plain RAM.
//!
//! It is not a model of SDRAM timing: the refresh divisor only matters when it is 0, and for `info qtree`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};

use flatview::{
    Access, AccessRules, DeviceEndian, MemTxError, MemoryError, MmioOps, Owner, RamBlock, Region, RegionId,
};
use flatview_device::bank::{Banked, Written};
use flatview_device::{
    Bank, DeviceCell, Effects, IrqLine, Log, LogMask, MapHandle, QtreeDevice, Register, RegisterInfo,
    Registers, Reset,
};
use parking_lot::Mutex;

use super::{RULES, row};

/// Bytes of RAM.
pub const RAM_SIZE: u64 = 64 << 20;
/// Bytes that one protection bit covers.
pub const PAGE: u64 = 8 << 10;
/// Pages of RAM.
const PAGES: u64 = RAM_SIZE / PAGE;
/// Words of a table, of 32 pages each.
const WORDS: usize = (PAGES / 32) as usize;
/// Bytes of a register region.
const REGION: u128 = 0x1000;
/// The refresh clock in kHz: 16.6 MHz.
const REFRESH_KHZ: u64 = 16_600;
/// Disarms INJECT when written to it, and is what it reads once disarmed by use.
const DISARMED: u64 = 0xffff_ffff;
/// Bytes of the overlay around an armed word: accesses of up to this size that are aligned see all or none of it.
const INJECT_SPAN: u64 = 8;

/// What stands over protected pages, and the windows onto it.
const PROTECTED: &str = "cpiom-sdram-protected";
/// Priority of protection inside the RAM region, and of the armed word above it.
const PROTECT_PRIORITY: i32 = 1;
const INJECT_PRIORITY: i32 = 2;

const CTRL: usize = 0;
const STATUS: usize = 1;
const VIOL_ADDR: usize = 2;
const VIOL_INFO: usize = 3;
const ERR_ADDR: usize = 4;
const ERR_INFO: usize = 5;
const INJECT: usize = 6;

const CTRL_ENABLE: u64 = 1;
const CTRL_VIOL_IRQ: u64 = 1 << 1;
const CTRL_ERR_IRQ: u64 = 1 << 2;
const CTRL_LOCK: u64 = 1 << 31;
const STATUS_VIOLATION: u64 = 1;
const STATUS_ERROR: u64 = 1 << 1;
const INFO_WRITE: u64 = 1;
const INFO_CODE: u64 = 1 << 1;
const INFO_DATA: u64 = 1 << 2;
const ERR_INJECTED: u64 = 1;
const ERR_REFRESH: u64 = 1 << 1;

/// The registers of `cpiom-sdram-reg`.
static REGISTERS: &[Register<State>] = &[
    Register::new("CTRL", 0x00)
        .writable(CTRL_ENABLE | CTRL_VIOL_IRQ | CTRL_ERR_IRQ | CTRL_LOCK)
        .locked_while(|state: &State| state.registers.get(CTRL) & CTRL_LOCK != 0)
        .on_write(State::control_written),
    Register::new("STATUS", 0x04)
        .write_1_clears(STATUS_VIOLATION | STATUS_ERROR)
        .on_write(State::status_written),
    Register::new("VIOL_ADDR", 0x08),
    Register::new("VIOL_INFO", 0x0c),
    Register::new("ERR_ADDR", 0x10),
    Register::new("ERR_INFO", 0x14),
    Register::new("INJECT", 0x18).writable(0xffff_ffff).on_write(State::inject_written),
];

/// Its registers, by region.
pub(super) fn register_tables() -> Vec<(&'static str, Vec<RegisterInfo>)> {
    let table = |name| vec![row(name, WORDS as u64, 0, 0xffff_ffff)];
    vec![
        ("cpiom-sdram-raf", vec![row("RAF", 1, RAF_RESET, RAF_BITS)]),
        ("cpiom-sdram-reg", REGISTERS.iter().map(Register::info).collect()),
        ("cpiom-sdram-pcode", table("CODE")),
        ("cpiom-sdram-pdata", table("DATA")),
    ]
}

/// The two protection tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Code,
    Data,
}

/// The device.
pub struct Sdram {
    block: Arc<RamBlock>,
    cell: Arc<DeviceCell<State>>,
    viol: IrqLine,
    err: IrqLine,
    map: MapHandle,
    owner: Owner,
    log: Log,
    /// The RAM region, once the board has mapped it, and what stands over it where it is protected.
    ram: OnceLock<(RegionId, RegionId)>,
    overlays: Mutex<Overlays>,
    this: Weak<Sdram>,
}

impl fmt::Debug for Sdram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sdram").field("cell", &self.cell).finish_non_exhaustive()
    }
}

/// What stands above the RAM.
#[derive(Debug, Clone, Default)]
struct Overlays {
    /// Runs of protected pages: first page to (pages, region).
    protected: BTreeMap<u64, (u64, RegionId)>,
    /// The overlay of the armed word: its first byte and region.
    armed: Option<(u64, RegionId)>,
}

/// Words of the tables that were written.
#[derive(Debug, Default)]
struct Touched {
    /// Protection came or went as a whole.
    all: bool,
    words: BTreeSet<u64>,
}

impl Overlays {
    /// The pages to look at when these words were touched: theirs and those of every overlay that stands in or beside
    /// one of them, since it may become longer, shorter, two or nothing. In order, and apart from each other.
    fn spans(&self, touched: &Touched) -> Vec<Range<u64>> {
        if touched.all {
            return std::iter::once(0..PAGES).collect();
        }
        let mut spans: Vec<Range<u64>> = Vec::new();
        for word in touched.words.iter().copied() {
            let mut span = word * 32..(word + 1) * 32;
            // Overlays are apart, so only the last of those that begin before a page can reach it.
            if let Some((first, (pages, _))) = self.protected.range(..span.start).next_back()
                && first + pages >= span.start
            {
                span.start = *first;
            }
            if let Some((first, (pages, _))) = self.protected.range(..=span.end).next_back() {
                span.end = span.end.max(first + pages);
            }
            match spans.last_mut().filter(|before| before.end >= span.start) {
                Some(before) => before.end = before.end.max(span.end),
                None => spans.push(span),
            }
        }
        spans
    }
}

/// How [`Overlays`] become again what they were.
#[derive(Debug, Default)]
struct Undo {
    added: Vec<u64>,
    removed: Vec<(u64, (u64, RegionId))>,
    armed: Option<Option<(u64, RegionId)>>,
}

impl Undo {
    fn apply(self, overlays: &mut Overlays) {
        for first in self.added {
            overlays.protected.remove(&first);
        }
        overlays.protected.extend(self.removed);
        if let Some(armed) = self.armed {
            overlays.armed = armed;
        }
    }
}

/// Registers, tables and what follows from them.
struct State {
    registers: Registers,
    raf: u64,
    code: Vec<u32>,
    data: Vec<u32>,
    /// The armed word's address.
    armed: Option<u64>,
    /// Words of the tables that the map has not followed yet.
    touched: Touched,
    viol: IrqLine,
    err: IrqLine,
    this: Weak<Sdram>,
}

impl Banked for State {
    fn registers(&self) -> &Registers {
        &self.registers
    }
    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.registers
    }
}

/// The refresh divisor after reset: 23.5 µs.
const RAF_RESET: u64 = 0x0186;
/// The bits that the divisor has.
const RAF_BITS: u64 = 0xffff;

impl State {
    fn clear(&mut self) {
        self.registers = Registers::at_reset(REGISTERS);
        self.raf = RAF_RESET;
        self.code.fill(0);
        self.data.fill(0);
        self.armed = None;
        self.touched.all = true;
    }

    fn set(&mut self, register: usize, bits: u64) {
        let value = self.registers.get(register) | bits;
        self.registers.set(register, value);
    }

    fn has(&self, register: usize, bit: u64) -> bool {
        self.registers.get(register) & bit != 0
    }

    /// The lines follow the registers; called after every change.
    fn drive(&self, effects: &mut Effects) {
        effects.line(&self.viol, self.has(STATUS, STATUS_VIOLATION) && self.has(CTRL, CTRL_VIOL_IRQ));
        effects.line(&self.err, self.has(STATUS, STATUS_ERROR) && self.has(CTRL, CTRL_ERR_IRQ));
    }

    /// The map follows the registers.
    fn remap(&self, effects: &mut Effects) {
        let this = self.this.clone();
        effects.call(move || {
            if let Some(device) = this.upgrade() {
                device.remap();
            }
        });
    }

    /// Without refresh the error stays, whatever is cleared.
    fn check_refresh(&mut self) {
        if self.raf == 0 {
            self.set(STATUS, STATUS_ERROR);
            self.set(ERR_INFO, ERR_REFRESH);
        }
    }

    fn control_written(&mut self, effects: &mut Effects, written: Written) {
        if (written.old ^ written.new) & CTRL_ENABLE != 0 {
            self.touched.all = true;
            self.remap(effects);
        }
        self.drive(effects);
    }

    fn status_written(&mut self, effects: &mut Effects, written: Written) {
        if written.value & STATUS_ERROR != 0 {
            self.registers.set(ERR_INFO, 0);
        }
        self.check_refresh();
        self.drive(effects);
    }

    fn inject_written(&mut self, effects: &mut Effects, written: Written) {
        self.armed = None;
        if written.value != DISARMED {
            let word = written.value & !3;
            self.registers.set(INJECT, word);
            self.armed = (word < RAM_SIZE).then_some(word);
        }
        self.remap(effects);
    }

    fn raf_written(&mut self, effects: &mut Effects, value: u64) {
        self.raf = value & RAF_BITS;
        self.check_refresh();
        self.drive(effects);
    }

    fn table(&self, table: Table) -> &[u32] {
        match table {
            Table::Code => &self.code,
            Table::Data => &self.data,
        }
    }

    fn table_written(&mut self, effects: &mut Effects, table: Table, word: usize, value: u32) {
        let words = match table {
            Table::Code => &mut self.code,
            Table::Data => &mut self.data,
        };
        let Some(slot) = words.get_mut(word).filter(|slot| **slot != value) else { return };
        *slot = value;
        if self.has(CTRL, CTRL_ENABLE) {
            self.touched.words.insert(word as u64);
            self.remap(effects);
        }
    }

    fn bit(&self, table: Table, page: u64) -> bool {
        let word = self.table(table).get((page / 32) as usize).copied().unwrap_or(0);
        word >> (31 - page % 32) & 1 != 0
    }

    /// Why a page cannot be written, as VIOL_INFO says it; 0 if it can.
    fn protection(&self, page: u64) -> u64 {
        if !self.has(CTRL, CTRL_ENABLE) {
            return 0;
        }
        let bits = |table, info| if self.bit(table, page) { info } else { 0 };
        bits(Table::Code, INFO_CODE) | bits(Table::Data, INFO_DATA)
    }

    /// The first protected page that a write touches, with why.
    fn refusal(&self, address: u64, size: u64) -> Option<u64> {
        let last = address.saturating_add(size.max(1) - 1);
        (address / PAGE..=last / PAGE).map(|page| self.protection(page)).find(|why| *why != 0)
    }

    /// Notes a refused write; the first one since STATUS0 was cleared stays.
    /// Returns whether this was that one.
    fn violate(&mut self, effects: &mut Effects, address: u64, size: u64, why: u64) -> bool {
        if self.has(STATUS, STATUS_VIOLATION) {
            return false;
        }
        self.registers.set(VIOL_ADDR, address);
        self.registers.set(VIOL_INFO, INFO_WRITE | why | size << 16);
        self.set(STATUS, STATUS_VIOLATION);
        self.drive(effects);
        true
    }

    fn covers_armed(&self, address: u64, size: u64) -> bool {
        self.armed.is_some_and(|word| address < word + 4 && word < address + size)
    }

    fn disarm(&mut self, effects: &mut Effects) {
        self.armed = None;
        self.registers.set(INJECT, DISARMED);
        self.remap(effects);
    }

    /// Runs of protected pages among these pages: first page and number of pages.
    fn runs(&self, pages: Range<u64>) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        if !self.has(CTRL, CTRL_ENABLE) {
            return runs;
        }
        for n in pages.start / 32..pages.end.div_ceil(32) {
            let of = |table: &[u32]| table.get(n as usize).copied().unwrap_or(0);
            let mut page = n * 32;
            // The first page of a word is its highest bit.
            let skipped = pages.start.saturating_sub(page).min(32) as u32;
            let wanted = pages.end.saturating_sub(page).min(32) as u32;
            let from = u32::MAX.checked_shr(skipped).unwrap_or(0);
            let upto = u32::MAX.checked_shr(wanted).unwrap_or(0);
            let mut word = (of(&self.code) | of(&self.data)) & from & !upto;
            // Peel runs of ones off the top.
            while word != 0 {
                let gap = word.leading_zeros();
                word <<= gap;
                let ones = word.leading_ones();
                word = word.checked_shl(ones).unwrap_or(0);
                page += u64::from(gap);
                match runs.last_mut().filter(|(first, pages)| first + pages == page) {
                    Some((_, pages)) => *pages += u64::from(ones),
                    None => runs.push((page, ones.into())),
                }
                page += u64::from(ones);
            }
        }
        runs
    }

    fn protected_pages(&self) -> u64 {
        self.runs(0..PAGES).iter().map(|(_, pages)| pages).sum()
    }
}

/// A place in RAM that writes (and, for an armed word, reads) go through.
struct Overlay {
    device: Weak<Sdram>,
    /// Its first byte in RAM.
    start: u64,
}

/// A block that cannot be the controller's RAM.
#[derive(Debug, thiserror::Error)]
#[error(
    "RAM block '{block}' of {have:#x} bytes cannot be the SDRAM, which has {RAM_SIZE:#x} bytes and is written"
)]
pub struct SdramError {
    /// The block.
    pub block: String,
    /// Its size in bytes.
    pub have: u64,
}

impl Sdram {
    /// The controller with its RAM, a block of [`RAM_SIZE`] bytes that can be written.
    ///
    /// # Errors
    /// [`SdramError`] if the block is another.
    pub fn new(
        owner: &Owner,
        block: Arc<RamBlock>,
        map: &MapHandle,
        log: &Log,
    ) -> Result<Arc<Sdram>, SdramError> {
        if block.size() != RAM_SIZE || !block.is_writable() {
            return Err(SdramError { block: block.name().to_owned(), have: block.size() });
        }
        let (viol, err) = (IrqLine::new("cpiom-sdram.viol"), IrqLine::new("cpiom-sdram.err"));
        Ok(Arc::new_cyclic(|this: &Weak<Sdram>| Sdram {
            block,
            cell: Arc::new(DeviceCell::new(State {
                registers: Registers::at_reset(REGISTERS),
                raf: RAF_RESET,
                code: vec![0; WORDS],
                data: vec![0; WORDS],
                armed: None,
                touched: Touched::default(),
                viol: viol.clone(),
                err: err.clone(),
                this: this.clone(),
            })),
            viol,
            err,
            map: map.clone(),
            owner: owner.clone(),
            log: log.clone(),
            ram: OnceLock::new(),
            overlays: Mutex::new(Overlays::default()),
            this: this.clone(),
        }))
    }

    /// The RAM as a region. Its id goes back to the device with [`Sdram::set_ram`] once it is added.
    pub fn ram_region(&self) -> Region {
        Region::ram("cpiom-sdram", self.block.clone()).owner(&self.owner)
    }

    /// Tells the device which region its RAM is; later calls do nothing.
    ///
    /// # Errors
    /// What adding a region gives.
    pub fn set_ram(&self, ram: RegionId) -> Result<(), MemoryError> {
        let Some(memory) = self.map.memory() else { return Ok(()) };
        let shadow = memory.add(self.overlay(PROTECTED, 0, RAM_SIZE))?;
        let _ = self.ram.set((ram, shadow));
        Ok(())
    }

    /// The control registers.
    pub fn register_region(&self) -> Region {
        let bank = Bank::new("cpiom-sdram", &self.cell, REGISTERS, RULES, &self.log);
        Region::io("cpiom-sdram-reg", REGION, bank).owner(&self.owner)
    }

    /// The refresh divisor, one word.
    pub fn refresh_region(&self) -> Region {
        Region::io("cpiom-sdram-raf", 4, Refresh(self.cell.clone())).owner(&self.owner)
    }

    /// The table of protected code pages.
    pub fn code_region(&self) -> Region {
        Region::io("cpiom-sdram-pcode", REGION, Protection(self.cell.clone(), Table::Code)).owner(&self.owner)
    }

    /// The table of protected data pages.
    pub fn data_region(&self) -> Region {
        Region::io("cpiom-sdram-pdata", REGION, Protection(self.cell.clone(), Table::Data)).owner(&self.owner)
    }

    /// High while a violation is latched and its interrupt enabled.
    pub fn viol(&self) -> &IrqLine {
        &self.viol
    }

    /// High while an error is latched and its interrupt enabled.
    pub fn err(&self) -> &IrqLine {
        &self.err
    }

    /// The entry in `info qtree`; the board adds where the regions stand.
    pub fn qtree(&self) -> QtreeDevice {
        let (raf, control, pages) =
            self.cell.peek(|state| (state.raf, state.registers.get(CTRL), state.protected_pages()));
        let period = if raf == 0 {
            "none (refresh stopped)".to_owned()
        } else {
            // Nanoseconds, rounded, shown as microseconds.
            let ns = (raf * 1_000_000 + REFRESH_KHZ / 2) / REFRESH_KHZ;
            format!("{}.{:03} us", ns / 1000, ns % 1000)
        };
        QtreeDevice::new("cpiom-sdram")
            .gpio_out("viol", 1)
            .gpio_out("err", 1)
            .number("size", RAM_SIZE)
            .number("raf", raf)
            .text("refresh-period", &period)
            .flag("locked", control & CTRL_LOCK != 0)
            .number("protected-pages", pages)
    }

    /// Makes the overlays what the registers say. Idempotent, and safe from any thread: the registers are read inside
    /// the transaction, and transactions are one after the other. It costs what was touched, not what is protected.
    fn remap(&self) {
        let Some((ram, shadow)) = self.ram.get().copied() else { return };
        let mut followed = Touched::default();
        // What is written inside the transaction, the next one finds; what fails is put back.
        let mut undo = Undo::default();
        let changed = self.map.update(|t| {
            let mut now = self.overlays.lock();
            let (runs, armed) = self.cell.with(|state, _| {
                followed = std::mem::take(&mut state.touched);
                let spans = now.spans(&followed);
                let runs = spans.into_iter().map(|pages| (pages.clone(), state.runs(pages)));
                (runs.collect::<Vec<_>>(), state.armed)
            });
            for (pages, wanted) in runs {
                let wanted: BTreeMap<u64, u64> = wanted.into_iter().collect();
                let stale: Vec<(u64, (u64, RegionId))> = now
                    .protected
                    .range(pages)
                    .filter(|(first, (pages, _))| wanted.get(*first) != Some(pages))
                    .map(|(first, overlay)| (*first, *overlay))
                    .collect();
                for (first, overlay) in stale {
                    t.unmap(ram, overlay.1)?;
                    t.remove(overlay.1)?;
                    now.protected.remove(&first);
                    undo.removed.push((first, overlay));
                }
                for (first, pages) in wanted {
                    if now.protected.contains_key(&first) {
                        continue;
                    }
                    let start = first * PAGE;
                    let window = Region::alias(PROTECTED, shadow, start, u128::from(pages * PAGE));
                    let region = t.add(window.owner(&self.owner))?;
                    t.map_overlap(ram, start, region, PROTECT_PRIORITY)?;
                    now.protected.insert(first, (pages, region));
                    undo.added.push(first);
                }
            }
            let armed = armed.map(|word| word & !(INJECT_SPAN - 1));
            if now.armed.map(|(start, _)| start) != armed {
                undo.armed = Some(now.armed);
                if let Some((_, region)) = now.armed.take() {
                    t.unmap(ram, region)?;
                    t.remove(region)?;
                }
                if let Some(start) = armed {
                    let region = t.add(self.overlay("cpiom-sdram-inject", start, INJECT_SPAN))?;
                    t.set_romd(region, false)?;
                    t.map_overlap(ram, start, region, INJECT_PRIORITY)?;
                    now.armed = Some((start, region));
                }
            }
            Ok(())
        });
        if !changed {
            undo.apply(&mut self.overlays.lock());
            self.cell.with(|state, _| {
                state.touched.all |= followed.all;
                state.touched.words.extend(followed.words);
            });
        }
    }

    fn overlay(&self, name: &str, start: u64, size: u64) -> Region {
        let ops = Overlay { device: self.this.clone(), start };
        Region::rom_device(name, self.block.clone(), ops).window(start, size).owner(&self.owner)
    }

    /// Bytes of RAM as a big-endian value; what cannot be read (it always can) is 0.
    fn load(&self, address: u64, size: usize) -> u64 {
        let mut bytes = [0_u8; 8];
        let read =
            bytes.get_mut(8 - size.min(8)..).is_some_and(|bytes| self.block.read(address, bytes).is_ok());
        if read { u64::from_be_bytes(bytes) } else { 0 }
    }
}

impl Reset for Sdram {
    /// Registers and tables to their first values, lines low, no overlay. RAM keeps its contents.
    fn reset(&self) {
        self.cell.with(|state, effects| {
            state.clear();
            state.drive(effects);
            state.remap(effects);
        });
    }
}

impl MmioOps for Overlay {
    fn rules(&self) -> AccessRules {
        AccessRules::new()
            .endian(DeviceEndian::Big)
            .valid(1, 8)
            .valid_unaligned()
            .implemented(1, 8)
            .implemented_unaligned()
    }

    /// Only the armed word's overlay is read through.
    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let device = self.device.upgrade().ok_or(MemTxError::error())?;
        let (address, size) = (self.start + access.offset(), u64::from(access.size()));
        let injected = device.cell.with(|state, effects| {
            if !state.covers_armed(address, size) {
                return false;
            }
            let word = state.armed.unwrap_or(address);
            state.set(STATUS, STATUS_ERROR);
            state.set(ERR_INFO, ERR_INJECTED);
            state.registers.set(ERR_ADDR, word);
            state.drive(effects);
            state.disarm(effects);
            true
        });
        if injected { Err(MemTxError::access()) } else { Ok(device.load(address, size as usize)) }
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let device = self.device.upgrade().ok_or(MemTxError::error())?;
        let (address, size) = (self.start + access.offset(), u64::from(access.size()));
        let refused = device.cell.with(|state, effects| match state.refusal(address, size) {
            Some(why) => Some(state.violate(effects, address, size, why)),
            None => {
                if state.covers_armed(address, size) {
                    state.disarm(effects);
                }
                None
            }
        });
        if let Some(latched) = refused {
            // A long write to a protected page is refused many times; one line tells it.
            if latched {
                device.log.line(
                    LogMask::GUEST_ERRORS,
                    format_args!("cpiom-sdram: write of {size} bytes to protected address {address:#x}"),
                );
            }
            return Err(MemTxError::access());
        }
        // The page is not protected (any more): the store goes to the RAM it was meant for.
        let bytes = value.to_be_bytes();
        let bytes = bytes.get(8 - size.min(8) as usize..).unwrap_or_default();
        device.block.write(address, bytes).map_err(|_| MemTxError::error())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        let device = self.device.upgrade()?;
        Some(device.load(self.start.checked_add(offset)?, size as usize))
    }
}

/// `cpiom-sdram-raf`: bits 15–0 are the refresh divisor.
struct Refresh(Arc<DeviceCell<State>>);

impl MmioOps for Refresh {
    fn rules(&self) -> AccessRules {
        RULES
    }
    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.peek(|state| state.raf))
    }
    fn write(&self, _access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.with(|state, effects| state.raf_written(effects, value));
        Ok(())
    }
    fn peek(&self, _offset: u64, _size: u32) -> Option<u64> {
        Some(self.0.peek(|state| state.raf))
    }
}

/// A protection table: words in the first 0x400 bytes; the rest reads 0 and ignores writes.
struct Protection(Arc<DeviceCell<State>>, Table);

impl Protection {
    fn word(&self, offset: u64) -> u64 {
        let word = usize::try_from(offset / 4).unwrap_or(usize::MAX);
        self.0.peek(|state| state.table(self.1).get(word).copied().unwrap_or(0).into())
    }
}

impl MmioOps for Protection {
    fn rules(&self) -> AccessRules {
        RULES
    }
    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.word(access.offset()))
    }
    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let word = usize::try_from(access.offset() / 4).unwrap_or(usize::MAX);
        self.0.with(|state, effects| state.table_written(effects, self.1, word, value as u32));
        Ok(())
    }
    fn peek(&self, offset: u64, _size: u32) -> Option<u64> {
        Some(self.word(offset))
    }
}
