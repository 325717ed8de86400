//! What `vm-memory` promises of memory, regions, slices and bitmaps, checked on ours.
//!
//! Its own generic helpers (`bytes::tests`, `bitmap::tests`, `region::tests`) are compiled for its own tests only. The checks here
//! are written from its documentation, generic as they are, and run on two memories: its own `GuestMemoryMmap`, so
//! that they are known to ask what it promises, and ours. A random test then does the same to both and compares.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail loudly")]

use std::fmt::Debug;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use flatview::{DirtyClient, Endianness, Memory, RamBlock, RamView, Region};
use vm_memory::bitmap::{AtomicBitmap, Bitmap, BitmapSlice};
use vm_memory::{
    AtomicAccess, ByteValued, Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryAtomic,
    GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress,
    Permissions,
};

const PAGE: u64 = 4096;
/// Two runs end to end, a hole of a page, a third run that does not end with a page.
const RUNS: [(u64, usize); 3] = [(0x1_0000, 0x4000), (0x1_4000, 0x4000), (0x1_9000, 0x3456)];
const HOLE: u64 = 0x1_8000;
const END: u64 = 0x1_9000 + 0x3456;

type Theirs = GuestMemoryMmap<AtomicBitmap>;

fn theirs() -> Theirs {
    Theirs::from_ranges(&RUNS.map(|(start, len)| (GuestAddress(start), len))).unwrap()
}

/// The same, clean for MIGRATION, in blocks of their own.
fn ours() -> Arc<RamView> {
    let memory = Memory::new(Endianness::Little);
    for (start, len) in RUNS {
        let block = RamBlock::anonymous("ram", len as u64).unwrap();
        let ram = memory.add(Region::ram("ram", block)).unwrap();
        memory.map(memory.system(), start, ram).unwrap();
        memory.set_log(ram, DirtyClient::MIGRATION, true).unwrap();
        memory.reset_dirty(ram, 0, len as u64, DirtyClient::MIGRATION).unwrap();
    }
    memory.memory_space().ram_view()
}

fn at(addr: u64) -> GuestAddress {
    GuestAddress(addr)
}

/// The pages that are dirty, by address.
fn dirty<M: GuestMemoryBackend>(memory: &M) -> Vec<u64> {
    let mut pages = Vec::new();
    for region in memory.iter() {
        let offsets = (0..region.len()).step_by(PAGE as usize);
        let dirty = offsets.filter(|offset| region.bitmap().dirty_at(*offset as usize));
        pages.extend(dirty.map(|offset| region.start_addr().0 + offset));
    }
    pages
}

/// `Bytes`: what is written is read, by whichever of its methods, and ends where the memory ends.
fn bytes_contract<A: Copy, B: Bytes<A, E: Debug>>(bytes: &B, at: impl Fn(u64) -> A, room: u64) {
    let data: Vec<u8> = (0..=255).collect();
    let mut out = [0; 256];
    assert_eq!(bytes.write(&data, at(16)).unwrap(), 256);
    assert_eq!(bytes.read(&mut out, at(16)).unwrap(), 256);
    assert_eq!(out[..], data);
    bytes.write_slice(&data[..7], at(3)).unwrap();
    bytes.read_slice(&mut out[..7], at(3)).unwrap();
    assert_eq!(out[..7], data[..7]);
    for offset in 0..9 {
        bytes.write_obj(0x0102_0304_0506_0708_u64, at(offset)).unwrap();
        assert_eq!(bytes.read_obj::<u64>(at(offset)).unwrap(), 0x0102_0304_0506_0708, "at any alignment");
        bytes.write_obj([1_u8, 2, 3], at(offset)).unwrap();
        assert_eq!(bytes.read_obj::<[u8; 3]>(at(offset)).unwrap(), [1, 2, 3]);
    }

    // Nothing is an empty success wherever there is memory.
    assert_eq!(bytes.write(&[], at(0)).unwrap(), 0);
    assert_eq!(bytes.read(&mut [], at(room - 1)).unwrap(), 0);
    // At the end: as much as fits, or an error where all is asked for.
    assert_eq!(bytes.write(&[9; 8], at(room - 3)).unwrap(), 3);
    assert_eq!(bytes.read(&mut out[..8], at(room - 3)).unwrap(), 3);
    assert!(bytes.write_slice(&[9; 8], at(room - 3)).is_err());
    assert!(bytes.read_slice(&mut out[..8], at(room - 3)).is_err());
    assert!(bytes.write_obj(1_u64, at(room - 3)).is_err());
    assert!(bytes.read_obj::<u64>(at(room - 3)).is_err());
    assert!(bytes.write(&[1], at(room)).is_err());
    assert!(bytes.read(&mut out[..1], at(room)).is_err());

    // From and to something that is read and written.
    let mut from = Cursor::new(data.clone());
    assert_eq!(bytes.read_volatile_from(at(32), &mut from, 100).unwrap(), 100);
    bytes.read_exact_volatile_from(at(132), &mut from, 100).unwrap();
    assert!(bytes.read_exact_volatile_from(at(512), &mut from, 100).is_err(), "56 bytes are left");
    let mut to = Vec::new();
    assert_eq!(bytes.write_volatile_to(at(32), &mut to, 100).unwrap(), 100);
    bytes.write_all_volatile_to(at(132), &mut to, 100).unwrap();
    assert_eq!(to, data[..200]);
    assert!(bytes.write_all_volatile_to(at(room - 3), &mut Vec::new(), 8).is_err());
}

