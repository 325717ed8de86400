//! `flatview-bench`: measures Flatview and its peers, side by side.

use std::io::Write as _;
use std::process::ExitCode;

use flatview_bench::error::BenchError;
use flatview_bench::report::Verdict;
use flatview_bench::run::Run;
use flatview_bench::{figures, limits};

/// Bad arguments, or a measurement that could not be made.
const UNUSABLE: u8 = 64;

fn main() -> ExitCode {
    let mut options = getopts::Options::new();
    options.optflag("", "check", "compare with the limits; the exit status tells (see below)");
    options.optopt("", "json", "write the results to FILE too", "FILE");
    options.optopt("", "only", "only the figures whose name contains NAME", "NAME");
    options.optflag("", "list", "print the names of the figures and measure nothing");
    options.optflag("", "limits", "print the table of limits, as docs/performance.md shows it");
    options.optflag("h", "help", "print this");
    let told = |text: &str| drop(writeln!(std::io::stderr(), "{text}"));
    let matches = match options.parse(std::env::args().skip(1)) {
        Ok(matches) if matches.free.is_empty() => matches,
        Ok(matches) => {
            told(&format!("flatview-bench: unexpected '{}'; try --help", matches.free.join(" ")));
            return ExitCode::from(UNUSABLE);
        }
        Err(e) => {
            told(&format!("flatview-bench: {e}; try --help"));
            return ExitCode::from(UNUSABLE);
        }
    };
    if matches.opt_present("help") {
        let brief = "Usage: flatview-bench [--check] [--json FILE] [--only NAME]\n\n\
                     Measures Flatview and its peers, in turn, and prints for each the median, half the distance of\n\
                     the quartiles, and the ratio to what it is compared with. Ratios are what counts.";
        let usage = options.usage(brief);
        let status = "Exit status: 0 all is well; with --check: 1 a figure fell short, 2 the machine was too noisy to\n\
                      tell or the peers are not what they were (which is not a pass); 64 it could not run.";
        let _ = writeln!(std::io::stdout(), "{usage}\n{status}");
        return ExitCode::SUCCESS;
    }
    if matches.opt_present("limits") {
        let _ = write!(std::io::stdout(), "{}", limits::as_markdown());
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) {
        told("flatview-bench: this is a debug build; what it measures means nothing (cargo run --release)");
        if matches.opt_present("check") {
            return ExitCode::from(2);
        }
    }
    let list = matches.opt_present("list");
    let mut run = Run::new(matches.opt_str("only"), list);
    let checks = matches.opt_present("check") && !list;
    let done = if checks { run.until_quiet(figures::all) } else { figures::all(&mut run) };
    if let Err(e) = done {
        told(&format!("flatview-bench: {e}"));
        return ExitCode::from(UNUSABLE);
    }
    if list {
        return ExitCode::SUCCESS;
    }
    if let Some(path) = matches.opt_str("json")
        && let Err(source) = std::fs::write(&path, format!("{:#}\n", run.report.json()))
    {
        told(&format!("flatview-bench: {}", BenchError::Write { path, source }));
        return ExitCode::from(UNUSABLE);
    }
    let verdict = run.report.verdict();
    let _ = write!(std::io::stdout(), "\n{}", run.report.summary());
    match verdict {
        _ if !matches.opt_present("check") => ExitCode::SUCCESS,
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::FallsShort => ExitCode::from(1),
        Verdict::CannotTell => ExitCode::from(2),
    }
}
