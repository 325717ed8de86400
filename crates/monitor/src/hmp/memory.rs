//! The commands that look at memory and ports.

use super::args::Args;
use super::{Hmp, HmpError, format};
use crate::guest;
use std::io::Write;

type Done = Result<(), HmpError>;

/// `xp /NFS ADDR`
pub(super) fn xp(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    dump(hmp, args, out, 16)
}

fn no_cpu() -> HmpError {
    let text = "This machine has no CPU that runs: there is no code for it; -bios or -kernel names some";
    HmpError::Failed(text.to_owned())
}

/// `info registers`
pub(super) fn registers(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    let cpus = hmp.machine.registers();
    if cpus.is_empty() {
        return Err(no_cpu());
    }
    for (n, registers) in cpus.iter().enumerate() {
        write!(out, "\nCPU#{n}\n{registers}")?;
    }
    Ok(())
}

/// `info tlb`
pub(super) fn tlb(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    let text = hmp.machine.with_cpu(0, |cpu| cpu.tlb()).map_err(|_| no_cpu())?;
    Ok(write!(out, "{text}")?)
}

/// `info mem`
pub(super) fn mem(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    args.end()?;
    let text = hmp.machine.with_cpu(0, |cpu| cpu.mappings()).map_err(|_| no_cpu())?;
    Ok(write!(out, "{text}")?)
}

/// `x /NFS ADDR`: without a CPU to translate, addresses are physical, in the eight digits of a 32-bit CPU's.
pub(super) fn x(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    dump(hmp, args, out, 8)
}

fn dump(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write, digits: usize) -> Done {
    let format = args.format(&mut hmp.formats)?;
    let addr = args.long(&|name| hmp.register(name))?;
    args.end()?;
    let space = hmp.machine.cpu_space();
    let order = hmp.machine.memory().target();
    let machine = &hmp.machine;
    let translate = match format.radix {
        // As what is executed.
        format::Radix::Instruction => guest::translate_code,
        _ => guest::translate,
    };
    let peek = |addr, buf: &mut [u8]| match digits {
        16 => guest::peek(machine, &space, addr, buf),
        _ => guest::peek_virtual(machine, &space, addr, buf, translate),
    };
    if format.radix == format::Radix::Instruction {
        // Without a CPU nobody knows which instructions there are.
        let disassembler = machine.with_cpu(0, |cpu| cpu.disassembler()).ok();
        return Ok(format::disassemble(out, format.count, addr, digits, disassembler, &peek)?);
    }
    Ok(format::dump(out, format, addr, digits, order, &peek)?)
}

/// `print /F EXPR`
pub(super) fn print(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let format = args.format(&mut hmp.formats)?;
    let value = args.long(&|name| hmp.register(name))?;
    args.end()?;
    Ok(writeln!(out, "{}", format::print_value(format.radix, value))?)
}

/// `gpa2hva ADDR`
pub(super) fn gpa2hva(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let addr = args.long(&|name| hmp.register(name))?;
    args.end()?;
    Ok(writeln!(out, "{}", guest::host_address(&hmp.machine, addr))?)
}

/// `gpa2hpa ADDR`
pub(super) fn gpa2hpa(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let addr = args.long(&|name| hmp.register(name))?;
    args.end()?;
    Ok(writeln!(out, "{}", guest::host_physical_address(&hmp.machine, addr))?)
}

/// `gva2gpa ADDR`
pub(super) fn gva2gpa(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let addr = args.long(&|name| hmp.register(name))?;
    args.end()?;
    if !hmp.machine.has_cpu() {
        let text =
            "This machine has no CPU that translates virtual addresses; use physical ones (xp, gpa2hva)";
        return Err(HmpError::Failed(text.to_owned()));
    }
    match hmp.machine.translate(addr) {
        Some(phys) => writeln!(out, "gpa: {phys:#x}")?,
        None => writeln!(out, "Unmapped")?,
    }
    Ok(())
}

/// `memsave ADDR SIZE FILE`
pub(super) fn memsave(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    let (addr, size, file) = save_args(hmp, args)?;
    guest::save(&hmp.machine, addr, size, &file, guest::Unreadable::Refuse)
}

/// `pmemsave ADDR SIZE FILE`
pub(super) fn pmemsave(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    let (addr, size, file) = save_args(hmp, args)?;
    guest::save(&hmp.machine, addr, size, &file, guest::Unreadable::Zeros)
}

fn save_args(hmp: &Hmp, args: &mut Args<'_>) -> Result<(u64, u64, String), HmpError> {
    let addr = args.long(&|name| hmp.register(name))?;
    let size = args.int(&|name| hmp.register(name))?;
    let file = args.string()?;
    args.end()?;
    Ok((addr, u64::from(size), file))
}

/// `sum ADDR SIZE`: the 16-bit checksum of BSD's `sum`; what cannot be looked at counts as 0.
pub(super) fn sum(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let addr = args.long(&|name| hmp.register(name))?;
    let size = args.int(&|name| hmp.register(name))?;
    args.end()?;
    let mut sum: u16 = 0;
    guest::peek_pages(&hmp.machine, addr, u64::from(size), false, &mut |bytes, _| {
        for &byte in bytes {
            sum = sum.rotate_right(1).wrapping_add(u16::from(byte));
        }
        Ok::<_, HmpError>(())
    })?;
    Ok(writeln!(out, "{sum:05}")?)
}

/// The letter that QEMU puts behind `port` for a size.
fn port_suffix(size: u32) -> char {
    match size {
        1 => 'b',
        2 => 'w',
        _ => 'l',
    }
}

/// `i /NFS PORT`: a real read, side effects included, of 1, 2 or 4 bytes.
pub(super) fn port_read(hmp: &mut Hmp, args: &mut Args<'_>, out: &mut dyn Write) -> Done {
    let format = args.format(&mut hmp.formats)?;
    let port = args.long(&|name| hmp.register(name))? as u16;
    args.end()?;
    let size = format.size.min(4);
    let value = guest::port_in(&hmp.machine, port, size);
    let digits = size as usize * 2;
    Ok(writeln!(out, "port{}[0x{port:04x}] = 0x{value:0digits$x}", port_suffix(size))?)
}

/// `o /NFS PORT VALUE`
pub(super) fn port_write(hmp: &mut Hmp, args: &mut Args<'_>, _: &mut dyn Write) -> Done {
    let format = args.format(&mut hmp.formats)?;
    let port = args.long(&|name| hmp.register(name))? as u16;
    let value = args.long(&|name| hmp.register(name))? as u32;
    args.end()?;
    guest::port_out(&hmp.machine, port, format.size.min(4), value);
    Ok(())
}
