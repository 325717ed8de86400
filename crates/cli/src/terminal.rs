//! The terminal that the program was started from: its modes, given back whatever happens, and the monitor's line editor.

use flatview_board::{Cause, Machine, Request};
use flatview_monitor::hmp::{self, Hmp, PROMPT};
use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;

/// Whether a person sits in front of standard input and output.
pub fn is_interactive() -> bool {
    isatty(rustix::stdio::stdin()) && isatty(rustix::stdio::stdout())
}

/// The modes of standard input as they were; dropping it sets them again.
///
/// The line editor and the serial console change them on threads of their own, which do not get to clean up when the program
/// ends: whoever ends it holds this.
#[derive(Debug)]
pub struct Modes(Option<Termios>);

impl Modes {
    /// Remembers the modes as they are; nothing if standard input is no terminal.
    pub fn save() -> Self {
        Self(tcgetattr(rustix::stdio::stdin()).ok())
    }

    /// Lets each key through as it is typed, without echo; the keys that send signals too unless `signals`.
    pub fn raw(&self, signals: bool) {
        let Some(mut modes) = self.0.clone() else { return };
        modes.input_modes -= InputModes::IGNBRK
            | InputModes::BRKINT
            | InputModes::PARMRK
            | InputModes::ISTRIP
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::ICRNL
            | InputModes::IXON;
        modes.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN;
        if !signals {
            modes.local_modes -= LocalModes::ISIG;
        }
        // A terminal that refuses stays as it is: keys then come line by line.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &modes);
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        if let Some(modes) = &self.0 {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, modes);
        }
    }
}

/// Completes command names for the line editor.
struct Names;

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(hmp::complete(line.get(..pos).unwrap_or(line)))
    }
}

impl Hinter for Names {
    type Hint = String;
}
impl Highlighter for Names {}
impl Validator for Names {}
impl Helper for Names {}

/// Runs the human monitor on the terminal, on a thread of its own. `gone` is called when the input has ended (Ctrl-D).
///
/// # Errors
/// The terminal cannot be used for editing; the host has no thread left.
pub fn monitor(machine: Arc<Machine>, gone: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let config = Config::builder().bracketed_paste(false).auto_add_history(true).build();
    let mut editor: Editor<Names, MemHistory> =
        Editor::with_history(config, MemHistory::new()).map_err(io::Error::other)?;
    editor.set_helper(Some(Names));
    // Some terminals show its control sequences as text, and scripts wait for the bare prompt.
    editor.enable_synchronized_output(false);
    thread::Builder::new().name("monitor".to_owned()).spawn(move || {
        let mut hmp = Hmp::new(machine.clone());
        let mut out = io::stdout();
        // A terminal that can no longer be written to is gone, and so is the monitor on it.
        if writeln!(out, "{}", hmp::greeting()).is_err() {
            return;
        }
        while !hmp.has_quit() {
            match editor.readline(PROMPT) {
                Ok(line) => {
                    if hmp.execute(&line, &mut out).and_then(|()| out.flush()).is_err() {
                        return;
                    }
                }
                // Ctrl-C; the editor has taken the signal's key.
                Err(ReadlineError::Interrupted) => {
                    machine.request(Request::Quit(Cause::HostSignal));
                    return;
                }
                Err(_) => {
                    gone();
                    return;
                }
            }
        }
    })?;
    Ok(())
}
