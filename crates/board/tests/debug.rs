//! What debuggers do with a machine: stop, look, step, watch, and let it go on.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly")]

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use flatview_board::{
    Cause, DebugError, Event, EventKind, GoOn, Machine, MachineConfig, Request, Resume, RunState, Steps,
    StopReason, WatchHit, WatchKind,
};

/// `mips` with a program that has just been loaded, and with these instructions in its place.
fn machine(code: &[u32]) -> (Arc<Machine>, Receiver<Event>) {
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests/images/mips/hello.elf");
    let config =
        MachineConfig { kernel: Some(image.into()), start_stopped: true, ..MachineConfig::new("mips") };
    let machine = Machine::new(config).unwrap();
    let events = machine.subscribe();
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_be_bytes()).collect();
    machine.debug_write(0, START, &bytes).unwrap();
    // Interrupts and handlers are not wanted.
    set(&machine, "status", 0);
    (machine, events)
}

const START: u64 = 0x8010_0000;
/// What the programs watch; in kseg0.
const WORD: u64 = 0x8020_0ffc;

fn set(machine: &Machine, name: &str, value: u64) {
    machine
        .with_cpu(0, |cpu| {
            let n = cpu.debug_registers().iter().position(|r| r.name == name).expect(name);
            cpu.set_debug_register(n, value);
        })
        .unwrap();
}

fn pc(machine: &Machine) -> u64 {
    machine.with_cpu(0, |cpu| cpu.pc()).unwrap()
}

/// Lets it go on and waits until it has stopped; why.
fn go(machine: &Machine, events: &Receiver<Event>, how: GoOn) -> StopReason {
    machine.debug_resume(Resume { others: Some(how), ..Resume::default() }).unwrap();
    assert_eq!(next(events), EventKind::Resume);
    assert_eq!(next(events), EventKind::Stop);
    assert_eq!(machine.run_state(), RunState::Debug);
    let stop = machine.debug_stop().unwrap();
    assert_eq!(stop.cpu, 0);
    stop.why
}

fn next(events: &Receiver<Event>) -> EventKind {
    events.recv_timeout(Duration::from_secs(20)).expect("an event").kind
}

fn watched(addr: u64, kind: WatchKind) -> StopReason {
    StopReason::Watched(Some(WatchHit { addr, kind }))
}

const NOP: u32 = 0;
const LOOP: [u32; 2] = [0x1000_ffff, NOP];
const STEP: GoOn = GoOn::Step(Steps { range: None, interrupts: false, timers: false });

/// Loads and stores the word through kseg1 and its last byte through kseg0, then goes round and round.
fn accesses() -> Vec<u32> {
    let mut code = vec![
        0x3c04_a020, // lui a0, 0xa020
        0x3c05_8020, // lui a1, 0x8020
        0x2408_0005, // li t0, 5
        0xac88_0ffc, // sw t0, 0xffc(a0)
        0x8ca9_0ffc, // lw t1, 0xffc(a1)
        0xa0a8_0fff, // sb t0, 0xfff(a1)
        0xac88_1000, // sw t0, 0x1000(a0)
    ];
    code.extend(LOOP);
    code
}

#[test]
fn watchpoints_stop_at_their_accesses_through_any_window_and_once_each() {
    let (machine, events) = machine(&accesses());
    // Over a page boundary; two more on its page.
    machine.add_watchpoint(WORD, 8, WatchKind::Write).unwrap();
    machine.add_watchpoint(WORD, 4, WatchKind::Read).unwrap();
    machine.add_watchpoint(WORD - 4, 4, WatchKind::Access).unwrap();
    for (at, hit) in [
        (0x0c, watched(WORD, WatchKind::Write)),
        (0x10, watched(WORD, WatchKind::Read)),
        (0x14, watched(WORD + 3, WatchKind::Write)),
        (0x18, watched(WORD + 4, WatchKind::Write)),
    ] {
        assert_eq!(go(&machine, &events, GoOn::Run), hit);
        assert_eq!(pc(&machine), START + at, "before the access");
    }
    machine.remove_watchpoint(WORD, 8, WatchKind::Write).unwrap();
    machine.remove_watchpoint(WORD, 4, WatchKind::Read).unwrap();
    assert_eq!(machine.remove_watchpoint(WORD, 4, WatchKind::Read), Err(DebugError::NotSet(WORD)));
    machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    assert!(matches!(next(&events), EventKind::Reset { .. }));
    // The loaded program is there again; ours is put in its place as before.
    let bytes: Vec<u8> = accesses().iter().flat_map(|word| word.to_be_bytes()).collect();
    machine.debug_write(0, START, &bytes).unwrap();
    machine.add_breakpoint(START + 0x1c);
    assert_eq!(go(&machine, &events, GoOn::Run), StopReason::Breakpoint, "none is watched any more");
    assert_eq!(pc(&machine), START + 0x1c);
}

