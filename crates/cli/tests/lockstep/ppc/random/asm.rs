//! Instruction words.

/// A form with a displacement or an immediate value.
pub const fn d(op: u32, d: u32, a: u32, imm: u32) -> u32 {
    op << 26 | (d & 31) << 21 | (a & 31) << 16 | imm & 0xffff
}

/// A form with three registers and an extended opcode of ten bits, in opcode 31.
pub const fn x(extended: u32, d: u32, a: u32, b: u32) -> u32 {
    xop(31, extended, d, a, b)
}

pub const fn xop(op: u32, extended: u32, d: u32, a: u32, b: u32) -> u32 {
    op << 26 | (d & 31) << 21 | (a & 31) << 16 | (b & 31) << 11 | extended << 1
}

/// `rlwinm` and its kind.
pub const fn m(op: u32, s: u32, a: u32, b: u32, mb: u32, me: u32) -> u32 {
    op << 26 | (s & 31) << 21 | (a & 31) << 16 | (b & 31) << 11 | (mb & 31) << 6 | (me & 31) << 1
}

pub const fn addi(d_: u32, a: u32, imm: u32) -> u32 {
    d(14, d_, a, imm)
}

pub const fn addis(d_: u32, a: u32, imm: u32) -> u32 {
    d(15, d_, a, imm)
}

pub const fn ori(a: u32, s: u32, imm: u32) -> u32 {
    d(24, s, a, imm)
}

/// Two words that give a register a value.
pub const fn li(rd: u32, value: u32) -> [u32; 2] {
    [addis(rd, 0, value >> 16), ori(rd, rd, value)]
}

pub const fn lwz(rd: u32, a: u32, at: u32) -> u32 {
    d(32, rd, a, at)
}

pub const fn stw(rs: u32, a: u32, at: u32) -> u32 {
    d(36, rs, a, at)
}

pub const fn mfspr(rd: u32, n: u32) -> u32 {
    x(339, rd, n & 31, n >> 5)
}

pub const fn mtspr(n: u32, rs: u32) -> u32 {
    x(467, rs, n & 31, n >> 5)
}

/// A jump so many bytes away.
pub const fn b(offset: u32) -> u32 {
    18 << 26 | offset & 0x03ff_fffc
}

pub const NOP: u32 = ori(0, 0, 0);
pub const SC: u32 = 17 << 26 | 2;
pub const RFI: u32 = xop(19, 50, 0, 0, 0);
pub const ISYNC: u32 = xop(19, 150, 0, 0, 0);
pub const SYNC: u32 = x(598, 0, 0, 0);

pub const fn mtmsr(rs: u32) -> u32 {
    x(146, rs, 0, 0)
}

pub const fn mfmsr(rd: u32) -> u32 {
    x(83, rd, 0, 0)
}

pub const fn mtsr(n: u32, rs: u32) -> u32 {
    x(210, rs, n, 0)
}

pub const fn mfsr(rd: u32, n: u32) -> u32 {
    x(595, rd, n, 0)
}

pub const LR: u32 = 8;
pub const CTR: u32 = 9;
pub const XER: u32 = 1;
pub const DSISR: u32 = 18;
pub const DAR: u32 = 19;
pub const DEC: u32 = 22;
pub const SDR1: u32 = 25;
pub const SRR0: u32 = 26;
pub const SRR1: u32 = 27;
pub const SPRG0: u32 = 272;