/// `load` and `store`: naturally aligned values of all sizes, at any order that the operation may have; misaligned ones and
/// ones that are not all there are errors.
fn atomic_contract<A: Copy, B: Bytes<A, E: Debug>>(bytes: &B, at: impl Fn(u64) -> A, room: u64) {
    fn one<A: Copy, B: Bytes<A, E: Debug>, V>(bytes: &B, at: &impl Fn(u64) -> A, room: u64, value: V)
    where
        V: AtomicAccess + PartialEq + Debug,
    {
        let size = size_of::<V>() as u64;
        for order in [Ordering::Relaxed, Ordering::Release, Ordering::SeqCst] {
            bytes.store(value, at(size * 4), order).unwrap();
        }
        for order in [Ordering::Relaxed, Ordering::Acquire, Ordering::SeqCst] {
            assert_eq!(bytes.load::<V>(at(size * 4), order).unwrap(), value);
        }
        assert_eq!(bytes.read_obj::<V>(at(size * 4)).unwrap(), value, "in host order");
        if size > 1 {
            assert!(bytes.store(value, at(size * 4 + 1), Ordering::Relaxed).is_err());
            assert!(bytes.load::<V>(at(size * 4 + 1), Ordering::Relaxed).is_err());
        }
        assert!(bytes.load::<V>(at(room), Ordering::Relaxed).is_err());
        assert!(bytes.store(value, at(room), Ordering::Relaxed).is_err());
    }
    one(bytes, &at, room, 0xa5_u8);
    one(bytes, &at, room, -5_i8);
    one(bytes, &at, room, 0xa5a6_u16);
    one(bytes, &at, room, -500_i16);
    one(bytes, &at, room, 0xa5a6_a7a8_u32);
    one(bytes, &at, room, i32::MIN);
    one(bytes, &at, room, 0xa5a6_a7a8_a9aa_abac_u64);
    one(bytes, &at, room, i64::MIN);
    one(bytes, &at, room, usize::MAX);
    one(bytes, &at, room, isize::MIN);
}

/// `Bitmap`: a range that is marked is dirty, in the bitmap and in slices of it; what was not marked is not.
fn bitmap_contract<B: Bitmap>(bitmap: &B) {
    let page = PAGE as usize;
    let slice = bitmap.slice_at(page + 100);
    assert!((0..4 * page).step_by(64).all(|offset| !bitmap.dirty_at(offset)));
    bitmap.mark_dirty(page + 100, 8);
    assert!((100..108).all(|offset| bitmap.dirty_at(page + offset)));
    assert!((0..8).all(|offset| slice.dirty_at(offset)));
    assert!(!bitmap.dirty_at(page - 1) && !bitmap.dirty_at(2 * page));
    fn of_slice<S: BitmapSlice>(slice: &S, page: usize) {
        slice.clone().mark_dirty(page, 1);
        assert!(slice.dirty_at(page) && !slice.dirty_at(2 * page));
    }
    of_slice(&slice, page);
    assert!(bitmap.dirty_at(2 * page) && bitmap.slice_at(2 * page).dirty_at(5));
    bitmap.mark_dirty(3 * page, 0);
    assert!(!bitmap.dirty_at(3 * page), "nothing was written");
}

