//! MIPS32 release 2, as the 24K cores have it: integer instructions, CP0, a TLB of 16 entries, an FPU in the 24Kf; and an
//! R4000 that stays in its 32-bit mode.
//!
//! Where things are: `model` says which CPUs there are, `level` which instructions each has, `translate` turns code into blocks, `cp0` has the system registers,
//! `mmu` the TLB and the address map, `fpu` coprocessor 1, `helpers` what other single instructions do in Rust, `except` how
//! exceptions are taken, `gdb` the registers as debuggers number them, `look` and `disassemble` what monitors show, `trace`
//! what is logged. The words and section numbers are those of
//! *MIPS32 Architecture For Programmers*, volumes I to III (MD00082, MD00086, MD00090), revision 2, and of the *24K Core
//! Family Software User's Manual* (MD00343).
//!
//! Not modelled: MIPS16e (Config1.CA is 0: `jalx` is a reserved instruction, an odd address an address error), shadow register sets beyond the one every core has, caches (cache
//! instructions are done at once), watch registers, what a debugger's probe needs
//! of EJTAG (SDBBP, DERET and the registers of debug mode are there), the R4000's 64-bit mode.

mod cp0;
mod disassemble;
mod except;
mod fpu;
mod gdb;
mod helpers;
mod level;
mod look;
mod mmu;
mod model;
mod trace;
mod translate;

use std::sync::Arc;

use flatview::Endianness;
use flatview_device::{Clock, LogMask, Timer};

use crate::core::Core;
use crate::debug::DebugRegister;
use crate::disassemble::Disassembler;
use crate::inputs::Inputs;
use crate::ir::{Code, Var};
use crate::isa::{BusError, Fetch, Helper, Isa, Place};
use crate::tlb::{Kind, Mapping};

pub(crate) use disassemble::disassemble;
pub(crate) use translate::knows;

pub use cp0::Cp0;
pub use except::{Exception, Fault};
pub use fpu::{FCSR, fpr};
pub use mmu::TlbEntry;
pub use model::MipsModel;

/// The high half of a product, and the remainder.
pub const HI: Var = Var::slot(32);
/// The low half of a product, and the quotient.
pub const LO: Var = Var::slot(33);
/// The address of the next instruction.
pub const PC: Var = Var::slot(34);
/// Where the branch goes whose delay slot is next.
const TARGET: Var = Var::slot(35);
/// Whether the next instruction is in a delay slot.
const DELAYED: Var = Var::slot(36);

/// The general register `n` of 32.
#[must_use]
pub const fn gpr(n: u32) -> Var {
    Var::slot((n & 31) as u8)
}

/// The line on which the CPU's own timer interrupts, beside lines 2 to 7 from outside.
const TIMER_LINE: u32 = 16;
/// CP0 Count goes up at 100 MHz.
const NS_PER_COUNT: i64 = 10;

/// What a MIPS CPU has besides its general registers.
#[derive(Debug)]
pub struct Mips {
    model: &'static MipsModel,
    big: bool,
    /// The system registers.
    pub cp0: Cp0,
    /// The TLB.
    pub tlb: Vec<TlbEntry>,
    /// The address and value of a load linked that no exception return has undone.
    linked: Option<(u32, u32)>,
    waiting: bool,
    clock: Clock,
    timer: Option<Timer>,
}

impl Mips {
    /// The CPU that boards usually have; its Count register follows a clock.
    #[must_use]
    pub fn new(order: Endianness, clock: &Clock) -> Self {
        Self::with_model(MipsModel::usual(), order, clock)
    }

    /// A CPU of a model; its Count register follows a clock.
    #[must_use]
    pub fn with_model(model: &'static MipsModel, order: Endianness, clock: &Clock) -> Self {
        Self {
            model,
            big: order == Endianness::Big,
            cp0: Cp0::default(),
            tlb: vec![TlbEntry::default(); model.tlb_entries],
            linked: None,
            waiting: false,
            clock: clock.clone(),
            timer: None,
        }
    }

    /// Which CPU it is.
    #[must_use]
    pub fn model(&self) -> &'static MipsModel {
        self.model
    }

    /// Lets the timer interrupt: to be called once, with the inputs of the CPU that this is part of.
    fn connect_timer(&mut self, inputs: &Arc<Inputs>) {
        let inputs = Arc::downgrade(inputs);
        self.timer = Some(self.clock.timer(move || {
            if let Some(inputs) = inputs.upgrade() {
                inputs.set_level(TIMER_LINE, true);
            }
        }));
    }
}

/// Bits of the mode.
mod mode {
    pub const DELAYED: u32 = 1;
    pub const CP0_USABLE: u32 = 2;
    /// From here on two bits: which MMU.
    pub const MMU_SHIFT: u32 = 2;
    pub const CP1_USABLE: u32 = 1 << 4;
    pub const WHOLE_FPRS: u32 = 1 << 5;
}

impl Isa for Mips {
    type Fault = Fault;

