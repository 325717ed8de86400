//! The built program on a terminal: a pseudo terminal whose other side is the test.

use crate::driver::LIMIT;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A person at a terminal with `flatview` in it.
struct Person {
    keys: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    /// The program's side, kept open to look at its modes.
    side: File,
    /// Its modes before the program started.
    before: Termios,
    child: Child,
}

impl Person {
    fn start(args: &[&str]) -> Self {
        Self::start_with(args, |_| Stdio::null())
    }

    /// Starts with standard error as `errors` says, which gets the program's side of the terminal.
    fn start_with(args: &[&str], errors: impl FnOnce(&File) -> Stdio) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let side = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let before = tcgetattr(&side).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_flatview"))
            .args(args)
            .env("TERM", "xterm")
            .stdin(side.try_clone().unwrap())
            .stdout(side.try_clone().unwrap())
            .stderr(errors(&side))
            .spawn()
            .unwrap();
        let keys = File::from(terminal);
        let mut eyes = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = eyes.read(&mut bytes) {
                if count == 0 || sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { keys, screen, shown: String::new(), side, before, child }
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.side).unwrap()
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen has shown `text`, since the last such wait.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(more) => self.shown.push_str(&String::from_utf8_lossy(&more)),
                Err(_) => panic!("no {text:?} in {:?}", self.shown),
            }
        }
    }

    /// Waits for keys to be taken one by one, without echo by the terminal.
    fn wait_for_raw(&self) {
        let deadline = Instant::now() + LIMIT;
        while self.modes().local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON) {
            assert!(Instant::now() < deadline, "the terminal is never put into raw mode");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "still running after {:?}", self.shown);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The modes that decide how keys are read and text is written.
fn ways(modes: &Termios) -> impl PartialEq + std::fmt::Debug {
    (modes.input_modes, modes.output_modes, modes.local_modes)
}

#[test]
fn lines_are_edited_completed_and_remembered() {
    let mut person = Person::start(&["-M", "mips", "-S", "-monitor", "stdio"]);
    person.wait_for("(qemu) ");
    person.type_keys("info sta\t\r");
    person.wait_for("VM status: paused (prelaunch)");
    person.wait_for("(qemu) ");
    person.type_keys("inx\x7ffo vrsion\x1b[D\x1b[D\x1b[D\x1b[D\x1b[De\r");
    person.wait_for(concat!("\n", env!("CARGO_PKG_VERSION")));
    person.wait_for("(qemu) ");
    person.type_keys("\x1b[A\x1b[A\r");
    person.wait_for("VM status: paused (prelaunch)");
    person.wait_for("(qemu) ");
    person.type_keys("quit\r");
    assert_eq!(person.end(), Some(0));
}

#[test]
fn the_terminal_is_given_back_as_it_was_however_the_program_ends() {
    for (args, ending) in [
        (&["-M", "mips", "-S", "-monitor", "stdio"][..], "quit\r"),
        (&["-M", "mips", "-S", "-monitor", "stdio"], "\x03"),
        (&["-M", "mips", "-S", "-monitor", "stdio"], "\x04"),
        (&["-M", "mips", "-S", "-monitor", "stdio"], "SIGTERM"),
        (&["-M", "mips", "-S", "-nographic"], "\x01x"),
        (&["-M", "mips", "-S", "-nographic"], "\x01cquit\r"),
        (&["-M", "mips", "-S", "-nographic"], "SIGTERM"),
        (&["-M", "mips", "-S", "-serial", "stdio", "-monitor", "none"], "SIGTERM"),
    ] {
        let mut person = Person::start(args);
        person.wait_for_raw();
        if ending == "SIGTERM" {
            let pid = person.child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        } else {
            person.type_keys(ending);
        }
        assert_eq!(person.end(), Some(0), "{args:?} {ending:?}");
        assert_eq!(ways(&person.modes()), ways(&person.before), "{args:?} {ending:?}");
    }
}

#[test]
fn preallocation_shows_a_bar_on_a_terminal_and_takes_it_away_again() {
    let object = "memory-backend-ram,id=large,size=64M,prealloc=on";
    let args = ["-M", "mips", "-S", "-monitor", "stdio", "-object", object];
    let mut person = Person::start_with(&args, |side| side.try_clone().unwrap().into());
    person.wait_for("preallocating large [");
    person.wait_for("MiB/64.00 MiB");
    // The line is erased before the monitor greets.
    person.wait_for("\x1b[2K");
    person.wait_for("(qemu) ");
    assert!(!person.shown.contains("preallocating"), "{:?}", person.shown);
    person.type_keys("quit\r");
    assert_eq!(person.end(), Some(0));
}
