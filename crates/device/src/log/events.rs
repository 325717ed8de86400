//! Trace events: which there are, and which are on.
//!
//! What it is: a name and a switch for each. What it is not: who finds out that something happened, which asks
//! [`TraceEvents::is_on`] before it makes a line.

use std::sync::atomic::{AtomicU32, Ordering};

/// Something that a line can be written of (QEMU: a trace event).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TraceEvent {
    /// A device's callback for a read.
    MemoryRegionOpsRead,
    /// A device's callback for a write.
    MemoryRegionOpsWrite,
    /// A CPU's read in a page of which the device has only a part.
    MemoryRegionSubpageRead,
    /// A CPU's write there.
    MemoryRegionSubpageWrite,
}

impl TraceEvent {
    /// All of them.
    pub const ALL: [TraceEvent; 4] = [
        TraceEvent::MemoryRegionOpsRead,
        TraceEvent::MemoryRegionOpsWrite,
        TraceEvent::MemoryRegionSubpageRead,
        TraceEvent::MemoryRegionSubpageWrite,
    ];

    /// QEMU's name.
    pub fn name(self) -> &'static str {
        match self {
            TraceEvent::MemoryRegionOpsRead => "memory_region_ops_read",
            TraceEvent::MemoryRegionOpsWrite => "memory_region_ops_write",
            TraceEvent::MemoryRegionSubpageRead => "memory_region_subpage_read",
            TraceEvent::MemoryRegionSubpageWrite => "memory_region_subpage_write",
        }
    }

    /// Those with a name like `pattern`, in which `*` stands for any characters and `?` for one.
    pub fn matching(pattern: &str) -> impl Iterator<Item = TraceEvent> + '_ {
        TraceEvent::ALL.into_iter().filter(move |event| is_like(event.name(), pattern))
    }

    fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// Whether a name is like a pattern of QEMU's trace events.
fn is_like(name: &str, pattern: &str) -> bool {
    let (name, pattern) = (name.as_bytes(), pattern.as_bytes());
    let (mut n, mut p) = (0, 0);
    // Where the last `*` was, and how much of the name it stands for up to now.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p + 1, n));
                p += 1;
            }
            (Some(c), _) if *c == b'?' || Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            (_, Some((after, taken))) => {
                star = Some((after, taken + 1));
                (p, n) = (after, taken + 1);
            }
            (_, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}

/// Which events are on.
#[derive(Debug, Default)]
pub struct TraceEvents(AtomicU32);

impl TraceEvents {
    /// Whether an event is on.
    #[inline]
    pub fn is_on(&self, event: TraceEvent) -> bool {
        self.0.load(Ordering::Relaxed) & event.bit() != 0
    }

    /// Whether any is.
    pub fn is_any_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Turns an event on or off.
    pub(super) fn set(&self, event: TraceEvent, on: bool) {
        match on {
            true => self.0.fetch_or(event.bit(), Ordering::Relaxed),
            false => self.0.fetch_and(!event.bit(), Ordering::Relaxed),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_qemus() {
        for (pattern, like) in [
            ("memory_region_ops_read", true),
            ("memory_region_ops_*", true),
            ("*", true),
            ("**read", true),
            ("*_ops_*d", true),
            ("memory?region_ops_rea?", true),
            ("memory_region_ops_", false),
            ("memory_region_ops_read?", false),
            ("*writ*", false),
            ("", false),
        ] {
            assert_eq!(is_like("memory_region_ops_read", pattern), like, "{pattern}");
        }
        assert_eq!(TraceEvent::matching("memory_region_ops_*").count(), 2);
        assert_eq!(TraceEvent::matching("nonsense*").count(), 0);
    }

    #[test]
    fn each_event_has_a_switch_of_its_own() {
        let events = TraceEvents::default();
        for event in TraceEvent::ALL {
            assert!(!events.is_on(event));
            events.set(event, true);
            assert!(TraceEvent::ALL.into_iter().all(|other| events.is_on(other) == (other == event)));
            events.set(event, false);
        }
        assert!(!events.is_any_on());
    }
}
