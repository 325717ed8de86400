//! Mappings, region caches, copies, atomic accesses and questions through IOMMUs.
//!
//! | edge | test |
//! |---|---|
//! | a mapping goes to the end of the page, and on over pages that are one run | `memory_behind_an_iommu_is_mapped_as_far_as_its_pages_are_one_run` |
//! | it is direct only if the IOMMU allows the direction | `what_the_iommu_does_not_allow_is_mapped_as_a_copy` |
//! | it stays when the IOMMU unmaps the page | `a_mapping_outlives_its_translation` |
//! | a region cache asks each time | `a_cache_behind_an_iommu_asks_for_each_access` |
//! | atomic accesses need both permissions | `an_atomic_access_goes_through_if_it_may_read_and_write` |
//! | questions | `what_an_access_would_meet_behind_an_iommu_is_known_without_one` |
//! | copies and fills | `copies_and_fills_are_cut_at_pages` |

use std::sync::Arc;

use flatview::Direction::{Read, ReadWrite, Write};
use flatview::*;

use crate::table::{Table, block, map, put};

const PAGE: u64 = 0x1000;

struct Machine {
    memory: Memory,
    table: Arc<Table>,
    iommu: RegionId,
    dma: AddressSpace,
    ram: RegionId,
    block: Arc<RamBlock>,
}

/// `memory` with 64 KiB of RAM at 0, a device at 0x20000, and a space `dma` with an IOMMU of 64 KiB and RAM behind it.
fn machine() -> Machine {
    let memory = Memory::new(Endianness::Little);
    let block_ = block(0x1_0000);
    let ram = map(&memory, memory.system(), 0, Region::ram("ram", Arc::clone(&block_)));
    let device = Region::io("device", PAGE.into(), Ops::new().read(|a| Ok(a.offset())).write(|_, _| Ok(())));
    map(&memory, memory.system(), 0x2_0000, device);
    let table = Table::new(&memory.memory_space(), PAGE);
    let root = memory.add(Region::container("bus", WHOLE)).unwrap();
    let iommu = map(&memory, root, 0, Region::iommu("iommu", 0x1_0000, Arc::clone(&table)));
    map(&memory, root, 0x1_0000, Region::ram("local", block(PAGE)));
    let dma = memory.address_space("dma", root).unwrap();
    Machine { memory, table, iommu, dma, ram, block: block_ }
}

#[test]
fn memory_behind_an_iommu_is_mapped_as_far_as_its_pages_are_one_run() {
    let m = machine();
    m.table.map(0x2000, 0x9000, IommuPerm::READ_WRITE);
    m.table.map(0x3000, 0xa000, IommuPerm::READ_WRITE);
    m.table.map(0x4000, 0xb000, IommuPerm::READ);
    m.table.map(0x5000, 0x1000, IommuPerm::READ_WRITE);
    m.table.map(0xf000, 0xf000, IommuPerm::READ_WRITE);
    let mapped = m.dma.map(0x2800, 0x10000, ReadWrite).unwrap();
    assert!(mapped.is_direct());
    assert_eq!((mapped.address(), mapped.len()), (0x2800, 0x1800), "0x4000 may not be written");
    assert_eq!(mapped.block().unwrap().1, 0x9800);
    mapped.write(0x7fe, &[1, 2, 3, 4]).unwrap();
    let mut out = [0; 4];
    m.block.read(0x9ffe, &mut out).unwrap();
    assert_eq!(out, [1, 2, 3, 4]);
    mapped.unmap(0x1800).unwrap();
    assert_eq!(m.dma.map(0x2800, 0x10000, Read).unwrap().len(), 0x2800, "and 0x5000 is elsewhere");
    assert_eq!(m.dma.map(0x2800, 0x10, Read).unwrap().len(), 0x10);
    assert_eq!(m.dma.map(0x5fff, 0x10, Write).unwrap().len(), 1);
    assert_eq!(
        m.dma.map(0xf000, u64::MAX, Write).unwrap().len(),
        PAGE,
        "and not into the RAM beside the IOMMU"
    );
    // Dirty as anywhere.
    m.memory.set_log(m.ram, DirtyClient::VGA, true).unwrap();
    m.memory.reset_dirty(m.ram, 0, 0x1_0000, DirtyClient::VGA).unwrap();
    m.dma.map(0x2800, 0x1000, Write).unwrap().unmap(0x801).unwrap();
    let taken = m.memory.snapshot_and_clear_dirty(m.ram, 0, 0x1_0000, DirtyClient::VGA).unwrap();
    assert_eq!(taken.runs().map(|run| (run.start, run.end)).collect::<Vec<_>>(), [(0x9000, 0xb000)]);
}

