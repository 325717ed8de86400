//! Accesses through IOMMUs.
//!
//! | edge (QEMU: `address_space_translate_iommu` and what calls it) | test |
//! |---|---|
//! | each page goes where it is mapped; a bus access is cut at pages | `a_bus_access_across_pages_goes_where_each_page_is_mapped` |
//! | no permission: as where nothing is mapped | `a_write_to_a_read_only_page_is_a_decode_error` |
//! | … in pieces, each translated | `what_is_denied_is_asked_for_in_pieces_as_where_nothing_is_mapped` |
//! | `addr_mask` 0 | `a_page_may_be_one_byte` |
//! | a mask that is none | `of_an_odd_mask_the_ones_at_the_low_end_count` |
//! | an exact access over a page's end | `an_exact_access_over_a_pages_end_is_refused_by_memory_and_taken_by_a_device` |
//! | two levels | `two_iommus_one_behind_the_other_both_cut_and_both_allow` |
//! | a loop | `a_loop_of_iommus_ends_in_an_error` |
//! | many spaces on the way | `sixteen_iommus_in_as_many_spaces_are_followed` |
//! | several indexes | `attributes_choose_the_table` |
//! | attributes go on | `attributes_go_on_behind_the_iommu` |
//! | `MEMTXATTRS.memory` counts at the end | `accesses_for_memory_only_look_at_what_is_behind_the_iommu` |
//! | a region of 2^64, a mask of 2^64 - 1 | `an_iommu_may_cover_everything_with_one_page` |
//! | the root of a bus master's view | `a_bus_masters_root_may_be_an_iommu` |
//! | something lies over a part of a page (DEV-70) | `what_lies_over_an_iommu_is_not_reached_around` |
//! | ROM, ROM devices and RAM devices behind it | `what_is_behind_an_iommu_keeps_its_rules` |
//! | a CPU's accesses | `a_cpus_access_is_one_if_it_is_in_one_page_of_one_ram` |
//! | `get_iotlb_entry` | `an_iotlb_entry_tells_where_an_address_leads` |
//! | looks have no side effects | `looks_and_pokes_ask_without_an_access` |
//! | the type that `info mtree` prints | `info_mtree_calls_it_io` |
//! | the dirty mask | `a_global_log_marks_iommu_ranges_and_what_is_written_behind_them` |
//! | remembered translations | `cache.rs` |
//! | notifiers | `notify.rs` |

use std::sync::{Arc, Mutex, OnceLock};

use flatview::*;

use crate::table::{Table, block, map, put};

const DECODE: MemTxResult = MemTxResult::DECODE_ERROR;
const ACCESS: MemTxResult = MemTxResult::ACCESS_ERROR;
const PAGE: u64 = 0x1000;

/// `memory` with 64 KiB of RAM at 0 whose bytes say where they are, and a space `dma` with an IOMMU of as many bytes.
struct Machine {
    memory: Memory,
    table: Arc<Table>,
    iommu: RegionId,
    dma: AddressSpace,
    ram: Arc<RamBlock>,
}

fn byte(at: u64) -> u8 {
    (at ^ (at >> 8)) as u8
}

fn machine() -> Machine {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1_0000);
    for at in 0..0x1_0000 {
        ram.write(at, &[byte(at)]).unwrap();
    }
    map(&memory, memory.system(), 0, Region::ram("ram", Arc::clone(&ram)));
    let table = Table::new(&memory.memory_space(), PAGE);
    let root = memory.add(Region::container("bus", WHOLE)).unwrap();
    let iommu = map(&memory, root, 0, Region::iommu("iommu", 0x1_0000, Arc::clone(&table)));
    let dma = memory.address_space("dma", root).unwrap();
    Machine { memory, table, iommu, dma, ram }
}

