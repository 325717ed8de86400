//! The PowerPC ISA tests of `guests/` on this engine, without a board: RAM at 0 and a clock that the instructions move on.
//! QEMU 7.2 confirms them, where it is installed, and the committed images are what the sources give, where the compiler is.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail loudly")]

#[path = "support/image.rs"]
mod image;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flatview::{Endianness, Memory, RamBlock, Region};
use flatview_cpu::ppc::{BusErrors, PC, Ppc, PpcModel};
use flatview_cpu::{Cpu, Exit};
use flatview_device::Clock;
use image::Image;

const RAM: u64 = 16 << 20;
const MOST: u64 = 40_000_000;
/// Instructions at a time, and how far the clock goes meanwhile: a tick of 16.6 MHz in ten instructions.
const SLICE: u64 = 1_000;
const SLICE_NS: i64 = 6_000;

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
}

/// All images of a folder whose names begin so, by the rest of the name.
fn images(folder: &Path, prefix: &str) -> BTreeMap<String, PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "elf"))
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.strip_prefix(prefix)?.to_owned();
            Some((name, path))
        })
        .collect()
}

fn skip(variable: &str, why: &str) {
    assert!(std::env::var_os(variable).is_none(), "{why}");
    println!("skipped: {why}");
}

/// What the program printed until it was done.
fn run(path: &Path, model: &'static PpcModel) -> String {
    let image = Image::read(path, Endianness::Big);
    let memory = Memory::new(Endianness::Big);
    let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", RAM).unwrap())).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    let (clock, reader) = (Clock::stepped(), memory.memory_space().reader());
    let isa = Ppc::new(model, &clock, 16_600_000).with_bus_errors(BusErrors::MachineCheck);
    let mut cpu = Cpu::new(isa, &memory, &memory.memory_space()).unwrap();
    let (at, piece) = image.piece();
    reader.poke(u64::from(at), piece).unwrap();
    cpu.core_mut().set(PC, u64::from(image.entry()));
    cpu.core_mut().isa.set_msr(0);
    let peek = |at: u64, len: usize| {
        let mut bytes = vec![0; len];
        reader.peek(at, &mut bytes).unwrap();
        bytes
    };
    let symbol = |name: &str| u64::from(image.symbol(name));
    let done = symbol("guest_done");
    let mut budget = 0;
    while budget < MOST && cpu.core().get(PC) != done {
        let exit = cpu.run(SLICE);
        clock.step(Some(SLICE_NS)).unwrap();
        budget += SLICE;
        if !matches!(exit, Exit::Done | Exit::Waiting) {
            break;
        }
    }
    let used = u32::from_be_bytes(peek(symbol("guest_log_used"), 4).try_into().unwrap());
    let log = peek(symbol("guest_log"), (used as usize).min(4096));
    let mut text = String::from_utf8_lossy(&log).into_owned();
    if !text.contains("end ") {
        text +=
            &format!("not done: pc {:08x} after {} instructions\n", cpu.core().get(PC), cpu.instructions());
    }
    text
}

/// Groups whose image did not print that it passed.
fn failures(run: &dyn Fn(&str, &Path) -> Option<String>) -> String {
    let mut failed = String::new();
    for (group, path) in images(&guests().join("images/ppc"), "isa-") {
        let Some(text) = run(&group, &path) else { continue };
        println!("{group}: {}", text.trim_end());
        if !text.lines().any(|line| line == format!("ok {group}")) {
            failed += &format!("--- {group}\n{text}");
        }
    }
    failed
}

#[test]
fn every_group_of_isa_tests_passes() {
    assert!(images(&guests().join("images/ppc"), "isa-").len() >= GROUPS, "images are missing");
    let failed = failures(&|_, path| Some(run(path, PpcModel::ppc604())));
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn the_755_passes_them_too() {
    let failed = failures(&|_, path| Some(run(path, PpcModel::ppc755())));
    assert!(failed.is_empty(), "{failed}");
}

/// How many groups there are at least.
const GROUPS: usize = 15;

/// What the program prints on QEMU's 604, with RAM and a time base, and no device that interrupts unasked (as the 40p's timer would).
fn run_on_qemu(path: &Path) -> String {
    let image = Image::read(path, Endianness::Big);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let mut child = Command::new("qemu-system-ppc")
        .args([
            "-M", "g3beige", "-cpu", "604", "-m", "32", "-vga", "none", "-nic", "none", "-display", "none",
        ])
        .args(["-monitor", "none", "-serial", "null", "-qmp", "stdio", "-device"])
        .arg(format!("loader,file={},cpu-num=0", path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from = BufReader::new(child.stdout.take().unwrap());
    let mut ask = |request: &str| {
        writeln!(to, "{request}").unwrap();
        let mut line = String::new();
        while !line.contains("\"return\"") && !line.contains("\"error\"") {
            line.clear();
            assert_ne!(from.read_line(&mut line).unwrap(), 0, "QEMU went away");
        }
    };
    ask(r#"{"execute":"qmp_capabilities"}"#);
    let save = format!(
        r#"{{"execute":"pmemsave","arguments":{{"val":{},"size":4096,"filename":"{}"}}}}"#,
        image.symbol("guest_log"),
        file.display()
    );
    let begun = Instant::now();
    let text = loop {
        std::thread::sleep(Duration::from_millis(50));
        ask(&save);
        let log = std::fs::read(&file).unwrap();
        let text =
            String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        let is_done = text.lines().any(|line| line.starts_with("end ")) && text.ends_with('\n');
        if is_done || begun.elapsed() > Duration::from_secs(20) {
            break text;
        }
    };
    ask(r#"{"execute":"quit"}"#);
    child.wait().unwrap();
    text
}

#[test]
fn qemu_confirms_every_group() {
    if Command::new("qemu-system-ppc").arg("--version").output().is_err() {
        return skip("FLATVIEW_REQUIRE_QEMU", "qemu-system-ppc is missing: apt-get install qemu-system-ppc");
    }
    // What the manuals say and QEMU 7.2 does otherwise is in a group of its own, which guests/README.md lists.
    // QEMU does not come to the end of `float`, and why is not known yet; the host's arithmetic confirms that one.
    let failed = failures(&|group, path| (!matches!(group, "manual" | "float")).then(|| run_on_qemu(path)));
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn rebuilt_images_are_the_committed_ones() {
    let build = guests().join("build-ppc");
    let here = Command::new(&build).arg("--toolchain").output().unwrap();
    if !here.status.success() {
        return skip(
            "FLATVIEW_REQUIRE_PPC_GCC",
            "powerpc-linux-gnu-gcc is missing: apt-get install gcc-powerpc-linux-gnu",
        );
    }
    let committed = guests().join("images/ppc");
    let want = std::fs::read_to_string(committed.join("TOOLCHAIN")).unwrap();
    if String::from_utf8_lossy(&here.stdout) != want {
        return skip(
            "FLATVIEW_REQUIRE_PPC_GCC",
            "the images were built with another compiler: guests/build-ppc makes new ones",
        );
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(Command::new(&build).arg(folder.path()).status().unwrap().success());
    let (old, new) = (images(&committed, ""), images(folder.path(), ""));
    assert!(old.keys().eq(new.keys()), "{old:?} {new:?}");
    for (name, path) in new {
        assert!(
            std::fs::read(path).unwrap() == std::fs::read(&old[&name]).unwrap(),
            "{name}.elf is not what its sources give: run guests/build-ppc and commit the images"
        );
    }
}
