//! The soft TLB: which pages the guest may touch, and where they are in its physical memory.
//!
//! What it is: a small table for each of a guest's MMUs, asked before every access with one comparison that also finds
//! misaligned addresses. What it is not: the guest's own TLB or page table, which fills it; nor a way into host memory,
//! which is the [`Reader`](flatview::Reader)'s, so nothing here is stale when the memory map changes. What must always
//! hold: an entry gives the guest nothing that its MMU would not give it now; who changes what the MMU says flushes.

/// The size of a page here, as a power of two. Larger pages of the guest take several entries.
pub const PAGE_BITS: u32 = 12;
/// Its size in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_BITS;
/// Entries for each MMU.
const ENTRIES: usize = 256;
/// MMUs of a guest.
pub const MMUS: usize = 4;
/// What no address looks like.
const NONE: u64 = u64::MAX;

/// What an access is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction.
    Fetch,
}

/// What a guest's MMU says of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address of the byte that was asked for.
    pub phys: u64,
    /// Whether loads are allowed.
    pub read: bool,
    /// Whether stores are allowed, and the MMU need not be told of the first one.
    pub write: bool,
    /// Whether instructions may be fetched.
    pub fetch: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    read: u64,
    write: u64,
    /// From guest virtual to guest physical, added.
    delta: u64,
}

impl Entry {
    const EMPTY: Self = Self { read: NONE, write: NONE, delta: 0 };
}

/// The table.
#[derive(Debug)]
pub(crate) struct Tlb(Box<[[Entry; ENTRIES]; MMUS]>);

impl Tlb {
    pub fn new() -> Self {
        Self(Box::new([[Entry::EMPTY; ENTRIES]; MMUS]))
    }

    /// The entry for an address. Programs like to work on two places a power of two apart: the higher bits are mixed in.
    #[inline(always)]
    fn index(va: u64) -> usize {
        ((va >> PAGE_BITS) ^ (va >> (PAGE_BITS + ENTRIES.ilog2()))) as usize % ENTRIES
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "both indexes are remainders")]
    fn entry(&self, mmu: u8, va: u64) -> &Entry {
        &self.0[usize::from(mmu) % MMUS][Self::index(va)]
    }

    /// What a tag of the page looks like; it differs if the address is not a multiple of the (power of two) size.
    #[inline(always)]
    fn tag(va: u64, size: u8) -> u64 {
        va & (!(PAGE_SIZE - 1) | u64::from(size).wrapping_sub(1))
    }

    /// The physical address of an aligned load that is known to be allowed.
    #[inline(always)]
    pub fn read(&self, mmu: u8, va: u64, size: u8) -> Option<u64> {
        let entry = self.entry(mmu, va);
        (entry.read == Self::tag(va, size)).then(|| va.wrapping_add(entry.delta))
    }

    /// The physical address of an aligned store that is known to be allowed.
    #[inline(always)]
    pub fn write(&self, mmu: u8, va: u64, size: u8) -> Option<u64> {
        let entry = self.entry(mmu, va);
        (entry.write == Self::tag(va, size)).then(|| va.wrapping_add(entry.delta))
    }

    /// Remembers a page; `write` if stores may go by without another look.
    pub fn fill(&mut self, mmu: u8, va: u64, mapping: &Mapping, write: bool) {
        let page = va & !(PAGE_SIZE - 1);
        let Some(entry) =
            self.0.get_mut(usize::from(mmu) % MMUS).and_then(|table| table.get_mut(Self::index(va)))
        else {
            return;
        };
        *entry = Entry {
            read: if mapping.read { page } else { NONE },
            write: if mapping.write && write { page } else { NONE },
            delta: mapping.phys.wrapping_sub(va),
        };
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        *self.0 = [[Entry::EMPTY; ENTRIES]; MMUS];
    }

    /// Forgets a page of all MMUs.
    pub fn flush_page(&mut self, va: u64) {
        for table in self.0.iter_mut() {
            if let Some(entry) = table.get_mut(Self::index(va)) {
                *entry = Entry::EMPTY;
            }
        }
    }

    /// Forgets the pages that overlap a range of physical addresses.
    pub fn forget_physical(&mut self, first: u64, last: u64) {
        let first = first & !(PAGE_SIZE - 1);
        for entry in self.0.iter_mut().flatten() {
            let page = if entry.read == NONE { entry.write } else { entry.read };
            if page != NONE && (first..=last).contains(&page.wrapping_add(entry.delta)) {
                *entry = Entry::EMPTY;
            }
        }
    }

    /// From now on every store to a physical page is looked at.
    pub fn look_at_writes(&mut self, page: u64) {
        for entry in self.0.iter_mut().flatten() {
            if entry.write != NONE && entry.write.wrapping_add(entry.delta) == page {
                entry.write = NONE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RW: Mapping = Mapping { phys: 0x5678, read: true, write: true, fetch: false };

    #[test]
    fn a_page_is_found_by_every_aligned_address_in_it_and_by_no_other() {
        let mut tlb = Tlb::new();
        assert_eq!(tlb.read(0, 0x8000_1678, 4), None);
        tlb.fill(0, 0x8000_1678, &RW, true);
        assert_eq!(tlb.read(0, 0x8000_1000, 8), Some(0x5000));
        assert_eq!(tlb.write(0, 0x8000_1ffc, 4), Some(0x5ffc));
        for (va, size) in
            [(0x8000_1001, 2), (0x8000_1002, 4), (0x8000_1ffc, 8), (0x8000_2000, 1), (0x1678, 4)]
        {
            assert_eq!(tlb.read(0, va, size), None, "{va:#x}");
        }
        assert_eq!(tlb.read(1, 0x8000_1678, 4), None, "another MMU");
    }

    #[test]
    fn stores_to_a_page_with_code_are_looked_at() {
        let mut tlb = Tlb::new();
        tlb.fill(2, 0x1678, &RW, true);
        tlb.look_at_writes(0x5000);
        assert_eq!(tlb.write(2, 0x1678, 4), None);
        assert_eq!(tlb.read(2, 0x1678, 4), Some(0x5678));
    }

    #[test]
    fn a_range_of_physical_addresses_is_forgotten_whatever_leads_there() {
        let mut tlb = Tlb::new();
        tlb.fill(0, 0x8000_1678, &RW, true);
        tlb.fill(1, 0x1678, &RW, true);
        tlb.fill(1, 0x9678, &Mapping { phys: 0x6678, ..RW }, true);
        tlb.forget_physical(0x5fff, 0x5fff);
        assert_eq!((tlb.read(0, 0x8000_1678, 4), tlb.read(1, 0x1678, 4)), (None, None));
        assert_eq!(tlb.read(1, 0x9678, 4), Some(0x6678));
        tlb.forget_physical(0, u64::MAX);
        assert_eq!(tlb.read(1, 0x9678, 4), None);
    }

    #[test]
    fn what_is_flushed_is_asked_for_again() {
        let mut tlb = Tlb::new();
        tlb.fill(0, 0x1678, &RW, true);
        tlb.fill(1, 0x1678, &RW, true);
        tlb.flush_page(0x1000);
        assert_eq!((tlb.read(0, 0x1678, 4), tlb.read(1, 0x1678, 4)), (None, None));
        tlb.fill(0, 0x1678, &RW, false);
        assert_eq!((tlb.read(0, 0x1678, 4), tlb.write(0, 0x1678, 4)), (Some(0x5678), None));
        tlb.flush();
        assert_eq!(tlb.read(0, 0x1678, 4), None);
    }
}
