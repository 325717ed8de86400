//! What a reader keeps of the ranges it hit is what the newest map has there.
//!
//! A reader that lives as long as its space loads and stores at the same few places over and over while the map changes at random (any kind of
//! change, of `incremental.rs`'s maps); each value, or refusal, and what devices are told, must be what a new reader gets through a port,
//! which keeps nothing. Some readers look after each change, some after many, so that more changes pass than are noted for them.
//! After them, one by one, what random maps hardly do.
//!
//! 100,000 changes; `FLATVIEW_TREES=n` sets the number of maps instead.
#![expect(clippy::indexing_slicing, clippy::expect_used, clippy::panic, reason = "tests fail loudly")]

#[expect(dead_code, reason = "the rest is for the other tests with random maps")]
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use flatview::{
    AccessRules, AddressSpace, Be, DeviceEndian, Endianness, Le, MemTxAttrs, MemTxError, Memory, MemoryError,
    Ops, Port, RamBlock, Reader, Region, RegionId, SpaceId, WHOLE,
};
use support::model::Sort;
use support::seeds::{Tally, try_seeds};
use support::world::{Leaves, Stop, World, budget};

const BLOCK_SIZE: u64 = 64 << 10;

/// The one RAM block of all maps, in which no two words are equal.
fn block() -> &'static Arc<RamBlock> {
    static BLOCK: OnceLock<Arc<RamBlock>> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let block = RamBlock::anonymous("block", BLOCK_SIZE).expect("64 KiB");
        let bytes: Vec<u8> = (0..BLOCK_SIZE).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        block.write(0, &bytes).expect("its bytes");
        block
    })
}

/// What was written to a device: which, where, how large, what.
type Written = (u64, u64, u32, u64);

thread_local! {
    static WRITTEN: RefCell<Vec<Written>> = const { RefCell::new(Vec::new()) };
}

const ANY_SIZE: AccessRules = AccessRules::new().valid(1, 8).implemented(1, 8);

/// Some that take what they get as it is, and some that do not.
fn rules(id: u64) -> AccessRules {
    let rules = AccessRules::new();
    let sizes = match id % 5 {
        0 => rules.valid(1, 4).implemented(4, 4),
        1 => rules.valid(2, 8).implemented(1, 2),
        _ => ANY_SIZE,
    };
    sizes.endian(if id.is_multiple_of(3) { DeviceEndian::Big } else { DeviceEndian::Little })
}

/// A device that tells who it is, where and how it is read, and what is written to it.
fn device(name: impl Into<String>, size: u128, id: u64, rules: AccessRules) -> Region {
    let answer = move |offset: u64| id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ offset;
    let written = move |offset, size, value| WRITTEN.with_borrow_mut(|w| w.push((id, offset, size, value)));
    let ops = Ops::new().rules(rules).read(move |access| Ok(answer(access.offset()))).write(
        move |access, value| {
            written(access.offset(), access.size(), value);
            Ok(())
        },
    );
    Region::io(name, size, ops)
}

/// Devices, RAM and ROM devices.
struct Mixed(u64);

impl Leaves for Mixed {
    fn leaf(&mut self, rng: &mut fastrand::Rng, name: String, size: u128) -> (Region, Sort, u128) {
        let room = u128::from(BLOCK_SIZE);
        self.0 += 1;
        match if size > room { 0 } else { rng.u32(..4) } {
            0 | 1 => (device(name, size, self.0, rules(self.0)), Sort::Leaf, WHOLE),
            2 => (Region::ram(name, Arc::clone(block())).size(size), Sort::Leaf, room),
            _ => {
                let region = Region::rom_device(name, Arc::clone(block()), Ops::new()).size(size);
                (region, Sort::RomDevice, room)
            }
        }
    }

    fn added(&mut self, _: RegionId) {}
}

/// A load of one of four sizes in one of two orders.
fn load(reader: &Reader, addr: u64, how: usize) -> Result<u64, MemTxError> {
    match how % 8 {
        0 => reader.load::<Le, u8>(addr).map(u64::from),
        1 => reader.load::<Le, u16>(addr).map(u64::from),
        2 => reader.load::<Le, u32>(addr).map(u64::from),
        3 => reader.load::<Le, u64>(addr),
        4 => reader.load::<Be, u8>(addr).map(u64::from),
        5 => reader.load::<Be, u16>(addr).map(u64::from),
        6 => reader.load::<Be, u32>(addr).map(u64::from),
        _ => reader.load::<Be, u64>(addr),
    }
}

