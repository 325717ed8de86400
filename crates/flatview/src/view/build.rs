//! How the nodes of a view's tree come about.
//!
//! What it is: building nodes from ranges, and replacing what lies in a run of addresses, which copies the nodes on
//! the way there and shares the rest. What it is not: the way down ([`node`](super::node)).
//!
//! What must hold is what [`node`](super::node) says of nodes; beyond that, no work is larger than what it replaces
//! by more than a few thousand ranges: a node is built anew as a whole only while it is small.
#![expect(clippy::indexing_slicing, reason = "indexes come from the same slices")]

use std::sync::Arc;

use super::FlatRange;
use super::node::{CROWD, Iter, Kind, Leaf, MAP_BITS, MOST, Node, SLOT_BITS, Window};
use crate::span::Span;

/// Ranges wanted in a leaf of a node that is built: room to grow, and not too much of it.
const WANTED: usize = 20;
/// A node with at most this many ranges may be built anew because its shape no longer fits.
const SMALL: u32 = 2048;

/// Those of `ranges` that reach into `window`.
fn overlapping(ranges: &[FlatRange], window: Window) -> &[FlatRange] {
    let last = window.last();
    let from = ranges.partition_point(|r| r.last() < window.first);
    let to = ranges.partition_point(|r| r.start() <= last);
    ranges.get(from..to).unwrap_or_default()
}

/// A node for the slot `s`, given all ranges that reach into it.
pub(super) fn build(s: Window, ranges: &[FlatRange]) -> Arc<Node> {
    let borrowed = ranges.partition_point(|r| r.start() < s.first);
    if ranges.len() - borrowed <= MOST {
        return Arc::new(leaf(ranges.to_vec(), borrowed));
    }
    let own = &ranges[borrowed..];
    let window = Window::around(own[0].start(), own[own.len() - 1].start());
    let k = own.len().div_ceil(WANTED).next_power_of_two().ilog2().clamp(1, SLOT_BITS).min(window.bits);
    let shift = window.bits - k;
    let mut covers = Covers::default();
    let slots = (0..1 << k).map(|i| {
        let slot = window.part(i, shift);
        covers.or_build(slot, overlapping(ranges, slot))
    });
    let slots = slots.collect();
    Arc::new(inner(window, shift, slots, outside(s, window, ranges)))
}

/// A leaf, the first ranges of which are borrowed.
fn leaf(ranges: Vec<FlatRange>, borrowed: usize) -> Node {
    let own = &ranges[borrowed..];
    let (first, shift) = match (own.first(), own.last()) {
        (Some(a), Some(b)) => {
            let window = Window::around(a.start(), b.start());
            (window.first, window.bits.saturating_sub(MAP_BITS))
        }
        _ => (0, 0),
    };
    let mut map = [0; 1 << MAP_BITS];
    let mut at = 0;
    for (i, place) in map.iter_mut().enumerate() {
        let slot = first.saturating_add((i as u64) << shift);
        while ranges.get(at + 1).is_some_and(|r| r.start() <= slot) {
            at += 1;
        }
        *place = at as u8;
    }
    let count = (ranges.len() - borrowed) as u32;
    let crowded = map.windows(2).any(|m| m[1] > m[0] + CROWD)
        || ranges.len() > usize::from(map[map.len() - 1]) + 1 + usize::from(CROWD);
    let leaf = Leaf { ranges: ranges.into(), borrowed: borrowed as u32, map };
    Node { first, shift, count, kind: if crowded { Kind::Crowded(leaf) } else { Kind::Leaf(leaf) } }
}

fn inner(window: Window, shift: u32, slots: Box<[Arc<Node>]>, outside: Arc<Node>) -> Node {
    let mut count = 0;
    for slot in &slots {
        count += slot.count;
    }
    Node { first: window.first, shift, count, kind: Kind::Inner { slots, outside } }
}

/// The leaf for the addresses of slot `s` that are not in `window`: of `ranges`, those that reach there.
fn outside(s: Window, window: Window, ranges: &[FlatRange]) -> Arc<Node> {
    let reach = |r: &&FlatRange| r.start() < window.first || r.last() > window.last();
    let there: Vec<_> = overlapping(ranges, s).iter().filter(reach).cloned().collect();
    let borrowed = there.len();
    // What stands before the window is looked for from the first one on, what stands behind it in the last one.
    Arc::new(Node { first: window.first, ..leaf(there, borrowed) })
}

/// Leaves in which nothing begins; neighbours that the same range covers share one.
#[derive(Default)]
struct Covers(Option<(Option<u64>, Arc<Node>)>);

impl Covers {
    /// The node for a slot, given all ranges that reach into it.
    fn or_build(&mut self, slot: Window, ranges: &[FlatRange]) -> Arc<Node> {
        if ranges.last().is_some_and(|r| r.start() >= slot.first) {
            return build(slot, ranges);
        }
        let key = ranges.first().map(FlatRange::start);
        if let Some((known, leaf)) = &self.0
            && *known == key
        {
            return Arc::clone(leaf);
        }
        let leaf = build(slot, ranges);
        self.0 = Some((key, Arc::clone(&leaf)));
        leaf
    }
}

