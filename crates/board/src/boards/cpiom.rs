//! `cpiom`: an avionics processing module with a PowerPC 755.
//!
//! 64 MiB of protected SDRAM, two serial ports, an EDC controller, timers, an interrupt controller, memory that keeps
//! its contents and 8 MiB of flash for firmware. The SDRAM controller and the serial ports are modelled; the other
//! devices' registers log their accesses. Registers of `cpiom-*` devices are 32 bits wide, big-endian, aligned words
//! only.

use std::sync::Arc;

use flatview::{AccessRules, DeviceEndian, Endianness, Ops, Owner, RamBlock, Region, RegionId, Share};
use flatview_device::{IrqLine, QtreeDevice, Unmodelled};
use flatview_hw::char::serial16550::Serial16550;
use flatview_hw::cpiom::RULES;
use flatview_hw::cpiom::sdram::{self, Sdram};

use super::Board;
use crate::builder::PinDirection;
use crate::firmware::{self, Target};
use crate::{BoardBuilder, BoardError, BoardInfo};

const MIB: u64 = 1 << 20;
const CONFIG: u64 = 0x2000_0000;
/// Where memory devices go: behind the registers, up to the NVM.
const DEVICE_MEMORY: u64 = 0x4000_0000;
const NVM: u64 = 0xfc00_0000;
const NVM_SIZE: u64 = MIB;
const FLASH: u64 = 0xff80_0000;
const FLASH_SIZE: u64 = 8 * MIB;
const ELF_POWERPC: u16 = 20;
/// Where a raw program is loaded.
const KERNEL_BASE: u64 = 0;

/// The board.
pub static BOARD: Board = Board {
    info: BoardInfo {
        name: "cpiom",
        description: "Avionics processing module with PowerPC 755",
        default_ram: sdram::RAM_SIZE,
        cpu: "755",
        aliases: &[],
    },
    target: Endianness::Big,
    elf_machine: ELF_POWERPC,
    build,
};

fn build(b: &mut BoardBuilder<'_>) -> Result<(), BoardError> {
    if let Some(asked) = b.config().ram_size.filter(|size| *size != 0 && *size != sdram::RAM_SIZE) {
        let rule = "its RAM is soldered, 64 MiB; leave out -m".to_owned();
        return Err(BoardError::RamSize { board: BOARD.info.name, asked, rule });
    }
    if b.config().pflash.is_some() {
        let (what, option) = ("second flash", "-pflash and give the file with -bios");
        return Err(BoardError::NotOnBoard { board: BOARD.info.name, what, option });
    }
    if let Some(argument) = b.config().devices.first() {
        let name = super::device_kind(argument)?;
        let what = "ISA bus for that device";
        let _ = name;
        return Err(BoardError::NotOnBoard { board: BOARD.info.name, what, option: "-device" });
    }
    b.set_ram_size(sdram::RAM_SIZE);
    let system = b.memory().system();
    let machine = Owner::object("/machine");
    b.cpu("755-powerpc-cpu", 8)?;
    memory_controller(b, system)?;

    let config = Ops::new()
        .rules(AccessRules::new().endian(DeviceEndian::Big).valid(1, 8).implemented(1, 8))
        .read(|_| Ok(0))
        .write(|_, _| Ok(()))
        .peek(|_, _| Some(0));
    b.map(system, CONFIG, 0, Region::io("cpiom-config", 0x1000, config).owner(&machine))?;

    device(
        b,
        system,
        "cpiom-edc",
        &[
            (0x2000_000c, 1, "cpiom-edc-reg2", 24),
            (0x2000_1000, 0, "cpiom-edc-reg1", 0x1000),
            (0x2000_2000, 0, "cpiom-edc-err", 0x2000),
        ],
    )?;
    device(b, system, "cpiom-timers", &[(0x2000_6000, 0, "cpiom-timers-reg", 0x1000)])?;
    device(b, system, "cpiom-intc", &[(0x2000_7000, 0, "cpiom-intc", 0x1000)])?;
    for (n, address) in [0x2000_8000, 0x2000_8100].into_iter().enumerate() {
        serial(b, system, n, address)?;
    }
    nvm(b, system, &machine)?;
    b.device_memory(DEVICE_MEMORY, NVM - DEVICE_MEMORY)?;
    flash(b, system, &machine)
}

