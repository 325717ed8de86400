//! Where a random program and what it needs lie, and the code around it: handlers, what is done before it and behind it.
//!
//! The first pair of BATs has all of this at its own addresses for everyone, so that branches lead to the same instruction in
//! every mode, and the driver can read it.

use super::asm::*;
use super::program::Program;

/// A debugger's word: where handlers read SRR0 and SRR1.
pub const RESUME: u32 = 0x3ff0;
/// A system call.
pub const NOWHERE: u32 = 0x3f00;
/// Data that accesses without a base register reach.
pub const LOW: u32 = 0x4000;
pub const LOW_WORDS: usize = 0x1000;
/// Before a program: the system's registers.
pub const BEFORE: u32 = 0x8000;
/// Where an interrupt that the last program left is over.
pub const ENTERED: u32 = BEFORE + 7 * 4;
/// Behind it: they go to [`DUMPED`].
pub const BEHIND: u32 = 0xc000;
pub const DUMPED: u32 = 0xe000;
pub const PROGRAM: u32 = 0x1_0000;
pub const PROGRAM_WORDS: usize = 2048;
pub const DATA: u32 = 0x2_0000;
pub const DATA_BYTES: usize = 0x1_0000;
/// The page table: the smallest there is.
pub const TABLE: u32 = 0x3_0000;
pub const TABLE_BYTES: usize = 0x1_0000;
/// What all of this needs.
pub const OWN: u32 = 0x4_0000;

/// Segments by whose page 0 on the same is: by pages with data, by pages with code; and by a second pair of BATs.
pub const DATA_ALIAS: u32 = 0x1000_0000;
pub const CODE_ALIAS: u32 = 0x3000_0000;
pub const BLOCK_ALIAS: u32 = 0x4000_0000;
/// Segments where no page is.
pub const EMPTY: [u32; 2] = [0xd, 0xe];

/// Registers that lead to the data: at its own address, by pages, by a block.
pub const OWN_BASE: u32 = 28;
pub const PAGE_BASE: u32 = 29;
pub const BLOCK_BASE: u32 = 30;
const MIDDLE: u32 = DATA + 0x8000;
pub const BASES: [(u32, u32); 3] =
    [(OWN_BASE, MIDDLE), (PAGE_BASE, DATA_ALIAS | MIDDLE), (BLOCK_BASE, BLOCK_ALIAS | MIDDLE)];

/// Where exceptions go, at 0 or in ROM.
pub const VECTORS: [u32; 13] =
    [0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700, 0x800, 0x900, 0xc00, 0xd00, 0x1300, 0x1400];

/// What a handler does. Before its second word the driver, which has seen what happened, stores at [`RESUME`] where to go on and
/// with which MSR.
pub const HANDLER: [u32; 9] = [
    mfspr(26, SRR0),
    mfspr(27, SRR1),
    mfspr(25, DAR),
    mfspr(24, DSISR),
    lwz(26, 0, RESUME),
    lwz(27, 0, RESUME + 4),
    mtspr(SRR0, 26),
    mtspr(SRR1, 27),
    RFI,
];

/// BATs: instructions' and data's, upper and lower halves.
pub const BATS: [u32; 16] = [528, 529, 530, 531, 532, 533, 534, 535, 536, 537, 538, 539, 540, 541, 542, 543];

/// What a dump shows besides segments.
const DUMPED_SPRS: [u32; 21] = [
    XER, DSISR, DAR, DEC, SDR1, SRR0, SRR1, SPRG0, 273, 274, 275, 282, 287, 952, 953, 954, HID0, 1010, 1013,
    1023, 9,
];
pub const HID0: u32 = 1008;

/// Code that gives the system's registers their values, and goes to the program.
pub fn before(program: &Program) -> Vec<u32> {
    const T: u32 = 31;
    // An interrupt of the decrementer that still waits comes now.
    let mut code = li(T, 0x7fff_ffff).to_vec();
    code.push(mtspr(DEC, T));
    code.extend(li(T, super::ME | 1 << 15));
    code.extend([mtmsr(T), ISYNC]);
    code.extend(li(T, super::ME));
    code.extend([mtmsr(T), ISYNC]);
    // With another table all translations are forgotten.
    code.extend([addi(T, 0, 0), mtspr(SDR1, T)]);
    code.extend(li(T, TABLE));
    code.push(mtspr(SDR1, T));
    for (n, value) in (0..).zip(program.segments) {
        code.extend(li(T, value));
        code.push(mtsr(n, T));
    }
    // Not valid until both halves are there.
    code.push(addi(T, 0, 0));
    code.extend(BATS.iter().step_by(2).map(|n| mtspr(*n, T)));
    let bats = || BATS.into_iter().zip(program.bats);
    let (lower, upper) = (bats().filter(|(n, _)| n % 2 != 0), bats().filter(|(n, _)| n % 2 == 0));
    for (n, value) in lower.chain(upper).chain(program.sprs.iter().copied()) {
        code.extend(li(T, value));
        code.push(mtspr(n, T));
    }
    for n in 24..28 {
        code.extend(li(n, program.registers[n as usize]));
    }
    code.extend([SYNC, ISYNC]);
    code.extend(li(T, PROGRAM));
    code.push(mtspr(SRR0, T));
    code.extend(li(T, program.msr));
    code.push(mtspr(SRR1, T));
    code.extend(li(T, program.registers[T as usize]));
    code.push(RFI);
    code
}

/// Code that stores what the system's registers hold, and ends in a loop; and what they are.
pub fn behind() -> (Vec<u32>, Vec<String>) {
    let (mut code, mut names) = (li(9, DUMPED).to_vec(), Vec::new());
    let registers = DUMPED_SPRS.into_iter().chain(BATS).map(|n| (mfspr(8, n), format!("spr {n}")));
    let segments = (0..16).map(|n| (mfsr(8, n), format!("segment register {n}")));
    for (read, name) in registers.chain(segments) {
        code.extend([read, stw(8, 9, 4 * names.len() as u32)]);
        names.push(name);
    }
    code.push(b(0));
    (code, names)
}

/// A page of a program: its address, what it leads to, and its bits.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub address: u32,
    pub vsid: u32,
    pub secondary: bool,
    /// Which entry of its group.
    pub slot: u32,
}

impl Page {
    /// Where its entry is in memory.
    pub fn entry(self) -> u32 {
        let hash = self.vsid & 0x7_ffff ^ self.address >> 12 & 0xffff;
        let hash = if self.secondary { !hash } else { hash };
        TABLE | (hash & 0x3ff) << 6 | self.slot << 3
    }

    /// The upper word of its entry.
    pub fn upper(self, valid: bool) -> u32 {
        u32::from(valid) << 31 | self.vsid << 7 | u32::from(self.secondary) << 6 | self.address >> 22 & 0x3f
    }
}
