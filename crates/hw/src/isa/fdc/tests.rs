//! The controller's commands, without and with disks, by DMA and without.

use flatview::{AddressSpace, Endianness, Memory, RamBlock};

use super::*;
use crate::dma::i8257::{I8257, PLACES};
use drive::{Disk, Geometry};

struct Pc {
    fdc: Arc<Fdc>,
    dma: Arc<I8257>,
    space: AddressSpace,
    clock: Clock,
    _memory: Memory,
}

impl Pc {
    fn new(drives: [Drive; 2]) -> Pc {
        let memory = Memory::new(Endianness::Big);
        let clock = Clock::stepped();
        let (system, io, owner) = (memory.system(), memory.io(), Owner::object("/fdc"));
        let dma = I8257::new(PLACES[0], &memory.memory_space(), &clock, &Log::none());
        let fdc = Fdc::new(drives, Some(dma.channel(2)), &clock, &Log::none());
        memory
            .update(|t| {
                let ram = t.add(Region::ram("ram", RamBlock::anonymous("ram", 1 << 20).unwrap()))?;
                t.map(system, 0, ram)?;
                for (port, region) in dma.regions(&owner).into_iter().chain(fdc.regions(&owner)) {
                    let region = t.add(region)?;
                    t.map(io, port.into(), region)?;
                }
                Ok::<_, flatview::MemoryError>(())
            })
            .unwrap();
        let space = memory.io_space();
        let pc = Pc { fdc, dma, space, clock, _memory: memory };
        pc.restart();
        pc
    }

    /// With a disk of this many KiB, whose sectors begin with their number, and the file that it is in.
    fn with_disk(kib: u64, protected: bool) -> (Pc, std::fs::File) {
        let geometry = Geometry::of(kib << 10).unwrap();
        let file = tempfile::tempfile().unwrap();
        let image: Vec<u8> = (0..kib * 2)
            .flat_map(|n| {
                let mut sector = [0xee; SECTOR];
                sector[..2].copy_from_slice(&(n as u16).to_le_bytes());
                sector
            })
            .collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &image, 0).unwrap();
        let disk = Disk::new(file.try_clone().unwrap(), geometry, protected);
        let pc = Pc::new([Drive::new(Some(disk)), Drive::absent()]);
        pc.out(7, &[geometry.rate]);
        (pc, file)
    }

    fn out(&self, register: u64, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.space.write(0x3f0 + register, &[*byte]).unwrap());
    }

    fn inb(&self, register: u64) -> u8 {
        let mut byte = [0];
        self.space.read(0x3f0 + register, &mut byte).unwrap();
        byte[0]
    }

    /// Writes a command; gives its result.
    fn command(&self, bytes: &[u8]) -> Vec<u8> {
        self.out(5, bytes);
        let mut result = Vec::new();
        while self.inb(4) & 0xd0 == 0xd0 {
            result.push(self.inb(5));
        }
        result
    }

    /// Reset, and the four senses of it.
    fn restart(&self) {
        self.out(2, &[0, 0x1c]);
        assert!(self.fdc.irq().level());
        for drive in 0..4 {
            assert_eq!(self.command(&[0x08]), [0xc0 | drive, 0]);
        }
        assert!(!self.fdc.irq().level());
    }

    /// Programs DMA channel 2 for this many bytes at 0x8000.
    fn program(&self, mode: u8, count: u16) {
        let port = |at: u64, byte: u8| self.space.write(at, &[byte]).unwrap();
        port(0x0a, 6);
        port(0x0c, 0);
        port(0x04, 0x00);
        port(0x04, 0x80);
        (count - 1).to_le_bytes().into_iter().for_each(|byte| port(0x05, byte));
        port(0x0b, mode | 2);
        port(0x0a, 2);
    }

    fn ram(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self._memory.memory_space().read(0x8000 + at, &mut bytes).unwrap();
        bytes
    }
}

