//! The handle itself, its builder and its limits.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::ReentrantMutex;

use super::state::{Garbage, State};
use super::{AddressSpace, Transaction};
use crate::mmio::UnassignedIo;
use crate::publish::Domain;
use crate::ram::{DiscardRules, Notifiers};
use crate::thread::{InCallback, InUpdate, in_callback, writing};
use crate::view::FlatView;
use crate::{Endianness, MemoryError, Reason, Region, RegionId, SpaceId, WHOLE};

/// What a map may grow to before a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels of containers and aliases inside each other (default 1,024; boards have about ten).
    pub depth: u32,
    /// Ranges of one flat view (default 4 Mi).
    pub ranges: usize,
    /// Regions visited while one change is rendered (default 16 Mi, some seconds).
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 1024, ranges: 4 << 20, steps: 16 << 20 }
    }
}

/// An access that was refused, for the log (`-d guest_errors`). Prints QEMU's line.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct InvalidAccess<'a> {
    /// Whether it was a write.
    pub write: bool,
    /// Offset in the region; where nothing is mapped, the address.
    pub addr: u64,
    /// Size in bytes.
    pub size: u32,
    /// The region's name; `None` where nothing is mapped.
    pub region: Option<&'a str>,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for InvalidAccess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.write { "write" } else { "read" };
        let region = self.region.unwrap_or("(null)");
        if self.reason == Reason::NotRam {
            let (addr, size) = (self.addr, self.size);
            return write!(
                f,
                "Invalid access to non-RAM device at addr 0x{addr:X}, size {size}, region '{region}'"
            );
        }
        write!(
            f,
            "Invalid {what} at addr 0x{:X}, size {}, region '{region}', reason: {}",
            self.addr, self.size, self.reason
        )
    }
}

/// Where refused accesses are told. Called on the accessing thread, with no lock held, and as part of the access: as
/// in a device callback, [`Memory::synchronize`] is refused there.
pub trait AccessLog: Send + Sync {
    /// An access was refused.
    fn invalid(&self, access: &InvalidAccess<'_>);

    /// A device was entered while it was already in the chain.
    fn reentry(&self, region: &str, offset: u64) {
        let _ = (region, offset);
    }
}

/// What all handles, spaces and readers share.
pub(crate) struct Inner {
    pub tag: u32,
    pub target: Endianness,
    writer: ReentrantMutex<RefCell<State>>,
    pub domain: Domain<FlatView>,
    pub log: ArcSwapOption<Box<dyn AccessLog>>,
    pub reentries: AtomicU64,
    pub notifiers: Notifiers,
    pub discards: DiscardRules,
    defaults: Option<Defaults>,
}

impl Inner {
    /// Tells the log of a refused access.
    #[cold]
    pub fn tell(&self, access: &InvalidAccess<'_>) {
        if let Some(log) = &*self.log.load() {
            let _running = InCallback::enter();
            log.invalid(access);
        }
    }
}

#[derive(Clone, Copy)]
struct Defaults {
    system: RegionId,
    io: RegionId,
    memory_space: SpaceId,
    io_space: SpaceId,
}

/// A machine's memory: its regions, its address spaces, and what they show.
///
/// A cheap handle; clones are the same memory. Unless built [bare](MemoryBuilder::bare) it has QEMU's defaults: the
/// container `system` of 2^64 bytes with the space `memory`, and the 64 KiB region `io`, which reads as ones where
/// no port is, with the space `I/O`.
#[derive(Clone)]
pub struct Memory(pub(crate) Arc<Inner>);

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory(#{}, {}-endian)", self.0.tag, self.0.target)
    }
}

/// A handle that does not keep the memory alive: what a device holds that changes the map from its callbacks, so
/// that the memory, its regions and the device do not keep each other.
#[derive(Clone)]
pub struct WeakMemory(std::sync::Weak<Inner>);

impl fmt::Debug for WeakMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakMemory")
    }
}

impl WeakMemory {
    /// The memory, if anybody still holds it.
    #[must_use]
    pub fn upgrade(&self) -> Option<Memory> {
        self.0.upgrade().map(Memory)
    }
}

/// Builds a [`Memory`].
#[derive(Debug, Clone)]
#[must_use]
pub struct MemoryBuilder {
    target: Endianness,
    limits: Limits,
    bare: bool,
}

