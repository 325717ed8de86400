//! Translated blocks, found by address, linked to each other, and dropped when their code changes.
//!
//! What it is: where blocks are kept. What it is not: how they are made or run. What must always hold: a block is from one
//! physical page and one virtual place in one mode; a link, or an entry of the table of virtual addresses, counts only
//! while its epoch is the cache's, and everything that could make one wrong begins a new epoch.

use std::cell::Cell;
use std::collections::HashMap;

use crate::ir::Code;
use crate::tlb::PAGE_SIZE;

/// Names a block of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockId(u32);

/// What a block was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub phys: u64,
    pub pc: u64,
    pub mode: u32,
}

#[derive(Debug)]
pub(crate) struct Block {
    pub key: Key,
    pub code: Code,
    /// The blocks at its two known ends, with the epoch in which that was found out.
    links: [Cell<(u32, u32)>; 2],
}

/// Entries of the table of virtual addresses.
const JUMPS: usize = 4096;
/// Blocks that are kept; with more, all are dropped.
const MOST: usize = 1 << 16;

#[derive(Debug, Clone, Copy)]
struct Jump {
    pc: u64,
    mode: u32,
    epoch: u32,
    block: BlockId,
}

#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Vec<Option<Block>>,
    free: Vec<u32>,
    places: HashMap<Key, BlockId>,
    /// The blocks of each physical page.
    pages: HashMap<u64, Vec<BlockId>>,
    jumps: Box<[Jump]>,
    /// Never 0.
    epoch: u32,
}

impl Cache {
    pub fn new() -> Self {
        let jump = Jump { pc: 0, mode: 0, epoch: 0, block: BlockId(0) };
        Self {
            blocks: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            pages: HashMap::new(),
            jumps: vec![jump; JUMPS].into(),
            epoch: 1,
        }
    }

    #[inline(always)]
    pub fn get(&self, id: BlockId) -> Option<&Block> {
        self.blocks.get(id.0 as usize)?.as_ref()
    }

    #[inline(always)]
    fn jump_of(pc: u64) -> usize {
        ((pc >> 2) ^ (pc >> 14)) as usize % JUMPS
    }

    /// The block at a virtual address in a mode, if that was found out in this epoch.
    #[inline(always)]
    pub fn at(&self, pc: u64, mode: u32) -> Option<BlockId> {
        let jump = self.jumps.get(Self::jump_of(pc))?;
        (jump.pc == pc && jump.mode == mode && jump.epoch == self.epoch).then_some(jump.block)
    }

    /// The block at a physical address, which is remembered for its virtual one.
    pub fn find(&mut self, key: Key) -> Option<BlockId> {
        let block = *self.places.get(&key)?;
        self.remember(key, block);
        Some(block)
    }

    fn remember(&mut self, key: Key, block: BlockId) {
        let epoch = self.epoch;
        if let Some(jump) = self.jumps.get_mut(Self::jump_of(key.pc)) {
            *jump = Jump { pc: key.pc, mode: key.mode, epoch, block };
        }
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.places.len() >= MOST
    }

    pub fn insert(&mut self, key: Key, code: Code) -> BlockId {
        let block = Block { key, code, links: [const { Cell::new((0, 0)) }; 2] };
        let id = match self.free.pop() {
            Some(free) => {
                if let Some(place) = self.blocks.get_mut(free as usize) {
                    *place = Some(block);
                }
                BlockId(free)
            }
            None => {
                self.blocks.push(Some(block));
                BlockId(self.blocks.len() as u32 - 1)
            }
        };
        self.places.insert(key, id);
        self.pages.entry(key.phys & !(PAGE_SIZE - 1)).or_default().push(id);
        self.remember(key, id);
        id
    }

    /// The block at an end of another one.
    #[inline(always)]
    pub fn linked(&self, block: &Block, end: usize) -> Option<BlockId> {
        let (next, epoch) = block.links.get(end)?.get();
        (epoch == self.epoch).then_some(BlockId(next))
    }

