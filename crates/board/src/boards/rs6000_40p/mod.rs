//! `40p`: IBM's RS/6000 7020 (40p), a PReP machine with a PowerPC 604, as QEMU 7.2 has it.
//!
//! Regions, owners, priorities and order are QEMU's: `info mtree` prints the same. SIMMs under the control of `rs6000-mc`
//! from address 0; PCI ports at 0x80000000 behind a forwarding window, PCI memory at 0xc0000000; firmware
//! configuration at 0xf0000510; 1 MiB of ROM at the top. All ISA devices stand on the bus of the i82378 bridge. Devices
//! that are not modelled yet are named so by `info qtree` and log their accesses.

use std::path::Path;
use std::sync::Arc;

use flatview::{AddressSpace, Endianness, Owner, RamBlock, Region, RegionId, Share};
use flatview_cpu::Cpu;
use flatview_cpu::ppc::{BusErrors, Ppc, PpcModel};
use flatview_device::{IrqLine, OrGate, QtreeDevice};
use flatview_hw::dma::i8257::{self, I8257};
use flatview_hw::dma::i82374::I82374;
use flatview_hw::intc::i8259::I8259;
use flatview_hw::isa::fdc::Fdc;
use flatview_hw::isa::fdc::drive::Drive;
use flatview_hw::isa::pc87312::Pc87312;
use flatview_hw::isa::rs6000_mc::Rs6000Mc;
use flatview_hw::isa::systemio::SystemIo;
use flatview_hw::nvram::fw_cfg::{FwCfg, key};
use flatview_hw::nvram::m48t59::{self, M48t59};
use flatview_hw::pci::function::{Bar, BusSpaces, Identity, PciFunction, common_properties};
use flatview_hw::pci::raven::{self, Raven};

use super::Board;
use super::isa::{IsaBus, irqs};
use super::prep_nvram;
use crate::builder::{BusId, PinDirection, PlugId};
use crate::firmware::{self, Rom, Target};
use crate::{BoardBuilder, BoardError, BoardInfo};

const MIB: u64 = 1 << 20;
const FIRMWARE: &str = "openbios-ppc";
const BIOS_BASE: u64 = 0xfff0_0000;
const BIOS_SIZE: u64 = MIB;
const FW_CFG_CONTROL: u64 = 0xf000_0510;
const FW_CFG_DATA: u64 = 0xf000_0512;
/// Where a program is loaded, and the text it is told.
const KERNEL_BASE: u64 = 0x0100_0000;
const COMMAND_LINE: u64 = 0x017f_f000;
/// RAM sizes are 32 bits wide in `rs6000-mc`.
const RAM_LIMIT: u64 = 1 << 32;
/// Inputs of the CPU: hard reset and external interrupt.
const CPU_HRESET: usize = 0;
/// The checksums in the clock chip's RAM that firmware expects, by index: 0x6aa9, twice.
const RTC_CHECKSUMS: [(u8, u8); 4] = [(0x2e, 0xa9), (0x2f, 0x6a), (0x3e, 0xa9), (0x3f, 0x6a)];
const CPU_INT: usize = 5;
/// What the time base and the decrementer count in a second.
const TIME_BASE_HZ: u64 = 100_000_000;
const ELF_POWERPC: u16 = 20;
/// The ISA interrupt that all of PCI shares.
const PCI_IRQ: usize = 15;
/// The ISA interrupt that the SCSI controller has for itself.
const SCSI_IRQ: usize = 13;
/// The floppy controller's interrupt and DMA channel.
const FLOPPY_IRQ: usize = 6;
const FLOPPY_DMA: usize = 2;

mod cards;

/// The board.
pub static BOARD: Board = Board {
    info: BoardInfo {
        name: "40p",
        description: "IBM RS/6000 7020 (40p)",
        default_ram: 128 * MIB,
        cpu: "604",
        aliases: &[],
    },
    target: Endianness::Big,
    elf_machine: ELF_POWERPC,
    build,
};

/// What the parts of the board are put together with.
struct Host {
    raven: Arc<Raven>,
    spaces: BusSpaces,
    /// What bus masters see.
    master: RegionId,
    bus: BusId,
    functions: Vec<Arc<PciFunction>>,
    /// Whether there is something in the ROM.
    firmware: bool,
}

