//! Bad use gives a typed error and changes nothing.
//!
//! | bad use | test |
//! |---|---|
//! | a second container | `a_region_stands_in_one_container_only` |
//! | container cycle | `a_region_cannot_contain_itself` |
//! | alias cycle | `an_alias_cannot_show_itself` |
//! | alias of an ancestor (allowed, bounded) | `an_alias_of_its_ancestor_is_allowed_and_one_that_never_ends_is_refused` |
//! | larger than 2^64 | `a_region_cannot_be_larger_than_2_to_the_64` |
//! | sizes and addresses that overflow in sum | `what_reaches_past_the_last_address_is_cut_off_and_no_error` |
//! | stale ids | `an_id_is_stale_after_its_region_was_removed` |
//! | foreign ids | `an_id_of_another_memory_is_refused` |
//! | foreign and stale spaces | `a_space_of_another_memory_cannot_be_removed_here`, `a_space_is_stale_after_it_was_removed` |
//! | a bare memory's defaults | `a_bare_memory_has_no_defaults` |
//! | unmapping what is not there | `what_is_not_mapped_there_cannot_be_unmapped` |
//! | removing what is in use | `a_region_in_use_cannot_be_removed` |
//! | control characters | `names_are_one_line_of_printable_text` |
//! | a window without a block | `only_ram_has_a_window` |
//! | a block that is too small | `ram_cannot_be_larger_than_its_block` |
//! | not an alias, not a ROM device | `what_a_region_is_not_cannot_be_set` |
//! | a space inside an update | `spaces_are_made_and_removed_outside_of_updates` |
//! | `synchronize` in a callback or update | `synchronize_inside_an_update_is_refused`, `rules_reentry.rs` |
//! | limits: depth, ranges, steps | `a_map_beyond_the_limits_is_refused` |
//! | one error in many steps | `one_error_undoes_the_whole_transaction` |
//! | errors name the thing, the place and the cure | `errors_name_the_thing_the_place_and_the_cure` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;

use flatview::*;

/// A memory with something in it, and what can be seen of it.
struct Bench {
    memory: Memory,
    ram: RegionId,
    container: RegionId,
    alias: RegionId,
}

/// Everything that an error must not change.
type State = (Vec<String>, Vec<Arc<FlatView>>);

impl Bench {
    fn new() -> Self {
        let memory = Memory::new(Endianness::Little);
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("block", 0x1000).unwrap())).unwrap();
        let container = memory.add(Region::container("container", 0x8000)).unwrap();
        let alias = memory.add(Region::alias("alias", ram, 0x100, 0x100)).unwrap();
        memory
            .update(|t| {
                t.map(memory.system(), 0x10000, container)?;
                t.map(container, 0x1000, ram)?;
                t.map(container, 0x4000, alias)
            })
            .unwrap();
        Self { memory, ram, container, alias }
    }

    fn state(&self) -> State {
        let mut regions: Vec<String> = self
            .memory
            .regions()
            .iter()
            .map(|id| format!("{:?}", self.memory.region(*id).unwrap()))
            .collect();
        regions.sort();
        let views = self.memory.spaces().iter().map(|s| s.view().unwrap()).collect();
        (regions, views)
    }

    /// Does `f` in a transaction of its own, which must fail, and gives the error.
    fn refused<R: std::fmt::Debug>(
        &self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<R, MemoryError>,
    ) -> MemoryError {
        let (regions, views) = self.state();
        let error = self.memory.update(f).unwrap_err();
        let (regions_now, views_now) = self.state();
        assert_eq!(regions, regions_now, "after {error}");
        assert!(views.iter().zip(&views_now).all(|(a, b)| Arc::ptr_eq(a, b)), "after {error}");
        assert_eq!(self.memory.stale_view().unwrap(), None);
        error
    }
}

#[test]
fn a_region_stands_in_one_container_only() {
    let b = Bench::new();
    for container in [b.container, b.memory.system(), b.alias] {
        let error = b.refused(|t| t.map(container, 0, b.ram));
        assert!(matches!(&error, MemoryError::AlreadyMapped { name, container }
            if &**name == "ram" && &**container == "container"));
    }
}

#[test]
fn a_region_cannot_contain_itself() {
    let b = Bench::new();
    let inner = b.memory.add(Region::container("inner", 0x10)).unwrap();
    let outer = b.memory.add(Region::container("outer", 0x10)).unwrap();
    assert!(matches!(b.refused(|t| t.map(inner, 0, inner)), MemoryError::ContainerCycle { .. }));
    b.memory.map(outer, 0, inner).unwrap();
    let error = b.refused(|t| t.map(inner, 0, outer));
    assert!(matches!(&error, MemoryError::ContainerCycle { name, container }
        if &**name == "outer" && &**container == "inner"));
    let system = b.memory.system();
    assert!(matches!(b.refused(|t| t.map(b.container, 0, system)), MemoryError::ContainerCycle { .. }));
}

