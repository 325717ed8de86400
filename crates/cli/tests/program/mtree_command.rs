//! `flatview mtree` over the captured maps of QEMU's machines.

use crate::driver::run;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn captures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../flatview/tests/captures")
}

pub(crate) fn capture(name: &str) -> String {
    captures().join(name).to_str().unwrap().to_owned()
}

/// The blocks of a text as a set, each without the number of its flat view and with its address spaces in one order:
/// QEMU prints both in the order of a hash table.
pub(crate) fn blocks(text: &str) -> BTreeSet<String> {
    let block = |block: &str| {
        let lines = block.lines().filter(|line| !line.starts_with("FlatView #"));
        let (mut spaces, rest): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with(" AS "));
        spaces.sort_unstable();
        [spaces, rest].concat().join("\n")
    };
    text.split("\n\n").map(block).filter(|block| !block.is_empty()).collect()
}

#[test]
fn a_capture_is_printed_back_byte_for_byte() {
    for name in ["ppc-40p.tree", "mips-malta.tree", "ppc-40p.flat"] {
        let said = run(&["mtree", &capture(name)], "");
        assert!(said.status.success() && said.err.is_empty(), "{name}: {}", said.err);
        assert_eq!(said.out, std::fs::read_to_string(capture(name)).unwrap(), "{name}");
    }
}

#[test]
fn flat_views_are_those_that_qemu_computed() {
    for name in ["mips-malta", "ppc-g3beige", "arm-nuri"] {
        let (tree, flat) = (capture(&format!("{name}.tree")), capture(&format!("{name}.flat")));
        let said = run(&["mtree", &tree, "--answers", &flat, "-f"], "");
        assert!(said.status.success(), "{name}: {}", said.err);
        let (ours, theirs) = (blocks(&said.out), blocks(&std::fs::read_to_string(&flat).unwrap()));
        let different: Vec<_> = ours.symmetric_difference(&theirs).collect();
        assert!(different.is_empty() && !ours.is_empty(), "{name}: {different:#?}");
    }
}

#[test]
fn a_list_of_answers_does_instead_of_the_flat_capture() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, flat) = (capture("mips-malta.tree"), capture("mips-malta.flat"));
    let list = run(&["mtree", &tree, "--answers", &flat, "--show-answers"], "");
    assert!(list.status.success() && !list.out.is_empty(), "{}", list.err);
    let file = folder.path().join("answers");
    std::fs::write(&file, &list.out).unwrap();
    let by_list = run(&["mtree", &tree, "--answers", file.to_str().unwrap(), "-f"], "");
    let by_flat = run(&["mtree", &tree, "--answers", &flat, "-f"], "");
    assert_eq!(by_list.out, by_flat.out);
}

#[test]
fn an_address_is_answered_for_one_space_or_another() {
    let (tree, flat) = (capture("ppc-40p.tree"), capture("ppc-40p.flat"));
    let at = |more: &[&str]| run(&[&["mtree", &tree, "--answers", &flat][..], more].concat(), "").out;
    assert_eq!(
        at(&["--at", "0x80000010"]),
        "AS \"memory\": 0000000080000010 (prio 1, i/o): pci-io-non-contiguous @0000000000000010\n"
    );
    assert_eq!(at(&["--at", "0x7fffffff"]), "AS \"memory\": 000000007fffffff (unassigned)\n");
    assert!(at(&["--at", "0", "--space", "I/O"]).contains("): io @"));
}

#[test]
fn what_is_no_map_is_refused_with_file_line_and_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.tree");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "address-space: memory\n  0000 garbage\n").unwrap();
    for (args, part) in [
        (&["mtree", name][..], format!("flatview: {name}:2: ")),
        (&["mtree", "/nonexistent/a.tree"], "'/nonexistent/a.tree'".to_owned()),
        (&["mtree", &capture("ppc-40p.tree"), "--at", "0", "--space", "nowhere"], "nowhere".to_owned()),
        (&["mtree", &capture("ppc-40p.flat"), "-f"], "ppc-40p.flat".to_owned()),
        (&["mtree"], "CAPTURE is missing".to_owned()),
    ] {
        let said = run(args, "");
        assert_eq!(said.status.code(), Some(1), "{args:?}: {said:?}");
        assert!(said.err.contains(&part) && said.out.is_empty(), "{args:?}: {said:?}");
    }
}
