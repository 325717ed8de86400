//! VFIO's map calls from a listener: an IOMMU's table stays equal to the RAM of the flat view. The IOMMU is a fake with the kernel's
//! rules; the same listener is compiled for a real container, and tried on one where there is one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]
#![expect(unsafe_code, reason = "vfio_dma_map is an unsafe method of the trait")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use flatview::{
    AddressSpace, Endianness, Memory, MemoryError, Ops, RamBlock, Region, RegionId, RegionType, WHOLE,
};
use flatview_rust_vmm::dma::DmaListener;
use parking_lot::Mutex;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioOps};

const PAGE: u64 = 4096;

/// An IOMMU as the kernel has it: whole pages, no overlap, unmapped as it was mapped.
#[derive(Default)]
struct Iommu {
    /// First address, size, host address.
    table: Mutex<BTreeMap<u64, (u64, u64)>>,
    /// Calls until one fails; 0: none.
    fuse: Mutex<u64>,
}

impl Iommu {
    fn blown(&self) -> bool {
        let mut fuse = self.fuse.lock();
        let was = *fuse;
        *fuse = fuse.saturating_sub(1);
        was == 1
    }

    /// Every page, and where it is on the host.
    fn pages(&self) -> BTreeMap<u64, u64> {
        let pages = |(addr, (size, host)): (&u64, &(u64, u64))| {
            let (addr, size, host) = (*addr, *size, *host);
            (0..size).step_by(PAGE as usize).map(move |offset| (addr + offset, host + offset))
        };
        self.table.lock().iter().flat_map(pages).collect()
    }
}

fn refused(what: &str) -> VfioError {
    VfioError::OpenContainer(std::io::Error::other(what.to_owned()))
}

impl VfioOps for Iommu {
    unsafe fn vfio_dma_map(&self, iova: u64, size: usize, host: *mut u8) -> Result<(), VfioError> {
        if self.blown() {
            return Err(refused("no locked memory left"));
        }
        let (size, host) = (size as u64, host as u64);
        assert!(size > 0 && (iova | size | host).is_multiple_of(PAGE), "{iova:#x} {size:#x} {host:#x}");
        let last = iova.checked_add(size - 1).expect("round the end of the address space");
        let mut table = self.table.lock();
        let before = table.range(..=last).next_back().map(|(addr, (size, _))| addr + (size - 1));
        assert!(before.is_none_or(|before| before < iova), "{iova:#x} is mapped already");
        table.insert(iova, (size, host));
        Ok(())
    }

    fn vfio_dma_unmap(&self, iova: u64, size: usize) -> Result<(), VfioError> {
        if self.blown() {
            return Err(refused("busy"));
        }
        let mut table = self.table.lock();
        assert_eq!(table.get(&iova).map(|(size, _)| *size), Some(size as u64), "{iova:#x}");
        table.remove(&iova);
        Ok(())
    }
}

/// What ought to be mapped: each page all of which is one run of writable RAM, where host and guest pages agree.
fn expected(space: &AddressSpace) -> BTreeMap<u64, u64> {
    let view = space.view().unwrap();
    let mut pages = BTreeMap::new();
    for range in view.ranges().filter(|r| r.kind() == RegionType::Ram) {
        let (block, offset) = range.block().unwrap();
        let host = |addr: u64| block.host().as_ptr() as u64 + offset + (addr - range.start());
        let mut page = range.start() / PAGE * PAGE;
        while page <= range.last() {
            let whole = page >= range.start() && range.last() - page >= PAGE - 1;
            if whole && host(page).is_multiple_of(PAGE) {
                pages.insert(page, host(page));
            }
            let Some(next) = page.checked_add(PAGE) else { break };
            page = next;
        }
    }
    pages
}

/// A map that is changed at random.
struct World {
    memory: Memory,
    rng: fastrand::Rng,
    blocks: Vec<RegionId>,
    mapped: Vec<RegionId>,
}

