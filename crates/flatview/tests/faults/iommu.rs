//! Faults of accesses through IOMMUs, of what is remembered of translations, and of what is told of them.

use super::list::Fault;

const fn fault(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, file, from, to, tests: &["iommu"] }
}

pub const FAULTS: &[Fault] = &[
    // The way of an access.
    fault(
        "an IOMMU that allows anything allows everything",
        "access/translate.rs",
        "entry.perm.contains(purpose.needs)",
        "!entry.perm.is_none()",
    ),
    fault(
        "the address of a page of an IOMMU is not that of its first byte",
        "access/translate.rs",
        "(address & !page) | (offset & page)",
        "address | (offset & page)",
    ),
    fault(
        "a page of a second IOMMU does not end",
        "access/translate.rs",
        "room = room.min(next.room());",
        "room = room.min(next.room().max(room));",
    ),
    fault(
        "an access goes on through an IOMMU behind the end of its range",
        "access/translate.rs",
        "(range.room(addr).min(onward.room()), onward.page)",
        "(onward.room(), onward.page)",
    ),
    fault(
        "seventeen IOMMUs are followed",
        "access/translate.rs",
        ">= Self::MAX_IOMMUS",
        "> Self::MAX_IOMMUS",
    ),
    fault(
        "an access of memory goes on over the end of an IOMMU's page",
        "access/translate.rs",
        "self.room >= u64::from(size)",
        "self.room >= u64::from(size) / 2",
    ),
    fault(
        "what is denied by an IOMMU is denied for all that is left",
        "access/translate.rs",
        "Wanted::UpTo(_) if denied => {",
        "Wanted::UpTo(_) if denied && size_of_val(&offset) == 0 => {",
    ),
    fault(
        "a look through an IOMMU is an access",
        "access/translate.rs",
        "asks: IommuAccess::Look, needs: IommuPerm::READ",
        "asks: IommuAccess::Read, needs: IommuPerm::READ",
    ),
    fault(
        "a store that reaches past ROM behind an IOMMU is dropped",
        "access/translate.rs",
        "range.drops_stores() && range.room(end.address) >= u64::from(V::SIZE)",
        "range.drops_stores()",
    ),
    // What is remembered.
    fault(
        "an IOMMU's translations are never forgotten",
        "iommu/cache.rs",
        "            && line.generation == generation\n",
        "",
    ),
    fault(
        "an IOMMU's translation from before an invalidation is remembered after it",
        "access/translate.rs",
        "iotlb.keep(&key, offset, generation, &target",
        "iotlb.keep(&key, offset, iommu.handle.generation(), &target",
    ),
    fault(
        "an IOMMU's translation for a read is good for a write",
        "access/translate.rs",
        "write: purpose.writes() };",
        "write: false };",
    ),
    fault(
        "an IOMMU's translation of another page is taken",
        "iommu/cache.rs",
        "            && offset & !line.mask == line.first;",
        "            && offset >> 40 == line.first >> 40;",
    ),
    // What is told.
    fault(
        "a notifier of another table of an IOMMU is told",
        "iommu/handle.rs",
        "n.index == index && n.wants(event.kind)",
        "n.wants(event.kind)",
    ),
    fault(
        "an IOMMU's notifier gets what is outside of its range",
        "iommu/handle.rs",
        "(n.tell)(&event.cropped(n.start, n.last));",
        "(n.tell)(event);",
    ),
    fault(
        "a notifier that an IOMMU cannot serve is added",
        "iommu/handle.rs",
        "Err(error) if !leaves =>",
        "Err(error) if leaves =>",
    ),
    fault(
        "a large page of an IOMMU is told of again and again",
        "iommu/replay.rs",
        "let last = (at | entry.page()).max(",
        "let last = at.max(",
    ),
];
