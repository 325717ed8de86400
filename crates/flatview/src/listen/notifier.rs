//! Real eventfds.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// An eventfd (QEMU: `EventNotifier`): who waits for it is woken when it is signalled, in this process, in another one
/// or in the kernel. Signalling it again before it was cleared is no second signal.
#[derive(Debug)]
pub struct EventNotifier(OwnedFd);

impl EventNotifier {
    /// One that is not signalled.
    ///
    /// # Errors
    /// The process has too many open files, or the like.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Signals it. Does not block: where the count is full, it is signalled already.
    ///
    /// # Errors
    /// The descriptor it was [made from](Self::from) is no eventfd.
    pub fn signal(&self) -> std::io::Result<()> {
        loop {
            match rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
                Ok(_) | Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether it was signalled since it was last cleared; clears it.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn test_and_clear(&self) -> std::io::Result<bool> {
        let mut count = [0; 8];
        loop {
            match rustix::io::read(&self.0, &mut count) {
                Ok(_) => return Ok(true),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What tells notifiers apart.
    pub(super) fn key(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An eventfd that somebody else made. It must be non-blocking, or
/// [`test_and_clear`](EventNotifier::test_and_clear) waits.
impl From<OwnedFd> for EventNotifier {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for EventNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_seen_once_however_often_it_was_given() {
        let notifier = EventNotifier::new().unwrap();
        assert!(!notifier.test_and_clear().unwrap());
        notifier.signal().unwrap();
        notifier.signal().unwrap();
        assert!(notifier.test_and_clear().unwrap());
        assert!(!notifier.test_and_clear().unwrap());
        // A full count is a signal too.
        rustix::io::write(&notifier, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        notifier.signal().unwrap();
        assert!(notifier.test_and_clear().unwrap());
    }
}
