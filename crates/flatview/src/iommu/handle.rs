//! The part of an IOMMU that others share with its device: the generation of its table, and who hears of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{IommuEvent, IommuEventKind, IommuEvents, IommuNotifier, IommuOps, IommuPerm};
use crate::MemoryError;
use crate::thread::InCallback;

/// What an IOMMU's device changes its table by: readers and notifiers hear of it.
///
/// A cheap handle, from [`Memory::iommu`](crate::Memory::iommu). It keeps neither the region nor the device, so that the
/// device may hold it.
#[derive(Clone)]
pub struct Iommu(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    /// Goes up whenever what was translated before may not be used any more (I1).
    generation: AtomicU64,
    notifiers: Mutex<Notifiers>,
}

#[derive(Default)]
struct Notifiers {
    /// The last one added comes first, as in QEMU. Replaced, never changed.
    list: Arc<Vec<Arc<Listed>>>,
    /// What the device was told.
    announced: IommuEvents,
    /// Whether the device is being told just now.
    telling: bool,
    added: u64,
}

/// A notifier, and its number.
pub(super) struct Listed {
    number: u64,
    pub notifier: IommuNotifier,
}

impl fmt::Debug for Iommu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iommu({:?})", self.0.name)
    }
}

impl Iommu {
    fn new(name: Arc<str>) -> Self {
        let (generation, notifiers) = (AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Shared { name, generation, notifiers }))
    }

    /// The generation of the table (I1).
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Says that the table has changed, after it has (QEMU: `memory_region_notify_iommu`).
    ///
    /// When this returns, accesses of this thread use the new table, and so do those of other threads that begin later.
    /// Which translations a reader has remembered of this region does not matter: it forgets them all.
    ///
    /// Notifiers of that index and of this kind of event are told, the last one added first.
    ///
    /// # Errors
    /// [`MemoryError::BadIommuEvent`] if something is unmapped with a permission, the numbers wrap at 2^64, or the event
    /// reaches over the end of a notifier's range that does not take parts. No notifier is told then; readers
    /// have forgotten their translations all the same.
    pub fn notify(&self, index: u32, event: &IommuEvent) -> Result<(), MemoryError> {
        self.invalidate();
        let bad = |why| {
            let (name, iova, mask) = (Arc::clone(&self.0.name), event.iova, event.mask);
            Err(MemoryError::BadIommuEvent { name, iova, mask, why })
        };
        if event.kind != IommuEventKind::Map && event.perm != IommuPerm::NONE {
            return bad("what is unmapped has no permissions");
        }
        let Some(last) = event.last() else {
            return bad("it reaches past 2^64; its mask is the size less 1");
        };
        let concerned = |l: &&Arc<Listed>| {
            let n = &l.notifier;
            n.index == index && n.wants(event.kind) && n.start <= last && event.iova <= n.last
        };
        let list = self.list();
        let inside = |n: &IommuNotifier| n.crops() || (n.start <= event.iova && last <= n.last);
        if !list.iter().filter(concerned).all(|l| inside(&l.notifier)) {
            return bad(
                "it reaches over the end of a notifier's range; tell of the part inside and of the rest",
            );
        }
        for listed in list.iter().filter(concerned) {
            let n = &listed.notifier;
            if n.crops() {
                (n.tell)(&event.cropped(n.start, n.last));
            } else {
                (n.tell)(event);
            }
        }
        Ok(())
    }

    /// Says that everything may have changed: each notifier that wants to hear of it is told that its whole range is
    /// unmapped (QEMU: `memory_region_unmap_iommu_notifier_range`).
    pub fn unmap_all(&self) {
        self.invalidate();
        for listed in self.list().iter() {
            let n = &listed.notifier;
            let event = IommuEvent::unmap(n.start, n.last - n.start);
            let kinds = [IommuEventKind::Unmap, IommuEventKind::DeviceIotlbUnmap];
            if let Some(kind) = kinds.into_iter().find(|kind| n.wants(*kind)) {
                (n.tell)(&IommuEvent { kind, ..event });
            }
        }
    }

    /// What any notifier wants to hear of, as the device was told (QEMU: `iommu_notify_flags`).
    #[must_use]
    pub fn events(&self) -> IommuEvents {
        self.0.notifiers.lock().announced
    }

    fn invalidate(&self) {
        // Releases the table, whatever it is kept in, to those who see the new generation.
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn list(&self) -> Arc<Vec<Arc<Listed>>> {
        Arc::clone(&self.0.notifiers.lock().list)
    }
}

