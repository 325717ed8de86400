//! `cs4231a`: Crystal's audio codec, with its registers and without sound.
//!
//! Two ports reach 32 registers by an index; 16 of them until MODE2 is set. What a driver writes is kept and read back as
//! on QEMU. Enabling playback or capture moves no sample: the codec never asks for DMA and never interrupts, which `-d unimp` tells.
//! (CS4231A data sheet, "Register definitions"; names of registers and bits are the data sheet's.)
//!
//! | port | write | read |
//! |---|---|---|
//! | +0 | index: 4–0 register, 5 TRD, 6 MCE | the same |
//! | +1 | the register | the same |
//! | +2 | any value: interrupts are acknowledged | 0: status, no interrupt, no sample waits |
//! | +3 | a sample, which is lost | 0 |

use std::sync::Arc;

use flatview::{Access, AccessRules, DeviceEndian, MemTxError, MmioOps, Owner, Region};
use flatview_device::{DeviceCell, Log, LogMask, QtreeDevice, Reset};

/// First port, of four.
pub const BASE: u16 = 0x830;

const INDEX: u8 = 0x7f;
/// Mode change enable, in the index.
const MCE: u8 = 1 << 6;
/// Registers with a meaning for others.
mod reg {
    /// Playback data format: only with MCE.
    pub const FORMAT: usize = 8;
    pub const INTERFACE: usize = 9;
    /// Error status and initialisation: bit 5 is ACI.
    pub const ERROR: usize = 11;
    pub const MODE: usize = 12;
    pub const ALTERNATE_STATUS: usize = 24;
}
/// Playback and capture enable, in the interface configuration.
const ENABLES: u8 = 3;
/// What of the interface configuration can be written.
const INTERFACE_WRITABLE: u8 = 0xdf;
/// Calibration, in the interface configuration.
const CALIBRATES: u8 = 0x18;
const CALIBRATING: u8 = 1 << 5;
const MODE2: u8 = 1 << 6;
/// The identification beside MODE2.
const ID: u8 = 0x8a;
/// The interrupt bits of the alternate status.
const INTERRUPTS: u8 = 0x70;
const READ_ONLY: [usize; 4] = [reg::ERROR, 22, 27, 29];

/// The registers after reset.
const AT_RESET: [u8; 32] = {
    let mut registers = [0; 32];
    registers[2] = 0x88;
    registers[3] = 0x88;
    registers[4] = 0x88;
    registers[5] = 0x88;
    registers[6] = 0x80;
    registers[7] = 0x80;
    registers[9] = 0x08;
    registers[12] = ID;
    registers[18] = 0x88;
    registers[19] = 0x88;
    registers[25] = 0xa0;
    registers[26] = 0xa0;
    registers
};

/// The codec.
#[derive(Debug)]
pub struct Cs4231a {
    cell: DeviceCell<State>,
    log: Log,
}

#[derive(Debug)]
struct State {
    index: u8,
    registers: [u8; 32],
    /// A calibration was asked for; the next look sees it go on, and later ones that it is over.
    calibrating: bool,
}

impl State {
    fn at_reset() -> State {
        State { index: MCE, registers: AT_RESET, calibrating: false }
    }

    /// The register that the index means.
    fn number(&self) -> usize {
        let mode2 = self.registers.get(reg::MODE).is_some_and(|mode| mode & MODE2 != 0);
        usize::from(self.index & if mode2 { 0x1f } else { 0x0f })
    }

    fn register(&self, number: usize) -> u8 {
        self.registers.get(number).copied().unwrap_or(0)
    }

    fn look(&self, port: u64) -> u8 {
        match port {
            0 => self.index,
            1 => {
                let number = self.number();
                let calibrating = number == reg::ERROR && self.calibrating;
                self.register(number) | if calibrating { CALIBRATING } else { 0 }
            }
            _ => 0,
        }
    }

    /// Whether the write asks for sound.
    fn write(&mut self, port: u64, value: u8) -> bool {
        match port {
            0 => {
                let calibrates = self.register(reg::INTERFACE) & CALIBRATES != 0;
                // On the chip when MCE falls again; as on QEMU it shows from when MCE rises.
                if value & !self.index & MCE != 0 && calibrates {
                    self.calibrating = true;
                }
                self.index = value & INDEX;
            }
            1 => {
                let number = self.number();
                if READ_ONLY.contains(&number) || number == reg::FORMAT && self.index & MCE == 0 {
                    return false;
                }
                let value = match number {
                    reg::INTERFACE => value & INTERFACE_WRITABLE,
                    reg::MODE => value & MODE2 | ID,
                    _ => value,
                };
                if let Some(slot) = self.registers.get_mut(number) {
                    *slot = value;
                }
                return number == reg::INTERFACE && value & ENABLES != 0;
            }
            2 => {
                if let Some(slot) = self.registers.get_mut(reg::ALTERNATE_STATUS) {
                    *slot &= !INTERRUPTS;
                }
            }
            _ => return true,
        }
        false
    }
}

