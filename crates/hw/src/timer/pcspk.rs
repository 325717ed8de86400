//! `isa-pcspk`: the PC's port 0x61, by which counter 2 of the interval timer is let run and sounds.
//!
//! It makes no sound. (IBM PC AT technical reference, system control port B.)
//!
//! | bit | |
//! |---|---|
//! | 0 | gate of counter 2 |
//! | 1 | counter 2 drives the speaker |
//! | 4 | refresh toggle: changes at each read, as on QEMU, where a PC's changes every 15 µs; read-only |
//! | 5 | output of counter 2; read-only |

use std::sync::Arc;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::{DeviceCell, QtreeDevice, Reset};

use super::i8254::I8254;

/// The port.
pub const PORT: u16 = 0x61;
/// The counter it is about.
const COUNTER: usize = 2;
const GATE: u8 = 1;
const SPEAKER: u8 = 2;
const REFRESH: u8 = 1 << 4;
const OUT: u8 = 1 << 5;

/// The port and what is behind it.
#[derive(Debug)]
pub struct PcSpeaker {
    pit: Arc<I8254>,
    cell: DeviceCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Gate and speaker bits as written.
    control: u8,
    refresh: bool,
}

impl PcSpeaker {
    /// The port that goes with this timer.
    pub fn new(pit: &Arc<I8254>) -> Arc<PcSpeaker> {
        Arc::new(PcSpeaker { pit: pit.clone(), cell: DeviceCell::new(State::default()) })
    }

    /// The region of the port.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("pcspk", 1, Port(self.clone())).owner(owner)
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("isa-pcspk").text("audiodev", "").number("iobase", PORT.into()).flag("migrate", true)
    }

    fn read(&self) -> u8 {
        let out = if self.pit.out(COUNTER) { OUT } else { 0 };
        self.cell.with(|state, _| {
            state.refresh = !state.refresh;
            state.control | out | if state.refresh { REFRESH } else { 0 }
        })
    }

    fn write(&self, value: u8) {
        let gate = value & GATE != 0;
        self.cell.with(|state, effects| {
            state.control = value & (GATE | SPEAKER);
            let pit = self.pit.clone();
            effects.call(move || pit.set_gate(COUNTER, gate));
        });
    }
}

impl Reset for PcSpeaker {
    fn reset(&self) {
        self.write(0);
    }
}

struct Port(Arc<PcSpeaker>);

impl MmioOps for Port {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).implemented(1, 1)
    }

    fn read(&self, _access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.read().into())
    }

    fn write(&self, _access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        self.0.write(value as u8);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flatview_device::Clock;

    use super::*;

    #[test]
    fn the_port_opens_the_gate_and_shows_the_output() {
        let clock = Clock::stepped();
        let pit = I8254::new(&clock);
        let speaker = PcSpeaker::new(&pit);
        assert_eq!([speaker.read(), speaker.read(), speaker.read()], [0x30, 0x20, 0x30]);
        speaker.write(0xff);
        assert_eq!(speaker.read(), 0x23);
        clock.step(Some(40_000_000)).unwrap();
        assert_eq!(speaker.read(), 0x13, "the low half of 55 ms");
        speaker.write(0);
        assert_eq!(speaker.read(), 0x20, "with the gate closed the output is high");
    }
}
