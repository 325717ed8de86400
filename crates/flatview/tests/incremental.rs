//! After each random change of random maps, the views that were kept are the views that rendering from nothing gives.
//!
//! A change is one of any kind (add, map, unmap, move, resize, show, hide, rank, turn an alias, remove …) in maps with
//! several spaces, aliases of anything (of their own ancestors too) and transactions that nest and are given up;
//! spaces come and go. After each, every space's effective root is looked for anew and its whole view rendered anew,
//! and both must be what the space has. What the rendering itself must be is the subject of `visibility.rs`.
//!
//! A million changes; `FLATVIEW_TREES=n` sets the number of maps instead.
#![expect(clippy::indexing_slicing, clippy::expect_used, clippy::panic, reason = "tests fail loudly")]

#[expect(dead_code, reason = "the rest is for the other tests with random maps")]
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use flatview::{Endianness, FlatView, MemoryError, Ops, RamBlock, Region, RegionId, WHOLE};
use support::model::Sort;
use support::seeds::{Tally, env, try_seeds};
use support::world::{Leaves, Outcome, Stop, World, budget};

/// The one RAM block of all maps; nobody writes it.
fn block() -> &'static Arc<RamBlock> {
    static BLOCK: OnceLock<Arc<RamBlock>> = OnceLock::new();
    BLOCK.get_or_init(|| RamBlock::anonymous("block", BLOCK_SIZE).expect("64 KiB"))
}

const BLOCK_SIZE: u64 = 64 << 10;

/// RAM, ROM devices, and things without either.
struct AFewKinds;

impl Leaves for AFewKinds {
    fn leaf(&mut self, rng: &mut fastrand::Rng, name: String, size: u128) -> (Region, Sort, u128) {
        let room = u128::from(BLOCK_SIZE);
        match if size > room { 0 } else { rng.u32(..3) } {
            0 => (Region::reservation(name, size), Sort::Leaf, WHOLE),
            1 => (Region::ram(name, Arc::clone(block())).size(size), Sort::Leaf, room),
            _ => {
                let region = Region::rom_device(name, Arc::clone(block()), Ops::new()).size(size);
                (region, Sort::RomDevice, room)
            }
        }
    }

    fn added(&mut self, _: RegionId) {}
}

/// What was done.
#[derive(Default)]
struct Done {
    /// Comparisons after an update that changed something.
    changes: u64,
    given_up: u64,
    refused: u64,
    /// Comparisons after a space came or went.
    spaces: u64,
    nested: u64,
    /// Changes that at least one view shows.
    seen: u64,
    views: u64,
    ranges: u64,
    /// Maps that take more to render than one commit may spend; they came about in small steps.
    too_large: u64,
    kinds: BTreeMap<&'static str, u64>,
}

impl Tally for Done {
    fn add(&mut self, o: Self) {
        self.changes += o.changes;
        self.given_up += o.given_up;
        self.refused += o.refused;
        self.spaces += o.spaces;
        self.nested += o.nested;
        self.seen += o.seen;
        self.views += o.views;
        self.ranges += o.ranges;
        self.too_large += o.too_large;
        for (kind, n) in o.kinds {
            *self.kinds.entry(kind).or_default() += n;
        }
    }
}

type TestWorld = World<AFewKinds>;

/// Adds and maps some regions in one transaction; whether the map could be rendered.
fn furnish(world: &mut TestWorld, things: u32) -> bool {
    let before = world.model.clone();
    let memory = world.memory.clone();
    let result = memory.update(|t| {
        for _ in 0..things {
            let (at, into, addr) = (world.fresh(t), world.any_of(Sort::Container), world.addr());
            world.map(t, into, addr, at);
        }
        Ok(())
    });
    if let Err(error) = &result {
        assert!(budget(error), "{error}");
        world.model = before;
    }
    result.is_ok()
}

/// One random change, mostly alone in its transaction; now and then with one that is given up inside it, or with
/// several others. `None` if no change was accepted.
fn one_change(world: &mut TestWorld) -> Option<Outcome> {
    if world.rng.u32(..8) == 0 {
        return Some(world.transaction());
    }
    let before = world.model.clone();
    let memory = world.memory.clone();
    let result = memory.update(|t| {
        let good = world.change(t);
        if good && world.rng.u32(..8) == 0 {
            // A second one, which does not stay.
            world.nested += 1;
            let before = world.model.clone();
            let inner = memory.update(|t| {
                world.change(t);
                Err::<(), _>(Stop::Wanted)
            });
            assert!(inner.is_err());
            world.model = before;
        }
        Ok(good)
    });
    match result {
        Ok(good) => good.then_some(Outcome::Done),
        Err(Stop::Wanted) => Some(Outcome::GivenUp),
        Err(Stop::Memory(error)) => {
            assert!(budget(&error), "{error}");
            world.model = before;
            Some(Outcome::Refused(error))
        }
    }
}