    /// Links two blocks.
    pub fn link(&self, from: BlockId, end: usize, to: BlockId) {
        if let Some(link) = self.get(from).and_then(|b| b.links.get(end)) {
            link.set((to.0, self.epoch));
        }
    }

    /// Nothing that was found out about virtual addresses counts any more.
    pub fn begin_epoch(&mut self) {
        self.epoch = match self.epoch.checked_add(1) {
            Some(next) => next,
            None => {
                // What is left of epoch 1 must not be taken for new.
                self.drop_all();
                1
            }
        };
    }

    /// Drops the blocks with code in a range of physical addresses; the pages that have none any more.
    pub fn drop_range(&mut self, first: u64, last: u64) -> Vec<u64> {
        let mut emptied = Vec::new();
        let mask = !(PAGE_SIZE - 1);
        let pages: Vec<u64> = if (last & mask) - (first & mask) <= PAGE_SIZE {
            vec![first & mask, last & mask]
        } else {
            self.pages.keys().copied().filter(|page| (first & mask) <= *page && *page <= last).collect()
        };
        for page in pages {
            let Some(ids) = self.pages.get_mut(&page) else { continue };
            let (blocks, free, places) = (&mut self.blocks, &mut self.free, &mut self.places);
            ids.retain(|id| {
                let Some(place) = blocks.get_mut(id.0 as usize) else { return false };
                let overlaps = |b: &Block| {
                    b.key.phys <= last && first <= b.key.phys.saturating_add(b.code.len.saturating_sub(1))
                };
                match place.take_if(|b| overlaps(b)) {
                    Some(block) => {
                        places.remove(&block.key);
                        free.push(id.0);
                        false
                    }
                    None => place.is_some(),
                }
            });
            if ids.is_empty() {
                self.pages.remove(&page);
                emptied.push(page);
            }
        }
        self.begin_epoch();
        emptied
    }

    /// Drops everything.
    pub fn drop_all(&mut self) {
        let epoch = self.epoch;
        *self = Self::new();
        self.epoch = epoch.wrapping_add(1).max(1);
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::End;

    fn code(len: u64) -> Code {
        Code { ops: Vec::new(), insns: Vec::new(), end: End::Stop, len }
    }

    fn key(phys: u64) -> Key {
        Key { phys, pc: phys + 0x8000_0000, mode: 0 }
    }

    #[test]
    fn blocks_are_found_by_place_and_by_virtual_address_until_the_epoch_ends() {
        let mut cache = Cache::new();
        let a = cache.insert(key(0x1000), code(16));
        assert_eq!(cache.at(0x8000_1000, 0), Some(a));
        assert_eq!(cache.at(0x8000_1000, 1), None);
        cache.begin_epoch();
        assert_eq!(cache.at(0x8000_1000, 0), None);
        assert_eq!(cache.find(key(0x1000)), Some(a));
        assert_eq!(cache.at(0x8000_1000, 0), Some(a));
    }

    #[test]
    fn what_is_written_is_dropped_and_links_to_it_with_it() {
        let mut cache = Cache::new();
        let (a, b) = (cache.insert(key(0x1000), code(16)), cache.insert(key(0x1100), code(16)));
        cache.link(a, 0, b);
        assert_eq!(cache.linked(cache.get(a).unwrap(), 0), Some(b));
        assert!(cache.drop_range(0x1110, 0x1113).is_empty(), "behind its end");
        assert_eq!(cache.len(), 2);
        assert!(cache.drop_range(0x110f, 0x110f).is_empty());
        assert_eq!((cache.len(), cache.find(key(0x1100))), (1, None));
        assert_eq!(cache.linked(cache.get(a).unwrap(), 0), None);
        assert_eq!(cache.drop_range(0, u64::MAX), [0x1000]);
        assert_eq!(cache.len(), 0);
    }
}
