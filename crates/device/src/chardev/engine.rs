//! The thread behind a back end: it polls the host's descriptors, so that nobody else has to wait for them.
//!
//! One thread for each open back end. It is not a protocol: bytes pass through untouched. What must always hold: no lock
//! is held while the sink is called or while the host is waited for.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{CharBackend, CharEvent, CharSink, QUEUE};

/// The two directions of an open connection; the same descriptor, duplicated, or two different ones.
#[derive(Debug)]
pub struct Connection {
    /// Where bytes come from; `None` when none ever do.
    pub read: Option<OwnedFd>,
    /// Where bytes go; `None` when none can.
    pub write: Option<OwnedFd>,
}

impl Connection {
    pub(super) fn from_tcp(stream: TcpStream) -> io::Result<Connection> {
        // Single key strokes and prompts should not wait for more.
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection { read: Some(stream.try_clone()?.into()), write: Some(stream.into()) })
    }

    pub(super) fn from_unix(stream: UnixStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection { read: Some(stream.try_clone()?.into()), write: Some(stream.into()) })
    }
}

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    fn accept(&self) -> io::Result<Connection> {
        match self {
            Listener::Tcp(listener) => Connection::from_tcp(listener.accept()?.0),
            Listener::Unix(listener, _) => Connection::from_unix(listener.accept()?.0),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Where connections come from.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    listener: Option<Listener>,
    first: Option<Connection>,
    /// A pseudo terminal: its other side hangs up and comes back on the same descriptor.
    pty: bool,
}

impl Source {
    pub(super) fn fixed(name: impl Into<String>, connection: Connection) -> Source {
        Source { name: name.into(), listener: None, first: Some(connection), pty: false }
    }

    pub(super) fn listening(
        name: impl Into<String>,
        listener: Listener,
        first: Option<Connection>,
    ) -> Source {
        Source { name: name.into(), listener: Some(listener), first, pty: false }
    }

    pub(super) fn pty(path: impl fmt::Display, connection: Connection) -> Source {
        Source { name: format!("pty:{path}"), listener: None, first: Some(connection), pty: true }
    }
}

/// A back end that a thread of its own serves.
pub struct HostBackend {
    shared: Arc<Shared>,
}

struct Shared {
    label: String,
    name: String,
    state: Mutex<State>,
    /// Signalled when the queue has become empty or the back end has ended.
    drained: Condvar,
    waker: OwnedFd,
    is_file: bool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<u8>,
    sink: Option<Arc<dyn CharSink>>,
    connected: bool,
    closed: bool,
}

impl fmt::Debug for HostBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostBackend")
            .field("label", &self.shared.label)
            .field("name", &self.shared.name)
            .finish()
    }
}

impl Shared {
    fn wake(&self) {
        // A full pipe already wakes the thread.
        let _ = rustix::io::write(&self.waker, &[1]);
    }
}

impl HostBackend {
    /// Starts the thread that serves `source`.
    pub(super) fn start(label: &str, source: Source) -> io::Result<Arc<HostBackend>> {
        let (wake_read, wake_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let connected = source.first.is_some() && !source.pty;
        let shared = Arc::new(Shared {
            label: label.to_owned(),
            name: source.name.clone(),
            state: Mutex::new(State { connected, ..State::default() }),
            drained: Condvar::new(),
            waker: wake_write,
            is_file: source.name == "file",
        });
        let worker = Worker {
            shared: shared.clone(),
            wake: wake_read,
            connection: source.first,
            listener: source.listener,
            pty: source.pty,
            hung_up: source.pty,
            ended: false,
        };
        std::thread::Builder::new().name(format!("chardev {label}")).spawn(move || worker.run())?;
        Ok(Arc::new(HostBackend { shared }))
    }
}

impl CharBackend for HostBackend {
    fn label(&self) -> String {
        self.shared.label.clone()
    }

    fn describe(&self) -> String {
        let socket = self.shared.name.starts_with("tcp:") || self.shared.name.starts_with("unix:");
        if socket && !self.shared.state.lock().connected {
            format!("disconnected:{}", self.shared.name)
        } else {
            self.shared.name.clone()
        }
    }

    fn write(&self, bytes: &[u8]) -> usize {
        let mut state = self.shared.state.lock();
        if state.closed || !state.connected {
            return bytes.len();
        }
        let taken = bytes.len().min(QUEUE - state.queue.len().min(QUEUE));
        state.queue.extend(bytes.iter().take(taken));
        drop(state);
        self.shared.wake();
        taken
    }

    fn attach(&self, sink: Arc<dyn CharSink>) {
        let connected = {
            let mut state = self.shared.state.lock();
            state.sink = Some(sink.clone());
            state.connected
        };
        if connected {
            sink.event(CharEvent::Opened);
        }
        self.shared.wake();
    }

