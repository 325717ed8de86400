//! A machine that is stepped: QEMU's and ours, both by gdb's protocol, or ours within this process.
//!
//! A step is one instruction, a branch and its delay slot being two; one that faults ends at its handler's first
//! instruction. What is asked for in two halves (`start_` and `finish_`) lets both
//! machines work at once.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flatview::{AddressSpace, Endianness, Memory};
use flatview_cpu::{Cpu, Isa as _};

use crate::guest::Guest;
use crate::rsp::Rsp;
use crate::state::State;

pub trait Target {
    fn start_step(&mut self);
    /// From another address.
    fn start_step_at(&mut self, at: u32);
    /// The state behind the step.
    fn finish_step(&mut self) -> State;
    /// Whether interrupts wait while it is stepped.
    fn mask_interrupts(&mut self, masked: bool);
    fn registers(&mut self) -> State;
    /// Those that [`Guest::KEPT`] names are left as they are. On MIPS, QEMU clears the upper halves of registers of the FPU
    /// that are 64 bits wide.
    fn set_registers(&mut self, state: &State);
    /// By virtual address, as the CPU sees it now.
    fn read(&mut self, at: u32, len: usize) -> Option<Vec<u8>>;
    fn write(&mut self, at: u32, data: &[u8]);
    /// Goes on to one of the addresses.
    fn start_run(&mut self, until: &[u32]);
    fn finish_run(&mut self) -> State;
}

/// By gdb's protocol.
pub struct ByGdb<G: Guest> {
    rsp: Rsp,
    child: Child,
    order: Endianness,
    breakpoints: Vec<u32>,
    _folder: tempfile::TempDir,
    _guest: PhantomData<G>,
}

impl<G: Guest> Drop for ByGdb<G> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<G: Guest> ByGdb<G> {
    /// QEMU.
    pub fn qemu(order: Endianness) -> Self {
        Self::start(order, false)
    }

    /// `flatview`, on a board with RAM where QEMU's has it.
    pub fn ours(order: Endianness) -> Self {
        Self::start(order, true)
    }

