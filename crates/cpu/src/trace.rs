//! What a CPU tells the log: blocks when they are translated and run, registers.
//!
//! What it is: the lines that are the same for all instruction sets, in QEMU's form; exceptions and the MMU are told by each
//! instruction set's own `trace`. What it is not: in the way: whether blocks are told is asked only where a block is looked up,
//! and while they are told every one of them is looked up. What must always hold: what is told changes nothing of the guest.

use std::fmt::Write;

use flatview_device::{Log, LogMask};

use crate::cache::BlockId;
use crate::core::Core;
use crate::cpu::{Cpu, STEP};
use crate::ir::Code;
use crate::isa::Isa;
use crate::tlb::{Kind, Mapping, PAGE_SIZE};

/// What is told of each block that runs.
const BLOCKS: LogMask = LogMask::BLOCKS;

/// Instruction words as they were fetched for a translation, with their addresses; nothing if nobody wants them.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    wanted: bool,
    words: Vec<(u64, u32)>,
}

impl Fetched {
    /// For a translation at an address.
    pub fn at<I: Isa>(core: &Core<I>, pc: u64) -> Self {
        let wanted = core.logs(LogMask::IN_ASM) && core.log.is_wanted_at(pc);
        Self { wanted, words: Vec::new() }
    }

    /// Takes note of a word, the bytes of which are in the order of memory.
    pub fn note(&mut self, va: u64, word: u32) {
        if self.wanted {
            self.words.push((va, word));
        }
    }

    /// Tells what was translated (`in_asm`).
    pub fn tell<I: Isa>(&self, core: &Core<I>, code: &Code) {
        if !self.wanted {
            return;
        }
        let disassembler = I::disassembler(core);
        let mut text = String::from("----------------\nIN: \n");
        for insn in &code.insns {
            if let Some((va, word)) = self.words.iter().find(|(va, _)| *va == insn.pc) {
                let _ = writeln!(text, "{}", disassembler.line(*va, word.to_be_bytes()));
            }
        }
        core.log.line(LogMask::IN_ASM, format_args!("{text}"));
    }
}

impl<I: Isa> Core<I> {
    /// Whether any of these categories is logged, as far as it was noted. Costs one test.
    #[inline]
    pub(crate) fn logs(&self, mask: LogMask) -> bool {
        self.logged.has_any_of(mask)
    }

    /// Writes a line of a category that is logged.
    #[cold]
    pub(crate) fn tell(&self, mask: LogMask, args: std::fmt::Arguments<'_>) {
        self.log.line(mask, args);
    }

    /// Takes note of what is logged now.
    pub(crate) fn note_log(&mut self) {
        self.logged = self.log.mask();
        // So that the next block is looked up.
        if self.logs(BLOCKS) && !self.moved {
            (self.moved, self.told) = (true, true);
        }
    }

    /// What the MMU says of code; it is logged once while it is known of the page.
    pub(crate) fn map_code(&mut self, pc: u64, mmu: u8) -> Result<Mapping, I::Fault> {
        let logged = self.logged;
        if self.code_places.contains(&(pc / PAGE_SIZE)) {
            self.logged = logged.without(LogMask::MMU);
        }
        let mapping = I::map(self, pc, Kind::Fetch, mmu);
        self.logged = logged;
        mapping
    }
}

impl<I: Isa> Cpu<I> {
    /// Where it tells what it does, and by which number; what is logged is looked at again each time its
    /// [inputs](Self::inputs) [ask for attention](crate::Inputs::attend).
    pub fn set_log(&mut self, log: &Log, number: usize) {
        self.core.log = log.clone();
        self.core.number = number;
        self.core.note_log();
    }

    /// Tells of a block that is about to run (`exec`, `cpu`), and has the next one looked up too. One that is too long to be
    /// run now, and will be looked up again in pieces, is not told.
    pub(crate) fn tell_block(&mut self, id: Option<BlockId>, pc: u64, phys: u64, mode: u32, until: u64) {
        if !self.core.logs(BLOCKS) || self.is_too_long(id, until) {
            return;
        }
        if !self.core.moved {
            (self.core.moved, self.core.told) = (true, true);
        }
        let log = &self.core.log;
        if !log.is_wanted_at(pc) {
            return;
        }
        let (flags, single, number) = (mode & !STEP, u32::from(mode & STEP != 0), self.core.number);
        log.line(
            LogMask::EXEC,
            format_args!("Trace {number}: 0x{phys:x} [00000000/{pc:08x}/{flags:08x}/{single:08x}] "),
        );
        if self.core.logs(LogMask::CPU) {
            let registers = I::registers(&self.core);
            log.line(LogMask::CPU, format_args!("{}", registers.trim_end_matches('\n')));
        }
    }

    /// Tells the registers before a reset (`cpu_reset`).
    pub(crate) fn tell_reset(&self) {
        let log = &self.core.log;
        if log.enabled(LogMask::CPU_RESET) {
            let (number, registers) = (self.core.number, I::registers(&self.core));
            let registers = registers.trim_end_matches('\n');
            log.line(LogMask::CPU_RESET, format_args!("CPU Reset (CPU {number})\n{registers}"));
        }
    }
}