/// A log that keeps its lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl AccessLog for Lines {
    fn invalid(&self, access: &InvalidAccess<'_>) {
        self.0.lock().unwrap().push(access.to_string());
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn a_bus_access_across_pages_goes_where_each_page_is_mapped() {
    let m = machine();
    m.table.map(0x2000, 0x9000, IommuPerm::READ_WRITE);
    m.table.map(0x3000, 0x4000, IommuPerm::READ_WRITE);
    let reader = m.dma.reader();
    let mut got = [0; 32];
    reader.read(0x2ff0, &mut got).unwrap();
    let want: Vec<u8> = (0x9ff0..0xa000).chain(0x4000..0x4010).map(byte).collect();
    assert_eq!(got, *want);

    reader.write(0x2ff8, &[0xee; 16]).unwrap();
    let mut now = [0; 16];
    m.ram.read(0x9ff8, &mut now).unwrap();
    assert_eq!(
        now,
        [
            [0xee; 8].as_slice(),
            &[byte(0xa000), byte(0xa001), byte(0xa002), byte(0xa003)],
            &[byte(0xa004), byte(0xa005), byte(0xa006), byte(0xa007)]
        ]
        .concat()[..]
    );
    m.ram.read(0x4000, &mut now).unwrap();
    assert_eq!(now[..8], [0xee; 8]);
    assert_eq!(now[8], byte(0x4008));
    // Exact accesses go the same ways.
    assert_eq!(reader.load::<Be, u16>(0x2ffe), Ok(0xeeee));
    assert_eq!(
        reader.load::<Le, u64>(0x3008),
        Ok(u64::from_le_bytes(std::array::from_fn(|i| byte(0x4008 + i as u64))))
    );
    reader.store::<Be, u32>(0x3010, 0x0102_0304).unwrap();
    m.ram.read(0x4010, &mut now[..4]).unwrap();
    assert_eq!(now[..4], [1, 2, 3, 4]);
}

#[test]
fn a_write_to_a_read_only_page_is_a_decode_error() {
    let m = machine();
    let log = Lines::default();
    m.memory.set_access_log(log.clone());
    m.table.map(0x2000, 0x9000, IommuPerm::READ);
    m.table.map(0x3000, 0x9000, IommuPerm::WRITE);
    let reader = m.dma.reader();
    assert_eq!(reader.load::<Le, u8>(0x2010), Ok(byte(0x9010)));
    for error in [
        reader.store::<Le, u8>(0x2010, 0xff).unwrap_err(),
        reader.write(0x2010, &[0xff]).unwrap_err(),
        reader.cpu_store::<Le, u8>(0x2010, 0xff).unwrap_err(),
    ] {
        assert_eq!((error.result(), error.reason()), (DECODE, Reason::IommuDenied));
        assert_eq!((error.address(), error.size(), error.region()), (0x2010, 1, Some(m.iommu)));
    }
    // In QEMU's words: the unassigned region's, at the offset in the IOMMU.
    let line = "Invalid write at addr 0x2010, size 1, region '(null)', reason: rejected";
    assert_eq!(log.take(), [line; 3]);
    assert_eq!(reader.load::<Le, u8>(0x2010), Ok(byte(0x9010)), "nothing was written");

    let error = reader.load::<Le, u32>(0x3010).unwrap_err();
    assert_eq!((error.result(), error.reason()), (DECODE, Reason::IommuDenied));
    assert_eq!(log.take(), ["Invalid read at addr 0x3010, size 4, region '(null)', reason: rejected"]);
    reader.store::<Le, u8>(0x3010, 0x55).unwrap();
    assert_eq!(reader.load::<Le, u8>(0x2010), Ok(0x55));
}

#[test]
fn what_is_denied_is_asked_for_in_pieces_as_where_nothing_is_mapped() {
    let m = machine();
    m.table.map(0x1000, 0, IommuPerm::READ_WRITE);
    let reader = m.dma.reader();
    let mut got = [0xcc; 16];
    let error = reader.read(0x0ff6, &mut got).unwrap_err();
    assert_eq!((error.address(), error.size(), error.result()), (0x0ff6, 2, DECODE));
    let want: Vec<u8> = [0; 10].into_iter().chain((0..6).map(byte)).collect();
    assert_eq!(got, *want, "what failed reads as 0, the rest is read");
    let asked = m.table.take_asked();
    let offsets: Vec<u64> = asked.iter().map(|(offset, _, _)| *offset).collect();
    assert_eq!(offsets, [0x0ff6, 0x0ff8, 0x0ffc, 0x1000], "2, 4 and 4 bytes, then the page");
    // Nothing is remembered of it: the device may note each fault.
    reader.load::<Le, u32>(0x0).unwrap_err();
    reader.load::<Le, u32>(0x0).unwrap_err();
    assert_eq!(m.table.take_asked().len(), 2);
}

#[test]
fn a_page_may_be_one_byte() {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1000);
    ram.write(0, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    map(&memory, memory.system(), 0, Region::ram("ram", ram));
    let table = Table::new(&memory.memory_space(), 1);
    for i in 0..8 {
        table.map(i, 7 - i, IommuPerm::READ_WRITE);
    }
    let iommu = memory.add(Region::iommu("mirror", 8, table)).unwrap();
    let reader = memory.address_space("dma", iommu).unwrap().reader();
    let mut got = [0; 8];
    reader.read(0, &mut got).unwrap();
    assert_eq!(got, [8, 7, 6, 5, 4, 3, 2, 1]);
    reader.write(2, &[0x66, 0x55]).unwrap();
    assert_eq!(memory.memory_space().reader().load::<Be, u16>(4), Ok(0x5566));
    assert_eq!(reader.load::<Le, u8>(7), Ok(1));
    let error = reader.load::<Le, u16>(4).unwrap_err();
    assert_eq!((error.result(), error.address(), error.size()), (DECODE, 4, 2));
    assert_eq!(reader.store::<Le, u64>(0, 0).unwrap_err().result(), DECODE);
    // A CPU's misaligned access is cut into aligned ones, which are too large for the pages just so.
    assert!(reader.cpu_load::<Le, u16>(1).is_err());
}

#[test]
fn of_an_odd_mask_the_ones_at_the_low_end_count() {
    struct Odd(WeakSpace);
    impl IommuOps for Odd {
        fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
            // The address has bits where the page has its own: they do not count either.
            IommuEntry::new(&self.0, request.offset() | 0x80f, 0xff0f, IommuPerm::READ)
        }
    }
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1000);
    let bytes: Vec<u8> = (0..=255).collect();
    ram.write(0x800, &bytes).unwrap();
    map(&memory, memory.system(), 0, Region::ram("ram", ram));
    let ops = Odd(memory.memory_space().downgrade());
    let iommu = memory.add(Region::iommu("odd", WHOLE, ops)).unwrap();
    let mut got = [0; 40];
    memory.address_space("dma", iommu).unwrap().reader().read(5, &mut got).unwrap();
    assert_eq!(got, *(5..45).collect::<Vec<u8>>());
}

#[test]
fn an_exact_access_over_a_pages_end_is_refused_by_memory_and_taken_by_a_device() {
    let m = machine();
    let called = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&called);
    let rules = AccessRules::new().valid(1, 8).implemented(1, 8).valid_unaligned().implemented_unaligned();
    let ops = Ops::new().rules(rules).read(move |a| {
        calls.lock().unwrap().push((a.offset(), a.size(), a.address(), a.space()));
        Ok(0x8877_6655_4433_2211)
    });
    map(&m.memory, m.memory.system(), 0x10_0000, Region::io("device", PAGE.into(), ops));
    m.table.map(0, 0, IommuPerm::READ_WRITE);
    m.table.map(0x1000, 0x1000, IommuPerm::READ_WRITE);
    m.table.map(0x2000, 0x10_0000, IommuPerm::READ_WRITE);
    let reader = m.dma.reader();

    // Although the two pages follow each other in RAM: one access is translated once.
    let error = reader.load::<Le, u32>(0xffe).unwrap_err();
    assert_eq!((error.result(), error.reason()), (DECODE, Reason::Rejected));
    assert_eq!((error.address(), error.size()), (0xffe, 4));
    assert_eq!(reader.store::<Le, u32>(0xffe, 0).unwrap_err().result(), DECODE);
    assert_eq!(
        m.memory.memory_space().reader().load::<Le, u8>(0xffe),
        Ok(byte(0xffe)),
        "nothing was written"
    );
    assert!(reader.read(0xffe, &mut [0; 4]).is_ok(), "the bus cuts it");

    assert_eq!(reader.load::<Le, u32>(0x2ffe), Ok(0x4433_2211));
    let space = m.memory.memory_space().id();
    let seen = std::mem::take(&mut *called.lock().unwrap());
    assert_eq!(seen, [(0xffe, 4, 0x10_0ffe, space)], "the device has it whole");
}

