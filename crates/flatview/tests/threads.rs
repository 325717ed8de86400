//! Readers while the map changes: what they may see, and that what they do not see any more is freed.
//!
//! The map of the stress test tells its own generation everywhere: the RAM, the device, the alias and the ROM device
//! of generation `n` all read as `n`, and a mark that is there in odd (or even) generations only makes the spaces
//! change the region their view is rendered from. So an access that sees parts of two maps is noticed.
//!
//! `FLATVIEW_STRESS_SECONDS` sets how long it runs (default 2). Only `parking_lot` and `spawn` with `join` here:
//! ThreadSanitizer does not see into the standard library's locks.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]
#![expect(unsafe_code, reason = "a caller's buffer is given by unsafe means")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use flatview::*;
use parking_lot::{Condvar, Mutex};

/// Counts the living.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Sixteen bytes that say a generation twice.
struct Bank(Box<[AtomicU64]>, #[expect(dead_code, reason = "counts")] Alive);

impl Bank {
    fn block(generation: u64, count: &Arc<AtomicUsize>) -> Arc<RamBlock> {
        let words = [AtomicU64::new(generation.to_le()), AtomicU64::new(generation.to_le())];
        RamBlock::from_buffer("bank", Bank(words.into(), Alive::new(count))).unwrap()
    }
}

// SAFETY: a heap slice of atomics does not move with its owner and may be written through shared references.
unsafe impl HostBuffer for Bank {
    fn ptr(&self) -> NonNull<u8> {
        NonNull::from(&*self.0).cast()
    }
    fn len(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// A device whose every register reads as its generation.
struct Teller(u64, #[expect(dead_code, reason = "counts")] Alive);

impl MmioOps for Teller {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid(1, 8).implemented(1, 8)
    }
    fn read(&self, _: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0)
    }
    fn write(&self, _: &Access<'_>, _: u64) -> Result<(), MemTxError> {
        Ok(())
    }
}

/// What a view of some generation shows: RAM, device, part of RAM through an alias, ROM device, and the mark.
const RAM: u64 = 0x00;
const DEVICE: u64 = 0x10;
const ALIAS: u64 = 0x20;
const ROM_DEVICE: u64 = 0x30;
const MARK: u64 = 0x40;
const END: u64 = 0x48;

/// A space and the generations in which it shows the mark.
#[derive(Clone)]
struct Window {
    space: AddressSpace,
    root: RegionId,
    /// 0: even, 1: odd, 2: never.
    marked: u64,
}

/// The generation that was last seen to be there, and the one that is on its way.
#[derive(Default)]
struct Progress {
    published: AtomicU64,
    begun: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Runs one access and checks that the generation it tells is one that was published during it.
    fn check(&self, last: &mut u64, access: impl FnOnce() -> u64) {
        let from = self.published.load(SeqCst);
        let seen = access();
        let to = self.begun.load(SeqCst);
        assert!((from..=to).contains(&seen), "generation {seen} was seen while {from} to {to} were there");
        assert!(*last <= seen, "back from generation {last} to {seen}");
        *last = seen;
    }
}

/// One bus access over everything a window shows.
fn read_all(port: Port<'_>, window: &Window) -> u64 {
    let mut bytes = [0xee; END as usize];
    let result = port.read(0, &mut bytes);
    let words: Vec<u64> = bytes.chunks(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect();
    let generation = words[0];
    assert!(words[..8].iter().all(|w| *w == generation), "torn: {words:x?}");
    if generation % 2 == window.marked {
        assert_eq!((result, words[8]), (Ok(()), generation));
    } else {
        let error = result.expect_err("the mark is not in this generation");
        assert_eq!((error.address(), error.region(), words[8]), (MARK, None, 0), "generation {generation}");
    }
    generation
}

struct Stress {
    memory: Memory,
    windows: [Window; 3],
    bank: RegionId,
    alive: Arc<AtomicUsize>,
    /// Regions of the generation that is there.
    shown: Vec<(RegionId, RegionId)>,
}

impl Stress {
    fn new() -> Self {
        let memory = Memory::new(Endianness::Little);
        let bank = memory.add(Region::container("bank", 0x40)).unwrap();
        let window = |name: &str, marked| {
            let root = memory.add(Region::container(name, 0x1000)).unwrap();
            let alias = memory.add(Region::alias("bank", bank, 0, 0x40)).unwrap();
            memory.map(root, 0, alias).unwrap();
            Window { space: memory.address_space(name, root).unwrap(), root, marked }
        };
        // The marks make one window leave the bank's own view whenever the other comes back to it; the third stays.
        let windows = [window("even", 0), window("odd", 1), window("never", 2)];
        Self { memory, windows, bank, alive: Arc::default(), shown: Vec::new() }
    }

    /// Replaces everything in one transaction.
    fn advance(&mut self, generation: u64) {
        let old = std::mem::take(&mut self.shown);
        self.shown = self
            .memory
            .update(|t| {
                // The alias goes before the RAM that it shows.
                for (container, region) in old {
                    t.unmap(container, region)?;
                    t.remove(region)?;
                }
                let block = || Bank::block(generation, &self.alive);
                let teller = || Teller(generation, Alive::new(&self.alive));
                let ram = t.add(Region::ram("ram", block()))?;
                let device = t.add(Region::io("device", 0x10, teller()))?;
                let flash = t.add(Region::rom_device("flash", block(), teller()))?;
                let alias = t.add(Region::alias("alias", ram, 0, 0x10))?;
                let mut shown = vec![(self.bank, alias), (self.bank, ram)];
                t.map(self.bank, ALIAS, alias)?;
                t.map(self.bank, RAM, ram)?;
                for (at, region) in [(DEVICE, device), (ROM_DEVICE, flash)] {
                    t.map(self.bank, at, region)?;
                    shown.push((self.bank, region));
                }
                for window in self.windows.iter().filter(|w| w.marked == generation % 2) {
                    let mark = t.add(Region::io("mark", 8, teller()))?;
                    t.map(window.root, MARK, mark)?;
                    shown.push((window.root, mark));
                }
                Ok::<_, MemoryError>(shown)
            })
            .unwrap();
    }
}

/// What one generation keeps alive: two blocks, two devices, one mark.
const EACH: usize = 5;

#[test]
fn every_read_tells_of_one_published_map_and_nothing_grows() {
    let seconds = std::env::var("FLATVIEW_STRESS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2.0);
    let mut stress = Stress::new();
    stress.advance(0);
    let progress = Arc::new(Progress::default());
    let reads = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    let mut spawn = |mut body: Box<dyn FnMut(&Progress) + Send>| {
        let (progress, reads) = (Arc::clone(&progress), Arc::clone(&reads));
        threads.push(thread::spawn(move || {
            while !progress.stop.load(SeqCst) {
                body(&progress);
                reads.fetch_add(1, SeqCst);
            }
        }));
    };

    // Whole windows on the bus, one reader each.
    for window in stress.windows.clone() {
        let (reader, mut last) = (window.space.reader(), 0);
        let mut body = move |p: &Progress| {
            p.check(&mut last, || read_all(reader.port(MemTxAttrs::UNSPECIFIED), &window));
        };
        spawn(Box::new(move |p| (0..16).for_each(|_| body(p))));
    }
    // Exact loads from place to place, as a CPU does them.
    let (reader, mut last) = (stress.windows[0].space.reader(), 0);
    spawn(Box::new(move |p| {
        for at in [RAM, DEVICE, ALIAS, ROM_DEVICE, RAM + 8, DEVICE + 8, ALIAS + 8, ROM_DEVICE + 8] {
            p.check(&mut last, || reader.load::<Le, u64>(at).unwrap());
        }
    }));
    // One that is often away.
    let (window, mut last) = (stress.windows[1].clone(), 0);
    let mut reader = window.space.reader();
    spawn(Box::new(move |p| {
        p.check(&mut last, || read_all(reader.port(MemTxAttrs::UNSPECIFIED), &window));
        reader.park();
        thread::sleep(Duration::from_micros(last % 2000));
    }));
    // One that makes a reader for each access.
    let (window, mut last) = (stress.windows[2].clone(), 0);
    spawn(Box::new(move |p| {
        p.check(&mut last, || {
            let mut bytes = [0; 8];
            window.space.read(ALIAS, &mut bytes).unwrap();
            u64::from_le_bytes(bytes)
        });
    }));
    // A device that looks through the windows from inside its callbacks, and moves a region about.
    let system = stress.memory.system();
    let cursor = stress.memory.add(Region::io("cursor", 4, Ops::new().read(|_| Ok(1)))).unwrap();
    stress.memory.map(system, 0x10000, cursor).unwrap();
    let dma = {
        let windows = stress.windows.clone().map(|w| (w.space.downgrade(), w.root, w.marked));
        let (p, memory) = (Arc::clone(&progress), stress.memory.downgrade());
        let lasts = Mutex::new([0; 3]);
        let ops = Ops::new().read(move |a| {
            for ((space, root, marked), last) in windows.iter().zip(&mut *lasts.lock()) {
                let space = space.upgrade().ok_or(MemTxError::error())?;
                let window = Window { space, root: *root, marked: *marked };
                p.check(last, || read_all(a.port(&window.space), &window));
            }
            Ok(0x600d)
        });
        ops.write(move |_, value| {
            let memory = memory.upgrade().ok_or(MemTxError::error())?;
            memory.update(|t| t.set_address(cursor, value)).map_err(|_| MemTxError::error())
        })
    };
    let owner = Owner::device("dma");
    let dma = stress.memory.add(Region::io("dma", 8, dma).owner(&owner)).unwrap();
    stress.memory.map(system, 0, dma).unwrap();
    let (reader, mut at) = (stress.memory.memory_space().reader(), 0x10000_u32);
    spawn(Box::new(move |_| {
        assert_eq!(reader.load::<Le, u32>(0), Ok(0x600d));
        assert_eq!(reader.load::<Le, u32>(u64::from(at)), Ok(1));
        let old = u64::from(at);
        at = if at == 0x10000 { 0x20000 } else { 0x10000 };
        // What a callback changed is seen by the same thread at once.
        reader.store::<Le, u32>(4, at).unwrap();
        assert!(reader.load::<Le, u32>(old).is_err());
        assert_eq!(reader.load::<Le, u32>(u64::from(at)), Ok(1));
    }));

    // A generation keeps what it shows alive; besides the one that is there, only what readers look at.
    let most = (1 + threads.len() * 8) * EACH;
    let (mut generation, mut largest, mut slowest) = (0, 0, Duration::ZERO);
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < seconds && threads.iter().all(|t| !t.is_finished()) {
        generation += 1;
        progress.begun.store(generation, SeqCst);
        stress.advance(generation);
        progress.published.store(generation, SeqCst);
        largest = largest.max(stress.alive.load(SeqCst));
        assert!(largest <= most, "{largest} alive");
        if generation % 64 == 0 {
            let asked = Instant::now();
            stress.memory.synchronize().unwrap();
            slowest = slowest.max(asked.elapsed());
            assert_eq!(stress.alive.load(SeqCst), EACH, "only what is there now");
        }
    }
    progress.stop.store(true, SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    println!(
        "{generation} maps, {} rounds of reads, at most {largest} alive, synchronize took {slowest:?} at most",
        reads.load(SeqCst)
    );
    assert!(generation > 64, "the writer hardly ran");
    assert_eq!(stress.memory.stale_view().unwrap(), None);
    stress.memory.synchronize().unwrap();
    assert_eq!(stress.alive.load(SeqCst), EACH);
    assert_eq!(stress.memory.views_in_use(), 0);
    assert_eq!(stress.memory.blocked_reentries(), 0);
    let alive = Arc::clone(&stress.alive);
    drop(stress);
    assert_eq!(alive.load(SeqCst), 0, "nothing outlives the memory");
}

/// A place to wait in a callback until the test says go.
#[derive(Default)]
struct Gate {
    /// How many are inside, and whether they may leave.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            self.changed.wait(&mut state);
        }
        state.0 -= 1;
    }

    fn wait_for_somebody(&self) {
        let mut state = self.state.lock();
        while state.0 == 0 {
            self.changed.wait(&mut state);
        }
    }

    fn open(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }
}

/// A device that waits in its callback, then uses its own state.
struct Slow {
    gate: Arc<Gate>,
    state: Box<[AtomicU64]>,
    _alive: Alive,
}

impl MmioOps for Slow {
    fn read(&self, _: &Access<'_>) -> Result<u64, MemTxError> {
        self.gate.pass();
        Ok(self.state.iter().map(|w| w.load(SeqCst)).sum())
    }
    fn write(&self, _: &Access<'_>, _: u64) -> Result<(), MemTxError> {
        Ok(())
    }
}

/// A slow device at 0 and a RAM bank at 0x100, and who holds on to them.
struct SlowBench {
    memory: Memory,
    gate: Arc<Gate>,
    alive: Arc<AtomicUsize>,
    device: RegionId,
    ram: RegionId,
}

impl SlowBench {
    fn new() -> Self {
        let memory = Memory::new(Endianness::Little);
        let (gate, alive) = (Arc::new(Gate::default()), Arc::default());
        let state = (0..100).map(AtomicU64::new).collect();
        let slow = Slow { gate: Arc::clone(&gate), state, _alive: Alive::new(&alive) };
        let device = memory.add(Region::io("slow", 4, slow)).unwrap();
        let ram = memory.add(Region::ram("ram", Bank::block(7, &alive))).unwrap();
        memory.map(memory.system(), 0, device).unwrap();
        memory.map(memory.system(), 0x100, ram).unwrap();
        Self { memory, gate, alive, device, ram }
    }

    fn remove_both(&self) {
        self.memory
            .update(|t| {
                for id in [self.device, self.ram] {
                    t.unmap(self.memory.system(), id)?;
                    t.remove(id)?;
                }
                Ok::<(), MemoryError>(())
            })
            .unwrap();
    }
}

#[test]
fn a_device_removed_during_its_callback_lives_until_the_callback_returns() {
    let b = SlowBench::new();
    let mut reader = b.memory.memory_space().reader();
    let inside = thread::spawn(move || {
        let value = reader.load::<Le, u32>(0);
        // The view it ran in went with the access: the next one sees the new map.
        let gone = reader.load::<Le, u32>(0);
        reader.park();
        (value, gone.is_err(), reader)
    });
    b.gate.wait_for_somebody();
    b.remove_both();
    // Other changes, each of which frees what it can.
    for _ in 0..100 {
        let id = b.memory.add(Region::reservation("other", 4)).unwrap();
        b.memory.map(b.memory.system(), 0x200, id).unwrap();
        b.memory.update(|t| t.unmap(b.memory.system(), id)).unwrap();
    }
    assert!(b.memory.memory_space().reader().load::<Le, u32>(0).is_err(), "others see it gone");
    assert_eq!(b.alive.load(SeqCst), 2, "the device is in use, and its view has the RAM");
    assert_eq!(b.memory.views_in_use(), 1);
    b.gate.open();
    let (value, gone, reader) = inside.join().unwrap();
    assert_eq!((value, gone), (Ok(4950), true));
    b.memory.synchronize().unwrap();
    assert_eq!((b.alive.load(SeqCst), b.memory.views_in_use()), (0, 0));
    drop(reader);
}

#[test]
fn synchronize_waits_for_a_callback_that_is_running_and_for_no_parked_reader() {
    let b = SlowBench::new();
    let mut parked = b.memory.memory_space().reader();
    assert_eq!(parked.load::<Le, u64>(0x100), Ok(7));
    parked.park();
    let reader = b.memory.memory_space().reader();
    let inside = thread::spawn(move || reader.load::<Le, u32>(0));
    b.gate.wait_for_somebody();
    b.remove_both();
    let done = Arc::new(AtomicBool::new(false));
    let waiting = {
        let (memory, done, alive) = (b.memory.clone(), Arc::clone(&done), Arc::clone(&b.alive));
        thread::spawn(move || {
            memory.synchronize().unwrap();
            done.store(true, SeqCst);
            alive.load(SeqCst)
        })
    };
    thread::sleep(Duration::from_millis(50));
    assert!(!done.load(SeqCst), "the device's callback still runs");
    b.gate.open();
    assert_eq!(inside.join().unwrap(), Ok(4950));
    assert_eq!(waiting.join().unwrap(), 0, "after it nothing of the old map is left");
    assert!(parked.load::<Le, u64>(0x100).is_err());
}

/// A device that takes its time to go.
struct Lingering {
    gate: Arc<Gate>,
    memory: WeakMemory,
    _alive: Alive,
}

impl MmioOps for Lingering {
    fn read(&self, _: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(1)
    }
    fn write(&self, _: &Access<'_>, _: u64) -> Result<(), MemTxError> {
        Ok(())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.upgrade() {
            assert_eq!(memory.synchronize(), Err(MemoryError::WouldWaitForItself));
            // Changing the map is fine.
            memory.add(Region::reservation("made by a destructor", 4)).unwrap();
        }
        self.gate.pass();
    }
}

#[test]
fn synchronize_waits_for_what_another_thread_is_freeing() {
    let memory = Memory::new(Endianness::Little);
    let (gate, alive) = (Arc::new(Gate::default()), Arc::default());
    let device =
        Lingering { gate: Arc::clone(&gate), memory: memory.downgrade(), _alive: Alive::new(&alive) };
    let device = memory.add(Region::io("lingering", 4, device)).unwrap();
    memory.map(memory.system(), 0, device).unwrap();
    assert_eq!(memory.memory_space().reader().load::<Le, u32>(0), Ok(1));
    let removing = {
        let memory = memory.clone();
        thread::spawn(move || {
            memory.update(|t| {
                t.unmap(memory.system(), device)?;
                t.remove(device)
            })
        })
    };
    gate.wait_for_somebody();
    let done = Arc::new(AtomicBool::new(false));
    let waiting = {
        let (memory, done, alive) = (memory.clone(), Arc::clone(&done), Arc::clone(&alive));
        thread::spawn(move || {
            memory.synchronize().unwrap();
            done.store(true, SeqCst);
            alive.load(SeqCst)
        })
    };
    thread::sleep(Duration::from_millis(50));
    assert!(!done.load(SeqCst), "the destructor still runs");
    assert!(memory.memory_space().reader().load::<Le, u32>(0).is_err(), "and holds no lock");
    gate.open();
    assert_eq!(waiting.join().unwrap(), 0);
    removing.join().unwrap().unwrap();
}

#[test]
fn synchronize_returns_while_readers_run() {
    let b = SlowBench::new();
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Arc<[AtomicU64]> = (0..3).map(AtomicU64::new).collect();
    let threads: Vec<_> = (0..counts.len())
        .map(|i| {
            let (reader, stop) = (b.memory.memory_space().reader(), Arc::clone(&stop));
            let counts = Arc::clone(&counts);
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    assert_eq!(reader.load::<Le, u64>(0x100), Ok(7));
                    counts[i].fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let before: Vec<u64> = counts.iter().map(|c| c.load(SeqCst)).collect();
        // Each of them is at it.
        while counts.iter().zip(&before).any(|(now, before)| now.load(SeqCst) == *before) {
            thread::yield_now();
        }
        b.memory.update(|t| t.set_enabled(b.device, false)).unwrap();
        b.memory.synchronize().unwrap();
        assert_eq!(b.memory.views_in_use(), 0);
        b.memory.update(|t| t.set_enabled(b.device, true)).unwrap();
    }
    stop.store(true, SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
}
