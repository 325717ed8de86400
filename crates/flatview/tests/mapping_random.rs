//! Random use of mappings, caches, copies, fills and atomic accesses on random maps, held against a model of bytes.
//!
//! The model knows, for each address of a small space, which byte of which store stands there and whether it may be
//! written; it knows no ranges. It says how long a mapping or cache is, what is read, what fails, and exactly which pages
//! are dirty then.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail loudly"
)]

#[path = "support/seeds.rs"]
mod seeds;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use flatview::*;
use parking_lot::Mutex;
use seeds::{Tally, rng, try_seeds};

const PAGE: u64 = DIRTY_PAGE_SIZE;
/// The addresses in use. Behind them is nothing.
const SPACE: u64 = 0xa000;
const RAM: u64 = 4 * PAGE;
const BUDGET: u64 = 700;

/// What can stand at an address: two RAMs, a ROM, and a device that keeps bytes.
const STORES: [(u64, bool, bool); 4] =
    [(RAM, true, true), (RAM, true, true), (PAGE, true, false), (0x800, false, true)];
const DEVICE: usize = 3;

/// A byte of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    store: usize,
    offset: u64,
    writable: bool,
}

impl Cell {
    fn is_memory(self) -> bool {
        STORES[self.store].1
    }

    fn is_direct(self, direction: Direction) -> bool {
        self.is_memory() && (!direction.writes() || self.writable)
    }
}

struct Alias {
    id: RegionId,
    store: usize,
    at: u64,
    offset: u64,
    size: u64,
    readonly: bool,
}

/// A mapping, and what it must be.
struct Held {
    mapped: Mapped,
    direct: Option<Cell>,
    bytes: Vec<u8>,
    contents_fail: bool,
    addr: u64,
}

struct Cached {
    cache: RegionCache,
    cells: Vec<Option<Cell>>,
    writes: bool,
}

struct World {
    memory: Memory,
    space: AddressSpace,
    reader: Reader,
    regions: Vec<RegionId>,
    device: Arc<Mutex<Vec<u8>>>,
    blocks: Vec<Arc<RamBlock>>,
    aliases: Vec<Alias>,
    /// By address.
    cells: Vec<Option<Cell>>,
    /// What the stores hold.
    bytes: Vec<Vec<u8>>,
    dirty: Vec<BTreeSet<u64>>,
    held: Vec<Held>,
    caches: Vec<Cached>,
    rng: fastrand::Rng,
    verbose: bool,
}

#[derive(Default)]
struct Counts {
    direct: u64,
    over_ranges: u64,
    bounced: u64,
    refused: u64,
    copied: u64,
    failed: u64,
    atomic: u64,
    cached: u64,
}

impl Tally for Counts {
    fn add(&mut self, o: Self) {
        self.direct += o.direct;
        self.over_ranges += o.over_ranges;
        self.bounced += o.bounced;
        self.refused += o.refused;
        self.copied += o.copied;
        self.failed += o.failed;
        self.atomic += o.atomic;
        self.cached += o.cached;
    }
}

impl World {
    fn new(seed: u64, verbose: bool) -> Self {
        let memory = Memory::new(Endianness::Little);
        let device = Arc::new(Mutex::new(vec![0; STORES[DEVICE].0 as usize]));
        let (r, w) = (Arc::clone(&device), Arc::clone(&device));
        // One byte at a time: how devices are called is tested elsewhere.
        let ops = Ops::new()
            .rules(AccessRules::new().valid(1, 1))
            .read(move |a| Ok(r.lock()[a.offset() as usize].into()))
            .write(move |a, v| {
                w.lock()[a.offset() as usize] = v as u8;
                Ok(())
            });
        let blocks: Vec<_> =
            STORES[..DEVICE].iter().map(|s| RamBlock::anonymous("store", s.0).unwrap()).collect();
        let mut regions = vec![
            memory.add(Region::ram("a", Arc::clone(&blocks[0]))).unwrap(),
            memory.add(Region::ram("b", Arc::clone(&blocks[1]))).unwrap(),
            memory.add(Region::rom("rom", Arc::clone(&blocks[2]))).unwrap(),
        ];
        regions.push(memory.add(Region::io("device", STORES[DEVICE].0.into(), ops)).unwrap());
        let space = memory.memory_space();
        space.set_bounce_budget(BUDGET);
        let mut world = Self {
            reader: space.reader(),
            space,
            memory,
            regions,
            device,
            blocks,
            aliases: Vec::new(),
            cells: vec![None; SPACE as usize],
            bytes: STORES.iter().map(|s| vec![0; s.0 as usize]).collect(),
            dirty: vec![BTreeSet::new(); 2],
            held: Vec::new(),
            caches: Vec::new(),
            rng: rng(seed),
            verbose,
        };
        for (store, (size, ..)) in STORES.iter().enumerate() {
            let mut fresh = vec![0; *size as usize];
            world.rng.fill(&mut fresh);
            match world.blocks.get(store) {
                Some(block) => block.write(0, &fresh).unwrap(),
                None => world.device.lock().copy_from_slice(&fresh),
            }
            world.bytes[store] = fresh;
        }
        for _ in 0..8 {
            world.add_alias();
        }
        world.paint();
        world
    }

