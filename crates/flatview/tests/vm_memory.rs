//! The RAM of a space through rust-vmm's traits: what is in it, how it follows the map, and who hears of writes.
#![cfg(feature = "vm-memory")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]
#![expect(clippy::single_range_in_vec_init, reason = "lists of runs that happen to hold one")]

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flatview::{
    AddressSpace, Delta, DirtyClient, DirtySlice, Endianness, FlatView, Le, ListenerError, Memory,
    MemoryListener, Ops, RamBlock, RamView, Region, RegionId, Section, Share,
};
use vm_memory::bitmap::Bitmap;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestAddressSpace, GuestMemoryBackend, GuestMemoryError,
    GuestMemoryRegion, MemoryRegionAddress, VolatileMemory,
};

const PAGE: u64 = 4096;
const TOP: u64 = u64::MAX - 0xffff;

fn ram(memory: &Memory, name: &str, size: u64) -> (RegionId, Arc<RamBlock>) {
    let block = RamBlock::anonymous(name, size).unwrap();
    (memory.add(Region::ram(name, block.clone())).unwrap(), block)
}

fn little() -> (Memory, AddressSpace) {
    let memory = Memory::new(Endianness::Little);
    let space = memory.memory_space();
    (memory, space)
}

fn at(addr: u64) -> GuestAddress {
    GuestAddress(addr)
}

/// First and last addresses.
fn table(ram: &RamView) -> Vec<(u64, u64)> {
    ram.regions().iter().map(|r| (r.start(), r.last())).collect()
}

/// The same, as the view itself says it.
fn writable(view: &FlatView) -> Vec<(u64, u64)> {
    let ram = view.ranges().filter(|r| r.kind() == flatview::RegionType::Ram);
    ram.map(|r| (r.start(), r.last())).collect()
}

#[test]
fn only_writable_ram_is_in_it() {
    let (memory, space) = little();
    let (plain, _) = ram(&memory, "ram", PAGE);
    let block = |name| RamBlock::anonymous(name, PAGE).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(PAGE).unwrap();
    let fixed = RamBlock::from_file("fixed", file.path(), 0, PAGE, Share::Shared, true).unwrap();
    memory
        .update(|t| {
            let others = [
                t.add(Region::rom("rom", block("rom")))?,
                t.add(Region::rom_device("flash", block("flash"), Ops::new()))?,
                t.add(Region::ram_device("bar", block("bar")))?,
                t.add(Region::io("io", PAGE.into(), Ops::new()))?,
                t.add(Region::reservation("reserved", PAGE.into()))?,
                t.add(Region::alias("shadow", plain, 0, PAGE.into()).readonly(true))?,
                t.add(Region::ram("fixed", fixed))?,
                t.add(Region::alias("mirror", plain, 0x800, 0x800))?,
                plain,
            ];
            for (page, region) in (1..).zip(others) {
                t.map(memory.system(), page * PAGE, region)?;
            }
            Ok::<_, flatview::MemoryError>(())
        })
        .unwrap();
    assert_eq!(table(&space.ram_view()), [(8 * PAGE, 8 * PAGE + 0x7ff), (9 * PAGE, 9 * PAGE + 0xfff)]);
    let view = space.ram_view();
    let [mirror, whole] = view.regions() else { unreachable!() };
    assert_eq!((mirror.block().1, whole.block().1), (0x800, 0));
    assert!(Arc::ptr_eq(mirror.block().0, whole.block().0), "two aliases of one block are two regions");
    let host = |addr| view.get_host_address(at(addr)).unwrap();
    assert_eq!(host(8 * PAGE), host(9 * PAGE + 0x800));
    assert_eq!(host(9 * PAGE), whole.host().unwrap().as_ptr());
    view.write_obj(0xabcd_u16, at(8 * PAGE + 0x10)).unwrap();
    assert_eq!(view.read_obj::<u16>(at(9 * PAGE + 0x810)).unwrap(), 0xabcd);
    // A ROM device is a hole in ROM mode and out of it, and so is the rest.
    for page in 1..8 {
        let refused = view.write_obj(1_u8, at(page * PAGE));
        assert!(matches!(refused, Err(GuestMemoryError::InvalidGuestAddress(_))), "{page}");
        assert!(!GuestMemoryBackend::address_in_range(&*view, at(page * PAGE)));
    }
}

