//! Dumps of the guest's memory through the built program, and beside those of QEMU.
//!
//! The comparison needs Debian's qemu-system-ppc; without it the test says that it was skipped, and with
//! `FLATVIEW_REQUIRE_QEMU=1` (as in CI) it fails instead.

use crate::driver::{Client, LIMIT, Program, qemu_is_there, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Type, physical address and contents of each program header of a big-endian ELF file of class 32, read by the rules of the
/// ELF specification alone.
fn headers(path: &Path) -> Vec<(u32, u32, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let half = |at: usize| u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap());
    assert_eq!(&bytes[..7], b"\x7fELF\x01\x02\x01", "32 bits, big-endian, version 1");
    assert_eq!((half(16), half(18), half(42)), (4, 20, 32), "core file, PowerPC, size of a program header");
    let (first, count) = (word(28) as usize, usize::from(half(44)));
    let header = |n: usize| {
        let at = first + n * 32;
        let (offset, vaddr, paddr) = (word(at + 4) as usize, word(at + 8), word(at + 12));
        let (file, memory) = (word(at + 16) as usize, word(at + 20) as usize);
        assert_eq!((vaddr, file), (paddr, memory));
        (word(at), paddr, bytes[offset..offset + file].to_vec())
    };
    (0..count).map(header).collect()
}

/// The memory of a dump.
fn loads(path: &Path) -> Vec<(u32, Vec<u8>)> {
    let loads = headers(path).into_iter().filter(|(kind, _, _)| *kind == 1);
    loads.map(|(_, start, bytes)| (start, bytes)).collect()
}

/// A 40p with qtest on standard input and QMP on a socket.
struct Machine {
    qtest: Program,
    qmp: Client,
}

impl Machine {
    fn start(program: &str, folder: &Path, name: &str, more: &[&str]) -> Self {
        let socket = folder.join(format!("{name}.sock"));
        let qmp = format!("unix:{},server,nowait", socket.display());
        let firmware = folder.join("firmware");
        let firmware = firmware.to_str().unwrap();
        let args = ["-M", "40p", "-m", "64", "-S", "-display", "none", "-monitor", "none", "-serial", "null"];
        let io = ["-bios", firmware, "-qtest", "stdio", "-qmp", &qmp];
        let qtest = Program::start_other(program, &[&args, &io[..], more].concat());
        let mut qmp = Client::connect(&socket);
        assert!(qmp.line().contains("QMP"));
        let mut machine = Self { qtest, qmp };
        machine.ask("qmp_capabilities", &json!({}));
        machine
    }

    fn qtest(&mut self, request: &str) {
        self.qtest.send(&format!("{request}\n"));
        self.qtest.wait_for("OK\n");
    }

    /// Sends a command; gives the events before its reply, and the reply.
    fn ask(&mut self, execute: &str, arguments: &Value) -> (Vec<Value>, Value) {
        let mut line = self.qmp.ask(&json!({"execute": execute, "arguments": arguments}).to_string());
        let mut events = Vec::new();
        loop {
            let mut value: Value = serde_json::from_str(&line).unwrap();
            if value.get("event").is_none() {
                return (events, value);
            }
            value.as_object_mut().unwrap().remove("timestamp");
            events.push(value);
            line = self.qmp.line();
        }
    }
}

#[test]
fn a_dump_has_the_segments_and_the_bytes_of_qemus() {
    let Some(qemu) = qemu_is_there() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let firmware: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(path.join("firmware"), firmware).unwrap();
    let quiet = ["-qtest-log", "none", "-vga", "none", "-net", "none"];
    let mut machines = [
        ("ours", Machine::start(env!("CARGO_BIN_EXE_flatview"), path, "ours", &[])),
        ("theirs", Machine::start(qemu, path, "theirs", &quiet)),
    ];
    let parts = [
        ("all", json!({})),
        ("seam", json!({"begin": 0x1ff_f000, "length": 0x2001})),
        ("rom", json!({"begin": 0xff00_0000_u32, "length": 0x200_0000})),
        ("byte", json!({"begin": 0x1003, "length": 1})),
        ("nothing", json!({"begin": 0x9000_0000_u32, "length": 16})),
        ("running", json!({"begin": 0x0, "length": 0x10000})),
    ];
    let mut said = Vec::new();
    for (name, machine) in &mut machines {
        machine.qtest("memset 0x0 0x4000000 0xa5");
        for at in (0..64).map(|n| n * 0x10_0000 + 0x1000) {
            machine.qtest(&format!("write {at:#x} 0x8 0x0123456789abcdef"));
        }
        let mut answers = Vec::new();
        for (part, more) in &parts {
            if *part == "running" {
                answers.push(machine.ask("cont", &json!({})));
            }
            let file = path.join(format!("{name}.{part}"));
            let mut arguments = json!({"paging": false, "protocol": format!("file:{}", file.display())});
            arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            answers.push(machine.ask("dump-guest-memory", &arguments));
            answers.push(machine.ask("query-dump", &json!({})));
            answers.push(machine.ask("query-status", &json!({})));
        }
        said.push(answers);
    }
    // Events, replies and progress: the running 40p of QEMU must not have changed what is compared.
    assert_eq!(said[0], said[1]);
    for (part, _) in parts.iter().filter(|(part, _)| !matches!(*part, "nothing" | "running")) {
        let (ours, theirs) =
            (loads(&path.join(format!("ours.{part}"))), loads(&path.join(format!("theirs.{part}"))));
        let places = |loads: &[(u32, Vec<u8>)]| -> Vec<_> {
            loads.iter().map(|(start, bytes)| (*start, bytes.len())).collect()
        };
        assert_eq!(places(&ours), places(&theirs), "{part}");
        for ((start, a), (_, b)) in ours.iter().zip(&theirs) {
            let differs = a.iter().zip(b).position(|(a, b)| a != b);
            assert_eq!(differs, None, "{part}: in the segment at {start:#x}");
        }
    }
    // Ours has no notes: there are no CPUs yet.
    assert!(headers(&path.join("ours.all")).iter().all(|(kind, _, _)| *kind == 1));
}

