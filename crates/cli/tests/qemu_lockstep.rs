//! The same random program of reads and writes, over qtest, on QEMU's 40p and on ours: every answer must be equal.
//!
//! What differs on purpose stands in `docs/deviations.md`; the addresses left out here are read from that page and
//! from nowhere else. Needs Debian's qemu-system-ppc and its firmware; without them the test says that it was
//! skipped, and with `FLATVIEW_REQUIRE_QEMU=1` (as in CI) it fails instead.
//!
//! A failure prints the seed and the last requests; `FLATVIEW_SEED` repeats one run, `FLATVIEW_LOCKSTEP` sets the
//! number of requests, and `FLATVIEW_TRACE` names a file that gets all of them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const QEMU: &str = "qemu-system-ppc";
const FIRMWARE: &str = "/usr/share/qemu/openbios-ppc";

/// A program that speaks qtest on its standard input and output.
struct Qtest {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Qtest {
    fn start(program: &str, extra: &[&str]) -> Self {
        let common = ["-M", "40p", "-S", "-display", "none", "-monitor", "none", "-serial", "null"];
        let mut child = Command::new(program)
            .args(common)
            .args(["-device", "pc-testdev", "-qtest", "stdio"])
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

    fn ask(&mut self, request: &str) -> String {
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

/// The addresses that the book says differ.
fn exclusions() -> Vec<RangeInclusive<u64>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deviations.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let list = text.split("```exclusions\n").nth(1).expect("the page has a list of exclusions");
    let list = list.split("```").next().unwrap();
    let hex = |s: &str| u64::from_str_radix(s.trim_start_matches("0x"), 16).unwrap();
    let lines = list.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let (what, reason) = line.split_once('#').expect("an exclusion gives its reason");
            assert!(!reason.trim().is_empty(), "an exclusion gives its reason: {line}");
            let (start, end) = what.trim().strip_prefix("exclude ").unwrap().split_once('-').unwrap();
            hex(start.trim())..=hex(end.trim())
        })
        .collect()
}

/// What is accessed, and how often relative to the others.
const AREAS: &[(u64, u64, u32)] = &[
    // RAM, the seam between two SIMMs, and the end of RAM.
    (0x0000_0000, 0x0000_ffff, 8),
    (0x01ff_fff0, 0x0200_000f, 4),
    (0x07ff_fff0, 0x0800_000f, 4),
    // Nothing.
    (0x1000_0000, 0x1000_00ff, 2),
    (0xbf80_0000, 0xbf80_00ff, 1),
    (0xe000_0000, 0xe000_00ff, 1),
    (0x1_0000_0000, 0x1_0000_00ff, 1),
    (0xffff_ffff_ffff_fff0, u64::MAX, 1),
    // The ISA window: all ports, and the test device's in the window and in its mirrors.
    (0x8000_0000, 0x8000_0fff, 16),
    (0x8000_00dc, 0x8000_00ef, 16),
    (0x8000_1ff8, 0x8000_201f, 4),
    (0x8001_00dc, 0x8001_00ef, 2),
    (0x807f_00dc, 0x807f_00ef, 2),
    // Raven's registers and the system I/O device's, with what lies around them.
    (0xbfff_efe8, 0xbfff_eff7, 4),
    (0xbfff_ffe8, 0xbfff_fff7, 2),
    (0xf000_0508, 0xf000_0517, 2),
    // The test device's memory.
    (0xff00_0000, 0xff00_00ff, 6),
    (0xff00_fff0, 0xff01_000f, 3),
    // ROM, its start and its end.
    (0xffef_fff0, 0xfff0_0fff, 6),
    (0xffff_ff00, 0xffff_ffff, 4),
];

/// splitmix64: the program must be the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// One request, and the addresses it may touch; `None` for the I/O space.
fn request(rng: &mut Rng) -> (String, Option<RangeInclusive<u64>>) {
    if rng.below(16) == 0 {
        // On this board nothing is mapped in the I/O space.
        let (letter, mask) = [('b', 0xff), ('w', 0xffff), ('l', 0xffff_ffff)][rng.below(3) as usize];
        let port = rng.below(0xfffc);
        return match rng.below(2) {
            0 => (format!("in{letter} {port:#x}"), None),
            _ => (format!("out{letter} {port:#x} {:#x}", rng.next() & mask), None),
        };
    }
    let total: u64 = AREAS.iter().map(|a| u64::from(a.2)).sum();
    let mut at = rng.below(total);
    let area = AREAS.iter().find(|a| {
        let here = at < u64::from(a.2);
        at = at.wrapping_sub(u64::from(a.2));
        here
    });
    let (first, last, _) = area.unwrap();
    let mut addr = first + rng.below(last - first + 1);
    let (letter, size) = [('b', 1), ('w', 2), ('l', 4), ('q', 8)][rng.below(4) as usize];
    if rng.below(3) > 0 {
        addr &= !(size - 1);
    }
    let value = match rng.below(4) {
        0 => 0x0102_0304_0506_0708,
        1 => 0,
        _ => rng.next(),
    } & (u64::MAX >> (64 - 8 * size));
    let len = 1 + rng.below(40).min(u64::MAX - addr);
    let single = addr..=addr.saturating_add(size - 1);
    let long = addr..=addr + (len - 1);
    match rng.below(9) {
        0..4 => (format!("read{letter} {addr:#x}"), Some(single)),
        4..7 => (format!("write{letter} {addr:#x} {value:#x}"), Some(single)),
        7 => (format!("read {addr:#x} {len:#x}"), Some(long)),
        _ => match rng.below(2) {
            0 => (format!("memset {addr:#x} {len:#x} {:#x}", rng.below(256)), Some(long)),
            _ => {
                let data: String = (0..len).map(|_| format!("{:02x}", rng.below(256))).collect();
                (format!("write {addr:#x} {len:#x} 0x{data}"), Some(long))
            }
        },
    }
}

fn env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

#[test]
fn qemu_and_we_answer_the_same_random_program_alike() {
    let here = Command::new(QEMU).arg("--version").output().is_ok_and(|o| o.status.success());
    if !here || !Path::new(FIRMWARE).exists() {
        assert!(
            std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(),
            "{QEMU} or {FIRMWARE} is missing: apt-get install qemu-system-ppc qemu-system-data seabios ipxe-qemu"
        );
        eprintln!("SKIPPED: {QEMU} or {FIRMWARE} is not installed");
        return;
    }
    let seed = env_number("FLATVIEW_SEED").unwrap_or(0x40b0_a2d0);
    let count = env_number("FLATVIEW_LOCKSTEP").unwrap_or(100_000);
    let excluded = exclusions();
    let mut qemu = Qtest::start(QEMU, &["-qtest-log", "none"]);
    let ours = std::env::var("FLATVIEW_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_flatview").to_owned());
    let mut ours = Qtest::start(&ours, if ours.contains("qemu") { &["-qtest-log", "none"] } else { &[] });
    let mut trace = std::env::var_os("FLATVIEW_TRACE").map(|path| std::fs::File::create(path).unwrap());
    let mut rng = Rng(seed);
    let mut last = VecDeque::new();
    let (mut sent, mut left_out) = (0, 0);
    while sent < count {
        let (text, touched) = request(&mut rng);
        let overlaps =
            |t: &RangeInclusive<u64>| excluded.iter().any(|e| e.start() <= t.end() && t.start() <= e.end());
        if touched.as_ref().is_some_and(overlaps) {
            left_out += 1;
            continue;
        }
        if let Some(trace) = &mut trace {
            writeln!(trace, "{text}").unwrap();
        }
        let (a, b) = (qemu.ask(&text), ours.ask(&text));
        if last.len() == 12 {
            last.pop_front();
        }
        last.push_back(format!("{text}\n    QEMU: {a}\n    ours: {b}"));
        sent += 1;
        assert!(
            a == b,
            "request {sent} of seed {seed} (FLATVIEW_SEED={seed}) is answered differently; the last ones were:\n{}",
            last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
        );
    }
    println!("{sent} requests answered alike, {left_out} left out as docs/deviations.md says, seed {seed}");
    assert!(left_out < sent, "most of the program was left out");
}