/// Addresses: what is in a region, in none, and how they are turned into each other.
fn layout_contract<M: GuestMemoryBackend>(memory: &M) {
    assert_eq!(memory.num_regions(), 3);
    assert_eq!(memory.iter().map(|r| (r.start_addr().0, r.len() as usize)).collect::<Vec<_>>(), RUNS);
    assert_eq!(GuestMemoryBackend::last_addr(memory), at(END - 1));
    for (start, len) in RUNS {
        let last = start + len as u64 - 1;
        for addr in [start, start + 1, last] {
            let region = memory.find_region(at(addr)).unwrap();
            assert_eq!((region.start_addr(), region.last_addr()), (at(start), at(last)));
            let (found, offset) = memory.to_region_addr(at(addr)).unwrap();
            assert_eq!((found.start_addr().0, offset.0), (start, addr - start));
            assert_eq!(region.to_region_addr(at(addr)), Some(offset));
            assert_eq!(region.check_address(offset), Some(offset));
            assert_eq!(memory.check_address(at(addr)), Some(at(addr)));
            let host = memory.get_host_address(at(addr)).unwrap();
            assert_eq!(host, region.get_host_address(offset).unwrap());
            assert_eq!(memory.get_slice(at(addr), 1).unwrap().ptr_guard().as_ptr(), host.cast_const());
        }
        let region = memory.find_region(at(start)).unwrap();
        assert_eq!(region.checked_offset(MemoryRegionAddress(0), len), None);
        assert_eq!(region.as_volatile_slice().unwrap().len(), len);
        assert!(region.get_slice(MemoryRegionAddress(1), len).is_err());
        assert!(!region.address_in_range(MemoryRegionAddress(len as u64)));
    }
    for addr in [0, RUNS[0].0 - 1, HOLE, HOLE + PAGE - 1, END, u64::MAX] {
        assert!(memory.find_region(at(addr)).is_none() && memory.check_address(at(addr)).is_none());
        assert!(memory.to_region_addr(at(addr)).is_none());
        let refused = memory.get_host_address(at(addr));
        assert!(matches!(refused, Err(GuestMemoryError::InvalidGuestAddress(a)) if a.0 == addr));
    }
    assert!(GuestMemoryBackend::check_range(memory, at(RUNS[0].0), 0x8000), "over a seam");
    assert!(!GuestMemoryBackend::check_range(memory, at(RUNS[0].0), 0x8001), "into a hole");
    assert!(GuestMemoryBackend::check_range(memory, at(HOLE), 0), "nothing is everywhere");
    assert_eq!(memory.checked_offset(at(RUNS[0].0), 0x4000), Some(at(RUNS[1].0)));
    assert_eq!(memory.checked_offset(at(u64::MAX), 1), None);
    assert!(memory.get_slice(at(RUNS[0].0 + 0x3fff), 2).is_err(), "one slice is in one region");

    // Slices cover a range in order, up to the first hole.
    let lengths = |addr, count| -> Vec<Result<usize, ()>> {
        memory.get_slices(at(addr), count).map(|s| s.map(|s| s.len()).map_err(|_| ())).collect()
    };
    assert_eq!(lengths(RUNS[0].0 + 0x3ff0, 0x30), [Ok(0x10), Ok(0x20)]);
    assert_eq!(lengths(RUNS[1].0 + 0x3ff0, 0x1020), [Ok(0x10), Err(())]);
    assert_eq!(lengths(HOLE, 1), [Err(())]);
    assert!(lengths(HOLE, 0).is_empty());
    let physical = GuestMemory::physical_memory(memory).unwrap();
    assert!(GuestMemory::check_range(memory, at(RUNS[0].0), 0x8000, Permissions::ReadWrite));
    assert_eq!(physical.num_regions(), 3);
}

fn all_contracts<M: GuestMemoryBackend>(make: impl Fn() -> M) {
    let memory = make();
    layout_contract(&memory);
    let (start, len) = RUNS[2];
    bytes_contract(&memory, |offset| at(start + offset), len as u64);
    atomic_contract(&memory, |offset| at(start + offset), len as u64);
    // Two runs end to end are one, but for atomics.
    bytes_contract(&memory, |offset| at(RUNS[0].0 + 0x3f80 + offset), 0x4080);
    assert!(memory.load::<u16>(at(RUNS[1].0 - 1), Ordering::Relaxed).is_err());
    let memory = make();
    for (region, (_, len)) in memory.iter().zip(RUNS) {
        bytes_contract(region, MemoryRegionAddress, len as u64);
        atomic_contract(region, MemoryRegionAddress, len as u64);
        let slice = region.get_slice(MemoryRegionAddress(8), len - 8).unwrap();
        bytes_contract(&slice, |offset| offset as usize, len as u64 - 8);
        atomic_contract(&slice, |offset| offset as usize, len as u64 - 8);
    }
    let memory = make();
    assert_eq!(dirty(&memory), [0_u64; 0]);
    bitmap_contract(&memory.iter().next().unwrap().bitmap());
    assert_eq!(dirty(&memory), [RUNS[0].0 + PAGE, RUNS[0].0 + 2 * PAGE]);
}

