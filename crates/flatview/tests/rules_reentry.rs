//! Devices that access memory while they are accessed: the guard against re-entry, nesting, other spaces.
//!
//! | rule | test |
//! |---|---|
//! | a second entry is an access error, counted and logged; a read gives 0 | `a_device_that_comes_back_to_itself_is_refused_counted_and_logged` |
//! | on any region of the device | `any_region_of_the_device_counts` |
//! | also through others (ours: the whole chain) | `another_device_in_between_does_not_hide_the_return` |
//! | the guard outlasts a refusal (QEMU 7.2 clears its flag) | `a_refusal_does_not_open_the_door` |
//! | it is per chain, not per device (ours) | `two_threads_in_one_device_are_no_reentry` |
//! | and ends with the access | `a_device_may_be_accessed_again_after_the_access` |
//! | a region can opt out | `a_region_can_opt_out_of_the_guard` |
//! | only devices are guarded | `regions_without_a_device_are_not_guarded` |
//! | only plain i/o is guarded | `rom_devices_are_not_guarded` |
//! | nesting is bounded | `nesting_ends_at_the_stated_depth` |
//! | also past the chain | `nesting_through_readers_of_its_own_ends_too`, `accepts_that_accesses_its_device_ends` |
//! | the space does not matter | `the_chain_goes_through_all_spaces`, `a_callback_reaches_its_own_space_after_many_others` |
//! | but it must be the same memory's | `a_space_of_another_memory_is_refused` |
//! | `synchronize` would wait for itself | `synchronize_is_refused_wherever_an_access_is_under_way` |
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flatview::*;
use parking_lot::{Condvar, Mutex};

fn map(memory: &Memory, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(memory.system(), at, id).unwrap();
    id
}

/// A space as a device holds it: without keeping the memory that keeps the device.
fn held(space: &AddressSpace) -> impl Fn() -> AddressSpace + Send + Sync + 'static {
    let space = space.downgrade();
    move || space.upgrade().unwrap()
}

/// Callbacks whose reads and writes read four bytes at an address of `memory`'s main space, through the chain.
fn forwarding(memory: &Memory, to: u64) -> Ops {
    let (r, w) = (held(&memory.memory_space()), held(&memory.memory_space()));
    Ops::new()
        .read(move |a| a.port(&r()).load::<Le, u32>(to).map(u64::from))
        .write(move |a, value| a.port(&w()).store::<Le, u32>(to, value as u32))
}

fn reentries(memory: &Memory) -> Arc<Mutex<Vec<String>>> {
    struct Lines(Arc<Mutex<Vec<String>>>);
    impl AccessLog for Lines {
        fn invalid(&self, access: &InvalidAccess<'_>) {
            self.0.lock().push(access.to_string());
        }
        fn reentry(&self, region: &str, offset: u64) {
            self.0
                .lock()
                .push(format!("Blocked re-entrant IO on MemoryRegion: {region} at addr: 0x{offset:X}"));
        }
    }
    let log = Arc::default();
    memory.set_access_log(Lines(Arc::clone(&log)));
    log
}

#[test]
fn a_device_that_comes_back_to_itself_is_refused_counted_and_logged() {
    let memory = Memory::new(Endianness::Little);
    let log = reentries(&memory);
    let owner = Owner::device("/machine/dma");
    let id = map(&memory, 0x1000, Region::io("dma", 0x10, forwarding(&memory, 0x1008)).owner(&owner));
    let reader = memory.memory_space().reader();
    let error = reader.load::<Le, u32>(0x1000).unwrap_err();
    assert_eq!((error.result(), error.reason()), (MemTxResult::ACCESS_ERROR, Reason::Reentry));
    assert_eq!((error.address(), error.region()), (0x1008, Some(id)), "of the inner access");
    assert_eq!(reader.store::<Le, u32>(0x1004, 0).unwrap_err().reason(), Reason::Reentry);
    assert_eq!(memory.blocked_reentries(), 2);
    assert_eq!(*log.lock(), ["Blocked re-entrant IO on MemoryRegion: dma at addr: 0x8"; 2]);
    let mut out = [0xee; 4];
    assert_eq!(reader.read(0x1000, &mut out).unwrap_err().result(), MemTxResult::ACCESS_ERROR);
    assert_eq!(out, [0; 4]);
}

