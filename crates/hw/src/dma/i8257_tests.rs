//! The controller with a device that has bytes to give and takes what it gets.

use flatview::{Endianness, Memory, RamBlock};
use parking_lot::Mutex;

use super::*;

#[derive(Debug, Default)]
struct Device {
    give: Mutex<Vec<u8>>,
    taken: Mutex<Vec<u8>>,
    verified: Mutex<usize>,
    /// Bytes that it is ready for at a time.
    at_once: usize,
    over: Mutex<u32>,
}

impl DmaDevice for Device {
    fn ready(&self, kind: DmaKind) -> usize {
        match kind {
            DmaKind::Write => self.give.lock().len().min(self.at_once),
            _ => self.at_once,
        }
    }

    fn cycles(&self, cycles: DmaCycles<'_>) {
        match cycles {
            DmaCycles::Verify(count) => *self.verified.lock() += count,
            DmaCycles::Write(bytes) => {
                let mut give = self.give.lock();
                for byte in bytes {
                    *byte = if give.is_empty() { 0 } else { give.remove(0) };
                }
            }
            DmaCycles::Read(bytes) => self.taken.lock().extend_from_slice(bytes),
        }
    }

    fn terminal_count(&self) {
        *self.over.lock() += 1;
    }
}

struct Machine {
    memory: Memory,
    ports: AddressSpace,
    clock: Clock,
    controllers: Vec<Arc<I8257>>,
    device: Arc<Device>,
    channel: DmaChannel,
}

impl Machine {
    /// The device is at this channel of the controllers, 0 to 7. The ports are also in memory, at 0x100000.
    fn new(number: usize, device: Device) -> Machine {
        let memory = Memory::new(Endianness::Big);
        let clock = Clock::stepped();
        let owner = Owner::object("/dma");
        let space = memory.memory_space();
        let controllers: Vec<_> =
            PLACES.iter().map(|place| I8257::new(*place, &space, &clock, &Log::none())).collect();
        let (system, io) = (memory.system(), memory.io());
        memory
            .update(|t| {
                let ram = RamBlock::anonymous("ram", 1 << 20).unwrap();
                let ram = t.add(Region::ram("ram", ram))?;
                t.map(system, 0, ram)?;
                let window = t.add(Region::alias("ports", io, 0, 0x1000))?;
                t.map(system, 0x10_0000, window)?;
                for controller in &controllers {
                    for (port, region) in controller.regions(&owner) {
                        let region = t.add(region)?;
                        t.map(io, port.into(), region)?;
                    }
                }
                Ok::<_, flatview::MemoryError>(())
            })
            .unwrap();
        let ports = memory.io_space();
        let device = Arc::new(device);
        let channel = controllers[number / 4].channel(number % 4);
        let end: Arc<dyn DmaDevice> = device.clone();
        channel.attach(&end);
        Machine { memory, ports, clock, controllers, device, channel }
    }

    fn out(&self, port: u64, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.ports.write(port, &[*byte]).unwrap());
    }

    fn inb(&self, port: u64) -> u8 {
        let mut byte = [0];
        self.ports.read(port, &mut byte).unwrap();
        byte[0]
    }

    fn in16(&self, port: u64) -> u16 {
        self.out(0x0c, &[0]);
        self.out(0xd8, &[0]);
        u16::from_le_bytes([self.inb(port), self.inb(port)])
    }

    fn ram(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.memory_space().read(at, &mut bytes).unwrap();
        bytes
    }

    /// Programs channel 2: mode, page, address, count - 1; and lets it go.
    fn program(&self, mode: u8, page: u8, address: u16, count: u16) {
        self.out(0x0a, &[6]);
        self.out(0x0c, &[0]);
        self.out(4, &address.to_le_bytes());
        self.out(5, &count.to_le_bytes());
        self.out(0x81, &[page]);
        self.out(0x0b, &[mode | 2]);
        self.out(0x0a, &[2]);
    }
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|n| n as u8 ^ (n >> 8) as u8).collect()
}

fn giving(n: usize, at_once: usize) -> Device {
    Device { give: Mutex::new(bytes(n)), at_once, ..Device::default() }
}

