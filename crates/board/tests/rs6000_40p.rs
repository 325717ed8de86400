//! The 40p is, region by region, QEMU's.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use flatview::mtree::{Options, write};
use flatview_board::device::CharSpec;
use flatview_board::device::log::LogBuffer;
use flatview_board::device::{Log, LogMask};
use flatview_board::{Cause, Machine, MachineConfig, PinDirection, Request, SerialConfig};

fn capture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../flatview/tests/captures").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As the captures were made, but without firmware, which the host may not have.
fn config() -> MachineConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/empty.rom");
    MachineConfig {
        serials: vec![SerialConfig::Spec(CharSpec::Null)],
        parallels: vec![SerialConfig::Spec(CharSpec::Null)],
        start_stopped: true,
        bios: Some(folder),
        ..MachineConfig::new("40p")
    }
}

fn machine() -> Arc<Machine> {
    Machine::new(config()).unwrap()
}

/// Blocks of `info mtree`, without the numbers of flat views, which are in no particular order.
fn blocks(text: &str) -> BTreeSet<String> {
    text.split("\n\n")
        .map(|block| {
            let lines = block.lines().filter(|line| !line.starts_with("FlatView #") && !line.is_empty());
            lines.collect::<Vec<_>>().join("\n")
        })
        .filter(|block| !block.is_empty())
        .collect()
}

fn assert_same_blocks(ours: &str, name: &str) {
    let (ours, theirs) = (blocks(ours), blocks(&capture(name)));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).cloned().collect::<Vec<_>>().join("\n\n")
    };
    assert_eq!(only(&ours, &theirs), only(&theirs, &ours), "{name}");
}

fn mtree(machine: &Machine, options: Options) -> String {
    write(machine.memory(), options).unwrap().to_string()
}

#[test]
fn the_tree_is_qemus() {
    assert_same_blocks(&mtree(&machine(), Options::default()), "ppc-40p.tree");
}

#[test]
fn the_flat_views_are_qemus() {
    assert_same_blocks(&mtree(&machine(), Options { flat: true, ..Options::default() }), "ppc-40p.flat");
}

#[test]
fn the_owners_are_qemus() {
    assert_same_blocks(&mtree(&machine(), Options { owner: true, ..Options::default() }), "ppc-40p.owner");
}

#[test]
fn the_disabled_regions_are_qemus() {
    assert_same_blocks(
        &mtree(&machine(), Options { disabled: true, ..Options::default() }),
        "ppc-40p.disabled",
    );
}

#[test]
fn the_device_tree_is_qemus_but_for_what_is_not_modelled() {
    let ours = machine().qtree().to_string();
    let mut device = "";
    let mut unmodelled = BTreeSet::new();
    for line in ours.lines() {
        device =
            line.trim().strip_prefix("dev: ").and_then(|rest| rest.split_once(',')).map_or(device, |d| d.0);
        if line.contains("not modelled yet") {
            unmodelled.insert(device);
        }
    }
    let expected = ["VGA", "cs4231a", "pcnet"];
    assert_eq!(unmodelled, BTreeSet::from(expected));
    let ours: Vec<&str> = ours.lines().filter(|line| !line.contains("not modelled yet")).collect();
    // The host that the captures were made on had a sound card and no firmware of its own.
    let theirs = capture("ppc-40p.qtree").replace("audiodev = \"alsa\"", "audiodev = \"none\"");
    let theirs: Vec<&str> = theirs.lines().collect();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if !ours.contains("bios-name") {
            assert_eq!(ours, theirs);
        }
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn the_object_tree_is_qemus() {
    assert_eq!(machine().qom().to_string(), capture("ppc-40p.qom-tree"));
}

#[test]
fn the_ram_blocks_are_where_qemu_puts_them() {
    let theirs: Vec<String> = capture("ppc-40p.ramblock").lines().skip(1).map(str::to_owned).collect();
    let ours: Vec<String> = machine()
        .ram_blocks()
        .iter()
        .map(|row| {
            format!("{:>24}    4 KiB  {:#018x} {:#018x} {:#018x}", row.name, row.offset, row.used, row.total)
        })
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn what_is_loaded_is_told_as_qemu_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rom");
    std::fs::write(&path, b"firmware").unwrap();
    let machine = Machine::new(MachineConfig { bios: Some(path.clone()), ..config() }).unwrap();
    let roms: Vec<String> = machine.roms().iter().map(ToString::to_string).collect();
    let command_line = capture("ppc-40p.roms").lines().next().unwrap().to_owned();
    let firmware = format!("addr=00000000fff00000 size=0x000008 mem=rom name=\"{}\"", path.display());
    assert_eq!(roms, [command_line, firmware]);
}

#[test]
fn firmware_is_read_from_rom_again_after_a_reset_and_ram_keeps_its_contents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rom");
    std::fs::write(&path, b"firmware").unwrap();
    let machine = Machine::new(MachineConfig { bios: Some(path), ..config() }).unwrap();
    let space = machine.cpu_space();
    space.poke(0xfff0_0000, b"patched!").unwrap();
    space.write(0x1000, b"ram").unwrap();
    machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    let mut bytes = [0; 8];
    space.read(0xfff0_0000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"firmware");
    space.read(0x1000, &mut bytes[..3]).unwrap();
    assert_eq!(&bytes[..3], b"ram");
    assert!(space.write(0xfff0_0000, b"no").is_err());
}

