//! `cpiom-edc`.

use std::sync::Arc;

use flatview::Owner;
use flatview_device::{Log, Reset};
use flatview_hw::cpiom::edc::Edc;

use crate::Bench;

const CTRL: u64 = 0x1000;
const STATUS: u64 = 0x1004;
const COUNT: u64 = 0x1008;
const ADDR: u64 = 0x100c;
const CE_THRESHOLD: u64 = 0x0c;
const UE_THRESHOLD: u64 = 0x10;
const SCRUB_PERIOD: u64 = 0x14;
const SCRUB_PASSES: u64 = 0x18;
const SCRUB_NEXT: u64 = 0x1c;
const SCRUB_FOUND: u64 = 0x20;
const ERROR: u64 = 0x2000;
const UE: u32 = 1;
const WAITS: u32 = 2;
const NONE: u32 = 0xffff_ffff;

struct Board {
    bench: Bench,
    edc: Arc<Edc>,
}

impl std::ops::Deref for Board {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        &self.bench
    }
}

fn board() -> Board {
    let bench = Bench::new();
    let edc = Edc::new(&bench.clock, &Log::none());
    let owner = Owner::object("/machine");
    bench.map(0x0c, edc.scrub_region(&owner));
    bench.map(0x1000, edc.register_region(&owner));
    bench.map(0x2000, edc.error_region(&owner));
    Board { bench, edc }
}

/// One that is switched on.
fn enabled() -> Board {
    let board = board();
    board.set(CTRL, 1);
    board
}

#[test]
fn ctrl_0_switches_detection_on_and_ctrl_1_the_interrupt() {
    let board = board();
    board.set(CTRL, !0);
    assert_eq!(board.get(CTRL), 3);
    board.set(CTRL, 2);
    board.set(ERROR, 0x1000);
    assert_eq!((board.get(STATUS), board.get(COUNT), board.get(ERROR)), (0, 0, NONE), "not detected");
    board.set(CTRL, 1);
    board.set(ERROR, 0x1000);
    assert_eq!(board.get(STATUS), 1);
    assert!(!board.edc.irq().level(), "not enabled");
    board.set(CTRL, 3);
    assert!(board.edc.irq().level());
    board.set(CTRL, 2);
    assert!(board.edc.irq().level(), "what is latched stays");
    board.set(CTRL, 1);
    assert!(!board.edc.irq().level());
}

#[test]
fn status_tells_correctable_from_uncorrectable_and_each_is_cleared_by_a_1() {
    let board = enabled();
    board.set(CTRL, 3);
    board.set(ERROR, 0x100);
    assert_eq!(board.get(STATUS), 1);
    board.set(ERROR, 0x200 | UE);
    assert_eq!(board.get(STATUS), 3);
    board.set(STATUS, 0);
    assert_eq!(board.get(STATUS), 3, "writing 0 clears nothing");
    board.set(STATUS, 1);
    assert_eq!(board.get(STATUS), 2);
    assert!(board.edc.irq().level());
    board.set(STATUS, !1);
    assert_eq!(board.get(STATUS), 0);
    assert!(!board.edc.irq().level());
}

#[test]
fn count_has_16_saturating_bits_for_each_kind_and_can_be_written() {
    let board = enabled();
    board.set(COUNT, 0xfffe_0007);
    board.set(ERROR, 0x100);
    assert_eq!(board.get(COUNT), 0xfffe_0008);
    for _ in 0..3 {
        board.set(ERROR, 0x100 | UE);
    }
    assert_eq!(board.get(COUNT), 0xffff_0008);
    board.set(COUNT, 0xffff);
    board.set(ERROR, 0x100);
    assert_eq!(board.get(COUNT), 0xffff, "and it does not run over into the other half");
    board.set(COUNT, 0);
    assert_eq!(board.get(COUNT), 0);
}

#[test]
fn addr_is_the_first_errors_and_an_uncorrectable_one_takes_it_from_a_correctable_one() {
    let board = enabled();
    board.set(ERROR, 0x100);
    board.set(ERROR, 0x200);
    assert_eq!(board.get(ADDR), 0x100);
    board.set(ERROR, 0x300 | UE);
    assert_eq!(board.get(ADDR), 0x300);
    board.set(ERROR, 0x400 | UE);
    assert_eq!(board.get(ADDR), 0x300);
    board.set(ADDR, 0);
    assert_eq!(board.get(ADDR), 0x300, "read-only");
    board.set(STATUS, 2);
    board.set(ERROR, 0x500);
    assert_eq!(board.get(ADDR), 0x300, "a correctable one is still latched");
    board.set(STATUS, 3);
    board.set(ERROR, 0x600);
    assert_eq!(board.get(ADDR), 0x600);
}

