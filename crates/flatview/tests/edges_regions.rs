//! Edges of the tree and the views: changes that are none, what is printed and not seen, many small devices.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::sync::{Arc, Mutex};

use flatview::{
    AccessRules, Be, Endianness, EventNotifier, IoEventFd, Le, ListenerError, Memory, MemoryError,
    MemoryListener, Ops, RamBlock, Reason, Region, RegionId, Section, Transaction, mtree,
};

/// Writes down what it is told of ranges and ioeventfds.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn listening(memory: &Memory) -> Arc<Told> {
        let told = Arc::new(Told::default());
        memory.add_listener(told.clone()).unwrap();
        told.taken();
        told
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn note(&self, what: &str, s: &Section) -> Result<(), ListenerError> {
        let mode = if s.romd { " romd" } else { "" };
        let text = format!("{what} {:x}-{:x} {}{mode}", s.offset_in_space, s.last(), s.name());
        self.0.lock().unwrap().push(text);
        Ok(())
    }
}

impl MemoryListener for Told {
    fn name(&self) -> &str {
        "told"
    }
    fn begin(&self) -> Result<(), ListenerError> {
        self.0.lock().unwrap().push("begin".to_owned());
        Ok(())
    }
    fn region_add(&self, section: &Section) -> Result<(), ListenerError> {
        self.note("add", section)
    }
    fn region_del(&self, section: &Section) -> Result<(), ListenerError> {
        self.note("del", section)
    }
    fn eventfd_add(&self, eventfd: &IoEventFd) -> Result<(), ListenerError> {
        self.0.lock().unwrap().push(format!("fd {:x}/{}", eventfd.addr, eventfd.size));
        Ok(())
    }
    fn eventfd_del(&self, eventfd: &IoEventFd) -> Result<(), ListenerError> {
        self.0.lock().unwrap().push(format!("no fd {:x}/{}", eventfd.addr, eventfd.size));
        Ok(())
    }
}

#[test]
fn switching_a_rom_devices_mode_replaces_its_ranges_in_every_window() {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("flash", 0x4000).unwrap();
    let flash = memory
        .update(|t| {
            let system = t.memory().system();
            let flash = t.add(Region::rom_device("flash", block, Ops::new().read(|_| Ok(0xcc))))?;
            t.map(system, 0x10_0000, flash)?;
            // Two windows that continue each other are one range, in either mode.
            let low = t.add(Region::alias("low", flash, 0x1000, 0x1000))?;
            let high = t.add(Region::alias("high", flash, 0x2000, 0x1000))?;
            t.map(system, 0x1000, low)?;
            t.map(system, 0x2000, high)?;
            Ok::<_, MemoryError>(flash)
        })
        .unwrap();
    let told = Told::listening(&memory);
    for (from, to) in [(" romd", ""), ("", " romd")] {
        memory.update(|t| t.set_romd(flash, !to.is_empty())).unwrap();
        let expect = [
            "begin".to_owned(),
            format!("del 1000-2fff flash{from}"),
            format!("del 100000-103fff flash{from}"),
            format!("add 1000-2fff flash{to}"),
            format!("add 100000-103fff flash{to}"),
        ];
        assert_eq!(told.taken(), expect);
        assert_eq!(memory.stale_view().unwrap(), None);
    }
    memory.update(|t| t.set_romd(flash, true)).unwrap();
    assert!(told.taken().is_empty(), "it is in that mode already");
}

#[test]
fn what_is_mapped_in_an_alias_is_printed_and_not_seen() {
    let memory = Memory::builder(Endianness::Little).bare().build();
    let root = memory
        .update(|t| {
            let root = t.add(Region::container("root", 0x1000))?;
            let target = t.add(Region::reservation("target", 0x100))?;
            let alias = t.add(Region::alias("alias", target, 0, 0x100))?;
            let child = t.add(Region::reservation("child", 0x10))?;
            t.map(root, 0x200, alias)?;
            t.map_overlap(alias, 0x20, child, 5)?;
            Ok::<_, MemoryError>(root)
        })
        .unwrap();
    let space = memory.address_space("s", root).unwrap();
    let view = space.view().unwrap();
    let seen: Vec<_> = view.ranges().map(|r| (r.start(), r.last(), r.name())).collect();
    assert_eq!(seen, [(0x200, 0x2ff, "target")]);
    assert_eq!(
        mtree::write(&memory, mtree::Options::default()).unwrap().to_string(),
        "address-space: s\n  \
         0000000000000000-0000000000000fff (prio 0, i/o): root\n    \
         0000000000000200-00000000000002ff (prio 0, i/o): alias alias @target 0000000000000000-00000000000000ff\n      \
         0000000000000220-000000000000022f (prio 5, i/o): child\n\n\
         memory-region: target\n  0000000000000000-00000000000000ff (prio 0, i/o): target\n\n"
    );
}

