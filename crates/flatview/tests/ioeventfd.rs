//! Ioeventfds and coalesced ranges: what a write signals, what spaces show of them, and when what was coalesced is
//! carried out.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use flatview::{
    AccessRules, Be, DeviceEndian, Endianness, EventNotifier, IoEventFd, Le, ListenerError, Memory,
    MemoryError, MemoryListener, Ops, Owner, Region, RegionId, Section,
};

struct Machine {
    memory: Memory,
    doorbell: RegionId,
    /// What reached the device: offset, size, value.
    writes: Arc<Mutex<Vec<(u64, u32, u64)>>>,
    a: Arc<EventNotifier>,
    b: Arc<EventNotifier>,
}

/// A device of 0x100 bytes at 0x1000.
fn machine(target: Endianness, device: DeviceEndian) -> Machine {
    let memory = Memory::new(target);
    let writes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&writes);
    let rules = AccessRules::new().endian(device).valid(1, 8).implemented(1, 8);
    let ops = Ops::new().rules(rules).read(|_| Ok(0)).write(move |a, v| {
        seen.lock().unwrap().push((a.offset(), a.size(), v));
        Ok(())
    });
    let doorbell = memory.add(Region::io("doorbell", 0x100, ops)).unwrap();
    memory.map(memory.system(), 0x1000, doorbell).unwrap();
    let notifier = || Arc::new(EventNotifier::new().unwrap());
    Machine { memory, doorbell, writes, a: notifier(), b: notifier() }
}

impl Machine {
    fn add(&self, offset: u64, size: u32, data: Option<u64>, notifier: &Arc<EventNotifier>) {
        self.memory.update(|t| t.add_eventfd(self.doorbell, offset, size, data, notifier)).unwrap();
    }

    /// Who was signalled, and what reached the device.
    fn seen(&self) -> (bool, bool, Vec<(u64, u32, u64)>) {
        let signalled = |n: &EventNotifier| n.test_and_clear().unwrap();
        (signalled(&self.a), signalled(&self.b), std::mem::take(&mut *self.writes.lock().unwrap()))
    }
}

#[test]
fn a_write_that_matches_signals_and_does_not_reach_the_device() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    m.add(0x10, 4, Some(7), &m.a);
    m.add(0x20, 2, None, &m.b);
    let reader = m.memory.memory_space().reader();
    reader.store::<Le, u32>(0x1010, 7).unwrap();
    assert_eq!(m.seen(), (true, false, vec![]));
    // Another value, another size, another place.
    reader.store::<Le, u32>(0x1010, 8).unwrap();
    reader.store::<Le, u16>(0x1010, 7).unwrap();
    reader.store::<Le, u32>(0x1014, 7).unwrap();
    assert_eq!(m.seen(), (false, false, vec![(0x10, 4, 8), (0x10, 2, 7), (0x14, 4, 7)]));
    // Any value, one size.
    reader.store::<Le, u16>(0x1020, 0x1234).unwrap();
    assert_eq!(m.seen(), (false, true, vec![]));
    reader.store::<Le, u8>(0x1020, 0x12).unwrap();
    assert_eq!(m.seen(), (false, false, vec![(0x20, 1, 0x12)]));
    // Reads are not concerned, and the bus finds them too.
    assert_eq!(reader.load::<Le, u32>(0x1010), Ok(0));
    m.memory.memory_space().write(0x1010, &[7, 0, 0, 0]).unwrap();
    assert_eq!(m.seen(), (true, false, vec![]));
    m.memory.update(|t| t.del_eventfd(m.doorbell, 0x10, 4, Some(7), &m.a)).unwrap();
    reader.store::<Le, u32>(0x1010, 7).unwrap();
    assert_eq!(m.seen(), (false, false, vec![(0x10, 4, 7)]));
}

