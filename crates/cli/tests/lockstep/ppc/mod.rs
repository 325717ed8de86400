//! PowerPC: `qemu-system-ppc -M 40p -cpu 604` and `flatview -M 40p`, both with the same ROM.

mod known_words;
mod random;
mod words;

use std::path::Path;
use std::process::Command;

use flatview::{AddressSpace, Endianness, Memory, RamBlock, Region};
use flatview_cpu::Cpu;
use flatview_cpu::ppc::{BusErrors, PpcModel};
use flatview_device::Clock;

use crate::guest::Guest;
use crate::isa_tests::{self, Images};
use crate::masks::Masks;
use crate::state::State;
use crate::target::ByGdb;
use random::asm;

/// The first floating-point register; each is two words.
pub const FIRST_FPR: usize = 32;
pub const PC_AT: usize = FIRST_FPR + 64;
pub const MSR: usize = PC_AT + 1;
pub const CR: usize = PC_AT + 2;
pub const LR: usize = PC_AT + 3;
pub const CTR: usize = PC_AT + 4;
pub const XER: usize = PC_AT + 5;
pub const FPSCR: usize = PC_AT + 6;

/// RAM of both machines, from 0: the 40p's default.
pub const RAM: u32 = 128 << 20;
const ROM: u32 = 0xfff0_0000;
const ROM_BYTES: usize = 1 << 20;
/// MSR\[DR\].
const DR: u32 = 1 << 4;

/// The 604.
pub struct Ppc;

/// The ROM of both: the handlers, where MSR\[IP\] has exceptions go.
fn rom() -> Vec<u8> {
    let mut rom = vec![0; ROM_BYTES];
    for vector in random::VECTORS {
        for (n, word) in random::HANDLER.iter().enumerate() {
            rom[vector as usize + 4 * n..][..4].copy_from_slice(&word.to_be_bytes());
        }
    }
    rom
}

impl Guest for Ppc {
    type Cpu = flatview_cpu::ppc::Ppc;

    const NAME: &'static str = "ppc";
    const ORDERS: &'static [Endianness] = &[Endianness::Big];
    const WORDS: usize = FPSCR + 1;
    const PC: usize = PC_AT;
    const KEPT: &'static [usize] = &[MSR];
    const SHOWN: &'static [usize] = &{
        let mut all = [0; FPSCR + 1];
        let mut n = 0;
        while n < all.len() {
            all[n] = n;
            n += 1;
        }
        all
    };
    const DELAY_SLOTS: bool = false;
    const STORES_AT_ONCE: bool = true;

    fn register_name(n: usize) -> String {
        match n {
            PC_AT => "pc".to_owned(),
            MSR => "msr".to_owned(),
            CR => "cr".to_owned(),
            LR => "lr".to_owned(),
            CTR => "ctr".to_owned(),
            XER => "xer".to_owned(),
            FPSCR => "fpscr".to_owned(),
            0..FIRST_FPR => format!("r{n}"),
            _ => {
                let n = n - FIRST_FPR;
                format!("f{}.{}", n / 2, if n.is_multiple_of(2) { "high" } else { "low" })
            }
        }
    }

    fn mnemonic(word: u32) -> Option<&'static str> {
        words::mnemonic(word)
    }

    fn is_branch(word: u32) -> bool {
        words::is_branch(word)
    }

    fn is_vector(pc: u32) -> bool {
        let at = if pc >= ROM { pc - ROM } else { pc };
        at & 0xff == 0 && (0x100..0x1500).contains(&at)
    }

    fn in_handler(pc: u32) -> bool {
        (if pc >= ROM { pc - ROM } else { pc }) < 0x1500
    }

    /// `fD.high` and `fD.low` are the halves of the floating-point register that is written.
    fn register_behind(name: &str, word: u32) -> String {
        name.replacen("fD", &format!("f{}", word >> 21 & 31), 1)
    }

    fn stored(word: u32, before: &State) -> Option<(u32, u32)> {
        // Where there is no memory there is nothing to compare.
        let real = before.words()[MSR] & DR == 0;
        words::store(word, before).filter(|(at, _)| !real || *at < RAM)
    }

    fn read_by(word: u32, masks: &Masks) -> Option<(usize, u32)> {
        let bits = masks.system(&format!("spr {}", words::read_spr(word)?));
        (bits != 0).then_some(((word >> 21 & 31) as usize, bits))
    }

    fn code_at(at: u32) -> Option<(u32, bool)> {
        random::code_at(at).map(|at| (at, true))
    }

    fn qemu_program(_: Endianness) -> (&'static str, &'static str) {
        ("qemu-system-ppc", "qemu-system-ppc")
    }

    fn arguments(command: &mut Command, _: bool, _: Endianness, folder: &Path) {
        let firmware = folder.join("firmware");
        std::fs::write(&firmware, rom()).unwrap();
        command.args(["-M", "40p", "-cpu", "604", "-bios"]).arg(firmware);
    }

    /// Masks all interrupts of a board's devices.
    fn silence(target: &mut ByGdb<Self>, _: bool) {
        const AT: u32 = 0x8000;
        let mut code = asm::li(3, 0x8000_0000).to_vec();
        code.extend([asm::addi(4, 0, 0xff), asm::d(38, 4, 3, 0x21), asm::d(38, 4, 3, 0xa1), asm::b(0)]);
        target.run_code(AT, &code, 4);
    }

    fn cpu(order: Endianness) -> (Cpu<Self::Cpu>, Memory, AddressSpace) {
        let memory = Memory::new(order);
        let ram = RamBlock::anonymous("ram", RAM.into()).unwrap();
        let ram = memory.add(Region::ram("ram", ram)).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let block = RamBlock::anonymous("rom", ROM_BYTES as u64).unwrap();
        let region = memory.add(Region::rom("rom", block)).unwrap();
        memory.map(memory.system(), ROM.into(), region).unwrap();
        let space = memory.memory_space();
        space.reader().poke(ROM.into(), &rom()).unwrap();
        let isa = flatview_cpu::ppc::Ppc::new(PpcModel::ppc604(), &Clock::stepped(), 100_000_000)
            .with_bus_errors(BusErrors::Ignore);
        let cpu = Cpu::new(isa, &memory, &space).unwrap();
        (cpu, memory, space)
    }

    fn physical(at: u32) -> u32 {
        at
    }
}

const IMAGES: Images = Images { folder: |_| "ppc", words: &[], least: 11 };

#[test]
fn the_isa_tests_run_alike() {
    isa_tests::run_alike::<Ppc>(&IMAGES);
}

#[test]
fn random_programs_run_alike() {
    crate::random::run_alike::<Ppc>(0x604_c0de, &known_words::mnemonics());
}