#[test]
fn watchpoints_that_cannot_be_are_refused() {
    let (machine, _) = machine(&LOOP);
    let add = |va, len| machine.add_watchpoint(va, len, WatchKind::Write);
    assert_eq!(add(WORD, 0), Err(DebugError::WatchLength(0)));
    assert_eq!(add(WORD, u64::MAX), Err(DebugError::WatchLength(u64::MAX)));
    assert_eq!(add(0xc000_0000, 4), Err(DebugError::Unmapped(0xc000_0000)));
    assert!(matches!(machine.with_cpu(1, |cpu| cpu.pc()), Err(DebugError::NoCpu(1))));
}

#[test]
fn steps_are_single_or_go_on_through_a_range_up_to_a_breakpoint() {
    let (machine, events) = machine(&accesses());
    assert_eq!(go(&machine, &events, STEP), StopReason::Step);
    assert_eq!(pc(&machine), START + 4);
    let range = |end| GoOn::Step(Steps { range: Some((START, START + end)), ..Steps::default() });
    assert_eq!(go(&machine, &events, range(0x10)), StopReason::Step);
    assert_eq!(pc(&machine), START + 0x10);
    machine.add_breakpoint(START + 0x18);
    assert_eq!(go(&machine, &events, range(0x100)), StopReason::Breakpoint);
    assert_eq!(pc(&machine), START + 0x18);
    machine.add_watchpoint(WORD + 4, 4, WatchKind::Access).unwrap();
    assert_eq!(go(&machine, &events, STEP), watched(WORD + 4, WatchKind::Access), "a step is stopped too");
    assert_eq!(go(&machine, &events, STEP), StopReason::Step, "and the next one passes");
    assert_eq!(pc(&machine), START + 0x1c);
    // A loop within the range ends when somebody stops it.
    machine.debug_resume(Resume { others: Some(range(0x100)), ..Resume::default() }).unwrap();
    assert_eq!(next(&events), EventKind::Resume);
    machine.perform(Request::Stop).unwrap();
    assert_eq!((next(&events), machine.run_state()), (EventKind::Stop, RunState::Paused));
    assert_eq!(machine.debug_stop(), None);
}

#[test]
fn a_step_onto_wait_is_done_and_the_next_one_waits_until_it_is_stopped() {
    let (machine, events) = machine(&[0x4200_0020, NOP, NOP]);
    assert_eq!(go(&machine, &events, STEP), StopReason::Step);
    machine.debug_resume(Resume { others: Some(STEP), ..Resume::default() }).unwrap();
    assert_eq!(next(&events), EventKind::Resume);
    assert!(events.recv_timeout(Duration::from_millis(50)).is_err(), "it waits for an interrupt");
    machine.perform(Request::Stop).unwrap();
    assert_eq!(next(&events), EventKind::Stop);
    assert_eq!(pc(&machine), START + 4);
}

#[test]
fn breakpoints_are_counted_survive_a_reset_and_are_not_met_twice() {
    let (machine, events) = machine(&LOOP);
    machine.add_breakpoint(START);
    machine.add_breakpoint(START);
    assert_eq!(go(&machine, &events, GoOn::Run), StopReason::Breakpoint, "after a round");
    machine.perform(Request::SystemReset(Cause::HostQmpSystemReset)).unwrap();
    assert!(matches!(next(&events), EventKind::Reset { .. }));
    machine.debug_write(0, START, &LOOP.map(u32::to_be_bytes).concat()).unwrap();
    machine.remove_breakpoint(START).unwrap();
    assert_eq!(go(&machine, &events, GoOn::Run), StopReason::Breakpoint);
    machine.remove_breakpoint(START).unwrap();
    assert_eq!(machine.remove_breakpoint(START), Err(DebugError::NotSet(START)));
    machine.perform(Request::Continue).unwrap();
    assert_eq!((next(&events), machine.run_state()), (EventKind::Resume, RunState::Running));
    assert!(events.recv_timeout(Duration::from_millis(50)).is_err(), "it runs on");
}

#[test]
fn code_that_a_debugger_writes_is_run_and_devices_are_not_touched() {
    let (machine, events) = machine(&LOOP);
    machine.debug_resume(Resume::all()).unwrap();
    // While it runs: the loop becomes a step on, to another loop, which must be there before.
    machine.debug_write(0, START + 12, &LOOP.map(u32::to_be_bytes).concat()).unwrap();
    machine.debug_write(0, START, &[NOP, NOP, NOP].map(u32::to_be_bytes).concat()).unwrap();
    machine.add_breakpoint(START + 12);
    assert_eq!((next(&events), next(&events)), (EventKind::Resume, EventKind::Stop));
    assert_eq!(pc(&machine), START + 12);
    let mut bytes = [0; 8];
    // The ports' registers would change by being read; 0xffc of the page before is RAM's end.
    assert!(matches!(machine.debug_read(0, 0xb400_0060, &mut bytes[..1]), Err(DebugError::Refused(_))));
    assert!(matches!(machine.debug_write(0, 0xb800_0000, &[1]), Err(DebugError::Refused(_))));
    machine.debug_write(0, 0x8020_0ffe, &[1, 2, 3, 4]).unwrap();
    machine.debug_read(0, 0xa020_0ffc, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 0, 1, 2, 3, 4, 0, 0]);
}
