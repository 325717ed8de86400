//! Hearing of what changes in an IOMMU's table.
//!
//! | edge (QEMU) | test |
//! |---|---|
//! | events, the last notifier first, by index and kind | `notifiers_hear_of_their_kind_of_events_of_their_table` |
//! | a device-IOTLB event is cropped | `a_device_iotlb_notifier_gets_the_part_in_its_range` |
//! | others must be contained (QEMU: an assertion) | `an_event_over_the_end_of_a_notifiers_range_is_an_error_and_told_to_nobody` |
//! | UNMAP has no permission (QEMU: an assertion) | `what_is_unmapped_has_no_permissions` |
//! | a mask that wraps | `an_event_that_wraps_is_an_error` |
//! | the end of 2^64 | `the_last_page_there_is_can_be_told_of` |
//! | `notify_flag_changed`, rolled back | `a_device_that_cannot_tell_keeps_the_notifier_out` |
//! | bad notifiers (QEMU: assertions) | `a_notifier_that_could_never_be_told_is_an_error` |
//! | through an alias | `a_notifier_of_an_alias_is_its_targets` |
//! | replay walks by the smallest page | `a_replay_tells_of_all_that_is_mapped_in_the_range` |
//! | … with a guard at 2^64 | `a_replay_of_everything_ends_at_the_last_page` |
//! | … and is the device's to do better | `a_device_may_replay_by_itself` |
//! | unmap of a notifier's whole range | `unmap_all_tells_each_notifier_of_its_own_range` |
//! | a listener that passes devices through | `a_listener_follows_an_iommu_from_its_section_on` |
//! | no lock is held | `a_notifier_may_access_memory_and_change_notifiers` |

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use flatview::*;

use crate::table::{Table, block, map};

const PAGE: u64 = 0x1000;

type Told = (IommuEventKind, u64, u64, u64, IommuPerm);

/// What a notifier was told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Told>>>);

