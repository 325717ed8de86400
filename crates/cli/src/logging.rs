//! The log that the command line asks for: `-d`, `-D`, `-dfilter`, `-trace`, `-msg`.
//!
//! What it is: `-trace` and `-msg` read, the log opened and set. What it is not: what is logged, or how; that is
//! [`flatview_board::device::log`]'s.

use crate::options::{Options, Print};
use flatview_board::device::{Log, LogItems, LogMask};
use flatview_monitor::os_error;
use std::fs;
use std::path::PathBuf;

/// The text of `-trace …,help`.
pub const TRACE_OPTIONS: &str = "trace options:\n  enable=<pattern>  turn events on that are named so; * stands for anything\n  \
     events=<file>     the same for each line of a file; -pattern turns off, # begins a comment\n  \
     file=<file>       log to this file, as -D does\n";

/// One `-trace`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceOption {
    /// As given.
    text: String,
    /// Which events.
    pattern: Option<String>,
    /// A file that lists some.
    events: Option<PathBuf>,
    /// Where the log goes.
    file: Option<PathBuf>,
}

fn is_help(word: &str) -> bool {
    matches!(word, "help" | "?")
}

/// Whether one of the options asks for a text about trace events.
pub fn question(traces: &[String], items: &[String]) -> Option<Print> {
    let mut items = items.iter().flat_map(|items| items.split(','));
    if items.any(|item| item.strip_prefix("trace:").is_some_and(is_help)) {
        return Some(Print::TraceEvents);
    }
    traces.iter().find_map(|text| {
        let (first, rest) = text.split_once(',').unwrap_or((text, ""));
        if is_help(first.strip_prefix("enable=").unwrap_or(first)) {
            Some(Print::TraceEvents)
        } else {
            rest.split(',').any(is_help).then_some(Print::TraceOptions)
        }
    })
}

/// `-msg timestamp[=on|off]`
pub fn timestamps(text: &str) -> Result<bool, String> {
    let mut on = false;
    for part in text.split(',') {
        match part.split_once('=').unwrap_or((part, "on")) {
            ("timestamp", "on") => on = true,
            ("timestamp", "off") => on = false,
            ("timestamp", _) => return Err("Parameter 'timestamp' expects 'on' or 'off'".to_owned()),
            (name, _) => return Err(format!("Invalid parameter '{name}'; there is timestamp")),
        }
    }
    Ok(on)
}

impl TraceOption {
    /// Reads `[[enable=]PATTERN][,events=FILE][,file=FILE]`.
    ///
    /// # Errors
    /// A text that follows the option.
    pub fn parse(text: &str) -> Result<TraceOption, String> {
        let mut option = TraceOption { text: text.to_owned(), ..TraceOption::default() };
        // A comma in a path is written twice.
        for (position, part) in text.replace(",,", "\0").split(',').enumerate() {
            let part = part.replace('\0', ",");
            match part.split_once('=') {
                Some(("enable", pattern)) => option.pattern = Some(pattern.to_owned()),
                Some(("events", path)) => option.events = Some(path.into()),
                Some(("file", path)) => option.file = Some(path.into()),
                None if position == 0 => option.pattern = Some(part).filter(|pattern| !pattern.is_empty()),
                _ => {
                    let name = part.split('=').next().unwrap_or_default();
                    return Err(format!("Invalid parameter '{name}'; there are enable, events and file"));
                }
            }
        }
        Ok(option)
    }
}

/// Turns on what a pattern names, or off where it begins with a minus sign; a text if there is no such event.
fn set(log: &Log, pattern: &str) -> Option<String> {
    let (name, on) = pattern.strip_prefix('-').map_or((pattern, true), |name| (name, false));
    // A pattern that nothing is like is no mistake, as in QEMU.
    let found = log.set_events(name, on) || name.contains('*');
    (!found)
        .then(|| format!("warning: trace event '{name}' does not exist; -trace help lists those there are"))
}

