//! linux-loader loads kernels and command lines into our memory. The kernels are made here: an ELF file and a bzImage with the
//! headers that the formats ask for and bytes that can be told apart.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]
#![cfg(target_arch = "x86_64")]

use std::io::Cursor;

use flatview::{AddressSpace, DirtyClient, Endianness, Memory, Ops, RamBlock, Region, RegionId};
use linux_loader::cmdline::Cmdline;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::elf::{self, Elf, PvhBootCapability};
use linux_loader::loader::{Error, KernelLoader, load_cmdline};
use vm_memory::GuestAddress;

const MIB: u64 = 1 << 20;

/// RAM from 0 to 4 MiB in two blocks of 2 MiB, with a device at 640 KiB and ROM below 1 MiB; logged and clean.
fn machine() -> (Memory, AddressSpace, [RegionId; 2]) {
    let memory = Memory::new(Endianness::Little);
    let ram = |name| memory.add(Region::ram(name, RamBlock::anonymous(name, 2 * MIB).unwrap())).unwrap();
    let [low, high] = ["low", "high"].map(ram);
    let rom = RamBlock::anonymous("bios", 0x1_0000).unwrap();
    memory
        .update::<_, flatview::MemoryError>(|t| {
            let vga = t.add(Region::io("vga", 0x2_0000, Ops::new()))?;
            let bios = t.add(Region::rom("bios", rom))?;
            t.map(memory.system(), 0, low)?;
            t.map(memory.system(), 2 * MIB, high)?;
            t.map_overlap(memory.system(), 0xa_0000, vga, 1)?;
            t.map_overlap(memory.system(), 0xf_0000, bios, 1)?;
            t.set_log_all(DirtyClient::MIGRATION, true)
        })
        .unwrap();
    for block in [low, high] {
        memory.reset_dirty(block, 0, 2 * MIB, DirtyClient::MIGRATION).unwrap();
    }
    let space = memory.memory_space();
    (memory, space, [low, high])
}

fn bytes(space: &AddressSpace, addr: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    space.read(addr, &mut out).unwrap();
    out
}

fn dirty(memory: &Memory, block: RegionId) -> Vec<(u64, u64)> {
    let snapshot = memory.snapshot_and_clear_dirty(block, 0, 2 * MIB, DirtyClient::MIGRATION).unwrap();
    snapshot.runs().map(|run| (run.start, run.end)).collect()
}

/// Bytes that say where in the kernel they are.
fn contents(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect()
}

struct Segment {
    kind: u32,
    addr: u64,
    data: Vec<u8>,
    /// Bytes in memory.
    size: u64,
}

