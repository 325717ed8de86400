//! `cpiom-timers`.

use std::sync::Arc;

use flatview::Owner;
use flatview_device::{Log, Reset};
use flatview_hw::cpiom::timers::Timers;

use crate::Bench;

const CTRL: u64 = 0x00;
const PRESCALE: u64 = 0x04;
const PERIOD: u64 = 0x08;
const COUNTER: u64 = 0x0c;
const STATUS: u64 = 0x10;
const WIN_BEGIN: u64 = 0x14;
const WIN_END: u64 = 0x18;
const FRAME: u64 = 0x1c;
const FRAME_COUNT: u64 = 0x20;
const RUN: u32 = 1;
const TICK_IRQ: u32 = 2;
const WINDOW_IRQ: u32 = 4;
const TICK: u32 = 1;
const BEGIN: u32 = 2;
const END: u32 = 4;
const OVERRUN: u32 = 8;

struct Board {
    bench: Bench,
    timers: Arc<Timers>,
}

impl std::ops::Deref for Board {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        &self.bench
    }
}

fn board() -> Board {
    let bench = Bench::new();
    let timers = Timers::new(&bench.clock, &Log::none());
    bench.map(0, timers.region(&Owner::object("/machine")));
    Board { bench, timers }
}

/// One with a tick every `prescale` × `period` cycles, which stands.
fn set_up(prescale: u32, period: u32) -> Board {
    let board = board();
    board.set(PRESCALE, prescale);
    board.set(PERIOD, period);
    board
}

impl Board {
    /// Reads STATUS and clears what it read.
    fn take(&self) -> u32 {
        let status = self.get(STATUS);
        self.set(STATUS, status);
        status
    }

    fn lines(&self) -> (bool, bool) {
        (self.timers.tick().level(), self.timers.window().level())
    }
}

#[test]
fn ctrl_starts_the_counter_and_stops_it_where_it_is() {
    let board = set_up(10, 5);
    board.set(CTRL, !0);
    assert_eq!(board.get(CTRL), 7);
    board.at_cycle(25);
    board.set(CTRL, 0);
    assert_eq!(board.get(COUNTER), 3);
    board.at_cycle(1000);
    assert_eq!((board.get(COUNTER), board.get(STATUS)), (3, 0));
    board.set(CTRL, RUN);
    board.at_cycle(1004);
    assert_eq!(board.get(COUNTER), 3);
    board.at_cycle(1005);
    assert_eq!(board.get(COUNTER), 2, "the part of a step that had passed was kept too");
    board.at_cycle(1024);
    assert_eq!(board.get(STATUS), 0);
    board.at_cycle(1025);
    assert_eq!((board.get(STATUS), board.get(COUNTER)), (TICK, 5));
}

#[test]
fn the_counter_goes_from_period_down_to_1_a_step_every_prescale_cycles() {
    let board = set_up(3, 4);
    assert_eq!(board.get(COUNTER), 4, "loaded while it stands");
    board.at_cycle(100);
    board.set(CTRL, RUN);
    for cycle in 0..60 {
        board.at_cycle(100 + cycle);
        let expected = 4 - (cycle / 3 % 4) as u32;
        assert_eq!((board.peek(COUNTER), board.get(COUNTER)), (expected, expected), "cycle {cycle}");
    }
    board.set(COUNTER, 1);
    assert_eq!(board.get(COUNTER), 1 + 3 - (59 / 3 % 4), "read-only");
}

#[test]
fn prescale_divides_16_6_mhz_and_0_is_1() {
    for (prescale, cycles) in [(0, 1), (1, 1), (2, 2), (16_600, 16_600), (u32::MAX, u64::from(u32::MAX))] {
        let board = set_up(prescale, 1);
        assert_eq!(board.get(PRESCALE), prescale);
        board.set(CTRL, RUN);
        board.at_cycle(cycles - 1);
        assert_eq!(board.get(STATUS), 0, "{prescale}");
        board.at_cycle(cycles);
        assert_eq!(board.get(STATUS), TICK, "{prescale}");
    }
    let board = set_up(16_600, 1000);
    board.set(CTRL, RUN);
    board.clock.set(999_999_999).unwrap();
    assert_eq!(board.get(STATUS), 0);
    board.clock.set(1_000_000_000).unwrap();
    assert_eq!(board.get(STATUS), TICK, "a second");
}

