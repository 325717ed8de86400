//! The writer's state: the tree, the spaces, and the views that are published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clients::Clients;
use super::{Limits, SpaceInner};
use crate::commit::{Next, next_root, touched_windows, updated_view};
use crate::listen::{Cause, Delta, Entry, SpaceChange};
use crate::publish::{Domain, Reclaimed, Slot};
use crate::ram::RamBlock;
use crate::render::Budget;
use crate::span::{Span, SpanSet};
use crate::topology::{Body, Changes, Record, Savepoint as TreeSavepoint, Topology};
use crate::view::FlatView;
use crate::{MemoryError, RegionId, SpaceId};

/// A space, and the way from its root to the region its view is rendered from.
pub(super) struct SpaceState {
    pub inner: Arc<SpaceInner>,
    pub root: RegionId,
    path: Vec<RegionId>,
    effective: Option<RegionId>,
}

/// A view that is published, for all spaces with this effective root.
struct ViewState {
    slot: Arc<Slot<FlatView>>,
    view: Arc<FlatView>,
    spaces: usize,
}

/// A region on the way from spaces' roots to their effective roots.
struct Waypoint {
    next: Next,
    spaces: BTreeSet<SpaceId>,
}

pub(super) struct State {
    pub topology: Topology,
    pub spaces: Vec<SpaceState>,
    /// By effective root. `None` is the empty view, which is always there.
    views: BTreeMap<Option<RegionId>, ViewState>,
    waypoints: BTreeMap<RegionId, Waypoint>,
    pub limits: Limits,
    pub clients: Clients,
    /// Open `update` closures.
    pub depth: usize,
    /// Blocks of which the open transaction made a region (`true`) or removed one, in order.
    pub block_changes: Vec<(Arc<RamBlock>, bool)>,
    /// Whether all RAM was logged at the last commit, which is what listeners were told.
    global_log_told: bool,
    /// What the open transaction says it is for.
    pub reason: Option<Arc<str>>,
    next_space: u64,
}

/// How far the logs went when a transaction began.
#[derive(Clone, Copy)]
pub(super) struct Savepoint {
    tree: TreeSavepoint,
    blocks: usize,
}

/// Everything a commit will publish, rendered and found good.
#[derive(Default)]
pub(super) struct Prepared {
    updated: Vec<Updated>,
    fresh: BTreeMap<RegionId, Arc<FlatView>>,
    moved: Vec<(SpaceId, Walk)>,
}

/// A view that replaces the one of an effective root.
struct Updated {
    root: RegionId,
    view: Arc<FlatView>,
    /// Where the two may differ.
    windows: SpanSet,
}

/// What must be published to take a commit back.
pub(super) struct WayBack {
    updated: Vec<Updated>,
    /// Spaces that moved, where they looked before, and what they saw. A new space looked nowhere.
    moved: Vec<(SpaceId, Option<RegionId>, Arc<FlatView>, bool)>,
}

/// The way from a root to an effective root.
#[derive(Default)]
struct Walk {
    path: Vec<(RegionId, Next)>,
    effective: Option<RegionId>,
}

/// What a commit or rollback lets go of. Dropped when no lock is held: with it devices' own `Drop`s may run.
#[expect(dead_code, reason = "held only to be dropped later")]
pub(super) struct Garbage<'d> {
    /// Dropped first, so that what a view showed goes with the view, for which `synchronize` waits.
    pub bodies: Vec<Arc<Body>>,
    pub views: Option<Reclaimed<'d, FlatView>>,
}

impl Prepared {
    /// Whether no view changes.
    pub fn is_empty(&self) -> bool {
        self.updated.is_empty() && self.moved.is_empty()
    }
}

impl State {
    pub fn new(tag: u32, limits: Limits) -> Self {
        let view = Arc::new(FlatView::empty(None));
        let empty = ViewState { slot: Arc::new(Slot::new(Arc::clone(&view))), view, spaces: 0 };
        Self {
            topology: Topology::new(tag),
            spaces: Vec::new(),
            views: BTreeMap::from([(None, empty)]),
            waypoints: BTreeMap::new(),
            limits,
            clients: Clients::new(tag),
            depth: 0,
            block_changes: Vec::new(),
            global_log_told: false,
            reason: None,
            next_space: 0,
        }
    }

