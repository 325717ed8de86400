use super::*;

fn pit() -> (Arc<I8254>, Clock) {
    let clock = Clock::stepped();
    (I8254::new(&clock), clock)
}

fn load(pit: &I8254, counter: u8, mode: u8, count: u16) {
    pit.write(3, counter << 6 | 0x30 | mode << 1);
    count.to_le_bytes().into_iter().for_each(|byte| pit.write(counter.into(), byte));
}

fn count(pit: &I8254, counter: u8) -> u16 {
    pit.write(3, counter << 6);
    u16::from_le_bytes([pit.read(counter.into()), pit.read(counter.into())])
}

fn status(pit: &I8254, counter: u8) -> u8 {
    pit.write(3, 0xe0 | 2 << counter);
    pit.read(counter.into())
}

/// To the time of a pulse.
fn to(clock: &Clock, pulse: i64) {
    assert!(clock.set(time_of(pulse)).unwrap() == time_of(pulse), "pulse {pulse} has passed");
    assert_eq!(pulse_at(clock.now()), pulse);
}

/// Count and output of a counter at each pulse from 0 on, after `start`.
fn trace(pit: &I8254, clock: &Clock, counter: u8, pulses: i64) -> Vec<(u16, u8)> {
    let start = pulse_at(clock.now());
    (0..pulses)
        .map(|n| {
            to(clock, start + n);
            (count(pit, counter), u8::from(pit.out(counter.into())))
        })
        .collect()
}

#[test]
fn all_counters_run_in_mode_3_after_power_on_as_on_qemu() {
    let (pit, _) = pit();
    assert_eq!((0..4).map(|port| pit.read(port)).collect::<Vec<_>>(), [0; 4]);
    assert_eq!([status(&pit, 0), status(&pit, 1), status(&pit, 2)], [0x86; 3]);
}

#[test]
fn mode_0_rises_at_the_end_and_counts_on() {
    let (pit, clock) = pit();
    load(&pit, 1, 0, 3);
    let seen = trace(&pit, &clock, 1, 6);
    assert_eq!(seen, [(3, 0), (2, 0), (1, 0), (0, 1), (0xffff, 1), (0xfffe, 1)]);
    pit.write(1, 2);
    assert!(!pit.out(1), "the first byte of a new count stops it");
    to(&clock, 50);
    assert_eq!(count(&pit, 1), 0xfffe);
    pit.write(1, 0);
    assert_eq!(trace(&pit, &clock, 1, 3), [(2, 0), (1, 0), (0, 1)]);
}

#[test]
fn mode_0_stands_while_its_gate_is_low() {
    let (pit, clock) = pit();
    load(&pit, 2, 0, 5);
    to(&clock, 100);
    assert_eq!((count(&pit, 2), pit.out(2)), (5, false));
    pit.set_gate(2, true);
    to(&clock, 103);
    pit.set_gate(2, false);
    to(&clock, 200);
    assert_eq!((count(&pit, 2), pit.out(2)), (2, false));
    pit.set_gate(2, true);
    to(&clock, 202);
    assert!(pit.out(2));
}

#[test]
fn mode_1_is_a_one_shot_that_the_gate_triggers_again_and_again() {
    let (pit, clock) = pit();
    load(&pit, 2, 1, 3);
    to(&clock, 10);
    assert!(pit.out(2), "not triggered yet");
    assert_eq!(status(&pit, 2) & 0x40, 0x40);
    pit.set_gate(2, true);
    assert_eq!(trace(&pit, &clock, 2, 5), [(3, 0), (2, 0), (1, 0), (0, 1), (0xffff, 1)]);
    pit.set_gate(2, false);
    pit.set_gate(2, true);
    let start = pulse_at(clock.now());
    to(&clock, start + 2);
    pit.write(2, 9);
    pit.write(2, 0);
    assert_eq!(count(&pit, 2), 1, "a new count waits for the next trigger");
    pit.set_gate(2, false);
    assert!(!pit.out(2), "the gate's level does not matter");
    pit.set_gate(2, true);
    to(&clock, start + 10);
    assert_eq!((count(&pit, 2), pit.out(2)), (1, false));
    to(&clock, start + 11);
    assert!(pit.out(2));
}