#[test]
fn size_zero_takes_a_write_of_any_size_and_comes_before_those_that_compare() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    m.add(0, 4, None, &m.b);
    m.add(0, 0, None, &m.a);
    let reader = m.memory.memory_space().reader();
    for _ in 0..2 {
        reader.store::<Le, u8>(0x1000, 1).unwrap();
        assert_eq!(m.seen(), (true, false, vec![]));
        reader.store::<Le, u32>(0x1000, 1).unwrap();
        assert_eq!(m.seen(), (true, false, vec![]));
        reader.store::<Le, u64>(0x1000, 1).unwrap();
        assert_eq!(m.seen(), (true, false, vec![]));
    }
    m.memory.update(|t| t.del_eventfd(m.doorbell, 0, 0, None, &m.a)).unwrap();
    reader.store::<Le, u32>(0x1000, 1).unwrap();
    assert_eq!(m.seen(), (false, true, vec![]));
}

#[test]
fn data_is_kept_in_the_devices_byte_order() {
    // As the CPU of the target stores it: its bytes are what counts.
    for (target, device, kept) in [
        (Endianness::Big, DeviceEndian::Little, 0x4433_2211),
        (Endianness::Big, DeviceEndian::Big, 0x1122_3344),
        (Endianness::Little, DeviceEndian::Big, 0x4433_2211),
        (Endianness::Big, DeviceEndian::Native, 0x1122_3344),
    ] {
        let m = machine(target, device);
        m.add(0, 4, Some(0x1122_3344), &m.a);
        let told = Arc::new(Told::default());
        m.memory.add_listener(told.clone()).unwrap();
        assert_eq!(told.take(), [format!("add 1000/4 {kept:x}")]);
        let reader = m.memory.memory_space().reader();
        match target {
            Endianness::Big => reader.store::<Be, u32>(0x1000, 0x1122_3344),
            Endianness::Little => reader.store::<Le, u32>(0x1000, 0x1122_3344),
        }
        .unwrap();
        assert_eq!(m.seen(), (true, false, vec![]));
        reader
            .store::<Le, u32>(0x1000, if target == Endianness::Big { 0x1122_3344 } else { 0x4433_2211 })
            .unwrap();
        assert_eq!((m.a.test_and_clear().unwrap(), m.writes.lock().unwrap().len()), (false, 1));
    }
}

/// Writes down ioeventfds and coalesced ranges.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
    fn eventfd(&self, what: &str, e: &IoEventFd) -> Result<(), ListenerError> {
        let data = e.data.map_or("any".into(), |d| format!("{d:x}"));
        self.0.lock().unwrap().push(format!("{what} {:x}/{} {data}", e.addr, e.size));
        Ok(())
    }
}

impl MemoryListener for Told {
    fn name(&self) -> &str {
        "told"
    }
    fn eventfd_add(&self, e: &IoEventFd) -> Result<(), ListenerError> {
        self.eventfd("add", e)
    }
    fn eventfd_del(&self, e: &IoEventFd) -> Result<(), ListenerError> {
        self.eventfd("del", e)
    }
    fn coalesced_io_add(&self, s: &Section, addr: u64, size: u128) -> Result<(), ListenerError> {
        self.0.lock().unwrap().push(format!("coalesced {addr:x}+{size:x} in {:x}", s.offset_in_space));
        Ok(())
    }
    fn coalesced_io_del(&self, s: &Section, addr: u64, size: u128) -> Result<(), ListenerError> {
        self.0.lock().unwrap().push(format!("no longer {addr:x}+{size:x} in {:x}", s.offset_in_space));
        Ok(())
    }
}

