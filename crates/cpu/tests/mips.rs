//! What MIPS programs do, and what the CPU does around them.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

#[path = "mips/debug.rs"]
mod debug;
#[path = "mips/ejtag.rs"]
mod ejtag;
#[path = "mips/fpu.rs"]
mod fpu;
#[path = "mips/left_open.rs"]
mod left_open;
#[path = "mips/look.rs"]
mod look;
#[path = "mips/models.rs"]
mod models;
mod support;
#[path = "mips/vectors.rs"]
mod vectors;

use flatview::{RamBlock, Region};
use flatview_cpu::mips::{Exception, gpr};
use flatview_cpu::{Exit, Kind, Verdict, Watch, WatchedAccess, Watcher};
use support::{Board, asm::*};

#[test]
fn a_loop_counts() {
    let mut board = Board::new();
    board.program(&[
        addiu(8, 0, 0),
        addiu(9, 0, 100),
        addiu(8, 8, 3), // loop:
        addiu(9, 9, -1),
        bne(9, 0, -3),
        nop(),
        b(-1),
        nop(),
    ]);
    board.run(1000);
    assert_eq!(board.reg(8), 300);
    assert_eq!(board.reg(9), 0);
}

#[test]
fn the_delay_slot_is_done_before_the_target_and_the_condition_is_that_of_before() {
    let mut board = Board::new();
    board.program(&[
        addiu(8, 0, 1),
        beq(8, 0, 3),
        addiu(8, 0, 0), // done, and too late for the condition
        beq(8, 0, 2),
        addiu(10, 0, 7),
        addiu(9, 0, 1), // skipped
        b(-1),
        nop(),
    ]);
    board.run(100);
    assert_eq!((board.reg(8), board.reg(9), board.reg(10)), (0, 0, 7));
}

#[test]
fn a_likely_branch_that_is_not_taken_skips_its_delay_slot() {
    let mut board = Board::new();
    board.program(&[
        addiu(8, 0, 1),
        beql(8, 0, 4),
        addiu(9, 0, 1), // skipped
        bnel(8, 0, 2),
        addiu(10, 0, 1), // done
        addiu(11, 0, 1), // jumped over
        b(-1),
        nop(),
    ]);
    board.run(100);
    assert_eq!((board.reg(9), board.reg(10), board.reg(11)), (0, 1, 0));
}

#[test]
fn stepping_stops_between_a_branch_and_its_delay_slot() {
    let mut board = Board::new();
    board.program(&[addiu(8, 0, 1), bne(8, 0, 3), addiu(9, 0, 2), nop(), nop(), addiu(10, 0, 3)]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        assert_eq!(board.cpu.step(), Exit::Done);
        seen.push(board.pc() & 0xff);
    }
    assert_eq!(seen, [0x04, 0x08, 0x14, 0x18]);
    assert_eq!((board.reg(9), board.reg(10)), (2, 3));
}

#[test]
fn bytes_and_halves_are_extended_and_in_the_guests_order() {
    let mut board = Board::new();
    board.memory(0x2000, &[0x80, 0x81, 0x82, 0x83]);
    board.program(&[
        lui(4, 0x8000),
        ori(4, 4, 0x2000),
        lb(8, 4, 0),
        lbu(9, 4, 0),
        lh(10, 4, 2),
        lhu(11, 4, 2),
        lw(12, 4, 0),
        sh(12, 4, 4),
        sb(12, 4, 6),
        b(-1),
        nop(),
    ]);
    board.run(100);
    let regs: Vec<u32> = (8..13).map(|n| board.reg(n)).collect();
    assert_eq!(regs, [0xffff_ff80, 0x80, 0xffff_8283, 0x8283, 0x8081_8283]);
    assert_eq!(board.bytes(0x2004, 3), [0x82, 0x83, 0x83]);
}

