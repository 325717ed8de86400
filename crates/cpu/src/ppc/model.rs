//! The processors that this front end knows.
//!
//! What it is: a table of names and of what differs between them. What it is not: their registers' values. What must
//! always hold: a name is QEMU's for the same processor.

/// What decides which registers and vectors a processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// The PowerPC 604 (*PowerPC 604 RISC Microprocessor User's Manual*, MPC604UM).
    Ppc604,
    /// The MPC755 and MPC745 (*MPC750 RISC Microprocessor Family User's Manual*, MPC750UM, with its appendix on the
    /// MPC755).
    Ppc755,
}

/// A processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PpcModel {
    /// What `-cpu` calls it.
    pub name: &'static str,
    /// What it is, for `-cpu help`.
    pub description: &'static str,
    /// The processor version register.
    pub pvr: u32,
    /// What it has.
    pub family: Family,
}

const PPC604: PpcModel = PpcModel {
    name: "604",
    description: "PowerPC 604: four pairs of BATs, tables searched by hardware",
    pvr: 0x0004_0103,
    family: Family::Ppc604,
};

const PPC755: PpcModel = PpcModel {
    name: "755",
    description: "MPC755: eight pairs of BATs, tables searched by hardware or software",
    pvr: 0x0008_3208,
    family: Family::Ppc755,
};

impl PpcModel {
    /// All there are.
    #[must_use]
    pub fn all() -> &'static [Self] {
        const { &[PPC604, PPC755] }
    }

    /// The one of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|model| model.name == name)
    }

    /// The 604 that QEMU's 40p has.
    #[must_use]
    pub fn ppc604() -> &'static Self {
        const { &PPC604 }
    }

    /// The MPC755.
    #[must_use]
    pub fn ppc755() -> &'static Self {
        const { &PPC755 }
    }
}
