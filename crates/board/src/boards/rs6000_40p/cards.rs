//! The 40p's PCI cards: SCSI, VGA and network. Their configuration space is modelled, so that their regions come and go
//! where the guest puts them. On the SCSI controller's bus stand the drives that the user asks for; what the regions of VGA and
//! network do is not modelled yet, but for the memory of the VGA card.

use std::path::Path;
use std::sync::Arc;

use flatview::{Ops, Owner, Region};
use flatview_device::IrqLine;
use flatview_hw::pci::function::{Bar, BarKind, Identity, common_properties};
use flatview_hw::scsi::bus::{ScsiBus, Unit};
use flatview_hw::scsi::disk::Kind;
use flatview_hw::scsi::lsi53c810::Lsi53c810;

use super::super::isa::{IsaBus, VGA_PORTS, placeholder};
use super::{Host, MIB, function};
use crate::drives;
use crate::firmware;
use crate::{BoardBuilder, BoardError};

/// Where the CD-ROM drive stands that there is without being asked for.
const CDROM_UNIT: u8 = 2;

pub(super) fn lsi(b: &mut BoardBuilder<'_>, host: &mut Host, irq: &IrqLine) -> Result<(), BoardError> {
    let owner = b.unattached("lsi53c810");
    let mut drives = drives::scsi(b, CDROM_UNIT)?;
    let units = drives.iter().map(|(id, drive)| (*id, 0, drive.clone() as Arc<dyn Unit>)).collect();
    let chip = Lsi53c810::new(ScsiBus::new(units), b.clock(), b.log());
    let bars = [
        (BarKind::Io, 0x100, chip.registers_region("lsi-io", 0x100, &owner)),
        (MEMORY, 0x400, chip.registers_region("lsi-mmio", 0x400, &owner)),
        (MEMORY, 0x2000, chip.ram_region(&owner)),
    ];
    let mut regions = Vec::new();
    for (number, (kind, size, region)) in (0..).zip(bars) {
        let region = b.add(region)?;
        regions.push(Bar { number, kind, size, region });
    }
    let identity = Identity {
        vendor: 0x1000,
        device: 0x0001,
        class: 0x0100,
        latency: 0xff,
        pin: 1,
        subsystem: (0x0000, 0x1000),
        ..Identity::default()
    };
    let (plug, space) = function(b, host, &owner, "lsi53c810", 1, identity, regions, |d| {
        common_properties(d.gpio_out("", 1), 1, "", u32::MAX.into())
    })?;
    chip.set_space(&space);
    chip.irq().connect_to(irq);
    b.reset(&chip);
    b.memory().address_space("lsi-pci-io", host.spaces.io)?;
    let bus = b.bus(plug, "scsi.0", "SCSI");
    b.object(&format!("{}/scsi.0", owner.path()), "SCSI");
    for (id, drive) in &drives {
        b.drives().add(drive, &format!("{}/scsi.0/legacy[{id}]", owner.path()));
    }
    // Devices are made in the order of their numbers, whatever the order of the options.
    drives.sort_by_key(|drive| drive.0);
    for (id, drive) in drives {
        let kind = if drive.kind() == Kind::CdRom { "scsi-cd" } else { "scsi-hd" };
        b.object(&format!("{}/scsi.0/legacy[{id}]", owner.path()), kind);
        b.plug(bus, move || drive.qtree(id, 0));
    }
    Ok(())
}

const MEMORY: BarKind = BarKind::Memory { prefetchable: false };

/// An expansion ROM: empty unless its file is found, which is nobody's mistake.
fn option_rom(
    b: &mut BoardBuilder<'_>,
    owner: &Owner,
    block: &str,
    name: &str,
    size: u32,
    file: &str,
) -> Result<Bar, BoardError> {
    let block = b.ram_block(block, size.into())?;
    if let Some(path) = b.firmware_dirs().find(Path::new(file)) {
        let data = firmware::read("expansion ROM", &path)?;
        if block.write(0, &data).is_err() {
            let problem = format!("it has {} bytes, and the ROM only {size}", data.len());
            return Err(BoardError::Image { what: "expansion ROM", path, problem });
        }
    }
    let region = b.add(Region::rom(name, block).owner(owner))?;
    Ok(Bar { number: 6, kind: BarKind::Rom, size, region })
}

