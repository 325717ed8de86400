//! CP0: the system registers (volume III, chapter 9).
//!
//! What it is: the registers' values and what may be written to them. What it is not: the TLB, or time: Count and Compare
//! are in `helpers`, which knows the clock.

use super::MipsModel;

/// The system registers.
#[derive(Debug, Clone, Default)]
pub struct Cp0 {
    pub(super) index: u32,
    pub(super) random_seed: u32,
    pub(super) entry_lo: [u32; 2],
    pub(super) context: u32,
    pub(super) page_mask: u32,
    pub(super) wired: u32,
    pub(super) hwr_ena: u32,
    pub(super) bad_vaddr: u32,
    /// What is added to the clock's count.
    pub(super) count_offset: u32,
    pub(super) compare: u32,
    pub(super) entry_hi: u32,
    status: u32,
    /// Which bits of Status can be written.
    status_writable: u32,
    /// Which bits of Cause can be.
    cause_writable: u32,
    /// Whether Cause says that the timer interrupts.
    tells_timer: bool,
    pub(super) int_ctl: u32,
    cause: u32,
    pub(super) epc: u32,
    pub(super) ebase: u32,
    pub(super) config: u32,
    pub(super) ll_addr: u32,
    pub(super) tag_lo: u32,
    pub(super) data_lo: u32,
    pub(super) error_epc: u32,
    debug: u32,
    pub(super) debug_epc: u32,
    pub(super) debug_save: u32,
    pub(super) err_ctl: u32,
}

use super::Exception;

/// Status (section 9.21).
mod status {
    pub const IE: u32 = 1;
    pub const EXL: u32 = 2;
    pub const ERL: u32 = 4;
    pub const MODE: u32 = 3 << 3;
    pub const IM_SHIFT: u32 = 8;
    pub const BEV: u32 = 1 << 22;
    pub const FR: u32 = 1 << 26;
    pub const CU0: u32 = 1 << 28;
    pub const CU1: u32 = 1 << 29;
}

/// Cause (section 9.26).
mod cause {
    pub const CODE: u32 = 0x1f << 2;
    pub const SOFTWARE: u32 = 3 << 8;
    pub const PENDING: u32 = 0xff << 8;
    pub const IV: u32 = 1 << 23;
    pub const COPROCESSOR_SHIFT: u32 = 28;
    pub const TI: u32 = 1 << 30;
    pub const BD: u32 = 1 << 31;
    pub const DC: u32 = 1 << 27;
    /// DC, IV, WP and the two software interrupts.
    pub const MIPS32: u32 = DC | IV | 1 << 22 | SOFTWARE;
}

/// Debug (EJTAG specification, MD00047, section 4.1).
mod debug {
    /// The last exception was SDBBP.
    pub const BREAKPOINT: u32 = 1 << 1;
    pub const CODE_SHIFT: u32 = 10;
    pub const CODE: u32 = 0x1f << CODE_SHIFT;
    pub const MODE: u32 = 1 << 30;
    pub const DELAYED: u32 = 1 << 31;
    /// IEXI and LSNM.
    pub const WRITABLE: u32 = 1 << 20 | 1 << 28;
    /// No debug segment, Count goes on in debug mode, version 2.5, no single steps.
    pub const AT_RESET: u32 = 1 << 29 | 1 << 25 | 1 << 15 | 1 << 9;
}

impl Cp0 {
    /// No second-level caches; Config3 follows.
    pub(super) const CONFIG2: u32 = 1 << 31;
    /// Vectored interrupts.
    pub(super) const CONFIG3: u32 = 1 << 5;

    pub(super) fn at_reset(model: &MipsModel, big: bool) -> Self {
        Self {
            status_writable: model.status_writable,
            cause_writable: if model.is_mips32() { cause::MIPS32 } else { cause::SOFTWARE },
            tells_timer: model.is_mips32(),
            debug: if model.is_mips32() { debug::AT_RESET } else { 0 },
            status: status::BEV | status::ERL,
            // IPTI: the timer is interrupt 7.
            int_ctl: 7 << 29,
            ebase: 0x8000_0000,
            config: model.config | u32::from(big) << 15,
            random_seed: 0x2545_f491,
            ..Self::default()
        }
    }

