//! Hostile shapes: each ends in a good map or a typed error, in bounded time, and an error leaves the map as it was.
//!
//! Times are asserted generously, for slow machines: what is meant is "not for ever".
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use flatview::visibility::{Snapshot, who_answers};
use flatview::{AddressSpace, Endianness, FlatView, Limits, Memory, MemoryError, Region, RegionId, WHOLE};

/// What "bounded time" means here.
const SOME_SECONDS: Duration = Duration::from_secs(20);

fn memory() -> Memory {
    Memory::builder(Endianness::Little).bare().build()
}

fn container(memory: &Memory, size: u128) -> RegionId {
    memory.add(Region::container("container", size)).unwrap()
}

fn leaf(memory: &Memory, size: u128) -> RegionId {
    memory.add(Region::reservation("leaf", size)).unwrap()
}

fn alias(memory: &Memory, target: RegionId, offset: u64, size: u128) -> RegionId {
    memory.add(Region::alias("alias", target, offset, size)).unwrap()
}

/// Everything about the regions, and the very views of all spaces.
struct Before {
    memory: Memory,
    regions: Vec<String>,
    views: Vec<(AddressSpace, Arc<FlatView>)>,
}

impl Before {
    fn of(memory: &Memory) -> Self {
        let views = memory.spaces().into_iter().map(|s| (s.clone(), s.view().unwrap())).collect();
        Self { memory: memory.clone(), regions: Self::regions(memory), views }
    }

    fn regions(memory: &Memory) -> Vec<String> {
        let ids = memory.regions();
        ids.into_iter()
            .map(|id| format!("{:?} {:?}", memory.region(id).unwrap(), memory.children(id).unwrap()))
            .collect()
    }

    /// Nothing changed since.
    fn is_now(&self) {
        assert!(self.regions == Self::regions(&self.memory), "a failed change left something in the tree");
        for (space, view) in &self.views {
            assert!(Arc::ptr_eq(view, &space.view().unwrap()), "a failed change changed a view");
        }
        assert_eq!(self.memory.spaces().len(), self.views.len());
    }
}

/// Runs `f` and asserts that it was not for ever.
fn in_time<R>(what: &str, f: impl FnOnce() -> R) -> R {
    let began = Instant::now();
    let result = f();
    let took = began.elapsed();
    println!("{what}: {:.3} s", took.as_secs_f64());
    assert!(took < SOME_SECONDS, "{what} took {took:?}");
    result
}

fn budget(error: &MemoryError) -> bool {
    matches!(
        error,
        MemoryError::TooDeep { .. } | MemoryError::TooMuchWork { .. } | MemoryError::TooManyRanges { .. }
    )
}

/// Each space shows what the rule says at addresses and their neighbours.
fn follows_the_rule(memory: &Memory, addrs: impl IntoIterator<Item = u64>) {
    let addrs: Vec<u64> = addrs.into_iter().collect();
    let snapshot = Snapshot::of(memory);
    for space in memory.spaces() {
        let (root, view) = (space.root().unwrap(), space.view().unwrap());
        for addr in addrs.iter().flat_map(|a| [a.wrapping_sub(1), *a, a.wrapping_add(1)]) {
            let rule = snapshot.who_answers(root, addr).unwrap().map(|a| (a.region, a.offset));
            let shown = view.lookup(addr).map(|r| (r.region(), r.offset() + (addr - r.start())));
            assert_eq!(shown, rule, "at {addr:#x}");
        }
    }
}

