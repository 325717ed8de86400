//! What a tree's text leaves open, as a list a person can read: per address space, which regions answer
//! themselves, and which of two overlapping siblings of equal priority wins.
//!
//! QEMU 7.2 prints `i/o` for MMIO and for containers alike, and where priorities tie the order in which the board
//! added the regions. Both can be learned from a text of `info mtree -f` of the same machine; nothing else is: a list
//! of answers holds no range of a flat view. Names that answer come from the flat text alone
//! ([`Answers::learn_names`]). Ties are pairs of tree lines, so to find them takes the tree too ([`Answers::learn`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::error::{MtreeError, ParseError, ParseReason, shown};
use super::parse::{Lines, parse_view_space, span};
use super::text::{Document, TypeText, ViewSpace};

/// An address space as far as text can name it: its name and its root's. Spaces that share both share answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceKey {
    /// The address space's name.
    pub name: String,
    /// Its root region's name.
    pub root: String,
}

/// What is known of one address space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceAnswers {
    /// Names of i/o regions that answer themselves: they stand in the view. Every other i/o region of this space
    /// only contains.
    pub answering: BTreeSet<String>,
    /// Ties that the one printed first does not win.
    pub ties: BTreeSet<Tie>,
}

/// Two children of one container, of equal priority, that overlap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tie {
    /// The container's name.
    pub container: String,
    /// Who wins where both are.
    pub winner: Place,
    /// Who loses.
    pub loser: Place,
}

/// A child of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// First address, counted from the container's start.
    pub start: u64,
    /// Last address, counted from the container's start.
    pub end: u64,
    /// The child's name.
    pub name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x} {}", self.start, self.end, self.name)
    }
}

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// By address space.
    pub spaces: BTreeMap<SpaceKey, SpaceAnswers>,
}

const HEADING: &str = "answers";
const ANSWERING: &str = "  answers: ";
const TIE_IN: &str = "  tie in: ";
const WINS: &str = "    wins: ";
const OVER: &str = "    over: ";

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADING}")?;
        for (SpaceKey { name, root }, space) in &self.spaces {
            writeln!(f, "{}", ViewSpace { name: name.clone(), root: root.clone(), alias: None })?;
            for name in &space.answering {
                writeln!(f, "{ANSWERING}{name}")?;
            }
            for Tie { container, winner, loser } in &space.ties {
                writeln!(f, "{TIE_IN}{container}\n{WINS}{winner}\n{OVER}{loser}")?;
            }
        }
        Ok(())
    }
}

impl Answers {
    /// Which names answer, from a text of `info mtree -f`.
    ///
    /// # Errors
    /// [`MtreeError::NotFlat`] if there is a tree in it.
    pub fn learn_names(flat: &Document) -> Result<Answers, MtreeError> {
        let mut answers = Answers::default();
        if let Some(block) = flat.blocks.iter().find(|b| !matches!(b.body, super::Body::View(_))) {
            return Err(MtreeError::NotFlat { file: flat.source.clone(), line: block.line });
        }
        for view in flat.views() {
            // RAM always answers. Read-only i/o prints as `rom`.
            let open =
                view.ranges.iter().filter(|r| r.head.kind.may_be_container() || r.head.kind == TypeText::Rom);
            let names: BTreeSet<String> = open.map(|r| r.name.clone()).collect();
            for space in &view.spaces {
                let key = SpaceKey { name: space.name.clone(), root: space.root.clone() };
                answers.spaces.entry(key).or_default().answering.extend(names.iter().cloned());
            }
        }
        Ok(answers)
    }

    /// Whether `bytes` are a printed list of answers, and not some other text.
    pub fn is_list(bytes: &[u8]) -> bool {
        let first = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
        first.strip_suffix(b"\r").unwrap_or(first) == HEADING.as_bytes()
    }

    /// Reads a list as it was printed; `source` is what messages call it.
    ///
    /// # Errors
    /// The first line that does not belong, and why.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Answers, ParseError> {
        let mut lines = Lines::new(source, bytes);
        let mut answers = Answers::default();
        let mut space: Option<&mut SpaceAnswers> = None;
        // The parts of a tie, as they come.
        let mut container: Option<String> = None;
        let mut winner: Option<Place> = None;
        let mut first = true;
        while let Some((_, line)) = lines.next()? {
            let unexpected = || ParseReason::Unexpected { text: shown(line) };
            let place = |text: &str| {
                let (start, end, rest) = span(text)?;
                Some(Place { start, end, name: rest.strip_prefix(' ')?.to_owned() })
            };
            if std::mem::take(&mut first) {
                if line != HEADING {
                    return Err(lines.fail(unexpected()));
                }
                continue;
            }
            if line.is_empty() {
                continue;
            }
            if container.is_none()
                && let Some(found) = parse_view_space(line)
            {
                let root = match found.alias {
                    Some(alias) => format!("{}, alias {alias}", found.root),
                    None => found.root,
                };
                space = Some(answers.spaces.entry(SpaceKey { name: found.name, root }).or_default());
                continue;
            }
            let Some(space) = space.as_deref_mut() else {
                return Err(lines.fail(ParseReason::NoSpace { text: shown(line) }));
            };
            let bad_place = || ParseReason::Addresses { text: shown(line) };
            match (container.take(), winner.take()) {
                (None, _) => {
                    if let Some(name) = line.strip_prefix(ANSWERING) {
                        space.answering.insert(name.to_owned());
                    } else if let Some(name) = line.strip_prefix(TIE_IN) {
                        container = Some(name.to_owned());
                    } else {
                        return Err(lines.fail(unexpected()));
                    }
                }
                (Some(name), None) => {
                    let text = line.strip_prefix(WINS).ok_or_else(|| lines.fail(unexpected()))?;
                    winner = Some(place(text).ok_or_else(|| lines.fail(bad_place()))?);
                    container = Some(name);
                }
                (Some(container), Some(winner)) => {
                    let text = line.strip_prefix(OVER).ok_or_else(|| lines.fail(unexpected()))?;
                    let loser = place(text).ok_or_else(|| lines.fail(bad_place()))?;
                    space.ties.insert(Tie { container, winner, loser });
                }
            }
        }
        if container.is_some() {
            return Err(lines.fail(ParseReason::Unexpected { text: "the end of the text".to_owned() }));
        }
        Ok(answers)
    }

    /// All ties of all spaces.
    pub(super) fn ties(&self) -> impl Iterator<Item = &Tie> {
        self.spaces.values().flat_map(|s| &s.ties)
    }
}
