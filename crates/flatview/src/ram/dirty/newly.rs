//! Lists of pages that became dirty.
//!
//! What it is: for each client that wants it a bounded queue of pages whose bit just went from clear to set, so
//! that somebody who looks often at a large block need not search it. What it is not: a substitute for the bits; when the
//! queue was full it says so, and then only they know.
//!
//! What must hold: a page whose bit was set since the client's last look is in the queue or will be put there by the
//! marker that set it, or the overflow is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;

use super::MOST_CLIENTS;

#[derive(Debug)]
struct List {
    queue: ArrayQueue<u64>,
    overflow: AtomicBool,
}

/// Tells whether anything stands in a list that [`Memory::list_newly_dirty`](crate::Memory::list_newly_dirty) began: two
/// loads, for who looks after every access to a device. It asks no listener, and once the list has ended or its length was
/// changed it tells nothing of a new one.
#[derive(Debug, Clone)]
pub struct NewlyDirtyWatch(Arc<List>);

impl NewlyDirtyWatch {
    /// Whether no page became dirty since the list was taken last, as far as this thread can know: its own writes, and
    /// those of others that it has been told of.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty() && !self.0.overflow.load(Acquire)
    }
}

/// The lists of a block.
#[derive(Debug, Default)]
pub(super) struct NewPages {
    /// The clients that have one.
    clients: AtomicU8,
    lists: [ArcSwapOption<List>; MOST_CLIENTS as usize],
}

impl NewPages {
    fn list(&self, client: u32) -> Option<&ArcSwapOption<List>> {
        self.lists.get(client as usize)
    }

    /// A list of at most `most` pages for a client, from now on. One of that length that is there already goes on, with
    /// what stands in it: another region of the block may have asked for it.
    pub fn start(&self, client: u32, most: usize) {
        let most = most.max(1);
        if let Some(list) = self.list(client)
            && list.load().as_ref().is_none_or(|list| list.queue.capacity() != most)
        {
            list.store(Some(Arc::new(List {
                queue: ArrayQueue::new(most),
                overflow: AtomicBool::new(false),
            })));
            self.clients.fetch_or(1 << client, Release);
        }
    }

    /// A look at whether a client's list is empty.
    pub fn watch(&self, client: u32) -> Option<NewlyDirtyWatch> {
        Some(NewlyDirtyWatch(self.list(client)?.load_full()?))
    }

    /// No list for a client any more.
    pub fn stop(&self, client: u32) {
        if let Some(list) = self.list(client) {
            self.clients.fetch_and(!(1 << client), Release);
            list.store(None);
        }
    }

    /// The clients that have a list.
    #[inline]
    pub fn clients(&self) -> impl Iterator<Item = u32> + use<> {
        let clients = self.clients.load(Acquire);
        (0..MOST_CLIENTS).filter(move |client| clients & (1 << client) != 0)
    }

    /// Puts those of eight pages, the first being `first`, on a client's list whose bits are set.
    pub fn add(&self, client: u32, first: u64, bits: u8) {
        if bits != 0
            && let Some(list) = self.list(client).and_then(|l| l.load_full())
        {
            for page in (first..).zip(0..8).filter(|(_, i)| bits & (1 << i) != 0).map(|(page, _)| page) {
                if list.queue.push(page).is_err() {
                    list.overflow.store(true, Release);
                }
            }
        }
    }

    /// Calls `f` with the pages of a client's list, which is empty then; `None` if there is no list or it did not
    /// hold all.
    pub fn take(&self, client: u32, mut f: impl FnMut(u64)) -> Option<()> {
        let list = self.list(client)?.load_full()?;
        let complete = !list.overflow.swap(false, AcqRel);
        // No more than there can be: markers may add while we take.
        for page in (0..list.queue.capacity()).map_while(|_| list.queue.pop()) {
            f(page);
        }
        complete.then_some(())
    }
}
