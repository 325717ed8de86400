//! What can be wrong with a text: the file, the line and the reason, with the cure.

use crate::MemoryError;

/// A text of `info mtree`, or a list of answers, that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}:{line}: {reason}")]
pub struct ParseError {
    /// The file, or whatever the caller called the text.
    pub source_name: String,
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with that line.
    pub reason: ParseReason,
}

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseReason {
    /// The bytes are not text.
    #[error("Not UTF-8 text; give the text of `info mtree` as the monitor printed it")]
    NotUtf8,
    /// A character that no terminal should be sent.
    #[error("Control character 0x{code:02x}; remove it, or capture the text again without line editing")]
    ControlCharacter {
        /// The character's code point.
        code: u32,
    },
    /// Some lines end in CR LF and some in LF.
    #[error("Ends in LF where the first line ends in CR LF; make all line ends alike")]
    MixedLineEnds,
    /// A line that is none of those that QEMU prints here.
    #[error(
        "Unexpected line '{text}'; only the text of `info mtree` or `info mtree -f` belongs here, without prompts"
    )]
    Unexpected {
        /// The line, shortened.
        text: String,
    },
    /// A tree line outside of a block.
    #[error(
        "Region line before any 'address-space: NAME' or 'memory-region: NAME' line; add the block's heading"
    )]
    NoHeading,
    /// The indentation is not that of a tree line.
    #[error(
        "Indented by {blanks} blanks; a tree line is indented by two for each level, and by two at least"
    )]
    Indentation {
        /// Blanks before the first address.
        blanks: usize,
    },
    /// A second line at the root's level.
    #[error(
        "A second root in one block; indent it by two blanks more than its container, or give it a heading"
    )]
    SecondRoot,
    /// The two addresses are missing or not 16 digits each.
    #[error("Expected START-END, 16 hexadecimal digits each, in '{text}'")]
    Addresses {
        /// The line, shortened.
        text: String,
    },
    /// Priority or type cannot be read.
    #[error(
        "Expected '(prio N, TYPE): NAME' after the addresses in '{text}'; TYPE is i/o, ram, rom, romd or ramd, with nv- in front for non-volatile memory"
    )]
    Attributes {
        /// The line, shortened.
        text: String,
    },
    /// A flat range ends before it starts.
    #[error("The range ends at 0x{end:x}, before its start at 0x{start:x}; put START before END")]
    Backwards {
        /// First address.
        start: u64,
        /// Last address.
        end: u64,
    },
    /// A flat view without its `Root memory region:` line, or without ranges.
    #[error("FlatView #{number} has no '{missing}' line; capture the text again to the end")]
    Incomplete {
        /// The view's number.
        number: u64,
        /// The line that should be there.
        missing: &'static str,
    },
    /// The line can be read but is not as QEMU prints it.
    #[error("Not as QEMU prints it: expected '{canonical}'")]
    Spelling {
        /// What QEMU would have printed, shortened.
        canonical: String,
    },
    /// A list of answers that starts with something else.
    #[error("Expected ' AS \"NAME\", root: ROOT' before '{text}'")]
    NoSpace {
        /// The line, shortened.
        text: String,
    },
}

/// A text that can be read but not made into a [`Memory`](crate::Memory), or answers that do not fit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MtreeError {
    /// A line cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The file cannot be read.
    #[error("Cannot read '{file}': {error}; check the name and that you may read it")]
    File {
        /// The file's name.
        file: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A text of `info mtree -f` where the tree is needed.
    #[error("{file}:{line}: A flat view has no tree; give the text of `info mtree` without -f")]
    NotATree {
        /// The file.
        file: String,
        /// Line number, from 1.
        line: usize,
    },
    /// A text of `info mtree` where flat views are needed.
    #[error("{file}:{line}: A tree does not say who answers; give the text of `info mtree -f`")]
    NotFlat {
        /// The file.
        file: String,
        /// Line number, from 1.
        line: usize,
    },
    /// An alias of something that is not in the text.
    #[error(
        "{file}:{line}: Alias '{alias}' leads to '{target}', which is not in the text; add its 'memory-region: {target}' block"
    )]
    NoTarget {
        /// The file.
        file: String,
        /// Line number, from 1.
        line: usize,
        /// The alias.
        alias: String,
        /// The region it names.
        target: String,
    },
    /// Aliases that lead to each other and nowhere else.
    #[error(
        "{file}:{line}: Alias '{alias}' leads back to itself; give it a target that is not an alias of it"
    )]
    AliasCycle {
        /// The file.
        file: String,
        /// Line number, from 1.
        line: usize,
        /// The alias.
        alias: String,
    },
    /// The library refuses what the line says.
    #[error("{file}:{line}: '{name}': {error}")]
    Refused {
        /// The file.
        file: String,
        /// Line number, from 1.
        line: usize,
        /// The region's name.
        name: String,
        /// What the library said.
        error: MemoryError,
    },
    /// A memory that cannot be written or asked.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No address space of that name.
    #[error("No address space '{name}'; there are: {known}")]
    NoSpace {
        /// What was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
}

/// At most this many characters of somebody's line are repeated in a message.
const SHOWN: usize = 100;

/// `text`, shortened for a message.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}
