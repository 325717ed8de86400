//! The examples print what their documentation says.

#[path = "../examples/overlap.rs"]
#[expect(dead_code, reason = "its main is not called here")]
mod overlap;

/// The text between the first "```text" and "```" of a file's documentation.
fn promised(source: &str) -> String {
    let lines = source.lines().map(|l| l.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default());
    lines
        .skip_while(|l| *l != "```text")
        .skip(1)
        .take_while(|l| *l != "```")
        .map(|l| format!("{l}\n"))
        .collect()
}

#[test]
fn overlap_prints_what_its_documentation_shows() {
    let mut out = Vec::new();
    overlap::run(&mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), promised(include_str!("../examples/overlap.rs")));
}

#[path = "../examples/iommu.rs"]
#[expect(dead_code, reason = "its main is not called here")]
mod iommu;

#[test]
fn iommu_prints_what_its_documentation_shows() {
    let mut out = Vec::new();
    iommu::run(&mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), promised(include_str!("../examples/iommu.rs")));
}
