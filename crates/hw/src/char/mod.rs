//! Serial and parallel ports.

pub mod parallel;
pub mod serial16550;
