//! What a PowerPC keeps besides its general registers: MSR, special-purpose registers, time.
//!
//! What it is: the values, and what follows from them at once (which MMU, which mode of translation, when the decrementer
//! interrupts). What it is not: which instruction may change what (`spr`), or translation of addresses (`mmu`). What must
//! always hold: the mode is that of MSR and the registers that say how code is translated.

use std::sync::Arc;

use flatview_device::{Clock, Log, LogMask, Timer};

use super::mmu::SoftTlb;
use super::model::{Family, PpcModel};
use super::spr::number;
use super::{CTR, DAR, DEC_LINE, DSISR, FPSCR, LR, PC, SPRG, SRR0, SRR1, cr, fpr, gpr, xer};
use crate::core::Core;
use crate::inputs::Inputs;
use crate::tlb::Kind;

/// Bits of MSR (PEM, section 2.3.1).
pub(super) mod msr {
    pub const POW: u32 = 1 << 18;
    pub const ILE: u32 = 1 << 16;
    pub const EE: u32 = 1 << 15;
    pub const PR: u32 = 1 << 14;
    pub const FP: u32 = 1 << 13;
    pub const ME: u32 = 1 << 12;
    pub const FE0: u32 = 1 << 11;
    pub const SE: u32 = 1 << 10;
    pub const BE: u32 = 1 << 9;
    pub const FE1: u32 = 1 << 8;
    pub const IP: u32 = 1 << 6;
    pub const IR: u32 = 1 << 5;
    pub const DR: u32 = 1 << 4;
    pub const PM: u32 = 1 << 2;
    pub const RI: u32 = 1 << 1;
    pub const LE: u32 = 1;
    /// Those that can be set; byte order is not among them.
    pub const WRITABLE: u32 = POW | EE | PR | FP | ME | FE0 | SE | BE | FE1 | IP | IR | DR | PM | RI;
}

/// Bits of the mode of translation.
pub(super) mod mode {
    pub const USER: u32 = 1;
    pub const DATA: u32 = 2;
    pub const CODE: u32 = 4;
    pub const FP: u32 = 8;
    pub const STEP: u32 = 16;
    pub const BRANCHES: u32 = 32;
    pub const BREAKPOINT: u32 = 64;
}

/// What an access that no device or memory takes comes to, which the board decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BusErrors {
    /// Loads give 0, stores are lost, as on the 40p.
    Ignore,
    /// A machine check.
    #[default]
    MachineCheck,
}

/// A PowerPC beside its general registers.
#[derive(Debug)]
pub struct Ppc {
    pub(super) model: &'static PpcModel,
    pub(super) bus_errors: BusErrors,
    msr: u32,
    mode: u32,
    /// The segment registers.
    pub(super) segments: [u32; 16],
    /// Special-purpose registers that only keep a value.
    pub(super) sprs: Box<[u32; 1024]>,
    /// The TLBs that software fills, 755 only: instructions, data.
    pub(super) soft_tlbs: [SoftTlb; 2],
    /// The address and value of a reservation.
    pub(super) reservation: Option<(u32, u32)>,
    /// An instruction that is traced is done.
    pub(super) traced: bool,
    pub(super) waiting: bool,
    pub(super) checkstop: bool,
    /// Lines from outside that went up, and were not yet acted on.
    pub(super) edges: u32,
    pub(super) log: Log,
    told_of_order: bool,
    clock: Clock,
    ticks_per_second: u64,
    timer: Option<Timer>,
    /// The time base, and the decrementer, less the ticks of the clock.
    time_base: u64,
    decrementer: u32,
}

impl Ppc {
    /// The external interrupt, a level.
    pub const EXTERNAL: u32 = 0;
    /// The soft reset pin, an edge.
    pub const SOFT_RESET: u32 = 1;
    /// The machine check pin, an edge; HID0\[EMCP\] lets it through.
    pub const MACHINE_CHECK: u32 = 2;
    /// The system management pin, an edge.
    pub const SYSTEM_MANAGEMENT: u32 = 3;

    pub(super) const RESET_LINE: u32 = 1 << Self::SOFT_RESET;
    pub(super) const MCP_LINE: u32 = 1 << Self::MACHINE_CHECK;
    pub(super) const SMI_LINE: u32 = 1 << Self::SYSTEM_MANAGEMENT;