#[test]
fn the_line_waits_for_the_threshold_of_correctable_errors() {
    let board = enabled();
    board.set(CTRL, 3);
    board.set(CE_THRESHOLD, 0xabcd_0003);
    assert_eq!(board.get(CE_THRESHOLD), 3, "16 bits");
    for expected in [false, false, true, true] {
        board.set(ERROR, 0x100);
        assert_eq!(board.edc.irq().level(), expected, "COUNT is {}", board.get(COUNT));
        assert_eq!(board.get(STATUS), 1, "STATUS tells each");
    }
    board.set(CE_THRESHOLD, 5);
    assert!(!board.edc.irq().level());
    board.set(ERROR, 0x100 | UE);
    assert!(board.edc.irq().level(), "the other kind has its own, which is 0");
    board.set(STATUS, 2);
    assert!(!board.edc.irq().level());
    board.set(CE_THRESHOLD, 0);
    assert!(board.edc.irq().level());
    board.set(COUNT, 0);
    assert!(board.edc.irq().level(), "0 is reached by any count");
}

#[test]
fn the_line_waits_for_the_threshold_of_uncorrectable_errors() {
    let board = enabled();
    board.set(CTRL, 3);
    board.set(UE_THRESHOLD, 0xffff_0002);
    assert_eq!(board.get(UE_THRESHOLD), 2, "16 bits");
    board.set(ERROR, 0x100 | UE);
    assert!(!board.edc.irq().level());
    board.set(ERROR, 0x100 | UE);
    assert!(board.edc.irq().level());
    board.set(COUNT, 0x0001_0000);
    assert!(!board.edc.irq().level(), "the line follows COUNT");
}

#[test]
fn word_n_of_the_window_is_the_nth_last_error_eight_deep() {
    let board = enabled();
    for n in 0..10_u32 {
        board.set(ERROR + u64::from(n) * 0x18, n << 8 | n & UE);
    }
    for n in 0..8_u32 {
        let error = 9 - n;
        assert_eq!(board.get(ERROR + u64::from(n) * 4), error << 8 | error & UE, "word {n}");
        assert_eq!(board.peek(ERROR + u64::from(n) * 4), error << 8 | error & UE);
    }
    for n in [8, 9, 0x7ff] {
        assert_eq!(board.get(ERROR + n * 4), NONE, "word {n}");
    }
    board.set(STATUS, 3);
    assert_eq!(board.get(ERROR), 0x901, "clearing STATUS forgets no error");
}

#[test]
fn an_error_beyond_ram_is_none() {
    let board = enabled();
    board.set(ERROR, 64 << 20);
    board.set(ERROR, !0);
    assert_eq!((board.get(STATUS), board.get(ERROR)), (0, NONE));
    board.set(ERROR, (64 << 20) - 4);
    assert_eq!(board.get(ERROR), (64 << 20) - 4);
}

#[test]
fn passes_are_counted_from_the_clock_however_long_nobody_looks() {
    let board = enabled();
    board.at_cycle(100);
    board.set(SCRUB_PERIOD, 1000);
    for (cycle, passes) in [(100, 0), (1099, 0), (1100, 1), (2099, 1), (2100, 2), (1_000_100, 1000)] {
        board.at_cycle(cycle);
        assert_eq!(board.peek(SCRUB_PASSES), passes, "cycle {cycle}");
        assert_eq!(board.get(SCRUB_PASSES), passes, "cycle {cycle}");
    }
    board.set(SCRUB_PASSES, 0);
    assert_eq!(board.get(SCRUB_PASSES), 1000, "read-only");
    // A hundred days, in which the 32 bits ran over.
    let cycles = 100 * 86_400 * 16_600_000_u64;
    board.at_cycle(1_000_100 + cycles);
    assert_eq!(board.get(SCRUB_PASSES), (1000 + cycles / 1000) as u32);
    assert_eq!(board.clock.next_deadline(), None, "and no timer ran for it");
}

#[test]
fn scrub_next_counts_down_to_the_end_of_the_pass() {
    let board = enabled();
    assert_eq!(board.get(SCRUB_NEXT), 0, "the scrubber is off");
    board.set(SCRUB_PERIOD, 50);
    for (cycle, next) in [(0, 50), (1, 49), (49, 1), (50, 50), (120, 30)] {
        board.at_cycle(cycle);
        assert_eq!((board.peek(SCRUB_NEXT), board.get(SCRUB_NEXT)), (next, next), "cycle {cycle}");
    }
    board.set(SCRUB_NEXT, 7);
    assert_eq!(board.get(SCRUB_NEXT), 30, "read-only");
}

