//! What PowerPC programs do, and what the CPU does around them.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

#[path = "ppc/look.rs"]
mod look;

use flatview::{Endianness, Memory, RamBlock, Region};
use flatview_cpu::ppc::{
    BusErrors, CR, CTR, DAR, DSISR, LR, PC, Ppc, PpcModel, SRR0, SRR1, cr, gpr, set_xer, xer,
};
use flatview_cpu::{Cpu, Exit, GuestCpu, Kind};
use flatview_device::log::LogBuffer;
use flatview_device::{Clock, Log, LogMask};

const RAM: u64 = 1 << 20;
const CODE: u32 = 0x8000;
/// MSR bits.
const POW: u32 = 0x4_0000;
const EE: u32 = 0x8000;
const PR: u32 = 0x4000;
const ME: u32 = 0x1000;
const SE: u32 = 0x400;
const BE: u32 = 0x200;
const IR: u32 = 0x20;
const DR: u32 = 0x10;

const fn d(op: u32, rd: u32, ra: u32, imm: i32) -> u32 {
    op << 26 | rd << 21 | ra << 16 | (imm as u32 & 0xffff)
}
const fn x(rd: u32, ra: u32, rb: u32, extended: u32) -> u32 {
    31 << 26 | rd << 21 | ra << 16 | rb << 11 | extended << 1
}
const fn addi(rd: u32, ra: u32, imm: i32) -> u32 {
    d(14, rd, ra, imm)
}
const fn lis(rd: u32, imm: i32) -> u32 {
    d(15, rd, 0, imm)
}
const fn ori(ra: u32, rs: u32, imm: i32) -> u32 {
    d(24, rs, ra, imm)
}
const fn lwz(rd: u32, ra: u32, imm: i32) -> u32 {
    d(32, rd, ra, imm)
}
const fn stw(rs: u32, ra: u32, imm: i32) -> u32 {
    d(36, rs, ra, imm)
}
const fn bc(bo: u32, bi: u32, to: i32) -> u32 {
    16 << 26 | bo << 21 | bi << 16 | (to as u32 & 0xfffc)
}
const fn b(to: i32) -> u32 {
    18 << 26 | (to as u32 & 0x03ff_fffc)
}
const fn spr(n: u32) -> u32 {
    (n & 31) << 16 | (n >> 5) << 11
}
const fn mtspr(n: u32, rs: u32) -> u32 {
    31 << 26 | rs << 21 | spr(n) | 467 << 1
}
const fn mfspr(rd: u32, n: u32) -> u32 {
    31 << 26 | rd << 21 | spr(n) | 339 << 1
}
const fn mtmsr(rs: u32) -> u32 {
    x(rs, 0, 0, 146)
}
const RFI: u32 = 19 << 26 | 50 << 1;
const SC: u32 = 17 << 26 | 2;
const NOP: u32 = 0x6000_0000;

struct Board {
    memory: Memory,
    clock: Clock,
    cpu: Cpu<Ppc>,
    log: LogBuffer,
}

impl Board {
    fn new() -> Self {
        Self::with(PpcModel::ppc604(), BusErrors::MachineCheck)
    }

    fn with(model: &'static PpcModel, bus_errors: BusErrors) -> Self {
        let memory = Memory::new(Endianness::Big);
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", RAM).unwrap())).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let (clock, log) = (Clock::stepped(), LogBuffer::default());
        let sink = Log::to(LogMask::UNIMP | LogMask::GUEST_ERRORS, log.clone());
        let isa = Ppc::new(model, &clock, 1_000_000).with_bus_errors(bus_errors).with_log(&sink);
        let cpu = Cpu::new(isa, &memory, &memory.memory_space()).unwrap();
        let mut board = Self { memory, clock, cpu, log };
        // Handlers that stay where they are.
        for vector in (0x100..0x2000).step_by(0x100) {
            board.words(vector, &[b(0)]);
        }
        board
    }

    fn words(&mut self, at: u32, code: &[u32]) {
        let bytes: Vec<u8> = code.iter().flat_map(|w| w.to_be_bytes()).collect();
        self.memory.memory_space().reader().poke(at.into(), &bytes).unwrap();
        self.cpu.forget_code();
    }

    fn word(&self, at: u32) -> u32 {
        let mut bytes = [0; 4];
        self.memory.memory_space().reader().peek(at.into(), &mut bytes).unwrap();
        u32::from_be_bytes(bytes)
    }

