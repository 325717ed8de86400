//! The reader of `info mtree` text: bytes to [`Document`], or the line that is wrong and why.
//!
//! It accepts what QEMU prints and nothing else: each line is printed back and compared before it is taken, so
//! that a document never silently differs from its text. No input makes it panic, and memory and time stay
//! proportional to the text.

use std::path::Path;

use super::error::{MtreeError, ParseError, ParseReason, shown};
use super::text::{
    AliasText, Block, Body, DISPATCH, Document, Head, LineEnd, NO_VIEW, OwnerText, RangeLine, TreeLine,
    TypeText, ViewSpace, ViewText,
};

/// Reads the file `path` as the text of `info mtree` or `info mtree -f`.
///
/// # Errors
/// [`MtreeError::File`] if it cannot be read, [`MtreeError::Parse`] if a line is not QEMU's.
pub fn read_document(path: &Path) -> Result<Document, MtreeError> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| MtreeError::File { file: name.clone(), error })?;
    Ok(Document::parse(&name, &bytes)?)
}

/// The lines of a text with their numbers, line ends taken off and checked.
pub(super) struct Lines<'a> {
    source: &'a str,
    rest: Option<&'a [u8]>,
    number: usize,
    pub(super) line_end: LineEnd,
    pub(super) cut_short: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &'a str, bytes: &'a [u8]) -> Lines<'a> {
        let first = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
        let ended = first.len() < bytes.len();
        let line_end = if ended && first.ends_with(b"\r") { LineEnd::CrLf } else { LineEnd::Lf };
        let cut_short = !bytes.is_empty() && !bytes.ends_with(b"\n");
        Lines { source, rest: Some(bytes), number: 0, line_end, cut_short }
    }

    pub(super) fn fail(&self, reason: ParseReason) -> ParseError {
        ParseError { source_name: self.source.to_owned(), line: self.number.max(1), reason }
    }

    /// The next line and its number.
    pub(super) fn next(&mut self) -> Result<Option<(usize, &'a str)>, ParseError> {
        let Some(rest) = self.rest else { return Ok(None) };
        if rest.is_empty() {
            self.rest = None;
            return Ok(None);
        }
        self.number += 1;
        let (mut line, ended) =
            match rest.iter().position(|&b| b == b'\n').and_then(|at| rest.split_at_checked(at)) {
                Some((line, tail)) => {
                    self.rest = tail.get(1..);
                    (line, true)
                }
                None => {
                    self.rest = None;
                    (rest, false)
                }
            };
        if self.line_end == LineEnd::CrLf && ended {
            line = line.strip_suffix(b"\r").ok_or_else(|| self.fail(ParseReason::MixedLineEnds))?;
        }
        let line = std::str::from_utf8(line).map_err(|_| self.fail(ParseReason::NotUtf8))?;
        // QEMU puts tabs into the dispatch section.
        if let Some(c) = line.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(self.fail(ParseReason::ControlCharacter { code: c.into() }));
        }
        Ok(Some((self.number, line)))
    }
}

/// The block that is being read.
enum Open {
    None,
    Tree { body: Body },
    View { view: ViewText, root_seen: bool, empty: bool },
}

struct Parser<'a> {
    lines: Lines<'a>,
    document: Document,
    open: Open,
    open_line: usize,
}

impl Document {
    /// Parses the text of `info mtree` or `info mtree -f` with any of `-o`, `-D` and `-d`; `source` is what
    /// messages call it.
    ///
    /// # Errors
    /// The first line that QEMU does not print, and why.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Document, ParseError> {
        let lines = Lines::new(source, bytes);
        let document = Document {
            source: source.to_owned(),
            line_end: lines.line_end,
            cut_short: lines.cut_short,
            ..Document::default()
        };
        let mut parser = Parser { lines, document, open: Open::None, open_line: 0 };
        while let Some((number, line)) = parser.lines.next()? {
            parser.line(number, line)?;
        }
        parser.close()?;
        Ok(parser.document)
    }
}

