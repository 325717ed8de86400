//! `info mtree` of live maps, to the byte.

#![expect(clippy::unwrap_used, reason = "a failed test is what a panic is for")]

use flatview::mtree::{Document, Options, write, write_accelerated};
use flatview::{Endianness, Memory, MemoryError, Owner, Region, RegionType, WHOLE};

const TREE: Options = Options { flat: false, dispatch: false, owner: false, disabled: false };
const FLAT: Options = Options { flat: true, ..TREE };

fn bare() -> Memory {
    Memory::builder(Endianness::Big).bare().build()
}

/// The text, which must also parse back to itself.
fn text(memory: &Memory, options: Options) -> String {
    let text = write(memory, options).unwrap().to_string();
    assert_eq!(Document::parse("written", text.as_bytes()).unwrap().to_string(), text);
    text
}

fn io(name: &str, size: u128) -> Region {
    Region::sketch(name, size, RegionType::Io)
}

#[test]
fn a_new_memory_prints_the_default_spaces() {
    let memory = Memory::new(Endianness::Little);
    assert_eq!(
        text(&memory, TREE),
        "address-space: memory\n  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n\n\
         address-space: I/O\n  0000000000000000-000000000000ffff (prio 0, i/o): io\n\n"
    );
    assert_eq!(
        text(&memory, FLAT),
        "FlatView #0\n AS \"memory\", root: system\n Root memory region: (none)\n  No rendered FlatView\n\n\
         FlatView #1\n AS \"I/O\", root: io\n Root memory region: io\n  \
         0000000000000000-000000000000ffff (prio 0, i/o): io\n\n"
    );
}

#[test]
fn spaces_of_one_root_share_a_block_with_names_in_byte_order() {
    let memory = bare();
    let root = memory.add(Region::container("root", 0x1000)).unwrap();
    for name in ["b", "a", "B"] {
        memory.address_space(name, root).unwrap();
    }
    assert_eq!(
        text(&memory, TREE),
        "address-space: B\naddress-space: a\naddress-space: b\n  \
         0000000000000000-0000000000000fff (prio 0, i/o): root\n\n"
    );
}

