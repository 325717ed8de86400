//! `info ramblock`: where QEMU would have put each RAM block in its own numbering of RAM.
//!
//! QEMU gives every block an offset in one space of all RAM; Flatview does not need that, but the monitor shows it. The
//! offset is the start of the smallest gap that the block fits, gaps beginning at multiples of 256 KiB; blocks are
//! listed from the largest to the smallest.

use std::sync::Arc;

use flatview::RamBlock;

/// Offsets are multiples of this.
const ALIGN: u64 = 256 << 10;

/// A line of `info ramblock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamBlockRow {
    /// The block's name.
    pub name: String,
    /// The host's page size behind it, in bytes.
    pub page_size: u64,
    /// Where QEMU would have put it.
    pub offset: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes it can grow to.
    pub total: u64,
}

/// The blocks of a machine, each at the offset that it was given when it came.
#[derive(Debug, Default)]
pub(crate) struct RamBlocks(Vec<(Arc<RamBlock>, u64)>);

impl RamBlocks {
    /// Adds a block; one that is there already stays where it is.
    pub fn add(&mut self, block: &Arc<RamBlock>) {
        if self.0.iter().any(|(known, _)| Arc::ptr_eq(known, block)) {
            return;
        }
        let taken: Vec<(u64, u64)> = self.0.iter().map(|(b, at)| (*at, b.info().total)).collect();
        let offset = place(&taken, block.info().total);
        self.0.push((block.clone(), offset));
    }

    /// Removes a block; what comes next may take its place.
    pub fn remove(&mut self, block: &Arc<RamBlock>) {
        self.0.retain(|(known, _)| !Arc::ptr_eq(known, block));
    }

    /// The blocks.
    pub fn all(&self) -> Vec<Arc<RamBlock>> {
        self.0.iter().map(|(block, _)| Arc::clone(block)).collect()
    }

    /// The lines, from the largest block to the smallest.
    pub fn rows(&self) -> Vec<RamBlockRow> {
        let mut rows: Vec<RamBlockRow> = self
            .0
            .iter()
            .map(|(block, offset)| {
                let info = block.info();
                RamBlockRow {
                    name: info.name.to_string(),
                    page_size: info.page_size,
                    offset: *offset,
                    used: info.used,
                    total: info.total,
                }
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.total));
        rows
    }
}

/// The start of the smallest gap that `size` bytes fit, between blocks given by offset and size.
fn place(taken: &[(u64, u64)], size: u64) -> u64 {
    let gaps = taken.iter().filter_map(|(offset, len)| {
        let start = offset.checked_add(*len)?.checked_next_multiple_of(ALIGN)?;
        let next = taken.iter().map(|(other, _)| *other).filter(|other| *other >= start).min();
        Some((next.unwrap_or(u64::MAX) - start, start))
    });
    gaps.filter(|(room, _)| *room >= size).min().map_or(0, |(_, start)| start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_where_qemu_puts_them() {
        let mib = 1 << 20;
        let block = |name, size| RamBlock::anonymous(name, size).unwrap();
        let mut blocks = RamBlocks::default();
        let all = [
            block("bios", mib),
            block("simm.0", 32 * mib),
            block("simm.1", 32 * mib),
            block("vga.rom", 64 << 10),
            block("pcnet.rom", 256 << 10),
        ];
        for block in all.iter().chain(&all) {
            blocks.add(block);
        }
        let rows = blocks.rows();
        let shown: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.offset)).collect();
        assert_eq!(
            shown,
            [
                ("simm.0", 0x10_0000),
                ("simm.1", 0x210_0000),
                ("bios", 0),
                ("pcnet.rom", 0x414_0000),
                ("vga.rom", 0x410_0000)
            ]
        );
    }
    #[test]
    fn a_block_that_goes_leaves_a_gap_for_the_next_and_the_others_stay() {
        let block = |name, size| RamBlock::anonymous(name, size).unwrap();
        let mut blocks = RamBlocks::default();
        let (a, b, c) = (block("a", 1 << 20), block("b", 2 << 20), block("c", 5000));
        for block in [&a, &b, &c] {
            blocks.add(block);
        }
        blocks.remove(&b);
        let shown = |blocks: &RamBlocks| -> Vec<_> {
            blocks.rows().into_iter().map(|row| (row.name, row.offset, row.used)).collect()
        };
        assert_eq!(shown(&blocks), [("a".to_owned(), 0, 1 << 20), ("c".to_owned(), 3 << 20, 8192)]);
        blocks.add(&block("d", 1 << 20));
        assert_eq!(shown(&blocks)[1], ("d".to_owned(), 1 << 20, 1 << 20));
    }
}
