//! What can change about a region.

use super::NONE;
use crate::span::Span;

/// Everything about a region that can change after it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attrs {
    /// Offset in the container, in bytes.
    pub addr: u64,
    /// Offset in the alias's target, in bytes.
    pub alias_offset: u64,
    /// Size in bytes, up to 2^64.
    pub size: u128,
    /// Goes up with every mapping: of two siblings of equal priority the later one wins.
    pub sequence: u64,
    /// Index of the container, or `NONE`.
    pub container: u32,
    /// Index of the alias's target, or `NONE`.
    pub target: u32,
    pub priority: i32,
    pub enabled: bool,
    pub readonly: bool,
    pub nonvolatile: bool,
    /// Whether a ROM device answers reads from its memory.
    pub romd: bool,
}

impl Attrs {
    pub fn new(size: u128) -> Self {
        Self {
            addr: 0,
            alias_offset: 0,
            size,
            sequence: 0,
            container: NONE,
            target: NONE,
            priority: 0,
            enabled: true,
            readonly: false,
            nonvolatile: false,
            romd: true,
        }
    }

    /// Where it stands in its container; `None` if it has no bytes.
    pub fn extent(&self) -> Option<Span> {
        Span::sized(self.addr, self.size)
    }

    /// The same apart from where it stands among its siblings.
    pub fn same_content(&self, other: &Self) -> bool {
        let placed = |a: &Self| Self { addr: 0, sequence: 0, container: NONE, priority: 0, ..*a };
        placed(self) == placed(other)
    }

    /// Whether it stands at the same place among its siblings.
    pub fn same_place(&self, other: &Self) -> bool {
        (self.addr, self.sequence, self.container, self.priority)
            == (other.addr, other.sequence, other.container, other.priority)
    }
}
