//! Sections: parts of what a space shows, that keep what they show.
//!
//! | rule | test |
//! |---|---|
//! | `memory_region_find`: lowest, clipped, referenced, none without a space | `rules_topology.rs`: `find_…`; here `a_section_keeps_its_region_memory_and_device` |
//! | the first space with that root | `find_asks_the_space_that_was_made_first` |
//! | `memory_region_section_new_copy` | `a_section_keeps_its_region_memory_and_device` |
//! | `flatview_for_each_range` | `all_sections_of_a_space_in_order_while_the_map_changes` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;

use flatview::*;

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

fn block(size: u64) -> Arc<RamBlock> {
    RamBlock::anonymous("ram", size).unwrap()
}

#[test]
fn a_section_keeps_its_region_memory_and_device() {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1000);
    let gone = Arc::downgrade(&ram);
    let id = map(&memory, 0x1000, Region::ram("ram", ram));
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let ops = Ops::new().read(move |_| Ok(Arc::strong_count(&held) as u64));
    let device = map(&memory, 0x2000, Region::io("device", 8, ops));
    let found = memory.find(memory.system(), 0x1800, 0x100).unwrap().unwrap();
    let copy = found.clone();
    memory
        .update(|t| {
            for id in [id, device] {
                t.unmap(memory.system(), id)?;
                t.remove(id)?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    memory.synchronize().unwrap();
    assert!(matches!(memory.region(id), Err(MemoryError::StaleRegion { .. })));
    assert_eq!((found.name(), found.region, found.offset_in_region, found.size), ("ram", id, 0x800, 0x100));
    let (block, offset) = found.ram().unwrap();
    block.write(offset, &[7]).unwrap();
    drop((found, block));
    let mut out = [0];
    copy.ram().unwrap().0.read(0x800, &mut out).unwrap();
    assert_eq!(
        (out, Arc::strong_count(&alive)),
        ([7], 2),
        "the view it is from is there, and so is the device"
    );
    drop(copy);
    assert!(gone.upgrade().is_none() && Arc::strong_count(&alive) == 1);
}

#[test]
fn find_asks_the_space_that_was_made_first() {
    let memory = Memory::new(Endianness::Little);
    let root = memory.add(Region::container("root", 0x10000)).unwrap();
    let first = memory.address_space("first", root).unwrap();
    let second = memory.address_space("second", root).unwrap();
    let ram = memory.add(Region::ram("ram", block(0x1000))).unwrap();
    memory.map(root, 0x1000, ram).unwrap();
    assert_eq!(memory.find(root, 0, WHOLE).unwrap().unwrap().space, first.id());
    memory.remove_space(first.id()).unwrap();
    assert_eq!(memory.find(root, 0, WHOLE).unwrap().unwrap().space, second.id());
    assert!(matches!(first.find(0, 1), Err(MemoryError::StaleSpace)));
    let found = second.find(0x1800, 0x10000).unwrap().unwrap();
    assert_eq!((found.space, found.offset_in_region, found.size), (second.id(), 0x800, 0x800));
    assert_eq!((second.find(0, 0x1000).unwrap(), second.find(0x1000, 0).unwrap()), (None, None));
    assert_eq!(second.find(0, u128::MAX).unwrap().unwrap().size, 0x1000);
    assert_eq!(second.find(u64::MAX, WHOLE).unwrap(), None);
}

#[test]
fn all_sections_of_a_space_in_order_while_the_map_changes() {
    let memory = Memory::new(Endianness::Little);
    let ram = map(&memory, 0x1000, Region::ram("ram", block(0x2000)));
    let over = memory.add(Region::reservation("over", 0x100)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x1800, over, 1)).unwrap();
    let last = map(&memory, u64::MAX - 0xff, Region::reservation("last", 0x100));
    let space = memory.memory_space();
    let mut sections = space.sections().unwrap();
    let first = sections.next().unwrap();
    memory
        .update(|t| {
            for id in [ram, over, last] {
                t.unmap(memory.system(), id)?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    assert_eq!(space.sections().unwrap().count(), 0);
    let rest: Vec<_> = sections.collect();
    let seen = std::iter::once(&first).chain(&rest);
    let seen: Vec<_> = seen.map(|s| (s.region, s.offset_in_region, s.offset_in_space, s.last())).collect();
    assert_eq!(
        seen,
        [
            (ram, 0, 0x1000, 0x17ff),
            (over, 0, 0x1800, 0x18ff),
            (ram, 0x900, 0x1900, 0x2fff),
            (last, 0, u64::MAX - 0xff, u64::MAX)
        ]
    );
    // One range that covers everything ends the walk.
    let all = map(&memory, 0, Region::reservation("all", WHOLE));
    let sections: Vec<_> = space.sections().unwrap().collect();
    assert_eq!(sections.iter().map(|s| (s.region, s.size)).collect::<Vec<_>>(), [(all, WHOLE)]);
}
