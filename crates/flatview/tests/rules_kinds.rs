//! What each kind of region is and does.
//!
//! | kind (QEMU: the constructors of `softmmu/memory.c`) | test |
//! |---|---|
//! | container | `a_container_shows_its_children_and_nothing_of_itself` |
//! | container of 2^64 | `the_last_address_of_a_space_of_2_to_the_64_can_be_used` |
//! | 2^64 and 2^64 - 1 (which QEMU cannot tell apart) | `sizes_of_2_to_the_64_and_of_one_less_are_different` |
//! | i/o | `rules_dispatch.rs` |
//! | reservation | `a_reservation_takes_its_place_and_rejects_everything` |
//! | RAM, anonymous | `ram_is_zero_at_first_and_ends_at_its_own_size` |
//! | RAM, part of a block | `two_regions_may_show_windows_of_one_block` |
//! | ROM | `rom_is_read_at_ram_speed_and_written_by_loaders_only` |
//! | ROM device | `a_rom_device_reads_from_memory_and_writes_to_callbacks` |
//! | ROM device, mode off | `a_rom_device_with_its_mode_off_reads_through_callbacks` |
//! | ROM device is not RAM, whatever its mode | `a_rom_device_is_never_ram` |
//! | RAM from a file, shared | `ram_in_a_shared_file_reaches_the_file` |
//! | RAM from a file, private | `ram_in_a_private_file_stays_here` |
//! | RAM from a file, read-only on the host | `ram_that_the_host_protects_is_rejected_when_written` |
//! | RAM from a file that is too small, or not there | `a_file_that_cannot_back_ram_says_what_to_do` |
//! | RAM from a descriptor | `ram_of_one_descriptor_is_one_memory` |
//! | RAM from a caller's buffer | `a_callers_buffer_is_ram_and_is_let_go_of_when_no_map_shows_it` |
//! | RAM from a caller's pointer | `a_callers_pointer_is_ram` |
//! | alias | `an_alias_shows_a_window_and_no_children_of_its_own` |
//! | alias of an alias | `an_alias_of_an_alias_adds_the_offsets` |
//! | alias of a disabled region | `an_alias_of_a_disabled_region_shows_nothing` |
//! | alias past its target | `an_alias_past_the_end_of_its_target_leaves_a_hole` |
//! | alias loops | `rules_errors.rs` |
//! | sketch (ours: a type without a store) | `a_sketch_has_a_type_and_rejects_everything` |
//! | resizeable RAM | `ram_changes.rs` |
//! | RAM device | `ram_changes.rs` |
//! | IOMMU | `iommu/main.rs` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]
#![expect(unsafe_code, reason = "a caller's pointer and a caller's buffer are given by unsafe means")]

use std::io::Write as _;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use flatview::*;

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

fn flat(space: &AddressSpace) -> Vec<(u64, u64, String, u64)> {
    space.view().unwrap().ranges().map(|r| (r.start(), r.last(), r.name().to_owned(), r.offset())).collect()
}

fn r(start: u64, last: u64, name: &str, offset: u64) -> (u64, u64, String, u64) {
    (start, last, name.to_owned(), offset)
}

fn block(size: u64) -> Arc<RamBlock> {
    RamBlock::anonymous("block", size).unwrap()
}

const DECODE: MemTxResult = MemTxResult::DECODE_ERROR;

#[test]
fn a_container_shows_its_children_and_nothing_of_itself() {
    let memory = Memory::new(Endianness::Little);
    let container = map(&memory, 0x1000, Region::container("container", 0x1000));
    let child = memory.add(Region::ram("child", block(0x10))).unwrap();
    memory.map(container, 0x100, child).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0x1100, 0x110f, "child", 0)]);
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u8>(0x1000).unwrap_err().region(), None);
    assert!(!memory.region(container).unwrap().terminates);
    assert!(memory.region(child).unwrap().terminates);
}

#[test]
fn the_last_address_of_a_space_of_2_to_the_64_can_be_used() {
    let memory = Memory::new(Endianness::Little);
    assert_eq!(memory.region(memory.system()).unwrap().size, WHOLE);
    map(&memory, u64::MAX, Region::io("last", 1, Ops::new().read(|a| Ok(a.address() & 0xff))));
    assert_eq!(flat(&memory.memory_space()), [r(u64::MAX, u64::MAX, "last", 0)]);
    assert_eq!(memory.memory_space().reader().load::<Le, u8>(u64::MAX), Ok(0xff));
}