#[test]
fn a_space_shows_them_where_their_region_is_seen_through_aliases_too() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    let told = Arc::new(Told::default());
    m.memory.add_listener(told.clone()).unwrap();
    m.add(0x10, 4, None, &m.a);
    assert_eq!(told.take(), ["add 1010/4 any"]);
    let alias = m.memory.add(Region::alias("alias", m.doorbell, 0x8, 0x20)).unwrap();
    m.memory.map(m.memory.system(), 0x8000, alias).unwrap();
    assert_eq!(told.take(), ["add 8008/4 any"]);
    // A write through the alias signals too.
    m.memory.memory_space().reader().store::<Le, u32>(0x8008, 1).unwrap();
    assert_eq!(m.seen(), (true, false, vec![]));
    // The region moves, and what is deleted and added is told together in ascending order.
    m.memory.update(|t| t.set_address(m.doorbell, 0x2000)).unwrap();
    assert_eq!(told.take(), ["del 1010/4 any", "add 2010/4 any"]);
    m.memory.update(|t| t.set_alias_offset(alias, 0x10)).unwrap();
    assert_eq!(told.take(), ["add 8000/4 any", "del 8008/4 any"]);
    // The alias's window ends inside of it: it still touches.
    m.memory.update(|t| t.set_size(alias, 2)).unwrap();
    assert_eq!(told.take(), Vec::<String>::new());
    // It begins before the window: it still touches, at the address where it begins.
    m.memory.update(|t| t.set_alias_offset(alias, 0x12)).unwrap();
    assert_eq!(told.take(), ["add 7ffe/4 any", "del 8000/4 any"]);
    m.memory.update(|t| t.set_alias_offset(alias, 0x14)).unwrap();
    assert_eq!(told.take(), ["del 7ffe/4 any"]);
    m.memory.update(|t| t.set_enabled(m.doorbell, false)).unwrap();
    assert_eq!(told.take(), ["del 2010/4 any"]);
}

#[test]
fn they_are_told_in_order_of_address_size_and_data_and_del_goes_forward_and_add_in_reverse() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    struct Named(&'static str, u32, Arc<Told>);
    impl MemoryListener for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn priority(&self) -> flatview::ListenerPriority {
            flatview::ListenerPriority(self.1)
        }
        fn eventfd_add(&self, e: &IoEventFd) -> Result<(), ListenerError> {
            self.2.eventfd(&format!("{} add", self.0), e)
        }
        fn eventfd_del(&self, e: &IoEventFd) -> Result<(), ListenerError> {
            self.2.eventfd(&format!("{} del", self.0), e)
        }
    }
    let told = Arc::new(Told::default());
    for (name, priority) in [("late", 10), ("early", 0)] {
        m.memory.add_listener(Arc::new(Named(name, priority, told.clone()))).unwrap();
    }
    m.memory
        .update(|t| {
            t.add_eventfd(m.doorbell, 4, 4, Some(2), &m.a)?;
            t.add_eventfd(m.doorbell, 4, 4, Some(1), &m.a)?;
            t.add_eventfd(m.doorbell, 4, 4, None, &m.a)?;
            t.add_eventfd(m.doorbell, 4, 2, Some(9), &m.a)?;
            t.add_eventfd(m.doorbell, 0, 8, None, &m.a)
        })
        .unwrap();
    let order = ["1000/8 any", "1004/2 9", "1004/4 any", "1004/4 1", "1004/4 2"];
    let calls = |names: [&str; 2], what: &str| -> Vec<String> {
        order.iter().flat_map(|e| names.map(|n| format!("{n} {what} {e}"))).collect()
    };
    assert_eq!(told.take(), calls(["late", "early"], "add"));
    m.memory.update(|t| t.unmap(m.memory.system(), m.doorbell)).unwrap();
    assert_eq!(told.take(), calls(["early", "late"], "del"));
}

#[test]
fn only_ioeventfds_changed_means_no_begin_and_no_commit() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    struct Frames(AtomicU32, AtomicU32);
    impl MemoryListener for Frames {
        fn name(&self) -> &str {
            "frames"
        }
        fn begin(&self) -> Result<(), ListenerError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        fn commit(&self) -> Result<(), ListenerError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        fn eventfd_add(&self, _: &IoEventFd) -> Result<(), ListenerError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
    let frames = Arc::new(Frames(AtomicU32::new(0), AtomicU32::new(0)));
    m.memory.add_listener(frames.clone()).unwrap();
    assert_eq!(frames.0.swap(0, Ordering::Relaxed), 2);
    m.add(0, 4, None, &m.a);
    assert_eq!((frames.0.load(Ordering::Relaxed), frames.1.load(Ordering::Relaxed)), (0, 1));
}

