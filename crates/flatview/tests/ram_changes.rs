//! Blocks that are resized, blocks that come and go, and RAM that is a device's.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use flatview::{
    Be, Endianness, Le, Memory, MemoryError, RamBlock, RamBlockNotifier, Reason, Region, RegionId, RegionType,
};

const PAGE: u64 = 4096;

fn resizeable(memory: &Memory, size: u64, max: u64) -> (RegionId, Arc<RamBlock>, Arc<Mutex<Vec<u64>>>) {
    let told: Arc<Mutex<Vec<u64>>> = Arc::default();
    let teller = told.clone();
    let block = RamBlock::builder("tables", size)
        .max_size(max)
        .on_resize(move |block, size| {
            assert_eq!(block.size(), size);
            teller.lock().unwrap().push(size);
        })
        .build()
        .unwrap();
    let region = memory.add(Region::ram("tables", block.clone())).unwrap();
    memory.map(memory.system(), 0x1_0000, region).unwrap();
    (region, block, told)
}

#[test]
fn a_region_follows_the_size_of_its_block_and_the_bytes_stay() {
    let memory = Memory::new(Endianness::Little);
    let (region, block, told) = resizeable(&memory, 2 * PAGE, 8 * PAGE);
    let reader = memory.memory_space().reader();
    let last = |size: u64| 0x1_0000 + size - 8;
    reader.store::<Le, u64>(last(2 * PAGE), 7).unwrap();
    assert!(reader.load::<Le, u64>(last(5 * PAGE)).is_err());

    memory.resize_ram(region, 5 * PAGE).unwrap();
    assert_eq!(memory.region(region).unwrap().size, u128::from(5 * PAGE));
    assert_eq!((block.size(), block.max_size()), (5 * PAGE, 8 * PAGE));
    assert_eq!((block.info().used, block.info().total), (5 * PAGE, 8 * PAGE));
    assert_eq!(reader.load::<Le, u64>(last(2 * PAGE)), Ok(7));
    reader.store::<Le, u64>(last(5 * PAGE), 9).unwrap();

    memory.resize_ram(region, PAGE).unwrap();
    assert!(reader.load::<Le, u64>(last(2 * PAGE)).is_err());
    assert!(block.read(PAGE, &mut [0]).is_err(), "beyond its size");
    // To the byte: the region's size, as QEMU; the pages in use are the same.
    memory.resize_ram(region, 100).unwrap();
    assert_eq!((block.size(), block.info().used), (100, PAGE));
    assert!(reader.load::<Le, u8>(0x1_0000 + 100).is_err());
    memory.resize_ram(region, 100).unwrap();
    memory.resize_ram(region, 8 * PAGE).unwrap();
    assert_eq!(reader.load::<Le, u64>(last(5 * PAGE)), Ok(9));
    assert_eq!(*told.lock().unwrap(), [5 * PAGE, PAGE, 100, 8 * PAGE], "once for each change");
}

#[test]
fn a_resize_that_cannot_be_changes_nothing_and_says_why() {
    let memory = Memory::new(Endianness::Little);
    let (region, block, told) = resizeable(&memory, 2 * PAGE, 8 * PAGE);
    for size in [0, 8 * PAGE + 1, u64::MAX] {
        let e = memory.resize_ram(region, size).unwrap_err();
        assert!(matches!(e, MemoryError::ResizeOutOfRange { max: 0x8000, .. }), "{e}");
    }
    let fixed = memory.add(Region::ram("fixed", RamBlock::anonymous("fixed", PAGE).unwrap())).unwrap();
    assert!(matches!(memory.resize_ram(fixed, 1), Err(MemoryError::NotResizeable { .. })));
    let window = memory.add(Region::ram("window", block.clone()).window(PAGE, PAGE)).unwrap();
    assert!(matches!(memory.resize_ram(window, 1), Err(MemoryError::NotResizeable { .. })));
    assert!(matches!(memory.resize_ram(memory.system(), 1), Err(MemoryError::NoBlock { .. })));
    let inside = memory.update(|t| t.memory().resize_ram(region, PAGE));
    assert!(matches!(inside, Err(MemoryError::ResizeInsideUpdate { .. })));
    assert_eq!(memory.region(region).unwrap().size, u128::from(2 * PAGE));
    assert_eq!(block.size(), 2 * PAGE);
    assert!(told.lock().unwrap().is_empty());
    let e = memory.update(|t| t.set_size(region, u128::from(3 * PAGE))).unwrap_err();
    assert!(matches!(e, MemoryError::BlockTooSmall { .. }), "a region alone does not outgrow its block");
}