#[test]
fn unaligned_words_are_put_together_from_both_sides() {
    let mut board = Board::new();
    board.memory(0x2000, &[0, 1, 2, 3, 4, 5, 6, 7]);
    for offset in 0..4_i16 {
        board.program(&[
            lui(4, 0x8000),
            ori(4, 4, 0x2000),
            addiu(8, 0, -1),
            lwl(8, 4, offset),
            lwr(8, 4, offset + 3),
            swl(8, 4, 0x100 + offset),
            swr(8, 4, 0x103 + offset),
            b(-1),
            nop(),
        ]);
        board.run(20);
        let want: [u8; 4] = std::array::from_fn(|i| offset as u8 + i as u8);
        assert_eq!(board.reg(8), u32::from_be_bytes(want), "offset {offset}");
        assert_eq!(board.bytes(0x2100 + offset as u64, 4), want, "offset {offset}");
    }
}

#[test]
fn products_and_quotients_go_to_hi_and_lo() {
    let mut board = Board::new();
    board.program(&[
        addiu(4, 0, -7),
        addiu(5, 0, 2),
        mult(4, 5),
        mflo(8),
        mfhi(9),
        multu(4, 5),
        mfhi(10),
        div(4, 5),
        mflo(11),
        mfhi(12),
        mult(4, 5),
        madd(4, 5),
        mflo(13),
        mfhi(14),
        b(-1),
        nop(),
    ]);
    board.run(100);
    let regs: Vec<i32> = (8..15).map(|n| board.reg(n) as i32).collect();
    assert_eq!(regs, [-14, -1, 1, -3, -1, -28, -1]);
}

#[test]
fn bit_fields_are_taken_out_and_put_in() {
    let mut board = Board::new();
    board.program(&[
        lui(4, 0x1234),
        ori(4, 4, 0x5678),
        ext(8, 4, 8, 8),
        addiu(9, 0, -1),
        ins(9, 4, 4, 12),
        seb(10, 4),
        wsbh(11, 4),
        clz(12, 4),
        rotr(13, 4, 8),
        b(-1),
        nop(),
    ]);
    board.run(100);
    let regs: Vec<u32> = (8..14).map(|n| board.reg(n)).collect();
    assert_eq!(regs, [0x56, 0xffff_678f, 0x78, 0x3412_7856, 3, 0x7812_3456]);
}

#[test]
fn an_exception_in_a_delay_slot_returns_to_the_branch() {
    let mut board = Board::new();
    board.handler();
    board.program(&[
        b(3),
        lw(8, 0, 1), // misaligned, in kuseg
        nop(),
        nop(),
        nop(),
    ]);
    board.run(2);
    assert_eq!(board.exception(), Exception::AddressLoad as u32);
    let cp0 = &board.cpu.core().isa.cp0;
    assert_eq!((cp0.epc() & 0xff, cp0.cause() >> 31, cp0.bad_vaddr()), (0, 1, 1));
    assert_eq!(board.pc(), 0x8000_0180);
}

#[test]
fn what_nothing_answers_is_a_bus_error() {
    let mut board = Board::new();
    board.handler();
    board.program(&[lui(4, 0xbe00), lw(8, 4, 0), nop()]);
    board.run(3);
    assert_eq!(board.exception(), Exception::BusErrorData as u32);
    board.program(&[lui(4, 0xbe00), jr(4), nop()]);
    board.run(4);
    assert_eq!(board.exception(), Exception::BusErrorFetch as u32);
    assert_eq!(board.cpu.core().isa.cp0.epc(), 0xbe00_0000);
}

#[test]
fn overflow_traps_and_leaves_the_register() {
    let mut board = Board::new();
    board.handler();
    board.program(&[lui(4, 0x7fff), ori(4, 4, 0xffff), addiu(8, 0, 5), add(8, 4, 4), nop()]);
    board.run(4);
    assert_eq!(board.exception(), Exception::Overflow as u32);
    assert_eq!(board.reg(8), 5);
}

#[test]
fn code_that_a_program_writes_is_run_as_it_is_now() {
    let mut board = Board::new();
    // The word at 0x40 is done twice: once as it was, once as the program makes it.
    board.program(&[
        lui(4, 0x8000),
        ori(4, 4, 0x1000),
        lui(5, 0x2408), // addiu 8, 0, ...
        ori(5, 5, 42),
        bal(11), // to 0x40
        nop(),
        addu(9, 8, 0),
        sw(5, 4, 0x40),
        bal(7),
        nop(),
        b(-1),
        nop(),
        nop(),
        nop(),
        nop(),
        nop(),
        addiu(8, 0, 1), // 0x40
        jr(31),
        nop(),
    ]);
    board.run(100);
    assert_eq!((board.reg(9), board.reg(8)), (1, 42));
}

