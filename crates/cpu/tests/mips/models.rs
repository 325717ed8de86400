//! What tells the CPUs apart, and what none of them has.

use crate::support::{Board, asm::*};
use flatview::Be;
use flatview_cpu::mips::Exception;

const fn mfc0(rt: u32, rd: u32, select: u32) -> u32 {
    0x4000_0000 | rt << 16 | rd << 11 | select
}
const fn mtc0(rt: u32, rd: u32) -> u32 {
    0x4080_0000 | rt << 16 | rd << 11
}

/// The exception of an instruction in kernel mode, with coprocessor 1.
fn refused(model: &str, word: u32) -> Option<u32> {
    let mut board = Board::with_model(model);
    board.handler();
    board.program(&[word, nop(), b(-1), nop()]);
    board.cpu.core_mut().isa.cp0.set_all_status(1 << 29);
    board.run(3);
    (board.cpu.core().isa.cp0.status() & 2 != 0).then(|| board.exception())
}

fn read(model: &str, code: &[u32], reg: u32) -> u32 {
    let mut board = Board::with_model(model);
    board.handler();
    board.program(code);
    board.run(code.len() as u64);
    board.reg(reg)
}

#[test]
fn the_registers_say_which_cpu_it_is() {
    for (model, prid, config, config1) in [
        ("24Kc", 0x0001_9300, 0x8000_8482, 0x9e19_0c82),
        ("24Kf", 0x0001_9300, 0x8000_8482, 0x9e19_0c83),
        ("R4000", 0x0400, 0x0002_8242, 0),
    ] {
        assert_eq!(read(model, &[mfc0(8, 15, 0)], 8), prid, "{model}");
        assert_eq!(read(model, &[mfc0(8, 16, 0)], 8), config, "{model}");
        assert_eq!(read(model, &[mfc0(8, 16, 1)], 8), config1, "{model}");
    }
    // All but the mode, in which the program would end.
    let status = |model| read(model, &[addiu(9, 0, -32), mtc0(9, 12), mfc0(8, 12, 0)], 8);
    assert_eq!(status("24Kc"), 0x1278_ff00);
    assert_eq!(status("24Kf"), 0x3678_ff00);
    assert_eq!(status("R4000"), 0x3e57_ffe0);
}

#[test]
fn a_24kc_has_no_fpu_to_use() {
    let code = [lui(9, 0x2000), mtc0(9, 12), 0x4602_0000];
    let mut board = Board::with_model("24Kc");
    board.handler();
    board.program(&code);
    board.run(4);
    assert_eq!(board.exception(), Exception::Coprocessor as u32);
}

#[test]
fn the_r4000_has_what_mips_iii_has() {
    const RESERVED: Option<u32> = Some(Exception::Reserved as u32);
    for (word, what) in [
        (0x4160_6020, "ei"),
        (0x4160_6000, "di"),
        (0x0022_1042, "rotr"),
        (0x0062_1046, "rotrv"),
        (0x7c62_1000, "ext"),
        (0x7c62_1004, "ins"),
        (0x7c02_1420, "seb"),
        (0x7c02_103b, "rdhwr"),
        (0x041f_0000, "synci"),
        (0x7062_1020, "clz"),
        (0x7062_0000, "madd"),
        (0x7062_1002, "mul"),
        (0x7000_003f, "sdbbp"),
        (0x4200_0020, "wait"),
        (0x4200_001f, "deret"),
        (0x0062_100a, "movz"),
        (0x0001_1001, "movf"),
        (0xcc00_0000, "pref"),
        (0x4c62_1020, "madd.s"),
        (0x4600_1015, "recip.s"),
        (0x4501_0000 | 1 << 18, "bc1t with a condition code"),
        (0x4462_1000, "mfhc1"),
        (0x0062_102d, "daddu"),
        (0xdc02_0000, "ld"),
        (0x6442_0001, "daddiu"),
    ] {
        assert_eq!(refused("R4000", word), RESERVED, "{what}");
    }
    for (word, what) in [
        (0x0062_1021, "addu"),
        (0x4604_1000, "add.s"),
        (0x4600_1004, "sqrt.s"),
        (0x4500_0000, "bc1f"),
        (0x4402_1000, "mfc1"),
        (0x0000_000f, "sync"),
        (0x5000_0000, "beql"),
        (0xbc00_0000, "cache"),
    ] {
        assert_eq!(refused("R4000", word), None, "{what}");
        assert_eq!(refused("24Kf", word), None, "{what}");
    }
}

#[test]
fn the_r4000_has_48_entries_and_other_registers() {
    let mut board = Board::with_model("R4000");
    assert_eq!(board.cpu.core().isa.tlb.len(), 48);
    board.handler();
    board.program(&[
        lui(9, 0xffff),
        ori(9, 9, 0xffff),
        mtc0(9, 0),
        mfc0(8, 0, 0),
        mtc0(9, 2),
        mfc0(10, 2, 0),
        mtc0(9, 5),
        mfc0(11, 5, 0),
        mtc0(9, 13),
        mfc0(12, 13, 0),
        mtc0(9, 17),
        mfc0(13, 17, 0),
        0x4080_7801 | 9 << 16, // EBase
        mfc0(14, 15, 1),
        mtc0(0, 13),
    ]);
    board.run(15);
    let got: Vec<u32> = (10..=14).map(|n| board.reg(n)).collect();
    assert_eq!(board.reg(8), 63);
    assert_eq!(got, [0x3fff_ffff, 0x01ff_e000, 0x300, u32::MAX, 0]);
    assert_eq!(read("R4000", &[0x4440_0000 | 8 << 16], 8), 0, "CU1 is off");
}

