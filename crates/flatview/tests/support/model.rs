//! The tree as a test knows it: what each region's attributes must be after the changes that the test made.
//!
//! What it is not: the library's tree. It shares nothing with it, keeps no index, and is copied to be restored.

use flatview::RegionId;

/// What a region is, as far as the tree goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Container,
    Alias,
    /// Answers itself.
    Leaf,
    /// Answers itself, and has a ROM mode.
    RomDevice,
}

/// One region; it keeps its place in the list for ever.
#[derive(Debug, Clone)]
pub struct Node {
    pub id: RegionId,
    pub sort: Sort,
    pub addr: u64,
    pub size: u128,
    /// How large its block lets it become.
    pub most: u128,
    pub priority: i32,
    /// When it was put where it is.
    pub stamp: u64,
    pub enabled: bool,
    pub readonly: bool,
    pub nonvolatile: bool,
    pub romd: bool,
    pub container: Option<usize>,
    pub target: Option<usize>,
    pub alias_offset: u64,
    pub alive: bool,
    /// How many spaces have it as root.
    pub roots: usize,
}

/// All regions. Each change says whether it must succeed, and makes it if so.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub nodes: Vec<Node>,
    stamp: u64,
}

impl Model {
    pub fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    fn alive(&self, at: usize) -> bool {
        self.nodes[at].alive
    }

    pub fn map(&mut self, container: usize, addr: u64, child: usize, priority: i32) -> bool {
        let mut above = Some(container);
        while let Some(at) = above {
            if at == child {
                return false;
            }
            above = self.nodes[at].container;
        }
        if !self.alive(container) || !self.alive(child) || self.nodes[child].container.is_some() {
            return false;
        }
        let stamp = self.next_stamp();
        let node = &mut self.nodes[child];
        (node.container, node.addr, node.priority, node.stamp) = (Some(container), addr, priority, stamp);
        true
    }

    pub fn unmap(&mut self, container: usize, child: usize) -> bool {
        let good =
            self.alive(container) && self.alive(child) && self.nodes[child].container == Some(container);
        if good {
            self.nodes[child].container = None;
        }
        good
    }

    pub fn set_address(&mut self, at: usize, addr: u64) -> bool {
        if !self.alive(at) {
            return false;
        }
        if self.nodes[at].addr != addr && self.nodes[at].container.is_some() {
            self.nodes[at].stamp = self.next_stamp();
        }
        self.nodes[at].addr = addr;
        true
    }

    pub fn set_priority(&mut self, at: usize, priority: i32) -> bool {
        if !self.alive(at) {
            return false;
        }
        if self.nodes[at].priority != priority {
            self.nodes[at].stamp = self.next_stamp();
        }
        self.nodes[at].priority = priority;
        true
    }

    pub fn set_size(&mut self, at: usize, size: u128) -> bool {
        let good = self.alive(at) && size <= self.nodes[at].most;
        if good {
            self.nodes[at].size = size;
        }
        good
    }

    pub fn retarget(&mut self, at: usize, target: usize) -> bool {
        if !self.alive(at) || !self.alive(target) || self.nodes[at].sort != Sort::Alias {
            return false;
        }
        let mut next = Some(target);
        while let Some(through) = next {
            if through == at {
                return false;
            }
            next = self.nodes[through].target;
        }
        self.nodes[at].target = Some(target);
        true
    }

    pub fn set_alias_offset(&mut self, at: usize, offset: u64) -> bool {
        let good = self.alive(at) && self.nodes[at].sort == Sort::Alias;
        if good {
            self.nodes[at].alias_offset = offset;
        }
        good
    }

    pub fn set_romd(&mut self, at: usize, romd: bool) -> bool {
        let good = self.alive(at) && self.nodes[at].sort == Sort::RomDevice;
        if good {
            self.nodes[at].romd = romd;
        }
        good
    }

    pub fn set_flag(&mut self, at: usize, flag: impl FnOnce(&mut Node) -> &mut bool, to: bool) -> bool {
        let good = self.alive(at);
        if good {
            *flag(&mut self.nodes[at]) = to;
        }
        good
    }

    pub fn remove(&mut self, at: usize) -> bool {
        let free = self.nodes[at].container.is_none() && self.nodes[at].roots == 0;
        let refers = |n: &Node| n.alive && (n.container == Some(at) || n.target == Some(at));
        let good = self.alive(at) && free && !self.nodes.iter().any(refers);
        if good {
            self.nodes[at].alive = false;
        }
        good
    }

    /// The children of every region, the winners first.
    pub fn children(&self) -> Vec<Vec<usize>> {
        let mut all: Vec<usize> = (0..self.nodes.len()).filter(|i| self.nodes[*i].alive).collect();
        all.sort_by_key(|i| std::cmp::Reverse((self.nodes[*i].priority, self.nodes[*i].stamp)));
        let mut children = vec![Vec::new(); self.nodes.len()];
        for child in all {
            if let Some(container) = self.nodes[child].container {
                children[container].push(child);
            }
        }
        children
    }

    /// Every address of a space with that root at which the answer may change: where anything that is enabled, hidden
    /// or not, begins, and the address after its end. Between two of them that follow each other one region answers
    /// with offsets that go up, or nobody does.
    ///
    /// Behind others there may be aliases that show each other without an end: after `patience` steps, winners first,
    /// it is left at that, and the second value is `false`.
    pub fn edges(&self, root: usize, children: &[Vec<usize>], mut patience: u32) -> (Vec<u64>, bool) {
        let top = i128::from(u64::MAX);
        let mut edges = Vec::new();
        let mut work = vec![(root, i128::from(self.nodes[root].addr), 0, top)];
        while let Some((at, base, from, to)) = work.pop().filter(|_| patience > 0) {
            patience -= 1;
            let node = &self.nodes[at];
            let from = from.max(base);
            let to = to.min(base + node.size as i128 - 1);
            if !node.enabled || from > to {
                continue;
            }
            edges.extend([from, to + 1].iter().filter_map(|e| u64::try_from(*e).ok()));
            if let Some(target) = node.target {
                work.push((target, base - i128::from(node.alias_offset), from, to));
            } else {
                let inside = |c: &usize| (*c, base + i128::from(self.nodes[*c].addr), from, to);
                work.extend(children[at].iter().rev().map(inside));
            }
        }
        edges.sort_unstable();
        edges.dedup();
        (edges, patience > 0)
    }
}
