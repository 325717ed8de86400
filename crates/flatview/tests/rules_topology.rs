//! The tree: what its operations do, what can be asked of it, and how spaces look at it.
//!
//! | rule | test |
//! |---|---|
//! | `add_subregion` checks no overlap | `overlapping_siblings_are_no_error` |
//! | `add_subregion_overlap` | `a_higher_priority_wins_whatever_was_mapped_first` |
//! | `del_subregion` | `what_is_unmapped_can_be_mapped_elsewhere` |
//! | `set_enabled`, `set_size` | `enabling_and_resizing_show_at_once_and_equal_values_change_nothing` |
//! | `set_address` moves to the front of its priority | `moving_a_region_puts_it_first_among_equals` |
//! | but not to the same address | `moving_to_the_same_address_reorders_nothing` |
//! | nor beyond its priority | `moving_never_beats_a_higher_priority` |
//! | `set_alias_offset` keeps the place | `an_alias_keeps_its_place_when_its_offset_or_target_changes` |
//! | alias offsets and signs | `an_alias_offset_near_2_to_the_64_shows_the_end_of_a_whole_target` |
//! | offset beyond the target | `an_alias_offset_beyond_the_target_shows_nothing` |
//! | `set_readonly`, `set_nonvolatile` are inherited | `read_only_and_non_volatile_go_down_and_through_aliases` |
//! | `memory_region_is_mapped` | `a_region_is_mapped_by_a_container_or_by_an_alias_of_it_that_is` |
//! | transactions: only the outermost publishes | `basics.rs` |
//! | transactions: an empty one | `a_transaction_that_changes_nothing_publishes_nothing` |
//! | flat views are shared by effective root | `spaces_that_come_to_the_same_root_share_one_view` |
//! | nothing enabled | `a_space_that_shows_nothing_enabled_has_no_root` |
//! | two enabled children, or one that does not fit | `a_container_that_adds_something_is_its_own_root` |
//! | a root that is a child too | `a_root_that_is_mapped_elsewhere_shows_itself_at_its_own_address` |
//! | a space moves to another root in one step | `a_space_follows_its_effective_root` |
//! | owner | `a_region_tells_its_owner` |
//! | `address_space_destroy` | `readers_of_a_removed_space_find_nothing` |
//! | handles that keep nothing alive (ours) | `a_weak_handle_keeps_neither_space_nor_memory` |
//! | `memory_region_find` | `find_gives_the_lowest_visible_part_clipped`, `find_counts_from_the_container_it_is_given`, `find_needs_a_space` |
//! | `memory_region_present` | `contains_tells_of_others_than_the_container` |
//! | the order of address spaces | `spaces_are_listed_in_the_order_they_were_made` |
//! | children listed as QEMU's | `children_are_listed_winners_first` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;

use flatview::*;

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

fn flat(space: &AddressSpace) -> Vec<(u64, u64, String, u64)> {
    space.view().unwrap().ranges().map(|r| (r.start(), r.last(), r.name().to_owned(), r.offset())).collect()
}

fn r(start: u64, last: u64, name: &str, offset: u64) -> (u64, u64, String, u64) {
    (start, last, name.to_owned(), offset)
}

fn io(name: &str, size: u128) -> Region {
    Region::reservation(name, size)
}

fn same_view(a: &AddressSpace, b: &AddressSpace) -> bool {
    Arc::ptr_eq(&a.view().unwrap(), &b.view().unwrap())
}

#[test]
fn overlapping_siblings_are_no_error() {
    let memory = Memory::new(Endianness::Little);
    for i in 0..10 {
        map(&memory, i, io("same place", 0x100));
    }
    assert_eq!(flat(&memory.memory_space()).len(), 10);
}

#[test]
fn a_higher_priority_wins_whatever_was_mapped_first() {
    let memory = Memory::new(Endianness::Little);
    let at = |name, priority| {
        let id = memory.add(io(name, 0x10)).unwrap();
        memory.update(|t| t.map_overlap(memory.system(), 0, id, priority)).unwrap();
        id
    };
    let high = at("high", i32::MAX);
    at("low", i32::MIN);
    let middle = at("middle", -1);
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "high", 0)]);
    memory.update(|t| t.set_enabled(high, false)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "middle", 0)]);
    memory.update(|t| t.unmap(memory.system(), middle)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "low", 0)]);
    memory.update(|t| t.set_priority(high, -5)).unwrap();
    memory.update(|t| t.set_enabled(high, true)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "high", 0)]);
}

