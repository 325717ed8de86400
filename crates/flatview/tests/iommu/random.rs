//! Random maps with IOMMUs before each other, random tables that change all the time, and random accesses through all
//! entry points, held against a model that looks for each byte anew.
//!
//! The model knows spaces of 64 slots of 32 bytes, and follows one byte at a time through tables of its own; it shares
//! nothing with the library. Readers live through all changes, so that what they remember is tried too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use flatview::*;

use crate::seeds::{Tally, rng, try_seeds};
use crate::table::block;

const SPACES: usize = 3;
const IOMMUS: usize = 4;
const BLOCKS: usize = 3;
const SLOT: u64 = 32;
const SIZE: u64 = 64 * SLOT;
/// Of an IOMMU: the windows on it show parts.
const IOMMU_SIZE: u64 = 2 * SIZE;
/// Pages of a table that are ever mapped.
const PAGES: u64 = 160;

/// What a run of slots shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Ram { block: usize, from: u64 },
    Rom { block: usize, from: u64 },
    Device(usize),
    Iommu { iommu: usize, from: u64 },
}

#[derive(Debug, Clone)]
struct Run {
    start: u64,
    end: u64,
    what: What,
    enabled: bool,
    region: RegionId,
}

/// Where a page leads: space, address, permissions.
type Page = (usize, u64, IommuPerm);
type Pages = HashMap<(u32, u64), Page>;

/// The device of one IOMMU.
struct Table {
    page: u64,
    /// Of the two tables, the second is for secure accesses.
    pages: Mutex<Pages>,
    spaces: Mutex<Vec<WeakSpace>>,
}

impl IommuOps for Table {
    fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
        match self.pages.lock().unwrap().get(&(request.index(), request.offset() / self.page)) {
            Some((space, address, perm)) => {
                let space = &self.spaces.lock().unwrap()[*space];
                // What is no part of the page's address is noise.
                IommuEntry::new(space, address | (request.offset() % self.page), self.page - 1, *perm)
            }
            None => IommuEntry::denied(0),
        }
    }

    fn indexes(&self) -> u32 {
        2
    }

    fn index(&self, attrs: MemTxAttrs) -> u32 {
        u32::from(attrs.secure)
    }

    fn min_page_size(&self) -> u64 {
        self.page
    }
}

/// A device of bytes that takes aligned accesses of up to four.
#[derive(Clone)]
struct Bytes {
    order: DeviceEndian,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl MmioOps for Bytes {
    fn rules(&self) -> AccessRules {
        AccessRules::new().valid(1, 4).implemented(1, 4).endian(self.order)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        self.peek(access.offset(), access.size()).ok_or(MemTxError::error())
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let n = access.size() as usize;
        let bytes = match self.order {
            DeviceEndian::Big => value.to_be_bytes()[8 - n..].to_vec(),
            _ => value.to_le_bytes()[..n].to_vec(),
        };
        self.bytes.lock().unwrap()[access.offset() as usize..][..n].copy_from_slice(&bytes);
        Ok(())
    }

    fn peek(&self, offset: u64, size: u32) -> Option<u64> {
        let all = self.bytes.lock().unwrap();
        let bytes = all.get(offset as usize..)?.get(..size as usize)?;
        Some(value(bytes, self.order == DeviceEndian::Big))
    }
}

fn value(bytes: &[u8], big: bool) -> u64 {
    let fold = |v: u64, b: &u8| (v << 8) | u64::from(*b);
    if big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
}

/// Where one byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Ram { block: usize, at: u64, room: u64 },
    Rom { block: usize, at: u64, room: u64 },
    Device { device: usize, at: u64 },
    Denied,
    Round,
}

/// What a byte was looked for for.
#[derive(Clone, Copy)]
struct Ask {
    needs: IommuPerm,
    index: u32,
}

/// All that the test knows.
struct Model {
    spaces: Vec<Vec<Run>>,
    tables: Vec<(u64, Pages)>,
    blocks: Vec<Vec<u8>>,
    devices: Vec<Vec<u8>>,
    /// Of the seeds: what happened.
    tally: Seen,
}