    /// A program that begins next, in supervisor mode without translation.
    fn program(&mut self, code: &[u32]) {
        self.words(CODE, code);
        let core = self.cpu.core_mut();
        core.set(PC, CODE.into());
        core.isa.set_msr(ME);
    }

    fn msr(&mut self, value: u32) {
        self.cpu.core_mut().isa.set_msr(value);
    }

    /// Does so many instructions one by one; one that faults ends before the handler's first one.
    fn step(&mut self, n: usize) {
        for _ in 0..n {
            self.cpu.step();
        }
    }

    fn set(&mut self, n: u32, value: u32) {
        self.cpu.core_mut().set(gpr(n), value.into());
    }

    fn reg(&self, n: u32) -> u32 {
        self.cpu.core().get32(gpr(n))
    }

    fn pc(&self) -> u32 {
        self.cpu.core().get32(PC)
    }

    fn srr(&self) -> (u32, u32) {
        (self.cpu.core().get32(SRR0), self.cpu.core().get32(SRR1))
    }

    fn dsi(&self) -> (u32, u32) {
        (self.cpu.core().get32(DAR), self.cpu.core().get32(DSISR))
    }
}

#[test]
fn models_have_names_and_versions() {
    let named: Vec<_> = PpcModel::all().iter().map(|m| (m.name, m.pvr)).collect();
    assert_eq!(named, [("604", 0x0004_0103), ("755", 0x0008_3208)]);
    assert_eq!(PpcModel::find("755"), Some(PpcModel::ppc755()));
    assert_eq!(PpcModel::find("603"), None);
    for model in PpcModel::all() {
        let mut board = Board::with(model, BusErrors::Ignore);
        board.program(&[mfspr(3, 287), mtspr(287, 4), mfspr(5, 287)]);
        board.step(3);
        assert_eq!((board.reg(3), board.reg(5)), (model.pvr, model.pvr));
    }
}

#[test]
fn it_begins_at_the_reset_vector_in_rom() {
    let board = Board::new();
    assert_eq!((board.pc(), board.cpu.core().isa.msr()), (0xfff0_0100, 0x40));
}

#[test]
fn a_loop_counts_down_ctr() {
    let mut board = Board::new();
    board.program(&[addi(3, 0, 100), mtspr(9, 3), addi(4, 0, 0), addi(4, 4, 3), bc(16, 0, -4), b(0)]);
    board.cpu.run(1000);
    assert_eq!((board.reg(4), board.cpu.core().get32(CTR), board.pc()), (300, 0, CODE + 20));
}

#[test]
fn branches_ask_for_counter_and_condition() {
    // (BO, CTR before, CR0, taken)
    for (bo, ctr, field, taken) in [
        (0, 2, 0, true),
        (0, 1, 0, false),
        (2, 1, 0, true),
        (2, 1, 2, false),
        (4, 0, 0, true),
        (4, 0, 2, false),
        (8, 2, 2, true),
        (8, 2, 0, false),
        (10, 1, 2, true),
        (10, 2, 2, false),
        (12, 0, 2, true),
        (12, 0, 13, false),
        (16, 0, 0, true),
        (18, 2, 0, false),
        (20, 0, 0, true),
    ] {
        let mut board = Board::new();
        board.program(&[bc(bo, 2, 0x40) | 1]);
        board.cpu.core_mut().set(CTR, ctr);
        board.cpu.core_mut().set(CR[0], field);
        board.step(1);
        let to = if taken { CODE + 0x40 } else { CODE + 4 };
        assert_eq!(board.pc(), to, "bo {bo} ctr {ctr} field {field}");
        assert_eq!(board.cpu.core().get32(LR), CODE + 4, "the link is set in any case");
        let counted = if bo & 4 == 0 { (ctr as u32).wrapping_sub(1) } else { ctr as u32 };
        assert_eq!(board.cpu.core().get32(CTR), counted);
    }
}

