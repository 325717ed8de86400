//! Random maps, random changes of them, and the model that says what each change must have done.

use std::collections::BTreeMap;

use flatview::{
    AddressSpace, Endianness, Limits, Memory, MemoryError, Reader, Region, RegionId, Transaction, WHOLE,
};

use super::model::{Model, Node, Sort};

/// What answers in a map: made by the test that looks.
pub trait Leaves {
    /// A region of about that size that answers itself, whether it is a ROM device, and how large it may become.
    fn leaf(&mut self, rng: &mut fastrand::Rng, name: String, size: u128) -> (Region, Sort, u128);
    /// The region has this id now.
    fn added(&mut self, id: RegionId);
}

/// Which addresses a map uses. Small numbers of close ones make things meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bytes: an alias of its own ancestor comes round often.
    Bytes,
    Pages,
    /// Around 0, 2^63 and the last address, with sizes up to 2^64.
    Ends,
    Any,
}

/// A space with a reader that lives as long.
pub struct Seen {
    pub space: AddressSpace,
    pub reader: Reader,
    pub root: usize,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// The test's own error, or a change that was refused, was passed on.
    GivenUp,
    /// The map could not be rendered within the limits.
    Refused(MemoryError),
}

/// Why a transaction ends with an error.
#[derive(Debug)]
pub enum Stop {
    Wanted,
    Memory(MemoryError),
}

impl From<MemoryError> for Stop {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

pub struct World<L> {
    pub memory: Memory,
    pub model: Model,
    pub spaces: Vec<Seen>,
    pub rng: fastrand::Rng,
    pub leaves: L,
    pub style: Style,
    /// Whether it is one of the few maps with hundreds of ranges.
    pub wide: bool,
    verbose: bool,
    /// Aliases that stand alone in a bus master's container.
    masters: Vec<usize>,
    /// The many leaves of a wide map.
    comb: Vec<usize>,
    pub nested: u64,
    /// How many changes of each kind were accepted.
    pub accepted: BTreeMap<&'static str, u64>,
    names: u32,
}

impl<L: Leaves> World<L> {
    /// A map with a few spaces.
    pub fn new(seed: u64, verbose: bool, leaves: L, target: Endianness) -> Self {
        let mut rng = super::seeds::rng(seed);
        let wide = rng.u32(..200) == 0;
        let style = match rng.u32(..10) {
            0..4 => Style::Bytes,
            4..7 => Style::Pages,
            7..9 => Style::Ends,
            _ => Style::Any,
        };
        let limits = Limits { depth: 40, ranges: 4096, steps: if wide { 200_000 } else { 6_000 } };
        let mut world = Self {
            memory: Memory::builder(target).limits(limits).bare().build(),
            model: Model::default(),
            spaces: Vec::new(),
            rng,
            leaves,
            style,
            wide,
            verbose,
            masters: Vec::new(),
            comb: Vec::new(),
            nested: 0,
            accepted: BTreeMap::new(),
            names: 0,
        };
        if verbose {
            eprintln!("{style:?}, wide: {wide}");
        }
        let memory = world.memory.clone();
        let roots =
            memory.update(|t| Ok::<_, MemoryError>(world.skeleton(t))).expect("nothing is looked at yet");
        for root in roots {
            world.look_at(root);
        }
        world
    }

    /// A random address, or offset.
    pub fn addr(&mut self) -> u64 {
        let rng = &mut self.rng;
        let style = match self.style {
            Style::Any => [Style::Bytes, Style::Pages, Style::Ends, Style::Any][rng.usize(..4)],
            style => style,
        };
        match style {
            Style::Bytes => rng.u64(..48),
            Style::Pages => {
                let page = rng.u64(..24) * 0x400;
                if rng.u32(..4) == 0 { page.saturating_add_signed(rng.i64(-2..3)) } else { page }
            }
            Style::Ends => match rng.u32(..4) {
                0 => rng.u64(..32),
                1 => u64::MAX - rng.u64(..32),
                2 => (1 << 63) - 16 + rng.u64(..32),
                _ => [0, 1 << 32, 1 << 63, u64::MAX][rng.usize(..4)],
            },
            Style::Any => rng.u64(..) >> rng.u32(..64),
        }
    }

