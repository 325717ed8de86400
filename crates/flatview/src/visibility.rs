//! Who answers at one address, by the documented rule and nothing else.
//!
//! What it is: QEMU's "Visibility" rule (docs/devel/memory.rst) taken literally, one address at a time, over the
//! public description of the regions. What it is not: the renderer, with which it shares no code; tests hold the two
//! against each other, and `flatview mtree --at` explains with it.

use std::sync::Arc;

use crate::{Memory, MemoryError, RegionId};

/// Who answers at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The region.
    pub region: RegionId,
    /// The offset in it.
    pub offset: u64,
    /// Whether it, or something it is seen through, is read-only.
    pub readonly: bool,
    /// Whether it, or something it is seen through, is non-volatile.
    pub nonvolatile: bool,
}

/// How deep the search goes before it gives up with [`MemoryError::TooDeep`].
const DEPTH: u32 = 1024;

struct Search<'a> {
    memory: &'a Memory,
    root: RegionId,
    addr: u64,
}

/// Who answers at `addr` of a space with root `root`; `None` if nobody does.
///
/// As in QEMU, a root that also stands in a container is seen at its own address there.
///
/// # Errors
/// [`MemoryError`] if the root is stale, or the search nests deeper than 1,024 levels.
pub fn who_answers(memory: &Memory, root: RegionId, addr: u64) -> Result<Option<Answer>, MemoryError> {
    let stands_at = memory.region(root)?.addr;
    Search { memory, root, addr }.inside(root, i128::from(addr) - i128::from(stands_at), 0)
}

impl Search<'_> {
    /// Who answers at `offset` of a region, were it alone.
    fn inside(&self, id: RegionId, offset: i128, depth: u32) -> Result<Option<Answer>, MemoryError> {
        let region = self.memory.region(id)?;
        if depth >= DEPTH {
            let root = self.memory.region(self.root)?.name;
            return Err(MemoryError::TooDeep {
                root,
                name: Arc::clone(&region.name),
                address: self.addr,
                limit: DEPTH,
            });
        }
        let size = i128::try_from(region.size).unwrap_or(i128::MAX);
        if !region.enabled || offset < 0 || offset >= size {
            return Ok(None);
        }
        let mut found = None;
        if let Some((target, from)) = region.alias {
            found = self.inside(target, offset + i128::from(from), depth + 1)?;
        } else {
            // Winners first: a region that has nothing to say at this address lets the next one speak.
            for child in self.memory.children(id)? {
                let at = offset - i128::from(self.memory.region(child)?.addr);
                found = self.inside(child, at, depth + 1)?;
                if found.is_some() {
                    break;
                }
            }
            if found.is_none() && region.terminates {
                let offset = u64::try_from(offset).unwrap_or(0);
                found = Some(Answer { region: id, offset, readonly: false, nonvolatile: false });
            }
        }
        Ok(found.map(|answer| Answer {
            readonly: answer.readonly | region.readonly,
            nonvolatile: answer.nonvolatile | region.nonvolatile,
            ..answer
        }))
    }
}