/// Opens the log. `warn` is told what is odd and no error.
///
/// # Errors
/// A text that names the option and the reason.
pub fn open(options: &Options, warn: impl Fn(String)) -> Result<Log, String> {
    let mut mask = LogMask::NONE;
    let mut patterns = Vec::new();
    for text in &options.log {
        let items = LogItems::parse(text).map_err(|error| format!("-d {text}: {error}"))?;
        mask = mask | items.mask;
        patterns.extend(items.traces);
    }
    // QEMU: what -trace says overrides -D.
    let file = options.traces.iter().rev().find_map(|trace| trace.file.as_ref());
    let log = match file.or(options.log_file.as_ref()) {
        None => Log::stderr(mask),
        Some(path) => Log::file(mask, path).map_err(|error| error.to_string())?,
    };
    log.set_filter(options.log_filter.clone());
    log.set_timestamps(options.timestamps);
    patterns.iter().filter_map(|pattern| set(&log, pattern)).for_each(&warn);
    for TraceOption { text, pattern, events, .. } in &options.traces {
        let problem = pattern.as_ref().and_then(|pattern| set(&log, pattern));
        problem.into_iter().for_each(|problem| warn(format!("-trace {text}: {problem}")));
        let Some(path) = events else { continue };
        let name = path.display();
        let list = fs::read_to_string(path)
            .map_err(|error| format!("-trace {text}: Could not read '{name}': {}", os_error(&error)))?;
        for (line, number) in list.lines().map(str::trim_end).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            set(&log, line).into_iter().for_each(|problem| warn(format!("{name}:{number}: {problem}")));
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview_board::device::TraceEvent;

    #[test]
    fn a_trace_option_is_a_pattern_and_files() {
        let option = TraceOption::parse("memory_*,events=a,,b,file=c").unwrap();
        assert_eq!(option.pattern.as_deref(), Some("memory_*"));
        assert_eq!((option.events, option.file), (Some("a,b".into()), Some("c".into())));
        assert_eq!(TraceOption::parse("events=a").unwrap().pattern, None);
        assert_eq!(TraceOption::parse("enable=x").unwrap().pattern.as_deref(), Some("x"));
        let error = TraceOption::parse("x,foo=bar").unwrap_err();
        assert_eq!(error, "Invalid parameter 'foo'; there are enable, events and file");
    }

    #[test]
    fn questions_are_found_in_both_options() {
        let ask = |trace: &str, item: &str| question(&[trace.to_owned()], &[item.to_owned()]);
        assert_eq!(ask("help", "int"), Some(Print::TraceEvents));
        assert_eq!(ask("enable=?", "int"), Some(Print::TraceEvents));
        assert_eq!(ask("x", "int,trace:help"), Some(Print::TraceEvents));
        assert_eq!(ask("x,help", "int"), Some(Print::TraceOptions));
        assert_eq!(ask("x,file=help", "int,trace:x"), None);
    }

    #[test]
    fn events_are_turned_on_and_off_and_unknown_ones_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (list, to) = (folder.path().join("list"), folder.path().join("log"));
        fs::write(&list, "# a comment\n\n-memory_region_ops_read\nnonsense\nnonsense*\n").unwrap();
        let options = Options {
            log: vec!["trace:memory_region_subpage_read,trace:more,int".to_owned()],
            traces: vec![
                TraceOption::parse("memory_region_ops_*").unwrap(),
                TraceOption::parse(&format!("other,events={},file={}", list.display(), to.display()))
                    .unwrap(),
            ],
            log_file: Some(folder.path().join("unused")),
            ..Options::default()
        };
        let warnings = std::cell::RefCell::new(Vec::new());
        let log = open(&options, |text| warnings.borrow_mut().push(text)).unwrap();
        let on = TraceEvent::ALL.map(|event| log.events().is_on(event));
        assert_eq!(on, [false, true, true, false]);
        assert!(log.enabled(LogMask::INT));
        assert!(to.exists() && !folder.path().join("unused").exists());
        let warnings = warnings.into_inner();
        assert!(warnings[0].starts_with("warning: trace event 'more' does not exist"), "{warnings:?}");
        assert!(warnings[1].starts_with("-trace other,events="), "{warnings:?}");
        assert!(
            warnings[2].ends_with(
                "list:4: warning: trace event 'nonsense' does not exist; -trace help lists those there are"
            ),
            "{warnings:?}"
        );
        assert_eq!(warnings.len(), 3);
    }

    #[test]
    fn time_stamps_are_on_or_off() {
        assert_eq!(timestamps("timestamp"), Ok(true));
        assert_eq!(timestamps("timestamp=off"), Ok(false));
        assert_eq!(timestamps("timestamp=x").unwrap_err(), "Parameter 'timestamp' expects 'on' or 'off'");
        assert_eq!(timestamps("foo=on").unwrap_err(), "Invalid parameter 'foo'; there is timestamp");
    }
}