#[derive(Default)]
struct Seen {
    accesses: u64,
    good: u64,
    failed: u64,
    through: u64,
    deep: u64,
    round: u64,
    denied: u64,
    cut: u64,
    devices: u64,
    changes: u64,
}

impl Tally for Seen {
    fn add(&mut self, o: Self) {
        self.accesses += o.accesses;
        self.good += o.good;
        self.failed += o.failed;
        self.through += o.through;
        self.deep += o.deep;
        self.round += o.round;
        self.denied += o.denied;
        self.cut += o.cut;
        self.devices += o.devices;
        self.changes += o.changes;
    }
}

impl Model {
    fn run(&self, space: usize, at: u64) -> Option<&Run> {
        self.spaces[space].iter().find(|r| r.enabled && r.start <= at && at < r.end)
    }

    /// The end of the IOMMU range at `at`: windows that continue each other are one range.
    fn iommu_end(&self, space: usize, at: u64) -> u64 {
        let mut end = at;
        let mut now = self.run(space, at);
        while let Some(run) = now {
            end = run.end;
            now = self.run(space, end).filter(|next| match (run.what, next.what) {
                (What::Iommu { iommu: a, from }, What::Iommu { iommu: b, from: next_from }) => {
                    a == b && from + (run.end - run.start) == next_from
                }
                _ => false,
            });
        }
        end
    }

    /// Where a byte is, and how many bytes from it on go there together for all that IOMMUs say.
    fn find(&mut self, mut space: usize, mut at: u64, ask: Ask) -> (Place, u64) {
        let mut together = u64::MAX;
        for steps in 0.. {
            let Some(run) = self.run(space, at) else {
                return (Place::Nowhere, together);
            };
            let (offset, room) = (at - run.start, run.end - at);
            let place = match run.what {
                What::Ram { block, from } => Place::Ram { block, at: from + offset, room },
                What::Rom { block, from } => Place::Rom { block, at: from + offset, room },
                What::Device(device) => Place::Device { device, at: offset },
                What::Iommu { iommu, from } => {
                    self.tally.through += u64::from(steps == 0);
                    self.tally.deep += u64::from(steps == 1);
                    if steps == 16 {
                        self.tally.round += 1;
                        return (Place::Round, together);
                    }
                    together = together.min(self.iommu_end(space, at) - at);
                    let (page, pages) = &self.tables[iommu];
                    let offset = from + offset;
                    match pages.get(&(ask.index, offset / page)) {
                        Some((to, address, perm)) if perm.contains(ask.needs) => {
                            together = together.min(page - offset % page);
                            (space, at) = (*to, address + offset % page);
                            continue;
                        }
                        _ => {
                            self.tally.denied += 1;
                            Place::Denied
                        }
                    }
                }
            };
            return (place, together);
        }
        unreachable!("the loop ends by itself")
    }

    fn byte(&mut self, place: Place) -> Option<&mut u8> {
        match place {
            Place::Ram { block, at, .. } | Place::Rom { block, at, .. } => {
                Some(&mut self.blocks[block][at as usize])
            }
            Place::Device { device, at } => Some(&mut self.devices[device][at as usize]),
            _ => None,
        }
    }

    /// Reads, byte by byte: what is read, and the first address that failed.
    fn read(&mut self, space: usize, at: u64, out: &mut [u8], ask: Ask) -> Option<u64> {
        let mut failed = None;
        for (at, out) in (at..).zip(out) {
            let place = self.find(space, at, ask).0;
            self.tally.devices += u64::from(matches!(place, Place::Device { .. }));
            match self.byte(place) {
                Some(byte) => *out = *byte,
                None => {
                    *out = 0;
                    failed = failed.or(Some(at));
                }
            }
        }
        failed
    }