#[test]
fn installed_firmware_is_found() {
    if Path::new("/usr/share/qemu/openbios-ppc").exists() {
        let machine = Machine::new(MachineConfig { bios: None, ..config() }).unwrap();
        assert!(machine.warnings().is_empty());
        let roms: Vec<(u64, u64, bool)> =
            machine.roms().iter().map(|rom| (rom.addr, rom.size, rom.is_rom)).collect();
        assert!(roms.contains(&(0xffff_fffc, 4, true)), "{roms:x?}");
    } else {
        assert!(std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(), "install Debian's qemu-system-data");
        eprintln!("SKIPPED: Debian's qemu-system-data is not installed");
    }
}

#[test]
fn without_firmware_a_machine_that_stands_has_an_empty_rom_and_one_that_runs_is_refused() {
    let nothing = || MachineConfig { bios: None, only_firmware_dirs: true, ..config() };
    for config in [nothing(), MachineConfig { start_stopped: false, qtest: true, ..nothing() }] {
        let machine = Machine::new(config).unwrap();
        assert!(machine.warnings().iter().any(|text| text.contains("qemu-system-data")));
        assert!(machine.roms().iter().all(|rom| rom.addr < 0xfff0_0000), "{:x?}", machine.roms());
        assert!(!machine.has_cpu());
    }
    let error = Machine::new(MachineConfig { start_stopped: false, ..nothing() }).err().unwrap().to_string();
    for part in ["'40p'", "'openbios-ppc'", "qemu-system-data", "-L", "-bios", "-S"] {
        assert!(error.contains(part), "{error}");
    }
}

fn byte(machine: &Machine, addr: u64) -> u8 {
    let mut byte = [0];
    machine.cpu_space().read(addr, &mut byte).unwrap();
    byte[0]
}

fn port(port: u64) -> u64 {
    0x8000_0000 + port
}

fn simms(machine: &Machine) -> Vec<(u64, bool)> {
    let memory = machine.memory();
    let mut simms: Vec<_> = memory
        .regions()
        .into_iter()
        .map(|id| memory.region(id).unwrap())
        .filter(|region| region.name.starts_with("simm."))
        .map(|region| (region.name.to_string(), region.addr, region.enabled))
        .collect();
    simms.sort();
    simms.into_iter().map(|(_, addr, enabled)| (addr, enabled)).collect()
}

/// The writes and what QEMU 7.2's `info mtree -D` showed after them.
#[test]
fn port_820_moves_and_disables_simms() {
    const M: u64 = 1 << 20;
    let machine = machine();
    let place = |value: u8| machine.cpu_space().write(port(0x820), &[value]).unwrap();
    place(0x24);
    assert_eq!(simms(&machine), [(0, true), (32 * M, true), (64 * M, true), (96 * M, true)]);
    place(0x20);
    assert_eq!(simms(&machine)[0], (0, false));
    assert!(machine.cpu_space().read(0, &mut [0]).is_err());
    place(0x28);
    place(0x44);
    assert_eq!(simms(&machine), [(0, true), (64 * M, true), (64 * M, true), (96 * M, true)]);
    place(0x4c);
    place(0x70);
    place(0x80);
    assert_eq!(simms(&machine), [(0, true), (64 * M, true), (96 * M, true), (128 * M, true)]);
    for beyond in [0xa4, 0xc4, 0xe4, 0x04] {
        place(beyond);
    }
    assert_eq!(simms(&machine), [(0, true), (64 * M, true), (96 * M, true), (128 * M, true)]);
    let ends: Vec<u8> = (0..8).map(|_| byte(&machine, port(0x820))).collect();
    assert_eq!(ends, [0x04, 0x08, 0x0c, 0x10, 0x00, 0x04, 0x04, 0x04]);
    machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    assert_eq!(simms(&machine)[1], (64 * M, true), "a reset does not move them");
}

