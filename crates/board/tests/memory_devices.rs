//! Memory back ends and DIMMs of a machine, while others access its memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flatview::Be;
use flatview_board::{
    EventKind, Given, Machine, MachineConfig, MemdevKind, MemdevSpec, ObjectError, Properties,
};

const MIB: u64 = 1 << 20;
const BASE: u64 = 0x4000_0000;

fn machine() -> Arc<Machine> {
    let config = MachineConfig {
        start_stopped: true,
        ram_slots: 4,
        ram_max: Some(64 * MIB + 64 * MIB),
        ..MachineConfig::new("cpiom")
    };
    Machine::new(config).unwrap()
}

fn dimm(id: &str, memdev: &str, addr: u64) -> Properties {
    let mut given = Properties::of_text("driver", &format!("pc-dimm,id={id},memdev={memdev}"));
    given.set("addr", Given::Integer(addr.into()));
    given
}

fn ram(id: &str, size: u64) -> MemdevSpec {
    MemdevSpec::new(MemdevKind::Ram, id, size)
}

#[test]
fn memory_comes_and_goes_under_readers_and_bus_masters() {
    let machine = machine();
    let objects = machine.objects();
    for n in 0..3 {
        objects.add(ram(&format!("m{n}"), 2 * MIB)).unwrap();
    }
    // One DIMM stays: what threads write there must come back, whatever is plugged around it.
    machine.device_add(dimm("stays", "m0", BASE)).unwrap();
    let done = AtomicBool::new(false);
    let hits = AtomicU64::new(0);
    std::thread::scope(|scope| {
        // Accesses of a CPU: each value is the one written, or nothing answers.
        for thread in 0..2_u64 {
            let (machine, done, hits) = (&machine, &done, &hits);
            scope.spawn(move || {
                let reader = machine.cpu_space().reader();
                let mut i = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    i += 1;
                    let at = BASE + thread * 8 + i % 1000 * 16;
                    reader.store::<Be, u64>(at, i).unwrap();
                    assert_eq!(reader.load::<Be, u64>(at), Ok(i));
                    let moving = BASE + 2 * MIB + thread * 8;
                    if reader.store::<Be, u64>(moving, i).is_ok() {
                        hits.fetch_add(1, Ordering::Relaxed);
                        // Pulled, plugged again, or exchanged meanwhile: a value of ours, an old one, or nothing.
                        let _ = reader.load::<Be, u64>(moving);
                    }
                }
            });
        }
        // A bus master moves blocks that reach over the edge.
        let (machine, done) = (&machine, &done);
        scope.spawn(move || {
            let space = machine.memory().memory_space();
            let reader = space.reader();
            let mut buffer = vec![0xa5; 64 << 10];
            while !done.load(Ordering::Relaxed) {
                let edge = BASE + 2 * MIB - (32 << 10);
                let _ = reader.write(edge, &buffer);
                let _ = reader.read(edge, &mut buffer);
                assert!(buffer[..32 << 10].iter().all(|b| *b == 0xa5), "what stays is read as written");
                buffer.fill(0xa5);
            }
        });
        for round in 0..200 {
            let memdev = if round % 2 == 0 { "m1" } else { "m2" };
            machine.device_add(dimm("moves", memdev, BASE + 2 * MIB)).unwrap();
            assert!(matches!(objects.remove(memdev), Err(ObjectError::InUse(_))));
            if round % 10 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            machine.device_del("moves").unwrap();
            if round % 20 == 0 {
                // The memory goes while somebody may still be in it; a new one takes its place.
                objects.remove(memdev).unwrap();
                objects.add(ram(memdev, 2 * MIB)).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(hits.load(Ordering::Relaxed) > 0, "the threads met the memory that comes and goes");
    assert_eq!(objects.devices().len(), 1);
    assert_eq!(objects.plugged(), 2 * MIB);
    assert_eq!(machine.memory().stale_view(), Ok(None));
}

#[test]
fn two_who_plug_at_once_get_different_slots_and_addresses() {
    let machine = machine();
    for n in 0..4 {
        machine.objects().add(ram(&format!("m{n}"), 2 * MIB)).unwrap();
    }
    for _ in 0..20 {
        std::thread::scope(|scope| {
            for n in 0..4 {
                let machine = &machine;
                scope.spawn(move || {
                    machine.device_add(dimm(&format!("d{n}"), &format!("m{n}"), 0)).unwrap();
                });
            }
        });
        let devices = machine.objects().devices();
        let slots: Vec<_> = devices.iter().map(|d| d.slot).collect();
        assert_eq!(slots, [0, 1, 2, 3]);
        let mut places: Vec<_> = devices.iter().map(|d| d.addr).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 2, 4, 6].map(|n| BASE + n * MIB));
        std::thread::scope(|scope| {
            for n in 0..4 {
                let machine = &machine;
                scope.spawn(move || machine.device_del(&format!("d{n}")).unwrap());
            }
        });
        assert!(machine.objects().devices().is_empty());
    }
}

#[test]
fn one_memory_has_one_user_however_many_ask() {
    let machine = machine();
    machine.objects().add(ram("m", 2 * MIB)).unwrap();
    let plugged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (machine, plugged) = (&machine, &plugged);
            scope.spawn(move || match machine.device_add(dimm(&format!("d{n}"), "m", 0)) {
                Ok(()) => drop(plugged.fetch_add(1, Ordering::Relaxed)),
                Err(e) => assert!(matches!(e, ObjectError::Busy(_)), "{e}"),
            });
        }
    });
    assert_eq!(plugged.load(Ordering::Relaxed), 1);
}

