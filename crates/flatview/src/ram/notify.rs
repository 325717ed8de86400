//! Who is told of the RAM blocks that come and go (QEMU: `RAMBlockNotifier`).
//!
//! What it is: the count of regions behind each block, and a queue of news in the order of the changes. What it is not: a
//! listener to the map; a block is there from the moment a region is made of it, mapped or not.
//!
//! What must hold: news is put in line under the writer's lock, so its order is that of the changes, and told without any
//! lock, by one thread at a time; a block lives until the news of its removal has been told.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::RamBlock;

/// Is told of RAM blocks: to pin them, or to register them with something outside. Called with no lock held; changing the map
/// from here is allowed, and what comes of it is told afterwards.
pub trait RamBlockNotifier: Send + Sync {
    /// A region is made of the block, the first one.
    fn added(&self, block: &Arc<RamBlock>) {
        let _ = block;
    }

    /// The last region of the block was removed.
    fn removed(&self, block: &Arc<RamBlock>) {
        let _ = block;
    }

    /// The block's size has changed, from `old` bytes.
    fn resized(&self, block: &Arc<RamBlock>, old: u64) {
        let _ = (block, old);
    }
}

/// A notifier's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NotifierId(u64);

enum What {
    Added,
    Removed,
    Resized(u64),
}

struct News {
    block: Arc<RamBlock>,
    what: What,
    /// Who was there when it happened, or the one that came or goes.
    told: Vec<Arc<dyn RamBlockNotifier>>,
}

#[derive(Default)]
struct State {
    /// By address: how many regions are made of the block.
    blocks: HashMap<usize, (Arc<RamBlock>, usize)>,
    notifiers: Vec<(NotifierId, Arc<dyn RamBlockNotifier>)>,
    next: u64,
    news: VecDeque<News>,
    telling: bool,
}

impl State {
    fn put(&mut self, block: &Arc<RamBlock>, what: What) {
        if !self.notifiers.is_empty() {
            let told = self.notifiers.iter().map(|(_, notifier)| Arc::clone(notifier)).collect();
            self.news.push_back(News { block: Arc::clone(block), what, told });
        }
    }
}

/// The blocks of one memory and who is told of them.
#[derive(Default)]
pub(crate) struct Notifiers(Mutex<State>);

/// Lets the next thread tell, also if a notifier panics.
struct Telling<'n>(Option<&'n Notifiers>);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if let Some(notifiers) = self.0 {
            notifiers.0.lock().telling = false;
        }
    }
}

impl Notifiers {
    /// Regions were made of these blocks (`true`) or removed, in that order. Called under the writer's lock.
    pub fn change(&self, changes: Vec<(Arc<RamBlock>, bool)>) {
        if changes.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        for (block, made) in changes {
            let key = Arc::as_ptr(&block).addr();
            let (_, regions) = state.blocks.entry(key).or_insert_with(|| (Arc::clone(&block), 0));
            let before = *regions;
            *regions = if made { before + 1 } else { before.saturating_sub(1) };
            match (before, *regions) {
                (0, 1) => state.put(&block, What::Added),
                (_, 0) => {
                    state.blocks.remove(&key);
                    state.put(&block, What::Removed);
                }
                _ => {}
            }
        }
    }

    /// A block was resized.
    pub fn resized(&self, block: &Arc<RamBlock>, old: u64) {
        self.0.lock().put(block, What::Resized(old));
    }

    /// Tells what is in line, unless another thread, or this one further up, is at it and will.
    pub fn tell(&self) {
        {
            let mut state = self.0.lock();
            if state.telling || state.news.is_empty() {
                return;
            }
            state.telling = true;
        }
        let mut telling = Telling(Some(self));
        loop {
            let news = {
                let mut state = self.0.lock();
                let Some(news) = state.news.pop_front() else {
                    // Under the lock, so that news which comes now finds somebody to tell it.
                    state.telling = false;
                    telling.0 = None;
                    return;
                };
                news
            };
            for notifier in &news.told {
                match news.what {
                    What::Added => notifier.added(&news.block),
                    What::Removed => notifier.removed(&news.block),
                    What::Resized(old) => notifier.resized(&news.block, old),
                }
            }
        }
    }

    /// Adds a notifier and puts in line for it the blocks that there are.
    pub fn add(&self, notifier: Arc<dyn RamBlockNotifier>) -> NotifierId {
        let mut state = self.0.lock();
        let blocks: Vec<_> = state.blocks.values().map(|(block, _)| Arc::clone(block)).collect();
        for block in blocks {
            state.news.push_back(News { block, what: What::Added, told: vec![Arc::clone(&notifier)] });
        }
        let id = NotifierId(state.next);
        state.next += 1;
        state.notifiers.push((id, notifier));
        id
    }

    /// Removes a notifier and puts in line for it that the blocks are gone; false if it is not there.
    pub fn remove(&self, id: NotifierId) -> bool {
        let mut state = self.0.lock();
        let Some(at) = state.notifiers.iter().position(|(known, _)| *known == id) else { return false };
        let (_, notifier) = state.notifiers.remove(at);
        let blocks: Vec<_> = state.blocks.values().map(|(block, _)| Arc::clone(block)).collect();
        for block in blocks {
            state.news.push_back(News { block, what: What::Removed, told: vec![Arc::clone(&notifier)] });
        }
        true
    }
}
