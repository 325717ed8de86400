//! The threads that guest CPUs run on.
//!
//! What it is: a thread for each CPU that runs slices of guest code while the machine runs, and the way for others to have
//! it stand still. What it is not: a scheduler or a clock. What must always hold: while the machine is not running, or
//! somebody [holds](CpuThread::hold) the CPU, no guest instruction is done; a CPU that waits costs no host time.

use std::sync::Arc;
use std::thread::JoinHandle;

use flatview_cpu::{Exit, GuestCpu, Inputs};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::debug::{GoOn, LastHit, Steps, StopReason};
use crate::pace::Pace;
use crate::trace;

/// Instructions between two looks at whether to stand still; requests are seen at once.
const SLICE: u64 = 1_000_000;

/// What decides whether a CPU runs.
#[derive(Debug, Default)]
struct Gate {
    running: bool,
    /// How many want it to stand still.
    holds: u32,
    quit: bool,
    /// It does single steps for a debugger, rather than run.
    steps: Option<Steps>,
    /// It has stopped for a debugger, and the machine does not know yet.
    stopped: Option<StopReason>,
}

impl Gate {
    fn is_open(&self) -> bool {
        self.running && self.holds == 0 && !self.quit
    }
}

struct Shared {
    cpu: Mutex<Box<dyn GuestCpu>>,
    inputs: Arc<Inputs>,
    gate: Mutex<Gate>,
    changed: Condvar,
    /// What a debugger's watchpoint saw last.
    hit: LastHit,
    /// How time goes with its instructions, if it does.
    pace: Option<Pace>,
    /// Tells the machine that it has stopped for a debugger.
    tell: Box<dyn Fn() + Send + Sync>,
}

/// A CPU and its thread.
pub(crate) struct CpuThread {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A CPU that stands still.
pub(crate) struct Held<'a> {
    shared: &'a Shared,
    cpu: Option<MutexGuard<'a, Box<dyn GuestCpu>>>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.cpu = None;
        self.shared.gate.lock().holds -= 1;
        self.shared.changed.notify_all();
    }
}

impl Held<'_> {
    /// The CPU.
    pub fn cpu(&mut self) -> Option<&mut dyn GuestCpu> {
        self.cpu.as_mut().map(|cpu| &mut ***cpu as &mut dyn GuestCpu)
    }
}