#[test]
fn a_million_nested_containers_are_refused_only_when_looked_at() {
    const LEVELS: usize = 1_000_000;
    let memory = memory();
    let levels = in_time("nesting a million containers from the outside in", || {
        memory
            .update(|t| {
                let mut levels = Vec::with_capacity(LEVELS);
                for i in 0..LEVELS {
                    levels.push(t.add(Region::container("level", WHOLE))?);
                    if i > 0 {
                        t.map(levels[i - 1], 0, levels[i])?;
                    }
                }
                Ok::<_, MemoryError>(levels)
            })
            .unwrap()
    });
    let inner = leaf(&memory, 16);
    memory.map(levels[LEVELS - 1], 0, inner).unwrap();
    let outermost = levels[0];
    let error = in_time("looking at it", || memory.address_space("deep", outermost).unwrap_err());
    assert!(matches!(error, MemoryError::TooDeep { .. }), "{error}");
    assert!(memory.spaces().is_empty());
    let error = in_time("asking who answers", || who_answers(&memory, outermost, 0).unwrap_err());
    assert!(matches!(error, MemoryError::TooDeep { .. }), "{error}");
    // The last thousand can be looked at, and changed.
    let space = memory.address_space("end", levels[LEVELS - 1000]).unwrap();
    assert_eq!(space.view().unwrap().len(), 1);
    in_time("changing its inside", || {
        memory.update(|t| t.set_address(inner, 0x1000)).unwrap();
        assert_eq!(space.view().unwrap().ranges().next().unwrap().start(), 0x1000);
    });
    let cycle = in_time("closing the circle", || memory.map(inner, 0, outermost).unwrap_err());
    assert!(matches!(cycle, MemoryError::ContainerCycle { .. }), "{cycle}");
    in_time("a thousand changes of its inside", || {
        for i in 0..1000 {
            memory.update(|t| t.set_address(inner, i)).unwrap();
        }
    });
    in_time("dropping it", || drop((space, memory)));
}

/// `n` levels, each a container with two aliases of the level below; a leaf at the bottom.
fn levels_of_two(memory: &Memory, n: u32, side_by_side: bool, leaf_size: u128) -> RegionId {
    let mut below = container(memory, 4);
    memory.map(below, 1, leaf(memory, leaf_size)).unwrap();
    let mut size = 4;
    for _ in 0..n {
        let next = container(memory, if side_by_side { 2 * size } else { size });
        for i in 0..2_u64 {
            let a = alias(memory, below, 0, size);
            memory.map(next, if side_by_side { i * size as u64 } else { 0 }, a).unwrap();
        }
        size = if side_by_side { 2 * size } else { size };
        below = next;
    }
    below
}

#[test]
fn levels_of_two_aliases_multiply_only_up_to_the_budget() {
    for side_by_side in [true, false] {
        for n in [30, 45, 60] {
            let memory = memory();
            let top = levels_of_two(&memory, n, side_by_side, 1);
            let before = Before::of(&memory);
            let what = format!("{n} levels of two aliases, side by side: {side_by_side}");
            let error = in_time(&what, || memory.address_space("top", top).unwrap_err());
            assert!(budget(&error), "{error}");
            before.is_now();
            // The rule is bounded too: nobody answers at 0, which takes all paths to know.
            let rule = in_time("the same, asked of the rule", || who_answers(&memory, top, 0));
            assert!(matches!(rule, Ok(None) | Err(MemoryError::TooMuchWork { .. })), "{rule:?}");
        }
    }
}

#[test]
fn levels_of_two_aliases_that_hide_each_other_are_no_work() {
    let memory = memory();
    let mut below = leaf(&memory, 16);
    for _ in 0..60 {
        let next = container(&memory, 16);
        for _ in 0..2 {
            memory.map(next, 0, alias(&memory, below, 0, 16)).unwrap();
        }
        below = next;
    }
    let space = in_time("60 levels that hide each other", || memory.address_space("top", below).unwrap());
    assert_eq!(space.view().unwrap().len(), 1);
    follows_the_rule(&memory, [0, 15]);
}

#[test]
fn a_map_within_the_budget_that_grows_past_it_is_refused_and_stays() {
    let limits = Limits { ranges: 1000, ..Limits::default() };
    let memory = Memory::builder(Endianness::Little).bare().limits(limits).build();
    let top = levels_of_two(&memory, 9, true, 1);
    let space = memory.address_space("top", top).unwrap();
    assert_eq!(space.view().unwrap().len(), 512);
    let outer = container(&memory, WHOLE);
    memory.map(outer, 0, top).unwrap();
    let space = memory.address_space("outer", outer).unwrap();
    let again = alias(&memory, top, 0, WHOLE);
    let before = Before::of(&memory);
    let error = memory.map(outer, 1 << 20, again).unwrap_err();
    assert!(matches!(error, MemoryError::TooManyRanges { limit: 1000, .. }), "{error}");
    before.is_now();
    assert_eq!(space.view().unwrap().len(), 512);
    follows_the_rule(&memory, 0..4096);
}

