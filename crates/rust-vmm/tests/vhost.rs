//! vhost's memory table from our RAM: as a table, over a vhost-user socket to a back end that maps the descriptors and moves a
//! virtqueue in them, and to the kernel where it has vhost.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail loudly")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;

use flatview::{AddressSpace, Endianness, Le, Memory, Ops, RamBlock, Region, RegionId, RegionType, Share};
use flatview_rust_vmm::vhost::{MemoryTable, TableError, TableListener};
use vhost::vhost_kern::VhostKernBackend;
use vhost::vhost_kern::net::Net;
use vhost::vhost_user::message::*;
use vhost::vhost_user::{
    BackendReqHandler, Error, Frontend, GpuBackend, Result, VhostUserBackendReqHandlerMut,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap};

const PAGE: u64 = 4096;
const TOP: u64 = u64::MAX - 0xffff;

/// Shared memory in two memfds, with an alias, a device in the middle, ROM, and RAM at the last address of all.
fn machine() -> (Memory, AddressSpace, RegionId) {
    let memory = Memory::new(Endianness::Little);
    let shared = |name: &str| RamBlock::builder(name, 0x1_0000).memfd().share(Share::Shared).build().unwrap();
    let low = memory.add(Region::ram("low", shared("low"))).unwrap();
    memory
        .update::<_, flatview::MemoryError>(|t| {
            let top = t.add(Region::ram("top", shared("top")))?;
            let rom = t.add(Region::rom("rom", shared("rom")))?;
            let io = t.add(Region::io("io", PAGE.into(), Ops::new()))?;
            let mirror = t.add(Region::alias("mirror", low, 2 * PAGE, (4 * PAGE).into()))?;
            t.map(memory.system(), 0, low)?;
            t.map_overlap(memory.system(), 0x8000, io, 1)?;
            t.map(memory.system(), 0x10_0000, mirror)?;
            t.map(memory.system(), 0x20_0000, rom)?;
            t.map(memory.system(), TOP, top)
        })
        .unwrap();
    (memory.clone(), memory.memory_space(), low)
}

/// Address, size, host address, offset in the file, inode of the file.
type Entry = (u64, u64, u64, u64, Option<u64>);

fn inode(fd: RawFd) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    (fd >= 0).then(|| std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino())
}

fn entries(table: &MemoryTable) -> Vec<Entry> {
    let entry = |r: &VhostUserMemoryRegionInfo| {
        (r.guest_phys_addr, r.memory_size, r.userspace_addr, r.mmap_offset, inode(r.mmap_handle))
    };
    table.regions().iter().map(entry).collect()
}

/// The same from the flat view, of ranges that begin and end with a page. `unit` is what is left out before 2^64.
fn expected(space: &AddressSpace, files: bool, unit: u64) -> Vec<Entry> {
    let view = space.view().unwrap();
    let ram = view.ranges().filter(|r| r.kind() == RegionType::Ram);
    let entry = |r: &flatview::FlatRange| {
        let (block, offset) = r.block().unwrap();
        let size = r.last() - r.start() + 1 - if r.last() == u64::MAX { unit } else { 0 };
        let host = block.host().as_ptr() as u64 + offset;
        let file = block.file().filter(|_| files);
        let in_file = file.map_or(0, |(_, start)| start + offset);
        (r.start(), size, host, in_file, file.and_then(|(fd, _)| inode(fd.as_raw_fd())))
    };
    ram.map(entry).collect()
}

#[test]
fn the_tables_say_what_the_flat_view_says_also_after_a_change() {
    let (memory, space, low) = machine();
    let check = || {
        let ram = space.ram_view();
        let user = MemoryTable::user(ram.clone()).unwrap();
        assert_eq!(entries(&user), expected(&space, true, PAGE));
        let kernel = MemoryTable::kernel(ram);
        assert_eq!(entries(&kernel), expected(&space, false, 1));
        entries(&user).iter().map(|e| (e.0, e.1, e.3)).collect::<Vec<_>>()
    };
    let shown = check();
    assert_eq!(
        shown,
        [
            (0, 0x8000, 0),
            (0x9000, 0x7000, 0x9000),
            (0x10_0000, 0x4000, 0x2000),
            // The protocol wants the end as a number of 64 bits: the last page is left out.
            (TOP, 0xf000, 0),
        ]
    );
    memory.update(|t| t.set_address(low, 0x8000_0000)).unwrap();
    let moved = check();
    assert_eq!(moved[0], (0x10_0000, 0x4000, 0x2000));
    assert_eq!(moved[1], (0x8000_0000, 0x1_0000, 0));
}

