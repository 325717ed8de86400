//! The head of a dump: an ELF core file with a segment for each block of memory.
//!
//! What follows it in the file is the memory of the blocks, one behind the other, without gaps.

use flatview::Endianness;
use object::elf::{ELFOSABI_SYSV, ET_CORE, FileFlags, Machine, PN_XNUM, PT_LOAD, ProgramFlags};
use object::write::elf::{FileHeader, ProgramHeader, Writer};

use super::{DumpError, GuestPhysBlock};

/// Whose memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElfTarget {
    /// ELF's number of the CPU's kind (`e_machine`).
    pub machine: u16,
    /// The byte order.
    pub order: Endianness,
}

/// Sizes of ELF's structures: of the file header, a program header, and the section header that tells the number of segments
/// where 16 bits are too few.
const SIZES_32: (u64, u64, u64) = (52, 32, 40);

/// Whether 32 bits are enough for every address and every offset in the file.
fn fits_32(blocks: &[GuestPhysBlock]) -> bool {
    let (file, segment, section) = SIZES_32;
    let head = blocks.len() as u128 * u128::from(segment) + u128::from(file + section);
    let memory: u128 = blocks.iter().map(|block| u128::from(block.size)).sum();
    let addresses = blocks.iter().all(|block| block.last() <= u64::from(u32::MAX));
    addresses && head + memory <= u128::from(u32::MAX)
}

/// The bytes before the memory: file header and program headers, of class 32 where that is wide enough, else 64. A segment's virtual
/// address is its physical one.
///
/// # Errors
/// [`DumpError::Header`] if there are more segments than a file can have.
pub fn core_header(target: ElfTarget, blocks: &[GuestPhysBlock]) -> Result<Vec<u8>, DumpError> {
    let problem = |text: &dyn std::fmt::Display| DumpError::Header(text.to_string());
    let count = u32::try_from(blocks.len()).map_err(|error| problem(&error))?;
    let order = match target.order {
        Endianness::Little => object::Endianness::Little,
        Endianness::Big => object::Endianness::Big,
    };
    let mut bytes = Vec::new();
    let mut writer = Writer::new(order, !fits_32(blocks), &mut bytes);
    writer.reserve_file_header();
    writer.reserve_program_headers(count);
    if count >= u32::from(PN_XNUM) {
        writer.reserve_null_section_index();
        writer.reserve_section_headers();
    }
    let mut offset = writer.reserved_len();
    let header = FileHeader {
        os_abi: ELFOSABI_SYSV,
        abi_version: 0,
        e_type: ET_CORE,
        e_machine: Machine(target.machine),
        e_entry: 0,
        e_flags: FileFlags(0),
    };
    writer.write_file_header(&header).map_err(|error| problem(&error))?;
    writer.write_align_program_headers();
    for block in blocks {
        writer.write_program_header(&ProgramHeader {
            p_type: PT_LOAD,
            p_flags: ProgramFlags(0),
            p_offset: offset,
            p_vaddr: block.start,
            p_paddr: block.start,
            p_filesz: block.size,
            p_memsz: block.size,
            p_align: 0,
        });
        offset = offset.checked_add(block.size).ok_or_else(|| problem(&"the file would be too long"))?;
    }
    writer.write_null_section_header();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use elf::ElfBytes;
    use elf::endian::AnyEndian;
    use elf::file::Class;
    use flatview::{Memory, RamBlock, Region, RegionId};
    use std::sync::Arc;

    fn a_region() -> RegionId {
        Memory::new(Endianness::Big).add(Region::container("c", 1)).unwrap()
    }

    fn blocks(places: &[(u64, u64)]) -> Vec<GuestPhysBlock> {
        let memory = RamBlock::anonymous("ram", 0x1000).unwrap();
        let region = a_region();
        let block =
            |&(start, size)| GuestPhysBlock { start, size, region, memory: Arc::clone(&memory), offset: 0 };
        places.iter().map(block).collect()
    }

    const PPC: ElfTarget = ElfTarget { machine: 20, order: Endianness::Big };

    /// Class, machine, and offset, address and size of each segment, as a reader of ELF files finds them.
    fn read(bytes: &[u8]) -> (Class, u16, Vec<(u64, u64, u64)>) {
        let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).unwrap();
        let segments = file.segments().unwrap().iter().map(|s| {
            assert_eq!((s.p_type, s.p_vaddr, s.p_memsz), (1, s.p_paddr, s.p_filesz));
            (s.p_offset, s.p_paddr, s.p_filesz)
        });
        assert_eq!(file.ehdr.e_type, elf::abi::ET_CORE);
        (file.ehdr.class, file.ehdr.e_machine, segments.collect())
    }

    #[test]
    fn a_segment_follows_the_other_behind_the_headers() {
        let head = core_header(PPC, &blocks(&[(0, 0x2000), (0xfff0_0000, 0x10_0000)])).unwrap();
        assert_eq!(head.len(), 52 + 2 * 32);
        assert_eq!(head[5], 2, "big-endian");
        let segments = vec![(116, 0, 0x2000), (116 + 0x2000, 0xfff0_0000, 0x10_0000)];
        assert_eq!(read(&head), (Class::ELF32, 20, segments));
        let mips = ElfTarget { machine: 8, order: Endianness::Little };
        let head = core_header(mips, &blocks(&[(0, 16)])).unwrap();
        assert_eq!((head[5], read(&head).1), (1, 8));
    }

    #[test]
    fn what_32_bits_cannot_say_makes_it_a_64_bit_file() {
        let class = |places: &[(u64, u64)]| read(&core_header(PPC, &blocks(places)).unwrap()).0;
        assert_eq!(class(&[(0, 0x8000_0000)]), Class::ELF32);
        assert_eq!(class(&[(0xffff_f000, 0x1000)]), Class::ELF32);
        assert_eq!(class(&[(0xffff_f000, 0x1001)]), Class::ELF64);
        assert_eq!(class(&[(0, 1), (1 << 32, 1)]), Class::ELF64);
        // All addresses fit, the offsets in the file would not.
        assert_eq!(class(&[(0, 0xffff_ffff)]), Class::ELF64);
        assert_eq!(class(&[(0, 0x8000_0000), (0, 0x8000_0000)]), Class::ELF64);
    }

    #[test]
    fn more_segments_than_16_bits_count_are_told_in_the_section_header() {
        for count in [65_534_u64, 65_535, 70_000] {
            let places: Vec<_> = (0..count).map(|n| (n * 0x1000, 0x800)).collect();
            let head = core_header(PPC, &blocks(&places)).unwrap();
            let (_, _, segments) = read(&head);
            assert_eq!(segments.len() as u64, count);
            assert_eq!(segments[0].0, head.len() as u64, "the memory begins behind all headers");
        }
    }
}