/// A store of the same, with what it wrote to devices.
fn store(reader: &Reader, addr: u64, how: usize, value: u64) -> (Result<(), MemTxError>, Vec<Written>) {
    let done = match how % 8 {
        0 => reader.store::<Le, u8>(addr, value as u8),
        1 => reader.store::<Le, u16>(addr, value as u16),
        2 => reader.store::<Le, u32>(addr, value as u32),
        3 => reader.store::<Le, u64>(addr, value),
        4 => reader.store::<Be, u8>(addr, value as u8),
        5 => reader.store::<Be, u16>(addr, value as u16),
        6 => reader.store::<Be, u32>(addr, value as u32),
        _ => reader.store::<Be, u64>(addr, value),
    };
    (done, WRITTEN.take())
}

#[derive(Default)]
struct Done {
    changes: u64,
    loads: u64,
    stores: u64,
    good: u64,
    parked: u64,
}

impl Tally for Done {
    fn add(&mut self, o: Self) {
        self.changes += o.changes;
        self.loads += o.loads;
        self.stores += o.stores;
        self.good += o.good;
        self.parked += o.parked;
    }
}

/// The load through a port.
fn plain_load(port: Port<'_>, addr: u64, how: usize) -> Result<u64, MemTxError> {
    match how % 8 {
        0 => port.load::<Le, u8>(addr).map(u64::from),
        1 => port.load::<Le, u16>(addr).map(u64::from),
        2 => port.load::<Le, u32>(addr).map(u64::from),
        3 => port.load::<Le, u64>(addr),
        4 => port.load::<Be, u8>(addr).map(u64::from),
        5 => port.load::<Be, u16>(addr).map(u64::from),
        6 => port.load::<Be, u32>(addr).map(u64::from),
        _ => port.load::<Be, u64>(addr),
    }
}

/// The store through a port.
fn plain_store(port: Port<'_>, addr: u64, how: usize, value: u64) -> (Result<(), MemTxError>, Vec<Written>) {
    let done = match how % 8 {
        0 => port.store::<Le, u8>(addr, value as u8),
        1 => port.store::<Le, u16>(addr, value as u16),
        2 => port.store::<Le, u32>(addr, value as u32),
        3 => port.store::<Le, u64>(addr, value),
        4 => port.store::<Be, u8>(addr, value as u8),
        5 => port.store::<Be, u16>(addr, value as u16),
        6 => port.store::<Be, u32>(addr, value as u32),
        _ => port.store::<Be, u64>(addr, value),
    };
    (done, WRITTEN.take())
}

/// A reader that stays, and how seldom it looks.
struct Lasting {
    space: AddressSpace,
    reader: Reader,
    every: u64,
}

/// Compares what the reader sees of the places with what a new one sees.
fn look(lasting: &Lasting, places: &[u64], done: &mut Done) {
    let fresh = lasting.space.reader();
    // Each several times: what is kept is found again.
    for round in 0..3 {
        for (i, addr) in places.iter().enumerate() {
            let port = fresh.port(MemTxAttrs::UNSPECIFIED);
            let (how, want) = (i + round, plain_load(port, *addr, i + round));
            assert_eq!(load(&lasting.reader, *addr, how), want, "at {addr:#x} in round {round}");
            // What is there, so that memory keeps it.
            let value = want.unwrap_or(0x1234_5678_9abc_def0);
            let wanted = plain_store(port, *addr, how, value);
            assert_eq!(
                store(&lasting.reader, *addr, how, value),
                wanted,
                "store at {addr:#x} in round {round}"
            );
            done.stores += wanted.1.len() as u64;
            done.loads += 1;
            done.good += u64::from(want.is_ok());
        }
    }
}

const CHANGES: u64 = 300;