#[test]
fn unmapping_or_moving_a_disabled_region_publishes_nothing_and_tells_nobody() {
    let memory = Memory::new(Endianness::Little);
    let system = memory.system();
    let shown = memory.add(Region::reservation("shown", 0x1000)).unwrap();
    let hidden = memory.add(Region::reservation("hidden", 0x1000).enabled(false)).unwrap();
    let below = memory.add(Region::container("below", 0x1000)).unwrap();
    let inside = memory.add(Region::reservation("inside", 0x100)).unwrap();
    memory
        .update(|t| {
            t.map(system, 0, shown)?;
            t.map_overlap(system, 0x800, hidden, 1)?;
            // What stands in a disabled container is no more to be seen than one that is disabled itself.
            t.map_overlap(system, 0x2000, below, 0)?;
            t.map(below, 0, inside)?;
            t.set_enabled(below, false)
        })
        .unwrap();
    let told = Told::listening(&memory);
    let view = memory.memory_space().view().unwrap();
    type Step = fn(&mut Transaction<'_>, [RegionId; 3]) -> Result<(), MemoryError>;
    let steps: [(&str, Step); 10] = [
        ("move", |t, [hidden, ..]| t.set_address(hidden, 0x900)),
        ("resize", |t, [hidden, ..]| t.set_size(hidden, 0x80)),
        ("several at once", |t, [hidden, _, inside]| {
            t.set_address(hidden, 0x400)?;
            t.set_address(inside, 0x10)?;
            t.set_address(hidden, 0x300)
        }),
        ("priority", |t, [hidden, ..]| t.set_priority(hidden, 9)),
        ("read-only", |t, [hidden, ..]| t.set_readonly(hidden, true)),
        ("unmap", |t, [hidden, ..]| t.unmap(t.memory().system(), hidden)),
        ("map", |t, [hidden, ..]| t.map(t.memory().system(), 0x10, hidden)),
        ("move inside", |t, [_, _, inside]| t.set_address(inside, 0x80)),
        ("unmap inside", |t, [_, below, inside]| t.unmap(below, inside)),
        ("unmap the container", |t, [_, below, _]| t.unmap(t.memory().system(), below)),
    ];
    let mut noisy = Vec::new();
    for (what, step) in steps {
        memory.update(|t| step(t, [hidden, below, inside])).unwrap();
        if !told.taken().is_empty() {
            noisy.push(what);
        }
    }
    assert_eq!(noisy, [""; 0]);
    assert!(Arc::ptr_eq(&view, &memory.memory_space().view().unwrap()));
    memory.update(|t| t.set_enabled(hidden, true)).unwrap();
    assert_eq!(told.taken()[..2], ["begin".to_owned(), "del 0-fff shown".to_owned()]);
}

#[test]
fn a_region_as_root_of_a_space_is_accessed_directly() {
    // The offset is the address, whoever stands before it elsewhere, and whether or not it is mapped anywhere.
    let memory = Memory::new(Endianness::Big);
    let ops = Ops::new().rules(AccessRules::new().valid(1, 4)).read(|a| Ok(0x1000 + a.offset()));
    let device = memory.add(Region::io("device", 0x100, ops)).unwrap();
    let alias = memory.add(Region::alias("alias", device, 0x80, 0x40)).unwrap();
    let direct = memory.address_space("direct", device).unwrap().reader();
    assert_eq!(direct.load::<Be, u32>(0x10), Ok(0x1010));
    let aliased = memory.address_space("aliased", alias).unwrap().reader();
    assert_eq!(aliased.load::<Be, u32>(0), Ok(0x1080));
    assert_eq!(aliased.load::<Be, u32>(0x40).unwrap_err().reason(), Reason::Rejected);
    let error = direct.load::<Le, u64>(0x10).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidSize { min: 1, max: 4 });
    let over = memory.add(Region::reservation("over", 0x100)).unwrap();
    memory
        .update(|t| {
            t.map_overlap(t.memory().system(), 0, over, 1)?;
            t.map(t.memory().system(), 0, device)
        })
        .unwrap();
    assert!(memory.memory_space().reader().load::<Be, u32>(0x10).is_err());
    assert_eq!(direct.load::<Be, u32>(0x10), Ok(0x1010));
}

