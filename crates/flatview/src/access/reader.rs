//! A thread's way into memory.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::sync::Arc;

use super::port::{from_memory, wrote};
use super::table::Table;
use super::{MemTxAttrs, Port};
use crate::iommu::Iotlb;
use crate::memory::{Inner, SpaceInner};
use crate::publish::{LANES, Lane, Memo, Pinned};
use crate::ram::{RamWindow, Stores, opaque};
use crate::thread::Here;
use crate::view::FlatView;
use crate::{AddressSpace, ByteOrder, MemTxError, Reason, SpaceId, Value};

/// A reader remembers the memory it hit last.
pub(crate) enum LastHit {}

impl Memo for LastHit {
    type Reads<'v> = RamWindow<'v>;
    type Writes<'v> = Stores<'v>;
}

pub(super) type ViewLane = Lane<FlatView, LastHit>;
pub(crate) type PinnedView<'a> = Pinned<'a, FlatView, LastHit>;

/// One thread's way into an address space.
///
/// While its view is current an access takes no lock, counts no reference, and writes nothing but its target. Each
/// thread (each vCPU) has its own; it can be sent to another thread, but not shared. A thread that is about to block
/// [parks](Self::park) it, so that replaced views can be freed.
///
/// The methods access with [`MemTxAttrs::UNSPECIFIED`]; [`port`](Self::port) takes others.
pub struct Reader {
    // Dropped before `memory`: lanes look into its views.
    lanes: [(Cell<Option<SpaceId>>, ViewLane); LANES],
    hazards: Arc<crate::publish::Hazards<FlatView>>,
    /// Of the view that the own lane looks at.
    pub(super) table: Table,
    pub(super) space: Arc<SpaceInner>,
    pub(super) memory: Arc<Inner>,
    /// Of the access that was not done last, for a moment: its error, if it failed.
    pub(super) failure: Cell<Option<MemTxError>>,
    /// The translations of IOMMUs that it remembers, once it has met one.
    pub(super) iotlb: OnceCell<Box<Iotlb>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({:?})", self.space.name)
    }
}

impl Reader {
    pub(crate) fn new(space: &AddressSpace) -> Self {
        let memory = Arc::clone(&space.memory.0);
        let hazards = memory.domain.register();
        let slot = space.inner.slot.load_full();
        let lane = |i| (Cell::new(None), Lane::new(i, Arc::clone(&hazards), Arc::clone(&slot)));
        let lanes = std::array::from_fn(lane);
        let failure = Cell::new(None);
        let iotlb = OnceCell::new();
        let (table, space) = (Table::new(), Arc::clone(&space.inner));
        Self { lanes, hazards, table, space, memory, failure, iotlb }
    }

    /// Looks at the current view of the reader's own space.
    #[cfg(feature = "vm-memory")]
    pub(crate) fn look<R>(&self, f: impl FnOnce(&FlatView) -> R) -> Option<R> {
        self.pin(&self.space).ok().map(|view| f(&view))
    }

