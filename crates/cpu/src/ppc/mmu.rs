//! The MMU: BATs, segments, hashed page tables, and the 755's TLBs that software fills (PEM, chapter 7; MPC750UM, chapter 5).
//!
//! What it is: where an address leads, what may be done there, and the referenced and changed bits. What it is not: the
//! soft TLB, which remembers the answers. What must always hold: looking ([`Ppc::look`]) changes neither the guest nor its
//! memory.

use flatview::{Be, Reader};
use flatview_device::LogMask;

use super::except::{dsisr, srr1};
use super::model::Family;
use super::spr::{hid2, number};
use super::{Exception, Fault, Ppc, trace};
use crate::core::Core;
use crate::tlb::{Kind, Mapping};

/// Bits of a segment register.
pub(super) mod segment {
    pub const DIRECT_STORE: u32 = 1 << 31;
    pub const SUPERVISOR_KEY: u32 = 1 << 30;
    pub const USER_KEY: u32 = 1 << 29;
    pub const NO_EXECUTE: u32 = 1 << 28;
    pub const VSID: u32 = 0x00ff_ffff;
}

/// Bits of a page table entry.
pub(super) mod pte {
    pub const VALID: u32 = 1 << 31;
    pub const SECONDARY: u32 = 1 << 6;
    pub const REFERENCED: u32 = 1 << 8;
    pub const CHANGED: u32 = 1 << 7;
    /// The bits W, I, M, G of it, and of the lower half of a BAT.
    pub const WIMG_SHIFT: u32 = 3;
}

/// Write-through and caching-inhibited.
const WRITE_THROUGH: u32 = 8;
const INHIBITED: u32 = 4;
const GUARDED: u32 = 1;

/// What a translation gives beside the mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub mapping: Mapping,
    /// The bits W, I, M and G.
    pub wimg: u32,
    /// Where the page table entry is, if its bits R or C are to be set: these.
    note: Option<(u64, u32)>,
}

impl Found {
    /// Whether a block of the cache can be there.
    pub fn is_cached(&self) -> bool {
        self.wimg & (WRITE_THROUGH | INHIBITED) == 0
    }

    fn at(phys: u32, wimg: u32, store: bool) -> Self {
        Self {
            mapping: Mapping { phys: phys.into(), read: true, write: store, fetch: true },
            wimg,
            note: None,
        }
    }
}

/// How the page table was searched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    pub va: u32,
    pub segment: u32,
    /// Where the entry is, and whether it is in the secondary group.
    pub found: Option<(u64, bool)>,
    /// Whether it allows the access.
    pub granted: bool,
}

/// One entry of a TLB that software fills.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// The upper word of the page table entry; 0 is not valid.
    upper: u32,
    lower: u32,
    /// The page index.
    page: u32,
}

/// Sets of the 755's TLBs; two ways each.
const SETS: usize = 64;

/// A TLB that software fills.
#[derive(Debug)]
pub(super) struct SoftTlb {
    entries: [[Entry; 2]; SETS],
    /// Which way of each set is to be replaced.
    next: [u8; SETS],
}

impl Default for SoftTlb {
    fn default() -> Self {
        Self { entries: [[Entry::default(); 2]; SETS], next: [0; SETS] }
    }
}

/// A valid entry, for those who look.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValidEntry {
    upper: u32,
    pub lower: u32,
    pub page: u32,
    pub way: u8,
}

impl ValidEntry {
    /// The number of the segment that it is about.
    pub fn vsid(self) -> u32 {
        self.upper >> 7 & segment::VSID
    }
}

impl SoftTlb {
    /// The entries that are valid, set by set.
    pub fn valid(&self) -> impl Iterator<Item = ValidEntry> {
        let ways = self.entries.iter().flat_map(|ways| (0..).zip(ways));
        ways.filter(|(_, entry)| entry.upper & pte::VALID != 0).map(|(way, entry)| {
            let Entry { upper, lower, page } = *entry;
            ValidEntry { upper, lower, page, way }
        })
    }

    fn set(va: u32) -> usize {
        (va >> 12) as usize % SETS
    }

    fn find(&self, vsid: u32, va: u32) -> Option<(usize, Entry)> {
        let upper = upper_word(vsid, va) & !pte::SECONDARY;
        let page = va >> 12 & 0xffff;
        let ways = self.entries.get(Self::set(va))?;
        let found = (0..).zip(ways).find(|(_, e)| e.upper & !pte::SECONDARY == upper && e.page == page);
        found.map(|(way, entry)| (way, *entry))
    }

