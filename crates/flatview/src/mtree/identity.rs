//! Which printed lines are the same region.
//!
//! QEMU prints a region once for each block that shows it, by name, and names are not unique. Rules, in order:
//!
//! 1. Each address-space block has a root of its own, each `memory-region` block too: QEMU prints a root once in
//!    each of the two groups.
//! 2. The root of a block is the region of a line elsewhere if everything printed below it is equal: name, place in
//!    its container, size, priority, type, alias, and all children. Larger blocks are compared first, so that a line
//!    that is itself part of a repeated tree counts once; of several equal lines the first that no other block of
//!    the group has taken.
//! 3. Then their children are the same regions too, line by line. Other lines are regions of their own.
//! 4. A line that is indented deeper than its container's level plus one hangs in a disabled region whose own line
//!    is hidden; so does a line that breaks the order (by address, then by descending priority) in which QEMU
//!    prints children.
//! 5. An alias names its target. QEMU prints targets in the order in which aliases first lead to them; that order
//!    decides between targets of one name.
//!
//! The result is a [`Plan`]: nodes that point to each other by index, without a [`Memory`](crate::Memory).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use super::error::MtreeError;
use super::text::{AliasText, Body, Document, TreeLine, TypeText};

/// Index of a node in a [`Plan`].
pub(super) type NodeId = usize;

/// One printed line, or a region whose line is hidden.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// The line; `None` for a hidden disabled region.
    pub line: Option<&'a TreeLine>,
    /// First address as printed, container bases included.
    pub start: u64,
    /// Offset in the container.
    pub addr: u64,
    /// Size in bytes.
    pub size: u128,
    /// In printed order.
    pub children: Vec<NodeId>,
    /// The container as printed: a block's root has none.
    parent: Option<NodeId>,
    block: usize,
    /// Towards the node that stands for the region; itself if this one does.
    same_as: NodeId,
    /// For an alias that stands for its region: the node that stands for its target.
    pub target: Option<NodeId>,
}

impl Node<'_> {
    pub fn alias(&self) -> Option<&AliasText> {
        self.line?.alias.as_ref()
    }

    pub fn enabled(&self) -> bool {
        self.line.is_some_and(|l| !l.disabled)
    }

    pub fn priority(&self) -> i32 {
        self.line.map_or(0, |l| l.head.priority)
    }

    pub fn name(&self) -> &str {
        self.line.map_or(HIDDEN, |l| &l.name)
    }
}

/// What a region is called whose own line is hidden.
pub(super) const HIDDEN: &str = "(hidden)";

/// Who is who in a [`Document`].
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub document: &'a Document,
    pub nodes: Vec<Node<'a>>,
    /// For each block with a tree: its number in the document and its root, if a line of it is printed.
    pub roots: Vec<(usize, NodeId)>,
    /// Roots of `memory-region` blocks that no printed alias leads to.
    pub unreferenced: Vec<NodeId>,
}

impl<'a> Plan<'a> {
    /// Reads who is who.
    ///
    /// # Errors
    /// A flat view among the blocks; an alias whose target is not in the text.
    pub fn new(document: &'a Document) -> Result<Plan<'a>, MtreeError> {
        let mut plan = Plan { document, nodes: Vec::new(), roots: Vec::new(), unreferenced: Vec::new() };
        for (index, block) in document.blocks.iter().enumerate() {
            if let Body::View(_) = block.body {
                return Err(MtreeError::NotATree { file: document.source.clone(), line: block.line });
            }
            let root = plan.add_block(index, block.body.lines());
            plan.roots.push((index, root));
        }
        plan.place_hidden();
        plan.identify();
        plan.find_targets()?;
        Ok(plan)
    }

    pub fn node(&self, id: NodeId) -> Option<&Node<'a>> {
        self.nodes.get(id)
    }

    /// The node that stands for the region of `id`.
    pub fn region_of(&self, mut id: NodeId) -> NodeId {
        while let Some(node) = self.node(id)
            && node.same_as != id
        {
            id = node.same_as;
        }
        id
    }

    /// The nodes that stand for a region, each once.
    pub fn regions(&self) -> impl Iterator<Item = (NodeId, &Node<'a>)> {
        self.nodes.iter().enumerate().filter(|(id, node)| node.same_as == *id)
    }

    fn push(&mut self, line: Option<&'a TreeLine>, parent: Option<NodeId>, block: usize) -> NodeId {
        let id = self.nodes.len();
        let (start, size) = match line {
            // The size wraps with the printed end: `[DETECTED OVERFLOW!]` lines end before they start.
            Some(l) => (l.head.start, u128::from(l.head.end.wrapping_sub(l.head.start)) + 1),
            None => (0, 0),
        };
        self.nodes.push(Node {
            line,
            start,
            addr: start,
            size,
            children: Vec::new(),
            parent,
            block,
            same_as: id,
            target: None,
        });
        if let Some(parent) = parent.and_then(|p| self.nodes.get_mut(p)) {
            parent.children.push(id);
        }
        id
    }

