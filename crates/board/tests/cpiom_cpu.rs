//! What the `cpiom` board does to its CPU: reset, machine checks, interrupts, time. The programs are a few instructions in
//! flash, at the vectors.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use flatview_board::device::IrqLine;
use flatview_board::device::chardev::MemoryBackend;
use flatview_board::{Machine, MachineConfig, PinDirection, SerialConfig};

/// Where the vectors are in flash while MSR[IP] is set.
const VECTORS: usize = 0x0070_0000;
const UART: u32 = 0x2000_8000;
const INTC: u32 = 0x2000_7000;
const SDRAM: u32 = 0x2000_a000;
/// MSR[ME] and MSR[IP], and MSR[EE].
const ME: u32 = 0x1040;
const EE: u32 = 0x8000;

/// Code in flash: at which vector, which instructions.
type Code = Vec<(usize, Vec<u32>)>;

const fn with(opcode: u32, d: u32, a: u32, immediate: u32) -> u32 {
    opcode << 26 | d << 21 | a << 16 | immediate & 0xffff
}

/// `b .`
const STAY: u32 = 0x4800_0000;
const ISYNC: u32 = 0x4c00_012c;

/// Loads a register with a word.
fn load(register: u32, value: u32) -> [u32; 2] {
    [with(15, register, 0, value >> 16), with(24, register, register, value)]
}

/// Stores a word.
fn store(address: u32, value: u32) -> Vec<u32> {
    [load(30, address), load(31, value)].concat().into_iter().chain([with(36, 31, 30, 0)]).collect()
}

/// Sends a character, whose sender is always ready.
fn print(character: u8) -> Vec<u32> {
    let value = load(31, character.into());
    [load(30, UART), value].concat().into_iter().chain([with(38, 31, 30, 0)]).collect()
}

/// `mtmsr`
fn set_msr(value: u32) -> Vec<u32> {
    load(31, value).into_iter().chain([31 << 26 | 31 << 21 | 146 << 1, ISYNC]).collect()
}

/// `mtspr HID0`
fn set_hid0(value: u32) -> Vec<u32> {
    // The number 1008 with its halves swapped.
    load(31, value)
        .into_iter()
        .chain([31 << 26 | 31 << 21 | 0x10 << 16 | 0x1f << 11 | 467 << 1, ISYNC])
        .collect()
}

/// `lwz` and `stw` at an address.
fn touch(opcode: u32, address: u32) -> Vec<u32> {
    load(30, address).into_iter().chain([with(opcode, 31, 30, 0)]).collect()
}

const LWZ: u32 = 32;
const STW: u32 = 36;

struct Board {
    machine: Arc<Machine>,
    serial: Arc<MemoryBackend>,
    seen: String,
}

fn board(code: Code) -> Board {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flash");
    let mut flash = vec![0; VECTORS + 0x1500];
    for (vector, words) in code {
        for (n, word) in words.into_iter().enumerate() {
            let at = VECTORS + vector + 4 * n;
            flash.splice(at..at + 4, word.to_be_bytes());
        }
    }
    std::fs::write(&path, flash).unwrap();
    let serial = MemoryBackend::new("serial0");
    let serials = vec![SerialConfig::Backend(serial.clone())];
    let machine =
        Machine::new(MachineConfig { bios: Some(path), serials, ..MachineConfig::new("cpiom") }).unwrap();
    Board { machine, serial, seen: String::new() }
}

impl Board {
    /// Waits until this was sent, all in all.
    fn wait_for(&mut self, text: &str) {
        let began = Instant::now();
        while self.seen != text {
            let registers = || self.machine.registers();
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "'{}' and not '{text}'\n{:?}",
                self.seen,
                registers()
            );
            std::thread::sleep(Duration::from_millis(2));
            self.seen.push_str(&String::from_utf8(self.serial.take()).unwrap());
        }
    }

    fn input(&self, bank: &str, line: usize) -> IrqLine {
        let path = "/machine/unattached/device[4]";
        self.machine.irq_pins(path, PinDirection::In, Some(bank)).unwrap().remove(line)
    }
}