fn empty() -> Pc {
    Pc::new([Drive::new(None), Drive::absent()])
}

#[test]
fn an_empty_drive_answers_as_on_qemu() {
    let pc = empty();
    assert_eq!([1, 2, 3, 4, 7].map(|n| pc.inb(n)), [0xc0, 0x1c, 0, 0x80, 0x80]);
    assert_eq!(pc.command(&[0x10]), [0x90]);
    assert_eq!(pc.command(&[0x18]), [0x41]);
    assert_eq!(pc.command(&[0x0b]), [0x80]);
    assert_eq!(pc.command(&[0x08]), [0x80], "nobody interrupted");
    assert_eq!(pc.command(&[0x04, 0x05]), [0x7d]);
    assert_eq!(pc.inb(2), 0x1d);
    assert_eq!(pc.command(&[0x0e]), [0, 0, 0, 0, 0, 1, 0, 0, 0x60, 0]);
    pc.restart();
    assert_eq!(pc.command(&[0x0f, 0, 200]), []);
    assert!(pc.fdc.irq().level());
    assert_eq!(pc.command(&[0x08]), [0x20, 200]);
    assert!(!pc.fdc.irq().level());
    assert_eq!(pc.command(&[0x04, 0x00]), [0x68]);
    assert_eq!(pc.command(&[0x07, 0]), []);
    assert_eq!(pc.command(&[0x08]), [0x20, 0]);
    assert_eq!(pc.command(&[0xe6, 0, 5, 0, 1, 2, 18, 0x1b, 0xff]), [0x40, 0, 0, 5, 0, 1, 2]);
}

#[test]
fn what_is_configured_is_dumped_saved_and_restored() {
    let pc = empty();
    for command in [&[0x03, 0xdf, 0x25][..], &[0x13, 0, 0x57, 0x10], &[0x12, 0x87], &[0x33, 0]] {
        assert_eq!(pc.command(command), []);
    }
    assert_eq!(pc.inb(2), 0x14, "SPECIFY: not by DMA");
    assert_eq!(pc.command(&[0x94]), [0x10]);
    assert_eq!(pc.command(&[0x17, 0x12, 0x34]), [0x12]);
    assert_eq!(pc.command(&[0x0e]), [0, 0, 0, 0, 0x0d, 0x24, 0xff, 0x9c, 0x57, 0x10]);
    let saved = [0, 0, 0, 0, 0, 0, 0x0d, 0x12, 0xff, 0x9c, 0x57, 0x10, 0x12, 0, 0];
    assert_eq!(pc.command(&[0x2e]), saved);
    assert_eq!(pc.command(&[0x4e, 0, 0, 3, 4, 0, 0, 1, 2, 9, 0x08, 0x60, 7, 5, 0, 0, 0, 0]), []);
    assert_eq!(pc.command(&[0x2e]), [0, 0, 3, 4, 0, 0, 1, 2, 9, 0x08, 0x60, 7, 5, 0, 0]);
}

#[test]
fn an_identification_takes_its_time_and_a_reset_breaks_it_off() {
    let pc = empty();
    assert_eq!(pc.command(&[0x4a, 0]), []);
    assert_eq!(pc.inb(4), 0x10);
    pc.clock.step(Some(19_999_999)).unwrap();
    assert!(!pc.fdc.irq().level());
    pc.clock.step(Some(1)).unwrap();
    assert!(pc.fdc.irq().level());
    assert_eq!(pc.command(&[]), [0x40, 1, 0, 0, 0, 2, 2]);
    pc.out(5, &[0x4a, 0]);
    pc.restart();
    pc.clock.step(Some(30_000_000)).unwrap();
    assert_eq!((pc.fdc.irq().level(), pc.inb(4)), (false, 0x80));
}

