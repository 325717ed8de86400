//! From the tree to what is visible in a window of addresses.
//!
//! What it is: the rule by which overlapping regions hide each other (QEMU: `render_memory_region`), for any window
//! of a view. What it is not: recursive, or unbounded: hostile trees end in a typed error.
//!
//! What must hold: the pieces given are those that a rendering of the whole view has in that window, cut to it and
//! with neighbours that continue each other joined. Nothing is changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::MemoryError;
use crate::memory::Limits;
use crate::span::Span;
use crate::topology::{Found, NONE, Topology};
use crate::view::Piece;

/// What may still be spent in one commit.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    steps: u64,
}

impl Budget {
    pub fn new(limits: Limits) -> Self {
        Self { limits, steps: limits.steps }
    }

    /// One step; `false` if there was none left.
    pub fn step(&mut self) -> bool {
        match self.steps.checked_sub(1) {
            Some(left) => {
                self.steps = left;
                true
            }
            None => false,
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// What was rendered: mostly little, as one change touches little.
pub(crate) type Pieces = SmallVec<[Piece; 4]>;

/// A region to be rendered: where its container begins in the view, and what of it can be seen.
#[derive(Clone, Copy)]
struct Visit {
    region: u32,
    /// Address in the view of offset 0 of what the region stands in; below 0 if an alias cuts its front off.
    base: i128,
    clip: Span,
    readonly: bool,
    nonvolatile: bool,
    depth: u32,
}

enum Step {
    Enter(Visit),
    /// The region itself, after everything mapped in it.
    Place(Visit),
}

/// Renders the part of the view of `root` that lies in `window`.
pub(crate) fn render(
    topology: &Topology,
    root: u32,
    window: Span,
    budget: &mut Budget,
) -> Result<Pieces, MemoryError> {
    let mut canvas = Canvas::default();
    let mut overlapping = Found::new();
    let start = Visit { region: root, base: 0, clip: window, readonly: false, nonvolatile: false, depth: 0 };
    let mut work: SmallVec<[Step; 8]> = SmallVec::new();
    work.push(Step::Enter(start));
    while let Some(step) = work.pop() {
        let visit = match step {
            Step::Enter(visit) => visit,
            Step::Place(visit) => {
                canvas.place(&visit);
                if canvas.pieces.len() > budget.limits.ranges {
                    return Err(MemoryError::TooManyRanges {
                        root: topology.name_of(root),
                        limit: budget.limits.ranges,
                    });
                }
                continue;
            }
        };
        if !budget.step() {
            return Err(MemoryError::TooMuchWork {
                root: topology.name_of(root),
                limit: budget.limits.steps,
            });
        }
        let Some(record) = topology.get(visit.region) else {
            continue;
        };
        let attrs = &record.attrs;
        if !attrs.enabled() || attrs.size() == 0 {
            continue;
        }
        let base = visit.base + i128::from(attrs.addr);
        // Sizes are at most 2^64, so this cannot overflow an i128.
        let own = Span::clipped(base, base + attrs.size() as i128 - 1);
        let Some(clip) = own.and_then(|own| own.intersection(visit.clip)) else {
            continue;
        };
        // What is hidden already is not gone through: aliases that show each other again and again end there.
        if canvas.hides(clip) {
            continue;
        }
        if visit.depth >= budget.limits.depth {
            return Err(MemoryError::TooDeep {
                root: topology.name_of(root),
                name: Arc::clone(&record.body.name),
                address: clip.start,
                limit: budget.limits.depth,
            });
        }
        let here = Visit {
            base,
            clip,
            readonly: visit.readonly | attrs.readonly(),
            nonvolatile: visit.nonvolatile | attrs.nonvolatile(),
            depth: visit.depth + 1,
            ..visit
        };
        if attrs.target != NONE {
            // The place where the target stands does not count; entering it adds its address, so take it off here.
            let stands_at = topology.get(attrs.target).map_or(0, |t| t.attrs.addr);
            let base = base - i128::from(stands_at) - i128::from(attrs.alias_offset);
            work.push(Step::Enter(Visit { region: attrs.target, base, ..here }));
            continue;
        }
        if record.body.kind.terminates() {
            work.push(Step::Place(here));
        }
        // Offsets of the region itself; the clip lies inside it.
        if let Some(window) = Span::clipped(i128::from(clip.start) - base, i128::from(clip.last) - base) {
            topology.overlapping_losers_first(record, window, &mut overlapping);
            let enter = |region| Step::Enter(Visit { region, ..here });
            // The stack gives the winners first.
            work.extend(overlapping.drain(..).map(enter));
        }
    }
    Ok(canvas.finish())
}

/// What was placed so far; whoever was placed first stays on top.
#[derive(Default)]
struct Canvas {
    /// In no order.
    pieces: Pieces,
    /// The addresses that are taken: first to last, those that touch joined. However many pieces there are, what lies
    /// under all of them meets one entry.
    taken: BTreeMap<u64, u64>,
    gaps: SmallVec<[Span; 4]>,
}

impl Canvas {
    /// Whether nothing placed in `span` now would show.
    fn hides(&self, span: Span) -> bool {
        self.taken.range(..=span.start).next_back().is_some_and(|(_, last)| *last >= span.last)
    }

    fn place(&mut self, visit: &Visit) {
        let clip = visit.clip;
        // With everything that touches it, which it joins.
        let mut joined = clip;
        let before = self.taken.range(..clip.start).next_back();
        if let Some((start, _)) = before.filter(|(_, last)| last.saturating_add(1) >= clip.start) {
            joined.start = *start;
        }
        let mut at = Some(clip.start);
        for (start, last) in self.taken.range(joined.start..=clip.last.saturating_add(1)) {
            if let Some(from) = at.filter(|from| from < start) {
                self.gaps.push(Span { start: from, last: start - 1 });
            }
            at = at.zip(last.checked_add(1)).map(|(at, next)| at.max(next));
            joined.last = joined.last.max(*last);
        }
        if let Some(from) = at.filter(|from| *from <= clip.last) {
            self.gaps.push(Span { start: from, last: clip.last });
        }
        if self.gaps.is_empty() {
            return;
        }
        for span in self.gaps.drain(..) {
            // The base is at most the start: the clip lies inside the region.
            let offset = u64::try_from(i128::from(span.start) - visit.base).unwrap_or(0);
            self.pieces.push(Piece {
                span,
                region: visit.region,
                offset,
                readonly: visit.readonly,
                nonvolatile: visit.nonvolatile,
            });
        }
        while let Some((start, _)) = self.taken.range(joined.start..=joined.last).next() {
            let start = *start;
            self.taken.remove(&start);
        }
        self.taken.insert(joined.start, joined.last);
    }

    fn finish(mut self) -> Pieces {
        self.pieces.sort_unstable_by_key(|piece| piece.span.start);
        self.pieces.dedup_by(|next, last| {
            let joins = last.continued_by(next);
            if joins {
                last.span.last = next.span.last;
            }
            joins
        });
        self.pieces
    }
}
