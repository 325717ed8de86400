//! The newest RAM of a space, at hand for whoever asks.
//!
//! What it is: a cache of one [`RamView`] for each space, and the list by which commits find those that are old. What it is
//! not: where a `RamView` is made; that is the flat view, so that spaces that share a view share it too. What must hold is V3 of
//! [the module](super).
//!
//! Who asks and finds the cache old: *puts the new one in, has the space on the list, looks whether it is still the
//! newest*, and else takes it out again. A commit: *publishes, goes through the list*. The list has a lock, so either the
//! commit finds what was put in, or the one who asked sees that it is old.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use vm_memory::GuestAddressSpace;

use super::RamView;
use crate::memory::SpaceInner;
use crate::publish::Slot;
use crate::view::FlatView;
use crate::{AddressSpace, Reader};

/// A `RamView`, and when it was the newest.
pub(crate) struct Shown {
    slot: Arc<Slot<FlatView>>,
    /// Of the slot, before the view was looked at; 0, which no slot has, for none.
    version: u64,
    view: Arc<RamView>,
}

impl Shown {
    fn nothing(slot: &Arc<Slot<FlatView>>) -> Arc<Self> {
        Arc::new(Self { slot: Arc::clone(slot), version: 0, view: Arc::default() })
    }

    /// A space that goes over to another slot announces it in the one it leaves, as for readers.
    #[inline]
    fn is_current(&self) -> bool {
        self.slot.version() == self.version
    }
}

/// What a space keeps.
pub(crate) struct LastRam {
    shown: ArcSwap<Shown>,
    /// Whether the space is on the list; changed under the list's lock.
    listed: AtomicBool,
}

impl LastRam {
    pub fn new(slot: &Arc<Slot<FlatView>>) -> Self {
        Self { shown: ArcSwap::new(Shown::nothing(slot)), listed: AtomicBool::new(false) }
    }
}

/// What a list has let go of, held only to be dropped later.
#[derive(Default)]
pub(crate) struct Old {
    shown: Vec<Arc<Shown>>,
    spaces: Vec<Arc<SpaceInner>>,
}

/// The spaces that keep something.
#[derive(Default)]
pub(crate) struct RamUsers(Mutex<Vec<Weak<SpaceInner>>>);

impl RamUsers {
    fn add(&self, space: &Arc<SpaceInner>) {
        let mut users = self.0.lock();
        if !space.ram.listed.swap(true, Ordering::Relaxed) {
            users.push(Arc::downgrade(space));
        }
    }

    /// Takes out what is not the newest any more: to be dropped without a lock.
    #[must_use]
    pub fn let_go_of_old(&self) -> Old {
        let mut old = Old::default();
        self.0.lock().retain(|space| {
            let Some(space) = space.upgrade() else { return false };
            let current = space.ram.shown.load().is_current();
            if !current {
                space.ram.listed.store(false, Ordering::Relaxed);
                old.shown.push(space.ram.shown.swap(Shown::nothing(&space.slot.load())));
            }
            // It may be the last who holds the space.
            old.spaces.push(space);
            current
        });
        old
    }
}

/// A [`RamView`] that a space gave (rust-vmm: `GuestMemoryLoadGuard`). It keeps the view: hold it for one request, and ask
/// again for the next.
pub struct RamGuard(Guard<Arc<Shown>>);

impl RamGuard {
    /// The view itself, to be kept longer or handed on.
    #[must_use]
    pub fn into_inner(self) -> Arc<RamView> {
        Arc::clone(&self.0.view)
    }
}

impl Deref for RamGuard {
    type Target = RamView;

    #[inline]
    fn deref(&self) -> &RamView {
        &self.0.view
    }
}

impl Clone for RamGuard {
    fn clone(&self) -> Self {
        Self(Guard::from_inner(Arc::clone(&self.0)))
    }
}

