//! Nothing grows however often the map changes.

use flatview_bench::figures::grown_after;

#[test]
fn nothing_grows_over_a_million_commits_with_an_idle_parked_reader() {
    // The chunks of a view lie otherwise after other changes: some hundred bytes either way. One byte that every
    // commit forgot would be a million.
    let grown = grown_after(100, 1_000_000).unwrap();
    assert!(grown.abs() < 4096, "{grown} bytes more than before");
}
