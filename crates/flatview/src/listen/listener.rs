//! What a listener is.

use super::{Delta, IoEventFd, ListenerError};
use crate::{Section, SpaceId};

/// A listener's place among the others (QEMU: `MemoryListener::priority`). The lowest is called first for what comes,
/// and last for what goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ListenerPriority(pub u32);

impl ListenerPriority {
    /// The lowest (QEMU: `MEMORY_LISTENER_PRIORITY_MIN`).
    pub const MIN: Self = Self(0);
    /// Of accelerators (QEMU: `MEMORY_LISTENER_PRIORITY_ACCEL`).
    pub const ACCEL: Self = Self(10);
    /// Of devices' back ends (QEMU: `MEMORY_LISTENER_PRIORITY_DEV_BACKEND`).
    pub const DEV_BACKEND: Self = Self(10);
}

/// Somebody who is told what changes in the map (QEMU: `MemoryListener`): an accelerator that keeps its slots equal
/// to the flat view, a cache of translations, a back end in another process, a journal.
///
/// Give it to [`Memory::add_listener`](crate::Memory::add_listener). All methods have a default that does nothing.
///
/// # The order of calls
///
/// Of each commit that touched the tree, where *forward* is by ascending [`priority`](Self::priority), those of equal
/// priority in the order in which they were added, and *reverse* the opposite:
///
/// 1. [`begin`](Self::begin) of all listeners, forward;
/// 2. for each address space in the order in which the spaces were made:
///    1. for each range that is gone, in ascending order: [`coalesced_io_del`](Self::coalesced_io_del) reverse, then
///       [`region_del`](Self::region_del) reverse;
///    2. for each range that is there, in ascending order: if it was there before,
///       [`region_nop`](Self::region_nop) forward, [`log_start`](Self::log_start) forward if it gained dirty clients
///       and [`log_stop`](Self::log_stop) reverse if it lost some; if it is new, [`region_add`](Self::region_add)
///       forward, then [`coalesced_io_add`](Self::coalesced_io_add) forward;
///    3. for each ioeventfd that is gone or new, in ascending order: [`eventfd_del`](Self::eventfd_del) forward,
///       [`eventfd_add`](Self::eventfd_add) reverse (so does QEMU);
/// 3. [`commit`](Self::commit) of all listeners, forward.
///
/// Coalesced ranges that come or go where a range stays are told with the range, as if it came or went. The global log
/// starts before `begin` ([`log_global_start`](Self::log_global_start), forward) and stops after `commit`
/// ([`log_global_stop`](Self::log_global_stop), reverse).
///
/// A range that kept its place but not its attributes is gone and new. A new range that logs writes gets no
/// `log_start`: the listener reads the mask from the section's range. A commit that changed only ioeventfds and
/// coalesced ranges has no `begin` and `commit`.
///
/// # What a callback may do
///
/// It runs on the thread that changed the map. It may read and write RAM and ask about the map. It must not
/// - access devices: that is an access error, because device code does not run inside a change;
/// - change the map: [`Memory::update`](crate::Memory::update), making and removing spaces and listeners are
///   [`MemoryError::InsideListener`](crate::MemoryError::InsideListener);
///   [`Memory::defer`](crate::Memory::defer) has it done after the commit;
/// - wait for another thread that changes the map or is in [`Memory::synchronize`](crate::Memory::synchronize), or take
///   a lock under which another thread may do that: that thread waits for this commit to end.
///
/// # Failing
///
/// [`prepare`](Self::prepare) is the place to refuse: nothing has happened yet. Where hardware refuses later, a
/// callback may give an error too, and then must itself have had no effect. The map goes back to what it was, and
/// everybody who was called is called with the opposite, in reverse order, between a `begin` and a `commit`. (A `commit`
/// that fails leaves the listener where it was, after `begin` and all that it was told: the opposites follow, and
/// `commit` again.) A
/// listener that fails again in that is marked as failed ([`ListenerInfo::failed`](super::ListenerInfo::failed)) and
/// called no more: nobody knows what it holds. Whoever runs the machine should stop it. A panic counts as such a
/// failure, and goes on after everything else was put back.
///
/// A listener that holds a [`Memory`](crate::Memory) keeps it, and itself, for ever: hold a
/// [`WeakMemory`](crate::WeakMemory).
pub trait MemoryListener: Send + Sync {
    /// What errors and people call it. Asked once, when it is added.
    fn name(&self) -> &str;

    /// Its place among the others. Asked once, when it is added.
    fn priority(&self) -> ListenerPriority {
        ListenerPriority::MIN
    }

