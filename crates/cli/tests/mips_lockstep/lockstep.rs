//! Two machines, step by step.
//!
//! What it is: one step on both, and the comparison of what it left: every register after every step, and behind every
//! branch and exception the memory that was stored to since. What it is not: what is run. What must always hold: nothing
//! is left out that [`Masks`] does not name; a value that is not compared is made QEMU's on ours, so that what follows from
//! it is compared. Where EI stands before WAIT interrupts are held back, so that one that is pending ends the waiting and
//! is taken behind it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;

use flatview::Endianness;

use crate::random::asm::WAIT;
use crate::state::{BAD, CAUSE, Masks, PC_AT, SR, State, name};
use crate::target::Target;
use crate::words::{is_branch, is_ei, is_likely, mnemonic, store};

/// Where exceptions go: refill, all others, interrupts with Cause.IV.
pub const VECTORS: [u32; 3] = [0x8000_0000, 0x8000_0180, 0x8000_0200];
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

pub struct Lockstep {
    pub qemu: Box<dyn Target>,
    pub ours: Box<dyn Target>,
    pub masks: Masks,
    pub order: Endianness,
    /// Both machines' registers.
    pub now: State,
    last: VecDeque<String>,
    /// Words that were stored to since memory was compared.
    stored: BTreeSet<u32>,
    /// Where the branch is whose delay slot is next.
    branch: Option<u32>,
    words: HashMap<u32, u32>,
    masked: bool,
    pub steps: u64,
    pub compared_words: u64,
}