    fn helpers() -> &'static [Helper<Self>] {
        helpers::ALL
    }

    fn place(core: &Core<Self>) -> Place {
        Place { pc: core.get(PC), delayed: core.get(DELAYED) != 0 }
    }

    #[inline(always)]
    fn go_to(core: &mut Core<Self>, pc: u64) {
        core.set(PC, pc);
        core.set(DELAYED, 0);
    }

    fn mode(core: &Core<Self>) -> u32 {
        let usable = core.isa.cp0.is_usable();
        core.get32(DELAYED) & mode::DELAYED
            | if usable { mode::CP0_USABLE } else { 0 }
            | u32::from(core.isa.cp0.mmu()) << mode::MMU_SHIFT
            | if core.isa.cp0.is_fpu_usable() { mode::CP1_USABLE } else { 0 }
            | if core.isa.cp0.has_whole_fprs() { mode::WHOLE_FPRS } else { 0 }
    }

    fn fetch_mmu(core: &Core<Self>) -> u8 {
        core.isa.cp0.mmu()
    }

    fn translate(
        core: &Core<Self>,
        pc: u64,
        most: usize,
        fetch: &mut Fetch<'_, Fault>,
    ) -> Result<Code, Fault> {
        translate::block(core, pc, most, fetch)
    }

    fn map(core: &mut Core<Self>, va: u64, kind: Kind, mmu: u8) -> Result<Mapping, Fault> {
        let result = core.isa.map(va as u32, kind, mmu);
        if core.logs(LogMask::MMU) {
            trace::mapped(core, va as u32, &result);
        }
        result
    }

    fn misaligned(_: &Core<Self>, va: u64, kind: Kind) -> Fault {
        Fault::address(va as u32, kind)
    }

    fn bus_error(_: &Core<Self>, error: &BusError) -> Option<Fault> {
        Some(Fault::of(if error.kind == Kind::Fetch {
            Exception::BusErrorFetch
        } else {
            Exception::BusErrorData
        }))
    }

    fn enter(core: &mut Core<Self>, fault: Fault, place: Place) {
        let logs = core.logs(LogMask::INT);
        if logs {
            trace::raised(core, &fault, place);
        }
        except::enter(core, fault, place);
        if logs {
            trace::taken(core, &fault);
        }
    }

    fn interrupt(core: &mut Core<Self>) -> Option<Fault> {
        let levels = core.inputs().levels();
        core.isa.cp0.set_lines(levels);
        core.isa.cp0.takes_interrupt().then(|| Fault::of(Exception::Interrupt))
    }

    fn is_waiting(core: &Core<Self>) -> bool {
        core.isa.waiting
    }

    fn wakes(core: &mut Core<Self>) -> bool {
        let levels = core.inputs().levels();
        core.isa.cp0.set_lines(levels);
        let wakes = core.isa.cp0.has_interrupt();
        core.isa.waiting &= !wakes;
        wakes
    }

    fn registers(core: &Core<Self>) -> String {
        const NAMES: [&str; 32] = [
            "r0", "at", "v0", "v1", "a0", "a1", "a2", "a3", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7",
            "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "t8", "t9", "k0", "k1", "gp", "sp", "s8", "ra",
        ];
        let v = |var| core.get32(var);
        let mut text = format!(
            "pc=0x{:08x} HI=0x{:08x} LO=0x{:08x} ds {:04x} {:08x} {}\n",
            v(PC),
            v(HI),
            v(LO),
            v(DELAYED),
            v(TARGET),
            v(DELAYED),
        );
        for (n, name) in (0..).zip(NAMES) {
            if n % 4 == 0 {
                text.push_str(&format!("GPR{n:02}:"));
            }
            text.push_str(&format!(" {name} {:08x}", v(gpr(n))));
            if n % 4 == 3 {
                text.push('\n');
            }
        }
        let (cp0, config) = (&core.isa.cp0, |n| helpers::cp0_register(core, 16, n));
        text.push_str(&format!(
            "CP0 Status  0x{:08x} Cause   0x{:08x} EPC    0x{:08x}\n    Config0 0x{:08x} Config1 0x{:08x} LLAddr 0x{:08x}\n    Config2 0x{:08x} Config3 0x{:08x}\n",
            cp0.status(), cp0.cause(), cp0.epc, config(0), config(1), cp0.ll_addr, config(2), config(3),
        ));
        text
    }

    fn disassembler(core: &Core<Self>) -> Disassembler {
        Disassembler::Mips(core.isa.model, Self::debug_order(core))
    }

    fn tlb(core: &Core<Self>) -> String {
        look::tlb(&core.isa)
    }

    fn mappings(core: &Core<Self>) -> String {
        look::mappings(&core.isa)
    }

    fn physical(core: &Core<Self>, va: u64, kind: Kind) -> Option<u64> {
        core.isa.map(va as u32, kind, core.isa.cp0.mmu()).ok().map(|m| m.phys)
    }

    fn debug_architecture() -> &'static str {
        "mips"
    }

    fn debug_registers() -> &'static [DebugRegister] {
        &gdb::REGISTERS
    }

    fn debug_register(core: &Core<Self>, n: usize) -> u64 {
        gdb::register(core, n)
    }

    fn set_debug_register(core: &mut Core<Self>, n: usize, value: u64) {
        gdb::set_register(core, n, value);
    }

    fn debug_order(core: &Core<Self>) -> Endianness {
        if core.isa.big { Endianness::Big } else { Endianness::Little }
    }

    fn reset(core: &mut Core<Self>) {
        if core.isa.timer.is_none() {
            let inputs = Arc::clone(core.inputs());
            core.isa.connect_timer(&inputs);
        }
        core.clear();
        let isa = &mut core.isa;
        isa.cp0 = Cp0::at_reset(isa.model, isa.big);
        isa.tlb.fill(TlbEntry::default());
        isa.linked = None;
        isa.waiting = false;
        if let Some(timer) = &isa.timer {
            timer.cancel();
        }
        core.inputs().set_level(TIMER_LINE, false);
        core.set(PC, except::RESET.into());
    }
}