    /// The one space it wants to hear of (QEMU: the address space it is registered with); `None` for all. Asked once,
    /// when it is added.
    fn space(&self) -> Option<SpaceId> {
        None
    }

    /// Whether it wants [`region_nop`](Self::region_nop): then every commit walks the whole of its spaces' views,
    /// also of those that did not change. Asked once, when it is added.
    fn wants_nop(&self) -> bool {
        false
    }

    /// Whether it syncs its dirty log as a whole ([`log_sync_global`](Self::log_sync_global)) and not by section
    /// ([`log_sync`](Self::log_sync)). Asked once, when it is added.
    fn syncs_globally(&self) -> bool {
        false
    }

    // The first step.

    /// Whether it will be able to follow this change. Called before anybody sees the change, on every listener,
    /// forward; also when the listener is added, with everything that is there as new. It may reserve what it needs.
    ///
    /// # Errors
    /// Fails the whole change, as if it had never been tried.
    fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
        let _ = delta;
        Ok(())
    }

    /// The change that it agreed to in [`prepare`](Self::prepare) does not take place, because another listener
    /// refused. Reverse order.
    fn cancel(&self, delta: &Delta) {
        let _ = delta;
    }

    // The second step.

    /// A commit begins.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn begin(&self) -> Result<(), ListenerError> {
        Ok(())
    }

    /// A commit is over: everything was told.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn commit(&self) -> Result<(), ListenerError> {
        Ok(())
    }

    /// This is visible now.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn region_add(&self, section: &Section) -> Result<(), ListenerError> {
        let _ = section;
        Ok(())
    }

    /// This is visible no more. What the section points to stays alive while the section does.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn region_del(&self, section: &Section) -> Result<(), ListenerError> {
        let _ = section;
        Ok(())
    }

    /// This is as it was. Only called if [`wants_nop`](Self::wants_nop).
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn region_nop(&self, section: &Section) -> Result<(), ListenerError> {
        let _ = section;
        Ok(())
    }

    /// Writes to this are logged for more dirty clients than before: the masks before and now, one bit for each
    /// client.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn log_start(&self, section: &Section, old: u8, new: u8) -> Result<(), ListenerError> {
        let _ = (section, old, new);
        Ok(())
    }

    /// Writes to this are logged for fewer dirty clients than before: the masks before and now.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn log_stop(&self, section: &Section, old: u8, new: u8) -> Result<(), ListenerError> {
        let _ = (section, old, new);
        Ok(())
    }

    /// A write there signals from now on, instead of reaching the device.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn eventfd_add(&self, eventfd: &IoEventFd) -> Result<(), ListenerError> {
        let _ = eventfd;
        Ok(())
    }

    /// A write there signals no more.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn eventfd_del(&self, eventfd: &IoEventFd) -> Result<(), ListenerError> {
        let _ = eventfd;
        Ok(())
    }

    /// Writes to `size` bytes from `addr` on, which lie in the section, may be collected and carried out later.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn coalesced_io_add(&self, section: &Section, addr: u64, size: u128) -> Result<(), ListenerError> {
        let _ = (section, addr, size);
        Ok(())
    }

    /// Writes there may be collected no more.
    ///
    /// # Errors
    /// The change is taken back; see [above](Self#failing).
    fn coalesced_io_del(&self, section: &Section, addr: u64, size: u128) -> Result<(), ListenerError> {
        let _ = (section, addr, size);
        Ok(())
    }

    // The dirty log.

    /// Bring what was written to this since the last time into the dirty bitmaps: they are about to be read. Forward,
    /// of each section for which writes are logged. Not called if [`syncs_globally`](Self::syncs_globally).
    fn log_sync(&self, section: &Section) {
        let _ = section;
    }

    /// Bring everything that was written since the last time into the dirty bitmaps. Called instead of
    /// [`log_sync`](Self::log_sync) if [`syncs_globally`](Self::syncs_globally).
    fn log_sync_global(&self) {}

    /// The dirty bits of this were read and cleared: log writes to it anew.
    fn log_clear(&self, section: &Section) {
        let _ = section;
    }

    /// Writes to all RAM are logged from now on. Forward; also when the listener is added meanwhile.
    ///
    /// # Errors
    /// Logging is not started; those who had started are told to stop.
    fn log_global_start(&self) -> Result<(), ListenerError> {
        Ok(())
    }

    /// Writes to all RAM are logged no more. Reverse; also when the listener is removed meanwhile.
    fn log_global_stop(&self) {}
}
