//! The book's page on QEMU's memory API says what is true.
//!
//! `docs/qemu-memory-api.md` is read as text. Every test that it names must be there, every item of ours must compile
//! (`qemu_memory_api/items.rs` holds a use of each), every function of QEMU's headers must stand in it
//! (`qemu_memory_api/functions.rs`), and so must every edge and every deviation of `docs/deviations.md`.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests fail loudly")]

#[path = "qemu_memory_api/functions.rs"]
mod functions;
#[path = "qemu_memory_api/items.rs"]
mod items;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The number of edges of each section: one that is taken out of the page is missed.
const EDGES: &[(&str, usize)] = &[
    ("1.1", 35),
    ("1.2", 20),
    ("1.3", 29),
    ("1.4", 17),
    ("1.5", 13),
    ("1.6", 12),
    ("1.7", 8),
    ("1.8", 15),
    ("1.9", 3),
    ("1.10", 12),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One row of a table of the page.
#[derive(Debug)]
struct Row {
    line: usize,
    /// The heading that it stands under.
    section: String,
    cells: Vec<String>,
}

impl Row {
    fn cell(&self, n: usize) -> &str {
        self.cells.get(n).map_or("", String::as_str)
    }

    /// The tests that the last cell names.
    fn tests(&self) -> Vec<&str> {
        spans(self.cells.last().unwrap())
    }

    fn is_left_out(&self) -> bool {
        self.cells.last().unwrap().starts_with("left out: ")
    }
}

/// What stands between backticks.
fn spans(text: &str) -> Vec<&str> {
    let pieces: Vec<&str> = text.split('`').collect();
    assert!(pieces.len() % 2 == 1, "a backtick is missing in {text:?}");
    pieces.into_iter().skip(1).step_by(2).collect()
}

/// The rows of all tables, without those of titles and lines.
fn rows() -> Vec<Row> {
    let mut section = String::new();
    let mut rows = Vec::new();
    let mut in_body = false;
    for (line, text) in (1..).zip(read("docs/qemu-memory-api.md").lines()) {
        if let Some(title) = text.strip_prefix("## ") {
            section = title.to_owned();
        }
        let Some(cells) = text.strip_prefix('|').and_then(|text| text.strip_suffix('|')) else {
            in_body = false;
            continue;
        };
        let cells: Vec<String> = cells.split(" | ").map(|cell| cell.trim().to_owned()).collect();
        if text.starts_with("|---") {
            in_body = true;
        } else if in_body {
            rows.push(Row { line, section: section.clone(), cells });
        }
    }
    assert!(rows.len() > 200, "the tables are not read");
    rows
}

/// Rows of the tables of functions and features: `QEMU | Flatview | Test`.
fn features(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| row.section.starts_with("1.") && !row.cell(0).starts_with("T1."))
}

/// The file that a test's name stands for, and the function.
fn place(test: &str) -> (String, &str) {
    let (file, function) = test.rsplit_once("::").unwrap_or_else(|| panic!("{test} is not FILE::FUNCTION"));
    let path = match file.split_once('/') {
        None => format!("crates/flatview/tests/{file}.rs"),
        Some(("src", _)) => format!("crates/flatview/{file}.rs"),
        Some((name, _)) if !root().join("crates").join(name).is_dir() => {
            format!("crates/flatview/tests/{file}.rs")
        }
        Some((name, rest)) if rest.starts_with("src/") => format!("crates/{name}/{rest}.rs"),
        Some((name, rest)) => format!("crates/{name}/tests/{rest}.rs"),
    };
    (path, function)
}

/// The functions of a file that are tests: those after `#[test]`, also within `proptest!`.
fn tests_of(source: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            is_test = false;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if std::mem::take(&mut is_test) {
                tests.insert(name);
            }
        } else if !line.starts_with("#[") && !line.starts_with("//") && !line.is_empty() {
            is_test = false;
        }
    }
    tests
}

