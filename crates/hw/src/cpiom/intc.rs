//! `cpiom-intc`: the interrupt controller.
//!
//! Three banks of 32 lines each: RST drives the CPU's soft reset, MCP its machine check and ITN its external interrupt.
//! A line is pending while it is high (LEVEL bit set) or from its rising edge until a 1 is written to its PENDING bit
//! (LEVEL bit clear); edges are latched whatever ENABLE and MASK say. Of a bank's lines that are pending, enabled and
//! not masked, the one with the lowest PRIORITY wins, of equals the one with the lowest number; a bank's output is high
//! while there is a winner. While FREEZE is set the outputs stay as they are; everything else goes on.
//!
//! It has no acknowledge cycle and no nesting: a handler reads CURRENT, and writes MASK or PRIORITY if it wants to be
//! interrupted by some and not by others. What must always hold: outputs are a function of registers and levels, or
//! what they were when FREEZE was set; a PENDING bit of a level line is that line's level.

use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use flatview::{Owner, Region};
use flatview_device::bank::{Banked, Written};
use flatview_device::{
    Bank, DeviceCell, Effects, IrqLine, Log, QtreeDevice, Register, RegisterInfo, Registers, Reset,
};
use serde::{Deserialize, Serialize};

use super::RULES;

/// Input lines of a bank.
pub const LINES: usize = 32;
/// What CURRENT reads without a winning line.
pub const NONE: u64 = 0x3f;
/// Bytes of the register region.
const REGION: u128 = 0x1000;
const BANKS: usize = 3;
const WORD: u64 = 0xffff_ffff;

/// One of the three banks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntcBank {
    /// Soft reset.
    Rst,
    /// Machine check.
    Mcp,
    /// External interrupt.
    Itn,
}

impl IntcBank {
    /// All, in the order of their registers.
    pub const ALL: [IntcBank; BANKS] = [IntcBank::Rst, IntcBank::Mcp, IntcBank::Itn];

    /// Its name, as in the names of its input lines.
    pub fn name(self) -> &'static str {
        match self {
            IntcBank::Rst => "rst",
            IntcBank::Mcp => "mcp",
            IntcBank::Itn => "itn",
        }
    }

    /// The name of its output.
    pub fn output_name(self) -> &'static str {
        match self {
            IntcBank::Rst => "sreset",
            IntcBank::Mcp => "mcp",
            IntcBank::Itn => "int",
        }
    }
}

const FREEZE: usize = 0;
/// Registers of a bank, from its first one.
const PENDING: usize = 0;
const ENABLE: usize = 1;
const MASK: usize = 2;
const LEVEL: usize = 3;
const PRIORITY: usize = 4;
const PRIORITY_WORDS: usize = LINES / 4;
const BANK_REGISTERS: usize = PRIORITY + PRIORITY_WORDS + 1;

/// The place of a bank's register in the table.
const fn place(bank: usize, register: usize) -> usize {
    1 + bank * BANK_REGISTERS + register
}

macro_rules! bank {
    ($number:literal, $name:literal, $at:literal) => {
        [
            Register::new(concat!($name, "_PENDING"), $at)
                .write_1_clears(WORD)
                .shown(|state: &State, _| state.saved.pending($number).into())
                .on_write(State::written),
            Register::new(concat!($name, "_ENABLE"), $at + 0x04).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_MASK"), $at + 0x08).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_LEVEL"), $at + 0x0c)
                .writable(WORD)
                .on_write(State::level_written::<$number>),
            Register::new(concat!($name, "_PRIORITY0"), $at + 0x10).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_PRIORITY1"), $at + 0x14).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_PRIORITY2"), $at + 0x18).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_PRIORITY3"), $at + 0x1c).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_PRIORITY4"), $at + 0x20).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_PRIORITY5"), $at + 0x24).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_PRIORITY6"), $at + 0x28).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_PRIORITY7"), $at + 0x2c).writable(WORD).on_write(State::written),
            Register::new(concat!($name, "_CURRENT"), $at + 0x30)
                .reset(NONE)
                .shown(|state: &State, _| state.saved.current($number)),
        ]
    };
}