    /// Turns indentation into containers.
    fn add_block(&mut self, block: usize, lines: &'a [TreeLine]) -> NodeId {
        // path[d] is the open node at depth d + 1.
        let mut path: Vec<NodeId> = Vec::new();
        let mut root = None;
        for line in lines {
            path.truncate(line.depth.saturating_sub(1));
            if let Some(&container) = path.last()
                && path.len() > 1
                && path.len() == line.depth - 1
                && self.breaks_order(container, line)
            {
                path.pop();
            }
            while path.len() < line.depth.saturating_sub(1) {
                let hidden = self.push(None, path.last().copied(), block);
                root.get_or_insert(hidden);
                path.push(hidden);
            }
            let id = self.push(Some(line), path.last().copied(), block);
            root.get_or_insert(id);
            path.push(id);
        }
        match root {
            Some(root) => root,
            // Everything is disabled and hidden.
            None => self.push(None, None, block),
        }
    }

    /// Whether QEMU cannot have printed `line` after the last child of `container`.
    fn breaks_order(&self, container: NodeId, line: &TreeLine) -> bool {
        let Some(container) = self.node(container) else { return false };
        let last = container.children.last().and_then(|&id| self.node(id));
        let Some(last) = last.and_then(|node| node.line) else { return false };
        // Offsets, because addresses may wrap; a hidden container's own address is not known.
        let base = container.line.map_or(0, |l| l.head.start);
        let key = |l: &TreeLine| (l.head.start.wrapping_sub(base), Reverse(l.head.priority));
        key(last) > key(line)
    }

    /// Gives hidden regions a place that keeps the printed order: where their first child starts, but between
    /// their printed neighbours. Then addresses become offsets.
    fn place_hidden(&mut self) {
        // Children come after their container.
        for id in (0..self.nodes.len()).rev() {
            let Some(node) = self.node(id).filter(|n| n.line.is_none()) else { continue };
            let children = || node.children.iter().filter_map(|&c| self.node(c));
            let mut start = children().map(|c| c.start).min().unwrap_or(0);
            let end = children().map(|c| u128::from(c.start) + c.size).max().unwrap_or(0);
            if let Some(parent) = node.parent.and_then(|p| self.node(p)) {
                let at = parent.children.iter().position(|&c| c == id).unwrap_or(0);
                let sibling = |i: Option<usize>| {
                    i.and_then(|i| parent.children.get(i))
                        .and_then(|&c| self.node(c))
                        .filter(|n| n.line.is_some())
                };
                if let Some(next) = sibling(at.checked_add(1)) {
                    start = start.min(next.start);
                }
                if let Some(before) = sibling(at.checked_sub(1)) {
                    start = start.max(before.start);
                }
            }
            let size = end.saturating_sub(u128::from(start)).min((1 << 64) - u128::from(start));
            if let Some(node) = self.nodes.get_mut(id) {
                node.start = start;
                node.size = size;
            }
        }
        for id in 0..self.nodes.len() {
            let base = self.node(id).and_then(|n| n.parent).and_then(|p| self.node(p)).map_or(0, |p| p.start);
            if let Some(node) = self.nodes.get_mut(id) {
                node.addr = node.start.wrapping_sub(base);
            }
        }
    }

    /// A number for each node, equal for nodes below and at which everything printed is equal.
    fn signatures(&self) -> Vec<usize> {
        type Key<'a> = (
            u64,
            u128,
            Option<(&'a str, i32, TypeText, bool, bool, Option<&'a AliasText>, String)>,
            Vec<usize>,
        );
        let mut known: HashMap<Key<'_>, usize> = HashMap::new();
        let mut signatures = vec![0; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().rev() {
            let line = node.line.map(|l| {
                let TreeLine { name, head, disabled, alias, owner, .. } = l;
                let alias = alias.as_ref();
                (
                    name.as_str(),
                    head.priority,
                    head.kind,
                    head.nonvolatile,
                    *disabled,
                    alias,
                    owner.to_string(),
                )
            });
            let children = node.children.iter().filter_map(|&c| signatures.get(c).copied()).collect();
            let next = known.len();
            let signature = *known.entry((node.addr, node.size, line, children)).or_insert(next);
            if let Some(slot) = signatures.get_mut(id) {
                *slot = signature;
            }
        }
        signatures
    }

    fn is_spaces_block(&self, block: usize) -> bool {
        matches!(self.document.blocks.get(block).map(|b| &b.body), Some(Body::Spaces { .. }))
    }