#[test]
fn a_record_form_copies_the_summary_overflow_that_it_sets() {
    let mut board = Board::new();
    board.program(&[x(5, 3, 4, 778) | 1, x(6, 5, 5, 266) | 1]);
    board.set(3, 0x7fff_ffff);
    board.set(4, 1);
    board.step(1);
    assert_eq!(
        (board.reg(5), cr(board.cpu.core()), xer(board.cpu.core())),
        (0x8000_0000, 0x9000_0000, 0xc000_0000)
    );
    board.step(1);
    assert_eq!((board.reg(6), cr(board.cpu.core()), xer(board.cpu.core())), (0, 0x3000_0000, 0xc000_0000));
}

#[test]
fn carries_chain_through_xer() {
    let mut board = Board::new();
    // addc, adde, subfc, subfe
    board.program(&[x(5, 3, 3, 10), x(6, 4, 4, 138), x(7, 3, 4, 8), x(8, 4, 4, 136)]);
    board.set(3, 0x8000_0001);
    board.set(4, 5);
    board.step(2);
    assert_eq!((board.reg(5), board.reg(6)), (2, 11));
    board.step(2);
    assert_eq!((board.reg(7), board.reg(8)), (0x8000_0004, 0xffff_ffff), "5 - 0x80000001 borrows");
    assert_eq!(xer(board.cpu.core()) >> 29 & 1, 0);
}

#[test]
fn an_update_form_leaves_its_register_alone_when_it_faults() {
    let mut board = Board::new();
    board.program(&[d(33, 4, 3, 8), NOP]);
    board.set(3, 0x4000_0000);
    board.set(4, 7);
    board.step(1);
    assert_eq!((board.pc(), board.srr()), (0x200, (CODE, ME | 1 << 18)));
    assert_eq!((board.reg(3), board.reg(4)), (0x4000_0000, 7));
}

#[test]
fn boards_choose_what_an_access_comes_to_that_nobody_takes() {
    let mut board = Board::with(PpcModel::ppc604(), BusErrors::Ignore);
    board.program(&[lwz(4, 3, 0), stw(4, 3, 0)]);
    board.set(3, 0x4000_0000);
    board.set(4, 7);
    board.step(2);
    assert_eq!((board.pc(), board.reg(4)), (CODE + 8, 0));
}

#[test]
fn a_machine_check_that_is_not_enabled_stops_the_processor_for_good() {
    let mut board = Board::new();
    board.program(&[lwz(4, 3, 0)]);
    board.set(3, 0x4000_0000);
    board.msr(0);
    assert_eq!(board.cpu.run(10), Exit::Waiting);
    assert!(board.cpu.core().isa.is_checkstop());
    assert_eq!(board.pc(), CODE);
    board.cpu.inputs().set_level(Ppc::SOFT_RESET, true);
    assert_eq!(board.cpu.run(10), Exit::Waiting, "only a hard reset helps");
    assert!(board.log.text().contains("checkstop"), "{}", board.log.text());
    board.cpu.reset();
    assert!(!board.cpu.core().isa.is_checkstop());
}

#[test]
fn system_calls_return_behind_themselves() {
    let mut board = Board::new();
    board.program(&[SC, NOP]);
    board.words(0xc00, &[addi(3, 0, 9), RFI]);
    board.msr(EE | ME);
    board.step(1);
    assert_eq!((board.pc(), board.srr()), (0xc00, (CODE + 4, EE | ME)));
    assert_eq!(board.cpu.core().isa.msr(), ME, "interrupts are off in a handler");
    board.step(2);
    assert_eq!((board.pc(), board.cpu.core().isa.msr(), board.reg(3)), (CODE + 4, EE | ME, 9));
}

#[test]
fn program_exceptions_say_why() {
    for (word, msr, srr1) in [
        (0, 0, 1 << 19),
        (mtmsr(3), PR, 1 << 18),
        (mfspr(3, 8), PR, 0),
        (mfspr(3, 22), PR, 1 << 18),
        (mfspr(3, 1023 & !16), PR, 1 << 19),
        (RFI, PR, 1 << 18),
        (d(3, 4, 3, 0), 0, 1 << 17),
        (d(3, 4, 3, 1), 0, 0),
        (0x7fe0_0008, 0, 1 << 17),
        // lwzu into its own address, stwcx without its dot, tlbia, dcba, tlbld on a 604.
        (d(33, 3, 3, 0), 0, 1 << 19),
        (x(3, 0, 4, 150), 0, 1 << 19),
        (x(0, 0, 0, 370), 0, 1 << 19),
        (x(0, 0, 3, 758), 0, 1 << 19),
        (x(0, 0, 3, 978), 0, 1 << 19),
    ] {
        let mut board = Board::new();
        board.program(&[word, NOP]);
        board.msr(msr);
        board.step(1);
        match srr1 {
            0 => assert_eq!(board.pc(), CODE + 4, "{word:08x}"),
            _ => assert_eq!((board.pc(), board.srr()), (0x700, (CODE, msr | srr1)), "{word:08x}"),
        }
    }
}