fn one_map(seed: u64, verbose: bool) -> Done {
    let mut done = Done::default();
    let mut world = World::new(seed, verbose, Mixed(0), Endianness::Little);
    let furnish = |world: &mut World<Mixed>| {
        let before = world.model.clone();
        let memory = world.memory.clone();
        let result = memory.update(|t| {
            for _ in 0..20 {
                let (at, into, addr) = (world.fresh(t), world.any_of(Sort::Container), world.addr());
                world.map(t, into, addr, at);
            }
            Ok(())
        });
        if let Err(error) = &result {
            let error: &MemoryError = error;
            assert!(budget(error), "{error}");
            world.model = before;
        }
    };
    furnish(&mut world);
    let places: Vec<u64> = (0..40).map(|_| world.addr()).flat_map(|a| [a, a & !7]).collect();
    let mut readers: BTreeMap<SpaceId, Vec<Lasting>> = BTreeMap::new();
    for change in 0..CHANGES {
        if world.rng.u32(..64) == 0 {
            world.change_spaces();
        }
        if change % 50 == 49 {
            furnish(&mut world);
        }
        let before = world.model.clone();
        let memory = world.memory.clone();
        match memory.update(|t| Ok(world.change(t))) {
            Ok(_) => {}
            Err(Stop::Wanted) => panic!("nobody gave up"),
            Err(Stop::Memory(error)) => {
                assert!(budget(&error), "{error}");
                world.model = before;
            }
        }
        done.changes += 1;
        let there: Vec<AddressSpace> = world.spaces.iter().map(|s| s.space.clone()).collect();
        readers.retain(|id, _| there.iter().any(|s| s.id() == *id));
        for space in there {
            let lasting = readers.entry(space.id()).or_insert_with(|| {
                let lasting = |every| Lasting { space: space.clone(), reader: space.reader(), every };
                [1, 7, 90].map(lasting).into()
            });
            for one in lasting {
                if change % one.every == 0 {
                    look(one, &places, &mut done);
                    if world.rng.u32(..50) == 0 {
                        one.reader.park();
                        done.parked += 1;
                    }
                }
            }
        }
    }
    done
}

#[test]
fn readers_that_stay_see_what_new_readers_see_over_100_000_changes() {
    let name = "readers_that_stay_see_what_new_readers_see_over_100_000_changes";
    let (maps, done, enough) = try_seeds("known", name, 100_000 / CHANGES + 1, one_map);
    println!(
        "{maps} maps: {} changes, {} loads, {} of them good, as many stores, with {} calls of devices, {} parked",
        done.changes, done.loads, done.good, done.stores, done.parked
    );
    if !enough {
        return;
    }
    assert!(done.loads > 100 * done.changes && done.good > done.loads / 5 && done.parked > 0);
    assert!(done.stores > done.loads / 20);
}

/// Devices of 32 bytes side by side.
fn devices(memory: &Memory, count: u64) -> Vec<RegionId> {
    let add = |i| {
        let id = memory.add(device(format!("device-{i}"), 32, i, ANY_SIZE)).expect("a device");
        memory.map(memory.system(), i * 32, id).expect("its place");
        id
    };
    (0..count).map(add).collect()
}

/// Shows or hides a region.
fn set(memory: &Memory, id: RegionId, enabled: bool) -> Result<(), MemoryError> {
    memory.update(|t| t.set_enabled(id, enabled))
}

/// What the device there answers.
fn answer(i: u64) -> Result<u32, MemTxError> {
    Ok((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 8) as u32)
}

#[test]
fn a_reader_that_missed_any_number_of_changes_sees_all_of_them() {
    let memory = Memory::new(Endianness::Little);
    let ids = devices(&memory, 400);
    let reader = memory.memory_space().reader();
    let see = |reader: &Reader, off: &dyn Fn(u64) -> bool| {
        for round in 0..3 {
            for i in 0..400 {
                let have = reader.load::<Le, u32>(i * 32 + 8);
                assert_eq!(have.is_err(), off(i), "device {i} in round {round}");
                if !off(i) {
                    assert_eq!(have, answer(i));
                }
            }
        }
    };
    see(&reader, &|_| false);
    for missed in [1_u64, 2, 62, 63, 64, 65, 127, 128, 129, 200] {
        for i in 0..missed {
            set(&memory, ids[i as usize], false).expect("off");
        }
        see(&reader, &|i| i < missed);
        for i in 0..missed {
            set(&memory, ids[i as usize], true).expect("on");
        }
        see(&reader, &|_| false);
    }
}