#[test]
fn what_the_iommu_does_not_allow_is_mapped_as_a_copy() {
    let m = machine();
    m.table.map(0x1000, 0x1000, IommuPerm::READ);
    m.table.map(0x2000, 0x2000, IommuPerm::WRITE);
    m.table.map(0x3000, 0x2_0000, IommuPerm::READ_WRITE);
    m.block.write(0x1000, &[7; 16]).unwrap();
    let direct = |addr| [Read, Write, ReadWrite].map(|d| m.dma.map(addr, 8, d).unwrap().is_direct());
    assert_eq!(direct(0), [false; 3]);
    assert_eq!(direct(0x1000), [true, false, false]);
    assert_eq!(direct(0x2000), [false, true, false]);
    assert_eq!(direct(0x3000), [false; 3]);
    // What is denied fails as on the bus: when it is read, and when it is written back.
    let mapped = m.dma.map(0x1008, 8, ReadWrite).unwrap();
    assert_eq!((mapped.contents(), mapped.load::<Le, u8>(0)), (Ok(()), Ok(7)));
    mapped.store::<Le, u8>(0, 1).unwrap();
    assert_eq!(mapped.unmap(8).unwrap_err().reason(), Reason::IommuDenied);
    let mapped = m.dma.map(0x2000, 8, Read).unwrap();
    assert_eq!(mapped.contents().unwrap_err().reason(), Reason::IommuDenied);
    // A device behind it.
    let mapped = m.dma.map(0x3004, 8, Read).unwrap();
    assert_eq!((mapped.len(), mapped.load::<Le, u32>(0), mapped.load::<Le, u32>(4)), (8, Ok(4), Ok(8)));
    // An IOMMU that is seen through something read-only.
    let readonly = m.memory.add(Region::alias("readonly", m.iommu, 0, 0x1_0000).readonly(true)).unwrap();
    let space = m.memory.address_space("readonly", readonly).unwrap();
    m.table.map(0x4000, 0x4000, IommuPerm::READ_WRITE);
    assert!(space.map(0x4000, 8, Read).unwrap().is_direct());
    assert!(!space.map(0x4000, 8, Write).unwrap().is_direct());
    assert_eq!(space.reader().swap::<Le, u8>(0x4000, 1).unwrap_err().reason(), Reason::ReadOnly);
}

#[test]
fn a_mapping_outlives_its_translation() {
    let m = machine();
    m.table.map(0x1000, 0x5000, IommuPerm::READ_WRITE);
    let mapped = m.dma.map(0x1000, 8, Write).unwrap();
    m.table.unmap(0x1000);
    mapped.store::<Le, u32>(0, 5).unwrap();
    mapped.unmap(8).unwrap();
    assert_eq!(m.memory.memory_space().reader().load::<Le, u32>(0x5000), Ok(5));
    assert!(m.dma.reader().load::<Le, u32>(0x1000).is_err());
}

