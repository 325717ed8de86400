//! What single instructions do in Rust: traps, system registers, multiples and strings, reservations, cache blocks.

use flatview::Be;
use flatview_device::LogMask;

use super::except::{dsisr, leave, srr1};
use super::spr::number;
use super::state::mode;
use super::{Exception, Fault, Ppc, SO, SRR1, cr, float, gpr, mmu, spr, trace};
use crate::core::Core;
use crate::ir::MemOp;
use crate::isa::Helper;
use crate::tlb::{Kind, PAGE_SIZE};

type Cpu = Core<Ppc>;
type Done = Result<u64, Fault>;

/// The helpers, at the numbers of [`id`].
pub(super) const ALL: &[Helper<Ppc>] = &[
    program,
    trap_if,
    system_call,
    fp_unavailable,
    rfi,
    mtmsr,
    mfmsr,
    mfspr,
    mtspr,
    mfcr,
    lmw,
    stmw,
    lswi,
    lsw,
    stswi,
    stsw,
    lwarx,
    stwcx,
    dcbz,
    touch,
    touch_store,
    mfsr,
    mtsr,
    tlbie,
    tlb_load,
    eciwx,
    ecowx,
    breakpoint,
    traced,
    float_op,
    float_load,
    float_store,
];

/// Where in [`ALL`] they stand.
pub(super) mod id {
    pub const PROGRAM: u16 = 0;
    pub const TRAP_IF: u16 = 1;
    pub const SYSTEM_CALL: u16 = 2;
    pub const FP_UNAVAILABLE: u16 = 3;
    pub const RFI: u16 = 4;
    pub const MTMSR: u16 = 5;
    pub const MFMSR: u16 = 6;
    pub const MFSPR: u16 = 7;
    pub const MTSPR: u16 = 8;
    pub const MFCR: u16 = 9;
    pub const LMW: u16 = 10;
    pub const STMW: u16 = 11;
    pub const LSWI: u16 = 12;
    pub const LSWX: u16 = 13;
    pub const STSWI: u16 = 14;
    pub const STSWX: u16 = 15;
    pub const LWARX: u16 = 16;
    pub const STWCX: u16 = 17;
    pub const DCBZ: u16 = 18;
    pub const TOUCH: u16 = 19;
    pub const TOUCH_STORE: u16 = 20;
    pub const MFSR: u16 = 21;
    pub const MTSR: u16 = 22;
    pub const TLBIE: u16 = 23;
    pub const TLB_LOAD: u16 = 24;
    pub const ECIWX: u16 = 25;
    pub const ECOWX: u16 = 26;
    pub const BREAKPOINT: u16 = 27;
    pub const TRACED: u16 = 28;
    pub const FLOAT: u16 = 29;
    pub const FLOAT_LOAD: u16 = 30;
    pub const FLOAT_STORE: u16 = 31;
}

/// A program exception with these bits of SRR1.
fn program(_: &mut Cpu, a: u64, _: u64) -> Done {
    Err(Fault::program(a as u32))
}

fn trap_if(_: &mut Cpu, a: u64, _: u64) -> Done {
    if a == 0 { Ok(0) } else { Err(Fault::program(srr1::TRAP)) }
}

fn system_call(_: &mut Cpu, _: u64, _: u64) -> Done {
    Err(Fault::of(Exception::SystemCall))
}

fn fp_unavailable(_: &mut Cpu, _: u64, _: u64) -> Done {
    Err(Fault::of(Exception::FpUnavailable))
}

/// An instruction of the floating-point unit.
fn float_op(core: &mut Cpu, word: u64, _: u64) -> Done {
    match float::execute(core, word as u32) {
        Some(done) => done.map(|()| 0),
        None => Err(Fault::program(srr1::ILLEGAL)),
    }
}

/// `b` is the register, and from bit 8 on the size in bytes.
fn float_load(core: &mut Cpu, va: u64, b: u64) -> Done {
    float::load(core, va, (b >> 8 & 15) as u8, b as u32 & 31).map(|()| 0)
}

/// The same, and in bit 12 whether the low half is stored as it is.
fn float_store(core: &mut Cpu, va: u64, b: u64) -> Done {
    float::store(core, va, (b >> 8 & 15) as u8, b as u32 & 31, b >> 12 & 1 != 0).map(|()| 0)
}

fn rfi(core: &mut Cpu, _: u64, _: u64) -> Done {
    leave(core);
    Ok(0)
}

fn mtmsr(core: &mut Cpu, value: u64, _: u64) -> Done {
    core.isa.write_msr(value as u32);
    Ok(0)
}

fn mfmsr(core: &mut Cpu, _: u64, _: u64) -> Done {
    Ok(core.isa.msr().into())
}

