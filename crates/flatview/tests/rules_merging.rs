//! What is visible, and what of it becomes one range.
//!
//! Two neighbouring ranges are one if they are of the same region, continue each other's offsets, and agree in
//! read-only, non-volatile and ROM mode.
//!
//! | case | test |
//! |---|---|
//! | (a) adjacent windows of one RAM | `adjacent_windows_of_one_region_are_one_range` |
//! | (b) one of them read-only, or non-volatile | `windows_that_differ_in_attributes_stay_apart` |
//! | (c) windows in the wrong order, or with a gap in the offsets | `windows_whose_offsets_do_not_continue_stay_apart` |
//! | (d) priorities | `priorities_do_not_keep_ranges_apart` |
//! | (e) a hole comes and goes | `a_hole_splits_a_range_and_its_end_joins_it` |
//! | (f) container with a hole, and region with children | `one_sees_through_a_containers_hole_and_not_through_a_devices` |
//! | (g) A to E of QEMU's documentation | `the_example_of_qemus_documentation_is_seen_as_it_says` |
//! | (h) child larger than, or outside of, its parent | `a_child_is_clipped_to_its_parent` |
//! | (i) disabled parent | `a_disabled_parent_hides_its_children` |
//! | (j) nested aliases, alias into a container | `an_alias_into_the_middle_of_a_container_shows_that_part_only` |
//! | (k) the target's own position | `where_an_aliass_target_stands_does_not_matter` |
//! | (l) the last address; whole aliases | `a_region_at_the_last_address_is_one_range_of_one_byte`, `an_alias_of_2_to_the_64_may_begin_at_an_offset` |
//! | (m) size 0 | `a_region_without_bytes_shows_nothing_and_hides_nothing` |
//! | (n) read-only alias of a ROM device | `a_read_only_alias_of_a_rom_device_reads_its_memory_and_keeps_writes_off` |
//! | (o) backgrounds | `a_background_of_low_priority_fills_what_is_left` |
//! | (p) ties | `among_equals_the_one_mapped_later_wins_in_both_orders_and_after_moves` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;

use flatview::*;
use parking_lot::Mutex;

struct Bench {
    memory: Memory,
}

type Seen = (u64, u64, String, u64);

fn r(start: u64, last: u64, name: &str, offset: u64) -> Seen {
    (start, last, name.to_owned(), offset)
}

impl Bench {
    fn new() -> Self {
        Self { memory: Memory::new(Endianness::Little) }
    }

    fn add(&self, region: Region) -> RegionId {
        self.memory.add(region).unwrap()
    }

    fn ram(&self, name: &str, size: u64) -> RegionId {
        self.add(Region::ram(name, RamBlock::anonymous(name, size).unwrap()))
    }

    fn io(&self, name: &str, size: u128) -> RegionId {
        self.add(Region::reservation(name, size))
    }

    fn map(&self, at: u64, id: RegionId) {
        self.map_in(self.memory.system(), at, id, 0);
    }

    fn map_in(&self, container: RegionId, at: u64, id: RegionId, priority: i32) {
        self.update(|t| t.map_overlap(container, at, id, priority));
    }

