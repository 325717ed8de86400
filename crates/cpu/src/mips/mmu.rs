//! The address map and the TLB (volume III, chapter 4).

use super::{Fault, Mips};
use crate::tlb::{Kind, Mapping};

/// The virtual page number of a pair of pages in EntryHi.
pub(super) const VPN2: u32 = 0xffff_e000;
/// The address space in EntryHi.
pub(super) const ASID: u32 = 0xff;
/// Bits of EntryLo.
pub(super) mod lo {
    pub const G: u32 = 1;
    pub const V: u32 = 2;
    pub const D: u32 = 4;
}

/// A TLB entry: a pair of pages, as the registers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlbEntry {
    /// EntryHi: VPN2 and ASID.
    pub hi: u32,
    /// PageMask: the bits that are not compared, beyond a pair of 4 KiB pages.
    pub mask: u32,
    /// EntryLo0 and EntryLo1, without G.
    pub lo: [u32; 2],
    /// Whether it holds in all address spaces.
    pub global: bool,
}

impl Default for TlbEntry {
    /// One that no program can reach: nothing is translated in kseg0, and its pages are not valid.
    fn default() -> Self {
        Self { hi: 0x8000_0000, mask: 0, lo: [0, 0], global: false }
    }
}

impl TlbEntry {
    /// Whether it is about an address in an address space.
    fn is_about(&self, va: u32, asid: u32) -> bool {
        let compared = !(self.mask | !VPN2);
        (va ^ self.hi) & compared == 0 && (self.global || self.hi & ASID == asid)
    }

    /// The addresses of its two pages, first and last.
    pub(super) fn pages(&self) -> (u32, u32) {
        let within = self.mask | !VPN2;
        (self.hi & !within, self.hi | within)
    }

    /// The bit of the address that tells the two pages apart.
    pub(super) fn odd(&self) -> u32 {
        (self.mask | 0x1fff).wrapping_add(1) >> 1
    }

    /// The EntryLo of the page that an address is in.
    pub(super) fn lo_of(&self, va: u32) -> u32 {
        if va & self.odd() != 0 { self.lo[1] } else { self.lo[0] }
    }

    /// Where a page of an EntryLo begins. The R4000 has 36 bits of physical addresses.
    pub(super) fn phys(&self, lo: u32) -> u64 {
        u64::from(lo) << 6 & !0xfff & !u64::from(self.odd() - 1)
    }
}

impl Mips {
    /// What the address map says in one of the modes of [`Cp0::mmu`](super::Cp0::mmu).
    pub(super) fn map(&self, va: u32, kind: Kind, mmu: u8) -> Result<Mapping, Fault> {
        let bad = Fault::address(va, kind);
        if kind == Kind::Fetch && va & 3 != 0 {
            return Err(bad);
        }
        let direct = |phys: u32| Ok(Mapping { phys: phys.into(), read: true, write: true, fetch: true });
        let (kernel, supervisor) = (mmu == 0 || mmu == 2, mmu == 3);
        match va >> 29 {
            // kuseg; at the error level it is not translated.
            0..=3 if mmu == 2 => direct(va),
            0..=3 => self.translated(va, kind),
            // kseg0 and kseg1.
            4 | 5 if kernel => direct(va & 0x1fff_ffff),
            // ksseg and kseg3.
            6 if kernel || supervisor => self.translated(va, kind),
            7 if kernel => self.translated(va, kind),
            // The manual leaves open what Context and EntryHi become; most CPUs fill them in.
            _ => Err(Fault { tlb: true, ..bad }),
        }
    }

    /// The entry about an address, in the address space that there is.
    pub(super) fn entry_about(&self, va: u32) -> Option<&TlbEntry> {
        let asid = self.cp0.entry_hi & ASID;
        self.tlb.iter().find(|entry| entry.is_about(va, asid))
    }

    fn translated(&self, va: u32, kind: Kind) -> Result<Mapping, Fault> {
        let Some(entry) = self.entry_about(va) else {
            return Err(Fault::untranslated(va, kind, true));
        };
        let lo = entry.lo_of(va);
        if lo & lo::V == 0 {
            return Err(Fault::untranslated(va, kind, false));
        }
        let dirty = lo & lo::D != 0;
        if kind == Kind::Write && !dirty {
            return Err(Fault::modified(va));
        }
        let phys = entry.phys(lo) | u64::from(va & (entry.odd() - 1));
        Ok(Mapping { phys, read: true, write: dirty, fetch: true })
    }

    /// The addresses that an entry is about, first and last.
    pub(super) fn entry_pages(&self, at: u32) -> Option<(u32, u32)> {
        Some(self.tlb.get(at as usize % self.tlb.len())?.pages())
    }

    /// `tlbwi` and `tlbwr`: an entry from the registers.
    pub(super) fn write_entry(&mut self, at: u32) {
        let cp0 = &self.cp0;
        // What of the page frame number a large page does not use is not kept.
        let unused = cp0.page_mask >> 13 << 6;
        let pages = cp0.entry_lo.map(|lo| lo & !lo::G & !unused);
        let entry = TlbEntry {
            hi: cp0.entry_hi & (VPN2 | ASID),
            mask: cp0.page_mask,
            lo: pages,
            global: cp0.entry_lo[0] & cp0.entry_lo[1] & lo::G != 0,
        };
        let entries = self.tlb.len();
        if let Some(place) = self.tlb.get_mut(at as usize % entries) {
            *place = entry;
        }
    }

    /// `tlbr`: the registers from an entry.
    pub(super) fn read_entry(&mut self, at: u32) {
        if let Some(entry) = self.tlb.get(at as usize % self.tlb.len()) {
            self.cp0.entry_hi = entry.hi;
            self.cp0.page_mask = entry.mask;
            self.cp0.entry_lo = entry.lo.map(|lo| lo | u32::from(entry.global));
        }
    }

    /// `tlbp`: the entry about what EntryHi names; else the sign bit, and the rest stays.
    pub(super) fn probe(&mut self) {
        let hi = self.cp0.entry_hi;
        let found = self.tlb.iter().position(|e| e.is_about(hi & VPN2, hi & ASID));
        self.cp0.index = found.map_or(self.cp0.index | 1 << 31, |at| at as u32);
    }

    /// An entry that is not wired, another one each time.
    pub(super) fn random(&mut self) -> u32 {
        let seed = &mut self.cp0.random_seed;
        // Marsaglia's xorshift; never 0.
        *seed ^= *seed << 13;
        *seed ^= *seed >> 17;
        *seed ^= *seed << 5;
        self.last_random()
    }

    /// The one that was given last.
    pub(super) fn last_random(&self) -> u32 {
        let entries = self.tlb.len() as u32;
        let free = entries.saturating_sub(self.cp0.wired).max(1);
        entries - 1 - self.cp0.random_seed % free
    }
}