#[test]
fn bad_ioeventfds_are_typed_errors_and_change_nothing() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    m.add(0x10, 4, Some(7), &m.a);
    let told = Arc::new(Told::default());
    m.memory.add_listener(told.clone()).unwrap();
    told.take();
    let bad = |size, data| {
        let error = m.memory.update(|t| t.add_eventfd(m.doorbell, 0x10, size, data, &m.a)).unwrap_err();
        assert!(matches!(error, MemoryError::BadEventFd { addr: 0x10, .. }), "{error}");
        error.to_string()
    };
    assert!(bad(3, None).contains("1, 2, 4 or 8"));
    assert!(bad(16, None).contains("1, 2, 4 or 8"));
    assert!(bad(0, Some(1)).contains("size is given"));
    assert!(bad(1, Some(0x100)).contains("larger than the write"));
    assert!(bad(4, Some(7)).contains("there already"));
    for (offset, size, data, notifier) in
        [(0x11, 4, Some(7), &m.a), (0x10, 2, Some(7), &m.a), (0x10, 4, None, &m.a), (0x10, 4, Some(7), &m.b)]
    {
        let error = m.memory.update(|t| t.del_eventfd(m.doorbell, offset, size, data, notifier)).unwrap_err();
        assert!(matches!(error, MemoryError::NoEventFd { .. }), "{error}");
    }
    assert_eq!(told.take(), Vec::<String>::new());
    // A change that fails leaves them as they were: to listeners and to writes.
    let gone = m.memory.update(|t| {
        t.del_eventfd(m.doorbell, 0x10, 4, Some(7), &m.a)?;
        t.add_eventfd(m.doorbell, 0x20, 4, None, &m.b)?;
        Err::<(), _>(MemoryError::Full)
    });
    gone.unwrap_err();
    let reader = m.memory.memory_space().reader();
    reader.store::<Le, u32>(0x1010, 7).unwrap();
    reader.store::<Le, u32>(0x1020, 7).unwrap();
    assert_eq!(m.seen(), (true, false, vec![(0x20, 4, 7)]));
}

#[test]
fn where_a_listener_fails_writes_find_the_ioeventfds_as_before() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    m.add(0x10, 4, None, &m.a);
    struct Full;
    impl MemoryListener for Full {
        fn name(&self) -> &str {
            "full"
        }
        fn eventfd_add(&self, e: &IoEventFd) -> Result<(), ListenerError> {
            if e.addr == 0x1020 { Err(ListenerError::new("no more ioeventfds")) } else { Ok(()) }
        }
    }
    m.memory.add_listener(Arc::new(Full)).unwrap();
    let error = m.memory.update(|t| {
        t.del_eventfd(m.doorbell, 0x10, 4, None, &m.a)?;
        t.add_eventfd(m.doorbell, 0x20, 4, None, &m.b)
    });
    let expect =
        "Listener 'full' failed in eventfd_add at 0x1020: no more ioeventfds; the change was taken back";
    assert_eq!(error.unwrap_err().to_string(), expect);
    let reader = m.memory.memory_space().reader();
    reader.store::<Le, u32>(0x1010, 1).unwrap();
    reader.store::<Le, u32>(0x1020, 2).unwrap();
    assert_eq!(m.seen(), (true, false, vec![(0x20, 4, 2)]));
}

#[test]
fn a_region_that_goes_takes_its_ioeventfds_with_it() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    m.add(0x10, 4, None, &m.a);
    assert_eq!(Arc::strong_count(&m.a), 2);
    m.memory
        .update(|t| {
            t.unmap(m.memory.system(), m.doorbell)?;
            t.remove(m.doorbell)
        })
        .unwrap();
    m.memory.synchronize().unwrap();
    assert_eq!(Arc::strong_count(&m.a), 1);
    let gone = m.memory.update(|t| t.add_eventfd(m.doorbell, 0, 4, None, &m.a));
    assert!(matches!(gone, Err(MemoryError::StaleRegion { .. })));
}

