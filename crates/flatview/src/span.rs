//! Inclusive ranges of addresses.
//!
//! What it is: a non-empty run of 64-bit addresses that may reach the last one, and the signed arithmetic that
//! moves one. What it is not: a size; sizes are `u128`, because a region can be 2^64 bytes or none.

use smallvec::SmallVec;

/// 2^64: the size of a region that covers every address.
pub const WHOLE: u128 = 1 << 64;

/// `start..=last`, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub start: u64,
    pub last: u64,
}

impl Span {
    pub const ALL: Self = Self { start: 0, last: u64::MAX };

    /// `size` bytes from `start`, cut at the last address; `None` if `size` is 0.
    pub fn sized(start: u64, size: u128) -> Option<Self> {
        let last = (u128::from(start) + size).checked_sub(1)?;
        (size > 0).then(|| Self { start, last: u64::try_from(last).unwrap_or(u64::MAX) })
    }

    /// The part of `lo..=hi` that lies in `0..2^64`.
    pub fn clipped(lo: i128, hi: i128) -> Option<Self> {
        let lo = lo.max(0);
        let hi = hi.min(i128::from(u64::MAX));
        (lo <= hi).then_some(Self { start: lo as u64, last: hi as u64 })
    }

    /// This span moved by `by` and cut to what fits in `0..size`.
    pub fn moved_into(self, by: i128, size: u128) -> Option<Self> {
        let top = i128::try_from(size).ok()?.checked_sub(1)?;
        Self::clipped(i128::from(self.start) + by, (i128::from(self.last) + by).min(top))
    }

    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let last = self.last.min(other.last);
        (start <= last).then_some(Self { start, last })
    }

    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.last <= self.last
    }

    /// The number of bytes.
    pub fn size(self) -> u128 {
        u128::from(self.last) - u128::from(self.start) + 1
    }

    /// Whether the two overlap or stand side by side.
    pub fn touches(self, other: Self) -> bool {
        let after = |a: Self, b: Self| a.last.checked_add(1).is_some_and(|next| next < b.start);
        !after(self, other) && !after(other, self)
    }
}

/// Disjoint spans in address order, neighbours joined.
///
/// Past [`SpanSet::MOST`] pieces it keeps their hull instead: a set is only used to say what must be rendered
/// anew, and rendering too much is slower but never wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SpanSet {
    /// One change touches one or two places.
    spans: SmallVec<[Span; 2]>,
}

impl SpanSet {
    const MOST: usize = 64;

    pub fn new() -> Self {
        Self::default()
    }

    pub fn covers(&self, span: Span) -> bool {
        let at = self.spans.partition_point(|s| s.last < span.start);
        self.spans.get(at).is_some_and(|s| s.contains(span))
    }

    pub fn insert(&mut self, mut span: Span) {
        let from = self.spans.partition_point(|s| !s.touches(span) && s.last < span.start);
        let mut to = from;
        while let Some(s) = self.spans.get(to) {
            if !s.touches(span) {
                break;
            }
            span = Span { start: span.start.min(s.start), last: span.last.max(s.last) };
            to += 1;
        }
        match self.spans.get_mut(from).filter(|_| from < to) {
            Some(first) => {
                *first = span;
                self.spans.drain(from + 1..to);
            }
            None => self.spans.insert(from, span),
        }
        if self.spans.len() > Self::MOST {
            let hull =
                self.spans.first().zip(self.spans.last()).map(|(a, b)| Span { start: a.start, last: b.last });
            self.spans.clear();
            self.spans.extend(hull);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, last: u64) -> Span {
        Span { start, last }
    }

    #[test]
    fn a_span_of_the_whole_space_ends_at_the_last_address() {
        assert_eq!(Span::sized(0, WHOLE), Some(Span::ALL));
        assert_eq!(Span::sized(5, 0), None);
        assert_eq!(Span::sized(u64::MAX, 1), Some(span(u64::MAX, u64::MAX)));
        assert_eq!(Span::ALL.size(), WHOLE);
    }

    #[test]
    fn a_set_joins_neighbours_and_overlaps() {
        let mut set = SpanSet::default();
        set.insert(span(10, 19));
        set.insert(span(30, 39));
        set.insert(span(20, 29));
        assert_eq!(set.iter().collect::<Vec<_>>(), [span(10, 39)]);
        assert!(set.covers(span(15, 35)));
        assert!(!set.covers(span(5, 12)));
        set.insert(span(0, u64::MAX));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Span::ALL]);
    }

    #[test]
    fn a_set_with_too_many_pieces_keeps_their_hull() {
        let mut set = SpanSet::default();
        for i in 0..100 {
            set.insert(span(i * 10, i * 10 + 1));
        }
        assert!(set.iter().count() <= SpanSet::MOST);
        for i in 0..100 {
            assert!(set.covers(span(i * 10, i * 10 + 1)));
        }
    }
}
