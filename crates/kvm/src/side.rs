//! A space, and what the kernel knows of it.
//!
//! What it is: the listener. It notes what the view shows, and at the end of each commit makes the kernel's slots equal to
//! that by as few changes as there are differences. What it is not: how a slot is made, or which part of a section can be
//! one.
//!
//! What must hold: a commit that fails leaves the kernel's slots as they were, whichever system call it was that failed; and
//! what a logged slot knows of writes is brought into the dirty bitmaps before the slot goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use flatview::{
    AddressSpace, DIRTY_PAGE_SIZE, Delta, FlatView, IoEventFd, ListenerError, ListenerPriority,
    MemoryListener, Section, SpaceDelta, SpaceId, WeakSpace,
};
use parking_lot::Mutex;

use crate::error::{KvmError, Refused};
use crate::eventfds::{EventFds, collide, key_of};
use crate::gate::{Paused, VcpuGate};
use crate::ioctls::VmIoctls;
use crate::part::{Part, Shape, parts_of};
use crate::sys::{Slot, Slots};
use crate::zones::Zones;

/// What the kernel can do, and what it shall.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub shape: Shape,
    /// The number of the address space, for slots.
    pub address_space: u16,
    /// The slots' numbers.
    pub numbers: Range<u32>,
    /// Whether the dirty log is read and cleared in two steps.
    pub manual: bool,
    pub eventfds: bool,
    pub any_length: bool,
    pub coalesced: bool,
}

/// One space: that of memory, which has slots, or that of ports.
pub(crate) struct Side {
    space: SpaceId,
    pio: bool,
    terms: Terms,
    vm: Arc<dyn VmIoctls>,
    gate: Option<Arc<dyn VcpuGate>>,
    /// To ask who answers where.
    seen: WeakSpace,
    state: Mutex<State>,
}

struct State {
    /// The slots that the kernel has.
    slots: Slots,
    /// Those that it shall have, by their first address.
    wanted: BTreeMap<u64, Part>,
    /// Where the two may differ.
    touched: BTreeSet<u64>,
    /// First and last addresses at which others may answer than did.
    moved: Vec<(u64, u64)>,
    eventfds: EventFds,
    zones: Zones,
    /// Nothing is followed any more.
    closed: bool,
}

/// What has to be done to the kernel's slots.
#[derive(Default)]
struct Work {
    delete: Vec<u64>,
    add: Vec<Part>,
    log: Vec<(u64, bool)>,
}

/// What takes a step back.
enum Undo {
    Delete(u64),
    Add(Slot),
    Log(u64, bool),
}

impl Side {
    pub fn new(
        vm: &Arc<dyn VmIoctls>,
        space: &AddressSpace,
        pio: bool,
        terms: Terms,
        gate: Option<Arc<dyn VcpuGate>>,
    ) -> Self {
        let state = State {
            slots: Slots::new(Arc::clone(vm), terms.address_space, terms.numbers.clone()),
            wanted: BTreeMap::new(),
            touched: BTreeSet::new(),
            moved: Vec::new(),
            eventfds: EventFds::new(Arc::clone(vm), pio),
            zones: Zones::new(Arc::clone(vm), pio),
            closed: false,
        };
        let (seen, space) = (space.downgrade(), space.id());
        Self { space, pio, terms, vm: Arc::clone(vm), gate, seen, state: Mutex::new(state) }
    }

    fn parts(&self, section: &Section) -> Vec<Part> {
        if self.pio { Vec::new() } else { parts_of(section, self.terms.shape) }
    }

    /// What the space shows; `None` if it is gone. Asked before the own state is locked.
    fn view(&self) -> Option<Arc<FlatView>> {
        self.seen.upgrade().and_then(|space| space.view().ok())
    }

    /// What it knows, for questions.
    pub fn with_slots<R>(&self, f: impl FnOnce(&Slots) -> R) -> R {
        f(&self.state.lock().slots)
    }

    pub fn eventfds(&self) -> Vec<crate::eventfds::Key> {
        self.state.lock().eventfds.keys().copied().collect()
    }

    pub fn zones(&self) -> Vec<(u64, u32)> {
        self.state.lock().zones.registered().map(|z| (z.addr, z.size)).collect()
    }

    pub fn activate_zones(&self) -> Result<(), ListenerError> {
        if self.terms.coalesced { Ok(self.state.lock().zones.activate()?) } else { Ok(()) }
    }

