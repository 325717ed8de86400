//! Guest programs on the board that they were written for.

use crate::driver::Program;

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
