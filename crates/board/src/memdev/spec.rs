//! What a memory back end is asked to be: the properties of `memory-backend-ram`, `-file` and `-memfd`.
//!
//! Only the wishes and what they mean for a [`RamBuilder`](flatview::RamBuilder); the objects themselves are in
//! [`objects`](super::objects).

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use flatview::{HostPolicy, HugePages, Prealloc, PreallocProgress, RamBlock, RamError, Share};

use super::error::ObjectError;
use super::properties::Properties;

/// The types of back ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemdevKind {
    /// Anonymous memory.
    Ram,
    /// A file, or a nameless one in a folder.
    File,
    /// A memfd.
    Memfd,
}

impl MemdevKind {
    /// All there are, in the order of QEMU's list.
    pub const ALL: [MemdevKind; 3] = [MemdevKind::File, MemdevKind::Memfd, MemdevKind::Ram];

    /// QEMU's name.
    pub const fn name(self) -> &'static str {
        match self {
            MemdevKind::Ram => "memory-backend-ram",
            MemdevKind::File => "memory-backend-file",
            MemdevKind::Memfd => "memory-backend-memfd",
        }
    }

    /// The properties it has: name, what it takes, one line of help.
    pub fn properties(self) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        const ALL: [(&str, &str, &str, &[MemdevKind]); 19] = {
            use MemdevKind::{File, Memfd};
            [
                ("align", "int", "Alignment of the host address", &[File]),
                ("discard-data", "bool", "Throw the file's contents away at the end", &[File]),
                ("dump", "bool", "Set to 'off' to exclude from core dump", &[]),
                ("host-nodes", "int", "Binds memory to the list of NUMA host nodes", &[]),
                ("hugetlb", "bool", "Use huge pages", &[Memfd]),
                ("hugetlbsize", "int", "Huge pages size (ex: 2M, 1G)", &[Memfd]),
                ("mem-path", "string", "The file, or a folder for a temporary one", &[File]),
                ("merge", "bool", "Mark memory as mergeable", &[]),
                ("offset", "int", "Where in the file the memory begins", &[File]),
                ("policy", "HostMemPolicy", "Set the NUMA policy", &[]),
                ("prealloc", "bool", "Preallocate memory", &[]),
                ("prealloc-threads", "int", "Number of CPU threads to use for prealloc", &[]),
                ("readonly", "bool", "Open the file read-only", &[File]),
                ("reserve", "bool", "Reserve swap space (or huge pages) if applicable", &[]),
                ("rom", "OnOffAuto", "Whether the guest finds it read-only", &[File]),
                ("seal", "bool", "Seal growing & shrinking", &[Memfd]),
                ("share", "bool", "Mark the memory as private to this process or shared", &[]),
                ("size", "int", "Size of the memory region (ex: 500M)", &[]),
                ("id", "string", "The object's name", &[]),
            ]
        };
        ALL.into_iter()
            .filter(move |(_, _, _, kinds)| kinds.is_empty() || kinds.contains(&self))
            .map(|(name, takes, help, _)| (name, takes, help))
    }

    /// The text of `-object TYPE,help`.
    pub fn help(self) -> String {
        use fmt::Write as _;
        let mut text = format!("{} options:\n", self.name());
        for (name, takes, help) in self.properties() {
            let left = format!("{name}=<{takes}>");
            let _ = writeln!(text, "  {left:<22} - {help}");
        }
        text
    }
}

/// Whether the guest finds memory read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rom {
    /// If it is read-only on the host.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No: a private copy of a file that is opened read-only.
    Off,
}

/// What hears how far preallocation is: the object's name, and the figures.
pub type PreallocWatch = Arc<dyn Fn(&str, PreallocProgress) + Send + Sync>;

/// A memory back end, as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemdevSpec {
    /// What it is made of.
    pub kind: MemdevKind,
    /// Its name.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// Whether writes reach others.
    pub share: bool,
    /// Whether swap space or huge pages are set aside.
    pub reserve: bool,
    /// Whether all pages are had at once.
    pub prealloc: bool,
    /// By how many threads.
    pub prealloc_threads: NonZeroUsize,
    /// Whether equal pages may be kept once.
    pub merge: bool,
    /// Whether core dumps have it.
    pub dump: bool,
    /// NUMA policy of the host.
    pub policy: HostPolicy,
    /// The nodes it is about.
    pub host_nodes: Vec<u32>,
    /// For files: the path.
    pub mem_path: Option<PathBuf>,
    /// For files: where it begins.
    pub offset: u64,
    /// For files: the alignment of the host address, 0 for any.
    pub align: u64,
    /// For files: opened read-only.
    pub readonly: bool,
    /// For files: whether the guest finds it read-only.
    pub rom: Rom,
    /// For files: contents are thrown away at the end.
    pub discard_data: bool,
    /// For memfds: the page size if huge, 0 for the host's default.
    pub huge: Option<u64>,
    /// For memfds: sealed.
    pub seal: bool,
}

