//! What can go wrong with objects and memory devices: QEMU's words.

use flatview::{MemoryError, RamError};

/// Why an object or device could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// A property that must be there.
    #[error("Parameter '{0}' is missing")]
    Missing(&'static str),
    /// A value that is none of those there are.
    #[error("Parameter '{name}' does not accept value '{value}'")]
    NotAccepted {
        /// The property.
        name: &'static str,
        /// As given.
        value: String,
        /// What there is.
        known: String,
    },
    /// A property that there is not, written as text.
    #[error("Invalid parameter '{name}'")]
    Invalid {
        /// As given.
        name: String,
        /// The object's type.
        kind: &'static str,
        /// What there is.
        known: String,
    },
    /// The same in QMP.
    #[error("Parameter '{0}' is unexpected")]
    Unexpected(String),
    /// A text that is not what the property takes.
    #[error("Parameter '{name}' expects {what}")]
    Expects {
        /// The property.
        name: String,
        /// What it takes.
        what: &'static str,
    },
    /// A JSON value of another type.
    #[error("Invalid parameter type for '{name}', expected: {what}")]
    WrongType {
        /// The property.
        name: String,
        /// The type it takes.
        what: &'static str,
    },
    /// A number that makes no sense.
    #[error("property '{name}' of {kind} doesn't take value '{value}'")]
    NoSuchValue {
        /// The property.
        name: &'static str,
        /// The object's type.
        kind: &'static str,
        /// As given.
        value: u64,
    },
    /// Options that exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// The id is taken.
    #[error("attempt to add duplicate property '{0}' to object (type 'container')")]
    DuplicateObject(String),
    /// The id is the board's.
    #[error(
        "object name '{0}' is reserved for the default RAM backend, it can't be used for any other purposes. Change the object's 'id' to something else"
    )]
    Reserved(String),
    /// No such object.
    #[error("object '{0}' not found")]
    NoObject(String),
    /// Somebody uses it.
    #[error("object '{0}' is in use, can not be deleted")]
    InUse(String),
    /// No such memory back end for the machine's RAM.
    #[error("Memory backend '{0}' not found")]
    NoMemdev(String),
    /// `-m` and the back end disagree.
    #[error("Machine memory size does not match the size of the memory backend")]
    SizeMismatch {
        /// What `-m` says, in bytes.
        machine: u64,
        /// What the back end has, in bytes.
        backend: u64,
    },
    /// `maxmem` that is too small.
    #[error(
        "invalid value of maxmem: maximum memory size ({max:#x}) must be at least the initial memory size ({size:#x})"
    )]
    MaxTooSmall {
        /// `maxmem` in bytes.
        max: u64,
        /// The machine's RAM in bytes.
        size: u64,
    },
    /// `slots` with nothing to put into them.
    #[error(
        "invalid value of maxmem: memory slots were specified but maximum memory size ({0:#x}) is equal to the initial memory size ({0:#x})"
    )]
    MaxEqual(u64),
    /// More than the board has addresses for.
    #[error(
        "invalid value of maxmem: the board has addresses for {room:#x} bytes beyond its RAM, not for {asked:#x}"
    )]
    MaxTooLarge {
        /// Bytes asked for beyond the machine's RAM.
        asked: u64,
        /// Bytes there could be.
        room: u64,
    },
    /// No such driver.
    #[error("'{0}' is not a valid device model name")]
    NoDriver(String),
    /// A driver whose bus takes nothing while the machine runs.
    #[error("Bus '{0}' does not support hotplugging")]
    NoHotplug(&'static str),
    /// A property that a device does not have.
    #[error("Property '{device}.{name}' not found")]
    NoProperty {
        /// The driver.
        device: &'static str,
        /// As given.
        name: String,
        /// What there is.
        known: String,
    },
    /// The id is taken by a device.
    #[error("Duplicate device ID '{0}'")]
    DuplicateDevice(String),
    /// No such device, or no such object for one (QMP's class `DeviceNotFound`).
    #[error("Device '{0}' not found")]
    NoDevice(String),
    /// A DIMM without memory.
    #[error("'memdev' property must be set")]
    NoMemory,
    /// The back end is in use.
    #[error("can't use already busy memdev: {0}")]
    Busy(String),
    /// A board without memory devices.
    #[error("memory devices (e.g. for memory hotplug) are not supported by the machine")]
    NotSupported {
        /// The board.
        board: String,
    },
    /// A machine without `maxmem`.
    #[error("memory devices (e.g. for memory hotplug) are not enabled, please specify the maxmem option")]
    NotEnabled,
    /// A machine with `maxmem` and without `slots`.
    #[error("no slots where allocated, please specify the 'slots' option")]
    NoSlots,
    /// All slots have a DIMM.
    #[error("no free slots available")]
    SlotsFull,
    /// The slot has a DIMM.
    #[error("slot {0} is busy")]
    SlotBusy(u64),
    /// No such slot.
    #[error("invalid slot number {slot}, valid range is [0-{last}]")]
    NoSuchSlot {
        /// As given.
        slot: i64,
        /// The last one.
        last: u64,
    },
    /// A NUMA node of a machine that has one.
    #[error("'DIMM property node has value {0}' which exceeds the number of numa nodes: 1")]
    NoNode(u64),
    /// More than `maxmem` leaves.
    #[error("not enough space, currently {used:#x} in use of total space for memory devices {total:#x}")]
    NoSpace {
        /// Bytes plugged.
        used: u64,
        /// Bytes in all.
        total: u64,
    },
    /// There is room, but not in one piece.
    #[error(
        "could not find position in guest address space for memory device - memory fragmented due to alignments"
    )]
    Fragmented,
    /// A size that is no multiple of the alignment.
    #[error("backend memory size must be multiple of {0:#x}")]
    SizeAlignment(u64),
    /// An address that is no multiple of the alignment.
    #[error("address must be aligned to {0:#x} bytes")]
    AddressAlignment(u64),
    /// An address outside.
    #[error(
        "can't add memory device [{addr:#x}:{size:#x}], usable range for memory devices [{base:#x}:{total:#x}]"
    )]
    OutOfRange {
        /// As given.
        addr: u64,
        /// The device's size in bytes.
        size: u64,
        /// Where memory devices begin.
        base: u64,
        /// Bytes there.
        total: u64,
    },
    /// Another DIMM is there.
    #[error("address range conflicts with memory device id='{0}'")]
    Conflicts(String),
    /// The host, or a file.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The map.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl ObjectError {
    /// What would be right, where QEMU's words leave that open; to be printed on a line of its own.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAccepted { name, known, .. } => Some(format!("'{name}' is one of: {known}")),
            Self::Invalid { kind, known, .. } => Some(format!("{kind} takes: {known}")),
            Self::NoProperty { device, known, .. } => Some(format!("{device} takes: {known}")),
            Self::Expects { what: "an identifier", .. } => Some(
                "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.".to_owned(),
            ),
            Self::Expects { what: "a size value", .. } => Some(
                "You may use k, M, G, T, P and E suffixes for powers of 1024; without one it is bytes."
                    .to_owned(),
            ),
            Self::SizeMismatch { machine, backend } => Some(format!(
                "-m says {machine:#x} bytes, the backend has {backend:#x}; leave out -m, or give both the same size"
            )),
            Self::NoMemdev(id) => Some(format!("add it: -object memory-backend-ram,id={id},size=…")),
            Self::NotSupported { board } => Some(format!(
                "the board '{board}' has no addresses for them; the board 'cpiom' has (-m 64M,slots=2,maxmem=1G)"
            )),
            _ => None,
        }
    }

    /// The error, and on the next line its hint if it has one.
    pub fn with_hint(&self) -> String {
        self.hint().map_or_else(|| self.to_string(), |hint| format!("{self}\n{hint}"))
    }

    /// Whether QMP says `DeviceNotFound`.
    pub fn is_device_not_found(&self) -> bool {
        matches!(self, Self::NoDevice(_))
    }
}
