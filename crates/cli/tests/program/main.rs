//! The built `flatview`, driven from outside.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

mod driver;
mod front_ends;
mod gdb;
mod guests;
mod memory_backends;
mod memory_dump;
mod mtree_command;
mod openbios;
mod qemu_texts;
mod terminal;
mod tracing;