    /// Writes, byte by byte; `loader`: ROM too, and no device.
    fn write(&mut self, space: usize, at: u64, bytes: &[u8], ask: Ask, loader: bool) -> Option<u64> {
        let mut failed = None;
        for (at, byte) in (at..).zip(bytes) {
            let place = self.find(space, at, ask).0;
            let allowed = match place {
                Place::Rom { .. } => loader,
                Place::Device { .. } => !loader,
                _ => true,
            };
            match self.byte(place).filter(|_| allowed) {
                Some(there) => *there = *byte,
                None => failed = failed.or(Some(at)),
            }
        }
        failed
    }

    /// The bytes of one access, by where its first byte is: `None` if it is refused.
    fn exact(&mut self, (place, together): (Place, u64), size: u64) -> Option<&mut [u8]> {
        self.tally.cut += u64::from(together < size);
        match place {
            Place::Ram { block, at, room } | Place::Rom { block, at, room } if together.min(room) >= size => {
                self.blocks[block].get_mut(at as usize..(at + size) as usize)
            }
            Place::Device { device, at } if size <= 4 && at.is_multiple_of(size) => {
                self.tally.devices += 1;
                self.devices[device].get_mut(at as usize..(at + size) as usize)
            }
            _ => None,
        }
    }

    fn load(&mut self, space: usize, at: u64, size: u64, ask: Ask) -> Option<Vec<u8>> {
        let place = self.find(space, at, ask);
        self.exact(place, size).map(|bytes| bytes.to_vec())
    }

    fn store(&mut self, space: usize, at: u64, bytes: &[u8], ask: Ask) -> bool {
        let place = self.find(space, at, ask);
        let there = self.exact(place, bytes.len() as u64).filter(|_| !matches!(place.0, Place::Rom { .. }));
        there.map(|there| there.copy_from_slice(bytes)).is_some()
    }

    fn is_iommu(&self, space: usize, at: u64) -> bool {
        self.run(space, at).is_some_and(|r| matches!(r.what, What::Iommu { .. }))
    }

    fn cpu_load(&mut self, space: usize, at: u64, size: u64, ask: Ask) -> Option<Vec<u8>> {
        let past = at % size;
        if past == 0 {
            return self.load(space, at, size, ask);
        }
        let place = self.find(space, at, ask);
        if self.is_iommu(space, at) && matches!(place.0, Place::Denied | Place::Round) {
            return None;
        }
        if matches!(place.0, Place::Ram { .. } | Place::Rom { .. })
            && let Some(bytes) = self.exact(place, size)
        {
            return Some(bytes.to_vec());
        }
        let mut both = self.load(space, at - past, size, ask)?;
        both.extend(self.load(space, at - past + size, size, ask)?);
        Some(both[past as usize..][..size as usize].to_vec())
    }

    fn cpu_store(&mut self, space: usize, at: u64, bytes: &[u8], ask: Ask) -> bool {
        let size = bytes.len() as u64;
        let place = self.find(space, at, ask);
        if self.is_iommu(space, at) && matches!(place.0, Place::Denied | Place::Round) {
            return false;
        }
        match place.0 {
            Place::Ram { .. } if self.exact(place, size).is_some() => {
                return self.store(space, at, bytes, ask);
            }
            Place::Rom { .. } if self.exact(place, size).is_some() => return true,
            _ if at.is_multiple_of(size) => return self.store(space, at, bytes, ask),
            _ => {}
        }
        let mut good = true;
        for (at, byte) in (at..).zip(bytes) {
            good &= self.cpu_store(space, at, &[*byte], ask);
        }
        good
    }
}