    fn add_alias(&mut self) {
        let store = self.rng.usize(..STORES.len());
        // Never less than 4: on the bus an access of 4 bytes to a hole takes along what begins inside of it.
        let unit = *self.rng.choice([4, 8, 0x100, PAGE].iter()).unwrap();
        let pick = |rng: &mut fastrand::Rng, below: u64| rng.u64(..below) / unit * unit;
        // Often behind another one, so that runs go on.
        let behind = self
            .aliases
            .last()
            .filter(|_| self.rng.bool())
            .map(|a| (a.store, a.offset + a.size, a.at + a.size));
        let (store, offset, at) = match behind {
            Some((store, offset, at)) if offset < STORES[store].0 && at < SPACE => (store, offset, at),
            _ => (store, pick(&mut self.rng, STORES[store].0), pick(&mut self.rng, SPACE)),
        };
        let most = (STORES[store].0 - offset).min(SPACE - at);
        let size = self.rng.u64(1..=most).div_ceil(unit).saturating_mul(unit).min(most);
        let readonly = self.rng.u8(..4) == 0;
        let region = Region::alias("alias", self.regions[store], offset, size.into());
        // A mark that changes nothing but where ranges end.
        let region = region.readonly(readonly).nonvolatile(self.rng.bool());
        let id = self.memory.add(region).unwrap();
        self.memory.map(self.memory.system(), at, id).unwrap();
        self.aliases.push(Alias { id, store, at, offset, size, readonly });
    }

    fn drop_alias(&mut self) {
        if self.aliases.len() > 3 {
            let alias = self.aliases.remove(self.rng.usize(..self.aliases.len()));
            self.memory.update(|t| t.unmap(self.memory.system(), alias.id)).unwrap();
            self.memory.update(|t| t.remove(alias.id)).unwrap();
            self.paint();
        }
    }

    fn paint(&mut self) {
        self.cells.fill(None);
        for alias in &self.aliases {
            let writable = STORES[alias.store].2 && !alias.readonly;
            let window = alias.at as usize..(alias.at + alias.size) as usize;
            for (offset, cell) in (alias.offset..).zip(&mut self.cells[window]) {
                *cell = Some(Cell { store: alias.store, offset, writable });
            }
        }
    }

    fn cell(&self, addr: u64) -> Option<Cell> {
        self.cells.get(usize::try_from(addr).ok()?).copied()?
    }

    /// How many cells from `addr` on are one run that `good` holds for.
    fn run(&self, addr: u64, len: u64, good: impl Fn(Cell) -> bool) -> u64 {
        let Some(first) = self.cell(addr).filter(|c| good(*c)) else {
            return 0;
        };
        let follows = |i: &u64| {
            self.cell(addr + i)
                .is_some_and(|c| good(c) && c.store == first.store && c.offset == first.offset + i)
        };
        (1..len).find(|i| !follows(i)).unwrap_or(len)
    }

    fn wrote(&mut self, store: usize, offset: u64, len: u64) {
        if store < 2 && len > 0 {
            self.dirty[store].extend(offset / PAGE..=(offset + len - 1) / PAGE);
        }
    }

    /// A bus read of these cells; whether all can be read.
    fn bus_read(&self, cells: impl Iterator<Item = Option<Cell>>) -> (Vec<u8>, bool) {
        let mut good = true;
        let read = |cell: Option<Cell>| match cell {
            Some(cell) => self.bytes[cell.store][cell.offset as usize],
            None => {
                good = false;
                0
            }
        };
        (cells.map(read).collect(), good)
    }

