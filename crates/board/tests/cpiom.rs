//! The `cpiom` board: its map, and the SDRAM controller sentence by sentence.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;

use flatview::mtree::{Options, write};
use flatview::{AddressSpace, Be, MemTxError, MemTxResult};
use flatview_board::device::IrqLine;
use flatview_board::{Cause, Machine, MachineConfig, PinDirection, Request};

const REG: u64 = 0x2000_a000;
const CTRL: u64 = REG;
const STATUS: u64 = REG + 0x04;
const VIOL_ADDR: u64 = REG + 0x08;
const VIOL_INFO: u64 = REG + 0x0c;
const ERR_ADDR: u64 = REG + 0x10;
const ERR_INFO: u64 = REG + 0x14;
const INJECT: u64 = REG + 0x18;
const PCODE: u64 = 0x2000_b000;
const PDATA: u64 = 0x2000_c000;
const RAF: u64 = 0x2000_0028;
const PAGE: u64 = 8 << 10;
const LOCK: u32 = 1 << 31;

struct Board {
    machine: Arc<Machine>,
    space: AddressSpace,
}

fn config() -> MachineConfig {
    MachineConfig { start_stopped: true, ..MachineConfig::new("cpiom") }
}

fn board() -> Board {
    let machine = Machine::new(config()).unwrap();
    let space = machine.cpu_space();
    Board { machine, space }
}

impl Board {
    fn get(&self, addr: u64) -> u32 {
        self.space.reader().load::<Be, u32>(addr).unwrap()
    }

    fn set(&self, addr: u64, value: u32) {
        self.space.reader().store::<Be, u32>(addr, value).unwrap();
    }

    /// Sets a page's bit in a table.
    fn protect(&self, table: u64, page: u64) {
        let word = table + page / 32 * 4;
        self.set(word, self.get(word) | 1 << (31 - page % 32));
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        self.space.write(addr, bytes)
    }

    fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.space.read(addr, &mut bytes).unwrap();
        bytes
    }

    fn line(&self, name: &str) -> IrqLine {
        self.machine
            .irq_pins("/machine/unattached/device[1]", PinDirection::Out, Some(name))
            .unwrap()
            .remove(0)
    }

    fn reset(&self) {
        self.machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    }

    fn tree(&self, options: Options) -> String {
        write(self.machine.memory(), options).unwrap().to_string()
    }

    /// Names and ranges of what stands in RAM in the CPU's flat view.
    fn ram_view(&self) -> Vec<(u64, u64, String)> {
        let view = self.space.view().unwrap();
        view.ranges()
            .filter(|range| range.start() < 64 << 20)
            .map(|range| (range.start(), range.last(), range.name().to_owned()))
            .collect()
    }
}

fn access_error(result: Result<(), MemTxError>) -> bool {
    result.is_err_and(|error| error.result().contains(MemTxResult::ACCESS_ERROR))
}

fn decode_error<T>(result: Result<T, MemTxError>) -> bool {
    result.is_err_and(|error| error.result() == MemTxResult::DECODE_ERROR)
}