#[test]
fn sizes_of_2_to_the_64_and_of_one_less_are_different() {
    for (size, last) in [(WHOLE, u64::MAX), (WHOLE - 1, u64::MAX - 1)] {
        let memory = Memory::new(Endianness::Little);
        let id = map(&memory, 0, Region::reservation("all", size));
        assert_eq!(memory.region(id).unwrap().size, size);
        assert_eq!(flat(&memory.memory_space()), [r(0, last, "all", 0)]);
        assert_eq!(memory.find(memory.system(), 0, WHOLE).unwrap().unwrap().size, size);
    }
}

#[test]
fn a_reservation_takes_its_place_and_rejects_everything() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("ram", block(0x1000)));
    let id = memory.add(Region::reservation("reserved", 0x100)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x200, id, 1)).unwrap();
    let view = memory.memory_space().view().unwrap();
    let range = view.lookup(0x200).unwrap();
    assert_eq!((range.region(), range.kind().to_string()), (id, "i/o".to_owned()));
    let reader = memory.memory_space().reader();
    for error in [
        reader.load::<Le, u32>(0x200).unwrap_err(),
        reader.store::<Le, u32>(0x200, 0).unwrap_err(),
        reader.read(0x200, &mut [0; 4]).unwrap_err(),
        reader.cpu_store::<Le, u32>(0x200, 0).unwrap_err(),
    ] {
        assert_eq!((error.result(), error.reason()), (DECODE, Reason::Rejected));
        assert_eq!(error.region(), Some(id));
    }
}

#[test]
fn ram_is_zero_at_first_and_ends_at_its_own_size() {
    let memory = Memory::new(Endianness::Little);
    // The host rounds to pages; the region does not.
    let id = map(&memory, 0x1000, Region::ram("odd", block(0x1235)));
    let info = memory.region(id).unwrap();
    assert_eq!((info.size, info.kind, info.readonly), (0x1235, RegionType::Ram, false));
    let reader = memory.memory_space().reader();
    let mut all = vec![1; 0x1235];
    reader.read(0x1000, &mut all).unwrap();
    assert!(all.iter().all(|b| *b == 0));
    reader.store::<Le, u8>(0x2234, 9).unwrap();
    assert!(reader.store::<Le, u8>(0x2235, 9).is_err());
    assert_eq!(memory.ram_blocks().len(), 1);
    assert_eq!((&*memory.ram_blocks()[0].name, memory.ram_blocks()[0].size), ("block", 0x1235));
}

#[test]
fn two_regions_may_show_windows_of_one_block() {
    let memory = Memory::new(Endianness::Little);
    let block = block(0x3000);
    map(&memory, 0x10000, Region::ram("whole", block.clone()));
    let window = map(&memory, 0x20000, Region::ram("window", block.clone()).window(0x1000, 0x800));
    map(&memory, 0x30000, Region::ram("start", block.clone()).size(0x10));
    let reader = memory.memory_space().reader();
    reader.store::<Be, u32>(0x20010, 0x1122_3344).unwrap();
    assert_eq!(reader.load::<Be, u32>(0x11010), Ok(0x1122_3344));
    assert!(reader.load::<Be, u32>(0x20800).is_err());
    assert!(reader.load::<Be, u32>(0x30010).is_err());
    let (shown, offset) = memory.region(window).unwrap().ram.unwrap();
    assert!(Arc::ptr_eq(&shown, &block) && offset == 0x1000);
    assert_eq!(memory.ram_blocks().len(), 1, "one block, however many regions");
}

#[test]
fn rom_is_read_at_ram_speed_and_written_by_loaders_only() {
    let memory = Memory::new(Endianness::Little);
    let block = block(0x1000);
    block.write(0, b"firmware").unwrap();
    let id = map(&memory, 0xfff0_0000, Region::rom("rom", block.clone()));
    let info = memory.region(id).unwrap();
    assert_eq!((info.kind, info.readonly), (RegionType::Rom, true));
    let view = memory.memory_space().view().unwrap();
    let range = view.lookup(0xfff0_0000).unwrap();
    assert!(range.is_ram_backed() && range.is_ram() && range.readonly());
    let reader = memory.memory_space().reader();
    let error = reader.store::<Le, u8>(0xfff0_0000, 0).unwrap_err();
    assert_eq!((error.result(), error.reason()), (DECODE, Reason::Rejected));
    reader.poke(0xfff0_0000, b"F").unwrap();
    let mut out = [0; 8];
    reader.read(0xfff0_0000, &mut out).unwrap();
    assert_eq!(&out, b"Firmware");
    // Made writable it is RAM.
    memory.update(|t| t.set_readonly(id, false)).unwrap();
    assert_eq!(memory.region(id).unwrap().kind, RegionType::Ram);
    reader.store::<Le, u8>(0xfff0_0000, b'X').unwrap();
    block.read(0, &mut out[..1]).unwrap();
    assert_eq!(out[0], b'X');
}

