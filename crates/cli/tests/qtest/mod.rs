//! What the tests that ask QEMU's 40p and ours the same over qtest have in common: the two programs, the random
//! numbers, and the lists in `docs/deviations.md` of what they leave out.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const QEMU: &str = "qemu-system-ppc";
const FIRMWARE: &str = "/usr/share/qemu/openbios-ppc";

/// A program that speaks qtest on its standard input and output.
pub(crate) struct Qtest {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Qtest {
    fn start(program: &str, extra: &[&str]) -> Self {
        let common = ["-M", "40p", "-S", "-display", "none", "-monitor", "none", "-serial", "null"];
        let mut child = Command::new(program)
            .args(common)
            .args(["-qtest", "stdio"])
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, requests, answers }
    }

    /// QEMU.
    pub(crate) fn qemu(extra: &[&str]) -> Self {
        Self::start(QEMU, &[&["-qtest-log", "none"], extra].concat())
    }

    /// The program under test: ours, or what `FLATVIEW_BIN` names.
    pub(crate) fn ours(extra: &[&str]) -> Self {
        let program =
            std::env::var("FLATVIEW_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_flatview").to_owned());
        if program.contains("qemu") {
            return Self::start(&program, &[&["-qtest-log", "none"], extra].concat());
        }
        Self::start(&program, extra)
    }

    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.requests.write_all(format!("{request}\n").as_bytes()).unwrap();
        self.requests.flush().unwrap();
        loop {
            let mut answer = String::new();
            let n = self.answers.read_line(&mut answer).unwrap();
            assert!(n > 0, "the program ended at the request: {request}");
            if !answer.starts_with("IRQ ") {
                return answer.trim_end().to_owned();
            }
        }
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether QEMU can be run; in CI it must.
pub(crate) fn qemu_is_here() -> bool {
    let here = Command::new(QEMU).arg("--version").output().is_ok_and(|o| o.status.success());
    if here && Path::new(FIRMWARE).exists() {
        return true;
    }
    assert!(
        std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(),
        "{QEMU} or {FIRMWARE} is missing: apt-get install qemu-system-ppc qemu-system-data seabios ipxe-qemu"
    );
    eprintln!("SKIPPED: {QEMU} or {FIRMWARE} is not installed");
    false
}

/// The lines of a list in `docs/deviations.md`: what is left out, without the reason that each must have.
pub(crate) fn left_out(list: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deviations.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let list = text.split(&format!("```{list}\n")).nth(1).expect("the page has this list");
    let list = list.split("```").next().unwrap();
    let lines = list.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let (what, reason) = line.split_once('#').expect("an exclusion gives its reason");
            assert!(!reason.trim().is_empty(), "an exclusion gives its reason: {line}");
            what.trim().to_owned()
        })
        .collect()
}

/// splitmix64: the program must be the same everywhere.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A number from the environment.
pub(crate) fn env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}
