//! A random program of moved base addresses, switched command registers and shifted SIMMs, over qtest, on QEMU's 40p and
//! on ours: after every hundred moves the flat views of all address spaces, the trees and the configuration space of
//! every PCI function must be equal.
//!
//! What differs on purpose stands in `docs/deviations.md`; the addresses that no move touches are read from that page
//! and from nowhere else. Needs Debian's qemu-system-ppc and its firmware; without them the tests say that they were
//! skipped, and with `FLATVIEW_REQUIRE_QEMU=1` (as in CI) they fail instead.
//!
//! A failure prints the seed, the first difference and the shortest list of moves found that still shows it.
//! `FLATVIEW_SEED` repeats one run, `FLATVIEW_MOVES` sets the number of moves.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

mod qtest;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use qtest::{Qtest, Rng, env_number, left_out, qemu_is_here};
use serde_json::{Value, json};

/// Moves between two looks at the maps.
const STRETCH: usize = 100;
/// How long a failure may be made shorter.
const SHRINKING: Duration = Duration::from_secs(40);

/// Ports in memory, configuration space in memory.
const PORTS: u64 = 0x8000_0000;
const CONFIG: u64 = 0x8080_0000;
/// Device numbers on the bus: bridge, SCSI, VGA, network, ISA bridge.
const SLOTS: [u64; 5] = [0, 1, 2, 3, 0x0b];
const BRIDGE_TO_ISA: u64 = 0x0b;

/// Addresses in PCI memory that are worth a region: nowhere, the VGA's old window, what fw_cfg and the ROM hide, the end
/// of the container, behind it, and where the address bits end.
const IN_MEMORY: &[u64] = &[
    0,
    0x000a_0000,
    0x000b_8000,
    0x0100_0000,
    0x01ff_0000,
    0x2000_0000,
    0x3000_0000,
    0x3000_0400,
    0x3e00_0000,
    0x3eff_0000,
    0x3eff_ffe0,
    0x3f00_0000,
    0x3ff0_0000,
    0x8000_0000,
    0xc000_0000,
    0xff00_0000,
    0xffff_0000,
    0xffff_fc00,
    0xffff_ffff,
];
/// Ports worth a region: ISA devices, the bridge's own, the end of 64 KiB, what `pciio` hides, the end of the container.
const IN_PORTS: &[u64] = &[
    0x0000_0000,
    0x0000_0060,
    0x0000_03e0,
    0x0000_0480,
    0x0000_0800,
    0x0000_0820,
    0x0000_0ce0,
    0x0000_0c00,
    0x0000_1000,
    0x0000_ffe0,
    0x0001_0000,
    0x0080_0000,
    0x3f7f_ffe0,
    0x3f7f_ff00,
    0x3f80_0000,
    0xffff_ff00,
    0xffff_ffe0,
];

/// Where a function's configuration space stands in memory.
fn direct(slot: u64) -> u64 {
    CONFIG + if slot == BRIDGE_TO_ISA { 0 } else { 1 << (11 + slot) }
}

/// Whether this base address register takes ports: the first one of the SCSI and network controllers.
fn has_ports(slot: u64, register: u64) -> bool {
    matches!(slot, 1 | 3) && register == 0x10
}

/// What a guest, or the user, does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Move {
    /// One request of qtest after the other.
    Ask(Vec<String>),
    /// `system_reset`, and these requests of qtest.
    Reset(Vec<String>),
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::Ask(requests) => f.write_str(&requests.join("; ")),
            Move::Reset(then) => write!(f, "system_reset, then {then:?}"),
        }
    }
}

/// Makes moves. What it has placed it may place something else upon.
struct Program {
    rng: Rng,
    placed: Vec<u64>,
    excluded: Vec<RangeInclusive<u64>>,
    /// Whether every function's command register is written after a reset.
    command_after_reset: bool,
}

