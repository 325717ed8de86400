//! The builder of RAM blocks: what they are made of, and what the host is told about them.
//!
//! What it is: the choice of a back end (anonymous memory, memfd, file) with QEMU's options, checked against each other
//! before anything is made. What it is not: the mapping itself ([`mapping`](super::mapping)) or the files
//! ([`file`](super::file)). A caller's own memory comes in through [`RamBlock::from_buffer`] and its kin, which have no
//! options.

use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::block::{RamBlock, Resizing, Shape, Share, checked_name};
use super::error::RamError;
use super::file::{self, How, Memfd, Source};
use super::mapping::{Advice, Layer, Mapping, host_page};
use super::policy::{HostPolicy, Nodes};
use super::prealloc::Prealloc;

/// Whether the host may use transparent huge pages for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// As the host is set up (`/sys/kernel/mm/transparent_hugepage`).
    #[default]
    Host,
    /// Yes, where it can (`MADV_HUGEPAGE`; QEMU asks for this always).
    Yes,
    /// No.
    No,
}

/// What a block is made of.
#[derive(Debug, Clone, Default)]
enum Kind {
    #[default]
    Anonymous,
    Memfd(Memfd),
    File {
        path: PathBuf,
        existing: bool,
        offset: u64,
        readonly: bool,
        discard_data: bool,
    },
}

impl Kind {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous memory",
            Self::Memfd(_) => "a memfd",
            Self::File { .. } => "a file",
        }
    }
}

/// Makes a [`RamBlock`]; begin with [`RamBlock::builder`].
///
/// ```
/// use flatview::{Prealloc, RamBlock, Share};
///
/// # fn main() -> Result<(), flatview::RamError> {
/// // `-object memory-backend-memfd,size=1M,prealloc=on,dump=off`
/// let ram = RamBlock::builder("ram", 1 << 20)
///     .memfd()
///     .seal(true)
///     .share(Share::Shared)
///     .prealloc(Prealloc::new())
///     .dump(false)
///     .build()?;
/// assert_eq!(ram.size(), 1 << 20);
/// assert!(ram.file().is_some()); // to hand to a vhost device, say
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct RamBuilder {
    name: String,
    size: u64,
    max: Option<u64>,
    resizing: Option<Resizing>,
    kind: Kind,
    share: Share,
    reserve: bool,
    align: u64,
    merge: Option<bool>,
    dump: bool,
    fork: bool,
    huge_pages: HugePages,
    nodes: Nodes,
    prealloc: Option<Prealloc>,
    wrong: Option<(&'static str, &'static str)>,
}

