//! What readers remember of translations, and when they forget it.
//!
//! | rule | test |
//! |---|---|
//! | a page is asked for once, for reads and for writes | `a_page_is_asked_for_once_for_reads_and_once_for_writes` |
//! | an invalidation reaches this thread at once | `an_invalidation_is_seen_by_the_same_thread_at_once` |
//! | … and other threads at their next access | `an_invalidation_is_seen_by_other_threads_at_their_next_access` |
//! | what is looked up before is not remembered after | `a_translation_that_was_given_before_an_invalidation_is_not_remembered` |
//! | … under load | `no_reader_uses_a_translation_from_before_an_invalidation_that_has_returned` |
//! | a change of the map needs no invalidation | `a_change_of_the_map_needs_no_invalidation` |
//! | regions do not share translations | `an_invalidation_of_one_iommu_leaves_the_others` |
//! | more pages and spaces than are remembered | `more_pages_and_spaces_than_a_reader_remembers_are_right_too` |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;

use flatview::*;

use crate::table::{Table, block, map, put};

const PAGE: u64 = 0x1000;

/// RAM with the number of its page in every byte, and an IOMMU of 2^64 bytes before it.
fn machine() -> (Memory, Arc<Table>, Iommu, AddressSpace) {
    let memory = Memory::new(Endianness::Little);
    let ram = block(256 * PAGE);
    for page in 0..256 {
        ram.write(page * PAGE, &[page as u8; PAGE as usize]).unwrap();
    }
    map(&memory, memory.system(), 0, Region::ram("ram", ram));
    let table = Table::new(&memory.memory_space(), PAGE);
    let id = memory.add(Region::iommu("iommu", WHOLE, Arc::clone(&table))).unwrap();
    let dma = memory.address_space("dma", id).unwrap();
    let iommu = memory.iommu(id).unwrap();
    (memory, table, iommu, dma)
}

#[test]
fn a_page_is_asked_for_once_for_reads_and_once_for_writes() {
    use IommuAccess::{Read, Write};
    let (_memory, table, _, dma) = machine();
    table.map(0x5000, 3 * PAGE, IommuPerm::READ_WRITE);
    let mut reader = dma.reader();
    for _ in 0..3 {
        assert_eq!(reader.load::<Le, u32>(0x5004), Ok(0x0303_0303));
        reader.read(0x5ff0, &mut [0; 16]).unwrap();
        assert_eq!(reader.cpu_load::<Le, u16>(0x5001), Ok(0x0303));
    }
    assert_eq!(table.take_asked(), [(0x5004, Read, 0)]);
    // That it may be read does not say that it was written: the device may note who writes.
    for _ in 0..3 {
        reader.store::<Le, u32>(0x5004, 0x0303_0303).unwrap();
        reader.write(0x5ff0, &[3; 16]).unwrap();
        reader.cpu_store::<Le, u16>(0x5001, 0x0303).unwrap();
    }
    assert_eq!(table.take_asked(), [(0x5004, Write, 0)]);
    // Another reader has its own, and one that was parked begins anew.
    dma.reader().load::<Le, u8>(0x5000).unwrap();
    assert_eq!(table.take_asked(), [(0x5000, Read, 0)]);
    reader.park();
    reader.load::<Le, u8>(0x5000).unwrap();
    assert_eq!(table.take_asked(), [(0x5000, Read, 0)]);
}

