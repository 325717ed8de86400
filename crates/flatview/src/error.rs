//! What can go wrong when a map is changed.
//!
//! [`MemoryError`] is for people who build maps: it carries names, addresses and the cure. What an access gives is
//! another thing ([`memtx`](crate::memtx)).

use std::fmt;
use std::sync::Arc;

use crate::{DirtyClient, GlobalLog, RegionId};

/// Why a change of the map was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The region was removed since the id was given out.
    #[error("Region {id} no longer exists: it was removed, and an id keeps nothing alive")]
    StaleRegion {
        /// The id used.
        id: RegionId,
    },
    /// The id comes from another [`Memory`](crate::Memory).
    #[error("Region {id} belongs to another Memory; regions cannot be shared between machines")]
    ForeignRegion {
        /// The id used.
        id: RegionId,
    },
    /// A region can stand in one container only.
    #[error("Region '{name}' is already mapped in '{container}'; unmap it first, or map an alias of it")]
    AlreadyMapped {
        /// The region.
        name: Arc<str>,
        /// Where it stands.
        container: Arc<str>,
    },
    /// The region is not where the caller thought it was.
    #[error("Region '{name}' is not mapped in '{container}'")]
    NotMapped {
        /// The region.
        name: Arc<str>,
        /// Where it was looked for.
        container: Arc<str>,
    },
    /// A region would contain itself.
    #[error("Mapping '{name}' into '{container}' would make '{name}' contain itself")]
    ContainerCycle {
        /// The region.
        name: Arc<str>,
        /// The container.
        container: Arc<str>,
    },
    /// An alias would, through other aliases, show itself.
    #[error("Alias '{name}' of '{target}' would be an alias of itself")]
    AliasCycle {
        /// The alias.
        name: Arc<str>,
        /// The target asked for.
        target: Arc<str>,
    },
    /// Only an alias has a target and an offset.
    #[error("Region '{name}' is not an alias")]
    NotAlias {
        /// The region.
        name: Arc<str>,
    },
    /// Only a ROM device has a ROM mode.
    #[error("Region '{name}' is not a ROM device and has no ROM mode")]
    NotRomDevice {
        /// The region.
        name: Arc<str>,
    },
    /// The ROM device answers through its callbacks just now.
    #[error(
        "ROM device '{name}' is not in ROM mode: nobody sees its memory; switch it on with set_romd first"
    )]
    RomModeOff {
        /// The region.
        name: Arc<str>,
    },
    /// Regions go up to 2^64 bytes.
    #[error("Region '{name}' of {size:#x} bytes is larger than the 2^64 bytes an address can reach")]
    TooLarge {
        /// The region.
        name: Arc<str>,
        /// The size asked for, in bytes.
        size: u128,
    },
    /// RAM cannot be larger than the block behind it.
    #[error(
        "Region '{name}' of {size:#x} bytes does not fit in RAM block '{block}', which has {room:#x} bytes from the region's offset on"
    )]
    BlockTooSmall {
        /// The region.
        name: Arc<str>,
        /// The block.
        block: Arc<str>,
        /// The size asked for, in bytes.
        size: u128,
        /// What the block has left, in bytes.
        room: u64,
    },
    /// `.window` and the like on a region that has no RAM block.
    #[error("Region '{name}' has no RAM block to take a window of")]
    NoBlock {
        /// The region.
        name: Arc<str>,
    },
    /// Only a block made with a maximum can be resized.
    #[error(
        "Region '{name}' cannot be resized with its RAM: it does not show RAM block '{block}' from its start, or the block was made without a maximum (RamBuilder::max_size)"
    )]
    NotResizeable {
        /// The region.
        name: Arc<str>,
        /// The block.
        block: Arc<str>,
    },
    /// More than the block can have (QEMU: "Size too large").
    #[error(
        "RAM block '{block}' of region '{name}' cannot have {size:#x} bytes: it was made for {min:#x} to {max:#x}"
    )]
    ResizeOutOfRange {
        /// The region.
        name: Arc<str>,
        /// The block.
        block: Arc<str>,
        /// The size asked for, in bytes.
        size: u64,
        /// The least it can have, in bytes.
        min: u64,
        /// The most it can have, in bytes.
        max: u64,
    },
    /// Two threads at once, or the callback of a resize.
    #[error("RAM block '{block}' is being resized; try again when that is done")]
    ResizeRunning {
        /// The block.
        block: Arc<str>,
    },
    /// A resize cannot be rolled back with the rest.
    #[error("RAM block '{block}' cannot be resized inside update(); do it before or after")]
    ResizeInsideUpdate {
        /// The block.
        block: Arc<str>,
    },
    /// Names are printed in maps, logs and pictures.
    #[error("The name {name:?} has a control character; a name is one line of printable text")]
    BadName {
        /// The name as given.
        name: Arc<str>,
    },
    /// The region is still part of a map.
    #[error("Region '{name}' cannot be removed: {why}")]
    InUse {
        /// The region.
        name: Arc<str>,
        /// What holds it.
        why: InUse,
    },
    /// The id comes from another [`Memory`](crate::Memory).
    #[error("The address space belongs to another Memory; ask the Memory it was made with")]
    ForeignSpace,
    /// The address space was removed.
    #[error("The address space no longer exists: it was removed")]
    StaleSpace,
    /// The map nests too deeply to be rendered, for example an alias that shows the place where it stands.
    #[error(
        "The map under '{root}' nests deeper than {limit} levels at '{name}' (address {address:#x}); look for an alias that shows itself"
    )]
    TooDeep {
        /// The root of the view that could not be rendered.
        root: Arc<str>,
        /// The region at which the limit was met.
        name: Arc<str>,
        /// An address in the view at which it happens.
        address: u64,
        /// The limit.
        limit: u32,
    },
    /// The view would have more ranges than the budget.
    #[error(
        "The map under '{root}' has more than {limit} ranges; raise Limits::ranges if it really has so many"
    )]
    TooManyRanges {
        /// The root of the view that could not be rendered.
        root: Arc<str>,
        /// The limit.
        limit: usize,
    },
    /// Rendering the change takes more steps than the budget.
    #[error(
        "Rendering the map under '{root}' takes more than {limit} steps; look for aliases that multiply each other, or raise Limits::steps"
    )]
    TooMuchWork {
        /// The root of the view that could not be rendered.
        root: Arc<str>,
        /// The limit.
        limit: u64,
    },
    /// `synchronize` waits for running accesses, and this thread is in one.
    #[error(
        "synchronize() was called from inside a device callback and would wait for itself; call it after the access"
    )]
    WouldWaitForItself,
    /// Spaces are made and removed outside of transactions.
    #[error("An address space cannot be made or removed inside update(); do it before or after")]
    SpaceInsideUpdate,
    /// Only memory has pages that are written.
    #[error(
        "Region '{name}' has no RAM block, so none of its pages can be dirty; name the RAM region itself"
    )]
    NoRam {
        /// The region.
        name: Arc<str>,
    },
    /// The bytes are not all in the region.
    #[error("{len:#x} bytes at offset {offset:#x} are not all inside region '{name}' of {size:#x} bytes")]
    OutsideRegion {
        /// The region.
        name: Arc<str>,
        /// The offset of the first byte in the region.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// The region's size in bytes.
        size: u128,
    },
    /// A log was stopped more often than it was started.
    #[error("Region '{name}' is not logged for {client}; each stop of a log needs a start of its own")]
    NotLogged {
        /// The region.
        name: Arc<str>,
        /// For whom.
        client: DirtyClient,
    },
    /// The log of all RAM was stopped more often than it was started.
    #[error("RAM as a whole is not logged for {client}; each stop of a log needs a start of its own")]
    NotLoggedEverywhere {
        /// For whom.
        client: DirtyClient,
    },
    /// A global log was stopped that does not run.
    #[error("No global dirty log runs for {flags}; it runs for {running}")]
    NoGlobalLog {
        /// What was to be stopped.
        flags: GlobalLog,
        /// What runs.
        running: GlobalLog,
    },
    /// All dirty clients are given out.
    #[error("A Memory has at most 8 dirty clients, 3 of them QEMU's; free one first ({taken})")]
    NoDirtyClient {
        /// The names of those that are allocated.
        taken: Arc<str>,
    },
    /// The client was freed, is another memory's, or is one of QEMU's, which cannot be freed.
    #[error("Dirty {client} was not allocated by this Memory, or was freed")]
    StaleClient {
        /// The client used.
        client: DirtyClient,
    },
    /// A client that is freed is gone at once, and an update may still be undone.
    #[error("A dirty client cannot be freed inside update(); do it afterwards")]
    ClientInsideUpdate,
    /// Another memory keeps track of the block.
    #[error(
        "RAM block '{block}' of region '{name}' is logged by another Memory; its dirty bits belong to one at a time"
    )]
    LoggedElsewhere {
        /// The region.
        name: Arc<str>,
        /// The block.
        block: Arc<str>,
    },
    /// The host cannot fence the stores of other threads.
    #[error(
        "Dirty logging needs the membarrier system call (Linux 4.14 or later); allow it in this process's seccomp filter"
    )]
    NoBarrier,
    /// There is no room for more regions.
    #[error("A Memory holds at most 2^32 - 2 regions")]
    Full,
    /// Listeners run as a part of a commit, which another change would have to wait for.
    #[error(
        "The map cannot be changed from inside a listener, which runs as a part of a change; use Memory::defer() to change it after that"
    )]
    InsideListener,
    /// Listeners are added and removed outside of transactions.
    #[error("A listener cannot be added or removed inside update(); do it before or after")]
    ListenerInsideUpdate,
    /// The listener was removed, or is another memory's.
    #[error("The listener does not listen to this Memory (any more)")]
    StaleListener,
    /// An ioeventfd that cannot be.
    #[error("Region '{name}' cannot have an ioeventfd for {size} bytes at {addr:#x}: {why}")]
    BadEventFd {
        /// The region.
        name: Arc<str>,
        /// The offset in it.
        addr: u64,
        /// The size of the write, in bytes.
        size: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// There is no such ioeventfd to be taken away.
    #[error(
        "Region '{name}' has no such ioeventfd for {size} bytes at {addr:#x}; give what it was added with"
    )]
    NoEventFd {
        /// The region.
        name: Arc<str>,
        /// The offset in it.
        addr: u64,
        /// The size of the write, in bytes.
        size: u32,
    },
    /// Only an IOMMU translates and has notifiers.
    #[error("Region '{name}' is not an IOMMU; name the IOMMU region itself, or an alias of it")]
    NotIommu {
        /// The region.
        name: Arc<str>,
    },
    /// A notifier that could never be told of anything.
    #[error("IOMMU '{name}' cannot have this notifier: {why}")]
    BadIommuNotifier {
        /// The region.
        name: Arc<str>,
        /// What is wrong.
        why: &'static str,
    },
    /// The device cannot tell of what a notifier wants to hear of. The notifier was not added.
    #[error("IOMMU '{name}' cannot serve this notifier: {reason}")]
    IommuRefused {
        /// The region.
        name: Arc<str>,
        /// What the device said.
        reason: Arc<str>,
    },
    /// Its device is being told of another change of its notifiers.
    #[error(
        "The notifiers of IOMMU '{name}' are being changed by somebody else; try again when that is done"
    )]
    IommuBusy {
        /// The region.
        name: Arc<str>,
    },
    /// The notifier was removed.
    #[error("The IOMMU has no such notifier (any more)")]
    StaleIommuNotifier,
    /// A change of a table that cannot be told.
    #[error("IOMMU '{name}' cannot tell of {iova:#x} with mask {mask:#x}: {why}")]
    BadIommuEvent {
        /// The region.
        name: Arc<str>,
        /// The first offset in the region.
        iova: u64,
        /// The number of bytes less 1.
        mask: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A listener said beforehand that it cannot follow the change. Nobody saw anything of it.
    #[error("Listener '{name}' cannot follow the change: {reason}")]
    ListenerRefused {
        /// The listener.
        name: Arc<str>,
        /// What it said.
        reason: Arc<str>,
    },
    /// A listener failed when the change was already visible; the change was taken back, and everybody was told.
    #[error("Listener '{name}' failed in {callback} at {address:#x}: {reason}; the change was taken back")]
    ListenerFailed {
        /// The listener.
        name: Arc<str>,
        /// The callback that failed.
        callback: &'static str,
        /// The address in the space of what it was told; 0 for `begin` and `commit`.
        address: u64,
        /// What it said.
        reason: Arc<str>,
    },
    /// A listener failed while a change was taken back. The map is as it was before the change; what that listener
    /// holds may differ from it, and it is called no more ([`Memory::listeners`](crate::Memory::listeners) tells). If
    /// it is an accelerator, stop the machine.
    #[error(
        "Listener '{name}' failed in {callback} while a change was taken back: {reason}; what it holds may differ from the map, stop the machine (the change was taken back because: {cause})"
    )]
    ListenerBroken {
        /// The first listener that failed so.
        name: Arc<str>,
        /// The callback that failed.
        callback: &'static str,
        /// What it said.
        reason: Arc<str>,
        /// Why the change was taken back.
        cause: Box<MemoryError>,
    },
}

/// What holds a region that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InUse {
    /// It stands in a container.
    Mapped,
    /// Other regions stand in it.
    HasChildren,
    /// An alias shows it.
    Aliased,
    /// An address space looks at it.
    RootOfSpace,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mapped => "it is mapped in a container; unmap it first",
            Self::HasChildren => "regions are mapped in it; unmap them first",
            Self::Aliased => "an alias shows it; remove the alias first",
            Self::RootOfSpace => "an address space has it as root; remove the space first",
        })
    }
}
