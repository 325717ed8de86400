//! How fast memory is written, and the limits that there are not: `calc_dirty_rate`, `info dirty_rate`, `…vcpu_dirty_limit`.

use super::args::Args;
use super::{Hmp, HmpError};
use crate::text::NO_DIRTY_LIMIT;
use flatview_board::{DirtyRateMode, DirtyRateSpec};
use std::io::Write;

type Done = Result<(), HmpError>;

/// `calc_dirty_rate [-r] [-b] SECONDS [PAGES]`
pub(super) fn calc(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let options = args.options("rb")?;
    let calc_time = args.long(&|name| hmp.register(name))?.cast_signed();
    let samples = args.optional_long(&|name| hmp.register(name))?;
    args.end()?;
    if calc_time == 0 {
        return Ok(writeln!(out, "Incorrect period length specified!")?);
    }
    let mode = match (options.contains('r'), options.contains('b')) {
        (true, true) => {
            return Ok(writeln!(out, "Either dirty ring or dirty bitmap can be specified!")?);
        }
        (true, false) => DirtyRateMode::DirtyRing,
        (false, true) => DirtyRateMode::DirtyBitmap,
        (false, false) => DirtyRateMode::PageSampling,
    };
    let sample_pages = samples.map(u64::cast_signed);
    hmp.machine.calc_dirty_rate(&DirtyRateSpec { calc_time, sample_pages, mode })?;
    writeln!(out, "Starting dirty rate measurement with period {calc_time} seconds")?;
    Ok(writeln!(out, "[Please use 'info dirty_rate' to check results]")?)
}

/// `info dirty_rate`
pub(super) fn info(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    let info = hmp.machine.dirty_rate();
    writeln!(out, "Status: {}", info.status.as_str())?;
    writeln!(out, "Start Time: {} (ms)", info.start.as_millis())?;
    writeln!(out, "Sample Pages: {} (per GB)", info.sample_pages)?;
    writeln!(out, "Period: {} (sec)", info.calc_time)?;
    writeln!(out, "Mode: {}", info.mode.as_str())?;
    match (info.rate, info.failed) {
        (Some(rate), _) => writeln!(out, "Dirty rate: {rate} (MB/s)")?,
        (None, Some(reason)) => writeln!(out, "Dirty rate: (failed: {reason})")?,
        (None, None) => writeln!(out, "Dirty rate: (not ready)")?,
    }
    Ok(())
}

/// `set_vcpu_dirty_limit RATE [CPU]`: needs the dirty rings of KVM.
pub(super) fn set_limit(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    args.long(&|name| hmp.register(name))?;
    args.optional_long(&|name| hmp.register(name))?;
    args.end()?;
    Err(HmpError::Failed(NO_DIRTY_LIMIT.to_owned()))
}

/// `cancel_vcpu_dirty_limit [CPU]`: there is none to cancel.
pub(super) fn cancel_limit(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.optional_long(&|name| hmp.register(name))?;
    args.end()?;
    Ok(writeln!(out, "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]")?)
}

/// `info vcpu_dirty_limit`
pub(super) fn info_limit(_: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    Ok(writeln!(out, "Dirty page limit not enabled!")?)
}
