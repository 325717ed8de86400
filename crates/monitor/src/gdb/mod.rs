//! gdb's remote protocol: a debugger looks at a machine's CPUs and memory, stops it and lets it go on.
//!
//! What it is: [`GdbSession`] speaks with one debugger, by the crate `gdbstub`, which knows the packets that debuggers
//! send; [`GdbServer`] is a machine's one server, which `-gdb` and the monitor's `gdbserver` start. What it is not: what a
//! debugger may do to a machine, which is [`flatview_board::debug`]. What must always hold: whatever a client sends, in
//! whatever pieces, it gets an answer or is ignored; it never ends the program but by asking for it (`k`).
//!
//! Where things are: `frame` packets and checksums, `packets` those that are ours and QEMU's rather than the crate's,
//! `target` the machine as the crate wants it, `description` the registers as a debugger reads them.

mod description;
mod frame;
mod packets;
mod server;
mod session;
mod target;

pub use server::{DEFAULT, GdbError, GdbServer, spec};
pub use session::{GdbSession, KillNotice};