#[test]
fn what_is_unmapped_can_be_mapped_elsewhere() {
    let memory = Memory::new(Endianness::Little);
    let id = map(&memory, 0x1000, io("a", 0x10));
    let container = map(&memory, 0x8000, Region::container("c", 0x1000));
    memory.update(|t| t.unmap(memory.system(), id)).unwrap();
    assert_eq!(memory.region(id).unwrap().container, None);
    assert!(flat(&memory.memory_space()).is_empty());
    memory.map(container, 0x10, id).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0x8010, 0x801f, "a", 0)]);
    assert_eq!(memory.region(id).unwrap().container, Some(container));
}

#[test]
fn enabling_and_resizing_show_at_once_and_equal_values_change_nothing() {
    let memory = Memory::new(Endianness::Little);
    let id = map(&memory, 0x1000, io("a", 0x10));
    let before = memory.memory_space().view().unwrap();
    memory
        .update(|t| {
            t.set_enabled(id, true)?;
            t.set_size(id, 0x10)?;
            t.set_address(id, 0x1000)?;
            t.set_priority(id, 0)?;
            t.set_readonly(id, false)?;
            t.set_nonvolatile(id, false)
        })
        .unwrap();
    assert!(Arc::ptr_eq(&before, &memory.memory_space().view().unwrap()));
    memory.update(|t| t.set_size(id, 0x20)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0x1000, 0x101f, "a", 0)]);
    memory.update(|t| t.set_size(id, 0)).unwrap();
    assert!(flat(&memory.memory_space()).is_empty());
    memory.update(|t| t.set_size(id, WHOLE)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0x1000, u64::MAX, "a", 0)]);
    memory.update(|t| t.set_enabled(id, false)).unwrap();
    assert!(flat(&memory.memory_space()).is_empty());
    assert_eq!(before.len(), 1, "a view that was taken stays as it was");
}

#[test]
fn moving_a_region_puts_it_first_among_equals() {
    let memory = Memory::new(Endianness::Little);
    let a = map(&memory, 0, io("a", 0x20));
    let b = map(&memory, 0x10, io("b", 0x20));
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "a", 0), r(0x10, 0x2f, "b", 0)]);
    memory.update(|t| t.set_address(a, 0x8)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0x8, 0x27, "a", 0), r(0x28, 0x2f, "b", 0x18)]);
    assert_eq!(memory.children(memory.system()).unwrap(), [a, b]);
    memory.update(|t| t.set_address(b, 0x0)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0x1f, "b", 0), r(0x20, 0x27, "a", 0x18)]);
}

#[test]
fn moving_to_the_same_address_reorders_nothing() {
    let memory = Memory::new(Endianness::Little);
    let a = map(&memory, 0, io("a", 0x20));
    let b = map(&memory, 0x10, io("b", 0x20));
    memory.update(|t| t.set_address(a, 0)).unwrap();
    assert_eq!(memory.children(memory.system()).unwrap(), [b, a]);
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "a", 0), r(0x10, 0x2f, "b", 0)]);
    // Away and back again in one transaction is a move.
    memory
        .update(|t| {
            t.set_address(a, 1)?;
            t.set_address(a, 0)
        })
        .unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0x1f, "a", 0), r(0x20, 0x2f, "b", 0x10)]);
}

#[test]
fn moving_never_beats_a_higher_priority() {
    let memory = Memory::new(Endianness::Little);
    let low = map(&memory, 0, io("low", 0x20));
    let high = memory.add(io("high", 0x10)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0, high, 1)).unwrap();
    memory.update(|t| t.set_address(low, 8)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "high", 0), r(0x10, 0x27, "low", 8)]);
}

#[test]
fn an_alias_keeps_its_place_when_its_offset_or_target_changes() {
    let memory = Memory::new(Endianness::Little);
    let (one, two) = (memory.add(io("one", 0x100)).unwrap(), memory.add(io("two", 0x100)).unwrap());
    let alias = map(&memory, 0, Region::alias("alias", one, 0, 0x20));
    map(&memory, 0x10, io("later", 0x20));
    memory.update(|t| t.set_alias_offset(alias, 0x40)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "one", 0x40), r(0x10, 0x2f, "later", 0)]);
    memory.update(|t| t.set_alias_target(alias, two)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xf, "two", 0x40), r(0x10, 0x2f, "later", 0)]);
}

