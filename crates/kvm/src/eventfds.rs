//! The ioeventfds of a space.
//!
//! What it is: those that the view shows, and which of them the kernel has. What must hold: after every call that gave no
//! error the kernel has all of them whose first address their region answers, but those that cannot stand beside a newer
//! one; after one that gave an error it has what it had.
//!
//! The view shows an ioeventfd that any byte of which is seen (so does QEMU). A write that begins where another region
//! answers is that region's, though, and the kernel knows no regions.
//!
//! The kernel refuses an ioeventfd where the same write would signal another one. One that comes may be told before the
//! one that goes in its favour, so the newest wins, and the older one comes back if the newer one goes first: that is the
//! way back of a change that failed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use flatview::{Endianness, EventNotifier, FlatView, IoEventFd, RegionId};

use crate::error::Refused;
use crate::ioctls::{IoEventFdRequest, VmIoctls};

/// Address, size (0: any), what is matched as the host reads it, and who is signalled.
pub(crate) type Key = (u64, u32, Option<u64>, RawFd);

#[derive(Debug)]
struct Entry {
    notifier: Arc<EventNotifier>,
    /// Who shows it: regions may show the same one after each other.
    regions: Vec<RegionId>,
    /// Whether the kernel has it.
    assigned: bool,
}

pub(crate) struct EventFds {
    vm: Arc<dyn VmIoctls>,
    pio: bool,
    all: BTreeMap<Key, Entry>,
}

/// What a write is matched with, as the host reads the bytes of it.
fn as_host_reads(data: u64, size: u32, order: Endianness) -> u64 {
    let host = if cfg!(target_endian = "little") { Endianness::Little } else { Endianness::Big };
    let unused = 64 - 8 * size.clamp(1, 8);
    if order == host { data } else { data.swap_bytes() >> unused }
}

pub(crate) fn key_of(eventfd: &IoEventFd) -> Key {
    let data = eventfd.data.map(|data| as_host_reads(data, eventfd.size, eventfd.order));
    (eventfd.addr, eventfd.size, data, eventfd.notifier.as_fd().as_raw_fd())
}

/// Whether there is a write that would signal both.
pub(crate) fn collide(a: &Key, b: &Key) -> bool {
    let any_size = a.1 == 0 || b.1 == 0;
    a.0 == b.0 && (any_size || (a.1 == b.1 && (a.2.is_none() || b.2.is_none() || a.2 == b.2)))
}

impl Entry {
    /// Whether a write there would be its region's.
    fn is_seen(&self, addr: u64, view: Option<&FlatView>) -> bool {
        view.and_then(|v| v.lookup(addr)).is_some_and(|range| self.regions.contains(&range.region()))
    }
}

impl EventFds {
    pub fn new(vm: Arc<dyn VmIoctls>, pio: bool) -> Self {
        Self { vm, pio, all: BTreeMap::new() }
    }

