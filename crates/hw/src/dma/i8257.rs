//! `i8257`: a PC's DMA controller: Intel's 8237A with the page registers that give it 32 bits of address.
//!
//! Four channels. The first controller counts bytes, the second words, whose addresses are shifted by one. Registers
//! are those of the 8237A (data sheet, "Register description", "Software commands") and of the 82378 (82378ZB/82379AB
//! data sheet, "DMA register description"), which has no transfers from memory to memory. As on QEMU the mask register
//! can be read, with all the bits that were written; an address takes effect with the write of its second byte; and
//! address bit 31 is not decoded, so that PReP's bus addresses, on which RAM begins at 0x80000000, and plain ones mean the same.
//! An address wraps in its page of 64 KiB, or of 128 KiB for words. What must always hold: one thread at a time moves
//! bytes, without the lock; what the guest reprograms meanwhile is not counted on; and a request without an end leaves
//! the guest's CPUs running.
//!
//! | port, in units of the controller | write | read |
//! |---|---|---|
//! | 0, 2, 4, 6 | base address, low byte first | current address |
//! | 1, 3, 5, 7 | base count − 1, low byte first | current count − 1 |
//! | 8 | command: bit 2 disable, 4 rotating priority | status: bits 0–3 terminal count, cleared by this, 4–7 request |
//! | 9 | request: bits 1–0 channel, 2 set | the mask, with the bits that were written |
//! | a | mask one: bits 1–0 channel, 2 set | 0 |
//! | b | mode: bits 1–0 channel, 3–2 direction, 4 autoinitialise, 5 decrement, 7–6 demand, single, block, cascade | 0 |
//! | c | next is the low byte | 0 |
//! | d | master clear | 0: the temporary register, which only transfers between memory would fill |
//! | e | mask none | 0 |
//! | f | mask all: bits 3–0 | 0 |

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use flatview::{
    Access, AccessRules, AddressSpace, DeviceEndian, MemTxError, MmioOps, Owner, Region, WeakSpace,
};
use flatview_device::portio::{BytePorts, PortRange};
use flatview_device::{Clock, DeviceCell, Log, LogMask, QtreeDevice, Reset, Timer};

use super::{DmaChannel, DmaCycles, DmaDevice, DmaKind};

/// Bytes that are moved in one piece.
const PIECE: usize = 4096;
/// What is done in one go, each byte counting one and each piece as much as this many, and how long others have the
/// machine before the next go, in nanoseconds.
const BUDGET: usize = 0x4_0000;
const PIECE_COST: usize = 64;
const PAUSE_NS: i64 = 100_000;
/// Which channel the page register at port *n* (of eight) belongs to; the others belong to none.
const PAGE_CHANNEL: [Option<usize>; 8] = [None, Some(2), Some(3), Some(1), None, None, None, Some(0)];
/// The ports of page registers, as (first, number), from the controller's page base; those of the upper bytes reach further.
const PAGES: [(u16, u16); 2] = [(1, 3), (7, 1)];
const HIGH_PAGES: [(u16, u16); 2] = [(1, 3), (7, 3)];

const COMMAND_DISABLE: u8 = 1 << 2;
const COMMAND_ROTATE: u8 = 1 << 4;
/// Transfers between memory, held addresses, compressed timing, extended writes, and the levels of DREQ and DACK.
const COMMAND_UNMODELLED: u8 = 0xeb;
const MODE_AUTOINITIALISE: u8 = 1 << 4;
const MODE_DECREMENT: u8 = 1 << 5;
const MODE_BLOCK: u8 = 2;
const MODE_CASCADE: u8 = 3;

/// Where a controller's ports are, and what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct I8257Place {
    /// First port of the channels' registers.
    pub base: u16,
    /// Page registers are from here on, their upper bytes 0x400 further.
    pub page: u16,
    /// 0: it counts bytes. 1: words, and its registers are two ports apart.
    pub shift: u8,
}

