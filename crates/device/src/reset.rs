//! System reset.
//!
//! A board resets its devices in the order in which it made them. RAM is no device: its contents stay, and ROM is
//! loaded again by the board. What must always hold: after [`Reset::reset`] a device is as a guest finds it at power
//! on, its lines included.

/// A device that a system reset brings to its first state.
pub trait Reset: Send + Sync {
    /// Brings registers, lines, timers and mappings to what they are at power on.
    fn reset(&self);
}
