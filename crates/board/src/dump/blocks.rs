//! Which memory of the guest there is: QEMU's list of guest physical blocks.

use std::sync::Arc;

use flatview::{FlatView, RamBlock, RegionId};

/// A run of guest physical addresses with one run of host memory behind it (QEMU: `GuestPhysBlock`).
#[derive(Debug, Clone)]
pub struct GuestPhysBlock {
    /// The first guest physical address.
    pub start: u64,
    /// Bytes, at least 1.
    pub size: u64,
    /// The region that is seen there.
    pub region: RegionId,
    /// The memory behind it, which stays mapped as long as this value lives.
    pub memory: Arc<RamBlock>,
    /// The offset in the memory of the first byte.
    pub offset: u64,
}

impl GuestPhysBlock {
    /// The last guest physical address.
    pub fn last(&self) -> u64 {
        self.start.saturating_add(self.size - 1)
    }

    /// Whether `next` goes on where this ends, in the guest and on the host.
    fn continued_by(&self, next: &Self) -> bool {
        self.last().checked_add(1) == Some(next.start)
            && self.region == next.region
            && Arc::ptr_eq(&self.memory, &next.memory)
            && self.offset.checked_add(self.size) == Some(next.offset)
    }

    /// The part of it in the `length` bytes from `begin` on.
    pub fn part(&self, begin: u64, length: u64) -> Option<Self> {
        let end = begin.saturating_add(length.checked_sub(1)?);
        let (start, last) = (self.start.max(begin), self.last().min(end));
        let size = last.checked_sub(start)? + 1;
        Some(Self { start, size, offset: self.offset + (start - self.start), ..self.clone() })
    }
}

