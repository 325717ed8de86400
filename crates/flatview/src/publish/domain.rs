//! Slots, and the domain that publishes into them and frees what was replaced.
//!
//! UNSAFE: slots keep an `Arc` as a raw pointer so that readers can load it without counting.
#![expect(unsafe_code, reason = "an Arc is kept as a raw pointer that readers load atomically")]

use std::sync::Arc;

use super::told::Told;
use super::{AtomicPtr, AtomicU64, LANES, Mutex, Ordering, fence};
use crate::span::Span;

/// A place where one value at a time is published.
pub(crate) struct Slot<T> {
    /// Goes up whenever readers must look again.
    version: AtomicU64,
    /// From `Arc::into_raw`; the slot owns one count of it.
    current: AtomicPtr<T>,
    /// As the version, but goes up before what it announces is there.
    begun: AtomicU64,
    /// What the last versions changed, once a reader has asked: null, or from `Box::into_raw` and there as long as the slot.
    told: AtomicPtr<Told>,
}

impl<T> Slot<T> {
    pub fn new(value: Arc<T>) -> Self {
        Self {
            version: AtomicU64::new(1),
            current: AtomicPtr::new(Arc::into_raw(value).cast_mut()),
            begun: AtomicU64::new(1),
            told: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn current(&self) -> *mut T {
        self.current.load(Ordering::Acquire)
    }

    /// Whether what is published now is `value`, which somebody keeps from being freed, or its place in memory from being
    /// used again.
    pub fn publishes(&self, value: *const T) -> bool {
        self.current().cast_const() == value
    }

    /// Begins a version, and notes what it changes.
    fn begin(&self, changed: impl Iterator<Item = Span>) {
        let version = self.begun.fetch_add(1, Ordering::Release) + 1;
        // Pairs with the fence in `told`.
        fence(Ordering::SeqCst);
        // Nobody has asked yet: whoever does finds no note of this version.
        if let Some(told) = self.notes() {
            told.tell(version, changed);
        }
    }

    fn notes(&self) -> Option<&Told> {
        // SAFETY: it is null or from a box that goes with the slot, and its making was before it was put there.
        unsafe { self.told.load(Ordering::Acquire).as_ref() }
    }

    /// The notes, made if nobody has asked before.
    // Not a `OnceLock`: no lock, and ThreadSanitizer cannot see into it.
    fn notes_made(&self) -> &Told {
        if let Some(told) = self.notes() {
            return told;
        }
        let new = Box::into_raw(Box::new(Told::new()));
        let (none, set) = (std::ptr::null_mut(), Ordering::AcqRel);
        match self.told.compare_exchange(none, new, set, Ordering::Acquire) {
            // SAFETY: from the box above, which now goes with the slot.
            Ok(_) => unsafe { &*new },
            Err(other) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: as in `notes`; it was not null.
                unsafe { &*other }
            }
        }
    }

    /// The notes, and the version after which there are some.
    fn told(&self) -> (&Told, u64) {
        let told = self.notes_made();
        let since = told.since(|| {
            // Who has begun a version and found no notes is seen here.
            fence(Ordering::SeqCst);
            self.begun.load(Ordering::Acquire)
        });
        (told, since)
    }

    /// Gives `f` where what is published now (or a moment ago: what a lane has just loaded) may differ from what a lane
    /// took at the version `from`; `false` if that is not known.
    pub(super) fn changed_since(&self, from: u64, mut f: impl FnMut(Span)) -> bool {
        // The value was loaded before: every publication that it has in it has begun, and (N1) told what it changes.
        let to = self.begun.load(Ordering::Acquire);
        let (told, since) = self.told();
        if from == to {
            return true;
        }
        from >= since
            && (from + 1..to).all(|version| told.read(version, &mut f))
            // The last one may have begun this moment: if there is no whole note of it, and not because its place was
            // taken, then (N1) what was loaded is older.
            && (told.read(to, &mut f) || self.begun.load(Ordering::Acquire) == to)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        let p = self.current.load(Ordering::Acquire);
        // SAFETY: `current` is always from Arc::into_raw and owns one count. P1: slots go after the last lane that
        // could look at them, so no hazard can name it.
        drop(unsafe { Arc::from_raw(p) });
        let told = self.told.load(Ordering::Acquire);
        if !told.is_null() {
            // SAFETY: from `Box::into_raw`, and nobody else has the slot.
            drop(unsafe { Box::from_raw(told) });
        }
    }
}

/// What one lane of a reader and the domain tell each other.
#[derive(Debug)]
pub(super) struct Hazard<T> {
    /// The value that the lane looks at.
    pub named: AtomicPtr<T>,
    /// Whether the lane need not look again.
    pub fresh: Fresh,
}

/// Its own address, or 0 if a lane must look again: it looks at no value, or something newer was published, or is elsewhere.
///
/// Who knows where it is compares it with that, which takes one instruction and no other register; a comparison with a constant in
/// memory takes two operations of the processor.
#[derive(Debug)]
pub(super) struct Fresh(AtomicU64);

impl Fresh {
    fn no() -> Self {
        Self(AtomicU64::new(0))
    }

    fn address(&self) -> u64 {
        std::ptr::from_ref(self).addr() as u64
    }