impl World {
    fn new(seed: u64) -> Self {
        let memory = Memory::new(Endianness::Little);
        let ram = |i| {
            let block = RamBlock::anonymous(&format!("ram{i}"), 16 * PAGE).unwrap();
            memory.add(Region::ram(format!("ram{i}"), block)).unwrap()
        };
        let blocks = (0..4).map(ram).collect();
        Self { memory, rng: fastrand::Rng::with_seed(seed), blocks, mapped: Vec::new() }
    }

    /// Most begin and end with a page.
    fn length(&mut self, pages: u64) -> u64 {
        let exact = PAGE * self.rng.u64(..pages);
        if self.rng.u8(..5) == 0 { exact + self.rng.u64(..PAGE) } else { exact }
    }

    /// One transaction of one to three changes.
    fn change(&mut self) -> Result<(), MemoryError> {
        let memory = self.memory.clone();
        let before = self.mapped.clone();
        let done = memory.update(|t| {
            for _ in 0..self.rng.u8(1..4) {
                let base = if self.rng.bool() { 0 } else { u64::MAX - 52 * PAGE + 1 };
                let place = base + self.length(48);
                let known = (!self.mapped.is_empty()).then(|| self.rng.usize(..self.mapped.len()));
                match (self.rng.u8(..10), known) {
                    (0..3, Some(i)) => t.set_address(self.mapped[i], place)?,
                    (3, Some(i)) => t.set_enabled(self.mapped[i], self.rng.bool())?,
                    (4, Some(i)) => t.set_readonly(self.mapped[i], self.rng.bool())?,
                    (5..7, Some(i)) => {
                        let gone = self.mapped.swap_remove(i);
                        t.unmap(memory.system(), gone)?;
                        t.remove(gone)?;
                    }
                    _ if self.mapped.len() > 24 => (),
                    _ => {
                        let (offset, size) = (self.length(8), self.length(9).max(1));
                        let block = self.blocks[self.rng.usize(..self.blocks.len())];
                        let region = match self.rng.u8(..5) {
                            0 => Region::io("io", size.into(), Ops::new()),
                            _ => Region::alias("alias", block, offset, size.into()),
                        };
                        let region = t.add(region)?;
                        self.mapped.push(region);
                        t.map_overlap(memory.system(), place, region, self.rng.i32(-2..3))?;
                    }
                }
            }
            Ok(())
        });
        if done.is_err() {
            self.mapped = before;
        }
        done
    }
}

#[test]
fn the_table_equals_the_ram_of_the_flat_view_after_each_of_10_000_random_changes() {
    let iommu = Arc::new(Iommu::default());
    let mut world = World::new(1);
    let space = world.memory.memory_space();
    let listener = Arc::new(DmaListener::new(iommu.clone(), &space));
    let id = world.memory.add_listener(listener.clone()).unwrap();
    let (mut most, mut ends) = (0, 0);
    for change in 0..10_000 {
        world.change().unwrap();
        let pages = iommu.pages();
        assert_eq!(pages, expected(&space), "change {change}");
        most = most.max(pages.len());
        ends += usize::from(pages.contains_key(&(u64::MAX - PAGE + 1)));
    }
    assert!(most > 50 && ends > 10, "{most} pages at most, {ends} times at the last address");
    let listed: Vec<_> = iommu.table.lock().iter().map(|(addr, (size, _))| (*addr, *size as usize)).collect();
    assert_eq!(listener.mapped(), listed);
    world.memory.remove_listener(id).unwrap();
    assert!(iommu.pages().is_empty());
}

#[test]
fn a_mapping_that_is_refused_takes_the_change_back_and_the_table_with_it() {
    let mut failures = 0;
    for seed in 0..40 {
        let iommu = Arc::new(Iommu::default());
        let mut world = World::new(seed);
        let space = world.memory.memory_space();
        world.memory.add_listener(Arc::new(DmaListener::new(iommu.clone(), &space))).unwrap();
        for change in 0..60 {
            // The n-th call fails, once: what is taken back goes through.
            *iommu.fuse.lock() = 1 + change % 7;
            let before = expected(&space);
            let done = world.change();
            *iommu.fuse.lock() = 0;
            if let Err(e) = done {
                assert!(matches!(e, MemoryError::ListenerFailed { .. }), "{e}");
                assert_eq!(expected(&space), before, "seed {seed}, change {change}");
                failures += 1;
            }
            assert_eq!(iommu.pages(), expected(&space), "seed {seed}, change {change}");
        }
    }
    assert!(failures > 100, "{failures}");
}

