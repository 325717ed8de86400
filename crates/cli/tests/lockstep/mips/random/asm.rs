//! Instruction words.

pub const fn i(op: u32, rs: u32, rt: u32, imm: u32) -> u32 {
    op << 26 | (rs & 31) << 21 | (rt & 31) << 16 | imm & 0xffff
}

pub const fn r(function: u32, rs: u32, rt: u32, rd: u32, sa: u32) -> u32 {
    (rs & 31) << 21 | (rt & 31) << 16 | (rd & 31) << 11 | (sa & 31) << 6 | function
}

pub const fn special2(function: u32, rs: u32, rt: u32, rd: u32) -> u32 {
    0x1c << 26 | r(function, rs, rt, rd, 0)
}

pub const fn special3(function: u32, rs: u32, rt: u32, rd: u32, sa: u32) -> u32 {
    0x1f << 26 | r(function, rs, rt, rd, sa)
}

pub const fn lui(rt: u32, imm: u32) -> u32 {
    i(0x0f, 0, rt, imm)
}

pub const fn ori(rt: u32, rs: u32, imm: u32) -> u32 {
    i(0x0d, rs, rt, imm)
}

/// Two words that give a register a value.
pub const fn li(rt: u32, value: u32) -> [u32; 2] {
    [lui(rt, value >> 16), ori(rt, rt, value)]
}

pub const fn lw(rt: u32, base: u32, at: u32) -> u32 {
    i(0x23, base, rt, at)
}

pub const fn sw(rt: u32, base: u32, at: u32) -> u32 {
    i(0x2b, base, rt, at)
}

pub const fn mfc0(rt: u32, register: (u32, u32)) -> u32 {
    0x10 << 26 | rt << 16 | register.0 << 11 | register.1
}

pub const fn mtc0(rt: u32, register: (u32, u32)) -> u32 {
    0x10 << 26 | 4 << 21 | rt << 16 | register.0 << 11 | register.1
}

pub const fn co(function: u32) -> u32 {
    0x10 << 26 | 1 << 25 | function
}

pub const NOP: u32 = 0;
pub const EHB: u32 = 3 << 6;
pub const TLBR: u32 = co(1);
pub const TLBWI: u32 = co(2);
pub const TLBWR: u32 = co(6);
pub const TLBP: u32 = co(8);
pub const ERET: u32 = co(0x18);
pub const EI: u32 = 0x10 << 26 | 0x0b << 21 | 12 << 11 | 1 << 5;
pub const WAIT: u32 = co(0x20);
pub const SYSCALL: u32 = 0x0c;

pub const INDEX: (u32, u32) = (0, 0);
pub const ENTRY_LO0: (u32, u32) = (2, 0);
pub const ENTRY_LO1: (u32, u32) = (3, 0);
pub const CONTEXT: (u32, u32) = (4, 0);
pub const PAGE_MASK: (u32, u32) = (5, 0);
pub const WIRED: (u32, u32) = (6, 0);
pub const HWR_ENA: (u32, u32) = (7, 0);
pub const ENTRY_HI: (u32, u32) = (10, 0);
pub const COMPARE: (u32, u32) = (11, 0);
pub const STATUS: (u32, u32) = (12, 0);
pub const INT_CTL: (u32, u32) = (12, 1);
pub const CAUSE: (u32, u32) = (13, 0);
pub const EPC: (u32, u32) = (14, 0);
pub const EBASE: (u32, u32) = (15, 1);
pub const CONFIG: (u32, u32) = (16, 0);
pub const ERROR_EPC: (u32, u32) = (30, 0);
