//! Memory given back to the host while the block stays: discarding ranges, and who may do it when.
//!
//! What it is: [`RamBlock::discard`] and the counters that keep those who discard and those who cannot bear it apart
//! (QEMU: `ram_block_discard_range`, `ram_block_discard_disable` and its kin). What it is not: the account of what is
//! populated; that is [`DiscardManager`](super::DiscardManager).
//!
//! What must hold: a discarded range stays mapped (B1) and reads as zeros, or, for private memory of a file, as the file.

use std::fmt;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::block::{Backing, RamBlock, Share};
use super::error::RamError;
use super::mapping::Advice;

impl RamBlock {
    /// Gives the host the pages of a range of offsets back. They read as zeros then, and cost nothing until touched; of a
    /// private mapping of a file they read as the file again, which is never changed by this (QEMU punches holes in it).
    ///
    /// Other threads may access the bytes meanwhile; they see old ones or new ones.
    ///
    /// # Errors
    /// [`RamError::Misaligned`] unless both ends are multiples of [`page_size`](Self::page_size),
    /// [`RamError::OutOfRange`], [`RamError::NoDiscard`] for memory that is read-only or a caller's own, and
    /// [`RamError::Discard`] if the host refuses.
    pub fn discard(&self, range: Range<u64>) -> Result<(), RamError> {
        let name = || self.name().to_owned();
        let (offset, size) = (range.start, range.end.saturating_sub(range.start));
        for at in [range.start, range.end] {
            if !at.is_multiple_of(self.page_size()) {
                return Err(RamError::Misaligned { name: name(), offset: at, page: self.page_size() });
            }
        }
        let Backing::Mapped { mapping, file, .. } = self.backing() else {
            let why = "it is a buffer of the program's own, which only its owner can give back";
            return Err(RamError::NoDiscard { name: name(), offset, size, why });
        };
        let inside = |v: u64| usize::try_from(v).ok().filter(|v| *v <= mapping.len());
        let (Some(start), Some(_), Some(len)) = (inside(range.start), inside(range.end), inside(size)) else {
            return Err(RamError::OutOfRange { name: name(), offset, size, have: self.size() });
        };
        if !self.is_writable() {
            let why = "it is read-only; map it writable";
            return Err(RamError::NoDiscard { name: name(), offset, size, why });
        }
        if len == 0 {
            return Ok(());
        }
        let done = match (file, self.share()) {
            (Some((file, from)), Share::Shared) => {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(file.as_fd(), hole, from.saturating_add(offset), size)
            }
            (None, Share::Shared) => mapping.advise(start, len, Advice::Remove),
            (_, Share::Private) => mapping.advise(start, len, Advice::Drop),
        };
        done.map_err(|e| match e {
            Errno::OPNOTSUPP => RamError::NoDiscard {
                name: name(),
                offset,
                size,
                why: "the file system of its file cannot make holes; put it on tmpfs, hugetlbfs or a disk file system that can",
            },
            e => RamError::Discard { name: name(), offset, size, source: e.into() },
        })
    }
}

#[derive(Debug, Default)]
struct Counts {
    disabled: usize,
    uncoordinated_disabled: usize,
    required: usize,
    coordinated_required: usize,
}

/// What a user of memory asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Disable,
    DisableUncoordinated,
    Require,
    RequireCoordinated,
}

impl Counts {
    fn of(&mut self, ask: Ask) -> &mut usize {
        match ask {
            Ask::Disable => &mut self.disabled,
            Ask::DisableUncoordinated => &mut self.uncoordinated_disabled,
            Ask::Require => &mut self.required,
            Ask::RequireCoordinated => &mut self.coordinated_required,
        }
    }

