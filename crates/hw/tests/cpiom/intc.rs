//! `cpiom-intc`.

use std::sync::Arc;

use flatview::Owner;
use flatview_device::{IrqLine, Log, Reset};
use flatview_hw::cpiom::intc::{Intc, IntcBank};

use crate::Bench;

const FREEZE: u64 = 0;
const PENDING: u64 = 0x00;
const ENABLE: u64 = 0x04;
const MASK: u64 = 0x08;
const LEVEL: u64 = 0x0c;
const PRIORITY: u64 = 0x10;
const CURRENT: u64 = 0x30;
const NONE: u32 = 0x3f;

struct Board {
    bench: Bench,
    intc: Arc<Intc>,
}

fn board() -> Board {
    let bench = Bench::new();
    let intc = Intc::new(&Log::none());
    bench.map(0, intc.region(&Owner::object("/machine")));
    Board { bench, intc }
}

/// Where a bank's registers begin.
fn base(bank: IntcBank) -> u64 {
    match bank {
        IntcBank::Rst => 0x100,
        IntcBank::Mcp => 0x200,
        IntcBank::Itn => 0x300,
    }
}

impl Board {
    fn get(&self, bank: IntcBank, register: u64) -> u32 {
        self.bench.get(base(bank) + register)
    }
    fn set(&self, bank: IntcBank, register: u64, value: u32) {
        self.bench.set(base(bank) + register, value);
    }
    fn input(&self, bank: IntcBank, line: usize) -> &IrqLine {
        &self.intc.inputs(bank)[line]
    }
    fn out(&self, bank: IntcBank) -> bool {
        self.intc.output(bank).level()
    }
    fn outputs(&self) -> [bool; 3] {
        IntcBank::ALL.map(|bank| self.out(bank))
    }
}

#[test]
fn a_rising_edge_stays_pending_until_a_1_is_written_to_its_bit() {
    for bank in IntcBank::ALL {
        let board = board();
        board.input(bank, 3).pulse();
        board.input(bank, 31).raise();
        assert_eq!(board.get(bank, PENDING), 0x8000_0008, "{bank:?}");
        board.set(bank, PENDING, 0x0000_0001);
        assert_eq!(board.get(bank, PENDING), 0x8000_0008, "another line's bit");
        board.set(bank, PENDING, 0x8000_0008);
        assert_eq!(board.get(bank, PENDING), 0, "a line that is still high is no new edge");
        board.input(bank, 31).drive(true);
        assert_eq!(board.get(bank, PENDING), 0, "nor if it is driven high once more");
        board.input(bank, 31).lower();
        assert_eq!(board.get(bank, PENDING), 0);
        board.input(bank, 31).raise();
        assert_eq!(board.get(bank, PENDING), 0x8000_0000);
        for other in IntcBank::ALL.into_iter().filter(|other| *other != bank) {
            assert_eq!(board.get(other, PENDING), 0, "banks are apart");
        }
    }
}

#[test]
fn an_edge_is_latched_while_its_line_is_disabled_or_masked() {
    for bank in IntcBank::ALL {
        let board = board();
        board.set(bank, MASK, 1);
        board.input(bank, 0).pulse();
        assert!(!board.out(bank));
        board.set(bank, ENABLE, 1);
        assert!(!board.out(bank), "masked");
        board.set(bank, MASK, 0);
        assert!(board.out(bank));
        board.set(bank, PENDING, 1);
        assert!(!board.out(bank));
    }
}

#[test]
fn a_line_that_is_not_enabled_does_not_win() {
    for bank in IntcBank::ALL {
        let board = board();
        board.set(bank, LEVEL, !0);
        for line in 0..32 {
            board.input(bank, line).raise();
        }
        assert_eq!((board.get(bank, PENDING), board.get(bank, CURRENT), board.out(bank)), (!0, NONE, false));
        for line in 0..32 {
            board.set(bank, ENABLE, 1 << line);
            assert_eq!((board.get(bank, CURRENT), board.out(bank)), (line, true));
        }
        assert_eq!(board.get(bank, ENABLE), 1 << 31);
    }
}

