//! `cpiom`: an avionics processing module with a PowerPC 755.
//!
//! 64 MiB of protected SDRAM, two serial ports, an EDC controller, timers, an interrupt controller, memory that keeps
//! its contents and 8 MiB of flash for firmware. Registers of `cpiom-*` devices are 32 bits wide, big-endian, aligned
//! words only. All interrupts go through `cpiom-intc`, whose three outputs are inputs of the CPU.

use std::sync::Arc;

use flatview::{AccessRules, DeviceEndian, Endianness, Ops, Owner, RamBlock, Region, RegionId, Share};
use flatview_cpu::Cpu;
use flatview_cpu::ppc::{BusErrors, Ppc, PpcModel};
use flatview_device::{IrqLine, QtreeDevice, Reset};
use flatview_hw::char::serial16550::Serial16550;
use flatview_hw::cpiom::HZ;
use flatview_hw::cpiom::edc::Edc;
use flatview_hw::cpiom::intc::{Intc, IntcBank};
use flatview_hw::cpiom::sdram::{self, Sdram};
use flatview_hw::cpiom::timers::Timers;

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
/// Inputs of the CPU, for each bank of the interrupt controller: soft reset, machine check, external interrupt. By their
/// numbers on the board, and in the model of the CPU.
const CPU_INPUTS: [(IntcBank, usize, u32); 3] = [
    (IntcBank::Rst, 1, Ppc::SOFT_RESET),
    (IntcBank::Mcp, 3, Ppc::MACHINE_CHECK),
    (IntcBank::Itn, 5, Ppc::EXTERNAL),
];
/// Lines of the interrupt controller's bank MCP.
const MCP_VIOLATION: usize = 0;
/// Lines of its bank ITN.
const ITN_TICK: usize = 0;
const ITN_WINDOW: usize = 1;
const ITN_EDC: usize = 5;
const ITN_SDRAM: usize = 6;
const ITN_SERIAL: [usize; 2] = [8, 9];
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
    let cpu = b.cpu("755-powerpc-cpu", 8)?;
    let intc = Intc::new(b.log());
    for (bank, input, _) in CPU_INPUTS {
        if let Some(line) = cpu.get(input) {
            intc.output(bank).connect_to(line);
        }
    }
    memory_controller(b, system, &intc)?;

    let config = Ops::new()
        .rules(AccessRules::new().endian(DeviceEndian::Big).valid(1, 8).implemented(1, 8))
        .read(|_| Ok(0))
        .write(|_, _| Ok(()))
        .peek(|_, _| Some(0));
    b.map(system, CONFIG, 0, Region::io("cpiom-config", 0x1000, config).owner(&machine))?;

    error_detection(b, &intc)?;
    timers(b, &intc)?;
    interrupt_controller(b, &intc)?;
    for ((n, address), line) in [0x2000_8000, 0x2000_8100].into_iter().enumerate().zip(ITN_SERIAL) {
        let irq = serial(b, system, n, address)?;
        wire(&irq, &intc, IntcBank::Itn, line);
    }
    nvm(b, system, &machine)?;
    b.device_memory(DEVICE_MEMORY, NVM - DEVICE_MEMORY)?;
    flash(b, system, &machine)?;
    let model = super::only_cpu(b, BOARD.info.name, PpcModel::ppc755())?;
    if b.has_code() {
        run(b, model, &cpu)?;
    }
    Ok(())
}

/// Gives the board its CPU, with the lines that interrupt it. An access that nothing takes is a machine check.
fn run(b: &mut BoardBuilder<'_>, model: &'static PpcModel, lines: &[IrqLine]) -> Result<(), BoardError> {
    let ppc = Ppc::new(model, b.clock(), HZ).with_bus_errors(BusErrors::MachineCheck).with_log(b.log());
    let cpu = Cpu::new(ppc, b.memory(), &b.cpu_space())?;
    for (_, input, number) in CPU_INPUTS {
        if let Some(line) = lines.get(input) {
            cpu.inputs().connect(line, number);
        }
    }
    b.run_cpu(cpu);
    Ok(())
}

/// Wires an output of a device to an input of the interrupt controller.
fn wire(line: &IrqLine, intc: &Intc, bank: IntcBank, number: usize) {
    if let Some(input) = intc.inputs(bank).get(number) {
        line.connect_to(input);
    }
}

