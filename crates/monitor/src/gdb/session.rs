//! One debugger's conversation.
//!
//! What it is: frames, acknowledgements, and what happens to the machine meanwhile; the packets themselves are `gdbstub`'s
//! and [`packets`](super::packets)'. What must always hold: a stop is told if the debugger waits for one, and only then;
//! after an error of the stub a new one takes its place, and the debugger gets an error answer.

use super::frame::{Framer, Input, MOST, packet};
use super::packets::{self, INVALID, Packet};
use super::target::{Debuggee, Kind};
use crate::events::Events;
use crate::session::{Session, Waker};
use flatview_board::{Cause, EventKind, Machine, Request, RunState, StopReason, WatchKind};
use gdbstub::common::{Signal, Tid};
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStubBuilder, MultiThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind as GdbWatchKind;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// What the stub writes, until it is sent.
#[derive(Debug, Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Pipe {
    /// Without the acknowledgement that the stub begins with: those are ours.
    fn take(&self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut *self.0.lock());
        if bytes.first() == Some(&b'+') {
            bytes.remove(0);
        }
        bytes
    }
}

impl Connection for Pipe {
    type Error = Infallible;

    fn write(&mut self, byte: u8) -> Result<(), Infallible> {
        self.0.lock().push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

type Stub = GdbStubStateMachine<'static, Debuggee, Pipe>;
type Stop = MultiThreadStopReason<u64>;

/// Tells the user that a debugger ended the machine.
pub type KillNotice = Arc<dyn Fn() + Send + Sync>;

/// A debugger's conversation with a machine.
pub struct GdbSession {
    target: Debuggee,
    stub: Option<Stub>,
    pipe: Pipe,
    framer: Framer,
    events: Events,
    killed: KillNotice,
    /// Packets are acknowledged.
    acks: bool,
    /// What was sent last, in case that it is asked for again.
    last: Vec<u8>,
    /// What the client said that it supports, for a new stub.
    supported: Option<Vec<u8>>,
    /// The thread that `c` and `s` are about.
    thread: NonZeroUsize,
    /// The machine's end was told.
    ended: bool,
}

impl std::fmt::Debug for GdbSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GdbSession").field("machine", &self.target.machine).finish_non_exhaustive()
    }
}

