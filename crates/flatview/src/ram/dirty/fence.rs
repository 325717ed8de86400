//! A pair of fences of which the one on the hot side costs nothing.
//!
//! What it is: [`light`], which only keeps the compiler from reordering, and [`heavy`], which makes every running
//! thread of the process execute a full fence at some point between its call and its return. What it is not: a
//! replacement for acquire and release; those are on the atomics themselves.
//!
//! What must hold: for a thread that does *A, light, B* and one that does *C, heavy, D*, either B comes after C
//! (and sees what C did), or A comes before D (which sees what A did). Proof: `heavy` puts a full fence somewhere in
//! the first thread's program order. If it stands before B, then C, which precedes `heavy`, comes before B. If it stands
//! after B, then it stands after A too, and A is visible to all before `heavy` returns.
//!
//! On Linux `heavy` is `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)`, under a microsecond with two processors. On
//! other systems both are sequentially consistent fences.

/// The host cannot fence other threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoBarrier;

/// The side that runs often.
#[inline(always)]
pub(crate) fn light() {
    #[cfg(loom)]
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    #[cfg(all(not(loom), target_os = "linux"))]
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    #[cfg(all(not(loom), not(target_os = "linux")))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// Gets the host ready for [`heavy`]; asked once, before anything relies on it.
pub(crate) fn prepare() -> Result<(), NoBarrier> {
    #[cfg(all(not(loom), target_os = "linux"))]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        use std::sync::OnceLock;
        static READY: OnceLock<bool> = OnceLock::new();
        let ready = READY.get_or_init(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok());
        if !ready {
            return Err(NoBarrier);
        }
    }
    Ok(())
}

/// The side that runs seldom.
pub(crate) fn heavy() -> Result<(), NoBarrier> {
    #[cfg(loom)]
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    #[cfg(all(not(loom), target_os = "linux"))]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        prepare()?;
        membarrier(MembarrierCommand::PrivateExpedited).map_err(|_| NoBarrier)?;
    }
    #[cfg(all(not(loom), not(target_os = "linux")))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// Store buffering: without the fences both threads may read the old value.
    #[test]
    fn one_of_two_threads_that_store_and_then_look_sees_the_others_store() {
        prepare().unwrap();
        let (a, b) = (AtomicU32::new(0), AtomicU32::new(0));
        let (go, done) = (AtomicU32::new(0), AtomicU32::new(0));
        let saw = AtomicU32::new(0);
        // Told at the end: a panic here would leave the other thread waiting.
        let mut missed = Vec::new();
        std::thread::scope(|s| {
            s.spawn(|| {
                for round in 1..=8_000 {
                    while go.load(std::sync::atomic::Ordering::Acquire) < round {
                        std::hint::spin_loop();
                    }
                    a.store(round, Relaxed);
                    light();
                    saw.store(b.load(Relaxed), Relaxed);
                    done.store(round, std::sync::atomic::Ordering::Release);
                }
            });
            for round in 1..=8_000 {
                go.store(round, std::sync::atomic::Ordering::Release);
                b.store(round, Relaxed);
                heavy().unwrap();
                let seen = a.load(Relaxed);
                while done.load(std::sync::atomic::Ordering::Acquire) < round {
                    std::thread::yield_now();
                }
                if seen != round && saw.load(Relaxed) != round {
                    missed.push(round);
                }
            }
        });
        assert!(missed.is_empty(), "in rounds {missed:?} nobody saw the other");
    }
}
