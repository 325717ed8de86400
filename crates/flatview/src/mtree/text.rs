//! The text of `info mtree` and `info mtree -f` as data: what QEMU 7.2 prints, block by block and line by
//! line, with a [`Display`](fmt::Display) that prints it back to the byte.
//!
//! It is not a memory tree: two lines that are the same region in QEMU are two lines here, and nothing is
//! said about who answers where ([`import`](super::import) makes a [`Memory`](crate::Memory) of it).
//!
//! What must always hold: whatever [`Document::parse`] accepts prints back identically, blank lines and line
//! ends included; a [`Document`] made by [`write`](super::write) parses back to itself.

use std::fmt;

/// One text of `info mtree`: its blocks in the order in which they were printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// What messages call the place the text came from: a file name, mostly.
    pub source: String,
    /// Blank lines before the first block; QEMU prints none.
    pub leading_blank_lines: usize,
    /// The blocks, in printed order, which in QEMU is the order of a hash table.
    pub blocks: Vec<Block>,
    /// How lines end: a monitor on a terminal or socket sends CR LF, QMP's `human-monitor-command` LF.
    pub line_end: LineEnd,
    /// True if the text stops within a line, without the last line end.
    pub cut_short: bool,
}

/// How the lines of a [`Document`] end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnd {
    /// `\n`.
    #[default]
    Lf,
    /// `\r\n`.
    CrLf,
}

impl LineEnd {
    /// The characters themselves.
    pub fn as_str(self) -> &'static str {
        match self {
            LineEnd::Lf => "\n",
            LineEnd::CrLf => "\r\n",
        }
    }
}

/// One block, which QEMU ends with a blank line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Line number (from 1) of its first line in the text it was parsed from; 0 if it was not parsed.
    pub line: usize,
    /// What the block says.
    pub body: Body,
    /// Blank lines after it; QEMU prints one.
    pub blank_lines: usize,
}

/// What a [`Block`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `address-space: NAME` lines, one for each address space with this root, and the root's tree.
    Spaces {
        /// The names, in printed order: QEMU sorts them.
        names: Vec<String>,
        /// The tree.
        lines: Vec<TreeLine>,
    },
    /// `memory-region: NAME` and the tree of that region, which is the target of some alias.
    Region {
        /// The region's name.
        name: String,
        /// The tree.
        lines: Vec<TreeLine>,
    },
    /// `FlatView #N` of `info mtree -f`.
    View(ViewText),
}

impl Body {
    /// The tree lines of the block; none for a flat view.
    pub fn lines(&self) -> &[TreeLine] {
        match self {
            Body::Spaces { lines, .. } | Body::Region { lines, .. } => lines,
            Body::View(_) => &[],
        }
    }

    pub(super) fn lines_mut(&mut self) -> Option<&mut Vec<TreeLine>> {
        match self {
            Body::Spaces { lines, .. } | Body::Region { lines, .. } => Some(lines),
            Body::View(_) => None,
        }
    }
}

/// The type column, without `nv-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TypeText {
    /// `i/o`: MMIO, and in QEMU 7.2 every container too.
    Io,
    /// `ram`.
    Ram,
    /// `rom`.
    Rom,
    /// `romd`: a ROM device in ROM mode.
    Romd,
    /// `ramd`: a RAM device, such as a passed-through BAR.
    Ramd,
    /// `container`, which only QEMU after 7.2 prints.
    Container,
}

impl TypeText {
    /// The word QEMU prints.
    pub fn as_str(self) -> &'static str {
        match self {
            TypeText::Io => "i/o",
            TypeText::Ram => "ram",
            TypeText::Rom => "rom",
            TypeText::Romd => "romd",
            TypeText::Ramd => "ramd",
            TypeText::Container => "container",
        }
    }

    /// The type that QEMU prints as `word`.
    pub fn from_word(word: &str) -> Option<TypeText> {
        Some(match word {
            "i/o" => TypeText::Io,
            "ram" => TypeText::Ram,
            "rom" => TypeText::Rom,
            "romd" => TypeText::Romd,
            "ramd" => TypeText::Ramd,
            "container" => TypeText::Container,
            _ => return None,
        })
    }

    /// Whether the text leaves open if such a region answers accesses itself or is only a container.
    pub fn may_be_container(self) -> bool {
        matches!(self, TypeText::Io | TypeText::Container)
    }
}

