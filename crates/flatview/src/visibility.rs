//! Who answers at one address, by the documented rule and nothing else.
//!
//! What it is: QEMU's "Visibility" rule (docs/devel/memory.rst) taken literally, one address at a time, over the
//! public description of the regions. What it is not: the renderer, with which it shares no code; tests hold the two
//! against each other, and `flatview mtree --at` explains with it.
//!
//! What must hold: a search ends, with an answer or a typed error, whatever the map looks like.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use crate::{Memory, MemoryError, RegionId, RegionInfo};

/// Who answers at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The region.
    pub region: RegionId,
    /// The offset in it.
    pub offset: u64,
    /// Whether it, or something it is seen through, is read-only.
    pub readonly: bool,
    /// Whether it, or something it is seen through, is non-volatile.
    pub nonvolatile: bool,
}

/// How deep the search goes before it gives up with [`MemoryError::TooDeep`].
const DEPTH: u32 = 1024;

/// How many regions the search looks at before it gives up with [`MemoryError::TooMuchWork`]: levels of two aliases
/// multiply each other, and depth alone does not bound that.
const STEPS: u64 = 1 << 24;

/// What the rule asks about a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    addr: u64,
    size: u128,
    enabled: bool,
    readonly: bool,
    nonvolatile: bool,
    terminates: bool,
    alias: Option<(RegionId, u64)>,
}

impl From<&RegionInfo> for Place {
    fn from(info: &RegionInfo) -> Self {
        Self {
            addr: info.addr,
            size: info.size,
            enabled: info.enabled,
            readonly: info.readonly,
            nonvolatile: info.nonvolatile,
            terminates: info.terminates,
            alias: info.alias,
        }
    }
}

/// A map of regions, as far as the rule needs it.
trait Map {
    fn place(&self, id: RegionId) -> Result<Place, MemoryError>;
    /// What is mapped in a region, the winners first.
    fn children(&self, id: RegionId) -> Result<Cow<'_, [RegionId]>, MemoryError>;
    fn name(&self, id: RegionId) -> Arc<str>;
}

impl Map for Memory {
    fn place(&self, id: RegionId) -> Result<Place, MemoryError> {
        self.region(id).map(|info| Place::from(&info))
    }

    fn children(&self, id: RegionId) -> Result<Cow<'_, [RegionId]>, MemoryError> {
        Self::children(self, id).map(Cow::Owned)
    }

    fn name(&self, id: RegionId) -> Arc<str> {
        self.region(id).map_or_else(|_| "?".into(), |info| info.name)
    }
}

/// All regions of a memory at one moment, to ask about many addresses.
///
/// Siblings are put in order here, from what each region says of itself, so that an answer does not depend on the
/// indexes that the renderer searches.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// By index of the region's id.
    regions: Vec<Option<Seen>>,
}

/// One region of a snapshot.
#[derive(Debug, Clone)]
struct Seen {
    id: RegionId,
    name: Arc<str>,
    place: Place,
    /// The winners first.
    children: Vec<RegionId>,
}

impl Snapshot {
    /// All regions of `memory` as they are now (inside an [`update`](Memory::update): as it left them so far).
    #[must_use]
    pub fn of(memory: &Memory) -> Self {
        let mut infos = memory.all_regions();
        // Winners first; each container then gets its children in that order.
        infos.sort_by_key(|info| Reverse((info.priority, info.sequence)));
        let most = infos.iter().map(|info| info.id.index as usize + 1).max().unwrap_or(0);
        let mut regions: Vec<Option<Seen>> = Vec::new();
        regions.resize_with(most, || None);
        for info in &infos {
            if let Some(slot) = regions.get_mut(info.id.index as usize) {
                let (name, place) = (Arc::clone(&info.name), Place::from(info));
                *slot = Some(Seen { id: info.id, name, place, children: Vec::new() });
            }
        }
        for info in &infos {
            if let Some(Some(container)) = info.container.and_then(|c| regions.get_mut(c.index as usize)) {
                container.children.push(info.id);
            }
        }
        Self { regions }
    }

    fn seen(&self, id: RegionId) -> Result<&Seen, MemoryError> {
        let seen = self.regions.get(id.index as usize).and_then(Option::as_ref).filter(|s| s.id == id);
        seen.ok_or(MemoryError::StaleRegion { id })
    }

    /// Who answers at `addr` of a space with root `root`; `None` if nobody does. See [`who_answers`].
    ///
    /// # Errors
    /// As [`who_answers`].
    pub fn who_answers(&self, root: RegionId, addr: u64) -> Result<Option<Answer>, MemoryError> {
        Search { map: self, root, addr, steps: STEPS }.run()
    }
}