#[test]
fn mode_2_is_low_for_the_last_pulse_of_each_period() {
    let (pit, clock) = pit();
    load(&pit, 1, 2, 4);
    let seen = trace(&pit, &clock, 1, 9);
    assert_eq!(seen, [(4, 1), (3, 1), (2, 1), (1, 0), (4, 1), (3, 1), (2, 1), (1, 0), (4, 1)]);
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_its_period() {
    let (pit, clock) = pit();
    load(&pit, 1, 2, 4);
    to(&clock, 1);
    pit.write(1, 2);
    pit.write(1, 0);
    assert_eq!(status(&pit, 1), 0x80 | 0x40 | 0x34);
    assert_eq!(trace(&pit, &clock, 1, 6), [(3, 1), (2, 1), (1, 0), (2, 1), (1, 0), (2, 1)]);
    assert_eq!(status(&pit, 1) & 0x40, 0);
}

#[test]
fn mode_3_is_high_for_the_longer_half() {
    let (pit, clock) = pit();
    load(&pit, 1, 3, 4);
    assert_eq!(trace(&pit, &clock, 1, 6), [(4, 1), (2, 1), (4, 0), (2, 0), (4, 1), (2, 1)]);
    load(&pit, 1, 3, 5);
    let seen = trace(&pit, &clock, 1, 7);
    assert_eq!(seen, [(4, 1), (2, 1), (0, 1), (4, 0), (2, 0), (4, 1), (2, 1)]);
}

#[test]
fn mode_3_takes_a_new_count_at_the_end_of_its_half() {
    let (pit, clock) = pit();
    load(&pit, 1, 3, 8);
    to(&clock, 1);
    pit.write(1, 4);
    pit.write(1, 0);
    let outs: Vec<u8> = trace(&pit, &clock, 1, 9).into_iter().map(|(_, out)| out).collect();
    assert_eq!(outs, [1, 1, 1, 0, 0, 1, 1, 0, 0], "from pulse 1: the old high half, then halves of two");
    load(&pit, 1, 3, 8);
    let start = pulse_at(clock.now());
    to(&clock, start + 5);
    pit.write(1, 4);
    pit.write(1, 0);
    let outs: Vec<u8> = trace(&pit, &clock, 1, 7).into_iter().map(|(_, out)| out).collect();
    assert_eq!(outs, [0, 0, 0, 1, 1, 0, 0]);
}

#[test]
fn modes_2_and_3_are_high_while_the_gate_is_low_and_start_again_when_it_rises() {
    let (pit, clock) = pit();
    pit.set_gate(2, true);
    for mode in [2, 3] {
        load(&pit, 2, mode, 4);
        let start = pulse_at(clock.now());
        to(&clock, start + 3);
        assert!(!pit.out(2));
        pit.set_gate(2, false);
        assert!(pit.out(2));
        to(&clock, start + 40);
        assert!(pit.out(2));
        pit.set_gate(2, true);
        assert_eq!((count(&pit, 2), pit.out(2)), (4, true));
        to(&clock, start + 43);
        assert!(!pit.out(2));
    }
}

#[test]
fn modes_4_and_5_strobe_once_after_the_count_or_the_trigger() {
    let (pit, clock) = pit();
    load(&pit, 1, 4, 2);
    assert_eq!(trace(&pit, &clock, 1, 5), [(2, 1), (1, 1), (0, 0), (0xffff, 1), (0xfffe, 1)]);
    load(&pit, 2, 5, 2);
    let outs: Vec<u8> = trace(&pit, &clock, 2, 4).into_iter().map(|(_, out)| out).collect();
    assert_eq!(outs, [1, 1, 1, 1]);
    pit.set_gate(2, true);
    assert_eq!(trace(&pit, &clock, 2, 4), [(2, 1), (1, 1), (0, 0), (0xffff, 1)]);
}

#[test]
fn counts_are_decimal_in_bcd() {
    let (pit, clock) = pit();
    pit.write(3, 0x71);
    pit.write(1, 0x00);
    pit.write(1, 0x10);
    assert_eq!(count(&pit, 1), 0x1000);
    to(&clock, 1);
    assert_eq!(count(&pit, 1), 0x0999);
    to(&clock, 1001);
    assert_eq!((count(&pit, 1), pit.out(1)), (0x9999, true));
    pit.write(3, 0x71);
    pit.write(1, 0);
    pit.write(1, 0);
    to(&clock, 1002);
    assert_eq!(count(&pit, 1), 0x9999, "0 counts as 10000");
}

#[test]
fn one_byte_of_a_count_can_be_accessed_alone() {
    let (pit, _) = pit();
    pit.write(3, 0x54);
    pit.write(1, 0x77);
    assert_eq!(([pit.read(1), pit.read(1)], status(&pit, 1)), ([0x77; 2], 0x94));
    pit.write(3, 0x64);
    pit.write(1, 0x12);
    assert_eq!(([pit.read(1), pit.read(1)], status(&pit, 1)), ([0x12; 2], 0xa4));
    pit.write(3, 0x40);
    assert_eq!([pit.read(1), pit.read(1)], [0x12; 2]);
}

#[test]
fn a_latched_count_stays_until_it_is_read_or_the_counter_is_programmed() {
    let (pit, clock) = pit();
    load(&pit, 1, 0, 0x1234);
    pit.write(3, 0x40);
    to(&clock, 0x30);
    pit.write(3, 0x40);
    assert_eq!([pit.read(1), pit.read(1)], [0x34, 0x12], "the second latch changes nothing");
    assert_eq!([pit.read(1), pit.read(1)], [0x04, 0x12]);
    assert_eq!(pit.read(1), 0x04);
    pit.write(3, 0x40);
    to(&clock, 0x34);
    assert_eq!([pit.read(1), pit.read(1)], [0x04, 0x12], "a latch begins with the lower byte");
    assert_eq!(pit.read(1), 0x12, "and the byte that was due before it follows");
    pit.write(3, 0x40);
    load(&pit, 1, 0, 0x5678);
    assert_eq!([pit.read(1), pit.read(1)], [0x78, 0x56]);
}

#[test]
fn the_read_back_command_latches_status_and_counts_of_several() {
    let (pit, clock) = pit();
    load(&pit, 0, 2, 0x1000);
    load(&pit, 1, 4, 0x2000);
    pit.write(3, 0xc6);
    to(&clock, 0x10);
    assert_eq!([pit.read(0), pit.read(0), pit.read(0)], [0xb4, 0x00, 0x10]);
    assert_eq!([pit.read(1), pit.read(1), pit.read(1)], [0xb8, 0x00, 0x20]);
    assert_eq!([pit.read(0), pit.read(0)], [0xf0, 0x0f]);
    pit.write(3, 0xe4);
    load(&pit, 1, 0, 1);
    assert_eq!(pit.read(1), 1, "programming drops a latched status");
}

#[test]
fn the_null_count_flag_stands_until_the_count_is_complete() {
    let (pit, _) = pit();
    pit.write(3, 0x74);
    assert_eq!(status(&pit, 1), 0xf4);
    pit.write(1, 2);
    assert_eq!(status(&pit, 1), 0xf4);
    pit.write(1, 0);
    assert_eq!(status(&pit, 1), 0x94 | 0x20);
}

/// Times of the rising edges, in pulses, up to a time.
fn rises(pit: &I8254, clock: &Clock, until: i64) -> Vec<i64> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (list, own) = (seen.clone(), clock.clone());
    let guard = pit.irq().observe(move |level| {
        if level {
            list.lock().push(pulse_at(own.now()));
        }
    });
    to(clock, until);
    drop(guard);
    let list = seen.lock();
    list.clone()
}