/// The memory that a view shows, by address: RAM and ROM, but no ROM device, no RAM device (looking at it would be an access),
/// and nothing that is marked nonvolatile. Neighbours that differ in attributes only are one.
///
/// What is seen at several addresses is there several times.
pub fn guest_phys_blocks(view: &FlatView) -> Vec<GuestPhysBlock> {
    let mut blocks: Vec<GuestPhysBlock> = Vec::new();
    for range in view.ranges() {
        if !range.is_ram() || range.is_ram_device() || range.nonvolatile() {
            continue;
        }
        // A block has less than 2^64 bytes, and so has what is seen of it.
        let Some(size) = (range.last() - range.start()).checked_add(1) else { continue };
        let Some((memory, offset)) = range.block() else { continue };
        let memory = Arc::clone(memory);
        let block = GuestPhysBlock { start: range.start(), size, region: range.region(), memory, offset };
        match blocks.last_mut() {
            Some(last) if last.continued_by(&block) => last.size += block.size,
            _ => blocks.push(block),
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview::{Endianness, Memory, Ops, Region};

    fn list(memory: &Memory) -> Vec<(u64, u64, String, u64)> {
        let view = memory.memory_space().view().unwrap();
        let blocks = guest_phys_blocks(&view);
        blocks.iter().map(|b| (b.start, b.size, b.memory.name().to_owned(), b.offset)).collect()
    }

    fn anonymous(name: &str, size: u64) -> Arc<RamBlock> {
        RamBlock::anonymous(name, size).unwrap()
    }

    #[test]
    fn ram_and_rom_count_and_what_looking_would_disturb_does_not() {
        let memory = Memory::new(Endianness::Big);
        let ops = || Ops::new().read(|_| Ok(0)).write(|_, _| Ok(()));
        let regions = [
            Region::ram("ram", anonymous("ram", 0x4000)),
            Region::rom("rom", anonymous("rom", 0x1000)),
            Region::rom_device("romd", anonymous("romd", 0x1000), ops()),
            Region::ram_device("ramd", anonymous("ramd", 0x1000)),
            Region::ram_device("rom of a device", anonymous("ramd2", 0x1000)).readonly(true),
            Region::ram("nvram", anonymous("nvram", 0x1000)).nonvolatile(true),
            Region::io("uart", 0x1000, ops()),
        ];
        for (n, region) in (0_u64..).zip(regions) {
            let region = memory.add(region).unwrap();
            memory.map(memory.system(), n * 0x1_0000, region).unwrap();
        }
        assert_eq!(
            list(&memory),
            [(0, 0x4000, "ram".to_owned(), 0), (0x1_0000, 0x1000, "rom".to_owned(), 0)]
        );
    }

    #[test]
    fn a_hole_parts_a_block_and_an_attribute_does_not() {
        let memory = Memory::new(Endianness::Big);
        let ram = memory.add(Region::ram("ram", anonymous("ram", 0x8000))).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        // The second page through a read-only alias: two ranges more in the view, one block in the list.
        let alias = memory.add(Region::alias("pam", ram, 0x1000, 0x1000).readonly(true)).unwrap();
        memory.update(|t| t.map_overlap(memory.system(), 0x1000, alias, 1)).unwrap();
        let io = memory.add(Region::io("io", 0x1000, Ops::new().read(|_| Ok(0)))).unwrap();
        memory.update(|t| t.map_overlap(memory.system(), 0x4000, io, 1)).unwrap();
        // The window at the end shows the third page again: the addresses go on, the memory does not.
        let again = memory.add(Region::alias("again", ram, 0x2000, 0x1000)).unwrap();
        memory.map(memory.system(), 0x8000, again).unwrap();
        assert!(memory.memory_space().view().unwrap().len() > 5);
        let ram = |start, size, offset| (start, size, "ram".to_owned(), offset);
        assert_eq!(
            list(&memory),
            [ram(0, 0x4000, 0), ram(0x5000, 0x3000, 0x5000), ram(0x8000, 0x1000, 0x2000)]
        );
    }

    #[test]
    fn another_region_of_the_same_memory_is_another_block() {
        let memory = Memory::new(Endianness::Big);
        let block = anonymous("ram", 0x2000);
        for n in 0..2 {
            let half = Region::ram("half", Arc::clone(&block)).window(n * 0x1000, 0x1000);
            let half = memory.add(half).unwrap();
            memory.map(memory.system(), n * 0x1000, half).unwrap();
        }
        assert_eq!(list(&memory).len(), 2);
    }

    #[test]
    fn a_part_is_cut_at_both_ends() {
        let memory = Memory::new(Endianness::Big);
        let ram = memory.add(Region::ram("ram", anonymous("ram", 0x4000))).unwrap();
        memory.map(memory.system(), 0x1000, ram).unwrap();
        let blocks = guest_phys_blocks(&memory.memory_space().view().unwrap());
        let part = |begin, length| blocks[0].part(begin, length).map(|b| (b.start, b.size, b.offset));
        assert_eq!(part(0, u64::MAX), Some((0x1000, 0x4000, 0)));
        assert_eq!(part(0x1ffe, 4), Some((0x1ffe, 4, 0xffe)));
        assert_eq!(part(0, 0x1001), Some((0x1000, 1, 0)));
        assert_eq!(part(0x4fff, u64::MAX), Some((0x4fff, 1, 0x3fff)));
        assert_eq!(part(0, 0x1000), None);
        assert_eq!(part(0x5000, 1), None);
        assert_eq!(part(0x1000, 0), None);
    }

    /// One address of the list: what is behind it.
    fn behind(blocks: &[GuestPhysBlock], addr: u64) -> Option<(*const RamBlock, u64)> {
        let block = blocks.iter().find(|b| b.start <= addr && addr <= b.last())?;
        Some((Arc::as_ptr(&block.memory), block.offset + (addr - block.start)))
    }

    #[test]
    fn at_each_address_of_random_maps_the_list_says_what_the_view_says() {
        let mut rng = fastrand::Rng::with_seed(0x5eed);
        let mut seen = 0;
        for _ in 0..200 {
            let memory = Memory::new(Endianness::Little);
            let mut targets = Vec::new();
            for n in 0..rng.u64(1..12) {
                let pages = rng.u64(1..5);
                let name = format!("r{n}");
                let made = anonymous(&name, pages * 0x1000);
                let region = match rng.u8(0..7) {
                    0 => Region::io(&*name, u128::from(pages) * 0x1000, Ops::new().read(|_| Ok(0))),
                    1 => Region::rom(&*name, made),
                    2 => Region::ram_device(&*name, made),
                    3 => Region::ram(&*name, made).nonvolatile(true),
                    4 | 5 if !targets.is_empty() => {
                        let target = targets[rng.usize(..targets.len())];
                        let alias =
                            Region::alias(&*name, target, rng.u64(..3) * 0x1000, u128::from(pages) * 0x1000);
                        alias.readonly(rng.bool())
                    }
                    _ => Region::ram(&*name, made),
                };
                let region = memory.add(region).unwrap();
                let (at, priority) = (rng.u64(..16) * 0x1000, rng.i32(-2..3));
                memory.update(|t| t.map_overlap(memory.system(), at, region, priority)).unwrap();
                targets.push(region);
            }
            let view = memory.memory_space().view().unwrap();
            let blocks = guest_phys_blocks(&view);
            for addr in (0..24 * 0x1000).step_by(0x800) {
                let range = view.lookup(addr);
                let counts = range.filter(|r| r.is_ram() && !r.is_ram_device() && !r.nonvolatile());
                let expected = counts.map(|r| {
                    let (block, offset) = r.block().unwrap();
                    (Arc::as_ptr(block), offset + (addr - r.start()))
                });
                assert_eq!(behind(&blocks, addr), expected, "{addr:#x}");
                seen += u32::from(expected.is_some());
            }
            for pair in blocks.windows(2) {
                assert!(pair[0].last() < pair[1].start && !pair[0].continued_by(&pair[1]));
            }
        }
        assert!(seen > 1000, "the maps have hardly any memory");
    }
}
