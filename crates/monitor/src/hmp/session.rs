//! The human monitor over a character back end: greeting, prompt, echo.

use super::line::{LineInput, Typed};
use super::{Hmp, PROMPT, greeting};
use crate::session::Session;
use flatview_board::Machine;
use std::io::{self, Write};
use std::sync::Arc;

/// How lines end on the way to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// `\n`: pipes and files.
    Lf,
    /// `\r\n`: sockets and terminals in raw mode, as QEMU everywhere.
    CrLf,
}

/// Puts a carriage return before each line feed.
struct CrLf<'a>(&'a mut dyn Write);

impl Write for CrLf<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(text) => {
                    self.0.write_all(text)?;
                    self.0.write_all(b"\r\n")?;
                }
                None => self.0.write_all(line)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One human monitor and its client.
#[derive(Debug)]
pub struct HmpSession {
    hmp: Hmp,
    input: LineInput,
    end: LineEnd,
}

impl HmpSession {
    /// A monitor of `machine` whose lines end in `end`.
    pub fn new(machine: Arc<Machine>, end: LineEnd) -> Self {
        Self { hmp: Hmp::new(machine), input: LineInput::default(), end }
    }

    fn line(&mut self, line: &str, out: &mut dyn Write) -> io::Result<()> {
        // One write for what a short command says: a client sees no half lines, and the back end is locked less often.
        let mut out = io::BufWriter::with_capacity(16 * 1024, out);
        match self.end {
            LineEnd::Lf => {
                out.write_all(b"\n")?;
                self.hmp.execute(line, &mut out)?;
            }
            LineEnd::CrLf => {
                out.write_all(b"\r\n")?;
                self.hmp.execute(line, &mut CrLf(&mut out))?;
            }
        }
        if !self.hmp.has_quit() {
            out.write_all(PROMPT.as_bytes())?;
        }
        out.flush()
    }
}

impl Session for HmpSession {
    fn opened(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.input.reset();
        let end = if self.end == LineEnd::CrLf { "\r\n" } else { "\n" };
        out.write_all(format!("{}{end}{PROMPT}", greeting()).as_bytes())
    }

    fn received(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let mut echo = Vec::new();
        for &byte in bytes {
            if self.hmp.has_quit() {
                break;
            }
            match self.input.byte(byte) {
                Typed::Nothing => {}
                Typed::Echo(bytes) => echo.extend(bytes),
                Typed::Line(line) => {
                    out.write_all(&std::mem::take(&mut echo))?;
                    self.line(&line, out)?;
                }
            }
        }
        out.write_all(&echo)
    }
}