#[test]
fn counter_0_interrupts_at_its_times_once_it_is_wired() {
    let (pit, clock) = pit();
    assert_eq!(clock.next_deadline(), None, "nobody listens");
    pit.connect(&IrqLine::new("irq0"));
    load(&pit, 0, 2, 11_932);
    assert_eq!(rises(&pit, &clock, 40_000), [11_932, 23_864, 35_796]);
    load(&pit, 0, 3, 10_000);
    assert_eq!(rises(&pit, &clock, 65_000), [50_000, 60_000]);
    load(&pit, 0, 4, 100);
    assert_eq!(rises(&pit, &clock, 70_000), [65_101]);
    load(&pit, 0, 0, 100);
    assert_eq!(rises(&pit, &clock, 80_000), [70_100]);
    assert_eq!(clock.next_deadline(), None, "nothing more is to come");
}

#[test]
fn a_new_count_moves_the_interrupts_from_the_next_period_on() {
    let (pit, clock) = pit();
    pit.connect(&IrqLine::new("irq0"));
    load(&pit, 0, 2, 1000);
    to(&clock, 500);
    pit.write(0, 100);
    pit.write(0, 0);
    assert_eq!(rises(&pit, &clock, 1250), [1000, 1100, 1200]);
    load(&pit, 0, 3, 1000);
    to(&clock, 1300);
    pit.write(0, 100);
    pit.write(0, 0);
    assert_eq!(rises(&pit, &clock, 1950), [1800, 1900], "the old high half, then halves of 50");
}