/// A PC's two controllers.
pub const PLACES: [I8257Place; 2] =
    [I8257Place { base: 0, page: 0x80, shift: 0 }, I8257Place { base: 0xc0, page: 0x88, shift: 1 }];

/// The controller.
pub struct I8257 {
    place: I8257Place,
    cell: DeviceCell<State>,
    devices: [OnceLock<Weak<dyn DmaDevice>>; 4],
    /// Held weakly: the memory holds the controller.
    space: WeakSpace,
    clock: Clock,
    timer: OnceLock<Timer>,
    log: Log,
}

impl fmt::Debug for I8257 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I8257").field("place", &self.place).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    base_address: u16,
    base_count: u16,
    /// The current address, in the controller's units.
    address: u16,
    /// Units moved since the count was loaded, up to 65536.
    done: u32,
    page: u8,
    high_page: u8,
    mode: u8,
    /// The device's request line.
    dreq: bool,
    /// A request of the guest's.
    asked: bool,
    /// A block goes on without its request until its count is over.
    in_block: bool,
    /// Which programming of the channel this is: what was begun under an earlier one is not counted.
    programming: u64,
}

#[derive(Debug)]
struct State {
    channels: [Channel; 4],
    /// The second byte of an address or count is next.
    second: bool,
    command: u8,
    mask: u8,
    terminal: u8,
    /// The channel that was served last, for rotating priority.
    last: usize,
    running: bool,
    again: bool,
}

/// A piece of a transfer.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The lowest address, in bytes.
    address: u64,
    units: u32,
    kind: DmaKind,
    down: bool,
    programming: u64,
}

impl Channel {
    fn kind(&self) -> DmaKind {
        match self.mode >> 2 & 3 {
            1 => DmaKind::Write,
            2 => DmaKind::Read,
            _ => DmaKind::Verify,
        }
    }

    /// Units until the count is over.
    fn left(&self) -> u32 {
        (u32::from(self.base_count) + 1).saturating_sub(self.done)
    }

    fn load(&mut self) {
        self.address = self.base_address;
        self.done = 0;
        self.programming += 1;
    }

    fn wants(&self, masked: bool) -> bool {
        let mode = self.mode >> 6;
        let asked = mode == MODE_BLOCK && self.asked;
        mode != MODE_CASCADE && (asked || !masked && (self.dreq || self.in_block))
    }
}

impl State {
    fn new() -> State {
        State {
            channels: [Channel::default(); 4],
            second: false,
            command: 0,
            mask: 0xff,
            terminal: 0,
            last: 3,
            running: false,
            again: false,
        }
    }

    /// As by the reset line: addresses, counts and pages stay. (8237A data sheet, "Master clear".)
    fn clear(&mut self) {
        self.second = false;
        self.command = 0;
        self.mask = 0xff;
        self.terminal = 0;
        self.last = 3;
        for channel in &mut self.channels {
            channel.asked = false;
            channel.in_block = false;
            channel.programming += 1;
        }
    }

    /// Whether it is the second byte's turn; the other one's is next.
    fn flip(&mut self) -> bool {
        self.second = !self.second;
        !self.second
    }

    fn read_channel(&mut self, register: usize) -> u8 {
        let second = self.flip();
        let Some(channel) = self.channels.get(register >> 1) else { return 0 };
        let value = if register & 1 == 0 {
            channel.address
        } else {
            channel.base_count.wrapping_sub(channel.done as u16)
        };
        let [low, high] = value.to_le_bytes();
        if second { high } else { low }
    }

    fn write_channel(&mut self, register: usize, value: u8) {
        let second = self.flip();
        let Some(channel) = self.channels.get_mut(register >> 1) else { return };
        let base = if register & 1 == 0 { &mut channel.base_address } else { &mut channel.base_count };
        let [low, high] = base.to_le_bytes();
        *base = u16::from_le_bytes(if second { [low, value] } else { [value, high] });
        if second {
            channel.load();
        }
    }