    pub fn space(&self, id: SpaceId) -> Result<&SpaceState, MemoryError> {
        if id.memory != self.topology.tag() {
            return Err(MemoryError::ForeignSpace);
        }
        self.spaces.iter().find(|s| s.inner.id == id).ok_or(MemoryError::StaleSpace)
    }

    /// The view a space shows now.
    pub fn view(&self, space: SpaceId) -> Result<Arc<FlatView>, MemoryError> {
        let effective = self.space(space)?.effective;
        Ok(self
            .views
            .get(&effective)
            .map_or_else(|| Arc::new(FlatView::empty(None)), |v| Arc::clone(&v.view)))
    }

    fn walk(&self, root: RegionId) -> Result<Walk, MemoryError> {
        let mut walk = Walk::default();
        let mut at = root;
        // A container whose only child is an alias of the container goes round for ever.
        while walk.path.len() < self.limits.depth as usize {
            let next = next_root(&self.topology, at.index);
            walk.path.push((at, next));
            match next {
                Next::Here => {
                    walk.effective = Some(at);
                    return Ok(walk);
                }
                Next::Nothing => return Ok(walk),
                Next::To(id) => at = id,
            }
        }
        let (root, name) = (self.topology.name_of(root.index), self.topology.name_of(at.index));
        Err(MemoryError::TooDeep { root, name, address: 0, limit: self.limits.depth })
    }

    /// The region that the view of a space with this root is rendered from; `None`: nothing is enabled there.
    pub fn effective_root(&self, root: RegionId) -> Result<Option<RegionId>, MemoryError> {
        self.walk(root).map(|walk| walk.effective)
    }

    /// Renders everything that the changes since the last commit made visible. Changes nothing (M1).
    pub fn prepare(&self) -> Result<Prepared, MemoryError> {
        let mut prepared = Prepared::default();
        let changes = self.topology.changes();
        let mut budget = Budget::new(self.limits);

        let moved = self.diverted(changes.rechecks);

        let extent = |index: &u32| Some((*index, Span::sized(0, self.topology.get(*index)?.attrs.size())?));
        let windows = match changes.relisted {
            [] => touched_windows(&self.topology, changes),
            relisted => {
                let relisted = relisted.iter().filter_map(extent);
                let all: Vec<_> = changes.touched.iter().copied().chain(relisted).collect();
                touched_windows(&self.topology, Changes { touched: &all, ..changes })
            }
        };
        for id in moved {
            let walk = self.walk(self.space(id)?.root)?;
            prepared.moved.push((id, walk));
        }
        let deserted = self.deserted(&prepared.moved);
        for (index, windows) in windows {
            if let Some(id) = self.topology.id_of(index)
                && !deserted.contains(&id)
                && let Some(old) = self.views.get(&Some(id))
                && let Some(view) = updated_view(&self.topology, index, &old.view, &windows, &mut budget)?
            {
                prepared.updated.push(Updated { root: id, view: Arc::new(view), windows });
            }
        }
        let entered: Vec<_> = prepared.moved.iter().map(|(_, walk)| walk.effective).collect();
        for effective in entered {
            self.render_fresh(effective, &mut prepared, &mut budget)?;
        }
        Ok(prepared)
    }

    /// The spaces whose way to an effective root goes elsewhere since these regions changed.
    fn diverted(&self, rechecks: &[(u32, bool)]) -> BTreeSet<SpaceId> {
        let mut moved = BTreeSet::new();
        let mut look = |index: u32| {
            if let Some(waypoint) = self.topology.id_of(index).and_then(|id| self.waypoints.get(&id))
                && waypoint.next != next_root(&self.topology, index)
            {
                moved.extend(&waypoint.spaces);
            }
        };
        let mut check = |(index, with_aliases): (u32, bool)| {
            look(index);
            let aliases = self.topology.get(index).filter(|_| with_aliases).map(Record::aliases);
            aliases.into_iter().flatten().for_each(|alias| look(*alias));
        };
        if rechecks.len() <= 8 {
            rechecks.iter().copied().for_each(check);
        } else {
            // Each once: a region that changes over and over may have as many aliases.
            let mut rechecks = rechecks.to_vec();
            rechecks.sort_unstable();
            rechecks.dedup();
            rechecks.into_iter().for_each(&mut check);
        }
        moved
    }

