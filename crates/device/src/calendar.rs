//! Dates, binary-coded decimals, and the clock on the wall that clock chips go by.
//!
//! It is not machine time, which is [`Clock`]'s: a wall clock shows a date, and where it is the host's it goes on while
//! the machine stands. What must always hold: with a stepped machine clock the date is a function of that clock alone.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::{Clock, NANOSECONDS};

/// Seconds in a day.
pub const DAY: i64 = 86_400;

/// The date that clock chips show, in nanoseconds since 1970-01-01 00:00:00.
#[derive(Debug, Clone)]
pub struct WallClock {
    clock: Clock,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    /// The host's date plus so many nanoseconds.
    Host(i64),
    /// The machine's clock plus so many nanoseconds.
    Machine(i64),
}

/// The host's date, UTC, in nanoseconds since 1970.
fn host() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

impl WallClock {
    /// A wall clock that shows `base` (seconds since 1970) now, or the host's date in UTC, and goes with the host's
    /// time; with a stepped machine clock it goes with that one.
    pub fn new(clock: &Clock, base: Option<i64>) -> WallClock {
        if clock.is_stepped() {
            return WallClock::machine(clock, base);
        }
        let offset = base.map_or(0, |base| base.saturating_mul(NANOSECONDS).saturating_sub(host()));
        WallClock { clock: clock.clone(), source: Source::Host(offset) }
    }

    /// The same, but always going with the machine's clock: it stands while the machine does.
    pub fn machine(clock: &Clock, base: Option<i64>) -> WallClock {
        let base = base.map_or_else(host, |base| base.saturating_mul(NANOSECONDS));
        WallClock { clock: clock.clone(), source: Source::Machine(base.saturating_sub(clock.now())) }
    }

    /// The date now, in nanoseconds since 1970.
    pub fn now(&self) -> i64 {
        match self.source {
            Source::Host(offset) => host().saturating_add(offset),
            Source::Machine(offset) => self.clock.now().saturating_add(offset),
        }
    }

    /// What the machine's clock will be when this one shows `date`, for a timer; a date that has passed is now.
    pub fn deadline(&self, date: i64) -> i64 {
        match self.source {
            Source::Host(_) => self.clock.now().saturating_add(date.saturating_sub(self.now()).max(0)),
            Source::Machine(offset) => date.saturating_sub(offset).max(self.clock.now()),
        }
    }

    /// The machine's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar (Howard Hinnant's
/// `civil_from_days`).
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days.saturating_add(719_468);
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date (`days_from_civil`). A month or day that the calendar does not have carries into
/// the next: month 13 is January of the year after. For years of at most six digits.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

/// Day of the week of a number of days since 1970-01-01, counted from Sunday, which is 0.
pub fn weekday(days: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    days.saturating_add(4).rem_euclid(7)
}

/// Two decimal digits as BCD; of a larger number the last two.
pub fn to_bcd(value: i64) -> u8 {
    (value.rem_euclid(100) / 10 * 16 + value.rem_euclid(10)) as u8
}

/// The number of a BCD byte. A digit above nine counts as what it is.
pub fn from_bcd(value: u8) -> i64 {
    i64::from(value >> 4) * 10 + i64::from(value & 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar_both_ways() {
        for (number, date, weekday_of) in [
            (-1, (1969, 12, 31), 3),
            (0, (1970, 1, 1), 4),
            (11_016, (2000, 2, 29), 2),
            (11_017, (2000, 3, 1), 3),
            (19_723, (2024, 1, 1), 1),
            (47_540, (2100, 2, 28), 0),
            (47_541, (2100, 3, 1), 1),
        ] {
            assert_eq!(civil(number), date, "{number}");
            assert_eq!(days(date.0, date.1, date.2), number, "{date:?}");
            assert_eq!(weekday(number), weekday_of, "{date:?}");
        }
        for number in -800_000..800_000 {
            let (year, month, day) = civil(number);
            assert_eq!(days(year, month, day), number);
        }
        assert_eq!(days(2024, 13, 1), days(2025, 1, 1));
        assert_eq!(days(2024, 2, 30), days(2024, 3, 1));
        assert_eq!(days(2024, 0, 0), days(2023, 11, 30));
    }

    #[test]
    fn digits_are_packed_two_to_a_byte() {
        assert_eq!((to_bcd(59), to_bcd(2026), from_bcd(0x59), from_bcd(0x7f)), (0x59, 0x26, 59, 85));
    }

    #[test]
    fn with_a_stepped_clock_the_date_is_its_base_plus_the_clock() {
        let clock = Clock::stepped();
        let wall = WallClock::new(&clock, Some(1000));
        clock.step(Some(5 * NANOSECONDS)).unwrap();
        assert_eq!(wall.now(), 1005 * NANOSECONDS);
        assert_eq!(wall.deadline(1007 * NANOSECONDS), 7 * NANOSECONDS);
        assert_eq!(wall.deadline(0), 5 * NANOSECONDS, "what has passed is due now");
    }

    #[test]
    fn a_running_machines_wall_clock_is_the_hosts_plus_an_offset() {
        let wall = WallClock::new(&Clock::realtime(), None);
        assert!((host() - wall.now()).abs() < 10 * NANOSECONDS);
        let wall = WallClock::new(&Clock::realtime(), Some(86_400));
        assert!((86_400 * NANOSECONDS..86_410 * NANOSECONDS).contains(&wall.now()));
    }
}