#[test]
fn writing_the_period_or_enabling_begins_a_pass_and_0_stops() {
    let board = board();
    board.set(SCRUB_PERIOD, 100);
    board.at_cycle(1000);
    assert_eq!((board.get(SCRUB_PASSES), board.get(SCRUB_PERIOD)), (0, 100), "CTRL bit 0 is clear");
    board.set(CTRL, 1);
    board.at_cycle(1190);
    board.set(SCRUB_PERIOD, 100);
    assert_eq!((board.get(SCRUB_PASSES), board.get(SCRUB_NEXT)), (1, 100));
    board.set(CTRL, 3);
    assert_eq!(board.get(SCRUB_NEXT), 100, "CTRL bit 1 does not matter to it");
    board.at_cycle(1210);
    board.set(SCRUB_PERIOD, 0);
    board.at_cycle(9999);
    assert_eq!((board.get(SCRUB_PASSES), board.get(SCRUB_NEXT)), (1, 0));
    board.set(SCRUB_PERIOD, !0);
    board.at_cycle(9999 + 0xffff_ffff);
    assert_eq!(board.get(SCRUB_PASSES), 2);
}

#[test]
fn an_error_that_waits_is_found_when_the_pass_ends_and_interrupts_then() {
    let board = enabled();
    board.set(CTRL, 3);
    board.set(ERROR, 0x1000 | WAITS);
    board.set(ERROR, 0x2000 | WAITS | UE);
    assert_eq!((board.get(STATUS), board.get(COUNT), board.get(ERROR)), (0, 0, NONE));
    board.set(SCRUB_PERIOD, 1000);
    board.at_cycle(999);
    assert_eq!((board.get(STATUS), board.get(SCRUB_FOUND)), (0, 0));
    assert!(!board.edc.irq().level());
    board.at_cycle(1000);
    assert!(board.edc.irq().level(), "without an access");
    assert_eq!((board.get(STATUS), board.get(COUNT), board.get(ADDR)), (3, 0x0001_0001, 0x2000));
    assert_eq!((board.get(ERROR), board.get(ERROR + 4)), (0x2001, 0x1000));
    assert_eq!(board.get(SCRUB_FOUND), 2);
    board.set(SCRUB_FOUND, 0);
    assert_eq!(board.get(SCRUB_FOUND), 2, "read-only");
    board.set(STATUS, 3);
    board.at_cycle(5000);
    assert_eq!((board.get(STATUS), board.get(SCRUB_FOUND)), (0, 2), "found once");
}

#[test]
fn errors_wait_while_detection_is_off_and_the_seventeenth_does_not_wait() {
    let board = board();
    for n in 0..17_u32 {
        board.set(ERROR, n << 4 | WAITS);
    }
    assert_eq!(board.get(COUNT), 0, "nothing is detected");
    board.set(CTRL, 1);
    board.set(ERROR, 0x800 | WAITS);
    assert_eq!((board.get(COUNT), board.get(ERROR)), (1, 0x800));
    board.set(SCRUB_PERIOD, 10);
    board.at_cycle(10);
    assert_eq!((board.get(COUNT), board.get(SCRUB_FOUND), board.get(ERROR)), (17, 16, 0xf0));
}

#[test]
fn a_reset_clears_all_and_forgets_errors_those_that_wait_too() {
    let board = enabled();
    board.set(CTRL, 3);
    board.set(CE_THRESHOLD, 1);
    board.set(UE_THRESHOLD, 1);
    board.set(SCRUB_PERIOD, 100);
    board.set(ERROR, 0x1000);
    board.set(ERROR, 0x1000 | WAITS);
    board.at_cycle(50);
    assert!(board.edc.irq().level());
    board.edc.reset();
    assert!(!board.edc.irq().level());
    board.at_cycle(1000);
    for register in [
        CTRL,
        STATUS,
        COUNT,
        ADDR,
        CE_THRESHOLD,
        UE_THRESHOLD,
        SCRUB_PERIOD,
        SCRUB_PASSES,
        SCRUB_NEXT,
        SCRUB_FOUND,
    ] {
        assert_eq!(board.get(register), 0, "{register:#x}");
    }
    assert_eq!(board.get(ERROR), NONE);
    board.set(CTRL, 1);
    board.set(SCRUB_PERIOD, 1);
    board.at_cycle(2000);
    assert_eq!((board.get(STATUS), board.get(SCRUB_PASSES)), (0, 1000));
}

#[test]
fn what_is_saved_goes_on_as_it_was() {
    let (board, other) = (enabled(), board());
    board.set(CTRL, 3);
    board.set(SCRUB_PERIOD, 1000);
    board.set(ERROR, 0x100 | UE);
    board.set(STATUS, 3);
    board.set(ERROR, 0x200 | WAITS);
    let text = serde_json::to_string(&board.edc.save()).unwrap();
    other.at_cycle(700);
    other.edc.restore(serde_json::from_str(&text).unwrap());
    other.at_cycle(999);
    assert!(!other.edc.irq().level());
    assert_eq!(other.get(ERROR), 0x101);
    other.at_cycle(1000);
    assert!(other.edc.irq().level(), "its times are the clock's");
    assert_eq!(other.get(ERROR), 0x200);
}