#[test]
fn an_alias_cannot_show_itself() {
    let b = Bench::new();
    assert!(matches!(b.refused(|t| t.set_alias_target(b.alias, b.alias)), MemoryError::AliasCycle { .. }));
    let two = b.memory.add(Region::alias("two", b.alias, 0, 0x10)).unwrap();
    let three = b.memory.add(Region::alias("three", two, 0, 0x10)).unwrap();
    for target in [two, three] {
        let error = b.refused(|t| t.set_alias_target(b.alias, target));
        assert!(matches!(&error, MemoryError::AliasCycle { name, .. } if &**name == "alias"));
    }
    b.memory.update(|t| t.set_alias_target(three, b.ram)).unwrap();
    b.memory.update(|t| t.set_alias_target(b.alias, three)).unwrap();
}

#[test]
fn an_alias_of_its_ancestor_is_allowed_and_one_that_never_ends_is_refused() {
    let b = Bench::new();
    let system = b.memory.system();
    let up = b.memory.add(Region::alias("up", system, 0x10000, 0x8000)).unwrap();
    b.memory.map(system, 0x100_0000, up).unwrap();
    assert_eq!(b.memory.memory_space().view().unwrap().lookup(0x100_1000).unwrap().region(), b.ram);
    // At its own place it would show itself, and so on without end.
    for offset in [0x100_0000, 0x100_0001, 0xff_ffff] {
        let error = b.refused(|t| t.set_alias_offset(up, offset));
        assert!(matches!(&error, MemoryError::TooDeep { root, .. } if &**root == "system"), "{error}");
    }
}

#[test]
fn a_region_cannot_be_larger_than_2_to_the_64() {
    let b = Bench::new();
    for size in [WHOLE + 1, u128::MAX] {
        for region in [
            Region::container("large", size),
            Region::reservation("large", size),
            Region::alias("large", b.ram, 0, size),
        ] {
            let error = b.refused(|t| t.add(region));
            assert!(matches!(error, MemoryError::TooLarge { size: s, .. } if s == size));
        }
        let error = b.refused(|t| t.set_size(b.container, size));
        assert!(matches!(error, MemoryError::TooLarge { .. }));
    }
    b.memory.update(|t| t.set_size(b.container, WHOLE)).unwrap();
}

#[test]
fn what_reaches_past_the_last_address_is_cut_off_and_no_error() {
    let memory = Memory::new(Endianness::Little);
    let whole = memory.add(Region::reservation("whole", WHOLE)).unwrap();
    memory.map(memory.system(), u64::MAX - 1, whole).unwrap();
    let alias = memory.add(Region::alias("alias", whole, u64::MAX, WHOLE)).unwrap();
    memory.map(memory.system(), 0, alias).unwrap();
    let view = memory.memory_space().view().unwrap();
    let seen: Vec<_> = view.ranges().map(|r| (r.start(), r.last(), r.offset())).collect();
    assert_eq!(seen, [(0, 0, u64::MAX), (u64::MAX - 1, u64::MAX, 0)]);
    assert_eq!(memory.find(memory.system(), u64::MAX, u128::MAX).unwrap().unwrap().size, 1);
}

#[test]
fn an_id_is_stale_after_its_region_was_removed() {
    let b = Bench::new();
    let id = b.memory.add(Region::container("gone", 0x10)).unwrap();
    b.memory.update(|t| t.remove(id)).unwrap();
    // The place in the arena is used again, the id is not.
    let next = b.memory.add(Region::container("next", 0x10)).unwrap();
    assert_ne!(next, id);
    let stale = |e: MemoryError| assert!(matches!(e, MemoryError::StaleRegion { id: i } if i == id), "{e}");
    stale(b.refused(|t| t.remove(id)));
    stale(b.refused(|t| t.map(b.container, 0, id)));
    stale(b.refused(|t| t.map(id, 0, next)));
    stale(b.refused(|t| t.unmap(b.container, id)));
    stale(b.refused(|t| t.unmap(id, next)));
    stale(b.refused(|t| t.set_enabled(id, true)));
    stale(b.refused(|t| t.set_address(id, 0)));
    stale(b.refused(|t| t.set_size(id, 0)));
    stale(b.refused(|t| t.set_priority(id, 0)));
    stale(b.refused(|t| t.set_alias_offset(id, 0)));
    stale(b.refused(|t| t.set_alias_target(id, next)));
    stale(b.refused(|t| t.set_alias_target(b.alias, id)));
    stale(b.refused(|t| t.set_readonly(id, true)));
    stale(b.refused(|t| t.set_nonvolatile(id, true)));
    stale(b.refused(|t| t.set_romd(id, true)));
    stale(b.refused(|t| t.region(id)));
    stale(b.refused(|t| t.add(Region::alias("of gone", id, 0, 0x10))));
    stale(b.memory.region(id).unwrap_err());
    stale(b.memory.children(id).unwrap_err());
    stale(b.memory.is_mapped(id).unwrap_err());
    stale(b.memory.find(id, 0, 1).unwrap_err());
    stale(b.memory.contains(id, 0).unwrap_err());
    stale(b.memory.address_space("of gone", id).unwrap_err());
    assert_eq!(b.memory.spaces().len(), 2);
}

