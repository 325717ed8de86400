//! Where a random program and what it needs lie, and the code around it: handlers, what is done before it and behind it.
//!
//! The program is at the same address of kuseg as its physical one, and so are its data, so that branches and jumps lead
//! to the same instruction in kernel mode and in user mode.

use super::asm::*;
use crate::mips::CP0;

const KSEG0: u32 = 0x8000_0000;
/// Before a program: CP0 and the TLB.
pub const BEFORE: u32 = KSEG0 | 0x1000;
/// Behind it: CP0 and the TLB go to [`DUMPED`].
pub const BEHIND: u32 = KSEG0 | 0x2000;
pub const DUMPED: u32 = KSEG0 | 0x4000;
pub const PROGRAM: u32 = KSEG0 | 0x1_0000;
/// How many words a program has at most.
pub const PROGRAM_WORDS: usize = 2048;
pub const DATA: u32 = KSEG0 | 0x2_0000;
pub const DATA_BYTES: usize = 0x1_0000;
/// TLB entries, of which the first two are the program's own pages and data.
pub const ENTRIES: u32 = 16;
pub const OWN_ENTRIES: u32 = 2;

/// Registers that lead to the data: through kseg0, through a mapped page, through kseg1.
pub const GP: u32 = 28;
pub const SP: u32 = 29;
pub const S8: u32 = 30;
pub const BASES: [(u32, u32); 3] = [(GP, DATA + 0x8000), (SP, 0x2_8000), (S8, 0xa002_8000)];

/// Status in kernel mode: CP0, no interrupts.
pub const KERNEL: u32 = 0x1000_0000;
/// Cause: Count stands still.
pub const COUNT_STOPS: u32 = 1 << 27;

/// What a handler does. Before its second word the driver, which has seen what happened, stores at [`RESUME`] where to go on and
/// with which Status.
pub const HANDLER: [u32; 6] =
    [mfc0(26, EPC), lw(26, GP, 0x7ff8), lw(27, GP, 0x7ffc), mtc0(26, EPC), mtc0(27, STATUS), ERET];
/// The end of the data.
pub const RESUME: u32 = DATA + 0xfff8;

/// A TLB entry: EntryHi, EntryLo0, EntryLo1, PageMask.
pub type Entry = [u32; 4];

/// The entry of an index that is nobody's: it holds nothing that can be reached.
pub fn unused(index: u32) -> Entry {
    [KSEG0 | index << 13, 0, 0, 0]
}

/// Code that gives CP0, the TLB and the FPU their values, and goes to the program. Status is the last one of `registers`; `t0` is
/// what register 8 begins with.
pub fn before(registers: &[((u32, u32), u32)], entries: &[Entry], fprs: &[[u32; 2]], t0: u32) -> Vec<u32> {
    let mut code = Vec::new();
    code.extend(li(8, COUNT_STOPS));
    code.push(mtc0(8, CAUSE));
    for (index, [hi, lo0, lo1, mask]) in (0..).zip(entries) {
        let all = [(INDEX, index), (PAGE_MASK, *mask), (ENTRY_LO0, *lo0), (ENTRY_LO1, *lo1), (ENTRY_HI, *hi)];
        for (register, value) in all {
            code.extend(li(8, value));
            code.push(mtc0(8, register));
        }
        code.extend([EHB, TLBWI]);
    }
    let (status, registers) = registers.split_last().unwrap();
    for (register, value) in registers {
        code.extend(li(8, *value));
        code.extend([mtc0(8, *register), EHB]);
    }
    if !fprs.is_empty() {
        // mtc1 and mthc1 to 32 whole registers, and FCSR.
        code.extend(li(8, KERNEL | 1 << 29 | 1 << 26));
        code.extend([mtc0(8, STATUS), EHB]);
        for (n, [low, high]) in (0..).zip(fprs) {
            code.extend(li(8, *low));
            code.push(0x11 << 26 | r(0, 4, 8, n, 0));
            code.extend(li(8, *high));
            code.push(0x11 << 26 | r(0, 7, 8, n, 0));
        }
        code.push(0x11 << 26 | r(0, 6, 0, 31, 0));
    }
    code.extend(li(8, status.1));
    code.extend([mtc0(8, status.0), EHB]);
    code.extend(li(8, t0));
    code.extend([2 << 26 | PROGRAM >> 2 & 0x03ff_ffff, NOP]);
    code
}

/// Code that stores what CP0 and the TLB hold, and ends in a loop.
pub fn behind() -> Vec<u32> {
    let mut code = li(9, DUMPED).to_vec();
    let mut at = 0;
    let mut store = |code: &mut Vec<u32>, register| {
        code.extend([mfc0(8, register), sw(8, 9, at)]);
        at += 4;
    };
    for register in CP0 {
        store(&mut code, *register);
    }
    for index in 0..ENTRIES {
        code.extend([ori(8, 0, index), mtc0(8, INDEX), EHB, TLBR, EHB]);
        for register in [ENTRY_HI, ENTRY_LO0, ENTRY_LO1, PAGE_MASK] {
            store(&mut code, register);
        }
    }
    end(&mut code);
    code
}

fn end(code: &mut Vec<u32>) {
    code.extend([i(4, 0, 0, 0xffff), NOP]);
}

pub fn dumped_bytes() -> usize {
    4 * (CP0.len() + 4 * ENTRIES as usize)
}

/// What a word of the dump is.
pub fn dumped_name(word: usize) -> String {
    match CP0.get(word) {
        Some((number, select)) => format!("CP0 register {number}.{select}"),
        None => {
            let n = word - CP0.len();
            format!("TLB entry {} {}", n / 4, ["EntryHi", "EntryLo0", "EntryLo1", "PageMask"][n % 4])
        }
    }
}
