//! Whether the random maps of `visibility.rs`, the random changes of `incremental.rs`, the random accesses of
//! `bytes.rs`, the readers that stay of `known.rs`, the tests of listeners, IOMMUs and traced calls, the random use of mappings and the views' own tests can fail: each fault of the kept list is put into a copy of the crate, which must
//! then fail its tests, and the copy without faults must pass.
//!
//! That takes minutes, so it runs only when asked: `cargo test -p flatview --test faults -- --ignored --nocapture`.
//! `FLATVIEW_FAULT=text` tries the faults whose name or file has that text; `FLATVIEW_TREES=n` sets the number of maps. That
//! the list still fits the sources is checked always.
#![expect(clippy::expect_used, clippy::panic, reason = "tests fail loudly")]

#[path = "faults/iommu.rs"]
mod iommu;
#[path = "faults/list.rs"]
mod list;
#[path = "faults/listen.rs"]
mod listen;
#[path = "faults/mapping.rs"]
mod mapping;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use list::Fault;

/// Maps tried against each fault, and of those with readers that stay, which take longer.
const MAPS: &str = "20000";
const MAPS_KNOWN: &str = "300";
/// A faulty library may go round for ever.
const PATIENCE: Duration = Duration::from_secs(60);

fn faults() -> impl Iterator<Item = &'static Fault> {
    list::FAULTS.iter().chain(listen::FAULTS).chain(iommu::FAULTS).chain(mapping::FAULTS)
}

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The faulty text of a fault's file, or why there is none.
fn faulty(fault: &Fault) -> Result<String, String> {
    let file = crate_dir().join("src").join(fault.file);
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    match text.matches(fault.from).count() {
        1 => Ok(text.replace(fault.from, fault.to)),
        n => Err(format!("src/{} has {n} times, and not once:\n{}", fault.file, fault.from)),
    }
}

#[test]
fn every_seeded_fault_fits_the_sources() {
    let bad: Vec<String> =
        faults().filter_map(|f| faulty(f).err().map(|why| format!("'{}': {why}", f.name))).collect();
    assert!(bad.is_empty(), "bring tests/faults/list.rs up to date:\n{}", bad.join("\n"));
    let mut names: Vec<_> = faults().map(|f| f.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), faults().count(), "names are told apart");
}

/// A copy of the crate in a workspace of its own, and a target folder that keeps the dependencies.
struct Copy {
    root: PathBuf,
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder in target");
    for entry in fs::read_dir(from).expect("a folder of the crate") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

impl Copy {
    fn make() -> Self {
        let workspace = crate_dir().join("../..");
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
        // Not the copy's target folder: it keeps the dependencies for the next time.
        let _ = fs::remove_dir_all(root.join("crates"));
        let to = root.join("crates/flatview");
        // Everything that the manifest may name, and of the tests what is run.
        for folder in ["src", "benches", "examples", "tests/support", "tests/iommu"] {
            if crate_dir().join(folder).is_dir() {
                copy_tree(&crate_dir().join(folder), &to.join(folder));
            }
        }
        let member = |file: &str| (crate_dir().join(file), to.join(file));
        for (from, to) in [
            (workspace.join("Cargo.toml"), root.join("Cargo.toml")),
            (workspace.join("Cargo.lock"), root.join("Cargo.lock")),
            member("Cargo.toml"),
            member("tests/visibility.rs"),
            member("tests/incremental.rs"),
            member("tests/bytes.rs"),
            member("tests/known.rs"),
            member("tests/trace.rs"),
            member("tests/listeners.rs"),
            member("tests/listeners_random.rs"),
            member("tests/mapping_random.rs"),
        ] {
            fs::copy(&from, &to).unwrap_or_else(|e| panic!("copy {}: {e}", from.display()));
        }
        Self { root }
    }

    fn put(&self, file: &str, text: &str) {
        fs::write(self.root.join("crates/flatview/src").join(file), text).expect("a file of the copy");
    }

    fn restore(&self, file: &str) {
        let original = fs::read_to_string(crate_dir().join("src").join(file)).expect("a source file");
        self.put(file, &original);
    }

