//! Special-purpose registers: which there are, who may use them, what can be written to them, and what that does.
//!
//! What it is: the table of each processor (PEM, section 2.3; MPC604UM, section 2.1; MPC750UM, section 2.1) and the
//! effects of reading and writing. What it is not: XER, LR and CTR, and the other registers that `translate` reaches as
//! variables. What must always hold: bits that do not exist read 0.

use flatview_device::LogMask;

use super::except::srr1;
use super::model::Family;
use super::state::mode;
use super::{CTR, DAR, DSISR, Fault, LR, Ppc, SPRG, SRR0, SRR1, trace};
use crate::core::Core;
use crate::ir::Var;

/// Numbers of registers.
pub(super) mod number {
    pub const XER: u32 = 1;
    pub const DEC: u32 = 22;
    pub const SDR1: u32 = 25;
    pub const TBL_READ: u32 = 268;
    pub const TBU_READ: u32 = 269;
    pub const SPRG4: u32 = 276;
    pub const EAR: u32 = 282;
    pub const TBL: u32 = 284;
    pub const TBU: u32 = 285;
    pub const PVR: u32 = 287;
    pub const IBAT0U: u32 = 528;
    pub const DBAT0U: u32 = 536;
    pub const IBAT4U: u32 = 560;
    pub const DBAT4U: u32 = 568;
    pub const DMISS: u32 = 976;
    pub const DCMP: u32 = 977;
    pub const HASH1: u32 = 978;
    pub const HASH2: u32 = 979;
    pub const IMISS: u32 = 980;
    pub const ICMP: u32 = 981;
    pub const RPA: u32 = 982;
    pub const HID0: u32 = 1008;
    pub const HID1: u32 = 1009;
    pub const IABR: u32 = 1010;
    pub const HID2: u32 = 1011;
    pub const DABR: u32 = 1013;
}

/// Bits of the 755's HID2 (MPC750UM, appendix on the MPC755).
pub(super) mod hid2 {
    /// SWT_EN: tables are searched by software.
    pub const SOFTWARE_SEARCH: u32 = 1 << 19;
    /// HIGH_BAT_EN: BATs 4 to 7 count.
    pub const HIGH_BATS: u32 = 1 << 18;
    /// STMUMD, L2AP_EN, the two above, IWLCK, DWLCK.
    pub const WRITABLE: u32 = 1 << 27 | 1 << 20 | SOFTWARE_SEARCH | HIGH_BATS | 0xe0e0;
}

/// HID0's commands to empty the caches (ICFI and DCFI), which are done at once and read 0.
const FLASH_INVALIDATE: u32 = 0xc00;

/// What can be written to a register of a processor; `None` if it has no such register.
fn writable(family: Family, n: u32) -> Option<u32> {
    use number::*;
    const ALL: u32 = u32::MAX;
    let common = match n {
        DEC | TBL | TBU => Some(ALL),
        SDR1 => Some(0xffff_01ff),
        EAR => Some(0x8000_003f),
        PVR => Some(0),
        // The upper halves have BEPI, BL, Vs and Vp; the lower BRPN, WIMG and PP.
        IBAT0U..IBAT4U if n < IBAT0U + 16 => Some(bat(n)),
        IABR | DABR => Some(ALL),
        // MMCR0, PMC1, PMC2, SIA, SDA.
        952..=955 | 959 => Some(ALL),
        _ => None,
    };
    common.or(match (family, n) {
        // EMCP, ECPC, EBA, EBD, PAR, NHR, the caches' bits, SIED, BHTE.
        (Family::Ppc604, HID0) => Some(0xf101_fc84),
        // PIR
        (Family::Ppc604, 1023) => Some(0xf),
        (Family::Ppc755, HID0) => Some(0xfbf1_ffed),
        // The clock configuration pins.
        (Family::Ppc755, HID1) => Some(0),
        (Family::Ppc755, HID2) => Some(hid2::WRITABLE),
        (Family::Ppc755, IBAT4U..576) => Some(bat(n)),
        (Family::Ppc755, SPRG4..=279) => Some(ALL),
        // DMISS to ICMP are set by misses; HASH1 and HASH2 follow.
        (Family::Ppc755, DMISS..=ICMP) => Some(0),
        (Family::Ppc755, RPA) => Some(0xffff_f1fb),
        // UMMCR0 and its kind: what users may read.
        (Family::Ppc755, 936..=943) => Some(0),
        // MMCR1, PMC3, PMC4.
        (Family::Ppc755, 956..=958) => Some(ALL),
        // L2PM, L2CR (but L2CTR's and L2IP's bits), ICTC, THRM1 to THRM3.
        (Family::Ppc755, 1016) => Some(0xffff_8000 | 0x1f),
        (Family::Ppc755, 1017) => Some(0xffff_e700),
        (Family::Ppc755, 1019) => Some(0x1ff),
        (Family::Ppc755, 1020 | 1021) => Some(0x3f80_0007),
        (Family::Ppc755, 1022) => Some(0x0000_3fff),
        _ => None,
    })
}

