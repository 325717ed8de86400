//! IOMMU regions: accesses through them, remembered translations, notifiers; and random tables against a model of bytes.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod access;
mod cache;
mod held;
mod notify;
mod random;
#[path = "../support/seeds.rs"]
mod seeds;
mod table;
