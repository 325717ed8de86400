//! Flat views of random maps under random changes, held against the one-address rule of `flatview::visibility`,
//! which shares no code with the renderer.
//!
//! After each transaction, in each space: every address at which any region begins or ends, and its neighbours, so
//! that between two of them nothing is left open; random addresses, 1,000 for each map; ranges in order, disjoint and
//! joined; the incremental view equal to one rendered from nothing; the attributes of every region equal to a model
//! that is kept apart. An update that fails leaves the very views and attributes that were there.
#![expect(clippy::indexing_slicing, clippy::expect_used, clippy::panic, reason = "tests fail loudly")]

mod support;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use flatview::visibility::{Answer, Snapshot, who_answers};
use flatview::{
    Endianness, FlatView, IommuEntry, IommuOps, IommuRequest, MemoryError, Ops, RamBlock, Region, RegionId,
    RegionType, WHOLE,
};
use support::model::{Model, Sort};
use support::seeds::{Tally, try_seeds};
use support::world::{Leaves, Outcome, Seen, World};

/// The one RAM block of all maps; nobody writes it.
fn block() -> &'static Arc<RamBlock> {
    static BLOCK: OnceLock<Arc<RamBlock>> = OnceLock::new();
    BLOCK.get_or_init(|| RamBlock::anonymous("block", BLOCK_SIZE).expect("64 KiB"))
}

const BLOCK_SIZE: u64 = 64 << 10;

/// An IOMMU that lets nothing through: what stands where is the question here.
struct Nowhere;

impl IommuOps for Nowhere {
    fn translate(&self, _: &IommuRequest<'_>) -> IommuEntry {
        IommuEntry::denied(0)
    }
}

/// Every kind of region that answers.
struct EveryKind;

impl Leaves for EveryKind {
    fn leaf(&mut self, rng: &mut fastrand::Rng, name: String, size: u128) -> (Region, Sort, u128) {
        let room = u128::from(BLOCK_SIZE);
        let kind = if size > room { rng.u32(..5) } else { rng.u32(..9) };
        let leaf = |region: Region| (region.size(size), Sort::Leaf, WHOLE);
        match kind {
            0..2 => leaf(Region::reservation(name, size)),
            2 => leaf(Region::sketch(name, size, RegionType::Rom)),
            3 => leaf(Region::io(name, size, Ops::new())),
            4 => leaf(Region::iommu(name, size, Nowhere)),
            5..7 => (Region::ram(name, Arc::clone(block())).size(size), Sort::Leaf, room),
            7 => (Region::rom(name, Arc::clone(block())).size(size), Sort::Leaf, room),
            _ => {
                let region = Region::rom_device(name, Arc::clone(block()), Ops::new()).size(size);
                (region, Sort::RomDevice, room)
            }
        }
    }

    fn added(&mut self, _: RegionId) {}
}

/// What was seen, so that a generator gone dull is noticed.
#[derive(Default)]
struct Seenings {
    commits: u64,
    given_up: u64,
    refused: u64,
    nested: u64,
    addresses: u64,
    answered: u64,
    readonly: u64,
    nonvolatile: u64,
    last_address: u64,
    shared: u64,
    elsewhere: u64,
    empty_root: u64,
    moved_root: u64,
    own_ancestor: u64,
    most_ranges: u64,
    views: u64,
    without_edges: u64,
}

impl Tally for Seenings {
    fn add(&mut self, o: Self) {
        self.commits += o.commits;
        self.given_up += o.given_up;
        self.refused += o.refused;
        self.nested += o.nested;
        self.addresses += o.addresses;
        self.answered += o.answered;
        self.readonly += o.readonly;
        self.nonvolatile += o.nonvolatile;
        self.last_address += o.last_address;
        self.shared += o.shared;
        self.elsewhere += o.elsewhere;
        self.empty_root += o.empty_root;
        self.moved_root += o.moved_root;
        self.own_ancestor += o.own_ancestor;
        self.most_ranges = self.most_ranges.max(o.most_ranges);
        self.views += o.views;
        self.without_edges += o.without_edges;
    }
}