#[test]
fn an_alias_of_its_own_ancestor_at_every_offset() {
    const SIZE: u64 = 12;
    let mut outcomes = [0_u32; 2];
    in_time("an alias of a small ancestor at every offset", || {
        for (at, offset) in (0..SIZE).flat_map(|a| (0..SIZE).map(move |o| (a, o))) {
            for size in [1, 3, SIZE, 2 * SIZE] {
                let memory = memory();
                let root = container(&memory, u128::from(SIZE));
                let middle = container(&memory, u128::from(SIZE));
                memory.map(root, 0, middle).unwrap();
                memory.map(root, SIZE - 2, leaf(&memory, 1)).unwrap();
                let mirror = alias(&memory, root, offset, u128::from(size));
                memory.address_space("space", root).unwrap();
                let before = Before::of(&memory);
                match memory.map(middle, at, mirror) {
                    Ok(()) => {
                        outcomes[0] += 1;
                        follows_the_rule(&memory, 0..SIZE);
                        assert_eq!(memory.stale_view(), Ok(None));
                    }
                    Err(error) => {
                        outcomes[1] += 1;
                        assert!(matches!(error, MemoryError::TooDeep { .. }), "{error}");
                        // It shows some byte of itself.
                        assert_eq!(at, offset, "size {size}");
                        before.is_now();
                    }
                }
            }
        }
    });
    assert!(outcomes.iter().all(|n| *n > 40), "good and refused: {outcomes:?}");
}

#[test]
fn an_alias_of_its_own_ancestor_at_huge_offsets() {
    const FAR: [u64; 9] =
        [0, 1, 0x1000, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, u64::MAX - 0x1000, u64::MAX - 1, u64::MAX];
    in_time("an alias of a huge ancestor at huge offsets", || {
        for (at, offset) in FAR.iter().flat_map(|a| FAR.iter().map(move |o| (*a, *o))) {
            for size in [1, 0x1000, 1 << 63, WHOLE - 1, WHOLE] {
                let memory = memory();
                let root = container(&memory, WHOLE);
                memory.map(root, 0x800, leaf(&memory, 0x10)).unwrap();
                memory.map(root, u64::MAX - 3, leaf(&memory, 4)).unwrap();
                let mirror = alias(&memory, root, offset, size);
                memory.address_space("space", root).unwrap();
                let before = Before::of(&memory);
                match memory.map(root, at, mirror) {
                    Ok(()) => {
                        follows_the_rule(&memory, FAR.into_iter().chain([0x800, 0x80f, u64::MAX - 3]));
                        assert_eq!(memory.stale_view(), Ok(None));
                    }
                    Err(error) => {
                        assert!(matches!(error, MemoryError::TooDeep { .. }), "{error}");
                        before.is_now();
                    }
                }
            }
        }
    });
}

#[test]
fn two_aliases_of_their_own_ancestor_that_multiply_each_other() {
    for (at, offset) in [([1, 2], [0, 0]), ([1, 1 << 40], [0, 0]), ([0x1000, 0x2000], [0, 0x800])] {
        let memory = memory();
        let root = container(&memory, WHOLE);
        memory.map(root, 0, leaf(&memory, 1)).unwrap();
        memory.address_space("space", root).unwrap();
        let mirrors = offset.map(|o| alias(&memory, root, o, WHOLE));
        let before = Before::of(&memory);
        let result = in_time("two aliases of their ancestor", || {
            memory.update(|t| {
                t.map(root, at[0], mirrors[0])?;
                t.map(root, at[1], mirrors[1])
            })
        });
        match result {
            Ok(()) => follows_the_rule(&memory, at.into_iter().chain(offset).chain([0])),
            Err(error) => {
                assert!(budget(&error), "{error}");
                before.is_now();
            }
        }
    }
}