#[test]
fn any_region_of_the_device_counts() {
    let memory = Memory::new(Endianness::Little);
    let (owner, other) = (Owner::device("/machine/a"), Owner::device("/machine/a"));
    map(&memory, 0x1000, Region::io("doorbell", 4, forwarding(&memory, 0x2000)).owner(&owner));
    map(&memory, 0x1100, Region::io("neighbour", 4, forwarding(&memory, 0x2000)).owner(&other));
    map(&memory, 0x2000, Region::io("registers", 4, Ops::new().read(|_| Ok(7))).owner(&owner));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0x1000).unwrap_err().reason(), Reason::Reentry);
    assert_eq!(reader.load::<Le, u32>(0x2000), Ok(7));
    // Another device, though its path reads the same.
    assert_eq!(reader.load::<Le, u32>(0x1100), Ok(7));
}

#[test]
fn another_device_in_between_does_not_hide_the_return() {
    let memory = Memory::new(Endianness::Little);
    let (a, b) = (Owner::device("a"), Owner::device("b"));
    map(&memory, 0x1000, Region::io("a", 4, forwarding(&memory, 0x2000)).owner(&a));
    map(&memory, 0x2000, Region::io("b", 4, forwarding(&memory, 0x3000)).owner(&b));
    map(&memory, 0x3000, Region::io("bridge", 4, forwarding(&memory, 0x1000)));
    let error = memory.memory_space().reader().load::<Le, u32>(0x1000).unwrap_err();
    assert_eq!((error.reason(), error.address()), (Reason::Reentry, 0x1000));
    assert_eq!(memory.blocked_reentries(), 1);
}

#[test]
fn a_refusal_does_not_open_the_door() {
    let memory = Memory::new(Endianness::Little);
    let owner = Owner::device("dma");
    let refused = Arc::new(AtomicU64::new(0));
    let (space, count) = (held(&memory.memory_space()), Arc::clone(&refused));
    let ops = Ops::new().read(move |a| {
        for _ in 0..3 {
            let inner = a.port(&space()).load::<Le, u32>(0x1000);
            count.fetch_add(u64::from(inner.is_err()), Ordering::Relaxed);
        }
        Ok(1)
    });
    map(&memory, 0x1000, Region::io("dma", 4, ops).owner(&owner));
    assert_eq!(memory.memory_space().reader().load::<Le, u32>(0x1000), Ok(1));
    assert_eq!((refused.load(Ordering::Relaxed), memory.blocked_reentries()), (3, 3));
}

#[test]
fn two_threads_in_one_device_are_no_reentry() {
    let memory = Memory::new(Endianness::Little);
    let owner = Owner::device("device");
    // Both must be inside at the same time for either to leave.
    let inside = Arc::new((Mutex::new(0), Condvar::new()));
    let meet = Arc::clone(&inside);
    let ops = Ops::new().read(move |_| {
        let (count, changed) = &*meet;
        let mut count = count.lock();
        *count += 1;
        changed.notify_all();
        while *count < 2 {
            let timeout = changed.wait_for(&mut count, std::time::Duration::from_secs(20));
            if timeout.timed_out() {
                return Err(MemTxError::error());
            }
        }
        Ok(1)
    });
    map(&memory, 0, Region::io("device", 4, ops).owner(&owner));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let reader = memory.memory_space().reader();
            std::thread::spawn(move || reader.load::<Le, u32>(0))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Ok(1));
    }
    assert_eq!(memory.blocked_reentries(), 0);
}