#[test]
fn the_presence_ports_say_which_sockets_are_filled() {
    for (mib, large, empty) in [(16, 0x00, 0xfc), (80, 0x03, 0xf0), (128, 0x0f, 0xf0), (192, 0x3f, 0xc0)] {
        let machine = Machine::new(MachineConfig { ram_size: Some(mib << 20), ..config() }).unwrap();
        assert_eq!((byte(&machine, port(0x803)), byte(&machine, port(0x804))), (large, empty), "{mib} MiB");
        assert_eq!(byte(&machine, port(0x841)), 1);
    }
}

#[test]
fn ram_sizes_that_the_sockets_cannot_hold_are_refused_with_one_that_they_can() {
    for (size, part) in [(24 << 20, "try 16 MiB"), (256 << 20, "try 192 MiB"), (4 << 30, "-m 192")] {
        let error = Machine::new(MachineConfig { ram_size: Some(size), ..config() }).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn ports_answer_as_qemus_do() {
    let machine = machine();
    let mut wide = [0; 4];
    for (at, value) in [
        (0x92, 0),
        (0x808, 0xff),
        (0x80c, 0xc0),
        (0x818, 0),
        (0x81c, 0),
        (0x850, 1),
        (0x852, 0xfc),
        (0x398, 0x88),
    ] {
        assert_eq!(byte(&machine, port(at)), value, "{at:#x}");
    }
    // Two bytes are composed; four are more than a byte register has; beyond the port there is nothing.
    let space = machine.cpu_space();
    space.read(port(0x80c), &mut wide[..2]).unwrap();
    assert_eq!(wide[..2], [0xc0, 0xff]);
    space.read(port(0x80c), &mut wide).unwrap();
    assert_eq!(wide, [0xff; 4]);
    space.read(port(0x803), &mut wide).unwrap();
    assert_eq!(wide, [0x0f, 0xf0, 0xff, 0x00]);
    // The window folds the address, and ports that nobody has read 0, not ones.
    assert_eq!(byte(&machine, port(0x1_0852)), 0xfc);
    assert_eq!(byte(&machine, port(0x1f2)), 0);
    assert_eq!(byte(&machine, 0xbfff_fff0), 7, "a spurious interrupt");
}

#[test]
fn pci_regions_are_mapped_where_the_guest_says() {
    let machine = machine();
    let space = machine.cpu_space();
    let vga = 0x8080_0000 + (1 << 13);
    space.write(vga + 0x10, &0x0100_0000_u32.to_le_bytes()).unwrap();
    space.write(vga + 0x18, &0x0200_0000_u32.to_le_bytes()).unwrap();
    space.write(vga + 4, &[2]).unwrap();
    let tree = mtree(&machine, Options::default());
    for line in [
        "    00000000c1000000-00000000c1ffffff (prio 1, ram): vga.vram",
        "    00000000c2000000-00000000c2000fff (prio 1, i/o): vga.mmio",
        "      00000000c2000500-00000000c2000515 (prio 0, i/o): bochs dispi interface",
    ] {
        assert!(tree.contains(line), "{line}\n{tree}");
    }
    assert!(machine.qtree().to_string().contains("bar 0: mem at 0x1000000 [0x1ffffff]"));
    space.write(0xc100_1234, b"pixel").unwrap();
    // A bus master sees memory once it is allowed to.
    space.write(vga + 4, &[6]).unwrap();
    let bus = machine.memory().spaces().into_iter().find(|space| space.name() == "VGA").unwrap();
    let mut bytes = [0; 5];
    bus.read(0x0100_1234, &mut bytes).unwrap();
    assert_eq!(&bytes, b"pixel");
    space.write(0x2000, b"ram").unwrap();
    bus.read(0x8000_2000, &mut bytes[..3]).unwrap();
    assert_eq!(&bytes[..3], b"ram");
    machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    assert_same_blocks(&mtree(&machine, Options::default()), "ppc-40p.tree");
    assert!(bus.read(0x8000_2000, &mut bytes).is_err());
}

#[test]
fn pc_testdev_remembers_and_raises_interrupts() {
    let machine = Machine::new(MachineConfig { devices: vec!["pc-testdev".into()], ..config() }).unwrap();
    let space = machine.cpu_space();
    let mut bytes = [0; 4];
    space.write(port(0xe0), &[1, 2, 3, 4]).unwrap();
    space.read(port(0xe8), &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 4]);
    space.write(port(0xe9), &[9]).unwrap();
    assert_eq!(byte(&machine, port(0xe1)), 9);
    space.write(0xff00_1001, &[5, 6, 7, 8]).unwrap();
    space.read(0xff00_1001, &mut bytes).unwrap();
    assert_eq!(bytes, [5, 6, 7, 8]);
    let pins = machine.irq_pins("/machine/unattached/device[3]", PinDirection::In, None).unwrap();
    let (sender, heard) = std::sync::mpsc::channel();
    let guards: Vec<_> = pins
        .iter()
        .enumerate()
        .map(|(n, pin)| {
            let sender = sender.clone();
            pin.observe(move |level| sender.send((n, level)).unwrap())
        })
        .collect();
    space.write(port(0x2005), &[1]).unwrap();
    space.write(port(0x2005), &[0]).unwrap();
    space.write(port(0x2017), &[1]).unwrap();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(5, true), (5, false)]);
    drop(guards);
    let tree = mtree(&machine, Options { owner: true, ..Options::default() });
    assert!(tree.contains("pc-testdev-iomem owner:{dev path=/machine/peripheral-anon/device[0]}"), "{tree}");
}

