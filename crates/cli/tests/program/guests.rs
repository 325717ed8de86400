//! Guest programs on the board that they were written for.

use crate::driver::{Program, run};

/// An image of `guests/`, for a board.
fn image_for(board: &str, name: &str) -> String {
    format!("{}/../../guests/images/{board}/{name}.elf", env!("CARGO_MANIFEST_DIR"))
}

fn image(name: &str) -> String {
    image_for("mips", name)
}

fn start(name: &str, more: &[&str]) -> Program {
    start_on("mips", name, more)
}

fn start_on(board: &str, name: &str, more: &[&str]) -> Program {
    let image = image_for(board, name);
    let mut args = vec!["-M", board, "-kernel", &image, "-serial", "stdio", "-monitor", "none"];
    args.extend(more);
    Program::start(&args)
}

#[test]
fn the_demo_takes_interrupts_answers_resets_and_switches_off() {
    for (board, word) in [("mips", "3c1a8010"), ("mipsel", "3c1a8010")] {
        demo(board, word);
    }
}

/// `word` is the first one of its exception vectors.
fn demo(board: &str, word: &str) {
    let mut demo = start_on(board, "demo", &[]);
    let first = demo.wait_for("Type help.\r\n> ");
    assert!(first.contains("Ticks: 1 2 3 4 5\r\n"), "{first}");
    assert!(first.contains("1fbf0000  00000000  the reset register"), "{first}");
    assert!(first.contains("08000000  bus error  behind it"), "{first}");
    assert!(!first.contains("does not tick"), "{first}");
    demo.send("peek 80000000\n");
    let peeked = demo.wait_for("\r\n> ");
    assert!(peeked.contains(&format!("80000000: {word}")), "{peeked}");
    demo.send("peek c0000000\n");
    demo.wait_for("\r\n> ");
    demo.send("reset\n");
    demo.wait_for("Reset.");
    demo.wait_for("Type help.\r\n> ");
    demo.send("halt\n");
    assert!(demo.end().status.success());
}

#[test]
fn a_reset_ends_the_program_where_that_was_asked_for() {
    let mut demo = start("demo", &["-no-reboot"]);
    demo.wait_for("Type help.\r\n> ");
    demo.send("reset\n");
    assert!(demo.end().status.success());
}

#[test]
fn a_program_stands_still_until_it_is_let_go() {
    let image = image("hello");
    let program =
        Program::start(&["-M", "mips", "-S", "-kernel", &image, "-serial", "stdio", "-monitor", "none"]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    program.signal("-TERM");
    let said = program.end();
    assert!(!said.out.contains("Hello"), "{said:?}");
    let mut program = start("hello", &[]);
    program.wait_for("Hello from a MIPS guest.");
}

#[test]
fn programs_of_the_other_byte_order_are_refused_with_the_board_that_takes_them() {
    for (board, other) in [("mips", "mipsel"), ("mipsel", "mips")] {
        let image = image_for(other, "hello");
        let said = run(&["-M", board, "-kernel", &image, "-display", "none"], "");
        assert!(!said.status.success());
        assert!(
            said.err.ends_with(&format!("the board that takes this one is -M {other}\n")),
            "{}",
            said.err
        );
    }
}

#[test]
fn cpus_are_listed_and_chosen() {
    let said = run(&["-cpu", "help"], "");
    assert!(said.status.success() && said.out.starts_with("Available CPUs:\n"), "{said:?}");
    assert!(said.out.contains("\nMIPS '24Kc'          MIPS32 release 2"), "{}", said.out);
    let mut program = start("hello", &["-cpu", "24kc"]);
    program.wait_for("Hello from a MIPS guest.");
    let image = image("hello");
    let said = run(&["-M", "mips", "-kernel", &image, "-display", "none", "-cpu", "24Kd"], "");
    assert!(said.err.contains("Unable to find CPU model '24Kd'") && said.err.contains("did you mean '24K"));
}

#[test]
fn a_ram_disk_is_told_to_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("initrd");
    std::fs::write(&path, b"RAM disk").unwrap();
    let mut demo = start("demo", &["-initrd", path.to_str().unwrap(), "-append", "more"]);
    let first = demo.wait_for("Type help.\r\n> ");
    let told = first.lines().find_map(|line| line.strip_prefix("It was told: rd_start=0xffffffff")).unwrap();
    let (start, rest) = told.split_once(' ').unwrap();
    assert_eq!(rest, "rd_size=8 more");
    demo.send(&format!("peek {start}\n"));
    let peeked = demo.wait_for("\r\n> ");
    assert!(peeked.contains(&format!("{start}: 52414d20")), "{peeked}");
    let said = run(&["-M", "mips", "-initrd", path.to_str().unwrap(), "-display", "none"], "");
    assert_eq!(said.err, "flatview: -initrd only allowed with -kernel option\n");
}

#[test]
fn runs_with_counted_time_print_the_same_times() {
    let timed = || {
        let image = image("bench");
        let what = ["-append", "alu 2 mmio 1 refill 1", "-icount", "shift=1,sleep=off"];
        let mut args = vec!["-M", "mips", "-kernel", &image, "-serial", "stdio", "-monitor", "none"];
        args.extend(what);
        run(&args, "").out
    };
    let first = timed();
    assert!(first.contains("alu passes 2 instructions 1000000 result ffbbffed ok ticks 4"), "{first}");
    assert!(first.ends_with("end bench: ok\r\n"), "{first}");
    assert_eq!(timed(), first);
    for (text, says) in [("shift=11", "0 to 10, or auto"), ("sleep=off", "specify the shift")] {
        let said = run(&["-M", "mips", "-kernel", &image("hello"), "-display", "none", "-icount", text], "");
        assert!(said.err.starts_with(&format!("flatview: -icount {text}: ")) && said.err.contains(says));
    }
}

#[test]
fn with_no_shutdown_the_monitor_goes_on_when_the_guest_has_ended() {
    let image = image("hello");
    let args = ["-M", "mips", "-kernel", &image, "-serial", "null", "-monitor", "stdio", "-no-shutdown"];
    let mut program = Program::start(&args);
    program.wait_for("(qemu) ");
    for _ in 0..100 {
        program.send("info status\n");
        if program.wait_for("(qemu) ").contains("paused (shutdown)") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    program.send("info status\n");
    program.wait_for("VM status: paused (shutdown)");
    program.send("cont\n");
    program.wait_for("Resetting the Virtual Machine is required");
    program.send("system_reset\ninfo status\n");
    program.wait_for("VM status: paused (prelaunch)");
    program.send("quit\n");
    assert!(program.end().status.success());
}

#[test]
fn a_running_guest_and_the_monitor_share_the_terminal() {
    let image = image("demo");
    let mut program = Program::start(&["-M", "mips", "-kernel", &image, "-nographic"]);
    program.wait_for("Type help.\r\n> ");
    program.send("\x01h");
    program.wait_for("C-a x    end the emulator");
    program.send("\x01c");
    program.wait_for("(qemu) ");
    program.send("info registers\n");
    program.wait_for("GPR00:");
    program.wait_for("(qemu) ");
    // A break is a zero, which the prompt passes over.
    program.send("\x01c\x01bticks\n");
    program.wait_for("CPU timer (IP7): ");
    program.send("\x01x");
    program.wait_for("Terminated");
    assert!(program.end().status.success());
}
