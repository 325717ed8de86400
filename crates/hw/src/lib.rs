//! Device models, one file each, sorted by kind.
//!
//! A device here knows its registers, its lines and its regions; it does not know at which address it stands or what
//! its lines are wired to. That is the board's. Each model offers its regions (to be mapped), its lines (to be wired),
//! [`Reset`](flatview_device::Reset) and its entry in `info qtree`.
//!
//! | folder | what |
//! |---|---|
//! | [`mod@char`] | serial and parallel ports |
//! | [`cpiom`] | devices of the avionics board |
//! | [`dma`] | ISA direct memory access |
//! | [`input`] | keyboards and mice |
//! | [`intc`] | interrupt controllers |
//! | [`isa`] | small devices on ISA ports |
//! | [`misc`] | what fits nowhere else |
//! | [`nvram`] | memories that keep their contents, firmware configuration |
//! | [`pci`] | configuration space, host bridges |
//! | [`scsi`] | SCSI host adapters |
//! | [`timer`] | interval timers, real-time clocks |

pub mod char;
pub mod cpiom;
pub mod dma;
pub mod input;
pub mod intc;
pub mod isa;
pub mod misc;
pub mod nvram;
pub mod pci;
pub mod scsi;
pub mod timer;