#[test]
fn parts_of_pages_are_left_out_for_a_back_end_that_maps_and_kept_for_the_kernel() {
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::builder("ram", 8 * PAGE).memfd().share(Share::Shared).build().unwrap();
    let ram = memory.add(Region::ram("ram", block)).unwrap();
    let part = memory.add(Region::alias("part", ram, 0x1800, 0x2000)).unwrap();
    let less = memory.add(Region::alias("less", ram, 0x100, 0x200)).unwrap();
    memory.map(memory.system(), 0x5_0000, part).unwrap();
    memory.map(memory.system(), 0x9_0000, less).unwrap();
    let view = memory.memory_space().ram_view();
    let places = |table: &MemoryTable| entries(table).iter().map(|e| (e.0, e.1, e.3)).collect::<Vec<_>>();
    assert_eq!(places(&MemoryTable::user(view.clone()).unwrap()), [(0x5_0800, 0x1000, 0x2000)]);
    assert_eq!(places(&MemoryTable::kernel(view)), [(0x5_0000, 0x2000, 0), (0x9_0000, 0x200, 0)]);
}

#[test]
fn memory_that_another_process_could_not_map_is_refused_with_the_cure() {
    let memory = Memory::new(Endianness::Little);
    let place = |name: &str, block| {
        let ram = memory.add(Region::ram(name, block)).unwrap();
        memory.map(memory.system(), 0x4000, ram).unwrap();
        let refused = MemoryTable::user(memory.memory_space().ram_view()).unwrap_err();
        assert_eq!(refused, TableError::NotShared { block: name.to_owned(), addr: 0x4000 });
        assert!(refused.to_string().contains("at 0x4000") && refused.to_string().contains("memfd()"));
        memory.update(|t| t.unmap(memory.system(), ram)).unwrap();
    };
    place("anonymous", RamBlock::anonymous("anonymous", PAGE).unwrap());
    place("private", RamBlock::builder("private", PAGE).memfd().build().unwrap());
}

/// A vhost-user back end that maps what it is given, with rust-vmm's own memory.
#[derive(Default)]
struct Backend {
    /// Tables it was given.
    tables: usize,
    memory: Option<GuestMemoryMmap>,
    queue: Option<Queue>,
}

/// Nobody asks for it here.
fn not_here<T>() -> Result<T> {
    Err(Error::InvalidOperation("not in this test"))
}

impl VhostUserBackendReqHandlerMut for Backend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }
    fn get_features(&mut self) -> Result<u64> {
        Ok(1 << 32)
    }
    fn set_mem_table(
        &mut self,
        table: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let map = |(region, file): (&VhostUserMemoryRegion, File)| {
            let mapping = region.mmap_region(file)?;
            GuestRegionMmap::new(mapping, GuestAddress(region.guest_phys_addr)).ok_or(Error::InvalidParam)
        };
        let regions = table.iter().zip(files).map(map).collect::<Result<Vec<_>>>()?;
        self.tables += 1;
        self.memory = Some(GuestMemoryMmap::from_regions(regions).map_err(|_| Error::InvalidParam)?);
        Ok(None)
    }
    fn set_vring_num(&mut self, _: u32, size: u32) -> Result<()> {
        let mut queue = Queue::new(size as u16).map_err(|_| Error::InvalidParam)?;
        queue.set_size(size as u16);
        self.queue = Some(queue);
        Ok(())
    }
    fn set_vring_addr(
        &mut self,
        _: u32,
        _: VhostUserVringAddrFlags,
        table: u64,
        used: u64,
        avail: u64,
        _: u64,
    ) -> Result<()> {
        // Here the front end gives addresses of the guest.
        let queue = self.queue.as_mut().ok_or(Error::InvalidParam)?;
        queue.try_set_desc_table_address(GuestAddress(table)).map_err(|_| Error::InvalidParam)?;
        queue.try_set_avail_ring_address(GuestAddress(avail)).map_err(|_| Error::InvalidParam)?;
        queue.try_set_used_ring_address(GuestAddress(used)).map_err(|_| Error::InvalidParam)?;
        queue.set_ready(true);
        Ok(())
    }
    fn reset_owner(&mut self) -> Result<()> {
        not_here()
    }
    fn reset_device(&mut self) -> Result<()> {
        not_here()
    }
    fn set_features(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    fn set_vring_base(&mut self, _: u32, _: u32) -> Result<()> {
        not_here()
    }
    fn get_vring_base(&mut self, _: u32) -> Result<VhostUserVringState> {
        not_here()
    }
    fn set_vring_kick(&mut self, _: u8, _: Option<File>) -> Result<()> {
        not_here()
    }
    fn set_vring_call(&mut self, _: u8, _: Option<File>) -> Result<()> {
        not_here()
    }
    fn set_vring_err(&mut self, _: u8, _: Option<File>) -> Result<()> {
        not_here()
    }
    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        not_here()
    }
    fn set_protocol_features(&mut self, _: u64) -> Result<()> {
        not_here()
    }
    fn get_queue_num(&mut self) -> Result<u64> {
        not_here()
    }
    fn set_vring_enable(&mut self, _: u32, _: bool) -> Result<()> {
        not_here()
    }
    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        not_here()
    }
    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        not_here()
    }
    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        not_here()
    }
    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        not_here()
    }
    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        not_here()
    }
    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        not_here()
    }
    fn get_max_mem_slots(&mut self) -> Result<u64> {
        not_here()
    }
    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<u64>> {
        not_here()
    }
    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        not_here()
    }
    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        not_here()
    }
    fn check_device_state(&mut self) -> Result<()> {
        not_here()
    }
    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_here()
    }
    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        not_here()
    }
}