#[test]
fn two_iommus_one_behind_the_other_both_cut_and_both_allow() {
    let m = machine();
    // A second one, with pages of 256 bytes, in front of the first.
    let front = Table::new(&m.dma, 0x100);
    let id = m.memory.add(Region::iommu("front", 0x1000, Arc::clone(&front))).unwrap();
    let space = m.memory.address_space("guest", id).unwrap();
    let reader = space.reader();
    m.table.map(0x2000, 0x9000, IommuPerm::READ_WRITE);
    m.table.map(0x3000, 0x4000, IommuPerm::READ);
    front.map(0x000, 0x2f00, IommuPerm::READ_WRITE);
    front.map(0x100, 0x3000, IommuPerm::READ_WRITE);
    front.map(0x200, 0x2000, IommuPerm::READ);
    let mut got = [0; 0x300];
    reader.read(0, &mut got).unwrap();
    let want: Vec<u8> = (0x9f00..0xa000).chain(0x4000..0x4100).chain(0x9000..0x9100).map(byte).collect();
    assert_eq!(got, *want);
    assert_eq!(reader.load::<Le, u8>(0x1ff), Ok(byte(0x40ff)));

    reader.store::<Le, u8>(0x10, 0xaa).unwrap();
    assert_eq!(m.dma.reader().load::<Le, u8>(0x2f10), Ok(0xaa));
    let error = reader.store::<Le, u8>(0x110, 0xaa).unwrap_err();
    assert_eq!((error.region(), error.address()), (Some(m.iommu), 0x110), "the second one refuses");
    let error = reader.write(0x210, &[0xaa]).unwrap_err();
    assert_eq!((error.region(), error.address()), (Some(id), 0x210), "the first one refuses");
    // The smaller page cuts, although the larger goes on.
    front.map(0x300, 0x2100, IommuPerm::READ);
    front.map(0x400, 0x2200, IommuPerm::READ);
    assert!(reader.load::<Le, u16>(0x3ff).is_err());
}

#[test]
fn a_loop_of_iommus_ends_in_an_error() {
    let memory = Memory::new(Endianness::Little);
    let log = Lines::default();
    memory.set_access_log(log.clone());
    // One that leads to itself, and two that lead to each other.
    let root = memory.add(Region::container("root", WHOLE)).unwrap();
    let space = memory.address_space("round", root).unwrap();
    let table = Table::new(&space, PAGE);
    table.map(0, 0, IommuPerm::READ_WRITE);
    table.map(0x1000, 0x2000, IommuPerm::READ_WRITE);
    let itself = map(&memory, root, 0, Region::iommu("itself", 0x2000, table));
    let table = Table::new(&space, PAGE);
    table.map(0, 0x1000, IommuPerm::READ_WRITE);
    let other = map(&memory, root, 0x2000, Region::iommu("other", 0x1000, table));
    let reader = space.reader();
    for (at, last) in [(0, itself), (0x1000, itself), (0x2000, other)] {
        for error in [
            reader.load::<Le, u32>(at).unwrap_err(),
            reader.store::<Le, u32>(at, 0).unwrap_err(),
            reader.read(at, &mut [0; 256]).unwrap_err(),
            reader.write(at, &[0; 256]).unwrap_err(),
            reader.cpu_load::<Le, u32>(at + 1).unwrap_err(),
            reader.cpu_store::<Le, u32>(at + 1, 0).unwrap_err(),
            reader.peek(at, &mut [0; 256]).unwrap_err(),
            reader.poke(at, &[0; 256]).unwrap_err(),
            reader.port(MemTxAttrs::UNSPECIFIED).iotlb_entry(at, false).unwrap_err(),
        ] {
            assert_eq!((error.result(), error.reason()), (ACCESS, Reason::IommuLoop));
            assert_eq!((error.address() & !1, error.region()), (at, Some(last)), "sixteen steps on");
        }
        let lines = log.take();
        assert_eq!(lines.len(), 7, "once for each access, and not for looks: {lines:#?}");
        assert!(lines[2].ends_with("reason: too many IOMMUs stand one behind the other"), "{}", lines[2]);
    }
}

#[test]
fn sixteen_iommus_in_as_many_spaces_are_followed() {
    let memory = Memory::new(Endianness::Little);
    let ram = block(0x1000);
    ram.write(0, &[1, 2, 3, 4]).unwrap();
    map(&memory, memory.system(), 0, Region::ram("ram", ram));
    let mut space = memory.memory_space();
    for i in 1..=17_u32 {
        let table = Table::new(&space, PAGE);
        table.map(0, 0, IommuPerm::READ_WRITE);
        let iommu = memory.add(Region::iommu(format!("{i}"), PAGE.into(), table)).unwrap();
        space = memory.address_space(&format!("{i}"), iommu).unwrap();
        let reader = space.reader();
        for _ in 0..2 {
            let results =
                (reader.load::<Le, u32>(0), reader.read(0, &mut [0; 4]), reader.peek(0, &mut [0; 4]));
            if i <= Port::MAX_IOMMUS {
                assert_eq!(results, (Ok(0x0403_0201), Ok(()), Ok(())), "behind {i}");
            } else {
                assert_eq!(results.0.unwrap_err().reason(), Reason::IommuLoop);
                assert!(results.1.is_err() && results.2.is_err());
            }
        }
    }
}

