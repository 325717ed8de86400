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

    /// QEMU 7.2 prints the same but where it says otherwise.
    #[test]
    fn powerpc_instructions_are_written_as_by_qemu() {
        let ppc = Disassembler::Ppc(PpcModel::ppc755());
        for (word, text) in [
            (0x9021_ff78, "stw      r1, -0x88(r1)"),
            (0x8000_0cf8, "lwz      r0, 0xcf8(0)"),
            (0x7c60_1e2c, "lhbrx    r3, 0, r3"),
            (0x7c00_57ac, "icbi     0, r10"),
            (0x7c6d_42e6, "mftbu    r3"),
            (0x7c6c_42e6, "mftb     r3"), // mftb r3, 0x10c
            (0x4e80_0020, "blr      "),
            (0x4800_0005, "bl       0xfff00104"),
            (0x4800_0102, "ba       0x100"),
            (0x4182_ffec, "beq      0xfff000ec"),
            (0x7c09_d000, "cmpw     r9, r26"),
            (0x5529_07fa, "rlwinm   r9, r9, 0, 0x1f, 0x1d"),
            (0x7c88_02a6, "mflr     r4"),
            (0x3940_ffff, "li       r10, -1"),   // 0xffff
            (0x3909_ffff, "subi     r8, r9, 1"), // addi r8, r9, 0xffff
            (0x6000_0000, "nop      "),
            (0xfc22_182a, "fadd     f1, f2, f3"),
            (0x7c00_27a4, "tlbld    r4"), // the 755's
        ] {
            let line = ppc.line(0xfff0_0100, u32::to_be_bytes(word));
            assert_eq!(line, format!("0xfff00100:  {word:08x}  {text}"));
        }
        let unknown = Disassembler::Ppc(PpcModel::ppc604()).line(0x100, [0x7c, 0x00, 0x27, 0xa4]);
        assert_eq!(unknown, "0x00000100:  7c0027a4  .byte    0x7c, 0x00, 0x27, 0xa4", "the 604 has no tlbld");
    }

    /// All of it is what QEMU 7.2 prints, but for `madd`, which it calls `mad`, and the last word, which a 64-bit CPU knows.
    #[test]
    fn mips_instructions_are_written_as_by_qemu() {
        let mips = |word, model| {
            let model = MipsModel::find(model).unwrap();
            let big = Disassembler::Mips(model, Endianness::Big).line(0x8000_0000, u32::to_be_bytes(word));
            let little =
                Disassembler::Mips(model, Endianness::Little).line(0x8000_0000, u32::to_le_bytes(word));
            assert_eq!(big, little);
            big.strip_prefix("0x80000000:  ").unwrap().to_owned()
        };
        for (word, text) in [
            (0x27bd_ffe8, "addiu\tsp,sp,-24"),
            (0x3c08_bfc0, "lui\tt0,0xbfc0"),
            (0x2402_0005, "li\tv0,5"),
            (0x3402_0005, "li\tv0,0x5"),
            (0x0080_8025, "move\ts0,a0"),
            (0x0080_8021, "move\ts0,a0"),
            (0x1000_0003, "b\t0x80000010"),
            (0x1109_fffe, "beq\tt0,t1,0x7ffffffc"),
            (0x0c00_0400, "jal\t0x80001000"),
            (0x0320_f809, "jalr\tt9"),
            (0x03e0_0008, "jr\tra"),
            (0x000f_7840, "sll\tt7,t7,0x1"),
            (0x0000_0000, "nop"),
            (0x0000_0040, "ssnop"),
            (0x0000_00c0, "ehb"),
            (0x0045_001b, "divu\tzero,v0,a1"),
            (0x0004_8823, "negu\ts1,a0"),
            (0x00a0_01f4, "teq\ta1,zero,0x7"),
            (0x0000_000c, "syscall"),
            (0x0000_014d, "break\t0x0,0x5"),
            (0x4080_6000, "mtc0\tzero,$12"),
            (0x4002_8001, "mfc0\tv0,$16,1"),
            (0x7c84_2080, "ext\ta0,a0,0x2,0x5"),
            (0x7c1b_0004, "ins\tk1,zero,0x0,0x1"),
            (0x7c03_e83b, "rdhwr\tv1,$29"),
            (0x7215_0000, "madd\ts0,s5"),
            (0x4600_1005, "abs.s\t$f0,$f2"),
            (0x4622_0832, "c.eq.d\t$f1,$f2"),
            (0x4622_0932, "c.eq.d\t$fcc1,$f1,$f2"),
            (0x4501_0003, "bc1t\t0x80000010"),
            (0x4505_0003, "bc1t\t$fcc1,0x80000010"),
            (0x4c62_1020, "madd.s\t$f0,$f3,$f2,$f2"),
            (0x4c62_0000, "lwxc1\t$f0,v0(v1)"),
            (0xbe55_0000, "cache\t0x15,0(s2)"),
            (0x4200_0020, "wait"),
            (0xfc00_0000, "0xfc000000"),
        ] {
            assert_eq!(mips(word, "24Kf"), text, "{word:08x}");
        }
        assert_eq!(mips(0x7c84_2080, "R4000"), "0x7c842080", "ext came later");
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
