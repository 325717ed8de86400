//! Dirty tracking: which pages were written, and for whom it is noted.
//!
//! What it is: the calls that start and stop logs and take what they noted, by region. What it is not: the notes, which
//! are in the RAM blocks ([`ram`](crate::ram)), or the counts, which are in the tree.
//!
//! What must hold: a client's bits of a block are kept before the first view with the client's log is published; after
//! that view is published, and before the call that published it returns, every other thread is fenced. So a store that
//! began under the old view is either done then, or sees that its view is old and marks all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Memory, State, Transaction};
use crate::ram::{Claimed, NoBarrier, RamBlock, heavy, prepare};
use crate::topology::{Kind, Record};
use crate::{DirtyClient, DirtySnapshot, GlobalLog, MemoryError, NewlyDirtyWatch, RegionId};

/// Pages, each by its first offset, as runs: first offset and size in bytes, ascending.
fn runs_of_pages(offsets: &[u64]) -> Vec<(u64, u128)> {
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    let mut runs: Vec<(u64, u128)> = Vec::new();
    for at in sorted {
        match runs.last_mut() {
            Some((first, size)) if u128::from(*first) + *size >= u128::from(at) => {
                *size = u128::from(at - *first) + u128::from(crate::DIRTY_PAGE_SIZE);
            }
            _ => runs.push((at, crate::DIRTY_PAGE_SIZE.into())),
        }
    }
    runs
}

fn no_barrier(_: NoBarrier) -> MemoryError {
    MemoryError::NoBarrier
}

/// The block of a region, and where in it the region begins.
fn block_of(record: &Record) -> Result<(&Arc<RamBlock>, u64), MemoryError> {
    record.body.block().ok_or_else(|| MemoryError::NoRam { name: Arc::clone(&record.body.name) })
}

impl State {
    /// Lets a block keep a client's bits; `name` is the region's.
    fn keep_bits(&self, name: &Arc<str>, block: &RamBlock, client: DirtyClient) -> Result<(), MemoryError> {
        prepare().map_err(no_barrier)?;
        let kept = block.dirty().start(&self.clients.claim, client, block.max_size());
        kept.map_err(|Claimed| MemoryError::LoggedElsewhere {
            name: Arc::clone(name),
            block: block.shared_name(),
        })
    }

    /// Lets the block of a region that is about to be added keep the bits of those who log all RAM.
    pub(super) fn keep_bits_of_new(&self, name: &Arc<str>, block: &RamBlock) -> Result<(), MemoryError> {
        let everywhere = self.topology.logged_everywhere();
        let logging = self.clients.all().filter(|client| everywhere & client.mask() != 0);
        logging.into_iter().try_for_each(|client| self.keep_bits(name, block, client))
    }

    /// Lets all RAM keep a client's bits.
    fn keep_bits_of_all(&self, client: DirtyClient) -> Result<(), MemoryError> {
        let mut ram = self.topology.records().filter_map(|(_, r)| Some((&r.body.name, r.body.block()?.0)));
        ram.try_for_each(|(name, block)| self.keep_bits(name, block, client))
    }

    /// A change that was seen for a moment was taken back. What was written meanwhile without a log that goes on now is
    /// known to nobody: everything may have been.
    pub(super) fn log_again(&mut self) {
        if self.topology.take_log_lowered() {
            // As when a log is started: who stores under the view that was taken back sees that it is old.
            let _ = heavy();
            for block in self.blocks() {
                block.dirty().mark_for_all(0, block.size());
            }
        }
    }

    /// The blocks that regions use, each once.
    pub(super) fn blocks(&self) -> Vec<Arc<RamBlock>> {
        let blocks = self.topology.records().filter_map(|(_, r)| r.body.block().map(|(b, _)| b));
        let each_once: BTreeMap<_, _> = blocks.map(|b| (Arc::as_ptr(b) as usize, b)).collect();
        each_once.into_values().cloned().collect()
    }
}

