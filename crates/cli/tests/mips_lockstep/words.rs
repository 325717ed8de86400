//! What the driver must know of an instruction word: its mnemonic, whether it branches, what it stores.

/// Which instruction a word is; nothing for the reserved ones. With an FPU the names are those of the FPU's instructions too.
pub fn mnemonic(word: u32) -> Option<&'static str> {
    let (rs, rt, rd, sa) = (word >> 21 & 31, word >> 16 & 31, word >> 11 & 31, word >> 6 & 31);
    Some(match word >> 26 {
        0x00 => match (word & 63, rs, sa) {
            (0x00, ..) => "sll",
            (0x01, ..) if rt & 3 == 0 => "movf",
            (0x01, ..) if rt & 3 == 1 => "movt",
            (0x02, 0, _) => "srl",
            (0x02, 1, _) => "rotr",
            (0x03, ..) => "sra",
            (0x04, ..) => "sllv",
            (0x06, _, 0) => "srlv",
            (0x06, _, 1) => "rotrv",
            (0x07, ..) => "srav",
            (0x08, ..) => "jr",
            (0x09, ..) => "jalr",
            (0x0a, ..) => "movz",
            (0x0b, ..) => "movn",
            (0x0c, ..) => "syscall",
            (0x0d, ..) => "break",
            (0x0f, ..) => "sync",
            (0x10, ..) => "mfhi",
            (0x11, ..) => "mthi",
            (0x12, ..) => "mflo",
            (0x13, ..) => "mtlo",
            (0x18, ..) => "mult",
            (0x19, ..) => "multu",
            (0x1a, ..) => "div",
            (0x1b, ..) => "divu",
            (0x20, ..) => "add",
            (0x21, ..) => "addu",
            (0x22, ..) => "sub",
            (0x23, ..) => "subu",
            (0x24, ..) => "and",
            (0x25, ..) => "or",
            (0x26, ..) => "xor",
            (0x27, ..) => "nor",
            (0x2a, ..) => "slt",
            (0x2b, ..) => "sltu",
            (0x30, ..) => "tge",
            (0x31, ..) => "tgeu",
            (0x32, ..) => "tlt",
            (0x33, ..) => "tltu",
            (0x34, ..) => "teq",
            (0x36, ..) => "tne",
            _ => return None,
        },
        0x01 => match rt {
            0x00 => "bltz",
            0x01 => "bgez",
            0x02 => "bltzl",
            0x03 => "bgezl",
            0x08 => "tgei",
            0x09 => "tgeiu",
            0x0a => "tlti",
            0x0b => "tltiu",
            0x0c => "teqi",
            0x0e => "tnei",
            0x10 => "bltzal",
            0x11 => "bgezal",
            0x12 => "bltzall",
            0x13 => "bgezall",
            0x1f => "synci",
            _ => return None,
        },
        0x02 => "j",
        0x03 => "jal",
        0x04 => "beq",
        0x05 => "bne",
        0x06 if rt == 0 => "blez",
        0x07 if rt == 0 => "bgtz",
        0x08 => "addi",
        0x09 => "addiu",
        0x0a => "slti",
        0x0b => "sltiu",
        0x0c => "andi",
        0x0d => "ori",
        0x0e => "xori",
        0x0f if rs == 0 => "lui",
        0x10 => match (rs, word & 63) {
            (0x00, _) => "mfc0",
            (0x04, _) => "mtc0",
            (0x0a, _) => "rdpgpr",
            (0x0b, _) if rd == 12 && word & 0x20 != 0 => "ei",
            (0x0b, _) if rd == 12 => "di",
            (0x0e, _) => "wrpgpr",
            (0x10.., 0x01) => "tlbr",
            (0x10.., 0x02) => "tlbwi",
            (0x10.., 0x06) => "tlbwr",
            (0x10.., 0x08) => "tlbp",
            (0x10.., 0x18) => "eret",
            (0x10.., 0x20) => "wait",
            _ => return None,
        },
        0x11 => return cop1(word),
        0x12 => "cop2",
        0x13 => {
            const LOADS: [&str; 16] = [
                "lwxc1", "ldxc1", "", "", "", "luxc1", "", "", "swxc1", "sdxc1", "", "", "", "suxc1", "", "prefx",
            ];
            let name = match word & 63 {
                function @ 0..16 => LOADS[function as usize],
                0x20 => "madd.s",
                0x21 => "madd.d",
                0x28 => "msub.s",
                0x29 => "msub.d",
                0x30 => "nmadd.s",
                0x31 => "nmadd.d",
                0x38 => "nmsub.s",
                0x39 => "nmsub.d",
                _ => "",
            };
            return (!name.is_empty()).then_some(name);
        }
        0x14 => "beql",
        0x15 => "bnel",
        0x16 if rt == 0 => "blezl",
        0x17 if rt == 0 => "bgtzl",
        0x1c => match word & 63 {
            0x00 => "madd",
            0x01 => "maddu",
            0x02 => "mul",
            0x04 => "msub",
            0x05 => "msubu",
            0x20 => "clz",
            0x21 => "clo",
            _ => return None,
        },
        0x1f => match (word & 63, sa) {
            (0x00, _) if sa + rd < 32 => "ext",
            (0x04, _) if sa <= rd => "ins",
            (0x20, 0x02) => "wsbh",
            (0x20, 0x10) => "seb",
            (0x20, 0x18) => "seh",
            (0x3b, _) if rd < 4 => "rdhwr",
            _ => return None,
        },
        0x20 => "lb",
        0x21 => "lh",
        0x22 => "lwl",
        0x23 => "lw",
        0x24 => "lbu",
        0x25 => "lhu",
        0x26 => "lwr",
        0x28 => "sb",
        0x29 => "sh",
        0x2a => "swl",
        0x2b => "sw",
        0x2e => "swr",
        0x2f => "cache",
        0x30 => "ll",
        0x31 => "lwc1",
        0x32 => "lwc2",
        0x33 => "pref",
        0x35 => "ldc1",
        0x36 => "ldc2",
        0x38 => "sc",
        0x39 => "swc1",
        0x3a => "swc2",
        0x3d => "sdc1",
        0x3e => "sdc2",
        _ => return None,
    })
}

