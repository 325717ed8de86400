//! Random programs.
//!
//! A program is a row of units: an instruction, or a few that belong together (an address and the jump to it, a TLB entry
//! and the access through it). Branches lead to the beginnings of units only. What must always hold: registers 28 to 30 are
//! written by no unit, since they lead to the data; no unit can write where handlers are, but by chance a store to an address
//! that it was given does not exist.

mod float;
mod system;

use super::asm::*;
use super::layout::*;
use crate::masks::Masks;
use crate::mips::CP0;
use crate::mips::words::{is_branch, mnemonic};
use crate::random::Image;
use crate::rng::Rng;

/// What is to be filled in when all units are placed.
#[derive(Clone, Copy)]
enum Open {
    /// The displacement of a branch.
    Branch(usize),
    /// The index of a jump.
    Jump(usize),
    /// The address, in the immediates of `lui` and `ori`.
    Address(usize),
}

struct Unit {
    words: Vec<u32>,
    open: Option<Open>,
    user: bool,
}

pub struct Program {
    pub image: Image,
    pub registers: Vec<u32>,
    pub cp0: Vec<((u32, u32), u32)>,
    pub entries: Vec<Entry>,
    /// What the FPU's registers hold, low and high halves.
    pub fprs: Vec<[u32; 2]>,
    /// Status in kernel mode.
    pub status: u32,
}

pub struct Generator<'a> {
    rng: Rng,
    masks: &'a Masks,
    /// Whether the unit that is made now runs in user mode.
    user: bool,
    /// Status.FR: 32 registers of 64 bits, and not 16.
    whole: bool,
}

/// An address for the TLB entry of an index, none of which overlap.
fn place(index: u32) -> u32 {
    match index {
        12 => 0xc000_0000,
        13 => 0xe000_0000,
        14 => 0x4000_0000,
        15 => 0x6000_0000,
        _ => 0x1000_0000 + (index << 24),
    }
}

impl<'a> Generator<'a> {
    pub fn new(seed: u64, masks: &'a Masks) -> Self {
        let mut rng = Rng(seed);
        let whole = rng.one_in(2);
        Self { rng, masks, user: false, whole }
    }

    /// A register to read.
    fn source(&mut self) -> u32 {
        self.rng.below(32)
    }

    /// A register to write.
    fn target(&mut self) -> u32 {
        let n = self.rng.below(32);
        if (GP..=S8).contains(&n) { n - 10 } else { n }
    }

    /// One that is not 0 and that the handlers leave.
    fn scratch(&mut self) -> u32 {
        1 + self.rng.below(25)
    }

    pub fn program(mut self) -> Program {
        let mut units = Vec::new();
        let mut len = 0;
        // How many units the mode stays.
        let mut left = 0_u32;
        while len < PROGRAM_WORDS - 64 {
            let unit = if left == 0 {
                left = 20 + self.rng.below(60);
                if self.user {
                    self.user = false;
                    self.unit(vec![SYSCALL])
                } else if self.rng.one_in(3) {
                    let unit = self.enter_user();
                    self.user = true;
                    unit
                } else {
                    self.any()
                }
            } else {
                self.any()
            };
            left = left.saturating_sub(1);
            len += unit.words.len();
            units.push(unit);
        }
        let (words, units) = self.placed(&units);
        let status = KERNEL | self.fpu_bits() | self.rng.below(4) << 8 | self.rng.below(2);
        let mut registers: Vec<u32> = (0..32).map(|_| self.rng.edge()).collect();
        registers[0] = 0;
        for (n, value) in BASES {
            registers[n as usize] = value;
        }
        let entries = (0..ENTRIES).map(|index| self.first_entry(index)).collect();
        let cp0 = vec![
            (CONTEXT, self.rng.edge()),
            (WIRED, OWN_ENTRIES + self.rng.below(14)),
            (HWR_ENA, self.rng.below(16)),
            (COMPARE, self.rng.edge()),
            (EPC, self.rng.edge() & !3),
            (ERROR_EPC, self.rng.edge() & !3),
            (EBASE, 0x8000_0000),
            (INT_CTL, 0),
            (CONFIG, 2),
            (INDEX, self.rng.below(16)),
            (ENTRY_LO0, self.rng.edge()),
            (ENTRY_LO1, self.rng.edge()),
            (PAGE_MASK, 0),
            (ENTRY_HI, self.rng.below(4)),
            (CAUSE, COUNT_STOPS),
            (STATUS, KERNEL | self.whole_bit()),
        ];
        let data = (0..DATA_BYTES / 4).flat_map(|_| self.rng.edge().to_be_bytes()).collect();
        let fprs = (0..32).map(|_| [self.rng.edge(), self.rng.edge()]).collect();
        Program { image: Image { words, units, data }, registers, cp0, entries, fprs, status }
    }