impl Transaction<'_> {
    /// Starts or stops the log of a region for a client (QEMU: `memory_region_set_log`): writes to it, through whichever
    /// alias and space, make its pages dirty for the client. Starts are counted: as many stops end the log.
    ///
    /// When a client's log of a RAM block begins for the first time, all pages of the block are dirty: nothing is known of
    /// them. When it is started again they are as they were; what was written meanwhile is not told.
    ///
    /// Other regions with windows of the same block have logs of their own, over the same pages.
    ///
    /// # Errors
    /// [`MemoryError::NoRam`] for a region without a RAM block (log the alias's target, not the alias),
    /// [`MemoryError::NotLogged`] for a stop too many, [`MemoryError::StaleClient`],
    /// [`MemoryError::LoggedElsewhere`], [`MemoryError::NoBarrier`], or a stale id.
    pub fn set_log(&mut self, region: RegionId, client: DirtyClient, on: bool) -> Result<(), MemoryError> {
        let mut state = self.state.borrow_mut();
        state.clients.check(client)?;
        let record = state.topology.record(region)?;
        let (block, _) = block_of(record)?;
        let count = state.topology.log_count(region.index, client.index);
        let count = if on {
            state.keep_bits(&record.body.name, block, client)?;
            count.checked_add(1)
        } else {
            count.checked_sub(1)
        };
        let Some(count) = count else {
            return Err(MemoryError::NotLogged { name: Arc::clone(&record.body.name), client });
        };
        state.topology.set_log_count(region.index, client.index, count);
        Ok(())
    }

    /// Starts or stops the log of all RAM for a client, regions that are added later included. Counted, and apart from
    /// the logs of single regions.
    ///
    /// # Errors
    /// As for [`set_log`](Self::set_log); [`MemoryError::NotLoggedEverywhere`] for a stop too many.
    pub fn set_log_all(&mut self, client: DirtyClient, on: bool) -> Result<(), MemoryError> {
        let mut state = self.state.borrow_mut();
        state.clients.check(client)?;
        let count = state.topology.everywhere_count(client.index);
        let count = if on {
            state.keep_bits_of_all(client)?;
            count.checked_add(1)
        } else {
            count.checked_sub(1)
        };
        let count = count.ok_or(MemoryError::NotLoggedEverywhere { client })?;
        state.topology.set_everywhere_count(client.index, count);
        Ok(())
    }

    /// Starts the global log on behalf of `flags` (QEMU: `memory_global_dirty_log_start`): all RAM is logged for
    /// [`DirtyClient::MIGRATION`] until each flag was stopped. A flag that is set already changes nothing.
    ///
    /// # Errors
    /// [`MemoryError::LoggedElsewhere`], [`MemoryError::NoBarrier`].
    pub fn start_global_log(&mut self, flags: GlobalLog) -> Result<(), MemoryError> {
        let mut state = self.state.borrow_mut();
        let running = state.topology.global_log();
        if !running.contains(flags) {
            state.keep_bits_of_all(DirtyClient::MIGRATION)?;
            state.topology.set_global_log(running | flags);
        }
        Ok(())
    }

    /// Stops the global log on behalf of `flags` (QEMU: `memory_global_dirty_log_stop`). What was noted stays.
    ///
    /// # Errors
    /// [`MemoryError::NoGlobalLog`] if it does not run for all of them.
    pub fn stop_global_log(&mut self, flags: GlobalLog) -> Result<(), MemoryError> {
        let mut state = self.state.borrow_mut();
        let running = state.topology.global_log();
        if !running.contains(flags) {
            return Err(MemoryError::NoGlobalLog { flags, running });
        }
        state.topology.set_global_log(running.without(flags));
        Ok(())
    }
}

/// A part of a region in its block.
struct Part {
    block: Arc<RamBlock>,
    /// Where in it the region begins.
    base: u64,
    /// The clients for which the region is logged.
    mask: u8,
}

impl Memory {
    /// Starts or stops the log of a region for a client: an [`update`](Self::update) of one step.
    ///
    /// When a start returns, every write that is not done yet will be noted, whichever thread does it. Nobody is waited
    /// for, so it may be called anywhere, in device callbacks too.
    ///
    /// # Errors
    /// As [`Transaction::set_log`].
    #[track_caller]
    pub fn set_log(&self, region: RegionId, client: DirtyClient, on: bool) -> Result<(), MemoryError> {
        self.update(|t| t.set_log(region, client, on))
    }

