//! Memory at a run of guest addresses, with what keeps it.
//!
//! UNSAFE: this module keeps a pointer into a block without a lifetime.
//!
//! What it is: the part of a flat range that an access needs: where it begins and ends, and where its bytes are. What
//! it is not: who may access them. What must hold is B2: the pointer is into a block that the anchor keeps.
#![expect(unsafe_code, reason = "the pointer is kept beside the Arc that keeps its target")]

use std::ptr::NonNull;
use std::sync::Arc;

use super::RamSpan;
use crate::span::Span;

/// A run of addresses, and the memory behind it, if any, that something shared keeps.
pub(crate) struct Anchored<T> {
    span: Span,
    ptr: Option<NonNull<u8>>,
    anchor: Arc<T>,
}

// SAFETY: the pointer is used as a RamSpan only, which may be sent and shared (B1); the rest is an Arc and numbers.
unsafe impl<T: Send + Sync> Send for Anchored<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send + Sync> Sync for Anchored<T> {}

impl<T> Clone for Anchored<T> {
    fn clone(&self) -> Self {
        Self { span: self.span, ptr: self.ptr, anchor: Arc::clone(&self.anchor) }
    }
}

impl<T> Anchored<T> {
    /// The memory that `memory` finds in the anchor; it counts only if it is as long as the run of addresses.
    ///
    /// `memory` borrows what it gives from the anchor for as long as we like, and so for as long as we hold it.
    pub fn new(
        span: Span,
        anchor: &Arc<T>,
        memory: impl for<'a> FnOnce(&'a T) -> Option<RamSpan<'a>>,
    ) -> Self {
        let fits = |m: &RamSpan<'_>| u128::from(m.len()) == span.size();
        let ptr = memory(anchor).filter(fits).map(RamSpan::ptr);
        Self { span, ptr, anchor: Arc::clone(anchor) }
    }

    #[inline]
    pub fn span(&self) -> Span {
        self.span
    }

    #[inline]
    pub fn anchor(&self) -> &Arc<T> {
        &self.anchor
    }

    /// The memory behind the whole run.
    #[inline]
    pub fn memory(&self) -> Option<RamSpan<'_>> {
        // `new` has checked that the size is a length.
        let len = (self.span.last - self.span.start).wrapping_add(1);
        // SAFETY: `new` and `part` let in only pointers to so many bytes of what the anchor keeps, and the span that is
        // given borrows `self`, which holds the anchor.
        self.ptr.map(|ptr| unsafe { RamSpan::at_pointer(ptr, len) })
    }

    /// The part in `span`, which must be inside.
    pub fn part(&self, span: Span) -> Option<Self> {
        let span = self.span.intersection(span)?;
        let len = u64::try_from(span.size()).ok();
        let ptr = self.memory().and_then(|m| m.sub(span.start - self.span.start, len?)).map(RamSpan::ptr);
        Some(Self { span, ptr, anchor: Arc::clone(&self.anchor) })
    }
}
