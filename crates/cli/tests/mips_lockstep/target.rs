//! A machine that is stepped: QEMU's and ours, both by gdb's protocol, or ours within this process.
//!
//! A step is one instruction, a branch and its delay slot being two; one that faults ends at its handler's first
//! instruction. What is asked for in two halves (`start_` and `finish_`) lets both
//! machines work at once.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flatview::{AddressSpace, Endianness, Memory, RamBlock, Region};
use flatview_cpu::mips::{Mips, MipsModel, PC};
use flatview_cpu::{Cpu, Isa as _};
use flatview_device::Clock;

use crate::random::asm;
use crate::rsp::Rsp;
use crate::state::{BAD, FIRST_FPR, PC_AT, SR, State, WITH_FPU};

/// RAM of both machines, from 0.
pub const RAM: u64 = 64 << 20;

pub trait Target {
    fn start_step(&mut self);
    /// From another address.
    fn start_step_at(&mut self, at: u32);
    /// The state behind the step.
    fn finish_step(&mut self) -> State;
    /// Whether interrupts wait while it is stepped.
    fn mask_interrupts(&mut self, masked: bool);
    fn registers(&mut self) -> State;
    /// Status and BadVAddr are left as they are. QEMU clears the upper halves of registers of the FPU that are 64 bits wide.
    fn set_registers(&mut self, state: &State);
    /// By virtual address, as the CPU sees it now.
    fn read(&mut self, at: u32, len: usize) -> Option<Vec<u8>>;
    fn write(&mut self, at: u32, data: &[u8]);
    /// Goes on to one of the addresses.
    fn start_run(&mut self, until: &[u32]);
    fn finish_run(&mut self) -> State;
}

/// By gdb's protocol.
pub struct ByGdb {
    rsp: Rsp,
    child: Child,
    order: Endianness,
    breakpoints: Vec<u32>,
    _folder: tempfile::TempDir,
}

