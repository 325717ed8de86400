//! The gdb server of the built program: a real gdb by scripts, and packets by hand.
//!
//! The scripts need `gdb-multiarch`; without it they say that they were skipped, and with `FLATVIEW_REQUIRE_GDB=1` (as in
//! CI) they fail instead.

use crate::driver::{Client, LIMIT, Program, run};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const GDB: &str = "gdb-multiarch";

fn image(name: &str) -> String {
    image_for("mips", name)
}

/// A board's image: they are called alike.
fn image_for(board: &str, name: &str) -> String {
    format!("{}/../../guests/images/{board}/{name}.elf", env!("CARGO_MANIFEST_DIR"))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a program on the board, with a gdb server, stopped.
fn start(name: &str, more: &[&str]) -> (Program, u16) {
    start_on("mips", name, more)
}

fn start_on(board: &str, name: &str, more: &[&str]) -> (Program, u16) {
    start_image(board, &image_for(board, name), more)
}

fn start_image(board: &str, image: &str, more: &[&str]) -> (Program, u16) {
    let port = free_port();
    let gdb = format!("tcp:127.0.0.1:{port}");
    let mut args = vec!["-M", board, "-kernel", image, "-S", "-gdb", &gdb, "-display", "none"];
    args.extend(more);
    (Program::start(&args), port)
}

const QUIET: [&str; 4] = ["-serial", "null", "-monitor", "none"];

/// A client that speaks packets.
struct Packets {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Packets {
    fn connect(port: u16) -> Self {
        let deadline = Instant::now() + LIMIT;
        loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LIMIT)).unwrap();
                    return Self { stream, seen: Vec::new() };
                }
                Err(error) => assert!(Instant::now() < deadline, "{port}: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&mut self, body: &str) {
        let sum = body.bytes().fold(0_u8, u8::wrapping_add);
        self.stream.write_all(format!("${body}#{sum:02x}").as_bytes()).unwrap();
    }

    /// The next packet's body; `None` at the end.
    fn next(&mut self) -> Option<String> {
        loop {
            let text = String::from_utf8_lossy(&self.seen).into_owned();
            if let Some((_, rest)) = text.split_once('$')
                && let Some((body, sum)) = rest.split_once('#')
                && sum.len() >= 2
            {
                let end = text.len() - sum.len() + 2;
                self.seen.drain(..end);
                self.stream.write_all(b"+").ok()?;
                return Some(body.to_owned());
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                // It was closed while our last acknowledgement was on its way.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Ok(count) => self.seen.extend_from_slice(&bytes[..count]),
                Err(error) => panic!("{error} after: {text}"),
            }
        }
    }

    fn ask(&mut self, body: &str) -> String {
        self.send(body);
        self.next().unwrap_or_else(|| panic!("the connection ended at {body}"))
    }

    /// What a monitor command prints.
    fn monitor(&mut self, command: &str) -> String {
        let hex: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.send(&format!("qRcmd,{hex}"));
        let mut text = Vec::new();
        loop {
            match self.next().unwrap().strip_prefix('O') {
                Some("K") => return String::from_utf8(text).unwrap(),
                Some(part) => {
                    text.extend(
                        (0..part.len()).step_by(2).map(|i| u8::from_str_radix(&part[i..i + 2], 16).unwrap()),
                    );
                }
                None => panic!("no answer of the monitor"),
            }
        }
    }

    fn register(&mut self, number: u32) -> u32 {
        u32::from_str_radix(&self.ask(&format!("p{number:x}")), 16).unwrap()
    }
}

const PC: u32 = 37;

