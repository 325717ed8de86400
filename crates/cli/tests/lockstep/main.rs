//! The same code on QEMU's CPUs and on ours, instruction by instruction: every register after every step, and what was
//! written to memory after every block.
//!
//! What differs on purpose stands in `docs/lockstep.md`; what is not compared is read from that page and from nowhere else.
//! Needs Debian's qemu-system-mips and qemu-system-ppc; without them a test says that it was skipped, and with
//! `FLATVIEW_REQUIRE_QEMU=1` (as in CI) it fails instead.
//!
//! A failure prints the seed, the program and the last steps. `FLATVIEW_SEED` and `FLATVIEW_PROGRAM` repeat one program,
//! `FLATVIEW_LOCKSTEP` sets the number of random instructions (and has the ISA tests stepped to their end),
//! `FLATVIEW_ORDER=big` or `little` leaves the other one out; with `FLATVIEW_IN_PROCESS=1` ours is a CPU within the test, which
//! is faster.
//!
//! Where things are: `guest` is what an instruction set brings, `mips` and `ppc` are those; `rsp` and `target` drive a machine,
//! `lockstep` two, `random` and `isa_tests` are what is run, `masks` is the page's table.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

mod guest;
mod isa_tests;
mod lockstep;
mod masks;
mod mips;
mod ppc;
mod random;
mod report;
mod rng;
mod rsp;
mod state;
mod target;

use std::process::Command;

use flatview::Endianness;

use guest::Guest;
use lockstep::Lockstep;
use target::{ByGdb, InProcess, Target};

fn env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let digits = text.trim_start_matches("0x");
    let number = if digits.len() < text.len() { u64::from_str_radix(digits, 16) } else { text.parse() };
    Some(number.unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

/// The byte orders that are asked for and that there is a QEMU for; in CI all there are.
fn orders<G: Guest>() -> Vec<Endianness> {
    let wanted = std::env::var("FLATVIEW_ORDER").unwrap_or_default();
    let is_wanted = |order: &Endianness| match wanted.as_str() {
        "big" => *order == Endianness::Big,
        "little" => *order == Endianness::Little,
        _ => true,
    };
    let is_here = |order: &Endianness| {
        let (program, package) = G::qemu_program(*order);
        let here = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
        assert!(
            here || std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(),
            "{program} is missing: apt-get install {package} qemu-system-data seabios ipxe-qemu"
        );
        if !here {
            eprintln!("SKIPPED: {program} is not installed");
        }
        here
    };
    G::ORDERS.iter().copied().filter(is_wanted).filter(is_here).collect()
}

/// QEMU and ours, both by gdb's protocol.
fn both<G: Guest>(order: Endianness) -> Lockstep<G> {
    let ours: Box<dyn Target> = match std::env::var_os("FLATVIEW_IN_PROCESS") {
        None => Box::new(ByGdb::<G>::ours(order)),
        Some(_) => Box::new(InProcess::<G>::new(order)),
    };
    Lockstep::new(Box::new(ByGdb::<G>::qemu(order)), ours, order)
}
