//! Instructions as text, in the layout of QEMU's monitor and logs.
//!
//! What it is: one line for four bytes at an address, `0xfff08000:  9021ff78  stw      r1, -0x88(r1)`. What it is not: a
//! decoder of its own. Words are read by crates that are made for it (`powerpc`, `rabbitizer`); what they lack stands in a table of the
//! instruction set. What must always hold: what the CPU would refuse as reserved or illegal is shown as data, everything
//! else as an instruction; any four bytes give a line.

use crate::mips::MipsModel;
use crate::ppc::PpcModel;
use flatview::Endianness;

/// What reads the words: a CPU model, and the byte order of its code.
///
/// ```
/// use flatview::Endianness;
/// use flatview_cpu::{Disassembler, mips::MipsModel, ppc::PpcModel};
///
/// let mips = Disassembler::Mips(MipsModel::usual(), Endianness::Big);
/// assert_eq!(mips.line(0x8000_1000, [0x27, 0xbd, 0xff, 0xe8]), "0x80001000:  addiu\tsp,sp,-24");
/// let ppc = Disassembler::Ppc(PpcModel::ppc604());
/// assert_eq!(ppc.line(0xfff0_8000, [0x90, 0x21, 0xff, 0x78]), "0xfff08000:  9021ff78  stw      r1, -0x88(r1)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disassembler {
    /// MIPS, as GNU's tools and QEMU write it.
    Mips(&'static MipsModel, Endianness),
    /// PowerPC, as QEMU writes it: the word, the instruction in columns.
    Ppc(&'static PpcModel),
}

impl Disassembler {
    /// The line for the four bytes at an address, as they stand in memory; without a line break. Branches go where they
    /// would with the lower half of the address.
    #[must_use]
    pub fn line(self, address: u64, bytes: [u8; 4]) -> String {
        match self {
            Self::Mips(model, order) => {
                let word = match order {
                    Endianness::Big => u32::from_be_bytes(bytes),
                    Endianness::Little => u32::from_le_bytes(bytes),
                };
                let text = crate::mips::disassemble(model, word, address as u32)
                    .unwrap_or_else(|| format!("{word:#x}"));
                format!("0x{address:08x}:  {text}")
            }
            Self::Ppc(model) => {
                let word = u32::from_be_bytes(bytes);
                let text = crate::ppc::disassemble(model, word, address as u32).unwrap_or_else(|| {
                    let [a, b, c, d] = bytes;
                    format!(".byte    0x{a:02x}, 0x{b:02x}, 0x{c:02x}, 0x{d:02x}")
                });
                format!("0x{address:08x}:  {word:08x}  {text}")
            }
        }
    }

    /// Whether the CPU knows the instruction; else [`line`](Self::line) shows data.
    #[must_use]
    pub fn knows(self, bytes: [u8; 4]) -> bool {
        match self {
            Self::Mips(model, Endianness::Big) => crate::mips::knows(model, u32::from_be_bytes(bytes)),
            Self::Mips(model, Endianness::Little) => crate::mips::knows(model, u32::from_le_bytes(bytes)),
            Self::Ppc(model) => crate::ppc::knows(model, u32::from_be_bytes(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words whose opcodes are all there, not only the few that most numbers have.
    fn words(count: u32) -> impl Iterator<Item = u32> {
        let mut random = fastrand::Rng::with_seed(24);
        (0..count).map(move |n| random.u32(..) & 0x03ff_ffff | n << 26)
    }

    #[test]
    fn what_mips_cpus_accept_has_a_text_and_nothing_else_has() {
        for model in MipsModel::all() {
            let (mut known, mut missing) = (0, Vec::new());
            for word in words(400_000) {
                let text = crate::mips::disassemble(model, word, 0);
                assert!(text.is_none() || crate::mips::knows(model, word), "{word:08x}");
                known += u32::from(text.is_some());
                if text.is_none() && crate::mips::knows(model, word) {
                    missing.push(format!("{word:08x}"));
                }
            }
            assert_eq!(missing, Vec::<String>::new(), "{}", model.name);
            assert!(known > 150_000, "{}: {known}", model.name);
        }
    }

    #[test]
    fn what_powerpcs_accept_has_a_text_and_nothing_else_has() {
        for model in PpcModel::all() {
            let (mut known, mut missing) = (0, Vec::new());
            for word in words(400_000) {
                let text = crate::ppc::disassemble(model, word, 0);
                assert!(text.is_none() || crate::ppc::knows(model, word), "{word:08x}");
                known += u32::from(text.is_some());
                if text.is_none() && crate::ppc::knows(model, word) {
                    missing.push(format!("{word:08x}"));
                }
            }
            assert_eq!(missing, Vec::<String>::new(), "{}", model.name);
            assert!(known > 150_000, "{}: {known}", model.name);
        }
    }
}