    fn placed(&mut self, units: &[Unit]) -> (Vec<u32>, Vec<usize>) {
        let mut starts = Vec::new();
        let mut words = Vec::new();
        for unit in units {
            starts.push(words.len());
            words.extend(&unit.words);
        }
        let last = starts.len() - 1;
        for (n, unit) in units.iter().enumerate() {
            let goal = match self.rng.below(5) {
                0 => n.saturating_sub(self.rng.below(8) as usize),
                _ => (n + 1 + self.rng.below(8) as usize).min(last),
            };
            let goal = PROGRAM + 4 * starts[goal] as u32;
            match unit.open {
                None => {}
                Some(Open::Branch(at)) => {
                    let at = starts[n] + at;
                    let from = PROGRAM + 4 * at as u32 + 4;
                    words[at] |= (goal.wrapping_sub(from) >> 2) & 0xffff;
                }
                Some(Open::Jump(at)) => words[starts[n] + at] |= goal >> 2 & 0x03ff_ffff,
                Some(Open::Address(at)) => {
                    let goal = if unit.user { goal & 0x1fff_ffff } else { goal };
                    words[starts[n] + at] |= goal >> 16;
                    words[starts[n] + at + 1] |= goal & 0xffff;
                }
            }
        }
        // Behind it: a loop, which the driver leaves.
        words.extend([i(4, 0, 0, 0xffff), NOP]);
        words.resize(PROGRAM_WORDS, NOP);
        (words, starts)
    }

    fn unit(&self, words: Vec<u32>) -> Unit {
        Unit { words, open: None, user: self.user }
    }

    fn open(&self, words: Vec<u32>, open: Open) -> Unit {
        Unit { words, open: Some(open), user: self.user }
    }

    fn any(&mut self) -> Unit {
        loop {
            let unit = self.any_at_all();
            let left_out = |word: &u32| self.masks.leaves_out_word(*word);
            if !unit.words.iter().any(left_out) {
                return unit;
            }
        }
    }

    /// Status.FR, which stays: what registers hold when it changes is open.
    fn whole_bit(&self) -> u32 {
        u32::from(self.whole) << 26
    }

    /// Status.FR, and CU1 more often than not.
    fn fpu_bits(&mut self) -> u32 {
        let usable = !self.rng.one_in(12);
        self.whole_bit() | u32::from(usable) << 29
    }

    fn any_at_all(&mut self) -> Unit {
        if self.rng.one_in(3) {
            return self.float();
        }
        match self.rng.below(180) {
            0..80 => {
                let word = self.plain();
                self.unit(vec![word])
            }
            80..106 => {
                let word = self.access();
                self.unit(vec![word])
            }
            106..124 => self.branch(),
            124..130 => self.jump(),
            130..133 => {
                let word = self.trap();
                self.unit(vec![word])
            }
            133..143 => self.read_cp0(),
            143..147 => self.write_cp0(),
            147..152 => self.translate(),
            152..157 => self.far_access(),
            157 => self.interrupt(),
            158 => self.rewrite(),
            159..162 => {
                let word = self.cache();
                self.unit(vec![word])
            }
            162..164 => self.linked(),
            164 => self.set_status(),
            165 => self.exception_return(),
            166 => {
                let word = self.reserved();
                self.unit(vec![word])
            }
            167 => {
                let code = self.rng.below(1 << 20) << 6;
                let word = code | self.rng.of(&[0x0c, 0x0d]);
                self.unit(vec![word])
            }
            168 if self.rng.one_in(3) => self.wild(),
            169 if self.rng.one_in(2) => self.wait(),
            170 => {
                // di, ei.
                let rt = self.target();
                let word = 0x10 << 26 | 0x0b << 21 | rt << 16 | 12 << 11 | self.rng.below(2) << 5;
                self.unit(vec![word])
            }
            171 => {
                let (rt, rd) = (self.source(), self.target());
                let word = 0x10 << 26 | self.rng.of(&[0x0a, 0x0e]) << 21 | rt << 16 | rd << 11;
                self.unit(vec![word])
            }
            172 => {
                let (rt, rd) = (self.target(), self.rng.of(&[0, 1, 2, 3, 3, 29, 30, 4]));
                self.unit(vec![special3(0x3b, 0, rt, rd, 0)])
            }
            173 => self.error_level(),
            174..176 => self.overflow(),
            _ => {
                let rt = self.target();
                let value = self.rng.edge();
                self.unit(li(rt, value).to_vec())
            }
        }
    }