#[test]
fn registers_are_read_back_byte_by_byte_and_status_clears_itself() {
    let m = Machine::new(2, Device::default());
    for (port, clear) in
        [(0, 0x0c), (1, 0x0c), (6, 0x0c), (7, 0x0c), (0xc0, 0xd8), (0xc2, 0xd8), (0xce, 0xd8)]
    {
        m.out(clear, &[0]);
        m.out(port, &[0x34, 0x92]);
        assert_eq!(m.in16(port), 0x9234, "{port:#x}");
        if port >= 0xc0 {
            assert_eq!(m.in16(port + 1), 0x9234, "registers of the second one are two ports wide");
        }
    }
    assert_eq!((m.inb(8), m.inb(9), m.inb(0xd), m.inb(0xd2)), (0, 0xff, 0, 0xff));
    m.out(0x0f, &[0x0a]);
    m.out(0x0a, &[4, 3]);
    assert_eq!(m.inb(9), 0x03);
    m.out(0x0e, &[0]);
    assert_eq!(m.inb(9), 0);
    m.out(9, &[4, 7]);
    assert_eq!((m.inb(8), m.inb(8)), (0x90, 0x90), "requests stay");
    m.out(9, &[0]);
    assert_eq!(m.inb(8), 0x80);
    m.out(0x0d, &[0]);
    assert_eq!((m.inb(8), m.inb(9), m.in16(0)), (0, 0xff, 0x9234), "master clear");
}

#[test]
fn page_registers_stand_where_the_pc_has_them() {
    let m = Machine::new(2, Device::default());
    for (n, port) in [0x81, 0x82, 0x83, 0x87, 0x89, 0x8a, 0x8b, 0x8f].into_iter().enumerate() {
        m.out(port, &[0x20 + n as u8]);
        m.out(port + 0x400, &[0x40 + n as u8]);
        assert_eq!((m.inb(port), m.inb(port + 0x400)), (0x20 + n as u8, 0x40 + n as u8));
    }
    m.out(0x488, &[0x55]);
    assert_eq!((m.inb(0x488), m.inb(0x489), m.inb(0x491)), (0, 0x44, 0x44));
}

#[test]
fn a_device_writes_memory_until_terminal_count() {
    for at_once in [1, 7, 512, 10_000] {
        let m = Machine::new(2, giving(1000, at_once));
        m.program(0x44, 0x01, 0x8000, 511);
        assert_eq!((m.in16(4), m.in16(5), m.inb(8)), (0x8000, 511, 0), "nobody has asked");
        m.channel.request(true);
        assert_eq!(m.ram(0x1_8000, 513), [bytes(512), vec![0]].concat());
        assert_eq!((m.in16(4), m.in16(5)), (0x8200, 0xffff));
        assert_eq!((m.inb(8), m.inb(8), m.inb(9) & 4), (0x44, 0x40, 4), "terminal count masks the channel");
        assert_eq!((*m.device.over.lock(), m.device.give.lock().len()), (1, 488));
    }
}

#[test]
fn a_device_reads_memory_downwards_and_autoinitialises() {
    let m = Machine::new(2, Device { at_once: 3, ..Device::default() });
    m.memory.memory_space().write(0x1000, &bytes(16)).unwrap();
    m.program(0x68, 0, 0x100f, 15);
    m.channel.request(true);
    let down: Vec<u8> = bytes(16).into_iter().rev().collect();
    assert_eq!(*m.device.taken.lock(), down);
    assert_eq!((m.in16(4), m.in16(5)), (0x0fff, 0xffff));
    // The channel begins again, for as long as it is asked; others have the machine in between.
    m.device.taken.lock().clear();
    m.program(0x78, 0, 0x100f, 15);
    let taken = m.device.taken.lock().len();
    assert!((32..20_000).contains(&taken), "{taken} in one go");
    assert!(m.device.taken.lock().starts_with(&[down.clone(), down].concat()));
    m.clock.step(Some(PAUSE_NS)).unwrap();
    assert!(m.device.taken.lock().len() > taken, "it goes on");
    m.channel.request(false);
    let taken = m.device.taken.lock().len();
    m.clock.step(Some(10 * PAUSE_NS)).unwrap();
    assert_eq!(m.device.taken.lock().len(), taken);
    assert_eq!(m.inb(8) & 0x0f, 4);
}

#[test]
fn words_are_shifted_and_counted_by_two() {
    let m = Machine::new(5, giving(64, 9));
    m.out(0xd8, &[0]);
    m.out(0xc4, &[0x00, 0x80]);
    m.out(0xc6, &[7, 0]);
    m.out(0x8b, &[0x03]);
    m.out(0xd6, &[0x45]);
    m.out(0xd4, &[1]);
    m.channel.request(true);
    assert_eq!(m.ram(0x3_0000, 17), [bytes(16), vec![0]].concat(), "bit 0 of the page is the address's");
    assert_eq!((m.in16(0xc4), m.in16(0xc6), m.inb(0xd0)), (0x8008, 0xffff, 0x22));
    // Downwards, words stay words.
    m.out(0xd8, &[0]);
    m.out(0xc4, &[0x03, 0x00]);
    m.out(0xc6, &[3, 0]);
    m.out(0x8b, &[0]);
    m.out(0xd6, &[0x65]);
    m.out(0xd4, &[1]);
    assert_eq!(m.ram(0, 8), [22, 23, 20, 21, 18, 19, 16, 17]);
}

