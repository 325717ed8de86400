use flatview::{Endianness, Memory, RamBlock};

use super::registers::*;
use super::*;

const RAM_SIZE: u64 = 0x1_0000;
const TIMEOUT: u8 = SIST1_SELECTION_TIMEOUT;

struct Bench {
    memory: Memory,
    chip: Arc<Lsi53c810>,
    clock: Clock,
}

/// RAM at 0, the registers at 0x100000, the chip as bus master of the same space.
fn bench() -> Bench {
    let memory = Memory::new(Endianness::Big);
    let clock = Clock::stepped();
    let chip = Lsi53c810::new(ScsiBus::default(), &clock, &Log::none());
    let owner = Owner::device("/lsi");
    let block = RamBlock::anonymous("ram", RAM_SIZE).unwrap();
    let registers = memory.add(chip.registers_region("lsi-mmio", 0x400, &owner)).unwrap();
    let ram = memory.add(Region::ram("ram", block)).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    memory.map(memory.system(), 0x10_0000, registers).unwrap();
    chip.set_space(&memory.memory_space());
    Bench { memory, chip, clock }
}

impl Bench {
    fn read(&self, register: usize) -> u8 {
        let mut byte = [0];
        self.memory.memory_space().read(0x10_0000 + register as u64, &mut byte).unwrap();
        byte[0]
    }

    fn write(&self, register: usize, value: u8) {
        self.memory.memory_space().write(0x10_0000 + register as u64, &[value]).unwrap();
    }

    fn put(&self, at: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.memory_space().write(at, &bytes).unwrap();
    }

    fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.memory_space().read(at, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    }

    /// Starts the program at 0x1000.
    fn run(&self, words: &[u32]) {
        self.put(0x1000, words);
        for (n, byte) in 0x1000_u32.to_le_bytes().into_iter().enumerate() {
            self.write(reg::DSP + n, byte);
        }
    }

    fn long(&self, register: usize) -> u32 {
        (0..4).fold(0, |word, n| word | u32::from(self.read(register + n)) << (8 * n))
    }
}

const INT: u32 = 0x9808_0000;
const JUMP: u32 = 0x8008_0000;

#[test]
fn a_selection_times_out_and_says_of_whom() {
    let bench = bench();
    bench.put(0x2000, &[0x0005_0000]);
    bench.write(reg::DSA + 1, 0x20);
    bench.write(reg::SIEN1, TIMEOUT);
    // Select with ATN by the table's first entry, else an interrupt that must not come.
    bench.run(&[0x4700_0000, 8, INT, 0x1234]);
    assert_eq!(bench.read(reg::ISTAT), ISTAT_SCSI);
    assert!(bench.chip.irq().level());
    assert_eq!(bench.read(reg::SDID), 5);
    assert_eq!([bench.read(reg::SIST0), bench.read(reg::SIST1)], [0, TIMEOUT]);
    assert_eq!(bench.read(reg::ISTAT), 0, "reading clears");
    assert!(!bench.chip.irq().level());
    assert_eq!(bench.long(reg::DSP), 0x1008, "it has stopped behind the selection");
}

#[test]
fn scripts_jump_call_return_and_interrupt_with_a_number() {
    let bench = bench();
    bench.write(reg::DIEN, DSTAT_SCRIPT);
    // A relative jump over an interrupt; a call of 0x1028, which returns; an interrupt.
    bench.run(&[JUMP | 1 << 23, 8, INT, 1, 0x8808_0000, 0x1028, INT, 0xcafe, INT, 2, 0x9008_0000, 0]);
    assert_eq!((bench.read(reg::ISTAT), bench.chip.irq().level()), (ISTAT_DMA, true));
    assert_eq!(bench.long(reg::DSPS), 0xcafe);
    assert_eq!(bench.read(reg::DSTAT), DSTAT_FIFO_EMPTY | DSTAT_SCRIPT);
    assert_eq!((bench.read(reg::DSTAT), bench.chip.irq().level()), (DSTAT_FIFO_EMPTY, false));
}

#[test]
fn an_interrupt_on_the_fly_does_not_stop_scripts_and_is_cleared_by_a_1() {
    let bench = bench();
    bench.run(&[0x9818_0000, 0, INT, 7]);
    assert_eq!(bench.read(reg::ISTAT), ISTAT_DMA | ISTAT_ON_THE_FLY);
    assert_eq!(bench.long(reg::DSPS), 7);
    bench.write(reg::ISTAT, ISTAT_ON_THE_FLY);
    assert_eq!(bench.read(reg::ISTAT), ISTAT_DMA);
}

