//! A guest in real mode.

use std::sync::{Arc, Mutex};

use flatview::{
    AccessRules, DeviceEndian, DirtyClient, Endianness, EventNotifier, Memory, MemoryError, Ops, RamBlock,
    Region,
};

use super::guest::{Guest, vm};

/// What the guest does, in order; addresses are physical.
const PROGRAM: &[u8] = &[
    0xb8, 0x00, 0x20, 0x8e, 0xd8, //             mov ax, 0x2000; mov ds, ax     the first alias
    0xc7, 0x06, 0x10, 0x80, 0x34, 0x12, //       mov word [0x8010], 0x1234      RAM's 0x8010
    0xb8, 0x00, 0x40, 0x8e, 0xd8, //             mov ax, 0x4000; mov ds, ax     the second alias
    0x8b, 0x1e, 0x10, 0x00, //                   mov bx, [0x10]                 RAM's 0x8010 again
    0x31, 0xc0, 0x8e, 0xd8, //                   xor ax, ax; mov ds, ax         RAM itself
    0x89, 0x1e, 0x00, 0x20, //                   mov [0x2000], bx
    0xb8, 0x00, 0xe0, 0x8e, 0xd8, //             mov ax, 0xe000; mov ds, ax     ROM
    0x8b, 0x0e, 0x00, 0x00, //                   mov cx, [0]
    0xc7, 0x06, 0x00, 0x00, 0xad, 0xde, //       mov word [0], 0xdead           exit: refused
    0x8b, 0x16, 0x00, 0x00, //                   mov dx, [0]
    0x31, 0xc0, 0x8e, 0xd8, //                   xor ax, ax; mov ds, ax         RAM
    0x89, 0x0e, 0x02, 0x20, //                   mov [0x2002], cx
    0x89, 0x16, 0x04, 0x20, //                   mov [0x2004], dx
    0xb8, 0x00, 0xd0, 0x8e, 0xd8, //             mov ax, 0xd000; mov ds, ax     the device
    0x8b, 0x1e, 0x04, 0x00, //                   mov bx, [4]                    exit
    0x89, 0x1e, 0x08, 0x00, //                   mov [8], bx                    exit
    0xc7, 0x06, 0x80, 0x00, 0xaa, 0x55, //       mov word [0x80], 0x55aa        the ioeventfd
    0xc7, 0x06, 0x80, 0x00, 0xab, 0x55, //       mov word [0x80], 0x55ab        exit: another value
    0xb8, 0x00, 0xd1, 0x8e, 0xd8, //             mov ax, 0xd100; mov ds, ax     the collected range
    0xc7, 0x06, 0x00, 0x00, 0x01, 0x00, //       mov word [0], 1
    0xc7, 0x06, 0x02, 0x00, 0x02, 0x00, //       mov word [2], 2
    0xc7, 0x06, 0x04, 0x00, 0x03, 0x00, //       mov word [4], 3
    0x8b, 0x1e, 0x20, 0x00, //                   mov bx, [0x20]                 exit: a status register
    0xb0, 0x70, 0xe6, 0x70, //                   mov al, 0x70; out 0x70, al     exit
    0xe4, 0x71, //                               in al, 0x71                    exit
    0xb0, 0x5a, 0xe6, 0x80, //                   mov al, 0x5a; out 0x80, al     the port's ioeventfd
    0xf4, //                                     hlt
];

const RAM_SIZE: u64 = 0x1_0000;

type Log = Arc<Mutex<Vec<String>>>;

/// A device that notes what it is asked, and answers `answer` plus the offset.
fn device(name: &'static str, answer: u64, log: &Log) -> Ops {
    let (reads, writes) = (Arc::clone(log), Arc::clone(log));
    Ops::new()
        .rules(AccessRules::new().endian(DeviceEndian::Little).valid(1, 4).implemented(1, 4))
        .read(move |a| {
            reads.lock().unwrap().push(format!("{name} r{} {:x}", a.size(), a.offset()));
            Ok(answer + a.offset())
        })
        .write(move |a, value| {
            writes.lock().unwrap().push(format!("{name} w{} {:x}={value:x}", a.size(), a.offset()));
            Ok(())
        })
}

