//! Memory back ends and memory devices: `info memdev`, `info memory-devices`, `object_add`, `device_add` and their kin.

use super::args::Args;
use super::{Hmp, HmpError};
use flatview_board::{Machine, MemdevKind, MemdevSpec, Properties};
use std::io::Write;

type Done = Result<(), HmpError>;

/// `info memdev`: an empty line follows the last one.
pub(super) fn memdev(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    for memdev in hmp.machine.objects().memdevs() {
        let spec = memdev.spec;
        writeln!(out, "memory backend: {}", spec.id)?;
        writeln!(out, "  size:  {}", spec.size)?;
        for (name, value) in [
            ("merge", spec.merge),
            ("dump", spec.dump),
            ("prealloc", spec.prealloc),
            ("share", spec.share),
            ("reserve", spec.reserve),
        ] {
            writeln!(out, "  {name}: {value}")?;
        }
        writeln!(out, "  policy: {}", spec.policy)?;
        writeln!(out, "  host nodes: {}", ranges(&spec.host_nodes))?;
    }
    Ok(writeln!(out)?)
}

/// Sorted numbers as ranges: `0-2,5`.
fn ranges(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let text = |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// `info memory-devices`: nothing if there is none.
pub(super) fn memory_devices(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    for dimm in hmp.machine.objects().devices() {
        writeln!(out, "Memory device [dimm]: \"{}\"", dimm.id.unwrap_or_default())?;
        writeln!(out, "  addr: {:#x}", dimm.addr)?;
        writeln!(out, "  slot: {}", dimm.slot)?;
        writeln!(out, "  node: {}", dimm.node)?;
        writeln!(out, "  size: {}", dimm.size)?;
        writeln!(out, "  memdev: {}", dimm.memdev)?;
        writeln!(out, "  hotplugged: {}", dimm.hotplugged)?;
        writeln!(out, "  hotpluggable: true")?;
    }
    Ok(())
}

/// `object_add TYPE,id=ID,…`; `TYPE,help` lists the properties.
pub(super) fn object_add(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let text = args.string()?;
    args.end()?;
    let (name, rest) = text.split_once(',').unwrap_or((&text, ""));
    let kind = MemdevKind::ALL.into_iter().find(|kind| kind.name() == name);
    if let Some(kind) = kind.filter(|_| rest == "help") {
        return Ok(write!(out, "{}", kind.help())?);
    }
    Ok(hmp.machine.objects().add(MemdevSpec::of(Properties::of_text("qom-type", &text))?)?)
}

pub(super) fn object_del(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    let id = args.string()?;
    args.end()?;
    Ok(hmp.machine.objects().remove(&id)?)
}

/// `device_add DRIVER,…`; `pc-dimm,help` lists the properties.
pub(super) fn device_add(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let text = args.string()?;
    args.end()?;
    if text == "pc-dimm,help" {
        return Ok(write!(out, "{}", Machine::dimm_help())?);
    }
    Ok(hmp.machine.device_add(Properties::of_text("driver", &text))?)
}

pub(super) fn device_del(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    let id = args.string()?;
    args.end()?;
    Ok(hmp.machine.device_del(&id)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0]), "0");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }
}
