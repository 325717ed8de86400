//! One terminal for two: the serial port and the monitor on standard input and output (`-nographic`, `-serial mon:stdio`).
//!
//! What either writes is shown; what is typed goes to one of them, and Ctrl-A is the escape: `Ctrl-A c` switches, `Ctrl-A x`
//! ends the emulator, `Ctrl-A h` lists the rest, `Ctrl-A Ctrl-A` types a Ctrl-A. What must always hold: the escapes work
//! whether or not the guest reads what is typed.

use flatview_board::device::{CharBackend, CharEvent, CharSink};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The escape character, Ctrl-A.
const ESCAPE: u8 = 0x01;
/// How many typed characters wait for a guest that does not read; more are dropped.
const TYPED_AHEAD: usize = 4096;

const HELP: &[u8] = b"\r\n\
    C-a h    this list\r\n\
    C-a x    end the emulator\r\n\
    C-a b    a break, for the serial port\r\n\
    C-a c    to the monitor, and back to the serial port\r\n\
    C-a C-a  type a C-a\r\n";

/// What a typed byte means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// It belongs to whoever has the focus.
    Data(u8),
    /// It was part of an escape.
    Nothing,
    Switch,
    Exit,
    Help,
    Break,
}

/// Finds the escapes in what is typed.
#[derive(Debug, Default)]
struct Escapes {
    escaped: bool,
}

impl Escapes {
    fn key(&mut self, byte: u8) -> Key {
        if !std::mem::replace(&mut self.escaped, false) {
            self.escaped = byte == ESCAPE;
            return if self.escaped { Key::Nothing } else { Key::Data(byte) };
        }
        match byte {
            ESCAPE => Key::Data(ESCAPE),
            b'c' => Key::Switch,
            b'x' => Key::Exit,
            b'h' | b'?' => Key::Help,
            b'b' => Key::Break,
            _ => Key::Nothing,
        }
    }
}

#[derive(Default)]
struct State {
    escapes: Escapes,
    monitor_has_focus: bool,
    monitor_greeted: bool,
    /// The input has ended.
    ended: bool,
    serial: Option<Arc<dyn CharSink>>,
    monitor: Option<Arc<dyn CharSink>>,
    to_serial: VecDeque<u8>,
}

/// The shared terminal.
pub struct Mux {
    inner: Arc<dyn CharBackend>,
    state: Mutex<State>,
    typed: Condvar,
    exit: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Mux {
    /// Shares `inner`; `exit` is called for `Ctrl-A x`.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn new(
        inner: Arc<dyn CharBackend>,
        exit: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let mux = Arc::new(Self {
            inner,
            state: Mutex::new(State::default()),
            typed: Condvar::new(),
            exit: Box::new(exit),
        });
        let pump = mux.clone();
        thread::Builder::new().name("serial input".to_owned()).spawn(move || pump.feed_serial())?;
        Ok(mux)
    }

    /// Begins to take what is typed: once both sides are attached, so that none of it is lost.
    pub fn start(self: &Arc<Self>) {
        self.inner.attach(Arc::new(Input(self.clone())));
    }

    /// The serial port's side.
    pub fn serial(self: &Arc<Self>) -> Arc<dyn CharBackend> {
        Arc::new(Side { mux: self.clone(), monitor: false })
    }

    /// The monitor's side. It is opened when the focus first goes there.
    pub fn monitor(self: &Arc<Self>) -> Arc<dyn CharBackend> {
        Arc::new(Side { mux: self.clone(), monitor: true })
    }

    fn key(&self, key: Key) {
        match key {
            Key::Nothing => {}
            Key::Help => {
                self.inner.write(HELP);
            }
            Key::Exit => {
                self.inner.write(b"Flatview: Terminated\r\n");
                (self.exit)();
            }
            Key::Break => {
                let serial = self.state.lock().serial.clone();
                if let Some(serial) = serial {
                    serial.event(CharEvent::Break);
                }
            }
            Key::Switch => {
                let mut state = self.state.lock();
                state.monitor_has_focus = !state.monitor_has_focus;
                if !state.monitor_has_focus {
                    return;
                }
                let greeted = std::mem::replace(&mut state.monitor_greeted, true);
                let monitor = state.monitor.clone();
                drop(state);
                if let Some(monitor) = monitor {
                    if greeted {
                        // An empty line makes the monitor show its prompt again.
                        monitor.receive(b"\r");
                    } else {
                        self.inner.write(b"\r\n");
                        monitor.event(CharEvent::Opened);
                    }
                }
            }
            Key::Data(byte) => {
                let mut state = self.state.lock();
                if state.monitor_has_focus {
                    let monitor = state.monitor.clone();
                    drop(state);
                    if let Some(monitor) = monitor.filter(|monitor| monitor.room() > 0) {
                        monitor.receive(&[byte]);
                    }
                } else if state.to_serial.len() < TYPED_AHEAD {
                    state.to_serial.push_back(byte);
                    self.typed.notify_one();
                }
            }
        }
    }

