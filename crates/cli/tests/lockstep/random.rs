//! Random programs on both machines.
//!
//! What it is: the run of one program after another, exceptions included. What it is not: what is in them, or around them
//! ([`Programs`]). What must always hold: each program begins from the same state whatever ran before, so that one alone can
//! be repeated.
//!
//! Exceptions go to handlers in the image, which are stepped too: where the exception came from comes to registers, where it
//! is compared. Then the driver stores for them where to go on and in which mode: behind the instruction that faulted, or in
//! the kernel's after a system call, or somewhere else in the program if it went astray. So a handler has a few instructions
//! and not forty.

use std::collections::BTreeSet;
use std::time::Instant;

use flatview::Endianness;

use crate::guest::Guest;
use crate::lockstep::{Lockstep, Step};
use crate::report::Report;
use crate::rng::Rng;
use crate::{both, env_number, orders};

/// How often one instruction is done in a program: more than that is a loop that does not end.
const MOST_VISITS: u8 = 10;
/// Steps of a program.
const MOST_STEPS: u32 = 3000;
/// Instructions of a run that nobody gave a number for.
const SLICE: u64 = 60_000;

/// What every program has.
pub struct Image {
    pub words: Vec<u32>,
    /// The index of the first word of each unit.
    pub units: Vec<usize>,
    pub data: Vec<u8>,
}

/// Where to go on after an exception: an address and the register that says in which mode. Nothing is somewhere else in the
/// program, in the mode that it began in.
pub type Next = Option<(u32, u32)>;

/// An instruction set that there are random programs for.
pub trait Programs: Guest {
    /// A program and the state that it begins in.
    type Program;

    /// Where programs are.
    const PROGRAM: u32;
    /// How many words they have at most; the last ones are a loop.
    const PROGRAM_WORDS: usize;
    /// Where the data are, and how many bytes.
    const DATA: (u32, usize);
    /// Where the handlers read where to go on, and in which mode.
    const RESUME: u32;
    /// How many instructions a handler has.
    const HANDLER: usize;
    /// An address where every mode takes an exception.
    const NOWHERE: u32;
    /// Code that has the system's registers stored at the second address.
    const BEHIND: (u32, u32);

    fn program(lockstep: &Lockstep<Self>, seed: u64) -> Self::Program;

    fn image(program: &Self::Program) -> &Image;

    /// In which mode a program begins.
    fn mode(program: &Self::Program) -> u32;

    /// Which word of the program is at an address, by whatever way.
    fn index(lockstep: &Lockstep<Self>, pc: u32) -> Option<usize>;

    /// Whether there is certainly an exception at an address where the program is not.
    fn faults_at(lockstep: &mut Lockstep<Self>, pc: u32) -> bool;

    /// Has both at the program's first instruction.
    ///
    /// # Errors
    /// What differs then.
    fn begin(lockstep: &mut Lockstep<Self>, program: &Self::Program) -> Result<(), String>;

    /// In a handler, after an instruction of the program.
    fn after(lockstep: &mut Lockstep<Self>, program: &Self::Program, step: &Step) -> Next;

    /// What [`RESUME`](Self::RESUME) gets to go on in a mode: an address and a register's value.
    fn resume(at: u32, mode: u32) -> [u32; 2] {
        [at, mode]
    }

    /// The mode of the code at [`BEHIND`](Self::BEHIND).
    fn mode_behind(program: &Self::Program) -> u32;

    /// That code, which ends in a loop, and the loop's length in bytes.
    fn behind() -> (Vec<u32>, u32);

    /// What the words that it stores are, and their bits that are not compared.
    fn dumped(lockstep: &Lockstep<Self>) -> Vec<(String, u32)>;

    /// More memory that is compared behind a program: addresses and lengths.
    fn also_compared() -> &'static [(u32, usize)] {
        &[]
    }
}

/// Random programs until as many instructions are done as are asked for.
pub fn run_alike<G: Programs>(seed: u64, known: &BTreeSet<&'static str>) {
    let seed = env_number("FLATVIEW_SEED").unwrap_or(seed);
    let count = env_number("FLATVIEW_LOCKSTEP");
    let only = env_number("FLATVIEW_PROGRAM");
    let orders = orders::<G>();
    let (mut all, mut failures) = (Report::default(), Vec::new());
    let began = Instant::now();
    for order in &orders {
        let most = count.unwrap_or(SLICE) / orders.len() as u64;
        let mut report = Report::default();
        let mut lockstep = both::<G>(*order);
        let first = only.unwrap_or(0);
        for n in first.. {
            if let Err(text) = run(&mut lockstep, &mut report, seed, n) {
                let name = if *order == Endianness::Big { "big" } else { "little" };
                failures.push(format!(
                    "instruction {} of the run (FLATVIEW_SEED={seed:#x} FLATVIEW_PROGRAM={n} FLATVIEW_ORDER={name}): {text}",
                    report.instructions()
                ));
                lockstep = both(*order);
            }
            if report.instructions() >= most || only.is_some() || failures.len() >= 8 {
                break;
            }
        }
        println!("{} {order:?}: {} words of memory compared on the way", G::NAME, lockstep.compared_words);
        all.add(&report);
    }
    println!("{}, seed {seed:#x}, {:.1} s: {all}", G::NAME, began.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} programs differ:\n{}", failures.len(), failures.join("\n\n"));
    if orders.is_empty() || only.is_some() {
        return;
    }
    assert!(all.retired * 10 >= all.instructions() * 7, "less than 70 % are done");
    let rare = if count.is_some_and(|n| n >= 1_000_000) { 100 } else { 1 };
    let often = |name: &&&str| all.mnemonics.get(**name).is_some_and(|(a, b)| a + b >= rare);
    let seldom: Vec<_> = known.iter().filter(|name| !often(name)).collect();
    assert!(seldom.is_empty(), "less than {rare} times: {seldom:?}");
}