#[test]
fn attributes_choose_the_table() {
    let m = machine();
    let space = m.memory.memory_space();
    let secure = Table::with_indexes(&space, PAGE, 2, |attrs| u32::from(attrs.secure));
    secure.map_index(0, 0, 0x1000, IommuPerm::READ);
    secure.map_index(1, 0, 0x2000, IommuPerm::READ);
    let id = m.memory.add(Region::iommu("secure", PAGE.into(), Arc::clone(&secure))).unwrap();
    let reader = m.memory.address_space("two worlds", id).unwrap().reader();
    let port = reader.port(MemTxAttrs::new().with_secure(true));
    for _ in 0..3 {
        assert_eq!(reader.load::<Le, u8>(5), Ok(byte(0x1005)));
        assert_eq!(port.load::<Le, u8>(5), Ok(byte(0x2005)));
        let mut got = [0];
        port.read(6, &mut got).unwrap();
        assert_eq!(got, [byte(0x2006)]);
    }
    assert_eq!(
        secure.take_asked(),
        [(5, IommuAccess::Read, 0), (5, IommuAccess::Read, 1)],
        "then it is remembered"
    );
}

#[test]
fn attributes_go_on_behind_the_iommu() {
    let m = machine();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (reads, writes) = (Arc::clone(&seen), Arc::clone(&seen));
    let ops = Ops::new()
        .read(move |a| {
            reads.lock().unwrap().push((a.attrs().requester_id, a.attrs().secure));
            Ok(0)
        })
        .write(move |a, _| {
            writes.lock().unwrap().push((a.attrs().requester_id, a.attrs().secure));
            Ok(())
        });
    map(&m.memory, m.memory.system(), 0x10_0000, Region::io("device", PAGE.into(), ops));
    m.table.map(0, 0x10_0000, IommuPerm::READ_WRITE);
    let reader = m.dma.reader();
    let port = reader.port(MemTxAttrs::new().with_requester(0x1234).with_secure(true));
    port.load::<Le, u32>(0).unwrap();
    port.store::<Le, u32>(0, 0).unwrap();
    port.read(0, &mut [0; 4]).unwrap();
    port.write(0, &[0; 4]).unwrap();
    assert_eq!(*seen.lock().unwrap(), [(0x1234, true); 4]);
}

#[test]
fn accesses_for_memory_only_look_at_what_is_behind_the_iommu() {
    let m = machine();
    map(
        &m.memory,
        m.memory.system(),
        0x10_0000,
        Region::io("device", PAGE.into(), Ops::new().read(|_| Ok(0))),
    );
    m.table.map(0, 0x1000, IommuPerm::READ_WRITE);
    m.table.map(0x1000, 0x10_0000, IommuPerm::READ_WRITE);
    let reader = m.dma.reader();
    let port = reader.port(MemTxAttrs::new().with_memory(true));
    assert_eq!(port.read(0, &mut [0; 4]), Ok(()));
    assert_eq!(port.write(0, &[0; 4]), Ok(()));
    let error = port.read(0x1000, &mut [0; 4]).unwrap_err();
    assert_eq!((error.result(), error.reason(), error.address()), (ACCESS, Reason::NotRam, 0x1000));
}

#[test]
fn an_iommu_may_cover_everything_with_one_page() {
    struct Bypass(WeakSpace);
    impl IommuOps for Bypass {
        fn translate(&self, _: &IommuRequest<'_>) -> IommuEntry {
            IommuEntry::new(&self.0, 0x1234, u64::MAX, IommuPerm::READ_WRITE)
        }
    }
    let m = machine();
    map(&m.memory, m.memory.system(), u64::MAX - 0xfff, Region::ram("top", block(0x1000)));
    let ops = Bypass(m.memory.memory_space().downgrade());
    let id = m.memory.add(Region::iommu("bypass", WHOLE, ops)).unwrap();
    let space = m.memory.address_space("bypassed", id).unwrap();
    let range = space.view().unwrap().lookup(0).map(|r| (r.start(), r.last(), r.is_iommu()));
    assert_eq!(range, Some((0, u64::MAX, true)));
    let reader = space.reader();
    // Its length has 65 bits.
    let mut got = [0; 64];
    reader.read(0, &mut got).unwrap();
    assert_eq!(got, *(0..64).map(byte).collect::<Vec<u8>>());
    reader.store::<Le, u8>(u64::MAX, 7).unwrap();
    assert_eq!(reader.load::<Be, u64>(u64::MAX - 7), Ok(7));
    // A bus access that wraps at 2^64 goes on at 0, as everywhere.
    let mut got = [0xcc; 4];
    reader.read(u64::MAX - 1, &mut got).unwrap();
    assert_eq!(got, [0, 7, byte(0), byte(1)]);
    assert_eq!(reader.load::<Le, u16>(u64::MAX).unwrap_err().result(), DECODE);
    reader.write(u64::MAX - 1, &[1, 2, 3]).unwrap();
    let mut got = [0; 3];
    m.memory.memory_space().reader().read(u64::MAX - 1, &mut got).unwrap();
    assert_eq!(got, [1, 2, 3]);
}

#[test]
fn a_bus_masters_root_may_be_an_iommu() {
    let m = machine();
    m.table.map(0x2000, 0x9000, IommuPerm::READ);
    // Through a container with only it, and an alias of it: all show the one view.
    let outer = m.memory.add(Region::container("outer", WHOLE)).unwrap();
    map(&m.memory, outer, 0, Region::alias("alias", m.iommu, 0, 0x1_0000));
    let spaces = [
        m.memory.address_space("root", m.iommu).unwrap(),
        m.memory.address_space("outer", outer).unwrap(),
        m.dma,
    ];
    let first = spaces[0].view().unwrap();
    for space in &spaces {
        assert!(Arc::ptr_eq(&first, &space.view().unwrap()), "{space:?}");
        assert_eq!(space.reader().load::<Le, u8>(0x2003), Ok(byte(0x9003)));
        assert_eq!(space.view().unwrap().root(), Some(m.iommu));
    }
}