#[test]
fn what_is_not_modelled_reads_0_and_is_logged() {
    let buffer = LogBuffer::default();
    let log = Log::to(LogMask::UNIMP | LogMask::GUEST_ERRORS, buffer.clone());
    let machine = Machine::new(MachineConfig { log, ..config() }).unwrap();
    assert_eq!(byte(&machine, port(0x832)), 0);
    machine.cpu_space().write(port(0x830), &[0x12]).unwrap();
    assert_eq!(
        buffer.text(),
        "cs4231a: unimplemented device read (size 1, offset 0x2)\n\
         cs4231a: unimplemented device write (size 1, offset 0x0, value 0x12)\n"
    );
    let _ = machine.cpu_space().read(0xbfff_eff0, &mut [0; 2]);
    assert!(
        buffer.text().contains("region 'ppc-parity', reason: invalid size (min:4 max:4)"),
        "{}",
        buffer.text()
    );
}

#[test]
fn nodefaults_leaves_out_what_qemu_leaves_out() {
    let machine = Machine::new(MachineConfig { nodefaults: true, ..config() }).unwrap();
    let tree = mtree(&machine, Options::default());
    for gone in ["serial", "vga", "m48t59", "systemio800", "ppc-parity", "pcnet", "lsi"] {
        assert!(!tree.contains(gone), "{gone}");
    }
    for there in ["simm.3", "dma-pageh", "rtc-index", "rs6000mc", "fwcfg.data"] {
        assert!(tree.contains(there), "{there}");
    }
}

