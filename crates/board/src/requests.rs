//! What waits to be carried out by the machine's thread, in the order in which it came.
//!
//! Only the queue; what is done is in [`run_loop`](crate::run_loop). What must always hold: once the queue is closed nobody
//! waits for an answer that will never come.

use std::collections::VecDeque;
use std::fmt;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::RequestError;
use crate::debug::Resume;
use crate::state::{EventKind, Request};

/// Something for the machine's thread.
#[derive(Debug)]
pub(crate) enum Work {
    /// What anybody can ask for.
    Request(Request),
    /// What the guest asks for, whose CPUs stand still until it is done.
    Guest(Request),
    /// Memory is about to be dumped: the machine must stand still.
    DumpBegins,
    /// It was dumped: it is told, and the machine runs again if it did.
    DumpEnds(Option<EventKind>),
    /// A debugger lets CPUs go on.
    DebugResume(Resume),
    /// A CPU has stopped for a debugger.
    CpuStopped(usize),
    /// The guest resets its CPUs and nothing else; whether they stand still until it is done.
    CpuReset {
        /// They do.
        braked: bool,
    },
}

pub(crate) type Answer = Sender<Result<(), RequestError>>;

/// What has the CPUs stand still.
struct Brake(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Brake(..)")
    }
}

/// Requests on their way to the machine's thread.
#[derive(Default)]
pub(crate) struct Requests {
    brake: OnceLock<Brake>,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Work, Option<Answer>)>,
    /// The thread should look at the clock again.
    look: bool,
    closed: bool,
}

impl Requests {
    /// Sets what has the CPUs stand still when the guest asks for something; who carries that out lets them go again.
    pub fn set_brake(&self, brake: impl Fn() + Send + Sync + 'static) {
        // There is one machine for these requests, which calls this once.
        let _ = self.brake.set(Brake(Box::new(brake)));
    }

    pub fn push(&self, request: Request) {
        match (self.brake.get(), request) {
            (Some(brake), Request::SystemReset(cause) | Request::Shutdown(cause)) if cause.is_guest() => {
                (brake.0)();
                self.push_braked(request);
            }
            _ => self.push_with(Work::Request(request), None),
        }
    }

    /// A request of the guest's whose CPUs stand still already.
    pub fn push_braked(&self, request: Request) {
        self.push_with(Work::Guest(request), None);
    }

    /// The guest resets its CPUs, and nothing else.
    pub fn reset_cpus(&self) {
        let brake = self.brake.get();
        if let Some(brake) = brake {
            (brake.0)();
        }
        self.push_with(Work::CpuReset { braked: brake.is_some() }, None);
    }

    /// The answer comes when it was carried out; once the machine has quit the channel is closed instead.
    pub fn ask(&self, work: Work) -> Receiver<Result<(), RequestError>> {
        let (answer, answered) = channel();
        self.push_with(work, Some(answer));
        answered
    }

    fn push_with(&self, work: Work, answer: Option<Answer>) {
        let mut queue = self.queue.lock();
        // Once closed, dropping the answer tells the asker that the machine has quit.
        if !queue.closed {
            queue.waiting.push_back((work, answer));
            self.arrived.notify_all();
        }
    }

    pub fn cpu_stopped(&self, number: usize) {
        self.push_with(Work::CpuStopped(number), None);
    }

    pub fn look(&self) {
        self.queue.lock().look = true;
        self.arrived.notify_all();
    }

    /// Waits for something to do, for `limit` at most if there is one.
    pub fn next(&self, limit: Option<Duration>) -> Option<(Work, Option<Answer>)> {
        let mut queue = self.queue.lock();
        if queue.waiting.is_empty() && !queue.look {
            match limit {
                Some(limit) => drop(self.arrived.wait_for(&mut queue, limit)),
                None => self.arrived.wait(&mut queue),
            }
        }
        queue.look = false;
        queue.waiting.pop_front()
    }

    /// Nothing is carried out any more.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.waiting.clear();
    }
}
