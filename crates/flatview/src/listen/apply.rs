//! The calls that follow from a delta, in QEMU's order, and the way back.
//!
//! What must hold (L2): a call is made on everybody it concerns before the next one is made on anybody; what was
//! called is remembered until all is told, so that it can be taken back in reverse order.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::delta::Became;
use super::flat::{all_eventfds, coalesced_in};
use super::{Delta, Entry, IoEventFd, ListenerError, MemoryListener, SpaceDelta};
use crate::ram::RamBlock;
use crate::span::Span;
use crate::view::{FlatRange, FlatView};
use crate::{MemoryError, Section, SpaceId};

/// One call, to be made on every listener that it concerns.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Begin,
    Commit,
    Add(Section),
    Del(Section),
    Nop(Section),
    LogStart(Section, u8, u8),
    LogStop(Section, u8, u8),
    CoalescedAdd(Section, u64, u128),
    CoalescedDel(Section, u64, u128),
    EventFdAdd(IoEventFd),
    EventFdDel(IoEventFd),
    GlobalStart,
    GlobalStop,
}

impl Call {
    fn name(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Add(_) => "region_add",
            Self::Del(_) => "region_del",
            Self::Nop(_) => "region_nop",
            Self::LogStart(..) => "log_start",
            Self::LogStop(..) => "log_stop",
            Self::CoalescedAdd(..) => "coalesced_io_add",
            Self::CoalescedDel(..) => "coalesced_io_del",
            Self::EventFdAdd(_) => "eventfd_add",
            Self::EventFdDel(_) => "eventfd_del",
            Self::GlobalStart => "log_global_start",
            Self::GlobalStop => "log_global_stop",
        }
    }

    /// The space and the address that it is about, if it is about any.
    fn place(&self) -> Option<(SpaceId, u64)> {
        match self {
            Self::Begin | Self::Commit | Self::GlobalStart | Self::GlobalStop => None,
            Self::Add(s) | Self::Del(s) | Self::Nop(s) | Self::LogStart(s, ..) | Self::LogStop(s, ..) => {
                Some((s.space, s.offset_in_space))
            }
            Self::CoalescedAdd(s, addr, _) | Self::CoalescedDel(s, addr, _) => Some((s.space, *addr)),
            Self::EventFdAdd(e) | Self::EventFdDel(e) => Some((e.space, e.addr)),
        }
    }

    /// Whether it goes from the highest priority to the lowest.
    fn is_reverse(&self) -> bool {
        matches!(
            self,
            Self::Del(_)
                | Self::LogStop(..)
                | Self::CoalescedDel(..)
                | Self::EventFdAdd(_)
                | Self::GlobalStop
        )
    }

    /// What takes it back.
    fn opposite(&self) -> Option<Self> {
        Some(match self {
            Self::Begin | Self::Commit | Self::Nop(_) => return None,
            Self::Add(s) => Self::Del(s.clone()),
            Self::Del(s) => Self::Add(s.clone()),
            Self::LogStart(s, old, new) => Self::LogStop(s.clone(), *new, *old),
            Self::LogStop(s, old, new) => Self::LogStart(s.clone(), *new, *old),
            Self::CoalescedAdd(s, addr, size) => Self::CoalescedDel(s.clone(), *addr, *size),
            Self::CoalescedDel(s, addr, size) => Self::CoalescedAdd(s.clone(), *addr, *size),
            Self::EventFdAdd(e) => Self::EventFdDel(e.clone()),
            Self::EventFdDel(e) => Self::EventFdAdd(e.clone()),
            Self::GlobalStart => Self::GlobalStop,
            Self::GlobalStop => Self::GlobalStart,
        })
    }

    fn concerns(&self, entry: &Entry) -> bool {
        let heard = self.place().is_none_or(|(space, _)| entry.hears(space));
        heard && entry.works() && (entry.wants_nop || !matches!(self, Self::Nop(_)))
    }

    fn make(&self, listener: &dyn MemoryListener) -> Result<(), ListenerError> {
        match self {
            Self::Begin => listener.begin(),
            Self::Commit => listener.commit(),
            Self::Add(s) => listener.region_add(s),
            Self::Del(s) => listener.region_del(s),
            Self::Nop(s) => listener.region_nop(s),
            Self::LogStart(s, old, new) => listener.log_start(s, *old, *new),
            Self::LogStop(s, old, new) => listener.log_stop(s, *old, *new),
            Self::CoalescedAdd(s, addr, size) => listener.coalesced_io_add(s, *addr, *size),
            Self::CoalescedDel(s, addr, size) => listener.coalesced_io_del(s, *addr, *size),
            Self::EventFdAdd(e) => listener.eventfd_add(e),
            Self::EventFdDel(e) => listener.eventfd_del(e),
            Self::GlobalStart => listener.log_global_start(),
            Self::GlobalStop => {
                listener.log_global_stop();
                Ok(())
            }
        }
    }
}