    /// Status.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.status
    }

    /// Cause.
    #[must_use]
    pub fn cause(&self) -> u32 {
        self.cause
    }

    /// The address of the last address error or TLB exception.
    #[must_use]
    pub fn bad_vaddr(&self) -> u32 {
        self.bad_vaddr
    }

    /// Where the last exception returns to.
    #[must_use]
    pub fn epc(&self) -> u32 {
        self.epc
    }

    /// Sets Status, the bits included that the guest cannot write. The CPU must be told that the address map may have
    /// changed, which [`Cpu::core_mut`](crate::Cpu::core_mut) does.
    pub fn set_all_status(&mut self, value: u32) {
        self.status = value;
    }

    pub(super) fn set_status(&mut self, value: u32) {
        self.status = self.status & !self.status_writable | value & self.status_writable;
    }

    pub(super) fn set_interrupts_enabled(&mut self, on: bool) {
        self.status = self.status & !status::IE | if on { status::IE } else { 0 };
    }

    pub(super) fn write_cause(&mut self, value: u32) {
        self.cause = self.cause & !self.cause_writable | value & self.cause_writable;
    }

    /// Whether Count stands still.
    pub(super) fn is_count_stopped(&self) -> bool {
        self.cause & cause::DC != 0
    }

    /// Levels of the lines from outside (2 to 7) and of the timer, which is the seventh too.
    pub(super) fn set_lines(&mut self, levels: u32) {
        let timer = levels >> super::TIMER_LINE & 1;
        let pending = levels & 0xfc | timer << 7;
        self.cause = self.cause & !(cause::PENDING & !cause::SOFTWARE | cause::TI)
            | pending << status::IM_SHIFT
            | if timer != 0 && self.tells_timer { cause::TI } else { 0 };
    }

    /// Whether an interrupt that is not masked waits.
    pub(super) fn has_interrupt(&self) -> bool {
        self.cause & self.status & cause::PENDING != 0
    }

    pub(super) fn takes_interrupt(&self) -> bool {
        self.status & (status::IE | status::EXL | status::ERL) == status::IE
            && self.has_interrupt()
            && !self.is_debug_mode()
    }

    /// Whether it is in an exception or error handler.
    pub(super) fn is_kernel_by_level(&self) -> bool {
        self.status & (status::EXL | status::ERL) != 0
    }

    pub(super) fn is_exception_level(&self) -> bool {
        self.status & status::EXL != 0
    }

    /// Whether CP0 may be used.
    pub(super) fn is_usable(&self) -> bool {
        self.is_kernel_by_level()
            || self.status & status::MODE == 0
            || self.status & status::CU0 != 0
            || self.is_debug_mode()
    }

    /// Whether the FPU may be used.
    pub(super) fn is_fpu_usable(&self) -> bool {
        self.status & status::CU1 != 0
    }

    /// Whether the floating-point registers have 64 bits each, and a double is not in two.
    pub(super) fn has_whole_fprs(&self) -> bool {
        self.status & status::FR != 0
    }

    /// Which of the address maps holds: 0 kernel, 1 user, 2 kernel at the error level, 3 supervisor.
    pub(super) fn mmu(&self) -> u8 {
        match self.status & status::MODE {
            _ if self.status & status::ERL != 0 => 2,
            _ if self.status & status::EXL != 0 || self.is_debug_mode() => 0,
            0 => 0,
            0b01_000 => 3,
            _ => 1,
        }
    }

    /// Debug.
    pub(super) fn debug(&self) -> u32 {
        self.debug
    }

    /// Debug as `mtc0` writes it, in debug mode only.
    pub(super) fn write_debug(&mut self, value: u32) {
        if self.is_debug_mode() {
            self.debug = self.debug & !debug::WRITABLE | value & debug::WRITABLE;
        }
    }

    /// Whether it is in debug mode.
    pub(super) fn is_debug_mode(&self) -> bool {
        self.debug & debug::MODE != 0
    }

    /// Enters debug mode, or its handler again for an exception within.
    pub(super) fn enter_debug_mode(&mut self, from: u32, delayed: bool, code: u8, breakpoint: bool) {
        self.debug_epc = from;
        self.debug &= !(debug::CODE | debug::DELAYED | debug::BREAKPOINT);
        self.debug |= debug::MODE
            | u32::from(code) << debug::CODE_SHIFT & debug::CODE
            | if delayed { debug::DELAYED } else { 0 }
            | if breakpoint { debug::BREAKPOINT } else { 0 };
    }

    /// `deret`: where it goes.
    pub(super) fn leave_debug_mode(&mut self) -> u32 {
        self.debug &= !debug::MODE;
        self.debug_epc
    }

    pub(super) fn set_branch_delay(&mut self, delayed: bool) {
        self.cause = self.cause & !cause::BD | if delayed { cause::BD } else { 0 };
    }

    pub(super) fn set_cause(&mut self, code: u8, coprocessor: u8) {
        let keep = !cause::CODE;
        self.cause = self.cause & keep | u32::from(code) << 2;
        // The coprocessor is open in the manual for all other exceptions: that of the last one stays.
        if code == Exception::Coprocessor as u8 {
            let field = cause::COPROCESSOR_SHIFT;
            self.cause = self.cause & !(3 << field) | u32::from(coprocessor & 3) << field;
        }
    }

    pub(super) fn enter_exception_level(&mut self) {
        self.status |= status::EXL;
    }

    /// `eret`: where it goes.
    pub(super) fn leave_exception_level(&mut self) -> u32 {
        if self.status & status::ERL != 0 {
            self.status &= !status::ERL;
            return self.error_epc;
        }
        self.status &= !status::EXL;
        self.epc
    }

    pub(super) fn vector_base(&self) -> u32 {
        if self.status & status::BEV != 0 { 0xbfc0_0200 } else { self.ebase & 0xffff_f000 }
    }

    /// Where an interrupt's handler is, from the base (section 6.1.2).
    pub(super) fn interrupt_offset(&self) -> u32 {
        if self.cause & cause::IV == 0 {
            return 0x180;
        }
        let spacing = (self.int_ctl >> 5 & 0x1f) << 5;
        if self.status & status::BEV != 0 || spacing == 0 {
            return 0x200;
        }
        let waiting = (self.cause & self.status & cause::PENDING) >> status::IM_SHIFT;
        0x200 + waiting.checked_ilog2().unwrap_or(0) * spacing
    }
}