fn build(b: &mut BoardBuilder<'_>) -> Result<(), BoardError> {
    let ram_size = b.config().ram_size.filter(|size| *size != 0).unwrap_or(BOARD.info.default_ram);
    if ram_size >= RAM_LIMIT {
        let rule = "its memory controller holds at most 192 MiB; try -m 192".to_owned();
        return Err(BoardError::RamSize { board: BOARD.info.name, asked: ram_size, rule });
    }
    if b.config().pflash.is_some() {
        return Err(BoardError::NotOnBoard { board: BOARD.info.name, what: "flash", option: "-pflash" });
    }
    b.set_ram_size(ram_size);
    let model = super::only_cpu(b, BOARD.info.name, PpcModel::ppc604())?;
    let cpu = b.cpu("604-powerpc-cpu", 8)?;
    let or_irq = b.unattached("or-irq");
    let pci_irq = OrGate::new("or-irq", 4);
    b.pins(&or_irq, PinDirection::In, None, pci_irq.inputs());
    b.pins(&or_irq, PinDirection::Out, None, &[pci_irq.output().clone()]);
    b.object("/machine/unattached/non-qdev-gpio[0]", "irq");

    let (master, slave) = I8259::pair();
    let mut host = host_bridge(b, &master, &slave)?;
    let isa = isa_bridge(b, &mut host, &master, &slave)?;
    pci_irq.output().connect_to(&isa.irq(PCI_IRQ));
    if let Some(line) = cpu.get(CPU_INT) {
        master.output().connect_to(line);
    }
    memory_controller(b, &isa, ram_size)?;
    let rtc = b.unattached("mc146818rtc");
    let rtc = isa.rtc(b, &rtc, 1900)?;
    for (index, value) in RTC_CHECKSUMS {
        rtc.set_byte(index, value);
    }
    if !b.config().nodefaults {
        let systemio = defaults(b, &isa, ram_size)?;
        if let Some(line) = cpu.get(CPU_HRESET) {
            systemio.softreset().connect_to(line);
        }
        cards::lsi(b, &mut host, &isa.irq(SCSI_IRQ))?;
        cards::vga(b, &mut host, &isa)?;
        cards::pcnet(b, &mut host)?;
        // QEMU has a drive for memory cards on every machine.
        b.drives().add_empty("sd0", None);
    }
    fw_cfg(b, ram_size)?;
    let system = b.memory().system();
    isa.user_devices(b, system)?;
    host.raven.bus().populate(host.functions);
    let program = kernel(b, host.firmware)?;
    // The command line alone is no code.
    if b.has_code() && (host.firmware || program) {
        run(b, model, &cpu)?;
    }
    Ok(())
}

/// Gives the board its CPU, with the lines that interrupt and reset it.
fn run(b: &mut BoardBuilder<'_>, model: &'static PpcModel, lines: &[IrqLine]) -> Result<(), BoardError> {
    // Where nothing is, loads give 0 and stores are lost: firmware looks for IDE drives that way.
    let ppc = Ppc::new(model, b.clock(), TIME_BASE_HZ).with_bus_errors(BusErrors::Ignore).with_log(b.log());
    let cpu = Cpu::new(ppc, b.memory(), &b.cpu_space())?;
    if let Some(line) = lines.get(CPU_INT) {
        cpu.inputs().connect(line, Ppc::EXTERNAL);
    }
    if let Some(line) = lines.get(CPU_HRESET) {
        let reset = b.cpu_reset();
        line.connect(move |high| {
            if high {
                reset();
            }
        });
    }
    b.run_cpu(cpu);
    Ok(())
}