#[test]
fn the_callback_of_a_resize_cannot_resize_again() {
    let memory = Memory::new(Endianness::Little);
    let seen: Arc<Mutex<Option<MemoryError>>> = Arc::default();
    let id: Arc<Mutex<Option<RegionId>>> = Arc::default();
    let block = {
        let (weak, seen, id) = (memory.downgrade(), seen.clone(), id.clone());
        RamBlock::builder("b", PAGE).max_size(4 * PAGE).on_resize(move |_, _| {
            let region = id.lock().unwrap().unwrap();
            *seen.lock().unwrap() = weak.upgrade().unwrap().resize_ram(region, PAGE).err();
        })
    };
    let region = memory.add(Region::ram("b", block.build().unwrap())).unwrap();
    *id.lock().unwrap() = Some(region);
    memory.resize_ram(region, 2 * PAGE).unwrap();
    assert!(matches!(*seen.lock().unwrap(), Some(MemoryError::ResizeRunning { .. })));
    memory.resize_ram(region, 3 * PAGE).unwrap();
}

#[test]
fn threads_read_on_while_ram_is_resized() {
    let memory = Memory::new(Endianness::Little);
    let (region, _, _) = resizeable(&memory, PAGE, 64 * PAGE);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = memory.memory_space().reader();
                let mut i = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    i += 1;
                    reader.store::<Le, u64>(0x1_0000 + i % (PAGE / 8) * 8, i).unwrap();
                    // Beyond the end there is a value or an error, and nothing else.
                    let _ = reader.store::<Le, u64>(0x1_0000 + i % (64 * PAGE / 8) * 8, i);
                }
            });
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..300 {
            memory.resize_ram(region, random.u64(PAGE..=64 * PAGE)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(memory.stale_view(), Ok(None));
}

/// Notes what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl RamBlockNotifier for Notes {
    fn added(&self, block: &Arc<RamBlock>) {
        self.0.lock().unwrap().push(format!("+{}", block.name()));
    }
    fn removed(&self, block: &Arc<RamBlock>) {
        self.0.lock().unwrap().push(format!("-{}", block.name()));
    }
    fn resized(&self, block: &Arc<RamBlock>, old: u64) {
        self.0.lock().unwrap().push(format!("{} {old:#x}->{:#x}", block.name(), block.size()));
    }
}

