//! Which regions are logged for which dirty clients.
//!
//! What it is: counts, as several may ask for the same log; the mask in a region's attributes follows from them. What
//! it is not: the log; that is in the RAM blocks.
//!
//! What must hold: a region's mask has a client's bit exactly if its count is above 0, and a region that does not
//! exist has no counts.

use std::collections::HashMap;

use super::tree::Undo;
use super::{Attrs, Record, Topology};
use crate::span::Span;
use crate::{DirtyClient, GlobalLog};

/// The counts, and what is logged everywhere. Few regions have any.
#[derive(Default)]
pub(super) struct Logs {
    /// By region and number of the client; above 0.
    counts: HashMap<(u32, u8), u32>,
    /// For all RAM, by number of the client.
    everywhere: [u32; 8],
    global: GlobalLog,
    /// Whether something is logged that was not at the last commit.
    raised: bool,
    /// Whether something is logged no more since then.
    lowered: bool,
}

impl Logs {
    /// The clients for which all RAM is logged.
    fn everywhere(&self) -> u8 {
        let global = self.globally();
        (0..).zip(&self.everywhere).filter(|(_, n)| **n > 0).fold(global, |mask, (i, _)| mask | 1 << i)
    }

    /// The client of the global log, while it runs.
    fn globally(&self) -> u8 {
        if self.global.is_empty() { 0 } else { DirtyClient::MIGRATION.mask() }
    }
}

impl Topology {
    /// The clients for which writes to a region are logged (QEMU: `memory_region_get_dirty_log_mask`).
    pub fn log_mask(&self, record: &Record) -> u8 {
        match record.body.block() {
            Some(_) => record.attrs.log | self.logs.everywhere(),
            // QEMU: so that a listener that passes a device through follows what that writes behind the IOMMU.
            None if record.body.iommu().is_some() => self.logs.globally(),
            None => 0,
        }
    }

    /// The clients for which all RAM is logged.
    pub fn logged_everywhere(&self) -> u8 {
        self.logs.everywhere()
    }

    /// On whose behalf the global log runs.
    pub fn global_log(&self) -> GlobalLog {
        self.logs.global
    }

    /// How often a region's log was asked for by a client.
    pub fn log_count(&self, index: u32, client: u8) -> u32 {
        self.logs.counts.get(&(index, client)).copied().unwrap_or(0)
    }

    /// How often the log of all RAM was asked for by a client.
    pub fn everywhere_count(&self, client: u8) -> u32 {
        self.logs.everywhere.get(usize::from(client)).copied().unwrap_or(0)
    }

    pub fn set_log_count(&mut self, index: u32, client: u8, count: u32) {
        let old = self.log_count(index, client);
        if old == count {
            return;
        }
        self.undo.push(Undo::Log { index, client, old });
        self.put_log_count(index, client, count);
        if (old == 0) != (count == 0)
            && let Some(record) = self.get(index)
        {
            let attrs = record.attrs;
            self.logs.raised |= count > 0;
            self.logs.lowered |= count == 0;
            self.set(index, Attrs { log: attrs.log ^ (1 << client), ..attrs });
        }
    }

    pub(super) fn put_log_count(&mut self, index: u32, client: u8, count: u32) {
        if count == 0 {
            self.logs.counts.remove(&(index, client));
        } else {
            self.logs.counts.insert((index, client), count);
        }
    }

    /// A region is about to be removed: nobody logs it any more.
    pub(super) fn forget_logs(&mut self, index: u32) {
        let mask = self.get(index).map_or(0, |r| r.attrs.log);
        self.logs.lowered |= mask != 0;
        for client in (0..8).filter(|i| mask & (1 << i) != 0) {
            let old = self.log_count(index, client);
            self.undo.push(Undo::Log { index, client, old });
            self.put_log_count(index, client, 0);
        }
    }

    /// Nobody logs for a client any more.
    pub fn forget_client(&mut self, client: u8) {
        let of_client = |key: &&(u32, u8)| key.1 == client;
        let logged: Vec<u32> = self.logs.counts.keys().filter(of_client).map(|(index, _)| *index).collect();
        for index in logged {
            self.set_log_count(index, client, 0);
        }
        self.set_everywhere_count(client, 0);
    }

    pub fn set_everywhere_count(&mut self, client: u8, count: u32) {
        let mut everywhere = self.logs.everywhere;
        if let Some(n) = everywhere.get_mut(usize::from(client)) {
            *n = count;
        }
        self.set_everywhere(everywhere, self.logs.global);
    }

    pub fn set_global_log(&mut self, global: GlobalLog) {
        self.set_everywhere(self.logs.everywhere, global);
    }

    fn set_everywhere(&mut self, counts: [u32; 8], global: GlobalLog) {
        let before = self.logs.everywhere();
        self.undo.push(Undo::LogEverywhere { counts: self.logs.everywhere, global: self.logs.global });
        self.put_everywhere(counts, global);
        let now = self.logs.everywhere();
        if before != now {
            self.logs.raised |= now & !before != 0;
            self.logs.lowered |= before & !now != 0;
            let logged = |record: &Record| record.body.block().is_some() || record.body.iommu().is_some();
            let logged = self.records().filter(|(_, record)| logged(record));
            let all = logged.filter_map(|(i, record)| Some((i, Span::sized(0, record.attrs.size())?)));
            let all: Vec<_> = all.collect();
            self.touched.extend(all);
        }
    }

    pub(super) fn put_everywhere(&mut self, counts: [u32; 8], global: GlobalLog) {
        self.logs.everywhere = counts;
        self.logs.global = global;
    }

    /// Whether something is logged that was not at the last commit; forgets it.
    pub fn take_log_raised(&mut self) -> bool {
        std::mem::take(&mut self.logs.raised)
    }

    /// The same of what is logged no more.
    pub fn take_log_lowered(&mut self) -> bool {
        std::mem::take(&mut self.logs.lowered)
    }
}