    /// A bus write; whether all could be written.
    fn bus_write(&mut self, cells: &[Option<Cell>], bytes: &[u8]) -> bool {
        let mut good = true;
        for (cell, byte) in cells.iter().zip(bytes) {
            match cell.filter(|c| c.writable) {
                Some(cell) => {
                    self.bytes[cell.store][cell.offset as usize] = *byte;
                    self.wrote(cell.store, cell.offset, 1);
                }
                None => good = false,
            }
        }
        good
    }

    fn cells_at(&self, addr: u64, len: u64) -> Vec<Option<Cell>> {
        (0..len).map(|i| self.cell(addr.wrapping_add(i))).collect()
    }

    fn some_addr(&mut self) -> u64 {
        let edge = self.rng.usize(..self.aliases.len());
        match self.rng.u8(..4) {
            0 => self.rng.u64(..SPACE),
            1 => (self.aliases[edge].at + self.aliases[edge].size).saturating_sub(self.rng.u64(..64)),
            2 => self.aliases[edge].at.saturating_sub(self.rng.u64(..16)),
            _ => self.aliases[edge].at + self.rng.u64(..self.aliases[edge].size),
        }
    }

    fn some_len(&mut self) -> u64 {
        let most = *self.rng.choice([1, 8, 64, 0x400, 0x2800].iter()).unwrap();
        self.rng.u64(1..=most)
    }

    fn map(&mut self, counts: &mut Counts) {
        let (addr, len) = (self.some_addr(), self.some_len());
        let direction =
            *self.rng.choice([Direction::Read, Direction::Write, Direction::ReadWrite].iter()).unwrap();
        let direct = self.run(addr, len, |c| c.is_direct(direction));
        let used: u64 = self.held.iter().filter(|h| h.direct.is_none()).map(|h| h.bytes.len() as u64).sum();
        let result = self.space.map(addr, len, direction);
        if direct == 0 && used == BUDGET {
            assert!(matches!(result, Err(MapError::NoRoom { address, .. }) if address == addr));
            counts.refused += 1;
            return;
        }
        let mapped = result.unwrap();
        let expect = if direct > 0 { direct } else { len.min(BUDGET - used) };
        assert_eq!(
            (mapped.is_direct(), mapped.len()),
            (direct > 0, expect),
            "{addr:#x} {len:#x} {direction:?}"
        );
        if self.verbose {
            eprintln!("{mapped:?}");
        }
        let (bytes, good) = match direction {
            _ if direct > 0 => (Vec::new(), true),
            Direction::Write => (vec![0; expect as usize], true),
            _ => self.bus_read(self.cells_at(addr, expect).into_iter()),
        };
        assert_eq!(mapped.contents().is_ok(), good);
        match direct {
            0 => counts.bounced += 1,
            _ => counts.direct += 1,
        }
        let ranges =
            self.space.view().unwrap().ranges_from(addr).take_while(|r| r.start() < addr + expect).count();
        counts.over_ranges += u64::from(direct > 0 && ranges > 1);
        let direct = if direct > 0 { self.cell(addr) } else { None };
        self.held.push(Held { mapped, direct, bytes, contents_fail: !good, addr });
    }

