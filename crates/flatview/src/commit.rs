//! From the places a transaction touched to new views.
//!
//! What it is: the walk from touched places up to the views that show them, the re-rendering of just those windows,
//! and the splicing of the result into the old views. What it is not: locking or publishing.
//!
//! What must hold: the new view is the one that rendering the whole tree would give (tests compare them after every
//! change); what a window does not cover is shared with the old view.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::render::{Budget, render};
use crate::span::{Span, SpanSet};
use crate::topology::{Changes, Children, NONE, Record, Topology};
use crate::view::{FlatRange, FlatView, Piece};
use crate::{MemoryError, RegionId};

/// Where a walk from a space's root to its effective root goes next (QEMU: `memory_region_get_flatview_root`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The view is rendered from here.
    Here,
    /// Nothing is enabled: the empty view.
    Nothing,
    /// To this region, which gives the same view.
    To(RegionId),
}

/// One step of the walk to the effective root.
///
/// An alias of a whole region from its start, and a container with one child that begins where it begins and fits,
/// show what their target shows: views are shared by going there. Not where the two views would differ, though (QEMU
/// goes there all the same: a deviation of ours): a region that adds read-only or non-volatile to what is seen
/// through it stays, and so does one that stands at another address than its target, because a view is rendered
/// at its root's own address.
pub(crate) fn next_root(topology: &Topology, index: u32) -> Next {
    let Some(record) = topology.get(index) else {
        return Next::Nothing;
    };
    let attrs = &record.attrs;
    if !attrs.enabled() {
        return Next::Nothing;
    }
    if record.body.kind.terminates() || attrs.readonly() || attrs.nonvolatile() {
        return Next::Here;
    }
    let fits = |other: u32| {
        topology.get(other).is_some_and(|o| attrs.size() >= o.attrs.size() && attrs.addr == o.attrs.addr)
    };
    if attrs.target != NONE {
        let whole = attrs.alias_offset == 0 && fits(attrs.target);
        return topology.id_of(attrs.target).filter(|_| whole).map_or(Next::Here, Next::To);
    }
    match record.children().map_or(0, Children::enabled) {
        0 => Next::Nothing,
        1 => {
            let only = record.children().and_then(Children::only_enabled);
            let at_start = |i: &u32| topology.get(*i).is_some_and(|r| r.attrs.addr == 0);
            let next = only.filter(|i| at_start(i) && fits(*i)).and_then(|i| topology.id_of(i));
            next.map_or(Next::Here, Next::To)
        }
        _ => Next::Here,
    }
}

/// What is known to have changed of a region.
#[derive(Default)]
struct Touched {
    region: u32,
    /// In its own offsets.
    spans: SpanSet,
    visits: u32,
    /// Its view moves as a whole.
    moved: bool,
}

/// What is known to have changed, by region. Most changes touch two or three.
#[derive(Default)]
struct Seen {
    list: SmallVec<[Touched; 4]>,
    /// Where in the list a region is, once there are many.
    places: BTreeMap<u32, usize>,
}

impl Seen {
    /// Up to so many the list is gone through.
    const FEW: usize = 8;

    fn of(&mut self, region: u32) -> Option<&mut Touched> {
        let len = self.list.len();
        let place = if len <= Self::FEW {
            self.list.iter().position(|t| t.region == region)
        } else {
            self.places.get(&region).copied()
        };
        if place.is_none() {
            self.list.push(Touched { region, ..Touched::default() });
            match len {
                ..Self::FEW => {}
                Self::FEW => self.places = self.list.iter().map(|t| t.region).zip(0..).collect(),
                _ => drop(self.places.insert(region, len)),
            }
        }
        self.list.get_mut(place.unwrap_or(len))
    }
}

