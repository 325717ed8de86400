//! Whose turn it is to change the map, and how a change takes effect.
//!
//! What it is: the turn, which one thread has from the beginning of a change until everybody was told of it, and the
//! way from a prepared commit to one that is published and told. What it is not: the state that is changed; that has a
//! lock of its own, which is not held while listeners are told.
//!
//! What must hold: the turn is taken before the state's lock; whoever has the turn and is in a listener changes
//! nothing.

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;

use parking_lot::ReentrantMutexGuard;

use super::Memory;
use super::handle::discard;
use super::state::{Garbage, Prepared, Savepoint, State};
use crate::MemoryError;
use crate::listen::{Cause, Failure, Plan, prepare};
use crate::thread::{InUpdate, writing};

/// Work that was put off until the current commit is over.
type Deferred = Box<dyn FnOnce(&Memory) + Send>;

/// What belongs to the thread that changes the map.
#[derive(Default)]
pub(crate) struct Turn {
    /// Whether listeners are being called.
    listening: Cell<bool>,
    deferred: RefCell<Vec<Deferred>>,
    listeners_made: Cell<u64>,
}

pub(super) type TurnGuard<'a> = ReentrantMutexGuard<'a, Turn>;
pub(super) type StateGuard<'a> = ReentrantMutexGuard<'a, RefCell<State>>;

impl Turn {
    /// A number for a listener, not used again.
    pub fn next_listener(&self) -> u64 {
        let number = self.listeners_made.get();
        self.listeners_made.set(number + 1);
        number
    }

    /// Whether this thread is in a listener.
    pub fn is_listening(&self) -> bool {
        self.listening.get()
    }

    /// Listeners are called while the guard lives.
    pub(super) fn listen(&self) -> Listening<'_> {
        Listening { turn: self, outer: self.listening.replace(true), _writing: InUpdate::enter() }
    }
}

/// Listeners are being called: no device code may run, and the map may not be changed.
pub(super) struct Listening<'a> {
    turn: &'a Turn,
    outer: bool,
    _writing: InUpdate,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.turn.listening.set(self.outer);
    }
}

/// A change that was rendered and found good, and how far the tree's log went before it.
pub(super) struct Change {
    pub prepared: Prepared,
    pub savepoint: Savepoint,
    pub cause: Cause,
}

/// A commit that failed, with what is to be dropped without a lock.
pub(super) struct Failed<'d> {
    pub failure: Failure,
    pub garbage: Garbage<'d>,
}

impl Memory {
    /// The turn to change the map; an error inside a listener, whose commit the change would have to wait for.
    pub(super) fn turn(&self) -> Result<TurnGuard<'_>, MemoryError> {
        let turn = self.0.turn.lock();
        if turn.listening.get() { Err(MemoryError::InsideListener) } else { Ok(turn) }
    }

    /// Gives the turn back, and then frees what the change let go of and does what was put off meanwhile: both may run
    /// code of the caller's, which must find no lock held (M2).
    pub(super) fn end_turn<T>(&self, turn: TurnGuard<'_>, garbage: T) {
        let deferred = turn.deferred.take();
        drop(turn);
        discard(garbage);
        #[cfg(feature = "vm-memory")]
        discard(self.0.ram_users.let_go_of_old());
        // A notifier may look at the map and change it; not in the middle of an outer update, though.
        if !writing() {
            self.0.notifiers.tell();
        }
        for work in deferred {
            work(self);
        }
    }

    /// Publishes what was prepared and tells the listeners; or, if one of them cannot follow, puts everything back.
    pub(super) fn commit<'s>(
        &'s self,
        turn: &Turn,
        guard: StateGuard<'s>,
        change: Change,
    ) -> Result<Garbage<'s>, Box<Failed<'s>>> {
        let Change { prepared, savepoint, cause } = change;
        let domain = &self.0.domain;
        // L3: who has no listeners pays for none. Nobody is told of a transaction that did nothing.
        let did_nothing = || prepared.is_empty() && guard.borrow().is_unchanged();
        if self.0.listeners.is_empty() || did_nothing() {
            let mut state = guard.borrow_mut();
            state.show(prepared, domain);
            return Ok(self.finish(&mut state));
        }
        let entries = self.0.listeners.all();
        let delta = guard.borrow().delta(cause, &prepared, &entries);
        let _listening = turn.listen();
        if let Err(failure) = prepare(&delta, &entries) {
            let bodies = guard.borrow_mut().rollback(savepoint);
            return Err(Box::new(Failed { failure, garbage: Garbage { bodies, views: None } }));
        }
        let way_back = {
            let mut state = guard.borrow_mut();
            let way_back = state.way_back(&prepared);
            state.show(prepared, domain);
            way_back
        };
        // L1: from here on questions of other threads are answered, with the new map.
        drop(guard);
        // What the delta points to was not reclaimed yet, because that takes the turn: dropping it frees nothing.
        let Err(half) = Plan::of(&delta, &entries).tell(&entries) else {
            drop(delta);
            return Ok(self.finish(&mut self.0.writer.lock().borrow_mut()));
        };
        // As on the way here, publishing comes first: who caches translations must drop them when no new ones can be
        // made from the map that is taken back.
        let bodies = {
            let guard = self.0.writer.lock();
            let mut state = guard.borrow_mut();
            let bodies = state.rollback(savepoint);
            state.show_again(way_back, domain);
            state.log_again();
            bodies
        };
        let failure = half.take_back(&entries);
        drop(delta);
        Err(Box::new(Failed { failure, garbage: Garbage { bodies, views: Some(domain.reclaim()) } }))
    }

    /// Accepts what was changed, and puts the news of blocks in line.
    fn finish(&self, state: &mut State) -> Garbage<'_> {
        self.0.notifiers.change(std::mem::take(&mut state.block_changes));
        state.finish(&self.0.domain)
    }

    /// Ends a turn in which a commit failed.
    pub(super) fn end_failed(&self, turn: TurnGuard<'_>, failed: Failed<'_>) -> MemoryError {
        self.end_turn(turn, failed.garbage);
        match failed.failure.panic {
            Some(panic) => resume_unwind(panic),
            None => failed.failure.error,
        }
    }

    /// Does something to the map as soon as that is possible: at once, or, when called from inside a listener of this
    /// memory, after the commit that the listener is told of, on the same thread and before the
    /// [`update`](Self::update) that made the commit returns. What was put off is done in order, also if that commit
    /// fails, and outside of all locks: it may do all that a thread may do that is in no callback.
    ///
    /// `work` gets the memory, so that it need not hold it, and deals with its own errors: the change behind which it
    /// waits cannot fail because of it any more.
    pub fn defer(&self, work: impl FnOnce(&Self) + Send + 'static) {
        let turn = self.0.turn.lock();
        if turn.listening.get() {
            turn.deferred.borrow_mut().push(Box::new(work));
            return;
        }
        drop(turn);
        work(self);
    }
}
