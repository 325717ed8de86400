//! The machine as `gdbstub` wants it: threads are CPUs, counted from 1.
//!
//! It keeps what belongs to the conversation and not to the machine: what the next resume will do, and which of the
//! breakpoints are called software ones. What must always hold: errors of the machine become error answers; a fatal one is a
//! resume that was refused.

use super::description;
use crate::hmp::Hmp;
use flatview::Endianness;
use flatview_board::cpu::{DebugType, GuestCpu};
use flatview_board::{DebugError, GoOn, Machine, RequestError, Resume, Steps, WatchKind};
use gdbstub::arch::{Arch, RegId, Registers};
use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadRangeStepping, MultiThreadRangeSteppingOps, MultiThreadResume,
    MultiThreadResumeOps, MultiThreadSchedulerLocking, MultiThreadSchedulerLockingOps, MultiThreadSingleStep,
    MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind as GdbWatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Bad address.
const EFAULT: u8 = 14;
/// Invalid argument.
const EINVAL: u8 = 22;

/// Bits of `qemu.sstep`.
pub(super) mod sstep {
    /// Stepping; always set by those who know it.
    pub const ENABLE: u32 = 1;
    /// Interrupts wait.
    pub const NOIRQ: u32 = 2;
    /// Timers wait.
    pub const NOTIMER: u32 = 4;
    /// All of them.
    pub const ALL: u32 = ENABLE | NOIRQ | NOTIMER;
}

/// Whatever the CPU: addresses of up to 64 bits, registers as the machine lists them.
#[derive(Debug)]
pub(super) struct AnyArch;

impl Arch for AnyArch {
    type Usize = u64;
    type Registers = RegisterBytes;
    type BreakpointKind = usize;
    type RegId = Number;
}

/// All registers, as a `g` packet has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RegisterBytes(Vec<u8>);

impl Registers for RegisterBytes {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        0
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|byte| write_byte(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

/// gdb's number of a register.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(usize);

impl RegId for Number {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        Some((Self(id), None))
    }

    fn to_raw_id(&self) -> Option<usize> {
        Some(self.0)
    }
}

/// How breakpoints are set, which debuggers are told when one is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Software,
    Hardware,
}

/// A machine and what one debugger wants of it.
pub(super) struct Debuggee {
    pub machine: Arc<Machine>,
    hmp: Hmp,
    description: String,
    /// Bits of an address that count.
    mask: u64,
    /// How single steps are done: bits of [`sstep`].
    pub sstep: u32,
    /// Addresses are physical ones (QEMU: `PhyMemMode`).
    pub physical: bool,
    resume: Resume,
    /// How often each breakpoint was set, software and hardware.
    breakpoints: BTreeMap<u64, [u32; 2]>,
}

impl Debuggee {
    pub fn new(machine: Arc<Machine>) -> Self {
        let described = machine.with_cpu(0, |cpu| {
            let counters = cpu.debug_registers().iter().filter(|r| r.kind == DebugType::CodePointer);
            let bits = counters.map(|r| r.bits).max().unwrap_or(64).clamp(1, 64);
            (description::of(cpu), u64::MAX >> (64 - bits))
        });
        let (description, mask) = described.unwrap_or((String::new(), u64::MAX));
        Self {
            hmp: Hmp::new(machine.clone()),
            machine,
            description,
            mask,
            sstep: sstep::ALL,
            physical: false,
            resume: Resume::default(),
            breakpoints: BTreeMap::new(),
        }
    }

    /// Whether the last resume was for single steps, which end soon.
    pub fn is_stepping(&self) -> bool {
        let steps = |how: &GoOn| matches!(how, GoOn::Step(Steps { range: None, .. }));
        self.resume.named.values().any(steps)
    }

    /// How a CPU's breakpoint where it stands was set.
    pub fn breakpoint_at_pc(&self, cpu: usize) -> Option<Kind> {
        let pc = self.machine.with_cpu(cpu, |cpu| cpu.pc()).ok()?;
        match self.breakpoints.get(&pc)? {
            [0, _] => Some(Kind::Hardware),
            _ => Some(Kind::Software),
        }
    }

    /// Forgets all breakpoints and watchpoints, whoever set them.
    pub fn clear_breakpoints(&mut self) {
        self.breakpoints.clear();
        self.machine.clear_breakpoints();
    }

    /// Sets a thread's program counter.
    pub fn jump(&self, tid: Tid, pc: u64) {
        let pc = pc & self.mask;
        let _ = self.machine.with_cpu(tid.get() - 1, |cpu| {
            let counter = cpu.debug_registers().iter().position(|r| r.kind == DebugType::CodePointer);
            if let Some(n) = counter {
                cpu.set_debug_register(n, pc);
            }
        });
    }

