//! A small IOMMU: one table of 16 pages in guest memory, a bus master behind it, and somebody who follows the table.
//!
//! `cargo run -p flatview --example iommu` prints
//!
//! ```text
//! Page 0 of the bus leads to 0x5000: "hello"
//! Page 1 leads nowhere: DECODE_ERROR at 0x1000, size 4: the IOMMU does not allow it
//! Page 2 may be read only: DECODE_ERROR at 0x2000, size 1: the IOMMU does not allow it
//! The follower was told: 0x0-0xfff unmapped
//! The follower was told: 0x0-0xfff at 0x7000 rw
//! Page 0 leads to 0x7000 now: "howdy"
//! ```
use std::io::Write;
use std::sync::mpsc::channel;

use flatview::{
    Endianness, IommuEntry, IommuEvent, IommuEventKind, IommuEvents, IommuNotifier, IommuOps, IommuPerm,
    IommuRequest, Le, Memory, RamBlock, Region, WeakSpace,
};

const PAGE: u64 = 0x1000;
/// Where the table stands in memory: eight bytes for each page, its address with these two bits.
const TABLE: u64 = 0x8000;
const READ: u64 = 1;
const WRITE: u64 = 2;

/// The device. It holds the space weakly: the memory keeps the device.
struct SmallIommu {
    memory: WeakSpace,
}

impl IommuOps for SmallIommu {
    fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
        let Some(memory) = self.memory.upgrade() else {
            return IommuEntry::denied(0);
        };
        // The table is read as a part of the access that is translated.
        let at = TABLE + request.offset() / PAGE * 8;
        let entry = request.port(&memory).load::<Le, u64>(at).unwrap_or(0);
        let may = |bit, perm| if entry & bit != 0 { perm } else { IommuPerm::NONE };
        let perm = may(READ, IommuPerm::READ) | may(WRITE, IommuPerm::WRITE);
        IommuEntry::new(&self.memory, entry & !(PAGE - 1), PAGE - 1, perm)
    }
}

/// Builds it, does DMA through it, and changes the table.
pub fn run(out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let memory = Memory::new(Endianness::Little);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", 64 << 10)?))?;
    memory.map(memory.system(), 0, ram)?;
    let device = SmallIommu { memory: memory.memory_space().downgrade() };
    let region = memory.add(Region::iommu("iommu", 16 * u128::from(PAGE), device))?;
    let bus = memory.address_space("bus", region)?;

    // The guest fills its table; the bus master reads and writes.
    let cpu = memory.memory_space().reader();
    cpu.write(0x5000, b"hello")?;
    cpu.write(0x7000, b"howdy")?;
    for (page, entry) in [(0, 0x5000 | READ | WRITE), (2, 0x6000 | READ)] {
        cpu.store::<Le, u64>(TABLE + page * 8, entry)?;
    }
    let dma = bus.reader();
    let mut text = [0; 5];
    dma.read(0, &mut text)?;
    writeln!(out, "Page 0 of the bus leads to 0x5000: {:?}", str::from_utf8(&text)?)?;
    if let Err(error) = dma.load::<Le, u32>(PAGE) {
        writeln!(out, "Page 1 leads nowhere: {error}")?;
    }
    if let Err(error) = dma.store::<Le, u8>(2 * PAGE, 1) {
        writeln!(out, "Page 2 may be read only: {error}")?;
    }

    // As a device that is passed through to the guest would be kept up to date.
    let (told, follower) = channel();
    let notifier = IommuNotifier::new(IommuEvents::MAP | IommuEvents::UNMAP, move |event| {
        let pages = format!("{:#x}-{:#x}", event.iova, event.iova + event.mask);
        told.send(match event.kind {
            IommuEventKind::Map => format!("{pages} at {:#x} {:?}", event.address, event.perm),
            _ => format!("{pages} unmapped"),
        })
        .ok();
    });
    memory.add_iommu_notifier(region, notifier)?;

    // The guest maps page 0 elsewhere, and tells the IOMMU, which tells everybody: readers forget what they remember.
    let entry = 0x7000 | READ | WRITE;
    cpu.store::<Le, u64>(TABLE, entry)?;
    let iommu = memory.iommu(region)?;
    iommu.notify(0, &IommuEvent::unmap(0, PAGE - 1))?;
    let target = memory.memory_space().downgrade();
    let page = IommuEntry::new(&target, 0x7000, PAGE - 1, IommuPerm::READ_WRITE);
    iommu.notify(0, &IommuEvent::map(0, &page))?;
    for event in follower.try_iter() {
        writeln!(out, "The follower was told: {event}")?;
    }
    dma.read(0, &mut text)?;
    writeln!(out, "Page 0 leads to 0x7000 now: {:?}", str::from_utf8(&text)?)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(&mut std::io::stdout())
}
