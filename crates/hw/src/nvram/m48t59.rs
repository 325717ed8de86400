//! `isa-m48t59`: 8 KiB of battery-backed RAM with a clock in its last eight bytes, behind ISA ports.
//!
//! Ports 0x74 and 0x75 take the address, low byte first; port 0x77 is the data; writing it leaves the address at 0. The
//! address and port 0x76 do not read back. The clock's registers show the host's date (UTC) in BCD; setting them is not modelled and is logged. A system
//! reset keeps the contents. (ST M48T59 datasheet, "Clock operations".)

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::{DeviceCell, Log, LogMask, QtreeDevice};

/// Size of the memory, clock included, in bytes.
pub const SIZE: usize = 0x2000;
/// First of the clock's registers: control, seconds, minutes, hours, day, date, month, year.
const CLOCK: usize = 0x1ff8;

/// The device.
#[derive(Debug)]
pub struct M48t59 {
    cell: DeviceCell<State>,
    log: Log,
}

#[derive(Debug)]
struct State {
    address: u16,
    bytes: Vec<u8>,
}

impl M48t59 {
    /// First port.
    pub const BASE: u16 = 0x74;

    /// A memory that starts with these contents, zeros beyond them.
    pub fn new(contents: &[u8], log: &Log) -> Arc<M48t59> {
        let mut bytes = contents.to_vec();
        bytes.resize(SIZE, 0);
        Arc::new(M48t59 { cell: DeviceCell::new(State { address: 0, bytes }), log: log.clone() })
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

    fn data(state: &State) -> u8 {
        let address = usize::from(state.address);
        match address.checked_sub(CLOCK) {
            Some(register) if address < SIZE => clock_register(register, state.bytes.get(CLOCK).copied()),
            _ => state.bytes.get(address).copied().unwrap_or(0xff),
        }
    }
}

/// Seconds since 1970, now.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn bcd(value: u64) -> u8 {
    (value / 10 % 10 * 16 + value % 10) as u8
}

fn clock_register(register: usize, control: Option<u8>) -> u8 {
    let seconds = now();
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    match register {
        0 => control.unwrap_or(0),
        1 => bcd(seconds % 60),
        2 => bcd(seconds / 60 % 60),
        3 => bcd(seconds / 3600 % 24),
        // 1970-01-01 was a Thursday; the register counts from Sunday.
        4 => bcd((days + 4) % 7),
        5 => bcd(day),
        6 => bcd(month),
        _ => bcd(year % 100),
    }
}

impl M48t59 {
    /// Reads the port at an offset from the first one.
    fn read(&self, port: u64) -> u8 {
        if port == 3 { self.cell.peek(Self::data) } else { 0xff }
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
                let address = usize::from(state.address);
                if let Some(slot) = state.bytes.get_mut(address) {
                    *slot = value;
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
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_723, (2024, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
        assert_eq!(bcd(59), 0x59);
    }

    #[test]
    fn the_memory_is_reached_through_address_and_data_ports() {
        let nvram = M48t59::new(b"QEMU", &Log::none());
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
