//! The rules by which an access becomes callbacks (QEMU: `memory_region_dispatch_read`, `…_write`).
//!
//! In order: is the access taken (the filter, alignment, size); does a write signal an ioeventfd instead; may the
//! device be entered; then one callback, several (the access is larger than the device implements), or one that is
//! wider than the access. Values are in the device's byte order here: the bytes in ascending address order, read in
//! that order.

use super::Access;
use crate::memory::InvalidAccess;
use crate::memtx::join;
use crate::order::low_mask;
use crate::thread::{InCallback, nesting, writing};
use crate::{Endianness, MemTxError, MmioOps, Reason};

impl Access<'_> {
    /// The callbacks, if device code may run at all.
    #[inline]
    fn callbacks(&self) -> Result<&dyn MmioOps, MemTxError> {
        match self.range().body().ops() {
            // The nesting is the thread's: a callback may access memory through a reader of its own, or from its filter.
            Some(ops) if !writing() && nesting() < Self::MAX_DEPTH => Ok(ops),
            Some(_) if writing() => Err(self.refused(Reason::InsideUpdate)),
            Some(_) => Err(self.refused(Reason::TooDeep)),
            None => Err(self.refused(Reason::Rejected)),
        }
    }

    /// Whether the device takes the access. What is refused is told in the log too.
    #[inline]
    fn taken(&self, ops: &dyn MmioOps) -> Result<(), MemTxError> {
        match self.objection(ops) {
            None => Ok(()),
            Some(reason) => Err(self.refused(reason)),
        }
    }

    /// Why the device does not take the access, if it does not.
    #[inline]
    fn objection(&self, ops: &dyn MmioOps) -> Option<Reason> {
        let rules = &self.range().body().rules;
        if rules.is_filtered() && ops.filter().is_some_and(|f| !f.accepts(self)) {
            return Some(Reason::Rejected);
        }
        if !rules.takes_unaligned() && self.is_unaligned() {
            return Some(Reason::Unaligned);
        }
        if let Some((min, max)) = rules.valid_sizes()
            && (self.size() < min || self.size() > max)
        {
            return Some(Reason::InvalidSize { min, max });
        }
        None
    }

    /// Whether the device would take the access. Nothing is told in the log.
    pub(crate) fn would_be_taken(&self) -> bool {
        let Some(ops) = self.range().body().ops().filter(|_| !(self.write && self.range().readonly())) else {
            return false;
        };
        let _running = InCallback::enter();
        self.objection(ops).is_none()
    }

    /// Whether the device may be entered.
    #[inline]
    fn may_enter(&self) -> Result<(), MemTxError> {
        self.admitted().inspect_err(|e| self.tell_blocked(*e))
    }

    #[inline]
    fn is_unaligned(&self) -> bool {
        self.offset() & u64::from(self.size() - 1) != 0
    }

    /// Refuses the access and tells the log.
    #[cold]
    pub(super) fn refused(&self, reason: Reason) -> MemTxError {
        self.reader.memory.tell(&InvalidAccess {
            write: self.write,
            addr: self.offset(),
            size: self.size(),
            region: Some(&self.range().body().name),
            reason,
        });
        MemTxError::refused(reason)
    }

    #[cold]
    fn tell_blocked(&self, error: MemTxError) {
        debug_assert_eq!(error.reason(), Reason::Reentry);
        self.reader.memory.reentries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(log) = &*self.reader.memory.log.load() {
            let _running = InCallback::enter();
            log.reentry(&self.range().body().name, self.offset());
        }
    }

    /// The callbacks, and that they run, if the access is one call as it is and nothing needs a closer look: what most
    /// accesses to most devices are.
    #[inline(always)]
    pub(super) fn direct(&self) -> Option<(&dyn MmioOps, InCallback)> {
        if self.outer().is_some() {
            return None;
        }
        let ops = self.range().direct(self.address, self.size())?;
        Some((ops, InCallback::enter_below(Self::MAX_DEPTH)?))
    }

    /// An error of this access, or of a callback that serves it, with its place.
    #[cold]
    #[inline(never)]
    pub(super) fn failed(&self, e: &MemTxError) -> MemTxError {
        e.at(self.address, self.size(), Some(self.range().body().id))
    }

    /// As [`dispatch_read`](Self::dispatch_read), all or nothing.
    #[cold]
    #[inline(never)]
    pub(super) fn dispatch_read_exact(&self) -> Result<u64, MemTxError> {
        if self.range().is_iommu() {
            return self.read_exact_through();
        }
        let (value, result) = self.dispatch_read();
        result.map(|()| value)
    }

    /// Reads through the callbacks; the value is in the device's order. What fails reads as 0.
    pub(super) fn dispatch_read(&self) -> (u64, Result<(), MemTxError>) {
        let (value, result) = self.read_callbacks();
        (value, result.map_err(|e| self.failed(&e)))
    }

    fn read_callbacks(&self) -> (u64, Result<(), MemTxError>) {
        let ops = match self.callbacks() {
            Ok(ops) => ops,
            Err(e) => return (0, Err(e)),
        };
        self.flush_coalesced();
        let _running = InCallback::enter();
        if let Err(e) = self.taken(ops).and_then(|()| self.may_enter()) {
            return (0, Err(e));
        }
        let (value, result) = self.read_admitted(ops);
        self.tell_in_part_of_page(value);
        (value, result)
    }

    /// The callbacks of a read that the device takes.
    #[inline]
    fn read_admitted(&self, ops: &dyn MmioOps) -> (u64, Result<(), MemTxError>) {
        if self.is_one_call() {
            return match self.read_call(ops) {
                Ok(value) => (value & low_mask(self.size()), Ok(())),
                Err(e) => (0, Err(e)),
            };
        }
        let mut value = 0;
        let mut result = Ok(());
        self.for_each_call(|call, shift, wide| match call.read_call(ops) {
            // Of a wider word only its piece: the next one may give the rest again, and differently.
            Ok(got) => value |= shifted(got & wide.unwrap_or(low_mask(call.size())), shift),
            Err(e) => result = join(result, Err(e)),
        });
        (value & low_mask(self.size()), result)
    }

    /// Writes `value` (in the device's order) through the callbacks.
    #[cold]
    #[inline(never)]
    pub(super) fn dispatch_write(&self, value: u64) -> Result<(), MemTxError> {
        if self.range().is_iommu() {
            return self.write_exact_through(value);
        }
        self.write_callbacks(value).map_err(|e| self.failed(&e))
    }

    fn write_callbacks(&self, value: u64) -> Result<(), MemTxError> {
        let ops = self.callbacks()?;
        self.flush_coalesced();
        let _running = InCallback::enter();
        self.taken(ops)?;
        if self.signals(value & low_mask(self.size())) {
            return Ok(());
        }
        self.may_enter()?;
        self.tell_in_part_of_page(value & low_mask(self.size()));
        if self.is_one_call() {
            return self.write_call(ops, value & low_mask(self.size()));
        }
        let mut result = Ok(());
        self.for_each_call(|call, shift, wide| {
            let mut part = shifted(value, -shift) & low_mask(call.size());
            if let Some(kept) = wide {
                // A piece of an unaligned access, narrower than the device implements: the rest of the word stays.
                match (Access { write: false, ..*call }).read_call(ops) {
                    Ok(old) => part = (part & kept) | (old & low_mask(call.size()) & !kept),
                    Err(e) => {
                        result = join(result, Err(e));
                        return;
                    }
                }
            }
            result = join(result, call.write_call(ops, part));
        });
        result
    }

    /// One callback for a read.
    #[inline]
    fn read_call(&self, ops: &dyn MmioOps) -> Result<u64, MemTxError> {
        let result = ops.read(self);
        self.tell_called(*result.as_ref().unwrap_or(&0));
        result
    }

    /// One callback for a write.
    #[inline]
    fn write_call(&self, ops: &dyn MmioOps, value: u64) -> Result<(), MemTxError> {
        self.tell_called(value);
        ops.write(self, value)
    }

    /// Whether the access is one callback as it is.
    #[inline]
    fn is_one_call(&self) -> bool {
        let rules = &self.range().body().rules;
        rules.call_size(self.size()) == self.size() && (rules.calls_unaligned() || !self.is_unaligned())
    }

    /// Calls `f` for each callback the access becomes: with the callback's access, the bits by which its value is
    /// shifted in the whole one (negative: the callback's value is the wider), and, for a word of which the access
    /// covers only a part, the mask of that part in it.
    fn for_each_call(&self, mut f: impl FnMut(&Access<'_>, i32, Option<u64>)) {
        let rules = &self.range().body().rules;
        let little = self.range().body().order == Endianness::Little;
        let call_size = rules.call_size(self.size());
        if self.is_unaligned() && !rules.calls_unaligned() {
            return self.for_each_aligned_call(f);
        }
        for at in (0..self.size()).step_by(call_size as usize) {
            // QEMU: the callback of a widened access gets the access's own offset, aligned or not.
            let from_low = if little { at as i32 } else { self.size() as i32 - call_size as i32 - at as i32 };
            f(&self.piece(self.offset().wrapping_add(u64::from(at)), call_size), from_low * 8, None);
        }
    }

    /// An unaligned access to a device that does not implement them (QEMU ignores `impl.unaligned`: a deviation of
    /// ours): naturally aligned calls, in ascending order, each as large as fits. Where even the smallest that the
    /// device implements does not fit, the aligned word there is accessed, and a write keeps the rest of that word.
    fn for_each_aligned_call(&self, mut f: impl FnMut(&Access<'_>, i32, Option<u64>)) {
        let rules = &self.range().body().rules;
        let little = self.range().body().order == Endianness::Little;
        let mut at = 0;
        while at < self.size() {
            let offset = self.offset().wrapping_add(u64::from(at));
            let left = self.size() - at;
            let fits = rules.call_size(8).min(1 << offset.trailing_zeros().min(3)).min(1 << left.ilog2());
            let word = rules.call_size(fits);
            let word_at = offset & !u64::from(word - 1);
            let inside = (offset - word_at) as u32;
            let piece = (word - inside).min(left);
            // Where the piece stands in the whole value, and in the word, counted in bytes from the low end.
            let (in_value, in_word) =
                if little { (at, inside) } else { (left - piece, word - inside - piece) };
            let wide = (word != piece).then(|| low_mask(piece) << (8 * in_word));
            f(&self.piece(word_at, word), (in_value as i32 - in_word as i32) * 8, wide);
            at += piece;
        }
    }
}

/// `v << by`, or `v >> -by`; bits that fall out are lost.
fn shifted(v: u64, by: i32) -> u64 {
    let n = by.unsigned_abs();
    if by >= 0 { v.checked_shl(n).unwrap_or(0) } else { v.checked_shr(n).unwrap_or(0) }
}
