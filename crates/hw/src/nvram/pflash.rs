//! `cfi.pflash01`: parallel NOR flash with Intel's command set.
//!
//! While it is an array it is read at RAM speed; the first command switches the region's ROM mode off, so that reads
//! come here for status, identification or the CFI table, and "read array" switches it on again. Erasing waits for its
//! confirmation and programming only clears bits, as the data sheet says (QEMU 7.2 erases at once and overwrites).
//! Operations take no time: the status register always says ready. Block locks are taken note of and not kept. What
//! must always hold: ROM mode is on exactly while the chip is an array. (Intel 28F128J3 data sheet; JEDEC JESD68 for the
//! table.)

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use flatview::{
    Access, AccessRules, DeviceEndian, Endianness, MemTxError, MmioOps, Owner, RamBlock, Region, RegionId,
};
use flatview_device::{DeviceCell, Effects, Log, LogMask, MapHandle, QtreeDevice, Reset};

/// Ready, no error.
const READY: u64 = 0x80;
/// Bytes of the write buffer, as a power of two in the CFI table.
const BUFFER_LOG2: u8 = 11;
/// Bytes of the CFI table.
const CFI_LENGTH: usize = 0x52;

/// What the chip gives when read, and what it takes next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Array,
    Status,
    Identification,
    Table,
    /// An erase of the block at this offset waits for its confirmation.
    Erase(u64),
    /// The next write is data.
    Program,
    /// The next write says what to do with block locks.
    Lock,
    /// The next write is the number of words, less one.
    Count,
    /// This many words are still to come.
    Fill(u64),
    /// All words are there and wait for their confirmation.
    Confirm,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Words of the write buffer: offset and bytes.
    buffer: Vec<(u64, Vec<u8>)>,
}

/// The flash.
pub struct Pflash {
    name: &'static str,
    block: Arc<RamBlock>,
    sector: u64,
    /// Bytes of a word: two 16-bit chips side by side make 4.
    width: u32,
    /// Of the words.
    order: Endianness,
    cell: DeviceCell<State>,
    map: MapHandle,
    region: OnceLock<RegionId>,
    log: Log,
    this: Weak<Pflash>,
}

impl fmt::Debug for Pflash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pflash").field("name", &self.name).field("cell", &self.cell).finish_non_exhaustive()
    }
}

impl Pflash {
    /// Flash with the block's size and contents, in sectors of `sector` bytes (a power of two of at least 256) and words
    /// of `width` bytes in this byte order.
    pub fn new(
        name: &'static str,
        block: Arc<RamBlock>,
        sector: u64,
        width: u32,
        order: Endianness,
        map: &MapHandle,
        log: &Log,
    ) -> Arc<Pflash> {
        Arc::new_cyclic(|this: &Weak<Pflash>| Pflash {
            name,
            block,
            sector: sector.max(256),
            width,
            order,
            cell: DeviceCell::new(State { mode: Mode::Array, buffer: Vec::new() }),
            map: map.clone(),
            region: OnceLock::new(),
            log: log.clone(),
            this: this.clone(),
        })
    }

