//! The languages in which people and programs talk to a [`Machine`](flatview_board::Machine): the human monitor, QMP, qtest and
//! gdb's remote protocol.
//!
//! Each is a [`Session`] that [`serve`] runs over a character back end; the human monitor can also be driven line by line
//! ([`hmp::Hmp`]), by whoever owns a terminal. This crate knows neither terminals nor command lines.

pub mod gdb;
pub mod hmp;
pub mod qmp;
pub mod qtest;

mod events;
mod guest;
mod pagemap;
mod session;
#[cfg(test)]
mod testing;
mod text;
mod tracing;

pub use flatview_board::error::os_error;
pub use session::{Served, Session, Waker, serve};

/// Flatview's version, which greetings, `info version` and `query-version` give.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
