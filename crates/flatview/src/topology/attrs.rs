//! What can change about a region.

use super::NONE;
use crate::WHOLE;
use crate::span::Span;

/// One bit of what can change about a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flag {
    Enabled = 1,
    Readonly = 2,
    Nonvolatile = 4,
    /// Whether a ROM device answers reads from its memory.
    Romd = 8,
    /// Whether 2^64 is to be added to the size.
    Whole = 16,
}

/// Everything about a region that can change after it was made. Every region has it: kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attrs {
    /// Offset in the container, in bytes.
    pub addr: u64,
    /// Offset in the alias's target, in bytes.
    pub alias_offset: u64,
    /// Goes up with every mapping: of two siblings of equal priority the later one wins.
    pub sequence: u64,
    /// Size in bytes, but for [`Flag::Whole`]; see [`size`](Self::size).
    pub low_size: u64,
    /// Index of the container, or `NONE`.
    pub container: u32,
    /// Index of the alias's target, or `NONE`.
    pub target: u32,
    pub priority: i32,
    /// Bits of [`Flag`]; see [`is`](Self::is).
    pub flags: u8,
    /// The dirty clients for which it is logged, by itself.
    pub log: u8,
}

const _: () = assert!(size_of::<Attrs>() == 48);

impl Attrs {
    /// Mapped nowhere, enabled, and nothing else; `size` as for [`with_size`](Self::with_size).
    pub fn new(size: u128) -> Self {
        let flags = Flag::Enabled as u8 | Flag::Romd as u8;
        let (addr, alias_offset, sequence, low_size, priority) = (0, 0, 0, 0, 0);
        let (container, target, log) = (NONE, NONE, 0);
        Self { addr, alias_offset, sequence, low_size, container, target, priority, flags, log }
            .with_size(size)
    }

    #[inline]
    pub fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }

    #[inline]
    pub fn with(self, flag: Flag, on: bool) -> Self {
        let others = self.flags & !(flag as u8);
        Self { flags: if on { others | flag as u8 } else { others }, ..self }
    }

    #[inline]
    pub fn enabled(&self) -> bool {
        self.is(Flag::Enabled)
    }

    #[inline]
    pub fn readonly(&self) -> bool {
        self.is(Flag::Readonly)
    }

    #[inline]
    pub fn nonvolatile(&self) -> bool {
        self.is(Flag::Nonvolatile)
    }

    /// Whether a ROM device answers reads from its memory.
    #[inline]
    pub fn romd(&self) -> bool {
        self.is(Flag::Romd)
    }

    /// Size in bytes, up to 2^64.
    #[inline]
    pub fn size(&self) -> u128 {
        if self.is(Flag::Whole) { WHOLE } else { u128::from(self.low_size) }
    }

    /// The same with a size in bytes; what is over 2^64 is cut off.
    pub fn with_size(self, size: u128) -> Self {
        let low_size = u64::try_from(size).ok();
        Self { low_size: low_size.unwrap_or(0), ..self }.with(Flag::Whole, low_size.is_none())
    }

    /// Where it stands in its container; `None` if it has no bytes.
    #[inline]
    pub fn extent(&self) -> Option<Span> {
        let to_last = if self.is(Flag::Whole) { u64::MAX } else { self.low_size.checked_sub(1)? };
        Some(Span { start: self.addr, last: self.addr.saturating_add(to_last) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_kept_and_reaches_to_the_last_address_at_most() {
        for size in [0, 1, 2, u128::from(u64::MAX), WHOLE] {
            let attrs = Attrs::new(3).with_size(size);
            assert_eq!(attrs.size(), size);
            for addr in [0, 1, u64::MAX] {
                assert_eq!(Attrs { addr, ..attrs }.extent(), Span::sized(addr, size));
            }
            assert_eq!((attrs.with_size(5).size(), attrs.with_size(5).enabled()), (5, true));
        }
    }

    #[test]
    fn a_flag_is_set_and_cleared_alone() {
        use Flag::{Enabled, Nonvolatile, Readonly, Romd, Whole};
        let all = [Enabled, Readonly, Nonvolatile, Romd, Whole];
        let none = all.iter().fold(Attrs::new(0), |attrs, flag| attrs.with(*flag, false));
        for flag in all {
            let one = none.with(flag, true).with(flag, true);
            assert!(all.iter().all(|f| one.is(*f) == (*f == flag)));
            assert_eq!(one.with(flag, false), none);
        }
    }
}
