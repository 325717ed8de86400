//! A VM that is only imagined.
//!
//! What it is: [`FakeVm`], which takes what KVM takes and refuses what KVM refuses, with KVM's error numbers; which can be
//! told to fail; and which remembers what it was asked. What it is not: a guest; there are no vCPUs, and nobody touches the
//! memory behind its slots.
//!
//! UNSAFE: a slot is made by an unsafe call, here as in the kernel.
#![expect(unsafe_code, reason = "the trait's call that makes a slot is unsafe; this one does nothing unsafe")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::ioctls::{Capability, IoEventFdRequest, SlotRequest, VmIoctls, Zone};
use crate::sys::Ring;
use crate::{KvmError, KvmMemory};

const PAGE: u64 = 4096;
/// What KVM's bus of devices holds (`NR_IOBUS_DEVS`).
const MOST_DEVICES: usize = 1000;

/// One call, as it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// A slot was made.
    Create(SlotRequest),
    /// A slot that stays got or lost its log.
    SetLog(SlotRequest),
    /// A slot was deleted.
    Delete(u32),
    /// A slot's dirty log was read.
    GetDirtyLog(u32),
    /// So many bits of a slot's dirty log were cleared.
    ClearDirtyLog(u32, u32),
    /// An ioeventfd was taken or given back.
    IoEventFd(u64, bool),
    /// A range was collected or no more.
    Coalesced(Zone, bool),
}

/// Everything that the VM has: to compare.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Picture {
    /// The slots, by number.
    pub slots: Vec<SlotRequest>,
    /// Ioeventfds: whether a port, address, size, what is matched, who is signalled; sorted.
    pub eventfds: Vec<(bool, u64, u32, Option<u64>, RawFd)>,
    /// Collected ranges, sorted.
    pub zones: Vec<Zone>,
}

#[derive(Debug)]
struct Slot {
    request: SlotRequest,
    /// A bit for each page, while the slot is logged.
    dirty: Option<Vec<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    No,
    Once(u64),
    From(u64),
}

#[derive(Debug)]
struct State {
    slots: BTreeMap<u32, Slot>,
    eventfds: Vec<(bool, u64, u32, Option<u64>, RawFd)>,
    zones: Vec<Zone>,
    manual: bool,
    failing: Failing,
    calls: Vec<Call>,
    /// The guest writes there as soon as there is a slot.
    waits_at: Option<u64>,
}

/// A VM without a kernel, with KVM's rules. Pages have 4096 bytes, whatever the host's have.
#[derive(Debug)]
pub struct FakeVm {
    slots: u32,
    max_slot_pages: u64,
    address_bits: u32,
    capabilities: Vec<(Capability, u32)>,
    state: Mutex<State>,
}

impl Default for FakeVm {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeVm {
    /// A VM as of a recent kernel, with 512 slots and guest addresses of 52 bits.
    #[must_use]
    pub fn new() -> Self {
        let capabilities = vec![
            (Capability::CoalescedMmio, 2),
            (Capability::Ioeventfd, 1),
            (Capability::ReadonlyMem, 1),
            (Capability::MultiAddressSpace, 2),
            (Capability::IoeventfdAnyLength, 1),
            (Capability::CoalescedPio, 1),
            (Capability::ManualDirtyLogProtect2, 3),
        ];
        let state = State {
            slots: BTreeMap::new(),
            eventfds: Vec::new(),
            zones: Vec::new(),
            manual: false,
            failing: Failing::No,
            calls: Vec::new(),
            waits_at: None,
        };
        let max_slot_pages = (1 << 31) - 1;
        Self { slots: 512, max_slot_pages, address_bits: 52, capabilities, state: Mutex::new(state) }
    }

    /// With so many slots.
    #[must_use]
    pub fn with_slots(self, slots: u32) -> Self {
        Self { slots, ..self }
    }

    /// With slots of so many pages at most.
    #[must_use]
    pub fn with_max_slot_pages(self, pages: u64) -> Self {
        Self { max_slot_pages: pages, ..self }
    }

    /// With guest addresses of so many bits.
    #[must_use]
    pub fn with_address_bits(self, bits: u32) -> Self {
        Self { address_bits: bits, ..self }
    }

    /// Without something that the kernel may have.
    #[must_use]
    pub fn without(mut self, capability: Capability) -> Self {
        self.capabilities.retain(|(c, _)| *c != capability);
        self
    }

    /// The `n`-th call from now fails, once; 1 is the next one. 0: none does.
    pub fn fail_at(&self, n: u64) {
        self.state.lock().failing = if n == 0 { Failing::No } else { Failing::Once(n) };
    }

    /// The `n`-th call from now fails, and all after it.
    pub fn fail_from(&self, n: u64) {
        self.state.lock().failing = Failing::From(n);
    }

