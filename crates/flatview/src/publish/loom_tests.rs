//! Every interleaving of a reader that refreshes and a writer that publishes and frees.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::{Domain, Lane, Slot};

/// A value whose reads and whose end loom checks against each other.
struct Watched(UnsafeCell<u32>);

impl Drop for Watched {
    fn drop(&mut self) {
        // A mutable access: loom reports it if a reader's access is not ordered before it.
        #[expect(unsafe_code, reason = "loom's checked cell hands out raw pointers")]
        // SAFETY: this is the drop; loom verifies that no other access overlaps.
        self.0.with_mut(|p| unsafe { *p = u32::MAX });
    }
}

fn read(w: &Watched) -> u32 {
    #[expect(unsafe_code, reason = "loom's checked cell hands out raw pointers")]
    // SAFETY: loom verifies that no write overlaps.
    w.0.with(|p| unsafe { *p })
}

// Not `Sync` by itself because of the cell; the point of the test is that it may be shared.
#[expect(unsafe_code, reason = "the test shares the checked cell on purpose")]
// SAFETY: loom checks all accesses to the cell.
unsafe impl Sync for Watched {}

#[test]
fn a_reader_never_sees_a_value_that_was_freed() {
    loom::model(|| {
        let domain = Arc::new(Domain::new());
        let slot = Arc::new(Slot::new(Arc::new(Watched(UnsafeCell::new(1)))));
        let lane: Lane<Watched, u32> = Lane::new(0, domain.register(), Arc::clone(&slot));
        let writer = {
            let (domain, slot) = (Arc::clone(&domain), Arc::clone(&slot));
            thread::spawn(move || {
                domain.publish(&slot, Arc::new(Watched(UnsafeCell::new(2))));
                drop(domain.reclaim());
            })
        };
        for _ in 0..2 {
            if !lane.is_current() {
                assert!(lane.refresh(|| Arc::clone(&slot)));
            }
            let v = read(&lane.pin().unwrap());
            assert!(v == 1 || v == 2, "{v}");
        }
        writer.join().unwrap();
        // The same thread sees the newest value once the writer is done.
        if !lane.is_current() {
            assert!(lane.refresh(|| Arc::clone(&slot)));
        }
        assert_eq!(read(&lane.pin().unwrap()), 2);
        drop(lane);
        drop(domain.reclaim());
        assert_eq!(domain.waiting(u64::MAX), 0);
    });
}
