//! What the last publications into a slot changed, for readers that keep more than one place of a value.
//!
//! What it is: a ring of notes, one for each version, each with the spans in which the value of that version may differ from
//! the one before. What it is not: needed: who finds no note of a version must take it that everything changed.
//!
//! What must hold:
//! - **N1** a note is visible before the value that it is about can be loaded from the slot.
//! - **N2** who finds a note of a version finds it whole: a note that is being written has no version.
//! - **N3** what the notes from one version to another do not name is the same in both.
//! - **N4** every version after the one that [`since`](Told::since) gives has a note, before its value can be loaded; who sees
//!   that a note is being written sees that its version has begun.

use super::{AtomicU64, Ordering, fence};
use crate::span::Span;

/// Notes in a ring: so many publications may pass between two looks of a reader. The models have two.
const KEPT: u64 = if cfg!(loom) { 2 } else { 64 };

/// Spans in a note: a region that is moved touches two places. Of more the hull is noted.
const SPANS: usize = 2;

/// A span; one that ends before it begins is none.
struct Place {
    start: AtomicU64,
    last: AtomicU64,
}

struct Note {
    /// 0, which no publication has, while it is written.
    version: AtomicU64,
    places: [Place; SPANS],
}

/// The notes of a slot.
pub(super) struct Told {
    notes: Box<[Note]>,
    /// `u64::MAX` until it is known.
    since: AtomicU64,
}

impl Told {
    pub fn new() -> Self {
        let place = || Place { start: AtomicU64::new(1), last: AtomicU64::new(0) };
        let note = |_| Note { version: AtomicU64::new(0), places: std::array::from_fn(|_| place()) };
        Self { notes: (0..KEPT).map(note).collect(), since: AtomicU64::new(u64::MAX) }
    }

    /// The version after which each has a note. `begun` gives the last one that may have none, now that the notes can be found.
    pub fn since(&self, begun: impl FnOnce() -> u64) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            // Two may do this at once: either answer is right.
            u64::MAX => {
                let since = begun();
                self.since.store(since, Ordering::Relaxed);
                since
            }
            since => since,
        }
    }

    fn note(&self, version: u64) -> Option<&Note> {
        self.notes.get((version % KEPT) as usize)
    }

    /// Notes what `version` changes. Whoever publishes does so alone.
    pub fn tell(&self, version: u64, spans: impl Iterator<Item = Span>) {
        let Some(note) = self.note(version) else { return };
        // Who sees it sees that the version has begun (N4).
        note.version.store(0, Ordering::Release);
        // Who sees a part of the new note sees that it has no version (N2); pairs with the fence in `read`.
        fence(Ordering::Release);
        let mut known = [None; SPANS];
        for span in spans {
            match known.iter_mut().find(|k| k.is_none()) {
                Some(free) => *free = Some(span),
                None => {
                    let all = known.iter().flatten().fold(span, |a: Span, b: &Span| Span {
                        start: a.start.min(b.start),
                        last: a.last.max(b.last),
                    });
                    known = [None; SPANS];
                    if let Some(first) = known.first_mut() {
                        *first = Some(all);
                    }
                }
            }
        }
        for (place, span) in note.places.iter().zip(known) {
            let (start, last) = span.map_or((1, 0), |s| (s.start, s.last));
            place.start.store(start, Ordering::Relaxed);
            place.last.store(last, Ordering::Relaxed);
        }
        note.version.store(version, Ordering::Release);
    }

    /// Gives `f` what `version` changed; `false` if that is not known (any more), and then `f` may have got anything.
    pub fn read(&self, version: u64, f: &mut impl FnMut(Span)) -> bool {
        let Some(note) = self.note(version).filter(|n| n.version.load(Ordering::Acquire) == version) else {
            return false;
        };
        for place in &note.places {
            let (start, last) = (place.start.load(Ordering::Relaxed), place.last.load(Ordering::Relaxed));
            if start <= last {
                f(Span { start, last });
            }
        }
        fence(Ordering::Acquire);
        note.version.load(Ordering::Relaxed) == version
    }
}