    /// Whether the call that [`fail_at`](Self::fail_at) chose has not come yet.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.state.lock().failing != Failing::No
    }

    /// The guest waits for memory at this address: it writes there once, as soon as a slot is made that has it.
    pub fn guest_waits_at(&self, addr: Option<u64>) {
        self.state.lock().waits_at = addr;
    }

    /// What it has.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let state = self.state.lock();
        let mut picture = Picture {
            slots: state.slots.values().map(|s| s.request).collect(),
            eventfds: state.eventfds.clone(),
            zones: state.zones.clone(),
        };
        picture.eventfds.sort_unstable();
        picture.zones.sort_unstable();
        picture
    }

    /// The calls that were made and did something, since they were last taken.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().calls)
    }

    /// The guest writes a byte: whether a slot takes the write, which is logged then if the slot is.
    pub fn guest_writes(&self, addr: u64) -> bool {
        self.state.lock().guest_writes(addr)
    }
}

impl KvmMemory {
    /// As `collect_writes`, with a file of one page for the ring: a
    /// `kvm_coalesced_mmio_ring`, which the test fills as the kernel would.
    ///
    /// # Errors
    /// [`KvmError::Ring`].
    pub fn collect_writes_in(&self, ring: BorrowedFd<'_>) -> Result<(), KvmError> {
        self.use_ring(Ring::map(ring, 0).map_err(KvmError::Ring)?)
    }
}

fn refuse<T>(errno: Errno) -> io::Result<T> {
    Err(errno.into())
}

impl State {
    fn guest_writes(&mut self, addr: u64) -> bool {
        let at = |s: &&mut Slot| {
            addr >= s.request.guest_addr
                && addr - s.request.guest_addr < s.request.size
                && !s.request.readonly
        };
        let Some(slot) = self.slots.values_mut().find(at) else { return false };
        let page = (addr - slot.request.guest_addr) / PAGE;
        if let Some(word) = slot.dirty.as_mut().and_then(|d| d.get_mut((page / 64) as usize)) {
            *word |= 1 << (page % 64);
        }
        true
    }

    /// Counts a call, which may be the one that is to fail.
    fn counted(&mut self) -> io::Result<()> {
        let (failing, fails) = match self.failing {
            Failing::No => (Failing::No, false),
            Failing::Once(1) => (Failing::No, true),
            Failing::From(1) => (Failing::From(1), true),
            Failing::Once(n) => (Failing::Once(n.saturating_sub(1)), false),
            Failing::From(n) => (Failing::From(n.saturating_sub(1)), false),
        };
        self.failing = failing;
        if fails { refuse(Errno::NOMEM) } else { Ok(()) }
    }
}

fn words(pages: u64) -> usize {
    pages.div_ceil(64) as usize
}

impl VmIoctls for FakeVm {
    fn check_extension(&self, capability: Capability) -> u32 {
        if capability == Capability::NrMemslots {
            return self.slots;
        }
        self.capabilities.iter().find(|(c, _)| *c == capability).map_or(0, |(_, value)| *value)
    }

    fn page_size(&self) -> u64 {
        PAGE
    }

    fn max_slot_pages(&self) -> u64 {
        self.max_slot_pages
    }

    unsafe fn set_user_memory_region(&self, request: &SlotRequest) -> io::Result<()> {
        let mut state = self.state.lock();
        state.counted()?;
        let SlotRequest { slot, guest_addr, size, host_addr, readonly, log } = *request;
        let spaces = self.check_extension(Capability::MultiAddressSpace).max(1);
        let known = slot & 0xffff < self.slots && slot >> 16 < spaces;
        let aligned = guest_addr % PAGE == 0 && size % PAGE == 0 && host_addr % PAGE == 0 && host_addr != 0;
        let flags = !readonly || self.check_extension(Capability::ReadonlyMem) > 0;
        let fits = size / PAGE <= self.max_slot_pages && guest_addr.checked_add(size).is_some();
        if !(known && aligned && flags && fits) {
            return refuse(Errno::INVAL);
        }
        if size == 0 {
            return match state.slots.remove(&slot) {
                Some(_) => {
                    state.calls.push(Call::Delete(slot));
                    Ok(())
                }
                None => refuse(Errno::INVAL),
            };
        }
        if u128::from(guest_addr) + u128::from(size) > 1 << self.address_bits {
            return refuse(Errno::INVAL);
        }
        let overlaps = |(number, other): (&u32, &Slot)| {
            let other = other.request;
            *number != slot
                && number >> 16 == slot >> 16
                && guest_addr < other.guest_addr + other.size
                && other.guest_addr < guest_addr + size
        };
        let overlap = state.slots.iter().any(overlaps);
        let fresh = || vec![0; words(size / PAGE)];
        if let Some(old) = state.slots.get_mut(&slot) {
            // What is there keeps its memory, its size and whether it can be written.
            if old.request.host_addr != host_addr
                || old.request.size != size
                || old.request.readonly != readonly
            {
                return refuse(Errno::INVAL);
            }
            if overlap {
                return refuse(Errno::EXIST);
            }
            old.request = *request;
            old.dirty = if log { Some(old.dirty.take().unwrap_or_else(fresh)) } else { None };
            state.calls.push(Call::SetLog(*request));
            return Ok(());
        }
        if overlap {
            return refuse(Errno::EXIST);
        }
        state.slots.insert(slot, Slot { request: *request, dirty: log.then(fresh) });
        state.calls.push(Call::Create(*request));
        if let Some(addr) = state.waits_at.filter(|a| *a >= guest_addr && a - guest_addr < size) {
            state.guest_writes(addr);
            state.waits_at = None;
        }
        Ok(())
    }

