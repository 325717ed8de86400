//! Carrying out what the kernel collected.
//!
//! What it is: who empties the ring, and in which order. What it is not: the ring.
//!
//! What must hold: collected writes are carried out one after the other, in the order in which the guest did them; no lock
//! is held while a device does one. Whoever asks for it to be done finds everything done that was collected before,
//! also if another thread is at it: it waits for that one. Only inside a device's callback it does not wait, for the other
//! one may be waiting for that device.

use std::thread::ThreadId;

use flatview::{Memory, Reader};
use parking_lot::{Condvar, Mutex};

use crate::sys::Ring;

/// What one who empties the ring needs.
struct Tools {
    ring: Ring,
    memory: Reader,
    io: Option<Reader>,
}

#[derive(Default)]
struct State {
    tools: Option<Tools>,
    /// Who is at it.
    by: Option<ThreadId>,
}

#[derive(Default)]
pub(crate) struct Drain {
    state: Mutex<State>,
    done: Condvar,
}

/// The tools are put back, also when a device panics.
struct Busy<'a> {
    drain: &'a Drain,
    tools: Option<Tools>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut tools = self.tools.take();
        if let Some(Tools { memory, io, .. }) = &mut tools {
            memory.park();
            io.iter_mut().for_each(Reader::park);
        }
        let mut state = self.drain.state.lock();
        state.tools = tools;
        state.by = None;
        self.drain.done.notify_all();
    }
}

impl Drain {
    /// Empties this ring from now on; `false` if there is one already.
    pub fn begin(&self, ring: Ring, memory: Reader, io: Option<Reader>) -> bool {
        let mut state = self.state.lock();
        let free = state.tools.is_none() && state.by.is_none();
        if free {
            state.tools = Some(Tools { ring, memory, io });
        }
        free
    }

