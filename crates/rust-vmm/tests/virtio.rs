//! virtio-queue moves descriptors and buffers in our memory. The driver's side is written here, through a `Reader`, as a
//! guest's CPU would; the device's side knows nothing of Flatview.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]
#![expect(clippy::single_range_in_vec_init, reason = "lists of runs that happen to hold one")]

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use flatview::{AddressSpace, DirtyClient, Endianness, Le, Memory, Ops, RamBlock, Reader, Region, RegionId};
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddressSpace;

const PAGE: u64 = 4096;
const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;
const SIZE: u16 = 16;

/// What the device does with one request: all it can read, in capitals, goes to where it can write.
fn answer(request: &[u8]) -> Vec<u8> {
    request.to_ascii_uppercase()
}

/// A device: takes all requests there are, and tells how many of them it could not carry out.
fn serve<S: GuestAddressSpace>(space: &S, queue: &mut Queue) -> usize {
    let mut bad = 0;
    let waits = |queue: &Queue| {
        let there = queue.avail_idx(&*space.memory(), Ordering::Acquire);
        there.is_ok_and(|index| index.0 != queue.next_avail())
    };
    while waits(queue) {
        // Asked for after the request was seen: the map that the request was made for, or a newer one.
        let memory = space.memory();
        let Some(chain) = queue.pop_descriptor_chain(memory.clone()) else { break };
        let head = chain.head_index();
        let carried_out = (|| {
            let mut request = Vec::new();
            chain.clone().reader(&*memory).ok()?.read_to_end(&mut request).ok()?;
            let mut writer = chain.writer(&*memory).ok()?;
            let reply = answer(&request);
            writer.write_all(&reply).ok()?;
            u32::try_from(writer.bytes_written()).ok()
        })();
        bad += usize::from(carried_out.is_none());
        queue.add_used(&*memory, head, carried_out.unwrap_or(0)).unwrap();
    }
    bad
}

/// The driver, on a CPU.
struct Driver {
    cpu: Reader,
    table: u64,
    avail: u64,
    used: u64,
    submitted: u16,
}

type Descriptor = (u64, u32, u16);

impl Driver {
    fn new(space: &AddressSpace, table: u64, avail: u64, used: u64) -> (Self, Queue) {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_size(SIZE);
        queue.set_desc_table_address(Some(table as u32), Some((table >> 32) as u32));
        queue.set_avail_ring_address(Some(avail as u32), Some((avail >> 32) as u32));
        queue.set_used_ring_address(Some(used as u32), Some((used >> 32) as u32));
        queue.set_ready(true);
        (Self { cpu: space.reader(), table, avail, used, submitted: 0 }, queue)
    }

    fn describe(&self, head: u16, chain: &[Descriptor]) {
        self.describe_at(self.table, head, chain);
    }

    /// Writes descriptors to a table, each but the last with a next one.
    fn describe_at(&self, table: u64, first: u16, chain: &[Descriptor]) {
        for (i, (addr, len, flags)) in (first..).zip(chain) {
            let at = table + 16 * u64::from(i);
            let more = if usize::from(i - first) + 1 < chain.len() { NEXT } else { 0 };
            self.cpu.store::<Le, u64>(at, *addr).unwrap();
            self.cpu.store::<Le, u32>(at + 8, *len).unwrap();
            self.cpu.store::<Le, u16>(at + 12, flags | more).unwrap();
            self.cpu.store::<Le, u16>(at + 14, i + 1).unwrap();
        }
    }

    /// Makes the chain that begins at `head` available.
    fn submit(&mut self, head: u16) {
        self.cpu.store::<Le, u16>(self.avail + 4 + 2 * u64::from(self.submitted % SIZE), head).unwrap();
        self.submitted = self.submitted.wrapping_add(1);
        std::sync::atomic::fence(Ordering::SeqCst);
        self.cpu.store::<Le, u16>(self.avail + 2, self.submitted).unwrap();
    }

    fn used_index(&self) -> u16 {
        self.cpu.load::<Le, u16>(self.used + 2).unwrap()
    }

    /// The used element at a place: head and length.
    fn used(&self, index: u16) -> (u32, u32) {
        let at = self.used + 4 + 8 * u64::from(index % SIZE);
        (self.cpu.load::<Le, u32>(at).unwrap(), self.cpu.load::<Le, u32>(at + 4).unwrap())
    }

    fn text(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.cpu.read(addr, &mut out).unwrap();
        out
    }
}

const HIGH: u64 = 0x8000_0000;
const ALIAS: u64 = 0x1_0000_0000;
const TOP: u64 = u64::MAX - 0xffff;
const DOORBELL: u64 = 0x8000;

