//! `info mtree` of a live [`Memory`]: the text QEMU 7.2 prints for the same map, block for block.
//!
//! Blocks come in the order in which address spaces were made (QEMU: the order of a hash table). What is written is
//! what the library's views and topology say at the moment of writing; a map that another thread changes meanwhile
//! may give a text of before and after, or the error that a region is gone.
//!
//! What must always hold: writing changes nothing and runs no device code; what is written parses back to itself.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::text::{
    AliasText, Block, Body, Document, Head, OwnerText, RangeLine, TreeLine, TypeText, ViewSpace, ViewText,
};
use crate::{
    AddressSpace, FlatRange, FlatView, Memory, MemoryError, Owner, RegionId, RegionInfo, RegionType, SpaceId,
    ViewShape,
};

/// The flags of `info mtree`; all off prints the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-f`: flat views instead of trees.
    pub flat: bool,
    /// `-d`: with `flat`, how a view finds the range of an address. The text is ours, not QEMU's.
    pub dispatch: bool,
    /// `-o`: who owns each region.
    pub owner: bool,
    /// `-D`: disabled regions too.
    pub disabled: bool,
}

/// Writes the map of `memory`; print the document to get the text.
///
/// # Errors
/// [`MemoryError::StaleRegion`] if another thread removes a region meanwhile.
pub fn write(memory: &Memory, options: Options) -> Result<Document, MemoryError> {
    write_accelerated(memory, options, &|_, _| false)
}

/// The same for a machine with an accelerator: in flat views, ` KVM` stands behind a range once for each address space in
/// which `has_memory` says that the accelerator has exactly this range (QEMU: `has_memory` of the accelerator).
///
/// # Errors
/// As [`write()`].
pub fn write_accelerated(
    memory: &Memory,
    options: Options,
    has_memory: HasMemory<'_>,
) -> Result<Document, MemoryError> {
    let spaces = memory.spaces();
    let mut writer = Writer { memory, options, has_memory, known: HashMap::new() };
    let bodies = if options.flat { writer.views(&spaces)? } else { writer.trees(&spaces)? };
    let blocks = bodies.into_iter().map(|body| Block { line: 0, body, blank_lines: 1 }).collect();
    Ok(Document { blocks, ..Document::default() })
}

impl From<RegionType> for TypeText {
    fn from(kind: RegionType) -> TypeText {
        match kind {
            RegionType::Io => TypeText::Io,
            RegionType::Ram => TypeText::Ram,
            RegionType::Rom => TypeText::Rom,
            RegionType::Romd => TypeText::Romd,
            RegionType::Ramd => TypeText::Ramd,
        }
    }
}

/// The last address of `size` bytes from `start` on, as QEMU prints it: it wraps, and no bytes look like one.
fn last_of(start: u64, size: u128) -> u64 {
    start.wrapping_add(u64::try_from(size.saturating_sub(1)).unwrap_or(u64::MAX))
}

fn owner_text(info: &RegionInfo) -> OwnerText {
    let text = |owner: &Owner| {
        let kind = if owner.is_device() { "dev" } else { "obj" };
        match owner.id() {
            Some(id) => format!("{kind} id={id}"),
            None => format!("{kind} path={}", owner.path()),
        }
    };
    OwnerText {
        owner: info.owner.as_ref().map(text),
        parent: info.parent.as_ref().filter(|p| Some(*p) != info.owner.as_ref()).map(text),
        orphan: info.owner.is_none() && info.parent.is_none(),
    }
}

/// How the view finds the range of an address. QEMU prints its radix tree here; this is our own structure.
fn dispatch_text(view: &FlatView) -> Vec<String> {
    let ViewShape { levels, leaves, inner, capacity, .. } = view.shape();
    vec![
        format!("    {} ranges in {leaves} chunks of at most {capacity}", view.len()),
        format!("    {inner} chunks of chunks above them; a lookup goes through {levels} levels"),
    ]
}

/// Whether an accelerator has exactly this range of a space.
pub type HasMemory<'a> = &'a dyn Fn(SpaceId, &FlatRange) -> bool;

struct Writer<'a> {
    memory: &'a Memory,
    options: Options,
    has_memory: HasMemory<'a>,
    /// What was asked for already: a region stands in several blocks.
    known: HashMap<RegionId, RegionInfo>,
}