#[test]
fn floating_point_is_unavailable_until_it_is_allowed() {
    // lfd, stfsx, fadd, mffs, fcmpu
    for word in [d(50, 1, 0, 0), x(1, 0, 3, 663), 0xfc22_182a, 0xfc20_048e, 0xfc01_1000] {
        let mut board = Board::new();
        board.program(&[word]);
        board.step(1);
        assert_eq!((board.pc(), board.srr()), (0x800, (CODE, ME)), "{word:08x}");
    }
}

#[test]
fn the_decrementer_interrupts_when_it_goes_below_zero() {
    let mut board = Board::new();
    board.program(&[addi(3, 0, 10), mtspr(22, 3), b(0)]);
    board.msr(EE);
    board.cpu.run(100);
    assert_eq!(board.pc(), CODE + 8);
    board.clock.step(Some(10_000)).unwrap();
    board.cpu.run(10);
    assert_eq!(board.pc(), CODE + 8, "0 is not below it");
    assert_eq!(board.cpu.core().isa.decrementer(), 0);
    board.clock.step(Some(1_000)).unwrap();
    board.cpu.run(10);
    assert_eq!((board.pc(), board.srr()), (0x900, (CODE + 8, EE)));
    assert_eq!(board.cpu.core().isa.decrementer(), u32::MAX);
    // It waits where it is not allowed, and comes once.
    board.msr(EE);
    board.cpu.run(10);
    assert_eq!(board.pc(), 0x900);
    assert_eq!(board.cpu.core().isa.msr(), EE);
}

#[test]
fn setting_the_decrementers_sign_interrupts() {
    let mut board = Board::new();
    board.program(&[addi(3, 0, 10), mtspr(22, 3), addi(3, 0, -1), mtspr(22, 3), NOP]);
    board.msr(EE);
    board.step(4);
    board.cpu.run(1);
    assert_eq!((board.pc(), board.srr().0), (0x900, CODE + 16));
}

#[test]
fn the_time_base_follows_the_clock_at_the_boards_frequency() {
    let mut board = Board::new();
    let mftb = |rd: u32, n: u32| 31_u32 << 26 | rd << 21 | spr(n) | 371 << 1;
    board.program(&[lis(3, 1), mtspr(285, 3), mtspr(284, 3), mftb(4, 268), mftb(5, 269), mftb(6, 268)]);
    board.step(4);
    board.clock.step(Some(5_000_000)).unwrap();
    board.step(2);
    assert_eq!((board.reg(4), board.reg(5), board.reg(6)), (0x1_0000, 0x1_0000, 0x1_0000 + 5000));
}

#[test]
fn lines_from_outside_interrupt_in_their_order() {
    let mut board = Board::new();
    board.program(&[b(0)]);
    let inputs = board.cpu.inputs().clone();
    inputs.set_level(Ppc::EXTERNAL, true);
    board.cpu.run(10);
    assert_eq!(board.pc(), CODE, "not allowed yet");
    board.msr(EE | ME);
    inputs.set_level(Ppc::SOFT_RESET, true);
    inputs.set_level(Ppc::SOFT_RESET, false);
    board.cpu.run(1);
    assert_eq!((board.pc(), board.srr()), (0x100, (CODE, EE | ME)));
    board.cpu.core_mut().set(PC, CODE.into());
    board.msr(EE | ME);
    board.cpu.run(1);
    assert_eq!(board.pc(), 0x500);
    // The machine check pin counts with HID0[EMCP] only.
    inputs.set_level(Ppc::EXTERNAL, false);
    board.program(&[b(0)]);
    inputs.set_level(Ppc::MACHINE_CHECK, true);
    board.cpu.run(1);
    assert_eq!(board.pc(), CODE);
    inputs.set_level(Ppc::MACHINE_CHECK, false);
    board.program(&[lis(3, -0x8000), mtspr(1008, 3), b(0)]);
    board.step(2);
    inputs.set_level(Ppc::MACHINE_CHECK, true);
    board.cpu.run(1);
    assert_eq!((board.pc(), board.srr()), (0x200, (CODE + 8, ME | 1 << 19)));
    assert_eq!(board.cpu.core().isa.msr(), 0, "one at a time");
}

