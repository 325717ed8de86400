//! What the running thread is in the middle of.
//!
//! What it is: how many device callbacks and `update` closures (or listeners), of any memory, are open on this thread, in
//! one word and a pointer, so that an access looks once. What it is not: about any one access; that is [`Access`](crate::Access).

use std::cell::Cell;

/// One open `update`, in the word; below it stand the callbacks.
const UPDATE: u64 = 1 << 32;

thread_local! {
    static HERE: Here = const { Here { open: Cell::new(0), holds: Cell::new(std::ptr::null()) } };
}

/// What a thread knows of itself.
pub(crate) struct Here {
    open: Cell<u64>,
    /// What is held for the one callback that [`only_callback`](Self::only_callback) runs, which is not counted in the word.
    holds: Cell<*const ()>,
}

impl Here {
    /// Looks for it once, before all else: to find it may cost a call.
    #[inline(always)]
    pub fn with<R>(f: impl FnOnce(&Self) -> R) -> R {
        // Put aside, and not given through: the compiler would look at what `f` gives for the error of a thread that is ending, which
        // for a `HERE` without a destructor there is not.
        let mut given = None;
        HERE.with(|here| given = Some(f(here)));
        match given {
            Some(given) => given,
            None => std::process::abort(),
        }
    }

    fn nesting(&self) -> u32 {
        self.open.get() as u32 + u32::from(!self.holds.get().is_null())
    }

    /// Begins a callback, for which `what` is held until what is given goes, also when it panics, if the thread is in no other
    /// and in no `update`. No count need be put back: it is written twice, and that is all.
    #[inline(always)]
    pub fn only_callback(&self, what: *const ()) -> Option<OnlyCallback<'_>> {
        if self.open.get() | self.holds.get().addr() as u64 != 0 {
            return None;
        }
        self.holds.set(what);
        Some(OnlyCallback(self))
    }
}

/// See [`Here::only_callback`].
pub(crate) struct OnlyCallback<'t>(&'t Here);

impl Drop for OnlyCallback<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.holds.set(std::ptr::null());
    }
}

/// Whether the thread holds this for a callback.
pub(crate) fn holds(what: *const ()) -> bool {
    HERE.with(|here| std::ptr::eq(here.holds.get(), what))
}

/// Whether this thread is in an `update` closure or a listener, where device code must not run.
#[inline]
pub(crate) fn writing() -> bool {
    HERE.with(|here| here.open.get() >= UPDATE)
}

/// Whether this thread is in a device callback.
#[inline]
pub(crate) fn in_callback() -> bool {
    nesting() > 0
}

/// How many callbacks this thread is in.
#[inline]
pub(crate) fn nesting() -> u32 {
    HERE.with(Here::nesting)
}

/// Counts a callback while it runs, also when it panics.
pub(crate) struct InCallback(());

impl InCallback {
    #[inline]
    pub fn enter() -> Self {
        HERE.with(|here| here.open.set(here.open.get().wrapping_add(1)));
        Self(())
    }

    /// If the thread is in no `update` and in fewer than `most` callbacks.
    #[inline]
    pub fn enter_below(most: u32) -> Option<Self> {
        HERE.with(|here| {
            let open = here.open.get();
            if open >= UPDATE || here.nesting() >= most {
                return None;
            }
            here.open.set(open + 1);
            Some(Self(()))
        })
    }
}

impl Drop for InCallback {
    #[inline]
    fn drop(&mut self) {
        HERE.with(|here| here.open.set(here.open.get().wrapping_sub(1)));
    }
}

/// Counts an `update` closure, or a listener's callbacks, while they run.
pub(crate) struct InUpdate(());

impl InUpdate {
    pub fn enter() -> Self {
        HERE.with(|here| here.open.set(here.open.get().wrapping_add(UPDATE)));
        Self(())
    }
}

impl Drop for InUpdate {
    fn drop(&mut self) {
        HERE.with(|here| here.open.set(here.open.get().wrapping_sub(UPDATE)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_and_callbacks_are_counted_apart() {
        assert!(!writing() && !in_callback());
        let update = InUpdate::enter();
        let callback = InCallback::enter();
        assert!(writing() && nesting() == 1);
        assert!(InCallback::enter_below(32).is_none(), "device code must not run in an update");
        drop(update);
        assert!(!writing() && in_callback());
        assert!(InCallback::enter_below(1).is_none());
        let second = InCallback::enter_below(2);
        assert!(second.is_some() && nesting() == 2);
        let (one, other) = (1_u8, 2_u8);
        let (one, other) = (std::ptr::from_ref(&one).cast(), std::ptr::from_ref(&other).cast());
        let refused = |here: &Here| here.only_callback(other).is_none();
        assert!(Here::with(refused));
        drop((second, callback));
        assert!(!in_callback());
        Here::with(|here| {
            let only = here.only_callback(one);
            assert!(only.is_some() && nesting() == 1 && holds(one) && !holds(other));
            assert!(refused(here) && InCallback::enter_below(1).is_none());
            let inner = InCallback::enter_below(2);
            assert!(inner.is_some() && nesting() == 2);
            drop((inner, only));
            assert!(!holds(one));
        });
        let update = InUpdate::enter();
        assert!(Here::with(refused), "device code must not run in an update");
        drop(update);
        assert!(!in_callback() && !writing());
    }
}