#[test]
fn what_lies_over_an_iommu_is_not_reached_around() {
    let m = machine();
    for page in 0..16 {
        m.table.map(page * PAGE, page * PAGE, IommuPerm::READ_WRITE);
    }
    // An MSI window in the middle of a page.
    let root = m.dma.root().unwrap();
    let window = m.memory.add(Region::io("msi", 0x10, Ops::new().read(|_| Ok(0x11)))).unwrap();
    m.memory.update(|t| t.map_overlap(root, 0x2800, window, 1)).unwrap();
    let reader = m.dma.reader();
    let mut got = [0; 0x30];
    reader.read(0x27f0, &mut got).unwrap();
    let ram = |at: u64| (at..at + 0x10).map(byte).collect::<Vec<u8>>();
    assert_eq!(got[..0x10], ram(0x27f0));
    assert_eq!(got[0x10..0x20], *[0x11, 0, 0, 0].repeat(4), "the window answers, and not the RAM behind");
    assert_eq!(got[0x20..], ram(0x2810));
    // An exact access over that border is as one over the end of a page.
    assert_eq!(reader.load::<Le, u32>(0x27fe).unwrap_err().result(), DECODE);
}

#[test]
fn what_is_behind_an_iommu_keeps_its_rules() {
    let m = machine();
    let system = m.memory.system();
    let rom = block(0x1000);
    rom.write(0, &[1, 2, 3, 4]).unwrap();
    map(&m.memory, system, 0x10_0000, Region::rom("rom", Arc::clone(&rom)));
    let written = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&written);
    let ops = Ops::new().write(move |a, value| {
        calls.lock().unwrap().push((a.offset(), a.size(), value));
        Ok(())
    });
    let flash = block(0x1000);
    flash.write(0, &[5, 6, 7, 8]).unwrap();
    map(&m.memory, system, 0x20_0000, Region::rom_device("flash", flash, ops));
    let bar = block(0x1000);
    map(&m.memory, system, 0x30_0000, Region::ram_device("bar", Arc::clone(&bar)));
    let big = AccessRules::new().endian(DeviceEndian::Big).valid(1, 4).implemented(1, 2);
    let calls = Arc::clone(&written);
    let ops = Ops::new().rules(big).read(|a| Ok(0xff00 + a.offset())).write(move |a, value| {
        calls.lock().unwrap().push((a.offset(), a.size(), value));
        if a.offset() == 8 { Err(MemTxError::error()) } else { Ok(()) }
    });
    let device = map(&m.memory, system, 0x40_0000, Region::io("device", 0x1000, ops));
    for (i, at) in (0..).zip([0x10_0000, 0x20_0000, 0x30_0000, 0x40_0000]) {
        m.table.map(i * PAGE, at, IommuPerm::READ_WRITE);
    }
    let reader = m.dma.reader();

    // ROM: the bus may not, a CPU's store is dropped, loaders may.
    assert_eq!(reader.load::<Be, u32>(0), Ok(0x0102_0304));
    assert_eq!(reader.store::<Be, u32>(0, 0).unwrap_err().result(), DECODE);
    assert_eq!(reader.write(0, &[0; 4]).unwrap_err().result(), DECODE);
    assert_eq!(reader.cpu_store::<Be, u32>(0, 0), Ok(()));
    assert_eq!(reader.cpu_store::<Be, u16>(1, 0), Ok(()));
    assert_eq!(reader.load::<Be, u32>(0), Ok(0x0102_0304));
    reader.poke(1, &[9]).unwrap();
    assert_eq!(reader.load::<Be, u32>(0), Ok(0x0109_0304));

    // ROM device.
    assert_eq!(reader.load::<Be, u32>(0x1000), Ok(0x0506_0708));
    reader.store::<Le, u16>(0x1002, 0x1234).unwrap();
    reader.write(0x1003, &[0x56]).unwrap();
    assert_eq!(std::mem::take(&mut *written.lock().unwrap()), [(2, 2, 0x1234), (3, 1, 0x56)]);

    // RAM device.
    reader.store::<Le, u64>(0x2001, 0x0102_0304_0506_0708).unwrap();
    assert_eq!(reader.load::<Be, u16>(0x2001), Ok(0x0807));
    assert!(reader.peek(0x2001, &mut [0]).is_err(), "there is no look at a RAM device");

    // A device of the other order, which is split.
    reader.store::<Be, u32>(0x3004, 0x1122_3344).unwrap();
    assert_eq!(std::mem::take(&mut *written.lock().unwrap()), [(4, 2, 0x1122), (6, 2, 0x3344)]);
    assert_eq!(reader.load::<Be, u16>(0x3006), Ok(0xff06));
    assert_eq!(reader.load::<Le, u16>(0x3006), Ok(0x06ff));
    let error = reader.store::<Be, u32>(0x3006, 0).unwrap_err();
    assert_eq!((error.reason(), error.address(), error.region()), (Reason::Unaligned, 0x3006, Some(device)));
    assert_eq!(reader.load::<Be, u64>(0x3000).unwrap_err().reason(), Reason::InvalidSize { min: 1, max: 4 });
    // An error in the middle of a bus write has the initiator's address.
    let error = reader.write(0x3004, &[0; 8]).unwrap_err();
    assert_eq!((error.result(), error.address(), error.region()), (MemTxResult::ERROR, 0x3008, Some(device)));
    // Behind the IOMMU, too, nothing may be.
    m.table.map(0x4000, 0x50_0000, IommuPerm::READ_WRITE);
    let error = reader.load::<Le, u32>(0x4010).unwrap_err();
    assert_eq!((error.reason(), error.address(), error.region()), (Reason::Rejected, 0x4010, None));
}

