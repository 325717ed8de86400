//! What is logged: `-d`, `-dfilter`, `-trace`, the monitor's `log` and `trace-event`, and that it is what QEMU logs.
//!
//! The comparisons need Debian's qemu-system-ppc, qemu-system-mips and OpenBIOS; without them the tests say that they were
//! skipped, and with `FLATVIEW_REQUIRE_QEMU=1` (as in CI) they fail instead.

use crate::driver::{LIMIT, Program, qemu_is_there, run};
use crate::openbios::{BOOT, PROMPT, is_openbios_there};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const FLATVIEW: &str = env!("CARGO_BIN_EXE_flatview");

fn image(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/images").join(name).display().to_string()
}

/// Runs a guest program until it has printed a text, and gives its log.
fn log_of(program: &[&str], more: &[&str], until: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let serial = ["-display", "none", "-monitor", "none", "-serial", "stdio", "-D", file.to_str().unwrap()];
    let mut running = Program::start(&[program, &serial, more].concat());
    running.wait_for(until);
    drop(running);
    fs::read_to_string(file).unwrap()
}

/// The group of self-checks about exceptions, on the board mips.
fn exceptions(more: &[&str]) -> String {
    let image = image("mips/isa-except.elf");
    log_of(&["-M", "mips", "-cpu", "24Kf", "-kernel", &image], more, "end except: ")
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The address of the block that a line of `exec` tells of.
fn traced(line: &str) -> Option<u32> {
    let rest = line.strip_prefix("Trace 0: 0x")?;
    let (_, rest) = rest.split_once(" [")?;
    let fields: Vec<&str> = rest.strip_suffix("] ")?.split('/').collect();
    assert!(fields.len() == 4 && fields.iter().all(|field| is_hex(field, 8)), "{line:?}");
    u32::from_str_radix(fields[1], 16).ok()
}

#[test]
fn code_is_shown_when_it_is_translated_and_named_when_it_runs() {
    let log = exceptions(&["-d", "in_asm,exec"]);
    assert!(
        log.starts_with(
            "----------------\nIN: \n0x80100000:  b\t0x80100010\n0x80100004:  nop\n\n\
             Trace 0: 0x100000 [00000000/80100000/"
        ),
        "{}",
        &log[..400]
    );
    let translated: Vec<&str> = log.split("----------------\nIN: \n").skip(1).collect();
    let runs = log.lines().filter_map(traced).count();
    assert!(translated.len() > 100 && runs > translated.len(), "{} {runs}", translated.len());
    for block in &translated {
        let (code, rest) = block.split_once("\n\n").unwrap();
        let first = code.get(2..10).unwrap();
        for line in code.lines() {
            assert!(
                line.starts_with("0x") && is_hex(&line[2..10], 8) && line[10..].starts_with(":  "),
                "{line}"
            );
        }
        // It runs next, unless the machine, which the guest has just told to end, does so before.
        let Some(next) = rest.lines().next() else {
            assert_eq!(Some(block), translated.last(), "only at the end of the log");
            continue;
        };
        assert_eq!(traced(next), u32::from_str_radix(first, 16).ok(), "{code}\n{next}");
    }
    // A loop that clears memory is told each time, though it is one block.
    assert!(log.lines().filter_map(traced).filter(|pc| *pc == 0x8010_004c).count() > 100);
}

#[test]
fn registers_and_the_mmu_are_told_as_they_are_asked_for() {
    let log = exceptions(&["-d", "cpu,mmu,exec"]);
    let block = log.find("Trace 0: 0x100010 ").unwrap();
    let mut lines = log[block..].lines().skip(1);
    assert!(lines.next().unwrap().starts_with("pc=0x80100010 HI=0x00000000 LO=0x00000000"));
    assert!(lines.next().unwrap().starts_with("GPR00: r0 00000000 at 00000000"));
    assert!(log.starts_with("mips_cpu_tlb_fill address=80100000 physical 0000000000100000 prot 7\nTrace"));
    assert!(
        log.contains("mips_cpu_tlb_fill address=bf000900 physical 000000001f000900 prot 7\n")
            || log.contains("mips_cpu_tlb_fill address=b40003"),
        "the serial port"
    );
    // Once for the page, not for each block.
    let fetched =
        log.lines().filter(|line| line.contains("address=801000") || line.contains("address=801001"));
    assert!(fetched.count() < 20);
}

#[test]
fn a_filter_leaves_out_the_code_that_is_elsewhere_and_nothing_else() {
    let log = exceptions(&["-d", "in_asm,exec,int", "-dfilter", "0x80100000..0x801000ff"]);
    assert!(log.lines().filter_map(traced).all(|pc| (0x8010_0000..0x8010_0100).contains(&pc)));
    assert!(log.lines().filter_map(traced).count() > 100);
    assert!(log.contains("\nmips_cpu_do_interrupt enter: PC "));
    let said = run(&["-M", "mips", "-dfilter", "1..x"], "");
    assert_eq!(said.err, "flatview: -dfilter 1..x: Invalid number to the right of ..\n");
}

#[test]
fn with_counted_time_each_block_is_told_once() {
    let log = exceptions(&["-d", "exec", "-icount", "shift=3"]);
    let runs: Vec<u32> = log.lines().filter_map(traced).collect();
    let usual: Vec<u32> = exceptions(&["-d", "exec"]).lines().filter_map(traced).collect();
    // Before anything depends on time the two do the same.
    assert!(usual.len() > 1000);
    let same = runs.iter().zip(&usual).take_while(|(a, b)| a == b).count();
    assert!(same > 500, "{same}: {:x?} {:x?}", runs.get(same..same + 4), usual.get(same..same + 4));
}

/// What QEMU's log of a group says of exceptions; `None` if there is no QEMU.
fn exceptions_on_qemu(group: &str, lines: usize) -> Option<String> {
    const QEMU: &str = "qemu-system-mips";
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join(QEMU).is_file()) {
        assert!(std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(), "{QEMU} is not installed");
        println!("SKIPPED: {QEMU} is not installed");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bios, log) = (folder.path().join("bios"), folder.path().join("log"));
    // Not looked at, since there is a kernel.
    fs::write(&bios, vec![0; 4 << 20]).unwrap();
    let kernel = image(&format!("mips/isa-{group}.elf"));
    let program = Program::start_other(
        QEMU,
        &[
            &["-M", "malta", "-cpu", "24Kf", "-display", "none", "-monitor", "none", "-serial", "null"][..],
            &["-net", "none", "-bios", bios.to_str().unwrap(), "-kernel", &kernel],
            &["-d", "int", "-D", log.to_str().unwrap()],
        ]
        .concat(),
    );
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if text.lines().count() > lines {
            drop(program);
            return Some(text.lines().take(lines).map(|line| format!("{line}\n")).collect());
        }
        assert!(begun.elapsed() < LIMIT, "QEMU logs no more than: {text}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The lines without the interrupt line of the boards' devices, IP2 in Cause, which is up on malta once the serial port was
/// written.
fn without_board(log: &str) -> Vec<String> {
    let lines = log.lines().map(|line| match line.split_once(" C ") {
        Some((before, rest)) => {
            let (cause, after) = rest.split_at(8);
            let cause = u32::from_str_radix(cause, 16).unwrap() & !(1 << 10);
            format!("{before} C {cause:08x}{after}")
        }
        None => line.to_owned(),
    });
    lines.collect()
}

#[test]
fn exceptions_are_told_line_by_line_as_qemu_tells_them() {
    for group in ["except", "trap", "cp0", "fpuexcept"] {
        let image = image(&format!("mips/isa-{group}.elf"));
        let end = format!("end {group}: ");
        let ours = log_of(&["-M", "mips", "-cpu", "24Kf", "-kernel", &image], &["-d", "int"], &end);
        assert!(ours.lines().count() >= 12 && ours.contains("mips_cpu_do_interrupt: PC "), "{ours}");
        let Some(theirs) = exceptions_on_qemu(group, ours.lines().count()) else { return };
        let (ours, theirs) = (without_board(&ours), without_board(&theirs));
        let first = ours.iter().zip(&theirs).find(|(a, b)| a != b);
        assert_eq!(first, None, "{group}");
    }
}

/// A line of a trace event without what differs from run to run: the region's address in the host. What a device's callback
/// gives beyond the size of the access is cut off.
fn comparable(line: &str) -> String {
    let field = |name: &str| line.split_once(&format!(" {name} 0x")).unwrap().1.split(' ').next().unwrap();
    let size: u32 = line.split_once(" size ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let value = u64::from_str_radix(field("value"), 16).unwrap() & (u64::MAX >> (64 - 8 * size));
    let (mr, given) = (format!(" mr 0x{}", field("mr")), format!("value 0x{}", field("value")));
    line.replace(&mr, "").replace(&given, &format!("value {value:#x}"))
}

/// Accesses that are one callback, several, pieces of wider ones, nested, refused, and none.
const ACCESSES: &[&str] = &[
    "readl 0x80000cfc",
    "writeb 0x80000070 3",
    "readw 0x80000070",
    "readl 0x80000070",
    "readq 0x80000060",
    "read 0x80000100 6",
    "writel 0x80000cf8 0x80000000",
    "readl 0x80000cfc",
    "readw 0x80000cfd",
    "readl 0xf0000510",
    "writew 0xf0000510 1",
    "read 0xf0000512 4",
    "readb 0xc0000000",
    "writeb 0x800003f8 65",
    "readb 0x800003fd",
    "write 0x800003fb 2 0x0304",
    "outb 0x70 5",
    "inb 0x71",
    "outl 0x20 0x12345678",
    "read 0x100 4",
    "write 0x100 4 0x01020304",
    "writel 0xfff00000 1",
    "readl 0xbffffff0",
];

/// What a 40p's log has after the accesses, made over qtest.
fn trace_of_accesses(program: &str, folder: &Path) -> Vec<String> {
    let log: PathBuf = folder.join("accesses");
    let mut running = Program::start_other(
        program,
        &[
            &["-M", "40p", "-S", "-display", "none", "-monitor", "none", "-serial", "null"][..],
            &["-qtest", "stdio", "-qtest-log", "none", "-trace", "memory_region_*"],
            &["-D", log.to_str().unwrap()],
        ]
        .concat(),
    );
    for access in ACCESSES {
        running.send(&format!("{access}\n"));
        let answer = running.wait_for("\n");
        assert!(answer.starts_with("OK"), "{access}: {answer}");
    }
    drop(running);
    fs::read_to_string(log).unwrap().lines().map(comparable).collect()
}

#[test]
fn accesses_of_qtest_are_told_line_by_line_as_qemu_tells_them() {
    let folder = tempfile::tempdir().unwrap();
    if !is_openbios_there() {
        return;
    }
    let ours = trace_of_accesses(FLATVIEW, folder.path());
    assert_eq!(
        ours[0],
        "memory_region_ops_read cpu -1 addr 0x80000cfc value 0xffffffff size 4 name 'pci-conf-data'"
    );
    assert!(ours.len() > ACCESSES.len(), "{ours:#?}");
    let Some(qemu) = qemu_is_there() else { return };
    assert_eq!(ours, trace_of_accesses(qemu, folder.path()));
}

/// What a 40p's log has when OpenBIOS prompts, without what depends on how fast the host is: the loop that waits for the serial
/// port.
fn trace_of_boot(program: &str, folder: &Path) -> Vec<String> {
    let log = folder.join("boot");
    let mut running = Program::start_other(
        program,
        &["-M", "40p", "-nographic", "-trace", "memory_region_*", "-D", log.to_str().unwrap()],
    );
    running.wait_up_to(BOOT, PROMPT);
    drop(running);
    let log = fs::read_to_string(log).unwrap();
    log.lines().filter(|line| !line.contains("addr 0x800003fd ")).map(comparable).collect()
}

#[test]
fn the_accesses_of_openbios_are_those_on_qemu_line_by_line() {
    if !is_openbios_there() {
        return;
    }
    let Some(qemu) = qemu_is_there() else { return };
    let folder = tempfile::tempdir().unwrap();
    // What is asked of the SCSI controller depends on its drives, which are another matter.
    let without_drives = |lines: Vec<String>| -> Vec<String> {
        let kept = |line: &String| !line.contains("'lsi-mmio'") && !line.contains("_subpage_");
        lines.into_iter().filter(kept).collect()
    };
    let ours = trace_of_boot(FLATVIEW, folder.path());
    let part = "memory_region_subpage_write cpu 0 offset 0x510 value 0x3 size 2";
    let whole = "memory_region_ops_write cpu 0 addr 0xf0000510 value 0x3 size 2 name 'fwcfg.ctl'";
    assert_eq!(ours[..2], [part, whole]);
    let theirs = trace_of_boot(qemu, folder.path());
    assert_eq!(ours[..400], theirs[..400], "with those to parts of pages");
    let (ours, theirs) = (without_drives(ours), without_drives(theirs));
    assert!(ours.len() > 2000, "{}", ours.len());
    let first = ours.iter().zip(&theirs).position(|(a, b)| a != b);
    assert_eq!(first.map(|at| (at, &ours[at], &theirs[at])), None);
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn the_monitor_turns_the_log_on_and_off_while_the_machine_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let image = image("mips/demo.elf");
    let mut program = Program::start(&[
        "-M",
        "mips",
        "-display",
        "none",
        "-serial",
        "null",
        "-monitor",
        "stdio",
        "-kernel",
        &image,
        "-D",
        first.to_str().unwrap(),
    ]);
    program.wait_for("(qemu) ");
    let mut ask = |command: &str| {
        program.send(&format!("{command}\n"));
        program.wait_for("(qemu) ")
    };
    let wait_for = |file: &Path, text: &str| {
        let begun = Instant::now();
        while !fs::read_to_string(file).unwrap_or_default().contains(text) {
            assert!(begun.elapsed() < LIMIT, "no '{text}' in {}", file.display());
            thread::sleep(Duration::from_millis(10));
        }
    };
    assert_eq!(fs::read_to_string(&first).unwrap(), "");
    ask("log exec");
    wait_for(&first, "Trace 0: 0x");
    ask("log none");
    ask(&format!("logfile {}", second.display()));
    let length = fs::metadata(&first).unwrap().len();
    ask("trace-event memory_region_ops_* on");
    ask("i /b 0x71");
    wait_for(&second, "memory_region_ops_read cpu -1 mr 0x");
    assert!(ask("info trace-events memory_region_ops_read").contains("memory_region_ops_read : state 1"));
    ask("trace-event * off");
    assert!(ask("log nonsense").contains("Log items (comma separated):"));
    assert_eq!(fs::metadata(&first).unwrap().len(), length);
    assert!(!fs::read_to_string(&second).unwrap().contains("Trace 0"));
}

#[test]
fn questions_and_mistakes_are_answered() {
    let said = run(&["-d", "help"], "");
    assert!(said.out.starts_with("Log items (comma separated):\nin_asm "), "{}", said.out);
    let events = "memory_region_ops_read\nmemory_region_ops_write\nmemory_region_subpage_read\n\
                  memory_region_subpage_write\n";
    for question in [["-trace", "help"], ["-d", "trace:help"]] {
        assert_eq!(run(&question, "").out, events);
    }
    let monitor = ["-M", "mips", "-S", "-monitor", "stdio", "-display", "none"];
    let said = run(&[&monitor[..], &["-trace", "nonsense", "-trace", "nonsense*"]].concat(), "quit\n");
    assert!(said.status.success(), "{said:?}");
    let warning = "flatview: -trace nonsense: warning: trace event 'nonsense' does not exist";
    assert!(said.err.contains(warning) && !said.err.contains("nonsense*:"), "{}", said.err);
    for (args, error) in [
        (["-trace", "x,foo=y"], "-trace x,foo=y: Invalid parameter 'foo'; there are enable, events and file"),
        (
            ["-trace", "events=/nowhere"],
            "-trace events=/nowhere: Could not read '/nowhere': No such file or directory",
        ),
        (["-D", "/nowhere/x"], "Error opening logfile /nowhere/x: No such file or directory"),
        (["-msg", "timestamp=x"], "-msg timestamp=x: Parameter 'timestamp' expects 'on' or 'off'"),
    ] {
        let said = run(&[&monitor[..], &args].concat(), "");
        assert_eq!((said.status.success(), said.err), (false, format!("flatview: {error}\n")));
    }
}

#[test]
fn lines_begin_with_process_and_time_and_files_are_named_by_the_process_if_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("log-%d");
    let said = run(
        &[
            &["-M", "mips", "-S", "-monitor", "stdio", "-display", "none", "-msg", "timestamp=on"][..],
            &["-trace", "*", "-D", template.to_str().unwrap()],
        ]
        .concat(),
        "i /b 0x71\nquit\n",
    );
    assert!(said.status.success(), "{said:?}");
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let process = file.file_name().unwrap().to_str().unwrap().strip_prefix("log-").unwrap().to_owned();
    assert!(process.parse::<u32>().is_ok(), "{process}");
    let log = fs::read_to_string(file).unwrap();
    assert!(log.starts_with(&format!("{process}@")), "{log}");
    let (time, event) = log[process.len() + 1..].split_once(':').unwrap();
    assert!(time.split_once('.').is_some_and(|(_, micros)| micros.len() == 6), "{time}");
    assert!(event.starts_with("memory_region_ops_read cpu -1 mr 0x"), "{event}");
}
