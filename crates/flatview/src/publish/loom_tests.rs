//! Every interleaving of readers that refresh and a writer that publishes, moves a space, and frees.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p flatview --release --lib loom`.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{Domain, Lane, Memo, Slot};
use crate::span::Span;

/// Remembers nothing.
struct Nothing;

impl Memo for Nothing {
    type Reads<'v> = ();
    type Writes<'v> = ();
}

/// parking_lot's mutex, as far as this crate uses it, that loom sees.
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// A value whose reads and whose end loom checks against each other.
struct Watched(UnsafeCell<u32>);

impl Watched {
    fn new(value: u32) -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(value)))
    }

    fn read(&self) -> u32 {
        #[expect(unsafe_code, reason = "loom's checked cell hands out raw pointers")]
        // SAFETY: loom verifies that no write overlaps.
        self.0.with(|p| unsafe { *p })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A mutable access: loom reports it if a reader's access is not ordered before it.
        #[expect(unsafe_code, reason = "loom's checked cell hands out raw pointers")]
        // SAFETY: this is the drop; loom verifies that no other access overlaps.
        self.0.with_mut(|p| unsafe { *p = u32::MAX });
    }
}

// Not `Sync` by itself because of the cell; the point of the test is that it may be shared.
#[expect(unsafe_code, reason = "the test shares the checked cell on purpose")]
// SAFETY: loom checks all accesses to the cell.
unsafe impl Sync for Watched {}

/// Where a space looks: the stand-in for the `ArcSwap` of an address space, with just the ordering that it promises.
struct Looks {
    at: AtomicUsize,
    slots: [Arc<Slot<Watched>>; 2],
}

impl Looks {
    fn new(first: u32, second: u32) -> Arc<Self> {
        let slot = |v| Arc::new(Slot::new(Watched::new(v)));
        Arc::new(Self { at: AtomicUsize::new(0), slots: [slot(first), slot(second)] })
    }

    fn slot_now(&self) -> Arc<Slot<Watched>> {
        Arc::clone(&self.slots[self.at.load(Ordering::Acquire)])
    }

    /// As the writer does it: first the space, then the version of the slot that it left.
    fn move_to(&self, slot: usize, domain: &Domain<Watched>) {
        let old = self.at.swap(slot, Ordering::AcqRel);
        domain.bump(&self.slots[old]);
    }

    fn reader(&self, domain: &Domain<Watched>) -> Lane<Watched, Nothing> {
        Lane::new(0, domain.register(), self.slot_now())
    }
}

fn everywhere() -> std::array::IntoIter<Span, 1> {
    [Span::ALL].into_iter()
}

fn look(lane: &Lane<Watched, Nothing>, looks: &Looks) -> u32 {
    if !lane.is_current() {
        assert!(lane.refresh(|| looks.slot_now()));
    }
    lane.pin().unwrap().read()
}

/// Checks that nothing is left when the reader is gone.
fn finish(domain: &Domain<Watched>, lane: Lane<Watched, Nothing>) {
    drop(lane);
    drop(domain.reclaim());
    assert_eq!(domain.waiting(u64::MAX), 0);
}

#[test]
fn a_reader_never_sees_a_value_that_was_freed() {
    loom::model(|| {
        let (domain, looks) = (Arc::new(Domain::new()), Looks::new(1, 0));
        let lane = looks.reader(&domain);
        let writer = {
            let (domain, looks) = (Arc::clone(&domain), Arc::clone(&looks));
            thread::spawn(move || {
                domain.publish(&looks.slots[0], Watched::new(2), everywhere());
                drop(domain.reclaim());
            })
        };
        let mut last = 0;
        for _ in 0..2 {
            let seen = look(&lane, &looks);
            assert!(seen >= last, "back from {last} to {seen}");
            last = seen;
        }
        writer.join().unwrap();
        // Once the writer is done everybody sees the newest value.
        assert_eq!(look(&lane, &looks), 2);
        finish(&domain, lane);
    });
}

#[test]
fn a_reader_that_held_a_value_keeps_it_until_it_moves_on() {
    loom::model(|| {
        let (domain, looks) = (Arc::new(Domain::new()), Looks::new(1, 0));
        let lane = looks.reader(&domain);
        assert_eq!(look(&lane, &looks), 1);
        let writer = {
            let (domain, looks) = (Arc::clone(&domain), Arc::clone(&looks));
            thread::spawn(move || {
                domain.publish(&looks.slots[0], Watched::new(2), everywhere());
                drop(domain.reclaim());
                domain.publish(&looks.slots[0], Watched::new(3), everywhere());
                drop(domain.reclaim());
            })
        };
        let pinned = lane.pin().unwrap();
        assert_eq!(pinned.read(), 1);
        assert!(!lane.refresh(|| looks.slot_now()), "a pinned lane stays");
        assert_eq!(pinned.read(), 1);
        drop(pinned);
        assert!((1..=3).contains(&look(&lane, &looks)));
        writer.join().unwrap();
        assert_eq!(look(&lane, &looks), 3);
        finish(&domain, lane);
    });
}