impl Program {
    fn new(seed: u64) -> Self {
        let hex = |s: &str| u64::from_str_radix(s.trim(), 16).unwrap();
        let lines = left_out("topology-exclusions");
        let ranges = lines.iter().filter_map(|line| line.strip_prefix("exclude "));
        let excluded = ranges
            .map(|range| {
                let (start, end) = range.split_once('-').unwrap();
                hex(start)..=hex(end)
            })
            .collect();
        let command_after_reset = lines.iter().any(|line| line == "command-after-reset");
        Self { rng: Rng(seed), placed: Vec::new(), excluded, command_after_reset }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng.below(n)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick(&mut self, from: &[u64]) -> u64 {
        let n = self.below(from.len() as u64);
        from[n as usize]
    }

    /// A request that writes the value that a little-endian device shall see.
    fn write(addr: u64, size: u64, value: u64) -> String {
        let letter = [' ', 'b', 'w', ' ', 'l', ' ', ' ', ' ', 'q'][size as usize];
        let value = value.swap_bytes() >> (64 - 8 * size);
        format!("write{letter} {addr:#x} {value:#x}")
    }

    /// A byte to a port, in the window or in one of its mirrors.
    fn port(&mut self, port: u64, value: u64) -> Move {
        let mirror = if self.one_in(4) { self.below(0x80) << 16 } else { 0 };
        Move::Ask(vec![Self::write(PORTS + mirror + port, 1, value & 0xff)])
    }

    /// A write to configuration space, directly or through ports 0xcf8 and 0xcfc.
    fn config(&mut self, slot: u64, register: u64, size: u64, value: u64) -> Move {
        if self.one_in(3) {
            let register_is_whole = self.one_in(4);
            let low = if register_is_whole { register } else { register & 0xfc };
            let disabled = self.one_in(40);
            let index = if disabled { 0 } else { 1 << 31 } | slot << 11 | low;
            let mirror = if self.one_in(4) { self.below(0x80) << 16 } else { 0 };
            return Move::Ask(vec![
                Self::write(PORTS + mirror + 0xcf8, 4, index),
                Self::write(PORTS + mirror + 0xcfc + (register & 3), size, value),
            ]);
        }
        Move::Ask(vec![Self::write(direct(slot) + register, size, value)])
    }

    /// Where something might be placed; `low` if it has ports.
    fn place(&mut self, low: bool) -> u64 {
        let low = low != self.one_in(6);
        let place = match self.below(8) {
            0..3 => self.pick(if low { IN_PORTS } else { IN_MEMORY }),
            3 | 4 if !self.placed.is_empty() => {
                let nth = self.below(self.placed.len() as u64);
                let near = self.placed[nth as usize];
                let step = self.pick(&[0, 0, 0x10, 0x20, 0x100, 0x400, 0x1000, 0x2000, 0x1_0000, 0x4_0000]);
                if self.one_in(2) { near.wrapping_add(step) } else { near.wrapping_sub(step) }
            }
            5 => self.rng.next(),
            _ => self.below(if low { 0x1000 } else { 0x3f00_0000 }),
        } & 0xffff_ffff;
        if self.placed.len() == 16 {
            self.placed.remove(0);
        }
        self.placed.push(place);
        place
    }

    fn slot(&mut self) -> u64 {
        match self.below(16) {
            // Most functions have no base addresses at all.
            0..14 => 1 + self.below(3),
            14 => self.pick(&SLOTS),
            _ => self.below(12),
        }
    }

    fn base_address(&mut self) -> Move {
        let slot = self.slot();
        let register = self.pick(&[0x10, 0x10, 0x14, 0x14, 0x18, 0x18, 0x1c, 0x20, 0x24, 0x30, 0x30, 0x30]);
        let place = self.place(has_ports(slot, register));
        let value = if register == 0x30 { place & !1 | u64::from(!self.one_in(3)) } else { place };
        match self.below(8) {
            0 => {
                let at = self.below(4);
                self.config(slot, register + at, 1, value >> (8 * at))
            }
            1 => {
                let at = self.below(3);
                self.config(slot, register + at, 2, value >> (8 * at))
            }
            2 if self.one_in(4) => {
                let next = self.place(has_ports(slot, register + 4));
                Move::Ask(vec![Self::write(direct(slot) + register, 8, value | next << 32)])
            }
            _ => self.config(slot, register, 4, value),
        }
    }

    /// Firmware's way to find a size, with or without what belongs behind it.
    fn sizing(&mut self) -> Move {
        let (slot, register) = (self.slot(), self.pick(&[0x10, 0x14, 0x18, 0x30]));
        let ones = if register == 0x30 { 0xffff_fffe } else { 0xffff_ffff };
        let first = self.config(slot, register, 4, ones);
        let place = self.place(has_ports(slot, register));
        let second = self.config(slot, register, 4, place);
        match (first, second) {
            (Move::Ask(mut a), Move::Ask(b)) if !self.one_in(3) => {
                a.extend(b);
                Move::Ask(a)
            }
            (first, _) => first,
        }
    }

    fn command(&mut self) -> Move {
        let slot = if self.one_in(2) { self.pick(&SLOTS) } else { self.slot() };
        let value = match self.below(4) {
            0 | 1 => 7,
            2 => self.below(8),
            _ => self.below(0x1_0000),
        };
        match self.below(6) {
            0 => self.config(slot, 4, 1, value),
            1 => self.config(slot, 5, 1, value >> 8),
            2 => self.config(slot, 3, 2, value << 8),
            3 => self.config(slot, 4, 4, value),
            _ => self.config(slot, 4, 2, value),
        }
    }

    fn simm(&mut self) -> Move {
        let (socket, end) = (self.below(8), self.below(32));
        self.port(0x820, socket << 5 | end)
    }

    fn any_config(&mut self) -> Move {
        if self.one_in(2) {
            let (slot, register) = (self.pick(&SLOTS), self.below(0xfd));
            let (size, value) = (self.pick(&[1, 2, 4]), self.rng.next());
            return self.config(slot, register, size, value);
        }
        let size = self.pick(&[1, 2, 4, 8]);
        let at = CONFIG + self.below(0x40_0000 - size);
        Move::Ask(vec![Self::write(at, size, self.rng.next())])
    }

    fn board(&mut self) -> Move {
        let port = self.pick(&[0x92, 0x398, 0x399, 0x803, 0x804, 0x808, 0x80c, 0x81c, 0x841, 0x850, 0x852]);
        let value = if port == 0x398 { self.below(3) } else { self.below(256) };
        self.port(port, value)
    }

    fn any_port(&mut self) -> Move {
        let (port, value) = (self.below(0x1000), self.below(256));
        self.port(port, value)
    }

    fn reset(&self) -> Move {
        let command = |slot| Self::write(direct(slot) + 4, 2, 0);
        Move::Reset(if self.command_after_reset { SLOTS.map(command).to_vec() } else { Vec::new() })
    }

    fn next(&mut self) -> Move {
        loop {
            let made = match self.below(200) {
                0..80 => self.base_address(),
                80..90 => self.sizing(),
                90..120 => self.command(),
                120..160 => self.simm(),
                160..175 => self.any_config(),
                175..190 => self.board(),
                190..199 => self.any_port(),
                _ => self.reset(),
            };
            if !self.touches_what_is_left_out(&made) {
                return made;
            }
        }
    }

    fn touches_what_is_left_out(&self, made: &Move) -> bool {
        let Move::Ask(requests) = made else { return false };
        requests.iter().any(|request| {
            let addr = request.split(' ').nth(1).unwrap().trim_start_matches("0x");
            let mut addr = u64::from_str_radix(addr, 16).unwrap();
            if (PORTS..CONFIG).contains(&addr) {
                addr = PORTS | addr & 0xffff;
            }
            self.excluded.iter().any(|e| e.contains(&addr))
        })
    }
}

/// The monitor of a program, over QMP.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect(path: &Path) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", path.display()),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut monitor = Self(BufReader::new(stream));
        assert!(monitor.line().get("QMP").is_some());
        monitor.run("qmp_capabilities", &json!({}), None);
        monitor
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the monitor is gone");
        serde_json::from_str(&line).unwrap()
    }

    /// Runs a command, and waits for the event too.
    fn run(&mut self, command: &str, arguments: &Value, event: Option<&str>) -> Value {
        let request = json!({ "execute": command, "arguments": arguments });
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let (mut answer, mut happened) = (None, event.is_none());
        loop {
            let line = self.line();
            assert!(line.get("error").is_none(), "{command}: {line}");
            happened |= event.is_some() && line.get("event").and_then(Value::as_str) == event;
            answer = answer.or_else(|| line.get("return").cloned());
            if let Some(answer) = answer.take_if(|_| happened) {
                return answer;
            }
        }
    }

    fn text(&mut self, line: &str) -> String {
        let text = self.run("human-monitor-command", &json!({ "command-line": line }), None);
        text.as_str().unwrap().to_owned()
    }
}

