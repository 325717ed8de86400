//! A map that changes at random, and what KVM must have of it, computed from nothing: from the ranges of the whole view and
//! the lists of all regions.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use flatview::{
    AddressSpace, DirtyClient, Endianness, EventNotifier, Memory, MemoryError, Ops, RamBlock, Region,
    RegionId, Transaction,
};

pub const PAGE: u64 = 4096;

/// A slot: address, size, host address, read-only, logged.
pub type Slot = (u64, u64, u64, bool, bool);

/// The slots that a view asks for, of a host with pages of 4 KiB.
pub fn slots_of(space: &AddressSpace) -> BTreeSet<Slot> {
    let view = space.view().unwrap();
    let slot = |range: &flatview::FlatRange| {
        let (block, offset) = range.block().filter(|_| range.is_ram() || range.romd())?;
        let from = range.start().div_ceil(PAGE) * PAGE;
        let to = (range.last() as u128 + 1) / PAGE as u128 * PAGE as u128;
        let size = to.checked_sub(from.into()).filter(|size| *size > 0)? as u64;
        let host = block.host().as_ptr() as u64 + offset + (from - range.start());
        let readonly = range.readonly() || range.romd() || !block.is_writable();
        host.is_multiple_of(PAGE).then_some((from, size, host, readonly, !readonly && range.log_mask() != 0))
    };
    view.ranges().filter_map(slot).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Container,
    Ram,
    RomDevice,
    Alias,
    Io,
}

/// A region, and what it was given.
#[derive(Debug, Clone)]
struct Node {
    id: RegionId,
    sort: Sort,
    /// The most bytes it can have.
    most: u64,
    logs: u32,
    eventfds: Vec<(u64, u32, Option<u64>, usize)>,
    coalesced: Vec<(u64, u64)>,
}

/// One step of a change.
#[derive(Debug, Clone)]
pub enum Step {
    Enabled(usize, bool),
    Address(usize, u64),
    Size(usize, u64),
    Priority(usize, i32),
    Readonly(usize, bool),
    AliasOffset(usize, u64),
    Romd(usize, bool),
    Log(usize, bool),
    LogAll(bool),
    AddEventFd(usize, u64, u32, Option<u64>, usize),
    DelEventFd(usize, usize),
    Coalesce(usize, u64, u64),
    ClearCoalescing(usize),
}

pub struct World {
    pub memory: Memory,
    pub space: AddressSpace,
    pub rng: fastrand::Rng,
    nodes: Vec<Node>,
    logs_of_all: u32,
    notifiers: Vec<Arc<EventNotifier>>,
    /// Addresses below this are used.
    window: u64,
}

