//! What a machine's log is told of memory, and by whom its changes are followed (`-d guest_errors`, `-trace`).
//!
//! What it is: the lines of refused accesses and of devices' callbacks, in QEMU's form, and the switches of memory and CPUs
//! behind `-d`, `-trace` and the monitor's `log` and `trace-event`. What it is not: the log ([`flatview_device::log`]). What
//! must always hold: memory is asked to tell only while somebody wants to know.

use std::cell::Cell;
use std::sync::Arc;

use flatview::{Access, AccessLog, AccessTrace, InvalidAccess, Memory, WeakMemory};
use flatview_cpu::Inputs;
use flatview_device::{Log, LogMask, TraceEvent};
use parking_lot::Mutex;

thread_local! {
    /// Which CPU this thread runs; -1 for none.
    static CPU: Cell<i64> = const { Cell::new(-1) };
}

/// From now on accesses of this thread are those of a CPU.
pub(crate) fn thread_runs_cpu(number: usize) {
    CPU.set(i64::try_from(number).unwrap_or(i64::MAX));
}

/// Sends refused accesses to the log, as QEMU words them.
struct GuestErrors(Log);

impl AccessLog for GuestErrors {
    fn invalid(&self, access: &InvalidAccess<'_>) {
        self.0.line(LogMask::GUEST_ERRORS, format_args!("{access}"));
    }

    fn reentry(&self, region: &str, offset: u64) {
        self.0.line(
            LogMask::GUEST_ERRORS,
            format_args!("Blocked re-entrant IO on MemoryRegion: {region} at addr: 0x{offset:X}"),
        );
    }
}

/// Sends devices' callbacks to the log, as QEMU's trace events.
struct Calls {
    log: Log,
    memory: WeakMemory,
}

impl AccessTrace for Calls {
    fn called(&self, call: &Access<'_>, value: u64) {
        let event =
            if call.is_write() { TraceEvent::MemoryRegionOpsWrite } else { TraceEvent::MemoryRegionOpsRead };
        if !self.log.events().is_on(event) {
            return;
        }
        let (region, offset) = (call.region(), call.offset());
        let address = self.memory.upgrade().and_then(|memory| memory.absolute_address(region, offset).ok());
        self.log.trace(
            event,
            format_args!(
                "cpu {} mr {:#x} addr {:#x} value {value:#x} size {} name '{}'",
                CPU.get(),
                region.number(),
                address.unwrap_or(offset),
                call.size(),
                call.region_name(),
            ),
        );
    }

    fn in_part_of_page(&self, access: &Access<'_>, value: u64) {
        // Only CPUs go by pages.
        let cpu = CPU.get();
        if cpu < 0 {
            return;
        }
        let event = match access.is_write() {
            true => TraceEvent::MemoryRegionSubpageWrite,
            false => TraceEvent::MemoryRegionSubpageRead,
        };
        self.log.trace(
            event,
            format_args!(
                "cpu {cpu} mr {:#x} offset {:#x} value {value:#x} size {}",
                access.region().number(),
                access.address() & 0xfff,
                access.size(),
            ),
        );
    }
}

/// What memory was asked to tell.
#[derive(Debug, Default)]
struct Asked {
    errors: bool,
    calls: bool,
}

/// Does what the log says, now and whenever it changes.
pub(crate) fn follow(log: &Log, memory: &Memory, cpus: Vec<Arc<Inputs>>) {
    let asked = Mutex::new(Asked::default());
    // The log outlives neither, and is not kept by what it keeps.
    let (weak, inner) = (memory.downgrade(), log.downgrade());
    let apply = move || {
        let (Some(memory), Some(log)) = (weak.upgrade(), inner.upgrade()) else { return };
        let mut asked = asked.lock();
        let errors = log.enabled(LogMask::GUEST_ERRORS);
        if std::mem::replace(&mut asked.errors, errors) != errors {
            match errors {
                true => memory.set_access_log(GuestErrors(log.clone())),
                false => memory.remove_access_log(),
            }
        }
        let calls = log.events().is_any_on();
        if std::mem::replace(&mut asked.calls, calls) != calls {
            let told = || Arc::new(Calls { log: log.clone(), memory: memory.downgrade() });
            // It fails only where a map is so large that it cannot be made anew; then it stays as it was.
            let _ = memory.set_access_trace(calls.then(told).map(|calls| calls as Arc<dyn AccessTrace>));
        }
        drop(asked);
        for inputs in &cpus {
            inputs.attend();
        }
    };
    apply();
    log.on_change(apply);
}