    fn size(&mut self, large: bool) -> u128 {
        let edge = u128::from(self.addr());
        let rng = &mut self.rng;
        match rng.u32(..16) {
            0 => 0,
            1 => WHOLE,
            2 => WHOLE - u128::from(rng.u64(..4)),
            3 => WHOLE - edge,
            4..8 if large => WHOLE,
            _ if large => (edge * 2 + 1).min(WHOLE),
            4..6 => edge,
            6..9 => edge / 2 + 1,
            _ => match self.style {
                Style::Bytes | Style::Ends => u128::from(rng.u64(1..20)),
                Style::Pages => u128::from(rng.u64(1..6) * 0x400),
                Style::Any => u128::from(1 + (rng.u64(..) >> rng.u32(..64))),
            },
        }
    }

    fn priority(&mut self) -> i32 {
        match self.rng.u32(..40) {
            0 => i32::MIN,
            1 => i32::MAX,
            2..20 => 0,
            _ => self.rng.i32(-2..3),
        }
    }

    /// A region, seldom one that was removed.
    fn any(&mut self) -> usize {
        let mut at = 0;
        for _ in 0..6 {
            at = self.rng.usize(..self.model.nodes.len());
            if self.model.nodes[at].alive {
                break;
            }
        }
        at
    }

    /// A region, mostly one of that sort.
    pub fn any_of(&mut self, sort: Sort) -> usize {
        let mut at = self.any();
        for _ in 0..6 {
            if self.model.nodes[at].sort == sort {
                break;
            }
            at = self.any();
        }
        at
    }

