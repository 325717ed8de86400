//! What the running thread is in the middle of.
//!
//! What it is: how many device callbacks and `update` closures (or listeners), of any memory, are open on this thread, in
//! one word, so that an access looks once. What it is not: about any one access; that is [`Access`](crate::Access).

use std::cell::Cell;

/// One open `update`, in the word; below it stand the callbacks.
const UPDATE: u64 = 1 << 32;

thread_local! {
    static OPEN: Cell<u64> = const { Cell::new(0) };
}

/// Whether this thread is in an `update` closure or a listener, where device code must not run.
#[inline]
pub(crate) fn writing() -> bool {
    OPEN.get() >= UPDATE
}

/// Whether this thread is in a device callback.
#[inline]
pub(crate) fn in_callback() -> bool {
    nesting() > 0
}

/// How many callbacks this thread is in.
#[inline]
pub(crate) fn nesting() -> u32 {
    OPEN.get() as u32
}

/// Counts a callback while it runs, also when it panics.
pub(crate) struct InCallback(());

impl InCallback {
    #[inline]
    pub fn enter() -> Self {
        OPEN.set(OPEN.get().wrapping_add(1));
        Self(())
    }

    /// If the thread is in no `update` and in fewer than `most` callbacks.
    #[inline]
    pub fn enter_below(most: u32) -> Option<Self> {
        let open = OPEN.get();
        if open >= u64::from(most) {
            return None;
        }
        OPEN.set(open + 1);
        Some(Self(()))
    }
}

impl Drop for InCallback {
    #[inline]
    fn drop(&mut self) {
        OPEN.set(OPEN.get().wrapping_sub(1));
    }
}

/// Counts an `update` closure, or a listener's callbacks, while they run.
pub(crate) struct InUpdate(());

impl InUpdate {
    pub fn enter() -> Self {
        OPEN.set(OPEN.get().wrapping_add(UPDATE));
        Self(())
    }
}

impl Drop for InUpdate {
    fn drop(&mut self) {
        OPEN.set(OPEN.get().wrapping_sub(UPDATE));
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
        drop((second, callback));
        assert!(!in_callback());
    }
}