#[test]
fn a_device_may_be_accessed_again_after_the_access() {
    let memory = Memory::new(Endianness::Little);
    let owner = Owner::device("device");
    map(&memory, 0, Region::io("device", 16, forwarding(&memory, 0x100)).owner(&owner));
    map(&memory, 0x100, Region::ram("ram", RamBlock::anonymous("ram", 16).unwrap()));
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0), Ok(0));
    // The pieces of one access are not inside each other.
    let mut out = [1; 16];
    reader.read(0, &mut out).unwrap();
    assert_eq!(out, [0; 16]);
}

#[test]
fn a_region_can_opt_out_of_the_guard() {
    let memory = Memory::new(Endianness::Little);
    let owner = Owner::device("device");
    let open = |to| Region::io("open", 4, forwarding(&memory, to)).owner(&owner).allow_reentry();
    map(&memory, 0x1000, open(0x2000));
    map(&memory, 0x2000, Region::io("guarded", 4, forwarding(&memory, 0x3000)).owner(&owner));
    map(&memory, 0x3000, open(0x4000));
    map(&memory, 0x4000, Region::ram("ram", RamBlock::anonymous("ram", 16).unwrap()));
    let reader = memory.memory_space().reader();
    reader.store::<Le, u32>(0x4000, 5).unwrap();
    // An open region neither is refused nor counts as being inside the device.
    assert_eq!(reader.load::<Le, u32>(0x1000), Ok(5));
    assert_eq!(memory.blocked_reentries(), 0);
}

#[test]
fn regions_without_a_device_are_not_guarded() {
    for owner in [None, Some(Owner::object("/objects/backend"))] {
        let memory = Memory::new(Endianness::Little);
        let owned = |r: Region| if let Some(o) = &owner { r.owner(o) } else { r };
        map(&memory, 0x1000, owned(Region::io("one", 4, forwarding(&memory, 0x2000))));
        map(&memory, 0x2000, owned(Region::io("two", 4, Ops::new().read(|_| Ok(3)))));
        assert_eq!(memory.memory_space().reader().load::<Le, u32>(0x1000), Ok(3));
    }
}

#[test]
fn rom_devices_are_not_guarded() {
    let memory = Memory::new(Endianness::Little);
    let owner = Owner::device("flash");
    let block = || RamBlock::anonymous("flash", 16).unwrap();
    map(&memory, 0x1000, Region::rom_device("one", block(), forwarding(&memory, 0x2000)).owner(&owner));
    map(&memory, 0x2000, Region::rom_device("two", block(), Ops::new().write(|_, _| Ok(()))).owner(&owner));
    assert_eq!(memory.memory_space().reader().store::<Le, u32>(0x1000, 3), Ok(()));
}

#[test]
fn nesting_ends_at_the_stated_depth() {
    let memory = Memory::new(Endianness::Little);
    let log = reentries(&memory);
    let deepest = Arc::new(AtomicU64::new(0));
    let (space, seen) = (held(&memory.memory_space()), Arc::clone(&deepest));
    let ops = Ops::new().read(move |a| {
        seen.fetch_max(u64::from(a.depth()), Ordering::Relaxed);
        a.port(&space()).load::<Le, u32>(0).map(u64::from)
    });
    map(&memory, 0, Region::io("mirror", 4, ops));
    let error = memory.memory_space().reader().load::<Le, u32>(0).unwrap_err();
    assert_eq!((error.result(), error.reason()), (MemTxResult::ACCESS_ERROR, Reason::TooDeep));
    assert_eq!(deepest.load(Ordering::Relaxed), u64::from(Access::MAX_DEPTH) - 1);
    assert_eq!((memory.blocked_reentries(), log.lock().len()), (0, 1));
}

