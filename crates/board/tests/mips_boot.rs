//! What the `mips` boards are given to run: programs of both byte orders, U-Boot images, RAM disks, CPUs.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail loudly")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use flatview::{Be, Le};
use flatview_board::device::chardev::MemoryBackend;
use flatview_board::{Machine, MachineConfig, SerialConfig};

const MIB: u64 = 1 << 20;
const PARAMETERS: u64 = 0x00ff_fef8;
const ORDERS: [&str; 2] = ["mips", "mipsel"];

fn image(board: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../guests/images/{board}/{name}.elf"))
}

fn other(board: &str) -> &'static str {
    if board == "mips" { "mipsel" } else { "mips" }
}

fn stopped(board: &str, kernel: &Path) -> MachineConfig {
    MachineConfig { start_stopped: true, kernel: Some(kernel.into()), ..MachineConfig::new(board) }
}

fn refused(config: MachineConfig) -> String {
    Machine::new(config).unwrap_err().to_string()
}

/// Runs a program to its end and gives what it printed.
fn printed(config: MachineConfig) -> String {
    let serial = MemoryBackend::new("serial0");
    let serials = vec![SerialConfig::Backend(serial.clone())];
    let machine = Machine::new(MachineConfig { serials, start_stopped: false, ..config }).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !machine.has_quit() {
        assert!(Instant::now() < deadline, "it still runs: {}", String::from_utf8_lossy(&serial.take()));
        std::thread::sleep(Duration::from_millis(2));
    }
    String::from_utf8(serial.take()).unwrap()
}

/// A U-Boot image of a program for MIPS, loaded and entered as said.
fn uimage(load: u32, entry: u32, compression: u8, data: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    };
    let mut file: Vec<u8> = [0x2705_1956, 0, 0, data.len() as u32, load, entry, crc(data)]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect();
    file.extend([5, 5, 2, compression]);
    file.resize(64, 0);
    let sum = crc(&file);
    file[4..8].copy_from_slice(&sum.to_be_bytes());
    file.extend(data);
    file
}

/// The one loadable piece of a guest image: where it goes and its bytes, those included that the file does not give.
fn piece(board: &str, file: &[u8]) -> (u32, Vec<u8>) {
    let word = |at: usize| {
        let bytes = file[at..at + 4].try_into().unwrap();
        if board == "mips" { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let header = (0..).map(|n| word(28) as usize + 32 * n).find(|at| word(*at) == 1).unwrap();
    let (offset, given) = (word(header + 4) as usize, word(header + 16) as usize);
    let mut bytes = file[offset..offset + given].to_vec();
    bytes.resize(word(header + 20) as usize, 0);
    (word(header + 12), bytes)
}

#[test]
fn each_board_runs_programs_of_its_byte_order_and_names_the_other_board_for_others() {
    for board in ORDERS {
        let said =
            printed(MachineConfig { kernel: Some(image(board, "hello")), ..MachineConfig::new(board) });
        assert!(said.starts_with("Hello from a MIPS guest."), "{board}: {said}");
        let error = refused(stopped(board, &image(other(board), "hello")));
        assert!(error.contains(&format!("the board that takes this one is -M {}", other(board))), "{error}");
    }
}

#[test]
fn a_little_endian_program_is_told_its_parameters_in_its_order() {
    let machine = Machine::new(stopped("mipsel", &image("mipsel", "hello"))).unwrap();
    let reader = machine.cpu_space().reader();
    assert_eq!(reader.load::<Le, u32>(PARAMETERS).unwrap(), 128 << 20);
    assert_eq!(reader.load::<Le, u32>(PARAMETERS + 4).unwrap(), 0x1234_5678);
}

#[test]
fn a_u_boot_image_runs_as_it_is_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uImage");
    for board in ORDERS {
        let (load, bytes) = piece(board, &std::fs::read(image(board, "hello")).unwrap());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(packed.len() < bytes.len());
        for (compression, data) in [(0, &bytes), (1, &packed)] {
            std::fs::write(&path, uimage(load, 0x8010_0000, compression, data)).unwrap();
            let said = printed(MachineConfig { kernel: Some(path.clone()), ..MachineConfig::new(board) });
            assert!(said.starts_with("Hello from a MIPS guest."), "{board}: {said}");
        }
    }
    std::fs::write(&path, uimage(0x8010_0000, 0x8010_0000, 3, b"data")).unwrap();
    let error = refused(stopped("mips", &path));
    assert!(error.contains("'lzma'") && error.contains("-C gzip"), "{error}");
    std::fs::write(&path, uimage(0x8ff0_0000, 0x8ff0_0000, 0, b"data")).unwrap();
    let error = refused(stopped("mips", &path));
    assert!(error.contains("4 bytes at 0xff00000 do not fit"), "{error}");
    std::fs::write(&path, b"neither").unwrap();
    let error = refused(stopped("mips", &path));
    assert!(error.contains("neither an ELF file nor a U-Boot image"), "{error}");
}

/// The command line that a program on this machine finds.
fn told(machine: &Arc<Machine>) -> String {
    let mut line = [0; 256];
    machine.cpu_space().read(PARAMETERS + 8, &mut line).unwrap();
    let end = line.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(line[..end].to_vec()).unwrap()
}

#[test]
fn a_ram_disk_stands_behind_the_program_and_the_command_line_tells_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("initrd");
    std::fs::write(&path, b"a RAM disk").unwrap();
    let config = MachineConfig {
        initrd: Some(path.clone()),
        kernel_arguments: "console=ttyS0".to_owned(),
        ..stopped("mips", &image("mips", "hello"))
    };
    let machine = Machine::new(config.clone()).unwrap();
    // The program ends below 0x110000: stack and zeros included.
    assert_eq!(told(&machine), "rd_start=0xffffffff80110000 rd_size=10 console=ttyS0");
    let mut bytes = [0; 10];
    machine.cpu_space().read(0x11_0000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"a RAM disk");
    // It is there again after a reset.
    machine.cpu_space().write(0x11_0000, b"overwrite").unwrap();
    machine.perform(flatview_board::Request::SystemReset(flatview_board::Cause::HostQmpSystemReset)).unwrap();
    machine.cpu_space().read(0x11_0000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"a RAM disk");
    assert!(machine.roms().iter().any(|rom| rom.addr == 0x11_0000 && rom.size == 10 && !rom.is_rom));

    // What would run over the parameters goes behind them.
    std::fs::write(&path, vec![0x5a; 15 << 20]).unwrap();
    let machine = Machine::new(config.clone()).unwrap();
    assert_eq!(told(&machine), "rd_start=0xffffffff81000000 rd_size=15728640 console=ttyS0");
    assert_eq!(machine.cpu_space().reader().load::<Be, u32>(PARAMETERS + 4).unwrap(), 0x1234_5678);
    machine.cpu_space().read(0x1ef_fffe, &mut bytes[..2]).unwrap();
    assert_eq!(bytes[..2], [0x5a; 2]);
}