/// A 64-bit little-endian x86 ELF file: header, program headers, contents.
fn elf_file(entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2_u16.to_le_bytes()); // ET_EXEC
    file.extend(62_u16.to_le_bytes()); // EM_X86_64
    file.extend(1_u32.to_le_bytes());
    [entry, 64, 0].into_iter().for_each(|n| file.extend(n.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    for n in [64, 56, segments.len() as u16, 0, 0, 0] {
        file.extend(n.to_le_bytes());
    }
    let mut at = 64 + 56 * segments.len() as u64;
    for s in segments {
        file.extend(s.kind.to_le_bytes());
        file.extend(7_u32.to_le_bytes());
        for n in [at, s.addr, s.addr, s.data.len() as u64, s.size, 4] {
            file.extend(n.to_le_bytes());
        }
        at += s.data.len() as u64;
    }
    segments.iter().for_each(|s| file.extend(&s.data));
    file
}

fn load(addr: u64, seed: u8, len: usize, size: u64) -> Segment {
    Segment { kind: 1, addr, data: contents(seed, len), size }
}

/// Xen's note with a 32-bit entry point.
fn pvh_note(entry: u32) -> Segment {
    let mut data = Vec::new();
    [4_u32, 4, 18].into_iter().for_each(|n| data.extend(n.to_le_bytes()));
    data.extend(b"Xen\0");
    data.extend(entry.to_le_bytes());
    Segment { kind: 4, addr: 0, size: data.len() as u64, data }
}

#[test]
fn an_elf_kernel_is_loaded_over_the_seam_of_two_blocks_and_its_pages_are_dirty() {
    let (memory, space, [low, high]) = machine();
    let text = load(2 * MIB - 0x1800, 1, 0x3000, 0x3000);
    let data = load(3 * MIB, 2, 0x345, 0x2000);
    let file = elf_file(2 * MIB - 0x1000, &[text, data, pvh_note(0x12_3456)]);
    let loaded =
        Elf::load(&*space.ram_view(), None, &mut Cursor::new(&file), Some(GuestAddress(MIB))).unwrap();
    assert_eq!(loaded.kernel_load, GuestAddress(2 * MIB - 0x1000));
    assert_eq!(loaded.kernel_end, 3 * MIB + 0x2000);
    assert_eq!(loaded.pvh_boot_cap, PvhBootCapability::PvhEntryPresent(GuestAddress(0x12_3456)));
    assert_eq!(bytes(&space, 2 * MIB - 0x1800, 0x3000), contents(1, 0x3000));
    assert_eq!(bytes(&space, 3 * MIB, 0x345), contents(2, 0x345));
    assert_eq!(bytes(&space, 3 * MIB + 0x345, 64), [0; 64]);
    assert_eq!(dirty(&memory, low), [(2 * MIB - 0x2000, 2 * MIB)]);
    assert_eq!(dirty(&memory, high), [(0, 0x2000), (MIB, MIB + 0x1000)]);

    // Moved by an offset.
    let file = elf_file(0x100, &[load(0, 3, 0x1000, 0x1000)]);
    let at = GuestAddress(0x20_0000);
    let loaded = Elf::load(&*space.ram_view(), Some(at), &mut Cursor::new(&file), None).unwrap();
    assert_eq!(loaded.kernel_load, GuestAddress(0x20_0100));
    assert_eq!(bytes(&space, 0x20_0000, 0x1000), contents(3, 0x1000));
}

#[test]
fn a_kernel_that_reaches_into_a_device_rom_or_past_the_ram_is_refused() {
    let (memory, space, [low, high]) = machine();
    for addr in [0xa_0000 - 0x100, 0xf_0000, 4 * MIB - 0x800, 64 * MIB] {
        let file = elf_file(addr, &[load(addr, 1, 0x1000, 0x1000)]);
        let refused = Elf::load(&*space.ram_view(), None, &mut Cursor::new(&file), None);
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Elf(elf::Error::ReadKernelImage)), "{addr:#x}: {error}");
    }
    assert_eq!(
        bytes(&space, 0xf_0000, 0x1000),
        [0; 0x1000],
        "ROM is loaded with `poke`, not through a RamView"
    );
    // What fitted was written, as on rust-vmm's own memory, and is dirty.
    assert_eq!(dirty(&memory, low), [(0x9_f000, 0xa_0000)]);
    assert_eq!(dirty(&memory, high), [(2 * MIB - 0x1000, 2 * MIB)]);
}

#[test]
fn a_bzimage_is_loaded_with_its_setup_header_command_line_and_zero_page() {
    let (memory, space, [low, high]) = machine();
    // Boot protocol 2.13: two setup sectors after the boot sector, then the kernel.
    let mut file = vec![0; 3 * 512];
    file[0x1f1] = 2;
    file[0x1fe..0x200].copy_from_slice(&0xaa55_u16.to_le_bytes());
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020d_u16.to_le_bytes());
    file[0x211] = 1; // loaded high
    file[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    file.extend(contents(9, 0x12_3456));
    let loaded =
        BzImage::load(&*space.ram_view(), None, &mut Cursor::new(&file), Some(GuestAddress(MIB))).unwrap();
    assert_eq!((loaded.kernel_load, loaded.kernel_end), (GuestAddress(MIB), MIB + 0x12_3456));
    assert_eq!(bytes(&space, MIB, 0x12_3456), contents(9, 0x12_3456));
    let header = loaded.setup_header.unwrap();
    assert_eq!({ header.version }, 0x020d);
    assert_eq!(dirty(&memory, low), [(MIB, 2 * MIB)]);
    assert_eq!(dirty(&memory, high), [(0, 0x2_4000)]);

    let mut cmdline = Cmdline::new(256).unwrap();
    cmdline.insert("console", "ttyS0").unwrap();
    cmdline.insert_str("quiet").unwrap();
    load_cmdline(&*space.ram_view(), GuestAddress(0x2_0000), &cmdline).unwrap();
    assert_eq!(bytes(&space, 0x2_0000, 20), b"console=ttyS0 quiet\0");
    for addr in [0xa_0000 - 8, 0xf_0000] {
        assert!(load_cmdline(&*space.ram_view(), GuestAddress(addr), &cmdline).is_err());
    }

    let mut zero_page = boot_params { hdr: header, ..boot_params::default() };
    zero_page.hdr.cmd_line_ptr = 0x2_0000;
    let params = BootParams::new(&zero_page, GuestAddress(0x7000));
    LinuxBootConfigurator::write_bootparams(&params, &*space.ram_view()).unwrap();
    assert_eq!(bytes(&space, 0x7000 + 0x202, 4), b"HdrS");
    assert_eq!(bytes(&space, 0x7000 + 0x228, 4), 0x2_0000_u32.to_le_bytes());
    assert_eq!(dirty(&memory, low)[..2], [(0x7000, 0x8000), (0x2_0000, 0x2_1000)]);
}