    /// A processor whose time base and decrementer count a clock's time at `ticks_per_second` (at least 1).
    #[must_use]
    pub fn new(model: &'static PpcModel, clock: &Clock, ticks_per_second: u64) -> Self {
        Self {
            model,
            bus_errors: BusErrors::default(),
            msr: msr::IP,
            mode: 0,
            segments: [0; 16],
            sprs: Box::new([0; 1024]),
            soft_tlbs: [SoftTlb::default(), SoftTlb::default()],
            reservation: None,
            traced: false,
            waiting: false,
            checkstop: false,
            edges: 0,
            log: Log::none(),
            told_of_order: false,
            clock: clock.clone(),
            ticks_per_second: ticks_per_second.max(1),
            timer: None,
            time_base: 0,
            decrementer: u32::MAX,
        }
    }

    /// The same with what the board does to accesses that nobody takes.
    #[must_use]
    pub fn with_bus_errors(self, bus_errors: BusErrors) -> Self {
        Self { bus_errors, ..self }
    }

    /// The same with a log for what is not modelled and what the guest does wrong.
    #[must_use]
    pub fn with_log(self, log: &Log) -> Self {
        Self { log: log.clone(), ..self }
    }

    /// Which processor it is.
    #[must_use]
    pub fn model(&self) -> &'static PpcModel {
        self.model
    }

    /// Whether it stands still for good, after a machine check with MSR\[ME\] = 0.
    #[must_use]
    pub fn is_checkstop(&self) -> bool {
        self.checkstop
    }

    /// The machine state register.
    #[must_use]
    pub fn msr(&self) -> u32 {
        self.msr
    }

    /// Sets the machine state register; bits that do not exist stay 0.
    pub fn set_msr(&mut self, value: u32) {
        self.msr = value & msr::WRITABLE;
        self.find_mode();
    }

    /// `mtmsr` and `rfi`: byte order is refused, and MSR\[POW\] waits.
    pub(super) fn write_msr(&mut self, value: u32) {
        if value & (msr::LE | msr::ILE) != 0 && !self.told_of_order {
            self.told_of_order = true;
            self.log.line(
                LogMask::UNIMP,
                format_args!(
                    "{}: MSR[LE] and MSR[ILE] (little-endian mode) are not modelled: they stay 0 (MSR {value:#010x} was to be set)",
                    self.model.name
                ),
            );
        }
        self.set_msr(value);
        if self.msr & msr::POW != 0 {
            // The 604 naps; the 755 does what HID0[DOZE, NAP, SLEEP] says, and else nothing.
            self.waiting = self.model.family == Family::Ppc604 || self.hid0() & 0x00e0_0000 != 0;
            if !self.waiting {
                self.set_msr(self.msr & !msr::POW);
            }
        }
    }

    /// What decides how code is translated, from the registers.
    pub(super) fn find_mode(&mut self) {
        let pairs = [
            (msr::PR, mode::USER),
            (msr::DR, mode::DATA),
            (msr::IR, mode::CODE),
            (msr::FP, mode::FP),
            (msr::SE, mode::STEP),
            (msr::BE, mode::BRANCHES),
        ];
        let of_msr = |(bit, mode)| if self.msr & bit != 0 { mode } else { 0 };
        let breakpoint = if self.spr(number::IABR) & 2 != 0 { mode::BREAKPOINT } else { 0 };
        self.mode = pairs.into_iter().map(of_msr).fold(breakpoint, |all, bit| all | bit);
    }

    #[inline(always)]
    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    /// Which of the address maps holds: bit 0 user, bit 1 translated.
    pub(super) fn mmu_of(&self, kind: Kind) -> u8 {
        let translated = self.mode & if kind == Kind::Fetch { mode::CODE } else { mode::DATA } != 0;
        u8::from(translated) << 1 | u8::from(self.mode & mode::USER != 0)
    }

    /// A special-purpose register that only keeps a value.
    pub(super) fn spr(&self, number: u32) -> u32 {
        self.sprs.get(number as usize).copied().unwrap_or(0)
    }

    pub(super) fn keep_spr(&mut self, number: u32, value: u32) {
        if let Some(place) = self.sprs.get_mut(number as usize) {
            *place = value;
        }
    }

    pub(super) fn hid0(&self) -> u32 {
        self.spr(number::HID0)
    }

    /// As by the hard reset line.
    pub(super) fn reset(&mut self) {
        *self.sprs = [0; 1024];
        self.segments = [0; 16];
        self.soft_tlbs = [SoftTlb::default(), SoftTlb::default()];
        (self.reservation, self.traced, self.waiting, self.checkstop) = (None, false, false, false);
        self.edges = 0;
        self.keep_spr(number::PVR, self.model.pvr);
        self.set_msr(msr::IP);
        self.time_base = 0_u64.wrapping_sub(self.ticks());
        self.set_decrementer(u32::MAX);
    }

    /// Lets the decrementer interrupt: once, with the inputs of the CPU that this is part of.
    pub(super) fn connect_timer(&mut self, inputs: &Arc<Inputs>) {
        if self.timer.is_some() {
            return;
        }
        let inputs = Arc::downgrade(inputs);
        self.timer = Some(self.clock.timer(move || {
            if let Some(inputs) = inputs.upgrade() {
                inputs.set_level(DEC_LINE, true);
            }
        }));
    }

    /// Ticks since the clock's beginning.
    fn ticks(&self) -> u64 {
        let ns = u128::try_from(self.clock.now()).unwrap_or(0);
        (ns * u128::from(self.ticks_per_second) / 1_000_000_000) as u64
    }

    /// The time base.
    #[must_use]
    pub fn time_base(&self) -> u64 {
        self.ticks().wrapping_add(self.time_base)
    }

    pub(super) fn set_time_base(&mut self, value: u64) {
        self.time_base = value.wrapping_sub(self.ticks());
    }

    /// The decrementer.
    #[must_use]
    pub fn decrementer(&self) -> u32 {
        self.decrementer.wrapping_sub(self.ticks() as u32)
    }

    pub(super) fn set_decrementer(&mut self, value: u32) {
        self.decrementer = value.wrapping_add(self.ticks() as u32);
        self.arm();
    }

    /// Has the decrementer interrupt when it next goes below 0.
    pub(super) fn arm(&self) {
        let Some(timer) = &self.timer else { return };
        let at = u128::from(self.ticks()) + u128::from(self.decrementer()) + 1;
        let ns = (at * 1_000_000_000).div_ceil(u128::from(self.ticks_per_second));
        timer.arm(i64::try_from(ns).unwrap_or(i64::MAX));
    }
}