    fn used(&mut self, va: u32, way: usize) {
        if let Some(next) = self.next.get_mut(Self::set(va)) {
            *next = u8::from(way == 0);
        }
    }

    fn load(&mut self, va: u32, way: usize, upper: u32, lower: u32) {
        let entry = Entry { upper, lower, page: va >> 12 & 0xffff };
        if let Some(place) = self.entries.get_mut(Self::set(va)).and_then(|ways| ways.get_mut(way & 1)) {
            *place = entry;
        }
        self.used(va, way & 1);
    }

    fn invalidate(&mut self, va: u32) {
        if let Some(ways) = self.entries.get_mut(Self::set(va)) {
            *ways = [Entry::default(); 2];
        }
    }
}

/// The upper word of an entry of the primary group.
fn upper_word(vsid: u32, va: u32) -> u32 {
    pte::VALID | (vsid & segment::VSID) << 7 | va >> 22 & 0x3f
}

/// Whether a page's protection and the key allow an access (PEM, table 7-9).
fn allows(key: bool, pp: u32, kind: Kind) -> bool {
    match (key, pp & 3) {
        (true, 0) => false,
        (true, 1) | (_, 3) => kind != Kind::Write,
        _ => true,
    }
}

fn not_found(va: u32, kind: Kind) -> Fault {
    match kind {
        Kind::Fetch => Fault::isi(srr1::NOT_FOUND),
        _ => Fault::dsi(va, kind, dsisr::NOT_FOUND),
    }
}

fn protected(va: u32, kind: Kind) -> Fault {
    match kind {
        Kind::Fetch => Fault::isi(srr1::PROTECTED),
        _ => Fault::dsi(va, kind, dsisr::PROTECTED),
    }
}

/// Where an address leads, the bits R and C set as the access says.
pub(super) fn map(core: &mut Core<Ppc>, va: u32, kind: Kind, mmu: u8) -> Result<Found, Fault> {
    let reader = &core.reader;
    let load = |at: u64| reader.cpu_load::<Be, u32>(at).unwrap_or(0);
    let result = core.isa.translated(va, kind, mmu, &load);
    if core.logs(LogMask::MMU)
        && let Some(looked) = core.isa.search_of(va, kind, mmu, &load, result.is_ok())
    {
        trace::searched(core, &looked);
    }
    let mut found = result?;
    if let Some((at, bits)) = found.note {
        // A table in memory that cannot be written keeps its bits.
        let _ = reader.fetch_or::<Be, u32>(at, bits);
    }
    core.isa.watch_data(va, kind, &mut found)?;
    if core.isa.searches_by_software() && mmu & 2 != 0 {
        core.isa.note_use(va, kind);
    }
    Ok(found)
}

impl Ppc {
    /// The physical address, without an effect.
    pub(super) fn look(&self, reader: &Reader, va: u32, kind: Kind, mmu: u8) -> Result<u64, Fault> {
        let load = |at: u64| {
            let mut bytes = [0; 4];
            reader.peek(at, &mut bytes).map_or(0, |()| u32::from_be_bytes(bytes))
        };
        self.translated(va, kind, mmu, &load).map(|found| found.mapping.phys)
    }

    /// Where an address leads; `load` gives the words of the page table.
    pub(super) fn translated(
        &self,
        va: u32,
        kind: Kind,
        mmu: u8,
        load: &dyn Fn(u64) -> u32,
    ) -> Result<Found, Fault> {
        if mmu & 2 == 0 {
            // Real addressing: cached, and guarded (section 7.2.1).
            return Ok(Found::at(va, GUARDED, true));
        }
        let user = mmu & 1 != 0;
        if let Some(found) = self.block(va, kind, user)? {
            return Ok(found);
        }
        let segment = self.segments.get((va >> 28) as usize).copied().unwrap_or(0);
        if segment & segment::DIRECT_STORE != 0 {
            return Err(match (kind, self.model.family) {
                (Kind::Fetch, _) => Fault::isi(srr1::NO_EXECUTE),
                // Nothing on these boards answers on the direct-store protocol.
                (_, Family::Ppc604) => Fault::dsi(va, kind, dsisr::DIRECT_STORE),
                (_, Family::Ppc755) => Fault::dsi(va, kind, dsisr::REFUSED),
            });
        }
        if kind == Kind::Fetch && segment & segment::NO_EXECUTE != 0 {
            return Err(Fault::isi(srr1::NO_EXECUTE));
        }
        let key_bit = if user { segment::USER_KEY } else { segment::SUPERVISOR_KEY };
        let key = segment & key_bit != 0;
        let (lower, at) = match self.searches_by_software() {
            true => (self.entry_of_software(segment, va, kind, key)?, None),
            false => match self.entry_in_memory(segment, va, load) {
                Some((lower, at)) => (lower, Some(at)),
                None => return Err(not_found(va, kind)),
            },
        };
        if !allows(key, lower, kind) {
            return Err(protected(va, kind));
        }
        let wimg = lower >> pte::WIMG_SHIFT & 15;
        if kind == Kind::Fetch && wimg & GUARDED != 0 {
            return Err(Fault::isi(srr1::NO_EXECUTE));
        }
        let wanted = pte::REFERENCED | if kind == Kind::Write { pte::CHANGED } else { 0 };
        let changed = (lower | wanted) & pte::CHANGED != 0;
        let phys = lower & 0xffff_f000 | va & 0xfff;
        let mut found = Found::at(phys, wimg, changed && allows(key, lower, Kind::Write));
        found.note = at.filter(|_| lower & wanted != wanted).map(|at| (at, wanted));
        Ok(found)
    }

