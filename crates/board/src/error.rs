//! What can go wrong when a machine is made or told something.

use std::io;
use std::path::PathBuf;

use flatview::{MemoryError, RamError};

use crate::memdev::ObjectError;
use flatview_device::CharError;
use flatview_hw::cpiom::sdram::SdramError;
use flatview_hw::isa::rs6000_mc::SimmError;

/// Why a machine could not be made. The text names the thing, the place and the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// No board of that name.
    #[error("Unknown board '{name}'{}; -M help lists the boards", suggestion(.nearest))]
    UnknownBoard {
        /// The name as given.
        name: String,
        /// The name that is most like it.
        nearest: Option<&'static str>,
    },
    /// No device of that name, or not on this board.
    #[error("'{name}' is not a device that -device takes on this board{}; there are: {known}", suggestion(.nearest))]
    UnknownDevice {
        /// The name as given.
        name: String,
        /// The name that is most like it.
        nearest: Option<&'static str>,
        /// All there are.
        known: String,
    },
    /// No CPU of that name for this board.
    #[error("Unable to find CPU model '{name}' for board '{board}'{}; -cpu help lists them", suggestion(.nearest))]
    UnknownCpu {
        /// The board.
        board: &'static str,
        /// The name as given.
        name: String,
        /// The name that is most like it.
        nearest: Option<&'static str>,
    },
    /// A property that a device does not have.
    #[error("Device '{device}' has no property '{property}' here; write -device {device} without it")]
    UnknownProperty {
        /// The device.
        device: String,
        /// The property as given.
        property: String,
    },
    /// RAM that the board cannot have.
    #[error("Board '{board}' cannot have {asked} bytes of RAM: {rule}")]
    RamSize {
        /// The board.
        board: &'static str,
        /// What was asked for, in bytes.
        asked: u64,
        /// What it can have.
        rule: String,
    },
    /// RAM that does not fit the 40p's sockets, or that the host refused.
    #[error(transparent)]
    Simm(#[from] SimmError),
    /// RAM that the cpiom's controller cannot have.
    #[error(transparent)]
    Sdram(#[from] SdramError),
    /// A firmware file that was named is not there.
    #[error("Cannot find firmware '{}'; looked for it as a path and in {searched}; -L adds a folder", .name.display())]
    FirmwareMissing {
        /// The name as given.
        name: PathBuf,
        /// The folders, comma-separated.
        searched: String,
    },
    /// The firmware that the board starts from was not named and is not installed.
    #[error(
        "Board '{board}' starts from firmware, and '{name}' is not in {searched}: install Debian's package {package}, add a folder with -L, name a file with -bios, or look at the stopped machine with -S"
    )]
    NoFirmware {
        /// The board.
        board: &'static str,
        /// The file's usual name.
        name: &'static str,
        /// The package that has it.
        package: &'static str,
        /// The folders that were looked in, comma-separated.
        searched: String,
    },
    /// A file that cannot be read.
    #[error("Cannot read {what} '{}': {source}", .path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// A file that is not what the board takes.
    #[error("Cannot load {what} '{}': {problem}", .path.display())]
    Image {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// An option that this board has no use for.
    #[error("Board '{board}' has no {what}; leave out {option}")]
    NotOnBoard {
        /// The board.
        board: &'static str,
        /// What it lacks.
        what: &'static str,
        /// The option.
        option: &'static str,
    },
    /// `-icount` with nothing to count.
    #[error(
        "-icount counts instructions, and board '{board}' runs {cpus} CPUs; give it a program (-kernel) or firmware (-bios), or leave out -icount"
    )]
    Icount {
        /// The board.
        board: &'static str,
        /// How many CPUs run.
        cpus: usize,
    },
    /// Something for a program, without one.
    #[error("{option}: {error}")]
    Drive {
        /// The option as given.
        option: String,
        /// What is wrong.
        error: crate::DriveError,
    },
    /// An option that wants a program.
    #[error("{0} only allowed with -kernel option")]
    WithoutKernel(&'static str),
    /// A serial port that could not be opened.
    #[error(transparent)]
    Char(#[from] CharError),
    /// The map refused; a board that is built in never does that.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The host refused memory.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// A memory back end or memory device that cannot be. `origin` is the option, as it was given.
    #[error("{}{}", prefix(.origin), .error.with_hint())]
    Object {
        /// The option and its argument; empty if it is none's fault alone.
        origin: String,
        /// What is wrong.
        error: ObjectError,
    },
    /// Two objects of one name.
    #[error("-object: Duplicate ID '{0}' for object; give each its own")]
    DuplicateObject(String),
    /// Two options that exclude each other.
    #[error("'{first}' can't be used together with '{second}'")]
    Together {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The host refused a thread.
    #[error("Cannot start the machine's thread: {0}")]
    Thread(#[source] io::Error),
}

fn prefix(origin: &str) -> String {
    if origin.is_empty() { String::new() } else { format!("{origin}: ") }
}

impl From<ObjectError> for BoardError {
    fn from(error: ObjectError) -> Self {
        Self::Object { origin: String::new(), error }
    }
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

/// The name of the list that is most like this one, if one is like it at all.
pub fn nearest(name: &str, names: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    names
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The host's reason for an error as C prints it: without Rust's `(os error 2)`.
pub fn os_error(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The machine has ended.
    #[error("The machine has quit")]
    HasQuit,
    /// A guest that has shut down must be reset first.
    #[error("Resetting the Virtual Machine is required")]
    ResetRequired,
    /// It stands still for a dump of its memory.
    #[error("There is a dump in process, please wait.")]
    DumpInProcess,
}

/// Why there are no such lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// No device at that path.
    #[error("Unknown device '{path}'; info qom-tree lists the devices")]
    NoSuchDevice {
        /// The path as given.
        path: String,
    },
    /// A short path that means several devices.
    #[error("'{path}' may be {candidates}; write more of the path")]
    Ambiguous {
        /// The path as given.
        path: String,
        /// The devices it may be.
        candidates: String,
    },
    /// The device has no such lines.
    #[error("Device '{path}' has no {direction} lines called '{name}'{known}")]
    NoSuchPins {
        /// The device.
        path: String,
        /// `input` or `output`.
        direction: &'static str,
        /// The lines' name.
        name: String,
        /// Those it has.
        known: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_host_reads_as_in_c() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(os_error(&error), "No such file or directory");
    }
}
