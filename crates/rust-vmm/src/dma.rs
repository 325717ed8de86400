//! The RAM that a device on the host may reach by DMA: an IOMMU's table that follows the map.
//!
//! UNSAFE: this module hands addresses of RAM to a device.
//!
//! What it is: a listener that maps and unmaps through [`VfioOps`], which `VfioContainer` and `VfioIommufd` implement. What
//! it is not: a guest's IOMMU; a space behind one shows no RAM here.
//!
//! What must hold: what is mapped is the writable RAM of the space, in whole pages of the host and never twice; its blocks stay
//! mapped in this process until the device cannot reach them any more.
#![expect(unsafe_code, reason = "vfio_dma_map trusts its caller with the address")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use flatview::{AddressSpace, ListenerError, MemoryListener, RamBlock, RegionType, Section, SpaceId};
use vfio_ioctls::VfioOps;

/// Keeps an IOMMU's table equal to the writable RAM of an address space (QEMU: `vfio_memory_listener`).
///
/// The hardware maps whole pages: a page of which only a part is RAM is left out, and so is RAM whose place in a page
/// is not the same on the host. A mapping that is refused, for want of locked memory say, fails the change of the map, which
/// is then taken back: map and table agree always. Pages that a device writes are not noted as dirty; see the book.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use flatview::{Endianness, Memory};
/// use flatview_rust_vmm::dma::DmaListener;
/// use vfio_ioctls::VfioContainer;
///
/// let memory = Memory::new(Endianness::Little);
/// let container = Arc::new(VfioContainer::new(None)?);
/// // … a `VfioDevice` first: without one a container takes no mappings …
/// memory.add_listener(Arc::new(DmaListener::new(container, &memory.memory_space())))?;
/// # Ok(())
/// # }
/// ```
pub struct DmaListener<V: VfioOps + ?Sized> {
    vfio: Arc<V>,
    space: SpaceId,
    /// By the first address.
    mapped: Mutex<BTreeMap<u64, Mapped>>,
}

struct Mapped {
    size: usize,
    /// Keeps the bytes where they are.
    _block: Arc<RamBlock>,
}

impl<V: VfioOps + ?Sized> fmt::Debug for DmaListener<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaListener").field("mapped", &self.mapped()).finish_non_exhaustive()
    }
}

/// Pages that the hardware can map.
struct Pages {
    addr: u64,
    size: usize,
    host: *mut u8,
    block: Arc<RamBlock>,
}

impl Pages {
    /// Those of a section, if it is writable RAM.
    fn of(section: &Section) -> Option<Self> {
        let is_ram = section.range()?.kind() == RegionType::Ram;
        let (block, offset) = section.ram().filter(|(block, _)| is_ram && block.is_writable())?;
        let page = rustix::param::page_size() as u64;
        let host = block.host().as_ptr().wrapping_add(usize::try_from(offset).ok()?);
        if (section.offset_in_space ^ host as u64) & (page - 1) != 0 {
            return None;
        }
        let addr = section.offset_in_space.checked_next_multiple_of(page)?;
        let before = addr - section.offset_in_space;
        let size = section.size.checked_sub(before.into())? / u128::from(page) * u128::from(page);
        let size = usize::try_from(size).ok().filter(|size| *size > 0)?;
        Some(Self { addr, size, host: host.wrapping_add(usize::try_from(before).ok()?), block })
    }
}

impl<V: VfioOps + ?Sized> DmaListener<V> {
    /// For one space; [`Memory::add_listener`](flatview::Memory::add_listener) maps what is there.
    pub fn new(vfio: Arc<V>, space: &AddressSpace) -> Self {
        Self { vfio, space: space.id(), mapped: Mutex::default() }
    }

    /// What is mapped: first addresses and sizes in bytes, in order.
    #[must_use]
    pub fn mapped(&self) -> Vec<(u64, usize)> {
        self.table(|mapped| mapped.iter().map(|(addr, m)| (*addr, m.size)).collect())
    }

    fn table<R>(&self, f: impl FnOnce(&mut BTreeMap<u64, Mapped>) -> R) -> R {
        f(&mut self.mapped.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<V: VfioOps + ?Sized> MemoryListener for DmaListener<V> {
    fn name(&self) -> &str {
        "vfio"
    }

    fn space(&self) -> Option<SpaceId> {
        Some(self.space)
    }

    fn region_add(&self, section: &Section) -> Result<(), ListenerError> {
        let Some(Pages { addr, size, host, block }) = Pages::of(section) else { return Ok(()) };
        // SAFETY: the pages are in `block`, which is kept until they are unmapped; nobody makes references of guest RAM.
        unsafe { self.vfio.vfio_dma_map(addr, size, host) }.map_err(ListenerError::new)?;
        self.table(|mapped| mapped.insert(addr, Mapped { size, _block: block }));
        Ok(())
    }

    fn region_del(&self, section: &Section) -> Result<(), ListenerError> {
        let Some(Pages { addr, size, .. }) = Pages::of(section) else { return Ok(()) };
        self.vfio.vfio_dma_unmap(addr, size).map_err(ListenerError::new)?;
        self.table(|mapped| mapped.remove(&addr));
        Ok(())
    }
}

impl<V: VfioOps + ?Sized> Drop for DmaListener<V> {
    fn drop(&mut self) {
        // A listener that was removed has been told that all is gone; one that goes with its memory has not.
        for (addr, size) in self.mapped() {
            if self.vfio.vfio_dma_unmap(addr, size).is_err() {
                // The device may reach it still: better a leak than somebody else's memory.
                std::mem::forget(self.table(|mapped| mapped.remove(&addr)));
            }
        }
    }
}
