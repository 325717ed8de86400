//! The built program, driven as people and scripts drive it: pipes, sockets, pseudo terminals, signals.

use crate::driver::{Client, LIMIT, Program, run};
use crate::mtree_command::{blocks, capture};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

const GREETING: &str =
    concat!("Flatview ", env!("CARGO_PKG_VERSION"), " monitor - type 'help' for more information\n");

/// What the monitor answered to `command`, out of a transcript in which every command line is echoed after a prompt.
fn answer<'a>(transcript: &'a str, command: &str) -> &'a str {
    let (_, rest) = transcript.split_once(&format!("(qemu) {command}\n")).expect(transcript);
    rest.split_once("(qemu) ").map_or(rest, |(answer, _)| answer)
}

/// What was said on standard error, without warnings: that there is no firmware is one.
fn errors(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("flatview: warning: ")).collect()
}

#[test]
fn the_session_of_the_readme_shows_the_memory_map() {
    let folder = tempfile::tempdir().unwrap();
    // Not -s, whose port is everybody's.
    let gdb = format!("unix:{},server=on,wait=off", folder.path().join("gdb").display());
    let said =
        run(&["-M", "40p", "-gdb", &gdb, "-S", "-monitor", "stdio"], "info status\ninfo mtree\nquit\n");
    assert!(said.status.success(), "{said:?}");
    assert!(said.out.starts_with(GREETING), "{}", said.out);
    assert_eq!(answer(&said.out, "info status"), "VM status: paused (prelaunch)\n");
    let captured = std::fs::read_to_string(capture("ppc-40p.tree")).unwrap();
    let (ours, theirs) = (blocks(answer(&said.out, "info mtree")), blocks(&captured));
    let different: Vec<_> = ours.symmetric_difference(&theirs).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert!(said.out.ends_with("(qemu) quit\n"), "{}", said.out);
}

#[test]
fn a_board_without_a_cpu_that_runs_has_no_gdb_server_and_goes_on() {
    let said = run(&["-M", "cpiom", "-s", "-S", "-monitor", "stdio"], "info status\n");
    assert!(said.status.success(), "{said:?}");
    assert!(said.err.contains("no CPU of the board 'cpiom' runs guest code here"), "{}", said.err);
    assert_eq!(answer(&said.out, "info status"), "VM status: paused (prelaunch)\n");
}

#[test]
fn the_end_of_standard_input_ends_a_machine_that_nothing_else_can_reach() {
    let said = run(&["-M", "mips", "-S", "-monitor", "stdio"], "info status\n");
    assert!(said.status.success());
    assert!(said.out.ends_with("VM status: paused (prelaunch)\n(qemu) "), "{}", said.out);
}

#[test]
fn a_machine_with_a_socket_outlives_its_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("qmp");
    let on = format!("unix:{},server=on,wait=off", socket.display());
    let mut program = Program::start(&["-M", "mips", "-S", "-monitor", "stdio", "-qmp", &on]);
    program.wait_for("(qemu) ");
    program.input = None;
    let mut client = Client::connect(&socket);
    assert!(client.line().starts_with("{\"QMP\": {\"version\": "));
    assert_eq!(client.ask("{\"execute\": \"qmp_capabilities\"}"), "{\"return\": {}}");
    client.send("{\"execute\": \"quit\"}");
    assert!(program.end().status.success());
    assert!(!socket.exists(), "the socket is removed");
}

