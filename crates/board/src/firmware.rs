//! Firmware and kernels: finding the file, reading it, and loading it again at every reset.
//!
//! A file is ELF or a U-Boot image if it begins like one, else it is raw bytes. Everything in it comes from outside: sizes, addresses and
//! offsets are checked, and an ELF file that is cut short or meant for another machine is an error that says so, not
//! raw bytes. What must always hold: what is loaded lies inside the window that the board allows.

mod uimage;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::AnyEndian;
use elf::file::Class;
use flatview::Endianness;

use crate::BoardError;

/// Where Debian's packages put firmware.
const SYSTEM_DIRS: [&str; 4] =
    ["/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu"];

/// A line of `info roms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RomInfo {
    /// Where it is loaded.
    pub addr: u64,
    /// Bytes it takes.
    pub size: u64,
    /// Whether ROM is there (else RAM).
    pub is_rom: bool,
    /// What it is.
    pub name: String,
}

impl fmt::Display for RomInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_rom { "rom" } else { "ram" };
        write!(f, "addr={:016x} size=0x{:06x} mem={kind} name=\"{}\"", self.addr, self.size, self.name)
    }
}

/// Bytes that are loaded at an address when the machine starts and at each reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rom {
    /// What it is, for `info roms`.
    pub name: String,
    /// Where its first byte goes.
    pub addr: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

/// What a board takes as a file.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is for, in messages: `firmware`, `kernel`.
    pub what: &'static str,
    /// Where raw bytes go.
    pub raw_at: Option<u64>,
    /// First and last address that may be loaded to.
    pub window: (u64, u64),
    /// ELF machine number.
    pub machine: u16,
    /// What that machine is called.
    pub machine_name: &'static str,
    /// Byte order of the file.
    pub endianness: Endianness,
    /// What turns an ELF address into one that the board has.
    pub translate: fn(u64) -> u64,
    /// The board that is the same with the other byte order.
    pub twin: Option<&'static str>,
    /// U-Boot's number of that machine, if the board takes U-Boot images.
    pub uimage: Option<u8>,
}

/// What came out of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What is to be loaded, in the file's order.
    pub roms: Vec<Rom>,
    /// Where execution starts, as the file says: ELF and U-Boot images.
    pub entry: Option<u64>,
}

/// Where firmware is looked for: `-L` folders, then the system's unless those are left out. Printed, they are a list.
#[derive(Debug, Clone)]
pub struct FirmwareDirs(Vec<PathBuf>);

impl fmt::Display for FirmwareDirs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the working folder");
        }
        let dirs: Vec<_> = self.0.iter().map(|dir| dir.display().to_string()).collect();
        f.write_str(&dirs.join(", "))
    }
}

impl FirmwareDirs {
    /// These folders, before the usual ones unless there are to be no others.
    pub fn new(first: &[PathBuf], only_these: bool) -> FirmwareDirs {
        let usual = if only_these { [].as_slice() } else { &SYSTEM_DIRS };
        FirmwareDirs(first.iter().cloned().chain(usual.iter().map(PathBuf::from)).collect())
    }

    /// The file of this name: as a path, then in each folder.
    pub fn find(&self, name: &Path) -> Option<PathBuf> {
        std::iter::once(name.to_owned())
            .chain(self.0.iter().map(|dir| dir.join(name)))
            .find(|path| path.is_file())
    }

    /// As [`FirmwareDirs::find`] for a file that the user named.
    ///
    /// # Errors
    /// [`BoardError::FirmwareMissing`] tells where it was looked for.
    pub fn require(&self, name: &Path) -> Result<PathBuf, BoardError> {
        self.find(name)
            .ok_or_else(|| BoardError::FirmwareMissing { name: name.to_owned(), searched: self.to_string() })
    }
}

/// Reads a file.
///
/// # Errors
/// [`BoardError::File`] with the host's reason.
pub fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, BoardError> {
    fs::read(path).map_err(|source| BoardError::File { what, path: path.to_owned(), source })
}