#[test]
fn sectors_are_read_and_written_by_dma() {
    let (pc, file) = Pc::with_disk(1440, false);
    pc.program(0x44, 1024);
    // Track 2, side 1, from sector 17 on: both sides, so it goes on with the next track's first side — which it does not.
    assert_eq!(pc.command(&[0xe6, 4, 2, 1, 17, 2, 18, 0x1b, 0xff]), [0x20, 0, 0, 3, 0, 1, 2]);
    let first = (2 * 2 + 1) * 18 + 16;
    assert_eq!((pc.ram(0, 4), pc.ram(512, 4)), (vec![first, 0, 0xee, 0xee], vec![first + 1, 0, 0xee, 0xee]));
    // From side 0 to side 1.
    pc.program(0x44, 1024);
    assert_eq!(pc.command(&[0xe6, 0, 2, 0, 18, 2, 18, 0x1b, 0xff]), [0x24, 0, 0, 2, 1, 2, 2]);
    assert_eq!((pc.ram(0, 1), pc.ram(512, 1)), (vec![4 * 18 + 17], vec![5 * 18]));
    // Back, with what is in memory, to where nothing was; half a sector is filled with zeros.
    pc.program(0x48, 512 + 256);
    assert_eq!(pc.command(&[0xc5, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]), [0x20, 0, 0, 0, 0, 3, 2]);
    let mut image = [0; 1536];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut image, 0).unwrap();
    assert_eq!((image[0], image[512], &image[767..769]), (89, 90, &[0xee, 0][..]));
    assert_eq!((image[1023], &image[1024..1027]), (0, &[2, 0, 0xee][..]), "the third is as it was");
    assert_eq!(file.metadata().unwrap().len(), 1440 << 10);
}

#[test]
fn the_end_of_the_track_without_terminal_count_is_an_error() {
    let (pc, _) = Pc::with_disk(720, false);
    pc.program(0x44, 4096);
    assert_eq!(pc.command(&[0x46, 0, 0, 0, 9, 2, 9, 0x1b, 0xff]), [0x40, 0x80, 0, 1, 0, 1, 2]);
    assert_eq!(pc.ram(0, 2), [8, 0]);
    assert_eq!(pc.command(&[0x46, 0, 0, 0, 10, 2, 9, 0x1b, 0xff])[..3], [0x40, 0x80, 0]);
    assert_eq!(pc.command(&[0x46, 0, 81, 0, 1, 2, 9, 0x1b, 0xff])[..3], [0x40, 0, 0]);
    assert_eq!(pc.command(&[0x46, 0, 0, 0, 1, 3, 9, 0x1b, 0xff])[..3], [0x60, 4, 0], "no such sector size");
    pc.out(7, &[0]);
    assert_eq!(pc.command(&[0x46, 0, 0, 0, 1, 2, 9, 0x1b, 0xff])[..3], [0x40, 1, 0], "the wrong data rate");
}

#[test]
fn sectors_go_byte_by_byte_without_dma() {
    let (pc, file) = Pc::with_disk(1440, false);
    assert_eq!(pc.command(&[0x03, 0xdf, 0x03]), []);
    pc.out(5, &[0x46, 0, 0, 0, 18, 2, 18, 0x1b, 0xff]);
    assert_eq!((pc.inb(4), pc.fdc.irq().level()), (0xf0, true));
    let bytes: Vec<u8> = (0..512).map(|_| pc.inb(5)).collect();
    assert_eq!((bytes[0], bytes[1], bytes[511]), (17, 0, 0xee));
    assert_eq!(pc.command(&[]), [0, 0, 0, 1, 0, 1, 2]);
    pc.out(5, &[0x45, 0, 0, 0, 18, 2, 18, 0x1b, 0xff]);
    assert_eq!(pc.inb(4), 0xb0);
    pc.out(5, &[0x5a; 511]);
    let mut sector = [0; 512];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut sector, 17 * 512).unwrap();
    assert_eq!(sector[2], 0xee, "nothing is written before the sector is whole");
    pc.out(5, &[0x5a]);
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut sector, 17 * 512).unwrap();
    assert_eq!(sector, [0x5a; 512]);
    assert_eq!(pc.command(&[])[0] & 0xc0, 0);
}

