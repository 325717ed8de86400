//! What is logged: `log`, `logfile`, `trace-event`, `info trace-events`.

use super::args::{ArgError, Args};
use super::{Hmp, HmpError};
use crate::tracing::{self, TracingError};
use flatview_board::device::{LogItems, LogMask};
use std::io::Write;
use std::path::Path;

type Done = Result<(), HmpError>;

/// `log ITEMS`: `none` ends all; what is no item, `help` for one, gives the list of them.
pub(super) fn log(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let text = args.string()?;
    args.end()?;
    let items = match text.as_str() {
        "none" => LogItems::default(),
        text => match LogItems::parse(text) {
            Ok(items) => items,
            Err(_) => return Ok(out.write_all(LogMask::help(true).as_bytes())?),
        },
    };
    let log = hmp.machine.log();
    for pattern in &items.traces {
        let (name, on) = pattern.strip_prefix('-').map_or((pattern.as_str(), true), |name| (name, false));
        if !log.set_events(name, on) && !name.contains('*') {
            writeln!(out, "warning: trace event '{name}' does not exist")?;
        }
    }
    log.set_mask(items.mask);
    Ok(())
}

/// `logfile FILE`
pub(super) fn logfile(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let name = args.file()?;
    args.end()?;
    match hmp.machine.log().set_file(Path::new(&name)) {
        Ok(()) => Ok(()),
        Err(error) => Ok(writeln!(out, "{error}")?),
    }
}

/// What QEMU prints without a word in front.
fn told(result: Result<(), TracingError>, out: &mut dyn Write) -> Done {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Ok(writeln!(out, "{error}")?),
    }
}

/// `trace-event NAME on|off [CPU]`
pub(super) fn trace_event(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let name = args.string()?;
    let on = match args.optional_word().as_deref() {
        Some("on") => true,
        Some("off") => false,
        _ => return Err(ArgError::OnOffExpected.into()),
    };
    let cpu = args.optional_long(&|name| hmp.register(name))?.map(u64::cast_signed);
    args.end()?;
    told(tracing::set(&hmp.machine, &name, on, cpu), out)
}

/// `info trace-events [NAME] [CPU]`
pub(super) fn info(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let name = args.optional_word().unwrap_or_else(|| "*".to_owned());
    let cpu = args.optional_long(&|name| hmp.register(name))?.map(u64::cast_signed);
    args.end()?;
    let events = match tracing::events(&hmp.machine, &name, cpu) {
        Ok(events) => events,
        Err(error) => return told(Err(error), out),
    };
    for event in events {
        let state = u8::from(hmp.machine.log().events().is_on(event));
        writeln!(out, "{} : state {state}", event.name())?;
    }
    Ok(())
}
