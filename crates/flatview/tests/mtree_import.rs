//! From texts of `info mtree` to memories: identity, ties, answers, and texts that cannot be.

#![expect(clippy::unwrap_used, reason = "a failed test is what a panic is for")]

use std::path::{Path, PathBuf};

use flatview::mtree::{
    Answers, Document, Imported, MtreeError, Options, ParseReason, answer_at, import, read_answers,
    read_document, read_tree, write,
};

const TREE: Options = Options { flat: false, dispatch: false, owner: false, disabled: false };
const FLAT: Options = Options { flat: true, ..TREE };

fn parse(text: &str) -> Document {
    Document::parse("board.txt", text.as_bytes()).unwrap()
}

fn imported(text: &str) -> Imported {
    import(&parse(text), None).unwrap()
}

fn flat(imported: &Imported) -> String {
    write(&imported.memory, FLAT).unwrap().to_string()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mtree").join(name)
}

fn set(document: &Document) -> Vec<String> {
    let mut blocks = document.block_texts();
    blocks.sort();
    blocks
}

/// A tree line.
fn line(depth: usize, start: u64, end: u64, rest: &str) -> String {
    let (attributes, name) = rest.split_once(": ").unwrap();
    format!("{}{start:016x}-{end:016x} ({attributes}): {name}\n", "  ".repeat(depth))
}

fn space(lines: &[String]) -> String {
    format!("address-space: s\n{}\n", lines.concat())
}

#[test]
fn a_region_printed_in_several_blocks_is_one_region() {
    let text = "address-space: memory
  0000000000000000-ffffffffffffffff (prio 0, i/o): system
    0000000000001000-0000000000001fff (prio 0, i/o): bus
      0000000000001010-000000000000101f (prio 0, i/o): uart
    0000000000008000-0000000000008fff (prio 0, i/o): alias window @bus 0000000000000000-0000000000000fff

address-space: bus
  0000000000001000-0000000000001fff (prio 0, i/o): bus
    0000000000001010-000000000000101f (prio 0, i/o): uart

memory-region: bus
  0000000000001000-0000000000001fff (prio 0, i/o): bus
    0000000000001010-000000000000101f (prio 0, i/o): uart

";
    let imported = imported(text);
    assert_eq!(imported.regions.len(), 4);
    for (one, other) in [(3, 8), (3, 12), (4, 9), (4, 13)] {
        assert_eq!(imported.region_at_line(one), imported.region_at_line(other));
    }
    assert_eq!(imported.region_at_line(6), None);
    let bus = imported.memory.region(imported.region_at_line(3).unwrap()).unwrap();
    assert_eq!((bus.addr, bus.container), (0x1000, imported.region_at_line(2)));
    // A root stands at its own address in its own space.
    assert!(flat(&imported).contains("  0000000000001010-000000000000101f (prio 0, i/o): uart\n"));
    assert_eq!(write(&imported.memory, TREE).unwrap().to_string(), text);
}

#[test]
fn equal_roots_of_two_spaces_are_two_regions() {
    let block = |name| {
        format!("address-space: {name}\n  0000000000000000-ffffffffffffffff (prio 0, i/o): bus master\n\n")
    };
    let text = block("nic") + &block("disk");
    let imported = imported(&text);
    assert_ne!(imported.region_at_line(2), imported.region_at_line(5));
    assert_eq!(write(&imported.memory, TREE).unwrap().to_string(), text);
}

#[test]
fn targets_of_one_name_are_told_apart_by_the_order_in_which_they_are_printed() {
    let text = "address-space: s
  0000000000000000-000000000000ffff (prio 0, i/o): root
    0000000000000000-00000000000000ff (prio 0, ram): alias a7 @timer 0000000000000000-00000000000000ff
    0000000000000100-00000000000001ff (prio 0, ram): alias other @other 0000000000000000-00000000000000ff
    0000000000000200-00000000000002ff (prio 0, ram): alias a7 @timer 0000000000000000-00000000000000ff
    0000000000000300-00000000000003ff (prio 0, ram): alias p4 @timer 0000000000000000-00000000000000ff
    0000000000000400-00000000000004ff (prio 0, ram): alias p4 @timer 0000000000000000-00000000000000ff

memory-region: timer
  0000000000000000-00000000000000ff (prio 0, ram): timer

memory-region: other
  0000000000000000-00000000000000ff (prio 0, ram): other

memory-region: timer
  0000000000000000-00000000000000ff (prio 0, ram): timer

";
    let imported = imported(text);
    let target = |line| {
        let id = imported.region_at_line(line).unwrap();
        imported.memory.region(id).unwrap().alias.unwrap().0
    };
    let (first, second) = (imported.region_at_line(10).unwrap(), imported.region_at_line(16).unwrap());
    assert_ne!(first, second);
    assert_eq!([3, 5, 6, 7].map(target), [first, second, first, second]);
    assert_eq!(write(&imported.memory, TREE).unwrap().to_string(), text);
}

