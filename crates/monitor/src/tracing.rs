//! Trace events as the monitors know them: by name or pattern, in QEMU's order, with QEMU's error texts.

use flatview_board::Machine;
use flatview_board::device::TraceEvent;
use thiserror::Error;

/// Why trace events cannot be asked for or set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TracingError {
    /// No pattern, and no event is called so.
    #[error("unknown event \"{0}\"")]
    Unknown(String),
    /// There is no such CPU.
    #[error("invalid vCPU index {0}")]
    NoCpu(i64),
    /// One event, for one CPU.
    #[error("event \"{0}\" is not vCPU-specific")]
    NotOfCpu(String),
}

/// The events that a name or pattern means, for all CPUs or one: the last one first, as QEMU lists them. None of them is one
/// CPU's.
pub fn events(machine: &Machine, name: &str, cpu: Option<i64>) -> Result<Vec<TraceEvent>, TracingError> {
    let mut found: Vec<_> = TraceEvent::matching(name).collect();
    found.reverse();
    let pattern = name.contains('*');
    if found.is_empty() && !pattern {
        return Err(TracingError::Unknown(name.to_owned()));
    }
    match cpu {
        None => Ok(found),
        Some(0) if machine.has_cpu() && pattern => Ok(Vec::new()),
        Some(0) if machine.has_cpu() => Err(TracingError::NotOfCpu(name.to_owned())),
        Some(cpu) => Err(TracingError::NoCpu(cpu)),
    }
}

/// Turns the events on or off that a name or pattern means.
pub fn set(machine: &Machine, name: &str, on: bool, cpu: Option<i64>) -> Result<(), TracingError> {
    for event in events(machine, name, cpu)? {
        machine.log().set_events(event.name(), on);
    }
    Ok(())
}
