//! MIPS: `qemu-system-mips` (and `-mipsel`) `-M malta -cpu 24Kf`, and `flatview -M mips` (`mipsel`).
//!
//! Where EI stands before WAIT interrupts are held back, so that one that is pending ends the waiting and is taken behind it.

mod known_words;
mod random;
mod words;

use std::path::Path;
use std::process::Command;

use flatview::{AddressSpace, Endianness, Memory, RamBlock, Region};
use flatview_cpu::Cpu;
use flatview_cpu::mips::MipsModel;
use flatview_device::Clock;

use crate::guest::Guest;
use crate::isa_tests::{self, Images};
use crate::lockstep::Lockstep;
use crate::masks::Masks;
use crate::state::State;
use crate::target::ByGdb;
use random::asm;
use words::{is_ei, is_likely};

pub const SR: usize = 32;
pub const LO_AT: usize = 33;
pub const HI_AT: usize = 34;
pub const BAD: usize = 35;
pub const CAUSE: usize = 36;
pub const PC_AT: usize = 37;
pub const FIRST_FPR: usize = 38;
/// The 32 registers of the FPU, FCSR and FIR.
pub const WITH_FPU: usize = FIRST_FPR + 34;

/// Where exceptions go: refill, all others, interrupts with Cause.IV.
pub const VECTORS: [u32; 3] = [0x8000_0000, 0x8000_0180, 0x8000_0200];
/// The CPU that QEMU is to have.
const CPU: &str = "24Kf";
/// RAM of both machines, from 0, in MiB.
const RAM: u64 = 64;

/// CP0's registers that a dump shows: number and selector.
pub const CP0: &[(u32, u32)] = &[
    (0, 0),
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 0),
    (12, 0),
    (12, 1),
    (12, 2),
    (12, 3),
    (13, 0),
    (14, 0),
    (15, 0),
    (15, 1),
    (16, 0),
    (16, 1),
    (16, 2),
    (16, 3),
    (16, 6),
    (16, 7),
    (17, 0),
    (18, 0),
    (19, 0),
    (23, 0),
    (24, 0),
    (25, 0),
    (26, 0),
    (27, 0),
    (28, 0),
    (28, 1),
    (29, 0),
    (30, 0),
    (31, 0),
];

const NAMES: [&str; 38] = [
    "zero", "at", "v0", "v1", "a0", "a1", "a2", "a3", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "s0",
    "s1", "s2", "s3", "s4", "s5", "s6", "s7", "t8", "t9", "k0", "k1", "gp", "sp", "s8", "ra", "status", "lo",
    "hi", "badvaddr", "cause", "pc",
];

/// The 24Kf.
pub struct Mips;

impl Guest for Mips {
    type Cpu = flatview_cpu::mips::Mips;

