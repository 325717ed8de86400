//! The handle itself, its builder and its limits.

use std::cell::RefCell;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::ReentrantMutex;

use super::state::{Garbage, Prepared, State};
use super::turn::{Change, Turn};
use super::{AddressSpace, Transaction};
use crate::listen::{Cause, Registry};
use crate::mmio::UnassignedIo;
use crate::publish::Domain;
use crate::ram::{DiscardRules, Notifiers};
use crate::thread::{InCallback, InUpdate, in_callback, writing};
use crate::view::FlatView;
use crate::{AccessTrace, Endianness, MemoryError, Reason, Region, RegionId, SpaceId, WHOLE};

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
    /// Taken before `writer`; held until the listeners were told.
    pub turn: ReentrantMutex<Turn>,
    pub(super) writer: ReentrantMutex<RefCell<State>>,
    pub listeners: Registry,
    pub domain: Domain<FlatView>,
    pub log: ArcSwapOption<Box<dyn AccessLog>>,
    pub trace: ArcSwapOption<Arc<dyn AccessTrace>>,
    pub reentries: AtomicU64,
    pub notifiers: Notifiers,
    pub discards: DiscardRules,
    pub flush: ArcSwapOption<super::accel::FlushHook>,
    pub kernel_eventfds: AtomicBool,
    /// The spaces that keep RAM for rust-vmm's crates.
    #[cfg(feature = "vm-memory")]
    pub ram_users: crate::vm_memory::RamUsers,
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
#[derive(Clone, Default)]
pub struct WeakMemory(std::sync::Weak<Inner>);

impl fmt::Debug for WeakMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakMemory")
    }
}

impl WeakMemory {
    pub(crate) fn of(memory: &Arc<Inner>) -> Self {
        Self(Arc::downgrade(memory))
    }

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
            turn: ReentrantMutex::new(Turn::default()),
            writer: ReentrantMutex::new(RefCell::new(state)),
            listeners: Registry::default(),
            domain: Domain::new(),
            log: ArcSwapOption::empty(),
            trace: ArcSwapOption::empty(),
            reentries: AtomicU64::new(0),
            notifiers: Notifiers::default(),
            discards: DiscardRules::default(),
            flush: ArcSwapOption::empty(),
            kernel_eventfds: AtomicBool::new(false),
            #[cfg(feature = "vm-memory")]
            ram_users: crate::vm_memory::RamUsers::default(),
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
    savepoint: super::state::Savepoint,
    /// Until it is closed.
    running: Option<InUpdate>,
}

