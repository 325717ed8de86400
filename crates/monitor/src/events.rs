//! A machine's events for a session that is also told when there are some.

use crate::session::Waker;
use flatview_board::{Event, Machine};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

/// The machine's events, in order.
///
/// A command's events must come before its reply, so the session takes them itself, from a channel of its own; a second
/// subscription on a small thread only says how many there should be by now.
#[derive(Debug)]
pub(crate) struct Events {
    channel: Receiver<Event>,
    /// How many the second subscription has seen.
    announced: Arc<AtomicU64>,
    taken: u64,
}

impl Events {
    /// All events from now on; `waker` is called for each.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn new(machine: &Machine, waker: Waker, name: &str) -> io::Result<Self> {
        let channel = machine.subscribe();
        let bell = machine.subscribe();
        let announced = Arc::new(AtomicU64::new(0));
        let count = announced.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for _ in bell {
                count.fetch_add(1, Ordering::Release);
                waker.wake();
            }
        })?;
        Ok(Self { channel, announced, taken: 0 })
    }

    /// The next event that has happened, if any is left.
    pub fn next(&mut self) -> Option<Event> {
        // An event that was announced is in our channel, or will be in a moment: the machine is handing it out.
        let wait = if self.taken < self.announced.load(Ordering::Acquire) { 100 } else { 0 };
        self.next_within(Duration::from_millis(wait))
    }

    /// The next event, if it happens within `limit`.
    pub fn next_within(&mut self, limit: Duration) -> Option<Event> {
        let event = self.channel.recv_timeout(limit).ok()?;
        self.taken += 1;
        Some(event)
    }
}
