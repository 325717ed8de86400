use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Domain, Lane, Memo, Slot};
use crate::span::Span;

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

fn everywhere() -> std::array::IntoIter<Span, 1> {
    [Span::ALL].into_iter()
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
    assert_eq!(lane.on_reads(|m| m.copied(), || None), Some(1));

    domain.publish(&slot, counted(2, &alive), everywhere());
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
    domain.publish(&slot, counted(3, &alive), everywhere());
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
        domain.publish(&slot, counted(n, &alive), everywhere());
        drop(domain.reclaim());
        assert!(alive.load(Ordering::Relaxed) <= 3);
    }
    assert!(domain.waiting(u64::MAX) <= 2);
}

/// What a lane that moves on is told, or that it is told nothing.
fn told(lane: &Lane<Counted, Number>, slot: &Arc<Slot<Counted>>) -> Option<Vec<(u64, u64)>> {
    let mut spans = Some(Vec::new());
    let refreshed = lane.refresh_telling(
        || Arc::clone(slot),
        true,
        |span| match span {
            Some(span) => spans.iter_mut().for_each(|s| s.push((span.start, span.last))),
            None => spans = None,
        },
    );
    assert!(refreshed);
    spans
}

#[test]
fn a_lane_that_moves_on_is_told_all_that_changed_meanwhile_or_that_it_is_not_known() {
    let alive = Arc::new(AtomicUsize::new(0));
    let domain = Domain::new();
    let slot = Arc::new(Slot::new(counted(0, &alive)));
    let lane: Lane<Counted, Number> = Lane::new(0, domain.register(), Arc::clone(&slot));
    let publish = |spans: &[(u64, u64)]| {
        let spans = spans.iter().map(|(start, last)| Span { start: *start, last: *last });
        domain.publish(&slot, counted(1, &alive), spans);
        drop(domain.reclaim());
    };
    assert_eq!(told(&lane, &slot), None, "it had no value");
    publish(&[(1, 2)]);
    assert_eq!(told(&lane, &slot), None, "nobody had asked");
    assert_eq!(told(&lane, &slot), Some(vec![]));
    publish(&[(1, 2)]);
    assert_eq!(told(&lane, &slot), Some(vec![(1, 2)]));
    publish(&[(0, 0), (7, 9)]);
    publish(&[(5, u64::MAX)]);
    publish(&[]);
    assert_eq!(told(&lane, &slot), Some(vec![(0, 0), (7, 9), (5, u64::MAX)]));
    publish(&[(5, 6), (20, 29), (2, 3), (40, 41), (50, 50)]);
    let hull = told(&lane, &slot).unwrap();
    for at in [5, 6, 20, 29, 2, 3, 40, 41, 50] {
        assert!(hull.iter().any(|(start, last)| *start <= at && at <= *last), "{at} is not in {hull:?}");
    }
    domain.bump(&slot);
    assert_eq!(told(&lane, &slot), Some(vec![(0, u64::MAX)]), "all may be different");
    assert_eq!(told(&lane, &slot), Some(vec![]));
    for n in 1..=80 {
        publish(&[(n, n)]);
        let few = told(&lane, &slot);
        assert_eq!(few, Some(vec![(n, n)]));
    }
    (0..63).for_each(|n| publish(&[(n, n)]));
    assert_eq!(told(&lane, &slot).map(|s| s.len()), Some(63));
    (0..65).for_each(|n| publish(&[(n, n)]));
    assert_eq!(told(&lane, &slot), None, "the first note is overwritten");
    publish(&[(3, 4)]);
    lane.park();
    publish(&[(8, 9)]);
    assert_eq!(told(&lane, &slot), Some(vec![(3, 4), (8, 9)]), "what it had before it was parked counts");
    let other = Arc::new(Slot::new(counted(9, &alive)));
    assert_eq!(told(&lane, &other), None, "another slot");
}
