//! A text of `info mtree` made into a [`Memory`]: regions without store, to look at and to change.
//!
//! The text leaves some things open (see [`answers`](super::answers)); without answers these are guessed: an i/o
//! region answers itself if it has no children and is not as large as a whole address space, and of siblings whose
//! priorities tie the one printed first wins. Disabled regions whose line is hidden become disabled containers
//! called `(hidden)`, so that the text printed from the memory has the same lines at the same depth.
//!
//! What must always hold: the memory made from a text prints the same blocks; nothing but the tree and the answers
//! decides what its views are.

use std::collections::{HashMap, HashSet};

use super::answers::{Answers, Place, SpaceKey, Tie};
use super::error::MtreeError;
use super::identity::{HIDDEN, Node, NodeId, Plan};
use super::text::{Body, Document, OwnerText, TypeText};
use crate::{Endianness, Memory, MemoryError, Owner, Region, RegionId, RegionType, Transaction};

/// A memory made from a text.
#[derive(Debug)]
pub struct Imported {
    /// The memory: no default regions and spaces but those of the text.
    pub memory: Memory,
    /// Its regions, in the order in which the text first shows them.
    pub regions: Vec<RegionId>,
    /// Address spaces of the text that the answers given do not mention: for these it was guessed. If there are
    /// any, the answers are likely another machine's.
    pub unanswered: Vec<String>,
    /// Which region each line of the text is.
    lines: HashMap<usize, RegionId>,
}

impl Imported {
    /// The region that line `number` (from 1) of the text is.
    pub fn region_at_line(&self, number: usize) -> Option<RegionId> {
        self.lines.get(&number).copied()
    }
}

/// Makes a [`Memory`] of the text `tree` and, if there are any, `answers`.
///
/// # Errors
/// [`MtreeError::NotATree`] for a text of `info mtree -f`; [`MtreeError::NoTarget`], [`MtreeError::AliasCycle`] and
/// [`MtreeError::Refused`] name the line that cannot be.
pub fn import(tree: &Document, answers: Option<&Answers>) -> Result<Imported, MtreeError> {
    import_with(tree, answers, None)
}

/// As [`import`], with one tie more.
pub(super) fn import_with(
    tree: &Document,
    answers: Option<&Answers>,
    tie: Option<&Tie>,
) -> Result<Imported, MtreeError> {
    let plan = Plan::new(tree)?;
    let answering = answering(&plan, answers);
    let mut ties: HashMap<&str, Vec<&Tie>> = HashMap::new();
    for tie in answers.into_iter().flat_map(Answers::ties).chain(tie) {
        ties.entry(&tie.container).or_default().push(tie);
    }
    let memory = Memory::builder(Endianness::Little).bare().build();
    let mut builder =
        Builder { plan: &plan, answering, ids: vec![None; plan.nodes.len()], owners: HashMap::new() };
    memory.update(|t| {
        builder.add_regions(t)?;
        builder.place(t, &ties)?;
        builder.keep_unreferenced(t)
    })?;
    let mut unanswered = Vec::new();
    for &(block, root) in &plan.roots {
        let Some(block) = tree.blocks.get(block) else { continue };
        let Body::Spaces { names, .. } = &block.body else { continue };
        for name in names {
            let refused = |error| MtreeError::Refused {
                file: tree.source.clone(),
                line: block.line,
                name: name.clone(),
                error,
            };
            if answers.is_some_and(|a| !a.spaces.contains_key(&space_key(&plan, name, root))) {
                unanswered.push(name.clone());
            }
            let root = builder.id(plan.region_of(root))?;
            memory.address_space(name, root).map_err(refused)?;
        }
    }
    let mut lines = HashMap::new();
    for (id, node) in plan.nodes.iter().enumerate() {
        if let Some(line) = node.line {
            lines.insert(line.line, builder.id(plan.region_of(id))?);
        }
    }
    let regions = plan.regions().filter_map(|(id, _)| builder.ids.get(id).copied().flatten()).collect();
    Ok(Imported { memory, regions, unanswered, lines })
}

/// What answers about the space `name` with the root `root` are filed under.
fn space_key(plan: &Plan<'_>, name: &str, root: NodeId) -> SpaceKey {
    SpaceKey { name: name.to_owned(), root: plan.node(root).map_or(HIDDEN, Node::name).to_owned() }
}