    /// The effective roots that nobody looks at any more once these spaces have moved: whether their views can
    /// still be rendered does not matter.
    fn deserted(&self, moved: &[(SpaceId, Walk)]) -> BTreeSet<RegionId> {
        let mut looking: BTreeMap<RegionId, usize> = BTreeMap::new();
        for (id, _) in moved {
            if let Some(left) = self.space(*id).ok().and_then(|s| s.effective) {
                *looking.entry(left).or_default() += 1;
            }
        }
        looking.retain(|id, leave| {
            let enters = moved.iter().any(|(_, walk)| walk.effective == Some(*id));
            !enters && self.views.get(&Some(*id)).is_some_and(|v| v.spaces <= *leave)
        });
        looking.into_keys().collect()
    }

    /// Renders the view of an effective root that has none yet.
    fn render_fresh(
        &self,
        effective: Option<RegionId>,
        prepared: &mut Prepared,
        budget: &mut Budget,
    ) -> Result<(), MemoryError> {
        let Some(id) =
            effective.filter(|id| !self.views.contains_key(&Some(*id)) && !prepared.fresh.contains_key(id))
        else {
            return Ok(());
        };
        let empty = Arc::new(FlatView::empty(Some(id)));
        let mut all = SpanSet::default();
        all.insert(Span::ALL);
        let view = updated_view(&self.topology, id.index, &empty, &all, budget)?;
        prepared.fresh.insert(id, view.map_or(empty, Arc::new));
        Ok(())
    }

    /// Publishes what was prepared. Cannot fail. The tree's log stays, so that it can still be taken back.
    pub fn show(&mut self, prepared: Prepared, domain: &Domain<FlatView>) {
        let moving: BTreeSet<SpaceId> = prepared.moved.iter().map(|(id, _)| *id).collect();
        let moves = |s: &SpaceState| moving.contains(&s.inner.id);
        let mut left: BTreeSet<RegionId> = BTreeSet::new();
        if !moving.is_empty() {
            left.extend(self.spaces.iter().filter(|s| moves(s)).filter_map(|s| s.effective));
        }
        let mut abandoned = Vec::new();
        for Updated { root: id, view, windows } in prepared.updated {
            let Some(state) = self.views.get_mut(&Some(id)) else { continue };
            state.view = Arc::clone(&view);
            if left.contains(&id) {
                // A space that leaves this view for another must not see it change first: that would be a map
                // which never was. So the new view gets a slot of its own, to which those who stay go over.
                let old = std::mem::replace(&mut state.slot, Arc::new(Slot::new(view)));
                for space in self.spaces.iter().filter(|s| s.effective == Some(id) && !moves(s)) {
                    space.inner.slot.store(Arc::clone(&state.slot));
                }
                domain.bump(&old);
                abandoned.push(old);
            } else {
                domain.publish(&state.slot, view, windows.iter());
            }
        }
        for (id, view) in prepared.fresh {
            let slot = Arc::new(Slot::new(Arc::clone(&view)));
            self.views.insert(Some(id), ViewState { slot, view, spaces: 0 });
            self.topology.set_root(id.index, true);
        }
        // All enter before any leaves: a view that one space leaves and another enters must stay.
        let mut left = Vec::with_capacity(prepared.moved.len());
        for (space, walk) in prepared.moved {
            left.extend(self.look_elsewhere(space, walk, domain));
        }
        for view in left {
            self.leave_view(view, domain);
        }
        for slot in abandoned {
            self.empty(&slot, domain);
        }
        if self.topology.take_log_raised() {
            // Who stores under an old view, and was not fenced yet, will see that it is old, and mark. That fencing works was
            // seen when the log was asked for; should the host forbid it since, the next who takes dirty bits gets the error.
            let _ = crate::ram::heavy();
        }
    }