/// A front end, and the back end at the other end of a socket, which answers on a thread of its own while it is connected.
fn connect() -> (Frontend, Arc<Mutex<Backend>>, thread::JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let backend = Arc::new(Mutex::new(Backend::default()));
    let served = backend.clone();
    let thread = thread::spawn(move || {
        let mut handler = BackendReqHandler::from_stream(theirs, served);
        loop {
            match handler.handle_request() {
                Ok(()) => (),
                Err(Error::Disconnected) => break,
                Err(e) => panic!("{e}"),
            }
        }
    });
    (Frontend::from_stream(ours, 1), backend, thread)
}

#[test]
fn a_vhost_user_back_end_maps_the_table_and_sees_the_same_bytes() {
    let (memory, space, low) = machine();
    let (frontend, backend, thread) = connect();
    let check = |mark: u8| {
        // Each byte has a value of its own, written by our CPU and read by the back end; and the other way round.
        let backend = backend.lock().unwrap();
        let theirs = backend.memory.as_ref().unwrap();
        let cpu = space.reader();
        let expected = expected(&space, true, PAGE);
        assert_eq!(theirs.num_regions(), expected.len());
        for (addr, size, ..) in expected {
            for at in [addr, addr + 1, addr + size / 2, addr + size - 8] {
                let value = at.wrapping_mul(0x9e37_79b9) ^ u64::from(mark);
                cpu.store::<Le, u64>(at, value).unwrap();
                assert_eq!(theirs.read_obj::<u64>(GuestAddress(at)).unwrap(), value, "{at:#x}");
                theirs.write_obj(!value, GuestAddress(at)).unwrap();
                assert_eq!(cpu.load::<Le, u64>(at).unwrap(), !value, "{at:#x}");
            }
        }
        for hole in [0x8000, 0x20_0000] {
            assert!(theirs.read_obj::<u8>(GuestAddress(hole)).is_err());
        }
    };
    // The listener sets the table when it is registered; a request with an answer tells that it has arrived.
    let listener = Arc::new(TableListener::user(frontend.clone(), &space));
    memory.add_listener(listener).unwrap();
    let tables = || {
        frontend.get_features().unwrap();
        backend.lock().unwrap().tables
    };
    assert_eq!(tables(), 1);
    check(1);
    // Some RAM moves: a new table. A device moves where there is no RAM: none.
    memory.update(|t| t.set_address(low, 0x8000_0000)).unwrap();
    assert_eq!(tables(), 2);
    check(2);
    let elsewhere = memory.add(Region::io("elsewhere", 8, Ops::new())).unwrap();
    memory.map(memory.system(), 0x40_0000, elsewhere).unwrap();
    assert_eq!(tables(), 2);

    // RAM that the back end could not map is not plugged, and the error says what to do.
    let anonymous = RamBlock::anonymous("dimm0", PAGE).unwrap();
    let anonymous = memory.add(Region::ram("dimm0", anonymous)).unwrap();
    let refused = memory.map(memory.system(), 0x50_0000, anonymous).unwrap_err().to_string();
    assert!(refused.contains("'vhost'") && refused.contains("RAM block 'dimm0'"), "{refused}");
    assert!(space.view().unwrap().lookup(0x50_0000).is_none());
    assert_eq!(tables(), 2);
    check(3);
    drop((memory, space, frontend));
    thread.join().unwrap();
}