    fn flush(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut state = self.shared.state.lock();
        while !state.queue.is_empty() && !state.closed {
            if self.shared.drained.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.wake();
    }
}

impl Drop for HostBackend {
    fn drop(&mut self) {
        // What was written last should still be seen: a program that ends drops its back ends.
        self.flush();
        self.close();
    }
}

struct Worker {
    shared: Arc<Shared>,
    wake: OwnedFd,
    connection: Option<Connection>,
    listener: Option<Listener>,
    pty: bool,
    hung_up: bool,
    /// The other side will send no more, but may still read.
    ended: bool,
}

/// What one round of polling found.
#[derive(Default)]
struct Ready {
    accept: bool,
    read: bool,
    write: bool,
    hang_up: bool,
    /// The hang-up is that of the input alone.
    input_gone: bool,
}

impl Worker {
    fn run(mut self) {
        loop {
            let (room, pending, closed) = {
                let (sink, pending, closed) = {
                    let state = self.shared.state.lock();
                    (state.sink.clone(), !state.queue.is_empty(), state.closed)
                };
                (sink.map_or(0, |sink| sink.room()), pending, closed)
            };
            if closed {
                break;
            }
            let Ok(ready) = self.poll(room > 0, pending) else { break };
            if ready.accept {
                self.accept();
            }
            if self.pty && ready.hang_up != self.hung_up {
                self.hung_up = ready.hang_up;
                self.set_connected(!ready.hang_up);
            }
            if ready.read {
                self.receive(room);
            }
            if ready.write {
                self.send();
            }
            // One that is gone, because writing to it failed, is told of once.
            if ready.hang_up && !self.pty && !ready.read && self.connection.is_some() {
                // A pipe whose writer has gone says only that: nothing to read, and a hang-up.
                if ready.input_gone { self.end_of_input() } else { self.disconnect() }
            }
            if self.ended && self.is_answered() {
                self.drop_connection();
            }
        }
        let mut state = self.shared.state.lock();
        state.closed = true;
        state.queue.clear();
        self.shared.drained.notify_all();
    }

    fn poll(&mut self, room: bool, pending: bool) -> io::Result<Ready> {
        let mut ready = Ready::default();
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        let (mut read_at, mut write_at, mut accept_at) = (None, None, None);
        // A regular file cannot be polled with meaning, and never blocks for long.
        let write_always = self.shared.is_file && pending;
        match &self.connection {
            Some(connection) => {
                // A hang-up is reported whether it is asked for or not. While there is no room for what may still be
                // unread, only a pseudo terminal is asked, whose hang-ups lose nothing.
                if let (Some(read), true) = (&connection.read, room || self.pty) {
                    read_at = Some(fds.len());
                    let wanted = if room && !self.hung_up { PollFlags::IN } else { PollFlags::empty() };
                    fds.push(PollFd::new(read, wanted));
                }
                if let (Some(write), true) =
                    (&connection.write, pending && !self.hung_up && !self.shared.is_file)
                {
                    write_at = Some(fds.len());
                    fds.push(PollFd::new(write, PollFlags::OUT));
                }
            }
            None => {
                if let Some(listener) = &self.listener {
                    accept_at = Some(fds.len());
                    fds.push(PollFd::new(listener, PollFlags::IN));
                }
            }
        }
        let timeout = |ms: i64| Timespec { tv_sec: ms / 1000, tv_nsec: (ms % 1000) * 1_000_000 };
        let has_input = self.connection.as_ref().is_some_and(|c| c.read.is_some());
        let limit = if write_always {
            Some(timeout(0))
        } else if self.pty && self.hung_up {
            // The other side of a pseudo terminal can only be asked now and then.
            std::thread::sleep(Duration::from_millis(20));
            Some(timeout(0))
        } else if (has_input && !room) || self.ended {
            Some(timeout(10))
        } else {
            None
        };
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(ready),
            Err(error) => return Err(error.into()),
        }
        let events =
            |at: Option<usize>| at.and_then(|at| fds.get(at)).map_or(PollFlags::empty(), |fd| fd.revents());
        let (input, output) = (events(read_at), events(write_at));
        ready.accept = events(accept_at).contains(PollFlags::IN);
        ready.read = room && input.contains(PollFlags::IN);
        ready.write = write_always || output.intersects(PollFlags::OUT | PollFlags::ERR);
        ready.hang_up = input.intersects(PollFlags::HUP | PollFlags::ERR) || output.contains(PollFlags::ERR);
        ready.input_gone = input.contains(PollFlags::HUP) && !output.contains(PollFlags::ERR);
        if events(Some(0)).contains(PollFlags::IN) {
            let mut sunk = [0_u8; 64];
            while rustix::io::read(&self.wake, &mut sunk).is_ok_and(|n| n > 0) {}
        }
        Ok(ready)
    }

