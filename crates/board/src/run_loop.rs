//! The machine's thread: what runs, what stops it, and what it does for those who ask.
//!
//! It carries out what is in [`requests`](crate::requests), one after the other, and runs the timers of a clock that goes by
//! itself. It is no device and no front end. What must always hold: every change of the run state is an event to each
//! subscriber, in one order for all, and comes before the answer to who asked for it.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use flatview::Memory;
use flatview_device::{Clock, Log};
use parking_lot::{Condvar, Mutex};

use crate::RequestError;
use crate::builder::Parts;
use crate::cpus::CpuThread;
use crate::debug::{DebugStop, Debugged, Resume};
use crate::dirty_rate::DirtyRates;
use crate::dump::{Dumps, ElfTarget};
use crate::requests::{Requests, Work};
use crate::state::{Cause, Event, EventKind, Request, RunState};

/// What the machine's thread and its handles share.
pub(crate) struct Core {
    pub memory: Memory,
    pub clock: Clock,
    pub parts: Parts,
    pub cpus: Vec<CpuThread>,
    pub log: Log,
    /// Whose memory it is, for dumps.
    pub elf_target: ElfTarget,
    pub no_reboot: bool,
    pub no_shutdown: bool,
    pub requests: Arc<Requests>,
    pub dumps: Dumps,
    pub dirty_rate: DirtyRates,
    pub debugged: Debugged,
    pub status: Mutex<Status>,
    pub ended: Condvar,
}

pub(crate) struct Status {
    pub run_state: RunState,
    /// Why a debugger has stopped it, in the state [`RunState::Debug`].
    pub debug_stop: Option<DebugStop>,
    /// Timers wait: a debugger steps.
    pub quiet: bool,
    pub subscribers: Vec<Sender<Event>>,
    /// The exit status, once it has quit.
    pub exit: Option<i32>,
}

impl Core {
    /// Has something done by the machine's thread and waits until it is.
    pub fn perform(&self, work: Work) -> Result<(), RequestError> {
        self.requests.ask(work).recv().unwrap_or(Err(RequestError::HasQuit))
    }

    /// The thread: until the end.
    pub fn run(&self) {
        // Resets that nobody waits for, until a dump is done.
        let mut postponed = Vec::new();
        let exit = loop {
            // A stepped clock's timers run where it is stepped, a counted clock's on the CPU's thread.
            let by_itself = !self.clock.is_stepped() && !self.clock.is_counted();
            let limit = if !by_itself || self.status.lock().quiet {
                None
            } else {
                self.clock.run_due();
                self.clock.nanoseconds_to_next().map(Duration::from_nanos)
            };
            let Some((work, answer)) = self.requests.next(limit) else { continue };
            let (result, exit) = match work {
                Work::DumpBegins => self.dump_begins(),
                Work::DumpEnds(event) => {
                    for (request, braked) in postponed.drain(..) {
                        match braked {
                            true => self.requests.push_braked(request),
                            false => self.requests.push(request),
                        }
                    }
                    self.dump_ends(event)
                }
                Work::Request(request @ Request::SystemReset(_))
                    if answer.is_none() && self.dumps.in_process() =>
                {
                    postponed.push((request, false));
                    continue;
                }
                Work::Guest(request @ Request::SystemReset(_)) if self.dumps.in_process() => {
                    postponed.push((request, true));
                    continue;
                }
                Work::Request(request) => self.carry_out(request),
                Work::Guest(request) => {
                    let (result, exit) = self.carry_out(request);
                    // At the end no instruction is done any more.
                    if exit.is_none() {
                        self.cpus.iter().for_each(CpuThread::release);
                    }
                    (result, exit)
                }
                Work::DebugResume(resume) => self.debug_resume(&resume),
                Work::CpuStopped(number) => self.cpu_stopped(number),
                Work::CpuReset { braked } => {
                    self.reset_cpus();
                    if braked {
                        self.cpus.iter().for_each(CpuThread::release);
                    }
                    (Ok(()), None)
                }
            };
            if let Some(answer) = answer {
                let _ = answer.send(result);
            }
            if let Some(exit) = exit {
                break exit;
            }
        };
        for cpu in &self.cpus {
            cpu.quit();
        }
        self.clock.stop();
        for backend in &self.parts.backends {
            backend.flush();
        }
        self.dirty_rate.cancel();
        self.dumps.cancel();
        self.requests.close();
        let mut status = self.status.lock();
        status.run_state = RunState::Shutdown;
        status.subscribers.clear();
        status.exit = Some(exit);
        self.ended.notify_all();
    }

    /// Does what a request asks for; the exit status if that was the end.
    fn carry_out(&self, request: Request) -> (Result<(), RequestError>, Option<i32>) {
        match request {
            Request::SystemReset(_) | Request::Stop | Request::Continue if self.dumps.in_process() => {
                return (Err(RequestError::DumpInProcess), None);
            }
            Request::SystemReset(cause) if self.no_reboot => return self.switch_off(cause),
            Request::SystemReset(cause) => {
                self.reset();
                // As in QEMU: what stands still is then as it was before its start.
                let mut status = self.status.lock();
                if matches!(status.run_state, RunState::Paused | RunState::Shutdown) {
                    status.run_state = RunState::Prelaunch;
                }
                drop(status);
                if self.run_state().is_running() {
                    // One that has stopped for a debugger meanwhile begins anew too.
                    self.go_on();
                }
                self.tell(EventKind::Reset { cause });
            }
            Request::Powerdown => self.tell(EventKind::Powerdown),
            Request::Shutdown(cause) => return self.switch_off(cause),
            Request::Quit(cause) => return self.end(cause),
            Request::Stop => {
                let state = self.status.lock().run_state;
                match state {
                    RunState::Running => {
                        self.stand_still();
                        self.change(RunState::Paused, EventKind::Stop);
                    }
                    // The dump is written, and it will not go on.
                    RunState::SaveVm => self.status.lock().run_state = RunState::Paused,
                    RunState::Prelaunch | RunState::Paused | RunState::Debug | RunState::Shutdown => {}
                }
            }
            Request::Continue => {
                let state = self.status.lock().run_state;
                match state {
                    RunState::Shutdown => return (Err(RequestError::ResetRequired), None),
                    RunState::Running => {}
                    RunState::Prelaunch | RunState::Paused | RunState::Debug | RunState::SaveVm => {
                        self.change(RunState::Running, EventKind::Resume);
                        self.go_on();
                    }
                }
            }
        }
        (Ok(()), None)
    }

