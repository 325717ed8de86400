//! Which instructions there are: the driver's list is the CPU's.

use std::collections::BTreeSet;

use flatview::Endianness;
use flatview_cpu::Isa as _;
use flatview_cpu::ppc::{PC, SRR1};

use super::Ppc;
use super::words::mnemonic;
use crate::masks::Masks;
use crate::target::InProcess;

/// SRR1 of a program exception: an illegal instruction.
const ILLEGAL: u32 = 1 << 19;

/// Words that differ in every field that says which instruction it is.
fn words() -> impl Iterator<Item = u32> {
    let fields = |op: u32| -> Vec<u32> {
        match op {
            19 | 31 | 59 | 63 => (0..0x800).map(|n| n | 3 << 21 | 4 << 16).collect(),
            _ => (0..2).flat_map(|n| [n, n | 3 << 21 | 4 << 16, n | 3 << 21 | 3 << 16]).collect(),
        }
    };
    // The registers of mftb, and where strings go.
    let more = [268, 269, 22].map(|n| 31 << 26 | 3 << 21 | (n & 31) << 16 | (n >> 5) << 11 | 371 << 1);
    let strings = (0..32).flat_map(|n| [597, 725].map(|x| 31 << 26 | 3 << 21 | 5 << 16 | n << 11 | x << 1));
    (0..64)
        .flat_map(move |op| fields(op).into_iter().map(move |rest| op << 26 | rest))
        .chain(more)
        .chain(strings)
}

/// The names of all instructions that are compared.
pub fn mnemonics() -> BTreeSet<&'static str> {
    let masks = Masks::read::<Ppc>();
    words().filter(|word| !masks.leaves_out_word(*word)).filter_map(mnemonic).collect()
}

/// As after a reset, with the floating-point unit: whether a word is an instruction that the CPU knows.
fn knows(ours: &mut InProcess<Ppc>, word: u32) -> bool {
    const AT: u64 = 0x1_0000;
    ours.space.reader().poke(AT, &word.to_be_bytes()).unwrap();
    ours.cpu.forget_code();
    ours.cpu.reset();
    let core = ours.cpu.core_mut();
    core.isa.set_msr(0x3000);
    core.set(PC, AT);
    ours.cpu.step();
    let core = ours.cpu.core();
    !(flatview_cpu::ppc::Ppc::pc(core) == 0x700 && core.get(SRR1) as u32 & ILLEGAL != 0)
}

#[test]
fn the_drivers_list_of_instructions_is_the_cpus() {
    let mut cpu = InProcess::<Ppc>::new(Endianness::Big);
    let mut random = fastrand::Rng::with_seed(604);
    let more = std::iter::repeat_with(move || random.u32(..)).take(100_000);
    let (mut known, mut illegal) = (0, 0);
    let masks = Masks::read::<Ppc>();
    for word in words().chain(more).filter(|word| !masks.leaves_out_word(*word)) {
        let (ours, listed) = (knows(&mut cpu, word), mnemonic(word));
        assert_eq!(ours, listed.is_some(), "{word:08x} {listed:?}");
        known += u32::from(ours);
        illegal += u32::from(!ours);
    }
    assert!(known > 10_000 && illegal > 5_000, "{known} known, {illegal} illegal");
}