    /// Changes the map, and checks that the view is the one rendered from nothing.
    fn update(&self, f: impl FnOnce(&mut Transaction<'_>) -> Result<(), MemoryError>) {
        self.memory.update(f).unwrap();
        assert_eq!(self.memory.stale_view().unwrap(), None);
    }

    fn flat(&self) -> Vec<Seen> {
        let view = self.memory.memory_space().view().unwrap();
        view.ranges().map(|r| (r.start(), r.last(), r.name().to_owned(), r.offset())).collect()
    }
}

#[test]
fn adjacent_windows_of_one_region_are_one_range() {
    let b = Bench::new();
    let ram = b.ram("ram", 0x4000);
    let low = b.add(Region::alias("low", ram, 0x1000, 0x1000));
    let high = b.add(Region::alias("high", ram, 0x2000, 0x1000));
    b.map(0x9000, high);
    b.map(0x8000, low);
    assert_eq!(b.flat(), [r(0x8000, 0x9fff, "ram", 0x1000)]);
    // And it is one memory: an access may cross.
    let reader = b.memory.memory_space().reader();
    reader.store::<Le, u64>(0x8ffc, 0x1122_3344_5566_7788).unwrap();
    assert_eq!(reader.load::<Le, u32>(0x9000), Ok(0x1122_3344));
    b.update(|t| t.unmap(t.memory().system(), low));
    assert_eq!(b.flat(), [r(0x9000, 0x9fff, "ram", 0x2000)]);
}

#[test]
fn windows_that_differ_in_attributes_stay_apart() {
    let b = Bench::new();
    let ram = b.ram("ram", 0x2000);
    let low = b.add(Region::alias("low", ram, 0, 0x1000));
    let high = b.add(Region::alias("high", ram, 0x1000, 0x1000));
    b.map(0, low);
    b.map(0x1000, high);
    let (one, two) = ([r(0, 0x1fff, "ram", 0)], [r(0, 0xfff, "ram", 0), r(0x1000, 0x1fff, "ram", 0x1000)]);
    assert_eq!(b.flat(), one);
    b.update(|t| t.set_readonly(high, true));
    assert_eq!(b.flat(), two);
    b.update(|t| t.set_readonly(low, true));
    assert_eq!(b.flat(), one);
    b.update(|t| t.set_nonvolatile(low, true));
    assert_eq!(b.flat(), two);
    b.update(|t| t.set_nonvolatile(high, true));
    assert_eq!(b.flat(), one);
    // Two RAMs with the same block and continuing windows are two regions all the same.
    let block = RamBlock::anonymous("block", 0x2000).unwrap();
    let c = b.add(Region::ram("c", block.clone()).window(0, 0x1000));
    let d = b.add(Region::ram("d", block).window(0x1000, 0x1000));
    b.map(0x8000, c);
    b.map(0x9000, d);
    assert_eq!(b.flat()[1..], [r(0x8000, 0x8fff, "c", 0), r(0x9000, 0x9fff, "d", 0)]);
}

#[test]
fn windows_whose_offsets_do_not_continue_stay_apart() {
    let b = Bench::new();
    let ram = b.ram("ram", 0x4000);
    let low = b.add(Region::alias("low", ram, 0x1000, 0x1000));
    let high = b.add(Region::alias("high", ram, 0, 0x1000));
    b.map(0, low);
    b.map(0x1000, high);
    assert_eq!(b.flat(), [r(0, 0xfff, "ram", 0x1000), r(0x1000, 0x1fff, "ram", 0)]);
    b.update(|t| t.set_alias_offset(high, 0x2001));
    assert_eq!(b.flat(), [r(0, 0xfff, "ram", 0x1000), r(0x1000, 0x1fff, "ram", 0x2001)]);
    b.update(|t| t.set_alias_offset(high, 0x2000));
    assert_eq!(b.flat(), [r(0, 0x1fff, "ram", 0x1000)]);
    // Nor across a gap of addresses.
    b.update(|t| t.set_address(high, 0x1001));
    assert_eq!(b.flat().len(), 2);
}

#[test]
fn priorities_do_not_keep_ranges_apart() {
    let b = Bench::new();
    let ram = b.ram("ram", 0x3000);
    for (i, priority) in (0..).zip([-5, 100, 0]) {
        let alias = b.add(Region::alias("part", ram, i * 0x1000, 0x1000));
        b.map_in(b.memory.system(), i * 0x1000, alias, priority);
    }
    assert_eq!(b.flat(), [r(0, 0x2fff, "ram", 0)]);
}

#[test]
fn a_hole_splits_a_range_and_its_end_joins_it() {
    let b = Bench::new();
    let ram = b.ram("ram", 0x10000);
    b.map(0x1000, ram);
    let over = b.io("over", 0x100);
    b.map_in(b.memory.system(), 0x8000, over, 1);
    let split =
        [r(0x1000, 0x7fff, "ram", 0), r(0x8000, 0x80ff, "over", 0), r(0x8100, 0x10fff, "ram", 0x7100)];
    assert_eq!(b.flat(), split);
    b.update(|t| t.unmap(t.memory().system(), over));
    assert_eq!(b.flat(), [r(0x1000, 0x10fff, "ram", 0)]);
    // At either end there is nothing to split.
    b.map_in(b.memory.system(), 0x1000, over, 1);
    assert_eq!(b.flat(), [r(0x1000, 0x10ff, "over", 0), r(0x1100, 0x10fff, "ram", 0x100)]);
    b.update(|t| t.set_address(over, 0x10f00));
    assert_eq!(b.flat(), [r(0x1000, 0x10eff, "ram", 0), r(0x10f00, 0x10fff, "over", 0)]);
}

#[test]
fn one_sees_through_a_containers_hole_and_not_through_a_devices() {
    for (over, through) in
        [(Region::container("over", 0x1000), true), (Region::reservation("over", 0x1000), false)]
    {
        let b = Bench::new();
        b.map(0, b.io("behind", 0x3000));
        let over = b.add(over);
        b.map_in(b.memory.system(), 0x1000, over, 1);
        b.map_in(over, 0x400, b.io("child", 0x100), 0);
        let hole = |at, last, own| if through { r(at, last, "behind", at) } else { r(at, last, "over", own) };
        let mut expect = vec![
            r(0, 0xfff, "behind", 0),
            hole(0x1000, 0x13ff, 0),
            r(0x1400, 0x14ff, "child", 0),
            hole(0x1500, 0x1fff, 0x500),
            r(0x2000, 0x2fff, "behind", 0x2000),
        ];
        if through {
            expect[0].1 = 0x13ff;
            expect.remove(1);
            expect[2].1 = 0x2fff;
            expect.remove(3);
        }
        assert_eq!(b.flat(), expect);
    }
}

#[test]
fn the_example_of_qemus_documentation_is_seen_as_it_says() {
    // docs/devel/memory.rst, "Visibility": A is a container with C over B; B has D and E.
    let b = Bench::new();
    let a = b.add(Region::container("A", 0x8000));
    b.map(0, a);
    let (c, over) = (b.io("C", 0x6000), b.add(Region::container("B", 0x4000)));
    b.map_in(a, 0, c, 1);
    b.map_in(a, 0x2000, over, 2);
    b.map_in(over, 0, b.io("D", 0x1000), 0);
    b.map_in(over, 0x2000, b.io("E", 0x1000), 0);
    let expect = [
        r(0, 0x1fff, "C", 0),
        r(0x2000, 0x2fff, "D", 0),
        r(0x3000, 0x3fff, "C", 0x3000),
        r(0x4000, 0x4fff, "E", 0),
        r(0x5000, 0x5fff, "C", 0x5000),
    ];
    assert_eq!(b.flat(), expect);
    // If B answered itself, its holes would be its own.
    b.update(|t| t.unmap(a, over));
    let b2 = b.io("B", 0x4000);
    b.map_in(a, 0x2000, b2, 2);
    assert_eq!(b.flat(), [r(0, 0x1fff, "C", 0), r(0x2000, 0x5fff, "B", 0)]);
    // And C over B hides all of it that it covers.
    b.update(|t| t.set_priority(c, 3));
    assert_eq!(b.flat(), [r(0, 0x5fff, "C", 0)]);
}

#[test]
fn a_child_is_clipped_to_its_parent() {
    for parent_is_alias in [false, true] {
        let b = Bench::new();
        let parent = b.add(Region::container("parent", 0x1000));
        let at = if parent_is_alias {
            let alias = b.add(Region::alias("alias", parent, 0, 0x8000));
            b.map(0x4000, alias);
            0x4000
        } else {
            b.map(0x1000, parent);
            0x1000
        };
        let child = b.io("child", 0x4000);
        b.map_in(parent, 0x800, child, 0);
        assert_eq!(b.flat(), [r(at + 0x800, at + 0xfff, "child", 0)], "it sticks out");
        b.update(|t| t.set_address(child, 0));
        assert_eq!(b.flat(), [r(at, at + 0xfff, "child", 0)], "it is larger");
        b.update(|t| t.set_address(child, 0x1000));
        assert!(b.flat().is_empty(), "it begins behind the end");
        b.update(|t| t.set_address(child, 0xffff_0000));
        assert!(b.flat().is_empty(), "it is far outside");
        b.update(|t| t.set_address(child, u64::MAX - 0xfff));
        assert!(b.flat().is_empty(), "addresses do not wrap");
        b.update(|t| {
            t.set_address(child, 0xfff)?;
            t.set_size(child, WHOLE)
        });
        assert_eq!(b.flat(), [r(at + 0xfff, at + 0xfff, "child", 0)]);
    }
}

#[test]
fn a_disabled_parent_hides_its_children() {
    let b = Bench::new();
    b.map(0, b.io("behind", 0x1000));
    let parent = b.add(Region::container("parent", 0x1000).enabled(false));
    b.map_in(b.memory.system(), 0, parent, 1);
    let child = b.io("child", 0x100);
    b.map_in(parent, 0, child, 0);
    assert!(b.memory.region(child).unwrap().enabled);
    assert_eq!(b.flat(), [r(0, 0xfff, "behind", 0)]);
    b.update(|t| t.set_enabled(parent, true));
    assert_eq!(b.flat(), [r(0, 0xff, "child", 0), r(0x100, 0xfff, "behind", 0x100)]);
    // An alias of the child shows it though its parent is disabled: only the target itself counts.
    b.update(|t| t.set_enabled(parent, false));
    b.map(0x8000, b.add(Region::alias("alias", child, 0, 0x100)));
    assert_eq!(b.flat(), [r(0, 0xfff, "behind", 0), r(0x8000, 0x80ff, "child", 0)]);
}

#[test]
fn an_alias_into_the_middle_of_a_container_shows_that_part_only() {
    let b = Bench::new();
    let container = b.add(Region::container("container", 0x10000));
    for (name, at) in [("a", 0x0), ("b", 0x1000), ("c", 0x2000), ("d", 0x3000)] {
        let id = b.io(name, 0x1000);
        b.map_in(container, at, id, 0);
    }
    let inner = b.add(Region::alias("inner", container, 0x800, 0x2400));
    let outer = b.add(Region::alias("outer", inner, 0x400, 0x1800));
    b.map(0x10_0000, outer);
    // Offsets 0xc00 to 0x23ff of the container.
    let expect = [
        r(0x10_0000, 0x10_03ff, "a", 0xc00),
        r(0x10_0400, 0x10_13ff, "b", 0),
        r(0x10_1400, 0x10_17ff, "c", 0),
    ];
    assert_eq!(b.flat(), expect);
}

#[test]
fn where_an_aliass_target_stands_does_not_matter() {
    let b = Bench::new();
    let ram = b.ram("ram", 0x1000);
    b.map(0x4000, b.add(Region::alias("alias", ram, 0x100, 0x200)));
    let expect = r(0x4000, 0x41ff, "ram", 0x100);
    assert_eq!(b.flat(), std::slice::from_ref(&expect));
    for at in [0, 0x10_0000, u64::MAX - 0xfff] {
        b.map_in(b.memory.system(), at, ram, -1);
        assert_eq!(b.flat().iter().filter(|s| **s == expect).count(), 1);
        assert_eq!(b.flat().len(), 2);
        b.update(|t| t.set_address(ram, 0x20_0000));
        assert!(b.flat().contains(&expect));
        b.update(|t| t.set_priority(ram, 10));
        assert!(b.flat().contains(&expect));
        b.update(|t| t.unmap(t.memory().system(), ram));
    }
}

#[test]
fn a_region_at_the_last_address_is_one_range_of_one_byte() {
    let b = Bench::new();
    b.map(u64::MAX, b.io("last", 1));
    b.map_in(b.memory.system(), u64::MAX - 1, b.io("larger", 0x1000), -1);
    assert_eq!(b.flat(), [r(u64::MAX - 1, u64::MAX - 1, "larger", 0), r(u64::MAX, u64::MAX, "last", 0)]);
}

#[test]
fn an_alias_of_2_to_the_64_may_begin_at_an_offset() {
    let b = Bench::new();
    let container = b.add(Region::container("container", WHOLE));
    b.map_in(container, 0x1000, b.io("low", 0x1000), 0);
    b.map_in(container, u64::MAX - 0xfff, b.io("high", 0x1000), 0);
    let alias = b.add(Region::alias("alias", container, 0x1800, WHOLE));
    b.map(0, alias);
    let high = u64::MAX - 0xfff - 0x1800;
    assert_eq!(b.flat(), [r(0, 0x7ff, "low", 0x800), r(high, high + 0xfff, "high", 0)]);
    b.update(|t| t.set_address(alias, 0x2000));
    assert_eq!(b.flat(), [r(0x2000, 0x27ff, "low", 0x800), r(high + 0x2000, u64::MAX, "high", 0)]);
}

#[test]
fn a_region_without_bytes_shows_nothing_and_hides_nothing() {
    let b = Bench::new();
    b.map(0, b.io("behind", 0x1000));
    let empty = b.io("empty", 0);
    b.map_in(b.memory.system(), 0x800, empty, 5);
    let container = b.add(Region::container("empty container", 0));
    b.map_in(b.memory.system(), 0x900, container, 5);
    b.map_in(container, 0, b.io("inside nothing", 0x10), 0);
    b.map(0x2000, b.add(Region::alias("empty alias", empty, 0, 0x10)));
    assert_eq!(b.flat(), [r(0, 0xfff, "behind", 0)]);
    b.update(|t| t.set_size(empty, 1));
    assert_eq!(
        b.flat()[1..],
        [r(0x800, 0x800, "empty", 0), r(0x801, 0xfff, "behind", 0x801), r(0x2000, 0x2000, "empty", 0),]
    );
}

#[test]
fn a_read_only_alias_of_a_rom_device_reads_its_memory_and_keeps_writes_off() {
    let b = Bench::new();
    let block = RamBlock::anonymous("flash", 0x1000).unwrap();
    block.write(0x10, &[1, 2, 3, 4]).unwrap();
    let writes = Arc::new(Mutex::new(0));
    let count = Arc::clone(&writes);
    let ops = Ops::new().read(|_| Ok(0xcc)).write(move |_, _| {
        *count.lock() += 1;
        Ok(())
    });
    let flash = b.add(Region::rom_device("flash", block, ops));
    b.map(0, flash);
    b.map(0x8000, b.add(Region::alias("ro", flash, 0, 0x1000).readonly(true)));
    let kinds = || {
        let view = b.memory.memory_space().view().unwrap();
        view.ranges().map(|r| (r.kind().to_string(), r.romd(), r.readonly())).collect::<Vec<_>>()
    };
    assert_eq!(kinds(), [("romd".to_owned(), true, false), ("rom".to_owned(), true, true)]);
    let reader = b.memory.memory_space().reader();
    assert_eq!(reader.load::<Be, u32>(0x8010), Ok(0x0102_0304));
    assert_eq!(reader.store::<Be, u32>(0x8010, 0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    assert_eq!(*writes.lock(), 0);
    reader.store::<Be, u32>(0x10, 0).unwrap();
    assert_eq!(*writes.lock(), 1);
    b.update(|t| t.set_romd(flash, false));
    assert_eq!(kinds(), [("i/o".to_owned(), false, false), ("rom".to_owned(), false, true)]);
    assert_eq!(reader.load::<Le, u32>(0x8010), Ok(0xcc));
}

#[test]
fn a_background_of_low_priority_fills_what_is_left() {
    let b = Bench::new();
    let container = b.add(Region::container("bus", 0x4000));
    b.map(0, container);
    b.map_in(container, 0, b.io("empty-slot", 0x4000), -10000);
    b.map_in(container, 0x1000, b.io("unimplemented", 0x1000), -1000);
    b.map_in(container, 0x1800, b.io("device", 0x100), 0);
    let expect = [
        r(0, 0xfff, "empty-slot", 0),
        r(0x1000, 0x17ff, "unimplemented", 0),
        r(0x1800, 0x18ff, "device", 0),
        r(0x1900, 0x1fff, "unimplemented", 0x900),
        r(0x2000, 0x3fff, "empty-slot", 0x2000),
    ];
    assert_eq!(b.flat(), expect);
    // Priorities are local: the lowest inside beats everything behind the container.
    b.map_in(b.memory.system(), 0, b.io("behind", 0x4000), -1);
    assert_eq!(b.flat(), expect);
}

#[test]
fn among_equals_the_one_mapped_later_wins_in_both_orders_and_after_moves() {
    for priority in [-3, 0, 7] {
        for swapped in [false, true] {
            let b = Bench::new();
            let (one, two) = (b.io("one", 0x20), b.io("two", 0x20));
            let place = [(0x0, one), (0x10, two)];
            for (at, id) in if swapped { [place[1], place[0]] } else { place } {
                b.map_in(b.memory.system(), at, id, priority);
            }
            let two_wins = [r(0, 0xf, "one", 0), r(0x10, 0x2f, "two", 0)];
            let one_wins = [r(0, 0x1f, "one", 0), r(0x20, 0x2f, "two", 0x10)];
            let (now, then) = if swapped {
                (one_wins.clone(), two_wins.clone())
            } else {
                (two_wins.clone(), one_wins.clone())
            };
            assert_eq!(b.flat(), now);
            // Who is moved, even there and back, was mapped last.
            let (loser, at) = if swapped { (two, 0x10) } else { (one, 0) };
            b.update(|t| t.set_address(loser, 0x1000));
            b.update(|t| t.set_address(loser, at));
            assert_eq!(b.flat(), then);
            b.update(|t| t.set_address(loser, at));
            assert_eq!(b.flat(), then);
            // Hiding and showing keeps the order; mapping anew does not.
            let winner = if loser == one { two } else { one };
            b.update(|t| t.set_enabled(winner, false));
            b.update(|t| t.set_enabled(winner, true));
            assert_eq!(b.flat(), then);
            let at = b.memory.region(winner).unwrap().addr;
            b.update(|t| t.unmap(t.memory().system(), winner));
            b.map_in(b.memory.system(), at, winner, priority);
            assert_eq!(b.flat(), now);
        }
    }
}
