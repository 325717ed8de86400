//! Who is told of each call of a device, what, and when; and that nobody is when it is off.

use std::sync::{Arc, Mutex};

use flatview::{
    Access, AccessRules, AccessTrace, Be, DeviceEndian, Endianness, Le, MemTxAttrs, MemTxError, Memory, Ops,
    RamBlock, Reason, Region, RegionId, WeakSpace,
};

/// What was told, as text.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn text(what: &str, access: &Access<'_>, value: u64) -> String {
    let way = if access.is_write() { "write" } else { "read" };
    format!("{what} {way} {:#x} size {} value {value:#x}", access.offset(), access.size())
}

impl AccessTrace for Told {
    fn called(&self, call: &Access<'_>, value: u64) {
        self.0.lock().unwrap().push(text("call", call, value));
    }

    fn in_part_of_page(&self, access: &Access<'_>, value: u64) {
        self.0.lock().unwrap().push(text("part", access, value));
    }
}

/// A memory with a device of `size` bytes at 0x1000, the reads of which give all ones down from a number.
fn with_device(size: u128, rules: AccessRules, endian: DeviceEndian) -> (Memory, RegionId) {
    let memory = Memory::new(Endianness::Big);
    let ops = Ops::new()
        .rules(rules.endian(endian))
        .read(|access| Ok(0xffff_ffff_ffff_ff00 | access.offset()))
        .write(|_, _| Ok(()));
    let device = memory.add(Region::io("device", size, ops)).unwrap();
    memory.map(memory.system(), 0x1000, device).unwrap();
    (memory, device)
}

#[test]
fn each_call_is_told_reads_with_what_the_device_gave_and_writes_with_what_it_gets() {
    let (memory, _) = with_device(0x1000, AccessRules::new(), DeviceEndian::Little);
    let reader = memory.memory_space().reader();
    let told = Arc::new(Told::default());
    reader.load::<Le, u32>(0x1004).unwrap();
    memory.set_access_trace(Some(told.clone())).unwrap();
    reader.load::<Le, u32>(0x1004).unwrap();
    reader.store::<Le, u16>(0x1008, 0x1234).unwrap();
    reader.cpu_load::<Be, u8>(0x1003).unwrap();
    let mut bytes = [0; 3];
    reader.read(0x1010, &mut bytes).unwrap();
    assert_eq!(
        told.take(),
        [
            "call read 0x4 size 4 value 0xffffffffffffff04",
            "call write 0x8 size 2 value 0x1234",
            "call read 0x3 size 1 value 0xffffffffffffff03",
            "call read 0x10 size 2 value 0xffffffffffffff10",
            "call read 0x12 size 1 value 0xffffffffffffff12",
        ]
    );
    memory.set_access_trace(None).unwrap();
    reader.load::<Le, u32>(0x1004).unwrap();
    reader.store::<Le, u16>(0x1008, 0x1234).unwrap();
    assert_eq!(told.take(), [""; 0]);
    assert_eq!(memory.stale_view().unwrap(), None);
}

#[test]
fn the_calls_of_a_split_access_are_told_one_by_one() {
    let (memory, _) = with_device(0x1000, AccessRules::new().implemented(1, 2), DeviceEndian::Big);
    let told = Arc::new(Told::default());
    memory.set_access_trace(Some(told.clone())).unwrap();
    let reader = memory.memory_space().reader();
    reader.store::<Be, u32>(0x1000, 0x1122_3344).unwrap();
    assert_eq!(told.take(), ["call write 0x0 size 2 value 0x1122", "call write 0x2 size 2 value 0x3344"]);
}

#[test]
fn a_refused_access_and_memory_are_not_told() {
    let (memory, _) = with_device(0x1000, AccessRules::new().valid(1, 2), DeviceEndian::Big);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 0x1000).unwrap())).unwrap();
    memory.map(memory.system(), 0x8000, ram).unwrap();
    let told = Arc::new(Told::default());
    memory.set_access_trace(Some(told.clone())).unwrap();
    let reader = memory.memory_space().reader();
    let refused = reader.load::<Be, u32>(0x1000).unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidSize { min: 1, max: 2 });
    reader.store::<Be, u32>(0x8000, 1).unwrap();
    reader.load::<Be, u32>(0x8000).unwrap();
    reader.load::<Be, u32>(0x4000).unwrap_err();
    assert_eq!(told.take(), [""; 0]);
}

