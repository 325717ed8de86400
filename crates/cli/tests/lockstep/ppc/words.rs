//! What the driver must know of a PowerPC word: its mnemonic, whether it branches, what it stores.
//!
//! The names are those of the 604's instructions, with `o` and `.` for OE and Rc. Words with reserved bits set have the name
//! that they have without.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::XER;
use crate::state::State;

/// Names by primary opcode, where that says it all.
const PRIMARY: [&str; 64] = [
    "", "", "", "twi", "", "", "", "mulli", "subfic", "", "cmplwi", "cmpwi", "addic", "addic.", "addi",
    "addis", "bc", "sc", "b", "", "rlwimi", "rlwinm", "", "rlwnm", "ori", "oris", "xori", "xoris", "andi.",
    "andis.", "", "", "lwz", "lwzu", "lbz", "lbzu", "stw", "stwu", "stb", "stbu", "lhz", "lhzu", "lha",
    "lhau", "sth", "sthu", "lmw", "stmw", "lfs", "lfsu", "lfd", "lfdu", "stfs", "stfsu", "stfd", "stfdu", "",
    "", "", "", "", "", "", "",
];

/// Opcode 19.
const BRANCHES: [(u32, &str); 13] = [
    (0, "mcrf"),
    (16, "bclr"),
    (33, "crnor"),
    (50, "rfi"),
    (129, "crandc"),
    (150, "isync"),
    (193, "crxor"),
    (225, "crnand"),
    (257, "crand"),
    (289, "creqv"),
    (417, "crorc"),
    (449, "cror"),
    (528, "bcctr"),
];

/// Opcode 31, of which there is one with OE too.
const OVERFLOWING: [(u32, &str); 14] = [
    (8, "subfc"),
    (10, "addc"),
    (40, "subf"),
    (104, "neg"),
    (136, "subfe"),
    (138, "adde"),
    (200, "subfze"),
    (202, "addze"),
    (232, "subfme"),
    (234, "addme"),
    (235, "mullw"),
    (266, "add"),
    (459, "divwu"),
    (491, "divw"),
];

/// Opcode 31 with Rc.
const RECORDING: [(u32, &str); 17] = [
    (11, "mulhwu"),
    (24, "slw"),
    (26, "cntlzw"),
    (28, "and"),
    (60, "andc"),
    (75, "mulhw"),
    (124, "nor"),
    (284, "eqv"),
    (316, "xor"),
    (412, "orc"),
    (444, "or"),
    (476, "nand"),
    (536, "srw"),
    (792, "sraw"),
    (824, "srawi"),
    (922, "extsh"),
    (954, "extsb"),
];

/// Opcode 31 without Rc.
const PLAIN: [(u32, &str); 61] = [
    (0, "cmpw"),
    (4, "tw"),
    (19, "mfcr"),
    (20, "lwarx"),
    (23, "lwzx"),
    (32, "cmplw"),
    (54, "dcbst"),
    (55, "lwzux"),
    (83, "mfmsr"),
    (86, "dcbf"),
    (87, "lbzx"),
    (119, "lbzux"),
    (144, "mtcrf"),
    (146, "mtmsr"),
    (150, "stwcx."),
    (151, "stwx"),
    (183, "stwux"),
    (210, "mtsr"),
    (215, "stbx"),
    (242, "mtsrin"),
    (246, "dcbtst"),
    (247, "stbux"),
    (278, "dcbt"),
    (279, "lhzx"),
    (306, "tlbie"),
    (310, "eciwx"),
    (311, "lhzux"),
    (339, "mfspr"),
    (343, "lhax"),
    (371, "mftb"),
    (375, "lhaux"),
    (407, "sthx"),
    (438, "ecowx"),
    (439, "sthux"),
    (467, "mtspr"),
    (470, "dcbi"),
    (512, "mcrxr"),
    (533, "lswx"),
    (534, "lwbrx"),
    (535, "lfsx"),
    (566, "tlbsync"),
    (567, "lfsux"),
    (595, "mfsr"),
    (597, "lswi"),
    (598, "sync"),
    (599, "lfdx"),
    (631, "lfdux"),
    (659, "mfsrin"),
    (661, "stswx"),
    (662, "stwbrx"),
    (663, "stfsx"),
    (695, "stfsux"),
    (725, "stswi"),
    (727, "stfdx"),
    (759, "stfdux"),
    (790, "lhbrx"),
    (854, "eieio"),
    (918, "sthbrx"),
    (982, "icbi"),
    (983, "stfiwx"),
    (1014, "dcbz"),
];

/// Opcodes 59 and 63 with five bits of extended opcode.
const ARITHMETIC: [(u32, &str, &str); 11] = [
    (18, "fdivs", "fdiv"),
    (20, "fsubs", "fsub"),
    (21, "fadds", "fadd"),
    (23, "", "fsel"),
    (24, "fres", ""),
    (25, "fmuls", "fmul"),
    (26, "", "frsqrte"),
    (28, "fmsubs", "fmsub"),
    (29, "fmadds", "fmadd"),
    (30, "fnmsubs", "fnmsub"),
    (31, "fnmadds", "fnmadd"),
];

/// Opcode 63 with ten.
const FLOAT: [(u32, &str); 15] = [
    (0, "fcmpu"),
    (12, "frsp"),
    (14, "fctiw"),
    (15, "fctiwz"),
    (32, "fcmpo"),
    (38, "mtfsb1"),
    (40, "fneg"),
    (64, "mcrfs"),
    (70, "mtfsb0"),
    (72, "fmr"),
    (134, "mtfsfi"),
    (136, "fnabs"),
    (264, "fabs"),
    (583, "mffs"),
    (711, "mtfsf"),
];

