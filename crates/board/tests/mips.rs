//! The `mips` board.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use flatview::mtree::{Options, write};
use flatview::{Be, MemTxResult};
use flatview_board::device::CharSpec;
use flatview_board::device::chardev::MemoryBackend;
use flatview_board::{Cause, Event, EventKind, Machine, MachineConfig, SerialConfig};

const CONTROL: u64 = 0x1fbf_0000;
const MIB: u64 = 1 << 20;

fn config() -> MachineConfig {
    MachineConfig { start_stopped: true, ..MachineConfig::new("mips") }
}

fn machine() -> Arc<Machine> {
    Machine::new(config()).unwrap()
}

fn next(events: &Receiver<Event>) -> EventKind {
    events.recv_timeout(Duration::from_secs(10)).unwrap().kind
}

#[test]
fn every_region_of_the_board_is_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mips_bios.bin"), b"bios").unwrap();
    let machine =
        Machine::new(MachineConfig { firmware_dirs: vec![folder.path().into()], ..config() }).unwrap();
    let tree = write(machine.memory(), Options::default()).unwrap().to_string();
    for line in [
        "    0000000000000000-0000000007ffffff (prio 0, ram): mips_r4k.ram",
        "    0000000010000000-0000000010ffffff (prio 0, i/o): isa-mem",
        "      00000000100a0000-00000000100bffff (prio 1, i/o): vga-lowmem",
        "    0000000014000000-000000001400ffff (prio 0, i/o): alias isa-io @io 0000000000000000-000000000000ffff",
        "    000000001fbf0000-000000001fbfffff (prio 0, i/o): mips-qemu",
        "    000000001fc00000-000000001fffffff (prio 0, rom): mips_r4k.bios",
        "    00000000000003f8-00000000000003ff (prio 0, i/o): serial",
        "    0000000000000020-0000000000000021 (prio 0, i/o): pic",
        "    0000000000000300-000000000000031f (prio 0, i/o): ne2000",
        "    00000000000003f6-00000000000003f6 (prio 0, i/o): ide",
    ] {
        assert!(tree.lines().any(|ours| ours == line), "{line}\n{tree}");
    }
    let mut bytes = [0; 4];
    machine.cpu_space().read(0x1fc0_0000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"bios");
    assert!(machine.warnings().is_empty());
}

#[test]
fn a_store_of_42_resets_and_at_offset_4_ends_the_machine() {
    let machine = machine();
    let (events, reader) = (machine.subscribe(), machine.cpu_space().reader());
    for (offset, value) in [(0, 41_u32), (4, 43), (8, 42), (0x40, 42)] {
        reader.store::<Be, u32>(CONTROL + offset, value).unwrap();
    }
    for size in 0..3 {
        match size {
            0 => reader.store::<Be, u8>(CONTROL, 42).unwrap(),
            1 => reader.store::<Be, u16>(CONTROL, 42).unwrap(),
            _ => reader.store::<Be, u32>(CONTROL, 42).unwrap(),
        }
        assert_eq!(next(&events), EventKind::Reset { cause: Cause::GuestReset }, "the first event, {size}");
    }
    assert_eq!(reader.load::<Be, u32>(CONTROL).unwrap(), 0);
    assert_eq!(reader.load::<Be, u16>(CONTROL + 0xfffe).unwrap(), 0);
    assert!(!machine.has_quit());
    reader.store::<Be, u32>(CONTROL + 4, 42).unwrap();
    assert_eq!(next(&events), EventKind::Shutdown { cause: Cause::GuestShutdown });
    assert_eq!(machine.wait(), 0);
}

#[test]
fn with_no_reboot_a_reset_is_the_end() {
    let machine = Machine::new(MachineConfig { no_reboot: true, ..config() }).unwrap();
    let events = machine.subscribe();
    machine.cpu_space().reader().store::<Be, u32>(CONTROL, 42).unwrap();
    assert_eq!(next(&events), EventKind::Shutdown { cause: Cause::GuestReset });
    assert_eq!(machine.wait(), 0);
}

#[test]
fn isa_ports_are_system_io_and_read_ones_where_there_is_nothing() {
    let machine = machine();
    let mut byte = [0];
    machine.cpu_space().read(0x1400_03fd, &mut byte).unwrap();
    assert_eq!(byte, [0x60]);
    machine.io_space().read(0x3fd, &mut byte).unwrap();
    assert_eq!(byte, [0x60]);
    machine.cpu_space().read(0x1400_0500, &mut byte).unwrap();
    assert_eq!(byte, [0xff]);
}

#[test]
fn the_serial_port_sends_and_there_are_as_many_as_the_user_asks_for() {
    let backend = MemoryBackend::new("serial0");
    let serials = vec![
        SerialConfig::Backend(backend.clone()),
        SerialConfig::Spec(CharSpec::Null),
        SerialConfig::Spec(CharSpec::Null),
    ];
    let machine = Machine::new(MachineConfig { serials, ..config() }).unwrap();
    machine.cpu_space().write(0x1400_03f8, b"A").unwrap();
    assert_eq!(backend.take(), b"A");
    let tree = write(machine.memory(), Options::default()).unwrap().to_string();
    assert!(tree.contains("00000000000003e8-00000000000003ef (prio 0, i/o): serial"));
    assert!(!tree.contains("00000000000002e8-"));
}