#[test]
fn a_program_that_writes_the_next_instruction_of_its_own_block_runs_the_new_one() {
    let mut board = Board::new();
    board.program(&[
        lui(4, 0x8000),
        ori(4, 4, 0x1000),
        lui(5, 0x2408),
        ori(5, 5, 42),
        sw(5, 4, 0x18),
        nop(),
        addiu(8, 0, 1), // 0x18: becomes addiu 8, 0, 42
        b(-1),
        nop(),
    ]);
    board.run(20);
    assert_eq!(board.reg(8), 42);
}

#[test]
fn a_store_of_a_part_of_a_word_changes_the_next_instruction_too() {
    let mut board = Board::new();
    board.program(&[
        lui(4, 0x8000),
        ori(4, 4, 0x1000),
        lui(5, 0x2408),
        ori(5, 5, 42),
        swl(5, 4, 0x18),
        swr(5, 4, 0x1b),
        addiu(8, 0, 1), // 0x18: becomes addiu 8, 0, 42
        b(-1),
        nop(),
    ]);
    board.run(20);
    assert_eq!(board.reg(8), 42);
}

#[test]
fn wait_ends_with_an_interrupt_which_is_taken_if_it_is_enabled() {
    let mut board = Board::new();
    board.handler();
    board.program(&[
        lui(8, 0x0000),
        ori(8, 8, 0x0401), // IM2, IE
        mtc0(8, 12),
        wait(),
        addiu(9, 0, 1),
        b(-1),
        nop(),
    ]);
    assert_eq!(board.cpu.run(100), Exit::Waiting);
    board.cpu.inputs().set_level(2, true);
    board.cpu.run(1);
    assert_eq!(board.exception(), 0);
    assert_eq!(board.cpu.core().isa.cp0.epc() & 0xff, 0x10);
}

#[test]
fn the_timer_interrupts_when_count_reaches_compare() {
    let mut board = Board::new();
    board.handler();
    board.program(&[
        mtc0(0, 9),
        addiu(8, 0, 1000),
        mtc0(8, 11),
        ori(8, 0, 0x8001), // IM7, IE
        mtc0(8, 12),
        wait(),
        nop(),
    ]);
    assert_eq!(board.cpu.run(100), Exit::Waiting);
    board.clock.step(Some(9_000)).unwrap();
    assert_eq!(board.cpu.run(100), Exit::Waiting);
    board.clock.step(Some(1_000)).unwrap();
    board.cpu.run(1);
    assert_eq!(board.exception(), 0);
    assert_eq!(board.cpu.core().isa.cp0.cause() >> 30 & 1, 1, "TI");
}

#[test]
fn pages_are_translated_refilled_and_protected() {
    let mut board = Board::new();
    board.handler();
    board.memory(0x5000, &[0xde, 0xad, 0xbe, 0xef]);
    // Virtual 0x1000 is in the odd page of the pair at 0: physical 0x5000, valid, not dirty.
    board.program(&[
        ori(8, 0, 0),
        mtc0(8, 10),
        mtc0(8, 5),
        mtc0(0, 2),
        ori(8, 0, 5 << 6 | 2),
        mtc0(8, 3),
        mtc0(0, 0),
        tlbwi(),
        lw(9, 0, 0x1000),
        sw(9, 0, 0x1000), // modified
        nop(),
    ]);
    board.run(9);
    assert_eq!(board.reg(9), 0xdead_beef);
    board.run(1);
    assert_eq!(board.exception(), Exception::Modified as u32);
    // The even page is not valid, which is not a refill; nothing is at 0x4000.
    board.program(&[lw(9, 0, 0x10), nop()]);
    board.run(1);
    assert_eq!((board.exception(), board.pc()), (Exception::TlbLoad as u32, 0x8000_0180));
    board.program(&[lw(9, 0, 0x4010), nop()]);
    board.run(1);
    assert_eq!((board.exception(), board.pc()), (Exception::TlbLoad as u32, 0x8000_0000));
    assert_eq!(board.cpu.core().isa.cp0.bad_vaddr(), 0x4010);
}

