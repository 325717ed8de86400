//! What is measured, one subject to a module.

mod commits;
mod copies;
mod devices;
mod dirty;
mod footprint;
mod guests;
mod iommu;
mod latency;
mod mapping;
mod protection;
mod ram;
mod threads;

pub use footprint::grown_after;

use crate::error::BenchError;
use crate::run::Run;

/// Measures everything that is wanted.
///
/// # Errors
/// [`BenchError`]: a map could not be built, or contenders gave different results.
pub fn all(run: &mut Run) -> Result<(), BenchError> {
    ram::all(run)?;
    devices::all(run)?;
    threads::all(run)?;
    copies::all(run)?;
    mapping::all(run)?;
    dirty::all(run)?;
    commits::all(run)?;
    protection::all(run)?;
    latency::all(run)?;
    footprint::all(run)?;
    iommu::all(run)?;
    guests::all(run)
}