#[test]
fn an_alias_offset_near_2_to_the_64_shows_the_end_of_a_whole_target() {
    let memory = Memory::new(Endianness::Little);
    let whole = memory.add(io("whole", WHOLE)).unwrap();
    let alias = map(&memory, 0x1000, Region::alias("alias", whole, 0, 0x100));
    memory.update(|t| t.set_alias_offset(alias, 0x10_u64.wrapping_neg())).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0x1000, 0x100f, "whole", 0x10_u64.wrapping_neg())]);
    // A target that stands high in another container is cancelled out, not carried over.
    let elsewhere = memory.add(Region::container("elsewhere", WHOLE)).unwrap();
    let high = memory.add(io("high", 0x100)).unwrap();
    memory.map(elsewhere, u64::MAX - 0xff, high).unwrap();
    map(&memory, 0x8000, Region::alias("low", high, 0x10, 0x10));
    assert_eq!(flat(&memory.memory_space())[1..], [r(0x8000, 0x800f, "high", 0x10)]);
}

#[test]
fn an_alias_offset_beyond_the_target_shows_nothing() {
    let memory = Memory::new(Endianness::Little);
    let target = memory.add(io("target", 0x100)).unwrap();
    let alias = map(&memory, 0, Region::alias("alias", target, 0, 0x100));
    for offset in [0x100, 0x101, u64::MAX] {
        memory.update(|t| t.set_alias_offset(alias, offset)).unwrap();
        assert!(flat(&memory.memory_space()).is_empty());
    }
    memory.update(|t| t.set_alias_offset(alias, 0xff)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0, "target", 0xff)]);
}

#[test]
fn read_only_and_non_volatile_go_down_and_through_aliases() {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 0x100).unwrap())).unwrap();
    let inner = memory.add(Region::container("inner", 0x100)).unwrap();
    memory.map(inner, 0, ram).unwrap();
    let alias = memory.add(Region::alias("alias", inner, 0, 0x100)).unwrap();
    let outer = map(&memory, 0x1000, Region::container("outer", 0x100));
    memory.map(outer, 0, alias).unwrap();
    let state = || {
        let view = memory.memory_space().view().unwrap();
        let range = view.lookup(0x1000).unwrap();
        (range.readonly(), range.nonvolatile(), range.kind())
    };
    assert_eq!(state(), (false, false, RegionType::Ram));
    for id in [ram, inner, alias, outer] {
        memory.update(|t| t.set_readonly(id, true)).unwrap();
        assert_eq!(state(), (true, false, RegionType::Rom));
        memory.update(|t| t.set_nonvolatile(id, true)).unwrap();
        assert_eq!(state(), (true, true, RegionType::Rom));
        memory.update(|t| t.set_readonly(id, false)).unwrap();
        assert_eq!(state(), (false, true, RegionType::Ram));
        memory.update(|t| t.set_nonvolatile(id, false)).unwrap();
    }
    let found = memory.find(memory.system(), 0x1000, 1).unwrap().unwrap();
    assert_eq!((found.readonly, found.nonvolatile), (false, false));
}

#[test]
fn a_region_is_mapped_by_a_container_or_by_an_alias_of_it_that_is() {
    let memory = Memory::new(Endianness::Little);
    let target = memory.add(Region::container("target", 0x100)).unwrap();
    let child = memory.add(io("child", 0x10)).unwrap();
    let one = memory.add(Region::alias("one", target, 0, 0x100)).unwrap();
    let two = memory.add(Region::alias("two", one, 0, 0x100)).unwrap();
    let mapped = |id| memory.is_mapped(id).unwrap();
    assert!(![target, child, one, two].into_iter().any(mapped));
    memory.map(memory.system(), 0, two).unwrap();
    assert!(mapped(two) && mapped(one) && mapped(target), "through the chain");
    memory.map(target, 0, child).unwrap();
    assert!(mapped(child), "by its container");
    memory.update(|t| t.unmap(memory.system(), two)).unwrap();
    assert!(!mapped(two) && !mapped(one) && !mapped(target));
    assert!(mapped(child), "whether or not anybody sees that");
    memory.map(memory.system(), 0, two).unwrap();
    memory.update(|t| t.set_alias_target(one, child)).unwrap();
    assert!(!mapped(target));
}