/// The PCI host bridge with its spaces, and the function by which it is seen on its own bus.
fn host_bridge(
    b: &mut BoardBuilder<'_>,
    master: &Arc<I8259>,
    slave: &Arc<I8259>,
) -> Result<Host, BoardError> {
    let system = b.memory().system();
    let owner = b.device("/machine/raven", "raven-pcihost");
    let raven = Raven::new({
        let (master, slave) = (master.clone(), slave.clone());
        move || I8259::acknowledge(&master, &slave)
    });
    b.pins(&owner, PinDirection::In, None, &[raven.map_input().clone()]);
    let io =
        b.map(system, raven::IO_BASE, 0, Region::container("pci-io", raven::IO_SIZE.into()).owner(&owner))?;
    let pci_memory = Region::container("pci-memory", raven::MEMORY_SIZE.into()).owner(&owner);
    let memory = b.map(system, raven::MEMORY_BASE, 0, pci_memory)?;
    let ports = b.memory().address_space("raven-io", io)?;
    raven.set_ports(&ports);
    b.map(system, raven::IO_BASE, 1, raven.window_region(&owner))?;
    b.map(io, 0xcf8, 0, raven.index_region(&owner))?;
    b.map(io, 0xcfc, 0, raven.data_region(&owner))?;
    b.map(system, raven::CONFIG_BASE, 0, raven.config_region(&owner))?;
    b.map(system, raven::INTACK, 0, raven.intack_region(&owner))?;

    let bm = b.add(Region::container("bm-raven", 1 << 32).owner(&owner))?;
    let window = Region::alias("bm-pci-memory", memory, 0, raven::MEMORY_SIZE.into()).owner(&owner);
    b.map(bm, 0, 0, window)?;
    b.map(bm, 0x8000_0000, 0, Region::alias("bm-system", system, 0, 0x8000_0000).owner(&owner))?;
    b.memory().address_space("raven-bm", bm)?;
    b.reset(&raven);

    let picture = raven.clone();
    let name = bios_name(b);
    let plug = b.plug(b.system_bus(), move || picture.qtree(&name));
    let bus = b.bus(plug, "pci.0", "PCI");
    b.object("/machine/raven/pci.0", "PCI");
    let spaces = BusSpaces { memory, io };
    let mut host = Host { raven, spaces, master: bm, bus, functions: Vec::new(), firmware: false };

    let owner = b.unattached("raven");
    let identity = Identity {
        vendor: 0x1057,
        device: 0x4801,
        class: 0x0600,
        latency: 0x10,
        subsystem: (0x1af4, 0x1100),
        ..Identity::default()
    };
    function(b, &mut host, &owner, "raven", 0, identity, Vec::new(), |d| {
        common_properties(d, 0, "", u32::MAX.into())
    })?;
    host.firmware = bios(b, &owner)?;
    Ok(host)
}

fn bios_name(b: &BoardBuilder<'_>) -> String {
    b.config().bios.as_deref().unwrap_or(Path::new(FIRMWARE)).display().to_string()
}

/// The ROM and what is in it; whether that is something.
fn bios(b: &mut BoardBuilder<'_>, owner: &Owner) -> Result<bool, BoardError> {
    let block = b.ram_block("bios", BIOS_SIZE)?;
    let system = b.memory().system();
    b.map(system, BIOS_BASE, 0, Region::rom("bios", block).owner(owner))?;
    let target = Target {
        what: "firmware",
        raw_at: Some(BIOS_BASE),
        window: (BIOS_BASE, 0xffff_ffff),
        machine: ELF_POWERPC,
        machine_name: "PowerPC",
        endianness: Endianness::Big,
        translate: |addr| addr,
        twin: None,
        uimage: None,
    };
    let path = match &b.config().bios {
        Some(name) => Some(b.firmware_dirs().require(name)?),
        None => b.firmware_dirs().find(Path::new(FIRMWARE)),
    };
    let Some(path) = path else {
        // A program of one's own can do without, and a map can be looked at; to run, there would be nothing.
        let config = b.config();
        if config.kernel.is_none() && !config.start_stopped && !config.qtest {
            return Err(BoardError::NoFirmware {
                board: "40p",
                name: FIRMWARE,
                package: "qemu-system-data",
                searched: b.firmware_dirs().to_string(),
            });
        }
        b.warn(format!(
            "no firmware: '{FIRMWARE}' was not found, so the ROM is empty; Debian's package qemu-system-data has it, -L adds a folder to look in, -bios names a file"
        ));
        return Ok(false);
    };
    // The CPU begins at its reset vector, whatever the file calls its entry.
    for rom in firmware::load(&path, &target)?.roms {
        b.rom(rom);
    }
    Ok(true)
}

