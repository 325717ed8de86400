//! Legacy U-Boot images (`mkimage`, `uImage`): a header of 64 bytes, and a program that may be compressed.
//!
//! It is not a boot loader: scripts, RAM disks, images of several parts and flattened trees (FIT) are refused by name. What
//! must always hold: nothing of a file is used before the checksum that covers it was found right, and no more is unpacked
//! than fits where the image says it goes.
//!
//! The header's numbers are big-endian whatever the CPU's byte order, of which it says nothing.

use std::io::Read;

use flate2::Crc;
use flate2::read::GzDecoder;

use super::{Image, Rom, Target, check};

/// What a header begins with.
const MAGIC: [u8; 4] = 0x2705_1956_u32.to_be_bytes();
const HEADER: usize = 64;
/// Where the header's own checksum stands, which counts as zeros in it.
const HEADER_CRC: std::ops::Range<usize> = 4..8;

/// Kinds of CPU (`ih_arch`), by number.
const ARCHITECTURES: [&str; 27] = [
    "none",
    "Alpha",
    "ARM",
    "x86",
    "IA-64",
    "MIPS",
    "MIPS64",
    "PowerPC",
    "S/390",
    "SuperH",
    "SPARC",
    "SPARC64",
    "68000",
    "Nios",
    "MicroBlaze",
    "Nios II",
    "Blackfin",
    "AVR32",
    "ST200",
    "sandbox",
    "NDS32",
    "OpenRISC",
    "AArch64",
    "ARC",
    "x86-64",
    "Xtensa",
    "RISC-V",
];
/// What images are (`ih_type`), by number.
const TYPES: [&str; 15] = [
    "invalid",
    "standalone",
    "kernel",
    "ramdisk",
    "multi",
    "firmware",
    "script",
    "filesystem",
    "flat_dt",
    "kwbimage",
    "imximage",
    "ublimage",
    "omapimage",
    "aisimage",
    "kernel_noload",
];
const KERNEL: u8 = 2;
/// How their data is compressed (`ih_comp`), by number.
const COMPRESSIONS: [&str; 7] = ["none", "gzip", "bzip2", "lzma", "lzo", "lz4", "zstd"];

/// Whether a file begins like one.
pub(super) fn is(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A number and its name, for messages.
fn named(names: &[&str], number: u8) -> String {
    names.get(usize::from(number)).map_or_else(|| format!("number {number}"), |name| format!("'{name}'"))
}

/// Reads an image for a board with CPUs of the kind `arch`.
pub(super) fn parse(name: &str, data: &[u8], target: &Target, arch: u8) -> Result<Image, String> {
    let header = data.get(..HEADER).ok_or("it begins like a U-Boot image but is shorter than its header")?;
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    };
    let byte = |at: usize| header.get(at).copied().unwrap_or_default();
    let mut blank = header.to_vec();
    blank.get_mut(HEADER_CRC).unwrap_or_default().fill(0);
    let (said, found) = (word(HEADER_CRC.start), crc(&blank));
    if said != found {
        return Err(format!(
            "the header of the U-Boot image is damaged: its checksum is {found:#010x} and not {said:#010x}; make the image again with mkimage"
        ));
    }
    if byte(29) != arch {
        return Err(format!(
            "it is a U-Boot image for architecture {}; this board takes {}",
            named(&ARCHITECTURES, byte(29)),
            target.machine_name
        ));
    }
    if byte(30) != KERNEL {
        return Err(format!(
            "it is a U-Boot image of type {}; only kernels are loaded (mkimage -T kernel)",
            named(&TYPES, byte(30))
        ));
    }
    let (size, rest) = (word(12), data.get(HEADER..).unwrap_or_default());
    let packed = rest.get(..size as usize).ok_or_else(|| {
        format!("its header says {size} bytes of data and there are {}: the file is cut short", rest.len())
    })?;
    let (said, found) = (word(24), crc(packed));
    if said != found {
        return Err(format!(
            "the data of the U-Boot image is damaged: its checksum is {found:#010x} and not {said:#010x}; copy or make the image again"
        ));
    }
    let addr = (target.translate)(word(16).into());
    let room = target.window.1.checked_sub(addr).map_or(0, |room| room.saturating_add(1));
    let data = match byte(31) {
        0 => packed.to_vec(),
        1 => gunzip(packed, room)?,
        other => {
            return Err(format!(
                "its data is compressed with {}, which is not unpacked here; use mkimage -C gzip or -C none",
                named(&COMPRESSIONS, other)
            ));
        }
    };
    check(target, addr, data.len() as u64)?;
    Ok(Image { roms: vec![Rom { name: name.to_owned(), addr, data }], entry: Some(word(20).into()) })
}

