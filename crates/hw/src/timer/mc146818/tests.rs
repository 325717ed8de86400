use flatview_device::Clock;

use super::*;

/// 2026-11-22 16:05:06, a Sunday.
const SUNDAY: i64 = 1_795_363_506;

fn chip() -> (Arc<Mc146818>, Clock) {
    let clock = Clock::stepped();
    (Mc146818::new(&WallClock::new(&clock, Some(SUNDAY)), 1900), clock)
}

fn read(chip: &Mc146818, index: u8) -> u8 {
    chip.write(0, index);
    chip.read(1)
}

fn write(chip: &Mc146818, index: u8, value: u8) {
    chip.write(0, index);
    chip.write(1, value);
}

fn time(chip: &Mc146818) -> [u8; 8] {
    TIME.map(|index| read(chip, index))
}

fn step(clock: &Clock, nanoseconds: i64) {
    clock.step(Some(nanoseconds)).unwrap();
}

#[test]
fn registers_read_after_power_on_as_on_qemu() {
    let (chip, _) = chip();
    assert_eq!(chip.read(0), 0xff);
    assert_eq!(time(&chip), [0x06, 0x05, 0x16, 0x01, 0x22, 0x11, 0x26, 0x01]);
    assert_eq!([A, B, C, D, 0x37].map(|index| read(&chip, index)), [0x26, 0x02, 0, 0x80, 0x01]);
    assert_eq!(read(&chip, 0x80 | B), 0x02, "the top bit of the index is another chip's");
}

#[test]
fn the_century_counts_from_the_boards_base_year() {
    let chip = Mc146818::new(&WallClock::new(&Clock::stepped(), Some(SUNDAY)), 2000);
    assert_eq!((read(&chip, YEAR), read(&chip, CENTURY)), (0x26, 0));
}

#[test]
fn time_is_told_in_binary_or_bcd_and_in_24_or_12_hours() {
    let (chip, _) = chip();
    for (b, hour, year) in [(0x00, 0x84, 0x26), (0x04, 0x84, 26), (0x06, 16, 26), (0x02, 0x16, 0x26)] {
        write(&chip, B, b);
        assert_eq!((read(&chip, HOURS), read(&chip, YEAR)), (hour, year), "{b:#x}");
    }
    for (twelve, hour) in [(0x12, 0x00), (0x01, 0x01), (0x11, 0x11), (0x92, 0x12), (0x91, 0x23)] {
        write(&chip, B, 0x80);
        write(&chip, HOURS, twelve);
        write(&chip, B, 0x00);
        assert_eq!(read(&chip, HOURS), twelve);
        write(&chip, B, 0x02);
        assert_eq!(read(&chip, HOURS), hour, "{twelve:#x}");
    }
}

#[test]
fn seconds_carry_through_a_leap_day_and_a_century() {
    let (chip, clock) = chip();
    for (set, after) in [
        ([0x59, 0x59, 0x23, 0, 0x28, 0x02, 0x24, 0x01], [0, 0, 0, 0x05, 0x29, 0x02, 0x24, 0x01]),
        ([0x59, 0x59, 0x23, 0, 0x28, 0x02, 0x26, 0x01], [0, 0, 0, 0x01, 0x01, 0x03, 0x26, 0x01]),
        ([0x59, 0x59, 0x23, 0, 0x31, 0x12, 0x99, 0x00], [0, 0, 0, 0x07, 0x01, 0x01, 0x00, 0x01]),
    ] {
        write(&chip, B, 0x82);
        TIME.into_iter().zip(set).for_each(|(index, value)| write(&chip, index, value));
        assert_eq!(time(&chip), set, "while SET is on, the registers are what was written");
        step(&clock, 3 * NANOSECONDS);
        assert_eq!(time(&chip), set);
        write(&chip, B, 0x02);
        step(&clock, NANOSECONDS);
        assert_eq!(time(&chip), after);
    }
}

#[test]
fn an_update_in_progress_is_told_before_each_second() {
    let (chip, clock) = chip();
    assert_eq!(read(&chip, A), 0x26);
    step(&clock, NANOSECONDS - UPDATE - 1);
    assert_eq!(read(&chip, A), 0x26);
    step(&clock, 1);
    assert_eq!((read(&chip, A), read(&chip, SECONDS)), (0xa6, 0x06));
    write(&chip, B, 0x82);
    assert_eq!(read(&chip, A), 0x26, "with SET on nothing is updated");
    write(&chip, B, 0x02);
    step(&clock, UPDATE);
    assert_eq!((read(&chip, A), read(&chip, SECONDS)), (0x26, 0x07));
}

#[test]
fn a_divider_that_is_let_go_updates_after_half_a_second() {
    let (chip, clock) = chip();
    write(&chip, A, 0x76);
    step(&clock, 10 * NANOSECONDS);
    assert_eq!(read(&chip, SECONDS), 0x06);
    step(&clock, 300_000_000);
    write(&chip, A, 0x26);
    step(&clock, NANOSECONDS / 2 - 1);
    assert_eq!(read(&chip, SECONDS), 0x06);
    step(&clock, 1);
    assert_eq!(read(&chip, SECONDS), 0x07);
}