/// The seed of the program `n` of a run.
fn seed_of(seed: u64, n: u64) -> u64 {
    Rng(seed ^ n.wrapping_mul(0x9e6c_63d0_876a_3f6b)).next()
}

/// Runs one program.
fn run<G: Programs>(
    lockstep: &mut Lockstep<G>,
    report: &mut Report,
    seed: u64,
    n: u64,
) -> Result<(), String> {
    let program = G::program(lockstep, seed_of(seed, n));
    let image = G::image(&program);
    report.image(&image.words, &image.data);
    let visits = vec![0; G::PROGRAM_WORDS];
    Run { lockstep, report, program, visits, landings: 0 }.all()
}

struct Run<'a, G: Programs> {
    lockstep: &'a mut Lockstep<G>,
    report: &'a mut Report,
    program: G::Program,
    visits: Vec<u8>,
    /// Units before this one have been gone to.
    landings: usize,
}

impl<G: Programs> Run<'_, G> {
    fn all(mut self) -> Result<(), String> {
        G::begin(self.lockstep, &self.program)?;
        for _ in 0..MOST_STEPS {
            let pc = self.lockstep.now.pc();
            match G::index(self.lockstep, pc) {
                _ if self.lockstep.in_delay_slot() => self.one()?,
                Some(at) if self.visits[at] < MOST_VISITS && at < G::PROGRAM_WORDS - 8 => {
                    self.visits[at] += 1;
                    self.one()?;
                }
                _ => {
                    // Astray: if there is no instruction it faults, else it is stopped here.
                    let step = match G::faults_at(self.lockstep, pc) {
                        true => self.lockstep.step()?,
                        false => self.stop()?,
                    };
                    if !step.exception {
                        return Err(self.lockstep.report(&format!("{pc:08x} was to fault")));
                    }
                    let Some(landing) = self.landing() else { break };
                    self.go_on(landing, G::mode(&self.program))?;
                }
            }
        }
        self.end()
    }

    /// An instruction of the program.
    fn one(&mut self) -> Result<(), String> {
        let step = self.lockstep.step()?;
        self.report.step::<G>(&step);
        if !step.exception {
            return Ok(());
        }
        let (at, mode) = G::after(self.lockstep, &self.program, &step).unwrap_or_else(|| {
            // With nothing left this is the last step: the next one goes astray.
            let last = G::PROGRAM + 4 * (G::PROGRAM_WORDS as u32 - 8);
            (self.landing().unwrap_or(last), G::mode(&self.program))
        });
        self.go_on(at, mode)
    }

    /// Where to go when the program went astray: the next unit that was never done.
    fn landing(&mut self) -> Option<u32> {
        let units = &G::image(&self.program).units[self.landings..];
        let skipped = units.iter().position(|at| self.visits[*at] == 0)?;
        self.landings += skipped + 1;
        Some(G::PROGRAM + 4 * units[skipped] as u32)
    }

    /// An exception wherever it is.
    fn stop(&mut self) -> Result<Step, String> {
        self.lockstep.step_at(G::NOWHERE)
    }

    /// Through the handler to an address.
    fn go_on(&mut self, at: u32, mode: u32) -> Result<(), String> {
        self.lockstep.step()?;
        self.lockstep.write_words(G::RESUME, &G::resume(at, mode));
        for _ in 1..G::HANDLER {
            self.lockstep.step()?;
        }
        self.report.handler += G::HANDLER as u64;
        Ok(())
    }

    fn end(mut self) -> Result<(), String> {
        while self.lockstep.in_delay_slot() {
            self.one()?;
        }
        if !G::is_vector(self.lockstep.now.pc()) {
            self.stop()?;
        }
        let (behind, dump) = G::BEHIND;
        self.go_on(behind, G::mode_behind(&self.program))?;
        let lockstep = self.lockstep;
        lockstep.compare_stored()?;
        let (code, end) = G::behind();
        lockstep.run(&[behind + 4 * code.len() as u32 - end])?;
        lockstep.compare_memory(G::PROGRAM, 4 * G::PROGRAM_WORDS)?;
        lockstep.compare_memory(G::DATA.0, G::DATA.1)?;
        for (at, len) in G::also_compared() {
            lockstep.compare_memory(*at, *len)?;
        }
        let words = G::dumped(lockstep);
        let len = 4 * words.len();
        let (qemu, ours) = (lockstep.qemu.read(dump, len).unwrap(), lockstep.ours.read(dump, len).unwrap());
        let mut text = String::new();
        for ((name, masked), (qemu, ours)) in words.iter().zip(qemu.chunks(4).zip(ours.chunks(4))) {
            let (qemu, ours) = (lockstep.to_word(qemu), lockstep.to_word(ours));
            if (qemu ^ ours) & !masked != 0 {
                text += &format!("{name}: QEMU {qemu:08x}, ours {ours:08x}\n");
            }
        }
        if text.is_empty() { Ok(()) } else { Err(format!("behind the program:\n{text}")) }
    }
}
