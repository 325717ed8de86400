//! A machine for this crate's tests.

use flatview_board::{Machine, MachineConfig};
use std::sync::Arc;

/// The `mips` board, stopped, with a clock that qtest steps.
pub fn mips() -> Arc<Machine> {
    let config = MachineConfig {
        board: "mips".to_owned(),
        nodefaults: true,
        start_stopped: true,
        qtest: true,
        ..MachineConfig::default()
    };
    Machine::new(config).unwrap()
}

/// The same with a program of `guests/` and its CPU, which has not begun.
pub fn mips_with_a_program() -> Arc<Machine> {
    with_a_program("mips", "mips/hello.elf")
}

/// A board with a program of `guests/` and its CPU, which has not begun.
pub fn with_a_program(board: &str, image: &str) -> Arc<Machine> {
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests/images/");
    let config = MachineConfig {
        board: board.to_owned(),
        kernel: Some(format!("{images}{image}").into()),
        start_stopped: true,
        ..MachineConfig::default()
    };
    Machine::new(config).unwrap()
}
