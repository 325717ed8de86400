//! The run loop: requests, events, ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use flatview::{Be, WHOLE};
use flatview_board::device::chardev::MemoryBackend;
use flatview_board::{
    Cause, Event, EventKind, Machine, MachineConfig, PinDirection, Request, RequestError, RunState,
    SerialConfig,
};

fn machine(change: impl FnOnce(&mut MachineConfig)) -> Arc<Machine> {
    let mut config = MachineConfig::new("mips");
    change(&mut config);
    Machine::new(config).unwrap()
}

fn kinds(events: &Receiver<Event>) -> Vec<EventKind> {
    events.try_iter().map(|event| event.kind).collect()
}

#[test]
fn stop_and_continue_change_the_state_once_and_tell_everybody() {
    let machine = machine(|_| {});
    assert_eq!(machine.run_state(), RunState::Running);
    let (one, two) = (machine.subscribe(), machine.subscribe());
    for request in [Request::Stop, Request::Stop, Request::Continue, Request::Continue, Request::Powerdown] {
        machine.perform(request).unwrap();
    }
    let wanted = [EventKind::Stop, EventKind::Resume, EventKind::Powerdown];
    assert_eq!((kinds(&one).as_slice(), kinds(&two).as_slice()), (wanted.as_slice(), wanted.as_slice()));
}

#[test]
fn a_machine_made_to_wait_starts_when_it_is_told_to() {
    let machine = machine(|config| config.start_stopped = true);
    assert_eq!(machine.run_state().as_str(), "prelaunch");
    let events = machine.subscribe();
    machine.perform(Request::Stop).unwrap();
    assert_eq!(machine.run_state(), RunState::Prelaunch, "it was not running");
    machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    machine.perform(Request::Continue).unwrap();
    assert_eq!(machine.run_state(), RunState::Running);
    let reset = EventKind::Reset { cause: Cause::HostQmpSystemReset };
    assert_eq!(kinds(&events), [reset, EventKind::Resume]);
}

#[test]
fn time_stands_while_the_machine_does() {
    let machine = machine(|_| {});
    while machine.clock().now() == 0 {
        std::thread::yield_now();
    }
    machine.perform(Request::Stop).unwrap();
    let stopped = machine.clock().now();
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!(machine.clock().now(), stopped);
}

#[test]
fn quitting_tells_why_closes_the_channels_and_refuses_what_comes_later() {
    let machine = machine(|_| {});
    let events = machine.subscribe();
    machine.perform(Request::Quit(Cause::HostQmpQuit)).unwrap();
    assert_eq!(machine.wait(), 0);
    assert!(machine.has_quit());
    assert_eq!(events.recv().unwrap().kind, EventKind::Shutdown { cause: Cause::HostQmpQuit });
    assert!(events.recv().is_err());
    machine.request(Request::Quit(Cause::HostQmpQuit));
    assert_eq!(machine.perform(Request::Stop), Err(RequestError::HasQuit));
    assert!(machine.subscribe().recv().is_err());
    assert!(machine.cpu_space().read(0, &mut [0]).is_ok(), "memory can still be looked at");
}

#[test]
fn dropping_the_machine_ends_its_thread_and_frees_its_memory() {
    for board in ["40p", "mips", "cpiom"] {
        let config = MachineConfig { bios: None, ..MachineConfig::new(board) };
        let machine = Machine::new(config).unwrap();
        if board == "cpiom" {
            // With overlays mapped.
            machine.cpu_space().reader().store::<Be, u32>(0x2000_b000, 0x8000_0000).unwrap();
            machine.cpu_space().reader().store::<Be, u32>(0x2000_a000, 1).unwrap();
        }
        let memory = machine.memory().downgrade();
        drop(machine);
        assert!(memory.upgrade().is_none(), "{board}: something keeps its memory");
    }
}

#[test]
fn a_stepped_clock_runs_a_serial_ports_timer() {
    let backend = MemoryBackend::new("serial0");
    let machine = machine(|config| {
        config.qtest = true;
        config.serials = vec![SerialConfig::Backend(backend.clone())];
    });
    let port = |n: u64| 0x1400_03f8 + n;
    let space = machine.cpu_space();
    space.write(port(2), &[0xc1]).unwrap();
    space.write(port(1), &[1]).unwrap();
    assert_eq!(backend.send(b"x"), 1);
    let pins = machine.irq_pins("/machine/unattached/device[2]", PinDirection::In, None).unwrap();
    assert!(!pins[4].level());
    assert!(machine.clock().step(Some(0)).is_ok() && !pins[4].level());
    assert!(machine.clock().step(None).unwrap() > 0);
    assert!(pins[4].level(), "the quiet receiver interrupts on ISA interrupt 4");
}

#[test]
fn requests_from_many_threads_are_carried_out_one_after_the_other() {
    let machine = machine(|config| config.start_stopped = true);
    let events = machine.subscribe();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
                    machine.perform(Request::Continue).unwrap();
                    machine.perform(Request::Stop).unwrap();
                }
            });
        }
    });
    let seen = kinds(&events);
    assert_eq!(seen.iter().filter(|kind| kind.name() == "RESET").count(), 200);
    let runs: Vec<_> = seen.iter().filter(|kind| kind.name() != "RESET").collect();
    assert!(runs.chunks(2).all(|pair| matches!(pair, [EventKind::Resume, EventKind::Stop])));
}

#[test]
fn every_region_of_every_board_has_a_place_in_the_object_tree() {
    for board in ["40p", "mips", "cpiom"] {
        let machine = Machine::new(MachineConfig::new(board)).unwrap();
        let qom = machine.qom();
        let nodes = qom.to_string().matches("(memory-region)").count();
        // The machine's RAM is its back end's, which stands below /objects and not in the machine.
        let of_object = |id: &_| {
            let owner = machine.memory().region(*id).unwrap().owner;
            owner.is_some_and(|owner| owner.path().starts_with("/objects/"))
        };
        let of_objects = machine.memory().regions().iter().filter(|id| of_object(id)).count();
        assert!(of_objects <= 1, "{board}");
        assert_eq!(nodes + of_objects, machine.memory().regions().len(), "{board}");
        let system = machine.memory().region(machine.memory().system()).unwrap();
        assert_eq!(system.size, WHOLE);
        for id in machine.memory().regions() {
            let region = machine.memory().region(id).unwrap();
            let owner = region.owner.or(region.parent).unwrap();
            if owner.path().starts_with("/objects/") {
                continue;
            }
            assert!(
                qom.find(owner.path()).is_some_and(|node| !node.kind.is_empty()),
                "{board}: {}",
                owner.path()
            );
        }
    }
}
