//! The human monitor: command lines in, text out, over one [`Machine`].
//!
//! [`Hmp::execute`] carries out one line; [`HmpSession`] speaks with a client over a character back end. The command table is
//! [`commands`]. It is not a terminal: whoever has one edits lines there, asks [`complete`] for completions and calls
//! [`Hmp::execute`].
//!
//! Names, parameters, output and error texts are QEMU 7.2's wherever QEMU has the command. Two things differ on purpose: `x`
//! and `xp` look without side effects, so that a register that cannot be looked at is said to be one; and `info mtree` takes its options
//! in any order.

pub mod args;
pub mod commands;
mod dirty_rate;
mod drives;
mod dump;
pub mod expr;
pub mod format;
mod info;
mod line;
mod memory;
mod objects;
mod qom;
mod session;
mod tracing;

pub use session::{HmpSession, LineEnd};

use crate::os_error;
use args::{ArgError, Args};
use commands::{Command, Commands};
use flatview_board::cpu::GuestCpu;
use flatview_board::{DirtyRateError, DriveError, DumpError, Machine, ObjectError, RequestError};
use std::io::{self, Write};
use std::sync::Arc;
use thiserror::Error;

/// The prompt that people's scripts wait for.
pub const PROMPT: &str = "(qemu) ";

/// How many lines `info history` remembers, as QEMU.
const HISTORY: usize = 64;

/// The line that greets a client, without a line break.
pub fn greeting() -> String {
    format!("Flatview {} monitor - type 'help' for more information", crate::VERSION)
}

/// Why a command did nothing, or not all.
#[derive(Debug, Error)]
pub enum HmpError {
    /// Bad parameters: the text is followed by a pointer to the command's help.
    #[error(transparent)]
    Args(#[from] ArgError),
    /// The machine is in no state for it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An object or memory device cannot be.
    #[error("{}", .0.with_hint())]
    Object(#[from] ObjectError),
    /// Memory cannot be dumped.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// A drive does not do it.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The dirty rate cannot be measured.
    #[error(transparent)]
    DirtyRate(#[from] DirtyRateError),
    /// A file that memory should be saved to is memory of the machine.
    #[error("'{path}' is the file behind RAM block '{block}' of this machine; save to another file")]
    IsMemory {
        /// The file.
        path: String,
        /// The block.
        block: String,
    },
    /// The command went wrong.
    #[error("{0}")]
    Failed(String),
    /// A file of the user's.
    #[error("Could not {action} '{path}': {}", os_error(.source))]
    File {
        /// `open` or `write`.
        action: &'static str,
        /// The file.
        path: String,
        /// The host's reason.
        source: io::Error,
    },
    /// The client cannot be written to.
    #[error("The monitor's client cannot be written to: {0}")]
    Client(#[from] io::Error),
}

impl HmpError {
    /// What would be right, for a line of its own.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Dump(error) => error.hint(),
            _ => None,
        }
    }
}

/// One monitor: what it remembers between commands.
#[derive(Debug)]
pub struct Hmp {
    machine: Arc<Machine>,
    formats: format::Defaults,
    history: Vec<String>,
    quit: bool,
}

impl Hmp {
    /// A monitor of `machine`.
    pub fn new(machine: Arc<Machine>) -> Self {
        Self { machine, formats: format::Defaults::default(), history: Vec::new(), quit: false }
    }

    /// The machine.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Whether `quit` was given: no prompt is due any more.
    pub fn has_quit(&self) -> bool {
        self.quit
    }

    /// Carries out one command line and writes what it says, in lines that end in `\n`.
    ///
    /// # Errors
    /// Those of `out` only; what is wrong with the command is written to `out`.
    pub fn execute(&mut self, line: &str, out: &mut dyn Write) -> io::Result<()> {
        let line = line.trim();
        if line.is_empty() || self.quit {
            return Ok(());
        }
        self.remember(line);
        let (command, path, rest) = match find(commands::commands(), line) {
            Ok(found) => found,
            Err(unknown) => return writeln!(out, "unknown command: '{unknown}'"),
        };
        let mut args = Args::new(command.name, rest);
        match (command.run)(self, &mut args, out) {
            Ok(()) => Ok(()),
            Err(HmpError::Client(error)) => Err(error),
            Err(HmpError::Args(error)) => {
                writeln!(out, "{error}")?;
                writeln!(out, "Try \"help {path}\" for more information")
            }
            Err(error) => {
                writeln!(out, "Error: {error}")?;
                match error.hint() {
                    Some(hint) => writeln!(out, "{hint}"),
                    None => Ok(()),
                }
            }
        }
    }

    fn remember(&mut self, line: &str) {
        if self.history.last().is_none_or(|last| last != line) {
            if self.history.len() == HISTORY {
                self.history.remove(0);
            }
            self.history.push(line.to_owned());
        }
    }

    /// `$name` in expressions: a register of the CPU, by gdb's name for it (PowerPC's `pc` by QEMU's as well).
    fn register(&self, name: &str) -> Option<u64> {
        let asked = |cpu: &mut dyn GuestCpu| {
            let name =
                if name == "nip" && cpu.debug_architecture().starts_with("powerpc") { "pc" } else { name };
            let at = cpu.debug_registers().iter().position(|register| register.name == name)?;
            Some(cpu.debug_register(at))
        };
        // Without a CPU no register is known.
        self.machine.with_cpu(0, asked).ok().flatten()
    }
}

/// What `text`, the line up to the cursor, could become: the candidates for its last word, and where that word starts.
pub fn complete(text: &str) -> (usize, Vec<String>) {
    let start = text.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (before, word) = text.split_at(start);
    let table = match before.split_whitespace().collect::<Vec<_>>().as_slice() {
        [] => commands::commands(),
        ["info"] => commands::info_commands(),
        ["help" | "?"] => commands::commands(),
        ["help" | "?", "info"] => commands::info_commands(),
        _ => &[],
    };
    let names = table.iter().flat_map(|c| c.names()).filter(|name| name.starts_with(word));
    (start, names.map(str::to_owned).collect())
}

/// Finds the command that a line starts with.
///
/// Gives the command, its full name for the help (`info mtree`) and its parameters; or the words that are no command.
/// `info` without a subcommand is a command of its own.
fn find(table: Commands, line: &str) -> Result<(&'static Command, String, &str), String> {
    let (word, rest) = split_word(line);
    let command = table.iter().find(|c| c.names().any(|name| name == word)).ok_or(word)?;
    if command.first_name() != "info" || rest.trim().is_empty() {
        return Ok((command, command.first_name().to_owned(), rest));
    }
    let (sub, rest) = split_word(rest.trim_start());
    let full = format!("info {sub}");
    match commands::info_commands().iter().find(|c| c.names().any(|name| name == sub)) {
        Some(command) => Ok((command, full, rest)),
        None => Err(full),
    }
}

/// A command's name ends at white space or where a format starts: `xp/4xw 0`.
fn split_word(line: &str) -> (&str, &str) {
    let end = line.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(line.len());
    line.split_at(end)
}

#[cfg(test)]
mod cpu_tests;
#[cfg(test)]
mod tests;