#[test]
fn something_read_only_in_front_of_an_iommu_keeps_writes_out() {
    let m = machine();
    m.table.map(0, 0, IommuPerm::READ_WRITE);
    let root = m.memory.add(Region::container("root", WHOLE)).unwrap();
    map(&m.memory, root, 0, Region::alias("window", m.iommu, 0, 0x1000).readonly(true));
    let reader = m.memory.address_space("read-only", root).unwrap().reader();
    assert_eq!(reader.load::<Le, u8>(7), Ok(byte(7)));
    for error in [
        reader.store::<Le, u8>(7, 0).unwrap_err(),
        reader.write(7, &[0]).unwrap_err(),
        reader.cpu_store::<Le, u8>(7, 0).unwrap_err(),
    ] {
        assert_eq!(
            (error.result(), error.reason(), error.region()),
            (DECODE, Reason::Rejected, Some(m.iommu))
        );
    }
    assert_eq!(reader.load::<Le, u8>(7), Ok(byte(7)));
}

#[test]
fn a_cpus_access_is_one_if_it_is_in_one_page_of_one_ram() {
    let m = machine();
    m.table.map(0, 0x3000, IommuPerm::READ_WRITE);
    m.table.map(0x1000, 0x5000, IommuPerm::READ_WRITE);
    let cpu = m.dma.reader();
    let bytes = |at: &[u64]| at.iter().rev().fold(0_u64, |v, at| (v << 8) | u64::from(byte(*at)));
    assert_eq!(cpu.cpu_load::<Le, u32>(0x101), Ok(bytes(&[0x3101, 0x3102, 0x3103, 0x3104]) as u32));
    // Over the pages' border: two aligned loads put together, each from its page.
    assert_eq!(cpu.cpu_load::<Le, u32>(0xffe), Ok(bytes(&[0x3ffe, 0x3fff, 0x5000, 0x5001]) as u32));
    cpu.cpu_store::<Be, u32>(0x101, 0xa1a2_a3a4).unwrap();
    assert_eq!(cpu.load::<Be, u32>(0x101), Ok(0xa1a2_a3a4));
    cpu.cpu_store::<Be, u32>(0xffd, 0xb1b2_b3b4).unwrap();
    let memory = m.memory.memory_space().reader();
    let mut got = [0; 3];
    memory.read(0x3ffd, &mut got).unwrap();
    assert_eq!((got, memory.load::<Le, u8>(0x5000)), ([0xb1, 0xb2, 0xb3], Ok(0xb4)));
    // Not allowed: an error, of which nothing was done.
    let error = cpu.cpu_load::<Le, u32>(0x2001).unwrap_err();
    assert_eq!((error.reason(), error.address()), (Reason::IommuDenied, 0x2001));
}

#[test]
fn an_iotlb_entry_tells_where_an_address_leads() {
    let m = machine();
    let front = Table::new(&m.dma, 0x100);
    let id = m.memory.add(Region::iommu("front", 0x1000, Arc::clone(&front))).unwrap();
    let space = m.memory.address_space("guest", id).unwrap();
    m.table.map(0x2000, 0x9000, IommuPerm::READ);
    m.table.map(0x3000, 0x50_0000, IommuPerm::READ);
    front.map(0x300, 0x2400, IommuPerm::READ_WRITE);
    front.map(0x400, 0x3000, IommuPerm::READ_WRITE);
    let reader = space.reader();
    let port = reader.port(MemTxAttrs::UNSPECIFIED);
    let memory = m.memory.memory_space().id();
    let entry = port.iotlb_entry(0x345, false).unwrap();
    assert_eq!((entry.space, entry.iova, entry.address, entry.mask), (memory, 0x300, 0x9400, 0xff));
    assert_eq!(port.iotlb_entry(0x345, true).unwrap_err().reason(), Reason::IommuDenied);
    assert_eq!(port.iotlb_entry(0x400, false).unwrap_err().reason(), Reason::Rejected, "nothing is there");
    let reader = m.memory.memory_space().reader();
    let port = reader.port(MemTxAttrs::UNSPECIFIED);
    let entry = port.iotlb_entry(0x1234, true).unwrap();
    assert_eq!((entry.space, entry.iova, entry.address, entry.mask), (memory, 0x1000, 0x1000, 0xfff));
    assert!(port.iotlb_entry(0x50_0000, false).is_err());
}

