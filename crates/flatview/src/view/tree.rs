//! Ranges in order, found by address in a few steps, in chunks that successive views share.
//!
//! What it is: a radix tree whose nodes are never changed; replacing a run of ranges copies the chunks on the way to
//! it and shares the rest. A step down is one shift; a node is only as wide as the places where ranges begin in it,
//! so that the number of steps goes with the number of ranges and not with the width of an address. What it is not:
//! the nodes ([`node`](super::node)) and how they are built ([`build`](super::build)).

use std::sync::Arc;

use super::build::{build, replaced};
use super::node::{Iter, Kind, MOST, Node, Window};
use super::{FlatRange, ViewShape};
use crate::span::Span;

/// The tree. Cloning it shares all of it.
#[derive(Debug, Clone)]
pub(crate) struct RangeTree {
    root: Arc<Node>,
}

impl Default for RangeTree {
    fn default() -> Self {
        Self { root: build(Window::ALL, &[]) }
    }
}

impl RangeTree {
    pub fn len(&self) -> usize {
        self.root.count as usize
    }

    /// The tree with the ranges that begin in `span` replaced by `new`, which begin there too. No range reaches into
    /// `span` from before it.
    pub fn replaced(&self, span: Span, new: &[FlatRange]) -> Self {
        // What the old and the new ranges reach.
        let ends = [self.root.lookup(span.last), new.last()];
        let last = ends.into_iter().flatten().map(FlatRange::last).fold(span.last, u64::max);
        Self { root: replaced(&self.root, Window::ALL, Span { start: span.start, last }, new) }
    }

    #[inline(always)]
    pub fn lookup(&self, addr: u64) -> Option<&FlatRange> {
        self.root.lookup(addr)
    }

