//! The account of which parts of a block are populated, and the listeners who must follow it.
//!
//! What it is: QEMU's `RamDiscardManager`, for devices like virtio-mem that hand a guest its memory in pieces: whoever pins
//! pages (VFIO) or counts them (migration) listens, is asked before a part is populated, and told before it is discarded.
//! What it is not: a device; and nobody is kept from touching what is discarded.
//!
//! What must hold: a part counts as populated only when every listener has agreed; no lock is held while a listener runs;
//! one change runs at a time, and a listener that tries another gets an error.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::thread::ThreadId;

use parking_lot::{Condvar, Mutex};

use super::block::RamBlock;
use super::error::RamError;
use crate::{Memory, MemoryError, RegionId, RegionType};

/// Why a listener refused.
pub type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Follows what is populated (QEMU: `RamDiscardListener`). Ranges are offsets in the block, in bytes.
pub trait DiscardListener: Send + Sync {
    /// The range is about to be populated: it was not before.
    ///
    /// # Errors
    /// A refusal keeps it discarded: listeners that had agreed are told to discard again.
    fn populate(&self, block: &Arc<RamBlock>, range: Range<u64>) -> Result<(), Refusal>;

    /// The range is about to be discarded: it was populated before.
    fn discard(&self, block: &Arc<RamBlock>, range: Range<u64>);
}

/// A listener's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiscardListenerId(u64);

/// Why the populated parts did not change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscardError {
    /// A granularity that pages do not allow.
    #[error(
        "Granularity {granularity:#x} for RAM block '{block}' must be a power of two, at least its page size {page:#x}"
    )]
    BadGranularity {
        /// The block.
        block: Arc<str>,
        /// The granularity asked for, in bytes.
        granularity: u64,
        /// The page size behind the block.
        page: u64,
    },
    /// The region shows it already.
    #[error("Region '{region}' is mapped; its discard manager must be there before it is: unmap it first")]
    Mapped {
        /// The region.
        region: Arc<str>,
    },
    /// One manager is enough.
    #[error("RAM block '{block}' has a discard manager; drop that one first")]
    AlreadyManaged {
        /// The block.
        block: Arc<str>,
    },
    /// No RAM to manage.
    #[error("Region '{region}' is not RAM with a block of its own and cannot have a discard manager")]
    NotRam {
        /// The region.
        region: Arc<str>,
    },
    /// A range that is no multiple of the granularity, or not in the block.
    #[error(
        "Range {start:#x}..{end:#x} of RAM block '{block}' must lie in its {size:#x} bytes and begin and end at multiples of {granularity:#x}"
    )]
    BadRange {
        /// The block.
        block: Arc<str>,
        /// The first byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// The block's size in bytes.
        size: u64,
        /// The granularity in bytes.
        granularity: u64,
    },
    /// A listener refused.
    #[error("A listener refused to populate {start:#x}..{end:#x} of RAM block '{block}': {source}")]
    Refused {
        /// The block.
        block: Arc<str>,
        /// The first byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// What it said.
        #[source]
        source: Refusal,
    },
    /// A listener tried to change what it is being told of.
    #[error(
        "RAM block '{block}' is being populated or discarded by this thread; a listener cannot change it too"
    )]
    Reentered {
        /// The block.
        block: Arc<str>,
    },
    /// No such listener.
    #[error("There is no such listener on RAM block '{block}'; it was removed")]
    NoListener {
        /// The block.
        block: Arc<str>,
    },
    /// The map.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The host.
    #[error(transparent)]
    Ram(#[from] RamError),
}

type Listeners = Vec<(DiscardListenerId, Arc<dyn DiscardListener>)>;

#[derive(Default)]
struct State {
    /// A bit for each piece of the granularity.
    populated: Vec<u64>,
    listeners: Listeners,
    next: u64,
    /// The thread that is changing something.
    changing: Option<ThreadId>,
}

impl State {
    fn is_populated(&self, piece: u64) -> bool {
        let word = self.populated.get((piece / 64) as usize);
        word.is_some_and(|word| word & (1 << (piece % 64)) != 0)
    }

    fn set(&mut self, pieces: Range<u64>, populated: bool) {
        for piece in pieces {
            if let Some(word) = self.populated.get_mut((piece / 64) as usize) {
                let bit = 1 << (piece % 64);
                if populated { *word |= bit } else { *word &= !bit }
            }
        }
    }

    /// The runs of pieces that are populated, or are not, in a range of pieces.
    fn runs(&self, pieces: Range<u64>, populated: bool) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for piece in pieces.filter(|piece| self.is_populated(*piece) == populated) {
            match runs.last_mut() {
                Some(run) if run.end == piece => run.end += 1,
                _ => runs.push(piece..piece + 1),
            }
        }
        runs
    }
}

/// Which parts of a block are populated; made for a region before it is mapped.
///
/// The device that hands out the memory owns it; everybody else finds it by [`RamBlock::discard_manager`].
pub struct DiscardManager {
    block: Arc<RamBlock>,
    granularity: u64,
    state: Mutex<State>,
    idle: Condvar,
}