    /// Takes everything back from the kernel and follows nothing any more.
    pub fn close(&self) -> Result<(), KvmError> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.closed = true;
        state.wanted.clear();
        state.touched.clear();
        state.moved.clear();
        let left = |what: String, error: io::Error| KvmError::Leftover { what, error };
        let eventfds = state.eventfds.clear();
        let zones = state.zones.clear();
        let mut result = eventfds.map_err(|(addr, e)| left(format!("no ioeventfd at {addr:#x}"), e));
        result = result.and(zones.map_err(|(addr, e)| left(format!("no collected range at {addr:#x}"), e)));
        let all: Vec<_> = state.slots.iter().map(|s| s.part.clone()).collect();
        for part in all {
            self.note_writes(&mut state.slots, part.addr);
            let deleted = state.slots.delete(part.addr).map(|_| ());
            result = result.and(deleted.map_err(|e| left(format!("no memory slot of {part:?}"), e)));
        }
        result
    }

    // Slots.

    /// Whether there are numbers for all slots that a change asks for.
    fn check_numbers(&self, state: &State, delta: &SpaceDelta) -> Result<(), Refused> {
        let have = self.terms.numbers.len();
        let gone: usize = delta.removed().map(|section| self.parts(&section).len()).sum();
        let mut need = state.wanted.len().saturating_sub(gone);
        let mut first = None;
        for part in delta.added().flat_map(|section| self.parts(&section)) {
            need += 1;
            if need > have && first.is_none() {
                first = Some(part);
            }
        }
        match first {
            Some(Part { name, addr, .. }) => Err(Refused::NoSlotLeft { name, addr, need, have }),
            None => Ok(()),
        }
    }

    /// What differs.
    fn work(state: &State) -> Work {
        let mut work = Work::default();
        for addr in &state.touched {
            match (state.slots.get(*addr), state.wanted.get(addr)) {
                (None, None) => {}
                (Some(_), None) => work.delete.push(*addr),
                (None, Some(part)) => work.add.push(part.clone()),
                (Some(slot), Some(part)) if slot.part.is_same_memory(part) => {
                    if slot.part.log != part.log {
                        work.log.push((*addr, part.log));
                    }
                }
                (Some(_), Some(part)) => {
                    work.delete.push(*addr);
                    work.add.push(part.clone());
                }
            }
        }
        work
    }

    /// Whether a running vCPU would notice more than that memory comes or goes.
    fn needs_pause(&self, state: &State, work: &Work) -> bool {
        let mut added = work.add.iter().peekable();
        work.delete.iter().filter_map(|addr| state.slots.get(*addr)).any(|slot| {
            let (start, end) = (slot.part.addr, slot.part.end());
            while added.next_if(|part| part.end() <= start.into()).is_some() {}
            slot.part.log || added.peek().is_some_and(|part| u128::from(part.addr) < end)
        })
    }

    fn carry_out(&self, slots: &mut Slots, work: Work) -> Result<(), Refused> {
        let mut undo = Vec::new();
        let done = self.carry_out_steps(slots, work, &mut undo);
        if done.is_err() {
            for step in undo.into_iter().rev() {
                // What cannot be taken back stays in the table as the kernel has it; the next commit tries again.
                let _ = match step {
                    Undo::Delete(addr) => {
                        self.note_writes(slots, addr);
                        slots.delete(addr).map(|_| ())
                    }
                    Undo::Add(slot) => slots.add(slot.part, Some(slot.number)),
                    Undo::Log(addr, log) => {
                        self.note_writes(slots, addr);
                        slots.set_log(addr, log)
                    }
                };
            }
        }
        done
    }

    fn carry_out_steps(&self, slots: &mut Slots, work: Work, undo: &mut Vec<Undo>) -> Result<(), Refused> {
        let part_at = |slots: &Slots, addr| slots.get(addr).map(|s| s.part.clone());
        for (addr, on) in work.log {
            let Some(part) = part_at(slots, addr) else { continue };
            self.sync(slots, addr)?;
            slots.set_log(addr, on).map_err(|error| Refused::Log { part, on, error })?;
            undo.push(Undo::Log(addr, !on));
        }
        for addr in work.delete {
            let Some(part) = part_at(slots, addr) else { continue };
            self.sync(slots, addr)?;
            let slot = slots.delete(addr).map_err(|error| Refused::Delete { part, error })?;
            undo.extend(slot.map(Undo::Add));
        }
        for part in work.add {
            let (addr, host) = (part.addr, part.host_addr());
            slots.add(part.clone(), None).map_err(|error| Refused::Slot { part, host, error })?;
            undo.push(Undo::Delete(addr));
        }
        Ok(())
    }

    // The dirty log.

    /// Brings what the kernel knows of writes to a slot into the block's dirty bitmap.
    fn sync(&self, slots: &mut Slots, addr: u64) -> Result<(), Refused> {
        let Some(slot) = slots.get(addr).filter(|slot| slot.part.log) else { return Ok(()) };
        let (page, number) = (self.terms.shape.page, slots.kernel_number(slot));
        let bits = self
            .vm
            .get_dirty_log(number, slot.part.size / page)
            .map_err(|error| Refused::Sync { part: slot.part.clone(), error })?;
        mark(&slot.part, &bits, page);
        if self.terms.manual
            && let Some(slot) = slots.get_mut(addr)
        {
            // These are noted, so the kernel may forget them when they were taken; others it found out since are not.
            slot.reported = bits;
        }
        Ok(())
    }

    /// The same where nobody can be told of an error: then all of it may have been written.
    fn note_writes(&self, slots: &mut Slots, addr: u64) {
        if self.sync(slots, addr).is_err()
            && let Some(Slot { part, .. }) = slots.get(addr)
        {
            mark_run(part, 0, part.size);
        }
    }

    /// Has the kernel forget what it reported of these addresses of a slot, and log writes to them anew.
    fn forget_writes(&self, slots: &mut Slots, addr: u64, from: u128, to: u128) {
        let page = u128::from(self.terms.shape.page);
        let Some(slot) = slots.get(addr).filter(|slot| slot.part.log) else { return };
        let (number, start, pages) =
            (slots.kernel_number(slot), u128::from(addr), u128::from(slot.part.size) / page);
        // A page of which a part was taken was taken whole.
        let first = from.saturating_sub(start) / page;
        let end = (to.saturating_sub(start).div_ceil(page)).min(pages);
        let Some(slot) = slots.get_mut(addr).filter(|_| first < end) else { return };
        let mask = |word: usize| {
            let (low, high) = (word as u128 * 64, word as u128 * 64 + 64);
            let from_low = u64::MAX.checked_shl((first.max(low) - low) as u32).unwrap_or(0);
            let to_high = u64::MAX.checked_shr((high - end.min(high)) as u32).unwrap_or(0);
            if first >= high || end <= low { 0 } else { from_low & to_high }
        };
        let words = (first / 64) as usize..=((end - 1) / 64) as usize;
        let clear: Vec<(usize, u64)> = words
            .filter_map(|word| Some((word, slot.reported.get(word)? & mask(word))))
            .filter(|(_, bits)| *bits != 0)
            .collect();
        let (Some((low, _)), Some((high, _))) = (clear.first(), clear.last()) else { return };
        let mut bits = vec![0; high - low + 1];
        for (word, cleared) in &clear {
            if let Some(into) = bits.get_mut(word - low) {
                *into = *cleared;
            }
        }
        let first_page = *low as u64 * 64;
        let count = (pages - u128::from(first_page)).min(bits.len() as u128 * 64) as u32;
        // What the kernel does not forget it reports again: a page is dirty once too often, and none is missed.
        if self.vm.clear_dirty_log(number, first_page, count, &bits).is_ok() {
            for (word, cleared) in clear {
                if let Some(reported) = slot.reported.get_mut(word) {
                    *reported &= !cleared;
                }
            }
        }
    }

    // Ioeventfds.

    fn check_eventfds(&self, state: &State, delta: &SpaceDelta) -> Result<(), Refused> {
        if !self.terms.eventfds {
            return Ok(());
        }
        let gone: Vec<_> = delta.eventfds_removed().iter().map(key_of).collect();
        let new: Vec<_> = delta.eventfds_added().iter().map(key_of).collect();
        for (nth, key) in new.iter().enumerate() {
            if key.1 == 0 && !self.terms.any_length {
                return Err(Refused::AnyLength { addr: key.0 });
            }
            let stays = state.eventfds.at(key.0).filter(|k| !gone.contains(k));
            let earlier = new.iter().take(nth).copied();
            if stays.chain(earlier).any(|k| k != *key && collide(&k, key)) {
                return Err(Refused::Collision { addr: key.0 });
            }
        }
        Ok(())
    }
}

