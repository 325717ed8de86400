//! Who listens.
//!
//! What must hold: the list is in the order of calls (by priority, then by when they were added), and is replaced as a
//! whole, by whoever has the turn, so that it can be read without a lock.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::{ListenerError, ListenerPriority, MemoryListener};
use crate::{MemoryError, SpaceId};

/// A listener of a [`Memory`](crate::Memory). Keeps nothing alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId {
    memory: u32,
    number: u64,
}

/// A listener, as [`Memory::listeners`](crate::Memory::listeners) tells.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ListenerInfo {
    /// Its id.
    pub id: ListenerId,
    /// What it calls itself.
    pub name: Arc<str>,
    /// Its place among the others.
    pub priority: ListenerPriority,
    /// The one space it hears of; `None` for all.
    pub space: Option<SpaceId>,
    /// Why it is called no more: it could neither follow a change nor take back what it had done of it. What it holds
    /// may differ from the map; whoever runs the machine should stop it.
    pub failed: Option<ListenerError>,
}

/// A listener, and what it said of itself when it was added.
pub(crate) struct Entry {
    pub id: ListenerId,
    pub name: Arc<str>,
    pub priority: ListenerPriority,
    pub space: Option<SpaceId>,
    pub wants_nop: bool,
    pub syncs_globally: bool,
    pub listener: Arc<dyn MemoryListener>,
    failed: OnceLock<ListenerError>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.name, self.priority)
    }
}

impl Entry {
    /// Whether it is to hear of a space.
    pub fn hears(&self, space: SpaceId) -> bool {
        self.space.is_none_or(|only| only == space)
    }

    /// Whether it is in order and may be called.
    pub fn works(&self) -> bool {
        self.failed.get().is_none()
    }

    /// It is called no more.
    pub fn fail(&self, why: ListenerError) {
        let _ = self.failed.set(why);
    }

    pub fn info(&self) -> ListenerInfo {
        ListenerInfo {
            id: self.id,
            name: Arc::clone(&self.name),
            priority: self.priority,
            space: self.space,
            failed: self.failed.get().cloned(),
        }
    }
}

/// The listeners of a memory.
#[derive(Debug, Default)]
pub(crate) struct Registry(ArcSwap<Vec<Arc<Entry>>>);

impl Registry {
    /// All of them, in the order of calls.
    pub fn all(&self) -> Arc<Vec<Arc<Entry>>> {
        self.0.load_full()
    }

    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    pub fn find(&self, id: ListenerId) -> Result<Arc<Entry>, MemoryError> {
        self.0.load().iter().find(|e| e.id == id).cloned().ok_or(MemoryError::StaleListener)
    }

    /// Asks a listener about itself; the numbers it gets are not used again.
    pub fn describe(memory: u32, number: u64, listener: Arc<dyn MemoryListener>) -> Entry {
        Entry {
            id: ListenerId { memory, number },
            name: listener.name().into(),
            priority: listener.priority(),
            space: listener.space(),
            wants_nop: listener.wants_nop(),
            syncs_globally: listener.syncs_globally(),
            listener,
            failed: OnceLock::new(),
        }
    }

    /// Puts a listener behind all that have its priority. Only with the turn.
    pub fn insert(&self, entry: &Arc<Entry>) {
        let mut all = Vec::clone(&self.all());
        let at = all.partition_point(|e| e.priority <= entry.priority);
        all.insert(at, Arc::clone(entry));
        self.0.store(Arc::new(all));
    }

    /// Only with the turn.
    pub fn remove(&self, id: ListenerId) {
        let mut all = Vec::clone(&self.all());
        all.retain(|e| e.id != id);
        self.0.store(Arc::new(all));
    }
}
