//! How many bytes of an address space may stand in bounce buffers at once, and who waits for some.
//!
//! What it is: an account of bytes for each space, and a queue of calls that are owed when some come back. What it is
//! not: the buffers.
//!
//! What must hold: the account is right before anybody is called, and nobody is called under its lock (G3). Calls are
//! made one after the other, first come first served, while there is room: whoever finds the queue being served leaves
//! what it adds to the one who serves it, so a call that asks to be called again nests nothing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Weak;

use parking_lot::Mutex;

use crate::AddressSpace;
use crate::memory::SpaceInner;

type Call = Box<dyn FnOnce() + Send>;

/// What may bounce at once unless something else is set, in bytes (QEMU 9.2: `DEFAULT_MAX_BOUNCE_BUFFER_SIZE`).
const DEFAULT: u64 = 4096;

/// A call that is owed when room returns; to take it back with [`AddressSpace::cancel_on_room`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoomWaiter(u64);

/// The account of a space.
#[derive(Default)]
pub(crate) struct BounceBudget(Mutex<Account>);

struct Account {
    budget: u64,
    used: u64,
    waiting: VecDeque<(RoomWaiter, Call)>,
    next: u64,
    /// Somebody calls them.
    serving: bool,
}

impl Default for Account {
    fn default() -> Self {
        Self { budget: DEFAULT, used: 0, waiting: VecDeque::new(), next: 0, serving: false }
    }
}

impl Account {
    fn room(&self) -> u64 {
        self.budget.saturating_sub(self.used)
    }
}

impl fmt::Debug for BounceBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.0.lock();
        write!(f, "BounceBudget({} of {})", account.used, account.budget)
    }
}

/// Ends the serving of a queue also when a call panics.
struct Serving<'a>(&'a Mutex<Account>);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.lock().serving = false;
    }
}

impl BounceBudget {
    pub fn budget(&self) -> u64 {
        self.0.lock().budget
    }

    pub fn used(&self) -> u64 {
        self.0.lock().used
    }

    fn set(&self, budget: u64) {
        self.0.lock().budget = budget;
        self.serve();
    }

    /// As many of `len` bytes as there is room for; `None` if there is none.
    pub fn take(&self, len: u64) -> Option<u64> {
        let mut account = self.0.lock();
        let taken = account.room().min(len);
        account.used += taken;
        (taken > 0).then_some(taken)
    }

    fn give_back(&self, bytes: u64) {
        let mut account = self.0.lock();
        account.used = account.used.saturating_sub(bytes);
        drop(account);
        self.serve();
    }

    fn wait(&self, call: Call) -> RoomWaiter {
        let mut account = self.0.lock();
        let waiter = RoomWaiter(account.next);
        account.next += 1;
        account.waiting.push_back((waiter, call));
        drop(account);
        self.serve();
        waiter
    }

    fn cancel(&self, waiter: RoomWaiter) -> bool {
        let mut account = self.0.lock();
        let at = account.waiting.iter().position(|(w, _)| *w == waiter);
        let call = at.and_then(|at| account.waiting.remove(at));
        // What the call holds is the caller's: it goes after the lock.
        drop(account);
        call.is_some()
    }

    /// Calls those who wait, while there is room.
    fn serve(&self) {
        let mut account = self.0.lock();
        if account.serving {
            return;
        }
        let mut serving = None;
        while account.room() > 0
            && let Some((_, call)) = account.waiting.pop_front()
        {
            account.serving = true;
            serving.get_or_insert_with(|| Serving(&self.0));
            drop(account);
            call();
            account = self.0.lock();
        }
        // In the same breath as the last look at the queue: what comes later finds nobody serving.
        account.serving = false;
        drop(account);
        std::mem::forget(serving);
    }
}

/// Bytes that were taken; they return with this.
#[derive(Debug)]
pub(super) struct Room {
    /// It may go before its mappings.
    space: Weak<SpaceInner>,
    bytes: u64,
}

impl Room {
    /// See [`BounceBudget::take`].
    pub fn take(space: &SpaceInner, len: u64) -> Option<Self> {
        let bytes = space.bounce.take(len)?;
        Some(Self { space: space.weak(), bytes })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(space) = self.space.upgrade() {
            space.bounce.give_back(self.bytes);
        }
    }
}

impl AddressSpace {
    /// How many bytes of what is not RAM may be [mapped](crate::Port::map) at once, in bounce buffers (QEMU 9.2:
    /// `max_bounce_buffer_size`, PCI devices' `x-max-bounce-buffer-size`). At first 4,096; 0 allows none. What is mapped
    /// already counts, and stays.
    ///
    /// If that makes room, those who [wait](Self::on_room) for it are called.
    pub fn set_bounce_budget(&self, bytes: u64) {
        self.inner.bounce.set(bytes);
    }

    /// How many bytes may be in bounce buffers at once.
    #[must_use]
    pub fn bounce_budget(&self) -> u64 {
        self.inner.bounce.budget()
    }

    /// How many bytes are in bounce buffers now.
    #[must_use]
    pub fn bounce_in_use(&self) -> u64 {
        self.inner.bounce.used()
    }

    /// Calls `call` once when there is room for a bounce buffer (QEMU: `address_space_register_map_client`): for whoever was
    /// refused by [`MapError::NoRoom`](crate::MapError::NoRoom).
    ///
    /// It is called on the thread that makes room (in [`Mapped::unmap`](crate::Mapped::unmap), when a guard is dropped, in
    /// [`set_bounce_budget`](Self::set_bounce_budget)), or on this one, before this returns, if there is room already; with no
    /// lock held. Those who wait are called one after the other, in order, while there is room. It may map, and if that is
    /// refused because somebody else was faster, it may ask again. The space keeps the call until it is made: let it hold the
    /// space by a [`WeakSpace`](crate::WeakSpace).
    pub fn on_room(&self, call: impl FnOnce() + Send + 'static) -> RoomWaiter {
        self.inner.bounce.wait(Box::new(call))
    }

    /// Takes a call back (QEMU: `address_space_unregister_map_client`); `false` if it was made, or is just being made.
    pub fn cancel_on_room(&self, waiter: RoomWaiter) -> bool {
        self.inner.bounce.cancel(waiter)
    }
}
