//! The files behind blocks: opening, making and sizing them; memfds with huge pages and seals.
//!
//! What it is not: mapping. What must hold: a file that has contents is never made longer or shorter, and a file that was
//! made here and then could not be used is removed again.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use super::error::RamError;
use super::mapping::host_page;

/// A file to map.
pub(super) struct Source {
    pub file: OwnedFd,
    /// Where in it the block begins, in bytes.
    pub offset: u64,
    /// The size of its pages in bytes: more than the host's on hugetlbfs and with huge pages.
    pub page: u64,
    /// Removes the file unless it is kept.
    pub made: Made,
}

/// A file that was made here; removed again unless [`keep`](Self::keep) says that it is in use.
pub(super) struct Made(Option<PathBuf>);

impl Made {
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Whoever removed it meanwhile did our work.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How a path is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// It must be a file that exists; otherwise it is made, and a folder means a nameless file in it.
    pub existing: bool,
    /// Nothing of ours will write it.
    pub readonly: bool,
    pub offset: u64,
    pub size: u64,
}

/// The size of a file's pages: that of the huge pages on hugetlbfs, else the host's.
fn page_of(file: BorrowedFd<'_>) -> u64 {
    const HUGETLBFS: u64 = 0x9584_58f6;
    match rustix::fs::fstatfs(file) {
        Ok(stat) if stat.f_type as u64 & 0xffff_ffff == HUGETLBFS => {
            u64::try_from(stat.f_bsize).unwrap_or_else(|_| host_page())
        }
        _ => host_page(),
    }
}

/// A caller's descriptor, of which we get one of our own.
pub(super) fn from_fd(name: &str, fd: BorrowedFd<'_>, offset: u64, size: u64) -> Result<Source, RamError> {
    let map = |source| RamError::Map { name: name.to_owned(), size, source };
    let file = fd.try_clone_to_owned().map_err(map)?;
    sized(name, file.as_fd(), offset, size, false)?;
    let page = page_of(file.as_fd());
    Ok(Source { file, offset, page, made: Made(None) })
}

/// The file at a path.
pub(super) fn open(name: &str, path: &Path, how: How) -> Result<Source, RamError> {
    let fail = |e: std::io::Error| failed(name, path, how, e);
    let mut options = File::options();
    options.read(true).write(!how.readonly);
    let is_folder = || RamError::IsDirectory { name: name.to_owned(), path: path.to_owned() };
    let (file, made) = match options.open(path) {
        Ok(file) if file.metadata().map_err(fail)?.is_dir() && how.existing => return Err(is_folder()),
        Ok(file) if file.metadata().map_err(fail)?.is_dir() => (temporary(name, path, how)?, Made(None)),
        Ok(file) => (file, Made(None)),
        Err(e) if e.kind() == ErrorKind::IsADirectory && how.existing => return Err(is_folder()),
        Err(e) if e.kind() == ErrorKind::IsADirectory => (temporary(name, path, how)?, Made(None)),
        Err(e) if e.kind() == ErrorKind::NotFound && !how.existing && !how.readonly => {
            let new = File::options().read(true).write(true).create_new(true).open(path);
            let made = Made(Some(path.to_owned()));
            match new {
                Ok(file) => (file, made),
                Err(e) => {
                    made.keep();
                    // `folder/` of a folder that is not there, or `folder/file` in one.
                    return Err(match e.kind() {
                        ErrorKind::NotFound | ErrorKind::IsADirectory => {
                            RamError::NoFolder { name: name.to_owned(), path: path.to_owned() }
                        }
                        _ => fail(e),
                    });
                }
            }
        }
        Err(e) => return Err(fail(e)),
    };
    sized(name, file.as_fd(), how.offset, how.size, !how.existing && !how.readonly)?;
    let page = page_of(file.as_fd());
    Ok(Source { file: file.into(), offset: how.offset, page, made })
}

fn failed(name: &str, path: &Path, how: How, source: std::io::Error) -> RamError {
    let (name, path) = (name.to_owned(), path.to_owned());
    match source.kind() {
        ErrorKind::NotFound => RamError::NoFile { name, path, size: how.offset.saturating_add(how.size) },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            let access = if how.readonly { "reading" } else { "reading and writing" };
            RamError::NoPermission { name, path, access }
        }
        _ => RamError::Open { name, path, source },
    }
}