    /// Starts or stops the log of all RAM for a client: an [`update`](Self::update) of one step.
    ///
    /// # Errors
    /// As [`Transaction::set_log_all`].
    #[track_caller]
    pub fn set_log_all(&self, client: DirtyClient, on: bool) -> Result<(), MemoryError> {
        self.update(|t| t.set_log_all(client, on))
    }

    /// Starts the global log: an [`update`](Self::update) of one step.
    ///
    /// # Errors
    /// As [`Transaction::start_global_log`].
    #[track_caller]
    pub fn start_global_log(&self, flags: GlobalLog) -> Result<(), MemoryError> {
        self.update(|t| t.start_global_log(flags))
    }

    /// Stops the global log: an [`update`](Self::update) of one step.
    ///
    /// # Errors
    /// As [`Transaction::stop_global_log`].
    #[track_caller]
    pub fn stop_global_log(&self, flags: GlobalLog) -> Result<(), MemoryError> {
        self.update(|t| t.stop_global_log(flags))
    }

    /// On whose behalf the global log runs (QEMU: `global_dirty_tracking`).
    #[must_use]
    pub fn global_log(&self) -> GlobalLog {
        self.read_state(|s| s.topology.global_log())
    }

    /// The clients for which writes to a region are logged, a bit for each (QEMU: `memory_region_get_dirty_log_mask`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn log_mask(&self, region: RegionId) -> Result<u8, MemoryError> {
        self.read_state(|s| Ok(s.topology.log_mask(s.topology.record(region)?)))
    }

    /// Whether writes to a region are logged for a client (QEMU: `memory_region_is_logging`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn is_logging(&self, region: RegionId, client: DirtyClient) -> Result<bool, MemoryError> {
        self.read_state(|s| s.clients.check(client))?;
        Ok(self.log_mask(region)? & client.mask() != 0)
    }

    /// One more client, besides [QEMU's three](DirtyClient). Its name is for people.
    ///
    /// # Errors
    /// [`MemoryError::NoDirtyClient`] if there are eight already; [`MemoryError::BadName`].
    pub fn allocate_dirty_client(&self, name: &str) -> Result<DirtyClient, MemoryError> {
        self.with_state(|s| s.clients.allocate(name))
    }

    /// Gives an allocated client back: its logs stop, its bits are cleared, and it is stale.
    ///
    /// # Errors
    /// [`MemoryError::StaleClient`] if it was not allocated here, is freed, or is one of QEMU's;
    /// [`MemoryError::ClientInsideUpdate`] inside an [`update`](Self::update).
    #[track_caller]
    pub fn free_dirty_client(&self, client: DirtyClient) -> Result<(), MemoryError> {
        self.update(|t| {
            let mut state = t.state.borrow_mut();
            if !state.clients.is_allocated(client) {
                return Err(MemoryError::StaleClient { client });
            }
            // It could not be undone if that update failed later.
            if state.depth > 1 {
                return Err(MemoryError::ClientInsideUpdate);
            }
            state.topology.forget_client(client.index);
            Ok(())
        })?;
        let (blocks, claim) = self.with_state(|s| {
            s.clients.free(client);
            (s.blocks(), Arc::clone(&s.clients.claim))
        });
        for block in blocks {
            block.dirty().stop(&claim, client);
        }
        Ok(())
    }

    /// The name that an allocated client was given.
    ///
    /// # Errors
    /// [`MemoryError::StaleClient`] if it is none of this memory's.
    pub fn dirty_client_name(&self, client: DirtyClient) -> Result<Arc<str>, MemoryError> {
        self.read_state(|s| s.clients.name(client)).ok_or(MemoryError::StaleClient { client })
    }

    /// Where `len` bytes at `offset` of a region are, with the bits of the client kept there.
    fn part(
        &self,
        region: RegionId,
        offset: u64,
        len: u64,
        client: Option<DirtyClient>,
    ) -> Result<Part, MemoryError> {
        self.read_state(|s| {
            let record = s.topology.record(region)?;
            let (block, base) = block_of(record)?;
            let size = record.attrs.size();
            if u128::from(offset) + u128::from(len) > size {
                let name = Arc::clone(&record.body.name);
                return Err(MemoryError::OutsideRegion { name, offset, len, size });
            }
            if let Some(client) = client {
                s.clients.check(client)?;
                s.keep_bits(&record.body.name, block, client)?;
            }
            Ok(Part { block: Arc::clone(block), base, mask: s.topology.log_mask(record) })
        })
    }

    /// Takes what a client has not seen of a region (QEMU: `memory_region_snapshot_and_clear_dirty`): which pages of
    /// `len` bytes at `offset` are dirty for it, which are clean then. No other page is, and none for another client
    /// (QEMU takes up to 63 of the neighbours along).
    ///
    /// What the caller reads of the region after this is all that was written before; what is written later makes the
    /// page dirty again. A page of which only a part is asked for is taken whole.
    ///
    /// # Errors
    /// [`MemoryError::NoRam`], [`MemoryError::OutsideRegion`], [`MemoryError::StaleClient`],
    /// [`MemoryError::LoggedElsewhere`], [`MemoryError::NoBarrier`], or a stale id.
    pub fn snapshot_and_clear_dirty(
        &self,
        region: RegionId,
        offset: u64,
        len: u64,
        client: DirtyClient,
    ) -> Result<DirtySnapshot, MemoryError> {
        let part = self.part(region, offset, len, Some(client))?;
        self.tell_log_sync(Some(&part.block))?;
        let dirty = part.block.dirty();
        let snapshot =
            dirty.snapshot_and_clear(u32::from(client.index), part.base, offset, len).map_err(no_barrier)?;
        self.tell_log_clear(&part.block, &[(part.base.saturating_add(offset), len.into())])?;
        Ok(snapshot)
    }

    /// Makes the pages of `len` bytes at `offset` of a region clean for a client (QEMU: `memory_region_reset_dirty`).
    /// Asks listeners first for what they know, so that what was written before is forgotten too.
    ///
    /// # Errors
    /// As [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty).
    pub fn reset_dirty(
        &self,
        region: RegionId,
        offset: u64,
        len: u64,
        client: DirtyClient,
    ) -> Result<(), MemoryError> {
        let part = self.part(region, offset, len, Some(client))?;
        // What a listener has not told yet was written before, too.
        self.tell_log_sync(Some(&part.block))?;
        let at = part.base.saturating_add(offset);
        part.block.dirty().clear(u32::from(client.index), at, len).map_err(no_barrier)?;
        self.tell_log_clear(&part.block, &[(at, len.into())])
    }

    /// The same, and tells whether any of the pages was dirty (QEMU: `cpu_physical_memory_test_and_clear_dirty`). Asks
    /// listeners first, as [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty) does.
    ///
    /// # Errors
    /// As [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty).
    pub fn test_and_clear_dirty(
        &self,
        region: RegionId,
        offset: u64,
        len: u64,
        client: DirtyClient,
    ) -> Result<bool, MemoryError> {
        let part = self.part(region, offset, len, Some(client))?;
        self.tell_log_sync(Some(&part.block))?;
        let at = part.base.saturating_add(offset);
        let dirty = part.block.dirty().clear(u32::from(client.index), at, len).map_err(no_barrier)? > 0;
        if dirty {
            self.tell_log_clear(&part.block, &[(at, len.into())])?;
        }
        Ok(dirty)
    }

    /// Which pages of `len` bytes at `offset` of a region are dirty for a client. They stay so, and listeners are not
    /// asked what they know ([`sync_dirty_log`](Self::sync_dirty_log) does).
    ///
    /// # Errors
    /// As [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty).
    pub fn dirty_snapshot(
        &self,
        region: RegionId,
        offset: u64,
        len: u64,
        client: DirtyClient,
    ) -> Result<DirtySnapshot, MemoryError> {
        let part = self.part(region, offset, len, Some(client))?;
        Ok(part.block.dirty().snapshot(u32::from(client.index), part.base, offset, len))
    }

    /// How many pages of `len` bytes at `offset` of a region are dirty for a client.
    ///
    /// # Errors
    /// As [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty).
    pub fn count_dirty(
        &self,
        region: RegionId,
        offset: u64,
        len: u64,
        client: DirtyClient,
    ) -> Result<u64, MemoryError> {
        let part = self.part(region, offset, len, Some(client))?;
        Ok(part.block.dirty().count(u32::from(client.index), part.base.saturating_add(offset), len))
    }

    /// Whether any page of `len` bytes at `offset` of a region is dirty for a client (QEMU:
    /// `memory_region_get_dirty`).
    ///
    /// # Errors
    /// As [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty).
    pub fn is_dirty(
        &self,
        region: RegionId,
        offset: u64,
        len: u64,
        client: DirtyClient,
    ) -> Result<bool, MemoryError> {
        Ok(self.count_dirty(region, offset, len, client)? > 0)
    }

    /// Notes that `len` bytes at `offset` of a region were written past this library, for the clients for which it is
    /// logged (QEMU: `memory_region_set_dirty`). To be called after they are written. [`HostPtr::mark_dirty`](crate::HostPtr::mark_dirty)
    /// does the same for every client of the block, without a lock.
    ///
    /// # Errors
    /// [`MemoryError::NoRam`], [`MemoryError::OutsideRegion`], or a stale id.
    pub fn set_dirty(&self, region: RegionId, offset: u64, len: u64) -> Result<(), MemoryError> {
        let part = self.part(region, offset, len, None)?;
        part.block.dirty().mark(part.mask, part.base.saturating_add(offset), len);
        Ok(())
    }

    /// Sets a client's bits of `len` bytes at `offset` of a region's RAM, whether it is logged or not (QEMU:
    /// `cpu_physical_memory_set_dirty_range` with a mask). With [`drain_newly_dirty`](Self::drain_newly_dirty) it leaves the list
    /// to pages that the client cares for: a page whose bit is set is not listed.
    ///
    /// # Errors
    /// [`MemoryError::NoRam`], [`MemoryError::OutsideRegion`], an unknown client, or a stale id.
    pub fn set_dirty_for(
        &self,
        region: RegionId,
        offset: u64,
        len: u64,
        client: DirtyClient,
    ) -> Result<(), MemoryError> {
        let part = self.part(region, offset, len, Some(client))?;
        part.block.dirty().mark(1 << client.index, part.base.saturating_add(offset), len);
        Ok(())
    }

    /// Notes that a ROM device itself wrote `len` bytes at `offset` of its memory, for the clients for which it is logged
    /// (QEMU: `memory_region_flush_rom_device`). Only in ROM mode: otherwise nobody reads the memory.
    ///
    /// # Errors
    /// [`MemoryError::NotRomDevice`], [`MemoryError::RomModeOff`], [`MemoryError::OutsideRegion`], or a stale id.
    pub fn flush_rom_device(&self, region: RegionId, offset: u64, len: u64) -> Result<(), MemoryError> {
        self.read_state(|s| {
            let record = s.topology.record(region)?;
            let name = || Arc::clone(&record.body.name);
            match record.body.kind {
                Kind::RomDevice if record.attrs.romd() => Ok(()),
                Kind::RomDevice => Err(MemoryError::RomModeOff { name: name() }),
                _ => Err(MemoryError::NotRomDevice { name: name() }),
            }
        })?;
        self.set_dirty(region, offset, len)
    }

    /// Lets a client have a list of the pages that become dirty in a region's block from now on: at most `most` until it
    /// is [taken](Self::take_newly_dirty). It is the block's: pages that other regions show of it stand there too.
    /// `most` of 0 ends the list. What comes back, if there is a list, tells quickly whether it is empty.
    ///
    /// # Errors
    /// As [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty).
    pub fn list_newly_dirty(
        &self,
        region: RegionId,
        client: DirtyClient,
        most: usize,
    ) -> Result<Option<NewlyDirtyWatch>, MemoryError> {
        let part = self.part(region, 0, 0, Some(client))?;
        let (dirty, client) = (part.block.dirty(), u32::from(client.index));
        if most > 0 {
            dirty.list_new(client, most);
        } else {
            dirty.unlist_new(client);
        }
        Ok(dirty.watch_new(client))
    }

    /// Takes the list: each page once, and it is clean then. Cheaper than a snapshot of a large block if few pages are
    /// dirty; as there, what the caller reads after this is all that was written before.
    ///
    /// Listeners are asked first for what they know.
    ///
    /// # Errors
    /// As [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty).
    pub fn take_newly_dirty(&self, region: RegionId, client: DirtyClient) -> Result<NewlyDirty, MemoryError> {
        let part = self.part(region, 0, 0, Some(client))?;
        self.tell_log_sync(Some(&part.block))?;
        let (pages, complete) = part.block.dirty().take_new(u32::from(client.index)).map_err(no_barrier)?;
        let offsets: Vec<_> = pages.into_iter().map(|page| page * crate::DIRTY_PAGE_SIZE).collect();
        self.tell_log_clear(&part.block, &runs_of_pages(&offsets))?;
        Ok(NewlyDirty { block: part.block, offsets, complete })
    }

    /// Takes the list and leaves the bits as they are: a page is listed again once its bit was
    /// [cleared](Self::reset_dirty) and it is written after that. Pages may stand there twice.
    ///
    /// Listeners are asked first for what they know.
    ///
    /// # Errors
    /// As [`snapshot_and_clear_dirty`](Self::snapshot_and_clear_dirty).
    pub fn drain_newly_dirty(
        &self,
        region: RegionId,
        client: DirtyClient,
    ) -> Result<NewlyDirty, MemoryError> {
        let part = self.part(region, 0, 0, Some(client))?;
        self.tell_log_sync(Some(&part.block))?;
        let (pages, complete) = part.block.dirty().drain_new(u32::from(client.index));
        let offsets = pages.into_iter().map(|page| page * crate::DIRTY_PAGE_SIZE).collect();
        Ok(NewlyDirty { block: part.block, offsets, complete })
    }

    /// Asks listeners that note writes themselves, such as an accelerator, to mark what they know of a region, or of all
    /// (QEMU: `memory_region_sync_dirty_bitmap`, `memory_global_dirty_log_sync`). Of a region the whole block is asked for,
    /// through whichever region and space it is seen.
    ///
    /// # Errors
    /// What a listener gives; for a region [`MemoryError::NoRam`] or a stale id.
    pub fn sync_dirty_log(&self, region: Option<RegionId>) -> Result<(), MemoryError> {
        match region {
            None => self.tell_log_sync(None),
            Some(region) => self.tell_log_sync(Some(&self.part(region, 0, 0, None)?.block)),
        }
    }
}

/// The pages of a block that became dirty since the list was taken last.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewlyDirty {
    /// The block.
    pub block: Arc<RamBlock>,
    /// The pages' offsets in the block in bytes, in no order that means anything. Their bits are clear now if they were
    /// [taken](Memory::take_newly_dirty).
    pub offsets: Vec<u64>,
    /// Whether these are all: if not, the list was too short (or there was none), and the others' bits are set: take
    /// a snapshot.
    pub complete: bool,
}

/// Of whole blocks.
impl Memory {
    /// The blocks that regions use, each once.
    pub(crate) fn blocks(&self) -> Vec<Arc<RamBlock>> {
        self.read_state(State::blocks)
    }

    /// Makes a block clean for a client whose bits it keeps.
    pub(crate) fn clear_block(&self, block: &Arc<RamBlock>, client: DirtyClient) -> Result<(), MemoryError> {
        block.dirty().clear(u32::from(client.index), 0, block.max_size()).map_err(no_barrier)?;
        self.tell_log_clear(block, &[(0, block.max_size().into())])
    }
}
