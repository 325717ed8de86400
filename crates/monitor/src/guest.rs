//! What the front ends ask of a machine's memory: looking without side effects, real accesses, saving to a file.

use crate::hmp::HmpError;
use crate::hmp::format::integer;
use crate::pagemap;
use flatview::{AddressSpace, Endianness};
use flatview_board::Machine;
use std::fs::OpenOptions;
use std::io::Write;

/// The unit in which memory is looked at where some of it may be unreadable.
const PAGE: u64 = 4096;

/// Looks at physical memory without side effects, as the boot CPU sees it.
///
/// # Errors
/// Why it cannot be looked at: the first address that refuses, and what stands there.
pub(crate) fn peek(machine: &Machine, space: &AddressSpace, addr: u64, buf: &mut [u8]) -> Result<(), String> {
    if space.peek(addr, buf).is_ok() {
        return Ok(());
    }
    let mut byte = [0];
    let bad = (0..buf.len() as u64)
        .map(|offset| addr.wrapping_add(offset))
        .find(|&addr| space.peek(addr, &mut byte).is_err())
        .unwrap_or(addr);
    Err(refusal(machine, space, bad))
}

/// The same by virtual address; without a CPU that translates, they are physical ones.
///
/// # Errors
/// As [`peek`], or that nothing is mapped there.
pub(crate) fn peek_virtual(
    machine: &Machine,
    space: &AddressSpace,
    addr: u64,
    buf: &mut [u8],
    translate: Translate,
) -> Result<(), String> {
    let room = PAGE - addr % PAGE;
    let at = room.min(buf.len() as u64) as usize;
    let (here, behind) = buf.split_at_mut(at);
    let phys = translate(machine, addr).ok_or_else(|| format!("{addr:#x} is not mapped by the CPU"))?;
    peek(machine, space, phys, here)?;
    match behind.is_empty() {
        true => Ok(()),
        false => peek_virtual(machine, space, addr.wrapping_add(room), behind, translate),
    }
}

/// How a virtual address becomes a physical one.
pub(crate) type Translate = fn(&Machine, u64) -> Option<u64>;

/// As the CPU's loads do it, or without a CPU not at all.
pub(crate) fn translate(machine: &Machine, va: u64) -> Option<u64> {
    machine.translate(va)
}

/// As its instruction fetches do it.
pub(crate) fn translate_code(machine: &Machine, va: u64) -> Option<u64> {
    machine.with_cpu(0, |cpu| cpu.physical_code(va)).unwrap_or(Some(va))
}

/// Why a byte cannot be looked at.
fn refusal(machine: &Machine, space: &AddressSpace, addr: u64) -> String {
    // A space that is gone maps nothing.
    let view = space.view().ok();
    match view.as_ref().and_then(|view| view.lookup(addr)) {
        None => format!("nothing is mapped at {addr:#x}"),
        Some(range) => {
            let owner = machine
                .memory()
                .region(range.region())
                .ok()
                .and_then(|region| region.owner.map(|owner| format!(" of {}", owner.path())))
                .unwrap_or_default();
            format!("region '{}'{owner} at {addr:#x} cannot be read without side effects", range.name())
        }
    }
}

/// Takes the bytes of a page, and the address of the first that could not be looked at.
pub(crate) type TakePage<'a, E> = dyn FnMut(&[u8], Option<u64>) -> Result<(), E> + 'a;

/// Looks at `size` bytes from `addr` on, a page at a time. What cannot be looked at is 0, and the address of the first such
/// byte of a page is passed along. `is_virtual`: the CPU translates, and what it does not is such a byte.
///
/// # Errors
/// Those of `take`.
pub(crate) fn peek_pages<E>(
    machine: &Machine,
    addr: u64,
    size: u64,
    is_virtual: bool,
    take: &mut TakePage<'_, E>,
) -> Result<(), E> {
    let space = machine.cpu_space();
    let mut page = [0; PAGE as usize];
    let (mut addr, mut left) = (addr, size);
    while left > 0 {
        let len = left.min(PAGE - addr % PAGE);
        let bytes = page.get_mut(..len as usize).unwrap_or_default();
        let mut bad = None;
        let phys = if is_virtual { machine.translate(addr) } else { Some(addr) };
        let Some(phys) = phys else {
            bytes.fill(0);
            take(bytes, Some(addr))?;
            addr = addr.wrapping_add(len);
            left -= len;
            continue;
        };
        if space.peek(phys, bytes).is_err() {
            for (at, byte) in (0..).map(|offset: u64| phys.wrapping_add(offset)).zip(bytes.iter_mut()) {
                let mut one = [0];
                if space.peek(at, &mut one).is_err() {
                    one = [0];
                    bad = bad.or(Some(at));
                }
                [*byte] = one;
            }
        }
        take(bytes, bad)?;
        addr = addr.wrapping_add(len);
        left -= len;
    }
    Ok(())
}

/// What to do with bytes that cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Save zeros (`pmemsave`).
    Zeros,
    /// Stop with an error (`memsave`).
    Refuse,
}