#[test]
fn where_the_kernel_matches_them_what_arrives_here_goes_to_the_device() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    m.add(0x10, 4, None, &m.a);
    m.memory.set_kernel_eventfds(true);
    let reader = m.memory.memory_space().reader();
    reader.store::<Le, u32>(0x1010, 1).unwrap();
    assert_eq!(m.seen(), (false, false, vec![(0x10, 4, 1)]));
    m.memory.set_kernel_eventfds(false);
    reader.store::<Le, u32>(0x1010, 1).unwrap();
    assert_eq!(m.seen(), (true, false, vec![]));
}

#[test]
fn an_invalid_write_is_refused_before_an_ioeventfd_sees_it_and_a_device_that_is_busy_is_signalled() {
    let memory = Memory::new(Endianness::Little);
    let notifier = Arc::new(EventNotifier::new().unwrap());
    let owner = Owner::device("/machine/device");
    let space = memory.memory_space().downgrade();
    // Reading the device has it write its own doorbell: re-entry, but an ioeventfd enters nobody.
    let ops = Ops::new().rules(AccessRules::new().valid(4, 4)).read(move |a| {
        let space = space.upgrade().expect("the test holds the memory");
        a.port(&space).store::<Le, u32>(0x1000, 1)?;
        Ok(0)
    });
    let device = memory.add(Region::io("device", 0x100, ops).owner(&owner)).unwrap();
    memory.map(memory.system(), 0x1000, device).unwrap();
    memory.update(|t| t.add_eventfd(device, 0, 0, None, &notifier)).unwrap();
    let reader = memory.memory_space().reader();
    assert!(reader.store::<Le, u16>(0x1000, 1).is_err());
    assert!(!notifier.test_and_clear().unwrap());
    assert_eq!(reader.load::<Le, u32>(0x1010), Ok(0));
    assert!(notifier.test_and_clear().unwrap());
    assert_eq!(memory.blocked_reentries(), 0);
}

#[test]
fn coalesced_ranges_are_told_clipped_to_each_range_and_follow_the_map() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    let told = Arc::new(Told::default());
    m.memory.add_listener(told.clone()).unwrap();
    m.memory.update(|t| t.add_coalescing(m.doorbell, 0x10, 0x40)).unwrap();
    assert_eq!(told.take(), ["coalesced 1010+40 in 1000"]);
    m.memory.update(|t| t.add_coalescing(m.doorbell, 0x80, 0x1000)).unwrap();
    assert_eq!(told.take(), ["coalesced 1080+80 in 1000"], "cut at the region's end");
    // Something over the middle: each part has its own.
    let over = m.memory.add(Region::reservation("over", 0x10)).unwrap();
    m.memory.update(|t| t.map_overlap(m.memory.system(), 0x1020, over, 1)).unwrap();
    let expect = [
        "no longer 1010+40 in 1000",
        "no longer 1080+80 in 1000",
        "coalesced 1010+10 in 1000",
        "coalesced 1030+20 in 1030",
        "coalesced 1080+80 in 1030",
    ];
    assert_eq!(told.take(), expect);
    // A listener that comes is told, and one that goes too.
    let late = Arc::new(Told::default());
    let id = m.memory.add_listener(late.clone()).unwrap();
    assert_eq!(late.take(), expect[2..]);
    m.memory.remove_listener(id).unwrap();
    assert_eq!(
        late.take(),
        expect[2..].iter().map(|s| s.replace("coalesced", "no longer")).collect::<Vec<_>>()
    );
    m.memory.update(|t| t.clear_coalescing(m.doorbell)).unwrap();
    assert_eq!(
        told.take(),
        ["no longer 1010+10 in 1000", "no longer 1030+20 in 1030", "no longer 1080+80 in 1030"]
    );
    m.memory.update(|t| t.set_coalescing(m.doorbell)).unwrap();
    assert_eq!(told.take(), ["coalesced 1000+20 in 1000", "coalesced 1030+d0 in 1030"]);
    // The whole instead of what was there.
    m.memory.update(|t| t.clear_coalescing(m.doorbell).and_then(|()| t.set_coalescing(m.doorbell))).unwrap();
    assert_eq!(told.take(), Vec::<String>::new());
}