    /// The current view of the reader's own space or, inside a callback, of another; held while the guard lives.
    #[inline]
    pub(super) fn pin(&self, space: &SpaceInner) -> Result<PinnedView<'_>, MemTxError> {
        // The first lane looks at nothing but the reader's own space.
        let lane = self.own_lane();
        if std::ptr::eq(space, &*self.space)
            && lane.is_current()
            && let Some(pinned) = lane.pin()
        {
            return Ok(pinned);
        }
        self.pin_slow(space)
    }

    #[cold]
    fn pin_slow(&self, space: &SpaceInner) -> Result<PinnedView<'_>, MemTxError> {
        // Its writer does not know this reader's hazards, and would free views under it.
        if space.id.memory != self.memory.tag {
            return Err(MemTxError::refused(Reason::ForeignSpace));
        }
        let slot_now = || space.slot.load_full();
        // The first lane is for the reader's own space, so that its accesses find it at once.
        // (Where that is a view of its own, the space itself has the same id.)
        let from = usize::from(!std::ptr::eq(space, &*self.space));
        let mut usable: Option<&(Cell<Option<SpaceId>>, ViewLane)> = None;
        for entry @ (id, lane) in self.lanes.iter().skip(from) {
            let same = id.get() == Some(space.id);
            if same
                && lane.is_current()
                && let Some(pinned) = lane.pin()
            {
                return Ok(pinned);
            }
            if lane.is_pinned() {
                continue;
            }
            if same {
                usable = Some(entry);
                break;
            }
            // Rather a lane that looks at nothing than one that looks at another space.
            if usable.is_none_or(|(taken, _)| taken.get().is_some() && id.get().is_none()) {
                usable = Some(entry);
            }
        }
        let (id, lane) = usable.ok_or(MemTxError::refused(Reason::TooDeep))?;
        id.set(Some(space.id));
        if !self.refresh(lane, slot_now) {
            return Err(MemTxError::refused(Reason::TooDeep));
        }
        if from == 0 {
            self.let_go_of_old();
        }
        lane.pin().ok_or(MemTxError::refused(Reason::TooDeep))
    }

    /// Other lanes that are behind let go of their views: something was published, and they may be what keeps it.
    fn let_go_of_old(&self) {
        for (id, lane) in self.lanes.iter().skip(1) {
            if !lane.is_pinned() && !lane.is_current() {
                lane.park();
                id.set(None);
            }
        }
    }

    /// Lets go of the views it looks at, so that they can be freed; the next access looks again. Called by a thread
    /// that will not access memory for a while.
    pub fn park(&mut self) {
        for (id, lane) in &self.lanes {
            lane.park();
            id.set(None);
        }
        if let Some(iotlb) = self.iotlb.get_mut() {
            iotlb.let_go();
        }
    }

    /// Access with these attributes.
    #[must_use]
    pub fn port(&self, attrs: MemTxAttrs) -> Port<'_> {
        Port::outermost(self, attrs)
    }

    /// See [`Port::read`].
    ///
    /// # Errors
    /// See there.
    #[inline]
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        match self.read_quick(addr, out) {
            Some(()) => Ok(()),
            None => self.read_elsewhere(addr, out),
        }
    }

    #[inline(never)]
    fn read_elsewhere(&self, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).read(addr, out)
    }

    /// See [`Port::write`].
    ///
    /// # Errors
    /// See there.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).write(addr, bytes)
    }

    /// See [`Port::load`].
    ///
    /// # Errors
    /// See there.
    #[inline]
    pub fn load<O: ByteOrder, V: Value>(&self, addr: u64) -> Result<V, MemTxError> {
        // How it was computed is not computed anew for what is looked for in the table.
        let addr = opaque(addr);
        match self.load_quick::<V>(addr) {
            Some(native) => Ok(from_memory::<O, V>(native)),
            None => self.load_not_quick::<O, V>(addr),
        }
    }

    /// The load of what is neither in the memory hit last nor in a page that is known.
    // One call and no other: what a loop of loads looks at each time can stay in registers then.
    #[inline(always)]
    fn load_not_quick<O: ByteOrder, V: Value>(&self, addr: u64) -> Result<V, MemTxError> {
        match Here::with(
            #[inline(always)]
            |here| self.load_elsewhere::<O, V>(addr, here),
        ) {
            Some(value) => Ok(V::narrow(value)),
            None => self.load_not_done::<O, V>(addr),
        }
    }

    /// See [`Port::store`].
    ///
    /// # Errors
    /// See there.
    #[inline(always)]
    pub fn store<O: ByteOrder, V: Value>(&self, addr: u64, value: V) -> Result<(), MemTxError> {
        let native = from_memory::<O, V>(value);
        match self.store_quick(addr, native) {
            Some(()) => Ok(()),
            None => self.store_elsewhere::<O, V>(addr, value),
        }
    }

    /// Stores a value in host order, and notes it where writes are logged, if it is in the memory hit last.
    #[inline(always)]
    fn store_quick<V: Value>(&self, addr: u64, native: V) -> Option<()> {
        self.own_lane().on_writes(
            #[inline(always)]
            move |memo: Stores<'_>| memo.store(addr, native),
            #[inline(always)]
            move |memo: Stores<'_>| memo.store_logged(addr, native),
            #[inline(always)]
            || self.stored(addr, V::SIZE),
        )
    }

    /// Notes what was stored under the view that the own lane has, which may be old by now.
    #[cold]
    #[inline(never)]
    fn stored(&self, addr: u64, size: u32) {
        if let Some(view) = self.own_lane().pin()
            && let Some(range) = view.lookup(addr)
        {
            wrote(&view, range, addr, size.into());
        }
    }

    #[inline(never)]
    fn store_elsewhere<O: ByteOrder, V: Value>(&self, addr: u64, value: V) -> Result<(), MemTxError> {
        if let Some(done) = self.store_to_known_device::<O, V>(addr, value) {
            return done;
        }
        let port = self.port(MemTxAttrs::UNSPECIFIED);
        let view = self.pin(&self.space)?;
        port.store_in::<O, V>(&view, addr, value)
    }

    /// The lane that looks at nothing but the reader's own space.
    #[inline(always)]
    pub(super) fn own_lane(&self) -> &ViewLane {
        &self.lanes[0].1
    }

    /// See [`Port::cpu_load`].
    ///
    /// # Errors
    /// See there.
    #[inline]
    pub fn cpu_load<O: ByteOrder, V: Value>(&self, addr: u64) -> Result<V, MemTxError> {
        let addr = opaque(addr);
        match self.load_quick::<V>(addr) {
            Some(native) => Ok(from_memory::<O, V>(native)),
            None => self.cpu_load_elsewhere::<O, V>(addr),
        }
    }

    #[inline(never)]
    fn cpu_load_elsewhere<O: ByteOrder, V: Value>(&self, addr: u64) -> Result<V, MemTxError> {
        if addr.is_multiple_of(V::SIZE.into()) {
            // As an exact load then.
            return self.load_not_quick::<O, V>(addr);
        }
        self.port(MemTxAttrs::UNSPECIFIED).cpu_load::<O, V>(addr)
    }

    /// See [`Port::cpu_store`].
    ///
    /// # Errors
    /// See there.
    #[inline(always)]
    pub fn cpu_store<O: ByteOrder, V: Value>(&self, addr: u64, value: V) -> Result<(), MemTxError> {
        let native = from_memory::<O, V>(value);
        match self.store_quick(addr, native) {
            Some(()) => Ok(()),
            None => self.cpu_store_elsewhere::<O, V>(addr, value),
        }
    }

    #[inline(never)]
    fn cpu_store_elsewhere<O: ByteOrder, V: Value>(&self, addr: u64, value: V) -> Result<(), MemTxError> {
        if let Some(done) = self.store_to_known_device::<O, V>(addr, value) {
            return done;
        }
        self.port(MemTxAttrs::UNSPECIFIED).cpu_store::<O, V>(addr, value)
    }

    /// See [`Port::host_ptr`].
    #[must_use]
    pub fn host_ptr(&self, addr: u64, len: u64) -> Option<crate::HostPtr> {
        self.port(MemTxAttrs::UNSPECIFIED).host_ptr(addr, len)
    }

    /// See [`Port::peek`].
    ///
    /// # Errors
    /// See there.
    pub fn peek(&self, addr: u64, out: &mut [u8]) -> Result<(), MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).peek(addr, out)
    }

    /// See [`Port::poke`].
    ///
    /// # Errors
    /// See there.
    pub fn poke(&self, addr: u64, bytes: &[u8]) -> Result<(), MemTxError> {
        self.port(MemTxAttrs::UNSPECIFIED).poke(addr, bytes)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.park();
        self.memory.domain.unregister(&self.hazards);
    }
}