    /// The region; its id goes back with [`Pflash::set_region`] once it is added.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::rom_device(self.name, self.block.clone(), Port(self.clone())).owner(owner)
    }

    /// Tells the flash which region it is; later calls do nothing.
    pub fn set_region(&self, region: RegionId) {
        let _ = self.region.set(region);
    }

    /// The entry in `info qtree`, with the address the flash stands at.
    pub fn qtree(&self, address: u64) -> QtreeDevice {
        let size = self.block.size();
        QtreeDevice::new("cfi.pflash01")
            .text("drive", "pflash0")
            .number("num-blocks", size / self.sector)
            .number("sector-length", self.sector)
            .number("width", self.width.into())
            .flag("big-endian", self.order == Endianness::Big)
            .text("name", self.name)
            .line(format!("mmio {address:016x}/{size:016x}"))
    }

    /// Makes the region's ROM mode what the state says, read inside the transaction.
    fn follow(&self) {
        if let Some(region) = self.region.get() {
            self.map.update(|t| t.set_romd(*region, self.cell.peek(|state| state.mode == Mode::Array)));
        }
    }

    fn change(&self, f: impl FnOnce(&mut State, &mut Effects)) {
        self.cell.with(|state, effects| {
            let was = state.mode == Mode::Array;
            f(state, effects);
            if was != (state.mode == Mode::Array) {
                let this = self.this.clone();
                effects.call(move || {
                    if let Some(flash) = this.upgrade() {
                        flash.follow();
                    }
                });
            }
        });
    }

    /// Clears bits: flash cannot set them but by erasing.
    fn program(&self, offset: u64, data: &[u8]) {
        let mut bytes = vec![0; data.len()];
        if self.block.read(offset, &mut bytes).is_ok() {
            bytes.iter_mut().zip(data).for_each(|(byte, data)| *byte &= data);
            let _ = self.block.write(offset, &bytes);
        }
    }

    fn erase(&self, offset: u64) {
        let start = offset - offset % self.sector;
        let length = self.sector.min(self.block.size().saturating_sub(start));
        let ones = vec![0xff; usize::try_from(length).unwrap_or(0)];
        let _ = self.block.write(start, &ones);
    }

    /// A byte of the CFI table.
    fn table(&self, at: u64) -> u8 {
        let size = self.block.size();
        let last_block = (size / self.sector).saturating_sub(1);
        let pages = self.sector / 256;
        let mut table = [0_u8; CFI_LENGTH];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(slot) = table.get_mut(at..at + bytes.len()) {
                slot.copy_from_slice(bytes);
            }
        };
        put(0x10, b"QRY");
        // Intel's command set, whose own table begins at 0x31.
        put(0x13, &[1, 0, 0x31, 0]);
        // Supply voltages; typical and greatest times.
        put(0x1b, &[0x45, 0x55, 0, 0, 7, 7, 0x0a, 0, 4, 4, 4, 0]);
        put(0x27, &[size.max(1).ilog2() as u8, 2, 0, BUFFER_LOG2, 0]);
        // One region of equal blocks: their number less one, and their size in 256 bytes.
        let (number, size) = ((last_block as u16).to_le_bytes(), (pages as u16).to_le_bytes());
        put(0x2c, &[1]);
        put(0x2d, &number);
        put(0x2f, &size);
        put(0x31, b"PRI10");
        put(0x3f, &[1]);
        usize::try_from(at).ok().and_then(|at| table.get(at)).copied().unwrap_or(0)
    }

    /// The status of each chip that an access of this size reads.
    fn status(&self, size: u32) -> u64 {
        if self.width == 4 && size == 4 { READY << 16 | READY } else { READY }
    }

    fn read(&self, offset: u64, size: u32) -> u64 {
        let mode = self.cell.peek(|state| state.mode.clone());
        match mode {
            // A write on another thread may just have ended the array's absence.
            Mode::Array => {
                let mut bytes = [0_u8; 8];
                let length = size.min(8) as usize;
                let place = match self.order {
                    Endianness::Big => bytes.get_mut(8 - length..),
                    Endianness::Little => bytes.get_mut(..length),
                };
                match (place.is_some_and(|place| self.block.read(offset, place).is_ok()), self.order) {
                    (true, Endianness::Big) => u64::from_be_bytes(bytes),
                    (true, Endianness::Little) => u64::from_le_bytes(bytes),
                    (false, _) => 0,
                }
            }
            Mode::Identification => 0,
            Mode::Table => self.table(offset / u64::from(self.width)).into(),
            _ => self.status(size),
        }
    }

    fn write(&self, offset: u64, size: u32, value: u64) {
        let length = size.min(8) as usize;
        let (big, little) = (value.to_be_bytes(), value.to_le_bytes());
        let bytes = match self.order {
            Endianness::Big => big.get(8 - length..),
            Endianness::Little => little.get(..length),
        };
        let bytes = bytes.unwrap_or_default().to_vec();
        let command = value as u8;
        self.change(|state, _| {
            let mode = std::mem::replace(&mut state.mode, Mode::Status);
            match (mode, command) {
                (Mode::Erase(block), 0xd0) => self.erase(block),
                (Mode::Program, _) => self.program(offset, &bytes),
                // Locks: set, clear. They are not kept.
                (Mode::Lock, 0x01 | 0xd0) => {}
                (Mode::Count, _) => {
                    state.buffer.clear();
                    let words = (value & 0xffff) + 1;
                    let fits = words.saturating_mul(self.width.into()) <= 1 << BUFFER_LOG2;
                    state.mode = if fits { Mode::Fill(words) } else { Mode::Status };
                }
                (Mode::Fill(left), _) => {
                    state.buffer.push((offset, bytes));
                    state.mode = if left > 1 { Mode::Fill(left - 1) } else { Mode::Confirm };
                }
                (Mode::Confirm, 0xd0) => {
                    for (offset, bytes) in std::mem::take(&mut state.buffer) {
                        self.program(offset, &bytes);
                    }
                }
                // A sequence that breaks off leaves the array, unchanged.
                (Mode::Erase(_) | Mode::Lock | Mode::Confirm, _) => state.mode = Mode::Array,
                (_, command) => state.mode = self.command(offset, command),
            }
        });
    }

    fn command(&self, offset: u64, command: u8) -> Mode {
        match command {
            0x10 | 0x40 => Mode::Program,
            0x20 => Mode::Erase(offset),
            0x60 => Mode::Lock,
            0x70 => Mode::Status,
            0x90 => Mode::Identification,
            0x98 => Mode::Table,
            0xe8 => Mode::Count,
            // Read array; clear status, which never has anything to clear.
            0x00 | 0x50 | 0xf0 | 0xff => Mode::Array,
            other => {
                self.log.line(
                    LogMask::UNIMP,
                    format_args!("{}: command {other:#04x} at {offset:#x} is not modelled", self.name),
                );
                Mode::Array
            }
        }
    }
}

