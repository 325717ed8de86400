//! Side-by-side measurements of Flatview and its peers.
//!
//! What it is: figures, each measured by letting Flatview and what it is compared with run in short batches in
//! turn, so that what else the machine does hits all of them alike; ratios are what counts. What it is not: a
//! profile of one path (see `benches/access.rs` and `benches/commit.rs`), or a proof that nothing slipped by 5 % (see
//! `benches/instructions.rs`, which counts instructions).
//!
//! What must hold: every loop's results are added up and compared between the contenders, so that nothing measured
//! was optimised away or reached the wrong place.
//!
//! Where things are:
//! - [`measure`]: batches, rounds, medians; [`calm`]: whether the machine leaves us alone; [`gauge`]: the heap, counted;
//! - [`figures`]: what is measured; [`peers`]: whom it is compared with; [`maps`]: the memory maps for it;
//! - [`instructions`]: the table of instruction counts; [`limits`]: where Flatview must stand; [`report`]: what came out.

pub mod calm;
pub mod error;
pub mod figures;
pub mod gauge;
pub mod instructions;
pub mod limits;
pub mod maps;
pub mod measure;
pub mod peers;
pub mod report;
pub mod run;
