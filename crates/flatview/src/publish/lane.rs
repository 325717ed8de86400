//! One reader's look at a slot.
//!
//! UNSAFE: this module dereferences published pointers under the protection of a hazard (P2).
#![expect(unsafe_code, reason = "published values are read through hazard-protected raw pointers")]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use super::domain::{Fresh, Hazards};
use super::{Ordering, Slot, fence};
use crate::ram::light;
use crate::span::Span;
use crate::unlikely::unlikely;

/// What a lane remembers of the value it looks at, for reading and for writing. The defaults remember nothing.
pub(crate) trait Memo {
    /// For reads, of a value that lives as long as `'v`.
    type Reads<'v>: Copy + Default;
    /// For writes.
    type Writes<'v>: Copy + Default;
}

/// The same memo with another lifetime.
///
/// # Safety
/// The value it is of lives as long as the memo is used.
#[inline(always)]
unsafe fn reads<'to, M: Memo>(memo: M::Reads<'_>) -> M::Reads<'to> {
    // SAFETY: the two types differ in a lifetime only, and the memo is `Copy`; the caller answers for the lifetime.
    unsafe { std::mem::transmute_copy(&memo) }
}

/// The same memo with another lifetime.
///
/// # Safety
/// As for [`reads`].
#[inline(always)]
unsafe fn writes<'to, M: Memo>(memo: M::Writes<'_>) -> M::Writes<'to> {
    // SAFETY: as for `reads`.
    unsafe { std::mem::transmute_copy(&memo) }
}

/// Does something that diverges if a lane is stale, looking where that is written with the instruction that compares: loaded into a
/// register, as the compiler would, it takes one of those that decide how many accesses the processor has under way.
#[cfg(all(target_arch = "x86_64", not(miri), not(loom), not(flatview_tsan)))]
macro_rules! if_stale {
    ($fresh:expr, $otherwise:block) => {
        // SAFETY: the lane's pointer points into the Arc of hazards that it holds; an aligned load of eight bytes, as `is_current` has.
        unsafe {
            std::arch::asm!(
                "cmp qword ptr [{fresh}], {fresh}",
                "jne {otherwise}",
                fresh = in(reg) $fresh.as_ptr(),
                otherwise = label { unlikely(); $otherwise },
                options(nostack, readonly),
            )
        }
    };
}
#[cfg(not(all(target_arch = "x86_64", not(miri), not(loom), not(flatview_tsan))))]
macro_rules! if_stale {
    ($fresh:expr, $otherwise:block) => {
        // SAFETY: the lane's pointer points into the Arc of hazards that it holds.
        if !unsafe { $fresh.as_ref() }.is() {
            unlikely();
            $otherwise
        }
    };
}

/// A reader's look at the value published in a slot, with memos of that value.
///
/// A lane belongs to one thread at a time (`!Sync` by its cells).
// What accesses look at stands together, in as few cache lines as it can.
#[repr(C, align(64))]
pub(crate) struct Lane<T, M: Memo> {
    /// Points into `hazards`, to reach it by one load.
    fresh: NonNull<Fresh>,
    /// Of the value in `view`.
    reads: Cell<M::Reads<'static>>,
    writes: Cell<M::Writes<'static>>,
    /// Dangling if there is none.
    view: Cell<NonNull<T>>,
    pins: Cell<u32>,
    index: usize,
    hazards: Arc<Hazards<T>>,
    slot: Cell<Option<Arc<Slot<T>>>>,
    /// Points into the `Arc` in `slot`, to know it without taking it out of its cell.
    slot_ptr: Cell<NonNull<Slot<T>>>,
    /// The version of the slot that `view` was taken at; 0, which no slot has, if there is no view.
    version: Cell<u64>,
    /// The version of the slot that the last view was taken at; 0 if there was none. What is kept of it for when the lane
    /// looks again is not used meanwhile.
    last: Cell<u64>,
}

// SAFETY: the pointers are into values that the lane's own `Arc` and hazard keep (P1, P2), whichever thread owns
// the lane; it is moved only when nothing borrows it, so it is not pinned.
unsafe impl<T: Send + Sync, M: Memo> Send for Lane<T, M>
where
    for<'v> M::Reads<'v>: Send,
    for<'v> M::Writes<'v>: Send,
{
}

impl<T, M: Memo> Lane<T, M> {
    /// A lane that looks at nothing yet; `slot` is any slot.
    pub fn new(index: usize, hazards: Arc<Hazards<T>>, slot: Arc<Slot<T>>) -> Self {
        Self {
            index,
            fresh: NonNull::from(&hazards.of(index).fresh),
            hazards,
            slot_ptr: Cell::new(NonNull::from(&*slot)),
            slot: Cell::new(Some(slot)),
            version: Cell::new(0),
            last: Cell::new(0),
            view: Cell::new(NonNull::dangling()),
            reads: Cell::new(M::Reads::default()),
            writes: Cell::new(M::Writes::default()),
            pins: Cell::new(0),
        }
    }