impl MemoryBuilder {
    /// What the map may grow to.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Without the regions `system` and `io` and their spaces.
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The memory.
    #[must_use]
    pub fn build(self) -> Memory {
        static NEXT_TAG: AtomicU32 = AtomicU32::new(0);
        let tag = NEXT_TAG.fetch_add(1, Ordering::Relaxed);
        let inner = |defaults, state| Inner {
            tag,
            target: self.target,
            writer: ReentrantMutex::new(RefCell::new(state)),
            domain: Domain::new(),
            log: ArcSwapOption::empty(),
            reentries: AtomicU64::new(0),
            notifiers: Notifiers::default(),
            discards: DiscardRules::default(),
            defaults,
        };
        if self.bare {
            return Memory(Arc::new(inner(None, State::new(tag, self.limits))));
        }
        // Built through a memory without defaults: nobody can look at it yet.
        let memory = Memory(Arc::new(inner(None, State::new(tag, self.limits))));
        let unattached = crate::Owner::object("/machine/unattached");
        let made = (|| {
            let system = memory.add(Region::container("system", WHOLE).parent(&unattached))?;
            let io = memory.add(Region::io("io", 0x1_0000, UnassignedIo).parent(&unattached))?;
            let memory_space = memory.address_space("memory", system)?.id();
            let io_space = memory.address_space("I/O", io)?.id();
            Ok::<_, MemoryError>(Defaults { system, io, memory_space, io_space })
        })();
        match (Arc::try_unwrap(memory.0), made) {
            (Ok(bare), Ok(defaults)) => Memory(Arc::new(Inner { defaults: Some(defaults), ..bare })),
            // Two regions and two spaces in an empty memory fit; if not, it is a bare one.
            (Ok(bare), Err(_)) => Memory(Arc::new(bare)),
            (Err(shared), _) => Memory(shared),
        }
    }
}

/// Rolls an open transaction back if the closure panics.
struct Open<'a> {
    state: &'a RefCell<State>,
    savepoint: crate::topology::Savepoint,
    /// How many changes of blocks there were before.
    blocks: usize,
    /// Until it is closed.
    running: Option<InUpdate>,
}

impl Open<'_> {
    fn close(&mut self, keep: bool) -> Garbage<'static> {
        self.running = None;
        let mut state = self.state.borrow_mut();
        state.depth = state.depth.saturating_sub(1);
        let bodies = if keep { Vec::new() } else { state.topology.rollback(self.savepoint) };
        if !keep {
            // Their regions are among `bodies`, so no block is dropped here, under the lock.
            state.block_changes.truncate(self.blocks);
        }
        Garbage { bodies, views: None }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.running.is_some() {
            discard(self.close(false));
        }
    }
}

/// Frees what a change let go of. The caller's own code may run; it must not wait for itself.
fn discard<T>(garbage: T) {
    let _running = InCallback::enter();
    drop(garbage);
}

impl Memory {
    /// A memory with the default regions and spaces, for a target of that byte order.
    #[must_use]
    pub fn new(target: Endianness) -> Self {
        Self::builder(target).build()
    }

    /// A builder.
    pub fn builder(target: Endianness) -> MemoryBuilder {
        MemoryBuilder { target, limits: Limits::default(), bare: false }
    }