#[test]
fn user_code_may_not_touch_the_kernels_addresses_or_registers() {
    let mut board = Board::new();
    board.handler();
    // An entry for the code's page, then to user mode at 0x1000.
    board.program_at(0x1100, &[lui(4, 0x8000), lw(8, 4, 0), nop()]);
    board.program_at(0x1200, &[mfc0(8, 12), nop()]);
    for (at, exception) in [(0x1100, Exception::AddressLoad), (0x1200, Exception::Coprocessor)] {
        board.program(&[
            mtc0(0, 10),
            mtc0(0, 5),
            ori(8, 0, 1 << 6 | 2),
            mtc0(8, 3),
            mtc0(0, 2),
            mtc0(0, 0),
            tlbwi(),
            ori(8, 0, at),
            mtc0(8, 14),
            ori(8, 0, 0x12), // user mode, EXL
            mtc0(8, 12),
            eret(),
        ]);
        board.run(14);
        assert_eq!(board.exception(), exception as u32, "{at:#x}");
        assert_eq!(board.cpu.core().isa.cp0.epc() & 0xf00, u32::from(at) & 0xf00);
    }
}

#[test]
fn a_store_conditional_fails_after_an_exception_return() {
    let mut board = Board::new();
    board.program(&[
        lui(4, 0x8000),
        ori(4, 4, 0x2000),
        ll(8, 4, 0),
        addiu(8, 8, 1),
        sc(8, 4, 0),
        addu(9, 8, 0),
        ll(8, 4, 0),
        lui(10, 0x8000),
        ori(10, 10, 0x1030),
        mtc0(10, 14),
        eret(),
        nop(),
        sc(8, 4, 0), // 0x30
        addu(10, 8, 0),
        b(-1),
        nop(),
    ]);
    board.set_status_exl();
    board.run(30);
    assert_eq!((board.reg(9), board.reg(10)), (1, 0));
    assert_eq!(board.bytes(0x2000, 4), [0, 0, 0, 1]);
}

#[test]
fn a_breakpoint_stops_before_its_instruction_and_is_passed_when_it_goes_on() {
    let mut board = Board::new();
    board.program(&[addiu(8, 8, 1), addiu(9, 9, 1), b(-3), nop()]);
    board.cpu.add_breakpoint(0x8000_1004);
    for turn in 1..4 {
        assert_eq!(board.cpu.run(1000), Exit::Breakpoint);
        assert_eq!((board.pc(), board.reg(8), board.reg(9)), (0x8000_1004, turn, turn - 1));
    }
    board.cpu.remove_breakpoint(0x8000_1004);
    assert_eq!(board.cpu.run(1000), Exit::Done);
}

#[test]
fn instructions_are_counted_exactly() {
    let mut board = Board::new();
    board.program(&[addiu(8, 8, 1), addiu(9, 9, 1), b(-3), nop()]);
    board.run(4000);
    assert_eq!(board.cpu.instructions() % 4, 0);
    assert_eq!(u64::from(board.reg(8)) * 4, board.cpu.instructions());
    assert_eq!(board.cpu.core().get(gpr(9)), board.cpu.core().get(gpr(8)));
}

/// Watches one word: remembers what is stored there, and answers loads with 7.
struct Word {
    seen: std::sync::Mutex<Vec<(Kind, u64)>>,
    verdict: Verdict,
}

impl Watcher for Word {
    fn before(&self, access: &WatchedAccess) -> Verdict {
        self.seen.lock().unwrap().push((access.kind, access.value));
        self.verdict
    }
}

fn watch(board: &Board, verdict: Verdict) -> std::sync::Arc<Word> {
    let word = std::sync::Arc::new(Word { seen: std::sync::Mutex::default(), verdict });
    let range = Watch { first: 0x2000, last: 0x2003, reads: true, writes: true };
    board.cpu.watches().add(range, word.clone());
    word
}

