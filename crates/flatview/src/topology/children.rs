//! A container's children, found by address.
//!
//! What must hold: every child stands in the set once, under the key that its attributes give now. Those that have a
//! byte are grouped by their size, rounded up to a power of two: within a group a child that overlaps a window starts
//! less than that size before it, so a search looks at few that do not. To show or hide a child changes a bit of its
//! key and not its place.

use super::sorted::{HIDDEN, Sorted};
use super::{Attrs, Found};
use crate::span::Span;

/// Keys of the empty ones have this in place of the size's class.
const EMPTY: u8 = u8::MAX;

#[derive(Default)]
pub(crate) struct Children {
    /// Of each: see [`key`].
    keys: Sorted,
    /// One bit for each size class in use, 0 to 64.
    classes: u128,
    /// How many are enabled, empty ones included.
    enabled: u32,
}

/// The power of two that a size is rounded up to.
fn class(span: Span) -> u8 {
    // One less than the size, so that it fits.
    (u64::BITS - (span.last - span.start).leading_zeros()) as u8
}

/// Size class, start and index, and room for [`HIDDEN`].
fn key(class: u8, start: u64, index: u32) -> u128 {
    u128::from(class) << 97 | u128::from(start) << 33 | u128::from(index) << 1
}

fn class_of(key: u128) -> u8 {
    (key >> 97) as u8
}

fn start_of(key: u128) -> u64 {
    (key >> 33) as u64
}

fn index_of(key: u128) -> u32 {
    (key >> 1) as u32
}

impl Children {
    fn key(index: u32, attrs: &Attrs) -> u128 {
        let key = attrs.extent().map_or(key(EMPTY, 0, index), |span| key(class(span), span.start, index));
        if attrs.enabled() { key } else { key | HIDDEN }
    }

    pub fn insert(&mut self, index: u32, attrs: &Attrs) {
        self.enabled += u32::from(attrs.enabled());
        let key = Self::key(index, attrs);
        self.keys.insert(key);
        if class_of(key) != EMPTY {
            self.classes |= 1 << class_of(key);
        }
    }

    pub fn remove(&mut self, index: u32, attrs: &Attrs) {
        self.enabled -= u32::from(attrs.enabled());
        let key = Self::key(index, attrs);
        let class = class_of(key);
        let neighbours = self.keys.remove(key);
        let mut neighbours = neighbours.iter().flatten().flatten();
        if class != EMPTY && neighbours.all(|k| class_of(*k) != class) {
            self.classes &= !(1 << class);
        }
    }

    /// A child that stays here has other attributes.
    pub fn change(&mut self, index: u32, old: &Attrs, new: &Attrs) {
        let (from, to) = (Self::key(index, old), Self::key(index, new));
        if from ^ to == HIDDEN {
            self.keys.replace(from, to);
            self.enabled = self.enabled - u32::from(old.enabled()) + u32::from(new.enabled());
        } else if from != to {
            self.remove(index, old);
            self.insert(index, new);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The enabled one, if there is just one.
    pub fn only_enabled(&self) -> Option<u32> {
        let mut enabled = self.keys.shown_in(0, u128::MAX);
        if self.enabled == 1 { enabled.next().map(index_of) } else { None }
    }

    /// How many are enabled, empty ones included.
    pub fn enabled(&self) -> u32 {
        self.enabled
    }

    /// All of them, in no order that means anything.
    pub fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.keys.iter().map(index_of)
    }

    /// Adds to `out` the enabled ones that overlap `window`. `last` tells where one ends; it is asked only of those
    /// that start before the window, because what it looks at may be far away.
    pub fn overlapping(&self, window: Span, last: impl Fn(u32) -> Option<u64>, out: &mut Found) {
        let mut classes = self.classes;
        while classes != 0 {
            let class = classes.trailing_zeros() as u8;
            classes &= classes - 1;
            // How far the last byte of one in this class is from its first, at most.
            let reach = u64::MAX.checked_shr(u64::BITS - u32::from(class)).unwrap_or(0);
            let from = key(class, window.start.saturating_sub(reach), 0);
            let to = key(class, window.last, u32::MAX);
            let reaches = |key: &u128| {
                start_of(*key) >= window.start
                    || last(index_of(*key)).is_some_and(|last| last >= window.start)
            };
            out.extend(self.keys.shown_in(from, to).filter(reaches).map(index_of));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::attrs::Flag;
    use super::*;

    #[test]
    fn a_window_finds_what_overlaps_it_and_nothing_else() {
        let mut children = Children::default();
        let mut all = Vec::new();
        for i in 0..200_u32 {
            let attrs = Attrs { addr: u64::from(i) * 37 % 1000, ..Attrs::new(u128::from(i % 60)) };
            let attrs = attrs.with(Flag::Enabled, i % 7 != 0);
            children.insert(i, &attrs);
            all.push(attrs);
        }
        children.insert(200, &Attrs::new(crate::WHOLE));
        all.push(Attrs::new(crate::WHOLE));
        for (start, last) in [(0, 0), (100, 120), (500, 999), (1100, u64::MAX), (0, u64::MAX)] {
            let window = Span { start, last };
            let mut found = Found::new();
            children.overlapping(window, |i| all[i as usize].extent().map(|e| e.last), &mut found);
            found.sort_unstable();
            let expect: Vec<u32> = (0..)
                .zip(&all)
                .filter(|(_, a)| a.enabled() && a.extent().is_some_and(|e| e.intersection(window).is_some()))
                .map(|(i, _)| i)
                .collect();
            assert_eq!(*found, *expect);
        }
        // As many ways as there are to change one, and back.
        let changes = |a: &Attrs| {
            [a.with(Flag::Enabled, !a.enabled()), a.with_size(a.size() / 3), Attrs { addr: 7, ..*a }]
        };
        for (i, attrs) in (0..).zip(&all) {
            let mut now = *attrs;
            for next in changes(attrs).into_iter().chain([*attrs]) {
                children.change(i, &now, &next);
                now = next;
            }
        }
        assert_eq!(children.enabled as usize, all.iter().filter(|a| a.enabled()).count());
        for (i, attrs) in (0..).zip(&all) {
            children.remove(i, attrs);
        }
        assert!(children.is_empty() && children.classes == 0 && children.enabled == 0);
    }

    #[test]
    fn only_what_may_reach_into_a_window_is_asked_where_it_ends() {
        // Pages side by side: none but the one in the window is looked at.
        let mut children = Children::default();
        for i in 0..100 {
            children.insert(i, &Attrs { addr: u64::from(i) << 12, ..Attrs::new(1 << 12) });
        }
        let mut found = Found::new();
        let window = Span { start: 50 << 12, last: (51 << 12) - 1 };
        children.overlapping(window, |i| panic!("{i} was asked"), &mut found);
        assert_eq!(*found, [50]);
    }
}
