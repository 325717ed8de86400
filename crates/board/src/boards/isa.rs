//! What boards with an ISA bus have in common: the PC's devices at the PC's ports.
//!
//! Helpers for boards, not a board. The ports' container and the interrupt lines are the board's.

use flatview::{MemoryError, Owner, Region, RegionId};
use flatview_device::{IrqLine, QtreeDevice, Unmodelled};
use flatview_hw::char::serial16550::Serial16550;
use flatview_hw::intc::i8259::I8259;
use flatview_hw::isa::pc_testdev::{IOMEM_ADDRESS, PcTestdev};

use super::device_kind;
use crate::builder::{BusId, PinDirection};
use crate::{BoardBuilder, BoardError};

/// A board's ISA bus.
#[derive(Debug, Clone)]
pub struct IsaBus {
    /// The container of ports.
    pub ports: RegionId,
    /// The bus in `info qtree`.
    pub bus: BusId,
    /// The sixteen interrupts.
    pub irqs: Vec<IrqLine>,
}

impl IsaBus {
    /// An interrupt by number; beyond the sixteen, a line that leads nowhere.
    pub fn irq(&self, n: usize) -> IrqLine {
        self.irqs.get(n).cloned().unwrap_or_else(|| IrqLine::new("unconnected"))
    }

    /// Adds and maps ports of a device that is not modelled yet.
    ///
    /// # Errors
    /// What the memory says.
    pub fn unmodelled(
        &self,
        b: &mut BoardBuilder<'_>,
        owner: &Owner,
        name: &str,
        ports: &[(u64, u64)],
    ) -> Result<(), MemoryError> {
        for (port, size) in ports {
            b.map_unmodelled(self.ports, *port, 0, name, *size, owner)?;
        }
        Ok(())
    }

    /// Maps regions at their first ports.
    ///
    /// # Errors
    /// What the memory says.
    pub fn map(
        &self,
        b: &mut BoardBuilder<'_>,
        regions: impl IntoIterator<Item = (u16, Region)>,
    ) -> Result<(), MemoryError> {
        for (port, region) in regions {
            b.map(self.ports, port.into(), 0, region)?;
        }
        Ok(())
    }