#[test]
fn lookups_agree_with_the_flat_view_at_every_boundary_of_random_maps() {
    let (memory, space) = little();
    let mut rng = fastrand::Rng::with_seed(7);
    let blocks: Vec<_> = (0..4).map(|i| ram(&memory, &format!("ram{i}"), 16 * PAGE).0).collect();
    let mut mapped: Vec<RegionId> = Vec::new();
    let mut most = 0;
    for _ in 0..2_000 {
        memory
            .update(|t| {
                if mapped.len() > 24 || (!mapped.is_empty() && rng.u8(..) < 80) {
                    let gone = mapped.swap_remove(rng.usize(..mapped.len()));
                    t.unmap(memory.system(), gone)?;
                    return t.remove(gone);
                }
                let (offset, size) = (rng.u64(..8 * PAGE), 1 + rng.u64(..8 * PAGE));
                let target = blocks[rng.usize(..blocks.len())];
                let region = match rng.u8(..4) {
                    0 => Region::io("io", size.into(), Ops::new()),
                    1 => Region::alias("ro", target, offset, size.into()).readonly(true),
                    _ => Region::alias("alias", target, offset, size.into()),
                };
                let region = t.add(region)?;
                mapped.push(region);
                let base = if rng.bool() { 0 } else { u64::MAX - 64 * PAGE + 1 };
                t.map_overlap(memory.system(), base + rng.u64(..56 * PAGE), region, rng.i32(-2..3))
            })
            .unwrap();
        let (flat, ram) = (space.view().unwrap(), space.ram_view());
        assert_eq!(table(&ram), writable(&flat));
        assert_eq!(ram.num_regions(), GuestMemoryBackend::iter(&*ram).count());
        assert_eq!(GuestMemoryBackend::last_addr(&*ram).0, table(&ram).last().map_or(0, |r| r.1));
        most = most.max(ram.num_regions());
        for (start, last) in flat.ranges().map(|r| (r.start(), r.last())) {
            for addr in [start.saturating_sub(1), start, last, last.saturating_add(1)] {
                let range = flat.lookup(addr).filter(|r| r.kind() == flatview::RegionType::Ram);
                let found = ram.to_region_addr(at(addr)).map(|(r, a)| (r.start(), a.0, r.block().1));
                assert_eq!(found, range.map(|r| (r.start(), addr - r.start(), r.block().unwrap().1)));
                let host = space.reader().host_ptr(addr, 1).map(|p| p.as_ptr());
                assert_eq!(ram.get_host_address(at(addr)).ok(), range.and(host));
            }
        }
    }
    assert!(most > 12, "{most} regions at most");
}

#[test]
fn ram_may_end_at_the_last_address_of_all_and_accesses_go_round_as_on_the_bus() {
    let (memory, space) = little();
    let (low, _) = ram(&memory, "low", 0x1_0000);
    let (top, block) = ram(&memory, "top", 0x1_0000);
    memory.map(memory.system(), TOP, top).unwrap();
    let view = space.ram_view();
    let region = view.find_region(at(u64::MAX)).unwrap();
    assert_eq!((region.len(), region.last_addr(), view.last_addr()), (0x1_0000, at(u64::MAX), at(u64::MAX)));
    assert_eq!(view.checked_offset(at(TOP), 0xffff), Some(at(u64::MAX)));
    assert!(view.check_range(at(TOP), 0x1_0000));
    view.write_obj(0x0102_0304_u32, at(u64::MAX - 3)).unwrap();
    let mut last = [0; 4];
    block.read(0xfffc, &mut last).unwrap();
    assert_eq!(u32::from_ne_bytes(last), 0x0102_0304);
    assert!(view.find_region(at(TOP - 1)).is_none() && view.find_region(at(0)).is_none());

    // Nothing is at 0: only what fits is written, and `write_slice` says so.
    assert_eq!(view.write(&[1; 8], at(u64::MAX - 3)).unwrap(), 4);
    let partial = view.write_slice(&[1; 8], at(u64::MAX - 3));
    assert!(matches!(partial, Err(GuestMemoryError::PartialBuffer { expected: 8, completed: 4 })));
    memory.map(memory.system(), 0, low).unwrap();
    space.ram_view().write_slice(&[9; 8], at(u64::MAX - 3)).unwrap();
    let mut out = [0; 8];
    space.read(u64::MAX - 3, &mut out).unwrap();
    assert_eq!(out, [9; 8], "the bus goes round too");
}