/// The library's side, and the model.
struct World {
    memory: Memory,
    readers: Vec<Reader>,
    spaces: Vec<AddressSpace>,
    tables: Vec<Arc<Table>>,
    iommus: Vec<Iommu>,
    blocks: Vec<Arc<RamBlock>>,
    devices: Vec<Bytes>,
    model: Model,
    rng: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = rng(seed);
        let memory =
            Memory::builder(if rng.bool() { Endianness::Big } else { Endianness::Little }).bare().build();
        let blocks: Vec<_> = (0..BLOCKS).map(|_| block(SIZE)).collect();
        let mut contents = Vec::new();
        for block in &blocks {
            let bytes: Vec<u8> = (0..SIZE).map(|_| rng.u8(1..)).collect();
            block.write(0, &bytes).unwrap();
            contents.push(bytes);
        }
        let tables: Vec<Arc<Table>> = (0..IOMMUS)
            .map(|_| Table { page: 1 << rng.u32(..8), pages: Mutex::default(), spaces: Mutex::default() })
            .map(Arc::new)
            .collect();
        let regions: Vec<RegionId> = tables
            .iter()
            .map(|table| memory.add(Region::iommu("iommu", IOMMU_SIZE.into(), Arc::clone(table))).unwrap())
            .collect();
        let iommus = regions.iter().map(|id| memory.iommu(*id).unwrap()).collect();
        let mut world = Self {
            memory,
            readers: Vec::new(),
            spaces: Vec::new(),
            iommus,
            blocks,
            devices: Vec::new(),
            model: Model {
                spaces: Vec::new(),
                tables: tables.iter().map(|t| (t.page, HashMap::new())).collect(),
                blocks: contents,
                devices: Vec::new(),
                tally: Seen::default(),
            },
            tables,
            rng,
        };
        for i in 0..SPACES {
            world.space(i, &regions);
        }
        for table in &world.tables {
            *table.spaces.lock().unwrap() = world.spaces.iter().map(AddressSpace::downgrade).collect();
        }
        for iommu in 0..IOMMUS {
            for _ in 0..world.rng.u32(300..800) {
                world.change_page(iommu);
            }
        }
        world
    }

    /// A space with something in most of its slots.
    fn space(&mut self, number: usize, iommus: &[RegionId]) {
        let root = self.memory.add(Region::container("root", WHOLE)).unwrap();
        let mut runs = Vec::new();
        let mut at = 0;
        while at < SIZE {
            let len = (SLOT * self.rng.u64(1..=6)).min(SIZE - at);
            let block = self.rng.usize(..BLOCKS);
            let from = self.rng.u64(..SIZE - len);
            let ram = |name| Region::ram(name, Arc::clone(&self.blocks[block])).window(from, len);
            let (region, what) = match self.rng.u32(..10) {
                0 => {
                    at += len;
                    continue;
                }
                1..4 => (ram("ram"), What::Ram { block, from }),
                4 => (ram("rom").readonly(true), What::Rom { block, from }),
                5..7 => {
                    let bytes: Vec<u8> = (0..len).map(|_| self.rng.u8(1..)).collect();
                    self.model.devices.push(bytes.clone());
                    let order = if self.rng.bool() { DeviceEndian::Big } else { DeviceEndian::Little };
                    let device = Bytes { order, bytes: Arc::new(Mutex::new(bytes)) };
                    self.devices.push(device.clone());
                    (Region::io("device", len.into(), device), What::Device(self.devices.len() - 1))
                }
                _ => {
                    let iommu = self.rng.usize(..IOMMUS);
                    let mapped = PAGES * self.tables[iommu].page;
                    let from = self.rng.u64(..mapped.min(IOMMU_SIZE - len));
                    (Region::alias("window", iommus[iommu], from, len.into()), What::Iommu { iommu, from })
                }
            };
            let region = self.memory.add(region).unwrap();
            self.memory.map(root, at, region).unwrap();
            runs.push(Run { start: at, end: at + len, what, enabled: true, region });
            at += len;
        }
        let space = self.memory.address_space(&format!("space {number}"), root).unwrap();
        self.readers.push(space.reader());
        self.spaces.push(space);
        self.model.spaces.push(runs);
    }

    /// A page of a table leads elsewhere, or nowhere. Who remembers it is not told yet.
    fn change_page(&mut self, iommu: usize) {
        let page = self.tables[iommu].page;
        let key = (self.rng.u32(..2), self.rng.u64(..PAGES.min(IOMMU_SIZE / page)));
        let entry = (self.rng.u32(..8) > 0).then(|| {
            let perm = [IommuPerm::READ_WRITE, IommuPerm::READ_WRITE, IommuPerm::READ, IommuPerm::WRITE];
            let address = self.rng.u64(..(SIZE + SLOT) / page + 1) * page;
            (self.rng.usize(..SPACES), address, perm[self.rng.usize(..4)])
        });
        let mut pages = self.tables[iommu].pages.lock().unwrap();
        for table in [&mut *pages, &mut self.model.tables[iommu].1] {
            match entry {
                Some(entry) => table.insert(key, entry),
                None => table.remove(&key),
            };
        }
    }

    fn change(&mut self) {
        self.model.tally.changes += 1;
        match self.rng.u32(..8) {
            0 => {
                // Something comes or goes.
                let space = self.rng.usize(..SPACES);
                let at = self.rng.usize(..self.model.spaces[space].len());
                let run = &mut self.model.spaces[space][at];
                run.enabled = !run.enabled;
                self.memory.update(|t| t.set_enabled(run.region, run.enabled)).unwrap();
            }
            1 => {
                let at = self.rng.usize(..SPACES);
                self.readers[at].park();
            }
            2 => {
                let at = self.rng.usize(..SPACES);
                self.readers[at] = self.spaces[at].reader();
            }
            _ => {
                let iommu = self.rng.usize(..IOMMUS);
                for _ in 0..self.rng.u32(1..6) {
                    self.change_page(iommu);
                }
                let told = if self.rng.bool() {
                    self.iommus[iommu].notify(0, &IommuEvent::unmap(0, u64::MAX))
                } else {
                    self.iommus[iommu].unmap_all();
                    Ok(())
                };
                told.unwrap();
            }
        }
    }

    fn access(&mut self) {
        let space = self.rng.usize(..SPACES);
        let attrs = MemTxAttrs::new().with_secure(self.rng.bool());
        let index = u32::from(attrs.secure);
        let reads = Ask { needs: IommuPerm::READ, index };
        let writes = Ask { needs: IommuPerm::WRITE, index };
        let at = self.rng.u64(..SIZE + 16);
        let len = if self.rng.bool() { self.rng.u64(1..9) } else { self.rng.u64(1..300) };
        let bytes: Vec<u8> = (0..len).map(|_| self.rng.u8(1..)).collect();
        let size = 1 << self.rng.u32(..4);
        let word = &bytes.iter().chain([&9; 8]).copied().take(size as usize).collect::<Vec<u8>>()[..];
        let port = self.readers[space].port(attrs);
        let model = &mut self.model;
        model.tally.accesses += 1;
        let what = self.rng.u32(..8);
        let context =
            |what: &str| format!("{what} of {size} or {len} at {at:#x} of space {space}, index {index}");
        let mut out = vec![0xcc; len as usize];
        let mut want = out.clone();
        let big = self.rng.bool();
        let good = match what {
            0 => {
                let failed = model.read(space, at, &mut want, reads);
                let result = port.read(at, &mut out);
                assert_eq!(result.err().map(|e| e.address()), failed, "{}", context("read"));
                assert_eq!(out, want, "{}", context("read"));
                failed.is_none()
            }
            1 => {
                let failed = model.write(space, at, &bytes, writes, false);
                let result = port.write(at, &bytes);
                assert_eq!(result.err().map(|e| e.address()), failed, "{}", context("write"));
                failed.is_none()
            }
            2 => {
                let failed = model.read(space, at, &mut want, reads);
                let result = port.peek(at, &mut out);
                assert_eq!(result.err().map(|e| e.address()), failed, "{}", context("peek"));
                assert_eq!(out, want, "{}", context("peek"));
                failed.is_none()
            }
            3 => {
                let failed = model.write(space, at, &bytes, writes, true);
                let result = port.poke(at, &bytes);
                assert_eq!(result.err().map(|e| e.address()), failed, "{}", context("poke"));
                failed.is_none()
            }
            4 | 5 => {
                let want = if what == 4 {
                    model.load(space, at, size, reads)
                } else {
                    model.cpu_load(space, at, size, reads)
                };
                let got = if what == 4 { load(&port, at, size, big) } else { cpu_load(&port, at, size, big) };
                let want = want.map(|bytes| value(&bytes, big));
                assert_eq!(got.ok(), want, "{}: {got:?}", context(["load", "CPU load"][what as usize - 4]));
                want.is_some()
            }
            _ => {
                let want = if what == 6 {
                    model.store(space, at, word, writes)
                } else {
                    model.cpu_store(space, at, word, writes)
                };
                let v = value(word, big);
                let got = if what == 6 {
                    store(&port, at, size, big, v)
                } else {
                    cpu_store(&port, at, size, big, v)
                };
                assert_eq!(
                    got.is_ok(),
                    want,
                    "{}: {got:?}",
                    context(["store", "CPU store"][what as usize - 6])
                );
                want
            }
        };
        model.tally.good += u64::from(good);
        model.tally.failed += u64::from(!good);
    }

    /// All bytes are what the model says.
    fn same_bytes(&self) {
        for (block, want) in self.blocks.iter().zip(&self.model.blocks) {
            let mut got = vec![0; SIZE as usize];
            block.read(0, &mut got).unwrap();
            assert_eq!(got, *want);
        }
        for (device, want) in self.devices.iter().zip(&self.model.devices) {
            assert_eq!(*device.bytes.lock().unwrap(), *want);
        }
    }
}