#[test]
fn memory_of_vm_memory_keeps_the_contracts_as_they_are_written_here() {
    all_contracts(theirs);
}

#[test]
fn our_memory_keeps_them_too() {
    all_contracts(|| ours().with_dirty_client(DirtyClient::MIGRATION));
}

#[test]
fn a_view_goes_where_generic_code_wants_an_address_space() {
    fn word<S: GuestAddressSpace>(space: &S) -> u32 {
        space.clone().memory().read_obj(at(RUNS[0].0)).unwrap()
    }
    let view = ours();
    view.write_obj(77_u32, at(RUNS[0].0)).unwrap();
    assert_eq!(word(&&*view), 77);
    assert_eq!(word(&view), 77);
    assert_eq!(word(&GuestMemoryAtomic::from(view)), 77);
}

/// What came of an operation, as far as it can be compared.
fn outcome<T: Debug>(result: Result<T, GuestMemoryError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(e) => e.to_string(),
    }
}

fn operate<M: GuestMemoryBackend>(memory: &M, rng: &mut fastrand::Rng) -> String {
    fn object<M: GuestMemoryBackend, V: ByteValued + Debug>(
        memory: &M,
        addr: u64,
        value: V,
        write: bool,
    ) -> String {
        if write {
            outcome(memory.write_obj(value, at(addr)))
        } else {
            outcome(memory.read_obj::<V>(at(addr)))
        }
    }
    fn atomic<M: GuestMemoryBackend, V: AtomicAccess + Debug>(
        memory: &M,
        addr: u64,
        value: V,
        write: bool,
    ) -> String {
        let order = Ordering::Relaxed;
        if write {
            outcome(memory.store(value, at(addr), order))
        } else {
            outcome(memory.load::<V>(at(addr), order))
        }
    }
    let edges = [RUNS[0].0, RUNS[1].0, HOLE, RUNS[2].0, END];
    let addr = match rng.u8(..4) {
        0 => rng.u64(RUNS[0].0 - 32..END + 32),
        _ => edges[rng.usize(..edges.len())].wrapping_add(rng.u64(..48)).wrapping_sub(24),
    };
    let (len, write, value) = (rng.usize(..40), rng.bool(), rng.u64(..));
    let long = if rng.u8(..8) == 0 { rng.usize(..0x6000) } else { len };
    let data: Vec<u8> = (0..long).map(|i| (i as u64).wrapping_mul(value) as u8).collect();
    let mut out = vec![0; long];
    match rng.u8(..12) {
        0 => outcome(memory.write(&data, at(addr))),
        1 => outcome(memory.read(&mut out, at(addr))) + &format!("{out:?}"),
        2 => outcome(memory.write_slice(&data, at(addr))),
        3 => outcome(memory.read_slice(&mut out, at(addr))) + &format!("{out:?}"),
        4 => object(memory, addr, value, write),
        5 => object(memory, addr, value as u16, write),
        6 => atomic(memory, addr, value, write),
        7 => atomic(memory, addr, value as u16, write),
        8 => atomic(memory, addr, value as u8, write),
        9 => outcome(memory.read_volatile_from(at(addr), &mut Cursor::new(data), len)),
        10 => {
            let mut to = Vec::new();
            outcome(memory.write_volatile_to(at(addr), &mut to, long)) + &format!("{to:?}")
        }
        _ => {
            let slice = memory.get_slice(at(addr), len);
            outcome(slice.map(|slice| {
                if write {
                    slice.copy_from(&data);
                }
                (slice.len(), slice.copy_to(&mut out))
            }))
        }
    }
}

#[test]
fn random_operations_have_the_same_outcome_bytes_and_dirty_pages_in_both() {
    for seed in 0..20 {
        let (theirs, ours) = (theirs(), ours());
        for step in 0..2_000 {
            let seed = seed * 1_000_000 + step;
            let did = operate(&theirs, &mut fastrand::Rng::with_seed(seed));
            assert_eq!(operate(&*ours, &mut fastrand::Rng::with_seed(seed)), did, "seed {seed}");
            if step.is_multiple_of(100) || step < 40 {
                assert_eq!(dirty(&*ours), dirty(&theirs), "seed {seed}");
            }
        }
        for (start, len) in RUNS {
            let (mut a, mut b) = (vec![0; len], vec![0; len]);
            theirs.read_slice(&mut a, at(start)).unwrap();
            ours.read_slice(&mut b, at(start)).unwrap();
            assert!(a == b, "seed {seed}: the run at {start:#x}");
        }
    }
}
