//! `prep-systemio`: the system registers of IBM's PReP machines (RS/6000 40p), ports 0x92 and 0x808 to 0x852.
//!
//! Planar identification, equipment, L2 cache and memory-parity control, and the i/o map type. Also the 4-byte parity
//! error address register `ppc-parity`, in memory and not on a port. The ports have no reset of their own: a system
//! reset leaves them as they are. (RS/6000 7248 "Carolina" technical reference, system i/o registers.)

use std::sync::Arc;

use flatview::{AccessRules, DeviceEndian, Ops, Owner, Region};
use flatview_device::portio::{BytePorts, PortRange};
use flatview_device::{DeviceCell, IrqLine, QtreeDevice};

/// The device.
#[derive(Debug)]
pub struct SystemIo {
    planar_id: u8,
    equipment: u8,
    softreset: IrqLine,
    non_contiguous: IrqLine,
    cell: DeviceCell<State>,
}

#[derive(Debug)]
struct State {
    /// Port 0x92 bit 0.
    soft_reset: bool,
    /// Port 0x81c: the upper four bits can be written.
    system_control: u8,
    /// Port 0x850 bit 0: contiguous i/o map.
    map_type: u8,
}

impl SystemIo {
    /// The ports, as ranges of (first port, number of ports).
    pub const PORTS: [(u16, u16); 10] = [
        (0x92, 1),
        (0x808, 1),
        (0x80c, 1),
        (0x810, 1),
        (0x812, 1),
        (0x814, 1),
        (0x818, 1),
        (0x81c, 1),
        (0x850, 1),
        (0x852, 1),
    ];
    /// Where `ppc-parity` stands in memory.
    pub const PARITY_ADDRESS: u64 = 0xbfff_eff0;

    /// A device with the 40p's identification: planar 0xfc, equipment 0xc0 (no L2 cache, no upgrade).
    pub fn new() -> Arc<SystemIo> {
        Arc::new(SystemIo {
            planar_id: 0xfc,
            equipment: 0xc0,
            softreset: IrqLine::new("prep-systemio.softreset"),
            non_contiguous: IrqLine::new("prep-systemio.non-contiguous-io-map"),
            cell: DeviceCell::new(State { soft_reset: false, system_control: 0, map_type: 1 }),
        })
    }

    /// Goes high when a guest asks for a soft reset (port 0x92 bit 0 rises); wired to the CPU's reset input.
    pub fn softreset(&self) -> &IrqLine {
        &self.softreset
    }

    /// High while the guest has asked for the non-contiguous i/o map (port 0x850 bit 0 clear). QEMU 7.2's board leaves
    /// it unconnected.
    pub fn non_contiguous(&self) -> &IrqLine {
        &self.non_contiguous
    }

    /// A region for each range of [`SystemIo::PORTS`], with its first port.
    pub fn port_regions(self: &Arc<Self>, owner: &Owner) -> Vec<(u16, Region)> {
        Self::PORTS
            .into_iter()
            .map(|(base, length)| {
                let ops = PortRange::new(self, base, length);
                (base, Region::io("systemio800", u128::from(length), ops).owner(owner))
            })
            .collect()
    }

    /// The parity error address register: there are no parity errors, so it reads 0. Words only.
    pub fn parity_region(owner: &Owner) -> Region {
        let ops = Ops::new()
            .rules(AccessRules::new().endian(DeviceEndian::Native).valid(4, 4))
            .read(|_| Ok(0))
            .write(|_, _| Ok(()))
            .peek(|_, _| Some(0));
        Region::io("ppc-parity", 4, ops).owner(owner)
    }

    /// The entry in `info qtree`.
    pub fn qtree(&self) -> QtreeDevice {
        QtreeDevice::new("prep-systemio")
            .gpio_out("", 1)
            .number("ibm-planar-id", self.planar_id.into())
            .number("equipment", self.equipment.into())
    }

    fn look(&self, port: u16) -> u8 {
        self.cell.peek(|state| match port {
            0x92 => u8::from(state.soft_reset),
            0x80c => self.equipment,
            // Password protection, L2 invalidate and the like are not readable.
            0x818 => 0,
            0x81c => state.system_control,
            0x850 => state.map_type,
            0x852 => self.planar_id,
            _ => 0xff,
        })
    }
}

impl BytePorts for SystemIo {
    fn read(&self, port: u16) -> u8 {
        self.look(port)
    }

    fn write(&self, port: u16, value: u8) {
        self.cell.with(|state, effects| match port {
            0x92 => {
                let asked = value & 1 != 0;
                if asked && !state.soft_reset {
                    let line = self.softreset.clone();
                    effects.call(move || line.pulse());
                }
                state.soft_reset = asked;
            }
            0x81c => state.system_control = value & 0xf0,
            0x850 => {
                state.map_type = value & 1;
                effects.line(&self.non_contiguous, value & 1 == 0);
            }
            _ => {}
        });
    }

    fn peek(&self, port: u16) -> Option<u8> {
        Some(self.look(port))
    }
}