#[test]
fn shared_files_are_told_and_private_mappings_are_not() {
    let (memory, space) = little();
    let file = tempfile::tempfile().unwrap();
    file.set_len(8 * PAGE).unwrap();
    let fd = file.into();
    let shared = RamBlock::from_fd("shared", &fd, 2 * PAGE, 4 * PAGE, Share::Shared).unwrap();
    let private = RamBlock::from_fd("private", &fd, 0, PAGE, Share::Private).unwrap();
    memory
        .update(|t| {
            let shared = t.add(Region::ram("shared", shared))?;
            let alias = t.add(Region::alias("alias", shared, PAGE, (2 * PAGE).into()))?;
            let private = t.add(Region::ram("private", private))?;
            t.map(memory.system(), 0, shared)?;
            t.map(memory.system(), 0x10_0000, alias)?;
            t.map(memory.system(), 0x20_0000, private)
        })
        .unwrap();
    let view = space.ram_view();
    let files: Vec<_> = view.regions().iter().map(|r| r.file_offset().map(FileOffset::start)).collect();
    assert_eq!(files, [Some(2 * PAGE), Some(3 * PAGE), None]);
    let arcs: Vec<_> = view.regions().iter().filter_map(|r| Some(r.file_offset()?.arc())).collect();
    assert!(Arc::ptr_eq(arcs[0], arcs[1]), "no descriptor is duplicated");
    view.write_obj(0x77_u8, at(0x10_0000)).unwrap();
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&**arcs[0], &mut byte, 3 * PAGE).unwrap();
    assert_eq!(byte, [0x77]);
    assert!(view.regions().iter().all(|r| r.is_hugetlbfs() == Some(false)));
}

#[test]
fn asking_again_gives_the_same_until_the_view_changes_and_the_new_one_from_then_on() {
    let (memory, space) = little();
    let (low, _) = ram(&memory, "low", PAGE);
    memory.map(memory.system(), 0, low).unwrap();
    let first = space.ram_view();
    for _ in 0..100 {
        assert!(Arc::ptr_eq(&first, &space.ram_view()));
        assert!(std::ptr::eq(&*first, &*GuestAddressSpace::memory(&space.clone())));
    }
    assert!(Arc::ptr_eq(&first, &space.view().unwrap().ram()), "the view's own");
    memory.update(|t| t.set_address(low, 0x8000)).unwrap();
    assert_eq!((table(&first), table(&space.ram_view())), (vec![(0, 0xfff)], vec![(0x8000, 0x8fff)]));
    // A change of anything but the RAM leaves it as it is, and one that cuts the RAM does not.
    let second = space.ram_view();
    let io = memory.add(Region::io("io", 8, Ops::new())).unwrap();
    memory.map(memory.system(), 0x9000, io).unwrap();
    for addr in [0x1_0000, 0x2_0000, 0x7ff8] {
        memory.update(|t| t.set_address(io, addr)).unwrap();
        assert!(Arc::ptr_eq(&second, &space.ram_view()), "{addr:#x}");
    }
    memory.update(|t| t.set_address(io, 0x8ff8)).unwrap();
    assert_eq!(table(&space.ram_view()), [(0x8000, 0x8ff7)]);
    // An update that fails changes nothing.
    let second = space.ram_view();
    let failed: Result<(), flatview::MemoryError> = memory.update(|t| {
        t.set_address(low, 0)?;
        t.map(memory.system(), 0, low)
    });
    assert!(failed.is_err());
    assert!(Arc::ptr_eq(&second, &space.ram_view()));
}

