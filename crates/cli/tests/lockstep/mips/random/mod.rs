//! Random programs for MIPS: what is in them is in `program`, what is around them in `layout`.
//!
//! In the handlers EPC comes to a register; where to go on stands with Status.

pub mod asm;
mod layout;
mod program;

use super::{BAD, CAUSE, CP0, HI_AT, LO_AT, Mips, PC_AT, SR, VECTORS, cp0_mask};
use crate::lockstep::{Lockstep, Step};
use crate::random::{Image, Next, Programs};
use layout::{BEFORE, BEHIND, DATA, DATA_BYTES, DUMPED, HANDLER, KERNEL, PROGRAM, PROGRAM_WORDS, RESUME};
use program::{Generator, Program};

const INTERRUPT: u32 = 0;
const SYSCALL: u32 = 8;

impl Programs for Mips {
    type Program = Program;

    const PROGRAM: u32 = PROGRAM;
    const PROGRAM_WORDS: usize = PROGRAM_WORDS;
    const DATA: (u32, usize) = (DATA, DATA_BYTES);
    const RESUME: u32 = RESUME;
    const HANDLER: usize = HANDLER.len();
    /// Misaligned, and executed in no mode.
    const NOWHERE: u32 = PROGRAM & 0x1fff_ffff | 2;
    const BEHIND: (u32, u32) = (BEHIND, DUMPED);

    fn program(lockstep: &Lockstep<Self>, seed: u64) -> Program {
        Generator::new(seed, &lockstep.masks).program()
    }

    fn image(program: &Program) -> &Image {
        &program.image
    }

    fn mode(program: &Program) -> u32 {
        program.status
    }

    fn index(_: &Lockstep<Self>, pc: u32) -> Option<usize> {
        let at = match pc >> 29 {
            0 | 4 => (pc & 0x1fff_ffff).checked_sub(PROGRAM & 0x1fff_ffff)?,
            _ => return None,
        };
        (pc & 3 == 0 && (at as usize) < 4 * PROGRAM_WORDS).then_some(at as usize / 4)
    }

    fn faults_at(lockstep: &mut Lockstep<Self>, pc: u32) -> bool {
        lockstep.word_at(pc).is_none()
    }

    fn begin(lockstep: &mut Lockstep<Self>, program: &Program) -> Result<(), String> {
        for vector in VECTORS {
            lockstep.write_words(vector, &HANDLER);
        }
        let before = layout::before(&program.cp0, &program.entries, &program.fprs, program.registers[8]);
        lockstep.write_words(BEFORE, &before);
        lockstep.write_words(BEHIND, &layout::behind());
        lockstep.write_words(PROGRAM, &program.image.words);
        lockstep.write(DATA, &program.image.data);
        let mut state = lockstep.now.clone();
        for (n, value) in program.registers.iter().enumerate() {
            state.set(n, *value);
        }
        state.set(HI_AT, program.registers[1]);
        state.set(LO_AT, program.registers[2]);
        state.set(PC_AT, BEFORE);
        lockstep.set(&state);
        lockstep.run(&[PROGRAM])
    }

    fn after(lockstep: &mut Lockstep<Self>, program: &Program, step: &Step) -> Next {
        let words = lockstep.now.words();
        let (status, code) = (words[SR], words[CAUSE] >> 2 & 31);
        let fetch = matches!(code, 2 | 4 | 6) && words[BAD] == step.pc && step.word.is_none();
        let behind = step.pc.wrapping_add(4);
        match code {
            _ if fetch => None,
            INTERRUPT => Some((step.branch.unwrap_or(step.pc), status & !1)),
            SYSCALL => Some((behind | 0x8000_0000, program.status)),
            _ => Some((behind, status)),
        }
    }

    fn resume(at: u32, status: u32) -> [u32; 2] {
        [at, status & !4 | 2]
    }

    fn mode_behind(program: &Program) -> u32 {
        KERNEL | program.status & 1 << 26
    }

    fn behind() -> (Vec<u32>, u32) {
        (layout::behind(), 8)
    }

    fn dumped(lockstep: &Lockstep<Self>) -> Vec<(String, u32)> {
        let masked = |n: usize| CP0.get(n).map_or(0, |register| cp0_mask(&lockstep.masks, *register));
        (0..layout::dumped_bytes() / 4).map(|n| (layout::dumped_name(n), masked(n))).collect()
    }
}