#[test]
fn a_qmp_client_negotiates_asks_and_is_told_of_events() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, dump) = (folder.path().join("qmp"), folder.path().join("dump"));
    let on = format!("unix:{},server,nowait", socket.display());
    let program = Program::start(&["-M", "mips", "-S", "-display", "none", "-qmp", &on]);
    let mut client = Client::connect(&socket);
    client.line();
    client.send("{'execute': 'qmp_capabilities', 'id': 1}{'execute': 'query-status', 'id': 2}");
    assert_eq!(client.line(), "{\"return\": {}, \"id\": 1}");
    assert_eq!(
        client.line(),
        "{\"return\": {\"status\": \"prelaunch\", \"singlestep\": false, \"running\": false}, \"id\": 2}"
    );
    let resumed: Value = serde_json::from_str(&client.ask("{\"execute\": \"cont\"}")).unwrap();
    assert_eq!(resumed["event"], "RESUME");
    assert!(resumed["timestamp"]["seconds"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!(client.line(), "{\"return\": {}}");
    let reset: Value = serde_json::from_str(&client.ask("{\"execute\": \"system_reset\"}")).unwrap();
    assert_eq!(reset["data"]["reason"], "host-qmp-system-reset");
    assert_eq!(client.line(), "{\"return\": {}}");
    assert!(client.ask("{\"execute\" \"x\"}").contains("JSON parse error, "));
    let save = format!(
        "{{\"execute\": \"pmemsave\", \"arguments\": {{\"val\": 0, \"size\": 4097, \"filename\": \"{}\"}}}}",
        dump.display()
    );
    assert_eq!(client.ask(&save), "{\"return\": {}}");
    assert_eq!(std::fs::read(&dump).unwrap(), [0; 4097]);
    let shutdown: Value = serde_json::from_str(&client.ask("{\"execute\": \"quit\"}")).unwrap();
    assert_eq!(shutdown["event"], "SHUTDOWN");
    assert_eq!(client.line(), "{\"return\": {}}", "the reply comes before the program is gone");
    assert!(program.end().status.success());
}

#[test]
fn a_write_of_42_to_the_mips_reset_register_resets_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let (qmp, qtest) = (folder.path().join("qmp"), folder.path().join("qtest"));
    let qmp_on = format!("unix:{},server,nowait", qmp.display());
    let qtest_on = format!("unix:{},server,nowait", qtest.display());
    let program = Program::start(&["-M", "mips", "-display", "none", "-qmp", &qmp_on, "-qtest", &qtest_on]);
    let mut events = Client::connect(&qmp);
    events.line();
    events.ask("{\"execute\": \"qmp_capabilities\"}");
    let mut test = Client::connect(&qtest);
    assert_eq!(test.ask("endianness"), "OK big");
    assert_eq!(test.ask("readl 0x1fbf0000"), "OK 0x0000000000000000");
    assert_eq!(test.ask("writel 0x1fbf0000 41"), "OK");
    assert_eq!(test.ask("writel 0x1fbf0000 42"), "OK");
    let reset: Value = serde_json::from_str(&events.line()).unwrap();
    assert_eq!((&reset["event"], &reset["data"]["guest"]), (&"RESET".into(), &true.into()));
    assert_eq!(reset["data"]["reason"], "guest-reset");
    assert_eq!(test.ask("writel 0x1fbf0004 42"), "OK");
    let shutdown: Value = serde_json::from_str(&events.line()).unwrap();
    assert_eq!((&shutdown["event"], &shutdown["data"]["guest"]), (&"SHUTDOWN".into(), &true.into()));
    assert!(program.end().status.success());
}

#[test]
fn no_reboot_turns_a_reset_into_the_end() {
    let said = run(&["-M", "mips", "-no-reboot", "-qtest", "stdio"], "writel 0x1fbf0000 42\n");
    assert!(said.status.success());
    assert_eq!(said.out, "OK\n");
}

#[test]
fn malformed_qtest_lines_fail_and_the_conversation_goes_on() {
    let lines = "readb\nreadb xyz\nwriteb 0\nread 0 0\nread 0 0xffffffffffff\nwrite 0 4 01020304\nb64write 0 4 A!\n\
                 inb 0x10000\nirq_intercept_in\nset_irq_in /machine/none unnamed-gpio-in 99 1\nmodule_load\nfoo\n\n";
    let said = run(&["-M", "mips", "-S", "-qtest", "stdio"], &format!("{lines}readb 0\n"));
    let answers: Vec<&str> = said.out.lines().collect();
    assert_eq!(answers.len(), lines.lines().count() + 1, "{}", said.out);
    let (last, failed) = answers.split_last().unwrap();
    assert_eq!(*last, "OK 0x0000000000000000");
    for answer in failed {
        assert!(answer.starts_with("FAIL ") && answer.len() > 10, "{answer}");
    }
    assert!(said.status.success());
}

