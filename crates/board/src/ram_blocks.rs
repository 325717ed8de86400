//! `info ramblock`: where QEMU would have put each RAM block in its own numbering of RAM.
//!
//! QEMU gives every block an offset in one space of all RAM; Flatview does not need that, but the monitor shows it. The
//! offset is the start of the smallest gap that the block fits, gaps beginning at multiples of 256 KiB; blocks are
//! listed from the largest to the smallest.

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

/// The lines for blocks given by name, page size and size, in the order they were made.
pub fn rows(blocks: impl IntoIterator<Item = (String, u64, u64)>) -> Vec<RamBlockRow> {
    let mut rows: Vec<RamBlockRow> = Vec::new();
    for (name, page_size, size) in blocks {
        let offset = place(&rows, size);
        let at = rows.iter().position(|row| row.total < size).unwrap_or(rows.len());
        rows.insert(at, RamBlockRow { name, page_size, offset, used: size, total: size });
    }
    rows
}

/// The start of the smallest gap that `size` bytes fit.
fn place(rows: &[RamBlockRow], size: u64) -> u64 {
    let gaps = rows.iter().filter_map(|row| {
        let start = row.offset.checked_add(row.total)?.checked_next_multiple_of(ALIGN)?;
        let next = rows.iter().map(|other| other.offset).filter(|other| *other >= start).min();
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
        let rows = rows([
            ("bios".to_owned(), 4096, mib),
            ("simm.0".to_owned(), 4096, 32 * mib),
            ("simm.1".to_owned(), 4096, 32 * mib),
            ("vga.rom".to_owned(), 4096, 64 << 10),
            ("pcnet.rom".to_owned(), 4096, 256 << 10),
        ]);
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
}