impl World {
    /// `io`: with ioeventfds and collected ranges.
    pub fn new(seed: u64, io: bool) -> Self {
        let memory = Memory::new(Endianness::Little);
        let space = memory.memory_space();
        let mut rng = fastrand::Rng::with_seed(seed);
        let window = 512 * PAGE;
        let mut nodes: Vec<Node> = Vec::new();
        let mut add = |t: &mut Transaction<'_>, region: Region, sort, most, at, priority| {
            let id = t.add(region).unwrap();
            // Most stand in the root, some in a container.
            let inside = nodes.iter().filter(|n| n.sort == Sort::Container).map(|n| n.id).next();
            let parent = inside.filter(|_| sort != Sort::Container && nodes.len().is_multiple_of(4));
            t.map_overlap(parent.unwrap_or(memory.system()), at, id, priority).unwrap();
            nodes.push(Node { id, sort, most, logs: 0, eventfds: Vec::new(), coalesced: Vec::new() });
            id
        };
        let block = |name: &str, pages: u64| RamBlock::anonymous(name, pages * PAGE).unwrap();
        memory
            .update(|t| {
                add(t, Region::container("box", 256 * PAGE as u128), Sort::Container, window, 64 * PAGE, 1);
                let main = block("main", 256);
                let ram = add(t, Region::ram("main", Arc::clone(&main)), Sort::Ram, main.size(), 0, -1);
                let shared = block("shared", 64);
                for n in 0..3 {
                    let at = rng.u64(..400) * PAGE;
                    let region = Region::ram(format!("window{n}"), Arc::clone(&shared))
                        .window(n * 8 * PAGE, 16 * PAGE);
                    add(t, region, Sort::Ram, 16 * PAGE, at, n as i32);
                }
                let rom = add(t, Region::rom("rom", block("rom", 32)), Sort::Ram, 32 * PAGE, 300 * PAGE, 2);
                let flash = Region::rom_device("flash", block("flash", 32), Ops::new());
                add(t, flash, Sort::RomDevice, 32 * PAGE, 350 * PAGE, 0);
                for n in 0..4 {
                    let target = if n == 3 { rom } else { ram };
                    let size = 32 * PAGE;
                    let region = Region::alias(format!("alias{n}"), target, n * 16 * PAGE, size.into());
                    add(t, region, Sort::Alias, window, rng.u64(..480) * PAGE, 1);
                }
                for n in 0..4 {
                    let size = 2 * PAGE;
                    let region = Region::io(format!("io{n}"), size.into(), Ops::new());
                    add(t, region, Sort::Io, if io { 16 * PAGE } else { 2 * PAGE }, rng.u64(..500) * PAGE, 3);
                }
                Ok::<_, MemoryError>(())
            })
            .unwrap();
        let notifiers = (0..3).map(|_| Arc::new(EventNotifier::new().unwrap())).collect();
        Self { memory, space, rng, nodes, logs_of_all: 0, notifiers, window }
    }

    fn node(&mut self, wanted: impl Fn(&Node) -> bool) -> usize {
        let fit: Vec<_> = (0..self.nodes.len()).filter(|n| wanted(&self.nodes[*n])).collect();
        fit[self.rng.usize(..fit.len())]
    }

    /// An address or size: mostly whole pages.
    fn bytes(&mut self, below: u64) -> u64 {
        let pages = self.rng.u64(..below.div_ceil(PAGE)) * PAGE;
        match self.rng.u32(..8) {
            0 => pages + self.rng.u64(..PAGE),
            1 => pages + 0x800,
            _ => pages,
        }
    }

    fn step(&mut self) -> Step {
        let any = |_: &Node| true;
        match self.rng.u32(..22) {
            0..3 => Step::Enabled(self.node(any), self.rng.u32(..4) > 0),
            3..7 => Step::Address(self.node(any), self.bytes(self.window)),
            7..9 => {
                let node = self.node(any);
                Step::Size(node, 1 + self.bytes(self.nodes[node].most))
            }
            9 => Step::Priority(self.node(any), self.rng.i32(-2..4)),
            10..12 => Step::Readonly(self.node(|n| n.sort != Sort::Io), self.rng.bool()),
            12..14 => Step::AliasOffset(self.node(|n| n.sort == Sort::Alias), self.bytes(128 * PAGE)),
            14 => Step::Romd(self.node(|n| n.sort == Sort::RomDevice), self.rng.bool()),
            15..17 => {
                Step::Log(self.node(|n| n.sort == Sort::Ram || n.sort == Sort::RomDevice), self.rng.bool())
            }
            17 => Step::LogAll(self.rng.bool()),
            18..20 => {
                let node = self.node(|n| n.sort == Sort::Io);
                if self.rng.bool() && !self.nodes[node].eventfds.is_empty() {
                    let which = self.rng.usize(..self.nodes[node].eventfds.len());
                    return Step::DelEventFd(node, which);
                }
                let size = [0, 1, 2, 4, 8][self.rng.usize(..5)];
                let data = (size > 0 && self.rng.bool()).then(|| self.rng.u64(..3));
                Step::AddEventFd(node, self.rng.u64(..6) * 0x7fc, size, data, self.rng.usize(..3))
            }
            20 => {
                let node = self.node(|n| n.sort == Sort::Io);
                Step::Coalesce(node, self.rng.u64(..4) * 0x400, 1 + self.rng.u64(..3) * 0x7ff)
            }
            _ => Step::ClearCoalescing(self.node(|n| n.sort == Sort::Io)),
        }
    }

    /// Some steps.
    pub fn steps(&mut self) -> Vec<Step> {
        (0..1 + self.rng.u32(..4)).map(|_| self.step()).collect()
    }

    /// Takes these steps in one change; if it is refused, nothing is noted.
    pub fn change(&mut self, steps: &[Step]) -> Result<(), MemoryError> {
        let (nodes, logs) = (self.nodes.clone(), self.logs_of_all);
        let memory = self.memory.clone();
        let done = memory.update(|t| {
            for step in steps {
                self.take(t, step);
            }
            Ok::<_, MemoryError>(())
        });
        if done.is_err() {
            (self.nodes, self.logs_of_all) = (nodes, logs);
        }
        done
    }

    /// A step that the library refuses is left out.
    fn take(&mut self, t: &mut Transaction<'_>, step: &Step) {
        let id = |n: &usize| self.nodes[*n].id;
        let _ = match step {
            Step::Enabled(n, on) => t.set_enabled(id(n), *on),
            Step::Address(n, at) => t.set_address(id(n), *at),
            Step::Size(n, size) => t.set_size(id(n), (*size).min(self.nodes[*n].most).into()),
            Step::Priority(n, priority) => t.set_priority(id(n), *priority),
            Step::Readonly(n, on) => t.set_readonly(id(n), *on),
            Step::AliasOffset(n, offset) => t.set_alias_offset(id(n), *offset),
            Step::Romd(n, on) => t.set_romd(id(n), *on),
            Step::Log(n, on) if *on || self.nodes[*n].logs > 0 => {
                let done = t.set_log(id(n), DirtyClient::VGA, *on);
                done.inspect(|()| {
                    let logs = &mut self.nodes[*n].logs;
                    *logs = if *on { *logs + 1 } else { *logs - 1 };
                })
            }
            Step::LogAll(on) if *on != (self.logs_of_all > 0) => {
                t.set_log_all(DirtyClient::MIGRATION, *on).inspect(|()| self.logs_of_all = u32::from(*on))
            }
            Step::Log(..) | Step::LogAll(_) => Ok(()),
            Step::AddEventFd(n, offset, size, data, who) => {
                let done = t.add_eventfd(id(n), *offset, *size, *data, &self.notifiers[*who]);
                done.inspect(|()| self.nodes[*n].eventfds.push((*offset, *size, *data, *who)))
            }
            Step::DelEventFd(n, which) => match self.nodes[*n].eventfds.get(*which).copied() {
                Some((offset, size, data, who)) => {
                    let done = t.del_eventfd(id(n), offset, size, data, &self.notifiers[who]);
                    done.inspect(|()| {
                        self.nodes[*n].eventfds.remove(*which);
                    })
                }
                None => Ok(()),
            },
            Step::Coalesce(n, offset, size) => {
                let done = t.add_coalescing(id(n), *offset, *size);
                done.inspect(|()| self.nodes[*n].coalesced.push((*offset, *size)))
            }
            Step::ClearCoalescing(n) => {
                t.clear_coalescing(id(n)).inspect(|()| self.nodes[*n].coalesced.clear())
            }
        };
    }

    /// The ioeventfds whose first address is their region's: address, size, what is matched, who is signalled.
    pub fn eventfds(&self) -> BTreeSet<(u64, u32, Option<u64>, RawFd)> {
        let mut all = BTreeSet::new();
        for range in self.space.view().unwrap().ranges() {
            let shift = i128::from(range.start()) - i128::from(range.offset());
            let of = self.nodes.iter().filter(|n| n.id == range.region()).flat_map(|n| &n.eventfds);
            for (offset, size, data, who) in of {
                let from = i128::from(*offset) + shift;
                if from >= range.start().into() && from <= range.last().into() {
                    all.insert((from as u64, *size, *data, self.notifiers[*who].as_fd().as_raw_fd()));
                }
            }
        }
        all
    }

    /// The ranges that the view shows as collected.
    pub fn zones(&self) -> BTreeSet<(u64, u32)> {
        let mut all = BTreeSet::new();
        for range in self.space.view().unwrap().ranges() {
            let shift = i128::from(range.start()) - i128::from(range.offset());
            let of = self.nodes.iter().filter(|n| n.id == range.region()).flat_map(|n| &n.coalesced);
            for (offset, size) in of {
                let from = (i128::from(*offset) + shift).max(range.start().into());
                let end = (i128::from(*offset) + i128::from(*size) + shift).min(i128::from(range.last()) + 1);
                if from < end {
                    all.insert((from as u64, (end - from) as u32));
                }
            }
        }
        all
    }
}

/// A file of one page that stands for the ring of collected writes.
pub fn ring() -> std::os::fd::OwnedFd {
    let fd = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, rustix::param::page_size() as u64).unwrap();
    fd
}