    /// Whether the lane has a value and no newer one was announced. Nothing is read on the strength of a yes that the first look did
    /// not order, so that what a reader remembers can stay in registers.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        // SAFETY: `fresh` points into the Arc of hazards that the lane holds.
        unsafe { self.fresh.as_ref() }.is()
    }

    /// The same with the fewest instructions, for who goes another way if not.
    #[inline(always)]
    pub fn if_current(&self) -> Option<()> {
        if_stale!(self.fresh, { return None });
        Some(())
    }

    /// The same after a write: if the answer is yes, then nothing was announced before the write was done, as seen by
    /// whoever announces it and then [fences](crate::ram::heavy) all threads.
    #[inline]
    pub fn is_still_current(&self) -> bool {
        light();
        self.is_current()
    }

    /// Runs `f` on the memo for reads, if the lane is current: the short way, without pinning. That `f` is `'static`
    /// keeps it from borrowing, and so from refreshing or parking, the lane. If it gives nothing, `or` is run.
    #[inline(always)]
    pub fn on_reads<R>(
        &self,
        f: impl for<'m> FnOnce(M::Reads<'m>) -> Option<R> + 'static,
        or: impl FnOnce() -> Option<R>,
    ) -> Option<R> {
        if_stale!(self.fresh, { return None });
        // SAFETY: as for `Pinned::reads`; the lane is current, so it has a view, and `f` cannot change the lane.
        match f(unsafe { reads::<M>(self.reads.get()) }) {
            None => or(),
            done => done,
        }
    }

    /// Runs `f` on the memo for reads, if the lane is current, without pinning.
    ///
    /// # Safety
    /// `f` does nothing with the lane.
    #[inline(always)]
    pub unsafe fn on_reads_alone<R>(&self, f: impl for<'m> FnOnce(M::Reads<'m>) -> Option<R>) -> Option<R> {
        if !self.is_current() {
            return None;
        }
        // SAFETY: as for `on_reads`; that `f` leaves the lane alone is the caller's promise.
        f(unsafe { reads::<M>(self.reads.get()) })
    }

    /// As [`on_reads`](Self::on_reads) with the memo for writes, on which, if `f` gives nothing, `or` is run; it also says whether all is
    /// done. If not, or if the lane is not [still](Self::is_still_current) current afterwards, then `late` is run.
    #[inline(always)]
    pub fn on_writes(
        &self,
        f: impl for<'m> FnOnce(M::Writes<'m>) -> Option<()> + 'static,
        or: impl for<'m> FnOnce(M::Writes<'m>) -> Option<bool> + 'static,
        late: impl Fn(),
    ) -> Option<()> {
        // Taken out first: what `f` writes could be where it is, for all that the compiler knows.
        let fresh = self.fresh;
        if_stale!(fresh, { return None });
        // The memo is taken out for each anew: `f` need not wait for what only `or` looks at.
        // SAFETY: as for `on_reads`.
        if f(unsafe { writes::<M>(self.writes.get()) }).is_some() {
            light();
            if_stale!(fresh, {
                late();
                return Some(());
            });
            return Some(());
        }
        unlikely();
        // SAFETY: as for `on_reads`.
        let done = or(unsafe { writes::<M>(self.writes.get()) })?;
        light();
        if !done || !self.is_current() {
            late();
        }
        Some(())
    }

    /// Whether somebody holds the lane: a pin, or the thread for a callback.
    #[inline]
    pub fn is_pinned(&self) -> bool {
        self.pins.get() > 0 || crate::thread::holds(self.as_held())
    }

    /// Takes the value that is published now in the slot that `slot_now` names; `false` if the lane is pinned.
    ///
    /// `slot_now` must not touch this lane.
    #[cfg(test)]
    pub fn refresh(&self, slot_now: impl Fn() -> Arc<Slot<T>>) -> bool {
        self.refresh_telling(slot_now, false, |_| ())
    }

    /// The same; `changed` gets the spans in which the value may differ from the one that the lane had last, before it was
    /// parked or not, or `None` for everywhere, which it also gets if it does not `care`. It must neither touch this lane nor panic.
    pub fn refresh_telling(
        &self,
        slot_now: impl Fn() -> Arc<Slot<T>>,
        care: bool,
        mut changed: impl FnMut(Option<Span>),
    ) -> bool {
        if self.is_pinned() {
            return false;
        }
        let hazard = self.hazards.of(self.index);
        let (old_slot, from) = (self.slot_ptr.get(), self.last.get());
        self.reads.set(M::Reads::default());
        self.writes.set(M::Writes::default());
        self.view.set(NonNull::dangling());
        self.version.set(0);
        loop {
            let slot = slot_now();
            let version = slot.version();
            let p = slot.current();
            // Before the lane says what it looks at, or it could undo what it is told of that.
            hazard.fresh.set();
            hazard.named.store(p, Ordering::Release);
            // Pairs with the fences in Domain::announce and reclaim: either we see that the value was replaced, or the writer
            // sees our hazard.
            fence(Ordering::SeqCst);
            // The slot that a space looks through is changed first, and who looks at the old one's value is told after that:
            // if this lane was not, the second look sees the new slot (P5).
            if let Some(view) = NonNull::new(p)
                && slot.current() == p
                && Arc::ptr_eq(&slot, &slot_now())
            {
                // P4. The old slot is in its cell yet, so it is no other at the same place. `from` was looked at before the old
                // value was loaded, and so has no change that the old value lacks.
                let known = care
                    && from != 0
                    && std::ptr::eq(old_slot.as_ptr(), &*slot)
                    && slot.changed_since(from, |span| changed(Some(span)));
                if !known {
                    changed(None);
                }
                self.version.set(version);
                self.last.set(version);
                self.view.set(view);
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
        self.reads.set(M::Reads::default());
        self.writes.set(M::Writes::default());
        self.view.set(NonNull::dangling());
        self.version.set(0);
        let hazard = self.hazards.of(self.index);
        hazard.fresh.unset();
        hazard.named.store(std::ptr::null_mut(), Ordering::Release);
    }

    /// Holds the lane at its value while the guard lives, if its slot has announced no newer one.
    #[inline(always)]
    pub fn pin_current(&self) -> Option<Pinned<'_, T, M>> {
        // A lane is stale until it has a value.
        self.is_current().then(|| self.pinned())
    }

    /// Holds the lane at its value while the guard lives; `None` if it has none.
    #[inline]
    pub fn pin(&self) -> Option<Pinned<'_, T, M>> {
        if self.version.get() == 0 { None } else { Some(self.pinned()) }
    }

    /// As [`pin`](Self::pin), for who has just seen that the lane is current, and so has a value.
    #[inline(always)]
    pub fn pinned(&self) -> Pinned<'_, T, M> {
        debug_assert_ne!(self.version.get(), 0, "a lane that has a value");
        // As many as accesses nest: it cannot overflow.
        self.pins.set(self.pins.get().wrapping_add(1));
        Pinned { lane: self, view: self.view.get() }
    }
}

