//! Guest code, whatever it is: it runs, takes exceptions, waits, and harms nobody.

#![no_main]

use std::sync::LazyLock;

use flatview::{Endianness, Memory, RamBlock, Region};
use flatview_cpu::mips::{self, Mips, MipsModel};
use flatview_cpu::ppc::{self, Ppc, PpcModel};
use flatview_cpu::{Cpu, Isa};
use flatview_device::Clock;
use libfuzzer_sys::fuzz_target;

const RAM: u64 = 1 << 16;
const CODE: u64 = 0x4000;

struct Board<I: Isa> {
    memory: Memory,
    cpu: Cpu<I>,
}

impl<I: Isa> Board<I> {
    fn new(order: Endianness, isa: impl FnOnce(&Clock) -> I) -> Self {
        let memory = Memory::new(order);
        let ram = RamBlock::anonymous("ram", RAM).expect("64 KiB");
        let ram = memory.add(Region::ram("ram", ram)).expect("a region");
        memory.map(memory.system(), 0, ram).expect("room for it");
        let cpu = Cpu::new(isa(&Clock::stepped()), &memory, &memory.memory_space()).expect("a CPU");
        Self { memory, cpu }
    }

    fn run(mut self, code: &[u8], enter: impl FnOnce(&mut Cpu<I>)) {
        let room = code.get(..code.len().min((RAM - CODE) as usize)).unwrap_or_default();
        self.memory.memory_space().poke(CODE, room).expect("it is RAM");
        enter(&mut self.cpu);
        for _ in 0..8 {
            self.cpu.run(500);
        }
    }
}

static MIPS: LazyLock<Vec<&'static MipsModel>> =
    LazyLock::new(|| ["24Kc", "24Kf", "R4000"].iter().filter_map(|name| MipsModel::find(name)).collect());
static PPC: LazyLock<Vec<&'static PpcModel>> =
    LazyLock::new(|| ["604", "755"].iter().filter_map(|name| PpcModel::find(name)).collect());

fuzz_target!(|input: &[u8]| {
    // What tells how to take it stands last, so that any file begins an input.
    let Some((code, &[which, a, b, c, d])) = input.split_last_chunk() else { return };
    let state = u32::from_le_bytes([a, b, c, d]);
    let pick = usize::from(which >> 2);
    if which & 1 == 0 {
        let order = if which & 2 == 0 { Endianness::Big } else { Endianness::Little };
        let Some(model) = MIPS.get(pick % MIPS.len().max(1)) else { return };
        Board::new(order, |clock| Mips::with_model(model, order, clock)).run(code, |cpu| {
            let core = cpu.core_mut();
            core.set(mips::PC, 0xffff_ffff_8000_0000 | CODE);
            core.isa.cp0.set_all_status(state);
        });
    } else {
        let Some(model) = PPC.get(pick % PPC.len().max(1)) else { return };
        Board::new(Endianness::Big, |clock| Ppc::new(model, clock, 1_000_000)).run(code, |cpu| {
            let core = cpu.core_mut();
            core.set(ppc::PC, CODE);
            core.isa.set_msr(state);
        });
    }
});