fn mfspr(core: &mut Cpu, n: u64, old: u64) -> Done {
    spr::read(core, n as u32, old as u32).map(u64::from)
}

fn mtspr(core: &mut Cpu, n: u64, value: u64) -> Done {
    spr::write(core, n as u32, value as u32).map(|()| 0)
}

fn mfcr(core: &mut Cpu, _: u64, _: u64) -> Done {
    Ok(cr(core).into())
}

fn access(core: &Cpu, size: u8) -> MemOp {
    MemOp { size, signed: false, big: true, aligned: false, mmu: core.isa.mmu_of(Kind::Read) }
}

fn word_aligned(va: u64) -> Result<(), Fault> {
    if va & 3 == 0 { Ok(()) } else { Err(Fault::alignment(va as u32)) }
}

/// `va + offset`, which wraps in 32 bits.
fn after(va: u64, offset: u32) -> u64 {
    u64::from((va as u32).wrapping_add(offset))
}

/// `lmw`: registers from `first` on. None is changed where a word cannot be loaded.
fn lmw(core: &mut Cpu, va: u64, first: u64) -> Done {
    word_aligned(va)?;
    let mem = access(core, 4);
    let mut words = [0_u32; 32];
    for (i, word) in (0..).zip(words.iter_mut().skip(first as usize)) {
        *word = core.helper_load(after(va, 4 * i), mem)? as u32;
    }
    for (n, word) in (0..).zip(words).skip(first as usize) {
        core.set(gpr(n), word.into());
    }
    Ok(0)
}

fn stmw(core: &mut Cpu, va: u64, first: u64) -> Done {
    word_aligned(va)?;
    let mem = access(core, 4);
    for (i, n) in (0..).zip(first as u32..32) {
        let value = core.get(gpr(n));
        core.helper_store(after(va, 4 * i), value, mem)?;
    }
    Ok(0)
}

/// `n` bytes into registers from `first` on, which wrap from 31 to 0.
fn load_string(core: &mut Cpu, va: u64, first: u32, n: u32) -> Done {
    let mem = access(core, 1);
    let mut words = [0_u32; 32];
    for i in 0..n {
        let byte = core.helper_load(after(va, i), mem)? as u32;
        if let Some(word) = words.get_mut(i as usize / 4) {
            *word |= byte << (24 - 8 * (i & 3));
        }
    }
    for (i, word) in (0..n.div_ceil(4)).zip(words) {
        core.set(gpr(first + i), word.into());
    }
    Ok(0)
}

fn store_string(core: &mut Cpu, va: u64, first: u32, n: u32) -> Done {
    let mem = access(core, 1);
    for i in 0..n {
        let word = core.get32(gpr(first + i / 4));
        core.helper_store(after(va, i), u64::from(word >> (24 - 8 * (i & 3)) & 0xff), mem)?;
    }
    Ok(0)
}

/// `b` is the first register, and from bit 8 on the number of bytes.
fn lswi(core: &mut Cpu, va: u64, b: u64) -> Done {
    load_string(core, va, b as u32 & 31, b as u32 >> 8)
}

fn stswi(core: &mut Cpu, va: u64, b: u64) -> Done {
    store_string(core, va, b as u32 & 31, b as u32 >> 8)
}

/// `lswx`: as many bytes as XER says; `b` has the first register, and from bits 8 and 16 on those of the address. A register of the address
/// that would be loaded makes the instruction invalid.
fn lsw(core: &mut Cpu, va: u64, b: u64) -> Done {
    let n = super::xer(core) & 0x7f;
    let (first, a, index) = (b as u32 & 31, b as u32 >> 8 & 31, b as u32 >> 16 & 31);
    let loaded = |n_th: u32| (n_th.wrapping_sub(first) & 31) < n.div_ceil(4);
    if n != 0 && ((a != 0 && loaded(a)) || loaded(index)) {
        return Err(Fault::program(srr1::ILLEGAL));
    }
    load_string(core, va, first, n)
}

fn stsw(core: &mut Cpu, va: u64, b: u64) -> Done {
    let n = super::xer(core) & 0x7f;
    store_string(core, va, b as u32 & 31, n)
}

fn lwarx(core: &mut Cpu, va: u64, _: u64) -> Done {
    word_aligned(va)?;
    let mem = access(core, 4);
    let value = core.helper_load(va, mem)?;
    core.isa.reservation = Some((va as u32, value as u32));
    Ok(value)
}

