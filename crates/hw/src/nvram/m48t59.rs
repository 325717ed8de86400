//! `isa-m48t59`: 8 KiB of battery-backed RAM with a clock in its last eight bytes, behind ISA ports.
//!
//! Ports 0x74 and 0x75 take the address, low byte first; port 0x77 is the data; writing it leaves the address at 0. The
//! address and port 0x76 do not read back. The clock's registers show the [`WallClock`]'s date in BCD; setting them is not modelled and is logged. A system
//! reset keeps the contents. (ST M48T59 datasheet, "Clock operations".)

use std::sync::Arc;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, RamBlock, Region};
use flatview_device::calendar::{self, DAY, to_bcd};
use flatview_device::clock::NANOSECONDS;
use flatview_device::{DeviceCell, Log, LogMask, QtreeDevice, WallClock};

/// Size of the memory, clock included, in bytes.
pub const SIZE: u64 = 0x2000;
/// First of the clock's registers: control, seconds, minutes, hours, day, date, month, year.
const CLOCK: u64 = 0x1ff8;

/// The device.
#[derive(Debug)]
pub struct M48t59 {
    cell: DeviceCell<State>,
    /// What is kept, [`SIZE`] bytes.
    block: Arc<RamBlock>,
    wall: WallClock,
    log: Log,
}

#[derive(Debug)]
struct State {
    address: u16,
}

impl M48t59 {
    /// First port.
    pub const BASE: u16 = 0x74;

    /// A memory that is this block, of [`SIZE`] bytes; its clock shows the wall clock's date.
    pub fn new(block: Arc<RamBlock>, wall: &WallClock, log: &Log) -> Arc<M48t59> {
        let cell = DeviceCell::new(State { address: 0 });
        Arc::new(M48t59 { cell, block, wall: wall.clone(), log: log.clone() })
    }

    /// The region of the four ports.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("m48t59", 4, Ports(self.clone())).owner(owner)
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("isa-m48t59")
            .number("base-year", 0)
            .number("iobase", Self::BASE.into())
            .number("irq", 8)
    }

    /// A byte of the memory; all ones beyond it.
    fn kept(&self, address: u64) -> u8 {
        let mut byte = [0xff];
        match self.block.read(address, &mut byte) {
            Ok(()) if address < SIZE => byte[0],
            _ => 0xff,
        }
    }

    fn data(&self, state: &State) -> u8 {
        let address = u64::from(state.address);
        match address.checked_sub(CLOCK) {
            Some(register) if address < SIZE => {
                clock_register(register, self.kept(CLOCK), self.wall.now() / NANOSECONDS)
            }
            _ => self.kept(address),
        }
    }
}

fn clock_register(register: u64, control: u8, seconds: i64) -> u8 {
    let days = seconds.div_euclid(DAY);
    let (year, month, day) = calendar::civil(days);
    match register {
        0 => control,
        1 => to_bcd(seconds.rem_euclid(60)),
        2 => to_bcd(seconds.rem_euclid(3600) / 60),
        3 => to_bcd(seconds.rem_euclid(DAY) / 3600),
        // QEMU's counts from Sunday, which is 0.
        4 => to_bcd(calendar::weekday(days)),
        5 => to_bcd(day),
        6 => to_bcd(month),
        _ => to_bcd(year),
    }
}

impl M48t59 {
    /// Reads the port at an offset from the first one.
    fn read(&self, port: u64) -> u8 {
        if port == 3 { self.cell.peek(|state| self.data(state)) } else { 0xff }
    }

    /// Writes the port at an offset from the first one.
    fn write(&self, port: u64, value: u8) {
        let clock_set = self.cell.with(|state, _| match port {
            0 => {
                state.address = state.address & 0xff00 | u16::from(value);
                false
            }
            1 => {
                state.address = state.address & 0x00ff | u16::from(value) << 8;
                false
            }
            3 => {
                let address = u64::from(state.address);
                if address < SIZE {
                    // In the block's range, and the block is made writable.
                    let _ = self.block.write(address, &[value]);
                }
                state.address = 0;
                (CLOCK..SIZE).contains(&address)
            }
            _ => false,
        });
        if clock_set {
            self.log.line(LogMask::UNIMP, format_args!("m48t59: setting the clock is not modelled"));
        }
    }
}

struct Ports(Arc<M48t59>);

impl MmioOps for Ports {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.read(access.offset()).into())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.write(access.offset(), value as u8);
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        (size == 1).then(|| self.0.read(offset).into())
    }
}

#[cfg(test)]
mod tests {
    use flatview_device::Clock;

    use super::*;

    fn block(begin: &[u8]) -> Arc<RamBlock> {
        let block = RamBlock::anonymous("nvram", SIZE).unwrap();
        block.write(0, begin).unwrap();
        block
    }

    #[test]
    fn the_clock_shows_the_date_and_goes_on() {
        let clock = Clock::stepped();
        let nvram = M48t59::new(block(b""), &WallClock::new(&clock, Some(1_795_391_999)), &Log::none());
        let shown = || -> Vec<u8> {
            let registers = 1..8;
            registers.map(|n| clock_register(n, 0, nvram.wall.now() / NANOSECONDS)).collect()
        };
        assert_eq!(shown(), [0x59, 0x59, 0x23, 0, 0x22, 0x11, 0x26], "a Sunday");
        clock.step(Some(NANOSECONDS)).unwrap();
        assert_eq!(shown(), [0, 0, 0, 1, 0x23, 0x11, 0x26]);
    }

    #[test]
    fn the_memory_is_reached_through_address_and_data_ports() {
        let nvram = M48t59::new(block(b"QEMU"), &WallClock::new(&Clock::stepped(), None), &Log::none());
        nvram.write(0, 1);
        nvram.write(1, 0);
        assert_eq!((nvram.read(3), nvram.read(0), nvram.read(2)), (b'E', 0xff, 0xff));
        nvram.write(1, 0x10);
        nvram.write(3, 0xab);
        assert_eq!(nvram.read(3), b'Q', "a write leaves the address at 0");
        nvram.write(0, 1);
        nvram.write(1, 0x10);
        assert_eq!(nvram.read(3), 0xab);
        nvram.write(1, 0x20);
        assert_eq!(nvram.read(3), 0xff, "beyond the memory");
    }
}
