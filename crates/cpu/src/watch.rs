//! Watching what translated guest code does: accesses in ranges of physical memory.
//!
//! What it is: the list of who watches what. Pages that nobody watches cost nothing: the soft TLB never has a page that
//! somebody does, so only accesses there come by here. What it is not: a view of other initiators' accesses (DMA, the
//! monitor). What must always hold: a watcher is called with no lock of ours held, in program order, before the access
//! (and for loads after it).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::inputs::Inputs;
use crate::tlb::{Kind, PAGE_SIZE};

/// An access that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchedAccess {
    /// The guest's address.
    pub va: u64,
    /// The physical address.
    pub phys: u64,
    /// In bytes.
    pub size: u8,
    /// A load or a store. (Instructions are watched by breakpoints.)
    pub kind: Kind,
    /// The address of the block that the instruction is in; the front end knows the instruction's own.
    pub pc: u64,
    /// What is stored; 0 for a load.
    pub value: u64,
}

/// What becomes of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Proceed,
    /// A store stores this value; a load gives it, and does not touch memory.
    Instead(u64),
    /// It fails as one that nothing answers.
    Refuse,
    /// The CPU stops before the instruction.
    Break,
}

/// Somebody who watches. Called on the CPU's thread.
pub trait Watcher: Send + Sync {
    /// Before an access.
    fn before(&self, access: &WatchedAccess) -> Verdict;

    /// After a load that went on: what the guest gets.
    fn loaded(&self, access: &WatchedAccess, value: u64) -> u64 {
        let _ = access;
        value
    }
}

/// Which accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// The first physical address.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Whether loads are watched.
    pub reads: bool,
    /// Whether stores are watched.
    pub writes: bool,
}

/// Names a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WatchId(u64);

type Entry = (WatchId, Watch, Arc<dyn Watcher>);

/// All watches of a CPU.
pub struct Watches {
    inputs: Arc<Inputs>,
    list: RwLock<Vec<Entry>>,
    /// Goes up with each change, so that CPUs notice.
    version: AtomicU64,
}

impl std::fmt::Debug for Watches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list.read().iter().map(|(_, watch, _)| *watch)).finish()
    }
}

impl Watches {
    pub(crate) fn new(inputs: Arc<Inputs>) -> Self {
        Self { inputs, list: RwLock::default(), version: AtomicU64::new(0) }
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.inputs.attend();
    }

    /// Watches from now on: a CPU that runs notices before its next block.
    pub fn add(&self, watch: Watch, watcher: Arc<dyn Watcher>) -> WatchId {
        let id = WatchId(self.version.fetch_add(1, Ordering::AcqRel) + 1);
        self.list.write().push((id, watch, watcher));
        self.changed();
        id
    }

    /// Watches no longer; whether it did.
    pub fn remove(&self, id: WatchId) -> bool {
        let mut list = self.list.write();
        let before = list.len();
        list.retain(|(i, _, _)| *i != id);
        let found = list.len() < before;
        drop(list);
        self.changed();
        found
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether any byte of a physical page is watched.
    pub(crate) fn on_page(&self, phys: u64) -> bool {
        let first = phys & !(PAGE_SIZE - 1);
        let last = first | (PAGE_SIZE - 1);
        self.list.read().iter().any(|(_, w, _)| w.first <= last && first <= w.last)
    }

    /// Who watches an access, in the order in which they began.
    pub(crate) fn of(&self, phys: u64, size: u8, kind: Kind) -> Vec<Arc<dyn Watcher>> {
        let last = phys.saturating_add(u64::from(size).saturating_sub(1));
        let wants = |w: &Watch| if kind == Kind::Write { w.writes } else { w.reads };
        let list = self.list.read();
        let there = list.iter().filter(|(_, w, _)| wants(w) && w.first <= last && phys <= w.last);
        there.map(|(_, _, watcher)| Arc::clone(watcher)).collect()
    }
}