/// The instructions of the FPU; those with operands in registers that cannot hold them are among them.
fn cop1(word: u32) -> Option<&'static str> {
    const SINGLE: [&str; 64] = [
        "add.s", "sub.s", "mul.s", "div.s", "sqrt.s", "abs.s", "mov.s", "neg.s", "round.l.s", "trunc.l.s", "ceil.l.s",
        "floor.l.s", "round.w.s", "trunc.w.s", "ceil.w.s", "floor.w.s", "", "movf.s", "movz.s", "movn.s", "",
        "recip.s", "rsqrt.s", "", "", "", "", "", "", "", "", "", "", "cvt.d.s", "", "", "cvt.w.s", "cvt.l.s", "", "",
        "", "", "", "", "", "", "", "", "c.f.s", "c.un.s", "c.eq.s", "c.ueq.s", "c.olt.s", "c.ult.s", "c.ole.s",
        "c.ule.s", "c.sf.s", "c.ngle.s", "c.seq.s", "c.ngl.s", "c.lt.s", "c.nge.s", "c.le.s", "c.ngt.s",
    ];
    const DOUBLE: [&str; 64] = [
        "add.d", "sub.d", "mul.d", "div.d", "sqrt.d", "abs.d", "mov.d", "neg.d", "round.l.d", "trunc.l.d", "ceil.l.d",
        "floor.l.d", "round.w.d", "trunc.w.d", "ceil.w.d", "floor.w.d", "", "movf.d", "movz.d", "movn.d", "",
        "recip.d", "rsqrt.d", "", "", "", "", "", "", "", "", "", "cvt.s.d", "", "", "", "cvt.w.d", "cvt.l.d", "", "",
        "", "", "", "", "", "", "", "", "c.f.d", "c.un.d", "c.eq.d", "c.ueq.d", "c.olt.d", "c.ult.d", "c.ole.d",
        "c.ule.d", "c.sf.d", "c.ngle.d", "c.seq.d", "c.ngl.d", "c.lt.d", "c.nge.d", "c.le.d", "c.ngt.d",
    ];
    let (function, code) = ((word & 63) as usize, word >> 16 & 3);
    let name = match word >> 21 & 31 {
        0x00 => "mfc1",
        0x02 => "cfc1",
        0x03 => "mfhc1",
        0x04 => "mtc1",
        0x06 => "ctc1",
        0x07 => "mthc1",
        0x08 => ["bc1f", "bc1t", "bc1fl", "bc1tl"][code as usize],
        0x10 | 0x11 if function >= 0x30 && word & 0xc0 != 0 => "",
        0x10 if function == 0x11 && code & 1 != 0 => "movt.s",
        0x11 if function == 0x11 && code & 1 != 0 => "movt.d",
        0x10 => SINGLE[function],
        0x11 => DOUBLE[function],
        0x14 if function == 0x20 => "cvt.s.w",
        0x14 if function == 0x21 => "cvt.d.w",
        0x15 if function == 0x20 => "cvt.s.l",
        0x15 if function == 0x21 => "cvt.d.l",
        _ => "",
    };
    (!name.is_empty()).then_some(name)
}

/// Whether a delay slot follows.
pub fn is_branch(word: u32) -> bool {
    match word >> 26 {
        0 => matches!(word & 63, 0x08 | 0x09),
        1 => matches!(word >> 16 & 31, 0x00..=0x03 | 0x10..=0x13),
        0x02..=0x07 | 0x14..=0x17 => true,
        0x11 => word >> 21 & 31 == 8,
        _ => false,
    }
}

/// Whether it skips its delay slot when it does not branch.
pub fn is_likely(word: u32) -> bool {
    match word >> 26 {
        1 => word >> 16 & 2 != 0,
        0x14..=0x17 => true,
        0x11 => word >> 16 & 2 != 0,
        _ => false,
    }
}

pub fn is_ei(word: u32) -> bool {
    mnemonic(word) == Some("ei")
}

/// The general registers that make up the address of a store, its displacement, and how many words it may touch.
pub fn store(word: u32) -> Option<(usize, usize, i16, u32)> {
    let base = (word >> 21 & 31) as usize;
    match word >> 26 {
        0x28..=0x2b | 0x2e | 0x38 | 0x39 => Some((base, 0, word as i16, 1)),
        0x3d => Some((base, 0, word as i16, 2)),
        // swxc1, sdxc1, suxc1.
        0x13 => match word & 63 {
            0x08 => Some((base, (word >> 16 & 31) as usize, 0, 1)),
            0x09 | 0x0d => Some((base, (word >> 16 & 31) as usize, 0, 2)),
            _ => None,
        },
        _ => None,
    }
}
