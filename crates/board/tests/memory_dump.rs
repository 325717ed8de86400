//! Dumps of the guest's memory: what is in the file, what the machine does meanwhile, what can go wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use elf::ElfBytes;
use elf::endian::AnyEndian;
use elf::file::Class;
use flatview_board::{
    Cause, DumpError, DumpInfo, DumpSpec, DumpStatus, Event, EventKind, Machine, MachineConfig, MemdevKind,
    MemdevSpec, Properties, Request, RequestError, RunState,
};

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(20);

fn machine(board: &str, change: impl FnOnce(&mut MachineConfig)) -> Arc<Machine> {
    let mut config = MachineConfig { start_stopped: true, nodefaults: true, ..MachineConfig::new(board) };
    change(&mut config);
    Machine::new(config).unwrap()
}

fn to(path: &Path) -> DumpSpec {
    DumpSpec { protocol: format!("file:{}", path.display()), ..DumpSpec::default() }
}

fn part(path: &Path, begin: i64, length: i64) -> DumpSpec {
    DumpSpec { begin: Some(begin), length: Some(length), ..to(path) }
}

/// Address and bytes of each segment.
fn segments(path: &Path, machine: u16) -> Vec<(u64, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = ElfBytes::<AnyEndian>::minimal_parse(&bytes).unwrap();
    assert_eq!((file.ehdr.e_machine, file.ehdr.class), (machine, Class::ELF32));
    assert_eq!(file.ehdr.endianness, AnyEndian::Big);
    let segments = file.segments().unwrap();
    let all = segments.iter().map(|s| (s.p_paddr, file.segment_data(&s).unwrap().to_vec())).collect();
    let last = segments.iter().last().unwrap();
    assert_eq!(bytes.len() as u64, last.p_offset + last.p_filesz, "nothing follows the last segment");
    all
}

fn events(receiver: &Receiver<Event>) -> Vec<EventKind> {
    receiver.try_iter().map(|event| event.kind).collect()
}

fn completed(total: u64) -> EventKind {
    let info = DumpInfo { status: DumpStatus::Completed, completed: total, total };
    EventKind::DumpCompleted { info, error: None }
}

fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !what() {
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_file_has_what_the_guest_sees_in_ram_and_rom() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump of it");
    for (board, elf_machine, sizes) in [
        ("40p", 20, vec![(0, 32 * MIB), (32 * MIB, 32 * MIB), (0xfff0_0000, MIB)]),
        ("mips", 8, vec![(0, 64 * MIB), (0x1fc0_0000, 4 * MIB)]),
    ] {
        let firmware = folder.path().join("firmware");
        let bytes: Vec<u8> = (0..MIB as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(&firmware, &bytes[..(MIB - 4) as usize]).unwrap();
        let machine = machine(board, |config| {
            config.ram_size = Some(64 * MIB);
            config.bios = Some(firmware);
        });
        let space = machine.cpu_space();
        for at in [0, 0xfff, 32 * MIB - 3, 64 * MIB - 8] {
            space.write(at, b"contents").unwrap();
        }
        machine.dump(&to(&file)).unwrap();
        let found = segments(&file, elf_machine);
        let seen: Vec<_> = found.iter().map(|(start, bytes)| (*start, bytes.len() as u64)).collect();
        // ROM of the mips board is as large as its flash.
        assert_eq!(seen[..seen.len() - 1], sizes[..sizes.len() - 1], "{board}");
        assert_eq!(seen[seen.len() - 1].0, sizes[sizes.len() - 1].0, "{board}");
        for (start, bytes) in &found {
            let mut there = vec![0; bytes.len()];
            space.peek(*start, &mut there).unwrap();
            assert!(there == *bytes, "{board}: {start:#x}");
        }
        assert!(found.iter().any(|(_, bytes)| bytes.starts_with(b"contents")));
    }
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a guest's memory is not for everybody");
}

#[test]
fn plugged_memory_is_dumped_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    let machine = machine("cpiom", |config| {
        config.ram_slots = 1;
        config.ram_max = Some(128 * MIB);
    });
    machine.objects().add(MemdevSpec::new(MemdevKind::Ram, "m", 2 * MIB)).unwrap();
    machine.device_add(Properties::of_text("driver", "pc-dimm,id=d,memdev=m")).unwrap();
    machine.cpu_space().write(0x4000_0000, b"dimm").unwrap();
    machine.dump(&part(&file, 0x4000_0000, 0x1000_0000)).unwrap();
    let found = segments(&file, 20);
    assert_eq!((found.len(), found[0].0, found[0].1.len() as u64), (1, 0x4000_0000, 2 * MIB));
    assert!(found[0].1.starts_with(b"dimm"));
    machine.device_del("d").unwrap();
    let none = machine.dump(&part(&file, 0x4000_0000, 0x1000_0000)).unwrap_err();
    assert_eq!(none.to_string(), "dump: no guest memory to dump");
    assert_eq!(segments(&file, 20), found, "the file is as it was");
}