#[test]
fn a_cache_behind_an_iommu_asks_for_each_access() {
    let m = machine();
    m.table.map(0x1000, 0x5000, IommuPerm::READ_WRITE);
    m.table.map(0x2000, 0x8000, IommuPerm::READ_WRITE);
    let cache = m.dma.cache(0x1f00, 0x200, Write).unwrap();
    assert_eq!((cache.is_ram(), cache.len(), cache.is_current()), (false, 0x200, true));
    cache.write(0xfc, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let system = m.memory.memory_space().reader();
    assert_eq!(
        (system.load::<Be, u32>(0x5ffc), system.load::<Be, u32>(0x8000)),
        (Ok(0x0102_0304), Ok(0x0506_0708))
    );
    m.table.map(0x1000, 0x6000, IommuPerm::READ);
    assert_eq!(cache.load::<Le, u32>(0xfc), Ok(0), "another page by now");
    assert_eq!(cache.store::<Le, u32>(0, 1).unwrap_err().reason(), Reason::IommuDenied);
    // What is written behind it is marked, though the cache knows only of the IOMMU.
    m.memory.set_log(m.ram, DirtyClient::VGA, true).unwrap();
    m.memory.reset_dirty(m.ram, 0, 0x1_0000, DirtyClient::VGA).unwrap();
    cache.store::<Le, u32>(0x100, 1).unwrap();
    let taken = m.memory.snapshot_and_clear_dirty(m.ram, 0, 0x1_0000, DirtyClient::VGA).unwrap();
    assert_eq!(taken.runs().map(|run| (run.start, run.end)).collect::<Vec<_>>(), [(0x8000, 0x9000)]);
}

#[test]
fn an_atomic_access_goes_through_if_it_may_read_and_write() {
    let m = machine();
    m.table.map(0x1000, 0x5000, IommuPerm::READ_WRITE);
    m.table.map(0x2000, 0x6000, IommuPerm::READ);
    m.table.map(0x3000, 0x7000, IommuPerm::WRITE);
    m.table.map(0x4000, 0x2_0000, IommuPerm::READ_WRITE);
    m.table.map(0x5000, 0x8_0000, IommuPerm::READ_WRITE);
    let reader = m.dma.reader();
    assert_eq!(reader.fetch_add::<Be, u64>(0x1ff8, 3), Ok(0));
    assert_eq!(reader.compare_exchange::<Be, u64>(0x1ff8, 3, 4), Ok(Ok(3)));
    assert_eq!(m.memory.memory_space().reader().load::<Be, u64>(0x5ff8), Ok(4));
    for (at, reason) in [
        (0x2000, Reason::IommuDenied),
        (0x3000, Reason::IommuDenied),
        (0x4000, Reason::NotAtomic),
        (0x5000, Reason::Rejected),
        (0x6000, Reason::IommuDenied),
        (0x1001, Reason::Unaligned),
    ] {
        let error = reader.swap::<Le, u32>(at, 1).unwrap_err();
        assert_eq!((error.reason(), error.address()), (reason, at));
    }
    // A page smaller than the value.
    let small = Table::new(&m.memory.memory_space(), 4);
    small.map(0, 0, IommuPerm::READ_WRITE);
    let root = m.memory.add(Region::iommu("small", 0x100, Arc::clone(&small))).unwrap();
    let space = m.memory.address_space("small", root).unwrap();
    assert_eq!(space.reader().swap::<Le, u32>(0, 1), Ok(0));
    assert_eq!(space.reader().swap::<Le, u64>(0, 1).unwrap_err().reason(), Reason::Rejected);
}

#[test]
fn what_an_access_would_meet_behind_an_iommu_is_known_without_one() {
    let m = machine();
    m.table.map(0x1000, 0x5000, IommuPerm::READ_WRITE);
    m.table.map(0x2000, 0x9000, IommuPerm::READ);
    m.table.map(0x3000, 0x2_0000, IommuPerm::READ_WRITE);
    m.table.map(0x4000, 0x8_0000, IommuPerm::READ_WRITE);
    let reader = m.dma.reader();
    let both = |addr, len| [reader.access_valid(addr, len, false), reader.access_valid(addr, len, true)];
    assert_eq!(both(0x1000, 0x1000), [true, true]);
    assert_eq!(both(0x1800, 0x1000), [true, false]);
    assert_eq!(both(0x2800, 0x1000), [true, false], "into the device");
    assert_eq!(both(0x3000, 0x1000), [true, true]);
    assert_eq!(both(0x3000, 0x1001), [false, false], "nothing is there");
    assert_eq!(both(0x5000, 1), [false, false], "nothing is mapped");
    let io = [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x1_0000].map(|at| reader.is_io(at));
    assert_eq!(io, [false, false, true, true, true, false]);
    assert!(m.table.take_asked().iter().all(|(_, access, _)| *access == IommuAccess::Look));
}

#[test]
fn copies_and_fills_are_cut_at_pages() {
    let m = machine();
    m.table.map(0x1000, 0x5000, IommuPerm::READ_WRITE);
    m.table.map(0x2000, 0x9000, IommuPerm::READ_WRITE);
    let other =
        m.memory.address_space("other", m.memory.add(Region::container("other", WHOLE)).unwrap()).unwrap();
    m.dma.fill(0x1ff0, 0xaa, 0x20).unwrap();
    m.dma.copy_to(0x1ff8, &m.dma, 0x1_0000, 0x10).unwrap();
    m.dma.copy_to(0x1_0000, &m.memory.memory_space(), 0xf000, 0x10).unwrap();
    let mut out = [0; 0x11];
    m.block.read(0xf000, &mut out).unwrap();
    assert_eq!((&out[..0x10], out[0x10]), (&[0xaa; 0x10][..], 0));
    m.block.read(0x9000, &mut out).unwrap();
    assert_eq!((&out[..0x10], out[0x10]), (&[0xaa; 0x10][..], 0));
    // A page that leads into nothing, and one that is not mapped.
    put(&m.table, 0x3000, 0, &other, IommuPerm::READ_WRITE);
    assert_eq!(m.dma.fill(0x3000, 1, 0x10).unwrap_err().reason(), Reason::Rejected);
    assert_eq!(m.dma.copy_to(0x1000, &m.dma, 0x8000, 0x10).unwrap_err().reason(), Reason::IommuDenied);
}