#[test]
fn ram_is_at_most_256_mib() {
    for (asked, size) in
        [(None, 128 * MIB), (Some(0), 128 * MIB), (Some(256 * MIB), 256 * MIB), (Some(4096), 4096)]
    {
        let machine = Machine::new(MachineConfig { ram_size: asked, ..config() }).unwrap();
        assert_eq!(machine.ram_size(), size);
        assert!(machine.cpu_space().read(size - 1, &mut [0]).is_ok());
        let beyond = machine.cpu_space().read(size, &mut [0]).unwrap_err();
        assert_eq!(beyond.result(), MemTxResult::DECODE_ERROR);
    }
    for asked in [257 * MIB, 256 * MIB + 4096, u64::MAX, 5000] {
        let error =
            Machine::new(MachineConfig { ram_size: Some(asked), ..config() }).unwrap_err().to_string();
        assert!(error.contains("at most 256 MiB"), "{error}");
    }
}

#[test]
fn without_firmware_there_is_no_rom_and_a_warning() {
    let machine = machine();
    assert!(machine.warnings()[0].contains("-bios"), "{:?}", machine.warnings());
    assert!(machine.cpu_space().read(0x1fc0_0000, &mut [0]).is_err());
}

#[test]
fn firmware_larger_than_its_rom_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    std::fs::write(&path, vec![0; 4 * MIB as usize + 1]).unwrap();
    let error = Machine::new(MachineConfig { bios: Some(path), ..config() }).unwrap_err().to_string();
    assert!(error.contains("4194305 bytes at 0x1fc00000 do not fit"), "{error}");
}

#[test]
fn flash_is_there_without_a_firmware_file_and_keeps_what_is_programmed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flash");
    std::fs::write(&path, vec![0xff; 4 << 20]).unwrap();
    let config = || MachineConfig { pflash: Some(path.clone()), ..config() };
    let machine = Machine::new(config()).unwrap();
    assert!(machine.warnings().is_empty());
    let tree = write(machine.memory(), Options { flat: true, ..Options::default() }).unwrap().to_string();
    assert!(tree.contains("000000001fc00000-000000001fffffff (prio 0, romd): mips_r4k.bios"), "{tree}");
    let reader = machine.cpu_space().reader();
    for value in [0x40_u32, 0x1234_5678] {
        reader.store::<Be, u32>(0x1fc0_0010, value).unwrap();
    }
    assert_eq!(reader.load::<Be, u32>(0x1fc0_0010).unwrap(), 0x0080_0080);
    drop((reader, machine));
    let machine = Machine::new(config()).unwrap();
    assert_eq!(machine.cpu_space().reader().load::<Be, u32>(0x1fc0_0010).unwrap(), 0x1234_5678);
    let bios = folder.path().join("bios");
    std::fs::write(&bios, b"bios").unwrap();
    let machine = Machine::new(MachineConfig { bios: Some(bios), ..config() }).unwrap();
    assert_eq!(
        machine.cpu_space().reader().load::<Be, u32>(0x1fc0_0000).unwrap(),
        u32::from_be_bytes(*b"bios")
    );
    std::fs::write(&path, b"short").unwrap();
    let error = Machine::new(config()).unwrap_err().to_string();
    assert!(error.contains("it has 5 bytes") && error.contains("truncate"), "{error}");
}

/// A big-endian MIPS program of four bytes at a virtual address.
fn program(addr: u32) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0".to_vec();
    [2_u16, 8].into_iter().for_each(|v| file.extend(v.to_be_bytes()));
    [1, addr, 52, 0, 0].into_iter().for_each(|v: u32| file.extend(v.to_be_bytes()));
    [52_u16, 32, 1, 0, 0, 0].into_iter().for_each(|v| file.extend(v.to_be_bytes()));
    [1, 84, addr, addr, 4, 4, 7, 1].into_iter().for_each(|v: u32| file.extend(v.to_be_bytes()));
    file.extend(b"code");
    file
}

#[test]
fn a_program_is_loaded_and_told_its_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernel");
    std::fs::write(&path, program(0x8000_1000)).unwrap();
    let with = |arguments: &str, ram_size| MachineConfig {
        kernel: Some(path.clone()),
        kernel_arguments: arguments.to_owned(),
        ram_size,
        ..config()
    };
    let machine = Machine::new(with("console=ttyS0", None)).unwrap();
    let (space, mut code) = (machine.cpu_space(), [0; 4]);
    space.read(0x1000, &mut code).unwrap();
    assert_eq!(&code, b"code");
    assert_eq!(machine.entry(), Some(0x8000_1000));
    let reader = space.reader();
    assert_eq!(reader.load::<Be, u32>(0x00ff_fef8).unwrap(), 128 << 20);
    assert_eq!(reader.load::<Be, u32>(0x00ff_fefc).unwrap(), 0x1234_5678);
    let mut line = [0; 14];
    space.read(0x00ff_ff00, &mut line).unwrap();
    assert_eq!(&line, b"console=ttyS0\0");
    for (config, part) in [(with("", Some(8 * MIB)), "16 MiB"), (with(&"x".repeat(256), None), "255 fit")] {
        let error = Machine::new(config).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    std::fs::write(&path, program(0x8800_0000)).unwrap();
    let error = Machine::new(with("", None)).unwrap_err().to_string();
    assert!(error.contains("program header 0: 4 bytes at 0x8000000 do not fit"), "{error}");
}