#[test]
fn a_guest_in_real_mode_reaches_ram_through_two_aliases_rom_devices_ports_and_ioeventfds() {
    let Some(vm) = vm() else { return };
    let memory = Memory::new(Endianness::Little);
    let log = Log::default();
    let (bell, port_bell) =
        (Arc::new(EventNotifier::new().unwrap()), Arc::new(EventNotifier::new().unwrap()));
    let ram_block = RamBlock::anonymous("ram", RAM_SIZE).unwrap();
    let rom_block = RamBlock::anonymous("rom", 0x1000).unwrap();
    ram_block.write(0x1000, PROGRAM).unwrap();
    rom_block.write(0, b"ROM!").unwrap();
    let build = |t: &mut flatview::Transaction<'_>| {
        let system = memory.system();
        let ram = t.add(Region::ram("ram", ram_block))?;
        let first = t.add(Region::alias("first", ram, 0, RAM_SIZE.into()))?;
        let second = t.add(Region::alias("second", ram, 0x8000, 0x8000))?;
        let rom = t.add(Region::rom("rom", rom_block))?;
        let device_region = t.add(Region::io("device", 0x100, device("device", 0x1111, &log)))?;
        let blitter = t.add(Region::io("blitter", 0x100, device("blitter", 0, &log)))?;
        let rtc = t.add(Region::io("rtc", 2, device("rtc", 0x41, &log)))?;
        let post = t.add(Region::io("post", 1, device("post", 0, &log)))?;
        t.map(system, 0, ram)?;
        t.map(system, 0x2_0000, first)?;
        t.map(system, 0x4_0000, second)?;
        t.map(system, 0xe_0000, rom)?;
        t.map(system, 0xd_0000, device_region)?;
        t.map(system, 0xd_1000, blitter)?;
        t.map(memory.io(), 0x70, rtc)?;
        t.map(memory.io(), 0x80, post)?;
        t.add_eventfd(device_region, 0x80, 2, Some(0x55aa), &bell)?;
        t.add_eventfd(post, 0, 1, None, &port_bell)?;
        t.add_coalescing(blitter, 0, 0x20)?;
        t.set_log(ram, DirtyClient::VGA, true)?;
        Ok::<_, MemoryError>(ram)
    };
    let ram = memory.update(build).unwrap();
    let mut guest = Guest::new(&vm, &memory);
    guest.kvm.collect_writes(&guest.vcpu).unwrap();
    assert_eq!(guest.kvm.slots().len(), 4);
    assert_eq!(guest.kvm.collected(), [(false, 0xd_1000, 0x20)]);
    memory.reset_dirty(ram, 0, RAM_SIZE, DirtyClient::VGA).unwrap();

    guest.start_real_mode(0x1000);
    let exits = guest.run_to_halt();

    // What it came out for, and nothing else: the write to ROM, which is refused as on the bus, the devices and ports.
    let refused: Vec<_> = exits.iter().map(Result::is_err).collect();
    assert_eq!(refused, [true, false, false, false, false, false, false]);
    // The collected writes came to the device in their order, before the read that asks for what became of them.
    let want = [
        "device r2 4",
        "device w2 8=1115",
        "device w2 80=55ab",
        "blitter w2 0=1",
        "blitter w2 2=2",
        "blitter w2 4=3",
        "blitter r2 20",
        "rtc w1 0=70",
        "rtc r1 1",
    ];
    assert_eq!(*log.lock().unwrap(), want);
    assert!(bell.test_and_clear().unwrap() && port_bell.test_and_clear().unwrap());
    assert!(!bell.test_and_clear().unwrap());
    let mut found = [0; 6];
    memory.memory_space().read(0x2000, &mut found).unwrap();
    assert_eq!(found, [0x34, 0x12, b'R', b'O', b'R', b'O']);
    assert_eq!(guest.vcpu.get_regs().unwrap().rax & 0xff, 0x5a);

    // What the guest wrote, through whichever alias, and no more; once.
    let dirty = || {
        let snapshot = memory.snapshot_and_clear_dirty(ram, 0, RAM_SIZE, DirtyClient::VGA).unwrap();
        snapshot.runs().map(|run| (run.start, run.end)).collect::<Vec<_>>()
    };
    assert_eq!(dirty(), [(0x2000, 0x3000), (0x8000, 0x9000)]);
    assert_eq!(dirty(), []);
    guest.start_real_mode(0x1000);
    guest.run_to_halt();
    let part = memory.snapshot_and_clear_dirty(ram, 0x8000, 0x1000, DirtyClient::VGA).unwrap();
    assert_eq!(part.runs().count(), 1);
    assert!(part.is_dirty(0x8000, 0x1000));
    assert_eq!(dirty(), [(0x2000, 0x3000)], "the neighbour of what was taken is still there");
}