#[test]
fn an_invalidation_is_seen_by_the_same_thread_at_once() {
    let (_memory, table, iommu, dma) = machine();
    let reader = dma.reader();
    table.map(0, PAGE, IommuPerm::READ_WRITE);
    assert_eq!(reader.load::<Le, u8>(0), Ok(1));
    table.map(0, 2 * PAGE, IommuPerm::READ_WRITE);
    assert_eq!(reader.load::<Le, u8>(0), Ok(1), "nothing was said");
    iommu.notify(0, &IommuEvent::unmap(0, PAGE - 1)).unwrap();
    assert_eq!(reader.load::<Le, u8>(0), Ok(2));
    // Every kind of event does, and so does one that cannot be told.
    for (i, event) in (3..).zip([
        IommuEvent::map(0, &IommuEntry::denied(PAGE - 1)),
        IommuEvent::device_iotlb_unmap(0, PAGE - 1),
        IommuEvent { perm: IommuPerm::READ, ..IommuEvent::unmap(0, PAGE - 1) },
    ]) {
        table.map(0, i * PAGE, IommuPerm::READ_WRITE);
        let told = iommu.notify(0, &event);
        assert_eq!(told.is_ok(), i != 5);
        assert_eq!(reader.load::<Le, u8>(0), Ok(i as u8), "{event:?}");
    }
    table.unmap(0);
    iommu.unmap_all();
    assert_eq!(reader.load::<Le, u8>(0).unwrap_err().reason(), Reason::IommuDenied);
}

#[test]
fn an_invalidation_is_seen_by_other_threads_at_their_next_access() {
    let (_memory, table, iommu, dma) = machine();
    table.map(0, PAGE, IommuPerm::READ);
    let (ask, asked) = channel::<u8>();
    let (answer, answers) = channel();
    std::thread::scope(|scope| {
        let reader = dma.reader();
        scope.spawn(move || {
            for _ in asked {
                answer.send(reader.load::<Le, u8>(0)).unwrap();
            }
        });
        for page in 1..200_u8 {
            table.map(0, u64::from(page) * PAGE, IommuPerm::READ);
            iommu.notify(0, &IommuEvent::unmap(0, PAGE - 1)).unwrap();
            ask.send(page).unwrap();
            assert_eq!(answers.recv().unwrap(), Ok(page));
        }
        drop(ask);
    });
}

#[test]
fn a_translation_that_was_given_before_an_invalidation_is_not_remembered() {
    let (_memory, table, iommu, dma) = machine();
    table.map(0, PAGE, IommuPerm::READ);
    // After the device has looked the page up, and before the reader gets it, the table changes.
    let once = AtomicBool::new(true);
    let other = Arc::downgrade(&table);
    let change = move || {
        if once.swap(false, Ordering::Relaxed) {
            let table = other.upgrade().unwrap();
            table.map(0, 2 * PAGE, IommuPerm::READ);
            iommu.notify(0, &IommuEvent::unmap(0, PAGE - 1)).unwrap();
        }
    };
    assert!(table.during.set(Box::new(change)).is_ok());
    let reader = dma.reader();
    assert_eq!(reader.load::<Le, u8>(0), Ok(1), "this access began before");
    assert_eq!(reader.load::<Le, u8>(0), Ok(2));
}

#[test]
fn no_reader_uses_a_translation_from_before_an_invalidation_that_has_returned() {
    const CHANGES: u64 = 4000;
    let (_memory, table, iommu, dma) = machine();
    // Page n of RAM after the n-th change, modulo 256, as in its bytes.
    let (begun, done) = (AtomicU64::new(1), AtomicU64::new(1));
    let at = |n: u64| (n % 256) * PAGE;
    table.map(0, at(1), IommuPerm::READ);
    std::thread::scope(|scope| {
        let looked: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let reader = dma.reader();
                    let mut looked = 0_u64;
                    loop {
                        let from = done.load(Ordering::Acquire);
                        let seen: u8 = reader.load::<Le, u8>(0x10).unwrap();
                        let to = begun.load(Ordering::Acquire);
                        assert!(
                            (from..=to).any(|n| n % 256 == u64::from(seen)),
                            "after change {from} had returned, that of page {seen:#x} was still used (now {to})"
                        );
                        looked += 1;
                        if from == CHANGES {
                            return looked;
                        }
                    }
                })
            })
            .collect();
        for n in 2..=CHANGES {
            begun.store(n, Ordering::Release);
            table.map(0, at(n), IommuPerm::READ);
            iommu.notify(0, &IommuEvent::unmap(0, PAGE - 1)).unwrap();
            done.store(n, Ordering::Release);
            if n % 64 == 0 {
                std::thread::yield_now();
            }
        }
        assert!(looked.into_iter().all(|thread| thread.join().unwrap() > 0));
    });
}