    fn use_mapping(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.held.len());
        let (len, offset) = {
            let mapped = &self.held[at].mapped;
            let offset = self.rng.u64(..mapped.len() + 2);
            (self.rng.u64(0..=(mapped.len() + 3).saturating_sub(offset).min(100)), offset)
        };
        let data: Vec<u8> = (0..len).map(|_| self.rng.u8(..)).collect();
        let held = &mut self.held[at];
        let inside = offset + len <= held.mapped.len();
        let mut out = vec![0; len as usize];
        assert_eq!(held.mapped.read(offset, &mut out).is_ok(), inside);
        if inside {
            let part = offset as usize..(offset + len) as usize;
            let expect = match held.direct {
                Some(cell) => &self.bytes[cell.store][cell.offset as usize..][part.clone()],
                None => &held.bytes[part.clone()],
            };
            assert_eq!(out, expect);
        }
        let good = inside && held.mapped.direction().writes();
        assert_eq!(held.mapped.write(offset, &data).is_ok(), good);
        if good {
            let part = offset as usize..(offset + len) as usize;
            match held.direct {
                Some(cell) => {
                    self.bytes[cell.store][cell.offset as usize..][part].copy_from_slice(&data);
                    self.wrote(cell.store, cell.offset + offset, len);
                }
                None => held.bytes[part].copy_from_slice(&data),
            }
        }
    }

    fn end_mapping(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let held = self.held.swap_remove(self.rng.usize(..self.held.len()));
        let writes = held.mapped.direction().writes();
        if self.rng.u8(..5) == 0 {
            drop(held.mapped);
            return;
        }
        let len = held.mapped.len();
        let accessed = self.rng.u64(0..=len + 1);
        let n = accessed.min(len);
        let result = held.mapped.unmap(accessed);
        match held.direct {
            Some(cell) => {
                assert_eq!(result, Ok(()));
                if writes {
                    self.wrote(cell.store, cell.offset, n);
                }
            }
            None => {
                let cells = self.cells_at(held.addr, n);
                let written = !writes || self.bus_write(&cells, &held.bytes[..n as usize]);
                assert_eq!(result.is_ok(), written && !held.contents_fail);
            }
        }
    }

    fn cache(&mut self, counts: &mut Counts) {
        let (addr, len) = (self.some_addr(), self.some_len());
        let writes = self.rng.bool();
        let direction = if writes { Direction::Write } else { Direction::Read };
        let direct = self.run(addr, len, |c| c.is_direct(direction));
        let cache = self.space.cache(addr, len, direction).unwrap();
        assert_eq!(cache.is_ram(), direct > 0);
        // Other memory ends at the end of its range, which this model does not know.
        let most =
            self.cell(addr).filter(|c| c.is_memory()).map_or(len, |_| self.run(addr, len, Cell::is_memory));
        match direct {
            0 => assert!((1..=most).contains(&cache.len())),
            _ => assert_eq!(cache.len(), direct),
        }
        assert!(cache.is_current());
        counts.cached += 1;
        let cells = self.cells_at(addr, cache.len());
        self.caches.push(Cached { cache, cells, writes });
    }

    fn use_cache(&mut self) {
        if self.caches.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.caches.len());
        if self.rng.u8(..6) == 0 {
            self.caches.swap_remove(at);
            return;
        }
        let length = self.caches[at].cache.len();
        let offset = self.rng.u64(..length + 1);
        let len = self.rng.u64(0..=(length + 2 - offset).min(64));
        let data: Vec<u8> = (0..len).map(|_| self.rng.u8(..)).collect();
        let inside = offset + len <= length;
        let cells: Vec<_> =
            self.caches[at].cells.iter().skip(offset as usize).take(len as usize).copied().collect();
        let mut out = vec![0; len as usize];
        let result = self.caches[at].cache.read(offset, &mut out);
        if inside {
            let (bytes, good) = self.bus_read(cells.iter().copied());
            assert_eq!((result.is_ok(), out), (good, bytes));
        } else {
            assert_eq!(result.unwrap_err().reason(), Reason::OutsideMapping);
        }
        let result = self.caches[at].cache.write(offset, &data);
        let writes = self.caches[at].writes;
        if writes && inside {
            let written = self.bus_write(&cells, &data);
            assert_eq!(result.is_ok(), written);
        } else {
            assert!(result.is_err());
        }
        // A value in one piece.
        let value = self.caches[at].cache.load::<Be, u32>(offset);
        let four: Vec<_> = self.caches[at].cells.iter().skip(offset as usize).take(4).copied().collect();
        if self.caches[at].cache.is_ram() {
            let (bytes, _) = self.bus_read(four.into_iter());
            let expect = bytes.try_into().map(u32::from_be_bytes).ok();
            assert_eq!(value.ok(), expect);
        } else if offset + 4 > length {
            assert_eq!(value.unwrap_err().reason(), Reason::OutsideMapping);
        }
    }

    fn copy(&mut self, counts: &mut Counts) {
        let (from, to, len) = (self.some_addr(), self.some_addr(), self.some_len());
        let (source, target) = (self.cells_at(from, len), self.cells_at(to, len));
        let key = |c: &Option<Cell>| c.map(|c| (c.store, c.offset));
        let read: BTreeSet<_> = source.iter().filter_map(key).collect();
        let mut written = BTreeSet::new();
        // What overlaps depends on the order, of which the model knows nothing.
        if !target.iter().filter_map(key).all(|at| !read.contains(&at) && written.insert(at)) {
            return;
        }
        let (bytes, good) = self.bus_read(source.into_iter());
        let good = self.bus_write(&target, &bytes) && good;
        let result = self.reader.copy_to(from, &self.reader, to, len);
        assert_eq!(result.is_ok(), good, "{from:#x} to {to:#x}, {len:#x}: {result:?}");
        counts.copied += 1;
        counts.failed += u64::from(!good);
    }

    fn fill(&mut self) {
        let (addr, len, byte) = (self.some_addr(), self.some_len(), self.rng.u8(..));
        let target = self.cells_at(addr, len);
        let good = self.bus_write(&target, &vec![byte; len as usize]);
        assert_eq!(self.reader.fill(addr, byte, len).is_ok(), good);
    }

    fn atomic(&mut self, counts: &mut Counts) {
        let addr = self.some_addr() & !3;
        let cells = self.cells_at(addr, 4);
        let result = self.reader.fetch_add::<Be, u32>(addr, 0x0101_0101);
        let in_one = self.run(addr, 4, |c| c.is_direct(Direction::ReadWrite)) == 4;
        if !in_one {
            assert!(result.is_err());
            return;
        }
        // One run may be two ranges, and then it is not one value.
        let view = self.space.view().unwrap();
        if view.lookup(addr).unwrap().last() - addr < 3 {
            assert_eq!(result.unwrap_err().reason(), Reason::Rejected);
            return;
        }
        let (bytes, _) = self.bus_read(cells.iter().copied());
        let old = u32::from_be_bytes(bytes.try_into().unwrap());
        assert_eq!(result, Ok(old));
        self.bus_write(&cells, &old.wrapping_add(0x0101_0101).to_be_bytes());
        counts.atomic += 1;
    }

    fn ask(&mut self) {
        let (addr, len, write) = (self.some_addr(), self.some_len(), self.rng.bool());
        let good = self.cells_at(addr, len).iter().all(|c| c.is_some_and(|c| !write || c.writable));
        assert_eq!(self.reader.access_valid(addr, len, write), good);
        assert_eq!(self.reader.is_io(addr), !self.cell(addr).is_some_and(Cell::is_memory));
    }

    fn check(&mut self) {
        for (store, block) in self.blocks.iter().enumerate() {
            let mut out = vec![0; self.bytes[store].len()];
            block.read(0, &mut out).unwrap();
            assert!(out == self.bytes[store], "store {store} differs");
        }
        assert!(*self.device.lock() == self.bytes[DEVICE], "the device differs");
        for store in 0..2 {
            let client = DirtyClient::MIGRATION;
            let taken = self.memory.snapshot_and_clear_dirty(self.regions[store], 0, RAM, client).unwrap();
            let pages: BTreeSet<_> = taken.runs().flat_map(|run| run.start / PAGE..run.end / PAGE).collect();
            assert_eq!(pages, self.dirty[store], "store {store}");
            self.dirty[store].clear();
        }
    }
}