#[test]
fn it_waits_for_an_interrupt_with_power_management() {
    let mut board = Board::new();
    board.program(&[mtmsr(3), NOP]);
    board.set(3, POW | EE);
    assert_eq!(board.cpu.run(10), Exit::Waiting);
    board.cpu.inputs().set_level(Ppc::EXTERNAL, true);
    board.cpu.run(1);
    assert_eq!((board.pc(), board.srr()), (0x500, (CODE + 4, EE)));
    // On the 755 HID0 says whether there is a state to go to.
    let mut board = Board::with(PpcModel::ppc755(), BusErrors::Ignore);
    board.program(&[mtmsr(3), NOP, b(0)]);
    board.set(3, POW | EE);
    assert_eq!(board.cpu.run(10), Exit::Done);
    assert_eq!(board.pc(), CODE + 8);
}

#[test]
fn traces_come_after_the_instruction() {
    let mut board = Board::new();
    board.program(&[addi(3, 0, 1), addi(3, 3, 1), bc(20, 0, 0x20)]);
    board.msr(SE);
    board.cpu.run(1);
    assert_eq!((board.pc(), board.srr(), board.reg(3)), (0xd00, (CODE + 4, SE), 1));
    // Branches alone.
    board.program(&[addi(3, 0, 1), addi(3, 3, 1), bc(20, 0, 0x20)]);
    board.msr(BE);
    board.cpu.run(3);
    assert_eq!((board.pc(), board.srr(), board.reg(3)), (0xd00, (CODE + 0x28, BE), 2));
}

#[test]
fn little_endian_mode_is_refused_and_told_once() {
    let mut board = Board::new();
    board.program(&[addi(3, 0, 1), mtmsr(3), mtmsr(3), NOP]);
    board.step(4);
    assert_eq!((board.pc(), board.cpu.core().isa.msr()), (CODE + 16, 0));
    let text = board.log.text();
    assert_eq!(text.matches("little-endian").count(), 1, "{text}");
}

#[test]
fn strings_fill_registers_from_the_left_and_wrap() {
    let mut board = Board::new();
    // lswi r31, r3, 6
    board.program(&[31 << 26 | 31 << 21 | 3 << 16 | 6 << 11 | 597 << 1, x(29, 0, 3, 661)]);
    board.words(0x4000, &[0x0102_0304, 0x0506_0708]);
    board.set(3, 0x4000);
    board.step(1);
    assert_eq!((board.reg(31), board.reg(0)), (0x0102_0304, 0x0506_0000));
    // stswx takes the count from XER.
    set_xer(board.cpu.core_mut(), 5);
    board.set(3, 0x4011);
    board.set(29, 0xa1a2_a3a4);
    board.set(30, 0xb1b2_b3b4);
    board.step(1);
    assert_eq!((board.word(0x4010), board.word(0x4014)), (0x00a1_a2a3, 0xa4b1_0000));
}

#[test]
fn multiples_must_be_aligned_and_say_so_in_dsisr() {
    let mut board = Board::new();
    board.program(&[d(46, 30, 3, 2)]);
    board.set(3, 0x4000);
    board.step(1);
    assert_eq!((board.pc(), board.srr().0), (0x600, CODE));
    // Opcode 46: bits 1 to 5 are 01110; rD 30, rA 3.
    assert_eq!(board.dsi(), (0x4002, 0b0_0111 << 10 | 30 << 5 | 3));
    // lwarx: extended opcode 20.
    board.program(&[x(5, 0, 3, 20)]);
    board.set(3, 0x4001);
    board.step(1);
    assert_eq!((board.pc(), board.dsi()), (0x600, (0x4001, 5 << 5)));
}

