//! The work of a dump: the file, the copying, how far it is, and the machine that stands still meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::blocks::{GuestPhysBlock, guest_phys_blocks};
use super::elf::core_header;
use super::{DumpError, DumpSpec};
use crate::requests::Work;
use crate::run_loop::Core;
use crate::state::EventKind;

/// Bytes that are copied at once; between two of them a dump can be cancelled and its progress is seen.
const CHUNK: u64 = 1 << 20;

/// How long a machine that quits waits for a dump to notice.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the last dump has come to (QMP: `DumpStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DumpStatus {
    /// There was none.
    #[default]
    None,
    /// It is being written.
    Active,
    /// The file is complete.
    Completed,
    /// It is not.
    Failed,
}

impl DumpStatus {
    /// QMP's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// How far the last dump is (QMP: `DumpQueryResult`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DumpInfo {
    /// What has become of it.
    pub status: DumpStatus,
    /// Bytes of memory that are in the file.
    pub completed: u64,
    /// Bytes of memory that will be, the file's headers not counted.
    pub total: u64,
}

impl DumpInfo {
    /// How much of it is done, in per cent.
    pub fn percent(&self) -> f64 {
        if self.total == 0 { 0.0 } else { 100.0 * self.completed as f64 / self.total as f64 }
    }
}

/// The one dump of a machine.
#[derive(Default)]
pub(crate) struct Dumps {
    state: Mutex<State>,
    ended: Condvar,
    completed: AtomicU64,
    cancelled: AtomicBool,
}

#[derive(Default)]
struct State {
    status: DumpStatus,
    total: u64,
    /// What went wrong.
    error: Option<Arc<str>>,
    /// Somebody prepares or writes it.
    busy: bool,
}

impl Dumps {
    /// Whether one is prepared or written at this moment.
    pub fn in_process(&self) -> bool {
        self.state.lock().busy
    }

    pub fn info(&self) -> DumpInfo {
        let state = self.state.lock();
        // Relaxed: a number for people; that the file is complete is told by the state, under its lock.
        let completed = self.completed.load(Ordering::Relaxed);
        DumpInfo { status: state.status, completed, total: state.total }
    }

    /// Why the last one failed.
    pub fn error(&self) -> Option<Arc<str>> {
        self.state.lock().error.clone()
    }

    fn begin(&self) -> Result<(), DumpError> {
        let mut state = self.state.lock();
        if state.busy {
            return Err(DumpError::InProcess);
        }
        *state = State { status: DumpStatus::Active, total: 0, error: None, busy: true };
        self.completed.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until none is.
    pub fn wait(&self) {
        let mut state = self.state.lock();
        while state.busy {
            self.ended.wait(&mut state);
        }
    }

    /// The machine quits: a dump that is being written ends, as a failed one.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        while state.busy && !self.ended.wait_until(&mut state, deadline).timed_out() {}
    }
}

/// The file. One that was made for this dump goes again if nothing was written to it.
struct Output {
    file: File,
    path: PathBuf,
    made: bool,
}