#[test]
fn a_part_has_the_asked_for_bytes_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    let machine = machine("40p", |_| {});
    machine.cpu_space().write(0x1ff_fffc, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    // Over the seam of two SIMMs.
    machine.dump(&part(&file, 0x1ff_fffd, 5)).unwrap();
    assert_eq!(segments(&file, 20), [(0x1ff_fffd, vec![2, 3, 4]), (0x200_0000, vec![5, 6])]);
    // A shorter one over a longer one.
    machine.dump(&part(&file, 0x1ff_fffc, 1)).unwrap();
    assert_eq!(segments(&file, 20), [(0x1ff_fffc, vec![1])]);
    assert_eq!(machine.dump_info(), DumpInfo { status: DumpStatus::Completed, completed: 1, total: 1 });
}

#[test]
fn a_running_machine_stands_still_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    let machine = machine("mips", |_| {});
    let receiver = machine.subscribe();
    machine.dump(&part(&file, 0, 0x1000)).unwrap();
    assert_eq!(events(&receiver), [completed(0x1000)], "it stood already");
    assert_eq!(machine.run_state(), RunState::Prelaunch);
    machine.perform(Request::Continue).unwrap();
    machine.dump(&part(&file, 0, 0x2000)).unwrap();
    assert_eq!(events(&receiver), [EventKind::Resume, EventKind::Stop, completed(0x2000), EventKind::Resume]);
    assert_eq!(machine.run_state(), RunState::Running);
    let _ = machine.dump(&part(&file, 0x7000_0000, 1)).unwrap_err();
    assert_eq!(events(&receiver), [EventKind::Stop, EventKind::Resume], "nothing was dumped");
    assert_eq!(machine.dump_info().status, DumpStatus::Failed);
}

/// A pipe with a name: the dump stands where the test wants it to.
fn pipe(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn while_a_detached_dump_is_written_the_machine_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = pipe(folder.path());
    let machine = machine("mips", |config| config.start_stopped = false);
    let receiver = machine.subscribe();
    let opened = path.clone();
    let reader = std::thread::spawn(move || File::open(opened).unwrap());
    machine.dump(&DumpSpec { detach: true, ..part(&path, 0, 4 * MIB as i64) }).unwrap();
    let mut reader = reader.join().unwrap();
    assert_eq!(machine.run_state().as_str(), "save-vm");
    let info = machine.dump_info();
    assert_eq!((info.status, info.total), (DumpStatus::Active, 4 * MIB));
    assert!(info.percent() < 100.0);
    let waits = "There is a dump in process, please wait.";
    for request in [Request::Stop, Request::Continue, Request::SystemReset(Cause::HostQmpSystemReset)] {
        assert_eq!(machine.perform(request).unwrap_err(), RequestError::DumpInProcess);
        assert_eq!(RequestError::DumpInProcess.to_string(), waits);
    }
    let other = folder.path().join("other");
    let second = machine.dump(&to(&other)).unwrap_err();
    assert!(matches!(second, DumpError::InProcess), "{second}");
    assert_eq!(second.to_string(), waits);
    assert!(!other.exists());
    // A reset that nobody waits for comes when the dump is done.
    machine.request(Request::SystemReset(Cause::GuestReset));
    machine.request(Request::Powerdown);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    machine.wait_for_dump();
    assert_eq!(bytes.len() as u64, 52 + 32 + 4 * MIB);
    until(|| machine.run_state() == RunState::Running);
    machine.perform(Request::Stop).unwrap();
    assert_eq!(
        events(&receiver),
        [
            EventKind::Stop,
            EventKind::Powerdown,
            completed(4 * MIB),
            EventKind::Resume,
            EventKind::Reset { cause: Cause::GuestReset },
            EventKind::Stop
        ]
    );
    assert_eq!(machine.run_state(), RunState::Paused);
}

#[test]
fn memory_that_is_pulled_while_it_is_dumped_stays_until_it_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = pipe(folder.path());
    let machine = machine("cpiom", |config| {
        config.ram_slots = 1;
        config.ram_max = Some(128 * MIB);
    });
    machine.objects().add(MemdevSpec::new(MemdevKind::Ram, "m", 4 * MIB)).unwrap();
    machine.device_add(Properties::of_text("driver", "pc-dimm,id=d,memdev=m")).unwrap();
    machine.cpu_space().fill(0x4000_0000, 0x77, 4 * MIB).unwrap();
    let opened = path.clone();
    let reader = std::thread::spawn(move || File::open(opened).unwrap());
    machine.dump(&DumpSpec { detach: true, ..part(&path, 0x4000_0000, 4 * MIB as i64) }).unwrap();
    let mut reader = reader.join().unwrap();
    machine.device_del("d").unwrap();
    machine.objects().remove("m").unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    machine.wait_for_dump();
    assert_eq!(machine.dump_info().status, DumpStatus::Completed);
    let memory = bytes.split_off(52 + 32);
    assert!(memory.len() as u64 == 4 * MIB && memory.iter().all(|byte| *byte == 0x77));
}