    /// One that touches registers only and cannot fault, overflow excepted.
    fn plain(&mut self) -> u32 {
        let (rs, rt, rd, sa) = (self.source(), self.source(), self.target(), self.rng.below(32));
        match self.rng.below(20) {
            0..6 => {
                let function = self.rng.of(&[
                    0x21, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2a, 0x2b, 0x0a, 0x0b, 0x20, 0x22, 0x21, 0x23,
                ]);
                r(function, rs, rt, rd, 0)
            }
            6..9 => match self.rng.below(8) {
                0 => r(0x00, 0, rt, rd, sa),
                1 => r(0x02, 0, rt, rd, sa),
                2 => r(0x03, 0, rt, rd, sa),
                3 => r(0x02, 1, rt, rd, sa),
                4 => r(0x04, rs, rt, rd, 0),
                5 => r(0x06, rs, rt, rd, 0),
                6 => r(0x07, rs, rt, rd, 0),
                _ => r(0x06, rs, rt, rd, 1),
            },
            9..13 => {
                let op = self.rng.of(&[0x08, 0x09, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e]);
                let imm = self.rng.edge();
                i(op, rs, rd, imm)
            }
            13 => {
                let imm = self.rng.edge();
                lui(rd, imm)
            }
            14..16 => match self.rng.below(9) {
                0 => r(0x18, rs, rt, 0, 0),
                1 => r(0x19, rs, rt, 0, 0),
                2 => r(0x1a, rs, rt, 0, 0),
                3 => r(0x1b, rs, rt, 0, 0),
                4 => special2(0x02, rs, rt, rd),
                n => special2([0x00, 0x01, 0x04, 0x05][n as usize - 5], rs, rt, 0),
            },
            16 => match self.rng.below(4) {
                0 => r(0x10, 0, 0, rd, 0),
                1 => r(0x12, 0, 0, rd, 0),
                2 => r(0x11, rs, 0, 0, 0),
                _ => r(0x13, rs, 0, 0, 0),
            },
            17..19 => match self.rng.below(7) {
                0 => special2(0x20, rs, rd, rd),
                1 => special2(0x21, rs, rd, rd),
                2 => special3(0x20, 0, rt, rd, 0x10),
                3 => special3(0x20, 0, rt, rd, 0x18),
                4 => special3(0x20, 0, rt, rd, 0x02),
                5 => {
                    let size = 1 + self.rng.below(32 - sa);
                    special3(0x00, rs, rd, size - 1, sa)
                }
                _ => {
                    let size = 1 + self.rng.below(32 - sa);
                    special3(0x04, rs, rd, sa + size - 1, sa)
                }
            },
            _ => match self.rng.below(6) {
                0 => EHB,
                1 => 1 << 6,
                2 => r(0x0f, 0, 0, 0, sa),
                3 => i(0x33, rs, rt, self.rng.edge()),
                _ => r(0x21, rs, rt, rd, 0),
            },
        }
    }

    fn trap(&mut self) -> u32 {
        let (rs, rt) = (self.source(), self.source());
        if self.rng.one_in(2) {
            let function = self.rng.of(&[0x30, 0x31, 0x32, 0x33, 0x34, 0x36]);
            // A condition that does not hold more often than not.
            let rt = if self.rng.one_in(2) && matches!(function, 0x32 | 0x33 | 0x36) { rs } else { rt };
            return r(function, rs, rt, self.rng.below(32), self.rng.below(32));
        }
        let which = self.rng.of(&[0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0e]);
        let imm = self.rng.edge();
        i(0x01, rs, which, imm)
    }

    fn overflow(&mut self) -> Unit {
        let (a, b, d) = (self.scratch(), self.scratch(), self.target());
        let mut words = li(a, self.rng.edge()).to_vec();
        words.push(match self.rng.below(3) {
            0 => r(0x20, a, b, d, 0),
            1 => r(0x22, a, b, d, 0),
            _ => i(0x08, a, d, self.rng.edge()),
        });
        self.unit(words)
    }