type TestWorld = World<EveryKind>;

/// The attributes of all regions are those of the model, and so are the orders of siblings.
fn same_as_model(world: &TestWorld, children: &[Vec<usize>]) {
    let model = &world.model;
    let id = |at: usize| model.nodes[at].id;
    let mut alive = 0;
    for (at, node) in model.nodes.iter().enumerate() {
        let info = match world.memory.region(node.id) {
            Ok(info) => info,
            Err(error) => {
                assert!(
                    !node.alive && matches!(error, MemoryError::StaleRegion { .. }),
                    "region {at}: {error}"
                );
                continue;
            }
        };
        assert!(node.alive, "region {at} was removed and is still there");
        alive += 1;
        let is =
            (info.addr, info.size, info.priority, info.enabled, info.readonly, info.nonvolatile, info.romd);
        let must =
            (node.addr, node.size, node.priority, node.enabled, node.readonly, node.nonvolatile, node.romd);
        assert_eq!(is, must, "region {at}: addr, size, priority, enabled, readonly, nonvolatile, romd");
        assert_eq!(info.container, node.container.map(id), "container of region {at}");
        assert_eq!(info.alias, node.target.map(|t| (id(t), node.alias_offset)), "alias {at}");
        let order: Vec<RegionId> = children[at].iter().map(|c| id(*c)).collect();
        assert_eq!(world.memory.children(node.id), Ok(order), "children of region {at}, the winners first");
    }
    assert_eq!(world.memory.regions().len(), alive);
}

/// The region that a space's view is rendered from: down from the root as long as the next one shows the very
/// same. `Err` if that goes round.
fn effective(model: &Model, root: usize, children: &[Vec<usize>]) -> Result<Option<usize>, ()> {
    let mut at = root;
    for _ in 0..=model.nodes.len() {
        let node = &model.nodes[at];
        if !node.enabled {
            return Ok(None);
        }
        if matches!(node.sort, Sort::Leaf | Sort::RomDevice) || node.readonly || node.nonvolatile {
            return Ok(Some(at));
        }
        let next = if let Some(target) = node.target {
            (node.alias_offset == 0).then_some(target)
        } else {
            let mut enabled = children[at].iter().filter(|c| model.nodes[**c].enabled);
            match (enabled.next(), enabled.next()) {
                (None, _) => return Ok(None),
                (Some(only), None) => (model.nodes[*only].addr == 0).then_some(*only),
                _ => None,
            }
        };
        let same = |n: &usize| model.nodes[*n].addr == node.addr && model.nodes[*n].size <= node.size;
        match next.filter(same) {
            Some(next) => at = next,
            None => return Ok(Some(at)),
        }
    }
    Err(())
}

/// In order, disjoint, and no two neighbours that could be one.
fn well_formed(view: &FlatView) {
    let ranges: Vec<_> = view.ranges().collect();
    assert_eq!(ranges.len(), view.len(), "the number of ranges");
    for range in &ranges {
        assert!(range.start() <= range.last(), "{range:?}");
    }
    for pair in ranges.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        assert!(a.last() < b.start(), "not in order: {a:?}, {b:?}");
        let flags = |r: &flatview::FlatRange| (r.region(), r.readonly(), r.nonvolatile(), r.romd());
        let joins = a.last() + 1 == b.start()
            && flags(a) == flags(b)
            && u128::from(a.offset()) + u128::from(a.last() - a.start()) + 1 == u128::from(b.offset());
        assert!(!joins, "these are one range: {a:?}, {b:?}");
    }
}

fn shown(view: &FlatView, addr: u64) -> Option<Answer> {
    view.lookup(addr).map(|r| Answer {
        region: r.region(),
        offset: r.offset().wrapping_add(addr.wrapping_sub(r.start())),
        readonly: r.readonly(),
        nonvolatile: r.nonvolatile(),
    })
}