#[test]
fn an_edge_is_told_when_the_mode_changes_the_output() {
    let (pit, clock) = pit();
    let irq = IrqLine::new("irq0");
    pit.connect(&irq);
    assert!(!irq.level(), "nothing has happened yet");
    pit.write(3, 0x36);
    assert!(!irq.level(), "the output was high and stays so");
    pit.write(3, 0x30);
    assert!(!irq.level());
    pit.write(3, 0x34);
    assert!(irq.level());
    pit.write(3, 0x34);
    assert!(clock.next_deadline().is_none(), "without a count nothing comes");
}

#[test]
fn a_guest_that_asks_for_a_million_interrupts_gets_fewer() {
    let (pit, clock) = pit();
    pit.connect(&IrqLine::new("irq0"));
    for mode in [2, 3] {
        for n in [1, 2, 3] {
            load(&pit, 0, mode, n);
            let start = pulse_at(clock.now());
            let told = rises(&pit, &clock, start + 11_931).len();
            assert!(if n == 1 { told == 0 } else { (300..=600).contains(&told) }, "{mode} {n}: {told}");
        }
    }
}

#[test]
fn the_interrupt_can_be_switched_off_from_outside() {
    let (pit, clock) = pit();
    let enable = IrqLine::new("enable");
    pit.connect_enable(&enable);
    pit.connect(&IrqLine::new("irq0"));
    load(&pit, 0, 2, 1000);
    enable.raise();
    enable.lower();
    assert_eq!(rises(&pit, &clock, 3500), []);
    enable.raise();
    assert_eq!(rises(&pit, &clock, 5500), [4000, 5000]);
}

#[test]
fn reset_brings_back_mode_3_from_now_on() {
    let (pit, clock) = pit();
    load(&pit, 0, 0, 5);
    to(&clock, 1000);
    pit.reset();
    assert!(pit.out(0) && !pit.irq().level());
    assert_eq!(status(&pit, 0), 0x86);
    to(&clock, 1002);
    pit.write(3, 0xd2);
    assert_eq!(pit.read(0), 0xfc);
}

#[test]
fn no_sequence_of_a_guest_panics_or_runs_backwards() {
    let (pit, clock) = pit();
    pit.connect(&IrqLine::new("irq0"));
    let mut rng = 7_u64;
    for _ in 0..100_000 {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match rng >> 60 {
            0..8 => pit.write(rng >> 40 & 3, (rng >> 48) as u8),
            8..12 => drop(pit.read(rng >> 40 & 3)),
            12 => pit.set_gate((rng >> 40) as usize & 3, rng >> 48 & 1 != 0),
            _ => drop(clock.step(Some((rng >> 45) as i64 & 0x7fff)).unwrap()),
        }
    }
    assert!(clock.next_deadline().is_none_or(|deadline| deadline >= clock.now()));
}
