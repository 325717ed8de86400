//! What the random maps of `visibility.rs` found, each as small as it gets.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use flatview::{AddressSpace, Endianness, Memory, Region, RegionId};

fn memory() -> Memory {
    Memory::new(Endianness::Little)
}

fn leaf(memory: &Memory, name: &str, size: u128) -> RegionId {
    memory.add(Region::reservation(name, size)).unwrap()
}

fn flat(space: &AddressSpace) -> Vec<(u64, u64, String)> {
    space.view().unwrap().ranges().map(|r| (r.start(), r.last(), r.name().to_owned())).collect()
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
    assert_eq!(flat(&memory.memory_space()), []);
}