#[test]
fn a_reader_of_a_space_that_moves_sees_the_old_view_or_the_new_one_and_then_only_the_new_one() {
    loom::model(|| {
        // What State::publish does when a space leaves a view that changes in the same transaction and nobody else
        // looks at: the space moves to the new view (2); the old view (1) is taken out of its slot, which then shows
        // the empty view (0), which no reader of the space may ever see.
        let (domain, looks) = (Arc::new(Domain::new()), Looks::new(1, 2));
        let lane = looks.reader(&domain);
        let writer = {
            let (domain, looks) = (Arc::clone(&domain), Arc::clone(&looks));
            thread::spawn(move || {
                looks.move_to(1, &domain);
                domain.publish(&looks.slots[0], Watched::new(0), everywhere());
                drop(domain.reclaim());
            })
        };
        let mut last = 1;
        for _ in 0..2 {
            let seen = look(&lane, &looks);
            assert!(seen >= last, "{seen} after {last}");
            last = seen;
        }
        writer.join().unwrap();
        assert_eq!(look(&lane, &looks), 2);
        finish(&domain, lane);
    });
}

#[test]
fn what_changes_after_a_move_is_seen_through_the_new_slot() {
    loom::model(|| {
        let (domain, looks) = (Arc::new(Domain::new()), Looks::new(1, 2));
        let lane = looks.reader(&domain);
        assert_eq!(look(&lane, &looks), 1);
        let writer = {
            let (domain, looks) = (Arc::clone(&domain), Arc::clone(&looks));
            thread::spawn(move || {
                looks.move_to(1, &domain);
                domain.publish(&looks.slots[1], Watched::new(3), everywhere());
                drop(domain.reclaim());
            })
        };
        let mut last = 1;
        for _ in 0..2 {
            let seen = look(&lane, &looks);
            assert!(seen >= last, "{seen} after {last}");
            last = seen;
        }
        writer.join().unwrap();
        assert_eq!(look(&lane, &looks), 3);
        finish(&domain, lane);
    });
}

#[test]
fn a_reader_that_comes_and_goes_while_others_publish_keeps_nothing() {
    loom::model(|| {
        let (domain, looks) = (Arc::new(Domain::new()), Looks::new(1, 0));
        let reader = {
            let (domain, looks) = (Arc::clone(&domain), Arc::clone(&looks));
            thread::spawn(move || {
                let hazards = domain.register();
                let lane: Lane<Watched, Nothing> = Lane::new(0, Arc::clone(&hazards), looks.slot_now());
                assert!([1, 2].contains(&look(&lane, &looks)));
                lane.park();
                assert!([1, 2].contains(&look(&lane, &looks)));
                drop(lane);
                domain.unregister(&hazards);
            })
        };
        domain.publish(&looks.slots[0], Watched::new(2), everywhere());
        drop(domain.reclaim());
        reader.join().unwrap();
        drop(domain.reclaim());
        assert_eq!(domain.waiting(u64::MAX), 0);
    });
}

#[test]
fn what_a_lane_keeps_of_a_place_is_what_the_value_has_there() {
    // The value tells of its two places how often each was changed: 10 * first + second. The reader keeps the first until it
    // is told that it changed.
    fn keep(lane: &Lane<Watched, Nothing>, looks: &Looks, kept: &mut Option<u32>) {
        if !lane.is_current() {
            let fresh = |span: Option<Span>| {
                if span.is_none_or(|s| s.start == 0) {
                    *kept = None;
                }
            };
            assert!(lane.refresh_telling(|| looks.slot_now(), true, fresh));
        }
        let first = lane.pin().unwrap().read() / 10;
        assert_eq!(*kept.get_or_insert(first), first);
    }
    let place = |n| [Span { start: n, last: n }].into_iter();
    loom::model(move || {
        let (domain, looks) = (Arc::new(Domain::new()), Looks::new(11, 0));
        let lane = looks.reader(&domain);
        let mut kept = None;
        keep(&lane, &looks, &mut kept);
        // So that there are notes from now on.
        domain.publish(&looks.slots[0], Watched::new(12), place(1));
        keep(&lane, &looks, &mut kept);
        let writer = {
            let (domain, looks) = (Arc::clone(&domain), Arc::clone(&looks));
            thread::spawn(move || {
                domain.publish(&looks.slots[0], Watched::new(13), place(1));
                domain.publish(&looks.slots[0], Watched::new(23), place(0));
            })
        };
        keep(&lane, &looks, &mut kept);
        keep(&lane, &looks, &mut kept);
        writer.join().unwrap();
        keep(&lane, &looks, &mut kept);
        assert_eq!(kept, Some(2));
        finish(&domain, lane);
    });
}
