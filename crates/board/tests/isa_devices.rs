//! Timer, clock chip and keyboard controller as they are wired on boards: from the port to the CPU's interrupt pin.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::Duration;

use flatview_board::{Cause, EventKind, Machine, MachineConfig, PinDirection, RtcClock, RtcConfig};

/// Boards with the PC's devices, and where their ports are.
const BOARDS: [(&str, u64); 2] = [("mips", 0x1400_0000), ("40p", 0x8000_0000)];

struct Guest {
    machine: Arc<Machine>,
    ports: u64,
}

impl Guest {
    /// With a clock that stands until it is stepped, on 2026-11-22 at 16:05:06.
    fn new(board: &str, ports: u64) -> Guest {
        let rtc = RtcConfig { base: Some(1_795_363_506), clock: RtcClock::Usual };
        let config = MachineConfig { qtest: true, rtc, ..MachineConfig::new(board) };
        Guest { machine: Machine::new(config).unwrap(), ports }
    }

    fn write(&self, port: u64, value: u8) {
        self.machine.cpu_space().write(self.ports + port, &[value]).unwrap();
    }

    fn read(&self, port: u64) -> u8 {
        let mut byte = [0];
        self.machine.cpu_space().read(self.ports + port, &mut byte).unwrap();
        byte[0]
    }

    /// As a kernel does: vectors 0x20 and 0x28, nothing masked.
    fn initialise_pics(&self) {
        for (base, words) in [(0x20, [0x11, 0x20, 0x04, 0x01]), (0xa0, [0x11, 0x28, 0x02, 0x01])] {
            self.write(base, words[0]);
            words[1..].iter().for_each(|word| self.write(base + 1, *word));
        }
    }

    /// The interrupt that a poll of both chips takes, ended at once.
    fn take(&self) -> Option<u8> {
        self.write(0x20, 0x0c);
        let master = self.read(0x20);
        if master & 0x80 == 0 {
            return None;
        }
        let mut irq = master & 7;
        if irq == 2 {
            self.write(0xa0, 0x0c);
            irq = 8 + (self.read(0xa0) & 7);
            self.write(0xa0, 0x20);
        }
        self.write(0x20, 0x20);
        Some(irq)
    }

    fn step(&self, nanoseconds: i64) {
        self.machine.clock().step(Some(nanoseconds)).unwrap();
    }

    fn cpu_is_interrupted(&self) -> bool {
        // On the mips board the first interrupt controller, on the 40p the bridge that has it.
        let path = if self.ports == BOARDS[0].1 { "device[2]" } else { "device[3]" };
        let path = format!("/machine/unattached/{path}");
        self.machine.irq_pins(&path, PinDirection::Out, None).unwrap()[0].level()
    }
}

fn on_both(test: impl Fn(Guest)) {
    BOARDS.into_iter().for_each(|(board, ports)| test(Guest::new(board, ports)));
}

#[test]
fn the_timer_ticks_on_interrupt_0_at_a_hundred_hertz() {
    on_both(|guest| {
        guest.initialise_pics();
        assert_eq!(guest.take(), None, "nothing is pending after initialisation");
        guest.write(0x43, 0x34);
        [0x9c, 0x2e].into_iter().for_each(|byte| guest.write(0x40, byte));
        let mut ticks = 0;
        for _ in 0..1000 {
            guest.step(1_000_000);
            if guest.cpu_is_interrupted() {
                assert_eq!(guest.take(), Some(0));
                ticks += 1;
            }
        }
        assert_eq!(ticks, 99, "11932 pulses are a little more than 10 ms");
    });
}

#[test]
fn the_clock_chip_updates_on_interrupt_8() {
    on_both(|guest| {
        guest.initialise_pics();
        let cmos = |index| {
            guest.write(0x70, index);
            guest.read(0x71)
        };
        assert_eq!([4, 2, 0].map(cmos), [0x16, 0x05, 0x06]);
        guest.write(0x70, 0x0b);
        guest.write(0x71, 0x12);
        guest.write(0x21, 0xfb);
        guest.step(999_999_999);
        assert_eq!(guest.take(), None);
        guest.step(1);
        assert_eq!((guest.take(), cmos(0x0c), cmos(0)), (Some(8), 0xd0, 0x07));
        guest.step(1_000_000_000);
        assert_eq!((guest.take(), cmos(0x0c) & 0x10, cmos(0)), (Some(8), 0x10, 0x08));
    });
}

#[test]
fn keyboard_and_mouse_answer_on_interrupts_1_and_12() {
    on_both(|guest| {
        guest.initialise_pics();
        guest.write(0x60, 0xf2);
        for byte in [0xfa, 0xab, 0x83] {
            assert_eq!((guest.take(), guest.read(0x60)), (Some(1), byte));
        }
        guest.write(0x64, 0xd4);
        guest.write(0x60, 0xff);
        for byte in [0xfa, 0xaa, 0x00] {
            assert_eq!((guest.take(), guest.read(0x60)), (Some(12), byte));
        }
        assert_eq!(guest.take(), None);
    });
}

#[test]
fn the_keyboard_controller_resets_the_machine_and_the_devices_with_it() {
    on_both(|guest| {
        let events = guest.machine.subscribe();
        guest.write(0x43, 0x30);
        guest.write(0x70, 0x40);
        guest.write(0x71, 0xab);
        guest.write(0x60, 0xf2);
        guest.write(0x64, 0xfe);
        let event = events.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(event.kind, EventKind::Reset { cause: Cause::GuestReset });
        assert_eq!(guest.read(0x64), 0x18, "no byte waits");
        guest.write(0x43, 0xe2);
        assert_eq!(guest.read(0x40), 0x86);
        guest.write(0x70, 0x40);
        assert_eq!(guest.read(0x71), 0xab, "the battery keeps it");
    });
}

#[test]
fn the_speakers_port_is_on_the_board_that_has_one() {
    let guest = Guest::new("40p", BOARDS[1].1);
    guest.write(0x61, 0x01);
    assert_eq!(guest.read(0x61) & 0x2f, 0x21);
    let guest = Guest::new("mips", BOARDS[0].1);
    assert_eq!(guest.read(0x61), 0xff, "unassigned");
}

#[test]
fn the_devices_are_no_stand_ins_any_more() {
    on_both(|guest| {
        let tree = guest.machine.qtree().to_string();
        for kind in ["isa-pit", "mc146818rtc", "i8042", "ps2-kbd", "ps2-mouse"] {
            let entry = tree.split_once(&format!("dev: {kind},")).unwrap().1;
            let line = entry.lines().nth(1).unwrap();
            assert!(!line.contains("not modelled"), "{kind}: {line}");
        }
    });
}
