//! Telling a notifier of all that is mapped.

use std::fmt;

use super::{IommuEntry, IommuEvent, IommuEventKind, IommuNotifier, IommuRequest};

/// A notifier that wants to be told of all that is mapped in its range (QEMU: `memory_region_iommu_replay`).
pub struct IommuReplay<'a> {
    notifier: &'a IommuNotifier,
    last: u64,
}

impl fmt::Debug for IommuReplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IommuReplay({:#x}..={:#x}, index {})", self.start(), self.last, self.index())
    }
}

impl<'a> IommuReplay<'a> {
    /// `None` if the notifier's range lies behind the end of the region.
    pub(crate) fn new(notifier: &'a IommuNotifier, size: u128) -> Option<Self> {
        let end = u64::try_from(size.checked_sub(1)?).unwrap_or(u64::MAX);
        let last = notifier.last.min(end);
        (notifier.start <= last).then_some(Self { notifier, last })
    }

    /// The table that is meant.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.notifier.index
    }

    /// The first offset in the region that the notifier wants to hear of.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.notifier.start
    }

    /// The last one, which is in the region.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Tells the notifier of something that is mapped, or of the part of it in its range. What it does not want to
    /// hear of, it is not told.
    pub fn tell(&self, event: &IommuEvent) {
        let overlaps = event.iova <= self.last && event.last().is_none_or(|last| self.start() <= last);
        if overlaps && self.notifier.wants(event.kind) {
            (self.notifier.tell)(&event.cropped(self.start(), self.last));
        }
    }

    /// Looks at one page of `page_size` bytes after another, and tells of those that are mapped; passes over all of a
    /// larger one, mapped or not. It ends at the last offset there is, 2^64 - 1 included.
    pub fn walk(&self, page_size: u64, translate: impl Fn(&IommuRequest<'_>) -> IommuEntry) {
        if !self.notifier.wants(IommuEventKind::Map) {
            return;
        }
        let step = page_size.max(1);
        let mut at = self.start() - self.start() % step;
        loop {
            let entry = translate(&IommuRequest::look(at, self.index()));
            if !entry.perm.is_none() {
                self.tell(&IommuEvent::map(at, &entry));
            }
            // The end of the page that was found, or of the smallest one, whichever is later.
            let last = (at | entry.page()).max(at.saturating_add(step - 1));
            match last.checked_add(1).filter(|next| *next <= self.last) {
                Some(next) => at = next,
                None => return,
            }
        }
    }
}