impl fmt::Display for TypeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What tree lines and flat ranges have in common: `START-END (prio N, [nv-]TYPE): `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// First address, in bytes.
    pub start: u64,
    /// Last address, inclusive. A region of size 0 prints as one byte.
    pub end: u64,
    /// The region's priority in its container.
    pub priority: i32,
    /// `nv-`: the contents survive power loss.
    pub nonvolatile: bool,
    /// The type column.
    pub kind: TypeText,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nv = if self.nonvolatile { "nv-" } else { "" };
        let Head { start, end, priority, kind, .. } = self;
        write!(f, "{start:016x}-{end:016x} (prio {priority}, {nv}{kind}): ")
    }
}

/// One line of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeLine {
    /// Line number (from 1) in the text it was parsed from; 0 if it was not parsed.
    pub line: usize,
    /// `[DETECTED OVERFLOW!] `: the region wraps around the end of the addresses.
    pub overflow: bool,
    /// Level of indentation, two blanks each: a block's root is at 1, its children at 2. A disabled region
    /// whose line is hidden still counts.
    pub depth: usize,
    /// Addresses, priority and type. For an alias the type is that of the region at the end of its chain.
    pub head: Head,
    /// The region's name.
    pub name: String,
    /// Where it leads, if it is an alias.
    pub alias: Option<AliasText>,
    /// `[disabled]`, printed with `-D` only.
    pub disabled: bool,
    /// Owner and parent, printed with `-o` only.
    pub owner: OwnerText,
}

/// `alias NAME @TARGET START-END`: the part after the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AliasText {
    /// The target's name, which need not be unique.
    pub target: String,
    /// First address shown, counted from the target's start.
    pub start: u64,
    /// Last address shown; not clipped to the target.
    pub end: u64,
}

impl fmt::Display for TreeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.overflow {
            f.write_str("[DETECTED OVERFLOW!] ")?;
        }
        for _ in 0..self.depth {
            f.write_str("  ")?;
        }
        write!(f, "{}", self.head)?;
        match &self.alias {
            Some(AliasText { target, start, end }) => {
                write!(f, "alias {} @{target} {start:016x}-{end:016x}", self.name)?;
            }
            None => f.write_str(&self.name)?,
        }
        if self.disabled {
            f.write_str(" [disabled]")?;
        }
        write!(f, "{}", self.owner)
    }
}

/// What `-o` adds to a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerText {
    /// Inside of `owner:{…}`, such as `dev path=/machine/raven`.
    pub owner: Option<String>,
    /// Inside of `parent:{…}`, printed if it is another object than the owner.
    pub parent: Option<String>,
    /// ` orphan`: neither owner nor parent.
    pub orphan: bool,
}

impl fmt::Display for OwnerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.orphan {
            f.write_str(" orphan")?;
        }
        if let Some(owner) = &self.owner {
            write!(f, " owner:{{{owner}}}")?;
        }
        if let Some(parent) = &self.parent {
            write!(f, " parent:{{{parent}}}")?;
        }
        Ok(())
    }
}

/// One `FlatView #N` block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewText {
    /// N: counted from 0 in printed order.
    pub number: u64,
    /// The address spaces that see this view, in the order of their creation.
    pub spaces: Vec<ViewSpace>,
    /// The region it was rendered from; `None` prints as `(none)`.
    pub root: Option<String>,
    /// Its ranges, in address order; none prints as `No rendered FlatView`.
    pub ranges: Vec<RangeLine>,
    /// The lines below `Dispatch` as they stand, if `-d` was given.
    pub dispatch: Option<Vec<String>>,
}

/// ` AS "NAME", root: ROOT[, alias TARGET]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewSpace {
    /// The address space's name, which need not be unique.
    pub name: String,
    /// The name of the root region it was made with.
    pub root: String,
    /// The name of the root's target, if the root is an alias.
    pub alias: Option<String>,
}

