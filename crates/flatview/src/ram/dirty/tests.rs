use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use proptest::prelude::*;

use super::*;
use crate::RamBlock;

/// QEMU's, or one that was allocated.
fn client(index: u32) -> DirtyClient {
    DirtyClient { index: index as u8, generation: 0, memory: None }
}

const PAGE: u64 = DIRTY_PAGE_SIZE;
const VGA: u32 = 0;
const MIGRATION: u32 = 2;

#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
fn started(size: u64, clients: &[u32]) -> (BlockDirty, Arc<()>) {
    let (block, memory) = (BlockDirty::default(), Arc::new(()));
    for client in clients {
        block.start(&memory, self::client(*client), size).unwrap();
        assert_eq!(
            block.clear(*client, 0, size).unwrap(),
            size.div_ceil(PAGE),
            "at first every page is dirty"
        );
    }
    (block, memory)
}

fn dirty(block: &BlockDirty, client: u32, size: u64) -> Vec<u64> {
    let snapshot = block.snapshot(client, 0, 0, size);
    (0..size.div_ceil(PAGE))
        .filter(|page| snapshot.is_dirty(page * PAGE, 1.min(size - page * PAGE)))
        .collect()
}

#[test]
fn eight_bits_spread_over_a_word_and_come_back() {
    for bits in 0..=255 {
        let word = spread(bits);
        assert!((0..8).all(|i| (word >> (8 * i)) & 0xff == u64::from(bits >> i & 1)), "{bits:#x}");
        assert_eq!(gathered(word), bits);
    }
}

#[test]
fn a_block_that_nobody_logs_keeps_no_bits() {
    let block = RamBlock::anonymous("ram", 1 << 30).unwrap();
    block.write(0x1234, &[1]).unwrap();
    block.mark_dirty(0, 1 << 30).unwrap();
    block.mark_dirty_bitmap(0, &[u64::MAX]);
    assert!(block.dirty().map.get().is_none());
}