#[test]
fn a_transaction_that_changes_nothing_publishes_nothing() {
    let memory = Memory::new(Endianness::Little);
    let id = map(&memory, 0, io("a", 0x10));
    let before = memory.memory_space().view().unwrap();
    memory.update(|_| Ok::<_, MemoryError>(())).unwrap();
    memory
        .update(|t| {
            t.set_enabled(id, false)?;
            t.set_enabled(id, true)
        })
        .unwrap();
    assert!(Arc::ptr_eq(&before, &memory.memory_space().view().unwrap()));
    memory.update(|t| t.add(io("not mapped", 0x10))).unwrap();
    assert!(Arc::ptr_eq(&before, &memory.memory_space().view().unwrap()));
    assert_eq!(memory.views_in_use(), 0);
}

#[test]
fn spaces_that_come_to_the_same_root_share_one_view() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, io("a", 0x10));
    map(&memory, 0x100, io("b", 0x10));
    let main = memory.memory_space();
    let again = memory.address_space("again", memory.system()).unwrap();
    assert!(same_view(&main, &again));
    // A container with one child at 0 that fits, which is an alias of a whole region: twice over.
    let alias = memory.add(Region::alias("alias", memory.system(), 0, WHOLE)).unwrap();
    let container = memory.add(Region::container("container", WHOLE)).unwrap();
    memory.map(container, 0, alias).unwrap();
    let outer = memory.add(Region::alias("outer", container, 0, WHOLE)).unwrap();
    let through = memory.address_space("through", outer).unwrap();
    assert!(same_view(&main, &through));
    assert_eq!(through.view().unwrap().root(), Some(memory.system()));
    map(&memory, 0x200, io("c", 0x10));
    assert!(same_view(&main, &through) && flat(&through).len() == 3);
}

#[test]
fn a_space_that_shows_nothing_enabled_has_no_root() {
    let memory = Memory::new(Endianness::Little);
    let alias = memory.add(Region::alias("alias", memory.system(), 0, WHOLE).enabled(false)).unwrap();
    let container = memory.add(Region::container("bus master", WHOLE)).unwrap();
    memory.map(container, 0, alias).unwrap();
    let a = memory.address_space("a", container).unwrap();
    let empty = memory.add(Region::container("empty", 0x1000)).unwrap();
    let b = memory.address_space("b", empty).unwrap();
    assert_eq!((a.view().unwrap().root(), b.view().unwrap().root()), (None, None));
    assert!(same_view(&a, &b), "all of them share the one empty view");
}

#[test]
fn a_container_that_adds_something_is_its_own_root() {
    let memory = Memory::new(Endianness::Little);
    let root_of = |region: Region, children: Vec<(u64, Region)>| {
        let root = memory.add(region).unwrap();
        let space = memory.address_space("space", root).unwrap();
        for (at, child) in children {
            let child = memory.add(child).unwrap();
            memory.map(root, at, child).unwrap();
        }
        space.view().unwrap().root() == Some(root)
    };
    let container = || Region::container("root", 0x1000);
    assert!(!root_of(container(), vec![(0, io("fits", 0x1000))]));
    assert!(root_of(container(), vec![(0, io("too large", 0x1001))]));
    assert!(root_of(container(), vec![(1, io("not at 0", 0x10))]));
    assert!(root_of(container(), vec![(0, io("one", 0x10)), (0x10, io("two", 0x10))]));
    assert!(!root_of(container(), vec![(0, io("one", 0x10)), (0x10, io("off", 0x10).enabled(false))]));
    assert!(root_of(io("terminates", 0x1000), vec![(0, io("child", 0x1000))]));
    let target = memory.add(io("target", 0x1000)).unwrap();
    assert!(!root_of(Region::alias("whole", target, 0, 0x1000), vec![]));
    assert!(root_of(Region::alias("part", target, 0, 0xfff), vec![]));
    assert!(root_of(Region::alias("from 1 on", target, 1, 0x1000), vec![]));
}

#[test]
fn a_root_that_is_mapped_elsewhere_shows_itself_at_its_own_address() {
    // QEMU's raven: pci-io stands at 0x80000000 of system memory and is the root of a space, in which ports appear
    // at 0x80000000 too.
    let memory = Memory::new(Endianness::Little);
    let pci_io = map(&memory, 0x8000_0000, Region::container("pci-io", 0x3f80_0000));
    let port = memory.add(io("port", 8)).unwrap();
    memory.map(pci_io, 0x3f8, port).unwrap();
    let other = memory.add(io("other", 8)).unwrap();
    memory.map(pci_io, 0x2f8, other).unwrap();
    let space = memory.address_space("raven-io", pci_io).unwrap();
    assert_eq!(flat(&space)[1], r(0x8000_03f8, 0x8000_03ff, "port", 0));
    memory.update(|t| t.set_address(pci_io, 0x100)).unwrap();
    assert_eq!(flat(&space)[1], r(0x4f8, 0x4ff, "port", 0));
    assert_eq!(flat(&memory.memory_space())[1], r(0x4f8, 0x4ff, "port", 0));
}