#[test]
fn lines_two_levels_deeper_or_out_of_order_hang_in_a_hidden_disabled_region() {
    let deeper = space(&[
        line(1, 0, 0xffff, "prio 0, i/o: root"),
        line(3, 0x40, 0x4f, "prio 0, ram: off"),
        line(2, 0x100, 0x1ff, "prio 0, i/o: on"),
        line(3, 0x180, 0x18f, "prio 0, ram: inner"),
        // Starts before `inner`: QEMU would have printed it first if it stood in `on`.
        line(3, 0x120, 0x12f, "prio 0, ram: out of order"),
        line(2, 0x200, 0x2ff, "prio 0, ram: last"),
    ]);
    let imported = imported(&deeper);
    assert_eq!(
        flat(&imported).lines().skip(3).collect::<Vec<_>>(),
        [
            "  0000000000000180-000000000000018f (prio 0, ram): inner",
            "  0000000000000200-00000000000002ff (prio 0, ram): last",
            ""
        ]
    );
    assert_eq!(write(&imported.memory, TREE).unwrap().to_string(), deeper);
    let shown = write(&imported.memory, Options { disabled: true, ..TREE }).unwrap().to_string();
    assert_eq!(shown.matches(" (hidden) [disabled]\n").count(), 2, "{shown}");
}

#[test]
fn the_target_of_a_hidden_alias_is_kept() {
    let text = "address-space: s
  0000000000000000-ffffffffffffffff (prio 0, i/o): root

memory-region: vram
  0000000000000000-0000000000000fff (prio 0, ram): vram

";
    let imported = imported(text);
    assert_eq!(write(&imported.memory, TREE).unwrap().to_string(), text);
    assert!(flat(&imported).contains("No rendered FlatView"));
}

#[test]
fn without_answers_the_first_printed_wins_and_childless_io_answers() {
    let text = space(&[
        line(1, 0, u64::MAX, "prio 0, i/o: root"),
        line(2, 0, 0xff, "prio 0, i/o: first"),
        line(2, 0x80, 0x17f, "prio 0, i/o: second"),
        line(2, 0x1000, 0x1fff, "prio 0, i/o: container"),
        line(3, 0x1000, 0x100f, "prio 0, i/o: leaf"),
    ]);
    let flat = flat(&imported(&text));
    assert!(flat.contains("  0000000000000000-00000000000000ff (prio 0, i/o): first\n"), "{flat}");
    assert!(
        flat.contains("  0000000000000100-000000000000017f (prio 0, i/o): second @0000000000000080\n"),
        "{flat}"
    );
    assert!(flat.contains("  0000000000001000-000000000000100f (prio 0, i/o): leaf\n\n"), "{flat}");
}

#[test]
fn answers_say_who_answers_and_who_wins_and_nothing_else() {
    let text = space(&[
        line(1, 0, u64::MAX, "prio 0, i/o: root"),
        line(2, 0, 0xff, "prio 0, i/o: first"),
        line(2, 0x80, 0x17f, "prio 0, i/o: second"),
        line(2, 0x1000, 0x1fff, "prio 0, i/o: device"),
        line(3, 0x1000, 0x100f, "prio 0, i/o: leaf"),
        line(2, 0x2000, 0x2fff, "prio 0, i/o: empty"),
    ]);
    let list = "answers
 AS \"s\", root: root
  answers: device
  answers: first
  answers: leaf
  answers: second
  tie in: root
    wins: 0000000000000080-000000000000017f second
    over: 0000000000000000-00000000000000ff first
";
    let answers = Answers::parse("list", list.as_bytes()).unwrap();
    assert_eq!(answers.to_string(), list);
    let tree = parse(&text);
    let imported = import(&tree, Some(&answers)).unwrap();
    let derived = write(&imported.memory, FLAT).unwrap();
    assert_eq!(
        derived.to_string(),
        "FlatView #0
 AS \"s\", root: root
 Root memory region: root
  0000000000000000-000000000000007f (prio 0, i/o): first
  0000000000000080-000000000000017f (prio 0, i/o): second
  0000000000001000-000000000000100f (prio 0, i/o): leaf
  0000000000001010-0000000000001fff (prio 0, i/o): device @0000000000000010

"
    );
    // And that list is what the views teach.
    assert_eq!(Answers::learn(&tree, &derived).unwrap(), answers);
}

