//! What lockstep with QEMU found: where single steps end, and what the manual leaves open and QEMU has.

use crate::support::{Board, asm::*};
use flatview_cpu::GuestCpu;

const STATUS: u32 = 12;
const CAUSE: u32 = 13;
const INDEX: u32 = 0;
const ENTRY_LO0: u32 = 2;
const PAGE_MASK: u32 = 5;
const ENTRY_HI: u32 = 10;

fn register(board: &Board, name: &str) -> u64 {
    let n = board.cpu.debug_registers().iter().position(|r| r.name == name).unwrap();
    board.cpu.debug_register(n)
}

#[test]
fn a_single_step_ends_before_the_interrupt_that_it_allows() {
    let mut board = Board::new();
    board.program(&[addiu(8, 0, 0x100), addiu(9, 0, 0x101), mtc0(8, CAUSE), mtc0(9, STATUS), nop()]);
    for pc in [0x8000_1004_u32, 0x8000_1008, 0x8000_100c, 0x8000_1010, 0x8000_0180] {
        board.cpu.step();
        assert_eq!(board.pc(), pc);
    }
    assert_eq!((board.exception(), register(&board, "epc")), (0, 0x8000_1010));
}

#[test]
fn cause_names_the_coprocessor_until_another_one_is_unusable() {
    let mut board = Board::new();
    let (mfc2, syscall) = (0x12 << 26, 0x0c);
    board.program(&[mfc2]);
    board.cpu.step();
    board.program(&[syscall]);
    board.cpu.step();
    assert_eq!(board.exception(), 8);
    assert_eq!(register(&board, "cause") >> 28 & 3, 2);
}

#[test]
fn a_probe_that_finds_nothing_leaves_the_index() {
    let mut board = Board::new();
    board.program(&[
        addiu(8, 0, 5),
        mtc0(8, INDEX),
        lui(9, 0x40),
        mtc0(9, ENTRY_HI),
        tlbp(),
        mfc0(10, INDEX),
    ]);
    board.run(6);
    assert_eq!(board.reg(10), 0x8000_0005);
}

#[test]
fn a_large_page_keeps_its_whole_virtual_number_and_of_the_physical_one_what_is_used() {
    let mut board = Board::new();
    board.program(&[
        lui(8, 0x1234),
        ori(8, 8, 0x6000),
        mtc0(8, ENTRY_HI),
        addiu(8, 0, 0x9c6),
        mtc0(8, ENTRY_LO0),
        lui(8, 1),
        ori(8, 8, 0xe000),
        mtc0(8, PAGE_MASK),
        tlbwi(),
        mtc0(0, ENTRY_HI),
        mtc0(0, ENTRY_LO0),
        mtc0(0, PAGE_MASK),
        tlbr(),
        mfc0(9, ENTRY_HI),
        mfc0(10, ENTRY_LO0),
        mfc0(11, PAGE_MASK),
    ]);
    board.run(16);
    // 64 KiB: the low four bits of the frame's number are the offset's.
    assert_eq!((board.reg(9), board.reg(10), board.reg(11)), (0x1234_6000, 0x806, 0x1_e000));
}

#[test]
fn an_address_of_the_kernels_names_its_page_to_the_handler_as_a_miss_does() {
    let mut board = Board::new();
    board.program(&[nop()]);
    board.cpu.core_mut().isa.cp0.set_all_status(0x10);
    board.cpu.step();
    assert_eq!((board.exception(), board.pc()), (4, 0x8000_0180));
    assert_eq!(register(&board, "badvaddr"), 0x8000_1000);
    assert_eq!(register(&board, "context"), 0x0040_0000);
    assert_eq!(register(&board, "entryhi"), 0x8000_0000);
}
