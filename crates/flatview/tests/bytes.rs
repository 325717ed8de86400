//! Random accesses of every size, alignment and byte order through all four entry points of random maps, held
//! against a model that knows nothing but bytes.
//!
//! The model asks the one-address rule who answers at each address, keeps the bytes of each RAM block by offset, and
//! cuts accesses to devices into callbacks by the rules of QEMU's documentation, written out in bytes in ascending
//! address order: there is no shifting or swapping of values in it, only values read from bytes in one order or the
//! other. Results, bytes, error places, and the callbacks with their offsets, sizes and values must be the same.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail loudly"
)]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use flatview::visibility::{Answer, Snapshot};
use flatview::{
    AccessRules, Be, DeviceEndian, Endianness, Le, MemTxAttrs, MemTxError, Ops, Port, RamBlock, Region,
    RegionId, RegionType, WHOLE,
};
use support::model::Sort;
use support::seeds::{Tally, try_seeds};
use support::world::{Leaves, World};

const BLOCK_SIZE: u64 = 4096;
const BLOCKS: usize = 2;

/// One callback, as the device saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    leaf: u32,
    address: u64,
    offset: u64,
    size: u32,
    /// What was written; reads have none.
    value: Option<u64>,
}

/// How a device wants to be accessed, and how it behaves.
#[derive(Debug, Clone, Copy)]
struct Device {
    leaf: u32,
    order: Endianness,
    valid: Option<(u32, u32)>,
    valid_unaligned: bool,
    implemented: (u32, u32),
    implemented_unaligned: bool,
    picky: bool,
    fails: bool,
    tells: bool,
}

/// What reads of a device give: any bits, also above the size.
fn device_value(leaf: u32, offset: u64, size: u32) -> u64 {
    (offset ^ (u64::from(leaf) << 40) ^ (u64::from(size) << 60))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

impl Device {
    fn accepts(&self, offset: u64) -> bool {
        !self.picky || offset & 4 == 0
    }

    fn fails_at(&self, offset: u64) -> bool {
        self.fails && offset % 5 == 3
    }

    fn ops(self, calls: &Arc<Mutex<Vec<Call>>>, endian: DeviceEndian) -> Ops {
        let mut rules = AccessRules::new().endian(endian).implemented(self.implemented.0, self.implemented.1);
        if let Some((min, max)) = self.valid {
            rules = rules.valid(min, max);
        }
        if self.valid_unaligned {
            rules = rules.valid_unaligned();
        }
        if self.implemented_unaligned {
            rules = rules.implemented_unaligned();
        }
        let log = |calls: &Arc<Mutex<Vec<Call>>>| {
            let calls = Arc::clone(calls);
            move |access: &flatview::Access<'_>, value: Option<u64>| {
                let (address, offset, size) = (access.address(), access.offset(), access.size());
                assert!(value.is_none() || access.is_write());
                calls.lock().unwrap().push(Call { leaf: self.leaf, address, offset, size, value });
                if self.fails_at(offset) { Err(MemTxError::error()) } else { Ok(()) }
            }
        };
        let (on_read, on_write) = (log(calls), log(calls));
        let ops = Ops::new()
            .rules(rules)
            .accepts(move |access| self.accepts(access.offset()))
            .read(move |a| on_read(a, None).map(|()| device_value(self.leaf, a.offset(), a.size())))
            .write(move |a, value| on_write(a, Some(value)));
        if self.tells {
            ops.peek(move |offset, size| Some(device_value(self.leaf, offset, size)))
        } else {
            ops
        }
    }
}

/// What answers: where its bytes are, and its callbacks.
#[derive(Debug, Clone, Copy)]
struct What {
    ram: Option<(usize, u64)>,
    device: Option<Device>,
}

/// Makes RAM, ROM, ROM devices and devices of all manners.
struct Makers {
    target: Endianness,
    blocks: Vec<Arc<RamBlock>>,
    calls: Arc<Mutex<Vec<Call>>>,
    made: u32,
    last: What,
    known: HashMap<RegionId, What>,
}