#[test]
fn a_monitor_answers_on_tcp_on_a_unix_socket_and_on_a_pseudo_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("monitor");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unix = format!("unix:{},server,nowait", socket.display());
    let tcp = format!("tcp:127.0.0.1:{port},server,nowait");
    let mut program =
        Program::start(&["-M", "mips", "-S", "-monitor", &unix, "-monitor", &tcp, "-monitor", "pty"]);
    let told = program.wait_for(" (label compat_monitor2)\n");
    let pty = told.trim_start_matches("char device redirected to ").split(' ').next().unwrap();
    let expected = format!(
        "{}(qemu) info status\r\nVM status: paused (prelaunch)\r\n(qemu) ",
        GREETING.replace('\n', "\r\n")
    );

    let mut client = Client::connect(&socket);
    client.send("info status\n");
    assert_eq!(client.rest(), expected);

    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(b"info status\r\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, expected);

    let mut terminal = OpenOptions::new().read(true).write(true).open(pty).unwrap();
    let deadline = Instant::now() + LIMIT;
    let mut text = Vec::new();
    let mut asked = false;
    while !text.ends_with(b"prelaunch)\r\n(qemu) ") {
        assert!(Instant::now() < deadline);
        let mut bytes = [0; 256];
        let count = terminal.read(&mut bytes).unwrap();
        text.extend_from_slice(&bytes[..count]);
        if !asked && text.ends_with(b"(qemu) ") {
            terminal.write_all(b"info status\r").unwrap();
            asked = true;
        }
    }
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    terminal.write_all(b"q\r").unwrap();
    assert!(program.end().status.success());
}

#[test]
fn serial_port_and_monitor_share_one_terminal() {
    let mut program = Program::start(&["-M", "mips", "-S", "-nographic"]);
    program.send("\x01h");
    program.wait_for("C-a x    end the emulator");
    program.send("\x01cinfo status\n");
    program.wait_for("(qemu) info status\nVM status: paused (prelaunch)\n(qemu) ");
    program.send("\x01x");
    program.wait_for("Flatview: Terminated");
    assert!(program.end().status.success());
}

