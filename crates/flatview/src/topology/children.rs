//! A container's children, found by address.
//!
//! What must hold: every child stands in exactly one of the two sets, by its attributes now. The visible ones
//! (enabled, at least one byte) are grouped by the power of two of their size: within a group a child that
//! overlaps a window starts at most two sizes before it, so a search looks at few that do not.

use std::collections::{BTreeMap, BTreeSet};

use super::Attrs;
use crate::span::Span;

#[derive(Default)]
pub(crate) struct Children {
    /// (size class, start, index) to last.
    visible: BTreeMap<(u8, u64, u32), u64>,
    /// Disabled or empty ones.
    hidden: BTreeSet<u32>,
    /// One bit for each size class in use.
    classes: u128,
    /// How many are enabled, empty ones included.
    pub enabled: usize,
}

fn class(span: Span) -> u8 {
    span.size().ilog2() as u8
}

impl Children {
    fn key(index: u32, attrs: &Attrs) -> Option<((u8, u64, u32), u64)> {
        let span = attrs.extent().filter(|_| attrs.enabled)?;
        Some(((class(span), span.start, index), span.last))
    }

    pub fn insert(&mut self, index: u32, attrs: &Attrs) {
        self.enabled += usize::from(attrs.enabled);
        match Self::key(index, attrs) {
            Some((key, last)) => {
                self.visible.insert(key, last);
                self.classes |= 1 << key.0;
            }
            None => {
                self.hidden.insert(index);
            }
        }
    }

    pub fn remove(&mut self, index: u32, attrs: &Attrs) {
        self.enabled -= usize::from(attrs.enabled);
        match Self::key(index, attrs) {
            Some((key, _)) => {
                self.visible.remove(&key);
                if self.visible.range((key.0, 0, 0)..(key.0 + 1, 0, 0)).next().is_none() {
                    self.classes &= !(1 << key.0);
                }
            }
            None => {
                self.hidden.remove(&index);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.visible.is_empty() && self.hidden.is_empty()
    }

    /// All of them, in no order that means anything.
    pub fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.visible.keys().map(|k| k.2).chain(self.hidden.iter().copied())
    }

    /// Adds to `out` the visible ones that overlap `window`.
    pub fn overlapping(&self, window: Span, out: &mut Vec<u32>) {
        let mut classes = self.classes;
        while classes != 0 {
            let class = classes.trailing_zeros() as u8;
            classes &= classes - 1;
            // Sizes in this class are below 2^(class + 1).
            let reach = (1_u128 << (class + 1)) - 2;
            let from = u64::try_from(u128::from(window.start).saturating_sub(reach)).unwrap_or(0);
            let candidates = self.visible.range((class, from, 0)..=(class, window.last, u32::MAX));
            out.extend(candidates.filter(|(_, last)| **last >= window.start).map(|(k, _)| k.2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_finds_what_overlaps_it_and_nothing_else() {
        let mut children = Children::default();
        let mut all = Vec::new();
        for i in 0..200_u32 {
            let attrs = Attrs {
                addr: u64::from(i) * 37 % 1000,
                enabled: i % 7 != 0,
                ..Attrs::new(u128::from(i % 60))
            };
            children.insert(i, &attrs);
            all.push(attrs);
        }
        children.insert(200, &Attrs::new(crate::WHOLE));
        all.push(Attrs::new(crate::WHOLE));
        for (start, last) in [(0, 0), (100, 120), (500, 999), (1100, u64::MAX), (0, u64::MAX)] {
            let window = Span { start, last };
            let mut found = Vec::new();
            children.overlapping(window, &mut found);
            found.sort_unstable();
            let expect: Vec<u32> = (0..)
                .zip(&all)
                .filter(|(_, a)| a.enabled && a.extent().is_some_and(|e| e.intersection(window).is_some()))
                .map(|(i, _)| i)
                .collect();
            assert_eq!(found, expect);
        }
        for (i, attrs) in (0..).zip(&all) {
            children.remove(i, attrs);
        }
        assert!(children.is_empty() && children.classes == 0 && children.enabled == 0);
    }
}