#[test]
fn a_change_of_the_map_needs_no_invalidation() {
    let (memory, table, _, dma) = machine();
    table.map(0, PAGE, IommuPerm::READ);
    let reader = dma.reader();
    assert_eq!(reader.load::<Le, u8>(0), Ok(1));
    // Where the page leads something else is mapped now; and then nothing.
    let over = memory.add(Region::io("over", PAGE.into(), Ops::new().read(|_| Ok(0x99)))).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), PAGE, over, 1)).unwrap();
    assert_eq!(reader.load::<Le, u8>(0), Ok(0x99));
    memory.update(|t| t.set_enabled(over, false)).unwrap();
    assert_eq!(reader.load::<Le, u8>(0), Ok(1));
    // The IOMMU is moved: what was remembered counts offsets in the region.
    let root = memory.add(Region::container("root", WHOLE)).unwrap();
    let region = dma.root().unwrap();
    memory.map(root, 0, region).unwrap();
    let space = memory.address_space("moved", root).unwrap();
    let reader = space.reader();
    assert_eq!(reader.load::<Le, u8>(0x10), Ok(1));
    memory.update(|t| t.set_address(region, 0x10_0000)).unwrap();
    assert_eq!(reader.load::<Le, u8>(0x10_0010), Ok(1));
    assert_eq!(reader.load::<Le, u8>(0x10).unwrap_err().region(), None);
    assert_eq!(table.take_asked().len(), 2, "once for each reader");
}

#[test]
fn an_invalidation_of_one_iommu_leaves_the_others() {
    let (memory, table, _, dma) = machine();
    let second = Table::new(&memory.memory_space(), PAGE);
    let id = memory.add(Region::iommu("second", WHOLE, Arc::clone(&second))).unwrap();
    table.map(0, PAGE, IommuPerm::READ);
    second.map(0, 2 * PAGE, IommuPerm::READ);
    let root = memory.add(Region::container("root", WHOLE)).unwrap();
    for (at, region) in [(0, dma.root().unwrap()), (0x10_0000, id)] {
        map(&memory, root, at, Region::alias("window", region, 0, PAGE.into()));
    }
    let reader = memory.address_space("both", root).unwrap().reader();
    let both = || (reader.load::<Le, u8>(0), reader.load::<Le, u8>(0x10_0000));
    for _ in 0..3 {
        assert_eq!(both(), (Ok(1), Ok(2)));
    }
    memory.iommu(id).unwrap().unmap_all();
    assert_eq!(both(), (Ok(1), Ok(2)));
    assert_eq!((table.take_asked().len(), second.take_asked().len()), (1, 2));
}

#[test]
fn more_pages_and_spaces_than_a_reader_remembers_are_right_too() {
    let (memory, table, _, dma) = machine();
    let reader = dma.reader();
    // A thousand pages, twice, from both ends; and pages of twenty spaces in turn.
    for n in 0..1000 {
        table.map(n * PAGE, (n % 256) * PAGE, IommuPerm::READ);
    }
    for n in (0..1000).chain((0..1000).rev()) {
        assert_eq!(reader.load::<Le, u8>(n * PAGE), Ok(n as u8), "{n}");
    }
    let spaces: Vec<AddressSpace> = (0..20)
        .map(|n| {
            let ram = block(PAGE);
            ram.write(0, &[0x80 + n]).unwrap();
            let id = memory.add(Region::ram("other", ram)).unwrap();
            memory.address_space("other", id).unwrap()
        })
        .collect();
    for (n, space) in (2000..).zip(&spaces) {
        put(&table, n * PAGE, 0, space, IommuPerm::READ);
    }
    let mut reader = reader;
    for round in 0..3 {
        for n in 0..20 {
            assert_eq!(reader.load::<Le, u8>((2000 + n) * PAGE), Ok(0x80 + n as u8), "{n} in round {round}");
        }
        if round == 1 {
            reader.park();
        }
    }
}