#[test]
fn registers_are_computed_with_and_compared() {
    let bench = bench();
    bench.write(0x34, 0x81);
    let run = |op: u32| {
        bench.run(&[op, 0, INT, 0]);
        bench.read(reg::DSTAT);
    };
    // SCRATCHA byte 0: or 2; shifted left, the carry falls out; with the carry added to 1 again.
    run(0x7a34_0200);
    assert_eq!(bench.read(0x34), 0x83);
    run(0x7934_0000);
    assert_eq!(bench.read(0x34), 0x06);
    run(0x7f34_0100);
    assert_eq!(bench.read(0x34), 0x08);
    // To SFBR, and a jump if the low half is 8.
    run(0x7234_0000);
    assert_eq!(bench.read(reg::SFBR), 0x08);
    bench.run(&[0x800c_f008, 0x1010, INT, 1, INT, 2]);
    assert_eq!(bench.long(reg::DSPS), 2);
    bench.read(reg::DSTAT);
    bench.run(&[0x800c_0009, 0x1010, INT, 1, INT, 2]);
    assert_eq!(bench.long(reg::DSPS), 1, "not equal");
}

#[test]
fn memory_is_moved_loaded_and_stored() {
    let bench = bench();
    bench.put(0x2000, &[0x1122_3344, 0x5566_7788]);
    // 8 bytes to 0x3000, 4 bytes to SCRATCHB, the lower three of those to 0x3010.
    bench.run(&[0xc000_0008, 0x2000, 0x3000, 0xe15c_0004, 0x2004, 0xe05c_0003, 0x3010, INT, 0]);
    assert_eq!((bench.word(0x3000), bench.word(0x3004)), (0x1122_3344, 0x5566_7788));
    assert_eq!((bench.long(0x5c), bench.word(0x3010)), (0x5566_7788, 0x66_7788));
}

#[test]
fn a_bus_fault_stops_scripts() {
    let bench = bench();
    bench.run(&[0xc000_0004, 0x5000_0000, 0x3000, INT, 0]);
    assert_eq!(bench.read(reg::DSTAT), DSTAT_FIFO_EMPTY | DSTAT_BUS_FAULT);
}

#[test]
fn waiting_for_a_reselection_ends_by_the_signal_bit() {
    let bench = bench();
    bench.run(&[0x5000_0000, 0x1010, INT, 1, INT, 2]);
    assert_eq!(bench.read(reg::ISTAT), 0);
    bench.write(reg::ISTAT, ISTAT_SIGNAL);
    assert_eq!(bench.long(reg::DSPS), 2);
    assert_eq!(bench.read(reg::CTEST2) & 1 << 6, 1 << 6, "reading it clears the signal");
    assert_eq!(bench.read(reg::ISTAT), ISTAT_DMA);
}

#[test]
fn an_endless_program_runs_in_slices_until_it_is_aborted() {
    let bench = bench();
    bench.run(&[JUMP, 0x1000]);
    for _ in 0..3 {
        bench.clock.step(Some(PAUSE_NS)).unwrap();
        assert_eq!(bench.read(reg::ISTAT), 0);
    }
    bench.write(reg::ISTAT, ISTAT_ABORT);
    assert_eq!(bench.read(reg::DSTAT), DSTAT_FIFO_EMPTY | DSTAT_ABORT);
    bench.clock.step(Some(PAUSE_NS)).unwrap();
    bench.put(0x1000, &[INT, 3]);
    bench.clock.step(Some(PAUSE_NS)).unwrap();
    assert_eq!(bench.read(reg::DSTAT), DSTAT_FIFO_EMPTY, "it does not run on");
}

#[test]
fn scripts_that_start_themselves_do_not_nest() {
    let bench = bench();
    // Moves the address of an interrupt into DSP by way of memory.
    bench.put(0x2000, &[0x1100]);
    bench.put(0x1100, &[INT, 9]);
    bench.run(&[0xc000_0004, 0x2000, 0x10_002c, INT, 1]);
    assert_eq!(bench.long(reg::DSPS), 9);
}