#[test]
fn a_period_of_0_means_no_ticks() {
    let board = set_up(1, 0);
    board.set(CTRL, RUN | TICK_IRQ);
    board.at_cycle(1_000_000);
    assert_eq!((board.get(COUNTER), board.get(STATUS), board.get(PERIOD)), (0, 0, 0));
    board.set(PERIOD, 10);
    assert_eq!(board.get(COUNTER), 10, "with no tick to wait for it takes effect at once");
    board.at_cycle(1_000_010);
    assert_eq!(board.lines(), (true, false));
    board.set(PERIOD, 0);
    board.at_cycle(1_000_019);
    assert_eq!((board.take(), board.get(COUNTER)), (TICK, 1));
    board.at_cycle(1_000_020);
    assert_eq!((board.take(), board.get(COUNTER)), (TICK, 0));
    board.at_cycle(2_000_000);
    assert_eq!((board.get(STATUS), board.get(COUNTER)), (0, 0));
}

#[test]
fn the_longest_period_is_exact_to_the_cycle() {
    let board = set_up(u32::MAX, u32::MAX);
    board.set(CTRL, RUN);
    // Some 292 years are all that the clock has; the period is 35,000 years.
    board.clock.set(i64::MAX - 1).unwrap();
    let cycles = (i128::from(i64::MAX - 1) * 83 / 5000) as u64;
    assert_eq!(u64::from(board.get(COUNTER)), 0xffff_ffff - cycles / 0xffff_ffff);
    assert_eq!(board.get(STATUS), 0);
}

#[test]
fn ticks_do_not_drift_in_a_hundred_years() {
    let board = set_up(7, 13);
    board.set(FRAME, u32::MAX);
    board.at_cycle(5);
    board.set(CTRL, RUN);
    let years = 100 * 365 * 86_400 * 16_600_000_u64;
    let ticks = years / 91;
    board.at_cycle(5 + ticks * 91 - 1);
    assert_eq!((board.get(COUNTER), board.get(FRAME_COUNT)), (1, ((ticks - 1) / 0xffff_ffff) as u32));
    board.set(STATUS, !0);
    board.at_cycle(5 + ticks * 91);
    assert_eq!((board.get(STATUS), board.get(COUNTER)), (TICK, 13));
}

#[test]
fn looking_seldom_or_often_makes_no_difference() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let (seldom, often) = (board(), board());
        let writes: Vec<(u64, u64, u32)> = {
            let mut cycle = 0;
            let mut next = |n: usize| {
                cycle += random.u64(0..400);
                let small = random.u32(0..6);
                match n % 12 {
                    0 => (cycle, PRESCALE, small),
                    1 | 7 => (cycle, PERIOD, random.u32(0..9)),
                    2 | 8 => (cycle, FRAME, small),
                    3 | 9 => (cycle, WIN_BEGIN, small),
                    4 | 10 => (cycle, WIN_END, small),
                    5 => (cycle, CTRL, random.u32(0..8) | RUN),
                    6 => (cycle, CTRL, random.u32(0..8)),
                    _ => (cycle, STATUS, random.u32(0..16)),
                }
            };
            (0..24).map(|n| next(n * 5)).collect()
        };
        let mut now = 0;
        for (cycle, register, value) in writes {
            while now < cycle {
                now += 1;
                often.at_cycle(now);
                if now % 3 != 0 {
                    often.get(COUNTER + now % 2 * 4);
                }
            }
            seldom.at_cycle(cycle);
            seldom.set(register, value);
            often.set(register, value);
            for register in (0..=FRAME_COUNT).step_by(4) {
                assert_eq!(
                    seldom.peek(register),
                    often.peek(register),
                    "seed {seed} cycle {cycle}: peek {register:#x}"
                );
            }
            assert_eq!(seldom.lines(), often.lines(), "seed {seed} cycle {cycle}");
        }
    }
}