/// One space: its view against the rule.
fn follows_the_rule(
    world: &mut TestWorld,
    at: usize,
    snapshot: &Snapshot,
    children: &[Vec<usize>],
    random: usize,
    tally: &mut Seenings,
) {
    let Seen { space, root, .. } = &world.spaces[at];
    let (root, root_id) = (*root, world.model.nodes[*root].id);
    let view = space.view().expect("the space is there");
    well_formed(&view);
    let effective = effective(&world.model, root, children).expect("a loop would have been refused");
    assert_eq!(
        view.root(),
        effective.map(|at| world.model.nodes[at].id),
        "where the view of {root} is rendered"
    );
    tally.elsewhere += u64::from(effective.is_some_and(|e| e != root));
    tally.empty_root += u64::from(effective.is_none());
    tally.moved_root += u64::from(effective.is_some_and(|e| world.model.nodes[e].addr != 0));
    tally.most_ranges = tally.most_ranges.max(view.len() as u64);

    let (edges, all) = world.model.edges(root, children, 1500);
    tally.views += 1;
    tally.without_edges += u64::from(!all);
    let starts = view.ranges().flat_map(|r| [r.start(), r.last()]);
    let mut addrs: Vec<u64> = edges.iter().copied().chain(starts).chain([0, u64::MAX]).collect();
    addrs = addrs.iter().flat_map(|a| [a.wrapping_sub(1), *a, a.wrapping_add(1)]).collect();
    for i in 0..random {
        let near = edges.get(world.rng.usize(..edges.len().max(1))).copied().unwrap_or(0);
        let rng = &mut world.rng;
        addrs.push(match i % 3 {
            0 => rng.u64(..),
            1 => near.wrapping_add(rng.u64(..1 << 12)),
            _ => near.wrapping_add_signed(rng.i64(-32..32)),
        });
    }
    addrs.sort_unstable();
    addrs.dedup();
    tally.addresses += addrs.len() as u64;
    for addr in addrs {
        let rule = snapshot.who_answers(root_id, addr).expect("it could be rendered");
        let view = shown(&view, addr);
        assert_eq!(view, rule, "at {addr:#x} of the space of region {root}: the view, and the rule");
        if let Some(answer) = rule {
            tally.answered += 1;
            tally.readonly += u64::from(answer.readonly);
            tally.nonvolatile += u64::from(answer.nonvolatile);
            tally.last_address += u64::from(addr == u64::MAX);
        }
    }
    // What a reader meets: all kinds of region but RAM refuse a look, and say who they are.
    for _ in 0..2 {
        let near = edges.get(world.rng.usize(..edges.len().max(1))).copied().unwrap_or(0);
        let addr = near.wrapping_add_signed(world.rng.i64(-2..3));
        let rule = who_answers(&world.memory, root_id, addr).expect("it could be rendered");
        let Seen { reader, .. } = &world.spaces[at];
        match reader.peek(addr, &mut [0]) {
            Ok(()) => {
                let region = rule.map(|a| world.memory.region(a.region).expect("it answers"));
                assert!(
                    region.is_some_and(|r| r.ram.is_some()),
                    "a look at {addr:#x} of the space of {root}"
                );
            }
            Err(error) => {
                assert_eq!(
                    error.region(),
                    rule.map(|a| a.region),
                    "a look at {addr:#x} of the space of {root}"
                );
            }
        }
    }
}

/// Everything that must hold between two transactions.
fn verify(world: &mut TestWorld, random: usize, tally: &mut Seenings) {
    let children = world.model.children();
    same_as_model(world, &children);
    let snapshot = Snapshot::of(&world.memory);
    let spaces = world.spaces.len();
    for at in 0..spaces {
        follows_the_rule(world, at, &snapshot, &children, random.div_ceil(spaces), tally);
    }
    match world.memory.stale_view() {
        Ok(stale) => assert_eq!(stale, None, "a view differs from one rendered from nothing"),
        // Made in small steps, it may take more than one commit may spend.
        Err(error) => assert!(matches!(error, MemoryError::TooMuchWork { .. }), "{error}"),
    }
    // Equal roots share one view.
    let views: Vec<Arc<FlatView>> = world.spaces.iter().map(|s| s.space.view().expect("there")).collect();
    for (i, a) in views.iter().enumerate() {
        for b in &views[i + 1..] {
            assert_eq!(a.root() == b.root(), Arc::ptr_eq(a, b), "views are shared by effective root");
            tally.shared += u64::from(a.root() == b.root());
        }
    }
}

