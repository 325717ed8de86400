//! Devices of the CPIOM avionics board. Their registers are 32 bits wide, big-endian, and taken as aligned words only:
//! any other access is a decode error. Bit 0 is the least significant. The book's page `boards/cpiom-registers.md` is
//! their data sheet; [`register_tables`] is what it is checked against.

pub mod edc;
pub mod intc;
pub mod sdram;
pub mod timers;

use flatview::{AccessRules, DeviceEndian};
use flatview_device::RegisterInfo;
use flatview_device::clock::NANOSECONDS;

/// How every register region of a `cpiom-*` device is accessed.
pub const RULES: AccessRules = AccessRules::new().endian(DeviceEndian::Big).valid(4, 4).implemented(4, 4);

/// The clock of the board's timers, of its scrubber, its refresh and its CPU's time base.
pub const HZ: u64 = 16_600_000;

/// A row of equal registers, as a data sheet has it.
const fn row(name: &'static str, count: u64, reset: u64, writable: u64) -> RegisterInfo {
    RegisterInfo { name, offset: 0, count, reset, writable, clears: 0 }
}

/// The registers of every region of the `cpiom-*` devices: the region's name and what it holds, in the order of offsets.
pub fn register_tables() -> Vec<(&'static str, Vec<RegisterInfo>)> {
    let mut tables = sdram::register_tables();
    tables.extend(edc::register_tables());
    tables.extend(timers::register_tables());
    tables.extend(intc::register_tables());
    tables
}

/// Cycles of the 16.6 MHz clock that have passed at a time in nanoseconds.
fn cycle_at(ns: i64) -> i128 {
    i128::from(ns) * i128::from(HZ) / i128::from(NANOSECONDS)
}

/// The first nanosecond at which this many cycles have passed; `None` if the clock never gets there.
fn time_of(cycle: i128) -> Option<i64> {
    let (hz, second) = (i128::from(HZ), i128::from(NANOSECONDS));
    i64::try_from(cycle.checked_mul(second)?.checked_add(hz - 1)?.div_euclid(hz)).ok()
}

/// A cycle from a saved state, brought to where arithmetic with the clock's cycles cannot overflow.
fn plausible(cycle: i128) -> i128 {
    const FAR: i128 = 1 << 80;
    cycle.clamp(-FAR, FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_and_nanoseconds_agree_at_every_cycle_even_after_centuries() {
        let last = cycle_at(i64::MAX);
        for cycle in (0..10_000).chain(last - 10_000..=last) {
            let ns = time_of(cycle).unwrap();
            assert_eq!(cycle_at(ns), cycle);
            assert!(ns == 0 || cycle_at(ns - 1) == cycle - 1, "{cycle} comes at {ns} and not before");
        }
        assert_eq!(cycle_at(NANOSECONDS), 16_600_000);
        assert_eq!(time_of(last + 1), None);
        assert_eq!(time_of(i128::MAX), None);
    }
}
