//! What a device is made of.
//!
//! This crate knows no single device and no board: it holds the parts that device models share. A device is registers
//! ([`bank`]), interrupt lines ([`irq`]), timers ([`clock`]), bytes that go to and come from the host ([`chardev`]) and
//! a state behind one small lock ([`cell`]), whose side effects happen after the lock is let go.
//!
//! | question | module |
//! |---|---|
//! | How do I declare registers? | [`bank`] |
//! | Where does a device keep its state, and when do its effects happen? | [`cell`] |
//! | How does a device interrupt? | [`irq`] |
//! | What time is it in the machine? | [`clock`] |
//! | What date does a clock chip show? | [`calendar`] |
//! | How does a serial port reach a terminal, a socket, a file? | [`chardev`] |
//! | What do `info qtree` and `info qom-tree` print? | [`tree`] |
//! | What stands where a device is not modelled yet? | [`unmodelled`] |
//! | How do ISA ports answer accesses wider than they are? | [`portio`], [`portlist`] |
//! | How does a device change the map? | [`map`] |
//! | What is logged (`-d`, `-trace`), and where does it go? | [`log`] |

pub mod bank;
pub mod calendar;
pub mod cell;
pub mod chardev;
pub mod clock;
pub mod irq;
pub mod log;
pub mod map;
pub mod portio;
pub mod portlist;
pub mod reset;
pub mod tree;
pub mod unmodelled;

pub use bank::{Bank, Register, RegisterInfo, Registers};
pub use calendar::WallClock;
pub use cell::{DeviceCell, Effects};
pub use chardev::{CharBackend, CharError, CharEvent, CharSink, CharSpec};
pub use clock::{Clock, ClockError, Executed, Timer};
pub use irq::{IrqLine, IrqObserver, OrGate};
pub use log::{
    AddressFilter, Log, LogError, LogFileError, LogItems, LogMask, TraceEvent, TraceEvents, WeakLog,
};
pub use map::MapHandle;
pub use portlist::{PortList, PortRun};
pub use reset::Reset;
pub use tree::{QomNode, QomProperty, QomValue, QtreeBus, QtreeDevice};
pub use unmodelled::{EmptySlot, Unmodelled};