impl Parser<'_> {
    fn fail<T>(&self, reason: ParseReason) -> Result<T, ParseError> {
        Err(self.lines.fail(reason))
    }

    /// Ends the open block.
    fn close(&mut self) -> Result<(), ParseError> {
        let body = match std::mem::replace(&mut self.open, Open::None) {
            Open::None => return Ok(()),
            Open::Tree { body } => body,
            Open::View { view, root_seen, empty } => {
                let missing = if !root_seen {
                    Some(" Root memory region: NAME")
                } else if view.ranges.is_empty() && !empty {
                    Some(NO_VIEW)
                } else {
                    None
                };
                if let Some(missing) = missing {
                    return self
                        .fail(ParseReason::Incomplete { number: view.number, missing: missing.trim() });
                }
                Body::View(view)
            }
        };
        self.document.blocks.push(Block { line: self.open_line, body, blank_lines: 0 });
        Ok(())
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), ParseError> {
        if line.is_empty() {
            self.close()?;
            match self.document.blocks.last_mut() {
                Some(block) => block.blank_lines += 1,
                None => self.document.leading_blank_lines += 1,
            }
            return Ok(());
        }
        if let Some(name) = line.strip_prefix("address-space: ") {
            self.no_tab(line)?;
            if let Open::Tree { body: Body::Spaces { names, lines } } = &mut self.open
                && lines.is_empty()
            {
                names.push(name.to_owned());
                return Ok(());
            }
            return self.open_tree(number, Body::Spaces { names: vec![name.to_owned()], lines: Vec::new() });
        }
        if let Some(name) = line.strip_prefix("memory-region: ") {
            self.no_tab(line)?;
            return self.open_tree(number, Body::Region { name: name.to_owned(), lines: Vec::new() });
        }
        if let Some(digits) = line.strip_prefix("FlatView #") {
            let view_number = match digits.parse::<u64>() {
                Ok(n) if n.to_string() == digits => n,
                _ => return self.fail(ParseReason::Unexpected { text: shown(line) }),
            };
            self.close()?;
            self.open_line = number;
            let view = ViewText { number: view_number, ..ViewText::default() };
            self.open = Open::View { view, root_seen: false, empty: false };
            return Ok(());
        }
        match &mut self.open {
            Open::View { view, .. } if view.dispatch.is_some() => {
                if let Some(dispatch) = &mut view.dispatch {
                    dispatch.push(line.to_owned());
                }
                Ok(())
            }
            Open::View { .. } => self.view_line(number, line),
            Open::Tree { .. } => self.tree_line(number, line),
            Open::None => match parse_tree_line(line) {
                Ok(_) => self.fail(ParseReason::NoHeading),
                Err(_) => self.fail(ParseReason::Unexpected { text: shown(line) }),
            },
        }
    }

    fn no_tab(&self, line: &str) -> Result<(), ParseError> {
        if line.contains('\t') { self.fail(ParseReason::ControlCharacter { code: 9 }) } else { Ok(()) }
    }

    fn open_tree(&mut self, number: usize, body: Body) -> Result<(), ParseError> {
        self.close()?;
        self.open_line = number;
        self.open = Open::Tree { body };
        Ok(())
    }

    fn tree_line(&mut self, number: usize, line: &str) -> Result<(), ParseError> {
        self.no_tab(line)?;
        let mut parsed = parse_tree_line(line).map_err(|reason| self.lines.fail(reason))?;
        let canonical = parsed.to_string();
        if canonical != line {
            return self.fail(ParseReason::Spelling { canonical: shown(&canonical) });
        }
        parsed.line = number;
        if let Open::Tree { body } = &mut self.open
            && let Some(lines) = body.lines_mut()
        {
            if parsed.depth == 1 && !lines.is_empty() {
                return self.fail(ParseReason::SecondRoot);
            }
            lines.push(parsed);
        }
        Ok(())
    }

    fn view_line(&mut self, number: usize, line: &str) -> Result<(), ParseError> {
        self.no_tab(line)?;
        let unexpected = self.lines.fail(ParseReason::Unexpected { text: shown(line) });
        let Open::View { view, root_seen, empty } = &mut self.open else { return Err(unexpected) };
        if line == DISPATCH && (*empty || !view.ranges.is_empty()) {
            view.dispatch = Some(Vec::new());
        } else if line == NO_VIEW && *root_seen && !*empty && view.ranges.is_empty() {
            *empty = true;
        } else if let Some(root) = line.strip_prefix(" Root memory region: ") {
            if *root_seen {
                return Err(unexpected);
            }
            *root_seen = true;
            view.root = (root != "(none)").then(|| root.to_owned());
        } else if line.starts_with(" AS \"") && !*root_seen {
            view.spaces.push(parse_view_space(line).ok_or(unexpected)?);
        } else if line.starts_with("  ") && *root_seen && !*empty {
            let mut range = parse_range_line(line).map_err(|reason| self.lines.fail(reason))?;
            let canonical = range.to_string();
            if canonical != line {
                return self.fail(ParseReason::Spelling { canonical: shown(&canonical) });
            }
            range.line = number;
            view.ranges.push(range);
        } else {
            return Err(unexpected);
        }
        Ok(())
    }
}

