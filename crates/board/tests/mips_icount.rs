//! `-icount`: time that goes with instructions makes runs of the `mips` board the same to the last instruction.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flatview_board::device::Timer;
use flatview_board::device::chardev::MemoryBackend;
use flatview_board::{
    IcountConfig, IcountShift, Machine, MachineConfig, Request, RtcClock, RtcConfig, SerialConfig,
};

const LIMIT: Duration = Duration::from_secs(60);
const TENTH: i64 = 100_000_000;

fn image(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../guests/images/mips/{name}.elf"))
}

fn fixed(shift: u32) -> IcountConfig {
    IcountConfig { shift: IcountShift::Fixed(shift), sleep: false, align: false }
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    said: String,
    instructions: u64,
    nanoseconds: i64,
}

/// Types one key after the other, at times of the machine's clock; `~` is a pause.
struct Typist {
    timer: Arc<Mutex<Option<Timer>>>,
}

impl Typist {
    fn new(machine: &Machine, serial: &Arc<MemoryBackend>, keys: &str, at: i64) -> Self {
        let timer: Arc<Mutex<Option<Timer>>> = Arc::default();
        let (again, clock, serial) = (Arc::downgrade(&timer), machine.clock().clone(), serial.clone());
        let keys = Mutex::new(keys.as_bytes().to_vec().into_iter());
        let type_one = move || {
            let key = keys.lock().unwrap().next();
            let Some(key) = key else { return };
            assert!(key == b'~' || serial.send(&[key]) == 1);
            if let Some(timer) = again.upgrade() {
                timer.lock().unwrap().as_ref().unwrap().arm(clock.now() + TENTH / 10);
            }
        };
        let made = machine.clock().timer(type_one);
        made.arm(at);
        *timer.lock().unwrap() = Some(made);
        Self { timer }
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.timer.lock().unwrap().take();
    }
}

/// Runs a program to its end, with keys that are typed after a second. `meddle` is done again and again meanwhile.
fn run(name: &str, icount: IcountConfig, keys: &str, meddle: impl Fn(&Machine) + Send + Sync) -> Run {
    let serial = MemoryBackend::new("serial0");
    let config = MachineConfig {
        kernel: Some(image(name)),
        icount: Some(icount),
        serials: vec![SerialConfig::Backend(serial.clone())],
        start_stopped: true,
        ..MachineConfig::new("mips")
    };
    let machine = Machine::new(config).unwrap();
    let typist = Typist::new(&machine, &serial, keys, 10 * TENTH);
    machine.perform(Request::Continue).unwrap();
    let deadline = Instant::now() + LIMIT;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                meddle(&machine);
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        while !machine.has_quit() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        over.store(true, Ordering::Relaxed);
    });
    let said = String::from_utf8(serial.take()).unwrap();
    assert!(machine.has_quit(), "{name} still runs: {said}");
    drop(typist);
    Run { said, instructions: machine.instructions(), nanoseconds: machine.clock().now() }
}

fn nothing(_: &Machine) {}

#[test]
fn two_runs_of_the_demo_are_the_same_to_the_last_instruction() {
    // What comes after the reset waits until the program is there again.
    let keys = "ticks\rpeek 80000000\rreset\r~~~~~~~~~~~~~~~~~~~~halt\r";
    let first = run("demo", fixed(3), keys, nothing);
    assert_eq!(first.said.matches("Ticks: 1 2 3 4 5\r\n").count(), 2, "{}", first.said);
    assert!(first.said.contains("> ticks\r\nCPU timer (IP7): 1"), "{}", first.said);
    assert!(first.said.ends_with("> halt\r\nHalt.\r\n"), "{}", first.said);
    assert_eq!(run("demo", fixed(3), keys, nothing), first);
    // It makes no difference who looks at it meanwhile, or stops it.
    let looked = run("demo", fixed(3), keys, |machine| drop(machine.registers()));
    assert_eq!(looked, first);
    let stopped = run("demo", fixed(3), keys, |machine| {
        // Once it has quit nobody answers.
        let _ = machine.perform(Request::Stop);
        let _ = machine.perform(Request::Continue);
    });
    assert_eq!(stopped, first);
    // Nor does it whether what it waits for comes at once or in its time.
    let slept = run("demo", IcountConfig { sleep: true, ..fixed(3) }, keys, nothing);
    assert_eq!(slept, first);
    // Another pace is another run.
    assert_ne!(run("demo", fixed(4), keys, nothing).instructions, first.instructions);
}

#[test]
fn programs_that_time_matters_to_find_the_same_times_again() {
    for name in ["isa-count", "isa-irq", "isa-random", "hello"] {
        let first = run(name, fixed(2), "", nothing);
        assert!(!first.said.contains("FAIL"), "{name}: {}", first.said);
        assert_eq!(run(name, fixed(2), "", |machine| drop(machine.registers())), first, "{name}");
    }
}

#[test]
fn time_is_instructions_and_what_was_waited_for() {
    // This one never waits.
    let ran = run("isa-alu", fixed(5), "", nothing);
    assert_eq!(ran.nanoseconds, i64::try_from(ran.instructions).unwrap() << 5);
}

#[test]
fn with_align_the_machine_is_not_ahead_of_the_host_and_auto_follows_it() {
    let began = Instant::now();
    // Two clocks tick for 50 ms at least.
    let ran = run("demo", IcountConfig { sleep: true, align: true, ..fixed(3) }, "halt\r", nothing);
    let host = i64::try_from(began.elapsed().as_nanos()).unwrap();
    assert!(ran.nanoseconds < host + TENTH, "{} against {host}", ran.nanoseconds);
    let auto = IcountConfig { shift: IcountShift::Auto, sleep: true, align: false };
    let ran = run("demo", auto, "halt\r", nothing);
    assert!(ran.said.contains("Ticks: 1 2 3 4 5\r\n") && ran.nanoseconds > 10 * TENTH, "{ran:?}");
}

/// The year that the clock chip shows, of the century.
fn year(machine: &Machine) -> u8 {
    let mut byte = [0];
    machine.io_space().write(0x70, &[9]).unwrap();
    machine.io_space().read(0x71, &mut byte).unwrap();
    byte[0]
}

#[test]
fn the_date_is_the_same_in_every_run_unless_it_is_the_hosts() {
    let with = |rtc| {
        Machine::new(MachineConfig {
            kernel: Some(image("hello")),
            icount: Some(fixed(3)),
            start_stopped: true,
            rtc,
            ..MachineConfig::new("mips")
        })
        .unwrap()
    };
    assert_eq!(year(&with(RtcConfig::default())), 0);
    let given = RtcConfig { base: Some(1_795_363_506), ..RtcConfig::default() };
    assert_eq!(year(&with(given)), 0x26);
    assert_ne!(year(&with(RtcConfig { base: None, clock: RtcClock::Host })), 0);
}

#[test]
fn without_a_cpu_there_is_nothing_to_count() {
    for board in ["mips", "cpiom"] {
        let config = MachineConfig { icount: Some(fixed(3)), ..MachineConfig::new(board) };
        let error = Machine::new(config).unwrap_err().to_string();
        assert!(
            error.contains(&format!("board '{board}' runs 0 CPUs")) && error.contains("-kernel"),
            "{error}"
        );
    }
    let config = MachineConfig { icount: Some(fixed(3)), qtest: true, ..MachineConfig::new("mips") };
    let error = Machine::new(config).unwrap_err().to_string();
    assert_eq!(error, "'-icount' can't be used together with '-qtest'");
}
