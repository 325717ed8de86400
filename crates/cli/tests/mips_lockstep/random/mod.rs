//! Random programs on both machines.
//!
//! What it is: the run of one program after another, exceptions included. What it is not: what is in them (`program`) or
//! around them (`layout`). What must always hold: each program begins from the same state whatever ran before, so that one
//! alone can be repeated.
//!
//! Exceptions go to handlers in the image, which are stepped too: EPC comes to a register, where it is compared. Then the
//! driver stores for them where to go on and with which Status: behind the instruction that faulted, or in kernel mode after
//! `syscall`, or somewhere else in the program if it went astray. So a handler has six instructions and not forty.

pub mod asm;
mod layout;
mod program;
mod rng;

use flatview::Endianness;

use crate::lockstep::{Lockstep, Step, VECTORS};
use crate::report::Report;
use crate::state::{BAD, CAUSE, CP0, HI_AT, LO_AT, PC_AT, SR};
use layout::{BEFORE, BEHIND, DATA, DATA_BYTES, DUMPED, HANDLER, KERNEL, PROGRAM, PROGRAM_WORDS, RESUME};
use program::{Generator, Program};
use rng::Rng;

/// How often one instruction is done in a program: more than that is a loop that does not end.
const MOST_VISITS: u8 = 10;
/// Steps of a program.
const MOST_STEPS: u32 = 3000;
/// An address that is translated and cannot be executed in any mode.
const NOWHERE: u32 = PROGRAM & 0x1fff_ffff | 2;

const INTERRUPT: u32 = 0;
const SYSCALL: u32 = 8;

/// The seed of the program `n` of a run.
fn seed_of(seed: u64, n: u64) -> u64 {
    Rng(seed ^ n.wrapping_mul(0x9e6c_63d0_876a_3f6b)).next()
}

struct Run<'a> {
    lockstep: &'a mut Lockstep,
    report: &'a mut Report,
    program: Program,
    visits: Vec<u8>,
    /// Units before this one have been gone to.
    landings: usize,
}

/// Runs one program.
///
/// # Errors
/// What differs.
pub fn run(lockstep: &mut Lockstep, report: &mut Report, seed: u64, n: u64) -> Result<(), String> {
    let generator = Generator::new(seed_of(seed, n), &lockstep.masks, lockstep.now.has_fpu());
    let program = generator.program();
    report.image(&program.words, &program.data);
    let visits = vec![0; PROGRAM_WORDS];
    Run { lockstep, report, program, visits, landings: 0 }.all()
}

