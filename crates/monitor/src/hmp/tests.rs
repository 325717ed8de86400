use super::*;
use crate::session::Session;
use crate::testing::{mips, mips_with_a_program};
use flatview_board::MachineConfig;

fn say(hmp: &mut Hmp, line: &str) -> String {
    let mut out = Vec::new();
    hmp.execute(line, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_command_of_the_help_is_found_and_explained() {
    let mut hmp = Hmp::new(mips());
    let help = say(&mut hmp, "help");
    // `help info` lists what follows `info`, and `help log` the items.
    for command in commands::commands().iter().filter(|c| !matches!(c.name, "info" | "log")) {
        for name in command.names() {
            let one = say(&mut hmp, &format!("help {name}"));
            assert!(help.contains(&one) && one.starts_with(command.name), "{name}: {one}");
        }
    }
    assert!(help.contains("\nhelp|? [cmd] -- list the commands, or explain one\n"));
    assert!(help.starts_with("calc_dirty_rate [-r] [-b] second [sample_pages_per_GB] -- "));
    assert!(help.contains("\ncont|c  -- let the machine run\n"));
    assert_eq!(say(&mut hmp, "?"), help);
    assert!(help.contains("\nlog item1[,...] -- "));
    assert_eq!(say(&mut hmp, "help log"), say(&mut hmp, "log help"));
    let info = say(&mut hmp, "info");
    assert_eq!(say(&mut hmp, "help info"), info);
    for command in commands::info_commands() {
        let one = say(&mut hmp, &format!("help info {}", command.name));
        assert!(info.contains(&one), "{one}");
    }
}

#[test]
fn what_is_no_command_is_said_so_in_the_words_of_qemu() {
    let mut hmp = Hmp::new(mips());
    for (line, answer) in [
        ("foo", "unknown command: 'foo'\n"),
        ("info foo bar", "unknown command: 'info foo'\n"),
        ("help foo", "unknown command: 'foo'\n"),
        ("help info foo", "unknown command: 'info foo'\n"),
        (
            "stop foo",
            "stop|s: extraneous characters at the end of line\nTry \"help stop\" for more information\n",
        ),
        ("info mtree -x", "mtree: unsupported option -x\nTry \"help info mtree\" for more information\n"),
        ("xp", "unexpected end of expression\nTry \"help xp\" for more information\n"),
        ("xp $pc", "unknown register\nTry \"help xp\" for more information\n"),
        (
            "pmemsave 0 16 /tmp/x",
            "invalid char 't' in expression\nTry \"help pmemsave\" for more information\n",
        ),
        (
            "pmemsave 0 16 \"/nonexistent/a\"",
            "Error: Could not open '/nonexistent/a': No such file or directory\n",
        ),
        ("", ""),
        ("   ", ""),
    ] {
        assert_eq!(say(&mut hmp, line), answer, "{line}");
    }
}

#[test]
fn memory_is_shown_as_it_is_and_registers_are_not_touched() {
    let machine = mips();
    machine.cpu_space().write(0x100, &[0x90, 0x21, 0xff, 0x78]).unwrap();
    let mut hmp = Hmp::new(machine);
    assert_eq!(say(&mut hmp, "xp/2xh 0x100"), "0000000000000100: 0x9021 0xff78\n");
    assert_eq!(say(&mut hmp, "x /1xw 0x100"), "00000100: 0x9021ff78\n");
    assert_eq!(say(&mut hmp, "xp /xw 0x100+2*2"), "0000000000000104: 0x00000000\n");
    let register = say(&mut hmp, "xp /xb 0x140003f8");
    assert!(register.starts_with("00000000140003f8: Cannot access memory: region 'serial'"), "{register}");
    let hole = say(&mut hmp, "xp /2xg 0x07fffff8");
    assert_eq!(hole, "0000000007fffff8: Cannot access memory: nothing is mapped at 0x8000000\n");
}

#[test]
fn host_addresses_are_told_for_ram_only() {
    let mut hmp = Hmp::new(mips());
    let ram = say(&mut hmp, "gpa2hva 0x1000");
    assert!(ram.starts_with("Host virtual address for 0x1000 (mips_r4k.ram) is 0x"), "{ram}");
    assert_eq!(say(&mut hmp, "gpa2hva 0x1fbf0000"), "Memory at address 0x1fbf0000 is not RAM\n");
    assert_eq!(say(&mut hmp, "gpa2hva 0x90000000"), "No memory is mapped at address 0x90000000\n");
}

#[test]
fn the_hosts_physical_addresses_are_told_for_ram_that_is_there() {
    let machine = mips();
    machine.cpu_space().write(0x1000, &[1]).unwrap();
    let mut hmp = Hmp::new(machine);
    let there = say(&mut hmp, "gpa2hpa 0x1234");
    let told = there.starts_with("Host physical address for 0x1234 (mips_r4k.ram) is 0x");
    assert!((told && there.ends_with("234\n")) || there.contains("CAP_SYS_ADMIN"), "{there}");
    assert_eq!(say(&mut hmp, "gpa2hpa 0x1fbf0000"), "Memory at address 0x1fbf0000 is not RAM\n");
    assert_eq!(say(&mut hmp, "gpa2hpa 0x90000000"), "No memory is mapped at address 0x90000000\n");
    // Nobody has touched it, nor anything near it that a huge page would have brought along.
    assert_eq!(say(&mut hmp, "gpa2hpa 0x7000000"), "Page not present\n");
    let nobody = say(&mut hmp, "gva2gpa 0x80001000");
    assert!(nobody.starts_with("Error: This machine has no CPU that translates"), "{nobody}");
}

#[test]
fn a_cpu_translates_what_the_monitor_is_asked_for() {
    let machine = mips_with_a_program();
    machine.cpu_space().write(0x1000, &[0x12, 0x34, 0x56, 0x78]).unwrap();
    let mut hmp = Hmp::new(machine);
    assert_eq!(say(&mut hmp, "gva2gpa 0x80001000"), "gpa: 0x1000\n");
    assert_eq!(say(&mut hmp, "gva2gpa 0xbfbf0000"), "gpa: 0x1fbf0000\n");
    assert_eq!(say(&mut hmp, "gva2gpa 0xc0000000"), "Unmapped\n");
    assert_eq!(say(&mut hmp, "x /1xw 0xa0001000"), "a0001000: 0x12345678\n");
    let entry = say(&mut hmp, "x /1xw $pc");
    assert!(entry.starts_with("80100000: 0x") && entry != "80100000: 0x00000000\n", "{entry}");
    assert_eq!(say(&mut hmp, "gva2gpa $pc+4"), "gpa: 0x100004\n");
    assert!(say(&mut hmp, "x /1xw $nip").starts_with("unknown register"), "PowerPC's");
    let unmapped = say(&mut hmp, "x /1xw 0xc0000000");
    assert!(unmapped.contains("Cannot access memory"), "{unmapped}");
    let registers = say(&mut hmp, "info registers");
    assert!(registers.starts_with("\nCPU#0\npc=0x80100000 HI=0x00000000"), "{registers}");
    let nobody = say(&mut Hmp::new(mips()), "info registers");
    assert!(nobody.starts_with("Error: This machine has no CPU that runs"), "{nobody}");
}

#[test]
fn memory_is_dumped_with_the_answers_of_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a b");
    let name = file.to_str().unwrap();
    let machine = mips();
    machine.cpu_space().write(0x1000, b"dumped").unwrap();
    let mut hmp = Hmp::new(machine);
    assert_eq!(say(&mut hmp, "info dump"), "Status: none\n");
    let again = "Try \"help dump-guest-memory\" for more information\n";
    for (line, answer) in [
        ("dump-guest-memory", format!("dump-guest-memory: filename expected\n{again}")),
        ("dump-guest-memory -p -d", format!("dump-guest-memory: filename expected\n{again}")),
        (
            "dump-guest-memory \"/tmp",
            format!("unterminated string\ndump-guest-memory: filename expected\n{again}"),
        ),
        ("dump-guest-memory -x a", format!("dump-guest-memory: unsupported option -x\n{again}")),
        ("dump-guest-memory a 0 x", format!("invalid char 'x' in expression\n{again}")),
        (
            "dump-guest-memory a 0 1 2",
            format!("dump-guest-memory: extraneous characters at the end of line\n{again}"),
        ),
        ("dump-guest-memory -z -l a", "Error: only one of '-z|-l|-s|-w' can be set\n".to_owned()),
        ("dump-guest-memory a 0", "Error: Parameter 'length' is missing\n".to_owned()),
        ("dump-guest-memory -w a", "Error: Windows dump is only available for x86-64\n".to_owned()),
        (
            "dump-guest-memory -z a",
            "Error: kdump-zlib is not available now; the formats are: elf\n".to_owned(),
        ),
        (
            "dump-guest-memory -s a 0 1",
            "Error: kdump-compressed format doesn't support paging or filter\n".to_owned(),
        ),
        (
            "dump-guest-memory /tmp",
            "Error: Could not open '/tmp': Is a directory\nName a file in it.\n".to_owned(),
        ),
        (
            "dump-guest-memory a 0 0",
            "Error: Invalid parameter 'length'\nIt is a number of bytes, at least 1.\n".to_owned(),
        ),
    ] {
        assert_eq!(say(&mut hmp, line), answer, "{line}");
    }
    assert_eq!(say(&mut hmp, &format!("dump-guest-memory \"{name}\" 0x1000 6")), "");
    assert!(std::fs::read(&file).unwrap().ends_with(b"dumped"));
    assert_eq!(say(&mut hmp, "info dump"), "Status: completed\n");
    let full = say(&mut hmp, "dump-guest-memory /dev/full");
    assert!(full.starts_with(
        "Error: dump: failed to write elf header: No space left on device; '/dev/full' has 0 of"
    ));
    assert_eq!(say(&mut hmp, "info dump"), format!("Status: failed\n{full}"));
}

#[test]
fn the_dirty_rate_is_measured_and_told() {
    let machine = mips();
    let mut hmp = Hmp::new(machine.clone());
    assert_eq!(
        say(&mut hmp, "info dirty_rate"),
        "Status: unstarted\nStart Time: 0 (ms)\nSample Pages: 0 (per GB)\nPeriod: 0 (sec)\nMode: page-sampling\n\
         Dirty rate: (not ready)\n"
    );
    for (line, answer) in [
        ("calc_dirty_rate 0", "Incorrect period length specified!\n"),
        ("calc_dirty_rate -r -b 0", "Incorrect period length specified!\n"),
        ("calc_dirty_rate -r -b 1", "Either dirty ring or dirty bitmap can be specified!\n"),
        ("calc_dirty_rate 61", "Error: calc-time is out of range[1, 60].\n"),
        ("calc_dirty_rate 1 64", "Error: sample-pages is out of range[128, 16384].\n"),
        ("calc_dirty_rate -r 1", "Error: mode dirty-ring is not enabled, use other method instead.\n"),
        (
            "calc_dirty_rate -b 1",
            "Starting dirty rate measurement with period 1 seconds\n[Please use 'info dirty_rate' to check results]\n",
        ),
        ("calc_dirty_rate 0x1", "Error: the dirty rate is already being measured.\n"),
    ] {
        assert_eq!(say(&mut hmp, line), answer, "{line}");
    }
    let measuring = say(&mut hmp, "info dirty_rate");
    assert!(measuring.starts_with("Status: measuring\nStart Time: "), "{measuring}");
    assert!(measuring.ends_with("Mode: dirty-bitmap\nDirty rate: (not ready)\n"), "{measuring}");
    machine.cpu_space().fill(0, 0x55, 64 << 20).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let measured = loop {
        let told = say(&mut hmp, "info dirty_rate");
        if told.starts_with("Status: measured\n") {
            break told;
        }
        assert!(std::time::Instant::now() < deadline, "{told}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let rate = measured.split_once("Dirty rate: ").unwrap().1.split_once(" (MB/s)\n").unwrap().0;
    // 64 MiB in a second and a little more.
    assert!((1..=64).contains(&rate.parse::<u64>().unwrap()), "{measured}");
}

#[test]
fn no_cpu_can_be_slowed_down() {
    let mut hmp = Hmp::new(mips());
    assert_eq!(say(&mut hmp, "info vcpu_dirty_limit"), "Dirty page limit not enabled!\n");
    assert_eq!(
        say(&mut hmp, "set_vcpu_dirty_limit 10 0"),
        "Error: dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'\n"
    );
    assert!(say(&mut hmp, "set_vcpu_dirty_limit").starts_with("unexpected end of expression\n"));
    assert!(say(&mut hmp, "cancel_vcpu_dirty_limit 0").starts_with("[Please use 'info vcpu_dirty_limit'"));
    assert_eq!(say(&mut hmp, "info numa"), "0 nodes\n");
}

#[test]
fn saving_to_a_file_takes_zeros_for_what_is_not_memory_only_where_addresses_are_physical() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a b");
    let name = file.to_str().unwrap();
    let machine = mips();
    machine.cpu_space().write(0x07ff_fffc, &[1, 2, 3, 4]).unwrap();
    let mut hmp = Hmp::new(machine);
    assert_eq!(say(&mut hmp, &format!("pmemsave 0x7fffffc 8 \"{name}\"")), "");
    assert_eq!(std::fs::read(&file).unwrap(), [1, 2, 3, 4, 0, 0, 0, 0]);
    assert_eq!(
        say(&mut hmp, &format!("memsave 0x7fffffc 8 \"{name}\"")),
        "Error: Invalid addr 0x0000000007fffffc/size 8 specified\n"
    );
    assert_eq!(say(&mut hmp, &format!("memsave 0x7fffffc 4 \"{name}\"")), "");
    assert_eq!(std::fs::read(&file).unwrap(), [1, 2, 3, 4]);
    let full = say(&mut hmp, "pmemsave 0 4096 \"/dev/full\"");
    assert_eq!(full, "Error: Could not write '/dev/full': No space left on device\n");
}

#[test]
fn memory_is_not_saved_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ram");
    let config =
        MachineConfig { start_stopped: true, mem_path: Some(file.clone()), ..MachineConfig::new("mips") };
    let mut hmp = Hmp::new(Machine::new(config).unwrap());
    let name = file.display();
    for line in [format!("pmemsave 0 16 \"{name}\""), format!("dump-guest-memory \"{name}\"")] {
        let answer = say(&mut hmp, &line);
        assert!(answer.contains("is the file behind RAM block 'mips_r4k.ram'"), "{answer}");
    }
    assert_eq!(say(&mut hmp, "xp /xw 0"), "0000000000000000: 0x00000000\n");
}

#[test]
fn the_checksum_is_that_of_bsd() {
    let machine = mips();
    machine.cpu_space().write(0, b"123456789").unwrap();
    let mut hmp = Hmp::new(machine);
    // `printf 123456789 | sum -r` says 53615.
    assert_eq!(say(&mut hmp, "sum 0 9"), "53615\n");
}

#[test]
fn the_run_state_follows_stop_and_cont() {
    let mut hmp = Hmp::new(mips());
    assert_eq!(say(&mut hmp, "info status"), "VM status: paused (prelaunch)\n");
    assert_eq!(say(&mut hmp, "c"), "");
    assert_eq!(say(&mut hmp, "info status"), "VM status: running\n");
    assert_eq!(say(&mut hmp, "stop"), "");
    assert_eq!(say(&mut hmp, "info status"), "VM status: paused\n");
}

#[test]
fn info_pic_shows_the_interrupt_controllers_of_each_board() {
    let idle = "irr=00 imr=00 isr=00 hprio=0 irq_base=00 rr_sel=0 elcr=00 fnm=0\n";
    assert_eq!(say(&mut Hmp::new(mips()), "info pic"), format!("pic0: {idle}pic1: {idle}"));
    let config = MachineConfig { start_stopped: true, ..MachineConfig::new("cpiom") };
    let machine = Machine::new(config).unwrap();
    machine.cpu_space().write(0x2000_7304, &[0, 0, 1, 0]).unwrap();
    let text = say(&mut Hmp::new(machine), "info pic");
    let banks: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(banks, ["rst:", "mcp:", "itn:"]);
    assert!(text.contains("enable=00000100"), "{text}");
}

#[test]
fn info_mtree_takes_its_options_in_any_order() {
    let mut hmp = Hmp::new(mips());
    let tree = say(&mut hmp, "info mtree");
    assert!(tree.contains("000000001fbf0000-000000001fbfffff (prio 0, i/o): mips-qemu"), "{tree}");
    let flat = say(&mut hmp, "info mtree -f -o");
    assert!(flat.starts_with("FlatView #0\n"), "{flat}");
    assert_eq!(say(&mut hmp, "info mtree -o -f"), flat);
    assert_ne!(say(&mut hmp, "info mtree -f"), tree);
}

#[test]
fn history_keeps_64_lines_without_repeats() {
    let mut hmp = Hmp::new(mips());
    for n in 0..100 {
        say(&mut hmp, &format!("print {n}"));
        say(&mut hmp, &format!("print {n}"));
    }
    let history = say(&mut hmp, "info history");
    assert_eq!(history.lines().count(), 64);
    assert!(history.starts_with("0: 'print 37'\n") && history.ends_with("63: 'info history'\n"), "{history}");
}

#[test]
fn words_are_completed_from_the_tables() {
    assert_eq!(complete("sys"), (0, vec!["system_powerdown".to_owned(), "system_reset".to_owned()]));
    assert_eq!(complete("info mt"), (5, vec!["mtree".to_owned()]));
    assert_eq!(complete("help info ram"), (10, vec!["ramblock".to_owned()]));
    assert_eq!(complete("xp /4x 0"), (7, vec![]));
    assert_eq!(complete("du"), (0, vec!["dump-guest-memory".to_owned()]));
    assert_eq!(complete("info d"), (5, vec!["dirty_rate".to_owned(), "dump".to_owned()]));
}

#[test]
fn a_client_gets_greeting_echo_and_prompt_until_it_quits() {
    let mut session = HmpSession::new(mips(), LineEnd::CrLf);
    let mut out = Vec::new();
    session.opened(&mut out).unwrap();
    session.received(b"info sta", &mut out).unwrap();
    session.received(b"tus\nquit\ninfo status\n", &mut out).unwrap();
    let version = crate::VERSION;
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!(
            "Flatview {version} monitor - type 'help' for more information\r\n\
             (qemu) info status\r\nVM status: paused (prelaunch)\r\n(qemu) quit\r\n"
        )
    );
}