impl Writer<'_> {
    fn info(&mut self, id: RegionId) -> Result<RegionInfo, MemoryError> {
        if let Some(info) = self.known.get(&id) {
            return Ok(info.clone());
        }
        let info = self.memory.region(id)?;
        self.known.insert(id, info.clone());
        Ok(info)
    }

    fn owner(&self, info: &RegionInfo) -> OwnerText {
        if self.options.owner { owner_text(info) } else { OwnerText::default() }
    }

    /// The type that is printed: for an alias that of the region its chain ends at.
    fn kind(&mut self, info: &RegionInfo) -> Result<TypeText, MemoryError> {
        let mut kind = info.kind;
        let mut alias = info.alias;
        while let Some((target, _)) = alias {
            let info = self.info(target)?;
            kind = info.kind;
            alias = info.alias;
        }
        Ok(kind.into())
    }

    fn trees(&mut self, spaces: &[AddressSpace]) -> Result<Vec<Body>, MemoryError> {
        // Spaces by root, roots in the order of their first space.
        let mut roots: Vec<(RegionId, Vec<String>)> = Vec::new();
        let mut position: HashMap<RegionId, usize> = HashMap::new();
        for space in spaces {
            let root = space.root()?;
            let at = *position.entry(root).or_insert_with(|| {
                roots.push((root, Vec::new()));
                roots.len() - 1
            });
            if let Some((_, names)) = roots.get_mut(at) {
                names.push(space.name().to_owned());
            }
        }
        let mut bodies = Vec::new();
        let mut targets = Targets::default();
        for (root, mut names) in roots {
            names.sort_unstable();
            bodies.push(Body::Spaces { names, lines: self.tree(root, &mut targets)? });
        }
        let mut done = 0;
        while let Some(&target) = targets.queue.get(done) {
            done += 1;
            let name = self.info(target)?.name.to_string();
            bodies.push(Body::Region { name, lines: self.tree(target, &mut targets)? });
        }
        Ok(bodies)
    }

    fn tree(&mut self, root: RegionId, targets: &mut Targets) -> Result<Vec<TreeLine>, MemoryError> {
        let mut lines = Vec::new();
        // Base address, depth, region; the next one to print on top.
        let mut work = vec![(0u64, 1usize, root)];
        while let Some((base, depth, id)) = work.pop() {
            let info = self.info(id)?;
            if let Some((target, _)) = info.alias {
                targets.add(target);
            }
            let start = base.wrapping_add(info.addr);
            if info.enabled || self.options.disabled {
                let end = last_of(start, info.size);
                let alias = match info.alias {
                    Some((target, offset)) => Some(AliasText {
                        target: self.info(target)?.name.to_string(),
                        start: offset,
                        end: last_of(offset, info.size),
                    }),
                    None => None,
                };
                lines.push(TreeLine {
                    line: 0,
                    overflow: start < base || end < start,
                    depth,
                    head: Head {
                        start,
                        end,
                        priority: info.priority,
                        nonvolatile: info.nonvolatile,
                        kind: self.kind(&info)?,
                    },
                    name: info.name.to_string(),
                    alias,
                    disabled: !info.enabled,
                    owner: self.owner(&info),
                });
            }
            let mut children = Vec::new();
            for child in self.memory.children(id)? {
                let info = self.info(child)?;
                children.push((info.addr, Reverse(info.priority), child));
            }
            // Stable: equal ones keep the list's order, winners first.
            children.sort_by_key(|&(addr, priority, _)| (addr, priority));
            work.extend(children.into_iter().rev().map(|(_, _, child)| (start, depth + 1, child)));
        }
        Ok(lines)
    }

    fn views(&mut self, spaces: &[AddressSpace]) -> Result<Vec<Body>, MemoryError> {
        let mut views: Vec<(ViewText, std::sync::Arc<FlatView>)> = Vec::new();
        let mut position: HashMap<Option<RegionId>, usize> = HashMap::new();
        for space in spaces {
            let view = space.view()?;
            let root = self.info(space.root()?)?;
            let at = match position.get(&view.root()) {
                Some(at) => *at,
                None => {
                    let at = views.len();
                    position.insert(view.root(), at);
                    views.push((self.view(at, &view)?, view));
                    at
                }
            };
            let alias = match root.alias {
                Some((target, _)) => Some(self.info(target)?.name.to_string()),
                None => None,
            };
            if let Some((text, view)) = views.get_mut(at) {
                for (line, range) in text.ranges.iter_mut().zip(view.ranges()) {
                    line.kvm += usize::from((self.has_memory)(space.id(), range));
                }
                text.spaces.push(ViewSpace {
                    name: space.name().to_owned(),
                    root: root.name.to_string(),
                    alias,
                });
            }
        }
        Ok(views.into_iter().map(|(text, _)| Body::View(text)).collect())
    }

    fn view(&mut self, number: usize, view: &FlatView) -> Result<ViewText, MemoryError> {
        let root = match view.root() {
            Some(root) => Some(self.info(root)?.name.to_string()),
            None => None,
        };
        let mut ranges = Vec::new();
        for range in view.ranges() {
            let info = self.info(range.region())?;
            ranges.push(RangeLine {
                line: 0,
                head: Head {
                    start: range.start(),
                    end: range.last(),
                    priority: info.priority,
                    nonvolatile: range.nonvolatile(),
                    kind: if range.readonly() { TypeText::Rom } else { info.kind.into() },
                },
                name: info.name.to_string(),
                offset: range.offset(),
                owner: self.owner(&info),
                kvm: 0,
            });
        }
        let dispatch = (self.options.dispatch && !ranges.is_empty()).then(|| dispatch_text(view));
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        Ok(ViewText { number, spaces: Vec::new(), root, ranges, dispatch })
    }
}

/// Alias targets in the order in which they were met, each once.
#[derive(Default)]
struct Targets {
    queue: Vec<RegionId>,
    met: HashSet<RegionId>,
}

impl Targets {
    fn add(&mut self, target: RegionId) {
        if self.met.insert(target) {
            self.queue.push(target);
        }
    }
}