impl Lockstep {
    pub fn new(mut qemu: Box<dyn Target>, ours: Box<dyn Target>, order: Endianness) -> Self {
        let now = qemu.registers();
        Self {
            qemu,
            ours,
            masks: Masks::read(),
            order,
            now,
            last: VecDeque::new(),
            stored: BTreeSet::new(),
            branch: None,
            words: HashMap::new(),
            masked: false,
            steps: 0,
            compared_words: 0,
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

    fn to_word(&self, bytes: &[u8]) -> u32 {
        let bytes = bytes.try_into().unwrap();
        if self.order == Endianness::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Sets general registers, HI, LO and the program counter on both.
    pub fn set(&mut self, state: &State) {
        self.now = state.clone();
        self.qemu.set_registers(state);
        self.ours.set_registers(state);
    }

    /// The instruction word at an address, as QEMU sees it.
    pub fn word_at(&mut self, at: u32) -> Option<u32> {
        let direct = (0x8000_0000..0xc000_0000).contains(&at);
        if let Some(word) = self.words.get(&at).filter(|_| direct) {
            return Some(*word);
        }
        if at & 3 != 0 {
            return None;
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
        let ours = self.ours.finish_run();
        let qemu = self.qemu.finish_run();
        self.words.clear();
        self.note(format!("{:08x}: run to {:08x}", self.now.pc(), qemu.pc()));
        self.now = qemu.clone();
        self.compare(&qemu, &ours)
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
        let (pc, before) = (at.unwrap_or(self.now.pc()), self.now.clone());
        let (word, branch) = (self.word_at(pc), self.branch.take());
        if word.is_some_and(is_ei) && self.word_at(pc.wrapping_add(4)) == Some(WAIT) {
            self.mask_interrupts(true);
        }
        match at {
            None => [&mut self.qemu, &mut self.ours].map(|target| target.start_step()),
            Some(at) => [&mut self.qemu, &mut self.ours].map(|target| target.start_step_at(at)),
        };
        let mut ours = self.ours.finish_step();
        let mut qemu = self.qemu.finish_step();
        if qemu == before && ours != before {
            // Once in some ten thousand steps QEMU stops before it has done anything.
            self.qemu.start_step();
            qemu = self.qemu.finish_step();
        }
        if word == Some(WAIT) && self.masked && qemu.pc() == pc.wrapping_add(8) {
            // QEMU wakes up and does the next instruction.
            self.ours.start_step();
            ours = self.ours.finish_step();
        }
        if self.masked && !word.is_some_and(is_ei) {
            self.mask_interrupts(false);
        }
        let skips = word.is_some_and(is_likely) && ours.pc() == pc.wrapping_add(8);
        if skips && qemu.pc() == pc.wrapping_add(4) {
            // QEMU steps to the delay slot that it leaves out.
            self.qemu.start_step();
            qemu = self.qemu.finish_step();
        }
        self.steps += 1;
        self.note(match word {
            Some(word) => format!("{pc:08x}: {word:08x} {}", mnemonic(word).unwrap_or("?")),
            None => format!("{pc:08x}: nothing"),
        });

        let exception = VECTORS.contains(&qemu.pc()) && !VECTORS.contains(&pc);
        self.now = qemu.clone();
        if !exception
            && let Some((register, bits)) = word.and_then(|word| self.masks.read_by(word))
            && qemu.words()[register] != ours.words()[register]
            && (qemu.words()[register] ^ ours.words()[register]) & !bits == 0
        {
            ours.set(register, qemu.words()[register]);
            self.ours.set_registers(&ours);
        }
        self.compare(&qemu, &ours)?;

        if !exception && let Some((base, index, displacement, words)) = word.and_then(store) {
            let value = |n: usize| before.words()[n];
            let at = value(base).wrapping_add(value(index)).wrapping_add_signed(displacement.into()) & !3;
            self.stored.extend((0..words).map(|n| at.wrapping_add(4 * n)));
        }
        let branches = !exception && word.is_some_and(is_branch);
        if branches && !(word.is_some_and(is_likely) && qemu.pc() == pc.wrapping_add(8)) {
            self.branch = Some(pc);
        }
        if branches || exception {
            self.compare_stored()?;
        }
        Ok(Step { pc, word, branch, exception })
    }

    /// Whether the next instruction is in a delay slot.
    pub fn in_delay_slot(&self) -> bool {
        self.branch.is_some()
    }

    fn mask_interrupts(&mut self, masked: bool) {
        self.masked = masked;
        self.qemu.mask_interrupts(masked);
        self.ours.mask_interrupts(masked);
    }

    /// The words that were stored to.
    ///
    /// # Errors
    /// Those that differ.
    pub fn compare_stored(&mut self) -> Result<(), String> {
        for at in std::mem::take(&mut self.stored) {
            self.words.retain(|known, _| known & 0xfff != at & 0xfff);
            self.compare_memory(at, 4)?;
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
        let (Some(a), Some(b)) = (&qemu, &ours) else {
            return Err(self
                .report(&format!("memory at {at:08x} can be read by one: QEMU {qemu:x?}, ours {ours:x?}")));
        };
        let place = a.iter().zip(b).position(|(a, b)| a != b).unwrap() & !3;
        let (a, b) = (&a[place..place + 4], &b[place..place + 4]);
        let what = format!("memory at {:08x}: QEMU {a:02x?}, ours {b:02x?}", at.wrapping_add(place as u32));
        Err(self.report(&what))
    }

    fn compare(&self, qemu: &State, ours: &State) -> Result<(), String> {
        let differ = self.masks.differences(qemu, ours);
        if differ.is_empty() {
            return Ok(());
        }
        let mut text = "registers differ:".to_owned();
        for n in differ {
            write!(text, " {} QEMU {:08x} ours {:08x};", name(n), qemu.words()[n], ours.words()[n]).unwrap();
        }
        Err(self.report(&text))
    }

    /// A difference, with where it happened.
    fn report(&self, what: &str) -> String {
        let mut text = format!("{what}\nthe last steps:\n");
        for line in &self.last {
            writeln!(text, "    {line}").unwrap();
        }
        let words = self.now.words();
        text.push_str("QEMU's registers then:\n");
        for n in (0..32).chain([SR, CAUSE, BAD, PC_AT, 33, 34]) {
            write!(text, " {}={:08x}", name(n), words[n]).unwrap();
            if n % 8 == 7 {
                text.push('\n');
            }
        }
        text
    }
}
