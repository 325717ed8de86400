//! One reader's look at a slot.
//!
//! UNSAFE: this module dereferences published pointers under the protection of a hazard (P2).
#![expect(unsafe_code, reason = "published values are read through hazard-protected raw pointers")]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use super::domain::Hazards;
use super::{Ordering, Slot, fence};

/// What a lane remembers of the value it looks at.
pub(crate) trait Memo {
    /// The memo of a value that lives as long as `'v`. The default remembers nothing.
    type Of<'v>: Copy + Default;
}

/// The same memo with another lifetime.
///
/// # Safety
/// The value it is of lives as long as the memo is used.
#[inline(always)]
unsafe fn extended<'to, M: Memo>(memo: M::Of<'_>) -> M::Of<'to> {
    // SAFETY: the two types differ in a lifetime only, and the memo is `Copy`; the caller answers for the lifetime.
    unsafe { std::mem::transmute_copy(&memo) }
}

/// A reader's look at the value published in a slot, with a memo of that value.
///
/// A lane belongs to one thread at a time (`!Sync` by its cells).
pub(crate) struct Lane<T, M: Memo> {
    index: usize,
    hazards: Arc<Hazards<T>>,
    slot: Cell<Option<Arc<Slot<T>>>>,
    /// Points into the `Arc` in `slot`, to reach the version without taking it out of its cell.
    slot_ptr: Cell<NonNull<Slot<T>>>,
    /// The version of the slot that `view` was taken at; 0, which no slot has, if there is no view.
    version: Cell<u64>,
    view: Cell<Option<NonNull<T>>>,
    /// Of the value in `view`.
    memo: Cell<M::Of<'static>>,
    pins: Cell<u32>,
}

// SAFETY: the pointers are into values that the lane's own `Arc` and hazard keep (P1, P2), whichever thread owns
// the lane; it is moved only when nothing borrows it, so it is not pinned.
unsafe impl<T: Send + Sync, M: Memo> Send for Lane<T, M> where for<'v> M::Of<'v>: Send {}

impl<T, M: Memo> Lane<T, M> {
    /// A lane that looks at nothing yet; `slot` is any slot.
    pub fn new(index: usize, hazards: Arc<Hazards<T>>, slot: Arc<Slot<T>>) -> Self {
        Self {
            index,
            hazards,
            slot_ptr: Cell::new(NonNull::from(&*slot)),
            slot: Cell::new(Some(slot)),
            version: Cell::new(0),
            view: Cell::new(None),
            memo: Cell::new(M::Of::default()),
            pins: Cell::new(0),
        }
    }

    /// Whether the lane has a value and its slot has announced no newer one.
    #[inline]
    pub fn is_current(&self) -> bool {
        // SAFETY: `slot_ptr` points into the Arc that `slot` holds; both are only changed together.
        unsafe { self.slot_ptr.get().as_ref() }.version() == self.version.get()
    }

    /// Runs `f` on the memo, if the lane is current: the short way, without pinning. That `f` is `'static` keeps it
    /// from borrowing, and so from refreshing or parking, the lane.
    #[inline]
    pub fn on_memo<R>(&self, f: impl for<'m> FnOnce(M::Of<'m>) -> Option<R> + 'static) -> Option<R> {
        if !self.is_current() {
            return None;
        }
        // SAFETY: as for `Pinned::memo`; the lane is current, so it has a view, and `f` cannot change the lane.
        f(unsafe { extended::<M>(self.memo.get()) })
    }

    #[inline]
    pub fn is_pinned(&self) -> bool {
        self.pins.get() > 0
    }

    /// Takes the value that is published now in the slot that `slot_now` names; `false` if the lane is pinned.
    ///
    /// `slot_now` must not touch this lane.
    pub fn refresh(&self, slot_now: impl Fn() -> Arc<Slot<T>>) -> bool {
        let Some(hazard) = self.hazards.get(self.index).filter(|_| !self.is_pinned()) else {
            return false;
        };
        self.memo.set(M::Of::default());
        self.view.set(None);
        self.version.set(0);
        loop {
            let slot = slot_now();
            let version = slot.version();
            let p = slot.current();
            hazard.store(p, Ordering::Release);
            // Pairs with the fence in Domain::reclaim: either we see that the value was replaced, or the writer
            // sees our hazard.
            fence(Ordering::SeqCst);
            // The slot that a space looks through is changed first and the old slot's version after that: if the
            // version we have tells of the change, the second look sees the new slot.
            if slot.current() == p && Arc::ptr_eq(&slot, &slot_now()) {
                self.version.set(version);
                self.view.set(NonNull::new(p));
                self.slot_ptr.set(NonNull::from(&*slot));
                self.slot.set(Some(slot));
                return true;
            }
        }
    }

    /// Lets go of the value, so that it can be freed. Does nothing while pinned.
    pub fn park(&self) {
        if self.is_pinned() {
            return;
        }
        self.memo.set(M::Of::default());
        self.view.set(None);
        self.version.set(0);
        if let Some(hazard) = self.hazards.get(self.index) {
            hazard.store(std::ptr::null_mut(), Ordering::Release);
        }
    }

    /// Holds the lane at its value while the guard lives; `None` if it has none.
    #[inline]
    pub fn pin(&self) -> Option<Pinned<'_, T, M>> {
        let view = self.view.get()?;
        // As many as accesses nest: it cannot overflow.
        self.pins.set(self.pins.get().wrapping_add(1));
        Some(Pinned { lane: self, view })
    }
}

impl<T, M: Memo> Drop for Lane<T, M> {
    fn drop(&mut self) {
        self.pins.set(0);
        self.park();
    }
}

/// A lane held at one value.
pub(crate) struct Pinned<'a, T, M: Memo> {
    lane: &'a Lane<T, M>,
    view: NonNull<T>,
}

impl<T, M: Memo> Pinned<'_, T, M> {
    /// The memo of this value.
    #[inline]
    pub fn memo(&self) -> M::Of<'_> {
        // SAFETY: the memo was set by `remember` from the value that is pinned (refresh and park clear it, and they do
        // nothing while pinned), so it may be used as long as that value, which the hazard keeps (P2).
        unsafe { extended::<M>(self.lane.memo.get()) }
    }

    /// Looks something up in the value, and remembers what `find` says is worth it.
    #[inline(always)]
    pub fn remember<F>(
        &self,
        find: impl for<'v> FnOnce(&'v T) -> (Option<&'v F>, Option<M::Of<'v>>),
    ) -> Option<&F> {
        let (found, memo) = find(self);
        if let Some(memo) = memo {
            // SAFETY: the cell's memo is handed out by `on_memo` and `memo` only, with a lifetime that ends with the
            // value's.
            self.lane.memo.set(unsafe { extended::<M>(memo) });
        }
        found
    }
}

impl<T, M: Memo> std::ops::Deref for Pinned<'_, T, M> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: P2: `view` is in the hazard, was still published after the hazard was set, and the hazard does
        // not change while the lane is pinned, so P1 keeps the value.
        unsafe { self.view.as_ref() }
    }
}

impl<T, M: Memo> Drop for Pinned<'_, T, M> {
    #[inline]
    fn drop(&mut self) {
        self.lane.pins.set(self.lane.pins.get().wrapping_sub(1));
    }
}