#[test]
fn every_row_has_tests_that_are_there_or_says_why_it_is_left_out() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in rows() {
        let line = row.line;
        let cells = if row.section.starts_with("What") { 4 } else { 3 };
        assert_eq!(row.cells.len(), cells, "line {line}: {:?}", row.cells);
        let tests = row.tests();
        if row.is_left_out() {
            let why = row.cells.last().unwrap().trim_start_matches("left out: ");
            if why.len() < 15 {
                wrong.push(format!("line {line}: {why:?} is no reason"));
            }
            continue;
        }
        if tests.is_empty() {
            wrong.push(format!("line {line}: no test in {:?}", row.cells));
        }
        for test in tests {
            let (path, function) = place(test);
            let there = known.entry(path.clone()).or_insert_with(|| {
                let source = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
                tests_of(&source)
            });
            if !there.contains(function) {
                wrong.push(format!("line {line}: {path} has no test {function}"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/qemu-memory-api.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_item_that_is_named_compiles_or_is_a_command_of_the_book() {
    let rows = rows();
    let compiled: BTreeSet<&str> = items::ITEMS.iter().copied().collect();
    let commands = ["monitor", "qmp", "qtest", "command-line"].map(|page| read(&format!("docs/{page}.md")));
    let mut wrong = Vec::new();
    let mut named = BTreeSet::new();
    for row in features(&rows) {
        if row.is_left_out() != (row.cell(1) == "—") {
            wrong.push(format!("line {}: what is left out has —, and nothing else has", row.line));
        }
        for span in spans(row.cell(1)) {
            let (first, rest) = span.split_once("::").unwrap_or((span, ""));
            let is_ours =
                first.starts_with(|c: char| c.is_uppercase()) || first == "mtree" || first == "visibility";
            let there = if first == "vm_memory" {
                // Only there with the feature of that name.
                has_item("flatview", rest)
            } else if is_ours {
                named.insert(span);
                compiled.contains(span)
            } else if rest.is_empty() {
                commands.iter().any(|page| page.contains(&format!("`{span}")))
            } else {
                has_item(first, rest)
            };
            if !there {
                wrong.push(format!("line {}: there is no {span}", row.line));
            }
        }
    }
    for item in compiled.iter().filter(|item| !named.contains(**item)) {
        wrong.push(format!("qemu_memory_api/items.rs has {item}, which the page does not name"));
    }
    assert!(wrong.is_empty(), "docs/qemu-memory-api.md:\n{}", wrong.join("\n"));
}

/// Whether a crate of ours that this one cannot use has a public item `TYPE` or `TYPE::METHOD`.
fn has_item(name: &str, item: &str) -> bool {
    let mut sources = Vec::new();
    let mut folders = vec![root().join("crates").join(name).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let begins = |line: &str, kinds: &[&str], name: &str| {
        kinds.iter().any(|kind| {
            let rest = line.strip_prefix(kind).and_then(|rest| rest.strip_prefix(name));
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    let Some((of, method)) = item.split_once("::") else {
        let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub fn ", "pub const ", "pub type "];
        return sources.iter().flat_map(|s| s.lines()).any(|line| begins(line, &kinds, item));
    };
    // Methods of an `impl` or a trait, which begins and ends at the margin.
    sources.iter().any(|source| {
        let mut inside = false;
        source.lines().any(|line| {
            if line.starts_with("impl") || line.starts_with("pub trait ") {
                let name = line.rsplit(" for ").next().unwrap_or(line);
                let name = name.trim_start_matches("pub trait ");
                let name =
                    if name.starts_with("impl<") { name.split_once("> ").map_or("", |n| n.1) } else { name };
                inside = begins(name.trim_start_matches("impl "), &[""], of);
            } else if line.starts_with('}') {
                inside = false;
            }
            let kinds = ["pub fn ", "pub const fn ", "pub unsafe fn ", "fn "];
            inside && line.starts_with("    ") && begins(line.trim_start(), &kinds, method)
        })
    })
}

#[test]
fn every_function_of_qemus_headers_stands_in_the_tables() {
    let rows = rows();
    let named: BTreeSet<&str> = features(&rows).flat_map(|row| spans(row.cell(0))).collect();
    let missing: Vec<_> = functions::FUNCTIONS.iter().filter(|name| !named.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/qemu-memory-api.md does not tell of {missing:#?}");
}

#[test]
fn every_edge_stands_in_the_tables_once() {
    let rows = rows();
    let edges: Vec<&Row> = rows.iter().filter(|row| row.cell(0).starts_with("T1.")).collect();
    let numbered = |(section, count): &(&str, usize)| {
        (1..=*count).map(|n| format!("T{section}-{n:02}")).collect::<Vec<_>>()
    };
    let mut wanted: Vec<String> = EDGES.iter().flat_map(numbered).collect();
    wanted.extend(('a'..='p').map(|letter| format!("T1.11-{letter}")));
    let found: Vec<&str> = edges.iter().map(|row| row.cell(0)).collect();
    assert_eq!(found, wanted);
    for row in edges {
        let section = row.cell(0).trim_start_matches('T').split_once('-').unwrap().0;
        assert!(row.section.starts_with(&format!("{section} ")), "line {}: under {}", row.line, row.section);
        assert!(!row.is_left_out(), "line {}: an edge has a test", row.line);
    }
}

#[test]
fn every_deviation_stands_among_what_qemu_gets_wrong_or_does_otherwise() {
    let page = read("docs/deviations.md");
    let ids = |text: &str| -> BTreeSet<String> {
        let found = text.match_indices("DEV-").map(|(at, _)| text[at..].chars().take(6).collect());
        found.collect()
    };
    let now: BTreeSet<String> = page
        .lines()
        .filter(|l| l.starts_with("| DEV-") && l.ends_with("| now |"))
        .map(|l| l[2..8].to_owned())
        .collect();
    assert!(now.len() > 50, "the deviations are not read");
    let rows = rows();
    let told: BTreeSet<String> =
        rows.iter().filter(|r| r.section.starts_with("What")).flat_map(|r| ids(r.cell(2))).collect();
    let missing: Vec<_> = now.difference(&told).collect();
    let unknown: Vec<_> = told.difference(&now).collect();
    assert!(missing.is_empty(), "docs/qemu-memory-api.md does not tell of {missing:?}");
    assert!(unknown.is_empty(), "docs/deviations.md does not know {unknown:?}");
}

#[test]
fn what_is_read_is_what_is_written() {
    // The readers above, on texts whose answer is known.
    assert_eq!(spans("a `b` c `d::e`"), ["b", "d::e"]);
    assert_eq!(place("rules::x"), ("crates/flatview/tests/rules.rs".into(), "x"));
    assert_eq!(place("src/ram/bytes::x"), ("crates/flatview/src/ram/bytes.rs".into(), "x"));
    assert_eq!(place("hw/src/pci/raven::x"), ("crates/hw/src/pci/raven.rs".into(), "x"));
    assert_eq!(place("hostile/deep::x"), ("crates/flatview/tests/hostile/deep.rs".into(), "x"));
    assert_eq!(place("cli/program/driver::x"), ("crates/cli/tests/program/driver.rs".into(), "x"));
    let source = "#[test]\nfn one() {}\nfn helper() {}\n    #[test]\n    #[should_panic]\n    fn two() {}\n\
                  #[test]\n#[ignore = \"slow\"]\nfn three() {}\n// fn four() {}\n#[test]\nconst A: u8 = 0;\nfn five() {}\n";
    assert_eq!(tests_of(source), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    assert!(has_item("device", "Unmodelled::map") && has_item("device", "PortRun::new"));
    assert!(has_item("device", "EmptySlot") && has_item("board", "Machine::qom_get"));
    assert!(!has_item("device", "Unmodelled::mop") && !has_item("device", "PortRun::regions"));
    assert!(!has_item("device", "Unmodelle") && !has_item("device", "Unmodelled::ma"));
    assert!(rows().iter().any(|row| row.section.starts_with("1.1 ") && row.cell(0).starts_with("T1.1-01")));
}