    /// Builds a test; its program, or what the compiler said.
    fn build(&self, test: &str) -> Result<PathBuf, String> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
            .args(["test", "--offline", "-p", "flatview", "--no-run"])
            .args(if test == "lib" { vec!["--lib"] } else { vec!["--test", test] })
            .arg("--message-format=json-render-diagnostics")
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            // One line changes at a time.
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .stdin(Stdio::null())
            .output()
            .expect("cargo");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let mut programs = messages.lines().filter_map(|line| {
            let (_, after) = line.split_once("\"executable\":\"")?;
            after.split_once('"').map(|(program, _)| PathBuf::from(program))
        });
        programs.next_back().ok_or_else(|| "cargo names no program".to_owned())
    }

    /// Runs the test: `Ok` if it passes, else by what it fails.
    fn run(&self, program: &Path) -> Result<(), String> {
        let log = self.root.join("log");
        let file = File::create(&log).expect("a log");
        let unit = program.file_name().is_some_and(|n| n.to_string_lossy().starts_with("flatview-"));
        let known = program.file_name().is_some_and(|n| n.to_string_lossy().starts_with("known-"));
        let maps = if known { MAPS_KNOWN } else { MAPS };
        let mut child = Command::new(program)
            // Of the crate's own tests those of the views' tree.
            .args(unit.then_some("view::"))
            .arg("--nocapture")
            .current_dir(&self.root)
            .env("FLATVIEW_TREES", std::env::var("FLATVIEW_TREES").unwrap_or_else(|_| maps.to_owned()))
            .env_remove("FLATVIEW_SEED")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .spawn()
            .expect("the test's program");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break status;
            }
            if began.elapsed() > PATIENCE {
                child.kill().expect("a child of ours");
                child.wait().expect("a child of ours");
                return Err(format!("it does not end in {PATIENCE:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if status.success() {
            return Ok(());
        }
        let text = fs::read(&log).expect("a log");
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines().skip_while(|line| !line.contains("panicked at"));
        let place = lines.next().and_then(|l| l.split_once("panicked at ")).map_or("?", |(_, place)| place);
        let what = lines.next().unwrap_or("?");
        let seed = text.lines().find_map(|l| l.strip_prefix("seed ")?.split(' ').next()).unwrap_or("?");
        Err(format!("seed {seed}, {place} {what}"))
    }
}

#[test]
#[ignore = "takes minutes; CI runs it"]
fn every_seeded_fault_is_caught() {
    let copy = Copy::make();
    let began = Instant::now();
    for test in [
        "visibility",
        "incremental",
        "bytes",
        "known",
        "trace",
        "listeners",
        "listeners_random",
        "iommu",
        "mapping_random",
        "lib",
    ] {
        let program = copy.build(test).unwrap_or_else(|why| panic!("the copy does not build:\n{why}"));
        if let Err(what) = copy.run(&program) {
            panic!("without a fault {test} fails: {what}");
        }
    }
    println!("without a fault the tests pass ({:.1} s with building)", began.elapsed().as_secs_f64());
    let wanted = std::env::var("FLATVIEW_FAULT").unwrap_or_default();
    let mut bad = Vec::new();
    let (mut caught, mut tried) = (0, 0);
    for fault in faults().filter(|f| f.name.contains(&wanted) || f.file.contains(&wanted)) {
        copy.put(fault.file, &faulty(fault).unwrap_or_else(|why| panic!("'{}': {why}", fault.name)));
        let missed = bad.len();
        for test in fault.tests {
            let began = Instant::now();
            let result = match copy.build(test) {
                Ok(program) => copy.run(&program).err().ok_or_else(|| "NOT CAUGHT".to_owned()),
                Err(why) => Err(format!("DOES NOT BUILD\n{why}")),
            };
            let seconds = began.elapsed().as_secs_f64();
            match result {
                Ok(what) => println!("caught  {} ({test}, {seconds:.1} s): {what}", fault.name),
                Err(why) => {
                    println!("MISSED  {} ({test}, {seconds:.1} s): {why}", fault.name);
                    bad.push(format!("{} by {test}", fault.name));
                }
            }
        }
        caught += usize::from(missed == bad.len());
        tried += 1;
        copy.restore(fault.file);
    }
    println!("{caught} of {tried} faults caught in {:.0} s", began.elapsed().as_secs_f64());
    assert!(bad.is_empty(), "not caught: {bad:#?}");
    assert!(caught > 0, "no fault has '{wanted}' in its name");
}