#[test]
fn ram_stays_where_it_is_until_the_device_cannot_reach_it() {
    let iommu = Arc::new(Iommu::default());
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("dimm", 4 * PAGE).unwrap();
    let weak = Arc::downgrade(&block);
    let ram = memory.add(Region::ram("dimm", block)).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    memory.add_listener(Arc::new(DmaListener::new(iommu.clone(), &memory.memory_space()))).unwrap();
    assert_eq!(iommu.pages().len(), 4);
    // The unmapping fails: nothing is unplugged.
    *iommu.fuse.lock() = 1;
    let unplug = || {
        memory.update::<_, MemoryError>(|t| {
            t.unmap(memory.system(), ram)?;
            t.remove(ram)
        })
    };
    assert!(unplug().is_err());
    assert!(iommu.pages().len() == 4 && weak.upgrade().is_some());
    unplug().unwrap();
    memory.synchronize().unwrap();
    assert!(iommu.pages().is_empty() && weak.upgrade().is_none());

    // A memory that goes as it is takes its mappings along.
    let again = memory.add(Region::ram("again", RamBlock::anonymous("again", PAGE).unwrap())).unwrap();
    memory.map(memory.system(), 0, again).unwrap();
    assert_eq!(iommu.pages().len(), 1);
    drop(memory);
    assert!(iommu.pages().is_empty());
}

#[test]
fn a_space_that_is_not_asked_for_is_not_mapped() {
    let iommu = Arc::new(Iommu::default());
    let memory = Memory::new(Endianness::Little);
    let root = memory.add(Region::container("bus", WHOLE)).unwrap();
    let bus = memory.address_space("bus", root).unwrap();
    memory.add_listener(Arc::new(DmaListener::new(iommu.clone(), &bus))).unwrap();
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", PAGE).unwrap())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    assert!(iommu.pages().is_empty());
    let window = memory.add(Region::alias("window", ram, 0, PAGE.into())).unwrap();
    memory.map(root, 0x10_0000, window).unwrap();
    assert_eq!(iommu.pages().keys().copied().collect::<Vec<_>>(), [0x10_0000_u64]);
}

/// With a real IOMMU: `FLATVIEW_VFIO_DEVICE=/sys/bus/pci/devices/0000:03:00.0`, bound to vfio-pci.
#[test]
fn a_real_container_takes_the_same_calls_where_there_is_one() {
    let container = match VfioContainer::new(None) {
        Ok(container) => Arc::new(container),
        Err(e) => {
            eprintln!("skipped: no VFIO here: {e}");
            return;
        }
    };
    let Ok(path) = std::env::var("FLATVIEW_VFIO_DEVICE") else {
        eprintln!(
            "skipped: a container without a device takes no mappings; name one in FLATVIEW_VFIO_DEVICE"
        );
        return;
    };
    // The container's IOMMU is set when the first device joins.
    let device = VfioDevice::new(Path::new(&path), container.clone(), false).unwrap();
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("ram", 16 << 20).unwrap();
    let ram = memory.add(Region::ram("ram", block)).unwrap();
    memory.map(memory.system(), 0x4000_0000, ram).unwrap();
    let listener = Arc::new(DmaListener::new(container.clone(), &memory.memory_space()));
    let id = memory.add_listener(listener.clone()).unwrap();
    assert_eq!(listener.mapped(), [(0x4000_0000, 16 << 20)]);
    memory.update(|t| t.set_address(ram, 0x8000_0000)).unwrap();
    assert_eq!(listener.mapped(), [(0x8000_0000, 16 << 20)]);
    memory.remove_listener(id).unwrap();

    // And the container's own call on a `RamView`.
    let view = memory.memory_space().ram_view();
    // SAFETY: the view keeps the RAM until it is unmapped below; nobody makes references of it.
    unsafe { container.vfio_map_guest_memory(&*view) }.unwrap();
    container.vfio_unmap_guest_memory(&*view).unwrap();
    drop(device);
}