/// By primary and extended opcode, OE among the latter's bits, and Rc.
static NAMES: LazyLock<HashMap<(u32, u32, bool), &'static str>> = LazyLock::new(|| {
    let mut names = HashMap::new();
    let mut add = |op: u32, extended: u32, name: &str, records: bool| {
        if name.is_empty() {
            return;
        }
        let plain: &'static str = String::leak(name.to_owned());
        let dotted: &'static str = if records { String::leak(format!("{name}.")) } else { plain };
        names.insert((op, extended, false), plain);
        names.insert((op, extended, true), dotted);
    };
    for (extended, name) in BRANCHES {
        add(19, extended, name, false);
    }
    for (extended, name) in OVERFLOWING {
        add(31, extended, name, true);
        add(31, extended | 0x200, &format!("{name}o"), true);
    }
    for (extended, name) in RECORDING {
        add(31, extended, name, true);
    }
    for (extended, name) in PLAIN {
        add(31, extended, name, false);
    }
    for (extended, single, double) in ARITHMETIC {
        for c in 0..32 {
            add(59, c << 5 | extended, single, true);
            add(63, c << 5 | extended, double, true);
        }
    }
    for (extended, name) in FLOAT {
        add(63, extended, name, !matches!(name, "fcmpu" | "fcmpo" | "mcrfs"));
    }
    names
});

/// Which instruction a word is; nothing for the illegal ones.
pub fn mnemonic(word: u32) -> Option<&'static str> {
    let op = word >> 26;
    let (d, a) = (word >> 21 & 31, word >> 16 & 31);
    // Updates without a register, or of the one that is loaded, are no instructions here.
    let updates = |load: bool| a != 0 && !(load && a == d);
    let name = match op {
        19 | 31 | 59 | 63 => *NAMES.get(&(op, word >> 1 & 0x3ff, word & 1 != 0))?,
        20 | 21 | 23 if word & 1 != 0 => ["rlwimi.", "rlwinm.", "", "rlwnm."][op as usize - 20],
        16 if word & 1 != 0 => "bcl",
        18 if word & 1 != 0 => "bl",
        _ => PRIMARY[op as usize],
    };
    let there = match name {
        "lwzu" | "lbzu" | "lhzu" | "lhau" | "lwzux" | "lbzux" | "lhzux" | "lhaux" => updates(true),
        "stwu" | "stbu" | "sthu" | "stwux" | "stbux" | "sthux" | "lfsu" | "lfdu" | "stfsu" | "stfdu"
        | "lfsux" | "lfdux" | "stfsux" | "stfdux" => updates(false),
        "bcctr" => d & 4 != 0,
        "stwcx." => word & 1 != 0,
        "mftb" => matches!(a | (word >> 11 & 31) << 5, 268 | 269),
        "lswi" => {
            let bytes = if word >> 11 & 31 == 0 { 32 } else { word >> 11 & 31 };
            a == 0 || (a.wrapping_sub(d) & 31) >= bytes.div_ceil(4)
        }
        name => !name.is_empty(),
    };
    let linked = match name {
        "bclr" if word & 1 != 0 => "bclrl",
        "bcctr" if word & 1 != 0 => "bcctrl",
        name => name,
    };
    there.then_some(linked)
}

pub fn is_branch(word: u32) -> bool {
    matches!(mnemonic(word), Some("b" | "bl" | "bc" | "bcl" | "bclr" | "bclrl" | "bcctr" | "bcctrl"))
}

/// The address of a store, and how many words it may touch.
pub fn store(word: u32, before: &State) -> Option<(u32, u32)> {
    let (d, a, b) = (word >> 21 & 31, (word >> 16 & 31) as usize, (word >> 11 & 31) as usize);
    let value = |n: usize| before.words()[n];
    let base = if a == 0 { 0 } else { value(a) };
    let displaced = base.wrapping_add_signed((word as i16).into());
    let indexed = base.wrapping_add(value(b));
    let (at, bytes) = match mnemonic(word)? {
        "stw" | "stwu" | "stfs" | "stfsu" => (displaced, 4),
        "stb" | "stbu" => (displaced, 1),
        "sth" | "sthu" => (displaced, 2),
        "stmw" => (displaced, 4 * (32 - d)),
        "stfd" | "stfdu" => (displaced, 8),
        "stwx" | "stwux" | "stwbrx" | "stwcx." | "stfsx" | "stfsux" | "stfiwx" => (indexed, 4),
        "stbx" | "stbux" => (indexed, 1),
        "sthx" | "sthux" | "sthbrx" => (indexed, 2),
        "stfdx" | "stfdux" => (indexed, 8),
        "stswi" => (base, if b == 0 { 32 } else { b as u32 }),
        "stswx" => (indexed, value(XER) & 0x7f),
        "dcbz" => (indexed & !31, 32),
        _ => return None,
    };
    (bytes != 0).then_some((at, ((at & 3) + bytes).div_ceil(4)))
}

/// The special-purpose register that a word reads.
pub fn read_spr(word: u32) -> Option<u32> {
    matches!(mnemonic(word)?, "mfspr" | "mftb").then_some(word >> 16 & 31 | (word >> 11 & 31) << 5)
}
