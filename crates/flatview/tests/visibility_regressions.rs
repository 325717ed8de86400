//! What the random maps of `visibility.rs` found, each as small as it gets.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use flatview::{AddressSpace, Endianness, Limits, Memory, MemoryError, Region, RegionId, WHOLE};

fn memory() -> Memory {
    Memory::new(Endianness::Little)
}

fn leaf(memory: &Memory, name: &str, size: u128) -> RegionId {
    memory.add(Region::reservation(name, size)).unwrap()
}

fn flat(space: &AddressSpace) -> Vec<(u64, u64, String)> {
    space.view().unwrap().ranges().map(|r| (r.start(), r.last(), r.name().to_owned())).collect()
}

/// The address and the name, through the slot that readers look at.
fn reader_meets(space: &AddressSpace, addr: u64) -> Option<RegionId> {
    space.reader().peek(addr, &mut [0]).unwrap_err().region()
}

#[test]
fn a_region_that_shrinks_and_moves_in_one_update_leaves_nothing_behind() {
    let memory = memory();
    let a = leaf(&memory, "a", 0x1000);
    memory.map(memory.system(), 0x1000, a).unwrap();
    memory
        .update(|t| {
            t.set_size(a, 0x800)?;
            t.set_address(a, 0x5000)
        })
        .unwrap();
    assert_eq!(flat(&memory.memory_space()), [(0x5000, 0x57ff, "a".to_owned())]);
    memory
        .update(|t| {
            t.set_size(a, 0x10)?;
            t.unmap(memory.system(), a)
        })
        .unwrap();
    assert!(flat(&memory.memory_space()).is_empty());
}

#[test]
fn two_spaces_that_swap_their_roots_in_one_update_both_have_views() {
    let memory = memory();
    let containers = ["one", "two"].map(|name| {
        let container = memory.add(Region::container(name, WHOLE)).unwrap();
        for addr in [0, 0x100] {
            let leaf = leaf(&memory, &format!("in {name}"), 0x10);
            memory.map(container, addr, leaf).unwrap();
        }
        container
    });
    let aliases = containers.map(|c| memory.add(Region::alias("bus master", c, 0, WHOLE)).unwrap());
    let spaces = aliases.map(|alias| memory.address_space("dma", alias).unwrap());
    let readers = spaces.each_ref().map(AddressSpace::reader);
    for round in 1..4 {
        memory
            .update(|t| {
                t.set_alias_target(aliases[0], containers[round % 2])?;
                t.set_alias_target(aliases[1], containers[(round + 1) % 2])
            })
            .unwrap();
        for (i, space) in spaces.iter().enumerate() {
            let name = ["in one", "in two"][(round + i) % 2];
            assert_eq!(flat(space).iter().map(|r| &*r.2).collect::<Vec<_>>(), [name; 2]);
            let met = readers[i].peek(0, &mut [0]).unwrap_err().region().unwrap();
            assert_eq!(&*memory.region(met).unwrap().name, name);
            assert_eq!(reader_meets(space, 0), Some(met));
        }
        assert_eq!(memory.stale_view(), Ok(None));
    }
}

#[test]
fn a_map_that_nobody_looks_at_any_more_need_not_be_renderable() {
    let limits = Limits { depth: 20, ..Limits::default() };
    let memory = Memory::builder(Endianness::Little).limits(limits).build();
    let [one, two] = ["one", "two"].map(|name| {
        let container = memory.add(Region::container(name, WHOLE)).unwrap();
        for addr in [0, 0x100] {
            memory.map(container, addr, leaf(&memory, name, 0x10)).unwrap();
        }
        container
    });
    let alias = memory.add(Region::alias("bus master", one, 0, WHOLE)).unwrap();
    let space = memory.address_space("dma", alias).unwrap();
    let mirror = memory.add(Region::alias("mirror", one, 0, WHOLE)).unwrap();
    assert!(matches!(memory.map(one, 0, mirror), Err(MemoryError::TooDeep { .. })));
    memory
        .update(|t| {
            t.map(one, 0, mirror)?;
            t.set_alias_target(alias, two)
        })
        .unwrap();
    assert_eq!(flat(&space)[0].2, "two");
    let back = memory.update(|t| t.set_alias_target(alias, one));
    assert!(matches!(back, Err(MemoryError::TooDeep { .. })), "{back:?}");
    assert_eq!(flat(&space)[0].2, "two");
}