/// `stwcx.`: CR0. The word is stored if it is what was loaded: other masters may have written it meanwhile.
fn stwcx(core: &mut Cpu, va: u64, value: u64) -> Done {
    word_aligned(va)?;
    let mem = access(core, 4);
    let low = core.get(SO);
    // The address is checked whether or not there is a reservation.
    let phys = mmu::map(core, va as u32, Kind::Write, mem.mmu)?.mapping.phys;
    let Some((_, old)) = core.isa.reservation.take().filter(|(reserved, _)| *reserved == va as u32) else {
        return Ok(low);
    };
    let page = phys & !(PAGE_SIZE - 1);
    if !core.code_pages.contains(&page)
        && !core.watches.on_page(phys)
        && let Ok(done) = core.reader.compare_exchange::<Be, u32>(phys, old, value as u32)
    {
        return Ok(low | if done.is_ok() { 2 } else { 0 });
    }
    // Not RAM, or somebody looks: in two steps.
    if core.helper_load(va, mem)? as u32 != old {
        return Ok(low);
    }
    core.helper_store(va, value, mem)?;
    Ok(low | 2)
}

/// Bytes of a block of the cache.
const BLOCK: u64 = 32;

fn dcbz(core: &mut Cpu, va: u64, _: u64) -> Done {
    let mem = access(core, 8);
    let found = mmu::map(core, va as u32, Kind::Write, mem.mmu)?;
    if !found.is_cached() {
        return Err(Fault::alignment(va as u32));
    }
    let block = va & !(BLOCK - 1);
    for offset in (0..BLOCK as u32).step_by(8) {
        core.helper_store(after(block, offset), 0, mem)?;
    }
    Ok(0)
}

/// A cache instruction that counts as a load: the address is checked.
fn touch(core: &mut Cpu, va: u64, _: u64) -> Done {
    let mmu = core.isa.mmu_of(Kind::Read);
    mmu::map(core, va as u32, Kind::Read, mmu).map(|_| 0)
}

/// One that counts as a store.
fn touch_store(core: &mut Cpu, va: u64, _: u64) -> Done {
    let mmu = core.isa.mmu_of(Kind::Read);
    mmu::map(core, va as u32, Kind::Write, mmu).map(|_| 0)
}

fn mfsr(core: &mut Cpu, n: u64, _: u64) -> Done {
    Ok(core.isa.segments.get(n as usize & 15).copied().unwrap_or(0).into())
}

fn mtsr(core: &mut Cpu, n: u64, value: u64) -> Done {
    let n = n as usize & 15;
    if let Some(segment) = core.isa.segments.get_mut(n) {
        let old = std::mem::replace(segment, value as u32);
        if old != value as u32 {
            core.flush();
        }
        if core.logs(LogMask::MMU) {
            trace::segment_written(core, n, old, value as u32);
        }
    }
    Ok(0)
}

fn tlbie(core: &mut Cpu, va: u64, _: u64) -> Done {
    core.isa.invalidate(va as u32);
    // Whatever the segment: others may have the same virtual one.
    for segment in 0..16 {
        let page = segment << 28 | va & 0x0fff_f000;
        core.flush_range(page, page | (PAGE_SIZE - 1));
    }
    Ok(0)
}

/// `tlbld` (`instruction` is 0) and `tlbli`.
fn tlb_load(core: &mut Cpu, va: u64, instruction: u64) -> Done {
    let kind = if instruction != 0 { Kind::Fetch } else { Kind::Read };
    let srr1 = core.get32(SRR1);
    core.isa.load_entry(va as u32, kind, srr1);
    core.flush();
    Ok(0)
}

fn external(core: &mut Cpu, va: u64, kind: Kind) -> Result<MemOp, Fault> {
    word_aligned(va)?;
    if core.isa.spr(number::EAR) >> 31 == 0 {
        return Err(Fault::dsi(va as u32, kind, dsisr::EXTERNAL_ACCESS));
    }
    Ok(access(core, 4))
}

fn eciwx(core: &mut Cpu, va: u64, _: u64) -> Done {
    let mem = external(core, va, Kind::Read)?;
    core.helper_load(va, mem)
}

fn ecowx(core: &mut Cpu, va: u64, value: u64) -> Done {
    let mem = external(core, va, Kind::Write)?;
    core.helper_store(va, value, mem)?;
    Ok(0)
}

/// IABR: before each instruction while it is on.
fn breakpoint(core: &mut Cpu, pc: u64, _: u64) -> Done {
    let iabr = core.isa.spr(number::IABR);
    let translated = core.isa.mode() & mode::CODE != 0;
    if (iabr ^ pc as u32) & !3 == 0 && (iabr & 1 != 0) == translated {
        return Err(Fault::of(Exception::InstructionBreakpoint));
    }
    Ok(0)
}

/// The instruction is done that MSR\[SE\] or MSR\[BE\] traces.
fn traced(core: &mut Cpu, _: u64, _: u64) -> Done {
    core.isa.traced = true;
    Ok(0)
}