#[test]
fn nesting_through_readers_of_its_own_ends_too() {
    let memory = Memory::new(Endianness::Little);
    let space = held(&memory.memory_space());
    let ops = Ops::new().read(move |_| space().reader().load::<Le, u32>(0).map(u64::from));
    map(&memory, 0, Region::io("mirror", 4, ops));
    let error = memory.memory_space().reader().load::<Le, u32>(0).unwrap_err();
    assert_eq!(error.reason(), Reason::TooDeep);
}

#[test]
fn accepts_that_accesses_its_device_ends() {
    let memory = Memory::new(Endianness::Little);
    let space = held(&memory.memory_space());
    let ops = Ops::new()
        .read(|_| Ok(1))
        .accepts(move |a| a.port(&space()).load::<Le, u32>(0).is_err_and(|e| e.reason() == Reason::TooDeep));
    map(&memory, 0, Region::io("device", 4, ops));
    // The innermost ends, its asker takes the access, the next one therefore not, and so on.
    assert!(memory.memory_space().reader().load::<Le, u32>(0).is_err());
}

#[test]
fn the_chain_goes_through_all_spaces() {
    let memory = Memory::new(Endianness::Little);
    let owner = Owner::device("device");
    let dma_root = memory.add(Region::container("dma", 0x1000)).unwrap();
    let dma = memory.address_space("dma", dma_root).unwrap();
    let inner = held(&dma);
    let bus = Region::io(
        "device",
        4,
        Ops::new().read(move |a| {
            assert_ne!(a.space(), inner().id());
            a.port(&inner()).load::<Le, u32>(0x10).map(u64::from)
        }),
    );
    map(&memory, 0, bus.owner(&owner));
    let dma_id = dma.id();
    let other = Ops::new().read(move |a| {
        assert_eq!((a.space(), a.address(), a.depth()), (dma_id, 0x10, 1));
        Ok(9)
    });
    let other = memory.add(Region::io("in dma", 4, other)).unwrap();
    memory.map(dma_root, 0x10, other).unwrap();
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u32>(0), Ok(9));
    let own = memory.add(Region::io("own", 4, Ops::new().read(|_| Ok(0))).owner(&owner)).unwrap();
    memory.update(|t| t.map_overlap(dma_root, 0x10, own, 1)).unwrap();
    assert_eq!(reader.load::<Le, u32>(0).unwrap_err().reason(), Reason::Reentry);
}

#[test]
fn a_callback_reaches_its_own_space_after_many_others() {
    let memory = Memory::new(Endianness::Little);
    // Seven spaces, each behind the one before: one access goes through all of them.
    let last = memory.add(Region::io("last", 16, Ops::new().read(|a| Ok(a.depth().into())))).unwrap();
    let mut others = vec![memory.address_space("last", last).unwrap()];
    for _ in 1..7 {
        let to = held(others.last().unwrap());
        let ops = Ops::new().read(move |a| a.port(&to()).load::<Le, u32>(0).map(u64::from));
        let root = memory.add(Region::io("bridge", 16, ops)).unwrap();
        others.push(memory.address_space("bridge", root).unwrap());
    }
    let ram = map(&memory, 0x100, Region::ram("ram", RamBlock::anonymous("ram", 16).unwrap()));
    let (handle, others) = (memory.downgrade(), others.iter().map(held).collect::<Vec<_>>());
    let ops = Ops::new().read(move |a| {
        let handle = handle.upgrade().unwrap();
        for (i, space) in (1..).zip(&others) {
            assert_eq!(a.port(&space()).load::<Le, u32>(0), Ok(i));
        }
        // The map moves on while the callback's own space is held at the old one.
        let at = handle.region(ram).unwrap().addr;
        handle.update(|t| t.set_address(ram, at + 0x100)).map_err(|_| MemTxError::error())?;
        let space = handle.memory_space();
        assert!(a.port(&space).load::<Le, u32>(at).is_err());
        a.port(&space).load::<Le, u32>(at + 0x100)?;
        Ok(1)
    });
    map(&memory, 0, Region::io("device", 4, ops));
    let reader = memory.memory_space().reader();
    for _ in 0..10 {
        assert_eq!(reader.load::<Le, u32>(0), Ok(1));
    }
}