/// What `info registers` prints.
pub(super) fn registers(core: &Core<Ppc>) -> String {
    let isa = &core.isa;
    let v = |var| core.get32(var);
    let mut text = format!(
        "NIP {:08x}   LR {:08x} CTR {:08x} XER {:08x} CPU#0\nMSR {:08x} HID0 {:08x}  HF {:08x} iidx {} didx {}\n",
        v(PC),
        v(LR),
        v(CTR),
        xer(core),
        isa.msr(),
        isa.hid0(),
        isa.mode(),
        isa.mmu_of(Kind::Fetch),
        isa.mmu_of(Kind::Read),
    );
    let time = isa.time_base();
    text.push_str(&format!(
        "TB {:08x} {:08x} DECR {}\n",
        (time >> 32) as u32,
        time as u32,
        isa.decrementer()
    ));
    let rows = |text: &mut String, name: &str, value: &dyn Fn(u32) -> u64| {
        for n in 0..32 {
            if n % 4 == 0 {
                text.push_str(&format!("{name}{n:02}"));
            }
            text.push_str(&format!(" {:016x}", value(n)));
            if n % 4 == 3 {
                text.push('\n');
            }
        }
    };
    rows(&mut text, "GPR", &|n| core.get(gpr(n)));
    let word = cr(core);
    text.push_str(&format!("CR {word:08x}  ["));
    for field in (0..8).map(|n| word >> (28 - 4 * n) & 15) {
        let order = match field {
            f if f & 8 != 0 => 'L',
            f if f & 4 != 0 => 'G',
            f if f & 2 != 0 => 'E',
            _ => '-',
        };
        text.push_str(&format!(" {order}{}", if field & 1 != 0 { 'O' } else { ' ' }));
    }
    let reserved = isa.reservation.map_or(u32::MAX, |(address, _)| address);
    text.push_str(&format!(" ]             RES {reserved:08x}\n"));
    rows(&mut text, "FPR", &|n| core.get(fpr(n)));
    let s = |n| isa.spr(n);
    text.push_str(&format!(
        "FPSCR {:08x}\n SRR0 {:08x}  SRR1 {:08x}    PVR {:08x} VRSAVE {:08x}\nSPRG0 {:08x} SPRG1 {:08x}  SPRG2 {:08x}  SPRG3 {:08x}\nSPRG4 {:08x} SPRG5 {:08x}  SPRG6 {:08x}  SPRG7 {:08x}\n SDR1 {:08x}   DAR {:08x}  DSISR {:08x}\n",
        v(FPSCR), v(SRR0), v(SRR1), s(number::PVR), 0, v(SPRG[0]), v(SPRG[1]), v(SPRG[2]), v(SPRG[3]),
        s(number::SPRG4), s(number::SPRG4 + 1), s(number::SPRG4 + 2), s(number::SPRG4 + 3),
        s(number::SDR1), v(DAR), v(DSISR),
    ));
    text
}
