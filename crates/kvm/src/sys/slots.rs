//! The memory slots that the kernel has of us.
//!
//! UNSAFE: makes slots.
//!
//! What it is: each slot with the memory behind it (K1), and their numbers. What it is not: which slots there should be.
#![expect(unsafe_code, reason = "the kernel is told where guest memory is")]

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::ioctls::{SlotRequest, VmIoctls};
use crate::part::Part;

/// A slot that the kernel has.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Its number, without the address space.
    pub number: u32,
    pub part: Part,
    /// The pages that the kernel said were written, and which it still has as such.
    pub reported: Vec<u64>,
}

/// All slots, by their first guest address.
pub(crate) struct Slots {
    vm: Arc<dyn VmIoctls>,
    /// The address space, where the kernel wants it.
    space: u32,
    by_addr: BTreeMap<u64, Slot>,
    /// Numbers that were used and are free again; the one to be used next is the last.
    free: Vec<u32>,
    /// Numbers that were never used.
    unused: Range<u32>,
}

impl Slots {
    pub fn new(vm: Arc<dyn VmIoctls>, address_space: u16, numbers: Range<u32>) -> Self {
        let space = u32::from(address_space) << 16;
        Self { vm, space, by_addr: BTreeMap::new(), free: Vec::new(), unused: numbers }
    }

    pub fn get(&self, addr: u64) -> Option<&Slot> {
        self.by_addr.get(&addr)
    }

    pub fn get_mut(&mut self, addr: u64) -> Option<&mut Slot> {
        self.by_addr.get_mut(&addr)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.by_addr.values()
    }

    /// The first addresses of those that have any byte in `start..=last`, in ascending order.
    pub fn touching(&self, start: u64, last: u64) -> Vec<u64> {
        let before = self.by_addr.range(..=start).next_back().filter(|(_, s)| s.part.end() > start.into());
        let first = before.map_or(start, |(addr, _)| *addr);
        self.by_addr.range(first..=last.max(first)).map(|(addr, _)| *addr).filter(|a| *a <= last).collect()
    }

    /// The number of a slot as the kernel has it.
    pub fn kernel_number(&self, slot: &Slot) -> u32 {
        slot.number | self.space
    }

    fn request(&self, number: u32, part: &Part) -> SlotRequest {
        SlotRequest {
            slot: number | self.space,
            guest_addr: part.addr,
            size: part.size,
            host_addr: part.host_addr(),
            readonly: part.readonly,
            log: part.log,
        }
    }

    /// Makes a slot: with this number, which is free, or any.
    pub fn add(&mut self, part: Part, number: Option<u32>) -> io::Result<()> {
        let known = number.or_else(|| self.free.last().copied()).or_else(|| self.unused.clone().next());
        let Some(number) = known else {
            return Err(rustix::io::Errno::NOSPC.into());
        };
        // SAFETY: K1: the part keeps the block, in which its bytes are, and goes into the table here, which it
        // leaves when the slot is deleted.
        unsafe { self.vm.set_user_memory_region(&self.request(number, &part))? };
        match self.free.iter().rposition(|n| *n == number) {
            Some(at) => {
                self.free.remove(at);
            }
            None => self.unused.start = self.unused.start.max(number + 1),
        }
        self.by_addr.insert(part.addr, Slot { number, part, reported: Vec::new() });
        Ok(())
    }

    /// Deletes a slot; gives what it was, if there was one.
    pub fn delete(&mut self, addr: u64) -> io::Result<Option<Slot>> {
        let Some(slot) = self.by_addr.get(&addr) else { return Ok(None) };
        let request = SlotRequest { size: 0, log: false, ..self.request(slot.number, &slot.part) };
        // SAFETY: K1: a slot of no bytes needs no memory.
        unsafe { self.vm.set_user_memory_region(&request)? };
        let slot = self.by_addr.remove(&addr);
        self.free.extend(slot.as_ref().map(|s| s.number));
        Ok(slot)
    }

    /// Starts or stops the log of a slot, which stays.
    pub fn set_log(&mut self, addr: u64, log: bool) -> io::Result<()> {
        let Some(slot) = self.by_addr.get(&addr) else { return Ok(()) };
        let request = SlotRequest { log, ..self.request(slot.number, &slot.part) };
        // SAFETY: K1: the same memory as before, which the part keeps.
        unsafe { self.vm.set_user_memory_region(&request)? };
        if let Some(slot) = self.by_addr.get_mut(&addr) {
            slot.part.log = log;
            slot.reported = Vec::new();
        }
        Ok(())
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let all: Vec<_> = self.by_addr.keys().copied().collect();
        for addr in all {
            if self.delete(addr).is_err()
                && let Some(slot) = self.by_addr.remove(&addr)
            {
                // K1: the guest may write there as long as the VM lives, and nobody here knows how long that is.
                std::mem::forget(slot);
            }
        }
    }
}