type Views = Vec<Arc<FlatView>>;

/// Compares all views and gives them; `None` if it could not be told.
fn compare(world: &TestWorld, done: &mut Done) -> Option<Views> {
    match world.memory.stale_view() {
        Ok(stale) => assert_eq!(stale, None, "a space's view differs from one rendered from nothing"),
        Err(MemoryError::TooMuchWork { .. }) => {
            done.too_large += 1;
            return None;
        }
        Err(error) => panic!("a map that was accepted cannot be rendered: {error}"),
    }
    let views: Views = world.spaces.iter().map(|s| s.space.view().expect("the space is there")).collect();
    done.views += views.len() as u64;
    done.ranges += views.iter().map(|v| v.len() as u64).sum::<u64>();
    Some(views)
}

/// Changes of each map.
const CHANGES: u64 = 25;

fn one_map(seed: u64, verbose: bool) -> Done {
    let mut done = Done::default();
    let mut world = World::new(seed, verbose, AFewKinds, Endianness::Little);
    let things = world.rng.u32(..40);
    furnish(&mut world, things);
    let mut before = compare(&world, &mut done);
    // A map may refuse many changes, but not for ever.
    for _ in 0..10 * CHANGES {
        if done.changes >= CHANGES {
            break;
        }
        if world.rng.u32(..16) == 0 {
            world.change_spaces();
            before = compare(&world, &mut done);
            done.spaces += u64::from(before.is_some());
        }
        // Where little is left to be seen, something new comes.
        let ranges = before.iter().flatten().map(|v| v.len()).sum::<usize>();
        let outcome = if ranges < world.spaces.len() && furnish(&mut world, 10) {
            Some(Outcome::Done)
        } else {
            one_change(&mut world)
        };
        let Some(outcome) = outcome else {
            continue;
        };
        let now = compare(&world, &mut done);
        let compared = u64::from(now.is_some());
        let same = before.iter().flatten().zip(now.iter().flatten()).all(|(a, b)| Arc::ptr_eq(a, b));
        match outcome {
            Outcome::Done => {
                done.changes += compared;
                done.seen += u64::from(!same);
            }
            Outcome::GivenUp => done.given_up += compared,
            Outcome::Refused(_) => done.refused += compared,
        }
        before = now;
    }
    done.nested = world.nested;
    done.kinds = world.accepted;
    done
}

#[test]
fn after_each_of_a_million_changes_the_views_are_those_rendered_from_nothing() {
    const ALL: u64 = 1_000_000;
    let name = "after_each_of_a_million_changes_the_views_are_those_rendered_from_nothing";
    let began = Instant::now();
    // A little more than needed: what could not be compared does not count.
    let (maps, done, enough) = try_seeds("incremental", name, ALL / CHANGES * 21 / 20, one_map);
    let first = env("FLATVIEW_FIRST").unwrap_or(0);
    println!(
        "{maps} maps, seeds from {first} on: {} changes compared with rendering from nothing in {:.1} s, {} of them \
         seen in a view; besides {} updates given up, {} refused, {} spaces that came or went; {} inner updates, {} \
         views compared with {:.1} ranges on average, {} too large to tell; changes by kind: {:?}",
        done.changes,
        began.elapsed().as_secs_f64(),
        done.seen,
        done.given_up,
        done.refused,
        done.spaces,
        done.nested,
        done.views,
        done.ranges as f64 / done.views as f64,
        done.too_large,
        done.kinds,
    );
    if !enough {
        return;
    }
    // The generator must not have gone dull.
    assert!(done.changes > maps * CHANGES * 19 / 20 && done.seen > done.changes / 4);
    assert!(done.given_up > done.changes / 200 && done.refused > done.changes / 1000);
    assert!(done.spaces > done.changes / 50 && done.nested > done.changes / 20);
    assert!(done.views > 2 * done.changes && done.too_large < done.changes / 20);
    assert!(done.ranges > 3 * done.views);
    assert!(
        done.kinds.len() == 13 && done.kinds.values().all(|n| *n > done.changes / 500),
        "{:?}",
        done.kinds
    );
    if env("FLATVIEW_TREES").is_none() {
        assert!(done.changes >= ALL, "{} changes", done.changes);
    }
}
