//! `info …`: what the machine looks like.

use super::args::Args;
use super::{Hmp, HmpError};
use crate::text::{NO_NUMA, ramblock_table, rom_table};
use flatview::mtree::{self, Options};
use flatview_board::RunState;
use std::io::Write;

type Done = Result<(), HmpError>;

pub(super) fn history(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    for (number, line) in hmp.history.iter().enumerate() {
        writeln!(out, "{number}: '{line}'")?;
    }
    Ok(())
}

pub(super) fn memory_size_summary(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    let plugged = hmp.machine.objects().plugged();
    Ok(writeln!(out, "base memory: {}\nplugged memory: {plugged}", hmp.machine.ram_size())?)
}

/// `info mtree [-f][-d][-o][-D]`
pub(super) fn mtree(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let given = args.options("fdoD")?;
    args.end()?;
    let options = Options {
        flat: given.contains('f'),
        dispatch: given.contains('d'),
        owner: given.contains('o'),
        disabled: given.contains('D'),
    };
    let text = mtree::write(hmp.machine.memory(), options).map_err(|e| HmpError::Failed(e.to_string()))?;
    Ok(write!(out, "{text}")?)
}

/// `info name`: nothing when the machine has no name, as QEMU.
pub(super) fn name(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    match hmp.machine.name() {
        Some(name) => Ok(writeln!(out, "{name}")?),
        None => Ok(()),
    }
}

pub(super) fn numa(_: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    Ok(out.write_all(NO_NUMA.as_bytes())?)
}

/// `info pic`: nothing on a board whose interrupt controllers tell nothing.
pub(super) fn pic(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    Ok(write!(out, "{}", hmp.machine.interrupt_state())?)
}

pub(super) fn qom_tree(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let path = args.optional_word();
    args.end()?;
    let objects = path.as_deref().is_some_and(|path| path == "/objects" || path.starts_with("/objects/"));
    let root = if objects { hmp.machine.object_tree() } else { hmp.machine.qom() };
    match path {
        None => Ok(write!(out, "{root}")?),
        Some(path) => match root.find(&path) {
            Some(node) => Ok(write!(out, "{node}")?),
            None => Ok(writeln!(out, "Path '{path}' could not be resolved.")?),
        },
    }
}

pub(super) fn qtree(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    Ok(write!(out, "{}", hmp.machine.qtree())?)
}

pub(super) fn ramblock(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    Ok(write!(out, "{}", ramblock_table(&hmp.machine))?)
}

pub(super) fn roms(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    Ok(write!(out, "{}", rom_table(&hmp.machine))?)
}

/// `info status`: a state other than running and plain paused is named in parentheses.
pub(super) fn status(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    let state = hmp.machine.run_state();
    match state {
        RunState::Running => writeln!(out, "VM status: running")?,
        RunState::Paused => writeln!(out, "VM status: paused")?,
        other => writeln!(out, "VM status: paused ({})", other.as_str())?,
    }
    Ok(())
}

pub(super) fn version(_: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    Ok(writeln!(out, "{}", crate::VERSION)?)
}
