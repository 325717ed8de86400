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