/// ` AS "NAME", root: ROOT[, alias TARGET]`.
pub(super) fn parse_view_space(line: &str) -> Option<ViewSpace> {
    let rest = line.strip_prefix(" AS \"")?;
    let (name, root) = rest.split_once("\", root: ")?;
    let (root, alias) = match root.rsplit_once(", alias ") {
        Some((root, alias)) => (root, Some(alias.to_owned())),
        None => (root, None),
    };
    Some(ViewSpace { name: name.to_owned(), root: root.to_owned(), alias })
}

/// 16 lower-case hexadecimal digits at the start of `text`, and what follows them.
pub(super) fn hex16(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at_checked(16)?;
    if !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    Some((u64::from_str_radix(digits, 16).ok()?, rest))
}

/// `START-END` at the start of `text`, and what follows.
pub(super) fn span(text: &str) -> Option<(u64, u64, &str)> {
    let (start, rest) = hex16(text)?;
    let (end, rest) = hex16(rest.strip_prefix('-')?)?;
    Some((start, end, rest))
}

/// `START-END (prio N, [nv-]TYPE): ` at the start of `text`, and what follows: a name at least.
fn parse_head(text: &str) -> Result<(Head, &str), ParseReason> {
    let (start, end, rest) = span(text).ok_or_else(|| ParseReason::Addresses { text: shown(text) })?;
    let attributes = |rest: &str| -> Option<(i32, bool, TypeText, usize)> {
        let inner = rest.strip_prefix(" (prio ")?;
        let (priority, inner) = inner.split_once(", ")?;
        let (word, name) = inner.split_once("): ")?;
        let nonvolatile = word.starts_with("nv-");
        let kind = TypeText::from_word(word.strip_prefix("nv-").unwrap_or(word))?;
        Some((priority.parse().ok()?, nonvolatile, kind, name.len()))
    };
    let (priority, nonvolatile, kind, left) =
        attributes(rest).ok_or_else(|| ParseReason::Attributes { text: shown(text) })?;
    let name = rest.len().checked_sub(left).and_then(|at| rest.get(at..)).unwrap_or_default();
    Ok((Head { start, end, priority, nonvolatile, kind }, name))
}

/// Takes `orphan`, `owner:{…}` and `parent:{…}` off the end of `text`.
fn split_owner(text: &str) -> (&str, OwnerText) {
    let mut owner = OwnerText::default();
    if let Some(rest) = text.strip_suffix(" orphan") {
        owner.orphan = true;
        return (rest, owner);
    }
    let mut rest = text;
    for (key, slot) in [(" parent:{", &mut owner.parent), (" owner:{", &mut owner.owner)] {
        if let Some(inner) = rest.strip_suffix('}')
            && let Some((head, inner)) = inner.rsplit_once(key)
        {
            rest = head;
            *slot = Some(inner.to_owned());
        }
    }
    (rest, owner)
}

/// `alias NAME @TARGET START-END`.
fn parse_alias(text: &str) -> Option<(&str, AliasText)> {
    let rest = text.strip_prefix("alias ")?;
    let (names, range) = rest.rsplit_once(' ')?;
    let (start, end, "") = span(range)? else { return None };
    let (name, target) = names.rsplit_once(" @")?;
    Some((name, AliasText { target: target.to_owned(), start, end }))
}

