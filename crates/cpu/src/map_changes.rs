//! Which physical addresses changes of the map gave to somebody else, until the CPU looks up.
//!
//! What it is: a listener that compares, address by address, who answered before and who does now. Ranges come and go
//! as a whole: one that gives a page away in its middle is gone, and two are new; what the CPU has to forget is the page.
//! What it is not: the forgetting. What must always hold: an address whose region, offset in it or attributes changed is
//! in what is [taken](MapChanges::take) next, from when anybody can see the change on; what waits to be taken stays
//! small, whoever makes however many changes while the CPU stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flatview::{Delta, FlatRange, FlatView, ListenerError, MemoryListener, Section, SpaceDelta, SpaceId};
use parking_lot::Mutex;

use crate::inputs::Inputs;

/// Pieces that are remembered; instead of more it is all from the first to the last.
const MOST: usize = 64;

/// First and last addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Pieces(Vec<(u64, u64)>);

impl Pieces {
    fn push(&mut self, first: u64, last: u64) {
        if let Some(before) = self.0.last_mut()
            && first <= before.1.saturating_add(1)
            && last.saturating_add(1) >= before.0
        {
            *before = (before.0.min(first), before.1.max(last));
            return;
        }
        self.0.push((first, last));
        if self.0.len() > MOST {
            let hull =
                self.0.iter().fold((first, last), |hull, piece| (hull.0.min(piece.0), hull.1.max(piece.1)));
            self.0 = vec![hull];
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// What the change does that is being made.
    coming: Pieces,
    /// Whether that is in `changed` already.
    told: bool,
    /// What the CPU has not taken yet.
    changed: Pieces,
}

/// Tells a CPU which physical addresses changed.
pub(crate) struct MapChanges {
    space: SpaceId,
    inputs: Arc<Inputs>,
    /// Whether there is anything to take.
    is_any: AtomicBool,
    state: Mutex<State>,
}

impl MapChanges {
    pub(crate) fn new(space: SpaceId, inputs: Arc<Inputs>) -> Arc<Self> {
        Arc::new(Self { space, inputs, is_any: AtomicBool::new(false), state: Mutex::default() })
    }

    /// What changed since this was last asked, as first and last addresses; two pieces may overlap.
    pub(crate) fn take(&self) -> Vec<(u64, u64)> {
        if !self.is_any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        let mut state = self.state.lock();
        // A change that is half told, or is being taken back, is told once more.
        state.told = false;
        std::mem::take(&mut state.changed).0
    }

    /// The change can be seen from now on.
    fn tell(&self) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.told, true) {
            return;
        }
        let State { coming, changed, .. } = &mut *state;
        coming.0.iter().for_each(|(first, last)| changed.push(*first, *last));
        let any = !changed.0.is_empty();
        drop(state);
        if any {
            self.is_any.store(true, Ordering::Release);
            self.inputs.attend();
        }
    }
}

impl MemoryListener for MapChanges {
    fn name(&self) -> &str {
        "cpu"
    }

    fn space(&self) -> Option<SpaceId> {
        Some(self.space)
    }

    fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
        let coming = delta.space(self.space).map(differences).unwrap_or_default();
        let mut state = self.state.lock();
        (state.coming, state.told) = (coming, false);
        Ok(())
    }

    fn region_del(&self, _: &Section) -> Result<(), ListenerError> {
        self.tell();
        Ok(())
    }

    fn region_add(&self, _: &Section) -> Result<(), ListenerError> {
        self.tell();
        Ok(())
    }
}

/// The addresses at which another answers than before, or the same one otherwise.
fn differences(delta: &SpaceDelta) -> Pieces {
    let mut pieces = Pieces::default();
    for gone in delta.removed() {
        beside(delta.new_view(), &gone, |range| !is_same(&gone, range), &mut pieces);
    }
    for new in delta.added() {
        // Who was there before has been looked at.
        beside(delta.old_view(), &new, |_| false, &mut pieces);
    }
    pieces
}

/// Those addresses of a section at which a view has nothing, or a range of which `differs` is true.
fn beside(view: &FlatView, section: &Section, differs: impl Fn(&FlatRange) -> bool, pieces: &mut Pieces) {
    let (first, last) = (section.offset_in_space, section.last());
    let mut at = first;
    for range in view.ranges_from(first).take_while(|range| range.start() <= last) {
        let (from, to) = (range.start().max(at), range.last().min(last));
        if from > at {
            pieces.push(at, from - 1);
        }
        if differs(range) {
            pieces.push(from, to);
        }
        let Some(next) = to.checked_add(1).filter(|next| *next <= last) else { return };
        at = next;
    }
    pieces.push(at, last);
}

/// Whether a section and a range that overlaps it are the same where they do.
fn is_same(section: &Section, range: &FlatRange) -> bool {
    let place = |offset: u64, start: u64| i128::from(offset) - i128::from(start);
    section.region == range.region()
        && place(section.offset_in_region, section.offset_in_space) == place(range.offset(), range.start())
        && section.readonly == range.readonly()
        && section.romd == range.romd()
}

#[cfg(test)]
mod tests {
    use flatview::{AddressSpace, Endianness, Memory, RamBlock, Region, RegionId};

    use super::*;

    const PAGE: u64 = 0x1000;

    struct World {
        memory: Memory,
        ram: RegionId,
        block: Arc<RamBlock>,
        changes: Arc<MapChanges>,
        _space: AddressSpace,
    }