#[test]
fn a_masked_line_stays_pending_and_does_not_win() {
    for bank in IntcBank::ALL {
        let board = board();
        board.set(bank, ENABLE, 0b11);
        board.input(bank, 0).raise();
        board.input(bank, 1).raise();
        board.set(bank, MASK, 0b01);
        assert_eq!((board.get(bank, PENDING), board.get(bank, CURRENT)), (0b11, 1));
        board.set(bank, MASK, 0b11);
        assert_eq!(
            (board.get(bank, PENDING), board.get(bank, CURRENT), board.out(bank)),
            (0b11, NONE, false)
        );
        assert_eq!(board.get(bank, MASK), 0b11);
    }
}

#[test]
fn a_level_line_is_pending_while_it_is_high_whatever_is_cleared() {
    for bank in IntcBank::ALL {
        let board = board();
        board.set(bank, ENABLE, !0);
        board.set(bank, LEVEL, 1 << 9);
        board.input(bank, 9).raise();
        board.set(bank, PENDING, 1 << 9);
        assert_eq!((board.get(bank, PENDING), board.out(bank)), (1 << 9, true));
        board.input(bank, 9).lower();
        assert_eq!((board.get(bank, PENDING), board.out(bank)), (0, false));
        assert_eq!(board.get(bank, LEVEL), 1 << 9);
    }
}

#[test]
fn a_line_that_changes_its_kind_forgets_its_edge_and_a_high_line_is_no_edge() {
    let board = board();
    let bank = IntcBank::Itn;
    board.input(bank, 4).pulse();
    board.set(bank, LEVEL, 1 << 4);
    assert_eq!(board.get(bank, PENDING), 0);
    board.set(bank, LEVEL, 0);
    assert_eq!(board.get(bank, PENDING), 0, "the edge is gone for good");
    board.set(bank, LEVEL, 1 << 4);
    board.input(bank, 4).raise();
    board.set(bank, LEVEL, 0);
    assert_eq!(board.get(bank, PENDING), 0);
}

#[test]
fn the_lowest_priority_value_wins_and_of_equals_the_lowest_line() {
    for bank in IntcBank::ALL {
        let board = board();
        board.set(bank, ENABLE, !0);
        for line in [2, 7, 30] {
            board.input(bank, line).pulse();
        }
        assert_eq!(board.get(bank, CURRENT), 2, "all have priority 0");
        board.set(bank, PRIORITY, 0x0001_0000);
        assert_eq!(board.get(bank, CURRENT), 7, "line 2 is in bits 23-16 of the first word");
        board.set(bank, PRIORITY + 4, 0xff00_0000);
        assert_eq!(board.get(bank, CURRENT), 30);
        board.set(bank, PRIORITY + 0x1c, 0x00ff_0000);
        assert_eq!(board.get(bank, CURRENT), 2, "0x01 before twice 0xff");
        board.set(bank, PENDING, 1 << 2);
        assert_eq!(board.get(bank, CURRENT), 7);
    }
}

#[test]
fn every_priority_word_holds_the_priorities_of_its_four_lines() {
    for bank in IntcBank::ALL {
        let board = board();
        board.set(bank, ENABLE, !0);
        for line in 0..32 {
            board.input(bank, line).pulse();
        }
        for line in 0..32_u32 {
            // All but this one are less urgent than it.
            for word in 0..8 {
                let others = if u64::from(line) / 4 == word { !(0xff << (line % 4 * 8)) } else { !0 };
                board.set(bank, PRIORITY + 4 * word, others);
                assert_eq!(board.get(bank, PRIORITY + 4 * word), others);
            }
            assert_eq!(board.get(bank, CURRENT), line, "{bank:?}");
        }
    }
}

#[test]
fn current_is_the_winning_lines_number_and_0x3f_without_one() {
    for bank in IntcBank::ALL {
        let board = board();
        assert_eq!(board.get(bank, CURRENT), NONE);
        board.set(bank, ENABLE, !0);
        board.input(bank, 17).pulse();
        assert_eq!(board.get(bank, CURRENT), 17);
        assert_eq!(board.bench.peek(base(bank) + CURRENT), 17, "a monitor sees it");
        assert_eq!(board.get(bank, CURRENT), 17, "reading acknowledges nothing");
        board.set(bank, CURRENT, 0);
        assert_eq!(board.get(bank, CURRENT), 17, "and writing changes nothing");
    }
}

