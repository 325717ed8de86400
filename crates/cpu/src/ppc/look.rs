//! What `info tlb` and `info mem` print.
//!
//! What it is: text about BATs, segments, the page table and the TLBs that software fills. What it is not: translation itself,
//! which `mmu` does and is asked for. What must always hold: asking changes nothing, and takes bounded time and memory, whatever
//! the guest has put into SDR1 and its table.

use std::fmt::Write as _;

use flatview::Reader;

use super::mmu::{Found, pte, segment};
use super::model::Family;
use super::spr::number;
use super::{Fault, Ppc};
use crate::mappings::{Mappings, Range, Rights};
use crate::tlb::Kind;

/// What a BAT maps at least; between two multiples of it all BATs and segments treat addresses alike.
const BLOCK: u32 = 1 << 17;
const PAGE: u32 = 1 << 12;
const BLOCKS: u32 = 1 << 15;

/// A copy of the page table: it is looked at often.
struct Table {
    base: u32,
    bytes: Vec<u8>,
}

impl Table {
    /// Where nothing can be looked at there are zeros, as [`Ppc::look`] has it.
    fn copy(sdr1: u32, reader: &Reader) -> Self {
        let base = sdr1 & 0xffff_0000;
        let last = base | (sdr1 & 0x1ff) << 16 | 0xffff;
        let mut bytes = vec![0; (last - base) as usize + 1];
        // An error says that there are such places.
        let _ = reader.peek(base.into(), &mut bytes);
        Self { base, bytes }
    }

    fn word(&self, at: u64) -> u32 {
        let offset = at.checked_sub(self.base.into()).and_then(|offset| usize::try_from(offset).ok());
        let word = offset.and_then(|offset| self.bytes.get(offset..offset + 4));
        word.and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
    }

    /// The upper words of valid entries, and the lowest ten bits of the number of the group that each is in.
    fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        self.bytes.chunks_exact(8).zip((self.base..).step_by(8)).filter_map(|(entry, at)| {
            let upper = entry.first_chunk().copied().map_or(0, u32::from_be_bytes);
            (upper & pte::VALID != 0).then_some((upper, at >> 6 & 0x3ff))
        })
    }
}

/// A bit for each page of each block of the address space.
struct Pages(Vec<u32>);

impl Pages {
    /// Marks a page of all segments with a number.
    fn mark(&mut self, segments: &[u32; 16], vsid: u32, page: u32) {
        for (n, _) in (0..).zip(segments).filter(|(_, segment)| **segment & segment::VSID == vsid) {
            let page = n << 16 | page & 0xffff;
            if let Some(block) = self.0.get_mut((page >> 5) as usize) {
                *block |= 1 << (page & 31);
            }
        }
    }
}

/// Where an access leads, and how that is cached.
type Place = (u64, u8);

impl Ppc {
    /// The pages that entries of tables or TLBs may be about; no others are mapped but by BATs.
    fn pages(&self, table: Option<&Table>) -> Pages {
        let mut pages = Pages(vec![0; BLOCKS as usize]);
        for (upper, group) in table.into_iter().flat_map(Table::entries) {
            let (vsid, api) = (upper >> 7 & segment::VSID, upper & 0x3f);
            // What was hashed, of which the page's lowest ten bits are left (section 7.6.1.1).
            let hash = if upper & pte::SECONDARY != 0 { !group } else { group };
            pages.mark(&self.segments, vsid, api << 10 | (hash ^ vsid) & 0x3ff);
        }
        if self.searches_by_software() {
            for entry in self.soft_tlbs.iter().flat_map(|tlb| tlb.valid()) {
                pages.mark(&self.segments, entry.vsid(), entry.page);
            }
        }
        pages
    }

    /// What `info mem` prints.
    pub(super) fn mappings_text(&self, reader: &Reader) -> String {
        let [data, code] = [Kind::Read, Kind::Fetch].map(|kind| self.mmu_of(kind) & 2 != 0);
        let wanted = (data || code) && !self.searches_by_software();
        let table = wanted.then(|| Table::copy(self.spr(number::SDR1), reader));
        let load = |at| table.as_ref().map_or(0, |table| table.word(at));
        let pages = if data || code { self.pages(table.as_ref()) } else { Pages(Vec::new()) };
        let ask = |va, kind, user| self.translated(va, kind, self.mmu_of(kind) & 2 | u8::from(user), &load);
        let mut all = Mappings::default();
        for block in 0..BLOCKS {
            let va = block * BLOCK;
            match pages.0.get(block as usize).copied().unwrap_or(0) {
                0 => pieces(&mut all, va, BLOCK, &ask),
                _ => (0..BLOCK / PAGE).for_each(|page| pieces(&mut all, va + page * PAGE, PAGE, &ask)),
            }
        }
        let off = |on| if on { "on" } else { "off" };
        format!(
            "Translation: data {}, instructions {}\n{}",
            off(data),
            off(code),
            all.table(|wimg| {
                let letters = [(8, 'W'), (4, 'I'), (2, 'M'), (1, 'G')];
                letters.map(|(bit, letter)| if wimg & bit != 0 { letter } else { '-' }).iter().collect()
            })
        )
    }