fn flash(memory: &Memory) -> (RegionId, Arc<RamBlock>) {
    let block = block(0x1000);
    let store = block.clone();
    let ops = Ops::new()
        .rules(AccessRules::new().endian(DeviceEndian::Big).valid(1, 4))
        .read(|a| Ok(0xcc00 + a.offset()))
        .write(move |a, value| {
            // A command interface would sit here; this one adds one to what it stores.
            let byte = [(value as u8).wrapping_add(1)];
            store.write(a.offset(), &byte).map_err(|_| MemTxError::error())
        });
    (map(memory, 0x1000, Region::rom_device("flash", block.clone(), ops)), block)
}

#[test]
fn a_rom_device_reads_from_memory_and_writes_to_callbacks() {
    let memory = Memory::new(Endianness::Little);
    let (id, block) = flash(&memory);
    block.write(0, &[1, 2, 3, 4]).unwrap();
    let info = memory.region(id).unwrap();
    assert_eq!((info.kind, info.romd, info.readonly), (RegionType::Romd, true, false));
    let reader = memory.memory_space().reader();
    // Reads come from memory: any size and alignment, in the order the reader asks for.
    assert_eq!(reader.load::<Be, u32>(0x1000), Ok(0x0102_0304));
    assert_eq!(reader.load::<Le, u64>(0x1000), Ok(0x0403_0201));
    assert_eq!(reader.load::<Be, u16>(0x1001), Ok(0x0203));
    // Writes go to the device, by its rules.
    reader.store::<Be, u32>(0x1000, 0x1f).unwrap();
    assert_eq!(reader.load::<Le, u8>(0x1000), Ok(0x20));
    assert!(matches!(
        reader.store::<Be, u64>(0x1000, 0).unwrap_err().reason(),
        Reason::InvalidSize { min: 1, max: 4 }
    ));
    assert_eq!(reader.store::<Be, u16>(0x1001, 0).unwrap_err().reason(), Reason::Unaligned);
    reader.write(0x1010, &[0x40]).unwrap();
    assert_eq!(reader.load::<Le, u8>(0x1010), Ok(0x41));
    reader.cpu_store::<Le, u8>(0x1011, 0x41).unwrap();
    assert_eq!(reader.load::<Le, u8>(0x1011), Ok(0x42), "a CPU's store reaches it too");
}

#[test]
fn a_rom_device_with_its_mode_off_reads_through_callbacks() {
    let memory = Memory::new(Endianness::Little);
    let (id, block) = flash(&memory);
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Be, u32>(0x1004), Ok(0));
    memory.update(|t| t.set_romd(id, false)).unwrap();
    assert_eq!(memory.region(id).unwrap().kind, RegionType::Io);
    assert_eq!(reader.load::<Be, u32>(0x1004), Ok(0xcc04));
    assert_eq!(reader.load::<Be, u16>(0x1003).unwrap_err().reason(), Reason::Unaligned);
    reader.store::<Be, u8>(0x1004, 1).unwrap();
    let mut out = [0];
    block.read(4, &mut out).unwrap();
    assert_eq!(out, [2]);
    memory.update(|t| t.set_romd(id, true)).unwrap();
    assert_eq!(reader.load::<Be, u8>(0x1004), Ok(2));
}

#[test]
fn a_rom_device_is_never_ram() {
    let memory = Memory::new(Endianness::Little);
    let (id, _) = flash(&memory);
    for (romd, kind) in [(true, RegionType::Romd), (false, RegionType::Io)] {
        memory.update(|t| t.set_romd(id, romd)).unwrap();
        let view = memory.memory_space().view().unwrap();
        let range = view.lookup(0x1000).unwrap();
        assert_eq!((range.is_ram(), range.is_ram_backed(), range.romd()), (false, romd, romd));
        assert_eq!(range.kind(), kind);
    }
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn ram_in_a_shared_file_reaches_the_file() {
    let file = file(&[7; 0x3000]);
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::from_file("nvm", file.path(), 0x1000, 0x1000, Share::Shared, false).unwrap();
    map(&memory, 0x8000, Region::ram("nvm", block));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u16>(0x8000), Ok(0x0707));
    reader.store::<Be, u32>(0x8000, 0x1122_3344).unwrap();
    let now = std::fs::read(file.path()).unwrap();
    assert_eq!(now[0xffe..0x1006], [7, 7, 0x11, 0x22, 0x33, 0x44, 7, 7]);
    assert_eq!(now.len(), 0x3000, "neither grown nor cut");
}

