//! Address spaces: what an initiator looks at memory through.

use std::fmt;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use super::{Inner, Memory, WeakMemory};
use crate::mapping::BounceBudget;
use crate::publish::Slot;
use crate::view::FlatView;
use crate::{MemTxError, MemoryError, Reader, RegionId, SpaceId};

/// The part of a space that readers share with the writer.
pub(crate) struct SpaceInner {
    pub id: SpaceId,
    pub name: Arc<str>,
    /// Where the view of this space is published; spaces with the same effective root share one slot.
    pub slot: ArcSwap<Slot<FlatView>>,
    pub bounce: BounceBudget,
    me: Weak<Self>,
    /// The RAM that the space showed when somebody last asked for it.
    #[cfg(feature = "vm-memory")]
    pub ram: crate::vm_memory::LastRam,
}

impl SpaceInner {
    pub fn shared(id: SpaceId, name: Arc<str>, slot: Arc<Slot<FlatView>>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            id,
            name,
            #[cfg(feature = "vm-memory")]
            ram: crate::vm_memory::LastRam::new(&slot),
            slot: ArcSwap::new(slot),
            bounce: BounceBudget::default(),
            me: Weak::clone(me),
        })
    }

    pub fn weak(&self) -> Weak<Self> {
        Weak::clone(&self.me)
    }
}

/// What an initiator (a CPU, a bus master) looks at memory through (QEMU: `AddressSpace`).
///
/// A cheap handle. Spaces that show the same tree share one flat view: a space whose root is an alias of a whole
/// region, or a container with one child that begins where it begins and fits, shares the view of what it shows.
///
/// Accesses go through a [`Reader`], one for each thread; the methods here make one for the occasion.
#[derive(Clone)]
pub struct AddressSpace {
    pub(crate) memory: Memory,
    pub(crate) inner: Arc<SpaceInner>,
}

impl fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressSpace({:?})", self.inner.name)
    }
}

/// A handle that keeps neither the space nor the memory alive: what a device holds that accesses memory, since a
/// memory keeps its devices.
///
/// The default is the handle of no space.
#[derive(Clone, Default)]
pub struct WeakSpace {
    memory: WeakMemory,
    inner: Weak<SpaceInner>,
}

impl fmt::Debug for WeakSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakSpace")
    }
}

impl WeakSpace {
    pub(crate) fn of(space: &SpaceInner, memory: &Arc<Inner>) -> Self {
        Self { memory: WeakMemory::of(memory), inner: space.weak() }
    }

    pub(crate) fn is(&self, space: &SpaceInner) -> bool {
        std::ptr::eq(self.inner.as_ptr(), space)
    }

    /// The space, if it and its memory are still there. Takes no lock.
    #[must_use]
    pub fn upgrade(&self) -> Option<AddressSpace> {
        Some(AddressSpace { inner: self.inner.upgrade()?, memory: self.memory.upgrade()? })
    }

    /// The part that readers share, for one that keeps the memory.
    pub(crate) fn shared(&self) -> Option<Arc<SpaceInner>> {
        self.inner.upgrade()
    }
}

impl AddressSpace {
    /// The space as `view` shows it, whatever is published.
    pub(crate) fn frozen(&self, view: &Arc<FlatView>) -> Self {
        let slot = Arc::new(Slot::new(Arc::clone(view)));
        let inner = SpaceInner::shared(self.inner.id, Arc::clone(&self.inner.name), slot);
        Self { memory: self.memory.clone(), inner }
    }

    /// A handle that does not keep the space or its memory alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakSpace {
        WeakSpace { memory: self.memory.downgrade(), inner: Arc::downgrade(&self.inner) }
    }

    /// Its number in this memory.
    #[must_use]
    pub fn id(&self) -> SpaceId {
        self.inner.id
    }

    /// Its name. Names need not be unique.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The memory it belongs to.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The region it was made with.
    ///
    /// # Errors
    /// [`MemoryError::StaleSpace`] if it was removed.
    pub fn root(&self) -> Result<RegionId, MemoryError> {
        self.memory.read_state(|s| s.space(self.id()).map(|s| s.root))
    }

    /// What it shows now.
    ///
    /// # Errors
    /// [`MemoryError::StaleSpace`] if it was removed.
    pub fn view(&self) -> Result<Arc<FlatView>, MemoryError> {
        self.memory.read_state(|s| s.view(self.id()))
    }

    /// A reader of this space, for one thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self)
    }

    /// One bus read (QEMU: `address_space_read`); see [`Reader::read`].
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        self.reader().read(addr, out)
    }

    /// One bus write (QEMU: `address_space_write`); see [`Reader::write`].
    ///
    /// # Errors
    /// As [`Reader::write`].
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        self.reader().write(addr, bytes)
    }

    /// One look without side effects; see [`Reader::peek`].
    ///
    /// # Errors
    /// As [`Reader::peek`].
    pub fn peek(&self, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        self.reader().peek(addr, out)
    }

    /// One debug write, to RAM and ROM (QEMU: `address_space_write_rom`); see [`Reader::poke`].
    ///
    /// # Errors
    /// As [`Reader::poke`].
    pub fn poke(&self, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        self.reader().poke(addr, bytes)
    }

    /// Writes one byte value over a range of the bus (QEMU: `address_space_set`); see [`Reader::fill`].
    ///
    /// # Errors
    /// As [`Reader::fill`].
    pub fn fill(&self, addr: u64, byte: u8, len: u64) -> Result<(), MemTxError> {
        self.reader().fill(addr, byte, len)
    }
}
