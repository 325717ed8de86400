//! Memory that is held for a while: mappings, region caches, copies between places of the guest, atomic accesses.

use flatview::{Direction, Le, Reader, RegionCache};

use super::ram::raw_same;
use crate::error::BenchError;
use crate::limits::{OURS, RAW};
use crate::maps::Ram;
use crate::measure::{Contender, Plan};
use crate::run::Run;

/// Bytes of a mapping, and of a copy.
const LEN: u64 = 4096;

#[inline(never)]
fn map_and_unmap(reader: &Reader, ops: u64) -> u64 {
    let once = |i: u64| {
        let mapped = reader.map((i & 7) * LEN, LEN, Direction::Write);
        mapped.is_ok_and(|mapped| mapped.len() == LEN && mapped.unmap(LEN).is_ok())
    };
    (0..ops).filter(|i| once(*i)).count() as u64
}

/// From the same eight places as the raw pointer.
#[inline(never)]
fn cache_load(cache: &RegionCache, ops: u64) -> u64 {
    (0..ops).fold(0, |sum: u64, i| sum.wrapping_add(cache.load::<Le, u64>((i & 7) * 8).unwrap_or(0)))
}

#[inline(never)]
fn cache_store(cache: &RegionCache, ops: u64) -> u64 {
    (0..ops).filter(|i| cache.store::<Le, u64>((i & 7) * 8, *i).is_ok()).count() as u64
}

#[inline(never)]
fn exchange(reader: &Reader, ops: u64) -> u64 {
    (0..ops).filter(|i| reader.compare_exchange::<Le, u64>((i & 7) * 8, 0, 0).is_ok()).count() as u64
}

#[inline(never)]
fn copy(reader: &Reader, ops: u64) -> u64 {
    (0..ops).filter(|i| reader.copy_to((i & 7) * LEN, reader, 16 * LEN, LEN).is_ok()).count() as u64
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let ram = Ram::new(1)?;
    let (raw, reader) = (&ram.raw, &ram.reader());
    if run.wants("map and unmap/4096") {
        let guard = Contender::apart("flatview host_ptr", |ops, _| {
            let guarded = |i: u64| reader.host_ptr((i & 7) * LEN, LEN).is_some_and(|p| p.len() == LEN);
            (0..ops).filter(|i| guarded(*i)).count() as u64
        });
        let ours = Contender::apart(OURS, |ops, _| map_and_unmap(reader, ops));
        run.race("map and unmap/4096", vec![raw_same(raw), ours, guard], &[(OURS, RAW)], Plan::QUICK)?;
    }
    let cached = ram.space().cache(0, LEN, Direction::Write);
    let Ok(cache) = &cached else {
        return Err(BenchError::Access(flatview::MemTxError::decode()));
    };
    if run.wants("region cache/load") {
        // The contender's own sum: the raw pointer loads the same bytes.
        let contenders = vec![
            Contender::new(RAW, |ops, _| raw.load_same(ops)),
            Contender::new(OURS, |ops, _| cache_load(cache, ops)),
        ];
        run.race("region cache/load", contenders, &[(OURS, RAW)], Plan::QUICK)?;
    }
    if run.wants("region cache/store") {
        let ours = Contender::apart(OURS, |ops, _| cache_store(cache, ops));
        run.race("region cache/store", vec![raw_same(raw), ours], &[(OURS, RAW)], Plan::QUICK)?;
    }
    if run.wants("atomic/compare_exchange") {
        let ours = Contender::apart(OURS, |ops, _| exchange(reader, ops));
        run.race("atomic/compare_exchange", vec![raw_same(raw), ours], &[(OURS, RAW)], Plan::QUICK)?;
    }
    if run.wants("copy in the guest/4096") {
        let ours = Contender::apart(OURS, |ops, _| copy(reader, ops));
        run.race("copy in the guest/4096", vec![raw_same(raw), ours], &[(OURS, RAW)], Plan::QUICK)?;
    }
    Ok(())
}