impl fmt::Debug for DiscardManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscardManager")
            .field("block", &self.block.name())
            .field("granularity", &self.granularity)
            .finish_non_exhaustive()
    }
}

impl RamBlock {
    /// Who says which parts are populated; `None`: all of it is.
    #[must_use]
    pub fn discard_manager(&self) -> Option<Arc<DiscardManager>> {
        self.manager_slot().lock().upgrade()
    }
}

/// The right to change, for one thread at a time.
struct Changing<'m>(&'m DiscardManager);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().changing = None;
        self.0.idle.notify_one();
    }
}

impl DiscardManager {
    /// A manager for the block of a RAM region, all of it discarded at first, in pieces of `granularity` bytes
    /// (QEMU: `memory_region_set_ram_discard_manager`).
    ///
    /// # Errors
    /// [`DiscardError`]: the region is mapped or is no RAM, the block is managed already, or the granularity is no power of
    /// two of whole pages.
    pub fn new(memory: &Memory, region: RegionId, granularity: u64) -> Result<Arc<Self>, DiscardError> {
        let info = memory.region(region)?;
        let name = || Arc::clone(&info.name);
        let block = match &info.ram {
            Some((block, 0)) if info.kind == RegionType::Ram => Arc::clone(block),
            _ => return Err(DiscardError::NotRam { region: name() }),
        };
        if memory.is_mapped(region)? {
            return Err(DiscardError::Mapped { region: name() });
        }
        let page = block.page_size();
        if !granularity.is_power_of_two() || granularity < page {
            let block = block.shared_name();
            return Err(DiscardError::BadGranularity { block, granularity, page });
        }
        let pieces = block.size().div_ceil(granularity);
        let words = usize::try_from(pieces.div_ceil(64)).unwrap_or(0);
        let state = State { populated: vec![0; words], ..State::default() };
        let manager = Arc::new(Self { block, granularity, state: Mutex::new(state), idle: Condvar::new() });
        let mut slot = manager.block.manager_slot().lock();
        if slot.strong_count() > 0 {
            return Err(DiscardError::AlreadyManaged { block: manager.block.shared_name() });
        }
        *slot = Arc::downgrade(&manager);
        drop(slot);
        Ok(manager)
    }

    /// The block.
    #[must_use]
    pub fn block(&self) -> &Arc<RamBlock> {
        &self.block
    }

    /// The size in bytes of what is populated or discarded at once.
    #[must_use]
    pub fn granularity(&self) -> u64 {
        self.granularity
    }

    fn name(&self) -> Arc<str> {
        self.block.shared_name()
    }