#[test]
fn what_is_put_over_a_part_of_what_is_known_is_seen() {
    let memory = Memory::new(Endianness::Little);
    let large = memory.add(device("large", 1 << 20, 1, ANY_SIZE)).expect("a device");
    memory.map(memory.system(), 0, large).expect("its place");
    let cover = memory.add(device("cover", 0x40, 2, ANY_SIZE)).expect("a device");
    memory.update(|t| t.map_overlap(memory.system(), 0x3_0010, cover, 1)).expect("its place");
    set(&memory, cover, false).expect("off");
    let reader = memory.memory_space().reader();
    let who = |addr: u64| {
        let value = reader.load::<Le, u64>(addr).expect("somebody answers");
        if value == 0x9e37_79b9_7f4a_7c15 ^ addr { 1 } else { 2 }
    };
    for enabled in [false, true, false, true, true, false] {
        set(&memory, cover, enabled).expect("on or off");
        for addr in (0x2_f000..0x3_1000).step_by(8) {
            let covered = enabled && (0x3_0010..0x3_0050).contains(&addr);
            assert_eq!(who(addr), if covered { 2 } else { 1 }, "{addr:#x}");
        }
    }
}

#[test]
fn more_devices_than_are_kept_are_all_found() {
    let memory = Memory::new(Endianness::Little);
    let ids = devices(&memory, 12_000);
    let reader = memory.memory_space().reader();
    for (round, id) in ids.into_iter().take(30).enumerate() {
        for i in 0..12_000 {
            assert_eq!(reader.load::<Le, u32>(i * 32 + 8), answer(i), "device {i} in round {round}");
        }
        set(&memory, id, false).expect("off");
        assert!(reader.load::<Le, u32>(round as u64 * 32 + 8).is_err());
        set(&memory, id, true).expect("on");
    }
}

thread_local! {
    static OWN: RefCell<Option<Reader>> = const { RefCell::new(None) };
}

#[test]
fn a_callback_that_uses_the_reader_it_is_called_by_and_changes_the_map_finishes_undisturbed() {
    let memory = Memory::new(Endianness::Little);
    let ids = devices(&memory, 64);
    let count = Arc::new(AtomicU64::new(0));
    let inner = memory.downgrade();
    let toggled = ids.clone();
    let off: [AtomicBool; 64] = std::array::from_fn(|_| AtomicBool::new(false));
    let seen = Arc::clone(&count);
    let nosy = Ops::new().rules(ANY_SIZE).read(move |access| {
        let n = seen.fetch_add(1, Ordering::Relaxed);
        let memory = inner.upgrade().expect("the memory");
        let (at, on) = ((n % 64) as usize, n % 128 < 64);
        set(&memory, toggled[at], on).expect("on or off");
        off[at].store(!on, Ordering::Relaxed);
        OWN.with_borrow(|own| {
            let own = own.as_ref().expect("the reader");
            for i in 0..64 {
                let is_off = off[i as usize].load(Ordering::Relaxed);
                assert_eq!(own.load::<Le, u32>(i * 32 + 8).is_err(), is_off, "device {i} at call {n}");
            }
        });
        Ok(access.offset() ^ 0x55)
    });
    let nosy = memory.add(Region::io("nosy", 4096, nosy)).expect("a device");
    memory.map(memory.system(), 1 << 20, nosy).expect("its place");
    OWN.set(Some(memory.memory_space().reader()));
    for call in 0..1000 {
        let value =
            OWN.with_borrow(|own| own.as_ref().expect("the reader").load::<Le, u32>((1 << 20) + 0x10));
        assert_eq!(value, Ok(0x45), "call {call}");
    }
    OWN.set(None);
    assert_eq!(count.load(Ordering::Relaxed), 1000);
}

#[test]
fn a_parked_reader_keeps_no_device() {
    struct Told(Arc<AtomicU64>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let memory = Memory::new(Endianness::Little);
    let dropped = Arc::new(AtomicU64::new(0));
    let told = Told(Arc::clone(&dropped));
    let ops = Ops::new().rules(ANY_SIZE).read(move |_| Ok(told.0.load(Ordering::Relaxed)));
    let id = memory.add(Region::io("told", 4096, ops)).expect("a device");
    memory.map(memory.system(), 0, id).expect("its place");
    let mut reader = memory.memory_space().reader();
    for _ in 0..100 {
        assert_eq!(reader.load::<Le, u32>(8), Ok(0));
    }
    memory
        .update(|t| {
            t.unmap(memory.system(), id)?;
            t.remove(id)
        })
        .expect("it goes");
    assert_eq!(dropped.load(Ordering::Relaxed), 0, "the reader looks at a view that has it");
    reader.park();
    memory.synchronize().expect("nobody holds anything");
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert!(reader.load::<Le, u32>(8).is_err());
}