#[test]
fn children_are_ordered_by_address_then_priority_then_latest_first() {
    let memory = bare();
    let root = memory.add(Region::container("root", 0x1000)).unwrap();
    memory
        .update(|t| {
            for (name, addr, priority) in
                [("high", 0x10, 0), ("first", 0, 0), ("second", 0, 0), ("above", 0, 5), ("below", 0, -5)]
            {
                let region = t.add(io(name, 0x10))?;
                t.map_overlap(root, addr, region, priority)?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    memory.address_space("s", root).unwrap();
    let text = text(&memory, TREE);
    let names: Vec<&str> =
        text.lines().filter_map(|l| l.split_once("i/o): ")).map(|(_, name)| name).collect();
    assert_eq!(names, ["root", "above", "second", "first", "below", "high"]);
}

#[test]
fn a_disabled_region_is_hidden_but_its_children_keep_their_depth() {
    let memory = bare();
    memory
        .update(|t| {
            let root = t.add(Region::container("root", 0x1000))?;
            let off = t.add(Region::container("off", 0x100).enabled(false))?;
            let inner = t.add(io("inner", 0x10))?;
            t.map(root, 0x100, off)?;
            t.map(off, 0x20, inner)?;
            Ok::<_, MemoryError>(root)
        })
        .and_then(|root| memory.address_space("s", root))
        .unwrap();
    let inner = "      0000000000000120-000000000000012f (prio 0, i/o): inner\n";
    let root = "address-space: s\n  0000000000000000-0000000000000fff (prio 0, i/o): root\n";
    assert_eq!(text(&memory, TREE), format!("{root}{inner}\n"));
    assert_eq!(
        text(&memory, Options { disabled: true, ..TREE }),
        format!("{root}    0000000000000100-00000000000001ff (prio 0, i/o): off [disabled]\n{inner}\n")
    );
}

#[test]
fn alias_targets_follow_once_each_and_the_types_are_those_at_the_end_of_the_chain() {
    let memory = bare();
    let root = memory
        .update(|t| {
            let root = t.add(Region::container("root", WHOLE))?;
            let ram = t.add(Region::sketch("ram", 0x1000, RegionType::Ram))?;
            let first = t.add(Region::alias("first", ram, 0x800, 0x1000))?;
            let second = t.add(Region::alias("second", first, 0, 0x400).enabled(false))?;
            let third = t.add(Region::alias("third", first, 0x10, 0x10))?;
            t.map(root, 0x1000, second)?;
            t.map(root, 0x2000, third)?;
            Ok::<_, MemoryError>(root)
        })
        .unwrap();
    memory.address_space("s", root).unwrap();
    // `first` is met through the disabled alias; it shows more than its target has.
    assert_eq!(
        text(&memory, TREE),
        "address-space: s\n  0000000000000000-ffffffffffffffff (prio 0, i/o): root\n    \
         0000000000002000-000000000000200f (prio 0, ram): alias third @first 0000000000000010-000000000000001f\n\n\
         memory-region: first\n  \
         0000000000000000-0000000000000fff (prio 0, ram): alias first @ram 0000000000000800-00000000000017ff\n\n\
         memory-region: ram\n  0000000000000000-0000000000000fff (prio 0, ram): ram\n\n"
    );
    assert!(text(&memory, Options { disabled: true, ..TREE }).contains(
        "    0000000000001000-00000000000013ff (prio 0, ram): alias second @first \
         0000000000000000-00000000000003ff [disabled]\n"
    ));
}

#[test]
fn a_region_that_wraps_is_marked_and_no_bytes_look_like_one() {
    let memory = bare();
    let root = memory
        .update(|t| {
            let root = t.add(Region::container("root", WHOLE))?;
            let wraps = t.add(io("wraps", 0x200))?;
            let empty = t.add(io("empty", 0))?;
            t.map(root, u64::MAX - 0xff, wraps)?;
            t.map(root, 0x40, empty)?;
            Ok::<_, MemoryError>(root)
        })
        .unwrap();
    memory.address_space("s", root).unwrap();
    let text = text(&memory, TREE);
    assert!(
        text.contains("\n[DETECTED OVERFLOW!]     ffffffffffffff00-00000000000000ff (prio 0, i/o): wraps\n"),
        "{text}"
    );
    assert!(text.contains("\n    0000000000000040-0000000000000040 (prio 0, i/o): empty\n"), "{text}");
}

#[test]
fn owners_parents_and_orphans_are_printed_with_o() {
    let memory = bare();
    let device = Owner::device("/machine/unattached/device[3]");
    let named = Owner::device_with_id("nic0", "/machine/peripheral/nic0");
    let object = Owner::object("/machine/unattached");
    let root = memory
        .update(|t| {
            let root = t.add(Region::container("root", 0x1000).parent(&object))?;
            let regions = [
                io("of-device", 0x10).owner(&device),
                io("of-named", 0x10).owner(&named).parent(&named),
                io("elsewhere", 0x10).owner(&device).parent(&object),
                io("orphan", 0x10).enabled(false),
            ];
            for (n, region) in (0..).zip(regions) {
                let region = t.add(region)?;
                t.map(root, n * 0x10, region)?;
            }
            Ok::<_, MemoryError>(root)
        })
        .unwrap();
    memory.address_space("s", root).unwrap();
    let both = Options { owner: true, disabled: true, ..TREE };
    assert_eq!(
        text(&memory, both),
        "address-space: s\n  0000000000000000-0000000000000fff (prio 0, i/o): root parent:{obj path=/machine/unattached}\n    \
         0000000000000000-000000000000000f (prio 0, i/o): of-device owner:{dev path=/machine/unattached/device[3]}\n    \
         0000000000000010-000000000000001f (prio 0, i/o): of-named owner:{dev id=nic0}\n    \
         0000000000000020-000000000000002f (prio 0, i/o): elsewhere owner:{dev path=/machine/unattached/device[3]} \
         parent:{obj path=/machine/unattached}\n    \
         0000000000000030-000000000000003f (prio 0, i/o): orphan [disabled] orphan\n\n"
    );
    assert!(
        text(&memory, Options { owner: true, ..FLAT })
            .contains("  0000000000000010-000000000000001f (prio 0, i/o): of-named owner:{dev id=nic0}\n")
    );
}

#[test]
fn views_are_numbered_shared_and_show_what_is_seen_through_aliases() {
    let memory = bare();
    memory
        .update(|t| {
            let system = t.add(Region::container("system", WHOLE))?;
            let ram = t.add(Region::sketch("ram", 0x1000, RegionType::Ram).nonvolatile(true))?;
            t.map_overlap(system, 0, ram, 3)?;
            let shadow = t.add(Region::alias("shadow", ram, 0x100, 0x100).readonly(true))?;
            t.map_overlap(system, 0x8000, shadow, 7)?;
            let whole = t.add(Region::alias("whole", system, 0, WHOLE))?;
            let nothing = t.add(Region::container("nothing", WHOLE))?;
            let off = t.add(Region::container("off", WHOLE).enabled(false))?;
            Ok::<_, MemoryError>([("cpu", system), ("none", nothing), ("dma", whole), ("dead", off)])
        })
        .and_then(|roots| {
            roots.iter().try_for_each(|(name, root)| memory.address_space(name, *root).map(drop))
        })
        .unwrap();
    assert_eq!(
        text(&memory, FLAT),
        "FlatView #0\n AS \"cpu\", root: system\n AS \"dma\", root: whole, alias system\n Root memory region: system\n  \
         0000000000000000-0000000000000fff (prio 3, nv-ram): ram\n  \
         0000000000008000-00000000000080ff (prio 3, nv-rom): ram @0000000000000100\n\n\
         FlatView #1\n AS \"none\", root: nothing\n AS \"dead\", root: off\n Root memory region: (none)\n  \
         No rendered FlatView\n\n"
    );
}

#[test]
fn dispatch_is_shown_with_d_and_only_where_there_is_some() {
    let memory = Memory::new(Endianness::Little);
    let text = text(&memory, Options { dispatch: true, ..FLAT });
    assert_eq!(text.matches("\n  Dispatch\n").count(), 1, "{text}");
    assert!(text.contains("  No rendered FlatView\n\n"), "{text}");
}

#[test]
fn a_range_that_an_accelerator_has_is_marked_once_for_each_space_in_which_it_has_it() {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::sketch("ram", 0x2000, RegionType::Ram)).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    let uart = memory.add(io("uart", 8)).unwrap();
    memory.map(memory.system(), 0x8000, uart).unwrap();
    let second = memory.address_space("smm", memory.system()).unwrap();
    memory.address_space("dma", memory.system()).unwrap();
    let spaces = [memory.memory_space().id(), second.id()];
    let has = |space, range: &flatview::FlatRange| spaces.contains(&space) && range.last() == 0x1fff;
    let document = write_accelerated(&memory, FLAT, &has).unwrap().to_string();
    assert!(document.contains(" (prio 0, ram): ram KVM KVM\n"), "{document}");
    assert!(document.contains(" (prio 0, i/o): uart\n"), "{document}");
    assert_eq!(Document::parse("written", document.as_bytes()).unwrap().to_string(), document);
    assert!(!text(&memory, FLAT).contains("KVM"));
    let tree = write_accelerated(&memory, TREE, &has).unwrap().to_string();
    assert!(!tree.contains("KVM"), "{tree}");
}
