//! Nothing grows however often the map changes.

use flatview_bench::figures::grown_after;

#[test]
fn nothing_grows_over_a_million_commits_with_an_idle_parked_reader() {
    assert_eq!(grown_after(100, 1_000_000).unwrap(), 0);
}