/// The i/o regions that answer themselves.
fn answering(plan: &Plan<'_>, answers: Option<&Answers>) -> HashSet<NodeId> {
    let mut found = HashSet::new();
    // Regions that a space sees of which answers are known: for these nothing is guessed.
    let mut settled = HashSet::new();
    for &(block, root) in &plan.roots {
        let Some(Body::Spaces { names, .. }) = plan.document.blocks.get(block).map(|b| &b.body) else {
            continue;
        };
        let known: Vec<_> =
            names.iter().filter_map(|name| answers?.spaces.get(&space_key(plan, name, root))).collect();
        if known.is_empty() {
            continue;
        }
        let mut seen = HashSet::new();
        let mut work = vec![plan.region_of(root)];
        while let Some(id) = work.pop() {
            let Some(node) = plan.node(id).filter(|n| n.enabled()) else { continue };
            if !seen.insert(id) {
                continue;
            }
            settled.insert(id);
            if known.iter().any(|k| k.answering.contains(node.name())) {
                found.insert(id);
            }
            work.extend(node.target);
            if node.alias().is_none() {
                work.extend(node.children.iter().map(|&c| plan.region_of(c)));
            }
        }
    }
    for (id, node) in plan.regions() {
        if !settled.contains(&id) && node.children.is_empty() && node.size < crate::WHOLE {
            found.insert(id);
        }
    }
    found
}

/// Where `node` stands in its container, as a tie names it.
pub(super) fn place_of(node: &Node<'_>) -> Place {
    // As QEMU prints: the end wraps, size 0 looks like one byte.
    let length = u64::try_from(node.size.saturating_sub(1)).unwrap_or(u64::MAX);
    Place { start: node.addr, end: node.addr.wrapping_add(length), name: node.name().to_owned() }
}

/// The regions that `plan` makes, in the order in which they win among equal priorities.
fn winners_first(plan: &Plan<'_>, container: &Node<'_>, ties: &HashMap<&str, Vec<&Tie>>) -> Vec<NodeId> {
    let mut order = container.children.clone();
    for tie in ties.get(container.name()).into_iter().flatten() {
        let find = |order: &[NodeId], place: &Place| {
            order.iter().position(|&id| plan.node(id).is_some_and(|n| place_of(n) == *place))
        };
        if let (Some(winner), Some(loser)) = (find(&order, &tie.winner), find(&order, &tie.loser))
            && winner > loser
        {
            let id = order.remove(winner);
            order.insert(loser, id);
        }
    }
    order
}

struct Builder<'a> {
    plan: &'a Plan<'a>,
    answering: HashSet<NodeId>,
    /// The regions made, by node.
    ids: Vec<Option<RegionId>>,
    /// Owners by what is printed of them: regions of one owner must share it.
    owners: HashMap<String, Owner>,
}

impl<'a> Builder<'a> {
    fn id(&self, node: NodeId) -> Result<RegionId, MtreeError> {
        // Every node that stands for a region has one before anybody asks; `Full` is what the library would say
        // if it could not have made it.
        self.ids.get(node).copied().flatten().ok_or(MtreeError::Memory(MemoryError::Full))
    }

    fn refused(&self, node: &Node<'_>, error: MemoryError) -> MtreeError {
        MtreeError::Refused {
            file: self.plan.document.source.clone(),
            line: node.line.map_or(0, |l| l.line),
            name: node.name().to_owned(),
            error,
        }
    }

    fn owner(&mut self, text: &str) -> Owner {
        if let Some(owner) = self.owners.get(text) {
            return owner.clone();
        }
        let (kind, who) = text.split_once(' ').unwrap_or(("obj", text));
        let owner = match (kind, who.split_once('=')) {
            ("dev", Some(("id", id))) => Owner::device_with_id(id, id),
            ("dev", Some((_, path))) => Owner::device(path),
            (_, Some((_, path))) => Owner::object(path),
            (_, None) => Owner::object(who),
        };
        self.owners.insert(text.to_owned(), owner.clone());
        owner
    }

    fn dress(&mut self, node: &Node<'_>, mut region: Region) -> Region {
        if let Some(line) = node.line {
            let OwnerText { owner, parent, .. } = &line.owner;
            if let Some(owner) = owner {
                region = region.owner(&self.owner(owner));
            }
            if let Some(parent) = parent {
                region = region.parent(&self.owner(parent));
            }
            // An alias prints its target's type, but its own mark.
            region = region.nonvolatile(line.head.nonvolatile);
        }
        region.enabled(node.enabled())
    }