/// The registers of `cpiom-intc`.
static REGISTERS: LazyLock<Vec<Register<State>>> = LazyLock::new(|| {
    let freeze = Register::new("FREEZE", 0).writable(1).on_write(State::written);
    let banks = [bank!(0, "RST", 0x100), bank!(1, "MCP", 0x200), bank!(2, "ITN", 0x300)];
    std::iter::once(freeze).chain(banks.into_iter().flatten()).collect()
});

/// Its registers, by region.
pub(super) fn register_tables() -> Vec<(&'static str, Vec<RegisterInfo>)> {
    vec![("cpiom-intc", REGISTERS.iter().map(Register::info).collect())]
}

/// What is saved of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntcState {
    /// Values of the registers; those of PENDING are the latched edges of edge lines.
    registers: Registers,
    /// Levels of the input lines, a word for each bank.
    levels: [u32; BANKS],
    /// Levels of the outputs.
    outputs: [bool; BANKS],
}

impl IntcState {
    fn get(&self, bank: usize, register: usize) -> u32 {
        self.registers.get(place(bank, register)) as u32
    }

    fn levels(&self, bank: usize) -> u32 {
        self.levels.get(bank).copied().unwrap_or(0)
    }

    fn pending(&self, bank: usize) -> u32 {
        let level = self.get(bank, LEVEL);
        self.get(bank, PENDING) & !level | self.levels(bank) & level
    }

    fn priority(&self, bank: usize, line: usize) -> u8 {
        (self.get(bank, PRIORITY + line / 4) >> (line % 4 * 8)) as u8
    }

    /// The line that a bank's output is for.
    fn winner(&self, bank: usize) -> Option<usize> {
        let asking = self.pending(bank) & self.get(bank, ENABLE) & !self.get(bank, MASK);
        let lines = (0..LINES).filter(|line| asking >> line & 1 != 0);
        // Of equals, `min_by_key` takes the first.
        lines.min_by_key(|line| self.priority(bank, *line))
    }

    fn current(&self, bank: usize) -> u64 {
        self.winner(bank).map_or(NONE, |line| line as u64)
    }

    fn set_level(&mut self, bank: usize, line: usize, level: bool) {
        let Some(levels) = self.levels.get_mut(bank) else { return };
        let bit = 1_u32 << (line % LINES);
        let rises = level && *levels & bit == 0;
        *levels = if level { *levels | bit } else { *levels & !bit };
        if rises && self.get(bank, LEVEL) & bit == 0 {
            let latched = self.get(bank, PENDING) | bit;
            self.registers.set(place(bank, PENDING), latched.into());
        }
    }
}

struct State {
    saved: IntcState,
    lines: [IrqLine; BANKS],
}

impl Banked for State {
    fn registers(&self) -> &Registers {
        &self.saved.registers
    }
    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.saved.registers
    }
}

impl State {
    /// The outputs follow registers and levels, unless they are frozen.
    fn drive(&mut self, effects: &mut Effects) {
        if self.saved.registers.get(FREEZE) & 1 != 0 {
            return;
        }
        for (bank, line) in self.lines.iter().enumerate() {
            let level = self.saved.winner(bank).is_some();
            let Some(output) = self.saved.outputs.get_mut(bank) else { continue };
            if *output != level {
                *output = level;
                effects.line(line, level);
            }
        }
    }

    fn written(&mut self, effects: &mut Effects, _written: Written) {
        self.drive(effects);
    }

    /// A latched edge does not outlive its line's being made a level line.
    fn level_written<const BANK: usize>(&mut self, effects: &mut Effects, written: Written) {
        let latched = self.saved.registers.get(place(BANK, PENDING));
        self.saved.registers.set(place(BANK, PENDING), latched & !written.new);
        self.drive(effects);
    }
}

/// The controller.
pub struct Intc {
    cell: Arc<DeviceCell<State>>,
    inputs: [Vec<IrqLine>; BANKS],
    outputs: [IrqLine; BANKS],
    log: Log,
}

impl fmt::Debug for Intc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intc").field("state", &self.save()).finish_non_exhaustive()
    }
}

