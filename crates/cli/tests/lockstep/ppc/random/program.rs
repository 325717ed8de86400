//! Random programs.
//!
//! A program is a row of units: an instruction, or a few that belong together (an address and the jump to it, an entry of the
//! page table and the access through it). Branches lead to the beginnings of units only. What must always hold: registers 28
//! to 30 keep their values behind each unit, since they lead to the data; what only the kernel can do right begins with a
//! system call, since a branch may have come there from user mode; no bit is set that is reserved.

mod float;
mod integer;
mod system;

use super::asm::*;
use super::layout::*;
use super::{IR, ME};
use crate::masks::Masks;
use crate::ppc::words::mnemonic;
use crate::random::Image;
use crate::rng::Rng;

/// Bits of MSR.
pub const EE: u32 = 1 << 15;
pub const PR: u32 = 1 << 14;
pub const FP: u32 = 1 << 13;
pub const FE0: u32 = 1 << 11;
pub const FE1: u32 = 1 << 8;
pub const IP: u32 = 1 << 6;
pub const DR: u32 = 1 << 4;
pub const RI: u32 = 1 << 1;

/// What is to be filled in when all units are placed.
#[derive(Clone, Copy)]
enum Open {
    /// The displacement of a branch, 14 bits and 24 bits.
    Conditional(usize),
    Branch(usize),
    /// The address, in the immediates of two words, and by which segment.
    Address(usize, u32),
    /// The address of the unit's last word.
    Own(usize),
}

struct Unit {
    words: Vec<u32>,
    open: Option<Open>,
}

impl From<Vec<u32>> for Unit {
    fn from(words: Vec<u32>) -> Self {
        Self { words, open: None }
    }
}

impl From<u32> for Unit {
    fn from(word: u32) -> Self {
        vec![word].into()
    }
}

pub struct Program {
    pub image: Image,
    pub registers: Vec<u32>,
    /// Upper and lower halves.
    pub fprs: Vec<u32>,
    pub segments: [u32; 16],
    pub bats: [u32; 16],
    /// Other registers of the system.
    pub sprs: Vec<(u32, u32)>,
    pub low: Vec<u32>,
    pub table: Vec<u32>,
    /// MSR in the kernel's mode.
    pub msr: u32,
}

pub struct Generator<'a> {
    rng: Rng,
    masks: &'a Masks,
    /// Whether the unit that is made now runs in user mode.
    user: bool,
    /// Whether floating-point exceptions are taken.
    float_exceptions: bool,
    /// MSR\[IP\], which stays: QEMU goes on with the old vectors where a handler changes it for others.
    vectors: u32,
    segments: [u32; 16],
    pages: Vec<Page>,
}

impl<'a> Generator<'a> {
    pub fn new(seed: u64, masks: &'a Masks) -> Self {
        let mut rng = Rng(seed);
        let float_exceptions = rng.one_in(4);
        let vectors = if rng.one_in(4) { IP } else { 0 };
        Self { rng, masks, user: false, float_exceptions, vectors, segments: [0; 16], pages: Vec::new() }
    }

    /// A register to read.
    fn source(&mut self) -> u32 {
        self.rng.below(32)
    }

    /// A register to write.
    fn target(&mut self) -> u32 {
        let n = self.rng.below(32);
        if (OWN_BASE..=BLOCK_BASE).contains(&n) { n - 10 } else { n }
    }

    /// One that is not 0 and that the handlers leave.
    fn scratch(&mut self) -> u32 {
        1 + self.rng.below(23)
    }

    /// Another one.
    fn scratch_beside(&mut self, other: u32) -> u32 {
        let n = self.scratch();
        if n == other { 1 + n % 23 } else { n }
    }

    fn rc(&mut self) -> u32 {
        self.rng.below(2)
    }

