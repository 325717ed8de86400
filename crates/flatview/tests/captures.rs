//! What QEMU 7.2 printed for 147 machines, read, derived, changed and printed back.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what a panic is for")]

use std::path::{Path, PathBuf};

use flatview::mtree::{Answers, Document, Imported, Options, import, write};
use flatview::visibility::who_answers;
use flatview::{Memory, RegionId, RegionInfo};

const BOARDS: usize = 147;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures")
}

fn boards() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "tree"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names.len(), BOARDS, "captures are missing from {}", folder().display());
    names
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn document(name: &str) -> Document {
    Document::parse(name, &bytes(name)).unwrap()
}

/// Blocks as a set: QEMU prints them in the order of a hash table. Blocks may repeat, so none is dropped.
fn set(document: &Document) -> Vec<String> {
    let mut blocks = document.block_texts();
    blocks.sort();
    blocks
}

fn assert_same_blocks(name: &str, got: &Document, want: &Document) {
    let (got, want) = (set(got), set(want));
    let missing: Vec<_> = want.iter().filter(|b| !got.contains(b)).cloned().collect();
    let extra: Vec<_> = got.iter().filter(|b| !want.contains(b)).cloned().collect();
    assert!(got == want, "{name}: missing\n{}\nextra\n{}", missing.join("\n"), extra.join("\n"));
}

const TREE: Options = Options { flat: false, dispatch: false, owner: false, disabled: false };
const FLAT: Options = Options { flat: true, ..TREE };

fn derived(board: &str) -> Imported {
    let tree = document(&format!("{board}.tree"));
    let flat = document(&format!("{board}.flat"));
    let learned = Answers::learn(&tree, &flat).unwrap();
    // What the import gets has been through its printed form, so nothing but what is printed can get across.
    let answers = Answers::parse("answers", learned.to_string().as_bytes()).unwrap();
    assert_eq!(answers, learned, "{board}");
    import(&tree, Some(&answers)).unwrap()
}

#[test]
fn every_capture_prints_back_identically() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !["tree", "flat", "owner", "disabled"].contains(&kind) {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let document = Document::parse(&path.display().to_string(), &bytes).unwrap();
        assert!(document.to_string().as_bytes() == bytes, "{} differs", path.display());
        count += 1;
    }
    assert_eq!(count, 2 * BOARDS + 4);
}

#[test]
fn flat_views_derived_from_tree_and_answers_are_qemus() {
    for board in boards() {
        let imported = derived(&board);
        let got = write(&imported.memory, FLAT).unwrap();
        assert_same_blocks(&board, &got, &document(&format!("{board}.flat")));
    }
}

#[test]
fn the_tree_printed_from_the_memory_has_the_blocks_it_was_read_from() {
    for board in boards() {
        let tree = document(&format!("{board}.tree"));
        for answers in [None, Some(Answers::default())] {
            let imported = import(&tree, answers.as_ref()).unwrap();
            assert_same_blocks(&board, &write(&imported.memory, TREE).unwrap(), &tree);
        }
        assert_same_blocks(&board, &write(&derived(&board).memory, TREE).unwrap(), &tree);
    }
    for board in ["ppc-40p", "mips-malta"] {
        let owner = document(&format!("{board}.owner"));
        let imported = import(&owner, None).unwrap();
        let with_owner = Options { owner: true, ..TREE };
        assert_same_blocks(board, &write(&imported.memory, with_owner).unwrap(), &owner);

        let disabled = document(&format!("{board}.disabled"));
        let imported = import(&disabled, None).unwrap();
        let with_disabled = Options { disabled: true, ..TREE };
        assert_same_blocks(board, &write(&imported.memory, with_disabled).unwrap(), &disabled);
        // The same tree without -D, disabled lines hidden again.
        assert_same_blocks(
            board,
            &write(&imported.memory, TREE).unwrap(),
            &document(&format!("{board}.tree")),
        );
    }
}

#[test]
fn the_only_tie_that_the_one_printed_first_does_not_win_is_on_the_40p() {
    for board in boards() {
        let answers =
            Answers::learn(&document(&format!("{board}.tree")), &document(&format!("{board}.flat"))).unwrap();
        let ties: Vec<_> = answers.spaces.values().flat_map(|s| &s.ties).collect();
        if board == "ppc-40p" {
            // Learned in both spaces that see the ports.
            assert_eq!(ties.len(), 2, "{answers}");
            for tie in ties {
                assert_eq!(tie.container, "pci-io");
                assert_eq!((tie.winner.start, tie.winner.name.as_str()), (0x489, "dma-pageh"));
                assert_eq!((tie.loser.start, tie.loser.name.as_str()), (0x487, "dma-pageh"));
            }
        } else {
            assert!(ties.is_empty(), "{board}: {answers}");
        }
    }
}

