//! What a machine is made from: the command line, read.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use flatview::PreallocProgress;
use flatview_device::{CharBackend, CharSpec, Log};

use crate::drives::DriveConfig;
use crate::memdev::MemdevSpec;
use crate::memdev::spec::PreallocWatch;

/// What a user asks for.
#[derive(Debug, Clone, Default)]
pub struct MachineConfig {
    /// The board's name (`-M`).
    pub board: String,
    /// The CPU's model (`-cpu`), if not the board's usual one.
    pub cpu: Option<String>,
    /// Bytes of RAM (`-m`); `None` or 0 is the board's default.
    pub ram_size: Option<u64>,
    /// Slots for memory devices (`-m slots=`).
    pub ram_slots: u64,
    /// Bytes of RAM and memory devices together (`-m maxmem=`).
    pub ram_max: Option<u64>,
    /// The memory back end that is the machine's RAM (`-machine memory-backend=`).
    pub memory_backend: Option<String>,
    /// The file or folder that the machine's RAM is made of (`-mem-path`).
    pub mem_path: Option<PathBuf>,
    /// All pages of the machine's RAM at once (`-mem-prealloc`).
    pub mem_prealloc: bool,
    /// Memory back ends (`-object memory-backend-…`).
    pub memory_backends: Vec<MemdevSpec>,
    /// Hears how far preallocation is.
    pub prealloc_hook: PreallocHook,
    /// Firmware file (`-bios`): a path, or a name to look for in the firmware folders.
    pub bios: Option<PathBuf>,
    /// Flash contents (`-pflash`), for boards that have flash.
    pub pflash: Option<PathBuf>,
    /// Drives (`-drive if=scsi`, `-cdrom`, `-hda`), for boards that have a bus for them.
    pub drives: Vec<DriveConfig>,
    /// The file that keeps the NVRAM (`-nvram`), for boards that have one.
    pub nvram: Option<PathBuf>,
    /// A program to load (`-kernel`).
    pub kernel: Option<PathBuf>,
    /// What the program is told (`-append`).
    pub kernel_arguments: String,
    /// A RAM disk for the program (`-initrd`), for boards that know where to put one.
    pub initrd: Option<PathBuf>,
    /// Folders to look for firmware in, before the usual ones (`-L`).
    pub firmware_dirs: Vec<PathBuf>,
    /// Leave out the usual folders, so that a machine does not depend on what the host has installed.
    pub only_firmware_dirs: bool,
    /// The machine's name (`-name`).
    pub name: Option<String>,
    /// Serial ports in order (`-serial`); ports beyond these discard what is sent.
    pub serials: Vec<SerialConfig>,
    /// Parallel ports in order (`-parallel`); ports beyond these discard what is sent.
    pub parallels: Vec<SerialConfig>,
    /// Leave out the devices that are not built in (`-nodefaults`).
    pub nodefaults: bool,
    /// No screen: firmware is told to use the serial port (`-nographic`).
    pub nographic: bool,
    /// More devices (`-device`), such as `pc-testdev`.
    pub devices: Vec<String>,
    /// The file that keeps the NVM of the `cpiom` board.
    pub nvm_file: Option<PathBuf>,
    /// Do not start until told to (`-S`).
    pub start_stopped: bool,
    /// End instead of resetting (`-no-reboot`).
    pub no_reboot: bool,
    /// Stand still where the guest would end the machine (`-no-shutdown`).
    pub no_shutdown: bool,
    /// Time goes with the instructions that the CPU does (`-icount`).
    pub icount: Option<IcountConfig>,
    /// Time moves only when stepped (`-qtest`).
    pub qtest: bool,
    /// What date clock chips show (`-rtc`).
    pub rtc: RtcConfig,
    /// Where log lines go (`-d`, `-D`).
    pub log: Log,
}

impl MachineConfig {
    /// A machine of this board, everything else as by default.
    pub fn new(board: impl Into<String>) -> MachineConfig {
        MachineConfig { board: board.into(), ..MachineConfig::default() }
    }
}

/// What date clock chips show (`-rtc`): by default the host's, in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RtcConfig {
    /// The date at start, in seconds since 1970; `None` is the host's.
    pub base: Option<i64>,
    /// What it goes with.
    pub clock: RtcClock,
}

/// What the date of clock chips goes with. With a clock that moves only when stepped it always goes with that one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RtcClock {
    /// The host's time, or the machine's where that goes with instructions.
    #[default]
    Usual,
    /// The host's time.
    Host,
    /// The machine's clock, which stands while the machine does.
    Machine,
}

/// A clock that goes with instructions (`-icount`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcountConfig {
    /// How long an instruction takes.
    pub shift: IcountShift,
    /// While the CPU waits, time passes as it does for the host (else it leaps to the next timer).
    pub sleep: bool,
    /// The machine never gets ahead of the host's time.
    pub align: bool,
}

/// How long an instruction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcountShift {
    /// Two to the power of so many nanoseconds, at most [`Clock::MAX_SHIFT`](flatview_device::Clock::MAX_SHIFT).
    Fixed(u32),
    /// So long that the machine's time keeps up with the host's. What a guest does then depends on the host.
    Auto,
}

impl IcountConfig {
    /// The date at start if none is given, in seconds since 1970: 2000-01-01, so that each run is like the one before.
    pub const BASE: i64 = 946_684_800;
}

/// What hears how far preallocation is: nothing by default.
#[derive(Clone, Default)]
pub struct PreallocHook(Option<PreallocWatch>);

impl fmt::Debug for PreallocHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "PreallocHook(..)" } else { "PreallocHook" })
    }
}

impl PreallocHook {
    /// Calls `watch` with the back end's name and the figures, on the thread that makes it.
    pub fn new(watch: impl Fn(&str, PreallocProgress) + Send + Sync + 'static) -> PreallocHook {
        PreallocHook(Some(Arc::new(watch)))
    }

    pub(crate) fn watch(&self) -> Option<PreallocWatch> {
        self.0.clone()
    }
}

/// Where a serial port goes.
#[derive(Debug, Clone)]
pub enum SerialConfig {
    /// To a back end that the machine opens.
    Spec(CharSpec),
    /// To a back end that the front end made, such as a terminal shared with a monitor.
    Backend(Arc<dyn CharBackend>),
}

/// A board that there is.
#[derive(Debug, Clone, Copy)]
pub struct BoardInfo {
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub description: &'static str,
    /// Bytes of RAM without `-m`.
    pub default_ram: u64,
    /// Its CPU.
    pub cpu: &'static str,
    /// Other names it is known by.
    pub aliases: &'static [&'static str],
}
