//! What `info tlb` and `info mem` print.
//!
//! What it is: text about the TLB and the address map. What it is not: the map itself, which `mmu` has and is asked. What must
//! always hold: asking changes nothing.

use std::fmt::Write as _;

use super::Mips;
use super::mmu::{ASID, lo};
use crate::mappings::{Mappings, Range, Rights};
use crate::tlb::Kind;

/// What `info tlb` prints: all entries in their order.
pub(super) fn tlb(isa: &Mips) -> String {
    let cp0 = &isa.cp0;
    let mut text = format!(
        "TLB: {} entries, {} wired, ASID {:02x}\n\
         \x20#  vaddr    page     ASID G even page                odd page\n",
        isa.tlb.len(),
        cp0.wired,
        cp0.entry_hi & ASID,
    );
    for (n, entry) in isa.tlb.iter().enumerate() {
        let (first, _) = entry.pages();
        let page = u64::from(entry.odd());
        let asid = if entry.global { "--".to_owned() } else { format!("{:02x}", entry.hi & ASID) };
        let _ = write!(text, "{n:2}  {first:08x} {page:08x} {asid}   {}", u8::from(entry.global));
        for lo in entry.lo {
            let _ = write!(
                text,
                " {:09x} C={} D={} V={}",
                entry.phys(lo),
                lo >> 3 & 7,
                u8::from(lo & lo::D != 0),
                u8::from(lo & lo::V != 0),
            );
        }
        text.push('\n');
    }
    text
}

/// What `info mem` prints: what kernel and user programs reach now, with the ASID that there is.
pub(super) fn mappings(isa: &Mips) -> String {
    // Between two of these all addresses are treated alike.
    let mut bounds = vec![0, 1 << 31, 0xa000_0000, 0xc000_0000, 0xe000_0000, 1 << 32];
    for entry in &isa.tlb {
        let (first, last) = entry.pages();
        let first = u64::from(first);
        bounds.extend([first, first + u64::from(entry.odd()), u64::from(last) + 1]);
    }
    bounds.sort_unstable();
    bounds.dedup();
    let kernel = if isa.cp0.mmu() == AT_ERROR_LEVEL { AT_ERROR_LEVEL } else { 0 };
    let mut all = Mappings::default();
    for (&first, &end) in bounds.iter().zip(bounds.iter().skip(1)) {
        let va = first as u32;
        let ask = |mmu| {
            let may = |kind| isa.map(va, kind, mmu).ok();
            let phys = may(Kind::Read)?.phys;
            let (write, fetch) = (may(Kind::Write).is_some(), may(Kind::Fetch).is_some());
            Some((phys, Rights { read: true, write, fetch }))
        };
        // Both maps lead to the same place, except at the error level, where user programs cannot run.
        let (kernel, user) = (ask(kernel), ask(USER));
        let (kernel, user) = match (kernel, user) {
            (Some((phys, kernel)), Some((same, user))) if phys == same => (Some((phys, kernel)), user),
            (None, Some((phys, user))) => (Some((phys, Rights::default())), user),
            (kernel, _) => (kernel, Rights::default()),
        };
        if let Some((phys, kernel)) = kernel {
            let cache = isa.cache_attribute(va);
            all.push(Range { va: first, size: end - first, phys, kernel, user, cache });
        }
    }
    all.table(|cache| format!("C={cache}"))
}

/// Modes of [`Cp0::mmu`](super::Cp0::mmu).
const USER: u8 = 1;
const AT_ERROR_LEVEL: u8 = 2;

impl Mips {
    /// The cache attribute of an address that is mapped: 2 is uncached.
    fn cache_attribute(&self, va: u32) -> u8 {
        let bits = match va >> 29 {
            0..=3 if self.cp0.mmu() == AT_ERROR_LEVEL => 2,
            4 => self.cp0.config & 7,
            5 => 2,
            _ => self.entry_about(va).map_or(2, |entry| entry.lo_of(va) >> 3 & 7),
        };
        bits as u8
    }
}