#[test]
fn chains_of_aliases_of_aliases() {
    let memory = memory();
    let bottom = leaf(&memory, 0x100);
    let mut chain: Vec<RegionId> = vec![alias(&memory, bottom, 0, 0x100)];
    // Whole aliases are skipped on the way to the effective root; these must be gone through.
    for i in 1..100_000 {
        chain.push(alias(&memory, chain[i - 1], u64::from(i == 1), 0x100));
    }
    let space = memory.address_space("short", chain[900]).unwrap();
    assert_eq!(space.view().unwrap().ranges().next().unwrap().offset(), 1);
    let before = Before::of(&memory);
    let error =
        in_time("a chain of 100,000 aliases", || memory.address_space("long", chain[99_999]).unwrap_err());
    assert!(matches!(error, MemoryError::TooDeep { .. }), "{error}");
    let cycle = memory.update(|t| t.set_alias_target(chain[0], chain[99_999]));
    assert!(matches!(cycle, Err(MemoryError::AliasCycle { .. })), "{cycle:?}");
    before.is_now();
    in_time("changing what a chain shows", || {
        for i in 0..100 {
            memory.update(|t| t.set_size(bottom, i + 2)).unwrap();
            assert_eq!(space.view().unwrap().ranges().next().unwrap().last(), i as u64);
        }
    });
    follows_the_rule(&memory, [0, 99, 100]);
}

#[test]
fn a_root_that_shows_only_itself() {
    let memory = memory();
    for size in [0x10, WHOLE] {
        let root = container(&memory, size);
        memory.map(root, 0, alias(&memory, root, 0, size)).unwrap();
        let before = Before::of(&memory);
        let error =
            in_time("a root that is an alias of itself", || memory.address_space("loop", root).unwrap_err());
        assert!(matches!(error, MemoryError::TooDeep { .. }), "{error}");
        assert!(matches!(who_answers(&memory, root, 0), Err(MemoryError::TooDeep { .. })));
        before.is_now();
    }
    // The same, made while it is looked at.
    let root = container(&memory, WHOLE);
    let other = leaf(&memory, 0x10);
    memory.map(root, 0x100, other).unwrap();
    let space = memory.address_space("space", root).unwrap();
    let mirror = alias(&memory, root, 0, WHOLE);
    let before = Before::of(&memory);
    let made = memory.update(|t| {
        t.unmap(root, other)?;
        t.map(root, 0, mirror)
    });
    assert!(matches!(made, Err(MemoryError::TooDeep { .. })), "{made:?}");
    before.is_now();
    assert_eq!(space.view().unwrap().len(), 1);
}

#[test]
fn a_deep_map_needs_no_deep_stack() {
    let deep = || {
        let memory = memory();
        let mut levels = vec![container(&memory, WHOLE)];
        for i in 1..1000 {
            levels.push(container(&memory, WHOLE));
            memory.map(levels[i - 1], 0, levels[i]).unwrap();
        }
        memory.map(levels[999], 0x10, leaf(&memory, 0x10)).unwrap();
        // Not skipped on the way to the effective root.
        memory.update(|t| t.set_readonly(levels[0], true)).unwrap();
        let space = memory.address_space("space", levels[0]).unwrap();
        assert_eq!(space.view().unwrap().len(), 1);
        follows_the_rule(&memory, [0x10, 0x1f]);
        assert!(who_answers(&memory, levels[0], 0x10).unwrap().is_some());
        memory.map(levels[999], 0, alias(&memory, levels[0], 0, 1)).unwrap_err();
        drop((space, memory));
    };
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(deep).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_hundred_thousand_siblings_side_by_side() {
    const MANY: u64 = 100_000;
    let memory = memory();
    let root = container(&memory, WHOLE);
    let space = memory.address_space("space", root).unwrap();
    let leaves: Vec<RegionId> = in_time("mapping 100,000 siblings at once", || {
        let map = |i: u64| {
            move |t: &mut flatview::Transaction<'_>| {
                let id = t.add(Region::reservation("leaf", 0x10))?;
                t.map(root, i * 0x20, id)?;
                Ok::<_, MemoryError>(id)
            }
        };
        memory.update(|t| (0..MANY).map(|i| map(i)(t)).collect::<Result<_, MemoryError>>()).unwrap()
    });
    assert_eq!(space.view().unwrap().len() as u64, MANY);
    in_time("changing every seventh in one update", || {
        memory.update(|t| leaves.iter().step_by(7).try_for_each(|l| t.set_enabled(*l, false))).unwrap();
    });
    assert_eq!(space.view().unwrap().len() as u64, MANY - MANY.div_ceil(7));
    in_time("a thousand single changes", || {
        for leaf in leaves.iter().step_by(100) {
            memory.update(|t| t.set_readonly(*leaf, true)).unwrap();
        }
    });
    follows_the_rule(&memory, [0, 0x10, 0x20, 0x1000, (MANY - 1) * 0x20, u64::MAX]);
    assert_eq!(memory.stale_view(), Ok(None));
}