/// A function on the PCI bus, with its bus-master space.
#[expect(clippy::too_many_arguments, reason = "each is a different property of the function")]
fn function(
    b: &mut BoardBuilder<'_>,
    host: &mut Host,
    owner: &Owner,
    kind: &'static str,
    slot: u8,
    identity: Identity,
    bars: Vec<Bar>,
    describe: impl Fn(QtreeDevice) -> QtreeDevice + Send + Sync + 'static,
) -> Result<(PlugId, AddressSpace), BoardError> {
    let container = b.add(Region::container("bus master container", flatview::WHOLE).owner(owner))?;
    let alias = Region::alias("bus master", host.master, 0, 1 << 32).owner(owner).enabled(false);
    let alias = b.map(container, 0, 0, alias)?;
    let space = b.memory().address_space(kind, container)?;
    let function = PciFunction::new(kind, slot, identity, bars, host.spaces, b.map_handle(), describe);
    function.set_master(alias);
    b.reset(&function);
    host.functions.push(function.clone());
    Ok((b.plug(host.bus, move || function.qtree()), space))
}

/// The bridge to ISA with the devices inside it.
fn isa_bridge(
    b: &mut BoardBuilder<'_>,
    host: &mut Host,
    master: &Arc<I8259>,
    slave: &Arc<I8259>,
) -> Result<IsaBus, BoardError> {
    let owner = b.unattached("i82378");
    let identity = Identity {
        vendor: 0x8086,
        device: 0x0484,
        revision: 3,
        class: 0x0601,
        status: 0x0200,
        pin: 1,
        subsystem: (0x1af4, 0x1100),
        ..Identity::default()
    };
    let (plug, _) = function(b, host, &owner, "i82378", 0x0b, identity, Vec::new(), |d| {
        common_properties(d.gpio_in("", 16).gpio_out("", 1), 0x0b, "", u32::MAX.into())
    })?;
    let bus = b.bus(plug, "isa.0", "ISA");
    b.object(&format!("{}/isa.0", owner.path()), "ISA");
    let irqs = irqs(master, slave);
    b.pins(&owner, PinDirection::In, None, &irqs);
    b.pins(&owner, PinDirection::Out, None, &[master.output().clone()]);
    let mut isa = IsaBus { ports: host.spaces.io, bus, irqs, dma: Vec::new() };

    for chip in [master, slave] {
        let owner = b.unattached("isa-i8259");
        isa.pic(b, &owner, chip)?;
    }
    let pit = b.unattached("isa-pit");
    let pit = isa.pit(b, &pit)?;
    let pcspk = b.unattached("isa-pcspk");
    isa.pcspk(b, &pcspk, &pit)?;
    let owner = b.unattached("i82374");
    let extension = I82374::new(b.log());
    isa.map(b, extension.regions(&owner))?;
    b.plug(bus, I82374::qtree);
    // The second controller's high page registers overlap the first one's at port 0x489 and win, being added later.
    for place in i8257::PLACES {
        let owner = b.unattached("i8257");
        let controller = I8257::new(place, &b.memory().memory_space(), b.clock(), b.log());
        isa.map(b, controller.regions(&owner))?;
        b.reset(&controller);
        let picture = controller.clone();
        b.plug(bus, move || picture.qtree());
        isa.dma.push(controller);
    }
    Ok(isa)
}

fn memory_controller(b: &mut BoardBuilder<'_>, isa: &IsaBus, ram_size: u64) -> Result<(), BoardError> {
    let owner = b.unattached("rs6000-mc");
    let controller = Rs6000Mc::new(ram_size, b.map_handle())?;
    let ram = b.chosen_machine_ram("40p.ram", ram_size)?;
    let rom = ram.as_ref().is_some_and(|ram| ram.rom);
    let system = b.memory().system();
    let mut simms = Vec::new();
    for (socket, (address, region)) in
        controller.simm_regions(&owner, ram.as_ref().map(|ram| &ram.block))?.into_iter().enumerate()
    {
        // A later socket hides an earlier one.
        let priority = i32::try_from(socket).unwrap_or(i32::MAX);
        let simm = b.map(system, address, priority, region.readonly(rom))?;
        b.note_block_of(simm)?;
        simms.push(simm);
    }
    controller.set_simms(simms);
    isa.map(b, controller.port_regions(&owner))?;
    b.plug(isa.bus, move || controller.qtree());
    Ok(())
}

