//! The boards that are built in.

pub mod cpiom;
pub mod isa;
pub mod mips;
mod prep_nvram;
pub mod rs6000_40p;

use flatview::Endianness;
use flatview_cpu::mips::MipsModel;
use flatview_cpu::ppc::PpcModel;

use crate::error::nearest;
use crate::{BoardBuilder, BoardError, BoardInfo};

/// A board: what it is called and how it is put together.
#[derive(Debug, Clone, Copy)]
pub struct Board {
    /// What is told about it.
    pub info: BoardInfo,
    /// The byte order of its CPU.
    pub target: Endianness,
    /// ELF's number of its CPU's kind (`e_machine`).
    pub elf_machine: u16,
    /// Puts it together.
    pub build: fn(&mut BoardBuilder<'_>) -> Result<(), BoardError>,
}

static BOARDS: [&Board; 4] = [&rs6000_40p::BOARD, &cpiom::BOARD, &mips::BOARD, &mips::BOARD_LITTLE];
static INFOS: [BoardInfo; 4] =
    [rs6000_40p::BOARD.info, cpiom::BOARD.info, mips::BOARD.info, mips::BOARD_LITTLE.info];

/// What `-device` takes, with one line each.
pub static DEVICE_KINDS: &[(&str, &str)] = &[
    ("pc-testdev", "ISA device for testing accesses of every size"),
    ("pc-dimm", "memory in a slot, on boards that have device memory: memdev=ID[,id=ID][,addr=N][,slot=N]"),
];

/// A CPU that a board can have (`-cpu`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuModelInfo {
    /// What kind of CPU it is.
    pub family: &'static str,
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub description: &'static str,
    /// The boards that take it.
    pub boards: &'static [&'static str],
}

/// The CPU of a board that has no other: another one is refused.
fn only_cpu(
    b: &mut BoardBuilder<'_>,
    board: &'static str,
    only: &'static PpcModel,
) -> Result<&'static PpcModel, BoardError> {
    match b.cpu_model() {
        Some(name) if name != only.name => {
            Err(BoardError::UnknownCpu { board, name: name.to_owned(), nearest: Some(only.name) })
        }
        _ => Ok(only),
    }
}

/// What `-cpu` takes.
pub fn cpu_models() -> Vec<CpuModelInfo> {
    let mips = |model: &MipsModel| CpuModelInfo {
        family: "MIPS",
        name: model.name,
        description: model.description,
        boards: &["mips", "mipsel"],
    };
    let ppc = |model: &PpcModel| CpuModelInfo {
        family: "PowerPC",
        name: model.name,
        description: model.description,
        boards: if model.name == rs6000_40p::BOARD.info.cpu { &["40p"] } else { &["cpiom"] },
    };
    MipsModel::all().iter().map(mips).chain(PpcModel::all().iter().map(ppc)).collect()
}

/// What is told about each board.
pub fn infos() -> &'static [BoardInfo] {
    &INFOS
}

/// The board of a name or alias.
///
/// # Errors
/// [`BoardError::UnknownBoard`] names the one that is most like it.
pub fn find(name: &str) -> Result<&'static Board, BoardError> {
    let known = |board: &&&'static Board| board.info.name == name || board.info.aliases.contains(&name);
    BOARDS.iter().find(known).copied().ok_or_else(|| BoardError::UnknownBoard {
        name: name.to_owned(),
        nearest: nearest(name, INFOS.iter().map(|info| info.name)),
    })
}

/// What one `-device` argument asks for: a kind without properties.
///
/// # Errors
/// [`BoardError::UnknownDevice`] and [`BoardError::UnknownProperty`].
pub(crate) fn device_kind(argument: &str) -> Result<&'static str, BoardError> {
    let (name, properties) = argument.split_once(',').unwrap_or((argument, ""));
    let names = || DEVICE_KINDS.iter().map(|(name, _)| *name);
    let kind = names().find(|kind| *kind == name).ok_or_else(|| BoardError::UnknownDevice {
        name: name.to_owned(),
        nearest: nearest(name, names()),
        known: names().collect::<Vec<_>>().join(", "),
    })?;
    match properties.split(',').find(|property| !property.is_empty()) {
        None => Ok(kind),
        Some(property) => {
            Err(BoardError::UnknownProperty { device: kind.to_owned(), property: property.to_owned() })
        }
    }
}