impl Notes {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[test]
fn notifiers_hear_of_the_first_region_of_a_block_and_of_the_last() {
    let memory = Memory::new(Endianness::Little);
    let old = memory.add(Region::ram("old", RamBlock::anonymous("old", PAGE).unwrap())).unwrap();
    let notes = Arc::new(Notes::default());
    let id = memory.add_block_notifier(notes.clone());
    assert_eq!(notes.taken(), ["+old"]);
    let block = RamBlock::anonymous("new", 2 * PAGE).unwrap();
    let first = memory.add(Region::ram("first", block.clone())).unwrap();
    let second = memory.add(Region::rom("second", block.clone()).window(PAGE, PAGE)).unwrap();
    assert_eq!(notes.taken(), ["+new"]);
    memory.update(|t| t.remove(first)).unwrap();
    assert!(notes.taken().is_empty());
    memory.update(|t| t.remove(second)).unwrap();
    assert_eq!(notes.taken(), ["-new"]);
    let (region, _, _) = resizeable(&memory, PAGE, 4 * PAGE);
    memory.resize_ram(region, 3 * PAGE).unwrap();
    memory.resize_ram(region, 3 * PAGE - 1).unwrap();
    assert_eq!(notes.taken(), ["+tables", "tables 0x1000->0x3000"]);
    assert!(memory.remove_block_notifier(id));
    let mut last = notes.taken();
    last.sort();
    assert_eq!(last, ["-old", "-tables"]);
    assert!(!memory.remove_block_notifier(id));
    memory.update(|t| t.remove(old)).unwrap();
    assert!(notes.taken().is_empty());
}

#[test]
fn a_change_that_is_undone_is_no_news() {
    let memory = Memory::new(Endianness::Little);
    let kept = memory.add(Region::ram("kept", RamBlock::anonymous("kept", PAGE).unwrap())).unwrap();
    let notes = Arc::new(Notes::default());
    memory.add_block_notifier(notes.clone());
    notes.taken();
    let undone: Result<(), MemoryError> = memory.update(|t| {
        t.add(Region::ram("a", RamBlock::anonymous("a", PAGE).unwrap()))?;
        t.remove(kept)?;
        Err(MemoryError::SpaceInsideUpdate)
    });
    assert!(undone.is_err() && notes.taken().is_empty());
    // An inner update that fails takes only its own back.
    memory
        .update(|t| {
            t.add(Region::ram("outer", RamBlock::anonymous("outer", PAGE).unwrap()))?;
            let inner: Result<(), MemoryError> = t.memory().update(|t| {
                t.add(Region::ram("inner", RamBlock::anonymous("inner", PAGE).unwrap()))?;
                Err(MemoryError::SpaceInsideUpdate)
            });
            assert!(inner.is_err());
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    assert_eq!(notes.taken(), ["+outer"]);
}

#[test]
fn a_notifier_may_change_the_map_and_hears_of_that_afterwards() {
    struct Builder(flatview::WeakMemory, Mutex<Vec<String>>);
    impl RamBlockNotifier for Builder {
        fn added(&self, block: &Arc<RamBlock>) {
            self.1.lock().unwrap().push(format!("<{}", block.name()));
            if block.name() == "a" {
                let memory = self.0.upgrade().unwrap();
                memory.add(Region::ram("b", RamBlock::anonymous("b", PAGE).unwrap())).unwrap();
            }
            self.1.lock().unwrap().push(format!("{}>", block.name()));
        }
    }
    let memory = Memory::new(Endianness::Little);
    let builder = Arc::new(Builder(memory.downgrade(), Mutex::default()));
    memory.add_block_notifier(builder.clone());
    memory.add(Region::ram("a", RamBlock::anonymous("a", PAGE).unwrap())).unwrap();
    assert_eq!(*builder.1.lock().unwrap(), ["<a", "a>", "<b", "b>"]);
}

fn bar(target: Endianness) -> (Memory, RegionId, Arc<RamBlock>) {
    let memory = Memory::new(target);
    let block = RamBlock::anonymous("bar0", 2 * PAGE).unwrap();
    let region = memory.add(Region::ram_device("bar0", block.clone()).window(PAGE, PAGE)).unwrap();
    memory.map(memory.system(), 0x10_0000, region).unwrap();
    (memory, region, block)
}

#[test]
fn a_ram_device_is_reached_with_the_access_as_it_is() {
    for target in [Endianness::Little, Endianness::Big] {
        let (memory, region, block) = bar(target);
        let reader = memory.memory_space().reader();
        reader.store::<Le, u32>(0x10_0004, 0x0403_0201).unwrap();
        let mut bytes = [0; 4];
        block.read(PAGE + 4, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4], "the window's offset counts, and bytes stand in guest order");
        assert_eq!(reader.load::<Be, u32>(0x10_0004), Ok(0x0102_0304));
        assert_eq!(reader.load::<Le, u16>(0x10_0005), Ok(0x0302), "any alignment");
        assert_eq!(reader.load::<Le, u64>(0x10_0001), Ok(0x0004_0302_0100_0000));
        reader.write(0x10_0ff8, &[9; 8]).unwrap();
        let mut out = [0; 12];
        assert!(reader.read(0x10_0ff8, &mut out).is_err(), "it ends where the window ends");
        assert_eq!(out, [9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0]);
        assert_eq!(memory.region(region).unwrap().kind, RegionType::Ramd);
        let view = memory.memory_space().view().unwrap();
        let range = view.lookup(0x10_0000).unwrap();
        assert!(range.is_ram() && !range.is_ram_backed(), "RAM by kind, but never read as RAM");
        assert_eq!(range.kind(), RegionType::Ramd);
    }
}

#[test]
fn looking_at_a_ram_device_touches_nothing() {
    let (memory, _, block) = bar(Endianness::Little);
    let reader = memory.memory_space().reader();
    assert_eq!(reader.peek(0x10_0000, &mut [0; 4]).unwrap_err().reason(), Reason::Unknown);
    assert!(reader.poke(0x10_0000, &[1]).is_err());
    let mut byte = [7];
    block.read(PAGE, &mut byte).unwrap();
    assert_eq!(byte, [0]);
}

#[test]
fn a_ram_device_seen_read_only_keeps_its_bytes() {
    let (memory, region, block) = bar(Endianness::Little);
    let alias = memory.add(Region::alias("ro", region, 0, u128::from(PAGE)).readonly(true)).unwrap();
    memory.map(memory.system(), 0x20_0000, alias).unwrap();
    let reader = memory.memory_space().reader();
    assert!(reader.store::<Le, u8>(0x20_0000, 1).is_err());
    reader.store::<Le, u8>(0x10_0000, 2).unwrap();
    assert_eq!(reader.load::<Le, u8>(0x20_0000), Ok(2));
    let mut byte = [0];
    block.read(PAGE, &mut byte).unwrap();
    assert_eq!(byte, [2]);
    let mtree = flatview::mtree::write(&memory, flatview::mtree::Options::default()).unwrap().to_string();
    assert!(mtree.contains("(prio 0, ramd): bar0"), "{mtree}");
}

#[test]
fn all_pages_are_dirty_after_a_resize_and_the_log_reaches_the_new_ones() {
    let memory = Memory::new(Endianness::Little);
    let (region, block, _) = resizeable(&memory, 2 * PAGE, 8 * PAGE);
    let client = flatview::DirtyClient::MIGRATION;
    memory.set_log(region, client, true).unwrap();
    let dirty = |page: u64| memory.is_dirty(region, page * PAGE, PAGE, client).unwrap();
    memory.reset_dirty(region, 0, 2 * PAGE, client).unwrap();
    assert!(!dirty(0) && !dirty(1));
    memory.resize_ram(region, 6 * PAGE).unwrap();
    assert!((0..6).all(dirty));
    memory.reset_dirty(region, 0, 6 * PAGE, client).unwrap();
    let reader = memory.memory_space().reader();
    reader.store::<Le, u8>(0x1_0000 + 5 * PAGE, 1).unwrap();
    block.write(3 * PAGE, &[1]).unwrap();
    assert_eq!((0..6).filter(|page| dirty(*page)).collect::<Vec<_>>(), [3, 5]);
}

/// Refuses every change while told to.
struct Refuses(AtomicBool);

impl flatview::MemoryListener for Refuses {
    fn name(&self) -> &str {
        "refuses"
    }
    fn prepare(&self, _: &flatview::Delta) -> Result<(), flatview::ListenerError> {
        if self.0.load(Ordering::Relaxed) { Err(flatview::ListenerError::new("no slots")) } else { Ok(()) }
    }
}

#[test]
fn what_a_listener_refuses_leaves_the_block_its_size_and_is_no_news() {
    let memory = Memory::new(Endianness::Little);
    let (region, block, told) = resizeable(&memory, 2 * PAGE, 8 * PAGE);
    let refuses = Arc::new(Refuses(AtomicBool::new(false)));
    memory.add_listener(refuses.clone()).unwrap();
    let notes = Arc::new(Notes::default());
    memory.add_block_notifier(notes.clone());
    notes.taken();
    refuses.0.store(true, Ordering::Relaxed);
    for size in [PAGE, 4 * PAGE] {
        assert!(matches!(memory.resize_ram(region, size), Err(MemoryError::ListenerRefused { .. })));
        assert_eq!((block.size(), memory.region(region).unwrap().size), (2 * PAGE, u128::from(2 * PAGE)));
    }
    let added = memory.update(|t| {
        let new = t.add(Region::ram("new", RamBlock::anonymous("new", PAGE).unwrap()))?;
        t.map(memory.system(), 0x10_0000, new)
    });
    assert!(matches!(added, Err(MemoryError::ListenerRefused { .. })));
    assert!(notes.taken().is_empty() && told.lock().unwrap().is_empty());
    refuses.0.store(false, Ordering::Relaxed);
    memory.resize_ram(region, 4 * PAGE).unwrap();
    assert_eq!(notes.taken(), ["tables 0x2000->0x4000"]);
    assert_eq!(*told.lock().unwrap(), [4 * PAGE]);
}