impl Intc {
    /// A controller at power on, with low inputs.
    pub fn new(log: &Log) -> Arc<Intc> {
        let outputs =
            IntcBank::ALL.map(|bank| IrqLine::new(format!("cpiom-intc.{}.out", bank.output_name())));
        let inputs = IntcBank::ALL.map(|bank| {
            let name = |line| format!("cpiom-intc.{}[{line}]", bank.name());
            (0..LINES).map(|line| IrqLine::new(name(line))).collect::<Vec<_>>()
        });
        let saved = IntcState {
            registers: Registers::at_reset(&REGISTERS),
            levels: [0; BANKS],
            outputs: [false; BANKS],
        };
        let cell = Arc::new(DeviceCell::new(State { saved, lines: outputs.clone() }));
        for (bank, lines) in inputs.iter().enumerate() {
            for (line, input) in lines.iter().enumerate() {
                let weak = Arc::downgrade(&cell);
                input.connect(move |level| {
                    if let Some(cell) = weak.upgrade() {
                        cell.with(|state, effects| {
                            state.saved.set_level(bank, line, level);
                            state.drive(effects);
                        });
                    }
                });
            }
        }
        Arc::new(Intc { cell, inputs, outputs, log: log.clone() })
    }

    /// The registers.
    pub fn region(&self, owner: &Owner) -> Region {
        let bank = Bank::new("cpiom-intc", &self.cell, &REGISTERS, RULES, &self.log);
        Region::io("cpiom-intc", REGION, bank).owner(owner)
    }

    /// The 32 input lines of a bank.
    pub fn inputs(&self, bank: IntcBank) -> &[IrqLine] {
        let [rst, mcp, itn] = &self.inputs;
        match bank {
            IntcBank::Rst => rst,
            IntcBank::Mcp => mcp,
            IntcBank::Itn => itn,
        }
    }

    /// High while a line of the bank is to be served: to the CPU's soft reset, machine check or external interrupt.
    pub fn output(&self, bank: IntcBank) -> &IrqLine {
        let [rst, mcp, itn] = &self.outputs;
        match bank {
            IntcBank::Rst => rst,
            IntcBank::Mcp => mcp,
            IntcBank::Itn => itn,
        }
    }

    /// What has to be kept to go on later as now.
    pub fn save(&self) -> IntcState {
        self.cell.peek(|state| state.saved.clone())
    }

    /// Goes on from what was saved; the outputs are driven accordingly, the inputs are others' to drive.
    pub fn restore(&self, saved: IntcState) {
        self.cell.with(|state, effects| {
            state.saved = saved;
            for (line, level) in state.lines.iter().zip(state.saved.outputs) {
                effects.line(line, level);
            }
        });
    }

    /// The entry in `info qtree`; the board adds where the registers stand.
    pub fn qtree(&self) -> QtreeDevice {
        let device = IntcBank::ALL
            .into_iter()
            .fold(QtreeDevice::new("cpiom-intc"), |device, bank| device.gpio_in(bank.name(), LINES));
        IntcBank::ALL.into_iter().fold(device, |device, bank| device.gpio_out(bank.output_name(), 1))
    }

    /// What `info pic` says: a line for each bank, all numbers hexadecimal.
    pub fn describe(&self) -> String {
        let saved = self.save();
        let mut text = String::new();
        let frozen = saved.registers.get(FREEZE);
        for (n, bank) in IntcBank::ALL.into_iter().enumerate() {
            let output = saved.outputs.get(n).copied().unwrap_or(false);
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "cpiom-intc {}: pending={:08x} enable={:08x} mask={:08x} level={:08x} lines={:08x} current={:02x} {}={} freeze={frozen}",
                bank.name(),
                saved.pending(n),
                saved.get(n, ENABLE),
                saved.get(n, MASK),
                saved.get(n, LEVEL),
                saved.levels(n),
                saved.current(n),
                bank.output_name(),
                u8::from(output),
            );
        }
        text
    }
}

impl Reset for Intc {
    /// Registers to 0 and outputs low. The inputs are driven by others, so their levels are what they are; a line that
    /// is high already is no edge.
    fn reset(&self) {
        self.cell.with(|state, effects| {
            state.saved.registers = Registers::at_reset(&REGISTERS);
            state.drive(effects);
        });
    }
}
