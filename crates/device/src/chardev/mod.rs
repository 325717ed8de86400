//! Character back ends: bytes between a device (or a monitor) and the host.
//!
//! A back end is not a terminal: it has no lines, no echo, no history. It takes bytes without ever blocking the caller
//! and hands bytes that arrive to its [`CharSink`] on a thread of its own. What must always hold: [`CharBackend::write`]
//! returns at once whatever the other side does, and at most [`QUEUE`] bytes wait to leave.
//!
//! [`CharSpec`] reads what `-serial`, `-monitor` and the like take, and opens it.

mod engine;
mod spec;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

pub use engine::{Connection, HostBackend};
pub use spec::{CharError, CharSpec};

/// How many bytes may wait to leave a back end; [`CharBackend::write`] takes no more until some have left.
pub const QUEUE: usize = 64 * 1024;

/// What happens to a back end, besides bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CharEvent {
    /// Somebody is there: a client connected, a terminal was opened, or there always is somebody.
    Opened,
    /// They have gone.
    Closed,
    /// The line was held low for longer than a character: a break.
    Break,
}

/// Where arriving bytes go. Called on the back end's thread, never from inside [`CharBackend::write`].
pub trait CharSink: Send + Sync {
    /// How many bytes can be taken now. While it is 0 it is asked again every 10 ms.
    fn room(&self) -> usize;
    /// Takes bytes, at most as many as [`room`](CharSink::room) said.
    fn receive(&self, bytes: &[u8]);
    /// Learns that the other side came or went.
    fn event(&self, event: CharEvent) {
        let _ = event;
    }
    /// Whether all that was received is dealt with. A client that has ended its input
    /// ([`Closed`](CharEvent::Closed)) stays connected for the answers until this is so; asked every 10 ms.
    fn is_done(&self) -> bool {
        true
    }
}

/// A place on the host that bytes go to and come from (QEMU's `chardev`).
pub trait CharBackend: Send + Sync {
    /// The name it was opened with, such as `serial0`.
    fn label(&self) -> String;
    /// What it is, as `info chardev` says: `stdio`, `pty:/dev/pts/3`, `disconnected:tcp:…`, `null`.
    fn describe(&self) -> String;
    /// Takes bytes to send and returns how many; never blocks. With nobody connected all are taken and dropped.
    fn write(&self, bytes: &[u8]) -> usize;
    /// From now on arriving bytes and events go to `sink`, in place of an earlier one. If somebody is connected
    /// already, the sink is told so.
    fn attach(&self, sink: Arc<dyn CharSink>);
    /// Waits until what was written has left, but no longer than a second.
    fn flush(&self) {}
    /// Ends the back end: nothing arrives any more, and what is written is dropped.
    fn close(&self) {}
}

impl fmt::Debug for dyn CharBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CharBackend({}: {})", self.label(), self.describe())
    }
}

/// A back end that drops what is written and receives nothing (`null`, `none`, and `vc`, which has no screen here).
#[derive(Debug)]
pub struct NullBackend {
    label: String,
    kind: &'static str,
}

impl NullBackend {
    /// A null back end of this name.
    pub fn new(label: impl Into<String>) -> NullBackend {
        NullBackend { label: label.into(), kind: "null" }
    }
}

impl CharBackend for NullBackend {
    fn label(&self) -> String {
        self.label.clone()
    }
    fn describe(&self) -> String {
        self.kind.to_owned()
    }
    fn write(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
    fn attach(&self, sink: Arc<dyn CharSink>) {
        sink.event(CharEvent::Opened);
    }
}

/// A back end in memory: keeps what is written and lets its owner send bytes in. For tests and for front ends that show
/// a port themselves.
#[derive(Default)]
pub struct MemoryBackend {
    label: String,
    written: Mutex<Vec<u8>>,
    sink: Mutex<Option<Arc<dyn CharSink>>>,
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("label", &self.label).finish_non_exhaustive()
    }
}

impl MemoryBackend {
    /// A back end of this name, to which nothing has been written.
    pub fn new(label: impl Into<String>) -> Arc<MemoryBackend> {
        Arc::new(MemoryBackend { label: label.into(), ..MemoryBackend::default() })
    }

    /// Takes out what has been written since the last time.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.written.lock())
    }

    /// Sends bytes to the sink, as far as it has room; returns how many went.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let sink = self.sink.lock().clone();
        let Some(sink) = sink else { return 0 };
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let room = sink.room().min(rest.len());
            let Some(chunk) = rest.get(..room).filter(|chunk| !chunk.is_empty()) else { break };
            sink.receive(chunk);
            sent += room;
        }
        sent
    }
}

impl CharBackend for MemoryBackend {
    fn label(&self) -> String {
        self.label.clone()
    }
    fn describe(&self) -> String {
        "memory".to_owned()
    }
    fn write(&self, bytes: &[u8]) -> usize {
        self.written.lock().extend_from_slice(bytes);
        bytes.len()
    }
    fn attach(&self, sink: Arc<dyn CharSink>) {
        *self.sink.lock() = Some(sink.clone());
        sink.event(CharEvent::Opened);
    }
}