    const NAME: &'static str = "mips";
    const ORDERS: &'static [Endianness] = &[Endianness::Big, Endianness::Little];
    const WORDS: usize = WITH_FPU;
    const PC: usize = PC_AT;
    const KEPT: &'static [usize] = &[SR, BAD];
    const SHOWN: &'static [usize] = &[
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
        28, 29, 30, 31, SR, CAUSE, BAD, PC_AT, LO_AT, HI_AT,
    ];
    const DELAY_SLOTS: bool = true;
    const STORES_AT_ONCE: bool = false;

    fn register_name(n: usize) -> String {
        match n {
            0..38 => NAMES[n].to_owned(),
            70 => "fcsr".to_owned(),
            71 => "fir".to_owned(),
            _ => format!("f{}", n - FIRST_FPR),
        }
    }

    fn mnemonic(word: u32) -> Option<&'static str> {
        words::mnemonic(word)
    }

    fn is_branch(word: u32) -> bool {
        words::is_branch(word)
    }

    fn is_vector(pc: u32) -> bool {
        VECTORS.contains(&pc)
    }

    fn stored(word: u32, before: &State) -> Option<(u32, u32)> {
        let (base, index, displacement, words) = words::store(word)?;
        let value = |n: usize| before.words()[n];
        Some((value(base).wrapping_add(value(index)).wrapping_add_signed(displacement.into()), words))
    }

    fn read_by(word: u32, masks: &Masks) -> Option<(usize, u32)> {
        let (rt, rd) = (word >> 16 & 31, word >> 11 & 31);
        let bits = match word >> 26 {
            0x10 if word >> 21 & 31 == 0 => cp0_mask(masks, (rd, word & 7)),
            // di, ei: Status.
            0x10 if word >> 21 & 31 == 0x0b => cp0_mask(masks, (12, 0)),
            0x1f if word & 63 == 0x3b => masks.system(&format!("rdhwr {rd}")),
            _ => 0,
        };
        (bits != 0).then_some((rt as usize, bits))
    }

    fn code_at(at: u32) -> Option<(u32, bool)> {
        (at & 3 == 0).then_some((at, (0x8000_0000..0xc000_0000).contains(&at)))
    }

    fn prepare(lockstep: &mut Lockstep<Self>, pc: u32, word: Option<u32>) {
        if word.is_some_and(is_ei) && lockstep.word_at(pc.wrapping_add(4)) == Some(asm::WAIT) {
            lockstep.mask_interrupts(true);
        }
    }

    fn settle(lockstep: &mut Lockstep<Self>, pc: u32, word: Option<u32>, qemu: &mut State, ours: &mut State) {
        if word == Some(asm::WAIT) && lockstep.masked && qemu.pc() == pc.wrapping_add(8) {
            // QEMU wakes up and does the next instruction.
            lockstep.ours.start_step();
            *ours = lockstep.ours.finish_step();
        }
        if lockstep.masked && !word.is_some_and(is_ei) {
            lockstep.mask_interrupts(false);
        }
        let skips = word.is_some_and(is_likely) && ours.pc() == pc.wrapping_add(8);
        if skips && qemu.pc() == pc.wrapping_add(4) {
            // QEMU steps to the delay slot that it leaves out.
            lockstep.qemu.start_step();
            *qemu = lockstep.qemu.finish_step();
        }
    }

    fn qemu_program(order: Endianness) -> (&'static str, &'static str) {
        let program = if order == Endianness::Big { "qemu-system-mips" } else { "qemu-system-mipsel" };
        (program, "qemu-system-mips")
    }

    fn arguments(command: &mut Command, ours: bool, order: Endianness, folder: &Path) {
        let board = match order {
            _ if !ours => "malta",
            Endianness::Big => "mips",
            _ => "mipsel",
        };
        command.args(["-M", board, "-cpu", CPU, "-m", &RAM.to_string()]);
        if ours {
            // Without firmware the CPU does not run; this is never reached.
            let firmware = folder.join("firmware");
            std::fs::write(&firmware, [0; 64]).unwrap();
            command.arg("-bios").arg(firmware);
        }
    }

    /// Masks all interrupts of a board's devices.
    fn silence(target: &mut ByGdb<Self>, ours: bool) {
        const AT: u32 = 0x8000_8000;
        // The GT-64120's registers are little-endian; PCI's ports go to 0x18000000.
        let gt = |value: u32| if target.order() == Endianness::Big { value.swap_bytes() } else { value };
        let registers = [(0xb400_0048, gt(0x1800_0000 >> 21)), (0xb400_0050, gt(0x40))];
        let registers = if ours { &[][..] } else { &registers };
        let ports = if ours { 0xb400_0000 } else { 0xb800_0000 };
        let bytes = [(ports + 0x21, 0xff), (ports + 0xa1, 0xff)];
        let mut code = Vec::new();
        for (store, (at, value)) in registers.iter().map(|w| (0x2b, *w)).chain(bytes.map(|b| (0x28, b))) {
            code.extend(asm::li(8, at));
            code.extend(asm::li(9, value));
            code.push(asm::i(store, 8, 9, 0));
        }
        code.extend([asm::i(4, 0, 0, 0xffff), asm::NOP]);
        target.run_code(AT, &code, 8);
    }

    fn cpu(order: Endianness) -> (Cpu<Self::Cpu>, Memory, AddressSpace) {
        let memory = Memory::new(order);
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", RAM << 20).unwrap())).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let space = memory.memory_space();
        let model = MipsModel::find(CPU).unwrap();
        let isa = flatview_cpu::mips::Mips::with_model(model, order, &Clock::stepped());
        let cpu = Cpu::new(isa, &memory, &space).unwrap();
        (cpu, memory, space)
    }

    fn physical(at: u32) -> u32 {
        at & 0x1fff_ffff
    }
}

/// Bits of a CP0 register that are not compared.
fn cp0_mask(masks: &Masks, (number, select): (u32, u32)) -> u32 {
    masks.system(&format!("cp0 {number}.{select}"))
}

/// An image has a word that says which console there is; 1: none but a log in memory.
const IMAGES: Images = Images {
    folder: |order| if order == Endianness::Big { "mips" } else { "mipsel" },
    words: &[(0x8010_0008, 1)],
    least: 15,
};

#[test]
fn the_isa_tests_run_alike() {
    isa_tests::run_alike::<Mips>(&IMAGES);
}

#[test]
fn random_programs_run_alike() {
    crate::random::run_alike::<Mips>(0x24c_0de5, &known_words::mnemonics());
}