    /// A block address translation (section 7.4), if one is about the address.
    fn block(&self, va: u32, kind: Kind, user: bool) -> Result<Option<Found>, Fault> {
        let (first, high) = match kind {
            Kind::Fetch => (number::IBAT0U, number::IBAT4U),
            _ => (number::DBAT0U, number::DBAT4U),
        };
        let more = self.model.family == Family::Ppc755 && self.spr(number::HID2) & hid2::HIGH_BATS != 0;
        let valid = if user { 1 } else { 2 };
        let numbers = (0..4).map(|n| first + 2 * n).chain((0..4).map(|n| high + 2 * n).filter(|_| more));
        for upper_at in numbers {
            let (upper, lower) = (self.spr(upper_at), self.spr(upper_at + 1));
            let within = (upper >> 2 & 0x7ff) << 17 | 0x1_ffff;
            if upper & valid == 0 || (va ^ upper) & !within & 0xfffe_0000 != 0 {
                continue;
            }
            let refused = matches!((lower & 3, kind), (0, _) | (1 | 3, Kind::Write));
            if refused {
                return Err(protected(va, kind));
            }
            let wimg = lower >> pte::WIMG_SHIFT & 15;
            if kind == Kind::Fetch && wimg & GUARDED != 0 {
                return Err(Fault::isi(srr1::NO_EXECUTE));
            }
            let phys = lower & 0xfffe_0000 & !within | va & within;
            return Ok(Some(Found::at(phys, wimg, lower & 3 == 2)));
        }
        Ok(None)
    }

    /// The addresses of the primary and the secondary group for an address (section 7.6.1).
    fn groups(&self, vsid: u32, va: u32) -> [u32; 2] {
        let table = self.spr(number::SDR1);
        let hash = vsid & 0x7_ffff ^ va >> 12 & 0xffff;
        [hash, !hash].map(|hash| {
            let upper = hash >> 10 & 0x1ff & table;
            table & 0xffff_0000 | upper << 16 | (hash & 0x3ff) << 6
        })
    }

    /// The lower word of the entry for an address, and where it is.
    fn entry_in_memory(&self, segment: u32, va: u32, load: &dyn Fn(u64) -> u32) -> Option<(u32, u64)> {
        let wanted = upper_word(segment, va);
        let groups = self.groups(segment, va);
        for (group, wanted) in groups.into_iter().zip([wanted, wanted | pte::SECONDARY]) {
            for entry in 0..8 {
                let at = u64::from(group | entry << 3);
                if load(at) == wanted {
                    return Some((load(at + 4), at + 4));
                }
            }
        }
        None
    }

    /// What a translation that is done did with the table in memory; `None` if it did not come so far.
    fn search_of(
        &self,
        va: u32,
        kind: Kind,
        mmu: u8,
        load: &dyn Fn(u64) -> u32,
        granted: bool,
    ) -> Option<Looked> {
        let in_block = || !matches!(self.block(va, kind, mmu & 1 != 0), Ok(None));
        let segment = self.segments.get((va >> 28) as usize).copied().unwrap_or(0);
        let unpaged =
            segment & segment::DIRECT_STORE != 0 || kind == Kind::Fetch && segment & segment::NO_EXECUTE != 0;
        if mmu & 2 == 0 || in_block() || unpaged || self.searches_by_software() {
            return None;
        }
        let found = self.entry_in_memory(segment, va, load).map(|(_, at)| {
            let [first, _] = self.groups(segment, va);
            // Of the entry its lower word.
            (at - 4, at & !0x3f != u64::from(first))
        });
        Some(Looked { va, segment, found, granted })
    }

