//! What of a section can be a memory slot.
//!
//! What it is: the whole pages of RAM, ROM and ROM devices, cut where KVM wants them cut. What it is not: which slots there
//! are. What must hold: the same section gives the same parts, whatever is logged, so that what was added is found again.

use std::fmt;
use std::sync::Arc;

use flatview::{RamBlock, Section};

/// Slots are cut at multiples of this many pages, so that huge pages stay whole.
const CUT: u64 = 1 << 18;

/// How slots may be shaped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The size of the host's pages, in bytes.
    pub page: u64,
    /// The most pages of a slot.
    pub max_pages: u64,
    /// Whether there are read-only slots.
    pub readonly: bool,
}

/// Memory that is to be one slot.
#[derive(Clone)]
pub(crate) struct Part {
    /// The first guest physical address.
    pub addr: u64,
    /// Bytes, in whole pages.
    pub size: u64,
    /// The memory, which this keeps.
    pub block: Arc<RamBlock>,
    /// The offset in the block of the first byte.
    pub offset: u64,
    pub readonly: bool,
    /// Whether writes are logged; never for what is read-only.
    pub log: bool,
    /// The region's name, for people.
    pub name: Arc<str>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks = [(self.readonly, " readonly"), (self.log, " logged")];
        write!(f, "{:#x} bytes of '{}' at {:#x}", self.size, self.name, self.addr)?;
        marks.iter().filter(|(set, _)| *set).try_for_each(|(_, text)| f.write_str(text))
    }
}

impl Part {
    /// The host address of the first byte.
    pub fn host_addr(&self) -> u64 {
        (self.block.host().as_ptr().addr() as u64).wrapping_add(self.offset)
    }

    /// Whether a slot of the one is a slot of the other, but for what is logged.
    pub fn is_same_memory(&self, other: &Self) -> bool {
        let place = |p: &Self| (p.addr, p.size, p.offset, p.readonly);
        place(self) == place(other) && Arc::ptr_eq(&self.block, &other.block)
    }

    /// One past the last guest physical address.
    pub fn end(&self) -> u128 {
        u128::from(self.addr) + u128::from(self.size)
    }
}

/// The parts of a section that can be slots, in ascending order.
///
/// Only whole pages of the host can be, and only where guest and host addresses are aligned alike; all else of RAM is
/// reached through MMIO exits.
pub(crate) fn parts_of(section: &Section, shape: Shape) -> Vec<Part> {
    let Some((block, offset)) = section.ram().filter(|_| section.is_ram() || section.romd) else {
        return Vec::new();
    };
    let readonly = section.readonly || section.romd || !block.is_writable();
    if readonly && !shape.readonly {
        return Vec::new();
    }
    let page = u128::from(shape.page);
    let start = u128::from(section.offset_in_space);
    let from = start.next_multiple_of(page);
    let to = (start + section.size) / page * page;
    let host = (block.host().as_ptr().addr() as u128) + u128::from(offset) + (from - start);
    if from >= to || !host.is_multiple_of(page) {
        return Vec::new();
    }
    let log = !readonly && section.range().is_some_and(|range| range.log_mask() != 0);
    let most = if shape.max_pages > CUT { shape.max_pages / CUT * CUT } else { shape.max_pages };
    let most = u128::from(most) * page;
    let name: Arc<str> = section.name().into();
    let mut parts = Vec::new();
    let mut at = from;
    while at < to {
        let size = most.min(to - at);
        let place =
            (u64::try_from(at), u64::try_from(size), u64::try_from(u128::from(offset) + (at - start)));
        // A section of memory fits a block, whose sizes and offsets are of 64 bits.
        let (Ok(addr), Ok(size), Ok(offset)) = place else { break };
        parts.push(Part {
            addr,
            size,
            block: Arc::clone(&block),
            offset,
            readonly,
            log,
            name: Arc::clone(&name),
        });
        at += u128::from(size);
    }
    parts
}