/// Reads a file, ELF or raw, for a place on a board.
///
/// # Errors
/// [`BoardError::File`] if it cannot be read, [`BoardError::Image`] if it is not what the board takes.
pub fn load(path: &Path, target: &Target) -> Result<Image, BoardError> {
    let data = read(target.what, path)?;
    parse(path, data, target).map_err(|problem| BoardError::Image {
        what: target.what,
        path: path.to_owned(),
        problem,
    })
}

fn parse(path: &Path, data: Vec<u8>, target: &Target) -> Result<Image, String> {
    let name = path.display().to_string();
    if data.starts_with(b"\x7fELF") {
        return parse_elf(&name, &data, target);
    }
    if data.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if let Some(arch) = target.uimage.filter(|_| uimage::is(&data)) {
        return uimage::parse(&name, &data, target, arch);
    }
    let addr = target.raw_at.ok_or(match target.uimage {
        Some(_) => "it is neither an ELF file nor a U-Boot image",
        None => "it is not an ELF file",
    })?;
    check(target, addr, data.len() as u64)?;
    Ok(Image { roms: vec![Rom { name, addr, data }], entry: None })
}

/// Refuses what lies outside the board's window.
fn check(target: &Target, addr: u64, size: u64) -> Result<(), String> {
    let (first, last) = target.window;
    let end = size.checked_sub(1).and_then(|more| addr.checked_add(more));
    if addr >= first && end.is_some_and(|end| end <= last) {
        return Ok(());
    }
    Err(format!("{size} bytes at {addr:#x} do not fit in {first:#x} to {last:#x}, where this board takes it"))
}