    /// Hands what was typed for the serial port over as the guest makes room for it.
    fn feed_serial(&self) {
        loop {
            let mut state = self.state.lock();
            while state.to_serial.is_empty() {
                if state.ended {
                    let serial = state.serial.clone();
                    drop(state);
                    if let Some(serial) = serial {
                        serial.event(CharEvent::Closed);
                    }
                    return;
                }
                self.typed.wait(&mut state);
            }
            let serial = state.serial.clone();
            let waiting = state.to_serial.len();
            drop(state);
            let room = serial.as_ref().map_or(0, |serial| serial.room()).min(waiting);
            if room == 0 {
                thread::sleep(Duration::from_millis(10));
                continue;
            }
            let bytes: Vec<u8> = self.state.lock().to_serial.drain(..room).collect();
            if let Some(serial) = serial {
                serial.receive(&bytes);
            }
        }
    }
}

/// What the terminal delivers.
struct Input(Arc<Mux>);

impl CharSink for Input {
    fn room(&self) -> usize {
        TYPED_AHEAD
    }

    fn receive(&self, bytes: &[u8]) {
        for &byte in bytes {
            let key = self.0.state.lock().escapes.key(byte);
            self.0.key(key);
        }
    }

    fn event(&self, event: CharEvent) {
        if event == CharEvent::Closed {
            let mut state = self.0.state.lock();
            state.ended = true;
            let monitor = state.monitor.clone();
            drop(state);
            self.0.typed.notify_all();
            if let Some(monitor) = monitor {
                monitor.event(CharEvent::Closed);
            }
        }
    }
}

/// One of the two, as a back end of its own.
#[derive(Debug)]
struct Side {
    mux: Arc<Mux>,
    monitor: bool,
}

impl CharBackend for Side {
    fn label(&self) -> String {
        if self.monitor { "mux monitor".to_owned() } else { self.mux.inner.label() }
    }

    fn describe(&self) -> String {
        self.mux.inner.describe()
    }

    fn write(&self, bytes: &[u8]) -> usize {
        self.mux.inner.write(bytes)
    }

    fn attach(&self, sink: Arc<dyn CharSink>) {
        let mut state = self.mux.state.lock();
        if self.monitor {
            state.monitor = Some(sink);
        } else {
            state.serial = Some(sink.clone());
            drop(state);
            sink.event(CharEvent::Opened);
        }
    }

    fn flush(&self) {
        self.mux.inner.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview_board::device::chardev::MemoryBackend;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    #[derive(Default)]
    struct Recorder {
        bytes: Mutex<Vec<u8>>,
        events: Mutex<Vec<CharEvent>>,
        deaf: bool,
    }

    impl CharSink for Recorder {
        fn room(&self) -> usize {
            if self.deaf { 0 } else { 16 }
        }
        fn receive(&self, bytes: &[u8]) {
            self.bytes.lock().extend_from_slice(bytes);
        }
        fn event(&self, event: CharEvent) {
            self.events.lock().push(event);
        }
    }

    impl Recorder {
        /// What has arrived, once it is as long as `expected` or five seconds are over.
        fn text(&self, expected: &str) -> String {
            let deadline = Instant::now() + Duration::from_secs(5);
            while self.bytes.lock().len() < expected.len() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            String::from_utf8(self.bytes.lock().clone()).unwrap()
        }
    }

    struct Fixture {
        terminal: Arc<MemoryBackend>,
        serial: Arc<Recorder>,
        monitor: Arc<Recorder>,
        exits: Arc<AtomicUsize>,
        _mux: Arc<Mux>,
    }

    fn fixture(deaf: bool) -> Fixture {
        let terminal = MemoryBackend::new("stdio");
        let exits = Arc::new(AtomicUsize::new(0));
        let count = exits.clone();
        let mux = Mux::new(terminal.clone(), move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        let serial = Arc::new(Recorder { deaf, ..Recorder::default() });
        let monitor = Arc::new(Recorder::default());
        mux.serial().attach(serial.clone());
        mux.monitor().attach(monitor.clone());
        mux.start();
        Fixture { terminal, serial, monitor, exits, _mux: mux }
    }

    #[test]
    fn typing_goes_to_the_serial_port_until_the_focus_is_switched() {
        let f = fixture(false);
        f.terminal.send(b"abc\x01cinfo\x01cdef\x01c");
        assert_eq!(f.serial.text("abcdef"), "abcdef");
        assert_eq!(f.monitor.text("info\r"), "info\r");
        assert_eq!(*f.monitor.events.lock(), [CharEvent::Opened], "greeted once, at the first switch");
    }

    #[test]
    fn a_break_goes_to_the_serial_port() {
        let f = fixture(false);
        f.terminal.send(b"\x01b");
        assert_eq!(*f.serial.events.lock(), [CharEvent::Opened, CharEvent::Break]);
        assert!(f.monitor.events.lock().is_empty());
    }

    #[test]
    fn a_doubled_escape_types_one() {
        let f = fixture(false);
        f.terminal.send(b"x\x01\x01y\x01qz");
        assert_eq!(f.serial.text("x\x01yz"), "x\x01yz");
    }

    #[test]
    fn escapes_work_while_the_guest_reads_nothing() {
        let f = fixture(true);
        f.terminal.send(&b"z".repeat(2 * TYPED_AHEAD));
        f.terminal.send(b"\x01h\x01x");
        assert_eq!(f.exits.load(Ordering::Relaxed), 1);
        let shown = String::from_utf8(f.terminal.take()).unwrap();
        assert!(shown.contains("C-a x    end the emulator") && shown.ends_with("Terminated\r\n"), "{shown}");
    }
}