impl Makers {
    fn new(target: Endianness) -> Self {
        let blocks =
            (0..BLOCKS).map(|i| RamBlock::anonymous(&format!("block{i}"), BLOCK_SIZE).unwrap()).collect();
        let last = What { ram: None, device: None };
        Self { target, blocks, calls: Arc::default(), made: 0, last, known: HashMap::new() }
    }

    fn device(&mut self, rng: &mut fastrand::Rng) -> (Device, DeviceEndian) {
        self.made += 1;
        let sizes = |rng: &mut fastrand::Rng| {
            let (a, b) = (rng.u32(..4), rng.u32(..4));
            (1 << a.min(b), 1 << a.max(b))
        };
        let endian = [DeviceEndian::Native, DeviceEndian::Little, DeviceEndian::Big][rng.usize(..3)];
        let device = Device {
            leaf: self.made,
            order: endian.resolve(self.target),
            valid: rng.bool().then(|| sizes(rng)),
            valid_unaligned: rng.bool(),
            implemented: if rng.u32(..4) == 0 { (1, 4) } else { sizes(rng) },
            implemented_unaligned: rng.u32(..3) == 0,
            picky: rng.u32(..6) == 0,
            fails: rng.u32(..6) == 0,
            tells: rng.bool(),
        };
        (device, endian)
    }
}

impl Leaves for Makers {
    fn leaf(&mut self, rng: &mut fastrand::Rng, name: String, size: u128) -> (Region, Sort, u128) {
        let block = rng.usize(..BLOCKS);
        let from = if rng.bool() { 0 } else { rng.u64(..64) };
        let room = u128::from(BLOCK_SIZE - from);
        let handle = Arc::clone(&self.blocks[block]);
        let fits = size <= room;
        let ram = Some((block, from));
        let (what, region, sort, most) = match rng.u32(..16) {
            0 => {
                let what = What { ram: None, device: None };
                (what, Region::reservation(name, size), Sort::Leaf, WHOLE)
            }
            1 => {
                let what = What { ram: None, device: None };
                (what, Region::sketch(name, size, RegionType::Ram), Sort::Leaf, WHOLE)
            }
            2..7 if fits => {
                (What { ram, device: None }, Region::ram(name, handle).window(from, 0), Sort::Leaf, room)
            }
            7..9 if fits => {
                (What { ram, device: None }, Region::rom(name, handle).window(from, 0), Sort::Leaf, room)
            }
            9..11 if fits => {
                let (device, endian) = self.device(rng);
                let ops = device.ops(&self.calls, endian);
                let region = Region::rom_device(name, handle, ops).window(from, 0);
                (What { ram, device: Some(device) }, region, Sort::RomDevice, room)
            }
            _ => {
                let (device, endian) = self.device(rng);
                let ops = device.ops(&self.calls, endian);
                (What { ram: None, device: Some(device) }, Region::io(name, size, ops), Sort::Leaf, WHOLE)
            }
        };
        self.last = what;
        (region.size(size), sort, most)
    }

    fn added(&mut self, id: RegionId) {
        self.known.insert(id, self.last);
    }
}