#[test]
fn the_r4000_reaches_36_bits_of_physical_addresses() {
    let mut board = Board::with_model("R4000");
    board.handler();
    board.program(&[lui(4, 0x0040), lw(8, 4, 0x10), nop(), b(-1), nop()]);
    let isa = &mut board.cpu.core_mut().isa;
    let lo = (0x1_0000_0000_u64 >> 6) as u32 | 6;
    isa.tlb[47] = flatview_cpu::mips::TlbEntry { hi: 0x0040_0000, mask: 0, lo: [lo, 0], global: true };
    let ram = flatview::Region::ram("high", flatview::RamBlock::anonymous("high", 0x1000).unwrap());
    let ram = board.memory.add(ram).unwrap();
    board.memory.map(board.memory.system(), 0x1_0000_0000, ram).unwrap();
    board.memory(0x1_0000_0010, &[1, 2, 3, 4]);
    board.run(3);
    assert_eq!(board.reg(8), 0x0102_0304);
}

#[test]
fn there_is_no_mips16e() {
    for model in ["24Kc", "24Kf", "R4000"] {
        let jalx = 0x7400_0000 | 0x1000 >> 2;
        let mut board = Board::with_model(model);
        board.handler();
        board.program(&[jalx, addiu(9, 0, 1)]);
        board.run(2);
        assert_eq!(board.exception(), Exception::Reserved as u32, "{model}");
        assert_eq!((board.reg(31), board.reg(9)), (0, 0), "{model}");
        // An odd address, by a jump or by a return, is an address error, with the address to tell.
        for (code, odd) in [(jr(8), 0x8000_2001), (jr(8), 0x8000_2003), (0x0100_f809, 0x8000_2002)] {
            let mut board = Board::with_model(model);
            board.handler();
            board.program(&[lui(8, 0x8000), ori(8, 8, odd as u16), code, addiu(9, 0, 1)]);
            board.run(5);
            assert_eq!(board.exception(), Exception::AddressLoad as u32, "{model} {odd:x}");
            let cp0 = &board.cpu.core().isa.cp0;
            assert_eq!((cp0.bad_vaddr(), cp0.epc()), (odd, odd), "{model}");
            assert_eq!((cp0.cause() >> 31, board.reg(9)), (0, 1), "{model}: behind the delay slot");
        }
        let mut board = Board::with_model(model);
        board.handler();
        board.program(&[lui(8, 0x8000), ori(8, 8, 0x2001), mtc0(8, 14), 0x4200_0018]);
        board.set_status_exl();
        board.run(5);
        assert_eq!(board.exception(), Exception::AddressLoad as u32, "{model}");
        assert_eq!(board.cpu.core().isa.cp0.epc(), 0x8000_2001, "{model}");
    }
}

#[test]
fn no_store_of_another_master_between_ll_and_sc_is_lost() {
    const EACH: u32 = 20_000;
    let mut board = Board::new();
    board.handler();
    board.program(&[
        lui(4, 0x8000),
        ori(4, 4, 0x2000),
        ori(9, 0, EACH as u16),
        ll(8, 4, 0), // again:
        addiu(8, 8, 1),
        sc(8, 4, 0),
        beq(8, 0, -4),
        nop(),
        addiu(9, 9, -1),
        bne(9, 0, -7),
        nop(),
        addiu(10, 0, 1),
        b(-1),
        nop(),
    ]);
    let space = board.memory.memory_space();
    let other = std::thread::spawn(move || {
        let reader = space.reader();
        for _ in 0..EACH {
            reader.fetch_add::<Be, u32>(0x2000, 1).unwrap();
        }
    });
    while board.reg(10) == 0 {
        board.run(1000);
    }
    other.join().unwrap();
    assert_eq!(board.bytes(0x2000, 4), (2 * EACH).to_be_bytes());
}

#[test]
fn code_that_is_stored_conditionally_runs() {
    let mut board = Board::new();
    board.handler();
    board.program(&[
        lui(4, 0x8000),
        ori(4, 4, 0x1000 + 4 * 8),
        lui(8, 0x240a), // addiu $10, $0, 2
        ori(8, 8, 2),
        b(3),
        nop(),
        ll(9, 4, 0),
        sc(8, 4, 0),
        addiu(10, 0, 1), // at 8: what is stored over
        bne(12, 0, 3),
        addiu(12, 12, 1),
        b(-6),
        nop(),
        b(-1),
        nop(),
    ]);
    board.run(30);
    assert_eq!((board.reg(8), board.reg(10)), (1, 2));
}
