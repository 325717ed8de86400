//! The 40p runs Debian's OpenBIOS, which nobody here wrote, and the dialogue with it is QEMU's.
//!
//! `crates/board/tests/captures/40p-openbios.serial.txt` is what QEMU 7.2 printed for the same words typed. It is of one build of OpenBIOS, whose
//! first lines name its date; with another one, `qemu-system-ppc` is asked instead. Needs Debian's `qemu-system-data`; without
//! it the tests say that they were skipped, and with `FLATVIEW_REQUIRE_QEMU=1` (as in CI) they fail instead.

use std::path::Path;
use std::time::Duration;

use crate::driver::{Program, qemu_is_there};

const CAPTURE: &str = include_str!("../../../board/tests/captures/40p-openbios.serial.txt");
pub(crate) const PROMPT: &str = "\r\n0 > ";
/// What is typed, as in the capture.
const WORDS: [&str; 2] = ["1 2 + .", "dev / ls"];
/// Debug builds on a busy machine want a while.
pub(crate) const BOOT: Duration = Duration::from_secs(60);

/// Whether OpenBIOS is installed.
pub(crate) fn is_openbios_there() -> bool {
    let there = ["/usr/share/qemu/openbios-ppc", "/usr/share/openbios/openbios-ppc"];
    if there.into_iter().any(|path| Path::new(path).is_file()) {
        return true;
    }
    assert!(
        std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(),
        "openbios-ppc (Debian's qemu-system-data) is not installed"
    );
    println!("skipped: openbios-ppc (Debian's qemu-system-data) is not installed");
    false
}

/// Boots, types the words, and gives all that was printed up to the last prompt.
fn dialogue(mut program: Program, words: &[&str]) -> (Program, String) {
    let mut said = program.wait_up_to(BOOT, PROMPT);
    for word in words {
        program.send(&format!("{word}\n"));
        said += &program.wait_up_to(BOOT, PROMPT);
    }
    (program, said)
}

/// Which OpenBIOS it is.
fn build(said: &str) -> Option<&str> {
    said.lines().find(|line| line.contains("OpenBIOS 1"))
}

#[test]
fn openbios_says_what_it_says_on_qemu_and_answers_forth() {
    if !is_openbios_there() {
        return;
    }
    let (mut ours, said) = dialogue(Program::start(&["-M", "40p", "-nographic"]), &WORDS);
    ours.send("\u{1}x");
    let end = ours.end();
    assert!(end.status.success(), "{end:?}");
    assert!(end.out.ends_with("Flatview: Terminated\r\n"), "{end:?}");
    let captured = CAPTURE.split_once("QEMU: Terminated").expect("the capture's end").0;
    if build(&said) == build(captured) {
        assert_eq!(said, captured);
    } else if let Some(qemu) = qemu_is_there() {
        let qemu = Program::start_other(qemu, &["-M", "40p", "-nographic", "-net", "none"]);
        let (_qemu, theirs) = dialogue(qemu, &WORDS);
        assert_eq!(said, theirs);
    }
    assert!(said.contains("1 2 + . 3  ok"), "{said}");
    assert!(said.contains("pci@80000000"), "{said}");
}

/// What both say when the words are typed, with these options; QEMU is asked where it is installed.
fn same_on_both(options: &[&str], words: &[&str]) -> String {
    let args = [&["-M", "40p", "-nographic"], options].concat();
    let (_ours, said) = dialogue(Program::start(&args), words);
    if let Some(qemu) = qemu_is_there() {
        let (_qemu, theirs) = dialogue(Program::start_other(qemu, &args), words);
        assert_eq!(said, theirs);
    }
    said
}

#[test]
fn openbios_finds_the_same_devices_as_on_qemu() {
    if !is_openbios_there() {
        return;
    }
    let words = [
        "show-devs",
        "devalias",
        "dev /pci/lsi53c810",
        "ls",
        ".properties",
        "dev cd",
        ".properties",
        "dev /pci/isa",
        "ls",
    ];
    let said = same_on_both(&[], &words);
    assert!(said.contains("/pci@80000000/lsi53c810@1/sd@2 (block)"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let disc = folder.path().join("disc.iso");
    let disk = folder.path().join("disk.img");
    std::fs::write(&disc, vec![0; 1 << 20]).unwrap();
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let drive = format!("if=scsi,format=raw,file={}", disk.display());
    let said = same_on_both(&["-cdrom", disc.to_str().unwrap(), "-drive", &drive], &words);
    for name in ["sd@2", "sd@0"] {
        assert!(said.contains(name), "no {name} in {said}");
    }
}

/// A program for OpenBIOS: says a sentence by the client interface, and exits.
fn client_program(sentence: &str) -> Vec<u8> {
    const BASE: u32 = 0x40_0000;
    let load = |register: u32, value: u32| {
        let (high, low) = (value >> 16, value & 0xffff);
        [0x3c00_0000 | register << 21 | high, 0x6000_0000 | register << 21 | register << 16 | low]
    };
    // The client interface is in r5 and takes the address of an array in r3.
    let call = [0x7fe9_03a6, 0x4e80_0421];
    let code =
        [&[0x7cbf_2b78][..], &load(3, BASE + 0x100), &call, &load(3, BASE + 0x140), &call, &[0x4800_0000]];
    let texts = BASE + 0x200;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let mut image = vec![0; 0x300];
    for (at, bytes) in [
        (0, words(&code.concat())),
        (0x100, words(&[texts, 1, 1, texts + 0x20, 0])),
        (0x140, words(&[texts + 0x10, 0, 0])),
        (0x200, b"interpret".to_vec()),
        (0x210, b"exit".to_vec()),
        (0x220, format!(".\" {sentence}\" cr").into_bytes()),
    ] {
        image[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    let mut elf = b"\x7fELF\x01\x02\x01".to_vec();
    elf.resize(16, 0);
    // An executable for PowerPC with one segment.
    elf.extend(words(&[0x0002_0014, 1, BASE, 52, 0, 0, 0x0034_0020, 0x0001_0000, 0]));
    elf.extend(words(&[1, 0x80, BASE, BASE, 0x300, 0x300, 7, 0x1000]));
    elf.resize(0x80, 0);
    elf.extend(image);
    elf
}

#[test]
fn a_program_is_read_from_a_disc_and_from_a_disk_and_runs() {
    if !is_openbios_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (disc, disk) = (path("disc.iso"), path("disk.img"));
    // Not at the beginning, and more than a block of the deblocker's.
    let image = |sentence: &str| {
        let mut image: Vec<u8> = (0..0x3000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
        image.extend(client_program(sentence));
        image.resize(256 << 10, 0xee);
        image
    };
    std::fs::write(&disc, image("From the disc")).unwrap();
    std::fs::write(&disk, image("From the disk")).unwrap();
    let drive = format!("if=scsi,format=raw,file={disk}");
    let read = |alias: &str| {
        [
            format!("\" {alias}:\" open-dev to ih"),
            "3000 0 \" seek\" ih $call-method .".to_owned(),
            "4000000 1000 \" read\" ih $call-method .".to_owned(),
            "4000000 40 dump".to_owned(),
            "init-program".to_owned(),
            "go".to_owned(),
        ]
    };
    let words: Vec<String> =
        ["0 value ih".to_owned()].into_iter().chain(read("cd")).chain(read("hd")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = same_on_both(&["-cdrom", &disc, "-drive", &drive], &words);
    for sentence in ["From the disc\r\n", "From the disk\r\n"] {
        assert!(said.contains(sentence), "{said}");
    }
}
