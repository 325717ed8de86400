//! What a machine is doing, what can be asked of it, and what happens to it: the words, as QMP has them.
//!
//! Only the words; who acts on them is the machine's thread.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::DumpInfo;

/// What a machine is doing (QMP's `RunState`, the part there is).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Made with `-S` and not yet told to start.
    Prelaunch,
    /// Time runs.
    Running,
    /// Told to stop.
    Paused,
    /// Stopped by a debugger: a breakpoint, a watchpoint or a step.
    Debug,
    /// Stopped for as long as its memory is dumped.
    SaveVm,
    /// The guest has ended it.
    Shutdown,
}

impl RunState {
    /// QMP's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Prelaunch => "prelaunch",
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::Debug => "debug",
            RunState::SaveVm => "save-vm",
            RunState::Shutdown => "shutdown",
        }
    }

    /// Whether time runs.
    pub fn is_running(self) -> bool {
        self == RunState::Running
    }
}

/// Why a machine resets or ends (QMP's `ShutdownCause`, the part there is).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A monitor's `quit`.
    HostQmpQuit,
    /// A monitor's `system_reset`.
    HostQmpSystemReset,
    /// A signal to the program.
    HostSignal,
    /// The user interface.
    HostUi,
    /// The guest switched itself off.
    GuestShutdown,
    /// The guest reset itself.
    GuestReset,
    /// Something on the host went wrong.
    HostError,
}

impl Cause {
    /// QMP's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::HostQmpQuit => "host-qmp-quit",
            Cause::HostQmpSystemReset => "host-qmp-system-reset",
            Cause::HostSignal => "host-signal",
            Cause::HostUi => "host-ui",
            Cause::GuestShutdown => "guest-shutdown",
            Cause::GuestReset => "guest-reset",
            Cause::HostError => "host-error",
        }
    }

    /// Whether the guest wanted it.
    pub fn is_guest(self) -> bool {
        matches!(self, Cause::GuestShutdown | Cause::GuestReset)
    }
}

/// What can be asked of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// All devices to their first state; with `no_reboot`, the end.
    SystemReset(Cause),
    /// Press the power button: the guest is told, if it has a device for that.
    Powerdown,
    /// The guest has switched itself off.
    Shutdown(Cause),
    /// Let time stand.
    Stop,
    /// Let time run.
    Continue,
    /// The end.
    Quit(Cause),
}

/// What happened to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It was reset.
    Reset {
        /// Why.
        cause: Cause,
    },
    /// Time stands.
    Stop,
    /// Time runs.
    Resume,
    /// It ends.
    Shutdown {
        /// Why.
        cause: Cause,
    },
    /// The power button was pressed.
    Powerdown,
    /// A device was pulled.
    DeviceDeleted {
        /// Its name, if the user gave one.
        device: Option<Arc<str>>,
        /// Its path in the object tree.
        path: Arc<str>,
    },
    /// A dump of its memory ended, well or not.
    DumpCompleted {
        /// What it has come to.
        info: DumpInfo,
        /// What went wrong.
        error: Option<Arc<str>>,
    },
}

impl EventKind {
    /// QMP's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::Reset { .. } => "RESET",
            EventKind::Stop => "STOP",
            EventKind::Resume => "RESUME",
            EventKind::Shutdown { .. } => "SHUTDOWN",
            EventKind::Powerdown => "POWERDOWN",
            EventKind::DeviceDeleted { .. } => "DEVICE_DELETED",
            EventKind::DumpCompleted { .. } => "DUMP_COMPLETED",
        }
    }

    /// Why, for those that have a reason.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            EventKind::Reset { cause } | EventKind::Shutdown { cause } => Some(*cause),
            EventKind::Stop
            | EventKind::Resume
            | EventKind::Powerdown
            | EventKind::DeviceDeleted { .. }
            | EventKind::DumpCompleted { .. } => None,
        }
    }
}

/// Something that happened, and when by the host's wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// Seconds since 1970.
    pub seconds: u64,
    /// Microseconds of that second.
    pub microseconds: u32,
}

impl Event {
    pub(crate) fn now(kind: EventKind) -> Event {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Event { kind, seconds: now.as_secs(), microseconds: now.subsec_micros() }
    }
}