#[test]
fn a_vhost_user_back_end_moves_a_virtqueue_in_our_memory() {
    let (_, space, _) = machine();
    let (frontend, backend, thread) = connect();
    let cpu = space.reader();
    frontend.set_owner().unwrap();
    frontend.set_mem_table(MemoryTable::user(space.ram_view()).unwrap().regions()).unwrap();
    frontend.set_vring_num(0, 8).unwrap();
    let ring = VringConfigData {
        queue_max_size: 8,
        queue_size: 8,
        flags: 0,
        desc_table_addr: 0x1000,
        used_ring_addr: TOP + 0x1000,
        // Through the mirror of what is at 0x3000.
        avail_ring_addr: 0x10_1000,
        log_addr: None,
    };
    frontend.set_vring_addr(0, &ring).unwrap();
    drop(frontend);
    thread.join().unwrap();

    cpu.write(0x4000, b"to another process").unwrap();
    for (at, value) in [(0x1000, 0x4000), (0x1010, 0xf000)] {
        cpu.store::<Le, u64>(at, value).unwrap();
    }
    for (at, value) in [(0x1008, 18), (0x1018, 64)] {
        cpu.store::<Le, u32>(at, value).unwrap();
    }
    // Flags and next: the first leads to the second, which is to be written.
    for (at, value) in [(0x100c, 1), (0x100e, 1), (0x101c, 2), (0x3004, 0), (0x3002, 1)] {
        cpu.store::<Le, u16>(at, value).unwrap();
    }
    let mut backend = backend.lock().unwrap();
    let Backend { memory: Some(theirs), queue: Some(queue), .. } = &mut *backend else {
        panic!("not set up")
    };
    assert!(queue.is_valid(theirs));
    let chain = queue.pop_descriptor_chain(&*theirs).unwrap();
    let mut text = String::new();
    chain.clone().reader(theirs).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "to another process");
    chain.writer(theirs).unwrap().write_all(b"and back").unwrap();
    queue.add_used(theirs, 0, 8).unwrap();
    let mut out = [0; 8];
    cpu.read(0xf000, &mut out).unwrap();
    assert_eq!(&out, b"and back");
    assert_eq!(cpu.load::<Le, u16>(TOP + 0x1002).unwrap(), 1);
    assert_eq!(cpu.load::<Le, u32>(TOP + 0x1008).unwrap(), 8);
}

/// As much of a kernel back end as needs no kernel.
struct Rings(File, AddressSpace);

impl AsRawFd for Rings {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl VhostKernBackend for Rings {
    type AS = AddressSpace;
    fn mem(&self) -> &AddressSpace {
        &self.1
    }
}

#[test]
fn the_kernels_back_end_checks_rings_in_a_space_of_ours_and_follows_it() {
    let (memory, space, low) = machine();
    let rings = Rings(File::open("/dev/null").unwrap(), space);
    let ring = |addr| VringConfigData {
        queue_max_size: 8,
        queue_size: 8,
        desc_table_addr: addr,
        avail_ring_addr: addr + 0x800,
        used_ring_addr: addr + 0x900,
        ..VringConfigData::default()
    };
    assert!(
        rings.is_valid(&ring(0x1000)) && !rings.is_valid(&ring(0x8000)) && !rings.is_valid(&ring(0x20_0000))
    );
    memory.update(|t| t.set_address(low, 0x8000_0000)).unwrap();
    assert!(!rings.is_valid(&ring(0x1000)) && rings.is_valid(&ring(0x8000_1000)));
}

#[test]
fn the_kernel_takes_the_table_where_it_has_vhost() {
    let (memory, space, low) = machine();
    let net = match Net::new(space.clone()) {
        Ok(net) => net,
        Err(e) => {
            eprintln!("skipped: no vhost-net here: {e}");
            return;
        }
    };
    net.set_owner().unwrap();
    net.set_mem_table(MemoryTable::kernel(space.ram_view()).regions()).unwrap();
    memory.update(|t| t.set_address(low, 0x8000_0000)).unwrap();
    net.set_mem_table(MemoryTable::kernel(space.ram_view()).regions()).unwrap();
    net.set_vring_num(0, 8).unwrap();
    let ring = VringConfigData {
        queue_max_size: 8,
        queue_size: 8,
        desc_table_addr: 0x8000_1000,
        avail_ring_addr: 0x8000_2000,
        used_ring_addr: 0x8000_3000,
        ..VringConfigData::default()
    };
    net.set_vring_addr(0, &ring).unwrap();
}