    /// 64 KiB of RAM at 0.
    fn world() -> World {
        let memory = Memory::new(Endianness::Big);
        let block = RamBlock::anonymous("ram", 16 * PAGE).unwrap();
        let ram = memory.add(Region::ram("ram", Arc::clone(&block))).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let space = memory.memory_space();
        let changes = MapChanges::new(space.id(), Arc::default());
        memory.add_listener(Arc::clone(&changes) as Arc<dyn MemoryListener>).unwrap();
        assert_eq!(changes.take(), [(0, 16 * PAGE - 1)]);
        World { memory, ram, block, changes, _space: space }
    }

    impl World {
        /// A window of a region that stands nowhere else, over the same place in the RAM.
        fn cover(&self, shadow: RegionId, page: u64, pages: u64) -> RegionId {
            let alias = Region::alias("cover", shadow, page * PAGE, u128::from(pages * PAGE));
            let alias = self.memory.add(alias).unwrap();
            self.memory.update(|t| t.map_overlap(self.ram, page * PAGE, alias, 1)).unwrap();
            alias
        }

        fn shadow(&self) -> RegionId {
            self.memory.add(Region::rom("shadow", Arc::clone(&self.block))).unwrap()
        }
    }

    #[test]
    fn what_lies_over_memory_is_told_and_the_memory_beside_it_is_not() {
        let w = world();
        w.cover(w.shadow(), 4, 2);
        assert_eq!(w.changes.take(), [(4 * PAGE, 6 * PAGE - 1)]);
        assert_eq!(w.changes.take(), []);
    }

    #[test]
    fn a_page_that_leaves_the_middle_of_a_run_is_all_that_is_told() {
        let w = world();
        let shadow = w.shadow();
        let run = w.cover(shadow, 0, 16);
        w.changes.take();
        w.memory
            .update(|t| {
                t.unmap(w.ram, run)?;
                for (page, pages) in [(0, 7), (8, 8)] {
                    let alias = Region::alias("cover", shadow, page * PAGE, u128::from(pages * PAGE));
                    let alias = t.add(alias)?;
                    t.map_overlap(w.ram, page * PAGE, alias, 1)?;
                }
                Ok::<_, flatview::MemoryError>(())
            })
            .unwrap();
        assert_eq!(w.changes.take(), [(7 * PAGE, 8 * PAGE - 1)]);
    }

    #[test]
    fn another_region_another_offset_and_other_attributes_are_told() {
        let w = world();
        let (one, other) = (w.shadow(), w.shadow());
        let cover = w.cover(one, 2, 1);
        w.changes.take();
        let page = [(2 * PAGE, 3 * PAGE - 1)];
        w.memory.update(|t| t.set_alias_offset(cover, 3 * PAGE)).unwrap();
        assert_eq!(w.changes.take(), page, "another offset");
        w.memory.update(|t| t.set_enabled(cover, false)).unwrap();
        assert_eq!(w.changes.take(), page, "the RAM");
        w.cover(other, 2, 1);
        assert_eq!(w.changes.take(), page, "another region");
        w.memory.update(|t| t.set_readonly(w.ram, true)).unwrap();
        assert_eq!(w.changes.take(), [(0, 2 * PAGE - 1), (3 * PAGE, 16 * PAGE - 1)], "read-only");
    }

    #[test]
    fn what_comes_where_nothing_was_and_what_goes_is_told() {
        let w = world();
        let far = w.shadow();
        w.memory.map(w.memory.system(), 64 * PAGE, far).unwrap();
        let there = [(64 * PAGE, 80 * PAGE - 1)];
        assert_eq!(w.changes.take(), there);
        w.memory.update(|t| t.set_address(far, 72 * PAGE)).unwrap();
        assert_eq!(w.changes.take(), [(64 * PAGE, 88 * PAGE - 1)]);
        w.memory.update(|t| t.unmap(w.memory.system(), far)).unwrap();
        assert_eq!(w.changes.take(), [(72 * PAGE, 88 * PAGE - 1)]);
    }

    #[test]
    fn a_refused_change_tells_nothing_that_is_missed_later() {
        struct No;
        impl MemoryListener for No {
            fn name(&self) -> &str {
                "no"
            }
            fn region_add(&self, section: &Section) -> Result<(), ListenerError> {
                if section.name() == "shadow" { Err(ListenerError::new("no")) } else { Ok(()) }
            }
        }
        let w = world();
        let no = w.memory.add_listener(Arc::new(No)).unwrap();
        let shadow = w.shadow();
        let alias = w.memory.add(Region::alias("cover", shadow, 0, u128::from(PAGE))).unwrap();
        assert!(w.memory.update(|t| t.map_overlap(w.ram, 0, alias, 1)).is_err());
        // It could be seen for a moment.
        assert_eq!(w.changes.take(), [(0, PAGE - 1)]);
        w.memory.remove_listener(no).unwrap();
        w.memory.update(|t| t.map_overlap(w.ram, 0, alias, 1)).unwrap();
        assert_eq!(w.changes.take(), [(0, PAGE - 1)]);
    }

    #[test]
    fn what_nobody_takes_does_not_pile_up() {
        let w = world();
        let shadow = w.shadow();
        let cover = w.cover(shadow, 0, 1);
        for page in 0..100_000_u64 {
            w.memory.update(|t| t.set_address(cover, page * 7 % 16 * PAGE)).unwrap();
        }
        let told = w.changes.take();
        assert!(told.len() <= MOST, "{} pieces", told.len());
        for page in 0..16 {
            let covers = |(first, last): &(u64, u64)| (*first..=*last).contains(&(page * PAGE));
            assert!(told.iter().any(covers), "page {page} is missing in {told:x?}");
        }
    }
}