/// Takes a flag; what is not given leaves the default.
fn flag(given: &mut Properties, name: &str, field: &mut bool) -> Result<(), ObjectError> {
    if let Some(value) = given.flag(name)? {
        *field = value;
    }
    Ok(())
}

/// The alignment of anonymous guest RAM, as in QEMU: transparent huge pages fit.
const ANONYMOUS_ALIGN: u64 = 2 << 20;

impl MemdevSpec {
    /// One with QEMU's defaults.
    pub fn new(kind: MemdevKind, id: &str, size: u64) -> MemdevSpec {
        MemdevSpec {
            kind,
            id: id.to_owned(),
            size,
            share: kind == MemdevKind::Memfd,
            reserve: true,
            prealloc: false,
            prealloc_threads: NonZeroUsize::MIN,
            merge: true,
            dump: true,
            policy: HostPolicy::Default,
            host_nodes: Vec::new(),
            mem_path: None,
            offset: 0,
            align: 0,
            readonly: false,
            rom: Rom::Auto,
            discard_data: false,
            huge: None,
            seal: kind == MemdevKind::Memfd,
        }
    }

    /// Reads properties; `qom-type` says which kind.
    ///
    /// # Errors
    /// [`ObjectError`] in QEMU's words.
    pub fn of(mut given: Properties) -> Result<MemdevSpec, ObjectError> {
        let name = given.string("qom-type")?.ok_or(ObjectError::Missing("qom-type"))?;
        let kind = MemdevKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| ObjectError::NotAccepted {
            name: "qom-type",
            value: name,
            known: MemdevKind::ALL.map(MemdevKind::name).join(", "),
        })?;
        let id = given.identifier("id")?.ok_or(ObjectError::Missing("id"))?;
        let mut spec = MemdevSpec::new(kind, &id, 0);
        let positive = |name, value: Option<u64>| match value {
            Some(0) => Err(ObjectError::NoSuchValue { name, kind: kind.name(), value: 0 }),
            other => Ok(other),
        };
        let size = positive("size", given.size("size")?)?;
        flag(&mut given, "share", &mut spec.share)?;
        flag(&mut given, "reserve", &mut spec.reserve)?;
        flag(&mut given, "prealloc", &mut spec.prealloc)?;
        flag(&mut given, "merge", &mut spec.merge)?;
        flag(&mut given, "dump", &mut spec.dump)?;
        if kind == MemdevKind::Memfd {
            let mut hugetlb = false;
            flag(&mut given, "hugetlb", &mut hugetlb)?;
            flag(&mut given, "seal", &mut spec.seal)?;
            let page = given.size("hugetlbsize")?.unwrap_or(0);
            // As in QEMU, the size alone asks for nothing.
            spec.huge = hugetlb.then_some(page);
        }
        if kind == MemdevKind::File {
            flag(&mut given, "readonly", &mut spec.readonly)?;
            flag(&mut given, "discard-data", &mut spec.discard_data)?;
            spec.offset = given.size("offset")?.unwrap_or(0);
            spec.align = given.size("align")?.unwrap_or(0);
            spec.rom = match given.string("rom")?.as_deref() {
                None | Some("auto") => Rom::Auto,
                Some("on") => Rom::On,
                Some("off") => Rom::Off,
                Some(value) => {
                    let (value, known) = (value.to_owned(), "auto, on, off".to_owned());
                    return Err(ObjectError::NotAccepted { name: "rom", value, known });
                }
            };
            if spec.rom == Rom::Off && spec.readonly && spec.share {
                return Err(ObjectError::Conflict(
                    "property 'rom' = 'off' is incompatible with 'readonly' = 'on' and 'share' = 'on': a shared read-only file cannot be written; use share=off",
                ));
            }
            spec.mem_path = given.string("mem-path")?.map(PathBuf::from);
            if spec.mem_path.is_none() {
                return Err(ObjectError::Missing("mem-path"));
            }
        }
        if let Some(threads) = positive("prealloc-threads", given.unsigned("prealloc-threads")?)? {
            spec.prealloc_threads =
                usize::try_from(threads).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MAX);
        }
        if let Some(policy) = given.string("policy")? {
            let known = HostPolicy::ALL.into_iter().find(|known| known.as_str() == policy);
            spec.policy = known.ok_or_else(|| ObjectError::NotAccepted {
                name: "policy",
                value: policy,
                known: HostPolicy::ALL.map(HostPolicy::as_str).join(", "),
            })?;
        }
        spec.host_nodes = given.list("host-nodes")?.unwrap_or_default();
        spec.host_nodes.sort_unstable();
        spec.host_nodes.dedup();
        given
            .end(kind.name(), || kind.properties().map(|(name, _, _)| name).collect::<Vec<_>>().join(", "))?;
        spec.size = size.ok_or(ObjectError::Missing("size"))?;
        Ok(spec)
    }

    /// Whether the guest finds it read-only.
    pub fn is_rom(&self) -> bool {
        match self.rom {
            Rom::Auto => self.readonly,
            Rom::On => true,
            Rom::Off => false,
        }
    }

    /// The alignment that a device of this memory needs in guest addresses, in bytes.
    pub fn guest_alignment(&self, block: &RamBlock) -> u64 {
        match self.kind {
            MemdevKind::Ram => ANONYMOUS_ALIGN,
            MemdevKind::File | MemdevKind::Memfd => self.align.max(block.page_size()),
        }
    }

    /// The memory.
    ///
    /// # Errors
    /// What the host says, with the cure.
    pub fn build(&self, watch: Option<&PreallocWatch>) -> Result<Arc<RamBlock>, RamError> {
        let mut builder = RamBlock::builder(&self.id, self.size);
        match (self.kind, &self.mem_path) {
            (MemdevKind::File, Some(path)) => {
                // A private copy of a file that may only be read: mapped writable, opened read-only.
                let copy = self.readonly && self.rom == Rom::Off;
                builder = if copy { builder.file(path) } else { builder.mem_path(path) };
                builder = builder.offset(self.offset).align(self.align);
                builder = builder.readonly(self.readonly && !copy).discard_data(self.discard_data);
            }
            (MemdevKind::Memfd, _) => {
                builder = builder.memfd().seal(self.seal);
                if let Some(page) = self.huge {
                    builder = builder.hugetlb(page);
                }
            }
            (MemdevKind::Ram | MemdevKind::File, _) => builder = builder.align(ANONYMOUS_ALIGN),
        }
        builder = builder
            .share(if self.share { Share::Shared } else { Share::Private })
            .reserve(self.reserve)
            .merge(self.merge)
            .dump(self.dump)
            .fork(false)
            .huge_pages(HugePages::Yes)
            .host_nodes(self.policy, self.host_nodes.iter().copied());
        if self.prealloc {
            let mut how = Prealloc::new().threads(self.prealloc_threads);
            if let Some(watch) = watch.cloned() {
                let id = self.id.clone();
                how = how.progress(move |progress| watch(&id, progress));
            }
            builder = builder.prealloc(how);
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<MemdevSpec, ObjectError> {
        MemdevSpec::of(Properties::of_text("qom-type", text))
    }

    #[test]
    fn defaults_are_those_of_qemu() {
        let ram = spec("memory-backend-ram,id=m0,size=64M").unwrap();
        assert_eq!(ram, MemdevSpec::new(MemdevKind::Ram, "m0", 64 << 20));
        assert!(!ram.share && ram.merge && ram.dump && ram.reserve && !ram.prealloc);
        let memfd = spec("memory-backend-memfd,id=m0,size=5000").unwrap();
        assert!(memfd.share && memfd.seal && memfd.huge.is_none());
        assert_eq!(memfd.size, 5000);
        assert!(spec("memory-backend-memfd,id=m,size=1M,hugetlbsize=2M").unwrap().huge.is_none());
        assert_eq!(spec("memory-backend-memfd,id=m,size=2M,hugetlb=on").unwrap().huge, Some(0));
    }

    #[test]
    fn errors_are_those_of_qemu_and_a_hint_names_what_there_is() {
        for (text, error) in [
            ("memory-backend-ram", "Parameter 'id' is missing"),
            ("memory-backend-ram,id=m0", "Parameter 'size' is missing"),
            ("memory-backend-file,id=m0,size=64M", "Parameter 'mem-path' is missing"),
            ("id=m0", "Parameter 'qom-type' is missing"),
            ("foo,id=m0", "Parameter 'qom-type' does not accept value 'foo'"),
            ("memory-backend-ram,id=m0,size=4k,foo=1", "Invalid parameter 'foo'"),
            ("memory-backend-ram,id=m0,size=4k,mem-path=/tmp", "Invalid parameter 'mem-path'"),
            (
                "memory-backend-ram,id=m0,size=0",
                "property 'size' of memory-backend-ram doesn't take value '0'",
            ),
            (
                "memory-backend-ram,id=m0,size=1M,prealloc-threads=0",
                "property 'prealloc-threads' of memory-backend-ram doesn't take value '0'",
            ),
            ("memory-backend-ram,id=m0,size=4k,policy=foo", "Parameter 'policy' does not accept value 'foo'"),
            (
                "memory-backend-file,id=m0,size=4k,mem-path=x,rom=2",
                "Parameter 'rom' does not accept value '2'",
            ),
        ] {
            assert_eq!(spec(text).unwrap_err().to_string(), error, "{text}");
        }
        let hint = spec("memory-backend-ram,id=m0,size=4k,foo=1").unwrap_err().hint().unwrap();
        assert!(hint.starts_with("memory-backend-ram takes: dump, host-nodes, merge,"), "{hint}");
        assert!(!hint.contains("mem-path"), "{hint}");
    }

    #[test]
    fn a_read_only_file_is_rom_unless_it_is_a_template() {
        let file = |more: &str| spec(&format!("memory-backend-file,id=m,size=4k,mem-path=/x,{more}"));
        assert!(file("readonly=on").unwrap().is_rom());
        assert!(file("rom=on").unwrap().is_rom());
        assert!(!file("readonly=on,rom=off").unwrap().is_rom());
        assert!(file("readonly=on,rom=off,share=on").is_err());
    }
}