    /// Lets CPUs go on as a debugger says: those that it does not name stand.
    fn debug_resume(&self, resume: &Resume) -> (Result<(), RequestError>, Option<i32>) {
        if self.dumps.in_process() {
            return (Err(RequestError::DumpInProcess), None);
        }
        match self.run_state() {
            RunState::Shutdown => (Err(RequestError::ResetRequired), None),
            RunState::Running => (Ok(()), None),
            RunState::Prelaunch | RunState::Paused | RunState::Debug | RunState::SaveVm => {
                self.change(RunState::Running, EventKind::Resume);
                self.status.lock().quiet = resume.is_quiet();
                self.clock.start();
                for (number, cpu) in self.cpus.iter().enumerate() {
                    if let Some(how) = resume.of(number) {
                        cpu.go_on(how);
                    }
                }
                (Ok(()), None)
            }
        }
    }

    /// Stops the machine because one of its CPUs stopped for a debugger, unless that was overtaken.
    fn cpu_stopped(&self, number: usize) -> (Result<(), RequestError>, Option<i32>) {
        let why = self.cpus.get(number).and_then(CpuThread::take_stop);
        if let Some(why) = why
            && self.run_state().is_running()
        {
            self.stand_still();
            self.status.lock().debug_stop = Some(DebugStop { cpu: number, why });
            self.change(RunState::Debug, EventKind::Stop);
        }
        (Ok(()), None)
    }

    fn dump_begins(&self) -> (Result<(), RequestError>, Option<i32>) {
        if self.run_state().is_running() {
            self.stand_still();
            self.change(RunState::SaveVm, EventKind::Stop);
        }
        (Ok(()), None)
    }

    fn dump_ends(&self, event: Option<EventKind>) -> (Result<(), RequestError>, Option<i32>) {
        if let Some(event) = event {
            self.tell(event);
        }
        if self.run_state() == RunState::SaveVm {
            self.change(RunState::Running, EventKind::Resume);
            self.go_on();
        }
        (Ok(()), None)
    }

    fn run_state(&self) -> RunState {
        self.status.lock().run_state
    }

    /// What the guest ends: the program too, unless that is to stay.
    fn switch_off(&self, cause: Cause) -> (Result<(), RequestError>, Option<i32>) {
        if !self.no_shutdown {
            return self.end(cause);
        }
        self.tell(EventKind::Shutdown { cause });
        let state = self.run_state();
        if state.is_running() {
            self.stand_still();
            self.change(RunState::Shutdown, EventKind::Stop);
        } else {
            self.status.lock().run_state = RunState::Shutdown;
        }
        (Ok(()), None)
    }

    fn end(&self, cause: Cause) -> (Result<(), RequestError>, Option<i32>) {
        self.tell(EventKind::Shutdown { cause });
        (Ok(()), Some(0))
    }

    /// Guest code and time go on.
    pub fn go_on(&self) {
        self.status.lock().quiet = false;
        self.clock.start();
        for cpu in &self.cpus {
            cpu.start();
        }
    }

    /// Guest code and time stand still, when this returns.
    fn stand_still(&self) {
        for cpu in &self.cpus {
            cpu.stop();
        }
        self.clock.stop();
        self.status.lock().quiet = false;
    }

    /// Devices to their first state, in the order of the board; then ROM as it was loaded, and the CPUs.
    pub fn reset(&self) {
        let mut held: Vec<_> = self.cpus.iter().map(CpuThread::hold).collect();
        for device in &self.parts.resets {
            device.reset();
        }
        let space = self.memory.memory_space();
        for rom in &self.parts.roms {
            // What the board checked against its ROM fits; a kernel may lie where this board has no RAM.
            let _ = space.poke(rom.addr, &rom.data);
        }
        for cpu in held.iter_mut().filter_map(|held| held.cpu()) {
            cpu.reset(self.parts.entry);
        }
    }

    /// The CPUs as by their reset line; devices and memory stay as they are.
    fn reset_cpus(&self) {
        let mut held: Vec<_> = self.cpus.iter().map(CpuThread::hold).collect();
        for cpu in held.iter_mut().filter_map(|held| held.cpu()) {
            cpu.reset(self.parts.entry);
        }
    }

    /// Tells all subscribers.
    pub fn tell(&self, kind: EventKind) {
        let event = Event::now(kind);
        self.status.lock().subscribers.retain(|subscriber| subscriber.send(event.clone()).is_ok());
    }

    fn change(&self, run_state: RunState, kind: EventKind) {
        {
            let mut status = self.status.lock();
            status.run_state = run_state;
            if run_state != RunState::Debug {
                status.debug_stop = None;
            }
        }
        self.tell(kind);
    }
}
