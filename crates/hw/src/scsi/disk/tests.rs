use super::super::bus::{CHECK_CONDITION, Direction, GOOD, ScsiBus, Task};
use super::super::medium::ImageSpec;
use super::*;

struct Bench {
    folder: tempfile::TempDir,
    bus: ScsiBus,
    drives: [Arc<Disk>; 2],
}

const DISK: u8 = 0;
const CD: u8 = 2;

/// A disk of 64 sectors at 0, an empty CD-ROM drive at 2; both have told of the reset.
fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    std::fs::write(&path, (0..64 * 512).map(|n| (n / 512) as u8).collect::<Vec<u8>>()).unwrap();
    let medium = Medium::open(&ImageSpec { path, readonly: false, raw: true }).unwrap();
    let drives =
        [Disk::new(Kind::HardDisk, "scsi0-hd0", Some(medium)), Disk::new(Kind::CdRom, "scsi0-cd2", None)];
    let units = [(DISK, 0, drives[0].clone() as Arc<dyn Unit>), (CD, 0, drives[1].clone() as Arc<dyn Unit>)];
    let bench = Bench { folder, bus: ScsiBus::new(units.to_vec()), drives };
    for target in [DISK, CD] {
        assert_eq!(bench.run(target, &[0], &[]).0, CHECK_CONDITION, "power on is told once");
        assert_eq!(bench.sense(target), [6, 0x29, 0]);
    }
    bench
}

impl Bench {
    /// Status and data.
    fn run(&self, target: u8, cdb: &[u8], out: &[u8]) -> (u8, Vec<u8>) {
        finish(self.bus.begin(target, 0, cdb), out)
    }

    fn sense(&self, target: u8) -> [u8; 3] {
        let (status, data) = self.run(target, &[3, 0, 0, 0, 18], &[]);
        assert_eq!((status, data.len()), (GOOD, 18));
        [data[2], data[12], data[13]]
    }

    fn insert(&self, bytes: &[u8]) {
        let path = self.folder.path().join("disc.iso");
        std::fs::write(&path, bytes).unwrap();
        let medium = Medium::open(&ImageSpec { path, readonly: true, raw: true }).unwrap();
        // The random guest may hold the old one.
        self.drives[1].change(medium, true).unwrap();
    }
}

fn finish(mut task: Task, out: &[u8]) -> (u8, Vec<u8>) {
    let mut data = Vec::new();
    loop {
        match task.direction() {
            Direction::In => data.extend(task.fetch()),
            Direction::Out => {
                let zeros = vec![0; task.left().min(1 << 20) as usize];
                task.deliver(if out.is_empty() { &zeros } else { out });
            }
            Direction::None => return (task.finish(), data),
        }
    }
}

#[test]
fn a_disk_is_read_and_written_by_all_lengths_of_commands() {
    let bench = bench();
    let commands = [(0x08, 6, 3, 4), (0x28, 10, 5, 8), (0xa8, 12, 5, 9), (0x88, 16, 9, 13)];
    for (block, (opcode, length, lba, count)) in (7..).step_by(10).zip(commands) {
        let mut cdb = vec![0; length];
        (cdb[0], cdb[lba], cdb[count]) = (opcode, block, 2);
        let (status, data) = bench.run(DISK, &cdb, &[]);
        assert_eq!((status, data.len(), data[0], data[512]), (GOOD, 1024, block, block + 1), "{opcode:#x}");
        cdb[0] = opcode + 2;
        assert_eq!(bench.run(DISK, &cdb, &[opcode; 1024]).0, GOOD);
        cdb[0] = opcode;
        assert_eq!(bench.run(DISK, &cdb, &[]).1, [opcode; 1024]);
    }
    assert_eq!(bench.run(DISK, &[0x35], &[]).0, GOOD);
    let file = std::fs::read(bench.folder.path().join("disk.img")).unwrap();
    assert_eq!((file.len(), file[37 * 512], file[39 * 512 - 1], file[39 * 512]), (64 * 512, 0x88, 0x88, 39));
}

#[test]
fn blocks_that_there_are_not_are_refused_and_nothing_is_written() {
    let bench = bench();
    let before = std::fs::read(bench.folder.path().join("disk.img")).unwrap();
    for (lba, count) in [(63, 2), (64, 1), (u32::MAX, 1), (u32::MAX, 0)] {
        for opcode in [0x28, 0x2a, 0x2f] {
            let [a, b, c, d] = lba.to_be_bytes();
            let (status, data) = bench.run(DISK, &[opcode, 0, a, b, c, d, 0, 0, count, 0], &[]);
            assert_eq!((status, data.len()), (CHECK_CONDITION, 0), "{opcode:#x} {lba}");
            assert_eq!(bench.sense(DISK), [5, 0x21, 0]);
        }
    }
    let last = [0xff; 16];
    assert_eq!(bench.run(DISK, &[&[0x8a, 0][..], &last[2..]].concat(), &[]).0, CHECK_CONDITION);
    assert_eq!(std::fs::read(bench.folder.path().join("disk.img")).unwrap(), before);
}