impl fmt::Debug for RamGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// `GuestAddressSpace::memory` gives the newest [`RamView`] of the space. [`AddressSpace`] has a method of its own named
/// `memory`, so that code which is not generic calls [`ram_view`](AddressSpace::ram_view).
///
/// It takes no lock while the view is the one that was asked for last, and otherwise only such as no caller's code runs
/// under; so it may be called from anywhere. Inside an [`update`](crate::Memory::update) it gives the map before the change. A
/// space that was removed has no RAM.
impl GuestAddressSpace for AddressSpace {
    type M = RamView;
    type T = RamGuard;

    #[inline]
    fn memory(&self) -> RamGuard {
        let shown = self.inner.ram.shown.load();
        if shown.is_current() { RamGuard(shown) } else { self.newer_ram() }
    }
}

impl AddressSpace {
    /// The writable RAM that the space shows now, for rust-vmm's crates.
    #[must_use]
    pub fn ram_view(&self) -> Arc<RamView> {
        GuestAddressSpace::memory(self).into_inner()
    }

    #[cold]
    fn newer_ram(&self) -> RamGuard {
        let new = Arc::new(self.look_for_ram());
        self.keep_ram(&new);
        RamGuard(Guard::from_inner(new))
    }

    fn look_for_ram(&self) -> Shown {
        let slot = self.inner.slot.load_full();
        // Before the look at the view, which may then be newer than this says, but never older.
        let version = slot.version();
        let view = Reader::new(self).look(FlatView::ram).unwrap_or_default();
        Shown { slot, version, view }
    }

    /// For the next who asks, if it is still the newest then.
    fn keep_ram(&self, new: &Arc<Shown>) {
        let kept = &self.inner.ram.shown;
        kept.store(Arc::clone(new));
        self.memory().0.ram_users.add(&self.inner);
        if !new.is_current() {
            kept.compare_and_swap(new, Shown::nothing(&new.slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endianness, Memory, RamBlock, Region};

    fn is_kept(space: &AddressSpace) -> bool {
        space.inner.ram.shown.load().version != 0
    }

    #[test]
    fn what_a_commit_makes_old_is_let_go_of_by_it_and_what_is_current_stays() {
        let memory = Memory::new(Endianness::Little);
        let (space, io) = (memory.memory_space(), memory.io_space());
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 0x1000).unwrap())).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let (seen, ports) = (space.ram_view(), io.ram_view());
        assert_eq!((seen.regions().len(), ports.regions().len()), (1, 0));
        assert_eq!(memory.0.ram_users.0.lock().len(), 2);

        memory.update(|t| t.unmap(memory.system(), ram)).unwrap();
        assert!(!is_kept(&space) && is_kept(&io));
        assert_eq!(memory.0.ram_users.0.lock().len(), 1, "who keeps nothing costs the next commit nothing");
        assert_eq!(seen.regions().len(), 1, "who has it keeps it");
        assert_eq!(space.ram_view().regions().len(), 0);
        assert!(Arc::ptr_eq(&ports, &io.ram_view()));
    }

    #[test]
    fn what_comes_after_the_commit_that_makes_it_old_is_not_kept() {
        let memory = Memory::new(Endianness::Little);
        let space = memory.memory_space();
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 0x1000).unwrap())).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        // Somebody who was put to sleep between the look and the putting in.
        let late = Arc::new(space.look_for_ram());
        let newer = space.ram_view();
        memory.update(|t| t.unmap(memory.system(), ram)).unwrap();
        space.keep_ram(&late);
        assert!(!is_kept(&space), "or an idle space would keep it until the next commit");
        drop((late, newer));
        assert_eq!(space.ram_view().regions().len(), 0);
        assert!(is_kept(&space));
    }

    #[test]
    fn spaces_that_share_a_view_share_its_ram() {
        let memory = Memory::new(Endianness::Little);
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 0x1000).unwrap())).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let other = memory.address_space("other", memory.system()).unwrap();
        assert!(Arc::ptr_eq(&memory.memory_space().ram_view(), &other.ram_view()));
        drop(other.reader());
        memory.remove_space(other.id()).unwrap();
        assert_eq!(other.ram_view().regions().len(), 0);
    }
}