#[test]
fn a_space_follows_its_effective_root() {
    let memory = Memory::new(Endianness::Little);
    let bank =
        |value: u64| memory.add(Region::io("bank", 0x1000, Ops::new().read(move |_| Ok(value)))).unwrap();
    let (one, two) = (bank(1), bank(2));
    let root = memory.add(Region::container("root", 0x1000)).unwrap();
    let space = memory.address_space("space", root).unwrap();
    let reader = space.reader();
    assert!(reader.load::<Le, u8>(0).is_err());
    memory.map(root, 0, one).unwrap();
    assert_eq!(reader.load::<Le, u8>(0), Ok(1));
    assert_eq!(space.view().unwrap().root(), Some(one));
    memory
        .update(|t| {
            t.unmap(root, one)?;
            t.map(root, 0, two)
        })
        .unwrap();
    assert_eq!(reader.load::<Le, u8>(0), Ok(2));
    memory.map(root, 0, one).unwrap();
    assert_eq!((reader.load::<Le, u8>(0), space.view().unwrap().root()), (Ok(1), Some(root)));
    assert_eq!(memory.stale_view().unwrap(), None);
}

#[test]
fn a_region_tells_its_owner() {
    let memory = Memory::new(Endianness::Little);
    let owner = Owner::device_with_id("net0", "/machine/peripheral/net0");
    let id = memory.add(io("mmio", 0x10).owner(&owner)).unwrap();
    let told = memory.region(id).unwrap().owner.unwrap();
    assert_eq!((told.id(), told.path(), told.is_device()), (Some("net0"), "/machine/peripheral/net0", true));
    assert_eq!(told, owner);
    assert_ne!(told, Owner::device_with_id("net0", "/machine/peripheral/net0"), "another object");
    assert_eq!(memory.region(memory.system()).unwrap().parent.unwrap().path(), "/machine/unattached");
}

#[test]
fn readers_of_a_removed_space_find_nothing() {
    let memory = Memory::new(Endianness::Little);
    let root = memory.add(Region::io("root", 0x10, Ops::new().read(|_| Ok(1)))).unwrap();
    let space = memory.address_space("space", root).unwrap();
    let reader = space.reader();
    assert_eq!(reader.load::<Le, u8>(0), Ok(1));
    memory.remove_space(space.id()).unwrap();
    assert_eq!(reader.load::<Le, u8>(0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert!(matches!(space.view(), Err(MemoryError::StaleSpace)));
    memory.update(|t| t.remove(root)).unwrap();
    assert!(memory.spaces().iter().all(|s| s.id() != space.id()));
}

#[test]
fn a_weak_handle_keeps_neither_space_nor_memory() {
    let memory = Memory::new(Endianness::Little);
    let weak = memory.memory_space().downgrade();
    assert_eq!(weak.upgrade().unwrap().id(), memory.memory_space().id());
    let other = memory.address_space("other", memory.system()).unwrap();
    let weak_other = other.downgrade();
    memory.remove_space(other.id()).unwrap();
    drop(other);
    assert!(weak_other.upgrade().is_none());
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let ops = Ops::new().read(move |a| {
        let _ = &held;
        let space = weak.upgrade().ok_or(MemTxError::error())?;
        a.port(&space).load::<Le, u8>(4).map(u64::from)
    });
    map(&memory, 0, Region::io("dma", 4, ops));
    map(&memory, 4, Region::io("other", 4, Ops::new().read(|_| Ok(5))));
    assert_eq!(memory.memory_space().reader().load::<Le, u8>(0), Ok(5));
    drop(memory);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn find_gives_the_lowest_visible_part_clipped() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0x1000, Region::ram("ram", RamBlock::anonymous("ram", 0x1000).unwrap()));
    let over = memory.add(io("over", 0x100)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x1800, over, 1)).unwrap();
    let find = |addr, size| {
        let found = memory.find(memory.system(), addr, size).unwrap()?;
        Some((found.region, found.offset_in_region, found.offset_in_space, found.size))
    };
    assert_eq!(find(0, WHOLE), Some((ram, 0, 0x1000, 0x800)));
    assert_eq!(find(0x1100, 0x10), Some((ram, 0x100, 0x1100, 0x10)));
    assert_eq!(find(0x17ff, 0x1000), Some((ram, 0x7ff, 0x17ff, 1)));
    assert_eq!(find(0x1810, 0x1000), Some((over, 0x10, 0x1810, 0xf0)));
    assert_eq!(find(0x1900, 1), Some((ram, 0x900, 0x1900, 1)));
    assert_eq!(find(0, 0x1000), None);
    assert_eq!(find(0x1000, 0), None);
    assert_eq!(find(0x2000, WHOLE), None);
    assert_eq!(find(u64::MAX, 1), None);
    memory.update(|t| t.set_enabled(ram, false)).unwrap();
    assert_eq!(find(0, WHOLE), Some((over, 0, 0x1800, 0x100)));
}

