//! One conversation over one character back end, on a thread of its own.
//!
//! A [`Session`] is a language (HMP, QMP, qtest): bytes in, text out. [`serve`] carries the bytes between it and a
//! [`CharBackend`], so that a session does not know whether it talks over a socket, a pseudo terminal or a pipe. What must
//! always hold: a session runs on its own thread only, and never on a device's or a back end's.

use flatview_board::device::{CharBackend, CharEvent, CharSink};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A language spoken with one client at a time.
///
/// An error from any method means that the client cannot be written to; it is dropped, and the next client starts anew with
/// [`Session::opened`].
pub trait Session: Send {
    /// A client has come: greet it.
    ///
    /// # Errors
    /// Those of `out`.
    fn opened(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// The client sent these bytes.
    ///
    /// # Errors
    /// Those of `out`.
    fn received(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()>;

    /// Somebody called [`Waker::wake`]: send what is to be sent unasked.
    ///
    /// # Errors
    /// Those of `out`.
    fn woken(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let _ = out;
        Ok(())
    }

    /// The client has gone.
    fn closed(&mut self) {}
}

/// What a session's thread is told.
enum Work {
    Opened,
    Bytes(Vec<u8>),
    Wake,
    Closed,
    /// Answer when everything before this has been dealt with.
    Settle(Sender<()>),
}

/// Makes a session's thread call [`Session::woken`]. Cheap to clone, callable from any thread.
#[derive(Clone)]
pub struct Waker(Sender<Work>);

impl Waker {
    /// Asks for one call of [`Session::woken`]; does nothing once the session has ended.
    pub fn wake(&self) {
        // The receiver goes with the session's thread; then there is nobody left to wake.
        let _ = self.0.send(Work::Wake);
    }

    /// A waker and a way to see whether it was called, for a session without a thread.
    #[cfg(test)]
    pub(crate) fn unattached() -> (Self, impl Fn() -> bool) {
        let (sender, receiver) = channel();
        (Self(sender), move || receiver.try_recv().is_ok())
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// A session being served. Dropping it leaves the thread running.
#[derive(Debug)]
pub struct Served {
    work: Sender<Work>,
    backend: Arc<dyn CharBackend>,
    abandon: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Served {
    /// Waits until what has arrived so far is answered, but no longer than `limit`; then the session gives up on a client that
    /// does not read. For the end of the program; whether the answers have left is for the back end to say.
    pub fn settle(&self, limit: Duration) {
        let (sender, settled) = channel();
        if self.work.send(Work::Settle(sender)).is_ok() && settled.recv_timeout(limit).is_err() {
            self.abandon.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the conversation: the client is let go, and nobody comes after it.
    pub fn end(&self) {
        let _ = self.work.send(Work::Closed);
        self.backend.close();
    }

    /// What the session runs over.
    pub fn backend(&self) -> &Arc<dyn CharBackend> {
        &self.backend
    }

    /// Whether the session's thread has ended: only when its back end and all its wakers are gone.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// How many bytes may wait for a session: a client that sends faster than it is answered is held back.
const PENDING: usize = 64 * 1024;

/// Puts what a back end delivers on a session's queue.
struct Sink {
    work: Sender<Work>,
    pending: Arc<AtomicUsize>,
    /// Clients that have come and that the session has let go: equal when no answer is due.
    came: AtomicUsize,
    went: Arc<AtomicUsize>,
}

impl CharSink for Sink {
    fn room(&self) -> usize {
        PENDING.saturating_sub(self.pending.load(Ordering::Relaxed))
    }

    fn receive(&self, bytes: &[u8]) {
        self.pending.fetch_add(bytes.len(), Ordering::Relaxed);
        let _ = self.work.send(Work::Bytes(bytes.to_vec()));
    }

    fn event(&self, event: CharEvent) {
        let _ = self.work.send(match event {
            CharEvent::Opened => {
                self.came.fetch_add(1, Ordering::Relaxed);
                Work::Opened
            }
            CharEvent::Closed => Work::Closed,
            // It means nothing to a monitor.
            CharEvent::Break => return,
        });
    }

    fn is_done(&self) -> bool {
        // Acquire: whoever sees that a client was let go also sees what was written to it.
        self.went.load(Ordering::Acquire) == self.came.load(Ordering::Relaxed)
    }
}

/// Writes to a back end, waiting while its queue is full.
struct Out {
    backend: Arc<dyn CharBackend>,
    abandon: Arc<AtomicBool>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.backend.write(bytes) {
                0 if bytes.is_empty() => return Ok(0),
                // Nobody reads fast enough. A back end has no call for "there is room again"; a client that is this far
                // behind does not notice a millisecond.
                0 if self.abandon.load(Ordering::Relaxed) => return Err(io::ErrorKind::BrokenPipe.into()),
                0 => thread::sleep(Duration::from_millis(1)),
                taken => return Ok(taken),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the session that `make` gives over `backend`. `gone` is called, on the session's thread, each time a client has gone or
/// standard input has ended, after all that it sent has been answered.
///
/// # Errors
/// Those of `make`; the host has no thread left.
pub fn serve<S: Session + 'static>(
    backend: Arc<dyn CharBackend>,
    make: impl FnOnce(Waker) -> io::Result<S>,
    gone: impl Fn() + Send + 'static,
) -> io::Result<Served> {
    let (work, queue) = channel();
    let pending = Arc::new(AtomicUsize::new(0));
    let abandon = Arc::new(AtomicBool::new(false));
    let session = make(Waker(work.clone()))?;
    let out = Out { backend: backend.clone(), abandon: abandon.clone() };
    let counter = pending.clone();
    let went = Arc::new(AtomicUsize::new(0));
    let let_go = went.clone();
    let name = format!("session {}", backend.label());
    let thread = thread::Builder::new()
        .name(name)
        .spawn(move || run(session, &queue, out, &counter, &let_go, &gone))?;
    backend.attach(Arc::new(Sink { work: work.clone(), pending, came: AtomicUsize::new(0), went }));
    Ok(Served { work, backend, abandon, thread })
}

fn run(
    mut session: impl Session,
    queue: &Receiver<Work>,
    mut out: Out,
    pending: &AtomicUsize,
    went: &AtomicUsize,
    gone: &dyn Fn(),
) {
    let mut open = false;
    while let Ok(work) = queue.recv() {
        let done = match work {
            Work::Opened => {
                open = true;
                session.opened(&mut out)
            }
            Work::Bytes(bytes) => {
                let done = if open { session.received(&bytes, &mut out) } else { Ok(()) };
                pending.fetch_sub(bytes.len(), Ordering::Relaxed);
                done
            }
            Work::Wake if open => session.woken(&mut out),
            Work::Wake => Ok(()),
            Work::Closed => {
                open = false;
                session.closed();
                went.fetch_add(1, Ordering::Release);
                gone();
                Ok(())
            }
            Work::Settle(settled) => {
                let done = if open { session.woken(&mut out) } else { Ok(()) };
                let _ = settled.send(());
                done
            }
        };
        if done.is_err() {
            open = false;
            session.closed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview_board::device::chardev::MemoryBackend;

    /// Answers each packet with its length, and a wake with `!`.
    struct Lengths;

    impl Session for Lengths {
        fn opened(&mut self, out: &mut dyn Write) -> io::Result<()> {
            out.write_all(b"hello ")
        }
        fn received(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
            write!(out, "{} ", bytes.len())
        }
        fn woken(&mut self, out: &mut dyn Write) -> io::Result<()> {
            out.write_all(b"! ")
        }
    }

    #[test]
    fn a_session_answers_in_the_order_of_what_arrives() {
        let backend = MemoryBackend::new("test");
        let mut waker = None;
        let served = serve(
            backend.clone(),
            |w| {
                waker = Some(w);
                Ok(Lengths)
            },
            || {},
        )
        .unwrap();
        assert_eq!(backend.send(b"abc"), 3);
        waker.unwrap().wake();
        assert_eq!(backend.send(b"de"), 2);
        served.settle(Duration::from_secs(5));
        assert_eq!(String::from_utf8(backend.take()).unwrap(), "hello 3 ! 2 ! ");
    }

    /// Takes nothing, like a client that never reads.
    struct Stuck;

    impl CharBackend for Stuck {
        fn label(&self) -> String {
            "stuck".to_owned()
        }
        fn describe(&self) -> String {
            "stuck".to_owned()
        }
        fn write(&self, _: &[u8]) -> usize {
            0
        }
        fn attach(&self, sink: Arc<dyn CharSink>) {
            sink.event(CharEvent::Opened);
        }
    }

    #[test]
    fn a_client_that_never_reads_does_not_hold_up_the_end() {
        let served = serve(Arc::new(Stuck), |_| Ok(Lengths), || {}).unwrap();
        served.settle(Duration::from_millis(50));
    }
}
