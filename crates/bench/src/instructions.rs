//! Instruction counts: the kept table, and what a run says of it.
//!
//! What it is: reading `instructions.txt` and gungraun's JSON, and comparing. What it is not: the paths that are
//! counted, which are in `benches/instructions.rs`.
//!
//! What must hold: a count that left the table's in *either* direction is told. Fewer instructions are good news,
//! but a table that is not brought up to date would let the next slip pass.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// How far a count may be from the table's, as a part of it.
pub const TOLERANCE: f64 = 0.05;

/// Counts by path.
pub type Counts = BTreeMap<String, u64>;

/// What is wrong with a text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountsError {
    /// A line of the table is not a name and a count.
    #[error(
        "Line {line} of the table of instructions, '{text}', is not a path and a count; write it with --bless"
    )]
    Table {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// What gungraun printed is not understood.
    #[error(
        "gungraun printed '{text}', which has no count of instructions; is it version 0.20, with callgrind as its tool?"
    )]
    Output {
        /// Its beginning.
        text: String,
    },
}

/// Reads the table: lines of a path and a count; `#` begins a comment.
///
/// # Errors
/// [`CountsError::Table`]
pub fn table(text: &str) -> Result<Counts, CountsError> {
    let mut counts = Counts::new();
    for (line, text) in (1..).zip(text.lines()) {
        let content = text.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let wrong = || CountsError::Table { line, text: text.into() };
        let (path, count) = content.rsplit_once(' ').ok_or_else(wrong)?;
        counts.insert(path.trim().into(), count.parse().map_err(|_| wrong())?);
    }
    Ok(counts)
}

/// Reads what `cargo bench -- --output-format=json` printed: an object a line, for each path.
///
/// # Errors
/// [`CountsError::Output`]
pub fn counted(output: &str) -> Result<Counts, CountsError> {
    let one = |line: &str| {
        let json: Value = serde_json::from_str(line).ok()?;
        let name = json.get("function_name")?.as_str()?.to_owned();
        let count = json.pointer("/profiles/0/data/total/metrics/Ir/values/new")?.as_u64()?;
        Some((name, count))
    };
    let lines = output.lines().filter(|l| !l.trim().is_empty());
    lines
        .map(|line| one(line).ok_or_else(|| CountsError::Output { text: line.chars().take(80).collect() }))
        .collect()
}

/// The table for these counts, with the comments of the old one.
#[must_use]
pub fn as_table(old: &str, counts: &Counts) -> String {
    let mut out: String =
        old.lines().take_while(|l| l.starts_with('#')).fold(String::new(), |s, l| s + l + "\n");
    for (path, count) in counts {
        let _ = writeln!(out, "{path:<24} {count:>10}");
    }
    out
}

/// A line for each path, and whether all are near the table's.
#[must_use]
pub fn compared(expected: &Counts, counts: &Counts) -> (String, bool) {
    let mut out = String::new();
    let mut good = true;
    for (path, count) in counts {
        let verdict = match expected.get(path) {
            None => "NOT IN THE TABLE: add it with --bless".to_owned(),
            Some(expected) => {
                let change = *count as f64 / *expected as f64 - 1.0;
                let what = if change.abs() <= TOLERANCE {
                    "ok"
                } else if change > 0.0 {
                    "MORE than the table says: a slip, or a price to be paid knowingly (--bless)"
                } else {
                    "FEWER than the table says: good; keep it with --bless"
                };
                good &= change.abs() <= TOLERANCE;
                format!("{expected:>10} {:>+7.1} %  {what}", change * 100.0)
            }
        };
        good &= expected.contains_key(path);
        let _ = writeln!(out, "{path:<24} {count:>10} {verdict}");
    }
    for path in expected.keys().filter(|p| !counts.contains_key(*p)) {
        good = false;
        let _ = writeln!(out, "{path:<24} {:>10} NOT COUNTED: the path is gone; drop it with --bless", "—");
    }
    (out, good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_more_and_fewer_instructions_are_told() {
        let expected = table("# a comment\nload 1000\nstore 1000\nread 1000\ngone 5\n").unwrap();
        let lines = |load: u64, store: u64, read: u64| {
            let line = |name: &str, n: u64| {
                format!(
                    r#"{{"function_name":"{name}","profiles":[{{"data":{{"total":{{"metrics":{{"Ir":{{"values":{{"new":{n}}}}}}}}}}}}}]}}"#
                )
            };
            counted(&format!("{}\n{}\n{}\n", line("load", load), line("store", store), line("read", read)))
                .unwrap()
        };
        let (text, good) = compared(&expected, &lines(1051, 949, 1049));
        assert!(!good);
        assert!(
            text.contains("MORE")
                && text.contains("FEWER")
                && text.contains("ok")
                && text.contains("NOT COUNTED")
        );
        let mut expected = expected;
        expected.remove("gone");
        assert!(compared(&expected, &lines(1049, 951, 1000)).1);
        expected.remove("read");
        assert!(!compared(&expected, &lines(1000, 1000, 1000)).1);
    }

    #[test]
    fn the_table_can_be_read_back() {
        let counts = Counts::from([("load".to_owned(), 34), ("commit".to_owned(), 21_000)]);
        let text = as_table("# kept\nold 1\n", &counts);
        assert!(text.starts_with("# kept\n"));
        assert_eq!(table(&text).unwrap(), counts);
        assert!(matches!(table("load much"), Err(CountsError::Table { line: 1, .. })));
        assert!(matches!(counted("{}"), Err(CountsError::Output { .. })));
    }
}
