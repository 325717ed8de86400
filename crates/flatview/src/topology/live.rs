//! Liveness: whether a view is rendered from a region, or from one that shows it, hidden or not.
//!
//! What it is for: only live regions need to be looked at when a change is followed up to the views. Where an alias
//! shows its own ancestor the two may keep each other live after the view is gone; that costs time and nothing else.
//!
//! What must hold: a region's count is that of the live containers and aliases that show it, and one more if a view is
//! rendered from it; of a region's aliases the live ones come first, and each knows its place among them.

use super::record::Family;
use super::{NONE, Record, Topology};

impl Topology {
    /// Notes that `alias` has `target` as target.
    pub(super) fn link_alias(&mut self, target: u32, alias: u32) {
        let live = self.get(alias).is_some_and(Record::is_live);
        let Some(record) = self.arena.get_mut(target) else {
            return;
        };
        let place = record.change_family(|family| {
            family.aliases.push(alias);
            family.aliases.len() as u32 - 1
        });
        self.note_place(alias, place);
        if live {
            self.place_alias(target, alias, true);
            self.count_live(target, true);
        }
    }

    /// Notes that `alias`, which is still there, no longer has `target` as target.
    pub(super) fn unlink_alias(&mut self, target: u32, alias: u32) {
        let was_live = self.place_alias(target, alias, false);
        let Some((record, place)) = self.place_of(target, alias) else {
            return;
        };
        let moved = record.change_family(|family| {
            family.aliases.swap_remove(place as usize);
            family.aliases.get(place as usize).copied()
        });
        if let Some(moved) = moved {
            self.note_place(moved, place);
        }
        if was_live {
            self.count_live(target, false);
        }
    }

    /// Before a region is taken out: it is no alias any more.
    pub(super) fn unlink_target(&mut self, index: u32) {
        if let Some(target) = self.get(index).map(|r| r.attrs.target).filter(|t| *t != NONE) {
            self.unlink_alias(target, index);
        }
    }

    /// A target, and where among its aliases one of them stands.
    fn place_of(&mut self, target: u32, alias: u32) -> Option<(&mut Record, u32)> {
        let place = self.get(alias)?.place;
        let record = self.arena.get_mut(target)?;
        (record.aliases().get(place as usize) == Some(&alias)).then_some((record, place))
    }

    fn note_place(&mut self, alias: u32, place: u32) {
        if let Some(record) = self.arena.get_mut(alias) {
            record.place = place;
        }
    }

    /// Puts an alias of `target` among the live ones or the others; tells whether it was live.
    fn place_alias(&mut self, target: u32, alias: u32, live: bool) -> bool {
        let Some((record, from)) = self.place_of(target, alias) else {
            return false;
        };
        let (was, to, other) = record.change_family(|family| family.place_alias(from, live));
        self.note_place(other, from);
        self.note_place(alias, to);
        was
    }

    /// Says whether a view is rendered from a region.
    pub fn set_root(&mut self, index: u32, is_root: bool) {
        if let Some(record) = self.arena.get_mut(index)
            && record.change_family(|family| std::mem::replace(&mut family.is_root, is_root)) != is_root
        {
            self.count_live(index, is_root);
        }
    }

    /// One more, or one less, that is live shows this one.
    pub(super) fn count_live(&mut self, index: u32, more: bool) {
        if let Some(record) = self.arena.get_mut(index) {
            let was = record.is_live();
            record.shown_by = record.shown_by.saturating_add_signed(if more { 1 } else { -1 });
            let live = record.is_live();
            if was != live {
                self.turned(index, live);
            }
        }
    }

    /// A region became live, or no longer is: so do those that only it shows.
    fn turned(&mut self, index: u32, live: bool) {
        let mut work = vec![index];
        while let Some(index) = work.pop() {
            let Some(record) = self.get(index) else {
                continue;
            };
            let target = record.attrs.target;
            let mut shown: Vec<u32> = record.children().map_or_else(Vec::new, |c| c.all().collect());
            if target != NONE {
                self.place_alias(target, index, live);
                shown.push(target);
            }
            for index in shown {
                if let Some(record) = self.arena.get_mut(index) {
                    let was = record.is_live();
                    record.shown_by = record.shown_by.saturating_add_signed(if live { 1 } else { -1 });
                    if was != record.is_live() {
                        work.push(index);
                    }
                }
            }
        }
    }
}

impl Family {
    /// Puts the alias at `from` among the live ones or the others: whether it was live, where it is now, and which one
    /// took its place.
    fn place_alias(&mut self, from: u32, live: bool) -> (bool, u32, u32) {
        let was = from < self.live_aliases;
        let to = match (was, live) {
            (false, true) => {
                self.live_aliases += 1;
                self.live_aliases - 1
            }
            (true, false) => {
                self.live_aliases -= 1;
                self.live_aliases
            }
            _ => from,
        };
        self.aliases.swap(from as usize, to as usize);
        (was, to, self.aliases.get(from as usize).copied().unwrap_or(NONE))
    }
}