    fn conflict(&self, ask: Ask) -> Option<DiscardBusy> {
        let (required, disabled) = match ask {
            Ask::Disable => (self.required + self.coordinated_required, 0),
            Ask::DisableUncoordinated => (self.required, 0),
            Ask::Require => (0, self.disabled + self.uncoordinated_disabled),
            Ask::RequireCoordinated => (0, self.disabled),
        };
        match (required, disabled) {
            (0, 0) => None,
            (0, _) => Some(DiscardBusy::Disabled),
            _ => Some(DiscardBusy::Required),
        }
    }
}

/// Why discarding cannot be had, or not be forbidden, now (QEMU: `-EBUSY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiscardBusy {
    /// Somebody needs pages to stay, because it pinned them: a device that was passed through, say.
    #[error(
        "Discarding of RAM is disabled by a device that needs all pages to stay; remove that device first"
    )]
    Disabled,
    /// Somebody needs to discard: a balloon, say.
    #[error("Discarding of RAM is required by a device that gives pages back; remove that device first")]
    Required,
}

/// Keeps those who give pages of guest RAM back and those who cannot bear it apart; one for each
/// [`Memory`](crate::Memory::discard_rules).
///
/// *Coordinated* discarding is that of a [`DiscardManager`](super::DiscardManager), whose listeners are asked and told; an
/// uncoordinated one (a balloon's) tells nobody.
#[derive(Clone, Default)]
pub struct DiscardRules(Arc<Mutex<Counts>>);

impl fmt::Debug for DiscardRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiscardRules({:?})", self.0.lock())
    }
}

/// What was asked for holds while this lives.
#[must_use]
pub struct DiscardGuard {
    counts: Arc<Mutex<Counts>>,
    ask: Ask,
}

impl fmt::Debug for DiscardGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiscardGuard({:?})", self.ask)
    }
}

impl Drop for DiscardGuard {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        let count = counts.of(self.ask);
        *count = count.saturating_sub(1);
    }
}

impl DiscardRules {
    fn ask(&self, ask: Ask) -> Result<DiscardGuard, DiscardBusy> {
        let mut counts = self.0.lock();
        if let Some(busy) = counts.conflict(ask) {
            return Err(busy);
        }
        *counts.of(ask) += 1;
        Ok(DiscardGuard { counts: Arc::clone(&self.0), ask })
    }

    /// No discarding at all while the guard lives (QEMU: `ram_block_discard_disable`).
    ///
    /// # Errors
    /// [`DiscardBusy::Required`].
    pub fn disable(&self) -> Result<DiscardGuard, DiscardBusy> {
        self.ask(Ask::Disable)
    }

    /// Only coordinated discarding while the guard lives (QEMU: `ram_block_uncoordinated_discard_disable`).
    ///
    /// # Errors
    /// [`DiscardBusy::Required`] if somebody needs the uncoordinated one.
    pub fn disable_uncoordinated(&self) -> Result<DiscardGuard, DiscardBusy> {
        self.ask(Ask::DisableUncoordinated)
    }

    /// Somebody will discard and tell nobody (QEMU: `ram_block_discard_require`).
    ///
    /// # Errors
    /// [`DiscardBusy::Disabled`].
    pub fn require(&self) -> Result<DiscardGuard, DiscardBusy> {
        self.ask(Ask::Require)
    }

    /// Somebody will discard and tell listeners (QEMU: `ram_block_coordinated_discard_require`).
    ///
    /// # Errors
    /// [`DiscardBusy::Disabled`] if nobody may.
    pub fn require_coordinated(&self) -> Result<DiscardGuard, DiscardBusy> {
        self.ask(Ask::RequireCoordinated)
    }

    /// Whether uncoordinated discarding is forbidden now (QEMU: `ram_block_discard_is_disabled`).
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        let counts = self.0.lock();
        counts.disabled + counts.uncoordinated_disabled > 0
    }

    /// Whether somebody needs to discard now (QEMU: `ram_block_discard_is_required`).
    #[must_use]
    pub fn is_required(&self) -> bool {
        let counts = self.0.lock();
        counts.required + counts.coordinated_required > 0
    }
}