#[test]
fn a_drive_without_a_disc_says_so_and_one_with_a_disc_cannot_be_written() {
    let bench = bench();
    for opcode in [0x00, 0x25, 0x28, 0x43, 0x51] {
        assert_eq!(bench.run(CD, &[opcode], &[]).0, CHECK_CONDITION);
        assert_eq!(bench.sense(CD), [2, 0x3a, 0], "{opcode:#x}");
    }
    let (status, data) = bench.run(CD, &[0x12, 0, 0, 0, 36], &[]);
    assert_eq!((status, &data[..2], &data[8..32]), (GOOD, &[5, 0x80][..], &b"QEMU    QEMU CD-ROM     "[..]));
    bench.insert(&[9; 5 * 2048]);
    // It tells that the old one has gone and that there is a new one.
    for code in [0x3a, 0x28] {
        assert_eq!(bench.run(CD, &[0], &[]).0, CHECK_CONDITION);
        assert_eq!(bench.sense(CD), [6, code, 0]);
    }
    assert_eq!(bench.run(CD, &[0x25], &[]), (GOOD, vec![0, 0, 0, 4, 0, 0, 8, 0]));
    assert_eq!(bench.run(CD, &[0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0], &[]), (GOOD, vec![9; 4096]));
    assert_eq!(bench.run(CD, &[0x2a, 0, 0, 0, 0, 3, 0, 0, 2, 0], &[]).0, CHECK_CONDITION);
    assert_eq!(bench.sense(CD), [7, 0x27, 0]);
}

#[test]
fn a_disc_that_the_guest_holds_is_only_taken_by_force() {
    let bench = bench();
    bench.insert(&[9; 4096]);
    for _ in 0..2 {
        bench.run(CD, &[0], &[]);
    }
    assert_eq!(bench.run(CD, &[0x1e, 0, 0, 0, 1, 0], &[]).0, GOOD);
    assert_eq!(bench.drives[1].eject(false), Err(EjectError::Locked));
    assert_eq!(bench.run(CD, &[0x1b, 0, 0, 0, 2, 0], &[]).0, CHECK_CONDITION);
    assert_eq!(bench.sense(CD), [5, 0x53, 2]);
    // The guest is asked for it: events, then that something is there.
    let event = |bench: &Bench| bench.run(CD, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], &[]).1[4..6].to_vec();
    assert_eq!(event(&bench), [2, 2], "the new medium comes first");
    assert_eq!(event(&bench), [1, 2]);
    assert_eq!(bench.drives[1].eject(true), Ok(()));
    assert_eq!(event(&bench), [3, 1]);
    assert_eq!(bench.drives[1].drive_state().image, None);
    assert_eq!(bench.drives[0].eject(true), Err(EjectError::NotRemovable));
}

#[test]
fn the_write_cache_is_switched_by_a_mode_page_and_nothing_else_is() {
    let bench = bench();
    let page = |bench: &Bench| bench.run(DISK, &[0x1a, 8, 8, 0, 24, 0], &[]).1;
    assert_eq!(page(&bench)[4..8], [8, 0x12, 4, 0]);
    let mut parameters = page(&bench);
    (parameters[0], parameters[6]) = (0, 0);
    assert_eq!(bench.run(DISK, &[0x15, 0x10, 0, 0, 24, 0], &parameters).0, GOOD);
    assert_eq!(page(&bench)[6], 0);
    parameters[7] = 1;
    assert_eq!(bench.run(DISK, &[0x15, 0x10, 0, 0, 24, 0], &parameters).0, CHECK_CONDITION);
    assert_eq!(bench.sense(DISK), [5, 0x26, 0]);
}

#[test]
fn a_unit_that_is_not_there_is_no_target_of_its_own() {
    let bench = bench();
    assert!(bench.bus.has(DISK) && bench.bus.has(CD) && !bench.bus.has(1));
    let (status, data) = finish(bench.bus.begin(DISK, 3, &[0x12, 0, 0, 0, 36]), &[]);
    assert_eq!((status, data[0]), (GOOD, 0x7f));
    assert_eq!(finish(bench.bus.begin(DISK, 3, &[0]), &[]).0, CHECK_CONDITION);
    let (_, sense) = finish(bench.bus.begin(DISK, 3, &[3, 0, 0, 0, 18]), &[]);
    assert_eq!((sense[2], sense[12]), (5, 0x25));
}

#[test]
fn any_command_ends_and_touches_nothing_beyond_the_disk() {
    let bench = bench();
    bench.insert(&[1; 3 * 2048 + 100]);
    let mut random = fastrand::Rng::with_seed(0x5c51);
    let mut good = 0;
    for _ in 0..6_000 {
        let mut cdb: Vec<u8> = (0..16).map(|_| if random.bool() { 0 } else { random.u8(..) }).collect();
        if random.bool() {
            cdb[0] =
                [0x08, 0x0a, 0x12, 0x15, 0x1a, 0x1b, 0x28, 0x2a, 0x43, 0x4a, 0x55, 0x5a, 0x88, 0x8a, 0xa8]
                    [random.usize(..15)];
        }
        cdb.truncate(random.usize(1..17));
        let target = if random.bool() { DISK } else { CD };
        let out: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
        let (status, data) = bench.run(target, &cdb, &out);
        good += u32::from(status == GOOD);
        assert!(data.len() <= 0x1_0000, "{cdb:02x?}: {} bytes", data.len());
        if random.u8(..) == 0 {
            let _ = bench.drives[1].eject(random.bool());
            bench.insert(&[2; 2048]);
        }
    }
    assert!(good > 600, "{good}");
    assert_eq!(std::fs::metadata(bench.folder.path().join("disk.img")).unwrap().len(), 64 * 512);
}
