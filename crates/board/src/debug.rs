//! What a debugger does with a machine: looks at CPUs and memory, sets breakpoints and watchpoints, lets CPUs go on.
//!
//! It is no protocol: the gdb server, which speaks one, is a front end. What must always hold: looking has no effect on the
//! guest; breakpoints and watchpoints stay until they are removed, whatever is reset, and whoever set them.

use std::collections::BTreeMap;
use std::sync::Arc;

use flatview_cpu::{GuestCpu, PAGE_SIZE, Verdict, Watch, WatchId, WatchedAccess, Watcher};
use parking_lot::Mutex;

use crate::RequestError;
use crate::machine::Machine;
use crate::requests::Work;

/// Which accesses stop at a watchpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchKind {
    /// Stores.
    Write,
    /// Loads.
    Read,
    /// Both.
    Access,
}

/// What a watchpoint saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchHit {
    /// The first byte of the access that is watched, by the address that the watchpoint was set with.
    pub addr: u64,
    /// The watchpoint's kind.
    pub kind: WatchKind,
}

/// Why a CPU has stopped for a debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Before an instruction with a breakpoint.
    Breakpoint,
    /// At an access that is watched; nothing is known of it if the watcher was none of a debugger's.
    Watched(Option<WatchHit>),
    /// After the steps that it was to do.
    Step,
}

/// Why the machine is in the state [`RunState::Debug`](crate::RunState::Debug).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugStop {
    /// The CPU that stopped, counted from 0.
    pub cpu: usize,
    /// Why.
    pub why: StopReason,
}

/// Single steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps {
    /// Not one step but as many as it takes to leave these addresses: the first, and the first behind them.
    pub range: Option<(u64, u64)>,
    /// Interrupts are taken.
    pub interrupts: bool,
    /// Timers run.
    pub timers: bool,
}

impl Steps {
    /// Whether it goes on at an address.
    pub(crate) fn is_inside(self, pc: u64) -> bool {
        self.range.is_some_and(|(first, end)| (first..end).contains(&pc))
    }
}

/// How a CPU goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoOn {
    /// It runs.
    Run,
    /// It steps.
    Step(Steps),
}

/// Which CPUs go on, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resume {
    /// For CPUs that are named, by their number.
    pub named: BTreeMap<usize, GoOn>,
    /// For all others; `None` leaves them where they are.
    pub others: Option<GoOn>,
}

impl Resume {
    /// All of them run.
    #[must_use]
    pub fn all() -> Self {
        Self { named: BTreeMap::new(), others: Some(GoOn::Run) }
    }

    pub(crate) fn of(&self, cpu: usize) -> Option<GoOn> {
        self.named.get(&cpu).copied().or(self.others)
    }

    /// Whether timers wait.
    pub(crate) fn is_quiet(&self) -> bool {
        let quiet = |how: &GoOn| matches!(how, GoOn::Step(steps) if !steps.timers);
        self.named.values().chain(&self.others).any(quiet)
    }
}

/// What a debugger cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DebugError {
    /// No such CPU.
    #[error("There is no CPU {0}")]
    NoCpu(usize),
    /// Memory that the CPU does not map now.
    #[error("Nothing is mapped at virtual address {0:#x}")]
    Unmapped(u64),
    /// Memory that is not there, or that cannot be looked at without side effects.
    #[error("Physical address {0:#x} cannot be accessed without side effects")]
    Refused(u64),
    /// A watchpoint on nothing, or on too much.
    #[error("A watchpoint of {0} bytes cannot be; 1 to {MOST_WATCHED} can")]
    WatchLength(u64),
    /// No such breakpoint or watchpoint.
    #[error("There is none at {0:#x}")]
    NotSet(u64),
}

/// Bytes that one watchpoint covers at most.
pub const MOST_WATCHED: u64 = 1 << 20;

/// What the watchpoints of a CPU saw last.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastHit(Arc<Mutex<Option<WatchHit>>>);

impl LastHit {
    pub fn take(&self) -> Option<WatchHit> {
        self.0.lock().take()
    }
}