#[test]
fn a_reservation_holds_for_one_store_and_not_past_what_others_write() {
    let mut board = Board::new();
    let (lwarx, stwcx) = (x(4, 0, 3, 20), x(5, 0, 3, 150) | 1);
    board.program(&[stwcx, lwarx, stwcx, stwcx, lwarx, stwcx]);
    board.set(3, 0x4000);
    board.set(5, 0x55);
    board.step(1);
    assert_eq!((cr(board.cpu.core()) >> 28, board.word(0x4000)), (0, 0));
    board.step(2);
    assert_eq!((cr(board.cpu.core()) >> 28, board.word(0x4000)), (2, 0x55));
    board.step(1);
    assert_eq!(cr(board.cpu.core()) >> 28, 0);
    board.step(1);
    board.words(0x4000, &[0x66]);
    board.step(1);
    assert_eq!((cr(board.cpu.core()) >> 28, board.word(0x4000)), (0, 0x66));
}

/// A page table of 64 KiB at 0x10000, and segment 0 with virtual segment 0x123.
fn with_table(board: &mut Board, segment: u32) {
    board.program(&[lis(3, 1), mtspr(25, 3), x(4, 0, 0, 210), x(4, 1, 0, 210)]);
    board.set(4, segment);
    board.step(4);
}

/// The primary and the secondary entry group for a page of virtual segment 0x123.
fn groups(page: u32) -> (u32, u32) {
    let hash = 0x123 ^ page;
    (0x1_0000 + (hash & 0x3ff) * 64, 0x1_0000 + (!hash & 0x3ff) * 64)
}

const ENTRY: u32 = 1 << 31 | 0x123 << 7;

#[test]
fn a_page_table_is_searched_in_both_groups_and_keeps_what_was_done() {
    for secondary in [false, true] {
        let mut board = Board::new();
        with_table(&mut board, 0x123);
        let (first, second) = groups(0x21);
        let at = if secondary { second + 7 * 8 } else { first + 8 };
        board.words(at, &[ENTRY | u32::from(secondary) << 6, 0x4_4000 | 2]);
        board.words(0x4_4010, &[0x1234_5678]);
        board.program(&[lwz(5, 3, 0), stw(6, 3, 4)]);
        board.set(3, 0x2_1010);
        board.set(6, 77);
        board.msr(DR);
        board.step(1);
        assert_eq!((board.pc(), board.reg(5)), (CODE + 4, 0x1234_5678));
        assert_eq!(board.word(at + 4), 0x4_4102, "referenced");
        board.step(1);
        assert_eq!((board.word(0x4_4014), board.word(at + 4)), (77, 0x4_4182), "changed");
        assert_eq!(GuestCpu::physical(&board.cpu, 0x2_1abc), Some(0x4_4abc));
    }
}

#[test]
fn protection_is_by_key_and_pp() {
    // (supervisor's key, PP, loads, stores)
    for (key, pp, loads, stores) in [
        (false, 0, true, true),
        (false, 1, true, true),
        (false, 2, true, true),
        (false, 3, true, false),
        (true, 0, false, false),
        (true, 1, true, false),
        (true, 2, true, true),
        (true, 3, true, false),
    ] {
        let mut board = Board::new();
        with_table(&mut board, 0x123 | if key { 1 << 30 } else { 0 });
        let at = groups(0x21).0;
        board.words(at, &[ENTRY, 0x4_4000 | pp]);
        for (word, allowed, store) in [(lwz(5, 3, 0), loads, 0), (stw(5, 3, 0), stores, 1 << 25)] {
            board.program(&[word]);
            board.set(3, 0x2_1010);
            board.msr(DR);
            board.step(1);
            if allowed {
                assert_eq!(board.pc(), CODE + 4, "key {key} pp {pp}");
            } else {
                assert_eq!(
                    (board.pc(), board.dsi()),
                    (0x300, (0x2_1010, 1 << 27 | store)),
                    "key {key} pp {pp}"
                );
            }
        }
    }
}