impl fmt::Debug for RamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RamBuilder")
            .field("name", &self.name)
            .field("size", &self.size)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl RamBuilder {
    pub(super) fn new(name: &str, size: u64) -> Self {
        Self {
            name: name.to_owned(),
            size,
            max: None,
            resizing: None,
            kind: Kind::Anonymous,
            share: Share::Private,
            reserve: true,
            align: 0,
            merge: None,
            dump: true,
            fork: true,
            huge_pages: HugePages::Host,
            nodes: Nodes::default(),
            prealloc: None,
            wrong: None,
        }
    }

    /// Made of a memfd: memory with a descriptor, which other processes can be given (QEMU: `memory-backend-memfd`).
    pub fn memfd(mut self) -> Self {
        self.kind = Kind::Memfd(Memfd::default());
        self
    }

    /// Made of the file at `path`, which must exist and have the size.
    pub fn file(self, path: impl AsRef<Path>) -> Self {
        self.path(path.as_ref(), true)
    }

    /// Made of the file at `path` as QEMU's `mem-path` says it: a file that is not there is made, an empty one is given
    /// its size, one with contents must be large enough; a directory means a file in it that has no name and is gone
    /// with the block. A folder on hugetlbfs gives huge pages.
    pub fn mem_path(self, path: impl AsRef<Path>) -> Self {
        self.path(path.as_ref(), false)
    }

    fn path(mut self, path: &Path, existing: bool) -> Self {
        let path = path.to_owned();
        self.kind = Kind::File { path, existing, offset: 0, readonly: false, discard_data: false };
        self
    }

    /// Notes an option that is not for this back end; [`build`](Self::build) refuses it.
    fn only_for(&mut self, option: &'static str, cure: &'static str) {
        self.wrong = self.wrong.or(Some((option, cure)));
    }

    /// For a file: where in it the block begins, in bytes; a multiple of its page size.
    pub fn offset(mut self, bytes: u64) -> Self {
        match &mut self.kind {
            Kind::File { offset, .. } => *offset = bytes,
            _ if bytes == 0 => {}
            _ => self.only_for("offset", "a file"),
        }
        self
    }

    /// For a file: opened and mapped read-only, so that even loaders cannot write it.
    pub fn readonly(mut self, yes: bool) -> Self {
        match &mut self.kind {
            Kind::File { readonly, .. } => *readonly = yes,
            _ if !yes => {}
            _ => self.only_for("readonly", "a file"),
        }
        self
    }

    /// For a shared file: its contents are thrown away, not written back, when the block goes (QEMU: `discard-data`).
    pub fn discard_data(mut self, yes: bool) -> Self {
        match &mut self.kind {
            Kind::File { discard_data, .. } => *discard_data = yes,
            _ if !yes => {}
            _ => self.only_for("discard-data", "a file"),
        }
        self
    }

    /// For a memfd: nobody who has the descriptor can change its size, or unseal it (QEMU: `seal`).
    pub fn seal(mut self, yes: bool) -> Self {
        match &mut self.kind {
            Kind::Memfd(memfd) => memfd.seal = yes,
            _ if !yes => {}
            _ => self.only_for("seal", "a memfd"),
        }
        self
    }

    /// For a memfd: of huge pages, of `size` bytes each, 0 meaning the host's default (QEMU: `hugetlb`,
    /// `hugetlbsize`). For a file: name one on hugetlbfs.
    pub fn hugetlb(mut self, size: u64) -> Self {
        match &mut self.kind {
            Kind::Memfd(memfd) => memfd.huge = Some(size),
            _ => self.only_for("hugetlb", "a memfd"),
        }
        self
    }

    /// Whether writes reach the file, and every process that maps it (default: private).
    pub fn share(mut self, share: Share) -> Self {
        self.share = share;
        self
    }

    /// Whether the host sets swap space, or huge pages, aside for all of it now (default: yes). Without, a host that has
    /// promised too much ends the process when a page is touched (QEMU: `reserve`).
    pub fn reserve(mut self, yes: bool) -> Self {
        self.reserve = yes;
        self
    }

    /// The host address is a multiple of this, in bytes: a power of two, at least the page size. 0: as the page size needs.
    pub fn align(mut self, bytes: u64) -> Self {
        self.align = bytes;
        self
    }

    /// All pages now, and not when they are touched first.
    pub fn prealloc(mut self, how: Prealloc) -> Self {
        self.prealloc = Some(how);
        self
    }

    /// Whether the host may keep equal pages once (KSM). Hosts without KSM take no notice.
    pub fn merge(mut self, yes: bool) -> Self {
        self.merge = Some(yes);
        self
    }

    /// Whether core dumps of this process contain it (default: yes).
    pub fn dump(mut self, yes: bool) -> Self {
        self.dump = yes;
        self
    }

    /// Whether a child after `fork` has it too (default: yes). QEMU says no, which keeps a fork cheap.
    pub fn fork(mut self, yes: bool) -> Self {
        self.fork = yes;
        self
    }

    /// Whether the host may use transparent huge pages.
    pub fn huge_pages(mut self, use_them: HugePages) -> Self {
        self.huge_pages = use_them;
        self
    }

    /// On which of the host's NUMA nodes the pages live: numbers of at most 127.
    pub fn host_nodes(mut self, policy: HostPolicy, nodes: impl IntoIterator<Item = u32>) -> Self {
        self.nodes = Nodes { policy, nodes: nodes.into_iter().collect() };
        self
    }

    /// Can be resized up to `max` bytes (QEMU: `memory_region_init_resizeable_ram`): the addresses for all of them are
    /// taken now, the pages when they are touched. Anonymous memory only.
    pub fn max_size(mut self, max: u64) -> Self {
        self.max = Some(max);
        self.resizing.get_or_insert_with(Resizing::default);
        self
    }

    /// Called after each [`Memory::resize_ram`](crate::Memory::resize_ram) with the block and its new size in bytes, on the thread that resizes, when
    /// the new map is in force. Makes the block resizeable, up to its size if [`max_size`](Self::max_size) says nothing else.
    pub fn on_resize(mut self, told: impl Fn(&Arc<RamBlock>, u64) + Send + Sync + 'static) -> Self {
        self.resizing.get_or_insert_with(Resizing::default).told = Some(Box::new(told));
        self
    }

    /// The block.
    ///
    /// # Errors
    /// [`RamError`]: options that do not go together, a file that cannot be used, a host that has too little of something.
    /// Nothing is left behind: a file that was made for the block is removed again.
    pub fn build(self) -> Result<Arc<RamBlock>, RamError> {
        let name = self.name.as_str();
        let shared_name = checked_name(name, self.size)?;
        self.check()?;
        let source = match &self.kind {
            Kind::Anonymous => None,
            Kind::Memfd(what) => Some(file::memfd(name, self.size, *what)?),
            Kind::File { path, existing, offset, readonly, .. } => {
                self.check_offset(*offset, host_page())?;
                // A private mapping of an existing file needs only to read it.
                let readonly = *readonly || (*existing && self.share == Share::Private);
                let how = How { existing: *existing, readonly, offset: *offset, size: self.size };
                Some(file::open(name, path, how)?)
            }
        };
        self.finish(shared_name, source)
    }

    /// A block of a descriptor that the caller has.
    pub(super) fn build_fd(
        self,
        fd: std::os::fd::BorrowedFd<'_>,
        offset: u64,
    ) -> Result<Arc<RamBlock>, RamError> {
        let shared_name = checked_name(&self.name, self.size)?;
        self.check_offset(offset, host_page())?;
        let source = file::from_fd(&self.name, fd, offset, self.size)?;
        self.finish(shared_name, Some(source))
    }

    fn check(&self) -> Result<(), RamError> {
        let name = || self.name.clone();
        if let Some((option, cure)) = self.wrong {
            return Err(RamError::WrongBackend { name: name(), option, backend: self.kind.as_str(), cure });
        }
        if let Some(max) = self.max
            && max < self.size
        {
            return Err(RamError::BadMaximum { name: name(), size: self.size, max });
        }
        if self.resizing.is_some() && !matches!(self.kind, Kind::Anonymous) {
            let (option, cure) = ("max_size", "anonymous memory");
            return Err(RamError::WrongBackend { name: name(), option, backend: self.kind.as_str(), cure });
        }
        self.nodes.check(&self.name)
    }

    fn check_offset(&self, offset: u64, page: u64) -> Result<(), RamError> {
        if offset.is_multiple_of(page) {
            return Ok(());
        }
        Err(RamError::Misaligned { name: self.name.clone(), offset, page })
    }

    /// Maps what was opened, and tells the host what it is to be told.
    fn finish(self, shared_name: Arc<str>, source: Option<Source>) -> Result<Arc<RamBlock>, RamError> {
        let name = &*shared_name;
        let page = source.as_ref().map_or_else(host_page, |s| s.page);
        let huge = page > host_page();
        let max = self.max.unwrap_or(self.size);
        let offset = source.as_ref().map_or(0, |s| s.offset);
        self.check_offset(offset, page)?;
        if huge && !max.is_multiple_of(page) {
            let next = max.next_multiple_of(page);
            return Err(RamError::NotPages { name: name.to_owned(), size: max, page, next });
        }
        if self.align != 0 && !(self.align.is_power_of_two() && self.align.is_multiple_of(page)) {
            return Err(RamError::BadAlignment { name: name.to_owned(), align: self.align, page });
        }
        let map_error = |e: Errno| match e {
            Errno::NOMEM if huge => file::no_huge_pages(name, max, page),
            Errno::ACCESS | Errno::PERM => {
                let source = std::io::Error::from(e);
                match &self.kind {
                    Kind::File { path, .. } => {
                        RamError::Open { name: name.to_owned(), path: path.clone(), source }
                    }
                    _ => RamError::Map { name: name.to_owned(), size: max, source },
                }
            }
            _ => RamError::Map { name: name.to_owned(), size: max, source: e.into() },
        };
        let sizes = || {
            let page_bytes = usize::try_from(page).ok()?;
            let len = usize::try_from(max).ok()?.checked_next_multiple_of(page_bytes)?;
            Some((page_bytes, len, usize::try_from(self.align.max(page)).ok()?))
        };
        let (page_bytes, len, align) = sizes().ok_or_else(|| map_error(Errno::NOMEM))?;
        let readonly = matches!(self.kind, Kind::File { readonly: true, .. });
        let layer = Layer {
            file: source.as_ref().map(|s| (s.file.as_fd(), s.offset)),
            shared: self.share == Share::Shared,
            writable: !readonly,
            reserve: self.reserve,
        };
        let mapping = Mapping::new(len, align, layer).map_err(map_error)?;
        self.advise(&mapping);
        self.nodes.apply(name, &mapping)?;
        if let Some(prealloc) = &self.prealloc {
            prealloc.run(&mapping, page_bytes, !readonly).map_err(|e| match e {
                Errno::FAULT | Errno::NOMEM if huge => file::no_huge_pages(name, max, page),
                _ => RamError::Prealloc { name: name.to_owned(), size: max, source: e.into() },
            })?;
        }
        let discard_data = matches!(self.kind, Kind::File { discard_data: true, .. }) && layer.shared;
        let shape = Shape { size: self.size, max, writable: !readonly, share: self.share, page };
        let file = source.map(|s| {
            s.made.keep();
            (s.file, s.offset)
        });
        Ok(RamBlock::of_mapping(shared_name, shape, mapping, file, discard_data, self.resizing))
    }

    /// Advice is advice: a host that does not know it does as well without.
    fn advise(&self, mapping: &Mapping) {
        let advice = [
            self.merge.map(|yes| if yes { Advice::Mergeable } else { Advice::NotMergeable }),
            (!self.dump).then_some(Advice::NotDumped),
            (!self.fork).then_some(Advice::NotForked),
            match self.huge_pages {
                HugePages::Host => None,
                HugePages::Yes => Some(Advice::Huge),
                HugePages::No => Some(Advice::NotHuge),
            },
        ];
        for advice in advice.into_iter().flatten() {
            let _ = mapping.advise(0, mapping.len(), advice);
        }
    }
}
