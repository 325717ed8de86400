//! Memory back ends and memory devices: the objects that `-object memory-backend-…` and `pc-dimm` make.
//!
//! | question | module |
//! |---|---|
//! | Which properties does a back end have, and what do they mean? | [`spec`] |
//! | How are `a=b,c=d` and QMP's arguments read? | [`properties`] |
//! | Which objects are there, who uses them, what is plugged? | [`objects`] |
//! | What is a `pc-dimm`, and where does it go? | [`dimm`] |
//! | What can go wrong? | [`error`] |
//!
//! Property names, defaults and error texts are QEMU 7.2's; where the brief words of QEMU leave a person alone, a hint follows on a
//! line of its own ([`ObjectError::hint`]).

pub mod dimm;
pub mod error;
pub mod objects;
pub mod properties;
pub mod spec;

pub use dimm::{DimmInfo, DimmSpec};
pub use error::ObjectError;
pub use objects::{MachineRam, MemdevInfo, MemoryObjects};
pub use properties::{Given, Properties};
pub use spec::{MemdevKind, MemdevSpec};
