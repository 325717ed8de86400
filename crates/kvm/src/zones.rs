//! The runs of a space to which writes are collected.
//!
//! What it is: those that the view shows, and which of them the kernel has: none as long as nobody empties the ring, or
//! writes would be lost in it. What must hold: after a call that gave no error the kernel has all of them, or none if there
//! is no ring; after one that gave an error it has what it had.
//!
//! When the kernel takes one back it takes back every one that it lies in, so those are given to it again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::error::Refused;
use crate::ioctls::{VmIoctls, Zone};

/// Bytes of the largest run that the kernel is told of: collecting is allowed, not owed.
const MOST: u128 = 0xffff_f000;

#[derive(Debug, Default)]
struct Entry {
    /// How often it is shown: a region may list it twice.
    shown: u32,
    /// Whether the kernel has it.
    registered: bool,
}

pub(crate) struct Zones {
    vm: Arc<dyn VmIoctls>,
    pio: bool,
    /// Whether somebody empties the ring.
    active: bool,
    all: BTreeMap<Zone, Entry>,
}

fn contains(outer: &Zone, inner: &Zone) -> bool {
    let end = |z: &Zone| u128::from(z.addr) + u128::from(z.size);
    outer.addr <= inner.addr && end(inner) <= end(outer)
}

impl Zones {
    pub fn new(vm: Arc<dyn VmIoctls>, pio: bool) -> Self {
        Self { vm, pio, active: false, all: BTreeMap::new() }
    }

    fn zone(&self, addr: u64, size: u128) -> Zone {
        Zone { pio: self.pio, addr, size: u32::try_from(size.min(MOST)).unwrap_or(u32::MAX) }
    }

    pub fn registered(&self) -> impl Iterator<Item = &Zone> {
        self.all.iter().filter(|(_, e)| e.registered).map(|(zone, _)| zone)
    }

    fn register(&mut self, zone: Zone) -> Result<(), Refused> {
        let Some(entry) = self.all.get_mut(&zone).filter(|e| !e.registered) else { return Ok(()) };
        let refused = |error| Refused::Zone { addr: zone.addr, size: zone.size, register: true, error };
        self.vm.coalesced(zone, true).map_err(refused)?;
        entry.registered = true;
        Ok(())
    }

    /// Has the kernel give one back; it gives back those around it too.
    fn unregister(&mut self, zone: Zone) -> Result<Vec<Zone>, Refused> {
        if !self.all.get(&zone).is_some_and(|e| e.registered) {
            return Ok(Vec::new());
        }
        let refused = |error| Refused::Zone { addr: zone.addr, size: zone.size, register: false, error };
        self.vm.coalesced(zone, false).map_err(refused)?;
        let mut gone = Vec::new();
        for (other, entry) in self.all.iter_mut().filter(|(z, e)| e.registered && contains(z, &zone)) {
            entry.registered = false;
            gone.push(*other);
        }
        Ok(gone)
    }

    pub fn add(&mut self, addr: u64, size: u128) -> Result<(), Refused> {
        let zone = self.zone(addr, size);
        let entry = self.all.entry(zone).or_default();
        entry.shown += 1;
        if !self.active {
            return Ok(());
        }
        self.register(zone).inspect_err(|_| self.forget(zone))
    }

    fn forget(&mut self, zone: Zone) {
        if let Some(entry) = self.all.get_mut(&zone) {
            entry.shown -= 1;
            if entry.shown == 0 {
                self.all.remove(&zone);
            }
        }
    }

    pub fn remove(&mut self, addr: u64, size: u128) -> Result<(), Refused> {
        let zone = self.zone(addr, size);
        if self.all.get(&zone).is_some_and(|e| e.shown == 1) {
            let gone = self.unregister(zone)?;
            for other in gone.iter().filter(|z| **z != zone) {
                if let Err(refused) = self.register(*other) {
                    for again in &gone {
                        // The first error is told; one that does not come back is collected no more.
                        let _ = self.register(*again);
                    }
                    return Err(refused);
                }
            }
        }
        self.forget(zone);
        Ok(())
    }

    /// The ring is emptied from now on.
    pub fn activate(&mut self) -> Result<(), Refused> {
        let all: Vec<_> = self.all.keys().copied().collect();
        for (done, zone) in all.iter().enumerate() {
            if let Err(refused) = self.register(*zone) {
                for zone in all.iter().take(done) {
                    let _ = self.unregister(*zone);
                }
                return Err(refused);
            }
        }
        self.active = true;
        Ok(())
    }

    /// Has the kernel give back all, and gives the first that it keeps.
    pub fn clear(&mut self) -> Result<(), (u64, io::Error)> {
        let all: Vec<_> = self.all.keys().copied().collect();
        let mut first = Ok(());
        for zone in all {
            if let Err(Refused::Zone { addr, error, .. }) = self.unregister(zone) {
                first = first.and(Err((addr, error)));
            }
        }
        self.all.clear();
        self.active = false;
        first
    }
}