impl Output {
    /// Opens a file, making it if it is not there, and leaves its contents alone.
    fn open(path: &str) -> Result<Self, DumpError> {
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        // Nobody else may read a guest's memory.
        options.write(true).mode(0o600);
        let made = options.clone().create_new(true).open(&path);
        let opened = match made {
            Ok(file) => Ok((file, true)),
            // Or a link to a file that is not there yet.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                options.create(true).open(&path).map(|file| (file, false))
            }
            Err(e) => Err(e),
        };
        match opened {
            Ok((file, made)) => Ok(Self { file, path, made }),
            Err(source) => Err(DumpError::Open { path, source }),
        }
    }

    /// Refuses a file that is memory of the machine.
    fn check(&self, core: &Core) -> Result<(), DumpError> {
        match core.parts.objects.block_of_file(&self.file) {
            Some(block) => Err(DumpError::IsMemory { path: self.path.clone(), block }),
            None => Ok(()),
        }
    }

    /// From here on the file is the dump's. Devices and pipes have no length to cut.
    fn empty(&mut self) -> Result<(), DumpError> {
        let emptied =
            self.file.metadata().and_then(|m| if m.is_file() { self.file.set_len(0) } else { Ok(()) });
        emptied.map_err(|source| DumpError::Open { path: self.path.clone(), source })?;
        self.made = false;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.made {
            // An empty file that stays does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A dump that is ready to be written: the machine stands still.
struct Job {
    core: Arc<Core>,
    output: Output,
    head: Vec<u8>,
    blocks: Vec<GuestPhysBlock>,
    total: u64,
}

/// Carries out one dump, to its end or, detached, to where nothing is left that the caller could be told of.
pub(crate) fn dump(core: &Arc<Core>, spec: &DumpSpec) -> Result<(), DumpError> {
    if core.dumps.in_process() {
        return Err(DumpError::InProcess);
    }
    let (path, part) = (spec.check()?, spec.part()?);
    let output = Output::open(path)?;
    output.check(core)?;
    core.dumps.begin()?;
    let job = match Job::prepare(core, output, part) {
        Ok(job) => job,
        Err(error) => {
            end(core, Some(error.to_string().into()), None);
            return Err(error);
        }
    };
    if !spec.detach {
        return job.run();
    }
    // Its errors are in the event.
    let started = thread::Builder::new().name("dump".to_owned()).spawn(move || drop(job.run()));
    started.map(drop).map_err(|error| {
        let error = DumpError::Thread(error);
        end(core, Some(error.to_string().into()), None);
        error
    })
}

/// Ends the dump and lets the machine run again if it did; returns when all have been told.
fn end(core: &Core, error: Option<Arc<str>>, completed: Option<EventKind>) {
    let told = {
        let mut state = core.dumps.state.lock();
        state.status = if error.is_none() { DumpStatus::Completed } else { DumpStatus::Failed };
        state.error = error;
        state.busy = false;
        // Under the lock: who begins the next dump stops the machine after this one has let it go.
        core.requests.ask(Work::DumpEnds(completed))
    };
    core.dumps.ended.notify_all();
    // If it has quit there is nobody to be told.
    let _ = told.recv();
}

impl Job {
    fn prepare(core: &Arc<Core>, output: Output, part: Option<(u64, u64)>) -> Result<Self, DumpError> {
        core.perform(Work::DumpBegins)?;
        // A space that is gone shows nothing.
        let view = core.memory.memory_space().view().map_err(|_| DumpError::NoMemory)?;
        let mut blocks = guest_phys_blocks(&view);
        if let Some((begin, length)) = part {
            blocks = blocks.iter().filter_map(|block| block.part(begin, length)).collect();
        }
        if blocks.is_empty() {
            return Err(DumpError::NoMemory);
        }
        let head = core_header(core.elf_target, &blocks)?;
        // The head could be made, so the sum has less than 64 bits.
        let total = blocks.iter().fold(0, |sum: u64, block| sum.saturating_add(block.size));
        let mut output = output;
        output.empty()?;
        core.dumps.state.lock().total = total;
        Ok(Self { core: Arc::clone(core), output, head, blocks, total })
    }

    fn run(mut self) -> Result<(), DumpError> {
        let result = self.write();
        let status = if result.is_ok() { DumpStatus::Completed } else { DumpStatus::Failed };
        let info = DumpInfo { status, ..self.core.dumps.info() };
        let error: Option<Arc<str>> = result.as_ref().err().map(|error| error.to_string().into());
        end(&self.core, error.clone(), Some(EventKind::DumpCompleted { info, error }));
        result
    }

    fn write(&mut self) -> Result<(), DumpError> {
        let (path, total, dumps) = (&self.output.path, self.total, &self.core.dumps);
        let mut done = 0;
        let failed = |what, done, source| DumpError::Write { what, path: path.clone(), done, total, source };
        self.output.file.write_all(&self.head).map_err(|e| failed("write elf header", 0, e))?;
        let mut buffer = vec![0; CHUNK as usize];
        for block in &self.blocks {
            let mut at = 0;
            while at < block.size {
                if dumps.cancelled.load(Ordering::Relaxed) {
                    return Err(DumpError::Cancelled { path: path.clone(), done, total });
                }
                let size = CHUNK.min(block.size - at);
                let bytes = buffer.get_mut(..size as usize).unwrap_or_default();
                let read = block.memory.read(block.offset + at, bytes);
                read.map_err(|source| DumpError::Memory { path: path.clone(), done, total, source })?;
                self.output.file.write_all(bytes).map_err(|e| failed("save memory", done, e))?;
                at += size;
                done += size;
                dumps.completed.store(done, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
