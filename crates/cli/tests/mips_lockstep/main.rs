//! The same code on QEMU's MIPS CPU and on ours, instruction by instruction: every register after every step, and what was
//! written to memory after every block.
//!
//! What differs on purpose stands in `docs/lockstep.md`; what is not compared is read from that page and from nowhere else.
//! Needs Debian's qemu-system-mips; without it a test says that it was skipped, and with `FLATVIEW_REQUIRE_QEMU=1` (as in
//! CI) it fails instead.
//!
//! A failure prints the seed, the program and the last steps. `FLATVIEW_SEED` and `FLATVIEW_PROGRAM` repeat one program,
//! `FLATVIEW_LOCKSTEP` sets the number of random instructions (and has the ISA tests stepped to their end),
//! `FLATVIEW_ORDER=big` or `little` leaves the other one out; with `FLATVIEW_IN_PROCESS=1` ours is a CPU within the test, which
//! is faster.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

mod isa_tests;
mod known_words;
mod lockstep;
mod random;
mod report;
mod rsp;
mod state;
mod target;
mod words;

use std::process::Command;
use std::time::Instant;

use flatview::Endianness;

use lockstep::Lockstep;
use report::Report;
use target::{ByGdb, InProcess, Target};

/// The CPU that QEMU is to have.
const CPU: &str = "24Kf";
const ORDERS: [Endianness; 2] = [Endianness::Big, Endianness::Little];

fn qemu_program(order: Endianness) -> &'static str {
    if order == Endianness::Big { "qemu-system-mips" } else { "qemu-system-mipsel" }
}

fn env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let digits = text.trim_start_matches("0x");
    let number = if digits.len() < text.len() { u64::from_str_radix(digits, 16) } else { text.parse() };
    Some(number.unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

/// The byte orders that are asked for and that there is a QEMU for; in CI both.
fn orders() -> Vec<Endianness> {
    let wanted = std::env::var("FLATVIEW_ORDER").unwrap_or_default();
    let is_wanted = |order: &Endianness| match wanted.as_str() {
        "big" => *order == Endianness::Big,
        "little" => *order == Endianness::Little,
        _ => true,
    };
    let is_here = |order: &Endianness| {
        let program = qemu_program(*order);
        let here = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
        assert!(
            here || std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(),
            "{program} is missing: apt-get install qemu-system-mips qemu-system-data seabios ipxe-qemu"
        );
        if !here {
            eprintln!("SKIPPED: {program} is not installed");
        }
        here
    };
    ORDERS.into_iter().filter(is_wanted).filter(is_here).collect()
}

/// QEMU and ours, both by gdb's protocol.
fn both(order: Endianness) -> Lockstep {
    let ours: Box<dyn Target> = match std::env::var_os("FLATVIEW_IN_PROCESS") {
        None => Box::new(ByGdb::ours(order, CPU)),
        Some(_) => Box::new(InProcess::new(order, CPU)),
    };
    Lockstep::new(Box::new(ByGdb::qemu(order, CPU)), ours, order)
}

#[test]
fn random_programs_run_alike() {
    let seed = env_number("FLATVIEW_SEED").unwrap_or(0x24c_0de5);
    let count = env_number("FLATVIEW_LOCKSTEP");
    let only = env_number("FLATVIEW_PROGRAM");
    let orders = orders();
    let (mut all, mut failures) = (Report::default(), Vec::new());
    let began = Instant::now();
    for order in &orders {
        let most = count.unwrap_or(60_000) / orders.len() as u64;
        let mut report = Report::default();
        let mut lockstep = both(*order);
        let first = only.unwrap_or(0);
        for n in first.. {
            if let Err(text) = random::run(&mut lockstep, &mut report, seed, n) {
                let name = if *order == Endianness::Big { "big" } else { "little" };
                failures.push(format!(
                    "instruction {} of the run (FLATVIEW_SEED={seed:#x} FLATVIEW_PROGRAM={n} FLATVIEW_ORDER={name}): {text}",
                    report.instructions()
                ));
                lockstep = both(*order);
            }
            if report.instructions() >= most || only.is_some() || failures.len() >= 8 {
                break;
            }
        }
        println!("{order:?}: {} words of memory compared on the way", lockstep.compared_words);
        all.add(&report);
    }
    println!("seed {seed:#x}, {:.1} s: {all}", began.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} programs differ:\n{}", failures.len(), failures.join("\n\n"));
    if orders.is_empty() || only.is_some() {
        return;
    }
    assert!(all.retired * 10 >= all.instructions() * 7, "less than 70 % are done");
    let rare = if count.is_some_and(|n| n >= 1_000_000) { 100 } else { 1 };
    let often = |name: &&str| all.mnemonics.get(*name).is_some_and(|(a, b)| a + b >= rare);
    let seldom: Vec<_> = known_words::mnemonics().into_iter().filter(|name| !often(name)).collect();
    assert!(seldom.is_empty(), "less than {rare} times: {seldom:?}");
}