    fn read_control(&mut self, register: u64) -> u8 {
        let value = self.look_control(register);
        if register == 0 {
            self.terminal = 0;
        }
        value
    }

    fn look_control(&self, register: u64) -> u8 {
        match register {
            0 => {
                let requests = self.channels.iter().enumerate();
                let requests = requests.filter(|(_, channel)| channel.dreq || channel.asked);
                requests.fold(self.terminal, |status, (n, _)| status | 0x10 << n)
            }
            1 => self.mask,
            _ => 0,
        }
    }

    fn write_control(&mut self, register: u64, value: u8) {
        let number = usize::from(value & 3);
        let bit = 1 << number;
        let set = value & 4 != 0;
        match register {
            0 => self.command = value,
            1 => {
                self.terminal &= !bit;
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.asked = set;
                }
            }
            2 => self.mask = if set { self.mask | bit } else { self.mask & !bit },
            3 => {
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.mode = value;
                    channel.programming += 1;
                }
            }
            4 => self.second = false,
            5 => self.clear(),
            6 => self.mask = 0,
            _ => self.mask = value,
        }
    }

    /// Whose turn it is, of the channels that are not in `refused`.
    fn next(&self, refused: u8) -> Option<usize> {
        if self.command & COMMAND_DISABLE != 0 {
            return None;
        }
        let first = if self.command & COMMAND_ROTATE != 0 { self.last + 1 } else { 0 };
        (first..first + 4).map(|n| n & 3).find(|n| {
            let bit = 1 << n;
            let wants = self.channels.get(*n).is_some_and(|channel| channel.wants(self.mask & bit != 0));
            wants && refused & bit == 0
        })
    }

    /// What can be moved in one piece, at most `units`, if the channel may still move something of this kind.
    fn piece(&mut self, number: usize, kind: DmaKind, units: u32, shift: u8) -> Option<Piece> {
        let masked = self.mask >> number & 1 != 0;
        let disabled = self.command & COMMAND_DISABLE != 0;
        let channel = self.channels.get_mut(number)?;
        if disabled || !channel.wants(masked) || channel.kind() != kind {
            return None;
        }
        channel.in_block = channel.mode >> 6 == MODE_BLOCK;
        let down = channel.mode & MODE_DECREMENT != 0;
        let address = u32::from(channel.address);
        let to_wrap = if down { address + 1 } else { 0x1_0000 - address };
        let units = units.min(to_wrap).min(channel.left()).min((PIECE >> shift) as u32);
        let lowest = if down { address + 1 - units } else { address };
        let page = u64::from(channel.page >> shift << shift) << 16;
        let high = u64::from(channel.high_page & 0x7f) << 24;
        let address = high | page | u64::from(lowest) << shift;
        (units > 0).then_some(Piece { address, units, kind, down, programming: channel.programming })
    }

    /// Counts a piece that was moved; whether the count is over.
    fn moved(&mut self, number: usize, piece: &Piece) -> bool {
        self.last = number;
        let Some(channel) = self.channels.get_mut(number) else { return false };
        if channel.programming != piece.programming {
            return false;
        }
        let by = piece.units as u16;
        channel.address =
            if piece.down { channel.address.wrapping_sub(by) } else { channel.address.wrapping_add(by) };
        channel.done += piece.units;
        if channel.left() > 0 {
            return false;
        }
        channel.asked = false;
        channel.in_block = false;
        self.terminal |= 1 << number;
        if channel.mode & MODE_AUTOINITIALISE != 0 {
            channel.load();
        } else {
            self.mask |= 1 << number;
        }
        true
    }
}

impl I8257 {
    /// A controller that reaches memory through `space`.
    pub fn new(place: I8257Place, space: &AddressSpace, clock: &Clock, log: &Log) -> Arc<I8257> {
        let controller = Arc::new(I8257 {
            place,
            cell: DeviceCell::new(State::new()),
            devices: Default::default(),
            space: space.downgrade(),
            clock: clock.clone(),
            timer: OnceLock::new(),
            log: log.clone(),
        });
        let weak = Arc::downgrade(&controller);
        let timer = clock.timer(move || {
            if let Some(controller) = weak.upgrade() {
                controller.run();
            }
        });
        let _ = controller.timer.set(timer);
        controller
    }