/// A part of a watchpoint that lies in one page.
struct WatchedPart {
    /// The addresses it was set with.
    va: u64,
    /// Where they lead.
    phys: u64,
    kind: WatchKind,
    hit: LastHit,
}

impl Watcher for WatchedPart {
    fn before(&self, access: &WatchedAccess) -> Verdict {
        let addr = self.va.wrapping_add(access.phys.saturating_sub(self.phys));
        *self.hit.0.lock() = Some(WatchHit { addr, kind: self.kind });
        Verdict::Break
    }
}

struct Watchpoint {
    va: u64,
    len: u64,
    kind: WatchKind,
    /// What it is made of: which CPU, and its watch there.
    parts: Vec<(usize, WatchId)>,
}

/// Breakpoints and watchpoints that debuggers have set.
#[derive(Default)]
pub(crate) struct Debugged {
    /// By address: how often each was set.
    breakpoints: Mutex<BTreeMap<u64, u32>>,
    watchpoints: Mutex<Vec<Watchpoint>>,
}

/// For debuggers. A machine that runs is held for as long as each of these takes; none may be called from inside an access.
impl Machine {
    /// How many CPUs there are that run guest code.
    pub fn cpu_count(&self) -> usize {
        self.core.cpus.len()
    }

    /// Does something with a CPU that stands still meanwhile.
    ///
    /// # Errors
    /// [`DebugError::NoCpu`].
    pub fn with_cpu<R>(
        &self,
        cpu: usize,
        what: impl FnOnce(&mut dyn GuestCpu) -> R,
    ) -> Result<R, DebugError> {
        let thread = self.core.cpus.get(cpu).ok_or(DebugError::NoCpu(cpu))?;
        thread.hold().cpu().map(what).ok_or(DebugError::NoCpu(cpu))
    }

    /// Why a debugger has stopped the machine, while it is in the state [`RunState::Debug`](crate::RunState::Debug).
    pub fn debug_stop(&self) -> Option<DebugStop> {
        self.core.status.lock().debug_stop
    }

    /// Lets CPUs go on, past breakpoints where they stand. A machine that runs is left as it is.
    ///
    /// # Errors
    /// As [`Machine::perform`] for [`Request::Continue`](crate::Request::Continue).
    pub fn debug_resume(&self, resume: Resume) -> Result<(), RequestError> {
        self.core.perform(Work::DebugResume(resume))
    }

    /// Where each part of a virtual range is, as a CPU's loads see it now: parts lie in one page each.
    fn parts(&self, cpu: usize, va: u64, len: u64) -> Result<Vec<(u64, u64, u64)>, DebugError> {
        self.with_cpu(cpu, |cpu| {
            let mut parts = Vec::new();
            let mut done = 0;
            while done < len {
                let at = va.wrapping_add(done);
                let here = (PAGE_SIZE - at % PAGE_SIZE).min(len - done);
                let phys = cpu.physical(at).ok_or(DebugError::Unmapped(at))?;
                parts.push((at, phys, here));
                done += here;
            }
            Ok(parts)
        })?
    }

    /// Looks at memory by virtual address, without side effects.
    ///
    /// # Errors
    /// [`DebugError::Unmapped`], [`DebugError::Refused`]; bytes up to there may have been filled in.
    pub fn debug_read(&self, cpu: usize, va: u64, buf: &mut [u8]) -> Result<(), DebugError> {
        let space = self.cpu_space();
        let mut rest = buf;
        for (_, phys, len) in self.parts(cpu, va, rest.len() as u64)? {
            let (here, behind) = rest.split_at_mut((len as usize).min(rest.len()));
            space.peek(phys, here).map_err(|_| DebugError::Refused(phys))?;
            rest = behind;
        }
        Ok(())
    }

    /// Writes memory by virtual address, ROM too, without side effects.
    ///
    /// # Errors
    /// As [`debug_read`](Self::debug_read); bytes up to there may have been written.
    pub fn debug_write(&self, cpu: usize, va: u64, bytes: &[u8]) -> Result<(), DebugError> {
        let space = self.cpu_space();
        let mut rest = bytes;
        for (_, phys, len) in self.parts(cpu, va, rest.len() as u64)? {
            let (here, behind) = rest.split_at((len as usize).min(rest.len()));
            space.poke(phys, here).map_err(|_| DebugError::Refused(phys))?;
            rest = behind;
        }
        Ok(())
    }