/// What a listener's code gave instead of an answer.
pub(super) struct Refusal {
    error: ListenerError,
    panic: Option<Box<dyn Any + Send>>,
}

/// Runs a listener's code. A panic must not leave a commit half told: it is held until the rest is put back.
fn run(
    entry: &Entry,
    f: impl FnOnce(&dyn MemoryListener) -> Result<(), ListenerError>,
) -> Result<(), Refusal> {
    match catch_unwind(AssertUnwindSafe(|| f(&*entry.listener))) {
        Ok(result) => result.map_err(|error| Refusal { error, panic: None }),
        Err(panic) => {
            // Nobody knows how far it came.
            let error = ListenerError::new("it panicked");
            entry.fail(error.clone());
            Err(Refusal { error, panic: Some(panic) })
        }
    }
}

/// An error for the one who changed the map, and a panic that is to go on once everything is put back.
pub(crate) struct Failure {
    pub error: MemoryError,
    pub panic: Option<Box<dyn Any + Send>>,
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        Self { error, panic: None }
    }
}

/// Asks every listener whether it can follow. If one cannot, those who had agreed are told that nothing comes of it.
pub(crate) fn prepare(delta: &Delta, entries: &[Arc<Entry>]) -> Result<(), Failure> {
    for (at, entry) in entries.iter().enumerate().filter(|(_, e)| e.works()) {
        if let Err(refusal) = run(entry, |l| l.prepare(delta)) {
            let (name, reason) = (Arc::clone(&entry.name), refusal.error.shared());
            let mut panic = refusal.panic;
            for agreed in entries.iter().take(at).rev().filter(|e| e.works()) {
                let told = run(agreed, |l| {
                    l.cancel(delta);
                    Ok(())
                });
                panic = panic.or(told.err().and_then(|r| r.panic));
            }
            return Err(Failure { error: MemoryError::ListenerRefused { name, reason }, panic });
        }
    }
    Ok(())
}

/// Calls in the order in which they are to be made.
pub(crate) struct Plan(Vec<Call>);

impl Plan {
    /// What listeners must be told of a commit.
    pub fn of(delta: &Delta, entries: &[Arc<Entry>]) -> Self {
        let mut calls = Vec::new();
        if delta.global_log() == Some(true) {
            calls.push(Call::GlobalStart);
        }
        if delta.is_touched() {
            calls.push(Call::Begin);
        }
        for space in delta.told() {
            let nop = delta.is_touched() && entries.iter().any(|e| e.wants_nop && e.hears(space.space()));
            gone(&mut calls, space);
            present(&mut calls, space, nop);
            eventfds(&mut calls, space);
        }
        if delta.is_touched() {
            calls.push(Call::Commit);
        }
        if delta.global_log() == Some(false) {
            calls.push(Call::GlobalStop);
        }
        Self(calls)
    }

