use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Domain, Lane, Memo, Slot};

/// Remembers a number of the value.
struct Number;

impl Memo for Number {
    type Reads<'v> = Option<&'v u32>;
    type Writes<'v> = ();
}

struct Counted(u32, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

fn counted(n: u32, alive: &Arc<AtomicUsize>) -> Arc<Counted> {
    alive.fetch_add(1, Ordering::Relaxed);
    Arc::new(Counted(n, Arc::clone(alive)))
}

#[test]
fn a_replaced_value_lives_until_the_last_lane_moves_on() {
    let alive = Arc::new(AtomicUsize::new(0));
    let domain = Domain::new();
    let slot = Arc::new(Slot::new(counted(1, &alive)));
    let hazards = domain.register();
    let lane: Lane<Counted, Number> = Lane::new(0, hazards, Arc::clone(&slot));
    assert!(!lane.is_current());
    assert!(lane.pin().is_none());
    assert!(lane.refresh(|| Arc::clone(&slot)));
    let pinned = lane.pin().unwrap();
    assert_eq!(pinned.remember_reads(|v| (Some(&v.0), Some(Some(&v.0)))), Some(&1));
    assert_eq!(
        pinned.remember_reads(|v| (Some(&v.0), None)),
        Some(&1),
        "what is not worth it is not remembered"
    );
    assert_eq!(lane.on_reads(|m| m.copied()), Some(1));

    domain.publish(&slot, counted(2, &alive));
    drop(domain.reclaim());
    assert_eq!(alive.load(Ordering::Relaxed), 2);
    assert!(!lane.is_current());
    assert!(!lane.refresh(|| Arc::clone(&slot)), "a pinned lane stays");
    assert_eq!((pinned.0, pinned.reads().copied()), (1, Some(1)));

    drop(pinned);
    assert!(lane.refresh(|| Arc::clone(&slot)));
    assert_eq!(lane.pin().unwrap().0, 2);
    assert_eq!(lane.pin().unwrap().reads(), None, "the memo went with the old value");
    drop(domain.reclaim());
    assert_eq!(alive.load(Ordering::Relaxed), 1);

    lane.park();
    domain.publish(&slot, counted(3, &alive));
    drop(domain.reclaim());
    assert_eq!(alive.load(Ordering::Relaxed), 1, "a parked lane keeps nothing");
}

#[test]
fn nothing_grows_under_many_publications() {
    let alive = Arc::new(AtomicUsize::new(0));
    let domain = Domain::new();
    let slot = Arc::new(Slot::new(counted(0, &alive)));
    let lane: Lane<Counted, Number> = Lane::new(0, domain.register(), Arc::clone(&slot));
    for n in 0..100_000 {
        lane.refresh(|| Arc::clone(&slot));
        domain.publish(&slot, counted(n, &alive));
        drop(domain.reclaim());
        assert!(alive.load(Ordering::Relaxed) <= 3);
    }
    assert!(domain.waiting(u64::MAX) <= 2);
}
