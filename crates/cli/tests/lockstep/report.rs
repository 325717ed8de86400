//! What a run of random programs did.

use std::collections::BTreeMap;
use std::fmt;

use crate::guest::Guest;
use crate::lockstep::Step;

#[derive(Default)]
pub struct Report {
    /// FNV-1a of all images.
    hash: u64,
    pub programs: u64,
    pub retired: u64,
    pub faulting: u64,
    /// Steps in exception handlers.
    pub handler: u64,
    /// Of each instruction how often it was done and how often it faulted.
    pub mnemonics: BTreeMap<&'static str, (u64, u64)>,
}

impl Report {
    pub fn image(&mut self, words: &[u32], data: &[u8]) {
        if self.programs == 0 {
            self.hash = 0xcbf2_9ce4_8422_2325;
        }
        self.programs += 1;
        let words = words.iter().flat_map(|word| word.to_be_bytes());
        for byte in words.chain(data.iter().copied()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub fn step<G: Guest>(&mut self, step: &Step) {
        let Some(word) = step.word else {
            self.faulting += 1;
            return;
        };
        let entry = self.mnemonics.entry(G::mnemonic(word).unwrap_or("reserved")).or_default();
        if step.exception {
            entry.1 += 1;
            self.faulting += 1;
        } else {
            entry.0 += 1;
            self.retired += 1;
        }
    }

    pub fn instructions(&self) -> u64 {
        self.retired + self.faulting
    }

    pub fn add(&mut self, other: &Self) {
        self.hash = self.hash.rotate_left(1) ^ other.hash;
        self.programs += other.programs;
        self.retired += other.retired;
        self.faulting += other.faulting;
        self.handler += other.handler;
        for (name, (done, faulted)) in &other.mnemonics {
            let entry = self.mnemonics.entry(name).or_default();
            entry.0 += done;
            entry.1 += faulted;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.instructions().max(1);
        writeln!(
            f,
            "{} programs (hash {:016x}): {} instructions, {} retired ({} %), {} faulting, and {} in handlers; {} distinct ones, done + faulted:",
            self.programs,
            self.hash,
            all,
            self.retired,
            self.retired * 100 / all,
            self.faulting,
            self.handler,
            self.mnemonics.len(),
        )?;
        for (n, (name, (done, faulted))) in self.mnemonics.iter().enumerate() {
            let end = if n % 8 == 7 { "\n" } else { "  " };
            write!(f, "{name} {done}+{faulted}{end}")?;
        }
        writeln!(f)
    }
}
