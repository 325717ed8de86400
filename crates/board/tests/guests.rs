//! The guest programs of `guests/`: the committed images are what the sources give, the board loads them, and QEMU's
//! `malta` confirms what they expect of a CPU.
//!
//! Rebuilding needs Debian's MIPS compilers of the versions in `guests/images/TOOLCHAIN`, running needs
//! `qemu-system-mips`. Without them a test says that it was skipped; with `FLATVIEW_REQUIRE_MIPS_GCC=1` and
//! `FLATVIEW_REQUIRE_QEMU=1` (as in CI) it fails instead.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use flatview_board::{Machine, MachineConfig};

/// The status of `guests/build` when there is no compiler.
const NO_COMPILER: i32 = 69;
const PATIENCE: Duration = Duration::from_secs(120);

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
}

/// Every image by its place below `root`, the file of versions excepted.
fn images(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for arch in ["mips", "mipsel"] {
        for entry in std::fs::read_dir(root.join(arch)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{arch}/{}", path.file_name().unwrap().to_str().unwrap());
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

/// Says that a test did not run, or fails if `variable` asks for it.
fn skip(variable: &str, why: &str) {
    assert!(std::env::var_os(variable).is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
}

#[test]
fn rebuilt_images_are_the_committed_ones() {
    const VARIABLE: &str = "FLATVIEW_REQUIRE_MIPS_GCC";
    let build = guests().join("build");
    let versions = Command::new(&build).arg("--toolchain").output().unwrap();
    if versions.status.code() == Some(NO_COMPILER) {
        return skip(VARIABLE, String::from_utf8_lossy(&versions.stderr).trim());
    }
    assert!(versions.status.success(), "{versions:?}");
    let (here, want) = (
        String::from_utf8_lossy(&versions.stdout).into_owned(),
        std::fs::read_to_string(guests().join("images/TOOLCHAIN")).unwrap(),
    );
    if here != want {
        let why = format!(
            "the images were built with other compilers; here are\n{here}and there were\n{want}guests/build makes new images"
        );
        return skip(VARIABLE, &why);
    }
    let folder = tempfile::tempdir().unwrap();
    let built = Command::new(&build).arg(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (committed, rebuilt) = (images(&guests().join("images")), images(folder.path()));
    assert!(committed.keys().eq(rebuilt.keys()), "{:?}\n{:?}", committed.keys(), rebuilt.keys());
    for (name, image) in committed {
        assert!(
            image == rebuilt[&name],
            "{name} is not what the sources give: run guests/build and commit it"
        );
    }
}

#[test]
fn images_are_small() {
    let images = images(&guests().join("images"));
    assert!(images.len() > 40);
    for (name, image) in images {
        assert!(image.len() <= 24 << 10, "{name} has {} bytes", image.len());
    }
}

#[test]
fn the_boards_load_every_image_where_its_header_says() {
    for (name, image) in images(&guests().join("images")) {
        let path = guests().join("images").join(&name);
        let (board, _) = name.split_once('/').unwrap();
        let config = MachineConfig { start_stopped: true, kernel: Some(path), ..MachineConfig::new(board) };
        let mut bytes = [0; 64];
        let machine = Machine::new(config).unwrap();
        assert_eq!(machine.entry(), Some(0x8010_0000), "{name}");
        machine.cpu_space().read(0x10_0000, &mut bytes).unwrap();
        let at = image.windows(bytes.len()).position(|window| window == bytes);
        assert!(at.is_some_and(|at| at < 0x100), "{name}: {bytes:x?}");
    }
}

/// A QEMU that runs an image on `malta`, and what it prints on its serial port.
struct Qemu {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    text: String,
}

impl Qemu {
    fn start(image: &str, extra: &[&str]) -> Self {
        let program = format!("qemu-system-{}", image.split_once('/').unwrap().0);
        let mut child = Command::new(program)
            .args([
                "-M",
                "malta",
                "-display",
                "none",
                "-monitor",
                "none",
                "-serial",
                "stdio",
                "-no-reboot",
                "-kernel",
            ])
            .arg(guests().join("images").join(image))
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, output) = channel();
        let mut from = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = from.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take().unwrap();
        Self { child, input, output, text: String::new() }
    }

    /// Reads until the text since `from` contains `end`, or all of it when there is none.
    fn read(&mut self, from: usize, end: Option<&str>) -> String {
        let began = Instant::now();
        while end.is_none_or(|end| !self.text[from..].contains(end)) {
            match self.output.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes).replace('\r', "")),
                Err(RecvTimeoutError::Disconnected) if end.is_none() => break,
                Err(why) => panic!("waiting for {end:?}: {why}\n{}", self.text),
            }
        }
        self.text[from..].to_owned()
    }

    fn command(&mut self, command: &str) -> String {
        let from = self.text.len();
        self.input.write_all(format!("{command}\r").as_bytes()).unwrap();
        self.input.flush().unwrap();
        self.read(from, Some("\n> "))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether both QEMUs are here; says so if not.
fn qemu() -> bool {
    let here = ["qemu-system-mips", "qemu-system-mipsel"]
        .iter()
        .all(|program| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success()));
    if !here {
        skip("FLATVIEW_REQUIRE_QEMU", "qemu-system-mips is missing: apt-get install qemu-system-mips");
    }
    here
}

/// The cases of the group `manual` that the README says QEMU fails: their numbers.
fn qemu_fails() -> Vec<u32> {
    let text = std::fs::read_to_string(guests().join("README.md")).unwrap();
    let list = text.split("```qemu-fails\n").nth(1).expect("the README lists what QEMU fails");
    let list = list.split("```").next().unwrap();
    let lines = list.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (case, paragraph) = line.split_once(' ').expect("a case gives its paragraph");
            assert!(paragraph.contains("MD0"), "a case gives its paragraph: {line}");
            case.parse().unwrap()
        })
        .collect()
}