#[test]
fn looks_and_pokes_ask_without_an_access() {
    let m = machine();
    let log = Lines::default();
    m.memory.set_access_log(log.clone());
    let ops = Ops::new().read(|_| panic!("a look reads nothing")).peek(|offset, _| Some(offset + 1));
    map(&m.memory, m.memory.system(), 0x10_0000, Region::io("device", PAGE.into(), ops));
    m.table.map(0, 0x3000, IommuPerm::READ_WRITE);
    m.table.map(0x1000, 0x4000, IommuPerm::READ);
    m.table.map(0x2000, 0x10_0000, IommuPerm::READ);
    m.table.map(0x3000, 0x3000, IommuPerm::WRITE);
    let reader = m.dma.reader();
    let mut got = [0; 16];
    reader.peek(0xff8, &mut got).unwrap();
    assert_eq!(got, *(0x3ff8..0x4008).map(byte).collect::<Vec<u8>>());
    reader.peek(0x2004, &mut got[..1]).unwrap();
    assert_eq!(got[0], 5);
    reader.poke(0xfff, &[0x77]).unwrap();
    let error = reader.poke(0xfff, &[0x78, 0x79]).unwrap_err();
    assert_eq!((error.reason(), error.address()), (Reason::IommuDenied, 0x1000), "it may not be written");
    assert_eq!(reader.peek(0x3000, &mut got).unwrap_err().reason(), Reason::IommuDenied);
    assert_eq!(got, [0; 16]);
    // Also in an update, where no access could go through.
    m.memory
        .update(|_| {
            assert_eq!(reader.peek(0xfff, &mut got[..1]), Ok(()));
            let error = reader.load::<Le, u8>(0xfff).unwrap_err();
            assert_eq!((error.result(), error.reason()), (ACCESS, Reason::InsideUpdate));
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    assert_eq!(got[0], 0x78);
    let asked = m.table.take_asked();
    assert!(asked.iter().all(|(_, access, _)| *access == IommuAccess::Look), "{asked:?}");
    assert_eq!(log.take().len(), 1, "of looks the log is not told; of the load in the update it is");
}

#[test]
fn info_mtree_calls_it_io() {
    let m = machine();
    let info = m.memory.region(m.iommu).unwrap();
    assert_eq!((info.kind, info.terminates, info.iommu), (RegionType::Io, true, true));
    let section = m.memory.find(m.dma.root().unwrap(), 0x100, 1).unwrap().unwrap();
    assert!(section.is_iommu() && !section.is_ram() && section.ram().is_none());
    assert_eq!((section.region, section.offset_in_region), (m.iommu, 0x100));
    assert!(!m.memory.find(m.memory.system(), 0, 1).unwrap().unwrap().is_iommu());
    assert_eq!(m.dma.view().unwrap().lookup(0).unwrap().kind(), RegionType::Io);
    for flat in [false, true] {
        let options = mtree::Options { flat, dispatch: false, owner: false, disabled: false };
        let text = mtree::write(&m.memory, options).unwrap().to_string();
        assert!(text.contains("0000000000000000-000000000000ffff (prio 0, i/o): iommu\n"), "{text}");
    }
}

#[test]
fn a_global_log_marks_iommu_ranges_and_what_is_written_behind_them() {
    #[derive(Default)]
    struct Logs(Mutex<Vec<(String, u8, u8)>>);
    impl MemoryListener for Logs {
        fn name(&self) -> &str {
            "logs"
        }
        fn log_start(&self, section: &Section, old: u8, new: u8) -> Result<(), ListenerError> {
            assert_eq!(section.is_iommu(), section.name() == "iommu");
            self.0.lock().unwrap().push((section.name().to_owned(), old, new));
            Ok(())
        }
    }
    const MIGRATION: u8 = DirtyClient::MIGRATION.mask();
    let m = machine();
    m.table.map(0, 0x3000, IommuPerm::READ_WRITE);
    let ram = m.memory.find(m.memory.system(), 0, 1).unwrap().unwrap().region;
    let logs = Arc::new(Logs::default());
    m.memory.add_listener(Arc::clone(&logs) as Arc<dyn MemoryListener>).unwrap();
    let mask = |m: &Machine| m.dma.view().unwrap().lookup(0).unwrap().log_mask();
    // A log of all RAM for another client is none of an IOMMU's.
    m.memory.update(|t| t.set_log_all(DirtyClient::VGA, true)).unwrap();
    assert_eq!(mask(&m), 0);
    assert!(matches!(m.memory.set_log(m.iommu, DirtyClient::VGA, true), Err(MemoryError::NoRam { .. })));
    logs.0.lock().unwrap().clear();
    m.memory.start_global_log(GlobalLog::MIGRATION).unwrap();
    assert_eq!(mask(&m), MIGRATION);
    assert!(logs.0.lock().unwrap().contains(&("iommu".to_owned(), 0, MIGRATION)));

    m.memory.reset_dirty(ram, 0, 0x1_0000, DirtyClient::MIGRATION).unwrap();
    let reader = m.dma.reader();
    let dirty = |m: &Machine| {
        let taken = m.memory.snapshot_and_clear_dirty(ram, 0, 0x1_0000, DirtyClient::MIGRATION).unwrap();
        taken.runs().map(|run| (run.start, run.end)).collect::<Vec<_>>()
    };
    reader.store::<Le, u8>(0x10, 1).unwrap();
    assert_eq!(dirty(&m), [(0x3000, 0x4000)]);
    reader.write(0x10, &[1; 8]).unwrap();
    assert_eq!(dirty(&m), [(0x3000, 0x4000)]);
    reader.cpu_store::<Le, u16>(0x11, 1).unwrap();
    assert_eq!(dirty(&m), [(0x3000, 0x4000)]);
    reader.poke(0x11, &[1]).unwrap();
    assert_eq!(dirty(&m), [(0x3000, 0x4000)]);
    reader.load::<Le, u8>(0x10).unwrap();
    assert_eq!(dirty(&m), [(0_u64, 0_u64); 0]);
    m.memory.stop_global_log(GlobalLog::MIGRATION).unwrap();
    assert_eq!(mask(&m), 0);
}

#[test]
fn a_device_may_translate_in_the_middle_of_its_own_callback() {
    // One device: a register whose write starts DMA through its own IOMMU, under its own lock but for the access.
    struct Device {
        table: Arc<Table>,
        dma: OnceLock<WeakSpace>,
        copied: Mutex<Vec<u8>>,
    }
    struct Register(Arc<Device>);
    impl MmioOps for Register {
        fn read(&self, _: &Access<'_>) -> Result<u64, MemTxError> {
            Ok(0x5a)
        }
        fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
            let space = self.0.dma.get().and_then(WeakSpace::upgrade).ok_or(MemTxError::error())?;
            let mut bytes = vec![0; 4];
            access.port(&space).read(value, &mut bytes)?;
            *self.0.copied.lock().unwrap() = bytes;
            Ok(())
        }
    }
    impl IommuOps for Device {
        fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
            self.table.translate(request)
        }
    }
    let m = machine();
    let device = Arc::new(Device {
        table: Arc::clone(&m.table),
        dma: OnceLock::new(),
        copied: Mutex::new(Vec::new()),
    });
    let owner = Owner::device("/machine/dma");
    let registers = Region::io("registers", 8, Register(Arc::clone(&device))).owner(&owner);
    map(&m.memory, m.memory.system(), 0x10_0000, registers);
    let iommu = Region::iommu("own", 0x1_0000, Arc::clone(&device)).owner(&owner);
    let iommu = m.memory.add(iommu).unwrap();
    device.dma.set(m.memory.address_space("own", iommu).unwrap().downgrade()).unwrap();
    m.table.map(0x1000, 0x3000, IommuPerm::READ);
    m.table.map(0x2000, 0x10_0000, IommuPerm::READ);
    let cpu = m.memory.memory_space().reader();
    cpu.store::<Le, u32>(0x10_0000, 0x1010).unwrap();
    assert_eq!(*device.copied.lock().unwrap(), (0x3010..0x3014).map(byte).collect::<Vec<u8>>());
    // Through its IOMMU a device comes back to itself all the same.
    let error = cpu.store::<Le, u32>(0x10_0000, 0x2000).unwrap_err();
    assert_eq!((error.result(), error.reason()), (ACCESS, Reason::Reentry));
}