/// One line of a tree, without its line number.
fn parse_tree_line(line: &str) -> Result<TreeLine, ParseReason> {
    let (overflow, line) = match line.strip_prefix("[DETECTED OVERFLOW!] ") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let text = line.trim_start_matches(' ');
    let blanks = line.len() - text.len();
    let (head, rest) = match parse_head(text) {
        // Anything unindented that does not look like a region at all is a stray line.
        Err(ParseReason::Addresses { .. }) if blanks == 0 => {
            return Err(ParseReason::Unexpected { text: shown(text) });
        }
        other => other?,
    };
    if blanks < 2 || !blanks.is_multiple_of(2) {
        return Err(ParseReason::Indentation { blanks });
    }
    let (rest, owner) = split_owner(rest);
    let (rest, disabled) = match rest.strip_suffix(" [disabled]") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (name, alias) = match parse_alias(rest) {
        Some((name, alias)) => (name, Some(alias)),
        None => (rest, None),
    };
    Ok(TreeLine { line: 0, overflow, depth: blanks / 2, head, name: name.to_owned(), alias, disabled, owner })
}

/// One range of a flat view, without its line number.
fn parse_range_line(line: &str) -> Result<RangeLine, ParseReason> {
    let (head, mut rest) = parse_head(line.trim_start_matches(' '))?;
    if head.end < head.start {
        return Err(ParseReason::Backwards { start: head.start, end: head.end });
    }
    let mut kvm = 0;
    while let Some(left) = rest.strip_suffix(" KVM") {
        rest = left;
        kvm += 1;
    }
    let (rest, owner) = split_owner(rest);
    let (name, offset) = match rest.rsplit_once(" @") {
        Some((name, digits)) => match hex16(digits) {
            Some((offset, "")) if offset != 0 => (name, offset),
            _ => (rest, 0),
        },
        None => (rest, 0),
    };
    Ok(RangeLine { line: 0, head, name: name.to_owned(), offset, owner, kvm })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> ParseError {
        Document::parse("board.txt", text.as_bytes()).unwrap_err()
    }

    fn round(text: &str) -> Document {
        let document = Document::parse("board.txt", text.as_bytes()).unwrap();
        assert_eq!(document.to_string(), text);
        document
    }

    const TREE: &str = "address-space: cpu-memory-0\naddress-space: memory\n  \
        0000000000000000-ffffffffffffffff (prio -1, i/o): system parent:{obj path=/machine/unattached}\n      \
        0000000000001000-0000000000001fff (prio 0, nv-ram): a name with blanks orphan\n\
        [DETECTED OVERFLOW!]     ffffffffffffff00-0000000000000010 (prio 0, rom): alias w @x @y 0000000000000000-00000000000000ff \
        [disabled] owner:{dev path=/machine/raven} parent:{obj path=/x}\n\n\
        memory-region: y\n  0000000000000000-0000000000000000 (prio 0, container): y\n\n";

    const FLAT: &str = "FlatView #12\n AS \"m\"1\", root: a, b, alias c\n Root memory region: (none)\n  \
        No rendered FlatView\n\nFlatView #13\n AS \"x\", root: y\n Root memory region: y\n  \
        0000000000000000-00000000000000ff (prio 0, nv-ram): r @s @0000000000000100 owner:{dev id=d} KVM KVM\n  \
        Dispatch\n    Physical sections\n      #0 @0000000000000000..ffffffffffffffff (noname) [unassigned]\n\
        \t  0       skip=3  ptr=[3]\n\n";

    #[test]
    fn every_part_of_a_tree_line_is_read_and_printed_back() {
        let document = round(TREE);
        let Body::Spaces { names, lines } = &document.blocks[0].body else { panic!("not spaces") };
        assert_eq!(names, &["cpu-memory-0", "memory"]);
        assert_eq!((lines[0].depth, lines[1].depth, lines[2].depth), (1, 3, 2));
        assert_eq!(lines[0].head.priority, -1);
        assert_eq!(lines[0].owner.parent.as_deref(), Some("obj path=/machine/unattached"));
        assert_eq!(lines[1].name, "a name with blanks");
        assert!(lines[1].head.nonvolatile && lines[1].owner.orphan);
        assert!(lines[2].overflow && lines[2].disabled);
        assert_eq!(lines[2].name, "w @x");
        assert_eq!(lines[2].alias.as_ref().unwrap().target, "y");
        assert_eq!(lines[2].owner.owner.as_deref(), Some("dev path=/machine/raven"));
    }

    #[test]
    fn every_part_of_a_flat_view_is_read_and_printed_back() {
        let document = round(FLAT);
        let views: Vec<&ViewText> = document.views().collect();
        assert_eq!(views[0].root, None);
        assert_eq!(views[0].spaces[0].alias.as_deref(), Some("c"));
        let range = &views[1].ranges[0];
        assert_eq!((range.name.as_str(), range.offset, range.kvm), ("r @s", 0x100, 2));
        assert_eq!(views[1].dispatch.as_ref().unwrap().len(), 3);
    }

    #[test]
    fn line_ends_blank_lines_and_a_missing_last_line_end_are_kept() {
        round("");
        round("\n\n");
        round(&TREE.replace('\n', "\r\n"));
        round(TREE.trim_end());
        round(&TREE.replace("\n\n", "\n\n\n"));
        round(&TREE.replace("\n\n", "\n"));
    }

    #[test]
    fn malformed_lines_are_named_by_file_line_and_reason() {
        let line = |rest: &str| format!("address-space: a\n{rest}\n");
        let cases = [
            ("(qemu) info mtree\n".to_owned(), 1, "Unexpected line '(qemu) info mtree'"),
            (
                "  0000000000000000-0000000000000000 (prio 0, ram): r\n".to_owned(),
                1,
                "Region line before any",
            ),
            (line("   0000000000000000-0000000000000000 (prio 0, ram): r"), 2, "Indented by 3 blanks"),
            (line("0000000000000000-0000000000000000 (prio 0, ram): r"), 2, "Indented by 0 blanks"),
            (line("  000000000000000-0000000000000000 (prio 0, ram): r"), 2, "Expected START-END"),
            (line("  000000000000000A-0000000000000000 (prio 0, ram): r"), 2, "Expected START-END"),
            (
                line("  0000000000000000-0000000000000000 (prio x, ram): r"),
                2,
                "Expected '(prio N, TYPE): NAME'",
            ),
            (
                line("  0000000000000000-0000000000000000 (prio 0, mem): r"),
                2,
                "Expected '(prio N, TYPE): NAME'",
            ),
            (line("  0000000000000000-0000000000000000 (prio 99999999999, ram): r"), 2, "Expected '(prio"),
            (line("  0000000000000000-0000000000000000 (prio +1, ram): r"), 2, "Not as QEMU prints it"),
            (
                line("  0000000000000000-0000000000000000 (prio 0, ram): r\u{1b}[2J"),
                2,
                "Control character 0x1b",
            ),
            (line("  0000000000000000-0000000000000000 (prio 0, ram): r\r"), 2, "Control character 0x0d"),
            (
                line(
                    "  0000000000000000-00000000000000ff (prio 0, i/o): r\n  0000000000000000-00000000000000ff (prio 0, i/o): s",
                ),
                3,
                "A second root",
            ),
            ("FlatView #x\n".to_owned(), 1, "Unexpected line 'FlatView #x'"),
            (
                "FlatView #0\n AS \"a\", root: b\n\n".to_owned(),
                3,
                "FlatView #0 has no 'Root memory region: NAME' line",
            ),
            (
                "FlatView #0\n Root memory region: b\n".to_owned(),
                2,
                "FlatView #0 has no 'No rendered FlatView' line",
            ),
            (
                "FlatView #0\n Root memory region: b\n  00000000000000ff-0000000000000000 (prio 0, ram): r\n"
                    .to_owned(),
                3,
                "The range ends at 0x0, before its start at 0xff",
            ),
            (
                "address-space: a\r\naddress-space: b\n".to_owned(),
                2,
                "Ends in LF where the first line ends in CR LF",
            ),
        ];
        for (text, line, reason) in cases {
            let error = error(&text);
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.to_string().starts_with(&format!("board.txt:{line}: {reason}")), "{text}: {error}");
        }
        let error = Document::parse("x", b"address-space: \xff\n").unwrap_err();
        assert_eq!((error.line, error.reason), (1, ParseReason::NotUtf8));
    }
}