#[test]
fn any_program_and_any_register_end_well() {
    let bench = bench();
    let mut random = fastrand::Rng::with_seed(53_810);
    for _ in 0..3_000 {
        let words: Vec<u32> = (0..8)
            .map(|_| match random.u32(0..4) {
                0 => random.u32(..),
                1 => random.u32(0..0x2000) & !3,
                _ => random.u32(..) & 0xff0f_0007,
            })
            .collect();
        bench.write(random.usize(0..0x60), random.u8(..));
        bench.run(&words);
        bench.clock.step(Some(PAUSE_NS)).unwrap();
        for register in 0..0x60 {
            bench.read(register);
        }
        bench.write(reg::ISTAT, ISTAT_SOFT_RESET);
        bench.write(reg::ISTAT, 0);
    }
    assert_eq!(bench.read(reg::DSTAT), DSTAT_FIFO_EMPTY);
}

/// The bench with a CD of 3 blocks at 2 and a disk of 64 KiB at 0; both have told of the reset.
fn with_drives() -> (Bench, tempfile::TempDir) {
    use crate::scsi::bus::Unit;
    use crate::scsi::disk::{Disk, Kind};
    use crate::scsi::medium::{ImageSpec, Medium};
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, readonly: bool, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Some(Medium::open(&ImageSpec { path, readonly, raw: true }).unwrap())
    };
    let cd = open("cd", true, (0..3 * 2048).map(|n| (n / 16) as u8).collect());
    let disk = open("disk", false, vec![0; 0x1_0000]);
    let units: Vec<(u8, u8, Arc<dyn Unit>)> =
        vec![(2, 0, Disk::new(Kind::CdRom, "cd", cd)), (0, 0, Disk::new(Kind::HardDisk, "hd", disk))];
    let bus = ScsiBus::new(units);
    for target in [0, 2] {
        bus.begin(target, 0, &[0]);
    }
    let mut bench = bench();
    let owner = Owner::device("/other");
    bench.chip = Lsi53c810::new(bus, &bench.clock, &Log::none());
    let registers = bench.memory.add(bench.chip.registers_region("lsi-io", 0x100, &owner)).unwrap();
    let system = bench.memory.system();
    bench.memory.update(|t| t.map_overlap(system, 0x10_0000, registers, 1)).unwrap();
    bench.chip.set_space(&bench.memory.memory_space());
    (bench, folder)
}

const SELECT: u32 = 0x4100_0000;
const MESSAGE_OUT: u32 = 0x0e00_0000;
const COMMAND: u32 = 0x0a00_0000;
const DATA_IN: u32 = 0x0900_0000;
const DATA_OUT: u32 = 0x0800_0000;
const STATUS: u32 = 0x0b00_0000;
const MESSAGE_IN: u32 = 0x0f00_0000;
const DISCONNECT: u32 = 0x4800_0000;
const RESELECT: u32 = 0x5000_0000;

impl Bench {
    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.memory_space().read(at, &mut bytes).unwrap();
        bytes
    }

    fn place(&self, at: u64, bytes: &[u8]) {
        self.memory.memory_space().write(at, bytes).unwrap();
    }
}

#[test]
fn a_command_goes_through_its_phases_by_direct_indirect_and_table_moves() {
    let (bench, _folder) = with_drives();
    bench.place(0x2000, &[0x80]);
    bench.place(0x2010, &[0x12, 0, 0, 0, 36, 0]);
    // The table: at 8 the command's length and address; at 0x40 the address of the data.
    bench.put(0x3000, &[0, 0, 6, 0x2010]);
    bench.put(0x3040, &[0x4000]);
    bench.write(reg::DSA + 1, 0x30);
    bench.run(&[
        SELECT | 2 << 16,
        0,
        MESSAGE_OUT | 1,
        0x2000,
        COMMAND | 1 << 28,
        8,
        DATA_IN | 1 << 29 | 36,
        0x3040,
        STATUS | 1,
        0x5000,
        MESSAGE_IN | 1,
        0x5001,
        DISCONNECT,
        0,
        INT,
        7,
    ]);
    assert_eq!(bench.read(reg::DSTAT), DSTAT_FIFO_EMPTY | DSTAT_SCRIPT);
    assert_eq!(bench.bytes(0x4008, 16), b"QEMU    QEMU CD-");
    assert_eq!(bench.bytes(0x5000, 2), [0, 0], "GOOD, COMMAND COMPLETE");
    assert_eq!(bench.read(reg::SCNTL1) & SCNTL1_CONNECTED, 0);
}

