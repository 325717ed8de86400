//! Liveness: whether a view is rendered from a region, or from one that shows it, hidden or not.
//!
//! What it is for: only live regions need to be looked at when a change is followed up to the views. Where an alias
//! shows its own ancestor the two may keep each other live after the view is gone; that costs time and nothing else.
//!
//! What must hold: a region's count is that of the live containers and aliases that show it, and one more if a view is
//! rendered from it; of a region's aliases the live ones come first.

use super::record::Family;
use super::{Record, Topology};

impl Topology {
    /// Notes that `alias` has `target` as target.
    pub(super) fn link_alias(&mut self, target: u32, alias: u32) {
        let live = self.get(alias).is_some_and(Record::is_live);
        if let Some(record) = self.arena.get_mut(target) {
            record.change_family(|family| {
                family.aliases.push(alias);
                family.place_alias(alias, live);
            });
            if live {
                self.count_live(target, true);
            }
        }
    }

    /// Notes that `alias` no longer has `target` as target.
    pub(super) fn unlink_alias(&mut self, target: u32, alias: u32) {
        if let Some(record) = self.arena.get_mut(target) {
            let live = record.change_family(|family| {
                let live = family.place_alias(alias, false);
                if let Some(at) = family.aliases.iter().rposition(|a| *a == alias) {
                    family.aliases.swap_remove(at);
                }
                live
            });
            if live {
                self.count_live(target, false);
            }
        }
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
            if let Some(record) = self.arena.get_mut(target) {
                record.change_family(|family| family.place_alias(index, live));
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
    /// Puts an alias among the live ones or the others; tells whether it was live.
    fn place_alias(&mut self, alias: u32, live: bool) -> bool {
        let Some(at) = self.aliases.iter().rposition(|a| *a == alias) else {
            return false;
        };
        let was = at < self.live_aliases as usize;
        if live && !was {
            self.aliases.swap(at, self.live_aliases as usize);
            self.live_aliases += 1;
        } else if was && !live {
            self.live_aliases -= 1;
            self.aliases.swap(at, self.live_aliases as usize);
        }
        was
    }
}