#[test]
fn find_counts_from_the_container_it_is_given() {
    let memory = Memory::new(Endianness::Little);
    let bus = map(&memory, 0x8000, Region::container("bus", 0x1000));
    let slot = memory.add(Region::container("slot", 0x800)).unwrap();
    memory.map(bus, 0x400, slot).unwrap();
    let device = memory.add(io("device", 0x10)).unwrap();
    memory.map(slot, 0x20, device).unwrap();
    let found = memory.find(slot, 0, 0x800).unwrap().unwrap();
    assert_eq!((found.region, found.offset_in_space, found.size), (device, 0x8420, 0x10));
    // What is in the way of it from outside is found as well.
    let over = memory.add(io("over", 4)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x8420, over, 1)).unwrap();
    assert_eq!(memory.find(slot, 0x20, 1).unwrap().unwrap().region, over);
}

#[test]
fn find_needs_a_space() {
    let memory = Memory::new(Endianness::Little);
    let container = memory.add(Region::container("nobody looks", 0x1000)).unwrap();
    let device = memory.add(io("device", 0x10)).unwrap();
    memory.map(container, 0, device).unwrap();
    assert_eq!(memory.find(container, 0, 0x1000).unwrap(), None);
    let space = memory.address_space("now", container).unwrap();
    assert_eq!(memory.find(container, 0, 0x1000).unwrap().unwrap().region, device);
    memory.remove_space(space.id()).unwrap();
    assert_eq!(memory.find(container, 0, 0x1000).unwrap(), None);
}

#[test]
fn contains_tells_of_others_than_the_container() {
    let memory = Memory::new(Endianness::Little);
    let device = map(&memory, 0x1000, io("device", 0x1000));
    let sub = memory.add(io("sub", 0x10)).unwrap();
    memory.map(device, 0x100, sub).unwrap();
    assert!(memory.contains(memory.system(), 0x1000).unwrap());
    assert!(!memory.contains(memory.system(), 0xfff).unwrap());
    assert!(!memory.contains(device, 0).unwrap(), "only the device itself");
    assert!(memory.contains(device, 0x100).unwrap());
}

#[test]
fn spaces_are_listed_in_the_order_they_were_made() {
    let memory = Memory::new(Endianness::Little);
    let a = memory.address_space("a", memory.system()).unwrap();
    memory.address_space("b", memory.io()).unwrap();
    memory.remove_space(a.id()).unwrap();
    memory.address_space("a", memory.system()).unwrap();
    let names: Vec<_> = memory.spaces().iter().map(|s| s.name().to_owned()).collect();
    assert_eq!(names, ["memory", "I/O", "b", "a"]);
    let ids: Vec<_> = memory.spaces().iter().map(AddressSpace::id).collect();
    assert!(ids.is_sorted());
}

#[test]
fn children_are_listed_winners_first() {
    let memory = Memory::new(Endianness::Little);
    let at = |at, priority, enabled| {
        let id = memory.add(io("child", 0x10).enabled(enabled)).unwrap();
        memory.update(|t| t.map_overlap(memory.system(), at, id, priority)).unwrap();
        id
    };
    let (a, b, c, d, e) =
        (at(0, 0, true), at(0x100, 1, true), at(0x200, 0, false), at(0x300, -7, true), at(0x400, 1, true));
    assert_eq!(memory.children(memory.system()).unwrap(), [e, b, c, a, d]);
    // A new priority counts as mapped last among its new equals.
    memory.update(|t| t.set_priority(d, 1)).unwrap();
    assert_eq!(memory.children(memory.system()).unwrap(), [d, e, b, c, a]);
}
