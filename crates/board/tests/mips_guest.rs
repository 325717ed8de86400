//! What guests do on the `mips` board that they should not, and what becomes of it: hand-made programs that jump where there
//! is no code, write their own code, fault while they fault, and reset the machine again and again. The manual's exceptions
//! come of it, and the host takes no harm.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail loudly")]

#[path = "../../cpu/tests/support/asm.rs"]
mod asm;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flatview::{Be, RamBlock, Reader, Region};
use flatview_board::{Cause, EventKind, Machine, MachineConfig, Request, RequestError, RunState};
use tempfile::TempDir;

use asm::*;

const LIMIT: Duration = Duration::from_secs(20);

/// Where programs stand and begin.
const CODE: u32 = 0x8010_0000;
/// Where the handler notes exceptions: Cause, EPC and BadVAddr of each.
const NOTES: u32 = 0x8020_0000;
/// A word for results.
const RESULT: u32 = 0x8030_0000;
/// Behind RAM of 128 MiB.
const HOLE: u32 = 0xa800_0000;
const RESET: u32 = 0xbfbf_0000;
const FLASH: u32 = 0xbfc0_0000;

// Registers that programs use.
const T0: u32 = 8;
const T1: u32 = 9;
const T2: u32 = 10;
/// Where the handler returns to.
const BACK: u32 = 22;
/// Where the next note goes.
const NOTE: u32 = 23;
const K0: u32 = 26;
// System registers.
const BAD_VADDR: u32 = 8;
const STATUS: u32 = 12;
const CAUSE: u32 = 13;
const EPC: u32 = 14;

// Codes of exceptions in Cause.
const TLB_LOAD: u32 = 2;
const ADDRESS_LOAD: u32 = 4;
const ADDRESS_STORE: u32 = 5;
const BUS_FETCH: u32 = 6;
const BUS_DATA: u32 = 7;
const RESERVED: u32 = 10;

fn physical(addr: u32) -> u64 {
    (addr & 0x1fff_ffff).into()
}

/// Code as it is written.
struct Asm {
    at: u32,
    words: Vec<u32>,
}

impl Asm {
    fn at(at: u32) -> Self {
        Self { at, words: Vec::new() }
    }

    /// The address of the next instruction.
    fn here(&self) -> u32 {
        self.at + 4 * self.words.len() as u32
    }

    fn put(&mut self, words: impl IntoIterator<Item = u32>) -> &mut Self {
        self.words.extend(words);
        self
    }

    fn li(&mut self, register: u32, value: u32) -> &mut Self {
        self.put([lui(register, (value >> 16) as u16), ori(register, register, value as u16)])
    }

    /// Stores a register to an address, by way of K0.
    fn store(&mut self, register: u32, addr: u32) -> &mut Self {
        self.li(K0, addr).put([sw(register, K0, 0)])
    }

    /// Stores 42 where it resets the machine, or ends it 4 behind, and notes it if anything is done after that.
    fn control(&mut self, offset: u32) -> &mut Self {
        self.put([addiu(T0, 0, 42)]).store(T0, RESET + offset).store(T0, RESULT + 0x100).put([b(-1), nop()])
    }

    fn end(&mut self) -> &mut Self {
        self.control(4)
    }

    /// An instruction that goes to an address from here on by a branch, and its delay slot.
    fn go_to(&mut self, addr: u32) -> &mut Self {
        let words = addr.wrapping_sub(self.here() + 4) as i32 / 4;
        self.put([b(words as i16), nop()])
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }
}

/// Begins a program that takes exceptions in RAM.
fn program() -> Asm {
    let mut asm = Asm::at(CODE);
    asm.put([mtc0(0, STATUS)]).li(NOTE, NOTES);
    asm
}

/// A handler at both vectors of RAM that notes what happened and goes on at `BACK`.
fn handler() -> Asm {
    let mut asm = Asm::at(0x8000_0000);
    asm.go_to(0x8000_0180);
    asm.words.resize(0x180 / 4, nop());
    for (n, register) in (0..).zip([CAUSE, EPC, BAD_VADDR]) {
        asm.put([mfc0(K0, register), sw(K0, NOTE, 4 * n)]);
    }
    asm.put([addiu(NOTE, NOTE, 12), mtc0(BACK, EPC), eret()]);
    asm
}