#[test]
fn a_view_that_is_held_keeps_its_ram_and_an_idle_space_keeps_none_of_an_old_map() {
    let (memory, space) = little();
    let plugged = || {
        let (region, block) = ram(&memory, "dimm", PAGE);
        memory.map(memory.system(), 0, region).unwrap();
        (region, Arc::downgrade(&block))
    };
    let (region, block) = plugged();
    let guard = GuestAddressSpace::memory(&space);
    let unplug = |region| {
        memory.update(|t| {
            t.unmap(memory.system(), region)?;
            t.remove(region)
        })
    };
    unplug(region).unwrap();
    guard.write_obj(5_u64, at(8)).unwrap();
    assert_eq!(
        guard.clone().read_obj::<u64>(at(8)).unwrap(),
        5,
        "unplugged, but still there for who holds it"
    );
    assert!(space.ram_view().regions().is_empty());
    drop(guard);
    memory.synchronize().unwrap();
    assert!(block.upgrade().is_none());

    // Nobody asks after the unplug: the space that was asked before it does not keep the RAM.
    let (region, block) = plugged();
    assert_eq!(space.ram_view().regions().len(), 1);
    unplug(region).unwrap();
    memory.synchronize().unwrap();
    assert!(block.upgrade().is_none());
}

#[test]
fn it_may_be_asked_for_in_callbacks_updates_and_listeners() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<(usize, usize)>>, Mutex<Option<AddressSpace>>);
    impl MemoryListener for Seen {
        fn name(&self) -> &str {
            "seen"
        }
        fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
            let Some(space) = &*self.1.lock().unwrap() else { return Ok(()) };
            let new = delta.space(space.id()).map_or(0, |d| d.new_view().ram().num_regions());
            self.0.lock().unwrap().push((space.ram_view().num_regions(), new));
            Ok(())
        }
        fn region_add(&self, _: &Section) -> Result<(), ListenerError> {
            let Some(space) = &*self.1.lock().unwrap() else { return Ok(()) };
            self.0.lock().unwrap().push((space.ram_view().num_regions(), usize::MAX));
            Ok(())
        }
    }
    let (memory, space) = little();
    let listener = Arc::new(Seen::default());
    memory.add_listener(listener.clone()).unwrap();
    *listener.1.lock().unwrap() = Some(space.clone());
    let (low, _) = ram(&memory, "low", PAGE);
    let before = memory
        .update(|t| {
            t.map(memory.system(), 0, low)?;
            Ok::<_, flatview::MemoryError>(space.ram_view().num_regions())
        })
        .unwrap();
    assert_eq!(before, 0, "inside an update: the map before it");
    assert_eq!(*listener.0.lock().unwrap(), [(0, 1), (1, usize::MAX)]);
    *listener.1.lock().unwrap() = None;

    let weak = space.downgrade();
    let doorbell = Ops::new().write(move |_, value| {
        let space = weak.upgrade().ok_or(flatview::MemTxError::error())?;
        let ram = GuestAddressSpace::memory(&space);
        ram.write_obj(value as u32, at(0x10)).map_err(|_| flatview::MemTxError::error())
    });
    let io = memory.add(Region::io("doorbell", 4, doorbell)).unwrap();
    memory.map(memory.system(), 0x8000, io).unwrap();
    space.reader().store::<Le, u32>(0x8000, 0xfeed).unwrap();
    assert_eq!(space.ram_view().read_obj::<u32>(at(0x10)).unwrap(), 0xfeed);
}

/// A block whose region begins inside of a page, in two aliases; logged for two clients, all clean.
struct Logged {
    memory: Memory,
    space: AddressSpace,
    region: RegionId,
}

const BASE: u64 = 0x600;
const SIZE: u64 = 16 * PAGE - BASE;