fn parse_elf(name: &str, data: &[u8], target: &Target) -> Result<Image, String> {
    let bad = |error: elf::ParseError| format!("it begins like an ELF file but is none: {error}");
    let file = ElfBytes::<AnyEndian>::minimal_parse(data).map_err(bad)?;
    let order = match file.ehdr.endianness {
        AnyEndian::Little => Endianness::Little,
        AnyEndian::Big => Endianness::Big,
    };
    if file.ehdr.e_machine != target.machine || order != target.endianness {
        let cure = match target.twin.filter(|_| file.ehdr.e_machine == target.machine) {
            Some(twin) => format!("; the board that takes this one is -M {twin}"),
            None => String::new(),
        };
        return Err(format!(
            "it is an ELF file for machine {} ({order}-endian); this board takes {} ({}-endian){cure}",
            file.ehdr.e_machine, target.machine_name, target.endianness
        ));
    }
    if file.ehdr.class == Class::ELF64 {
        return Err(format!("it is a 64-bit ELF file; this board's {} has 32 bits", target.machine_name));
    }
    let mut roms = Vec::new();
    let segments = file.segments().ok_or("the ELF file has no program headers")?;
    for (n, segment) in segments.iter().enumerate().filter(|(_, s)| s.p_type == PT_LOAD && s.p_memsz > 0) {
        if segment.p_filesz > segment.p_memsz {
            return Err(format!("program header {n} has more bytes in the file than in memory"));
        }
        let addr = (target.translate)(segment.p_paddr);
        check(target, addr, segment.p_memsz).map_err(|problem| format!("program header {n}: {problem}"))?;
        let mut bytes = file
            .segment_data(&segment)
            .map_err(|_| {
                format!("program header {n} reaches beyond the end of the file, which is cut short")
            })?
            .to_vec();
        // The window above bounds the size: what the file does not give is zeros.
        bytes.resize(usize::try_from(segment.p_memsz).map_err(|_| "a segment is too large for the host")?, 0);
        roms.push(Rom { name: format!("{name} ELF program header segment {n}"), addr, data: bytes });
    }
    if roms.is_empty() {
        return Err("the ELF file has nothing to load".to_owned());
    }
    Ok(Image { roms, entry: Some(file.ehdr.e_entry) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        what: "firmware",
        raw_at: Some(0xfff0_0000),
        window: (0xfff0_0000, 0xffff_ffff),
        machine: 20,
        machine_name: "PowerPC",
        endianness: Endianness::Big,
        translate: |addr| addr,
        twin: None,
        uimage: None,
    };

    /// A big-endian 32-bit ELF file with one segment of `memsz` bytes at `addr`, of which `bytes` are given.
    pub(crate) fn elf(machine: u16, addr: u32, memsz: u32, bytes: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let half =
            |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| file.extend(v.to_be_bytes()));
        let word =
            |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| file.extend(v.to_be_bytes()));
        half(&mut file, &[2, machine]);
        word(&mut file, &[1, addr, 52, 0, 0]);
        half(&mut file, &[52, 32, 1, 0, 0, 0]);
        word(&mut file, &[1, 84, addr, addr, bytes.len() as u32, memsz, 7, 1]);
        file.extend(bytes);
        file
    }

    fn parsed(data: Vec<u8>) -> Result<Image, String> {
        parse(Path::new("f"), data, &TARGET)
    }

    #[test]
    fn an_elf_segment_is_loaded_where_it_says_and_padded_with_zeros() {
        let image = parsed(elf(20, 0xfff0_0100, 6, b"abcd")).unwrap();
        assert_eq!(image.entry, Some(0xfff0_0100));
        let rom = &image.roms[0];
        assert_eq!((rom.addr, rom.data.as_slice()), (0xfff0_0100, b"abcd\0\0".as_slice()));
        assert_eq!(rom.name, "f ELF program header segment 0");
    }

    #[test]
    fn raw_bytes_go_to_the_start() {
        let image = parsed(b"raw".to_vec()).unwrap();
        assert_eq!(image.roms, [Rom { name: "f".to_owned(), addr: 0xfff0_0000, data: b"raw".to_vec() }]);
    }

    #[test]
    fn bad_files_are_refused_with_the_reason() {
        let mut cut = elf(20, 0xfff0_0000, 4, b"abcd");
        cut.truncate(86);
        let mut headless = elf(20, 0xfff0_0000, 4, b"abcd");
        headless.truncate(20);
        // The header of a 64-bit file: its program headers begin at 64, 56 bytes each, and there is one.
        let mut wide = elf(20, 0, 0, b"")[..20].to_vec();
        wide[4] = 2;
        wide.resize(64 + 56, 0);
        (wide[39], wide[53], wide[55], wide[57]) = (64, 64, 56, 1);
        for (data, part) in [
            (Vec::new(), "empty"),
            (vec![0; (1 << 20) + 1], "1048577 bytes at 0xfff00000 do not fit"),
            (cut, "cut short"),
            (headless, "begins like an ELF file"),
            (elf(8, 0xfff0_0000, 4, b"abcd"), "machine 8"),
            (elf(20, 0x1000, 4, b"abcd"), "program header 0: 4 bytes at 0x1000 do not fit"),
            (elf(20, 0xffff_fffe, 4, b"abcd"), "do not fit"),
            (elf(20, 0xfff0_0000, u32::MAX, b"abcd"), "do not fit"),
            (elf(20, 0xfff0_0000, 2, b"abcd"), "more bytes in the file"),
            (elf(20, 0xfff0_0000, 0, b""), "nothing to load"),
            (wide, "64-bit ELF file"),
        ] {
            let problem = parsed(data).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn no_cut_or_flipped_elf_file_panics() {
        let good = elf(20, 0xfff0_0000, 6, b"abcd");
        for len in 0..good.len() {
            let _ = parsed(good[..len].to_vec());
        }
        for at in 4..good.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= bits;
                let _ = parsed(bad);
            }
        }
    }

    #[test]
    fn folders_are_searched_in_order_and_named_when_nothing_is_found() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(second.path().join("fw-x"), "2").unwrap();
        let dirs = FirmwareDirs::new(&[first.path().to_owned(), second.path().to_owned()], false);
        assert_eq!(dirs.find(Path::new("fw-x")), Some(second.path().join("fw-x")));
        fs::write(first.path().join("fw-x"), "1").unwrap();
        assert_eq!(dirs.find(Path::new("fw-x")), Some(first.path().join("fw-x")));
        let error = dirs.require(Path::new("fw-y")).unwrap_err().to_string();
        assert!(
            error.contains("'fw-y'") && error.contains("/usr/share/qemu") && error.contains("-L"),
            "{error}"
        );
    }
}