    fn make(&mut self, t: &mut Transaction<'_>, id: NodeId, region: Region) -> Result<(), MtreeError> {
        let Some(node) = self.plan.node(id) else { return Ok(()) };
        let region = self.dress(node, region);
        let made = t.add(region).map_err(|e| self.refused(node, e))?;
        if let Some(slot) = self.ids.get_mut(id) {
            *slot = Some(made);
        }
        Ok(())
    }

    /// Makes every region: those that are no aliases in printed order, then aliases, each after its target.
    fn add_regions(&mut self, t: &mut Transaction<'_>) -> Result<(), MtreeError> {
        let plan = self.plan;
        for (id, node) in plan.regions() {
            if node.target.is_some() {
                continue;
            }
            let kind = node.line.map_or(TypeText::Container, |l| l.head.kind);
            let sketch = |kind| Region::sketch(node.name(), node.size, kind);
            let region = match kind {
                TypeText::Ram => sketch(RegionType::Ram),
                TypeText::Rom => sketch(RegionType::Rom),
                TypeText::Romd => sketch(RegionType::Romd),
                TypeText::Ramd => sketch(RegionType::Ramd),
                TypeText::Io | TypeText::Container if self.answering.contains(&id) && node.line.is_some() => {
                    sketch(RegionType::Io)
                }
                TypeText::Io | TypeText::Container => Region::container(node.name(), node.size),
            };
            self.make(t, id, region)?;
        }
        for (id, _) in plan.regions() {
            let mut chain = vec![id];
            while let Some(&id) = chain.last() {
                let Some((node, target)) = plan.node(id).and_then(|n| Some((n, n.target?))) else { break };
                if self.ids.get(id).copied().flatten().is_some() {
                    chain.pop();
                    continue;
                }
                match self.ids.get(target).copied().flatten() {
                    Some(target) => {
                        let offset = node.alias().map_or(0, |a| a.start);
                        self.make(t, id, Region::alias(node.name(), target, offset, node.size))?;
                        chain.pop();
                    }
                    None if chain.contains(&target) => {
                        return Err(MtreeError::AliasCycle {
                            file: plan.document.source.clone(),
                            line: node.line.map_or(0, |l| l.line),
                            alias: node.name().to_owned(),
                        });
                    }
                    None => chain.push(target),
                }
            }
        }
        Ok(())
    }

    /// Puts every region at its place.
    fn place(&mut self, t: &mut Transaction<'_>, ties: &HashMap<&str, Vec<&Tie>>) -> Result<(), MtreeError> {
        let plan = self.plan;
        for (id, container) in plan.regions() {
            let container_id = self.id(id)?;
            for child in winners_first(plan, container, ties).into_iter().rev() {
                let Some(node) = plan.node(child) else { continue };
                let child = self.id(plan.region_of(child))?;
                t.map_overlap(container_id, node.addr, child, node.priority())
                    .map_err(|e| self.refused(node, e))?;
            }
        }
        // A root stands at its own address in its views, and prints its own priority.
        for &(_, root) in &plan.roots {
            let Some(node) = plan.node(root) else { continue };
            let id = self.id(plan.region_of(root))?;
            let info = t.region(id)?;
            if info.container.is_none() {
                t.set_address(id, node.addr).map_err(|e| self.refused(node, e))?;
                t.set_priority(id, node.priority()).map_err(|e| self.refused(node, e))?;
            }
        }
        Ok(())
    }

    /// QEMU also prints the targets of disabled aliases whose line is hidden. Such an alias is added, or the target
    /// would be missing from the text printed of the memory.
    fn keep_unreferenced(&mut self, t: &mut Transaction<'_>) -> Result<(), MtreeError> {
        let plan = self.plan;
        let first = plan.roots.iter().find(|(block, root)| {
            let spaces =
                matches!(plan.document.blocks.get(*block).map(|b| &b.body), Some(Body::Spaces { .. }));
            spaces && plan.node(*root).is_some_and(|n| n.alias().is_none())
        });
        let Some(&(_, root)) = first else { return Ok(()) };
        let container = self.id(plan.region_of(root))?;
        for &target in &plan.unreferenced {
            let target = self.id(plan.region_of(target))?;
            let size = t.region(target)?.size;
            let alias = t.add(Region::alias(HIDDEN, target, 0, size).enabled(false))?;
            t.map(container, 0, alias)?;
        }
        Ok(())
    }
}
