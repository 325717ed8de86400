//! Random programs for PowerPC: what is in them is in `program`, what is around them in `layout`.
//!
//! In the handlers SRR0, SRR1, DAR and DSISR come to registers; where to go on stands with MSR.

pub mod asm;
mod layout;
mod program;

use super::{CTR, FIRST_FPR, FPSCR, LR, MSR, PC_AT, Ppc, RAM, ROM, XER};
use crate::lockstep::{Lockstep, Step};
use crate::random::{Image, Next, Programs};
use layout::{
    BEFORE, BEHIND, BLOCK_ALIAS, CODE_ALIAS, DATA, DATA_BYTES, DUMPED, ENTERED, LOW, NOWHERE, OWN, PROGRAM,
    PROGRAM_WORDS, RESUME, TABLE, TABLE_BYTES,
};
pub use layout::{HANDLER, VECTORS};
use program::{Generator, IP, Program};

/// MSR\[IR\].
const IR: u32 = 1 << 5;
/// FPSCR\[FEX\].
const FEX: u32 = 1 << 30;
/// MSR where machine checks are exceptions, and nothing else.
const ME: u32 = 1 << 12;

/// Where the driver reads the instruction of an address: the program's own ground is at the same address for data in every mode.
pub fn code_at(at: u32) -> Option<u32> {
    match at {
        _ if at & 3 != 0 => None,
        _ if !(RAM..ROM).contains(&at) => Some(at),
        _ if [CODE_ALIAS, BLOCK_ALIAS].contains(&(at & 0xf000_0000)) && at & 0x0fff_ffff < OWN => {
            Some(at & 0x0fff_ffff)
        }
        _ => None,
    }
}

impl Programs for Ppc {
    type Program = Program;

    const PROGRAM: u32 = PROGRAM;
    const PROGRAM_WORDS: usize = PROGRAM_WORDS;
    const DATA: (u32, usize) = (DATA, DATA_BYTES);
    const RESUME: u32 = RESUME;
    const HANDLER: usize = HANDLER.len();
    const NOWHERE: u32 = NOWHERE;
    const BEHIND: (u32, u32) = (BEHIND, DUMPED);

    fn program(lockstep: &Lockstep<Self>, seed: u64) -> Program {
        Generator::new(seed, &lockstep.masks).program()
    }

    fn image(program: &Program) -> &Image {
        &program.image
    }

    fn mode(program: &Program) -> u32 {
        program.msr
    }

    fn index(lockstep: &Lockstep<Self>, pc: u32) -> Option<usize> {
        let translated = lockstep.now.words()[MSR] & IR != 0;
        let pc = match pc & 0xf000_0000 {
            0 => pc,
            CODE_ALIAS | BLOCK_ALIAS if translated => pc & 0x0fff_ffff,
            _ => return None,
        };
        let at = pc.checked_sub(PROGRAM)? as usize / 4;
        (at < PROGRAM_WORDS).then_some(at)
    }

    fn faults_at(lockstep: &mut Lockstep<Self>, pc: u32) -> bool {
        lockstep.now.words()[MSR] & IR != 0 && layout::EMPTY.contains(&(pc >> 28))
    }

    fn begin(lockstep: &mut Lockstep<Self>, program: &Program) -> Result<(), String> {
        for vector in VECTORS {
            lockstep.write_words(vector, &HANDLER);
        }
        lockstep.write_words(NOWHERE, &[asm::SC]);
        lockstep.write_words(BEFORE, &layout::before(program));
        lockstep.write_words(RESUME, &[ENTERED, ME]);
        lockstep.write_words(BEHIND, &layout::behind().0);
        lockstep.write_words(PROGRAM, &program.image.words);
        lockstep.write(DATA, &program.image.data);
        lockstep.write_words(LOW, &program.low);
        lockstep.write_words(TABLE, &program.table);
        let mut state = lockstep.now.clone();
        for (n, value) in program.registers.iter().enumerate() {
            state.set(n, *value);
        }
        for (n, value) in program.fprs.iter().enumerate() {
            state.set(FIRST_FPR + n, *value);
        }
        state.set(LR, program.registers[1]);
        state.set(CTR, program.registers[2]);
        state.set(XER, program.registers[3] & 0xe000_007f);
        state.set(FPSCR, 0);
        state.set(PC_AT, BEFORE);
        lockstep.set(&state);
        lockstep.run(&[PROGRAM])
    }

    fn after(lockstep: &mut Lockstep<Self>, program: &Program, step: &Step) -> Next {
        let (vector, msr) = (lockstep.now.pc() & 0xffff, lockstep.before.words()[MSR]);
        let behind = step.pc.wrapping_add(4);
        let fpscr = lockstep.now.words()[FPSCR];
        if vector == 0x700 && fpscr & FEX != 0 {
            // As a handler would: else the next instruction of the unit interrupts again, or not, as in QEMU.
            let mut state = lockstep.now.clone();
            state.set(FPSCR, fpscr & 3);
            lockstep.set(&state);
        }
        match vector {
            // A fetch.
            0x400 => None,
            // Interrupts: the instruction is not done.
            0x500 | 0x900 => Some((step.pc, msr)),
            // A system call, in the kernel's mode and at the program's own place.
            0xc00 => Some((behind & 0x0fff_ffff, program.msr)),
            _ => Some((behind, msr)),
        }
    }

    fn mode_behind(program: &Program) -> u32 {
        ME | program.msr & IP
    }

    fn behind() -> (Vec<u32>, u32) {
        (layout::behind().0, 4)
    }

    fn dumped(lockstep: &Lockstep<Self>) -> Vec<(String, u32)> {
        let names = layout::behind().1;
        names.into_iter().map(|name| (name.clone(), lockstep.masks.system(&name))).collect()
    }

    fn also_compared() -> &'static [(u32, usize)] {
        &[(LOW, 0x4000), (TABLE, TABLE_BYTES)]
    }
}