/// A big-endian program for MIPS.
fn elf(pieces: &[&Asm], entry: u32) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let words = |file: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|w| file.extend(w.to_be_bytes()));
    words(&mut file, &[2 << 16 | 8, 1, entry, 52, 0, 0, 52 << 16 | 32, (pieces.len() as u32) << 16, 0]);
    let mut offset = 52 + 32 * pieces.len() as u32;
    for piece in pieces {
        let size = 4 * piece.words.len() as u32;
        words(&mut file, &[1, offset, piece.at, piece.at, size, size, 7, 4]);
        offset += size;
    }
    pieces.iter().for_each(|piece| file.extend(piece.bytes()));
    file
}

/// A machine with a program.
struct Guest {
    machine: Arc<Machine>,
    memory: Reader,
    _folder: TempDir,
}

impl Guest {
    fn new(pieces: &[&Asm]) -> Self {
        Self::with(pieces, |_, _| ())
    }

    /// With more in its configuration; the folder is for files.
    fn with(pieces: &[&Asm], more: impl Fn(&mut MachineConfig, PathBuf)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = MachineConfig::new("mips");
        if !pieces.is_empty() {
            let path = folder.path().join("program");
            std::fs::write(&path, elf(pieces, CODE)).unwrap();
            config.kernel = Some(path);
        }
        more(&mut config, folder.path().to_owned());
        let machine = Machine::new(config).unwrap();
        let memory = machine.cpu_space().reader();
        Self { machine, memory, _folder: folder }
    }

    fn word(&self, addr: u32) -> u32 {
        self.memory.load::<Be, u32>(physical(addr)).unwrap()
    }

    fn set(&self, addr: u32, value: u32) {
        self.memory.store::<Be, u32>(physical(addr), value).unwrap();
    }

    /// Waits until something is so.
    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "never {what}: {:?}", self.machine.registers());
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until the guest has ended it; nothing was done after the store that did.
    fn ends(&self) {
        self.until("ended", |guest| guest.machine.has_quit());
        assert_eq!(self.word(RESULT + 0x100), 0, "it went on behind its end");
    }

    /// Exceptions that were noted: code, EPC, BadVAddr.
    fn notes(&self) -> Vec<(u32, u32, u32)> {
        let note = |n: u32| {
            let [cause, epc, bad] = [0, 4, 8].map(|at| self.word(NOTES + 12 * n + at));
            (cause != 0).then_some((cause >> 2 & 31, epc, bad))
        };
        (0..).map_while(note).collect()
    }

    /// The value of a name in `info registers`.
    fn register(&self, name: &str) -> u32 {
        let text = self.machine.registers().concat();
        let at = text.find(name).unwrap_or_else(|| panic!("no {name}: {text}")) + name.len();
        let digits = text[at..].trim_start_matches([' ', '=']).trim_start_matches("0x");
        u32::from_str_radix(&digits[..8], 16).unwrap()
    }
}

#[test]
fn jumps_to_where_no_code_can_be_are_exceptions_at_the_target() {
    let targets = [
        (HOLE, BUS_FETCH),
        (0x9800_0000, BUS_FETCH),
        // A container in which nothing answers.
        (0xb000_0000, BUS_FETCH),
        // There is no firmware.
        (FLASH, BUS_FETCH),
        // Ports that nobody has read ones, which are no instruction.
        (0xb400_0500, RESERVED),
        (CODE + 2, ADDRESS_LOAD),
        (CODE + 1, ADDRESS_LOAD),
        (0x0040_0000, TLB_LOAD),
        (0xc000_0000, TLB_LOAD),
    ];
    let mut code = program();
    for (target, _) in targets {
        let back = code.here() + 4 * 6;
        code.li(BACK, back).li(T0, target).put([jr(T0), nop()]);
    }
    code.end();
    let guest = Guest::new(&[&handler(), &code]);
    guest.ends();
    let notes = guest.notes();
    assert_eq!(notes.len(), targets.len(), "{notes:x?}");
    for ((target, code), (noted, epc, bad)) in targets.into_iter().zip(notes) {
        assert_eq!((noted, epc), (code, target), "{target:#x}");
        if matches!(code, ADDRESS_LOAD | TLB_LOAD) {
            assert_eq!(bad, target);
        }
    }
}

#[test]
fn registers_of_a_device_are_executed_as_what_they_read() {
    // The reset register's page reads zeros: 16384 instructions that do nothing, and then there is nothing.
    let mut code = program();
    let back = code.here() + 4 * 6;
    code.li(BACK, back).li(T0, RESET).put([jr(T0), nop()]).end();
    let guest = Guest::new(&[&handler(), &code]);
    guest.ends();
    assert_eq!(guest.notes(), [(BUS_FETCH, FLASH, 0)]);
}

