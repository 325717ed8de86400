//! What `info mem` prints: virtual ranges, where they lead, and who may do what there.
//!
//! What it is: ranges put together from the pieces in which an MMU is asked, as a table. What it is not: the asking, which each
//! instruction set does. What must always hold: however many pieces there are, no more than [`MOST`] ranges are kept.

use std::fmt::Write as _;

/// The most ranges that are kept and shown; the others are counted.
const MOST: usize = 1 << 16;

/// What may be done at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rights {
    pub read: bool,
    pub write: bool,
    pub fetch: bool,
}

impl Rights {
    /// Whether anything may be done.
    pub fn any(self) -> bool {
        self.read || self.write || self.fetch
    }

    fn text(self) -> String {
        let bits = [(self.read, 'r'), (self.write, 'w'), (self.fetch, 'x')];
        bits.into_iter().map(|(may, letter)| if may { letter } else { '-' }).collect()
    }
}

/// A range of virtual addresses that leads to one of physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub va: u64,
    pub size: u64,
    pub phys: u64,
    pub kernel: Rights,
    pub user: Rights,
    /// How it is cached, as the instruction set has it.
    pub cache: u8,
}

impl Range {
    fn continues(&self, before: &Self) -> bool {
        before.va + before.size == self.va
            && before.phys + before.size == self.phys
            && (before.kernel, before.user, before.cache) == (self.kernel, self.user, self.cache)
    }
}

/// Ranges, as far as they could be put together.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    ranges: Vec<Range>,
    /// Those that end where the last piece ended, which the next may continue.
    open: Vec<usize>,
    left_out: u64,
}

impl Mappings {
    /// The next piece, which ends behind all before it or where the last of them ends: pieces come in ascending order, and
    /// several may be at one address if they lead to different places.
    pub fn push(&mut self, piece: Range) {
        if piece.size == 0 || !(piece.kernel.any() || piece.user.any()) {
            return;
        }
        let continued = self.open.iter().find(|&&at| self.ranges.get(at).is_some_and(|r| piece.continues(r)));
        if let Some(range) = continued.and_then(|&at| self.ranges.get_mut(at)) {
            range.size += piece.size;
            return;
        }
        // What ended before this one begins stays as it is.
        self.open.retain(|&at| self.ranges.get(at).is_some_and(|range| range.va + range.size >= piece.va));
        if self.ranges.len() == MOST {
            self.left_out += 1;
            return;
        }
        self.open.push(self.ranges.len());
        self.ranges.push(piece);
    }

    /// The table, in the columns of QEMU's for RISC-V.
    pub fn table(&self, cache: impl Fn(u8) -> String) -> String {
        let mut text = String::from(
            "vaddr    paddr            size             kernel user cache\n\
             -------- ---------------- ---------------- ------ ---- -----\n",
        );
        for range in &self.ranges {
            let (kernel, user) = (range.kernel.text(), range.user.text());
            let cache = cache(range.cache);
            let Range { va, phys, size, .. } = range;
            let _ = writeln!(text, "{va:08x} {phys:016x} {size:016x} {kernel:<6} {user:<4} {cache}");
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "... and at least {} pages more", self.left_out);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Rights = Rights { read: true, write: true, fetch: true };

    fn piece(va: u64, size: u64, phys: u64) -> Range {
        Range { va, size, phys, kernel: ALL, user: Rights::default(), cache: 0 }
    }

    #[test]
    fn pieces_that_continue_each_other_become_one_range_even_where_two_lie_at_an_address() {
        let mut all = Mappings::default();
        for page in 0..4 {
            all.push(piece(page << 12, 0x1000, 0x10_0000 + (page << 12)));
            all.push(piece(page << 12, 0x1000, 0x80_0000 + (page << 12)));
        }
        assert_eq!(all.ranges, [piece(0, 0x4000, 0x10_0000), piece(0, 0x4000, 0x80_0000)]);
    }

    #[test]
    fn what_differs_in_place_rights_or_cache_stays_apart() {
        let mut all = Mappings::default();
        let pieces = [
            piece(0, 0x1000, 0),
            piece(0x1000, 0x1000, 0x2000),
            Range { user: ALL, ..piece(0x2000, 0x1000, 0x3000) },
            Range { cache: 3, user: ALL, ..piece(0x3000, 0x1000, 0x4000) },
            Range { cache: 3, user: ALL, ..piece(0x5000, 0x1000, 0x6000) },
        ];
        for piece in pieces {
            all.push(piece);
        }
        all.push(Range { kernel: Rights::default(), ..piece(0x6000, 0x1000, 0x7000) });
        assert_eq!(all.ranges, pieces);
    }

    #[test]
    fn there_is_a_most_of_ranges_and_the_others_are_counted() {
        let mut all = Mappings::default();
        for page in 0..MOST as u64 + 5 {
            all.push(piece(page << 12, 0x1000, 0));
        }
        assert_eq!(all.ranges.len(), MOST);
        let table = all.table(|_| String::new());
        assert!(table.ends_with("\n... and at least 5 pages more\n"));
    }
}
