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
fn dialogue(mut program: Program) -> (Program, String) {
    let mut said = program.wait_up_to(BOOT, PROMPT);
    for word in WORDS {
        program.send(&format!("{word}\n"));
        said += &program.wait_for(PROMPT);
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
    let (mut ours, said) = dialogue(Program::start(&["-M", "40p", "-nographic"]));
    ours.send("\u{1}x");
    let end = ours.end();
    assert!(end.status.success(), "{end:?}");
    assert!(end.out.ends_with("Flatview: Terminated\r\n"), "{end:?}");
    let captured = CAPTURE.split_once("QEMU: Terminated").expect("the capture's end").0;
    if build(&said) == build(captured) {
        assert_eq!(said, captured);
    } else if let Some(qemu) = qemu_is_there() {
        let (_qemu, theirs) =
            dialogue(Program::start_other(qemu, &["-M", "40p", "-nographic", "-net", "none"]));
        assert_eq!(said, theirs);
    }
    assert!(said.contains("1 2 + . 3  ok"), "{said}");
    assert!(said.contains("pci@80000000"), "{said}");
}