#[test]
fn the_tick_line_is_status_0_and_ctrl_1_and_rises_at_its_cycle() {
    let board = set_up(10, 10);
    board.set(CTRL, RUN | TICK_IRQ);
    board.at_cycle(99);
    assert_eq!(board.lines(), (false, false));
    board.at_cycle(100);
    assert_eq!(board.lines(), (true, false), "without an access");
    board.set(CTRL, RUN);
    assert!(!board.timers.tick().level());
    board.set(CTRL, RUN | TICK_IRQ);
    assert!(board.timers.tick().level());
    board.set(STATUS, TICK);
    assert!(!board.timers.tick().level());
    board.at_cycle(200);
    assert!(board.timers.tick().level());
    let deadline = board.clock.next_deadline();
    assert_eq!(deadline, None, "no timer runs while the line is high already");
}

#[test]
fn period_and_prescale_written_while_running_take_effect_at_the_next_tick() {
    let board = set_up(2, 10);
    board.set(CTRL, RUN | TICK_IRQ);
    board.at_cycle(6);
    board.set(PERIOD, 3);
    board.set(PRESCALE, 5);
    assert_eq!((board.get(PERIOD), board.get(COUNTER)), (3, 7));
    board.at_cycle(19);
    assert_eq!((board.get(COUNTER), board.get(STATUS)), (1, 0));
    board.at_cycle(20);
    assert_eq!((board.get(COUNTER), board.take()), (3, TICK));
    board.at_cycle(34);
    assert_eq!((board.get(COUNTER), board.get(STATUS)), (1, 0));
    board.at_cycle(35);
    assert_eq!((board.get(COUNTER), board.take(), board.lines()), (3, TICK, (false, false)));
}

#[test]
fn period_and_prescale_written_while_it_stands_load_the_counter() {
    let board = set_up(2, 10);
    board.set(CTRL, RUN);
    board.at_cycle(7);
    board.set(CTRL, 0);
    assert_eq!(board.get(COUNTER), 7);
    board.set(PRESCALE, 3);
    assert_eq!(board.get(COUNTER), 10);
    board.set(PERIOD, 4);
    assert_eq!(board.get(COUNTER), 4);
    board.set(CTRL, RUN);
    board.at_cycle(7 + 11);
    assert_eq!(board.get(STATUS), 0);
    board.at_cycle(7 + 12);
    assert_eq!(board.get(STATUS), TICK);
}

#[test]
fn windows_begin_and_end_at_their_ticks_of_each_frame() {
    let board = set_up(1, 10);
    board.set(FRAME, 5);
    board.set(WIN_BEGIN, 1);
    board.set(WIN_END, 4);
    board.set(CTRL, RUN | WINDOW_IRQ);
    for tick in 1..=23_u64 {
        board.at_cycle(tick * 10 - 1);
        assert_eq!((board.get(STATUS), board.lines()), (0, (false, false)), "before tick {tick}");
        board.at_cycle(tick * 10);
        let expected = match tick % 5 {
            1 => TICK | BEGIN,
            4 => TICK | END,
            _ => TICK,
        };
        assert_eq!(board.lines(), (false, expected != TICK), "tick {tick}");
        assert_eq!(board.take(), expected, "tick {tick}");
        assert_eq!(u64::from(board.get(FRAME_COUNT)), tick / 5);
    }
    assert_eq!((board.get(WIN_BEGIN), board.get(WIN_END), board.get(FRAME)), (1, 4, 5));
}

#[test]
fn a_window_that_begins_with_the_frame_begins_at_the_tick_that_ends_the_frame_before() {
    let board = set_up(1, 10);
    board.set(FRAME, 3);
    board.set(WIN_END, 1);
    board.set(CTRL, RUN);
    assert_eq!(board.get(STATUS), 0, "a start is no tick");
    for expected in [TICK | END, TICK, TICK | BEGIN, TICK | END] {
        board.at_cycle(((board.clock.now() * 83 / 5000) as u64 / 10 + 1) * 10);
        assert_eq!(board.take(), expected);
    }
}