#[test]
fn a_write_over_a_page_boundary_marks_both_pages_and_one_of_no_bytes_none() {
    let (block, _memory) = started(20 * PAGE, &[VGA]);
    block.mark(1 << VGA, 3 * PAGE - 1, 2);
    block.mark(1 << VGA, 8 * PAGE - 4, 4);
    block.mark(1 << VGA, 8 * PAGE, 0);
    assert_eq!(dirty(&block, VGA, 20 * PAGE), [2, 3, 7]);
    block.mark(1 << VGA, 7 * PAGE + 1, 9 * PAGE);
    assert_eq!(dirty(&block, VGA, 20 * PAGE), [2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
}

#[test]
fn the_last_page_may_be_shorter_and_there_is_none_after_it() {
    let size = 9 * PAGE + 1;
    let (block, _memory) = started(size, &[VGA]);
    block.mark(1 << VGA, 9 * PAGE, 1);
    block.mark(1 << VGA, 10 * PAGE, 1);
    block.mark(1 << VGA, 10 * PAGE, u64::MAX);
    block.mark(1 << VGA, u64::MAX, u64::MAX);
    block.mark_bitmap(8 * PAGE, &[!1]);
    assert_eq!(block.count(VGA, 0, u64::MAX), 1);
    assert_eq!(dirty(&block, VGA, size), [9]);
}

#[test]
fn a_snapshot_takes_what_was_asked_for_and_no_neighbours() {
    let size = 256 * PAGE;
    let (block, _memory) = started(size, &[VGA, MIGRATION]);
    block.mark(1 << VGA | 1 << MIGRATION, 0, size);
    // QEMU would take pages 64 to 127.
    let snapshot = block.snapshot_and_clear(VGA, 0, 70 * PAGE, 3 * PAGE).unwrap();
    assert_eq!(snapshot.count(), 3);
    assert!(snapshot.is_dirty(70 * PAGE, 3 * PAGE));
    let left: Vec<u64> = (0..256).filter(|p| !(70..73).contains(p)).collect();
    assert_eq!(dirty(&block, VGA, size), left);
    assert_eq!(block.count(MIGRATION, 0, size), 256);
}

#[test]
fn a_snapshot_counts_in_the_regions_offsets_and_knows_nothing_outside() {
    let (block, _memory) = started(64 * PAGE, &[VGA]);
    // The region begins in the middle of page 10 of its block.
    let base = 10 * PAGE + 0x800;
    block.mark(1 << VGA, base + 0x7ff, 1);
    block.mark(1 << VGA, 13 * PAGE, 2 * PAGE);
    let snapshot = block.snapshot(VGA, base, 0x100, 8 * PAGE);
    assert_eq!(snapshot.range(), 0x100..0x100 + 8 * PAGE);
    assert!(snapshot.is_dirty(0x100, 1) && snapshot.is_dirty(0x7ff, 1), "the rest of page 10");
    assert!(!snapshot.is_dirty(0x800, 0x2000));
    assert!(snapshot.is_dirty(0x800, 0x2001));
    assert!(snapshot.is_dirty(0xff, 1) && snapshot.is_dirty(8 * PAGE, 0x101), "nothing is known outside");
    assert!(!snapshot.is_dirty(0, 0) && !snapshot.is_dirty(u64::MAX, 0));
    assert!(snapshot.is_dirty(u64::MAX, u64::MAX));
    let runs: Vec<_> = snapshot.runs().collect();
    assert_eq!(runs, [0x100..0x800, 0x2800..0x4800]);
    assert_eq!(snapshot.count(), 3);
}

#[test]
fn a_client_whose_bits_are_not_kept_knows_nothing() {
    let (block, memory) = started(16 * PAGE, &[VGA]);
    assert_eq!(block.count(MIGRATION, 0, 16 * PAGE), 16);
    assert!(block.snapshot(MIGRATION, 0, 0, 16 * PAGE).is_dirty(5, 1));
    block.stop(&memory, client(VGA));
    block.mark_for_all(0, 1);
    block.start(&memory, client(VGA), 16 * PAGE).unwrap();
    assert_eq!(block.count(VGA, 0, 16 * PAGE), 16, "a client that comes again begins anew");
    block.clear(VGA, 0, 16 * PAGE).unwrap();
    let successor = DirtyClient { generation: 1, ..client(VGA) };
    block.start(&memory, successor, 16 * PAGE).unwrap();
    assert_eq!(block.count(VGA, 0, 16 * PAGE), 16, "one that has the number of another too");
    block.stop(&memory, client(VGA));
    assert_eq!(block.used(), 1 << VGA, "and the other cannot stop it");
}

#[test]
fn a_block_belongs_to_one_memory_at_a_time() {
    let (block, memory) = started(PAGE, &[VGA]);
    let other = Arc::new(());
    assert_eq!(block.start(&other, client(VGA), PAGE), Err(Claimed));
    block.stop(&other, client(VGA));
    assert_eq!(block.count(VGA, 0, PAGE), 0, "another's stop does nothing");
    drop(memory);
    block.start(&other, client(MIGRATION), PAGE).unwrap();
    assert_eq!(block.used(), 1 << MIGRATION);
    block.stop(&other, client(MIGRATION));
    let third = Arc::new(());
    block.start(&third, client(VGA), PAGE).unwrap();
    assert_eq!(block.count(VGA, 0, PAGE), 1);
}

#[test]
fn a_mark_that_is_there_already_writes_nothing() {
    let (block, _memory) = started(8 * PAGE, &[VGA, MIGRATION]);
    block.list_new(VGA, 10);
    for _ in 0..3 {
        block.mark(1 << VGA | 1 << MIGRATION, 5 * PAGE, 8);
    }
    // Each change of a bit puts the page on the list.
    assert_eq!(block.take_new(VGA).unwrap(), (vec![5], true));
    assert_eq!(block.take_new(VGA).unwrap(), (vec![], true));
    assert_eq!(block.count(MIGRATION, 0, 8 * PAGE), 1);
}

#[test]
fn a_list_of_new_pages_says_when_it_did_not_hold_all() {
    let (block, _memory) = started(100 * PAGE, &[VGA, MIGRATION]);
    assert_eq!(block.take_new(VGA).unwrap(), (vec![], false), "no list was asked for");
    block.list_new(VGA, 4);
    for page in [50, 3, 99] {
        block.mark_for_all(page * PAGE, 1);
    }
    assert_eq!(block.take_new(VGA).unwrap(), (vec![50, 3, 99], true));
    assert_eq!(block.count(VGA, 0, 100 * PAGE), 0, "what was on the list is clear");
    assert_eq!(block.count(MIGRATION, 0, 100 * PAGE), 3, "for this client only");
    block.mark(1 << VGA, 0, 6 * PAGE);
    assert_eq!(block.take_new(VGA).unwrap(), (vec![0, 1, 2, 3], false));
    assert_eq!(dirty(&block, VGA, 100 * PAGE), [4, 5], "the others are in the bits");
    block.mark(1 << VGA, 0, 1);
    assert_eq!(block.clear(VGA, 0, 100 * PAGE).unwrap(), 3);
    assert_eq!(block.take_new(VGA).unwrap(), (vec![], true), "what was cleared otherwise is not told again");
    block.unlist_new(VGA);
    assert_eq!(block.take_new(VGA).unwrap(), (vec![], false));
}

#[test]
fn a_host_pointer_and_a_loader_mark_for_every_client() {
    let block = RamBlock::anonymous("ram", 16 * PAGE).unwrap();
    let memory = Arc::new(());
    for client in [VGA, MIGRATION] {
        block.dirty().start(&memory, self::client(client), block.size()).unwrap();
        block.dirty().clear(client, 0, block.size()).unwrap();
    }
    block.write(2 * PAGE - 1, &[1, 2]).unwrap();
    let host = crate::HostPtr::of(&block, 5 * PAGE, 2 * PAGE).unwrap();
    host.mark_dirty(PAGE, 1).unwrap();
    assert!(host.mark_dirty(2 * PAGE, 1).unwrap_err().to_string().contains("0x7000"));
    assert!(host.mark_dirty(u64::MAX, 1).is_err());
    assert!(block.mark_dirty(16 * PAGE, 1).is_err() && block.mark_dirty(1, u64::MAX).is_err());
    block.mark_dirty_bitmap(9 * PAGE, &[0b1001]);
    for client in [VGA, MIGRATION] {
        assert_eq!(dirty(block.dirty(), client, block.size()), [1, 2, 6, 9, 12]);
    }
}

/// The window is a few nanoseconds wide: many short rounds, in each of which one write may be lost for good.
#[test]
fn no_write_is_lost_while_a_client_clears_and_reads() {
    const ROUNDS: u64 = 2_000;
    prepare().unwrap();
    let (block, _memory) = started(PAGE, &[VGA]);
    let data = AtomicU64::new(0);
    let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    // Told at the end: a panic here would leave the other thread waiting.
    let mut lost = Vec::new();
    std::thread::scope(|s| {
        s.spawn(|| {
            for round in 1..=ROUNDS {
                while begun.load(Acquire) < round {
                    std::hint::spin_loop();
                }
                data.store(round, Relaxed);
                block.mark(1 << VGA, 0, 8);
                ended.store(round, Release);
            }
        });
        let mut copy = 0;
        for round in 1..=ROUNDS {
            // Dirty from before, so that the marker need not write.
            block.mark(1 << VGA, 0, 8);
            begun.store(round, Release);
            for _ in 0..round % 40 {
                std::hint::spin_loop();
            }
            if block.clear(VGA, 0, PAGE) != Ok(0) {
                copy = data.load(Relaxed);
            }
            while ended.load(Acquire) < round {
                std::thread::yield_now();
            }
            if block.clear(VGA, 0, PAGE) != Ok(0) {
                copy = data.load(Relaxed);
            }
            if copy != round {
                lost.push(round);
            }
        }
    });
    assert!(lost.is_empty(), "the writes of these rounds were lost: {lost:?}");
}

#[test]
fn marks_of_many_threads_all_arrive() {
    const PAGES: u64 = 512;
    let (block, _memory) = started(PAGES * PAGE, &[0, 1, 2, 7]);
    block.list_new(7, PAGES as usize);
    let mut listed = HashSet::new();
    std::thread::scope(|s| {
        for thread in 0..4_u64 {
            let block = &block;
            s.spawn(move || {
                for page in (0..PAGES).filter(|p| p % 3 != 1) {
                    let page = (page * 37 + thread * 101) % PAGES;
                    block.mark(0b1000_0111, page * PAGE, 1);
                }
            });
        }
        for _ in 0..50 {
            let (pages, complete) = block.take_new(7).unwrap();
            assert!(complete);
            listed.extend(pages);
        }
    });
    listed.extend(block.take_new(7).unwrap().0);
    let all: HashSet<u64> = (0..4_u64)
        .flat_map(|t| (0..PAGES).filter(|p| p % 3 != 1).map(move |p| (p * 37 + t * 101) % PAGES))
        .collect();
    assert_eq!(listed, all);
    for client in [0, 1, 2] {
        assert_eq!(dirty(&block, client, PAGES * PAGE).into_iter().collect::<HashSet<_>>(), all);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Mark(u8, u64, u64),
    All(u64, u64),
    Bitmap(u64, Vec<u64>),
    Take(u32, u64, u64),
    Clear(u32, u64, u64),
    New(u32),
}

fn step(size: u64) -> impl Strategy<Value = Step> {
    let at = 0..size + PAGE;
    let len = prop_oneof![Just(0), 1..9_u64, 1..3 * PAGE, 1..size];
    let client = 0..MOST_CLIENTS;
    prop_oneof![
        (any::<u8>(), at.clone(), len.clone()).prop_map(|(m, a, l)| Step::Mark(m, a, l)),
        (at.clone(), len.clone()).prop_map(|(a, l)| Step::All(a, l)),
        (at.clone(), proptest::collection::vec(prop_oneof![Just(0), any::<u64>()], 0..4))
            .prop_map(|(a, b)| Step::Bitmap(a, b)),
        (client.clone(), at.clone(), len.clone()).prop_map(|(c, a, l)| Step::Take(c, a, l)),
        (client.clone(), at, len).prop_map(|(c, a, l)| Step::Clear(c, a, l)),
        client.prop_map(Step::New),
    ]
}

proptest! {
    #[test]
    fn the_bits_are_a_set_of_pages_for_each_client(
        (size, steps) in (1..200 * PAGE).prop_flat_map(|s| (Just(s), proptest::collection::vec(step(s), 1..40)))
    ) {
        let clients: Vec<u32> = (0..MOST_CLIENTS).collect();
        let (block, _memory) = started(size, &clients);
        let most = size.div_ceil(PAGE);
        let mut model = vec![HashSet::new(); clients.len()];
        let mut listed = vec![HashSet::new(); clients.len()];
        for client in &clients {
            block.list_new(*client, most as usize * 50);
        }
        let touched = |at: u64, len: u64| {
            let last = at + len.max(1) - 1;
            (0..most).filter(move |p| len > 0 && p * PAGE <= last && at < (p + 1) * PAGE)
        };
        for step in steps {
            match step {
                Step::Mark(mask, at, len) => {
                    block.mark(mask, at, len);
                    for client in clients.iter().filter(|c| mask & (1 << **c) != 0) {
                        model[*client as usize].extend(touched(at, len));
                        listed[*client as usize].extend(touched(at, len));
                    }
                }
                Step::All(at, len) => {
                    block.mark_for_all(at, len);
                    model.iter_mut().chain(&mut listed).for_each(|m| m.extend(touched(at, len)));
                }
                Step::Bitmap(at, bits) => {
                    block.mark_bitmap(at, &bits);
                    let first = at / PAGE;
                    let set = |p: u64| p >= first && p < first + 64 * bits.len() as u64
                        && bits[((p - first) / 64) as usize] >> ((p - first) % 64) & 1 != 0;
                    model.iter_mut().chain(&mut listed).for_each(|m| m.extend((0..most).filter(|p| set(*p))));
                }
                Step::Take(client, at, len) => {
                    let snapshot = block.snapshot_and_clear(client, 0, at, len).unwrap();
                    let model = &mut model[client as usize];
                    let taken: HashSet<u64> = touched(at, len).filter(|p| model.remove(p)).collect();
                    prop_assert_eq!(snapshot.count(), taken.len() as u64);
                    for page in touched(at, len) {
                        let from = at.max(page * PAGE);
                        prop_assert_eq!(snapshot.is_dirty(from, 1), taken.contains(&page));
                    }
                    let runs: Vec<_> = snapshot.runs().collect();
                    prop_assert!(runs.windows(2).all(|w| w[0].end < w[1].start));
                    let in_runs: HashSet<u64> = touched(at, len)
                        .filter(|p| runs.iter().any(|r| r.contains(&at.max(p * PAGE)))).collect();
                    prop_assert_eq!(in_runs, taken);
                }
                Step::Clear(client, at, len) => {
                    let model = &mut model[client as usize];
                    let count = touched(at, len).filter(|p| model.remove(p)).count();
                    prop_assert_eq!(block.clear(client, at, len).unwrap(), count as u64);
                }
                Step::New(client) => {
                    let (pages, complete) = block.take_new(client).unwrap();
                    prop_assert!(complete);
                    let (model, listed) = (&mut model[client as usize], &mut listed[client as usize]);
                    let expected: HashSet<u64> = listed.drain().filter(|p| model.remove(p)).collect();
                    prop_assert_eq!(pages.len(), expected.len());
                    prop_assert_eq!(pages.into_iter().collect::<HashSet<_>>(), expected);
                }
            }
            for client in &clients {
                prop_assert_eq!(block.count(*client, 0, size), model[*client as usize].len() as u64);
            }
        }
    }
}