/// What a region that is an IOMMU has beyond others.
pub(crate) struct IommuRegion {
    pub ops: Arc<dyn IommuOps>,
    pub handle: Iommu,
    /// How many tables there are.
    indexes: u32,
}

impl IommuRegion {
    pub fn new(name: Arc<str>, ops: Arc<dyn IommuOps>) -> Self {
        let indexes = ops.indexes();
        Self { ops, handle: Iommu::new(name), indexes }
    }

    /// The table for accesses with these attributes.
    #[inline]
    pub fn index(&self, attrs: crate::MemTxAttrs) -> u32 {
        if self.indexes <= 1 {
            return 0;
        }
        let _running = InCallback::enter();
        self.ops.index(attrs)
    }

    /// How many bytes there are from an offset to the end of a page of the smallest size.
    pub fn room_in_smallest_page(&self, offset: u64) -> u64 {
        let _running = InCallback::enter();
        let page = self.ops.min_page_size().max(1);
        page - offset % page
    }

    pub fn add(&self, notifier: IommuNotifier) -> Result<u64, MemoryError> {
        let bad = |why| Err(MemoryError::BadIommuNotifier { name: Arc::clone(&self.handle.0.name), why });
        if notifier.events.is_empty() {
            return bad("it wants to hear of nothing");
        }
        if notifier.start > notifier.last {
            return bad("its range ends before it begins");
        }
        if notifier.index >= self.indexes.max(1) {
            return bad("the IOMMU has no table of that index");
        }
        let number = {
            let mut notifiers = self.handle.0.notifiers.lock();
            notifiers.added += 1;
            notifiers.added
        };
        let listed = Arc::new(Listed { number, notifier });
        self.change(|list| {
            list.insert(0, Arc::clone(&listed));
            true
        })?;
        Ok(number)
    }

    pub fn remove(&self, number: u64) -> Result<(), MemoryError> {
        self.change(|list| {
            let before = list.len();
            list.retain(|l| l.number != number);
            list.len() < before
        })
    }

    pub fn find(&self, number: u64) -> Result<IommuNotifier, MemoryError> {
        let list = self.handle.list();
        let found = list.iter().find(|l| l.number == number);
        found.map(|l| l.notifier.clone()).ok_or(MemoryError::StaleIommuNotifier)
    }

    /// Puts another list in place of the notifiers, if the device can do with it; `edit` says whether it found what it
    /// was to change.
    fn change(&self, edit: impl Fn(&mut Vec<Arc<Listed>>) -> bool) -> Result<(), MemoryError> {
        /// The device was told, whatever it said.
        struct Told<'a>(&'a Mutex<Notifiers>);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                self.0.lock().telling = false;
            }
        }
        let shared = &self.handle.0;
        let (old, new) = {
            let mut notifiers = shared.notifiers.lock();
            if notifiers.telling {
                return Err(MemoryError::IommuBusy { name: Arc::clone(&shared.name) });
            }
            let mut list = Vec::clone(&notifiers.list);
            if !edit(&mut list) {
                return Err(MemoryError::StaleIommuNotifier);
            }
            let new = list.iter().fold(IommuEvents::NONE, |all, l| all | l.notifier.events);
            if new == notifiers.announced {
                notifiers.list = Arc::new(list);
                return Ok(());
            }
            notifiers.telling = true;
            (notifiers.announced, new)
        };
        let _told = Told(&shared.notifiers);
        // I2: nobody else changes the list meanwhile; they get an error, because waiting could be for ourselves.
        let result = {
            let _running = InCallback::enter();
            self.ops.events_changed(old, new)
        };
        // Of a notifier that leaves the device cannot say no.
        let leaves = old.contains(new);
        match result {
            Err(error) if !leaves => {
                return Err(MemoryError::IommuRefused {
                    name: Arc::clone(&shared.name),
                    reason: error.shared(),
                });
            }
            _ => {}
        }
        let mut notifiers = shared.notifiers.lock();
        let mut list = Vec::clone(&notifiers.list);
        edit(&mut list);
        notifiers.list = Arc::new(list);
        notifiers.announced = new;
        Ok(())
    }
}