/// The devices that `-nodefaults` leaves out, in front of PCI's.
fn defaults(b: &mut BoardBuilder<'_>, isa: &IsaBus, ram_size: u64) -> Result<Arc<SystemIo>, BoardError> {
    let owner = b.unattached("isa-m48t59");
    let contents = nvram(b, ram_size)?;
    let nvram = M48t59::new(contents, b.wall_clock(), b.log());
    isa.map(b, [(M48t59::BASE, nvram.region(&owner))])?;
    b.plug(isa.bus, move || nvram.qtree());

    let owner = b.unattached("cs4231a");
    isa.unmodelled(b, &owner, "cs4231a", &[(0x830, 4)])?;
    b.plug(isa.bus, || {
        QtreeDevice::new("cs4231a")
            .unmodelled()
            .text("audiodev", "none")
            .number("iobase", 0x830)
            .number("irq", 10)
            .number("dma", 3)
    });

    super_io(b, isa)?;

    let owner = b.unattached("prep-systemio");
    let systemio = SystemIo::new();
    isa.map(b, systemio.port_regions(&owner))?;
    let system = b.memory().system();
    b.map(system, SystemIo::PARITY_ADDRESS, 0, SystemIo::parity_region(&owner))?;
    b.pins(&owner, PinDirection::Out, None, &[systemio.non_contiguous().clone()]);
    let picture = systemio.clone();
    b.plug(isa.bus, move || picture.qtree());
    Ok(systemio)
}

/// What the NVRAM holds: a file's contents if the user names one, which is made or grown to its size. Where there is
/// nothing yet it gets what QEMU tells firmware.
fn nvram(b: &mut BoardBuilder<'_>, ram_size: u64) -> Result<Arc<RamBlock>, BoardError> {
    let name = "m48t59.nvram";
    let block = match b.nvram() {
        None => RamBlock::anonymous(name, m48t59::SIZE)?,
        Some(path) => {
            let what = "NVRAM file";
            let fail = |source| BoardError::File { what, path: path.clone(), source };
            let mut options = std::fs::OpenOptions::new();
            let file =
                options.read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
            let len = file.metadata().map_err(fail)?.len();
            if len > m48t59::SIZE {
                let problem =
                    format!("it has {len} bytes, and the NVRAM {}; is it another file?", m48t59::SIZE);
                return Err(BoardError::Image { what, path, problem });
            }
            file.set_len(m48t59::SIZE).map_err(fail)?;
            RamBlock::from_file(name, &path, 0, m48t59::SIZE, Share::Shared, false)?
        }
    };
    let mut bytes = vec![0; m48t59::SIZE as usize];
    block.read(0, &mut bytes)?;
    if bytes.iter().all(|byte| *byte == 0) {
        block.write(0, &prep_nvram::contents(ram_size, COMMAND_LINE, &b.config().kernel_arguments))?;
    }
    Ok(block)
}