    fn cpu<R>(&self, tid: Tid, what: impl FnOnce(&mut dyn GuestCpu) -> R) -> TargetResult<R, Self> {
        self.machine.with_cpu(tid.get() - 1, what).map_err(error)
    }

    fn add(&mut self, addr: u64, kind: Kind) -> bool {
        let addr = addr & self.mask;
        self.machine.add_breakpoint(addr);
        let [software, hardware] = self.breakpoints.entry(addr).or_default();
        let count = if kind == Kind::Software { software } else { hardware };
        *count = count.saturating_add(1);
        true
    }

    fn remove(&mut self, addr: u64, kind: Kind) -> bool {
        let addr = addr & self.mask;
        if let Some([software, hardware]) = self.breakpoints.get_mut(&addr) {
            let count = if kind == Kind::Software { software } else { hardware };
            *count = count.saturating_sub(1);
        }
        self.breakpoints.retain(|_, counts| *counts != [0, 0]);
        self.machine.remove_breakpoint(addr).is_ok()
    }

    fn steps(&self, range: Option<(u64, u64)>) -> GoOn {
        GoOn::Step(Steps {
            range,
            interrupts: self.sstep & sstep::NOIRQ == 0,
            timers: self.sstep & sstep::NOTIMER == 0,
        })
    }

    fn go_on(&mut self, tid: Tid, how: GoOn) {
        self.resume.named.insert(tid.get() - 1, how);
    }
}

/// What a debugger is told of an error.
fn error(error: DebugError) -> TargetError<RequestError> {
    TargetError::Errno(match error {
        DebugError::NoCpu(_) | DebugError::WatchLength(_) | DebugError::NotSet(_) => EINVAL,
        DebugError::Unmapped(_) | DebugError::Refused(_) => EFAULT,
    })
}

/// A register's bytes in a packet.
fn to_bytes(value: u64, bytes: usize, order: Endianness) -> Vec<u8> {
    crate::guest::to_bytes(value, u32::try_from(bytes).unwrap_or(8), order)
}

/// The value of a register's bytes.
fn from_bytes(bytes: &[u8], order: Endianness) -> u64 {
    crate::hmp::format::integer(bytes.get(..bytes.len().min(8)).unwrap_or_default(), order)
}

impl Target for Debuggee {
    type Arch = AnyArch;
    type Error = RequestError;