    /// Stops CPUs before the instruction at a virtual address. Set again, it is to be removed as often.
    pub fn add_breakpoint(&self, pc: u64) {
        let mut breakpoints = self.core.debugged.breakpoints.lock();
        let count = breakpoints.entry(pc).or_default();
        *count = count.saturating_add(1);
        if *count == 1 {
            for cpu in 0..self.cpu_count() {
                let _ = self.with_cpu(cpu, |cpu| cpu.add_breakpoint(pc));
            }
        }
    }

    /// Removes a breakpoint that was added.
    ///
    /// # Errors
    /// [`DebugError::NotSet`].
    pub fn remove_breakpoint(&self, pc: u64) -> Result<(), DebugError> {
        let mut breakpoints = self.core.debugged.breakpoints.lock();
        let count = breakpoints.get_mut(&pc).ok_or(DebugError::NotSet(pc))?;
        *count = count.saturating_sub(1);
        if *count == 0 {
            breakpoints.remove(&pc);
            for cpu in 0..self.cpu_count() {
                let _ = self.with_cpu(cpu, |cpu| cpu.remove_breakpoint(pc));
            }
        }
        Ok(())
    }

    /// Stops CPUs at accesses to what stands at a virtual range now: it is translated once, by CPU 0, and accesses through
    /// other addresses of the same memory stop too.
    ///
    /// # Errors
    /// [`DebugError::Unmapped`], [`DebugError::WatchLength`], [`DebugError::NoCpu`].
    pub fn add_watchpoint(&self, va: u64, len: u64, kind: WatchKind) -> Result<(), DebugError> {
        if len == 0 || len > MOST_WATCHED {
            return Err(DebugError::WatchLength(len));
        }
        let mut ids = Vec::new();
        for (va, phys, len) in self.parts(0, va, len)? {
            for (number, thread) in self.core.cpus.iter().enumerate() {
                let watch = Watch {
                    first: phys,
                    last: phys.saturating_add(len - 1),
                    reads: kind != WatchKind::Write,
                    writes: kind != WatchKind::Read,
                };
                let watcher = WatchedPart { va, phys, kind, hit: thread.last_hit().clone() };
                let id = self.with_cpu(number, |cpu| cpu.watches().add(watch, Arc::new(watcher)))?;
                ids.push((number, id));
            }
        }
        self.core.debugged.watchpoints.lock().push(Watchpoint { va, len, kind, parts: ids });
        Ok(())
    }

    /// Removes a watchpoint that was added.
    ///
    /// # Errors
    /// [`DebugError::NotSet`].
    pub fn remove_watchpoint(&self, va: u64, len: u64, kind: WatchKind) -> Result<(), DebugError> {
        let watchpoint = {
            let mut all = self.core.debugged.watchpoints.lock();
            let at = all.iter().position(|w| (w.va, w.len, w.kind) == (va, len, kind));
            all.remove(at.ok_or(DebugError::NotSet(va))?)
        };
        self.unwatch(&watchpoint);
        Ok(())
    }

    fn unwatch(&self, watchpoint: &Watchpoint) {
        for (cpu, id) in &watchpoint.parts {
            let _ = self.with_cpu(*cpu, |cpu| cpu.watches().remove(*id));
        }
    }

    /// Removes all breakpoints and watchpoints.
    pub fn clear_breakpoints(&self) {
        let breakpoints = std::mem::take(&mut *self.core.debugged.breakpoints.lock());
        for pc in breakpoints.into_keys() {
            for cpu in 0..self.cpu_count() {
                let _ = self.with_cpu(cpu, |cpu| cpu.remove_breakpoint(pc));
            }
        }
        let watchpoints = std::mem::take(&mut *self.core.debugged.watchpoints.lock());
        for watchpoint in &watchpoints {
            self.unwatch(watchpoint);
        }
    }
}
