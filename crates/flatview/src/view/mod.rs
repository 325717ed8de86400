//! Flat views: what an address space really shows.
//!
//! What it is: [`FlatRange`]s in address order, held in a tree of chunks of which successive views share all that
//! did not change, and the lookup on it. What it is not: how ranges come about ([`render`](crate::render)) or
//! reach readers ([`publish`](crate::publish)).
//!
//! What must hold: a view is immutable and owns what its ranges point to, the callbacks and the RAM included; its
//! ranges are disjoint, in order, and no two neighbours could be one.

mod build;
mod node;
mod range;
mod tree;

pub use range::FlatRange;

pub(crate) use range::Piece;
pub(crate) use tree::RangeTree;

use crate::RegionId;
use crate::span::Span;

/// What an address space shows, at one moment (QEMU: `FlatView`).
#[derive(Debug)]
pub struct FlatView {
    pub(crate) tree: RangeTree,
    root: Option<RegionId>,
    /// Its RAM, once somebody has asked for it.
    #[cfg(feature = "vm-memory")]
    ram: parking_lot::Mutex<Option<std::sync::Arc<crate::vm_memory::RamView>>>,
}

impl FlatView {
    fn of(tree: RangeTree, root: Option<RegionId>) -> Self {
        Self {
            tree,
            root,
            #[cfg(feature = "vm-memory")]
            ram: parking_lot::Mutex::new(None),
        }
    }

    pub(crate) fn empty(root: Option<RegionId>) -> Self {
        Self::of(RangeTree::default(), root)
    }

    /// The view after the ranges that begin in `span` were replaced.
    pub(crate) fn replaced(&self, span: Span, ranges: &[FlatRange]) -> Self {
        let new = Self::of(self.tree.replaced(span, ranges), self.root);
        // Who is just making it is not waited for.
        #[cfg(feature = "vm-memory")]
        if let Some(ram) = self.ram.try_lock().and_then(|ram| ram.clone()) {
            let old = self.ranges_from(span.start).take_while(|r| r.start() <= span.last);
            if crate::vm_memory::is_same_ram(old, ranges.iter()) {
                *new.ram.lock() = Some(ram);
            }
        }
        new
    }

    /// The region the view was rendered from (not always the space's root: see
    /// [`AddressSpace`](crate::AddressSpace)); `None` if nothing is enabled there.
    #[must_use]
    pub fn root(&self) -> Option<RegionId> {
        self.root
    }

    /// The range at an address.
    #[inline(always)]
    #[must_use]
    pub fn lookup(&self, addr: u64) -> Option<&FlatRange> {
        self.tree.lookup(addr)
    }

    /// The ranges in address order.
    pub fn ranges(&self) -> impl Iterator<Item = &FlatRange> {
        self.tree.iter_from(0)
    }

    /// The ranges from the one at (or else after) an address on.
    pub fn ranges_from(&self, addr: u64) -> impl Iterator<Item = &FlatRange> {
        self.tree.iter_from(addr)
    }

    /// The number of ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether nothing is visible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its writable RAM as rust-vmm's crates see memory. Made once, and kept as long as the view.
    #[cfg(feature = "vm-memory")]
    #[must_use]
    pub fn ram(&self) -> std::sync::Arc<crate::vm_memory::RamView> {
        let make = || std::sync::Arc::new(crate::vm_memory::RamView::of(self));
        std::sync::Arc::clone(self.ram.lock().get_or_insert_with(make))
    }

    /// The shape of the lookup structure: levels, chunks, and how full they are.
    #[must_use]
    pub fn shape(&self) -> ViewShape {
        self.tree.shape()
    }
}

/// The shape of a view's lookup structure, for `info mtree -f -d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewShape {
    /// Levels of chunks that a lookup goes through.
    pub levels: usize,
    /// Chunks of ranges.
    pub leaves: usize,
    /// Chunks of chunks.
    pub inner: usize,
    /// Ranges a chunk can hold.
    pub capacity: usize,
}