#[test]
fn readelf_finds_nothing_wrong_with_a_dump() {
    if Command::new("readelf").arg("--version").output().is_err() {
        println!("skipped: readelf is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    let command = format!("dump-guest-memory \"{}\"\ninfo dump\n", file.display());
    let said = run(&["-M", "mips", "-m", "32M", "-S", "-monitor", "stdio"], &command);
    assert!(said.out.contains("(qemu) info dump\nStatus: completed\n"), "{said:?}");
    let read = Command::new("readelf").arg("-hlW").arg(&file).output().unwrap();
    let text = String::from_utf8(read.stdout).unwrap();
    assert_eq!(String::from_utf8(read.stderr).unwrap(), "");
    for line in [
        "Class:                             ELF32",
        "Type:                              CORE (Core file)",
        "Machine:                           MIPS R3000",
        "LOAD           0x000054 0x00000000 0x00000000 0x2000000 0x2000000",
    ] {
        assert!(text.contains(line), "no '{line}' in:\n{text}");
    }
}

#[test]
fn gdb_looks_into_a_dump() {
    if Command::new("gdb-multiarch").arg("--version").output().is_err() {
        println!("skipped: gdb-multiarch is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (file, firmware) = (folder.path().join("dump"), folder.path().join("firmware"));
    fs::write(&firmware, b"\x01\x23\x45\x67\x89\xab\xcd\xef").unwrap();
    let command = format!("dump-guest-memory {}\n", file.display());
    let firmware = firmware.to_str().unwrap();
    let board = ["-M", "40p", "-m", "32", "-bios", firmware, "-S", "-display", "none", "-monitor", "stdio"];
    assert!(run(&board, &command).status.success());
    // A raw firmware file lies at the end of the ROM.
    let read = Command::new("gdb-multiarch")
        .args(["-nx", "-batch", "-ex", "set arch powerpc:common", "-ex"])
        .arg(format!("core {}", file.display()))
        .args(["-ex", "find /w 0xfff00000, 0xffffffff, 0x01234567", "-ex", "x/2xw $_"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stdout);
    assert!(said.contains(":\t0x01234567\t0x89abcdef"), "{said}{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn a_detached_dump_is_complete_though_the_input_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    let command = format!("dump-guest-memory -d \"{}\"\n", file.display());
    let began = Instant::now();
    let rom = concat!(env!("CARGO_MANIFEST_DIR"), "/../board/tests/empty.rom");
    let board = ["-M", "40p", "-m", "128", "-bios", rom];
    for board in [[&board[..], &["-S"]].concat(), board.to_vec()] {
        let said = run(&[&board[..], &["-display", "none", "-monitor", "stdio"]].concat(), &command);
        assert!(said.status.success(), "{said:?}");
        let memory: usize = loads(&file).iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(memory, 129 << 20);
    }
    assert!(began.elapsed() < LIMIT);
}

#[test]
fn what_is_wrong_is_said_and_the_monitor_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let ram = folder.path().join("ram");
    let (ram, path) = (ram.to_str().unwrap(), folder.path().to_str().unwrap());
    let commands = format!(
        "dump-guest-memory {path}\ndump-guest-memory {path}/no/a\ndump-guest-memory {ram}\n\
         dump-guest-memory /dev/full\npmemsave 0 16 \"{ram}\"\ndump-guest-memory {path}/a 0x90000000 1\ninfo status\n"
    );
    let said = run(
        &["-M", "mips", "-m", "32M", "-mem-path", ram, "-S", "-display", "none", "-monitor", "stdio"],
        &commands,
    );
    assert!(said.status.success(), "{said:?}");
    for text in [
        format!("Error: Could not open '{path}': Is a directory\nName a file in it.\n"),
        format!("Error: Could not open '{path}/no/a': No such file or directory\nMake the folder first"),
        format!(
            "Error: '{ram}' is the file behind RAM block 'mips_r4k.ram' of this machine; dump to another file\n"
        ),
        "Error: dump: failed to write elf header: No space left on device; '/dev/full' has 0 of ".to_owned(),
        format!(
            "Error: '{ram}' is the file behind RAM block 'mips_r4k.ram' of this machine; save to another file\n"
        ),
        "Error: dump: no guest memory to dump\n'info mtree -f' shows where RAM and ROM are.\n".to_owned(),
        "VM status: paused (prelaunch)\n".to_owned(),
    ] {
        assert!(said.out.contains(&text), "no '{text}' in:\n{}", said.out);
    }
    assert_eq!(fs::metadata(ram).unwrap().len(), 32 << 20);
    assert!(!folder.path().join("a").exists());
}
