//! Dirty tracking: stores to memory that is logged, and taking what was written.

use std::sync::Arc;
use std::time::Instant;

use flatview::{DIRTY_PAGE_SIZE, DirtyClient, Endianness, Memory, RamBlock, Region};

use super::ram::{load_same, raw_same, store_same};
use crate::calm::is_mostly_calm;
use crate::error::BenchError;
use crate::limits::{OURS, Unit};
use crate::maps::{Ram, Readers};
use crate::measure::{Contender, Dice, Plan, quantile};
use crate::run::Run;

/// The clients that log in a figure.
const CLIENTS: [(&str, &[DirtyClient]); 2] = [
    ("dirty/store, one client", &[DirtyClient::MIGRATION]),
    ("dirty/store, three clients", &[DirtyClient::VGA, DirtyClient::CODE, DirtyClient::MIGRATION]),
];

/// What a guest of this size has written when 1 % of its pages are dirty.
const SYNC: u64 = 1 << 30;

/// Stores where the bits are set, and where the client clears them all the time.
fn stores(run: &mut Run) -> Result<(), BenchError> {
    let plain = &Ram::new(1)?;
    let unlogged = &Readers::new(|| plain.reader());
    for (figure, clients) in CLIENTS {
        if !run.wants(figure) {
            continue;
        }
        let logged = Ram::new(1)?;
        for client in clients {
            logged.memory.update(|t| t.set_log_all(*client, true))?;
        }
        let readers = &Readers::new(|| logged.reader());
        let contenders = vec![
            raw_same(&plain.raw),
            // At first all pages are dirty for a client, and here nobody clears them.
            Contender::new(OURS, |ops, _| store_same(readers.next(), ops)),
            Contender::new("flatview, no log", |ops, _| store_same(unlogged.next(), ops)),
            Contender::apart("flatview load", |ops, _| load_same(unlogged.next(), ops)),
        ];
        run.race(figure, contenders, &[], Plan::QUICK)?;
    }
    Ok(())
}

/// Dirties random pages, so many of a hundred; or all of them. Without touching them: a GiB of the host's memory would be
/// needed.
fn dirty(block: &RamBlock, percent: u64, seed: u64) -> Result<(), BenchError> {
    if percent == 100 {
        return Ok(block.mark_dirty(0, SYNC)?);
    }
    let mut dice = Dice::new(seed);
    let pages = SYNC / DIRTY_PAGE_SIZE;
    for _ in 0..pages * percent / 100 {
        block.mark_dirty(dice.below(pages) * DIRTY_PAGE_SIZE, 1)?;
    }
    Ok(())
}

/// A snapshot of 1 GiB, after so much of it was written anew each time; in nanoseconds.
fn sync(percent: u64) -> Result<f64, BenchError> {
    const CLIENT: DirtyClient = DirtyClient::MIGRATION;
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("ram", SYNC)?;
    let ram = memory.add(Region::ram("ram", Arc::clone(&block)))?;
    memory.map(memory.system(), 0, ram)?;
    memory.set_log(ram, CLIENT, true)?;
    memory.reset_dirty(ram, 0, SYNC, CLIENT)?;
    let mut ns = Vec::new();
    for seed in 0..41 {
        dirty(&block, percent, seed)?;
        let start = Instant::now();
        let snapshot = memory.snapshot_and_clear_dirty(ram, 0, SYNC, CLIENT)?;
        ns.push(start.elapsed().as_nanos() as f64);
        std::hint::black_box(snapshot.count());
    }
    Ok(quantile(&ns, 0.5))
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    if run.wants_any(&CLIENTS.map(|(figure, _)| figure.to_owned())) {
        stores(run)?;
    }
    for percent in [0, 1, 100] {
        let figure = format!("dirty/sync of 1 GiB, {percent} % dirty");
        if run.wants(&figure) {
            let ns = sync(percent)?;
            run.value(&figure, ns, Unit::Ns, None, is_mostly_calm());
        }
    }
    Ok(())
}