impl fmt::Display for ViewSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " AS \"{}\", root: {}", self.name, self.root)?;
        match &self.alias {
            Some(alias) => write!(f, ", alias {alias}"),
            None => Ok(()),
        }
    }
}

/// One range of a flat view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeLine {
    /// Line number (from 1) in the text it was parsed from; 0 if it was not parsed.
    pub line: usize,
    /// Addresses, the answering region's own priority, and type: `rom` for whatever is read-only here.
    pub head: Head,
    /// The answering region's name.
    pub name: String,
    /// Where in the region the range starts; printed if not 0.
    pub offset: u64,
    /// Owner and parent, printed with `-o` only.
    pub owner: OwnerText,
    /// How many address spaces have exactly this range in a KVM memory slot: ` KVM` each.
    pub kvm: usize,
}

impl fmt::Display for RangeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}{}", self.head, self.name)?;
        if self.offset != 0 {
            write!(f, " @{:016x}", self.offset)?;
        }
        write!(f, "{}", self.owner)?;
        for _ in 0..self.kvm {
            f.write_str(" KVM")?;
        }
        Ok(())
    }
}

pub(super) const NO_VIEW: &str = "  No rendered FlatView";
pub(super) const DISPATCH: &str = "  Dispatch";

impl Document {
    /// Calls `emit` with every line of the text, without line ends.
    fn each_line(&self, emit: &mut dyn FnMut(fmt::Arguments<'_>) -> fmt::Result) -> fmt::Result {
        for _ in 0..self.leading_blank_lines {
            emit(format_args!(""))?;
        }
        for block in &self.blocks {
            match &block.body {
                Body::Spaces { names, lines } => {
                    for name in names {
                        emit(format_args!("address-space: {name}"))?;
                    }
                    for line in lines {
                        emit(format_args!("{line}"))?;
                    }
                }
                Body::Region { name, lines } => {
                    emit(format_args!("memory-region: {name}"))?;
                    for line in lines {
                        emit(format_args!("{line}"))?;
                    }
                }
                Body::View(view) => {
                    emit(format_args!("FlatView #{}", view.number))?;
                    for space in &view.spaces {
                        emit(format_args!("{space}"))?;
                    }
                    emit(format_args!(" Root memory region: {}", view.root.as_deref().unwrap_or("(none)")))?;
                    if view.ranges.is_empty() {
                        emit(format_args!("{NO_VIEW}"))?;
                    }
                    for range in &view.ranges {
                        emit(format_args!("{range}"))?;
                    }
                    if let Some(dispatch) = &view.dispatch {
                        emit(format_args!("{DISPATCH}"))?;
                        for line in dispatch {
                            emit(format_args!("{line}"))?;
                        }
                    }
                }
            }
            for _ in 0..block.blank_lines {
                emit(format_args!(""))?;
            }
        }
        Ok(())
    }

    /// The flat views in it, in printed order.
    pub fn views(&self) -> impl Iterator<Item = &ViewText> {
        self.blocks.iter().filter_map(|b| match &b.body {
            Body::View(view) => Some(view),
            _ => None,
        })
    }

    /// The text of each block without its blank lines. QEMU prints blocks in the order of a hash table, so two
    /// texts of one machine are compared as sets of these.
    pub fn block_texts(&self) -> Vec<String> {
        self.blocks
            .iter()
            .map(|block| {
                let mut body = block.body.clone();
                if let Body::View(view) = &mut body {
                    // Number and order of the spaces are the hash table's and the board's, not the map's.
                    view.number = 0;
                    view.spaces.sort();
                }
                let block = Block { line: 0, body, blank_lines: 0 };
                Document { blocks: vec![block], ..Document::default() }.to_string()
            })
            .collect()
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.line_end.as_str();
        let mut first = true;
        self.each_line(&mut |line| {
            if !first {
                f.write_str(end)?;
            }
            first = false;
            f.write_fmt(line)
        })?;
        if first || self.cut_short { Ok(()) } else { f.write_str(end) }
    }
}