#[test]
fn an_ioeventfd_that_is_partly_seen_is_told() {
    let memory = Memory::new(Endianness::Little);
    let system = memory.system();
    let bell = memory.add(Region::io("bell", 0x20, Ops::new().write(|_, _| Ok(())))).unwrap();
    memory.map(system, 0x1000, bell).unwrap();
    let over = memory.add(Region::reservation("over", 0xe)).unwrap();
    let told = Told::listening(&memory);
    let notifier = Arc::new(EventNotifier::new().unwrap());
    memory.update(|t| t.add_eventfd(bell, 0xc, 4, None, &notifier)).unwrap();
    assert_eq!(told.taken(), ["fd 100c/4"]);
    // Half of it is hidden; then all of it.
    memory.update(|t| t.map_overlap(system, 0x1000, over, 1)).unwrap();
    let calls = told.taken();
    assert!(!calls.iter().any(|c| c.contains("fd")), "{calls:?}");
    memory.update(|t| t.set_size(over, 0x10)).unwrap();
    assert_eq!(told.taken().last().unwrap(), "no fd 100c/4");
    memory.update(|t| t.set_size(over, 0xf)).unwrap();
    assert_eq!(told.taken().last().unwrap(), "fd 100c/4");
}

#[test]
fn an_ioeventfd_that_is_seen_through_two_ranges_is_told_once() {
    let memory = Memory::new(Endianness::Little);
    let bell = memory.add(Region::io("bell", 0x20, Ops::new().write(|_, _| Ok(())))).unwrap();
    let over = memory.add(Region::reservation("over", 1)).unwrap();
    memory.map(memory.system(), 0x1000, bell).unwrap();
    let told = Told::listening(&memory);
    let notifier = Arc::new(EventNotifier::new().unwrap());
    memory.update(|t| t.add_eventfd(bell, 0xc, 4, None, &notifier)).unwrap();
    assert_eq!(told.taken(), ["fd 100c/4"]);
    // One byte in its middle is another device's: two ranges show a part of it.
    memory.update(|t| t.map_overlap(memory.system(), 0x100e, over, 1)).unwrap();
    assert_eq!(memory.memory_space().view().unwrap().len(), 3);
    let calls = told.taken();
    assert!(!calls.iter().any(|c| c.contains("fd")), "{calls:?}");
    let late = Arc::new(Told::default());
    memory.add_listener(late.clone()).unwrap();
    assert_eq!(late.taken().iter().filter(|c| *c == "fd 100c/4").count(), 1);
    memory.update(|t| t.del_eventfd(bell, 0xc, 4, None, &notifier)).unwrap();
    assert_eq!(late.taken(), ["no fd 100c/4"]);
}

#[test]
fn ten_thousand_devices_of_one_byte_are_each_found() {
    // QEMU ends with 4,096 sections; three pages of registers are enough for that.
    let memory = Memory::new(Endianness::Little);
    memory
        .update(|t| {
            for n in 0..10_000_u64 {
                let ops = Ops::new().read(move |a| Ok((n ^ (n >> 8) ^ a.offset()) & 0xff));
                let id = t.add(Region::io(format!("register {n}"), 1, ops))?;
                t.map(t.memory().system(), 0x1003 + n, id)?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    assert_eq!(memory.memory_space().view().unwrap().len(), 10_000);
    let reader = memory.memory_space().reader();
    for n in 0..10_000_u64 {
        assert_eq!(reader.load::<Le, u8>(0x1003 + n), Ok((n ^ (n >> 8)) as u8), "{n}");
    }
}