    /// A handle that does not keep the memory alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakMemory {
        WeakMemory(Arc::downgrade(&self.0))
    }

    /// The target's byte order, which native-endian devices have.
    #[must_use]
    pub fn target(&self) -> Endianness {
        self.0.target
    }

    /// The region `system` (QEMU: `get_system_memory()`). On a bare memory a stale id.
    #[must_use]
    pub fn system(&self) -> RegionId {
        self.0.defaults.map_or(self.no_region(), |d| d.system)
    }

    /// The region `io` (QEMU: `get_system_io()`). On a bare memory a stale id.
    #[must_use]
    pub fn io(&self) -> RegionId {
        self.0.defaults.map_or(self.no_region(), |d| d.io)
    }

    fn no_region(&self) -> RegionId {
        RegionId { index: u32::MAX, generation: 0, memory: self.0.tag }
    }

    fn no_space(&self) -> SpaceId {
        SpaceId { memory: self.0.tag, number: u64::MAX }
    }

    /// The space `memory` (QEMU: `address_space_memory`). On a bare memory a removed space.
    #[must_use]
    pub fn memory_space(&self) -> AddressSpace {
        self.default_space(|d| d.memory_space)
    }

    /// The space `I/O` (QEMU: `address_space_io`). On a bare memory a removed space.
    #[must_use]
    pub fn io_space(&self) -> AddressSpace {
        self.default_space(|d| d.io_space)
    }

    fn default_space(&self, which: impl Fn(&Defaults) -> SpaceId) -> AddressSpace {
        let known = self.0.defaults.as_ref().and_then(|d| self.space(which(d)).ok());
        known.unwrap_or_else(|| {
            let slot = Arc::new(crate::publish::Slot::new(Arc::new(FlatView::empty(None))));
            let inner = Arc::new(super::SpaceInner::new(self.no_space(), "removed".into(), slot));
            AddressSpace { memory: self.clone(), inner }
        })
    }

    /// Changes the map: all that `f` does, or, if it gives an error, nothing.
    ///
    /// When this returns, every access of this thread sees the new map; other threads see it at their next access.
    /// Calls inside `f` (through the transaction, or `update` again) join the same change: only the outermost one
    /// publishes. MMIO from inside `f` is an access error.
    ///
    /// # Errors
    /// What `f` gives, or [`MemoryError`] if the result cannot be rendered within the [`Limits`].
    pub fn update<R, E: From<MemoryError>>(
        &self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let guard = self.0.writer.lock();
        let (savepoint, blocks) = {
            let mut state = guard.borrow_mut();
            state.depth += 1;
            (state.topology.savepoint(), state.block_changes.len())
        };
        let mut open = Open { state: &guard, savepoint, blocks, running: Some(InUpdate::enter()) };
        let result = f(&mut Transaction { memory: self, state: &guard });
        let mut garbage = open.close(result.is_ok());
        drop(open);
        let mut failed = None;
        if result.is_ok() {
            let mut state = guard.borrow_mut();
            if state.depth == 0 {
                match state.prepare() {
                    Ok(prepared) => {
                        garbage = state.publish(prepared, &self.0.domain);
                        self.0.notifiers.change(std::mem::take(&mut state.block_changes));
                    }
                    Err(e) => {
                        state.block_changes.clear();
                        garbage.bodies = state.topology.rollback(savepoint);
                        failed = Some(e);
                    }
                }
            }
        }
        // M2: what is freed may run code of the caller's.
        drop(guard);
        discard(garbage);
        // A notifier may look at the map and change it; not in the middle of an outer update, though.
        if !writing() {
            self.0.notifiers.tell();
        }
        match failed {
            Some(e) => Err(e.into()),
            None => result,
        }
    }

    /// Runs `f` on the state, without changing it.
    pub(super) fn read_state<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        let guard = self.0.writer.lock();
        let state = guard.borrow();
        f(&state)
    }

    /// Runs `f` on the state and drops what it lets go of without the lock.
    pub(super) fn write_state<'s, R>(
        &'s self,
        f: impl FnOnce(&mut State) -> Result<(R, Garbage<'s>), MemoryError>,
    ) -> Result<R, MemoryError> {
        let guard = self.0.writer.lock();
        let result = {
            let mut state = guard.borrow_mut();
            if state.depth > 0 { Err(MemoryError::SpaceInsideUpdate) } else { f(&mut state) }
        };
        drop(guard);
        result.map(|(value, garbage)| {
            discard(garbage);
            value
        })
    }

    /// Adds a region: an [`update`](Self::update) of one step.
    ///
    /// # Errors
    /// As [`Transaction::add`].
    pub fn add(&self, region: Region) -> Result<RegionId, MemoryError> {
        self.update(|t| t.add(region))
    }

    /// Maps a region with priority 0: an [`update`](Self::update) of one step.
    ///
    /// # Errors
    /// As [`Transaction::map`].
    pub fn map(&self, container: RegionId, addr: u64, child: RegionId) -> Result<(), MemoryError> {
        self.update(|t| t.map(container, addr, child))
    }

    /// Makes an address space that looks at `root` (QEMU: `address_space_init`).
    ///
    /// # Errors
    /// [`MemoryError`] if the root is stale, the name unprintable, the map cannot be rendered, or this is inside an
    /// [`update`](Self::update).
    pub fn address_space(&self, name: &str, root: RegionId) -> Result<AddressSpace, MemoryError> {
        let name: Arc<str> = super::transaction::checked_name(name.into())?;
        let inner = self.write_state(|s| s.add_space(name, root, &self.0.domain))?;
        Ok(AddressSpace { memory: self.clone(), inner })
    }

    /// Removes an address space; its readers see nothing mapped from then on (QEMU: `address_space_destroy`).
    ///
    /// # Errors
    /// [`MemoryError::StaleSpace`] if it was removed already, [`MemoryError::ForeignSpace`] if it is another memory's,
    /// or [`MemoryError::SpaceInsideUpdate`].
    pub fn remove_space(&self, space: SpaceId) -> Result<(), MemoryError> {
        self.write_state(|s| Ok(((), s.remove_space(space, &self.0.domain)?)))
    }

    /// Where refused accesses are told from now on.
    pub fn set_access_log(&self, log: impl AccessLog + 'static) {
        self.0.log.store(Some(Arc::new(Box::new(log))));
    }

    /// How many accesses were refused because the device was already in the chain.
    #[must_use]
    pub fn blocked_reentries(&self) -> u64 {
        self.0.reentries.load(Ordering::Relaxed)
    }

    /// Waits until no running [`Reader`](crate::Reader) uses a view that was replaced before the call and all that
    /// those views alone used is freed, whichever thread frees it. A reader that is idle and not [parked](crate::Reader::park) is waited for.
    ///
    /// # Errors
    /// [`MemoryError::WouldWaitForItself`] inside a device callback or destructor, an [`AccessLog`] or an
    /// [`update`](Self::update).
    pub fn synchronize(&self) -> Result<(), MemoryError> {
        if writing() || in_callback() {
            return Err(MemoryError::WouldWaitForItself);
        }
        let mark = self.0.domain.mark();
        self.read_state(State::bump_all);
        let mut pause = std::time::Duration::from_micros(1);
        loop {
            discard(self.0.domain.reclaim());
            if self.0.domain.waiting(mark) == 0 {
                return Ok(());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(std::time::Duration::from_millis(1));
        }
    }
}
