//! Changing regions' ioeventfds and coalesced ranges.

use std::sync::Arc;

use super::Transaction;
use crate::listen::{RegionEventFd, RegionIo};
use crate::order::{low_mask, reorder};
use crate::{EventNotifier, MemoryError, RegionId};

impl Transaction<'_> {
    /// Changes a copy of a region's lists, and puts it in their place.
    fn change_io<R>(
        &mut self,
        id: RegionId,
        f: impl FnOnce(&mut RegionIo, u128) -> Result<R, Wrong>,
    ) -> Result<R, MemoryError> {
        let mut state = self.state.borrow_mut();
        let record = state.topology.record(id)?;
        let (size, name) = (record.attrs.size(), Arc::clone(&record.body.name));
        let mut io = record.body.io().map_or_else(RegionIo::default, |io| RegionIo::clone(io));
        let value = f(&mut io, size).map_err(|wrong| match wrong {
            Wrong::Bad { addr, size, why } => {
                MemoryError::BadEventFd { name: Arc::clone(&name), addr, size, why }
            }
            Wrong::Unknown { addr, size } => MemoryError::NoEventFd { name: Arc::clone(&name), addr, size },
        })?;
        state.topology.set_io(id.index, (!io.is_empty()).then(|| Arc::new(io)));
        Ok(value)
    }

    /// The ioeventfd that the arguments say, with the data in the device's byte order.
    fn eventfd(
        &self,
        id: RegionId,
        offset: u64,
        size: u32,
        data: Option<u64>,
        notifier: &Arc<EventNotifier>,
    ) -> Result<Result<RegionEventFd, Wrong>, MemoryError> {
        let order = self.state.borrow().topology.record(id)?.body.order;
        let bad = |why| Ok(Err(Wrong::Bad { addr: offset, size, why }));
        match (size, data) {
            (0, Some(_)) => return bad("what is written can only be compared where its size is given"),
            (0 | 1 | 2 | 4 | 8, None) => {}
            (1 | 2 | 4 | 8, Some(data)) if data & !low_mask(size) != 0 => {
                return bad("the value to be compared is larger than the write");
            }
            (1 | 2 | 4 | 8, Some(_)) => {}
            _ => return bad("the size of a write is 1, 2, 4 or 8 bytes, or 0 for any of them"),
        }
        let data = data.map(|v| reorder(v, size, self.memory.target(), order));
        Ok(Ok(RegionEventFd { offset, size, data, notifier: Arc::clone(notifier) }))
    }

    /// Has a write of `size` bytes (1, 2, 4, 8, or 0 for any) at an offset of the region signal an eventfd, and not
    /// reach the device (QEMU: `memory_region_add_eventfd`).
    ///
    /// With `data` only a write of that value does: the value as a CPU of the target stores it. It is kept in the
    /// device's byte order, and compared with what the device's callback would get.
    ///
    /// # Errors
    /// [`MemoryError::BadEventFd`] for another size, data that does not fit, or if it is there already.
    pub fn add_eventfd(
        &mut self,
        id: RegionId,
        offset: u64,
        size: u32,
        data: Option<u64>,
        notifier: &Arc<EventNotifier>,
    ) -> Result<(), MemoryError> {
        let new = self.eventfd(id, offset, size, data, notifier)?;
        self.change_io(id, |io, _| {
            let new = new?;
            match io.eventfds.binary_search_by_key(&new.key(), RegionEventFd::key) {
                Ok(_) => Err(Wrong::Bad { addr: offset, size, why: "the same one is there already" }),
                Err(at) => {
                    io.eventfds.insert(at, new);
                    Ok(())
                }
            }
        })
    }

    /// Takes back an [`add_eventfd`](Self::add_eventfd) with the same arguments (QEMU: `memory_region_del_eventfd`).
    ///
    /// # Errors
    /// [`MemoryError::NoEventFd`] if there is no such one (QEMU: an assertion); [`MemoryError::BadEventFd`].
    pub fn del_eventfd(
        &mut self,
        id: RegionId,
        offset: u64,
        size: u32,
        data: Option<u64>,
        notifier: &Arc<EventNotifier>,
    ) -> Result<(), MemoryError> {
        let gone = self.eventfd(id, offset, size, data, notifier)?;
        self.change_io(id, |io, _| {
            let key = gone?.key();
            let at = io.eventfds.binary_search_by_key(&key, RegionEventFd::key);
            let at = at.map_err(|_| Wrong::Unknown { addr: offset, size })?;
            io.eventfds.remove(at);
            Ok(())
        })
    }

    /// Lets writes to the whole region be collected and carried out later, and to nothing else of it (QEMU:
    /// `memory_region_set_coalescing`). Accesses to the region carry out what was collected first.
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn set_coalescing(&mut self, id: RegionId) -> Result<(), MemoryError> {
        self.change_io(id, |io, size| {
            io.coalesced = vec![(0, size)];
            io.flush = true;
            Ok(())
        })
    }

    /// Lets writes to a part of the region be collected too (QEMU: `memory_region_add_coalescing`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn add_coalescing(&mut self, id: RegionId, offset: u64, size: u64) -> Result<(), MemoryError> {
        self.change_io(id, |io, _| {
            io.coalesced.push((offset, u128::from(size)));
            io.flush = true;
            Ok(())
        })
    }

    /// Writes to the region are collected no more (QEMU: `memory_region_clear_coalescing`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn clear_coalescing(&mut self, id: RegionId) -> Result<(), MemoryError> {
        self.change_io(id, |io, _| {
            // QEMU: the flag of a region of which nothing is collected stays.
            if !io.coalesced.is_empty() {
                io.coalesced.clear();
                io.flush = false;
            }
            Ok(())
        })
    }

    /// Has accesses to the region carry out first what was collected of writes to any (QEMU:
    /// `memory_region_set_flush_coalesced`): for a device whose registers depend on them.
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn set_flush_coalesced(&mut self, id: RegionId) -> Result<(), MemoryError> {
        self.change_io(id, |io, _| {
            io.flush = true;
            Ok(())
        })
    }

    /// Takes back [`set_flush_coalesced`](Self::set_flush_coalesced) (QEMU: `memory_region_clear_flush_coalesced`).
    ///
    /// # Errors
    /// [`MemoryError`] if the id is stale.
    pub fn clear_flush_coalesced(&mut self, id: RegionId) -> Result<(), MemoryError> {
        self.change_io(id, |io, _| {
            io.flush = false;
            Ok(())
        })
    }
}

/// What is wrong with the arguments.
enum Wrong {
    Bad { addr: u64, size: u32, why: &'static str },
    Unknown { addr: u64, size: u32 },
}