impl Drop for ByGdb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ByGdb {
    fn start(mut command: Command, order: Endianness, folder: tempfile::TempDir, socket: &Path) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = command.spawn().unwrap();
        let began = Instant::now();
        let rsp = loop {
            match Rsp::unix(socket) {
                Ok(rsp) => break rsp,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{command:?}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { rsp, child, order, breakpoints: Vec::new(), _folder: folder }
    }

    pub fn qemu(order: Endianness, cpu: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gdb");
        let mut command = Command::new(super::qemu_program(order));
        command.args(["-M", "malta", "-cpu", cpu, "-m", "64", "-S", "-nodefaults", "-display", "none"]);
        command.args(["-monitor", "none", "-serial", "none", "-gdb"]);
        command.arg(format!("unix:{},server=on,wait=off", socket.display()));
        let mut this = Self::start(command, order, folder, &socket);
        // Interrupts as always, but virtual time stands still in a step.
        this.rsp.tell("Qqemu.sstep=5");
        // The GT-64120's registers are little-endian; PCI's ports go to 0x18000000.
        let gt = |value: u32| if order == Endianness::Big { value.swap_bytes() } else { value };
        this.silence(&[(0xb400_0048, gt(0x1800_0000 >> 21)), (0xb400_0050, gt(0x40))], 0xb800_0000);
        this
    }

    /// `flatview`, whose board `mips` has its RAM where `malta` has it.
    pub fn ours(order: Endianness, cpu: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (socket, firmware) = (folder.path().join("gdb"), folder.path().join("firmware"));
        // Without firmware the CPU does not run; this is never reached.
        std::fs::write(&firmware, [0; 64]).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_flatview"));
        let board = if order == Endianness::Big { "mips" } else { "mipsel" };
        command.args(["-M", board, "-cpu", cpu, "-m", "64", "-S", "-nodefaults", "-display", "none"]);
        command.args(["-monitor", "none", "-serial", "none", "-bios"]).arg(firmware).arg("-gdb");
        command.arg(format!("unix:{},server=on,wait=off", socket.display()));
        let mut this = Self::start(command, order, folder, &socket);
        this.rsp.tell("Qqemu.sstep=5");
        this.silence(&[], 0xb400_0000);
        this
    }

    /// Masks all interrupts of a board's devices, by a program: what a debugger writes does not reach devices. Before that,
    /// stores `words`; then the interrupt controllers are to be at `ports`.
    fn silence(&mut self, words: &[(u32, u32)], ports: u32) {
        const AT: u32 = 0x8000_8000;
        let mut code = Vec::new();
        let bytes = [(ports + 0x21, 0xff), (ports + 0xa1, 0xff)];
        for (store, (at, value)) in words.iter().map(|w| (0x2b, *w)).chain(bytes.map(|b| (0x28, b))) {
            code.extend(asm::li(8, at));
            code.extend(asm::li(9, value));
            code.push(asm::i(store, 8, 9, 0));
        }
        code.extend([asm::i(4, 0, 0, 0xffff), asm::NOP]);
        let big = self.order == Endianness::Big;
        let bytes: Vec<u8> =
            code.iter().flat_map(|w| if big { w.to_be_bytes() } else { w.to_le_bytes() }).collect();
        self.write(AT, &bytes);
        let before = self.registers();
        let mut state = before.clone();
        state.set(PC_AT, AT);
        self.set_registers(&state);
        self.start_run(&[AT + 4 * (code.len() as u32 - 2)]);
        self.finish_run();
        self.set_registers(&before);
        self.write(AT, &vec![0; bytes.len()]);
    }

    fn word(&self, hex: &str) -> u32 {
        let value = u32::from_str_radix(hex, 16).unwrap_or_default();
        if self.order == Endianness::Big { value } else { value.swap_bytes() }
    }

    fn state(&self, text: &str) -> State {
        let words = text.as_bytes().chunks(8).map(|hex| self.word(std::str::from_utf8(hex).unwrap()));
        State::from_words(words)
    }
}

impl Target for ByGdb {
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
        let kept = [SR, BAD];
        for (n, word) in state.words().iter().enumerate() {
            let word = if kept.contains(&n) { now.words()[n] } else { *word };
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

/// Ours without a board: RAM and a CPU.
pub struct InProcess {
    cpu: Cpu<Mips>,
    space: AddressSpace,
    until: Vec<u32>,
    masked: bool,
}

impl InProcess {
    pub fn new(order: Endianness, cpu: &str) -> Self {
        let memory = Memory::new(order);
        let ram = memory.add(Region::ram("ram", RamBlock::anonymous("ram", RAM).unwrap())).unwrap();
        memory.map(memory.system(), 0, ram).unwrap();
        let space = memory.memory_space();
        let model = MipsModel::find(cpu).unwrap();
        let cpu = Cpu::new(Mips::with_model(model, order, &Clock::stepped()), &memory, &space).unwrap();
        Self { cpu, space, until: Vec::new(), masked: false }
    }

    /// As after a reset: whether an instruction word at 0x80001000 is one that the CPU knows.
    pub fn knows(&mut self, word: u32) -> bool {
        const AT: u64 = 0x1000;
        self.space.reader().poke(AT, &word.to_be_bytes()).unwrap();
        self.cpu.forget_code();
        self.cpu.reset();
        let core = self.cpu.core_mut();
        // Both coprocessors, the FPU with 32 whole registers.
        core.isa.cp0.set_all_status(0x3400_0000);
        core.set(PC, 0x8000_0000 | AT);
        self.cpu.step();
        let core = self.cpu.core();
        let faulted = core.isa.cp0.status() & 2 != 0 && core.get(PC) >> 12 == 0x8_0000;
        !(faulted && core.isa.cp0.cause() >> 2 & 31 == 10)
    }
}

impl Target for InProcess {
    fn start_step(&mut self) {}

    fn start_step_at(&mut self, at: u32) {
        self.cpu.set_debug_register(PC_AT, at.into());
    }

    fn finish_step(&mut self) -> State {
        let _ = if self.masked { self.cpu.step_masked() } else { self.cpu.step() };
        self.registers()
    }

    fn mask_interrupts(&mut self, masked: bool) {
        self.masked = masked;
    }

    fn registers(&mut self) -> State {
        let fpu = self.cpu.core().isa.model().name == "24Kf";
        let all = if fpu { WITH_FPU } else { FIRST_FPR };
        State::from_words((0..all).map(|n| Mips::debug_register(self.cpu.core(), n) as u32))
    }

    fn set_registers(&mut self, state: &State) {
        for (n, word) in state.words().iter().enumerate() {
            if ![SR, BAD].contains(&n) {
                self.cpu.set_debug_register(n, (*word).into());
            }
        }
    }

    fn read(&mut self, at: u32, len: usize) -> Option<Vec<u8>> {
        let mut data = vec![0; len];
        let phys = Mips::physical(self.cpu.core(), at.into(), flatview_cpu::Kind::Read)?;
        self.space.reader().peek(phys, &mut data).ok()?;
        Some(data)
    }

    fn write(&mut self, at: u32, data: &[u8]) {
        self.space.reader().poke(u64::from(at & 0x1fff_ffff), data).unwrap();
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
