//! The MIPS CPUs that there are.
//!
//! What it is: the values that tell one chip from another, in one table. What it is not: what an instruction or register
//! does. What must always hold: a name stands once, and is found whatever its case.

use super::fpu::fcsr;

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

/// 16 TLB entries, 2 KiB caches; more registers follow.
const CONFIG1_24K: u32 = 1 << 31 | 15 << 25 | 3 << 19 | 1 << 16 | 3 << 10 | 1 << 7;

static ALL: [MipsModel; 2] = [
    MipsModel {
        name: "24Kc",
        description: "MIPS32 release 2, no FPU, 16 TLB entries",
        prid: 0x0001_9300,
        config1: CONFIG1_24K,
        status_writable: STATUS_24K,
        fir: 0,
        fcsr_writable: 0,
    },
    MipsModel {
        name: "24Kf",
        description: "MIPS32 release 2 with FPU, 16 TLB entries",
        prid: 0x0001_9300,
        config1: CONFIG1_24K | 1,
        status_writable: STATUS_24K | STATUS_FPU,
        // 64-bit registers; formats L, W, D and S.
        fir: 1 << 22 | 1 << 21 | 1 << 20 | 1 << 17 | 1 << 16 | 0x93 << 8,
        fcsr_writable: fcsr::WRITABLE,
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