#[test]
fn boards_whose_ties_the_later_one_wins_are_learned() {
    for board in ["mips-mipssim", "ppc-mac99"] {
        let tree = read_tree(&file(&format!("{board}.tree"))).unwrap();
        let answers = read_answers(&file(&format!("{board}.flat")), &tree).unwrap();
        assert!(answers.spaces.values().any(|s| !s.ties.is_empty()), "{board}: {answers}");
        let derived = write(&import(&tree, Some(&answers)).unwrap().memory, FLAT).unwrap();
        let flat = read_document(&file(&format!("{board}.flat"))).unwrap();
        assert_eq!(set(&derived), set(&flat), "{board}");
        let guessed = write(&import(&tree, None).unwrap().memory, FLAT).unwrap();
        assert_ne!(set(&guessed), set(&flat), "{board}: the answers made no difference");
    }
}

#[test]
fn owners_and_disabled_regions_survive_in_every_form() {
    let tree = read_tree(&file("ppc-40p-bare.tree-o-D")).unwrap();
    let flat = read_document(&file("ppc-40p-bare.flat-o")).unwrap();
    let imported = import(&tree, Some(&Answers::learn(&tree, &flat).unwrap())).unwrap();
    let both = Options { owner: true, disabled: true, ..TREE };
    assert_eq!(set(&write(&imported.memory, both).unwrap()), set(&tree));
    assert_eq!(set(&write(&imported.memory, Options { owner: true, ..FLAT }).unwrap()), set(&flat));
}

#[test]
fn answers_of_another_machine_leave_spaces_unanswered() {
    let tree = read_tree(&file("mips-mipssim.tree")).unwrap();
    let answers = read_answers(&file("ppc-mac99.flat"), &tree).unwrap();
    let none = Answers::default();
    let with = |answers| import(&tree, answers).unwrap().unanswered;
    assert_eq!(with(Some(&none)), ["I/O", "cpu-memory-0", "memory"]);
    assert_eq!(with(Some(&answers)), Vec::<String>::new(), "both have spaces of these names");
    assert_eq!(with(None), Vec::<String>::new());
}

#[test]
fn qemus_dispatch_section_is_kept_as_it_stands() {
    let path = file("ppc-40p-bare.flat-d");
    let document = read_document(&path).unwrap();
    assert_eq!(document.to_string(), std::fs::read_to_string(path).unwrap());
    assert_eq!(document.views().filter(|v| v.dispatch.is_some()).count(), 4);
}

#[test]
fn an_address_is_answered_in_every_space_of_the_name() {
    let tree = read_tree(&file("ppc-40p-bare.tree-o-D")).unwrap();
    let answers = read_answers(&file("ppc-40p-bare.flat-o"), &tree).unwrap();
    let memory = import(&tree, Some(&answers)).unwrap().memory;
    let at = |space, address| {
        let found = answer_at(&memory, space, address).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        at(Some("raven-io"), 0x8000_0071),
        ["AS \"raven-io\": 0000000080000071 (prio 0, i/o): rtc @0000000000000001"]
    );
    assert_eq!(
        at(None, 0xfff0_0100),
        ["AS \"memory\": 00000000fff00100 (prio 0, rom): bios @0000000000000100"]
    );
    assert_eq!(at(None, 0xe000_0000), ["AS \"memory\": 00000000e0000000 (unassigned)"]);
    let error = answer_at(&memory, Some("memroy"), 0).unwrap_err().to_string();
    assert!(error.starts_with("No address space 'memroy'; there are: I/O, cpu-memory-0, "), "{error}");
}