    /// The ranges from the one at (or else after) `addr` on.
    pub fn iter_from(&self, addr: u64) -> Iter<'_> {
        Iter::from(Some(&*self.root), addr)
    }

    pub fn shape(&self) -> ViewShape {
        let mut shape = ViewShape { levels: 0, leaves: 0, inner: 0, capacity: MOST };
        let mut level = Vec::from_iter((self.root.count > 0).then_some(&self.root));
        while !level.is_empty() {
            shape.levels += 1;
            let mut next: Vec<&Arc<Node>> = Vec::new();
            for node in level {
                match &node.kind {
                    Kind::Leaf(_) | Kind::Crowded(_) => shape.leaves += 1,
                    Kind::Inner { slots, outside } => {
                        shape.inner += 1;
                        next.extend(slots.iter().chain([outside]));
                    }
                }
            }
            // Neighbours that one range covers share a leaf.
            next.dedup_by(|a, b| Arc::ptr_eq(a, b));
            level = next;
        }
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Attrs, Body};
    use crate::view::Piece;
    use crate::{Endianness, Memory, Region};
    use proptest::prelude::*;

    fn body() -> Arc<Body> {
        let memory = Memory::new(Endianness::Little);
        let region = memory.add(Region::reservation("body", 1)).unwrap();
        memory.map(memory.system(), 0, region).unwrap();
        Arc::clone(memory.memory_space().view().unwrap().lookup(0).unwrap().body())
    }

    fn range(start: u64, last: u64, body: &Arc<Body>) -> FlatRange {
        let span = Span { start, last };
        let piece = Piece { span, region: 0, offset: start, readonly: false, nonvolatile: false };
        FlatRange::new(&piece, body, &Attrs::new(crate::WHOLE), 0, false)
    }

    /// Replaces in both what overlaps `span` by `new`.
    fn replace(tree: &RangeTree, model: &mut Vec<FlatRange>, span: Span, new: Vec<FlatRange>) -> RangeTree {
        let start = tree.lookup(span.start).map_or(span.start, FlatRange::start).min(span.start);
        let span = Span { start, ..span };
        model.retain(|r| r.start() < span.start || r.start() > span.last);
        let at = model.partition_point(|r| r.start() < span.start);
        let tree = tree.replaced(span, &new);
        model.splice(at..at, new);
        tree
    }

    fn check(tree: &RangeTree, model: &[FlatRange]) {
        let spans = |r: &FlatRange| (r.start(), r.last());
        let have: Vec<_> = tree.iter_from(0).map(spans).collect();
        let want: Vec<_> = model.iter().map(spans).collect();
        assert_eq!(have, want);
        assert_eq!(tree.len(), model.len());
        for r in model {
            for addr in [r.start().saturating_sub(1), r.start(), r.last(), r.last().saturating_add(1)] {
                let want = model.iter().find(|r| r.start() <= addr && addr <= r.last()).map(spans);
                assert_eq!(tree.lookup(addr).map(spans), want, "{addr:#x}");
                let from = model.iter().position(|r| r.last() >= addr).unwrap_or(model.len());
                assert_eq!(tree.iter_from(addr).next().map(spans), model.get(from).map(spans), "{addr:#x}");
            }
        }
    }

    /// A cut of a run of addresses into ranges and holes: `count` of them, `step` apart, with gaps.
    fn cut(start: u64, step: u64, count: u64, len: u64, body: &Arc<Body>) -> Vec<FlatRange> {
        let one = |i: u64| {
            let start = start.checked_add(i.checked_mul(step)?)?;
            Some(range(start, start.saturating_add(len.clamp(1, step) - 1), body))
        };
        (0..count).map_while(one).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn a_tree_holds_what_a_plain_list_holds(
            ops in prop::collection::vec((any::<u64>(), 0_u32..64, 0_u32..58, 0_u64..300, any::<u64>(), any::<bool>()), 1..60)
        ) {
            let body = body();
            let (mut tree, mut model) = (RangeTree::default(), Vec::new());
            for (at, low, step, count, len, many) in ops {
                let start = at >> low;
                let step = 1_u64 << step;
                let new = cut(start, step, if many { count } else { count % 3 }, len, &body);
                let last = new.last().map_or(start.saturating_add(step), FlatRange::last);
                // Whole old ranges only: stop before one that reaches over the end.
                let over = model.iter().find(|r: &&FlatRange| r.start() <= last && last < r.last());
                let last = over.map_or(last, FlatRange::last);
                tree = replace(&tree, &mut model, Span { start, last }, new);
                check(&tree, &model);
            }
        }
    }

    #[test]
    fn a_large_node_that_widens_still_sees_what_reaches_into_its_slot() {
        let body = body();
        let (mut tree, mut model) = (RangeTree::default(), Vec::new());
        // Two clusters make the root's slots 256 MiB; a range from before reaches into the first cluster's.
        let before = range(0x1_0000_0000, 0x2_93ef_ffff, &body);
        tree = replace(&tree, &mut model, before.span(), vec![before]);
        for start in [0x2_9400_0000, 0x9_0000_0000] {
            let cluster = cut(start, 4096, 3000, 4096, &body);
            let last = cluster.last().unwrap().last();
            tree = replace(&tree, &mut model, Span { start, last }, cluster);
        }
        for start in [0x2_93f0_0000, 0x2_9f00_0000, 0x2_9800_0000] {
            let stray = range(start, start + 0xfff, &body);
            tree = replace(&tree, &mut model, stray.span(), vec![stray]);
            check(&tree, &model);
        }
        for addr in [0x2_9000_0000, 0x2_93ef_ffff] {
            assert_eq!(tree.lookup(addr).map(FlatRange::start), Some(0x1_0000_0000));
        }
        assert!(tree.lookup(0x2_93f0_1000).is_none());
    }

    #[test]
    fn growing_and_shrinking_one_by_one_keeps_the_tree_shallow() {
        let body = body();
        let (mut tree, mut model) = (RangeTree::default(), Vec::new());
        let at = |i: u64| 0x4000_0000 + i * 4096;
        for i in 0..20_000 {
            let span = Span { start: at(i), last: at(i) + 4095 };
            tree = replace(&tree, &mut model, span, vec![range(span.start, span.last, &body)]);
        }
        check_some(&tree, &model);
        assert!(tree.shape().levels <= 6, "{:?}", tree.shape());
        assert!(tree.shape().leaves <= 20_000 / 8, "{:?}", tree.shape());
        for i in (0..20_000).rev() {
            let span = Span { start: at(i), last: at(i) + 4095 };
            tree = replace(&tree, &mut model, span, Vec::new());
            if i % 1000 == 0 {
                check_some(&tree, &model);
            }
        }
        assert_eq!((tree.len(), tree.shape().leaves), (0, 0));
    }

    fn check_some(tree: &RangeTree, model: &[FlatRange]) {
        assert_eq!(tree.iter_from(0).count(), model.len());
        for r in model {
            assert_eq!(tree.lookup(r.start()).map(FlatRange::start), Some(r.start()));
        }
    }
}