/// A load of a size and order that are known when it runs.
macro_rules! loads {
    ($name:ident, $call:ident) => {
        fn $name(port: &Port<'_>, at: u64, size: u64, big: bool) -> Result<u64, MemTxError> {
            match (size, big) {
                (1, _) => port.$call::<Le, u8>(at).map(u64::from),
                (2, false) => port.$call::<Le, u16>(at).map(u64::from),
                (2, true) => port.$call::<Be, u16>(at).map(u64::from),
                (4, false) => port.$call::<Le, u32>(at).map(u64::from),
                (4, true) => port.$call::<Be, u32>(at).map(u64::from),
                (_, false) => port.$call::<Le, u64>(at),
                (_, true) => port.$call::<Be, u64>(at),
            }
        }
    };
}

/// The same for stores.
macro_rules! stores {
    ($name:ident, $call:ident) => {
        fn $name(port: &Port<'_>, at: u64, size: u64, big: bool, v: u64) -> Result<(), MemTxError> {
            match (size, big) {
                (1, _) => port.$call::<Le, u8>(at, v as u8),
                (2, false) => port.$call::<Le, u16>(at, v as u16),
                (2, true) => port.$call::<Be, u16>(at, v as u16),
                (4, false) => port.$call::<Le, u32>(at, v as u32),
                (4, true) => port.$call::<Be, u32>(at, v as u32),
                (_, false) => port.$call::<Le, u64>(at, v),
                (_, true) => port.$call::<Be, u64>(at, v),
            }
        }
    };
}