#[test]
fn pulling_tells_subscribers_and_plugging_too_much_changes_nothing() {
    let machine = machine();
    machine.objects().add(ram("m", 2 * MIB)).unwrap();
    machine.objects().add(ram("big", 128 * MIB)).unwrap();
    let events = machine.subscribe();
    assert!(matches!(machine.device_add(dimm("d", "big", 0)), Err(ObjectError::NoSpace { used: 0, .. })));
    machine.objects().remove("big").unwrap();
    machine.device_add(dimm("d", "m", 0)).unwrap();
    machine.device_del("/machine/peripheral/d").unwrap();
    assert!(matches!(machine.device_del("d"), Err(ObjectError::NoDevice(_))));
    let told = events.try_recv().unwrap().kind;
    assert_eq!(
        told,
        EventKind::DeviceDeleted { device: Some("d".into()), path: "/machine/peripheral/d".into() }
    );
    assert!(events.try_recv().is_err());
}

#[test]
fn the_40p_puts_its_simms_into_a_chosen_back_end_and_maps_the_same() {
    let tree =
        |machine: &Machine| flatview::mtree::write(machine.memory(), Default::default()).unwrap().to_string();
    let config = || MachineConfig {
        start_stopped: true,
        ram_size: Some(64 * MIB),
        nodefaults: true,
        ..MachineConfig::new("40p")
    };
    let plain = Machine::new(config()).unwrap();
    let chosen = Machine::new(MachineConfig {
        memory_backend: Some("m0".to_owned()),
        memory_backends: vec![ram("m0", 64 * MIB)],
        ..config()
    })
    .unwrap();
    assert_eq!(tree(&chosen), tree(&plain));
    let names =
        |machine: &Machine| -> Vec<_> { machine.ram_blocks().into_iter().map(|row| row.name).collect() };
    assert!(names(&plain).contains(&"simm.0".to_owned()));
    assert!(names(&chosen).contains(&"m0".to_owned()) && !names(&chosen).contains(&"simm.0".to_owned()));
    // Across the edge of two SIMMs it is one memory.
    chosen.cpu_space().write(32 * MIB - 4, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let block = chosen.memory().regions().into_iter().find_map(|id| {
        let (block, _) = chosen.memory().region(id).ok()?.ram?;
        (block.name() == "m0").then_some(block)
    });
    let mut bytes = [0; 8];
    block.unwrap().read(32 * MIB - 4, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// Refuses every change while told to, as KVM does that has no slot left.
struct Refuses(AtomicBool);

impl flatview::MemoryListener for Refuses {
    fn name(&self) -> &str {
        "refuses"
    }
    fn prepare(&self, _: &flatview::Delta) -> Result<(), flatview::ListenerError> {
        if self.0.load(Ordering::Relaxed) { Err(flatview::ListenerError::new("no slots")) } else { Ok(()) }
    }
}

#[test]
fn a_dimm_that_a_listener_refuses_is_neither_plugged_nor_pulled_by_half() {
    let machine = machine();
    machine.objects().add(ram("m", 2 * MIB)).unwrap();
    let refuses = Arc::new(Refuses(AtomicBool::new(false)));
    machine.memory().add_listener(refuses.clone()).unwrap();
    refuses.0.store(true, Ordering::Relaxed);
    assert!(matches!(machine.device_add(dimm("d", "m", 0)), Err(ObjectError::Memory(_))));
    assert!(machine.objects().devices().is_empty());
    refuses.0.store(false, Ordering::Relaxed);
    machine.device_add(dimm("d", "m", 0)).unwrap();
    machine.cpu_space().write(BASE, &[7]).unwrap();
    refuses.0.store(true, Ordering::Relaxed);
    assert!(matches!(machine.device_del("d"), Err(ObjectError::Memory(_))));
    assert_eq!(machine.objects().devices().len(), 1, "it stays where it is");
    let mut byte = [0];
    machine.cpu_space().read(BASE, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    refuses.0.store(false, Ordering::Relaxed);
    machine.device_del("d").unwrap();
    machine.objects().remove("m").unwrap();
}