#[test]
fn lines_are_found_by_path_or_its_end_and_what_there_is_is_named() {
    let machine = machine();
    assert_eq!(machine.irq_pins("raven", PinDirection::In, None).unwrap().len(), 1);
    assert_eq!(machine.irq_pins("/machine/unattached/device[0]", PinDirection::In, None).unwrap().len(), 8);
    let keyboard = machine.irq_pins("i8042", PinDirection::In, Some("ps2-kbd-input-irq")).unwrap();
    assert_eq!(keyboard.len(), 1);
    for (path, name, part) in [
        ("/machine/nobody", None, "Unknown device"),
        ("serial", None, " or "),
        ("i8042", Some("x"), "'ps2-kbd-input-irq' (1)"),
    ] {
        let error = machine.irq_pins(path, PinDirection::In, name).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn bad_requests_for_a_machine_are_errors_that_say_what_would_be_right() {
    let unreadable = tempfile::tempdir().unwrap();
    let cut = unreadable.path().join("cut");
    std::fs::write(&cut, b"\x7fELF").unwrap();
    let large = unreadable.path().join("large");
    std::fs::write(&large, vec![0; (1 << 20) + 1]).unwrap();
    for (config, part) in [
        (MachineConfig::new("41p"), "did you mean '40p'?"),
        (MachineConfig::new("zzz"), "-M help"),
        (MachineConfig { devices: vec!["pc-testdef".into()], ..config() }, "did you mean 'pc-testdev'?"),
        (MachineConfig { devices: vec!["pc-testdev,iobase=3".into()], ..config() }, "iobase=3"),
        (MachineConfig { bios: Some("no-such-file".into()), ..config() }, "-L"),
        (MachineConfig { bios: Some(unreadable.path().into()), ..config() }, "Cannot find firmware"),
        (MachineConfig { bios: Some(cut), ..config() }, "begins like an ELF file"),
        (MachineConfig { bios: Some(large), ..config() }, "1048577 bytes at 0xfff00000"),
        (MachineConfig { kernel: Some("/no-such-kernel".into()), ..config() }, "Cannot read kernel"),
        (
            MachineConfig {
                serials: vec![SerialConfig::Spec(CharSpec::File("/nonexistent/x".into()))],
                ..config()
            },
            "file:/nonexistent/x",
        ),
    ] {
        let error = Machine::new(config).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// A machine with these words of code at the CPU's reset vector, running.
fn running(code: &[u32]) -> (Arc<Machine>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rom");
    let words = std::iter::repeat_n(&0, 0x40).chain(code).chain(std::iter::repeat(&0)).take(0x4_0000);
    std::fs::write(&path, words.flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>()).unwrap();
    let machine = Machine::new(MachineConfig { bios: Some(path), start_stopped: false, ..config() }).unwrap();
    (machine, folder)
}

/// Waits until a word of memory is this.
fn wait_for_word(machine: &Machine, address: u64, wanted: u32) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut bytes = [0; 4];
    while u32::from_be_bytes(bytes) != wanted {
        assert!(std::time::Instant::now() < deadline, "{address:#x} has {bytes:x?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
        machine.cpu_space().read(address, &mut bytes).unwrap();
    }
}

#[test]
fn port_92_resets_the_cpu_and_nothing_else() {
    let (machine, _folder) = running(&[
        0x3c60_0000, // lis   r3, 0
        0x8083_0100, // lwz   r4, 0x100(r3)
        0x3884_0001, // addi  r4, r4, 1
        0x9083_0100, // stw   r4, 0x100(r3)   how often the CPU began
        0x3ca0_8000, // lis   r5, 0x8000
        0x38c0_0001, // li    r6, 1
        0x98c5_03ff, // stb   r6, 0x3ff(r5)   the serial port's scratch register, which a machine's reset clears
        0x98c5_0092, // stb   r6, 0x92(r5)    goes up once only: the port keeps its bit
        0x9083_0104, // stw   r4, 0x104(r3)   the second time
        0x4800_0000, // b     .
    ]);
    wait_for_word(&machine, 0x104, 2);
    wait_for_word(&machine, 0x100, 2);
    assert_eq!(byte(&machine, port(0x3ff)), 1);
    assert_eq!(byte(&machine, port(0x92)) & 1, 1);
}

#[test]
fn what_nobody_answers_is_no_exception() {
    let (machine, _folder) = running(&[
        0x3c60_0000, // lis   r3, 0
        0x3ca0_5000, // lis   r5, 0x5000
        0x3880_0001, // li    r4, 1
        0x9085_0000, // stw   r4, 0(r5)       lost
        0x8085_0000, // lwz   r4, 0(r5)       0
        0x3884_0007, // addi  r4, r4, 7
        0x9083_0100, // stw   r4, 0x100(r3)
        0x4800_0000, // b     .
    ]);
    wait_for_word(&machine, 0x100, 7);
}

#[test]
fn no_code_runs_under_a_test_driver() {
    let machine = Machine::new(MachineConfig { qtest: true, ..config() }).unwrap();
    assert!(!machine.has_cpu());
    assert!(Machine::new(config()).unwrap().has_cpu());
}

#[test]
fn the_nvram_is_kept_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nvram");
    let machine = || Machine::new(MachineConfig { nvram: Some(path.clone()), ..config() });
    let at = |machine: &Machine, address: u16| {
        let [low, high] = address.to_le_bytes();
        machine.cpu_space().write(port(0x74), &[low]).unwrap();
        machine.cpu_space().write(port(0x75), &[high]).unwrap();
    };
    let first = machine().unwrap();
    at(&first, 0);
    assert_eq!(byte(&first, port(0x77)), b'Q', "a new file gets QEMU's header");
    at(&first, 0x1234);
    first.cpu_space().write(port(0x77), &[0xa5]).unwrap();
    at(&first, 0);
    first.cpu_space().write(port(0x77), b"x").unwrap();
    drop(first);
    assert_eq!(std::fs::read(&path).unwrap().len(), 0x2000);
    let second = machine().unwrap();
    at(&second, 0x1234);
    assert_eq!(byte(&second, port(0x77)), 0xa5);
    at(&second, 0);
    assert_eq!(byte(&second, port(0x77)), b'x', "what is there is left");
    drop(second);
    std::fs::write(&path, [1; 0x2001]).unwrap();
    let told = machine().unwrap_err().to_string();
    assert!(told.contains("it has 8193 bytes, and the NVRAM 8192"), "{told}");
    let refused = Machine::new(MachineConfig { nvram: Some(path.clone()), ..MachineConfig::new("cpiom") });
    assert_eq!(refused.unwrap_err().to_string(), "Board 'cpiom' has no NVRAM; leave out -nvram");
}