    /// A change is over: it cannot be taken back any more.
    pub fn finish<'d>(&mut self, domain: &'d Domain<FlatView>) -> Garbage<'d> {
        self.global_log_told = self.is_global_log();
        self.topology.take_log_lowered();
        Garbage { bodies: self.topology.accept(), views: Some(domain.reclaim()) }
    }

    pub fn savepoint(&self) -> Savepoint {
        Savepoint { tree: self.topology.savepoint(), blocks: self.block_changes.len() }
    }

    /// Undoes everything since `to`; what was added meanwhile is handed back, to be dropped without locks.
    pub fn rollback(&mut self, to: Savepoint) -> Vec<Arc<Body>> {
        // What is dropped here is kept by the regions that are handed back, or by those that are there again.
        self.block_changes.truncate(to.blocks);
        self.topology.rollback(to.tree)
    }

    /// Whether all RAM is logged.
    pub fn is_global_log(&self) -> bool {
        !self.topology.global_log().is_empty()
    }

    /// Whether nothing was done since the last commit that anybody could be told of.
    pub fn is_unchanged(&self) -> bool {
        self.topology.changes().is_empty() && self.is_global_log() == self.global_log_told
    }

    /// What a commit changes in the spaces that somebody listens to; and, for those who want to hear of what stays, the
    /// other spaces.
    pub fn delta(&self, cause: Cause, prepared: &Prepared, listeners: &[Arc<Entry>]) -> Delta {
        let nowhere = SpanSet::new();
        let updated: BTreeMap<_, _> = prepared.updated.iter().map(|u| (u.root, u)).collect();
        let moved: BTreeMap<_, _> = prepared.moved.iter().map(|(id, walk)| (*id, walk)).collect();
        let heard = |nop: bool| {
            let wanted = || listeners.iter().filter(move |e| e.works() && (e.wants_nop || !nop));
            let all = wanted().any(|e| e.space.is_none());
            let some: BTreeSet<SpaceId> = wanted().filter_map(|e| e.space).collect();
            move |id: &SpaceId| all || some.contains(id)
        };
        let (hears, hears_nop) = (heard(false), heard(true));
        let mut changes = Vec::new();
        for space in self.spaces.iter().filter(|s| hears(&s.inner.id)) {
            let Some(old) = self.views.get(&space.effective).map(|v| &v.view) else { continue };
            let updated_here = space.effective.and_then(|e| updated.get(&e));
            let (new, windows) = match (moved.get(&space.inner.id), updated_here) {
                (Some(walk), _) => {
                    let anew = walk
                        .effective
                        .and_then(|e| updated.get(&e).map(|u| &u.view).or_else(|| prepared.fresh.get(&e)));
                    let known = || self.views.get(&walk.effective).map(|v| &v.view);
                    (anew.or_else(known).unwrap_or(old), None)
                }
                (None, Some(updated)) => (&updated.view, Some(&updated.windows)),
                (None, None) if hears_nop(&space.inner.id) => (old, Some(&nowhere)),
                (None, None) => continue,
            };
            changes.push(SpaceChange {
                space: space.inner.id,
                name: Arc::clone(&space.inner.name),
                old: Arc::clone(old),
                new: Arc::clone(new),
                windows,
            });
        }
        let made = self.topology.changes();
        let root_moved = !made.moved.is_empty() && !prepared.updated.is_empty();
        let touched = !prepared.moved.is_empty() || !made.is_same_tree() || root_moved;
        let global_log = (self.is_global_log() != self.global_log_told).then_some(self.is_global_log());
        Delta::new(cause, touched, global_log, changes)
    }

    /// What publishing this will replace.
    pub fn way_back(&self, prepared: &Prepared) -> WayBack {
        let updated = prepared.updated.iter().filter_map(|u| {
            let view = Arc::clone(&self.views.get(&Some(u.root))?.view);
            Some(Updated { root: u.root, view, windows: u.windows.clone() })
        });
        let moved = prepared.moved.iter().filter_map(|(id, _)| {
            let space = self.space(*id).ok()?;
            let view = Arc::clone(&self.views.get(&space.effective)?.view);
            Some((*id, space.effective, view, space.path.is_empty()))
        });
        WayBack { updated: updated.collect(), moved: moved.collect() }
    }

    /// Publishes what a commit had replaced, after the tree was rolled back.
    pub fn show_again(&mut self, back: WayBack, domain: &Domain<FlatView>) {
        let mut prepared = Prepared::default();
        for (id, effective, view, is_new) in back.moved {
            // The tree is the one of which this walk succeeded before.
            let walk = self
                .space(id)
                .and_then(|space| if is_new { Ok(Walk::default()) } else { self.walk(space.root) });
            let Ok(walk) = walk else { continue };
            if let Some(root) = effective.filter(|_| !self.views.contains_key(&effective)) {
                prepared.fresh.insert(root, view);
            }
            prepared.moved.push((id, walk));
        }
        prepared.updated = back.updated;
        prepared.updated.retain(|u| self.views.contains_key(&Some(u.root)));
        self.show(prepared, domain);
    }

    /// Lets a space look at the view of another effective root, and gives the one it has left.
    fn look_elsewhere(
        &mut self,
        id: SpaceId,
        walk: Walk,
        domain: &Domain<FlatView>,
    ) -> Option<Option<RegionId>> {
        let space = self.spaces.iter_mut().find(|s| s.inner.id == id)?;
        let left = std::mem::replace(&mut space.effective, walk.effective);
        let old_path = std::mem::take(&mut space.path);
        space.path = walk.path.iter().map(|(id, _)| *id).collect();
        let inner = Arc::clone(&space.inner);
        for region in old_path {
            self.leave_waypoint(region, id);
        }
        for (region, next) in walk.path {
            let waypoint =
                self.waypoints.entry(region).or_insert_with(|| Waypoint { next, spaces: BTreeSet::new() });
            waypoint.next = next;
            waypoint.spaces.insert(id);
        }
        if let Some(view) = self.views.get_mut(&walk.effective) {
            view.spaces += 1;
            let old_slot = inner.slot.swap(Arc::clone(&view.slot));
            domain.bump(&old_slot);
        }
        Some(left)
    }

    fn leave_waypoint(&mut self, region: RegionId, space: SpaceId) {
        if let Some(waypoint) = self.waypoints.get_mut(&region) {
            waypoint.spaces.remove(&space);
            if waypoint.spaces.is_empty() {
                self.waypoints.remove(&region);
            }
        }
    }

    fn leave_view(&mut self, left: Option<RegionId>, domain: &Domain<FlatView>) {
        let Some(view) = self.views.get_mut(&left) else {
            return;
        };
        view.spaces = view.spaces.saturating_sub(1);
        if view.spaces == 0
            && let Some(root) = left
            && let Some(gone) = self.views.remove(&left)
        {
            // The root may have been removed by the same change, and its index given to another region.
            if self.topology.id_of(root.index) == Some(root) {
                self.topology.set_root(root.index, false);
            }
            self.empty(&gone.slot, domain);
        }
    }

    /// Takes the view out of a slot that no space looks through any more. The slot may outlive this in lanes that
    /// have not looked again yet; the view must not be freed there.
    fn empty(&self, slot: &Slot<FlatView>, domain: &Domain<FlatView>) {
        if let Some(nothing) = self.views.get(&None) {
            domain.publish(slot, Arc::clone(&nothing.view), [Span::ALL].into_iter());
        }
    }

    /// Adds a space with `root`, which shows nothing until what was prepared is published; its view is rendered first,
    /// so an error adds nothing.
    pub fn add_space(
        &mut self,
        name: Arc<str>,
        root: RegionId,
    ) -> Result<(Arc<SpaceInner>, Prepared), MemoryError> {
        self.topology.record(root)?;
        let walk = self.walk(root)?;
        let mut prepared = Prepared::default();
        self.render_fresh(walk.effective, &mut prepared, &mut Budget::new(self.limits))?;
        let id = SpaceId { memory: self.topology.tag(), number: self.next_space };
        self.next_space += 1;
        let nothing = self.views.get_mut(&None).map(|v| {
            v.spaces += 1;
            Arc::clone(&v.slot)
        });
        let slot = nothing.unwrap_or_else(|| Arc::new(Slot::new(Arc::new(FlatView::empty(None)))));
        let inner = SpaceInner::shared(id, name, slot);
        self.spaces.push(SpaceState { inner: Arc::clone(&inner), root, path: Vec::new(), effective: None });
        self.topology.count_space(root.index, 1);
        prepared.moved.push((id, walk));
        Ok((inner, prepared))
    }

    /// What must be published so that a space shows nothing and can be [dropped](Self::drop_space).
    pub fn remove_space(&mut self, id: SpaceId) -> Result<Prepared, MemoryError> {
        let root = self.space(id)?.root;
        self.topology.count_space(root.index, -1);
        Ok(Prepared { moved: vec![(id, Walk::default())], ..Prepared::default() })
    }

    /// Forgets a space that shows nothing.
    pub fn drop_space(&mut self, id: SpaceId) {
        self.spaces.retain(|s| s.inner.id != id);
        if let Some(nothing) = self.views.get_mut(&None) {
            nothing.spaces = nothing.spaces.saturating_sub(1);
        }
    }

    /// Makes every reader look again at its next access.
    pub fn bump_all(&self, domain: &Domain<FlatView>) {
        for view in self.views.values() {
            domain.bump(&view.slot);
        }
    }
}
