//! Two machines, step by step.
//!
//! What it is: one step on both, and the comparison of what it left: every register after every step, and behind every
//! branch and exception the memory that was stored to since. What it is not: what is run, or anything about an instruction
//! set ([`Guest`]). What must always hold: nothing is left out that [`Masks`] does not name; a value that is not compared is
//! made QEMU's on ours, so that what follows from it is compared.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;

use flatview::Endianness;

use crate::guest::Guest;
use crate::masks::Masks;
use crate::state::State;
use crate::target::Target;

/// Steps that a failure shows.
const SHOWN: usize = 12;

pub struct Step {
    pub pc: u32,
    pub word: Option<u32>,
    /// For a delay slot, where its branch is.
    pub branch: Option<u32>,
    /// Whether an exception was taken: none of the instructions then counts as done.
    pub exception: bool,
}

pub struct Lockstep<G: Guest> {
    pub qemu: Box<dyn Target>,
    pub ours: Box<dyn Target>,
    pub masks: Masks,
    pub order: Endianness,
    /// Both machines' registers.
    pub now: State,
    /// Those before the last step.
    pub before: State,
    last: VecDeque<String>,
    /// Words that were stored to since memory was compared.
    stored: BTreeSet<u32>,
    /// Where the branch is whose delay slot is next.
    branch: Option<u32>,
    words: HashMap<u32, u32>,
    /// Whether interrupts are held back.
    pub masked: bool,
    pub steps: u64,
    pub compared_words: u64,
    _guest: std::marker::PhantomData<G>,
}

impl<G: Guest> Lockstep<G> {
    pub fn new(mut qemu: Box<dyn Target>, ours: Box<dyn Target>, order: Endianness) -> Self {
        let now = qemu.registers();
        Self {
            qemu,
            ours,
            masks: Masks::read::<G>(),
            order,
            before: now.clone(),
            now,
            last: VecDeque::new(),
            stored: BTreeSet::new(),
            branch: None,
            words: HashMap::new(),
            masked: false,
            steps: 0,
            compared_words: 0,
            _guest: std::marker::PhantomData,
        }
    }

    pub fn write(&mut self, at: u32, data: &[u8]) {
        self.qemu.write(at, data);
        self.ours.write(at, data);
        let behind = at.wrapping_add(data.len() as u32);
        self.words.retain(|known, _| !(at..behind).contains(known));
    }