/// One of the two programs.
struct Side {
    qtest: Qtest,
    monitor: Monitor,
}

impl Side {
    fn make(&mut self, made: &Move) {
        let (Move::Ask(requests) | Move::Reset(requests)) = made;
        if matches!(made, Move::Reset(_)) {
            self.monitor.run("system_reset", &json!({}), Some("RESET"));
        }
        for request in requests {
            assert_eq!(self.qtest.ask(request), "OK", "{request}");
        }
    }

    /// All that can be seen of where things are, each with what it is.
    fn look(&mut self) -> Vec<(&'static str, BTreeSet<String>)> {
        let flat = blocks(&self.monitor.text("info mtree -f"));
        let mut registers: BTreeSet<String> = SLOTS
            .iter()
            .map(|slot| {
                let bytes = self.qtest.ask(&format!("read {:#x} 0x100", direct(*slot)));
                lines_of_registers(*slot, &bytes)
            })
            .collect();
        // Read only while nothing hides it: reading there has side effects.
        let ports = flat.iter().find(|block| block.contains("AS \"raven-io\"")).expect("raven-io has a view");
        if ports.contains("0000000080000820-0000000080000820 (prio 0, i/o): rs6000mc") {
            let ends: Vec<String> = (0..8).map(|_| self.qtest.ask("readb 0x80000820")).collect();
            registers.insert(format!("ends of SIMMs: {}", ends.join(" ")));
        }
        let bars = self.monitor.text("info qtree");
        let bars =
            bars.lines().map(str::trim).filter(|line| line.starts_with("bar ") || line.starts_with("class "));
        vec![
            ("configuration space", registers),
            ("info mtree -f", flat),
            ("info mtree", blocks(&self.monitor.text("info mtree"))),
            ("info mtree -D", blocks(&self.monitor.text("info mtree -D"))),
            ("info qtree", bars.enumerate().map(|(n, line)| format!("{n:02} {line}")).collect()),
        ]
    }
}