#[test]
fn freeze_holds_the_outputs_and_clearing_it_shows_what_is() {
    let board = board();
    for bank in IntcBank::ALL {
        board.set(bank, ENABLE, !0);
    }
    board.input(IntcBank::Itn, 0).pulse();
    board.bench.set(FREEZE, 1);
    board.input(IntcBank::Rst, 5).pulse();
    board.set(IntcBank::Itn, PENDING, 1);
    assert_eq!(board.outputs(), [false, false, true]);
    assert_eq!(board.get(IntcBank::Rst, CURRENT), 5, "registers go on");
    assert_eq!(board.get(IntcBank::Itn, CURRENT), NONE);
    assert_eq!(board.bench.get(FREEZE), 1);
    board.bench.set(FREEZE, 0);
    assert_eq!(board.outputs(), [true, false, false]);
    board.bench.set(FREEZE, 0xffff_fffe);
    assert_eq!(board.bench.get(FREEZE), 0, "bit 0 alone is there");
}

#[test]
fn a_reset_clears_registers_and_outputs_and_a_line_that_is_high_is_no_edge() {
    let board = board();
    for bank in IntcBank::ALL {
        for register in [ENABLE, LEVEL, PRIORITY, PRIORITY + 0x1c] {
            board.set(bank, register, !0);
        }
        board.set(bank, MASK, 2);
        board.input(bank, 0).raise();
    }
    assert_eq!(board.outputs(), [true; 3]);
    board.bench.set(FREEZE, 1);
    board.intc.reset();
    assert_eq!((board.outputs(), board.bench.get(FREEZE)), ([false; 3], 0));
    for bank in IntcBank::ALL {
        for register in (0..0x30).step_by(4) {
            assert_eq!(board.get(bank, register), 0, "{bank:?} {register:#x}");
        }
        assert_eq!(board.get(bank, CURRENT), NONE);
        board.set(bank, LEVEL, 1);
        assert_eq!(board.get(bank, PENDING), 1, "the level is what it was");
    }
}

#[test]
fn what_is_saved_goes_on_as_it_was() {
    let (board, other) = (board(), board());
    board.set(IntcBank::Mcp, ENABLE, 0x30);
    board.set(IntcBank::Mcp, PRIORITY + 4, 0x0000_0002);
    board.input(IntcBank::Mcp, 4).pulse();
    board.input(IntcBank::Mcp, 5).pulse();
    board.bench.set(FREEZE, 1);
    let text = serde_json::to_string(&board.intc.save()).unwrap();
    other.intc.restore(serde_json::from_str(&text).unwrap());
    assert_eq!(other.outputs(), [false, true, false]);
    assert_eq!((other.get(IntcBank::Mcp, CURRENT), other.bench.get(FREEZE)), (5, 1));
    assert_eq!(other.intc.save(), board.intc.save());
}

#[test]
fn info_pic_names_each_bank_and_what_it_waits_for() {
    let board = board();
    board.set(IntcBank::Itn, ENABLE, 0x101);
    board.set(IntcBank::Itn, LEVEL, 0x100);
    board.input(IntcBank::Itn, 8).raise();
    let text = board.intc.describe();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "cpiom-intc rst: pending=00000000 enable=00000000 mask=00000000 level=00000000 lines=00000000 current=3f sreset=0 freeze=0",
            "cpiom-intc mcp: pending=00000000 enable=00000000 mask=00000000 level=00000000 lines=00000000 current=3f mcp=0 freeze=0",
            "cpiom-intc itn: pending=00000100 enable=00000101 mask=00000000 level=00000100 lines=00000100 current=08 int=1 freeze=0",
        ]
    );
}

/// One input line as somebody would build it from the data sheet, without words and bits.
#[derive(Clone, Copy, Default)]
struct Line {
    high: bool,
    latched: bool,
    enabled: bool,
    masked: bool,
    by_level: bool,
    priority: u8,
}

impl Line {
    fn pending(&self) -> bool {
        if self.by_level { self.high } else { self.latched }
    }
}

#[derive(Default)]
struct Model {
    lines: [[Line; 32]; 3],
    frozen: bool,
    outputs: [bool; 3],
}

