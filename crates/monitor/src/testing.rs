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
