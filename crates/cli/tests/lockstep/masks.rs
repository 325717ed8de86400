//! What is not compared, from `docs/lockstep.md` and from nowhere else.

use std::collections::BTreeMap;
use std::path::Path;

use crate::guest::Guest;
use crate::state::State;

#[derive(Debug, Default)]
pub struct Masks {
    /// Bits of registers that gdb shows.
    registers: BTreeMap<String, u32>,
    /// The same in exception handlers only.
    handlers: BTreeMap<String, u32>,
    /// The same behind an instruction: its name without `.`, the register as [`Guest::register_behind`] takes it, and the bits.
    behind: Vec<(String, String, u32)>,
    /// Bits of the system's registers, by what instructions call them: `cp0 9.0`, `rdhwr 2`, `spr 22`.
    system: BTreeMap<String, u32>,
    /// Instruction words: value and the bits that count.
    words: Vec<(u32, u32)>,
    /// ISA tests.
    groups: Vec<String>,
}

impl Masks {
    pub fn read<G: Guest>() -> Self {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lockstep.md");
        let text = std::fs::read_to_string(page).unwrap();
        let fence = format!("```not-compared-{}\n", G::NAME);
        let list = text.split(&fence).nth(1).expect("the page has the table");
        let list = list.split("```").next().unwrap();
        let mut masks = Self::default();
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (what, reason) = line.split_once('#').expect("each line gives its reason");
            assert!(!reason.trim().is_empty(), "a line without a reason: {line}");
            let words: Vec<_> = what.split_whitespace().collect();
            let hex = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
            match words[..] {
                ["register", name, bits] => {
                    masks.registers.insert(name.to_owned(), hex(bits));
                }
                ["handler", name, bits] => {
                    masks.handlers.insert(name.to_owned(), hex(bits));
                }
                ["behind", mnemonic, name, bits] => {
                    let names = mnemonic.split(',');
                    masks.behind.extend(names.map(|of| (of.to_owned(), name.to_owned(), hex(bits))));
                }
                [kind @ ("cp0" | "rdhwr" | "spr"), register, bits] => {
                    masks.system.insert(format!("{kind} {register}"), hex(bits));
                }
                ["word", value, bits] => masks.words.push((hex(value), hex(bits))),
                ["group", name] => masks.groups.push(name.to_owned()),
                _ => panic!("what is this: {line}"),
            }
        }
        masks
    }

    pub fn leaves_out_group(&self, group: &str) -> bool {
        self.groups.iter().any(|name| name == group)
    }

    pub fn leaves_out_word(&self, word: u32) -> bool {
        self.words.iter().any(|(value, bits)| word & bits == value & bits)
    }

    /// Bits of a register of the system that are not compared.
    pub fn system(&self, register: &str) -> u32 {
        self.system.get(register).copied().unwrap_or(0)
    }

    /// Which registers differ behind an instruction, in bits that are compared and in others.
    pub fn differences<G: Guest>(
        &self,
        qemu: &State,
        ours: &State,
        word: Option<u32>,
    ) -> (Vec<usize>, Vec<usize>) {
        let mut differ: Vec<_> = (0..G::WORDS).filter(|n| qemu.words()[*n] != ours.words()[*n]).collect();
        let mnemonic = word.and_then(G::mnemonic).unwrap_or_default().trim_end_matches('.');
        let masked = |n: usize| {
            let name = G::register_name(n);
            let in_handlers = if G::in_handler(qemu.pc()) { self.handlers.get(&name) } else { None };
            let behind = self.behind.iter().filter(|(of, register, _)| {
                of == mnemonic && G::register_behind(register, word.unwrap_or_default()) == name
            });
            let lists = [self.registers.get(&name), in_handlers];
            behind.map(|(.., bits)| bits).chain(lists.into_iter().flatten()).fold(0, |all, bits| all | bits)
        };
        let compared = |n: &usize| (qemu.words()[*n] ^ ours.words()[*n]) & !masked(*n) != 0;
        let unseen = differ.extract_if(.., |n| !compared(n)).collect();
        (differ, unseen)
    }
}