impl Model {
    fn winner(&self, bank: usize) -> Option<u32> {
        let mut best: Option<(u8, u32)> = None;
        for (number, line) in (0..).zip(&self.lines[bank]) {
            let takes_part = line.enabled && !line.masked && line.pending();
            if takes_part && best.is_none_or(|(priority, _)| line.priority < priority) {
                best = Some((line.priority, number));
            }
        }
        best.map(|(_, number)| number)
    }

    fn settle(&mut self) {
        if !self.frozen {
            self.outputs = [0, 1, 2].map(|bank| self.winner(bank).is_some());
        }
    }

    fn write(&mut self, bank: usize, register: u64, value: u32) {
        for (number, line) in (0_u64..).zip(self.lines[bank].iter_mut()) {
            let bit = value >> number & 1 == 1;
            match register {
                PENDING if bit => line.latched = false,
                ENABLE => line.enabled = bit,
                MASK => line.masked = bit,
                LEVEL => {
                    line.by_level = bit;
                    line.latched &= !bit;
                }
                _ if register == PRIORITY + number / 4 * 4 => {
                    line.priority = value.to_le_bytes()[(number % 4) as usize];
                }
                _ => {}
            }
        }
    }

    fn set_line(&mut self, bank: usize, number: usize, high: bool) {
        let line = &mut self.lines[bank][number];
        line.latched |= high && !line.high && !line.by_level;
        line.high = high;
    }

    fn read(&self, bank: usize, register: u64) -> u32 {
        let bits = |of: fn(&Line) -> bool| {
            (0..).zip(&self.lines[bank]).map(|(n, line)| u32::from(of(line)) << n).sum::<u32>()
        };
        match register {
            PENDING => bits(Line::pending),
            ENABLE => bits(|line| line.enabled),
            MASK => bits(|line| line.masked),
            LEVEL => bits(|line| line.by_level),
            CURRENT => self.winner(bank).unwrap_or(NONE),
            _ => {
                let first = ((register - PRIORITY) / 4 * 4) as usize;
                u32::from_le_bytes([0, 1, 2, 3].map(|n| self.lines[bank][first + n].priority))
            }
        }
    }
}

#[test]
fn random_writes_and_line_changes_do_what_a_model_of_lines_does() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (board, mut model) = (board(), Model::default());
    // Few distinct bits and priorities at a time, so that ties and empty banks occur.
    let word = |random: &mut fastrand::Rng| match random.u8(0..4) {
        0 => random.u32(..),
        1 => random.u32(..) & random.u32(..) & random.u32(..),
        2 => random.u32(..) & 0x0303_0303,
        _ => 0,
    };
    let mut winners = [0_u32; 33];
    for step in 0..60_000 {
        let (n, line) = (random.usize(0..3), random.usize(0..32));
        let bank = IntcBank::ALL[n];
        match random.u8(0..16) {
            0 => {
                let value = word(&mut random);
                board.bench.set(FREEZE, value);
                model.frozen = value & 1 == 1;
            }
            1..=6 => {
                let high = random.bool();
                board.input(bank, line).set(high);
                model.set_line(n, line, high);
            }
            7 => {
                board.intc.reset();
                let levels = model.lines.map(|lines| lines.map(|line| line.high));
                model = Model::default();
                for (lines, levels) in model.lines.iter_mut().zip(levels) {
                    for (line, high) in lines.iter_mut().zip(levels) {
                        line.high = high;
                    }
                }
            }
            _ => {
                let (register, value) = (random.u64(0..=12) * 4, word(&mut random));
                board.set(bank, register, value);
                model.write(n, register, value);
            }
        }
        model.settle();
        let register = random.u64(0..=12) * 4;
        assert_eq!(
            board.get(bank, register),
            model.read(n, register),
            "seed {seed} step {step}: {bank:?} {register:#x}"
        );
        for (n, bank) in IntcBank::ALL.into_iter().enumerate() {
            let current = model.read(n, CURRENT);
            assert_eq!(board.get(bank, CURRENT), current, "seed {seed} step {step}: {bank:?}");
            winners[current.min(32) as usize] += 1;
        }
        assert_eq!(board.outputs(), model.outputs, "seed {seed} step {step}");
    }
    assert!(
        winners.iter().filter(|times| **times > 0).count() > 20,
        "seed {seed}: many lines won: {winners:?}"
    );
}