fn memory_controller(b: &mut BoardBuilder<'_>, system: RegionId, intc: &Intc) -> Result<(), BoardError> {
    let owner = b.unattached("cpiom-sdram");
    let ram = b.machine_ram("cpiom-sdram", sdram::RAM_SIZE)?;
    let sdram = Sdram::new(&owner, ram.block, b.map_handle(), b.log())?;
    let ram = b.map(system, 0, 0, sdram.ram_region().readonly(ram.rom))?;
    sdram.set_ram(ram)?;
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
    wire(sdram.viol(), intc, IntcBank::Mcp, MCP_VIOLATION);
    wire(sdram.err(), intc, IntcBank::Itn, ITN_SDRAM);
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

/// Maps a device's regions, gives its outputs names, has it reset and shown: what all but the SDRAM controller need.
fn device<D: Reset + 'static>(
    b: &mut BoardBuilder<'_>,
    device: &Arc<D>,
    owner: &Owner,
    regions: Vec<(u64, i32, Region)>,
    outputs: &[(&str, &IrqLine)],
    describe: fn(&D) -> QtreeDevice,
) -> Result<(), BoardError> {
    let system = b.memory().system();
    let mut places = Vec::new();
    for (address, priority, region) in regions {
        let region = b.map(system, address, priority, region)?;
        places.push((address, b.memory().region(region)?.size));
    }
    for (name, line) in outputs {
        b.pins(owner, PinDirection::Out, Some(name), &[(*line).clone()]);
    }
    b.reset(device);
    let device = device.clone();
    b.plug(b.system_bus(), move || {
        let place = |d: QtreeDevice, (at, size): &(u64, u128)| d.line(format!("mmio {at:016x}/{size:016x}"));
        places.iter().fold(describe(&device), place)
    });
    Ok(())
}

fn error_detection(b: &mut BoardBuilder<'_>, intc: &Intc) -> Result<(), BoardError> {
    let owner = b.unattached("cpiom-edc");
    let edc = Edc::new(b.clock(), b.log());
    wire(edc.irq(), intc, IntcBank::Itn, ITN_EDC);
    let regions = vec![
        (0x2000_000c, 1, edc.scrub_region(&owner)),
        (0x2000_1000, 0, edc.register_region(&owner)),
        (0x2000_2000, 0, edc.error_region(&owner)),
    ];
    device(b, &edc, &owner, regions, &[("irq", edc.irq())], Edc::qtree)
}

fn timers(b: &mut BoardBuilder<'_>, intc: &Intc) -> Result<(), BoardError> {
    let owner = b.unattached("cpiom-timers");
    let timers = Timers::new(b.clock(), b.log());
    wire(timers.tick(), intc, IntcBank::Itn, ITN_TICK);
    wire(timers.window(), intc, IntcBank::Itn, ITN_WINDOW);
    let outputs = [("tick", timers.tick()), ("window", timers.window())];
    device(b, &timers, &owner, vec![(0x2000_6000, 0, timers.region(&owner))], &outputs, Timers::qtree)
}

fn interrupt_controller(b: &mut BoardBuilder<'_>, intc: &Arc<Intc>) -> Result<(), BoardError> {
    let owner = b.unattached("cpiom-intc");
    for bank in IntcBank::ALL {
        b.pins(&owner, PinDirection::In, Some(bank.name()), intc.inputs(bank));
    }
    let outputs = IntcBank::ALL.map(|bank| (bank.output_name(), intc.output(bank)));
    device(b, intc, &owner, vec![(0x2000_7000, 0, intc.region(&owner))], &outputs, Intc::qtree)?;
    let shown = intc.clone();
    b.interrupt_state(move || shown.describe());
    Ok(())
}

fn serial(b: &mut BoardBuilder<'_>, system: RegionId, n: usize, address: u64) -> Result<IrqLine, BoardError> {
    let (name, backend) = b.serial(n)?;
    let owner = b.unattached("serial-mm");
    b.object(&format!("{}/serial", owner.path()), "serial");
    let uart: Arc<Serial16550> = Serial16550::new(&name, backend, b.clock());
    b.map(system, address, 0, uart.region(&owner))?;
    let irq: IrqLine = uart.irq().clone();
    b.pins(&owner, PinDirection::Out, Some("sysbus-irq"), std::slice::from_ref(&irq));
    b.reset(&uart);
    b.plug(b.system_bus(), move || {
        QtreeDevice::new("serial-mm")
            .gpio_out("sysbus-irq", 1)
            .number("regshift", 0)
            .line(format!("mmio {address:016x}/{:016x}", 8))
    });
    Ok(irq)
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
