//! A CPU's registers as gdb numbers them, in words.

use crate::guest::Guest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    words: Vec<u32>,
    pc: usize,
}

impl State {
    /// Those of 64 bits are two words, the upper half first.
    pub fn from_words<G: Guest>(words: impl Iterator<Item = u32>) -> Self {
        let words: Vec<u32> = words.take(G::WORDS).collect();
        assert_eq!(words.len(), G::WORDS, "words of registers");
        Self { words, pc: G::PC }
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
        self.words[self.pc]
    }
}
