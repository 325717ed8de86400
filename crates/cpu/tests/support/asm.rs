//! Instruction words.
#![expect(dead_code, reason = "the test uses a part")]

const fn i(op: u32, rs: u32, rt: u32, imm: i16) -> u32 {
    op << 26 | rs << 21 | rt << 16 | imm as u16 as u32
}

const fn r(function: u32, rs: u32, rt: u32, rd: u32, sa: u32) -> u32 {
    rs << 21 | rt << 16 | rd << 11 | sa << 6 | function
}

macro_rules! immediates {
    ($($name:ident $op:literal),*) => { $(pub const fn $name(rt: u32, rs: u32, imm: i16) -> u32 { i($op, rs, rt, imm) })* };
}
macro_rules! unsigneds {
    ($($name:ident $op:literal),*) => { $(pub const fn $name(rt: u32, rs: u32, imm: u16) -> u32 { i($op, rs, rt, imm as i16) })* };
}
macro_rules! branches {
    ($($name:ident $op:literal),*) => { $(pub const fn $name(rs: u32, rt: u32, to: i16) -> u32 { i($op, rs, rt, to) })* };
}
macro_rules! registers {
    ($($name:ident $function:literal),*) => { $(pub const fn $name(rd: u32, rs: u32, rt: u32) -> u32 { r($function, rs, rt, rd, 0) })* };
}
macro_rules! pairs {
    ($($name:ident $function:literal),*) => { $(pub const fn $name(rs: u32, rt: u32) -> u32 { r($function, rs, rt, 0, 0) })* };
}

immediates!(addiu 0x09, addi 0x08, slti 0x0a, sltiu 0x0b, lb 0x20, lh 0x21, lwl 0x22, lw 0x23, lbu 0x24, lhu 0x25, lwr 0x26,
    sb 0x28, sh 0x29, swl 0x2a, sw 0x2b, swr 0x2e, ll 0x30, sc 0x38);
unsigneds!(andi 0x0c, ori 0x0d, xori 0x0e);
branches!(beq 0x04, bne 0x05, beql 0x14, bnel 0x15);
registers!(addu 0x21, subu 0x23, add 0x20, sub 0x22, and 0x24, or 0x25, xor 0x26, nor 0x27, slt 0x2a, sltu 0x2b);
pairs!(mult 0x18, multu 0x19, div 0x1a, divu 0x1b);

pub const fn lui(rt: u32, imm: u16) -> u32 {
    i(0x0f, 0, rt, imm as i16)
}
pub const fn nop() -> u32 {
    0
}
pub const fn b(to: i16) -> u32 {
    beq(0, 0, to)
}
pub const fn bal(to: i16) -> u32 {
    i(1, 0, 0x11, to)
}
pub const fn jr(rs: u32) -> u32 {
    r(0x08, rs, 0, 0, 0)
}
pub const fn mflo(rd: u32) -> u32 {
    r(0x12, 0, 0, rd, 0)
}
pub const fn mfhi(rd: u32) -> u32 {
    r(0x10, 0, 0, rd, 0)
}
pub const fn madd(rs: u32, rt: u32) -> u32 {
    0x1c << 26 | r(0, rs, rt, 0, 0)
}
pub const fn clz(rd: u32, rs: u32) -> u32 {
    0x1c << 26 | r(0x20, rs, rd, rd, 0)
}
pub const fn ext(rt: u32, rs: u32, low: u32, size: u32) -> u32 {
    0x1f << 26 | r(0, rs, rt, size - 1, low)
}
pub const fn ins(rt: u32, rs: u32, low: u32, size: u32) -> u32 {
    0x1f << 26 | r(4, rs, rt, low + size - 1, low)
}
pub const fn seb(rd: u32, rt: u32) -> u32 {
    0x1f << 26 | r(0x20, 0, rt, rd, 0x10)
}
pub const fn wsbh(rd: u32, rt: u32) -> u32 {
    0x1f << 26 | r(0x20, 0, rt, rd, 2)
}
pub const fn rotr(rd: u32, rt: u32, sa: u32) -> u32 {
    r(2, 1, rt, rd, sa)
}
pub const fn mfc0(rt: u32, rd: u32) -> u32 {
    0x10 << 26 | rt << 16 | rd << 11
}
pub const fn mtc0(rt: u32, rd: u32) -> u32 {
    0x10 << 26 | 4 << 21 | rt << 16 | rd << 11
}
const fn co(function: u32) -> u32 {
    0x10 << 26 | 1 << 25 | function
}
pub const fn tlbr() -> u32 {
    co(1)
}
pub const fn tlbp() -> u32 {
    co(8)
}
pub const fn tlbwi() -> u32 {
    co(2)
}
pub const fn eret() -> u32 {
    co(0x18)
}
pub const fn wait() -> u32 {
    co(0x20)
}