#[test]
fn texts_that_cannot_be_are_refused_by_file_line_and_name() {
    let alias =
        |name: &str, target: &str| format!("prio 0, ram: alias {name} @{target} {0:016x}-{0:016x}", 0);
    let unknown = space(&[line(1, 0, 0xff, "prio 0, i/o: root"), line(2, 0, 0, &alias("a", "b"))]);
    let circle = format!(
        "{}memory-region: a\n{}\nmemory-region: b\n{}\n",
        space(&[line(1, 0, 0xff, "prio 0, i/o: root"), line(2, 0, 0, &alias("a", "b"))]),
        line(1, 0, 0, &alias("a", "b")),
        line(1, 0, 0, &alias("b", "a"))
    );
    let flat = "FlatView #0\n Root memory region: (none)\n  No rendered FlatView\n\n";
    let refused = |text: &str| import(&parse(text), None).unwrap_err();
    assert!(matches!(refused(&unknown), MtreeError::NoTarget { line: 3, .. }));
    assert!(matches!(refused(&circle), MtreeError::AliasCycle { .. }), "{}", refused(&circle));
    assert!(matches!(refused(&format!("\n{flat}")), MtreeError::NotATree { line: 2, .. }));
    for (error, start) in [
        (refused(&unknown), "board.txt:3: Alias 'a' leads to 'b', which is not in the text"),
        (refused(&circle), "board.txt:"),
        (Answers::learn_names(&parse(&unknown)).unwrap_err(), "board.txt:1: A tree does not say who answers"),
        (read_tree(Path::new("no/such/file")).unwrap_err(), "Cannot read 'no/such/file': "),
    ] {
        assert!(error.to_string().starts_with(start), "{error}");
    }
    // An alias that shows itself for ever is the library's to refuse; here it is named with its line.
    let deep = "address-space: s
  0000000000000000-00000000ffffffff (prio 0, i/o): root
    0000000000000010-00000000ffffffff (prio 0, i/o): alias again @root 0000000000000000-00000000ffffffef

memory-region: root
  0000000000000000-00000000ffffffff (prio 0, i/o): root
    0000000000000010-00000000ffffffff (prio 0, i/o): alias again @root 0000000000000000-00000000ffffffef

";
    let nested: Vec<String> = (1..1500).map(|depth| line(depth, 0, 0xffff, "prio 0, i/o: nested")).collect();
    let error = refused(&space(&nested)).to_string();
    assert!(
        error.starts_with("board.txt:1: 's': The map under 'nested' nests deeper than 1024 levels"),
        "{error}"
    );
    let error = refused(deep).to_string();
    assert!(error.starts_with("board.txt:1: 's': "), "{error}");
}

#[test]
fn malformed_lists_of_answers_are_named_by_line_and_reason() {
    let cases = [
        ("answer\n", 1),
        ("answers\n  answers: x\n", 2),
        ("answers\n AS \"s\", root: r\n  answered: x\n", 3),
        ("answers\n AS \"s\", root: r\n  tie in: r\n    over: 0000000000000000-0000000000000000 x\n", 4),
        ("answers\n AS \"s\", root: r\n  tie in: r\n    wins: 0-1 x\n", 4),
        ("answers\n AS \"s\", root: r\n  tie in: r\n", 3),
        ("answers\n AS \"s\", root: r\n  tie in: r\n    wins: 0000000000000000-0000000000000000 x\n", 4),
    ];
    for (text, line) in cases {
        let error = Answers::parse("list", text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(!matches!(error.reason, ParseReason::NotUtf8));
    }
}

#[test]
fn a_large_text_takes_time_in_proportion() {
    let mut lines = vec![line(1, 0, u64::MAX, "prio 0, i/o: root")];
    for n in 0..20_000u64 {
        lines.push(line(2, n << 12, (n << 12) | 0xfff, "prio 0, i/o: device"));
        lines.push(line(3, n << 12, (n << 12) | 0xf, "prio 0, i/o: registers"));
    }
    let mut text = space(&lines);
    for n in 0..2_000 {
        text.push_str(&format!(
            "address-space: bm{n}\n{}\n",
            line(1, 0, u64::MAX, "prio 0, i/o: bus master")
        ));
    }
    let started = std::time::Instant::now();
    let imported = imported(&text);
    assert_eq!(write(&imported.memory, TREE).unwrap().to_string(), text);
    assert_eq!(imported.memory.spaces().len(), 2_001);
    let named_alike = |n: u64| {
        let rest = "prio 0, ram: alias a @x 0000000000000000-000000000000000f";
        let mut text = space(
            &std::iter::once(line(1, 0, u64::MAX, "prio 0, i/o: root"))
                .chain((0..n).map(|i| line(2, i << 4, (i << 4) | 15, rest)))
                .collect::<Vec<_>>(),
        );
        for _ in 0..n {
            text.push_str(&format!("memory-region: x\n{}\n", line(1, 0, 15, "prio 0, ram: x")));
        }
        text
    };
    let text = named_alike(2_000);
    assert_eq!(write(&self::imported(&text).memory, TREE).unwrap().to_string(), text);
    // Hidden regions as far as the eye can see: each second line breaks the order.
    let mut lines = vec![line(1, 0, u64::MAX, "prio 0, i/o: root")];
    for n in 0..5_000u64 {
        lines.push(line(3, 0x10000 - n, 0x20000, "prio 0, i/o: device"));
    }
    self::imported(&space(&lines));
    // Quadratic work would take minutes.
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}