impl GdbSession {
    /// A session on `machine`, whose thread `waker` tells of events. `killed` is called when the debugger ends it.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn new(machine: Arc<Machine>, waker: Waker, killed: KillNotice) -> io::Result<Self> {
        let events = Events::new(&machine, waker, "gdb events")?;
        Ok(Self {
            target: Debuggee::new(machine),
            stub: None,
            pipe: Pipe::default(),
            framer: Framer::default(),
            events,
            killed,
            acks: true,
            last: Vec::new(),
            supported: None,
            thread: NonZeroUsize::MIN,
            ended: false,
        })
    }

    fn machine(&self) -> &Machine {
        &self.target.machine
    }

    /// A stub that knows what the last one was told.
    fn renew(&mut self) {
        let built = GdbStubBuilder::new(self.pipe.clone()).packet_buffer_size(MOST).build();
        self.stub = built.ok().and_then(|stub| stub.run_state_machine(&mut self.target).ok());
        if let Some(supported) = self.supported.clone() {
            let _ = self.feed(&supported);
        }
        self.pipe.take();
    }

    /// Whether the debugger waits for a stop.
    fn is_waiting(&self) -> bool {
        matches!(self.stub, Some(GdbStubStateMachine::Running(_)))
    }

    /// Gives the stub a packet; false if it failed at it and is gone.
    fn feed(&mut self, body: &[u8]) -> bool {
        for byte in packet(body) {
            let next = match self.stub.take() {
                Some(GdbStubStateMachine::Idle(stub)) => stub.incoming_data(&mut self.target, byte),
                Some(GdbStubStateMachine::Running(stub)) => stub.incoming_data(&mut self.target, byte),
                other => {
                    self.stub = other;
                    break;
                }
            };
            match next {
                Ok(stub) => self.stub = Some(stub),
                Err(_) => return false,
            }
        }
        self.stub.is_some()
    }

    fn send(&mut self, bytes: Vec<u8>, out: &mut dyn Write) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        out.write_all(&bytes)?;
        self.last = bytes;
        Ok(())
    }

    fn answer(&mut self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        self.send(packet(text.as_bytes()), out)
    }

    /// Has the stub do a packet and sends its answer.
    fn stub(&mut self, body: &[u8], out: &mut dyn Write) -> io::Result<()> {
        if !self.feed(body) {
            self.renew();
            return self.answer(INVALID, out);
        }
        let answer = self.pipe.take();
        self.send(answer, out)?;
        self.after_stub();
        // A step is over soon: its stop is told without a detour by the waker.
        while self.is_waiting() && self.target.is_stepping() {
            match self.events.next_within(Duration::from_millis(5)) {
                Some(event) => self.event(&event.kind, out)?,
                None => break,
            }
        }
        Ok(())
    }

    /// What the debugger asked for beyond an answer.
    fn after_stub(&mut self) {
        if let Some(GdbStubStateMachine::Disconnected(_)) = &self.stub {
            let Some(GdbStubStateMachine::Disconnected(stub)) = self.stub.take() else { return };
            match stub.get_reason() {
                DisconnectReason::Disconnect => {
                    self.target.clear_breakpoints();
                    // A machine that cannot go on stays as it is.
                    let _ = self.machine().perform(Request::Continue);
                }
                DisconnectReason::Kill => self.kill(),
                DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {
                    self.ended = true;
                }
            }
            self.stub = Some(stub.return_to_idle());
        }
    }

    fn kill(&mut self) {
        self.ended = true;
        (self.killed)();
        self.machine().request(Request::Quit(Cause::HostUi));
    }

    fn packet(&mut self, body: &[u8], out: &mut dyn Write) -> io::Result<()> {
        match packets::read(body) {
            Packet::Stub(body) => self.stub(&body, out),
            Packet::GoOn(at, how) => {
                if let Some(at) = at {
                    self.target.jump(self.thread, at);
                }
                let body = match how {
                    "s" => format!("vCont;s:{:x};c", self.thread),
                    _ => "vCont;c".to_owned(),
                };
                self.stub(body.as_bytes(), out)
            }
            Packet::Supported(body) => {
                self.supported = Some(body.clone());
                self.stub(&body, out)
            }
            Packet::Answer(text) => self.answer(&text, out),
            Packet::Thread(thread) => {
                self.thread = thread;
                self.stub(body, out)
            }
            Packet::Current => {
                let multiprocess =
                    self.supported.as_ref().is_some_and(|s| s.windows(13).any(|w| w == b"multiprocess+"));
                let process = if multiprocess { "p01." } else { "" };
                self.answer(&format!("QC{process}{:02x}", self.thread), out)
            }
            Packet::NoAcks => {
                self.answer("OK", out)?;
                self.acks = false;
                Ok(())
            }
            Packet::StepBits => self.answer(&format!("0x{:x}", self.target.sstep), out),
            Packet::SetStepBits(bits) => {
                self.target.sstep = bits;
                self.answer("OK", out)
            }
            Packet::Physical => self.answer(if self.target.physical { "1" } else { "0" }, out),
            Packet::SetPhysical(physical) => {
                self.target.physical = physical;
                self.answer("OK", out)
            }
            Packet::Why => {
                // Who asks has just come, and knows of no breakpoints of others.
                self.target.clear_breakpoints();
                self.stub(b"?", out)
            }
            Packet::Restart => {
                self.restart();
                Ok(())
            }
            Packet::Run => {
                self.restart();
                self.stub(b"?", out)
            }
            Packet::Kill { answered } => {
                if answered {
                    self.answer("OK", out)?;
                }
                self.answer("W00", out)?;
                self.kill();
                Ok(())
            }
        }
    }

    fn restart(&self) {
        // Refused only while memory is dumped; it is reset then.
        let _ = self.machine().perform(Request::SystemReset(Cause::HostQmpSystemReset));
    }

    fn input(&mut self, input: Input, out: &mut dyn Write) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        // Whatever is said to a machine that runs stops it.
        if self.is_waiting() && input != Input::Resend {
            let _ = self.machine().perform(Request::Stop);
            self.all_events(out)?;
        }
        match input {
            Input::Interrupt => Ok(()),
            Input::Resend => out.write_all(&self.last),
            Input::Broken if self.acks => out.write_all(b"-"),
            Input::Broken => Ok(()),
            Input::TooLong | Input::Packet(_) => {
                if self.acks {
                    out.write_all(b"+")?;
                }
                match input {
                    Input::Packet(body) => self.packet(&body, out),
                    _ => self.answer(INVALID, out),
                }
            }
        }
    }

    fn all_events(&mut self, out: &mut dyn Write) -> io::Result<()> {
        while let Some(event) = self.events.next() {
            self.event(&event.kind, out)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &EventKind, out: &mut dyn Write) -> io::Result<()> {
        if !self.is_waiting() {
            return Ok(());
        }
        match event {
            EventKind::Stop => match self.stop_reason() {
                Some(reason) => self.report(reason, out),
                None => Ok(()),
            },
            EventKind::Shutdown { .. } => self.report(Stop::Exited(0), out),
            _ => Ok(()),
        }
    }

    /// Why the machine stands now, for the debugger; nothing if it does not, or only for a moment.
    fn stop_reason(&self) -> Option<Stop> {
        let tid = |cpu: usize| Tid::new(cpu.saturating_add(1)).unwrap_or(Tid::MIN);
        match self.machine().run_state() {
            RunState::Running | RunState::SaveVm => None,
            RunState::Shutdown => Some(Stop::Exited(0)),
            RunState::Prelaunch | RunState::Paused => {
                Some(Stop::SignalWithThread { tid: self.thread, signal: Signal::SIGINT })
            }
            RunState::Debug => {
                let stop = self.machine().debug_stop()?;
                let tid = tid(stop.cpu);
                let trap = Stop::SignalWithThread { tid, signal: Signal::SIGTRAP };
                Some(match stop.why {
                    StopReason::Breakpoint => match self.target.breakpoint_at_pc(stop.cpu) {
                        Some(Kind::Software) => Stop::SwBreak(tid),
                        Some(Kind::Hardware) => Stop::HwBreak(tid),
                        None => trap,
                    },
                    StopReason::Watched(Some(hit)) => {
                        let kind = match hit.kind {
                            WatchKind::Write => GdbWatchKind::Write,
                            WatchKind::Read => GdbWatchKind::Read,
                            WatchKind::Access => GdbWatchKind::ReadWrite,
                        };
                        Stop::Watch { tid, kind, addr: hit.addr }
                    }
                    StopReason::Watched(None) | StopReason::Step => trap,
                })
            }
        }
    }

    fn report(&mut self, reason: Stop, out: &mut dyn Write) -> io::Result<()> {
        match self.stub.take() {
            Some(GdbStubStateMachine::Running(stub)) => match stub.report_stop(&mut self.target, reason) {
                Ok(stub) => self.stub = Some(stub),
                Err(_) => {
                    self.renew();
                    return self.answer("S05", out);
                }
            },
            other => self.stub = other,
        }
        let answer = self.pipe.take();
        self.send(answer, out)?;
        self.after_stub();
        Ok(())
    }
}

impl Session for GdbSession {
    fn opened(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let _ = out;
        (self.framer, self.acks, self.supported) = (Framer::default(), true, None);
        (self.thread, self.target.physical) = (NonZeroUsize::MIN, false);
        self.last.clear();
        self.renew();
        // A debugger finds the machine stopped.
        let _ = self.machine().perform(Request::Stop);
        while self.events.next().is_some() {}
        Ok(())
    }

    fn received(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.all_events(out)?;
        // One write for what belongs together.
        let mut out = io::BufWriter::with_capacity(MOST, out);
        for byte in bytes {
            if let Some(input) = self.framer.push(*byte) {
                self.input(input, &mut out)?;
            }
        }
        out.flush()
    }

    fn woken(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.all_events(out)
    }
}