fn logged() -> Logged {
    let (memory, space) = little();
    let block = RamBlock::anonymous("ram", 16 * PAGE).unwrap();
    let region = memory.add(Region::ram("ram", block).window(BASE, SIZE)).unwrap();
    let mirror = memory.add(Region::alias("mirror", region, PAGE, (4 * PAGE).into())).unwrap();
    memory.map(memory.system(), 0x4_0000, region).unwrap();
    memory.map(memory.system(), 0x8_0000, mirror).unwrap();
    for client in [DirtyClient::VGA, DirtyClient::MIGRATION] {
        memory.set_log(region, client, true).unwrap();
        memory.reset_dirty(region, 0, SIZE, client).unwrap();
    }
    Logged { memory, space, region }
}

impl Logged {
    /// The dirty parts of the region; they are clean then.
    fn take(&self, client: DirtyClient) -> Vec<std::ops::Range<u64>> {
        self.memory.snapshot_and_clear_dirty(self.region, 0, SIZE, client).unwrap().runs().collect()
    }

    #[track_caller]
    fn expect(&self, page: u64, what: &str) {
        // The region begins at `BASE` of the block's first page.
        let run = (page * PAGE).saturating_sub(BASE)..(page + 1) * PAGE - BASE;
        for client in [DirtyClient::VGA, DirtyClient::MIGRATION] {
            assert_eq!(self.take(client), std::slice::from_ref(&run), "{what}, {client}");
        }
    }
}

#[test]
fn every_way_to_write_marks_its_pages_for_every_client_and_no_others() {
    let logged = logged();
    let ram = logged.space.ram_view();
    let page = |page: u64| at(0x4_0000 + page * PAGE - BASE);
    ram.write(&[1; 64], page(1)).unwrap();
    logged.expect(1, "write");
    ram.write_slice(&[1; 64], page(2)).unwrap();
    logged.expect(2, "write_slice");
    ram.write_obj(7_u64, page(3)).unwrap();
    logged.expect(3, "write_obj");
    ram.store(7_u32, page(4), Ordering::Release).unwrap();
    logged.expect(4, "store");
    ram.read_volatile_from(page(5), &mut &[3_u8; 32][..], 32).unwrap();
    logged.expect(5, "read_volatile_from");
    ram.read_exact_volatile_from(page(6), &mut &[3_u8; 32][..], 32).unwrap();
    logged.expect(6, "read_exact_volatile_from");
    let slice = ram.get_slice(page(7), 64).unwrap();
    slice.get_ref::<u32>(4).unwrap().store(9);
    logged.expect(7, "a reference in a slice");
    slice.get_array_ref::<u32>(8, 2).unwrap().store(1, 9);
    logged.expect(7, "an array in a slice");
    slice.subslice(16, 8).unwrap().copy_from(&[1_u8; 8]);
    logged.expect(7, "a slice of a slice");
    let (region, offset) = ram.to_region_addr(page(8)).unwrap();
    region.write_obj(1_u16, offset).unwrap();
    logged.expect(8, "through the region");
    region.bitmap().mark_dirty(offset.0 as usize, 1);
    logged.expect(8, "by hand");
    // The mirror begins a page into the region.
    ram.write_obj(1_u8, at(0x8_0000 + PAGE)).unwrap();
    logged.expect(2, "through an alias");
    ram.write_obj(u64::MAX, at(0x4_0000 + SIZE - 8)).unwrap();
    logged.expect(15, "at the end");

    // Reading marks nothing, nor does writing nothing.
    ram.read_obj::<u64>(page(3)).unwrap();
    ram.write(&[], page(3)).unwrap();
    ram.write_volatile_to(page(3), &mut Vec::new(), 64).unwrap();
    assert!(logged.take(DirtyClient::VGA).is_empty());

    // Over the end of a page.
    ram.write_slice(&[1; 2], at(page(4).0 - 1)).unwrap();
    assert_eq!(logged.take(DirtyClient::VGA), [3 * PAGE - BASE..5 * PAGE - BASE]);
}