#[test]
fn an_id_of_another_memory_is_refused() {
    let (b, other) = (Bench::new(), Bench::new());
    let foreign = |e: MemoryError| assert!(matches!(e, MemoryError::ForeignRegion { .. }), "{e}");
    let free = b.memory.add(Region::container("free", 0x10)).unwrap();
    foreign(b.refused(|t| t.map(other.container, 0, free)));
    foreign(b.refused(|t| t.map(b.container, 0, other.ram)));
    foreign(b.refused(|t| t.unmap(b.container, other.ram)));
    foreign(b.refused(|t| t.remove(other.ram)));
    foreign(b.refused(|t| t.set_enabled(other.ram, false)));
    foreign(b.refused(|t| t.set_alias_target(b.alias, other.ram)));
    foreign(b.refused(|t| t.add(Region::alias("foreign", other.ram, 0, 0x10))));
    foreign(b.memory.region(other.ram).unwrap_err());
    foreign(b.memory.find(other.container, 0, 1).unwrap_err());
    foreign(b.memory.address_space("foreign", other.container).unwrap_err());
}

#[test]
fn a_space_of_another_memory_cannot_be_removed_here() {
    let (one, two) = (Memory::new(Endianness::Little), Memory::new(Endianness::Little));
    let theirs = two.memory_space().id();
    assert!(matches!(one.remove_space(theirs), Err(MemoryError::ForeignSpace)));
    assert!(matches!(one.space(theirs), Err(MemoryError::ForeignSpace)));
    assert_eq!((one.spaces().len(), two.spaces().len()), (2, 2));
    assert_eq!(two.space(theirs).unwrap().name(), "memory");
}

#[test]
fn a_space_is_stale_after_it_was_removed() {
    let b = Bench::new();
    let space = b.memory.address_space("space", b.container).unwrap();
    b.memory.remove_space(space.id()).unwrap();
    assert!(matches!(b.memory.remove_space(space.id()), Err(MemoryError::StaleSpace)));
    assert!(matches!(b.memory.space(space.id()), Err(MemoryError::StaleSpace)));
    assert!(matches!(space.root(), Err(MemoryError::StaleSpace)));
    assert!(matches!(space.view(), Err(MemoryError::StaleSpace)));
}

#[test]
fn a_bare_memory_has_no_defaults() {
    let memory = Memory::builder(Endianness::Big).bare().build();
    assert!(memory.regions().is_empty() && memory.spaces().is_empty());
    assert!(matches!(memory.region(memory.system()), Err(MemoryError::StaleRegion { .. })));
    assert!(matches!(memory.region(memory.io()), Err(MemoryError::StaleRegion { .. })));
    assert!(memory.memory_space().view().is_err());
    assert!(memory.memory_space().reader().load::<Le, u8>(0).is_err());
}

#[test]
fn what_is_not_mapped_there_cannot_be_unmapped() {
    let b = Bench::new();
    let free = b.memory.add(Region::container("free", 0x10)).unwrap();
    for (container, child) in [(b.container, free), (b.memory.system(), b.ram), (b.ram, b.container)] {
        assert!(matches!(b.refused(|t| t.unmap(container, child)), MemoryError::NotMapped { .. }));
    }
}