#[test]
fn an_access_to_a_part_of_a_page_is_told_in_the_targets_order() {
    let (memory, _) = with_device(0x10, AccessRules::new().implemented(1, 1), DeviceEndian::Little);
    let told = Arc::new(Told::default());
    memory.set_access_trace(Some(told.clone())).unwrap();
    let reader = memory.memory_space().reader();
    reader.store::<Be, u16>(0x1002, 0x1234).unwrap();
    assert_eq!(reader.load::<Be, u16>(0x1002).unwrap(), 0x0203);
    assert_eq!(
        told.take(),
        [
            "part write 0x2 size 2 value 0x1234",
            "call write 0x2 size 1 value 0x12",
            "call write 0x3 size 1 value 0x34",
            "call read 0x2 size 1 value 0xffffffffffffff02",
            "call read 0x3 size 1 value 0xffffffffffffff03",
            "part read 0x2 size 2 value 0x203",
        ]
    );
}

#[test]
fn what_a_callback_accesses_is_told_before_the_read_that_it_is_part_of_and_after_the_write() {
    let (memory, _) = with_device(0x10, AccessRules::new(), DeviceEndian::Little);
    let space: WeakSpace = memory.memory_space().downgrade();
    let port = space.clone();
    let bridge = Ops::new()
        .read(move |access| {
            let space = space.upgrade().ok_or(MemTxError::error())?;
            access.port(&space).load::<Le, u8>(0x1001).map(u64::from)
        })
        .write(move |access, value| {
            let space = port.upgrade().ok_or(MemTxError::error())?;
            access.port(&space).with_attrs(MemTxAttrs::UNSPECIFIED).store::<Le, u8>(0x1002, value as u8)
        });
    let bridge = memory.add(Region::io("bridge", 0x1000, bridge)).unwrap();
    memory.map(memory.system(), 0x2000, bridge).unwrap();
    let told = Arc::new(Told::default());
    memory.set_access_trace(Some(told.clone())).unwrap();
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u8>(0x2000).unwrap(), 1);
    reader.store::<Le, u8>(0x2000, 7).unwrap();
    assert_eq!(
        told.take(),
        [
            "call read 0x1 size 1 value 0xffffffffffffff01",
            "call read 0x0 size 1 value 0x1",
            "call write 0x0 size 1 value 0x7",
            "call write 0x2 size 1 value 0x7",
        ]
    );
}

#[test]
fn regions_that_come_later_are_told_of_too_and_the_map_stays_the_same() {
    let (memory, device) = with_device(0x1000, AccessRules::new(), DeviceEndian::Little);
    let before =
        flatview::mtree::write(&memory, flatview::mtree::Options { flat: true, ..Default::default() });
    let told = Arc::new(Told::default());
    memory.set_access_trace(Some(told.clone())).unwrap();
    let after =
        flatview::mtree::write(&memory, flatview::mtree::Options { flat: true, ..Default::default() });
    assert_eq!(before.unwrap(), after.unwrap());
    let system = memory.system();
    memory.update(|t| t.unmap(system, device)).unwrap();
    memory.map(memory.system(), 0x5000, device).unwrap();
    memory.memory_space().reader().load::<Le, u8>(0x5001).unwrap();
    assert_eq!(told.take(), ["call read 0x1 size 1 value 0xffffffffffffff01"]);
    assert_eq!(memory.stale_view().unwrap(), None);
}

#[test]
fn an_absolute_address_is_the_sum_of_the_places_of_all_containers() {
    let memory = Memory::new(Endianness::Big);
    let outer = memory.add(Region::container("outer", 0x10_0000)).unwrap();
    let device = memory.add(Region::io("device", 0x100, Ops::new())).unwrap();
    memory.map(outer, 0x2000, device).unwrap();
    assert_eq!(memory.absolute_address(device, 4), Ok(0x2004));
    memory.map(memory.system(), 0xf000_0000, outer).unwrap();
    assert_eq!(memory.absolute_address(device, 4), Ok(0xf000_2004));
    let alias = memory.add(Region::alias("alias", device, 0, 0x100)).unwrap();
    memory.map(memory.system(), 0x1000, alias).unwrap();
    assert_eq!(memory.absolute_address(device, 4), Ok(0xf000_2004), "not through the alias");
}
