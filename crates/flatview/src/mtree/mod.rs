//! `info mtree`, written and read.
//!
//! * [`Document`] is the text as data: [`Document::parse`] reads it, `Display` prints it back to the byte.
//! * [`write()`] makes the text of a live [`Memory`](crate::Memory), as QEMU 7.2 prints it.
//! * [`import`] makes a [`Memory`](crate::Memory) of the text of any QEMU.
//! * [`Answers`] are what the text leaves open, learned from `info mtree -f` of the same machine.
//! * [`read_tree`], [`read_answers`] and [`answer_at`] are what a command line asks.
//!
//! This module knows the text of QEMU's monitor and the public face of [`Memory`](crate::Memory); it renders nothing
//! itself: flat views are always those of the library. Names are never taken as unique, neither of regions nor
//! of address spaces.
//!
//! ```
//! use flatview::mtree::{Document, Options, import, write};
//!
//! let text = "address-space: memory
//!   0000000000000000-ffffffffffffffff (prio 0, i/o): system
//!     0000000000000000-0000000000000fff (prio 0, ram): low
//!     0000000000000800-0000000000000803 (prio 1, i/o): uart
//!
//! ";
//! let tree = Document::parse("board.txt", text.as_bytes())?;
//! let imported = import(&tree, None)?;
//! let flat = write(&imported.memory, Options { flat: true, ..Options::default() })?;
//! assert!(flat.to_string().contains("0000000000000804-0000000000000fff (prio 0, ram): low @0000000000000804"));
//! assert_eq!(write(&imported.memory, Options::default())?.to_string(), text);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod ask;
mod error;
mod identity;
mod import;
mod parse;
mod text;
mod ties;
mod write;

pub use answers::{Answers, Place, SpaceAnswers, SpaceKey, Tie};
pub use ask::{AnswerAt, At, answer_at, read_answers, read_tree};
pub use error::{MtreeError, ParseError, ParseReason};
pub use import::{Imported, import};
pub use parse::read_document;
pub use text::{
    AliasText, Block, Body, Document, Head, LineEnd, OwnerText, RangeLine, TreeLine, TypeText, ViewSpace,
    ViewText,
};
pub use write::{HasMemory, Options, write, write_accelerated};
