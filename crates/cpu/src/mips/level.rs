//! Which instructions a CPU has.
//!
//! What it is: the encodings that came after MIPS III, each with what they came with. What it is not: what they do
//! (`translate`). What must always hold: an instruction that stands in no row is one of MIPS III, or is none for any CPU here.

/// What instructions came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// MIPS III without what works on 64-bit general registers.
    Mips3,
    /// MIPS IV.
    Mips4,
    /// MIPS32 release 1, EJTAG included.
    Mips32,
    /// MIPS32 release 2.
    Mips32R2,
}

/// An encoding: those bits of a word that are looked at, and what they are.
struct Row(u32, u32, Level);

const OP: u32 = 0xfc00_0000;
const FUNCTION: u32 = 0xfc00_003f;
const RS: u32 = 0xffe0_0000;
const REGIMM: u32 = 0xfc1f_0000;

const fn special(function: u32) -> u32 {
    function
}
const fn special3(function: u32) -> u32 {
    0x1f << 26 | function
}
const fn cop0(function: u32) -> u32 {
    0x4200_0000 | function
}
const fn cop1(rs: u32) -> u32 {
    0x11 << 26 | rs << 21
}

static LATER: &[Row] = &[
    // MOVF and MOVT; MOVZ, MOVN.
    Row(FUNCTION, special(0x01), Level::Mips4),
    Row(FUNCTION, special(0x0a), Level::Mips4),
    Row(FUNCTION, special(0x0b), Level::Mips4),
    // COP1X; PREF.
    Row(OP, 0x13 << 26, Level::Mips4),
    Row(OP, 0x33 << 26, Level::Mips4),
    // The same moves of the FPU, S and D; RECIP, RSQRT; condition codes 1 to 7.
    Row(0xffc0_003f, cop1(16) | 0x11, Level::Mips4),
    Row(0xffc0_003f, cop1(16) | 0x12, Level::Mips4),
    Row(0xffc0_003f, cop1(16) | 0x13, Level::Mips4),
    Row(0xffc0_003f, cop1(16) | 0x15, Level::Mips4),
    Row(0xffc0_003f, cop1(16) | 0x16, Level::Mips4),
    // MADD, MADDU, MUL, MSUB, MSUBU, CLZ, CLO, SDBBP.
    Row(OP, 0x1c << 26, Level::Mips32),
    // WAIT, DERET.
    Row(FUNCTION | 1 << 25, cop0(0x20), Level::Mips32),
    Row(FUNCTION | 1 << 25, cop0(0x1f), Level::Mips32),
    // ROTR, ROTRV.
    Row(0xffe0_003f, special(0x02) | 1 << 21, Level::Mips32R2),
    Row(FUNCTION | 0x7c0, special(0x06) | 1 << 6, Level::Mips32R2),
    // EXT, INS, SEB, SEH, WSBH, RDHWR.
    Row(FUNCTION, special3(0x00), Level::Mips32R2),
    Row(FUNCTION, special3(0x04), Level::Mips32R2),
    Row(FUNCTION, special3(0x20), Level::Mips32R2),
    Row(FUNCTION, special3(0x3b), Level::Mips32R2),
    // SYNCI.
    Row(REGIMM, 1 << 26 | 0x1f << 16, Level::Mips32R2),
    // RDPGPR, DI and EI, WRPGPR.
    Row(RS, 0x10 << 26 | 0x0a << 21, Level::Mips32R2),
    Row(RS, 0x10 << 26 | 0x0b << 21, Level::Mips32R2),
    Row(RS, 0x10 << 26 | 0x0e << 21, Level::Mips32R2),
    // MFHC1, MTHC1.
    Row(RS, cop1(3), Level::Mips32R2),
    Row(RS, cop1(7), Level::Mips32R2),
];

impl Level {
    /// Whether a CPU of this level has an instruction, if any has.
    pub fn has(self, word: u32) -> bool {
        if self == Self::Mips32R2 {
            return true;
        }
        let later = LATER.iter().any(|row| word & row.0 == row.1 && row.2 > self);
        !later && (self >= Self::Mips4 || !names_a_later_code(word))
    }
}

/// Whether a comparison or a branch names one of the FPU's condition codes 1 to 7, which MIPS III does not have.
fn names_a_later_code(word: u32) -> bool {
    let format = word >> 21 & 31;
    word >> 26 == 0x11
        && match format {
            8 => word >> 18 & 7 != 0,
            16 | 17 => word & 0x30 == 0x30 && word >> 8 & 7 != 0,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instruction_is_there_from_its_level_on() {
        let cases = [
            (0x0000_1021, Level::Mips3),    // addu
            (0x0022_1002, Level::Mips32R2), // rotr
            (0x0002_1082, Level::Mips3),    // srl
            (0x0062_1046, Level::Mips32R2), // rotrv
            (0x0062_1006, Level::Mips3),    // srlv
            (0x0062_100a, Level::Mips4),    // movz
            (0x0065_1001, Level::Mips4),    // movt
            (0x7062_1002, Level::Mips32),   // mul
            (0x7062_1020, Level::Mips32),   // clz
            (0x7c62_1000, Level::Mips32R2), // ext
            (0x4200_0020, Level::Mips32),   // wait
            (0x4200_0018, Level::Mips3),    // eret
            (0x4160_6020, Level::Mips32R2), // ei
            (0x4462_1000, Level::Mips32R2), // mfhc1
            (0x4402_1000, Level::Mips3),    // mfc1
            (0x4604_1003, Level::Mips3),    // div.s
            (0x4620_1015, Level::Mips4),    // recip.d
            (0x4600_1004, Level::Mips3),    // sqrt.s
            (0x4604_103c, Level::Mips3),    // c.lt.s
            (0x4604_113c, Level::Mips4),    // c.lt.s, condition code 1
            (0x4501_0000, Level::Mips3),    // bc1t
            (0x4505_0000, Level::Mips4),    // bc1t, condition code 1
            (0x4c62_1020, Level::Mips4),    // madd.s
            (0x041f_0000, Level::Mips32R2), // synci
            (0x0411_0000, Level::Mips3),    // bal
        ];
        for (word, since) in cases {
            for level in [Level::Mips3, Level::Mips4, Level::Mips32, Level::Mips32R2] {
                assert_eq!(level.has(word), level >= since, "{word:08x} {level:?}");
            }
        }
    }
}