impl Heard {
    fn notifier(&self, events: IommuEvents) -> IommuNotifier {
        let heard = Arc::clone(&self.0);
        IommuNotifier::new(events, move |e| {
            heard.lock().unwrap().push((e.kind, e.iova, e.mask, e.address, e.perm));
        })
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

use IommuEventKind::{DeviceIotlbUnmap, Map, Unmap};
const NONE: IommuPerm = IommuPerm::NONE;
const RW: IommuPerm = IommuPerm::READ_WRITE;

fn machine(size: u128) -> (Memory, Arc<Table>, RegionId) {
    let memory = Memory::new(Endianness::Little);
    map(&memory, memory.system(), 0, Region::ram("ram", block(0x10_0000)));
    let table = Table::with_indexes(&memory.memory_space(), PAGE, 2, |attrs| u32::from(attrs.secure));
    let id = memory.add(Region::iommu("iommu", size, Arc::clone(&table))).unwrap();
    (memory, table, id)
}

fn entry(memory: &Memory, address: u64) -> IommuEntry {
    IommuEntry::new(&memory.memory_space().downgrade(), address, PAGE - 1, RW)
}

#[test]
fn notifiers_hear_of_their_kind_of_events_of_their_table() {
    let (memory, _, id) = machine(0x10_0000);
    let order = Arc::new(Mutex::new(Vec::new()));
    let add = |name: &'static str, events, index| {
        let order = Arc::clone(&order);
        let notifier = IommuNotifier::new(events, move |e| order.lock().unwrap().push((name, e.kind)));
        memory.add_iommu_notifier(id, notifier.index(index)).unwrap()
    };
    let first = add("first", IommuEvents::UNMAP, 0);
    add("second", IommuEvents::UNMAP | IommuEvents::MAP, 0);
    add("of table 1", IommuEvents::UNMAP | IommuEvents::MAP, 1);
    add("device", IommuEvents::DEVICE_IOTLB_UNMAP, 0);
    let iommu = memory.iommu(id).unwrap();
    let take = || std::mem::take(&mut *order.lock().unwrap());

    iommu.notify(0, &IommuEvent::unmap(0x1000, PAGE - 1)).unwrap();
    assert_eq!(take(), [("second", Unmap), ("first", Unmap)]);
    iommu.notify(0, &IommuEvent::map(0x1234, &entry(&memory, 0x5000))).unwrap();
    assert_eq!(take(), [("second", Map)]);
    iommu.notify(1, &IommuEvent::map(0x1234, &entry(&memory, 0x5000))).unwrap();
    assert_eq!(take(), [("of table 1", Map)]);
    iommu.notify(0, &IommuEvent::device_iotlb_unmap(0x1000, PAGE - 1)).unwrap();
    assert_eq!(take(), [("device", DeviceIotlbUnmap)]);
    memory.remove_iommu_notifier(first).unwrap();
    iommu.notify(0, &IommuEvent::unmap(0x1000, PAGE - 1)).unwrap();
    assert_eq!(take(), [("second", Unmap)]);
    assert_eq!(memory.remove_iommu_notifier(first), Err(MemoryError::StaleIommuNotifier));
    assert_eq!(memory.replay_iommu(first), Err(MemoryError::StaleIommuNotifier));
}

#[test]
fn a_device_iotlb_notifier_gets_the_part_in_its_range() {
    let (memory, _, id) = machine(0x10_0000);
    let heard = Heard::default();
    let both = IommuEvents::DEVICE_IOTLB_UNMAP | IommuEvents::MAP;
    memory.add_iommu_notifier(id, heard.notifier(both).range(0x2800, 0x57ff)).unwrap();
    let iommu = memory.iommu(id).unwrap();
    for (iova, mask, part) in [
        (0x0000, 0x27ff, None),
        (0x0000, 0x2800, Some((0x2800, 0))),
        (0x0000, 0x3fff, Some((0x2800, 0x17ff))),
        (0x3000, 0x0fff, Some((0x3000, 0xfff))),
        (0x5000, 0x0fff, Some((0x5000, 0x7ff))),
        (0x0000, u64::MAX, Some((0x2800, 0x2fff))),
        (0x5800, 0x0fff, None),
    ] {
        iommu.notify(0, &IommuEvent::device_iotlb_unmap(iova, mask)).unwrap();
        let part = part.map(|(iova, mask)| (DeviceIotlbUnmap, iova, mask, 0, NONE));
        assert_eq!(heard.take(), part.into_iter().collect::<Vec<_>>(), "{iova:#x}, {mask:#x}");
    }
    // Such a notifier gets parts of everything: what is mapped moves along.
    iommu.notify(0, &IommuEvent::map(0x2000, &entry(&memory, 0x9000))).unwrap();
    assert_eq!(heard.take(), [(Map, 0x2800, 0x7ff, 0x9800, RW)]);
}

#[test]
fn an_event_over_the_end_of_a_notifiers_range_is_an_error_and_told_to_nobody() {
    let (memory, _, id) = machine(0x10_0000);
    let (heard, others) = (Heard::default(), Heard::default());
    memory.add_iommu_notifier(id, heard.notifier(IommuEvents::UNMAP).range(0x2000, 0x3fff)).unwrap();
    memory.add_iommu_notifier(id, others.notifier(IommuEvents::UNMAP)).unwrap();
    let iommu = memory.iommu(id).unwrap();
    for (iova, mask) in [(0x1000, 0x1fff), (0x3000, 0x1fff), (0, u64::MAX), (0x3fff, 1), (0x1fff, 1)] {
        let error = iommu.notify(0, &IommuEvent::unmap(iova, mask)).unwrap_err();
        let MemoryError::BadIommuEvent { name, iova: at, mask: size, .. } = &error else { panic!("{error}") };
        assert_eq!((&**name, *at, *size), ("iommu", iova, mask));
        assert!(error.to_string().contains("tell of the part inside and of the rest"), "{error}");
        assert_eq!((heard.take(), others.take()), (vec![], vec![]));
    }
    for (iova, mask, inside) in [(0x1000, 0xfff, false), (0x2000, 0x1fff, true), (0x4000, 0xfff, false)] {
        iommu.notify(0, &IommuEvent::unmap(iova, mask)).unwrap();
        let told = [(Unmap, iova, mask, 0, NONE)];
        assert_eq!(heard.take(), told[..usize::from(inside)]);
        assert_eq!(others.take(), told);
    }
}

#[test]
fn what_is_unmapped_has_no_permissions() {
    let (memory, _, id) = machine(0x10_0000);
    let heard = Heard::default();
    let all = IommuEvents::UNMAP | IommuEvents::DEVICE_IOTLB_UNMAP | IommuEvents::MAP;
    memory.add_iommu_notifier(id, heard.notifier(all)).unwrap();
    let iommu = memory.iommu(id).unwrap();
    for perm in [IommuPerm::READ, IommuPerm::WRITE, RW] {
        for event in [IommuEvent::unmap(0, PAGE - 1), IommuEvent::device_iotlb_unmap(0, PAGE - 1)] {
            let error = iommu.notify(0, &IommuEvent { perm, ..event }).unwrap_err();
            assert!(error.to_string().contains("what is unmapped has no permissions"), "{error}");
        }
    }
    assert_eq!(heard.take(), []);
}

#[test]
fn an_event_that_wraps_is_an_error() {
    let (memory, _, id) = machine(WHOLE);
    let heard = Heard::default();
    memory.add_iommu_notifier(id, heard.notifier(IommuEvents::DEVICE_IOTLB_UNMAP)).unwrap();
    let iommu = memory.iommu(id).unwrap();
    for (iova, mask) in [(1, u64::MAX), (u64::MAX, 1), (u64::MAX - 0xffe, 0xfff)] {
        let event = IommuEvent::device_iotlb_unmap(iova, mask);
        assert_eq!(event.last(), None);
        assert!(matches!(iommu.notify(0, &event), Err(MemoryError::BadIommuEvent { .. })));
    }
    assert_eq!(heard.take(), []);
}

#[test]
fn the_last_page_there_is_can_be_told_of() {
    let (memory, _, id) = machine(WHOLE);
    let heard = Heard::default();
    memory.add_iommu_notifier(id, heard.notifier(IommuEvents::UNMAP)).unwrap();
    let iommu = memory.iommu(id).unwrap();
    for (iova, mask) in [(u64::MAX - 0xfff, 0xfff), (u64::MAX, 0), (0, u64::MAX)] {
        iommu.notify(0, &IommuEvent::unmap(iova, mask)).unwrap();
        assert_eq!(heard.take(), [(Unmap, iova, mask, 0, NONE)]);
    }
}

/// A device that can tell of some events only, and counts what it is told.
struct Picky {
    can: IommuEvents,
    told: Mutex<Vec<(IommuEvents, IommuEvents)>>,
    always_refuses: AtomicBool,
}

impl IommuOps for Picky {
    fn translate(&self, _: &IommuRequest<'_>) -> IommuEntry {
        IommuEntry::denied(0)
    }

