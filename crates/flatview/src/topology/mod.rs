//! The tree of regions, as the writer sees it.
//!
//! What it is: an arena of regions with everything needed to find, for a change, the places it touches: an index
//! of each container's children by address, and of each region's aliases. What it is not: locked, published or
//! rendered; [`commit`](crate::commit) does that.
//!
//! What must hold:
//! - **T1** the indexes say exactly what the attributes say. There is one way to change an attribute,
//!   [`Topology::set`], and it keeps the indexes, the undo log and the list of touched places.
//! - **T2** undoing the log restores the tree bit by bit.
//! - **T3** containers form a forest, and aliases of aliases end: cycles are refused when they are made.

mod arena;
mod attrs;
mod children;
mod live;
mod logging;
mod record;
mod region;
mod sorted;
mod trace;
mod tree;

pub use region::{IntoOps, Owner, Region, RegionInfo, RegionType};

pub(crate) use arena::{Arena, NONE};
pub(crate) use attrs::{Attrs, Flag};
pub(crate) use children::Children;
pub(crate) use record::Record;
pub(crate) use region::{Body, Kind, NO_RULES};
pub(crate) use tree::{Changes, Found, Savepoint, Topology};