pub(super) fn vga(b: &mut BoardBuilder<'_>, host: &mut Host, isa: &IsaBus) -> Result<(), BoardError> {
    let owner = b.unattached("VGA");
    b.map_unmodelled(host.spaces.memory, 0xa_0000, 1, "vga-lowmem", 0x2_0000, &owner)?;
    isa.unmodelled(b, &owner, "vga", &VGA_PORTS)?;
    isa.unmodelled(b, &owner, "vbe", &[(0x1ce, 4)])?;
    let block = b.ram_block("pci.0:02.0/vga.vram", 16 * MIB)?;
    let vram = b.add(Region::ram("vga.vram", block).owner(&owner))?;
    // Between its parts it answers too, as a bus does where nobody is.
    let nobody = Ops::new().read(|_| Ok(u64::MAX)).write(|_, _| Ok(())).peek(|_, _| Some(u64::MAX));
    let mmio = b.add(Region::io("vga.mmio", 0x1000, nobody).owner(&owner))?;
    for (name, at, size) in [
        ("edid", 0, 0x180),
        ("vga ioports remapped", 0x400, 0x20),
        ("bochs dispi interface", 0x500, 0x16),
        ("qemu extended regs", 0x600, 8),
    ] {
        b.map_unmodelled(mmio, at, 0, name, size, &owner)?;
    }
    let rom = option_rom(b, &owner, "pci.0:02.0/vga.rom", "vga.rom", 0x1_0000, "vgabios-stdvga.bin")?;
    let bars = vec![
        Bar { number: 0, kind: BarKind::Memory { prefetchable: true }, size: 0x100_0000, region: vram },
        Bar { number: 2, kind: MEMORY, size: 0x1000, region: mmio },
        rom,
    ];
    let identity = Identity {
        vendor: 0x1234,
        device: 0x1111,
        revision: 2,
        class: 0x0300,
        subsystem: (0x1af4, 0x1100),
        ..Identity::default()
    };
    function(b, host, &owner, "VGA", 2, identity, bars, |d| {
        let d = d
            .unmodelled()
            .number("vgamem_mb", 16)
            .flag("mmio", true)
            .flag("qemu-extended-regs", true)
            .flag("edid", true)
            .number("xres", 1280)
            .number("yres", 800)
            .number("xmax", 0)
            .number("ymax", 0)
            .number("refresh_rate", 0)
            .flag("global-vmstate", false);
        common_properties(d, 2, "vgabios-stdvga.bin", 0x1_0000)
    })?;
    Ok(())
}

pub(super) fn pcnet(b: &mut BoardBuilder<'_>, host: &mut Host) -> Result<(), BoardError> {
    let owner = b.unattached("pcnet");
    let io = b.add(placeholder(b, &owner, "pcnet-io", 0x20))?;
    let mmio = b.add(placeholder(b, &owner, "pcnet-mmio", 0x20))?;
    let rom = option_rom(b, &owner, "pci.0:03.0/pcnet.rom", "pcnet.rom", 0x4_0000, "efi-pcnet.rom")?;
    let bars = vec![
        Bar { number: 0, kind: BarKind::Io, size: 0x20, region: io },
        Bar { number: 1, kind: MEMORY, size: 0x20, region: mmio },
        rom,
    ];
    let identity = Identity {
        vendor: 0x1022,
        device: 0x2000,
        revision: 0x10,
        class: 0x0200,
        status: 0x0280,
        pin: 1,
        timing: (0x06, 0xff),
        ..Identity::default()
    };
    function(b, host, &owner, "pcnet", 3, identity, bars, |d| {
        let d = d.unmodelled().text("mac", "52:54:00:12:34:56").text("netdev", "hub0port0");
        common_properties(d, 3, "efi-pcnet.rom", 0x4_0000)
    })?;
    Ok(())
}