/// Bytes in ascending address order, read in an order.
fn value_of(bytes: &[u8], order: Endianness) -> u64 {
    let mut wide = [0; 8];
    match order {
        Endianness::Little => {
            wide[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(wide)
        }
        Endianness::Big => {
            wide[8 - bytes.len()..].copy_from_slice(bytes);
            u64::from_be_bytes(wide)
        }
    }
}

/// The low `size` bytes of a value, in ascending address order.
fn bytes_of(value: u64, size: u32, order: Endianness) -> Vec<u8> {
    let size = size as usize;
    match order {
        Endianness::Little => value.to_le_bytes()[..size].to_vec(),
        Endianness::Big => value.to_be_bytes()[8 - size..].to_vec(),
    }
}

/// Result bits, then address, size and region of the first part that failed.
type Failure = (u8, u64, u32, Option<RegionId>);

const ERROR: u8 = 1;
const DECODE: u8 = 2;
const ACCESS: u8 = 4;

fn failure(error: MemTxError) -> Failure {
    (error.result().bits(), error.address(), error.size(), error.region())
}

/// The first failure keeps its place, all keep their bits.
fn also(first: &mut Option<Failure>, bits: u8, addr: u64, size: u32, region: Option<RegionId>) {
    if bits != 0 {
        match first {
            Some(first) => first.0 |= bits,
            None => *first = Some((bits, addr, size, region)),
        }
    }
}

fn largest_power_of_two(at_most: u64) -> u32 {
    1 << at_most.clamp(1, 8).ilog2()
}

/// What should happen.
struct Oracle<'a> {
    snapshot: &'a Snapshot,
    root: RegionId,
    known: &'a HashMap<RegionId, What>,
    romd: &'a HashMap<RegionId, bool>,
    blocks: &'a mut [Vec<u8>],
    calls: Vec<Call>,
}

/// Who answers at an address, and how.
#[derive(Clone, Copy)]
struct Found {
    answer: Answer,
    what: What,
    romd: bool,
}

impl Found {
    fn id(&self) -> Option<RegionId> {
        Some(self.answer.region)
    }

    /// RAM or ROM; a ROM device is neither.
    fn is_ram(&self) -> bool {
        self.what.ram.is_some() && self.what.device.is_none()
    }

    fn reads_memory(&self) -> bool {
        self.what.ram.is_some() && (self.what.device.is_none() || self.romd)
    }

    fn writes_memory(&self) -> bool {
        self.what.ram.is_some() && self.what.device.is_none() && !self.answer.readonly
    }

    /// The largest piece of `left` bytes that the bus gives to callbacks here.
    fn piece(&self, left: u64) -> u32 {
        let device = self.what.device;
        let most = device.and_then(|d| d.valid).map_or(4, |v| v.1);
        piece(self.answer.offset, most, device.is_some_and(|d| d.implemented_unaligned), left)
    }
}

fn piece(offset: u64, most: u32, unaligned: bool, left: u64) -> u32 {
    let aligned = if unaligned || offset == 0 { 8 } else { 1 << offset.trailing_zeros().min(3) };
    largest_power_of_two(u64::from(most).min(aligned).min(left))
}