    #[inline(always)]
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed) == self.address()
    }

    pub fn set(&self) {
        self.0.store(self.address(), Ordering::Relaxed);
    }

    pub fn unset(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// The hazards of one reader, one for each lane.
// Alone in its cache lines: what a reader looks at with each access is not fetched again because of what stands beside it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Hazards<T>([Hazard<T>; LANES]);

impl<T> Hazards<T> {
    fn new() -> Self {
        let hazard = |_| Hazard { named: AtomicPtr::new(std::ptr::null_mut()), fresh: Fresh::no() };
        Self(std::array::from_fn(hazard))
    }

    /// Of a lane below [`LANES`].
    #[inline]
    pub(super) fn of(&self, lane: usize) -> &Hazard<T> {
        let [first, ..] = &self.0;
        self.0.get(lane).unwrap_or(first)
    }

    fn name(&self, p: *const T) -> bool {
        self.0.iter().any(|h| h.named.load(Ordering::Acquire).cast_const() == p)
    }

    /// Tells the lanes that look at this value to look again.
    fn announce(&self, p: *const T) {
        for hazard in self.0.iter().filter(|h| h.named.load(Ordering::Acquire).cast_const() == p) {
            hazard.fresh.unset();
        }
    }
}

/// Publishes values, and frees the ones that were replaced and are looked at no more.
pub(crate) struct Domain<T> {
    readers: Mutex<Vec<Arc<Hazards<T>>>>,
    retired: Mutex<Retired<T>>,
}

/// Values that were replaced, numbered in the order of their replacement.
struct Retired<T> {
    next: u64,
    values: Vec<(u64, Arc<T>)>,
    /// Numbers of those that somebody has taken out and is about to free.
    freeing: Vec<u64>,
}

/// Values that nobody looks at any more. They count as [waiting](Domain::waiting) until this is dropped.
pub(crate) struct Reclaimed<'d, T> {
    domain: &'d Domain<T>,
    values: Vec<(u64, Arc<T>)>,
}

impl<T> Drop for Reclaimed<'_, T> {
    fn drop(&mut self) {
        /// Strikes the numbers off also if a value's own `Drop` panics.
        struct Strike<'d, T>(&'d Domain<T>, Vec<u64>);
        impl<T> Drop for Strike<'_, T> {
            fn drop(&mut self) {
                self.0.retired.lock().freeing.retain(|n| !self.1.contains(n));
            }
        }
        if !self.values.is_empty() {
            let _strike = Strike(self.domain, self.values.iter().map(|(n, _)| *n).collect());
            self.values.clear();
        }
    }
}

impl<T> Domain<T> {
    pub fn new() -> Self {
        let retired = Retired { next: 0, values: Vec::new(), freeing: Vec::new() };
        Self { readers: Mutex::new(Vec::new()), retired: Mutex::new(retired) }
    }

    pub fn register(&self) -> Arc<Hazards<T>> {
        let hazards = Arc::new(Hazards::new());
        self.readers.lock().push(Arc::clone(&hazards));
        hazards
    }

    pub fn unregister(&self, hazards: &Arc<Hazards<T>>) {
        self.readers.lock().retain(|h| !Arc::ptr_eq(h, hazards));
    }

    /// Publishes `value` in `slot`, which differs from the old one only in `changed`; the old value waits for
    /// [`reclaim`](Self::reclaim). One at a time.
    pub fn publish(&self, slot: &Slot<T>, value: Arc<T>, changed: impl Iterator<Item = Span>) {
        slot.begin(changed);
        let old = slot.current.swap(Arc::into_raw(value).cast_mut(), Ordering::AcqRel);
        slot.version.fetch_add(1, Ordering::Release);
        self.announce(old);
        // SAFETY: the pointer was in the slot, so it is from Arc::into_raw and the slot's count of it is now ours.
        let old = unsafe { Arc::from_raw(old) };
        let mut retired = self.retired.lock();
        let number = retired.next;
        retired.next += 1;
        retired.values.push((number, old));
    }

    /// Makes every reader that looks at what the slot has look again at its next access. One at a time, with
    /// [`publish`](Self::publish).
    pub fn bump(&self, slot: &Slot<T>) {
        slot.begin([Span::ALL].into_iter());
        slot.version.fetch_add(1, Ordering::Release);
        self.announce(slot.current());
    }

    /// Tells the lanes that look at a value, which is not what they would find now.
    fn announce(&self, value: *const T) {
        // Pairs with the fence in Lane::refresh: a lane that is not told sees that its value was replaced, or that its slot is
        // not where it must look any more.
        fence(Ordering::SeqCst);
        self.readers.lock().iter().for_each(|hazards| hazards.announce(value));
    }

    /// Takes out the retired values that no reader looks at. The caller drops them when it holds no lock, because
    /// with the last view of a device the device's own `Drop` may run.
    #[must_use]
    pub fn reclaim(&self) -> Reclaimed<'_, T> {
        // Pairs with the fence in Lane::refresh: see the module documentation.
        fence(Ordering::SeqCst);
        let mut retired = self.retired.lock();
        if retired.values.is_empty() {
            return Reclaimed { domain: self, values: Vec::new() };
        }
        let readers = self.readers.lock();
        let in_use = |p: *const T| readers.iter().any(|h| h.name(p));
        let values: Vec<_> = retired.values.extract_if(.., |(_, v)| !in_use(Arc::as_ptr(v))).collect();
        retired.freeing.extend(values.iter().map(|(n, _)| *n));
        Reclaimed { domain: self, values }
    }

    /// The number that the next value to be replaced will have.
    pub fn mark(&self) -> u64 {
        self.retired.lock().next
    }

    /// How many values that were replaced before `mark` are still looked at, not reclaimed yet, or being freed.
    pub fn waiting(&self, mark: u64) -> usize {
        let retired = self.retired.lock();
        let numbers = retired.values.iter().map(|(n, _)| n).chain(&retired.freeing);
        numbers.filter(|n| **n < mark).count()
    }
}
