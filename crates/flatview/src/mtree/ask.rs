//! What the command line asks of a text: read it, print its views, say who answers at an address.
//!
//! Functions from files and values to text; parsing arguments and printing is the front end's.

use std::fmt;
use std::path::Path;

use super::answers::Answers;
use super::error::MtreeError;
use super::parse::read_document;
use super::text::{Document, TypeText};
use crate::visibility::who_answers;
use crate::{Memory, RegionId};

/// Reads the file `path` as answers about `tree`: a captured text of `info mtree -f`, which is only learned from,
/// or a list of answers as [`Answers`] prints it.
///
/// # Errors
/// [`MtreeError::File`], [`MtreeError::Parse`] with the line, [`MtreeError::NotFlat`] for a tree.
pub fn read_answers(path: &Path, tree: &Document) -> Result<Answers, MtreeError> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| MtreeError::File { file: name.clone(), error })?;
    if Answers::is_list(&bytes) {
        return Ok(Answers::parse(&name, &bytes)?);
    }
    Answers::learn(tree, &Document::parse(&name, &bytes)?)
}

/// Reads a tree for [`import`](super::import): [`read_document`], and refuses flat views.
///
/// # Errors
/// As [`read_document`]; [`MtreeError::NotATree`].
pub fn read_tree(path: &Path) -> Result<Document, MtreeError> {
    let document = read_document(path)?;
    match document.blocks.iter().find(|b| matches!(b.body, super::Body::View(_))) {
        Some(view) => Err(MtreeError::NotATree { file: document.source.clone(), line: view.line }),
        None => Ok(document),
    }
}

/// Who answers at one address of one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The address space's name.
    pub space: String,
    /// The address.
    pub address: u64,
    /// Who answers; `None` if nobody does.
    pub answer: Option<AnswerAt>,
}

/// The region that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerAt {
    /// The region.
    pub region: RegionId,
    /// Its name.
    pub name: String,
    /// The offset in it that is accessed, in bytes.
    pub offset: u64,
    /// Its own priority in its container.
    pub priority: i32,
    /// Its type there: `rom` if it is read-only by itself or by what it is seen through.
    pub kind: TypeText,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS \"{}\": {:016x} ", self.space, self.address)?;
        match &self.answer {
            Some(AnswerAt { name, offset, priority, kind, .. }) => {
                write!(f, "(prio {priority}, {kind}): {name} @{offset:016x}")
            }
            None => f.write_str("(unassigned)"),
        }
    }
}

/// Who answers at `address` in each address space called `space` (default: `memory`, or the only one there is), by the
/// one-address rule, which shares no code with the views.
///
/// # Errors
/// [`MtreeError::NoSpace`] lists the spaces there are.
pub fn answer_at(memory: &Memory, space: Option<&str>, address: u64) -> Result<Vec<At>, MtreeError> {
    let spaces = memory.spaces();
    let wanted = match (space, spaces.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only.name(),
        (None, _) => "memory",
    };
    let mut found = Vec::new();
    for space in spaces.iter().filter(|s| s.name() == wanted) {
        let answer = who_answers(memory, space.root()?, address)?;
        let answer = match answer {
            Some(answer) => {
                let info = memory.region(answer.region)?;
                Some(AnswerAt {
                    region: answer.region,
                    name: info.name.to_string(),
                    offset: answer.offset,
                    priority: info.priority,
                    kind: if answer.readonly { TypeText::Rom } else { info.kind.into() },
                })
            }
            None => None,
        };
        found.push(At { space: space.name().to_owned(), address, answer });
    }
    if found.is_empty() {
        let mut known: Vec<&str> = spaces.iter().map(crate::AddressSpace::name).collect();
        known.sort_unstable();
        known.dedup();
        return Err(MtreeError::NoSpace { name: wanted.to_owned(), known: known.join(", ") });
    }
    Ok(found)
}
