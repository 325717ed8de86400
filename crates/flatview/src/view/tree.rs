//! Ranges in order, in chunks that successive views share.
//!
//! What it is: a B+ tree whose nodes are never changed; replacing a run of ranges copies the chunks on the way to
//! it and shares the rest. What must hold: keys of a node are the starts of its entries, in order; all leaves are
//! at one depth; no node is larger than [`MOST`].
#![expect(clippy::indexing_slicing, reason = "indexes come from searches in the same slice")]

use std::sync::Arc;

use super::{FlatRange, ViewShape};
use crate::span::Span;

/// Entries of a node.
const MOST: usize = 64;
/// A node below this is joined with a neighbour when the way leads past it.
const FEW: usize = MOST / 4;

/// A node: its entries' first addresses, apart from the entries so that a search stays in few cache lines.
#[derive(Debug)]
struct Node {
    starts: Box<[u64]>,
    entries: Entries,
    /// Ranges below.
    count: usize,
}

#[derive(Debug)]
enum Entries {
    Ranges(Box<[FlatRange]>),
    Nodes(Box<[Arc<Node>]>),
}

impl Node {
    fn leaf(ranges: Vec<FlatRange>) -> Self {
        Self {
            starts: ranges.iter().map(|r| r.start).collect(),
            count: ranges.len(),
            entries: Entries::Ranges(ranges.into()),
        }
    }

    fn inner(nodes: Vec<Arc<Self>>) -> Self {
        Self {
            starts: nodes.iter().map(|n| n.starts[0]).collect(),
            count: nodes.iter().map(|n| n.count).sum(),
            entries: Entries::Nodes(nodes.into()),
        }
    }

    fn len(&self) -> usize {
        self.starts.len()
    }

    /// The last entry that starts at or before `addr`.
    #[inline]
    fn floor(&self, addr: u64) -> Option<usize> {
        // Halving without a branch that depends on the data: the processor cannot mispredict it.
        let starts = &*self.starts;
        let mut base = 0;
        let mut len = starts.len();
        while len > 1 {
            let half = len / 2;
            base = std::hint::select_unpredictable(starts[base + half] <= addr, base + half, base);
            len -= half;
        }
        (*starts.get(base)? <= addr).then_some(base)
    }

    /// This node with the ranges that begin in `span` replaced, as nodes of the same height.
    fn replaced(&self, span: Span, new: Vec<FlatRange>) -> Vec<Arc<Self>> {
        match &self.entries {
            Entries::Ranges(old) => {
                let from = self.starts.partition_point(|s| *s < span.start);
                let to = self.starts.partition_point(|s| *s <= span.last);
                let all = old[..from].iter().cloned().chain(new).chain(old[to..].iter().cloned()).collect();
                chunked(all, Self::leaf)
            }
            Entries::Nodes(old) => {
                let first = self.floor(span.start).unwrap_or(0);
                let last = self.floor(span.last).unwrap_or(0).max(first);
                let mut middle = old[first].replaced(span, new);
                if last > first {
                    middle.extend(old[last].replaced(span, Vec::new()));
                }
                let mut all: Vec<Arc<Self>> = old[..first].to_vec();
                let from = all.len().saturating_sub(1);
                all.extend(middle);
                let to = all.len() + 1;
                all.extend_from_slice(&old[last + 1..]);
                join_small(&mut all, from, to);
                chunked(all, Self::inner)
            }
        }
    }
}

/// Cuts entries into nodes of about the same size.
fn chunked<T>(mut entries: Vec<T>, make: impl Fn(Vec<T>) -> Node) -> Vec<Arc<Node>> {
    let count = entries.len().div_ceil(MOST);
    let mut nodes = Vec::with_capacity(count);
    for left in (1..=count).rev() {
        let rest = entries.split_off(entries.len().div_ceil(left).min(entries.len()));
        nodes.push(Arc::new(make(entries)));
        entries = rest;
    }
    nodes
}

