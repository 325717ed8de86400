//! On which of the host's NUMA nodes a block's pages live.

use std::fmt;

use rustix::io::Errno;

use super::error::RamError;
use super::mapping::Mapping;

/// The host's memory policies (QEMU: `HostMemPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostPolicy {
    /// Where the thread that touches a page first runs.
    #[default]
    Default,
    /// On these nodes, elsewhere if they are full.
    Preferred,
    /// On these nodes only.
    Bind,
    /// Page by page in turn on these nodes.
    Interleave,
}

impl HostPolicy {
    /// QEMU's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Preferred => "preferred",
            Self::Bind => "bind",
            Self::Interleave => "interleave",
        }
    }

    /// All there are.
    pub const ALL: [Self; 4] = [Self::Default, Self::Preferred, Self::Bind, Self::Interleave];

    /// The kernel's number (`MPOL_…`).
    const fn mode(self) -> i32 {
        match self {
            Self::Default => 0,
            Self::Preferred => 1,
            Self::Bind => 2,
            Self::Interleave => 3,
        }
    }
}

impl fmt::Display for HostPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The largest node number there can be, as in QEMU.
const MAX_NODE: u32 = 127;

/// A policy and the nodes it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    pub policy: HostPolicy,
    pub nodes: Vec<u32>,
}

impl Nodes {
    /// Whether policy and nodes go together.
    pub fn check(&self, name: &str) -> Result<(), RamError> {
        if let Some(node) = self.nodes.iter().find(|n| **n > MAX_NODE) {
            return Err(RamError::BadNode { name: name.to_owned(), node: *node, max: MAX_NODE });
        }
        match (self.policy, self.nodes.is_empty()) {
            (HostPolicy::Default, false) => Err(RamError::NodesUnused { name: name.to_owned() }),
            (HostPolicy::Default, true) | (_, false) => Ok(()),
            (policy, true) => Err(RamError::NodesMissing { name: name.to_owned(), policy: policy.as_str() }),
        }
    }

    /// Tells the kernel, before any page is touched.
    pub fn apply(&self, name: &str, mapping: &Mapping) -> Result<(), RamError> {
        if self.policy == HostPolicy::Default {
            return Ok(());
        }
        let mut mask = [0_u64; MAX_NODE.div_ceil(64) as usize];
        for node in &self.nodes {
            if let Some(word) = mask.get_mut((node / 64) as usize) {
                *word |= 1 << (node % 64);
            }
        }
        mapping.bind(self.policy.mode(), &mask).map_err(|e: Errno| RamError::Policy {
            name: name.to_owned(),
            policy: self.policy.as_str(),
            nodes: self.nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
            source: e.into(),
        })
    }
}
