//! A machine's gdb server: at most one, which comes and goes.

use super::session::{GdbSession, KillNotice};
use crate::session::{Served, serve};
use flatview_board::Machine;
use flatview_board::device::{CharBackend, CharError, CharSpec};
use parking_lot::Mutex;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;
use thiserror::Error;

/// Where `-s`, and `gdbserver` without a word, listen.
pub const DEFAULT: &str = "tcp::1234";

/// Why there is no gdb server.
#[derive(Debug, Error)]
pub enum GdbError {
    /// There is nothing to debug.
    #[error(
        "no CPU of the board '{0}' runs guest code here, so that there is nothing to debug (-M mips has one; with qtest none runs)"
    )]
    NoCpu(&'static str),
    /// The back end cannot be.
    #[error(transparent)]
    Backend(#[from] CharError),
    /// Somebody listens there.
    #[error(
        "Another program listens on {0}: end it, or choose another port, as in -gdb tcp::{1} and gdb's 'target remote :{1}'"
    )]
    InUse(String, u16),
    /// The host has no thread left.
    #[error("{0}")]
    Thread(#[from] io::Error),
    /// The machine has quit.
    #[error("the machine has quit")]
    HasQuit,
}

/// The back end that `-gdb` and `gdbserver` mean: over TCP a server that does not wait, whatever is said, as in QEMU.
///
/// # Errors
/// Those of [`CharSpec::parse`].
pub fn spec(text: &str) -> Result<CharSpec, CharError> {
    Ok(match CharSpec::parse(text)? {
        CharSpec::Tcp { host, port, .. } => CharSpec::Tcp { host, port, server: true, wait: false },
        other => other,
    })
}

/// Opens a back end for a server.
fn open(spec: &CharSpec) -> Result<Arc<dyn CharBackend>, GdbError> {
    spec.open("gdb").map_err(|error| match (&error, spec) {
        (CharError::Open { source, .. }, CharSpec::Tcp { host, port, .. })
            if source.kind() == io::ErrorKind::AddrInUse =>
        {
            let next = port.checked_add(1).unwrap_or(1234);
            GdbError::InUse(format!("tcp:{host}:{port}"), next)
        }
        _ => error.into(),
    })
}

/// A machine's gdb server.
pub struct GdbServer {
    machine: Weak<Machine>,
    running: Mutex<Option<Served>>,
    killed: Mutex<Option<KillNotice>>,
}

impl std::fmt::Debug for GdbServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GdbServer").field("runs", &self.running.lock().is_some()).finish_non_exhaustive()
    }
}

impl GdbServer {
    /// The machine's, which does not run at first.
    pub fn of(machine: &Arc<Machine>) -> Arc<Self> {
        machine.keep(|| Self {
            machine: Arc::downgrade(machine),
            running: Mutex::default(),
            killed: Mutex::default(),
        })
    }

    /// What is called when a debugger ends the machine.
    pub fn set_kill_notice(&self, notice: impl Fn() + Send + Sync + 'static) {
        *self.killed.lock() = Some(Arc::new(notice));
    }

    /// Starts it, in place of one that runs. `gone` is called each time a client has gone.
    ///
    /// # Errors
    /// [`GdbError`]; one that ran is stopped all the same.
    pub fn start(
        &self,
        spec: &CharSpec,
        gone: impl Fn() + Send + 'static,
    ) -> Result<Arc<dyn CharBackend>, GdbError> {
        self.stop();
        let machine = self.machine.upgrade().ok_or(GdbError::HasQuit)?;
        if !machine.has_cpu() {
            return Err(GdbError::NoCpu(machine.board().name));
        }
        let backend = open(spec)?;
        let killed = self.killed.lock().clone().unwrap_or_else(|| Arc::new(|| {}));
        let served = serve(backend.clone(), |waker| GdbSession::new(machine, waker, killed), gone)?;
        *self.running.lock() = Some(served);
        Ok(backend)
    }

    /// Ends it, if it runs. Breakpoints stay, and the machine as it is.
    pub fn stop(&self) {
        let served = self.running.lock().take();
        if let Some(served) = served {
            served.backend().flush();
            served.end();
        }
    }

    /// See [`Served::settle`].
    pub fn settle(&self, limit: Duration) {
        if let Some(served) = &*self.running.lock() {
            served.settle(limit);
            served.backend().flush();
        }
    }
}