#[test]
fn the_periodic_interrupt_comes_at_the_chosen_rate() {
    for (rate, hertz) in [(1, 256), (2, 128), (3, 8192), (6, 1024), (15, 2)] {
        let (chip, clock) = chip();
        let count = Arc::new(Mutex::new(0));
        let (seen, own) = (count.clone(), Arc::downgrade(&chip));
        chip.irq().connect(move |level| {
            if let (true, Some(chip)) = (level, own.upgrade()) {
                *seen.lock() += 1;
                chip.write(0, C);
                assert_eq!(chip.read(1) & 0xc0, 0xc0);
            }
        });
        write(&chip, A, 0x20 | rate);
        write(&chip, B, 0x42);
        step(&clock, NANOSECONDS);
        assert_eq!(*count.lock(), hertz, "rate {rate}");
    }
}

#[test]
fn without_an_enabled_interrupt_no_timer_runs_and_flags_still_come_up() {
    let (chip, clock) = chip();
    assert_eq!(clock.next_deadline(), None);
    step(&clock, NANOSECONDS);
    assert_eq!((read(&chip, C), read(&chip, C)), (0x50, 0), "reading clears");
    assert!(!chip.irq().level());
    step(&clock, NANOSECONDS);
    write(&chip, B, 0x12);
    assert!(chip.irq().level(), "a flag that is up already interrupts once that is enabled");
    assert_eq!(read(&chip, C), 0xd0);
    assert!(!chip.irq().level());
}

#[test]
fn the_update_interrupt_comes_each_second_until_set() {
    let (chip, clock) = chip();
    write(&chip, B, 0x12);
    assert_eq!(clock.step(None), Ok(NANOSECONDS));
    assert!(chip.irq().level());
    assert_eq!(read(&chip, C) & 0x90, 0x90);
    write(&chip, B, 0x92);
    assert_eq!(read(&chip, B), 0x82, "SET clears UIE");
    assert_eq!(clock.next_deadline(), None);
}

#[test]
fn the_alarm_goes_off_at_its_time_and_dont_care_bytes_match_anything() {
    let at = |h, m, s| (h, m, s);
    // It is 16:05:06.
    for (alarm, seconds) in [
        (at(0x16, 0x05, 0x07), 1),
        (at(0x16, 0x05, 0x06), DAY),
        (at(0x16, 0x05, 0x05), DAY - 1),
        (at(0x16, 0x06, 0x00), 54),
        (at(0xff, 0xc0, 0x06), 60),
        (at(0xff, 0xff, 0x05), 59),
        (at(0xff, 0xff, 0xff), 1),
        (at(0xff, 0x04, 0x06), 59 * 60),
        (at(0x16, 0xff, 0x00), 54),
        (at(0x17, 0xff, 0xff), 54 * 60 + 54),
        (at(0x15, 0x59, 0xff), 23 * 3600 + 53 * 60 + 54),
        (at(0x00, 0xff, 0x30), 7 * 3600 + 55 * 60 + 24),
    ] {
        let (chip, clock) = chip();
        for (index, value) in [(5, alarm.0), (3, alarm.1), (1, alarm.2), (B, 0x22)] {
            write(&chip, index, value);
        }
        assert_eq!(clock.step(None), Ok(seconds * NANOSECONDS), "{alarm:x?}");
        assert_eq!(read(&chip, C) & 0xa0, 0xa0, "{alarm:x?}");
    }
    let (chip, clock) = chip();
    for (index, value) in [(5, 0x24), (3, 0xff), (1, 0xff), (B, 0x22)] {
        write(&chip, index, value);
    }
    assert_eq!(clock.next_deadline(), None, "there is no such hour");
    write(&chip, 5, 0xff);
    write(&chip, 1, 0x7a);
    assert_eq!(clock.next_deadline(), None, "nor such a second");
}

#[test]
fn the_alarm_flag_comes_up_for_an_alarm_that_nobody_waited_for() {
    let (chip, clock) = chip();
    for (index, value) in [(5, 0x16), (3, 0x05), (1, 0x08)] {
        write(&chip, index, value);
    }
    step(&clock, NANOSECONDS);
    assert_eq!(read(&chip, C) & C_AF, 0);
    step(&clock, 3 * NANOSECONDS);
    assert_eq!(read(&chip, C) & C_AF, C_AF);
}

#[test]
fn a_reset_keeps_time_and_ram_and_ends_interrupts() {
    let (chip, clock) = chip();
    write(&chip, 0x40, 0xab);
    write(&chip, B, 0x72);
    step(&clock, NANOSECONDS);
    assert!(chip.irq().level());
    chip.reset();
    assert!(!chip.irq().level());
    assert_eq!((read(&chip, B), read(&chip, C)), (0x02, 0));
    assert_eq!((read(&chip, 0x40), read(&chip, SECONDS)), (0xab, 0x07));
    assert_eq!(clock.next_deadline(), None);
}

#[test]
fn status_registers_and_the_time_refuse_what_they_do_not_have() {
    let (chip, _) = chip();
    for (index, wrote, reads) in [(A, 0xff, 0x7f), (B, 0xff, 0xef), (C, 0xff, 0), (D, 0, 0x80)] {
        write(&chip, index, wrote);
        assert_eq!(read(&chip, index), reads, "{index:#x}");
    }
}

#[test]
fn no_value_that_a_guest_can_write_overflows() {
    let (chip, clock) = chip();
    let mut rng = 1_u64;
    for _ in 0..200_000 {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (index, value) = ((rng >> 33) as u8 & 0x3f, (rng >> 48) as u8);
        write(&chip, index & if rng >> 60 == 0 { 0x3f } else { 0x0f }, value);
        let _ = read(&chip, (rng >> 40) as u8);
        if rng >> 62 == 0 {
            step(&clock, (rng >> 20) as i64 & 0x3f_ffff);
        }
    }
}