/// A function's configuration space, as a block.
fn lines_of_registers(slot: u64, answer: &str) -> String {
    let digits = answer.strip_prefix("OK 0x").unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(digits.len(), 512, "{answer}");
    let lines = (0..16).map(|n| format!("{:02x}: {}", 16 * n, &digits[32 * n..32 * n + 32]));
    format!("function {slot:02x}.0\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// The blocks of a text as a set, each without the number of its flat view and with its address spaces in one order:
/// QEMU prints both in the order of a hash table.
fn blocks(text: &str) -> BTreeSet<String> {
    let block = |block: &str| {
        let lines = block.lines().map(str::trim_end).filter(|line| !line.starts_with("FlatView #"));
        let (mut spaces, rest): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with(" AS "));
        spaces.sort_unstable();
        [spaces, rest].concat().join("\n")
    };
    text.replace("\r\n", "\n").split("\n\n").map(block).filter(|block| !block.is_empty()).collect()
}

/// Both programs.
struct Pair {
    qemu: Side,
    ours: Side,
    // Goes after the programs that listen in it.
    _folder: tempfile::TempDir,
}

impl Pair {
    fn start(extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let side = |name: &str, start: &dyn Fn(&[&str]) -> Qtest| {
            let socket = folder.path().join(name);
            let qmp = format!("unix:{},server=on,wait=off", socket.display());
            let qtest = start(&[&["-qmp", &qmp], extra].concat());
            Side { qtest, monitor: Monitor::connect(&socket) }
        };
        let (qemu, ours) =
            (side("qemu", &|extra| Qtest::qemu(extra)), side("ours", &|extra| Qtest::ours(extra)));
        Self { qemu, ours, _folder: folder }
    }

    fn make(&mut self, made: &Move) {
        self.qemu.make(made);
        self.ours.make(made);
    }

    /// What differs first, line by line.
    fn difference(&mut self) -> Option<String> {
        let (qemu, ours) = (self.qemu.look(), self.ours.look());
        let (what, theirs, ours) =
            qemu.into_iter().zip(ours).find(|(a, b)| a != b).map(|((what, a), (_, b))| (what, a, b))?;
        let mut said = format!("{what} differs:\n");
        // A block is compared with the other program's of the same beginning.
        let lonely: Vec<&String> = theirs.difference(&ours).collect();
        let mut others: Vec<&String> = ours.difference(&theirs).collect();
        for block in lonely {
            let head = |block: &str| block.lines().next().unwrap_or_default().to_owned();
            said += &format!("  {}\n", head(block));
            let other = others.iter().position(|other| head(other) == head(block)).map(|n| others.remove(n));
            let (a, b): (Vec<&str>, Vec<&str>) =
                (block.lines().collect(), other.map_or(Vec::new(), |o| o.lines().collect()));
            a.iter().filter(|line| !b.contains(line)).for_each(|line| said += &format!("    QEMU: {line}\n"));
            b.iter().filter(|line| !a.contains(line)).for_each(|line| said += &format!("    ours: {line}\n"));
            if a.len() == b.len() && a.iter().all(|line| b.contains(line)) {
                said += &format!("    the order of lines: QEMU\n{block}\n    ours\n{}\n", b.join("\n"));
            }
        }
        for block in others {
            said += &format!("  only ours: {block}\n");
        }
        Some(said)
    }
}

/// The difference that these moves lead to.
fn outcome(extra: &[&str], moves: &[Move]) -> Option<String> {
    let mut pair = Pair::start(extra);
    moves.iter().for_each(|made| pair.make(made));
    pair.difference()
}

/// Fewer moves that still lead to a difference, as far as the time suffices.
fn shrink(extra: &[&str], mut moves: Vec<Move>) -> Vec<Move> {
    let deadline = Instant::now() + SHRINKING;
    let mut part = moves.len().div_ceil(2);
    while part > 0 && Instant::now() < deadline {
        let (mut at, before) = (0, moves.len());
        while at < moves.len() && Instant::now() < deadline {
            let fewer = [&moves[..at], &moves[(at + part).min(moves.len())..]].concat();
            if outcome(extra, &fewer).is_some() {
                moves = fewer;
            } else {
                at += part;
            }
        }
        if part == 1 && moves.len() == before {
            break;
        }
        part = if part == 1 { 1 } else { part / 2 };
    }
    moves
}

/// Makes the moves on both programs, and looks after every hundred. Gives the regions that were in some flat view then,
/// by name, and the address spaces that saw memory.
fn agree(extra: &[&str], seed: u64, count: usize) -> BTreeSet<String> {
    let mut program = Program::new(seed);
    let mut pair = Pair::start(extra);
    let mut moves: Vec<Move> = Vec::new();
    let began = Instant::now();
    assert_eq!(pair.difference(), None, "before the first move, with {extra:?}");
    let (mut maps, mut answered) = (BTreeSet::new(), BTreeSet::new());
    while moves.len() < count {
        for _ in 0..STRETCH.min(count - moves.len()) {
            let made = program.next();
            pair.make(&made);
            moves.push(made);
        }
        if let Some(difference) = pair.difference() {
            let after = moves.len();
            let short = shrink(extra, moves);
            let list: Vec<String> = short.iter().map(Move::to_string).collect();
            let then = outcome(extra, &short).unwrap_or_else(|| "(gone)".to_owned());
            panic!(
                "after {after} moves of seed {seed} (FLATVIEW_SEED={seed}), {extra:?}:\n{difference}\nThese {} moves do it too:\n  {}\nthen {then}",
                list.len(),
                list.join("\n  ")
            );
        }
        let map = pair.ours.monitor.text("info mtree -f");
        answered.extend(who_answers(&map));
        maps.insert(map);
    }
    println!(
        "{count} moves, seed {seed}, {extra:?}: {} different maps, all alike, in {:.1} s",
        maps.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(maps.len() * 2 > count / STRETCH, "hardly anything moved");
    answered
}

/// The names of regions in the ranges of `info mtree -f`, and of address spaces that have any.
fn who_answers(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for view in text.split("\n\n").filter(|view| !view.contains("No rendered FlatView")) {
        for line in view.lines() {
            if let Some((_, name)) = line.split_once("): ") {
                names.insert(name.split(" @").next().unwrap_or(name).to_owned());
            } else if let Some((name, _)) = line.strip_prefix(" AS \"").and_then(|rest| rest.split_once('"'))
            {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn after_each_hundred_of_ten_thousand_random_moves_the_maps_are_qemus() {
    if !qemu_is_here() {
        return;
    }
    let seed = env_number("FLATVIEW_SEED").unwrap_or(0x0bad_0bad);
    let count = env_number("FLATVIEW_MOVES").unwrap_or(10_000);
    let answered = agree(&[], seed, count.try_into().unwrap());
    let moved = [
        "vga.vram",
        "vga.mmio",
        "edid",
        "vga.rom",
        "lsi-io",
        "lsi-mmio",
        "lsi-ram",
        "pcnet-io",
        "pcnet-mmio",
    ];
    let masters = ["raven", "lsi53c810", "VGA", "pcnet", "i82378"];
    for name in moved.iter().chain(&["pcnet.rom", "simm.3"]).chain(&masters) {
        assert!(count < 10_000 || answered.contains(*name), "{name} was never in a map: {answered:?}");
    }
}

#[test]
fn the_same_holds_with_other_simms_and_without_the_default_devices() {
    if !qemu_is_here() {
        return;
    }
    let count = env_number("FLATVIEW_MOVES").unwrap_or(10_000).min(1_000).try_into().unwrap();
    let sets: [&[&str]; 6] =
        [&["-m", "16"], &["-m", "32"], &["-m", "64"], &["-m", "96"], &["-m", "144"], &["-m", "192"]];
    for (extra, seed) in sets.into_iter().zip(1..) {
        agree(extra, env_number("FLATVIEW_SEED").unwrap_or(seed), count);
    }
    agree(&["-nodefaults"], env_number("FLATVIEW_SEED").unwrap_or(7), count);
    agree(&["-device", "pc-testdev"], env_number("FLATVIEW_SEED").unwrap_or(8), count);
}