#[test]
fn ram_in_a_private_file_stays_here() {
    let file = file(&[7; 0x1000]);
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::from_file("copy", file.path(), 0, 0x1000, Share::Private, false).unwrap();
    map(&memory, 0, Region::ram("copy", block));
    let reader = memory.memory_space().reader();
    reader.store::<Le, u8>(1, 9).unwrap();
    assert_eq!(reader.load::<Be, u16>(0), Ok(0x0709));
    assert_eq!(std::fs::read(file.path()).unwrap(), [7; 0x1000]);
}

#[test]
fn ram_that_the_host_protects_is_rejected_when_written() {
    let file = file(&[7; 0x1000]);
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::from_file("image", file.path(), 0, 0x1000, Share::Shared, true).unwrap();
    assert!(!block.is_writable());
    map(&memory, 0, Region::ram("image", block));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.store::<Le, u8>(1, 9).unwrap_err().result(), DECODE);
    assert_eq!(reader.write(1, &[9]).unwrap_err().result(), DECODE);
    assert_eq!(reader.poke(1, &[9]).unwrap_err().result(), DECODE);
    assert_eq!(reader.cpu_store::<Le, u8>(1, 9), Ok(()), "dropped, as for ROM");
    assert_eq!(reader.load::<Le, u16>(0), Ok(0x0707));
}

#[test]
fn a_file_that_cannot_back_ram_says_what_to_do() {
    let file = file(&[7; 100]);
    let make = |offset, size| RamBlock::from_file("r", file.path(), offset, size, Share::Private, false);
    assert!(matches!(
        make(0, 101).unwrap_err(),
        RamError::FileTooSmall { have: 100, need: 101, offset: 0, size: 101, .. }
    ));
    assert!(matches!(make(1, 1).unwrap_err(), RamError::Misaligned { offset: 1, .. }));
    assert!(matches!(make(0, 0).unwrap_err(), RamError::Empty { .. }));
    assert!(matches!(make(0, u64::MAX).unwrap_err(), RamError::FileTooSmall { .. }));
    assert_eq!(make(0, 100).unwrap().size(), 100);
    let missing = file.path().with_extension("missing");
    let error = RamBlock::from_file("r", &missing, 0, 1, Share::Private, false).unwrap_err();
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    assert!(!missing.exists(), "it is opened, not created");
}

#[test]
fn ram_of_one_descriptor_is_one_memory() {
    let fd = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, 0x2000).unwrap();
    let memory = Memory::new(Endianness::Little);
    let of = |offset, share| RamBlock::from_fd("fd", &fd, offset, 0x1000, share).unwrap();
    map(&memory, 0x0000, Region::ram("one", of(0x1000, Share::Shared)));
    map(&memory, 0x1000, Region::ram("same", of(0x1000, Share::Shared)));
    map(&memory, 0x2000, Region::ram("copy", of(0x1000, Share::Private)));
    let reader = memory.memory_space().reader();
    reader.store::<Le, u32>(0x10, 0x1234_5678).unwrap();
    assert_eq!(reader.load::<Le, u32>(0x1010), Ok(0x1234_5678));
    reader.store::<Le, u32>(0x2010, 1).unwrap();
    assert_eq!(reader.load::<Le, u32>(0x0010), Ok(0x1234_5678));
    drop(fd);
    reader.store::<Le, u32>(0x1010, 2).unwrap();
    assert_eq!(reader.load::<Le, u32>(0x10), Ok(2), "the mapping outlives the descriptor");
}

/// A buffer that counts how many of its kind live.
struct Counted(Box<[AtomicU8]>, Arc<AtomicUsize>);