#[test]
fn addresses_wrap_in_their_page_and_bit_31_is_not_decoded() {
    let m = Machine::new(2, giving(64, 64));
    m.out(0x481, &[0x80]);
    m.program(0x44, 0x02, 0xfffe, 3);
    m.channel.request(true);
    assert_eq!((m.ram(0x2_fffe, 2), m.ram(0x2_0000, 2)), (vec![0, 1], vec![2, 3]));
}

#[test]
fn verifying_moves_no_byte_and_cascading_nothing() {
    let m = Machine::new(2, giving(64, 64));
    m.program(0x40, 0, 0x1000, 99);
    m.channel.request(true);
    assert_eq!((*m.device.verified.lock(), *m.device.over.lock(), m.in16(5)), (100, 1, 0xffff));
    m.program(0xc4, 0, 0x1000, 99);
    assert_eq!((m.in16(5), *m.device.over.lock(), m.device.give.lock().len()), (99, 1, 64));
}

#[test]
fn demand_stops_with_the_request_and_a_block_does_not() {
    let m = Machine::new(2, giving(8, 8));
    m.program(0x04, 0, 0x1000, 15);
    m.channel.request(true);
    m.channel.request(false);
    *m.device.give.lock() = bytes(8);
    m.out(0x0a, &[2]);
    assert_eq!(m.in16(5), 7, "demand: half of it is still to come");
    m.program(0x84, 0, 0x1000, 15);
    assert_eq!(m.in16(5), 15, "nobody has asked for the block");
    m.channel.request(true);
    m.channel.request(false);
    assert_eq!(m.in16(5), 7);
    *m.device.give.lock() = bytes(8);
    m.out(0x0a, &[2]);
    assert_eq!((m.in16(5), *m.device.over.lock()), (0xffff, 1), "the block goes on");
    // The guest can ask for a block, mask or not.
    *m.device.give.lock() = bytes(16);
    m.program(0x84, 0, 0x1000, 15);
    m.out(0x0a, &[6]);
    m.out(9, &[6]);
    assert_eq!((m.in16(5), *m.device.over.lock(), m.inb(8)), (0xffff, 2, 0x04));
}

#[test]
fn a_disabled_controller_waits_for_its_command() {
    let m = Machine::new(2, giving(8, 8));
    m.out(8, &[4]);
    m.program(0x44, 0, 0x1000, 7);
    m.channel.request(true);
    assert_eq!((m.in16(5), m.inb(8)), (7, 0x40));
    m.out(8, &[0]);
    assert_eq!((m.in16(5), m.inb(8)), (0xffff, 0x44));
}

#[test]
fn a_channel_that_writes_over_its_own_controller_ends_somewhere() {
    // The ports stand in memory too: the transfer programs the channels that make it.
    for at_once in [1, 16, 4096] {
        let m = Machine::new(2, Device { at_once, ..Device::default() });
        let mut rng = fastrand::Rng::with_seed(at_once as u64);
        for _ in 0..200 {
            *m.device.give.lock() = (0..rng.usize(1..600)).map(|_| rng.u8(..)).collect();
            m.out(0x0d, &[0]);
            m.program(0x44, 0x10, rng.u16(0..0x20), rng.u16(0..700));
            m.channel.request(true);
            m.channel.request(false);
            m.clock.step(Some(PAUSE_NS)).unwrap();
        }
        m.out(0x0d, &[0]);
        *m.device.give.lock() = bytes(4);
        m.out(0x481, &[0]);
        m.program(0x44, 0, 0x1000, 3);
        m.channel.request(true);
        assert_eq!(m.ram(0x1000, 4), bytes(4), "it still works");
    }
}

#[test]
fn whatever_a_guest_writes_nothing_breaks() {
    let mut rng = fastrand::Rng::with_seed(8237);
    let m = Machine::new(2, giving(100_000, 100));
    for _ in 0..30_000 {
        let port = match rng.u8(0..8) {
            0 => rng.u64(0x80..0x90),
            1 => rng.u64(0x480..0x492),
            2 => rng.u64(0xc0..0xe0),
            _ => rng.u64(0..16),
        };
        match rng.u8(0..5) {
            0 => drop(m.inb(port)),
            1 => m.channel.request(rng.bool()),
            2 => m.clock.step(Some(PAUSE_NS)).map(drop).unwrap(),
            _ => m.out(port, &[rng.u8(..)]),
        }
        if rng.u16(..) == 0 {
            m.controllers.iter().for_each(|controller| controller.reset());
        }
    }
    m.controllers[0].reset();
    assert_eq!((m.inb(9), m.inb(8) & 0xaf), (0xff, 0));
}
