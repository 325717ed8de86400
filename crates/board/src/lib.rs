//! Boards, firmware, and the machine that holds them.
//!
//! | question | module |
//! |---|---|
//! | What can be asked for? | [`config`] |
//! | What is a machine, how does it run, reset, end? | [`machine`] |
//! | What states, requests and events are there? | [`state`] |
//! | How does a board put itself together? | [`builder`] |
//! | Which boards are there? | [`boards`] |
//! | Where does firmware come from, and what is in the file? | [`firmware`] |
//! | Which memory back ends and memory devices are there? | [`memdev`] |
//! | What does the object tree (`info qom-tree`, `qom-get`) say? | [`qom`] |
//! | How are sizes written? | [`size`] |
//! | Where would QEMU have put a RAM block (`info ramblock`)? | [`ram_blocks`] |
//! | Which drives are there, and what is in them? | [`drives`] |
//! | How is the guest's memory dumped to a file? | [`dump`] |
//! | What can a debugger do with a machine? | [`debug`] |
//! | How fast is memory written? | [`dirty_rate`] |
//! | Who tells the log of accesses? | `trace` |
//! | What can go wrong? | [`error`] |

pub mod boards;
pub mod builder;
pub mod config;
mod cpus;
pub mod debug;
pub mod dirty_rate;
pub mod drives;
pub mod dump;
pub mod error;
pub mod firmware;
pub mod machine;
pub mod memdev;
mod pace;
pub mod qom;
pub mod ram_blocks;
mod requests;
mod run_loop;
pub mod size;
pub mod state;
mod trace;

pub use boards::CpuModelInfo;
pub use builder::{BoardBuilder, PinDirection};
pub use config::{
    BoardInfo, IcountConfig, IcountShift, MachineConfig, PreallocHook, RtcClock, RtcConfig, SerialConfig,
};
pub use debug::{DebugError, DebugStop, GoOn, Resume, Steps, StopReason, WatchHit, WatchKind};
pub use dirty_rate::{DirtyRateError, DirtyRateInfo, DirtyRateMode, DirtyRateSpec, DirtyRateStatus};
pub use drives::{DriveConfig, DriveError, DriveImage, DriveInfo, DriveMedia};
pub use dump::{DumpError, DumpFormat, DumpInfo, DumpSpec, DumpStatus};
pub use error::{BoardError, PinError, RequestError};
pub use firmware::RomInfo;
pub use flatview_cpu as cpu;
pub use flatview_device as device;
pub use machine::Machine;
pub use memdev::{DimmInfo, DimmSpec, Given, MemdevInfo, MemdevKind, MemdevSpec, ObjectError, Properties};
pub use qom::QomError;
pub use ram_blocks::RamBlockRow;
pub use size::parse_size;
pub use state::{Cause, Event, EventKind, Request, RunState};
