//! What debuggers ask of a CPU: registers by number, steps, breakpoints and watchpoints.

use std::sync::Arc;

use crate::support::{Board, asm::*};
use flatview::Endianness;
use flatview_cpu::{Exit, GuestCpu, Verdict, Watch, WatchedAccess, Watcher};

/// The place of a register in the list.
fn place(cpu: &dyn GuestCpu, name: &str) -> usize {
    cpu.debug_registers().iter().position(|r| r.name == name).unwrap()
}

#[test]
fn registers_are_read_and_set_by_name() {
    let mut board = Board::new();
    board.program(&[nop()]);
    let cpu: &mut dyn GuestCpu = &mut board.cpu;
    assert_eq!((cpu.debug_architecture(), cpu.debug_order()), ("mips", Endianness::Big));
    for (name, value) in [
        ("r8", 0x1234_5678),
        ("lo", 7),
        ("hi", 8),
        ("badvaddr", 0x55),
        ("status", 0x1000_0000),
        ("epc", 0x44),
        ("f31", 0x4048_f5c3),
        ("fcsr", 1),
    ] {
        let n = place(cpu, name);
        cpu.set_debug_register(n, value);
        assert_eq!(cpu.debug_register(n), value, "{name}");
    }
    for (name, value) in [("r0", 0), ("prid", 0x0001_9300), ("fir", 0x0073_9300)] {
        let n = place(cpu, name);
        cpu.set_debug_register(n, 0xffff_ffff);
        assert_eq!(cpu.debug_register(n), value, "{name} cannot be set");
    }
    let none = cpu.debug_registers().len();
    cpu.set_debug_register(none, 1);
    assert_eq!(cpu.debug_register(none), 0);
}

#[test]
fn a_program_counter_that_is_set_to_what_it_is_stays_in_the_delay_slot() {
    let mut board = Board::new();
    board.program(&[b(3), addiu(9, 0, 2), nop(), nop(), addiu(10, 0, 3)]);
    board.cpu.step();
    let pc = place(&board.cpu, "pc");
    let at = board.cpu.debug_register(pc);
    board.cpu.set_debug_register(pc, at);
    board.cpu.step();
    assert_eq!(board.pc() & 0xff, 0x10, "the branch is taken");
    board.cpu.set_debug_register(pc, at + 4);
    board.cpu.step();
    assert_eq!(board.pc() & 0xff, 0x0c);
}

#[test]
fn a_step_passes_breakpoints_and_a_run_does_where_it_is_told_to() {
    let mut board = Board::new();
    board.program(&[addiu(8, 8, 1), addiu(8, 8, 1), b(-1), nop()]);
    board.cpu.add_breakpoint(0x8000_1000);
    board.cpu.add_breakpoint(0x8000_1004);
    assert_eq!(board.cpu.step(), Exit::Done);
    assert_eq!((board.pc() & 0xff, board.reg(8)), (4, 1));
    assert_eq!(board.cpu.run(100), Exit::Breakpoint, "a step does not report it");
    assert_eq!((board.pc() & 0xff, board.reg(8)), (4, 1));

    let pc = place(&board.cpu, "pc");
    board.cpu.set_debug_register(pc, 0x8000_1000);
    board.cpu.pass_breakpoint();
    assert_eq!(board.cpu.run(100), Exit::Breakpoint, "somebody went there on purpose");
    assert_eq!(board.pc() & 0xff, 0);
    board.cpu.remove_breakpoint(0x8000_1004);
    board.cpu.pass_breakpoint();
    assert_eq!(board.cpu.run(100), Exit::Done);
}

#[test]
fn a_masked_step_takes_no_interrupt() {
    let mut board = Board::new();
    board.program(&[nop(), nop(), nop()]);
    board.cpu.core_mut().isa.cp0.set_all_status(0x0000_ff01);
    board.cpu.inputs().set_level(2, true);
    assert_eq!(board.cpu.step_masked(), Exit::Done);
    assert_eq!(board.pc(), 0x8000_1004);
    board.cpu.step();
    assert_eq!(board.pc(), 0x8000_0180, "before the handler");
}

#[test]
fn a_step_into_an_exception_stops_before_the_handler() {
    let mut board = Board::new();
    board.handler();
    board.program(&[lw(8, 0, 1), nop()]);
    assert_eq!(board.cpu.step_masked(), Exit::Done);
    assert_eq!(board.pc(), 0x8000_0180);
}

/// Stops every access that it sees.
struct Stop;

impl Watcher for Stop {
    fn before(&self, _: &WatchedAccess) -> Verdict {
        Verdict::Break
    }
}

fn stop_at_a_word(board: &Board) {
    let range = Watch { first: 0x2000, last: 0x2003, reads: false, writes: true };
    board.cpu.watches().add(range, Arc::new(Stop));
}

#[test]
fn a_watch_stops_before_a_store_in_a_delay_slot_and_the_branch_is_done() {
    let mut board = Board::new();
    stop_at_a_word(&board);
    board.program(&[
        lui(4, 0x8000),
        ori(4, 4, 0x2000),
        addiu(8, 0, 5),
        b(2),
        sw(8, 4, 0),
        nop(),
        b(-1),
        nop(),
    ]);
    assert_eq!(board.cpu.run(100), Exit::Watched);
    assert_eq!((board.pc() & 0xff, board.bytes(0x2000, 4)), (0x10, vec![0; 4]));
    assert_eq!(board.cpu.step(), Exit::Done);
    assert_eq!((board.pc() & 0xff, board.bytes(0x2000, 4)), (0x18, vec![0, 0, 0, 5]));
}

#[test]
fn a_watch_stops_behind_an_access_that_is_done_in_pieces() {
    let mut board = Board::new();
    stop_at_a_word(&board);
    board.program(&[lui(4, 0x8000), ori(4, 4, 0x2000), addiu(8, 0, 5), swl(8, 4, 0), nop(), b(-1), nop()]);
    assert_eq!(board.cpu.run(100), Exit::Watched);
    assert_eq!((board.pc() & 0xff, board.bytes(0x2000, 4)), (0x10, vec![0, 0, 0, 5]));
    assert_eq!(board.cpu.run(100), Exit::Done);
}