#[test]
fn a_hundred_thousand_siblings_at_one_place() {
    let memory = memory();
    let root = container(&memory, WHOLE);
    let space = memory.address_space("space", root).unwrap();
    let pile = |small: u64, large: u64| {
        memory
            .update(|t| {
                for i in 0..small {
                    let id = t.add(Region::reservation("small", 0x10))?;
                    t.map_overlap(root, i * 0x20, id, 1)?;
                }
                let mut last = None;
                for _ in 0..large {
                    let id = t.add(Region::reservation("large", WHOLE))?;
                    t.map(root, 0, id)?;
                    last = Some(id);
                }
                Ok::<_, MemoryError>(last)
            })
            .unwrap()
    };
    let top = in_time("50,000 small ones over 50,000 large ones", || pile(50_000, 50_000)).unwrap();
    assert_eq!(space.view().unwrap().len(), 100_000);
    in_time("taking the uppermost large one away", || memory.update(|t| t.set_enabled(top, false)).unwrap());
    follows_the_rule(&memory, [0, 0x10, 0x20, u64::MAX]);
    assert_eq!(memory.stale_view(), Ok(None));
}

#[test]
fn a_hundred_thousand_disabled_siblings_at_one_place() {
    let memory = memory();
    let root = container(&memory, WHOLE);
    let shown = leaf(&memory, 0x10);
    memory.map(root, 0x1000, shown).unwrap();
    let space = memory.address_space("space", root).unwrap();
    let pile: Vec<RegionId> = memory
        .update(|t| {
            let add = |_| {
                let id = t.add(Region::reservation("disabled", 0x10000).enabled(false))?;
                t.map_overlap(root, 0, id, 1)?;
                Ok::<_, MemoryError>(id)
            };
            (0..100_000).map(add).collect::<Result<_, MemoryError>>()
        })
        .unwrap();
    in_time("a thousand changes under 100,000 disabled ones", || {
        for i in 0..1000 {
            memory.update(|t| t.set_address(shown, i * 0x20)).unwrap();
        }
    });
    follows_the_rule(&memory, [999 * 0x20, 0x1000]);
    in_time("showing each and hiding it again", || {
        for id in pile.iter().step_by(100) {
            memory.update(|t| t.set_enabled(*id, true)).unwrap();
            assert_eq!(space.view().unwrap().ranges().next().unwrap().region(), *id);
            memory.update(|t| t.set_enabled(*id, false)).unwrap();
        }
    });
    assert_eq!(memory.stale_view(), Ok(None));
}

#[test]
fn a_hundred_thousand_aliases_of_one_region() {
    const MANY: u64 = 100_000;
    let memory = memory();
    let root = container(&memory, WHOLE);
    let shown = leaf(&memory, 0x10);
    memory
        .update(|t| {
            for i in 0..MANY {
                let id = t.add(Region::alias("alias", shown, 0, 0x10))?;
                t.map(root, i * 0x20, id)?;
            }
            Ok::<_, MemoryError>(())
        })
        .unwrap();
    let space =
        in_time("looking at 100,000 aliases of one region", || memory.address_space("space", root).unwrap());
    assert_eq!(space.view().unwrap().len() as u64, MANY);
    in_time("changing what 100,000 aliases show", || memory.update(|t| t.set_size(shown, 8)).unwrap());
    in_time("hiding it", || memory.update(|t| t.set_enabled(shown, false)).unwrap());
    assert!(space.view().unwrap().is_empty());
    in_time("looking away", || memory.remove_space(space.id()).unwrap());
    in_time("taking them all down", || {
        let taken = memory.update(|t| {
            for id in memory.children(root)? {
                t.unmap(root, id)?;
                t.remove(id)?;
            }
            t.remove(shown)
        });
        taken.unwrap();
    });
}