#[test]
fn a_bitmap_asks_one_client_and_one_that_never_logged_knows_nothing() {
    let logged = logged();
    let ram = logged.space.ram_view();
    let (vga, code) = (ram.with_dirty_client(DirtyClient::VGA), ram.with_dirty_client(DirtyClient::CODE));
    let dirty = |ram: &RamView, addr: u64| {
        let (region, offset) = ram.to_region_addr(at(addr)).unwrap();
        let bitmap = region.bitmap();
        let slice: DirtySlice<'_> = bitmap.slice_at(offset.0 as usize);
        assert_eq!(bitmap.dirty_at(offset.0 as usize), slice.dirty_at(0));
        slice.dirty_at(0)
    };
    assert!(!dirty(&ram, 0x4_1000) && !dirty(&vga, 0x4_1000));
    assert!(dirty(&code, 0x4_1000), "nothing is known of it");
    vga.write_obj(1_u8, at(0x4_1000)).unwrap();
    assert!(dirty(&ram, 0x4_1000) && dirty(&vga, 0x4_1000), "marked for all");
    assert!(dirty(&ram, 0x8_0000), "the alias shows the same pages");
    logged.memory.reset_dirty(logged.region, 0, SIZE, DirtyClient::VGA).unwrap();
    assert!(dirty(&ram, 0x4_1000) && !dirty(&vga, 0x4_1000), "each has bits of its own");
    // A page is dirty as a whole.
    assert!(dirty(&ram, 0x4_1000 - BASE) && !dirty(&ram, 0x4_1000 - BASE - 1));
}

#[test]
fn a_log_that_starts_while_a_view_is_held_hears_of_its_writes() {
    let (memory, space) = little();
    let (region, _) = ram(&memory, "ram", 4 * PAGE);
    memory.map(memory.system(), 0, region).unwrap();
    let held = space.ram_view();
    held.write_obj(1_u8, at(0)).unwrap();
    memory.set_log(region, DirtyClient::MIGRATION, true).unwrap();
    memory.reset_dirty(region, 0, 4 * PAGE, DirtyClient::MIGRATION).unwrap();
    held.write_obj(1_u8, at(2 * PAGE)).unwrap();
    let snapshot = memory.snapshot_and_clear_dirty(region, 0, 4 * PAGE, DirtyClient::MIGRATION).unwrap();
    assert_eq!(snapshot.runs().collect::<Vec<_>>(), [2 * PAGE..3 * PAGE]);
}

#[test]
fn slices_and_regions_end_where_they_end() {
    let (memory, space) = little();
    let (region, _) = ram(&memory, "ram", 2 * PAGE);
    memory.map(memory.system(), 0x1000, region).unwrap();
    let ram = space.ram_view();
    fn refused<T: Debug>(result: &Result<T, GuestMemoryError>) -> bool {
        matches!(result, Err(GuestMemoryError::InvalidBackendAddress))
    }
    let [region] = ram.regions() else { unreachable!() };
    assert_eq!(region.get_slice(MemoryRegionAddress(2 * PAGE), 0).unwrap().len(), 0);
    assert!(refused(&region.get_slice(MemoryRegionAddress(2 * PAGE), 1)));
    assert!(refused(&region.get_slice(MemoryRegionAddress(1), 2 * PAGE as usize)));
    assert!(refused(&region.get_slice(MemoryRegionAddress(u64::MAX), 2)));
    assert!(refused(&region.get_slice(MemoryRegionAddress(1), usize::MAX)));
    assert!(refused(&region.get_host_address(MemoryRegionAddress(2 * PAGE))));
    assert!(region.get_host_address(MemoryRegionAddress(2 * PAGE - 1)).is_ok());
    assert!(refused(&ram.get_slice(at(0x2fff), 2)));
    assert_eq!(region.as_volatile_slice().unwrap().len(), 2 * PAGE as usize);
    // What is not aligned in the host cannot be one atomic: an error, as with rust-vmm's own memory.
    assert!(refused(&ram.load::<u32>(at(0x1001), Ordering::Relaxed)));
    assert!(RamView::default().regions().is_empty());
}