// SAFETY: a heap slice of atomics does not move with its owner and may be written through shared references.
unsafe impl HostBuffer for Counted {
    fn ptr(&self) -> NonNull<u8> {
        self.0.ptr()
    }
    fn len(&self) -> usize {
        HostBuffer::len(&self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_callers_buffer_is_ram_and_is_let_go_of_when_no_map_shows_it() {
    let alive = Arc::new(AtomicUsize::new(1));
    let buffer = Counted((0..=255).map(AtomicU8::new).collect(), Arc::clone(&alive));
    let memory = Memory::new(Endianness::Little);
    let id = map(&memory, 0x1000, Region::ram("mine", RamBlock::from_buffer("mine", buffer).unwrap()));
    let mut reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Be, u32>(0x1010), Ok(0x1011_1213));
    let guard = reader.host_ptr(0x1010, 4).unwrap();
    let view = memory.memory_space().view().unwrap();
    memory
        .update(|t| {
            t.unmap(memory.system(), id)?;
            t.remove(id)
        })
        .unwrap();
    reader.park();
    memory.synchronize().unwrap();
    assert_eq!(alive.load(Ordering::Relaxed), 1, "a view and a guard still have it");
    // SAFETY: the guard keeps the buffer; nobody writes it.
    assert_eq!(unsafe { guard.as_ptr().read_volatile() }, 0x10);
    drop(guard);
    assert_eq!(view.lookup(0x1000).unwrap().name(), "mine");
    drop(view);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    assert!(reader.load::<Be, u32>(0x1010).is_err());
}

#[test]
fn a_callers_pointer_is_ram() {
    let bytes: Box<[AtomicU8]> = (0..16).map(AtomicU8::new).collect();
    let ptr = NonNull::from(&*bytes).cast();
    // SAFETY: `bytes` outlives the memory, and is reached through shared references of atomics only.
    let block = unsafe { RamBlock::from_raw("theirs", ptr, bytes.len()) }.unwrap();
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::ram("theirs", block));
    memory.memory_space().reader().store::<Be, u32>(4, 0xa0a1_a2a3).unwrap();
    let now: Vec<u8> = bytes.iter().map(|b| b.load(Ordering::Relaxed)).collect();
    assert_eq!(now[3..9], [3, 0xa0, 0xa1, 0xa2, 0xa3, 8]);
    drop(memory);
}

#[test]
fn an_alias_shows_a_window_and_no_children_of_its_own() {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("ram", block(0x1000))).unwrap();
    let alias = map(&memory, 0x8000, Region::alias("alias", ram, 0x400, 0x200));
    let child = memory.add(Region::reservation("child of alias", 0x10)).unwrap();
    memory.map(alias, 0, child).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0x8000, 0x81ff, "ram", 0x400)]);
    let info = memory.region(alias).unwrap();
    assert_eq!((info.alias, info.terminates), (Some((ram, 0x400)), false));
    assert_eq!(memory.children(alias).unwrap(), [child], "though it is listed");
}

#[test]
fn an_alias_of_an_alias_adds_the_offsets() {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("ram", block(0x10000))).unwrap();
    let one = memory.add(Region::alias("one", ram, 0x1000, 0x4000)).unwrap();
    let two = memory.add(Region::alias("two", one, 0x200, 0x8000)).unwrap();
    map(&memory, 0x10_0000, Region::alias("three", two, 0x30, 0x8000));
    // One shows offsets up to 0x5000 of the RAM; the others are larger and do not add to it.
    assert_eq!(flat(&memory.memory_space()), [r(0x10_0000, 0x10_3dcf, "ram", 0x1230)]);
}

#[test]
fn an_alias_of_a_disabled_region_shows_nothing() {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("ram", block(0x1000)).enabled(false)).unwrap();
    map(&memory, 0, Region::alias("alias", ram, 0, 0x1000));
    assert!(flat(&memory.memory_space()).is_empty());
    memory.update(|t| t.set_enabled(ram, true)).unwrap();
    assert_eq!(flat(&memory.memory_space()).len(), 1);
}

#[test]
fn an_alias_past_the_end_of_its_target_leaves_a_hole() {
    let memory = Memory::new(Endianness::Little);
    map(&memory, 0, Region::reservation("behind", 0x1_0000));
    let ram = memory.add(Region::ram("ram", block(0x1000))).unwrap();
    let alias = memory.add(Region::alias("alias", ram, 0x800, 0x4000)).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x4000, alias, 1)).unwrap();
    assert_eq!(
        flat(&memory.memory_space()),
        [r(0, 0x3fff, "behind", 0), r(0x4000, 0x47ff, "ram", 0x800), r(0x4800, 0xffff, "behind", 0x4800)]
    );
    memory.update(|t| t.set_alias_offset(alias, 0x1000)).unwrap();
    assert_eq!(flat(&memory.memory_space()), [r(0, 0xffff, "behind", 0)]);
}

#[test]
fn a_sketch_has_a_type_and_rejects_everything() {
    let memory = Memory::new(Endianness::Little);
    let id = map(&memory, 0, Region::sketch("captured", 0x1000, RegionType::Ramd));
    assert_eq!(memory.region(id).unwrap().kind, RegionType::Ramd);
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u8>(0).unwrap_err().reason(), Reason::Rejected);
    assert_eq!(reader.store::<Le, u8>(0, 0).unwrap_err().reason(), Reason::Rejected);
    assert!(reader.peek(0, &mut [0]).is_err());
}