/// Runs gdb with a script; what it said, or nothing if there is no gdb.
fn gdb(script: &str, port: u16, image: &str) -> Option<String> {
    let found = Command::new(GDB).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        assert!(std::env::var_os("FLATVIEW_REQUIRE_GDB").is_none(), "{GDB} is not installed");
        eprintln!("SKIPPED: {GDB} is not installed");
        return None;
    }
    let guests: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../guests"].iter().collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    let head = format!(
        "set pagination off\nset confirm off\nset tcp connect-timeout 20\ndirectory {}\ntarget remote 127.0.0.1:{port}\n",
        guests.display()
    );
    std::fs::write(&file, head + script).unwrap();
    let mut child = Command::new(GDB)
        .args(["-q", "-nx", "-batch", "-x", file.to_str().unwrap(), image])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + 3 * LIMIT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let said = child.wait_with_output().unwrap();
            panic!("gdb did not end: {}", String::from_utf8_lossy(&said.stdout));
        }
        thread::sleep(Duration::from_millis(20));
    }
    let said = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(!text.contains("Error in sourced"), "{text}");
    Some(text)
}

/// The texts stand there in this order.
fn assert_in_order(said: &str, texts: &[&str]) {
    let mut rest = said;
    for text in texts {
        let Some((_, behind)) = rest.split_once(text) else { panic!("no '{text}' in:\n{rest}\nof:\n{said}") };
        rest = behind;
    }
}

#[test]
fn gdb_breaks_watches_steps_looks_back_and_runs_to_the_end() {
    a_whole_session("mips");
}

#[test]
fn gdb_debugs_a_little_endian_program_too() {
    a_whole_session("mipsel");
}

fn a_whole_session(board: &str) {
    let (mut program, port) = start_on(board, "debug", &["-serial", "stdio", "-monitor", "none"]);
    let ends = "hbreak guest_halt\ncontinue\nmonitor info status\ncontinue\n";
    let Some(said) = the_same_session(port, &image_for(board, "debug"), "0x80100000", "$t9", ends) else {
        return;
    };
    assert_in_order(&said, &["guest_halt", "exited normally"]);
    // Monitors speak on another stream than gdb.
    assert!(said.contains("VM status: paused (debug)"), "{said}");
    program.wait_for("total 12, result 168");
    assert!(program.end().status.success());
}

#[test]
fn gdb_debugs_a_powerpc_program_with_its_own_registers() {
    let file = image_for("ppc", "debug");
    let (_program, port) = start_image("cpiom", &file, &QUIET);
    let ends = "delete\nset var $f1 = 2.5\np $f1 * 3\np/x $msr\np/x $cr = 0x12345678\nhbreak guest_done\ncontinue\n\
                p/x $cr\nx/s &guest_log\ninfo registers system\nkill\n";
    let Some(said) = the_same_session(port, &file, "0x100000", "$r30", ends) else { return };
    assert_in_order(
        &said,
        &["$5 = 7.5", "$6 = 0x1000", "guest_done", "\"total 12, result 168\\n\"", "pvr", "killed"],
    );
}

/// What is alike on all CPUs, with the register `spare`, which the program has no use for; then `ends`.
fn the_same_session(port: u16, image: &str, entry: &str, spare: &str, ends: &str) -> Option<String> {
    let script = format!(
        "p/x $pc\nbreak inner\ncontinue\nbacktrace\nwatch total\ncontinue\ncontinue\ndelete\n\
         rwatch corner.x\ncontinue\ndelete\nwatch unaligned[1]\ncontinue\ndelete\nnext\n\
         tbreak *put_char\ncontinue\nx/2i $pc\nstepi\np $pc == (char *)put_char + 4\n\
         set var {spare} = 0x1234\np/x {spare}\nset var total = 99\np total\n{ends}"
    );
    let said = gdb(&script, port, image)?;
    assert_in_order(
        &said,
        &[
            &format!("$1 = {entry}\n"),
            "Breakpoint 1, inner (depth=2, step=1) at debug/debug.c:33",
            "int result = depth * 10 + step;",
            "#0  inner (depth=2, step=1)",
            "in middle (depth=2)",
            "in outer (depth=2)",
            "in main ()",
            "Hardware watchpoint 2: total",
            "Old value = 0\nNew value = 1",
            "Breakpoint 1, inner (depth=2, step=2)",
            "Hardware read watchpoint 3: corner.x",
            "Value = 3",
            "Hardware watchpoint 4: unaligned[1]",
            "New value = 17",
            "total, result",
            "Temporary breakpoint 5, ",
            "put_char",
            "=> 0x",
            "$2 = 1",
            "$3 = 0x1234",
            "$4 = 99",
        ],
    );
    Some(said)
}