#[test]
fn a_space_of_another_memory_is_refused() {
    let (memory, other) = (Memory::new(Endianness::Little), Memory::new(Endianness::Little));
    let ram = |name: &str| Region::ram(name, RamBlock::anonymous(name, 16).unwrap());
    map(&memory, 0x100, ram("ours"));
    map(&other, 0x100, ram("theirs"));
    let theirs = other.memory_space();
    assert_ne!(theirs.id(), memory.memory_space().id());
    let ops = Ops::new().read(move |a| a.port(&theirs).load::<Le, u32>(0x100).map(u64::from));
    map(&memory, 0, Region::io("device", 4, ops));
    let error = memory.memory_space().reader().load::<Le, u32>(0).unwrap_err();
    assert_eq!((error.result(), error.reason()), (MemTxResult::ACCESS_ERROR, Reason::ForeignSpace));
    // A reader of that memory's own works.
    let theirs = other.memory_space();
    let ops = Ops::new().read(move |_| theirs.reader().load::<Le, u32>(0x100).map(u64::from));
    map(&memory, 8, Region::io("device", 4, ops));
    assert_eq!(memory.memory_space().reader().load::<Le, u32>(8), Ok(0));
}

#[test]
fn synchronize_is_refused_wherever_an_access_is_under_way() {
    struct Log(WeakMemory, Arc<Mutex<Vec<&'static str>>>);
    impl AccessLog for Log {
        fn invalid(&self, _: &InvalidAccess<'_>) {
            assert_eq!(self.0.upgrade().unwrap().synchronize(), Err(MemoryError::WouldWaitForItself));
            self.1.lock().push("invalid");
        }
        fn reentry(&self, _: &str, _: u64) {
            assert_eq!(self.0.upgrade().unwrap().synchronize(), Err(MemoryError::WouldWaitForItself));
            self.1.lock().push("reentry");
        }
    }
    let memory = Memory::new(Endianness::Little);
    let asked = Arc::new(Mutex::new(Vec::new()));
    memory.set_access_log(Log(memory.downgrade(), Arc::clone(&asked)));
    let owner = Owner::device("device");
    let tries = || {
        let (memory, asked) = (memory.downgrade(), Arc::clone(&asked));
        move |what| {
            assert_eq!(memory.upgrade().unwrap().synchronize(), Err(MemoryError::WouldWaitForItself));
            asked.lock().push(what);
        }
    };
    let (read, write, accepts, peek) = (tries(), tries(), tries(), tries());
    let space = held(&memory.memory_space());
    let ops = Ops::new()
        .read(move |a| {
            read("read");
            a.port(&space()).load::<Le, u32>(0).map(u64::from)
        })
        .write(move |_, _| {
            write("write");
            Ok(())
        })
        .accepts(move |a| {
            accepts("accepts");
            a.offset() == 0
        })
        .peek(move |_, _| {
            peek("peek");
            Some(0)
        });
    map(&memory, 0, Region::io("device", 8, ops).owner(&owner));
    let reader = memory.memory_space().reader();
    reader.load::<Le, u32>(0).unwrap_err();
    reader.store::<Le, u32>(0, 0).unwrap();
    reader.store::<Le, u32>(4, 0).unwrap_err();
    reader.store::<Le, u32>(0x100, 0).unwrap_err();
    reader.peek(0, &mut [0; 4]).unwrap();
    let expect = [
        "accepts", "read", "accepts", "reentry", "accepts", "write", "accepts", "invalid", "invalid", "peek",
    ];
    assert_eq!(*asked.lock(), expect);
    drop(reader);
    assert_eq!(memory.synchronize(), Ok(()));
}