#[test]
fn a_ram_disk_that_cannot_be_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("initrd");
    std::fs::write(&path, vec![1; 20 << 20]).unwrap();
    let with = |kernel: Option<PathBuf>, initrd: &Path, ram: u64| MachineConfig {
        kernel,
        initrd: Some(initrd.into()),
        ram_size: Some(ram),
        start_stopped: true,
        ..MachineConfig::new("mips")
    };
    let hello = image("mips", "hello");
    let error = refused(with(None, &path, 64 * MIB));
    assert_eq!(error, "-initrd only allowed with -kernel option");
    let error = refused(with(Some(hello.clone()), &path, 32 * MIB));
    assert!(error.contains("20971520 bytes do not fit in the 16777216") && error.contains("-m"), "{error}");
    let error = refused(with(Some(hello.clone()), &folder.path().join("none"), 64 * MIB));
    assert!(error.contains("Cannot read initial RAM disk"), "{error}");
    std::fs::write(&path, b"").unwrap();
    assert!(refused(with(Some(hello), &path, 64 * MIB)).contains("empty"));
    std::fs::write(&path, b"x").unwrap();
    for board in ["40p", "cpiom"] {
        let config = MachineConfig {
            initrd: Some(path.clone()),
            kernel: Some(path.clone()),
            start_stopped: true,
            ..MachineConfig::new(board)
        };
        let error = refused(config);
        assert!(error.contains("no place for an initial RAM disk; leave out -initrd"), "{error}");
    }
    let config = MachineConfig { kernel_arguments: "x".to_owned(), ..MachineConfig::new("mips") };
    assert_eq!(refused(config), "-append only allowed with -kernel option");
}

#[test]
fn a_program_over_its_parameters_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uImage");
    std::fs::write(&path, uimage(0x80ff_0000, 0x80ff_0000, 0, &vec![0; 0x1_0000])).unwrap();
    let error = refused(stopped("mips", &path));
    assert!(error.contains("lie over 0xfffef8"), "{error}");
}

#[test]
fn every_cpu_that_is_listed_can_be_had_and_others_are_refused_with_the_nearest() {
    let of = |board: &str| {
        let models = Machine::cpu_models().into_iter();
        models.filter(|model| model.boards.contains(&board)).collect::<Vec<_>>()
    };
    for (board, only) in [("40p", "604"), ("cpiom", "755")] {
        assert_eq!(of(board).iter().map(|model| model.name).collect::<Vec<_>>(), [only]);
        let mut config = MachineConfig { cpu: Some(only.to_owned()), ..MachineConfig::new(board) };
        config.start_stopped = true;
        assert!(Machine::new(config).is_ok(), "{board}");
    }
    let models = of("mips");
    assert!(models.iter().any(|model| model.name == "24Kc"), "{models:?}");
    for model in &models {
        let config =
            MachineConfig { cpu: Some(model.name.to_owned()), ..stopped("mips", &image("mips", "hello")) };
        let machine = Machine::new(config).unwrap();
        let kind = format!("{}-mips-cpu", model.name);
        assert!(format!("{}", machine.qom()).contains(&kind), "{kind}");
    }
    let with = |board: &str, cpu: &str| MachineConfig {
        cpu: Some(cpu.to_owned()),
        start_stopped: true,
        ..MachineConfig::new(board)
    };
    let error = refused(with("mips", "24Kd"));
    assert!(
        error.contains("'24Kd'") && error.contains("did you mean '24K") && error.contains("-cpu help"),
        "{error}"
    );
    let error = refused(with("cpiom", "24Kc"));
    assert!(error.contains("'24Kc' for board 'cpiom'; did you mean '755'?"), "{error}");
}