#[test]
fn a_protected_disk_is_never_written_and_verified_without_moving_a_byte() {
    let (pc, file) = Pc::with_disk(360, true);
    assert_eq!(pc.command(&[0x04, 0]), [0x78]);
    pc.program(0x48, 512);
    assert_eq!(pc.command(&[0x45, 0, 0, 0, 1, 2, 9, 0x1b, 0xff])[..3], [0x40, 2, 0]);
    assert_eq!(pc.command(&[0x56, 0, 0, 0, 1, 2, 9, 0x1b, 0xff]), [0, 0, 0, 1, 0, 1, 2]);
    let mut sector = [0; 512];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut sector, 0).unwrap();
    assert_eq!(sector[..3], [0, 0, 0xee]);
    assert_eq!(pc.command(&[0x4a, 0]), []);
    pc.clock.step(Some(20_000_000)).unwrap();
    assert_eq!(pc.command(&[]), [0, 0, 0, 1, 0, 2, 2]);
}

#[test]
fn a_scan_ends_at_the_sector_that_it_looks_for() {
    let (pc, _) = Pc::with_disk(1440, false);
    let wanted: Vec<u8> = [3, 0].into_iter().chain([0xff; 510]).collect();
    for (sector, command, result) in
        [(4_u8, 0x11, [0x00, 0, 8]), (9, 0x11, [0, 0, 4]), (1, 0x19, [0, 0, 0]), (1, 0x1d, [0, 0, 8])]
    {
        let many: Vec<u8> = wanted.repeat(18);
        pc._memory.memory_space().write(0x8000, &many).unwrap();
        pc.program(0x48, 18 * 512);
        let found = pc.command(&[command, 0, 0, 0, sector, 2, 18, 0x1b, 1]);
        assert_eq!([found[0] & 0xc0, found[1], found[2]], result, "{command:#x} from {sector}");
    }
}

#[test]
fn the_disk_changed_line_falls_when_the_heads_move() {
    let (pc, _) = Pc::with_disk(1440, false);
    assert_eq!(pc.inb(7), 0x80);
    pc.command(&[0x0f, 0, 1]);
    assert_eq!((pc.inb(7), pc.command(&[0x08])), (0, vec![0x20, 1]));
}

#[test]
fn whatever_a_guest_writes_the_image_keeps_its_size_and_nothing_breaks() {
    let mut rng = fastrand::Rng::with_seed(82077);
    let (pc, file) = Pc::with_disk(360, false);
    for _ in 0..40_000 {
        match rng.u8(0..10) {
            0..5 => {
                let commands = [0x46, 0xe6, 0xc5, 0x45, 0x16, 0x11, 0x19, 0x1d, 0x4d, 0x4a, 0x0f, 0x4e, 0x03];
                let byte = if rng.bool() { commands[rng.usize(0..commands.len())] } else { rng.u8(..) };
                pc.out(5, &[byte]);
                while pc.inb(4) == 0x90 {
                    pc.out(5, &[if rng.bool() { rng.u8(0..10) } else { rng.u8(..) }]);
                }
            }
            5 => {
                while pc.inb(4) & 0xd0 == 0xd0 && rng.u8(..) != 0 {
                    pc.inb(5);
                }
            }
            6 => pc.program(rng.u8(..) & 0xfc, rng.u16(1..)),
            7 => pc.space.write(rng.u64(0..16), &[rng.u8(..)]).unwrap(),
            8 => drop(pc.clock.step(Some(rng.i64(0..30_000_000))).unwrap()),
            _ => {
                let register = rng.u64(1..8);
                pc.out(register, &[rng.u8(..)]);
                pc.inb(register);
            }
        }
    }
    assert_eq!(file.metadata().unwrap().len(), 360 << 10);
    pc.dma.reset();
    pc.fdc.reset();
    pc.restart();
}