#[test]
fn who_closes_a_pipe_too_early_makes_the_dump_fail_and_the_next_one_may_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = pipe(folder.path());
    let machine = machine("mips", |_| {});
    let receiver = machine.subscribe();
    let opened = path.clone();
    let reader = std::thread::spawn(move || drop(File::open(opened).unwrap()));
    let error = machine.dump(&to(&path)).unwrap_err().to_string();
    reader.join().unwrap();
    assert!(error.contains("Broken pipe") && error.contains("bytes of memory"), "{error}");
    assert_eq!(machine.dump_info().status, DumpStatus::Failed);
    let told = events(&receiver);
    let [EventKind::DumpCompleted { info, error: Some(text) }] = told.as_slice() else {
        unreachable!("{told:?}")
    };
    assert_eq!((info.status, &**text), (DumpStatus::Failed, error.as_str()));
    assert_eq!(machine.dump_error().as_deref(), Some(error.as_str()));
    machine.dump(&part(&folder.path().join("dump"), 0, 16)).unwrap();
    assert_eq!(machine.dump_error(), None);
}

#[test]
fn a_machine_that_quits_does_not_wait_for_a_dump_that_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = pipe(folder.path());
    let machine = machine("mips", |_| {});
    let opened = path.clone();
    let reader = std::thread::spawn(move || File::open(opened).unwrap());
    machine.dump(&DumpSpec { detach: true, ..to(&path) }).unwrap();
    let mut reader = reader.join().unwrap();
    let began = Instant::now();
    machine.perform(Request::Quit(Cause::HostQmpQuit)).unwrap();
    assert_eq!(machine.wait(), 0);
    assert!(began.elapsed() < LIMIT);
    // The dump has been told to end, and does when it can.
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert!((bytes.len() as u64) < machine.ram_size());
    until(|| machine.dump_info().status == DumpStatus::Failed);
    let after = machine.dump(&to(&folder.path().join("dump"))).unwrap_err();
    assert_eq!(after.to_string(), "The machine has quit");
    assert!(!folder.path().join("dump").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine("mips", |_| {});
    let receiver = machine.subscribe();
    let missing = folder.path().join("no/dump");
    for (path, text, hint) in [
        (folder.path(), "Is a directory", "Name a file in it."),
        (missing.as_path(), "No such file or directory", "Make the folder first, or correct the path."),
    ] {
        let error = machine.dump(&to(path)).unwrap_err();
        assert_eq!(error.to_string(), format!("Could not open '{}': {text}", path.display()));
        assert_eq!(error.hint(), Some(hint));
    }
    assert_eq!(machine.dump_info(), DumpInfo::default(), "there was no dump yet");
    let full = machine.dump(&to(Path::new("/dev/full"))).unwrap_err().to_string();
    assert!(
        full.starts_with("dump: failed to write elf header: No space left on device; '/dev/full' has 0 of"),
        "{full}"
    );
    assert_eq!(machine.dump_info().status, DumpStatus::Failed);
    assert_eq!(events(&receiver).len(), 1);
    machine.dump(&to(Path::new("/dev/null"))).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("target"), &link).unwrap();
    machine.dump(&part(&link, 0, 16)).unwrap();
    assert!(folder.path().join("target").exists());
    // A new file that nothing was written to is not left behind, an old one keeps what it has.
    let (new, old) = (folder.path().join("new"), folder.path().join("old"));
    fs::write(&old, "kept").unwrap();
    for path in [&new, &old] {
        let error = machine.dump(&part(path, 0x7000_0000, 16)).unwrap_err();
        assert!(matches!(error, DumpError::NoMemory), "{error}");
    }
    assert!(!new.exists());
    assert_eq!(fs::read(&old).unwrap(), b"kept");
}

#[test]
fn the_file_behind_the_machines_memory_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("memory");
    let machine = machine("mips", |config| config.mem_path = Some(memory.clone()));
    machine.cpu_space().write(0, b"still there").unwrap();
    let other_name = folder.path().join("link");
    fs::hard_link(&memory, &other_name).unwrap();
    for path in [&memory, &other_name] {
        let error = machine.dump(&to(path)).unwrap_err();
        assert!(matches!(error, DumpError::IsMemory { .. }), "{error}");
        assert!(error.to_string().contains("dump to another file"), "{error}");
    }
    assert_eq!(fs::metadata(&memory).unwrap().len(), machine.ram_size());
    let mut seen = [0; 11];
    machine.cpu_space().peek(0, &mut seen).unwrap();
    assert_eq!(&seen, b"still there");
    // Not only RAM is kept in files.
    let nvm = folder.path().join("nvm");
    let cpiom = self::machine("cpiom", |config| config.nvm_file = Some(nvm.clone()));
    assert!(matches!(cpiom.dump(&to(&nvm)).unwrap_err(), DumpError::IsMemory { .. }));
    let flash = folder.path().join("flash");
    fs::write(&flash, vec![0xff; 4 << 20]).unwrap();
    let mips = self::machine("mips", |config| config.pflash = Some(flash.clone()));
    assert!(matches!(mips.dump(&to(&flash)).unwrap_err(), DumpError::IsMemory { .. }));
    let mut file = File::create(folder.path().join("other")).unwrap();
    file.write_all(b"x").unwrap();
    assert_eq!(machine.block_of_file(&file), None);
}
