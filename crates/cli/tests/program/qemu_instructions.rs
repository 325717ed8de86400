//! Instructions as text, `xp /i`, are what QEMU 7.2's disassemblers make of the same code: our guests' for MIPS, and OpenBIOS for
//! PowerPC. What may differ is said here, rule by rule (`docs/deviations.md`, DEV-151 and DEV-152).
//!
//! Needs Debian's qemu-system-mips and qemu-system-ppc; without them the tests say that they were skipped, and with
//! `FLATVIEW_REQUIRE_QEMU=1` (as in CI) they fail instead.

use crate::driver::{installed, qemu_is_there};
use crate::qemu_texts::Qmp;

/// What both show of so many words at an address.
fn both(ours: &mut Qmp, theirs: &mut Qmp, at: u64, words: u64) -> Vec<(String, String)> {
    let command = format!("xp/{words}i {at:#x}");
    let lines = |qmp: &mut Qmp| qmp.monitor(&command).lines().map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (lines(ours), lines(theirs));
    assert_eq!((a.len(), b.len()), (words as usize, words as usize));
    a.into_iter().zip(b).collect()
}

/// Judges all lines; gives how many are equal.
fn judge(lines: &[(String, String)], is_alike: impl Fn(&str, &str) -> bool) -> usize {
    let wrong: Vec<_> = lines.iter().filter(|(a, b)| a != b && !is_alike(a, b)).collect();
    assert!(wrong.is_empty(), "{} lines, the first: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    lines.iter().filter(|(a, b)| a == b).count()
}

#[test]
fn mips_code_is_shown_as_qemu_shows_it() {
    let Some(qemu) = installed("qemu-system-mips") else { return };
    // Instructions of releases and widths that the 24Kf does not have; only data looks like them.
    const OTHERS: &[&str] = &[
        "addciu", "addiupc", "align", "aui", "auipc", "balc", "bc", "beqc", "beqzalc", "bgec", "bgeuc",
        "blezalc", "bltc", "bltuc", "bnec", "bnezalc", "bnvc", "bovc", "c1", "cop2", "daddi", "daddiu",
        "daui", "dclo", "dclz", "ldl", "ldr", "ld", "lld", "lsa", "lwu", "mfc2", "mtc2", "cfc2", "ctc2",
        "lwc2", "ldc2", "swc2", "sdc2", "scd", "sd", "sdl", "sdr",
    ];
    let text = |line: &str| line.split_once(":  ").unwrap().1.to_owned();
    let mut equal = 0;
    for name in
        ["isa-manual", "isa-fpumove", "isa-fpucompare", "isa-cp0", "isa-muldiv", "isa-llsc", "isa-except"]
    {
        let image = format!("{}/../../guests/images/mips/{name}.elf", env!("CARGO_MANIFEST_DIR"));
        let mut ours = Qmp::of(env!("CARGO_BIN_EXE_flatview"), &["-M", "mips", "-kernel", &image]);
        let mut theirs = Qmp::of(qemu, &["-M", "malta", "-kernel", &image]);
        let lines = both(&mut ours, &mut theirs, 0x10_0000, 900);
        equal += judge(&lines, |ours, theirs| {
            let (ours, theirs) = (text(ours), text(theirs));
            let name = theirs.split_whitespace().next().unwrap_or_default();
            // Data, or unused bits that the CPU does not look at.
            ours.starts_with("0x")
                || theirs.starts_with("0x")
                || OTHERS.contains(&name)
                || ours == theirs.replacen("mad", "madd", 1)
        });
    }
    assert!(equal > 6000, "{equal}");
}

#[test]
fn powerpc_code_is_shown_as_qemu_shows_it_but_for_other_names() {
    let Some(qemu) = qemu_is_there() else { return };
    // Theirs, and what ours calls it.
    const NAMES: &[(&str, &[&str])] = &[
        ("addi", &["subi"]),
        ("addis", &["subis"]),
        ("addic", &["subic"]),
        ("addic.", &["subic."]),
        ("or.", &["mr."]),
        ("cntlz", &["cntlzw"]),
        ("rlwinm", &["clrrwi", "extrwi", "clrlslwi", "extlwi", "rotrwi"]),
        ("rlwinm.", &["clrrwi.", "extrwi.", "clrlslwi.", "extlwi.", "rotrwi."]),
        ("rotlwi", &["rotrwi"]),
        ("mfspr", &["mfsdr1", "mfsrr0", "mfsrr1"]),
        ("mtspr", &["mtsdr1", "mtsrr0", "mtsrr1"]),
        ("mfpvr", &["mfspr"]),
        // With a number behind it that says which half.
        ("mftb", &["mftb"]),
    ];
    // Numbers without their sign, and addresses behind the last one.
    let number = |operand: &str| {
        let (sign, digits) = operand.strip_prefix('-').map_or((1, operand), |digits| (-1, digits));
        let value = match digits.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        };
        value.map(|value| (sign * value) & 0xffff)
    };
    let same = |a: &str, b: &str| a == b || number(a).is_some_and(|a| number(b) == Some(a));
    let mut ours = Qmp::of(env!("CARGO_BIN_EXE_flatview"), &["-M", "40p"]);
    let mut theirs = Qmp::of(qemu, &["-M", "40p", "-vga", "none", "-net", "none"]);
    // The code of OpenBIOS, of which behind that are its data.
    let lines = both(&mut ours, &mut theirs, 0xfff0_8000, 0x2_6000 / 4);
    let equal = judge(&lines, |ours, theirs| {
        let parts = |line: &str| {
            let text = line.get(23..).unwrap().trim_end().to_owned();
            let (name, operands) = text.split_once(' ').unwrap_or((&text, ""));
            let operands = operands.trim().split(", ").map(str::to_owned).collect::<Vec<_>>();
            // Hints come behind branches.
            (name.trim_end_matches(['+', '-']).to_owned(), operands)
        };
        let (a, b) = (parts(ours), parts(theirs));
        let renamed = NAMES.iter().any(|(theirs, ours)| *theirs == b.0 && ours.contains(&a.0.as_str()));
        let operands = a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(|(a, b)| same(a, b));
        // A branch to itself, which theirs shows without a target.
        let stays = operands || ours.get(..10).is_some_and(|here| a.1 == [here]) && b.1 == [""];
        renamed || (a.0 == b.0 && stays)
    });
    assert!(equal > 35_000, "{equal}");
}