    fn base_ops(&mut self) -> BaseOps<'_, AnyArch, RequestError> {
        BaseOps::MultiThread(self)
    }

    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }

    fn use_rle(&self) -> bool {
        // QEMU does not either, and not all clients understand it.
        false
    }

    fn use_lldb_register_info(&self) -> bool {
        false
    }

    fn use_fork_stop_reason(&self) -> bool {
        false
    }

    fn use_vfork_stop_reason(&self) -> bool {
        false
    }

    fn use_vforkdone_stop_reason(&self) -> bool {
        false
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Debuggee {
    fn read_registers(&mut self, regs: &mut RegisterBytes, tid: Tid) -> TargetResult<(), Self> {
        regs.0 = self.cpu(tid, |cpu| {
            let order = cpu.debug_order();
            let registers = cpu.debug_registers().iter().enumerate();
            registers.flat_map(|(n, r)| to_bytes(cpu.debug_register(n), r.bytes(), order)).collect()
        })?;
        Ok(())
    }

    fn write_registers(&mut self, regs: &RegisterBytes, tid: Tid) -> TargetResult<(), Self> {
        self.cpu(tid, |cpu| {
            let order = cpu.debug_order();
            let mut rest = regs.0.as_slice();
            for (n, register) in cpu.debug_registers().iter().enumerate() {
                // A packet that ends early sets the first ones.
                let Some((bytes, behind)) = rest.split_at_checked(register.bytes()) else { break };
                cpu.set_debug_register(n, from_bytes(bytes, order));
                rest = behind;
            }
        })
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        if self.physical {
            self.machine.cpu_space().peek(start, data).map_err(|_| TargetError::Errno(EFAULT))?;
        } else {
            self.machine.debug_read(tid.get() - 1, start, data).map_err(error)?;
        }
        Ok(data.len())
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        if self.physical {
            return self.machine.cpu_space().poke(start, data).map_err(|_| TargetError::Errno(EFAULT));
        }
        self.machine.debug_write(tid.get() - 1, start, data).map_err(error)
    }

    fn list_active_threads(&mut self, thread_is_active: &mut dyn FnMut(Tid)) -> Result<(), RequestError> {
        (1..=self.machine.cpu_count()).filter_map(NonZeroUsize::new).for_each(thread_is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<Tid> for Debuggee {
    fn read_register(&mut self, tid: Tid, reg: Number, buf: &mut [u8]) -> TargetResult<usize, Self> {
        let bytes = self.cpu(tid, |cpu| {
            let order = cpu.debug_order();
            let (n, register) = find(cpu, reg)?;
            Some(to_bytes(cpu.debug_register(n), register.bytes(), order))
        })?;
        let bytes = bytes.ok_or(TargetError::Errno(EINVAL))?;
        let place = buf.get_mut(..bytes.len()).ok_or(TargetError::Errno(EINVAL))?;
        place.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_register(&mut self, tid: Tid, reg: Number, val: &[u8]) -> TargetResult<(), Self> {
        let done = self.cpu(tid, |cpu| {
            let order = cpu.debug_order();
            let (n, _) = find(cpu, reg).filter(|(_, register)| register.bytes() == val.len())?;
            cpu.set_debug_register(n, from_bytes(val, order));
            Some(())
        })?;
        done.ok_or(TargetError::Errno(EINVAL))
    }
}

/// The register with a number, and its place.
fn find(cpu: &dyn GuestCpu, reg: Number) -> Option<(usize, &'static flatview_board::cpu::DebugRegister)> {
    cpu.debug_registers().iter().enumerate().find(|(_, r)| r.number as usize == reg.0)
}

impl MultiThreadResume for Debuggee {
    fn resume(&mut self) -> Result<(), RequestError> {
        self.machine.debug_resume(self.resume.clone())
    }

    fn clear_resume_actions(&mut self) -> Result<(), RequestError> {
        self.resume = Resume::all();
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), RequestError> {
        self.go_on(tid, GoOn::Run);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_range_step(&mut self) -> Option<MultiThreadRangeSteppingOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Debuggee {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), RequestError> {
        let steps = self.steps(None);
        self.go_on(tid, steps);
        Ok(())
    }
}

impl MultiThreadRangeStepping for Debuggee {
    fn set_resume_action_range_step(&mut self, tid: Tid, start: u64, end: u64) -> Result<(), RequestError> {
        let steps = self.steps(Some((start & self.mask, end & self.mask)));
        self.go_on(tid, steps);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Debuggee {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), RequestError> {
        self.resume.others = None;
        Ok(())
    }
}

impl ThreadExtraInfo for Debuggee {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, RequestError> {
        let number = tid.get() - 1;
        let halted = self.machine.with_cpu(number, |cpu| cpu.is_waiting()).unwrap_or(false);
        let text = format!("CPU#{number} [{}]", if halted { "halted" } else { "running" });
        let length = text.len().min(buf.len());
        for (place, byte) in buf.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Ok(length)
    }
}

impl Breakpoints for Debuggee {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Debuggee {
    fn add_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.add(addr, Kind::Software))
    }

    fn remove_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.remove(addr, Kind::Software))
    }
}

impl HwBreakpoint for Debuggee {
    fn add_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.add(addr, Kind::Hardware))
    }

    fn remove_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.remove(addr, Kind::Hardware))
    }
}

impl HwWatchpoint for Debuggee {
    fn add_hw_watchpoint(&mut self, addr: u64, len: u64, kind: GdbWatchKind) -> TargetResult<bool, Self> {
        self.machine.add_watchpoint(addr & self.mask, len, watch_kind(kind)).map_err(error)?;
        Ok(true)
    }

    fn remove_hw_watchpoint(&mut self, addr: u64, len: u64, kind: GdbWatchKind) -> TargetResult<bool, Self> {
        Ok(self.machine.remove_watchpoint(addr & self.mask, len, watch_kind(kind)).is_ok())
    }
}

fn watch_kind(kind: GdbWatchKind) -> WatchKind {
    match kind {
        GdbWatchKind::Write => WatchKind::Write,
        GdbWatchKind::Read => WatchKind::Read,
        GdbWatchKind::ReadWrite => WatchKind::Access,
    }
}

impl MonitorCmd for Debuggee {
    fn handle_monitor_cmd(&mut self, cmd: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), RequestError> {
        let mut said = Vec::new();
        // A vector takes everything.
        let _ = self.hmp.execute(&String::from_utf8_lossy(cmd), &mut said);
        for part in said.chunks(1024) {
            out.write_raw(part);
            out.flush();
        }
        Ok(())
    }
}

impl TargetDescriptionXmlOverride for Debuggee {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" {
            return Err(TargetError::Errno(0));
        }
        let text = self.description.as_bytes();
        let rest = usize::try_from(offset).ok().and_then(|offset| text.get(offset..)).unwrap_or_default();
        let length = length.min(rest.len()).min(buf.len());
        for (place, byte) in buf.iter_mut().zip(rest).take(length) {
            *place = *byte;
        }
        Ok(length)
    }
}