/// Several runs of RAM: 64 KiB at 0 with a device in the middle, two blocks end to end at `HIGH`, an alias of the first, and RAM
/// that ends at the last address of all. All are logged, and clean.
fn machine() -> (Memory, [RegionId; 4]) {
    let memory = Memory::new(Endianness::Little);
    let ram = |name: &str| {
        let block = RamBlock::anonymous(name, 0x1_0000).unwrap();
        memory.add(Region::ram(name, block)).unwrap()
    };
    let blocks = ["low", "high", "higher", "top"].map(ram);
    let [low, high, higher, top] = blocks;
    memory
        .update::<_, flatview::MemoryError>(|t| {
            let doorbell = t.add(Region::io("doorbell", 0x100, Ops::new().write(|_, _| Ok(()))))?;
            let alias = t.add(Region::alias("alias", low, 0, 0x1_0000))?;
            t.map(memory.system(), 0, low)?;
            t.map_overlap(memory.system(), DOORBELL, doorbell, 1)?;
            t.map(memory.system(), HIGH, high)?;
            t.map(memory.system(), HIGH + 0x1_0000, higher)?;
            t.map(memory.system(), ALIAS, alias)?;
            t.map(memory.system(), TOP, top)?;
            t.set_log_all(DirtyClient::MIGRATION, true)
        })
        .unwrap();
    (memory, blocks)
}

fn clean(memory: &Memory, blocks: &[RegionId]) {
    for block in blocks {
        memory.reset_dirty(*block, 0, 0x1_0000, DirtyClient::MIGRATION).unwrap();
    }
}

/// The dirty runs of a block.
fn dirty(memory: &Memory, block: RegionId) -> Vec<std::ops::Range<u64>> {
    memory.snapshot_and_clear_dirty(block, 0, 0x1_0000, DirtyClient::MIGRATION).unwrap().runs().collect()
}

#[test]
fn chains_of_all_kinds_in_every_run_of_ram_are_carried_out_and_their_pages_are_dirty() {
    let (memory, blocks) = machine();
    let space = memory.memory_space();
    // The table in one run, the available ring seen through the alias, the used ring in another block.
    let (mut driver, mut queue) = Driver::new(&space, 0x1000, ALIAS + 0x2000, HIGH + 0x3000);
    assert!(queue.is_valid(&*space.ram_view()));
    let cpu = &driver.cpu;

    // One descriptor to read and one to write, the latter through the alias.
    cpu.write(0x4000, b"direct").unwrap();
    driver.describe(0, &[(0x4000, 6, 0), (ALIAS + 0x5000, 64, WRITE)]);
    // A chain whose buffers go over the seam of two blocks and to the last address of all.
    cpu.write(HIGH + 0xfffa, b"over the seam").unwrap();
    cpu.write(u64::MAX - 2, b"top").unwrap();
    driver.describe(
        2,
        &[(HIGH + 0xfffa, 13, 0), (u64::MAX - 2, 3, 0), (HIGH + 0xeffc, 8, WRITE), (TOP, 16, WRITE)],
    );
    // An indirect table, in memory of its own.
    cpu.write(0x6ff0, b"indirect").unwrap();
    driver.describe_at(
        HIGH + 0x1_2008,
        0,
        &[(0x6ff0, 8, 0), (HIGH + 0x1_4ffc, 4, WRITE), (0xf000, 4, WRITE)],
    );
    driver.describe(6, &[(HIGH + 0x1_2008, 48, INDIRECT)]);
    [0, 2, 6].into_iter().for_each(|head| driver.submit(head));
    clean(&memory, &blocks);

    assert_eq!(serve(&space, &mut queue), 0);
    assert_eq!(driver.used_index(), 3);
    assert_eq!([0, 1, 2].map(|i| driver.used(i)), [(0, 6), (2, 16), (6, 8)]);
    assert_eq!(driver.text(0x5000, 8), b"DIRECT\0\0");
    assert_eq!(driver.text(HIGH + 0xeffc, 8), b"OVER THE");
    assert_eq!(driver.text(TOP, 9), b" SEAMTOP\0");
    assert_eq!(driver.text(HIGH + 0x1_4ffc, 4), b"INDI");
    assert_eq!(driver.text(0xf000, 4), b"RECT");

    // What the device wrote is dirty, and nothing else is: neither rings it only reads nor the requests.
    let [low, high, higher, top] = blocks;
    assert_eq!(dirty(&memory, low), [0x5000..0x6000, 0xf000..0x1_0000]);
    assert_eq!(dirty(&memory, high), [0x3000..0x4000, 0xe000..0x1_0000]);
    assert_eq!(dirty(&memory, higher), [0x4000..0x5000]);
    assert_eq!(dirty(&memory, top), [0..PAGE]);
}

