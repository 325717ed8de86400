//! Timers and clocks.

pub mod i8254;
pub mod mc146818;
pub mod pcspk;