#[test]
fn a_region_in_use_cannot_be_removed() {
    let b = Bench::new();
    let why = |id| match b.refused(|t| t.remove(id)) {
        MemoryError::InUse { why, .. } => why,
        other => panic!("{other}"),
    };
    assert_eq!(why(b.ram), InUse::Mapped);
    b.memory.update(|t| t.unmap(b.container, b.ram)).unwrap();
    assert_eq!(why(b.ram), InUse::Aliased);
    b.memory
        .update(|t| {
            t.unmap(b.container, b.alias)?;
            t.remove(b.alias)?;
            t.remove(b.ram)
        })
        .unwrap();
    let child = b.memory.add(Region::container("child", 0x10)).unwrap();
    b.memory.map(b.container, 0, child).unwrap();
    b.memory.update(|t| t.unmap(b.memory.system(), b.container)).unwrap();
    assert_eq!(why(b.container), InUse::HasChildren);
    b.memory.update(|t| t.unmap(b.container, child)).unwrap();
    let space = b.memory.address_space("space", b.container).unwrap();
    assert_eq!(why(b.container), InUse::RootOfSpace);
    assert_eq!(why(b.memory.system()), InUse::RootOfSpace);
    b.memory.remove_space(space.id()).unwrap();
    b.memory.update(|t| t.remove(b.container)).unwrap();
    assert_eq!(b.memory.regions().len(), 3);
}

#[test]
fn names_are_one_line_of_printable_text() {
    let b = Bench::new();
    for name in ["two\nlines", "tab\t", "\0", "bell\u{7}", "\u{85}", "\u{1b}[31mred"] {
        assert!(matches!(b.refused(|t| t.add(Region::container(name, 1))), MemoryError::BadName { .. }));
        assert!(matches!(b.memory.address_space(name, b.container), Err(MemoryError::BadName { .. })));
        assert!(matches!(RamBlock::anonymous(name, 1), Err(RamError::BadName { .. })));
    }
    for name in ["", " ", "pci-io[0]", "Ünïcode λ", "a/b\\c"] {
        b.memory.add(Region::container(name, 1)).unwrap();
    }
}

#[test]
fn only_ram_has_a_window() {
    let b = Bench::new();
    for region in [
        Region::container("no block", 1),
        Region::reservation("no block", 1),
        Region::io("no block", 1, Ops::new()),
        Region::alias("no block", b.ram, 0, 1),
    ] {
        let error = b.refused(|t| t.add(region.window(0, 1)));
        assert!(matches!(error, MemoryError::NoBlock { name } if &*name == "no block"));
    }
}

#[test]
fn ram_cannot_be_larger_than_its_block() {
    let b = Bench::new();
    let block = RamBlock::anonymous("small", 0x1000).unwrap();
    let ram = || Region::ram("ram", block.clone());
    let flash = || Region::rom_device("ram", block.clone(), Ops::new());
    for (region, wanted, left) in [
        (ram().size(0x1001), 0x1001, 0x1000),
        (ram().window(0xfff, 2), 2, 1),
        (ram().window(0x1000, 1), 1, 0),
        (ram().window(u64::MAX, 1), 1, 0),
        (ram().window(1, u64::MAX), u128::from(u64::MAX), 0xfff),
        (flash().window(0x800, 0x801), 0x801, 0x800),
    ] {
        let error = b.refused(|t| t.add(region));
        assert!(
            matches!(error, MemoryError::BlockTooSmall { size, room, .. } if size == wanted && room == left),
            "{error}"
        );
    }
    let error = b.refused(|t| t.set_size(b.ram, 0x1001));
    assert!(matches!(error, MemoryError::BlockTooSmall { .. }));
    b.memory.add(ram().window(0x1000, 0)).unwrap();
}

#[test]
fn what_a_region_is_not_cannot_be_set() {
    let b = Bench::new();
    assert!(matches!(b.refused(|t| t.set_alias_offset(b.ram, 0)), MemoryError::NotAlias { .. }));
    assert!(matches!(b.refused(|t| t.set_alias_target(b.ram, b.container)), MemoryError::NotAlias { .. }));
    for id in [b.ram, b.alias, b.container] {
        assert!(matches!(b.refused(|t| t.set_romd(id, false)), MemoryError::NotRomDevice { .. }));
    }
}

#[test]
fn spaces_are_made_and_removed_outside_of_updates() {
    let b = Bench::new();
    let id = b.memory.memory_space().id();
    let error = b.refused(|_| b.memory.address_space("inside", b.container));
    assert!(matches!(error, MemoryError::SpaceInsideUpdate));
    let error = b.refused(|_| b.memory.remove_space(id));
    assert!(matches!(error, MemoryError::SpaceInsideUpdate));
    assert_eq!(b.memory.spaces().len(), 2);
}

#[test]
fn synchronize_inside_an_update_is_refused() {
    let b = Bench::new();
    assert!(matches!(b.refused(|_| b.memory.synchronize()), MemoryError::WouldWaitForItself));
    assert_eq!(b.memory.synchronize(), Ok(()));
}