    /// Waits for the right to change.
    fn begin(&self) -> Result<Changing<'_>, DiscardError> {
        let me = std::thread::current().id();
        let mut state = self.state.lock();
        while let Some(thread) = state.changing {
            if thread == me {
                return Err(DiscardError::Reentered { block: self.name() });
            }
            self.idle.wait(&mut state);
        }
        state.changing = Some(me);
        Ok(Changing(self))
    }

    /// A range of bytes as one of pieces.
    fn pieces(&self, range: &Range<u64>) -> Result<Range<u64>, DiscardError> {
        let size = self.block.size().div_ceil(self.granularity).saturating_mul(self.granularity);
        let whole = |at: u64| at.is_multiple_of(self.granularity);
        if range.start > range.end || range.end > size || !whole(range.start) || !whole(range.end) {
            return Err(DiscardError::BadRange {
                block: self.name(),
                start: range.start,
                end: range.end,
                size: self.block.size(),
                granularity: self.granularity,
            });
        }
        Ok(range.start / self.granularity..range.end / self.granularity)
    }

    /// Pieces as bytes; the last one ends where the block does.
    fn bytes(&self, pieces: &Range<u64>) -> Range<u64> {
        pieces.start * self.granularity..(pieces.end * self.granularity).min(self.block.size())
    }

    fn runs(&self, pieces: Range<u64>, populated: bool) -> (Vec<Range<u64>>, Listeners) {
        let state = self.state.lock();
        (state.runs(pieces, populated), state.listeners.clone())
    }

    /// Whether all of a range is populated.
    ///
    /// # Errors
    /// [`DiscardError::BadRange`].
    pub fn is_populated(&self, range: Range<u64>) -> Result<bool, DiscardError> {
        let pieces = self.pieces(&range)?;
        Ok(self.runs(pieces, false).0.is_empty())
    }

    /// The parts of a range that are populated, in order.
    ///
    /// # Errors
    /// [`DiscardError::BadRange`].
    pub fn populated(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, DiscardError> {
        let pieces = self.pieces(&range)?;
        Ok(self.runs(pieces, true).0.iter().map(|run| self.bytes(run)).collect())
    }

    /// The parts of a range that are discarded, in order.
    ///
    /// # Errors
    /// [`DiscardError::BadRange`].
    pub fn discarded(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, DiscardError> {
        let pieces = self.pieces(&range)?;
        Ok(self.runs(pieces, false).0.iter().map(|run| self.bytes(run)).collect())
    }

    /// All pieces.
    fn all(&self) -> Range<u64> {
        0..self.block.size().div_ceil(self.granularity)
    }

    /// Calls `f` with each populated part of a range until it fails; nothing is populated or discarded meanwhile
    /// (QEMU: `ram_discard_manager_replay_populated`).
    ///
    /// # Errors
    /// What `f` gives, [`DiscardError::BadRange`], or [`DiscardError::Reentered`] in a listener.
    pub fn replay_populated<E: From<DiscardError>>(
        &self,
        range: Range<u64>,
        f: impl FnMut(Range<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let _changing = self.begin()?;
        self.populated(range)?.into_iter().try_for_each(f)
    }

    /// The same for what is discarded (QEMU: `ram_discard_manager_replay_discarded`).
    ///
    /// # Errors
    /// As [`replay_populated`](Self::replay_populated).
    pub fn replay_discarded<E: From<DiscardError>>(
        &self,
        range: Range<u64>,
        f: impl FnMut(Range<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let _changing = self.begin()?;
        self.discarded(range)?.into_iter().try_for_each(f)
    }

    /// Adds a listener, which is told of what is populated now (QEMU: `ram_discard_manager_register_listener`).
    ///
    /// # Errors
    /// [`DiscardError::Refused`] if it refuses one of these parts: it is then told to discard the earlier ones, and is not
    /// added.
    pub fn listen(&self, listener: Arc<dyn DiscardListener>) -> Result<DiscardListenerId, DiscardError> {
        let _changing = self.begin()?;
        let (runs, _) = self.runs(self.all(), true);
        self.ask(&runs, std::slice::from_ref(&listener))?;
        let mut state = self.state.lock();
        let id = DiscardListenerId(state.next);
        state.next += 1;
        state.listeners.push((id, listener));
        Ok(id)
    }

    /// Removes a listener, which is told to discard what is populated now.
    ///
    /// # Errors
    /// [`DiscardError::NoListener`].
    pub fn unlisten(&self, id: DiscardListenerId) -> Result<(), DiscardError> {
        let _changing = self.begin()?;
        let (runs, listeners) = self.runs(self.all(), true);
        let Some((_, listener)) = listeners.iter().find(|(known, _)| *known == id) else {
            return Err(DiscardError::NoListener { block: self.name() });
        };
        self.state.lock().listeners.retain(|(known, _)| *known != id);
        for run in &runs {
            listener.discard(&self.block, self.bytes(run));
        }
        Ok(())
    }

    /// Asks each listener about each run; after a refusal all that agreed are told to discard again, in reverse order.
    fn ask(&self, runs: &[Range<u64>], listeners: &[Arc<dyn DiscardListener>]) -> Result<(), DiscardError> {
        let mut agreed: Vec<(&Arc<dyn DiscardListener>, Range<u64>)> = Vec::new();
        for run in runs.iter().map(|run| self.bytes(run)) {
            for listener in listeners {
                if let Err(source) = listener.populate(&self.block, run.clone()) {
                    for (listener, run) in agreed.into_iter().rev() {
                        listener.discard(&self.block, run);
                    }
                    let (start, end) = (run.start, run.end);
                    return Err(DiscardError::Refused { block: self.name(), start, end, source });
                }
                agreed.push((listener, run.clone()));
            }
        }
        Ok(())
    }

    /// Populates a range: listeners are asked, in the order in which they were added, about the parts of it that are not
    /// populated yet.
    ///
    /// # Errors
    /// [`DiscardError`]; nothing has changed then.
    pub fn populate(&self, range: Range<u64>) -> Result<(), DiscardError> {
        let pieces = self.pieces(&range)?;
        let _changing = self.begin()?;
        let (runs, listeners) = self.runs(pieces.clone(), false);
        let listeners: Vec<_> = listeners.into_iter().map(|(_, listener)| listener).collect();
        self.ask(&runs, &listeners)?;
        self.state.lock().set(pieces, true);
        Ok(())
    }

    /// Discards a range: listeners are told of the parts of it that are populated, and then the host gets their pages back.
    ///
    /// # Errors
    /// [`DiscardError`]; if the host refuses, the listeners have been told and the range counts as discarded.
    pub fn discard(&self, range: Range<u64>) -> Result<(), DiscardError> {
        let pieces = self.pieces(&range)?;
        let _changing = self.begin()?;
        let (runs, listeners) = self.runs(pieces.clone(), true);
        for run in &runs {
            for (_, listener) in &listeners {
                listener.discard(&self.block, self.bytes(run));
            }
        }
        self.state.lock().set(pieces, false);
        let page = self.block.page_size();
        for run in &runs {
            let bytes = self.bytes(run);
            // The last page of a block whose size is no multiple of it belongs to the block whole.
            self.block.discard(bytes.start..bytes.end.next_multiple_of(page))?;
        }
        Ok(())
    }
}
