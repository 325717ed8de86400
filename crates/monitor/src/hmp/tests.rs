use super::*;
use crate::session::Session;
use crate::testing::mips;

fn say(hmp: &mut Hmp, line: &str) -> String {
    let mut out = Vec::new();
    hmp.execute(line, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_command_of_the_help_is_found_and_explained() {
    let mut hmp = Hmp::new(mips());
    let help = say(&mut hmp, "help");
    // `help info` lists what follows `info`.
    for command in commands::commands().iter().filter(|c| c.name != "info") {
        for name in command.names() {
            let one = say(&mut hmp, &format!("help {name}"));
            assert!(help.contains(&one) && one.starts_with(command.name), "{name}: {one}");
        }
    }
    assert!(help.contains("\nhelp|? [cmd] -- list the commands, or explain one\n"));
    assert!(help.starts_with("cont|c  -- let the machine run\n"));
    assert_eq!(say(&mut hmp, "?"), help);
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
