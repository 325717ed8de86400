//! Every interleaving of a writer that marks and a client that clears.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p flatview --release --lib loom`. Both fences are sequentially consistent
//! ones here, which is what the two of them come to together.

use std::sync::Arc;

use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::*;

const CLIENT: u32 = 2;

/// Writes twice while a client looks; `light` is the marker's fence. Gives what the client saw last of the data, and
/// what was written last.
fn race(mark: fn(&DirtyMap)) {
    loom::model(move || {
        let map = Arc::new(DirtyMap::new(1));
        let data = Arc::new(AtomicU64::new(0));
        // The page is dirty already: a marker that comes early need not write.
        mark(&map);
        let writer = {
            let (map, data) = (Arc::clone(&map), Arc::clone(&data));
            thread::spawn(move || {
                data.store(1, Relaxed);
                mark(&map);
            })
        };
        let mut seen = 0;
        let mut look = |map: &DirtyMap| {
            let mut dirty = false;
            map.take(CLIENT, 0..1, |_, _| dirty = true);
            heavy().unwrap();
            if dirty {
                seen = data.load(Relaxed);
            }
        };
        look(&map);
        writer.join().unwrap();
        look(&map);
        assert_eq!(seen, 1, "a write was lost");
    });
}

#[test]
fn a_client_that_clears_while_another_writes_loses_nothing() {
    race(|map| map.mark(1 << CLIENT, 0, 1));
}

/// The model can see what the fence is for.
#[test]
#[should_panic(expected = "a write was lost")]
fn without_the_markers_fence_a_write_could_be_lost() {
    race(|map| map.mark_pages(1 << CLIENT, 0..1));
}

#[test]
fn of_two_clients_that_clear_at_once_each_gets_its_own_bit() {
    loom::model(|| {
        let map = Arc::new(DirtyMap::new(1));
        map.mark(0b11, 0, 1);
        let take = |client: u32| {
            let map = Arc::clone(&map);
            move || {
                let mut got = 0;
                map.take(client, 0..1, |_, bits| got |= bits);
                got
            }
        };
        let other = thread::spawn(take(0));
        assert_eq!(take(1)(), 1);
        assert_eq!(other.join().unwrap(), 1);
    });
}

#[test]
fn who_turns_a_log_on_while_another_writes_sees_the_data_or_the_mark() {
    loom::model(|| {
        // The version of the view stands for the view; the clients that the block keeps bits for are there before it.
        let map = Arc::new(DirtyMap::new(1));
        let (data, version) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(1)));
        let writer = {
            let (map, data, version) = (Arc::clone(&map), Arc::clone(&data), Arc::clone(&version));
            thread::spawn(move || {
                let before = version.load(Relaxed);
                data.store(1, Relaxed);
                light();
                let logged = before > 1;
                if logged || version.load(Relaxed) != before {
                    map.mark(1 << CLIENT, 0, 1);
                }
            })
        };
        version.store(2, Ordering::Release);
        heavy().unwrap();
        let seen = data.load(Relaxed);
        writer.join().unwrap();
        let mut dirty = false;
        map.take(CLIENT, 0..1, |_, _| dirty = true);
        assert!(seen == 1 || dirty, "the write is neither seen nor told");
    });
}
