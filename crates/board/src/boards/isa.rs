//! What boards with an ISA bus have in common: the PC's devices at the PC's ports.
//!
//! Helpers for boards, not a board. The ports' container and the interrupt lines are the board's.

use std::sync::Arc;

use flatview::{MemoryError, Owner, Region, RegionId};
use flatview_device::{IrqLine, QtreeDevice, Unmodelled};
use flatview_hw::char::parallel::Parallel;
use flatview_hw::char::serial16550::Serial16550;
use flatview_hw::dma::DmaChannel;
use flatview_hw::dma::i8257::I8257;
use flatview_hw::input::i8042::I8042;
use flatview_hw::intc::i8259::I8259;
use flatview_hw::isa::pc_testdev::{IOMEM_ADDRESS, PcTestdev};
use flatview_hw::timer::i8254::{self, I8254};
use flatview_hw::timer::mc146818::{self, Mc146818};
use flatview_hw::timer::pcspk::{self, PcSpeaker};

use super::device_kind;
use crate::builder::{BusId, PinDirection};
use crate::state::{Cause, Request};
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
    /// The DMA controllers, of four channels each; none on boards without.
    pub dma: Vec<Arc<I8257>>,
}

impl IsaBus {
    /// An interrupt by number; beyond the sixteen, a line that leads nowhere.
    pub fn irq(&self, n: usize) -> IrqLine {
        self.irqs.get(n).cloned().unwrap_or_else(|| IrqLine::new("unconnected"))
    }

    /// A DMA channel by number, if the board has it.
    pub fn dma(&self, n: usize) -> Option<DmaChannel> {
        self.dma.get(n / 4).map(|controller| controller.channel(n % 4))
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

    /// A parallel port.
    ///
    /// # Errors
    /// What opening the back end gives.
    pub fn parallel(
        &self,
        b: &mut BoardBuilder<'_>,
        n: usize,
        port: u16,
        irq: usize,
        owner: &Owner,
    ) -> Result<(), BoardError> {
        let device = Parallel::new(port, b.parallel(n)?);
        device.irq().connect_to(&self.irq(irq));
        self.map(b, [(port, device.region(owner))])?;
        b.reset(&device);
        b.plug(self.bus, move || device.qtree(n, irq));
        Ok(())
    }

    /// The real-time clock, on interrupt 8.
    ///
    /// # Errors
    /// What the memory says.
    pub fn rtc(
        &self,
        b: &mut BoardBuilder<'_>,
        owner: &Owner,
        base_year: u16,
    ) -> Result<Arc<Mc146818>, MemoryError> {
        let rtc = Mc146818::new(b.wall_clock(), base_year);
        rtc.irq().connect_to(&self.irq(8));
        let (ports, index) = rtc.regions(owner);
        let ports = b.map(self.ports, mc146818::BASE.into(), 0, ports)?;
        b.map(ports, 0, 0, index)?;
        b.pins(owner, PinDirection::Out, None, &[rtc.irq().clone()]);
        b.reset(&rtc);
        let picture = rtc.clone();
        b.plug(self.bus, move || picture.qtree());
        Ok(rtc)
    }

    /// The interval timer, on interrupt 0.
    ///
    /// # Errors
    /// What the memory says.
    pub fn pit(&self, b: &mut BoardBuilder<'_>, owner: &Owner) -> Result<Arc<I8254>, MemoryError> {
        let pit = I8254::new(b.clock());
        pit.connect(&self.irq(0));
        self.map(b, [(i8254::BASE, pit.region(owner))])?;
        let enable = IrqLine::new("isa-pit.in");
        pit.connect_enable(&enable);
        b.pins(owner, PinDirection::In, None, &[enable]);
        b.pins(owner, PinDirection::Out, None, &[pit.irq().clone()]);
        b.reset(&pit);
        let picture = pit.clone();
        b.plug(self.bus, move || picture.qtree());
        Ok(pit)
    }

    /// The speaker's port, which also shows what counter 2 of the interval timer does.
    ///
    /// # Errors
    /// What the memory says.
    pub fn pcspk(
        &self,
        b: &mut BoardBuilder<'_>,
        owner: &Owner,
        pit: &Arc<I8254>,
    ) -> Result<(), MemoryError> {
        let speaker = PcSpeaker::new(pit);
        self.map(b, [(pcspk::PORT, speaker.region(owner))])?;
        b.reset(&speaker);
        b.plug(self.bus, move || speaker.qtree());
        Ok(())
    }

    /// The keyboard controller with keyboard and mouse, on interrupts 1 and 12.
    ///
    /// # Errors
    /// What the memory says.
    pub fn i8042(&self, b: &mut BoardBuilder<'_>, owner: &Owner) -> Result<Arc<I8042>, MemoryError> {
        let request = b.requester();
        let chip = I8042::new(move || request(Request::SystemReset(Cause::GuestReset)));
        chip.keyboard_irq().connect_to(&self.irq(1));
        chip.mouse_irq().connect_to(&self.irq(12));
        self.map(b, chip.regions(owner))?;
        for (port, line) in [("ps2-kbd", chip.keyboard_input()), ("ps2-mouse", chip.mouse_input())] {
            b.pins(owner, PinDirection::In, Some(&format!("{port}-input-irq")), std::slice::from_ref(line));
            let object = port.replace('-', "");
            b.object(&format!("{}/{object}", owner.path()), port);
            b.plug(b.system_bus(), move || QtreeDevice::new(port).gpio_out("", 1));
        }
        let irqs = [chip.keyboard_irq().clone(), chip.mouse_irq().clone()];
        b.pins(owner, PinDirection::Out, None, &irqs);
        b.pins(owner, PinDirection::Out, Some("a20"), std::slice::from_ref(chip.a20()));
        b.reset(&chip);
        let picture = chip.clone();
        b.plug(self.bus, move || picture.qtree());
        Ok(chip)
    }

    /// One chip of the interrupt controller.
    ///
    /// # Errors
    /// What the memory says.
    pub fn pic(&self, b: &mut BoardBuilder<'_>, owner: &Owner, chip: &Arc<I8259>) -> Result<(), MemoryError> {
        self.map(b, [(chip.base(), chip.region(owner)), (chip.elcr_port(), chip.elcr_region(owner))])?;
        b.pins(owner, PinDirection::In, None, chip.inputs());
        b.pins(owner, PinDirection::Out, None, &[chip.output().clone()]);
        b.reset(chip);
        let picture = chip.clone();
        b.plug(self.bus, move || picture.qtree());
        let shown = chip.clone();
        b.interrupt_state(move || shown.describe());
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