fn run(seed: u64, verbose: bool) -> Counts {
    let mut world = World::new(seed, verbose);
    let mut counts = Counts::default();
    // From the middle on, so that mappings and caches are older than the log.
    let logged_from = world.rng.usize(..40);
    for step in 0..120 {
        if step == logged_from {
            for region in &world.regions[..2] {
                world.memory.set_log(*region, DirtyClient::MIGRATION, true).unwrap();
            }
            for dirty in &mut world.dirty {
                *dirty = (0..RAM / PAGE).collect();
            }
        }
        match world.rng.u8(..16) {
            0 => {
                world.add_alias();
                world.paint();
            }
            1 => world.drop_alias(),
            2..=4 => world.map(&mut counts),
            5..=7 => world.use_mapping(),
            8 | 9 => world.end_mapping(),
            10 => world.cache(&mut counts),
            11 => world.use_cache(),
            12 => world.copy(&mut counts),
            13 => world.fill(),
            14 => world.atomic(&mut counts),
            _ => world.ask(),
        }
        if step > logged_from && step % 30 == 0 {
            world.check();
        }
    }
    world.held.clear();
    assert_eq!(world.space.bounce_in_use(), 0);
    world.check();
    counts
}

#[test]
fn random_use_agrees_with_a_model_of_bytes() {
    let start = Instant::now();
    let (count, sum, all) =
        try_seeds("mapping_random", "random_use_agrees_with_a_model_of_bytes", 2_500, run);
    eprintln!("{count} worlds in {:.1} s", start.elapsed().as_secs_f64());
    if all {
        for (what, n) in [
            ("direct mappings", sum.direct),
            ("mappings over several ranges", sum.over_ranges),
            ("bounce buffers", sum.bounced),
            ("mappings without room", sum.refused),
            ("copies", sum.copied),
            ("copies that failed in part", sum.failed),
            ("atomic accesses", sum.atomic),
            ("caches", sum.cached),
        ] {
            assert!(n > count / 4, "only {n} {what}");
        }
    }
}