impl<T, M: Memo> Lane<T, M> {
    /// What a thread [holds](crate::thread::Here) while it holds the lane for a callback.
    #[inline(always)]
    pub fn as_held(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// The value that the lane is held at, for as long as it is.
    ///
    /// # Safety
    /// The lane is held while the reference is used.
    pub unsafe fn held(&self) -> &T {
        debug_assert!(self.is_pinned(), "a lane that is held");
        // SAFETY: as for `Pinned`'s `deref`.
        unsafe { self.view.get().as_ref() }
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
    /// See [`Lane::is_still_current`].
    #[inline]
    pub fn is_still_current(&self) -> bool {
        self.lane.is_still_current()
    }

    /// The value itself, for as long as the caller likes.
    pub fn share(&self) -> Arc<T> {
        let value = self.view.as_ptr().cast_const();
        // SAFETY: P2: the pointer was published by a slot, so it is from `Arc::into_raw`, and the hazard names it: P1, the
        // count that the slot (or, since it was replaced, the domain) has of it is not given back before the pin ends.
        unsafe {
            Arc::increment_strong_count(value);
            Arc::from_raw(value)
        }
    }

    /// The memo of this value for reads.
    #[inline]
    pub fn reads(&self) -> M::Reads<'_> {
        // SAFETY: the memo was set by `remember_reads` from the value that is pinned (refresh and park clear it, and they
        // do nothing while pinned), so it may be used as long as that value, which the hazard keeps (P2).
        unsafe { reads::<M>(self.lane.reads.get()) }
    }

    /// The memo of this value for writes.
    #[inline]
    pub fn writes(&self) -> M::Writes<'_> {
        // SAFETY: as for `reads`, with `remember_writes`.
        unsafe { writes::<M>(self.lane.writes.get()) }
    }

    /// Looks something up in the value, and remembers what `find` says is worth it for reads.
    #[inline(always)]
    pub fn remember_reads<F>(
        &self,
        find: impl for<'v> FnOnce(&'v T) -> (Option<&'v F>, Option<M::Reads<'v>>),
    ) -> Option<&F> {
        let (found, memo) = find(self);
        if let Some(memo) = memo {
            // SAFETY: the cell's memo is handed out by `on_reads` and `reads` only, with a lifetime that ends with the
            // value's.
            self.lane.reads.set(unsafe { reads::<M>(memo) });
        }
        found
    }

    /// Looks something up in the value, and remembers what `find` says is worth it for writes.
    #[inline(always)]
    pub fn remember_writes<F>(
        &self,
        find: impl for<'v> FnOnce(&'v T) -> (Option<&'v F>, Option<M::Writes<'v>>),
    ) -> Option<&F> {
        let (found, memo) = find(self);
        if let Some(memo) = memo {
            // SAFETY: as in `remember_reads`.
            self.lane.writes.set(unsafe { writes::<M>(memo) });
        }
        found
    }
}

impl<T, M: Memo> std::ops::Deref for Pinned<'_, T, M> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: P2: a lane is pinned only if it has a value: `view` is in the hazard, was still published after the hazard was set, and the hazard does
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