impl Map for Snapshot {
    fn place(&self, id: RegionId) -> Result<Place, MemoryError> {
        self.seen(id).map(|s| s.place)
    }

    fn children(&self, id: RegionId) -> Result<Cow<'_, [RegionId]>, MemoryError> {
        self.seen(id).map(|s| Cow::Borrowed(&*s.children))
    }

    fn name(&self, id: RegionId) -> Arc<str> {
        self.seen(id).map_or_else(|_| "?".into(), |s| Arc::clone(&s.name))
    }
}

struct Search<'a, M> {
    map: &'a M,
    root: RegionId,
    addr: u64,
    /// What may still be spent.
    steps: u64,
}

/// Who answers at `addr` of a space with root `root`; `None` if nobody does.
///
/// As in QEMU, a root that also stands in a container is seen at its own address there. For many addresses of one
/// map take a [`Snapshot`]; this looks at the regions one by one, so a map that another thread changes meanwhile may
/// be seen half changed.
///
/// # Errors
/// [`MemoryError`] if the root is stale, or the search nests deeper than 1,024 levels or looks at regions more than
/// 2^24 times.
pub fn who_answers(memory: &Memory, root: RegionId, addr: u64) -> Result<Option<Answer>, MemoryError> {
    Search { map: memory, root, addr, steps: STEPS }.run()
}

/// A region that may answer, while what is mapped in it is asked first.
struct Asked<'a> {
    region: RegionId,
    terminates: bool,
    offset: i128,
    children: Cow<'a, [RegionId]>,
    /// How many of the children were asked.
    asked: usize,
    depth: u32,
    readonly: bool,
    nonvolatile: bool,
}

impl<'a, M: Map> Search<'a, M> {
    // Not recursive: the depth of a map must not be that of the caller's stack.
    fn run(mut self) -> Result<Option<Answer>, MemoryError> {
        let stands_at = self.map.place(self.root)?.addr;
        let offset = i128::from(self.addr) - i128::from(stands_at);
        let mut path: Vec<Asked<'a>> = self.asked(self.root, offset, 0, false, false)?.into_iter().collect();
        while let Some(outer) = path.last_mut() {
            // Winners first: a region that has nothing to say at this address lets the next one speak.
            if let Some(child) = outer.children.get(outer.asked).copied() {
                outer.asked += 1;
                let (offset, depth) = (outer.offset, outer.depth + 1);
                let (readonly, nonvolatile) = (outer.readonly, outer.nonvolatile);
                let offset = offset - i128::from(self.map.place(child)?.addr);
                path.extend(self.asked(child, offset, depth, readonly, nonvolatile)?);
            } else if outer.terminates {
                return Ok(Some(Answer {
                    region: outer.region,
                    offset: u64::try_from(outer.offset).unwrap_or(0),
                    readonly: outer.readonly,
                    nonvolatile: outer.nonvolatile,
                }));
            } else {
                path.pop();
            }
        }
        Ok(None)
    }

    /// What is to be asked at `offset` of a region: the region, what it is an alias of, or nobody.
    fn asked(
        &mut self,
        mut id: RegionId,
        mut offset: i128,
        mut depth: u32,
        mut readonly: bool,
        mut nonvolatile: bool,
    ) -> Result<Option<Asked<'a>>, MemoryError> {
        let map = self.map;
        loop {
            let left = self.steps.checked_sub(1);
            self.steps =
                left.ok_or_else(|| MemoryError::TooMuchWork { root: map.name(self.root), limit: STEPS })?;
            let region = map.place(id)?;
            let size = i128::try_from(region.size).unwrap_or(i128::MAX);
            if !region.enabled || offset < 0 || offset >= size {
                return Ok(None);
            }
            if depth >= DEPTH {
                let (root, name, address) = (map.name(self.root), map.name(id), self.addr);
                return Err(MemoryError::TooDeep { root, name, address, limit: DEPTH });
            }
            readonly |= region.readonly;
            nonvolatile |= region.nonvolatile;
            let Some((target, from)) = region.alias else {
                let (children, terminates) = (map.children(id)?, region.terminates);
                let asked = 0;
                return Ok(Some(Asked {
                    region: id,
                    terminates,
                    offset,
                    children,
                    asked,
                    depth,
                    readonly,
                    nonvolatile,
                }));
            };
            id = target;
            offset += i128::from(from);
            depth += 1;
        }
    }
}
