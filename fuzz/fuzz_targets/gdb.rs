//! A debugger that says anything: packets with the right checksum, or bytes as they come, to a machine with a program. The session answers,
//! and the machine is still one that can be ended.

#![no_main]

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};

use flatview_board::{Machine, MachineConfig};
use flatview_device::chardev::MemoryBackend;
use flatview_monitor::gdb::GdbSession;
use flatview_monitor::{Session, Waker, serve};
use libfuzzer_sys::fuzz_target;

/// A session that says nothing: only its waker is wanted.
struct Silent;

impl Session for Silent {
    fn opened(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn received(&mut self, _: &[u8], _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

static WAKER: LazyLock<Mutex<Waker>> = LazyLock::new(|| {
    let mut waker = None;
    let silent = |w| {
        waker = Some(w);
        Ok(Silent)
    };
    serve(MemoryBackend::new("nobody"), silent, || ()).expect("a thread");
    Mutex::new(waker.expect("it was made"))
});

fn framed(body: &[u8]) -> Vec<u8> {
    let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let mut packet = vec![b'$'];
    packet.extend_from_slice(body);
    packet.extend_from_slice(format!("#{sum:02x}+").as_bytes());
    packet
}

fuzz_target!(|input: &[u8]| {
    // What tells how to take it stands last, so that any file begins an input.
    let Some((how, bytes)) = input.split_last() else { return };
    let raw = how & 1 != 0;
    let config = MachineConfig {
        kernel: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/images/mips/hello.elf").into()),
        nodefaults: true,
        start_stopped: true,
        ..MachineConfig::new("mips")
    };
    let machine = Machine::new(config).expect("a board and a program that are there");
    let waker = WAKER.lock().expect("nobody panics with it").clone();
    let mut session = GdbSession::new(machine, waker, Arc::new(|| ())).expect("a thread");
    let mut out = Vec::new();
    let done: io::Result<()> = (|| {
        session.opened(&mut out)?;
        if raw {
            session.received(bytes, &mut out)?;
        } else {
            for body in bytes.split(|byte| *byte == b'\n').take(64) {
                session.received(&framed(body), &mut out)?;
            }
        }
        session.woken(&mut out)
    })();
    done.expect("a vector takes what is written");
    session.closed();
});