/// An IOMMU with a one-level table of eight-byte entries in memory: the address of the page, and 1 if it is there.
struct Walker {
    tables: WeakSpace,
    at: u64,
    target: WeakSpace,
}

impl IommuOps for Walker {
    fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
        let Some(tables) = self.tables.upgrade() else { return IommuEntry::denied(0) };
        let entry = request.port(&tables).load::<Le, u64>(self.at + (request.offset() / PAGE) * 8);
        match entry {
            Ok(entry) if entry & 1 != 0 => {
                IommuEntry::new(&self.target, entry & !(PAGE - 1), PAGE - 1, IommuPerm::READ_WRITE)
            }
            _ => IommuEntry::denied(PAGE - 1),
        }
    }
}

#[test]
fn a_device_may_keep_its_table_in_guest_memory() {
    let m = machine();
    let space = m.memory.memory_space();
    let walker = Walker { tables: space.downgrade(), at: 0x8000, target: space.downgrade() };
    let id = m.memory.add(Region::iommu("walker", 0x4000, walker)).unwrap();
    let dma = m.memory.address_space("walked", id).unwrap();
    let cpu = space.reader();
    for (i, entry) in (0..).zip([0x3001_u64, 0, 0x5001, 0]) {
        cpu.store::<Le, u64>(0x8000 + i * 8, entry).unwrap();
    }
    let reader = dma.reader();
    assert_eq!(reader.load::<Le, u8>(0x12), Ok(byte(0x3012)));
    assert_eq!(reader.load::<Le, u8>(0x2012), Ok(byte(0x5012)));
    assert_eq!(reader.load::<Le, u8>(0x1012).unwrap_err().reason(), Reason::IommuDenied);
    let mut got = [0];
    reader.peek(0x2012, &mut got).unwrap();
    assert_eq!(got, [byte(0x5012)]);
    // The guest changes its table and says so.
    cpu.store::<Le, u64>(0x8000, 0x6001).unwrap();
    m.memory.iommu(id).unwrap().notify(0, &IommuEvent::unmap(0, PAGE - 1)).unwrap();
    assert_eq!(reader.load::<Le, u8>(0x12), Ok(byte(0x6012)));
}

#[test]
fn a_table_that_is_found_through_the_iommu_itself_ends_in_an_error() {
    // Its table stands in the space that it translates: to find the entry, the entry is needed.
    let memory = Memory::new(Endianness::Little);
    map(&memory, memory.system(), 0, Region::ram("ram", block(0x1_0000)));
    let root = memory.add(Region::container("root", WHOLE)).unwrap();
    let dma = memory.address_space("dma", root).unwrap();
    let target = memory.memory_space().downgrade();
    let walker = Walker { tables: dma.downgrade(), at: 0x8000, target };
    let id = map(&memory, root, 0, Region::iommu("walker", WHOLE, walker));
    let reader = dma.reader();
    for at in [0, 0x8000, 0xfff_ffff, u64::MAX - 7] {
        for error in [
            reader.load::<Le, u64>(at).unwrap_err(),
            reader.read(at, &mut [0; 8]).unwrap_err(),
            reader.peek(at, &mut [0; 8]).unwrap_err(),
        ] {
            assert_eq!((error.reason(), error.region()), (Reason::IommuDenied, Some(id)), "{at:#x}");
        }
    }
}

#[test]
fn a_target_that_is_gone_lets_nothing_through() {
    let m = machine();
    let root = m.memory.add(Region::container("other", WHOLE)).unwrap();
    map(&m.memory, root, 0, Region::ram("other ram", block(0x1000)));
    let other = m.memory.address_space("other", root).unwrap();
    put(&m.table, 0, 0, &other, IommuPerm::READ_WRITE);
    let reader = m.dma.reader();
    assert_eq!(reader.load::<Le, u8>(0), Ok(0));
    m.memory.remove_space(other.id()).unwrap();
    // As a reader of the space itself: nothing is mapped there any more, whether the translation is remembered or not.
    let error = reader.load::<Le, u8>(0).unwrap_err();
    assert_eq!((error.result(), error.reason()), (DECODE, Reason::Rejected));
    drop(other);
    let mut fresh = m.dma.reader();
    let error = fresh.load::<Le, u8>(0).unwrap_err();
    assert_eq!(error.result(), DECODE);
    fresh.park();
    drop(reader);
    let error = fresh.load::<Le, u8>(0).unwrap_err();
    assert_eq!(
        (error.result(), error.reason()),
        (DECODE, Reason::IommuDenied),
        "nobody keeps the space any more"
    );
}

#[test]
fn a_target_in_another_memory_is_refused() {
    let m = machine();
    let foreign = Memory::new(Endianness::Little);
    map(&foreign, foreign.system(), 0, Region::ram("ram", block(0x1000)));
    put(&m.table, 0, 0, &foreign.memory_space(), IommuPerm::READ_WRITE);
    let reader = m.dma.reader();
    for error in [
        reader.load::<Le, u32>(0x10).unwrap_err(),
        reader.write(0x10, &[0; 4]).unwrap_err(),
        reader.peek(0x10, &mut [0; 4]).unwrap_err(),
    ] {
        assert_eq!((error.result(), error.reason()), (ACCESS, Reason::ForeignSpace));
        assert_eq!((error.address(), error.size()), (0x10, 4));
    }
}
