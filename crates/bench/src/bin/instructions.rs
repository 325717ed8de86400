//! `flatview-instructions`: counts the instructions of the hottest paths and compares them with the kept table.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use flatview_bench::instructions::{as_table, compared, counted, table};

/// Could not count.
const UNUSABLE: u8 = 64;
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");

const HELP: &str = "Usage: flatview-instructions [--bless]

Counts the instructions of the hottest paths with callgrind (through gungraun) and compares them with
crates/bench/instructions.txt. Needs valgrind, and: cargo install --locked gungraun-runner --version 0.20.0

  --bless   write the counts into the table

Exit status: 0 all counts are within 5 % of the table's; 1 they are not; 64 they could not be taken.";

fn run(bless: bool) -> Result<bool, Box<dyn std::error::Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let args =
        ["bench", "--package", "flatview-bench", "--bench", "instructions", "--", "--output-format=json"];
    let mut command = Command::new(cargo);
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        return Err(
            "callgrind did not run (see above); it needs valgrind (apt-get install valgrind) and, in PATH, \
                    the runner: cargo install --locked gungraun-runner --version 0.20.0"
                .into(),
        );
    }
    let counts = counted(&String::from_utf8_lossy(&output.stdout))?;
    if counts.is_empty() {
        return Err("nothing was counted".into());
    }
    let old = std::fs::read_to_string(TABLE).map_err(|e| format!("Cannot read '{TABLE}': {e}"))?;
    let (text, good) = compared(&table(&old)?, &counts);
    write!(std::io::stdout(), "{text}")?;
    if bless {
        std::fs::write(TABLE, as_table(&old, &counts)).map_err(|e| format!("Cannot write '{TABLE}': {e}"))?;
        writeln!(std::io::stdout(), "written to {TABLE}")?;
    }
    Ok(good || bless)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let bless = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--bless"] => true,
        ["--help" | "-h"] => {
            let _ = writeln!(std::io::stdout(), "{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "{HELP}");
            return ExitCode::from(UNUSABLE);
        }
    };
    match run(bless) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "flatview-instructions: {e}");
            ExitCode::from(UNUSABLE)
        }
    }
}
