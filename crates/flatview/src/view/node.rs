//! The nodes of a view's tree, and the way down to an address.
//!
//! What it is: nodes that cut an aligned window of addresses into equal slots, so that one shift finds the way and
//! nothing is compared, whatever the number of ranges. What it is not: how nodes come about
//! ([`build`](super::build)).
//!
//! What must hold: a node answers for every address of the *slot* it stands in (the root's is the whole space), also
//! for those outside its own window, which is only as large as the places where ranges begin. A range stands in the
//! leaf of the slot it begins in, and once more, *borrowed*, at the front of the leaves of slots that it reaches
//! into.
#![expect(clippy::indexing_slicing, reason = "indexes come from the same slices")]

use std::sync::Arc;

use super::FlatRange;

/// Ranges that begin in one leaf.
pub(super) const MOST: usize = 32;
/// Powers of two: slots of an inner node at most, and places in the map of a leaf.
pub(super) const SLOT_BITS: u32 = 6;
pub(super) const MAP_BITS: u32 = 5;

/// An aligned window: `1 << bits` addresses (up to 2^64) from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub first: u64,
    pub bits: u32,
}

impl Window {
    pub const ALL: Self = Self { first: 0, bits: 64 };

    fn mask(bits: u32) -> u64 {
        u64::MAX.checked_shr(64 - bits).unwrap_or(0)
    }

    /// The smallest one with both addresses.
    pub fn around(a: u64, b: u64) -> Self {
        let bits = 64 - (a ^ b).leading_zeros();
        Self { first: a & !Self::mask(bits), bits }
    }

    pub fn last(self) -> u64 {
        self.first | Self::mask(self.bits)
    }

    pub fn holds(self, addr: u64) -> bool {
        self.first <= addr && addr <= self.last()
    }

    /// Its `i`-th part of `1 << bits` addresses.
    pub fn part(self, i: usize, bits: u32) -> Self {
        Self { first: self.first + ((i as u64) << bits), bits }
    }
}

/// A node of the tree.
#[derive(Debug)]
pub(super) struct Node {
    /// Where the window begins that is cut into slots.
    pub first: u64,
    /// The power of two of a slot's size, below 64.
    pub shift: u32,
    /// Ranges that begin in it.
    pub count: u32,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Inner {
        /// 2 to 64, always a power of two.
        slots: Box<[Arc<Node>]>,
        /// A leaf for the addresses before and behind the window, where nothing begins.
        outside: Arc<Node>,
    },
    Leaf {
        /// In order.
        ranges: Box<[FlatRange]>,
        /// How many of them begin elsewhere: the first one, or all.
        borrowed: u32,
        /// For each slot the last range that begins at or before it (or the first one).
        map: [u8; 1 << MAP_BITS],
    },
}

impl Node {
    #[inline]
    pub fn slot(&self, addr: u64) -> usize {
        (addr.wrapping_sub(self.first) >> (self.shift & 63)) as usize
    }

    /// The window of an inner node.
    pub fn window(&self, slots: usize) -> Window {
        Window { first: self.first, bits: self.shift + slots.ilog2() }
    }

    #[inline(always)]
    pub fn lookup(&self, addr: u64) -> Option<&FlatRange> {
        let mut node = self;
        loop {
            match &node.kind {
                Kind::Inner { slots, outside } => node = slots.get(node.slot(addr)).unwrap_or(outside),
                Kind::Leaf { ranges, map, .. } => return node.lookup_here(addr, ranges, map),
            }
        }
    }

    #[inline(always)]
    fn lookup_here<'a>(
        &self,
        addr: u64,
        ranges: &'a [FlatRange],
        map: &[u8; 1 << MAP_BITS],
    ) -> Option<&'a FlatRange> {
        let slot = self.slot(addr);
        let mut at = match map.get(slot) {
            Some(&at) => {
                let at = usize::from(at);
                // Most slots have one range. Where many begin in one, they are halved first.
                match map.get(slot + 1) {
                    Some(&next) if usize::from(next) > at + 4 => {
                        let after = ranges[at + 1..=usize::from(next)].partition_point(|r| r.start() <= addr);
                        at + after
                    }
                    _ => at,
                }
            }
            None if addr < self.first => 0,
            None => ranges.len().saturating_sub(1),
        };
        loop {
            let range = ranges.get(at)?;
            if addr <= range.last() {
                return (range.start() <= addr).then_some(range);
            }
            at += 1;
        }
    }
}

/// Ranges in order.
pub(crate) struct Iter<'a> {
    /// From the root down: a node and the entry to go to next.
    path: Vec<(&'a Node, usize)>,
}

impl<'a> Iter<'a> {
    /// The ranges from the one at (or else after) `addr` on.
    pub(super) fn from(root: Option<&'a Node>, addr: u64) -> Self {
        let from = root.and_then(|r| r.lookup(addr)).map_or(addr, FlatRange::start);
        let mut iter = Self { path: Vec::new() };
        let mut node = root;
        while let Some(n) = node {
            node = match &n.kind {
                Kind::Inner { slots, .. } => {
                    let at = if from < n.first { 0 } else { n.slot(from).min(slots.len()) };
                    iter.path.push((n, at + 1));
                    slots.get(at).map(|n| &**n)
                }
                Kind::Leaf { ranges, borrowed, .. } => {
                    let at = ranges.partition_point(|r| r.start() < from);
                    iter.path.push((n, at.max(*borrowed as usize)));
                    None
                }
            };
        }
        iter
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a FlatRange;

    fn next(&mut self) -> Option<&'a FlatRange> {
        loop {
            let (node, at) = self.path.last_mut()?;
            let here = *at;
            *at += 1;
            match &node.kind {
                Kind::Leaf { ranges, .. } => match ranges.get(here) {
                    Some(range) => return Some(range),
                    None => self.path.pop(),
                },
                Kind::Inner { slots, .. } => match slots.get(here) {
                    Some(child) => {
                        let first = match &child.kind {
                            Kind::Leaf { borrowed, .. } => *borrowed as usize,
                            Kind::Inner { .. } => 0,
                        };
                        self.path.push((child, first));
                        None
                    }
                    None => self.path.pop(),
                },
            };
        }
    }
}