    /// Those at an address.
    pub fn at(&self, addr: u64) -> impl Iterator<Item = Key> {
        let (first, last) = ((addr, 0, None, RawFd::MIN), (addr, u32::MAX, Some(u64::MAX), RawFd::MAX));
        self.all.range(first..=last).map(|(key, _)| *key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.all.iter().filter(|(_, e)| e.assigned).map(|(key, _)| key)
    }

    /// Has the kernel take or give back one.
    fn tell(&mut self, key: Key, assign: bool) -> Result<(), Refused> {
        let Some(entry) = self.all.get_mut(&key).filter(|e| e.assigned != assign) else { return Ok(()) };
        let (addr, size, data, _) = key;
        let request = IoEventFdRequest { pio: self.pio, addr, size, data, fd: entry.notifier.as_fd() };
        self.vm.ioeventfd(&request, assign).map_err(|error| Refused::EventFd { addr, assign, error })?;
        entry.assigned = assign;
        Ok(())
    }

    /// Has the kernel give back and then take these; if it refuses one, all is as before.
    fn tell_all(&mut self, back: &[Key], take: &[Key]) -> Result<(), Refused> {
        let steps: Vec<_> = back.iter().map(|k| (*k, false)).chain(take.iter().map(|k| (*k, true))).collect();
        for (done, (key, assign)) in steps.iter().enumerate() {
            if let Err(refused) = self.tell(*key, *assign) {
                for (key, assign) in steps.iter().take(done).rev() {
                    // The first error is told; an ioeventfd that does not come back is tried again with the next one.
                    let _ = self.tell(*key, !assign);
                }
                return Err(refused);
            }
        }
        Ok(())
    }

    /// A region shows it in this view.
    pub fn add(
        &mut self,
        key: Key,
        region: RegionId,
        notifier: &Arc<EventNotifier>,
        view: Option<&FlatView>,
    ) -> Result<(), Refused> {
        let new = || Entry { notifier: Arc::clone(notifier), regions: Vec::new(), assigned: false };
        let entry = self.all.entry(key).or_insert_with(new);
        entry.regions.push(region);
        if entry.assigned || !entry.is_seen(key.0, view) {
            return Ok(());
        }
        let rivals: Vec<_> = self.at(key.0).filter(|k| collide(k, &key)).filter(|k| self.has(k)).collect();
        self.tell_all(&rivals, &[key]).inspect_err(|_| self.forget(key, region))
    }

    fn forget(&mut self, key: Key, region: RegionId) {
        if let Some(entry) = self.all.get_mut(&key) {
            if let Some(at) = entry.regions.iter().rposition(|r| *r == region) {
                entry.regions.remove(at);
            }
            if entry.regions.is_empty() {
                self.all.remove(&key);
            }
        }
    }

    /// A region shows it no more.
    pub fn remove(&mut self, key: Key, region: RegionId, view: Option<&FlatView>) -> Result<(), Refused> {
        let Some(entry) = self.all.get_mut(&key) else { return Ok(()) };
        let Some(at) = entry.regions.iter().rposition(|r| *r == region) else { return Ok(()) };
        entry.regions.remove(at);
        let told = if entry.is_seen(key.0, view) {
            Ok(())
        } else {
            let returns = self.returning(&[key], self.at(key.0), view);
            self.tell_all(&[key], &returns)
        };
        let Some(entry) = self.all.get_mut(&key) else { return told };
        match told {
            Err(_) => entry.regions.push(region),
            Ok(()) if entry.regions.is_empty() => drop(self.all.remove(&key)),
            Ok(()) => {}
        }
        told
    }

    /// Of these, those that can stand when some are gone.
    fn returning(&self, gone: &[Key], of: impl Iterator<Item = Key>, view: Option<&FlatView>) -> Vec<Key> {
        let mut returns: Vec<Key> = Vec::new();
        for key in of.filter(|k| !gone.contains(k) && !self.has(k)) {
            let seen = self.all.get(&key).is_some_and(|e| e.is_seen(key.0, view));
            let mut stands = self.at(key.0).filter(|k| self.has(k) && !gone.contains(k));
            if seen && !stands.any(|k| collide(&k, &key)) && !returns.iter().any(|k| collide(k, &key)) {
                returns.push(key);
            }
        }
        returns
    }

    /// Other regions may answer at these addresses now. Gives what was given back and what was taken.
    pub fn settle(
        &mut self,
        moved: &[(u64, u64)],
        view: Option<&FlatView>,
    ) -> Result<(Vec<Key>, Vec<Key>), Refused> {
        let mut there = Vec::new();
        for (start, last) in moved.iter().filter(|_| !self.all.is_empty()) {
            let (from, to) = ((*start, 0, None, RawFd::MIN), (*last, u32::MAX, Some(u64::MAX), RawFd::MAX));
            there.extend(self.all.range(from..=to).map(|(key, _)| *key));
        }
        there.sort_unstable();
        there.dedup();
        let hidden = |k: &Key| self.all.get(k).is_some_and(|e| e.assigned && !e.is_seen(k.0, view));
        let back: Vec<_> = there.iter().copied().filter(hidden).collect();
        let take = self.returning(&back, there.iter().copied(), view);
        self.tell_all(&back, &take)?;
        Ok((back, take))
    }

    /// Takes back what [`settle`](Self::settle) did.
    pub fn unsettle(&mut self, (back, take): &(Vec<Key>, Vec<Key>)) {
        // There is an error to be told already; what does not come back is tried again with the next change there.
        let _ = self.tell_all(take, back);
    }

    fn has(&self, key: &Key) -> bool {
        self.all.get(key).is_some_and(|e| e.assigned)
    }

    /// Has the kernel give back all, and gives the first that it keeps.
    pub fn clear(&mut self) -> Result<(), (u64, io::Error)> {
        let all: Vec<_> = self.all.keys().copied().collect();
        let mut first = Ok(());
        for key in all {
            if let Err(Refused::EventFd { addr, error, .. }) = self.tell(key, false) {
                first = first.and(Err((addr, error)));
            }
        }
        self.all.clear();
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_what_the_host_reads_of_the_bytes() {
        let little = cfg!(target_endian = "little");
        let (same, other) = if little {
            (Endianness::Little, Endianness::Big)
        } else {
            (Endianness::Big, Endianness::Little)
        };
        assert_eq!(as_host_reads(0x1122_3344, 4, same), 0x1122_3344);
        assert_eq!(as_host_reads(0x1122_3344, 4, other), 0x4433_2211);
        assert_eq!(as_host_reads(0x11, 1, other), 0x11);
        assert_eq!(as_host_reads(0x1122, 2, other), 0x2211);
        assert_eq!(as_host_reads(0x1122_3344_5566_7788, 8, other), 0x8877_6655_4433_2211);
    }

    #[test]
    fn two_collide_where_one_write_would_signal_both() {
        let key = |addr, size, data| (addr, size, data, 3);
        assert!(collide(&key(8, 4, None), &key(8, 4, Some(1))));
        assert!(collide(&key(8, 0, None), &key(8, 2, Some(1))));
        assert!(collide(&key(8, 2, Some(1)), &(8, 2, Some(1), 4)));
        assert!(!collide(&key(8, 4, Some(2)), &key(8, 4, Some(1))));
        assert!(!collide(&key(8, 4, None), &key(8, 2, None)));
        assert!(!collide(&key(8, 4, None), &key(12, 4, None)));
    }
}