impl Run<'_> {
    fn all(mut self) -> Result<(), String> {
        self.begin()?;
        for _ in 0..MOST_STEPS {
            let pc = self.lockstep.now.pc();
            match self.index(pc) {
                _ if self.lockstep.in_delay_slot() => self.one()?,
                Some(at) if self.visits[at] < MOST_VISITS && at < PROGRAM_WORDS - 8 => {
                    self.visits[at] += 1;
                    self.one()?;
                }
                _ => {
                    // Astray: if there is no instruction it faults, else it is stopped here.
                    let step = match self.lockstep.word_at(pc) {
                        None => self.lockstep.step()?,
                        Some(_) => self.stop()?,
                    };
                    assert!(step.exception, "{pc:08x} was to fault");
                    let Some(landing) = self.landing() else { break };
                    self.go_on(landing, self.program.status)?;
                }
            }
        }
        self.end()
    }

    /// An instruction of the program.
    fn one(&mut self) -> Result<(), String> {
        let step = self.lockstep.step()?;
        self.report.step(&step);
        if step.exception { self.exception(&step) } else { Ok(()) }
    }

    /// Which word of the program is at an address, by either way.
    fn index(&self, pc: u32) -> Option<usize> {
        let at = match pc >> 29 {
            0 | 4 => (pc & 0x1fff_ffff).checked_sub(PROGRAM & 0x1fff_ffff)?,
            _ => return None,
        };
        (pc & 3 == 0 && (at as usize) < 4 * PROGRAM_WORDS).then_some(at as usize / 4)
    }

    fn begin(&mut self) -> Result<(), String> {
        let (lockstep, program) = (&mut *self.lockstep, &self.program);
        for vector in VECTORS {
            lockstep.write_words(vector, &HANDLER);
        }
        let before = layout::before(&program.cp0, &program.entries, &program.fprs, program.registers[8]);
        lockstep.write_words(BEFORE, &before);
        lockstep.write_words(BEHIND, &layout::behind());
        lockstep.write_words(PROGRAM, &program.words);
        lockstep.write(DATA, &program.data);
        let mut state = lockstep.now.clone();
        for (n, value) in program.registers.iter().enumerate() {
            state.set(n, *value);
        }
        state.set(HI_AT, program.registers[1]);
        state.set(LO_AT, program.registers[2]);
        state.set(PC_AT, BEFORE);
        lockstep.set(&state);
        lockstep.run(&[PROGRAM])?;
        Ok(())
    }

    /// Where to go when the program went astray: the next unit that was never done.
    fn landing(&mut self) -> Option<u32> {
        let units = &self.program.units[self.landings..];
        let skipped = units.iter().position(|at| self.visits[*at] == 0)?;
        self.landings += skipped + 1;
        Some(PROGRAM + 4 * units[skipped] as u32)
    }

    /// An exception wherever it is.
    fn stop(&mut self) -> Result<Step, String> {
        self.lockstep.step_at(NOWHERE)
    }

    /// In the handler, after an instruction of the program.
    fn exception(&mut self, step: &Step) -> Result<(), String> {
        let words = self.lockstep.now.words();
        let (status, code) = (words[SR], words[CAUSE] >> 2 & 31);
        let fetch = matches!(code, 2 | 4 | 6) && words[BAD] == step.pc && step.word.is_none();
        let behind = step.pc.wrapping_add(4);
        match code {
            _ if fetch => match self.landing() {
                Some(landing) => self.go_on(landing, self.program.status),
                // The last step of this program: the next one goes astray.
                None => self.go_on(PROGRAM + 4 * (PROGRAM_WORDS as u32 - 8), self.program.status),
            },
            INTERRUPT => self.go_on(step.branch.unwrap_or(step.pc), status & !1),
            SYSCALL => self.go_on(behind | 0x8000_0000, self.program.status),
            _ => self.go_on(behind, status),
        }
    }

    /// Through the handler to an address.
    fn go_on(&mut self, at: u32, status: u32) -> Result<(), String> {
        self.lockstep.step()?;
        self.lockstep.write_words(RESUME, &[at, status & !4 | 2]);
        for _ in 1..HANDLER.len() {
            self.lockstep.step()?;
        }
        self.report.handler += HANDLER.len() as u64;
        Ok(())
    }

    fn end(mut self) -> Result<(), String> {
        while self.lockstep.in_delay_slot() {
            self.one()?;
        }
        if !VECTORS.contains(&self.lockstep.now.pc()) {
            self.stop()?;
        }
        let whole = self.program.status & 1 << 26;
        self.go_on(BEHIND, KERNEL | whole)?;
        let lockstep = self.lockstep;
        lockstep.compare_stored()?;
        lockstep.run(&[layout::end_of(BEHIND, &layout::behind())])?;
        lockstep.compare_memory(PROGRAM, 4 * PROGRAM_WORDS)?;
        lockstep.compare_memory(DATA, DATA_BYTES)?;
        let len = layout::dumped_bytes();
        let (qemu, ours) =
            (lockstep.qemu.read(DUMPED, len).unwrap(), lockstep.ours.read(DUMPED, len).unwrap());
        let word = |bytes: &[u8]| match lockstep.order {
            Endianness::Little => u32::from_le_bytes(bytes.try_into().unwrap()),
            _ => u32::from_be_bytes(bytes.try_into().unwrap()),
        };
        let mut text = String::new();
        for (n, (qemu, ours)) in qemu.chunks(4).zip(ours.chunks(4)).enumerate() {
            let masked = CP0.get(n).map_or(0, |register| lockstep.masks.cp0(*register));
            let (qemu, ours) = (word(qemu), word(ours));
            if (qemu ^ ours) & !masked != 0 {
                text += &format!("{}: QEMU {qemu:08x}, ours {ours:08x}\n", layout::dumped_name(n));
            }
        }
        if text.is_empty() { Ok(()) } else { Err(format!("behind the program:\n{text}")) }
    }
}