#[test]
fn every_region_of_the_table_is_at_its_place() {
    let tree = board().tree(Options { owner: true, ..Options::default() });
    let block = tree.split("\n\n").find(|block| block.contains("address-space: memory")).unwrap();
    let lines: Vec<&str> = block.lines().skip_while(|line| line.starts_with("address-space")).collect();
    let device = |n: u32| format!("owner:{{dev path=/machine/unattached/device[{n}]}}");
    let machine = "owner:{obj path=/machine}";
    let expected = [
        format!("0000000000000000-0000000003ffffff (prio 0, ram): cpiom-sdram {}", device(1)),
        format!("0000000020000000-0000000020000fff (prio 0, i/o): cpiom-config {machine}"),
        format!("000000002000000c-0000000020000023 (prio 1, i/o): cpiom-edc-reg2 {}", device(2)),
        format!("0000000020000028-000000002000002b (prio 1, i/o): cpiom-sdram-raf {}", device(1)),
        format!("0000000020001000-0000000020001fff (prio 0, i/o): cpiom-edc-reg1 {}", device(2)),
        format!("0000000020002000-0000000020003fff (prio 0, i/o): cpiom-edc-err {}", device(2)),
        format!("0000000020006000-0000000020006fff (prio 0, i/o): cpiom-timers-reg {}", device(3)),
        format!("0000000020007000-0000000020007fff (prio 0, i/o): cpiom-intc {}", device(4)),
        format!("0000000020008000-0000000020008007 (prio 0, i/o): serial {}", device(5)),
        format!("0000000020008100-0000000020008107 (prio 0, i/o): serial {}", device(6)),
        format!("000000002000a000-000000002000afff (prio 0, i/o): cpiom-sdram-reg {}", device(1)),
        format!("000000002000b000-000000002000bfff (prio 0, i/o): cpiom-sdram-pcode {}", device(1)),
        format!("000000002000c000-000000002000cfff (prio 0, i/o): cpiom-sdram-pdata {}", device(1)),
        format!("00000000fc000000-00000000fc0fffff (prio 0, ram): cpiom-nvm {machine}"),
        format!("00000000ff800000-00000000ffffffff (prio 0, rom): cpiom-flash {machine}"),
    ];
    let ours: Vec<&str> = lines.iter().skip(1).map(|line| line.trim_start()).collect();
    assert_eq!(ours, expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn registers_take_aligned_words_only() {
    let board = board();
    let reader = board.space.reader();
    for base in [REG, PCODE, PDATA, RAF, 0x2000_1000, 0x2000_2000, 0x2000_000c, 0x2000_6000, 0x2000_7000] {
        assert!(reader.load::<Be, u32>(base).is_ok(), "{base:#x}");
        assert!(decode_error(reader.load::<Be, u8>(base)), "{base:#x}");
        assert!(decode_error(reader.load::<Be, u16>(base)), "{base:#x}");
        assert!(decode_error(reader.load::<Be, u64>(base)), "{base:#x}");
        assert!(decode_error(reader.store::<Be, u16>(base + 2, 0)), "{base:#x}");
    }
    for base in [REG, PCODE, PDATA, 0x2000_1000, 0x2000_6000] {
        assert!(decode_error(reader.load::<Be, u32>(base + 2)), "{base:#x}");
    }
}

#[test]
fn registers_and_tables_are_big_endian() {
    let board = board();
    board.write(CTRL, &[0, 0, 0, 6]).unwrap();
    assert_eq!(board.get(CTRL), 6);
    board.write(RAF, &[0xff, 0xff, 0x12, 0x34]).unwrap();
    assert_eq!(board.read(RAF, 4), [0, 0, 0x12, 0x34]);
}

#[test]
fn the_config_page_reads_0_and_ignores_writes() {
    let board = board();
    board.set(0x2000_0100, 0xffff_ffff);
    assert_eq!(board.get(0x2000_0100), 0);
}

#[test]
fn tables_have_1_kib_and_the_rest_reads_0_and_ignores_writes() {
    let board = board();
    for table in [PCODE, PDATA] {
        board.set(table + 0x3fc, 0x1234_5678);
        assert_eq!(board.get(table + 0x3fc), 0x1234_5678);
        for beyond in [0x400, 0xffc] {
            board.set(table + beyond, 0xffff_ffff);
            assert_eq!(board.get(table + beyond), 0);
        }
    }
}

#[test]
fn bit_31_of_word_0_is_page_0_and_bit_0_of_the_last_word_the_last_page() {
    let board = board();
    board.set(CTRL, 1);
    board.set(PDATA, 0x8000_0001);
    board.set(PCODE + 0x3fc, 1);
    let protected: Vec<_> = board
        .ram_view()
        .into_iter()
        .filter(|range| range.2 == "cpiom-sdram-protected")
        .map(|r| (r.0, r.1))
        .collect();
    let last = (64 << 20) - 1;
    assert_eq!(protected, [(0, PAGE - 1), (31 * PAGE, 32 * PAGE - 1), (last + 1 - PAGE, last)]);
}

#[test]
fn without_ctrl0_tables_protect_nothing() {
    let board = board();
    board.set(PCODE, 0xffff_ffff);
    board.set(PDATA, 0xffff_ffff);
    board.write(0x100, b"free").unwrap();
    assert_eq!(board.read(0x100, 4), b"free");
    assert_eq!(board.ram_view().len(), 1);
    assert_eq!(board.get(STATUS), 0);
}

#[test]
fn a_write_to_a_protected_page_changes_nothing_and_is_an_access_error() {
    let board = board();
    board.write(0x100, b"kept").unwrap();
    board.protect(PDATA, 0);
    board.set(CTRL, 1);
    assert!(access_error(board.write(0x100, b"lost")));
    let reader = board.space.reader();
    assert!(access_error(reader.store::<Be, u32>(0x100, 0)));
    assert!(access_error(reader.cpu_store::<Be, u32>(0x100, 0)));
    assert!(access_error(reader.cpu_store::<Be, u16>(0x101, 0)));
    assert_eq!(board.read(0x100, 4), b"kept");
    board.write(PAGE, b"next").unwrap();
    assert_eq!(board.read(PAGE, 4), b"next");
}

#[test]
fn dma_is_subject_too_whatever_its_attributes() {
    let board = board();
    board.protect(PCODE, 3);
    board.set(CTRL, 1);
    let mut attrs = flatview::MemTxAttrs::default();
    attrs.unspecified = false;
    attrs.requester_id = 7;
    let reader = board.machine.memory().memory_space().reader();
    assert!(access_error(reader.port(attrs).write(3 * PAGE, &[1])));
    assert_eq!(board.get(VIOL_ADDR), (3 * PAGE) as u32);
}

#[test]
fn reads_of_a_protected_page_are_plain_ram() {
    let board = board();
    board.write(0x2000, b"read me").unwrap();
    board.protect(PCODE, 1);
    board.set(CTRL, 1);
    assert_eq!(board.read(0x2000, 7), b"read me");
    let view = board.space.view().unwrap();
    let range = view.lookup(0x2000).unwrap();
    assert!(range.romd() && range.name() == "cpiom-sdram-protected");
    assert_eq!(board.get(STATUS), 0);
}

#[test]
fn debug_writes_and_loaders_are_not_subject() {
    let board = board();
    board.protect(PCODE, 0);
    board.protect(PDATA, 0);
    board.set(CTRL, 1);
    board.set(INJECT, 0x100);
    board.space.poke(0xfc, b"breakpoint-here!").unwrap();
    let mut seen = [0; 16];
    board.space.peek(0xfc, &mut seen).unwrap();
    assert_eq!(&seen, b"breakpoint-here!");
    assert_eq!(board.get(STATUS), 0, "neither a violation nor the injected error");
    assert_eq!(board.get(INJECT), 0x100, "a debugger's look does not disarm");
}

#[test]
fn a_violation_latches_address_size_and_which_table() {
    for (tables, bits) in [(vec![PCODE], 0b011), (vec![PDATA], 0b101), (vec![PCODE, PDATA], 0b111)] {
        for size in [1, 2, 4, 8] {
            let board = board();
            for table in &tables {
                board.protect(*table, 2);
            }
            board.set(CTRL, 1);
            let at = 2 * PAGE + 0x40;
            assert!(access_error(board.write(at, &vec![0xff; size])));
            assert_eq!(board.get(STATUS), 1);
            assert_eq!(board.get(VIOL_ADDR), at as u32);
            assert_eq!(board.get(VIOL_INFO), bits | (size as u32) << 16, "{size} bytes");
        }
    }
}

#[test]
fn the_first_violation_stays_until_status0_is_cleared() {
    let board = board();
    board.protect(PDATA, 0);
    board.protect(PCODE, 1);
    board.set(CTRL, 1);
    assert!(board.write(0x10, &[0; 4]).is_err());
    assert!(board.write(PAGE + 8, &[0; 2]).is_err());
    assert_eq!((board.get(VIOL_ADDR), board.get(VIOL_INFO)), (0x10, 0x4_0005));
    board.set(STATUS, 2);
    assert_eq!(board.get(STATUS), 1, "writing 0 to a bit clears nothing");
    board.set(STATUS, 1);
    assert_eq!(board.get(STATUS), 0);
    assert!(board.write(PAGE + 8, &[0; 2]).is_err());
    assert_eq!((board.get(VIOL_ADDR), board.get(VIOL_INFO)), ((PAGE + 8) as u32, 0x2_0003));
}

#[test]
fn a_long_write_lands_in_the_unprotected_pages_and_latches_the_first_protected_one() {
    let board = board();
    board.protect(PDATA, 1);
    board.protect(PCODE, 3);
    board.set(CTRL, 1);
    let data: Vec<u8> = (0..5 * PAGE).map(|n| (n % 251) as u8 + 1).collect();
    assert!(access_error(board.write(0, &data)));
    let seen = board.read(0, data.len());
    for (n, (written, seen)) in data.iter().zip(&seen).enumerate() {
        let protected = matches!(n as u64 / PAGE, 1 | 3);
        assert_eq!(*seen, if protected { 0 } else { *written }, "byte {n:#x}");
    }
    assert_eq!(board.get(VIOL_ADDR), PAGE as u32);
    assert_eq!(board.get(VIOL_INFO) & 0xffff, 0b101);
}

#[test]
fn a_misaligned_store_across_a_page_boundary_writes_only_its_unprotected_part() {
    let board = board();
    board.protect(PDATA, 1);
    board.set(CTRL, 1);
    assert!(access_error(board.write(PAGE - 2, &[1, 2, 3, 4])));
    assert_eq!(board.read(PAGE - 2, 4), [1, 2, 0, 0]);
    assert_eq!(board.get(VIOL_ADDR), PAGE as u32);
    assert!(board.space.reader().cpu_store::<Be, u32>(PAGE - 2, 0x0506_0708).is_err());
    assert_eq!(board.read(PAGE, 2), [0, 0]);
}

#[test]
fn tables_can_be_changed_while_enabled_and_overlays_follow() {
    let board = board();
    board.set(CTRL, 1);
    for page in [10, 12, 11, 9] {
        board.protect(PDATA, page);
    }
    let protected = |board: &Board| -> Vec<(u64, u64)> {
        let ranges = board.ram_view().into_iter().filter(|range| range.2 == "cpiom-sdram-protected");
        ranges.map(|(start, last, _)| (start / PAGE, last / PAGE)).collect()
    };
    assert_eq!(protected(&board), [(9, 12)], "neighbours are one overlay");
    board.protect(PCODE, 11);
    assert_eq!(protected(&board), [(9, 12)]);
    board.set(PDATA, 0);
    assert_eq!(protected(&board), [(11, 11)]);
    board.write(10 * PAGE, &[1]).unwrap();
    assert!(board.write(11 * PAGE, &[1]).is_err());
    board.set(CTRL, 0);
    assert_eq!(board.ram_view().len(), 1);
    board.write(11 * PAGE, &[1]).unwrap();
    board.set(CTRL, 1);
    assert_eq!(protected(&board), [(11, 11)]);
}

#[test]
fn every_page_can_be_protected_alone_and_all_together() {
    let board = board();
    for word in 0..256 {
        board.set(PCODE + 4 * word, 0xaaaa_aaaa);
    }
    board.set(CTRL, 1);
    assert_eq!(board.ram_view().len(), 8192);
    assert!(board.write(8190 * PAGE, &[1]).is_err());
    board.write(8191 * PAGE, &[1]).unwrap();
    for word in 0..256 {
        board.set(PDATA + 4 * word, 0x5555_5555);
    }
    assert_eq!(board.ram_view(), [(0, (64 << 20) - 1, "cpiom-sdram-protected".to_owned())]);
}

#[test]
fn overlays_follow_random_tables_word_by_word() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let board = board();
    board.set(CTRL, 1);
    let mut words = [0_u32; 256];
    for step in 0..3000 {
        // Few words, so that runs meet, over a boundary of which they become one, two or none.
        let word = random.usize(0..8) + if random.u8(0..20) == 0 { 248 } else { 0 };
        let value = match random.u8(0..6) {
            0 => 0,
            1 | 2 => u32::MAX,
            3 => u32::MAX << random.u32(0..32),
            4 => u32::MAX >> random.u32(0..32),
            _ => random.u32(..),
        };
        if random.u8(0..50) == 0 {
            board.set(CTRL, 0);
            assert_eq!(board.ram_view().len(), 1);
        }
        board.set(PDATA + 4 * word as u64, value);
        board.set(CTRL, 1);
        words[word] = value;
        let mut wanted: Vec<(u64, u64)> = Vec::new();
        for page in (0..8192_u64).filter(|page| words[(page / 32) as usize] >> (31 - page % 32) & 1 == 1) {
            match wanted.last_mut().filter(|(_, last)| *last + 1 == page) {
                Some((_, last)) => *last = page,
                None => wanted.push((page, page)),
            }
        }
        let seen: Vec<(u64, u64)> = (board.ram_view().into_iter())
            .filter(|range| range.2 == "cpiom-sdram-protected")
            .map(|(start, last, _)| (start / PAGE, last / PAGE))
            .collect();
        assert_eq!(seen, wanted, "seed {seed} step {step}");
    }
}

#[test]
fn a_change_of_protection_costs_what_it_touches() {
    /// The quickest of many changes of one word, in a part of the table that is empty.
    fn quickest(board: &Board) -> std::time::Duration {
        let change = |n: u32| {
            let began = std::time::Instant::now();
            board.set(PDATA, n % 2);
            began.elapsed()
        };
        (0..400).map(change).min().unwrap()
    }
    let board = board();
    board.set(CTRL, 1);
    let few = quickest(&board);
    for word in 8..256 {
        board.set(PDATA + 4 * word, 0x5555_5555);
    }
    assert!(board.ram_view().len() > 7900, "a protected page, one that is not, and so on");
    let many = quickest(&board);
    // Looking at 4,000 overlays at each change would make it a hundred times.
    assert!(many < few * 8, "{few:?} with nothing else protected, {many:?} with 3,968 runs of pages");
}

#[test]
fn viol_is_status0_and_ctrl1_and_is_a_level() {
    let board = board();
    let viol = board.line("viol");
    board.protect(PDATA, 0);
    board.set(CTRL, 1);
    assert!(board.write(0, &[0]).is_err());
    assert!(!viol.level(), "not enabled");
    board.set(CTRL, 0b011);
    assert!(viol.level(), "enabling shows what is latched");
    board.set(CTRL, 0b001);
    assert!(!viol.level());
    board.set(CTRL, 0b011);
    board.set(STATUS, 1);
    assert!(!viol.level());
    assert!(board.write(0, &[0]).is_err());
    assert!(viol.level());
    assert!(!board.line("err").level());
}

#[test]
fn err_is_status1_and_ctrl2_and_is_a_level() {
    let board = board();
    let err = board.line("err");
    board.set(RAF, 0);
    assert!(!err.level(), "not enabled");
    board.set(CTRL, 0b100);
    assert!(err.level());
    board.set(RAF, 1);
    assert!(err.level(), "stays until it is cleared");
    board.set(STATUS, 2);
    assert!(!err.level());
    assert!(!board.line("viol").level());
}

#[test]
fn once_locked_ctrl_is_read_only_until_reset_and_the_tables_stay_writable() {
    let board = board();
    board.set(CTRL, LOCK | 1);
    board.set(CTRL, 0);
    assert_eq!(board.get(CTRL), LOCK | 1);
    board.protect(PDATA, 5);
    assert!(board.write(5 * PAGE, &[1]).is_err());
    board.set(PDATA, 0);
    board.write(5 * PAGE, &[1]).unwrap();
    board.set(STATUS, 3);
    assert_eq!(board.get(STATUS), 0, "other registers are not locked");
    board.reset();
    board.set(CTRL, 2);
    assert_eq!(board.get(CTRL), 2);
}

#[test]
fn read_only_registers_and_undefined_bits_do_not_take_writes() {
    let board = board();
    board.set(CTRL, 0x7fff_fff8);
    assert_eq!(board.get(CTRL), 0);
    for register in [VIOL_ADDR, VIOL_INFO, ERR_ADDR, ERR_INFO, REG + 0x1c, REG + 0xffc] {
        board.set(register, 0xffff_ffff);
        assert_eq!(board.get(register), 0, "{register:#x}");
    }
}

#[test]
fn the_next_read_that_covers_the_armed_word_is_an_error_once() {
    for (offset, len) in
        [(0, 4), (1, 1), (2, 2), (-4, 8), (-4, 5), (0, 8), (3, 1), (-0x2004, 0x4000), (-1, 3)]
    {
        let board = board();
        board.write(0x4000, &[7; 16]).unwrap();
        board.set(INJECT, 0x4004);
        let at = 0x4004_u64.wrapping_add_signed(offset);
        let mut bytes = vec![0; len];
        assert!(access_error(board.space.read(at, &mut bytes)), "{len} bytes at {offset}");
        assert_eq!((board.get(STATUS), board.get(ERR_ADDR), board.get(ERR_INFO)), (2, 0x4004, 1));
        assert_eq!(board.get(INJECT), 0xffff_ffff, "disarmed");
        board.space.read(at, &mut bytes).unwrap();
        assert_eq!(board.ram_view().len(), 1);
    }
}

#[test]
fn exact_and_cpu_reads_of_every_size_meet_the_injected_error() {
    macro_rules! check {
        ($access:ident, $type:ty, $at:expr) => {
            let board = board();
            board.set(INJECT, 0x4004);
            let read = board.space.reader().$access::<Be, $type>($at);
            assert!(
                read.is_err_and(|error| error.result().contains(MemTxResult::ACCESS_ERROR)),
                "{} {}",
                stringify!($access $type),
                $at
            );
            assert_eq!(board.get(STATUS), 2);
        };
    }
    check!(load, u8, 0x4006);
    check!(load, u16, 0x4004);
    check!(load, u32, 0x4004);
    check!(load, u64, 0x4000);
    check!(cpu_load, u8, 0x4007);
    check!(cpu_load, u32, 0x4004);
    check!(cpu_load, u32, 0x4002);
    check!(cpu_load, u64, 0x4000);
    check!(cpu_load, u64, 0x4001);
}

#[test]
fn reads_beside_the_armed_word_are_plain() {
    let board = board();
    board.write(0x4000, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
    board.set(INJECT, 0x4004);
    assert_eq!(board.read(0x4000, 4), [1, 2, 3, 4]);
    assert_eq!(board.read(0x4001, 3), [2, 3, 4]);
    assert_eq!(board.read(0x4008, 4), [9, 10, 11, 12]);
    assert_eq!(board.space.reader().load::<Be, u32>(0x4000).unwrap(), 0x0102_0304);
    assert_eq!(board.get(STATUS), 0);
    assert_eq!(board.get(INJECT), 0x4004);
    board.write(0x4000, &[0xa, 0xb, 0xc, 0xd]).unwrap();
    assert_eq!(board.read(0x4000, 4), [0xa, 0xb, 0xc, 0xd]);
    assert_eq!(board.get(INJECT), 0x4004, "writing beside it does not disarm");
}

#[test]
fn writing_the_armed_word_disarms_and_the_write_lands() {
    for (at, bytes) in
        [(0x4004, vec![9; 4]), (0x4005, vec![9]), (0x4000, vec![9; 8]), (0x3000, vec![9; 0x2000])]
    {
        let board = board();
        board.set(INJECT, 0x4004);
        board.write(at, &bytes).unwrap();
        assert_eq!(board.read(at, bytes.len()), bytes);
        assert_eq!((board.get(STATUS), board.get(INJECT)), (0, 0xffff_ffff));
    }
}

#[test]
fn all_ones_disarm_and_a_second_address_replaces_the_first() {
    let board = board();
    board.set(INJECT, 0x4004);
    board.set(INJECT, 0xffff_ffff);
    board.read(0x4004, 4);
    board.set(INJECT, 0x4004);
    board.set(INJECT, 0x5003);
    assert_eq!(board.get(INJECT), 0x5000, "the address is that of a word");
    board.read(0x4004, 4);
    assert!(board.space.read(0x5000, &mut [0; 4]).is_err());
    board.set(INJECT, 0x0500_0000);
    assert_eq!(board.ram_view().len(), 1, "beyond RAM nothing is armed");
}

#[test]
fn an_armed_word_in_a_protected_page_is_protected_and_stays_armed() {
    let board = board();
    board.write(0x4000, &[1; 8]).unwrap();
    board.protect(PCODE, 2);
    board.set(CTRL, 1);
    board.set(INJECT, 0x4004);
    for at in [0x4000, 0x4004] {
        assert!(access_error(board.write(at, &[2; 4])));
    }
    assert_eq!(board.get(VIOL_ADDR), 0x4000);
    assert_eq!(board.get(INJECT), 0x4004, "a write that changes nothing does not disarm");
    assert!(board.space.read(0x4004, &mut [0; 4]).is_err());
    assert_eq!(board.read(0x4000, 8), [1; 8]);
    assert!(board.write(0x4004, &[2]).is_err(), "and the page is protected as before");
}

#[test]
fn a_zero_refresh_divisor_keeps_its_error_whatever_is_cleared() {
    let board = board();
    assert_eq!(board.get(RAF), 0x0186);
    board.set(RAF, 0);
    assert_eq!((board.get(STATUS), board.get(ERR_INFO)), (2, 2));
    board.set(STATUS, 3);
    assert_eq!((board.get(STATUS), board.get(ERR_INFO)), (2, 2));
    board.set(INJECT, 0x40);
    assert!(board.space.read(0x40, &mut [0]).is_err());
    assert_eq!((board.get(ERR_INFO), board.get(ERR_ADDR)), (3, 0x40));
    board.set(STATUS, 2);
    assert_eq!((board.get(STATUS), board.get(ERR_INFO)), (2, 2), "the injected one is cleared");
    board.set(RAF, 0x186);
    assert_eq!(board.get(STATUS), 2, "still latched");
    board.set(STATUS, 2);
    assert_eq!((board.get(STATUS), board.get(ERR_INFO)), (0, 0));
}

#[test]
fn info_qtree_shows_the_refresh_period_at_16_6_mhz() {
    let board = board();
    assert!(board.machine.qtree().to_string().contains("refresh-period = \"23.494 us\""));
    board.set(RAF, 0xffff);
    assert!(board.machine.qtree().to_string().contains("refresh-period = \"3947.892 us\""));
    board.set(RAF, 0);
    assert!(board.machine.qtree().to_string().contains("none"));
}

#[test]
fn a_system_reset_clears_registers_and_tables_and_keeps_ram() {
    let board = board();
    board.write(0x4000, b"contents").unwrap();
    board.protect(PCODE, 2);
    board.protect(PDATA, 700);
    board.set(CTRL, LOCK | 7);
    board.set(INJECT, 0x10);
    board.set(RAF, 0);
    assert!(board.write(0x4000, &[0]).is_err());
    assert!(board.line("viol").level() && board.line("err").level());
    board.reset();
    for register in [CTRL, STATUS, VIOL_ADDR, VIOL_INFO, ERR_ADDR, ERR_INFO, INJECT] {
        assert_eq!(board.get(register), 0, "{register:#x}");
    }
    assert_eq!(board.get(RAF), 0x0186);
    for word in 0..256 {
        assert_eq!((board.get(PCODE + 4 * word), board.get(PDATA + 4 * word)), (0, 0));
    }
    assert!(!board.line("viol").level() && !board.line("err").level());
    assert_eq!(board.read(0x4000, 8), b"contents");
    assert_eq!(board.ram_view().len(), 1);
    board.read(0x10, 4);
    assert_eq!(board.get(STATUS), 0, "nothing is armed");
}

#[test]
fn overlays_are_seen_in_info_mtree_and_gone_with_protection() {
    let board = board();
    let plain = board.tree(Options { flat: true, ..Options::default() });
    board.protect(PDATA, 1);
    board.set(CTRL, 1);
    let shown = board.tree(Options { flat: true, ..Options::default() });
    assert!(
        shown.contains(
            "0000000000002000-0000000000003fff (prio 0, romd): cpiom-sdram-protected @0000000000002000"
        ),
        "{shown}"
    );
    assert!(
        shown.contains("0000000000004000-0000000003ffffff (prio 0, ram): cpiom-sdram @0000000000004000"),
        "{shown}"
    );
    board.set(CTRL, 0);
    assert_eq!(board.tree(Options { flat: true, ..Options::default() }), plain);
}

#[test]
fn threads_that_write_and_protect_leave_the_map_as_the_registers_say() {
    let board = board();
    board.set(CTRL, 1);
    std::thread::scope(|scope| {
        for table in [PCODE, PDATA] {
            let board = &board;
            scope.spawn(move || {
                for n in 0..300_u32 {
                    board.set(table + u64::from(n % 8) * 4, n.wrapping_mul(0x9e37_79b9));
                }
            });
        }
        scope.spawn(|| {
            for n in 0..2000_u64 {
                let _ = board.write(n % 256 * PAGE, &[1; 16]);
            }
        });
    });
    let mut wanted = Vec::new();
    for page in 0..256_u64 {
        let word = board.get(PCODE + page / 32 * 4) | board.get(PDATA + page / 32 * 4);
        wanted.push(word >> (31 - page % 32) & 1 != 0);
    }
    for (page, protected) in wanted.into_iter().enumerate() {
        assert_eq!(board.write(page as u64 * PAGE, &[0]).is_err(), protected, "page {page}");
    }
}

#[test]
fn every_device_is_modelled() {
    let machine = board().machine;
    let qtree = machine.qtree().to_string();
    assert!(!qtree.contains("not modelled"), "{qtree}");
    let devices: Vec<&str> = qtree.lines().filter_map(|line| line.strip_prefix("  dev: ")).collect();
    let expected = ["serial-mm", "serial-mm", "cpiom-intc", "cpiom-timers", "cpiom-edc", "cpiom-sdram"];
    assert_eq!(devices, expected.map(|kind| format!("{kind}, id \"\"")));
    assert!(qtree.contains("dev: cpiom-timers, id \"\"\n    gpio-out \"tick\" 1\n    gpio-out \"window\" 1\n    frequency = 16600000 (0xfd4bc0)\n    running = false\n    mmio 0000000020006000/0000000000001000\n"), "{qtree}");
    assert!(qtree.contains("mmio 000000002000000c/0000000000000018\n    mmio 0000000020001000/0000000000001000\n    mmio 0000000020002000/0000000000002000\n"), "{qtree}");
}

/// Registers of the interrupt controller's banks.
const MCP_BANK: u64 = 0x2000_7200;
const ITN_BANK: u64 = 0x2000_7300;

impl Board {
    /// The lines of a bank that are pending, all being level lines.
    fn pending(&self, bank: u64) -> u32 {
        self.set(bank + 0x0c, 0xffff_ffff);
        self.get(bank)
    }

    fn line_of(&self, device: u32, name: &str) -> IrqLine {
        let path = format!("/machine/unattached/device[{device}]");
        self.machine.irq_pins(&path, PinDirection::Out, Some(name)).unwrap().remove(0)
    }
}

#[test]
fn every_device_interrupts_on_its_line_and_on_no_other() {
    let board = board();
    let wires = [
        (3, "tick", ITN_BANK, 0),
        (3, "window", ITN_BANK, 1),
        (2, "irq", ITN_BANK, 5),
        (1, "err", ITN_BANK, 6),
        (5, "sysbus-irq", ITN_BANK, 8),
        (6, "sysbus-irq", ITN_BANK, 9),
        (1, "viol", MCP_BANK, 0),
    ];
    for (device, name, bank, number) in wires {
        let line = board.line_of(device, name);
        for other in [0x2000_7100, MCP_BANK, ITN_BANK] {
            assert_eq!(board.pending(other), 0);
        }
        line.raise();
        for other in [0x2000_7100, MCP_BANK, ITN_BANK] {
            let expected = if other == bank { 1 << number } else { 0 };
            assert_eq!(board.pending(other), expected, "{name} of device {device} in {other:#x}");
        }
        line.lower();
    }
}

#[test]
fn the_controllers_outputs_are_the_cpus_soft_reset_machine_check_and_external_interrupt() {
    let board = board();
    let cpu = board.machine.irq_pins("/machine/unattached/device[0]", PinDirection::In, None).unwrap();
    let intc = "/machine/unattached/device[4]";
    for (name, bank, input) in [("rst", 0x2000_7100, 1), ("mcp", MCP_BANK, 3), ("itn", ITN_BANK, 5)] {
        let lines = board.machine.irq_pins(intc, PinDirection::In, Some(name)).unwrap();
        assert_eq!(lines.len(), 32);
        board.set(bank + 4, 1 << 31);
        lines[31].pulse();
        let high: Vec<usize> = (0..8).filter(|n| cpu[*n].level()).collect();
        assert_eq!(high, [input]);
        board.set(bank, 1 << 31);
        assert!(!cpu[input].level());
    }
}

#[test]
fn a_store_to_a_protected_page_is_a_machine_check_interrupt_until_it_is_cleared() {
    let board = board();
    let cpu = board.machine.irq_pins("/machine/unattached/device[0]", PinDirection::In, None).unwrap();
    board.set(MCP_BANK + 0x0c, 1);
    board.set(MCP_BANK + 0x04, 1);
    board.protect(PDATA, 4);
    board.set(CTRL, 0b011);
    assert!(access_error(board.write(4 * PAGE, &[1; 4])));
    assert!(cpu[3].level());
    assert_eq!(board.get(MCP_BANK + 0x30), 0);
    board.set(STATUS, 1);
    assert!(!cpu[3].level());
}

#[test]
fn a_serial_ports_interrupt_reaches_the_cpu() {
    let board = board();
    let cpu = board.machine.irq_pins("/machine/unattached/device[0]", PinDirection::In, None).unwrap();
    board.set(ITN_BANK + 0x0c, 0x300);
    board.set(ITN_BANK + 0x04, 0x300);
    // Interrupt enable register: transmitter empty.
    board.write(0x2000_8101, &[2]).unwrap();
    assert!(cpu[5].level());
    assert_eq!(board.get(ITN_BANK + 0x30), 9);
}

#[test]
fn ticks_interrupt_the_cpu_at_their_time() {
    let machine = Machine::new(MachineConfig { qtest: true, ..config() }).unwrap();
    let board = Board { space: machine.cpu_space(), machine };
    let cpu = board.machine.irq_pins("/machine/unattached/device[0]", PinDirection::In, None).unwrap();
    board.set(ITN_BANK + 0x0c, 1);
    board.set(ITN_BANK + 0x04, 1);
    board.set(0x2000_6004, 16_600);
    board.set(0x2000_6008, 5);
    board.set(0x2000_6000, 3);
    board.machine.clock().step(Some(4_999_999)).unwrap();
    assert!(!cpu[5].level());
    board.machine.clock().step(Some(1)).unwrap();
    assert!(cpu[5].level());
    board.reset();
    assert!(!cpu[5].level());
    board.machine.clock().step(Some(100_000_000)).unwrap();
    assert!(!cpu[5].level(), "a reset stops the timers");
}

#[test]
fn the_nvm_is_kept_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nvm");
    let config = || MachineConfig { nvm_file: Some(path.clone()), ..config() };
    Machine::new(config()).unwrap().cpu_space().write(0xfc00_0010, b"kept").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    let mut bytes = [0; 4];
    Machine::new(config()).unwrap().cpu_space().read(0xfc00_0010, &mut bytes).unwrap();
    assert_eq!(&bytes, b"kept");
    std::fs::write(&path, vec![0; (1 << 20) + 1]).unwrap();
    let error = Machine::new(config()).unwrap_err().to_string();
    assert!(error.contains("1048577 bytes"), "{error}");
}

#[test]
fn firmware_is_in_flash_and_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("firmware");
    std::fs::write(&path, b"flash").unwrap();
    let machine = Machine::new(MachineConfig { bios: Some(path), ..config() }).unwrap();
    let space = machine.cpu_space();
    let mut bytes = [0; 5];
    space.read(0xff80_0000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"flash");
    assert!(space.write(0xff80_0000, &[0]).is_err());
}

#[test]
fn ram_of_another_size_is_refused() {
    let error =
        Machine::new(MachineConfig { ram_size: Some(128 << 20), ..config() }).unwrap_err().to_string();
    assert!(error.contains("64 MiB"), "{error}");
    Machine::new(MachineConfig { ram_size: Some(64 << 20), ..config() }).unwrap();
}