impl CpuThread {
    /// A thread for a CPU, which stands still at first. With a `pace` the machine's time goes with its instructions. `tell`
    /// is called when it has stopped for a debugger.
    pub fn new(
        cpu: Box<dyn GuestCpu>,
        number: usize,
        pace: Option<Pace>,
        tell: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            inputs: cpu.inputs(),
            cpu: Mutex::new(cpu),
            gate: Mutex::default(),
            changed: Condvar::new(),
            hit: LastHit::default(),
            pace,
            tell: Box::new(tell),
        });
        let runner = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(format!("cpu-{number}")).spawn(move || {
            trace::thread_runs_cpu(number);
            runner.run();
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// What reaches it from outside.
    pub fn inputs(&self) -> Arc<Inputs> {
        Arc::clone(&self.shared.inputs)
    }

    /// Lets it run.
    pub fn start(&self) {
        self.begin(None);
    }

    /// Lets it go on as a debugger says, who knows of a breakpoint where it stands.
    pub fn go_on(&self, how: GoOn) {
        self.shared.cpu.lock().pass_breakpoint();
        self.begin(match how {
            GoOn::Run => None,
            GoOn::Step(steps) => Some(steps),
        });
    }

    fn begin(&self, steps: Option<Steps>) {
        let mut gate = self.shared.gate.lock();
        gate.running = true;
        gate.steps = steps;
        gate.stopped = None;
        self.shared.changed.notify_all();
    }

    /// Why it has stopped for a debugger, once; nothing if it was started again since.
    pub fn take_stop(&self) -> Option<StopReason> {
        self.shared.gate.lock().stopped.take()
    }

    /// Where watchpoints note what they saw.
    pub fn last_hit(&self) -> &LastHit {
        &self.shared.hit
    }

    /// Has it stand still, which it does when this returns.
    pub fn stop(&self) {
        self.shared.gate.lock().running = false;
        self.shared.inputs.stop();
        drop(self.shared.cpu.lock());
    }

    /// Has it stand still until what is given is dropped.
    pub fn hold(&self) -> Held<'_> {
        self.shared.gate.lock().holds += 1;
        self.shared.inputs.stop();
        Held { shared: &self.shared, cpu: Some(self.shared.cpu.lock()) }
    }

    /// What has it stand still, soon, until it is [released](Self::release); for the CPU's own thread too. It holds no CPU
    /// alive.
    pub fn brake(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.gate.lock().holds += 1;
                shared.inputs.stop();
            }
        }
    }

    /// Takes one [brake](Self::brake) away.
    pub fn release(&self) {
        let mut gate = self.shared.gate.lock();
        gate.holds = gate.holds.saturating_sub(1);
        drop(gate);
        self.shared.changed.notify_all();
    }

    /// Ends the thread.
    pub fn quit(&self) {
        self.shared.gate.lock().quit = true;
        self.shared.inputs.stop();
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic of guest code's thread has been told on standard error.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let steps = {
                let mut gate = self.gate.lock();
                if !gate.quit && !gate.is_open() {
                    // What was replaced meanwhile can be freed.
                    drop(gate);
                    self.cpu.lock().park();
                    gate = self.gate.lock();
                }
                while !gate.quit && !gate.is_open() {
                    self.changed.wait(&mut gate);
                }
                if gate.quit {
                    return;
                }
                gate.steps
            };
            let exit = {
                let mut cpu = self.cpu.lock();
                // Somebody may have come between.
                let gate = self.gate.lock();
                if !gate.is_open() || gate.steps != steps {
                    continue;
                }
                drop(gate);
                let exit = match steps {
                    None => self.slice(&mut **cpu),
                    Some(steps) => self.step(&mut **cpu, steps),
                };
                if let Ran::Waiting = exit {
                    cpu.park();
                }
                exit
            };
            match exit {
                Ran::On => {
                    if let Some(pace) = &self.pace {
                        pace.keep(&self.inputs);
                    }
                }
                Ran::Waiting => match &self.pace {
                    None => drop(self.inputs.wait(None)),
                    Some(pace) => pace.wait(&self.inputs),
                },
                Ran::Stopped(why) => {
                    let mut gate = self.gate.lock();
                    // Who has stopped or started it meanwhile does not ask why.
                    if gate.running && gate.steps == steps {
                        gate.running = false;
                        gate.stopped = Some(why);
                        drop(gate);
                        (self.tell)();
                    }
                }
            }
        }
    }

    fn slice(&self, cpu: &mut dyn GuestCpu) -> Ran {
        let budget = self.pace.as_ref().map_or(SLICE, |pace| pace.budget(SLICE));
        match cpu.run(budget) {
            Exit::Done | Exit::Asked => Ran::On,
            Exit::Waiting => Ran::Waiting,
            Exit::Breakpoint => Ran::Stopped(StopReason::Breakpoint),
            Exit::Watched => self.watched(cpu),
        }
    }

    fn watched(&self, cpu: &mut dyn GuestCpu) -> Ran {
        if !cpu.debug_watches_before() {
            cpu.finish_watched();
        }
        Ran::Stopped(StopReason::Watched(self.hit.take()))
    }

    /// Steps: one, or until it has left a range or somebody wants something.
    fn step(&self, cpu: &mut dyn GuestCpu, steps: Steps) -> Ran {
        loop {
            let exit = if steps.interrupts { cpu.step() } else { cpu.step_masked() };
            match exit {
                Exit::Asked => return Ran::On,
                Exit::Waiting => return Ran::Waiting,
                Exit::Breakpoint => return Ran::Stopped(StopReason::Breakpoint),
                Exit::Watched => return self.watched(cpu),
                Exit::Done => {}
            }
            let pc = cpu.pc();
            if !steps.is_inside(pc) {
                return Ran::Stopped(StopReason::Step);
            }
            if cpu.has_breakpoint(pc) {
                return Ran::Stopped(StopReason::Breakpoint);
            }
            if !self.gate.lock().is_open() {
                return Ran::On;
            }
        }
    }
}

/// What became of a slice.
#[derive(Debug, Clone, Copy)]
enum Ran {
    /// It can go on.
    On,
    /// It waits for an interrupt.
    Waiting,
    /// It stops for a debugger.
    Stopped(StopReason),
}
