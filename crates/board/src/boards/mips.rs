//! `mips` and `mipsel`: QEMU 4.2's MIPS R4000 board, as its documentation and memory map describe it, in both byte orders.
//!
//! RAM at 0, ISA memory at 0x10000000 and ISA ports at 0x14000000 (an alias of system i/o), the reset register
//! `mips-qemu` at 0x1fbf0000, firmware at 0x1fc00000: ROM if there is a firmware file, flash if there is a flash file,
//! nothing otherwise. QEMU has the two byte orders in two programs; here they are two boards. A store of 42 to the register resets the machine, at offset 4 it ends it. (QEMU's
//! `docs/system/target-mips.rst`; the board was removed in QEMU 5.2.)

use std::path::Path;

use flatview::{Endianness, RamBlock, Region, Share};
use flatview_cpu::Cpu;
use flatview_cpu::mips::{Mips, MipsModel};
use flatview_device::{IrqLine, QtreeDevice};
use flatview_hw::intc::i8259::I8259;
use flatview_hw::misc::mips_qemu::{MipsQemu, PowerRequest};
use flatview_hw::nvram::pflash::Pflash;

use super::Board;
use super::isa::{IsaBus, VGA_PORTS, irqs};
use crate::error::nearest;
use crate::firmware::{self, Image, Rom, Target};
use crate::state::{Cause, Request};
use crate::{BoardBuilder, BoardError, BoardInfo};

const MIB: u64 = 1 << 20;
const RAM_MAX: u64 = 256 * MIB;
const ISA_MEMORY: u64 = 0x1000_0000;
const ISA_MEMORY_SIZE: u64 = 16 * MIB;
const ISA_PORTS: u64 = 0x1400_0000;
const CONTROL: u64 = 0x1fbf_0000;
const BIOS_BASE: u64 = 0x1fc0_0000;
const BIOS_SIZE: u64 = 4 * MIB;
const FLASH_SECTOR: u64 = 32 << 10;
const ELF_MIPS: u16 = 8;
/// U-Boot's number of MIPS.
const UBOOT_MIPS: u8 = 5;
/// Where a program finds its RAM size and what it is told: 264 bytes below 16 MiB.
const PARAMETERS: u64 = 16 * MIB - 264;
/// What stands after the RAM size there.
const PARAMETER_MAGIC: u32 = 0x1234_5678;
const COMMAND_LINE_SIZE: usize = 256;
const PARAMETERS_SIZE: u64 = 8 + COMMAND_LINE_SIZE as u64;
/// A RAM disk begins at a multiple of this.
const INITRD_ALIGN: u64 = 64 << 10;
/// Where the unmapped, cached segment shows physical address 0, as 64-bit CPUs and their kernels write it.
const KSEG0: u64 = 0xffff_ffff_8000_0000;
/// The CPU input that the interrupt controller drives.
const CPU_INT0: usize = 2;

/// What the two boards differ in.
#[derive(Debug)]
struct Variant {
    name: &'static str,
    order: Endianness,
    /// The firmware that is taken if none is named.
    firmware: &'static str,
    /// The other one.
    twin: &'static str,
}

static BIG: Variant =
    Variant { name: "mips", order: Endianness::Big, firmware: "mips_bios.bin", twin: "mipsel" };
static LITTLE: Variant =
    Variant { name: "mipsel", order: Endianness::Little, firmware: "mipsel_bios.bin", twin: "mips" };

const DEFAULT_RAM: u64 = 128 * MIB;

/// The big-endian board.
pub static BOARD: Board = Board {
    info: BoardInfo {
        name: "mips",
        description: "MIPS R4000 platform of QEMU 4.2",
        default_ram: DEFAULT_RAM,
        cpu: "24Kf",
        aliases: &["mips-r4k"],
    },
    target: Endianness::Big,
    elf_machine: ELF_MIPS,
    build: |b| build(b, &BIG),
};

/// The little-endian board.
pub static BOARD_LITTLE: Board = Board {
    info: BoardInfo {
        name: "mipsel",
        description: "MIPS R4000 platform of QEMU 4.2, little-endian",
        default_ram: DEFAULT_RAM,
        cpu: "24Kf",
        aliases: &["mipsel-r4k"],
    },
    target: Endianness::Little,
    elf_machine: ELF_MIPS,
    build: |b| build(b, &LITTLE),
};