/// Notes pages of a slot as written, by a bit for each page of the host.
fn mark(part: &Part, bits: &[u64], page: u64) {
    if page == DIRTY_PAGE_SIZE && part.offset.is_multiple_of(page) {
        part.block.mark_dirty_bitmap(part.offset, bits);
        return;
    }
    for (word, bits) in (0_u64..).zip(bits) {
        for bit in (0..64).filter(|bit| bits & (1 << bit) != 0) {
            mark_run(part, (word * 64 + bit).saturating_mul(page), page);
        }
    }
}

/// Notes bytes of a slot as written.
fn mark_run(part: &Part, at: u64, len: u64) {
    let start = part.offset.saturating_add(at);
    let len = len.min(part.size.saturating_sub(at)).min(part.block.size().saturating_sub(start));
    // It is inside, or nothing is left of it.
    let _ = part.block.mark_dirty(start.min(part.block.size()), len);
}

impl MemoryListener for Side {
    fn name(&self) -> &str {
        if self.pio { "kvm-io" } else { "kvm-memory" }
    }

    fn priority(&self) -> ListenerPriority {
        ListenerPriority::ACCEL
    }

    fn space(&self) -> Option<SpaceId> {
        Some(self.space)
    }

    fn prepare(&self, delta: &Delta) -> Result<(), ListenerError> {
        let state = self.state.lock();
        match delta.space(self.space).filter(|_| !state.closed) {
            Some(delta) => {
                self.check_numbers(&state, delta)?;
                Ok(self.check_eventfds(&state, delta)?)
            }
            None => Ok(()),
        }
    }