    /// A channel, 0 to 3, for a device.
    pub fn channel(self: &Arc<Self>, number: usize) -> DmaChannel {
        DmaChannel::new(self, number)
    }

    /// The regions in QEMU's order, each with its first port.
    pub fn regions(self: &Arc<Self>, owner: &Owner) -> Vec<(u16, Region)> {
        let I8257Place { base, page, shift } = self.place;
        let size = 8_u16 << shift;
        let mut regions = vec![(base, Region::io("dma-chan", size.into(), Channels(self.clone())))];
        for (name, first, runs) in [("dma-page", page, PAGES), ("dma-pageh", page + 0x400, HIGH_PAGES)] {
            for (offset, count) in runs {
                let port = first + offset;
                regions.push((port, Region::io(name, count.into(), PortRange::new(self, port, count))));
            }
        }
        regions.push((base + size, Region::io("dma-cont", size.into(), Control(self.clone()))));
        regions.into_iter().map(|(port, region)| (port, region.owner(owner))).collect()
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        let I8257Place { base, page, shift } = self.place;
        QtreeDevice::new("i8257")
            .number("base", base.into())
            .number("page-base", page.into())
            .number("pageh-base", u64::from(page) + 0x400)
            .number("dshift", shift.into())
    }

    pub(super) fn attach(&self, number: usize, device: Weak<dyn DmaDevice>) {
        if let Some(slot) = self.devices.get(number) {
            let _ = slot.set(device);
        }
    }

    pub(super) fn request(&self, number: usize, level: bool) {
        self.cell.with(|state, _| {
            if let Some(channel) = state.channels.get_mut(number) {
                channel.dreq = level;
            }
        });
        if level {
            self.run();
        }
    }

    /// Serves requests until there are none that can be served, unless somebody does so already, further up this
    /// thread's stack or in another thread: that one then looks once more.
    fn run(&self) {
        let mine = self.cell.with(|state, _| {
            state.again = true;
            !std::mem::replace(&mut state.running, true)
        });
        if !mine {
            return;
        }
        let mut left = BUDGET;
        // Asked for once more means that what was not ready may be.
        while self.cell.with(|state, _| {
            state.running = std::mem::replace(&mut state.again, false);
            state.running
        }) {
            let mut refused = 0;
            while let Some(number) = self.cell.peek(|state| state.next(refused)) {
                if left == 0 {
                    self.cell.with(|state, _| state.running = false);
                    if let Some(timer) = self.timer.get() {
                        timer.arm(self.clock.now().saturating_add(PAUSE_NS));
                    }
                    return;
                }
                let moved = self.serve(number);
                if moved == 0 {
                    refused |= 1 << number;
                }
                left = left.saturating_sub(moved + PIECE_COST);
            }
        }
    }

    /// Moves one piece of a channel's; tells how many bytes.
    fn serve(&self, number: usize) -> usize {
        let device = self.devices.get(number).and_then(OnceLock::get).and_then(Weak::upgrade);
        let kind = self.cell.peek(|state| state.channels.get(number).map(Channel::kind));
        let (Some(device), Some(kind)) = (device, kind) else { return 0 };
        let shift = self.place.shift;
        let ready = u32::try_from(device.ready(kind) >> shift).unwrap_or(u32::MAX);
        let Some(piece) = self.cell.with(|state, _| state.piece(number, kind, ready, shift)) else {
            return 0;
        };
        self.carry_out(&*device, &piece);
        if self.cell.with(|state, _| state.moved(number, &piece)) {
            device.terminal_count();
        }
        (piece.units as usize) << shift
    }