#[test]
fn qemu_confirms_every_group_of_isa_tests() {
    if !qemu() {
        return;
    }
    let names: Vec<_> =
        images(&guests().join("images")).into_keys().filter(|name| name.contains("/isa-")).collect();
    assert!(names.len() >= 40, "{names:?}");
    for name in names {
        let group = name.split_once("/isa-").unwrap().1.trim_end_matches(".elf");
        // QEMU's 24Kf has no vectored interrupts; the real one has, and so has the 34Kf.
        let cpu = if group == "irqvec" { "34Kf" } else { "24Kf" };
        let text = Qemu::start(&name, &["-cpu", cpu, "-icount", "shift=4,sleep=off"]).read(0, None);
        let last = text.lines().last().unwrap_or_default();
        if group == "manual" {
            let failed: Vec<u32> = text
                .lines()
                .filter_map(|line| line.strip_prefix("FAIL manual case ")?.split(' ').next()?.parse().ok())
                .collect();
            assert_eq!(failed, qemu_fails(), "{name}\n{text}");
            continue;
        }
        assert!(text.lines().any(|line| line == format!("ok {group}")), "{name}\n{text}");
        let checks = last
            .strip_prefix(&format!("end {group}: "))
            .and_then(|rest| rest.split_once(" checks, 0 failed"));
        assert!(checks.is_some_and(|(n, _)| n.parse::<u32>().unwrap() >= 10), "{name}\n{text}");
    }
}

#[test]
fn qemu_confirms_the_results_of_the_benchmark() {
    if !qemu() {
        return;
    }
    for arch in ["mips", "mipsel"] {
        let image = format!("{arch}/bench.elf");
        let text = Qemu::start(&image, &[]).read(0, None);
        assert!(text.ends_with("end bench: ok\n"), "{image}\n{text}");
        assert_eq!(text.matches(" ok ticks ").count(), 10, "{image}\n{text}");
        let text = Qemu::start(&image, &["-append", "alu 20 refill 2"]).read(0, None);
        assert!(text.starts_with("alu passes 20 instructions 1000000 result ffbbffed ok"), "{image}\n{text}");
        let text = Qemu::start(&image, &["-append", "alu"]).read(0, None);
        assert!(text.contains("is not NAME PASSES"), "{image}\n{text}");
    }
}

#[test]
fn the_demo_shows_its_board_ticks_and_does_what_is_typed() {
    if !qemu() {
        return;
    }
    for arch in ["mips", "mipsel"] {
        let mut qemu = Qemu::start(&format!("{arch}/demo.elf"), &["-m", "64", "-append", "two words"]);
        let hello = qemu.read(0, Some("\n> "));
        for part in ["on malta", "It was told: two words", "RAM: 64 MiB", "Ticks: 1 2 3 4 5\n", "spurious: 0"]
        {
            assert!(hello.contains(part), "{part}\n{hello}");
        }
        assert!(!hello.contains("does not tick"), "{hello}");
        assert!(qemu.command("help").contains("stores 42 to bfbf0000"));
        assert_eq!(qemu.command("poke a0200000 cafe"), "poke a0200000 cafe\n> ");
        assert_eq!(qemu.command("peek 80200000"), "peek 80200000\n80200000: 0000cafe\n> ");
        assert_eq!(qemu.command("peek 80000001"), "peek 80000001\n80000001: address error\n> ");
        assert_eq!(qemu.command("peek 400000 1"), "peek 400000 1\n00400000: not mapped\n> ");
        assert!(qemu.command("ticks").contains("CPU timer (IP7): "));
        assert!(qemu.command("nonsense").contains("'nonsense' is no command"));
        qemu.input.write_all(b"halt\r").unwrap();
        assert!(qemu.read(hello.len(), None).ends_with("> halt\nHalt.\n"));
    }
}
