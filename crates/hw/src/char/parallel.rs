//! `isa-parallel`: a PC's parallel port with a printer that takes each byte at once.
//!
//! Data, status and control; the further five ports, which an EPP or ECP port would have, read as ones and take nothing,
//! as on QEMU, which has EPP only on a port of the host's. Bytes go to the back end, nothing comes back. The lines that
//! the printer answers with are QEMU's: BUSY with the strobe, and with each look at the status after it ACK for one
//! reading, then neither. (IBM PC/AT Technical Reference, "Parallel printer adapter"; IEEE 1284-1994, compatibility mode. Bits of the
//! status are as read: BUSY and ACK are 0 while the printer is busy and acknowledges.)
//!
//! | port | write | read |
//! |---|---|---|
//! | +0 | data | data, or ones while bit 5 of the control says that the port receives |
//! | +1 | — | 7 not busy, 6 no acknowledge, 4 selected, 3 no error, 0 no time-out of an EPP cycle since the first initialisation |
//! | +2 | 0 strobe, 2 not initialise, 3 select, 4 interrupt, 5 receive | the same, with bits 6 and 7 |

use std::fmt;
use std::sync::Arc;

use flatview::{Owner, Region};
use flatview_device::portio::{BytePorts, PortRange};
use flatview_device::{CharBackend, DeviceCell, IrqLine, QtreeDevice, Reset};

/// Ports of the device.
const SIZE: u16 = 8;

const CONTROL_STROBE: u8 = 1;
const CONTROL_NOT_INIT: u8 = 1 << 2;
const CONTROL_SELECT: u8 = 1 << 3;
const CONTROL_INTERRUPT: u8 = 1 << 4;
const CONTROL_RECEIVE: u8 = 1 << 5;
/// Bits that no register has.
const CONTROL_ONES: u8 = 0xc0;

const STATUS_NOT_BUSY: u8 = 1 << 7;
const STATUS_NO_ACK: u8 = 1 << 6;
/// Not busy, no acknowledge, selected, no error.
const STATUS_IDLE: u8 = 0xd8;
const STATUS_TIMEOUT: u8 = 1;

/// The port.
pub struct Parallel {
    base: u16,
    backend: Arc<dyn CharBackend>,
    irq: IrqLine,
    cell: DeviceCell<State>,
}

impl fmt::Debug for Parallel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parallel").field("base", &self.base).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    data: u8,
    status: u8,
    control: u8,
    /// The printer has taken a byte and the status was not read since.
    pending: bool,
}

impl State {
    fn at_reset() -> State {
        State {
            data: 0xff,
            status: STATUS_IDLE | STATUS_TIMEOUT,
            control: CONTROL_NOT_INIT | CONTROL_SELECT,
            pending: false,
        }
    }

    /// Writes the control register; gives the byte that the printer takes, if it takes one.
    fn control(&mut self, value: u8) -> Option<u8> {
        let before = std::mem::replace(&mut self.control, value & !CONTROL_ONES);
        if value & CONTROL_NOT_INIT == 0 {
            self.status = STATUS_IDLE;
        } else if value & CONTROL_SELECT != 0 {
            if value & CONTROL_STROBE != 0 {
                self.status &= !STATUS_NOT_BUSY;
                return (before & CONTROL_STROBE == 0).then_some(self.data);
            }
            if before & CONTROL_INTERRUPT != 0 {
                self.pending = true;
            }
        }
        None
    }

    fn read_status(&mut self) -> u8 {
        let status = self.status;
        self.pending = false;
        if status & STATUS_NOT_BUSY == 0 && self.control & CONTROL_STROBE == 0 {
            self.status = if status & STATUS_NO_ACK != 0 {
                status & !STATUS_NO_ACK
            } else {
                status | STATUS_NO_ACK | STATUS_NOT_BUSY
            };
        }
        status
    }

    /// What a port shows, without what reading it does.
    fn look(&self, register: u16) -> u8 {
        match register {
            0 if self.control & CONTROL_RECEIVE == 0 => self.data,
            1 => self.status,
            2 => self.control | CONTROL_ONES,
            _ => 0xff,
        }
    }
}

impl Parallel {
    /// A port whose bytes go to `backend`.
    pub fn new(base: u16, backend: Arc<dyn CharBackend>) -> Arc<Parallel> {
        let irq = IrqLine::new("parallel.irq");
        Arc::new(Parallel { base, backend, irq, cell: DeviceCell::new(State::at_reset()) })
    }

    /// High from when the printer has taken a byte, if the guest asked for that, until the status is read.
    pub fn irq(&self) -> &IrqLine {
        &self.irq
    }

