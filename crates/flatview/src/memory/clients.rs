//! The dirty clients of a memory.

use std::sync::Arc;

use super::transaction::checked_name;
use crate::ram::MOST_CLIENTS;
use crate::{DirtyClient, MemoryError};

/// Who has which bit of a page's byte.
pub(super) struct Clients {
    /// Their names, from the first after QEMU's on.
    allocated: [Option<(DirtyClient, Arc<str>)>; MOST_CLIENTS as usize - DirtyClient::OF_QEMU as usize],
    generation: u32,
    memory: u32,
    /// By which RAM blocks know the memory.
    pub claim: Arc<()>,
}

impl Clients {
    pub fn new(memory: u32) -> Self {
        Self { allocated: Default::default(), generation: 0, memory, claim: Arc::new(()) }
    }

    pub fn allocate(&mut self, name: &str) -> Result<DirtyClient, MemoryError> {
        let name = checked_name(name.into())?;
        let numbers = DirtyClient::OF_QEMU..;
        let free = numbers.zip(&mut self.allocated).find(|(_, slot)| slot.is_none());
        let Some((index, slot)) = free else {
            let names: Vec<&str> = self.allocated.iter().flatten().map(|(_, name)| &**name).collect();
            return Err(MemoryError::NoDirtyClient { taken: names.join(", ").into() });
        };
        // Never given twice: blocks tell by it a client from the one that had its number before.
        self.generation = self.generation.wrapping_add(1);
        let client = DirtyClient { index, generation: self.generation, memory: Some(self.memory) };
        *slot = Some((client, name));
        Ok(client)
    }

    pub fn free(&mut self, client: DirtyClient) {
        for slot in &mut self.allocated {
            slot.take_if(|(taken, _)| *taken == client);
        }
    }

    /// Those that there are.
    pub fn all(&self) -> impl Iterator<Item = DirtyClient> {
        let of_qemu = [DirtyClient::VGA, DirtyClient::CODE, DirtyClient::MIGRATION];
        of_qemu.into_iter().chain(self.allocated.iter().flatten().map(|(client, _)| *client))
    }

    /// Whether a client was allocated here and is not freed.
    pub fn is_allocated(&self, client: DirtyClient) -> bool {
        self.allocated.iter().flatten().any(|(taken, _)| *taken == client)
    }

    /// Refuses clients that do not exist.
    pub fn check(&self, client: DirtyClient) -> Result<(), MemoryError> {
        let exists = client.memory.is_none() || self.is_allocated(client);
        exists.then_some(()).ok_or(MemoryError::StaleClient { client })
    }

    /// The name that an allocated client was given.
    pub fn name(&self, client: DirtyClient) -> Option<Arc<str>> {
        self.allocated.iter().flatten().find(|(taken, _)| *taken == client).map(|(_, name)| Arc::clone(name))
    }
}
