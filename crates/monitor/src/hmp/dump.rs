//! `dump-guest-memory` and `info dump`.

use super::args::Args;
use super::{Hmp, HmpError};
use flatview_board::{DumpFormat, DumpSpec, DumpStatus};
use std::io::Write;

type Done = Result<(), HmpError>;

/// `dump-guest-memory [-p] [-d] [-z|-l|-s|-w] FILE [BEGIN LENGTH]`
pub(super) fn dump_guest_memory(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    let options = args.options("pdwzls")?;
    let file = args.file()?;
    let begin = args.optional_long(&|name| hmp.register(name))?;
    let length = args.optional_long(&|name| hmp.register(name))?;
    args.end()?;
    let formats = [
        ('w', DumpFormat::WinDmp),
        ('z', DumpFormat::KdumpZlib),
        ('l', DumpFormat::KdumpLzo),
        ('s', DumpFormat::KdumpSnappy),
    ];
    let mut wanted =
        formats.iter().filter(|(letter, _)| options.contains(*letter)).map(|(_, format)| *format);
    let format = wanted.next().unwrap_or_default();
    if wanted.next().is_some() {
        return Err(HmpError::Failed("only one of '-z|-l|-s|-w' can be set".to_owned()));
    }
    let spec = DumpSpec {
        paging: options.contains('p'),
        protocol: format!("file:{file}"),
        detach: options.contains('d'),
        begin: begin.map(u64::cast_signed),
        length: length.map(u64::cast_signed),
        format,
    };
    Ok(hmp.machine.dump(&spec)?)
}

/// `info dump`
pub(super) fn info(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    let dump = hmp.machine.dump_info();
    writeln!(out, "Status: {}", dump.status.as_str())?;
    if dump.status == DumpStatus::Active {
        writeln!(out, "Finished: {:.2} %", dump.percent())?;
    }
    // Of a detached dump nobody else would tell.
    if let Some(reason) = hmp.machine.dump_error() {
        writeln!(out, "Error: {reason}")?;
    }
    Ok(())
}