#[test]
fn accesses_that_cannot_be_are_exceptions_at_the_instruction_and_change_nothing() {
    let mut code = program();
    let mut expected = Vec::new();
    code.li(T1, 0x1234_5678);
    for (access, addr, exception) in [
        (lw(T1, T0, 0), HOLE, BUS_DATA),
        (sw(T1, T0, 0), HOLE, BUS_DATA),
        (lb(T1, T0, 0), 0xb000_0000, BUS_DATA),
        (lw(T1, T0, 0), FLASH, BUS_DATA),
        (lw(T1, T0, 2), CODE, ADDRESS_LOAD),
        (lh(T1, T0, 1), CODE, ADDRESS_LOAD),
        (sw(T1, T0, 1), CODE, ADDRESS_STORE),
        (sh(T1, T0, 3), CODE, ADDRESS_STORE),
        (lw(T1, T0, 0), 0x0040_0000, TLB_LOAD),
    ] {
        let back = code.here() + 4 * 5;
        code.li(BACK, back).li(T0, addr).put([access]);
        expected.push((exception, back - 4));
    }
    code.store(T1, RESULT).end();
    let guest = Guest::new(&[&handler(), &code]);
    guest.ends();
    let noted: Vec<_> = guest.notes().into_iter().map(|(code, epc, _)| (code, epc)).collect();
    assert_eq!(noted, expected);
    assert_eq!(guest.word(RESULT), 0x1234_5678, "no load has reached its register");
}

#[test]
fn an_exception_whose_vector_is_nowhere_faults_for_ever_and_harms_nobody() {
    // At reset the vectors are in the firmware, of which there is none.
    let mut code = Asm::at(CODE);
    let lost = code.here() + 8;
    code.li(T0, HOLE).put([lw(T1, T0, 0), b(-1), nop()]);
    let guest = Guest::new(&[&code]);
    // It runs between two looks: it may just have come from the load.
    let is_lost =
        |guest: &Guest| guest.register("pc") == 0xbfc0_0380 && guest.register("Cause") >> 2 & 31 == BUS_FETCH;
    guest.until("lost", is_lost);
    // It began with Status.ERL, so EPC tells where it was lost; Cause tells of the last fault.
    assert_eq!(guest.register("EPC"), lost);
    guest.machine.perform(Request::Stop).unwrap();
    guest.machine.perform(Request::Continue).unwrap();
    guest.machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    guest.until("lost again", is_lost);
    guest.machine.perform(Request::Quit(Cause::HostQmpQuit)).unwrap();
    assert_eq!(guest.machine.wait(), 0);
}

#[test]
fn a_handler_that_faults_begins_anew_and_epc_stays_that_of_the_first_fault() {
    let mut bad = Asm::at(0x8000_0180);
    // It counts, and then does what cannot be done.
    bad.li(T1, RESULT).put([lw(T2, T1, 0), addiu(T2, T2, 1), sw(T2, T1, 0)]).li(T0, HOLE);
    bad.put([lw(T0, T0, 0), nop()]);
    let mut code = program();
    let first = code.here() + 8;
    code.li(T0, CODE + 1).put([lw(T1, T0, 0), nop()]);
    let guest = Guest::new(&[&bad, &code]);
    guest.until("many times", |guest| guest.word(RESULT) > 100_000);
    guest.machine.perform(Request::Stop).unwrap();
    assert_eq!((guest.register("EPC"), guest.register("Cause") >> 2 & 31), (first, BUS_DATA));
    assert!((0x8000_0180..0x8000_01a4).contains(&guest.register("pc")));
}

#[test]
fn a_program_that_writes_each_instruction_before_it_comes_runs_what_it_wrote() {
    for segment in [0x8000_0000, 0xa000_0000] {
        let mut code = program();
        // T2 is the sum; the instruction that adds is written anew with each round: by the cached or the uncached window.
        let patched = CODE + 0x100;
        code.put([addiu(T2, 0, 0), addiu(T1, 0, 1000)]);
        code.li(T0, segment | patched & 0x1fff_ffff);
        let again = code.here();
        code.li(K0, addiu(T2, T2, 0)).put([or(K0, K0, T1), sw(K0, T0, 0)]).go_to(patched);
        code.words.resize(0x100 / 4, nop());
        code.put([0, addiu(T1, T1, -1)]);
        let back = again.wrapping_sub(code.here() + 4) as i32 / 4;
        code.put([bne(T1, 0, back as i16), nop()]).store(T2, RESULT).end();
        let guest = Guest::new(&[&handler(), &code]);
        guest.ends();
        assert_eq!(guest.word(RESULT), 1000 * 1001 / 2, "{segment:#x}");
        assert!(guest.notes().is_empty());
    }
}

