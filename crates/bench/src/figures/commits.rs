//! Changes of the map.

use std::time::Instant;

use flatview::{AddressSpace, Memory, MemoryError, Region, RegionId, WHOLE};

use super::ram::raw_same;
use crate::calm::is_mostly_calm;
use crate::error::BenchError;
use crate::limits::{OURS, Unit};
use crate::maps::{Ram, Siblings};
use crate::measure::{Contender, Plan, quantile};
use crate::run::Run;

/// Containers with an alias of system memory, as PCI gives each device, and their spaces. Shared, they all show what
/// `system` shows; unshared, each has a region of its own besides.
fn bus_masters(memory: &Memory, count: u64, shared: bool) -> Result<Vec<AddressSpace>, BenchError> {
    let system = memory.system();
    let roots = memory.update(|t| {
        let mut roots = Vec::with_capacity(count as usize);
        for i in 0..count {
            let root = t.add(Region::container(format!("bus-master-{i}"), WHOLE))?;
            let alias = t.add(Region::alias(format!("bus-master-enable-{i}"), system, 0, WHOLE))?;
            t.map(root, 0, alias)?;
            if !shared {
                let own = t.add(Region::reservation(format!("doorbell-{i}"), 4096))?;
                t.map_overlap(root, 1 << 50, own, 1)?;
            }
            roots.push(root);
        }
        Ok::<_, MemoryError>(roots)
    })?;
    let space = |(i, root): (usize, RegionId)| memory.address_space(&format!("bus-master-{i}"), root);
    Ok(roots.into_iter().enumerate().map(space).collect::<Result<_, _>>()?)
}

/// The median of a few runs, each on a new map, in nanoseconds.
fn median_of<T>(
    runs: usize,
    mut make: impl FnMut() -> Result<T, BenchError>,
    mut timed: impl FnMut(&T) -> Result<(), BenchError>,
) -> Result<f64, BenchError> {
    let mut ns = Vec::with_capacity(runs);
    for _ in 0..runs {
        let made = make()?;
        let start = Instant::now();
        timed(&made)?;
        ns.push(start.elapsed().as_nanos() as f64);
    }
    Ok(quantile(&ns, 0.5))
}

pub(super) fn all(run: &mut Run) -> Result<(), BenchError> {
    let ram = Ram::new(1)?;
    let sizes = [(100, "of 100"), (1_000, "of 1000"), (10_000, "of 10000"), (100_000, OURS)];
    if run.wants("commit/one/100000") {
        let mut maps = Vec::new();
        for (count, name) in sizes {
            maps.push((name, Siblings::new(count)?));
        }
        let mut contenders = vec![raw_same(&ram.raw)];
        for (name, map) in &maps {
            contenders.push(Contender::new(name, |ops, seed| map.toggle(ops, seed)));
        }
        run.race("commit/one/100000", contenders, &[(OURS, "of 100")], Plan::LONG)?;
    }
    let shared = "commit/spaces/256 shared";
    let (unconcerned, concerned) =
        ("commit/spaces/32 unshared, unconcerned", "commit/spaces/32 unshared, concerned");
    if run.wants_any(&[shared, unconcerned, concerned].map(str::to_owned)) {
        let plain = &Siblings::new(1_000)?;
        let alone = || Contender::new("no other space", |ops, seed| plain.toggle(ops, seed));
        if run.wants(shared) {
            let map = &Siblings::new(1_000)?;
            let _spaces = bus_masters(&map.memory, 256, true)?;
            let ours = Contender::new(OURS, |ops, seed| map.toggle(ops, seed));
            run.race(
                shared,
                vec![raw_same(&ram.raw), alone(), ours],
                &[(OURS, "no other space")],
                Plan::LONG,
            )?;
        }
        if run.wants(unconcerned) {
            // The spaces see something else than what changes.
            let map = &Siblings::new(1_000)?;
            let other = map.memory.update(|t| {
                let other = t.add(Region::container("elsewhere", WHOLE))?;
                let child = t.add(Region::reservation("child", 4096))?;
                t.map(other, 4096, child)?;
                Ok::<_, MemoryError>(other)
            })?;
            let roots = map.memory.update(|t| {
                let mut roots = Vec::new();
                for i in 0..32 {
                    let root = t.add(Region::container(format!("root-{i}"), WHOLE))?;
                    let alias = t.add(Region::alias(format!("alias-{i}"), other, 0, WHOLE))?;
                    let own = t.add(Region::reservation(format!("own-{i}"), 4096))?;
                    t.map(root, 0, alias)?;
                    t.map_overlap(root, 1 << 50, own, 1)?;
                    roots.push(root);
                }
                Ok::<_, MemoryError>(roots)
            })?;
            for root in roots {
                map.memory.address_space("unconcerned", root)?;
            }
            let ours = Contender::new(OURS, |ops, seed| map.toggle(ops, seed));
            let contenders = vec![raw_same(&ram.raw), alone(), ours];
            run.race(unconcerned, contenders, &[(OURS, "no other space")], Plan::LONG)?;
        }
        if run.wants(concerned) {
            let map = &Siblings::new(1_000)?;
            let _spaces = bus_masters(&map.memory, 32, false)?;
            let ours = Contender::new(OURS, |ops, seed| map.toggle(ops, seed));
            let contenders = vec![raw_same(&ram.raw), alone(), ours];
            run.race(concerned, contenders, &[(OURS, "no other space")], Plan::LONG)?;
        }
    }
    if run.wants("add/100000 regions") {
        let fresh = || Ok(Memory::new(flatview::Endianness::Little));
        let ns = median_of(5, fresh, |memory| Siblings::add(memory, 100_000).map(drop))?;
        run.value("add/100000 regions", ns, Unit::Ns, None, is_mostly_calm());
    }
    if run.wants("add/256 spaces") {
        let fresh = || Siblings::new(1_000);
        let ns = median_of(21, fresh, |map| bus_masters(&map.memory, 256, true).map(drop))?;
        run.value("add/256 spaces", ns, Unit::Ns, None, is_mostly_calm());
    }
    for count in [100, 10_000] {
        let figure = format!("find/{count}");
        if run.wants(&figure) {
            let map = &Siblings::new(count)?;
            let (memory, system) = (&map.memory, map.memory.system());
            let ours = Contender::apart(OURS, |ops, seed| {
                let mut dice = crate::measure::Dice::new(seed);
                let mut found = |_: &u64| {
                    let addr = dice.below(count) * Siblings::STRIDE + 64;
                    matches!(memory.find(system, addr, 16), Ok(Some(_)))
                };
                (0..ops).filter(&mut found).count() as u64
            });
            run.race(&figure, vec![raw_same(&ram.raw), ours], &[], Plan::QUICK)?;
        }
    }
    Ok(())
}