    /// Rules 1 to 3.
    fn identify(&mut self) {
        let signatures = self.signatures();
        let mut alike: HashMap<usize, Vec<NodeId>> = HashMap::new();
        for (id, signature) in signatures.iter().enumerate() {
            alike.entry(*signature).or_default().push(id);
        }
        let mut order = self.roots.clone();
        order.sort_by_key(|(block, _)| {
            Reverse(self.document.blocks.get(*block).map_or(0, |b| b.body.lines().len()))
        });
        // Regions that are already the root of a block, by group; and how far each list of equal lines is used up.
        let mut taken: HashSet<(bool, NodeId)> = HashSet::new();
        let mut cursors: HashMap<(bool, usize), usize> = HashMap::new();
        for (block, root) in order {
            let spaces = self.is_spaces_block(block);
            let Some(&signature) = signatures.get(root) else { continue };
            let cursor = cursors.entry((spaces, signature)).or_default();
            let mut rest = alike.get(&signature).and_then(|a| a.get(*cursor..)).unwrap_or_default().iter();
            let found = rest.find(|&&other| {
                *cursor += 1;
                let Some(node) = self.node(other) else { return false };
                // A root with nothing printed about it is like any other.
                let may = node.parent.is_some() || (!spaces && self.is_spaces_block(node.block));
                may && node.line.is_some() && !taken.contains(&(spaces, self.region_of(other)))
            });
            taken.insert((spaces, self.region_of(found.copied().unwrap_or(root))));
            if let Some(&other) = found {
                self.unify(root, other);
            }
        }
    }

    /// Makes everything below and at `copy` the same regions as at `original`, which is equal in all lines.
    fn unify(&mut self, copy: NodeId, original: NodeId) {
        let mut work = vec![(copy, original)];
        while let Some((copy, original)) = work.pop() {
            let (copy_region, region) = (self.region_of(copy), self.region_of(original));
            if copy_region != region
                && let Some(node) = self.nodes.get_mut(copy_region)
            {
                node.same_as = region;
            }
            if let (Some(a), Some(b)) = (self.node(copy), self.node(original)) {
                work.extend(a.children.iter().copied().zip(b.children.iter().copied()));
            }
        }
    }

    /// Rule 5.
    fn find_targets(&mut self) -> Result<(), MtreeError> {
        // The blocks of a name, in printed order, as (position among all blocks, root).
        let mut blocks: HashMap<&str, Vec<(usize, NodeId)>> = HashMap::new();
        for &(block, root) in &self.roots {
            if let Some(Body::Region { name, .. }) = self.document.blocks.get(block).map(|b| &b.body) {
                blocks.entry(name).or_default().push((block, root));
            }
        }
        let mut by_name: HashMap<&str, Vec<NodeId>> = HashMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            if let Some(line) = node.line {
                by_name.entry(&line.name).or_default().push(id);
            }
        }
        let mut queue =
            self.roots.iter().map(|(b, _)| *b).filter(|b| !self.is_spaces_block(*b)).collect::<VecDeque<_>>();
        // How often an alias of some name led to a block.
        let mut uses: HashMap<(usize, &str), usize> = HashMap::new();
        let mut led_to = vec![false; self.document.blocks.len()];
        for id in 0..self.nodes.len() {
            let region = self.region_of(id);
            let Some((line, alias)) = self.node(id).and_then(|n| Some((n.line?, n.alias()?))) else {
                continue;
            };
            if self.node(region).is_some_and(|n| n.target.is_some()) {
                continue;
            }
            let next = queue.front().copied();
            let after = |block: usize| next.is_some_and(|next| block >= next);
            let candidates = blocks.get(alias.target.as_str()).map_or(&[][..], Vec::as_slice);
            let fresh = candidates.iter().find(|(b, _)| Some(*b) == next);
            let used = || {
                let of = |b: &usize| uses.get(&(*b, line.name.as_str())).copied().unwrap_or(0);
                candidates.iter().filter(|(b, _)| !after(*b)).min_by_key(|(b, _)| of(b))
            };
            let found = fresh.or_else(used).or_else(|| candidates.first());
            let target = match found {
                Some(&(block, root)) => {
                    while queue.front().is_some_and(|b| *b <= block) {
                        queue.pop_front();
                    }
                    *uses.entry((block, &line.name)).or_default() += 1;
                    if let Some(led_to) = led_to.get_mut(block) {
                        *led_to = true;
                    }
                    root
                }
                // Not QEMU's, which prints every target; a person may have shortened the text.
                None => *by_name.get(alias.target.as_str()).and_then(|ids| ids.first()).ok_or_else(|| {
                    MtreeError::NoTarget {
                        file: self.document.source.clone(),
                        line: line.line,
                        alias: line.name.clone(),
                        target: alias.target.clone(),
                    }
                })?,
            };
            let target = self.region_of(target);
            if let Some(node) = self.nodes.get_mut(region) {
                node.target = Some(target);
            }
        }
        self.unreferenced = blocks
            .values()
            .flatten()
            .filter(|(block, _)| !led_to.get(*block).copied().unwrap_or(true))
            .map(|&(_, root)| root)
            .collect();
        self.unreferenced.sort_unstable();
        Ok(())
    }
}