#[test]
fn a_string_instruction_reaches_its_port_in_accesses_of_its_own_size() {
    let Some(vm) = vm() else { return };
    // mov di, 0x3000; mov cx, 6; mov dx, 0x72; rep insw; mov si, 0x3000; mov cx, 3; rep outsw; hlt
    let program = [
        0xbf, 0x00, 0x30, 0xb9, 0x06, 0x00, 0xba, 0x72, 0x00, 0xf3, 0x6d, 0xbe, 0x00, 0x30, 0xb9, 0x03, 0x00,
        0xf3, 0x6f, 0xf4,
    ];
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("ram", RAM_SIZE).unwrap();
    block.write(0x1000, &program).unwrap();
    let count = Arc::new(Mutex::new(0_u64));
    let log = Log::default();
    let (next, wrote) = (Arc::clone(&count), Arc::clone(&log));
    let fifo = Ops::new()
        .rules(AccessRules::new().valid(2, 2).implemented(2, 2))
        .read(move |_| {
            let mut next = next.lock().unwrap();
            *next += 1;
            Ok(0x100 + *next)
        })
        .write(move |a, value| {
            wrote.lock().unwrap().push(format!("{}:{value:x}", a.size()));
            Ok(())
        });
    let ram = memory.add(Region::ram("ram", block)).unwrap();
    let fifo = memory.add(Region::io("fifo", 2, fifo)).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    memory.map(memory.io(), 0x72, fifo).unwrap();
    let mut guest = Guest::new(&vm, &memory);
    guest.start_real_mode(0x1000);
    assert!(guest.run_to_halt().iter().all(Result::is_ok));
    assert_eq!(*count.lock().unwrap(), 6);
    assert_eq!(*log.lock().unwrap(), ["2:101", "2:102", "2:103"]);
    let mut read = [0; 12];
    memory.memory_space().read(0x3000, &mut read).unwrap();
    assert_eq!(read, [1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 6, 1]);
}

#[test]
fn what_is_not_in_a_slot_answers_through_exits() {
    let Some(vm) = vm() else { return };
    // mov eax, [esi]; hlt
    let program = [0x8b, 0x06, 0xf4];
    let memory = Memory::new(Endianness::Little);
    let block = RamBlock::anonymous("ram", RAM_SIZE).unwrap();
    block.write(0x1000, &program).unwrap();
    block.write(0x5800, &0x1122_3344_u32.to_le_bytes()).unwrap();
    let log = Log::default();
    let ram = memory.add(Region::ram("ram", block)).unwrap();
    let uart = memory.add(Region::io("uart", 8, device("uart", 0xa5, &log))).unwrap();
    let askew = memory.add(Region::alias("askew", ram, 0x5700, 0x1000)).unwrap();
    memory.map(memory.system(), 0, ram).unwrap();
    memory.map(memory.system(), 0x2_0000, askew).unwrap();
    memory.update(|t| t.map_overlap(memory.system(), 0x5000, uart, 1)).unwrap();
    let mut guest = Guest::new(&vm, &memory);
    guest.start_flat();
    let mut load = |addr: u64| guest.access(0x1000, addr, 0);
    assert_eq!(load(0x1000).1, 0, "RAM");
    assert_eq!(load(0x5800), (0x1122_3344, 1), "RAM beside a device in its page");
    assert_eq!(load(0x5000), (0xa5, 1), "the device");
    assert_eq!(load(0x2_0100), (0x1122_3344, 1), "RAM whose pages are not the guest's");
    assert_eq!(load(0x9000), (0, 0));
    assert_eq!(load(0x8000_0000), (0, 1), "where nothing is");
}
