//! Adding and removing listeners.

use std::panic::{Location, resume_unwind};
use std::sync::Arc;

use super::{Memory, SpaceInner, State};
use crate::listen::{
    Cause, Delta, Entry, Failure, ListenerId, ListenerInfo, Plan, Registry, SpaceChange, log_clear, log_sync,
    prepare,
};
use crate::view::FlatView;
use crate::{MemoryError, MemoryListener, RamBlock, SpaceId};

/// A space and what it shows.
type Seen = (SpaceId, Arc<str>, Arc<FlatView>);

impl Memory {
    /// Has somebody told of every change from now on, and at once of all that is there: `prepare`, `begin`, then for
    /// each space it wants to hear of and each range in ascending order `region_add` and, if writes are logged there,
    /// `log_start`; then `commit` (QEMU: `memory_listener_register`).
    ///
    /// # Errors
    /// [`MemoryError::ListenerRefused`] or [`MemoryError::ListenerFailed`] if it cannot follow what is there: then it
    /// was told the opposite of what it was told already, and is not added. [`MemoryError::StaleSpace`] or
    /// [`MemoryError::ForeignSpace`] if the one space it wants to hear of is not there. [`MemoryError::InsideListener`] and
    /// [`MemoryError::ListenerInsideUpdate`]: wait until the change is over, or see [`defer`](Self::defer).
    #[track_caller]
    pub fn add_listener(&self, listener: Arc<dyn MemoryListener>) -> Result<ListenerId, MemoryError> {
        let cause = Cause::new(Location::caller(), None);
        let turn = self.turn_outside_update()?;
        // The listener's own code; what it is asked may also ask about the map.
        let entry = {
            let _listening = turn.listen();
            Arc::new(Registry::describe(self.0.tag, turn.next_listener(), listener))
        };
        if let Some(space) = entry.space {
            self.read_state(|s| s.space(space).map(|_| ()))?;
        }
        let views = self.seen_by(&entry);
        let logging = self.read_state(State::is_global_log);
        let empty = Arc::new(FlatView::empty(None));
        let changes = views.iter().map(|(space, name, view)| SpaceChange {
            space: *space,
            name: Arc::clone(name),
            old: Arc::clone(&empty),
            new: Arc::clone(view),
            windows: None,
        });
        let delta = Delta::new(cause, true, logging.then_some(true), changes.collect());
        let only = [Arc::clone(&entry)];
        let told = {
            let _listening = turn.listen();
            prepare(&delta, &only).and_then(|()| {
                Plan::replay(views_of(&views), logging).tell(&only).map_err(|half| half.take_back(&only))
            })
        };
        if told.is_ok() {
            self.0.listeners.insert(&entry);
        }
        // The views are published: dropping these frees nothing.
        drop((delta, views));
        self.end_turn(turn, ());
        settled(told).map(|()| entry.id)
    }

    /// Tells a listener nothing any more, after telling it that everything is gone: `begin`, then for each space and
    /// each range in ascending order `log_stop`, if writes are logged there, and `region_del`; then `commit` (QEMU:
    /// `memory_listener_unregister`). One that is marked as failed is not told.
    ///
    /// # Errors
    /// [`MemoryError::StaleListener`], [`MemoryError::InsideListener`], [`MemoryError::ListenerInsideUpdate`]: it is
    /// not removed. [`MemoryError::ListenerFailed`]: it failed in one of the callbacks; it was told the rest, and is
    /// removed.
    pub fn remove_listener(&self, id: ListenerId) -> Result<(), MemoryError> {
        let turn = self.turn_outside_update()?;
        let entry = self.0.listeners.find(id)?;
        self.0.listeners.remove(id);
        let views = self.seen_by(&entry);
        let told = {
            let _listening = turn.listen();
            Plan::teardown(views_of(&views), self.read_state(State::is_global_log)).tell_regardless(&entry)
        };
        drop(views);
        self.end_turn(turn, entry);
        settled(told)
    }

    /// Who listens, in the order in which they are called, and who of them is called no more.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        self.0.listeners.all().iter().map(|e| e.info()).collect()
    }

    /// The views of the spaces that a listener is to hear of.
    fn seen_by(&self, entry: &Entry) -> Vec<Seen> {
        self.read_state(|s| {
            let heard = s.spaces.iter().map(|s| &s.inner).filter(|space| entry.hears(space.id));
            let seen =
                |space: &Arc<SpaceInner>| Some((space.id, Arc::clone(&space.name), s.view(space.id).ok()?));
            heard.filter_map(seen).collect()
        })
    }

    fn all_views(&self) -> Vec<(SpaceId, Arc<FlatView>)> {
        self.read_state(|s| {
            s.spaces.iter().filter_map(|p| Some((p.inner.id, s.view(p.inner.id).ok()?))).collect()
        })
    }

    /// Has listeners bring what they logged of a block into its dirty bitmap (QEMU: `memory_region_sync_dirty_bitmap`), or
    /// of all (`memory_global_dirty_log_sync`).
    pub(super) fn tell_log_sync(&self, block: Option<&Arc<RamBlock>>) -> Result<(), MemoryError> {
        self.tell_log(|entries, views| log_sync(entries, views, block))
    }

    /// Tells listeners that dirty bits of parts of a block, each an offset and a size in bytes, were cleared (QEMU:
    /// `memory_region_clear_dirty_bitmap`).
    pub(super) fn tell_log_clear(
        &self,
        block: &Arc<RamBlock>,
        parts: &[(u64, u128)],
    ) -> Result<(), MemoryError> {
        self.tell_log(|entries, views| log_clear(entries, views, block, parts))
    }

    fn tell_log(
        &self,
        f: impl FnOnce(&[Arc<Entry>], &[(SpaceId, Arc<FlatView>)]) -> Result<(), Failure>,
    ) -> Result<(), MemoryError> {
        if self.0.listeners.is_empty() {
            return Ok(());
        }
        let turn = self.0.turn.lock();
        let views = self.all_views();
        let told = {
            let _listening = turn.listen();
            f(&self.0.listeners.all(), &views)
        };
        drop(views);
        if turn.is_listening() {
            // Inside a listener: what was put off waits for the end of its commit.
            return settled(told);
        }
        self.end_turn(turn, ());
        settled(told)
    }

    fn turn_outside_update(&self) -> Result<super::turn::TurnGuard<'_>, MemoryError> {
        let turn = self.turn()?;
        if self.read_state(|s| s.depth > 0) { Err(MemoryError::ListenerInsideUpdate) } else { Ok(turn) }
    }
}

/// Only the ids and views.
fn views_of(views: &[(SpaceId, Arc<str>, Arc<FlatView>)]) -> impl Iterator<Item = (SpaceId, &Arc<FlatView>)> {
    views.iter().map(|(id, _, view)| (*id, view))
}

fn settled(told: Result<(), Failure>) -> Result<(), MemoryError> {
    told.map_err(|failure| match failure.panic {
        Some(panic) => resume_unwind(panic),
        None => failure.error,
    })
}