    fn events_changed(&self, old: IommuEvents, new: IommuEvents) -> Result<(), IommuError> {
        self.told.lock().unwrap().push((old, new));
        if !self.can.contains(new) || self.always_refuses.load(Ordering::Relaxed) {
            return Err(IommuError::new("switch caching-mode on"));
        }
        Ok(())
    }
}

#[test]
fn a_device_that_cannot_tell_keeps_the_notifier_out() {
    const UNMAP: IommuEvents = IommuEvents::UNMAP;
    let memory = Memory::new(Endianness::Little);
    let device = Arc::new(Picky {
        can: UNMAP | IommuEvents::DEVICE_IOTLB_UNMAP,
        told: Mutex::default(),
        always_refuses: AtomicBool::new(false),
    });
    let id = memory.add(Region::iommu("picky", WHOLE, Arc::clone(&device))).unwrap();
    let iommu = memory.iommu(id).unwrap();
    let take = || std::mem::take(&mut *device.told.lock().unwrap());
    let heard = Heard::default();

    let first = memory.add_iommu_notifier(id, heard.notifier(UNMAP)).unwrap();
    assert_eq!(take(), [(IommuEvents::NONE, UNMAP)]);
    // The same again is no change.
    let second = memory.add_iommu_notifier(id, heard.notifier(UNMAP)).unwrap();
    assert_eq!(take(), []);
    let error = memory.add_iommu_notifier(id, heard.notifier(IommuEvents::MAP)).unwrap_err();
    let reason = "switch caching-mode on".into();
    assert_eq!(error, MemoryError::IommuRefused { name: "picky".into(), reason });
    assert_eq!(error.to_string(), "IOMMU 'picky' cannot serve this notifier: switch caching-mode on");
    assert_eq!(take(), [(UNMAP, UNMAP | IommuEvents::MAP)]);
    assert_eq!(iommu.events(), UNMAP, "as before");
    iommu.notify(0, &IommuEvent::map(0, &IommuEntry::denied(0))).unwrap();
    assert_eq!(heard.take(), [], "it is not there");
    // It is told from what to what, and not of the one that was refused.
    let device_iotlb = heard.notifier(IommuEvents::DEVICE_IOTLB_UNMAP);
    let third = memory.add_iommu_notifier(id, device_iotlb).unwrap();
    assert_eq!(take(), [(UNMAP, UNMAP | IommuEvents::DEVICE_IOTLB_UNMAP)]);
    memory.remove_iommu_notifier(third).unwrap();
    memory.remove_iommu_notifier(first).unwrap();
    assert_eq!(take(), [(UNMAP | IommuEvents::DEVICE_IOTLB_UNMAP, UNMAP)]);
    // Who goes, goes.
    device.always_refuses.store(true, Ordering::Relaxed);
    memory.remove_iommu_notifier(second).unwrap();
    assert_eq!(take(), [(UNMAP, IommuEvents::NONE)]);
    assert_eq!(iommu.events(), IommuEvents::NONE);
}

#[test]
fn a_notifier_that_could_never_be_told_is_an_error() {
    let (memory, _, id) = machine(0x10_0000);
    let heard = Heard::default();
    let unmap = || heard.notifier(IommuEvents::UNMAP);
    for (notifier, why) in [
        (heard.notifier(IommuEvents::NONE), "it wants to hear of nothing"),
        (unmap().range(0x1000, 0xfff), "its range ends before it begins"),
        (unmap().index(2), "no table of that index"),
    ] {
        let error = memory.add_iommu_notifier(id, notifier).unwrap_err();
        assert!(matches!(&error, MemoryError::BadIommuNotifier { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let io = memory.add(Region::reservation("io", 8)).unwrap();
    let error = memory.add_iommu_notifier(io, unmap()).unwrap_err();
    assert_eq!(error, MemoryError::NotIommu { name: "io".into() });
    assert!(matches!(memory.iommu(io), Err(MemoryError::NotIommu { .. })));
    let added = memory.add_iommu_notifier(id, unmap()).unwrap();
    memory.update(|t| t.remove(id)).unwrap();
    assert_eq!(memory.add_iommu_notifier(id, unmap()), Err(MemoryError::StaleRegion { id }));
    assert_eq!(memory.remove_iommu_notifier(added), Err(MemoryError::StaleRegion { id }));
}

#[test]
fn a_notifier_of_an_alias_is_its_targets() {
    let (memory, _, id) = machine(0x10_0000);
    let alias = memory.add(Region::alias("alias", id, 0x4000, 0x1000)).unwrap();
    let alias = memory.add(Region::alias("alias of the alias", alias, 0, 0x1000)).unwrap();
    let heard = Heard::default();
    let added = memory.add_iommu_notifier(alias, heard.notifier(IommuEvents::UNMAP)).unwrap();
    memory.iommu(alias).unwrap().notify(0, &IommuEvent::unmap(0x4000, 0xfff)).unwrap();
    memory.iommu(id).unwrap().notify(0, &IommuEvent::unmap(0x9000, 0xfff)).unwrap();
    assert_eq!(heard.take(), [(Unmap, 0x4000, 0xfff, 0, NONE), (Unmap, 0x9000, 0xfff, 0, NONE)]);
    memory.remove_iommu_notifier(added).unwrap();
}

#[test]
fn a_replay_tells_of_all_that_is_mapped_in_the_range() {
    let (memory, table, id) = machine(0x8000);
    table.map(0x0000, 0x9000, IommuPerm::READ);
    table.map(0x3000, 0x1000, IommuPerm::WRITE);
    table.map(0x4000, 0x2000, RW);
    table.map(0x6000, 0x3000, RW);
    table.map(0x9000, 0x4000, RW);
    table.map_index(1, 0x2000, 0x5000, RW);
    let heard = Heard::default();
    let map = IommuEvents::MAP | IommuEvents::UNMAP;
    let whole = memory.add_iommu_notifier(id, heard.notifier(map)).unwrap();
    let part = memory.add_iommu_notifier(id, heard.notifier(map).range(0x3800, 0x4fff)).unwrap();
    let behind = memory.add_iommu_notifier(id, heard.notifier(map).range(0x8000, 0x9fff)).unwrap();
    let second = memory.add_iommu_notifier(id, heard.notifier(map).index(1)).unwrap();
    let deaf = memory.add_iommu_notifier(id, heard.notifier(IommuEvents::UNMAP)).unwrap();
    assert_eq!(heard.take(), [], "adding tells nothing");

    memory.replay_iommu(whole).unwrap();
    let all = [
        (Map, 0x0000, 0xfff, 0x9000, IommuPerm::READ),
        (Map, 0x3000, 0xfff, 0x1000, IommuPerm::WRITE),
        (Map, 0x4000, 0xfff, 0x2000, RW),
        (Map, 0x6000, 0xfff, 0x3000, RW),
    ];
    assert_eq!(heard.take(), all, "up to the region's end");
    let asked = table.take_asked();
    assert!(asked.iter().all(|(_, access, index)| (*access, *index) == (IommuAccess::Look, 0)));
    assert_eq!(asked.len(), 8);
    memory.replay_iommu(part).unwrap();
    assert_eq!(heard.take(), [(Map, 0x3800, 0x7ff, 0x1800, IommuPerm::WRITE), all[2]]);
    memory.replay_iommu(second).unwrap();
    assert_eq!(heard.take(), [(Map, 0x2000, 0xfff, 0x5000, RW)]);
    for nothing in [behind, deaf] {
        memory.replay_iommu(nothing).unwrap();
        assert_eq!(heard.take(), []);
    }
}

/// Pages of 2^62 bytes by its own account; the third is one of a larger page.
struct Huge(WeakSpace, Mutex<Vec<u64>>);

impl IommuOps for Huge {
    fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
        self.1.lock().unwrap().push(request.offset());
        match request.offset() >> 62 {
            0 => IommuEntry::denied(0),
            1 => IommuEntry::new(&self.0, 0x1000, 0xfff, IommuPerm::READ),
            _ => IommuEntry::new(&self.0, 0, (1 << 63) - 1, RW),
        }
    }

    fn min_page_size(&self) -> u64 {
        1 << 62
    }
}

#[test]
fn a_replay_of_everything_ends_at_the_last_page() {
    let memory = Memory::new(Endianness::Little);
    let device = Arc::new(Huge(memory.memory_space().downgrade(), Mutex::default()));
    let id = memory.add(Region::iommu("huge", WHOLE, Arc::clone(&device))).unwrap();
    let heard = Heard::default();
    let notifier = memory.add_iommu_notifier(id, heard.notifier(IommuEvents::MAP)).unwrap();
    memory.replay_iommu(notifier).unwrap();
    let high = (Map, 1 << 63, (1 << 63) - 1, 0, RW);
    assert_eq!(heard.take(), [(Map, 1 << 62, 0xfff, 0x1000, IommuPerm::READ), high]);
    // A large page is told of, and asked for, once.
    assert_eq!(std::mem::take(&mut *device.1.lock().unwrap()), [0, 1 << 62, 1 << 63]);

    // What says that nothing is mapped far around is passed over.
    let (memory, table, id) = machine(WHOLE);
    struct Sparse(Arc<Table>);
    impl IommuOps for Sparse {
        fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
            let entry = self.0.translate(request);
            let low = request.offset() < 0x10_0000;
            let aligned_to = request.offset() & request.offset().wrapping_neg();
            if entry.perm.is_none() && !low { IommuEntry::denied(aligned_to - 1) } else { entry }
        }
    }
    table.map(0x5000, 0x1000, RW);
    let sparse = memory.add(Region::iommu("sparse", WHOLE, Sparse(table))).unwrap();
    let notifier = memory.add_iommu_notifier(id, heard.notifier(IommuEvents::MAP).range(0, 0xffff)).unwrap();
    memory.replay_iommu(notifier).unwrap();
    assert_eq!(heard.take(), [(Map, 0x5000, 0xfff, 0x1000, RW)]);
    let notifier = memory.add_iommu_notifier(sparse, heard.notifier(IommuEvents::MAP)).unwrap();
    memory.replay_iommu(notifier).unwrap();
    assert_eq!(heard.take(), [(Map, 0x5000, 0xfff, 0x1000, RW)]);
}

#[test]
fn a_device_may_replay_by_itself() {
    struct Own(WeakSpace);
    impl IommuOps for Own {
        fn translate(&self, _: &IommuRequest<'_>) -> IommuEntry {
            panic!("nobody asks")
        }
        fn replay(&self, replay: &IommuReplay<'_>) {
            assert_eq!((replay.start(), replay.last(), replay.index()), (0x1800, 0xffff, 0));
            for iova in [0, 0x1000, 0x8000, 0x1_0000] {
                replay.tell(&IommuEvent::map(iova, &IommuEntry::new(&self.0, 0x20_0000 + iova, 0xfff, RW)));
            }
            replay.tell(&IommuEvent::unmap(0x9000, 0xfff));
        }
    }
    let memory = Memory::new(Endianness::Little);
    let own = Own(memory.memory_space().downgrade());
    let id = memory.add(Region::iommu("own", 0x1_0000, own)).unwrap();
    let heard = Heard::default();
    let range = heard.notifier(IommuEvents::MAP).range(0x1800, u64::MAX);
    let notifier = memory.add_iommu_notifier(id, range).unwrap();
    memory.replay_iommu(notifier).unwrap();
    assert_eq!(heard.take(), [(Map, 0x1800, 0x7ff, 0x20_1800, RW), (Map, 0x8000, 0xfff, 0x20_8000, RW)]);
}

#[test]
fn unmap_all_tells_each_notifier_of_its_own_range() {
    let (memory, _, id) = machine(0x10_0000);
    let (low, high, device, map) = (Heard::default(), Heard::default(), Heard::default(), Heard::default());
    for notifier in [
        low.notifier(IommuEvents::UNMAP | IommuEvents::MAP).range(0, 0x7fff),
        high.notifier(IommuEvents::UNMAP).range(0x8000, u64::MAX).index(1),
        device.notifier(IommuEvents::DEVICE_IOTLB_UNMAP).range(0x100, 0x1ff),
        map.notifier(IommuEvents::MAP),
    ] {
        memory.add_iommu_notifier(id, notifier).unwrap();
    }
    memory.iommu(id).unwrap().unmap_all();
    assert_eq!(low.take(), [(Unmap, 0, 0x7fff, 0, NONE)]);
    assert_eq!(high.take(), [(Unmap, 0x8000, u64::MAX - 0x8000, 0, NONE)]);
    assert_eq!(device.take(), [(DeviceIotlbUnmap, 0x100, 0xff, 0, NONE)]);
    assert_eq!(map.take(), []);
}

/// As vfio does: a shadow of all that devices behind IOMMUs can reach.
struct PassThrough {
    memory: WeakMemory,
    space: SpaceId,
    heard: Heard,
    notifiers: Mutex<Vec<(u64, IommuNotifierId)>>,
}

impl MemoryListener for PassThrough {
    fn name(&self) -> &str {
        "pass-through"
    }

    fn space(&self) -> Option<SpaceId> {
        Some(self.space)
    }

    fn region_add(&self, section: &Section) -> Result<(), ListenerError> {
        if !section.is_iommu() {
            return Ok(());
        }
        let memory = self.memory.upgrade().ok_or_else(|| ListenerError::new("the memory is gone"))?;
        let last = section.offset_in_region + (section.last() - section.offset_in_space);
        let notifier = self.heard.notifier(IommuEvents::MAP | IommuEvents::UNMAP);
        let notifier = notifier.range(section.offset_in_region, last);
        let id = memory.add_iommu_notifier(section.region, notifier).map_err(ListenerError::new)?;
        memory.replay_iommu(id).map_err(ListenerError::new)?;
        self.notifiers.lock().unwrap().push((section.offset_in_space, id));
        Ok(())
    }

    fn region_del(&self, section: &Section) -> Result<(), ListenerError> {
        let mut notifiers = self.notifiers.lock().unwrap();
        let at = notifiers.iter().position(|(at, _)| section.is_iommu() && *at == section.offset_in_space);
        if let (Some(at), Some(memory)) = (at, self.memory.upgrade()) {
            memory.remove_iommu_notifier(notifiers.swap_remove(at).1).map_err(ListenerError::new)?;
        }
        Ok(())
    }
}

#[test]
fn a_listener_follows_an_iommu_from_its_section_on() {
    let (memory, table, id) = machine(0x10_0000);
    let root = memory.add(Region::container("bus", WHOLE)).unwrap();
    let space = memory.address_space("dma", root).unwrap();
    let listener = Arc::new(PassThrough {
        memory: memory.downgrade(),
        space: space.id(),
        heard: Heard::default(),
        notifiers: Mutex::default(),
    });
    memory.add_listener(Arc::clone(&listener) as Arc<dyn MemoryListener>).unwrap();
    table.map(0x1000, 0x9000, RW);
    memory.map(root, 0x100_0000, id).unwrap();
    assert_eq!(listener.heard.take(), [(Map, 0x1000, 0xfff, 0x9000, RW)]);
    let iommu = memory.iommu(id).unwrap();
    iommu.notify(0, &IommuEvent::unmap(0x1000, 0xfff)).unwrap();
    assert_eq!(listener.heard.take(), [(Unmap, 0x1000, 0xfff, 0, NONE)]);
    // Something lies over the middle: two sections, two notifiers.
    let window = memory.add(Region::reservation("window", 0x1000)).unwrap();
    memory.update(|t| t.map_overlap(root, 0x100_4000, window, 1)).unwrap();
    assert_eq!(listener.notifiers.lock().unwrap().len(), 2);
    listener.heard.take();
    iommu.notify(0, &IommuEvent::unmap(0x5000, 0xfff)).unwrap();
    assert_eq!(listener.heard.take(), [(Unmap, 0x5000, 0xfff, 0, NONE)], "one of the two");
    assert!(iommu.notify(0, &IommuEvent::unmap(0x3000, 0x1fff)).is_err());
    memory.update(|t| t.unmap(root, id)).unwrap();
    assert_eq!((listener.notifiers.lock().unwrap().len(), iommu.events()), (0, IommuEvents::NONE));
}

#[test]
fn a_notifier_may_access_memory_and_change_notifiers() {
    let (memory, table, id) = machine(0x10_0000);
    table.map(0, 0x3000, RW);
    let space = memory.address_space("dma", id).unwrap();
    let (weak, own) = (memory.downgrade(), Arc::new(Mutex::new(None)));
    let mine = Arc::clone(&own);
    let reader = Mutex::new(space.reader());
    let seen = Heard::default();
    let heard = seen.clone();
    let notifier = IommuNotifier::new(IommuEvents::UNMAP, move |event| {
        // It sees the table as it is now, changes the map and takes itself away.
        let memory = weak.upgrade().unwrap();
        reader.lock().unwrap().load::<Le, u8>(event.iova).unwrap_err();
        memory.add(Region::reservation("made by a notifier", 8)).unwrap();
        memory.add_iommu_notifier(id, heard.notifier(IommuEvents::UNMAP)).unwrap();
        let own = mine.lock().unwrap().take();
        own.map_or(Ok(()), |own| memory.remove_iommu_notifier(own)).unwrap();
    });
    *own.lock().unwrap() = Some(memory.add_iommu_notifier(id, notifier).unwrap());
    let regions = memory.regions().len();
    assert_eq!(space.reader().load::<Le, u8>(0), Ok(0));
    table.unmap(0);
    let iommu = memory.iommu(id).unwrap();
    iommu.notify(0, &IommuEvent::unmap(0, 0xfff)).unwrap();
    assert_eq!((memory.regions().len(), seen.take()), (regions + 1, vec![]));
    iommu.notify(0, &IommuEvent::unmap(0, 0xfff)).unwrap();
    assert_eq!(seen.take(), [(Unmap, 0, 0xfff, 0, NONE)]);
}

#[test]
fn a_device_that_is_told_of_notifiers_cannot_change_them() {
    struct Eager(WeakMemory, Mutex<Vec<MemoryError>>, Mutex<Option<RegionId>>);
    impl IommuOps for Eager {
        fn translate(&self, _: &IommuRequest<'_>) -> IommuEntry {
            IommuEntry::denied(0)
        }
        fn events_changed(&self, _: IommuEvents, _: IommuEvents) -> Result<(), IommuError> {
            let memory = self.0.upgrade().unwrap();
            let id = self.2.lock().unwrap().unwrap();
            let again = memory.add_iommu_notifier(id, IommuNotifier::new(IommuEvents::MAP, |_| ()));
            self.1.lock().unwrap().extend(again.err());
            Ok(())
        }
    }
    let memory = Memory::new(Endianness::Little);
    let device = Arc::new(Eager(memory.downgrade(), Mutex::default(), Mutex::default()));
    let id = memory.add(Region::iommu("eager", WHOLE, Arc::clone(&device))).unwrap();
    *device.2.lock().unwrap() = Some(id);
    memory.add_iommu_notifier(id, IommuNotifier::new(IommuEvents::UNMAP, |_| ())).unwrap();
    assert_eq!(*device.1.lock().unwrap(), [MemoryError::IommuBusy { name: "eager".into() }]);
    assert_eq!(memory.iommu(id).unwrap().events(), IommuEvents::UNMAP);
}
