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

use std::sync::Arc;

use super::FlatRange;

/// Ranges that begin in one leaf.
pub(super) const MOST: usize = 32;
/// A leaf is crowded if more ranges than this, less one, begin in a slot of its map.
pub(super) const CROWD: u8 = 4;
/// Powers of two: slots of an inner node at most, and places in the map of a leaf. A change copies the nodes on its way and
/// counts a reference for each slot: with 64 slots that took longer than the rest of a commit among 100,000 ranges.
pub(super) const SLOT_BITS: u32 = 5;
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
        /// 2 to 32, always a power of two.
        slots: Box<[Arc<Node>]>,
        /// A leaf for the addresses before and behind the window, where nothing begins.
        outside: Arc<Node>,
    },
    /// Every address of which is in one of few ranges that begin in its slot of the map, or the one before.
    Leaf(Leaf),
    /// The same with slots in which many ranges begin.
    Crowded(Leaf),
}

#[derive(Debug)]
pub(super) struct Leaf {
    /// In order.
    pub ranges: Box<[FlatRange]>,
    /// How many of them begin elsewhere: the first one, or all.
    pub borrowed: u32,
    /// For each slot the last range that begins at or before it (or the first one).
    pub map: [u8; 1 << MAP_BITS],
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

    /// What is known of the ranges here, if it is no inner node.
    pub fn leaf(&self) -> Option<&Leaf> {
        match &self.kind {
            Kind::Inner { .. } => None,
            Kind::Leaf(leaf) | Kind::Crowded(leaf) => Some(leaf),
        }
    }

    #[inline(always)]
    pub fn lookup(&self, addr: u64) -> Option<&FlatRange> {
        let mut node = self;
        loop {
            match &node.kind {
                Kind::Inner { slots, outside } => match slots.get(node.slot(addr)) {
                    Some(child) => node = child,
                    None => return outside.lookup_as_outside(addr),
                },
                Kind::Leaf(leaf) => match leaf.map.get(node.slot(addr)) {
                    Some(&at) => {
                        let range = leaf.ranges.get(usize::from(at))?;
                        return match addr <= range.last() {
                            true => Some(range).filter(|r| r.start() <= addr),
                            false => leaf.lookup_behind(usize::from(at), addr),
                        };
                    }
                    None => return node.lookup_outside(leaf, addr),
                },
                Kind::Crowded(leaf) => return node.lookup_crowded(leaf, addr),
            }
        }
    }

    /// As the leaf for what is outside of an inner node's window.
    #[inline(never)]
    fn lookup_as_outside(&self, addr: u64) -> Option<&FlatRange> {
        self.lookup_outside(self.leaf()?, addr)
    }

    #[inline(never)]
    fn lookup_outside<'a>(&self, leaf: &'a Leaf, addr: u64) -> Option<&'a FlatRange> {
        if addr < self.first {
            return first_not_before(&leaf.ranges, addr);
        }
        leaf.ranges.last().filter(|r| r.start() <= addr && addr <= r.last())
    }

    #[inline(never)]
    fn lookup_crowded<'a>(&self, leaf: &'a Leaf, addr: u64) -> Option<&'a FlatRange> {
        let after = leaf.ranges.partition_point(|r| r.start() <= addr);
        leaf.ranges.get(after.checked_sub(1)?).filter(|r| addr <= r.last())
    }
}

impl Leaf {
    #[inline(never)]
    fn lookup_behind(&self, at: usize, addr: u64) -> Option<&FlatRange> {
        first_not_before(self.ranges.get(at + 1..)?, addr)
    }
}

/// The range at an address, which is the first one that does not end before it.
fn first_not_before(ranges: &[FlatRange], addr: u64) -> Option<&FlatRange> {
    let range = ranges.iter().find(|r| addr <= r.last())?;
    (range.start() <= addr).then_some(range)
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
                Kind::Leaf(leaf) | Kind::Crowded(leaf) => {
                    let at = leaf.ranges.partition_point(|r| r.start() < from);
                    iter.path.push((n, at.max(leaf.borrowed as usize)));
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
                Kind::Leaf(leaf) | Kind::Crowded(leaf) => match leaf.ranges.get(here) {
                    Some(range) => return Some(range),
                    None => self.path.pop(),
                },
                Kind::Inner { slots, .. } => match slots.get(here) {
                    Some(child) => {
                        let first = child.leaf().map_or(0, |l| l.borrowed as usize);
                        self.path.push((child, first));
                        None
                    }
                    None => self.path.pop(),
                },
            };
        }
    }
}
