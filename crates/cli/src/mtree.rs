//! `flatview mtree CAPTURE …`: QEMU's `info mtree` text, read, printed back, rendered and asked.

use flatview::mtree::{self, Options};
use getopts::{Fail, Options as Getopts};
use std::fmt::Write as _;
use std::path::Path;
use thiserror::Error;

/// What went wrong; `Display` follows `flatview: `.
#[derive(Debug, Error)]
pub enum MtreeCommandError {
    /// A bad command line.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// A file or a map.
    #[error(transparent)]
    Text(Box<mtree::MtreeError>),
    /// A map that changed or cannot be rendered.
    #[error("mtree: {0}")]
    Memory(#[from] flatview::MemoryError),
}

impl From<mtree::MtreeError> for MtreeCommandError {
    fn from(error: mtree::MtreeError) -> Self {
        Self::Text(Box::new(error))
    }
}

/// A bad command line.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("mtree: {0}; 'flatview mtree -h' shows how to call it")]
pub struct UsageError(String);

const USAGE: &str = "usage: flatview mtree CAPTURE [--answers FLAT] [-f] [--show-answers] [--at ADDRESS [--space NAME]]

Reads CAPTURE, the text of 'info mtree' of any QEMU, and prints
  (nothing more)      the same text again: a check that all of it was understood
  -f                  the flat views that the tree has (with -o and -D: as in the monitor)
  --show-answers      what the text leaves open and FLAT tells: which regions answer themselves, who wins a tie
  --at ADDRESS        who answers at that address (of the address space 'memory', or of --space NAME)

  --answers FLAT      learn what the text leaves open from FLAT, the text of 'info mtree -f' of the same machine,
                      or from a list that --show-answers printed; nothing else of FLAT is used
";

/// What to do, read from the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    capture: String,
    answers: Option<String>,
    options: Options,
    show_answers: bool,
    at: Option<u64>,
    space: Option<String>,
}

/// Carries out `flatview mtree args…`; gives the text to print.
///
/// # Errors
/// [`MtreeCommandError`], with file and line where a text is at fault.
pub fn run(args: &[String]) -> Result<String, MtreeCommandError> {
    let Some(call) = parse(args)? else {
        return Ok(USAGE.to_owned());
    };
    let path = Path::new(&call.capture);
    let document = mtree::read_document(path)?;
    let answers = match &call.answers {
        Some(flat) => Some(mtree::read_answers(Path::new(flat), &document)?),
        None => None,
    };
    let mut text = String::new();
    if let Some(answers) = answers.as_ref().filter(|_| call.show_answers) {
        let _ = write!(text, "{answers}");
    }
    if !call.options.flat && call.at.is_none() {
        if !call.show_answers {
            text = document.to_string();
        }
        return Ok(text);
    }
    let memory = mtree::import(&mtree::read_tree(path)?, answers.as_ref())?.memory;
    if call.options.flat {
        let _ = write!(text, "{}", mtree::write(&memory, call.options)?);
    }
    if let Some(address) = call.at {
        for at in mtree::answer_at(&memory, call.space.as_deref(), address)? {
            let _ = writeln!(text, "{at}");
        }
    }
    Ok(text)
}

fn parse(args: &[String]) -> Result<Option<Call>, UsageError> {
    let usage = UsageError;
    let mut getopts = Getopts::new();
    getopts.long_only(true);
    for flag in ["f", "d", "o", "D"] {
        getopts.optflagmulti(flag, "", "");
    }
    getopts.optflagmulti("h", "help", "").optflagmulti("", "show-answers", "");
    for option in ["answers", "at", "space"] {
        getopts.optmulti("", option, "", "");
    }
    let matches = getopts.parse(args).map_err(|fail| {
        usage(match fail {
            Fail::UnrecognizedOption(name) => {
                let known = ["answers", "show-answers", "at", "space", "f", "d", "o", "D", "help"];
                format!("'--{name}' is no option{}", crate::suggest::hint(&name, known, "--"))
            }
            Fail::ArgumentMissing(name) => format!("--{name} requires an argument"),
            other => other.to_string(),
        })
    })?;
    if matches.opt_present("help") {
        return Ok(None);
    }
    let last = |name: &str| matches.opt_strs(name).pop();
    let [capture] = matches.free.as_slice() else {
        return Err(usage(match matches.free.get(1) {
            None => "CAPTURE is missing".to_owned(),
            Some(more) => format!("one CAPTURE only, '{more}' is too much"),
        }));
    };
    let at = last("at").map(|text| address(&text).ok_or(text)).transpose().map_err(|text| {
        usage(format!("--at {text}: not an address (hexadecimal with 0x, or decimal, below 2^64)"))
    })?;
    let call = Call {
        capture: capture.clone(),
        answers: last("answers"),
        options: Options {
            flat: matches.opt_present("f"),
            dispatch: matches.opt_present("d"),
            owner: matches.opt_present("o"),
            disabled: matches.opt_present("D"),
        },
        show_answers: matches.opt_present("show-answers"),
        at,
        space: last("space"),
    };
    if call.space.is_some() && call.at.is_none() {
        return Err(usage("--space needs --at ADDRESS".to_owned()));
    }
    if call.show_answers && call.answers.is_none() {
        return Err(usage("--show-answers needs --answers FLAT".to_owned()));
    }
    let of_views = call.options.dispatch || call.options.owner || call.options.disabled;
    if of_views && !call.options.flat {
        return Err(usage("-d, -o and -D go with -f".to_owned()));
    }
    Ok(Some(call))
}

fn address(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Option<Call>, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args).map_err(|e| e.to_string())
    }

    #[test]
    fn options_may_stand_before_and_after_the_capture() {
        let expected = Call {
            capture: "a.tree".to_owned(),
            answers: Some("a.flat".to_owned()),
            options: Options { flat: true, ..Options::default() },
            at: Some(0x1000),
            space: Some("I/O".to_owned()),
            ..Call::default()
        };
        assert_eq!(call("-f --at 0x1000 a.tree --answers a.flat --space=I/O"), Ok(Some(expected)));
        assert_eq!(call("--help"), Ok(None));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, part) in [
            ("", "CAPTURE is missing"),
            ("a b", "'b' is too much"),
            ("a --space memory", "--space needs --at ADDRESS"),
            ("a --show-answers", "--show-answers needs --answers FLAT"),
            ("a -o", "-d, -o and -D go with -f"),
            ("a --at 12q", "--at 12q: not an address"),
            ("a --at 0x10000000000000000", "not an address"),
            ("a --anwsers b", "did you mean '--answers'?"),
            ("a --at", "--at requires an argument"),
        ] {
            let error = call(line).unwrap_err();
            assert!(error.contains(part) && error.contains("flatview mtree -h"), "{line}: {error}");
        }
    }
}