loads!(load, load);
loads!(cpu_load, cpu_load);
stores!(store, store);
stores!(cpu_store, cpu_store);

#[test]
fn random_accesses_through_random_iommus_reach_the_bytes_that_a_naive_model_finds() {
    let run = |seed, _| {
        let mut world = World::new(seed);
        for step in 0..120 {
            if world.rng.u32(..4) == 0 {
                world.change();
            }
            world.access();
            if step % 40 == 39 {
                world.same_bytes();
            }
        }
        world.model.tally
    };
    let name = "random_accesses_through_random_iommus";
    let (seeds, seen, all) = try_seeds("iommu", name, 1000, run);
    if all {
        // A generator gone dull would try nothing.
        let Seen { accesses, good, failed, through, deep, round, denied, cut, devices, changes } = seen;
        println!(
            "{seeds} maps, {accesses} accesses ({good} good, {failed} failed), {changes} changes; bytes looked for: {through} \
             behind IOMMUs, {deep} behind two, {round} in loops, {denied} denied, {devices} in devices; {cut} cut"
        );
        assert!(good > accesses / 10 && failed > accesses / 10);
        assert!(through > accesses && deep > accesses && round > 100 && denied > accesses);
        assert!(cut > accesses / 200 && devices > accesses / 4 && changes > seeds);
    }
}