    fn accept(&mut self) {
        let accepted = self.listener.as_ref().map(Listener::accept);
        if let Some(Ok(connection)) = accepted {
            self.connection = Some(connection);
            self.set_connected(true);
        }
    }

    /// A client has come, or a pseudo terminal's user has come or gone.
    fn set_connected(&self, connected: bool) {
        let sink = {
            let mut state = self.shared.state.lock();
            state.connected = connected;
            if !connected {
                state.queue.clear();
                self.shared.drained.notify_all();
            }
            state.sink.clone()
        };
        if let Some(sink) = sink {
            sink.event(if connected { CharEvent::Opened } else { CharEvent::Closed });
        }
    }

    fn disconnect(&mut self) {
        let told = self.ended;
        self.drop_connection();
        if !told {
            self.tell_closed();
        }
    }

    /// Lets the connection go without a word to the sink, which knows or is told by the caller.
    fn drop_connection(&mut self) {
        self.connection = None;
        self.ended = false;
        let mut state = self.shared.state.lock();
        state.connected = false;
        state.queue.clear();
        self.shared.drained.notify_all();
    }

    fn tell_closed(&self) {
        let sink = self.shared.state.lock().sink.clone();
        if let Some(sink) = sink {
            sink.event(CharEvent::Closed);
        }
    }

    /// Whether everything that the other side sent has been dealt with and all answers have left.
    fn is_answered(&self) -> bool {
        let (sink, empty) = {
            let state = self.shared.state.lock();
            (state.sink.clone(), state.queue.is_empty())
        };
        // Asked first: a sink that is done writes no more.
        let done = sink.is_none_or(|sink| sink.is_done());
        done && empty && self.shared.state.lock().queue.is_empty()
    }

    fn receive(&mut self, room: usize) {
        let mut buffer = [0_u8; 4096];
        let Some(buffer) = buffer.get_mut(..room.min(4096)) else { return };
        let Some(read) = self.connection.as_ref().and_then(|c| c.read.as_ref()) else { return };
        match rustix::io::read(read, &mut *buffer) {
            Ok(0) => self.end_of_input(),
            Ok(count) => {
                let sink = self.shared.state.lock().sink.clone();
                if let (Some(sink), Some(bytes)) = (sink, buffer.get(..count)) {
                    sink.receive(bytes);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) if self.pty => {}
            Err(_) => self.disconnect(),
        }
    }

    /// The input has ended, as that of `printf … | nc -N` does. What was asked is still to be answered: only that
    /// direction ends, and the connection is dropped once the answers have left. Standard output stays for good.
    fn end_of_input(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.read = None;
        }
        self.ended = self.shared.name != "stdio";
        self.tell_closed();
    }