    /// What a new listener must be told of what is there already.
    pub fn replay<'v>(views: impl Iterator<Item = (SpaceId, &'v Arc<FlatView>)>, logging: bool) -> Self {
        let mut calls = vec![Call::Begin];
        if logging {
            calls.push(Call::GlobalStart);
        }
        for (space, view) in views {
            for section in view.ranges().filter_map(|r| Section::at(space, view, r.start())) {
                let Some(range) = section.range() else { continue };
                calls.push(Call::Add(section.clone()));
                let coalesced = coalesced_in(range).into_iter();
                calls.extend(coalesced.map(|(addr, size)| Call::CoalescedAdd(section.clone(), addr, size)));
                let log = range.log_mask();
                if log != 0 {
                    calls.push(Call::LogStart(section, 0, log));
                }
            }
            calls.extend(all_eventfds(view, space).into_iter().map(Call::EventFdAdd));
        }
        calls.push(Call::Commit);
        Self(calls)
    }

    /// What a listener must be told that goes.
    pub fn teardown<'v>(views: impl Iterator<Item = (SpaceId, &'v Arc<FlatView>)>, logging: bool) -> Self {
        let mut calls = vec![Call::Begin];
        for (space, view) in views {
            for section in view.ranges().filter_map(|r| Section::at(space, view, r.start())) {
                let Some(range) = section.range() else { continue };
                let log = range.log_mask();
                if log != 0 {
                    calls.push(Call::LogStop(section.clone(), log, 0));
                }
                let coalesced = coalesced_in(range).into_iter();
                calls.extend(coalesced.map(|(addr, size)| Call::CoalescedDel(section.clone(), addr, size)));
                calls.push(Call::Del(section));
            }
            calls.extend(all_eventfds(view, space).into_iter().map(Call::EventFdDel));
        }
        if logging {
            calls.push(Call::GlobalStop);
        }
        calls.push(Call::Commit);
        Self(calls)
    }

    /// Makes the calls on everybody whom they concern.
    pub fn tell(self, entries: &[Arc<Entry>]) -> Result<(), Box<Half>> {
        let mut made = Vec::new();
        for (call_at, call) in self.0.iter().enumerate() {
            let count = entries.len();
            for i in 0..count {
                let at = if call.is_reverse() { count - 1 - i } else { i };
                let Some(entry) = entries.get(at).filter(|e| call.concerns(e)) else { continue };
                if let Err(refusal) = run(entry, |l| call.make(l)) {
                    let error = MemoryError::ListenerFailed {
                        name: Arc::clone(&entry.name),
                        callback: call.name(),
                        address: call.place().map_or(0, |(_, addr)| addr),
                        reason: refusal.error.shared(),
                    };
                    let failure = Failure { error, panic: refusal.panic };
                    return Err(Box::new(Half { plan: self, made, failure }));
                }
                made.push((call_at, at));
            }
        }
        Ok(())
    }

    /// Makes the calls on one listener whatever it answers; gives its first refusal.
    pub fn tell_regardless(self, entry: &Arc<Entry>) -> Result<(), Failure> {
        let mut first = None;
        for call in self.0.iter() {
            if call.concerns(entry)
                && let Err(refusal) = run(entry, |l| call.make(l))
                && first.is_none()
            {
                let error = MemoryError::ListenerFailed {
                    name: Arc::clone(&entry.name),
                    callback: call.name(),
                    address: call.place().map_or(0, |(_, addr)| addr),
                    reason: refusal.error.shared(),
                };
                first = Some(Failure { error, panic: refusal.panic });
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// The first pass over a space: what is gone, in ascending order, the coalesced ranges of a range before the range.
fn gone(calls: &mut Vec<Call>, space: &SpaceDelta) {
    let mut coalesced = space.coalesced_removed().peekable();
    for section in space.removed() {
        let before = |(c, ..): &(Section, _, _)| c.offset_in_space <= section.offset_in_space;
        while let Some((c, addr, size)) = coalesced.next_if(before) {
            calls.push(Call::CoalescedDel(c, addr, size));
        }
        calls.push(Call::Del(section));
    }
    calls.extend(coalesced.map(|(c, addr, size)| Call::CoalescedDel(c, addr, size)));
}

/// The ioeventfds of a space: what is gone and what is new together, in ascending order.
fn eventfds(calls: &mut Vec<Call>, space: &SpaceDelta) {
    let mut gone = space.eventfds_removed().iter().cloned().peekable();
    for new in space.eventfds_added() {
        while let Some(gone) = gone.next_if(|g| g.is_before(new)) {
            calls.push(Call::EventFdDel(gone));
        }
        calls.push(Call::EventFdAdd(new.clone()));
    }
    calls.extend(gone.map(Call::EventFdDel));
}

/// The second pass over a space: what is there, in ascending order.
fn present(calls: &mut Vec<Call>, space: &SpaceDelta, nop: bool) {
    let mut coalesced = space.coalesced_added().peekable();
    for (at, became) in space.present(nop) {
        // Of the ranges before this one: those that are new were told, the others are as they were.
        while let Some((c, addr, size)) = coalesced.next_if(|(c, ..)| c.offset_in_space < at) {
            calls.push(Call::CoalescedAdd(c, addr, size));
        }
        let Some(section) = Section::at(space.space(), space.new_view(), at) else { continue };
        let now = section.range().map_or(0, |r| r.log_mask());
        match became {
            Became::New => calls.push(Call::Add(section)),
            Became::Nop => calls.push(Call::Nop(section)),
            Became::Logged { old } => {
                if nop {
                    calls.push(Call::Nop(section.clone()));
                }
                if now & !old != 0 {
                    calls.push(Call::LogStart(section.clone(), old, now));
                }
                if old & !now != 0 {
                    calls.push(Call::LogStop(section, old, now));
                }
            }
        }
    }
    calls.extend(coalesced.map(|(c, addr, size)| Call::CoalescedAdd(c, addr, size)));
}

/// Whether a range shows bytes of a block whose writes are logged. It is the block that has the bits: another region's
/// window of it is written through other addresses, and other hardware may have noted that.
fn is_logged(range: &FlatRange, block: Option<&Arc<RamBlock>>) -> bool {
    let of = |only: &Arc<RamBlock>| range.block().is_some_and(|(shown, _)| Arc::ptr_eq(shown, only));
    range.log_mask() != 0 && block.is_none_or(of)
}

/// Has every listener bring what it logged into the bitmaps: of one block, wherever it is seen, or of all.
pub(crate) fn log_sync(
    entries: &[Arc<Entry>],
    views: &[(SpaceId, Arc<FlatView>)],
    block: Option<&Arc<RamBlock>>,
) -> Result<(), Failure> {
    for entry in entries.iter().filter(|e| e.works()) {
        if entry.syncs_globally {
            log_call(entry, |l| l.log_sync_global())?;
            continue;
        }
        for (space, view) in views.iter().filter(|(space, _)| entry.hears(*space)) {
            let logged = view.ranges().filter(|r| is_logged(r, block));
            for section in logged.filter_map(|r| Section::at(*space, view, r.start())) {
                log_call(entry, |l| l.log_sync(&section))?;
            }
        }
    }
    Ok(())
}

/// Tells every listener that dirty bits of these parts of a block, each an offset and a size in bytes, were cleared.
pub(crate) fn log_clear(
    entries: &[Arc<Entry>],
    views: &[(SpaceId, Arc<FlatView>)],
    block: &Arc<RamBlock>,
    parts: &[(u64, u128)],
) -> Result<(), Failure> {
    for entry in entries.iter().filter(|e| e.works()) {
        for (space, view) in views.iter().filter(|(space, _)| entry.hears(*space)) {
            for range in view.ranges().filter(|r| is_logged(r, Some(block))) {
                let Some((_, offset)) = range.block() else { continue };
                let shift = i128::from(range.start()) - i128::from(offset);
                let windows = parts.iter().filter_map(|(offset, size)| {
                    Span::sized(*offset, *size)?.moved_into(shift, crate::WHOLE)
                });
                for section in windows.filter_map(|w| Section::of(*space, view, range, w)) {
                    log_call(entry, |l| l.log_clear(&section))?;
                }
            }
        }
    }
    Ok(())
}

/// A call that cannot fail, but may panic.
fn log_call(entry: &Entry, f: impl FnOnce(&dyn MemoryListener)) -> Result<(), Failure> {
    let told = run(entry, |l| {
        f(l);
        Ok(())
    });
    told.map_err(|refusal| Failure {
        error: MemoryError::ListenerFailed {
            name: Arc::clone(&entry.name),
            callback: "log_sync or log_clear",
            address: 0,
            reason: refusal.error.shared(),
        },
        panic: refusal.panic,
    })
}

/// A plan that somebody could not follow, as far as it came.
pub(crate) struct Half {
    plan: Plan,
    /// The calls that were made: which, and on whom.
    made: Vec<(usize, usize)>,
    failure: Failure,
}

impl Half {
    /// Takes back what was told: to whom it was told already that the commit is over, that another begins; then the
    /// opposite of every call, in reverse order; then to all, that this is over.
    pub fn take_back(self, entries: &[Arc<Entry>]) -> Failure {
        let Self { plan, made, mut failure } = self;
        let call = |at: &usize| plan.0.get(*at);
        let mut tell = |call: &Call, at: usize| {
            let Some(entry) = entries.get(at).filter(|e| call.concerns(e)) else { return };
            let Err(refusal) = run(entry, |l| call.make(l)) else { return };
            entry.fail(refusal.error.clone());
            failure.panic = failure.panic.take().or(refusal.panic);
            // The first one is named; all are marked.
            if !matches!(failure.error, MemoryError::ListenerBroken { .. }) {
                failure.error = MemoryError::ListenerBroken {
                    name: Arc::clone(&entry.name),
                    callback: call.name(),
                    reason: refusal.error.shared(),
                    cause: Box::new(failure.error.clone()),
                };
            }
        };
        let who = |wanted: fn(&Call) -> bool| {
            let of = |(c, at): &(usize, usize)| call(c).filter(|c| wanted(c)).map(|_| *at);
            made.iter().filter_map(of).collect::<Vec<_>>()
        };
        for at in who(|c| matches!(c, Call::Commit)) {
            tell(&Call::Begin, at);
        }
        for (c, at) in made.iter().rev() {
            if let Some(opposite) = call(c).and_then(Call::opposite) {
                tell(&opposite, *at);
            }
        }
        for at in who(|c| matches!(c, Call::Begin)) {
            tell(&Call::Commit, at);
        }
        failure
    }
}
