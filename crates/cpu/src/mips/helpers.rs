//! What single instructions do in Rust: traps, CP0, unaligned and linked accesses.

use super::{Cp0, Exception, Fault, Mips, MipsModel, NS_PER_COUNT, TIMER_LINE, fpu, mmu};
use crate::core::Core;
use crate::ir::MemOp;
use crate::isa::{Helper, Isa};
use crate::tlb::Kind;

pub(super) type Cpu = Core<Mips>;
type Done = Result<u64, Fault>;

/// The helpers, at the numbers of [`id`].
pub(super) const ALL: &[Helper<Mips>] = &[
    reserved,
    syscall,
    breakpoint,
    trap_if,
    unusable,
    add,
    sub,
    mfc0,
    mtc0,
    tlbr,
    tlbwi,
    tlbwr,
    tlbp,
    eret,
    wait,
    di,
    ei,
    lwl,
    lwr,
    swl,
    swr,
    ll,
    sc,
    rdhwr,
    cache,
    fpu::arithmetic,
    fpu::sign,
    fpu::move_if,
    fpu::compare,
    fpu::multiply_add,
    fpu::control_from,
    fpu::control_to,
    sdbbp,
    deret,
];

/// Where in [`ALL`] they stand.
pub(super) mod id {
    pub const RESERVED: u16 = 0;
    pub const SYSCALL: u16 = 1;
    pub const BREAK: u16 = 2;
    pub const TRAP_IF: u16 = 3;
    pub const UNUSABLE: u16 = 4;
    pub const ADD: u16 = 5;
    pub const SUB: u16 = 6;
    pub const MFC0: u16 = 7;
    pub const MTC0: u16 = 8;
    pub const TLBR: u16 = 9;
    pub const TLBWI: u16 = 10;
    pub const TLBWR: u16 = 11;
    pub const TLBP: u16 = 12;
    pub const ERET: u16 = 13;
    pub const WAIT: u16 = 14;
    pub const DI: u16 = 15;
    pub const EI: u16 = 16;
    pub const LWL: u16 = 17;
    pub const LWR: u16 = 18;
    pub const SWL: u16 = 19;
    pub const SWR: u16 = 20;
    pub const LL: u16 = 21;
    pub const SC: u16 = 22;
    pub const RDHWR: u16 = 23;
    pub const CACHE: u16 = 24;
    pub const FPU_ARITHMETIC: u16 = 25;
    pub const FPU_SIGN: u16 = 26;
    pub const FPU_MOVE_IF: u16 = 27;
    pub const FPU_COMPARE: u16 = 28;
    pub const FPU_MULTIPLY_ADD: u16 = 29;
    pub const CFC1: u16 = 30;
    pub const CTC1: u16 = 31;
    pub const SDBBP: u16 = 32;
    pub const DERET: u16 = 33;
}

fn reserved(_: &mut Cpu, _: u64, _: u64) -> Done {
    Err(Fault::of(Exception::Reserved))
}

fn syscall(_: &mut Cpu, _: u64, _: u64) -> Done {
    Err(Fault::of(Exception::Syscall))
}

fn breakpoint(_: &mut Cpu, _: u64, _: u64) -> Done {
    Err(Fault::of(Exception::Breakpoint))
}

fn trap_if(_: &mut Cpu, a: u64, _: u64) -> Done {
    if a == 0 { Ok(0) } else { Err(Fault::of(Exception::Trap)) }
}

fn unusable(_: &mut Cpu, a: u64, _: u64) -> Done {
    Err(Fault::unusable(a as u8))
}

fn add(_: &mut Cpu, a: u64, b: u64) -> Done {
    let sum = (a as i32).checked_add(b as i32).ok_or(Fault::of(Exception::Overflow))?;
    Ok(u64::from(sum as u32))
}

fn sub(_: &mut Cpu, a: u64, b: u64) -> Done {
    let difference = (a as i32).checked_sub(b as i32).ok_or(Fault::of(Exception::Overflow))?;
    Ok(u64::from(difference as u32))
}

fn count(core: &Cpu) -> u32 {
    let cp0 = &core.isa.cp0;
    let clock = if cp0.is_count_stopped() { 0 } else { (core.isa.clock.now() / NS_PER_COUNT) as u32 };
    clock.wrapping_add(cp0.count_offset)
}