#[test]
fn descriptors_that_point_into_a_device_or_nowhere_fail_and_the_queue_goes_on() {
    let (memory, blocks) = machine();
    let space = memory.memory_space();
    let (mut driver, mut queue) = Driver::new(&space, 0x1000, 0x2000, 0x3000);
    driver.cpu.write(0x4000, b"good").unwrap();
    driver.describe(0, &[(DOORBELL, 4, 0), (0x5000, 4, WRITE)]);
    driver.describe(2, &[(0x4000, 4, 0), (0x4000_0000, 4, WRITE)]);
    driver.describe(4, &[(DOORBELL - 2, 4, 0), (0x5000, 4, WRITE)]);
    driver.describe(6, &[(0x4000_0000, 48, INDIRECT)]);
    driver.describe(7, &[(0x4000, 4, 0), (0x6000, 4, WRITE)]);
    [0, 2, 4, 6, 7].into_iter().for_each(|head| driver.submit(head));
    clean(&memory, &blocks);
    // The indirect table that is not there ends its chain before it begins: nothing to read or write.
    assert_eq!(serve(&space, &mut queue), 3);
    assert_eq!(driver.used_index(), 5);
    assert_eq!([0, 1, 2, 3, 4].map(|i| driver.used(i).1), [0, 0, 0, 0, 4]);
    assert_eq!(driver.text(0x6000, 4), b"GOOD");
    assert_eq!(dirty(&memory, blocks[0]), [0x3000..0x4000, 0x6000..0x7000]);

    // Rings over a device or a hole are refused as a whole.
    for (table, avail, used) in
        [(DOORBELL, 0x2000, 0x3000), (0x1000, DOORBELL - 4, 0x3000), (0x1000, 0x2000, 0x4000_0000)]
    {
        assert!(!Driver::new(&space, table, avail, used).1.is_valid(&*space.ram_view()));
    }
}

#[test]
fn a_device_follows_the_map_while_the_cpu_moves_its_memory() {
    const ROUNDS: u16 = 2_000;
    let (memory, blocks) = machine();
    let space = memory.memory_space();
    let (mut driver, mut queue) = Driver::new(&space, 0x1000, 0x2000, 0x3000);
    let buffers = blocks[1];
    let (stop, device_space) = (AtomicBool::new(false), space.clone());
    thread::scope(|scope| {
        let stop = &stop;
        let device = scope.spawn(move || {
            let mut bad = 0;
            while !stop.load(Ordering::Acquire) {
                bad += serve(&device_space, &mut queue);
                thread::yield_now();
            }
            bad
        });
        // So that a failure below ends the device too.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let stopping = Stop(stop);
        for round in 0..ROUNDS {
            // The buffers move before each request, which names their new place.
            let place = 0x4000_0000 + u64::from(round % 7) * 0x10_0000;
            memory.update(|t| t.set_address(buffers, place)).unwrap();
            let text = format!("round {round}");
            driver.cpu.write(place + 0x100, text.as_bytes()).unwrap();
            driver.describe(0, &[(place + 0x100, text.len() as u32, 0), (place + 0x800, 32, WRITE)]);
            driver.submit(0);
            let began = std::time::Instant::now();
            while driver.used_index() != round + 1 {
                assert!(began.elapsed().as_secs() < 20, "round {round} is not answered");
                thread::yield_now();
            }
            assert_eq!(driver.text(place + 0x800, text.len()), answer(text.as_bytes()));
        }
        drop(stopping);
        assert_eq!(device.join().unwrap(), 0, "no request missed its memory");
    });
}

#[test]
fn devices_that_are_handed_a_view_keep_working_on_the_map_it_was_made_of() {
    // `Arc<RamView>` and `GuestMemoryAtomic<RamView>` are address spaces too, for those who update them themselves.
    let (memory, blocks) = machine();
    let space = memory.memory_space();
    let (mut driver, mut queue) = Driver::new(&space, 0x1000, 0x2000, 0x3000);
    let (held, atomic) = (space.ram_view(), vm_memory::GuestMemoryAtomic::from(space.ram_view()));
    driver.cpu.write(HIGH, b"moved").unwrap();
    driver.describe(0, &[(HIGH, 5, 0), (0x5000, 5, WRITE)]);
    memory.update(|t| t.set_address(blocks[1], 0x4000_0000)).unwrap();
    driver.submit(0);
    assert_eq!(serve(&held, &mut queue), 0);
    assert_eq!(driver.text(0x5000, 5), b"MOVED");
    driver.submit(0);
    assert_eq!(serve(&atomic, &mut queue), 0);
    driver.submit(0);
    assert_eq!(serve(&space, &mut queue), 1, "the space itself follows the map, and there is nothing now");
}
