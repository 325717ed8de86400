//! OpenBIOS on the 40p touches the devices as often, as widely and at the same places as on QEMU.
//!
//! `captures/40p-openbios.accesses.txt` counts the calls of QEMU's regions up to the prompt, and
//! `captures/40p-openbios.serial.txt` has what was printed, both of one build of OpenBIOS. Here the CPU's accesses are counted on
//! their way out. Needs Debian's `qemu-system-data`; without it the test says that it was
//! skipped, and with `FLATVIEW_REQUIRE_QEMU=1` (as in CI) it fails instead.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flatview_board::device::CharSpec;
use flatview_board::{Machine, MachineConfig, Request, SerialConfig};
use flatview_cpu::{Kind, Verdict, Watch, WatchedAccess, Watcher};

const SERIAL: &str = include_str!("captures/40p-openbios.serial.txt");
const ACCESSES: &str = include_str!("captures/40p-openbios.accesses.txt");
/// Where the serial port takes characters.
const THR: u64 = 0x8000_03f8;
const PROMPT: &[u8] = b"\r\n0 > ";
/// Debug builds on a busy machine want a while.
const BOOT: Duration = Duration::from_secs(60);

const LSI: RangeInclusive<u64> = 0xc010_0000..=0xc010_03ff;

/// The regions that are compared, by their names in the capture.
const REGIONS: [(&str, RangeInclusive<u64>); 7] = [
    ("fwcfg.ctl", 0xf000_0510..=0xf000_0511),
    ("fwcfg.data", 0xf000_0512..=0xf000_0512),
    ("pci-conf-idx", 0x8000_0cf8..=0x8000_0cfb),
    ("pci-conf-data", 0x8000_0cfc..=0x8000_0cff),
    ("i8042-cmd", 0x8000_0064..=0x8000_0064),
    ("i8042-data", 0x8000_0060..=0x8000_0060),
    // Where OpenBIOS puts the SCSI controller, looks for drives, and finds one without a disc.
    ("lsi-mmio", LSI),
];

/// How often each kind of access came, as the capture writes it: `R1`, `W4`.
type Counts = BTreeMap<String, u64>;

struct Counter {
    counts: Mutex<BTreeMap<&'static str, Counts>>,
    said: Mutex<Vec<u8>>,
    prompt: Sender<()>,
}

impl Watcher for Counter {
    fn before(&self, access: &WatchedAccess) -> Verdict {
        let letter = if access.kind == Kind::Write { 'W' } else { 'R' };
        if let Some((name, _)) = REGIONS.iter().find(|(_, range)| range.contains(&access.phys)) {
            let mut counts = self.counts.lock().unwrap();
            *counts.entry(name).or_default().entry(format!("{letter}{}", access.size)).or_default() += 1;
        }
        if access.phys == THR && access.kind == Kind::Write {
            let mut said = self.said.lock().unwrap();
            said.push(access.value as u8);
            if said.ends_with(PROMPT) {
                let _ = self.prompt.send(());
            }
        }
        Verdict::Proceed
    }
}

/// A line of the capture: `name total R1:2 W4:3`.
fn captured(name: &str) -> Counts {
    let line = ACCESSES.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    line.split_whitespace()
        .skip(2)
        .map(|count| {
            let (kind, number) = count.split_once(':').unwrap();
            (kind.to_owned(), number.parse().unwrap())
        })
        .collect()
}

#[test]
fn openbios_touches_the_devices_as_on_qemu() {
    let there = ["/usr/share/qemu/openbios-ppc", "/usr/share/openbios/openbios-ppc"];
    if !there.into_iter().any(|path| Path::new(path).is_file()) {
        let what = "openbios-ppc (Debian's qemu-system-data) is not installed";
        assert!(std::env::var_os("FLATVIEW_REQUIRE_QEMU").is_none(), "{what}");
        println!("skipped: {what}");
        return;
    }
    let machine = Machine::new(MachineConfig {
        serials: vec![SerialConfig::Spec(CharSpec::Null)],
        nographic: true,
        start_stopped: true,
        ..MachineConfig::new("40p")
    })
    .unwrap();
    let (prompt, at_prompt) = channel();
    let counter = Arc::new(Counter { counts: Mutex::default(), said: Mutex::default(), prompt });
    let watches = machine.with_cpu(0, |cpu| cpu.watches()).unwrap();
    for (first, last) in [(0x8000_0000, 0x8000_0fff), (*LSI.start(), *LSI.end()), (0xf000_0000, 0xf000_0fff)]
    {
        watches.add(Watch { first, last, reads: true, writes: true }, counter.clone());
    }
    machine.perform(Request::Continue).unwrap();
    let came = at_prompt.recv_timeout(BOOT);
    machine.perform(Request::Stop).unwrap();
    let said = String::from_utf8_lossy(&counter.said.lock().unwrap()).into_owned();
    assert!(came.is_ok(), "no prompt in: {said}");
    let build = |said: &str| said.lines().find(|line| line.contains("OpenBIOS 1")).map(str::to_owned);
    if build(&said) != build(SERIAL) {
        println!("skipped: the capture is of another OpenBIOS than {:?}", build(&said));
        return;
    }
    assert!(SERIAL.starts_with(&said), "{said}");
    let counts = counter.counts.lock().unwrap();
    for (name, _) in REGIONS {
        assert_eq!(counts.get(name).cloned().unwrap_or_default(), captured(name), "{name}");
    }
}