fn build(b: &mut BoardBuilder<'_>, variant: &'static Variant) -> Result<(), BoardError> {
    let ram_size = b.config().ram_size.filter(|size| *size != 0).unwrap_or(DEFAULT_RAM);
    if ram_size > RAM_MAX || !ram_size.is_multiple_of(0x1000) {
        let rule = "it takes whole 4 KiB pages, at most 256 MiB; try -m 256".to_owned();
        return Err(BoardError::RamSize { board: variant.name, asked: ram_size, rule });
    }
    b.set_ram_size(ram_size);
    let (system, io) = (b.memory().system(), b.memory().io());
    let machine = flatview::Owner::object("/machine");
    let model = model(b, variant)?;
    let cpu = b.cpu(&format!("{}-mips-cpu", model.name), 8)?;

    let ram = b.machine_ram("mips_r4k.ram", ram_size)?;
    let region = Region::ram(ram.name, ram.block).readonly(ram.rom);
    let region = match &ram.owner {
        Some(owner) => region.owner(owner),
        None => region.parent(&machine),
    };
    b.map(system, 0, 0, region)?;

    let request = b.requester();
    let control = MipsQemu::region(&machine, move |asked| {
        request(match asked {
            PowerRequest::Reset => Request::SystemReset(Cause::GuestReset),
            PowerRequest::PowerOff => Request::Shutdown(Cause::GuestShutdown),
        });
    });
    b.map(system, CONTROL, 0, control)?;
    bios(b, variant)?;

    b.map(system, ISA_PORTS, 0, Region::alias("isa-io", io, 0, 0x1_0000).parent(&machine))?;
    let isa_memory = Region::container("isa-mem", ISA_MEMORY_SIZE.into()).parent(&machine);
    let isa_memory = b.map(system, ISA_MEMORY, 0, isa_memory)?;

    let bridge_owner = b.unattached("isabus-bridge");
    let bridge = b.plug(b.system_bus(), || QtreeDevice::new("isabus-bridge"));
    let bus = b.bus(bridge, "isa.0", "ISA");
    b.object(&format!("{}/isa.0", bridge_owner.path()), "ISA");
    let (master, slave) = I8259::pair();
    let isa = IsaBus { ports: io, bus, irqs: irqs(&master, &slave), dma: Vec::new() };
    for chip in [&master, &slave] {
        let owner = b.unattached("isa-i8259");
        isa.pic(b, &owner, chip)?;
    }
    if let Some(line) = cpu.get(CPU_INT0) {
        master.output().connect_to(line);
    }
    let rtc = b.unattached("mc146818rtc");
    isa.rtc(b, &rtc, 2000)?;
    let pit = b.unattached("isa-pit");
    isa.pit(b, &pit)?;
    for (n, (port, irq)) in [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)].into_iter().enumerate() {
        // The board has a socket for each port that the user gives, and the first one in any case.
        if n == 0 || n < b.config().serials.len() {
            isa.serial(b, n, port, irq, |b, _| b.unattached("isa-serial"))?;
        }
    }
    if !b.config().nodefaults {
        let vga = b.unattached("isa-vga");
        isa.unmodelled(b, &vga, "vga", &VGA_PORTS)?;
        isa.unmodelled(b, &vga, "vbe", &[(0x1ce, 4)])?;
        b.map_unmodelled(isa_memory, 0xa_0000, 1, "vga-lowmem", 0x2_0000, &vga)?;
        b.plug(bus, || QtreeDevice::new("isa-vga").unmodelled());
        let nic = b.unattached("ne2k_isa");
        isa.unmodelled(b, &nic, "ne2000", &[(0x300, 0x20)])?;
        b.plug(bus, || QtreeDevice::new("ne2k_isa").unmodelled().number("iobase", 0x300).number("irq", 9));
    }
    for (port, control, irq) in [(0x1f0, 0x3f6, 14_u64), (0x170, 0x376, 15)] {
        let ide = b.unattached("isa-ide");
        isa.unmodelled(b, &ide, "ide", &[(port, 8), (control, 1)])?;
        b.plug(bus, move || {
            QtreeDevice::new("isa-ide")
                .unmodelled()
                .number("iobase", port)
                .number("iobase2", control)
                .number("irq", irq)
        });
    }
    let keyboard = b.unattached("i8042");
    isa.i8042(b, &keyboard)?;
    isa.user_devices(b, isa_memory)?;
    kernel(b, variant, ram_size)?;
    if b.has_code() {
        run(b, variant, model, &cpu)?;
    }
    Ok(())
}

