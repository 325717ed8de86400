//! `pc87312`: National's Super I/O chip, its two configuration ports only.
//!
//! Index at port 0x398, data at 0x399; registers FER, FAR and PTR can be written, others read 0. The devices inside the
//! chip (floppy, two serial ports, parallel port, keyboard controller) are devices of their own which the board places
//! where the configuration strap says; writing other values into the registers does not move them, which is logged.
//! (PC87312 datasheet §2.)

use std::sync::Arc;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::{DeviceCell, Log, LogMask, QtreeDevice, Reset};

/// Port of the index register; the data register follows.
pub const BASE: u16 = 0x398;

/// What the chip answers to the first read of the index register after reset (datasheet §2.2).
const IDENTIFICATION: u8 = 0x88;
/// FER, FAR and PTR for each of the strap's values that the 40p can have: here strap 12.
const STRAPPED: [u8; 3] = [0x0f, 0x10, 0x00];

/// The device.
#[derive(Debug)]
pub struct Pc87312 {
    cell: DeviceCell<State>,
    log: Log,
}

#[derive(Debug)]
struct State {
    index: u8,
    /// How many reads of the index register gave the identification sequence so far.
    identified: u8,
    registers: [u8; 3],
}

impl State {
    fn at_reset() -> State {
        State { index: 0, identified: 0, registers: STRAPPED }
    }
}

impl Pc87312 {
    /// The chip, strapped for configuration 12: all of its devices at their usual places.
    pub fn new(log: &Log) -> Arc<Pc87312> {
        Arc::new(Pc87312 { cell: DeviceCell::new(State::at_reset()), log: log.clone() })
    }

    /// The region of the two configuration ports.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("pc87312", 2, Ports(self.clone())).owner(owner)
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("pc87312").number("iobase", BASE.into()).number("config", 12)
    }
}

impl Reset for Pc87312 {
    fn reset(&self) {
        self.cell.with(|state, _| *state = State::at_reset());
    }
}

struct Ports(Arc<Pc87312>);

impl MmioOps for Ports {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Little).valid(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.cell.with(|state, _| {
            match access.offset() {
                0 => {}
                1 => return state.registers.get(usize::from(state.index)).copied().unwrap_or(0).into(),
                // Pieces of a wide access that lie beyond the two ports.
                _ => return 0,
            }
            let value = match state.identified {
                0 => IDENTIFICATION,
                1 => 0,
                _ => state.index,
            };
            state.identified = state.identified.saturating_add(1);
            value.into()
        }))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        let value = value as u8;
        let changed = self.0.cell.with(|state, _| {
            match access.offset() {
                0 => {
                    state.index = value;
                    state.identified = 2;
                    return false;
                }
                1 => {}
                _ => return false,
            }
            match state.registers.get_mut(usize::from(state.index)) {
                Some(register) => {
                    *register = value;
                    state.registers != STRAPPED
                }
                None => false,
            }
        });
        if changed {
            self.0
                .log
                .line(LogMask::UNIMP, format_args!("pc87312: moving the chip's devices is not modelled"));
        }
        Ok(())
    }
}