/// Set `FLATVIEW_SEED` to try another run, or to repeat one that failed.
fn seed() -> u64 {
    std::env::var("FLATVIEW_SEED").ok().map_or(7, |s| s.parse().unwrap())
}

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// One change of a random region; `false` if the library refuses it (which changes nothing).
fn mutate(imported: &Imported, random: &mut Random) -> (String, bool) {
    let memory = &imported.memory;
    let info = |id| memory.region(id).unwrap();
    let all = &imported.regions;
    let wanted = random.below(5);
    let fits = |i: &RegionInfo| match wanted {
        0 | 3 => i.container.is_some(),
        4 => i.alias.is_some(),
        _ => true,
    };
    let candidates: Vec<RegionId> = all.iter().copied().filter(|id| fits(&info(*id))).collect();
    if candidates.is_empty() {
        return ("nothing to change".into(), false);
    }
    let region = info(random.pick(&candidates));
    let id = region.id;
    let small = random.next() % 0x3000;
    let (what, result) = match wanted {
        0 => {
            let to = match random.below(3) {
                0 => region.addr.wrapping_add(small),
                1 => region.addr.saturating_sub(small),
                // Onto a sibling.
                _ => {
                    let siblings = memory.children(region.container.unwrap()).unwrap();
                    info(random.pick(&siblings)).addr
                }
            };
            (format!("move to {to:#x}"), memory.update(|t| t.set_address(id, to)))
        }
        1 => {
            let sizes = [region.size / 2, region.size * 2, region.size + u128::from(small), 1, 0, 1 << 64];
            let to = random.pick(&sizes).min(1 << 64);
            (format!("resize to {to:#x}"), memory.update(|t| t.set_size(id, to)))
        }
        2 => (format!("enable {}", !region.enabled), memory.update(|t| t.set_enabled(id, !region.enabled))),
        3 => {
            let to = random.pick(&[-10000, -1, 0, 1, 2, 10000, i32::MIN, i32::MAX]);
            (format!("priority {to}"), memory.update(|t| t.set_priority(id, to)))
        }
        _ => {
            let to = random.pick(all);
            let name = info(to).name;
            (format!("retarget to {name}"), memory.update(|t| t.set_alias_target(id, to)))
        }
    };
    (format!("{} '{}': {what}", info(id).priority, region.name), result.is_ok())
}

/// Every address at which an answer may change: around the ends of every range that any space shows.
fn probes(memory: &Memory) -> Vec<u64> {
    let mut probes = vec![0, u64::MAX];
    for space in memory.spaces() {
        for range in space.view().unwrap().ranges() {
            for edge in [range.start(), range.last()] {
                probes.extend([edge.wrapping_sub(1), edge, edge.wrapping_add(1)]);
            }
        }
    }
    probes.sort_unstable();
    probes.dedup();
    probes
}

fn assert_agrees_with_the_one_address_rule(memory: &Memory, probes: &[u64], what: &str) {
    for space in memory.spaces() {
        let view = space.view().unwrap();
        let root = space.root().unwrap();
        for &addr in probes {
            let got = view.lookup(addr).map(|r| (r.region(), r.offset() + (addr - r.start()), r.readonly()));
            let want = who_answers(memory, root, addr).unwrap();
            let want = want.map(|a| (a.region, a.offset, a.readonly));
            assert_eq!(got, want, "{what}: space '{}' at {addr:#x}", space.name());
        }
    }
}

#[test]
fn ten_random_changes_of_each_board_agree_with_the_one_address_rule() {
    let seed = seed();
    let mut refused = 0;
    for (number, board) in boards().iter().enumerate() {
        let imported = derived(board);
        let mut random = Random(seed ^ (u64::try_from(number).unwrap() << 32));
        let mut before = probes(&imported.memory);
        let mut done = 0;
        let mut log = format!("FLATVIEW_SEED={seed} {board}");
        for _ in 0..100 {
            let (what, changed) = mutate(&imported, &mut random);
            log.push_str("; ");
            log.push_str(&what);
            if !changed {
                refused += 1;
                continue;
            }
            // The edges of the map before the change, too: what went away must be gone.
            let after = probes(&imported.memory);
            before.extend(&after);
            before.sort_unstable();
            before.dedup();
            assert_agrees_with_the_one_address_rule(&imported.memory, &before, &log);
            before = after;
            done += 1;
            if done == 10 {
                break;
            }
        }
        assert_eq!(done, 10, "{log}: too few changes were possible");
    }
    println!("{refused} changes were refused");
}

#[test]
fn damaged_captures_never_panic_and_errors_name_the_line() {
    let seed = seed();
    let mut random = Random(seed);
    let boards = boards();
    let alphabet: &[u8] = b"\n\r\t \0@#-0f(),:z[]{}\"\xff\xc3";
    let mut failed = 0;
    for round in 0..3000 {
        let kind = random.pick(&["tree", "flat", "owner", "disabled"]);
        let board = if ["owner", "disabled"].contains(&kind) {
            random.pick(&["ppc-40p", "mips-malta"]).to_owned()
        } else {
            boards[random.below(boards.len())].clone()
        };
        let mut text = bytes(&format!("{board}.{kind}"));
        for _ in 0..=random.below(3) {
            let at = random.below(text.len());
            match random.below(5) {
                0 => text[at] = u8::try_from(random.next() & 0xff).unwrap(),
                1 => text[at] = alphabet[random.below(alphabet.len())],
                2 => drop(text.remove(at)),
                3 => text.insert(at, alphabet[random.below(alphabet.len())]),
                _ => {
                    let length = random.below(80).min(text.len() - at);
                    let part = text[at..at + length].to_vec();
                    let to = random.below(text.len());
                    text.splice(to..to, part);
                }
            }
        }
        let lines = text.split(|b| *b == b'\n').count();
        match Document::parse("damaged", &text) {
            Ok(document) => {
                assert!(
                    document.to_string().as_bytes() == text,
                    "FLATVIEW_SEED={seed} round {round}: printed back differently"
                );
                // Whatever can be read is imported or refused by name and line.
                if let Err(error) = import(&document, None) {
                    let message = error.to_string();
                    assert!(
                        message.contains("damaged:") || message.contains('\''),
                        "FLATVIEW_SEED={seed} round {round}: {message}"
                    );
                }
            }
            Err(error) => {
                failed += 1;
                assert!((1..=lines).contains(&error.line), "FLATVIEW_SEED={seed} round {round}: {error}");
                assert!(error.to_string().starts_with(&format!("damaged:{}: ", error.line)), "{error}");
            }
        }
    }
    assert!(failed > 1000, "the damage was too small: {failed}");
}