impl Reset for Pflash {
    fn reset(&self) {
        self.change(|state, _| *state = State { mode: Mode::Array, buffer: Vec::new() });
    }
}

struct Port(Arc<Pflash>);

impl MmioOps for Port {
    fn rules(&self) -> AccessRules {
        let endian = match self.0.order {
            Endianness::Big => DeviceEndian::Big,
            Endianness::Little => DeviceEndian::Little,
        };
        AccessRules::new().endian(endian).implemented(1, 4)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.read(access.offset(), access.size()))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.write(access.offset(), access.size(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flatview::{Be, Le, Memory, Reader};

    use super::*;

    /// 4 MiB with QEMU malta's geometry, so that what QEMU 7.2 answered there can be compared.
    fn flash() -> (Memory, Reader, Arc<Pflash>) {
        flash_of(Endianness::Big)
    }

    fn flash_of(order: Endianness) -> (Memory, Reader, Arc<Pflash>) {
        let memory = Memory::new(order);
        let block = RamBlock::anonymous("flash", 4 << 20).unwrap();
        let contents: Vec<u8> = (0..4_usize << 20).map(|n| (n * 7 + 3) as u8).collect();
        block.write(0, &contents).unwrap();
        let map = MapHandle::new(&memory, &Log::none());
        let flash = Pflash::new("flash", block, 0x1_0000, 4, order, &map, &Log::none());
        let region = memory.add(flash.region(&Owner::device("/flash"))).unwrap();
        memory.map(memory.system(), 0, region).unwrap();
        flash.set_region(region);
        let reader = memory.memory_space().reader();
        (memory, reader, flash)
    }

    fn words(reader: &Reader, writes: &[(u64, u32)]) {
        writes.iter().for_each(|(at, value)| reader.store::<Be, u32>(*at, *value).unwrap());
    }

    fn word(reader: &Reader, at: u64) -> u32 {
        reader.load::<Be, u32>(at).unwrap()
    }

    const FIRST: u32 = 0x030a_1118;

    #[test]
    fn an_array_is_rom_and_commands_switch_it_to_callbacks_and_back() {
        let (memory, reader, _flash) = flash();
        let romd = || memory.memory_space().view().unwrap().lookup(0).is_some_and(flatview::FlatRange::romd);
        assert_eq!((word(&reader, 0), romd()), (FIRST, true));
        words(&reader, &[(0, 0x70)]);
        assert_eq!((word(&reader, 0x1000), romd()), (0x0080_0080, false));
        assert_eq!(reader.load::<Be, u16>(0).unwrap(), 0x80);
        assert_eq!(reader.load::<Be, u8>(1).unwrap(), 0x80);
        assert_eq!(reader.load::<Be, u64>(0).unwrap(), 0x0080_0080_0080_0080);
        words(&reader, &[(0, 0xff)]);
        assert_eq!((word(&reader, 0), romd()), (FIRST, true));
        for none in [0x00, 0x33, 0x50, 0xf0] {
            words(&reader, &[(0, none)]);
            assert_eq!((word(&reader, 0), romd()), (FIRST, true), "{none:#x}");
        }
    }

    #[test]
    fn the_cfi_table_is_qemus() {
        let (_memory, reader, _flash) = flash();
        words(&reader, &[(0, 0x98)]);
        let table: Vec<u32> = (0x10..0x40).map(|n| word(&reader, 4 * n)).collect();
        let qemu = [
            0x51, 0x52, 0x59, 1, 0, 0x31, 0, 0, 0, 0, 0, 0x45, 0x55, 0, 0, 7, 7, 0x0a, 0, 4, 4, 4, 0, 0x16,
            2, 0, 0x0b, 0, 1, 0x3f, 0, 0, 1, 0x50, 0x52, 0x49, 0x31, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        ];
        assert_eq!(table, qemu);
        assert_eq!(reader.load::<Be, u8>(0x41).unwrap(), 0x51);
    }

    #[test]
    fn a_sector_is_erased_when_confirmed() {
        let (_memory, reader, _flash) = flash();
        words(&reader, &[(0x1_0000, 0x20), (0x1_0000, 0xff)]);
        assert_eq!(word(&reader, 0x1_0000), FIRST, "not confirmed");
        words(&reader, &[(0x1_0010, 0x20), (0x1_0010, 0xd0)]);
        assert_eq!(word(&reader, 0), 0x0080_0080);
        words(&reader, &[(0, 0xff)]);
        assert_eq!((word(&reader, 0x1_0000), word(&reader, 0x1_fffc)), (u32::MAX, u32::MAX));
        assert_eq!((word(&reader, 0xfffc), word(&reader, 0x2_0000)), (0xe7ee_f5fc, FIRST));
    }

    #[test]
    fn programming_clears_bits_and_never_sets_them() {
        let (_memory, reader, _flash) = flash();
        words(&reader, &[(0, 0x20), (0, 0xd0), (0x100, 0x40), (0x100, 0xf0f0_f0f0)]);
        assert_eq!(word(&reader, 0x100), 0x0080_0080);
        words(&reader, &[(0x100, 0x10), (0x100, 0x0ff0_0ff0), (0, 0xff)]);
        assert_eq!(word(&reader, 0x100), 0x00f0_00f0);
        reader.store::<Be, u8>(0x104, 0x40).unwrap();
        reader.store::<Be, u8>(0x104, 0x12).unwrap();
        words(&reader, &[(0, 0xff)]);
        assert_eq!(word(&reader, 0x104), 0x12ff_ffff);
    }

    #[test]
    fn words_of_a_little_endian_flash_have_their_lowest_byte_first() {
        let (_memory, reader, _flash) = flash_of(Endianness::Little);
        let word = |at| reader.load::<Le, u32>(at).unwrap();
        let put = |at, value| reader.store::<Le, u32>(at, value).unwrap();
        assert_eq!(word(0), FIRST.swap_bytes());
        put(0, 0x98);
        assert_eq!([word(0x40), word(0x44), word(0x48)], [0x51, 0x52, 0x59]);
        for (at, value) in [(0, 0xff), (0, 0x20), (0, 0xd0), (0x100, 0x40), (0x100, 0x1234_5678), (0, 0xff)] {
            put(at, value);
        }
        assert_eq!(word(0x100), 0x1234_5678);
        let mut bytes = [0; 4];
        reader.peek(0x100, &mut bytes).unwrap();
        assert_eq!(bytes, [0x78, 0x56, 0x34, 0x12]);
    }

    #[test]
    fn the_write_buffer_is_programmed_when_confirmed() {
        let (_memory, reader, _flash) = flash();
        words(&reader, &[(0, 0x20), (0, 0xd0)]);
        let fill = [(0x200, 0xe8), (0x200, 1), (0x200, 0x1111_1111), (0x204, 0x2222_2222)];
        words(&reader, &fill);
        words(&reader, &[(0x200, 0xff)]);
        assert_eq!(word(&reader, 0x200), u32::MAX, "not confirmed");
        words(&reader, &fill);
        words(&reader, &[(0x200, 0xd0), (0, 0xff)]);
        assert_eq!((word(&reader, 0x200), word(&reader, 0x204)), (0x1111_1111, 0x2222_2222));
        words(&reader, &[(0x200, 0xe8), (0x200, 0xffff)]);
        assert_eq!(word(&reader, 0), 0x0080_0080, "more words than the buffer has are refused");
        words(&reader, &[(0, 0xff)]);
        assert_eq!(word(&reader, 0x200), 0x1111_1111);
    }

    #[test]
    fn a_reset_makes_it_an_array_and_a_debugger_sees_and_writes_the_contents() {
        let (memory, reader, flash) = flash();
        words(&reader, &[(0, 0x90)]);
        assert_eq!(word(&reader, 0), 0);
        let mut bytes = [0; 4];
        reader.peek(0, &mut bytes).unwrap();
        assert_eq!(bytes, FIRST.to_be_bytes());
        reader.poke(0, b"poke").unwrap();
        flash.reset();
        assert_eq!(word(&reader, 0), u32::from_be_bytes(*b"poke"));
        assert!(memory.memory_space().view().unwrap().lookup(0).is_some_and(flatview::FlatRange::romd));
    }
}