/// Sets Count, and when it will be Compare.
fn set_count(core: &mut Cpu, value: u32) {
    let now = count(core).wrapping_sub(core.isa.cp0.count_offset);
    core.isa.cp0.count_offset = value.wrapping_sub(now);
    arm(core);
}

fn arm(core: &Cpu) {
    let Some(timer) = &core.isa.timer else { return };
    if core.isa.cp0.is_count_stopped() {
        return timer.cancel();
    }
    // Equal means a whole round from now.
    let counts = match core.isa.cp0.compare.wrapping_sub(count(core)) {
        0 => 1 << 32,
        n => i64::from(n),
    };
    let base = core.isa.clock.now() / NS_PER_COUNT;
    timer.arm(base.saturating_add(counts).saturating_mul(NS_PER_COUNT));
}

/// `mfc0`: the register `a`, as its number times 8 and the selector.
fn mfc0(core: &mut Cpu, a: u64, _: u64) -> Done {
    let levels = core.inputs().levels();
    core.isa.cp0.set_lines(levels);
    if a as u32 == reg(1, 0) {
        return Ok(core.isa.random().into());
    }
    Ok(cp0_register(core, a as u32 >> 3, a as u32 & 7).into())
}

/// What `mfc0` gives, without an effect: Random and the lines in Cause are as they were last looked at.
pub(super) fn cp0_register(core: &Cpu, number: u32, select: u32) -> u32 {
    let cp0 = &core.isa.cp0;
    if !is_register(core.isa.model, number, select) {
        return 0;
    }
    match (number, select) {
        (0, 0) => cp0.index,
        (2, 0) => cp0.entry_lo[0],
        (3, 0) => cp0.entry_lo[1],
        (4, 0) => cp0.context,
        (5, 0) => cp0.page_mask,
        (6, 0) => cp0.wired,
        (7, 0) => cp0.hwr_ena,
        (8, 0) => cp0.bad_vaddr,
        (9, 0) => count(core),
        (10, 0) => cp0.entry_hi,
        (11, 0) => cp0.compare,
        (12, 0) => cp0.status(),
        (12, 1) => cp0.int_ctl,
        (13, 0) => cp0.cause(),
        (14, 0) => cp0.epc,
        (15, 0) => core.isa.model.prid,
        (15, 1) => cp0.ebase,
        (16, 0) => cp0.config,
        (16, 1) => core.isa.model.config1,
        (16, 2) => Cp0::CONFIG2,
        (16, 3) => Cp0::CONFIG3,
        (17, 0) => cp0.ll_addr,
        (23, 0) => cp0.debug(),
        (24, 0) => cp0.debug_epc,
        (26, 0) => cp0.err_ctl,
        (28, 0) => cp0.tag_lo,
        (28, 1) => cp0.data_lo,
        (30, 0) => cp0.error_epc,
        (31, 0) => cp0.debug_save,
        // What is not there reads as 0.
        _ => 0,
    }
}

/// Whether a CPU has a register. The R4000 has none beside those of selector 0, no HWREna, and no debug mode.
fn is_register(model: &MipsModel, number: u32, select: u32) -> bool {
    model.is_mips32() || select == 0 && !matches!(number, 7 | 23 | 24 | 31)
}

pub(super) const fn reg(number: u32, select: u32) -> u32 {
    number << 3 | select
}