    fn send(&mut self) {
        // 512 bytes are taken whole by any pipe or terminal that polls as writable, so nothing is half-sent there.
        let chunk: Vec<u8> = self.shared.state.lock().queue.iter().take(512).copied().collect();
        let Some(write) = self.connection.as_ref().and_then(|c| c.write.as_ref()) else { return };
        match rustix::io::write(write, &chunk) {
            Ok(count) => {
                let mut state = self.shared.state.lock();
                let count = count.min(state.queue.len());
                state.queue.drain(..count);
                if state.queue.is_empty() {
                    self.shared.drained.notify_all();
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.disconnect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::super::CharSpec;
    use super::*;

    #[derive(Default)]
    struct Recorder {
        bytes: Mutex<Vec<u8>>,
        events: Mutex<Vec<CharEvent>>,
        changed: Condvar,
        full: Mutex<bool>,
    }

    impl CharSink for Recorder {
        fn room(&self) -> usize {
            if *self.full.lock() { 0 } else { 3 }
        }
        fn receive(&self, bytes: &[u8]) {
            assert!(bytes.len() <= 3);
            self.bytes.lock().extend_from_slice(bytes);
            self.changed.notify_all();
        }
        fn event(&self, event: CharEvent) {
            self.events.lock().push(event);
        }
    }

    impl Recorder {
        fn wait_for(&self, bytes: &[u8]) {
            let mut seen = self.bytes.lock();
            while seen.as_slice() != bytes {
                let late = self.changed.wait_for(&mut seen, Duration::from_secs(10)).timed_out();
                assert!(!late, "got {:?}", String::from_utf8_lossy(&seen));
            }
        }
    }

    fn until(what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_tcp_server_serves_one_client_after_the_other() {
        let spec = CharSpec::Tcp { host: "127.0.0.1".into(), port: 0, server: true, wait: false };
        let backend = spec.open("serial0").unwrap();
        let address = backend.describe().strip_prefix("disconnected:tcp:").unwrap().to_owned();
        assert_eq!(backend.write(b"nobody hears this"), 17);
        let sink = Arc::new(Recorder::default());
        backend.attach(sink.clone());
        for _ in 0..2 {
            sink.bytes.lock().clear();
            let mut client = TcpStream::connect(&address).unwrap();
            until("connects", || !backend.describe().starts_with("disconnected"));
            client.write_all(b"hello").unwrap();
            sink.wait_for(b"hello");
            assert_eq!(backend.write(b"there"), 5);
            let mut answer = [0; 5];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"there");
            drop(client);
            until("disconnects", || backend.describe().starts_with("disconnected"));
        }
        use CharEvent::{Closed, Opened};
        assert_eq!(*sink.events.lock(), [Opened, Closed, Opened, Closed]);
    }

    #[test]
    fn a_writer_never_waits_and_a_full_queue_says_so() {
        let spec = CharSpec::Tcp { host: "127.0.0.1".into(), port: 0, server: true, wait: false };
        let backend = spec.open("serial0").unwrap();
        let address = backend.describe().strip_prefix("disconnected:tcp:").unwrap().to_owned();
        let _client = TcpStream::connect(&address).unwrap();
        until("connects", || !backend.describe().starts_with("disconnected"));
        let block = vec![0_u8; QUEUE];
        // The client reads nothing, so at some point the host and the queue are full.
        until("fills", || backend.write(&block) == 0);
        backend.close();
    }

    #[test]
    fn input_waits_while_the_sink_has_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let backend =
            CharSpec::Unix { path: path.clone(), server: true, wait: false }.open("serial0").unwrap();
        let sink = Arc::new(Recorder::default());
        *sink.full.lock() = true;
        backend.attach(sink.clone());
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"abcdef").unwrap();
        drop(client);
        std::thread::sleep(Duration::from_millis(40));
        assert!(sink.bytes.lock().is_empty());
        *sink.full.lock() = false;
        sink.wait_for(b"abcdef");
        drop(backend);
        until("socket file goes away", || !path.exists());
    }

    #[test]
    fn a_client_that_has_said_all_still_gets_its_answer() {
        /// Answers only when it is let.
        #[derive(Default)]
        struct Slow {
            asked: Mutex<Vec<u8>>,
            done: Mutex<bool>,
        }
        impl CharSink for Slow {
            fn room(&self) -> usize {
                100
            }
            fn receive(&self, bytes: &[u8]) {
                self.asked.lock().extend_from_slice(bytes);
            }
            fn is_done(&self) -> bool {
                *self.done.lock()
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let backend =
            CharSpec::Unix { path: path.clone(), server: true, wait: false }.open("monitor").unwrap();
        let sink = Arc::new(Slow::default());
        backend.attach(sink.clone());
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"ask").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        until("asks", || sink.asked.lock().len() == 3);
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(backend.write(b"answer"), 6);
        *sink.done.lock() = true;
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
        until("disconnects", || backend.describe().starts_with("disconnected"));
    }

    #[test]
    fn a_file_receives_all_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let backend = CharSpec::File(path.clone()).open("serial0").unwrap();
        for _ in 0..100 {
            assert_eq!(backend.write(&[b'x'; 100]), 100);
        }
        backend.flush();
        assert_eq!(std::fs::read(&path).unwrap().len(), 10_000);
    }

    #[test]
    fn a_pseudo_terminal_passes_bytes_both_ways_and_survives_its_user() {
        let backend = CharSpec::Pty.open("serial0").unwrap();
        let sink = Arc::new(Recorder::default());
        backend.attach(sink.clone());
        let path = backend.describe().strip_prefix("pty:").unwrap().to_owned();
        for round in 1..=2 {
            sink.bytes.lock().clear();
            let mut user = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
            until("opens", || sink.events.lock().len() == 2 * round - 1);
            user.write_all(b"in\r").unwrap();
            sink.wait_for(b"in\r");
            backend.write(b"out\n");
            let mut answer = [0; 4];
            user.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"out\n");
            drop(user);
            until("closes", || sink.events.lock().len() == 2 * round);
        }
    }

    #[test]
    fn a_client_connects_to_a_server_that_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = CharSpec::Unix { path: path.clone(), server: true, wait: true };
        let thread = std::thread::spawn(move || server.open("a").unwrap());
        until("listens", || path.exists());
        let client = CharSpec::Unix { path, server: false, wait: true }.open("b").unwrap();
        let sink = Arc::new(Recorder::default());
        client.attach(sink.clone());
        let server = thread.join().unwrap();
        server.write(b"hi");
        sink.wait_for(b"hi");
    }
}