#[test]
fn a_signal_ends_the_machine_in_order() {
    for name in ["-TERM", "-INT", "-HUP"] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("monitor");
        let on = format!("unix:{},server,nowait", socket.display());
        let mut program = Program::start(&["-M", "mips", "-S", "-monitor", &on, "-qmp", "stdio"]);
        program.wait_for("\"QMP\"");
        program.send("{\"execute\": \"qmp_capabilities\"}");
        program.wait_for("{\"return\": {}}");
        program.signal(name);
        program
            .wait_for("\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-signal\"}}");
        let said = program.end();
        assert!(said.status.success() && said.err.contains("terminating on signal"), "{said:?}");
        assert!(!socket.exists());
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flatview"))
        .arg("-h")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_monitor_whose_reader_has_gone_ends_with_its_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flatview"))
        .args(["-M", "mips", "-S", "-monitor", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"info mtree\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(errors(&String::from_utf8(output.stderr).unwrap()), [""; 0]);
}

#[test]
fn a_bad_command_line_is_refused_with_its_cure_and_status_1() {
    for (args, parts) in [
        (
            &["-M", "mips", "-moniter", "stdio"][..],
            &["-moniter: invalid option; did you mean '-monitor'?"][..],
        ),
        (&["-M", "mpis", "-display", "none"], &["mpis", "mips"]),
        (&["-M"], &["-M: requires an argument"]),
        (&[], &["No machine specified", "-machine help"]),
        (&["-M", "mips", "-m", "abc"], &["-m abc: Parameter 'size' expects"]),
        (&["-M", "mips", "-m", "1G", "-display", "none"], &["256 MiB"]),
        (&["-M", "mips", "-monitor", "foo"], &["-monitor foo: ", "tcp:HOST:PORT"]),
        (&["-M", "mips", "-monitor", "stdio", "-serial", "stdio"], &["cannot use stdio by multiple"]),
        (&["-M", "mips", "-d", "foo"], &["-d foo: ", "guest_errors"]),
        (&["-M", "mips", "-display", "none", "-bios", "/nonexistent/rom"], &["/nonexistent/rom"]),
        (&["-M", "mips", "-display", "none", "-kernel", "/nonexistent/elf"], &["/nonexistent/elf"]),
        (&["-M", "mips", "-D", "/nonexistent/log", "-d", "unimp"], &["/nonexistent/log: No such file"]),
        (&["-M", "mips", "-monitor", "file:/nonexistent/x"], &["-monitor file:/nonexistent/x: "]),
        (&["-M", "mips", "-qmp", "unix:/nonexistent/x"], &["-qmp unix:/nonexistent/x: "]),
        (&["-M", "mips", "-display", "none", "-device", "foo"], &["foo"]),
        (&["-M", "mips", "disk.img"], &["no SCSI bus", "images without an option"]),
        (&["-M", "40p", "disk.img"], &["disk.img"]),
    ] {
        let said = run(args, "");
        assert_eq!(said.status.code(), Some(1), "{args:?}: {said:?}");
        assert!(said.err.starts_with("flatview: "), "{args:?}: {}", said.err);
        for part in parts {
            assert!(said.err.contains(part), "{args:?}: {}", said.err);
        }
    }
}

#[test]
fn questions_are_answered_on_standard_output() {
    for (args, part) in [
        (&["-h"][..], "usage: flatview [options]"),
        (&["--help"], "usage: flatview [options]"),
        (&["-version"], concat!("Flatview emulator version ", env!("CARGO_PKG_VERSION"))),
        (&["-M", "help"], "\nmips "),
        (&["-M", "help"], "\n40p "),
        (&["-M", "help"], "\ncpiom "),
        (&["-d", "help"], "guest_errors "),
        (&["-device", "help"], "pc-testdev "),
    ] {
        let said = run(args, "");
        assert!(said.status.success() && said.err.is_empty(), "{args:?}: {said:?}");
        assert!(said.out.contains(part), "{args:?}: {}", said.out);
    }
}

#[test]
fn the_log_goes_to_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let args = ["-M", "mips", "-S", "-qtest", "stdio", "-d", "guest_errors", "-D", log.to_str().unwrap()];
    let said = run(&args, "writel 0x90000000 1\n");
    assert_eq!(said.out, "OK\n");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("Invalid write at addr 0x90000000, size 4"), "{text}");
    assert_eq!(errors(&said.err), [""; 0]);
}

#[test]
fn level_changes_of_an_intercepted_line_are_told_before_the_answer() {
    // The SDRAM controller of the cpiom board: its line `err` follows STATUS1 while CTRL2 is set, and a refresh divisor of
    // 0 keeps STATUS1 set.
    let lines = "irq_intercept_out /machine/unattached/device[1] err\n\
                 irq_intercept_out /machine/unattached/device[1] err\n\
                 irq_intercept_out /machine/unattached/device[0]\n\
                 writel 0x2000a000 4\nwritel 0x20000028 0\nwritel 0x20000028 0x186\nwritel 0x2000a004 3\n";
    let said = run(&["-M", "cpiom", "-S", "-qtest", "stdio"], lines);
    assert_eq!(
        said.out,
        "OK\nOK\nFAIL IRQ intercept already enabled\nOK\nIRQ raise 0\nOK\nOK\nIRQ lower 0\nOK\n"
    );
}