#[test]
fn code_that_another_bus_master_writes_is_run_soon() {
    let mut code = program();
    code.li(T0, RESULT);
    let patched = code.here();
    code.put([addiu(T1, 0, 0), sw(T1, T0, 0), b(-3), nop()]);
    let guest = Guest::new(&[&handler(), &code]);
    for n in 1..50 {
        guest.set(patched, addiu(T1, 0, n));
        guest.until("the new code", |guest| guest.word(RESULT) == n as u32);
    }
    // Many writes of the same page, one after the other.
    for n in 0..10_000_i32 {
        guest.set(patched, addiu(T1, 0, (n & 0xff) as i16));
    }
    guest.set(patched, addiu(T1, 0, 7777));
    guest.until("the last code", |guest| guest.word(RESULT) == 7777);
}

#[test]
fn a_guest_that_reads_sees_what_is_mapped_now() {
    let looked_at = 0x8040_0000;
    let mut code = program();
    code.li(T0, RESULT).li(T2, looked_at).put([lw(T1, T2, 0), sw(T1, T0, 0), b(-3), nop()]);
    let guest = Guest::new(&[&handler(), &code]);
    guest.set(looked_at, 1);
    let block = RamBlock::anonymous("over", 4096).unwrap();
    block.write(0, &2_u32.to_be_bytes()).unwrap();
    let memory = guest.machine.memory();
    let over = memory.add(Region::rom("over", block)).unwrap();
    for _ in 0..100 {
        guest.until("RAM", |guest| guest.word(RESULT) == 1);
        memory.update(|t| t.map_overlap(memory.system(), physical(looked_at), over, 1)).unwrap();
        guest.until("ROM", |guest| guest.word(RESULT) == 2);
        memory.update(|t| t.unmap(memory.system(), over)).unwrap();
    }
}

#[test]
fn firmware_and_flash_are_executed_where_they_stand_and_rom_keeps_what_it_is() {
    for flash in [false, true] {
        let mut code = Asm::at(FLASH);
        // A store to ROM is lost; to flash it would be a command, so there it goes to RAM.
        let word = if flash { RESULT + 4 } else { FLASH };
        code.li(T1, 0x600d)
            .store(T1, RESULT)
            .store(T1, word)
            .put([lw(T1, K0, 0)])
            .store(T1, RESULT + 8)
            .end();
        let first = code.words[0];
        let guest = Guest::with(&[], |config, folder| {
            let path = folder.join("code");
            let mut bytes = code.bytes();
            if flash {
                bytes.resize(4 << 20, 0xff);
                config.pflash = Some(path.clone());
            } else {
                config.bios = Some(path.clone());
            }
            std::fs::write(path, bytes).unwrap();
        });
        guest.ends();
        assert_eq!(guest.word(RESULT), 0x600d);
        assert_eq!(guest.word(RESULT + 8), if flash { 0x600d } else { first });
        assert_eq!(guest.word(FLASH), first);
    }
}

#[test]
fn a_guest_that_takes_its_flash_away_is_brought_back_by_a_reset() {
    let runs = RESULT + 0x10;
    let mut code = Asm::at(FLASH);
    code.li(T0, runs).put([lw(T1, T0, 0), addiu(T1, T1, 1), sw(T1, T0, 0), addiu(T2, 0, 3)]);
    // The third time it ends; before, the flash shows its status wherever it is read, by fetches too.
    code.put([bne(T1, T2, 10), nop()]).end();
    assert_eq!(code.words.len(), 6 + 2 + 9, "the branch skips the end");
    code.put([addiu(T1, 0, 0x70)]).store(T1, FLASH).put([b(-1), nop()]);
    let guest = Guest::with(&[], |config, folder| {
        let path = folder.join("flash");
        let mut bytes = code.bytes();
        bytes.resize(4 << 20, 0xff);
        std::fs::write(&path, bytes).unwrap();
        config.pflash = Some(path);
    });
    for run in 1..3 {
        guest.until("its status", |guest| {
            guest.word(runs) == run && guest.memory.load::<Be, u32>(physical(FLASH)).unwrap() == 0x0080_0080
        });
        guest.machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    }
    guest.ends();
    assert_eq!(guest.word(runs), 3);
}

/// A program that counts its starts and resets the machine, and ends it at the last one.
fn resets(times: u32) -> Asm {
    let mut code = program();
    code.li(T0, RESULT).put([lw(T1, T0, 0), addiu(T1, T1, 1), sw(T1, T0, 0), addiu(T2, 0, times as i16)]);
    code.put([beq(T1, T2, 10), nop()]).control(0);
    code.end();
    code
}

