//! What can go wrong with host memory: every error names the block, the place and what to do about it.

use std::path::PathBuf;

/// Why a block could not be made, or not be used that way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RamError {
    /// The host refused the mapping.
    #[error(
        "Cannot map {size:#x} bytes for RAM block '{name}': {source}; ask for less, or raise the limits of this process (ulimit -v) or host"
    )]
    Map {
        /// The block.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// What the host said.
        source: std::io::Error,
    },
    /// The file could not be opened or made.
    #[error("Cannot open '{}' for RAM block '{name}': {source}", path.display())]
    Open {
        /// The block.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// There is no such file, and it was not to be made.
    #[error(
        "There is no file '{}' for RAM block '{name}'; make it first (truncate -s {size} FILE), or correct the path",
        path.display()
    )]
    NoFile {
        /// The block.
        name: String,
        /// The file.
        path: PathBuf,
        /// The size it should have, in bytes.
        size: u64,
    },
    /// There is no such folder to make the file in.
    #[error("There is no folder for '{}', the file behind RAM block '{name}'; make it first (mkdir -p)", path.display())]
    NoFolder {
        /// The block.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A folder where a file is wanted.
    #[error(
        "'{}' is a directory and RAM block '{name}' needs a file; name a file in it, or open it so that a directory means a temporary file there",
        path.display()
    )]
    IsDirectory {
        /// The block.
        name: String,
        /// The folder.
        path: PathBuf,
    },
    /// The host does not let us.
    #[error(
        "No permission to open '{}' for {access} as RAM block '{name}'; change the file's owner or mode (chmod), or map it read-only",
        path.display()
    )]
    NoPermission {
        /// The block.
        name: String,
        /// The file.
        path: PathBuf,
        /// `reading` or `reading and writing`.
        access: &'static str,
    },
    /// The file is too short.
    #[error(
        "The file behind RAM block '{name}' has {have:#x} bytes, but {need:#x} are needed (offset {offset:#x} + size {size:#x}); make it larger (truncate -s) or ask for less"
    )]
    FileTooSmall {
        /// The block.
        name: String,
        /// The file's size in bytes.
        have: u64,
        /// The size needed in bytes.
        need: u64,
        /// Offset of the block in the file, in bytes.
        offset: u64,
        /// Size of the block in bytes.
        size: u64,
    },
    /// The file could not be given its size.
    #[error(
        "Cannot give the file behind RAM block '{name}' its {size:#x} bytes: {source}; make room on its file system"
    )]
    Grow {
        /// The block.
        name: String,
        /// The size needed in bytes.
        size: u64,
        /// What the host said.
        source: std::io::Error,
    },
    /// The offset must be a multiple of the page size.
    #[error("Offset {offset:#x} of RAM block '{name}' is not a multiple of the host's page size {page:#x}")]
    Misaligned {
        /// The block.
        name: String,
        /// The offset asked for.
        offset: u64,
        /// The page size behind the block.
        page: u64,
    },
    /// An alignment that no mapping can have.
    #[error(
        "Alignment {align:#x} of RAM block '{name}' must be a power of two and a multiple of the page size {page:#x}"
    )]
    BadAlignment {
        /// The block.
        name: String,
        /// The alignment asked for.
        align: u64,
        /// The page size behind the block.
        page: u64,
    },
    /// Huge pages come whole.
    #[error(
        "Size {size:#x} of RAM block '{name}' is not a multiple of its page size {page:#x}; ask for {next:#x} bytes"
    )]
    NotPages {
        /// The block.
        name: String,
        /// The size asked for, in bytes.
        size: u64,
        /// The page size behind the block.
        page: u64,
        /// The next larger size that would do.
        next: u64,
    },
    /// A page size that huge pages cannot have.
    #[error("Huge pages of {page:#x} bytes for RAM block '{name}' do not exist here; this host has {known}")]
    NoSuchPageSize {
        /// The block.
        name: String,
        /// The page size asked for.
        page: u64,
        /// The sizes there are.
        known: String,
    },
    /// The host has no huge pages left.
    #[error(
        "RAM block '{name}' needs {need} huge pages of {kib} KiB, and the host has {free} free; give it some (as root: sysctl vm.nr_hugepages={need}, or echo {need} > /sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages), or do without huge pages"
    )]
    NoHugePages {
        /// The block.
        name: String,
        /// Pages needed.
        need: u64,
        /// Pages that are free.
        free: u64,
        /// Their size in KiB.
        kib: u64,
    },
    /// The kernel has no memfd.
    #[error("This host cannot make a memfd for RAM block '{name}': {source}; use anonymous memory or a file")]
    NoMemfd {
        /// The block.
        name: String,
        /// What the host said.
        source: std::io::Error,
    },
    /// The kernel does not seal.
    #[error("This host cannot seal the memfd of RAM block '{name}': {source}; do without (seal=off)")]
    NoSealing {
        /// The block.
        name: String,
        /// What the host said.
        source: std::io::Error,
    },
    /// The kernel has no memory policy, or refuses this one.
    #[error(
        "Cannot bind RAM block '{name}' to host NUMA nodes {nodes} with policy {policy}: {source}; numactl -H lists the nodes there are"
    )]
    Policy {
        /// The block.
        name: String,
        /// The policy.
        policy: &'static str,
        /// The nodes.
        nodes: String,
        /// What the host said.
        source: std::io::Error,
    },
    /// A policy without nodes.
    #[error("RAM block '{name}' has policy {policy} and no host nodes; name them (host-nodes=0-1)")]
    NodesMissing {
        /// The block.
        name: String,
        /// The policy.
        policy: &'static str,
    },
    /// Nodes without a policy.
    #[error("RAM block '{name}' has host nodes and the default policy; name another one (policy=bind)")]
    NodesUnused {
        /// The block.
        name: String,
    },
    /// A node number that no host has.
    #[error("Host node {node} of RAM block '{name}' is beyond the last one possible, {max}")]
    BadNode {
        /// The block.
        name: String,
        /// The node.
        node: u32,
        /// The largest there can be.
        max: u32,
    },
    /// The pages could not be had in advance.
    #[error(
        "Cannot preallocate {size:#x} bytes of RAM block '{name}': {source}; the host has too little memory (or huge pages) free: ask for less, or do without preallocation"
    )]
    Prealloc {
        /// The block.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// What the host said.
        source: std::io::Error,
    },
    /// An option of another back end.
    #[error("RAM block '{name}' is {backend} and has no '{option}'; leave it out, or use {cure}")]
    WrongBackend {
        /// The block.
        name: String,
        /// The option.
        option: &'static str,
        /// What the block is made of.
        backend: &'static str,
        /// What has that option.
        cure: &'static str,
    },
    /// A block that may grow to less than it has.
    #[error("RAM block '{name}' has size {size:#x} and may grow to {max:#x}: raise the maximum")]
    BadMaximum {
        /// The block.
        name: String,
        /// The size asked for, in bytes.
        size: u64,
        /// The maximum asked for, in bytes.
        max: u64,
    },
    /// A block of no bytes.
    #[error("RAM block '{name}' has size 0; give it at least one byte")]
    Empty {
        /// The block.
        name: String,
    },
    /// The name does not fit on a line.
    #[error("The name {name:?} has a control character; a name is one line of printable text")]
    BadName {
        /// The name as given.
        name: String,
    },
    /// An access outside of the block, or a write to a read-only one.
    #[error(
        "{size:#x} bytes at offset {offset:#x} are not all inside RAM block '{name}' of {have:#x} bytes, or it is read-only on the host"
    )]
    OutOfRange {
        /// The block.
        name: String,
        /// Where.
        offset: u64,
        /// How many bytes.
        size: u64,
        /// The block's size in bytes.
        have: u64,
    },
    /// The memory is not ours to give back.
    #[error("Cannot discard {size:#x} bytes at offset {offset:#x} of RAM block '{name}': {why}")]
    NoDiscard {
        /// The block.
        name: String,
        /// Where.
        offset: u64,
        /// How many bytes.
        size: u64,
        /// Why not, and what would do.
        why: &'static str,
    },
    /// The host did not write the pages to their file.
    #[error(
        "The host did not write {size:#x} bytes at offset {offset:#x} of RAM block '{name}' to its file: {source}; look after the disk that it is on"
    )]
    Sync {
        /// The block.
        name: String,
        /// Where.
        offset: u64,
        /// How many bytes.
        size: u64,
        /// What the host said.
        source: std::io::Error,
    },
    /// The host did not give the pages back.
    #[error("The host did not discard {size:#x} bytes at offset {offset:#x} of RAM block '{name}': {source}")]
    Discard {
        /// The block.
        name: String,
        /// Where.
        offset: u64,
        /// How many bytes.
        size: u64,
        /// What the host said.
        source: std::io::Error,
    },
}