#[test]
fn gdb_detaches_and_comes_back_to_a_program_that_ran_on() {
    let (program, port) = start("demo", &QUIET);
    let Some(said) = gdb("break main\ncontinue\nx/i $pc\ndetach\n", port, &image("demo")) else { return };
    assert_in_order(&said, &["Breakpoint 1, ", "<main+", "detached"]);
    let said = gdb(
        "p $pc != (char *)main\nmonitor info status\nmonitor system_reset\nmaintenance flush register-cache\np/x $pc\n\
         info registers system\nkill\n",
        port,
        &image("demo"),
    );
    let said = said.unwrap();
    assert_in_order(&said, &["$1 = 1", "$2 = 0x80100000", "prid", "0x19300", "config1", "killed"]);
    assert!(said.contains("VM status: paused\n"), "{said}");
    let said = program.end();
    assert!(said.status.success() && said.err.contains("Terminated via GDBstub"), "{said:?}");
}

#[test]
fn a_client_finds_the_machine_stopped_and_its_loss_leaves_it_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("qmp");
    let on = format!("unix:{},server,nowait", socket.display());
    let (_program, port) = start("demo", &["-serial", "null", "-qmp", &on]);
    let mut qmp = Client::connect(&socket);
    qmp.line();
    qmp.ask("{\"execute\": \"qmp_capabilities\"}");
    let mut status = |want: &str| {
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = qmp.ask("{\"execute\": \"query-status\"}");
            if text.contains("\"event\"") {
                continue;
            }
            if text.contains(&format!("\"status\": \"{want}\"")) {
                break;
            }
            assert!(Instant::now() < deadline, "no {want}: {text}");
        }
    };
    let mut client = Packets::connect(port);
    assert_eq!(client.ask("?"), "T05thread:01;");
    status("prelaunch");
    client.send("c");
    status("running");
    client.stream.write_all(&[3]).unwrap();
    assert_eq!(client.next().unwrap(), "T02thread:01;");
    status("paused");
    // A second client waits.
    let mut second = Packets::connect(port);
    second.send("?");
    drop(client);
    assert_eq!(second.next().unwrap(), "T05thread:01;");
    status("paused");
    assert_eq!(second.ask("vCont;s:1"), "T05thread:01;");
    status("debug");
    second.send("c");
    status("running");
    drop(second);
    thread::sleep(Duration::from_millis(100));
    status("running");
    let mut third = Packets::connect(port);
    status("paused");
    assert_eq!(third.ask("D"), "OK");
    status("running");
}

