//! Texts that more than one front end prints.

use flatview_board::Machine;
use std::fmt::Write as _;

/// Why no virtual CPU's writes are slowed down.
pub(crate) const NO_DIRTY_LIMIT: &str =
    "dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'";

/// `info numa` and `x-query-numa`: no board has nodes.
pub(crate) const NO_NUMA: &str = "0 nodes\n";

/// `info ramblock` and `x-query-ramblock`: QEMU's columns.
pub(crate) fn ramblock_table(machine: &Machine) -> String {
    let mut text =
        format!("{:>24} {:>8}  {:>18} {:>18} {:>18}\n", "Block Name", "PSize", "Offset", "Used", "Total");
    for row in machine.ram_blocks() {
        let _ = writeln!(
            text,
            "{:>24} {:>8}  {:#018x} {:#018x} {:#018x}",
            row.name,
            size_text(row.page_size),
            row.offset,
            row.used,
            row.total
        );
    }
    text
}

/// `info roms` and `x-query-roms`.
pub(crate) fn rom_table(machine: &Machine) -> String {
    machine.roms().iter().fold(String::new(), |mut text, rom| {
        let _ = writeln!(text, "{rom}");
        text
    })
}

/// A size in the largest unit that keeps it below 1024: `4 KiB`.
fn size_text(bytes: u64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024 || !value.is_multiple_of(1024) {
            return format!("{value} {unit}");
        }
        value /= 1024;
    }
    format!("{value} EiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_have_the_unit_of_qemu() {
        assert_eq!(size_text(4096), "4 KiB");
        assert_eq!(size_text(2 << 20), "2 MiB");
        assert_eq!(size_text(512), "512 B");
    }
}
