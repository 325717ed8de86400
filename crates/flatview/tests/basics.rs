//! The library as a user first meets it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flatview::*;

fn ram(memory: &Memory, name: &str, size: u64) -> RegionId {
    memory.add(Region::ram(name, RamBlock::anonymous(name, size).unwrap())).unwrap()
}

fn flat(space: &AddressSpace) -> Vec<(u64, u64, String, u64)> {
    space.view().unwrap().ranges().map(|r| (r.start(), r.last(), r.name().to_owned(), r.offset())).collect()
}

fn r(start: u64, last: u64, name: &str, offset: u64) -> (u64, u64, String, u64) {
    (start, last, name.to_owned(), offset)
}

#[test]
fn the_default_regions_and_spaces_are_qemus() {
    let memory = Memory::new(Endianness::Little);
    let names: Vec<String> = memory.spaces().iter().map(|s| s.name().to_owned()).collect();
    assert_eq!(names, ["memory", "I/O"]);
    assert_eq!(memory.region(memory.system()).unwrap().size, WHOLE);
    assert!(flat(&memory.memory_space()).is_empty());
    assert_eq!(flat(&memory.io_space()), [r(0, 0xffff, "io", 0)]);
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0).unwrap_err().result(), MemTxResult::DECODE_ERROR);
    let mut out = [0xee; 4];
    assert!(reader.read(0, &mut out).is_err());
    assert_eq!(out, [0; 4]);
    let io = memory.io_space().reader();
    assert_eq!(io.load::<Le, u32>(0x3f8), Ok(u32::MAX));
    assert_eq!(io.load::<Le, u64>(0x3f8), Ok(u64::MAX));
    assert_eq!(io.store::<Le, u8>(0x3f8, 0), Ok(()));
}

#[test]
fn removing_what_hid_others_joins_them_again() {
    let memory = Memory::new(Endianness::Little);
    let low = ram(&memory, "low", 0x10000);
    let over = memory.add(Region::reservation("over", 0x1000)).unwrap();
    let space = memory.memory_space();
    memory.map(memory.system(), 0x1000, low).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x4000, over, 1)).unwrap();
    assert_eq!(
        flat(&space),
        [r(0x1000, 0x3fff, "low", 0), r(0x4000, 0x4fff, "over", 0), r(0x5000, 0x10fff, "low", 0x4000)]
    );
    memory.update(|t| t.set_enabled(over, false)).unwrap();
    assert_eq!(flat(&space), [r(0x1000, 0x10fff, "low", 0)]);
    memory.update(|t| t.set_address(low, 0)).unwrap();
    assert_eq!(flat(&space), [r(0, 0xffff, "low", 0)]);
    memory.update(|t| t.unmap(memory.system(), low)).unwrap();
    assert!(flat(&space).is_empty());
    assert_eq!(memory.stale_view().unwrap(), None);
}

