//! A CPU's registers as gdb numbers them, and what of them is compared.

use std::collections::BTreeMap;
use std::path::Path;

pub const SR: usize = 32;
pub const LO_AT: usize = 33;
pub const HI_AT: usize = 34;
pub const BAD: usize = 35;
pub const CAUSE: usize = 36;
pub const PC_AT: usize = 37;
pub const FIRST_FPR: usize = 38;
/// The 32 registers of the FPU, FCSR and FIR.
pub const WITH_FPU: usize = FIRST_FPR + 34;

/// CP0's registers that a dump shows: number and selector.
pub const CP0: &[(u32, u32)] = &[
    (0, 0),
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 0),
    (12, 0),
    (12, 1),
    (12, 2),
    (12, 3),
    (13, 0),
    (14, 0),
    (15, 0),
    (15, 1),
    (16, 0),
    (16, 1),
    (16, 2),
    (16, 3),
    (16, 6),
    (16, 7),
    (17, 0),
    (18, 0),
    (19, 0),
    (23, 0),
    (24, 0),
    (25, 0),
    (26, 0),
    (27, 0),
    (28, 0),
    (28, 1),
    (29, 0),
    (30, 0),
    (31, 0),
];

const NAMES: [&str; 38] = [
    "zero", "at", "v0", "v1", "a0", "a1", "a2", "a3", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "s0",
    "s1", "s2", "s3", "s4", "s5", "s6", "s7", "t8", "t9", "k0", "k1", "gp", "sp", "s8", "ra", "status", "lo",
    "hi", "badvaddr", "cause", "pc",
];

pub fn name(n: usize) -> String {
    match n {
        0..38 => NAMES[n].to_owned(),
        70 => "fcsr".to_owned(),
        71 => "fir".to_owned(),
        _ => format!("f{}", n - FIRST_FPR),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    words: Vec<u32>,
}

impl State {
    pub fn from_words(words: impl Iterator<Item = u32>) -> Self {
        let mut words: Vec<u32> = words.take(WITH_FPU).collect();
        if words.len() < WITH_FPU {
            words.truncate(FIRST_FPR);
        }
        assert!(words.len() >= FIRST_FPR, "{} registers", words.len());
        Self { words }
    }

    pub fn words(&self) -> &[u32] {
        &self.words
    }

    pub fn set(&mut self, n: usize, value: u32) {
        if let Some(word) = self.words.get_mut(n) {
            *word = value;
        }
    }

    pub fn pc(&self) -> u32 {
        self.words[PC_AT]
    }

    pub fn has_fpu(&self) -> bool {
        self.words.len() == WITH_FPU
    }
}

/// What is not compared, from `docs/lockstep.md` and from nowhere else.
#[derive(Debug, Default)]
pub struct Masks {
    /// Bits of a register that gdb shows.
    registers: BTreeMap<String, u32>,
    /// Bits of a CP0 register, by number and selector, and of what RDHWR gives (numbers from 64 on).
    cp0: BTreeMap<(u32, u32), u32>,
    /// Instruction words: value and the bits that count.
    words: Vec<(u32, u32)>,
    /// ISA tests.
    groups: Vec<String>,
}

/// For [`Masks::cp0`]: what RDHWR reads.
pub const HWR: u32 = 64;

impl Masks {
    pub fn read() -> Self {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lockstep.md");
        let text = std::fs::read_to_string(page).unwrap();
        let list = text.split("```not-compared\n").nth(1).expect("the page has the table");
        let list = list.split("```").next().unwrap();
        let mut masks = Self::default();
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (what, reason) = line.split_once('#').expect("each line gives its reason");
            assert!(!reason.trim().is_empty(), "a line without a reason: {line}");
            let words: Vec<_> = what.split_whitespace().collect();
            let hex = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
            let number = |text: &str| text.parse::<u32>().unwrap();
            match words[..] {
                ["register", name, bits] => {
                    masks.registers.insert(name.to_owned(), hex(bits));
                }
                ["cp0", register, bits] => {
                    let (n, select) = register.split_once('.').expect("number.selector");
                    masks.cp0.insert((number(n), number(select)), hex(bits));
                }
                ["rdhwr", register, bits] => {
                    masks.cp0.insert((HWR, number(register)), hex(bits));
                }
                ["word", value, bits] => masks.words.push((hex(value), hex(bits))),
                ["group", name] => masks.groups.push(name.to_owned()),
                _ => panic!("what is this: {line}"),
            }
        }
        masks
    }

    pub fn leaves_out_group(&self, group: &str) -> bool {
        self.groups.iter().any(|name| name == group)
    }

    pub fn leaves_out_word(&self, word: u32) -> bool {
        self.words.iter().any(|(value, bits)| word & bits == value & bits)
    }

    /// Bits of a CP0 register that are not compared.
    pub fn cp0(&self, register: (u32, u32)) -> u32 {
        self.cp0.get(&register).copied().unwrap_or(0)
    }

    /// Bits that are not compared of what an instruction reads, and the general register it goes to.
    pub fn read_by(&self, word: u32) -> Option<(usize, u32)> {
        let (rt, rd) = (word >> 16 & 31, word >> 11 & 31);
        let bits = match word >> 26 {
            0x10 if word >> 21 & 31 == 0 => self.cp0((rd, word & 7)),
            // di, ei: Status.
            0x10 if word >> 21 & 31 == 0x0b => self.cp0((12, 0)),
            0x1f if word & 63 == 0x3b => self.cp0((HWR, rd)),
            _ => 0,
        };
        (bits != 0).then_some((rt as usize, bits))
    }

    /// Which registers differ.
    pub fn differences(&self, qemu: &State, ours: &State) -> Vec<usize> {
        let pairs = qemu.words().iter().zip(ours.words()).enumerate();
        let differs = |n: usize, a: u32, b: u32| {
            a != b && (a ^ b) & !self.registers.get(&name(n)).copied().unwrap_or(0) != 0
        };
        pairs.filter(|(n, (a, b))| differs(*n, **a, **b)).map(|(n, _)| n).collect()
    }
}
