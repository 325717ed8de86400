//! Who wants to know which pages were written, and on whose behalf everything is logged.

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// One who wants to know which pages were written (QEMU: `DIRTY_MEMORY_VGA` and so on). Each has a bit of its own for
/// every page, which nobody else clears.
///
/// Every [`Memory`](crate::Memory) has the three of QEMU's; up to five more are
/// [allocated](crate::Memory::allocate_dirty_client) while it runs.
///
/// ```
/// use flatview::{DirtyClient, Endianness, Le, Memory, RamBlock, Region};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = Memory::new(Endianness::Little);
/// let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20)?))?;
/// memory.map(memory.system(), 0, ram)?;
///
/// // At first every page is dirty: nothing is known of it.
/// memory.set_log(ram, DirtyClient::VGA, true)?;
/// memory.reset_dirty(ram, 0, 1 << 20, DirtyClient::VGA)?;
///
/// let reader = memory.memory_space().reader();
/// reader.store::<Le, u32>(0x1ffe, 0xdead_beef)?; // over a page boundary
///
/// let snapshot = memory.snapshot_and_clear_dirty(ram, 0, 1 << 20, DirtyClient::VGA)?;
/// assert_eq!(snapshot.runs().collect::<Vec<_>>(), [0x1000..0x3000]);
/// assert!(snapshot.is_dirty(0x2000, 1) && !snapshot.is_dirty(0x3000, 0x1000));
/// assert!(!memory.is_dirty(ram, 0, 1 << 20, DirtyClient::VGA)?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DirtyClient {
    pub(crate) index: u8,
    /// Of the allocated ones; 0 for QEMU's.
    pub(crate) generation: u32,
    /// The memory that allocated it; none for QEMU's.
    pub(crate) memory: Option<u32>,
}

impl DirtyClient {
    /// The display: which part of the picture to draw anew.
    pub const VGA: Self = Self::of_qemu(0);
    /// The code translator: which translations are stale.
    pub const CODE: Self = Self::of_qemu(1);
    /// Migration and snapshots. A [global log](crate::GlobalLog) logs all RAM for it.
    pub const MIGRATION: Self = Self::of_qemu(2);

    /// How many of QEMU's there are.
    pub(crate) const OF_QEMU: u8 = 3;

    const fn of_qemu(index: u8) -> Self {
        Self { index, generation: 0, memory: None }
    }

    /// Its number, 0 to 7: VGA, CODE and MIGRATION have QEMU's.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.index
    }

    /// The bit of this client in a mask such as [`FlatRange::log_mask`](crate::FlatRange::log_mask).
    #[must_use]
    pub const fn mask(self) -> u8 {
        1 << self.index
    }
}

impl fmt::Debug for DirtyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DirtyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            0 => f.write_str("VGA"),
            1 => f.write_str("CODE"),
            2 => f.write_str("MIGRATION"),
            n => write!(f, "client {n}"),
        }
    }
}

/// On whose behalf all RAM is logged for [`DirtyClient::MIGRATION`] (QEMU: `global_dirty_tracking`): a set of flags.
/// The log runs while any is set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GlobalLog(u8);

impl GlobalLog {
    /// Nobody's.
    pub const NONE: Self = Self(0);
    /// A migration or snapshot (QEMU: `GLOBAL_DIRTY_MIGRATION`).
    pub const MIGRATION: Self = Self(1);
    /// `calc-dirty-rate` (QEMU: `GLOBAL_DIRTY_DIRTY_RATE`).
    pub const DIRTY_RATE: Self = Self(2);
    /// `set-vcpu-dirty-limit` (QEMU: `GLOBAL_DIRTY_LIMIT`).
    pub const DIRTY_LIMIT: Self = Self(4);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no flag is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags of this that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The flags, with QEMU's values.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl BitOr for GlobalLog {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for GlobalLog {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for GlobalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for GlobalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(1, "MIGRATION"), (2, "DIRTY_RATE"), (4, "DIRTY_LIMIT")];
        let mut set = names.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name);
        f.write_str(set.next().unwrap_or("NONE"))?;
        set.try_for_each(|name| write!(f, "|{name}"))
    }
}