/// Whether an alias stands in what it shows.
fn shows_its_ancestor(model: &Model) -> bool {
    model.nodes.iter().filter(|n| n.alive && n.target.is_some()).any(|alias| {
        let mut above = alias.container;
        while let Some(at) = above {
            if alias.target == Some(at) {
                return true;
            }
            above = model.nodes[at].container;
        }
        false
    })
}

/// Transactions on each map.
const TRANSACTIONS: usize = 8;
/// Random addresses on each map, over all transactions and spaces.
const RANDOM: usize = 1000;

fn one_map(seed: u64, verbose: bool) -> Seenings {
    let mut tally = Seenings::default();
    let target = if seed.is_multiple_of(2) { Endianness::Little } else { Endianness::Big };
    let mut world = World::new(seed, verbose, EveryKind, target);
    let random = RANDOM.div_ceil(TRANSACTIONS + 1);
    verify(&mut world, random, &mut tally);
    for i in 0..TRANSACTIONS {
        if verbose {
            eprintln!("transaction {i}");
        }
        let before: Vec<_> = world.spaces.iter().map(|s| s.space.view().expect("there")).collect();
        let outcome = world.transaction();
        match outcome {
            Outcome::Done => tally.commits += 1,
            Outcome::GivenUp => tally.given_up += 1,
            Outcome::Refused(_) => tally.refused += 1,
        }
        if !matches!(outcome, Outcome::Done) {
            for (was, seen) in before.iter().zip(&world.spaces) {
                let is = seen.space.view().expect("there");
                assert!(Arc::ptr_eq(was, &is), "a failed update changed the view of {}", seen.root);
            }
        }
        if world.rng.u32(..16) == 0 {
            world.change_spaces();
        }
        verify(&mut world, random, &mut tally);
    }
    tally.own_ancestor += u64::from(shows_its_ancestor(&world.model));
    tally.nested += world.nested;
    tally
}

#[test]
fn views_of_random_maps_follow_the_one_address_rule() {
    let began = Instant::now();
    let name = "views_of_random_maps_follow_the_one_address_rule";
    let (maps, t, enough) = try_seeds("visibility", name, 100_000, one_map);
    println!(
        "{maps} maps in {:.1} s: {} commits, {} given up, {} refused, {} nested; {} addresses, {} answered, {} \
         read-only, {} non-volatile, {} last; spaces: {} shared, {} with another effective root, {} empty, {} not at 0; \
         {} maps with aliases of ancestors, {} ranges at most; {} views, {} with too much \
         behind others to know all edges",
        began.elapsed().as_secs_f64(),
        t.commits,
        t.given_up,
        t.refused,
        t.nested,
        t.addresses,
        t.answered,
        t.readonly,
        t.nonvolatile,
        t.last_address,
        t.shared,
        t.elsewhere,
        t.empty_root,
        t.moved_root,
        t.own_ancestor,
        t.most_ranges,
        t.views,
        t.without_edges,
    );
    if !enough {
        return;
    }
    // The generator must not have gone dull.
    assert!(t.commits > 5 * maps && t.refused < maps && t.refused > maps / 100);
    assert!(t.given_up > maps / 10 && t.nested > maps / 10);
    assert!(t.addresses > 1000 * maps && t.answered > t.addresses / 5);
    assert!(t.readonly > t.answered / 50 && t.nonvolatile > t.answered / 50);
    assert!(t.last_address > maps / 10);
    assert!(t.shared > maps / 10 && t.elsewhere > maps / 10 && t.empty_root > maps / 20);
    assert!(t.moved_root > maps / 10 && t.own_ancestor > maps / 20);
    assert!(t.most_ranges > 200 && t.without_edges < t.views / 50);
}
