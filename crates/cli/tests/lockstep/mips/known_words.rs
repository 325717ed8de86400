//! Which instructions there are: the driver's list is the CPU's.

use std::collections::BTreeSet;

use flatview::Endianness;

use flatview_cpu::mips::PC;

use super::Mips;
use super::words::mnemonic;
use crate::masks::Masks;
use crate::target::InProcess;

/// Words that differ in every field that says which instruction it is.
fn words() -> impl Iterator<Item = u32> {
    let ops = 0..64_u32;
    ops.flat_map(|op| {
        let fields = match op {
            // function, and where there are more, the register fields.
            0x00 | 0x1c => {
                (0..64).flat_map(|f| (0..32).map(move |n| f | n << 6 | n << 16 | n << 21)).collect()
            }
            0x1f => (0..64).flat_map(|f| (0..32).map(move |n| f | n << 6 | 0x11 << 11)).collect(),
            0x01 => (0..32).map(|rt| rt << 16).collect(),
            0x11 => (0..32)
                .flat_map(|rs| (0..64).map(move |f| rs << 21 | f))
                .flat_map(|word| (0..8).map(move |n| word | n << 16 | n << 8))
                .collect(),
            0x13 => (0..64).flat_map(|f| (0..32).map(move |n| f | n << 21 | n << 6)).collect(),
            0x10 => (0..32).flat_map(|rs| (0..64).map(move |f| rs << 21 | f | 12 << 11)).collect(),
            _ => (0..32).flat_map(|rs| [rs << 21, rs << 21 | 1 << 16]).collect::<Vec<u32>>(),
        };
        fields.into_iter().map(move |rest| op << 26 | rest)
    })
}

/// The names of all instructions that are compared.
pub fn mnemonics() -> BTreeSet<&'static str> {
    let masks = Masks::read::<Mips>();
    words().filter(|word| !masks.leaves_out_word(*word)).filter_map(mnemonic).collect()
}

/// As after a reset: whether an instruction word at 0x80001000 is one that the CPU knows.
fn knows(ours: &mut InProcess<Mips>, word: u32) -> bool {
    const AT: u64 = 0x1000;
    ours.space.reader().poke(AT, &word.to_be_bytes()).unwrap();
    ours.cpu.forget_code();
    ours.cpu.reset();
    let core = ours.cpu.core_mut();
    // Both coprocessors, the FPU with 32 whole registers.
    core.isa.cp0.set_all_status(0x3400_0000);
    core.set(PC, 0x8000_0000 | AT);
    ours.cpu.step();
    let core = ours.cpu.core();
    let faulted = core.isa.cp0.status() & 2 != 0 && core.get(PC) >> 12 == 0x8_0000;
    !(faulted && core.isa.cp0.cause() >> 2 & 31 == 10)
}

#[test]
fn the_drivers_list_of_instructions_is_the_cpus() {
    let mut cpu = InProcess::<Mips>::new(Endianness::Big);
    let mut random = fastrand::Rng::with_seed(24);
    let more = std::iter::repeat_with(move || random.u32(..)).take(100_000);
    let (mut known, mut reserved) = (0, 0);
    let masks = Masks::read::<Mips>();
    for word in words().chain(more).filter(|word| !masks.leaves_out_word(*word)) {
        let (ours, listed) = (knows(&mut cpu, word), mnemonic(word));
        assert_eq!(ours, listed.is_some(), "{word:08x} {listed:?}");
        known += u32::from(ours);
        reserved += u32::from(!ours);
    }
    assert!(known > 10_000 && reserved > 10_000, "{known} known, {reserved} reserved");
}
