//! The `flatview` command: QEMU's command line over the boards of `flatview-board`, and tools for memory maps.
//!
//! | question | module |
//! |---|---|
//! | What does the command line say? | [`options`], [`size`], [`rtc`], [`icount`], [`suggest`] |
//! | Which front end is where? | [`frontends`] |
//! | How is a machine run and ended? | [`emulator`] |
//! | How do serial port and monitor share a terminal? | [`mux`], [`terminal`] |
//! | How far is preallocation? | [`progress`] |
//! | What is logged, and where? | [`logging`] |
//! | What does `flatview mtree` do? | [`mtree`] |

mod drives;
mod emulator;
mod frontends;
mod icount;
mod logging;
mod mtree;
mod mux;
mod options;
mod progress;
mod rtc;
mod size;
mod suggest;
mod terminal;

use flatview_board::device::{LogMask, TraceEvent};
use flatview_board::{Machine, MemdevKind};
use options::{Asked, Print};
use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let Some(("mtree", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return match mtree::run(rest) {
            Ok(text) => print(&text),
            Err(error) => fail(error),
        };
    }
    match options::parse(&args) {
        Ok(Asked::Print(what)) => print(&text_of(what)),
        Ok(Asked::Run(options)) => match emulator::run(&options) {
            Ok(0) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => fail(error),
        },
        Err(error) => fail(error),
    }
}

/// Prints to standard output. A reader that has gone (`flatview -h | head -1`) is no failure.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("Cannot write to standard output: {error}")),
    }
}

fn fail(error: impl Display) -> ExitCode {
    // Standard error that is gone can be told nothing; the exit status still says it.
    let _ = writeln!(io::stderr(), "flatview: {error}");
    ExitCode::FAILURE
}

fn text_of(what: Print) -> String {
    let mut text = String::new();
    match what {
        Print::Help => text = options::help(),
        Print::Version => text = format!("{}\n", options::version()),
        Print::Machines => {
            text.push_str("Supported machines are:\n");
            for board in Machine::boards() {
                let _ = writeln!(text, "{:20} {}", board.name, board.description);
                for alias in board.aliases {
                    let _ = writeln!(text, "{alias:20} {} (alias of {})", board.description, board.name);
                }
            }
        }
        Print::LogItems => text = LogMask::help(false),
        Print::TraceEvents => {
            for event in TraceEvent::ALL {
                let _ = writeln!(text, "{}", event.name());
            }
        }
        Print::TraceOptions => text.push_str(logging::TRACE_OPTIONS),
        Print::Cpus => {
            text.push_str("Available CPUs:\n");
            for cpu in Machine::cpu_models() {
                let name = format!("{} '{}'", cpu.family, cpu.name);
                let _ = writeln!(text, "{name:20} {} (-M {})", cpu.description, cpu.boards.join(", "));
            }
        }
        Print::Devices => {
            text.push_str("Devices for -device:\n");
            for (name, help) in Machine::device_kinds() {
                let _ = writeln!(text, "{name:20} {help}");
            }
        }
        Print::Objects => {
            text.push_str("List of user creatable objects:\n");
            for kind in MemdevKind::ALL {
                let _ = writeln!(text, "  {}", kind.name());
            }
        }
        Print::ObjectProperties(kind) => text = kind.help(),
        Print::DimmProperties => text = Machine::dimm_help(),
        Print::Displays => text.push_str("Available display backend types:\nnone\n"),
    }
    text
}