#[test]
fn packets_look_at_registers_and_memory_and_get_errors_for_what_is_not_there() {
    let (_program, port) = start("debug", &QUIET);
    let mut client = Packets::connect(port);
    let supported = client.ask("qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+");
    for part in
        ["PacketSize=4000", "multiprocess+", "vContSupported+", "qXfer:features:read+", "QStartNoAckMode+"]
    {
        assert!(supported.contains(part), "{supported}");
    }
    let xml = client.ask("qXfer:features:read:target.xml:0,ffb");
    assert!(xml.starts_with("m<?xml") && xml.contains("<architecture>mips</architecture>"), "{xml}");
    assert!(client.ask("qXfer:features:read:target.xml:ffffff,10").starts_with('l'));
    assert_eq!(client.ask("qXfer:features:read:other.xml:0,10"), "E00");
    assert_eq!(client.ask("qC"), "QCp01.01");
    assert_eq!(client.ask("qfThreadInfo"), "mp01.01");
    assert_eq!(client.ask("qThreadExtraInfo,p1.1"), "4350552330205b72756e6e696e675d");
    assert_eq!(client.register(PC), 0x8010_0000);
    let all = client.ask("g");
    assert_eq!(&all[PC as usize * 8..PC as usize * 8 + 8], "80100000");
    assert_eq!(client.ask(&format!("G{all}")), "OK");
    assert_eq!(client.ask("P4=00000007"), "OK");
    assert_eq!(client.register(4), 7);
    assert_eq!(client.ask("p999"), "E16");
    assert_eq!(client.ask("P4=07"), "E16");
    // A page boundary, both windows, ROM and RAM as loads see them.
    assert_eq!(client.ask("M80200ffe,4:01020304"), "OK");
    assert_eq!(client.ask("m80200ffe,4"), "01020304");
    assert_eq!(client.ask("ma0200ffe,4"), "01020304");
    assert_eq!(client.ask("X80200ffe,4:abcd"), "OK");
    assert_eq!(client.ask("m80200ffd,6"), "006162636400");
    // Not mapped by the MMU; nothing there; a device that cannot be looked at; too long; across the end.
    for bad in ["mc0000000,4", "m00000000,4x", "mb8000000,4", "m80000000,9000", "mfffffffffffffffc,8", "m,"] {
        let answer = client.ask(bad);
        assert!(answer.starts_with('E'), "{bad}: {answer}");
    }
    assert_eq!(client.ask("qqemu.sstepbits"), "ENABLE=1,NOIRQ=2,NOTIMER=4");
    assert_eq!(client.ask("Qqemu.sstep=1"), "OK");
    assert_eq!(client.ask("qqemu.sstep"), "0x1");
    assert_eq!(client.ask("Qqemu.PhyMemMode:1"), "OK");
    assert_eq!(client.ask("m200ffe,4"), "61626364");
    assert_eq!(client.ask("vMustReplyEmpty"), "");
    assert_eq!(client.ask("vCont?"), "vCont;c;C;s;S;r");
}

#[test]
fn breakpoints_are_passed_when_it_goes_on_and_survive_a_reset() {
    let (_program, port) = start("debug", &QUIET);
    let mut client = Packets::connect(port);
    assert_eq!(client.ask("Z1,80100000,4"), "OK");
    assert_eq!(client.ask("Z0,80100010,4"), "OK");
    assert_eq!(client.ask("vCont;c"), "T05thread:01;swbreak:;", "the one where it stands is passed");
    assert_eq!(client.register(PC), 0x8010_0010);
    assert_eq!(client.monitor("system_reset"), "");
    assert_eq!(client.register(PC), 0x8010_0000);
    assert_eq!(client.ask("vCont;s:1"), "T05thread:01;");
    assert_eq!(client.ask("c80100000"), "T05thread:01;hwbreak:;", "somebody jumped there");
    assert_eq!(client.ask("vCont;s"), "T05thread:01;");
    assert_eq!(client.register(PC), 0x8010_0004, "the delay slot");
    assert_eq!(client.ask("s"), "T05thread:01;");
    assert_eq!(client.register(PC), 0x8010_0010);
    assert_eq!(client.ask("vCont;r80100010,80100020:1"), "T05thread:01;");
    assert_eq!(client.register(PC), 0x8010_0020);
    assert_eq!(client.ask("z0,80100010,4"), "OK");
    assert_eq!(client.ask("z0,80100010,4"), "E16");
    assert_eq!(client.ask("Z2,80100000,0"), "E16");
    assert_eq!(client.ask("Z2,c0000000,4"), "E0e");
    assert_eq!(client.ask("Z5,0,0"), "");
    assert_eq!(client.ask("Z2,80101000,4"), "OK");
    assert_eq!(client.ask("z3,80101000,4"), "E16", "one of another kind");
    assert_eq!(client.ask("z2,80101000,4"), "OK");
    assert_eq!(client.ask("z2,80101000,4"), "E16");
    client.send("R00");
    assert_eq!(client.register(PC), 0x8010_0000);
}

