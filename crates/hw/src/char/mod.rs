//! Serial ports.

pub mod serial16550;