const TOUCHES_A_WORD: [u32; 7] = [
    lui(4, 0x8000),
    ori(4, 4, 0x2000),
    addiu(8, 0, 5),
    sw(8, 4, 0),
    sw(8, 4, 4), // not watched
    lw(9, 4, 0),
    b(-1),
];

#[test]
fn accesses_to_ram_are_seen_by_who_watches_them_and_by_nobody_else() {
    let mut board = Board::new();
    let word = watch(&board, Verdict::Proceed);
    board.program(&TOUCHES_A_WORD);
    board.run(10);
    assert_eq!(*word.seen.lock().unwrap(), [(Kind::Write, 5), (Kind::Read, 0)]);
    assert_eq!(board.reg(9), 5);
}

#[test]
fn who_watches_changes_what_is_stored_and_loaded() {
    let mut board = Board::new();
    watch(&board, Verdict::Instead(7));
    board.program(&TOUCHES_A_WORD);
    board.run(10);
    assert_eq!((board.reg(9), board.bytes(0x2000, 8)), (7, vec![0, 0, 0, 7, 0, 0, 0, 5]));
}

#[test]
fn a_refused_access_is_a_bus_error_and_has_not_happened() {
    let mut board = Board::new();
    watch(&board, Verdict::Refuse);
    board.handler();
    board.program(&TOUCHES_A_WORD);
    board.run(10);
    assert_eq!(board.exception(), Exception::BusErrorData as u32);
    assert_eq!((board.cpu.core().isa.cp0.epc() & 0xff, board.bytes(0x2000, 4)), (12, vec![0; 4]));
}

#[test]
fn a_watch_that_breaks_stops_before_the_instruction_once() {
    let mut board = Board::new();
    let word = watch(&board, Verdict::Break);
    board.program(&TOUCHES_A_WORD);
    assert_eq!(board.cpu.run(100), Exit::Watched);
    assert_eq!((board.pc() & 0xff, board.bytes(0x2000, 4)), (12, vec![0; 4]));
    assert_eq!(board.cpu.run(100), Exit::Watched);
    assert_eq!((board.pc() & 0xff, board.bytes(0x2000, 4)), (20, vec![0, 0, 0, 5]));
    assert_eq!(board.cpu.run(100), Exit::Done);
    assert_eq!((board.reg(9), word.seen.lock().unwrap().len()), (5, 4));
}

#[test]
fn code_that_another_thread_or_device_writes_is_run_as_it_is_now() {
    let mut board = Board::new();
    let code = [addiu(8, 0, 1), b(-2), nop()];
    board.program(&code);
    board.run(100);
    assert_eq!(board.reg(8), 1);
    board.program_at(support::CODE, &[addiu(8, 0, 2)]);
    board.run(100);
    assert_eq!(board.reg(8), 2);
}

#[test]
fn a_device_that_writes_code_when_it_is_accessed_is_seen_by_the_next_instruction() {
    let mut board = Board::new();
    let writer = board.memory.memory_space();
    let device = flatview::Ops::new().write(move |_, _| {
        let word = addiu(8, 0, 42).to_be_bytes();
        writer.poke(support::CODE + 0x10, &word).map_err(|_| flatview::MemTxError::error())
    });
    let region = board.memory.add(Region::io("dma", 0x1000, device)).unwrap();
    board.memory.map(board.memory.system(), 0x100_0000, region).unwrap();
    board.program(&[
        lui(4, 0xa100),
        sw(0, 4, 0),
        nop(),
        nop(),
        addiu(8, 0, 1), // 0x10: becomes addiu 8, 0, 42
        b(-1),
        nop(),
    ]);
    board.run(20);
    assert_eq!(board.reg(8), 42);
}

