//! Runs a machine: opens what the options name, lets the front ends loose on it, waits for its end, cleans up.

use crate::frontends::{FrontEnds, Wire};
use crate::logging;
use crate::mux::Mux;
use crate::options::{Accel, Options};
use crate::progress;
use crate::terminal::{self, Modes};
use flatview_board::device::{CharBackend, CharSpec, Log};
use flatview_board::{Cause, Machine, MachineConfig, Request, RunState, SerialConfig};
use flatview_monitor::gdb::{GdbError, GdbServer};
use flatview_monitor::hmp::{HmpSession, LineEnd};
use flatview_monitor::qmp::QmpSession;
use flatview_monitor::qtest::QtestSession;
use flatview_monitor::{Served, os_error, serve};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;
use thiserror::Error;

/// How long the end of the program waits for a session to finish its answer.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Why a machine could not be run; `Display` follows `flatview: `.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct RunError(String);

fn failed(origin: impl Display, reason: impl Display) -> RunError {
    RunError(format!("{origin}: {reason}"))
}

fn warn(text: impl Display) {
    // Standard error that is gone can be told nothing.
    let _ = writeln!(io::stderr(), "flatview: {text}");
}

/// Runs the machine that `options` describe until it ends; gives the exit status.
///
/// # Errors
/// Whatever keeps the machine from starting: [`RunError`] names the option and the reason.
pub fn run(options: &Options) -> Result<i32, RunError> {
    let ends = FrontEnds::new(options).map_err(|e| RunError(e.to_string()))?;
    let log = logging::open(options, |text| warn(text)).map_err(RunError)?;
    let modes = Modes::save();

    // Back ends come before the machine: one that waits for its client holds the start up, as in QEMU.
    let machine: Arc<OnceLock<Arc<Machine>>> = Arc::default();
    let quit_later = machine.clone();
    let mut opened = Opened::default();
    let mut mux = None;
    let mut serials = Vec::new();
    for (number, wire) in ends.serials.iter().enumerate() {
        serials.push(match wire.spec {
            CharSpec::None | CharSpec::Vc => SerialConfig::Spec(wire.spec.clone()),
            CharSpec::Stdio { mux: true } => {
                let quit_later = quit_later.clone();
                let shared = Mux::new(opened.open(wire, "serial0")?, move || {
                    if let Some(machine) = quit_later.get() {
                        machine.request(Request::Quit(Cause::HostUi));
                    }
                })
                .map_err(|e| failed(&wire.origin, e))?;
                let serial = shared.serial();
                mux = Some(shared);
                SerialConfig::Backend(serial)
            }
            _ => SerialConfig::Backend(opened.open(wire, &format!("serial{number}"))?),
        });
    }
    let mut parallels = Vec::new();
    for (number, wire) in ends.parallels.iter().enumerate() {
        parallels.push(match wire.spec {
            CharSpec::None | CharSpec::Vc => SerialConfig::Spec(wire.spec.clone()),
            _ => SerialConfig::Backend(opened.open(wire, &format!("parallel{number}"))?),
        });
    }
    let serial_on_stdio = ends.serials.iter().any(|wire| matches!(wire.spec, CharSpec::Stdio { .. }));
    let on_terminal = |wire: &Wire| matches!(wire.spec, CharSpec::Stdio { .. }) && terminal::is_interactive();
    let mut labels = (0..).map(|n| format!("compat_monitor{n}"));
    let mut label = || labels.next().unwrap_or_default();
    let mut monitors = Vec::new();
    let mut edited_monitor = false;
    for wire in ends.monitors.iter().filter(|wire| wire.spec != CharSpec::None) {
        if on_terminal(wire) {
            edited_monitor = true;
        } else {
            monitors.push((wire, opened.open(wire, &label())?));
        }
    }
    let mut qmps = Vec::new();
    for wire in ends.qmps.iter().filter(|wire| wire.spec != CharSpec::None) {
        qmps.push((wire, opened.open(wire, &label())?));
    }
    let qtest_wire = ends.qtest.as_ref().filter(|wire| wire.spec != CharSpec::None);
    let qtest = match qtest_wire {
        Some(wire) => Some((wire, opened.open(wire, "qtest")?, qtest_log(options)?)),
        None => None,
    };

    let machine = {
        let made =
            Machine::new(config(options, serials, parallels, log)?).map_err(|e| RunError(e.to_string()))?;
        machine.get_or_init(|| made).clone()
    };
    for warning in machine.warnings() {
        warn(format_args!("warning: {warning}"));
    }
    let signals = quit_on_signals(machine.clone())?;
    // A monitor that echoes what is typed must be the only one that does, also where its output goes to a pipe.
    let echoing = monitors.iter().any(|(wire, _)| matches!(wire.spec, CharSpec::Stdio { .. }));
    if serial_on_stdio || echoing {
        modes.raw(mux.is_none());
    }

    // When standard input ends and nothing else can reach the machine, nobody could ever end it.
    let gdb_wire = ends.gdb.as_ref().filter(|wire| wire.spec != CharSpec::None && machine.has_cpu());
    let alone = !ends.reachable_elsewhere() && !gdb_wire.is_some_and(Wire::is_reachable);
    let input_ended = || {
        let machine = machine.clone();
        move || {
            if alone {
                // Nobody else could tell that the file is incomplete.
                machine.wait_for_dump();
                machine.request(Request::Quit(Cause::HostUi));
            }
        }
    };
    let gdb = GdbServer::of(&machine);
    gdb.set_kill_notice(|| warn("Terminated via GDBstub"));
    if let Some(wire) = ends.gdb.as_ref().filter(|wire| wire.spec != CharSpec::None) {
        match gdb.start(&wire.spec, when_stdio(wire, input_ended())) {
            Ok(backend) => opened.keep(wire, backend, "gdb"),
            // The rest of the session is of use without.
            Err(error @ GdbError::NoCpu(_)) => warn(format_args!("warning: {}: {error}", wire.origin)),
            Err(error) => return Err(failed(&wire.origin, error)),
        }
    }
    let mut sessions: Vec<Served> = Vec::new();
    let mut start = |served: io::Result<Served>, origin: &str| match served {
        Ok(served) => {
            sessions.push(served);
            Ok(())
        }
        Err(error) => Err(failed(origin, error)),
    };
    if let Some(mux) = &mux {
        let hmp = HmpSession::new(machine.clone(), LineEnd::Lf);
        let shared = machine.clone();
        // A running machine goes on without a console, as in QEMU.
        let ended = move || {
            shared.wait_for_dump();
            if alone && shared.run_state() != RunState::Running {
                shared.request(Request::Quit(Cause::HostUi));
            }
        };
        start(serve(mux.monitor(), |_| Ok(hmp), ended), "-nographic")?;
        mux.start();
    }
    for (wire, backend) in monitors {
        let end = if matches!(wire.spec, CharSpec::Stdio { .. } | CharSpec::File(_)) {
            LineEnd::Lf
        } else {
            LineEnd::CrLf
        };
        let hmp = HmpSession::new(machine.clone(), end);
        start(serve(backend, |_| Ok(hmp), when_stdio(wire, input_ended())), &wire.origin)?;
    }
    for (wire, backend) in qmps {
        let machine = machine.clone();
        let served = serve(backend, |waker| QmpSession::new(machine, waker), when_stdio(wire, input_ended()));
        start(served, &wire.origin)?;
    }
    if let Some((wire, backend, log)) = qtest {
        let machine = machine.clone();
        let served = serve(
            backend,
            |waker| Ok(QtestSession::new(machine, waker, log)),
            when_stdio(wire, input_ended()),
        );
        start(served, &wire.origin)?;
    }
    if edited_monitor {
        terminal::monitor(machine.clone(), input_ended()).map_err(|e| failed("-monitor stdio", e))?;
    }

    let status = machine.wait();
    for session in &sessions {
        session.settle(LAST_ANSWER);
    }
    gdb.settle(LAST_ANSWER);
    signals.close();
    drop(opened);
    drop(modes);
    Ok(status)
}