/// `mtc0`: the register `a` becomes `b`.
pub(super) fn mtc0(core: &mut Cpu, a: u64, b: u64) -> Done {
    let (number, select, value) = (a as u32 >> 3, a as u32 & 7, b as u32);
    if (number, select) == (9, 0) {
        set_count(core, value);
        return Ok(0);
    }
    let model = core.isa.model;
    if !is_register(model, number, select) {
        return Ok(0);
    }
    // As many bits as the last entry's number has.
    let indexes = (model.tlb_entries as u32).next_power_of_two() - 1;
    let cp0 = &mut core.isa.cp0;
    match (number, select) {
        (0, 0) => cp0.index = cp0.index & 1 << 31 | value & indexes,
        (2, 0) => cp0.entry_lo[0] = value & model.entry_lo,
        (3, 0) => cp0.entry_lo[1] = value & model.entry_lo,
        (4, 0) => cp0.context = cp0.context & 0x007f_ffff | value & 0xff80_0000,
        (5, 0) => cp0.page_mask = value & model.page_mask,
        (6, 0) => cp0.wired = value & indexes,
        (7, 0) => cp0.hwr_ena = value & 0xf,
        (10, 0) => {
            let old = std::mem::replace(&mut cp0.entry_hi, value & (mmu::VPN2 | mmu::ASID));
            if (old ^ value) & mmu::ASID != 0 {
                core.flush();
            }
        }
        (11, 0) => {
            cp0.compare = value;
            core.inputs().set_level(TIMER_LINE, false);
            arm(core);
        }
        (12, 0) => cp0.set_status(value),
        (12, 1) => cp0.int_ctl = cp0.int_ctl & !0x3e0 | value & 0x3e0,
        (13, 0) => {
            let before = count(core);
            let stopped = core.isa.cp0.is_count_stopped();
            core.isa.cp0.write_cause(value);
            if stopped != core.isa.cp0.is_count_stopped() {
                set_count(core, before);
            }
        }
        (14, 0) => cp0.epc = value,
        (15, 1) => cp0.ebase = cp0.ebase & !0x3fff_f000 | value & 0x3fff_f000,
        (16, 0) => cp0.config = cp0.config & !model.config_writable | value & model.config_writable,
        (17, 0) if !model.is_mips32() => cp0.ll_addr = value,
        (23, 0) => cp0.write_debug(value),
        (24, 0) => cp0.debug_epc = value,
        (26, 0) => cp0.err_ctl = value,
        (28, 0) => cp0.tag_lo = value,
        (28, 1) => cp0.data_lo = value,
        (30, 0) => cp0.error_epc = value,
        (31, 0) => cp0.debug_save = value,
        _ => {}
    }
    Ok(0)
}

fn tlbr(core: &mut Cpu, _: u64, _: u64) -> Done {
    let (asid, index) = (core.isa.cp0.entry_hi & mmu::ASID, core.isa.cp0.index);
    core.isa.read_entry(index);
    if core.isa.cp0.entry_hi & mmu::ASID != asid {
        core.flush();
    }
    Ok(0)
}

fn write_entry(core: &mut Cpu, at: u32) -> Done {
    let replaced = core.isa.entry_pages(at);
    core.isa.write_entry(at);
    for (first, last) in replaced.into_iter().chain(core.isa.entry_pages(at)) {
        core.flush_range(first.into(), last.into());
    }
    Ok(0)
}

fn tlbwi(core: &mut Cpu, _: u64, _: u64) -> Done {
    let index = core.isa.cp0.index;
    write_entry(core, index)
}

fn tlbwr(core: &mut Cpu, _: u64, _: u64) -> Done {
    let random = core.isa.random();
    write_entry(core, random)
}

fn tlbp(core: &mut Cpu, _: u64, _: u64) -> Done {
    core.isa.probe();
    Ok(0)
}

fn eret(core: &mut Cpu, _: u64, _: u64) -> Done {
    let target = core.isa.cp0.leave_exception_level();
    core.isa.linked = None;
    Mips::go_to(core, target.into());
    Ok(0)
}

fn sdbbp(_: &mut Cpu, _: u64, _: u64) -> Done {
    Err(Fault::of(Exception::Debug))
}

/// `deret`: outside debug mode there is no such instruction.
fn deret(core: &mut Cpu, _: u64, _: u64) -> Done {
    if !core.isa.cp0.is_debug_mode() {
        return Err(Fault::of(Exception::Reserved));
    }
    let target = core.isa.cp0.leave_debug_mode();
    Mips::go_to(core, target.into());
    Ok(0)
}

fn wait(core: &mut Cpu, _: u64, _: u64) -> Done {
    core.isa.waiting = true;
    Ok(0)
}

fn di(core: &mut Cpu, _: u64, _: u64) -> Done {
    let before = core.isa.cp0.status();
    core.isa.cp0.set_interrupts_enabled(false);
    Ok(before.into())
}

fn ei(core: &mut Cpu, _: u64, _: u64) -> Done {
    let before = core.isa.cp0.status();
    core.isa.cp0.set_interrupts_enabled(true);
    Ok(before.into())
}

fn word(core: &Cpu) -> MemOp {
    MemOp { size: 4, signed: false, big: core.isa.big, aligned: true, mmu: core.isa.cp0.mmu() }
}

/// How many bytes of the word at `va` stand before it.
fn before(core: &Cpu, va: u64) -> u32 {
    let byte = va as u32 & 3;
    if core.isa.big { byte } else { 3 - byte }
}