    fn id(&self, at: usize) -> RegionId {
        self.model.nodes[at].id
    }

    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}{}", self.names)
    }

    /// Adds a region and says what the model has to know.
    fn put(&mut self, t: &mut Transaction<'_>, region: Region, sort: Sort, most: u128) -> usize {
        let id = t.add(region).expect("a good region");
        let info = t.region(id).expect("just added");
        let nodes = &self.model.nodes;
        let index = |id: RegionId| nodes.iter().rposition(|n| n.id == id).expect("known");
        let target = info.alias.map(|(id, _)| index(id));
        let node = Node {
            id,
            sort,
            addr: 0,
            size: info.size,
            most,
            priority: 0,
            stamp: 0,
            enabled: info.enabled,
            readonly: info.readonly,
            nonvolatile: info.nonvolatile,
            romd: sort == Sort::RomDevice,
            container: None,
            target,
            alias_offset: info.alias.map_or(0, |(_, offset)| offset),
            alive: true,
            roots: 0,
        };
        let at = self.model.add(node);
        if self.verbose {
            eprintln!("  add {at}: {:?}", self.model.nodes[at]);
        }
        at
    }

    fn container(&mut self, t: &mut Transaction<'_>, size: u128) -> usize {
        let name = self.name("container");
        self.put(t, Region::container(name, size), Sort::Container, WHOLE)
    }

    fn leaf(&mut self, t: &mut Transaction<'_>, size: u128) -> usize {
        let name = self.name("leaf");
        let (region, sort, most) = self.leaves.leaf(&mut self.rng, name, size);
        let at = self.put(t, region, sort, most);
        self.leaves.added(self.id(at));
        at
    }

    fn alias(&mut self, t: &mut Transaction<'_>, target: usize, offset: u64, size: u128) -> usize {
        let name = self.name("alias");
        let enabled = self.rng.u32(..10) != 0;
        let (readonly, nonvolatile) = (self.rng.u32(..8) == 0, self.rng.u32(..12) == 0);
        let region = Region::alias(name, self.id(target), offset, size);
        let region = region.enabled(enabled).readonly(readonly).nonvolatile(nonvolatile);
        self.put(t, region, Sort::Alias, WHOLE)
    }

    /// Some random region, mapped nowhere.
    pub fn fresh(&mut self, t: &mut Transaction<'_>) -> usize {
        match self.rng.u32(..10) {
            0..2 => {
                let size = self.size(true);
                self.container(t, size)
            }
            2..5 => {
                let target = self.any();
                if !self.model.nodes[target].alive {
                    return self.container(t, 16);
                }
                let children = self.model.nodes.iter().filter(|n| n.container == Some(target));
                let starts: Vec<u64> = children.map(|n| n.addr).collect();
                let offset = match self.rng.u32(..4) {
                    0..2 => 0,
                    2 if !starts.is_empty() => starts[self.rng.usize(..starts.len())],
                    _ => self.addr(),
                };
                let size = self.size(false);
                self.alias(t, target, offset, size)
            }
            _ => {
                let size = self.size(false);
                self.leaf(t, size)
            }
        }
    }

    /// Maps a region with some priority; whether that was accepted.
    pub fn map(&mut self, t: &mut Transaction<'_>, container: usize, addr: u64, child: usize) -> bool {
        let priority = self.priority();
        let result = t.map_overlap(self.id(container), addr, self.id(child), priority);
        self.told(&format!("map {child} in {container} at {addr:#x} priority {priority}"), &result);
        let good = self.model.map(container, addr, child, priority);
        assert_eq!(result.is_ok(), good, "map {child} in {container}: {result:?}");
        good
    }

    fn told(&self, what: &str, result: &Result<(), MemoryError>) {
        if self.verbose {
            eprintln!("  {what}: {result:?}");
        }
    }

    /// Roots, bus masters, and a few things to see; gives the roots.
    fn skeleton(&mut self, t: &mut Transaction<'_>) -> Vec<usize> {
        let size = if self.rng.bool() { WHOLE } else { self.size(true) };
        let system = self.container(t, size);
        let mut roots = vec![system];
        if self.rng.u32(..5) < 2 {
            let size = self.size(true);
            roots.push(self.container(t, size));
            if self.rng.bool() {
                let addr = self.addr();
                self.map(t, system, addr, roots[1]);
            }
        }
        for _ in 0..self.rng.u32(..3) {
            let mut outer = self.container(t, WHOLE);
            roots.push(outer);
            if self.rng.u32(..4) == 0 {
                let inner = self.container(t, WHOLE);
                self.map(t, outer, 0, inner);
                outer = inner;
            }
            let target = roots[self.rng.usize(..roots.len() - 1)];
            let alias = self.alias(t, target, 0, WHOLE);
            self.map(t, outer, 0, alias);
            self.masters.push(alias);
        }
        if self.wide {
            let stride = [1, 4, 64][self.rng.usize(..3)];
            let comb = if self.rng.bool() { system } else { self.container(t, WHOLE) };
            for i in 0..self.rng.u64(70..300) {
                let size = self.rng.u64(1..=stride + stride / 4);
                let leaf = self.leaf(t, u128::from(size));
                self.map(t, comb, i * stride, leaf);
                self.comb.push(leaf);
            }
            if comb != system {
                let addr = self.addr();
                self.map(t, system, addr, comb);
            }
        }
        for _ in 0..self.rng.u32(2..8) {
            let at = self.fresh(t);
            let addr = self.addr();
            let into = if self.rng.bool() { system } else { roots[self.rng.usize(..roots.len())] };
            // Nothing looks yet: a map that cannot be rendered is found when a space is made.
            self.map(t, into, addr, at);
        }
        roots
    }

    /// Makes a space, if its map can be rendered.
    pub fn look_at(&mut self, root: usize) {
        let name = format!("space of {root}");
        let made = self.memory.address_space(&name, self.id(root));
        if self.verbose {
            eprintln!("  space of {root}: {made:?}");
        }
        match made {
            Ok(space) => {
                let reader = space.reader();
                self.model.nodes[root].roots += 1;
                self.spaces.push(Seen { space, reader, root });
            }
            Err(error) => assert!(budget(&error), "{error}"),
        }
    }

    /// Some spaces come and go.
    pub fn change_spaces(&mut self) {
        let (root, at) = (self.any_of(Sort::Container), self.any());
        if self.rng.bool() && self.spaces.len() > 1 {
            let gone = self.spaces.swap_remove(self.rng.usize(..self.spaces.len()));
            self.memory.remove_space(gone.space.id()).expect("it is there");
            self.model.nodes[gone.root].roots -= 1;
            assert_eq!(gone.reader.peek(0, &mut [0]).expect_err("removed").region(), None);
        } else if self.spaces.len() < 5 {
            let root = if self.rng.u32(..4) == 0 { at } else { root };
            if self.model.nodes[root].alive {
                self.look_at(root);
            }
        }
    }

    /// One random transaction; the model afterwards says what must be.
    pub fn transaction(&mut self) -> Outcome {
        let before = self.model.clone();
        let memory = self.memory.clone();
        let outcome = match memory.update(|t| self.changes(t, 0)) {
            Ok(()) => Outcome::Done,
            Err(Stop::Wanted) => Outcome::GivenUp,
            Err(Stop::Memory(error)) => Outcome::Refused(error),
        };
        if self.verbose {
            eprintln!("  => {outcome:?}");
        }
        if let Outcome::Refused(error) = &outcome {
            assert!(budget(error), "{error}");
        }
        if !matches!(outcome, Outcome::Done) {
            self.model = before;
        }
        outcome
    }

    fn changes(&mut self, t: &mut Transaction<'_>, depth: u32) -> Result<(), Stop> {
        if self.wide && self.rng.bool() {
            self.sweep(t);
        }
        if self.masters.len() > 1 && self.rng.u32(..16) == 0 {
            self.swap_masters(t);
        }
        let most = if self.wide && self.rng.u32(..4) == 0 { 150 } else { 6 };
        for _ in 0..self.rng.u32(1..=most) {
            if depth < 2 && self.rng.u32(..16) == 0 {
                self.nested += 1;
                let before = self.model.clone();
                let memory = self.memory.clone();
                if let Err(stop) = memory.update(|t| self.changes(t, depth + 1)) {
                    if self.verbose {
                        eprintln!("  the inner changes are rolled back");
                    }
                    self.model = before;
                    if self.rng.u32(..4) == 0 {
                        return Err(stop);
                    }
                }
            } else if !self.change(t) && self.rng.u32(..6) == 0 {
                return Err(Stop::Wanted);
            }
        }
        let limit = if depth == 0 { 16 } else { 4 };
        if self.rng.u32(..limit) == 0 { Err(Stop::Wanted) } else { Ok(()) }
    }

    /// Changes many places that do not touch each other.
    fn sweep(&mut self, t: &mut Transaction<'_>) {
        let (skip, hide) = (self.rng.usize(1..4), self.rng.bool());
        for i in (0..self.comb.len()).step_by(skip + 1) {
            let at = self.comb[i];
            let node = &self.model.nodes[at];
            let (result, good) = if hide {
                let to = !node.enabled;
                (t.set_enabled(node.id, to), self.model.set_flag(at, |n| &mut n.enabled, to))
            } else {
                let to = !node.readonly;
                (t.set_readonly(node.id, to), self.model.set_flag(at, |n| &mut n.readonly, to))
            };
            assert_eq!(result.is_ok(), good, "sweep over {at}: {result:?}");
        }
        if self.verbose {
            eprintln!("  sweep over every {}th leaf, hide: {hide}", skip + 1);
        }
    }

    /// Two bus masters look at what the other one looked at.
    fn swap_masters(&mut self, t: &mut Transaction<'_>) {
        let (a, b) = (self.masters[0], self.masters[1]);
        let targets = (self.model.nodes[a].target, self.model.nodes[b].target);
        for (at, target) in [(a, targets.1), (b, targets.0)] {
            if let Some(target) = target {
                let result = t.set_alias_target(self.id(at), self.id(target));
                self.told(&format!("swap: {at} is an alias of {target}"), &result);
                assert_eq!(result.is_ok(), self.model.retarget(at, target), "{result:?}");
            }
        }
    }

    /// One random change; whether it was accepted. The model knows beforehand.
    pub fn change(&mut self, t: &mut Transaction<'_>) -> bool {
        let at = self.any();
        let what = self.rng.u32(..100);
        let (text, result, good) = match what {
            0..18 => {
                let fresh = self.fresh(t);
                let into = self.any_of(Sort::Container);
                let addr = self.addr();
                let good = self.rng.u32(..8) == 0 || self.map(t, into, addr, fresh);
                return self.noted("add", good);
            }
            18..30 => {
                // Something that is free, if there is anything.
                let free = |n: &Node| n.alive && n.container.is_none();
                let frees: Vec<usize> =
                    (0..self.model.nodes.len()).filter(|i| free(&self.model.nodes[*i])).collect();
                let child = if frees.is_empty() { at } else { frees[self.rng.usize(..frees.len())] };
                let into = self.any_of(Sort::Container);
                let addr = self.addr();
                let good = self.map(t, into, addr, child);
                return self.noted("map", good);
            }
            30..37 => {
                let from = match self.model.nodes[at].container {
                    Some(container) if self.rng.u32(..10) != 0 => container,
                    _ => self.any(),
                };
                let result = t.unmap(self.id(from), self.id(at));
                (format!("unmap {at} from {from}"), result, self.model.unmap(from, at))
            }
            37..49 => {
                let addr = self.addr();
                let result = t.set_address(self.id(at), addr);
                (format!("move {at} to {addr:#x}"), result, self.model.set_address(at, addr))
            }
            49..58 => {
                let large = self.model.nodes[at].sort == Sort::Container;
                let size = if self.rng.u32(..50) == 0 { WHOLE + 1 } else { self.size(large) };
                let result = t.set_size(self.id(at), size);
                (format!("size of {at} to {size:#x}"), result, self.model.set_size(at, size))
            }
            58..68 => {
                let masters = self.masters.len();
                let at =
                    if masters > 0 && self.rng.bool() { self.masters[self.rng.usize(..masters)] } else { at };
                let to = !self.model.nodes[at].enabled;
                let to = if self.rng.u32(..8) == 0 { !to } else { to };
                let result = t.set_enabled(self.id(at), to);
                let good = self.model.set_flag(at, |n| &mut n.enabled, to);
                (format!("enable {at}: {to}"), result, good)
            }
            68..75 => {
                let priority = self.priority();
                let result = t.set_priority(self.id(at), priority);
                (format!("priority of {at}: {priority}"), result, self.model.set_priority(at, priority))
            }
            75..81 => {
                let (at, target) = (self.any_of(Sort::Alias), self.any());
                let result = t.set_alias_target(self.id(at), self.id(target));
                (format!("{at} is an alias of {target}"), result, self.model.retarget(at, target))
            }
            81..87 => {
                let at = self.any_of(Sort::Alias);
                let offset = if self.rng.u32(..3) == 0 { 0 } else { self.addr() };
                let result = t.set_alias_offset(self.id(at), offset);
                let good = self.model.set_alias_offset(at, offset);
                (format!("alias offset of {at}: {offset:#x}"), result, good)
            }
            87..91 => {
                let to = self.rng.bool();
                let result = t.set_readonly(self.id(at), to);
                let good = self.model.set_flag(at, |n| &mut n.readonly, to);
                (format!("read-only {at}: {to}"), result, good)
            }
            91..94 => {
                let to = self.rng.bool();
                let result = t.set_nonvolatile(self.id(at), to);
                let good = self.model.set_flag(at, |n| &mut n.nonvolatile, to);
                (format!("non-volatile {at}: {to}"), result, good)
            }
            94..96 => {
                let (at, to) = (self.any_of(Sort::RomDevice), self.rng.bool());
                let result = t.set_romd(self.id(at), to);
                (format!("ROM mode of {at}: {to}"), result, self.model.set_romd(at, to))
            }
            _ => {
                // Mostly what a user does: down first, then away.
                let container = self.model.nodes[at].container.filter(|_| self.rng.u32(..4) != 0);
                if let Some(from) = container {
                    let result = t.unmap(self.id(from), self.id(at));
                    self.told(&format!("unmap {at} from {from}"), &result);
                    assert_eq!(
                        result.is_ok(),
                        self.model.unmap(from, at),
                        "unmap {at} from {from}: {result:?}"
                    );
                }
                let result = t.remove(self.id(at));
                (format!("remove {at}"), result, self.model.remove(at))
            }
        };
        self.told(&text, &result);
        assert_eq!(result.is_ok(), good, "{text}: {result:?}");
        let kind = match what {
            30..37 => "unmap",
            37..49 => "move",
            49..58 => "size",
            58..68 => "enable",
            68..75 => "priority",
            75..81 => "alias target",
            81..87 => "alias offset",
            87..91 => "read-only",
            91..94 => "non-volatile",
            94..96 => "ROM mode",
            _ => "remove",
        };
        self.noted(kind, good)
    }

    /// Counts a change if it was accepted.
    fn noted(&mut self, kind: &'static str, good: bool) -> bool {
        *self.accepted.entry(kind).or_default() += u64::from(good);
        good
    }
}

/// Whether an error says that a map cannot be rendered, which random maps may well be.
pub fn budget(error: &MemoryError) -> bool {
    matches!(
        error,
        MemoryError::TooDeep { .. } | MemoryError::TooMuchWork { .. } | MemoryError::TooManyRanges { .. }
    )
}