    /// Whether the guest fills the TLBs itself: 755 with HID2\[SWT_EN\].
    pub(super) fn searches_by_software(&self) -> bool {
        self.model.family == Family::Ppc755 && self.spr(number::HID2) & hid2::SOFTWARE_SEARCH != 0
    }

    fn tlb_of(&self, kind: Kind) -> &SoftTlb {
        let [code, data] = &self.soft_tlbs;
        if kind == Kind::Fetch { code } else { data }
    }

    fn tlb_of_mut(&mut self, kind: Kind) -> &mut SoftTlb {
        let [code, data] = &mut self.soft_tlbs;
        if kind == Kind::Fetch { code } else { data }
    }

    fn entry_of_software(&self, segment: u32, va: u32, kind: Kind, key: bool) -> Result<u32, Fault> {
        let found = self.tlb_of(kind).find(segment, va);
        let miss = |exception, way: u8| {
            let bits = [
                (key, srr1::KEY),
                (kind == Kind::Fetch, srr1::INSTRUCTION),
                (way != 0, srr1::WAY),
                (kind == Kind::Write, srr1::STORE),
            ];
            let srr1 = bits.into_iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit);
            Fault { address: va, srr1, ..Fault::of(exception) }
        };
        match found {
            // The first store to a page: C is software's to set, in the same way. Protection comes first.
            Some((way, entry))
                if kind == Kind::Write
                    && entry.lower & pte::CHANGED == 0
                    && allows(key, entry.lower, kind) =>
            {
                Err(miss(Exception::StoreMiss, way as u8))
            }
            Some((_, entry)) => Ok(entry.lower),
            None => {
                let way = self.tlb_of(kind).next.get(SoftTlb::set(va)).copied().unwrap_or(0);
                let exception = match kind {
                    Kind::Fetch => Exception::FetchMiss,
                    Kind::Read => Exception::LoadMiss,
                    Kind::Write => Exception::StoreMiss,
                };
                Err(miss(exception, way))
            }
        }
    }

    fn note_use(&mut self, va: u32, kind: Kind) {
        let segment = self.segments.get((va >> 28) as usize).copied().unwrap_or(0);
        let tlb = self.tlb_of_mut(kind);
        if let Some((way, _)) = tlb.find(segment, va) {
            tlb.used(va, way);
        }
    }

    /// What a handler that searches the table finds in registers: DMISS or IMISS, DCMP or ICMP, HASH1 and HASH2.
    pub(super) fn tell_miss(&mut self, fault: Fault) {
        let va = fault.address;
        let segment = self.segments.get((va >> 28) as usize).copied().unwrap_or(0);
        let (miss, compare) = match fault.exception {
            Exception::FetchMiss => (number::IMISS, number::ICMP),
            _ => (number::DMISS, number::DCMP),
        };
        let [first, second] = self.groups(segment, va);
        self.keep_spr(miss, va);
        self.keep_spr(compare, upper_word(segment, va));
        self.keep_spr(number::HASH1, first);
        self.keep_spr(number::HASH2, second);
    }

    /// `tlbld` and `tlbli`: an entry for the page of `va` from DCMP or ICMP and RPA, in the way of SRR1.
    pub(super) fn load_entry(&mut self, va: u32, kind: Kind, srr1: u32) {
        let compare = if kind == Kind::Fetch { number::ICMP } else { number::DCMP };
        let (upper, lower) = (self.spr(compare), self.spr(number::RPA));
        let way = usize::from(srr1 & srr1::WAY != 0);
        self.tlb_of_mut(kind).load(va, way, upper, lower);
    }

    /// `tlbie`: both TLBs' entries that an address could be in.
    pub(super) fn invalidate(&mut self, va: u32) {
        for tlb in &mut self.soft_tlbs {
            tlb.invalidate(va);
        }
    }

    /// DABR: an access to its double word is refused; its page is looked at each time.
    fn watch_data(&self, va: u32, kind: Kind, found: &mut Found) -> Result<(), Fault> {
        let dabr = self.spr(number::DABR);
        let (store, load) = (dabr & 2 != 0, dabr & 1 != 0);
        let translated = self.mmu_of(Kind::Read) & 2 != 0;
        if dabr & 3 == 0 || (dabr ^ va) & 0xffff_f000 != 0 || (dabr & 4 != 0) != translated {
            return Ok(());
        }
        let meant = (kind == Kind::Write && store) || (kind == Kind::Read && load);
        if meant && (dabr ^ va) & !7 == 0 {
            return Err(Fault::dsi(va, kind, dsisr::BREAKPOINT));
        }
        (found.mapping.read, found.mapping.write) = (false, false);
        Ok(())
    }
}