    /// What `info tlb` prints, in the manner of QEMU's for the 603.
    pub(super) fn tlb_text(&self) -> String {
        let sdr1 = self.spr(number::SDR1);
        let mut text = format!(
            "HTAB base = {:#x}\nHTAB mask = {:#x}\n\nSegment registers:\n",
            sdr1 & 0xffff_0000,
            (sdr1 & 0x1ff) << 16 | 0xffff
        );
        for (n, segment) in self.segments.iter().enumerate() {
            let bit = |bit: u32| u8::from(segment & bit != 0);
            let _ = writeln!(
                text,
                "{n:02} T={} Ks={} Kp={} N={} VSID=0x{:06x}",
                bit(segment::DIRECT_STORE),
                bit(segment::SUPERVISOR_KEY),
                bit(segment::USER_KEY),
                bit(segment::NO_EXECUTE),
                segment & segment::VSID
            );
        }
        text.push_str("\nBATs:\n");
        let is_755 = self.model.family == Family::Ppc755;
        for (name, low, high) in
            [("data", number::DBAT0U, number::DBAT4U), ("code", number::IBAT0U, number::IBAT4U)]
        {
            let more = (0..4).map(|n| high + 2 * n).filter(|_| is_755);
            for (n, at) in (0..4).map(|n| low + 2 * n).chain(more).enumerate() {
                let (upper, lower) = (self.spr(at), self.spr(at + 1));
                let _ = writeln!(text, "{name} BAT{n} BATu {upper:08x} BATl {lower:08x}");
                text.push_str(&bat(upper, lower));
            }
        }
        text.push_str("\nTLBs:\n");
        if !self.searches_by_software() {
            text.push_str("filled from the table by hardware; what they hold is not modelled\n");
            return text;
        }
        for (tlb, name) in self.soft_tlbs.iter().zip(["code", "data"]) {
            let mut none = true;
            for entry in tlb.valid() {
                none = false;
                let (set, lower) = (entry.page % 64, entry.lower);
                let _ = writeln!(
                    text,
                    "{name} TLB {set:02}/64 way:{} valid VSID=0x{:06x} page {:04x} -> {:08x} C={} WIMG={:04b} PP={}",
                    entry.way,
                    entry.vsid(),
                    entry.page,
                    lower & 0xffff_f000,
                    u8::from(lower & pte::CHANGED != 0),
                    lower >> pte::WIMG_SHIFT & 15,
                    lower & 3,
                );
            }
            if none {
                let _ = writeln!(text, "{name} TLB: no entry is valid");
            }
        }
        text
    }
}

/// What a BAT's halves come to.
fn bat(upper: u32, lower: u32) -> String {
    let within = (upper >> 2 & 0x7ff) << 17 | 0x1_ffff;
    let modes = match upper & 3 {
        0 => return String::new(),
        1 => "user",
        2 => "kernel",
        _ => "kernel and user",
    };
    let may = match lower & 3 {
        0 => "no access",
        2 => "read and write",
        _ => "read",
    };
    let first = upper & 0xfffe_0000 & !within;
    let phys = lower & 0xfffe_0000 & !within;
    let wimg = lower >> pte::WIMG_SHIFT & 15;
    format!("\t{first:08x}-{:08x} -> {phys:08x} WIMG={wimg:04b}, {modes}: {may}\n", first | within)
}

/// The pieces of a range in which all addresses are treated alike: one for each place that it leads to.
fn pieces(all: &mut Mappings, va: u32, size: u32, ask: &impl Fn(u32, Kind, bool) -> Result<Found, Fault>) {
    let mut found: [Option<(Place, Rights, Rights)>; 4] = [None; 4];
    let mut note = |place: Place, user: bool, add: &dyn Fn(&mut Rights)| {
        for slot in &mut found {
            let (at, kernel, users) = slot.get_or_insert((place, Rights::default(), Rights::default()));
            if *at == place {
                add(if user { users } else { kernel });
                return;
            }
        }
    };
    for user in [false, true] {
        let place = |kind| {
            let found = ask(va, kind, user).ok()?;
            Some((found.mapping.phys, found.wimg as u8))
        };
        if let Some(at) = place(Kind::Read) {
            note(at, user, &|rights| rights.read = true);
        }
        if let Some(at) = place(Kind::Write) {
            note(at, user, &|rights| rights.write = true);
        }
        if let Some(at) = place(Kind::Fetch) {
            note(at, user, &|rights| rights.fetch = true);
        }
    }
    for ((phys, cache), kernel, user) in found.into_iter().flatten() {
        all.push(Range { va: va.into(), size: size.into(), phys, kernel, user, cache });
    }
}