/// `ended` for a front end on standard input, nothing for others: their clients come and go.
fn when_stdio(wire: &Wire, ended: impl Fn() + Send + 'static) -> impl Fn() + Send + 'static {
    let stdio = matches!(wire.spec, CharSpec::Stdio { .. });
    move || {
        if stdio {
            ended();
        }
    }
}

fn config(
    options: &Options,
    serials: Vec<SerialConfig>,
    parallels: Vec<SerialConfig>,
    log: Log,
) -> Result<MachineConfig, RunError> {
    let Some(board) = options.board.clone() else {
        return Err(RunError(
            "No machine specified, and there is no default\nUse -machine help to list supported machines"
                .to_owned(),
        ));
    };
    Ok(MachineConfig {
        board,
        ram_size: options.ram_size,
        ram_slots: options.ram_slots,
        ram_max: options.ram_max,
        memory_backend: options.memory_backend.clone(),
        mem_path: options.mem_path.clone(),
        mem_prealloc: options.mem_prealloc,
        rtc: options.rtc,
        icount: options.icount,
        memory_backends: options.memory_backends.clone(),
        prealloc_hook: progress::hook(),
        bios: options.bios.clone(),
        pflash: options.pflash.clone(),
        nvram: options.nvram.clone(),
        drives: options.drives.clone(),
        kernel: options.kernel.clone(),
        kernel_arguments: options.append.clone(),
        initrd: options.initrd.clone(),
        cpu: options.cpu.clone(),
        firmware_dirs: options.firmware_dirs.clone(),
        only_firmware_dirs: false,
        name: options.name.clone(),
        serials,
        parallels,
        nodefaults: options.nodefaults,
        nographic: options.nographic,
        devices: options.devices.clone(),
        nvm_file: options.nvm_file.clone(),
        start_stopped: options.stopped,
        no_reboot: options.no_reboot,
        no_shutdown: options.no_shutdown,
        qtest: options.qtest.is_some() || options.accel == Accel::Qtest,
        log,
    })
}

/// Every back end that was opened, for the end of the program.
#[derive(Default)]
struct Opened {
    backends: Vec<Arc<dyn CharBackend>>,
    /// Sockets to remove: their listeners' threads do not get to.
    paths: Vec<PathBuf>,
}

impl Opened {
    /// Opens a back end and says what a person must know to reach it.
    fn open(&mut self, wire: &Wire, label: &str) -> Result<Arc<dyn CharBackend>, RunError> {
        match &wire.spec {
            CharSpec::Tcp { server: true, wait: true, .. }
            | CharSpec::Unix { server: true, wait: true, .. } => {
                let (origin, spec) = (&wire.origin, &wire.spec);
                warn(format_args!("{origin}: info: waiting for connection on: disconnected:{spec}"));
            }
            _ => {}
        }
        let backend = wire.spec.open(label).map_err(|e| failed(&wire.origin, e))?;
        self.keep(wire, backend.clone(), label);
        Ok(backend)
    }

    /// Takes note of a back end that is open.
    fn keep(&mut self, wire: &Wire, backend: Arc<dyn CharBackend>, label: &str) {
        match &wire.spec {
            CharSpec::Pty => {
                let path = backend.describe();
                let path = path.strip_prefix("pty:").unwrap_or(&path);
                let _ = writeln!(io::stdout(), "char device redirected to {path} (label {label})");
            }
            CharSpec::Unix { path, server: true, .. } => self.paths.push(path.clone()),
            _ => {}
        }
        self.backends.push(backend);
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        for backend in &self.backends {
            backend.flush();
            backend.close();
        }
        for path in &self.paths {
            // Its back end may have removed it meanwhile.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn qtest_log(options: &Options) -> Result<Option<Box<dyn Write + Send>>, RunError> {
    let Some(path) = &options.qtest_log else { return Ok(None) };
    let file = File::create(path)
        .map_err(|e| failed(format_args!("-qtest-log {}", path.display()), os_error(&e)))?;
    Ok(Some(Box::new(file)))
}

/// Ends the machine when the host asks for it, so that everything is cleaned up.
fn quit_on_signals(machine: Arc<Machine>) -> Result<signal_hook::iterator::Handle, RunError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| failed("signals", e))?;
    let handle = signals.handle();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                warn(format_args!("terminating on signal {signal}"));
                machine.request(Request::Quit(Cause::HostSignal));
            }
        })
        .map_err(|e| failed("signals", e))?;
    Ok(handle)
}