#[test]
fn a_shorter_answer_ends_in_a_phase_mismatch_that_says_how_much_is_left() {
    let (bench, _folder) = with_drives();
    bench.place(0x2000, &[0x80]);
    bench.place(0x2010, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bench.write(reg::SIEN0, SIST0_PHASE_MISMATCH);
    bench.run(&[
        SELECT | 2 << 16,
        0,
        MESSAGE_OUT | 1,
        0x2000,
        COMMAND | 10,
        0x2010,
        DATA_IN | 20,
        0x4000,
        INT,
        1,
    ]);
    assert!(bench.chip.irq().level());
    assert_eq!((bench.read(reg::SIST0), bench.read(reg::SSTAT1)), (SIST0_PHASE_MISMATCH, 3));
    assert_eq!((bench.long(reg::DBC) & 0xff_ffff, bench.long(reg::DNAD)), (12, 0x4008));
    assert_eq!(bench.bytes(0x4000, 8), [0, 0, 0, 2, 0, 0, 8, 0]);
}

#[test]
fn a_target_that_reads_lets_go_of_the_bus_and_comes_back() {
    let (bench, _folder) = with_drives();
    bench.place(0x2000, &[0xc0, 0x20, 0x77]);
    bench.place(0x2010, &[0x28, 0, 0, 0, 0, 1, 0, 0, 2, 0]);
    bench.run(&[
        SELECT | 2 << 16,
        0,
        MESSAGE_OUT | 3,
        0x2000,
        COMMAND | 10,
        0x2010,
        MESSAGE_IN | 2,
        0x5000,
        DISCONNECT,
        0,
        RESELECT,
        0x1100,
        MESSAGE_IN | 3,
        0x5002,
        DATA_IN | 4000,
        0x4000,
        DATA_IN | 96,
        0x4fa0,
        STATUS | 1,
        0x5005,
        MESSAGE_IN | 1,
        0x5006,
        INT,
        3,
    ]);
    assert_eq!((bench.read(reg::ISTAT), bench.bytes(0x5000, 2)), (0, vec![2, 4]));
    bench.clock.step(Some(MEDIUM_NS)).unwrap();
    assert_eq!(bench.read(reg::DSTAT), DSTAT_FIFO_EMPTY | DSTAT_SCRIPT);
    assert_eq!((bench.read(reg::SSID), bench.bytes(0x5002, 5)), (0x82, vec![0x80, 0x20, 0x77, 0, 0]));
    let wanted: Vec<u8> = (2048..3 * 2048).map(|n| (n / 16) as u8).collect();
    assert_eq!(bench.bytes(0x4000, 4096), wanted);
}

#[test]
fn what_is_written_comes_through_memory_to_the_file() {
    let (bench, folder) = with_drives();
    bench.place(0x2000, &[0x80]);
    bench.place(0x2010, &[0x2a, 0, 0, 0, 0, 3, 0, 0, 2, 0]);
    bench.place(0x4000, &(0..1024).map(|n| (n * 3) as u8).collect::<Vec<u8>>());
    bench.run(&[
        SELECT,
        0,
        MESSAGE_OUT | 1,
        0x2000,
        COMMAND | 10,
        0x2010,
        DATA_OUT | 1000,
        0x4000,
        DATA_OUT | 24,
        0x43e8,
        STATUS | 1,
        0x5000,
        MESSAGE_IN | 1,
        0x5001,
        INT,
        3,
    ]);
    assert_eq!(bench.read(reg::DSTAT), DSTAT_FIFO_EMPTY | DSTAT_SCRIPT);
    let file = std::fs::read(folder.path().join("disk")).unwrap();
    assert_eq!(file[3 * 512..5 * 512], bench.bytes(0x4000, 1024));
    assert!(file[..3 * 512].iter().chain(&file[5 * 512..]).all(|byte| *byte == 0));
}

#[test]
fn messages_are_rejected_or_abort_and_the_general_timer_counts() {
    let (bench, _folder) = with_drives();
    // A wish for synchronous transfers.
    bench.place(0x2000, &[0x80, 1, 3, 1, 25, 15]);
    bench.run(&[SELECT | 2 << 16, 0, MESSAGE_OUT | 6, 0x2000, MESSAGE_IN | 1, 0x5000, INT, 1]);
    assert_eq!((bench.bytes(0x5000, 1), bench.read(reg::SSTAT1)), (vec![7], 2));
    // Selected again while it has the bus: SCRIPTS go on elsewhere.
    bench.put(0x1100, &[INT, 9]);
    bench.run(&[SELECT | 2 << 16, 0x1100, INT, 1]);
    assert_eq!(bench.long(reg::DSPS), 9);
    bench.read(reg::DSTAT);
    // Attention while it waits for a command: an abort.
    bench.place(0x2000, &[6]);
    bench.run(&[0x5800_0008, 0, MESSAGE_OUT | 1, 0x2000, INT, 2]);
    assert_eq!((bench.read(reg::SCNTL1) & SCNTL1_CONNECTED, bench.long(reg::DSPS)), (0, 2));
    bench.read(reg::DSTAT);
    bench.write(reg::STIME1, 3);
    bench.clock.step(Some(499_000)).unwrap();
    assert_eq!(bench.read(reg::SIST1), 0);
    bench.clock.step(Some(1_000)).unwrap();
    assert_eq!(bench.read(reg::SIST1), SIST1_GENERAL_TIMER);
}

#[test]
fn a_program_that_stops_and_starts_itself_in_one_move_does_not_nest() {
    let bench = bench();
    // Writes ISTAT (abort) to DSP at each turn, so that each is a new start.
    let mut image = [0; 0x1c];
    image[0] = ISTAT_ABORT;
    image[0x18..].copy_from_slice(&0x1000_u32.to_le_bytes());
    bench.place(0x2000, &image);
    bench.run(&[0xc000_001c, 0x2000, 0x10_0014, INT, 1]);
    for _ in 0..100 {
        bench.clock.step(Some(PAUSE_NS)).unwrap();
    }
    bench.put(0x1000, &[INT, 3]);
    bench.clock.step(Some(PAUSE_NS)).unwrap();
    assert_eq!(bench.read(reg::DSTAT) & DSTAT_SCRIPT, DSTAT_SCRIPT);
}

#[test]
fn any_program_with_drives_ends_well() {
    let (bench, _folder) = with_drives();
    let mut random = fastrand::Rng::with_seed(810);
    for _ in 0..800 {
        bench.place(0x2000, &[0x80, 0x20, 5, 0x0c, 6]);
        let opcode = [0x28, 0x2a, 0x12, 0x1a, 0x00, 0x08, random.u8(..)][random.usize(..7)];
        bench.place(0x2010, &[opcode, 0, 0, 0, random.u8(..4), random.u8(..4), 0, 0, random.u8(..4), 0]);
        let mut words = vec![SELECT | random.u32(..) & 0x0102_0000, 0x1000];
        for _ in 0..random.usize(1..8) {
            let count = random.u32(..) & [0xf, 0xfff][random.usize(..2)];
            words.extend(match random.u32(0..12) {
                0 => [MESSAGE_OUT | random.u32(0..6), 0x2000],
                1..4 => [COMMAND | random.u32(0..20), 0x2010],
                4 => [DATA_IN | count, 0x4000],
                5 => [DATA_OUT | count, 0x4000],
                6 => [STATUS | random.u32(0..3), 0x5000],
                7 => [MESSAGE_IN | random.u32(0..4), 0x5000],
                8 => [RESELECT, 0x1000],
                9 => [0x5800_0008, 0],
                10 => [JUMP | random.u32(..) & 0x0703_0000, 0x1000],
                _ => [DISCONNECT, 0],
            });
        }
        bench.run(&words);
        for _ in 0..3 {
            bench.clock.step(Some(PAUSE_NS)).unwrap();
        }
        if random.u8(..) < 20 {
            bench.write(reg::SCNTL1, SCNTL1_RESET);
            bench.write(reg::SCNTL1, 0);
        }
        if random.bool() {
            bench.write(reg::ISTAT, ISTAT_ABORT);
        }
        for register in 0..0x60 {
            bench.read(register);
        }
    }
    bench.write(reg::ISTAT, ISTAT_SOFT_RESET);
    bench.write(reg::ISTAT, 0);
    assert_eq!((bench.read(reg::DSTAT), bench.read(reg::SSTAT1)), (DSTAT_FIFO_EMPTY, 0));
}