/// The word that `va` is in; a fault names `va` itself.
fn word_around(core: &mut Cpu, va: u64) -> Result<u32, Fault> {
    let mem = word(core);
    let told = |f: Fault| Fault { address: f.address.map(|_| va as u32), ..f };
    Ok(core.helper_load(va & !3, mem).map_err(told)? as u32)
}

fn lwl(core: &mut Cpu, va: u64, old: u64) -> Done {
    let shift = 8 * before(core, va);
    let word = word_around(core, va)?;
    Ok(u64::from(word << shift | old as u32 & !(u32::MAX << shift)))
}

fn lwr(core: &mut Cpu, va: u64, old: u64) -> Done {
    let shift = 24 - 8 * before(core, va);
    let word = word_around(core, va)?;
    Ok(u64::from(word >> shift | old as u32 & !(u32::MAX >> shift)))
}

/// Stores `n` bytes from `from` on, in the word that `va` is in, which a fault names; the first one being `first` of the four of `value` in memory order.
fn store_bytes(core: &mut Cpu, va: u64, from: u64, n: u32, first: u32, value: u64) -> Done {
    let mem = MemOp { size: 1, ..word(core) };
    let bytes = if core.isa.big { (value as u32).to_be_bytes() } else { (value as u32).to_le_bytes() };
    for (i, byte) in (0..).zip(bytes.into_iter().skip(first as usize).take(n as usize)) {
        let told = |f: Fault| Fault { address: f.address.map(|_| va as u32), ..f };
        core.helper_store(from + i, byte.into(), mem).map_err(told)?;
    }
    Ok(0)
}

fn swl(core: &mut Cpu, va: u64, value: u64) -> Done {
    let before = before(core, va);
    // The upper bytes: in big-endian from `va` to the end of the word, in little-endian from its beginning to `va`.
    match core.isa.big {
        true => store_bytes(core, va, va, 4 - before, 0, value),
        false => store_bytes(core, va, va & !3, 4 - before, before, value),
    }
}

fn swr(core: &mut Cpu, va: u64, value: u64) -> Done {
    let before = before(core, va);
    match core.isa.big {
        true => store_bytes(core, va, va & !3, before + 1, 3 - before, value),
        false => store_bytes(core, va, va, before + 1, 0, value),
    }
}

fn ll(core: &mut Cpu, va: u64, _: u64) -> Done {
    let mem = word(core);
    let value = core.helper_load(va, mem)?;
    core.isa.linked = Some((va as u32, value as u32));
    let phys = core.isa.map(va as u32, Kind::Read, mem.mmu)?.phys;
    // LLAddr: physical address bits from the fifth on (24K manual), or from the fourth.
    core.isa.cp0.ll_addr = (phys >> core.isa.model.ll_shift) as u32;
    Ok(value)
}

fn sc(core: &mut Cpu, va: u64, value: u64) -> Done {
    let mem = word(core);
    if va & 3 != 0 {
        return Err(Fault::address(va as u32, Kind::Write));
    }
    let Some((linked, old)) = core.isa.linked.take().filter(|(linked, _)| *linked == va as u32) else {
        return Ok(0);
    };
    // Other masters may have written meanwhile.
    let done = core.helper_compare_exchange(linked.into(), old.into(), value, mem)?;
    Ok(u64::from(done))
}

/// `cache`: there is none, but an operation on an address (4 to 7) has it translated first.
fn cache(core: &mut Cpu, va: u64, operation: u64) -> Done {
    if operation >> 2 & 7 >= 4 {
        let mmu = core.isa.cp0.mmu();
        core.isa.map(va as u32, Kind::Read, mmu)?;
    }
    Ok(0)
}

fn rdhwr(core: &mut Cpu, a: u64, _: u64) -> Done {
    let enabled = core.isa.cp0.is_usable() || core.isa.cp0.hwr_ena >> a & 1 != 0;
    match a {
        0..=3 if !enabled => Err(Fault::of(Exception::Reserved)),
        // CPUNum, SYNCI_Step (there is nothing to synchronise), CC, CCRes: CC counts every two cycles.
        0 | 1 => Ok(0),
        2 => Ok(count(core).into()),
        3 => Ok(2),
        _ => Err(Fault::of(Exception::Reserved)),
    }
}