#[test]
fn code_that_changes_itself_in_a_page_that_is_partly_a_device_is_seen_too() {
    let mut board = Board::new();
    // Registers in the first half of the page, RAM in the second, with the code.
    let memory = &board.memory;
    let device = memory.add(Region::io("registers", 0x800, flatview::Ops::new().read(|_| Ok(0)))).unwrap();
    let ram = memory.add(Region::ram("sram", RamBlock::anonymous("sram", 4096).unwrap())).unwrap();
    memory.map(memory.system(), 0x200_0000, ram).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x200_0000, device, 1)).unwrap();
    let (at, store) = (0x200_0800, addiu(8, 0, 42));
    board.program_at(
        at,
        &[
            lui(4, 0x8200),
            ori(4, 4, 0x0820),
            lui(5, (store >> 16) as u16),
            ori(5, 5, store as u16),
            addiu(6, 0, 3),
            nop(),
            nop(),
            nop(),
            addiu(8, 0, 1), // 0x20: becomes addiu 8, 0, 42, then 43
            sw(5, 4, 0),
            addiu(6, 6, -1),
            bne(6, 0, -4),
            addiu(5, 5, 1),
            b(-1),
            nop(),
        ],
    );
    let core = board.cpu.core_mut();
    core.set(flatview_cpu::mips::PC, 0x8000_0000 + at);
    core.isa.cp0.set_all_status(0);
    board.run(40);
    assert_eq!(board.reg(8), 43);
}

#[test]
fn code_that_others_write_in_a_page_that_is_partly_a_device_is_seen_too() {
    let mut board = Board::new();
    // A page of registers, and half a page of RAM behind their first half, from the middle of its block on.
    let writer = board.memory.memory_space();
    let at = 0x200_0800;
    let device = flatview::Ops::new().write(move |access, value| {
        let word = addiu(8, 0, value as i16).to_be_bytes();
        let written = if access.offset() == 4 { writer.poke(at + 0x10, &word) } else { Ok(()) };
        written.map_err(|_| flatview::MemTxError::error())
    });
    let memory = &board.memory;
    let device = memory.add(Region::io("registers", 0x1000, device)).unwrap();
    let ram = memory.add(Region::ram("sram", RamBlock::anonymous("sram", 0x800).unwrap())).unwrap();
    memory.map(memory.system(), 0x200_0000, device).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), at, ram, 1)).unwrap();
    board.program_at(
        at,
        &[
            lui(4, 0xa200),
            addiu(5, 0, 41),
            addiu(5, 5, 1), // 0x08
            sw(5, 4, 4),
            addiu(8, 0, 1), // 0x10: becomes addiu 8, 0, 42, then 43, then 44
            addiu(9, 9, 1),
            slti(10, 5, 44),
            bne(10, 0, -6),
            nop(),
            b(-1),
            nop(),
        ],
    );
    let core = board.cpu.core_mut();
    core.set(flatview_cpu::mips::PC, 0x8000_0000 + at);
    core.isa.cp0.set_all_status(0);
    board.run(60);
    assert_eq!((board.reg(8), board.reg(9)), (44, 3));
}

#[test]
fn a_map_that_a_store_changes_holds_for_the_next_instruction() {
    let mut board = Board::new();
    // Two pages of code for one address; a store to the device shows the other one.
    let page = |n: u16| {
        let block = RamBlock::anonymous("page", 4096).unwrap();
        let code = [sw(0, 4, 0), addiu(8, 0, n as i16), b(-1), nop()];
        let bytes: Vec<u8> = code.iter().flat_map(|w| w.to_be_bytes()).collect();
        block.write(0, &bytes).unwrap();
        Region::ram("page", block)
    };
    let memory = board.memory.clone();
    let (one, two) = (memory.add(page(1)).unwrap(), memory.add(page(2)).unwrap());
    let at = 0x200_0000;
    memory.map(memory.system(), at, one).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), at, two, 1)).unwrap();
    memory.update(|t| t.set_enabled(two, false)).unwrap();
    let weak = memory.downgrade();
    let device = flatview::Ops::new().write(move |_, _| {
        let memory = weak.upgrade().ok_or(flatview::MemTxError::error())?;
        memory.update(|t| t.set_enabled(two, true)).map_err(|_| flatview::MemTxError::error())
    });
    let switch = memory.add(Region::io("switch", 0x1000, device)).unwrap();
    memory.map(memory.system(), 0x100_0000, switch).unwrap();
    board.program(&[lui(4, 0xa100), lui(5, 0x8200), jr(5), nop()]);
    board.run(20);
    assert_eq!(board.reg(8), 2);
}
