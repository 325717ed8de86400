//! The calls that follow from a delta, in QEMU's order, and the way back.
//!
//! What must hold (L2): a call is made on everybody it concerns before the next one is made on anybody; what was
//! called is remembered until all is told, so that it can be taken back in reverse order.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::delta::Became;
use super::{Delta, Entry, ListenerError, MemoryListener, SpaceDelta};
use crate::view::FlatView;
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
        }
    }

    fn section(&self) -> Option<&Section> {
        match self {
            Self::Begin | Self::Commit => None,
            Self::Add(s) | Self::Del(s) | Self::Nop(s) | Self::LogStart(s, ..) | Self::LogStop(s, ..) => {
                Some(s)
            }
        }
    }

    fn space(&self) -> Option<SpaceId> {
        self.section().map(|s| s.space)
    }

    /// Whether it goes from the highest priority to the lowest.
    fn is_reverse(&self) -> bool {
        matches!(self, Self::Del(_) | Self::LogStop(..))
    }

    /// What takes it back.
    fn opposite(&self) -> Option<Self> {
        Some(match self {
            Self::Begin | Self::Commit | Self::Nop(_) => return None,
            Self::Add(s) => Self::Del(s.clone()),
            Self::Del(s) => Self::Add(s.clone()),
            Self::LogStart(s, old, new) => Self::LogStop(s.clone(), *new, *old),
            Self::LogStop(s, old, new) => Self::LogStart(s.clone(), *new, *old),
        })
    }

    fn concerns(&self, entry: &Entry) -> bool {
        let heard = self.space().is_none_or(|space| entry.hears(space));
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
        let mut calls = vec![Call::Begin];
        for space in delta.told() {
            let nop = entries.iter().any(|e| e.wants_nop && e.hears(space.space()));
            calls.extend(space.removed().map(Call::Del));
            present(&mut calls, space, nop);
        }
        calls.push(Call::Commit);
        Self(calls)
    }

    /// What a new listener must be told of what is there already.
    pub fn replay<'v>(views: impl Iterator<Item = (SpaceId, &'v Arc<FlatView>)>) -> Self {
        let mut calls = vec![Call::Begin];
        for (space, view) in views {
            for section in view.ranges().filter_map(|r| Section::at(space, view, r.start())) {
                let log = section.range().map_or(0, |r| r.log_mask());
                calls.push(Call::Add(section.clone()));
                if log != 0 {
                    calls.push(Call::LogStart(section, 0, log));
                }
            }
        }
        calls.push(Call::Commit);
        Self(calls)
    }

    /// What a listener must be told that goes.
    pub fn teardown<'v>(views: impl Iterator<Item = (SpaceId, &'v Arc<FlatView>)>) -> Self {
        let mut calls = vec![Call::Begin];
        for (space, view) in views {
            for section in view.ranges().filter_map(|r| Section::at(space, view, r.start())) {
                let log = section.range().map_or(0, |r| r.log_mask());
                if log != 0 {
                    calls.push(Call::LogStop(section.clone(), log, 0));
                }
                calls.push(Call::Del(section));
            }
        }
        calls.push(Call::Commit);
        Self(calls)
    }

    /// Makes the calls on everybody whom they concern.
    pub fn tell(self, entries: &[Arc<Entry>]) -> Result<(), Half> {
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
                        address: call.section().map_or(0, |s| s.offset_in_space),
                        reason: refusal.error.shared(),
                    };
                    return Err(Half { plan: self, made, failure: Failure { error, panic: refusal.panic } });
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
                    address: call.section().map_or(0, |s| s.offset_in_space),
                    reason: refusal.error.shared(),
                };
                first = Some(Failure { error, panic: refusal.panic });
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// The second pass over a space: what is there, in ascending order.
fn present(calls: &mut Vec<Call>, space: &SpaceDelta, nop: bool) {
    for (at, became) in space.present(nop) {
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