/// The CPU that was asked for.
fn model(b: &mut BoardBuilder<'_>, variant: &Variant) -> Result<&'static MipsModel, BoardError> {
    let Some(name) = b.cpu_model() else { return Ok(MipsModel::usual()) };
    MipsModel::find(name).ok_or_else(|| BoardError::UnknownCpu {
        board: variant.name,
        name: name.to_owned(),
        nearest: nearest(name, MipsModel::all().iter().map(|model| model.name)),
    })
}

/// Gives the board its CPU, with the lines that interrupt it.
fn run(
    b: &mut BoardBuilder<'_>,
    variant: &Variant,
    model: &'static MipsModel,
    lines: &[IrqLine],
) -> Result<(), BoardError> {
    let mips = Mips::with_model(model, variant.order, b.clock());
    let cpu = Cpu::new(mips, b.memory(), &b.cpu_space())?;
    // 0 and 1 are the software's, 7 is the CPU's own timer as well.
    for (number, line) in (0..).zip(lines).skip(2) {
        cpu.inputs().connect(line, number);
    }
    b.run_cpu(cpu);
    Ok(())
}

/// Firmware: ROM from a firmware file, else flash from a flash file, else nothing.
fn bios(b: &mut BoardBuilder<'_>, variant: &Variant) -> Result<(), BoardError> {
    let system = b.memory().system();
    let machine = flatview::Owner::object("/machine");
    let path = match &b.config().bios {
        Some(name) => Some(b.firmware_dirs().require(name)?),
        None => b.firmware_dirs().find(Path::new(variant.firmware)),
    };
    if let Some(path) = path {
        let target = Target {
            what: "firmware",
            raw_at: Some(BIOS_BASE),
            window: (BIOS_BASE, BIOS_BASE + BIOS_SIZE - 1),
            uimage: None,
            ..target(variant)
        };
        let image = firmware::load(&path, &target)?;
        let block = b.ram_block("mips_r4k.bios", BIOS_SIZE)?;
        b.map(system, BIOS_BASE, 0, Region::rom("mips_r4k.bios", block).parent(&machine))?;
        b.image(image);
        return Ok(());
    }
    if let Some(path) = b.config().pflash.clone() {
        return flash(b, variant, &path);
    }
    if b.config().kernel.is_none() {
        b.warn(format!(
            "no firmware: '{}' was not found and no Debian package has it; -bios names a file, -pflash one for flash, -L adds a folder to look in, -kernel loads a program without firmware",
            variant.firmware
        ));
    }
    Ok(())
}

/// Flash whose contents are a file's, and stay in it if it can be written.
fn flash(b: &mut BoardBuilder<'_>, variant: &Variant, path: &Path) -> Result<(), BoardError> {
    let what = "flash file";
    let fail = |source| BoardError::File { what, path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size != BIOS_SIZE {
        let problem = format!(
            "it has {size} bytes, and the flash {BIOS_SIZE}; bring a copy to that size (truncate -s 4M)"
        );
        return Err(BoardError::Image { what, path: path.to_owned(), problem });
    }
    let writable = std::fs::OpenOptions::new().write(true).open(path).is_ok();
    if !writable {
        b.warn(format!(
            "flash file '{}' cannot be written: what the guest programs is lost at the end",
            path.display()
        ));
    }
    let share = if writable { Share::Shared } else { Share::Private };
    let block = RamBlock::from_file("mips_r4k.bios", path, 0, BIOS_SIZE, share, false)?;
    b.note_block(&block);
    let owner = b.unattached("cfi.pflash01");
    let flash = Pflash::new("mips_r4k.bios", block, FLASH_SECTOR, 4, variant.order, b.map_handle(), b.log());
    let system = b.memory().system();
    let region = b.map(system, BIOS_BASE, 0, flash.region(&owner))?;
    flash.set_region(region);
    b.reset(&flash);
    b.plug(b.system_bus(), move || flash.qtree(BIOS_BASE));
    Ok(())
}

/// ELF addresses are virtual ones in the unmapped segments.
fn target(variant: &Variant) -> Target {
    Target {
        what: "kernel",
        raw_at: None,
        window: (0, u64::MAX),
        machine: ELF_MIPS,
        machine_name: "MIPS",
        endianness: variant.order,
        translate: |addr| addr & 0x1fff_ffff,
        twin: Some(variant.twin),
        uimage: Some(UBOOT_MIPS),
    }
}

/// Whether bytes at an address would lie over what the program is told.
fn meets_parameters(addr: u64, size: u64) -> bool {
    addr < PARAMETERS + PARAMETERS_SIZE && addr.saturating_add(size) > PARAMETERS
}

fn kernel(b: &mut BoardBuilder<'_>, variant: &Variant, ram_size: u64) -> Result<(), BoardError> {
    let Some(path) = b.config().kernel.clone() else { return Ok(()) };
    if ram_size < 16 * MIB {
        let rule = "a program is told its parameters below 16 MiB; try -m 16 or leave out -kernel".to_owned();
        return Err(BoardError::RamSize { board: variant.name, asked: ram_size, rule });
    }
    let bad = |problem: String| BoardError::Image { what: "kernel", path: path.clone(), problem };
    let image = firmware::load(&path, &Target { window: (0, ram_size - 1), ..target(variant) })?;
    if let Some(rom) = image.roms.iter().find(|rom| meets_parameters(rom.addr, rom.data.len() as u64)) {
        return Err(bad(format!(
            "its {} bytes at {:#x} lie over {PARAMETERS:#x}, where this board tells a program its parameters; link it elsewhere",
            rom.data.len(),
            rom.addr
        )));
    }
    let mut line = initrd(b, &image, ram_size)?;
    line.push_str(&b.config().kernel_arguments);
    b.image(image);
    let mut line = line.into_bytes();
    if line.len() >= COMMAND_LINE_SIZE {
        let problem = format!("its arguments have {} bytes; {} fit", line.len(), COMMAND_LINE_SIZE - 1);
        return Err(bad(problem));
    }
    line.resize(COMMAND_LINE_SIZE, 0);
    let words = [ram_size as u32, PARAMETER_MAGIC];
    let in_order = |word: u32| match variant.order {
        Endianness::Big => word.to_be_bytes(),
        Endianness::Little => word.to_le_bytes(),
    };
    let data = words.into_iter().flat_map(in_order).chain(line).collect();
    b.rom(Rom { name: "params".to_owned(), addr: PARAMETERS, data });
    Ok(())
}

/// Puts the RAM disk behind the program; gives what the program's command line begins with for that.
fn initrd(b: &mut BoardBuilder<'_>, kernel: &Image, ram_size: u64) -> Result<String, BoardError> {
    let Some(path) = b.initrd() else { return Ok(String::new()) };
    let what = "initial RAM disk";
    let data = firmware::read(what, &path)?;
    let size = data.len() as u64;
    let bad = |problem: String| BoardError::Image { what, path: path.clone(), problem };
    if size == 0 {
        return Err(bad("the file is empty".to_owned()));
    }
    let ends = kernel.roms.iter().map(|rom| rom.addr.saturating_add(rom.data.len() as u64));
    let behind = ends.max().unwrap_or(0).next_multiple_of(INITRD_ALIGN);
    // What does not fit before the parameters goes behind them.
    let addr = if meets_parameters(behind, size) {
        (PARAMETERS + PARAMETERS_SIZE).next_multiple_of(INITRD_ALIGN)
    } else {
        behind
    };
    let room = ram_size.saturating_sub(addr);
    if size > room {
        return Err(bad(format!(
            "its {size} bytes do not fit in the {room} bytes of RAM behind the program, from {addr:#x} on; give the machine more with -m (at most 256 MiB)"
        )));
    }
    b.rom(Rom { name: path.display().to_string(), addr, data });
    Ok(format!("rd_start={:#x} rd_size={size} ", addr | KSEG0))
}