/// Joins small nodes of `nodes[from..to]` with the next one.
fn join_small(nodes: &mut Vec<Arc<Node>>, from: usize, to: usize) {
    let mut at = from;
    let mut to = to.min(nodes.len());
    while at + 1 < to {
        let (a, b) = (&nodes[at], &nodes[at + 1]);
        if a.len().min(b.len()) < FEW && a.len() + b.len() <= MOST {
            let joined = match (&a.entries, &b.entries) {
                (Entries::Ranges(a), Entries::Ranges(b)) => Node::leaf(a.iter().chain(b).cloned().collect()),
                (Entries::Nodes(a), Entries::Nodes(b)) => Node::inner(a.iter().chain(b).cloned().collect()),
                _ => return, // All leaves are at one depth: does not happen.
            };
            nodes[at] = Arc::new(joined);
            nodes.remove(at + 1);
            to -= 1;
        } else {
            at += 1;
        }
    }
}

/// The tree. Cloning it shares all of it.
#[derive(Debug, Default, Clone)]
pub(crate) struct RangeTree {
    root: Option<Arc<Node>>,
}

impl RangeTree {
    pub fn len(&self) -> usize {
        self.root.as_ref().map_or(0, |r| r.count)
    }

    /// The tree with the ranges that begin in `span` replaced by `new`, which begin there too.
    pub fn replaced(&self, span: Span, new: Vec<FlatRange>) -> Self {
        let mut nodes = match &self.root {
            Some(root) => root.replaced(span, new),
            None => chunked(new, Node::leaf),
        };
        while nodes.len() > 1 {
            nodes = chunked(nodes, Node::inner);
        }
        let mut root = nodes.pop();
        while let Some(Entries::Nodes(only)) = root.as_ref().map(|r| &r.entries) {
            if only.len() > 1 {
                break;
            }
            root = only.first().cloned();
        }
        Self { root }
    }

    #[inline]
    pub fn lookup(&self, addr: u64) -> Option<&FlatRange> {
        let mut node = self.root.as_deref()?;
        loop {
            let at = node.floor(addr)?;
            match &node.entries {
                Entries::Nodes(nodes) => node = &nodes[at],
                Entries::Ranges(ranges) => return Some(&ranges[at]).filter(|r| addr <= r.last),
            }
        }
    }

    /// The ranges from the one at (or else after) `addr` on.
    pub fn iter_from(&self, addr: u64) -> Iter<'_> {
        let mut iter = Iter { path: Vec::new() };
        let mut node = self.root.as_deref();
        while let Some(n) = node {
            let at = n.floor(addr).unwrap_or(0);
            node = match &n.entries {
                Entries::Nodes(nodes) => {
                    iter.path.push((n, at + 1));
                    Some(&nodes[at])
                }
                Entries::Ranges(ranges) => {
                    iter.path.push((n, at + usize::from(ranges[at].last < addr)));
                    None
                }
            };
        }
        iter
    }

    pub fn shape(&self) -> ViewShape {
        let mut shape = ViewShape { levels: 0, leaves: 0, inner: 0, capacity: MOST };
        let mut level: Vec<&Node> = self.root.as_deref().into_iter().collect();
        while !level.is_empty() {
            shape.levels += 1;
            let mut next = Vec::new();
            for node in level {
                match &node.entries {
                    Entries::Ranges(_) => shape.leaves += 1,
                    Entries::Nodes(nodes) => {
                        shape.inner += 1;
                        next.extend(nodes.iter().map(|n| &**n));
                    }
                }
            }
            level = next;
        }
        shape
    }
}

/// Ranges in order.
pub(crate) struct Iter<'a> {
    /// From the root down: a node and the entry to go to next.
    path: Vec<(&'a Node, usize)>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a FlatRange;

    fn next(&mut self) -> Option<&'a FlatRange> {
        loop {
            let (node, at) = self.path.last_mut()?;
            let (entries, here) = (&node.entries, *at);
            *at += 1;
            match entries {
                Entries::Ranges(ranges) => match ranges.get(here) {
                    Some(range) => return Some(range),
                    None => self.path.pop(),
                },
                Entries::Nodes(nodes) => match nodes.get(here) {
                    Some(child) => {
                        self.path.push((child, 0));
                        None
                    }
                    None => self.path.pop(),
                },
            };
        }
    }
}