#[test]
fn misses_and_segments_that_refuse_tell_which() {
    let mut board = Board::new();
    with_table(&mut board, 0x123);
    board.program(&[lwz(5, 3, 0), stw(5, 3, 0)]);
    board.set(3, 0x2_1010);
    board.msr(DR);
    board.step(1);
    assert_eq!((board.pc(), board.dsi()), (0x300, (0x2_1010, 1 << 30)));
    board.cpu.core_mut().set(PC, u64::from(CODE + 4));
    board.msr(DR);
    board.step(1);
    assert_eq!(board.dsi(), (0x2_1010, 1 << 30 | 1 << 25));
    // No entry, no execution, guarded memory, direct store.
    for (segment, lower, srr1) in [
        (0x123, None, 1 << 30),
        (0x123 | 1 << 28, Some(2), 1 << 28),
        (0x123, Some(8 | 2), 1 << 28),
        (1 << 31, None, 1 << 28),
    ] {
        let mut board = Board::new();
        with_table(&mut board, segment);
        if let Some(lower) = lower {
            board.words(groups(CODE >> 12).0, &[ENTRY, CODE | lower]);
        }
        board.program(&[NOP]);
        board.msr(IR);
        board.step(1);
        assert_eq!((board.pc(), board.srr()), (0x400, (CODE, IR | srr1)));
    }
    for (model, dsisr) in [(PpcModel::ppc604(), 1 << 31), (PpcModel::ppc755(), 1 << 26)] {
        let mut board = Board::with(model, BusErrors::MachineCheck);
        with_table(&mut board, 1 << 31);
        board.program(&[lwz(5, 3, 0)]);
        board.set(3, 0x2_1010);
        board.msr(DR);
        board.step(1);
        assert_eq!((board.pc(), board.dsi()), (0x300, (0x2_1010, dsisr)));
    }
}

#[test]
fn block_translations_come_before_pages() {
    let mut board = Board::new();
    with_table(&mut board, 1 << 31);
    // DBAT3: 256 KiB at 0x00080000 to physical 0x00040000, supervisor only, read and write; IBAT0: the first 128 KiB, both.
    board.program(&[
        lis(3, 8),
        ori(3, 3, 0x6),
        mtspr(542, 3),
        lis(3, 4),
        ori(3, 3, 2),
        mtspr(543, 3),
        addi(3, 0, 3),
        mtspr(528, 3),
        addi(3, 0, 2),
        mtspr(529, 3),
        mtmsr(6),
        lwz(5, 4, 0),
        stw(4, 4, 4),
        mtmsr(7),
        lwz(5, 4, 0),
    ]);
    board.words(0x5_1230, &[99]);
    board.set(4, 0x9_1230);
    board.set(6, IR | DR);
    board.set(7, IR | DR | PR);
    board.cpu.run(13);
    assert_eq!((board.reg(5), board.word(0x5_1234)), (99, 0x9_1230));
    board.cpu.run(2);
    assert_eq!((board.pc(), board.srr().0), (0x300, CODE + 56), "not for users: the segment answers");
    assert_eq!(board.dsi().1, 1 << 31);
}

#[test]
fn the_755_has_more_bats_when_hid2_says_so() {
    for (model, high) in [(PpcModel::ppc755(), true), (PpcModel::ppc755(), false)] {
        let mut board = Board::with(model, BusErrors::MachineCheck);
        board.program(&[
            lis(3, 8),
            ori(3, 3, 2),
            mtspr(574, 3),
            lis(3, 4),
            ori(3, 3, 2),
            mtspr(575, 3),
            mtspr(1011, 6),
            mtmsr(7),
            lwz(5, 4, 0),
        ]);
        board.words(0x4_1230, &[99]);
        board.set(4, 0x8_1230);
        board.set(6, if high { 1 << 18 } else { 0 });
        board.set(7, DR);
        board.step(9);
        assert_eq!(board.pc(), if high { CODE + 36 } else { 0x300 });
    }
}

#[test]
fn the_755_lets_software_search_the_table() {
    let mut board = Board::with(PpcModel::ppc755(), BusErrors::MachineCheck);
    with_table(&mut board, 0x123 | 1 << 30);
    board.program(&[mtspr(1011, 6), mtmsr(7), lwz(5, 4, 0), stw(5, 4, 0)]);
    board.words(0x4_4230, &[99]);
    // Loads the entry and goes back.
    let handler = [
        mfspr(20, 976),
        mfspr(21, 977),
        mfspr(22, 978),
        mfspr(23, 979),
        mtspr(982, 24),
        x(0, 0, 20, 978),
        RFI,
    ];
    board.words(0x1100, &handler);
    board.words(0x1200, &handler);
    board.set(4, 0x2_1230);
    board.set(6, 1 << 19);
    board.set(7, DR);
    board.set(24, 0x4_4102);
    board.cpu.core_mut().set(CR[0], 5);
    board.step(3);
    assert_eq!((board.pc(), board.srr()), (0x1100, (CODE + 8, DR | 5 << 28 | 1 << 19)));
    board.step(8);
    assert_eq!((board.pc(), board.reg(5)), (CODE + 12, 99));
    let (first, second) = groups(0x21);
    assert_eq!([20, 21, 22, 23].map(|n| board.reg(n)), [0x2_1230, ENTRY, first, second]);
    // The page is not marked as changed: the first store has it done in the same way.
    board.step(1);
    assert_eq!((board.pc(), board.srr()), (0x1200, (CODE + 12, DR | 5 << 28 | 1 << 19 | 1 << 16)));
    board.set(24, 0x4_4182);
    board.step(8);
    assert_eq!((board.pc(), board.word(0x4_4230)), (CODE + 16, 99));
    // tlbie takes it away.
    board.program(&[x(0, 0, 4, 306), lwz(5, 4, 0)]);
    board.msr(DR);
    board.step(2);
    assert_eq!(board.pc(), 0x1100);
}

