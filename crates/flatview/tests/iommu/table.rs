//! An IOMMU with a table that a test fills, and notes of what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use flatview::*;

pub fn block(size: u64) -> Arc<RamBlock> {
    RamBlock::anonymous("block", size).unwrap()
}

pub fn map(memory: &Memory, container: RegionId, at: u64, region: Region) -> RegionId {
    let id = memory.add(region).unwrap();
    memory.map(container, at, id).unwrap();
    id
}

type Index = dyn Fn(MemTxAttrs) -> u32 + Send + Sync;

/// A table with pages of one size.
pub struct Table {
    page: u64,
    target: WeakSpace,
    entries: Mutex<HashMap<(u32, u64), IommuEntry>>,
    asked: Mutex<Vec<(u64, IommuAccess, u32)>>,
    indexes: u32,
    index: Box<Index>,
    /// Called in the middle of a translation.
    pub during: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Table {
    pub fn new(target: &AddressSpace, page: u64) -> Arc<Self> {
        Self::with_indexes(target, page, 1, |_| panic!("there is one table only"))
    }

    pub fn with_indexes(
        target: &AddressSpace,
        page: u64,
        indexes: u32,
        index: impl Fn(MemTxAttrs) -> u32 + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            page,
            target: target.downgrade(),
            entries: Mutex::default(),
            asked: Mutex::default(),
            indexes,
            index: Box::new(index),
            during: OnceLock::new(),
        })
    }

    pub fn map(&self, iova: u64, address: u64, perm: IommuPerm) {
        self.map_index(0, iova, address, perm);
    }

    pub fn map_index(&self, index: u32, iova: u64, address: u64, perm: IommuPerm) {
        let entry = IommuEntry::new(&self.target, address, self.page - 1, perm);
        self.entries.lock().unwrap().insert((index, iova / self.page), entry);
    }

    pub fn unmap(&self, iova: u64) {
        self.entries.lock().unwrap().remove(&(0, iova / self.page));
    }

    /// What it was asked since the last time.
    pub fn take_asked(&self) -> Vec<(u64, IommuAccess, u32)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Maps a page to another space than the table's own.
pub fn put(table: &Table, iova: u64, address: u64, space: &AddressSpace, perm: IommuPerm) {
    let entry = IommuEntry::new(&space.downgrade(), address, table.page - 1, perm);
    table.entries.lock().unwrap().insert((0, iova / table.page), entry);
}

impl IommuOps for Table {
    fn translate(&self, request: &IommuRequest<'_>) -> IommuEntry {
        self.asked.lock().unwrap().push((request.offset(), request.access(), request.index()));
        let key = (request.index(), request.offset() / self.page);
        let entry = self.entries.lock().unwrap().get(&key).cloned();
        if let Some(during) = self.during.get() {
            during();
        }
        entry.unwrap_or_else(|| IommuEntry::denied(self.page - 1))
    }

    fn indexes(&self) -> u32 {
        self.indexes
    }

    fn index(&self, attrs: MemTxAttrs) -> u32 {
        (self.index)(attrs)
    }

    fn min_page_size(&self) -> u64 {
        self.page
    }
}