#[test]
fn an_error_in_an_update_leaves_everything_as_it_was() {
    let memory = Memory::new(Endianness::Little);
    let a = ram(&memory, "a", 0x1000);
    memory.map(memory.system(), 0, a).unwrap();
    let before = (flat(&memory.memory_space()), memory.regions().len());
    let error = memory.update(|t| {
        let b = t.add(Region::reservation("b", 0x100))?;
        t.map_overlap(memory.system(), 0x10, b, 5)?;
        t.set_size(a, 0x800)?;
        t.map(memory.system(), 0, a)
    });
    assert!(matches!(error, Err(MemoryError::AlreadyMapped { .. })));
    assert_eq!((flat(&memory.memory_space()), memory.regions().len()), before);
    assert_eq!(memory.region(a).unwrap().size, 0x1000);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        memory.update(|t| {
            t.unmap(memory.system(), a)?;
            panic!("the caller's own");
            #[expect(unreachable_code, reason = "names the closure's type")]
            Ok::<(), MemoryError>(())
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(flat(&memory.memory_space()), before.0);
    memory.update(|t| t.unmap(memory.system(), a)).unwrap();
}

#[test]
fn a_device_may_remap_and_remove_itself_in_its_callback() {
    let memory = Memory::new(Endianness::Little);
    let id = Arc::new(parking_lot::Mutex::new(None));
    let calls = Arc::new(AtomicU64::new(0));
    let ops = {
        let (memory, id, calls) = (memory.clone(), Arc::clone(&id), Arc::clone(&calls));
        Ops::new().write(move |access, value| {
            calls.fetch_add(value, Ordering::Relaxed);
            let me = id.lock().expect("set");
            memory
                .update(|t| {
                    t.unmap(memory.system(), me)?;
                    t.remove(me)
                })
                .map_err(|_| MemTxError::error())?;
            // Still here, in the view the access runs in.
            assert_eq!(access.region(), me);
            Ok(())
        })
    };
    let region = memory.add(Region::io("self-destruct", 4, ops)).unwrap();
    *id.lock() = Some(region);
    memory.map(memory.system(), 0, region).unwrap();
    let reader = memory.memory_space().reader();
    reader.store::<Le, u32>(0, 1).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(reader.store::<Le, u32>(0, 1).is_err());
    assert!(matches!(memory.region(region), Err(MemoryError::StaleRegion { .. })));
    drop(reader);
    memory.synchronize().unwrap();
    assert_eq!(memory.views_in_use(), 0);
}

#[test]
fn spaces_with_the_same_effective_root_share_a_view() {
    let memory = Memory::new(Endianness::Big);
    let a = ram(&memory, "a", 0x1000);
    memory.map(memory.system(), 0, a).unwrap();
    let other = ram(&memory, "other", 0x1000);
    memory.map(memory.system(), 0x8000, other).unwrap();
    let container = memory.add(Region::container("bus master container", WHOLE)).unwrap();
    let alias = memory.add(Region::alias("bus master", memory.system(), 0, WHOLE).enabled(false)).unwrap();
    memory.map(container, 0, alias).unwrap();
    let dma = memory.address_space("dma", container).unwrap();
    let main = memory.memory_space();
    assert_eq!(dma.view().unwrap().root(), None);
    let reader = dma.reader();
    assert!(reader.load::<Be, u32>(0).is_err());
    memory.update(|t| t.set_enabled(alias, true)).unwrap();
    assert!(Arc::ptr_eq(&dma.view().unwrap(), &main.view().unwrap()));
    assert_eq!(reader.load::<Be, u32>(0), Ok(0));
    memory.update(|t| t.set_enabled(a, false)).unwrap();
    assert!(Arc::ptr_eq(&dma.view().unwrap(), &main.view().unwrap()));
    assert!(reader.load::<Be, u32>(0).is_err());
    memory.update(|t| t.set_enabled(alias, false)).unwrap();
    assert!(reader.load::<Be, u32>(0x8000).is_err());
    memory.remove_space(dma.id()).unwrap();
    assert!(matches!(memory.remove_space(dma.id()), Err(MemoryError::StaleSpace)));
    assert_eq!(memory.stale_view().unwrap(), None);
}

#[test]
fn nested_updates_publish_once_and_roll_back_to_their_own_start() {
    let memory = Memory::new(Endianness::Little);
    let a = ram(&memory, "a", 0x1000);
    let b = ram(&memory, "b", 0x1000);
    let space = memory.memory_space();
    memory
        .update(|t| {
            t.map(memory.system(), 0, a)?;
            let inner: Result<(), MemoryError> = memory.update(|t| {
                t.map(memory.system(), 0x1000, b)?;
                t.remove(b)
            });
            assert!(matches!(inner, Err(MemoryError::InUse { .. })));
            assert!(flat(&space).is_empty(), "nothing is published yet");
            Ok::<(), MemoryError>(())
        })
        .unwrap();
    assert_eq!(flat(&space), [r(0, 0xfff, "a", 0)]);
}

#[test]
fn device_code_does_not_run_inside_an_update() {
    let memory = Memory::new(Endianness::Little);
    let io = memory.add(Region::io("io-device", 4, Ops::new().read(|_| Ok(1)))).unwrap();
    memory.map(memory.system(), 0, io).unwrap();
    let reader = memory.memory_space().reader();
    let inside = memory.update(|_| Ok::<_, MemoryError>(reader.load::<Le, u32>(0))).unwrap();
    assert_eq!(inside.unwrap_err().reason(), Reason::InsideUpdate);
    assert_eq!(reader.load::<Le, u32>(0), Ok(1));
}

#[test]
fn a_direct_pointer_reaches_the_bytes_behind_ram() {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("a", 0x2000).unwrap();
    let a = memory.add(Region::ram("a", block.clone()).window(0x1000, 0x1000)).unwrap();
    memory.map(memory.system(), 0x8000, a).unwrap();
    let reader = memory.memory_space().reader();
    reader.store::<Le, u32>(0x8010, 0x1234_5678).unwrap();
    let ptr = reader.host_ptr(0x8010, u64::MAX).unwrap();
    assert_eq!(ptr.len(), 0xff0);
    assert_eq!(ptr.as_ptr() as usize, block.host().as_ptr() as usize + 0x1010);
    assert!(reader.host_ptr(0x9000, 1).is_none());
}

#[test]
fn a_space_shows_what_its_root_shows_also_where_its_target_stands_elsewhere_or_is_shown_read_only() {
    let memory = Memory::new(Endianness::Little);
    let a = ram(&memory, "a", 0x1000);
    memory.map(memory.system(), 0x8000, a).unwrap();
    let alias = memory.add(Region::alias("alias", a, 0, 0x1000)).unwrap();
    let displaced = memory.address_space("displaced", alias).unwrap();
    assert_eq!(flat(&displaced), [r(0, 0xfff, "a", 0)]);
    let whole = memory.add(Region::alias("whole", memory.system(), 0, WHOLE).readonly(true)).unwrap();
    let readonly = memory.address_space("readonly", whole).unwrap();
    assert!(readonly.view().unwrap().lookup(0x8000).unwrap().readonly());
    assert!(readonly.write(0x8000, &[1]).is_err());
    assert!(memory.memory_space().write(0x8000, &[1]).is_ok());
    memory.update(|t| t.set_address(a, 0)).unwrap();
    assert_eq!(flat(&displaced), [r(0, 0xfff, "a", 0)]);
    memory.update(|t| t.set_readonly(whole, false)).unwrap();
    assert!(Arc::ptr_eq(&readonly.view().unwrap(), &memory.memory_space().view().unwrap()));
    assert_eq!(memory.stale_view().unwrap(), None);
}

#[test]
fn callbacks_may_be_given_shared() {
    let memory = Memory::new(Endianness::Little);
    let shared = Arc::new(Ops::new().read(|_| Ok(7)));
    let erased: Arc<dyn MmioOps> = shared.clone();
    for (addr, region) in [(0, Region::io("typed", 4, shared)), (4, Region::io("erased", 4, erased))] {
        let id = memory.add(region).unwrap();
        memory.map(memory.system(), addr, id).unwrap();
        assert_eq!(memory.memory_space().reader().load::<Le, u32>(addr), Ok(7));
    }
}