    /// The register and displacement of an access of `size` bytes to the data.
    fn address(&mut self, size: u32) -> (u32, u32) {
        let base = match self.user {
            true if !self.rng.one_in(12) => SP,
            _ => self.rng.of(&[GP, GP, SP, SP, S8]),
        };
        let at = self.rng.next() as u32;
        (base, if self.rng.one_in(20) { at } else { at & !(size - 1) })
    }

    fn access(&mut self) -> u32 {
        const ACCESSES: [(u32, u32); 12] = [
            (0x20, 1),
            (0x21, 2),
            (0x22, 1),
            (0x23, 4),
            (0x24, 1),
            (0x25, 2),
            (0x26, 1),
            (0x28, 1),
            (0x29, 2),
            (0x2a, 1),
            (0x2b, 4),
            (0x2e, 1),
        ];
        let (op, size) = self.rng.of(&ACCESSES);
        let rt = if op < 0x28 { self.target() } else { self.source() };
        let (base, at) = self.address(size);
        i(op, base, rt, at)
    }

    fn linked(&mut self) -> Unit {
        let (base, at) = self.address(4);
        let (a, b) = (self.target(), self.target());
        let mut words = vec![i(0x30, base, a, at)];
        if self.rng.one_in(4) {
            words.push(self.plain());
        }
        let at = if self.rng.one_in(6) { at ^ 4 } else { at };
        if !self.rng.one_in(6) {
            // A second one would be unpredictable.
            words.push(i(0x38, base, b, at & !3));
        }
        self.unit(words)
    }

    fn cache(&mut self) -> u32 {
        let (base, at) = self.address(4);
        match self.rng.below(4) {
            0 => i(0x01, base, 0x1f, at),
            1 => i(0x33, base, self.rng.below(32), at),
            // Invalidating or writing back what is there: what does not lose data.
            2 => i(0x2f, base, self.rng.of(&[0x00, 0x01, 0x04]), at),
            // By address, one that all modes may use.
            _ => i(0x2f, SP, self.rng.of(&[0x10, 0x15, 0x19]), at),
        }
    }

    fn slot(&mut self) -> u32 {
        let word = match self.rng.below(12) {
            0..7 => self.plain(),
            7..10 => self.access(),
            10 => self.trap(),
            _ => mfc0(self.target(), self.rng.of(CP0)),
        };
        if self.masks.leaves_out_word(word) { NOP } else { word }
    }

    fn branch(&mut self) -> Unit {
        let (rs, rt) = (self.source(), self.source());
        let word = match self.rng.below(16) {
            0 => i(0x04, rs, rt, 0),
            1 => i(0x05, rs, rt, 0),
            2 => i(0x06, rs, 0, 0),
            3 => i(0x07, rs, 0, 0),
            4 => i(0x14, rs, rt, 0),
            5 => i(0x15, rs, rt, 0),
            6 => i(0x16, rs, 0, 0),
            7 => i(0x17, rs, 0, 0),
            n => {
                // The links' register would be overwritten before it is read: the manual leaves that open.
                let rs = if n >= 12 && rs == 31 { 30 } else { rs };
                i(0x01, rs, [0, 1, 2, 3, 0x10, 0x11, 0x12, 0x13][n as usize - 8], 0)
            }
        };
        let slot = self.slot();
        self.open(vec![word, slot], Open::Branch(0))
    }

    fn jump(&mut self) -> Unit {
        let slot = self.slot();
        let goal = self.scratch();
        let hint = self.rng.of(&[0, 0, 16]);
        match self.rng.below(4) {
            0 => self.open(vec![2 << 26, slot], Open::Jump(0)),
            1 => self.open(vec![3 << 26, slot], Open::Jump(0)),
            2 => self.open(
                vec![lui(goal, 0), ori(goal, goal, 0), r(0x08, goal, 0, 0, hint), slot],
                Open::Address(0),
            ),
            _ => {
                let link = match self.target() {
                    link if link == goal => 31,
                    link => link,
                };
                let jump = r(0x09, goal, 0, link, hint);
                self.open(vec![lui(goal, 0), ori(goal, goal, 0), jump, slot], Open::Address(0))
            }
        }
    }
}
