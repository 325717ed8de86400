//! Drives the built `flatview` over pipes and sockets. Every wait has an end, and every process is reaped.
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Debian's QEMU for PowerPC, to compare with; `None`, and a word about it, where it is not installed.
pub(crate) fn qemu_is_there() -> Option<&'static str> {
    installed("qemu-system-ppc")
}

/// One of Debian's QEMUs, likewise.
pub(crate) fn installed(qemu: &'static str) -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(qemu).is_file()) {
        return Some(qemu);
    }
    assert!(std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(), "{qemu} is not installed");
    println!("skipped: {qemu} is not installed");
    None
}

/// What a program that ran to its end said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `flatview args` with `input` to its end.
pub(crate) fn run(args: &[&str], input: &str) -> Said {
    let mut program = Program::start(args);
    program.send(input);
    program.input = None;
    program.end()
}

/// A running `flatview`.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pub(crate) input: Option<ChildStdin>,
    out: Receiver<String>,
    err: Receiver<String>,
    /// What was read from standard output and not yet waited for.
    seen: String,
}

/// Reads to the end on a thread, so that a wait can have an end.
fn reader(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut source = source;
        let mut bytes = [0; 4096];
        while let Ok(count) = source.read(&mut bytes) {
            if count == 0 || sender.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Program {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_other(env!("CARGO_BIN_EXE_flatview"), args)
    }

    /// Starts another program, to compare with.
    pub(crate) fn start_other(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let out = reader(child.stdout.take().unwrap());
        let err = reader(child.stderr.take().unwrap());
        Self { child, input, out, err, seen: String::new() }
    }

    pub(crate) fn send(&mut self, text: &str) {
        // A program that has ended already reads nothing; what it said tells the test.
        let _ = self.input.as_mut().unwrap().write_all(text.as_bytes());
    }

    /// Waits until standard output has `text`; gives everything up to and with it.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_up_to(LIMIT, text)
    }

    /// The same, for what may take another while.
    pub(crate) fn wait_up_to(&mut self, limit: Duration, text: &str) -> String {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.out.recv_timeout(left) {
                Ok(more) => self.seen.push_str(&more),
                Err(_) => panic!("no '{text}' in: {}", self.seen),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Said {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "still running after: {}", self.seen);
            thread::sleep(Duration::from_millis(5));
        };
        let rest: String = self.out.iter().collect();
        let err = self.err.iter().collect();
        Said { status, out: std::mem::take(&mut self.seen) + &rest, err }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client on a Unix socket, talking in lines.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects, once the socket is there.
    pub(crate) fn connect(path: &Path) -> Self {
        let deadline = Instant::now() + LIMIT;
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LIMIT)).unwrap();
                    return Self { stream: BufReader::new(stream) };
                }
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", path.display()),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stream.read_line(&mut line).unwrap() > 0, "the other side hung up");
        line.trim_end().to_owned()
    }

    /// Sends a line and reads one.
    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.send(&format!("{text}\n"));
        self.line()
    }

    /// Says that no more will be sent, and reads to the end.
    pub(crate) fn rest(mut self) -> String {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        self.stream.read_to_string(&mut text).unwrap();
        text
    }
}