#[test]
fn it_begins_at_the_reset_vector_in_flash() {
    board(vec![(0x100, [print(b'R'), vec![STAY]].concat())]).wait_for("R");
}

#[test]
fn an_access_that_nothing_takes_is_a_machine_check() {
    for access in [touch(LWZ, 0x3000_0000), touch(STW, 0x3000_0000)] {
        let start = [set_msr(ME), print(b'a'), access, print(b'!'), vec![STAY]].concat();
        let check = [print(b'M'), vec![STAY]].concat();
        board(vec![(0x100, start), (0x200, check)]).wait_for("aM");
    }
}

#[test]
fn a_store_to_the_flash_is_lost_and_no_error() {
    let start = [set_msr(ME), touch(STW, 0xff80_0000), print(b'a'), vec![STAY]].concat();
    board(vec![(0x100, start), (0x200, [print(b'M'), vec![STAY]].concat())]).wait_for("a");
}

#[test]
fn a_register_that_is_not_read_as_a_word_is_a_machine_check() {
    const LBZ: u32 = 34;
    let start =
        [set_msr(ME), touch(LWZ, INTC), print(b'a'), touch(LBZ, INTC), print(b'!'), vec![STAY]].concat();
    board(vec![(0x100, start), (0x200, [print(b'M'), vec![STAY]].concat())]).wait_for("aM");
}

#[test]
fn a_store_to_a_protected_page_is_a_machine_check_and_changes_nothing() {
    let start = [
        store(0x4000, 0x1234_5678),
        store(SDRAM + 0x2000, 1 << 29),
        store(SDRAM, 1),
        set_msr(ME),
        store(0x4000, 0),
        print(b'!'),
        vec![STAY],
    ];
    let mut board = board(vec![(0x100, start.concat()), (0x200, [print(b'M'), vec![STAY]].concat())]);
    board.wait_for("M");
    let mut bytes = [0; 4];
    board.machine.cpu_space().read(0x4000, &mut bytes).unwrap();
    assert_eq!(bytes, [0x12, 0x34, 0x56, 0x78]);
    board.machine.cpu_space().read(u64::from(SDRAM) + 8, &mut bytes).unwrap();
    assert_eq!(u32::from_be_bytes(bytes), 0x4000);
}

#[test]
fn the_bank_rst_is_the_soft_reset() {
    let start = [store(INTC + 0x100, 2), store(INTC + 0x104, 2), print(b'R'), vec![STAY]].concat();
    let mut board = board(vec![(0x100, start)]);
    board.wait_for("R");
    board.input("rst", 0).pulse();
    board.input("rst", 1).pulse();
    board.wait_for("RR");
    board.input("rst", 1).pulse();
    board.wait_for("RRR");
}

#[test]
fn the_bank_mcp_is_the_machine_check_pin_which_hid0_lets_through() {
    let start = [set_hid0(1 << 31), set_msr(ME), store(INTC + 0x204, 4), print(b'R'), vec![STAY]].concat();
    let mut board = board(vec![(0x100, start), (0x200, [print(b'M'), vec![STAY]].concat())]);
    board.wait_for("R");
    board.input("mcp", 2).raise();
    board.wait_for("RM");
}

#[test]
fn the_bank_itn_is_the_external_interrupt_and_ticks_come_through_it() {
    let start = [
        store(0x2000_6004, 16_600),
        store(0x2000_6008, 1),
        store(INTC + 0x30c, 1),
        store(INTC + 0x304, 1),
        store(0x2000_6000, 3),
        set_msr(ME | EE),
        vec![STAY],
    ];
    // Acknowledges the tick, and goes on (rfi).
    let tick = [print(b't'), store(0x2000_6010, 1), vec![0x4c00_0064]].concat();
    let mut board = board(vec![(0x100, start.concat()), (0x500, tick)]);
    let began = Instant::now();
    while board.seen.len() < 5 {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", board.machine.registers());
        board.seen.push_str(&String::from_utf8(board.serial.take()).unwrap());
    }
    assert!(board.seen.bytes().all(|byte| byte == b't'), "{}", board.seen);
    assert!(began.elapsed() < Duration::from_secs(10));
}