/// The node with everything that overlaps `t` replaced by `new`, which overlap `t`; no range reaches over an end
/// of `t`. `s` is the slot that the node stands in.
pub(super) fn replaced(node: &Arc<Node>, s: Window, t: Span, new: &[FlatRange]) -> Arc<Node> {
    let here = overlapping(new, s);
    if t.start <= s.first && s.last() <= t.last {
        return build(s, here);
    }
    match &node.kind {
        Kind::Leaf(Leaf { ranges, .. }) | Kind::Crowded(Leaf { ranges, .. }) => {
            let all = spliced(ranges, t, here);
            let borrowed = all.partition_point(|r| r.start() < s.first);
            if all.len() - borrowed <= MOST { Arc::new(leaf(all, borrowed)) } else { build(s, &all) }
        }
        Kind::Inner { slots, outside } => {
            fitted(replaced_in_slots(node, slots, outside, s, t, here), s, here)
        }
    }
}

/// The inner node with its slots, and its leaf for the outside, replaced. What begins outside its window is not in the
/// result.
fn replaced_in_slots(
    node: &Node,
    slots: &[Arc<Node>],
    outside_now: &Arc<Node>,
    s: Window,
    t: Span,
    here: &[FlatRange],
) -> Node {
    let window = node.window(slots.len());
    let mut slots: Box<[Arc<Node>]> = slots.into();
    if t.start <= window.last() && window.first <= t.last {
        let from = node.slot(t.start.max(window.first));
        let to = node.slot(t.last.min(window.last()));
        let mut covers = Covers::default();
        for (i, child) in slots.iter_mut().enumerate().take(to + 1).skip(from) {
            let slot = window.part(i, node.shift);
            let there = overlapping(here, slot);
            *child = if t.start <= slot.first && slot.last() <= t.last {
                covers.or_build(slot, there)
            } else {
                replaced(child, slot, t, there)
            };
        }
    }
    let mut outside_new = Arc::clone(outside_now);
    if (t.start < window.first || t.last > window.last())
        && let Some(leaf) = outside_now.leaf()
    {
        outside_new = outside(s, window, &spliced(&leaf.ranges, t, here));
    }
    inner(window, node.shift, slots, outside_new)
}

/// `ranges` with what overlaps `t` replaced by `new`.
fn spliced(ranges: &[FlatRange], t: Span, new: &[FlatRange]) -> Vec<FlatRange> {
    let before = ranges.iter().take_while(|r| r.last() < t.start);
    let after = ranges.iter().skip_while(|r| r.start() <= t.last);
    before.chain(new).chain(after).cloned().collect()
}

/// An inner node that was changed, in the shape it should have; `new` are the ranges that were put into slot `s`, of
/// which the node has those that begin in its window.
fn fitted(node: Node, s: Window, new: &[FlatRange]) -> Arc<Node> {
    let Kind::Inner { slots, .. } = &node.kind else {
        return Arc::new(node);
    };
    let window = node.window(slots.len());
    let stray = |r: &&FlatRange| r.start() >= s.first && !window.holds(r.start());
    let strays: Vec<_> = new.iter().filter(stray).collect();
    let total = node.count as usize + strays.len();
    let too_few = total <= MOST / 2 || total < 4 * slots.len();
    let too_many = slots.len() < 1 << SLOT_BITS && total > MOST * slots.len();
    if total <= SMALL as usize && (!strays.is_empty() || too_few || too_many) {
        let mut all: Vec<FlatRange> = Iter::from(Some(&node), window.first).cloned().collect();
        // What begins before the slot stands in no slot of the node as its own.
        all.extend(borrowed_by(&node, s).cloned());
        all.extend(strays.into_iter().cloned());
        all.sort_unstable_by_key(FlatRange::start);
        all.dedup_by_key(|r| r.start());
        return build(s, &all);
    }
    if strays.is_empty() { Arc::new(node) } else { widened(node, s, &strays) }
}

/// The range that begins before slot `s` and reaches into it.
fn borrowed_by(node: &Node, s: Window) -> impl Iterator<Item = &FlatRange> {
    node.lookup(s.first).into_iter().filter(move |r| r.start() < s.first)
}

/// A large inner node under one with a wider window, that has room for `strays`.
fn widened(node: Node, s: Window, strays: &[&FlatRange]) -> Arc<Node> {
    let Kind::Inner { slots, .. } = &node.kind else {
        return Arc::new(node);
    };
    let window = node.window(slots.len());
    let (mut low, mut high) = (window.first, window.last());
    // Everything that reaches beyond the node's window.
    let mut frame: Vec<FlatRange> = borrowed_by(&node, s).cloned().collect();
    frame.extend(node.lookup(window.last()).cloned());
    for stray in strays {
        (low, high) = (low.min(stray.start()), high.max(stray.start()));
        frame.push((*stray).clone());
    }
    frame.sort_unstable_by_key(FlatRange::start);
    frame.dedup_by_key(|r| r.start());
    let wide = Window::around(low, high);
    // The node's own slots go on as slots of the new one if they are not too many; else it becomes one slot.
    let keep = wide.bits - node.shift <= SLOT_BITS;
    let shift = if keep { node.shift } else { window.bits.max(wide.bits.saturating_sub(SLOT_BITS)) };
    let mut covers = Covers::default();
    let new: Box<[Arc<Node>]> = (0..1 << (wide.bits - shift))
        .map(|i| {
            let slot = wide.part(i, shift);
            if !slot.holds(window.first) && !window.holds(slot.first) {
                return covers.or_build(slot, overlapping(&frame, slot));
            }
            if keep && let Some(child) = slots.get(node.slot(slot.first)) {
                return Arc::clone(child);
            }
            let outside = outside(slot, window, &frame);
            Arc::new(inner(window, node.shift, slots.clone(), outside))
        })
        .collect();
    let outside = outside(s, wide, &frame);
    Arc::new(inner(wide, shift, new, outside))
}