fn memory_controller(b: &mut BoardBuilder<'_>, system: RegionId) -> Result<(), BoardError> {
    let owner = b.unattached("cpiom-sdram");
    let ram = b.machine_ram("cpiom-sdram", sdram::RAM_SIZE)?;
    let sdram = Sdram::new(&owner, ram.block, b.map_handle(), b.log())?;
    let ram = b.map(system, 0, 0, sdram.ram_region().readonly(ram.rom))?;
    sdram.set_ram(ram);
    let places = [
        (0x2000_0028, 1, sdram.refresh_region()),
        (0x2000_a000, 0, sdram.register_region()),
        (0x2000_b000, 0, sdram.code_region()),
        (0x2000_c000, 0, sdram.data_region()),
    ];
    for (address, priority, region) in places {
        b.map(system, address, priority, region)?;
    }
    b.pins(&owner, PinDirection::Out, Some("viol"), &[sdram.viol().clone()]);
    b.pins(&owner, PinDirection::Out, Some("err"), &[sdram.err().clone()]);
    b.reset(&sdram);
    b.plug(b.system_bus(), move || {
        let mmio = [
            (0, sdram::RAM_SIZE),
            (0x2000_a000, 0x1000),
            (0x2000_b000, 0x1000),
            (0x2000_c000, 0x1000),
            (0x2000_0028, 4),
        ];
        mmio.into_iter().fold(sdram.qtree(), |d, (at, size)| d.line(format!("mmio {at:016x}/{size:016x}")))
    });
    Ok(())
}

/// A device that is not modelled yet: its registers are words and log their accesses.
fn device(
    b: &mut BoardBuilder<'_>,
    system: RegionId,
    kind: &'static str,
    regions: &'static [(u64, i32, &'static str, u64)],
) -> Result<(), BoardError> {
    let owner = b.unattached(kind);
    for (address, priority, name, size) in regions {
        let ops = Unmodelled::new(*name, u128::from(*size), b.log()).with_rules(RULES);
        b.map(system, *address, *priority, Region::io(*name, u128::from(*size), ops).owner(&owner))?;
    }
    b.plug(b.system_bus(), move || {
        regions.iter().fold(QtreeDevice::new(kind).unmodelled(), |d, (address, _, _, size)| {
            d.line(format!("mmio {address:016x}/{size:016x}"))
        })
    });
    Ok(())
}

fn serial(b: &mut BoardBuilder<'_>, system: RegionId, n: usize, address: u64) -> Result<(), BoardError> {
    let (name, backend) = b.serial(n)?;
    let owner = b.unattached("serial-mm");
    b.object(&format!("{}/serial", owner.path()), "serial");
    let uart: Arc<Serial16550> = Serial16550::new(&name, backend, b.clock());
    b.map(system, address, 0, uart.region(&owner))?;
    let irq: IrqLine = uart.irq().clone();
    b.pins(&owner, PinDirection::Out, Some("sysbus-irq"), &[irq]);
    b.reset(&uart);
    b.plug(b.system_bus(), move || {
        QtreeDevice::new("serial-mm")
            .gpio_out("sysbus-irq", 1)
            .number("regshift", 0)
            .line(format!("mmio {address:016x}/{:016x}", 8))
    });
    Ok(())
}

/// Memory that keeps its contents: in a file if the user names one, which is made or grown to its size.
fn nvm(b: &mut BoardBuilder<'_>, system: RegionId, machine: &Owner) -> Result<(), BoardError> {
    let block = match b.config().nvm_file.clone() {
        None => RamBlock::anonymous("cpiom-nvm", NVM_SIZE)?,
        Some(path) => {
            let fail = |source| BoardError::File { what: "NVM file", path: path.clone(), source };
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(fail)?;
            let len = file.metadata().map_err(fail)?.len();
            if len > NVM_SIZE {
                let problem = format!("it has {len} bytes, and the NVM {NVM_SIZE}; is it another file?");
                return Err(BoardError::Image { what: "NVM file", path, problem });
            }
            file.set_len(NVM_SIZE).map_err(fail)?;
            RamBlock::from_file("cpiom-nvm", &path, 0, NVM_SIZE, Share::Shared, false)?
        }
    };
    b.note_block(&block);
    b.map(system, NVM, 0, Region::ram("cpiom-nvm", block).owner(machine))?;
    Ok(())
}

fn flash(b: &mut BoardBuilder<'_>, system: RegionId, machine: &Owner) -> Result<(), BoardError> {
    let block = b.ram_block("cpiom-flash", FLASH_SIZE)?;
    b.map(system, FLASH, 0, Region::rom("cpiom-flash", block).owner(machine))?;
    let target = Target {
        what: "firmware",
        raw_at: Some(FLASH),
        window: (FLASH, FLASH + FLASH_SIZE - 1),
        machine: ELF_POWERPC,
        machine_name: "PowerPC",
        endianness: Endianness::Big,
        translate: |addr| addr,
        twin: None,
        uimage: None,
    };
    match &b.config().bios {
        Some(name) => {
            let path = b.firmware_dirs().require(name)?;
            b.image(firmware::load(&path, &target)?);
        }
        None if b.config().kernel.is_none() => {
            b.warn("no firmware: the flash is empty; -bios names a file for it (there is no package that has one)");
        }
        None => {}
    }
    if let Some(path) = b.config().kernel.clone() {
        let window = (0, sdram::RAM_SIZE - 1);
        let target = Target { what: "kernel", raw_at: Some(KERNEL_BASE), window, ..target };
        b.image(firmware::load(&path, &target)?);
    }
    Ok(())
}