    fn region_add(&self, section: &Section) -> Result<(), ListenerError> {
        let mut state = self.state.lock();
        if state.closed {
            return Ok(());
        }
        state.moved.push((section.offset_in_space, section.last()));
        for part in self.parts(section) {
            state.touched.insert(part.addr);
            state.wanted.insert(part.addr, part);
        }
        Ok(())
    }

    fn region_del(&self, section: &Section) -> Result<(), ListenerError> {
        let mut state = self.state.lock();
        if state.closed {
            return Ok(());
        }
        state.moved.push((section.offset_in_space, section.last()));
        for part in self.parts(section) {
            state.touched.insert(part.addr);
            state.wanted.remove(&part.addr);
        }
        Ok(())
    }

    fn log_start(&self, section: &Section, _: u8, new: u8) -> Result<(), ListenerError> {
        let mut state = self.state.lock();
        for addr in self.parts(section).iter().map(|part| part.addr) {
            state.touched.insert(addr);
            if let Some(part) = state.wanted.get_mut(&addr) {
                part.log = new != 0 && !part.readonly;
            }
        }
        Ok(())
    }

    fn log_stop(&self, section: &Section, old: u8, new: u8) -> Result<(), ListenerError> {
        self.log_start(section, old, new)
    }

    fn commit(&self) -> Result<(), ListenerError> {
        let view = self.view();
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.closed {
            return Ok(());
        }
        let work = Self::work(state);
        let _paused = Paused::new(self.gate.as_deref().filter(|_| self.needs_pause(state, &work)));
        // After a failure they may still differ, if something could not be taken back.
        let settled = state.eventfds.settle(&state.moved, view.as_deref())?;
        self.carry_out(&mut state.slots, work).inspect_err(|_| state.eventfds.unsettle(&settled))?;
        state.touched.clear();
        state.moved.clear();
        Ok(())
    }

    fn eventfd_add(&self, eventfd: &IoEventFd) -> Result<(), ListenerError> {
        let view = self.view();
        let mut state = self.state.lock();
        if state.closed || !self.terms.eventfds {
            return Ok(());
        }
        Ok(state.eventfds.add(key_of(eventfd), eventfd.region, &eventfd.notifier, view.as_deref())?)
    }

    fn eventfd_del(&self, eventfd: &IoEventFd) -> Result<(), ListenerError> {
        let view = self.view();
        Ok(self.state.lock().eventfds.remove(key_of(eventfd), eventfd.region, view.as_deref())?)
    }

    fn coalesced_io_add(&self, _: &Section, addr: u64, size: u128) -> Result<(), ListenerError> {
        let mut state = self.state.lock();
        if state.closed || !self.terms.coalesced {
            return Ok(());
        }
        Ok(state.zones.add(addr, size)?)
    }

    fn coalesced_io_del(&self, _: &Section, addr: u64, size: u128) -> Result<(), ListenerError> {
        Ok(self.state.lock().zones.remove(addr, size)?)
    }

    fn log_sync(&self, section: &Section) {
        let mut state = self.state.lock();
        for addr in state.slots.touching(section.offset_in_space, section.last()) {
            self.note_writes(&mut state.slots, addr);
        }
    }

    fn log_clear(&self, section: &Section) {
        if !self.terms.manual {
            return;
        }
        let mut state = self.state.lock();
        let from = u128::from(section.offset_in_space);
        for addr in state.slots.touching(section.offset_in_space, section.last()) {
            self.forget_writes(&mut state.slots, addr, from, from + section.size);
        }
    }
}