    pub fn program(mut self) -> Program {
        let (bats, table) = self.translations();
        let mut units = Vec::new();
        let mut len = 0;
        // How many units the mode stays.
        let mut left = 0_u32;
        while len < PROGRAM_WORDS - 64 {
            let unit = if left == 0 {
                left = 20 + self.rng.below(60);
                if self.user {
                    self.user = false;
                    SC.into()
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
        self.user = false;
        let (words, units) = self.placed(&units);
        let msr = self.msr() | IR | DR;
        let mut registers: Vec<u32> = (0..32).map(|_| self.rng.edge()).collect();
        for (n, value) in BASES {
            registers[n as usize] = value;
        }
        let sprs = vec![
            (SPRG0, self.rng.edge()),
            (SPRG0 + 1, self.rng.edge()),
            (SPRG0 + 2, self.rng.edge()),
            (SPRG0 + 3, self.rng.edge()),
            (DAR, self.rng.edge()),
            (DSISR, self.rng.edge()),
            (282, self.rng.below(64)),
            (HID0, 0),
            (1010, 0),
            (1013, 0),
            (952, 0),
        ];
        let data = (0..DATA_BYTES / 4).flat_map(|_| self.rng.edge().to_be_bytes()).collect();
        let low = (0..LOW_WORDS).map(|_| self.rng.edge()).collect();
        let fprs = (0..64).map(|_| self.rng.edge()).collect();
        let segments = self.segments;
        Program {
            image: Image { words, units, data },
            registers,
            fprs,
            segments,
            bats,
            sprs,
            low,
            table,
            msr,
        }
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
            let Some(open) = unit.open else { continue };
            match open {
                Open::Conditional(at) | Open::Branch(at) => {
                    let at = starts[n] + at;
                    // Absolute, or from there.
                    let from = if words[at] & 2 != 0 { 0 } else { PROGRAM + 4 * at as u32 };
                    let bits = if matches!(open, Open::Branch(_)) { 0x03ff_fffc } else { 0xfffc };
                    words[at] |= goal.wrapping_sub(from) & bits;
                }
                Open::Own(at) => {
                    let goal = PROGRAM + 4 * (starts[n] + unit.words.len() - 1) as u32;
                    words[starts[n] + at] |= goal >> 16;
                    words[starts[n] + at + 1] |= goal & 0xffff;
                }
                Open::Address(at, alias) => {
                    let goal = alias | goal;
                    words[starts[n] + at] |= goal >> 16;
                    words[starts[n] + at + 1] |= goal & 0xffff;
                }
            }
        }
        // Behind it: a loop, which the driver leaves.
        words.push(b(0));
        words.resize(PROGRAM_WORDS, NOP);
        (words, starts)
    }

    fn any(&mut self) -> Unit {
        loop {
            let unit = self.any_at_all();
            if !unit.words.iter().any(|word| self.masks.leaves_out_word(*word)) {
                return unit;
            }
        }
    }

    fn any_at_all(&mut self) -> Unit {
        if self.rng.one_in(4) {
            return self.float();
        }
        match self.rng.below(180) {
            0..70 => self.plain().into(),
            70..90 => self.access().into(),
            90..108 => self.indexed(),
            108..122 => self.branch(),
            122..128 => self.jump(),
            128..131 => self.trap().into(),
            131..137 => self.condition_logic().into(),
            137..140 => self.multiple(),
            140..144 => self.string(),
            144..147 => self.linked(),
            147..151 => self.cache(),
            151..158 => self.read_system().into(),
            158..161 => self.write_system(),
            161..166 => self.translate(),
            166..171 => self.far_access(),
            171 => self.rewrite(),
            172 => self.set_mode(),
            173 if self.rng.one_in(2) => self.decrementer(),
            174 => self.illegal().into(),
            175 => SC.into(),
            176 if self.rng.one_in(3) => self.wild(),
            _ => {
                let rt = self.target();
                li(rt, self.rng.edge()).to_vec().into()
            }
        }
    }
}