#[test]
fn what_was_coalesced_is_carried_out_before_accesses_that_want_it_and_before_changes() {
    let m = machine(Endianness::Little, DeviceEndian::Little);
    let other =
        m.memory.add(Region::io("other", 0x10, Ops::new().read(|_| Ok(0)).write(|_, _| Ok(())))).unwrap();
    m.memory.map(m.memory.system(), 0x4000, other).unwrap();
    m.memory.update(|t| t.add_coalescing(m.doorbell, 0, 4)).unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let (count, space) = (Arc::clone(&runs), m.memory.memory_space().downgrade());
    m.memory.set_coalesced_flush(Some(Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        // It accesses the very region, as an accelerator does: that does not begin it again.
        let space = space.upgrade().expect("the test holds the memory");
        space.reader().store::<Le, u32>(0x1000, 0xfeed).unwrap();
    })));
    let ran = || runs.swap(0, Ordering::Relaxed);
    let reader = m.memory.memory_space().reader();
    reader.store::<Le, u32>(0x1004, 1).unwrap();
    assert_eq!((ran(), m.seen().2), (1, vec![(0, 4, 0xfeed), (4, 4, 1)]), "before the write, not after it");
    reader.load::<Le, u32>(0x1004).unwrap();
    assert_eq!(ran(), 1);
    // Not for another region, unless it asks.
    reader.load::<Le, u32>(0x4000).unwrap();
    assert_eq!(ran(), 0);
    m.memory.update(|t| t.set_flush_coalesced(other)).unwrap();
    assert_eq!(ran(), 1, "at the beginning of the change");
    reader.load::<Le, u32>(0x4000).unwrap();
    assert_eq!(ran(), 1);
    // Once for nested changes.
    m.memory
        .update(|t| m.memory.update(|t| t.set_readonly(other, true)).and(t.clear_flush_coalesced(other)))
        .unwrap();
    assert_eq!(ran(), 1);
    reader.load::<Le, u32>(0x4000).unwrap();
    assert_eq!(ran(), 0);
    // Clearing the ranges clears the flag that adding them set.
    m.memory.update(|t| t.clear_coalescing(m.doorbell)).unwrap();
    ran();
    reader.load::<Le, u32>(0x1004).unwrap();
    assert_eq!(ran(), 0);
    m.memory.set_coalesced_flush(None);
    m.memory.update(|t| t.set_coalescing(m.doorbell)).unwrap();
    reader.load::<Le, u32>(0x1004).unwrap();
    assert_eq!(ran(), 0);
}

#[test]
fn an_ioeventfd_says_in_which_order_the_device_reads() {
    for (endian, want) in [(DeviceEndian::Little, Endianness::Little), (DeviceEndian::Big, Endianness::Big)] {
        struct Orders(Mutex<Vec<(Endianness, Option<u64>)>>);
        impl MemoryListener for Orders {
            fn name(&self) -> &str {
                "orders"
            }
            fn eventfd_add(&self, e: &IoEventFd) -> Result<(), ListenerError> {
                self.0.lock().unwrap().push((e.order, e.data));
                Ok(())
            }
        }
        let m = machine(Endianness::Big, endian);
        let orders = Arc::new(Orders(Mutex::default()));
        m.memory.add_listener(orders.clone()).unwrap();
        m.add(0, 2, Some(0x1122), &Arc::new(EventNotifier::new().unwrap()));
        let data = if want == Endianness::Big { 0x1122 } else { 0x2211 };
        assert_eq!(*orders.0.lock().unwrap(), [(want, Some(data))]);
    }
}

#[test]
fn a_thread_knows_whether_it_is_in_a_device() {
    let memory = Memory::new(Endianness::Little);
    let ops = Ops::new().read(|_| Ok(u64::from(Memory::in_device_callback())));
    let device = memory.add(Region::io("device", 8, ops)).unwrap();
    memory.map(memory.system(), 0, device).unwrap();
    assert!(!Memory::in_device_callback());
    assert_eq!(memory.memory_space().reader().load::<Le, u8>(0).unwrap(), 1);
    assert!(!Memory::in_device_callback());
}