    /// Words in the guest's order.
    pub fn write_words(&mut self, at: u32, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| self.to_bytes(*word)).collect();
        self.write(at, &bytes);
    }

    fn to_bytes(&self, word: u32) -> [u8; 4] {
        if self.order == Endianness::Big { word.to_be_bytes() } else { word.to_le_bytes() }
    }

    pub fn to_word(&self, bytes: &[u8]) -> u32 {
        let bytes = bytes.try_into().unwrap();
        if self.order == Endianness::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Sets on both the registers that [`Guest::KEPT`] does not name.
    pub fn set(&mut self, state: &State) {
        self.now = state.clone();
        self.qemu.set_registers(state);
        self.ours.set_registers(state);
    }

    /// The instruction word at an address, as QEMU sees it.
    pub fn word_at(&mut self, at: u32) -> Option<u32> {
        let (at, stays) = G::code_at(at)?;
        if let Some(word) = self.words.get(&at).filter(|_| stays) {
            return Some(*word);
        }
        let word = self.qemu.read(at, 4).map(|bytes| self.to_word(&bytes))?;
        self.words.insert(at, word);
        Some(word)
    }

    /// Runs both to one of the addresses without looking on the way.
    ///
    /// # Errors
    /// What differs then.
    pub fn run(&mut self, until: &[u32]) -> Result<(), String> {
        self.qemu.start_run(until);
        self.ours.start_run(until);
        let mut ours = self.ours.finish_run();
        let qemu = self.qemu.finish_run();
        self.words.clear();
        self.note(format!("{:08x}: run to {:08x}", self.now.pc(), qemu.pc()));
        self.now = qemu.clone();
        self.compare(&qemu, &mut ours, None)
    }

    fn note(&mut self, text: String) {
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }

    /// One step on both.
    ///
    /// # Errors
    /// What differs behind it.
    pub fn step(&mut self) -> Result<Step, String> {
        self.step_from(None)
    }

    /// One step on both at another address.
    ///
    /// # Errors
    /// What differs behind it.
    pub fn step_at(&mut self, at: u32) -> Result<Step, String> {
        self.step_from(Some(at))
    }

    fn step_from(&mut self, at: Option<u32>) -> Result<Step, String> {
        let pc = at.unwrap_or(self.now.pc());
        self.before = self.now.clone();
        let (word, branch) = (self.word_at(pc), self.branch.take());
        G::prepare(self, pc, word);
        match at {
            None => [&mut self.qemu, &mut self.ours].map(|target| target.start_step()),
            Some(at) => [&mut self.qemu, &mut self.ours].map(|target| target.start_step_at(at)),
        };
        let mut ours = self.ours.finish_step();
        let mut qemu = self.qemu.finish_step();
        if qemu == self.before && ours != self.before {
            // Once in some ten thousand steps QEMU stops before it has done anything.
            self.qemu.start_step();
            qemu = self.qemu.finish_step();
        }
        G::settle(self, pc, word, &mut qemu, &mut ours);
        self.steps += 1;
        self.note(match word {
            Some(word) => format!("{pc:08x}: {word:08x} {}", G::mnemonic(word).unwrap_or("?")),
            None => format!("{pc:08x}: nothing"),
        });

        let exception = G::is_vector(qemu.pc()) && !G::is_vector(pc);
        self.now = qemu.clone();
        if !exception
            && let Some((register, bits)) = word.and_then(|word| G::read_by(word, &self.masks))
            && qemu.words()[register] != ours.words()[register]
            && (qemu.words()[register] ^ ours.words()[register]) & !bits == 0
        {
            ours.set(register, qemu.words()[register]);
            self.ours.set_registers(&ours);
        }
        self.compare(&qemu, &mut ours, word.filter(|_| !exception))?;

        if !exception && let Some((at, words)) = word.and_then(|word| G::stored(word, &self.before)) {
            self.stored.extend((0..words).map(|n| (at & !3).wrapping_add(4 * n)));
        }
        let branches = !exception && word.is_some_and(G::is_branch);
        // A likely branch skips its slot.
        if branches && G::DELAY_SLOTS && qemu.pc() == pc.wrapping_add(4) {
            self.branch = Some(pc);
        }
        if branches || exception || G::STORES_AT_ONCE {
            self.compare_stored()?;
        }
        let branch = if G::DELAY_SLOTS { branch } else { Some(pc).filter(|_| branches) };
        Ok(Step { pc, word, branch, exception })
    }

    /// Whether the next instruction is in a delay slot.
    pub fn in_delay_slot(&self) -> bool {
        self.branch.is_some()
    }

    pub fn mask_interrupts(&mut self, masked: bool) {
        self.masked = masked;
        self.qemu.mask_interrupts(masked);
        self.ours.mask_interrupts(masked);
    }

    /// The words that were stored to.
    ///
    /// # Errors
    /// Those that differ.
    pub fn compare_stored(&mut self) -> Result<(), String> {
        let stored = std::mem::take(&mut self.stored);
        let mut words = stored.iter().copied().peekable();
        while let Some(at) = words.next() {
            let mut len = 4;
            while words.next_if_eq(&at.wrapping_add(len)).is_some() {
                len += 4;
            }
            // Another address may lead to the same page.
            let pages = at & 0xfff..(at & 0xfff) + len;
            self.words.retain(|known, _| {
                !pages.contains(&(known & 0xfff)) && !pages.contains(&(known & 0xfff | 0x1000))
            });
            self.compare_memory(at, len as usize)?;
        }
        Ok(())
    }

    /// # Errors
    /// The first difference.
    pub fn compare_memory(&mut self, at: u32, len: usize) -> Result<(), String> {
        let (qemu, ours) = (self.qemu.read(at, len), self.ours.read(at, len));
        self.compared_words += len as u64 / 4;
        if qemu == ours {
            return Ok(());
        }
        let text = match (qemu, ours) {
            (Some(qemu), Some(ours)) => {
                let n = qemu.iter().zip(&ours).position(|(a, b)| a != b).unwrap();
                let word = |bytes: &[u8]| {
                    bytes[n & !3..].iter().take(4).fold(String::new(), |s, b| format!("{s}{b:02x}"))
                };
                format!(
                    "memory differs at {:08x}: QEMU {}, ours {}",
                    at as usize + n,
                    word(&qemu),
                    word(&ours)
                )
            }
            (qemu, _) => {
                let who = if qemu.is_some() { "ours" } else { "QEMU" };
                format!("{who} cannot read memory at {at:08x}")
            }
        };
        Err(self.report(&text))
    }

    fn compare(&mut self, qemu: &State, ours: &mut State, word: Option<u32>) -> Result<(), String> {
        let (differ, unseen) = self.masks.differences::<G>(qemu, ours, word);
        if differ.is_empty() {
            for n in &unseen {
                ours.set(*n, qemu.words()[*n]);
            }
            if unseen.iter().any(|n| !G::KEPT.contains(n)) {
                self.ours.set_registers(ours);
            }
            return Ok(());
        }
        let mut text = "registers differ:".to_owned();
        for n in differ {
            let name = G::register_name(n);
            write!(text, " {name} QEMU {:08x} ours {:08x};", qemu.words()[n], ours.words()[n]).unwrap();
        }
        Err(self.report(&text))
    }

    /// A difference, with where it happened.
    pub fn report(&self, what: &str) -> String {
        let mut text = format!("{what}\nthe last steps:\n");
        for line in &self.last {
            writeln!(text, "    {line}").unwrap();
        }
        let words = self.before.words();
        text.push_str("the registers before the last one:\n");
        for (place, n) in G::SHOWN.iter().enumerate() {
            write!(text, " {}={:08x}", G::register_name(*n), words[*n]).unwrap();
            if place % 8 == 7 {
                text.push('\n');
            }
        }
        text
    }
}