/// A packet that is nearly one, and sometimes not a whole one.
fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
    // What would end the machine or the peace: k, vKill, R, and monitor commands that begin otherwise than with z.
    const STARTS: [&str; 24] = [
        "?",
        "g",
        "G",
        "m",
        "M",
        "X",
        "p",
        "P",
        "H",
        "T",
        "Z",
        "z",
        "vCont",
        "vCont;",
        "q",
        "Q",
        "qSupported",
        "qXfer:features:read:",
        "qRcmd,7a",
        "qThreadExtraInfo,",
        "s",
        "vFile:",
        "D",
        "c",
    ];
    let mut body = random.choice(STARTS).unwrap().as_bytes().to_vec();
    for _ in 0..random.usize(0..24) {
        let digit = *random.choice(b"0123456789abcdef,;:=-.p").unwrap();
        body.push(if random.bool() { digit } else { random.u8(..) });
    }
    if random.u8(..) < 250 {
        body.retain(|byte| !matches!(byte, b'$' | b'#'));
    }
    let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let mut packet = [b"$", body.as_slice(), format!("#{sum:02x}").as_bytes()].concat();
    if random.u8(..) < 20 {
        packet.truncate(random.usize(0..packet.len()));
    }
    if random.u8(..) < 20 {
        packet.push(3);
    }
    packet
}

#[test]
fn noise_broken_packets_and_clients_that_vanish_do_no_harm() {
    let (program, port) = start("demo", &QUIET);
    let mut client = Packets::connect(port);
    client.stream.write_all(b"\x00\xffgarbage$g#00").unwrap();
    assert_eq!(client.ask("?"), "T05thread:01;", "after a minus");
    client.stream.write_all(b"-").unwrap();
    assert_eq!(client.next().unwrap(), "T05thread:01;", "again");
    client.send(&"x".repeat(100_000));
    assert_eq!(client.next().unwrap(), "E22");
    assert_eq!(client.ask("vCont;q"), "E22");
    assert_eq!(client.ask("Hg0"), "OK", "it goes on after an error");
    client.stream.write_all(b"$m801000").unwrap();
    drop(client);
    let mut client = Packets::connect(port);
    // The program touches no device, and does not end: see guests/README.md.
    assert_eq!(client.ask("M80100008,4:00000001"), "OK");
    drop(client);
    let mut random = fastrand::Rng::with_seed(0x6762);
    for _ in 0..40 {
        let bytes: Vec<u8> = (0..random.usize(1..40)).flat_map(|_| noise(&mut random)).collect();
        let mut client = Packets::connect(port);
        // It may be let go before it has said all.
        let _ = client.stream.write_all(&bytes);
    }
    let mut client = Packets::connect(port);
    assert!(client.ask("?").starts_with("T05"), "it still answers");
    client.send("k");
    assert_eq!(client.next().unwrap(), "W00");
    let said = program.end();
    assert!(said.status.success(), "{said:?}");
    assert!(!said.err.contains("panicked"), "{}", said.err);
}

#[test]
fn the_monitor_starts_and_ends_the_server() {
    let (port, image) = (free_port(), image("hello"));
    let mut program =
        Program::start(&["-M", "mips", "-kernel", &image, "-S", "-monitor", "stdio", "-serial", "null"]);
    program.send(&format!("gdbserver tcp:127.0.0.1:{port}\n"));
    program.wait_for(&format!("Waiting for gdb connection on device 'tcp:127.0.0.1:{port}'\n"));
    let mut client = Packets::connect(port);
    assert_eq!(client.ask("?"), "T05thread:01;");
    program.send("gdbserver none\n");
    program.wait_for("Disabled gdbserver\n");
    assert_eq!(client.next(), None);
    program.send("gdbserver foo\n");
    program.wait_for("Could not open gdbserver on device 'foo'\n");
    program.send("quit\n");
    assert!(program.end().status.success());
}

#[test]
fn a_port_that_is_taken_is_an_error_with_a_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let gdb = format!("tcp:{}", taken.local_addr().unwrap());
    let said = run(&["-M", "mips", "-kernel", &image("hello"), "-S", "-gdb", &gdb, "-display", "none"], "");
    assert_eq!(said.status.code(), Some(1));
    assert!(said.err.contains(&gdb) && said.err.contains("choose another port"), "{}", said.err);
}