#[test]
fn a_hundred_thousand_aliases_of_one_region_come_and_go_in_any_order() {
    const MANY: usize = 100_000;
    let memory = memory();
    let (root, bench) = (container(&memory, WHOLE), container(&memory, WHOLE));
    let (shown, other) = (leaf(&memory, 0x10), leaf(&memory, 0x10));
    let add = |_| memory.update(|t| t.add(Region::alias("alias", shown, 0, 0x10)));
    let aliases: Vec<RegionId> = in_time("adding 100,000 aliases", || {
        memory.update(|_| (0..MANY).map(add).collect::<Result<_, MemoryError>>()).unwrap()
    });
    let space = memory.address_space("space", root).unwrap();
    // Every alias once, in an order that jumps about.
    let turn = |i: usize| (i * 7919 % MANY, aliases[i * 7919 % MANY]);
    let count = || space.view().unwrap().len();
    in_time("showing every other one, one by one within an update", || {
        let shown = memory.update(|t| {
            (0..MANY).try_for_each(|i| {
                let (at, alias) = turn(i);
                t.map(if at % 2 == 0 { root } else { bench }, at as u64 * 0x20, alias)
            })
        });
        shown.unwrap();
    });
    assert_eq!(count(), MANY / 2);
    let before = Before::of(&memory);
    in_time("hiding them all and giving that up", || {
        let given_up = memory.update(|t| {
            for i in 0..MANY {
                let (at, alias) = turn(i);
                t.unmap(if at % 2 == 0 { root } else { bench }, alias)?;
            }
            // Every region there is has been shown by now.
            t.map(root, 0, root)
        });
        given_up.unwrap_err();
    });
    before.is_now();
    in_time("letting half of them look elsewhere", || {
        let elsewhere = |i: usize| memory.update(|t| t.set_alias_target(turn(i).1, other));
        memory.update(|_| (0..MANY / 2).try_for_each(elsewhere)).unwrap();
    });
    assert_eq!(count(), MANY / 2);
    in_time("100,000 changes of what they show, in one update", || {
        memory.update(|t| (0..MANY as u128).try_for_each(|i| t.set_size(shown, i % 0x10 + 1))).unwrap();
    });
    in_time("changing both", || {
        memory.update(|t| t.set_size(shown, 8).and_then(|()| t.set_size(other, 4))).unwrap();
    });
    let sizes =
        |size: u64| space.view().unwrap().ranges().filter(|r| r.last() - r.start() + 1 == size).count();
    let elsewhere = (0..MANY / 2).filter(|i| turn(*i).0 % 2 == 0).count();
    assert_eq!((sizes(8), sizes(4)), (MANY / 2 - elsewhere, elsewhere));
    assert_eq!(memory.stale_view(), Ok(None));
    in_time("looking away", || memory.remove_space(space.id()).unwrap());
    in_time("taking them all down", || {
        let taken = memory.update(|t| {
            for i in 0..MANY {
                let (at, alias) = turn(i);
                t.unmap(if at % 2 == 0 { root } else { bench }, alias)?;
                t.remove(alias)?;
            }
            t.remove(shown)?;
            t.remove(other)
        });
        taken.unwrap();
    });
}

#[test]
fn touched_places_at_both_ends_with_many_between_are_all_rendered_anew() {
    let memory = memory();
    let root = container(&memory, WHOLE);
    let space = memory.address_space("space", root).unwrap();
    let places: Vec<u64> = [0].into_iter().chain((1..300).map(|i| i << 54)).chain([u64::MAX]).collect();
    let leaves: Vec<RegionId> = memory
        .update(|t| {
            let map = |at: &u64| {
                let id = t.add(Region::reservation("leaf", 1))?;
                t.map(root, *at, id)?;
                Ok::<_, MemoryError>(id)
            };
            places.iter().map(map).collect::<Result<_, MemoryError>>()
        })
        .unwrap();
    assert_eq!(space.view().unwrap().len(), places.len());
    for order in [1, 8, 299] {
        // In one update, in another order, across more places than a set of windows keeps apart.
        let turn = |i: usize| (i * order) % leaves.len();
        memory
            .update(|t| (0..leaves.len()).try_for_each(|i| t.set_readonly(leaves[turn(i)], order != 8)))
            .unwrap();
        assert!(space.view().unwrap().ranges().all(|r| r.readonly() == (order != 8)));
        follows_the_rule(&memory, places.iter().copied());
        assert_eq!(memory.stale_view(), Ok(None));
    }
}
