//! The qtest protocol: a test program's real accesses to a machine's memory, ports, lines and clock.
//!
//! One command a line, one answer a line, `OK …` or `FAIL reason`; level changes of intercepted lines come in between, `IRQ raise 3`.
//! Unlike QEMU's it never ends the process: any line that it cannot carry out gets a `FAIL` with the reason. Accesses are made
//! as the boot CPU's bus sees them and have their side effects; bus errors are not reported, as in QEMU.

mod parse;

pub use parse::{Command, MAX_LENGTH, ParseError, parse};

use crate::guest;
use crate::session::{Session, Waker};
use data_encoding::{BASE64, HEXLOWER};
use flatview::Endianness;
use flatview_board::device::{IrqLine, IrqObserver};
use flatview_board::{Machine, PinDirection};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The longest line: `write` with [`MAX_LENGTH`] bytes would be longer, so data comes in several commands.
const MAX_LINE: usize = 16 << 20;

/// A level change of an intercepted line.
type LevelChange = (usize, bool);

/// One test program's session.
pub struct QtestSession {
    machine: Arc<Machine>,
    waker: Waker,
    line: Vec<u8>,
    /// The line so far is longer than [`MAX_LINE`]: nothing more is kept of it.
    overlong: bool,
    changes: (Sender<LevelChange>, Receiver<LevelChange>),
    intercepted: Option<Intercepted>,
    log: Option<Box<dyn Write + Send>>,
}

/// The one device whose lines are reported.
struct Intercepted {
    path: String,
    outputs: bool,
    name: Option<String>,
    #[expect(dead_code, reason = "kept alive: an observer that is dropped stops observing")]
    observers: Vec<IrqObserver>,
}

impl fmt::Debug for QtestSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QtestSession").field("line", &self.line.len()).finish_non_exhaustive()
    }
}

impl QtestSession {
    /// A session on `machine`. `waker` tells its thread that a line has changed its level; `log` takes a copy of every line
    /// received (`[R]`) and sent (`[S]`), QEMU's `-qtest-log`.
    pub fn new(machine: Arc<Machine>, waker: Waker, log: Option<Box<dyn Write + Send>>) -> Self {
        Self { machine, waker, line: Vec::new(), overlong: false, changes: channel(), intercepted: None, log }
    }