/// Saves memory to a file; the file is created or overwritten.
///
/// # Errors
/// The file cannot be opened or written; with [`Unreadable::Refuse`], a byte that cannot be read.
pub(crate) fn save(
    machine: &Machine,
    addr: u64,
    size: u64,
    path: &str,
    unreadable: Unreadable,
) -> Result<(), HmpError> {
    let file_error = |action| move |source| HmpError::File { action, path: path.to_owned(), source };
    // Emptied only when it is known to be no memory of the machine.
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let mut file = file.map_err(file_error("open"))?;
    if let Some(block) = machine.block_of_file(&file) {
        return Err(HmpError::IsMemory { path: path.to_owned(), block });
    }
    // Devices and pipes have no length to cut.
    if file.metadata().map_err(file_error("open"))?.is_file() {
        file.set_len(0).map_err(file_error("open"))?;
    }
    let is_virtual = unreadable == Unreadable::Refuse;
    peek_pages(machine, addr, size, is_virtual, &mut |bytes, bad| match (bad, unreadable) {
        (Some(_), Unreadable::Refuse) => {
            Err(HmpError::Failed(format!("Invalid addr 0x{addr:016x}/size {size} specified")))
        }
        _ => file.write_all(bytes).map_err(file_error("write")),
    })
}

/// Where the host keeps the RAM at a physical address: the region's name and the address in this process.
///
/// # Errors
/// What QEMU says where there is none.
fn host(machine: &Machine, addr: u64) -> Result<(String, u64), String> {
    let unmapped = || format!("No memory is mapped at address {addr:#x}");
    let view = machine.cpu_space().view().map_err(|_| unmapped())?;
    let range = view.lookup(addr).ok_or_else(unmapped)?;
    let memory = range.block().filter(|_| range.is_ram() || range.romd());
    let (block, offset) = memory.ok_or_else(|| format!("Memory at address {addr:#x} is not RAM"))?;
    let host = block.host().as_ptr().addr() as u64 + offset + (addr - range.start());
    Ok((range.name().to_owned(), host))
}

/// What `gpa2hva` says about a physical address.
pub(crate) fn host_address(machine: &Machine, addr: u64) -> String {
    match host(machine, addr) {
        Ok((name, host)) => format!("Host virtual address for {addr:#x} ({name}) is {host:#x}"),
        Err(reason) => reason,
    }
}

/// What `gpa2hpa` says about a physical address of the guest.
pub(crate) fn host_physical_address(machine: &Machine, addr: u64) -> String {
    let found = host(machine, addr).and_then(|(name, host)| Ok((name, pagemap::physical(host)?)));
    match found {
        Ok((name, host)) => format!("Host physical address for {addr:#x} ({name}) is {host:#x}"),
        Err(reason) => reason,
    }
}

/// The bytes of an integer in the target's order.
pub(crate) fn to_bytes(value: u64, size: u32, order: Endianness) -> Vec<u8> {
    let size = (size as usize).min(8);
    match order {
        Endianness::Little => value.to_le_bytes().get(..size).unwrap_or_default().to_vec(),
        Endianness::Big => value.to_be_bytes().get(8 - size..).unwrap_or_default().to_vec(),
    }
}

/// A real read of an integer in the target's order. What no device answers reads as the space has it (0, or all ones for
/// ports): the bus's errors have no place in the protocols that call this.
pub(crate) fn load(machine: &Machine, space: &AddressSpace, addr: u64, size: u32) -> u64 {
    let mut bytes = [0; 8];
    let bytes = bytes.get_mut(..(size as usize).min(8)).unwrap_or_default();
    let _ = space.read(addr, bytes);
    integer(bytes, machine.memory().target())
}

/// A real write of an integer in the target's order; errors as in [`load`].
pub(crate) fn store(machine: &Machine, space: &AddressSpace, addr: u64, size: u32, value: u64) {
    let _ = space.write(addr, &to_bytes(value, size, machine.memory().target()));
}

/// A real port read of 1, 2 or 4 bytes.
pub(crate) fn port_in(machine: &Machine, port: u16, size: u32) -> u64 {
    load(machine, &machine.io_space(), u64::from(port), size)
}

/// A real port write of 1, 2 or 4 bytes.
pub(crate) fn port_out(machine: &Machine, port: u16, size: u32, value: u32) {
    store(machine, &machine.io_space(), u64::from(port), size, u64::from(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_cut_to_its_low_bytes_in_either_order() {
        assert_eq!(to_bytes(0x1122_3344_5566_7788, 4, Endianness::Big), [0x55, 0x66, 0x77, 0x88]);
        assert_eq!(to_bytes(0x1122_3344_5566_7788, 2, Endianness::Little), [0x88, 0x77]);
        for order in [Endianness::Big, Endianness::Little] {
            assert_eq!(integer(&to_bytes(0x1234_5678, 4, order), order), 0x1234_5678);
        }
    }
}
