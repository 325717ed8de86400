//! `guests/cpiom-partitions`: two partitions on the `cpiom` board, one of which misbehaves.
//!
//! Rebuilding needs Debian's PowerPC compiler of the version in `guests/images/cpiom/TOOLCHAIN`. Without it that test says
//! that it was skipped; with `FLATVIEW_REQUIRE_PPC_GCC=1` it fails instead.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use flatview_board::device::chardev::MemoryBackend;
use flatview_board::{IcountConfig, IcountShift, Machine, MachineConfig, SerialConfig};

/// The status of the script when there is no compiler.
const NO_COMPILER: i32 = 69;
const PATIENCE: Duration = Duration::from_secs(60);

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
}

fn image() -> PathBuf {
    guests().join("images/cpiom/cpiom-partitions.elf")
}

#[test]
fn the_committed_image_is_what_the_sources_give() {
    let skip = |why: &str| {
        assert!(std::env::var_os("FLATVIEW_REQUIRE_PPC_GCC").is_none(), "{why}");
        eprintln!("SKIPPED: {why}");
    };
    let folder = tempfile::tempdir().unwrap();
    let built = Command::new(guests().join("cpiom-partitions/build")).arg(folder.path()).output().unwrap();
    let told = String::from_utf8_lossy(&built.stderr);
    if built.status.code() == Some(NO_COMPILER) {
        return skip(told.trim());
    }
    assert!(built.status.success(), "{told}");
    let toolchain = |path: &Path| std::fs::read_to_string(path.join("TOOLCHAIN")).unwrap();
    let (here, there) = (toolchain(folder.path()), toolchain(&guests().join("images/cpiom")));
    if here != there {
        return skip(&format!(
            "the image was built with other compilers; here are\n{here}and there were\n{there}"
        ));
    }
    let rebuilt = std::fs::read(folder.path().join("cpiom-partitions.elf")).unwrap();
    assert!(
        rebuilt == std::fs::read(image()).unwrap(),
        "run guests/cpiom-partitions/build and commit the image"
    );
}

/// What the program prints, to its end.
fn transcript(icount: Option<IcountConfig>) -> String {
    let backend = MemoryBackend::new("serial0");
    let config = MachineConfig {
        kernel: Some(image()),
        serials: vec![SerialConfig::Backend(backend.clone())],
        icount,
        ..MachineConfig::new("cpiom")
    };
    let machine = Machine::new(config).unwrap();
    let (mut text, began) = (String::new(), Instant::now());
    while !text.contains("the end\r\n") {
        assert!(began.elapsed() < PATIENCE, "{text}\n{:?}", machine.registers());
        std::thread::sleep(Duration::from_millis(5));
        text.push_str(&String::from_utf8(backend.take()).unwrap());
    }
    text
}

#[test]
fn with_time_counted_in_instructions_it_prints_what_the_book_shows() {
    let book = include_str!("../../../docs/partitions.md");
    let shown = book.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    // 16 ns an instruction: 1.4 million of them in a window.
    let icount = IcountConfig { shift: IcountShift::Fixed(4), sleep: false, align: false };
    assert_eq!(transcript(Some(icount)).replace('\r', ""), shown);
}

#[test]
fn a_partition_that_stores_into_anothers_page_is_restarted_and_the_other_never_notices() {
    let text = transcript(None);
    let lines: Vec<&str> = text.lines().collect();
    let of = |who: &str| -> Vec<&str> { lines.iter().filter_map(|line| line.strip_prefix(who)).collect() };

    // A busy host can cost a window, but not a step: NAV goes on where it was.
    let steps = of("NAV: ");
    assert!(steps.len() >= 4, "{text}");
    for (n, step) in (1_u32..).zip(&steps) {
        let position = 0x0048_0000 + n * 0x1234;
        assert_eq!(*step, format!("step {n}, position {position:08x}, memory intact"), "{text}");
    }

    assert_eq!(
        of("health monitor: "),
        ["MAINT stored 4 bytes at 00012004, data of NAV, refused by the SDRAM controller; it is restarted"],
        "{text}"
    );
    let at = lines.iter().position(|line| line.starts_with("health monitor")).unwrap();
    assert!(lines[..at].last().unwrap().starts_with("MAINT: window 3, NAV is at "), "{text}");
    let after: Vec<&str> = lines[at..].iter().filter_map(|line| line.strip_prefix("MAINT: ")).collect();
    assert_eq!(after[0], "started again by the health monitor, degraded", "{text}");
    assert!(after[1].starts_with("window 1, "), "{text}");
    assert!(!text.contains("THE STORE WENT THROUGH"), "{text}");
    assert_eq!(of("executive: violations"), [": 1; restarts: NAV 0, MAINT 1"], "{text}");
}
