//! Edges of RAM blocks: what the host has not got, what it is told to keep, and blocks by name and by host address.

use std::sync::Arc;

use flatview::{Endianness, Memory, RamBlock, RamError, Region, Share};

const PAGE: u64 = 4096;

#[test]
fn memory_that_the_host_has_not_got_is_an_error_and_nothing_is_left() {
    let memory = Memory::new(Endianness::Little);
    let before = memory.regions().len();
    for size in [1 << 62, u64::MAX - 5, u64::MAX] {
        for share in [Share::Private, Share::Shared] {
            let error = RamBlock::builder("vast", size).share(share).build().unwrap_err();
            assert!(matches!(&error, RamError::Map { size: s, .. } if *s == size), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("'vast'") && text.contains("ask for less"), "{text}");
        }
    }
    // The block comes first, so there is no region that would have to be unmade.
    assert_eq!((memory.regions().len(), memory.ram_blocks().len()), (before, 0));
    // And the next one can be had.
    memory.add(Region::ram("small", RamBlock::anonymous("small", PAGE).unwrap())).unwrap();
}

#[test]
fn two_blocks_of_one_name_are_two_blocks() {
    let memory = Memory::new(Endianness::Little);
    let blocks = [1, 2].map(|n| {
        let block = RamBlock::anonymous("ram", n * PAGE).unwrap();
        let region = memory.add(Region::ram("ram", block.clone())).unwrap();
        memory.map(memory.system(), n * 0x1_0000, region).unwrap();
        block
    });
    let listed: Vec<_> = memory.ram_blocks().iter().map(|b| (b.name.to_string(), b.size)).collect();
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&("ram".to_owned(), PAGE)) && listed.contains(&("ram".to_owned(), 2 * PAGE)));
    memory.memory_space().write(0x1_0000, &[1]).unwrap();
    let mut byte = [9];
    blocks[1].read(0, &mut byte).unwrap();
    assert_eq!(byte, [0]);
}

#[test]
fn the_block_at_a_host_address_is_found_and_beside_it_there_is_none() {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("ram", 2 * PAGE + 5).unwrap();
    let base = block.host().as_ptr().cast_const();
    assert!(memory.block_at_host(base).is_none(), "no region is made of it yet");
    let region = memory.add(Region::rom("rom", block.clone()).window(PAGE, PAGE)).unwrap();
    let other = RamBlock::anonymous("other", PAGE).unwrap();
    memory.add(Region::ram("other", other.clone())).unwrap();
    for offset in [0, 1, PAGE, 2 * PAGE + 4] {
        let (found, at) = memory.block_at_host(base.wrapping_add(offset as usize)).unwrap();
        assert!(Arc::ptr_eq(&found, &block) && at == offset, "of the block, whatever its regions show");
    }
    assert!(memory.block_at_host(base.wrapping_add(2 * PAGE as usize + 5)).is_none());
    assert!(memory.block_at_host(base.wrapping_sub(1)).is_none());
    assert!(memory.block_at_host(std::ptr::null()).is_none());
    assert_eq!(memory.block_at_host(other.host().as_ptr()).unwrap().0.name(), "other");
    memory.update(|t| t.remove(region)).unwrap();
    assert!(memory.block_at_host(base).is_none());
}

#[test]
fn what_is_synced_is_in_the_file_and_what_has_no_file_needs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nvm");
    std::fs::write(&path, vec![0; 3 * PAGE as usize]).unwrap();
    let shared = RamBlock::from_file("nvm", &path, PAGE, 2 * PAGE, Share::Shared, false).unwrap();
    shared.write(PAGE - 1, &[1, 2]).unwrap();
    // To the byte: the host writes whole pages.
    shared.sync(PAGE - 1..PAGE + 1).unwrap();
    shared.sync(0..2 * PAGE).unwrap();
    let now = std::fs::read(&path).unwrap();
    assert_eq!(now[2 * PAGE as usize - 1..][..2], [1, 2]);
    shared.sync(7..7).unwrap();

    let readonly = RamBlock::from_file("image", &path, 0, PAGE, Share::Shared, true).unwrap();
    readonly.sync(0..PAGE).unwrap();
    let private = RamBlock::from_file("copy", &path, 0, PAGE, Share::Private, false).unwrap();
    let anonymous = RamBlock::anonymous("ram", PAGE).unwrap();
    for block in [&private, &anonymous] {
        block.write(0, &[9]).unwrap();
        block.sync(0..PAGE).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap()[0], 0, "a private copy is nobody's file");
    for block in [&shared, &anonymous] {
        for range in [0..block.size() + 1, u64::MAX..u64::MAX, 0..u64::MAX] {
            let error = block.sync(range).unwrap_err();
            assert!(matches!(error, RamError::OutOfRange { .. }), "{error}");
        }
    }
}