#[test]
fn the_window_line_is_status_1_or_2_and_ctrl_2() {
    let board = set_up(1, 10);
    board.set(FRAME, 4);
    board.set(WIN_BEGIN, 2);
    board.set(WIN_END, 3);
    board.set(CTRL, RUN | WINDOW_IRQ);
    board.at_cycle(20);
    assert_eq!(board.lines(), (false, true));
    board.at_cycle(30);
    board.set(STATUS, BEGIN);
    assert_eq!(board.lines(), (false, true), "the end is latched too");
    board.set(STATUS, END);
    assert_eq!(board.lines(), (false, false));
    board.set(CTRL, RUN);
    board.at_cycle(60);
    assert_eq!((board.get(STATUS) & BEGIN, board.lines()), (BEGIN, (false, false)));
    board.set(CTRL, WINDOW_IRQ);
    assert_eq!(board.lines(), (false, true));
}

#[test]
fn a_window_at_or_beyond_the_end_of_the_frame_is_never() {
    let board = set_up(1, 1);
    board.set(FRAME, 4);
    board.set(WIN_BEGIN, 4);
    board.set(WIN_END, u32::MAX);
    board.set(CTRL, RUN | WINDOW_IRQ);
    board.at_cycle(1000);
    assert_eq!((board.get(STATUS), board.get(FRAME_COUNT)), (TICK | OVERRUN, 250));
    assert_eq!(board.clock.next_deadline(), None);
}

#[test]
fn windows_rewritten_while_running_are_compared_from_the_next_tick_on() {
    let board = set_up(1, 10);
    board.set(FRAME, 10);
    board.set(WIN_BEGIN, 8);
    board.set(WIN_END, 9);
    board.set(CTRL, RUN | WINDOW_IRQ);
    board.at_cycle(35);
    board.set(WIN_BEGIN, 3);
    assert_eq!(board.get(STATUS) & BEGIN, 0, "tick 3 has passed");
    board.set(WIN_END, 4);
    board.at_cycle(40);
    assert_eq!((board.take(), board.get(WIN_END)), (TICK | END | OVERRUN, 4), "nobody took the ticks");
    board.at_cycle(129);
    assert!(!board.timers.window().level());
    board.at_cycle(130);
    assert!(board.timers.window().level());
    assert_eq!(board.get(STATUS) & (BEGIN | END), BEGIN);
}

#[test]
fn a_frame_made_shorter_than_what_has_passed_of_it_ends_at_the_next_tick() {
    let board = set_up(1, 10);
    board.set(FRAME, 100);
    board.set(WIN_BEGIN, 200);
    board.set(WIN_END, 1);
    board.set(CTRL, RUN | WINDOW_IRQ);
    board.at_cycle(505);
    board.set(STATUS, !0);
    board.set(FRAME, 3);
    board.set(WIN_BEGIN, 0);
    assert_eq!(board.get(FRAME_COUNT), 0);
    board.at_cycle(510);
    assert_eq!((board.lines(), board.get(STATUS), board.get(FRAME_COUNT)), ((false, true), TICK | BEGIN, 1));
    board.at_cycle(520);
    assert_eq!(board.get(STATUS) & END, END);
    board.at_cycle(540);
    assert_eq!(board.get(FRAME_COUNT), 2);
}

#[test]
fn a_frame_of_0_ticks_is_none_and_writing_0_begins_the_next_one_anew() {
    let board = set_up(1, 10);
    board.set(CTRL, RUN);
    board.at_cycle(100);
    assert_eq!((board.get(FRAME), board.get(FRAME_COUNT)), (0, 0));
    assert_eq!(board.get(STATUS) & (BEGIN | END), 0, "though WIN_BEGIN is 0");
    board.set(FRAME, 4);
    board.at_cycle(120);
    board.set(FRAME, 0);
    board.set(FRAME, 4);
    board.at_cycle(159);
    assert_eq!(board.get(FRAME_COUNT), 0);
    board.at_cycle(160);
    assert_eq!(board.get(FRAME_COUNT), 1);
}

