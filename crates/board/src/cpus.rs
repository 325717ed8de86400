//! The threads that guest CPUs run on.
//!
//! What it is: a thread for each CPU that runs slices of guest code while the machine runs, and the way for others to have
//! it stand still. What it is not: a scheduler or a clock. What must always hold: while the machine is not running, or
//! somebody [holds](CpuThread::hold) the CPU, no guest instruction is done; a CPU that waits costs no host time.

use std::sync::Arc;
use std::thread::JoinHandle;

use flatview_cpu::{Exit, GuestCpu, Inputs};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Instructions between two looks at whether to stand still; requests are seen at once.
const SLICE: u64 = 1_000_000;

/// What decides whether a CPU runs.
#[derive(Debug, Default)]
struct Gate {
    running: bool,
    /// How many want it to stand still.
    holds: u32,
    quit: bool,
}

struct Shared {
    cpu: Mutex<Box<dyn GuestCpu>>,
    inputs: Arc<Inputs>,
    gate: Mutex<Gate>,
    changed: Condvar,
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
    /// A thread for a CPU, which stands still at first.
    pub fn new(cpu: Box<dyn GuestCpu>, number: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            inputs: cpu.inputs(),
            cpu: Mutex::new(cpu),
            gate: Mutex::default(),
            changed: Condvar::new(),
        });
        let runner = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(format!("cpu-{number}")).spawn(move || runner.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Lets it run.
    pub fn start(&self) {
        self.shared.gate.lock().running = true;
        self.shared.changed.notify_all();
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
            {
                let mut gate = self.gate.lock();
                if !gate.quit && (!gate.running || gate.holds > 0) {
                    // What was replaced meanwhile can be freed.
                    drop(gate);
                    self.cpu.lock().park();
                    gate = self.gate.lock();
                }
                while !gate.quit && (!gate.running || gate.holds > 0) {
                    self.changed.wait(&mut gate);
                }
                if gate.quit {
                    return;
                }
            }
            let exit = {
                let mut cpu = self.cpu.lock();
                // Somebody may have come between.
                let gate = self.gate.lock();
                if !gate.running || gate.holds > 0 || gate.quit {
                    continue;
                }
                drop(gate);
                let exit = cpu.run(SLICE);
                if exit == Exit::Waiting {
                    cpu.park();
                }
                exit
            };
            if exit == Exit::Waiting {
                self.inputs.wait(None);
            }
        }
    }
}