    fn start(order: Endianness, ours: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gdb");
        let program = if ours { env!("CARGO_BIN_EXE_flatview") } else { G::qemu_program(order).0 };
        let mut command = Command::new(program);
        G::arguments(&mut command, ours, order, folder.path());
        command.args([
            "-S",
            "-nodefaults",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "none",
            "-gdb",
        ]);
        command.arg(format!("unix:{},server=on,wait=off", socket.display()));
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = command.spawn().unwrap();
        let began = Instant::now();
        let rsp = loop {
            match Rsp::unix(&socket) {
                Ok(rsp) => break rsp,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{command:?}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut this =
            Self { rsp, child, order, breakpoints: Vec::new(), _folder: folder, _guest: PhantomData };
        // Interrupts as always, but virtual time stands still in a step.
        this.rsp.tell("Qqemu.sstep=5");
        G::silence(&mut this, ours);
        this
    }

    /// Runs a few instructions that end in a loop of their last `end` bytes, with all registers as before: a debugger's own
    /// stores do not reach devices.
    pub fn run_code(&mut self, at: u32, code: &[u32], end: u32) {
        let big = self.order == Endianness::Big;
        let bytes: Vec<u8> =
            code.iter().flat_map(|w| if big { w.to_be_bytes() } else { w.to_le_bytes() }).collect();
        self.write(at, &bytes);
        let before = self.registers();
        let mut state = before.clone();
        state.set(G::PC, at);
        self.set_registers(&state);
        self.start_run(&[at + bytes.len() as u32 - end]);
        self.finish_run();
        self.set_registers(&before);
        self.write(at, &vec![0; bytes.len()]);
    }

    pub fn order(&self) -> Endianness {
        self.order
    }

    fn word(&self, hex: &str) -> u32 {
        let value = u32::from_str_radix(hex, 16).unwrap_or_default();
        if self.order == Endianness::Big { value } else { value.swap_bytes() }
    }

    fn state(&self, text: &str) -> State {
        let words = text.as_bytes().chunks(8).map(|hex| self.word(std::str::from_utf8(hex).unwrap()));
        State::from_words::<G>(words)
    }
}

impl<G: Guest> Target for ByGdb<G> {
    fn start_step(&mut self) {
        self.rsp.send("s");
    }

    fn start_step_at(&mut self, at: u32) {
        self.rsp.send(&format!("s{at:x}"));
    }

    fn finish_step(&mut self) -> State {
        let stop = self.rsp.answer();
        assert!(stop.starts_with("T05") || stop.starts_with("S05"), "a step ended with {stop:?}");
        self.registers()
    }

    fn mask_interrupts(&mut self, masked: bool) {
        self.rsp.tell(if masked { "Qqemu.sstep=7" } else { "Qqemu.sstep=5" });
    }

    fn registers(&mut self) -> State {
        let text = self.rsp.ask("g");
        self.state(&text)
    }

    fn set_registers(&mut self, state: &State) {
        let text = self.rsp.ask("g");
        let (mut request, now) = ("G".to_owned(), self.state(&text));
        for (n, word) in state.words().iter().enumerate() {
            let word = if G::KEPT.contains(&n) { now.words()[n] } else { *word };
            let word = if self.order == Endianness::Big { word } else { word.swap_bytes() };
            write!(request, "{word:08x}").unwrap();
        }
        // What follows the registers that are compared stays.
        request.push_str(&text[(request.len() - 1).min(text.len())..]);
        self.rsp.tell(&request);
    }

    fn read(&mut self, at: u32, len: usize) -> Option<Vec<u8>> {
        let mut data = Vec::with_capacity(len);
        while data.len() < len {
            let n = (len - data.len()).min(1024);
            data.extend(self.rsp.read(at.wrapping_add(data.len() as u32), n)?);
        }
        Some(data)
    }

    fn write(&mut self, at: u32, data: &[u8]) {
        self.rsp.write(at, data);
    }

    fn start_run(&mut self, until: &[u32]) {
        for at in until {
            self.rsp.tell(&format!("Z0,{at:x},4"));
        }
        self.breakpoints = until.to_vec();
        self.rsp.send("c");
    }

    fn finish_run(&mut self) -> State {
        let stop = self.rsp.answer();
        assert!(stop.starts_with("T05") || stop.starts_with("S05"), "a run ended with {stop:?}");
        for at in std::mem::take(&mut self.breakpoints) {
            self.rsp.tell(&format!("z0,{at:x},4"));
        }
        self.registers()
    }
}

/// Ours without a board: memory and a CPU.
pub struct InProcess<G: Guest> {
    pub cpu: Cpu<G::Cpu>,
    pub space: AddressSpace,
    _memory: Memory,
    until: Vec<u32>,
    masked: bool,
}

impl<G: Guest> InProcess<G> {
    pub fn new(order: Endianness) -> Self {
        let (cpu, memory, space) = G::cpu(order);
        Self { cpu, space, _memory: memory, until: Vec::new(), masked: false }
    }
}

impl<G: Guest> Target for InProcess<G> {
    fn start_step(&mut self) {}

    fn start_step_at(&mut self, at: u32) {
        let pc = G::Cpu::debug_registers().iter().position(|register| register.name == "pc").unwrap();
        self.cpu.set_debug_register(pc, at.into());
    }

    fn finish_step(&mut self) -> State {
        let _ = if self.masked { self.cpu.step_masked() } else { self.cpu.step() };
        self.registers()
    }

    fn mask_interrupts(&mut self, masked: bool) {
        self.masked = masked;
    }

    fn registers(&mut self) -> State {
        let all = G::Cpu::debug_registers().iter().enumerate();
        State::from_words::<G>(all.flat_map(|(n, register)| {
            let value = G::Cpu::debug_register(self.cpu.core(), n);
            let upper = (register.bits == 64).then_some((value >> 32) as u32);
            upper.into_iter().chain([value as u32])
        }))
    }

    fn set_registers(&mut self, state: &State) {
        let mut words = (0..).zip(state.words());
        for (n, register) in G::Cpu::debug_registers().iter().enumerate() {
            let Some((at, word)) = words.next() else { break };
            let mut value = u64::from(*word);
            if register.bits == 64 {
                value = value << 32 | u64::from(*words.next().unwrap().1);
            }
            if !G::KEPT.contains(&at) {
                self.cpu.set_debug_register(n, value);
            }
        }
    }

    fn read(&mut self, at: u32, len: usize) -> Option<Vec<u8>> {
        let mut data = vec![0; len];
        // Pages need not follow one another.
        let mut done = 0;
        while done < len {
            let at = at.wrapping_add(done as u32);
            let most = (0x1000 - (at as usize & 0xfff)).min(len - done);
            let phys = G::Cpu::physical(self.cpu.core(), at.into(), flatview_cpu::Kind::Read)?;
            self.space.reader().peek(phys, &mut data[done..done + most]).ok()?;
            done += most;
        }
        Some(data)
    }

    fn write(&mut self, at: u32, data: &[u8]) {
        self.space.reader().poke(G::physical(at).into(), data).unwrap();
        self.cpu.forget_code();
    }

    fn start_run(&mut self, until: &[u32]) {
        self.until = until.to_vec();
    }

    fn finish_run(&mut self) -> State {
        for at in &self.until {
            self.cpu.add_breakpoint((*at).into());
        }
        self.cpu.run(100_000_000);
        for at in std::mem::take(&mut self.until) {
            self.cpu.remove_breakpoint(at.into());
        }
        self.registers()
    }
}
