//! What a change of page protection asks of the allocator does not go with the number of protected pages, and nothing
//! of it stays. One test: the heap is counted for the whole process.

use flatview_bench::error::BenchError;
use flatview_bench::gauge::HeapCount;
use flatview_bench::maps::Protected;

const FEW: u64 = 8;
/// Writes to the table in one count.
const WRITES: u64 = 2_000;

/// What so many writes ask of the allocator: requests and bytes of each write.
fn cost(map: &Protected, seed: u64) -> (u64, u64) {
    // What grows to its working size does so before the counting.
    assert_eq!(map.toggle(WRITES, seed), WRITES);
    let heap = HeapCount::begin();
    assert_eq!(map.toggle(WRITES, seed + 1), WRITES);
    (heap.requests() / WRITES, heap.asked() / WRITES)
}

/// How much is left on the heap after so many times the change.
fn left(map: &Protected, change: &dyn Fn() -> Result<(), BenchError>, times: u32) -> Result<i64, BenchError> {
    change()?;
    map.memory().synchronize()?;
    let heap = HeapCount::begin();
    for _ in 0..times {
        change()?;
    }
    map.memory().synchronize()?;
    Ok(heap.bytes())
}

#[test]
fn protection_of_a_page_asks_for_as_much_among_8192_as_among_8_and_leaves_nothing() {
    for alternating in [true, false] {
        let few = Protected::new(FEW, alternating).unwrap();
        let many = Protected::new(Protected::PAGES, alternating).unwrap();
        assert_eq!(many.ranges().unwrap(), if alternating { 8192 } else { 1 });
        let (few, many_cost) = (cost(&few, 1), cost(&many, 1));
        println!("alternating {alternating}: requests and bytes {few:?} of 8, {many_cost:?} of 8192");
        assert!(many_cost.0 <= 3 * few.0, "requests: {many_cost:?} of 8192 pages, {few:?} of 8");
        assert!(many_cost.1 <= 3 * few.1, "bytes: {many_cost:?} of 8192 pages, {few:?} of 8");

        // A guest that does nothing else.
        let pages = || {
            assert_eq!(many.toggle(WRITES, 3), WRITES);
            Ok(())
        };
        let toggled = left(&many, &pages, 10).unwrap();
        let switched = left(&many, &|| many.off_and_on(), 20).unwrap();
        println!("left: {toggled} bytes by pages, {switched} by all");
        assert!(toggled.abs() < 64 << 10 && switched.abs() < 64 << 10, "{toggled}, {switched} bytes left");
    }
}