#[test]
fn frame_count_counts_frames_and_wraps_at_32_bits() {
    let board = set_up(1, 1);
    board.set(FRAME, 1);
    board.set(CTRL, RUN);
    board.at_cycle(0xffff_ffff);
    assert_eq!((board.peek(FRAME_COUNT), board.get(FRAME_COUNT)), (u32::MAX, u32::MAX));
    board.set(FRAME_COUNT, 5);
    assert_eq!(board.get(FRAME_COUNT), u32::MAX, "read-only");
    board.at_cycle(0x1_0000_0001);
    assert_eq!(board.get(FRAME_COUNT), 1);
}

#[test]
fn overrun_tells_that_an_event_came_before_the_last_was_cleared() {
    let board = set_up(1, 10);
    board.set(CTRL, RUN);
    board.at_cycle(10);
    assert_eq!(board.get(STATUS), TICK);
    board.at_cycle(20);
    assert_eq!(board.get(STATUS), TICK | OVERRUN);
    board.set(STATUS, OVERRUN);
    assert_eq!(board.get(STATUS), TICK, "each bit by itself");
    board.set(STATUS, TICK);
    board.at_cycle(49);
    assert_eq!(board.get(STATUS), TICK | OVERRUN, "two ticks that nobody looked at");
    board.set(STATUS, 0);
    assert_eq!(board.get(STATUS), TICK | OVERRUN, "writing 0 clears nothing");
}

#[test]
fn a_window_that_was_not_acknowledged_is_an_overrun_too() {
    for window in [WIN_BEGIN, WIN_END] {
        let board = set_up(1, 10);
        board.set(FRAME, 2);
        board.set(WIN_BEGIN, 9);
        board.set(WIN_END, 9);
        board.set(window, 1);
        board.set(CTRL, RUN);
        for (tick, overrun) in [(1, 0), (2, 0), (3, OVERRUN)] {
            board.at_cycle(tick * 10);
            assert_eq!(board.get(STATUS) & OVERRUN, overrun, "tick {tick}");
            board.set(STATUS, TICK);
        }
    }
}

#[test]
fn a_step_over_many_ticks_raises_each_line_once_and_runs_no_timer_for_the_others() {
    let board = set_up(1, 1);
    board.set(FRAME, 3);
    board.set(WIN_BEGIN, 1);
    board.set(CTRL, RUN | TICK_IRQ | WINDOW_IRQ);
    let rises = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let seen = rises.clone();
    let _observer = board.timers.tick().observe(move |level| {
        seen.fetch_add(u32::from(level), std::sync::atomic::Ordering::Relaxed);
    });
    // A week of ticks at 16.6 MHz: one at a time, this would not end.
    board.clock.step(Some(7 * 86_400 * 1_000_000_000)).unwrap();
    assert_eq!(board.lines(), (true, true));
    assert_eq!(rises.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(board.get(STATUS), TICK | BEGIN | END | OVERRUN);
}

#[test]
fn a_reset_stops_and_clears_everything() {
    let board = set_up(2, 10);
    for register in [WIN_BEGIN, WIN_END, FRAME] {
        board.set(register, 1);
    }
    board.set(FRAME, 2);
    board.set(CTRL, RUN | TICK_IRQ | WINDOW_IRQ);
    board.at_cycle(95);
    assert_eq!(board.lines(), (true, true));
    board.timers.reset();
    assert_eq!(board.lines(), (false, false));
    board.at_cycle(1000);
    for register in (0..=FRAME_COUNT).step_by(4) {
        assert_eq!(board.get(register), 0, "{register:#x}");
    }
}

#[test]
fn what_is_saved_goes_on_as_it_was() {
    let (board, other) = (set_up(10, 10), board());
    board.set(FRAME, 3);
    board.set(WIN_BEGIN, 2);
    board.set(CTRL, RUN | TICK_IRQ);
    board.at_cycle(250);
    board.set(STATUS, TICK | OVERRUN);
    let text = serde_json::to_string(&board.timers.save()).unwrap();
    other.at_cycle(290);
    other.timers.restore(serde_json::from_str(&text).unwrap());
    assert_eq!((other.get(COUNTER), other.lines()), (1, (false, false)));
    other.at_cycle(300);
    assert_eq!((other.get(STATUS), other.lines()), (TICK | BEGIN | END, (true, false)));
    assert_eq!(other.get(FRAME_COUNT), 1);
}