    /// Carries out everything that was collected so far.
    pub fn flush(&self) {
        let me = std::thread::current().id();
        let mut state = self.state.lock();
        while let Some(by) = state.by {
            if by == me || Memory::in_device_callback() {
                return;
            }
            self.done.wait(&mut state);
        }
        // Most often there is nothing.
        if state.tools.as_ref().is_none_or(|tools| tools.ring.len() == 0) {
            return;
        }
        state.by = Some(me);
        let busy = Busy { drain: self, tools: state.tools.take() };
        drop(state);
        let Some(Tools { ring, memory, io }) = &busy.tools else { return };
        // No more than are there now: a guest that goes on writing must not keep us here.
        for write in (0..ring.len()).map_while(|_| ring.pop()) {
            let to = if write.pio { io.as_ref() } else { Some(memory) };
            // As a write of the guest that nobody waits for: who fails has told the access log.
            let _ = to.map(|reader| reader.write(write.addr, write.bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex as StdMutex, mpsc};
    use std::time::Duration;

    use flatview::{AccessRules, Endianness, Memory, Ops, Region};

    use super::*;
    use crate::sys::ring::tests::Kernel;

    type Seen = Arc<StdMutex<Vec<(u64, u64)>>>;

    /// A device at 0x1000 that notes what is written to it.
    fn machine() -> (Memory, Seen) {
        let memory = Memory::new(Endianness::Little);
        let seen = Seen::default();
        let into = Arc::clone(&seen);
        let ops =
            Ops::new().rules(AccessRules::new().valid(1, 8).implemented(1, 8)).write(move |access, value| {
                into.lock().unwrap().push((access.offset(), value));
                Ok(())
            });
        let device = memory.add(Region::io("device", 0x1000, ops)).unwrap();
        memory.map(memory.system(), 0x1000, device).unwrap();
        (memory, seen)
    }

    #[test]
    fn what_was_collected_reaches_the_device_in_order_and_once() {
        let (memory, seen) = machine();
        let kernel = Kernel::new();
        let drain = Drain::default();
        drain.flush();
        let readers = (memory.memory_space().reader(), Some(memory.io_space().reader()));
        assert!(drain.begin(kernel.ring(), readers.0, readers.1));
        assert!(!drain.begin(kernel.ring(), memory.memory_space().reader(), None), "there is one");
        for n in 0..10 {
            assert!(kernel.push(false, 0x1000 + 4 * n, 4, 0x100 + n));
        }
        assert!(kernel.push(false, 0x9_0000, 4, 1), "where nothing is");
        assert!(kernel.push(true, 0x70, 1, 1), "a port where nothing is");
        assert!(kernel.push(false, 0x1008, 1, 0xfff));
        drain.flush();
        drain.flush();
        let mut want: Vec<_> = (0..10).map(|n| (4 * n, 0x100 + n)).collect();
        want.push((8, 0xff));
        assert_eq!(*seen.lock().unwrap(), want);
    }

    #[test]
    fn who_asks_while_another_thread_is_at_it_waits_for_what_was_collected_before() {
        let memory = Memory::new(Endianness::Little);
        let (entered, is_entered) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let (entered, may_go) = (StdMutex::new(entered), StdMutex::new(may_go));
        let done = Arc::new(StdMutex::new(Vec::new()));
        let into = Arc::clone(&done);
        let ops = Ops::new().write(move |_, value| {
            if value == 1 {
                entered.lock().unwrap().send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
            }
            into.lock().unwrap().push(value);
            Ok(())
        });
        let device = memory.add(Region::io("slow", 8, ops)).unwrap();
        memory.map(memory.system(), 0, device).unwrap();
        let kernel = Kernel::new();
        let drain = Drain::default();
        assert!(drain.begin(kernel.ring(), memory.memory_space().reader(), None));
        kernel.push(false, 0, 4, 1);
        kernel.push(false, 0, 4, 2);
        std::thread::scope(|s| {
            s.spawn(|| drain.flush());
            is_entered.recv().unwrap();
            let (told, is_told) = mpsc::channel();
            let (drain, done) = (&drain, &done);
            s.spawn(move || {
                drain.flush();
                told.send(done.lock().unwrap().clone()).unwrap();
            });
            let early = is_told.recv_timeout(Duration::from_millis(50));
            assert!(early.is_err(), "it did not wait");
            go.send(()).unwrap();
            assert_eq!(is_told.recv().unwrap(), [1, 2]);
        });
    }

    #[test]
    fn a_device_that_asks_while_its_own_write_is_carried_out_goes_on() {
        let memory = Memory::new(Endianness::Little);
        let kernel = Kernel::new();
        let drain = Arc::new(Drain::default());
        let again = Arc::clone(&drain);
        let ops = Ops::new().write(move |_, _| {
            again.flush();
            Ok(())
        });
        let device = memory.add(Region::io("device", 8, ops)).unwrap();
        memory.map(memory.system(), 0, device).unwrap();
        assert!(drain.begin(kernel.ring(), memory.memory_space().reader(), None));
        kernel.push(false, 0, 4, 1);
        kernel.push(false, 0, 4, 2);
        drain.flush();
        assert_eq!(kernel.ring().len(), 0);
    }

    #[test]
    fn a_device_that_panics_leaves_the_rest_for_the_next_one() {
        let memory = Memory::new(Endianness::Little);
        let kernel = Kernel::new();
        let drain = Drain::default();
        let ops = Ops::new().write(|_, value| if value == 1 { panic!("wanted") } else { Ok(()) });
        let device = memory.add(Region::io("device", 8, ops)).unwrap();
        memory.map(memory.system(), 0, device).unwrap();
        assert!(drain.begin(kernel.ring(), memory.memory_space().reader(), None));
        kernel.push(false, 0, 4, 1);
        kernel.push(false, 0, 4, 2);
        let flush = std::panic::AssertUnwindSafe(|| drain.flush());
        assert!(std::panic::catch_unwind(flush).is_err());
        drain.flush();
        assert_eq!(kernel.ring().len(), 0);
    }
}
