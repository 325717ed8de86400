//! Debug mode: SDBBP enters it, DERET leaves it.

use crate::support::{Board, asm::*};
use flatview::{RamBlock, Region};
use flatview_cpu::mips::{Exception, gpr};

const SDBBP: u32 = 0x7000_003f;
const DERET: u32 = 0x4200_001f;
const VECTOR: u64 = 0x1fc0_0480;

const fn mfc0(rt: u32, rd: u32) -> u32 {
    0x4000_0000 | rt << 16 | rd << 11
}
const fn mtc0(rt: u32, rd: u32) -> u32 {
    0x4080_0000 | rt << 16 | rd << 11
}

/// A board with a handler of debug mode.
fn board(handler: &[u32]) -> Board {
    let mut board = Board::new();
    let rom = Region::ram("rom", RamBlock::anonymous("rom", 0x1000).unwrap());
    let rom = board.memory.add(rom).unwrap();
    board.memory.map(board.memory.system(), 0x1fc0_0000, rom).unwrap();
    board.handler();
    board.program_at(VECTOR, handler);
    board
}

#[test]
fn sdbbp_enters_debug_mode_and_deret_goes_back_to_it() {
    let mut board = board(&[mfc0(8, 23), mfc0(9, 24), mtc0(9, 31), mfc0(10, 31), DERET]);
    board.program(&[nop(), SDBBP]);
    board.run(6);
    // DM, the code of a breakpoint, DBp; no debug segment, no single steps.
    assert_eq!(board.reg(8), 0x6200_a602);
    assert_eq!((board.reg(9), board.reg(10)), (0x8000_1004, 0x8000_1004));
    assert_eq!(board.pc(), 0x8000_1004);
    let cp0 = &board.cpu.core().isa.cp0;
    assert_eq!((cp0.status(), cp0.cause(), cp0.epc()), (0, 0, 0), "nothing else is touched");
}

#[test]
fn in_a_delay_slot_the_branch_is_done_again() {
    let mut board = board(&[mfc0(8, 23), mfc0(9, 24), addiu(9, 9, 12), mtc0(9, 24), DERET]);
    board.program(&[b(5), SDBBP, nop(), addiu(10, 0, 7), b(-1), nop()]);
    board.run(8);
    assert_eq!((board.reg(8) >> 31, board.reg(9), board.reg(10)), (1, 0x8000_100c, 7));
}

#[test]
fn user_programs_enter_it_with_the_rights_of_the_kernel_and_no_interrupts() {
    let mut board = board(&[mfc0(8, 12), DERET]);
    board.program(&[SDBBP]);
    // User mode at the error level, where kuseg is what it is; the page of the code is RAM's.
    board.program_at(0x1000, &[SDBBP]);
    board.cpu.core_mut().isa.cp0.set_all_status(0xff11);
    board.cpu.core_mut().isa.tlb[0] =
        flatview_cpu::mips::TlbEntry { hi: 0, mask: 0, lo: [2, 1 << 6 | 2], global: true };
    board.cpu.core_mut().set(flatview_cpu::mips::PC, 0x1000);
    board.cpu.step();
    assert_eq!(board.pc(), 0xbfc0_0480);
    board.cpu.step();
    assert_eq!((board.pc(), board.reg(8) & 0xff1f), (0xbfc0_0484, 0xff11), "CP0 can be used");
    board.cpu.inputs().set_level(2, true);
    board.cpu.step();
    board.cpu.step();
    // Left, the interrupt that waited is taken.
    assert_eq!((board.exception(), board.cpu.core().isa.cp0.epc()), (Exception::Interrupt as u32, 0x1000));
}

#[test]
fn an_exception_within_begins_the_handler_again() {
    let mut board = board(&[mfc0(8, 23), addiu(11, 11, 1), 0x0000_000c]);
    board.program(&[SDBBP]);
    for _ in 0..6 {
        board.cpu.step();
    }
    assert_eq!((board.reg(11), board.pc()), (2, 0xbfc0_0488));
    assert_eq!(board.reg(8) >> 10 & 31, Exception::Syscall as u32);
    assert_eq!(board.reg(8) >> 30 & 1, 1);
    assert_eq!(board.cpu.core().isa.cp0.status(), 0);
}

#[test]
fn outside_it_deret_is_reserved_and_debug_cannot_be_written() {
    let mut board = board(&[]);
    board.program(&[addiu(9, 0, -1), mtc0(9, 23), mfc0(8, 23), DERET]);
    board.run(5);
    assert_eq!(board.cpu.core().get(gpr(8)), 0x2200_8200);
    assert_eq!(board.exception(), Exception::Reserved as u32);
    assert_eq!(board.cpu.core().isa.cp0.epc(), 0x8000_100c);
}