    fn get_dirty_log(&self, slot: u32, pages: u64) -> io::Result<Vec<u64>> {
        let mut state = self.state.lock();
        state.counted()?;
        let manual = state.manual;
        let Some(there) = state.slots.get_mut(&slot) else { return refuse(Errno::NOENT) };
        if there.request.size / PAGE != pages {
            return refuse(Errno::FAULT);
        }
        let Some(dirty) = &mut there.dirty else { return refuse(Errno::NOENT) };
        let bits = dirty.clone();
        if !manual {
            dirty.fill(0);
        }
        state.calls.push(Call::GetDirtyLog(slot));
        Ok(bits)
    }

    fn clear_dirty_log(&self, slot: u32, first_page: u64, pages: u32, bits: &[u64]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.counted()?;
        let Some(there) = state.slots.get_mut(&slot) else { return refuse(Errno::NOENT) };
        let all = there.request.size / PAGE;
        let Some(dirty) = &mut there.dirty else { return refuse(Errno::NOENT) };
        let pages = u64::from(pages);
        let whole = pages.is_multiple_of(64) || first_page + pages == all;
        if !first_page.is_multiple_of(64) || first_page > all || pages > all - first_page || !whole {
            return refuse(Errno::INVAL);
        }
        if bits.len() < words(pages) {
            return refuse(Errno::FAULT);
        }
        let mut cleared = 0;
        for (word, clear) in dirty.iter_mut().skip((first_page / 64) as usize).zip(bits) {
            cleared += (*word & clear).count_ones();
            *word &= !clear;
        }
        state.calls.push(Call::ClearDirtyLog(slot, cleared));
        Ok(())
    }

    fn enable_manual_dirty_log(&self) -> io::Result<()> {
        if self.check_extension(Capability::ManualDirtyLogProtect2) == 0 {
            return refuse(Errno::INVAL);
        }
        self.state.lock().manual = true;
        Ok(())
    }

    fn ioeventfd(&self, request: &IoEventFdRequest<'_>, assign: bool) -> io::Result<()> {
        let mut state = self.state.lock();
        state.counted()?;
        let IoEventFdRequest { pio, addr, size, data, fd } = *request;
        let any = size == 0 && data.is_none() && self.check_extension(Capability::IoeventfdAnyLength) > 0;
        let narrow = matches!(size, 1 | 2 | 4 | 8) && addr.checked_add(size.into()).is_some();
        if !any && !narrow {
            return refuse(Errno::INVAL);
        }
        let wanted = (pio, addr, size, data, fd.as_raw_fd());
        if assign {
            let rival = |(p, a, s, d, _): &(bool, u64, u32, Option<u64>, RawFd)| {
                let values = d.is_none() || data.is_none() || *d == data;
                *p == pio && *a == addr && (*s == 0 || size == 0 || (*s == size && values))
            };
            if state.eventfds.iter().any(rival) {
                return refuse(Errno::EXIST);
            }
            if state.eventfds.len() + state.zones.len() >= MOST_DEVICES {
                return refuse(Errno::NOSPC);
            }
            state.eventfds.push(wanted);
        } else {
            let Some(at) = state.eventfds.iter().position(|e| *e == wanted) else {
                return refuse(Errno::NOENT);
            };
            state.eventfds.swap_remove(at);
        }
        state.calls.push(Call::IoEventFd(addr, assign));
        Ok(())
    }

    fn coalesced(&self, zone: Zone, register: bool) -> io::Result<()> {
        let mut state = self.state.lock();
        state.counted()?;
        if register {
            if state.eventfds.len() + state.zones.len() >= MOST_DEVICES {
                return refuse(Errno::NOSPC);
            }
            state.zones.push(zone);
        } else {
            let end = |z: &Zone| u128::from(z.addr) + u128::from(z.size);
            // Every zone that the one lies in goes, as in the kernel; none is no error.
            state.zones.retain(|z| z.pio != zone.pio || z.addr > zone.addr || end(z) < end(&zone));
        }
        state.calls.push(Call::Coalesced(zone, register));
        Ok(())
    }
}