fn bat(n: u32) -> u32 {
    if n & 1 == 0 { 0xfffe_1fff } else { 0xfffe_007b }
}

/// The variable that a register is, and whether users may use it.
pub(super) fn variable(n: u32) -> Option<(Var, bool)> {
    Some(match n {
        8 => (LR, true),
        9 => (CTR, true),
        18 => (DSISR, false),
        19 => (DAR, false),
        26 => (SRR0, false),
        27 => (SRR1, false),
        272 => (SPRG[0], false),
        273 => (SPRG[1], false),
        274 => (SPRG[2], false),
        275 => (SPRG[3], false),
        _ => return None,
    })
}

/// The exception for a register that is not there, or not for users; `None` if nothing happens.
fn refused(core: &Core<Ppc>, n: u32, write: bool) -> Option<Fault> {
    let user = core.isa.mode() & mode::USER != 0;
    if user && n & 16 != 0 {
        return Some(Fault::program(srr1::PRIVILEGED));
    }
    let (model, verb) = (core.isa.model.name, if write { "written" } else { "read" });
    core.isa
        .log
        .line(LogMask::GUEST_ERRORS, format_args!("{model}: SPR {n}, which does not exist, is {verb}"));
    user.then(|| Fault::program(srr1::ILLEGAL))
}

/// `mfspr` of a register that is no variable; `old` is what the target has, which stays where there is none.
pub(super) fn read(core: &mut Core<Ppc>, n: u32, old: u32) -> Result<u32, Fault> {
    let family = core.isa.model.family;
    let user = core.isa.mode() & mode::USER != 0;
    Ok(match n {
        number::XER => super::xer(core),
        number::TBL_READ => core.isa.time_base() as u32,
        number::TBU_READ => (core.isa.time_base() >> 32) as u32,
        936..=943 if family == Family::Ppc755 => core.isa.spr(n + 16),
        _ if (user && n & 16 != 0) || writable(family, n).is_none() => match refused(core, n, false) {
            Some(fault) => return Err(fault),
            None => old,
        },
        number::DEC => core.isa.decrementer(),
        // These can only be written.
        number::TBL | number::TBU => old,
        _ => core.isa.spr(n),
    })
}

/// `mtspr` of a register that is no variable.
pub(super) fn write(core: &mut Core<Ppc>, n: u32, value: u32) -> Result<(), Fault> {
    if n == number::XER {
        super::set_xer(core, value);
        return Ok(());
    }
    let user = core.isa.mode() & mode::USER != 0;
    if (user && n & 16 != 0) || writable(core.isa.model.family, n).is_none() {
        return refused(core, n, true).map_or(Ok(()), Err);
    }
    set(core, n, value);
    Ok(())
}

/// Sets a register that is there, the bits of it that can be written.
pub(super) fn set(core: &mut Core<Ppc>, n: u32, value: u32) {
    let mask = writable(core.isa.model.family, n).unwrap_or(0);
    let value = core.isa.spr(n) & !mask | value & mask;
    match n {
        number::DEC => {
            let before = core.isa.decrementer();
            core.isa.set_decrementer(value);
            // Bit 0 from 0 to 1 interrupts, by whatever way (PEM, section 2.3.14.1).
            if before >> 31 == 0 && value >> 31 != 0 {
                core.inputs().set_level(super::DEC_LINE, true);
            }
            return;
        }
        number::TBL => {
            let time = core.isa.time_base() & !0xffff_ffff | u64::from(value);
            core.isa.set_time_base(time);
            return;
        }
        number::TBU => {
            let time = core.isa.time_base() & 0xffff_ffff | u64::from(value) << 32;
            core.isa.set_time_base(time);
            return;
        }
        _ => {}
    }
    let value = if n == number::HID0 { value & !FLASH_INVALIDATE } else { value };
    let changed = core.isa.spr(n) != value;
    if core.logs(LogMask::MMU) {
        trace::register_written(core, n, value);
    }
    core.isa.keep_spr(n, value);
    if changed {
        match n {
            number::SDR1 | number::DABR | number::HID2 | 528..=575 => core.flush(),
            number::IABR => core.isa.find_mode(),
            _ => {}
        }
    }
}