impl Cs4231a {
    /// The codec, silent.
    pub fn new(log: &Log) -> Arc<Cs4231a> {
        Arc::new(Cs4231a { cell: DeviceCell::new(State::at_reset()), log: log.clone() })
    }

    /// The region of the four ports.
    pub fn region(self: &Arc<Self>, owner: &Owner) -> Region {
        Region::io("cs4231a", 4, Ports(self.clone())).owner(owner)
    }

    /// The entry in `info qtree`.
    pub fn qtree(irq: u64, dma: u64) -> QtreeDevice {
        QtreeDevice::new("cs4231a")
            .line("sound: not modelled yet")
            .text("audiodev", "none")
            .number("iobase", BASE.into())
            .number("irq", irq)
            .number("dma", dma)
    }
}

impl Reset for Cs4231a {
    fn reset(&self) {
        self.cell.with(|state, _| *state = State::at_reset());
    }
}

struct Ports(Arc<Cs4231a>);

impl MmioOps for Ports {
    fn rules(&self) -> AccessRules {
        AccessRules::new().endian(DeviceEndian::Native).implemented(1, 1)
    }

    fn read(&self, access: &Access<'_>) -> Result<u64, MemTxError> {
        Ok(self.0.cell.with(|state, _| {
            let value = state.look(access.offset());
            if access.offset() == 1 && state.number() == reg::ERROR {
                state.calibrating = false;
            }
            value.into()
        }))
    }

    fn write(&self, access: &Access<'_>, value: u64) -> Result<(), MemTxError> {
        if self.0.cell.with(|state, _| state.write(access.offset(), value as u8)) {
            self.0.log.line(LogMask::UNIMP, format_args!("cs4231a: sound is not modelled"));
        }
        Ok(())
    }

    fn peek(&self, offset: u64, _size: u32) -> Option<u64> {
        Some(self.0.cell.peek(|state| state.look(offset).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(state: &mut State, number: u8) -> u8 {
        state.write(0, number);
        state.look(1)
    }

    fn write(state: &mut State, number: u8, value: u8) -> bool {
        state.write(0, number);
        state.write(1, value)
    }

    #[test]
    fn registers_after_reset_are_qemus_in_both_modes() {
        let mut state = State::at_reset();
        assert_eq!(state.look(0), 0x40);
        let all: Vec<u8> = (0..16).map(|n| read(&mut state, n)).collect();
        assert_eq!(all, [0, 0, 0x88, 0x88, 0x88, 0x88, 0x80, 0x80, 0, 8, 0, 0, 0x8a, 0, 0, 0]);
        assert_eq!(
            (0..16).map(|n| read(&mut state, 16 + n)).collect::<Vec<_>>(),
            all,
            "one bit less of index"
        );
        write(&mut state, 12, 0x40);
        assert_eq!([12, 18, 25, 26, 28].map(|n| read(&mut state, n)), [0xca, 0x88, 0xa0, 0xa0, 0]);
    }

    #[test]
    fn what_is_written_is_kept_but_where_the_chip_keeps_it_for_itself() {
        let mut state = State::at_reset();
        write(&mut state, 12, 0xff);
        for number in (0..32).filter(|n| *n != 12) {
            let sound = write(&mut state, number, 0xff);
            assert_eq!(sound, number == 9);
            let expected = match number {
                8 | 11 | 22 | 27 | 29 => 0,
                9 => 0xdf,
                _ => 0xff,
            };
            assert_eq!(read(&mut state, number), expected, "{number}");
        }
        write(&mut state, 0x48, 0x5b);
        assert_eq!(read(&mut state, 8), 0x5b, "the format changes with MCE");
        state.write(2, 0);
        assert_eq!(read(&mut state, 24), 0x8f);
    }

    #[test]
    fn a_calibration_is_seen_once_after_the_mode_was_changed() {
        let codec = Cs4231a::new(&Log::none());
        let ports = Ports(codec.clone());
        codec.cell.with(|state, _| [0x0b, 0x40, 0x0b].map(|index| state.write(0, index)));
        assert_eq!((ports.peek(1, 1), ports.peek(0, 1)), (Some(0x20), Some(0x0b)));
        codec.cell.with(|state, _| {
            state.calibrating = false;
            write(state, 9, 0);
            state.write(0, 0x40);
            state.write(0, 0x0b);
        });
        assert_eq!(ports.peek(1, 1), Some(0));
    }
}
