//! `qom-list` and `qom-get`: questions about the object tree.

use super::args::Args;
use super::{Hmp, HmpError};
use flatview_board::QomError;
use flatview_board::device::QomValue;
use std::io::Write;

type Done = Result<(), HmpError>;

/// `qom-list [PATH]`; without a path there is only the root, as in QEMU.
pub(super) fn list(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let path = args.optional_word();
    args.end()?;
    let Some(path) = path else { return Ok(writeln!(out, "/")?) };
    let list = hmp.machine.qom_list(&path).ok_or(QomError::NoObject { path }).map_err(|e| failed(&e))?;
    for (name, kind) in list {
        writeln!(out, "{name} ({kind})")?;
    }
    Ok(())
}

/// `qom-get PATH PROPERTY`, a value as in JSON.
pub(super) fn get(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let (path, property) = (args.string()?, args.string()?);
    args.end()?;
    let value = match hmp.machine.qom_get(&path, &property).map_err(|e| failed(&e))? {
        QomValue::Unsigned(value) => value.to_string(),
        QomValue::Signed(value) => value.to_string(),
        QomValue::Text(text) => serde_json::Value::from(text).to_string(),
    };
    Ok(writeln!(out, "{value}")?)
}

fn failed(error: &QomError) -> HmpError {
    HmpError::Failed(error.to_string())
}