#[test]
fn a_map_beyond_the_limits_is_refused() {
    let limits = Limits { depth: 16, ranges: 100, steps: 10_000 };
    let memory = Memory::builder(Endianness::Little).limits(limits).build();
    // A chain of containers just as deep as allowed.
    let mut at = memory.system();
    for i in 1..15 {
        let next = memory.add(Region::container(format!("level {i}"), WHOLE)).unwrap();
        let beside = memory.add(Region::reservation("beside", 1)).unwrap();
        memory.map(at, 0, next).unwrap();
        memory.map(at, u64::MAX, beside).unwrap();
        at = next;
    }
    let leaf = memory.add(Region::reservation("leaf", 1)).unwrap();
    memory.map(at, 0, leaf).unwrap();
    let below = memory.add(Region::reservation("below", 1)).unwrap();
    let before = memory.memory_space().view().unwrap();
    assert!(matches!(memory.map(leaf, 0, below), Err(MemoryError::TooDeep { limit: 16, .. })));
    assert!(Arc::ptr_eq(&before, &memory.memory_space().view().unwrap()));
    assert!(!memory.is_mapped(below).unwrap());

    let error = memory.update(|t| {
        for i in 0..200 {
            let id = t.add(Region::reservation("many", 1))?;
            t.map(memory.system(), 0x1000 + 2 * i, id)?;
        }
        Ok::<(), MemoryError>(())
    });
    assert!(matches!(error, Err(MemoryError::TooManyRanges { limit: 100, .. })));

    // Fourteen levels of two aliases each: 2^14 steps.
    let limits = Limits { depth: 64, ..limits };
    let memory = Memory::builder(Endianness::Little).limits(limits).build();
    let before = memory.memory_space().view().unwrap();
    let error = memory.update(|t| {
        let mut below = t.add(Region::container("bottom", 1))?;
        for _ in 0..14 {
            let pair = t.add(Region::container("pair", 2))?;
            for _ in 0..2 {
                let alias = t.add(Region::alias("twice", below, 0, 1))?;
                t.map(pair, 0, alias)?;
            }
            below = pair;
        }
        t.map(memory.system(), 0x5000, below)
    });
    assert!(matches!(error, Err(MemoryError::TooMuchWork { limit: 10_000, .. })), "{error:?}");
    assert!(Arc::ptr_eq(&before, &memory.memory_space().view().unwrap()));
    assert_eq!(memory.stale_view().unwrap(), None);
}

#[test]
fn one_error_undoes_the_whole_transaction() {
    let b = Bench::new();
    let error = b.refused(|t| {
        let extra = t.add(Region::reservation("extra", 0x100))?;
        t.map_overlap(b.container, 0x1000, extra, 3)?;
        t.set_size(b.container, 0x2000)?;
        t.set_address(b.ram, 0x40)?;
        t.set_alias_offset(b.alias, 0x200)?;
        t.set_alias_target(b.alias, extra)?;
        t.unmap(b.container, b.ram)?;
        t.remove(b.ram)?;
        t.set_priority(b.container, 9)?;
        t.set_readonly(b.container, true)?;
        t.set_enabled(b.container, false)?;
        t.unmap(b.container, b.ram)
    });
    assert!(matches!(error, MemoryError::StaleRegion { .. }));
    assert_eq!(b.memory.memory_space().reader().load::<Le, u32>(0x11000), Ok(0), "the RAM is back");
    // The same, step by step: each error is local to its step, if the caller goes on.
    b.memory
        .update(|t| {
            assert!(t.map(b.memory.system(), 0, b.ram).is_err());
            assert!(t.remove(b.ram).is_err());
            t.set_address(b.ram, 0x2000)
        })
        .unwrap();
    assert_eq!(b.memory.memory_space().reader().load::<Le, u32>(0x12000), Ok(0));
}

#[test]
fn errors_name_the_thing_the_place_and_the_cure() {
    let b = Bench::new();
    let error = b.refused(|t| t.map(b.memory.system(), 0, b.ram));
    assert_eq!(
        error.to_string(),
        "Region 'ram' is already mapped in 'container'; unmap it first, or map an alias of it"
    );
    let error = b.refused(|t| t.set_size(b.ram, 0x2000));
    assert_eq!(
        error.to_string(),
        "Region 'ram' of 0x2000 bytes does not fit in RAM block 'block', which has 0x1000 bytes from the region's \
         offset on"
    );
    let error = b.memory.memory_space().reader().load::<Le, u32>(0x5000_0000).unwrap_err();
    assert_eq!(error.to_string(), "DECODE_ERROR at 0x50000000, size 4: rejected");
}