impl Open<'_> {
    fn close(&mut self, keep: bool) -> Garbage<'static> {
        self.running = None;
        let mut state = self.state.borrow_mut();
        state.depth = state.depth.saturating_sub(1);
        let bodies = if keep { Vec::new() } else { state.rollback(self.savepoint) };
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
pub(super) fn discard<T>(garbage: T) {
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
            let inner = super::SpaceInner::shared(self.no_space(), "removed".into(), slot);
            AddressSpace { memory: self.clone(), inner }
        })
    }

    /// Changes the map: all that `f` does, or, if it gives an error, nothing.
    ///
    /// When this returns, every access of this thread sees the new map, and every
    /// [listener](crate::MemoryListener) was told of it; other threads see it at their next access. Calls inside `f`
    /// (through the transaction, or `update` again) join the same change: only the outermost one publishes. MMIO from
    /// inside `f` is an access error.
    ///
    /// # Errors
    /// What `f` gives, or [`MemoryError`] if the result cannot be rendered within the [`Limits`], if a listener cannot
    /// follow it, or if this is called from inside a listener (see [`defer`](Self::defer)). The map is then as before.
    /// Where a listener fails late, in a callback and not in `prepare`, other threads may have seen the new map for a
    /// moment.
    #[track_caller]
    pub fn update<R, E: From<MemoryError>>(
        &self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let location = Location::caller();
        // It may access devices: not inside an update, nor with a lock.
        if !writing() {
            self.0.flush_coalesced();
        }
        let turn = self.turn()?;
        let guard = self.0.writer.lock();
        let savepoint = {
            let mut state = guard.borrow_mut();
            state.depth += 1;
            if state.depth == 1 {
                state.reason = None;
            }
            state.savepoint()
        };
        let mut open = Open { state: &guard, savepoint, running: Some(InUpdate::enter()) };
        let result = f(&mut Transaction { memory: self, state: &guard });
        let mut garbage = open.close(result.is_ok());
        drop(open);
        let mut failed = None;
        if result.is_ok() {
            let mut state = guard.borrow_mut();
            if state.depth == 0 {
                match state.prepare() {
                    Ok(prepared) => {
                        let cause = Cause::new(location, state.reason.take());
                        drop(state);
                        match self.commit(&turn, guard, Change { prepared, savepoint, cause }) {
                            Ok(freed) => self.end_turn(turn, freed),
                            Err(failed) => return Err(self.end_failed(turn, *failed).into()),
                        }
                        return result;
                    }
                    Err(e) => {
                        garbage.bodies = state.rollback(savepoint);
                        failed = Some(e);
                    }
                }
            }
        }
        // M2: what is freed may run code of the caller's.
        drop(guard);
        self.end_turn(turn, garbage);
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

    /// Runs `f` on the parts of the state that no view shows.
    pub(super) fn with_state<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let guard = self.0.writer.lock();
        let mut state = guard.borrow_mut();
        f(&mut state)
    }

    /// Adds a region: an [`update`](Self::update) of one step.
    ///
    /// # Errors
    /// As [`Transaction::add`].
    #[track_caller]
    pub fn add(&self, region: Region) -> Result<RegionId, MemoryError> {
        self.update(|t| t.add(region))
    }

    /// Maps a region with priority 0: an [`update`](Self::update) of one step.
    ///
    /// # Errors
    /// As [`Transaction::map`].
    #[track_caller]
    pub fn map(&self, container: RegionId, addr: u64, child: RegionId) -> Result<(), MemoryError> {
        self.update(|t| t.map(container, addr, child))
    }

    /// Makes an address space that looks at `root` (QEMU: `address_space_init`).
    ///
    /// # Errors
    /// [`MemoryError`] if the root is stale, the name unprintable, the map cannot be rendered, a listener cannot
    /// follow, or this is inside an [`update`](Self::update) or a listener.
    #[track_caller]
    pub fn address_space(&self, name: &str, root: RegionId) -> Result<AddressSpace, MemoryError> {
        let cause = Cause::new(Location::caller(), None);
        let name: Arc<str> = super::transaction::checked_name(name.into())?;
        let mut made = None;
        self.change_spaces(cause, |state| {
            let (inner, prepared) = state.add_space(name, root)?;
            made = Some(Arc::clone(&inner));
            Ok((prepared, inner.id, false))
        })?;
        made.map(|inner| AddressSpace { memory: self.clone(), inner }).ok_or(MemoryError::StaleSpace)
    }

    /// Removes an address space; its readers see nothing mapped from then on (QEMU: `address_space_destroy`).
    /// Listeners are told that what it showed is gone.
    ///
    /// # Errors
    /// [`MemoryError::StaleSpace`] if it was removed already, [`MemoryError::ForeignSpace`] if it is another memory's,
    /// [`MemoryError::SpaceInsideUpdate`], or what a listener gives.
    #[track_caller]
    pub fn remove_space(&self, space: SpaceId) -> Result<(), MemoryError> {
        let cause = Cause::new(Location::caller(), None);
        self.change_spaces(cause, |state| Ok((state.remove_space(space)?, space, true)))
    }

    /// Adds or removes a space: `f` gives what is to be published, the space, and whether it is to be forgotten once
    /// that has succeeded (or else if it has not).
    fn change_spaces(
        &self,
        cause: Cause,
        f: impl FnOnce(&mut State) -> Result<(Prepared, SpaceId, bool), MemoryError>,
    ) -> Result<(), MemoryError> {
        let turn = self.turn()?;
        let guard = self.0.writer.lock();
        let (change, space, forget) = {
            let mut state = guard.borrow_mut();
            if state.depth > 0 {
                return Err(MemoryError::SpaceInsideUpdate);
            }
            let savepoint = state.savepoint();
            let (prepared, space, forget) = f(&mut state)?;
            (Change { prepared, savepoint, cause }, space, forget)
        };
        let result = self.commit(&turn, guard, change);
        if result.is_ok() == forget {
            self.0.writer.lock().borrow_mut().drop_space(space);
        }
        match result {
            Ok(garbage) => {
                self.end_turn(turn, garbage);
                Ok(())
            }
            Err(failed) => Err(self.end_failed(turn, *failed)),
        }
    }

    /// Where refused accesses are told from now on.
    pub fn set_access_log(&self, log: impl AccessLog + 'static) {
        self.0.log.store(Some(Arc::new(Box::new(log))));
    }

    /// From now on refused accesses are told nobody.
    pub fn remove_access_log(&self) {
        self.0.log.store(None);
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
        self.read_state(|state| state.bump_all(&self.0.domain));
        let mut pause = std::time::Duration::from_micros(1);
        loop {
            // With the turn, so that nothing is reclaimed that listeners are just told of.
            let reclaimed = {
                let _turn = self.0.turn.lock();
                self.0.domain.reclaim()
            };
            discard(reclaimed);
            if self.0.domain.waiting(mark) == 0 {
                return Ok(());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(std::time::Duration::from_millis(1));
        }
    }
}