/// Says that it is over also if a test fails, so that its threads end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn threads_that_ask_see_a_whole_map_while_it_moves() {
    // Two blocks change places again and again, in one update each: whoever asks sees one in each place, never one in both.
    let (memory, space) = little();
    let (a, _) = ram(&memory, "a", PAGE);
    let (b, _) = ram(&memory, "b", PAGE);
    memory.map(memory.system(), 0, a).unwrap();
    memory.map(memory.system(), 0x1_0000, b).unwrap();
    space.ram_view().write_obj(1_u64, at(0)).unwrap();
    space.ram_view().write_obj(2_u64, at(0x1_0000)).unwrap();
    memory.set_log_all(DirtyClient::MIGRATION, true).unwrap();
    let (done, swaps) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    thread::scope(|scope| {
        let _over = Over(&done);
        for swaps in &swaps {
            let (done, space) = (&done, &space);
            scope.spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::Acquire) {
                    let ram = GuestAddressSpace::memory(space);
                    let pair: (u64, u64) =
                        (ram.read_obj(at(0)).unwrap(), ram.read_obj(at(0x1_0000)).unwrap());
                    assert!(pair == (1, 2) || pair == (2, 1), "{pair:?}");
                    ram.write_obj(pair.0, at(0)).unwrap();
                    swaps.fetch_add(u64::from(last != pair.0), Ordering::Relaxed);
                    last = pair.0;
                }
            });
        }
        let (began, mut turn) = (Instant::now(), 0_u64);
        while turn < 500 || swaps.iter().any(|seen| seen.load(Ordering::Relaxed) < 5) {
            assert!(began.elapsed() < Duration::from_secs(30), "the devices see no changes: {swaps:?}");
            turn += 1;
            memory
                .update(|t| {
                    t.set_address(a, if turn.is_multiple_of(2) { 0 } else { 0x1_0000 })?;
                    t.set_address(b, if turn.is_multiple_of(2) { 0x1_0000 } else { 0 })
                })
                .unwrap();
            // Who has changed the map sees it at once.
            let first: u64 = space.ram_view().read_obj(at(0)).unwrap();
            assert_eq!(first, if turn.is_multiple_of(2) { 1 } else { 2 });
        }
    });
}

#[test]
fn views_that_many_threads_ask_for_are_whole_and_never_go_back() {
    // Only tables are looked at, no bytes: `vm-memory` copies those without atomics, and ThreadSanitizer would say so.
    const MOVES: u64 = 3_000;
    let (memory, space) = little();
    let (region, block) = {
        let (region, block) = ram(&memory, "ram", PAGE);
        (region, Arc::downgrade(&block))
    };
    memory.map(memory.system(), 0, region).unwrap();
    let (newest, done, started) = (AtomicU64::new(0), AtomicBool::new(false), Barrier::new(4));
    thread::scope(|scope| {
        let _over = Over(&done);
        let ask = |from: u64| {
            // What was published before the question is the least that may come.
            let least = newest.load(Ordering::Acquire).max(from);
            let ram = GuestAddressSpace::memory(&space);
            let [region] = ram.regions() else { unreachable!("{:?}", table(&ram)) };
            assert_eq!(region.len(), PAGE);
            assert!(region.start() >= least * PAGE, "{region:?} after {least}");
            region.start() / PAGE
        };
        for _ in 0..3 {
            let (done, started) = (&done, &started);
            scope.spawn(move || {
                started.wait();
                let mut last = 0;
                while last < MOVES && !done.load(Ordering::Acquire) {
                    last = ask(last);
                }
            });
        }
        started.wait();
        for turn in 1..=MOVES {
            memory.update(|t| t.set_address(region, turn * PAGE)).unwrap();
            newest.store(turn, Ordering::Release);
            assert_eq!(table(&space.ram_view()), [(turn * PAGE, turn * PAGE + PAGE - 1)]);
        }
    });
    // Nobody is left who keeps an old view, whoever came last.
    memory
        .update(|t| {
            t.unmap(memory.system(), region)?;
            t.remove(region)
        })
        .unwrap();
    memory.synchronize().unwrap();
    assert!(block.upgrade().is_none());
}
