//! Accesses: from an address to the memory or the callback that answers.
//!
//! What it is: [`Reader`]s and [`Port`]s with their four entry points (bus, exact, debug, CPU), the dispatch rules,
//! and the [`Access`] that a callback gets. What it is not: aware of how views are made.
//!
//! The four entry points, and how the same request differs on them:
//!
//! | entry point | functions | large or unaligned requests | ROM write |
//! |---|---|---|---|
//! | bus | [`read`](Reader::read), [`write`](Reader::write) | cut into pieces the device takes | decode error |
//! | exact | [`load`](Reader::load), [`store`](Reader::store) | refused if the device refuses them | decode error |
//! | CPU | [`cpu_load`](Reader::cpu_load), [`cpu_store`](Reader::cpu_store) | misaligned MMIO as QEMU 7.2's TCG cuts it | dropped |
//! | debug | [`peek`](Reader::peek), [`poke`](Reader::poke) | no callbacks with side effects | written |
//!
//! Accesses that meet an IOMMU go on in another space ([`translate`]).
//!
//! What must hold: no lock is held and no reference count changes while a device callback runs or a view that is
//! current is used; the view an access runs in stays until the access ends.

mod attrs;
mod before;
mod call;
mod direct;
mod dispatch;
mod port;
mod quick;
mod reader;
mod registers;
mod table;
mod trace;
mod translate;

pub use attrs::MemTxAttrs;
pub use call::Access;
pub use direct::DirectOps;
pub use port::Port;
pub use reader::Reader;
pub use trace::AccessTrace;

pub(crate) use before::flush;
pub(crate) use port::{from_memory, wrote};
pub(crate) use reader::PinnedView;
pub(crate) use translate::{Purpose, Wanted};