#[test]
fn a_guest_resets_the_machine_two_hundred_times_and_does_nothing_behind_the_store() {
    let guest = Guest::with(&[&resets(200)], |config, _| config.start_stopped = true);
    let events = guest.machine.subscribe();
    guest.machine.perform(Request::Continue).unwrap();
    guest.ends();
    assert_eq!(guest.word(RESULT), 200);
    let events: Vec<_> = events.iter().map(|event| event.kind).collect();
    let reset = EventKind::Reset { cause: Cause::GuestReset };
    assert_eq!(events.iter().filter(|event| **event == reset).count(), 199);
    assert_eq!(events.last(), Some(&EventKind::Shutdown { cause: Cause::GuestShutdown }));
}

#[test]
fn with_no_reboot_the_first_reset_is_the_end() {
    let guest = Guest::with(&[&resets(3)], |config, _| {
        (config.no_reboot, config.start_stopped) = (true, true);
    });
    let events = guest.machine.subscribe();
    guest.machine.perform(Request::Continue).unwrap();
    guest.ends();
    assert_eq!((guest.word(RESULT), guest.machine.wait()), (1, 0));
    let last = events.iter().last().unwrap().kind;
    assert_eq!(last, EventKind::Shutdown { cause: Cause::GuestReset });
}

#[test]
fn with_no_shutdown_the_end_is_a_stop_from_which_a_reset_leads_back() {
    let guest = Guest::with(&[&resets(2)], |config, _| {
        (config.no_shutdown, config.start_stopped) = (true, true);
    });
    let events = guest.machine.subscribe();
    guest.machine.perform(Request::Continue).unwrap();
    guest.until("shut down", |guest| guest.machine.run_state() == RunState::Shutdown);
    assert_eq!(guest.word(RESULT), 2);
    let seen: Vec<_> = events.try_iter().map(|event| event.kind).collect();
    let shutdown = EventKind::Shutdown { cause: Cause::GuestShutdown };
    let reset = EventKind::Reset { cause: Cause::GuestReset };
    assert_eq!(seen, [EventKind::Resume, reset, shutdown, EventKind::Stop]);
    assert_eq!(guest.machine.perform(Request::Continue), Err(RequestError::ResetRequired));
    guest.machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    assert_eq!(guest.machine.run_state(), RunState::Prelaunch);
    guest.set(RESULT, 1);
    guest.machine.perform(Request::Continue).unwrap();
    guest.until("shut down again", |guest| guest.machine.run_state() == RunState::Shutdown);
    assert!(!guest.machine.has_quit());
    guest.machine.perform(Request::Quit(Cause::HostQmpQuit)).unwrap();
    assert_eq!(guest.machine.wait(), 0);
}

/// Counts for ever.
fn spin() -> Asm {
    let mut code = program();
    code.li(T0, RESULT).put([addiu(T1, 0, 0), addiu(T1, T1, 1), sw(T1, T0, 0), b(-3), nop()]);
    code
}

#[test]
fn a_guest_that_spins_is_stopped_continued_and_reset_at_any_time() {
    let guest = Guest::new(&[&spin()]);
    for _ in 0..200 {
        guest.machine.perform(Request::Stop).unwrap();
        let (count, instructions) = (guest.word(RESULT), guest.machine.instructions());
        std::thread::yield_now();
        assert_eq!((guest.word(RESULT), guest.machine.instructions()), (count, instructions));
        guest.machine.perform(Request::Continue).unwrap();
    }
    for _ in 0..200 {
        guest.set(RESULT, 0);
        guest.machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
        guest.until("counting", |guest| guest.word(RESULT) > 0);
    }
    // Requests that nobody waits for, too.
    for _ in 0..200 {
        guest.machine.request(Request::SystemReset(Cause::HostQmpSystemReset));
    }
    guest.machine.request(Request::Quit(Cause::HostQmpQuit));
    assert_eq!(guest.machine.wait(), 0);
}

#[test]
fn machines_of_one_process_have_nothing_in_common() {
    let program = |value: u32| {
        let mut code = program();
        code.li(T1, value).store(T1, RESULT).li(T0, 300_000).put([addiu(T0, T0, -1), bne(T0, 0, -2), nop()]);
        code.end();
        code
    };
    let spinning = Guest::new(&[&spin()]);
    let guests = [1, 2, 3].map(|value| (value, Guest::new(&[&program(value)])));
    for (value, guest) in &guests {
        guest.ends();
        assert_eq!(guest.word(RESULT), *value);
    }
    let before = spinning.word(RESULT);
    spinning.until("on its way", |guest| guest.word(RESULT) != before);
    // One that spins goes with its last handle.
    drop(spinning);
}