/// A file in `folder` that has no name, or none any more (QEMU: `mem-path` with a directory).
fn temporary(name: &str, folder: &Path, how: How) -> Result<File, RamError> {
    let fail = |e: std::io::Error| failed(name, folder, how, e);
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(file) => return Ok(file.into()),
        // A file system that cannot: a file with a name, for a moment.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        Err(e) => return Err(fail(e.into())),
    }
    let mut n = 0_u32;
    loop {
        let path = folder.join(format!("flatview_back_mem.{}.{n}", std::process::id()));
        match File::options().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path).map_err(fail)?;
                return Ok(file);
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists && n < 1 << 16 => n += 1,
            Err(e) => return Err(fail(e)),
        }
    }
}

/// Sees to it that a file has the bytes of the block: an empty one is given them if it may `grow`.
fn sized(name: &str, file: BorrowedFd<'_>, offset: u64, size: u64, grow: bool) -> Result<(), RamError> {
    let stat = rustix::fs::fstat(file).map_err(|e| RamError::Map {
        name: name.to_owned(),
        size,
        source: e.into(),
    })?;
    // A device such as /dev/mem has no size to compare with; the host checks it when it maps.
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Ok(());
    }
    let have = u64::try_from(stat.st_size).unwrap_or(0);
    let need = offset.saturating_add(size);
    if have == 0 && grow {
        let len = need.next_multiple_of(page_of(file));
        return rustix::fs::ftruncate(file, len).map_err(|e| RamError::Grow {
            name: name.to_owned(),
            size: len,
            source: e.into(),
        });
    }
    if have < need {
        return Err(RamError::FileTooSmall { name: name.to_owned(), have, need, offset, size });
    }
    Ok(())
}

/// What a memfd is made with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memfd {
    /// Whether its size is fixed for ever, whoever gets the descriptor.
    pub seal: bool,
    /// Huge pages: `Some(0)` of the host's default size, or of so many bytes.
    pub huge: Option<u64>,
}

/// A memfd of `size` bytes.
pub(super) fn memfd(name: &str, size: u64, what: Memfd) -> Result<Source, RamError> {
    let mut flags = MemfdFlags::CLOEXEC;
    let mut page = host_page();
    if what.seal {
        flags |= MemfdFlags::ALLOW_SEALING;
    }
    if let Some(asked) = what.huge {
        page = huge_page(name, asked)?;
        flags |= MemfdFlags::HUGETLB;
        if asked != 0 {
            // MFD_HUGE_…: the logarithm of the size in the uppermost bits.
            flags |= MemfdFlags::from_bits_retain(page.ilog2() << 26);
        }
        if !size.is_multiple_of(page) {
            let next = size.next_multiple_of(page);
            return Err(RamError::NotPages { name: name.to_owned(), size, page, next });
        }
    }
    let no_memfd = |e: Errno| RamError::NoMemfd { name: name.to_owned(), source: e.into() };
    let file = match rustix::fs::memfd_create("memory-backend-memfd", flags) {
        Ok(file) => file,
        Err(e) if what.seal && e == Errno::INVAL => {
            return Err(RamError::NoSealing { name: name.to_owned(), source: e.into() });
        }
        Err(e) => return Err(no_memfd(e)),
    };
    rustix::fs::ftruncate(&file, size.next_multiple_of(page)).map_err(|e| RamError::Grow {
        name: name.to_owned(),
        size,
        source: e.into(),
    })?;
    if what.seal {
        let seals = SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)
            .map_err(|e| RamError::NoSealing { name: name.to_owned(), source: e.into() })?;
    }
    Ok(Source { file, offset: 0, page, made: Made(None) })
}

/// The sizes of huge pages that this host has, in bytes, with how many of each are free.
fn huge_pages() -> Vec<(u64, u64)> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut sizes: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let kib = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
            let free = std::fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
            Some((kib << 10, free.trim().parse().ok()?))
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

/// The size of the huge pages asked for, in bytes (0: the host's default).
fn huge_page(name: &str, asked: u64) -> Result<u64, RamError> {
    let sizes = huge_pages();
    let default = || {
        let info = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
    };
    let wanted = if asked == 0 { default() } else { Some(asked) };
    match wanted.filter(|page| sizes.iter().any(|(size, _)| size == page)) {
        Some(page) => Ok(page),
        None => {
            let known: Vec<_> = sizes.iter().map(|(size, _)| format!("{size:#x}")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(" and ") };
            Err(RamError::NoSuchPageSize { name: name.to_owned(), page: asked, known })
        }
    }
}

/// Why huge pages could not be had: in all probability there are too few.
pub(super) fn no_huge_pages(name: &str, size: u64, page: u64) -> RamError {
    let free = huge_pages().iter().find(|(size, _)| *size == page).map_or(0, |(_, free)| *free);
    RamError::NoHugePages { name: name.to_owned(), need: size.div_ceil(page), free, kib: page >> 10 }
}