/// The super I/O chip and the devices in it.
fn super_io(b: &mut BoardBuilder<'_>, isa: &IsaBus) -> Result<(), BoardError> {
    let owner = b.unattached("pc87312");
    let chip = Pc87312::new(b.log());
    isa.map(b, [(flatview_hw::isa::pc87312::BASE, chip.region(&owner))])?;
    b.reset(&chip);
    b.plug(isa.bus, move || chip.qtree());

    let parallel = b.part(&owner, "parallel0", "isa-parallel");
    isa.parallel(b, 0, 0x378, 5, &parallel)?;
    isa.serial(b, 0, 0x3f8, 4, |b, name| b.part(&owner, name, "isa-serial"))?;
    isa.serial(b, 1, 0x2f8, 3, |b, name| b.part(&owner, name, "isa-serial"))?;

    let fdc = b.part(&owner, "isa-fdc", "isa-fdc");
    let drives = [Drive::new(None), Drive::absent()];
    let controller = Fdc::new(drives, isa.dma(FLOPPY_DMA), b.clock(), b.log());
    controller.irq().connect_to(&isa.irq(FLOPPY_IRQ));
    isa.map(b, controller.regions(&fdc))?;
    b.reset(&controller);
    let plug = b.plug(isa.bus, || Fdc::qtree(FLOPPY_IRQ, FLOPPY_DMA));
    let bus = b.bus(plug, "floppy-bus.0", "floppy-bus");
    b.object(&format!("{}/floppy-bus.0", fdc.path()), "floppy-bus");
    let floppy = b.unattached("floppy");
    b.drives().add_empty("floppy0", Some(floppy.path()));
    b.plug(bus, || {
        QtreeDevice::new("floppy")
            .number("unit", 0)
            .text("drive", "floppy0")
            .text("backend_defaults", "auto")
            .bare("logical_block_size", "512 (512 B)")
            .bare("physical_block_size", "512 (512 B)")
            .bare("min_io_size", "0 (0 B)")
            .bare("opt_io_size", "0 (0 B)")
            .bare("discard_granularity", "4294967295 (4 GiB)")
            .text("write-cache", "auto")
            .flag("share-rw", false)
            .text("account-invalid", "auto")
            .text("account-failed", "auto")
            .text("drive-type", "288")
    });

    let keyboard = b.part(&owner, "i8042", "i8042");
    isa.i8042(b, &keyboard)?;
    Ok(())
}

fn fw_cfg(b: &mut BoardBuilder<'_>, ram_size: u64) -> Result<(), BoardError> {
    let owner = b.device("/machine/fw_cfg", "fw_cfg_mem");
    let half = |value: u16| value.to_le_bytes().to_vec();
    let items = [
        (key::RAM_SIZE, ram_size.to_le_bytes().to_vec()),
        (key::NOGRAPHIC, half(b.config().nographic.into())),
        (key::MAX_CPUS, half(1)),
        (key::BOOT_DEVICE, half(b'c'.into())),
        // The screen that firmware sets up: width, height, depth; and the time base in Hz.
        (key::ARCH_LOCAL, half(800)),
        (key::ARCH_LOCAL + 1, half(600)),
        (key::ARCH_LOCAL + 2, half(32)),
        (key::ARCH_LOCAL + 3, 1_000_000_000_u32.to_le_bytes().to_vec()),
    ];
    // No geometry and no order to boot in are known, and a failed boot waits for ever.
    let files: [(&str, &[u8]); 3] =
        [("bios-geometry", &[]), ("bootorder", &[]), ("etc/boot-fail-wait", &[0xff; 4])];
    let device = FwCfg::new(items, &files);
    let system = b.memory().system();
    b.map(system, FW_CFG_CONTROL, 0, device.control_region(&owner))?;
    b.map(system, FW_CFG_DATA, 0, device.data_region(&owner))?;
    b.reset(&device);
    b.plug(b.system_bus(), move || device.qtree(FW_CFG_CONTROL, FW_CFG_DATA));
    Ok(())
}

/// A program and what it is told; whether there is one. Firmware starts it; without firmware the CPU begins with it.
fn kernel(b: &mut BoardBuilder<'_>, firmware: bool) -> Result<bool, BoardError> {
    let ram_end = b.config().ram_size.filter(|size| *size != 0).unwrap_or(BOARD.info.default_ram);
    if let Some(path) = b.config().kernel.clone() {
        let target = Target {
            what: "kernel",
            raw_at: Some(KERNEL_BASE),
            window: (0, ram_end.saturating_sub(1)),
            machine: ELF_POWERPC,
            machine_name: "PowerPC",
            endianness: Endianness::Big,
            translate: |addr| addr,
            twin: None,
            uimage: None,
        };
        let mut image = firmware::load(&path, &target)?;
        if firmware {
            image.entry = None;
        }
        b.image(image);
    }
    let mut line = b.config().kernel_arguments.clone().into_bytes();
    line.push(0);
    b.rom(Rom { name: "cmdline".to_owned(), addr: COMMAND_LINE, data: line });
    Ok(b.config().kernel.is_some())
}
