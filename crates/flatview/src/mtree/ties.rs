//! Who wins a tie, found by trying.
//!
//! Where two overlapping children of a container have equal priority, the one added later wins, and the tree's text
//! does not say which that is. Every such pair is known from the tree. If the views that follow from "the one
//! printed first wins" are not those of the flat text, pairs are turned around one by one, and a turn is kept if it
//! brings views closer to the text. What is learned is the pair, under the spaces it was learned in.

use std::collections::{BTreeMap, HashMap};

use super::answers::{Answers, SpaceKey, Tie};
use super::error::MtreeError;
use super::identity::{Node, Plan};
use super::import::{import_with, place_of};
use super::text::{Document, Head, RangeLine, ViewText};
use super::write::{Options, write};

/// At most so many pairs are tried: the largest board known has a dozen. A text that does not belong to the tree
/// would otherwise cost much for nothing.
const MOST_PAIRS: usize = 256;

impl Answers {
    /// Everything that a text of `info mtree -f` can answer about the text of `info mtree` of the same machine.
    ///
    /// # Errors
    /// [`MtreeError::NotFlat`] if `flat` has a tree in it; what [`import`](super::import) says about `tree`.
    pub fn learn(tree: &Document, flat: &Document) -> Result<Answers, MtreeError> {
        let mut answers = Answers::learn_names(flat)?;
        let wanted = Wanted::new(flat);
        let mut misses = wanted.misses(tree, &answers, None)?;
        if misses.is_empty() {
            return Ok(answers);
        }
        for tie in ties(&Plan::new(tree)?) {
            let with_tie = wanted.misses(tree, &answers, Some(&tie))?;
            let total = |misses: &BTreeMap<SpaceKey, usize>| misses.values().sum::<usize>();
            if total(&with_tie) >= total(&misses) {
                continue;
            }
            for (key, before) in &misses {
                if with_tie.get(key).copied().unwrap_or(0) < *before {
                    answers.spaces.entry(key.clone()).or_default().ties.insert(tie.clone());
                }
            }
            misses = with_tie;
        }
        Ok(answers)
    }
}

/// The pairs that tie, each with the one printed later as winner, since the other is what goes without saying.
fn ties(plan: &Plan<'_>) -> Vec<Tie> {
    let mut found = Vec::new();
    for (_, container) in plan.regions() {
        let children: Vec<&Node<'_>> =
            container.children.iter().filter_map(|&c| plan.node(c)).filter(|n| n.enabled()).collect();
        for (at, first) in children.iter().enumerate() {
            let last = u128::from(first.addr) + first.size;
            // Printed by address: who starts behind the first one's end does not overlap it.
            let later = children.iter().skip(at + 1).take_while(|n| u128::from(n.addr) < last);
            for second in later.filter(|n| n.priority() == first.priority()) {
                found.push(Tie {
                    container: container.name().to_owned(),
                    winner: place_of(second),
                    loser: place_of(first),
                });
                if found.len() == MOST_PAIRS {
                    return found;
                }
            }
        }
    }
    found
}

/// What a flat range says, whoever owns it.
type Range<'a> = (u64, u64, i32, &'a str, &'a str, u64, bool);

fn range_of(range: &RangeLine) -> Range<'_> {
    let Head { start, end, priority, nonvolatile, kind } = range.head;
    (start, end, priority, kind.as_str(), &range.name, range.offset, nonvolatile)
}

/// The views of a flat text, by space.
struct Wanted<'a> {
    views: HashMap<SpaceKey, Vec<&'a ViewText>>,
}

impl<'a> Wanted<'a> {
    fn new(flat: &'a Document) -> Wanted<'a> {
        let mut views: HashMap<SpaceKey, Vec<&ViewText>> = HashMap::new();
        for view in flat.views() {
            for space in &view.spaces {
                let key = SpaceKey { name: space.name.clone(), root: space.root.clone() };
                views.entry(key).or_default().push(view);
            }
        }
        Wanted { views }
    }

    /// How many ranges of each space differ if `answers` are believed; spaces without a difference are left out.
    fn misses(
        &self,
        tree: &Document,
        answers: &Answers,
        tie: Option<&Tie>,
    ) -> Result<BTreeMap<SpaceKey, usize>, MtreeError> {
        let imported = import_with(tree, Some(answers), tie)?;
        let derived = write(&imported.memory, Options { flat: true, ..Options::default() })?;
        let mut misses = BTreeMap::new();
        for view in derived.views() {
            for space in &view.spaces {
                let key = SpaceKey { name: space.name.clone(), root: space.root.clone() };
                // Names are not unique: the view that is closest is taken for this space's.
                let candidates = self.views.get(&key).into_iter().flatten();
                let least = candidates.map(|wanted| difference(view, wanted)).min().unwrap_or(0);
                if least > 0 {
                    *misses.entry(key).or_default() += least;
                }
            }
        }
        Ok(misses)
    }
}

/// How many ranges stand in one of the two only.
fn difference(a: &ViewText, b: &ViewText) -> usize {
    let mut counts: HashMap<Range<'_>, isize> = HashMap::new();
    for range in &a.ranges {
        *counts.entry(range_of(range)).or_default() += 1;
    }
    for range in &b.ranges {
        *counts.entry(range_of(range)).or_default() -= 1;
    }
    counts.values().map(|n| n.unsigned_abs()).sum()
}