#[test]
fn no_line_makes_the_monitor_panic() {
    // Pieces of commands, glued at random; nothing in them names a file or a long dump.
    const PIECES: &[&str] = &[
        "xp",
        "x",
        "print",
        "p",
        "sum",
        "gpa2hva",
        "info",
        "mtree",
        "help",
        "i",
        "o",
        "stop",
        "c",
        "-f",
        "-o",
        "-D",
        "-",
        "/",
        "/2",
        "x",
        "b",
        "g",
        "c",
        "i",
        "w",
        " ",
        " ",
        " ",
        " 0",
        "0x",
        "0xffffffffffffffff",
        "$pc",
        "$",
        "'",
        "'a'",
        "(",
        ")",
        "+",
        "-",
        "*",
        "%",
        "~",
        "|",
        "\"",
        "\\",
        "é",
        "\u{7f}",
        "\t",
        "qom-tree",
        "object_add",
        "object_del",
        "device_add",
        "device_del",
        "calc_dirty_rate",
        "set_vcpu_dirty_limit",
        "gpa2hpa",
        "gva2gpa",
        "dump",
        "numa",
        "memory-backend-ram,id=m0,size=64k",
        "pc-dimm,memdev=m0,id=d0",
        ",",
        "=",
        "memdev",
        "/machine",
    ];
    let mut hmp = Hmp::new(mips());
    let mut state: u64 = 0x5eed;
    for _ in 0..20_000 {
        let mut line = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            line.push_str(PIECES[(state >> 33) as usize % PIECES.len()]);
        }
        // `sum` of 4 GiB takes its time; what it does is tested elsewhere.
        if !line.contains("sum") {
            say(&mut hmp, &line);
        }
        complete(&line);
    }
}