    /// A serial port: `owner` is the ISA card, below which the object tree shows the UART.
    ///
    /// # Errors
    /// What opening the back end gives.
    pub fn serial(
        &self,
        b: &mut BoardBuilder<'_>,
        n: usize,
        port: u16,
        irq: usize,
        card: impl FnOnce(&mut BoardBuilder<'_>, &str) -> Owner,
    ) -> Result<(), BoardError> {
        let (name, backend) = b.serial(n)?;
        let owner = card(b, &name);
        b.object(&format!("{}/serial", owner.path()), "serial");
        let uart = Serial16550::new(&name, backend, b.clock());
        uart.irq().connect_to(&self.irq(irq));
        b.map(self.ports, port.into(), 0, uart.region(&owner))?;
        b.reset(&uart);
        b.plug(self.bus, move || {
            QtreeDevice::new("isa-serial")
                .number("index", n as u64)
                .number("iobase", port.into())
                .number("irq", irq as u64)
        });
        Ok(())
    }

    /// The real-time clock: not modelled yet.
    ///
    /// # Errors
    /// What the memory says.
    pub fn rtc(&self, b: &mut BoardBuilder<'_>, owner: &Owner, base_year: u64) -> Result<(), MemoryError> {
        let rtc = b.map_unmodelled(self.ports, 0x70, 0, "rtc", 2, owner)?;
        b.map_unmodelled(rtc, 0, 0, "rtc-index", 1, owner)?;
        b.plug(self.bus, move || {
            QtreeDevice::new("mc146818rtc")
                .unmodelled()
                .gpio_out("", 1)
                .number("base_year", base_year)
                .number("iobase", 0x70)
                .number("irq", 8)
                .text("lost_tick_policy", "discard")
        });
        Ok(())
    }

    /// The interval timer: not modelled yet.
    ///
    /// # Errors
    /// What the memory says.
    pub fn pit(&self, b: &mut BoardBuilder<'_>, owner: &Owner) -> Result<(), MemoryError> {
        self.unmodelled(b, owner, "pit", &[(0x40, 4)])?;
        b.pins(owner, PinDirection::In, None, &[IrqLine::new("isa-pit.in")]);
        b.plug(self.bus, || {
            QtreeDevice::new("isa-pit").unmodelled().gpio_in("", 1).gpio_out("", 1).number("iobase", 0x40)
        });
        Ok(())
    }

    /// The keyboard controller: not modelled yet.
    ///
    /// # Errors
    /// What the memory says.
    pub fn i8042(&self, b: &mut BoardBuilder<'_>, owner: &Owner) -> Result<(), MemoryError> {
        self.unmodelled(b, owner, "i8042-data", &[(0x60, 1)])?;
        self.unmodelled(b, owner, "i8042-cmd", &[(0x64, 1)])?;
        for port in ["ps2-kbd", "ps2-mouse"] {
            let line = IrqLine::new(format!("{port}-input-irq"));
            b.pins(owner, PinDirection::In, Some(&format!("{port}-input-irq")), &[line]);
            let object = port.replace('-', "");
            b.object(&format!("{}/{object}", owner.path()), port);
            b.plug(b.system_bus(), move || QtreeDevice::new(port).unmodelled().gpio_out("", 1));
        }
        b.plug(self.bus, || {
            QtreeDevice::new("i8042")
                .unmodelled()
                .gpio_in("ps2-mouse-input-irq", 1)
                .gpio_in("ps2-kbd-input-irq", 1)
                .gpio_out("", 2)
                .gpio_out("a20", 1)
                .flag("extended-state", true)
                .flag("kbd-throttle", false)
                .number("kbd-irq", 1)
                .number("mouse-irq", 12)
        });
        Ok(())
    }

    /// One chip of the interrupt controller.
    ///
    /// # Errors
    /// What the memory says.
    pub fn pic(
        &self,
        b: &mut BoardBuilder<'_>,
        owner: &Owner,
        chip: &std::sync::Arc<I8259>,
    ) -> Result<(), MemoryError> {
        self.map(b, [(chip.base(), chip.region(owner)), (chip.elcr_port(), chip.elcr_region(owner))])?;
        b.pins(owner, PinDirection::In, None, chip.inputs());
        b.pins(owner, PinDirection::Out, None, &[chip.output().clone()]);
        b.reset(chip);
        let picture = chip.clone();
        b.plug(self.bus, move || picture.qtree());
        Ok(())
    }

    /// What the user added with `-device`; `memory` is the container in which memory-mapped parts stand.
    ///
    /// # Errors
    /// [`BoardError::UnknownDevice`] for what is not taken.
    pub fn user_devices(&self, b: &mut BoardBuilder<'_>, memory: RegionId) -> Result<(), BoardError> {
        for (n, argument) in b.config().devices.iter().enumerate() {
            let kind = device_kind(argument)?;
            let owner = b.device(&format!("/machine/peripheral-anon/device[{n}]"), kind);
            let device = PcTestdev::new(&self.irqs, &b.memory().memory_space());
            self.map(b, device.port_regions(&owner))?;
            b.map(memory, IOMEM_ADDRESS, 0, device.memory_region(&owner))?;
            b.plug(self.bus, move || device.qtree());
        }
        Ok(())
    }
}

/// The sixteen inputs of a pair of interrupt controllers.
pub fn irqs(master: &I8259, slave: &I8259) -> Vec<IrqLine> {
    master.inputs().iter().chain(slave.inputs()).cloned().collect()
}

/// Ports of a VGA card, as (first port, number of ports).
pub const VGA_PORTS: [(u64, u64); 5] = [(0x3b4, 2), (0x3ba, 1), (0x3c0, 16), (0x3d4, 2), (0x3da, 1)];

/// Adds `rules`-less unmodelled i/o to a device, unmapped: for regions that PCI base addresses place.
pub fn placeholder(b: &BoardBuilder<'_>, owner: &Owner, name: &str, size: u64) -> Region {
    Unmodelled::region(name, size.into(), b.log()).owner(owner)
}