    /// Carries out one line; gives the answer without its line break.
    pub fn execute(&mut self, line: &str) -> String {
        match parse(line).map_err(|e| e.to_string()).and_then(|command| self.carry_out(command)) {
            Ok(answer) if answer.is_empty() => "OK".to_owned(),
            Ok(answer) => format!("OK {answer}"),
            Err(reason) => format!("FAIL {reason}"),
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<String, String> {
        let machine = &self.machine;
        let space = machine.cpu_space();
        let done = Ok(String::new());
        match command {
            Command::Endianness => Ok(match machine.memory().target() {
                Endianness::Big => "big".to_owned(),
                Endianness::Little => "little".to_owned(),
            }),
            Command::Load { size, addr } => {
                Ok(format!("0x{:016x}", guest::load(machine, &space, addr, size)))
            }
            Command::Store { size, addr, value } => {
                guest::store(machine, &space, addr, size, value);
                done
            }
            Command::Read { addr, len, base64 } => {
                let mut data = vec![0; len];
                // A failed byte reads as the bus leaves it; the protocol has no word for the error.
                let _ = space.read(addr, &mut data);
                Ok(if base64 { BASE64.encode(&data) } else { format!("0x{}", HEXLOWER.encode(&data)) })
            }
            Command::Write { addr, data } => {
                let _ = space.write(addr, &data);
                done
            }
            Command::Memset { addr, len, byte } => {
                let _ = space.fill(addr, byte, len as u64);
                done
            }
            Command::In { size, port } => Ok(format!("0x{:04x}", guest::port_in(machine, port, size))),
            Command::Out { size, port, value } => {
                guest::port_out(machine, port, size, value);
                done
            }
            Command::Intercept { path, outputs, name } => self.intercept(path, outputs, name),
            Command::SetIrq { path, name, number, level } => {
                let pins = pins(machine, &path, PinDirection::In, name.as_deref())?;
                let pin = pins.get(number).ok_or_else(|| {
                    format!("set_irq_in: {path} has no such input {number}, only {}", pins.len())
                })?;
                pin.set(level);
                done
            }
            Command::ClockStep(ns) => {
                machine.clock().step(ns).map(|now| now.to_string()).map_err(|e| e.to_string())
            }
            Command::ClockSet(ns) => {
                machine.clock().set(ns).map(|now| now.to_string()).map_err(|e| e.to_string())
            }
            Command::ModuleLoad { prefix, library } => {
                Err(format!("module_load: no module '{prefix}{library}', everything is built in"))
            }
            Command::Rtas => {
                Err(format!("rtas: board '{}' has no RTAS firmware interface", machine.board().name))
            }
        }
    }

    fn intercept(&mut self, path: String, outputs: bool, name: Option<String>) -> Result<String, String> {
        if let Some(now) = &self.intercepted {
            if now.path == path && now.outputs == outputs && now.name == name {
                return Ok(String::new());
            }
            return Err("IRQ intercept already enabled".to_owned());
        }
        let direction = if outputs { PinDirection::Out } else { PinDirection::In };
        let pins = pins(&self.machine, &path, direction, name.as_deref())?;
        let observers = pins
            .iter()
            .enumerate()
            .map(|(number, pin)| {
                let (sender, waker) = (self.changes.0.clone(), self.waker.clone());
                pin.observe(move |level| {
                    // The session may have ended in between: then nobody is told.
                    let _ = sender.send((number, level));
                    waker.wake();
                })
            })
            .collect();
        self.intercepted = Some(Intercepted { path, outputs, name, observers });
        Ok(String::new())
    }

    /// Sends the level changes that have come up so far.
    fn report_changes(&mut self, out: &mut dyn Write) -> io::Result<()> {
        while let Ok((number, level)) = self.changes.1.try_recv() {
            self.send(&format!("IRQ {} {number}", if level { "raise" } else { "lower" }), out)?;
        }
        Ok(())
    }

    fn send(&mut self, line: &str, out: &mut dyn Write) -> io::Result<()> {
        self.note('S', line);
        let mut text = String::with_capacity(line.len() + 1);
        text.push_str(line);
        text.push('\n');
        out.write_all(text.as_bytes())
    }

    fn note(&mut self, direction: char, line: &str) {
        if let Some(log) = &mut self.log {
            // A full disk must not change what the test program sees.
            let _ = writeln!(log, "[{direction}] {line}");
        }
    }

    fn line(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.line);
        let answer = if std::mem::take(&mut self.overlong) {
            format!("FAIL Line longer than {MAX_LINE} bytes")
        } else {
            match str::from_utf8(&bytes) {
                Ok(line) => {
                    self.note('R', line.trim_end());
                    self.execute(line)
                }
                Err(_) => "FAIL Line is not UTF-8".to_owned(),
            }
        };
        // What the command raised or lowered comes before its answer: test programs look at levels after it.
        self.report_changes(out)?;
        self.send(&answer, out)
    }
}

fn pins(
    machine: &Machine,
    path: &str,
    direction: PinDirection,
    name: Option<&str>,
) -> Result<Vec<IrqLine>, String> {
    machine.irq_pins(path, direction, name).map_err(|error| error.to_string())
}

impl Session for QtestSession {
    fn opened(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn received(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        for &byte in bytes {
            if byte == b'\n' {
                self.line(out)?;
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            } else {
                self.overlong = true;
            }
        }
        Ok(())
    }

    fn woken(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.report_changes(out)
    }

    fn closed(&mut self) {
        self.line.clear();
        self.overlong = false;
        self.intercepted = None;
        self.changes = channel();
    }
}

#[cfg(test)]
mod tests;
