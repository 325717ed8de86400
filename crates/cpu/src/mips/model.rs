//! The MIPS CPUs that there are.
//!
//! What it is: the values that tell one chip from another, in one table. What it is not: what an instruction or register
//! does. What must always hold: a name stands once, and is found whatever its case.

use super::fpu::fcsr;
use super::level::Level;

/// A MIPS CPU that can be had: QEMU's `-cpu NAME`.
#[derive(Debug, PartialEq, Eq)]
pub struct MipsModel {
    /// What it is called.
    pub name: &'static str,
    /// What it is, in one line.
    pub description: &'static str,
    /// CP0 PRId.
    pub prid: u32,
    /// CP0 Config1.
    pub(super) config1: u32,
    /// CP0 Config after reset, without the byte order.
    pub(super) config: u32,
    /// Which bits of CP0 Config can be written.
    pub(super) config_writable: u32,
    /// Which instructions there are, and which CP0 registers.
    pub(super) level: Level,
    /// TLB entries, of two pages each.
    pub(super) tlb_entries: usize,
    /// What of CP0 EntryLo there is: the page frame number, the cache attribute, D, V and G.
    pub(super) entry_lo: u32,
    /// What of CP0 PageMask there is.
    pub(super) page_mask: u32,
    /// How far LLAddr is shifted right.
    pub(super) ll_shift: u32,
    /// Which bits of CP0 Status can be written.
    pub(super) status_writable: u32,
    /// The FPU's FIR; 0 without one.
    pub(super) fir: u32,
    /// Which bits of the FPU's FCSR can be written.
    pub(super) fcsr_writable: u32,
}

/// CU0, RE, BEV, TS, SR, NMI, IM, KSU, ERL, EXL, IE.
const STATUS_24K: u32 = 0x1278_ff1f;
/// CU1, FR.
const STATUS_FPU: u32 = 1 << 29 | 1 << 26;

/// What the cores of the 24K family have in common.
const FAMILY_24K: MipsModel = MipsModel {
    name: "",
    description: "",
    prid: 0x0001_9300,
    // 16 TLB entries, 2 KiB caches, EJTAG; more registers follow.
    config1: 1 << 31 | 15 << 25 | 3 << 19 | 1 << 16 | 3 << 10 | 1 << 7 | 1 << 1,
    // Config1 follows; release 2; a TLB; kseg0 is not cached.
    config: 1 << 31 | 1 << 10 | 1 << 7 | 2,
    config_writable: 7,
    level: Level::Mips32R2,
    tlb_entries: 16,
    entry_lo: 0x03ff_ffff,
    page_mask: 0x1fff_e000,
    ll_shift: 5,
    status_writable: STATUS_24K,
    fir: 0,
    fcsr_writable: 0,
};

static ALL: [MipsModel; 3] = [
    MipsModel { name: "24Kc", description: "MIPS32 release 2, no FPU, 16 TLB entries", ..FAMILY_24K },
    MipsModel {
        name: "24Kf",
        description: "MIPS32 release 2 with FPU, 16 TLB entries",
        config1: FAMILY_24K.config1 | 1,
        status_writable: STATUS_24K | STATUS_FPU,
        // 64-bit registers; formats L, W, D and S.
        fir: 1 << 22 | 1 << 21 | 1 << 20 | 1 << 17 | 1 << 16 | 0x93 << 8,
        fcsr_writable: fcsr::WRITABLE,
        ..FAMILY_24K
    },
    MipsModel {
        name: "R4000",
        description: "MIPS III in 32-bit mode with FPU, 48 TLB entries",
        prid: 0x0400,
        config1: 0,
        // No secondary cache, two of 8 KiB; kseg0 is not cached.
        config: 1 << 17 | 1 << 9 | 1 << 6 | 2,
        // IB, DB, CU, K0.
        config_writable: 0x3f,
        level: Level::Mips3,
        tlb_entries: 48,
        entry_lo: 0x3fff_ffff,
        page_mask: 0x01ff_e000,
        ll_shift: 4,
        // CU1, CU0, RP, FR, RE, BEV, SR, CH, CE, DE, IM, KX, SX, UX, KSU, ERL, EXL, IE.
        status_writable: 0x3e57_ffff,
        fir: 0x0500,
        // One condition code.
        fcsr_writable: 0x0183_ffff,
    },
];

impl MipsModel {
    /// Every one, for `-cpu help`.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &ALL
    }

    /// The one of a name, whatever its case.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|model| model.name.eq_ignore_ascii_case(name))
    }

    /// Whether CP0 is that of MIPS32 release 2; else it is the R4000's.
    pub(super) fn is_mips32(&self) -> bool {
        self.level >= Level::Mips32
    }

    /// The one that boards have where nobody asks for another: the 24Kf.
    #[must_use]
    pub fn usual() -> &'static Self {
        let [_, usual, ..] = &ALL;
        usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_found_by_its_name_alone() {
        for model in MipsModel::all() {
            assert_eq!(MipsModel::find(&model.name.to_lowercase()), Some(model));
            assert!(!model.description.is_empty() && !model.description.ends_with('.'), "{}", model.name);
        }
        assert_eq!(MipsModel::usual().name, "24Kf");
        assert_eq!(MipsModel::find("24K"), None);
    }
}