    /// The region of the eight ports.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("parallel", SIZE.into(), PortRange::new(self, self.base, SIZE)).owner(owner)
    }

    /// The entry in `info qtree`; `n` is which of the machine's parallel ports it is, `irq` its interrupt.
    pub fn qtree(&self, n: usize, irq: usize) -> QtreeDevice {
        QtreeDevice::new("isa-parallel")
            .number("index", n as u64)
            .number("iobase", self.base.into())
            .number("irq", irq as u64)
            .text("chardev", &self.backend.label())
    }
}

impl BytePorts for Parallel {
    fn read(&self, port: u16) -> u8 {
        let register = port.wrapping_sub(self.base);
        if register != 1 {
            return self.cell.peek(|state| state.look(register));
        }
        self.cell.with(|state, effects| {
            let status = state.read_status();
            effects.line(&self.irq, false);
            status
        })
    }

    fn write(&self, port: u16, value: u8) {
        let sent = self.cell.with(|state, effects| match port.wrapping_sub(self.base) {
            0 => {
                state.data = value;
                None
            }
            2 => {
                let sent = state.control(value);
                effects.line(&self.irq, state.pending);
                sent
            }
            _ => None,
        });
        if let Some(byte) = sent {
            // A printer never says no: what the back end does not take is lost, as on QEMU.
            self.backend.write(&[byte]);
        }
    }

    fn peek(&self, port: u16) -> Option<u8> {
        Some(self.cell.peek(|state| state.look(port.wrapping_sub(self.base))))
    }
}

impl Reset for Parallel {
    fn reset(&self) {
        self.cell.with(|state, effects| {
            *state = State::at_reset();
            effects.line(&self.irq, false);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatview_device::chardev::MemoryBackend;

    fn port() -> (Arc<Parallel>, Arc<MemoryBackend>) {
        let backend = MemoryBackend::new("parallel0");
        (Parallel::new(0x378, backend.clone()), backend)
    }

    #[test]
    fn registers_read_after_reset_as_on_qemu() {
        let (port, _) = port();
        let all = |port: &Parallel| (0x378..0x380).map(|at| port.read(at)).collect::<Vec<_>>();
        assert_eq!(all(&port), [0xff, 0xd9, 0xcc, 0xff, 0xff, 0xff, 0xff, 0xff]);
        for at in 0x378..0x380 {
            port.write(at, 0x5a);
        }
        assert_eq!(all(&port), [0x5a, 0xd8, 0xda, 0xff, 0xff, 0xff, 0xff, 0xff]);
        port.write(0x37a, 0x2c);
        assert_eq!(port.read(0x378), 0xff, "nobody drives the data");
        port.reset();
        assert_eq!(all(&port), [0xff, 0xd9, 0xcc, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn the_rising_strobe_sends_a_byte_to_a_printer_that_is_selected() {
        let (port, backend) = port();
        for (byte, control) in
            [(b'A', 0x0d), (b'B', 0x0c), (b'C', 0x0d), (b'D', 0x0d), (b'E', 0x0c), (b'F', 0x09), (b'G', 0x08)]
        {
            port.write(0x378, byte);
            port.write(0x37a, control);
        }
        for (byte, control) in [(b'H', 0x05), (b'I', 0x04), (b'J', 0x2d), (b'K', 0x0c), (b'L', 0x4d)] {
            port.write(0x378, byte);
            port.write(0x37a, control);
        }
        assert_eq!(backend.take(), b"ACJL");
    }

    #[test]
    fn after_the_strobe_the_printer_is_busy_acknowledges_and_is_ready() {
        let (port, _) = port();
        port.write(0x37a, 0x08);
        port.write(0x37a, 0x0d);
        assert_eq!([port.read(0x379), port.read(0x379)], [0x58, 0x58]);
        port.write(0x37a, 0x0c);
        assert_eq!(port.peek(0x379), Some(0x58));
        assert_eq!([0; 3].map(|_| port.read(0x379)), [0x58, 0x18, 0xd8]);
    }

    #[test]
    fn a_byte_taken_interrupts_until_the_status_is_read() {
        let (port, _) = port();
        let levels = |values: &[u8]| {
            values
                .iter()
                .map(|value| {
                    port.write(0x37a, *value);
                    port.irq().level()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(levels(&[0x1c, 0x1d, 0x1c]), [false, false, true]);
        port.read(0x379);
        assert!(!port.irq().level());
        assert_eq!(levels(&[0x0d, 0x0c, 0x1d, 0x0c]), [false, false, false, true]);
        port.reset();
        assert!(!port.irq().level());
    }
}
