//! Names for things that keep nothing alive.

use std::fmt;

/// A region of a [`Memory`](crate::Memory): small, `Copy`, and keeping nothing alive. After the region is removed
/// the id is stale and gives a typed error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    pub(crate) memory: u32,
}

impl RegionId {
    /// A number that no other region of the memory has at the same time, and 0 for none: to name it in a line of text.
    #[must_use]
    pub fn number(self) -> u64 {
        u64::from(self.index) + 1
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

impl fmt::Debug for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegionId(#{}.{} of memory {})", self.index, self.generation, self.memory)
    }
}

/// An address space of a [`Memory`](crate::Memory). Numbers are not used again; ids of one memory are in the order in
/// which its spaces were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceId {
    pub(crate) memory: u32,
    pub(crate) number: u64,
}