impl Oracle<'_> {
    fn at(&self, addr: u64) -> Option<Found> {
        let answer = self.snapshot.who_answers(self.root, addr).expect("it could be rendered")?;
        Some(Found { answer, what: self.known[&answer.region], romd: self.romd[&answer.region] })
    }

    /// How many bytes from `addr` on, at most `most`, are one run of one region.
    fn run(&self, addr: u64, most: u64) -> u64 {
        let Some(first) = self.at(addr).map(|f| f.answer) else { return 0 };
        let goes_on = |i: &u64| {
            let next = addr.checked_add(*i).and_then(|a| self.at(a)).map(|f| f.answer);
            next == first.offset.checked_add(*i).map(|offset| Answer { offset, ..first })
        };
        (0..most).take_while(goes_on).count() as u64
    }

    fn byte(&mut self, found: &Found) -> Option<&mut u8> {
        let (block, from) = found.what.ram?;
        self.blocks[block].get_mut((from + found.answer.offset) as usize)
    }

    /// `size` bytes of memory at `addr`, if they are one run of memory that loads read.
    fn memory(&mut self, addr: u64, size: u32) -> Option<Vec<u8>> {
        let found = self.at(addr).filter(Found::reads_memory)?;
        if self.run(addr, u64::from(size)) < u64::from(size) {
            return None;
        }
        let (block, from) = found.what.ram?;
        let at = (from + found.answer.offset) as usize;
        Some(self.blocks[block][at..at + size as usize].to_vec())
    }

    fn write_memory(&mut self, addr: u64, bytes: &[u8]) -> bool {
        let writable = self.at(addr).is_some_and(|f| f.writes_memory());
        if !writable || self.run(addr, bytes.len() as u64) < bytes.len() as u64 {
            return false;
        }
        for (i, byte) in (0..).zip(bytes) {
            let found = self.at(addr + i).unwrap();
            *self.byte(&found).unwrap() = *byte;
        }
        true
    }

    /// One callback that reads; bytes in address order.
    fn call_read(&mut self, d: &Device, address: u64, offset: u64, size: u32, bits: &mut u8) -> Vec<u8> {
        self.calls.push(Call { leaf: d.leaf, address, offset, size, value: None });
        if d.fails_at(offset) {
            *bits |= ERROR;
            return vec![0; size as usize];
        }
        bytes_of(device_value(d.leaf, offset, size), size, d.order)
    }

    fn call_write(&mut self, d: &Device, address: u64, offset: u64, bytes: &[u8], bits: &mut u8) {
        let value = Some(value_of(bytes, d.order));
        self.calls.push(Call { leaf: d.leaf, address, offset, size: bytes.len() as u32, value });
        if d.fails_at(offset) {
            *bits |= ERROR;
        }
    }

    /// An access of `data.len()` bytes to callbacks: reads into `data`, or writes it. Gives the result bits.
    fn dispatch(&mut self, found: &Found, address: u64, data: &mut [u8], write: bool) -> u8 {
        let (offset, size) = (found.answer.offset, data.len() as u32);
        if !write {
            data.fill(0);
        }
        let Some(d) = found.what.device.filter(|_| !write || !found.answer.readonly) else {
            return DECODE;
        };
        let unaligned = offset % u64::from(size) != 0;
        let taken = d.valid.is_none_or(|(min, max)| (min..=max).contains(&size));
        if !d.accepts(offset) || (unaligned && !d.valid_unaligned) || !taken {
            return DECODE;
        }
        let mut bits = 0;
        let (least, most) = d.implemented;
        if unaligned && !d.implemented_unaligned {
            // Naturally aligned words, as large as fits; where not even the smallest that the device has fits, the
            // word around it, of which the access has a part.
            let mut at = 0;
            while at < size {
                let here = offset.wrapping_add(u64::from(at));
                let aligned = 1_u64 << here.trailing_zeros().min(3);
                let fits = largest_power_of_two(u64::from(most).min(aligned).min(u64::from(size - at)));
                let word = fits.max(least);
                let word_at = here - here % u64::from(word);
                let piece = (word - (here - word_at) as u32).min(size - at);
                let word_address = address.wrapping_add(word_at.wrapping_sub(offset));
                let inside = (here - word_at) as usize..(here - word_at) as usize + piece as usize;
                let part = at as usize..(at + piece) as usize;
                if !write {
                    let bytes = self.call_read(&d, word_address, word_at, word, &mut bits);
                    data[part].copy_from_slice(&bytes[inside]);
                } else if word == piece {
                    let bytes = data[part].to_vec();
                    self.call_write(&d, word_address, word_at, &bytes, &mut bits);
                } else {
                    // What stands around it is read first, and stays.
                    let mut bytes = self.call_read(&d, word_address, word_at, word, &mut bits);
                    if !d.fails_at(word_at) {
                        bytes[inside].copy_from_slice(&data[part]);
                        self.call_write(&d, word_address, word_at, &bytes, &mut bits);
                    }
                }
                at += piece;
            }
            return bits;
        }
        let call = size.min(most).max(least);
        for at in (0..size).step_by(call as usize) {
            let (here, address) = (offset.wrapping_add(u64::from(at)), address.wrapping_add(u64::from(at)));
            let part = at as usize..(at + call).min(size) as usize;
            if write {
                // A wider word gets zeros after the bytes that there are.
                let mut bytes = data[part].to_vec();
                bytes.resize(call as usize, 0);
                self.call_write(&d, address, here, &bytes, &mut bits);
            } else {
                let bytes = self.call_read(&d, address, here, call, &mut bits);
                let len = part.len();
                data[part].copy_from_slice(&bytes[..len]);
            }
        }
        bits
    }

    fn bus(&mut self, addr: u64, data: &mut [u8], write: bool, only_ram: bool) -> Option<Failure> {
        let mut first = None;
        let mut done = 0;
        while done < data.len() {
            let (here, left) = (addr.wrapping_add(done as u64), (data.len() - done) as u64);
            let found = self.at(here);
            let allowed = !only_ram || found.as_ref().is_some_and(Found::is_ram);
            let memory =
                found.filter(|f| allowed && if write { f.writes_memory() } else { f.reads_memory() });
            if let Some(found) = memory {
                let byte = self.byte(&found).unwrap();
                if write {
                    *byte = data[done];
                } else {
                    data[done] = *byte;
                }
                done += 1;
                continue;
            }
            let size = found.map_or_else(|| piece(here, 4, false, left), |f| f.piece(left));
            let part = &mut data[done..done + size as usize];
            let bits = match &found {
                _ if !allowed => ACCESS,
                Some(found) => self.dispatch(found, here, part, write),
                None => DECODE,
            };
            if !write && (!allowed || found.is_none()) {
                part.fill(0);
            }
            also(&mut first, bits, here, size, found.and_then(|f| f.id()));
            done += size as usize;
        }
        first
    }

    fn load(&mut self, addr: u64, size: u32) -> Result<Vec<u8>, Failure> {
        let Some(found) = self.at(addr) else { return Err((DECODE, addr, size, None)) };
        if let Some(bytes) = self.memory(addr, size) {
            return Ok(bytes);
        }
        let mut bytes = vec![0; size as usize];
        match self.dispatch(&found, addr, &mut bytes, false) {
            0 => Ok(bytes),
            bits => Err((bits, addr, size, found.id())),
        }
    }

    fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Failure> {
        let size = bytes.len() as u32;
        let Some(found) = self.at(addr) else { return Err((DECODE, addr, size, None)) };
        if self.write_memory(addr, bytes) {
            return Ok(());
        }
        match self.dispatch(&found, addr, &mut bytes.to_vec(), true) {
            0 => Ok(()),
            bits => Err((bits, addr, size, found.id())),
        }
    }

    /// QEMU 7.2's TCG: what is not aligned and not in one piece of memory becomes two aligned loads.
    fn cpu_load(&mut self, addr: u64, size: u32) -> Result<Vec<u8>, Failure> {
        let past = (addr % u64::from(size)) as usize;
        if past == 0 {
            return self.load(addr, size);
        }
        if let Some(bytes) = self.memory(addr, size) {
            return Ok(bytes);
        }
        let from = addr - past as u64;
        let mut bytes = self.load(from, size)?;
        bytes.extend(self.load(from.wrapping_add(u64::from(size)), size)?);
        Ok(bytes[past..past + size as usize].to_vec())
    }

    /// QEMU 7.2's TCG: stores of bytes; ROM takes a store and drops it.
    fn cpu_store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Failure> {
        let size = bytes.len() as u64;
        if self.write_memory(addr, bytes) {
            return Ok(());
        }
        let rom = |f: &Found| f.what.ram.is_some() && (f.answer.readonly || f.what.device.is_none());
        if self.at(addr).is_some_and(|f| rom(&f)) && self.run(addr, size) == size {
            return Ok(());
        }
        if addr.is_multiple_of(size) {
            return self.store(addr, bytes);
        }
        let mut first = None;
        for (i, byte) in (0..).zip(bytes) {
            if let Err((bits, addr, size, region)) = self.cpu_store(addr.wrapping_add(i), &[*byte]) {
                also(&mut first, bits, addr, size, region);
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn peek(&mut self, addr: u64, out: &mut [u8]) -> Option<Failure> {
        let mut first = None;
        let mut done = 0;
        while done < out.len() {
            let (here, left) = (addr.wrapping_add(done as u64), (out.len() - done) as u64);
            let found = self.at(here);
            let size = match found {
                Some(found) if found.what.ram.is_some() => self.run(here, left) as u32,
                Some(found) => found.piece(left),
                None => piece(here, 4, false, left),
            };
            let part = done..done + size as usize;
            done = part.end;
            let told = found.and_then(|f| {
                let device =
                    f.what.device.filter(|d| d.tells && !f.reads_memory() && size.is_power_of_two())?;
                (size <= 8)
                    .then(|| bytes_of(device_value(device.leaf, f.answer.offset, size), size, device.order))
            });
            match (told, found.filter(|f| f.what.ram.is_some())) {
                (Some(bytes), _) => out[part].copy_from_slice(&bytes),
                (None, Some(_)) => {
                    for i in part {
                        let found = self.at(addr.wrapping_add(i as u64)).unwrap();
                        out[i] = *self.byte(&found).unwrap();
                    }
                }
                (None, None) => {
                    out[part].fill(0);
                    also(&mut first, DECODE, here, size, found.and_then(|f| f.id()));
                }
            }
        }
        first
    }

    fn poke(&mut self, addr: u64, bytes: &[u8]) -> Option<Failure> {
        let mut first = None;
        let mut done = 0;
        while done < bytes.len() {
            let (here, left) = (addr.wrapping_add(done as u64), (bytes.len() - done) as u64);
            let found = self.at(here);
            let size = match found {
                Some(found) if found.what.ram.is_some() => {
                    *self.byte(&found).unwrap() = bytes[done];
                    done += 1;
                    continue;
                }
                Some(found) => found.piece(left),
                None => piece(here, 4, false, left),
            };
            also(&mut first, DECODE, here, size, found.and_then(|f| f.id()));
            done += size as usize;
        }
        first
    }
}

/// Calls `$method` of a port with the types that an order and a size name.
macro_rules! typed {
    ($port:expr, $method:ident, $order:expr, $size:expr, ($($arg:expr),*), $narrow:ident) => {
        match ($order, $size) {
            (Endianness::Little, 1) => $narrow!($port.$method::<Le, u8>($($arg),*), u8),
            (Endianness::Little, 2) => $narrow!($port.$method::<Le, u16>($($arg),*), u16),
            (Endianness::Little, 4) => $narrow!($port.$method::<Le, u32>($($arg),*), u32),
            (Endianness::Little, _) => $narrow!($port.$method::<Le, u64>($($arg),*), u64),
            (Endianness::Big, 1) => $narrow!($port.$method::<Be, u8>($($arg),*), u8),
            (Endianness::Big, 2) => $narrow!($port.$method::<Be, u16>($($arg),*), u16),
            (Endianness::Big, 4) => $narrow!($port.$method::<Be, u32>($($arg),*), u32),
            (Endianness::Big, _) => $narrow!($port.$method::<Be, u64>($($arg),*), u64),
        }
    };
}

macro_rules! widen {
    ($value:expr, $type:ty) => {
        $value.map(u64::from)
    };
}

macro_rules! as_is {
    ($value:expr, $type:ty) => {
        $value
    };
}

#[derive(Default)]
struct Seenings {
    accesses: u64,
    memory: u64,
    calls: u64,
    failures: u64,
    straddling: u64,
}

impl Tally for Seenings {
    fn add(&mut self, o: Self) {
        self.accesses += o.accesses;
        self.memory += o.memory;
        self.calls += o.calls;
        self.failures += o.failures;
        self.straddling += o.straddling;
    }
}

/// One random access of each kind in turn; everything that can be seen of it is the same.
fn one_access(
    rng: &mut fastrand::Rng,
    oracle: &mut Oracle<'_>,
    port: Port<'_>,
    addr: u64,
    tally: &mut Seenings,
) {
    let size = 1 << rng.u32(..4);
    let order = if rng.bool() { Endianness::Little } else { Endianness::Big };
    let len = match rng.u32(..8) {
        0..5 => size as usize,
        5..7 => rng.usize(..20),
        _ => rng.usize(..200),
    };
    let fill: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
    let value = rng.u64(..) & (u64::MAX >> (64 - 8 * size));
    let what = rng.u32(..8);
    let shown = |e: Option<Failure>| e.map_or(Ok(()), Err);
    let expected_failure;
    match what {
        0 => {
            let (mut expected, mut got) = (fill.clone(), fill);
            expected_failure = oracle.bus(addr, &mut expected, false, false);
            let result = port.read(addr, &mut got).map_err(failure);
            assert_eq!((result, got), (shown(expected_failure), expected), "bus read of {len} at {addr:#x}");
        }
        1 => {
            expected_failure = oracle.bus(addr, &mut fill.clone(), true, false);
            let result = port.write(addr, &fill).map_err(failure);
            assert_eq!(result, shown(expected_failure), "bus write of {len} at {addr:#x}");
        }
        2 => {
            let expected = oracle.load(addr, size).map(|b| value_of(&b, order));
            let result = typed!(port, load, order, size, (addr), widen).map_err(failure);
            assert_eq!(result, expected, "load of {size}, {order}-endian, at {addr:#x}");
            expected_failure = expected.err();
        }
        3 => {
            let expected = oracle.store(addr, &bytes_of(value, size, order));
            let result = typed!(port, store, order, size, (addr, flatview::Value::narrow(value)), as_is);
            assert_eq!(result.map_err(failure), expected, "store of {size}, {order}-endian, at {addr:#x}");
            expected_failure = expected.err();
        }
        4 => {
            let expected = oracle.cpu_load(addr, size).map(|b| value_of(&b, order));
            let result = typed!(port, cpu_load, order, size, (addr), widen).map_err(failure);
            assert_eq!(result, expected, "CPU load of {size}, {order}-endian, at {addr:#x}");
            expected_failure = expected.err();
        }
        5 => {
            let expected = oracle.cpu_store(addr, &bytes_of(value, size, order));
            let result = typed!(port, cpu_store, order, size, (addr, flatview::Value::narrow(value)), as_is);
            assert_eq!(
                result.map_err(failure),
                expected,
                "CPU store of {size}, {order}-endian, at {addr:#x}"
            );
            expected_failure = expected.err();
        }
        6 => {
            let (mut expected, mut got) = (fill.clone(), fill);
            expected_failure = oracle.peek(addr, &mut expected);
            let result = port.peek(addr, &mut got).map_err(failure);
            assert_eq!((result, got), (shown(expected_failure), expected), "peek of {len} at {addr:#x}");
        }
        _ if rng.bool() => {
            expected_failure = oracle.poke(addr, &fill);
            assert_eq!(
                port.poke(addr, &fill).map_err(failure),
                shown(expected_failure),
                "poke of {len} at {addr:#x}"
            );
        }
        _ => {
            // For RAM only: nothing else is touched.
            let port = port.with_attrs(MemTxAttrs::new().with_memory(true));
            let (mut expected, mut got) = (fill.clone(), fill.clone());
            let read = oracle.bus(addr, &mut expected, false, true);
            let result = port.read(addr, &mut got).map_err(failure);
            assert_eq!((result, got), (shown(read), expected), "read of RAM only, {len} at {addr:#x}");
            expected_failure = oracle.bus(addr, &mut fill.clone(), true, true);
            let result = port.write(addr, &fill).map_err(failure);
            assert_eq!(result, shown(expected_failure), "write of RAM only, {len} at {addr:#x}");
        }
    }
    tally.accesses += 1;
    tally.failures += u64::from(expected_failure.is_some());
    tally.calls += u64::from(!oracle.calls.is_empty());
    tally.memory += u64::from(oracle.at(addr).is_some_and(|f| f.what.ram.is_some()));
    tally.straddling += u64::from(oracle.run(addr, u64::from(size)) < u64::from(size));
}

const TRANSACTIONS: usize = 5;
const ACCESSES: usize = 60;

/// Inside something, at the end of something, where something hidden ends, or anywhere.
fn somewhere(rng: &mut fastrand::Rng, ranges: &[(u64, u64)], edges: &[u64]) -> u64 {
    let any = |n: usize, rng: &mut fastrand::Rng| rng.usize(..n.max(1));
    let (start, last) = ranges.get(any(ranges.len(), rng)).copied().unwrap_or((0, 0));
    match rng.u32(..16) {
        0..8 => start + (rng.u64(..) >> rng.u32(..64)).min(last - start),
        8..13 => last.wrapping_add_signed(rng.i64(-10..4)),
        13..15 => {
            edges.get(any(edges.len(), rng)).copied().unwrap_or(0).wrapping_add_signed(rng.i64(-10..10))
        }
        _ => rng.u64(..),
    }
}

fn one_map(seed: u64, verbose: bool) -> Seenings {
    let mut tally = Seenings::default();
    let target = if seed.is_multiple_of(2) { Endianness::Little } else { Endianness::Big };
    let makers = Makers::new(target);
    let calls = Arc::clone(&makers.calls);
    let handles = makers.blocks.clone();
    let mut world = World::new(seed, verbose, makers, target);
    let mut blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![0; BLOCK_SIZE as usize]).collect();
    for (block, handle) in blocks.iter_mut().zip(&handles) {
        block.fill_with(|| world.rng.u8(..));
        handle.write(0, block).unwrap();
    }
    for _ in 0..TRANSACTIONS {
        world.transaction();
        if world.rng.u32(..8) == 0 {
            world.change_spaces();
        }
        let children = world.model.children();
        let snapshot = Snapshot::of(&world.memory);
        let romd: HashMap<_, _> = world.model.nodes.iter().map(|n| (n.id, n.romd)).collect();
        for seen in &world.spaces {
            let root = world.model.nodes[seen.root].id;
            let view = seen.space.view().unwrap();
            let ranges: Vec<(u64, u64)> = view.ranges().map(|r| (r.start(), r.last())).collect();
            let (edges, _) = world.model.edges(seen.root, &children, 300);
            let accesses = if ranges.is_empty() { 2 } else { ACCESSES / world.spaces.len() };
            for i in 0..accesses {
                let addr = somewhere(&mut world.rng, &ranges, &edges);
                let rng = &mut world.rng;
                let mut oracle = Oracle {
                    snapshot: &snapshot,
                    root,
                    known: &world.leaves.known,
                    romd: &romd,
                    blocks: &mut blocks,
                    calls: Vec::new(),
                };
                let port = seen.reader.port(MemTxAttrs::UNSPECIFIED);
                one_access(rng, &mut oracle, port, addr, &mut tally);
                let expected = std::mem::take(&mut oracle.calls);
                let got = std::mem::take(&mut *calls.lock().unwrap());
                assert_eq!(got, expected, "callbacks of access {i} at {addr:#x} of space {}", seen.root);
            }
        }
        for (block, handle) in blocks.iter().zip(&handles) {
            let mut now = vec![0; BLOCK_SIZE as usize];
            handle.read(0, &mut now).unwrap();
            assert!(&now == block, "the bytes of block {:?}", handle.name());
        }
    }
    tally
}

#[test]
fn random_accesses_follow_the_byte_model() {
    let began = Instant::now();
    let (maps, t, enough) = try_seeds("bytes", "random_accesses_follow_the_byte_model", 12_000, one_map);
    println!(
        "{maps} maps in {:.1} s: {} accesses, {} to memory, {} with callbacks, {} failed, {} not in one range",
        began.elapsed().as_secs_f64(),
        t.accesses,
        t.memory,
        t.calls,
        t.failures,
        t.straddling
    );
    if enough {
        assert!(t.accesses > 100 * maps && t.memory > t.accesses / 10 && t.calls > t.accesses / 20);
        assert!(t.failures > t.accesses / 10 && t.failures < t.accesses && t.straddling > t.accesses / 20);
    }
}