/// Unpacks what must not become longer than `room`.
fn gunzip(packed: &[u8], room: u64) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    GzDecoder::new(packed)
        .take(room.saturating_add(1))
        .read_to_end(&mut data)
        .map_err(|error| format!("its data cannot be unpacked as gzip: {error}"))?;
    if data.len() as u64 > room {
        return Err(format!(
            "its data unpacks to more than the {room} bytes that fit where it is to be loaded"
        ));
    }
    Ok(data)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use flatview::Endianness;

    use super::*;

    const TARGET: Target = Target {
        what: "kernel",
        raw_at: None,
        window: (0, 0xff_ffff),
        machine: 8,
        machine_name: "MIPS",
        endianness: Endianness::Big,
        translate: |addr| addr & 0x1fff_ffff,
        twin: None,
        uimage: Some(5),
    };

    /// An image that is entered 4 bytes behind where it is loaded.
    pub(crate) fn image(arch: u8, kind: u8, compression: u8, load: u32, data: &[u8]) -> Vec<u8> {
        let mut header = vec![0; HEADER];
        header[..4].copy_from_slice(&MAGIC);
        header[12..16].copy_from_slice(&(data.len() as u32).to_be_bytes());
        header[16..20].copy_from_slice(&load.to_be_bytes());
        header[20..24].copy_from_slice(&load.wrapping_add(4).to_be_bytes());
        header[24..28].copy_from_slice(&crc(data).to_be_bytes());
        header[28..32].copy_from_slice(&[5, arch, kind, compression]);
        header[32..36].copy_from_slice(b"test");
        let sum = crc(&header);
        header[HEADER_CRC].copy_from_slice(&sum.to_be_bytes());
        header.extend(data);
        header
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn parsed(data: &[u8]) -> Result<Image, String> {
        assert!(is(data));
        parse("f", data, &TARGET, 5)
    }

    #[test]
    fn data_is_loaded_plain_or_unpacked_and_what_follows_it_is_left() {
        let code = b"0123456789".repeat(1000);
        for (compression, data) in [(0, code.clone()), (1, gzip(&code))] {
            let mut file = image(5, KERNEL, compression, 0x8010_0000, &data);
            file.extend(b"padding");
            let image = parsed(&file).unwrap();
            assert_eq!(image.entry, Some(0x8010_0004));
            assert_eq!(image.roms, [Rom { name: "f".to_owned(), addr: 0x10_0000, data: code.clone() }]);
        }
    }

    #[test]
    fn the_checksums_are_those_of_mkimage() {
        // What `-A mips -O linux -T kernel -C none -a 80100000 -e 80100004 -n t` means, for the four bytes "code"; the
        // checksums are those of Python's zlib.
        let mut file = vec![0x27, 0x05, 0x19, 0x56, 0xb0, 0x86, 0x4b, 0xaa, 0, 0, 0, 0, 0, 0, 0, 4];
        file.extend([0x80, 0x10, 0, 0, 0x80, 0x10, 0, 4, 0x77, 0x15, 0x30, 0x98, 5, 5, 2, 0, b't']);
        file.resize(HEADER, 0);
        file.extend(b"code");
        assert_eq!(parsed(&file).unwrap().roms[0].data, b"code");
    }

    #[test]
    fn bad_images_are_refused_with_the_reason() {
        let good = image(5, KERNEL, 0, 0x8010_0000, b"code");
        let with = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            file
        };
        let bomb = gzip(&vec![0; 17 << 20]);
        for (file, part) in [
            (good[..40].to_vec(), "shorter than its header"),
            (with(33, b'x'), "header of the U-Boot image is damaged"),
            (with(64, b'x'), "data of the U-Boot image is damaged"),
            (good[..66].to_vec(), "says 4 bytes of data and there are 2"),
            (image(7, KERNEL, 0, 0x8010_0000, b"code"), "architecture 'PowerPC'; this board takes MIPS"),
            (image(99, KERNEL, 0, 0x8010_0000, b"code"), "architecture number 99"),
            (image(5, 3, 0, 0x8010_0000, b"code"), "type 'ramdisk'"),
            (image(5, 14, 0, 0x8010_0000, b"code"), "type 'kernel_noload'"),
            (image(5, KERNEL, 3, 0x8010_0000, b"code"), "'lzma', which is not unpacked here"),
            (image(5, KERNEL, 200, 0x8010_0000, b"code"), "with number 200"),
            (image(5, KERNEL, 1, 0x8010_0000, b"code"), "cannot be unpacked as gzip"),
            (image(5, KERNEL, 1, 0x8000_0000, &bomb), "more than the 16777216 bytes"),
            (image(5, KERNEL, 0, 0x80ff_fffe, b"code"), "do not fit"),
            (image(5, KERNEL, 1, 0x9fff_fffe, &gzip(b"code")), "more than the 0 bytes"),
            (image(5, KERNEL, 0, 0x8010_0000, b""), "do not fit"),
        ] {
            let problem = parsed(&file).unwrap_err();
            assert!(problem.contains(part), "{part}: {problem}");
        }
    }

    #[test]
    fn no_cut_or_flipped_image_panics() {
        let good = image(5, KERNEL, 1, 0x8010_0000, &gzip(b"code"));
        for len in 4..good.len() {
            assert!(parsed(&good[..len]).is_err());
        }
        for at in 4..good.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= bits;
                assert!(parsed(&bad).is_err(), "one of the checksums covers byte {at}");
            }
        }
    }
}