    fn carry_out(&self, device: &dyn DmaDevice, piece: &Piece) {
        let shift = self.place.shift;
        let mut buffer = [0; PIECE];
        let Some(bytes) = buffer.get_mut(..(piece.units as usize) << shift) else { return };
        let space = self.space.upgrade();
        let done = match (piece.kind, &space) {
            (DmaKind::Verify, _) => {
                device.cycles(DmaCycles::Verify(bytes.len()));
                return;
            }
            (DmaKind::Write, space) => {
                device.cycles(DmaCycles::Write(bytes));
                turn(bytes, shift, piece.down);
                space.as_ref().map(|space| space.write(piece.address, bytes))
            }
            (DmaKind::Read, space) => {
                let done = space.as_ref().map(|space| space.read(piece.address, bytes));
                turn(bytes, shift, piece.down);
                device.cycles(DmaCycles::Read(bytes));
                done
            }
        };
        if let Some(Err(error)) = done {
            self.log.line(LogMask::GUEST_ERRORS, format_args!("i8257: DMA into nothing: {error}"));
        }
    }

    fn control(&self, register: u64, value: u8) {
        if register == 0 && value & COMMAND_UNMODELLED != 0 {
            self.log.line(
                LogMask::UNIMP,
                format_args!(
                    "i8257: bits {:#04x} of the command are not modelled",
                    value & COMMAND_UNMODELLED
                ),
            );
        }
        self.cell.with(|state, _| state.write_control(register, value));
        // What let a channel go.
        if matches!(register, 0..=3 | 6 | 7) {
            self.run();
        }
    }
}

/// Units in the order in which a channel that counts down moves them.
fn turn(bytes: &mut [u8], shift: u8, down: bool) {
    if down {
        bytes.reverse();
        if shift != 0 {
            bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
        }
    }
}

impl Reset for I8257 {
    fn reset(&self) {
        if let Some(timer) = self.timer.get() {
            timer.cancel();
        }
        self.cell.with(|state, _| state.clear());
    }
}

/// Page registers. Ports that belong to no channel read 0.
impl BytePorts for I8257 {
    fn read(&self, port: u16) -> u8 {
        self.cell.peek(|state| {
            let channel = PAGE_CHANNEL.get(usize::from(port & 7)).copied().flatten();
            let channel = channel.and_then(|number| state.channels.get(number));
            channel.map_or(0, |channel| if port >= 0x400 { channel.high_page } else { channel.page })
        })
    }

    fn write(&self, port: u16, value: u8) {
        self.cell.with(|state, _| {
            let channel = PAGE_CHANNEL.get(usize::from(port & 7)).copied().flatten();
            if let Some(channel) = channel.and_then(|number| state.channels.get_mut(number)) {
                *if port >= 0x400 { &mut channel.high_page } else { &mut channel.page } = value;
            }
        });
    }

    fn peek(&self, port: u16) -> Option<u8> {
        Some(BytePorts::read(self, port))
    }
}

const BYTES: AccessRules = AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1);

struct Channels(Arc<I8257>);

impl Channels {
    fn register(&self, access: &Access<'_>) -> usize {
        (access.offset() >> self.0.place.shift) as usize
    }
}

impl MmioOps for Channels {
    fn rules(&self) -> AccessRules {
        BYTES
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.cell.with(|state, _| state.read_channel(self.register(access)).into()))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.cell.with(|state, _| state.write_channel(self.register(access), value as u8));
        Ok(())
    }
}

struct Control(Arc<I8257>);

impl MmioOps for Control {
    fn rules(&self) -> AccessRules {
        BYTES
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        let register = access.offset() >> self.0.place.shift;
        Ok(self.0.cell.with(|state, _| state.read_control(register).into()))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.control(access.offset() >> self.0.place.shift, value as u8);
        Ok(())
    }

    fn peek(&self, offset: u64, _size: u32) -> Option<u64> {
        // Reading the status clears it.
        let register = offset >> self.0.place.shift;
        (register != 0).then(|| self.0.cell.peek(|state| state.look_control(register).into()))
    }
}

#[cfg(test)]
#[path = "i8257_tests.rs"]
mod tests;