#[test]
fn cache_blocks_are_zeroed_where_memory_is_cached() {
    let mut board = Board::new();
    with_table(&mut board, 0x123);
    let at = groups(0x21).0;
    board.words(at, &[ENTRY, 0x4_4000 | 2]);
    board.words(0x4_401c, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    board.program(&[x(0, 0, 3, 1014)]);
    board.set(3, 0x2_1030);
    board.msr(DR);
    board.step(1);
    assert_eq!(board.pc(), CODE + 4);
    let words: Vec<u32> = (0..10).map(|n| board.word(0x4_401c + 4 * n)).collect();
    assert_eq!(words, [1, 0, 0, 0, 0, 0, 0, 0, 0, 10]);
    // Caching-inhibited.
    board.words(at, &[ENTRY, 0x4_4000 | 0x20 | 2]);
    board.program(&[x(0, 0, 3, 306), x(0, 0, 3, 1014)]);
    board.msr(DR);
    board.step(2);
    assert_eq!((board.pc(), board.dsi().0), (0x600, 0x2_1030));
}

#[test]
fn address_breakpoints_stop_accesses_and_instructions() {
    let mut board = Board::new();
    board.program(&[mtspr(1013, 6), lwz(5, 4, 8), lwz(5, 4, 4), mtspr(1010, 7), NOP, NOP]);
    board.set(4, 0x4000);
    board.set(6, 0x4000 | 1);
    board.set(7, (CODE + 20) | 2);
    board.step(2);
    assert_eq!(board.pc(), CODE + 8);
    board.step(1);
    assert_eq!((board.pc(), board.dsi()), (0x300, (0x4004, 1 << 22)));
    board.cpu.core_mut().set(PC, u64::from(CODE + 12));
    board.step(2);
    assert_eq!(board.pc(), CODE + 20);
    board.step(1);
    assert_eq!((board.pc(), board.srr().0), (0x1300, CODE + 20));
}

#[test]
fn external_control_needs_its_register() {
    let mut board = Board::new();
    board.program(&[x(5, 0, 3, 310), mtspr(282, 6), x(5, 0, 3, 310), x(6, 0, 3, 438)]);
    board.words(0x4000, &[42]);
    board.set(3, 0x4000);
    board.set(6, 1 << 31);
    board.step(1);
    assert_eq!((board.pc(), board.dsi()), (0x300, (0x4000, 1 << 20)));
    board.cpu.core_mut().set(PC, u64::from(CODE + 4));
    board.step(3);
    assert_eq!((board.reg(5), board.word(0x4000)), (42, 1 << 31));
}

#[test]
fn registers_are_printed_as_qemu_does() {
    let mut board = Board::new();
    board.set(5, 0xabcd);
    let text = GuestCpu::registers(&board.cpu);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("NIP fff00100   LR 00000000 CTR 00000000 XER 00000000 CPU#0"));
    assert!(text.contains("\nTB 00000000 00000000 DECR 4294967295\n"), "{text}");
    assert!(
        text.contains("\nGPR04 0000000000000000 000000000000abcd 0000000000000000 0000000000000000\n"),
        "{text}"
    );
    assert!(text.contains("\nCR 00000000  [ -  -  -  -  -  -  -  -  ]             RES ffffffff\n"), "{text}");
    assert!(text.contains("\n SRR0 00000000  SRR1 00000000    PVR 00040103 VRSAVE 00000000\n"), "{text}");
}