/// The windows of addresses in which each effective root's view may have changed.
pub(crate) fn touched_windows(topology: &Topology, changes: Changes<'_>) -> SmallVec<[(u32, SpanSet); 2]> {
    /// After so many visits a region counts as touched all over, so that the walk ends on hostile trees too.
    const PATIENCE: u32 = 64;
    let mut seen = Seen::default();
    let mut work: SmallVec<[(u32, Span); 8]> = SmallVec::new();
    for place in changes.touched {
        work.push(*place);
        while let Some((index, mut span)) = work.pop() {
            let Some(record) = topology.get(index).filter(|r| r.is_live()) else {
                continue;
            };
            let Some(known) = seen.of(index) else {
                continue;
            };
            known.visits += 1;
            if known.visits > PATIENCE {
                span = Span::ALL;
            }
            if known.spans.covers(span) {
                continue;
            }
            known.spans.insert(span);
            let attrs = &record.attrs;
            let mut up = |to: u32, by: i128| {
                if let Some(outer) = topology.get(to).filter(|o| o.attrs.enabled() && o.is_live())
                    && let Some(span) = span.moved_into(by, outer.attrs.size())
                {
                    work.push((to, span));
                }
            };
            if attrs.container != NONE {
                up(attrs.container, i128::from(attrs.addr));
            }
            for alias in record.live_aliases() {
                if let Some(alias_attrs) = topology.get(*alias).map(|a| &a.attrs) {
                    up(*alias, -i128::from(alias_attrs.alias_offset));
                }
            }
        }
    }
    for index in changes.moved {
        if let Some(root) = seen.of(*index) {
            root.moved = true;
        }
    }
    let window = |touched: &Touched| {
        let root = topology.get(touched.region).filter(|r| r.is_root())?;
        let mut windows = SpanSet::default();
        if touched.moved {
            windows.insert(Span::ALL);
        }
        for span in touched.spans.iter() {
            // A root is rendered at its own address.
            if let Some(window) = span.moved_into(i128::from(root.attrs.addr), crate::WHOLE) {
                windows.insert(window);
            }
        }
        Some((touched.region, windows))
    };
    seen.list.iter().filter_map(window).collect()
}

/// The view of `root` with `windows` rendered anew; `None` if it is the same as before.
pub(crate) fn updated_view(
    topology: &Topology,
    root: u32,
    old: &Arc<FlatView>,
    windows: &SpanSet,
    budget: &mut Budget,
) -> Result<Option<FlatView>, MemoryError> {
    let mut new: Option<FlatView> = None;
    for window in windows.iter() {
        let pieces = render(topology, root, window, budget)?;
        let fresh = pieces.iter().filter_map(|piece| {
            let record = topology.get(piece.region)?;
            Some(range_of(topology, piece, record))
        });
        let base = new.as_ref().unwrap_or(old);
        if let Some(view) = spliced(base, window, fresh) {
            new = Some(view);
        }
    }
    if let Some(view) = &new
        && view.len() > budget.limits().ranges
    {
        return Err(MemoryError::TooManyRanges {
            root: topology.name_of(root),
            limit: budget.limits().ranges,
        });
    }
    Ok(new)
}

/// `view` with what it shows in `window` replaced; `None` if nothing differs.
fn spliced(view: &FlatView, window: Span, fresh: impl Iterator<Item = FlatRange>) -> Option<FlatView> {
    // The neighbours on both sides may continue, or be continued by, what is new.
    let from = window.start.saturating_sub(1);
    let to = window.last.saturating_add(1);
    let old: SmallVec<[&FlatRange; 8]> = view.ranges_from(from).take_while(|r| r.start() <= to).collect();
    let before = window.start.checked_sub(1).map(|last| Span { start: 0, last });
    let after = window.last.checked_add(1).map(|start| Span { start, last: u64::MAX });
    let outside = |span: Option<Span>| old.iter().filter_map(move |r| r.cut(span?));
    let mut new: SmallVec<[FlatRange; 4]> = SmallVec::new();
    for range in outside(before).chain(fresh).chain(outside(after)) {
        match new.last_mut() {
            Some(last) if last.continued_by(&range) => *last = last.joined(&range),
            _ => new.push(range),
        }
    }
    if old.len() == new.len() && old.iter().zip(&new).all(|(a, b)| a.same(b)) {
        return None;
    }
    // What begins where the old and the new ranges begin, and nothing else, is replaced.
    let start = old.first().map_or(window.start, |r| r.start().min(window.start));
    let ends = [old.last().copied(), new.last()];
    let last = ends.into_iter().flatten().map(FlatRange::start).fold(window.last, u64::max);
    Some(view.replaced(Span { start, last }, &new))
}

/// What a view has of a piece.
fn range_of(topology: &Topology, piece: &Piece, record: &Record) -> FlatRange {
    FlatRange::new(piece, &record.body, &record.attrs, topology.log_mask(record), topology.is_traced())
}

/// Rendering from nothing, to compare with.
pub(crate) fn rendered_whole(
    topology: &Topology,
    root: u32,
    budget: &mut Budget,
) -> Result<Vec<FlatRange>, MemoryError> {
    let pieces = render(topology, root, Span::ALL, budget)?;
    let range = |p: &Piece| topology.get(p.region).map(|r| range_of(topology, p, r));
    Ok(pieces.iter().filter_map(range).collect())
}
