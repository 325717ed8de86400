//! Guest code: how many instructions a second, on the loops of `guests/mips/bench`, beside `qemu-system-mips` where that is
//! installed.
//!
//! The same image runs on our `mips` board and on QEMU's `malta`, in turn. It prints a line after each loop; what counts is
//! the time between two lines as they arrive, so neither machine's own clock has a say. Each loop runs once before it is
//! measured: what is translated then is no part of the figure.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use flatview_board::{Cause, Machine, MachineConfig, Request, SerialConfig};
use flatview_device::{CharBackend, CharEvent, CharSink};
use parking_lot::Mutex;

use crate::calm::is_calm;
use crate::error::BenchError;
use crate::limits::OURS;
use crate::run::Run;

/// QEMU, in the report.
pub const QEMU: &str = "qemu-system-mips";

/// The loops, and how often each runs to take about a twentieth of a second here.
const LOOPS: [(&str, u32); 10] = [
    ("alu", 12),
    ("chase", 8),
    ("copy", 40),
    ("rmw", 8),
    ("mapped", 8),
    ("refill", 2),
    ("mmio", 20),
    ("sort", 6),
    ("matrix", 8),
    ("string", 8),
];
/// QEMU translates to host code and is so many times faster at most loops: it runs them more often.
const QEMU_TIMES: u32 = 4;
const ROUNDS: usize = 5;
/// The slowest round takes a few seconds on a busy machine; a guest that hangs must not hang the program.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures the wanted ones.
pub fn all(run: &mut Run) -> Result<(), BenchError> {
    let mut wanted = Vec::new();
    for (name, passes) in LOOPS {
        if run.wants(&figure(name)) {
            wanted.push((name, passes));
        }
    }
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/images/mips/bench.elf");
    if wanted.is_empty() {
        return Ok(());
    }
    let with_qemu =
        Command::new(QEMU).arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    let (mut ours, mut theirs) = (vec![Vec::new(); wanted.len()], vec![Vec::new(); wanted.len()]);
    let mut undisturbed = 0;
    for round in 0..ROUNDS {
        let before = is_calm();
        let mut sides: [bool; 2] = [true, false];
        if round % 2 == 1 {
            sides.reverse();
        }
        for us in sides {
            let (side, speeds) = match us {
                true => (Side::Ours, &mut ours),
                false if with_qemu => (Side::Qemu, &mut theirs),
                false => continue,
            };
            for (all, speed) in speeds.iter_mut().zip(speeds_of(side, &image, &wanted)?) {
                all.push(speed);
            }
        }
        undisturbed += usize::from(before && is_calm());
    }
    let quiet = undisturbed * 2 > ROUNDS;
    for (((name, _), ours), theirs) in wanted.iter().zip(&ours).zip(&theirs) {
        if with_qemu {
            run.speed(&figure(name), QEMU, theirs, None, quiet);
        }
        run.speed(&figure(name), OURS, ours, with_qemu.then_some((QEMU, theirs.as_slice())), quiet);
    }
    Ok(())
}

fn figure(name: &str) -> String {
    format!("guest/{name}")
}

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Qemu,
}

/// Lines of a guest's serial port, each with when its end arrived.
type Lines = Receiver<(Instant, String)>;

/// Instructions a second in each of the loops, from one run of the program.
fn speeds_of(side: Side, image: &Path, wanted: &[(&str, u32)]) -> Result<Vec<f64>, BenchError> {
    let times = if matches!(side, Side::Qemu) { QEMU_TIMES } else { 1 };
    let arguments: Vec<String> =
        wanted.iter().map(|(name, passes)| format!("{name} 1 {name} {}", passes * times)).collect();
    let (lines, guest) = Guest::start(side, image, &arguments.join(" "))?;
    let mut speeds = Vec::with_capacity(wanted.len());
    for (name, passes) in wanted {
        let (from, _) = line(&lines, name, 1)?;
        let (to, instructions) = line(&lines, name, passes * times)?;
        speeds.push(instructions / (to - from).as_secs_f64());
    }
    drop(guest);
    Ok(speeds)
}

/// Waits for the line of a loop: when it came, and how many instructions its passes were.
fn line(lines: &Lines, name: &str, passes: u32) -> Result<(Instant, f64), BenchError> {
    let wrong = |line: String| BenchError::Guest { what: format!("{name} {passes}"), line };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (at, text) = lines.recv_timeout(left).map_err(|_| wrong("nothing more".into()))?;
        // QEMU's or a board's own words may come first.
        let Some(rest) = text.strip_prefix(&format!("{name} passes ")) else { continue };
        let words: Vec<&str> = rest.split_whitespace().collect();
        return match words.as_slice() {
            [done, "instructions", each, "result", _, "ok", ..] if *done == passes.to_string() => {
                let each: f64 = each.parse().map_err(|_| wrong(text.clone()))?;
                Ok((at, each * f64::from(passes)))
            }
            _ => Err(wrong(text)),
        };
    }
}

/// A machine that runs until this is dropped.
enum Guest {
    Ours(Arc<Machine>),
    Qemu(std::process::Child),
}

impl Guest {
    fn start(side: Side, image: &Path, arguments: &str) -> Result<(Lines, Self), BenchError> {
        let (sender, lines) = channel();
        let guest = match side {
            Side::Ours => {
                let serial = Arc::new(Stamps { sender, line: Mutex::default() });
                let machine = Machine::new(MachineConfig {
                    kernel: Some(PathBuf::from(image)),
                    kernel_arguments: arguments.into(),
                    serials: vec![SerialConfig::Backend(serial)],
                    ..MachineConfig::new("mips")
                });
                Self::Ours(machine.map_err(|e| BenchError::Machine { text: e.to_string() })?)
            }
            Side::Qemu => {
                let mut child = Command::new(QEMU)
                    .args([
                        "-M",
                        "malta",
                        "-display",
                        "none",
                        "-no-reboot",
                        "-monitor",
                        "none",
                        "-serial",
                        "stdio",
                    ])
                    .arg("-kernel")
                    .arg(image)
                    .args(["-append", arguments])
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .map_err(|e| BenchError::Machine { text: format!("{QEMU}: {e}") })?;
                if let Some(output) = child.stdout.take() {
                    std::thread::spawn(move || {
                        for text in BufReader::new(output).lines().map_while(Result::ok) {
                            if sender.send((Instant::now(), text.trim_end().into())).is_err() {
                                return;
                            }
                        }
                    });
                }
                Self::Qemu(child)
            }
        };
        Ok((lines, guest))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        match self {
            Self::Ours(machine) => {
                machine.request(Request::Quit(Cause::HostQmpQuit));
                machine.wait();
            }
            Self::Qemu(child) => {
                // It has ended by itself, unless its line was a wrong one.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A serial port that says when each line came.
struct Stamps {
    sender: Sender<(Instant, String)>,
    line: Mutex<Vec<u8>>,
}

impl CharBackend for Stamps {
    fn label(&self) -> String {
        "serial0".into()
    }
    fn describe(&self) -> String {
        "lines".into()
    }
    fn write(&self, bytes: &[u8]) -> usize {
        let mut line = self.line.lock();
        for byte in bytes {
            if *byte == b'\n' {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                // Nobody listens any more: the run is over.
                let _ = self.sender.send((Instant::now(), text));
            } else {
                line.push(*byte);
            }
        }
        bytes.len()
    }
    fn attach(&self, sink: Arc<dyn CharSink>) {
        sink.event(CharEvent::Opened);
    }
}
