//! What answers at a run of guest addresses, with what keeps it.
//!
//! UNSAFE: this module keeps pointers to memory and to callbacks without a lifetime.
//!
//! What it is: the part of a flat range that an access needs: where it begins and ends, and where its bytes or its
//! callbacks are, without the way there. What it is not: who may access them. What must hold is B2: the pointer is to
//! something that the anchor keeps.
#![expect(unsafe_code, reason = "the pointer is kept beside the Arc that keeps its target")]

use std::ptr::NonNull;
use std::sync::Arc;

use super::RamSpan;
use crate::MmioOps;
use crate::span::Span;

/// What answers.
#[derive(Clone, Copy)]
pub(crate) enum Answer<'a> {
    Nothing,
    Memory(RamSpan<'a>),
    Callbacks(&'a (dyn MmioOps + 'static)),
}

#[derive(Clone, Copy)]
enum Target {
    /// The first byte, if there is memory.
    Memory(Option<NonNull<u8>>),
    Callbacks(NonNull<dyn MmioOps>),
}

/// A run of addresses, and the memory or the callbacks behind it, if any, that something shared keeps.
pub(crate) struct Anchored<T> {
    span: Span,
    target: Target,
    anchor: Arc<T>,
}

// SAFETY: memory is used as a RamSpan only, which may be sent and shared (B1), callbacks are `Send + Sync`; the rest is
// an Arc and numbers.
unsafe impl<T: Send + Sync> Send for Anchored<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send + Sync> Sync for Anchored<T> {}

impl<T> Clone for Anchored<T> {
    fn clone(&self) -> Self {
        Self { span: self.span, target: self.target, anchor: Arc::clone(&self.anchor) }
    }
}

impl<T> Anchored<T> {
    /// What `find` finds in the anchor; memory counts only if it is as long as the run of addresses.
    ///
    /// `find` borrows what it gives from the anchor for as long as we like, and so for as long as we hold it.
    pub fn new(span: Span, anchor: &Arc<T>, find: impl for<'a> FnOnce(&'a T) -> Answer<'a>) -> Self {
        let target = match find(anchor) {
            Answer::Memory(m) if u128::from(m.len()) == span.size() => Target::Memory(Some(m.ptr())),
            Answer::Callbacks(ops) => Target::Callbacks(NonNull::from(ops)),
            _ => Target::Memory(None),
        };
        Self { span, target, anchor: Arc::clone(anchor) }
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
        let Target::Memory(Some(ptr)) = self.target else {
            return None;
        };
        // `new` has checked that the size is a length.
        let len = (self.span.last - self.span.start).wrapping_add(1);
        // SAFETY: `new` and `part` let in only pointers to so many bytes of what the anchor keeps, and the span that is
        // given borrows `self`, which holds the anchor.
        Some(unsafe { RamSpan::at_pointer(ptr, len) })
    }

    /// The callbacks.
    #[inline]
    pub fn callbacks(&self) -> Option<&(dyn MmioOps + 'static)> {
        match &self.target {
            // SAFETY: `new` lets in only references to what the anchor keeps, and the reference that is given borrows
            // `self`, which holds the anchor.
            Target::Callbacks(ops) => Some(unsafe { ops.as_ref() }),
            Target::Memory(_) => None,
        }
    }

    /// The part in `span`, which must be inside.
    pub fn part(&self, span: Span) -> Option<Self> {
        let span = self.span.intersection(span)?;
        let target = match self.target {
            Target::Memory(_) => {
                let len = u64::try_from(span.size()).ok();
                let part = self.memory().and_then(|m| m.sub(span.start - self.span.start, len?));
                Target::Memory(part.map(RamSpan::ptr))
            }
            callbacks @ Target::Callbacks(_) => callbacks,
        };
        Some(Self { span, target, anchor: Arc::clone(&self.anchor) })
    }
}
